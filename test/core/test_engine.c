/*
 * test_engine.c
 *     Runs, edges, ends, cancel, fairness between runs.  Items, retries and
 *     lost servers: test_engine_items.c; recovery: test_engine_load.c.
 */
#include "engine_harness.h"

#define NONE FLEET_NO_SERVER

static void
chain_runs_in_order(void **state)
{
    Harness *h = harness_new();
    const FleetDecision *d;

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b")->kind = FLEET_TASK_SQL;
    harness_task(h, "c")->kind = FLEET_TASK_PACKAGE;
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_COMPLETION);
    harness_run(h);
    assert_int_equal(h->nlog, 2);
    assert_int_equal(h->log[0].kind, FLEET_DO_RUN);
    assert_int_equal(h->log[0].state, FLEET_RUNNING);
    d = found(h, FLEET_DO_START, 0, 0);
    assert_non_null(d);
    assert_int_equal(d->attempt, 1);
    assert_int_equal(d->state, FLEET_STARTING);
    assert_int_equal(fleet_engine_run_tag(h->engine, h->run), 77);
    assert_ptr_equal(fleet_engine_run_graph(h->engine, h->run), h->graph);

    assert_true(accept(h, 0, 0));
    assert_false(accept(h, 0, 0)); /* twice: refused */
    harness_turn(h);
    assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_RUNNING);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_false(finish_with(h, 0, 0, FLEET_FAILED, NULL)); /* final states are never left */
    d = found(h, FLEET_DO_START, 1, 0);
    assert_int_equal(d->server, 0); /* the local server */
    assert_int_equal(fleet_engine_task_server(h->engine, ref_of(h, 1, 0)), 0);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0), 1);
    finish(h, 1, 0, FLEET_FAILED);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0), 0);
    d = found(h, FLEET_DO_START, 2, 0);
    assert_int_equal(d->server, NONE);
    finish(h, 2, 0, FLEET_SUCCEEDED);
    assert_int_equal(h->log[h->nlog - 1].kind, FLEET_DO_RUN);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED); /* the failure had a completion edge */
    assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
    fleet_engine_run_forget(h->engine, h->run);
    fleet_engine_run_forget(h->engine, h->run); /* a handle that is gone: nothing */
    harness_free(h);
}

static void
events_of_strangers_are_refused(void **state)
{
    Harness *h = harness_new();
    FleetTaskRef good, ref;

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b")->for_each = true;
    harness_run(h);
    good = ref_of(h, 0, 0);
    ref = good;
    ref.run = 99;
    assert_false(fleet_engine_accepted(h->engine, ref, 1, h->now));
    assert_false(fleet_engine_fail(h->engine, ref, NULL, h->now));
    ref = good;
    ref.task = 99;
    assert_false(fleet_engine_accepted(h->engine, ref, 1, h->now));
    ref = good;
    ref.item = 1; /* no for_each */
    assert_false(fleet_engine_accepted(h->engine, ref, 1, h->now));
    ref = ref_of(h, 1, 0); /* the whole of a for_each */
    assert_false(fleet_engine_accepted(h->engine, ref, 0, h->now));
    assert_false(fleet_engine_accepted(h->engine, good, 2, h->now)); /* another attempt */
    assert_false(fleet_engine_finished(h->engine, good, 1, FLEET_SKIPPED, NULL, h->now));
    assert_false(fleet_engine_finished(h->engine, good, 1, FLEET_RUNNING, NULL, h->now));
    assert_false(fleet_engine_items(h->engine, 99, 0, 1, NULL, h->now));
    assert_false(fleet_engine_items(h->engine, h->run, 99, 1, NULL, h->now));
    assert_false(fleet_engine_items(h->engine, h->run, 0, 1, NULL, h->now));
    assert_false(fleet_engine_condition(h->engine, 99, 0, true, h->now));
    assert_false(fleet_engine_condition(h->engine, h->run, 0, true, h->now));
    assert_false(fleet_engine_cancel_run(h->engine, 99, h->now));
    harness_turn(h);
    assert_int_equal(h->nlog, 0);
    harness_free(h);
}

