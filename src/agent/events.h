/*
 * agent/events.h
 *     What links, runners and sessions tell the agent.  In the agent's process.
 */
#ifndef FLEET_AGENT_EVENTS_H
#define FLEET_AGENT_EVENTS_H

/* Hands the agent's callbacks to the links and the runners: before anything is asked of them. */
extern void agent_events_init(void);

#endif
