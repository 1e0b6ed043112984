/*
 * core/estimate.h
 *     Learned durations, as a few numbers a key, so that the catalog can hold
 *     them.  Speeds of servers: speed.h.
 *
 * Keys, in order of trust: (package, task, item key), (package, task), job.
 * The caller looks the rows up; this file merges and updates them.  Durations
 * are normalised to a server of speed 1 and kept as logarithms: robust
 * location and scale by an exponentially forgetting, clipped (Huber) update,
 * so that one outlier moves the estimate by a bounded step.
 */
#ifndef FLEET_CORE_ESTIMATE_H
#define FLEET_CORE_ESTIMATE_H

#include "core/core.h"

typedef struct FleetEstimate
{
    double log_mean;   /* of the duration in microseconds at speed 1 */
    double log_spread; /* robust standard deviation of the logarithm */
    uint32_t samples;
} FleetEstimate;

extern void fleet_estimate_init(FleetEstimate *estimate);
/* duration > 0 as it was measured on a server of this relative speed */
extern void fleet_estimate_add(FleetEstimate *estimate, FleetTime duration, double speed);
/* 0 … 1, grows with samples, shrinks with spread */
extern double fleet_estimate_confidence(const FleetEstimate *estimate);

/*
 * The best guess from up to three levels (most trusted first; NULL or no
 * samples: absent), blended by confidence.  0 when nothing is known.
 */
extern FleetTime fleet_estimate_predict(const FleetEstimate *by_item, const FleetEstimate *by_task,
                                        const FleetEstimate *by_job);

/*
 * What many pieces of this kind take on average, in microseconds at speed 1;
 * the prediction above is what one of them most likely takes, and less.  0
 * when nothing is known.
 */
extern FleetTime fleet_estimate_mean(const FleetEstimate *estimate);

/* ---- costs: how big the items of a for_each are, in any unit, as its query says ---- */

/* Those of one for_each.  Their mean is the geometric one, as log_mean is of durations. */
typedef struct FleetCosts
{
    double log_sum;
    uint32_t count; /* those that are known, and not 0 */
} FleetCosts;

/* Is it one?  Neither negative nor infinite, and a number. */
extern bool fleet_cost_valid(double cost);
/* cost < 0: not known. */
extern void fleet_costs_add(FleetCosts *costs, double cost);

/*
 * What an item of this cost takes: of "by_item" as it was learned, of
 * "by_task" as that was learned, times its cost over the mean (not known: the
 * mean).  Where nothing was learned, an item of mean cost takes "otherwise".
 */
extern FleetTime fleet_estimate_by_cost(const FleetEstimate *by_item, const FleetEstimate *by_task,
                                        const FleetCosts *costs, double cost, FleetTime otherwise);

#endif
