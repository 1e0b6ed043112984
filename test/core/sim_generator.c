/*
 * sim_generator.c
 *     Draws a case from a seed: packages, servers, faults.  Most cases are
 *     small, since small ones already hold most of what can go wrong, and a
 *     minute has room for many of them; some have 300 tasks.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Gen
{
    FleetRandom random;
    SimCase *c;
    uint32_t size_cap;
} Gen;

static const char retry_class[][8] = {"40", "08"};
static const char retry_but[][8] = {"40", "57", "!57P01"};

static uint32_t
below(Gen *g, uint32_t n)
{
    return fleet_random_below(&g->random, n);
}

static bool
pct(Gen *g, uint32_t p)
{
    return below(g, 100) < p;
}

/* Between low and high, each factor of two as likely as the others. */
static FleetTime
log_span(Gen *g, FleetTime low, FleetTime high)
{
    FleetTime value = low;

    while (value < high && pct(g, 75))
        value *= 2;
    value += (FleetTime) (fleet_random_unit(&g->random) * (double) value);
    return value > high ? high : value;
}

static void *
zeroed(size_t n, size_t size)
{
    void *ptr = calloc(n == 0 ? 1 : n, size);

    if (ptr == NULL)
        abort();
    return ptr;
}

/* ---- servers ---- */

static void
servers(Gen *g)
{
    SimCase *c = g->c;
    uint32_t mix = below(g, 4); /* agents only, direct only, both */

    c->nservers = 2 + below(g, SIM_SERVERS - 1);
    for (uint32_t i = 0; i < c->nservers; i++)
    {
        c->servers[i].mode = i == 0     ? SIM_LOCAL
                             : mix == 0 ? SIM_DIRECT
                             : mix <= 2 ? SIM_AGENT
                                        : (pct(g, 50) ? SIM_AGENT : SIM_DIRECT);
        c->servers[i].slots = 1 + below(g, 3);
        c->servers[i].speed = pct(g, 70) ? 1 : 0.5 + 2 * fleet_random_unit(&g->random);
        c->servers[i].weight = 1 + below(g, 3);
    }
    for (uint32_t i = 1; i < c->nservers; i++)
    {
        c->targets[c->ntargets][0] = i;
        c->target_sizes[c->ntargets++] = 1;
    }
    for (uint32_t i = 0; i < 3; i++)
    {
        uint32_t *size = &c->target_sizes[c->ntargets];

        for (uint32_t server = 1; server < c->nservers; server++)
            if (i == 0 || pct(g, 60))
                c->targets[c->ntargets][(*size)++] = server;
        if (*size > 0)
            c->ntargets++;
    }
}

/* ---- tasks ---- */

static FleetRetry
retry_rule(Gen *g, uint32_t likely)
{
    FleetRetry retry = {0};

    if (!pct(g, likely))
        return retry;
    retry.retries = (uint16_t) (1 + below(g, 3));
    retry.base = log_span(g, 100, FLEET_MS(200));
    retry.maximum = pct(g, 50) ? 0 : retry.base * 3;
    retry.jitter_pct = (uint8_t) (pct(g, 50) ? 0 : below(g, 50));
    if (pct(g, 20))
    {
        retry.states = (const char(*)[8]) retry_class;
        retry.nstates = 2;
    }
    else if (pct(g, 20))
    {
        retry.states = (const char(*)[8]) retry_but;
        retry.nstates = 3;
    }
    return retry;
}

static void
step(Gen *g, SimTask *task, uint16_t number, uint32_t fail_pct)
{
    FleetStepSpec *spec = &task->steps[number];
    SimStep *nature = &task->nature[number];
    uint32_t roll = below(g, 100);

    spec->on_success = roll < 75   ? FLEET_STEP_NEXT
                       : roll < 88 ? FLEET_STEP_QUIT_SUCCESS
                       : roll < 92 ? FLEET_STEP_QUIT_FAILURE
                                   : FLEET_STEP_GOTO;
    if (spec->on_success == FLEET_STEP_GOTO)
    {
        if (number + 1 < task->nsteps)
            spec->success_goto = (uint16_t) (number + 1 + below(g, task->nsteps - number - 1u));
        else
            spec->on_success = FLEET_STEP_NEXT;
    }
    roll = below(g, 100);
    spec->on_failure = roll < 65   ? FLEET_STEP_QUIT_FAILURE
                       : roll < 80 ? FLEET_STEP_NEXT
                       : roll < 88 ? FLEET_STEP_QUIT_SUCCESS
                                   : FLEET_STEP_GOTO;
    if (spec->on_failure == FLEET_STEP_GOTO)
        spec->failure_goto = (uint16_t) below(g, task->nsteps);
    spec->retry = retry_rule(g, 30);
    spec->on_unknown = pct(g, 30) ? FLEET_UNKNOWN_RETRY : FLEET_UNKNOWN_FAIL;
    nature->duration = log_span(g, FLEET_MS(1), FLEET_SECONDS(1));
    if (pct(g, 10))
        spec->timeout = nature->duration + below(g, (uint32_t) nature->duration + 1);
    nature->not_transactional = pct(g, 20);
    nature->marked = nature->not_transactional && pct(g, 50);
    nature->fail_pct = (uint8_t) (pct(g, 50) ? 0 : below(g, fail_pct + 1));
}

