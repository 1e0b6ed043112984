/*
 * agent/task.c
 *     Task runs: the engine's decisions become rows and effects, and ends go
 *     back to it.  In the agent's process.
 */
#include "postgres.h"

#include "agent/agent.h"
#include "store/spi.h"
#include "compat.h"
#include "points.h"
#include "utils/acl.h"
#include "utils/memutils.h"

/* ---- ends of task runs ---- */

static void
note_failure(AgentTask *task)
{
    AgentRun *run = task->run;
    const char *name = run->def->tasks[task->ref.task].name;
    const char *why = task->result.message != NULL ? task->result.message : "no reason is known";

    if (run->message != NULL)
        return;
    run->message =
        task->ref.item == 0
            ? MemoryContextStrdup(run->context, psprintf("task \"%s\" %s: %s", name,
                                                         fleet_state_name(task->state), why))
            : MemoryContextStrdup(run->context,
                                  psprintf("task \"%s\" item %u %s: %s", name, task->ref.item,
                                           fleet_state_name(task->state), why));
}

/* A failure that no step tells: its line in the log is written here. */
static void
failure_line(const AgentRun *run, FleetTaskRef ref, int seq, const char *sqlstate,
             const char *message)
{
    FleetLineWrite w = {.run_id = run->run_id,
                        .task = ref.task,
                        .item = ref.item,
                        .seq = seq,
                        .logged_at = fleet_clock_wall(),
                        .level = "ERROR",
                        .sqlstate = sqlstate,
                        .message = message};

    fleet_line_write(&w);
}

/* The same for a task run that is in memory: behind its other lines. */
static void
task_failure_line(AgentTask *task)
{
    failure_line(task->run, task->ref, ++task->log_seq, task->result.sqlstate,
                 task->result.message);
}

void
agent_task_finished(AgentTask *task, FleetState outcome)
{
    task->finished_at = fleet_clock_wall();
    if (!fleet_engine_finished(agent.engine, task->ref, task->attempt, outcome,
                               task->result.sqlstate, fleet_clock_now()))
        ereport(DEBUG1, (errmsg("pg_fleet: a late end of run %lld task %u item %u was ignored",
                                (long long) task->run->run_id, task->ref.task, task->ref.item)));
    turn_again();
}

bool
agent_task_fail_told(AgentTask *task, const char *sqlstate, const char *message)
{
    agent_result_clear(&task->result);
    task->result.row_count = -1;
    task->result.sqlstate = agent_strdup(task->context, sqlstate);
    task->result.message = agent_strdup(task->context, message);
    task->finished_at = fleet_clock_wall();
    turn_again();
    return fleet_engine_fail(agent.engine, task->ref, sqlstate, fleet_clock_now());
}

void
agent_task_fail(AgentTask *task, const char *sqlstate, const char *message)
{
    if (agent_task_fail_told(task, sqlstate, message))
        task_failure_line(task);
}

void
agent_task_free(AgentTask *task)
{
    if (task->linked)
        agent_remote_leave(task);
    if (task->local != NULL)
        local_job_task_gone(task->local);
    if (task->nested != NULL)
        task->nested->parent_task = NULL;
    if (task->in_effects)
        dlist_delete(&task->effect_node);
    if (task->dirty)
        dlist_delete(&task->dirty_node);
    dlist_delete(&task->run_node);
    hash_search(agent.tasks, &task->ref, HASH_REMOVE, NULL);
    MemoryContextDelete(task->context);
}

/* ---- decisions ---- */

static void
decide_start(AgentRun *run, const FleetDecision *d)
{
    AgentTask *task = agent_task_find(d->ref);
    const FleetTaskDef *def = &run->def->tasks[d->ref.task];

    if (task == NULL)
    {
        task = agent_task_create(run, d->ref);
        if (d->ref.item == 0)
            task->durable = (FleetState) run->task_durable[d->ref.task];
    }
    task->state = FLEET_STARTING;
    task->attempt = d->attempt;
    task->failures = d->failures;
    task->server = agent_server_by_number(d->server);
    task->log_base = task->log_seq;
    task->seen_first = 0;
    /* of an earlier attempt, perhaps on a server of the other mode */
    task->acknowledged = task->unclear = task->acknowledge = task->effect_cancel = false;
    task->token[0] = '\0';
    task->started_at = task->finished_at = 0;
    task->error = NULL;
    agent_result_clear(&task->result);
    task->result.row_count = -1;
    if (d->server == AGENT_NOWHERE_SERVER)
    {
        task->error_state = "42704";
        task->error = def->server != NULL
                          ? MemoryContextStrdup(task->context,
                                                psprintf("there is no server \"%s\"", def->server))
                          : MemoryContextStrdup(task->context,
                                                psprintf("group \"%s\" has no server", def->group));
    }
    if (task->server == NULL || task->server->agent_mode) /* else nobody is told of it */
        agent_task_token(task);
    task->start_pending = true;
    task->effect_start = true;
    agent_task_dirty(task, 0);
    agent_task_effect(task);
}

