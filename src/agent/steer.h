/*
 * agent/steer.h
 *     What sessions ask of runs that go on.  In the agent's process.
 */
#ifndef FLEET_AGENT_STEER_H
#define FLEET_AGENT_STEER_H

#include "agent/state.h"

/* Skips of a run that is being loaded: before the engine is told that it is complete … */
extern void agent_steer_load(AgentRun *run);
/* … and of one that is in the engine: newly asked for, or a run that begins. */
extern void agent_steer_skip(int64 run_id);
/* Retries of all runs that are open; nothing happens for others. */
extern void agent_steer_retry(void);
/* What is paused is read, and holds from now on: of servers and of the runs that are open. */
extern void agent_steer_pause(void);
/* The same of one run: it has come in, or what it is a part of is gone. */
extern void agent_steer_pause_run(AgentRun *run);
/* Some of them had to wait for the rows of the turn before. */
extern bool agent_steer_retry_waits(void);

#endif