/* One server of one slot: the next task starts when the first one has only its COMMIT left. */
static void
leaving_frees_the_slot(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_server(h, 0, FLEET_SERVER_OFFLINE, 0);
    harness_server(h, 1, FLEET_SERVER_ONLINE, 1);
    harness_task(h, "a")->target = 1;
    harness_task(h, "b")->target = 1;
    harness_run(h);
    assert_int_equal(fleet_engine_task_state(h->engine, ref_of(h, 0, 0)), FLEET_STARTING);
    assert_int_equal(fleet_engine_task_state(h->engine, ref_of(h, 1, 0)), FLEET_QUEUED);
    assert_false(fleet_engine_leaving(h->engine, ref_of(h, 1, 0), 0)); /* not started */
    assert_false(fleet_engine_leaving(h->engine, ref_of(h, 0, 0), 2)); /* another attempt */
    assert_true(fleet_engine_accepted(h->engine, ref_of(h, 0, 0), 1, h->now));
    assert_true(fleet_engine_leaving(h->engine, ref_of(h, 0, 0), 1));
    assert_false(fleet_engine_leaving(h->engine, ref_of(h, 0, 0), 1)); /* only once */
    harness_turn(h);
    assert_int_equal(fleet_engine_task_state(h->engine, ref_of(h, 1, 0)), FLEET_STARTING);
    assert_true(
        fleet_engine_finished(h->engine, ref_of(h, 0, 0), 1, FLEET_SUCCEEDED, NULL, h->now));
    harness_turn(h);
    assert_true(
        fleet_engine_finished(h->engine, ref_of(h, 1, 0), 1, FLEET_SUCCEEDED, NULL, h->now));
    harness_turn(h);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 1), 0);
    assert_int_equal(fleet_engine_run_state(h->engine, h->run), FLEET_SUCCEEDED);
    harness_free(h);
}

/* outcome of the source → which of its three followers runs */
static void
edges_follow_outcomes(void **state)
{
    static const struct
    {
        FleetState outcome;
        bool success, failure, completion;
        FleetState run;
    } rows[] = {
        {FLEET_SUCCEEDED, true, false, true, FLEET_SUCCEEDED},
        {FLEET_FAILED, false, true, true, FLEET_SUCCEEDED},
        {FLEET_LOST, false, true, true, FLEET_SUCCEEDED},
        {FLEET_UNKNOWN, false, true, true, FLEET_SUCCEEDED},
        {FLEET_CANCELED, false, false, false, FLEET_FAILED},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    {
        Harness *h = harness_new();
        bool runs[4] = {false, rows[i].success, rows[i].failure, rows[i].completion};

        harness_task(h, "a");
        harness_task(h, "s");
        harness_task(h, "f");
        harness_task(h, "c");
        harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
        harness_edge(h, 0, 2, FLEET_ON_FAILURE);
        harness_edge(h, 0, 3, FLEET_ON_COMPLETION);
        harness_run(h);
        finish(h, 0, 0, rows[i].outcome);
        for (uint32_t t = 1; t < 4; t++)
        {
            assert_int_equal(state_of(h, t, 0), runs[t] ? FLEET_STARTING : FLEET_SKIPPED);
            if (runs[t])
                finish(h, t, 0, FLEET_SUCCEEDED);
        }
        assert_int_equal(run_state(h), rows[i].run);
        harness_free(h);
    }
}

static void
unhandled_failure_fails_the_run(void **state)
{
    Harness *h = harness_new();
    FleetRunCounts counts;

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b");
    harness_task(h, "c");
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_run(h);
    fleet_engine_run_counts(h->engine, h->run, &counts);
    assert_int_equal(counts.total, 3);
    assert_int_equal(counts.waiting, 2);
    assert_int_equal(counts.running, 1);
    finish(h, 0, 0, FLEET_FAILED);
    assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED); /* transitively, at once */
    assert_int_equal(run_state(h), FLEET_FAILED);
    fleet_engine_run_counts(h->engine, h->run, &counts);
    assert_int_equal(counts.total, 3);
    assert_int_equal(counts.bad, 1);
    assert_int_equal(counts.done, 2);
    harness_free(h);
}

