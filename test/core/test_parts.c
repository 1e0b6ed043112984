/*
 * test_parts.c
 *     Handlers and final tasks (core/engine/parts.c), alone, with a cancel, and
 *     over a restart of the driver.
 */
#include "engine_harness.h"

/* load 0, other 1; handler 2; final 3. */
static Harness *
usual(void)
{
    Harness *h = harness_new();

    harness_task(h, "load");
    harness_task(h, "other");
    harness_task(h, "handler")->handler = true;
    harness_task(h, "final")->last = true;
    return h;
}

static void
cancel(Harness *h, bool last)
{
    assert_true(fleet_engine_cancel_run(h->engine, h->run, h->now));
    if (last)
        assert_true(fleet_engine_cancel_final(h->engine, h->run, h->now));
    harness_turn(h);
}

/* ---- final tasks ---- */

static void
a_final_task_comes_last(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    assert_int_equal(counted(h, FLEET_DO_START), 2);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    assert_int_equal(fleet_engine_run_outcome(h->engine, h->run), FLEET_SUCCEEDED);
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 0, 0), h->now));
    finish(h, 3, 0, FLEET_FAILED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CATCH), 0); /* its failure is nobody's */
    harness_free(h);
}

static void
final_tasks_follow_each_other(void **state)
{
    Harness *h = harness_new();

    (void) state;
    harness_task(h, "a");
    harness_task(h, "b")->last = true;
    harness_task(h, "c")->last = true;
    harness_task(h, "d")->last = true;
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 3, FLEET_ON_FAILURE);
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    assert_non_null(found(h, FLEET_DO_START, 1, 0));
    assert_null(found(h, FLEET_DO_START, 2, 0));
    assert_int_equal(fleet_engine_run_outcome(h->engine, h->run), FLEET_FAILED);
    finish(h, 1, 0, FLEET_FAILED);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    assert_true(fleet_engine_retry(h->engine, ref_of(h, 1, 0), h->now));
    harness_turn(h);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 3, 0), FLEET_STARTING); /* it has begun for the failure */
    finish(h, 3, 0, FLEET_SUCCEEDED);
    finish(h, 2, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_FAILED); /* "a" did */
    harness_free(h);
}

