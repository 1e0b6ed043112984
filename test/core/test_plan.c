/*
 * test/core/test_plan.c
 *     What is predicted: starts, ends, bounds, critical path, use of servers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "plan_world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const FleetPlanTask *
planned(const World *world, uint32_t number, uint32_t item)
{
    for (uint32_t i = 0; i < world->plan.ntasks; i++)
        if (world->plan.tasks[i].task == number && world->plan.tasks[i].item == item)
            return &world->plan.tasks[i];
    return NULL;
}

static void
assert_planned(const World *world, uint32_t number, uint32_t item, FleetTime start, FleetTime end,
               bool critical)
{
    const FleetPlanTask *t = planned(world, number, item);

    assert_non_null(t);
    assert_int_equal(t->start, start);
    assert_int_equal(t->end, end);
    assert_int_equal(t->critical, critical);
}

/* a (3 s) → c (2 s), b (1 s) → c, c → d (sql, 1 s) */
static void
test_dependencies(void **state)
{
    World world;

    (void) state;
    world_init(&world, 2, 1);
    task(&world, FLEET_TASK_JOB, S(3));
    task(&world, FLEET_TASK_JOB, S(1));
    task(&world, FLEET_TASK_JOB, S(2));
    task(&world, FLEET_TASK_SQL, S(1));
    edge(&world, 0, 2, FLEET_ON_SUCCESS);
    edge(&world, 1, 2, FLEET_ON_COMPLETION);
    edge(&world, 2, 3, FLEET_ON_SUCCESS);
    world.edges[2].conditional = true; /* taken to hold */
    assert_true(world_plan(&world));
    assert_int_equal(world.plan.ntasks, 4);
    assert_planned(&world, 0, 0, 0, S(3), true);
    assert_planned(&world, 1, 0, 0, S(1), false);
    assert_planned(&world, 2, 0, S(3), S(5), true);
    assert_planned(&world, 3, 0, S(5), S(6), true);
    assert_int_equal(planned(&world, 3, 0)->server, world.input.local_server);
    assert_int_equal(world.plan.makespan, S(6));
    assert_int_equal(world.plan.lower_bound, S(6));
    assert_true(fabs(world.plan.utilisation[0] + world.plan.utilisation[1] - 7.0 / 6) < 1e-9);
    world_end(&world);
}

/* What follows a failure does not run, nor what follows that; a join "any" waits for the first. */
static void
test_all_succeed(void **state)
{
    World world;

    (void) state;
    world_init(&world, 2, 2);
    task(&world, FLEET_TASK_JOB, S(3));
    task(&world, FLEET_TASK_JOB, S(100)); /* only if 0 fails */
    task(&world, FLEET_TASK_JOB, S(1));
    task(&world, FLEET_TASK_JOB, S(2))->join = FLEET_JOIN_ANY; /* after 0, 1 or 2 */
    edge(&world, 0, 1, FLEET_ON_FAILURE);
    edge(&world, 0, 3, FLEET_ON_SUCCESS);
    edge(&world, 1, 3, FLEET_ON_COMPLETION);
    edge(&world, 2, 3, FLEET_ON_SUCCESS);
    assert_true(world_plan(&world));
    assert_null(planned(&world, 1, 0));
    assert_planned(&world, 3, 0, S(1), S(3), true);
    assert_int_equal(world.plan.makespan, S(3));
    assert_int_equal(world.plan.lower_bound, S(3));
    world_end(&world);
}

static void
test_items(void **state)
{
    static const FleetTime estimates[] = {S(4), S(1), S(2), 0};
    FleetPlanItems items[] = {{0, 4, estimates}, {1, 0, NULL}};
    World world;

    (void) state;
    world_init(&world, 1, 4);
    task(&world, FLEET_TASK_JOB, S(1))->for_each = true;
    task(&world, FLEET_TASK_JOB, S(9))->for_each = true; /* no items: nothing to do */
    task(&world, FLEET_TASK_JOB, S(5))->for_each = true; /* not listed: one item */
    world.tasks[0].throttle = 2;
    edge(&world, 0, 2, FLEET_ON_SUCCESS);
    edge(&world, 1, 2, FLEET_ON_SUCCESS);
    world.input.items = items;
    world.input.nitems = 2;
    assert_true(world_plan(&world));
    assert_int_equal(world.plan.ntasks, 5);
    /* two at a time, longest first: 4 | 2 1 1 */
    assert_planned(&world, 0, 1, 0, S(4), planned(&world, 0, 1)->critical);
    assert_planned(&world, 0, 3, 0, S(2), planned(&world, 0, 3)->critical);
    assert_planned(&world, 2, 1, S(4), S(9), true);
    assert_int_equal(world.plan.makespan, S(9));
    assert_true(fabs(world.plan.utilisation[0] - 13.0 / 36) < 1e-9);
    world_end(&world);
}