/* A state of a task run that was never started: only its row is there. */
static void
decide_row_state(AgentRun *run, const FleetDecision *d)
{
    FleetTaskWrite w = {0};

    w.run_id = run->run_id;
    w.task = d->ref.task;
    w.item = d->ref.item;
    w.old = d->ref.item == 0 ? (FleetState) run->task_durable[d->ref.task] : FLEET_QUEUED;
    w.state = d->state;
    w.row_count = -1;
    if (w.old == w.state)
        return;
    if (FLEET_STATE_IS_FINAL(d->state))
        w.finished_at = fleet_clock_wall();
    else if (d->state == FLEET_STARTING || d->state == FLEET_RUNNING)
        w.started_at = fleet_clock_wall();
    if (d->ref.item == 0)
    {
        if (run->task_written[d->ref.task] == turn_number())
        {
            /* two changes of one row in one turn: the batch takes one; write this one after it */
            fleet_run_flush();
        }
        run->task_written[d->ref.task] = turn_number();
        run->task_durable[d->ref.task] = (uint8) d->state;
    }
    if (d->ref.item == 0 && d->state == FLEET_FAILED && run->cannot_begin[d->ref.task] != NULL)
    {
        w.sqlstate = "F0001";
        w.message = run->cannot_begin[d->ref.task];
        failure_line(run, d->ref, 1, w.sqlstate, w.message);
        if (run->message == NULL)
            run->message = MemoryContextStrdup(
                run->context,
                psprintf("task \"%s\" failed: %s", run->def->tasks[d->ref.task].name, w.message));
    }
    fleet_task_write(&w);
    agent_run_changed(run);
}

/* Stopped, but nobody canceled it: the reason shall not read like a cancel. */
static void
timed_out(AgentTask *task)
{
    if (task->result.message != NULL)
        pfree(task->result.message);
    task->result.message =
        agent_strdup(task->context, "the task run was stopped because of its timeout");
    if (task->run->def->specs[task->ref.task].kind != FLEET_TASK_PACKAGE)
        return;
    /* no step tells it; the next attempt may be another agent's, which knows only what is stored */
    task_failure_line(task);
    task->log_base = task->log_seq;
}

static void
lost(AgentTask *task)
{
    AgentResult *result = &task->result;

    if (result->message == NULL)
        result->message = agent_strdup(task->context, AGENT_LOST_MESSAGE);
    if (result->sqlstate == NULL)
        result->sqlstate = agent_strdup(task->context, AGENT_LOST_SQLSTATE);
    if (task->local == NULL) /* else its step tells it */
        task_failure_line(task);
}

static void
decide_state(AgentRun *run, const FleetDecision *d)
{
    AgentTask *task = agent_task_find(d->ref);
    bool stopped;

    if (task == NULL)
    {
        decide_row_state(run, d);
        return;
    }
    stopped = task->state == FLEET_CANCELING && d->state != FLEET_CANCELED;
    task->state = d->state;
    task->failures = d->failures;
    if (stopped && task->result.sqlstate != NULL && strcmp(task->result.sqlstate, "57014") == 0)
        timed_out(task);
    if (d->state == FLEET_RETRYING)
        task->finished_at = fleet_clock_to_wall(d->at);
    if (d->state == FLEET_RUNNING)
    {
        if (task->started_at == 0)
            task->started_at = fleet_clock_wall();
        agent_task_dirty(task, AGENT_LAZY);
        return;
    }
    if (FLEET_STATE_IS_FINAL(d->state))
    {
        if (task->finished_at == 0)
            task->finished_at = fleet_clock_wall();
        if (d->state == FLEET_LOST)
            lost(task);
        if (d->state == FLEET_SUCCEEDED)
            agent_task_learn(task);
        if (d->state == FLEET_FAILED || d->state == FLEET_LOST || d->state == FLEET_UNKNOWN)
            note_failure(task);
        task->over = true;
    }
    /* Not under way there any more, whatever happens next. */
    if (d->state != FLEET_CANCELING && d->state != FLEET_STARTING)
    {
        if (task->local != NULL && (d->state == FLEET_LOST || !task->over))
            local_job_abandon(task->local);
        if (task->linked)
            agent_remote_leave(task);
    }
    agent_task_dirty(task, 0);
}

static void
decide_cancel(AgentRun *run, const FleetDecision *d)
{
    AgentTask *task = agent_task_find(d->ref);

    if (task == NULL)
        return;
    task->state = FLEET_CANCELING;
    task->effect_cancel = true;
    agent_task_dirty(task, 0);
    agent_task_effect(task);
    agent_run_changed(run);
}