static void
for_each(Gen *g, SimTask *task)
{
    task->spec.for_each = true;
    task->items = pct(g, 90) ? below(g, 7) : below(g, 40);
    task->items_fail = pct(g, 5);
    task->items_estimated = pct(g, 50);
    task->spec.throttle = pct(g, 50) ? 0 : 1 + below(g, 3);
    task->spec.completion = (FleetCompletion) below(g, 3);
    task->spec.min_share = fleet_random_unit(&g->random);
}

static void
one_task(Gen *g, SimTask *task, uint32_t number, uint32_t level)
{
    static const char *const names[] = {"load", "clear", "north", "south", "publish", "check"};
    FleetTaskSpec *spec = &task->spec;
    uint32_t roll = below(g, 100), fail_pct = pct(g, 60) ? 30 : 70;

    (void) number;
    spec->name = names[below(g, 6)];
    spec->kind = roll < 75 ? FLEET_TASK_JOB : FLEET_TASK_SQL;
    if (roll >= 88 && level + 1 < g->c->npackages)
    {
        spec->kind = FLEET_TASK_PACKAGE;
        task->package = (uint8_t) (level + 1 + below(g, g->c->npackages - level - 1));
    }
    spec->target = below(g, g->c->ntargets);
    spec->join = pct(g, 60) ? FLEET_JOIN_ALL : FLEET_JOIN_ANY;
    spec->policy = pct(g, 50) ? FLEET_SHORTEST_FINISH : (FleetPolicy) below(g, 4);
    spec->on_lost = pct(g, 40) ? FLEET_LOST_RETRY : FLEET_LOST_FAIL;
    spec->started_is_done = pct(g, 4);
    spec->retry = retry_rule(g, 40);
    spec->estimate = pct(g, 30) ? 0 : log_span(g, FLEET_MS(1), FLEET_SECONDS(2));
    spec->timeout = pct(g, 12) ? log_span(g, FLEET_MS(5), FLEET_SECONDS(2)) : 0;
    spec->left_out = pct(g, 5);
    if (pct(g, 15))
        for_each(g, task);
    spec->last = pct(g, 12);
    spec->handler = !spec->last && !spec->for_each && pct(g, 8);
    if (spec->handler)
        spec->throttle = below(g, 4);
    task->nsteps = (uint16_t) (pct(g, 60) ? 1 : 1 + below(g, SIM_STEPS));
    for (uint16_t i = 0; i < task->nsteps; i++)
        step(g, task, i, fail_pct);
    /* a way back and a timeout that is always passed: ten thousand step runs, of no interest */
    for (uint16_t i = 0; i < task->nsteps; i++)
        if (task->steps[i].on_failure == FLEET_STEP_GOTO && task->steps[i].failure_goto <= i)
            for (uint16_t k = 0; k < task->nsteps; k++)
                task->steps[k].timeout = 0;
}

/* ---- a package: edges only from lower to higher places of a shuffled order ---- */

static bool
edge_exists(const SimPackage *package, uint32_t from, uint32_t to)
{
    for (uint32_t i = 0; i < package->nedges; i++)
        if (package->edges[i].from == from && package->edges[i].to == to)
            return true;
    return false;
}

static bool
may_follow(const SimPackage *package, uint32_t a, uint32_t b)
{
    const FleetTaskSpec *x = &package->tasks[a].spec, *y = &package->tasks[b].spec;

    return !x->handler && !y->handler && x->last == y->last;
}

