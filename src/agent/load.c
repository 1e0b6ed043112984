/*
 * agent/load.c
 *     Runs from their rows: requests of sessions, what an earlier agent left,
 *     and packages that a task or a step starts.  In the agent's process.
 *
 * Each run is loaded in a subtransaction of its own: one that cannot be loaded
 * fails with the reason, and the others go on.
 */
#include "postgres.h"

#include "agent/load.h"
#include "agent/late.h"
#include "agent/learn.h"
#include "agent/limits.h"
#include "agent/local_job.h"
#include "agent/quarantine.h"
#include "agent/retire.h"
#include "agent/raise.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/stat.h"
#include "agent/steer.h"
#include "agent/task.h"
#include "store/identity.h"
#include "store/run_write.h"
#include "store/run_close.h"
#include "store/nested.h"
#include "store/condition.h"
#include "store/spi.h"
#include "nodes/bitmapset.h"
#include "utils/memutils.h"

/* During the flush: the started row's own parameters. */
static void
on_start(int64 run_id, uint32 task_no, uint32 item, const FleetItemParams *params)
{
    AgentRun *run = agent_run_find(run_id);
    AgentTask *task = agent_task_find((FleetTaskRef){run->handle, task_no, item});
    const char *base = agent_run_task_params(run, task_no);
    bool handler = run->def->specs[task_no].handler; /* its row has the failure instead */

    if (task->params != NULL)
        return; /* a further attempt */
    if (item == 0)
        params = NULL; /* its row's are in the base */
    agent_task_set_params(
        task, params == NULL || handler ? base : fleet_definition_merge_item(base, params),
        params == NULL || handler ? NULL : agent_item_key(params->key, params->text));
    if (handler && params != NULL)
        agent_task_set_failure(task, params->text);
}

static void
run_link_parent(AgentRun *run, const FleetRunRow *row)
{
    AgentRun *parent;
    LocalJob *local;

    if (row->parent_run_id != 0 && (parent = agent_run_find(row->parent_run_id)) != NULL)
    {
        AgentTask *task =
            agent_task_find((FleetTaskRef){parent->handle, row->parent_task, row->parent_item});

        agent_run_set_parent_task(run, task);
        if (task != NULL)
            agent_task_set_nested(task, run);
    }
    if (row->parent_job_run_id != 0 &&
        (local = local_job_by_job_run(row->parent_job_run_id)) != NULL)
    {
        agent_run_set_parent_local(run, local);
        local_job_set_nested(local, run);
    }
}

/* The engine's number of a server that a row names. */
static uint32
row_server(const FleetTaskRow *row)
{
    AgentServer *server = row->server_id == 0 ? NULL : agent_server_by_id(row->server_id);

    return server == NULL ? AGENT_LOCAL_SERVER : server->number;
}

/* What the templates of a task stood for when it began. */
static void
resolved_load(AgentRun *run, uint32 task)
{
    char *key;
    char *own =
        agent_run_unresolved(run, task) ? fleet_task_item_params(run->run_id, task, 0, &key) : NULL;

    if (own != NULL)
        agent_run_resolved(run, task, own);
}

/* As it was when the items became known; costs: of all of them. */
static FleetTime
item_estimate_load(AgentRun *run, const FleetTaskRow *row, const FleetCosts *costs)
{
    if (row->item == 0 || FLEET_STATE_IS_FINAL(row->state) ||
        (row->item_key == NULL && costs->count == 0))
        return 0;
    return agent_item_estimate(run, row->task, agent_item_learned(run, row->task, row->item_key),
                               costs, row->cost);
}

static void
task_load(AgentRun *run, const FleetTaskRow *row, const FleetCosts *costs)
{
    FleetTaskRef ref = {run->handle, row->task, row->item};
    FleetLoad load = {.ref = ref, .state = row->state, .attempt = row->attempt};
    /* One that never started there waits for its next attempt, and has said something already. */
    bool started =
        (row->state != FLEET_QUEUED || row->attempt > 0) && !FLEET_STATE_IS_FINAL(row->state);

    load.failures = row->failures;
    load.server = row->attempt == 0 ? FLEET_NO_SERVER : row_server(row);
    /* its timeout counts from its start, whichever agent that was under */
    load.since = row->state == FLEET_RUNNING && row->started_at != 0
                     ? fleet_clock_from_wall(row->started_at)
                     : fleet_clock_now();
    load.estimate = item_estimate_load(run, row, costs);
    load.retry_at = row->state == FLEET_RETRYING ? fleet_clock_from_wall(row->finished_at) : 0;
    if (row->item == 0)
    {
        resolved_load(run, row->task);
        agent_run_row(run, row->task, row->state);
        agent_run_takes_over(run, row->task, row->carried_from);
    }
    if (run->durable == FLEET_QUEUED && row->state == FLEET_SUCCEEDED)
    {
        fleet_engine_carry(agent.engine, run->handle, row->task);
        return;
    }
    fleet_engine_load(agent.engine, &load);
    if (started && !(row->item == 0 &&
                     (run->def->specs[row->task].for_each || run->def->specs[row->task].handler)))
        (void) agent_task_load(run, ref, row);
}