static void
a_cancel_leaves_final_tasks(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    cancel(h, false);
    assert_int_equal(state_of(h, 2, 0), FLEET_CANCELED);
    assert_int_equal(state_of(h, 3, 0), FLEET_QUEUED);
    finish(h, 0, 0, FLEET_CANCELED);
    assert_null(found(h, FLEET_DO_START, 3, 0));
    finish(h, 1, 0, FLEET_CANCELED);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    assert_int_equal(fleet_engine_run_outcome(h->engine, h->run), FLEET_CANCELED);
    assert_false(fleet_engine_cancel_run(h->engine, h->run, h->now)); /* once more: no harm */
    assert_int_equal(state_of(h, 3, 0), FLEET_STARTING);
    finish(h, 3, 0, FLEET_FAILED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    harness_free(h);
}

static void
a_cancel_of_final_tasks_too(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    assert_false(fleet_engine_cancel_final(h->engine, h->run, h->now)); /* it goes on */
    cancel(h, true);
    assert_int_equal(state_of(h, 3, 0), FLEET_CANCELED);
    finish(h, 0, 0, FLEET_CANCELED);
    finish(h, 1, 0, FLEET_CANCELED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    harness_free(h);
}

static void
a_running_final_task_is_stopped(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    cancel(h, false);
    assert_int_equal(counted(h, FLEET_DO_CANCEL), 0);
    assert_true(fleet_engine_cancel_final(h->engine, h->run, h->now));
    harness_turn(h);
    assert_non_null(found(h, FLEET_DO_CANCEL, 3, 0));
    finish(h, 3, 0, FLEET_CANCELED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    harness_free(h);
}

/* Nothing of it had begun. */
static void
a_queued_run_that_is_canceled_has_no_final_tasks(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 77, h->now);
    cancel(h, false);
    assert_int_equal(state_of(h, 3, 0), FLEET_CANCELED);
    assert_int_equal(run_state(h), FLEET_CANCELED);
    harness_free(h);
}

static void
a_pause_keeps_final_tasks_back(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    fleet_engine_pause(h->engine, h->run, true, h->now);
    cancel(h, false);
    finish(h, 0, 0, FLEET_CANCELED);
    finish(h, 1, 0, FLEET_CANCELED);
    assert_null(found(h, FLEET_DO_START, 3, 0));
    fleet_engine_pause(h->engine, h->run, false, h->now);
    harness_turn(h);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    harness_free(h);
}

/* "load" is stopped, "final" has begun, or waits; another agent goes on with it. */
static void
final_tasks_after_a_recovery(void **state)
{
    (void) state;
    for (int begun = 0; begun < 2; begun++)
    {
        Harness *h = usual();

        harness_graph(h);
        harness_restart(h);
        fleet_engine_load_running(h->engine, h->run);
        load(h, 0, 0, FLEET_CANCELED, 1, 0);
        load(h, 1, 0, FLEET_SUCCEEDED, 1, 0);
        load(h, 2, 0, FLEET_CANCELED, 0, FLEET_NO_SERVER);
        if (begun)
            load(h, 3, 0, FLEET_RUNNING, 1, 1);
        loaded(h, true);
        assert_int_equal(counted(h, FLEET_DO_CANCEL), 0);
        if (!begun)
        {
            harness_turn(h);
            assert_non_null(found(h, FLEET_DO_START, 3, 0));
        }
        finish(h, 3, 0, FLEET_SUCCEEDED);
        assert_int_equal(run_state(h), FLEET_CANCELED);
        harness_free(h);
    }
}

static void
their_cancel_after_a_recovery(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_graph(h);
    harness_restart(h);
    fleet_engine_load_running(h->engine, h->run);
    fleet_engine_load_cancel_final(h->engine, h->run);
    load(h, 0, 0, FLEET_CANCELED, 1, 0);
    load(h, 1, 0, FLEET_SUCCEEDED, 1, 0);
    load(h, 2, 0, FLEET_CANCELED, 0, FLEET_NO_SERVER);
    load(h, 3, 0, FLEET_RUNNING, 1, 1);
    loaded(h, true);
    assert_non_null(found(h, FLEET_DO_CANCEL, 3, 0));
    harness_free(h);
}

/* ---- handlers ---- */

static void
assert_caught(const Harness *h, uint32_t item, uint32_t task, uint32_t of_item, FleetState how)
{
    const FleetDecision *d = found(h, FLEET_DO_CATCH, 2, item);

    assert_non_null(d);
    assert_int_equal(d->cause.task, task);
    assert_int_equal(d->cause.item, of_item);
    assert_int_equal(d->state, how);
}

static void
a_handler_runs_once_for_each_failure(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    assert_caught(h, 1, 0, 0, FLEET_FAILED);
    assert_non_null(found(h, FLEET_DO_START, 2, 1)); /* "other" still runs */
    finish(h, 1, 0, FLEET_UNKNOWN);
    assert_caught(h, 2, 1, 0, FLEET_UNKNOWN);
    assert_null(found(h, FLEET_DO_START, 2, 2)); /* one at a time */
    finish(h, 2, 1, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 2, 2));
    assert_null(found(h, FLEET_DO_START, 3, 0));
    finish(h, 2, 2, FLEET_FAILED);
    assert_int_equal(state_of(h, 2, 0), FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CATCH), 0);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    finish(h, 3, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
an_edge_handles_it_instead(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_edge(h, 0, 1, FLEET_ON_COMPLETION);
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CATCH), 0);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    finish(h, 3, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
a_strict_run_fails_all_the_same(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_edge(h, 0, 1, FLEET_ON_COMPLETION);
    harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 77, h->now);
    fleet_engine_run_strict(h->engine, h->run);
    harness_turn(h);
    finish(h, 0, 0, FLEET_FAILED);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    finish(h, 3, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
of_items_each_one_is_a_failure(void **state)
{
    Harness *h = usual();

    (void) state;
    h->tasks[0].for_each = true;
    h->tasks[0].completion = FLEET_CONTINUE;
    h->tasks[2].throttle = 2;
    harness_run(h);
    assert_true(fleet_engine_items(h->engine, h->run, 0, 3, NULL, h->now));
    harness_turn(h);
    finish(h, 0, 1, FLEET_FAILED);
    assert_caught(h, 1, 0, 1, FLEET_FAILED);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    finish(h, 0, 3, FLEET_SUCCEEDED);
    finish(h, 0, 2, FLEET_FAILED);
    assert_caught(h, 2, 0, 2, FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CATCH), 1); /* not the whole, too */
    assert_int_equal(state_of(h, 0, 0), FLEET_FAILED);
    finish(h, 2, 1, FLEET_SUCCEEDED);
    finish(h, 2, 2, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 2, 0), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
a_query_that_fails_is_one_too(void **state)
{
    Harness *h = usual();

    (void) state;
    h->tasks[0].for_each = true;
    harness_run(h);
    assert_true(fleet_engine_items_failed(h->engine, h->run, 0, h->now));
    harness_turn(h);
    assert_caught(h, 1, 0, 0, FLEET_FAILED);
    harness_free(h);
}

static void
a_retry_that_fails_is_another_failure(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    finish(h, 1, 0, FLEET_SUCCEEDED);
    finish(h, 0, 0, FLEET_FAILED);
    assert_true(fleet_engine_retry(h->engine, ref_of(h, 0, 0), h->now)); /* its handler runs */
    harness_turn(h);
    finish(h, 2, 1, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 2, 0), FLEET_RUNNING); /* it may be needed again */
    finish(h, 0, 0, FLEET_LOST);
    assert_caught(h, 2, 0, 0, FLEET_LOST);
    finish(h, 2, 2, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    assert_false(fleet_engine_retry(h->engine, ref_of(h, 0, 0), h->now));
    harness_free(h);
}

static void
a_handler_that_is_left_out(void **state)
{
    (void) state;
    for (int by_request = 0; by_request < 2; by_request++)
    {
        Harness *h = usual();

        h->tasks[2].left_out = !by_request;
        harness_run(h);
        if (by_request)
            assert_true(fleet_engine_skip(h->engine, ref_of(h, 2, 0), h->now));
        assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
        finish(h, 0, 0, FLEET_FAILED);
        assert_int_equal(counted(h, FLEET_DO_CATCH), 0);
        harness_free(h);
    }
}

static void
after_a_cancel_nothing_is_caught(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    cancel(h, false);
    assert_non_null(found(h, FLEET_DO_CANCEL, 2, 1));
    finish(h, 1, 0, FLEET_FAILED);
    assert_int_equal(counted(h, FLEET_DO_CATCH), 0);
    finish(h, 2, 1, FLEET_CANCELED);
    assert_int_equal(state_of(h, 2, 0), FLEET_CANCELED);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    harness_free(h);
}

/* One execution is over, one runs, one waits; "other" fails later. */
static void
handlers_after_a_recovery(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_graph(h);
    harness_restart(h);
    fleet_engine_load_running(h->engine, h->run);
    fleet_engine_load_items(h->engine, h->run, 2, 3);
    load(h, 0, 0, FLEET_FAILED, 1, 0);
    load(h, 1, 0, FLEET_RUNNING, 1, 0);
    load(h, 2, 1, FLEET_SUCCEEDED, 1, 0);
    load(h, 2, 2, FLEET_RUNNING, 1, 0);
    loaded(h, false);
    assert_int_equal(counted(h, FLEET_DO_CATCH), 0);
    assert_int_equal(state_of(h, 2, 0), FLEET_RUNNING);
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    finish(h, 2, 2, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 2, 3));
    finish(h, 1, 0, FLEET_FAILED);
    assert_caught(h, 4, 1, 0, FLEET_FAILED);
    finish(h, 2, 3, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 2, 4));
    finish(h, 2, 4, FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 3, 0));
    harness_free(h);
}

