/*
 * agent/run.c
 *     Runs of packages: the table of those that are open, and what changes in
 *     each.  In the agent's process.
 */
#include "postgres.h"

#include "agent/run.h"
#include "agent/learn.h"
#include "agent/named.h"
#include "agent/quota.h"
#include "agent/target.h"
#include "hand.h"
#include "store/run_write.h"
#include "store/stat.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Of runs. */
typedef struct RunEntry
{
    int64 run_id; /* hash key */
    AgentRun *run;
} RunEntry;

static HTAB *runs;
static dlist_head dirty = DLIST_STATIC_INIT(dirty);     /* AgentRun.dirty_node */
static dlist_head changed = DLIST_STATIC_INIT(changed); /* AgentRun.changed_node */

static const AgentRunHooks *hooks;

void
agent_runs_init(const AgentRunHooks *run_hooks)
{
    hooks = run_hooks;
    runs = agent_table("pg_fleet runs", sizeof(int64), sizeof(RunEntry), HASH_BLOBS);
}

/* ---- finding ---- */

AgentRun *
agent_run_find(int64 run_id)
{
    RunEntry *entry = hash_search(runs, &run_id, HASH_FIND, NULL);

    return entry == NULL ? NULL : entry->run;
}

AgentRun *
agent_run_by_handle(uint32 handle)
{
    return (AgentRun *) (uintptr_t) fleet_engine_run_tag(agent.engine, handle);
}

void
agent_runs_each(void (*visit)(AgentRun *run))
{
    HASH_SEQ_STATUS seq;
    RunEntry *entry;

    hash_seq_init(&seq, runs);
    while ((entry = hash_seq_search(&seq)) != NULL)
        visit(entry->run);
}

/* ---- what has changed ---- */

void
agent_run_changed(AgentRun *run)
{
    if (!run->changed)
        dlist_push_tail(&changed, &run->changed_node);
    run->changed = true;
}

void
agent_run_dirty(AgentRun *run)
{
    if (!run->dirty)
        dlist_push_tail(&dirty, &run->dirty_node);
    run->dirty = true;
    agent_run_changed(run);
}

bool
agent_runs_dirty(void)
{
    return !dlist_is_empty(&dirty);
}

AgentRun *
agent_run_next_dirty(void)
{
    AgentRun *run;

    if (dlist_is_empty(&dirty))
        return NULL;
    run = dlist_container(AgentRun, dirty_node, dlist_pop_head_node(&dirty));
    run->dirty = false;
    return run;
}

AgentRun *
agent_run_next_changed(void)
{
    AgentRun *run;

    if (dlist_is_empty(&changed))
        return NULL;
    run = dlist_container(AgentRun, changed_node, dlist_pop_head_node(&changed));
    run->changed = false;
    return run;
}

/* What waits and runs of it, as its counters (fleet.stat) are to say. */
static void
count(AgentRun *run, uint32 waiting, uint32 running)
{
    if (waiting == run->waiting && running == run->running)
        return;
    fleet_stat_waits(run->run_id, (int64) waiting - run->waiting, (int64) running - run->running);
    run->waiting = waiting;
    run->running = running;
}

void
agent_runs_count(void)
{
    dlist_iter iter;

    dlist_foreach(iter, &changed)
    {
        AgentRun *run = dlist_container(AgentRun, changed_node, iter.cur);
        FleetRunCounts counts;

        fleet_engine_run_counts(agent.engine, run->handle, &counts);
        count(run, counts.waiting, counts.running);
    }
}

void
agent_run_stored(AgentRun *run)
{
    run->durable = run->state;
}

void
agent_run_set_parent_task(AgentRun *run, AgentTask *task)
{
    run->parent_task = task;
}

void
agent_run_set_parent_local(AgentRun *run, LocalJob *local)
{
    run->parent_local = local;
}

void
agent_run_decided(AgentRun *run, FleetState state)
{
    run->state = state;
    run->ended = run->ended || FLEET_STATE_IS_FINAL(state);
    agent_run_dirty(run);
}

void
agent_run_row(AgentRun *run, uint32 task, FleetState state)
{
    run->task_durable[task] = (uint8) state;
}

bool
agent_run_row_written(AgentRun *run, uint32 task, FleetState state)
{
    bool again = run->task_written[task] == turn_number();

    run->task_written[task] = turn_number();
    agent_run_row(run, task, state);
    return again;
}

void
agent_run_takes_over(AgentRun *run, uint32 task, int64 from)
{
    if (run->restart)
        run->take_over[task] = from;
}

int64
agent_run_taken_over(const AgentRun *run, uint32 task)
{
    return run->restart ? run->take_over[task] : 0;
}

