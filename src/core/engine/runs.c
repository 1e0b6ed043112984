/*
 * core/engine/runs.c
 *     Which queued run begins next, when max_active_runs lets only so many
 *     run: by priority, then in order of arrival; but one that was overtaken
 *     AGING times while it was the oldest begins before all others, so that
 *     no stream of higher priority can starve it.
 *
 * Of runs that share a limit, those that find no room are parked with that
 * key (limits.c), and come back when there is room.
 *
 * A run is in the heap and in the fifo; what began or went away otherwise is
 * found out when it comes up (its handle may belong to another run by then,
 * its sequence number does not).
 */
#include "core/engine/internal.h"

#include <string.h>

#define AGING 16

Run *
fleet_eng_still_waiting(const FleetEngine *engine, const WaitingRun *entry)
{
    Run *run = fleet_eng_run(engine, entry->run);

    if (run == NULL || run->seq != entry->seq || run->order != entry->order ||
        run->state != FLEET_QUEUED)
        return NULL;
    return run->loading || run->parked || (run->early && !FLEET_BUG_BEGINS_EARLY) ||
                   (run->paused && !FLEET_BUG_PAUSED_BEGINS)
               ? NULL
               : run; /* it is put in again when that is over */
}

static bool
comes_first(const WaitingRun *a, const WaitingRun *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->order != b->order ? a->order < b->order : a->seq < b->seq;
}

void
fleet_eng_runs_push(FleetEngine *engine, WaitingRuns *runs, WaitingRun entry)
{
    uint32_t at = runs->n;

    fleet_alloc_grow(&engine->alloc, (void **) &runs->heap, &runs->capacity, at + 1,
                     sizeof(WaitingRun));
    runs->n++;
    while (at > 0 && comes_first(&entry, &runs->heap[(at - 1) / 2]))
    {
        runs->heap[at] = runs->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    runs->heap[at] = entry;
}

WaitingRun
fleet_eng_runs_pop(WaitingRuns *runs)
{
    WaitingRun first = runs->heap[0], last = runs->heap[--runs->n];
    uint32_t at = 0;

    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= runs->n)
            break;
        if (child + 1 < runs->n && comes_first(&runs->heap[child + 1], &runs->heap[child]))
            child++;
        if (!comes_first(&runs->heap[child], &last))
            break;
        runs->heap[at] = runs->heap[child];
        at = child;
    }
    runs->heap[at] = last;
    return first;
}

/* The fifo is an array whose front is given back when half of it is used up. */
static void
fifo_push(FleetEngine *engine, WaitingRun entry)
{
    if (engine->fifo_head > 0 && engine->fifo_head >= engine->nfifo / 2)
    {
        memmove(engine->fifo, engine->fifo + engine->fifo_head,
                (engine->nfifo - engine->fifo_head) * sizeof(WaitingRun));
        engine->nfifo -= engine->fifo_head;
        engine->fifo_head = 0;
    }
    fleet_alloc_grow(&engine->alloc, (void **) &engine->fifo, &engine->fifo_capacity,
                     engine->nfifo + 1, sizeof(WaitingRun));
    engine->fifo[engine->nfifo++] = entry;
}

void
fleet_eng_wait(FleetEngine *engine, const Run *run)
{
    WaitingRun entry = {run->id, run->priority, run->seq, run->order};

    if (run->nested)
    {
        fleet_alloc_grow(&engine->alloc, (void **) &engine->nested, &engine->nested_capacity,
                         engine->nnested + 1, sizeof(WaitingRun));
        engine->nested[engine->nnested++] = entry;
        return;
    }
    if (run->replaces)
    {
        fleet_alloc_grow(&engine->alloc, (void **) &engine->replacing, &engine->replacing_capacity,
                         engine->nreplacing + 1, sizeof(WaitingRun));
        engine->replacing[engine->nreplacing++] = entry;
    }
    fleet_eng_runs_push(engine, &engine->waiting, entry);
    fifo_push(engine, entry);
}

static Run *
oldest(FleetEngine *engine)
{
    for (; engine->fifo_head < engine->nfifo; engine->fifo_head++)
    {
        Run *run = fleet_eng_still_waiting(engine, &engine->fifo[engine->fifo_head]);

        if (run != NULL && !run->nested && !fleet_eng_parks(engine, run))
            return run;
        engine->passed = 0;
    }
    return NULL;
}

static Run *
first_by_priority(FleetEngine *engine)
{
    while (engine->waiting.n > 0)
    {
        Run *run = fleet_eng_still_waiting(engine, &engine->waiting.heap[0]);

        if (run != NULL && !run->nested && !fleet_eng_parks(engine, run))
            return run;
        (void) fleet_eng_runs_pop(&engine->waiting);
    }
    return NULL;
}

/* The run that begins now; the caller begins it at once.  NULL: none may. */
Run *
fleet_eng_next_run(FleetEngine *engine)
{
    Run *run, *old;

    while (engine->nnested > 0)
    {
        run = fleet_eng_still_waiting(engine, &engine->nested[--engine->nnested]);
        if (run != NULL)
            return run;
    }
    old = oldest(engine);
    run = first_by_priority(engine);
    if (run == NULL ||
        (engine->config.max_active_runs > 0 && engine->active >= engine->config.max_active_runs))
        return NULL;
    if (run != old && engine->passed >= AGING)
        run = old;
    if (run == old)
        engine->passed = 0;
    else
        engine->passed++;
    return run;
}
