/*
 * agent/local_job.c
 *     The life of a local job, and what happens to it: events of its executor
 *     and its timers come in, and the loop local_job_advance() takes it from
 *     one step to the next.  In the agent's process.
 *
 * A local job belongs to a task run (an sql task here, or a job on a server of
 * mode direct) or to a job run (start_job, or asked for by a parent).
 */
#include "postgres.h"

#include "agent/found.h"
#include "agent/given.h"
#include "agent/local_job_internal.h"
#include "points.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* ---- from step to step ---- */

/* The local job is to be looked at when its job's deadline or retry is due. */
static void
update_timer(LocalJob *local)
{
    bool wanted = local->job.due != FLEET_NEVER || local->resolve_at != 0;

    if (wanted && !local->timed)
        dlist_push_tail(&local_jobs.timed, &local->timed_node);
    else if (!wanted && local->timed)
        dlist_delete(&local->timed_node);
    local->timed = wanted;
}

/* No step failed, the job did: its result is not its last step's, and the line is its own. */
static void
went_round(LocalJob *local)
{
    FleetExecutorEvent event = {.row_count = -1,
                                .diag = {.level = "ERROR",
                                         .sqlstate = FLEET_SQLSTATE_STATEMENT_TOO_COMPLEX,
                                         .message = "the job's steps went round too often"}};

    local_job_set_result(local, &local->result, &event);
    local_job_log(local, &event);
}

static void
local_job_finish(LocalJob *local)
{
    local_job_release_executor(local);
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

        agent_task_set_result(task, local->result.row_count, &local->result.diag,
                              local->result.output);
        agent_task_log_used(task, local->log_seq);
        agent_task_set_local(task, NULL);
        local->task = NULL;
        agent_task_finished(task, local->job.state);
    }
    local_job_report(local);
}

/* Carries out one decision of the job machine; returns the next one. */
static FleetJobDo
carry_out(LocalJob *local, FleetJobDo what)
{
    switch (what)
    {
        case FLEET_JOB_START_STEP:
            /* the same attempt again, or a new one? its row knows */
            return local_job_start_step(local, local_job_step_is_open(local));
        case FLEET_JOB_CANCEL_STEP: return local_job_stop_step(local);
        case FLEET_JOB_WAIT: local_job_release_executor(local); break;
        case FLEET_JOB_FINISH:
            if (local_job_step_is_open(local)) /* canceled while its step was not under way */
                local_job_close_step(local, FLEET_CANCELED);
            local_job_finish(local);
            break;
        case FLEET_JOB_NOTHING:
        case FLEET_JOB_ILLEGAL: break;
    }
    return FLEET_JOB_NOTHING;
}

/*
 * A step that fails before it is sent ends while it is begun, and so may the
 * one that follows it, up to FLEET_JOB_MAX_STEP_RUNS times: hence a loop.
 */
void
local_job_advance(LocalJob *local, FleetJobDo what)
{
    while (what != FLEET_JOB_NOTHING)
        what = carry_out(local, what);
    if (!local->finished)
        update_timer(local);
}

/* ---- events of the executor, and effects ---- */

