/*
 * core/plan/internal.h
 *     What plan.c (plays the run) and bound.c (judges the result) share.
 */
#ifndef FLEET_CORE_PLAN_INTERNAL_H
#define FLEET_CORE_PLAN_INTERNAL_H

#include "core/plan/plan.h"

typedef struct Played
{
    const FleetAlloc *alloc;
    const FleetPlanInput *input;
    FleetPlan *plan;
    FleetTime *lengths; /* of plan->tasks, at speed 1, as they really were */
    uint8_t *ran;       /* per task of the graph: it was not skipped */
} Played;

/* The servers that a task may run on: input->targets, or the local one; none for a package. */
extern const uint32_t *plan_servers_of(const FleetPlanInput *input, const FleetTaskSpec *task,
                                       uint32_t *count);
extern void plan_lower_bound(const Played *played);
extern void plan_critical_path(const Played *played);
extern void plan_utilisation(const Played *played);

#endif
