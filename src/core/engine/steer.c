/*
 * core/engine/steer.c
 *     What an operator asks of a run while it goes on: to skip a task, to start
 *     one that has failed once more, to start nothing new for a while.
 *
 * Called through engine.h by the driver, which has made the request durable.
 * A skip is a mark of the task run that takes effect whenever it waits; a pause
 * is a mark of the run, under which what is ready is kept from the placer.  A
 * retry is an event: what it changes is in the states that it tells.
 */
#include "core/engine/internal.h"

/* The run, if it is one that still listens. */
static Run *
steerable(const FleetEngine *engine, uint32_t run_id)
{
    Run *run = fleet_eng_run(engine, run_id);

    return run == NULL || run->loading || FLEET_STATE_IS_FINAL(run->state) ? NULL : run;
}

/* ---- skip ---- */

static bool
has_items(const Run *run, FleetTaskRef ref)
{
    const Each *each = ref.item == 0 ? fleet_eng_each(run, ref.task) : NULL;

    return each != NULL && each->known;
}

bool
fleet_engine_skip(FleetEngine *engine, FleetTaskRef ref, FleetTime now)
{
    Run *run = steerable(engine, ref.run);
    Unit *unit = run != NULL ? fleet_eng_unit(run, ref) : NULL;

    if (unit == NULL || FLEET_STATE_IS_FINAL(unit->state) || has_items(run, ref) ||
        fleet_eng_canceled(run, ref.task))
        return false;
    unit->flags |= UNIT_LEFT_OUT;
    if (fleet_eng_skip_waiting(engine, run, ref, unit, now))
        fleet_eng_propagate(engine, run, now);
    return true;
}

void
fleet_engine_load_skip(FleetEngine *engine, FleetTaskRef ref)
{
    Run *run = fleet_eng_run(engine, ref.run);
    Unit *unit = fleet_eng_unit(run, ref);

    run->loading = true;
    if (unit != NULL && !has_items(run, ref))
        unit->flags |= UNIT_LEFT_OUT;
}

/* ---- retry ---- */

static bool
may_start_again(const Unit *unit)
{
    return unit->attempt < UINT16_MAX &&
           (unit->state == FLEET_FAILED || unit->state == FLEET_LOST ||
            unit->state == FLEET_UNKNOWN || unit->state == FLEET_CANCELED);
}

/* Queued again: the end is undone, in the books too. */
static void
reopen(Run *run, FleetTaskRef ref, Unit *unit)
{
    if (ref.item == 0 && unit->state == FLEET_CANCELED)
        run->canceled--;
    if (ref.item == 0)
        run->open[fleet_eng_part(run, ref.task)]++;
    if (unit->state == FLEET_LOST)
        unit->flags |= UNIT_AVOID;
    unit->flags &= (uint16_t) ~(UNIT_PASSED | UNIT_READY | UNIT_TIMED_OUT);
    fleet_eng_event(run, unit, FLEET_EVENT_AGAIN);
}

/* It was skipped, and nothing of it has ever begun. */
static bool
was_passed_over(const Run *run, uint32_t task)
{
    const Unit *unit = &run->tasks[task].unit;
    const Each *each = fleet_eng_each(run, task);

    return unit->state == FLEET_SKIPPED && unit->attempt == 0 && (each == NULL || !each->known);
}

/* Its constraints held, and it waits for a slot. */
static bool
not_begun(const Run *run, uint32_t task)
{
    const Unit *unit = &run->tasks[task].unit;
    const Each *each = fleet_eng_each(run, task);

    return unit->state == FLEET_QUEUED && unit->attempt == 0 &&
           (each == NULL || (!each->asked && !each->known));
}

/* Answers that came after it was decided were nobody's business: those conditions are asked for again. */
static void
forget_asked(Run *run, uint32_t task)
{
    uint32_t n;
    const uint32_t *in = fleet_graph_in(run->graph, task, &n);

    for (uint32_t i = 0; i < n; i++)
    {
        if (run->edges[in[i]] == EDGE_ASKED)
            run->edges[in[i]] = EDGE_OPEN;
    }
}

