/*
 * test_steer.c
 *     What is asked of a run that goes on: skip, retry, pause
 *     (core/engine/steer.c), alone and over a restart of the driver.
 */
#include "engine_harness.h"

static void
tasks(Harness *h, uint32_t n)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};

    for (uint32_t i = 0; i < n; i++)
        harness_task(h, names[i]);
}

static void
leave_out(Harness *h, uint32_t task, uint32_t item)
{
    assert_true(fleet_engine_skip(h->engine, ref_of(h, task, item), h->now));
    harness_turn(h);
}

static void
retry(Harness *h, uint32_t task, uint32_t item)
{
    assert_true(fleet_engine_retry(h->engine, ref_of(h, task, item), h->now));
    harness_turn(h);
}

static void
assert_states(const Harness *h, const FleetState *expected)
{
    for (uint32_t t = 0; t < h->ntasks; t++)
        assert_int_equal(state_of(h, t, 0), expected[t]);
}

/* ---- skip ---- */

static void
a_task_is_skipped_in_its_turn(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 3);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_run(h);
    leave_out(h, 1, 0);
    assert_int_equal(state_of(h, 1, 0), FLEET_QUEUED); /* a runs, on which c depends too */
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
    assert_non_null(found(h, FLEET_DO_START, 2, 0));
    finish(h, 2, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    assert_false(fleet_engine_skip(h->engine, ref_of(h, 2, 0), h->now));
    harness_free(h);
}

static void
a_failure_before_it_is_not_hidden(void **state)
{
    static const FleetState expected[] = {FLEET_FAILED, FLEET_SKIPPED, FLEET_SKIPPED};
    Harness *h = harness_new();

    (void) state;
    tasks(h, 3);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_run(h);
    leave_out(h, 1, 0);
    finish(h, 0, 0, FLEET_FAILED);
    assert_states(h, expected);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
what_waits_is_skipped_at_once(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 2);
    h->tasks[0].retry.retries = 3;
    h->tasks[0].retry.base = FLEET_SECONDS(5);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_run(h);
    finish_with(h, 0, 0, FLEET_FAILED, "40001");
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_RETRYING);
    leave_out(h, 0, 0);
    assert_int_equal(state_of(h, 0, 0), FLEET_SKIPPED);
    assert_non_null(found(h, FLEET_DO_START, 1, 0));
    harness_free(h);
}

static void
what_runs_is_skipped_when_it_waits_again(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 1);
    harness_run(h);
    leave_out(h, 0, 0);
    assert_int_equal(state_of(h, 0, 0), FLEET_STARTING);
    assert_true(fleet_engine_not_started(h->engine, ref_of(h, 0, 0), 1, h->now));
    harness_turn(h);
    assert_int_equal(state_of(h, 0, 0), FLEET_SKIPPED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
an_item_that_is_skipped_counts_as_good(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 1);
    h->tasks[0].for_each = true;
    h->tasks[0].throttle = 1;
    harness_run(h);
    assert_true(fleet_engine_items(h->engine, h->run, 0, 3, NULL, h->now));
    harness_turn(h);
    assert_false(fleet_engine_skip(h->engine, ref_of(h, 0, 0), h->now)); /* its items are known */
    leave_out(h, 0, 2);
    assert_int_equal(state_of(h, 0, 2), FLEET_SKIPPED);
    finish(h, 0, 1, FLEET_SUCCEEDED);
    leave_out(h, 0, 3); /* it runs */
    finish(h, 0, 3, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
a_skip_survives(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 3);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_run(h);
    /* it was skipped, and what follows has not begun; and: it is still to be skipped */
    for (int done = 0; done < 2; done++)
    {
        harness_restart(h);
        load(h, 0, 0, FLEET_SUCCEEDED, 1, 0);
        if (done)
            load(h, 1, 0, FLEET_SKIPPED, 0, FLEET_NO_SERVER);
        fleet_engine_load_skip(h->engine, ref_of(h, 1, 0));
        loaded(h, false);
        harness_turn(h);
        assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
        assert_non_null(found(h, FLEET_DO_START, 2, 0));
    }
    harness_free(h);
}

/* ---- retry ---- */

/* a fails; b follows its success, c its failure, d both b and e, e runs. */
static Harness *
forked(void)
{
    Harness *h = harness_new();

    tasks(h, 5);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 0, 2, FLEET_ON_FAILURE);
    harness_edge(h, 1, 3, FLEET_ON_SUCCESS);
    harness_edge(h, 4, 3, FLEET_ON_SUCCESS);
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
    assert_int_equal(state_of(h, 3, 0), FLEET_SKIPPED);
    return h;
}