/* Number of items of each for_each task: what its rows show.  Returns their costs, by task. */
static FleetCosts *
items_load(AgentRun *run, const FleetTaskRow *rows, int n)
{
    uint32 *counts = palloc0(sizeof(uint32) * Max(run->def->ntasks, 1));
    FleetCosts *costs = palloc0(sizeof(FleetCosts) * Max(run->def->ntasks, 1));

    for (int i = 0; i < n; i++)
    {
        uint32 task = rows[i].task;

        if (task >= run->def->ntasks)
            continue;
        counts[task] = Max(counts[task], rows[i].item);
        if (run->def->tasks[task].columns.cost != NULL)
            fleet_costs_add(&costs[task], rows[i].cost);
    }
    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        if (counts[t] > 0)
            fleet_engine_load_items(agent.engine, run->handle, t, counts[t]);
    }
    return costs;
}

/*
 * A for_each that is still queued has not stored all its items when an agent ended: they are forgotten,
 * and it is asked again.  Nothing of them has begun.  (Those of a handler come one by one.)  Returns
 * how many rows are left.
 */
static int
half_expanded_forget(const AgentRun *run, FleetTaskRow *rows, int n)
{
    Bitmapset *queued = NULL, *half = NULL;
    int left = 0, task = -1;

    for (int i = 0; i < n; i++)
    {
        if (rows[i].item == 0 && rows[i].state == FLEET_QUEUED &&
            !(rows[i].task < run->def->ntasks && run->def->specs[rows[i].task].handler))
            queued = bms_add_member(queued, (int) rows[i].task);
    }
    for (int i = 0; i < n; i++)
    {
        if (rows[i].item > 0 && bms_is_member((int) rows[i].task, queued))
            half = bms_add_member(half, (int) rows[i].task);
        else
            rows[left++] = rows[i];
    }
    while ((task = bms_next_member(half, task)) >= 0)
        fleet_task_forget_items(run->run_id, (uint32) task);
    return left;
}

/* What is durable of a run: read before anything of it is in memory. */
typedef struct RunFacts
{
    const FleetRunRow *row;
    FleetTaskRow *tasks;
    int ntasks; /* 0: not begun */
    FleetConditionRow *conditions;
    int nconditions;
} RunFacts;

static void
conditions_load(AgentRun *run, const RunFacts *facts)
{
    for (int i = 0; i < facts->nconditions; i++)
    {
        const FleetConditionRow *row = &facts->conditions[i];

        for (uint32 e = 0; e < run->def->nedges; e++)
        {
            if (run->def->edges[e].from == row->from && run->def->edges[e].to == row->to)
                fleet_engine_load_condition(agent.engine, run->handle, e, row->holds);
        }
    }
}

static void
run_recover(AgentRun *run, const RunFacts *facts)
{
    const FleetRunRow *row = facts->row;

    const FleetCosts *costs = items_load(run, facts->tasks, facts->ntasks);

    for (int i = 0; i < facts->ntasks; i++)
    {
        if (facts->tasks[i].task < run->def->ntasks)
            task_load(run, &facts->tasks[i], &costs[facts->tasks[i].task]);
    }
    conditions_load(run, facts);
    agent_steer_load(run);
    if (row->cancel_final)
        fleet_engine_load_cancel_final(agent.engine, run->handle);
    if (row->state == FLEET_RUNNING || row->state == FLEET_CANCELING)
        fleet_engine_load_running(agent.engine, run->handle);
    fleet_engine_run_loaded(agent.engine, run->handle, row->cancel || row->state == FLEET_CANCELING,
                            fleet_clock_now());
}

static void
run_take(void *arg)
{
    FleetRunRow *row = arg;
    RunFacts facts = {.row = row};
    AgentRun *run;

    if (agent_run_find(row->run_id) != NULL)
        return;
    fleet_hand_take(FLEET_HAND_RUN, row->run_id, "work_load");
    if (row->run_uuid == NULL)
        row->run_uuid = fleet_identity_run_uuid(row->run_id);
    facts.ntasks = fleet_task_read(row->run_id, &facts.tasks);
    if (facts.ntasks > 0)
        facts.nconditions = fleet_condition_read(row->run_id, &facts.conditions);
    run = agent_run_create(row);
    facts.ntasks = half_expanded_forget(run, facts.tasks, facts.ntasks);
    agent_run_enter(run, row->parent_run_id != 0 || row->parent_job_run_id != 0);
    agent_limits_load(run, row);
    agent_late_load(run, row);
    run_link_parent(run, row);
    agent_steer_pause_run(run);
    if (row->state == FLEET_QUEUED && facts.ntasks == 0)
    {
        agent_run_begin(run);
        agent_steer_skip(run->run_id);
        if (row->cancel) /* it has not begun, and its final tasks do not */
            (void) fleet_engine_cancel_run(agent.engine, run->handle, fleet_clock_now());
    }
    else
    {
        run_recover(run, &facts);
        agent_stat_found(facts.tasks, facts.ntasks);
    }
}

