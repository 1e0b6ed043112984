/*
 * core/plan/internal.h
 *     What plan.c (plays the run), bound.c (judges the result) and what_if.c
 *     (changes the input) share.
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

extern bool plan_check_input(const FleetPlanInput *input, FleetError *error);
extern bool plan_usable(const FleetServerSpec *server);
extern void plan_lower_bound(const Played *played);
extern void plan_critical_path(const Played *played);
extern void plan_utilisation(const Played *played);

#endif
