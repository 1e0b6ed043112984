/*
 * agent/local_job_rows.c
 *     Local jobs as rows: the table of all of them, the present step run, the
 *     job run, results, and lines of the log.  In the agent's process.
 */
#include "postgres.h"

#include "agent/local_job_internal.h"
#include "agent/log_quota.h"
#include "store/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

LocalJobs local_jobs;

void
local_jobs_init(const LocalJobHooks *hooks)
{
    local_jobs.hooks = hooks;
    dlist_init(&local_jobs.all);
    dlist_init(&local_jobs.timed);
    dlist_init(&local_jobs.runner_waiting);
    dlist_init(&local_jobs.dirty);
    dlist_init(&local_jobs.effects);
    local_jobs.by_job_run =
        agent_table("pg_fleet job runs", sizeof(int64), sizeof(LocalJobEntry), HASH_BLOBS);
}

LocalJob *
local_job_create(FleetJobDef *def, Oid owner)
{
    MemoryContext context =
        AllocSetContextCreate(agent.context, "pg_fleet local job", ALLOCSET_SMALL_SIZES);
    LocalJob *local = MemoryContextAllocZero(context, sizeof(LocalJob));

    local->context = context;
    local->def = def;
    fleet_definition_use(def->definition, context);
    local->owner = owner;
    local->role = owner;
    local->task_attempt = 1;
    local->step.result.row_count = local->result.row_count = -1;
    fleet_job_init(&local->job);
    local->job.step = def->first;
    dlist_push_tail(&local_jobs.all, &local->node);
    return local;
}

/* It belongs to that job run, by which it is found from now on. */
void
local_job_set_job_run(LocalJob *local, int64 job_run_id)
{
    bool found;
    LocalJobEntry *entry = hash_search(local_jobs.by_job_run, &job_run_id, HASH_ENTER, &found);

    Assert(!found);
    entry->local = local;
    local->job_run_id = job_run_id;
}

LocalJob *
local_job_by_job_run(int64 job_run_id)
{
    LocalJobEntry *entry = hash_search(local_jobs.by_job_run, &job_run_id, HASH_FIND, NULL);

    return entry == NULL ? NULL : entry->local;
}

/* ---- what is due at the turn's end ---- */

void
local_job_wants_effect(LocalJob *local, LocalJobEffect effect)
{
    local->effect = effect;
    if (!local->in_effects)
    {
        dlist_push_tail(&local_jobs.effects, &local->effect_node);
        local->in_effects = true;
    }
    turn_again();
}

void
local_job_dirty(LocalJob *local)
{
    if (!local->in_dirty)
    {
        dlist_push_tail(&local_jobs.dirty, &local->dirty_node);
        local->in_dirty = true;
    }
}

void
local_job_step_dirty(LocalJob *local, FleetTime lazy)
{
    if (local->step.dirty && local->step.lazy_until == 0)
        lazy = 0; /* what must be written at once stays so */
    local->step.dirty = true;
    local->step.lazy_until = lazy == 0 ? 0 : fleet_clock_now() + lazy;
    local_job_dirty(local);
}

void
local_job_store(LocalJob *local)
{
    local_job_step_dirty(local, 0);
    local_job_wants_effect(local, LOCAL_JOB_EFFECT_STORED);
}

bool
local_jobs_flush_needed(void)
{
    return !dlist_is_empty(&local_jobs.dirty) || !dlist_is_empty(&local_jobs.effects);
}

/* ---- results ---- */

void
local_job_set_result(LocalJob *local, AgentResult *to, const FleetExecutorEvent *event)
{
    agent_result_set(to, local->context, event->row_count, &event->diag, event->output);
}

void
local_job_error(LocalJob *local, const char *sqlstate, const char *message)
{
    FleetDiagnostics diag = {.sqlstate = sqlstate, .message = message};

    local_job_failure(local, &diag);
}

