/*
 * agent/history.c
 *     The purge of history, in slices (agent/history.h).
 *
 * A slice is a part of the turn's transaction and takes a few milliseconds;
 * until the next one the agent rests from it for as long as it took, so that
 * runs which are under way wait at most for one.  An ERROR in a slice is the
 * purge's alone: it is told, and tried again later.
 */
#include "postgres.h"

#include "agent/history.h"
#include "agent/raise.h"
#include "store/history.h"
#include "store/stat.h"
#include "points.h"
#include "utils/memutils.h"

#define HOW_OFTEN FLEET_MS(3600000)
#define AFTER_AN_ERROR FLEET_MS(600000)
#define AFTER_THE_START FLEET_MS(60000) /* others wait for the agent then */
#define SLICE_AT_FIRST 200
#define SLICE_MAX 1000
#define SLICE_LASTS FLEET_MS(10) /* meant to */

static FleetPurge purge;
static FleetTime due_at = 0; /* 0: the agent has just begun */
static int slice = SLICE_AT_FIRST;

static void
one_slice(void *arg)
{
    FLEET_POINT("agent_purge");
    fleet_history_slice(arg, slice);
}

static FleetTime
begin_again(FleetTime at)
{
    memset(&purge, 0, sizeof(purge));
    return due_at = at;
}

/* Rows are of any size, and disks of any speed. */
static void
adapt(FleetTime took)
{
    if (took > SLICE_LASTS)
        slice = Max(slice / 2, 1);
    else if (took < SLICE_LASTS / 2)
        slice = Min(slice * 2, SLICE_MAX);
}

void
agent_history_load(void)
{
    if (fleet_history_asked())
        agent_history_now();
}

FleetTime
agent_history_turn(FleetTime now)
{
    FleetPurge next = purge;
    FleetDiagnostics failure;
    FleetTime began = fleet_clock_now(), took;

    if (due_at == 0)
        due_at = now + AFTER_THE_START;
    if (now < due_at)
        return due_at;
    if (!agent_protected(one_slice, &next, &failure))
    {
        ereport(LOG, (errmsg("history could not be purged: %s", failure.message),
                      errdetail("It is tried again in %d minutes.",
                                (int) (AFTER_AN_ERROR / FLEET_MS(60000)))));
        return begin_again(now + AFTER_AN_ERROR);
    }
    fleet_stat_purged(next.rows - purge.rows);
    purge = next;
    if (purge.stage < FLEET_HISTORY_OVER)
    {
        took = fleet_clock_now() - began;
        adapt(took);
        return due_at = began + 2 * took;
    }
    if (purge.rows > 0)
    {
        agent_raise(FLEET_RAISED_PURGE_DONE, InvalidOid, NULL, NULL,
                    psprintf(INT64_FORMAT " rows", purge.rows));
        ereport(LOG, (errmsg_plural("purged history: " INT64_FORMAT " row",
                                    "purged history: " INT64_FORMAT " rows",
                                    (unsigned long) purge.rows, purge.rows)));
    }
    return begin_again(now + HOW_OFTEN);
}

void
agent_history_now(void)
{
    begin_again(1);
    turn_again();
}
