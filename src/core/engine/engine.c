/*
 * core/engine/engine.c
 *     The engine as its driver sees it: runs from their begin over the
 *     resolution of edges to their end, cancel, and the turn of the loop.
 *     engine.h says what it is for, internal.h how it is split.
 *
 * Readiness is by counters: a task knows how many of its edges in are not
 * resolved yet; the end of a task resolves its edges out, and what becomes
 * final by that (skipped) does the same in turn, over a stack, not by
 * recursion.  No event looks at more than the edges of the tasks that it ends.
 */
#include "core/engine/internal.h"

#include <string.h>

/* ---- the engine ---- */

static void *
counting_resize(void *context, void *ptr, size_t old_size, size_t new_size)
{
    FleetEngine *engine = context;

    engine->bytes += new_size - old_size;
    return engine->base.resize(engine->base.context, ptr, old_size, new_size);
}

FleetEngine *
fleet_engine_create(const FleetAlloc *alloc, const FleetEngineConfig *config, uint64_t seed)
{
    FleetEngine *engine = fleet_alloc_zero(alloc, sizeof(FleetEngine));

    engine->base = *alloc;
    engine->alloc = (FleetAlloc){counting_resize, engine};
    engine->bytes = sizeof(FleetEngine);
    engine->config = *config;
    if (engine->config.local_target == 0)
        engine->config.local_target = FLEET_LOCAL_TARGET;
    fleet_random_seed(&engine->random, seed);
    engine->placer = fleet_placer_create(&engine->base);
    return engine;
}

static void
run_free(FleetEngine *engine, Run *run)
{
    for (uint32_t i = 0; i < run->neaches; i++)
        fleet_eng_items_free(engine, &run->eaches[i]);
    fleet_alloc_free(&engine->alloc, run->eaches, run->neaches * sizeof(Each));
    fleet_alloc_free(&engine->alloc, run->tasks, run->ntasks * sizeof(Task));
    fleet_alloc_free(&engine->alloc, run->edges, run->nedges);
    fleet_alloc_free(&engine->alloc, run, sizeof(Run));
}

#define FREE_ARRAY(engine, array, capacity)                                                        \
    fleet_alloc_free(&(engine)->alloc, (engine)->array,                                            \
                     (engine)->capacity * sizeof(*(engine)->array))

void
fleet_engine_free(FleetEngine *engine)
{
    FleetAlloc base;

    if (engine == NULL)
        return;
    for (uint32_t r = 0; r < engine->nruns; r++)
    {
        if (engine->runs[r] != NULL)
            run_free(engine, engine->runs[r]);
    }
    FREE_ARRAY(engine, runs, runs_capacity);
    FREE_ARRAY(engine, waiting.heap, waiting.capacity);
    FREE_ARRAY(engine, replacing, replacing_capacity);
    fleet_eng_keys_free(engine);
    fleet_eng_named_free(engine);
    FREE_ARRAY(engine, fifo, fifo_capacity);
    FREE_ARRAY(engine, nested, nested_capacity);
    FREE_ARRAY(engine, free_runs, free_runs_capacity);
    FREE_ARRAY(engine, tickets, tickets_capacity);
    FREE_ARRAY(engine, lives, lives_capacity);
    FREE_ARRAY(engine, servers, servers_capacity);
    FREE_ARRAY(engine, timers, timers_capacity);
    FREE_ARRAY(engine, queue, queue_capacity);
    FREE_ARRAY(engine, held, held_capacity);
    FREE_ARRAY(engine, settled, settled_capacity);
    fleet_placer_free(engine->placer);
    base = engine->base;
    fleet_alloc_free(&base, engine, sizeof(FleetEngine));
}

FleetPlacer *
fleet_engine_placer(FleetEngine *engine)
{
    return engine->placer;
}

size_t
fleet_engine_memory(const FleetEngine *engine)
{
    return engine->bytes + fleet_placer_memory(engine->placer);
}

/* ---- runs ---- */

Run *
fleet_eng_run(const FleetEngine *engine, uint32_t run)
{
    return run < engine->nruns ? engine->runs[run] : NULL;
}

