/*
 * test_engine_items.c
 *     for_each (throttle, completion policies, a million items), retries,
 *     timeouts, lost servers, work that never started.
 */
#include "engine_harness.h"

static FleetTaskSpec *
for_each(Harness *h, uint32_t throttle, FleetCompletion completion)
{
    FleetTaskSpec *task = harness_task(h, "each");

    task->for_each = true;
    task->throttle = throttle;
    task->completion = completion;
    return task;
}

static void
items(Harness *h, uint32_t count, const FleetTime *estimates)
{
    assert_non_null(found(h, FLEET_DO_EXPAND, 0, 0));
    assert_true(fleet_engine_items(h->engine, h->run, 0, count, estimates, h->now));
    assert_false(fleet_engine_items(h->engine, h->run, 0, count, estimates, h->now));
    harness_turn(h);
}

static void
slots(Harness *h, uint32_t each)
{
    harness_server(h, 0, FLEET_SERVER_ONLINE, each);
    harness_server(h, 1, FLEET_SERVER_ONLINE, each);
}

/* ---- for_each ---- */

static void
throttle_longest_first(void **state)
{
    static const FleetTime estimates[] = {10, 50, 20, 40, 30};
    static const uint32_t order[] = {2, 4, 5, 3, 1};
    Harness *h = harness_new();
    FleetRunCounts counts;

    (void) state;
    for_each(h, 2, FLEET_CONTINUE);
    slots(h, 10);
    harness_run(h);
    items(h, 5, estimates);
    assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state == FLEET_RUNNING, true);
    fleet_engine_run_counts(h->engine, h->run, &counts);
    assert_int_equal(counts.total, 5); /* the items count, not the task as a whole */
    assert_int_equal(counts.running, 2);
    assert_int_equal(counted(h, FLEET_DO_START), 2);
    for (uint32_t i = 0; i < 5; i++)
    {
        assert_int_equal(state_of(h, 0, order[i]), FLEET_STARTING);
        finish(h, 0, order[i], FLEET_SUCCEEDED);
        assert_int_equal(counted(h, FLEET_DO_START), i < 3 ? 1 : 0);
    }
    assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
empty_for_each_succeeds(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for_each(h, 0, FLEET_MINIMUM_SHARE)->min_share = 1.0;
    harness_run(h);
    items(h, 0, NULL);
    assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
items_query_fails(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for_each(h, 0, FLEET_CONTINUE);
    harness_run(h);
    assert_true(fleet_engine_items_failed(h->engine, h->run, 0, h->now));
    assert_false(fleet_engine_items_failed(h->engine, h->run, 0, h->now));
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
fail_fast(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for_each(h, 3, FLEET_FAIL_FAST)->retry = (FleetRetry){.retries = 1, .base = 100};
    h->tasks[0].retry.states = NULL;
    slots(h, 10);
    harness_run(h);
    items(h, 6, NULL);
    assert_true(finish_with(h, 0, 1, FLEET_FAILED, "42601")); /* not one that is retried */
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 1), FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 2);
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    for (uint32_t i = 4; i <= 6; i++)
        assert_int_equal(found(h, FLEET_DO_STATE, 0, i)->state, FLEET_CANCELED);
    assert_int_equal(state_of(h, 0, 0), FLEET_RUNNING);
    finish(h, 0, 2, FLEET_FAILED); /* no retry any more */
    assert_int_equal(state_of(h, 0, 2), FLEET_FAILED);
    finish(h, 0, 3, FLEET_CANCELED);
    assert_int_equal(state_of(h, 0, 3), FLEET_CANCELED);
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

/* good items of ten → does the task succeed? */
static void
completion_policies(void **state)
{
    static const struct
    {
        FleetCompletion completion;
        double share;
        uint32_t good;
        bool succeeds;
    } rows[] = {
        {FLEET_CONTINUE, 0, 10, true},       {FLEET_CONTINUE, 0, 9, false},
        {FLEET_MINIMUM_SHARE, 0.7, 7, true}, {FLEET_MINIMUM_SHARE, 0.7, 6, false},
        {FLEET_MINIMUM_SHARE, 0.0, 0, true}, {FLEET_MINIMUM_SHARE, 1.0, 9, false},
        {FLEET_FAIL_FAST, 0, 10, true},
    };

    (void) state;
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++)
    {
        Harness *h = harness_new();

        for_each(h, 0, rows[r].completion)->min_share = rows[r].share;
        slots(h, 10);
        harness_run(h);
        items(h, 10, NULL);
        for (uint32_t i = 1; i <= 10; i++)
            finish(h, 0, i, i <= rows[r].good ? FLEET_SUCCEEDED : FLEET_FAILED);
        assert_int_equal(state_of(h, 0, 0), rows[r].succeeds ? FLEET_SUCCEEDED : FLEET_FAILED);
        harness_free(h);
    }
}