static void
what_was_passed_over_follows_the_new_outcome(void **state)
{
    static const FleetState expected[] = {FLEET_SUCCEEDED, FLEET_SUCCEEDED, FLEET_SUCCEEDED,
                                          FLEET_SUCCEEDED, FLEET_SUCCEEDED};
    Harness *h = forked();

    (void) state;
    retry(h, 0, 0);
    assert_non_null(found(h, FLEET_DO_START, 0, 0));
    assert_int_equal(found(h, FLEET_DO_START, 0, 0)->attempt, 2);
    assert_int_equal(state_of(h, 1, 0), FLEET_QUEUED);
    assert_int_equal(state_of(h, 3, 0), FLEET_QUEUED);
    assert_int_equal(state_of(h, 2, 0), FLEET_STARTING); /* it has begun: it goes on */
    finish(h, 4, 0, FLEET_SUCCEEDED);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    finish(h, 2, 0, FLEET_SUCCEEDED);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    finish(h, 3, 0, FLEET_SUCCEEDED);
    assert_states(h, expected);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
it_may_fail_again(void **state)
{
    Harness *h = forked();

    (void) state;
    retry(h, 0, 0);
    finish(h, 0, 0, FLEET_FAILED);
    assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
    assert_int_equal(state_of(h, 3, 0), FLEET_SKIPPED);
    assert_null(found(h, FLEET_DO_START, 2, 0)); /* the failure was handled */
    finish(h, 2, 0, FLEET_SUCCEEDED);
    retry(h, 0, 0);
    finish(h, 0, 0, FLEET_FAILED);
    finish(h, 4, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 0, 0), h->now));
    harness_free(h);
}

static void
what_cannot_be_retried(void **state)
{
    Harness *h = forked();

    (void) state;
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 4, 0), h->now)); /* runs */
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 1, 0), h->now)); /* skipped */
    finish(h, 4, 0, FLEET_SUCCEEDED);
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 4, 0), h->now));
    assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 0, 0), h->now));
    harness_free(h);
}

static void
items_are_retried(void **state)
{
    for (int all = 0; all < 2; all++)
    {
        Harness *h = harness_new();

        (void) state;
        tasks(h, 3);
        h->tasks[0].for_each = true;
        h->tasks[0].completion = FLEET_CONTINUE;
        harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
        harness_run(h);
        assert_true(fleet_engine_items(h->engine, h->run, 0, 3, NULL, h->now));
        harness_turn(h);
        finish(h, 0, 1, FLEET_FAILED);
        finish(h, 0, 2, FLEET_SUCCEEDED);
        if (all)
        {
            finish(h, 0, 3, FLEET_FAILED);
            assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
            assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
        }
        retry(h, 0, all ? 0 : 1);
        assert_int_equal(state_of(h, 0, 0), FLEET_RUNNING);
        assert_int_equal(state_of(h, 1, 0), FLEET_QUEUED);
        finish(h, 0, 3, FLEET_SUCCEEDED);
        finish(h, 0, 1, FLEET_SUCCEEDED);
        assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
        assert_int_equal(state_of(h, 1, 0), FLEET_STARTING);
        harness_free(h);
    }
}

static void
fail_fast_is_retried_as_a_whole(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 2);
    h->tasks[0].for_each = true;
    h->tasks[0].completion = FLEET_FAIL_FAST;
    h->tasks[0].throttle = 1;
    harness_run(h);
    assert_true(fleet_engine_items(h->engine, h->run, 0, 3, NULL, h->now));
    harness_turn(h);
    finish(h, 0, 1, FLEET_FAILED);
    assert_int_equal(state_of(h, 0, 3), FLEET_CANCELED);
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 0, 1), h->now));
    retry(h, 0, 0);
    for (uint32_t i = 1; i <= 3; i++)
        finish(h, 0, i, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
a_query_is_asked_again(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 2);
    h->tasks[0].for_each = true;
    harness_run(h);
    assert_true(fleet_engine_items_failed(h->engine, h->run, 0, h->now));
    harness_turn(h);
    retry(h, 0, 0);
    assert_non_null(found(h, FLEET_DO_EXPAND, 0, 0));
    harness_free(h);
}

/* ---- pause ---- */

static void
hold(Harness *h, bool paused)
{
    fleet_engine_pause(h->engine, h->run, paused, h->now);
    harness_turn(h);
}

static void
nothing_new_starts(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 6); /* four slots */
    h->tasks[5].kind = FLEET_TASK_PACKAGE;
    harness_edge(h, 0, 5, FLEET_ON_SUCCESS);
    harness_run(h);
    assert_int_equal(counted(h, FLEET_DO_START), 4);
    hold(h, true);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    hold(h, false);
    assert_int_equal(counted(h, FLEET_DO_START), 2);
    harness_free(h);
}

