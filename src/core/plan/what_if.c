/*
 * core/plan/what_if.c
 *     The same run with another number of servers (plan.h).  Behind
 *     fleet.advise(), in a session's process, and called by tests.
 *
 * Groups with a server in common form a *pool*; what is added to one of them at
 * some place is added to all of the pool that have room at that place.
 */
#include "core/plan/internal.h"

#include <stdio.h>
#include <string.h>

#define NO_POOL UINT32_MAX

typedef struct Pool
{
    double slots, weight, speed; /* sums over its usable servers … */
    uint32_t usable;
    uint32_t first_added; /* number of the server that is added at place 0, if one is */
} Pool;

typedef struct Whatif
{
    const FleetAlloc *alloc;
    const FleetPlanInput *input;
    uint32_t n;
    uint32_t *pool_of_target; /* NO_POOL: not a group */
    uint32_t *pool_of_server;
    Pool *pools; /* numbered as the targets by which they were found */
    FleetServerSpec *servers;
    uint32_t nservers;
    uint32_t *members; /* of all targets, n each */
    const uint32_t **targets;
    uint32_t *sizes;
} Whatif;

static bool
is_group(const FleetPlanInput *input, uint32_t target)
{
    return input->groups == NULL || input->groups[target];
}

/* A target belongs to the pool of any of its servers; pools that meet become one. */
static void
join_pool(Whatif *w, uint32_t target)
{
    const FleetPlanInput *input = w->input;

    w->pool_of_target[target] = target;
    for (uint32_t i = 0; i < input->target_sizes[target]; i++)
    {
        uint32_t server = input->targets[target][i], other = w->pool_of_server[server];

        if (other == target)
            continue;
        w->pool_of_server[server] = target;
        if (other == NO_POOL)
            continue;
        for (uint32_t t = 0; t < target; t++)
            if (w->pool_of_target[t] == other)
                w->pool_of_target[t] = target;
        for (uint32_t s = 0; s < input->nservers; s++)
            if (w->pool_of_server[s] == other)
                w->pool_of_server[s] = target;
    }
}

static void
find_pools(Whatif *w)
{
    const FleetPlanInput *input = w->input;

    for (uint32_t s = 0; s < input->nservers; s++)
        w->pool_of_server[s] = NO_POOL;
    for (uint32_t t = 0; t < input->ntargets; t++)
    {
        w->pool_of_target[t] = NO_POOL;
        if (is_group(input, t))
            join_pool(w, t);
    }
    for (uint32_t s = 0; s < input->nservers; s++)
    {
        const FleetServerSpec *server = &input->servers[s];
        Pool *pool = w->pool_of_server[s] == NO_POOL ? NULL : &w->pools[w->pool_of_server[s]];

        if (pool == NULL || !plan_usable(server))
            continue;
        pool->usable++;
        pool->slots += server->slots;
        pool->weight += server->weight;
        pool->speed += server->speed;
    }
}

static FleetServerSpec
average_of(const Pool *pool)
{
    double n = pool->usable;

    if (pool->usable == 0)
        return (FleetServerSpec){FLEET_SERVER_ONLINE, 1, 1, 1};
    return (FleetServerSpec){FLEET_SERVER_ONLINE, (uint32_t) (pool->slots / n + 0.5),
                             pool->weight / n, pool->speed / n};
}

/* Each pool gets n servers that may be put anywhere in it. */
static void
add_servers(Whatif *w)
{
    memcpy(w->servers, w->input->servers, w->input->nservers * sizeof(FleetServerSpec));
    w->nservers = w->input->nservers;
    for (uint32_t t = 0; t < w->input->ntargets; t++)
    {
        if (w->pool_of_target[t] != t)
            continue;
        w->pools[t].first_added = w->nservers;
        for (uint32_t i = 0; i < w->n; i++)
            w->servers[w->nservers++] = average_of(&w->pools[t]);
    }
}

static void
fill_group(Whatif *w, uint32_t target)
{
    const FleetPlanInput *input = w->input;
    uint32_t *members = &w->members[(size_t) target * w->n], size = 0;

    for (uint32_t i = 0; i < input->target_sizes[target] && size < w->n; i++)
        if (plan_usable(&input->servers[input->targets[target][i]]))
            members[size++] = input->targets[target][i];
    for (; size < w->n; size++)
        members[size] = w->pools[w->pool_of_target[target]].first_added + size;
    w->targets[target] = members;
    w->sizes[target] = size;
}

