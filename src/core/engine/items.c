/*
 * core/engine/items.c
 *     for_each: the items of a task as they arrive, at most "throttle" of them
 *     (and at most config.crowd) with the placer or started at a
 *     time, longest first, and what the ends of the items make of the task as a
 *     whole.
 *
 * Called by the rest of the engine and, through fleet_engine_items*(), by the
 * driver.
 *
 * States of the whole (item 0): queued until the items are known, then
 * running (canceling) until the last of them is final.
 */
#include "core/engine/internal.h"

Each *
fleet_eng_each(const Run *run, uint32_t task)
{
    uint32_t each = run->tasks[task].each;

    return each == 0 ? NULL : &run->eaches[each - 1];
}

/* An item whose for_each is over already: nothing of it starts again. */
bool
fleet_eng_stopping(const Run *run, FleetTaskRef ref)
{
    const Each *each = fleet_eng_each(run, ref.task);

    return each != NULL && each->stopping;
}

/* ---- memory ---- */

void
fleet_eng_items_grow(FleetEngine *engine, Run *run, Each *each, uint32_t count, bool exact)
{
    size_t old = each->capacity * sizeof(Unit);

    if (exact && count > each->capacity)
    {
        each->items = engine->alloc.resize(engine->alloc.context, each->items, old,
                                           (size_t) count * sizeof(Unit));
        each->capacity = count;
    }
    else
        fleet_alloc_grow(&engine->alloc, (void **) &each->items, &each->capacity, count,
                         sizeof(Unit));
    for (; each->count < count; each->count++)
    {
        each->items[each->count] = (Unit){.server = FLEET_NO_SERVER, .state = FLEET_QUEUED};
        fleet_eng_count(run, &each->items[each->count], 1);
    }
}

static void
free_backlog(FleetEngine *engine, Each *each)
{
    fleet_alloc_free(&engine->alloc, each->backlog, each->backlog_capacity * sizeof(uint32_t));
    each->backlog = NULL;
    each->nbacklog = each->backlog_capacity = 0;
}

void
fleet_eng_items_free(FleetEngine *engine, Each *each)
{
    free_backlog(engine, each);
    fleet_alloc_free(&engine->alloc, each->items, each->capacity * sizeof(Unit));
}

/* ---- the backlog behind the throttle: a heap, longest estimate first, then in order ---- */

static bool
comes_first(const Each *each, uint32_t a, uint32_t b)
{
    FleetTime x = each->items[a].estimate, y = each->items[b].estimate;

    return x != y ? x > y : a < b;
}

static void
backlog_down(Each *each, uint32_t at)
{
    uint32_t item = each->backlog[at];

    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= each->nbacklog)
            break;
        if (child + 1 < each->nbacklog &&
            comes_first(each, each->backlog[child + 1], each->backlog[child]))
            child++;
        if (!comes_first(each, each->backlog[child], item))
            break;
        each->backlog[at] = each->backlog[child];
        at = child;
    }
    each->backlog[at] = item;
}