void
local_job_failure(LocalJob *local, const FleetDiagnostics *failure)
{
    agent_result_set(&local->step.result, local->context, -1, failure, NULL);
}

/* ---- rows ---- */

/* Puts the present step run's row into the batch, as it is now. */
static void
local_job_write_step(LocalJob *local)
{
    FleetStepWrite w = {0};

    w.run_id = local->run_id;
    w.job_run_id = local->job_run_id;
    w.task = local->task_no;
    w.item = local->item;
    w.task_attempt = local->task_attempt;
    w.step_no = local->job.step + 1;
    w.attempt = local->job.attempt;
    w.old = local->step.durable;
    w.state = local->step.state;
    w.phase = local->exec.phase;
    w.first_seq = local->step.first_seq;
    w.last_seq = local->step.last_seq;
    w.server_id = local->link != NULL ? local->link->server->server_id : 0;
    w.backend_pid = local->step.backend_pid;
    w.xid = local->exec.xid;
    if (local->link != NULL && local->exec.xid != 0)
    {
        w.server_system = local->then.identifier_known ? local->then.system_identifier : 0;
        w.server_timeline = local->then.timeline;
        w.server_crash = local->then.crash_mark;
    }
    w.row_count = local->step.result.row_count;
    w.started_at = local->step.started_at;
    w.finished_at = local->step.finished_at;
    w.step = local_job_step(local)->name;
    w.diag = local->step.result.diag;
    w.output = local->step.result.output;
    if (local->step.inserted)
        fleet_step_write(&w);
    else
        fleet_step_write_new(&w);
    local->step.inserted = true;
    local->step.durable = local->step.state;
    local->step.dirty = false;
    /* A job run with a step leaves "queued" in the same transaction: recovery relies on it. */
    if (local->durable == FLEET_QUEUED && local->job_run_id != 0)
    {
        local->job_dirty = true;
        local_job_dirty(local);
    }
}

/* The next line of its log, without what it says. */
static FleetLineWrite
line_of(LocalJob *local)
{
    FleetLineWrite w = {.run_id = local->run_id,
                        .job_run_id = local->job_run_id,
                        .task = local->task_no,
                        .item = local->item,
                        .step_no = local->job.step + 1,
                        .seq = ++local->log_seq,
                        .logged_at = fleet_clock_wall()};

    return w;
}

/* How many lines of the step are missing, as its last line. */
static void
tell_unkept(LocalJob *local)
{
    FleetLineWrite w;

    if (local->unkept == 0)
        return;
    w = line_of(local);
    w.diag.level = "WARNING";
    w.diag.sqlstate = FLEET_SQLSTATE_WARNING;
    w.diag.message =
        psprintf("%lld lines of this step were not kept: its role has logged all that it may "
                 "in an hour (fleet.quota)",
                 (long long) local->unkept);
    local->unkept = 0;
    fleet_line_write(&w);
}

void
local_job_close_step(LocalJob *local, FleetState state)
{
    tell_unkept(local);
    local->step.state = state;
    local->step.finished_at = fleet_clock_wall();
    local->step.last_seq = ++local->log_seq;
    local_job_write_step(local);
}

void
local_job_waits(LocalJob *local, const char *why)
{
    if (local->waits == why)
        return;
    local->waits = why;
    if (local->task != NULL)
        agent_task_waits(local->task, why);
    if (why == NULL || local->durable != FLEET_QUEUED)
        return;
    local->job_dirty = true;
    local_job_dirty(local);
    turn_again();
}

/* As long as its first step waits for a runner, it is queued. */
static bool
is_queued(const LocalJob *local)
{
    return local->waits != NULL && local->durable == FLEET_QUEUED &&
           !FLEET_STATE_IS_FINAL(local->job.state);
}

