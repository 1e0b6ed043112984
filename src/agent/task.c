/*
 * agent/task.c
 *     Task runs: the table of those that were started, their attempts and their
 *     ends.  In the agent's process.
 *
 * A task run that was never started has no structure here, only its row and
 * the engine's few bytes; an AgentTask lives from the first start to the end.
 */
#include "postgres.h"

#include "agent/task.h"
#include "agent/run.h"
#include "agent/server.h"
#include "security.h"
#include "store/run_write.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* Of tasks. */
typedef struct TaskEntry
{
    FleetTaskRef ref; /* hash key */
    AgentTask *task;
} TaskEntry;

static HTAB *tasks;
static dlist_head dirty = DLIST_STATIC_INIT(dirty);     /* AgentTask.dirty_node */
static dlist_head effects = DLIST_STATIC_INIT(effects); /* AgentTask.effect_node */

void
agent_tasks_init(void)
{
    tasks = agent_table("pg_fleet task runs", sizeof(FleetTaskRef), sizeof(TaskEntry), HASH_BLOBS);
}

AgentTask *
agent_task_find(FleetTaskRef ref)
{
    TaskEntry *entry = hash_search(tasks, &ref, HASH_FIND, NULL);

    return entry == NULL ? NULL : entry->task;
}

/* ---- what has changed ---- */

void
agent_task_dirty(AgentTask *task, FleetTime lazy)
{
    if (!task->dirty)
    {
        dlist_push_tail(&dirty, &task->dirty_node);
        task->lazy_until = lazy == 0 ? 0 : fleet_clock_now() + lazy;
    }
    else if (lazy == 0)
        task->lazy_until = 0;
    task->dirty = true;
    agent_run_changed(task->run);
}

dlist_head *
agent_tasks_dirty(void)
{
    return &dirty;
}

void
agent_task_clean(AgentTask *task)
{
    dlist_delete(&task->dirty_node);
    task->dirty = false;
}

void
agent_task_stored(AgentTask *task, FleetState state)
{
    task->durable = state;
    task->waits_changed = false;
    if (task->ref.item == 0)
        agent_run_row(task->run, task->ref.task, state);
}

void
agent_task_start_stored(AgentTask *task)
{
    task->start_pending = false;
    agent_task_stored(task, FLEET_STARTING);
}

void
agent_task_effect(AgentTask *task)
{
    if (!task->in_effects)
        dlist_push_tail(&effects, &task->effect_node);
    task->in_effects = true;
    turn_again();
}

bool
agent_task_effects_wanted(void)
{
    return !dlist_is_empty(&effects);
}

void
agent_task_effects_take(dlist_head *list)
{
    while (!dlist_is_empty(&effects))
        dlist_push_tail(list, dlist_pop_head_node(&effects));
}

AgentTask *
agent_task_effects_next(dlist_head *list, bool *start, bool *cancel)
{
    AgentTask *task;

    if (dlist_is_empty(list))
        return NULL;
    task = dlist_container(AgentTask, effect_node, dlist_pop_head_node(list));
    *start = task->effect_start;
    *cancel = task->effect_cancel;
    task->in_effects = task->effect_start = task->effect_cancel = false;
    return task;
}

/* ---- attempts ---- */

AgentTask *
agent_task_create(AgentRun *run, FleetTaskRef ref)
{
    MemoryContext context =
        AllocSetContextCreate(agent.context, "pg_fleet task run", ALLOCSET_SMALL_SIZES);
    AgentTask *task = MemoryContextAllocZero(context, sizeof(AgentTask));
    TaskEntry *entry = hash_search(tasks, &ref, HASH_ENTER, NULL);

    entry->task = task;
    task->ref = ref;
    task->run = run;
    task->context = context;
    task->state = task->durable = FLEET_QUEUED;
    if (ref.item == 0)
        task->durable = (FleetState) run->task_durable[ref.task];
    task->result.row_count = -1;
    dlist_push_tail(&run->tasks, &task->run_node);
    return task;
}

