/*
 * core/graph.c
 *     Checks and indexes the definition of a package: edges by source and by
 *     target, topological order, critical path; and the retry rule.
 *
 * Called when a run is set up (agent, planner, simulator) and when a package
 * is defined.  A FleetGraph never changes after it was made; runs share it.
 */
#include "core/graph.h"
#include "core/sqlstate.h"

#include <stdio.h>
#include <string.h>

struct FleetGraph
{
    FleetAlloc alloc;
    uint32_t ntasks, nedges;
    FleetTaskSpec *tasks;
    FleetEdgeSpec *edges;
    uint32_t *out_start, *out; /* out_start[t] … out_start[t + 1]: edges that leave t */
    uint32_t *in_start, *in;
    uint32_t *order;
    FleetTime *tail;
};

/* ---- retry rule ---- */

static bool
entry_matches(const char *entry, const char *sqlstate)
{
    size_t n = strlen(entry);

    return n > 0 && strncmp(entry, sqlstate, n) == 0;
}

static bool
default_retried(const char *sqlstate)
{
    static const char *const never[] = {FLEET_SQLCLASS_SYNTAX_OR_ACCESS_RULE, FLEET_SQLCLASS_DATA,
                                        FLEET_SQLCLASS_INTEGRITY_CONSTRAINT,
                                        FLEET_SQLCLASS_FEATURE_NOT_SUPPORTED,
                                        FLEET_SQLCLASS_AUTHORIZATION};

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
    {
        if (fleet_sqlstate_in(sqlstate, never[i]))
            return false;
    }
    return true;
}

bool
fleet_retry_matches(const FleetRetry *retry, const char *sqlstate)
{
    bool matched = false, has_positive = false;

    if (sqlstate == NULL)
        return true;
    if (retry->states == NULL || retry->nstates <= 0)
        return default_retried(sqlstate);
    for (int i = 0; i < retry->nstates; i++)
    {
        const char *entry = retry->states[i];

        if (entry[0] == '!')
        {
            if (entry_matches(entry + 1, sqlstate))
                return false;
            continue;
        }
        has_positive = true;
        matched = matched || entry_matches(entry, sqlstate);
    }
    /* A list of exclusions only means: everything else. */
    return matched || !has_positive;
}

FleetTime
fleet_retry_wait(const FleetRetry *retry, int attempt, FleetRandom *random)
{
    FleetTime wait = retry->base > 0 ? retry->base : 0;
    FleetTime most = INT64_MAX / 4; /* so that neither the doubling nor the jitter overflows */
    FleetTime cap = retry->maximum > 0 && retry->maximum < most ? retry->maximum : most;
    double jitter = retry->jitter_pct > 100 ? 1.0 : retry->jitter_pct / 100.0;

    for (int i = 1; i < attempt && wait > 0 && wait < cap; i++)
        wait *= 2;
    if (wait > cap)
        wait = cap;
    if (jitter > 0)
        wait += (FleetTime) ((double) wait * jitter * (2.0 * fleet_random_unit(random) - 1.0));
    return wait;
}

/* ---- errors ---- */

static FleetGraph *
graph_error(FleetGraph *graph, FleetError *error, const char *hint)
{
    snprintf(error->hint, sizeof(error->hint), "%s", hint);
    fleet_graph_free(graph);
    return NULL;
}

static const char *
name_of(const FleetTaskSpec *tasks, uint32_t task)
{
    return tasks[task].name != NULL ? tasks[task].name : "?";
}

/* Appends, cuts between whole UTF-8 characters, and keeps the room for reserve bytes. */
static size_t
append(char *buffer, size_t size, size_t at, size_t reserve, const char *text)
{
    size_t n = strlen(text);

    if (at + reserve + 1 >= size)
        return at;
    if (n > size - at - reserve - 1)
    {
        n = size - at - reserve - 1;
        while (n > 0 && ((unsigned char) text[n] & 0xC0) == 0x80)
            n--;
    }
    memcpy(buffer + at, text, n);
    buffer[at + n] = '\0';
    return at + n;
}