static void
a_paused_run_does_not_begin(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 1);
    harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 77, h->now);
    hold(h, true);
    assert_int_equal(run_state(h), FLEET_QUEUED);
    hold(h, false);
    assert_int_equal(run_state(h), FLEET_RUNNING);
    harness_free(h);
}

static void
a_paused_run_is_canceled(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 2);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_run(h);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    hold(h, true);
    assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
    hold(h, false);
    finish(h, 1, 0, FLEET_CANCELED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    harness_free(h);
}

static void
items_wait_too(void **state)
{
    for (uint32_t throttle = 0; throttle < 3; throttle++)
    {
        Harness *h = harness_new();

        (void) state;
        tasks(h, 1);
        h->tasks[0].for_each = true;
        h->tasks[0].throttle = throttle;
        harness_run(h);
        hold(h, true);
        assert_true(fleet_engine_items(h->engine, h->run, 0, 9, NULL, h->now));
        harness_turn(h);
        assert_int_equal(counted(h, FLEET_DO_START), 0);
        hold(h, false);
        assert_int_equal(counted(h, FLEET_DO_START), throttle == 0 ? 4 : throttle);
        hold(h, true);
        finish(h, 0, 1, FLEET_SUCCEEDED);
        assert_int_equal(counted(h, FLEET_DO_START), 0);
        hold(h, false);
        assert_int_equal(counted(h, FLEET_DO_START), 1);
        harness_free(h);
    }
}

static void
a_pause_survives(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 3);
    h->tasks[2].for_each = true;
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 0, 2, FLEET_ON_SUCCESS);
    harness_run(h);
    harness_restart(h);
    load(h, 0, 0, FLEET_SUCCEEDED, 1, 0);
    fleet_engine_pause(h->engine, h->run, true, h->now);
    loaded(h, false);
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_START) + counted(h, FLEET_DO_EXPAND), 0);
    hold(h, false);
    assert_int_equal(counted(h, FLEET_DO_START), 1);
    assert_int_equal(counted(h, FLEET_DO_EXPAND), 1);
    harness_free(h);
}

/* a and b; c needs one of: a's success, b's completion with a condition. */
static Harness *
asked(void)
{
    Harness *h = harness_new();

    tasks(h, 3);
    h->tasks[2].join = FLEET_JOIN_ANY;
    harness_edge(h, 0, 2, FLEET_ON_SUCCESS);
    h->edges[harness_edge(h, 1, 2, FLEET_ON_COMPLETION)].conditional = true;
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    finish(h, 1, 0, FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CONDITION), 1);
    return h;
}

static void
a_condition_is_asked_for_once(void **state)
{
    Harness *h = asked();

    (void) state;
    retry(h, 0, 0);
    assert_int_equal(counted(h, FLEET_DO_CONDITION), 0); /* the answer is still to come */
    assert_true(fleet_engine_asks(h->engine, h->run, 1));
    assert_true(fleet_engine_condition(h->engine, h->run, 1, false, h->now));
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 2, 0));
    harness_free(h);
}

static void
a_condition_whose_answer_was_not_needed_is_asked_for_again(void **state)
{
    Harness *h = asked();

    (void) state;
    retry(h, 0, 0);
    leave_out(h, 2, 0);
    finish(h, 0, 0, FLEET_FAILED);
    retry(h, 1, 0); /* what it says of its end is about the old one */
    assert_false(fleet_engine_asks(h->engine, h->run, 1));
    finish(h, 1, 0, FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CONDITION), 1);
    assert_true(fleet_engine_condition(h->engine, h->run, 1, true, h->now));
    harness_turn(h);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    harness_free(h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_task_is_skipped_in_its_turn),
        cmocka_unit_test(a_failure_before_it_is_not_hidden),
        cmocka_unit_test(what_waits_is_skipped_at_once),
        cmocka_unit_test(what_runs_is_skipped_when_it_waits_again),
        cmocka_unit_test(an_item_that_is_skipped_counts_as_good),
        cmocka_unit_test(a_skip_survives),
        cmocka_unit_test(what_was_passed_over_follows_the_new_outcome),
        cmocka_unit_test(it_may_fail_again),
        cmocka_unit_test(what_cannot_be_retried),
        cmocka_unit_test(items_are_retried),
        cmocka_unit_test(fail_fast_is_retried_as_a_whole),
        cmocka_unit_test(a_query_is_asked_again),
        cmocka_unit_test(a_condition_is_asked_for_once),
        cmocka_unit_test(a_condition_whose_answer_was_not_needed_is_asked_for_again),
        cmocka_unit_test(nothing_new_starts),
        cmocka_unit_test(a_paused_run_does_not_begin),
        cmocka_unit_test(a_paused_run_is_canceled),
        cmocka_unit_test(items_wait_too),
        cmocka_unit_test(a_pause_survives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
