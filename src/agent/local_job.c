/*
 * agent/local_job.c
 *     Units: jobs that this agent executes itself, step by step.  In the
 *     agent's process.
 *
 * A unit belongs to a task run (an sql task here, or a job on a server of mode
 * direct) or to a job run (start_job, or asked for by a parent).  Two machines
 * of the core decide: job.h says which step comes next, exec.h what the
 * protocol of one attempt wants (store, send, commit, resolve).  This file
 * turns events of executors into calls of both, and their answers into rows
 * and effects.
 *
 * A unit keeps its executor from its first step to its last, so that a job is
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

static void exec_do(AgentUnit *unit, FleetExecDo what, FleetState outcome);

static void tell_outer_step(AgentUnit *unit, const char *what, bool bad);
static void log_line(AgentUnit *unit, const FleetExecutorEvent *event);

/* ---- small things ---- */

const FleetStepDef *
agent_unit_step(const AgentUnit *unit)
{
    return &unit->def->steps[unit->job.step];
}

static void
result_set(AgentUnit *unit, AgentResult *to, const FleetExecutorEvent *event)
{
    agent_result_clear(to);
    to->row_count = event->row_count;
    to->sqlstate = agent_strdup(unit->context, event->sqlstate);
    to->message = agent_strdup(unit->context, event->message);
    to->detail = agent_strdup(unit->context, event->detail);
    to->hint = agent_strdup(unit->context, event->hint);
    to->context = agent_strdup(unit->context, event->context);
    to->output = agent_strdup(unit->context, event->output);
}

void
agent_unit_error(AgentUnit *unit, const char *sqlstate, const char *message)
{
    FleetExecutorEvent event = {.row_count = -1, .sqlstate = sqlstate, .message = message};

    result_set(unit, &unit->step.result, &event);
}

void
agent_unit_failure(AgentUnit *unit, const AgentFailure *failure)
{
    FleetExecutorEvent event = {.row_count = -1,
                                .sqlstate = failure->sqlstate,
                                .message = failure->message,
                                .detail = failure->detail,
                                .hint = failure->hint};

    result_set(unit, &unit->step.result, &event);
}

void
agent_unit_wants_effect(AgentUnit *unit)
{
    if (!unit->in_effects)
    {
        dlist_push_tail(&agent.unit_effects, &unit->effect_node);
        unit->in_effects = true;
    }
    agent.again = true;
}

void
agent_unit_dirty(AgentUnit *unit)
{
    if (!unit->in_dirty)
    {
        dlist_push_tail(&agent.dirty_units, &unit->dirty_node);
        unit->in_dirty = true;
    }
}

void
agent_unit_step_dirty(AgentUnit *unit, FleetTime lazy)
{
    if (unit->step.dirty && unit->step.lazy_until == 0)
        lazy = 0; /* what must be written at once stays so */
    unit->step.dirty = true;
    unit->step.lazy_until = lazy == 0 ? 0 : fleet_clock_now() + lazy;
    agent_unit_dirty(unit);
}

/* The unit is to be looked at when its job's deadline or retry is due. */
static void
update_timer(AgentUnit *unit)
{
    bool wanted = unit->job.due != FLEET_NEVER || unit->resolve_at != 0;

    if (wanted && !unit->timed)
        dlist_push_tail(&agent.timed, &unit->timed_node);
    else if (!wanted && unit->timed)
        dlist_delete(&unit->timed_node);
    unit->timed = wanted;
}

void
agent_unit_stop_waiting(AgentUnit *unit)
{
    if (unit->waiting)
        dlist_delete(&unit->wait_node);
    unit->waiting = false;
}

static void
release_executor(AgentUnit *unit)
{
    FleetExecutor *executor = unit->executor;

    if (unit->ref != 0)
        agent_request_forget(unit->ref);
    unit->ref = 0;
    unit->executor = NULL;
    if (executor == NULL)
        return;
    executor->owner = NULL;
    executor->clean = unit->def->leaves_clean && unit->job.state == FLEET_SUCCEEDED;
    if (unit->link != NULL)
        fleet_link_session_done(executor);
    else
        fleet_runner_done(executor);
    agent.again = true; /* others may wait for one */
}

/* ---- a step begins ---- */

