/*
 * core/plan/bound.c
 *     What a played plan is worth: the lower bound of any schedule, the
 *     critical path of this one, the use of each server.  Called by plan.c.
 */
#include "core/plan/internal.h"

#include <stdlib.h>
#include <string.h>

/* So many of the longest pieces and fastest slots are compared one by one. */
#define LONGEST 256

bool
plan_usable(const FleetServerSpec *server)
{
    return server->state == FLEET_SERVER_ONLINE && server->slots > 0;
}

/* ---- independent pieces on slots of different speed ---- */

/* Puts a value into a descending array of at most LONGEST. */
static uint32_t
keep_largest(double *largest, uint32_t n, double value)
{
    uint32_t place = n < LONGEST ? n : LONGEST - 1;

    if (n == LONGEST && value <= largest[LONGEST - 1])
        return n;
    while (place > 0 && largest[place - 1] < value)
    {
        largest[place] = largest[place - 1];
        place--;
    }
    largest[place] = value;
    return n < LONGEST ? n + 1 : n;
}

/*
 * Even if pieces could be cut and moved at will: k pieces keep at most the k
 * fastest slots busy, and all pieces need all slots for their sum.
 */
FleetTime
fleet_plan_lower_bound(const FleetTime *durations, uint32_t n, const FleetServerSpec *servers,
                       uint32_t nservers)
{
    double longest[LONGEST], fastest[LONGEST];
    double work = 0, speed = 0, bound = 0, pieces = 0, slots = 0;
    uint32_t nlongest = 0, nfastest = 0;

    for (uint32_t i = 0; i < n; i++)
    {
        work += (double) durations[i];
        nlongest = keep_largest(longest, nlongest, (double) durations[i]);
    }
    for (uint32_t i = 0; i < nservers; i++)
    {
        if (!plan_usable(&servers[i]))
            continue;
        speed += servers[i].speed * servers[i].slots;
        for (uint32_t k = 0; k < servers[i].slots && k < LONGEST; k++)
            nfastest = keep_largest(fastest, nfastest, servers[i].speed);
    }
    if (speed <= 0)
        return work > 0 ? FLEET_NEVER : 0;
    for (uint32_t k = 0; k < nlongest && k < nfastest; k++)
    {
        pieces += longest[k];
        slots += fastest[k];
        if (pieces / slots > bound)
            bound = pieces / slots;
    }
    if (work / speed > bound)
        bound = work / speed;
    return bound < 9e18 ? (FleetTime) bound : FLEET_NEVER;
}

/* ---- the same for each target, and for all of them together ---- */

typedef struct Pieces
{
    uint32_t *start; /* per target, and one more: where its pieces begin */
    FleetTime *lengths;
} Pieces;

/* The local server counts as one more target; a package takes no slot. */
static uint32_t
target_of(const FleetPlanInput *input, uint32_t task)
{
    const FleetTaskSpec *spec = fleet_graph_task(input->graph, task);

    switch (spec->kind)
    {
        case FLEET_TASK_JOB: return spec->target;
        case FLEET_TASK_SQL: return input->ntargets;
        case FLEET_TASK_PACKAGE: break;
    }
    return input->ntargets + 1;
}

static void
sort_pieces(const Played *played, Pieces *pieces)
{
    const FleetPlanInput *input = played->input;
    uint32_t n = played->plan->ntasks, ntargets = input->ntargets + 2;

    pieces->start = fleet_alloc_zero(played->alloc, (ntargets + 2) * sizeof(uint32_t));
    pieces->lengths = fleet_alloc_zero(played->alloc, n * sizeof(FleetTime));
    for (uint32_t i = 0; i < n; i++)
        pieces->start[target_of(input, played->plan->tasks[i].task) + 2]++;
    for (uint32_t t = 1; t < ntargets; t++)
        pieces->start[t + 1] += pieces->start[t];
    for (uint32_t i = 0; i < n; i++)
    {
        uint32_t target = target_of(input, played->plan->tasks[i].task);

        pieces->lengths[pieces->start[target + 1]++] = played->lengths[i];
    }
}

