/*
 * agent/query.c
 *     for_each queries and conditions: user SQL, so they run in a runner
 *     connected as the run's owner, read-only.  In the agent's process.
 *
 * The items of a for_each that a restart takes over come from rows instead, in
 * the same slices.
 */
#include "postgres.h"

#include "agent/query.h"
#include "agent/given.h"
#include "agent/learn.h"
#include "agent/quota.h"
#include "agent/run.h"
#include "store/condition.h"
#include "store/run_close.h"
#include "store/run_write.h"
#include "store/take_over.h"
#include "store/spi.h"
#include "lib/stringinfo.h"
#include "common/hashfn.h"
#include "hand.h"
#include "points.h"
#include "security.h"
#include "utils/memutils.h"

/* What the estimate of an item will follow from. */
typedef struct ItemGuess
{
    const FleetEstimate *learned;
    double cost;
} ItemGuess;

/* An item_key by its hash, of 128 bits: nothing else has the same. */
typedef struct KeyEntry
{
    uint64 hash[2];
    uint32 row;
} KeyEntry;

typedef struct AgentQuery
{
    dlist_node node;
    MemoryContext context;
    AgentRun *run;
    bool condition;
    uint32 task; /* for_each: of the task */
    uint32 edge; /* condition: of the edge */
    char *sql;
    FleetExecutor *executor;
    uint64 ref;
    char **rows;
    uint32 nrows, capacity;
    int tries;
    /* for_each: its rows become rows of task runs, a slice a turn */
    bool storing;
    uint32 stored, room; /* of the arrays below */
    FleetTime *estimates;
    ItemGuess *guesses; /* until all are known; NULL: they have no costs */
    FleetCosts costs;
    HTAB *keys;     /* the item_keys that there are; NULL: none */
    bool take_over; /* its items are those of the run that its run restarts: nrows is not known … */
    bool *carried; /* … and this says which of them have succeeded there */
    int mark;      /* new rows of task runs before this slice */
    uint32 at;     /* row that is being looked at */
} AgentQuery;

/* Rows of task runs a turn, of all queries together: other runs wait for them. */
#define STORE_SLICE 2048

/* All that are not finished; those without an executor wait for one, or are being stored. */
static dlist_head queries = DLIST_STATIC_INIT(queries);

static AgentQuery *
query_create(AgentRun *run, bool condition, uint32 number)
{
    MemoryContext context =
        AllocSetContextCreate(agent.context, "pg_fleet query", ALLOCSET_SMALL_SIZES);
    AgentQuery *query = MemoryContextAllocZero(context, sizeof(AgentQuery));

    query->context = context;
    query->run = run;
    query->condition = condition;
    if (condition)
        query->edge = number;
    else
        query->task = number;
    dlist_push_tail(&queries, &query->node);
    turn_again();
    return query;
}

static void
query_free(AgentQuery *query)
{
    if (query->ref != 0)
        agent_request_forget(query->ref);
    if (query->executor != NULL)
    {
        if (query->ref != 0)
            query->executor->methods->cancel(query->executor);
        query->executor->owner = NULL;
        fleet_runner_done(query->executor);
    }
    dlist_delete(&query->node);
    MemoryContextDelete(query->context);
    turn_again();
}

void
agent_query_expand(AgentRun *run, uint32 task)
{
    AgentQuery *query = query_create(run, false, task);

    query->sql = run->def->tasks[task].for_each;
    query->take_over = query->storing = agent_run_taken_over(run, task) != 0;
}

void
agent_query_condition(AgentRun *run, uint32 edge)
{
    AgentQuery *query = query_create(run, true, edge);

    query->sql = MemoryContextStrdup(
        query->context, psprintf("SELECT (%s\n)::pg_catalog.bool", run->def->conditions[edge]));
}

/* The task that waits for its answer. */
static uint32
for_task(const AgentQuery *query)
{
    return query->condition ? (uint32) query->run->def->edges[query->edge].to : query->task;
}

static bool
is_wanted(const AgentQuery *query)
{
    FleetState state = fleet_engine_run_state(agent.engine, query->run->handle);

    return state == FLEET_RUNNING ||
           (state == FLEET_CANCELING && !agent_run_cancel_reaches(query->run, for_task(query)));
}

/* ---- ends ---- */

static void
expand_failed(AgentQuery *query, const char *message)
{
    AgentRun *run = query->run;

    agent_run_cannot_begin(run, query->task, FLEET_SQLSTATE_BAD_QUERY,
                           psprintf("for_each: %s", message));
    (void) fleet_engine_items_failed(agent.engine, run->handle, query->task, fleet_clock_now());
}

