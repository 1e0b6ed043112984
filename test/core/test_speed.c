/*
 * test/core/test_speed.c
 *     Speeds are learned from what differs between servers, and from nothing
 *     else: night after night of a package, played through the planner, whose
 *     lengths and speeds are learned as the agent learns them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/estimate.h"
#include "core/plan/plan.h"
#include "core/speed.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum
{
    SERVERS_MOST = 6,
    TASKS_MOST = 24,
    ITEMS_MOST = 40
};

#define ITEM_FROM FLEET_MS(50) /* LEARN_ITEM_FROM of agent/learn.c */

typedef struct Fleet
{
    FleetRandom random;
    uint32_t nservers, ntasks;
    double speeds[SERVERS_MOST]; /* as they are */
    double nights[SERVERS_MOST]; /* … and what tonight makes of them */
    FleetSpeed learned[SERVERS_MOST], *all[SERVERS_MOST];
    FleetServerSpec servers[SERVERS_MOST];
    uint32_t members[SERVERS_MOST];
    FleetTaskSpec tasks[TASKS_MOST];
    FleetPlanItems items[TASKS_MOST];
    uint32_t nitems;
    double lengths[TASKS_MOST][ITEMS_MOST + 1]; /* item 0: the task without a for_each */
    FleetTime expected[TASKS_MOST][ITEMS_MOST + 1];
    FleetEstimate by_task[TASKS_MOST], by_item[TASKS_MOST][ITEMS_MOST + 1];
    bool item_known[TASKS_MOST][ITEMS_MOST + 1];
    double noise;    /* of each piece */
    double night;    /* of a server, a whole night */
    FleetTime start; /* of each piece, the same everywhere */
} Fleet;

static void
assert_speed(const Fleet *fleet, uint32_t server, double expected, double factor, uint64_t seed,
             int night)
{
    double value = fleet_speed_value(&fleet->learned[server]);

    if (!(value < expected * factor && value > expected / factor))
        fail_msg("seed %llu, night %d: speed of server %u is %g, not within %g of %g",
                 (unsigned long long) seed, night, server, value, factor, expected);
}

static Fleet *
fleet_make(uint64_t seed)
{
    Fleet *fleet = calloc(1, sizeof(Fleet));
    FleetRandom *random = &fleet->random;

    fleet_random_seed(random, seed);
    fleet->nservers = 2 + fleet_random_below(random, SERVERS_MOST - 1);
    fleet->ntasks = 1 + fleet_random_below(random, TASKS_MOST);
    fleet->noise = 0.02 + 0.3 * fleet_random_unit(random);
    fleet->night = 0.1 * fleet_random_unit(random);
    fleet->start = (FleetTime) fleet_random_below(random, 10000);
    for (uint32_t s = 0; s < fleet->nservers; s++)
    {
        fleet_speed_init(&fleet->learned[s]);
        fleet->all[s] = &fleet->learned[s];
        fleet->speeds[s] = 1;
        fleet->servers[s] = (FleetServerSpec){FLEET_SERVER_ONLINE, 1 + s % 2, 1, 1};
        fleet->members[s] = s;
    }
    for (uint32_t t = 0; t < fleet->ntasks; t++)
    {
        /* lengths around the border of what counts, too */
        double scale = 30e3 * pow(100, fleet_random_unit(random));
        double spread = fleet_random_unit(random);

        fleet->tasks[t].name = "some task";
        fleet->tasks[t].for_each = fleet_random_below(random, 2) == 0;
        if (fleet->tasks[t].for_each)
            fleet->items[fleet->nitems++] = (FleetPlanItems){
                t, 2 + fleet_random_below(random, ITEMS_MOST - 1), &fleet->expected[t][1]};
        for (int i = 0; i <= ITEMS_MOST; i++)
        {
            fleet->lengths[t][i] = scale * exp(spread * fleet_random_normal(random));
            fleet_estimate_init(&fleet->by_item[t][i]);
        }
        fleet_estimate_init(&fleet->by_task[t]);
    }
    return fleet;
}

static FleetTime
actual_length(void *arg, uint32_t task, uint32_t item)
{
    Fleet *fleet = arg;

    return (FleetTime) (fleet->lengths[task][item] *
                        exp(fleet->noise * fleet_random_normal(&fleet->random)));
}

