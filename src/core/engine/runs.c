/*
 * core/engine/runs.c
 *     Which queued run begins next, when max_active_runs lets only so many
 *     run: by priority, then in order of arrival; but one that was overtaken
 *     AGING times while it was the oldest begins before all others, so that
 *     no stream of higher priority can starve it.
 *
 * A run is in the heap and in the fifo; what began or went away otherwise is
 * found out when it comes up (its handle may belong to another run by then,
 * its sequence number does not).
 */
#include "core/engine/internal.h"

#include <string.h>

#define AGING 16

static Run *
still_waiting(const FleetEngine *engine, const WaitingRun *entry)
{
    Run *run = fleet_eng_run(engine, entry->run);

    if (run == NULL || run->seq != entry->seq || run->state != FLEET_QUEUED)
        return NULL;
    return run->loading || (run->paused && !FLEET_BUG_PAUSED_BEGINS)
               ? NULL
               : run; /* it is put in again when that is over */
}

static bool
comes_first(const WaitingRun *a, const WaitingRun *b)
{
    return a->priority != b->priority ? a->priority > b->priority : a->seq < b->seq;
}

static void
heap_push(FleetEngine *engine, WaitingRun entry)
{
    uint32_t at = engine->nwaiting;

    fleet_alloc_grow(&engine->alloc, (void **) &engine->waiting, &engine->waiting_capacity, at + 1,
                     sizeof(WaitingRun));
    engine->nwaiting++;
    while (at > 0 && comes_first(&entry, &engine->waiting[(at - 1) / 2]))
    {
        engine->waiting[at] = engine->waiting[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    engine->waiting[at] = entry;
}

static void
heap_pop(FleetEngine *engine)
{
    WaitingRun last = engine->waiting[--engine->nwaiting];
    uint32_t at = 0;

    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= engine->nwaiting)
            break;
        if (child + 1 < engine->nwaiting &&
            comes_first(&engine->waiting[child + 1], &engine->waiting[child]))
            child++;
        if (!comes_first(&engine->waiting[child], &last))
            break;
        engine->waiting[at] = engine->waiting[child];
        at = child;
    }
    engine->waiting[at] = last;
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
    WaitingRun entry = {run->id, run->priority, run->seq};

    if (run->nested)
    {
        fleet_alloc_grow(&engine->alloc, (void **) &engine->nested, &engine->nested_capacity,
                         engine->nnested + 1, sizeof(WaitingRun));
        engine->nested[engine->nnested++] = entry;
        return;
    }
    heap_push(engine, entry);
    fifo_push(engine, entry);
}

static Run *
oldest(FleetEngine *engine)
{
    for (; engine->fifo_head < engine->nfifo; engine->fifo_head++)
    {
        Run *run = still_waiting(engine, &engine->fifo[engine->fifo_head]);

        if (run != NULL && !run->nested)
            return run;
        engine->passed = 0;
    }
    return NULL;
}

static Run *
first_by_priority(FleetEngine *engine)
{
    Run *run = NULL;

    while (engine->nwaiting > 0)
    {
        run = still_waiting(engine, &engine->waiting[0]);
        if (run != NULL && !run->nested)
            break;
        run = NULL;
        heap_pop(engine);
    }
    return run;
}

/* The run that begins now; the caller begins it at once.  NULL: none may. */
Run *
fleet_eng_next_run(FleetEngine *engine)
{
    Run *run, *old;

    while (engine->nnested > 0)
    {
        run = still_waiting(engine, &engine->nested[--engine->nnested]);
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
