/*
 * sim_outcome.c
 *     How a run must end, evaluated over the whole graph from the final
 *     states of its tasks: no counters, no order, no state of its own.
 */
#include "sim.h"

/* 1 holds, 0 never will, -1 not known yet */
static int
edge_holds(const Sim *s, const SimRun *run, const FleetEdgeSpec *edge, uint32_t number)
{
    uint8_t from = run->rows[edge->from].state;
    bool matches = false, bad;

    if (!FLEET_STATE_IS_FINAL(from))
        return -1;
    /* what was left out in its turn counts as passed */
    if (from == FLEET_SKIPPED &&
        (s->c->packages[run->package].tasks[edge->from].spec.left_out ||
         run->rows[edge->from].skip) &&
        (run->rows[edge->from].attempt > 0 || outcome_ready(s, run, edge->from) == 1))
        from = FLEET_SUCCEEDED;
    bad = from == FLEET_FAILED || from == FLEET_LOST || from == FLEET_UNKNOWN;
    switch (edge->on)
    {
        case FLEET_ON_SUCCESS: matches = from == FLEET_SUCCEEDED; break;
        case FLEET_ON_FAILURE: matches = bad; break;
        case FLEET_ON_COMPLETION: matches = bad || from == FLEET_SUCCEEDED; break;
    }
    if (!matches)
        return 0;
    if (!edge->conditional)
        return 1;
    return run->condition[number] == 0 ? -1 : run->condition[number] == 2;
}

/* May this task start (1), never (0), or not yet (-1)? */
int
outcome_ready(const Sim *s, const SimRun *run, uint32_t task)
{
    const SimPackage *package = &s->c->packages[run->package];
    uint32_t edges = 0, yes = 0, no = 0;

    for (uint32_t i = 0; i < package->nedges; i++)
    {
        int holds;

        if (package->edges[i].to != task)
            continue;
        edges++;
        holds = edge_holds(s, run, &package->edges[i], i);
        yes += holds == 1;
        no += holds == 0;
    }
    if (edges == 0)
        return 1;
    if (package->tasks[task].spec.join == FLEET_JOIN_ALL)
        return yes == edges ? 1 : no > 0 ? 0 : -1;
    return yes > 0 ? 1 : no == edges ? 0 : -1;
}

static bool
is_bad(uint8_t state)
{
    return state == FLEET_FAILED || state == FLEET_LOST || state == FLEET_UNKNOWN;
}

static bool
condition_failed(const Sim *s, const SimRun *run, uint32_t task)
{
    const SimPackage *package = &s->c->packages[run->package];

    for (uint32_t i = 0; i < package->nedges; i++)
        if (package->edges[i].to == task && run->condition[i] == 3)
            return true;
    return false;
}

/* The whole of a for_each against its items. */
static void
check_items(Sim *s, const SimRun *run, uint32_t number)
{
    const SimTask *task = &s->c->packages[run->package].tasks[number];
    uint32_t n = run->count[number], good = 0, bad = 0, stopped = 0;
    uint8_t whole = run->rows[number].state;
    bool succeeds = false;

    if (run->items_failed[number] || condition_failed(s, run, number))
    {
        if (whole != FLEET_FAILED && whole != FLEET_CANCELED)
            sim_fail(s, "task %u has no items, yet it is %s", number,
                     fleet_state_name((FleetState) whole));
        return;
    }
    if (run->rows[number].carried)
        return; /* its items are in the run that it was carried from */
    if (n == SIM_NONE)
    {
        if (whole != FLEET_SKIPPED && whole != FLEET_CANCELED &&
            !(run->retried && whole == FLEET_FAILED))
            sim_fail(s, "task %u is %s, its items were never known", number,
                     fleet_state_name((FleetState) whole));
        return;
    }
    for (uint32_t i = 0; i < n; i++)
    {
        uint32_t row = catalog_row(run, number, i + 1);
        uint8_t state = run->rows[row].state;

        good += state == FLEET_SUCCEEDED || state == FLEET_SKIPPED;
        bad += is_bad(state);
        stopped += state == FLEET_CANCELED;
        if (!FLEET_STATE_IS_FINAL(state) || (state == FLEET_SKIPPED && !run->rows[row].skip))
            sim_fail(s, "the run has ended, item %u of task %u is %s", i + 1, number,
                     fleet_state_name((FleetState) state));
    }
    switch (task->spec.completion)
    {
        case FLEET_FAIL_FAST:
        case FLEET_CONTINUE: succeeds = good == n; break;
        case FLEET_MINIMUM_SHARE:
            succeeds = n == 0 || (double) good >= task->spec.min_share * (double) n;
            break;
    }
    if (whole == FLEET_CANCELED && stopped > 0)
        return;
    if (stopped > 0 && run->cancel && is_bad(whole))
        return;
    if (whole != (succeeds ? FLEET_SUCCEEDED : FLEET_FAILED) &&
        !(whole == FLEET_CANCELED && run->cancel))
        sim_fail(s, "task %u is %s with %u of %u items good and %u bad", number,
                 fleet_state_name((FleetState) whole), good, n, bad);
}

