/*
 * agent/local_job_executor.c
 *     Who executes the steps of a local job: a runner here, or a session of its
 *     link of mode direct.  In the agent's process.
 *
 * A local job keeps its executor from its first step to its last, so that a
 * job is one session; another role (run_as) gets an executor of its own, and a
 * step that runs a package, which takes time and other executors, ends the
 * session.  Where none is free the local job waits in a list: its link's, or
 * the one for runners.
 */
#include "postgres.h"

#include "agent/local_job_internal.h"
#include "agent/quota.h"
#include "miscadmin.h"
#include "points.h"

void
local_job_request_begin(LocalJob *local)
{
    local_job_request_end(local);
    local->ref = agent_request_new(REQUEST_LOCAL_JOB, local);
}

void
local_job_request_end(LocalJob *local)
{
    if (local->ref != 0)
        agent_request_forget(local->ref);
    local->ref = 0;
}

void
local_job_stop_waiting(LocalJob *local)
{
    if (local->waiting)
        dlist_delete(&local->wait_node);
    local->waiting = local->unstored = false;
    local_job_waits(local, NULL);
}

void
local_job_release_executor(LocalJob *local)
{
    FleetExecutor *executor = local->executor;

    local_job_request_end(local);
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

/* What a parent starts here has the slots that it was given, and no quota. */
static FleetExecutor *
runner_get(const LocalJob *local, const char **why)
{
    const char *sqlstate;

    return local->parent_uuid != NULL ? fleet_runner_get(local->role, &sqlstate, why)
                                      : agent_quota_runner(local->role, &sqlstate, why);
}

/* Only its role has to wait: others may get a runner. */
static bool
role_waits(const LocalJob *local)
{
    return local->parent_uuid == NULL && agent_quota_full(local->role);
}

static bool
acquire_executor(LocalJob *local)
{
    const char *why = NULL;

    if (local->executor != NULL && local->executor_role == local->role)
        return true;
    local_job_release_executor(local);
    if (local->link != NULL)
        local->executor = fleet_link_session(local->link->link);
    else
        local->executor = runner_get(local, &why);
    if (local->executor == NULL)
    {
        if (!local->waiting)
            dlist_push_tail(local->link != NULL ? &local->link->waiting
                                                : &local_jobs.runner_waiting,
                            &local->wait_node);
        local->waiting = true;
        local_job_waits(local, why);
        return false;
    }
    local->executor_role = local->role;
    local->executor->owner = local;
    local->fresh = !local->executor->clean;
    local->executor->clean = false;
    return true;
}

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

bool
local_job_runner_first(LocalJob *local)
{
    if (local->link != NULL || acquire_executor(local))
        return true;
    local->unstored = true;
    return false;
}

void
local_job_send(LocalJob *local)
{
    const FleetStepDef *step = local_job_step(local);
    FleetStepRequest request = {0};

    bool unstored = local->unstored;

    local_job_in_hand(local, "work_send");
    if (!acquire_executor(local))
        return;
    local_job_stop_waiting(local);
    if (unstored)
    {
        local_job_store(local);
        return;
    }
    if (!local->step.inserted)
        local_job_step_dirty(local, AGENT_LAZY);
    if (local->link != NULL)
        local->then = *fleet_link_session_identity(local->executor);
    local->leaving = false;
    local_job_request_begin(local);
    request.kind = FLEET_REQUEST_STEP;
    request.ref = local->ref;
    request.command = step->command;
    request.params = local->params;
    request.context = local->given;
    request.hook_depth = local->hook_depth;
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

void
local_job_commit(LocalJob *local)
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

void
local_jobs_runners(void)
{
    Oid full = InvalidOid; /* this role has all that it may: thousands of its jobs may wait */
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &local_jobs.runner_waiting)
    {
        LocalJob *local = dlist_container(LocalJob, wait_node, iter.cur);

        if (local->role == full && local->parent_uuid == NULL)
            continue;
        if (!role_waits(local))
            local_job_send(local);
        if (!local->waiting)
            continue;
        /* nothing is given back as long as nothing ends; slots of others may get free */
        turn_wake_at(fleet_clock_now() + FLEET_SECONDS(1));
        if (!role_waits(local))
            break;
        full = local->role;
    }
    fleet_hand_empty();
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
