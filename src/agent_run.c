/*
 * agent_run.c
 *     Runs of packages and their task runs: loading requests and durable
 *     state, the engine's decisions, ends.  In the agent's process.
 *
 * A task run that was never started has no structure here, only its row and
 * the engine's few bytes; an AgentTask lives from the first start to the end.
 */
#include "postgres.h"

#include "agent.h"
#include "catalog/spi.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/memutils.h"

typedef struct RunEntry
{
    int64 run_id;
    AgentRun *run;
} RunEntry;

typedef struct TaskEntry
{
    FleetTaskRef ref;
    AgentTask *task;
} TaskEntry;

typedef struct EstimateKey
{
    uint32 task;
    uint32 hash; /* of the item key; 0: by task */
    uint32 length;
} EstimateKey;

typedef struct EstimateEntry
{
    EstimateKey key;
    FleetEstimate estimate;
} EstimateEntry;

/* ---- finding ---- */

AgentRun *
agent_run_find(int64 run_id)
{
    RunEntry *entry = hash_search(agent.runs, &run_id, HASH_FIND, NULL);

    return entry == NULL ? NULL : entry->run;
}

AgentRun *
agent_run_by_handle(uint32 handle)
{
    return (AgentRun *) (uintptr_t) fleet_engine_run_tag(agent.engine, handle);
}

AgentTask *
agent_task_find(FleetTaskRef ref)
{
    TaskEntry *entry = hash_search(agent.tasks, &ref, HASH_FIND, NULL);

    return entry == NULL ? NULL : entry->task;
}

void
agent_run_changed(AgentRun *run)
{
    if (!run->changed)
        dlist_push_tail(&agent.changed, &run->changed_node);
    run->changed = true;
}

void
agent_run_dirty(AgentRun *run)
{
    if (!run->dirty)
        dlist_push_tail(&agent.dirty_runs, &run->dirty_node);
    run->dirty = true;
    agent_run_changed(run);
}

void
agent_task_dirty(AgentTask *task, FleetTime lazy)
{
    if (!task->dirty)
    {
        dlist_push_tail(&agent.dirty_tasks, &task->dirty_node);
        task->lazy_until = lazy == 0 ? 0 : fleet_clock_now() + lazy;
    }
    else if (lazy == 0)
        task->lazy_until = 0;
    task->dirty = true;
    agent_run_changed(task->run);
}

void
agent_task_effect(AgentTask *task)
{
    if (!task->in_effects)
        dlist_push_tail(&agent.task_effects, &task->effect_node);
    task->in_effects = true;
    agent.again = true;
}

/* ---- parameters ---- */

const char *
agent_task_params(AgentRun *run, uint32 task)
{
    if (run->task_params[task] == NULL)
    {
        const char *own = run->def->tasks[task].params;

        run->task_params[task] =
            strcmp(own, "{}") == 0
                ? run->params
                : MemoryContextStrdup(run->context, fleet_definition_merge(run->params, own));
    }
    return run->task_params[task];
}

/* During the flush: the started row's own parameters. */
static void
on_start(int64 run_id, uint32 task_no, uint32 item, const char *params)
{
    AgentRun *run = agent_run_find(run_id);
    AgentTask *task = agent_task_find((FleetTaskRef){run->handle, task_no, item});
    const char *base = agent_task_params(run, task_no);

    if (task->params != NULL)
        return; /* a further attempt */
    task->item_params = agent_strdup(task->context, params);
    task->params = params == NULL
                       ? MemoryContextStrdup(task->context, base)
                       : MemoryContextStrdup(task->context, fleet_definition_merge(base, params));
}

/* ---- estimates ---- */

static FleetEstimate *
estimate_find(AgentRun *run, uint32 task, const char *item_key, bool enter)
{
    EstimateKey key;
    EstimateEntry *entry;
    bool found;

    if (run->estimates == NULL)
        return NULL;
    memset(&key, 0, sizeof(key));
    key.task = task;
    if (item_key != NULL && item_key[0] != '\0')
    {
        key.length = (uint32) strlen(item_key);
        key.hash = hash_bytes((const unsigned char *) item_key, (int) key.length);
    }
    entry = hash_search(run->estimates, &key, enter ? HASH_ENTER : HASH_FIND, &found);
    if (entry != NULL && !found)
        fleet_estimate_init(&entry->estimate);
    return entry == NULL ? NULL : &entry->estimate;
}

