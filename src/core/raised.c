/*
 * core/raised.c
 *     Kinds of events (core/raised.h).
 */
#include "core/raised.h"

#include <string.h>

static const char *const names[FLEET_RAISED_COUNT] = {
    [FLEET_RAISED_NOTHING] = "nothing",
    [FLEET_RAISED_RUN_STARTED] = "run_started",
    [FLEET_RAISED_RUN_SUCCEEDED] = "run_succeeded",
    [FLEET_RAISED_RUN_FAILED] = "run_failed",
    [FLEET_RAISED_RUN_CANCELED] = "run_canceled",
    [FLEET_RAISED_RUN_EXPECTED_LATE] = "run_expected_late",
    [FLEET_RAISED_RUN_LATE] = "run_late",
    [FLEET_RAISED_TASK_FAILED] = "task_failed",
    [FLEET_RAISED_TASK_LOST] = "task_lost",
    [FLEET_RAISED_TASK_UNKNOWN] = "task_unknown",
    [FLEET_RAISED_TASK_RETRIED] = "task_retried",
    [FLEET_RAISED_SERVER_SUSPECT] = "server_suspect",
    [FLEET_RAISED_SERVER_REFUSED] = "server_refused",
    [FLEET_RAISED_SERVER_AUTH_FAILED] = "server_auth_failed",
    [FLEET_RAISED_SERVER_BACK] = "server_back",
    [FLEET_RAISED_AGENT_STARTED] = "agent_started",
    [FLEET_RAISED_AGENT_PAUSED] = "agent_paused",
    [FLEET_RAISED_SCHEDULE_MISSED] = "schedule_missed",
    [FLEET_RAISED_SCHEDULE_FAILED] = "schedule_failed",
    [FLEET_RAISED_QUOTA_REACHED] = "quota_reached",
    [FLEET_RAISED_PURGE_DONE] = "purge_done",
    [FLEET_RAISED_HOOK_FAILED] = "hook_failed",
};

const char *
fleet_raised_name(FleetRaised kind)
{
    return names[kind];
}

FleetRaised
fleet_raised_of_run(FleetState state)
{
    switch (state)
    {
        case FLEET_RUNNING: return FLEET_RAISED_RUN_STARTED;
        case FLEET_SUCCEEDED: return FLEET_RAISED_RUN_SUCCEEDED;
        case FLEET_CANCELED: return FLEET_RAISED_RUN_CANCELED;
        case FLEET_FAILED:
        case FLEET_LOST:
        case FLEET_UNKNOWN: return FLEET_RAISED_RUN_FAILED;
        case FLEET_QUEUED:
        case FLEET_STARTING:
        case FLEET_RETRYING:
        case FLEET_CANCELING:
        case FLEET_SKIPPED: break;
    }
    return FLEET_RAISED_NOTHING;
}

static FleetRaised
server_is(const char *status)
{
    if (strcmp(status, "suspect") == 0)
        return FLEET_RAISED_SERVER_SUSPECT;
    if (strcmp(status, "refused") == 0)
        return FLEET_RAISED_SERVER_REFUSED;
    if (strcmp(status, "auth_failed") == 0)
        return FLEET_RAISED_SERVER_AUTH_FAILED;
    return strcmp(status, "up") == 0 ? FLEET_RAISED_SERVER_BACK : FLEET_RAISED_NOTHING;
}

/* A server that was never heard of is not back when it is there. */
FleetRaised
fleet_raised_of_server(const char *was, const char *is)
{
    FleetRaised before = server_is(was), now = server_is(is);

    if (before == now || (now == FLEET_RAISED_SERVER_BACK && before == FLEET_RAISED_NOTHING))
        return FLEET_RAISED_NOTHING;
    return now;
}

FleetRaisedLog
fleet_raised_log(FleetRaised kind)
{
    switch (kind)
    {
        case FLEET_RAISED_RUN_FAILED:
        case FLEET_RAISED_TASK_FAILED:
        case FLEET_RAISED_TASK_LOST:
        case FLEET_RAISED_TASK_UNKNOWN:
        case FLEET_RAISED_SERVER_SUSPECT:
        case FLEET_RAISED_SERVER_REFUSED:
        case FLEET_RAISED_SERVER_AUTH_FAILED:
        case FLEET_RAISED_SERVER_BACK:
        case FLEET_RAISED_SCHEDULE_MISSED:
        case FLEET_RAISED_QUOTA_REACHED:
        case FLEET_RAISED_HOOK_FAILED: return FLEET_RAISED_LOG_FAILURES;
        case FLEET_RAISED_NOTHING:
        case FLEET_RAISED_RUN_STARTED:
        case FLEET_RAISED_RUN_SUCCEEDED:
        case FLEET_RAISED_RUN_CANCELED:
        case FLEET_RAISED_TASK_RETRIED:
        case FLEET_RAISED_AGENT_STARTED: return FLEET_RAISED_LOG_ALL;
        case FLEET_RAISED_RUN_EXPECTED_LATE:
        case FLEET_RAISED_RUN_LATE:
        case FLEET_RAISED_AGENT_PAUSED:
        case FLEET_RAISED_SCHEDULE_FAILED:
        case FLEET_RAISED_PURGE_DONE: break;
    }
    return FLEET_RAISED_LOG_OWN;
}
