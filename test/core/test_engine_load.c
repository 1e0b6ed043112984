/*
 * test_engine_load.c
 *     Recovery: what a new engine makes of durable state; at the end thousands
 *     of random small runs with restarts between any two turns.
 */
#include "engine_harness.h"

#include <stdio.h>

static void
chain(Harness *h)
{
    harness_task(h, "a");
    harness_task(h, "b");
    harness_task(h, "c");
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_graph(h);
}

static uint32_t
busy(Harness *h)
{
    return fleet_placer_busy(fleet_engine_placer(h->engine), 0) +
           fleet_placer_busy(fleet_engine_placer(h->engine), 1);
}

static void
nothing_had_begun(void **state)
{
    (void) state;
    for (int canceling = 0; canceling < 2; canceling++)
    {
        Harness *h = harness_new();

        chain(h);
        harness_restart(h);
        load(h, 0, 0, FLEET_QUEUED, 0, FLEET_NO_SERVER);
        fleet_engine_turn(h->engine, h->now);
        assert_int_equal(run_state(h), FLEET_QUEUED); /* being loaded: nothing happens */
        assert_false(fleet_engine_cancel_run(h->engine, h->run, h->now));
        assert_false(accept(h, 0, 0));
        loaded(h, canceling);
        assert_int_equal(run_state(h), canceling ? FLEET_CANCELED : FLEET_QUEUED);
        harness_turn(h);
        assert_int_equal(run_state(h), canceling ? FLEET_CANCELED : FLEET_RUNNING);
        assert_int_equal(counted(h, FLEET_DO_RUN), canceling ? 0 : 1);
        assert_int_equal(counted(h, FLEET_DO_START), canceling ? 0 : 1);
        harness_free(h);
    }
}

static void
run_had_begun_but_no_task(void **state)
{
    Harness *h = harness_new();

    (void) state;
    chain(h);
    harness_restart(h);
    fleet_engine_load_running(h->engine, h->run);
    loaded(h, false);
    assert_int_equal(run_state(h), FLEET_RUNNING);
    assert_int_equal(counted(h, FLEET_DO_RUN), 0); /* it was told already */
    harness_turn(h);
    assert_non_null(found(h, FLEET_DO_START, 0, 0));
    harness_free(h);
}

/* Nothing is in it: it succeeds at once, also when an agent ended before that was stored. */
static void
run_without_tasks(void **state)
{
    (void) state;
    for (int begun = 0; begun < 4; begun++)
    {
        Harness *h = harness_new();

        harness_graph(h);
        if (begun == 0)
        {
            harness_run(h);
            assert_int_equal(h->nlog, 2);
            assert_int_equal(h->log[0].state, FLEET_RUNNING);
            assert_int_equal(h->log[1].state, FLEET_SUCCEEDED);
        }
        else
        {
            harness_restart(h);
            if (begun == 2)
                fleet_engine_load_running(h->engine, h->run);
            loaded(h, begun == 3);
            harness_turn(h);
        }
        assert_int_equal(run_state(h), begun == 3 ? FLEET_CANCELED : FLEET_SUCCEEDED);
        assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
        fleet_engine_run_forget(h->engine, h->run);
        harness_free(h);
    }
}

static void
started_work_is_attached(void **state)
{
    Harness *h = harness_new();

    (void) state;
    chain(h);
    h->graph = (fleet_graph_free(h->graph), NULL);
    h->tasks[1].timeout = FLEET_SECONDS(3);
    harness_graph(h);
    harness_restart(h);
    load(h, 1, 0, FLEET_RUNNING, 2, 1); /* in any order */
    load(h, 0, 0, FLEET_SUCCEEDED, 1, 0);
    loaded(h, false);
    harness_turn(h);
    assert_int_equal(h->nlog, 0);
    assert_int_equal(busy(h), 1);
    assert_int_equal(fleet_engine_task_server(h->engine, ref_of(h, 1, 0)), 1);
    assert_int_equal(fleet_engine_wakeup(h->engine), h->now + FLEET_SECONDS(3));
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_int_equal(busy(h), 1);
    assert_non_null(found(h, FLEET_DO_START, 2, 0));
    harness_free(h);
}

