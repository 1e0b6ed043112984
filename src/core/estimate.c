/*
 * core/estimate.c
 *     Learned durations (estimate.h): pure arithmetic on a few numbers a key.
 *     Called by the agent when work ended, by the planner and by tests.
 *
 * Everything is a logarithm, because durations are spread over decades.  An
 * update moves by a share of the residual; the residual is clipped at CLIP
 * times the spread known so far (Huber's idea), so an outlier moves the
 * estimate by a bounded step.  A lasting change widens the spread with every
 * sample, hence is followed within some twenty samples.
 */
#include "core/estimate.h"

#include <math.h>

#define CLIP 2.0             /* residuals beyond so many spreads are cut */
#define SPREAD_FIRST 0.5     /* of one sample: a factor of 1.6 either way */
#define SPREAD_LEAST 0.05    /* nothing is exact to more than 5 % */
#define FORGET 0.1           /* the least weight of a new sample */
#define MEAN_TO_SIGMA 1.2533 /* mean absolute deviation to standard deviation, normal */
#define MEAN_SPREAD_MOST 1.5 /* beyond, the mean is all in outliers */
#define COST_MOST 13.8 /* an item is at most a million times as big as the mean, or as small */

static double
clip(double value, double limit)
{
    return value > limit ? limit : value < -limit ? -limit : value;
}

void
fleet_estimate_init(FleetEstimate *estimate)
{
    *estimate = (FleetEstimate){0, SPREAD_FIRST, 0};
}

void
fleet_estimate_add(FleetEstimate *estimate, FleetTime duration, double speed)
{
    double value = log(duration > 0 ? (double) duration : 1) + (speed > 0 ? log(speed) : 0);
    double share, residual;

    if (estimate->samples == 0)
    {
        *estimate = (FleetEstimate){value, SPREAD_FIRST, 1};
        return;
    }
    if (estimate->samples < UINT32_MAX)
        estimate->samples++;
    share = 2.0 / (estimate->samples + 2.0);
    if (share < FORGET)
        share = FORGET;
    residual = clip(value - estimate->log_mean, CLIP * estimate->log_spread);
    estimate->log_mean += share * residual;
    estimate->log_spread += share * (MEAN_TO_SIGMA * fabs(residual) - estimate->log_spread);
    if (estimate->log_spread < SPREAD_LEAST)
        estimate->log_spread = SPREAD_LEAST;
}

double
fleet_estimate_confidence(const FleetEstimate *estimate)
{
    double n = estimate->samples;

    return n / (n + 0.5 + 2 * estimate->log_spread * estimate->log_spread);
}

FleetTime
fleet_estimate_predict(const FleetEstimate *by_item, const FleetEstimate *by_task,
                       const FleetEstimate *by_job)
{
    const FleetEstimate *levels[] = {by_item, by_task, by_job};
    double left = 1, weight = 0, sum = 0;

    for (int i = 0; i < 3; i++)
    {
        double share;

        if (levels[i] == NULL || levels[i]->samples == 0)
            continue;
        share = left * fleet_estimate_confidence(levels[i]);
        weight += share;
        sum += share * levels[i]->log_mean;
        left -= share;
    }
    if (weight <= 0)
        return 0;
    sum = exp(sum / weight);
    return sum < 1 ? 1 : sum < 9e18 ? (FleetTime) sum : FLEET_NEVER - 1;
}

/* The mean of a lognormal distribution; one sample says nothing of its spread. */
FleetTime
fleet_estimate_mean(const FleetEstimate *estimate)
{
    double spread = clip(estimate->log_spread, MEAN_SPREAD_MOST), value;

    if (estimate->samples == 0)
        return 0;
    value = exp(estimate->log_mean + (estimate->samples > 1 ? spread * spread / 2 : 0));
    return value < 1 ? 1 : value < 9e18 ? (FleetTime) value : FLEET_NEVER - 1;
}

/* ---- costs ---- */

bool
fleet_cost_valid(double cost)
{
    return isfinite(cost) && cost >= 0;
}

void
fleet_costs_add(FleetCosts *costs, double cost)
{
    if (cost <= 0)
        return;
    costs->log_sum += log(cost);
    costs->count++;
}

/* Logarithm of its cost over the mean. */
static double
cost_share(const FleetCosts *costs, double cost)
{
    if (cost < 0 || costs->count == 0)
        return 0;
    return cost > 0 ? clip(log(cost) - costs->log_sum / costs->count, COST_MOST) : -COST_MOST;
}

FleetTime
fleet_estimate_by_cost(const FleetEstimate *by_item, const FleetEstimate *by_task,
                       const FleetCosts *costs, double cost, FleetTime otherwise)
{
    FleetEstimate guess = {log((double) otherwise), SPREAD_FIRST, 1};
    bool item_known = by_item != NULL && by_item->samples > 0;

    if (by_task != NULL && by_task->samples > 0)
        guess = *by_task;
    else if (item_known)
        return fleet_estimate_predict(by_item, NULL, NULL);
    guess.log_mean += cost_share(costs, cost);
    return fleet_estimate_predict(by_item, &guess, NULL);
}
