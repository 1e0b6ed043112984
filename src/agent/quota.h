/*
 * agent/quota.h
 *     What a role may have at a time: runs that are active, and runners
 *     (fleet_catalog.quota).  In the agent's process.
 */
#ifndef FLEET_AGENT_QUOTA_H
#define FLEET_AGENT_QUOTA_H

#include "agent/state.h"

/* At the start, before any run is loaded, and when a session has changed some. */
extern void agent_quota_read(void);
/* The settings that defaults follow from may have changed. */
extern void agent_quota_settings(void);

/* Runs of this owner share the engine's limit of this number; 0: none. */
extern uint64 agent_quota_key(Oid owner);
/* … and it has a run: how many may be active. */
extern void agent_quota_told(Oid owner);
/* Megabytes of log lines in an hour; 0: any number. */
extern uint32 agent_quota_log_mb(Oid role);
/* SQL of a run of this owner waits in the placer while its role has all the runners that it may. */
extern void agent_quota_task(Oid owner, FleetTaskSpec *spec);
/* fleet_runner_get(), for a role that may have one more. */
extern FleetExecutor *agent_quota_runner(Oid role, const char **sqlstate, const char **why);
/* Only this role has to wait: others may get a runner. */
extern bool agent_quota_full(Oid role);

#endif
