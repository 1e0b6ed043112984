/*
 * agent/local_job_internal.h
 *     The struct of a local job, and what the files share that own it.  Calls
 *     go downward only:
 *
 *   job_run.c             job runs: a request or a row becomes a local job
 *   local_job_recover.c   what is durable of one is taken up after a restart
 *   local_job_link.c      what its link tells: clean, lost, refused
 *   local_job.c           life and events; the loop that advances it
 *   local_job_stop.c      a step is stopped, or was cut off
 *   local_job_step.c      one step, from its beginning to its end
 *   local_job_executor.c  who executes the step: runners, sessions
 *   local_job_rows.c      rows, results, lines of the log; the table
 *
 * A function that can end a step returns what the job machine (core/job.h)
 * decided then, and does not do it: local_job_advance() does, step after step.
 */
#ifndef FLEET_AGENT_LOCAL_JOB_INTERNAL_H
#define FLEET_AGENT_LOCAL_JOB_INTERNAL_H

#include "agent/local_job.h"
#include "agent/notice.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/state.h"
#include "hand.h"
#include "agent/task.h"
#include "store/nested.h"
#include "store/run_close.h"
#include "store/run_write.h"

typedef enum LocalJobEffect
{
    LOCAL_JOB_EFFECT_NONE,
    LOCAL_JOB_EFFECT_SEND,
    LOCAL_JOB_EFFECT_STORED, /* tell the protocol that what it wanted stored is durable */
    LOCAL_JOB_EFFECT_NESTED, /* start the package of a package step */
    LOCAL_JOB_EFFECT_RESOLVE,
} LocalJobEffect;

struct LocalJob
{
    dlist_node node; /* in local_jobs.all */
    MemoryContext context;
    AgentTask *task;  /* of a task run, or … */
    int64 job_run_id; /* … of a job run */
    int64 run_id;     /* keys of its step rows, also when its task run has ended */
    uint32 task_no, item;
    uint16 task_attempt;
    char *parent_uuid;  /* job run: report to this parent */
    FleetState durable; /* job run: state of its row */
    TimestampTz started_at;
    bool job_dirty;
    FleetJobDef *def;
    FleetJobRun job;
    FleetExec exec;
    Oid role;        /* of the present step */
    Oid owner;       /* the job's */
    int64 unkept;    /* lines of the present step that the log quota of its owner left out */
    AgentLink *link; /* direct; NULL: runners here */
    FleetExecutor *executor;
    Oid executor_role;
    bool fresh;    /* the next request is the first on its executor, which is to be reset */
    bool any_sent; /* something of this job was sent (it started) */
    bool cut_off;  /* direct: … over a session that was cut, where it may still run */
    uint64 ref;    /* of the request in flight */
    char *params;
    char *given; /* fleet.context */
    int hook_depth;
    int log_seq;
    int cuts; /* times that the present attempt was cut off while its command ran */
    LocalJobEffect effect;
    FleetTime resolve_at;   /* when to ask again for the fate of a transaction; 0: not */
    FleetLinkIdentity then; /* direct: who the server was of which the session is */
    AgentRun *nested;       /* package step */
    bool nested_expected;   /* recovery: its run is still to be found */
    bool leaving;           /* only COMMIT is left: slot and session are the next one's */
    const char *waits;      /* why no runner is to be had (static); NULL: not so */
    bool unstored;          /* … and its intent is stored when there is one */
    bool waiting;           /* in a list of local jobs that want an executor, or a clean server */
    dlist_node wait_node;
    bool timed; /* in local_jobs.timed */
    dlist_node timed_node;
    bool finished;
    /* the present step run's row */
    struct
    {
        int first_seq, last_seq;
        FleetState state;
        FleetState durable; /* of its row, once it is inserted */
        TimestampTz started_at, finished_at;
        int backend_pid;
        bool blocked_told; /* the log says for whom it waits */
        bool inserted;
        bool dirty;
        FleetTime lazy_until;
        AgentResult result;
    } step;
    AgentResult result; /* of the job: the last step's */
    bool in_dirty;
    dlist_node dirty_node;
    bool in_effects;
    dlist_node effect_node;
};

/* All local jobs of this agent. */
typedef struct LocalJobs
{
    dlist_head all;            /* LocalJob.node */
    dlist_head timed;          /* LocalJob.timed_node: with a due time */
    dlist_head runner_waiting; /* LocalJob.wait_node: they want a runner */
    dlist_head dirty;          /* LocalJob.dirty_node */
    dlist_head effects;        /* LocalJob.effect_node */
    HTAB *by_job_run;          /* LocalJobEntry */
    const LocalJobHooks *hooks;
} LocalJobs;

