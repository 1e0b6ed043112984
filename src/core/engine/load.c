/*
 * core/engine/load.c
 *     Recovery: a run is rebuilt from its durable state, in any order, and
 *     then set in motion again.
 *
 * Called by the driver after a restart (of the agent, of the server, on a
 * promoted standby).  What is volatile is derived: the counters of the edges
 * from the final states, what a cancel or a failed item had begun from the
 * states 'canceling' and 'canceled'.
 */
#include "core/engine/internal.h"

/* ---- facts ---- */

void
fleet_engine_load_items(FleetEngine *engine, uint32_t run_id, uint32_t task, uint32_t count)
{
    Run *run = fleet_eng_run(engine, run_id);
    Each *each = fleet_eng_each(run, task);

    run->loading = true;
    each->known = true;
    fleet_eng_items_grow(engine, run, each, count, true);
}

void
fleet_engine_load(FleetEngine *engine, const FleetLoad *load)
{
    Run *run = fleet_eng_run(engine, load->ref.run);
    Unit *unit;

    run->loading = true;
    if (load->ref.item > 0)
        fleet_eng_items_grow(engine, run, fleet_eng_each(run, load->ref.task), load->ref.item,
                             false);
    unit = fleet_eng_unit(run, load->ref);
    fleet_eng_count(run, unit, -1);
    unit->state = (uint8_t) load->state;
    fleet_eng_count(run, unit, 1);
    unit->attempt = load->attempt;
    unit->failures = load->failures;
    unit->server = load->server;
    unit->estimate = load->ref.item > 0 ? fleet_estimate_limit(load->estimate) : 0;
    if (FLEET_STATE_IS_FINAL(load->state))
        return;
    if (load->state == FLEET_QUEUED)
    {
        if (load->attempt > 0 && load->server != FLEET_NO_SERVER)
            unit->flags |= UNIT_AVOID;
        return;
    }
    /* A time has to be remembered: the live record is needed now anyway. */
    unit->ref = fleet_eng_live_new(engine, load->ref);
    engine->lives[unit->ref].due = load->state == FLEET_RETRYING ? load->retry_at : load->since;
}

void
fleet_engine_load_running(FleetEngine *engine, uint32_t run_id)
{
    Run *run = fleet_eng_run(engine, run_id);

    run->loading = true;
    run->load_running = true;
}

void
fleet_engine_load_cancel_final(FleetEngine *engine, uint32_t run_id)
{
    Run *run = fleet_eng_run(engine, run_id);

    run->loading = true;
    run->cancel_last = true;
}

void
fleet_engine_load_condition(FleetEngine *engine, uint32_t run_id, uint32_t edge, bool holds)
{
    Run *run = fleet_eng_run(engine, run_id);

    run->loading = true;
    run->edges[edge] = holds ? EDGE_HOLDS : EDGE_CANNOT;
}

void
fleet_engine_carry(FleetEngine *engine, uint32_t run_id, uint32_t task)
{
    Run *run = fleet_eng_run(engine, run_id);
    Unit *unit = &run->tasks[task].unit;

    run->loading = true;
    fleet_eng_event(run, unit, FLEET_EVENT_CARRY);
    unit->flags |= UNIT_PASSED;
    run->open[fleet_eng_part(run, task)]--;
}

/* ---- conclusions ---- */

static bool
has_begun(const Run *run)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        const Unit *unit = &run->tasks[t].unit;
        const Each *each = fleet_eng_each(run, t);

        if (unit->flags & UNIT_PASSED)
            continue; /* carried over: it was so before */
        if (unit->state == FLEET_CANCELED && unit->attempt == 0 && (each == NULL || !each->known))
            continue; /* with the whole run, while it was queued, perhaps */
        if (unit->state != FLEET_QUEUED || unit->attempt > 0 || (each != NULL && each->known))
            return true;
    }
    return run->load_running;
}

/* Skipped ones that are left out: in their turn, or because their constraints cannot hold?  Those
 * before them are known: sources come first. */
