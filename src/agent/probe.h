/*
 * agent/probe.h
 *     Servers that nothing uses are looked at now and then.  In the agent's
 *     process.
 */
#ifndef FLEET_AGENT_PROBE_H
#define FLEET_AGENT_PROBE_H

#include "agent/state.h"

/* Those that are due are knocked at; returns when to come again. */
extern FleetTime agent_probe_turn(FleetTime now);

#endif
