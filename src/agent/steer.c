/*
 * agent/steer.c
 *     What sessions ask of runs that go on, told to the engine: what is to be
 *     left out, what is to be started once more (core/engine/steer.c).  In the
 *     agent's process.
 *
 * A skip is read whenever its run is loaded, and stays.  A retry has its effect
 * once: its row goes in the transaction in which the states change.
 */
#include "postgres.h"

#include "agent/steer.h"
#include "agent/base.h"
#include "agent/pause.h"
#include "agent/query.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/task.h"
#include "hand.h"
#include "store/condition.h"
#include "store/steer.h"

static bool retry_waits;

/* ---- skip ---- */

/* All of the run's: who asks for one twice gets what was said first. */
static void
skips_read(AgentRun *run)
{
    FleetSkipRow *rows;
    int n = fleet_skip_read(run->run_id, &rows);

    agent_run_skips(run, rows, n);
}

void
agent_steer_load(AgentRun *run)
{
    skips_read(run);
    for (int i = 0; i < run->nskips; i++)
        fleet_engine_load_skip(agent.engine,
                               (FleetTaskRef){run->handle, run->skips[i].task, run->skips[i].item});
}

void
agent_steer_skip(int64 run_id)
{
    AgentRun *run = agent_run_find(run_id);

    if (run == NULL)
        return;
    fleet_hand_take(FLEET_HAND_RUN, run_id, "work_steer");
    skips_read(run);
    for (int i = 0; i < run->nskips; i++)
    {
        FleetTaskRef ref = {run->handle, run->skips[i].task, run->skips[i].item};

        if (fleet_engine_skip(agent.engine, ref, fleet_clock_now()) && ref.item == 0 &&
            FLEET_STATE_IS_FINAL(fleet_engine_task_state(agent.engine, ref)))
            agent_queries_leave(run, ref.task);
    }
    turn_again();
}

/* ---- retry ---- */

/* Its last end has a row, and nothing of it is in memory any more. */
static bool
at_rest(AgentRun *run, uint32 task)
{
    dlist_iter iter;

    if (fleet_engine_run_behind(agent.engine, run->handle))
        return false;
    dlist_foreach(iter, &run->tasks)
    {
        AgentTask *other = dlist_container(AgentTask, run_node, iter.cur);

        if (other->ref.task == task && other->over)
            return false;
    }
    return true;
}

static void
start_once_more(AgentRun *run, const FleetRetryRow *request)
{
    FleetTaskRef ref = {run->handle, request->task, request->item};
    FleetTaskRow *rows;
    int n = fleet_retry_tasks(request, &rows);

    agent_queries_tidy(run);
    if (!fleet_engine_retry(agent.engine, ref, fleet_clock_now()))
        return; /* it has ended otherwise meanwhile */
    agent_queries_tidy(run);
    agent_run_once_more(run, ref.task);
    fleet_condition_forget(run->run_id, ref.task);
    fleet_retry_requeue(request);
    for (int i = 0; i < n; i++)
    {
        ref.item = rows[i].item;
        agent_task_recovered(agent_task_load(run, ref, &rows[i]));
    }
}

void
agent_steer_retry(void)
{
    FleetRetryRow *rows;
    int n = fleet_retry_read(&rows);

    retry_waits = false;
    for (int i = 0; i < n; i++)
    {
        AgentRun *run = agent_run_find(rows[i].run_id);

        fleet_hand_take(FLEET_HAND_RUN, rows[i].run_id, "work_steer");
        if (run != NULL && !at_rest(run, rows[i].task))
        {
            retry_waits = true;
            continue;
        }
        if (run != NULL && rows[i].task < run->def->ntasks)
            start_once_more(run, &rows[i]);
        fleet_retry_done(rows[i].request_id);
    }
    fleet_hand_empty();
    turn_again();
}

bool
agent_steer_retry_waits(void)
{
    return retry_waits;
}

/* ---- pause ---- */

void
agent_steer_pause_run(AgentRun *run)
{
    fleet_engine_pause(agent.engine, run->handle, agent_pause_of_run(run), fleet_clock_now());
}

void
agent_steer_pause(void)
{
    agent_pauses_read();
    agent_servers_pause();
    agent_runs_each(agent_steer_pause_run);
    turn_again();
}