/* ---- checks ---- */

static bool
check_tasks(const FleetTaskSpec *tasks, uint32_t ntasks, FleetError *error)
{
    for (uint32_t t = 0; t < ntasks; t++)
    {
        double share = tasks[t].min_share;

        if (tasks[t].completion == FLEET_MINIMUM_SHARE && !(share >= 0.0 && share <= 1.0))
        {
            snprintf(error->message, sizeof(error->message),
                     "the minimum share of task \"%.200s\" is not between 0 and 1",
                     name_of(tasks, t));
            snprintf(error->hint, sizeof(error->hint),
                     "Write it as a fraction, 0.9 for nine of ten.");
            return false;
        }
        if (tasks[t].handler && (tasks[t].last || tasks[t].for_each))
        {
            snprintf(error->message, sizeof(error->message),
                     "task \"%.200s\" catches failures and %s", name_of(tasks, t),
                     tasks[t].last ? "is a final task" : "has a for_each");
            snprintf(error->hint, sizeof(error->hint),
                     "A handler is executed once for each failure, before the final tasks.");
            return false;
        }
    }
    return true;
}

/* Final tasks come after all others anyway, and handlers when something fails. */
static bool
check_parts(const FleetTaskSpec *tasks, const FleetEdgeSpec *edge, FleetError *error)
{
    const FleetTaskSpec *from = &tasks[edge->from], *to = &tasks[edge->to];

    if (from->handler || to->handler)
    {
        snprintf(error->message, sizeof(error->message),
                 "task \"%.200s\" catches failures, and has no precedence constraints",
                 name_of(tasks, from->handler ? edge->from : edge->to));
        snprintf(error->hint, sizeof(error->hint),
                 "It runs when a task fails. For one task only, use a constraint on failure.");
        return false;
    }
    if (from->last != to->last)
    {
        snprintf(error->message, sizeof(error->message),
                 "there cannot be a precedence constraint between the final task \"%.200s\" and "
                 "task \"%.200s\"",
                 name_of(tasks, from->last ? edge->from : edge->to),
                 name_of(tasks, from->last ? edge->to : edge->from));
        snprintf(error->hint, sizeof(error->hint),
                 "Final tasks begin when all others have ended; constraints order them among "
                 "themselves.");
        return false;
    }
    return true;
}

static bool
check_edges(const FleetTaskSpec *tasks, uint32_t ntasks, const FleetEdgeSpec *edges,
            uint32_t nedges, FleetError *error)
{
    for (uint32_t e = 0; e < nedges; e++)
    {
        if (edges[e].from >= ntasks || edges[e].to >= ntasks)
        {
            snprintf(error->message, sizeof(error->message),
                     "precedence constraint %u names a task that does not exist", e + 1);
            snprintf(error->hint, sizeof(error->hint), "Both ends must be tasks of the package.");
            return false;
        }
        if (edges[e].from == edges[e].to)
        {
            snprintf(error->message, sizeof(error->message),
                     "task \"%.200s\" has a precedence constraint on itself",
                     name_of(tasks, edges[e].from));
            snprintf(error->hint, sizeof(error->hint), "A task cannot wait for itself.");
            return false;
        }
        if (!check_parts(tasks, &edges[e], error))
            return false;
    }
    return true;
}

