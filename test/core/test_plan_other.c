/*
 * test/core/test_plan_other.c
 *     Another number of servers, and the rest of a run that is under way: both
 *     against a plan that really has them.
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

/*
 * A package of several tasks on several groups, as if there were n servers, and
 * the same really with n servers: at most 10 % apart.
 */
enum
{
    WHAT_IF_MOST = 12,
    WHAT_IF_TASKS = 24
};

typedef struct WhatIf
{
    World *world;
    const uint32_t *targets[WHAT_IF_TASKS];
    uint32_t sizes[WHAT_IF_TASKS];
    bool groups[WHAT_IF_TASKS];
    FleetServerSpec servers[WHAT_IF_MOST];
    uint32_t all[WHAT_IF_MOST], pinned;
    FleetPlanItems items[WHAT_IF_TASKS];
} WhatIf;

/* Each task has a target of its own, as api/plan.c gives them: the group, or the last server of three. */
static void
what_if_servers(WhatIf *what, uint32_t n, uint32_t slots, double speed)
{
    FleetPlanInput *input = &what->world->input;

    for (uint32_t s = 0; s < n; s++)
    {
        what->servers[s] = (FleetServerSpec){FLEET_SERVER_ONLINE, slots, 1, speed};
        what->all[s] = s;
    }
    what->pinned = n > 2 ? 2 : n - 1;
    for (uint32_t t = 0; t < what->world->ntasks; t++)
    {
        what->targets[t] = what->groups[t] ? what->all : &what->pinned;
        what->sizes[t] = what->groups[t] ? n : 1;
    }
    input->servers = what->servers;
    input->nservers = n;
    input->local_server = 0;
    input->targets = what->targets;
    input->target_sizes = what->sizes;
    input->ntargets = what->world->ntasks;
    input->groups = what->groups;
}

static void
random_what_if(uint64_t seed)
{
    World *world = calloc(1, sizeof(World));
    WhatIf *what = calloc(1, sizeof(WhatIf));
    FleetRandom random;
    uint32_t now = 3, slots;
    double speed;

    fleet_random_seed(&random, seed);
    slots = 1 + fleet_random_below(&random, 4);
    speed = 0.5 + fleet_random_unit(&random);
    what->world = world;
    world_init(world, MAX_SERVERS, 1);
    for (uint32_t t = 0, n = 2 + fleet_random_below(&random, WHAT_IF_TASKS - 2); t < n; t++)
    {
        FleetTaskSpec *spec =
            task(world, FLEET_TASK_JOB, 1000 + fleet_random_below(&random, 9000000));

        spec->target = t;
        what->groups[t] = fleet_random_below(&random, 6) > 0;
        spec->for_each = fleet_random_below(&random, 3) == 0;
        if (spec->for_each)
            what->items[world->input.nitems++] =
                (FleetPlanItems){t, 1 + fleet_random_below(&random, 30), NULL};
        if (t > 0 && fleet_random_below(&random, 2) == 0)
            edge(world, fleet_random_below(&random, t), t, FLEET_ON_SUCCESS);
    }
    world->input.items = what->items;
    world->graph = fleet_graph_create(&fleet_malloc_alloc, world->tasks, world->ntasks,
                                      world->edges, world->nedges, &world->error);
    world->input.graph = world->graph;
    for (uint32_t n = 3; n <= WHAT_IF_MOST; n++)
    {
        FleetTime makespan, bound;

        what_if_servers(what, now, slots, speed);
        assert_true(fleet_plan_what_if(&fleet_malloc_alloc, &world->input, n, &makespan, &bound,
                                       &world->error));
        what_if_servers(what, n, slots, speed);
        assert_true(
            fleet_plan_create(&fleet_malloc_alloc, &world->input, &world->plan, &world->error));
        if (fabs(log((double) makespan / (double) world->plan.makespan)) > log(1.1))
            fail_msg("seed %llu: %u servers would take %lld, and take %lld",
                     (unsigned long long) seed, n, (long long) makespan,
                     (long long) world->plan.makespan);
        assert_true(bound <= makespan);
        fleet_plan_free(&fleet_malloc_alloc, &world->plan);
    }
    fleet_graph_free(world->graph);
    free(what);
    free(world);
}