static void
joins(void **state)
{
    (void) state;
    /* bit 0, 1: do a and b succeed? */
    for (int outcome = 0; outcome < 4; outcome++)
    {
        for (int any = 0; any < 2; any++)
        {
            Harness *h = harness_new();
            bool first = outcome & 1, second = outcome & 2;

            harness_task(h, "a");
            harness_task(h, "b");
            harness_task(h, "c")->join = any ? FLEET_JOIN_ANY : FLEET_JOIN_ALL;
            harness_edge(h, 0, 2, FLEET_ON_SUCCESS);
            harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
            harness_run(h);
            finish(h, 0, 0, first ? FLEET_SUCCEEDED : FLEET_FAILED);
            if (any)
                assert_int_equal(state_of(h, 2, 0), first ? FLEET_STARTING : FLEET_QUEUED);
            else
                assert_int_equal(state_of(h, 2, 0), first ? FLEET_QUEUED : FLEET_SKIPPED);
            finish(h, 1, 0, second ? FLEET_SUCCEEDED : FLEET_FAILED);
            if (any ? first || second : first && second)
            {
                assert_int_equal(state_of(h, 2, 0), FLEET_STARTING);
                assert_int_equal(fleet_engine_task_attempt(h->engine, ref_of(h, 2, 0)), 1);
                finish(h, 2, 0, FLEET_SUCCEEDED);
            }
            else
                assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
            assert_int_equal(run_state(h), first && second ? FLEET_SUCCEEDED : FLEET_FAILED);
            harness_free(h);
        }
    }
}

/* A join "any" that has run does not run again for its other edge. */
static void
join_any_fires_once(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b");
    harness_task(h, "c")->join = FLEET_JOIN_ANY;
    harness_edge(h, 0, 2, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_run(h);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    finish(h, 2, 0, FLEET_SUCCEEDED);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_null(found(h, FLEET_DO_START, 2, 0));
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
conditions_come_as_events(void **state)
{
    (void) state;
    for (int holds = 0; holds < 2; holds++)
    {
        Harness *h = harness_new();
        const FleetDecision *d;

        harness_task(h, "a");
        harness_task(h, "b");
        h->edges[harness_edge(h, 0, 1, FLEET_ON_SUCCESS)].conditional = true;
        harness_run(h);
        assert_false(fleet_engine_condition(h->engine, h->run, 0, true, h->now)); /* not asked */
        finish(h, 0, 0, FLEET_SUCCEEDED);
        d = found(h, FLEET_DO_CONDITION, 1, 0);
        assert_non_null(d);
        assert_int_equal(d->edge, 0);
        assert_int_equal(run_state(h), FLEET_RUNNING);
        assert_true(fleet_engine_condition(h->engine, h->run, 0, holds, h->now));
        assert_false(fleet_engine_condition(h->engine, h->run, 0, holds, h->now));
        harness_turn(h);
        assert_int_equal(state_of(h, 1, 0), holds ? FLEET_STARTING : FLEET_SKIPPED);
        if (holds)
            finish(h, 1, 0, FLEET_SUCCEEDED);
        assert_int_equal(run_state(h), FLEET_SUCCEEDED);
        harness_free(h);
    }
}

static void
condition_is_not_asked_in_vain(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b");
    harness_task(h, "c");
    h->edges[harness_edge(h, 0, 2, FLEET_ON_FAILURE)].conditional = true;
    h->edges[harness_edge(h, 1, 2, FLEET_ON_SUCCESS)].conditional = true;
    harness_run(h);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_CONDITION, 2, 0));
    finish(h, 0, 0, FLEET_SUCCEEDED); /* not its outcome: c can never become ready */
    assert_null(found(h, FLEET_DO_CONDITION, 2, 0));
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    assert_false(fleet_engine_condition(h->engine, h->run, 1, true, h->now)); /* too late */
    harness_free(h);
}