/* What follows "task", over those that it keeps from running, counts its edges in anew. */
static void
reopen_followers(FleetEngine *engine, Run *run, uint32_t task)
{
    uint32_t first = engine->nsettled; /* the stack of propagate, empty but for its callers' */

    fleet_alloc_grow(&engine->alloc, (void **) &engine->settled, &engine->settled_capacity,
                     first + run->ntasks + 1, sizeof(uint32_t));
    engine->settled[engine->nsettled++] = task;
    while (engine->nsettled > first)
    {
        uint32_t n, t = engine->settled[--engine->nsettled];
        const uint32_t *out = fleet_graph_out(run->graph, t, &n);

        for (uint32_t i = 0; i < n; i++)
        {
            uint32_t to = fleet_graph_edge(run->graph, out[i])->to;
            Unit *unit = &run->tasks[to].unit;

            run->edges[out[i]] = EDGE_OPEN;
            if (unit->flags & UNIT_REOPENED)
                continue;
            if (was_passed_over(run, to) && !FLEET_BUG_RETRY_LEAVES_SKIPPED)
            {
                forget_asked(run, to);
                reopen(run, (FleetTaskRef){run->id, to, 0}, unit);
                fleet_eng_tell(engine, FLEET_DO_STATE, (FleetTaskRef){run->id, to, 0}, unit);
                unit->flags |= UNIT_REOPENED;
                engine->settled[engine->nsettled++] = to;
            }
            else if (not_begun(run, to))
            {
                if (!fleet_eng_is_undecided(&run->tasks[to]))
                    forget_asked(run, to);
                fleet_eng_detach(engine, run, (FleetTaskRef){run->id, to, 0}, unit);
                unit->flags &= (uint16_t) ~UNIT_READY;
                unit->flags |= UNIT_REOPENED;
            }
        }
    }
}

/* Its edges in from what has ended, and was not undone, are resolved once more. */
static void
resolve_again(FleetEngine *engine, Run *run, uint32_t task, FleetTime now)
{
    uint32_t n;
    const uint32_t *in = fleet_graph_in(run->graph, task, &n);

    run->tasks[task].pending = n;
    if (n == 0)
        fleet_eng_make_ready(engine, run, task, now);
    for (uint32_t i = 0; i < n; i++)
    {
        const Unit *source = &run->tasks[fleet_graph_edge(run->graph, in[i])->from].unit;

        if (!FLEET_STATE_IS_FINAL(source->state) || (source->flags & UNIT_REOPENED) ||
            !fleet_eng_is_undecided(&run->tasks[task]))
            continue;
        if (run->edges[in[i]] != EDGE_ASKED)
            fleet_eng_resolve_edge(engine, run, in[i], now);
    }
}

static void
settle_followers(FleetEngine *engine, Run *run, FleetTime now)
{
    const uint32_t *order = fleet_graph_order(run->graph);

    for (uint32_t i = 0; i < run->ntasks; i++)
    {
        if (run->tasks[order[i]].unit.flags & UNIT_REOPENED)
            resolve_again(engine, run, order[i], now);
    }
    for (uint32_t t = 0; t < run->ntasks; t++)
        run->tasks[t].unit.flags &= (uint16_t) ~UNIT_REOPENED;
    fleet_eng_propagate(engine, run, now);
}

/* A task without items: that has begun, or that could not. */
static bool
retry_task(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, FleetTime now)
{
    Each *each = fleet_eng_each(run, ref.task);

    if (!may_start_again(unit))
        return false;
    reopen(run, ref, unit);
    unit->flags &= (uint16_t) ~UNIT_LEFT_OUT;
    fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
    reopen_followers(engine, run, ref.task);
    if (each != NULL)
        each->asked = each->failed = each->stopping = false;
    if (unit->attempt == 0)
    {
        forget_asked(run, ref.task);
        unit->flags |= UNIT_REOPENED;
    }
    else
    {
        unit->flags |= UNIT_READY;
        fleet_eng_admit(engine, run, ref, unit, now);
    }
    settle_followers(engine, run, now);
    return true;
}

static void
reopen_whole(FleetEngine *engine, Run *run, uint32_t task)
{
    FleetTaskRef ref = {run->id, task, 0};
    Unit *whole = &run->tasks[task].unit;

    if (!FLEET_STATE_IS_FINAL(whole->state))
        return;
    reopen(run, ref, whole);
    fleet_eng_event(run, whole, FLEET_EVENT_START);
    fleet_eng_event(run, whole, FLEET_EVENT_ACCEPTED);
    whole->flags |= UNIT_READY;
    fleet_eng_tell(engine, FLEET_DO_STATE, ref, whole);
    reopen_followers(engine, run, task);
}

static void
reopen_item(FleetEngine *engine, Run *run, Each *each, uint32_t item)
{
    FleetTaskRef ref = {run->id, each->task, item};
    Unit *unit = &each->items[item - 1];

    each->open++;
    if (unit->state == FLEET_CANCELED)
        each->canceled--;
    reopen(run, ref, unit);
    unit->flags &= (uint16_t) ~UNIT_LEFT_OUT;
    fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
}