/* Servers that are in no target any more do not count for the lower bound either. */
static void
drop_unused(Whatif *w)
{
    uint8_t *used = fleet_alloc_zero(w->alloc, w->nservers);

    used[w->input->local_server] = 1;
    for (uint32_t t = 0; t < w->input->ntargets; t++)
        for (uint32_t i = 0; i < w->sizes[t]; i++)
            used[w->targets[t][i]] = 1;
    for (uint32_t s = 0; s < w->nservers; s++)
        if (!used[s])
            w->servers[s].slots = 0;
    fleet_alloc_free(w->alloc, used, w->nservers);
}

static void
whatif_make(Whatif *w, const FleetAlloc *alloc, const FleetPlanInput *input, uint32_t n)
{
    uint32_t ntargets = input->ntargets;

    *w = (Whatif){.alloc = alloc, .input = input, .n = n};
    w->pool_of_target = fleet_alloc_zero(alloc, ntargets * sizeof(uint32_t));
    w->pool_of_server = fleet_alloc_zero(alloc, input->nservers * sizeof(uint32_t));
    w->pools = fleet_alloc_zero(alloc, ntargets * sizeof(Pool));
    w->servers = fleet_alloc_zero(alloc, ((size_t) input->nservers + (size_t) ntargets * n) *
                                             sizeof(FleetServerSpec));
    w->members = fleet_alloc_zero(alloc, (size_t) ntargets * n * sizeof(uint32_t));
    w->targets = fleet_alloc_zero(alloc, ntargets * sizeof(uint32_t *));
    w->sizes = fleet_alloc_zero(alloc, ntargets * sizeof(uint32_t));
    find_pools(w);
    add_servers(w);
    for (uint32_t t = 0; t < ntargets; t++)
    {
        w->targets[t] = input->targets[t];
        w->sizes[t] = input->target_sizes[t];
        if (is_group(input, t))
            fill_group(w, t);
    }
    drop_unused(w);
}

static void
whatif_free(Whatif *w)
{
    const FleetAlloc *alloc = w->alloc;
    uint32_t ntargets = w->input->ntargets;

    fleet_alloc_free(alloc, w->pool_of_target, ntargets * sizeof(uint32_t));
    fleet_alloc_free(alloc, w->pool_of_server, w->input->nservers * sizeof(uint32_t));
    fleet_alloc_free(alloc, w->pools, ntargets * sizeof(Pool));
    fleet_alloc_free(alloc, w->servers,
                     ((size_t) w->input->nservers + (size_t) ntargets * w->n) *
                         sizeof(FleetServerSpec));
    fleet_alloc_free(alloc, w->members, (size_t) ntargets * w->n * sizeof(uint32_t));
    fleet_alloc_free(alloc, w->targets, ntargets * sizeof(uint32_t *));
    fleet_alloc_free(alloc, w->sizes, ntargets * sizeof(uint32_t));
}

bool
fleet_plan_what_if(const FleetAlloc *alloc, const FleetPlanInput *input, uint32_t n,
                   FleetTime *makespan, FleetTime *lower_bound, FleetError *error)
{
    FleetPlanInput other = *input;
    FleetPlan plan;
    Whatif w;
    bool done;

    if (!plan_check_input(input, error))
        return false;
    if (n == 0 || input->ntargets == 0)
    {
        snprintf(error->message, sizeof(error->message), "there is no plan without a server");
        snprintf(error->hint, sizeof(error->hint), "Specify at least one server.");
        return false;
    }
    whatif_make(&w, alloc, input, n);
    other.servers = w.servers;
    other.nservers = w.nservers;
    other.targets = w.targets;
    other.target_sizes = w.sizes;
    done = fleet_plan_create(alloc, &other, &plan, error);
    if (done)
    {
        *makespan = plan.makespan;
        *lower_bound = plan.lower_bound;
        fleet_plan_free(alloc, &plan);
    }
    whatif_free(&w);
    return done;
}
