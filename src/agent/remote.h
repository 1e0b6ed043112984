/*
 * agent/remote.h
 *     Task runs that another agent executes.  In the agent's process.
 */
#ifndef FLEET_AGENT_REMOTE_H
#define FLEET_AGENT_REMOTE_H

#include "agent/state.h"

extern void agent_remote_init(void);
extern void agent_remote_start(AgentTask *task); /* its start is durable; task->link is set */
extern void agent_remote_recover(AgentTask *task);
extern void agent_remote_cancel(AgentTask *task);
/* The newest step run of its attempt that has a row. */
extern void agent_remote_seen(AgentTask *task, int first_seq, FleetState state);
extern void agent_remote_acknowledge(AgentTask *task); /* its end is durable here */
extern void agent_remote_leave(AgentTask *task);       /* it is no longer on that link */
/* The engine has given this attempt up, or it has ended: what is open there is lost. */
extern void agent_remote_give_up(AgentTask *task);
/* Its attempt is on a link, has no end there, and no reason why it has ended here. */
extern bool agent_remote_is_lost(const AgentTask *task);
/* Events of links; link.h says what they mean.  A token that is on no link here is ignored: it
 * answers what was asked for a task run that has ended meanwhile. */
extern void agent_remote_up(AgentLink *link);
extern void agent_remote_cancel_again(AgentLink *link);
extern void agent_remote_down(AgentLink *link, const char *sqlstate, const char *reason,
                              bool permanent);
/* The server has refused the link for too long. */
extern void agent_remote_refused(AgentLink *link);
extern void agent_remote_started(AgentLink *link, const FleetToken *token, FleetStartResult result,
                                 const FleetToken *definition, const char *sqlstate,
                                 const char *message);
extern void agent_remote_resumed(AgentLink *link, const FleetToken *token, bool known,
                                 const FleetToken *definition);
extern void agent_remote_reported(AgentLink *link, const FleetRemoteReport *report);

#endif