static void
started_work_on_a_suspect_server(void **state)
{
    Harness *h = harness_new();

    (void) state;
    chain(h);
    harness_restart(h);
    harness_server(h, 1, FLEET_SERVER_SUSPECT, 2);
    assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER); /* nothing there yet */
    load(h, 0, 0, FLEET_STARTING, 1, 1);
    loaded(h, false);
    h->now += FLEET_SECONDS(10);
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_LOST);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
waits_go_on(void **state)
{
    Harness *h = harness_new();
    FleetLoad what;

    (void) state;
    chain(h);
    h->graph = (fleet_graph_free(h->graph), NULL);
    h->tasks[0].retry = (FleetRetry){.retries = 2, .base = 1000};
    harness_graph(h);
    harness_restart(h);
    what = (FleetLoad){.ref = ref_of(h, 0, 0),
                       .state = FLEET_RETRYING,
                       .attempt = 4,
                       .failures = 2,
                       .server = 0,
                       .retry_at = h->now + 700};
    fleet_engine_load(h->engine, &what);
    loaded(h, false);
    harness_turn(h);
    assert_int_equal(h->nlog, 0);
    assert_int_equal(fleet_engine_wakeup(h->engine), h->now + 700);
    h->now += 700;
    harness_turn(h);
    assert_int_equal(found(h, FLEET_DO_START, 0, 0)->attempt, 5);
    finish(h, 0, 0, FLEET_FAILED); /* both retries were used up before the restart */
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    harness_free(h);
}

static void
queued_again_before_the_restart(void **state)
{
    Harness *h = harness_new();

    (void) state;
    chain(h);
    harness_restart(h);
    load(h, 0, 0, FLEET_QUEUED, 1, 0); /* it had not started on server 0 */
    loaded(h, false);
    harness_turn(h);
    assert_int_equal(found(h, FLEET_DO_START, 0, 0)->attempt, 2);
    assert_int_equal(found(h, FLEET_DO_START, 0, 0)->server, 1);
    harness_free(h);
}

static void
all_ended_but_the_run(void **state)
{
    Harness *h = harness_new();

    (void) state;
    chain(h);
    harness_restart(h);
    load(h, 0, 0, FLEET_FAILED, 1, 0); /* and the skips after it were not written */
    loaded(h, false);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    assert_int_equal(counted(h, FLEET_DO_STATE), 2);
    assert_int_equal(run_state(h), FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_RUN), 1);
    harness_free(h);
}

static void
conditions_are_remembered(void **state)
{
    (void) state;
    for (int known = 0; known < 3; known++) /* not evaluated, false, true */
    {
        Harness *h = harness_new();

        chain(h);
        h->graph = (fleet_graph_free(h->graph), NULL);
        h->edges[0].conditional = true;
        harness_graph(h);
        harness_restart(h);
        load(h, 0, 0, FLEET_SUCCEEDED, 1, 0);
        if (known > 0)
            fleet_engine_load_condition(h->engine, h->run, 0, known == 2);
        loaded(h, false);
        assert_int_equal(counted(h, FLEET_DO_CONDITION), known == 0 ? 1 : 0);
        harness_turn(h);
        assert_int_equal(state_of(h, 1, 0), known == 0   ? FLEET_QUEUED
                                            : known == 1 ? FLEET_SKIPPED
                                                         : FLEET_STARTING);
        harness_free(h);
    }
}

