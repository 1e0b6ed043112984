/*
 * core/restart.h
 *     Which tasks of a run that restarts another one run again, and which are
 *     carried over.
 *
 * Called by the session that asks for the restart (api/check.c), by the agent
 * for a nested run (through the same SQL), and by the simulator.
 */
#ifndef FLEET_CORE_RESTART_H
#define FLEET_CORE_RESTART_H

#include "core/graph.h"
#include "core/state.h"

/* The numbers are those of fleet_catalog.restart_parts(). */
typedef enum FleetRestartPart
{
    FLEET_RESTART_CARRY = 1, /* it succeeded, and nothing before it runs again */
    FLEET_RESTART_RESUME =
        2, /* it did not, and nothing before it runs again: those of its items, or
                                 of the tasks of its nested run, that succeeded are carried over */
    FLEET_RESTART_AFRESH = 3, /* all of it: it was chosen, or comes after what runs again */
    FLEET_RESTART_DECIDE = 4, /* it was skipped, and nothing before it runs again: the engine
                                 decides about it once more */
} FleetRestartPart;

/*
 * old: by task, its final state in the old run; FLEET_QUEUED where it has none.
 * What is to count as succeeded is given as such.  chosen: by task, to run
 * again whatever it did, or NULL.  Fills parts, by task.
 */
extern void fleet_restart_plan(const FleetGraph *graph, const FleetState *old, const bool *chosen,
                               FleetRestartPart *parts);

/* Does the condition of this edge keep the answer that it had? */
extern bool fleet_restart_keeps(const FleetGraph *graph, uint32_t edge, const bool *chosen,
                                const FleetRestartPart *parts);

#endif
