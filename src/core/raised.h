/*
 * core/raised.h
 *     Kinds of events: what people, hooks and monitors are told of
 *     (fleet.event).  Not to be confused with FleetEvent, which moves the
 *     machines of core/state.h.
 *
 * What ends well, or is canceled, task by task, raises nothing: so a child that
 * succeeds costs a comparison (test_raised.c tells the time).
 */
#ifndef FLEET_CORE_RAISED_H
#define FLEET_CORE_RAISED_H

#include "core/state.h"

typedef enum FleetRaised
{
    FLEET_RAISED_NOTHING,
    FLEET_RAISED_RUN_STARTED,
    FLEET_RAISED_RUN_SUCCEEDED,
    FLEET_RAISED_RUN_FAILED,
    FLEET_RAISED_RUN_CANCELED,
    FLEET_RAISED_RUN_EXPECTED_LATE,
    FLEET_RAISED_RUN_LATE,
    FLEET_RAISED_TASK_FAILED,
    FLEET_RAISED_TASK_LOST,
    FLEET_RAISED_TASK_UNKNOWN,
    FLEET_RAISED_TASK_RETRIED,
    FLEET_RAISED_SERVER_SUSPECT,     /* it does not answer */
    FLEET_RAISED_SERVER_REFUSED,     /* it answers, and refuses us */
    FLEET_RAISED_SERVER_AUTH_FAILED, /* ... because of the password, or the role */
    FLEET_RAISED_SERVER_BACK,
    FLEET_RAISED_AGENT_STARTED,
    FLEET_RAISED_AGENT_PAUSED,
    FLEET_RAISED_SCHEDULE_MISSED,
    FLEET_RAISED_SCHEDULE_FAILED,
    FLEET_RAISED_QUOTA_REACHED,
    FLEET_RAISED_PURGE_DONE,
    FLEET_RAISED_HOOK_FAILED, /* calls no hook */
} FleetRaised;

#define FLEET_RAISED_COUNT (FLEET_RAISED_HOOK_FAILED + 1)

/* What a task run raises that has come into a state, for every child: mostly nothing. */
static inline FleetRaised
fleet_raised_of_task(FleetState state)
{
    if (state == FLEET_FAILED)
        return FLEET_RAISED_TASK_FAILED;
    if (state == FLEET_RETRYING)
        return FLEET_RAISED_TASK_RETRIED;
    if (state < FLEET_LOST)
        return FLEET_RAISED_NOTHING;
    return state == FLEET_LOST ? FLEET_RAISED_TASK_LOST : FLEET_RAISED_TASK_UNKNOWN;
}

#define FLEET_RAISED_BIT(kind) ((uint32) 1 << (kind))

/* ... and a run. */
extern FleetRaised fleet_raised_of_run(FleetState state);

/* What a server raises whose health was the one, and is the other: names of server_health.status. */
extern FleetRaised fleet_raised_of_server(const char *was, const char *is);

/* Is it a line of the server's log too? */
typedef enum FleetRaisedLog
{
    FLEET_RAISED_LOG_FAILURES, /* if failures are, or all events are */
    FLEET_RAISED_LOG_ALL,      /* only if all events are */
    FLEET_RAISED_LOG_OWN,      /* who raises it has a line of his own */
} FleetRaisedLog;

extern FleetRaisedLog fleet_raised_log(FleetRaised kind);

extern const char *fleet_raised_name(FleetRaised kind); /* 'run_started' ... */

#endif