Unit *
fleet_eng_unit(const Run *run, FleetTaskRef ref)
{
    const Each *each;

    if (run == NULL || ref.task >= run->ntasks)
        return NULL;
    if (ref.item == 0)
        return &run->tasks[ref.task].unit;
    each = fleet_eng_each(run, ref.task);
    return each != NULL && ref.item <= each->count ? &each->items[ref.item - 1] : NULL;
}

static uint32_t
new_handle(FleetEngine *engine)
{
    if (engine->nfree_runs > 0)
        return engine->free_runs[--engine->nfree_runs];
    fleet_alloc_grow(&engine->alloc, (void **) &engine->runs, &engine->runs_capacity,
                     engine->nruns + 1, sizeof(Run *));
    return engine->nruns++;
}

static void
init_tasks(Run *run)
{
    uint32_t each = run->nhandlers, handler = 0;

    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        Task *task = &run->tasks[t];

        task->unit.state = FLEET_QUEUED;
        task->unit.server = FLEET_NO_SERVER;
        fleet_graph_in(run->graph, t, &task->pending);
        fleet_eng_count(run, &task->unit, 1);
        run->open[fleet_eng_part(run, t)]++;
        if (fleet_graph_task(run->graph, t)->handler)
            task->each = ++handler;
        else if (fleet_graph_task(run->graph, t)->for_each)
            task->each = ++each;
        if (task->each != 0)
            run->eaches[task->each - 1].task = t;
    }
}

uint32_t
fleet_engine_run_add(FleetEngine *engine, const FleetGraph *graph, int32_t priority, uint64_t tag,
                     FleetTime now)
{
    Run *run = fleet_alloc_zero(&engine->alloc, sizeof(Run));

    (void) now; /* it begins in the next turn */
    run->id = new_handle(engine);
    engine->runs[run->id] = run;
    run->priority = priority;
    run->tag = tag;
    run->seq = ++engine->seq;
    run->graph = graph;
    run->state = FLEET_QUEUED;
    run->ntasks = fleet_graph_ntasks(graph);
    run->nedges = fleet_graph_nedges(graph);
    for (uint32_t t = 0; t < run->ntasks; t++)
        run->nhandlers += fleet_graph_task(graph, t)->handler ? 1 : 0;
    run->neaches = run->nhandlers;
    for (uint32_t t = 0; t < run->ntasks; t++)
        run->neaches += fleet_graph_task(graph, t)->for_each ? 1 : 0;
    run->tasks = fleet_alloc_zero(&engine->alloc, run->ntasks * sizeof(Task));
    run->edges = fleet_alloc_zero(&engine->alloc, run->nedges);
    run->eaches = fleet_alloc_zero(&engine->alloc, run->neaches * sizeof(Each));
    init_tasks(run);
    fleet_eng_wait(engine, run);
    return run->id;
}

void
fleet_engine_run_nested(FleetEngine *engine, uint32_t run_id)
{
    Run *run = fleet_eng_run(engine, run_id);

    run->nested = true;
    fleet_eng_wait(engine, run);
}

void
fleet_engine_run_strict(FleetEngine *engine, uint32_t run_id)
{
    fleet_eng_run(engine, run_id)->strict = true;
}

uint64_t
fleet_engine_run_tag(const FleetEngine *engine, uint32_t run)
{
    return fleet_eng_run(engine, run)->tag;
}

const FleetGraph *
fleet_engine_run_graph(const FleetEngine *engine, uint32_t run)
{
    return fleet_eng_run(engine, run)->graph;
}

FleetState
fleet_engine_run_state(const FleetEngine *engine, uint32_t run)
{
    return fleet_eng_run(engine, run)->state;
}

void
fleet_engine_run_counts(const FleetEngine *engine, uint32_t run, FleetRunCounts *counts)
{
    *counts = fleet_eng_run(engine, run)->counts;
}

/* A run that is thrown away before its end gives its slots and timers back. */
static void
detach_all(FleetEngine *engine, Run *run)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        const Each *each = fleet_eng_each(run, t);

        fleet_eng_detach(engine, run, (FleetTaskRef){run->id, t, 0}, &run->tasks[t].unit);
        for (uint32_t i = 0; each != NULL && i < each->count; i++)
            fleet_eng_detach(engine, run, (FleetTaskRef){run->id, t, i + 1}, &each->items[i]);
    }
    fleet_eng_over(engine, run);
}