static FleetJobDo
began(LocalJob *local, const FleetExecutorEvent *event)
{
    local_job_log_step(local, "started", false);
    local->step.state = FLEET_RUNNING;
    local->step.backend_pid = event->backend_pid;
    local_job_step_dirty(local, AGENT_LAZY);
    if (local->started_at == 0)
        local->started_at = fleet_clock_wall();
    local->job_dirty = true;
    if (local->task != NULL && local->task->local == local)
    {
        if (local->task->started_at == 0)
            agent_task_set_started(local->task, local->started_at);
        (void) fleet_engine_accepted(agent.engine, local->task->ref, local->task_attempt,
                                     fleet_clock_now());
    }
    return local_job_machine(local, FLEET_JOB_STEP_RUNNING, fleet_clock_now());
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

/* What PostgreSQL says when a command does not go with a transaction gets the way out as its hint. */
static const char *
hint_for(const FleetDiagnostics *diag)
{
    if (diag->hint != NULL && diag->hint[0] != '\0')
        return diag->hint;
    if (!fleet_sqlstate_is(diag->sqlstate, FLEET_SQLSTATE_ACTIVE_SQL_TRANSACTION) &&
        !fleet_sqlstate_is(diag->sqlstate, FLEET_SQLSTATE_INVALID_TRANSACTION_TERMINATION))
        return NULL;
    return "Give each command that cannot run in a transaction a step of its own. The steps of a "
           "job run in one session, one after the other.";
}

/* The executor said its last word about what was sent: an error, unless it was told to stop. */
static FleetJobDo
raised(LocalJob *local, const FleetExecutorEvent *event)
{
    FleetExecutorEvent told = *event;
    bool canceled = local->exec.stopping &&
                    fleet_sqlstate_is(event->diag.sqlstate, FLEET_SQLSTATE_QUERY_CANCELED);

    told.diag.hint = hint_for(&event->diag);
    local_job_set_result(local, &local->step.result, &told);
    local->step.result.row_count = -1;
    local_job_request_end(local);
    return local_job_exec_event(local, canceled ? FLEET_EXEC_GOT_CANCELED : FLEET_EXEC_GOT_ERROR);
}

static FleetJobDo
committed(LocalJob *local, const FleetExecutorEvent *event)
{
    FLEET_POINT("step_committed");
    if (local->exec.phase != FLEET_EXEC_PREPARED)
        local_job_set_result(local, &local->step.result, event);
    if (local->exec.phase == FLEET_EXEC_INTENT) /* it ended its transaction by itself */
        local->exec.phase = FLEET_EXEC_OPEN;
    local_job_request_end(local);
    return local_job_exec_event(local, FLEET_EXEC_GOT_COMMITTED);
}

static FleetJobDo
cut(LocalJob *local, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    if (local->exec.phase != FLEET_EXEC_PREPARED)
    {
        local_job_set_result(local, &local->step.result, event);
        local->step.result.row_count = -1;
    }
    local_job_request_end(local);
    if (executor != NULL && executor == local->executor)
        local->executor = NULL; /* it is gone with all it had */
    local->cut_off = local->cut_off || !event->never_sent;
    if (is_poison(local) && !local->exec.stopping)
        return local_job_end_step(local, FLEET_FAILED);
    return local_job_cut(local);
}

/*
 * It cannot run in a transaction.  What only its error could tell is remembered,
 * so that it is not begun in one again.
 */
static FleetJobDo
not_transactional(LocalJob *local, const FleetExecutorEvent *event)
{
    const FleetStepDef *step = local_job_step(local);
    bool by_error = event->diag.sqlstate != NULL && event->diag.sqlstate[0] != '\0';
    FleetExecutorEvent refused = *event;

    if (step->strict)
    {
        refused.diag.sqlstate = FLEET_SQLSTATE_ACTIVE_SQL_TRANSACTION;
        refused.diag.message =
            "the step is marked as transactional, and cannot run in a transaction";
        refused.diag.detail = by_error ? event->diag.message : NULL;
        refused.diag.hint =
            "Leave \"transactional\" null, so that this is found out, or set it to false.";
        return raised(local, &refused);
    }
    if (by_error)
        agent_found_add(local_job_server(local), step->command);
    local_job_request_end(local);
    return local_job_exec_event(local, FLEET_EXEC_NOT_TRANSACTIONAL);
}

static FleetJobDo
executor_event(LocalJob *local, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    switch (event->kind)
    {
        case FLEET_EXECUTOR_BEGAN: return began(local, event);
        case FLEET_EXECUTOR_LOG: local_job_log(local, event); break;
        case FLEET_EXECUTOR_ROW: break;
        case FLEET_EXECUTOR_PREPARED:
            FLEET_POINT("step_prepared");
            local_job_set_result(local, &local->step.result, event);
            local->exec.xid = event->xid;
            return local_job_exec_event(local, FLEET_EXEC_GOT_XID);
        case FLEET_EXECUTOR_COMMITTED: return committed(local, event);
        case FLEET_EXECUTOR_ERROR: return raised(local, event);
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL: return not_transactional(local, event);
        case FLEET_EXECUTOR_CUT: return cut(local, executor, event);
    }
    return FLEET_JOB_NOTHING;
}

void
local_job_event(LocalJob *local, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    local_job_in_hand(local, "work_event");
    local_job_advance(local, executor_event(local, executor, event));
}

void
local_job_resolved(LocalJob *local, FleetXactStatus status)
{
    local_job_in_hand(local, "work_event");
    local_job_advance(local, local_job_step_resolved(local, status));
}

void
local_jobs_effects(void)
{
    dlist_head locals = DLIST_STATIC_INIT(locals);

    while (!dlist_is_empty(&local_jobs.effects))
        dlist_push_tail(&locals, dlist_pop_head_node(&local_jobs.effects));
    while (!dlist_is_empty(&locals))
    {
        LocalJob *local = dlist_container(LocalJob, effect_node, dlist_pop_head_node(&locals));

        local->in_effects = false;
        local_job_in_hand(local, "work_job_effect");
        local_job_advance(local, local_job_effect(local));
    }
    fleet_hand_empty();
}

/* ---- timers ---- */

FleetTime
local_jobs_timers(FleetTime now)
{
    FleetTime next = FLEET_NEVER;
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &local_jobs.timed)
    {
        LocalJob *local = dlist_container(LocalJob, timed_node, iter.cur);

        local_job_in_hand(local, "work_timer");
        if (local->resolve_at != 0 && local->resolve_at <= now)
        {
            local->resolve_at = 0;
            local_job_wants_effect(local, LOCAL_JOB_EFFECT_RESOLVE);
            update_timer(local);
        }
        else if (local->job.due <= now)
            local_job_advance(local, local_job_machine(local, FLEET_JOB_TIMER, now));
    }
    fleet_hand_empty();
    dlist_foreach_modify(iter, &local_jobs.timed)
    {
        LocalJob *local = dlist_container(LocalJob, timed_node, iter.cur);

        next = Min(next, local->job.due);
        if (local->resolve_at != 0)
            next = Min(next, local->resolve_at);
    }
    return next;
}

