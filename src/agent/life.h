/*
 * agent/life.h
 *     Coming and leaving of the agent.  In the agent's process.
 */
#ifndef FLEET_AGENT_LIFE_H
#define FLEET_AGENT_LIFE_H

#include "agent/state.h"

/* Asked for by agent_leave(), or by a SIGINT of somebody who drops the extension or the database: the
 * agent ends, and its successor begins.  Any other SIGINT is forgotten.  May wait for a short lock. */
extern bool agent_must_leave(void);
extern void agent_leave(void);

/* From here on, however this process ends, a successor comes. */
extern void agent_home_prepare(void);
extern void agent_home_connected(void);
/* True: this database has the extension, and this is its only agent.  Otherwise there is nothing to
 * do here. */
extern bool agent_claim_database(void);
/* Makes the identity and the epoch durable before anything is sent with them; opens the mailbox. */
extern void agent_publish(void);
/* There was an abort, which has released the sentinel's lock: the agent is about to end. */
extern void agent_home_aborted(void);

#endif
