/*
 * agent/local_job_stop.c
 *     How a unit is stopped.  In the agent's process.
 *
 * "canceled" means that nothing of it runs any more.  A step in flight is told
 * to stop, and its own end is awaited.  What was cut off on a direct server
 * (the connection broke, or our predecessor ended) has an end of its own: its
 * session lives on there until the server notices.  So a unit that was cut off
 * and is to end, or to be done again, waits in its link's list "unclean" until
 * the server has said that none of those sessions is left.  Without an answer
 * it is lost in the end, as everything is that a server does not tell of.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "miscadmin.h"

/* True: it waits; agent_link_clean() goes on with it. */
static bool
wait_until_clean(AgentUnit *unit)
{
    if (unit->link == NULL || !unit->cut_off || fleet_link_clean(unit->link->link))
        return false;
    agent_unit_stop_waiting(unit);
    unit->effect = UNIT_EFFECT_NONE;
    dlist_push_tail(&unit->link->unclean, &unit->wait_node);
    unit->waiting = true;
    return true;
}

void
agent_unit_cut(AgentUnit *unit)
{
    bool stopping =
        unit->exec.stopping || (unit->task != NULL && unit->task->state == FLEET_CANCELING);
    /* What is not transactional is not done again: that nobody knows its end can be said at once. */
    bool waits =
        unit->exec.phase == FLEET_EXEC_INTENT || (unit->exec.phase == FLEET_EXEC_OPEN && stopping);

    if (waits && wait_until_clean(unit))
    {
        unit->exec.in_flight = true; /* over there, for all we know */
        return;
    }
    agent_unit_exec_event(unit, FLEET_EXEC_CUT);
}

/* Nothing of what was cut off on that server runs any more. */
void
agent_link_clean(AgentLink *link)
{
    dlist_head units = DLIST_STATIC_INIT(units);

    while (!dlist_is_empty(&link->unclean))
        dlist_push_tail(&units, dlist_pop_head_node(&link->unclean));
    while (!dlist_is_empty(&units))
    {
        AgentUnit *unit = dlist_container(AgentUnit, wait_node, dlist_head_node(&units));

        agent_unit_stop_waiting(unit);
        unit->cut_off = false;
        if (unit->exec.in_flight)
            agent_unit_exec_event(unit, FLEET_EXEC_CUT);
        else
            agent_unit_stop_step(unit);
        agent.again = true;
    }
}

void
agent_unit_stop_step(AgentUnit *unit)
{
    if (unit->nested_expected)
        return; /* agent_units_recovered() stops it, when it knows what there is to stop */
    if (unit->nested != NULL)
    {
        agent_run_cancel(unit->nested->run_id);
        return;
    }
    if (unit->effect == UNIT_EFFECT_NESTED)
    {
        unit->effect = UNIT_EFFECT_NONE;
        agent_unit_end_step(unit, FLEET_CANCELED);
        return;
    }
    /* not under way from here, but what was cut off may be */
    if (unit->executor == NULL && unit->exec.phase != FLEET_EXEC_PREPARED && wait_until_clean(unit))
        return;
    if (unit->waiting || unit->effect == UNIT_EFFECT_SEND)
    {
        /* not sent: there is nothing to stop */
        agent_unit_stop_waiting(unit);
        unit->effect = UNIT_EFFECT_NONE;
        unit->exec.in_flight = false;
        if (unit->exec.phase == FLEET_EXEC_OPEN)
        {
            agent_unit_end_step(unit, FLEET_CANCELED);
            return;
        }
    }
    agent_unit_exec_event(unit, FLEET_EXEC_CANCEL);
}

void
agent_unit_cancel(AgentUnit *unit)
{
    unit->job_dirty = true;
    agent_unit_dirty(unit);
    agent_unit_job(unit, fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                         FLEET_JOB_CANCEL, FLEET_QUEUED, NULL, fleet_clock_now(),
                                         &agent.random));
}