static FleetTime
bound_of_pieces(const Played *played)
{
    const FleetPlanInput *input = played->input;
    FleetServerSpec *members = fleet_alloc_zero(
        played->alloc, (input->nservers > 0 ? input->nservers : 1) * sizeof(FleetServerSpec));
    Pieces pieces;
    FleetTime bound, best = 0;

    sort_pieces(played, &pieces);
    for (uint32_t t = 0; t <= input->ntargets; t++)
    {
        const uint32_t *servers = t < input->ntargets ? input->targets[t] : &input->local_server;
        uint32_t n = t < input->ntargets ? input->target_sizes[t] : 1;
        uint32_t first = pieces.start[t], last = pieces.start[t + 1], known = 0;

        if (first == last)
            continue;
        for (uint32_t i = 0; i < n && known < input->nservers; i++)
            if (servers[i] < input->nservers)
                members[known++] = input->servers[servers[i]];
        bound = fleet_plan_lower_bound(pieces.lengths + first, last - first, members, known);
        if (bound > best)
            best = bound;
    }
    bound = fleet_plan_lower_bound(pieces.lengths, pieces.start[input->ntargets + 1],
                                   input->servers, input->nservers);
    if (bound > best)
        best = bound;
    fleet_alloc_free(played->alloc, pieces.start, (input->ntargets + 4) * sizeof(uint32_t));
    fleet_alloc_free(played->alloc, pieces.lengths, played->plan->ntasks * sizeof(FleetTime));
    fleet_alloc_free(played->alloc, members,
                     (input->nservers > 0 ? input->nservers : 1) * sizeof(FleetServerSpec));
    return best;
}

/* ---- the longest path ---- */

/* The servers that a task may run on: input->targets, or the local one; none for a package. */
static const uint32_t *
servers_of(const FleetPlanInput *input, const FleetTaskSpec *task, uint32_t *count)
{
    *count = 0;
    switch (task->kind)
    {
        case FLEET_TASK_JOB:
            if (task->target < input->ntargets)
                *count = input->target_sizes[task->target];
            return *count > 0 ? input->targets[task->target] : NULL;
        case FLEET_TASK_SQL: *count = 1; return &input->local_server;
        case FLEET_TASK_PACKAGE: break;
    }
    return NULL;
}

static double
fastest_of(const FleetPlanInput *input, const FleetTaskSpec *task)
{
    uint32_t n;
    const uint32_t *servers = servers_of(input, task, &n);
    double fastest = 0;

    for (uint32_t i = 0; i < n; i++)
        if (servers[i] < input->nservers && plan_usable(&input->servers[servers[i]]) &&
            input->servers[servers[i]].speed > fastest)
            fastest = input->servers[servers[i]].speed;
    return fastest > 0 ? fastest : 1;
}

static bool
edge_held(const Played *played, const FleetEdgeSpec *edge)
{
    return played->ran[edge->from] && edge->on != FLEET_ON_FAILURE;
}

/* When may a task begin at the earliest, given when those before it end at the earliest? */
static FleetTime
earliest_begin(const Played *played, uint32_t task, const FleetTime *ends)
{
    const FleetGraph *graph = played->input->graph;
    bool any = fleet_graph_task(graph, task)->join == FLEET_JOIN_ANY, first = true;
    uint32_t n;
    const uint32_t *in = fleet_graph_in(graph, task, &n);
    FleetTime begin = 0;

    for (uint32_t i = 0; i < n; i++)
    {
        const FleetEdgeSpec *edge = fleet_graph_edge(graph, in[i]);
        FleetTime end = ends[edge->from];

        if (!edge_held(played, edge))
            continue;
        if (first || (any ? end < begin : end > begin))
            begin = end;
        first = false;
    }
    return begin;
}

/* In topological order each entry becomes the task's earliest end; the final tasks begin after all
 * others. */
static FleetTime
bound_of_part(const Played *played, FleetTime *longest, bool last, FleetTime bound)
{
    const FleetGraph *graph = played->input->graph;
    FleetTime first = bound;

    for (uint32_t i = 0; i < fleet_graph_ntasks(graph); i++)
    {
        uint32_t task = fleet_graph_order(graph)[i];
        const FleetTaskSpec *spec = fleet_graph_task(graph, task);
        FleetTime begin;

        if (spec->last != last)
            continue;
        begin = earliest_begin(played, task, longest);
        if (begin < first)
            begin = first;
        longest[task] =
            begin + (FleetTime) ((double) longest[task] / fastest_of(played->input, spec));
        if (played->ran[task] && longest[task] > bound)
            bound = longest[task];
    }
    return bound;
}

