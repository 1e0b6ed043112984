/*
 * agent/learn.h
 *     Learned durations.  In the agent's process.
 */
#ifndef FLEET_AGENT_LEARN_H
#define FLEET_AGENT_LEARN_H

#include "agent/state.h"
#include "core/estimate.h"

/* Learned durations get the new names of what was renamed; inside a transaction. */
extern void agent_learn_names(void);
extern bool agent_learn_names_left(void);        /* not all have: the next turn goes on */
extern void agent_estimates_load(AgentRun *run); /* inside a transaction */
/* What an item is known by in later runs: its item_key (NULL: none), or else its parameters.  NULL: by
 * nothing. */
extern const char *agent_item_key(const char *item_key, const char *params);
/* What was learned of this very item; NULL: nothing.  As long as the run. */
extern const FleetEstimate *agent_item_learned(AgentRun *run, uint32 task, const char *key);
/* What it is expected to take; 0: not known.  costs: of all items; NULL: they have none. */
extern FleetTime agent_item_estimate(AgentRun *run, uint32 task, const FleetEstimate *learned,
                                     const FleetCosts *costs, double cost);
extern void agent_task_learn(AgentTask *task); /* it succeeded */
extern void agent_run_learn(AgentRun *run);    /* writes durations; inside the transaction */

#endif
