/*
 * store/item.h
 *     What the parameters of an item say of it: its key, by which it is known
 *     in later runs, and its cost, how big it is.  In the agent's process.
 */
#ifndef FLEET_STORE_ITEM_H
#define FLEET_STORE_ITEM_H

#include "postgres.h"

#include "store/run_write.h"

/* Keys are in every row of their item, and in what is learned. */
#define FLEET_ITEM_KEY_MAX 200 /* characters */

/* ERROR if they do not say it, or what cannot be.  The key is allocated in "context". */
extern void fleet_item_read(const Jsonb *params, const FleetItemColumns *columns,
                            MemoryContext context, FleetItemFacts *facts);

#endif