static void
backlog_push(FleetEngine *engine, Each *each, uint32_t item)
{
    uint32_t at = each->nbacklog;

    fleet_alloc_grow(&engine->alloc, (void **) &each->backlog, &each->backlog_capacity, at + 1,
                     sizeof(uint32_t));
    each->nbacklog++;
    while (at > 0 && comes_first(each, item, each->backlog[(at - 1) / 2]))
    {
        each->backlog[at] = each->backlog[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    each->backlog[at] = item;
}

static uint32_t
backlog_pop(Each *each)
{
    uint32_t item = each->backlog[0];

    each->backlog[0] = each->backlog[--each->nbacklog];
    if (each->nbacklog > 0)
        backlog_down(each, 0);
    return item;
}

/* ---- start ---- */

void
fleet_eng_items_admit(FleetEngine *engine, Run *run, Each *each, FleetTime now)
{
    uint32_t limit = each->throttle + (FLEET_BUG_THROTTLE_OFF_BY_ONE ? 1 : 0);

    while (each->nbacklog > 0 && !each->stopping && !run->paused && each->admitted < limit)
    {
        uint32_t item = backlog_pop(each);
        Unit *unit = &each->items[item];

        if (!(unit->flags & UNIT_BACKLOG)) /* ended meanwhile */
            continue;
        unit->flags &= (uint16_t) ~UNIT_BACKLOG;
        fleet_eng_admit(engine, run, (FleetTaskRef){run->id, each->task, item + 1}, unit, now);
    }
}

void
fleet_eng_item_queued(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, FleetTime now)
{
    Each *each = fleet_eng_each(run, ref.task);

    if (each->throttle == 0)
    {
        fleet_eng_admit(engine, run, ref, unit, now);
        return;
    }
    unit->flags |= UNIT_BACKLOG;
    backlog_push(engine, each, ref.item - 1);
    fleet_eng_items_admit(engine, run, each, now);
}

/* Several at once: the heap is built in one go, in exactly the memory that it needs. */
static void
queue_behind_throttle(FleetEngine *engine, Each *each)
{
    each->backlog = engine->alloc.resize(engine->alloc.context, each->backlog,
                                         each->backlog_capacity * sizeof(uint32_t),
                                         each->count * sizeof(uint32_t));
    each->backlog_capacity = each->count;
    for (uint32_t i = 0; i < each->count; i++)
    {
        Unit *unit = &each->items[i];

        if (unit->state != FLEET_QUEUED || unit->ref != 0)
            continue;
        unit->flags |= UNIT_BACKLOG;
        each->backlog[each->nbacklog++] = i;
    }
    for (uint32_t i = each->nbacklog / 2; i-- > 0;)
        backlog_down(each, i);
}

static void finish_whole(FleetEngine *engine, Run *run, Each *each, FleetTime now);

/* At most so many at the same time; 0: as many as there are. */
static uint32_t
throttle_of(const FleetEngine *engine, const Run *run, const Each *each)
{
    const FleetTaskSpec *spec = fleet_graph_task(run->graph, each->task);
    uint32_t throttle = spec->throttle;

    if (engine->config.crowd > 0 && (throttle == 0 || throttle > engine->config.crowd))
        throttle = engine->config.crowd;
    return throttle < each->count || spec->handler ? throttle : 0; /* its items are not all here */
}

/* The items are known, their states set: everything that waits is put in motion. */
void
fleet_eng_items_begin(FleetEngine *engine, Run *run, Each *each, FleetTime now)
{
    each->throttle = throttle_of(engine, run, each);
    if (each->open == 0)
    {
        finish_whole(engine, run, each, now);
        return;
    }
    if (each->throttle > 0)
    {
        queue_behind_throttle(engine, each);
        fleet_eng_items_admit(engine, run, each, now);
        return;
    }
    for (uint32_t i = 0; i < each->count; i++)
    {
        if (each->items[i].state == FLEET_QUEUED && each->items[i].ref == 0)
            fleet_eng_admit(engine, run, (FleetTaskRef){run->id, each->task, i + 1},
                            &each->items[i], now);
    }
}

/* The same once more: some of those that had ended wait again, or the run was paused. */
void
fleet_eng_items_again(FleetEngine *engine, Run *run, Each *each, FleetTime now)
{
    each->nbacklog = 0;
    fleet_eng_items_begin(engine, run, each, now);
}

static Each *
expanding(const Run *run, uint32_t task)
{
    Each *each;

    if (run == NULL || run->loading || task >= run->ntasks || fleet_eng_canceled(run, task))
        return NULL;
    each = fleet_eng_each(run, task);
    if (each == NULL || !each->asked || each->known)
        return NULL;
    return run->tasks[task].unit.state == FLEET_QUEUED ? each : NULL;
}

/* Those that are carried over have their end before anything begins. */
static void
carry_items(Run *run, Each *each, const bool *carried)
{
    for (uint32_t i = 0; i < each->count; i++)
    {
        if (!carried[i] || (FLEET_BUG_CARRIED_ITEM_STARTED && i == 0))
            continue;
        fleet_eng_event(run, &each->items[i], FLEET_EVENT_CARRY);
        each->open--;
        each->good++;
    }
}

bool
fleet_engine_items(FleetEngine *engine, uint32_t run_id, uint32_t task, uint32_t count,
                   const FleetTime *estimates, FleetTime now)
{
    return fleet_engine_items_again(engine, run_id, task, count, estimates, NULL, now);
}

bool
fleet_engine_items_again(FleetEngine *engine, uint32_t run_id, uint32_t task, uint32_t count,
                         const FleetTime *estimates, const bool *carried, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);
    Each *each = expanding(run, task);
    Unit *whole;

    if (each == NULL)
        return false;
    whole = &run->tasks[task].unit;
    each->known = true;
    fleet_eng_event(run, whole, FLEET_EVENT_START);
    fleet_eng_event(run, whole, FLEET_EVENT_ACCEPTED);
    fleet_eng_tell(engine, FLEET_DO_STATE, (FleetTaskRef){run_id, task, 0}, whole);
    if (count > 0)
        fleet_eng_uncount(run, whole);
    fleet_eng_items_grow(engine, run, each, count, true);
    each->open = count;
    for (uint32_t i = 0; estimates != NULL && i < count; i++)
        each->items[i].estimate = fleet_estimate_limit(estimates[i]);
    if (carried != NULL)
        carry_items(run, each, carried);
    fleet_eng_items_begin(engine, run, each, now);
    fleet_eng_propagate(engine, run, now);
    return true;
}

bool
fleet_engine_items_failed(FleetEngine *engine, uint32_t run_id, uint32_t task, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);

    if (expanding(run, task) == NULL)
        return false;
    return fleet_engine_fail(engine, (FleetTaskRef){run_id, task, 0}, NULL, now);
}

