/*
 * agent/local_job_stop.c
 *     How a local job is stopped.  In the agent's process.
 *
 * "canceled" means that nothing of it runs any more.  A step in flight is told
 * to stop, and its own end is awaited.  What was cut off on a direct server
 * (the connection broke, or our predecessor ended) has an end of its own: its
 * session lives on there until the server notices.  So a local job that was cut off
 * and is to end, or to be done again, waits in its link's list "unclean" until
 * the server has said that none of those sessions is left.  Without an answer
 * it is lost in the end, as everything is that a server does not tell of.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "miscadmin.h"

/* True: it waits; local_jobs_link_clean() goes on with it. */
static bool
wait_until_clean(LocalJob *local)
{
    if (local->link == NULL || !local->cut_off || fleet_link_clean(local->link->link))
        return false;
    local_job_stop_waiting(local);
    local->effect = LOCAL_JOB_EFFECT_NONE;
    dlist_push_tail(&local->link->unclean, &local->wait_node);
    local->waiting = true;
    return true;
}

void
local_job_cut(LocalJob *local)
{
    bool stopping =
        local->exec.stopping || (local->task != NULL && local->task->state == FLEET_CANCELING);
    /* What is not transactional is not done again: that nobody knows its end can be said at once. */
    bool waits = local->exec.phase == FLEET_EXEC_INTENT ||
                 (local->exec.phase == FLEET_EXEC_OPEN && stopping);

    if (waits && wait_until_clean(local))
    {
        local->exec.in_flight = true; /* over there, for all we know */
        return;
    }
    local_job_exec_event(local, FLEET_EXEC_CUT);
}

/* Nothing of what was cut off on that server runs any more. */
void
local_jobs_link_clean(AgentLink *link)
{
    dlist_head locals = DLIST_STATIC_INIT(locals);

    while (!dlist_is_empty(&link->unclean))
        dlist_push_tail(&locals, dlist_pop_head_node(&link->unclean));
    while (!dlist_is_empty(&locals))
    {
        LocalJob *local = dlist_container(LocalJob, wait_node, dlist_head_node(&locals));

        local_job_stop_waiting(local);
        local->cut_off = false;
        if (local->exec.in_flight)
            local_job_exec_event(local, FLEET_EXEC_CUT);
        else
            local_job_stop_step(local);
        turn_again();
    }
}

void
local_job_stop_step(LocalJob *local)
{
    if (local->nested_expected)
        return; /* local_jobs_recovered() stops it, when it knows what there is to stop */
    if (local->nested != NULL)
    {
        agent_run_cancel(local->nested->run_id);
        return;
    }
    if (local->effect == LOCAL_JOB_EFFECT_NESTED)
    {
        local->effect = LOCAL_JOB_EFFECT_NONE;
        local_job_end_step(local, FLEET_CANCELED);
        return;
    }
    /* not under way from here, but what was cut off may be */
    if (local->executor == NULL && local->exec.phase != FLEET_EXEC_PREPARED &&
        wait_until_clean(local))
        return;
    if (local->waiting || local->effect == LOCAL_JOB_EFFECT_SEND)
    {
        /* not sent: there is nothing to stop */
        local_job_stop_waiting(local);
        local->effect = LOCAL_JOB_EFFECT_NONE;
        local->exec.in_flight = false;
        if (local->exec.phase == FLEET_EXEC_OPEN)
        {
            local_job_end_step(local, FLEET_CANCELED);
            return;
        }
    }
    local_job_exec_event(local, FLEET_EXEC_CANCEL);
}

void
local_job_cancel(LocalJob *local)
{
    local->job_dirty = true;
    local_job_dirty(local);
    local_job_machine(local, fleet_job_event(local->def->specs, local->def->nsteps, &local->job,
                                             FLEET_JOB_CANCEL, FLEET_QUEUED, NULL,
                                             fleet_clock_now(), &agent.random));
}
