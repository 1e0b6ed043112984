/*
 * agent/local_job.h
 *     Jobs that this agent executes itself, step by step: through a runner of
 *     its own, or through a session of a link of mode direct (executor.h).
 *
 * A local job belongs to a task run or to a job run.  It tells its end by
 * agent_task_finished(), or in the job run's row.  What it is made of is known
 * to local_job*.c and job_run.c only.
 */
#ifndef FLEET_AGENT_LOCAL_JOB_H
#define FLEET_AGENT_LOCAL_JOB_H

#include "postgres.h"

#include "lib/ilist.h"

#include "agent/base.h"
#include "store/definition.h"
#include "store/run_read.h"
#include "core/exec.h"
#include "executor.h"

typedef struct LocalJob LocalJob;
struct AgentLink;
struct AgentRun;
struct AgentTask;

/* What the local jobs ask of files above them. */
typedef struct LocalJobHooks
{
    /* Starts the package of a package step, after the commit: agent_run_nested() in load.h. */
    struct AgentRun *(*start_nested)(const char *package, Oid owner, const char *params,
                                     int32 priority, struct AgentTask *task, LocalJob *local,
                                     FleetDiagnostics *failure);
} LocalJobHooks;

extern void local_jobs_init(const LocalJobHooks *hooks);

/* ---- its life ---- */

/* Of a task run, with the rights of the job's owner, or for SQL of the run's; link: direct, NULL:
 * runners here. */
extern LocalJob *local_job_for_task(struct AgentTask *task, FleetJobDef *def,
                                    struct AgentLink *link);
extern void local_job_begin(LocalJob *local);
/* Takes up what is durable: the newest step run of the local job (NULL: none yet).  Inside a
 * transaction, after a restart of the agent. */
extern void local_job_recover(LocalJob *local, const FleetStepRow *row);
/* After all runs are loaded: package steps find their runs again. */
extern void local_jobs_recovered(void);
/* It is stopped; its end follows as any other.  Nothing happens if it has ended. */
extern void local_job_cancel(LocalJob *local);
/* The engine has given its task run up. */
extern void local_job_abandon(LocalJob *local);
/* Its task run is freed. */
extern void local_job_task_gone(LocalJob *local);

/* ---- what happens to it ---- */

extern void local_job_event(LocalJob *local, FleetExecutor *executor,
                            const FleetExecutorEvent *event);
/* The fate of its transaction is known, which its link was asked for. */
extern void local_job_resolved(LocalJob *local, FleetXactStatus status);
/* Its job's deadlines and retries that are due; returns when the next one is. */
extern FleetTime local_jobs_timers(FleetTime now);
/* Steps that wait for a session that waits for a run: their log says so.  Returns when to look again. */
extern FleetTime local_jobs_blocked(FleetTime now);
/* Gives local jobs that wait for a runner the ones that are free. */
extern void local_jobs_runners(void);

/* ---- steps that run a package ---- */

/* The run that its present step has started; NULL: it is not in memory any more. */
extern void local_job_set_nested(LocalJob *local, struct AgentRun *run);
/* That run has ended: the step ends with it. */
extern void local_job_nested_ended(LocalJob *local, FleetState state, bool timed_out,
                                   const char *message);
/* The uuid of that run (37 bytes): by it the run is found again after a restart. */
extern void local_job_nested_uuid(const LocalJob *local, char *uuid);
extern int64 local_job_job_run_id(const LocalJob *local); /* of its job run; 0: none */
/* The document that has its definition, and, if that is the one of a run, the job's name there. */
extern const FleetDefinition *local_job_definition(const LocalJob *local);
extern const char *local_job_of_run(const LocalJob *local);
extern LocalJob *local_job_by_job_run(int64 job_run_id);

/* ---- its link, of mode direct ---- */

/* Over which its steps are executed; NULL: by runners here. */
extern struct AgentLink *local_job_link(const LocalJob *local);
/* Gives local jobs that wait for a session there the ones that are free. */
extern void local_jobs_sessions(struct AgentLink *link);
/* Nothing of what was cut off on that server runs any more. */
extern void local_jobs_link_clean(struct AgentLink *link);
/* The server will not tell whether anything does: what is not to be stopped does not wait for that. */
extern void local_jobs_link_untold(struct AgentLink *link);
/* The server does not answer: what never started there is placed again. */
extern void local_jobs_link_lost(struct AgentLink *link);
/* The server refuses us for good: what waits for a session fails with that reason. */
extern void local_jobs_link_refused(struct AgentLink *link, const char *sqlstate,
                                    const char *reason);
/* It has refused us for too long: what has begun there is lost. */
extern void local_jobs_link_given_up(struct AgentLink *link);
/* A local job that has not ended is on this link. */
extern bool local_jobs_use_link(struct AgentLink *link);

/* ---- the turn's end ---- */

/* A row is to be written, or an effect waits for the commit. */
extern bool local_jobs_flush_needed(void);
/* Puts the rows that are due into the batch; those that have ended with it are moved to "over". */
extern void local_jobs_write(FleetTime now, dlist_head *over);
/* After the commit.  An effect that asks for another one leaves it to the next turn. */
extern void local_jobs_effects(void);
extern void local_jobs_free(dlist_head *over);

/* ---- job runs (job_run.c) ---- */

extern void job_runs_load(const int64 *ids, int n); /* NULL: all open ones */
extern void job_run_cancel(int64 job_run_id);

#endif