static void
find_passed(Run *run)
{
    const uint32_t *order = fleet_graph_order(run->graph);

    for (uint32_t i = 0; i < run->ntasks; i++)
    {
        uint32_t n, hold = 0;
        const uint32_t *in = fleet_graph_in(run->graph, order[i], &n);
        const FleetTaskSpec *spec = fleet_graph_task(run->graph, order[i]);
        Unit *unit = &run->tasks[order[i]].unit;

        if (!(spec->left_out || (unit->flags & UNIT_LEFT_OUT)) || unit->state != FLEET_SKIPPED)
            continue;
        for (uint32_t k = 0; k < n; k++)
        {
            const FleetEdgeSpec *edge = fleet_graph_edge(run->graph, in[k]);

            hold += FLEET_STATE_IS_FINAL(run->tasks[edge->from].unit.state) &&
                    fleet_eng_edge_matches(run, in[k]) &&
                    (!edge->conditional || run->edges[in[k]] == EDGE_HOLDS);
        }
        if (n == 0 || unit->attempt > 0 || (spec->join == FLEET_JOIN_ALL ? hold == n : hold > 0))
            unit->flags |= UNIT_PASSED;
    }
}

/* What was started takes its slot again and is on its server; its timer goes on. */
static void
attach(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit)
{
    const FleetTaskSpec *spec = fleet_graph_task(run->graph, ref.task);
    uint32_t live = unit->ref;
    FleetTime since = engine->lives[live].due;
    FleetTime due = FLEET_NEVER;
    FleetTicket ticket;

    engine->lives[live].due = FLEET_NEVER;
    if (unit->state == FLEET_RETRYING)
        due = since;
    else if (unit->state == FLEET_RUNNING && spec->timeout > 0 &&
             since <= FLEET_NEVER - spec->timeout)
        due = since + spec->timeout;
    fleet_eng_timer_set(engine, live, due);
    if (unit->state == FLEET_RETRYING)
        return;
    if (ref.item > 0)
        fleet_eng_each(run, ref.task)->admitted++;
    if (spec->kind == FLEET_TASK_PACKAGE || unit->server == FLEET_NO_SERVER)
        unit->server = FLEET_NO_SERVER;
    else
    {
        fleet_eng_ticket_spec(engine, run, ref.task, unit, &ticket);
        engine->lives[live].ticket = fleet_eng_ticket_new(engine, ref);
        fleet_placer_occupy(engine->placer, engine->lives[live].ticket, &ticket, unit->server,
                            since);
        fleet_eng_join_server(engine, live, unit->server);
        if (spec->nlimits > 0 && !FLEET_BUG_LIMIT_FORGOTTEN_IN_RECOVERY)
            fleet_eng_named_hold(engine, spec, unit);
    }
    if (unit->state != FLEET_CANCELING)
        return;
    /* Nobody cancels the run, its for_each goes on: then it was its timeout. */
    if (!fleet_eng_canceled(run, ref.task) && !fleet_eng_stopping(run, ref))
        unit->flags |= UNIT_TIMED_OUT;
    fleet_eng_tell(engine, FLEET_DO_CANCEL, ref, unit);
}

/* The books of a for_each, and whether it was being stopped. */
static void
count_items(Run *run, Each *each)
{
    uint32_t bad = 0;

    each->open = 0;
    for (uint32_t i = 0; i < each->count; i++)
    {
        FleetState state = (FleetState) each->items[i].state;

        if (!FLEET_STATE_IS_FINAL(state))
            each->open++;
        else if (state == FLEET_SUCCEEDED || state == FLEET_SKIPPED)
            each->good++;
        else if (state == FLEET_CANCELED)
            each->canceled++;
        else
            bad++;
    }
    if (fleet_graph_task(run->graph, each->task)->completion == FLEET_FAIL_FAST)
        each->stopping = each->stopping || bad + each->canceled > 0;
}

/* A for_each as a whole: queued until its items are known, then running. */
static void
load_whole(FleetEngine *engine, Run *run, Each *each)
{
    Unit *whole = &run->tasks[each->task].unit;
    bool final = FLEET_STATE_IS_FINAL(whole->state);

    if (whole->ref != 0)
        fleet_eng_live_free(engine, whole->ref);
    whole->ref = 0;
    whole->attempt = 0;
    each->known = each->known || each->count > 0;
    fleet_eng_count(run, whole, -1);
    if (!final && !each->known)
        whole->state = FLEET_QUEUED;
    else if (whole->state == FLEET_QUEUED)
    {
        whole->state = FLEET_RUNNING;
        fleet_eng_tell(engine, FLEET_DO_STATE, (FleetTaskRef){run->id, each->task, 0}, whole);
    }
    fleet_eng_count(run, whole, 1);
    if (each->count > 0)
        fleet_eng_uncount(run, whole);
    if (whole->state == FLEET_CANCELING && !fleet_eng_canceled(run, each->task))
        each->failed = each->stopping = true;
    if (each->known)
        count_items(run, each);
}

