/*
 * agent/history.h
 *     History that is kept no longer goes, between other work.  In the agent's
 *     process.
 */
#ifndef FLEET_AGENT_HISTORY_H
#define FLEET_AGENT_HISTORY_H

#include "agent/base.h"

/* At the agent's start: what was asked for is done first. */
extern void agent_history_load(void);

/* A slice of the purge, if one is due; returns when the next one is. */
extern FleetTime agent_history_turn(FleetTime now);

/* It was asked for, or its rules have changed: from the beginning, now. */
extern void agent_history_now(void);

#endif
