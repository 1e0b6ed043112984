/*
 * core/placement/choose.c
 *     The placer's rules: which member of a target (winner trees, one a
 *     policy), which ticket, and which ticket is held back for a faster
 *     server.  Called by placement.c only; the structures are explained in
 *     internal.h.
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

/* The best member with a free slot, but for the position "without"; NONE if there is none. */
static uint32_t
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

/* Which member may this queue's tickets not use now?  NONE: they may use all. */
static uint32_t
queue_without(const FleetPlacer *placer, const Target *target, const Queue *queue)
{
    uint32_t position = queue->avoid_position;

    if (position == NONE)
        return NONE;
    /* is another member online? */
    if (target->ntaking <= (placer->servers[target->servers[position]].takes ? 1u : 0u))
        return NONE;
    return position;
}

/* The policies with a memory note whose turn it was. */
static void
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

/* ---- starvation ---- */

uint64_t
target_patience(const Target *target)
{
    return FLEET_PLACER_PATIENCE + (uint64_t) FLEET_PLACER_ROUNDS * target->slots;
}

static bool
flow_is_due(const Target *target, const Flow *flow)
{
    return target->starts - flow->stamp >= target_patience(target);
}

bool
target_is_urgent(const FleetPlacer *placer, const Target *target)
{
    if (FLEET_BUG_STARVATION || target->ring_first == NONE || target->due_blocked)
        return false;
    return flow_is_due(target, &placer->flows[target->ring_first]) &&
           target->starts - target->forced_at >= FLEET_PLACER_SHARE - 1;
}

/* The flow that waits longest comes first, or the next one if that one cannot use what is free. */
static bool
choose_due(FleetPlacer *placer, Target *target, uint32_t *number, uint32_t *position)
{
    uint32_t next = target->ring_first;

    for (int i = 0; i < DUE_TRIED && next != NONE; i++)
    {
        const Flow *flow = &placer->flows[next];
        const Queue *queue = placer->queues[ticket_at(placer, flow->oldest)->queue];

        if (!flow_is_due(target, flow))
            break;
        *number = flow->oldest;
        *position =
            target_pick(placer, target, queue->policy, queue_without(placer, target, queue));
        if (*position != NONE)
        {
            target_picked(placer, target, queue->policy, *position);
            return true;
        }
        next = flow->next;
    }
    return false;
}

/* ---- choice ---- */

typedef struct Choice
{
    Look look;
    bool looked; /* look is filled for the server at this position */
    uint32_t position;
} Choice;

static bool
choose_shortest(FleetPlacer *placer, Target *target, const Queue *queue, Choice *choice,
                uint32_t *number, uint32_t position)
{
    const Server *server = &placer->servers[target->servers[position]];
    FleetTime now = choice->look.now;
    uint32_t without;
    const Ticket *top;

    *number = queue_top(placer, queue);
    if (target->changes == NONE)
        view_refresh(placer, target, now);
    if (server->rank >= target->top_rank)
        return true;
    view_refresh(placer, target, now);
    /* the usual case while much is to be done: it is through before the rest could be */
    top = ticket_at(placer, *number);
    if (ticket_path(top) / server->spec.speed <= level_from(target, now))
        return true;
    without = queue_without(placer, target, queue);
    if (!choice->looked || choice->position != position)
        look_begin(target, &choice->look, server);
    choice->looked = true;
    choice->position = position;
    *number = queue_not_held(placer, queue, &choice->look,
                             without == NONE ? NONE : target->servers[without]);
    return *number != NONE;
}

uint32_t
target_first_queue(const FleetPlacer *placer, const Target *target)
{
    uint32_t first = 0;

    if (target->floored)
        while (first < target->nqueues &&
               placer->queues[target->queues[first]]->priority >= target->floor)
            first++;
    return first;
}

void
target_fall(const FleetPlacer *placer, Target *target)
{
    uint32_t first = target_first_queue(placer, target);

    if (target_is_urgent(placer, target))
    {
        target->due_blocked = true;
        return;
    }
    target->floored = true;
    target->floor = placer->queues[target->queues[first]]->priority;
}

/* Among the queues of the highest priority that is left: the one with the longest ticket. */
static Queue *
next_queue(const FleetPlacer *placer, const Target *target)
{
    uint32_t first = target_first_queue(placer, target);
    Queue *best = NULL;
    int best_list = -1;

    for (uint32_t i = first; i < target->nqueues; i++)
    {
        Queue *queue = placer->queues[target->queues[i]];
        int list;

        if (queue->priority < placer->queues[target->queues[first]]->priority)
            break;
        if (queue->visit == placer->visit)
            continue;
        list = queue_key_list(placer, queue);
        if (list > best_list)
        {
            best = queue;
            best_list = list;
        }
    }
    if (best != NULL)
        best->visit = placer->visit;
    return best;
}

/*
 * The next ticket to start among the due ones of this target, or among those
 * of the highest priority that is left, and on which member.  False: none of
 * them can or should start now; target->wake says when to ask again.
 */
bool
target_choose(FleetPlacer *placer, Target *target, FleetTime now, uint32_t *number,
              uint32_t *position, bool *forced)
{
    Choice choice;
    Queue *queue;

    *forced = target_is_urgent(placer, target);
    if (*forced)
        return choose_due(placer, target, number, position);
    choice.looked = false;
    choice.look.now = now;
    choice.look.wake = FLEET_NEVER;
    placer->visit++;
    while ((queue = next_queue(placer, target)) != NULL)
    {
        uint32_t without = queue_without(placer, target, queue);

        *position = target_pick(placer, target, queue->policy, without);
        if (*position == NONE)
            continue;
        if (queue->policy != FLEET_SHORTEST_FINISH)
            *number = queue_top(placer, queue);
        else if (!choose_shortest(placer, target, queue, &choice, number, *position))
            continue;
        target_picked(placer, target, queue->policy, *position);
        return true;
    }
    if (choice.look.wake < target->wake)
        target->wake = choice.look.wake;
    return false;
}
