/*
 * core/placement/tree.c
 *     Which member of a target is the best one now: a winner tree over the
 *     members for each policy.  Called by placement.c, queue.c and choose.c;
 *     the structures are explained in internal.h.
 */
#include "core/placement/internal.h"

#include <math.h>

bool
server_has_free(const Server *server)
{
    return server->takes && server->busy < server->spec.slots;
}

void
server_load(Server *server)
{
    server->load = server_has_free(server) ? (double) server->busy / server->spec.slots : INFINITY;
}

/* ---- winner trees: the member with the smallest key, by policy ---- */

static double
member_key(const FleetPlacer *placer, const Target *target, FleetPolicy policy, uint32_t position)
{
    const Server *server = &placer->servers[target->servers[position]];

    if (server->load == INFINITY)
        return INFINITY;
    switch (policy)
    {
        case FLEET_SHORTEST_FINISH: /* the load is below 1, so it only decides between equals */
            return server->load - server->rank;
        case FLEET_ROUND_ROBIN: return target->turn[position];
        case FLEET_LEAST_LOADED: return server->load;
        case FLEET_WEIGHTED: return target->pass[position];
    }
    return INFINITY;
}

static uint32_t
member_better(const FleetPlacer *placer, const Target *target, FleetPolicy policy, uint32_t a,
              uint32_t b)
{
    double key_a, key_b;

    if (a == NONE || b == NONE)
        return a == NONE ? b : a;
    key_a = member_key(placer, target, policy, a);
    key_b = member_key(placer, target, policy, b);
    return key_a < key_b || (key_a == key_b && a < b) ? a : b;
}

/* Node n has the children 2n and 2n + 1; the members are the nodes from nservers on. */
static inline uint32_t
tree_node(const Target *target, const uint32_t *tree, uint32_t node)
{
    return node >= target->nservers ? node - target->nservers : tree[node];
}

static void
tree_update(FleetPlacer *placer, Target *target, FleetPolicy policy, uint32_t position)
{
    uint32_t *tree = target->trees[policy];

    for (uint32_t node = (position + target->nservers) / 2; node >= 1; node /= 2)
        tree[node] = member_better(placer, target, policy, tree_node(target, tree, node * 2),
                                   tree_node(target, tree, node * 2 + 1));
}

void
target_tree_update(FleetPlacer *placer, Target *target, uint32_t position)
{
    for (int policy = 0; policy < POLICIES; policy++)
        if (target->trees[policy] != NULL)
            tree_update(placer, target, (FleetPolicy) policy, position);
}

static void
tree_build(FleetPlacer *placer, Target *target, FleetPolicy policy)
{
    uint32_t *tree = target->trees[policy];

    for (uint32_t i = 0; i < target->nservers; i++)
    {
        const Server *server = &placer->servers[target->servers[i]];

        if (policy == FLEET_ROUND_ROBIN)
            target->turn[i] = 0;
        if (policy == FLEET_WEIGHTED)
            target->pass[i] = target->virtual_time + 0.5 / server->spec.weight;
    }
    for (uint32_t node = target->nservers; node-- > 1;)
        tree[node] = member_better(placer, target, policy, tree_node(target, tree, node * 2),
                                   tree_node(target, tree, node * 2 + 1));
}

void
target_tree_make(FleetPlacer *placer, Target *target, FleetPolicy policy)
{
    size_t n = target->nservers;

    if (n == 0)
        return; /* made when the target gets members */
    target->trees[policy] = placer_resize(placer, NULL, 0, n * sizeof(uint32_t));
    if (policy == FLEET_ROUND_ROBIN)
        target->turn = placer_resize(placer, NULL, 0, n * sizeof(double));
    if (policy == FLEET_WEIGHTED)
        target->pass = placer_resize(placer, NULL, 0, n * sizeof(double));
    tree_build(placer, target, policy);
}

/* The members are others than before: throw the trees away, make those that are needed. */
void
target_trees_rebuild(FleetPlacer *placer, Target *target, uint32_t old_members)
{
    size_t n = old_members;

    for (int policy = 0; policy < POLICIES; policy++)
        if (target->trees[policy] != NULL)
            target->trees[policy] =
                placer_resize(placer, target->trees[policy], n * sizeof(uint32_t), 0);
    if (target->turn != NULL)
        target->turn = placer_resize(placer, target->turn, n * sizeof(double), 0);
    if (target->pass != NULL)
        target->pass = placer_resize(placer, target->pass, n * sizeof(double), 0);
    for (uint32_t i = 0; i < target->nqueues; i++)
    {
        FleetPolicy policy = placer->queues[target->queues[i]]->policy;

        if (target->trees[policy] == NULL)
            target_tree_make(placer, target, policy);
    }
}

uint32_t
target_pick(const FleetPlacer *placer, const Target *target, FleetPolicy policy, uint32_t without)
{
    const uint32_t *tree = target->trees[policy];
    uint32_t best = NONE;

    if (tree == NULL)
        return NONE;
    if (without == NONE)
        best = tree_node(target, tree, 1);
    else
        for (uint32_t node = without + target->nservers; node > 1; node /= 2)
            best = member_better(placer, target, policy, best, tree_node(target, tree, node ^ 1));
    if (best != NONE && !server_has_free(&placer->servers[target->servers[best]]))
        return NONE;
    return best;
}

void
target_picked(FleetPlacer *placer, Target *target, FleetPolicy policy, uint32_t position)
{
    if (policy == FLEET_ROUND_ROBIN)
        target->turn[position] = ++target->turns;
    if (policy == FLEET_WEIGHTED)
    {
        const Server *server = &placer->servers[target->servers[position]];

        target->virtual_time = target->pass[position];
        target->pass[position] += 1 / server->spec.weight;
    }
}