/* A nested package is its estimate and takes no slot; started_is_done ends at once. */
static void
test_packages(void **state)
{
    World world;

    (void) state;
    world_init(&world, 1, 1);
    task(&world, FLEET_TASK_PACKAGE, S(10));
    task(&world, FLEET_TASK_PACKAGE, 0); /* unknown: the default */
    task(&world, FLEET_TASK_JOB, S(3));
    task(&world, FLEET_TASK_JOB, S(50))->started_is_done = true;
    edge(&world, 2, 3, FLEET_ON_SUCCESS);
    world.input.overhead = 1000;
    assert_true(world_plan(&world));
    assert_planned(&world, 0, 0, 0, S(10) + 1000, false);
    assert_planned(&world, 1, 0, 0, S(60) + 1000, true);
    assert_planned(&world, 2, 0, 0, S(3) + 1000, false);
    assert_planned(&world, 3, 0, S(3) + 1000, S(3) + 2000, false);
    assert_int_equal(planned(&world, 0, 0)->server, FLEET_NO_SERVER);
    assert_int_equal(world.plan.lower_bound, S(60));
    world_end(&world);
}

/* The critical path goes through what held the slot, and no timeout strikes in a plan. */
static void
test_critical_through_slot(void **state)
{
    World world;

    (void) state;
    world_init(&world, 2, 1);
    task(&world, FLEET_TASK_JOB, S(9))->target = 1;
    task(&world, FLEET_TASK_JOB, S(5))->target = 1;
    task(&world, FLEET_TASK_JOB, S(4))->timeout = S(1);
    assert_true(world_plan(&world));
    assert_planned(&world, 0, 0, 0, S(9), true);
    assert_planned(&world, 1, 0, S(9), S(14), true);
    assert_planned(&world, 2, 0, 0, S(4), false);
    assert_int_equal(world.plan.lower_bound, S(14)); /* both are pinned to one slot */
    assert_true(fabs(world.plan.utilisation[1] - 1) < 1e-9);
    world_end(&world);
}

static void
test_errors(void **state)
{
    World world;
    FleetTime makespan, bound;

    (void) state;
    world_init(&world, 2, 1);
    task(&world, FLEET_TASK_JOB, S(1))->name = "first";
    task(&world, FLEET_TASK_JOB, S(1))->name = "second";
    edge(&world, 0, 1, FLEET_ON_SUCCESS);
    world.servers[0].state = FLEET_SERVER_OFFLINE;
    world.servers[1].slots = 0;
    assert_false(world_plan(&world));
    assert_non_null(strstr(world.error.message, "\"first\" cannot start"));
    assert_true(world.error.hint[0] != '\0');
    /* one server more could do it */
    assert_true(
        fleet_plan_what_if(&fleet_malloc_alloc, &world.input, 1, &makespan, &bound, &world.error));
    assert_int_equal(makespan, S(2));
    assert_false(
        fleet_plan_what_if(&fleet_malloc_alloc, &world.input, 0, &makespan, &bound, &world.error));
    assert_non_null(strstr(world.error.message, "without a server"));

    world.tasks[1].target = 2;
    assert_false(world_plan(&world));
    assert_non_null(strstr(world.error.message, "\"second\" names target 2"));
    assert_false(
        fleet_plan_what_if(&fleet_malloc_alloc, &world.input, 1, &makespan, &bound, &world.error));
    world.tasks[1].target = 0;
    world.all[1] = 9;
    assert_false(world_plan(&world));
    assert_non_null(strstr(world.error.message, "names server 9"));
    world_end(&world);
}

