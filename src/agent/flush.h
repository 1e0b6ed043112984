/*
 * agent/flush.h
 *     The end of a turn.  In the agent's process.
 */
#ifndef FLEET_AGENT_FLUSH_H
#define FLEET_AGENT_FLUSH_H

#include "agent/state.h"

extern bool agent_flush_needed(void);
extern void agent_flush(void); /* writes all that is dirty, commits, carries the effects out */

#endif