/* A condition that cannot be evaluated fails the task that it leads to. */
static void
fail_before_ready(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b");
    harness_task(h, "c");
    h->edges[harness_edge(h, 0, 1, FLEET_ON_SUCCESS)].conditional = true;
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_run(h);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_true(fleet_engine_fail(h->engine, ref_of(h, 1, 0), "22012", h->now));
    assert_false(fleet_engine_fail(h->engine, ref_of(h, 1, 0), "22012", h->now));
    harness_turn(h);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

/* fail: in every state that is not final, without a retry, and the slot comes back */
static void
fail_in_any_state(void **state)
{
    (void) state;
    for (int where = 0; where < 6; where++)
    {
        Harness *h = harness_new();

        harness_task(h, "a")->retry = (FleetRetry){.retries = 3, .base = 1000};
        harness_graph(h);
        if (where == 0) /* nowhere to run: it stays queued */
        {
            harness_server(h, 0, FLEET_SERVER_DRAINING, 2);
            harness_server(h, 1, FLEET_SERVER_OFFLINE, 2);
        }
        h->run = fleet_engine_run_add(h->engine, h->graph, 0, 0, h->now);
        if (where < 5) /* 5: the run has not begun */
            harness_turn(h);
        if (where >= 2 && where < 5)
            accept(h, 0, 0);
        if (where == 3)
            finish(h, 0, 0, FLEET_FAILED);
        if (where == 4)
            fleet_engine_cancel_run(h->engine, h->run, h->now);
        assert_true(fleet_engine_fail(h->engine, ref_of(h, 0, 0), "42704", h->now));
        harness_turn(h);
        assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
        assert_int_equal(run_state(h), FLEET_FAILED);
        assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0), 0);
        assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
        harness_free(h);
    }
}

static void
started_is_done(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a")->started_is_done = true;
    harness_task(h, "b");
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_run(h);
    assert_true(accept(h, 0, 0));
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 1, 0), FLEET_STARTING);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0) +
                         fleet_placer_busy(fleet_engine_placer(h->engine), 1),
                     1);
    harness_free(h);
}

/* ---- cancel ---- */

static void
cancel_stops_everything(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for (int t = 0; t < 6; t++)
        harness_task(h, "t"); /* four slots: 0 … 3 start, 4 and 5 wait */
    h->tasks[0].retry = (FleetRetry){.retries = 1, .base = 1000};
    harness_task(h, "after"); /* 6 is not ready */
    harness_edge(h, 1, 6, FLEET_ON_COMPLETION);
    harness_run(h);
    assert_int_equal(counted(h, FLEET_DO_START), 4);
    for (uint32_t t = 0; t < 4; t++)
        accept(h, t, 0);
    finish(h, 0, 0, FLEET_FAILED); /* waits for its retry; 4 starts */
    assert_int_equal(state_of(h, 0, 0), FLEET_RETRYING);
    assert_int_equal(state_of(h, 4, 0), FLEET_STARTING);

    assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
    assert_false(fleet_engine_cancel_run(h->engine, h->run, h->now));
    harness_turn(h);
    assert_int_equal(run_state(h), FLEET_CANCELING);
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 4); /* 1 … 4 */
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_CANCELED);
    assert_int_equal(found(h, FLEET_DO_STATE, 5, 0)->state, FLEET_CANCELED);
    assert_int_equal(found(h, FLEET_DO_STATE, 6, 0)->state, FLEET_CANCELED);
    assert_int_equal(counted(h, FLEET_DO_STATE), 3);
    assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);

    assert_true(accept(h, 4, 0)); /* heard of late; the cancel stands */
    assert_int_equal(state_of(h, 4, 0), FLEET_CANCELING);
    finish(h, 1, 0, FLEET_SUCCEEDED); /* it was faster */
    assert_int_equal(state_of(h, 1, 0), FLEET_SUCCEEDED);
    finish(h, 2, 0, FLEET_FAILED); /* no retry while canceling */
    finish(h, 3, 0, FLEET_CANCELED);
    assert_int_equal(run_state(h), FLEET_CANCELING);
    assert_true(fleet_engine_not_started(h->engine, ref_of(h, 4, 0), 1, h->now));
    harness_turn(h);
    assert_int_equal(state_of(h, 4, 0), FLEET_CANCELED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    assert_int_equal(h->log[h->nlog - 1].kind, FLEET_DO_RUN);
    assert_false(fleet_engine_cancel_run(h->engine, h->run, h->now));
    harness_free(h);
}

