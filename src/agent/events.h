/*
 * agent/events.h
 *     What links, runners and sessions tell the agent.  In the agent's process.
 */
#ifndef FLEET_AGENT_EVENTS_H
#define FLEET_AGENT_EVENTS_H

#include "clock.h"

/* Hands the agent's callbacks to the links and the runners: before anything is asked of them. */
extern void agent_events_init(void);
/* What a server has refused for too long is lost; returns when to look again. */
extern FleetTime agent_events_timers(FleetTime now);

#endif
