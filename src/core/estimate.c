/*
 * core/estimate.c
 *     Learned durations and server speeds (estimate.h): pure arithmetic on a
 *     few numbers a key.  Called by the agent when work ended, by the planner
 *     and by tests.
 *
 * Everything is a logarithm, because durations are spread over decades and
 * because speeds multiply.  An update moves by a share of the residual; the
 * residual is clipped at CLIP times the spread known so far (Huber's idea), so
 * an outlier moves the estimate by a bounded step.  A lasting change widens
 * the spread with every sample, hence is followed within some twenty samples.
 */
#include "core/estimate.h"

#include <math.h>

#define CLIP 2.0             /* residuals beyond so many spreads are cut */
#define SPREAD_FIRST 0.5     /* of one sample: a factor of 1.6 either way */
#define SPREAD_LEAST 0.05    /* nothing is exact to more than 5 % */
#define FORGET 0.1           /* the least weight of a new sample */
#define MEAN_TO_SIGMA 1.2533 /* mean absolute deviation to standard deviation, normal */

#define SPEED_CLIP 0.7
#define SPEED_FORGET 0.05
#define SPEED_LIMIT 2.772588722239781 /* log 16 */

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

/* ---- speed of a server ---- */

void
fleet_speed_init(FleetSpeed *speed)
{
    *speed = (FleetSpeed){0, 0};
}

void
fleet_speed_add(FleetSpeed *speed, FleetTime predicted, FleetTime actual)
{
    double share, residual;

    if (predicted <= 0)
        return; /* nothing was expected, so nothing is learned */
    residual = log((double) predicted) - log(actual > 0 ? (double) actual : 1) - speed->log_speed;
    share = 2 / (speed->samples + 3.0);
    if (share < SPEED_FORGET)
        share = SPEED_FORGET;
    speed->log_speed = clip(speed->log_speed + share * clip(residual, SPEED_CLIP), SPEED_LIMIT);
    if (speed->samples < UINT32_MAX)
        speed->samples++;
}

double
fleet_speed_value(const FleetSpeed *speed)
{
    return speed->samples == 0 ? 1 : exp(clip(speed->log_speed, SPEED_LIMIT));
}

void
fleet_speed_center(FleetSpeed *const *speeds, uint32_t n)
{
    double sum = 0;
    uint32_t known = 0;

    for (uint32_t i = 0; i < n; i++)
        if (speeds[i]->samples > 0)
        {
            sum += speeds[i]->log_speed;
            known++;
        }
    for (uint32_t i = 0; i < n; i++)
        if (speeds[i]->samples > 0)
            speeds[i]->log_speed = clip(speeds[i]->log_speed - sum / known, SPEED_LIMIT);
}
