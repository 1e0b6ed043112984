/*
 * store/condition.h
 *     Conditions of precedence constraints, as they were evaluated.  In the
 *     agent's process.
 */
#ifndef FLEET_STORE_CONDITION_H
#define FLEET_STORE_CONDITION_H

#include "postgres.h"

typedef struct FleetConditionRow
{
    uint32 from; /* number of a task */
    uint32 to;
    bool holds;
} FleetConditionRow;

/* All of a run; palloc'd in the current context.  Returns how many. */
extern int fleet_condition_read(int64 run_id, FleetConditionRow **rows);
/* In the agent's transaction, at once. */
extern void fleet_condition_write(int64 run_id, uint32 from, uint32 to, bool holds);
/* Those that were asked because of the end of this task, which is started once more. */
extern void fleet_condition_forget(int64 run_id, uint32 from);

#endif