/* Duplicates: of all edges that leave one task, no two may end at the same one. */
static bool
check_duplicates(const FleetGraph *graph, FleetError *error)
{
    uint32_t *mark = fleet_alloc_zero(&graph->alloc, graph->ntasks * sizeof(uint32_t));
    bool ok = true;

    for (uint32_t t = 0; ok && t < graph->ntasks; t++)
    {
        for (uint32_t i = graph->out_start[t]; ok && i < graph->out_start[t + 1]; i++)
        {
            uint32_t to = graph->edges[graph->out[i]].to;

            ok = mark[to] != t + 1;
            mark[to] = t + 1;
            if (!ok)
                snprintf(error->message, sizeof(error->message),
                         "there are two precedence constraints from \"%.200s\" to \"%.200s\"",
                         name_of(graph->tasks, t), name_of(graph->tasks, to));
        }
    }
    fleet_alloc_free(&graph->alloc, mark, graph->ntasks * sizeof(uint32_t));
    return ok;
}

/* ---- indexes ---- */

static void
index_edges(const FleetGraph *graph, bool by_source, uint32_t *start, uint32_t *list)
{
    for (uint32_t e = 0; e < graph->nedges; e++)
        start[(by_source ? graph->edges[e].from : graph->edges[e].to) + 1]++;
    for (uint32_t t = 0; t < graph->ntasks; t++)
        start[t + 1] += start[t];
    /* Filled from the back, start[t + 1] … start[t] serves as the cursor and ends where it began. */
    for (uint32_t e = graph->nedges; e-- > 0;)
    {
        uint32_t t = by_source ? graph->edges[e].from : graph->edges[e].to;

        list[--start[t + 1]] = e;
    }
    /* Now start[t + 1] is where t's list begins: shift it down by one. */
    for (uint32_t t = 0; t < graph->ntasks; t++)
        start[t] = start[t + 1];
    start[graph->ntasks] = graph->nedges;
}

/* Kahn's algorithm; waits[t] keeps the number of unsorted predecessors.  Returns how many sorted. */
static uint32_t
sort_tasks(const FleetGraph *graph, uint32_t *waits)
{
    uint32_t head = 0, count = 0;

    for (uint32_t t = 0; t < graph->ntasks; t++)
    {
        waits[t] = graph->in_start[t + 1] - graph->in_start[t];
        if (waits[t] == 0)
            graph->order[count++] = t;
    }
    while (head < count)
    {
        uint32_t t = graph->order[head++];

        for (uint32_t i = graph->out_start[t]; i < graph->out_start[t + 1]; i++)
        {
            uint32_t to = graph->edges[graph->out[i]].to;

            if (--waits[to] == 0)
                graph->order[count++] = to;
        }
    }
    return count;
}

/* A predecessor that is itself unsorted; there is one for each unsorted task. */
static uint32_t
unsorted_predecessor(const FleetGraph *graph, const uint32_t *waits, uint32_t t)
{
    uint32_t i = graph->in_start[t];

    while (waits[graph->edges[graph->in[i]].from] == 0)
        i++;
    return graph->edges[graph->in[i]].from;
}

/* Writes «a → b → a».  Walking back through unsorted tasks must meet itself. */
static void
describe_cycle(const FleetGraph *graph, const uint32_t *waits, FleetError *error)
{
    size_t size = graph->ntasks * sizeof(uint32_t);
    uint32_t *next = fleet_alloc_zero(&graph->alloc, size);
    uint32_t t = 0, first;
    size_t at = 0, room = sizeof(error->message);
    char *text = error->message;
    uint32_t steps = 0;

    while (waits[t] == 0)
        t++;
    for (first = t; next[first] == 0; first = t)
    {
        t = unsorted_predecessor(graph, waits, first);
        next[first] = t + 1; /* marks it as visited, backwards */
    }
    /* "first" is on the cycle; turn the backward links round, along the cycle only */
    for (t = first;;)
    {
        uint32_t before = next[t] - 1;

        graph->order[before] = t; /* the order is of no use any more */
        t = before;
        if (t == first)
            break;
    }
    at = append(text, room, at, 0, "the precedence constraints form a cycle: \"");
    do
    {
        if (steps > 0)
            at = append(text, room, at, 24, " -> ");
        at = append(text, room, at, 24, name_of(graph->tasks, t));
        t = graph->order[t];
        steps++;
    } while (t != first && at + 100 < room);
    at = append(text, room, at, 8, t == first ? " -> " : " -> ... -> ");
    at = append(text, room, at, 3, name_of(graph->tasks, first));
    append(text, room, at, 0, "\"");
    fleet_alloc_free(&graph->alloc, next, size);
}

