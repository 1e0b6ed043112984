/*
 * test/core/test_estimate.c
 *     Durations are learned, and outliers do not unlearn them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/estimate.h"

#include <math.h>

static FleetTime
lognormal(FleetRandom *random, double median, double sigma)
{
    return (FleetTime) (median * exp(sigma * fleet_random_normal(random)));
}

static double
predicted(const FleetEstimate *estimate)
{
    return (double) fleet_estimate_predict(estimate, NULL, NULL);
}

static void
assert_within(double value, double expected, double factor)
{
    if (!(value < expected * factor && value > expected / factor))
        fail_msg("%g is not within a factor of %g of %g", value, factor, expected);
}

static void
test_cold_start(void **state)
{
    FleetEstimate none, one;

    (void) state;
    fleet_estimate_init(&none);
    fleet_estimate_init(&one);
    assert_true(fleet_estimate_confidence(&none) == 0);
    assert_int_equal(fleet_estimate_predict(NULL, NULL, NULL), 0);
    assert_int_equal(fleet_estimate_predict(&none, &none, NULL), 0);
    fleet_estimate_add(&one, FLEET_SECONDS(10), 1);
    assert_within(predicted(&one), 10e6, 1.001);
    /* what has no sample says nothing, at any level */
    assert_within((double) fleet_estimate_predict(&none, &one, NULL), 10e6, 1.001);
    assert_within((double) fleet_estimate_predict(NULL, NULL, &one), 10e6, 1.001);
    /* zero, negative and huge durations, a speed that is none */
    fleet_estimate_init(&one);
    fleet_estimate_add(&one, 0, 0);
    fleet_estimate_add(&one, -5, -1);
    assert_int_equal(fleet_estimate_predict(&one, NULL, NULL), 1);
    fleet_estimate_init(&one);
    fleet_estimate_add(&one, INT64_MAX, 1000);
    assert_true(fleet_estimate_predict(&one, NULL, NULL) == FLEET_NEVER - 1);
    fleet_estimate_init(&one);
    fleet_estimate_add(&one, 1, 0.001);
    assert_int_equal(fleet_estimate_predict(&one, NULL, NULL), 1);
}

static void
test_normalised_to_speed_one(void **state)
{
    FleetEstimate estimate;

    (void) state;
    fleet_estimate_init(&estimate);
    for (int i = 0; i < 30; i++)
    {
        static const double speeds[] = {0.5, 1, 2, 4};
        double speed = speeds[i % 4];

        fleet_estimate_add(&estimate, (FleetTime) (60e6 / speed), speed);
    }
    assert_within(predicted(&estimate), 60e6, 1.001);
}

static void
test_confidence(void **state)
{
    FleetEstimate narrow, wide;
    FleetRandom random;
    double before = 0;

    (void) state;
    fleet_random_seed(&random, 3);
    fleet_estimate_init(&narrow);
    for (int i = 0; i < 20; i++)
    {
        fleet_estimate_add(&narrow, FLEET_SECONDS(5), 1);
        assert_true(fleet_estimate_confidence(&narrow) > before);
        before = fleet_estimate_confidence(&narrow);
        assert_true(before < 1);
    }
    fleet_estimate_init(&wide);
    for (int i = 0; i < 20; i++)
        fleet_estimate_add(&wide, lognormal(&random, 5e6, 2), 1);
    assert_true(fleet_estimate_confidence(&wide) < fleet_estimate_confidence(&narrow));
}

static void
test_levels(void **state)
{
    FleetEstimate item, task, job;
    double first, later;

    (void) state;
    fleet_estimate_init(&item);
    fleet_estimate_init(&task);
    fleet_estimate_init(&job);
    for (int i = 0; i < 50; i++)
    {
        fleet_estimate_add(&task, FLEET_SECONDS(10), 1);
        fleet_estimate_add(&job, FLEET_SECONDS(1000), 1);
    }
    assert_within((double) fleet_estimate_predict(NULL, &task, &job), 10e6, 1.1);
    fleet_estimate_add(&item, FLEET_SECONDS(100), 1);
    first = (double) fleet_estimate_predict(&item, &task, &job);
    assert_true(first > 15e6 && first < 90e6); /* one sample is half a reason */
    for (int i = 0; i < 10; i++)
        fleet_estimate_add(&item, FLEET_SECONDS(100), 1);
    later = (double) fleet_estimate_predict(&item, &task, &job);
    assert_true(later > first);
    assert_within(later, 100e6, 1.2);
}

/* 5 % of the samples a hundred times too long: the prediction stays within 25 %. */
static void
test_outliers(void **state)
{
    FleetRandom random;

    (void) state;
    fleet_random_seed(&random, 11);
    for (int round = 0; round < 500; round++)
    {
        FleetEstimate clean, dirty;
        double sigma = 0.1 + 0.4 * fleet_random_unit(&random), sum = 0;

        fleet_estimate_init(&clean);
        fleet_estimate_init(&dirty);
        for (int i = 0; i < 400; i++)
        {
            FleetTime duration = lognormal(&random, 30e6, sigma);

            fleet_estimate_add(&clean, duration, 1);
            fleet_estimate_add(&dirty,
                               fleet_random_below(&random, 20) == 0 ? duration * 100 : duration, 1);
            if (i >= 200)
                sum += dirty.log_mean - clean.log_mean;
        }
        assert_within(predicted(&clean), 30e6, 2);
        assert_true(fabs(sum / 200) < log(1.25));
    }
}

