/*
 * agent/life.h
 *     Coming and leaving of the agent.  In the agent's process.
 */
#ifndef FLEET_AGENT_LIFE_H
#define FLEET_AGENT_LIFE_H

#include "agent/state.h"

/* Asked for by SIGINT: the agent ends, and its successor begins. */
extern volatile sig_atomic_t agent_leave_requested;

/* From here on, however this process ends, a successor comes. */
extern void agent_home_prepare(void);
extern void agent_home_connected(void);
/* True: this database has the extension, and this is its only agent.  Otherwise there is nothing to
 * do here. */
extern bool agent_claim_database(void);
/* Makes the identity and the epoch durable before anything is sent with them; opens the mailbox. */
extern void agent_publish(void);

#endif