/* Whose rights has this step?  False: the reason is in the step's result. */
static bool
step_role(AgentUnit *unit)
{
    const char *run_as = agent_unit_step(unit)->run_as;
    const char *sqlstate;
    const char *why;

    fleet_catalog_begin();
    unit->role = unit->owner;
    if (run_as != NULL)
    {
        unit->role = get_role_oid(run_as, true);
        if (!OidIsValid(unit->role))
        {
            agent_unit_error(unit, "42704",
                             psprintf("role \"%s\" does not exist any more", run_as));
            return false;
        }
        if (!fleet_may_become(unit->owner, unit->role))
        {
            agent_unit_error(
                unit, "42501",
                psprintf("the job's owner is not a member of role \"%s\" any more", run_as));
            return false;
        }
    }
    if (unit->link == NULL && !fleet_security_role_may_run(unit->role, &sqlstate, &why))
    {
        agent_unit_error(unit, sqlstate, why);
        return false;
    }
    return true;
}

static bool
step_link(AgentUnit *unit)
{
    const char *sqlstate = "0A000";
    char *error = NULL;
    AgentLink *link;

    if (unit->link == NULL)
        return true;
    link = agent_link_get(unit->link->server, unit->role, &sqlstate, &error);
    if (link == unit->link)
        return true;
    release_executor(unit);
    if (link == NULL)
    {
        agent_unit_error(unit, sqlstate, error);
        return false;
    }
    unit->link = link;
    return true;
}

static void
step_new_row(AgentUnit *unit)
{
    memset(&unit->step, 0, sizeof(unit->step));
    unit->cuts = 0;
    unit->step.result.row_count = -1;
    unit->step.first_seq = ++unit->log_seq;
    unit->step.state = FLEET_STARTING;
    unit->step.started_at = fleet_clock_wall();
}

void
agent_unit_end_step(AgentUnit *unit, FleetState outcome)
{
    const char *sqlstate;

    unit->step.state = outcome;
    unit->step.finished_at = fleet_clock_wall();
    unit->step.last_seq = ++unit->log_seq;
    unit->exec.phase = FLEET_EXEC_ENDED;
    if (outcome == FLEET_CANCELED && unit->job.timed_out)
    {
        unit->step.state = FLEET_FAILED;
        agent_unit_error(unit, "57014", "the step was stopped because of its timeout");
    }
    unit->effect = UNIT_EFFECT_NONE;
    agent_unit_write_step(unit);
    agent_unit_report(unit);
    tell_outer_step(unit, fleet_state_name(unit->step.state),
                    unit->step.state != FLEET_SUCCEEDED && unit->step.state != FLEET_CANCELED);
    agent_unit_dirty(unit);
    /* The job's result is its last step's; the strings belong to the unit from now on. */
    agent_result_clear(&unit->result);
    unit->result = unit->step.result;
    memset(&unit->step.result, 0, sizeof(unit->step.result));
    sqlstate = unit->result.sqlstate;
    agent_unit_job(unit, fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                         FLEET_JOB_STEP_ENDED, outcome, sqlstate, fleet_clock_now(),
                                         &agent.random));
}

/* From the job machine: the present step begins, for the first time or again after a redo. */
static void
step_start(AgentUnit *unit, bool redo)
{
    const FleetStepDef *step = agent_unit_step(unit);
    FleetState outcome = FLEET_FAILED;

    if (!redo)
    {
        step_new_row(unit);
        fleet_exec_init(&unit->exec, step->transactional);
    }
    unit->step.state = FLEET_STARTING;
    if (!step_role(unit) || !step_link(unit))
    {
        agent_unit_end_step(unit, FLEET_FAILED);
        return;
    }
    if (step->package != NULL)
    {
        if (unit->link != NULL)
        {
            agent_unit_error(unit, "0A000",
                             "a step that runs a package needs a server of mode agent");
            agent_unit_end_step(unit, FLEET_FAILED);
            return;
        }
        unit->exec.phase = FLEET_EXEC_OPEN;
        unit->effect = UNIT_EFFECT_NESTED;
        agent_unit_step_dirty(unit, 0);
        agent_unit_wants_effect(unit);
        return;
    }
    exec_do(unit, fleet_exec_event(&unit->exec, FLEET_EXEC_BEGIN, &outcome), outcome);
}

/* ---- the protocol of one attempt ---- */