static void
test_what_if_really(void **state)
{
    const char *cases = getenv("UNIT_CASES"), *seed = getenv("UNIT_SEED");
    uint64_t n = cases != NULL ? strtoull(cases, NULL, 10) : 2000;
    uint64_t first = seed != NULL ? strtoull(seed, NULL, 10) : 1;

    (void) state;
    for (uint64_t i = 0; i < n; i++)
        random_what_if(first + i);
}

/* Groups that have no server in common each get their own; those that have, the same. */
static void
test_what_if_groups(void **state)
{
    World world;
    FleetTime makespan, bound;

    (void) state;
    world_init(&world, 3, 1);
    for (int i = 0; i < 12; i++)
        task(&world, FLEET_TASK_JOB, S(2))->target = i % 2;
    assert_true(world_plan(&world));
    /* target 1 has its one server from target 0: six servers in all */
    assert_true(
        fleet_plan_what_if(&fleet_malloc_alloc, &world.input, 6, &makespan, &bound, &world.error));
    assert_in_range(makespan, S(4), S(4));
    world.sizes[0] = 2; /* now nothing in common: six servers each */
    assert_true(
        fleet_plan_what_if(&fleet_malloc_alloc, &world.input, 6, &makespan, &bound, &world.error));
    assert_int_equal(makespan, S(2));
    assert_int_equal(bound, S(2));
    world_end(&world);
}

/* ---- the rest of a run ---- */

/* What of a planned run has begun at some time. */
static uint32_t
begun_at(const World *world, FleetTime now, FleetPlanBegun *begun)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < world->plan.ntasks; i++)
    {
        const FleetPlanTask *t = &world->plan.tasks[i];

        if (t->start > now)
            continue;
        begun[n++] =
            (FleetPlanBegun){t->task, t->item, t->end <= now ? FLEET_SUCCEEDED : FLEET_RUNNING,
                             t->server, now - t->start};
    }
    return n;
}

static FleetTime
noisy_length(void *arg, uint32_t number, uint32_t item)
{
    const World *world = arg;
    FleetRandom random;

    fleet_random_seed(&random, number * 1000 + item);
    return (FleetTime) ((double) world->tasks[number].estimate *
                        exp(0.2 * fleet_random_normal(&random)));
}

/*
 * From a quarter of the run on its end is foretold to 15 % of the whole, on a graph whose for_each
 * tasks are not all expanded, with items that take 20 % more or less than was learned.
 */
static double
random_rest(uint64_t seed, double share)
{
    World *world = calloc(1, sizeof(World));
    FleetPlanItems items[MAX_TASKS];
    FleetPlanBegun *begun;
    FleetRandom random;
    FleetTime now, rest;
    double off;
    uint32_t n;

    fleet_random_seed(&random, seed);
    world_init(world, 2 + fleet_random_below(&random, 4), 1 + fleet_random_below(&random, 3));
    for (uint32_t t = 0, last = 2 + fleet_random_below(&random, 16); t < last; t++)
    {
        FleetTaskSpec *spec =
            task(world, FLEET_TASK_JOB, 500000 + fleet_random_below(&random, 2000000));

        spec->for_each = fleet_random_below(&random, 2) == 0;
        if (spec->for_each)
            items[world->input.nitems++] =
                (FleetPlanItems){t, 10 + fleet_random_below(&random, 30), NULL};
        if (t > 0 && fleet_random_below(&random, 2) == 0)
            edge(world, fleet_random_below(&random, t), t, FLEET_ON_SUCCESS);
    }
    world->input.items = items;
    world->input.actual = noisy_length;
    world->input.arg = world;
    assert_true(world_plan(world));
    begun = calloc(world->plan.ntasks + 1, sizeof(FleetPlanBegun));
    now = (FleetTime) (share * (double) world->plan.makespan);
    n = begun_at(world, now, begun);
    world->input.actual = NULL;
    if (!fleet_plan_rest(&fleet_malloc_alloc, &world->input, begun, n, &rest, &world->error))
        fail_msg("seed %llu: %s", (unsigned long long) seed, world->error.message);
    off = (double) (now + rest - world->plan.makespan) / (double) world->plan.makespan;
    free(begun);
    world_end(world);
    free(world);
    return off;
}

