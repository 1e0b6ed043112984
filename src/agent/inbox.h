/*
 * agent/inbox.h
 *     Messages of sessions.  In the agent's process.
 */
#ifndef FLEET_AGENT_INBOX_H
#define FLEET_AGENT_INBOX_H

#include "agent/state.h"

extern void agent_inbox_take(void);

#endif