static void
condition_done(AgentQuery *query)
{
    AgentRun *run = query->run;
    const FleetEdgeSpec *edge = &run->def->edges[query->edge];
    bool holds = query->nrows > 0 && query->rows[0] != NULL &&
                 (query->rows[0][0] == 't' || query->rows[0][0] == 'T');

    if (!fleet_engine_asks(agent.engine, run->handle, query->edge))
        return; /* its task has been decided otherwise */
    fleet_condition_write(run->run_id, edge->from, edge->to, holds);
    (void) fleet_engine_condition(agent.engine, run->handle, query->edge, holds, fleet_clock_now());
}

static void
condition_failed(AgentQuery *query, const char *message)
{
    AgentRun *run = query->run;
    const FleetEdgeSpec *edge = &run->def->edges[query->edge];
    FleetTaskRef ref = {run->handle, edge->to, 0};

    if (!fleet_engine_asks(agent.engine, run->handle, query->edge))
        return;
    agent_run_cannot_begin(
        run, edge->to, FLEET_SQLSTATE_BAD_QUERY,
        psprintf("the condition between \"%s\" and \"%s\" could not be evaluated: %s",
                 run->def->tasks[edge->from].name, run->def->tasks[edge->to].name, message));
    (void) fleet_engine_fail(agent.engine, ref, NULL, fleet_clock_now());
}

static void
query_failed(AgentQuery *query, const char *message)
{
    if (query->condition)
        condition_failed(query, message);
    else
        expand_failed(query, message);
    query_free(query);
}

/* ---- items ---- */

static void *
grow(AgentQuery *query, void *array, Size bytes)
{
    return array == NULL ? MemoryContextAllocHuge(query->context, bytes)
                         : repalloc_huge(array, bytes);
}

/* For so many items. */
static void
items_room(AgentQuery *query, uint32 count)
{
    if (count <= query->room && query->room > 0)
        return;
    query->room = Max(count, query->room * 2);
    query->room = Max(query->room, 1);
    query->estimates = grow(query, query->estimates, sizeof(FleetTime) * query->room);
    if (query->run->def->tasks[query->task].columns.cost != NULL)
        query->guesses = grow(query, query->guesses, sizeof(ItemGuess) * query->room);
    if (query->take_over)
        query->carried = grow(query, query->carried, sizeof(bool) * query->room);
}

/* Each row must be a JSON object, and becomes an item's row: one that does not is the task's error. */
static void
items_check(void *arg)
{
    AgentQuery *query = arg;

    query->mark = fleet_task_mark_new();
    for (uint32 i = 0; i < query->nrows; i++)
    {
        query->at = i + 1;
        if (query->rows[i] == NULL)
            query->rows[i] = "{}";
        if (query->rows[i][0] != '{')
            ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                            errmsg("not a JSON object: %.40s", query->rows[i])));
    }
    items_room(query, query->nrows);
}

/* An item_key that another row has already is an error. */
static void
key_enter(AgentQuery *query, const char *key)
{
    KeyEntry wanted, *entry;
    int length = (int) strlen(key);
    bool found;

    if (query->keys == NULL)
    {
        HASHCTL ctl = {
            .keysize = sizeof(wanted.hash), .entrysize = sizeof(KeyEntry), .hcxt = query->context};

        query->keys = hash_create("pg_fleet item keys", Min(query->nrows, 100000), &ctl,
                                  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    for (int i = 0; i < 2; i++)
        wanted.hash[i] = hash_bytes_extended((const unsigned char *) key, length, (uint64) i);
    entry = hash_search(query->keys, wanted.hash, HASH_ENTER, &found);
    if (found)
        ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION),
                        errmsg("item_key \"%s\" is that of row %u already", key, entry->row)));
    entry->row = query->at;
}

/* The next one is stored: what it is expected to take, or what that will follow from. */
static void
item_stored(AgentQuery *query, const char *item_key, double cost, const char *params)
{
    const FleetEstimate *learned =
        agent_item_learned(query->run, query->task, agent_item_key(item_key, params));
    uint32 i = query->stored++;

    if (query->guesses == NULL)
    {
        query->estimates[i] = agent_item_estimate(query->run, query->task, learned, NULL, -1);
        return;
    }
    query->guesses[i] = (ItemGuess){learned, cost};
    fleet_costs_add(&query->costs, cost);
}

