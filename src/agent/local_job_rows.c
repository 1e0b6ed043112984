/*
 * agent/local_job_rows.c
 *     Rows of local jobs: the present step run, the job run; what is due at a flush.
 *     In the agent's process.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "store/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Puts the present step run's row into the batch, as it is now. */
void
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
    w.sqlstate = local->step.result.sqlstate;
    w.message = local->step.result.message;
    w.detail = local->step.result.detail;
    w.hint = local->step.result.hint;
    w.context = local->step.result.context;
    w.output = local->step.result.output;
    if (local->step.inserted)
        fleet_step_write(&w);
    else
        fleet_step_write_new(&w);
    local->step.inserted = true;
    local->step.durable = local->step.state;
    local->step.dirty = false;
    /* A job run with a step is not queued any more, in the same transaction: recovery relies on it. */
    if (local->durable == FLEET_QUEUED && local->job_run_id != 0)
    {
        local->job_dirty = true;
        local_job_dirty(local);
    }
}

static void
job_run_write(LocalJob *local)
{
    FleetJobRunWrite w = {0};

    if (local->job.state == local->durable)
        return;
    w.job_run_id = local->job_run_id;
    w.old = local->durable;
    w.state = local->job.state;
    w.started_at = local->started_at;
    w.row_count = -1;
    w.log_seq = local->log_seq;
    if (FLEET_STATE_IS_FINAL(local->job.state))
    {
        w.finished_at = fleet_clock_wall();
        w.row_count = local->result.row_count;
        w.sqlstate = local->result.sqlstate;
        w.message = local->result.message;
        w.output = local->result.output;
    }
    fleet_job_run_write(&w);
    local->durable = local->job.state;
    local_job_report(local);
}

/* Called by the flush: rows of this local job that are due.  Returns false if something was kept back
 * (the local job stays in the list of dirty ones). */
bool
local_job_write(LocalJob *local, FleetTime now)
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
            return false; /* «running» goes with its step's row */
        job_run_write(local);
        local->job_dirty = false;
    }
    return !keep;
}

void
local_job_report(LocalJob *local)
{
    if (local->parent_uuid != NULL)
        agent_notice(local->parent_uuid, local->job_run_id);
    if (local->task != NULL)
        agent_run_changed(local->task->run);
}