static void
run_ended(AgentRun *run)
{
    AgentTask *task = run->parent_task;
    LocalJob *local = run->parent_local;

    run->ended = true;
    if (run->state == FLEET_FAILED && run->message == NULL)
        run->message = "a task or a condition failed";
    if (task != NULL)
    {
        run->parent_task = NULL;
        task->nested = NULL;
        if (run->state != FLEET_SUCCEEDED)
        {
            task->result.sqlstate =
                agent_strdup(task->context, run->state == FLEET_CANCELED ? "57014" : "P0001");
            task->result.message = agent_strdup(task->context, run->message);
        }
        agent_task_finished(task, run->state);
    }
    if (local != NULL)
    {
        run->parent_local = NULL;
        local_job_nested_ended(local, run->state, run->message);
    }
}

static void
decide_run(AgentRun *run, const FleetDecision *d)
{
    run->state = d->state;
    agent_run_dirty(run);
    if (FLEET_STATE_IS_FINAL(d->state))
        run_ended(run);
}

void
agent_decisions(void)
{
    FleetDecision d;

    while (fleet_engine_next(agent.engine, &d))
    {
        AgentRun *run = agent_run_by_handle(d.ref.run);

        switch (d.kind)
        {
            case FLEET_DO_START: decide_start(run, &d); break;
            case FLEET_DO_CANCEL: decide_cancel(run, &d); break;
            case FLEET_DO_EXPAND: agent_expand(run, d.ref.task); break;
            case FLEET_DO_CONDITION: agent_condition(run, d.edge); break;
            case FLEET_DO_STATE: decide_state(run, &d); break;
            case FLEET_DO_RUN: decide_run(run, &d); break;
        }
    }
}

/* ---- effects, after the commit ---- */

static void
start_nested(AgentTask *task)
{
    AgentRun *run = task->run;
    AgentFailure failure;

    FLEET_POINT("task_before_nested");
    task->nested = agent_run_nested(run->def->tasks[task->ref.task].package, run->owner,
                                    task->params, run->priority, task, NULL, &failure);
    if (task->nested == NULL)
        agent_task_fail(task, failure.sqlstate, failure.message);
    else
        (void) fleet_engine_accepted(agent.engine, task->ref, task->attempt, fleet_clock_now());
}

/* Links are looked up before the commit, since that reads the catalog. */
void
agent_task_prepare(AgentTask *task)
{
    AgentRun *run = task->run;
    const FleetTaskDef *def = &run->def->tasks[task->ref.task];
    Oid role = run->owner;
    const char *sqlstate = "42704";
    char *error = NULL;

    if (task->error != NULL || run->def->specs[task->ref.task].kind != FLEET_TASK_JOB)
        return;
    fleet_catalog_begin(); /* memberships are read */
    if (!task->server->agent_mode)
    {
        if (def->job_def == NULL)
            error = psprintf("job \"%s\" is not defined here, and server \"%s\" is of mode direct",
                             def->job, task->server->name);
        else if (!OidIsValid(def->job_def->owner_oid))
            error = psprintf("role %s, owner of job \"%s\", does not exist any more",
                             def->job_def->owner, def->job);
        else if (!fleet_may_become(run->owner, def->job_def->owner_oid))
        {
            sqlstate = "42501";
            error =
                psprintf("the run's owner is not a member of the owner of job \"%s\"", def->job);
        }
        else
            role = def->job_def->owner_oid;
    }
    if (error == NULL)
        task->link = agent_link_get(task->server, role, &sqlstate, &error);
    if (error != NULL)
    {
        task->error_state = sqlstate;
        task->error = MemoryContextStrdup(task->context, error);
    }
}

static void
start_task(AgentTask *task)
{
    AgentRun *run = task->run;
    const FleetTaskDef *def = &run->def->tasks[task->ref.task];

    if (task->error != NULL)
    {
        agent_task_fail(task, task->error_state, task->error);
        return;
    }
    switch (run->def->specs[task->ref.task].kind)
    {
        case FLEET_TASK_PACKAGE: start_nested(task); break;
        case FLEET_TASK_SQL:
            local_job_begin(local_job_for_task(task, def->job_def, run->owner, NULL));
            break;
        case FLEET_TASK_JOB:
            if (task->server->agent_mode)
                agent_remote_start(task);
            else
                local_job_begin(
                    local_job_for_task(task, def->job_def, def->job_def->owner_oid, task->link));
            break;
    }
}

static void
cancel_task(AgentTask *task)
{
    if (task->local != NULL)
        local_job_cancel(task->local);
    else if (task->nested != NULL)
        agent_run_cancel(task->nested->run_id);
    else if (task->linked)
        agent_remote_cancel(task);
    else
        /* its start was not carried out: nothing to stop */
        agent_task_finished(task, FLEET_CANCELED);
}

void
agent_task_effects(AgentTask *task)
{
    bool start = task->effect_start;
    bool cancel = task->effect_cancel;

    task->effect_start = task->effect_cancel = false;
    if (start && !cancel && !task->over)
        start_task(task);
    if (cancel && !task->over)
        cancel_task(task);
}