static void
edges(Gen *g, SimPackage *package)
{
    uint32_t n = package->ntasks, cap = n * 3 + 1, wanted;
    uint32_t *order = zeroed(n, sizeof(uint32_t));

    package->edges = zeroed(cap, sizeof(FleetEdgeSpec));
    for (uint32_t i = 0; i < n; i++)
    {
        uint32_t j = below(g, i + 1);

        order[i] = order[j];
        order[j] = i;
    }
    wanted = n < 2 ? 0 : below(g, pct(g, 50) ? n + 1 : cap);
    for (uint32_t i = 0; i < wanted; i++)
    {
        uint32_t a = below(g, n), b = below(g, n);
        FleetEdgeSpec *edge = &package->edges[package->nedges];
        uint32_t roll = below(g, 100);

        if (pct(g, 50) && a + 1 < n)
            b = a + 1; /* chains */
        if (!may_follow(package, order[a], order[b]))
            continue;
        if (a == b || edge_exists(package, order[a < b ? a : b], order[a < b ? b : a]))
            continue;
        edge->from = order[a < b ? a : b];
        edge->to = order[a < b ? b : a];
        edge->on = roll < 60   ? FLEET_ON_SUCCESS
                   : roll < 80 ? FLEET_ON_COMPLETION
                               : FLEET_ON_FAILURE;
        edge->conditional = pct(g, 15);
        package->nedges++;
    }
    free(order);
}

static uint32_t
package_size(Gen *g)
{
    uint32_t roll = below(g, 1000);

    if (roll < 750)
        return 1 + below(g, 6);
    if (roll < 950)
        return 1 + below(g, 20);
    if (roll < 995)
        return 1 + below(g, 80);
    return 1 + below(g, 300);
}

static void
packages(Gen *g)
{
    SimCase *c = g->c;

    c->npackages = pct(g, 70) ? 1 : 2 + below(g, SIM_PACKAGES - 1);
    for (uint32_t i = 0; i < c->npackages; i++)
    {
        SimPackage *package = &c->packages[i];

        package->ntasks =
            i == 0 ? package_size(g) : (below(g, 17) + 3) / 4; /* a nested one may have none */
        if (package->ntasks > g->size_cap)
            package->ntasks = g->size_cap;
        package->tasks = zeroed(package->ntasks, sizeof(SimTask));
        for (uint32_t t = 0; t < package->ntasks; t++)
            one_task(g, &package->tasks[t], t, i);
        edges(g, package);
    }
    c->nroots = pct(g, 80) ? 1 : 1 + below(g, SIM_ROOTS);
    for (uint32_t i = 0; i < c->nroots; i++)
    {
        c->roots[i].at = i == 0 ? 0 : log_span(g, 1, FLEET_SECONDS(1));
        c->roots[i].priority = (int32_t) below(g, 3) - 1;
        c->roots[i].package = (uint8_t) (i == 0 ? 0 : below(g, c->npackages));
        if (c->packages[c->roots[i].package].ntasks == 0)
            c->roots[i].package = 0;
    }
    c->strict = pct(g, 15);
    c->max_active_runs = pct(g, 80) ? 0 : 1 + below(g, 2);
    c->slice = pct(g, 50) ? 0 : 1 + below(g, 3);
    c->crowd = pct(g, 50) ? 0 : 4 * c->nservers + below(g, 4);
}

/* How many at a time, when, and how long.  Of numbers of their own: the rest of the case is as without. */
static void
limits(SimCase *c, uint64_t seed)
{
    Gen g = {.c = c};

    fleet_random_seed(&g.random, seed ^ 0x6c696d697473u);
    if (c->crowded || !pct(&g, 30))
        return;
    if (c->nroots == 1 && pct(&g, 80))
    {
        c->nroots = 2 + below(&g, SIM_ROOTS - 1);
        for (uint32_t i = 1; i < c->nroots; i++)
            c->roots[i] = (SimRoot){.at = log_span(&g, 1, FLEET_SECONDS(1)),
                                    .priority = (int32_t) below(&g, 2)};
    }
    for (uint32_t i = 0; i < c->npackages; i++)
    {
        c->packages[i].limit = pct(&g, 80) ? 1 + below(&g, 2) : 0;
        c->packages[i].replaces = c->packages[i].limit == 1 && pct(&g, 40);
        c->packages[i].timeout = pct(&g, 70) ? 0 : log_span(&g, FLEET_MS(5), FLEET_SECONDS(5));
    }
    for (uint32_t i = 0; i < c->nroots; i++)
        c->roots[i].wait = pct(&g, 70) ? 0 : log_span(&g, 1, FLEET_SECONDS(2));
}