static bool
acquire_executor(AgentUnit *unit)
{
    const char *sqlstate;
    const char *why;

    if (unit->executor != NULL && unit->executor_role == unit->role)
        return true;
    release_executor(unit);
    if (unit->link != NULL)
        unit->executor = fleet_link_session(unit->link->link);
    else
        unit->executor = fleet_runner_get(unit->role, &sqlstate, &why);
    if (unit->executor == NULL)
    {
        if (!unit->waiting)
            dlist_push_tail(unit->link != NULL ? &unit->link->waiting : &agent.runner_waiting,
                            &unit->wait_node);
        unit->waiting = true;
        return false;
    }
    unit->executor_role = unit->role;
    unit->executor->owner = unit;
    unit->fresh = !unit->executor->clean;
    unit->executor->clean = false;
    return true;
}

/* What the present attempt's row and its request to a runner have in common. */
FleetStepKey
agent_unit_step_key(const AgentUnit *unit)
{
    FleetStepKey key = {.run_id = unit->run_id,
                        .job_run_id = unit->job_run_id,
                        .task = unit->task_no,
                        .item = unit->item,
                        .task_attempt = unit->task_attempt,
                        .first_seq = (uint32) unit->step.first_seq};

    return key;
}

void
agent_unit_send(AgentUnit *unit)
{
    const FleetStepDef *step = agent_unit_step(unit);
    FleetStepRequest request = {0};

    if (!acquire_executor(unit))
        return;
    agent_unit_stop_waiting(unit);
    if (!unit->step.inserted)
        agent_unit_step_dirty(unit, AGENT_LAZY);
    if (unit->link != NULL)
        unit->then = *fleet_link_session_identity(unit->executor);
    unit->leaving = false;
    unit->ref = agent_request_new(REQUEST_UNIT, unit);
    request.kind = FLEET_REQUEST_STEP;
    request.ref = unit->ref;
    request.command = step->command;
    request.params = unit->params;
    request.transactional = unit->exec.transactional;
    request.single = step->single;
    request.fresh = unit->fresh;
    request.key = agent_unit_step_key(unit);
    request.log_seq = unit->log_seq;
    unit->fresh = false;
    unit->any_sent = true;
    FLEET_POINT("step_before_send");
    unit->executor->methods->run(unit->executor, &request);
    FLEET_POINT("step_after_send");
}

/* With the step's success the job is over. */
static bool
is_last_step(const AgentUnit *unit)
{
    const FleetStepSpec *spec = &unit->def->specs[unit->job.step];

    return spec->on_success == FLEET_STEP_QUIT_SUCCESS ||
           spec->on_success == FLEET_STEP_QUIT_FAILURE ||
           (spec->on_success == FLEET_STEP_NEXT && unit->job.step + 1 == unit->def->nsteps);
}

/*
 * The id is being stored, then COMMIT goes out.  On a direct session the next
 * job's BEGIN can travel in the same packet, behind it: its slot is free now,
 * and its start is stored in the same transaction as the id.
 */
static void
leave_slot(AgentUnit *unit)
{
    if (unit->link == NULL || unit->task == NULL || unit->executor == NULL || !is_last_step(unit))
        return;
    unit->leaving = fleet_engine_leaving(agent.engine, unit->task->ref, unit->task_attempt);
}

static void
commit(AgentUnit *unit)
{
    FleetExecutor *executor = unit->executor;

    if (executor == NULL)
        return;
    FLEET_POINT("step_before_send_commit");
    executor->methods->commit(executor);
    FLEET_POINT("step_after_send_commit");
    if (!unit->leaving)
        return;
    unit->executor = NULL;
    executor->owner = NULL;
    /* A COMMIT that fails leaves nothing either, of the only step. */
    executor->clean = unit->def->leaves_clean && unit->def->nsteps == 1;
    fleet_link_session_done(executor);
    agent_link_sessions(unit->link);
}

