/*
 * test/core/plan_world.h
 *     A package and its servers, for the tests of the planner.
 */
#ifndef PLAN_WORLD_H
#define PLAN_WORLD_H

#include <string.h>

#include "core/plan/plan.h"

#define S(n) FLEET_SECONDS(n)

enum
{
    MAX_TASKS = 64,
    MAX_SERVERS = 8
};

typedef struct World
{
    FleetTaskSpec tasks[MAX_TASKS];
    FleetEdgeSpec edges[MAX_TASKS * 4];
    uint32_t ntasks, nedges;
    FleetServerSpec servers[MAX_SERVERS];
    uint32_t all[MAX_SERVERS];
    const uint32_t *targets[2];
    uint32_t sizes[2];
    FleetPlanInput input;
    FleetGraph *graph;
    FleetPlan plan;
    FleetError error;
} World;

/* Target 0: all servers; target 1: the last one. */
static inline void
world_init(World *world, uint32_t nservers, uint32_t slots)
{
    memset(world, 0, sizeof(*world));
    for (uint32_t s = 0; s < nservers; s++)
    {
        world->servers[s] = (FleetServerSpec){FLEET_SERVER_ONLINE, slots, 1, 1};
        world->all[s] = s;
    }
    world->targets[0] = world->all;
    world->targets[1] = &world->all[nservers - 1];
    world->sizes[0] = nservers;
    world->sizes[1] = 1;
    world->input = (FleetPlanInput){.servers = world->servers,
                                    .nservers = nservers,
                                    .targets = world->targets,
                                    .target_sizes = world->sizes,
                                    .ntargets = 2,
                                    .default_duration = S(60),
                                    .seed = 1};
}

static inline FleetTaskSpec *
task(World *world, FleetTaskKind kind, FleetTime estimate)
{
    FleetTaskSpec *spec = &world->tasks[world->ntasks++];

    spec->name = "some task";
    spec->kind = kind;
    spec->estimate = estimate;
    return spec;
}

static inline void
edge(World *world, uint32_t from, uint32_t to, FleetOutcome on)
{
    world->edges[world->nedges++] = (FleetEdgeSpec){from, to, on, false};
}

static inline bool
world_plan(World *world)
{
    if (world->graph != NULL)
        fleet_graph_free(world->graph);
    world->graph = fleet_graph_create(&fleet_malloc_alloc, world->tasks, world->ntasks,
                                      world->edges, world->nedges, &world->error);
    assert_non_null(world->graph);
    world->input.graph = world->graph;
    return fleet_plan_create(&fleet_malloc_alloc, &world->input, &world->plan, &world->error);
}

static inline void
world_end(World *world)
{
    fleet_plan_free(&fleet_malloc_alloc, &world->plan);
    if (world->graph != NULL)
        fleet_graph_free(world->graph);
    world->graph = NULL;
}

#endif
