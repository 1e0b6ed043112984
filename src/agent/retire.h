/*
 * agent/retire.h
 *     What has ended is freed.  In the agent's process.
 */
#ifndef FLEET_AGENT_RETIRE_H
#define FLEET_AGENT_RETIRE_H

#include "agent/state.h"

/* A run and all its task runs, taken out of everything that names them. */
extern void agent_run_retire(AgentRun *run);
/* After the commit: what is in these lists (dirty_node) has ended, and its rows say so. */
extern void agent_retire(dlist_head *tasks, dlist_head *locals, dlist_head *runs);

#endif
