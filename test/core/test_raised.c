/*
 * test/core/test_raised.c
 *     Kinds of events (core/raised.h), and what it costs to ask for each child
 *     whether it raises one.
 */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>

#include "core/raised.h"

static void
names_are_unique(void **state)
{
    (void) state;
    for (int a = 0; a < FLEET_RAISED_COUNT; a++)
    {
        assert_non_null(fleet_raised_name((FleetRaised) a));
        for (int b = 0; b < a; b++)
            assert_string_not_equal(fleet_raised_name((FleetRaised) a),
                                    fleet_raised_name((FleetRaised) b));
    }
}

static void
what_tasks_and_runs_raise(void **state)
{
    (void) state;
    assert_int_equal(fleet_raised_of_task(FLEET_SUCCEEDED), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_task(FLEET_CANCELED), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_task(FLEET_SKIPPED), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_task(FLEET_RUNNING), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_task(FLEET_FAILED), FLEET_RAISED_TASK_FAILED);
    assert_int_equal(fleet_raised_of_task(FLEET_RETRYING), FLEET_RAISED_TASK_RETRIED);
    assert_int_equal(fleet_raised_of_task(FLEET_LOST), FLEET_RAISED_TASK_LOST);
    assert_int_equal(fleet_raised_of_task(FLEET_UNKNOWN), FLEET_RAISED_TASK_UNKNOWN);
    assert_int_equal(fleet_raised_of_run(FLEET_CANCELING), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_run(FLEET_RUNNING), FLEET_RAISED_RUN_STARTED);
    assert_int_equal(fleet_raised_of_run(FLEET_SUCCEEDED), FLEET_RAISED_RUN_SUCCEEDED);
    assert_int_equal(fleet_raised_of_run(FLEET_FAILED), FLEET_RAISED_RUN_FAILED);
    assert_int_equal(fleet_raised_of_run(FLEET_CANCELED), FLEET_RAISED_RUN_CANCELED);
}

static void
what_servers_raise(void **state)
{
    (void) state;
    assert_int_equal(fleet_raised_of_server("unknown", "up"), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_server("up", "up"), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_server("up", "suspect"), FLEET_RAISED_SERVER_SUSPECT);
    assert_int_equal(fleet_raised_of_server("suspect", "suspect"), FLEET_RAISED_NOTHING);
    assert_int_equal(fleet_raised_of_server("suspect", "auth_failed"),
                     FLEET_RAISED_SERVER_AUTH_FAILED);
    assert_int_equal(fleet_raised_of_server("unknown", "refused"), FLEET_RAISED_SERVER_REFUSED);
    assert_int_equal(fleet_raised_of_server("auth_failed", "up"), FLEET_RAISED_SERVER_BACK);
    assert_int_equal(fleet_raised_of_server("suspect", "unknown"), FLEET_RAISED_NOTHING);
}

/* Told, and not judged by a clock: a machine that is busy fails no test. */
static void
what_a_child_costs(void **state)
{
    enum
    {
        CHILDREN = 20000000
    };
    volatile FleetState succeeds = FLEET_SUCCEEDED;
    struct timespec began, ended;
    int raised = 0;

    (void) state;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began);
    for (int i = 0; i < CHILDREN; i++)
        raised += fleet_raised_of_task(succeeds) != FLEET_RAISED_NOTHING;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended);
    assert_int_equal(raised, 0);
    printf(
        "events: %.2f ns of processor time for each child that succeeds\n",
        ((double) (ended.tv_sec - began.tv_sec) * 1e9 + (double) (ended.tv_nsec - began.tv_nsec)) /
            CHILDREN);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(what_tasks_and_runs_raise),
        cmocka_unit_test(what_servers_raise),
        cmocka_unit_test(what_a_child_costs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
