/*
 * agent/local_job_step.c
 *     One step of a local job, from its beginning to its end.  In the agent's
 *     process.
 *
 * Two machines of the core decide: exec.h what the protocol of one attempt
 * wants (store, send, commit, resolve), and job.h what follows a step's end.
 * What the first one answers is done here, or after the commit
 * (local_job_effect); what the second one answers is returned.
 */
#include "postgres.h"

#include "agent/found.h"
#include "agent/local_job_internal.h"
#include "store/spi.h"
#include "guc.h"
#include "points.h"
#include "security.h"
#include "miscadmin.h"
#include "utils/acl.h"

FleetJobDo
local_job_machine(LocalJob *local, FleetJobEvent event, FleetTime now)
{
    return fleet_job_event(local->def->specs, local->def->nsteps, &local->job, event, FLEET_QUEUED,
                           NULL, now, &agent.random);
}

FleetJobDo
local_job_step_ended(LocalJob *local, FleetState outcome, const char *sqlstate)
{
    return fleet_job_event(local->def->specs, local->def->nsteps, &local->job, FLEET_JOB_STEP_ENDED,
                           outcome, sqlstate, fleet_clock_now(), &agent.random);
}

/* ---- a step begins, and ends ---- */

/* Sets the role whose rights this step has.  False: the reason is in the step's result. */
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
            local_job_error(local, FLEET_SQLSTATE_UNDEFINED_OBJECT,
                            run_as[0] == '\0' ? "the role that the step runs as no longer exists"
                                              : psprintf("role \"%s\" no longer exists", run_as));
            return false;
        }
        if (!fleet_security_may_act(local->owner, local->role))
        {
            local_job_error(local, FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE,
                            psprintf(superuser_arg(local->role)
                                         ? "role \"%s\" is a superuser, and the job's owner is not"
                                         : "the job's owner is no longer a member of role \"%s\"",
                                     run_as));
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
    const char *sqlstate = FLEET_SQLSTATE_FEATURE_NOT_SUPPORTED;
    char *error = NULL;
    AgentLink *link;

    if (local->link == NULL)
        return true;
    link = agent_link_get(local->link->server, local->role, &sqlstate, &error);
    if (link == local->link)
        return true;
    local_job_release_executor(local);
    if (link == NULL || link->agent_mode)
    {
        local_job_error(local, sqlstate,
                        link == NULL ? error : "the server is of mode agent by now");
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

FleetJobDo
local_job_end_step(LocalJob *local, FleetState outcome)
{
    FleetState state = outcome;

    local->exec.phase = FLEET_EXEC_ENDED;
    if (outcome == FLEET_CANCELED && local->job.timed_out)
    {
        state = FLEET_FAILED;
        local_job_error(local, FLEET_SQLSTATE_QUERY_CANCELED,
                        "the step was stopped because of its timeout");
    }
    local->effect = LOCAL_JOB_EFFECT_NONE;
    local_job_close_step(local, state);
    local_job_report(local);
    local_job_log_step(local, fleet_state_name(local->step.state),
                       local->step.state != FLEET_SUCCEEDED &&
                           local->step.state != FLEET_CANCELED &&
                           local->step.state != FLEET_SKIPPED);
    local_job_dirty(local);
    if (outcome == FLEET_SKIPPED)
    {
        agent_result_clear(&local->step.result);
        return local_job_step_ended(local, outcome, NULL);
    }
    /* The job's result is its last step's; the strings belong to the local job from now on. */
    agent_result_clear(&local->result);
    local->result = local->step.result;
    memset(&local->step.result, 0, sizeof(local->step.result));
    return local_job_step_ended(local, outcome, local->result.diag.sqlstate);
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

static FleetJobDo
exec_do(LocalJob *local, FleetExecDo what, FleetState outcome)
{
    switch (what)
    {
        case FLEET_EXEC_STORE:
            /* Without a transaction a row says that the step is starting: not while it cannot. */
            if (local->exec.phase != FLEET_EXEC_OPEN || local_job_runner_first(local))
                local_job_store(local);
            break;
        case FLEET_EXEC_SEND:
            if (local->step.inserted) /* a new one has no row before it is really sent */
                local_job_step_dirty(local, AGENT_LAZY);
            if (turn_in_effects())
                /* the start is durable, and a transaction needs no more before its id */
                local_job_send(local);
            else
                local_job_wants_effect(local, LOCAL_JOB_EFFECT_SEND);
            break;
        case FLEET_EXEC_SEND_COMMIT: local_job_commit(local); break;
        case FLEET_EXEC_SEND_CANCEL:
            if (local->executor != NULL && local->ref != 0)
                local->executor->methods->cancel(local->executor);
            break;
        case FLEET_EXEC_RESOLVE: local_job_wants_effect(local, LOCAL_JOB_EFFECT_RESOLVE); break;
        case FLEET_EXEC_END: return local_job_end_step(local, outcome);
        case FLEET_EXEC_REDO:
            return local_job_machine(local, FLEET_JOB_STEP_REDO, fleet_clock_now());
        case FLEET_EXEC_NOTHING:
        case FLEET_EXEC_ILLEGAL: break;
    }
    return FLEET_JOB_NOTHING;
}

FleetJobDo
local_job_exec_event(LocalJob *local, FleetExecEvent event)
{
    FleetState outcome = FLEET_FAILED;
    FleetExecDo what = fleet_exec_event(&local->exec, event, &outcome);
    FleetJobDo next = exec_do(local, what, outcome);

    if (event == FLEET_EXEC_GOT_XID && local->exec.phase == FLEET_EXEC_PREPARED)
        leave_slot(local);
    return next;
}

/* Of a command that was found to commit by itself it is known beforehand that it cannot. */
static bool
begins_in_transaction(const LocalJob *local, const FleetStepDef *step)
{
    return step->transactional && (step->strict || step->command == NULL ||
                                   !agent_found_commits(local_job_server(local), step->command));
}

/* A disabled step has a row that says so, and the next one follows. */
static FleetJobDo
pass_over(LocalJob *local, const char *why)
{
    FleetExecutorEvent event = {.row_count = -1, .diag = {.message = why}};

    local_job_set_result(local, &local->step.result, &event);
    return local_job_end_step(local, FLEET_SKIPPED);
}

FleetJobDo
local_job_start_step(LocalJob *local, bool redo)
{
    const FleetStepDef *step = local_job_step(local);

    if (!redo)
    {
        step_new_row(local);
        fleet_exec_init(&local->exec, begins_in_transaction(local, step));
    }
    local->step.state = FLEET_STARTING;
    if (step->left_out != NULL)
        return pass_over(local, step->left_out);
    if (!step_role(local) || !step_link(local))
        return local_job_end_step(local, FLEET_FAILED);
    if (step->package == NULL)
        return local_job_exec_event(local, FLEET_EXEC_BEGIN);
    if (local->task != NULL)
    {
        local_job_error(local, FLEET_SQLSTATE_FEATURE_NOT_SUPPORTED,
                        "a step that runs a package needs a server of mode agent");
        return local_job_end_step(local, FLEET_FAILED);
    }
    /* What the package executes needs executors: jobs that kept theirs meanwhile could all wait for each other. */
    local_job_release_executor(local);
    local->exec.phase = FLEET_EXEC_OPEN;
    local_job_step_dirty(local, 0);
    local_job_wants_effect(local, LOCAL_JOB_EFFECT_NESTED);
    return FLEET_JOB_NOTHING;
}

FleetJobDo
local_job_step_resolved(LocalJob *local, FleetXactStatus status)
{
    local_job_request_end(local);
    switch (status)
    {
        case FLEET_XACT_COMMITTED: return local_job_exec_event(local, FLEET_EXEC_XACT_COMMITTED);
        case FLEET_XACT_ABORTED: return local_job_exec_event(local, FLEET_EXEC_XACT_ABORTED);
        case FLEET_XACT_UNKNOWN:
            local_job_error(local, FLEET_SQLSTATE_TRANSACTION_RESOLUTION_UNKNOWN,
                            "the step was cut off after its transaction was ready, and the server "
                            "can no longer tell whether it committed");
            return local_job_exec_event(local, FLEET_EXEC_XACT_UNKNOWN);
        case FLEET_XACT_IN_PROGRESS: local->resolve_at = fleet_clock_now() + FLEET_MS(100); break;
    }
    return FLEET_JOB_NOTHING;
}

/* ---- effects, after the commit ---- */

/* What the protocol wanted stored is durable; what it wants now has its intent stored with it. */
static FleetJobDo
effect_stored(LocalJob *local)
{
    FleetState outcome = FLEET_FAILED;
    FleetExecDo what = fleet_exec_event(&local->exec, FLEET_EXEC_STORED, &outcome);

    if (what != FLEET_EXEC_SEND)
        return exec_do(local, what, outcome);
    local_job_send(local);
    return FLEET_JOB_NOTHING;
}

static FleetJobDo
effect_resolve(LocalJob *local)
{
    FLEET_POINT("step_before_resolve");
    if (local->link == NULL)
        return local_job_step_resolved(local, fleet_runner_resolve(local->exec.xid));
    local_job_request_begin(local);
    fleet_link_resolve(local->link->link, local->ref, local->exec.xid, local->step.backend_pid,
                       &local->then, fleet_clock_now() + FLEET_MS(fleet_guc_lost_after));
    return FLEET_JOB_NOTHING;
}

/* The step's own row is durable.  What is wrong with the package is the step's failure. */
static FleetJobDo
local_job_start_nested(LocalJob *local)
{
    FleetDiagnostics failure;

    FLEET_POINT("step_before_nested");
    local->nested = local_jobs.hooks->start_nested(local_job_step(local)->package, local->role,
                                                   local->params, 0, NULL, local, &failure);
    local->any_sent = true; /* from now on it is not placed elsewhere, whatever becomes of it */
    if (local->nested == NULL)
    {
        local_job_failure(local, &failure);
        return local_job_end_step(local, FLEET_FAILED);
    }
    local->step.state = FLEET_RUNNING;
    local_job_step_dirty(local, AGENT_LAZY);
    return local_job_machine(local, FLEET_JOB_STEP_RUNNING, fleet_clock_now());
}

FleetJobDo
local_job_effect(LocalJob *local)
{
    LocalJobEffect effect = local->effect;

    local->effect = LOCAL_JOB_EFFECT_NONE;
    if (local->finished)
        return FLEET_JOB_NOTHING;
    switch (effect)
    {
        case LOCAL_JOB_EFFECT_NONE: break;
        case LOCAL_JOB_EFFECT_SEND: local_job_send(local); break;
        case LOCAL_JOB_EFFECT_STORED: return effect_stored(local);
        case LOCAL_JOB_EFFECT_NESTED: return local_job_start_nested(local);
        case LOCAL_JOB_EFFECT_RESOLVE: return effect_resolve(local);
    }
    return FLEET_JOB_NOTHING;
}
