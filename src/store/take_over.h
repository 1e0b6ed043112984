/*
 * store/take_over.h
 *     Items that a restart takes over from the run that it restarts.  In the
 *     agent's process.
 */
#ifndef FLEET_STORE_TAKE_OVER_H
#define FLEET_STORE_TAKE_OVER_H

#include "postgres.h"

typedef struct FleetTakenItem
{
    bool carried;   /* it has succeeded already */
    char *params;   /* NULL: none */
    char *item_key; /* NULL: none */
    double cost;    /* -1: not known */
} FleetTakenItem;

/*
 * Makes the rows of at most "count" items after "after", and returns how many;
 * fewer: these were the last.  items: palloc'd in the current context.
 */
extern uint32 fleet_items_take_over(int64 run_id, uint32 task, uint32 after, uint32 count,
                                    FleetTakenItem **items);

#endif
