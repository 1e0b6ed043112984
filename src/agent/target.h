/*
 * agent/target.h
 *     Targets of tasks: a server, or a group as one run sees it, as one number for
 *     the core's placer.  In the agent's process.
 */
#ifndef FLEET_AGENT_TARGET_H
#define FLEET_AGENT_TARGET_H

#include "agent/state.h"

extern void agent_targets_init(void);
/* The servers by number (up to n, from AGENT_FIRST_SERVER on; kept until the next call) have changed. */
extern void agent_targets_define(AgentServer **servers, uint32 n);
/* What roles may use has changed. */
extern void agent_targets_look_again(void);
/* The number of a server, or of a group as a run of this owner sees it, for a job of that one; one
 * of the names is NULL.  It is in use until the memory context of its user is reset. */
extern uint32 agent_target(const char *server, const char *group, Oid owner, Oid job_owner,
                           MemoryContext user);
/* Why nothing can be placed there until somebody grants something; NULL: it can. */
extern const char *agent_target_hindrance(uint32 number);
/* Once: hindrances have changed, or a run has come that meets one. */
extern bool agent_targets_hindered(void);
/* Is one met now? */
extern bool agent_targets_wait(void);

#endif
