/*
 * agent/load.h
 *     Runs from their rows.  In the agent's process, inside a transaction.
 */
#ifndef FLEET_AGENT_LOAD_H
#define FLEET_AGENT_LOAD_H

#include "agent/state.h"

/* Those that are open and not known yet; ids NULL: all. */
extern void agent_runs_load(const int64 *ids, int n);
/* Starts a nested run, of a task or of a local job's step; NULL with the reason, and nothing done. */
extern AgentRun *agent_run_nested(const char *package, Oid owner, const char *params,
                                  int32 priority, AgentTask *task, LocalJob *local,
                                  FleetDiagnostics *failure);
/* After the commit: who waits for runs that could not be loaded is told that they have ended. */
extern void agent_runs_refused_tell(void);

#endif