static void
estimates_load(AgentRun *run)
{
    HASHCTL ctl = {
        .keysize = sizeof(EstimateKey), .entrysize = sizeof(EstimateEntry), .hcxt = run->context};
    FleetDurationRow *rows;
    int n = fleet_duration_read(run->def->name, &rows);

    run->estimates =
        hash_create("pg_fleet estimates", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    for (int i = 0; i < n; i++)
    {
        for (uint32 t = 0; t < run->def->ntasks; t++)
        {
            const FleetTaskDef *task = &run->def->tasks[t];
            bool by_job =
                rows[i].task[0] == '\0' && task->job != NULL && strcmp(rows[i].job, task->job) == 0;

            if (by_job && estimate_find(run, t, NULL, false) == NULL)
                *estimate_find(run, t, NULL, true) = rows[i].estimate;
            else if (strcmp(rows[i].task, task->name) == 0)
                *estimate_find(run, t, rows[i].item_key, true) = rows[i].estimate;
        }
    }
    for (uint32 t = 0; t < run->def->ntasks; t++)
        run->def->specs[t].estimate =
            fleet_estimate_predict(NULL, estimate_find(run, t, NULL, false), NULL);
}

FleetTime
agent_item_estimate(AgentRun *run, uint32 task, const char *params)
{
    return fleet_estimate_predict(estimate_find(run, task, params, false),
                                  estimate_find(run, task, NULL, false), NULL);
}

/* Remembers what a succeeded task run took; the end of the run writes it. */
void
agent_task_learn(AgentTask *task)
{
    AgentRun *run = task->run;
    AgentLearned *learned;

    if (run->def->specs[task->ref.task].kind == FLEET_TASK_PACKAGE || task->started_at == 0)
        return;
    if (run->learned_count == run->learned_capacity)
    {
        uint32 capacity = run->learned_capacity == 0 ? 64 : run->learned_capacity * 2;

        if (run->learned == NULL)
            run->learned = MemoryContextAllocHuge(run->context, sizeof(AgentLearned) * capacity);
        else
            run->learned = repalloc_huge(run->learned, sizeof(AgentLearned) * capacity);
        run->learned_capacity = capacity;
    }
    learned = &run->learned[run->learned_count++];
    learned->task = task->ref.task;
    learned->item_key = agent_strdup(run->context, task->item_params);
    learned->duration = Max(task->finished_at - task->started_at, 1);
    learned->server = task->server;
}

/* Items that are over in a moment are not worth a row each: their task's estimate does. */
#define LEARN_ITEM_FROM FLEET_MS(50)
#define LEARN_KEY_MAX 200

void
agent_run_learn(AgentRun *run)
{
    bool *touched = palloc0(sizeof(bool) * Max(run->def->ntasks, 1));

    for (uint32 i = 0; i < run->learned_count; i++)
    {
        AgentLearned *l = &run->learned[i];
        const FleetTaskDef *task = &run->def->tasks[l->task];
        double speed = l->server == NULL ? 1 : fleet_speed_value(&l->server->speed);
        FleetTime predicted = agent_item_estimate(run, l->task, l->item_key);

        if (l->server != NULL && predicted > 0 && l->duration >= LEARN_ITEM_FROM)
            agent_server_speed(l->server, predicted, l->duration);
        fleet_estimate_add(estimate_find(run, l->task, NULL, true), l->duration, speed);
        touched[l->task] = true;
        if (l->item_key != NULL && l->duration >= LEARN_ITEM_FROM &&
            strlen(l->item_key) <= LEARN_KEY_MAX)
        {
            FleetEstimate *item = estimate_find(run, l->task, l->item_key, true);

            fleet_estimate_add(item, l->duration, speed);
            fleet_duration_write(run->def->name, task->name, l->item_key, "", item);
            fleet_duration_flush(); /* the same key may come twice in one run */
        }
    }
    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        if (touched[t])
            fleet_duration_write(run->def->name, run->def->tasks[t].name, "", "",
                                 estimate_find(run, t, NULL, false));
    }
    fleet_duration_flush();
}

