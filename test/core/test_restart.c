/*
 * test_restart.c
 *     Restarts: which tasks run again (core/restart.h), and what the engine
 *     makes of those that are carried over; and tasks that are left out.
 */
#include "engine_harness.h"

#include "core/restart.h"

static void
tasks(Harness *h, uint32_t n)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};

    for (uint32_t i = 0; i < n; i++)
        harness_task(h, names[i]);
}

/* One letter a task: c(arry), r(esume), a(fresh), d(ecide). */
static void
assert_plan(const Harness *h, const FleetState *old, const bool *chosen, const char *expected)
{
    FleetRestartPart parts[HARNESS_TASKS];

    fleet_restart_plan(h->graph, old, chosen, parts);
    for (uint32_t t = 0; t < h->ntasks; t++)
        assert_int_equal(" crad"[parts[t]], expected[t]);
}

static void
what_follows_runs_again(void **state)
{
    static const FleetState old[] = {FLEET_SUCCEEDED, FLEET_FAILED,    FLEET_SUCCEEDED,
                                     FLEET_SKIPPED,   FLEET_SUCCEEDED, FLEET_SKIPPED};
    static const bool second[] = {false, true, false, false, false, false};
    static const bool first[] = {true, false, false, false, false, false};
    Harness *h = harness_new();

    (void) state;
    tasks(h, 6);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_COMPLETION);
    harness_edge(h, 1, 3, FLEET_ON_SUCCESS);
    harness_edge(h, 4, 5, FLEET_ON_FAILURE); /* apart: e succeeded, f was not needed */
    harness_graph(h);
    assert_plan(h, old, NULL, "craacd");
    assert_plan(h, old, second, "caaacd");
    assert_plan(h, old, first, "aaaacd");
    harness_free(h);
}

static void
every_bad_end_runs_again(void **state)
{
    static const FleetState bad[] = {FLEET_FAILED, FLEET_CANCELED, FLEET_LOST, FLEET_UNKNOWN,
                                     FLEET_QUEUED /* it was not in the old run */};
    Harness *h = harness_new();

    (void) state;
    tasks(h, 1);
    harness_graph(h);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_plan(h, &bad[i], NULL, "r");
    harness_free(h);
}

static void
conditions_are_kept_unless_their_source_changes(void **state)
{
    static const FleetState old[] = {FLEET_SUCCEEDED, FLEET_FAILED, FLEET_SKIPPED};
    static const bool second[] = {false, true, false};
    FleetRestartPart parts[3];
    Harness *h = harness_new();

    (void) state;
    tasks(h, 3);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_graph(h);
    fleet_restart_plan(h->graph, old, NULL, parts);
    assert_true(fleet_restart_keeps(h->graph, 0, NULL, parts));
    assert_false(fleet_restart_keeps(h->graph, 1, NULL, parts));
    assert_false(fleet_restart_keeps(h->graph, 0, second, parts)); /* chosen: asked again */
    harness_free(h);
}

static void
carried_tasks_are_not_told_of(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 3);
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    h->tasks[0].for_each = true; /* carried as a whole: it is not expanded */
    harness_graph(h);
    harness_restart(h);
    fleet_engine_carry(h->engine, h->run, 0);
    load(h, 1, 0, FLEET_QUEUED, 0, FLEET_NO_SERVER);
    loaded(h, false);
    assert_int_equal(run_state(h), FLEET_QUEUED); /* it has not begun */
    harness_turn(h);
    assert_int_equal(run_state(h), FLEET_RUNNING);
    assert_int_equal(counted(h, FLEET_DO_RUN), 1);
    assert_int_equal(counted(h, FLEET_DO_EXPAND), 0);
    assert_int_equal(counted(h, FLEET_DO_STATE), 0);
    assert_non_null(found(h, FLEET_DO_START, 1, 0));
    finish(h, 1, 0, FLEET_SUCCEEDED);
    finish(h, 2, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
all_is_carried(void **state)
{
    Harness *h = harness_new();

    (void) state;
    tasks(h, 1);
    harness_graph(h);
    harness_restart(h);
    fleet_engine_carry(h->engine, h->run, 0);
    loaded(h, false);
    harness_turn(h);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
carried_items_do_not_start(void **state)
{
    static const bool carried[] = {true, false, true, true, false};
    Harness *h = harness_new();

    (void) state;
    tasks(h, 2);
    h->tasks[0].for_each = true;
    h->tasks[0].throttle = 1;
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_run(h);
    assert_true(fleet_engine_items_again(h->engine, h->run, 0, 5, NULL, carried, h->now));
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_START), 1);
    assert_non_null(found(h, FLEET_DO_START, 0, 2));
    assert_int_equal(state_of(h, 0, 1), FLEET_SUCCEEDED);
    finish(h, 0, 2, FLEET_SUCCEEDED);
    finish(h, 0, 5, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 0, 0), FLEET_SUCCEEDED);
    assert_non_null(found(h, FLEET_DO_START, 1, 0));
    harness_free(h);
}

