/*
 * store/places.c
 *     Where rows are.  In the agent's process.
 *
 * A bounded table: rows that do not fit in are searched for.  That a place is
 * out of date does no harm, since the row that is found there must have the
 * keys (fleet_rows_find_at()).
 */
#include "postgres.h"

#include "store/places.h"
#include "utils/hsearch.h"

#define PLACES_MAX 20000

typedef struct Place
{
    FleetPlaceKey key;
    ItemPointerData tid;
} Place;

static HTAB *places = NULL;

void
fleet_places_init(MemoryContext context)
{
    HASHCTL control = {
        .keysize = sizeof(FleetPlaceKey), .entrysize = sizeof(Place), .hcxt = context};

    places = hash_create("pg_fleet places", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
fleet_place_remember(const FleetPlaceKey *key, FleetRows *rows, FleetState state)
{
    HASHACTION action = FLEET_STATE_IS_FINAL(state)                 ? HASH_REMOVE
                        : hash_get_num_entries(places) < PLACES_MAX ? HASH_ENTER
                                                                    : HASH_FIND;
    Place *place = hash_search(places, key, action, NULL);

    if (action != HASH_REMOVE && place != NULL)
        ItemPointerCopy(fleet_rows_written_to(rows), &place->tid);
}

bool
fleet_place_find(const FleetPlaceKey *key, FleetRows *rows, int index, const Datum *keys, int nkeys)
{
    Place *place = hash_search(places, key, HASH_FIND, NULL);

    return place != NULL && fleet_rows_find_at(rows, &place->tid, index, keys, nkeys);
}
