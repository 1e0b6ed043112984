/*
 * core/placement_choose.c
 *     The placer's rules: which member of a target (winner trees, one a
 *     policy), which ticket, and which ticket is held back for a faster
 *     server.  Called by placement.c only; the structures are explained in
 *     placement_internal.h.
 */
#include "core/placement_internal.h"

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

/* ---- look ahead ---- */

/*
 * In how many microseconds will a slot be free whose work was predicted to
 * end then?  An overrun is guessed to last once more as long as it did so far.
 */
static double
time_until_free(FleetTime end, FleetTime now)
{
    return end >= now ? (double) (end - now) : (double) (now - end);
}

static void
view_server(FleetPlacer *placer, Target *target, uint32_t number, FleetTime now)
{
    const Server *server = &placer->servers[number];
    uint32_t busy = server->nheap < server->spec.slots ? server->nheap : server->spec.slots;

    target->speed_sum += server->spec.speed * (server->spec.slots - busy);
    placer_grow(placer, &target->view, &target->view_capacity, target->nview + busy,
                sizeof(SlotView));
    for (uint32_t i = 0; i < busy; i++)
    {
        FleetTime end = ticket_at(placer, server->heap[i])->run.end;
        SlotView *slot = &target->view[target->nview++];

        *slot = (SlotView){.free = time_until_free(end, now),
                           .speed = server->spec.speed,
                           .end = end,
                           .server = number,
                           .rank = server->rank};
        target->speed_sum += slot->speed;
        target->offset_sum += slot->speed * slot->free;
    }
}

static double
target_level(const Target *target)
{
    return target->speed_sum > 0 ? (target->work + target->offset_sum) / target->speed_sum : 0;
}

/*
 * The level is when all the work would be through if it could be poured over
 * the slots like water.  Slots that are free only later take no part in it.
 */
static void
view_level(Target *target)
{
    uint32_t n = target->nview;
    bool again = true;

    while (again)
    {
        double level = target_level(target);

        again = false;
        for (uint32_t i = 0; i < n;)
        {
            SlotView slot = target->view[i];

            if (slot.free <= level)
            {
                i++;
                continue;
            }
            target->speed_sum -= slot.speed;
            target->offset_sum -= slot.speed * slot.free;
            target->view[i] = target->view[--n];
            target->view[n] = slot;
            again = true;
        }
    }
}

/* Keeps the LOOKAHEAD slots that are free first: a heap of them, the last one at the top. */
static void
view_sift(SlotView *view, uint32_t at, SlotView slot)
{
    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= LOOKAHEAD)
            break;
        if (child + 1 < LOOKAHEAD && view[child + 1].free > view[child].free)
            child++;
        if (view[child].free <= slot.free)
            break;
        view[at] = view[child];
        at = child;
    }
    view[at] = slot;
}

static void
view_cut(Target *target)
{
    if (target->nview <= LOOKAHEAD)
        return;
    for (uint32_t at = LOOKAHEAD / 2; at-- > 0;)
        view_sift(target->view, at, target->view[at]);
    for (uint32_t i = LOOKAHEAD; i < target->nview; i++)
        if (target->view[i].free < target->view[0].free)
            view_sift(target->view, 0, target->view[i]);
    target->nview = LOOKAHEAD;
}

/*
 * Looks at all the slots of a target.  A small target is looked at each time,
 * a large one only after a sixteenth of its slots changed, so that a decision
 * costs about the same; what was seen is corrected for the time that passed.
 */
static void
view_refresh(FleetPlacer *placer, Target *target, FleetTime now)
{
    if (target->slots > LOOKAHEAD && target->changes < target->slots / 16)
        return;
    target->changes = 0;
    target->viewed_at = now;
    target->nview = 0;
    target->speed_sum = target->offset_sum = 0;
    target->top_rank = INT16_MIN;
    for (uint32_t i = 0; i < target->nservers; i++)
    {
        const Server *server = &placer->servers[target->servers[i]];

        if (!server->takes)
            continue;
        if (server->rank > target->top_rank)
            target->top_rank = server->rank;
        view_server(placer, target, target->servers[i], now);
    }
    view_level(target);
}

