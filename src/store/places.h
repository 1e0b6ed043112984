/*
 * store/places.h
 *     Where the rows of unfinished task and step runs are, so that the next
 *     write of them needs no search.  In the agent's process.
 */
#ifndef FLEET_STORE_PLACES_H
#define FLEET_STORE_PLACES_H

#include "store/rows.h"
#include "core/state.h"

typedef struct FleetPlaceKey
{
    int64 run_id; /* of a task run's; 0 */
    int64 job_run_id;
    uint32 task;
    uint32 item;
    int32 first_seq; /* of a step run; 0: the task run itself */
    int32 zero;
} FleetPlaceKey;

StaticAssertDecl(sizeof(FleetPlaceKey) == 32,
                 "FleetPlaceKey has no holes: it is compared as bytes");

extern void fleet_places_init(MemoryContext context);
/* After an insert or update: there it is; forgotten when it is final. */
extern void fleet_place_remember(const FleetPlaceKey *key, FleetRows *rows, FleetState state);
/* fleet_rows_find_at() the place that is remembered; false: search for it. */
extern bool fleet_place_find(const FleetPlaceKey *key, FleetRows *rows, int index,
                             const Datum *keys, int nkeys);

#endif