static void
cancel_with_items(void **state)
{
    (void) state;
    for (int known = 0; known < 2; known++)
    {
        Harness *h = harness_new();

        for_each(h, 2, FLEET_CONTINUE);
        harness_run(h);
        if (known)
            items(h, 4, NULL);
        assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
        harness_turn(h);
        assert_false(fleet_engine_items(h->engine, h->run, 0, 4, NULL, h->now));
        if (known)
        {
            assert_int_equal(state_of(h, 0, 0), FLEET_CANCELING);
            assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_CANCELING);
            assert_int_equal(counted(h, FLEET_DO_CANCEL), 2);
            assert_int_equal(found(h, FLEET_DO_STATE, 0, 3)->state, FLEET_CANCELED);
            finish(h, 0, 1, FLEET_SUCCEEDED);
            finish(h, 0, 2, FLEET_CANCELED);
        }
        assert_int_equal(state_of(h, 0, 0), FLEET_CANCELED);
        assert_int_equal(run_state(h), FLEET_CANCELED);
        harness_free(h);
    }
}

static void
fail_items_and_the_whole(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for_each(h, 2, FLEET_CONTINUE);
    harness_run(h);
    items(h, 6, NULL);
    assert_true(fleet_engine_fail(h->engine, ref_of(h, 0, 1), "42704", h->now)); /* started */
    assert_true(fleet_engine_fail(h->engine, ref_of(h, 0, 5), "42704", h->now)); /* throttled */
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 1), FLEET_FAILED);
    assert_int_equal(state_of(h, 0, 5), FLEET_FAILED);
    assert_int_equal(state_of(h, 0, 3), FLEET_STARTING);
    finish(h, 0, 2, FLEET_SUCCEEDED);
    finish(h, 0, 3, FLEET_SUCCEEDED); /* 5 is passed over */
    assert_int_equal(state_of(h, 0, 6), FLEET_STARTING);
    assert_true(fleet_engine_fail(h->engine, ref_of(h, 0, 0), "42704", h->now));
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 2);
    assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_CANCELING);
    finish(h, 0, 4, FLEET_SUCCEEDED);
    finish(h, 0, 6, FLEET_CANCELED);
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
package_items_start_without_slots(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for_each(h, 3, FLEET_CONTINUE)->kind = FLEET_TASK_PACKAGE;
    harness_run(h);
    items(h, 5, NULL);
    assert_int_equal(counted(h, FLEET_DO_START), 3);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 0), 0);
    finish(h, 0, 1, FLEET_SUCCEEDED);
    assert_int_equal(counted(h, FLEET_DO_START), 1);
    harness_free(h);
}

