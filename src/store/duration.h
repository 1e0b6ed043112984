/*
 * store/duration.h
 *     Learned durations.  In the agent's process.
 */
#ifndef FLEET_STORE_DURATION_H
#define FLEET_STORE_DURATION_H

#include "postgres.h"

#include "core/estimate.h"

typedef struct FleetDurationRow
{
    char *task;
    char *item_key;
    char *job; /* by-job rows have package '' and task '' */
    FleetEstimate estimate;
} FleetDurationRow;

/* All of a package, and all by-job rows; palloc'd in the current context.  Returns how many. */
extern int fleet_duration_read(const char *package, FleetDurationRow **rows);
/* So many rows of what was renamed by sessions (fleet_catalog.renaming).  True: there are more. */
extern bool fleet_duration_rename(int most);
/* Collected; fleet_duration_flush() writes. */
extern void fleet_duration_write(const char *package, const char *task, const char *item_key,
                                 const char *job, const FleetEstimate *estimate);
extern void fleet_duration_flush(void);

#endif