void
fleet_engine_run_forget(FleetEngine *engine, uint32_t run_id)
{
    Run *run = fleet_eng_run(engine, run_id);

    if (run == NULL)
        return;
    if (!FLEET_STATE_IS_FINAL(run->state))
        detach_all(engine, run);
    fleet_eng_key_leave(engine, run);
    fleet_eng_purge(engine, run_id);
    run_free(engine, run);
    engine->runs[run_id] = NULL;
    fleet_alloc_grow(&engine->alloc, (void **) &engine->free_runs, &engine->free_runs_capacity,
                     engine->nfree_runs + 1, sizeof(uint32_t));
    engine->free_runs[engine->nfree_runs++] = run_id;
}

bool
fleet_eng_run_event(Run *run, FleetEvent event)
{
    return fleet_state_next(FLEET_MACHINE_RUN, run->state, event, &run->state);
}

/* ---- edges ---- */

bool
fleet_eng_is_bad(FleetState state)
{
    return state == FLEET_FAILED || state == FLEET_LOST || state == FLEET_UNKNOWN;
}

/* For what follows, a task that was left out in its turn has succeeded. */
static bool
counts_as_success(const Unit *unit)
{
    return unit->state == FLEET_SUCCEEDED ||
           (unit->state == FLEET_SKIPPED && (unit->flags & UNIT_PASSED));
}

/* Its source is final: does its outcome match? */
bool
fleet_eng_edge_matches(const Run *run, uint32_t e)
{
    const FleetEdgeSpec *edge = fleet_graph_edge(run->graph, e);
    const Unit *source = &run->tasks[edge->from].unit;

    switch (edge->on)
    {
        case FLEET_ON_SUCCESS: return counts_as_success(source);
        case FLEET_ON_FAILURE: return fleet_eng_is_bad((FleetState) source->state);
        case FLEET_ON_COMPLETION:
            return counts_as_success(source) || fleet_eng_is_bad((FleetState) source->state);
    }
    return false;
}

void
fleet_eng_make_ready(FleetEngine *engine, Run *run, uint32_t t, FleetTime now)
{
    FleetTaskRef ref = {run->id, t, 0};
    Each *each = fleet_eng_each(run, t);

    run->tasks[t].unit.flags |= UNIT_READY;
    run->tasks[t].ready = now;
    if ((fleet_graph_task(run->graph, t)->left_out && !FLEET_BUG_LEFT_OUT_STARTED) ||
        (run->tasks[t].unit.flags & UNIT_LEFT_OUT))
    {
        run->tasks[t].unit.flags |= UNIT_PASSED;
        fleet_eng_settle(engine, run, ref, &run->tasks[t].unit, FLEET_EVENT_SKIP, now);
        return;
    }
    if (each == NULL)
    {
        fleet_eng_admit(engine, run, ref, &run->tasks[t].unit, now);
        return;
    }
    if (run->paused || fleet_graph_task(run->graph, t)->handler)
        return; /* asked when it goes on */
    each->asked = true;
    fleet_eng_push(engine, FLEET_DO_EXPAND, ref)->state = FLEET_QUEUED;
}

/* Neither ready nor final: its edges in still matter. */
bool
fleet_eng_is_undecided(const Task *task)
{
    return task->unit.state == FLEET_QUEUED && !(task->unit.flags & UNIT_READY);
}

static void
edge_holds(FleetEngine *engine, Run *run, uint32_t t, FleetTime now)
{
    Task *task = &run->tasks[t];

    if (fleet_graph_task(run->graph, t)->join == FLEET_JOIN_ANY || --task->pending == 0)
        fleet_eng_make_ready(engine, run, t, now);
}

static void
edge_cannot_hold(FleetEngine *engine, Run *run, uint32_t t, FleetTime now)
{
    Task *task = &run->tasks[t];

    if (fleet_graph_task(run->graph, t)->join == FLEET_JOIN_ALL || --task->pending == 0)
        fleet_eng_settle(engine, run, (FleetTaskRef){run->id, t, 0}, &task->unit, FLEET_EVENT_SKIP,
                         now);
}

