/*
 * agent/agent.h
 *     For the files of the local jobs, until local_job.h has what they share.
 */
#ifndef FLEET_AGENT_AGENT_H
#define FLEET_AGENT_AGENT_H

#include "agent/load.h"
#include "agent/notice.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/state.h"
#include "agent/task.h"
#include "store/nested.h"
#include "store/run_close.h"
#include "store/run_write.h"

/* ---- local_job*.c ---- */
extern LocalJob *local_job_for_task(AgentTask *task, FleetJobDef *def, Oid owner, AgentLink *link);
extern void local_job_begin(LocalJob *local);
extern void local_job_recover(LocalJob *local, const FleetStepRow *row);
extern void local_job_cancel(LocalJob *local);
extern void local_job_abandon(LocalJob *local); /* the engine gave its task up */
extern void local_job_effect(LocalJob *local);  /* after the commit */
extern void local_job_nested_ended(LocalJob *local, FleetState state, const char *message);
extern void local_jobs_recovered(void);
extern FleetTime local_jobs_timers(FleetTime now);
extern void local_jobs_runners(void); /* gives waiting local jobs their runners */
extern void local_jobs_sessions(AgentLink *link);
extern void
local_jobs_link_clean(AgentLink *link); /* nothing that was cut off runs there any more */
extern void local_jobs_link_lost(AgentLink *link); /* waiting ones that surely never started */
extern void local_jobs_link_refused(AgentLink *link, const char *sqlstate, const char *reason);
extern void local_job_event(LocalJob *local, FleetExecutor *executor,
                            const FleetExecutorEvent *event);
extern void local_job_resolved(LocalJob *local, FleetXactStatus status);
extern void local_job_dirty(LocalJob *local);
extern bool local_job_write(LocalJob *local, FleetTime now);
extern void local_job_free(LocalJob *local);
extern void agent_job_runs_load(const int64 *ids, int n); /* NULL: all open ones */
extern void agent_job_run_cancel(int64 job_run_id);
/* How many lines of the log were reported: for notices to parents */
extern void local_job_report(LocalJob *local);
extern bool local_jobs_use_link(AgentLink *link);

#endif