/* A hundred thousand failures: one at a time, a unit each. */
static void
very_many_failures(void **state)
{
    enum
    {
        N = 100000
    };
    Harness *h = usual();
    size_t before;
    uint32_t done = 0;

    (void) state;
    h->tasks[0].for_each = true;
    h->tasks[0].completion = FLEET_CONTINUE;
    h->tasks[0].kind = FLEET_TASK_PACKAGE; /* all at once */
    harness_run(h);
    assert_true(fleet_engine_items(h->engine, h->run, 0, N, NULL, h->now));
    harness_turn(h);
    before = fleet_engine_memory(h->engine);
    for (uint32_t i = 1; i <= N; i++)
        assert_true(finish_with(h, 0, i, FLEET_FAILED, NULL));
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_CATCH), N);
    assert_int_equal(counted(h, FLEET_DO_START), 1);
    /* the queue of decisions is as long as one turn may be; the units are doubled at most */
    assert_in_range((fleet_engine_memory(h->engine) - before) / N, 0, 400);
    for (; done < 1000; done++)
    {
        finish(h, 2, done + 1, FLEET_SUCCEEDED);
        assert_non_null(found(h, FLEET_DO_START, 2, done + 2)); /* in order */
    }
    harness_free(h);
}

/* ---- definitions ---- */