/* Loading it failed on the way: nothing of it may stay in memory. */
static void
run_drop(int64 run_id)
{
    AgentRun *run = agent_run_find(run_id);

    if (run == NULL)
        return;
    if (run->parent_task != NULL)
        agent_task_set_nested(run->parent_task, NULL);
    if (run->parent_local != NULL)
        local_job_set_nested(run->parent_local, NULL);
    agent_run_retire(run);
}

/* Runs that could not be loaded; who waits for them is told after the commit. */
static int64 *refused;
static int nrefused, refused_capacity;

static void
run_refuse(const FleetRunRow *row, const FleetDiagnostics *failure)
{
    fleet_hand_take(FLEET_HAND_RUN, row->run_id, "work_refuse");
    run_drop(row->run_id);
    fleet_run_close_line(row->run_id, failure->sqlstate, failure->message);
    fleet_run_close(row->run_id, failure->sqlstate, failure->message);
    fleet_run_write(row->run_id, row->state, FLEET_FAILED, 0, fleet_clock_wall(), failure->message,
                    false);
    if (row->parent_run_id == 0 && row->parent_job_run_id == 0)
        agent_raise_run_unread(row, failure);
    fleet_run_flush(); /* who started it reads its state */
    if (nrefused == refused_capacity)
    {
        refused_capacity = Max(64, refused_capacity * 2);
        refused = refused == NULL
                      ? MemoryContextAlloc(agent.context, sizeof(int64) * refused_capacity)
                      : repalloc(refused, sizeof(int64) * refused_capacity);
    }
    refused[nrefused++] = row->run_id;
}

void
agent_runs_refused_tell(void)
{
    while (nrefused > 0)
        fleet_shared_run_changed(agent.shared, refused[--nrefused], true);
}

void
agent_runs_load(const int64 *ids, int n)
{
    FleetRunRow *rows;
    int count = fleet_run_read(ids, n, &rows);

    fleet_task_on_start(on_start);
    for (int i = 0; i < count; i++)
    {
        FleetDiagnostics failure;

        if (agent_quarantine_untouchable(FLEET_HAND_RUN, rows[i].run_id))
            continue;
        if (agent_quarantined(FLEET_HAND_RUN, rows[i].run_id, &failure) ||
            !agent_protected(run_take, &rows[i], &failure))
            run_refuse(&rows[i], &failure);
    }
    fleet_hand_empty();
}

/* ---- packages that a task or a step starts ---- */

typedef struct NestedStart
{
    const char *package;
    const char *definition; /* the document that has it ... */
    const char *job;        /* ... in this job; NULL: in itself */
    Oid owner;
    const char *params;
    int32 priority;
    char uuid[37];
    AgentTask *task;
    LocalJob *local;
    int64 run_id; /* 0: not inserted */
    char *why;
} NestedStart;

static void
nested_take(void *arg)
{
    NestedStart *n = arg;
    FleetTaskRef ref = n->task != NULL ? n->task->ref : (FleetTaskRef){0, 0, 0};
    FleetRunRow *row;

    if (n->task != NULL && n->task->run->restart)
        n->run_id = fleet_run_restart_nested(n->task->run->run_id, ref.task, ref.item, n->uuid);
    if (n->run_id == 0)
        n->run_id = fleet_run_insert_nested(
            n->package, n->definition, n->job, n->owner, n->params, n->priority, n->uuid,
            n->task != NULL ? n->task->run->run_id : 0, ref.task, ref.item,
            n->local != NULL ? local_job_job_run_id(n->local) : 0, &n->why);
    if (n->run_id != 0 && fleet_run_read(&n->run_id, 1, &row) == 1)
        run_take(row);
}

/* As its run, or its job run, has it in its document.  What is wrong with the package is found now. */
AgentRun *
agent_run_nested(const char *package, Oid owner, const char *params, int32 priority,
                 AgentTask *task, LocalJob *local, FleetDiagnostics *failure)
{
    NestedStart nested = {.package = package,
                          .owner = owner,
                          .params = params,
                          .priority = priority,
                          .task = task,
                          .local = local};

    nested.definition = fleet_definition_hash(task != NULL ? task->run->def->definition
                                                           : local_job_definition(local));
    nested.job = task == NULL ? local_job_of_run(local) : NULL;
    if (task != NULL)
        agent_task_nested_uuid(task, nested.uuid);
    else
        local_job_nested_uuid(local, nested.uuid);
    if (!agent_protected(nested_take, &nested, failure))
    {
        run_drop(nested.run_id);
        return NULL;
    }
    if (nested.run_id == 0)
    {
        fleet_diagnostics_set(failure, FLEET_SQLSTATE_UNDEFINED_OBJECT, nested.why);
        return NULL;
    }
    turn_again();
    return agent_run_find(nested.run_id);
}