static void
items_slice(void *arg)
{
    AgentQuery *query = arg;
    uint32 end = Min(query->nrows, query->stored + STORE_SLICE);
    const FleetItemColumns *columns = &query->run->def->tasks[query->task].columns;
    TimestampTz now = fleet_clock_wall();

    query->mark = fleet_task_mark_new();
    for (uint32 i = query->stored; i < end; i++)
    {
        FleetItemFacts facts;

        query->at = i + 1;
        facts = fleet_item_write_new(query->run->run_id, query->task, i + 1, now, query->rows[i],
                                     columns);
        if (facts.key != NULL)
            key_enter(query, facts.key);
        item_stored(query, facts.key, facts.cost, query->rows[i]);
    }
}

/* Rows of the old run become rows of this one: what has succeeded there has succeeded here. */
static void
items_slice_again(void *arg)
{
    AgentQuery *query = arg;
    FleetTakenItem *items;
    uint32 n;

    query->mark = fleet_task_mark_new();
    query->at = query->stored + 1;
    n = fleet_items_take_over(query->run->run_id, query->task, query->stored, STORE_SLICE, &items);
    items_room(query, query->stored + STORE_SLICE);
    for (uint32 i = 0; i < n; i++)
    {
        query->at = query->stored + 1;
        query->carried[query->stored] = items[i].carried;
        item_stored(query, items[i].item_key, items[i].cost,
                    items[i].params == NULL ? "{}" : items[i].params);
    }
    query->nrows = query->stored + (n < STORE_SLICE ? 0 : 1);
    if (query->stored == 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the items of run %lld, which it restarts, no longer exist",
                               (long long) agent_run_taken_over(query->run, query->task))));
}

static void
items_refused(AgentQuery *query, const FleetDiagnostics *failure)
{
    fleet_task_forget_new(query->mark);
    if (query->stored > 0)
        fleet_task_forget_items(query->run->run_id, query->task);
    query_failed(query, psprintf("row %u: %s", query->at, failure->message));
}

/* The engine gets them: what is durable of them becomes so together with the state of the whole. */
static void
items_known(AgentQuery *query)
{
    for (uint32 i = 0; query->guesses != NULL && i < query->stored; i++)
        query->estimates[i] =
            agent_item_estimate(query->run, query->task, query->guesses[i].learned, &query->costs,
                                query->guesses[i].cost);
    (void) fleet_engine_items_again(agent.engine, query->run->handle, query->task, query->stored,
                                    query->estimates, query->carried, fleet_clock_now());
    query_free(query);
}

/* Returns how many rows that cost, at least one. */
static uint32
items_store(AgentQuery *query)
{
    uint32 before = query->stored, n;
    FleetDiagnostics failure;

    if (query->stored > 0)
        FLEET_POINT("items_next_slice");
    turn_again();
    if (!agent_protected(query->take_over ? items_slice_again : items_slice, query, &failure))
    {
        items_refused(query, &failure);
        return STORE_SLICE;
    }
    n = Max(query->stored - before, 1);
    if (query->stored == query->nrows)
        items_known(query);
    return n;
}

static void
expanded(AgentQuery *query)
{
    FleetDiagnostics failure;

    query->executor->owner = NULL;
    fleet_runner_done(query->executor);
    query->executor = NULL;
    if (!agent_protected(items_check, query, &failure))
        items_refused(query, &failure);
    else
        query->storing = true;
    turn_again();
}

/* A slice of one of them a turn, in turn. */
static void
items_turn(void)
{
    dlist_mutable_iter iter;
    uint32 n = 0;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);

        if (!query->storing)
            continue;
        if (n >= STORE_SLICE)
            break;
        if (query->take_over || query->nrows - query->stored > STORE_SLICE)
        {
            dlist_delete(&query->node); /* the next turn is another one's */
            dlist_push_tail(&queries, &query->node);
        }
        fleet_hand_take(FLEET_HAND_RUN, query->run->run_id, "work_items");
        n += items_store(query);
    }
    fleet_hand_empty();
}

/*
 * The run is to be canceled, and no answer counts any more, but for a final task.  Items that are stored already are canceled
 * as items; a for_each of which there is none yet is canceled as a whole.
 */
void
agent_queries_cancel(AgentRun *run)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);

        if (query->run != run || !agent_run_cancel_reaches(run, for_task(query)))
            continue;
        if (query->storing && query->stored > 0)
            items_known(query);
        else
            query_free(query);
    }
}

/* ---- events ---- */