/* A million items: all run, memory and the queue of decisions stay small; canceling the rest too. */
static void
many_items(void **state)
{
    enum
    {
        N = 1000000
    };
    Harness *h = harness_new();
    FleetTime *estimates = malloc(N * sizeof(FleetTime));
    uint32_t done = 0;

    (void) state;
    for (uint32_t i = 0; i < N; i++)
        estimates[i] = 1 + (FleetTime) (i * UINT32_C(2654435761) % 100000);
    for_each(h, 100, FLEET_FAIL_FAST);
    slots(h, 50);
    harness_run(h);
    items(h, N, estimates);
    free(estimates);
    assert_true(fleet_engine_memory(h->engine) < (size_t) 100 * N);
    while (done < N / 10)
    {
        uint32_t n = h->nlog;
        FleetTaskRef started[128];
        uint32_t k = 0;

        for (uint32_t i = 0; i < n; i++)
        {
            if (h->log[i].kind == FLEET_DO_START)
                started[k++] = h->log[i].ref;
        }
        assert_in_range(k, 1, 100);
        for (uint32_t i = 0; i < k; i++)
            assert_true(fleet_engine_finished(h->engine, started[i], 1, FLEET_SUCCEEDED, NULL, 0));
        done += k;
        harness_turn(h);
    }
    for (uint32_t i = 0; i < h->nlog; i++)
    {
        if (h->log[i].kind != FLEET_DO_START)
            continue;
        assert_true(
            fleet_engine_finished(h->engine, h->log[i].ref, 1, FLEET_FAILED, "42601", h->now));
        break;
    }
    assert_true(fleet_engine_memory(h->engine) < (size_t) 100 * N);
    harness_turn(h);
    assert_in_range(counted(h, FLEET_DO_CANCEL), 99, 99);
    assert_int_equal(counted(h, FLEET_DO_STATE), 1 + N - done - 100);
    harness_free(h);
}

/* ---- retries ---- */

static void
retry_with_backoff(void **state)
{
    Harness *h = harness_new();
    const FleetDecision *d;

    (void) state;
    harness_task(h, "a")->retry = (FleetRetry){.retries = 2, .base = 1000, .maximum = 1500};
    harness_run(h);
    for (uint16_t attempt = 1; attempt <= 2; attempt++)
    {
        FleetTime wait = attempt == 1 ? 1000 : 1500;

        accept(h, 0, 0);
        finish(h, 0, 0, attempt == 1 ? FLEET_FAILED : FLEET_UNKNOWN);
        d = found(h, FLEET_DO_STATE, 0, 0);
        d = d->state == FLEET_RETRYING ? d : d + 1;
        assert_int_equal(d->state, FLEET_RETRYING);
        assert_int_equal(d->at, h->now + wait);
        assert_int_equal(d->failures, attempt);
        assert_int_equal(fleet_engine_wakeup(h->engine), h->now + wait);
        h->now += wait - 1;
        harness_turn(h);
        assert_int_equal(h->nlog, 0);
        h->now++;
        harness_turn(h);
        assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_QUEUED);
        assert_int_equal(found(h, FLEET_DO_START, 0, 0)->attempt, attempt + 1);
    }
    assert_false(fleet_engine_finished(h->engine, ref_of(h, 0, 0), 2, FLEET_SUCCEEDED, NULL,
                                       h->now)); /* a late answer of the second attempt */
    finish(h, 0, 0, FLEET_FAILED);
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
what_is_not_retried(void **state)
{
    static const struct
    {
        FleetState outcome;
        const char *sqlstate;
        FleetOnLost on_lost;
        FleetState expected;
    } rows[] = {
        {FLEET_FAILED, "40001", FLEET_LOST_FAIL, FLEET_RETRYING},
        {FLEET_FAILED, "23505", FLEET_LOST_FAIL, FLEET_FAILED},
        {FLEET_CANCELED, NULL, FLEET_LOST_FAIL, FLEET_CANCELED},
        {FLEET_LOST, NULL, FLEET_LOST_FAIL, FLEET_LOST},
        {FLEET_LOST, NULL, FLEET_LOST_RETRY, FLEET_RETRYING},
        {FLEET_UNKNOWN, NULL, FLEET_LOST_FAIL, FLEET_RETRYING},
        {FLEET_SUCCEEDED, NULL, FLEET_LOST_FAIL, FLEET_SUCCEEDED},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    {
        Harness *h = harness_new();
        FleetTaskSpec *task = harness_task(h, "a");

        task->retry = (FleetRetry){.retries = 1, .base = 1000};
        task->on_lost = rows[i].on_lost;
        harness_run(h);
        assert_true(finish_with(h, 0, 0, rows[i].outcome, rows[i].sqlstate));
        harness_turn(h);
        assert_int_equal(state_of(h, 0, 0), rows[i].expected);
        harness_free(h);
    }
}

static void
retrying_item_gives_its_place(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for_each(h, 1, FLEET_CONTINUE)->retry = (FleetRetry){.retries = 1, .base = 1000};
    harness_run(h);
    items(h, 2, NULL);
    finish(h, 0, 1, FLEET_FAILED);
    assert_int_equal(state_of(h, 0, 1), FLEET_RETRYING);
    assert_int_equal(state_of(h, 0, 2), FLEET_STARTING);
    h->now += 1000;
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 1), FLEET_QUEUED); /* behind the throttle */
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    finish(h, 0, 2, FLEET_SUCCEEDED);
    assert_int_equal(found(h, FLEET_DO_START, 0, 1)->attempt, 2);
    harness_free(h);
}