static void
refused(Harness *h, const char *message)
{
    FleetError error;

    assert_null(
        fleet_graph_create(&fleet_malloc_alloc, h->tasks, h->ntasks, h->edges, h->nedges, &error));
    assert_non_null(strstr(error.message, message));
    assert_true(error.hint[0] != '\0');
    h->nedges = 0;
}

static void
what_cannot_be(void **state)
{
    Harness *h = usual();

    (void) state;
    harness_edge(h, 0, 3, FLEET_ON_SUCCESS);
    refused(h, "between the final task \"final\" and task \"load\"");
    harness_edge(h, 3, 0, FLEET_ON_SUCCESS);
    refused(h, "between the final task \"final\" and task \"load\"");
    harness_edge(h, 0, 2, FLEET_ON_FAILURE);
    refused(h, "task \"handler\" catches failures, and has no precedence constraints");
    harness_edge(h, 2, 1, FLEET_ON_SUCCESS);
    refused(h, "task \"handler\" catches failures, and has no precedence constraints");
    h->tasks[2].last = true;
    refused(h, "catches failures and is a final task");
    h->tasks[2].last = false;
    h->tasks[2].for_each = true;
    refused(h, "catches failures and has a for_each");
    harness_free(h);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_final_task_comes_last),
        cmocka_unit_test(final_tasks_follow_each_other),
        cmocka_unit_test(a_cancel_leaves_final_tasks),
        cmocka_unit_test(a_cancel_of_final_tasks_too),
        cmocka_unit_test(a_running_final_task_is_stopped),
        cmocka_unit_test(a_queued_run_that_is_canceled_has_no_final_tasks),
        cmocka_unit_test(a_pause_keeps_final_tasks_back),
        cmocka_unit_test(final_tasks_after_a_recovery),
        cmocka_unit_test(their_cancel_after_a_recovery),
        cmocka_unit_test(a_handler_runs_once_for_each_failure),
        cmocka_unit_test(an_edge_handles_it_instead),
        cmocka_unit_test(a_strict_run_fails_all_the_same),
        cmocka_unit_test(of_items_each_one_is_a_failure),
        cmocka_unit_test(a_query_that_fails_is_one_too),
        cmocka_unit_test(a_retry_that_fails_is_another_failure),
        cmocka_unit_test(a_handler_that_is_left_out),
        cmocka_unit_test(after_a_cancel_nothing_is_caught),
        cmocka_unit_test(handlers_after_a_recovery),
        cmocka_unit_test(very_many_failures),
        cmocka_unit_test(what_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