AgentTask *
agent_task_load(AgentRun *run, FleetTaskRef ref, const FleetTaskRow *row)
{
    AgentTask *task = agent_task_create(run, ref);

    task->state = task->durable = row->state;
    task->attempt = row->attempt;
    task->failures = row->failures;
    task->server = row->server_id == 0 ? NULL : agent_server_by_id(row->server_id);
    task->started_at = row->started_at;
    task->log_base = task->log_seq = row->log_base;
    task->recovering = true;
    agent_task_token(task);
    return task;
}

void
agent_task_recovered(AgentTask *task)
{
    task->recovering = false;
}

void
agent_task_set_params(AgentTask *task, const char *params, const char *key)
{
    task->params = MemoryContextStrdup(task->context, params);
    task->item_key = agent_strdup(task->context, key);
}

void
agent_task_set_failure(AgentTask *task, const char *failure)
{
    task->failure = agent_strdup(task->context, failure);
}

void
agent_task_set_link(AgentTask *task, AgentLink *link)
{
    task->link = link;
}

void
agent_task_set_local(AgentTask *task, LocalJob *local)
{
    task->local = local;
}

void
agent_task_set_nested(AgentTask *task, AgentRun *run)
{
    task->nested = run;
}

void
agent_task_set_started(AgentTask *task, TimestampTz when)
{
    task->started_at = when;
}

void
agent_task_set_finished(AgentTask *task, TimestampTz when)
{
    task->finished_at = when;
}

void
agent_task_set_result(AgentTask *task, int64 row_count, const FleetDiagnostics *diag,
                      const char *output)
{
    agent_result_set(&task->result, task->context, row_count, diag, output);
}

void
agent_task_waits(AgentTask *task, const char *why)
{
    if (FLEET_STATE_IS_FINAL(task->state) ||
        (why == NULL ? task->waits == NULL : task->waits != NULL && strcmp(task->waits, why) == 0))
        return;
    if (task->waits != NULL)
        pfree(task->waits);
    task->waits = agent_strdup(task->context, why);
    task->waits_changed = true;
    agent_task_dirty(task, AGENT_LAZY);
}

void
agent_task_log_used(AgentTask *task, int seq)
{
    task->log_seq = Max(task->log_seq, seq);
}

void
agent_task_token(AgentTask *task)
{
    char *text =
        psprintf("%s/%s/%s/%u/%u", agent.secret, task->run->uuid,
                 task->run->def->tasks[task->ref.task].name, task->ref.item, task->attempt);

    agent_uuid_of(task->token, text);
    pfree(text);
}

void
agent_task_attempt(AgentTask *task, uint16 attempt, uint16 failures, AgentServer *server)
{
    task->state = FLEET_STARTING;
    task->attempt = attempt;
    task->failures = failures;
    task->server = server;
    task->log_base = task->log_seq;
    task->seen_first = 0;
    /* of an earlier attempt, perhaps on a server of the other mode */
    task->acknowledged = task->unclear = task->acknowledge = task->effect_cancel = false;
    task->token[0] = '\0';
    task->started_at = task->finished_at = 0;
    task->error = task->waits = NULL;
    task->waits_changed = false;
    agent_result_clear(&task->result);
    task->stopped = false;
    task->lacked = 0;
    task->definition_known = false;
    if (task->server == NULL || task->server->agent_mode) /* else no other agent is told of it */
        agent_task_token(task);
    task->start_pending = true;
    task->effect_start = true;
    agent_task_dirty(task, 0);
    agent_task_effect(task);
}

void
agent_task_cannot_start(AgentTask *task, const char *sqlstate, const char *message)
{
    task->error_state = MemoryContextStrdup(task->context, sqlstate);
    task->error = MemoryContextStrdup(task->context, message);
}