static void
all_items_are_carried(void **state)
{
    static const bool carried[] = {true, true};
    Harness *h = harness_new();

    (void) state;
    tasks(h, 1);
    h->tasks[0].for_each = true;
    harness_run(h);
    assert_true(fleet_engine_items_again(h->engine, h->run, 0, 2, NULL, carried, h->now));
    harness_turn(h);
    assert_int_equal(counted(h, FLEET_DO_START), 0);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

/* a, then b, which is left out, then c; d only after a failure of b. */
static Harness *
left_out_run(void)
{
    Harness *h = harness_new();

    tasks(h, 4);
    h->tasks[1].left_out = true;
    harness_edge(h, 0, 1, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 2, FLEET_ON_SUCCESS);
    harness_edge(h, 1, 3, FLEET_ON_FAILURE);
    return h;
}

static void
left_out_in_its_turn(void **state)
{
    Harness *h = left_out_run();

    (void) state;
    harness_run(h);
    assert_int_equal(state_of(h, 1, 0), FLEET_QUEUED);
    finish(h, 0, 0, FLEET_SUCCEEDED);
    assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
    assert_int_equal(state_of(h, 3, 0), FLEET_SKIPPED);
    assert_non_null(found(h, FLEET_DO_START, 2, 0));
    finish(h, 2, 0, FLEET_SUCCEEDED);
    assert_int_equal(run_state(h), FLEET_SUCCEEDED);
    harness_free(h);
}

static void
left_out_after_a_failure(void **state)
{
    Harness *h = left_out_run();

    (void) state;
    harness_run(h);
    finish(h, 0, 0, FLEET_FAILED);
    assert_int_equal(state_of(h, 1, 0), FLEET_SKIPPED);
    assert_int_equal(state_of(h, 2, 0), FLEET_SKIPPED);
    assert_int_equal(run_state(h), FLEET_FAILED);
    harness_free(h);
}

static void
left_out_is_known_after_a_restart_of_the_agent(void **state)
{
    (void) state;
    for (int good = 0; good < 2; good++)
    {
        Harness *h = left_out_run();

        harness_graph(h);
        harness_restart(h);
        load(h, 0, 0, good ? FLEET_SUCCEEDED : FLEET_FAILED, 1, 0);
        load(h, 1, 0, FLEET_SKIPPED, 0, FLEET_NO_SERVER);
        fleet_engine_load_running(h->engine, h->run);
        loaded(h, false);
        harness_turn(h);
        assert_int_equal(state_of(h, 2, 0), good ? FLEET_STARTING : FLEET_SKIPPED);
        harness_free(h);
    }
}

int
main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(what_follows_runs_again),
        cmocka_unit_test(every_bad_end_runs_again),
        cmocka_unit_test(conditions_are_kept_unless_their_source_changes),
        cmocka_unit_test(carried_tasks_are_not_told_of),
        cmocka_unit_test(all_is_carried),
        cmocka_unit_test(carried_items_do_not_start),
        cmocka_unit_test(all_items_are_carried),
        cmocka_unit_test(left_out_in_its_turn),
        cmocka_unit_test(left_out_after_a_failure),
        cmocka_unit_test(left_out_is_known_after_a_restart_of_the_agent),
    };

    return cmocka_run_group_tests(all, NULL, NULL);
}