void
agent_run_cannot_begin(AgentRun *run, uint32 task, const char *sqlstate, const char *why)
{
    AgentReason *reason = &run->cannot_begin[task];

    if (reason->message != NULL)
        return;
    reason->message = MemoryContextStrdup(run->context, why);
    reason->sqlstate = MemoryContextStrdup(run->context, sqlstate);
}

bool
agent_run_hindered(AgentRun *run, uint32 task, const char *why)
{
    char *had = run->hindered[task];

    if (why == NULL ? had == NULL : had != NULL && strcmp(had, why) == 0)
        return false;
    if (had != NULL)
        pfree(had);
    run->hindered[task] = agent_strdup(run->context, why);
    return true;
}

void
agent_run_skips(AgentRun *run, const FleetSkipRow *rows, int n)
{
    if (n == 0 && run->nskips == 0)
        return;
    if (run->skip_context == NULL)
        run->skip_context =
            AllocSetContextCreate(run->context, "pg_fleet skips", ALLOCSET_SMALL_SIZES);
    MemoryContextReset(run->skip_context);
    run->skips = MemoryContextAllocHuge(run->skip_context, sizeof(FleetSkipRow) * (Size) Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        run->skips[i] = rows[i];
        run->skips[i].why = MemoryContextStrdup(run->skip_context, rows[i].why);
    }
    run->nskips = n;
}

static int
compare_skips(const void *a, const void *b)
{
    const FleetSkipRow *x = a, *y = b;

    if (x->task != y->task)
        return x->task < y->task ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

const char *
agent_run_skipped_why(const AgentRun *run, FleetTaskRef ref)
{
    FleetSkipRow key = {.task = ref.task, .item = ref.item};
    const FleetSkipRow *row = run->nskips == 0 ? NULL
                                               : bsearch(&key, run->skips, (size_t) run->nskips,
                                                         sizeof(key), compare_skips);

    return row == NULL ? NULL : row->why;
}

/* What was said of its failure is said of it no longer. */
void
agent_run_once_more(AgentRun *run, uint32 task)
{
    char *of = psprintf("task \"%s\" ", run->def->tasks[task].name);

    run->cannot_begin[task] = (AgentReason){0};
    if (run->message != NULL && strncmp(run->message, of, strlen(of)) == 0)
        run->message = NULL;
}

/* Only the first reason is kept: it is the run's message. */
void
agent_run_reason(AgentRun *run, const char *message)
{
    if (run->message == NULL)
        run->message = MemoryContextStrdup(run->context, message);
}

void
agent_run_stopped(AgentRun *run, const char *message)
{
    run->message = MemoryContextStrdup(run->context, message);
}

void
agent_run_out_of_time(AgentRun *run)
{
    Interval span = {.time = run->timeout};
    char *text = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&span)));

    run->timed_out = true;
    agent_run_stopped(run, psprintf("timed out after %s", text));
}

void
agent_run_cancel(int64 run_id)
{
    AgentRun *run = agent_run_find(run_id);

    if (run == NULL)
        return;
    fleet_hand_take(FLEET_HAND_RUN, run_id, "work_cancel");
    hooks->cancel(run);
    if (fleet_engine_cancel_run(agent.engine, run->handle, fleet_clock_now()))
        turn_again();
    else
        hooks->again(run);
}

bool
agent_run_cancel_reaches(const AgentRun *run, uint32 task)
{
    return run->cancel_final || !run->def->specs[task].last;
}

static void
cancel_nested(AgentRun *run)
{
    dlist_iter iter;

    dlist_foreach(iter, &run->tasks)
    {
        AgentTask *task = dlist_container(AgentTask, run_node, iter.cur);

        if (task->nested != NULL && !task->over)
            agent_run_cancel_all(task->nested->run_id);
    }
}

/* Known before the first cancel: nothing that follows from it begins a final task. */
void
agent_run_cancel_all(int64 run_id)
{
    AgentRun *run = agent_run_find(run_id);

    if (run == NULL)
        return;
    run->cancel_final = true;
    agent_run_cancel(run_id);
    (void) fleet_engine_cancel_final(agent.engine, run->handle, fleet_clock_now());
    cancel_nested(run);
    turn_again();
}

/* ---- parameters ---- */

const char *
agent_run_task_params(AgentRun *run, uint32 task)
{
    if (run->task_params[task] == NULL)
    {
        const char *own =
            run->resolved[task] != NULL ? run->resolved[task] : run->def->tasks[task].params;

        run->task_params[task] =
            strcmp(own, "{}") == 0
                ? run->params
                : MemoryContextStrdup(run->context, fleet_definition_merge(run->params, own));
    }
    return run->task_params[task];
}

