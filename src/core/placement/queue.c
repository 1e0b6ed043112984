/*
 * core/placement/queue.c
 *     Tickets of the placer: their pages, the queues by length, the flows in
 *     order of arrival.  Called by placement.c, choose.c, heap.c and look.c;
 *     the structures are explained in internal.h.
 */
#include "core/placement/internal.h"

#include <string.h>

/* ---- tickets ---- */

Ticket *
placer_ticket_make(FleetPlacer *placer, uint32_t number)
{
    uint32_t page = number >> PAGE_BITS;

    if (page >= placer->page_capacity)
        placer_grow(placer, &placer->pages, &placer->page_capacity, page + 1, sizeof(Ticket *));
    if (placer->pages[page] == NULL)
    {
        placer->pages[page] = placer_resize(placer, NULL, 0, PAGE_SIZE * sizeof(Ticket));
        for (uint32_t i = 0; i < PAGE_SIZE; i++)
            placer->pages[page][i].queue = QUEUE_ABSENT;
    }
    return &placer->pages[page][number & (PAGE_SIZE - 1)];
}

/*
 * Number of the list for a path of this length: the exponent and the first
 * bits of the fraction of the number, as they stand in a float.
 */
int
placer_list_of(float path)
{
    uint32_t bits;

    if (!(path >= 1.0f))
        return 0;
    memcpy(&bits, &path, sizeof(bits));
    bits = (bits >> (23 - STEP_BITS)) - (127u << STEP_BITS);
    return bits < OCTAVES * STEPS ? (int) bits : (int) (OCTAVES * STEPS - 1);
}

/* ---- queues ---- */

static int
list_of(const Queue *queue, const Ticket *ticket)
{
    /* the other policies say where, not in which order: first come, first served */
    return queue->policy == FLEET_SHORTEST_FINISH ? placer_list_of(ticket_path(ticket)) : 0;
}

static uint32_t
queue_make(FleetPlacer *placer)
{
    uint32_t number;

    if (placer->nfree_queues > 0)
        return placer->free_queues[--placer->nfree_queues];
    number = placer->nqueues++;
    placer_grow(placer, &placer->queues, &placer->queue_capacity, placer->nqueues, sizeof(Queue *));
    placer->queues[number] = placer_resize(placer, NULL, 0, sizeof(Queue));
    memset(placer->queues[number], 0, sizeof(Queue));
    return number;
}

uint32_t
member_position(const FleetPlacer *placer, uint32_t server, uint32_t target)
{
    if (server >= placer->nservers)
        return NONE;
    for (uint32_t i = 0; i < placer->servers[server].nmembers; i++)
        if (placer->servers[server].members[i].target == target)
            return placer->servers[server].members[i].position;
    return NONE;
}

/* The queue for such tickets, made if there is none. */
static uint32_t
queue_find(FleetPlacer *placer, const FleetTicket *spec)
{
    Target *target = placer->targets[spec->target];
    uint32_t place = target->nqueues;
    uint32_t number;
    Queue *queue;

    for (uint32_t i = 0; i < target->nqueues; i++)
    {
        queue = placer->queues[target->queues[i]];
        if (queue->priority == spec->priority && queue->policy == spec->policy &&
            queue->avoid == spec->avoid)
            return target->queues[i];
        if (queue->priority < spec->priority && place > i)
            place = i;
    }
    number = queue_make(placer);
    queue = placer->queues[number];
    queue->target = spec->target;
    queue->policy = spec->policy;
    queue->priority = spec->priority;
    queue->avoid = spec->avoid;
    queue->avoid_position = member_position(placer, spec->avoid, spec->target);
    queue->waiting = 0;
    placer_grow(placer, &target->queues, &target->queue_capacity, target->nqueues + 1,
                sizeof(uint32_t));
    memmove(target->queues + place + 1, target->queues + place,
            (target->nqueues - place) * sizeof(uint32_t));
    target->queues[place] = number;
    target->nqueues++;
    if (target->trees[spec->policy] == NULL)
        target_tree_make(placer, target, spec->policy);
    return number;
}