/* ---- life ---- */

LocalJob *
local_job_for_task(AgentTask *task, FleetJobDef *def, AgentLink *link)
{
    const AgentRun *run = task->run;
    bool sql = run->def->tasks[task->ref.task].job == NULL;
    LocalJob *local = local_job_create(def, sql ? run->owner : def->owner_oid);

    local->task = task;
    local->run_id = task->run->run_id;
    local->task_no = task->ref.task;
    local->item = task->ref.item;
    local->task_attempt = task->attempt;
    local->link = link;
    local->log_seq = task->log_seq;
    local->hook_depth = task->run->hook_depth;
    local->params = MemoryContextStrdup(
        local->context, sql ? task->params : fleet_definition_merge(def->params, task->params));
    local->given = MemoryContextStrdup(local->context, agent_given_context(task));
    agent_task_set_local(task, local);
    return local;
}

void
local_job_begin(LocalJob *local)
{
    local_job_advance(local, local_job_machine(local, FLEET_JOB_BEGIN, fleet_clock_now()));
}

void
local_job_cancel(LocalJob *local)
{
    if (local->finished)
        return;
    local->job_dirty = true;
    local_job_dirty(local);
    local_job_advance(local, local_job_machine(local, FLEET_JOB_CANCEL, fleet_clock_now()));
}

void
local_job_nested_ended(LocalJob *local, FleetState state, bool timed_out, const char *message)
{
    local->nested = NULL;
    if (state != FLEET_SUCCEEDED)
        local_job_error(local,
                        state == FLEET_CANCELED || timed_out ? FLEET_SQLSTATE_QUERY_CANCELED
                                                             : FLEET_SQLSTATE_RAISE_EXCEPTION,
                        message != NULL ? message : "the package did not succeed");
    if (state != FLEET_SUCCEEDED && state != FLEET_CANCELED)
        state = FLEET_FAILED;
    local_job_advance(local, local_job_end_step(local, state));
}

void
local_job_free(LocalJob *local)
{
    local_job_release_executor(local);
    local_job_stop_waiting(local);
    if (local->timed)
        dlist_delete(&local->timed_node);
    if (local->in_effects)
        dlist_delete(&local->effect_node);
    if (local->in_dirty)
        dlist_delete(&local->dirty_node);
    if (local->task != NULL)
        agent_task_set_local(local->task, NULL);
    if (local->nested != NULL)
        agent_run_set_parent_local(local->nested, NULL);
    if (local->job_run_id != 0)
        hash_search(local_jobs.by_job_run, &local->job_run_id, HASH_REMOVE, NULL);
    dlist_delete(&local->node);
    MemoryContextDelete(local->context);
}

/* The engine gave the task run up (lost): what the step did is not known. */
void
local_job_abandon(LocalJob *local)
{
    FleetDiagnostics why = local->task->result.diag;

    agent_task_log_used(local->task, local->log_seq + 1);
    agent_task_set_local(local->task, NULL);
    local->task = NULL;
    if (local_job_step_is_open(local))
    {
        if (why.message != NULL)
            local_job_failure(local, &why);
        else
            local_job_error(local, AGENT_LOST_SQLSTATE, AGENT_LOST_MESSAGE);
        local_job_close_step(local, FLEET_LOST);
    }
    if (local->executor != NULL && local->ref != 0)
        local->executor->methods->cancel(local->executor);
    local->job.state = FLEET_LOST;
    local->finished = true;
    local_job_dirty(local);
    local_job_release_executor(local);
    local_job_stop_waiting(local);
}

void
local_job_task_gone(LocalJob *local)
{
    local->task = NULL;
}

void
local_jobs_free(dlist_head *over)
{
    while (!dlist_is_empty(over))
        local_job_free(dlist_container(LocalJob, dirty_node, dlist_pop_head_node(over)));
}

/* ---- steps that run a package ---- */

void
local_job_set_nested(LocalJob *local, AgentRun *run)
{
    local->nested = run;
}

void
local_job_nested_uuid(const LocalJob *local, char *uuid)
{
    char *text = psprintf("%s/%lld/%d/%d", agent.identity.uuid, (long long) local->job_run_id,
                          local->step.first_seq, local->job.attempt);

    agent_uuid_of(uuid, text);
    pfree(text);
}

int64
local_job_job_run_id(const LocalJob *local)
{
    return local->job_run_id;
}

const FleetDefinition *
local_job_definition(const LocalJob *local)
{
    return local->def->definition;
}

const char *
local_job_of_run(const LocalJob *local)
{
    return local->job_run_id == 0 ? local->def->name : NULL;
}
