/*
 * agent/local_job_stop.c
 *     How the present step of a local job is stopped, and what follows when it
 *     was cut off.  In the agent's process.
 *
 * "canceled" means that nothing of it runs any more.  A step in flight is told
 * to stop, and its own end is awaited.  What was cut off on a direct server
 * (the connection broke, or our predecessor ended) has an end of its own: its
 * session lives on there until the server notices.  So a local job that was cut off
 * and is to end, or to be done again, waits in its link's list "unclean" until
 * the server has said that none of those sessions is left.  Without an answer,
 * or with a refusal, it is lost in the end, as everything is that a server does
 * not tell of.
 */
#include "postgres.h"

#include "agent/local_job_internal.h"
/* True: it waits; local_jobs_link_clean() continues with it. */
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

FleetJobDo
local_job_cut(LocalJob *local)
{
    bool stopping =
        local->exec.stopping || (local->task != NULL && local->task->state == FLEET_CANCELING);
    /* What is not transactional is not done again: that its end is unknown can be said at once. */
    bool waits = local->exec.phase == FLEET_EXEC_INTENT ||
                 (local->exec.phase == FLEET_EXEC_OPEN && stopping);

    if (waits && wait_until_clean(local))
    {
        local->exec.in_flight = true; /* over there, for all we know */
        return FLEET_JOB_NOTHING;
    }
    return local_job_exec_event(local, FLEET_EXEC_CUT);
}

FleetJobDo
local_job_stop_step(LocalJob *local)
{
    if (local->nested_expected)
        return FLEET_JOB_NOTHING; /* local_jobs_recovered() stops it, when it knows what there is to stop */
    if (local->nested != NULL)
    {
        agent_run_cancel(local->nested->run_id);
        return FLEET_JOB_NOTHING;
    }
    if (local->effect == LOCAL_JOB_EFFECT_NESTED)
    {
        local->effect = LOCAL_JOB_EFFECT_NONE;
        return local_job_end_step(local, FLEET_CANCELED);
    }
    /* not under way from here, but what was cut off may be */
    if (local->executor == NULL && local->exec.phase != FLEET_EXEC_PREPARED &&
        wait_until_clean(local))
        return FLEET_JOB_NOTHING;
    if (local->waiting || local->effect == LOCAL_JOB_EFFECT_SEND)
    {
        /* not sent: there is nothing to stop */
        local_job_stop_waiting(local);
        local->effect = LOCAL_JOB_EFFECT_NONE;
        local->exec.in_flight = false;
        if (local->exec.phase == FLEET_EXEC_OPEN)
            return local_job_end_step(local, FLEET_CANCELED);
    }
    return local_job_exec_event(local, FLEET_EXEC_CANCEL);
}
