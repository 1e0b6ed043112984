/*
 * core/plan/plan.h
 *     What would happen: a whole run of a package played through the very
 *     engine that the agent uses, on virtual time.  Behind fleet.plan(),
 *     fleet.advise() and fleet.progress.
 */
#ifndef FLEET_CORE_PLAN_PLAN_H
#define FLEET_CORE_PLAN_PLAN_H

#include "core/core.h"
#include "core/engine/engine.h"
#include "core/graph.h"
#include "core/placement/placement.h"
#include "core/state.h"

typedef struct FleetPlanItems
{
    uint32_t task;              /* a for_each task (one that is not listed has one item) */
    uint32_t count;             /* its number of items */
    const FleetTime *estimates; /* of each, at speed 1; NULL: the task's */
} FleetPlanItems;

/* A task run of a run that is under way: it has ended, or is on a server. */
typedef struct FleetPlanBegun
{
    uint32_t task, item;
    FleetState state; /* one that is not final counts as running */
    uint32_t server;
    FleetTime elapsed; /* since it started */
} FleetPlanBegun;

typedef struct FleetPlanInput
{
    const FleetGraph *graph;
    const FleetServerSpec *servers;
    uint32_t nservers;
    const uint32_t *const *targets; /* per target its servers … */
    const uint32_t *target_sizes;   /* … and how many */
    uint32_t ntargets;
    const bool *groups; /* per target: more servers can be put into it; NULL: into all of them */
    uint32_t local_server;
    const FleetPlanItems *items;
    uint32_t nitems;
    FleetTime default_duration; /* for what has no estimate; > 0 */
    FleetTime overhead;         /* added to each start; 0 … */
    /*
     * True durations at speed 1 if they differ from the estimates (tests:
     * estimates off by 30 %); called per task run.  NULL: the estimates.
     */
    FleetTime (*actual)(void *arg, uint32_t task, uint32_t item);
    const double *actual_speeds; /* per server, as above; NULL: as the servers say */
    void *arg;
    void (*pause)(void *arg); /* called now and then; may leave and not come back; NULL: not */
    uint64_t seed;
} FleetPlanInput;

typedef struct FleetPlanTask
{
    uint32_t task, item;
    uint32_t server; /* FLEET_NO_SERVER: never ran */
    FleetTime start, end;
    bool critical; /* on the critical path of the schedule */
} FleetPlanTask;

typedef struct FleetPlan
{
    FleetTime makespan;
    FleetTime lower_bound; /* max of: longest path on the fastest usable server; area / total speed;
                              and the bound of the k+1 longest pieces on k slots (preemptive,
                              uniform machines: Horvath, Lam, Sethi 1977) */
    FleetPlanTask *tasks;  /* in order of start */
    uint32_t ntasks;
    double *utilisation; /* per server: busy slot time / (slots * makespan) */
    uint32_t nservers;
} FleetPlan;

/*
 * Without "actual" a task runs as long as its estimate says, or
 * default_duration.  Nested packages take their estimate and no slot; tasks
 * that are done when started end at once.  No timeout strikes.
 */
/* All tasks are taken to succeed, all conditions to hold (failure edges: not).  False: *error. */
extern bool fleet_plan_create(const FleetAlloc *alloc, const FleetPlanInput *input, FleetPlan *plan,
                              FleetError *error);
extern void fleet_plan_free(const FleetAlloc *alloc, FleetPlan *plan);

/*
 * What if there were n servers in each group: of those that are usable now the
 * first n, then copies of their average.  Groups that have servers in common
 * get the same new ones, so that one server is not counted twice.  A task that
 * names its server keeps it.  Makespan and lower bound only.
 */
extern bool fleet_plan_what_if(const FleetAlloc *alloc, const FleetPlanInput *input, uint32_t n,
                               FleetTime *makespan, FleetTime *lower_bound, FleetError *error);

/*
 * How long the rest of a run will take that has got so far.  A for_each one of
 * whose items has begun is expanded; others have as many items as "items" says.
 */
extern bool fleet_plan_rest(const FleetAlloc *alloc, const FleetPlanInput *input,
                            const FleetPlanBegun *begun, uint32_t nbegun, FleetTime *rest,
                            FleetError *error);

/* Lower bound of any schedule of independent pieces on these slots' speeds. */
extern FleetTime fleet_plan_lower_bound(const FleetTime *durations, uint32_t n,
                                        const FleetServerSpec *servers, uint32_t nservers);

#endif
