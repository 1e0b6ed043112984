/*
 * agent/retire.c
 *     What has ended, and whose end is durable, is taken out of everything that
 *     names it, and freed.  In the agent's process.
 */
#include "postgres.h"

#include "agent/retire.h"
#include "agent/late.h"
#include "agent/local_job.h"
#include "agent/query.h"
#include "agent/remote.h"
#include "agent/run.h"
#include "agent/steer.h"
#include "agent/task.h"
#include "hand.h"

static void
task_retire(AgentTask *task)
{
    if (task->linked)
        agent_remote_leave(task);
    if (task->local != NULL)
        local_job_task_gone(task->local);
    if (task->nested != NULL)
    {
        agent_run_set_parent_task(task->nested, NULL);
        agent_steer_pause_run(task->nested); /* it is a part of nothing any more */
    }
    agent_task_free(task);
}

void
agent_run_retire(AgentRun *run)
{
    dlist_mutable_iter iter;

    agent_queries_forget(run);
    agent_late_forget(run);
    dlist_foreach_modify(iter, &run->tasks)
        task_retire(dlist_container(AgentTask, run_node, iter.cur));
    agent_run_free(run);
}

void
agent_retire(dlist_head *tasks, dlist_head *locals, dlist_head *runs)
{
    local_jobs_free(locals);
    while (!dlist_is_empty(tasks))
    {
        AgentTask *task = dlist_container(AgentTask, dirty_node, dlist_pop_head_node(tasks));

        fleet_hand_take(FLEET_HAND_RUN, task->run->run_id, "work_retire");
        if (task->acknowledge && task->link != NULL)
            agent_remote_acknowledge(task);
        task_retire(task);
    }
    while (!dlist_is_empty(runs))
        agent_run_retire(dlist_container(AgentRun, dirty_node, dlist_pop_head_node(runs)));
    fleet_hand_empty();
}