static void
exec_do(AgentUnit *unit, FleetExecDo what, FleetState outcome)
{
    switch (what)
    {
        case FLEET_EXEC_STORE:
            unit->effect = UNIT_EFFECT_STORED;
            agent_unit_step_dirty(unit, 0);
            agent_unit_wants_effect(unit);
            break;
        case FLEET_EXEC_SEND:
            if (unit->step.inserted) /* a new one has no row before it is really sent */
                agent_unit_step_dirty(unit, AGENT_LAZY);
            if (agent.in_effects)
            {
                agent_unit_send(
                    unit); /* the start is durable, and a transaction needs no more before its id */
                break;
            }
            unit->effect = UNIT_EFFECT_SEND;
            agent_unit_wants_effect(unit);
            break;
        case FLEET_EXEC_SEND_COMMIT: commit(unit); break;
        case FLEET_EXEC_SEND_CANCEL:
            if (unit->executor != NULL && unit->ref != 0)
                unit->executor->methods->cancel(unit->executor);
            break;
        case FLEET_EXEC_RESOLVE:
            unit->effect = UNIT_EFFECT_RESOLVE;
            agent_unit_wants_effect(unit);
            break;
        case FLEET_EXEC_END: agent_unit_end_step(unit, outcome); break;
        case FLEET_EXEC_REDO:
            agent_unit_job(unit, fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                                 FLEET_JOB_STEP_REDO, FLEET_QUEUED, NULL,
                                                 fleet_clock_now(), &agent.random));
            break;
        case FLEET_EXEC_NOTHING:
        case FLEET_EXEC_ILLEGAL: break;
    }
}

void
agent_unit_exec_event(AgentUnit *unit, FleetExecEvent event)
{
    FleetState outcome = FLEET_FAILED;
    FleetExecDo what = fleet_exec_event(&unit->exec, event, &outcome);

    exec_do(unit, what, outcome);
}

/* Effects that waited for the commit. */
void
agent_unit_effect(AgentUnit *unit)
{
    AgentUnitEffect effect = unit->effect;

    unit->effect = UNIT_EFFECT_NONE;
    if (unit->finished)
        return;
    switch (effect)
    {
        case UNIT_EFFECT_NONE: break;
        case UNIT_EFFECT_SEND: agent_unit_send(unit); break;
        case UNIT_EFFECT_STORED:
        {
            FleetState outcome = FLEET_FAILED;
            FleetExecDo what = fleet_exec_event(&unit->exec, FLEET_EXEC_STORED, &outcome);

            /* What it wants now has its intent stored already. */
            if (what == FLEET_EXEC_SEND)
                agent_unit_send(unit);
            else
                exec_do(unit, what, outcome);
            break;
        }
        case UNIT_EFFECT_NESTED: agent_unit_start_nested(unit); break;
        case UNIT_EFFECT_RESOLVE:
            FLEET_POINT("step_before_resolve");
            if (unit->link != NULL)
            {
                if (unit->ref != 0)
                    agent_request_forget(unit->ref);
                unit->ref = agent_request_new(REQUEST_UNIT, unit);
                fleet_link_resolve(unit->link->link, unit->ref, unit->exec.xid,
                                   unit->step.backend_pid, &unit->then);
            }
            else
                agent_unit_resolved(unit, fleet_runner_resolve(unit->exec.xid));
            break;
    }
}

void
agent_unit_resolved(AgentUnit *unit, FleetXactStatus status)
{
    if (unit->ref != 0)
        agent_request_forget(unit->ref);
    unit->ref = 0;
    switch (status)
    {
        case FLEET_XACT_COMMITTED: agent_unit_exec_event(unit, FLEET_EXEC_XACT_COMMITTED); break;
        case FLEET_XACT_ABORTED: agent_unit_exec_event(unit, FLEET_EXEC_XACT_ABORTED); break;
        case FLEET_XACT_UNKNOWN:
            agent_unit_error(unit, "08007",
                             "the step was cut off after its transaction was ready, and the server "
                             "cannot tell any more whether it committed");
            agent_unit_exec_event(unit, FLEET_EXEC_XACT_UNKNOWN);
            break;
        case FLEET_XACT_IN_PROGRESS:
            unit->resolve_at = fleet_clock_now() + FLEET_MS(100);
            update_timer(unit);
            break;
    }
}

/* ---- events of the executor ---- */

static void
began(AgentUnit *unit, const FleetExecutorEvent *event)
{
    tell_outer_step(unit, "started", false);
    unit->step.state = FLEET_RUNNING;
    unit->step.backend_pid = event->backend_pid;
    agent_unit_step_dirty(unit, AGENT_LAZY);
    if (unit->started_at == 0)
        unit->started_at = fleet_clock_wall();
    unit->job_dirty = true;
    if (unit->task != NULL && unit->task->unit == unit)
    {
        if (unit->task->started_at == 0)
            unit->task->started_at = unit->started_at;
        (void) fleet_engine_accepted(agent.engine, unit->task->ref, unit->task_attempt,
                                     fleet_clock_now());
    }
    agent_unit_job(unit, fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                         FLEET_JOB_STEP_RUNNING, FLEET_QUEUED, NULL,
                                         fleet_clock_now(), &agent.random));
}