/* ---- loading ---- */

static FleetPackageDef *
package_def(const char *hash)
{
    struct PackageEntry
    {
        char hash[37];
        FleetPackageDef *def;
    } * entry;
    bool found;

    entry = hash_search(agent.packages, hash, HASH_FIND, &found);
    if (!found)
    {
        FleetPackageDef *def = fleet_definition_package(hash, agent.context);

        entry = hash_search(agent.packages, hash, HASH_ENTER, &found);
        entry->def = def;
    }
    return entry->def;
}

static AgentRun *
run_create(const FleetRunRow *row)
{
    MemoryContext context =
        AllocSetContextCreate(agent.context, "pg_fleet run", ALLOCSET_SMALL_SIZES);
    AgentRun *run = MemoryContextAllocZero(context, sizeof(AgentRun));
    FleetAlloc alloc = agent_alloc(context);
    FleetError error;

    run->context = context;
    run->run_id = row->run_id;
    strlcpy(run->uuid, row->run_uuid, sizeof(run->uuid));
    run->owner = row->owner;
    run->priority = row->priority;
    run->params = MemoryContextStrdup(context, row->params);
    run->state = run->durable = row->state;
    dlist_init(&run->tasks);
    run->def = package_def(row->definition);
    run->task_params = MemoryContextAllocZero(context, sizeof(char *) * Max(run->def->ntasks, 1));
    run->task_durable = MemoryContextAllocZero(context, Max(run->def->ntasks, 1));
    run->task_written = MemoryContextAllocZero(context, sizeof(uint64) * Max(run->def->ntasks, 1));
    run->expand_error = MemoryContextAllocZero(context, sizeof(char *) * Max(run->def->ntasks, 1));
    estimates_load(run);
    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        const FleetTaskDef *task = &run->def->tasks[t];

        if (run->def->specs[t].kind == FLEET_TASK_JOB)
            run->def->specs[t].target = agent_target(task->server, task->group);
    }
    run->graph = fleet_graph_create(&alloc, run->def->specs, run->def->ntasks, run->def->edges,
                                    run->def->nedges, &error);
    if (run->graph == NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", error.message)));
    return run;
}

static void
run_enter(AgentRun *run, bool nested)
{
    RunEntry *entry = hash_search(agent.runs, &run->run_id, HASH_ENTER, NULL);

    entry->run = run;
    run->handle = fleet_engine_run_add(agent.engine, run->graph, run->priority,
                                       (uint64) (uintptr_t) run, fleet_clock_now());
    if (nested)
        fleet_engine_run_nested(agent.engine, run->handle);
}

static void
run_link_parent(AgentRun *run, const FleetRunRow *row)
{
    AgentRun *parent;
    char *entry;

    if (row->parent_run_id != 0 && (parent = agent_run_find(row->parent_run_id)) != NULL)
    {
        run->parent_task =
            agent_task_find((FleetTaskRef){parent->handle, row->parent_task, row->parent_item});
        if (run->parent_task != NULL)
            run->parent_task->nested = run;
    }
    if (row->parent_job_run_id != 0 &&
        (entry = hash_search(agent.job_units, &row->parent_job_run_id, HASH_FIND, NULL)) != NULL)
    {
        run->parent_unit = *(AgentUnit **) (entry + sizeof(int64));
        run->parent_unit->nested = run;
    }
}

/* A run that nobody has begun: all its tasks get their rows. */
static void
run_begin(AgentRun *run)
{
    TimestampTz now = fleet_clock_wall();

    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        fleet_task_write_new(run->run_id, t, 0, now, NULL);
        run->task_durable[t] = FLEET_QUEUED;
    }
    agent.again = true;
}

