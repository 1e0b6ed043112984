/*
 * agent/query.c
 *     for_each queries and conditions: user SQL, so they run in a runner
 *     connected as the run's owner, read-only.  In the agent's process.
 */
#include "postgres.h"

#include "agent/query.h"
#include "agent/learn.h"
#include "agent/run.h"
#include "store/condition.h"
#include "store/spi.h"
#include "lib/stringinfo.h"
#include "security.h"
#include "utils/memutils.h"

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
    int mark;  /* for_each: new rows of task runs before its own */
    uint32 at; /* row that is being looked at */
    int tries;
} AgentQuery;

/* All that are not finished; those without an executor wait for one. */
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
}

void
agent_query_condition(AgentRun *run, uint32 edge)
{
    AgentQuery *query = query_create(run, true, edge);

    query->sql = MemoryContextStrdup(
        query->context, psprintf("SELECT (%s\n)::pg_catalog.bool", run->def->conditions[edge]));
}

/* ---- ends ---- */

static void
expand_failed(AgentQuery *query, const char *message)
{
    AgentRun *run = query->run;

    agent_run_cannot_begin(run, query->task, psprintf("for_each: %s", message));
    (void) fleet_engine_items_failed(agent.engine, run->handle, query->task, fleet_clock_now());
}

static void
expand_done(AgentQuery *query)
{
    AgentRun *run = query->run;
    FleetTime *estimates =
        MemoryContextAllocHuge(query->context, sizeof(FleetTime) * Max(query->nrows, 1));

    for (uint32 i = 0; i < query->nrows; i++)
        estimates[i] = agent_item_estimate(run, query->task, query->rows[i]);
    (void) fleet_engine_items(agent.engine, run->handle, query->task, query->nrows, estimates,
                              fleet_clock_now());
}

static void
condition_done(AgentQuery *query)
{
    AgentRun *run = query->run;
    const FleetEdgeSpec *edge = &run->def->edges[query->edge];
    bool holds = query->nrows > 0 && query->rows[0] != NULL &&
                 (query->rows[0][0] == 't' || query->rows[0][0] == 'T');

    fleet_condition_write(run->run_id, edge->from, edge->to, holds);
    (void) fleet_engine_condition(agent.engine, run->handle, query->edge, holds, fleet_clock_now());
}

static void
condition_failed(AgentQuery *query, const char *message)
{
    AgentRun *run = query->run;
    const FleetEdgeSpec *edge = &run->def->edges[query->edge];
    FleetTaskRef ref = {run->handle, edge->to, 0};

    agent_run_cannot_begin(
        run, edge->to,
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

/* Each row must be a JSON object, and becomes an item's row: one that does not is the task's
 * error. */
static void
expand_rows(void *arg)
{
    AgentQuery *query = arg;
    TimestampTz now = fleet_clock_wall();

    query->mark = fleet_task_mark_new();
    for (uint32 i = 0; i < query->nrows; i++)
    {
        query->at = i + 1;
        if (query->rows[i] == NULL)
            query->rows[i] = "{}";
        if (query->rows[i][0] != '{')
            ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                            errmsg("not a JSON object: %.40s", query->rows[i])));
        fleet_task_write_new(query->run->run_id, query->task, i + 1, now, query->rows[i]);
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
    FleetDiagnostics failure;

    switch (event->kind)
    {
        case FLEET_EXECUTOR_ROW: row_add(query, event->output); break;
        case FLEET_EXECUTOR_COMMITTED:
            agent_request_forget(query->ref);
            query->ref = 0;
            if (fleet_engine_run_state(agent.engine, query->run->handle) != FLEET_RUNNING)
                query_free(query); /* canceled meanwhile: no answer counts */
            else if (query->condition)
            {
                condition_done(query);
                query_free(query);
            }
            else if (!agent_protected(expand_rows, query, &failure))
            {
                fleet_task_forget_new(query->mark);
                query_failed(query, psprintf("row %u: %s", query->at, failure.message));
            }
            else
            {
                expand_done(query);
                query_free(query);
            }
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

/* Gives waiting queries their runners. */
void
agent_queries_runners(void)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &queries)
    {
        AgentQuery *query = dlist_container(AgentQuery, node, iter.cur);
        FleetStepRequest request = {0};
        const char *sqlstate;
        const char *why;

        if (query->executor != NULL)
            continue;
        fleet_catalog_begin();
        if (!fleet_security_role_may_run(query->run->owner, &sqlstate, &why))
        {
            query_failed(query, why);
            continue;
        }
        query->executor = fleet_runner_get(query->run->owner, &sqlstate, &why);
        if (query->executor == NULL)
        {
            turn_wake_at(fleet_clock_now() + FLEET_SECONDS(1));
            return;
        }
        query->executor->owner = query;
        query->executor->clean = false;
        query->ref = agent_request_new(REQUEST_QUERY, query);
        request.kind = FLEET_REQUEST_QUERY;
        request.ref = query->ref;
        request.command = query->sql;
        request.params =
            query->condition ? query->run->params : agent_run_task_params(query->run, query->task);
        request.single = true;
        request.fresh = true;
        query->executor->methods->run(query->executor, &request);
    }
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
