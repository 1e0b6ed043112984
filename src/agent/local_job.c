/*
 * agent/local_job.c
 *     Local jobs: jobs that this agent executes itself, step by step.  In the
 *     agent's process.
 *
 * A local job belongs to a task run (an sql task here, or a job on a server of mode
 * direct) or to a job run (start_job, or asked for by a parent).  Two machines
 * of the core decide: job.h says which step comes next, exec.h what the
 * protocol of one attempt wants (store, send, commit, resolve).  This file
 * turns events of executors into calls of both, and their answers into rows
 * and effects.
 *
 * A local job keeps its executor from its first step to its last, so that a job is
 * one session; another role (run_as) gets an executor of its own.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "miscadmin.h"
#include "store/spi.h"
#include "compat.h"
#include "points.h"
#include "security.h"
#include "utils/acl.h"
#include "utils/memutils.h"

static void exec_do(LocalJob *local, FleetExecDo what, FleetState outcome);

static void tell_outer_step(LocalJob *local, const char *what, bool bad);
static void log_line(LocalJob *local, const FleetExecutorEvent *event);

/* ---- small things ---- */

const FleetStepDef *
local_job_step(const LocalJob *local)
{
    return &local->def->steps[local->job.step];
}

static void
result_set(LocalJob *local, AgentResult *to, const FleetExecutorEvent *event)
{
    agent_result_clear(to);
    to->row_count = event->row_count;
    to->sqlstate = agent_strdup(local->context, event->sqlstate);
    to->message = agent_strdup(local->context, event->message);
    to->detail = agent_strdup(local->context, event->detail);
    to->hint = agent_strdup(local->context, event->hint);
    to->context = agent_strdup(local->context, event->context);
    to->output = agent_strdup(local->context, event->output);
}

void
local_job_error(LocalJob *local, const char *sqlstate, const char *message)
{
    FleetExecutorEvent event = {.row_count = -1, .sqlstate = sqlstate, .message = message};

    result_set(local, &local->step.result, &event);
}

void
local_job_failure(LocalJob *local, const AgentFailure *failure)
{
    FleetExecutorEvent event = {.row_count = -1,
                                .sqlstate = failure->sqlstate,
                                .message = failure->message,
                                .detail = failure->detail,
                                .hint = failure->hint};

    result_set(local, &local->step.result, &event);
}

void
local_job_wants_effect(LocalJob *local)
{
    if (!local->in_effects)
    {
        dlist_push_tail(&agent.local_effects, &local->effect_node);
        local->in_effects = true;
    }
    turn_again();
}