static void
test_rest(void **state)
{
    const char *cases = getenv("UNIT_CASES"), *seed = getenv("UNIT_SEED");
    uint64_t n = cases != NULL ? strtoull(cases, NULL, 10) : 2000, wrong = 0;
    uint64_t first = seed != NULL ? strtoull(seed, NULL, 10) : 1;

    (void) state;
    for (uint64_t i = 0; i < n; i++)
        for (int quarter = 1; quarter <= 3; quarter++)
            wrong += fabs(random_rest(first + i, quarter / 4.0)) > 0.15;
    /* where a few long pieces are the end of the run, one of them decides it */
    if (wrong * 20 > 3 * n)
        fail_msg("%llu of %llu are off by more than 15 %%", (unsigned long long) wrong,
                 (unsigned long long) n * 3);
}

/* All has ended; something failed; a whole for_each is over; something should have ended long ago. */
static void
test_rest_of_little(void **state)
{
    FleetPlanItems items = {1, 3, NULL};
    FleetPlanBegun begun[] = {{0, 0, FLEET_FAILED, 0, S(3)},
                              {1, 0, FLEET_RUNNING, 0, 0},
                              {1, 1, FLEET_SUCCEEDED, 0, S(1)},
                              {1, 2, FLEET_STARTING, 0, S(9)},
                              {1, 3, FLEET_CANCELING, 0, 0}};
    World world;
    FleetTime rest;

    (void) state;
    world_init(&world, 1, 3);
    task(&world, FLEET_TASK_JOB, S(1));
    task(&world, FLEET_TASK_JOB, S(10))->for_each = true;
    task(&world, FLEET_TASK_JOB, S(100)); /* not run: 0 failed */
    task(&world, FLEET_TASK_JOB, S(5));
    edge(&world, 0, 2, FLEET_ON_SUCCESS);
    edge(&world, 1, 3, FLEET_ON_SUCCESS);
    world.input.items = &items;
    world.input.nitems = 1;
    assert_true(world_plan(&world));
    assert_true(fleet_plan_rest(&fleet_malloc_alloc, &world.input, begun, 5, &rest, &world.error));
    assert_int_equal(rest, S(15));
    begun[4] = (FleetPlanBegun){1, 3, FLEET_SUCCEEDED, 0, 0};
    assert_true(fleet_plan_rest(&fleet_malloc_alloc, &world.input, begun, 5, &rest, &world.error));
    assert_int_equal(rest, S(6));
    begun[3].elapsed = S(900);
    assert_true(fleet_plan_rest(&fleet_malloc_alloc, &world.input, begun, 5, &rest, &world.error));
    assert_int_equal(rest, S(5) + 500000);
    begun[1].state = FLEET_SUCCEEDED;
    begun[3].state = FLEET_SUCCEEDED;
    assert_true(fleet_plan_rest(&fleet_malloc_alloc, &world.input, begun, 5, &rest, &world.error));
    assert_int_equal(rest, S(5));
    world.servers[0].state = FLEET_SERVER_OFFLINE;
    assert_false(fleet_plan_rest(&fleet_malloc_alloc, &world.input, begun, 5, &rest, &world.error));
    world_end(&world);
}

static uint32_t paused;

static void
count_pause(void *arg)
{
    (void) arg;
    paused++;
}

/* Whoever plays a long plan can be interrupted. */
static void
test_pause(void **state)
{
    static const FleetPlanItems items = {0, 10000, NULL};
    World world;

    (void) state;
    world_init(&world, 1, 4);
    task(&world, FLEET_TASK_JOB, S(1))->for_each = true;
    world.input.items = &items;
    world.input.nitems = 1;
    world.input.pause = count_pause;
    paused = 0;
    assert_true(world_plan(&world));
    assert_true(paused >= 10000 / 256);
    world_end(&world);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_if_really), cmocka_unit_test(test_what_if_groups),
        cmocka_unit_test(test_rest),           cmocka_unit_test(test_rest_of_little),
        cmocka_unit_test(test_pause),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