/* One look ahead: where the tickets that are held back would go. */
typedef struct Look
{
    double level; /* from now */
    double speed; /* of the free server */
    uint32_t nslots;
    uint32_t examined;
    FleetTime now, wake;
    SlotView slots[LOOKAHEAD]; /* busy ones of faster servers */
} Look;

static double
level_from(const Target *target, FleetTime now)
{
    return target_level(target) - (double) (now - target->viewed_at);
}

static void
look_begin(Target *target, Look *look, const Server *server)
{
    FleetTime now = look->now;

    view_cut(target);
    look->level = level_from(target, now);
    look->speed = server->spec.speed;
    look->nslots = 0;
    look->examined = 0;
    for (uint32_t i = 0; i < target->nview; i++)
        if (target->view[i].rank > server->rank)
        {
            SlotView *slot = &look->slots[look->nslots++];

            *slot = target->view[i];
            slot->free = time_until_free(slot->end, now);
        }
}

/* Would this ticket lose by starting on the free server now?  Then it takes its place elsewhere. */
static bool
look_holds(Look *look, const Ticket *ticket, uint32_t without)
{
    double length = ticket->duration; /* unknown ones are negative: never held back */
    double here = length / look->speed, best = here;
    SlotView *slot = NULL;
    FleetTime wake;

    look->examined++;
    if (here + ticket->tail / look->speed <= look->level)
        return false;
    for (uint32_t i = 0; i < look->nslots; i++)
    {
        double end = look->slots[i].free + length / look->slots[i].speed;

        if (end < best && look->slots[i].server != without)
        {
            best = end;
            slot = &look->slots[i];
        }
    }
    if (slot == NULL)
        return false;
    /* this is when the overrun of what runs there will have eaten up the gain */
    wake = slot->end + (FleetTime) (here - length / slot->speed) + 1;
    if (wake <= look->now)
        wake = look->now + (FleetTime) ((here - best) / 2) + 1000;
    if (wake < look->wake)
        look->wake = wake;
    slot->free = best;
    return true;
}

/* The next tickets of one list of a queue, in exact order; moves *next on. */
static uint32_t
list_sorted(const FleetPlacer *placer, uint32_t *next, uint32_t *sorted)
{
    uint32_t n = 0, number = *next;

    for (; number != NONE && n < EXACTLY; n++)
    {
        const Ticket *ticket = ticket_at(placer, number);
        uint32_t place = n;

        while (place > 0 && ticket_before(ticket, ticket_at(placer, sorted[place - 1])))
        {
            sorted[place] = sorted[place - 1];
            place--;
        }
        sorted[place] = number;
        number = ticket->wait.next;
    }
    *next = number;
    return n;
}

/* Behind the tickets looked at one by one: the first list short enough to lose nothing for sure. */
static uint32_t
look_beyond(const Look *look, const Queue *queue, int list)
{
    double gains = INFINITY, most = look->level * look->speed;
    int below;

    for (uint32_t i = 0; i < look->nslots; i++)
    {
        double length = look->slots[i].free / (1 / look->speed - 1 / look->slots[i].speed);

        if (length < gains)
            gains = length;
    }
    if (gains > most)
        most = gains;
    below = placer_list_of((float) most) - 1;
    list = queue_list_below(queue, below < list ? below : list - 1);
    return list < 0 ? NONE : queue_list_first(queue, list);
}

/* The first ticket of the queue that does not lose by starting on the free server. */
static uint32_t
queue_not_held(const FleetPlacer *placer, const Queue *queue, Look *look, uint32_t without)
{
    uint32_t sorted[EXACTLY];
    int list;

    for (list = queue_top_list(queue); list >= 0; list = queue_list_below(queue, list - 1))
    {
        uint32_t next = queue_list_first(queue, list);

        while (next != NONE)
        {
            uint32_t n;

            if (look->examined >= LOOKAHEAD)
                return look_beyond(look, queue, list);
            n = list_sorted(placer, &next, sorted);
            for (uint32_t i = 0; i < n; i++)
                if (!look_holds(look, ticket_at(placer, sorted[i]), without))
                    return sorted[i];
        }
    }
    return NONE;
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