/* Limits that tasks name.  Of numbers of their own, as above. */
static void
named(SimCase *c, uint64_t seed)
{
    Gen g = {.c = c};

    fleet_random_seed(&g.random, seed ^ 0x6e616d6564u);
    if (!pct(&g, c->crowded ? 90 : 30))
        return;
    for (uint32_t i = 0; i < SIM_NAMED; i++)
        c->named[i] = 1 + below(&g, 3);
    for (uint32_t i = 0; i < c->npackages; i++)
        for (uint32_t t = 0; t < c->packages[i].ntasks; t++)
        {
            FleetTaskSpec *spec = &c->packages[i].tasks[t].spec;

            for (uint32_t n = 0; n < SIM_NAMED; n++)
                if (pct(&g, c->crowded ? (n == 0 ? 80 : 0) : 40))
                    spec->limits[spec->nlimits++] = n;
        }
}

/* ---- faults ---- */

static void
add_fault(Gen *g, SimFaultKind kind, FleetTime at)
{
    SimFault *f = &g->c->faults[g->c->nfaults++];

    *f = (SimFault){.kind = (uint8_t) kind, .at = at};
    f->span = log_span(g, FLEET_MS(1), FLEET_SECONDS(8));
    f->server = (uint8_t) (1 + below(g, g->c->nservers - 1));
    if ((kind == FAULT_CUT_SESSION || kind == FAULT_ADMIN) && pct(g, 15))
        f->server = 0;
    f->root = (uint8_t) below(g, g->c->nroots);
    f->slots = below(g, kind == FAULT_SKIP || kind == FAULT_RETRY ? 64 : 4);
    f->state = (uint8_t) below(g, 3);
    if (kind == FAULT_ADMIN && pct(g, 40))
        f->state = FLEET_SERVER_ONLINE;
}

static SimFaultKind
any_fault(Gen *g, bool promotion)
{
    static const uint8_t kinds[] = {FAULT_CUT,
                                    FAULT_CUT,
                                    FAULT_CUT,
                                    FAULT_CUT_SESSION,
                                    FAULT_CUT_SESSION,
                                    FAULT_CUT_SESSION,
                                    FAULT_PARTITION,
                                    FAULT_PARTITION,
                                    FAULT_KILL_PARENT,
                                    FAULT_KILL_PARENT,
                                    FAULT_KILL_PARENT,
                                    FAULT_KILL_AGENT,
                                    FAULT_KILL_AGENT,
                                    FAULT_CRASH_PARENT,
                                    FAULT_CRASH_SERVER,
                                    FAULT_CRASH_SERVER,
                                    FAULT_ADMIN,
                                    FAULT_ADMIN,
                                    FAULT_CANCEL_RUN,
                                    FAULT_CANCEL_RUN,
                                    FAULT_CANCEL_FINAL,
                                    FAULT_CHILD_CANCEL,
                                    FAULT_SKIP,
                                    FAULT_SKIP,
                                    FAULT_RETRY,
                                    FAULT_RETRY,
                                    FAULT_PAUSE,
                                    FAULT_RESUME,
                                    FAULT_SNAPSHOT_SERVER,
                                    FAULT_FAILOVER_SERVER};
    SimFaultKind kind = kinds[below(g, sizeof kinds)];

    /* both at once would let the epoch go back over there, for which nothing is promised */
    if (promotion && (kind == FAULT_SNAPSHOT_SERVER || kind == FAULT_FAILOVER_SERVER))
        kind = FAULT_CUT;
    return kind;
}

