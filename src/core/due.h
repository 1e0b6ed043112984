/*
 * core/due.h
 *     What of a schedule is due now: the times that have come since it was
 *     looked at last, and what becomes of those that were missed.
 *
 * Called by the agent, and by tests with clocks of their own.  No clock: the
 * time comes in.
 *
 * The newest time that has come is on time if it is no older than
 * FLEET_DUE_GRACE: an agent that was replaced, a server that was restarted, is
 * as good as one that was there.  All other times were missed.
 *     skip   nothing starts for them
 *     once   one of them starts, the newest, if nothing is on time
 *     all    all of them start, the oldest first; of more than FLEET_DUE_MAX the
 *            newest
 * A clock that goes back makes nothing due that is not due by it: "since" is at
 * most now.
 */
#ifndef FLEET_CORE_DUE_H
#define FLEET_CORE_DUE_H

#include "core/cron.h"

#define FLEET_DUE_MAX 100
#define FLEET_DUE_GRACE ((FleetTime) 10 * 60 * 1000000)

typedef enum FleetMissed
{
    FLEET_MISSED_SKIP,
    FLEET_MISSED_ONCE,
    FLEET_MISSED_ALL,
} FleetMissed;

typedef struct FleetDue
{
    int n;
    FleetTime times[FLEET_DUE_MAX]; /* to be started now, in their order */
    FleetTime next;                 /* when to look again; FLEET_NEVER */
} FleetDue;

/* Times of the schedule after "since" and not after "now". */
extern void fleet_due(const FleetCron *cron, const FleetZone *zone, FleetMissed missed,
                      FleetTime since, FleetTime now, FleetDue *due);

#endif