static void
not_started_goes_elsewhere(void **state)
{
    Harness *h = harness_new();
    uint32_t first;
    const FleetDecision *d;

    (void) state;
    harness_task(h, "a");
    harness_run(h);
    first = found(h, FLEET_DO_START, 0, 0)->server;
    assert_false(fleet_engine_not_started(h->engine, ref_of(h, 0, 0), 7, h->now));
    assert_true(fleet_engine_not_started(h->engine, ref_of(h, 0, 0), 1, h->now));
    harness_turn(h);
    assert_int_equal(found(h, FLEET_DO_STATE, 0, 0)->state, FLEET_QUEUED);
    d = found(h, FLEET_DO_START, 0, 0);
    assert_int_equal(d->attempt, 2);
    assert_int_equal(d->failures, 0); /* no retry was used up */
    assert_int_not_equal(d->server, first);
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), first), 0);
    accept(h, 0, 0);
    assert_false(fleet_engine_not_started(h->engine, ref_of(h, 0, 0), 2, h->now)); /* it runs */
    harness_free(h);
}

/* The number of an attempt is never used twice, even when there is none left. */
static void
attempts_run_out(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a")->retry = (FleetRetry){.retries = 1};
    harness_run(h);
    for (uint32_t i = 1; i < UINT16_MAX; i++)
    {
        assert_true(fleet_engine_not_started(h->engine, ref_of(h, 0, 0), (uint16_t) i, h->now));
        harness_turn(h);
    }
    assert_int_equal(fleet_engine_task_attempt(h->engine, ref_of(h, 0, 0)), UINT16_MAX);
    assert_true(fleet_engine_not_started(h->engine, ref_of(h, 0, 0), UINT16_MAX, h->now));
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    harness_free(h);
}

/* ---- timeouts ---- */

