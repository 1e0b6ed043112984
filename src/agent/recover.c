/*
 * agent/recover.c
 *     Runs after a restart of the agent: task runs that were under way are
 *     re-attached to what executes them.  In the agent's process.
 */
#include "postgres.h"

#include "agent/recover.h"
#include "agent/given.h"
#include "agent/learn.h"
#include "agent/local_job.h"
#include "agent/remote.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/task.h"
#include "store/nested.h"
#include "store/spi.h"
#include "hand.h"
#include "miscadmin.h"
#include "utils/memutils.h"

static void
recover_local(AgentTask *task, const FleetStepRow *steps, int n)
{
    const FleetTaskDef *def = &task->run->def->tasks[task->ref.task];
    FleetJobDef *job = def->job_def;
    const FleetStepRow *row = NULL;
    const char *sqlstate;
    const char *refused;
    AgentLink *link = NULL;
    LocalJob *local;

    for (int i = 0; i < n && row == NULL; i++)
    {
        if (steps[i].task == task->ref.task && steps[i].item == task->ref.item &&
            steps[i].task_attempt == task->attempt)
            row = &steps[i];
    }
    refused = row == NULL ? agent_task_refused(task, &sqlstate) : NULL; /* else it has begun */
    if (refused == NULL && job == NULL)
    {
        sqlstate = FLEET_SQLSTATE_UNDEFINED_OBJECT;
        refused = "the job is not defined here";
    }
    if (refused != NULL)
    {
        agent_task_fail(task, sqlstate, refused);
        return;
    }
    if (task->server != NULL)
        link = agent_link_again(task->server, job->owner_oid);
    agent_task_set_link(task, link);
    local = local_job_for_task(task, job, link);
    agent_remote_seen(task, 0, FLEET_QUEUED); /* its step is the local job's from now on */
    local_job_recover(local, row);
    if (task->state == FLEET_CANCELING && task->local == local)
        local_job_cancel(local);
}

static void
recover_nested(AgentTask *task)
{
    FleetState state;
    char *message;
    bool timed_out;
    char uuid[37];

    if (task->nested != NULL)
        return; /* it runs, and was found */
    agent_task_nested_uuid(task, uuid);
    state = fleet_run_nested_state(uuid, &message, &timed_out);
    if (state == 0)
    {
        agent_task_start_again(task); /* its intent is there, the run is not */
        return;
    }
    if (FLEET_STATE_IS_FINAL(state)) /* else it is in quarantine, and left alone */
        agent_task_nested_ended(task, state, timed_out, message);
}

/* Before anything can fail: a step that is open ends with its task run. */
static void
recover_seen(AgentTask *task, const FleetStepRow *steps, int n)
{
    for (int i = 0; i < n; i++)
    {
        if (steps[i].task == task->ref.task && steps[i].item == task->ref.item)
        {
            agent_task_log_used(task, steps[i].max_seq);
            if (steps[i].task_attempt == task->attempt)
                agent_remote_seen(task, steps[i].first_seq, steps[i].state);
        }
    }
}

static void
recover_task(AgentTask *task, const FleetStepRow *steps, int n)
{
    agent_task_recovered(task);
    if (task->state == FLEET_RETRYING || task->state == FLEET_QUEUED)
        return;
    if (task->run->def->specs[task->ref.task].kind == FLEET_TASK_PACKAGE)
        recover_nested(task);
    else if (task->run->def->specs[task->ref.task].kind == FLEET_TASK_SQL ||
             (task->server != NULL && !task->server->agent_mode))
        recover_local(task, steps, n);
    else if (task->server != NULL)
        agent_remote_recover(task);
    else
        agent_task_fail(task, FLEET_SQLSTATE_UNDEFINED_OBJECT, "the server no longer exists");
}

/* The parameters of recovered task runs are read again: their rows have the items' own. */
static void
recover_params(AgentTask *task)
{
    const char *base = agent_run_task_params(task->run, task->ref.task);
    char *key = NULL;
    char *own = task->ref.item == 0 ? NULL
                                    : fleet_task_item_params(task->run->run_id, task->ref.task,
                                                             task->ref.item, &key);

    if (task->run->def->specs[task->ref.task].handler)
    {
        agent_task_set_params(task, base, NULL);
        agent_task_set_failure(task, own);
        return;
    }
    agent_task_set_params(task, own == NULL ? base : fleet_definition_merge(base, own),
                          agent_item_key(key, own));
}

typedef struct Recovery
{
    AgentRun *run;
    AgentTask *task;
    FleetStepRow *steps;
    int nsteps;
} Recovery;

static void
read_steps(void *arg)
{
    Recovery *r = arg;

    r->nsteps = fleet_step_read_newest(r->run->run_id, 0, &r->steps);
}

static void
take_up(void *arg)
{
    Recovery *r = arg;

    fleet_hand_take(FLEET_HAND_RUN, r->run->run_id, "work_recover");
    recover_params(r->task);
    recover_task(r->task, r->steps, r->nsteps);
}

/* Resolved templates are stored with the start: of one that is started without them, they could not be,
 * and nothing was sent.  Not in protected work: it writes what is in the batch. */
static bool
recover_given(AgentTask *task, FleetDiagnostics *failure)
{
    return task->state == FLEET_RETRYING || task->state == FLEET_QUEUED ||
           agent_given_resolve(task->run, task->ref.task, failure);
}

static void
recover_failed(AgentTask *task, const FleetDiagnostics *failure)
{
    agent_task_recovered(task);
    if (task->local != NULL)
        local_job_abandon(task->local);
    agent_task_fail(task, failure->sqlstate, failure->message);
}

static void
recover_run(AgentRun *run)
{
    Recovery r = {.run = run};
    FleetDiagnostics failure;
    bool readable;
    dlist_mutable_iter iter;

    if (dlist_is_empty(&run->tasks))
        return;
    readable = agent_protected(read_steps, &r, &failure);
    dlist_foreach_modify(iter, &run->tasks)
    {
        r.task = dlist_container(AgentTask, run_node, iter.cur);
        if (!r.task->recovering)
            continue;
        if (readable)
            recover_seen(r.task, r.steps, r.nsteps);
        if (!readable || !recover_given(r.task, &failure) ||
            !agent_protected(take_up, &r, &failure))
            recover_failed(r.task, &failure);
    }
}

void
agent_runs_recovered(void)
{
    agent_runs_each(recover_run);
    fleet_hand_empty();
}