static void
faults(Gen *g)
{
    SimCase *c = g->c;
    FleetTime span = log_span(g, FLEET_MS(20), FLEET_SECONDS(20));
    bool promotion = pct(g, 12);
    uint32_t n = pct(g, 15) ? 0 : below(g, pct(g, 80) ? 8 : 30);

    c->faults = zeroed(n + 7, sizeof(SimFault));
    for (uint32_t i = 0; i < n; i++)
    {
        SimFaultKind kind = any_fault(g, promotion);
        FleetTime at = (FleetTime) (fleet_random_unit(&g->random) * (double) span);

        add_fault(g, kind, at);
        if (kind == FAULT_FAILOVER_SERVER)
        {
            uint8_t server = c->faults[c->nfaults - 1].server;

            if (c->nfaults >= n + 6)
                continue;
            add_fault(g, FAULT_SNAPSHOT_SERVER,
                      (FleetTime) (fleet_random_unit(&g->random) * (double) at));
            c->faults[c->nfaults - 1].server = server;
            i++;
        }
    }
    if (promotion)
    {
        FleetTime at = (FleetTime) (fleet_random_unit(&g->random) * (double) span);

        add_fault(g, FAULT_PROMOTE_PARENT, at);
        add_fault(g, FAULT_SNAPSHOT_PARENT,
                  at - (FleetTime) (fleet_random_unit(&g->random) * (double) at * 0.3));
    }
    c->heal_at = span + FLEET_MS(1);
    c->lost_after = log_span(g, FLEET_MS(200), FLEET_SECONDS(30));
    c->latency = log_span(g, 50, FLEET_MS(5));
    c->crash_ppm = n == 0 || pct(g, 50) ? 0 : (uint32_t) log_span(g, 500, 30000);
    c->slow_pct = pct(g, 50) ? 0 : below(g, 10);
    c->refuse_pct = pct(g, 70) ? 0 : below(g, 30);
    c->blind_pct = below(g, 101);
    c->commit_fail_pct = pct(g, 70) ? 0 : below(g, 10);
    c->too_old_pct = pct(g, 80) ? 0 : below(g, 10);
    c->volatile_pct = pct(g, 80) ? 0 : below(g, 50);
    c->restart_pct = pct(g, 50) ? 0 : below(g, 90);
}

/* A crowd of short items on one server, and single tasks of less priority that want it too. */
static void
crowd(Gen *g)
{
    SimCase *c = g->c;
    SimTask *task = &c->packages[0].tasks[0];
    uint32_t target = task->spec.target;

    c->crowded = true;
    for (uint32_t t = 0; t < c->packages[0].ntasks; t++)
        c->packages[0].tasks[t].spec.last = c->packages[0].tasks[t].spec.handler = false;
    memset(task, 0, sizeof *task);
    task->spec.name = "crowd";
    task->spec.for_each = true;
    task->spec.target = target;
    task->spec.estimate = FLEET_SECONDS(2);
    task->items = 300 + below(g, 500);
    task->nsteps = 1;
    task->steps[0].on_failure = FLEET_STEP_QUIT_FAILURE;
    task->nature[0].duration = FLEET_MS(1);
    c->nroots = 2 + below(g, SIM_ROOTS - 1);
    for (uint32_t i = 1; i < c->nroots; i++)
    {
        c->roots[i] = (SimRoot){.at = (FleetTime) below(g, (uint32_t) FLEET_MS(80)),
                                .priority = -1,
                                .package = (uint8_t) (c->npackages - 1)};
        if (c->packages[c->npackages - 1].ntasks == 0 || c->npackages == 1)
            c->roots[i].package = 0;
    }
    c->roots[0].priority = 1;
    c->max_active_runs = 0;
}

void
sim_generate(SimCase *c, uint64_t seed, uint32_t size_cap)
{
    Gen g = {.c = c, .size_cap = size_cap};

    memset(c, 0, sizeof *c);
    c->seed = seed;
    fleet_random_seed(&g.random, seed);
    servers(&g);
    packages(&g);
    if (size_cap >= 100 && pct(&g, 1))
        crowd(&g);
    limits(c, seed);
    named(c, seed);
    faults(&g);
    if (c->packages[0].limit > 0)
        add_fault(&g, FAULT_LIMIT, log_span(&g, 1, FLEET_SECONDS(2)));
}

void
sim_case_copy(SimCase *to, const SimCase *from)
{
    *to = *from;
    for (uint32_t i = 0; i < from->npackages; i++)
    {
        const SimPackage *package = &from->packages[i];

        to->packages[i].tasks = zeroed(package->ntasks, sizeof(SimTask));
        memcpy(to->packages[i].tasks, package->tasks, package->ntasks * sizeof(SimTask));
        to->packages[i].edges = zeroed(package->nedges, sizeof(FleetEdgeSpec));
        memcpy(to->packages[i].edges, package->edges, package->nedges * sizeof(FleetEdgeSpec));
    }
    to->faults = zeroed(from->nfaults, sizeof(SimFault));
    memcpy(to->faults, from->faults, from->nfaults * sizeof(SimFault));
}

void
sim_case_free(SimCase *c)
{
    for (uint32_t i = 0; i < c->npackages; i++)
    {
        free(c->packages[i].tasks);
        free(c->packages[i].edges);
    }
    free(c->faults);
}

/* ---- a case as text ---- */

