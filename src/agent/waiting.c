/*
 * agent/waiting.c
 *     What nothing of is placed, because the run may use no server of the group
 *     (target.c): the task's row says so.  In the agent's process.
 */
#include "postgres.h"

#include "agent/waiting.h"
#include "agent/run.h"
#include "agent/target.h"
#include "agent/task.h"
#include "hand.h"
#include "store/run_write.h"

/* Its row, which is not that of a task run that has begun: of a for_each, that of the whole. */
static void
row_tell(AgentRun *run, uint32 task, const char *why)
{
    FleetState state = (FleetState) run->task_durable[task];
    FleetTaskWrite w = {.run_id = run->run_id,
                        .task = task,
                        .old = state,
                        .state = state,
                        .row_count = -1,
                        .diag = {.message = why}};

    if (agent_run_row_written(run, task, state))
        fleet_run_flush(); /* the batch takes one change of a row */
    fleet_task_write(&w);
    agent_run_changed(run);
}

static void
run_tell(AgentRun *run)
{
    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        if (run->def->specs[t].kind != FLEET_TASK_JOB ||
            FLEET_STATE_IS_FINAL((FleetState) run->task_durable[t]) ||
            agent_task_find((FleetTaskRef){run->handle, t, 0}) != NULL)
            continue;
        fleet_hand_take(FLEET_HAND_RUN, run->run_id, "work_decide");
        if (agent_run_hindered(run, t,
                               agent_target_hindrance(fleet_graph_task(run->graph, t)->target)))
            row_tell(run, t, run->hindered[t]);
    }
}

void
agent_waiting_tell(void)
{
    if (!agent_targets_hindered())
        return;
    agent_runs_each(run_tell);
    fleet_hand_empty();
}