/* Planted bug: a join "any" that fires for each of its edges. */
static void
start_again(FleetEngine *engine, Run *run, uint32_t t, FleetTime now)
{
    Task *task = &run->tasks[t];

    if (fleet_graph_task(run->graph, t)->join != FLEET_JOIN_ANY || task->each != 0 ||
        task->unit.state != FLEET_SUCCEEDED)
        return;
    fleet_eng_count(run, &task->unit, -1);
    task->unit.state = FLEET_QUEUED;
    fleet_eng_count(run, &task->unit, 1);
    run->open[fleet_eng_part(run, t)]++;
    fleet_eng_admit(engine, run, (FleetTaskRef){run->id, t, 0}, &task->unit, now);
}

void
fleet_eng_resolve_edge(FleetEngine *engine, Run *run, uint32_t e, FleetTime now)
{
    const FleetEdgeSpec *edge = fleet_graph_edge(run->graph, e);
    bool matches = fleet_eng_edge_matches(run, e);

    if (!fleet_eng_is_undecided(&run->tasks[edge->to]))
    {
        if (FLEET_BUG_JOIN_ANY_TWICE && matches)
            start_again(engine, run, edge->to, now);
        return;
    }
    if (matches && edge->conditional && run->edges[e] == EDGE_OPEN)
    {
        FleetDecision *decision =
            fleet_eng_push(engine, FLEET_DO_CONDITION, (FleetTaskRef){run->id, edge->to, 0});

        run->edges[e] = EDGE_ASKED;
        decision->edge = e;
        decision->state = FLEET_QUEUED;
        return;
    }
    if (run->edges[e] == EDGE_OPEN)
        run->edges[e] = matches ? EDGE_HOLDS : EDGE_CANNOT;
    if (matches && run->edges[e] == EDGE_HOLDS)
        edge_holds(engine, run, edge->to, now);
    else
        edge_cannot_hold(engine, run, edge->to, now);
}

bool
fleet_engine_condition(FleetEngine *engine, uint32_t run_id, uint32_t e, bool holds, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);
    uint32_t to;

    if (run == NULL || run->loading || e >= run->nedges || run->edges[e] != EDGE_ASKED)
        return false;
    to = fleet_graph_edge(run->graph, e)->to;
    if (fleet_eng_canceled(run, to) || !fleet_eng_is_undecided(&run->tasks[to]))
        return false;
    if (FLEET_BUG_CONDITION_IGNORED)
        holds = true;
    run->edges[e] = holds ? EDGE_HOLDS : EDGE_CANNOT;
    if (holds)
        edge_holds(engine, run, to, now);
    else
        edge_cannot_hold(engine, run, to, now);
    fleet_eng_propagate(engine, run, now);
    return true;
}

bool
fleet_engine_asks(const FleetEngine *engine, uint32_t run_id, uint32_t e)
{
    const Run *run = fleet_eng_run(engine, run_id);

    return run != NULL && e < run->nedges && run->edges[e] == EDGE_ASKED &&
           fleet_eng_is_undecided(&run->tasks[fleet_graph_edge(run->graph, e)->to]);
}

/* ---- the end of a task, the end of a run ---- */

bool
fleet_eng_end_is_handled(const Run *run, uint32_t task)
{
    uint32_t n;
    const uint32_t *out = fleet_graph_out(run->graph, task, &n);

    for (uint32_t i = 0; i < n; i++)
    {
        if (fleet_graph_edge(run->graph, out[i])->on != FLEET_ON_SUCCESS)
            return true;
    }
    return false;
}

/* A task has become final. */
void
fleet_eng_note_end(Run *run, uint32_t task)
{
    run->open[fleet_eng_part(run, task)]--;
    if (run->tasks[task].unit.state == FLEET_CANCELED)
        run->canceled++;
}

/* A bad end that nobody handles, or (strict) any. */
static bool
has_unhandled(const Run *run)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        FleetState state = (FleetState) run->tasks[t].unit.state;

        if ((fleet_eng_is_bad(state) && (run->strict || !fleet_eng_end_is_handled(run, t))) ||
            (state == FLEET_CANCELED && !run->cancel))
            return true;
    }
    return false;
}