static void
cancel_goes_on(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for (int t = 0; t < 5; t++)
        harness_task(h, "t");
    harness_graph(h);
    harness_restart(h);
    load(h, 0, 0, FLEET_CANCELING, 1, 0);
    load(h, 1, 0, FLEET_RUNNING, 1, 1); /* the cancel of this one was not written */
    load(h, 2, 0, FLEET_RETRYING, 1, 1);
    load(h, 3, 0, FLEET_CANCELED, 0, FLEET_NO_SERVER);
    loaded(h, true);
    assert_int_equal(run_state(h), FLEET_CANCELING);
    assert_int_equal(counted(h, FLEET_DO_RUN), 1);    /* the cancel may be the younger one */
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 2); /* again, for all that still run */
    assert_int_equal(state_of(h, 2, 0), FLEET_CANCELED);
    assert_int_equal(state_of(h, 4, 0), FLEET_CANCELED);
    finish(h, 0, 0, FLEET_CANCELED);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    harness_free(h);
}

/* Being stopped, though nobody cancels the run: its timeout. */
static void
timeout_goes_on(void **state)
{
    Harness *h = harness_new();

    (void) state;
    chain(h);
    harness_restart(h);
    load(h, 0, 0, FLEET_CANCELING, 1, 0);
    loaded(h, false);
    assert_non_null(found(h, FLEET_DO_CANCEL, 0, 0));
    finish(h, 0, 0, FLEET_CANCELED);
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    harness_free(h);
}

/* ---- for_each ---- */

static Harness *
each(FleetCompletion completion)
{
    Harness *h = harness_new();
    FleetTaskSpec *task = harness_task(h, "each");

    task->for_each = true;
    task->throttle = 2;
    task->completion = completion;
    harness_task(h, "after");
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_graph(h);
    harness_restart(h);
    return h;
}

static void
items_go_on(void **state)
{
    Harness *h = each(FLEET_CONTINUE);
    FleetRunCounts counts;

    (void) state;
    load(h, 0, 4, FLEET_SUCCEEDED, 1, 0); /* before the whole and the count */
    load(h, 0, 1, FLEET_SUCCEEDED, 1, 0);
    load(h, 0, 2, FLEET_STARTING, 1, 1);
    fleet_engine_load_items(h->engine, h->run, 0, 5);
    load(h, 0, 0, FLEET_RUNNING, 0, FLEET_NO_SERVER);
    loaded(h, false);
    assert_int_equal(h->nlog, 0);
    harness_turn(h);
    fleet_engine_run_counts(h->engine, h->run, &counts);
    assert_int_equal(counts.total, 6); /* five items and "after" */
    assert_int_equal(counts.done, 2);
    assert_int_equal(counted(h, FLEET_DO_START), 1); /* the throttle counts the attached one */
    assert_non_null(found(h, FLEET_DO_START, 0, 3));
    finish(h, 0, 2, FLEET_SUCCEEDED);
    finish(h, 0, 3, FLEET_SUCCEEDED);
    finish(h, 0, 5, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 1, 0), FLEET_STARTING);
    harness_free(h);
}

static void
whole_is_derived(void **state)
{
    (void) state;
    for (int how = 0; how < 3; how++)
    {
        Harness *h = each(FLEET_CONTINUE);

        if (how == 0) /* the items were written, the whole not */
            fleet_engine_load_items(h->engine, h->run, 0, 1);
        else if (how == 1) /* "running", but no items: the query runs again */
            load(h, 0, 0, FLEET_RUNNING, 0, FLEET_NO_SERVER);
        else
        {
            fleet_engine_load_items(h->engine, h->run, 0, 1);
            load(h, 0, 0, FLEET_RUNNING, 0, FLEET_NO_SERVER);
            load(h, 0, 1, FLEET_SUCCEEDED, 1, 0); /* the last one ended, the whole not */
        }
        loaded(h, false);
        assert_int_equal(counted(h, FLEET_DO_EXPAND), how == 1 ? 1 : 0);
        if (how == 0)
            assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_RUNNING);
        if (how == 2)
            assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
        harness_turn(h);
        assert_int_equal(counted(h, FLEET_DO_START), how == 1 ? 0 : 1);
        harness_free(h);
    }
}