/*
 * A package that a step runs has its own runs, steps and log here.  Whoever
 * follows that step, above all a parent on another server, sees what happens
 * inside: lines of the inner steps are the outer step's lines too.
 */
static void
tell_outer(AgentUnit *unit, const FleetExecutorEvent *event)
{
    AgentRun *run = unit->task == NULL ? NULL : unit->task->run;

    while (run != NULL && run->parent_unit == NULL)
        run = run->parent_task == NULL ? NULL : run->parent_task->run;
    if (run != NULL)
        log_line(run->parent_unit, event);
}

static void
tell_outer_step(AgentUnit *unit, const char *what, bool bad)
{
    FleetExecutorEvent event = {.level = bad ? "ERROR" : "INFO"};

    if (unit->task == NULL ||
        (unit->task->run->parent_unit == NULL && unit->task->run->parent_task == NULL))
        return;
    event.message = psprintf("%s: step \"%s\" %s", unit->task->run->def->tasks[unit->task_no].name,
                             agent_unit_step(unit)->name, what);
    if (bad)
    {
        event.sqlstate = unit->step.result.sqlstate;
        event.detail = unit->step.result.message;
    }
    tell_outer(unit, &event);
}

static void
log_line(AgentUnit *unit, const FleetExecutorEvent *event)
{
    FleetLineWrite w = {0};

    w.run_id = unit->run_id;
    w.job_run_id = unit->job_run_id;
    w.task = unit->task_no;
    w.item = unit->item;
    w.step_no = unit->job.step + 1;
    w.seq = ++unit->log_seq;
    w.logged_at = fleet_clock_wall();
    w.level = event->level;
    w.sqlstate = event->sqlstate;
    w.message = event->message != NULL ? event->message : "";
    w.detail = event->detail;
    w.hint = event->hint;
    w.context = event->context;
    fleet_line_write(&w);
    agent_unit_report(unit);
    tell_outer(unit, event);
}

/*
 * A command that was cut off again and again while it ran, surely without any
 * effect, is likely to be the cause itself (it ends its own session, or brings
 * the server down): it failed.  Retries of the step are another matter.
 */
#define CUTS_MAX 3

static bool
is_poison(AgentUnit *unit)
{
    return unit->exec.phase == FLEET_EXEC_INTENT && unit->step.state == FLEET_RUNNING &&
           ++unit->cuts >= CUTS_MAX;
}

void
agent_unit_event(AgentUnit *unit, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    bool mine = executor != NULL && executor == unit->executor;

    switch (event->kind)
    {
        case FLEET_EXECUTOR_BEGAN: began(unit, event); break;
        case FLEET_EXECUTOR_LOG: log_line(unit, event); break;
        case FLEET_EXECUTOR_ROW: break;
        case FLEET_EXECUTOR_PREPARED:
            FLEET_POINT("step_prepared");
            result_set(unit, &unit->step.result, event);
            unit->exec.xid = event->xid;
            agent_unit_exec_event(unit, FLEET_EXEC_GOT_XID);
            if (unit->exec.phase == FLEET_EXEC_PREPARED)
                leave_slot(unit);
            break;
        case FLEET_EXECUTOR_COMMITTED:
            FLEET_POINT("step_committed");
            if (unit->exec.phase != FLEET_EXEC_PREPARED)
                result_set(unit, &unit->step.result, event);
            if (unit->exec.phase == FLEET_EXEC_INTENT) /* it ended its transaction by itself */
                unit->exec.phase = FLEET_EXEC_OPEN;
            agent_request_forget(unit->ref);
            unit->ref = 0;
            agent_unit_exec_event(unit, FLEET_EXEC_GOT_COMMITTED);
            break;
        case FLEET_EXECUTOR_ERROR:
            result_set(unit, &unit->step.result, event);
            unit->step.result.row_count = -1;
            agent_request_forget(unit->ref);
            unit->ref = 0;
            agent_unit_exec_event(unit, unit->exec.stopping && event->sqlstate != NULL &&
                                                strcmp(event->sqlstate, "57014") == 0
                                            ? FLEET_EXEC_GOT_CANCELED
                                            : FLEET_EXEC_GOT_ERROR);
            break;
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL:
            agent_request_forget(unit->ref);
            unit->ref = 0;
            agent_unit_exec_event(unit, FLEET_EXEC_NOT_TRANSACTIONAL);
            break;
        case FLEET_EXECUTOR_CUT:
            if (unit->exec.phase != FLEET_EXEC_PREPARED)
            {
                result_set(unit, &unit->step.result, event);
                unit->step.result.row_count = -1;
            }
            agent_request_forget(unit->ref);
            unit->ref = 0;
            if (mine)
                unit->executor = NULL; /* it is gone with all it had */
            unit->cut_off = unit->cut_off || !event->never_sent;
            if (is_poison(unit) && !unit->exec.stopping)
                agent_unit_end_step(unit, FLEET_FAILED);
            else
                agent_unit_cut(unit);
            break;
        case FLEET_EXECUTOR_RESOLVED: agent_unit_resolved(unit, event->status); break;
    }
}