static void
job_run_write(LocalJob *local)
{
    FleetJobRunWrite w = {0};

    if (local->job.state == local->durable)
        return;
    w.job_run_id = local->job_run_id;
    w.old = local->durable;
    w.state = is_queued(local) ? FLEET_QUEUED : local->job.state;
    w.diag.message = local->waits;
    w.started_at = local->started_at;
    w.row_count = -1;
    w.log_seq = local->log_seq;
    if (FLEET_STATE_IS_FINAL(local->job.state))
    {
        w.finished_at = fleet_clock_wall();
        w.row_count = local->result.row_count;
        w.diag = local->result.diag;
        w.output = local->result.output;
    }
    fleet_job_run_write(&w);
    local->durable = w.state;
    local_job_report(local);
}

/* The rows of this local job that are due.  False: something was kept back, and it stays in the list. */
static bool
rows_write(LocalJob *local, FleetTime now)
{
    bool keep = false;

    if (local->step.dirty)
    {
        if (local->step.lazy_until <= now)
        {
            local_job_write_step(local);
            local_job_report(local);
        }
        else
        {
            keep = true;
            turn_wake_at(local->step.lazy_until);
        }
    }
    if (local->job_run_id != 0 && local->job_dirty)
    {
        if (keep && !local->finished)
            return false; /* "running" goes with its step's row */
        job_run_write(local);
        local->job_dirty = false;
    }
    return !keep;
}

void
local_jobs_write(FleetTime now, dlist_head *over)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &local_jobs.dirty)
    {
        LocalJob *local = dlist_container(LocalJob, dirty_node, iter.cur);

        local_job_in_hand(local, "work_job_row");
        if (!rows_write(local, now))
            continue;
        dlist_delete(&local->dirty_node);
        local->in_dirty = false;
        if (local->finished)
            dlist_push_tail(over, &local->dirty_node);
    }
    fleet_hand_empty();
}

/* ---- who follows it ---- */

void
local_job_report(LocalJob *local)
{
    if (local->parent_uuid != NULL)
        agent_notice(local->parent_uuid, local->job_run_id);
    if (local->task != NULL)
        agent_run_changed(local->task->run);
}

/*
 * A package that a step runs has its own runs, steps and log here.  Whoever
 * follows that step, above all a parent on another server, sees what happens
 * inside: lines of the inner steps are the outer step's lines too.
 */
static void
tell_outer(LocalJob *local, const FleetExecutorEvent *event)
{
    AgentRun *run = local->task == NULL ? NULL : local->task->run;

    while (run != NULL && run->parent_local == NULL)
        run = run->parent_task == NULL ? NULL : run->parent_task->run;
    if (run != NULL)
        local_job_log(run->parent_local, event);
}

void
local_job_log(LocalJob *local, const FleetExecutorEvent *event)
{
    FleetLineWrite w;

    /* Once one is left out, so is what follows it in this step: another agent may read it again. */
    if (local->unkept > 0 || !agent_log_quota_keeps(local->owner, &event->diag))
    {
        local->unkept++;
        return;
    }
    w = line_of(local);
    w.diag = event->diag;
    if (w.diag.message == NULL)
        w.diag.message = "";
    if (local_job_step_is_open(local) && !local->step.inserted)
        local_job_step_dirty(local, 0); /* with its step: whoever finds the line knows its number */
    fleet_line_write(&w);
    local_job_report(local);
    tell_outer(local, event);
}

void
local_job_log_step(LocalJob *local, const char *what, bool bad)
{
    FleetExecutorEvent event = {.diag.level = bad ? "ERROR" : "INFO"};

    if (local->task == NULL ||
        (local->task->run->parent_local == NULL && local->task->run->parent_task == NULL))
        return;
    event.diag.message =
        psprintf("%s: step \"%s\" %s", local->task->run->def->tasks[local->task_no].name,
                 local_job_step(local)->name, what);
    if (bad)
    {
        event.diag.sqlstate = local->step.result.diag.sqlstate;
        event.diag.detail = local->step.result.diag.message;
    }
    tell_outer(local, &event);
}