static void
fail_fast_goes_on(void **state)
{
    Harness *h = each(FLEET_FAIL_FAST);

    (void) state;
    fleet_engine_load_items(h->engine, h->run, 0, 4);
    load(h, 0, 0, FLEET_RUNNING, 0, FLEET_NO_SERVER);
    load(h, 0, 1, FLEET_FAILED, 1, 0);
    load(h, 0, 2, FLEET_CANCELING, 1, 0);
    load(h, 0, 3, FLEET_RUNNING, 1, 0);
    loaded(h, false);
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 2);
    assert_int_equal(state_of(h, 0, 4), FLEET_CANCELED);
    finish(h, 0, 2, FLEET_CANCELED);
    assert_int_equal(state_of(h, 0, 2), FLEET_CANCELED);
    finish(h, 0, 3, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

/* A whole that is 'canceling' without a cancel of the run was failed by the driver. */
static void
failed_whole_goes_on(void **state)
{
    Harness *h = each(FLEET_CONTINUE);

    (void) state;
    fleet_engine_load_items(h->engine, h->run, 0, 2);
    load(h, 0, 0, FLEET_CANCELING, 0, FLEET_NO_SERVER);
    load(h, 0, 1, FLEET_CANCELING, 1, 0);
    loaded(h, false);
    finish(h, 0, 1, FLEET_CANCELED);
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    harness_free(h);
}

static void
cancel_with_items_goes_on(void **state)
{
    (void) state;
    for (int told = 0; told < 2; told++)
    {
        Harness *h = each(FLEET_FAIL_FAST);

        fleet_engine_load_items(h->engine, h->run, 0, 3);
        load(h, 0, 0, told ? FLEET_CANCELING : FLEET_RUNNING, 0, FLEET_NO_SERVER);
        load(h, 0, 1, FLEET_CANCELING, 1, 0);
        load(h, 0, 2, told ? FLEET_CANCELED : FLEET_QUEUED, 0, FLEET_NO_SERVER);
        loaded(h, true);
        assert_int_equal(counted(h, FLEET_DO_CANCEL), 1);
        assert_int_equal(state_of(h, 0, 2), FLEET_CANCELED);
        assert_int_equal(state_of(h, 0, 3), FLEET_CANCELED);
        assert_int_equal(state_of(h, 1, 0), FLEET_CANCELED);
        finish(h, 0, 1, FLEET_CANCELED);
        assert_int_equal(state_of(h, 0, 0), FLEET_CANCELED);
        assert_int_equal(run_state(h), FLEET_CANCELED);
        harness_free(h);
    }
}

static void
package_tasks_are_attached_without_slot(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "p")->kind = FLEET_TASK_PACKAGE;
    harness_graph(h);
    harness_restart(h);
    load(h, 0, 0, FLEET_RUNNING, 1, FLEET_NO_SERVER);
    loaded(h, false);
    assert_int_equal(busy(h), 0);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

/* ---- random runs ---- */

#define MAX_ITEMS 6

typedef struct Row
{
    FleetState state;
    uint16_t attempt, failures;
    uint32_t server;
    FleetTime since, retry_at;
} Row;

typedef struct Random
{
    Harness *h;
    FleetRandom r;
    Row rows[HARNESS_TASKS][MAX_ITEMS + 1];
    uint32_t items[HARNESS_TASKS]; /* count + 1; 0: not known */
    int conditions[64];            /* -1: not evaluated */
    FleetState run;
    bool canceled;
    uint64_t seed;
} Random;

static bool
chance(Random *x, uint32_t percent)
{
    return fleet_random_below(&x->r, 100) < percent;
}

static void
random_definition(Random *x)
{
    Harness *h = x->h;
    uint32_t n = 1 + fleet_random_below(&x->r, 8);

    for (uint32_t t = 0; t < n; t++)
    {
        FleetTaskSpec *task = harness_task(h, "t");

        task->kind = (FleetTaskKind) fleet_random_below(&x->r, 3);
        task->join = chance(x, 30) ? FLEET_JOIN_ANY : FLEET_JOIN_ALL;
        task->for_each = chance(x, 30);
        task->throttle = fleet_random_below(&x->r, 4);
        task->completion = (FleetCompletion) fleet_random_below(&x->r, 3);
        task->min_share = 0.5;
        task->on_lost = chance(x, 50) ? FLEET_LOST_RETRY : FLEET_LOST_FAIL;
        task->started_is_done = chance(x, 10);
        task->target = fleet_random_below(&x->r, 2);
        task->retry.retries = (uint16_t) fleet_random_below(&x->r, 3);
        task->retry.base = FLEET_MS(500);
        task->timeout = chance(x, 20) ? FLEET_SECONDS(3) : 0;
        for (uint32_t from = 0; from < t; from++)
        {
            if (chance(x, 30))
                h->edges[harness_edge(h, from, t, (FleetOutcome) fleet_random_below(&x->r, 3))]
                    .conditional = chance(x, 25);
        }
    }
    harness_graph(h);
}

static void
write_start(Random *x, const FleetDecision *d)
{
    Row *row = &x->rows[d->ref.task][d->ref.item];

    assert_int_equal(row->state, FLEET_QUEUED);
    assert_int_equal(d->attempt, row->attempt + 1); /* never the same attempt twice */
    assert_false(x->canceled);
    assert_in_range(d->failures, 0, x->h->tasks[d->ref.task].retry.retries);
}

static void
write_row(Random *x, const FleetDecision *d)
{
    Row *row = &x->rows[d->ref.task][d->ref.item];

    if (d->kind == FLEET_DO_START)
        write_start(x, d);
    assert_false(FLEET_STATE_IS_FINAL(row->state));
    row->state = d->state;
    row->attempt = d->attempt;
    row->failures = d->failures;
    row->server = d->server;
    row->since = x->h->now;
    row->retry_at = d->at;
}

static void
write_all(Random *x)
{
    Harness *h = x->h;

    for (uint32_t i = 0; i < h->nlog; i++)
    {
        const FleetDecision *d = &h->log[i];

        switch (d->kind)
        {
            case FLEET_DO_START:
            case FLEET_DO_CANCEL:
            case FLEET_DO_STATE: write_row(x, d); break;
            case FLEET_DO_REPLACE:
            case FLEET_DO_RUN:
                assert_false(FLEET_STATE_IS_FINAL(x->run));
                x->run = d->state;
                break;
            case FLEET_DO_EXPAND: assert_int_equal(x->items[d->ref.task], 0); break;
            case FLEET_DO_CATCH: fail(); /* there is no handler */
            case FLEET_DO_CONDITION: assert_int_equal(x->conditions[d->edge], -1); break;
        }
    }
}

static void
check(Random *x)
{
    FleetPlacer *placer = fleet_engine_placer(x->h->engine);
    uint32_t on[2] = {0, 0};

    for (uint32_t t = 0; t < x->h->ntasks; t++)
    {
        uint32_t started = 0;

        for (uint32_t i = 0; i <= MAX_ITEMS; i++)
        {
            const Row *row = &x->rows[t][i];
            bool is_started = row->state == FLEET_STARTING || row->state == FLEET_RUNNING ||
                              row->state == FLEET_CANCELING;

            if (x->h->tasks[t].for_each && i == 0)
                continue;
            started += is_started ? 1 : 0;
            if (is_started && x->h->tasks[t].kind != FLEET_TASK_PACKAGE)
                on[row->server]++;
        }
        if (x->h->tasks[t].throttle > 0 && x->h->tasks[t].for_each)
            assert_in_range(started, 0, x->h->tasks[t].throttle);
    }
    for (uint32_t s = 0; s < 2; s++)
    {
        assert_int_equal(fleet_placer_busy(placer, s), on[s]);
        assert_in_range(on[s], 0, 2);
    }
}

static void
turn_and_write(Random *x)
{
    x->h->nlog = 0;
    fleet_engine_turn(x->h->engine, x->h->now);
    harness_drain(x->h);
    write_all(x);
    check(x);
}

static void
restart(Random *x)
{
    Harness *h = x->h;

    harness_restart(h);
    if (x->run != FLEET_QUEUED)
        fleet_engine_load_running(h->engine, h->run);
    for (uint32_t t = 0; t < h->ntasks; t++)
    {
        if (x->items[t] > 0)
            fleet_engine_load_items(h->engine, h->run, t, x->items[t] - 1);
        for (uint32_t i = 0; i < (x->items[t] > 0 ? x->items[t] : 1); i++)
        {
            const Row *row = &x->rows[t][i];
            FleetLoad what = {.ref = ref_of(h, t, i),
                              .state = row->state,
                              .attempt = row->attempt,
                              .failures = row->failures,
                              .server = row->server,
                              .since = row->since,
                              .retry_at = row->retry_at};

            fleet_engine_load(h->engine, &what);
        }
    }
    for (uint32_t e = 0; e < h->nedges; e++)
    {
        if (x->conditions[e] >= 0)
            fleet_engine_load_condition(h->engine, h->run, e, x->conditions[e] == 1);
    }
    fleet_engine_run_loaded(h->engine, h->run, x->canceled, h->now);
    turn_and_write(x);
}

static void
answer_expand(Random *x, uint32_t t)
{
    uint32_t count = fleet_random_below(&x->r, MAX_ITEMS + 1);
    Harness *h = x->h;

    if (chance(x, 10))
        fleet_engine_items_failed(h->engine, h->run, t, h->now);
    else if (fleet_engine_items(h->engine, h->run, t, count, NULL, h->now))
    {
        x->items[t] = count + 1;
        for (uint32_t i = 1; i <= count; i++)
            x->rows[t][i] = (Row){.state = FLEET_QUEUED, .server = FLEET_NO_SERVER};
    }
}

static void
answer_row(Random *x, uint32_t t, uint32_t i)
{
    static const FleetState outcomes[] = {FLEET_SUCCEEDED, FLEET_SUCCEEDED, FLEET_SUCCEEDED,
                                          FLEET_FAILED,    FLEET_UNKNOWN,   FLEET_LOST};
    Row *row = &x->rows[t][i];
    Harness *h = x->h;
    FleetTaskRef ref = ref_of(h, t, i);
    FleetState outcome = outcomes[fleet_random_below(&x->r, 6)];

    if (chance(x, 50))
        return;
    if (chance(x, 10) && row->attempt > 1) /* an old answer */
    {
        assert_false(
            fleet_engine_finished(h->engine, ref, row->attempt - 1, outcome, NULL, h->now));
        return;
    }
    if (row->state == FLEET_STARTING && chance(x, 60))
    {
        if (chance(x, 20))
            assert_true(fleet_engine_not_started(h->engine, ref, row->attempt, h->now));
        else
            assert_true(fleet_engine_accepted(h->engine, ref, row->attempt, h->now));
    }
    else if (row->state == FLEET_STARTING || row->state == FLEET_RUNNING ||
             row->state == FLEET_CANCELING)
        assert_true(fleet_engine_finished(
            h->engine, ref, row->attempt,
            row->state == FLEET_CANCELING && chance(x, 60) ? FLEET_CANCELED : outcome,
            chance(x, 20) ? "42601" : NULL, h->now));
    else if (chance(x, 2) && !FLEET_STATE_IS_FINAL(row->state))
        fleet_engine_fail(h->engine, ref, "42704", h->now);
}

/* One random event, then a turn; what it led to is written before the next. */
static void
random_event(Random *x)
{
    Harness *h = x->h;
    uint32_t t = fleet_random_below(&x->r, h->ntasks);
    uint32_t i = h->tasks[t].for_each && x->items[t] > 1
                     ? 1 + fleet_random_below(&x->r, x->items[t] - 1)
                     : 0;

    if (h->nedges > 0 && chance(x, 30))
    {
        uint32_t e = fleet_random_below(&x->r, h->nedges);
        bool holds = chance(x, 70);

        if (fleet_engine_condition(h->engine, h->run, e, holds, h->now))
            x->conditions[e] = holds;
    }
    else if (chance(x, 3) && fleet_engine_cancel_run(h->engine, h->run, h->now))
        x->canceled = true;
    else if (h->tasks[t].for_each && x->items[t] == 0)
        answer_expand(x, t);
    else if (!h->tasks[t].for_each || i > 0)
        answer_row(x, t, i);
}

static void
random_case(uint64_t seed, int restarts)
{
    Random x = {.h = harness_new(), .seed = seed, .run = FLEET_QUEUED};
    int events = 0;

    fleet_random_seed(&x.r, seed);
    for (uint32_t t = 0; t < HARNESS_TASKS; t++)
        x.rows[t][0] = (Row){.state = FLEET_QUEUED, .server = FLEET_NO_SERVER};
    memset(x.conditions, 0xff, sizeof(x.conditions));
    random_definition(&x);
    x.h->run = fleet_engine_run_add(x.h->engine, x.h->graph, 0, 0, x.h->now);
    turn_and_write(&x);
    for (; !FLEET_STATE_IS_FINAL(x.run) && events < 20000; events++)
    {
        if (chance(&x, 10) && restarts)
        {
            restart(&x);
            continue;
        }
        if (chance(&x, 20))
            x.h->now += fleet_random_below(&x.r, FLEET_SECONDS(1));
        if (chance(&x, 3))
            harness_server(x.h, 1, chance(&x, 50) ? FLEET_SERVER_SUSPECT : FLEET_SERVER_ONLINE, 2);
        else if (chance(&x, 5))
            harness_server(x.h, 1, FLEET_SERVER_ONLINE, 2);
        random_event(&x);
        turn_and_write(&x);
    }
    if (!FLEET_STATE_IS_FINAL(x.run))
        fail_msg("seed %llu: the run does not end", (unsigned long long) seed);
    for (uint32_t t = 0; t < x.h->ntasks; t++)
        assert_true(FLEET_STATE_IS_FINAL(x.rows[t][0].state));
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(x.h->engine), 0), 0);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(x.h->engine), 1), 0);
    assert_true(x.run != FLEET_CANCELED || x.canceled);
    harness_free(x.h);
}