static void
cancel_too_late(void **state)
{
    (void) state;
    for (int good = 0; good < 2; good++)
    {
        Harness *h = harness_new();

        harness_task(h, "a");
        harness_run(h);
        fleet_engine_cancel_run(h->engine, h->run, h->now);
        finish(h, 0, 0, good ? FLEET_SUCCEEDED : FLEET_FAILED);
        assert_int_equal(run_state(h), good ? FLEET_SUCCEEDED : FLEET_FAILED);
        harness_free(h);
    }
}

static void
cancel_of_a_queued_run(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b")->for_each = true;
    harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 0, h->now);
    assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
    harness_turn(h);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    assert_int_equal(h->nlog, 3);
    assert_int_equal(h->log[2].kind, FLEET_DO_RUN);
    harness_free(h);
}

/* A start that is still in the queue when the cancel comes is told to nobody. */
static void
cancel_takes_back_untold_starts(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a");
    harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 0, h->now);
    fleet_engine_turn(h->engine, h->now);
    assert_int_equal(state_of(h, 0, 0), FLEET_STARTING);
    fleet_engine_cancel_run(h->engine, h->run, h->now);
    harness_drain(h);
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 0);
    assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_CANCELED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0), 0);
    harness_free(h);
}

/* ---- several runs ---- */

static void
runs_wait_for_their_turn(void **state)
{
    Harness *h = harness_new();
    uint32_t runs[4];

    (void) state;
    fleet_engine_free(h->engine);
    h->config.max_active_runs = 1;
    harness_engine(h);
    harness_task(h, "a");
    harness_graph(h);
    for (int i = 0; i < 4; i++)
        runs[i] = fleet_engine_run_add(h->engine, h->graph, i == 2 ? 5 : 0, 0, h->now);
    fleet_engine_run_nested(h->engine, runs[3]);
    harness_turn(h);
    assert_int_equal(fleet_engine_run_state(h->engine, runs[0]), FLEET_QUEUED);
    assert_int_equal(fleet_engine_run_state(h->engine, runs[2]), FLEET_RUNNING); /* priority */
    assert_int_equal(fleet_engine_run_state(h->engine, runs[3]), FLEET_RUNNING); /* nested */
    h->run = runs[3];
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_int_equal(fleet_engine_run_state(h->engine, runs[0]), FLEET_QUEUED);
    fleet_engine_cancel_run(h->engine, runs[0], h->now);
    h->run = runs[2];
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_int_equal(fleet_engine_run_state(h->engine, runs[1]), FLEET_RUNNING);
    h->run = runs[1];
    fleet_engine_run_forget(h->engine, h->run); /* before its end: the slot comes back */
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0), 0);
    assert_int_equal(fleet_engine_run_add(h->engine, h->graph, 0, 0, h->now), runs[1]);
    harness_turn(h);
    assert_int_equal(fleet_engine_run_state(h->engine, runs[1]), FLEET_RUNNING);
    harness_free(h);
}

/* However many runs of higher priority keep coming, the old one begins within a bound. */
static void
no_run_starves(void **state)
{
    Harness *h = harness_new();
    uint32_t low, turns = 0;

    (void) state;
    fleet_engine_free(h->engine);
    h->config.max_active_runs = 1;
    harness_engine(h);
    harness_task(h, "a");
    harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 9, 0, h->now);
    harness_turn(h);
    low = fleet_engine_run_add(h->engine, h->graph, 0, 0, h->now);
    for (; fleet_engine_run_state(h->engine, low) == FLEET_QUEUED && turns < 1000; turns++)
    {
        uint32_t high = fleet_engine_run_add(h->engine, h->graph, 9, 0, h->now);

        finish(h, 0, 0, FLEET_SUCCEEDED);
        fleet_engine_run_forget(h->engine, h->run);
        h->run = high;
    }
    assert_in_range(turns, 2, 20);
    harness_free(h);
}