static void
attach_all(FleetEngine *engine, Run *run)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        FleetTaskRef ref = {run->id, t, 0};
        Unit *unit = &run->tasks[t].unit;
        const Each *each = fleet_eng_each(run, t);

        if (FLEET_STATE_IS_FINAL(unit->state))
            fleet_eng_note_end(run, t);
        else if (unit->state != FLEET_QUEUED || unit->attempt > 0)
            unit->flags |= UNIT_READY;
        if (each == NULL && unit->ref != 0)
            attach(engine, run, ref, unit);
        for (ref.item = 1; each != NULL && ref.item <= each->count; ref.item++)
        {
            if (each->items[ref.item - 1].ref != 0)
                attach(engine, run, ref, &each->items[ref.item - 1]);
        }
    }
}

/* Those that were to be skipped before the restart, and were not yet; true: nothing is left to do. */
static bool
skip_loaded(FleetEngine *engine, Run *run, FleetTaskRef ref, FleetTime now)
{
    Each *each = fleet_eng_each(run, ref.task);
    Unit *whole = &run->tasks[ref.task].unit;

    if (each == NULL || !each->known)
        return fleet_eng_skip_waiting(engine, run, ref, whole, now);
    for (ref.item = 1; ref.item <= each->count && !each->stopping; ref.item++)
        (void) fleet_eng_skip_waiting(engine, run, ref, &each->items[ref.item - 1], now);
    return FLEET_STATE_IS_FINAL(whole->state);
}

/* Puts back to work what is ready, without any event of its own to come. */
static void
resume(FleetEngine *engine, Run *run, FleetTime now)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        Unit *unit = &run->tasks[t].unit;
        Each *each = fleet_eng_each(run, t);

        if (FLEET_STATE_IS_FINAL(unit->state) || fleet_eng_canceled(run, t) ||
            skip_loaded(engine, run, (FleetTaskRef){run->id, t, 0}, now))
            continue;
        if (each != NULL && each->known && each->stopping)
        {
            each->stopping = false; /* so that the stop is done again, for those it missed */
            fleet_eng_items_stop(engine, run, each, now);
        }
        else if (each != NULL && each->known)
            fleet_eng_items_begin(engine, run, each, now);
        else if ((unit->flags & UNIT_READY) && unit->state == FLEET_QUEUED)
            fleet_eng_admit(engine, run, (FleetTaskRef){run->id, t, 0}, unit, now);
    }
    engine->nsettled = 0; /* the motion looks at every final task */
    fleet_eng_motion(engine, run, now);
}

void
fleet_engine_run_loaded(FleetEngine *engine, uint32_t run_id, bool canceling, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);
    bool begun = has_begun(run);

    run->loading = false;
    run->loaded = true;
    if (!begun)
    {
        if (canceling)
            fleet_eng_cancel_queued(engine, run);
        else
            fleet_eng_wait(engine, run);
        return;
    }
    fleet_eng_begin(engine, run, now);
    find_passed(run);
    if (canceling)
    {
        fleet_eng_run_event(run, FLEET_EVENT_CANCEL);
        run->cancel = true;
        fleet_eng_tell_run(engine, run); /* the cancel may be younger than the run's state */
    }
    for (uint32_t i = 0; i < run->neaches; i++)
        load_whole(engine, run, &run->eaches[i]);
    attach_all(engine, run);
    for (uint32_t i = 0; canceling && i < run->neaches; i++)
    {
        if (fleet_eng_canceled(run, run->eaches[i].task))
            run->eaches[i].stopping = false; /* the cancel stops it again, for what was missed */
    }
    if (canceling)
        fleet_eng_cancel_tasks(engine, run, now);
    resume(engine, run, now);
}