static void
timeout_stops_and_fails(void **state)
{
    (void) state;
    for (int how = 0; how < 5; how++)
    {
        static const FleetState ends[] = {FLEET_CANCELED, FLEET_SUCCEEDED, FLEET_UNKNOWN};
        static const FleetState expected[] = {FLEET_RETRYING, FLEET_SUCCEEDED, FLEET_RETRYING,
                                              FLEET_CANCELED, FLEET_RETRYING};
        Harness *h = harness_new();
        FleetTaskSpec *task = harness_task(h, "a");

        task->timeout = FLEET_SECONDS(5);
        task->retry = (FleetRetry){.retries = 1, .base = 1000};
        harness_run(h);
        h->now += FLEET_SECONDS(60); /* not accepted: its time has not begun */
        harness_turn(h);
        assert_int_equal(h->nlog, 0);
        accept(h, 0, 0);
        assert_int_equal(fleet_engine_wakeup(h->engine), h->now + FLEET_SECONDS(5));
        h->now += FLEET_SECONDS(5);
        harness_turn(h);
        assert_non_null(found(h, FLEET_DO_CANCEL, 0, 0));
        assert_int_equal(state_of(h, 0, 0), FLEET_CANCELING);
        if (how == 3) /* the run is canceled while the attempt is being stopped */
        {
            fleet_engine_cancel_run(h->engine, h->run, h->now);
            harness_turn(h);
            assert_int_equal(counted(h, FLEET_DO_CANCEL), 0);
            finish(h, 0, 0, FLEET_CANCELED);
        }
        else if (how == 4) /* that server came back without it */
        {
            assert_true(fleet_engine_not_started(h->engine, ref_of(h, 0, 0), 1, h->now));
            harness_turn(h);
        }
        else
            finish(h, 0, 0, ends[how]);
        assert_int_equal(state_of(h, 0, 0), expected[how]);
        if (how == 0) /* the second attempt times out too: failed, not canceled */
        {
            h->now += 1000;
            harness_turn(h);
            accept(h, 0, 0);
            h->now += FLEET_SECONDS(5);
            harness_turn(h);
            finish(h, 0, 0, FLEET_CANCELED);
            assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
        }
        harness_free(h);
    }
}

static void
endless_timeout(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a")->timeout = FLEET_NEVER;
    harness_run(h);
    accept(h, 0, 0);
    assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
    harness_free(h);
}

/* ---- servers ---- */

static void
suspect_server_loses_its_work(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for (int t = 0; t < 4; t++)
        harness_task(h, "t")->target = 1; /* two slots */
    h->tasks[1].on_lost = FLEET_LOST_RETRY;
    h->tasks[1].retry = (FleetRetry){.retries = 1, .base = FLEET_SECONDS(1)};
    harness_run(h);
    accept(h, 0, 0);
    harness_server(h, 1, FLEET_SERVER_SUSPECT, 2);
    assert_int_equal(fleet_engine_wakeup(h->engine), h->now + FLEET_SECONDS(10));
    h->now += FLEET_SECONDS(5);
    harness_server(h, 1, FLEET_SERVER_SUSPECT, 2); /* said again: the clock goes on */
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_RUNNING);
    harness_server(h, 1, FLEET_SERVER_ONLINE, 2); /* back in time */
    assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
    harness_server(h, 1, FLEET_SERVER_SUSPECT, 2);
    harness_server(h, 1, FLEET_SERVER_OFFLINE, 2); /* given up by hand: the clock goes on */
    h->now += FLEET_SECONDS(10) - 1;
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_RUNNING);
    h->now++;
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_LOST);
    assert_int_equal(state_of(h, 1, 0), FLEET_RETRYING);
    assert_int_equal(state_of(h, 2, 0), FLEET_QUEUED); /* never placed there: not lost */
    assert_int_equal(fleet_placer_busy(fleet_engine_placer(h->engine), 1), 0);
    h->now += FLEET_SECONDS(1);
    harness_turn(h);
    assert_int_equal(state_of(h, 1, 0), FLEET_QUEUED);
    assert_int_equal(counted(h, FLEET_DO_START), 0); /* nowhere to go */
    harness_server(h, 1, FLEET_SERVER_ONLINE, 2);
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_START), 2);
    harness_free(h);
}

/* A server that turns suspect before its starts were told gets none of them. */
static void
untold_starts_go_elsewhere(void **state)
{
    Harness *h = harness_new();

    (void) state;
    for (int t = 0; t < 4; t++)
        harness_task(h, "t");
    harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 0, h->now);
    fleet_engine_turn(h->engine, h->now);
    harness_server(h, 0, FLEET_SERVER_SUSPECT, 2);
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_START), 2);
    for (uint32_t i = 0; i < h->nlog; i++)
    {
        if (h->log[i].kind == FLEET_DO_START)
            assert_int_equal(h->log[i].server, 1);
    }
    harness_server(h, 0, FLEET_SERVER_ONLINE, 2);
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_START), 2);
    for (uint32_t t = 0; t < 4; t++)
        assert_int_equal(fleet_engine_task_attempt(h->engine, ref_of(h, t, 0)), 1);
    harness_free(h);
}