/* "item" of a for_each, or (0) all that ended badly. */
static bool
retry_items(FleetEngine *engine, Run *run, Each *each, uint32_t item, FleetTime now)
{
    Unit *whole = &run->tasks[each->task].unit;
    bool over = FLEET_STATE_IS_FINAL(whole->state);
    uint32_t n = 0;

    if (over ? !may_start_again(whole) : each->stopping || whole->state != FLEET_RUNNING)
        return false;
    for (uint32_t i = 0; i < each->count; i++)
        n += (item == 0 || item == i + 1) && may_start_again(&each->items[i]);
    /* that it stops at the first failure must hold of the others too */
    if (n == 0 ||
        (item > 0 && fleet_graph_task(run->graph, each->task)->completion == FLEET_FAIL_FAST))
        return false;
    reopen_whole(engine, run, each->task);
    each->failed = each->stopping = false;
    for (uint32_t i = 1; i <= each->count; i++)
    {
        if ((item == 0 || item == i) && may_start_again(&each->items[i - 1]))
            reopen_item(engine, run, each, i);
    }
    fleet_eng_items_again(engine, run, each, now);
    settle_followers(engine, run, now);
    return true;
}

/* The part of the run that it belongs to: what comes after it may not have to wait again. */
static bool
has_passed(const Run *run, uint32_t task)
{
    if (fleet_eng_part(run, task) == PART_LAST)
        return !run->last_begun;
    return run->open[PART_MAIN] + run->open[PART_HANDLERS] == 0;
}

bool
fleet_engine_retry(FleetEngine *engine, FleetTaskRef ref, FleetTime now)
{
    Run *run = steerable(engine, ref.run);
    Unit *unit = run != NULL && run->state == FLEET_RUNNING ? fleet_eng_unit(run, ref) : NULL;
    Each *each;

    if (unit == NULL || run->held || has_passed(run, ref.task))
        return false;
    each = fleet_eng_each(run, ref.task);
    if (each != NULL && each->known)
        return retry_items(engine, run, each, ref.item, now);
    return retry_task(engine, run, ref, unit, now);
}

/* ---- pause ---- */

/* What waits for a slot leaves the placer; a start that was told to nobody is taken back. */
static void
keep_back(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit)
{
    bool unsent = unit->state == FLEET_STARTING && (unit->flags & UNIT_UNSENT);

    if (!unsent && (unit->state != FLEET_QUEUED || unit->ref == 0))
        return;
    fleet_eng_detach(engine, run, ref, unit);
    if (!unsent)
        return;
    fleet_eng_event(run, unit, FLEET_EVENT_NOT_STARTED);
    unit->attempt--;
}

static void
pause_tasks(FleetEngine *engine, Run *run)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        const Each *each = fleet_eng_each(run, t);

        keep_back(engine, run, (FleetTaskRef){run->id, t, 0}, &run->tasks[t].unit);
        for (uint32_t i = 0; each != NULL && i < each->count; i++)
            keep_back(engine, run, (FleetTaskRef){run->id, t, i + 1}, &each->items[i]);
    }
}

static void
resume_tasks(FleetEngine *engine, Run *run, FleetTime now)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        Unit *unit = &run->tasks[t].unit;
        Each *each = fleet_eng_each(run, t);

        if (each != NULL && each->known && !FLEET_STATE_IS_FINAL(unit->state) && !each->stopping)
            fleet_eng_items_again(engine, run, each, now);
        else if (unit->state != FLEET_QUEUED || !(unit->flags & UNIT_READY))
            continue;
        else if (each == NULL && unit->ref == 0)
            fleet_eng_admit(engine, run, (FleetTaskRef){run->id, t, 0}, unit, now);
        else if (each != NULL && !each->asked)
            fleet_eng_make_ready(engine, run, t, now);
    }
    fleet_eng_propagate(engine, run, now);
}

void
fleet_engine_pause(FleetEngine *engine, uint32_t run_id, bool paused, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);

    if (run == NULL || run->paused == paused)
        return;
    run->paused = paused;
    if (run->loading || FLEET_STATE_IS_FINAL(run->state))
        return;
    if (paused && run->state == FLEET_QUEUED)
        fleet_eng_key_room(engine, run); /* another one may have its place */
    if (paused)
        pause_tasks(engine, run);
    else if (run->state == FLEET_QUEUED)
        fleet_eng_wait(engine, run);
    else
        resume_tasks(engine, run, now);
}