/* ---- the job ---- */

/* No step failed, the job did: its result is not its last step's, and the line is its own. */
static void
went_round(AgentUnit *unit)
{
    FleetExecutorEvent event = {.row_count = -1,
                                .level = "ERROR",
                                .sqlstate = "54001",
                                .message = "the job's steps went round too often"};

    result_set(unit, &unit->result, &event);
    log_line(unit, &event);
}

static void
unit_finish(AgentUnit *unit)
{
    release_executor(unit);
    agent_unit_stop_waiting(unit);
    unit->job.due = FLEET_NEVER;
    unit->resolve_at = 0;
    update_timer(unit);
    unit->finished = true;
    unit->job_dirty = true;
    agent_unit_dirty(unit);
    if (unit->job.state == FLEET_FAILED && unit->job.step_runs >= FLEET_JOB_MAX_STEP_RUNS)
        went_round(unit);
    if (unit->task != NULL)
    {
        AgentTask *task = unit->task;

        agent_result_clear(&task->result);
        task->result = unit->result;
        task->result.sqlstate = agent_strdup(task->context, unit->result.sqlstate);
        task->result.message = agent_strdup(task->context, unit->result.message);
        task->result.output = agent_strdup(task->context, unit->result.output);
        task->result.detail = task->result.hint = task->result.context = NULL;
        task->log_seq = unit->log_seq;
        task->unit = NULL;
        unit->task = NULL;
        agent_task_finished(task, unit->job.state);
    }
    agent_unit_report(unit);
}

void
agent_unit_job(AgentUnit *unit, FleetJobDo what)
{
    switch (what)
    {
        case FLEET_JOB_START_STEP:
            /* the same attempt again, or a new one? its row knows */
            step_start(unit, unit->step.first_seq != 0 && unit->step.last_seq == 0);
            break;
        case FLEET_JOB_CANCEL_STEP: agent_unit_stop_step(unit); break;
        case FLEET_JOB_WAIT: release_executor(unit); break;
        case FLEET_JOB_FINISH:
            if (unit->step.first_seq != 0 && unit->step.last_seq == 0)
            {
                /* canceled while its step was not under way */
                unit->step.state = FLEET_CANCELED;
                unit->step.finished_at = fleet_clock_wall();
                unit->step.last_seq = ++unit->log_seq;
                agent_unit_write_step(unit);
            }
            unit_finish(unit);
            return;
        case FLEET_JOB_NOTHING:
        case FLEET_JOB_ILLEGAL: break;
    }
    if (!unit->finished)
        update_timer(unit);
}

FleetTime
agent_units_timers(FleetTime now)
{
    FleetTime next = FLEET_NEVER;
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &agent.timed)
    {
        AgentUnit *unit = dlist_container(AgentUnit, timed_node, iter.cur);

        if (unit->resolve_at != 0 && unit->resolve_at <= now)
        {
            unit->resolve_at = 0;
            unit->effect = UNIT_EFFECT_RESOLVE;
            agent_unit_wants_effect(unit);
            update_timer(unit);
        }
        else if (unit->job.due <= now)
            agent_unit_job(unit, fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                                 FLEET_JOB_TIMER, FLEET_QUEUED, NULL, now,
                                                 &agent.random));
    }
    dlist_foreach_modify(iter, &agent.timed)
    {
        AgentUnit *unit = dlist_container(AgentUnit, timed_node, iter.cur);

        next = Min(next, unit->job.due);
        if (unit->resolve_at != 0)
            next = Min(next, unit->resolve_at);
    }
    return next;
}

