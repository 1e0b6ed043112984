/*
 * agent/effect.c
 *     What follows from decisions, AFTER the commit that made them durable:
 *     starts and cancels go out, sessions that wait are told.  In the agent's
 *     process.
 */
#include "postgres.h"

#include "agent/effect.h"
#include "agent/load.h"
#include "agent/local_job.h"
#include "agent/remote.h"
#include "agent/run.h"
#include "agent/task.h"
#include "hand.h"
#include "points.h"

#define NESTED_SLICE 64 /* nested runs that are begun in one turn: each is loaded, and stored */

/* ---- task runs ---- */

static void
start_nested(AgentTask *task)
{
    AgentRun *run = task->run;
    FleetDiagnostics failure;

    FLEET_POINT("task_before_nested");
    agent_task_set_nested(task,
                          agent_run_nested(run->def->tasks[task->ref.task].package, run->owner,
                                           task->params, run->priority, task, NULL, &failure));
    if (task->nested == NULL)
        agent_task_fail(task, failure.sqlstate, failure.message);
    else
        (void) fleet_engine_accepted(agent.engine, task->ref, task->attempt, fleet_clock_now());
}

static void
start_task(AgentTask *task)
{
    AgentRun *run = task->run;
    const FleetTaskDef *def = &run->def->tasks[task->ref.task];

    if (task->error != NULL)
    {
        FLEET_POINT("task_cannot_start");
        agent_task_fail(task, task->error_state, task->error);
        return;
    }
    switch (run->def->specs[task->ref.task].kind)
    {
        case FLEET_TASK_PACKAGE: start_nested(task); break;
        case FLEET_TASK_SQL: local_job_begin(local_job_for_task(task, def->job_def, NULL)); break;
        case FLEET_TASK_JOB:
            if (task->server->agent_mode)
                agent_remote_start(task);
            else
                local_job_begin(local_job_for_task(task, def->job_def, task->link));
            break;
    }
}

static bool
starts_nested(const AgentTask *task)
{
    return task->error == NULL && !task->over &&
           task->run->def->specs[task->ref.task].kind == FLEET_TASK_PACKAGE;
}

static void
cancel_task(AgentTask *task)
{
    if (task->local != NULL)
        local_job_cancel(task->local);
    else if (task->nested != NULL && task->run->cancel_final)
        agent_run_cancel_all(task->nested->run_id);
    else if (task->nested != NULL)
        agent_run_cancel(task->nested->run_id);
    else if (task->linked)
        agent_remote_cancel(task);
    else
        /* its start was not carried out: nothing to stop */
        agent_task_finished(task, FLEET_CANCELED);
}

static void
task_effect(AgentTask *task, bool start, bool cancel)
{
    if (start && !cancel && !task->over)
        start_task(task);
    if (cancel && !task->over)
        cancel_task(task);
}

/* ---- the turn ---- */

static void
carry_out(void)
{
    dlist_head tasks = DLIST_STATIC_INIT(tasks);
    AgentTask *task;
    bool start, cancel;
    int nested = 0;

    /* An effect may ask for another one: that is the next turn's. */
    agent_task_effects_take(&tasks);
    local_jobs_effects();
    while ((task = agent_task_effects_next(&tasks, &start, &cancel)) != NULL)
    {
        if (start && !cancel && starts_nested(task) && ++nested > NESTED_SLICE)
        {
            agent_task_start_again(task); /* the next turn's: others have one in between */
            continue;
        }
        fleet_hand_take(FLEET_HAND_RUN, task->run->run_id, "work_effect");
        task_effect(task, start, cancel);
    }
    fleet_hand_empty();
}

static void
tell_waiters(void)
{
    AgentRun *run;

    agent_runs_refused_tell();
    while ((run = agent_run_next_changed()) != NULL)
        fleet_shared_run_changed(agent.shared, run->run_id, FLEET_STATE_IS_FINAL(run->durable));
}

void
agent_effects(void)
{
    tell_waiters();
    turn_effects_begin();
    carry_out();
    turn_effects_end();
}
