/*
 * agent/local_job_link.c
 *     What a link of mode direct tells its local jobs: nothing of what was cut
 *     off runs any longer, the server does not answer, or it refuses us.  In
 *     the agent's process.
 *
 * Those that wait for a session on a server that does not answer, and surely
 * never started there, go back to the engine, which places their task runs
 * elsewhere.
 */
#include "postgres.h"

#include "agent/local_job_internal.h"
#include "miscadmin.h"

/* Its task run leaves it.  Numbers of the log that have no row are used again. */
static AgentTask *
let_go(LocalJob *local)
{
    AgentTask *task = local->task;

    local_job_stop_waiting(local);
    if (local->step.inserted)
        agent_task_log_used(task, local->log_seq);
    agent_task_set_local(task, NULL);
    local->task = NULL;
    local->step.dirty = false;
    local->finished = true;
    local_job_dirty(local);
    return task;
}

static void
end_row(LocalJob *local, FleetState state, const char *sqlstate, const char *message)
{
    local->exec.phase = FLEET_EXEC_ENDED;
    local_job_error(local, sqlstate, message);
    local_job_close_step(local, state);
}

/*
 * The step run that was to begin there may have a row already: one that does
 * not fit a transaction has it before it is sent.  It ends as skipped, and its
 * numbers in the log are used up: the next attempt, on whatever kind of
 * server, continues from there.
 */
void
local_jobs_link_lost(AgentLink *link)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &link->waiting)
    {
        LocalJob *local = dlist_container(LocalJob, wait_node, iter.cur);
        AgentTask *task = local->task;

        if (local->any_sent || task == NULL)
            continue;
        if (local->step.inserted)
            end_row(local, FLEET_SKIPPED, FLEET_SQLSTATE_CONNECTION_FAILURE,
                    "the step never began: the server does not answer");
        (void) let_go(local);
        agent_task_not_started(task);
        turn_again();
    }
}

void
local_jobs_link_refused(AgentLink *link, const char *sqlstate, const char *reason)
{
    while (!dlist_is_empty(&link->waiting))
    {
        LocalJob *local = dlist_container(LocalJob, wait_node, dlist_head_node(&link->waiting));

        local_job_stop_waiting(local);
        if (local->task == NULL)
            continue;
        end_row(local, FLEET_FAILED, sqlstate, reason);
        (void) agent_task_fail_told(let_go(local), sqlstate, reason);
    }
}

void
local_jobs_link_given_up(AgentLink *link)
{
    dlist_iter iter;

    dlist_foreach(iter, &local_jobs.all)
    {
        LocalJob *local = dlist_container(LocalJob, node, iter.cur);

        if (local->link != link || local->finished || local->task == NULL)
            continue;
        local_job_in_hand(local, "work_timer");
        agent_task_finished(local->task, FLEET_LOST);
    }
}

static bool
is_being_stopped(const LocalJob *local)
{
    return local->exec.stopping || (local->task != NULL && local->task->state == FLEET_CANCELING);
}

/* Those that wait to hear that nothing of them runs any more go on. */
static void
go_on(AgentLink *link, bool stopped_ones)
{
    dlist_head locals = DLIST_STATIC_INIT(locals);

    while (!dlist_is_empty(&link->unclean))
        dlist_push_tail(&locals, dlist_pop_head_node(&link->unclean));
    while (!dlist_is_empty(&locals))
    {
        LocalJob *local = dlist_container(LocalJob, wait_node, dlist_head_node(&locals));

        if (!stopped_ones && is_being_stopped(local))
        {
            dlist_push_tail(&link->unclean, dlist_pop_head_node(&locals));
            continue;
        }
        local_job_stop_waiting(local);
        local->cut_off = false;
        if (local->exec.in_flight)
            local_job_advance(local, local_job_exec_event(local, FLEET_EXEC_CUT));
        else
            local_job_advance(local, local_job_stop_step(local));
        turn_again();
    }
}

void
local_jobs_link_clean(AgentLink *link)
{
    go_on(link, true);
}

/* "canceled" is not said on trust: who refuses us may still execute it. */
void
local_jobs_link_untold(AgentLink *link)
{
    go_on(link, false);
}

bool
local_jobs_use_link(AgentLink *link)
{
    dlist_iter iter;

    dlist_foreach(iter, &local_jobs.all)
    {
        LocalJob *local = dlist_container(LocalJob, node, iter.cur);

        if (local->link == link && !local->finished)
            return true;
    }
    return false;
}

AgentLink *
local_job_link(const LocalJob *local)
{
    return local->link;
}