static AgentTask *
task_create(AgentRun *run, FleetTaskRef ref)
{
    MemoryContext context =
        AllocSetContextCreate(agent.context, "pg_fleet task run", ALLOCSET_SMALL_SIZES);
    AgentTask *task = MemoryContextAllocZero(context, sizeof(AgentTask));
    TaskEntry *entry = hash_search(agent.tasks, &ref, HASH_ENTER, NULL);

    entry->task = task;
    task->ref = ref;
    task->run = run;
    task->context = context;
    task->state = task->durable = FLEET_QUEUED;
    task->result.row_count = -1;
    dlist_push_tail(&run->tasks, &task->run_node);
    return task;
}

static void
task_token(AgentTask *task)
{
    char *text =
        psprintf("%s/%s/%u/%u", task->run->uuid, task->run->def->tasks[task->ref.task].name,
                 task->ref.item, task->attempt);

    agent_uuid_of(task->token, text);
    pfree(text);
}

/* The engine's number of a server that a row names. */
static uint32
row_server(const FleetTaskRow *row)
{
    AgentServer *server = row->server_id == 0 ? NULL : agent_server_by_id(row->server_id);

    return server == NULL ? AGENT_LOCAL_SERVER : server->number;
}

static void
task_load(AgentRun *run, const FleetTaskRow *row)
{
    FleetTaskRef ref = {run->handle, row->task, row->item};
    FleetLoad load = {.ref = ref, .state = row->state, .attempt = row->attempt};
    bool started = row->state != FLEET_QUEUED && !FLEET_STATE_IS_FINAL(row->state);

    load.failures = row->failures;
    load.server = row->attempt == 0 ? FLEET_NO_SERVER : row_server(row);
    load.since = fleet_clock_now();
    load.retry_at = row->state == FLEET_RETRYING ? fleet_clock_from_wall(row->finished_at) : 0;
    if (row->item == 0)
        run->task_durable[row->task] = (uint8) row->state;
    fleet_engine_load(agent.engine, &load);
    if (started && !(row->item == 0 && run->def->specs[row->task].for_each))
    {
        AgentTask *task = task_create(run, ref);

        task->state = task->durable = row->state;
        task->attempt = row->attempt;
        task->failures = row->failures;
        task->server = row->server_id == 0 ? NULL : agent_server_by_id(row->server_id);
        task->started_at = row->started_at;
        task->log_base = row->log_base;
        task->recovering = true;
        task_token(task);
    }
}

/* Number of items of each for_each task: what its rows show. */
static void
items_load(AgentRun *run, const FleetTaskRow *rows, int n)
{
    uint32 *counts = palloc0(sizeof(uint32) * Max(run->def->ntasks, 1));

    for (int i = 0; i < n; i++)
    {
        if (rows[i].task < run->def->ntasks)
            counts[rows[i].task] = Max(counts[rows[i].task], rows[i].item);
    }
    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        if (counts[t] > 0)
            fleet_engine_load_items(agent.engine, run->handle, t, counts[t]);
    }
}

static void
conditions_load(AgentRun *run)
{
    FleetConditionRow *rows;
    int n = fleet_condition_read(run->run_id, &rows);

    for (int i = 0; i < n; i++)
    {
        for (uint32 e = 0; e < run->def->nedges; e++)
        {
            if (run->def->edges[e].from == rows[i].from && run->def->edges[e].to == rows[i].to)
                fleet_engine_load_condition(agent.engine, run->handle, e, rows[i].holds);
        }
    }
}

/* What is durable of a run that was begun before. */
static void
run_recover(AgentRun *run, const FleetRunRow *row)
{
    FleetTaskRow *rows;
    int n = fleet_task_read(run->run_id, &rows);

    items_load(run, rows, n);
    for (int i = 0; i < n; i++)
    {
        if (rows[i].task < run->def->ntasks)
            task_load(run, &rows[i]);
    }
    conditions_load(run);
    if (row->state == FLEET_RUNNING || row->state == FLEET_CANCELING)
        fleet_engine_load_running(agent.engine, run->handle);
    fleet_engine_run_loaded(agent.engine, run->handle, row->cancel || row->state == FLEET_CANCELING,
                            fleet_clock_now());
}

static bool
has_rows(const FleetRunRow *row)
{
    FleetTaskRow *rows;

    return fleet_task_read(row->run_id, &rows) > 0;
}