static void
row_add(AgentQuery *query, const char *text)
{
    if (query->nrows == query->capacity)
    {
        uint32 capacity = query->capacity == 0 ? 64 : query->capacity * 2;

        query->rows = query->rows == NULL
                          ? MemoryContextAllocHuge(query->context, sizeof(char *) * capacity)
                          : repalloc_huge(query->rows, sizeof(char *) * capacity);
        query->capacity = capacity;
    }
    query->rows[query->nrows++] = agent_strdup(query->context, text);
}

void
agent_query_event(void *owner, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    AgentQuery *query = owner;

    fleet_hand_take(FLEET_HAND_RUN, query->run->run_id, "work_query");
    switch (event->kind)
    {
        case FLEET_EXECUTOR_ROW: row_add(query, event->output); break;
        case FLEET_EXECUTOR_COMMITTED:
            agent_request_forget(query->ref);
            query->ref = 0;
            if (!is_wanted(query))
                query_free(query); /* canceled meanwhile: no answer counts */
            else if (query->condition)
            {
                condition_done(query);
                query_free(query);
            }
            else
                expanded(query);
            break;
        case FLEET_EXECUTOR_ERROR:
            agent_request_forget(query->ref);
            query->ref = 0;
            query_failed(query,
                         event->diag.message != NULL ? event->diag.message : "unknown error");
            break;
        case FLEET_EXECUTOR_CUT:
            /* It changes nothing, so it may simply run again. */
            agent_request_forget(query->ref);
            query->ref = 0;
            query->executor = NULL;
            query->nrows = 0;
            if (++query->tries > 5)
                query_failed(query, event->diag.message != NULL ? event->diag.message
                                                                : "the runner ended");
            turn_again();
            break;
        case FLEET_EXECUTOR_BEGAN:
        case FLEET_EXECUTOR_LOG:
        case FLEET_EXECUTOR_PREPARED:
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL: break;
    }
}

static void
runners_turn(void)
{
    Oid full = InvalidOid; /* this role has all that it may, whatever else of it waits */
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);
        FleetStepRequest request = {0};
        const char *sqlstate;
        const char *why;

        if (query->executor != NULL || query->storing || query->run->owner == full)
            continue;
        fleet_hand_take(FLEET_HAND_RUN, query->run->run_id, "work_query_send");
        fleet_catalog_begin();
        if (!fleet_security_role_may_run(query->run->owner, &sqlstate, &why))
        {
            query_failed(query, why);
            continue;
        }
        query->executor = agent_quota_runner(query->run->owner, &sqlstate, &why);
        if (query->executor == NULL)
        {
            turn_wake_at(fleet_clock_now() + FLEET_SECONDS(1));
            if (!agent_quota_full(query->run->owner))
                break;
            full = query->run->owner; /* others may have one */
            continue;
        }
        query->executor->owner = query;
        query->executor->clean = false;
        query->ref = agent_request_new(REQUEST_QUERY, query);
        request.kind = query->condition ? FLEET_REQUEST_CONDITION : FLEET_REQUEST_QUERY;
        request.ref = query->ref;
        request.command = query->sql;
        request.params =
            query->condition ? query->run->params : agent_run_task_params(query->run, query->task);
        request.context = agent_given_context_of_query(query->run, for_task(query));
        request.single = true;
        request.fresh = true;
        query->executor->methods->run(query->executor, &request);
    }
    fleet_hand_empty();
}

/* What came before a for_each was written with the turn in which its query was decided on. */
static void
templates_turn(void)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);
        FleetDiagnostics failure;

        if (query->condition || !agent_run_unresolved(query->run, query->task))
            continue;
        fleet_hand_take(FLEET_HAND_RUN, query->run->run_id, "work_query_send");
        if (agent_given_resolve(query->run, query->task, &failure))
            continue;
        agent_run_cannot_begin(query->run, query->task, failure.sqlstate, failure.message);
        query_failed(query, failure.message);
    }
    fleet_hand_empty();
}

void
agent_queries_turn(void)
{
    templates_turn();
    runners_turn();
    items_turn();
}

void
agent_queries_forget(AgentRun *run)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);

        if (query->run == run)
            query_free(query);
    }
}

void
agent_queries_leave(AgentRun *run, uint32 task)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);

        if (query->run != run || query->condition || query->task != task)
            continue;
        if (query->stored > 0)
            fleet_task_forget_items(run->run_id, task);
        query_free(query);
    }
}

void
agent_queries_tidy(AgentRun *run)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);

        if (query->run == run && query->condition &&
            !fleet_engine_asks(agent.engine, run->handle, query->edge))
            query_free(query);
    }
}
