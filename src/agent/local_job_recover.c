/*
 * agent/local_job_recover.c
 *     Local jobs after a restart of the agent: what is durable of each is taken up,
 *     runners that outlived our predecessor are adopted.  In the agent's process.
 */
#include "postgres.h"

#include "agent/local_job_internal.h"
#include "store/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* A runner that has this attempt in hand outlived the agent that gave it, and continues.  What
 * it said since the last commit is still to come. */
static bool
adopt_runner(LocalJob *local)
{
    FleetStepKey key = local_job_step_key(local);
    bool prepared = local->exec.phase == FLEET_EXEC_PREPARED;

    if (local->link != NULL)
        return false;
    local_job_request_begin(local);
    local->executor =
        fleet_runner_adopt(&key, local->exec.transactional, prepared ? local->exec.xid : 0,
                           local->log_seq, local->ref, &local->role);
    if (local->executor == NULL)
    {
        local_job_request_end(local);
        return false;
    }
    local->executor_role = local->role;
    local->executor->owner = local;
    local->exec.in_flight = true;
    if (prepared) /* the last agent may have sent COMMIT, or not */
        (void) local_job_exec_event(local, FLEET_EXEC_STORED); /* no step ends with it */
    return true;
}

/* The step is under way: its timeout counts from its start. */
static void
resume_step(LocalJob *local)
{
    local->step.state = FLEET_RUNNING;
    local_job_step_dirty(local, AGENT_LAZY);
    local_job_advance(local, local_job_machine(local, FLEET_JOB_STEP_RUNNING,
                                               fleet_clock_from_wall(local->step.started_at)));
}

/* What is durable of the newest step run. */
static void
load_step(LocalJob *local, const FleetStepRow *row)
{
    local->any_sent = true;
    local->log_seq = row->max_seq;
    local->job.state = FLEET_RUNNING;
    local->job.step = (uint16) (row->step_no - 1);
    local->job.attempt = (uint16) row->attempt;
    local->job.step_runs = (uint32) row->step_runs;
    local->job.step_state = FLEET_STARTING;
    local->step.first_seq = row->first_seq;
    local->step.state = FLEET_STARTING;
    local->step.started_at = row->started_at;
    local->step.backend_pid = row->backend_pid;
    local->step.inserted = true;
    local->step.durable = row->state;
    local->step.result.row_count = row->row_count;
    local->step.result.output = agent_strdup(local->context, row->output);
    local->started_at = row->started_at;
    local->exec.phase = (FleetExecPhase) row->phase;
    local->exec.transactional = row->phase != FLEET_EXEC_OPEN;
    local->exec.xid = row->xid;
    local->then.system_identifier = row->server_system;
    local->then.identifier_known = row->server_system != 0;
    local->then.timeline = row->server_timeline;
    strlcpy(local->then.crash_mark, row->server_crash != NULL ? row->server_crash : "",
            sizeof(local->then.crash_mark));
}

void
local_job_recover(LocalJob *local, const FleetStepRow *row)
{
    if (row == NULL || row->step_no > local->def->nsteps)
    {
        local_job_begin(local);
        return;
    }
    load_step(local, row);
    if (FLEET_STATE_IS_FINAL(row->state))
    {
        /* The step had ended; what follows it had not begun. */
        local->step.last_seq = row->max_seq;
        local->result.diag.sqlstate = agent_strdup(local->context, row->sqlstate);
        local_job_advance(local, local_job_step_ended(local, row->state, row->sqlstate));
        return;
    }
    if (local_job_step(local)->package != NULL)
    {
        local->nested_expected = true; /* local_jobs_recovered() looks for it */
        return;
    }
    if (adopt_runner(local))
    {
        if (local->step.backend_pid != 0 && local->job.step_state == FLEET_STARTING)
            resume_step(local);
        return;
    }
    if (local->exec.phase == FLEET_EXEC_OPEN)
        local_job_error(local, FLEET_SQLSTATE_CONNECTION_FAILURE,
                        "the agent was interrupted while a step ran that is not transactional");
    local->cut_off = true;
    local_job_advance(local, local_job_cut(local));
}

/* The run of a package step after a restart, which was not among those that are open. */
static void
recover_step_package(LocalJob *local)
{
    FleetState state;
    char *message;
    bool timed_out;
    char uuid[37];

    local_job_nested_uuid(local, uuid);
    state = fleet_run_nested_state(uuid, &message, &timed_out);
    if (FLEET_STATE_IS_FINAL(state))
    {
        local_job_nested_ended(local, state, timed_out, message);
        return;
    }
    if (state != 0)
        return; /* it is in quarantine, and left alone */
    /* it was to be started and never was */
    local_job_wants_effect(local, LOCAL_JOB_EFFECT_NESTED);
}

void
local_jobs_recovered(void)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &local_jobs.all)
    {
        LocalJob *local = dlist_container(LocalJob, node, iter.cur);

        if (!local->nested_expected)
            continue;
        local->nested_expected = false;
        local_job_in_hand(local, "work_recover_job");
        if (local->nested == NULL)
            recover_step_package(local);
        else
            resume_step(local);
        if (!local->finished && local->job.step_state == FLEET_CANCELING)
            local_job_advance(local, local_job_stop_step(local));
    }
}