FleetTime
fleet_estimate_limit(FleetTime estimate)
{
    return estimate < 0 ? 0 : (estimate > INT64_MAX / 4 ? INT64_MAX / 4 : estimate);
}

static FleetTime
add_time(FleetTime a, FleetTime b)
{
    return a > INT64_MAX / 2 - b ? INT64_MAX / 2 : a + b;
}

static void
compute_tails(FleetGraph *graph)
{
    for (uint32_t i = graph->ntasks; i-- > 0;)
    {
        uint32_t t = graph->order[i];
        FleetTime own = graph->tasks[t].estimate, longest = 0;

        for (uint32_t k = graph->out_start[t]; k < graph->out_start[t + 1]; k++)
        {
            FleetTime tail = graph->tail[graph->edges[graph->out[k]].to];

            if (tail > longest)
                longest = tail;
        }
        graph->tail[t] = add_time(longest, own);
    }
}

/* ---- construction ---- */

static void *
copy_bytes(const FleetAlloc *alloc, const void *from, size_t size)
{
    void *to = fleet_alloc_zero(alloc, size);

    if (size > 0)
        memcpy(to, from, size);
    return to;
}

static void
copy_task(FleetGraph *graph, FleetTaskSpec *to, const FleetTaskSpec *from)
{
    const char *name = from->name != NULL ? from->name : "?";

    *to = *from;
    to->estimate = fleet_estimate_limit(from->estimate);
    to->name = copy_bytes(&graph->alloc, name, strlen(name) + 1);
    if (from->handler && from->throttle == 0)
        to->throttle = 1;
    if (from->handler && from->completion == FLEET_FAIL_FAST)
        to->completion = FLEET_CONTINUE;
    if (from->retry.states == NULL || from->retry.nstates <= 0)
    {
        to->retry.states = NULL;
        to->retry.nstates = 0;
    }
    else
        to->retry.states =
            copy_bytes(&graph->alloc, from->retry.states, (size_t) from->retry.nstates * 8);
}

static FleetGraph *
copy_definition(const FleetAlloc *alloc, const FleetTaskSpec *tasks, uint32_t ntasks,
                const FleetEdgeSpec *edges, uint32_t nedges)
{
    FleetGraph *graph = fleet_alloc_zero(alloc, sizeof(FleetGraph));

    graph->alloc = *alloc;
    graph->ntasks = ntasks;
    graph->nedges = nedges;
    graph->tasks = fleet_alloc_zero(alloc, ntasks * sizeof(FleetTaskSpec));
    for (uint32_t t = 0; t < ntasks; t++)
        copy_task(graph, &graph->tasks[t], &tasks[t]);
    graph->edges = copy_bytes(alloc, edges, nedges * sizeof(FleetEdgeSpec));
    graph->out_start = fleet_alloc_zero(alloc, ((size_t) ntasks + 1) * sizeof(uint32_t));
    graph->in_start = fleet_alloc_zero(alloc, ((size_t) ntasks + 1) * sizeof(uint32_t));
    graph->out = fleet_alloc_zero(alloc, nedges * sizeof(uint32_t));
    graph->in = fleet_alloc_zero(alloc, nedges * sizeof(uint32_t));
    graph->order = fleet_alloc_zero(alloc, ntasks * sizeof(uint32_t));
    graph->tail = fleet_alloc_zero(alloc, ntasks * sizeof(FleetTime));
    index_edges(graph, true, graph->out_start, graph->out);
    index_edges(graph, false, graph->in_start, graph->in);
    return graph;
}