void
fleet_eng_task_settled(FleetEngine *engine, Run *run, uint32_t task)
{
    fleet_eng_note_end(run, task);
    fleet_alloc_grow(&engine->alloc, (void **) &engine->settled, &engine->settled_capacity,
                     engine->nsettled + 1, sizeof(uint32_t));
    engine->settled[engine->nsettled++] = task;
}

static FleetEvent
outcome_of_run(const Run *run)
{
    if (run->cancel && run->canceled > 0)
        return run->timed_out && !FLEET_BUG_TIMED_OUT_CANCELED ? FLEET_EVENT_FAILED
                                                               : FLEET_EVENT_STOPPED;
    return has_unhandled(run) ? FLEET_EVENT_FAILED : FLEET_EVENT_SUCCEEDED;
}

FleetState
fleet_engine_run_outcome(const FleetEngine *engine, uint32_t run_id)
{
    FleetEvent event = outcome_of_run(fleet_eng_run(engine, run_id));

    return event == FLEET_EVENT_STOPPED  ? FLEET_CANCELED
           : event == FLEET_EVENT_FAILED ? FLEET_FAILED
                                         : FLEET_SUCCEEDED;
}

static void
end_run(FleetEngine *engine, Run *run)
{
    fleet_eng_run_event(run, outcome_of_run(run));
    fleet_eng_over(engine, run);
    fleet_eng_tell_run(engine, run);
}

static void
resolve_settled(FleetEngine *engine, Run *run, FleetTime now)
{
    while (engine->nsettled > 0)
    {
        uint32_t n, t = engine->settled[--engine->nsettled];
        const uint32_t *out = fleet_graph_out(run->graph, t, &n);
        const Unit *unit = &run->tasks[t].unit;

        if (fleet_eng_canceled(run, t) ||
            (FLEET_BUG_SKIP_NOT_TRANSITIVE && unit->state == FLEET_SKIPPED) ||
            (FLEET_BUG_CARRIED_NOT_FOLLOWED && unit->state == FLEET_SUCCEEDED &&
             (unit->flags & UNIT_PASSED)))
            continue;
        for (uint32_t i = 0; i < n; i++)
            fleet_eng_resolve_edge(engine, run, out[i], now);
    }
}

/* Follows what the tasks that have just ended make possible or impossible, to its end. */
void
fleet_eng_propagate(FleetEngine *engine, Run *run, FleetTime now)
{
    if (run->state == FLEET_QUEUED)
        engine->nsettled = 0; /* its begin looks at all of them */
    if (run->state != FLEET_RUNNING && run->state != FLEET_CANCELING)
        return;
    do
        resolve_settled(engine, run, now);
    while (fleet_eng_next_part(engine, run, now));
    if (run->open[PART_MAIN] + run->open[PART_HANDLERS] + run->open[PART_LAST] == 0 &&
        !(FLEET_BUG_EMPTY_RUN_STAYS && run->ntasks == 0))
        end_run(engine, run);
}

/* ---- begin ---- */

void
fleet_eng_begin(FleetEngine *engine, Run *run, FleetTime now)
{
    fleet_eng_run_event(run, FLEET_EVENT_START);
    run->active = !run->nested;
    if (run->active)
        engine->active++;
    fleet_eng_begun(engine, run, now);
}

/* Everything that follows from the states of the tasks as they are: at the begin of a run, and of a
 * loaded one. */
void
fleet_eng_motion(FleetEngine *engine, Run *run, FleetTime now)
{
    fleet_alloc_grow(&engine->alloc, (void **) &engine->settled, &engine->settled_capacity,
                     engine->nsettled + run->ntasks, sizeof(uint32_t));
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        if (FLEET_STATE_IS_FINAL(run->tasks[t].unit.state))
            engine->settled[engine->nsettled++] = t;
    }
    fleet_eng_begin_part(engine, run, false, now);
    if (FLEET_BUG_FINAL_EARLY)
        fleet_eng_begin_part(engine, run, true, now);
    fleet_eng_propagate(engine, run, now);
}