/* ---- life of a unit ---- */

AgentUnit *
agent_unit_create(FleetJobDef *def, Oid owner)
{
    MemoryContext context =
        AllocSetContextCreate(agent.context, "pg_fleet unit", ALLOCSET_SMALL_SIZES);
    AgentUnit *unit = MemoryContextAllocZero(context, sizeof(AgentUnit));

    unit->context = context;
    unit->def = def;
    unit->owner = owner;
    unit->role = owner;
    unit->task_attempt = 1;
    unit->step.result.row_count = unit->result.row_count = -1;
    fleet_job_init(&unit->job);
    dlist_push_tail(&agent.units, &unit->node);
    return unit;
}

AgentUnit *
agent_unit_for_task(AgentTask *task, FleetJobDef *def, Oid owner, AgentLink *link)
{
    AgentUnit *unit = agent_unit_create(def, owner);

    unit->task = task;
    unit->run_id = task->run->run_id;
    unit->task_no = task->ref.task;
    unit->item = task->ref.item;
    unit->task_attempt = task->attempt;
    unit->link = link;
    unit->log_seq = task->log_seq;
    unit->params = MemoryContextStrdup(
        unit->context,
        link != NULL ? fleet_definition_merge(def->params, task->params) : task->params);
    task->unit = unit;
    return unit;
}

void
agent_unit_begin(AgentUnit *unit)
{
    agent_unit_job(unit,
                   fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job, FLEET_JOB_BEGIN,
                                   FLEET_QUEUED, NULL, fleet_clock_now(), &agent.random));
}

void
agent_unit_free(AgentUnit *unit)
{
    release_executor(unit);
    agent_unit_stop_waiting(unit);
    if (unit->timed)
        dlist_delete(&unit->timed_node);
    if (unit->in_effects)
        dlist_delete(&unit->effect_node);
    if (unit->in_dirty)
        dlist_delete(&unit->dirty_node);
    if (unit->task != NULL)
        unit->task->unit = NULL;
    if (unit->nested != NULL)
        unit->nested->parent_unit = NULL;
    if (unit->job_run_id != 0)
        hash_search(agent.job_units, &unit->job_run_id, HASH_REMOVE, NULL);
    dlist_delete(&unit->node);
    MemoryContextDelete(unit->context);
}

/* The engine gave the task run up (lost): what the step did is not known. */
void
agent_unit_abandon(AgentUnit *unit)
{
    unit->task->log_seq = unit->log_seq + 1;
    unit->task->unit = NULL;
    unit->task = NULL;
    if (unit->step.first_seq != 0 && unit->step.last_seq == 0)
    {
        agent_unit_error(unit, AGENT_LOST_SQLSTATE, AGENT_LOST_MESSAGE);
        unit->step.state = FLEET_LOST;
        unit->step.finished_at = fleet_clock_wall();
        unit->step.last_seq = ++unit->log_seq;
        agent_unit_write_step(unit);
    }
    if (unit->executor != NULL && unit->ref != 0)
        unit->executor->methods->cancel(unit->executor);
    unit->job.state = FLEET_LOST;
    unit->finished = true;
    agent_unit_dirty(unit);
    release_executor(unit);
    agent_unit_stop_waiting(unit);
}

/* ---- who waits for an executor ---- */

void
agent_units_runners(void)
{
    while (!dlist_is_empty(&agent.runner_waiting))
    {
        AgentUnit *unit =
            dlist_container(AgentUnit, wait_node, dlist_head_node(&agent.runner_waiting));

        agent_unit_send(unit);
        if (unit->waiting)
        {
            /* nothing is given back as long as nothing ends; slots of others may get free */
            agent.runner_retry = fleet_clock_now() + FLEET_SECONDS(1);
            return;
        }
    }
    agent.runner_retry = FLEET_NEVER;
}

void
agent_link_sessions(AgentLink *link)
{
    while (!dlist_is_empty(&link->waiting))
    {
        AgentUnit *unit = dlist_container(AgentUnit, wait_node, dlist_head_node(&link->waiting));

        agent_unit_send(unit);
        if (unit->waiting)
            return;
    }
}
