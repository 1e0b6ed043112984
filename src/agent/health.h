/*
 * agent/health.h
 *     What is known of servers and is not written yet.  In the agent's process.
 */
#ifndef FLEET_AGENT_HEALTH_H
#define FLEET_AGENT_HEALTH_H

#include "agent/state.h"

/* A refusal for good: the status of a server's health that it is. */
extern const char *agent_health_refused(const char *sqlstate);
/* Is another link to the same server up? */
extern bool agent_health_another(const AgentLink *link);
extern void agent_health_add(const FleetHealthWrite *row); /* copied: written at the next flush */
/* It has said something: at heard_at. */
extern void agent_health_heard(AgentServer *server);
/* It answers, and refuses something that it is asked again: shown as its last error. */
extern void agent_link_trouble(AgentLink *link, const char *what, const char *reason);
extern bool agent_health_pending(void);
extern void agent_health_flush(void); /* inside the transaction */

#endif