/* An empty queue is taken off its target; its memory is used again by the next one. */
static void
queue_drop(FleetPlacer *placer, uint32_t number)
{
    Queue *queue = placer->queues[number];
    Target *target = placer->targets[queue->target];
    uint32_t i = 0;

    while (target->queues[i] != number)
        i++;
    target->nqueues--;
    memmove(target->queues + i, target->queues + i + 1, (target->nqueues - i) * sizeof(uint32_t));
    placer_grow(placer, &placer->free_queues, &placer->free_queue_capacity,
                placer->nfree_queues + 1, sizeof(uint32_t));
    placer->free_queues[placer->nfree_queues++] = number;
}

int
queue_top_list(const Queue *queue)
{
    return queue_list_below(queue, OCTAVES * STEPS - 1);
}

int
queue_list_below(const Queue *queue, int list)
{
    int octave = list >> STEP_BITS;
    uint64_t octaves;

    if (list < 0)
        return -1;
    if (queue->occupied >> octave & 1)
    {
        uint32_t steps =
            queue->octaves[octave]->occupied & (UINT32_MAX >> (STEPS - 1 - (list & (STEPS - 1))));

        if (steps != 0)
            return (octave << STEP_BITS) + 31 - __builtin_clz(steps);
    }
    octaves = queue->occupied & (((uint64_t) 1 << octave) - 1);
    if (octaves == 0)
        return -1;
    octave = 63 - __builtin_clzll(octaves);
    return (octave << STEP_BITS) + 31 - __builtin_clz(queue->octaves[octave]->occupied);
}

uint32_t
queue_list_first(const Queue *queue, int list)
{
    return queue->octaves[list >> STEP_BITS]->first[list & (STEPS - 1)];
}

/*
 * The ticket that is first in the order: the longest of the topmost list, of
 * which only the beginning is compared exactly.
 */
uint32_t
queue_top(const FleetPlacer *placer, const Queue *queue)
{
    uint32_t number = queue_list_first(queue, queue_top_list(queue));
    uint32_t best = number;

    if (queue->policy != FLEET_SHORTEST_FINISH)
        return number;
    for (int i = 0; i < EXACTLY && number != NONE; i++)
    {
        const Ticket *ticket = ticket_at(placer, number), *top = ticket_at(placer, best);

        if (ticket_before(ticket, top))
            best = number;
        number = ticket->wait.next;
    }
    return best;
}

/* By how long a ticket is this queue compared with others?  As a number of a list. */
int
queue_key_list(const FleetPlacer *placer, const Queue *queue)
{
    int list = queue_top_list(queue);

    if (queue->policy == FLEET_SHORTEST_FINISH)
        return list;
    return placer_list_of(ticket_path(ticket_at(placer, queue_list_first(queue, list))));
}

static Octave *
octave_make(FleetPlacer *placer)
{
    Octave *octave = placer->free_octaves;

    if (octave != NULL)
        placer->free_octaves = octave->next_free;
    else
        octave = placer_resize(placer, NULL, 0, sizeof(Octave));
    octave->occupied = 0;
    return octave;
}

static void
octave_drop(FleetPlacer *placer, Queue *queue, int number)
{
    queue->occupied &= ~((uint64_t) 1 << number);
    queue->octaves[number]->next_free = placer->free_octaves;
    placer->free_octaves = queue->octaves[number];
    queue->octaves[number] = NULL;
}

static void
queue_add(FleetPlacer *placer, Queue *queue, uint32_t number)
{
    Ticket *ticket = ticket_at(placer, number);
    int list = list_of(queue, ticket), step = list & (STEPS - 1);
    Octave **octave = &queue->octaves[list >> STEP_BITS];

    if (*octave == NULL)
        *octave = octave_make(placer);
    ticket->wait.next = NONE;
    if ((*octave)->occupied >> step & 1)
    {
        ticket->wait.prev = (*octave)->last[step];
        ticket_at(placer, ticket->wait.prev)->wait.next = number;
    }
    else
    {
        ticket->wait.prev = NONE;
        (*octave)->first[step] = number;
        (*octave)->occupied |= (uint32_t) 1 << step;
        queue->occupied |= (uint64_t) 1 << (list >> STEP_BITS);
    }
    (*octave)->last[step] = number;
    queue->waiting++;
}