/* ---- cancel ---- */

/* Every task that the cancel of the run reaches. */
void
fleet_eng_cancel_tasks(FleetEngine *engine, Run *run, FleetTime now)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        FleetTaskRef ref = {run->id, t, 0};
        Unit *unit = &run->tasks[t].unit;
        Each *each = fleet_eng_each(run, t);

        if (!fleet_eng_canceled(run, t))
            continue;
        if (each != NULL && each->known)
        {
            bool changed = fleet_eng_event(run, unit, FLEET_EVENT_CANCEL);

            if (!FLEET_STATE_IS_FINAL(unit->state))
                fleet_eng_items_stop(engine, run, each, now);
            if (changed && unit->state == FLEET_CANCELING)
                fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
        }
        else if (fleet_eng_cancel_unit(engine, run, ref, unit))
            fleet_eng_note_end(run, t);
    }
    fleet_eng_sweep(engine, run, 0, run->ntasks);
}

/* It never began. */
void
fleet_eng_cancel_queued(FleetEngine *engine, Run *run)
{
    run->cancel = run->cancel_last = true;
    fleet_eng_run_event(run, FLEET_EVENT_CANCEL);
    fleet_eng_over(engine, run);
    fleet_eng_cancel_tasks(engine, run, 0);
    fleet_eng_tell_run(engine, run);
}

bool
fleet_engine_cancel_run(FleetEngine *engine, uint32_t run_id, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);

    if (run == NULL || run->loading)
        return false;
    if (run->state == FLEET_QUEUED)
    {
        fleet_eng_cancel_queued(engine, run);
        return true;
    }
    if (!fleet_eng_run_event(run, FLEET_EVENT_CANCEL))
        return false;
    run->cancel = true;
    fleet_eng_tell_run(engine, run);
    fleet_eng_cancel_tasks(engine, run, now);
    fleet_eng_propagate(engine, run, now);
    return true;
}

bool
fleet_engine_cancel_final(FleetEngine *engine, uint32_t run_id, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);

    if (run == NULL || run->loading || run->cancel_last || run->state != FLEET_CANCELING)
        return false;
    run->cancel_last = true;
    fleet_eng_cancel_tasks(engine, run, now);
    fleet_eng_propagate(engine, run, now);
    return true;
}

/* ---- the turn ---- */

void
fleet_engine_turn(FleetEngine *engine, FleetTime now)
{
    Run *run;
    uint32_t ticket, server;

    fleet_eng_release_held(engine);
    engine->room = false;
    fleet_eng_fire_timers(engine, now);
    fleet_eng_replace(engine, now);
    while ((run = fleet_eng_next_run(engine)) != NULL)
    {
        fleet_eng_begin(engine, run, now);
        fleet_eng_tell_run(engine, run);
        fleet_eng_motion(engine, run, now);
    }
    do
    {
        fleet_eng_named_refill(engine, now);
        while (fleet_placer_next(engine->placer, now, &ticket, &server))
        {
            FleetTaskRef ref = engine->tickets[ticket];

            run = fleet_eng_run(engine, ref.run);
            if (fleet_eng_named_take(engine, ticket))
                fleet_eng_start(engine, run, ref, fleet_eng_unit(run, ref), ticket, server);
        }
    } while (fleet_eng_named_again(engine));
}

/* ---- for drivers and tests ---- */

FleetState
fleet_engine_task_state(const FleetEngine *engine, FleetTaskRef ref)
{
    return (FleetState) fleet_eng_unit(fleet_eng_run(engine, ref.run), ref)->state;
}

uint16_t
fleet_engine_task_attempt(const FleetEngine *engine, FleetTaskRef ref)
{
    return fleet_eng_unit(fleet_eng_run(engine, ref.run), ref)->attempt;
}

uint32_t
fleet_engine_task_server(const FleetEngine *engine, FleetTaskRef ref)
{
    return fleet_eng_unit(fleet_eng_run(engine, ref.run), ref)->server;
}

bool
fleet_engine_run_behind(const FleetEngine *engine, uint32_t run)
{
    return fleet_eng_run(engine, run)->held;
}