static void
expect(Fleet *fleet)
{
    for (uint32_t t = 0; t < fleet->ntasks; t++)
    {
        fleet->tasks[t].estimate = fleet_estimate_predict(NULL, &fleet->by_task[t], NULL);
        for (int i = 0; i <= ITEMS_MOST; i++)
            fleet->expected[t][i] =
                fleet_estimate_predict(&fleet->by_item[t][i], &fleet->by_task[t], NULL);
    }
}

static FleetTime
own_expectation(const Fleet *fleet, const FleetPlanTask *done)
{
    return done->item > 0 && !fleet->item_known[done->task][done->item]
               ? 0
               : fleet->expected[done->task][done->item];
}

/* As agent_run_learn() does it. */
static void
learn(Fleet *fleet, const FleetPlan *plan, uint32_t first_server, uint32_t pool)
{
    FleetSpeedSample *samples = calloc(plan->ntasks + 1, sizeof(FleetSpeedSample));
    double tonight[SERVERS_MOST];

    for (uint32_t i = 0; i < plan->ntasks; i++)
    {
        const FleetPlanTask *done = &plan->tasks[i];

        samples[i] = (FleetSpeedSample){.server = first_server + done->server,
                                        .task = done->task,
                                        .pool = pool,
                                        .expected = own_expectation(fleet, done),
                                        .actual = done->end - done->start};
    }
    fleet_speed_learn(&fleet_malloc_alloc, fleet->all, fleet->nservers, samples, plan->ntasks,
                      tonight);
    for (uint32_t i = 0; i < plan->ntasks; i++)
    {
        const FleetPlanTask *done = &plan->tasks[i];
        double speed = tonight[samples[i].server];
        bool *known = &fleet->item_known[done->task][done->item];

        fleet_estimate_add(&fleet->by_task[done->task], samples[i].actual, speed);
        *known |= samples[i].actual >= ITEM_FROM;
        if (done->item > 0 && *known)
            fleet_estimate_add(&fleet->by_item[done->task][done->item], samples[i].actual, speed);
    }
    free(samples);
}

/* One run of the package on the servers from "first" on. */
static void
night_on(Fleet *fleet, uint32_t first, uint32_t nservers, uint32_t pool)
{
    const uint32_t *targets[] = {fleet->members};
    FleetGraph *graph;
    FleetPlan plan;
    FleetError error;
    FleetPlanInput input = {.servers = &fleet->servers[first],
                            .nservers = nservers,
                            .targets = targets,
                            .target_sizes = &nservers,
                            .ntargets = 1,
                            .items = fleet->items,
                            .nitems = fleet->nitems,
                            .default_duration = FLEET_SECONDS(60),
                            .overhead = fleet->start,
                            .actual = actual_length,
                            .actual_speeds = &fleet->nights[first],
                            .arg = fleet,
                            .seed = 1};

    expect(fleet);
    for (uint32_t s = 0; s < fleet->nservers; s++)
    {
        fleet->nights[s] =
            fleet->speeds[s] * exp(fleet->night * fleet_random_normal(&fleet->random));
        fleet->servers[s].speed = fleet_speed_value(&fleet->learned[s]);
    }
    graph = fleet_graph_create(&fleet_malloc_alloc, fleet->tasks, fleet->ntasks, NULL, 0, &error);
    input.graph = graph;
    if (!fleet_plan_create(&fleet_malloc_alloc, &input, &plan, &error))
        fail_msg("%s", error.message);
    learn(fleet, &plan, first, pool);
    fleet_plan_free(&fleet_malloc_alloc, &plan);
    fleet_graph_free(graph);
}

static uint64_t
cases(uint64_t otherwise)
{
    const char *text = getenv("UNIT_CASES");
    uint64_t n = text != NULL ? strtoull(text, NULL, 10) / 10 : otherwise;

    return n < otherwise ? otherwise : n;
}