static void
test_what_if(void **state)
{
    World world;
    FleetTime makespan, bound, before = FLEET_NEVER;

    (void) state;
    world_init(&world, 2, 2);
    for (int i = 0; i < 24; i++)
        task(&world, FLEET_TASK_JOB, S(2));
    assert_true(world_plan(&world));
    assert_int_equal(world.plan.makespan, S(12));
    for (uint32_t n = 1; n <= 16; n++)
    {
        assert_true(fleet_plan_what_if(&fleet_malloc_alloc, &world.input, n, &makespan, &bound,
                                       &world.error));
        assert_int_equal(makespan, S(2) * ((24 + 2 * n - 1) / (2 * n)));
        assert_true(bound <= makespan && makespan <= before);
        before = makespan;
    }
    assert_int_equal(makespan, S(2));
    /* the input is as it was, and two servers are the two */
    assert_true(
        fleet_plan_what_if(&fleet_malloc_alloc, &world.input, 2, &makespan, &bound, &world.error));
    assert_int_equal(makespan, world.plan.makespan);
    /* an empty target gets plain servers */
    world.sizes[0] = world.sizes[1] = 0;
    assert_true(
        fleet_plan_what_if(&fleet_malloc_alloc, &world.input, 3, &makespan, &bound, &world.error));
    assert_int_equal(makespan, S(16));
    world_end(&world);
}

static void
test_bound(void **state)
{
    static const FleetTime pieces[] = {S(100), S(10), S(10), S(1)};
    FleetServerSpec servers[] = {{FLEET_SERVER_ONLINE, 1, 1, 4},
                                 {FLEET_SERVER_ONLINE, 2, 1, 1},
                                 {FLEET_SERVER_OFFLINE, 50, 1, 16}};
    FleetTime many[1000];
    FleetServerSpec large = {FLEET_SERVER_ONLINE, 400, 1, 1};

    (void) state;
    assert_int_equal(fleet_plan_lower_bound(pieces, 4, servers, 3), S(25)); /* the longest alone */
    assert_int_equal(fleet_plan_lower_bound(pieces + 1, 2, servers, 3), S(4)); /* 20 on 4 + 1 */
    assert_int_equal(fleet_plan_lower_bound(pieces + 1, 3, servers, 3), S(4));
    assert_int_equal(fleet_plan_lower_bound(pieces, 0, servers, 3), 0);
    assert_true(fleet_plan_lower_bound(pieces, 1, servers + 2, 1) == FLEET_NEVER);
    assert_int_equal(fleet_plan_lower_bound(pieces, 0, servers + 2, 1), 0);
    for (int i = 0; i < 1000; i++)
        many[i] = S(1 + i % 3);
    assert_int_equal(fleet_plan_lower_bound(many, 1000, &large, 1), 4997500);
    many[999] = S(60);
    assert_int_equal(fleet_plan_lower_bound(many, 1000, &large, 1), S(60));
}

/* ---- random graphs: everything that can be checked without knowing the schedule ---- */

static FleetTime
real_duration(void *arg, uint32_t number, uint32_t item)
{
    return ((FleetTime *) arg)[number] + item * 1000;
}

static void
check_constraints(const World *world)
{
    for (uint32_t i = 0; i < world->plan.ntasks; i++)
    {
        const FleetPlanTask *t = &world->plan.tasks[i];
        uint32_t n;
        const uint32_t *in = fleet_graph_in(world->graph, t->task, &n);

        assert_true(i == 0 || t->start >= world->plan.tasks[i - 1].start);
        assert_true(t->end >= t->start && t->end <= world->plan.makespan);
        for (uint32_t k = 0; k < n; k++)
            for (uint32_t j = 0; j < world->plan.ntasks; j++)
                if (world->plan.tasks[j].task == fleet_graph_edge(world->graph, in[k])->from)
                    assert_true(world->plan.tasks[j].end <= t->start);
    }
}

static void
check_slots(const World *world)
{
    for (uint32_t s = 0; s < world->input.nservers; s++)
        for (uint32_t i = 0; i < world->plan.ntasks; i++)
        {
            const FleetPlanTask *t = &world->plan.tasks[i];
            uint32_t busy = 0;

            for (uint32_t j = 0; j < world->plan.ntasks && t->server == s; j++)
            {
                const FleetPlanTask *other = &world->plan.tasks[j];

                busy += other->server == s && other->start <= t->start && other->end > t->start;
            }
            assert_true(busy <= world->servers[s].slots);
        }
}

/* From the end back to the begin without a gap, as nothing is held back on equal servers. */
static void
check_critical(const World *world)
{
    FleetTime at = world->plan.makespan;
    bool moved = true;

    while (at > 0 && moved)
    {
        moved = false;
        for (uint32_t i = 0; i < world->plan.ntasks && !moved; i++)
        {
            const FleetPlanTask *t = &world->plan.tasks[i];

            if (!t->critical || t->end != at || t->start >= at)
                continue;
            at = t->start;
            moved = true;
        }
    }
    assert_int_equal(at, 0);
}

