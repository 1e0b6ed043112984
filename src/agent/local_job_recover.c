/*
 * agent/local_job_recover.c
 *     Units after a restart of the agent: what is durable of each is taken up,
 *     runners that outlived our predecessor are adopted.  In the agent's process.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "store/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* A runner that has this attempt in hand outlived the agent that gave it: it goes on.  What it said
 * since the last commit is still to come. */
static bool
adopt_runner(AgentUnit *unit)
{
    FleetStepKey key = agent_unit_step_key(unit);
    bool prepared = unit->exec.phase == FLEET_EXEC_PREPARED;

    if (unit->link != NULL)
        return false;
    unit->ref = agent_request_new(REQUEST_UNIT, unit);
    unit->executor =
        fleet_runner_adopt(&key, unit->exec.transactional, prepared ? unit->exec.xid : 0,
                           unit->log_seq, unit->ref, &unit->role);
    if (unit->executor == NULL)
    {
        agent_request_forget(unit->ref);
        unit->ref = 0;
        return false;
    }
    unit->executor_role = unit->role;
    unit->executor->owner = unit;
    unit->exec.in_flight = true;
    if (prepared) /* the last agent may have sent COMMIT, or not */
        agent_unit_exec_event(unit, FLEET_EXEC_STORED);
    return true;
}

/* The step is under way: its timeout counts from its start. */
static void
resume_step(AgentUnit *unit)
{
    unit->step.state = FLEET_RUNNING;
    agent_unit_step_dirty(unit, AGENT_LAZY);
    agent_unit_job(unit,
                   fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                   FLEET_JOB_STEP_RUNNING, FLEET_QUEUED, NULL,
                                   fleet_clock_from_wall(unit->step.started_at), &agent.random));
}

/* Takes up what is durable: the newest step run of the unit (NULL: none yet). */
void
agent_unit_recover(AgentUnit *unit, const FleetStepRow *row)
{
    if (row == NULL || row->step_no > unit->def->nsteps)
    {
        agent_unit_begin(unit);
        return;
    }
    unit->any_sent = true;
    unit->log_seq = row->max_seq;
    unit->job.state = FLEET_RUNNING;
    unit->job.step = (uint16) (row->step_no - 1);
    unit->job.attempt = (uint16) row->attempt;
    unit->job.step_runs = (uint32) row->step_runs;
    unit->job.step_state = FLEET_STARTING;
    unit->step.first_seq = row->first_seq;
    unit->step.state = FLEET_STARTING;
    unit->step.started_at = row->started_at;
    unit->step.backend_pid = row->backend_pid;
    unit->step.inserted = true;
    unit->step.result.row_count = row->row_count;
    unit->step.result.output = agent_strdup(unit->context, row->output);
    unit->started_at = row->started_at;
    unit->exec.phase = (FleetExecPhase) row->phase;
    unit->exec.transactional = row->phase != FLEET_EXEC_OPEN;
    unit->exec.xid = row->xid;
    unit->then.system_identifier = row->server_system;
    unit->then.identifier_known = row->server_system != 0;
    unit->then.timeline = row->server_timeline;
    unit->then.crash_mark = row->server_crash;
    if (FLEET_STATE_IS_FINAL(row->state))
    {
        /* The step had ended; what follows it had not begun. */
        unit->step.last_seq = row->max_seq;
        unit->result.sqlstate = agent_strdup(unit->context, row->sqlstate);
        agent_unit_job(unit, fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                             FLEET_JOB_STEP_ENDED, row->state, row->sqlstate,
                                             fleet_clock_now(), &agent.random));
        return;
    }
    if (agent_unit_step(unit)->package != NULL)
    {
        unit->nested_expected = true; /* agent_units_recovered() looks for it */
        return;
    }
    if (adopt_runner(unit))
    {
        if (unit->step.backend_pid != 0 && unit->job.step_state == FLEET_STARTING)
            resume_step(unit);
        return;
    }
    if (unit->exec.phase == FLEET_EXEC_OPEN)
        agent_unit_error(unit, "08006",
                         "the agent was interrupted while a step ran that is not transactional");
    unit->cut_off = true;
    agent_unit_cut(unit);
}

/* The run of a package step after a restart, which was not among those that are open. */
static void
recover_step_package(AgentUnit *unit)
{
    FleetState state;
    char *message;
    char uuid[37];

    agent_nested_uuid(NULL, unit, uuid);
    state = fleet_run_nested_state(uuid, &message);
    if (FLEET_STATE_IS_FINAL(state))
    {
        agent_unit_nested_ended(unit, state, message);
        return;
    }
    /* it was to be started and never was */
    unit->effect = UNIT_EFFECT_NESTED;
    agent_unit_wants_effect(unit);
}

/* After all runs are loaded: package steps find their runs again, and stop what is canceled. */
void
agent_units_recovered(void)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &agent.units)
    {
        AgentUnit *unit = dlist_container(AgentUnit, node, iter.cur);

        if (!unit->nested_expected)
            continue;
        unit->nested_expected = false;
        if (unit->nested == NULL)
            recover_step_package(unit);
        else
            resume_step(unit);
        if (!unit->finished && unit->job.step_state == FLEET_CANCELING)
            agent_unit_stop_step(unit);
    }
}