FleetGraph *
fleet_graph_create(const FleetAlloc *alloc, const FleetTaskSpec *tasks, uint32_t ntasks,
                   const FleetEdgeSpec *edges, uint32_t nedges, FleetError *error)
{
    FleetGraph *graph;
    uint32_t *waits, sorted;

    error->message[0] = error->hint[0] = '\0';
    if (!check_tasks(tasks, ntasks, error) || !check_edges(tasks, ntasks, edges, nedges, error))
        return NULL;
    graph = copy_definition(alloc, tasks, ntasks, edges, nedges);
    if (!check_duplicates(graph, error))
        return graph_error(graph, error, "Keep one of them, or put another task between.");
    waits = fleet_alloc_zero(alloc, ntasks * sizeof(uint32_t));
    sorted = sort_tasks(graph, waits);
    if (sorted < ntasks)
        describe_cycle(graph, waits, error);
    fleet_alloc_free(alloc, waits, ntasks * sizeof(uint32_t));
    if (sorted < ntasks)
        return graph_error(graph, error, "Remove one of these precedence constraints.");
    compute_tails(graph);
    return graph;
}

static void
free_tasks(FleetGraph *graph)
{
    for (uint32_t t = 0; t < graph->ntasks; t++)
    {
        FleetTaskSpec *task = &graph->tasks[t];

        fleet_alloc_free(&graph->alloc, (void *) task->name, strlen(task->name) + 1);
        fleet_alloc_free(&graph->alloc, (void *) task->retry.states,
                         (size_t) task->retry.nstates * 8);
    }
    fleet_alloc_free(&graph->alloc, graph->tasks, graph->ntasks * sizeof(FleetTaskSpec));
}

void
fleet_graph_free(FleetGraph *graph)
{
    FleetAlloc alloc;
    size_t starts, edges;

    if (graph == NULL)
        return;
    alloc = graph->alloc;
    starts = ((size_t) graph->ntasks + 1) * sizeof(uint32_t);
    edges = graph->nedges * sizeof(uint32_t);
    fleet_alloc_free(&alloc, graph->out_start, starts);
    fleet_alloc_free(&alloc, graph->in_start, starts);
    fleet_alloc_free(&alloc, graph->out, edges);
    fleet_alloc_free(&alloc, graph->in, edges);
    fleet_alloc_free(&alloc, graph->order, graph->ntasks * sizeof(uint32_t));
    fleet_alloc_free(&alloc, graph->tail, graph->ntasks * sizeof(FleetTime));
    fleet_alloc_free(&alloc, graph->edges, graph->nedges * sizeof(FleetEdgeSpec));
    free_tasks(graph);
    fleet_alloc_free(&alloc, graph, sizeof(FleetGraph));
}

/* ---- access ---- */

uint32_t
fleet_graph_ntasks(const FleetGraph *graph)
{
    return graph->ntasks;
}

uint32_t
fleet_graph_nedges(const FleetGraph *graph)
{
    return graph->nedges;
}

const FleetTaskSpec *
fleet_graph_task(const FleetGraph *graph, uint32_t task)
{
    return &graph->tasks[task];
}

const FleetEdgeSpec *
fleet_graph_edge(const FleetGraph *graph, uint32_t edge)
{
    return &graph->edges[edge];
}

const uint32_t *
fleet_graph_out(const FleetGraph *graph, uint32_t task, uint32_t *count)
{
    *count = graph->out_start[task + 1] - graph->out_start[task];
    return graph->out + graph->out_start[task];
}

const uint32_t *
fleet_graph_in(const FleetGraph *graph, uint32_t task, uint32_t *count)
{
    *count = graph->in_start[task + 1] - graph->in_start[task];
    return graph->in + graph->in_start[task];
}

const uint32_t *
fleet_graph_order(const FleetGraph *graph)
{
    return graph->order;
}

FleetTime
fleet_graph_tail(const FleetGraph *graph, uint32_t task)
{
    return graph->tail[task];
}