static void
queue_remove(FleetPlacer *placer, Queue *queue, const Ticket *ticket)
{
    int list = list_of(queue, ticket), step = list & (STEPS - 1);
    Octave *octave = queue->octaves[list >> STEP_BITS];

    if (ticket->wait.prev == NONE)
        octave->first[step] = ticket->wait.next;
    else
        ticket_at(placer, ticket->wait.prev)->wait.next = ticket->wait.next;
    if (ticket->wait.next == NONE)
        octave->last[step] = ticket->wait.prev;
    else
        ticket_at(placer, ticket->wait.next)->wait.prev = ticket->wait.prev;
    if (octave->first[step] == NONE)
    {
        octave->occupied &= ~((uint32_t) 1 << step);
        if (octave->occupied == 0)
            octave_drop(placer, queue, list >> STEP_BITS);
    }
    queue->waiting--;
}

/* ---- flows ---- */

static uint32_t
flow_bucket(const FleetPlacer *placer, uint32_t target, uint32_t flow)
{
    uint64_t hash = ((uint64_t) target << 32 | flow) * UINT64_C(0x9E3779B97F4A7C15);

    return (uint32_t) (hash >> 32) & (placer->nbuckets - 1);
}

static void
flow_rehash(FleetPlacer *placer)
{
    uint32_t nbuckets = placer->nbuckets == 0 ? 16 : placer->nbuckets * 2;

    placer->buckets = placer_resize(placer, placer->buckets, placer->nbuckets * sizeof(uint32_t),
                                    nbuckets * sizeof(uint32_t));
    placer->nbuckets = nbuckets;
    memset(placer->buckets, 0xff, nbuckets * sizeof(uint32_t));
    for (uint32_t i = 0; i < placer->nflows; i++)
    {
        Flow *flow = &placer->flows[i];
        uint32_t bucket;

        if (flow->target == NONE)
            continue;
        bucket = flow_bucket(placer, flow->target, flow->flow);
        flow->chain = placer->buckets[bucket];
        placer->buckets[bucket] = i;
    }
}

static void
ring_append(FleetPlacer *placer, Target *target, uint32_t number)
{
    Flow *flow = &placer->flows[number];

    flow->stamp = target->starts;
    flow->next = NONE;
    flow->prev = target->ring_last;
    if (flow->prev == NONE)
        target->ring_first = number;
    else
        placer->flows[flow->prev].next = number;
    target->ring_last = number;
}

static void
ring_remove(FleetPlacer *placer, Target *target, const Flow *flow)
{
    if (flow->prev == NONE)
        target->ring_first = flow->next;
    else
        placer->flows[flow->prev].next = flow->next;
    if (flow->next == NONE)
        target->ring_last = flow->prev;
    else
        placer->flows[flow->next].prev = flow->prev;
}

static uint32_t
flow_find(FleetPlacer *placer, uint32_t target_number, uint32_t flow_number)
{
    Target *target = placer->targets[target_number];
    uint32_t number = target->flow_cached, bucket;
    Flow *flow;

    if (number != NONE && placer->flows[number].flow == flow_number)
        return number;
    if (placer->nbuckets <= placer->flows_used)
        flow_rehash(placer);
    bucket = flow_bucket(placer, target_number, flow_number);
    for (number = placer->buckets[bucket]; number != NONE; number = placer->flows[number].chain)
        if (placer->flows[number].flow == flow_number &&
            placer->flows[number].target == target_number)
            return target->flow_cached = number;

    if (placer->free_flow != NONE)
    {
        number = placer->free_flow;
        placer->free_flow = placer->flows[number].chain;
    }
    else
    {
        number = placer->nflows++;
        placer_grow(placer, &placer->flows, &placer->flow_capacity, placer->nflows, sizeof(Flow));
    }
    flow = &placer->flows[number];
    *flow = (Flow){.target = target_number, .flow = flow_number, .oldest = NONE, .newest = NONE};
    flow->chain = placer->buckets[bucket];
    placer->buckets[bucket] = number;
    placer->flows_used++;
    target->nflows++;
    ring_append(placer, target, number);
    return target->flow_cached = number;
}