static void
run_take(void *arg)
{
    const FleetRunRow *row = arg;
    AgentRun *run;

    if (agent_run_find(row->run_id) != NULL)
        return;
    run = run_create(row);
    run_enter(run, row->parent_run_id != 0 || row->parent_job_run_id != 0);
    run_link_parent(run, row);
    if (row->state == FLEET_QUEUED && !has_rows(row))
    {
        run_begin(run);
        if (row->cancel)
            (void) fleet_engine_cancel_run(agent.engine, run->handle, fleet_clock_now());
    }
    else
        run_recover(run, row);
}

void
agent_runs_load(const int64 *ids, int n)
{
    FleetRunRow *rows;
    int count = fleet_run_read(ids, n, &rows);

    fleet_task_on_start(on_start);
    for (int i = 0; i < count; i++)
    {
        char *error;

        if (!agent_protected(run_take, &rows[i], &error))
            fleet_run_write(rows[i].run_id, rows[i].state, FLEET_FAILED, 0, fleet_clock_wall(),
                            error);
    }
}

/* ---- re-attaching after recovery ---- */

static void
recover_unit(AgentTask *task, const FleetStepRow *steps, int n)
{
    const FleetTaskDef *def = &task->run->def->tasks[task->ref.task];
    FleetJobDef *job = def->job_def;
    const FleetStepRow *row = NULL;
    const char *sqlstate = "42704";
    char *error = NULL;
    AgentLink *link = NULL;
    AgentUnit *unit;

    for (int i = 0; i < n && row == NULL; i++)
    {
        if (steps[i].task == task->ref.task && steps[i].item == task->ref.item &&
            steps[i].task_attempt == task->attempt)
            row = &steps[i];
    }
    if (job == NULL)
    {
        agent_task_fail(task, sqlstate, "the job is not defined here");
        return;
    }
    if (task->server != NULL)
    {
        link = agent_link_get(task->server, job->owner_oid, &sqlstate, &error);
        if (link == NULL)
        {
            agent_task_fail(task, sqlstate, error);
            return;
        }
    }
    task->link = link;
    unit = agent_unit_for_task(task, job, link != NULL ? job->owner_oid : task->run->owner, link);
    agent_unit_recover(unit, row);
    if (task->state == FLEET_CANCELING && task->unit == unit && !unit->finished)
        agent_unit_cancel(unit);
}

static void
recover_nested(AgentTask *task)
{
    FleetState state;
    char *message;

    if (task->nested != NULL)
        return; /* it runs, and was found */
    state = fleet_run_nested_state(task->run->run_id, task->ref.task, task->ref.item, 0, &message);
    if (state == 0)
    {
        task->effect_start = true; /* its intent is there, the run is not */
        agent_task_effect(task);
        return;
    }
    task->result.message = agent_strdup(task->context, message);
    agent_task_finished(task, state);
}

static void
recover_task(AgentTask *task, const FleetStepRow *steps, int n)
{
    const FleetTaskDef *def = &task->run->def->tasks[task->ref.task];
    int max_seq = task->log_base;

    task->recovering = false;
    for (int i = 0; i < n; i++)
    {
        if (steps[i].task == task->ref.task && steps[i].item == task->ref.item)
        {
            max_seq = Max(max_seq, steps[i].max_seq);
            if (steps[i].task_attempt == task->attempt)
                task->seen_first = steps[i].first_seq;
        }
    }
    task->log_seq = max_seq;
    if (task->state == FLEET_RETRYING)
        return;
    if (task->run->def->specs[task->ref.task].kind == FLEET_TASK_PACKAGE)
        recover_nested(task);
    else if (def->sql != NULL || (task->server != NULL && !task->server->agent_mode))
        recover_unit(task, steps, n);
    else if (task->server != NULL)
        agent_remote_recover(task);
    else
        agent_task_fail(task, "42704", "the server is not there any more");
}

/* The parameters of recovered task runs are read again: their rows have the items' own. */
static void
recover_params(AgentTask *task)
{
    const char *base = agent_task_params(task->run, task->ref.task);
    char *own = task->ref.item == 0
                    ? NULL
                    : fleet_task_item_params(task->run->run_id, task->ref.task, task->ref.item);

    task->item_params = agent_strdup(task->context, own);
    task->params =
        MemoryContextStrdup(task->context, own == NULL ? base : fleet_definition_merge(base, own));
}