static void
check_task(Sim *s, const SimRun *run, uint32_t number)
{
    const SimRow *row = &run->rows[number];
    const SimTask *task = &s->c->packages[run->package].tasks[number];
    int ready = outcome_ready(s, run, number);
    bool begun = task->spec.for_each || task->spec.handler ? run->count[number] != SIM_NONE
                                                           : row->attempt > 0;

    if (!FLEET_STATE_IS_FINAL(row->state))
        sim_fail(s, "the run has ended, task %u is %s", number,
                 fleet_state_name((FleetState) row->state));
    else if (row->state == FLEET_SKIPPED && ready != 0 && !task->spec.left_out && !row->skip &&
             !(task->spec.handler && !begun))
        sim_fail(s, "task %u is skipped though its constraints could hold", number);
    else if (task->spec.left_out && (row->state == FLEET_SUCCEEDED || begun))
        sim_fail(s, "task %u is left out, yet it ran", number);
    else if (row->state == FLEET_SKIPPED && begun && !row->skip)
        sim_fail(s, "task %u is skipped though it had begun", number);
    else if (row->state == FLEET_CANCELED && !begun && run->began &&
             !parts_cancel_reaches(s, run, number))
        sim_fail(s, "task %u is canceled though nobody asked for it", number);
    else if (row->state != FLEET_SKIPPED && row->state != FLEET_CANCELED && ready != 1 &&
             !condition_failed(s, run, number) && !(row->carried && run->counted) &&
             !(run->retried && (begun || row->state == FLEET_FAILED)))
        sim_fail(s, "task %u is %s though its constraints do not hold", number,
                 fleet_state_name((FleetState) row->state));
    if (!s->failed && (task->spec.for_each || task->spec.handler))
        check_items(s, run, number);
}

bool
outcome_handled(const SimPackage *package, uint32_t task)
{
    for (uint32_t i = 0; i < package->nedges; i++)
        if (package->edges[i].from == task && package->edges[i].on != FLEET_ON_SUCCESS)
            return true;
    return false;
}

static void
check_end(Sim *s, const SimRun *run, FleetState to)
{
    const SimPackage *package = &s->c->packages[run->package];
    bool stopped = false, unhandled = false;
    /* of a run without tasks, its beginning */
    bool item_stopped = package->ntasks == 0 && run->state == FLEET_QUEUED;
    FleetState expected, stop = run->timed_out ? FLEET_FAILED : FLEET_CANCELED;

    for (uint32_t i = 0; i < run->nrows; i++)
    {
        stopped |= i < package->ntasks && run->rows[i].state == FLEET_CANCELED;
        item_stopped |= run->rows[i].state == FLEET_CANCELED;
    }
    for (uint32_t i = 0; i < package->ntasks; i++)
        unhandled |=
            (is_bad(run->rows[i].state) && (s->c->strict || !outcome_handled(package, i))) ||
            (run->rows[i].state == FLEET_CANCELED && !run->cancel);
    expected = unhandled ? FLEET_FAILED : FLEET_SUCCEEDED;
    if (run->cancel && item_stopped && to == stop)
        return;
    if (run->cancel && stopped && to != stop)
    {
        /* what a child's administrator stopped, or a lost parent, was not stopped by this cancel */
        for (uint32_t i = 0; i < run->nrows; i++)
            if (run->rows[i].state == FLEET_CANCELED && run->rows[i].aid != SIM_NONE &&
                (s->attempts[run->rows[i].aid].child_canceled || s->promoted))
                return;
        expected = stop;
    }
    if (to != expected)
        sim_fail(s, "the run ends %s, but its tasks allow only %s", fleet_state_name(to),
                 fleet_state_name(expected));
}

void
oracle_run_change(Sim *s, const SimRun *run, FleetState to)
{
    const SimPackage *package = &s->c->packages[run->package];

    if (FLEET_STATE_IS_FINAL(run->state))
    {
        sim_fail(s, "a run leaves its final state %s", fleet_state_name((FleetState) run->state));
        return;
    }
    if (run->state == FLEET_QUEUED && to == FLEET_RUNNING && run->pause_told)
        sim_fail(s, "a run begins though it is paused");
    if (!FLEET_STATE_IS_FINAL(to))
        return;
    for (uint32_t i = 0; i < package->ntasks && !s->failed; i++)
        check_task(s, run, i);
    if (!s->failed)
        parts_end(s, run);
    if (!s->failed)
        check_end(s, run, to);
}