static void
random_runs_with_restarts(void **state)
{
    (void) state;
    for (uint64_t seed = 1; seed <= 3000; seed++)
        random_case(seed, seed % 3 != 0);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_had_begun),
        cmocka_unit_test(run_had_begun_but_no_task),
        cmocka_unit_test(run_without_tasks),
        cmocka_unit_test(started_work_is_attached),
        cmocka_unit_test(started_work_on_a_suspect_server),
        cmocka_unit_test(waits_go_on),
        cmocka_unit_test(queued_again_before_the_restart),
        cmocka_unit_test(all_ended_but_the_run),
        cmocka_unit_test(conditions_are_remembered),
        cmocka_unit_test(cancel_goes_on),
        cmocka_unit_test(timeout_goes_on),
        cmocka_unit_test(items_go_on),
        cmocka_unit_test(whole_is_derived),
        cmocka_unit_test(fail_fast_goes_on),
        cmocka_unit_test(failed_whole_goes_on),
        cmocka_unit_test(cancel_with_items_goes_on),
        cmocka_unit_test(package_tasks_are_attached_without_slot),
        cmocka_unit_test(random_runs_with_restarts),
    };

    if (argc > 1) /* replay of one seed */
    {
        uint64_t seed = strtoull(argv[1], NULL, 10);

        random_case(seed, seed % 3 != 0);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