static uint64_t
first_seed(void)
{
    const char *text = getenv("UNIT_SEED");

    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

/* A hundred runs on equal servers: within 10 % of 1, whatever the work and its noise. */
static void
test_equal_servers(void **state)
{
    (void) state;
    for (uint64_t seed = first_seed(), n = 0; n < cases(300); seed++, n++)
    {
        Fleet *fleet = fleet_make(seed);

        for (int night = 1; night <= 100; night++)
        {
            night_on(fleet, 0, fleet->nservers, 0);
            for (uint32_t s = 0; s < fleet->nservers; s++)
                assert_speed(fleet, s, 1, night < 20 ? 1.4 : 1.1, seed, night);
        }
        free(fleet);
    }
}

/* Enough work of more than a moment, so that a difference can be seen at all. */
static Fleet *
fleet_with_work(uint64_t seed)
{
    Fleet *fleet = fleet_make(seed);

    fleet->tasks[0].for_each = true;
    fleet->items[0] = (FleetPlanItems){0, ITEMS_MOST, &fleet->expected[0][1]};
    fleet->nitems = 1;
    for (uint32_t t = 0; t < fleet->ntasks; t++)
    {
        fleet->tasks[t].for_each = t == 0;
        for (int i = 0; i <= ITEMS_MOST; i++)
            fleet->lengths[t][i] = 300e3 * exp(2 * fleet_random_unit(&fleet->random));
    }
    return fleet;
}

static double
learned_ratio(const Fleet *fleet)
{
    double others = 0;

    for (uint32_t s = 1; s < fleet->nservers; s++)
        others += log(fleet_speed_value(&fleet->learned[s])) / (fleet->nservers - 1);
    return exp(others) / fleet_speed_value(&fleet->learned[0]);
}

static bool
ratio_within(const Fleet *fleet, double least, double most)
{
    double ratio = learned_ratio(fleet);

    return ratio >= least && ratio <= most;
}

static void
nights(Fleet *fleet, int n)
{
    for (int night = 0; night < n; night++)
        night_on(fleet, 0, fleet->nservers, 0);
}

/*
 * A server that is four times slower is noticed: from the first run on, or after
 * fifty equal ones.  Not always at once: while the same pieces are on it every
 * night, and no others, nobody can tell whether they are long or it is slow.
 */
static void
test_slow_server(void **state)
{
    uint64_t n = cases(300), unnoticed = 0, mistaken = 0, never = 0;

    (void) state;
    for (uint64_t seed = first_seed(); seed < first_seed() + n; seed++)
    {
        Fleet *fleet = fleet_with_work(seed);

        if (seed % 2 == 0)
            fleet->speeds[0] = 0.25;
        nights(fleet, 50);
        if (seed % 2 == 0)
            never += !ratio_within(fleet, 2.4, 5.5);
        else
            mistaken += !ratio_within(fleet, 1 / 1.15, 1.15);
        fleet->speeds[0] = 0.25;
        nights(fleet, 10);
        unnoticed += !ratio_within(fleet, 1.7, 5.5);
        nights(fleet, 20);
        never += !ratio_within(fleet, 2.4, 5.5);
        fleet->speeds[0] = 1; /* and back */
        nights(fleet, 50);
        mistaken += !ratio_within(fleet, 1 / 1.15, 1.15);
        free(fleet);
    }
    if (unnoticed * 20 > n || mistaken * 50 > n || never * 20 > n)
        fail_msg("of %llu: %llu not noticed in ten runs, %llu never right, %llu mistaken",
                 (unsigned long long) n, (unsigned long long) unnoticed, (unsigned long long) never,
                 (unsigned long long) mistaken);
}

/* Two packages on servers of their own, and the work of one grows tenfold: that is no speed. */
static void
test_no_shared_work(void **state)
{
    (void) state;
    for (uint64_t seed = first_seed(), n = 0; n < cases(100); seed++, n++)
    {
        Fleet *one = fleet_with_work(seed), *two = fleet_with_work(seed + 1000000);

        one->nservers = two->nservers = 4;
        for (uint32_t s = 0; s < 4; s++)
        {
            one->speeds[s] = two->speeds[s] = 1;
            one->servers[s] = two->servers[s] = (FleetServerSpec){FLEET_SERVER_ONLINE, 2, 1, 1};
            one->all[s] = two->all[s] = &one->learned[s];
            one->members[s] = two->members[s] = s;
            fleet_speed_init(&one->learned[s]);
        }
        for (int night = 0; night < 60; night++)
        {
            if (night == 30)
                for (uint32_t t = 0; t < one->ntasks; t++)
                    for (int i = 0; i <= ITEMS_MOST; i++)
                        one->lengths[t][i] *= 10;
            night_on(one, 0, 2, 0);
            night_on(two, 2, 2, 1);
            for (uint32_t s = 0; s < 4; s++)
                assert_speed(one, s, 1, 1.1, seed, night);
        }
        free(one);
        free(two);
    }
}

/* What a single server does says nothing of its speed. */
static void
test_alone(void **state)
{
    FleetSpeed learned[2], *all[] = {&learned[0], &learned[1]};
    FleetSpeedSample samples[4];
    double tonight[2];

    (void) state;
    fleet_speed_init(&learned[0]);
    fleet_speed_init(&learned[1]);
    fleet_speed_learn(&fleet_malloc_alloc, all, 2, samples, 0, tonight);
    for (uint32_t i = 0; i < 4; i++)
        samples[i] = (FleetSpeedSample){i / 2, i / 2, i / 2, FLEET_SECONDS(1),
                                        FLEET_SECONDS(1 + 9 * (i / 2))};
    for (int night = 0; night < 20; night++)
        fleet_speed_learn(&fleet_malloc_alloc, all, 2, samples, 4, tonight);
    assert_true(fleet_speed_value(&learned[0]) == 1 && fleet_speed_value(&learned[1]) == 1);
    assert_true(learned[0].evidence == 0 && learned[1].evidence == 0);
}

/*
 * What counts does not depend on what it took: pieces of 50 ms on average, whose
 * longer half would count.  And starting the work is no speed.
 */
static void
test_short_work(void **state)
{
    FleetSpeed learned[2], *all[] = {&learned[0], &learned[1]};
    FleetSpeedSample samples[400];
    double tonight[2];
    FleetRandom random;

    (void) state;
    fleet_random_seed(&random, 7);
    fleet_speed_init(&learned[0]);
    fleet_speed_init(&learned[1]);
    for (int night = 0; night < 100; night++)
    {
        for (uint32_t i = 0; i < 400; i++)
        {
            /* the second server does a tenth of it, and starts each piece 15 ms later */
            uint32_t on = i % 10 == 0;
            double length = 50e3 * exp(0.3 * fleet_random_normal(&random));

            samples[i] = (FleetSpeedSample){on, 0, 0, FLEET_MS(50),
                                            (FleetTime) length + (on ? FLEET_MS(15) : 0)};
        }
        fleet_speed_learn(&fleet_malloc_alloc, all, 2, samples, 400, tonight);
    }
    assert_true(fabs(log(fleet_speed_value(&learned[0]))) < log(1.1));
    assert_true(fabs(log(fleet_speed_value(&learned[1]))) < log(1.1));
    for (uint32_t i = 0; i < 400; i++)
    {
        samples[i].expected = FLEET_MS(49);
        samples[i].actual = i % 10 == 0 ? FLEET_SECONDS(10) : FLEET_MS(49);
    }
    fleet_speed_init(&learned[0]);
    fleet_speed_init(&learned[1]);
    fleet_speed_learn(&fleet_malloc_alloc, all, 2, samples, 400, tonight);
    assert_true(learned[0].evidence == 0 && learned[1].evidence == 0);
}

/* A server that has never done anything is 1; nothing goes beyond 16, or below 1/16. */
static void
test_bounds(void **state)
{
    FleetSpeed learned[2], *all[] = {&learned[0], &learned[1]};
    FleetSpeedSample samples[20];
    double tonight[2];

    (void) state;
    fleet_speed_init(&learned[0]);
    fleet_speed_init(&learned[1]);
    assert_true(fleet_speed_value(&learned[0]) == 1);
    for (uint32_t i = 0; i < 20; i++)
        samples[i] = (FleetSpeedSample){i % 2, 0, 0, i < 10 ? 0 : FLEET_SECONDS(1),
                                        i % 2 ? FLEET_NEVER - 1 : -1};
    for (int night = 0; night < 50; night++)
        fleet_speed_learn(&fleet_malloc_alloc, all, 2, samples, 20, tonight);
    assert_true(fleet_speed_value(&learned[0]) <= 16 && fleet_speed_value(&learned[0]) > 8);
    assert_true(fleet_speed_value(&learned[1]) >= 1.0 / 16 &&
                fleet_speed_value(&learned[1]) < 0.125);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equal_servers),  cmocka_unit_test(test_slow_server),
        cmocka_unit_test(test_no_shared_work), cmocka_unit_test(test_alone),
        cmocka_unit_test(test_short_work),     cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
