/*
 * agent/late.h
 *     Deadlines of runs.  In the agent's process.
 */
#ifndef FLEET_AGENT_LATE_H
#define FLEET_AGENT_LATE_H

#include "agent/state.h"

/* A run has entered the engine, from this row; it has begun now; it is freed. */
extern void agent_late_load(const AgentRun *run, const FleetRunRow *row);
extern void agent_late_begun(const AgentRun *run);
extern void agent_late_forget(const AgentRun *run);
/* What is due is marked; returns when to come again. */
extern FleetTime agent_late_turn(FleetTime now);

#endif
