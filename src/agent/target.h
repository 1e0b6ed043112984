/*
 * agent/target.h
 *     Targets of tasks: a server, or a group, as one number for the core's
 *     placer.  In the agent's process.
 */
#ifndef FLEET_AGENT_TARGET_H
#define FLEET_AGENT_TARGET_H

#include "agent/state.h"

extern void agent_targets_init(void);
/* The servers by number (up to n, from AGENT_FIRST_SERVER on; kept until the next call) have changed. */
extern void agent_targets_define(AgentServer **servers, uint32 n);
/* The number of a server, or of a group; one of them is NULL. */
extern uint32 agent_target(const char *server, const char *group);

#endif
