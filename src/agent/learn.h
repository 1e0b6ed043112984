/*
 * agent/learn.h
 *     Learned durations.  In the agent's process.
 */
#ifndef FLEET_AGENT_LEARN_H
#define FLEET_AGENT_LEARN_H

#include "agent/state.h"

/* Learned durations get the new names of what was renamed; inside a transaction. */
extern void agent_learn_names(void);
extern void agent_estimates_load(AgentRun *run); /* inside a transaction */
/* What an item with these parameters is expected to take; 0: not known. */
extern FleetTime agent_item_estimate(AgentRun *run, uint32 task, const char *params);
extern void agent_task_learn(AgentTask *task); /* it succeeded */
extern void agent_run_learn(AgentRun *run);    /* writes durations; inside the transaction */

#endif
