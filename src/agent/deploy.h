/*
 * agent/deploy.h
 *     Deployments: job documents sent to servers ahead of time.  In the agent's
 *     process.
 */
#ifndef FLEET_AGENT_DEPLOY_H
#define FLEET_AGENT_DEPLOY_H

#include "agent/state.h"

/* Sends the queued ones; inside a transaction. */
extern void agent_deployments_send(void);
/* The answer to one that was sent. */
extern void agent_deployed(uint64 ref, bool ok, const char *message);

#endif
