/*
 * test/core/test_stat.c
 *     Counters (core/stat.h): buckets to the microsecond, sums, outcomes, and
 *     how often they may be written.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "core/stat.h"

static int64_t
sum_of(const FleetHistogram *histogram)
{
    int64_t sum = 0;

    for (int i = 0; i < FLEET_STAT_BUCKETS; i++)
        sum += histogram->counts[i];
    return sum;
}

static void
a_bound_is_in_its_bucket(void **state)
{
    (void) state;
    assert_int_equal(fleet_stat_bucket(0), 0);
    for (int i = 0; i < FLEET_STAT_BUCKETS - 1; i++)
    {
        assert_int_equal(fleet_stat_bucket(fleet_stat_bounds[i] - 1), i);
        assert_int_equal(fleet_stat_bucket(fleet_stat_bounds[i]), i);
        assert_int_equal(fleet_stat_bucket(fleet_stat_bounds[i] + 1), i + 1);
        if (i > 0)
            assert_true(fleet_stat_bounds[i] > fleet_stat_bounds[i - 1]);
    }
    assert_int_equal(fleet_stat_bucket(INT64_MAX), FLEET_STAT_BUCKETS - 1);
}

static void
a_histogram_adds_up(void **state)
{
    FleetHistogram histogram = {0};

    (void) state;
    fleet_histogram_add(&histogram, FLEET_MS(5));
    fleet_histogram_add(&histogram, FLEET_SECONDS(100000));
    fleet_histogram_add(&histogram, -7); /* the clock was set back */
    assert_int_equal(histogram.sum, FLEET_MS(5) + FLEET_SECONDS(100000));
    assert_int_equal(sum_of(&histogram), 3);
    assert_int_equal(histogram.counts[0], 1);
    assert_int_equal(histogram.counts[1], 1);
    assert_int_equal(histogram.counts[FLEET_STAT_BUCKETS - 1], 1);
}

static void
runs_by_outcome(void **state)
{
    FleetStat stat = {0};

    (void) state;
    fleet_stat_run_ended(&stat, FLEET_SUCCEEDED, FLEET_MS(1), FLEET_SECONDS(2));
    fleet_stat_run_ended(&stat, FLEET_FAILED, FLEET_MS(1), FLEET_SECONDS(3));
    fleet_stat_run_ended(&stat, FLEET_CANCELED, FLEET_STAT_NOT_BEGUN, FLEET_STAT_NOT_BEGUN);
    fleet_stat_run_ended(&stat, FLEET_UNKNOWN, 0, 0);
    assert_int_equal(stat.runs[0], 1);
    assert_int_equal(stat.runs[1], 1);
    assert_int_equal(stat.runs[2], 1);
    assert_int_equal(stat.runs[FLEET_STAT_OUTCOMES - 1], 1);
    assert_int_equal(sum_of(&stat.run_wait), 3); /* what was canceled in the queue never began */
    assert_int_equal(sum_of(&stat.run_work), 3);
    assert_int_equal(stat.run_work.sum, FLEET_SECONDS(5));
}

/* A task run that fails twice and then succeeds: one outcome, two retries, one wait. */
static void
a_retry_is_no_outcome(void **state)
{
    static const FleetState way[] = {FLEET_QUEUED,    FLEET_STARTING, FLEET_RUNNING,
                                     FLEET_RETRYING,  FLEET_STARTING, FLEET_RUNNING,
                                     FLEET_RETRYING,  FLEET_STARTING, FLEET_RUNNING,
                                     FLEET_SUCCEEDED, FLEET_SUCCEEDED};
    FleetStat stat = {0};
    int attempt = 0;

    (void) state;
    for (int i = 1; i < (int) (sizeof(way) / sizeof(way[0])); i++)
    {
        fleet_stat_task_moved(&stat, way[i - 1], way[i]);
        fleet_stat_attempt_moved(&stat, way[i - 1], way[i]);
        if (way[i] == FLEET_STARTING)
            fleet_stat_attempt_begun(&stat, ++attempt, FLEET_MS(10));
        assert_int_equal(stat.running, way[i] == FLEET_STARTING || way[i] == FLEET_RUNNING);
    }
    assert_int_equal(stat.tasks[0], 1);
    for (int i = 1; i < FLEET_STAT_OUTCOMES; i++)
        assert_int_equal(stat.tasks[i], 0);
    assert_int_equal(stat.retries, 2);
    assert_int_equal(sum_of(&stat.wait), 1);
    assert_int_equal(stat.wait.sum, FLEET_MS(10));
}

/* Somebody wants what has failed once more: it ends twice. */
static void
what_ends_again_is_counted_again(void **state)
{
    FleetStat stat = {0};

    (void) state;
    fleet_stat_task_moved(&stat, FLEET_RUNNING, FLEET_FAILED);
    fleet_stat_task_moved(&stat, FLEET_FAILED, FLEET_QUEUED);
    fleet_stat_task_moved(&stat, FLEET_QUEUED, FLEET_SUCCEEDED);
    assert_int_equal(stat.tasks[FLEET_FAILED - FLEET_SUCCEEDED], 1);
    assert_int_equal(stat.tasks[0], 1);
}

/* As long as the table does not grow they may be written at any time. */
static void
the_pace_slows_down_and_recovers(void **state)
{
    FleetStatPace pace = {0};
    FleetTime now = FLEET_SECONDS(1000);

    (void) state;
    for (int i = 0; i < 100; i++)
        fleet_stat_pace_written(&pace, false, now);
    assert_int_equal(pace.not_before, 0);
    fleet_stat_pace_written(&pace, true, now);
    assert_int_equal(pace.not_before, now + FLEET_SECONDS(5));
    for (int i = 0; i < 32; i++) /* a page without old versions takes a few: that says nothing */
        fleet_stat_pace_written(&pace, false, now);
    assert_int_equal(pace.not_before, now + FLEET_SECONDS(5));
    fleet_stat_pace_written(&pace, false, now);
    assert_int_equal(pace.not_before, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bound_is_in_its_bucket),
        cmocka_unit_test(a_histogram_adds_up),
        cmocka_unit_test(runs_by_outcome),
        cmocka_unit_test(a_retry_is_no_outcome),
        cmocka_unit_test(what_ends_again_is_counted_again),
        cmocka_unit_test(the_pace_slows_down_and_recovers),
    };

    return cmocka_run_group_tests_name("counters", tests, NULL, NULL);
}