/* One outlier, at any time, moves the prediction by a bounded factor; also the very first sample. */
static void
test_single_outlier(void **state)
{
    (void) state;
    for (int at = 0; at < 40; at++)
    {
        FleetEstimate estimate;
        double before;

        fleet_estimate_init(&estimate);
        for (int i = 0; i < at; i++)
            fleet_estimate_add(&estimate, FLEET_SECONDS(20), 1);
        before = predicted(&estimate);
        fleet_estimate_add(&estimate, FLEET_SECONDS(2000000), 1);
        if (at > 0)
            assert_within(predicted(&estimate), before, 2);
        for (int i = 0; i < 30; i++)
            fleet_estimate_add(&estimate, FLEET_SECONDS(20), 1);
        assert_within(predicted(&estimate), 20e6, 1.5);
    }
}

static void
test_follows_a_change(void **state)
{
    FleetEstimate estimate;
    FleetRandom random;

    (void) state;
    fleet_random_seed(&random, 5);
    fleet_estimate_init(&estimate);
    for (int i = 0; i < 1000; i++)
        fleet_estimate_add(&estimate, lognormal(&random, 10e6, 0.1), 1);
    for (int i = 0; i < 40; i++)
        fleet_estimate_add(&estimate, lognormal(&random, 40e6, 0.1), 1);
    assert_within(predicted(&estimate), 40e6, 1.3);
}

/* The mean of work that is spread: what many of them take together, not what one most likely takes. */
static void
test_mean(void **state)
{
    FleetRandom random;
    FleetEstimate estimate;

    (void) state;
    fleet_estimate_init(&estimate);
    assert_int_equal(fleet_estimate_mean(&estimate), 0);
    fleet_estimate_add(&estimate, FLEET_SECONDS(10), 1);
    assert_within((double) fleet_estimate_mean(&estimate), 10e6, 1.001);
    fleet_random_seed(&random, 17);
    for (int round = 0; round < 200; round++)
    {
        double sigma = 0.1 + fleet_random_unit(&random), sum = 0, means = 0;

        fleet_estimate_init(&estimate);
        for (int i = 0; i < 2000; i++)
        {
            FleetTime duration = lognormal(&random, 5e6, sigma);

            fleet_estimate_add(&estimate, duration, 1);
            sum += (double) duration;
            means += (double) fleet_estimate_mean(&estimate);
        }
        assert_within(means, sum, 1.2);
    }
    estimate = (FleetEstimate){40, 1e9, 9};
    assert_true(fleet_estimate_mean(&estimate) < FLEET_NEVER);
    estimate = (FleetEstimate){-5, 0.1, 9};
    assert_int_equal(fleet_estimate_mean(&estimate), 1);
}

/* Items of which nothing is known but how big they are, and such of which more is. */
static void
test_costs(void **state)
{
    static const double sizes[] = {1, 10, 100, 0, -1};
    FleetCosts costs = {0};
    FleetEstimate task, item;

    (void) state;
    assert_true(fleet_cost_valid(0) && fleet_cost_valid(1e300));
    assert_false(fleet_cost_valid(-0.1) || fleet_cost_valid(NAN) || fleet_cost_valid(INFINITY));
    /* without any: the task's, or what is assumed */
    assert_within((double) fleet_estimate_by_cost(NULL, NULL, &costs, 7, FLEET_SECONDS(60)), 60e6,
                  1.001);
    for (int i = 0; i < 5; i++)
        fleet_costs_add(&costs, sizes[i]);
    assert_int_equal(costs.count, 3);
    assert_within((double) fleet_estimate_by_cost(NULL, NULL, &costs, 1, FLEET_SECONDS(60)), 6e6,
                  1.001);
    assert_within((double) fleet_estimate_by_cost(NULL, NULL, &costs, 100, FLEET_SECONDS(60)),
                  600e6, 1.001);
    assert_within((double) fleet_estimate_by_cost(NULL, NULL, &costs, -1, FLEET_SECONDS(60)), 60e6,
                  1.001);
    assert_in_range(fleet_estimate_by_cost(NULL, NULL, &costs, 0, FLEET_SECONDS(60)), 1, 100);
    assert_true(fleet_estimate_by_cost(NULL, NULL, &costs, 1e308, FLEET_SECONDS(60)) <
                FLEET_SECONDS(1) * 100000000);
    /* what was learned of the task is that of an item of mean cost */
    fleet_estimate_init(&task);
    for (int i = 0; i < 20; i++)
        fleet_estimate_add(&task, FLEET_SECONDS(2), 1);
    assert_within((double) fleet_estimate_by_cost(NULL, &task, &costs, 100, FLEET_SECONDS(60)),
                  20e6, 1.001);
    assert_within((double) fleet_estimate_by_cost(NULL, &task, &costs, -1, FLEET_SECONDS(60)), 2e6,
                  1.001);
    /* what was learned of the item counts more, the more often it was seen */
    fleet_estimate_init(&item);
    fleet_estimate_add(&item, FLEET_SECONDS(5), 1);
    assert_within((double) fleet_estimate_by_cost(&item, &task, &costs, 100, FLEET_SECONDS(60)),
                  10e6, 1.2);
    for (int i = 0; i < 50; i++)
        fleet_estimate_add(&item, FLEET_SECONDS(5), 1);
    assert_within((double) fleet_estimate_by_cost(&item, &task, &costs, 100, FLEET_SECONDS(60)),
                  5e6, 1.05);
    fleet_estimate_init(&task);
    assert_within((double) fleet_estimate_by_cost(&item, &task, &costs, 100, FLEET_SECONDS(60)),
                  5e6, 1.001);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cold_start),
        cmocka_unit_test(test_normalised_to_speed_one),
        cmocka_unit_test(test_confidence),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_outliers),
        cmocka_unit_test(test_single_outlier),
        cmocka_unit_test(test_follows_a_change),
        cmocka_unit_test(test_mean),
        cmocka_unit_test(test_costs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
