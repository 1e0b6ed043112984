/*
 * core/placement/heap.c
 *     The two heaps of the placer: the targets that are candidates for the
 *     next start (and those that sleep beside it), and what runs on a server
 *     by its predicted end.  Called by placement.c only; the structures are
 *     explained in internal.h.
 */
#include "core/placement/internal.h"

/* ---- candidates: targets with work and a free slot, best ticket first ---- */

static void
candidate_put(FleetPlacer *placer, uint32_t place, uint32_t number)
{
    placer->candidates[place] = number;
    placer->targets[number]->heap_position = place;
}

static void
candidate_sift(FleetPlacer *placer, uint32_t place, uint32_t number)
{
    uint64_t key = placer->targets[number]->key;

    while (place > 0)
    {
        uint32_t parent = (place - 1) / 2;

        if (placer->targets[placer->candidates[parent]]->key >= key)
            break;
        candidate_put(placer, place, placer->candidates[parent]);
        place = parent;
    }
    for (;;)
    {
        uint32_t child = place * 2 + 1;

        if (child >= placer->ncandidates)
            break;
        if (child + 1 < placer->ncandidates && placer->targets[placer->candidates[child + 1]]->key >
                                                   placer->targets[placer->candidates[child]]->key)
            child++;
        if (placer->targets[placer->candidates[child]]->key <= key)
            break;
        candidate_put(placer, place, placer->candidates[child]);
        place = child;
    }
    candidate_put(placer, place, number);
}

static void
candidate_remove(FleetPlacer *placer, Target *target)
{
    uint32_t place = target->heap_position;
    uint32_t last = placer->candidates[--placer->ncandidates];

    target->heap_position = NONE;
    if (place < placer->ncandidates)
        candidate_sift(placer, place, last);
}

/* Due tickets first, then priority, then the length of the best ticket's critical path. */
static uint64_t
target_key(const FleetPlacer *placer, const Target *target)
{
    uint32_t first = target_first_queue(placer, target);
    int32_t priority = placer->queues[target->queues[first]]->priority;
    int best = 0;

    if (target_is_urgent(placer, target))
        return UINT64_C(1) << 63 | (target->starts - placer->flows[target->ring_first].stamp);
    for (uint32_t i = first; i < target->nqueues; i++)
    {
        const Queue *queue = placer->queues[target->queues[i]];
        int list;

        if (queue->priority < priority)
            break;
        list = queue_key_list(placer, queue);
        if (list > best)
            best = list;
    }
    return (uint64_t) ((int64_t) priority + INT64_C(0x80000000)) << 16 | (uint32_t) best;
}

static void
target_sleep(FleetPlacer *placer, uint32_t number)
{
    Target *target = placer->targets[number];

    placer_grow(placer, &placer->sleepers, &placer->sleeper_capacity, placer->nsleepers + 1,
                sizeof(uint32_t));
    target->asleep = true;
    target->sleeper_position = placer->nsleepers;
    placer->sleepers[placer->nsleepers++] = number;
    if (target->wake < placer->wakeup)
        placer->wakeup = target->wake;
    if (target->heap_position != NONE)
        candidate_remove(placer, target);
}

/* To be called after any change of a target's work or free slots. */
void
target_touch(FleetPlacer *placer, uint32_t number)
{
    Target *target = placer->targets[number];

    if (target->waiting == 0 || target->nfree == 0 || target->asleep)
    {
        if (target->heap_position != NONE)
            candidate_remove(placer, target);
        return;
    }
    if (target_first_queue(placer, target) == target->nqueues)
    {
        target_sleep(placer, number); /* all that is left was tried in vain */
        return;
    }
    target->key = target_key(placer, target);
    if (target->heap_position == NONE)
    {
        placer_grow(placer, &placer->candidates, &placer->candidate_capacity,
                    placer->ncandidates + 1, sizeof(uint32_t));
        target->heap_position = placer->ncandidates++;
    }
    candidate_sift(placer, target->heap_position, number);
}

void
target_wake(FleetPlacer *placer, uint32_t number)
{
    Target *target = placer->targets[number];

    if (target->asleep)
    {
        uint32_t last = placer->sleepers[--placer->nsleepers];

        placer->sleepers[target->sleeper_position] = last;
        placer->targets[last]->sleeper_position = target->sleeper_position;
        target->asleep = false;
        if (placer->nsleepers == 0)
            placer->wakeup = FLEET_NEVER;
    }
    target->due_blocked = target->floored = false;
    target->wake = FLEET_NEVER;
    target_touch(placer, number);
}

/* ---- running tickets of a server: a heap by predicted end ---- */

static void
running_put(FleetPlacer *placer, Server *server, uint32_t place, uint32_t number)
{
    server->heap[place] = number;
    ticket_at(placer, number)->run.position = place;
}

void
running_sift(FleetPlacer *placer, Server *server, uint32_t place, uint32_t number)
{
    FleetTime end = ticket_at(placer, number)->run.end;

    while (place > 0)
    {
        uint32_t parent = (place - 1) / 2;

        if (ticket_at(placer, server->heap[parent])->run.end <= end)
            break;
        running_put(placer, server, place, server->heap[parent]);
        place = parent;
    }
    for (;;)
    {
        uint32_t child = place * 2 + 1;

        if (child >= server->nheap)
            break;
        if (child + 1 < server->nheap && ticket_at(placer, server->heap[child + 1])->run.end <
                                             ticket_at(placer, server->heap[child])->run.end)
            child++;
        if (ticket_at(placer, server->heap[child])->run.end >= end)
            break;
        running_put(placer, server, place, server->heap[child]);
        place = child;
    }
    running_put(placer, server, place, number);
}