/* May the run have a job of this database done, wherever?  NULL, or why not. */
static char *
cannot_use_job(const AgentTask *task, const FleetTaskDef *def, const char **sqlstate)
{
    if (def->job_def == NULL && task->server != NULL)
        return psprintf("job \"%s\" is not defined here, and server \"%s\" is of mode direct",
                        def->job, task->server->name);
    if (def->job_def == NULL)
        return psprintf("job \"%s\" is not defined here", def->job);
    if (!OidIsValid(def->job_def->owner_oid))
        return psprintf("the owner of job \"%s\" no longer exists", def->job);
    if (fleet_security_may_act(task->run->owner, def->job_def->owner_oid))
        return NULL;
    *sqlstate = FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE;
    return psprintf(superuser_arg(def->job_def->owner_oid)
                        ? "the owner of job \"%s\" is a superuser, and the run's owner is not"
                        : "the run's owner is not a member of the owner of job \"%s\"",
                    def->job);
}

const FleetJobDef *
agent_task_job_sent(const AgentTask *task)
{
    const FleetTaskDef *def = &task->run->def->tasks[task->ref.task];

    return def->job_def == NULL || def->by_name ? NULL : def->job_def;
}

int
agent_task_lacked(AgentTask *task)
{
    return ++task->lacked;
}

void
agent_task_set_definition(AgentTask *task, const FleetToken *definition)
{
    task->definition = *definition;
    task->definition_known = true;
}

Oid
agent_task_role(const AgentTask *task)
{
    const FleetJobDef *job = agent_task_job_sent(task);

    /* one that was dropped or renamed starts nothing; what had been started was the run's, as a rule */
    return job != NULL && OidIsValid(job->owner_oid) ? job->owner_oid : task->run->owner;
}

char *
agent_task_refused(const AgentTask *task, const char **sqlstate)
{
    const FleetTaskDef *def = &task->run->def->tasks[task->ref.task];
    bool here = task->run->def->specs[task->ref.task].kind != FLEET_TASK_JOB;

    *sqlstate = FLEET_SQLSTATE_UNDEFINED_OBJECT;
    return def->job != NULL &&
                   (here || !task->server->agent_mode || agent_task_job_sent(task) != NULL)
               ? cannot_use_job(task, def, sqlstate)
               : NULL;
}

void
agent_task_cancel(AgentTask *task)
{
    task->state = FLEET_CANCELING;
    task->effect_cancel = true;
    agent_task_dirty(task, 0);
    agent_task_effect(task);
}

/* What is being stopped is told so once more: the first time may have been without effect. */
void
agent_tasks_cancel_again(AgentRun *run)
{
    dlist_iter iter;

    dlist_foreach(iter, &run->tasks)
    {
        AgentTask *task = dlist_container(AgentTask, run_node, iter.cur);

        if (task->state != FLEET_CANCELING || task->over)
            continue;
        task->effect_cancel = true;
        agent_task_effect(task);
    }
}

void
agent_task_start_again(AgentTask *task)
{
    task->effect_start = true;
    agent_task_effect(task);
}

void
agent_task_decided(AgentTask *task, FleetState state, uint16 failures, bool over)
{
    task->state = state;
    task->failures = failures;
    task->over = over;
}

void
agent_task_nested_uuid(const AgentTask *task, char *uuid)
{
    char *text = psprintf("%s/nested", task->token);

    agent_uuid_of(uuid, text);
    pfree(text);
}

/* ---- ends ---- */

void
agent_failure_line(const AgentRun *run, FleetTaskRef ref, int seq, const char *sqlstate,
                   const char *message)
{
    FleetLineWrite w = {.run_id = run->run_id,
                        .task = ref.task,
                        .item = ref.item,
                        .seq = seq,
                        .logged_at = fleet_clock_wall(),
                        .diag = {.level = "ERROR", .sqlstate = sqlstate, .message = message}};

    fleet_line_write(&w);
}

/* As its server has reported, or as its row was when this agent began. */
static bool
step_is_open(const AgentTask *task)
{
    return task->seen_first != 0 && !FLEET_STATE_IS_FINAL(task->seen_state);
}

/* A step of it is open, here or there: that step's end is a line of the log. */
static bool
step_tells(const AgentTask *task)
{
    return task->local != NULL || step_is_open(task);
}