/* Many timers at once, taken away in another order than they are due. */
static void
many_timers(void **state)
{
    enum
    {
        N = 500
    };
    Harness *h = harness_new();
    uint32_t order[N], fired = 0;
    FleetRandom random;

    (void) state;
    fleet_random_seed(&random, 3);
    for_each(h, 0, FLEET_CONTINUE)->timeout = FLEET_SECONDS(5);
    slots(h, N);
    harness_run(h);
    items(h, N, NULL);
    for (uint32_t i = 0; i < N; i++)
        order[i] = i + 1;
    for (uint32_t i = N; i > 1; i--)
    {
        uint32_t k = fleet_random_below(&random, i), swap = order[k];

        order[k] = order[i - 1];
        order[i - 1] = swap;
    }
    for (uint32_t i = 0; i < N; i++)
    {
        h->now += fleet_random_below(&random, 3);
        accept(h, 0, order[i]);
    }
    harness_turn(h);
    for (uint32_t i = 0; i < N; i += 2) /* half of them end in time */
        finish(h, 0, order[N - 1 - i], FLEET_SUCCEEDED);
    while (fleet_engine_wakeup(h->engine) != FLEET_NEVER)
    {
        FleetTime next = fleet_engine_wakeup(h->engine);

        assert_true(next > h->now);
        h->now = next;
        harness_turn(h);
        assert_true(counted(h, FLEET_DO_CANCEL) > 0);
        fired += counted(h, FLEET_DO_CANCEL);
    }
    assert_int_equal(fired, N / 2);
    harness_free(h);
}

static void
restart_with(Harness *h, uint32_t slice, uint32_t crowd)
{
    fleet_engine_free(h->engine);
    h->config.slice = slice;
    h->config.crowd = crowd;
    harness_engine(h);
}

/* A cancel of many items is told in slices; another run goes on; the end comes last, and once. */
static void
canceled_in_slices(void **state)
{
    Harness *h = harness_new();
    uint32_t told = 0, turns = 0, whole = 0, other, started;

    (void) state;
    restart_with(h, 10, 0);
    for_each(h, 1, FLEET_CONTINUE);
    harness_task(h, "after");
    harness_edge(h, 0, 1, FLEET_ON_COMPLETION);
    harness_run(h);
    items(h, 95, NULL);
    accept(h, 0, 1);
    assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
    other = fleet_engine_run_add(h->engine, h->graph, 0, 0, h->now);
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 1); /* what runs is not kept waiting */
    assert_true(fleet_engine_run_behind(h->engine, h->run));
    assert_false(fleet_engine_run_behind(h->engine, other));
    assert_non_null(found(h, FLEET_DO_RUN, 0, 0));
    started = counted(h, FLEET_DO_EXPAND);
    assert_int_equal(started, 1); /* the other one begins in the same turn */
    assert_true(finish_with(h, 0, 1, FLEET_CANCELED, "57014"));
    for (;;)
    {
        uint32_t states = 0;

        for (uint32_t i = 0; i < h->nlog; i++)
        {
            assert_int_equal(whole, 0); /* nothing of it comes after its end */
            if (h->log[i].ref.run != h->run)
                continue;
            states += h->log[i].kind == FLEET_DO_STATE && h->log[i].attempt == 0;
            told += h->log[i].kind == FLEET_DO_STATE && h->log[i].ref.item > 0 &&
                    FLEET_STATE_IS_FINAL(h->log[i].state);
            whole += h->log[i].kind == FLEET_DO_RUN && FLEET_STATE_IS_FINAL(h->log[i].state);
        }
        assert_in_range(states, 0, 12); /* the slice, and the tasks as a whole */
        turns++;
        if (!fleet_engine_run_behind(h->engine, h->run))
            break;
        assert_int_equal(fleet_engine_wakeup(h->engine), 0);
        harness_turn(h);
    }
    assert_int_equal(told, 95);
    assert_int_equal(whole, 1);
    assert_in_range(turns, 9, 11);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    harness_free(h);
}