void
local_job_dirty(LocalJob *local)
{
    if (!local->in_dirty)
    {
        dlist_push_tail(&agent.dirty_locals, &local->dirty_node);
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

/* The local job is to be looked at when its job's deadline or retry is due. */
static void
update_timer(LocalJob *local)
{
    bool wanted = local->job.due != FLEET_NEVER || local->resolve_at != 0;

    if (wanted && !local->timed)
        dlist_push_tail(&agent.timed, &local->timed_node);
    else if (!wanted && local->timed)
        dlist_delete(&local->timed_node);
    local->timed = wanted;
}

void
local_job_stop_waiting(LocalJob *local)
{
    if (local->waiting)
        dlist_delete(&local->wait_node);
    local->waiting = false;
}

static void
release_executor(LocalJob *local)
{
    FleetExecutor *executor = local->executor;

    if (local->ref != 0)
        agent_request_forget(local->ref);
    local->ref = 0;
    local->executor = NULL;
    if (executor == NULL)
        return;
    executor->owner = NULL;
    executor->clean = local->def->leaves_clean && local->job.state == FLEET_SUCCEEDED;
    if (local->link != NULL)
        fleet_link_session_done(executor);
    else
        fleet_runner_done(executor);
    turn_again(); /* others may wait for one */
}

/* ---- a step begins ---- */

/* Whose rights has this step?  False: the reason is in the step's result. */
static bool
step_role(LocalJob *local)
{
    const char *run_as = local_job_step(local)->run_as;
    const char *sqlstate;
    const char *why;

    fleet_catalog_begin();
    local->role = local->owner;
    if (run_as != NULL)
    {
        local->role = get_role_oid(run_as, true);
        if (!OidIsValid(local->role))
        {
            local_job_error(local, "42704",
                            psprintf("role \"%s\" does not exist any more", run_as));
            return false;
        }
        if (!fleet_may_become(local->owner, local->role))
        {
            local_job_error(
                local, "42501",
                psprintf("the job's owner is not a member of role \"%s\" any more", run_as));
            return false;
        }
    }
    if (local->link == NULL && !fleet_security_role_may_run(local->role, &sqlstate, &why))
    {
        local_job_error(local, sqlstate, why);
        return false;
    }
    return true;
}

static bool
step_link(LocalJob *local)
{
    const char *sqlstate = "0A000";
    char *error = NULL;
    AgentLink *link;

    if (local->link == NULL)
        return true;
    link = agent_link_get(local->link->server, local->role, &sqlstate, &error);
    if (link == local->link)
        return true;
    release_executor(local);
    if (link == NULL)
    {
        local_job_error(local, sqlstate, error);
        return false;
    }
    local->link = link;
    return true;
}

static void
step_new_row(LocalJob *local)
{
    memset(&local->step, 0, sizeof(local->step));
    local->cuts = 0;
    local->step.result.row_count = -1;
    local->step.first_seq = ++local->log_seq;
    local->step.state = FLEET_STARTING;
    local->step.started_at = fleet_clock_wall();
}

void
local_job_end_step(LocalJob *local, FleetState outcome)
{
    const char *sqlstate;

    local->step.state = outcome;
    local->step.finished_at = fleet_clock_wall();
    local->step.last_seq = ++local->log_seq;
    local->exec.phase = FLEET_EXEC_ENDED;
    if (outcome == FLEET_CANCELED && local->job.timed_out)
    {
        local->step.state = FLEET_FAILED;
        local_job_error(local, "57014", "the step was stopped because of its timeout");
    }
    local->effect = LOCAL_JOB_EFFECT_NONE;
    local_job_write_step(local);
    local_job_report(local);
    tell_outer_step(local, fleet_state_name(local->step.state),
                    local->step.state != FLEET_SUCCEEDED && local->step.state != FLEET_CANCELED);
    local_job_dirty(local);
    /* The job's result is its last step's; the strings belong to the local job from now on. */
    agent_result_clear(&local->result);
    local->result = local->step.result;
    memset(&local->step.result, 0, sizeof(local->step.result));
    sqlstate = local->result.sqlstate;
    local_job_machine(local, fleet_job_event(local->def->specs, local->def->nsteps, &local->job,
                                             FLEET_JOB_STEP_ENDED, outcome, sqlstate,
                                             fleet_clock_now(), &agent.random));
}

/* From the job machine: the present step begins, for the first time or again after a redo. */
static void
step_start(LocalJob *local, bool redo)
{
    const FleetStepDef *step = local_job_step(local);
    FleetState outcome = FLEET_FAILED;

    if (!redo)
    {
        step_new_row(local);
        fleet_exec_init(&local->exec, step->transactional);
    }
    local->step.state = FLEET_STARTING;
    if (!step_role(local) || !step_link(local))
    {
        local_job_end_step(local, FLEET_FAILED);
        return;
    }
    if (step->package != NULL)
    {
        if (local->link != NULL)
        {
            local_job_error(local, "0A000",
                            "a step that runs a package needs a server of mode agent");
            local_job_end_step(local, FLEET_FAILED);
            return;
        }
        local->exec.phase = FLEET_EXEC_OPEN;
        local->effect = LOCAL_JOB_EFFECT_NESTED;
        local_job_step_dirty(local, 0);
        local_job_wants_effect(local);
        return;
    }
    exec_do(local, fleet_exec_event(&local->exec, FLEET_EXEC_BEGIN, &outcome), outcome);
}

/* ---- the protocol of one attempt ---- */

static bool
acquire_executor(LocalJob *local)
{
    const char *sqlstate;
    const char *why;

    if (local->executor != NULL && local->executor_role == local->role)
        return true;
    release_executor(local);
    if (local->link != NULL)
        local->executor = fleet_link_session(local->link->link);
    else
        local->executor = fleet_runner_get(local->role, &sqlstate, &why);
    if (local->executor == NULL)
    {
        if (!local->waiting)
            dlist_push_tail(local->link != NULL ? &local->link->waiting : &agent.runner_waiting,
                            &local->wait_node);
        local->waiting = true;
        return false;
    }
    local->executor_role = local->role;
    local->executor->owner = local;
    local->fresh = !local->executor->clean;
    local->executor->clean = false;
    return true;
}

/* What the present attempt's row and its request to a runner have in common. */
FleetStepKey
local_job_step_key(const LocalJob *local)
{
    FleetStepKey key = {.run_id = local->run_id,
                        .job_run_id = local->job_run_id,
                        .task = local->task_no,
                        .item = local->item,
                        .task_attempt = local->task_attempt,
                        .first_seq = (uint32) local->step.first_seq};

    return key;
}

void
local_job_send(LocalJob *local)
{
    const FleetStepDef *step = local_job_step(local);
    FleetStepRequest request = {0};

    if (!acquire_executor(local))
        return;
    local_job_stop_waiting(local);
    if (!local->step.inserted)
        local_job_step_dirty(local, AGENT_LAZY);
    if (local->link != NULL)
        local->then = *fleet_link_session_identity(local->executor);
    local->leaving = false;
    local->ref = agent_request_new(REQUEST_LOCAL_JOB, local);
    request.kind = FLEET_REQUEST_STEP;
    request.ref = local->ref;
    request.command = step->command;
    request.params = local->params;
    request.transactional = local->exec.transactional;
    request.single = step->single;
    request.fresh = local->fresh;
    request.key = local_job_step_key(local);
    request.log_seq = local->log_seq;
    local->fresh = false;
    local->any_sent = true;
    FLEET_POINT("step_before_send");
    local->executor->methods->run(local->executor, &request);
    FLEET_POINT("step_after_send");
}

/* With the step's success the job is over. */
static bool
is_last_step(const LocalJob *local)
{
    const FleetStepSpec *spec = &local->def->specs[local->job.step];

    return spec->on_success == FLEET_STEP_QUIT_SUCCESS ||
           spec->on_success == FLEET_STEP_QUIT_FAILURE ||
           (spec->on_success == FLEET_STEP_NEXT && local->job.step + 1 == local->def->nsteps);
}

/*
 * The id is being stored, then COMMIT goes out.  On a direct session the next
 * job's BEGIN can travel in the same packet, behind it: its slot is free now,
 * and its start is stored in the same transaction as the id.
 */
static void
leave_slot(LocalJob *local)
{
    if (local->link == NULL || local->task == NULL || local->executor == NULL ||
        !is_last_step(local))
        return;
    local->leaving = fleet_engine_leaving(agent.engine, local->task->ref, local->task_attempt);
}

static void
commit(LocalJob *local)
{
    FleetExecutor *executor = local->executor;

    if (executor == NULL)
        return;
    FLEET_POINT("step_before_send_commit");
    executor->methods->commit(executor);
    FLEET_POINT("step_after_send_commit");
    if (!local->leaving)
        return;
    local->executor = NULL;
    executor->owner = NULL;
    /* A COMMIT that fails leaves nothing either, of the only step. */
    executor->clean = local->def->leaves_clean && local->def->nsteps == 1;
    fleet_link_session_done(executor);
    local_jobs_sessions(local->link);
}

static void
exec_do(LocalJob *local, FleetExecDo what, FleetState outcome)
{
    switch (what)
    {
        case FLEET_EXEC_STORE:
            local->effect = LOCAL_JOB_EFFECT_STORED;
            local_job_step_dirty(local, 0);
            local_job_wants_effect(local);
            break;
        case FLEET_EXEC_SEND:
            if (local->step.inserted) /* a new one has no row before it is really sent */
                local_job_step_dirty(local, AGENT_LAZY);
            if (turn_in_effects())
            {
                local_job_send(
                    local); /* the start is durable, and a transaction needs no more before its id */
                break;
            }
            local->effect = LOCAL_JOB_EFFECT_SEND;
            local_job_wants_effect(local);
            break;
        case FLEET_EXEC_SEND_COMMIT: commit(local); break;
        case FLEET_EXEC_SEND_CANCEL:
            if (local->executor != NULL && local->ref != 0)
                local->executor->methods->cancel(local->executor);
            break;
        case FLEET_EXEC_RESOLVE:
            local->effect = LOCAL_JOB_EFFECT_RESOLVE;
            local_job_wants_effect(local);
            break;
        case FLEET_EXEC_END: local_job_end_step(local, outcome); break;
        case FLEET_EXEC_REDO:
            local_job_machine(local, fleet_job_event(local->def->specs, local->def->nsteps,
                                                     &local->job, FLEET_JOB_STEP_REDO, FLEET_QUEUED,
                                                     NULL, fleet_clock_now(), &agent.random));
            break;
        case FLEET_EXEC_NOTHING:
        case FLEET_EXEC_ILLEGAL: break;
    }
}

void
local_job_exec_event(LocalJob *local, FleetExecEvent event)
{
    FleetState outcome = FLEET_FAILED;
    FleetExecDo what = fleet_exec_event(&local->exec, event, &outcome);

    exec_do(local, what, outcome);
}

/* Effects that waited for the commit. */
void
local_job_effect(LocalJob *local)
{
    LocalJobEffect effect = local->effect;

    local->effect = LOCAL_JOB_EFFECT_NONE;
    if (local->finished)
        return;
    switch (effect)
    {
        case LOCAL_JOB_EFFECT_NONE: break;
        case LOCAL_JOB_EFFECT_SEND: local_job_send(local); break;
        case LOCAL_JOB_EFFECT_STORED:
        {
            FleetState outcome = FLEET_FAILED;
            FleetExecDo what = fleet_exec_event(&local->exec, FLEET_EXEC_STORED, &outcome);

            /* What it wants now has its intent stored already. */
            if (what == FLEET_EXEC_SEND)
                local_job_send(local);
            else
                exec_do(local, what, outcome);
            break;
        }
        case LOCAL_JOB_EFFECT_NESTED: local_job_start_nested(local); break;
        case LOCAL_JOB_EFFECT_RESOLVE:
            FLEET_POINT("step_before_resolve");
            if (local->link != NULL)
            {
                if (local->ref != 0)
                    agent_request_forget(local->ref);
                local->ref = agent_request_new(REQUEST_LOCAL_JOB, local);
                fleet_link_resolve(local->link->link, local->ref, local->exec.xid,
                                   local->step.backend_pid, &local->then);
            }
            else
                local_job_resolved(local, fleet_runner_resolve(local->exec.xid));
            break;
    }
}

void
local_job_resolved(LocalJob *local, FleetXactStatus status)
{
    if (local->ref != 0)
        agent_request_forget(local->ref);
    local->ref = 0;
    switch (status)
    {
        case FLEET_XACT_COMMITTED: local_job_exec_event(local, FLEET_EXEC_XACT_COMMITTED); break;
        case FLEET_XACT_ABORTED: local_job_exec_event(local, FLEET_EXEC_XACT_ABORTED); break;
        case FLEET_XACT_UNKNOWN:
            local_job_error(local, "08007",
                            "the step was cut off after its transaction was ready, and the server "
                            "cannot tell any more whether it committed");
            local_job_exec_event(local, FLEET_EXEC_XACT_UNKNOWN);
            break;
        case FLEET_XACT_IN_PROGRESS:
            local->resolve_at = fleet_clock_now() + FLEET_MS(100);
            update_timer(local);
            break;
    }
}

/* ---- events of the executor ---- */

static void
began(LocalJob *local, const FleetExecutorEvent *event)
{
    tell_outer_step(local, "started", false);
    local->step.state = FLEET_RUNNING;
    local->step.backend_pid = event->backend_pid;
    local_job_step_dirty(local, AGENT_LAZY);
    if (local->started_at == 0)
        local->started_at = fleet_clock_wall();
    local->job_dirty = true;
    if (local->task != NULL && local->task->local == local)
    {
        if (local->task->started_at == 0)
            local->task->started_at = local->started_at;
        (void) fleet_engine_accepted(agent.engine, local->task->ref, local->task_attempt,
                                     fleet_clock_now());
    }
    local_job_machine(local, fleet_job_event(local->def->specs, local->def->nsteps, &local->job,
                                             FLEET_JOB_STEP_RUNNING, FLEET_QUEUED, NULL,
                                             fleet_clock_now(), &agent.random));
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
        log_line(run->parent_local, event);
}

static void
tell_outer_step(LocalJob *local, const char *what, bool bad)
{
    FleetExecutorEvent event = {.level = bad ? "ERROR" : "INFO"};

    if (local->task == NULL ||
        (local->task->run->parent_local == NULL && local->task->run->parent_task == NULL))
        return;
    event.message =
        psprintf("%s: step \"%s\" %s", local->task->run->def->tasks[local->task_no].name,
                 local_job_step(local)->name, what);
    if (bad)
    {
        event.sqlstate = local->step.result.sqlstate;
        event.detail = local->step.result.message;
    }
    tell_outer(local, &event);
}

static void
log_line(LocalJob *local, const FleetExecutorEvent *event)
{
    FleetLineWrite w = {0};

    w.run_id = local->run_id;
    w.job_run_id = local->job_run_id;
    w.task = local->task_no;
    w.item = local->item;
    w.step_no = local->job.step + 1;
    w.seq = ++local->log_seq;
    w.logged_at = fleet_clock_wall();
    w.level = event->level;
    w.sqlstate = event->sqlstate;
    w.message = event->message != NULL ? event->message : "";
    w.detail = event->detail;
    w.hint = event->hint;
    w.context = event->context;
    fleet_line_write(&w);
    local_job_report(local);
    tell_outer(local, event);
}

/*
 * A command that was cut off again and again while it ran, surely without any
 * effect, is likely to be the cause itself (it ends its own session, or brings
 * the server down): it failed.  Retries of the step are another matter.
 */
#define CUTS_MAX 3

static bool
is_poison(LocalJob *local)
{
    return local->exec.phase == FLEET_EXEC_INTENT && local->step.state == FLEET_RUNNING &&
           ++local->cuts >= CUTS_MAX;
}

void
local_job_event(LocalJob *local, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    bool mine = executor != NULL && executor == local->executor;

    switch (event->kind)
    {
        case FLEET_EXECUTOR_BEGAN: began(local, event); break;
        case FLEET_EXECUTOR_LOG: log_line(local, event); break;
        case FLEET_EXECUTOR_ROW: break;
        case FLEET_EXECUTOR_PREPARED:
            FLEET_POINT("step_prepared");
            result_set(local, &local->step.result, event);
            local->exec.xid = event->xid;
            local_job_exec_event(local, FLEET_EXEC_GOT_XID);
            if (local->exec.phase == FLEET_EXEC_PREPARED)
                leave_slot(local);
            break;
        case FLEET_EXECUTOR_COMMITTED:
            FLEET_POINT("step_committed");
            if (local->exec.phase != FLEET_EXEC_PREPARED)
                result_set(local, &local->step.result, event);
            if (local->exec.phase == FLEET_EXEC_INTENT) /* it ended its transaction by itself */
                local->exec.phase = FLEET_EXEC_OPEN;
            agent_request_forget(local->ref);
            local->ref = 0;
            local_job_exec_event(local, FLEET_EXEC_GOT_COMMITTED);
            break;
        case FLEET_EXECUTOR_ERROR:
            result_set(local, &local->step.result, event);
            local->step.result.row_count = -1;
            agent_request_forget(local->ref);
            local->ref = 0;
            local_job_exec_event(local, local->exec.stopping && event->sqlstate != NULL &&
                                                strcmp(event->sqlstate, "57014") == 0
                                            ? FLEET_EXEC_GOT_CANCELED
                                            : FLEET_EXEC_GOT_ERROR);
            break;
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL:
            agent_request_forget(local->ref);
            local->ref = 0;
            local_job_exec_event(local, FLEET_EXEC_NOT_TRANSACTIONAL);
            break;
        case FLEET_EXECUTOR_CUT:
            if (local->exec.phase != FLEET_EXEC_PREPARED)
            {
                result_set(local, &local->step.result, event);
                local->step.result.row_count = -1;
            }
            agent_request_forget(local->ref);
            local->ref = 0;
            if (mine)
                local->executor = NULL; /* it is gone with all it had */
            local->cut_off = local->cut_off || !event->never_sent;
            if (is_poison(local) && !local->exec.stopping)
                local_job_end_step(local, FLEET_FAILED);
            else
                local_job_cut(local);
            break;
    }
}

/* ---- the job ---- */

/* No step failed, the job did: its result is not its last step's, and the line is its own. */
static void
went_round(LocalJob *local)
{
    FleetExecutorEvent event = {.row_count = -1,
                                .level = "ERROR",
                                .sqlstate = "54001",
                                .message = "the job's steps went round too often"};

    result_set(local, &local->result, &event);
    log_line(local, &event);
}

static void
local_job_finish(LocalJob *local)
{
    release_executor(local);
    local_job_stop_waiting(local);
    local->job.due = FLEET_NEVER;
    local->resolve_at = 0;
    update_timer(local);
    local->finished = true;
    local->job_dirty = true;
    local_job_dirty(local);
    if (local->job.state == FLEET_FAILED && local->job.step_runs >= FLEET_JOB_MAX_STEP_RUNS)
        went_round(local);
    if (local->task != NULL)
    {
        AgentTask *task = local->task;

        agent_result_clear(&task->result);
        task->result = local->result;
        task->result.sqlstate = agent_strdup(task->context, local->result.sqlstate);
        task->result.message = agent_strdup(task->context, local->result.message);
        task->result.output = agent_strdup(task->context, local->result.output);
        task->result.detail = task->result.hint = task->result.context = NULL;
        task->log_seq = local->log_seq;
        task->local = NULL;
        local->task = NULL;
        agent_task_finished(task, local->job.state);
    }
    local_job_report(local);
}

void
local_job_machine(LocalJob *local, FleetJobDo what)
{
    switch (what)
    {
        case FLEET_JOB_START_STEP:
            /* the same attempt again, or a new one? its row knows */
            step_start(local, local->step.first_seq != 0 && local->step.last_seq == 0);
            break;
        case FLEET_JOB_CANCEL_STEP: local_job_stop_step(local); break;
        case FLEET_JOB_WAIT: release_executor(local); break;
        case FLEET_JOB_FINISH:
            if (local->step.first_seq != 0 && local->step.last_seq == 0)
            {
                /* canceled while its step was not under way */
                local->step.state = FLEET_CANCELED;
                local->step.finished_at = fleet_clock_wall();
                local->step.last_seq = ++local->log_seq;
                local_job_write_step(local);
            }
            local_job_finish(local);
            return;
        case FLEET_JOB_NOTHING:
        case FLEET_JOB_ILLEGAL: break;
    }
    if (!local->finished)
        update_timer(local);
}

FleetTime
local_jobs_timers(FleetTime now)
{
    FleetTime next = FLEET_NEVER;
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &agent.timed)
    {
        LocalJob *local = dlist_container(LocalJob, timed_node, iter.cur);

        if (local->resolve_at != 0 && local->resolve_at <= now)
        {
            local->resolve_at = 0;
            local->effect = LOCAL_JOB_EFFECT_RESOLVE;
            local_job_wants_effect(local);
            update_timer(local);
        }
        else if (local->job.due <= now)
            local_job_machine(local, fleet_job_event(local->def->specs, local->def->nsteps,
                                                     &local->job, FLEET_JOB_TIMER, FLEET_QUEUED,
                                                     NULL, now, &agent.random));
    }
    dlist_foreach_modify(iter, &agent.timed)
    {
        LocalJob *local = dlist_container(LocalJob, timed_node, iter.cur);

        next = Min(next, local->job.due);
        if (local->resolve_at != 0)
            next = Min(next, local->resolve_at);
    }
    return next;
}

/* ---- life of a local job ---- */

LocalJob *
local_job_create(FleetJobDef *def, Oid owner)
{
    MemoryContext context =
        AllocSetContextCreate(agent.context, "pg_fleet unit", ALLOCSET_SMALL_SIZES);
    LocalJob *local = MemoryContextAllocZero(context, sizeof(LocalJob));

    local->context = context;
    local->def = def;
    local->owner = owner;
    local->role = owner;
    local->task_attempt = 1;
    local->step.result.row_count = local->result.row_count = -1;
    fleet_job_init(&local->job);
    dlist_push_tail(&agent.locals, &local->node);
    return local;
}

LocalJob *
local_job_for_task(AgentTask *task, FleetJobDef *def, Oid owner, AgentLink *link)
{
    LocalJob *local = local_job_create(def, owner);

    local->task = task;
    local->run_id = task->run->run_id;
    local->task_no = task->ref.task;
    local->item = task->ref.item;
    local->task_attempt = task->attempt;
    local->link = link;
    local->log_seq = task->log_seq;
    local->params = MemoryContextStrdup(
        local->context,
        link != NULL ? fleet_definition_merge(def->params, task->params) : task->params);
    task->local = local;
    return local;
}

void
local_job_begin(LocalJob *local)
{
    local_job_machine(local, fleet_job_event(local->def->specs, local->def->nsteps, &local->job,
                                             FLEET_JOB_BEGIN, FLEET_QUEUED, NULL, fleet_clock_now(),
                                             &agent.random));
}

void
local_job_free(LocalJob *local)
{
    release_executor(local);
    local_job_stop_waiting(local);
    if (local->timed)
        dlist_delete(&local->timed_node);
    if (local->in_effects)
        dlist_delete(&local->effect_node);
    if (local->in_dirty)
        dlist_delete(&local->dirty_node);
    if (local->task != NULL)
        local->task->local = NULL;
    if (local->nested != NULL)
        local->nested->parent_local = NULL;
    if (local->job_run_id != 0)
        hash_search(agent.by_job_run, &local->job_run_id, HASH_REMOVE, NULL);
    dlist_delete(&local->node);
    MemoryContextDelete(local->context);
}

/* The engine gave the task run up (lost): what the step did is not known. */
void
local_job_abandon(LocalJob *local)
{
    local->task->log_seq = local->log_seq + 1;
    local->task->local = NULL;
    local->task = NULL;
    if (local->step.first_seq != 0 && local->step.last_seq == 0)
    {
        local_job_error(local, AGENT_LOST_SQLSTATE, AGENT_LOST_MESSAGE);
        local->step.state = FLEET_LOST;
        local->step.finished_at = fleet_clock_wall();
        local->step.last_seq = ++local->log_seq;
        local_job_write_step(local);
    }
    if (local->executor != NULL && local->ref != 0)
        local->executor->methods->cancel(local->executor);
    local->job.state = FLEET_LOST;
    local->finished = true;
    local_job_dirty(local);
    release_executor(local);
    local_job_stop_waiting(local);
}

bool
local_jobs_use_link(AgentLink *link)
{
    dlist_iter iter;

    dlist_foreach(iter, &agent.locals)
    {
        LocalJob *local = dlist_container(LocalJob, node, iter.cur);

        if (local->link == link && !local->finished)
            return true;
    }
    return false;
}

/* ---- who waits for an executor ---- */

void
local_jobs_runners(void)
{
    while (!dlist_is_empty(&agent.runner_waiting))
    {
        LocalJob *local =
            dlist_container(LocalJob, wait_node, dlist_head_node(&agent.runner_waiting));

        local_job_send(local);
        if (local->waiting)
        {
            /* nothing is given back as long as nothing ends; slots of others may get free */
            turn_wake_at(fleet_clock_now() + FLEET_SECONDS(1));
            return;
        }
    }
}

void
local_jobs_sessions(AgentLink *link)
{
    while (!dlist_is_empty(&link->waiting))
    {
        LocalJob *local = dlist_container(LocalJob, wait_node, dlist_head_node(&link->waiting));

        local_job_send(local);
        if (local->waiting)
            return;
    }
}
