/*
 * core/stat.c
 *     Counters of what has happened (core/stat.h).
 */
#include "core/stat.h"

const FleetTime fleet_stat_bounds[FLEET_STAT_BUCKETS - 1] = {
    FLEET_MS(1),         FLEET_MS(5),        FLEET_MS(25),        FLEET_MS(100),
    FLEET_MS(500),       FLEET_SECONDS(1),   FLEET_SECONDS(5),    FLEET_SECONDS(15),
    FLEET_SECONDS(60),   FLEET_SECONDS(300), FLEET_SECONDS(1800), FLEET_SECONDS(7200),
    FLEET_SECONDS(28800)};

#define PAUSE FLEET_SECONDS(5)
#define STAYED_LONG 32 /* more writes than a page has room for versions */

int
fleet_stat_bucket(FleetTime span)
{
    int bucket = 0;

    while (bucket < FLEET_STAT_BUCKETS - 1 && span > fleet_stat_bounds[bucket])
        bucket++;
    return bucket;
}

void
fleet_histogram_add(FleetHistogram *histogram, FleetTime span)
{
    FleetTime known = span < 0 ? 0 : span;

    histogram->counts[fleet_stat_bucket(known)]++;
    histogram->sum += known;
}

static bool
is_under_way(FleetState state)
{
    return state == FLEET_STARTING || state == FLEET_RUNNING || state == FLEET_CANCELING;
}

void
fleet_stat_run_ended(FleetStat *stat, FleetState outcome, FleetTime waited, FleetTime worked)
{
    stat->runs[outcome - FLEET_SUCCEEDED]++;
    if (waited != FLEET_STAT_NOT_BEGUN)
        fleet_histogram_add(&stat->run_wait, waited);
    if (worked != FLEET_STAT_NOT_BEGUN)
        fleet_histogram_add(&stat->run_work, worked);
}

void
fleet_stat_task_moved(FleetStat *stat, FleetState from, FleetState to)
{
    if (from != to && FLEET_STATE_IS_FINAL(to))
        stat->tasks[to - FLEET_SUCCEEDED]++;
}

void
fleet_stat_attempt_begun(FleetStat *stat, int attempt, FleetTime waited)
{
    if (attempt > 1)
        stat->retries++;
    else
        fleet_histogram_add(&stat->wait, waited);
}

void
fleet_stat_attempt_moved(FleetStat *stat, FleetState from, FleetState to)
{
    stat->running += (int) is_under_way(to) - (int) is_under_way(from);
}

void
fleet_stat_pace_written(FleetStatPace *pace, bool grown, FleetTime now)
{
    pace->stayed = grown ? 0 : pace->stayed + 1;
    if (grown)
        pace->pause = PAUSE;
    else if (pace->stayed > STAYED_LONG)
        pace->pause = 0;
    pace->not_before = pace->pause == 0 ? 0 : now + pace->pause;
}
