/*
 * core/due.c
 *     What of a schedule is due now (core/due.h).
 */
#include "core/due.h"

#define FIRST_WINDOW ((FleetTime) 3600 * 1000000)
#define WINDOW_GROWS 8
#define LOOK_BACK ((FleetTime) 12 * 366 * 86400 * 1000000)

/* The newest times after "from" and not after "now", at most so many; returns whether there may be more of them. */
static bool
newest_since(const FleetCron *cron, const FleetZone *zone, FleetTime from, FleetTime now,
             int wanted, FleetDue *due)
{
    FleetTime time = from, ring[FLEET_DUE_MAX];
    int64_t count = 0;

    while ((time = fleet_cron_next(cron, zone, time)) != FLEET_NEVER && time <= now)
        ring[count++ % wanted] = time;
    due->n = (int) (count < wanted ? count : wanted);
    for (int i = 0; i < due->n; i++)
        due->times[i] = ring[(count - due->n + i) % wanted];
    return count < wanted;
}

/* Years may lie between "since" and now, and times of every minute in them: from now backward. */
static void
newest(const FleetCron *cron, const FleetZone *zone, FleetTime since, FleetTime now, int wanted,
       FleetDue *due)
{
    FleetTime window = FIRST_WINDOW;

    while (now - since > window && newest_since(cron, zone, now - window, now, wanted, due))
        window = window > (now - since) / WINDOW_GROWS ? now - since : window * WINDOW_GROWS;
    if (now - since <= window)
        (void) newest_since(cron, zone, since, now, wanted, due);
}

void
fleet_due(const FleetCron *cron, const FleetZone *zone, FleetMissed missed, FleetTime since,
          FleetTime now, FleetDue *due)
{
    due->n = 0;
    due->next = fleet_cron_next(cron, zone, now);
    if (since >= now)
        return;
    if (since < now - LOOK_BACK)
        since = now - LOOK_BACK;
    newest(cron, zone, since, now, missed == FLEET_MISSED_ALL ? FLEET_DUE_MAX : 1, due);
    if (missed == FLEET_MISSED_SKIP && due->n > 0 && now - due->times[0] > FLEET_DUE_GRACE)
        due->n = 0;
}
