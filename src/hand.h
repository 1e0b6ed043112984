/*
 * hand.h
 *     What the agent has in its hand: the object that it is working on at this
 *     moment, so that an ERROR that ends the agent can be told to whom it
 *     belongs (agent/quarantine.h).  In the agent's process, in all its layers;
 *     elsewhere it is set and never looked at.
 *
 * Taken before the work, a few stores; emptied after it, so that what follows
 * is not blamed on it.  In test builds each "work" is a point (points.h) that
 * can be armed for one object.
 */
#ifndef FLEET_HAND_H
#define FLEET_HAND_H

#include "postgres.h"

typedef enum FleetHandKind
{
    FLEET_HAND_NOTHING,
    FLEET_HAND_RUN,
    FLEET_HAND_JOB_RUN,
    FLEET_HAND_SERVER,
    FLEET_HAND_DEPLOYMENT,
} FleetHandKind;

typedef struct FleetHand
{
    FleetHandKind kind;
    int64 id;
    const char *work; /* what is done with it: a literal */
} FleetHand;

extern FleetHand fleet_hand;

extern void fleet_hand_take(FleetHandKind kind, int64 id, const char *work);
/* The one of both that is not 0. */
extern void fleet_hand_take_unit(int64 run_id, int64 job_run_id, const char *work);
extern void fleet_hand_empty(void);
extern const char *fleet_hand_kind_name(FleetHandKind kind);

#endif
