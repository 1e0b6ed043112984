/*
 * agent/ground.h
 *     Whether a role may use a server now, and links that may not be used.  In
 *     the agent's process.
 */
#ifndef FLEET_AGENT_GROUND_H
#define FLEET_AGENT_GROUND_H

#include "agent/state.h"

/* How the link would be made now; false: it may not, and why.  Strings live as long as the turn. */
extern bool agent_ground(const AgentServer *server, Oid role, bool agent_mode, FleetLinkSpec *spec,
                         const char **sqlstate, const char **why);

/* It has no ground (any more): closed.  What it runs ends as by the loss of the link. */
extern void agent_link_forbid(AgentLink *link, const char *sqlstate, const char *why);
extern void agent_link_allow(AgentLink *link); /* it has some */

/* If the server refuses its role for fleet.lost_after, what hangs on it is given up; returns when. */
extern FleetTime agent_link_refused(AgentLink *link, bool idle, FleetTime now,
                                    void (*give_up)(AgentLink *link));

#endif
