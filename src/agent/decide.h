/*
 * agent/decide.h
 *     The engine's decisions: before the commit.  In the agent's process.
 */
#ifndef FLEET_AGENT_DECIDE_H
#define FLEET_AGENT_DECIDE_H

#include "agent/state.h"

extern void agent_decide(void); /* drains the engine */
/* Before a start is committed: the link that it will need, since that reads the catalog.  What is
 * wrong with it becomes the reason why the task cannot start. */
extern void agent_decide_link(AgentTask *task);

#endif
