/*
 * agent/local_job_move.c
 *     Units that wait for a session on a server that does not answer: those
 *     that surely never started there go back to the engine, which places
 *     their task runs elsewhere.  In the agent's process.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "miscadmin.h"

/* Its task run is not its own any more.  Numbers of the log that have no row are used again. */
static AgentTask *
let_go(AgentUnit *unit)
{
    AgentTask *task = unit->task;

    agent_unit_stop_waiting(unit);
    if (unit->step.inserted)
        task->log_seq = unit->log_seq;
    task->unit = NULL;
    unit->task = NULL;
    unit->step.dirty = false;
    unit->finished = true;
    agent_unit_dirty(unit);
    return task;
}

static void
end_row(AgentUnit *unit, FleetState state, const char *sqlstate, const char *message)
{
    unit->step.state = state;
    unit->step.finished_at = fleet_clock_wall();
    unit->step.last_seq = ++unit->log_seq;
    unit->exec.phase = FLEET_EXEC_ENDED;
    agent_unit_error(unit, sqlstate, message);
    agent_unit_write_step(unit);
}

/*
 * The step run that was to begin there may have a row already: one that does
 * not fit a transaction has it before it is sent.  It ends as skipped, and its
 * numbers in the log are used up: the next attempt, on whatever kind of
 * server, counts on from there.
 */
void
agent_link_units_lost(AgentLink *link)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &link->waiting)
    {
        AgentUnit *unit = dlist_container(AgentUnit, wait_node, iter.cur);
        AgentTask *task = unit->task;

        if (unit->any_sent || task == NULL)
            continue;
        if (unit->step.inserted)
            end_row(unit, FLEET_SKIPPED, "08006", "it never began: the server does not answer");
        (void) let_go(unit);
        (void) fleet_engine_not_started(agent.engine, task->ref, task->attempt, fleet_clock_now());
        agent.again = true;
    }
}

/* The server is there and refuses us for good: what waits for a session fails with the reason. */
void
agent_link_units_refused(AgentLink *link, const char *sqlstate, const char *reason)
{
    while (!dlist_is_empty(&link->waiting))
    {
        AgentUnit *unit = dlist_container(AgentUnit, wait_node, dlist_head_node(&link->waiting));

        agent_unit_stop_waiting(unit);
        if (unit->task == NULL)
            continue;
        end_row(unit, FLEET_FAILED, sqlstate, reason);
        (void) agent_task_fail_told(let_go(unit), sqlstate, reason);
    }
}