/* Many runs come and go: handles are used again, what waited in vain is dropped. */
static void
runs_come_and_go(void **state)
{
    Harness *h = harness_new();
    uint32_t started = 0;

    (void) state;
    fleet_engine_free(h->engine);
    h->config.max_active_runs = 2;
    harness_engine(h);
    harness_task(h, "a");
    harness_graph(h);
    for (int round = 0; round < 50; round++)
    {
        uint32_t runs[6];

        for (int i = 0; i < 6; i++)
            runs[i] = fleet_engine_run_add(h->engine, h->graph, i % 3, 0, h->now);
        fleet_engine_run_forget(h->engine, runs[round % 6]);
        for (uint32_t left = 5; left > 0;)
        {
            harness_turn(h);
            assert_true(h->nlog > 0);
            for (uint32_t i = 0, n = h->nlog; i < n; i++)
            {
                FleetTaskRef ref = h->log[i].ref;

                if (h->log[i].kind != FLEET_DO_START)
                    continue;
                started++;
                assert_true(fleet_engine_finished(h->engine, ref, 1, FLEET_SUCCEEDED, NULL, 0));
                fleet_engine_run_forget(h->engine, ref.run);
                left--;
            }
        }
    }
    assert_int_equal(started, 250);
    harness_free(h);
}

/* A skip through a long chain uses no recursion. */
static void
long_chains(void **state)
{
    enum
    {
        N = 200000
    };
    FleetTaskSpec *tasks = calloc(N, sizeof(FleetTaskSpec));
    FleetEdgeSpec *edges = calloc(N, sizeof(FleetEdgeSpec));
    Harness *h = harness_new();
    FleetError error;

    (void) state;
    for (uint32_t i = 0; i + 1 < N; i++)
        edges[i] = (FleetEdgeSpec){i, i + 1, FLEET_ON_SUCCESS, false};
    h->graph = fleet_graph_create(&fleet_malloc_alloc, tasks, N, edges, N - 1, &error);
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_STATE), N);
    assert_int_equal(state_of(h, N - 1, 0), FLEET_SKIPPED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    free(tasks);
    free(edges);
    harness_free(h);
}

/* A run that is given up with items in every state leaves nothing behind. */
static void
forget_before_the_end(void **state)
{
    Harness *h = harness_new();
    FleetTaskSpec *task = harness_task(h, "each");

    (void) state;
    task->for_each = true;
    task->estimate = INT64_MAX; /* absurd, and harmless */
    task->timeout = FLEET_SECONDS(9);
    task->retry = (FleetRetry){.retries = 1, .base = 1000};
    task->completion = FLEET_CONTINUE;
    harness_run(h);
    assert_true(fleet_engine_items(h->engine, h->run, 0, 9, NULL, h->now));
    harness_turn(h);
    for (uint32_t i = 0, n = h->nlog, k = 0; i < n && k < 2; i++)
    {
        uint32_t item = h->log[i].ref.item;

        if (h->log[i].kind != FLEET_DO_START)
            continue;
        if (k++ == 0)
            accept(h, 0, item);
        else
            assert_true(finish_with(h, 0, item, FLEET_FAILED, NULL));
    }
    assert_int_not_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
    fleet_engine_run_forget(h->engine, h->run); /* decisions are still in the queue */
    harness_turn(h);
    assert_int_equal(h->nlog, 0);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0), 0);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 1), 0);
    assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
    harness_free(h);
}

static void
nothing_to_free(void **state)
{
    (void) state;
    fleet_engine_free(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_runs_in_order),
        cmocka_unit_test(events_of_strangers_are_refused),
        cmocka_unit_test(leaving_frees_the_slot),
        cmocka_unit_test(edges_follow_outcomes),
        cmocka_unit_test(unhandled_failure_fails_the_run),
        cmocka_unit_test(joins),
        cmocka_unit_test(join_any_fires_once),
        cmocka_unit_test(conditions_come_as_events),
        cmocka_unit_test(condition_is_not_asked_in_vain),
        cmocka_unit_test(fail_before_ready),
        cmocka_unit_test(fail_in_any_state),
        cmocka_unit_test(started_is_done),
        cmocka_unit_test(cancel_stops_everything),
        cmocka_unit_test(cancel_too_late),
        cmocka_unit_test(cancel_of_a_queued_run),
        cmocka_unit_test(cancel_takes_back_untold_starts),
        cmocka_unit_test(runs_wait_for_their_turn),
        cmocka_unit_test(no_run_starves),
        cmocka_unit_test(runs_come_and_go),
        cmocka_unit_test(long_chains),
        cmocka_unit_test(forget_before_the_end),
        cmocka_unit_test(nothing_to_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