/* Longest path by the true durations on the fastest server. */
static double
longest_path(const World *world, const FleetTime *real, double fastest)
{
    double ends[MAX_TASKS] = {0}, longest = 0;

    for (uint32_t t = 0; t < world->ntasks; t++)
    {
        double begin = 0;

        for (uint32_t e = 0; e < world->nedges; e++)
            if (world->edges[e].to == t && ends[world->edges[e].from] > begin)
                begin = ends[world->edges[e].from];
        ends[t] = begin + (double) real[t] / fastest;
        if (ends[t] > longest)
            longest = ends[t];
    }
    return longest;
}

static void
random_plan(uint64_t seed)
{
    static const double speeds[] = {1, 2, 4};
    World *world = calloc(1, sizeof(World));
    FleetTime real[MAX_TASKS];
    FleetRandom random;
    double fastest = 1, use = 0, work = 0, speed = 0, slots = 0;
    uint32_t n;
    bool equal;

    fleet_random_seed(&random, seed);
    n = 1 + fleet_random_below(&random, MAX_TASKS);
    equal = fleet_random_below(&random, 2) == 0;
    world_init(world, 1 + fleet_random_below(&random, MAX_SERVERS),
               1 + fleet_random_below(&random, 3));
    for (uint32_t s = 0; s < world->input.nservers; s++)
    {
        world->servers[s].speed = equal ? 1 : speeds[fleet_random_below(&random, 3)];
        fastest = fmax(fastest, world->servers[s].speed);
        speed += world->servers[s].speed * world->servers[s].slots;
        slots += world->servers[s].slots;
    }
    for (uint32_t t = 0; t < n; t++)
    {
        FleetTaskSpec *spec =
            task(world, FLEET_TASK_JOB, 1000 + fleet_random_below(&random, 9000000));

        real[t] =
            fleet_random_below(&random, 20) == 0 ? 0 : 1000 + fleet_random_below(&random, 9000000);
        spec->policy = fleet_random_below(&random, 3) > 0
                           ? FLEET_SHORTEST_FINISH
                           : (FleetPolicy) fleet_random_below(&random, 4);
        work += (double) real[t];
        for (int k = 0; t > 0 && k < 2; k++)
            if (fleet_random_below(&random, 2) == 0)
            {
                uint32_t from = fleet_random_below(&random, t);

                if (k == 0 || world->nedges == 0 || world->edges[world->nedges - 1].to != t ||
                    world->edges[world->nedges - 1].from != from)
                    edge(world, from, t, FLEET_ON_SUCCESS);
            }
    }
    world->input.actual = real_duration;
    world->input.arg = real;
    if (!world_plan(world))
        fail_msg("seed %llu: %s", (unsigned long long) seed, world->error.message);
    assert_int_equal(world->plan.ntasks, n);
    check_constraints(world);
    check_slots(world);
    if (equal)
        check_critical(world);
    for (uint32_t s = 0; s < world->plan.nservers; s++)
        use += world->plan.utilisation[s] * world->servers[s].slots * world->servers[s].speed;
    assert_true(fabs(use * (double) world->plan.makespan - work) <= 1e-6 * work + 5 * n);
    assert_true((double) world->plan.lower_bound >=
                fmin(longest_path(world, real, fastest) - n, (double) world->plan.makespan));
    assert_true((double) world->plan.lower_bound >=
                fmin(work / speed - n, (double) world->plan.makespan));
    assert_true(world->plan.lower_bound <= world->plan.makespan);
    /* Graham: no list schedule is worse than that, on equal servers */
    if (equal)
        assert_true((double) world->plan.makespan <=
                    work / slots + longest_path(world, real, 1) + n);
    world_end(world);
    free(world);
}

static void
test_random_plans(void **state)
{
    const char *cases = getenv("UNIT_CASES"), *seed = getenv("UNIT_SEED");
    uint64_t n = cases != NULL ? strtoull(cases, NULL, 10) : 2000;
    uint64_t first = seed != NULL ? strtoull(seed, NULL, 10) : 1;

    (void) state;
    for (uint64_t i = 0; i < n; i++)
        random_plan(first + i);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dependencies),
        cmocka_unit_test(test_all_succeed),
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_packages),
        cmocka_unit_test(test_critical_through_slot),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_what_if),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_random_plans),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