void
agent_runs_recovered(void)
{
    HASH_SEQ_STATUS seq;
    RunEntry *entry;

    hash_seq_init(&seq, agent.runs);
    while ((entry = hash_seq_search(&seq)) != NULL)
    {
        FleetStepRow *steps;
        int n;
        dlist_mutable_iter iter;

        if (dlist_is_empty(&entry->run->tasks))
            continue;
        n = fleet_step_read_newest(entry->run->run_id, 0, &steps);
        dlist_foreach_modify(iter, &entry->run->tasks)
        {
            AgentTask *task = dlist_container(AgentTask, run_node, iter.cur);

            if (!task->recovering)
                continue;
            recover_params(task);
            recover_task(task, steps, n);
        }
    }
}

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

void
agent_task_finished(AgentTask *task, FleetState outcome)
{
    task->finished_at = fleet_clock_wall();
    if (!fleet_engine_finished(agent.engine, task->ref, task->attempt, outcome,
                               task->result.sqlstate, fleet_clock_now()))
        ereport(DEBUG1, (errmsg("pg_fleet: a late end of run %lld task %u item %u was ignored",
                                (long long) task->run->run_id, task->ref.task, task->ref.item)));
    agent.again = true;
}

void
agent_task_fail(AgentTask *task, const char *sqlstate, const char *message)
{
    agent_result_clear(&task->result);
    task->result.row_count = -1;
    task->result.sqlstate = agent_strdup(task->context, sqlstate);
    task->result.message = agent_strdup(task->context, message);
    task->finished_at = fleet_clock_wall();
    (void) fleet_engine_fail(agent.engine, task->ref, sqlstate, fleet_clock_now());
    agent.again = true;
}

void
agent_task_free(AgentTask *task)
{
    if (task->linked)
        agent_remote_leave(task);
    if (task->unit != NULL)
        task->unit->task = NULL;
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
        task = task_create(run, d->ref);
        if (d->ref.item == 0)
            task->durable = (FleetState) run->task_durable[d->ref.task];
    }
    task->state = FLEET_STARTING;
    task->attempt = d->attempt;
    task->failures = d->failures;
    task->server = agent_server_by_number(d->server);
    task->log_base = task->log_seq;
    task->seen_first = 0;
    task->sent = task->acknowledged = task->cancel_sent = task->effect_cancel = false;
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
    task_token(task);
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
        if (run->task_written[d->ref.task] == agent.turn)
        {
            /* two changes of one row in one turn: the batch takes one; write this one after it */
            fleet_run_flush();
        }
        run->task_written[d->ref.task] = agent.turn;
        run->task_durable[d->ref.task] = (uint8) d->state;
    }
    if (d->ref.item == 0 && d->state == FLEET_FAILED && run->expand_error[d->ref.task] != NULL)
    {
        w.sqlstate = "F0001";
        w.message = run->expand_error[d->ref.task];
        if (run->message == NULL)
            run->message = MemoryContextStrdup(
                run->context,
                psprintf("task \"%s\" failed: %s", run->def->tasks[d->ref.task].name, w.message));
    }
    fleet_task_write(&w);
    agent_run_changed(run);
}