static void
flow_drop(FleetPlacer *placer, uint32_t number)
{
    Flow *flow = &placer->flows[number];
    Target *target = placer->targets[flow->target];
    uint32_t *link = &placer->buckets[flow_bucket(placer, flow->target, flow->flow)];

    while (*link != number)
        link = &placer->flows[*link].chain;
    *link = flow->chain;
    ring_remove(placer, target, flow);
    if (target->flow_cached == number)
        target->flow_cached = NONE;
    target->nflows--;
    placer->flows_used--;
    flow->target = NONE;
    flow->chain = placer->free_flow;
    placer->free_flow = number;
}

static void
flow_add(FleetPlacer *placer, uint32_t flow_number, uint32_t number)
{
    Flow *flow = &placer->flows[flow_number];
    Ticket *ticket = ticket_at(placer, number);

    ticket->flow = flow_number;
    ticket->wait.age_next = NONE;
    ticket->wait.age_prev = flow->newest;
    if (flow->newest == NONE)
        flow->oldest = number;
    else
        ticket_at(placer, flow->newest)->wait.age_next = number;
    flow->newest = number;
}

static void
flow_remove(FleetPlacer *placer, const Ticket *ticket)
{
    Flow *flow = &placer->flows[ticket->flow];
    Target *target = placer->targets[flow->target];
    bool was_oldest = ticket->wait.age_prev == NONE;

    if (was_oldest)
        flow->oldest = ticket->wait.age_next;
    else
        ticket_at(placer, ticket->wait.age_prev)->wait.age_next = ticket->wait.age_next;
    if (ticket->wait.age_next == NONE)
        flow->newest = ticket->wait.age_prev;
    else
        ticket_at(placer, ticket->wait.age_next)->wait.age_prev = ticket->wait.age_prev;

    if (flow->oldest == NONE)
        flow_drop(placer, ticket->flow);
    else if (was_oldest)
    {
        ring_remove(placer, target, flow);
        ring_append(placer, target, ticket->flow);
    }
}

/* ---- both ---- */

void
placer_enqueue(FleetPlacer *placer, uint32_t number, const FleetTicket *spec, uint32_t flow)
{
    Target *target = placer->targets[spec->target];
    Ticket *ticket = placer_ticket_make(placer, number);

    ticket->tail = spec->tail > 0 ? ticket_span(spec->tail) : 0;
    if (spec->duration > 0)
    {
        ticket->duration = ticket_span(spec->duration);
        target->waiting_known++;
        target->work += ticket->duration;
    }
    else if (target->waiting_known > 0)
        ticket->duration = (float) (-target->work / target->waiting_known);
    else
        ticket->duration = -0.0f;
    ticket->queue = queue_find(placer, spec);
    queue_add(placer, placer->queues[ticket->queue], number);
    flow_add(placer, flow_find(placer, spec->target, flow), number);
    target->waiting++;
}

void
placer_dequeue(FleetPlacer *placer, uint32_t number)
{
    Ticket *ticket = ticket_at(placer, number);
    uint32_t queue = ticket->queue;
    Target *target = placer->targets[placer->queues[queue]->target];

    queue_remove(placer, placer->queues[queue], ticket);
    if (placer->queues[queue]->waiting == 0)
        queue_drop(placer, queue);
    flow_remove(placer, ticket);
    target->waiting--;
    if (ticket->duration > 0)
    {
        target->waiting_known--;
        target->work = target->waiting_known == 0 ? 0 : target->work - ticket->duration;
    }
    ticket->queue = QUEUE_ABSENT;
}