/* ---- end ---- */

static FleetEvent
outcome_of_items(const Run *run, const Each *each)
{
    const FleetTaskSpec *spec = fleet_graph_task(run->graph, each->task);
    bool good = each->good == each->count;

    if (each->failed)
        return FLEET_EVENT_FAILED;
    if (fleet_eng_canceled(run, each->task) && each->canceled > 0)
        return FLEET_EVENT_STOPPED;
    if (spec->completion == FLEET_MINIMUM_SHARE)
        good = (double) each->good + 1e-6 >= spec->min_share * (double) each->count;
    return good ? FLEET_EVENT_SUCCEEDED : FLEET_EVENT_FAILED;
}

void
fleet_eng_items_finish(FleetEngine *engine, Run *run, Each *each, FleetTime now)
{
    FleetTaskRef ref = {run->id, each->task, 0};

    free_backlog(engine, each);
    fleet_eng_settle(engine, run, ref, &run->tasks[each->task].unit, outcome_of_items(run, each),
                     now);
}

/* Of a handler more may come: parts.c ends it. */
static void
finish_whole(FleetEngine *engine, Run *run, Each *each, FleetTime now)
{
    if (!fleet_graph_task(run->graph, each->task)->handler)
        fleet_eng_items_finish(engine, run, each, now);
}

/* Nothing more starts; what waits is canceled at once, what runs is stopped.  O(items), once. */
void
fleet_eng_items_stop(FleetEngine *engine, Run *run, Each *each, FleetTime now)
{
    bool changed = false;

    if (each->stopping)
        return;
    each->stopping = true;
    free_backlog(engine, each);
    for (uint32_t i = 0; i < each->count; i++)
    {
        FleetTaskRef ref = {run->id, each->task, i + 1};

        if (!fleet_eng_cancel_unit(engine, run, ref, &each->items[i]))
            continue;
        changed = true;
        each->open--;
        each->canceled++;
    }
    if (changed)
        fleet_eng_sweep(engine, run, each->task, each->task + 1);
    if (each->open == 0)
        finish_whole(engine, run, each, now);
}

/* A handler gets one more. */
uint32_t
fleet_eng_item_add(FleetEngine *engine, Run *run, Each *each)
{
    fleet_eng_items_grow(engine, run, each, each->count + 1, false);
    each->open++;
    each->throttle = throttle_of(engine, run, each);
    return each->count;
}

void
fleet_eng_item_settled(FleetEngine *engine, Run *run, FleetTaskRef ref, FleetTime now)
{
    Each *each = fleet_eng_each(run, ref.task);
    FleetState state = (FleetState) each->items[ref.item - 1].state;

    each->open--;
    if (state == FLEET_SUCCEEDED || state == FLEET_SKIPPED)
        each->good++;
    else if (state == FLEET_CANCELED)
        each->canceled++;
    if (each->open == 0)
        finish_whole(engine, run, each, now);
    else if (state != FLEET_SUCCEEDED && state != FLEET_SKIPPED &&
             fleet_graph_task(run->graph, ref.task)->completion == FLEET_FAIL_FAST)
        fleet_eng_items_stop(engine, run, each, now);
    else
        fleet_eng_items_admit(engine, run, each, now);
}