/* Of a task run that is in memory: behind its other lines. */
static void
task_failure_line(AgentTask *task)
{
    agent_failure_line(task->run, task->ref, ++task->log_seq, task->result.diag.sqlstate,
                       task->result.diag.message);
}

void
agent_task_finished(AgentTask *task, FleetState outcome)
{
    task->finished_at = fleet_clock_wall();
    task->stopped = outcome == FLEET_CANCELED;
    if (!fleet_engine_finished(agent.engine, task->ref, task->attempt, outcome,
                               task->result.diag.sqlstate, fleet_clock_now()))
        ereport(DEBUG1, (errmsg("a late end of run %lld task %u item %u was ignored",
                                (long long) task->run->run_id, task->ref.task, task->ref.item)));
    turn_again();
}

void
agent_task_not_started(AgentTask *task)
{
    task->stopped = true; /* if it was to be stopped: the engine ends the attempt then */
    (void) fleet_engine_not_started(agent.engine, task->ref, task->attempt, fleet_clock_now());
}

void
agent_task_nested_ended(AgentTask *task, FleetState state, bool timed_out, const char *message)
{
    FleetDiagnostics diag = {.message = message};

    task->nested = NULL;
    if (state != FLEET_SUCCEEDED)
    {
        diag.sqlstate = state == FLEET_CANCELED || timed_out ? FLEET_SQLSTATE_QUERY_CANCELED
                                                             : FLEET_SQLSTATE_RAISE_EXCEPTION;
        agent_task_set_result(task, -1, &diag, NULL);
    }
    agent_task_finished(task, state);
}

bool
agent_task_fail_told(AgentTask *task, const char *sqlstate, const char *message)
{
    FleetDiagnostics diag = {.sqlstate = sqlstate, .message = message};

    agent_result_set(&task->result, task->context, -1, &diag, NULL);
    task->finished_at = fleet_clock_wall();
    turn_again();
    return fleet_engine_fail(agent.engine, task->ref, sqlstate, fleet_clock_now());
}

void
agent_task_fail(AgentTask *task, const char *sqlstate, const char *message)
{
    bool told = step_is_open(task);

    if (agent_task_fail_told(task, sqlstate, message) && !told)
        task_failure_line(task);
}

/* Stopped, but no role canceled it: the reason shall not read like a cancel. */
void
agent_task_timed_out(AgentTask *task)
{
    FleetDiagnostics diag = {.sqlstate = FLEET_SQLSTATE_QUERY_CANCELED,
                             .message = "the task run was stopped because of its timeout"};

    agent_result_set(&task->result, task->context, -1, &diag, NULL);
    if (task->run->def->specs[task->ref.task].kind != FLEET_TASK_PACKAGE)
        return;
    task_failure_line(task); /* no step tells it */
}

/* It had failed and waited for its retry, or was surely not started. */
void
agent_task_skipped(AgentTask *task, const char *why)
{
    FleetDiagnostics diag = {.message = why};

    agent_result_set(&task->result, task->context, -1, &diag, NULL);
}

void
agent_task_lost(AgentTask *task)
{
    FleetDiagnostics *diag = &task->result.diag;
    const char *refused = task->link == NULL ? "" : task->link->refused;

    if (diag->message == NULL && refused[0] != '\0')
        diag->message =
            agent_strdup(task->context, psprintf("%s: %s", AGENT_LOST_MESSAGE, refused));
    else if (diag->message == NULL)
        diag->message = agent_strdup(task->context, AGENT_LOST_MESSAGE);
    if (diag->sqlstate == NULL)
        diag->sqlstate = agent_strdup(task->context, AGENT_LOST_SQLSTATE);
    if (!step_tells(task))
        task_failure_line(task);
}

void
agent_task_free(AgentTask *task)
{
    if (task->in_effects)
        dlist_delete(&task->effect_node);
    if (task->dirty)
        dlist_delete(&task->dirty_node);
    dlist_delete(&task->run_node);
    hash_search(tasks, &task->ref, HASH_REMOVE, NULL);
    MemoryContextDelete(task->context);
}