static void
decide_state(AgentRun *run, const FleetDecision *d)
{
    AgentTask *task = agent_task_find(d->ref);

    if (task == NULL)
    {
        decide_row_state(run, d);
        return;
    }
    task->state = d->state;
    task->failures = d->failures;
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
        if (d->state == FLEET_LOST && task->result.message == NULL)
            task->result.message =
                agent_strdup(task->context, "its server did not come back within fleet.lost_after");
        if (d->state == FLEET_SUCCEEDED)
            agent_task_learn(task);
        if (d->state == FLEET_FAILED || d->state == FLEET_LOST || d->state == FLEET_UNKNOWN)
            note_failure(task);
        task->over = true;
    }
    /* Not under way there any more, whatever happens next. */
    if (d->state != FLEET_CANCELING && d->state != FLEET_STARTING)
    {
        if (task->unit != NULL && (d->state == FLEET_LOST || !task->over))
            agent_unit_abandon(task->unit);
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
    AgentUnit *unit = run->parent_unit;

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
    if (unit != NULL)
    {
        run->parent_unit = NULL;
        agent_unit_nested_ended(unit, run);
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
    char *why = NULL;

    task->nested = agent_run_nested(run->def->tasks[task->ref.task].package, run->owner,
                                    task->params, run->priority, task, NULL, &why);
    if (task->nested == NULL)
        agent_task_fail(task, "42704", why);
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
    if (!task->server->agent_mode)
    {
        if (def->job_def == NULL)
            error = psprintf("job \"%s\" is not defined here, and server \"%s\" is of mode direct",
                             def->job, task->server->name);
        else if (!OidIsValid(def->job_def->owner_oid))
            error = psprintf("role %s, owner of job \"%s\", does not exist any more",
                             def->job_def->owner, def->job);
        else if (!is_member_of_role(run->owner, def->job_def->owner_oid))
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
            agent_unit_begin(agent_unit_for_task(task, def->job_def, run->owner, NULL));
            break;
        case FLEET_TASK_JOB:
            if (task->server->agent_mode)
                agent_remote_start(task);
            else
                agent_unit_begin(
                    agent_unit_for_task(task, def->job_def, def->job_def->owner_oid, task->link));
            break;
    }
}

static void
cancel_task(AgentTask *task)
{
    if (task->unit != NULL)
        agent_unit_cancel(task->unit);
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

/* ---- requests ---- */

void
agent_run_cancel(int64 run_id)
{
    AgentRun *run = agent_run_find(run_id);

    if (run != NULL && fleet_engine_cancel_run(agent.engine, run->handle, fleet_clock_now()))
        agent.again = true;
}

void
agent_cancels_load(void)
{
    FleetRunRow *runs;
    FleetJobRunRow *jobs;
    int n = fleet_run_read(NULL, 0, &runs);

    for (int i = 0; i < n; i++)
    {
        if (runs[i].cancel)
            agent_run_cancel(runs[i].run_id);
    }
    n = fleet_job_run_read(NULL, 0, &jobs);
    for (int i = 0; i < n; i++)
    {
        if (jobs[i].cancel)
            agent_job_run_cancel(jobs[i].job_run_id);
    }
}

AgentRun *
agent_run_nested(const char *package, Oid owner, const char *params, int32 priority,
                 AgentTask *task, AgentUnit *unit, char **why)
{
    char uuid[37];
    char *text;
    int64 run_id;
    AgentRun *run;

    fleet_catalog_begin();
    if (task != NULL)
        text = psprintf("%s/nested", task->token);
    else
        text = psprintf("%s/%lld/%d/%d", agent.identity.uuid, (long long) unit->job_run_id,
                        unit->step.first_seq, unit->job.attempt);
    agent_uuid_of(uuid, text);
    run_id = fleet_run_insert_nested(
        package, owner, params, priority, uuid, task != NULL ? task->run->run_id : 0,
        task != NULL ? task->ref.task : 0, task != NULL ? task->ref.item : 0,
        unit != NULL ? unit->job_run_id : 0, why);
    if (run_id == 0)
        return NULL;
    agent_runs_load(&run_id, 1);
    run = agent_run_find(run_id);
    if (run == NULL)
        *why = "the package could not be loaded";
    agent.again = true;
    return run;
}

void
agent_run_forget(AgentRun *run)
{
    dlist_mutable_iter iter;

    agent_queries_forget(run);
    dlist_foreach_modify(iter, &run->tasks)
        agent_task_free(dlist_container(AgentTask, run_node, iter.cur));
    if (run->dirty)
        dlist_delete(&run->dirty_node);
    if (run->changed)
        dlist_delete(&run->changed_node);
    fleet_engine_run_forget(agent.engine, run->handle);
    hash_search(agent.runs, &run->run_id, HASH_REMOVE, NULL);
    MemoryContextDelete(run->context);
}
