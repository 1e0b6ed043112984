/*
 * agent/probe.h
 *     Servers that nothing uses are looked at now and then, and any server when
 *     a session asks for it.  In the agent's process.
 */
#ifndef FLEET_AGENT_PROBE_H
#define FLEET_AGENT_PROBE_H

#include "agent/state.h"

/* Those that are due are knocked at; returns when to come again. */
extern FleetTime agent_probe_turn(FleetTime now);

/* Once a turn: what sessions ask is begun, and, after the turn's commit, answered. */
extern void agent_probe_asked(void);
extern void agent_probe_answer(void);
/* What came of a login (sqlstate NULL: it is up). */
extern void agent_probe_told(AgentLink *link, const char *sqlstate, const char *reason);
/* The link goes before that is known: what was asked of it is asked again. */
extern void agent_probe_again(AgentLink *link);

#endif
