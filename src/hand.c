/*
 * hand.c
 *     What the agent has in its hand (hand.h).
 */
#include "postgres.h"

#include "hand.h"
#include "points.h"

FleetHand fleet_hand;

void
fleet_hand_take(FleetHandKind kind, int64 id, const char *work)
{
    /* row after row of one run: a point looks into the file system */
    bool again = fleet_hand.kind == kind && fleet_hand.id == id && fleet_hand.work == work;

    fleet_hand = (FleetHand){kind, id, work};
    if (!again)
        FLEET_POINT_OF(work, id);
}

void
fleet_hand_take_unit(int64 run_id, int64 job_run_id, const char *work)
{
    if (run_id != 0)
        fleet_hand_take(FLEET_HAND_RUN, run_id, work);
    else if (job_run_id != 0)
        fleet_hand_take(FLEET_HAND_JOB_RUN, job_run_id, work);
}

void
fleet_hand_empty(void)
{
    fleet_hand.kind = FLEET_HAND_NOTHING;
}

const char *
fleet_hand_kind_name(FleetHandKind kind)
{
    switch (kind)
    {
        case FLEET_HAND_NOTHING: return "nothing";
        case FLEET_HAND_RUN: return "run";
        case FLEET_HAND_JOB_RUN: return "job run";
        case FLEET_HAND_SERVER: return "server";
        case FLEET_HAND_DEPLOYMENT: return "deployment";
    }
    return NULL;
}
