/*
 * store/steer.h
 *     What sessions ask of runs that go on: read, and, of retries, done with.
 *     In the agent's process.
 */
#ifndef FLEET_STORE_STEER_H
#define FLEET_STORE_STEER_H

#include "postgres.h"

#include "store/run_read.h"

typedef struct FleetSkipRow
{
    uint32 task;
    uint32 item;
    char *why; /* what its row says: by whom, and the reason */
} FleetSkipRow;

/* Of one run, by task and item; palloc'd in the current context. */
extern int fleet_skip_read(int64 run_id, FleetSkipRow **rows);

typedef struct FleetRetryRow
{
    int64 request_id;
    int64 run_id;
    uint32 task;
    uint32 item; /* 0: the task, with all its items */
} FleetRetryRow;

/* Of all runs, in order. */
extern int fleet_retry_read(FleetRetryRow **rows);
/* The task runs that such a request starts once more, of those that have begun; log_base: last number
 * of their logs. */
extern int fleet_retry_tasks(const FleetRetryRow *request, FleetTaskRow **rows);
/* Rows of items that had ended before they began are queued again. */
extern void fleet_retry_requeue(const FleetRetryRow *request);
extern void fleet_retry_done(int64 request_id);

typedef struct FleetPauseRow
{
    int64 run_id;  /* 0: not a run */
    char *package; /* NULL: not a package */
    char *group;   /* NULL: not a group; neither of the three: everything */
    char *why;     /* what is said of what waits */
} FleetPauseRow;

/* All that is paused; palloc'd in the current context. */
extern int fleet_pause_read(FleetPauseRow **rows);

#endif
