/*
 * agent/waiting.h
 *     Rows of tasks say why nothing of them is placed.  In the agent's process.
 */
#ifndef FLEET_AGENT_WAITING_H
#define FLEET_AGENT_WAITING_H

#include "agent/state.h"

/* Once a turn, after its decisions: if what may be used has changed. */
extern void agent_waiting_tell(void);

#endif