typedef struct LocalJobEntry
{
    int64 job_run_id; /* hash key */
    LocalJob *local;
} LocalJobEntry;

extern LocalJobs local_jobs;

/* The present one. */
static inline const FleetStepDef *
local_job_step(const LocalJob *local)
{
    return &local->def->steps[local->job.step];
}

/* Where its steps run; 0: here. */
static inline int
local_job_server(const LocalJob *local)
{
    return local->link == NULL ? 0 : local->link->server->server_id;
}

/* A step run has begun, and has not ended. */
static inline bool
local_job_step_is_open(const LocalJob *local)
{
    return local->step.first_seq != 0 && local->step.last_seq == 0;
}

/* hand.h: its run, or its job run. */
static inline void
local_job_in_hand(const LocalJob *local, const char *work)
{
    fleet_hand_take_unit(local->task != NULL ? local->task->run->run_id : 0, local->job_run_id,
                         work);
}

/* ---- local_job_rows.c ---- */

extern LocalJob *local_job_create(FleetJobDef *def, Oid owner);
extern void local_job_set_job_run(LocalJob *local, int64 job_run_id);
extern void local_job_dirty(LocalJob *local);
/* The present step's row has changed; lazy: how long it may wait (0: this turn). */
extern void local_job_step_dirty(LocalJob *local, FleetTime lazy);
extern void local_job_wants_effect(LocalJob *local, LocalJobEffect effect);
/* What the protocol wants stored is, with this turn's commit. */
extern void local_job_store(LocalJob *local);
extern void local_job_set_result(LocalJob *local, AgentResult *to, const FleetExecutorEvent *event);
/* Set the present step's result to an error of ours. */
extern void local_job_error(LocalJob *local, const char *sqlstate, const char *message);
extern void local_job_failure(LocalJob *local, const FleetDiagnostics *failure);
/* The present step run ends like this, and its row says so. */
extern void local_job_close_step(LocalJob *local, FleetState state);
/* No runner is to be had, and why: shown where it was asked for.  NULL: there is one. */
extern void local_job_waits(LocalJob *local, const char *why);
/* Whoever follows its task run or job run is told that something has changed. */
extern void local_job_report(LocalJob *local);
extern void local_job_log(LocalJob *local, const FleetExecutorEvent *event);
extern void local_job_log_step(LocalJob *local, const char *what, bool bad);

/* ---- local_job_executor.c ---- */

/* What a runner that outlives us is found again by. */
extern FleetStepKey local_job_step_key(const LocalJob *local);
/* Gives the present step to its executor, or queues the local job for one. */
extern void local_job_send(LocalJob *local);
/* False: it is queued for a runner, and its intent is stored when there is one. */
extern bool local_job_runner_first(LocalJob *local);
/* A new number for what is sent, and the end of it. */
extern void local_job_request_begin(LocalJob *local);
extern void local_job_request_end(LocalJob *local);
/* The id is durable: COMMIT goes out. */
extern void local_job_commit(LocalJob *local);
extern void local_job_release_executor(LocalJob *local);
extern void local_job_stop_waiting(LocalJob *local);

/* ---- local_job_step.c ---- */

/* Give the job machine an event; the second one a step's end, which is in its row already. */
extern FleetJobDo local_job_machine(LocalJob *local, FleetJobEvent event, FleetTime now);
extern FleetJobDo local_job_step_ended(LocalJob *local, FleetState outcome, const char *sqlstate);
/* The present step begins; redo: the same attempt again. */
extern FleetJobDo local_job_start_step(LocalJob *local, bool redo);
/* Closes the present step run's row. */
extern FleetJobDo local_job_end_step(LocalJob *local, FleetState outcome);
/* Feeds an event to the protocol's machine (core/exec.h), and does what it answers. */
extern FleetJobDo local_job_exec_event(LocalJob *local, FleetExecEvent event);
extern FleetJobDo local_job_step_resolved(LocalJob *local, FleetXactStatus status);
/* What waited for the commit. */
extern FleetJobDo local_job_effect(LocalJob *local);

/* ---- local_job_stop.c ---- */

/* The present attempt was cut off: its executor is gone, or its agent was. */
extern FleetJobDo local_job_cut(LocalJob *local);
/* From the job machine: the present step is to be stopped, now or once it can be. */
extern FleetJobDo local_job_stop_step(LocalJob *local);

/* ---- local_job.c ---- */

/* Does what the job machine decided, and what it decides then, until something else has to happen. */
extern void local_job_advance(LocalJob *local, FleetJobDo what);
extern void local_job_free(LocalJob *local);

#endif