static FleetTime
bound_of_path(const Played *played)
{
    const FleetGraph *graph = played->input->graph;
    const FleetPlan *plan = played->plan;
    uint32_t ntasks = fleet_graph_ntasks(graph);
    FleetTime *longest = fleet_alloc_zero(played->alloc, ntasks * sizeof(FleetTime));
    FleetTime main_part, bound;

    /* the longest item of each task, on its fastest server */
    for (uint32_t i = 0; i < plan->ntasks; i++)
    {
        uint32_t task = plan->tasks[i].task;

        if (played->lengths[i] > longest[task])
            longest[task] = played->lengths[i];
    }
    main_part = bound_of_part(played, longest, false, 0);
    bound = bound_of_part(played, longest, true, main_part);
    fleet_alloc_free(played->alloc, longest, ntasks * sizeof(FleetTime));
    return bound;
}

void
plan_lower_bound(const Played *played)
{
    FleetTime pieces = bound_of_pieces(played), path = bound_of_path(played);

    played->plan->lower_bound = pieces > path ? pieces : path;
    /* whole microseconds are cut off at every start, so the bound may be ahead by a few of them */
    if (played->plan->lower_bound > played->plan->makespan)
        played->plan->lower_bound = played->plan->makespan;
}

/* ---- the critical path of the schedule ---- */

typedef struct Ended
{
    FleetTime end;
    uint32_t index;
} Ended;

static int
ended_compare(const void *a, const void *b)
{
    const Ended *x = a, *y = b;

    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static bool
is_before(const Played *played, uint32_t from, uint32_t to)
{
    uint32_t n;
    const uint32_t *in = fleet_graph_in(played->input->graph, to, &n);

    if (fleet_graph_task(played->input->graph, to)->last &&
        !fleet_graph_task(played->input->graph, from)->last)
        return true;

    for (uint32_t i = 0; i < n; i++)
    {
        const FleetEdgeSpec *edge = fleet_graph_edge(played->input->graph, in[i]);

        if (edge->from == from && edge_held(played, edge))
            return true;
    }
    return false;
}

/* How good a reason is the end of "a" for "b" having started just then? */
static int
reason(const Played *played, const FleetPlanTask *a, const FleetPlanTask *b)
{
    if (is_before(played, a->task, b->task))
        return 4; /* b had to wait for it */
    if (a->server == b->server && a->server != FLEET_NO_SERVER)
        return 3; /* it held the slot */
    if (a->task == b->task)
        return 2; /* it held a place under the throttle */
    return 1;
}

/* Which task's end let this one start?  UINT32_MAX: it started at the very begin. */
static uint32_t
cause_of(const Played *played, const Ended *ended, uint32_t index)
{
    const FleetPlanTask *tasks = played->plan->tasks;
    uint32_t low = 0, high = played->plan->ntasks, best = UINT32_MAX;
    int best_reason = 0;

    /* those that ended at its start, or last before it (it was held back until a timer) */
    while (low < high)
    {
        uint32_t middle = low + (high - low) / 2;

        if (ended[middle].end <= tasks[index].start)
            low = middle + 1;
        else
            high = middle;
    }
    for (uint32_t i = low; i-- > 0 && ended[i].end == ended[low - 1].end;)
    {
        int r;

        if (ended[i].index >= index)
            continue; /* of no length, and later: no cause */
        r = reason(played, &tasks[ended[i].index], &tasks[index]);
        if (r > best_reason)
        {
            best_reason = r;
            best = ended[i].index;
        }
    }
    return best;
}

void
plan_critical_path(const Played *played)
{
    FleetPlan *plan = played->plan;
    Ended *ended = fleet_alloc_zero(played->alloc, plan->ntasks * sizeof(Ended));
    uint32_t at = UINT32_MAX;

    for (uint32_t i = 0; i < plan->ntasks; i++)
        ended[i] = (Ended){plan->tasks[i].end, i};
    if (plan->ntasks > 0)
    {
        qsort(ended, plan->ntasks, sizeof(Ended), ended_compare);
        at = ended[plan->ntasks - 1].index;
    }
    while (at != UINT32_MAX)
    {
        plan->tasks[at].critical = true;
        at = cause_of(played, ended, at);
    }
    fleet_alloc_free(played->alloc, ended, plan->ntasks * sizeof(Ended));
}

/* ---- use of the servers ---- */

void
plan_utilisation(const Played *played)
{
    FleetPlan *plan = played->plan;

    for (uint32_t i = 0; i < plan->ntasks; i++)
        if (plan->tasks[i].server != FLEET_NO_SERVER)
            plan->utilisation[plan->tasks[i].server] +=
                (double) (plan->tasks[i].end - plan->tasks[i].start);
    for (uint32_t s = 0; s < plan->nservers; s++)
    {
        double room = (double) played->input->servers[s].slots * (double) plan->makespan;

        plan->utilisation[s] = room > 0 ? plan->utilisation[s] / room : 0;
    }
}