void
agent_run_resolved(AgentRun *run, uint32 task, const char *own)
{
    run->resolved[task] = MemoryContextStrdup(run->context, own);
    run->task_params[task] = NULL;
}

bool
agent_run_unresolved(const AgentRun *run, uint32 task)
{
    return run->def->tasks[task].templates && run->resolved[task] == NULL;
}

/* ---- life ---- */

AgentRun *
agent_run_create(const FleetRunRow *row)
{
    /* the turn's, until it is complete: an error leaves nothing behind */
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "pg_fleet run", ALLOCSET_SMALL_SIZES);
    AgentRun *run = MemoryContextAllocZero(context, sizeof(AgentRun));
    FleetAlloc alloc = agent_alloc(context);
    FleetError error;

    run->context = context;
    run->run_id = row->run_id;
    strlcpy(run->uuid, row->run_uuid, sizeof(run->uuid));
    run->owner = row->owner;
    run->priority = row->priority;
    run->params = MemoryContextStrdup(context, row->params);
    run->scheduled_for = agent_strdup(context, row->scheduled_for);
    run->hook_depth = row->hook_depth;
    run->state = run->durable = row->state;
    run->timeout = row->timeout;
    run->timed_out = row->timed_out;
    if (row->message != NULL)
        agent_run_reason(run, row->message);
    dlist_init(&run->tasks);
    run->def = fleet_definition_package(row->definition, context);
    run->task_params = MemoryContextAllocZero(context, sizeof(char *) * Max(run->def->ntasks, 1));
    run->task_durable = MemoryContextAllocZero(context, Max(run->def->ntasks, 1));
    run->task_written = MemoryContextAllocZero(context, sizeof(uint64) * Max(run->def->ntasks, 1));
    run->resolved = MemoryContextAllocZero(context, sizeof(char *) * Max(run->def->ntasks, 1));
    run->cannot_begin =
        MemoryContextAllocZero(context, sizeof(AgentReason) * Max(run->def->ntasks, 1));
    run->restart = row->restart_of != 0;
    run->cancel_final = row->cancel_final;
    if (run->restart)
        run->take_over = MemoryContextAllocZero(context, sizeof(int64) * Max(run->def->ntasks, 1));
    run->hindered = MemoryContextAllocZero(context, sizeof(char *) * Max(run->def->ntasks, 1));
    agent_estimates_load(run);
    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        const FleetTaskDef *task = &run->def->tasks[t];

        /* the definition is shared with runs of others: what counts is the graph's copy */
        if (run->def->specs[t].kind == FLEET_TASK_JOB)
            run->def->specs[t].target = agent_target(
                task->server, task->group, run->owner,
                task->job_def != NULL && !task->by_name ? task->job_def->owner_oid : InvalidOid,
                context);
        agent_named_resolve(&task->limits, run->owner, &run->def->specs[t]);
        if (run->def->specs[t].kind == FLEET_TASK_SQL)
            agent_quota_task(run->owner, &run->def->specs[t]);
    }
    run->graph = fleet_graph_create(&alloc, run->def->specs, run->def->ntasks, run->def->edges,
                                    run->def->nedges, &error);
    if (run->graph == NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", error.message)));
    MemoryContextSetParent(context, agent.context);
    return run;
}

void
agent_run_enter(AgentRun *run, bool nested)
{
    RunEntry *entry = hash_search(runs, &run->run_id, HASH_ENTER, NULL);

    entry->run = run;
    run->nested = nested;
    run->handle = fleet_engine_run_add(agent.engine, run->graph, run->priority,
                                       (uint64) (uintptr_t) run, fleet_clock_now());
    if (nested)
        fleet_engine_run_nested(agent.engine, run->handle);
    if (run->def->strict)
        fleet_engine_run_strict(agent.engine, run->handle);
    agent_run_changed(run);
}

/* A run that no agent has begun: all its tasks get their rows. */
void
agent_run_begin(AgentRun *run)
{
    TimestampTz now = fleet_clock_wall();

    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        fleet_task_write_new(run->run_id, t, now);
        run->task_durable[t] = FLEET_QUEUED;
    }
    turn_again();
}

void
agent_run_free(AgentRun *run)
{
    if (run->dirty)
        dlist_delete(&run->dirty_node);
    if (run->changed)
        dlist_delete(&run->changed_node);
    count(run, 0, 0);
    fleet_stat_forget(run->run_id);
    fleet_engine_run_forget(agent.engine, run->handle);
    hash_search(runs, &run->run_id, HASH_REMOVE, NULL);
    MemoryContextDelete(run->context);
}