/* A run that is forgotten while it is being told leaves nothing behind. */
static void
forgotten_behind(void **state)
{
    Harness *h = harness_new();

    (void) state;
    restart_with(h, 10, 0);
    for_each(h, 1, FLEET_CONTINUE);
    harness_run(h);
    items(h, 50, NULL);
    assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
    harness_turn(h);
    assert_true(fleet_engine_run_behind(h->engine, h->run));
    fleet_engine_run_forget(h->engine, h->run);
    harness_turn(h);
    assert_int_equal(h->nlog, 0);
    assert_int_equal(fleet_engine_wakeup(h->engine), FLEET_NEVER);
    harness_free(h);
}

/* Without a throttle the placer knows the longest ones only; each is started once, in that order. */
static void
crowd_longest_first(void **state)
{
    enum
    {
        N = 40
    };
    Harness *h = harness_new();
    FleetTime estimates[N];
    uint32_t started = 0;

    (void) state;
    for (uint32_t i = 0; i < N; i++)
        estimates[i] = (FleetTime) (1 + (i * 7) % N);
    restart_with(h, 0, 6);
    for_each(h, 0, FLEET_CONTINUE);
    slots(h, 2);
    harness_run(h);
    items(h, N, estimates);
    while (counted(h, FLEET_DO_START) > 0)
    {
        uint32_t item = 0, longest = 0;

        for (uint32_t i = 0; i < h->nlog; i++)
        {
            if (h->log[i].kind != FLEET_DO_START)
                continue;
            item = h->log[i].ref.item;
            /* of those that were left when it was admitted, at most the crowd is longer */
            longest = 0;
            for (uint32_t other = 1; other <= N; other++)
                longest +=
                    fleet_engine_task_state(h->engine, ref_of(h, 0, other)) == FLEET_QUEUED &&
                    estimates[other - 1] > estimates[item - 1];
            assert_in_range(longest, 0, 6);
            started++;
        }
        for (uint32_t other = 1; other <= N; other++)
        {
            if (fleet_engine_task_state(h->engine, ref_of(h, 0, other)) == FLEET_STARTING)
            {
                accept(h, 0, other);
                finish(h, 0, other, FLEET_SUCCEEDED);
                break;
            }
        }
    }
    assert_int_equal(started, N);
    for (uint32_t other = 1; other <= N; other++)
    {
        if (fleet_engine_task_state(h->engine, ref_of(h, 0, other)) == FLEET_STARTING)
        {
            accept(h, 0, other);
            finish(h, 0, other, FLEET_SUCCEEDED);
        }
    }
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(throttle_longest_first),
        cmocka_unit_test(empty_for_each_succeeds),
        cmocka_unit_test(items_query_fails),
        cmocka_unit_test(fail_fast),
        cmocka_unit_test(completion_policies),
        cmocka_unit_test(cancel_with_items),
        cmocka_unit_test(fail_items_and_the_whole),
        cmocka_unit_test(package_items_start_without_slots),
        cmocka_unit_test(many_items),
        cmocka_unit_test(retry_with_backoff),
        cmocka_unit_test(what_is_not_retried),
        cmocka_unit_test(retrying_item_gives_its_place),
        cmocka_unit_test(not_started_goes_elsewhere),
        cmocka_unit_test(attempts_run_out),
        cmocka_unit_test(timeout_stops_and_fails),
        cmocka_unit_test(endless_timeout),
        cmocka_unit_test(suspect_server_loses_its_work),
        cmocka_unit_test(untold_starts_go_elsewhere),
        cmocka_unit_test(many_timers),
        cmocka_unit_test(canceled_in_slices),
        cmocka_unit_test(forgotten_behind),
        cmocka_unit_test(crowd_longest_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
