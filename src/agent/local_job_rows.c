/*
 * agent/local_job_rows.c
 *     Rows of units: the present step run, the job run; what is due at a flush.
 *     In the agent's process.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "store/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Puts the present step run's row into the batch, as it is now. */
void
agent_unit_write_step(AgentUnit *unit)
{
    FleetStepWrite w = {0};

    w.run_id = unit->run_id;
    w.job_run_id = unit->job_run_id;
    w.task = unit->task_no;
    w.item = unit->item;
    w.task_attempt = unit->task_attempt;
    w.step_no = unit->job.step + 1;
    w.attempt = unit->job.attempt;
    w.state = unit->step.state;
    w.phase = unit->exec.phase;
    w.first_seq = unit->step.first_seq;
    w.last_seq = unit->step.last_seq;
    w.server_id = unit->link != NULL ? unit->link->server->server_id : 0;
    w.backend_pid = unit->step.backend_pid;
    w.xid = unit->exec.xid;
    if (unit->link != NULL && unit->exec.xid != 0)
    {
        w.server_system = unit->then.identifier_known ? unit->then.system_identifier : 0;
        w.server_timeline = unit->then.timeline;
        w.server_crash = unit->then.crash_mark;
    }
    w.row_count = unit->step.result.row_count;
    w.started_at = unit->step.started_at;
    w.finished_at = unit->step.finished_at;
    w.step = agent_unit_step(unit)->name;
    w.sqlstate = unit->step.result.sqlstate;
    w.message = unit->step.result.message;
    w.detail = unit->step.result.detail;
    w.hint = unit->step.result.hint;
    w.context = unit->step.result.context;
    w.output = unit->step.result.output;
    if (unit->step.inserted)
        fleet_step_write(&w);
    else
        fleet_step_write_new(&w);
    unit->step.inserted = true;
    unit->step.dirty = false;
    /* A job run with a step is not queued any more, in the same transaction: recovery relies on it. */
    if (unit->durable == FLEET_QUEUED && unit->job_run_id != 0)
    {
        unit->job_dirty = true;
        agent_unit_dirty(unit);
    }
}

static void
job_run_write(AgentUnit *unit)
{
    FleetJobRunWrite w = {0};

    if (unit->job.state == unit->durable)
        return;
    w.job_run_id = unit->job_run_id;
    w.old = unit->durable;
    w.state = unit->job.state;
    w.started_at = unit->started_at;
    w.row_count = -1;
    w.log_seq = unit->log_seq;
    if (FLEET_STATE_IS_FINAL(unit->job.state))
    {
        w.finished_at = fleet_clock_wall();
        w.row_count = unit->result.row_count;
        w.sqlstate = unit->result.sqlstate;
        w.message = unit->result.message;
        w.output = unit->result.output;
    }
    fleet_job_run_write(&w);
    unit->durable = unit->job.state;
    agent_unit_report(unit);
}

/* Called by the flush: rows of this unit that are due.  Returns false if something was kept back
 * (the unit stays in the list of dirty ones). */
bool
agent_unit_write(AgentUnit *unit, FleetTime now)
{
    bool keep = false;

    if (unit->step.dirty)
    {
        if (unit->step.lazy_until <= now)
        {
            agent_unit_write_step(unit);
            agent_unit_report(unit);
        }
        else
        {
            keep = true;
            agent.lazy_wakeup = Min(agent.lazy_wakeup, unit->step.lazy_until);
        }
    }
    if (unit->job_run_id != 0 && unit->job_dirty)
    {
        if (keep && !unit->finished)
            return false; /* «running» goes with its step's row */
        job_run_write(unit);
        unit->job_dirty = false;
    }
    return !keep;
}

void
agent_unit_report(AgentUnit *unit)
{
    if (unit->parent_uuid != NULL)
        agent_notice(unit->parent_uuid, unit->job_run_id);
    if (unit->task != NULL)
        agent_run_changed(unit->task->run);
}
