/*
 * core/placement/choose.c
 *     The placer's rules: which ticket of a target starts next, on which
 *     member.  Called by placement.c and heap.c; the structures are explained
 *     in internal.h.
 */
#include "core/placement/internal.h"

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

/* ---- starvation ---- */

static uint64_t
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
