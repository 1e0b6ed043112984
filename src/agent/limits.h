/*
 * agent/limits.h
 *     When a run may begin, and must have ended: what its row says goes to the
 *     engine (core/engine/limits.c).  In the agent's process.
 */
#ifndef FLEET_AGENT_LIMITS_H
#define FLEET_AGENT_LIMITS_H

#include "agent/state.h"

/* Of a run that has just entered the engine. */
extern void agent_limits_load(AgentRun *run, const FleetRunRow *row);
/* How many runs of a package run at a time has changed for some. */
extern void agent_limits_read(void);
/* The engine has decided that "by" takes its place: a cancel, as if who asked for that one had. */
extern void agent_limits_replaced(AgentRun *run, const AgentRun *by);

#endif