static void
print_task(const SimTask *task, uint32_t number)
{
    static const char *const kinds[] = {"job", "sql", "package"};

    printf("    task %u: %s", number, kinds[task->spec.kind]);
    if (task->spec.kind == FLEET_TASK_PACKAGE)
        printf(" %u", task->package);
    if (task->spec.kind == FLEET_TASK_JOB)
        printf(" on target %u", task->spec.target);
    printf(", join %s", task->spec.join == FLEET_JOIN_ALL ? "all" : "any");
    if (task->spec.for_each)
        printf(", %u items, throttle %u, completion %d, share %.2f%s", task->items,
               task->spec.throttle, task->spec.completion, task->spec.min_share,
               task->items_fail ? ", query fails" : "");
    for (uint32_t i = 0; i < task->spec.nlimits; i++)
        printf(", limit %u", (unsigned) task->spec.limits[i]);
    printf("%s%s%s", task->spec.last ? ", final" : "", task->spec.handler ? ", handler" : "",
           task->spec.left_out ? ", left out" : "");
    printf(", retries %u, timeout %lld us, on lost %s%s\n", task->spec.retry.retries,
           (long long) task->spec.timeout,
           task->spec.on_lost == FLEET_LOST_RETRY ? "retry" : "fail",
           task->spec.started_is_done ? ", started is done" : "");
    for (uint16_t i = 0; i < task->nsteps && task->spec.kind != FLEET_TASK_PACKAGE; i++)
        printf("      step %u: %lld us, fails %u %%, %s%s, on success %d (%u), on failure %d (%u), "
               "retries %u, timeout %lld us\n",
               i, (long long) task->nature[i].duration, task->nature[i].fail_pct,
               task->nature[i].not_transactional ? "not transactional" : "transactional",
               task->nature[i].marked ? " (marked)" : "", task->steps[i].on_success,
               task->steps[i].success_goto, task->steps[i].on_failure, task->steps[i].failure_goto,
               task->steps[i].retry.retries, (long long) task->steps[i].timeout);
}

void
sim_case_print(const SimCase *c)
{
    static const char *const modes[] = {"local", "agent", "direct"};
    static const char *const on[] = {"success", "failure", "completion"};
    static const char *const names[] = {"cut",
                                        "cut session",
                                        "partition",
                                        "kill parent's agent",
                                        "crash parent",
                                        "kill agent",
                                        "crash",
                                        "standby copied",
                                        "standby promoted",
                                        "parent's copy",
                                        "parent's copy promoted",
                                        "admin",
                                        "cancel run",
                                        "cancel run, final tasks too",
                                        "child cancels",
                                        "skip",
                                        "retry",
                                        "pause",
                                        "resume",
                                        "limit"};

    for (uint32_t i = 0; i < c->nservers; i++)
        printf("  server %u: %s, %u slots, speed %.2f\n", i, modes[c->servers[i].mode],
               c->servers[i].slots, c->servers[i].speed);
    for (uint32_t i = 0; i < SIM_NAMED; i++)
        if (c->named[i] > 0)
            printf("  limit %u: %u at a time\n", i, c->named[i]);
    for (uint32_t i = 0; i < c->npackages; i++)
    {
        printf("  package %u, %u at a time%s, timeout %lld us\n", i, c->packages[i].limit,
               c->packages[i].replaces ? ", the last one" : "", (long long) c->packages[i].timeout);
        for (uint32_t t = 0; t < c->packages[i].ntasks; t++)
            print_task(&c->packages[i].tasks[t], t);
        for (uint32_t e = 0; e < c->packages[i].nedges; e++)
        {
            const FleetEdgeSpec *edge = &c->packages[i].edges[e];

            printf("    edge %u: %u -> %u on %s%s\n", e, edge->from, edge->to, on[edge->on],
                   edge->conditional ? ", conditional" : "");
        }
    }
    for (uint32_t i = 0; i < c->nroots; i++)
        printf("  run %u: package %u at %lld us, %lld us before it may begin, priority %d\n", i,
               c->roots[i].package, (long long) c->roots[i].at, (long long) c->roots[i].wait,
               (int) c->roots[i].priority);
    for (uint32_t i = 0; i < c->nfaults; i++)
        printf("  fault at %lld us: %s, server %u, %lld us, state %u, slots %u\n",
               (long long) c->faults[i].at, names[c->faults[i].kind], c->faults[i].server,
               (long long) c->faults[i].span, c->faults[i].state, c->faults[i].slots);
    printf("  lost after %lld us, latency %lld us, crash %u ppm a boundary, slow %u %%, refuse %u "
           "%%\n",
           (long long) c->lost_after, (long long) c->latency, c->crash_ppm, c->slow_pct,
           c->refuse_pct);
}
