/*
 * store/run_collect.h
 *     Rows of runs that are to be written, as they are collected during a turn
 *     (run_collect.c) and written at its end (run_write.c).  In the agent's
 *     process.
 */
#ifndef FLEET_STORE_RUN_COLLECT_H
#define FLEET_STORE_RUN_COLLECT_H

#include "postgres.h"

#include "store/run_write.h"
#include "utils/jsonb.h"

typedef struct FleetRunWrite
{
    int64 run_id;
    FleetState old;
    FleetState state;
    TimestampTz started_at;
    TimestampTz finished_at;
    const char *message;
    bool timed_out;
} FleetRunWrite;

typedef struct FleetTaskNew
{
    int64 run_id;
    uint32 task;
    uint32 item;
    TimestampTz queued_at;
    Jsonb *params; /* NULL: none */
    FleetItemFacts facts;
} FleetTaskNew;

/* Rows of one kind; "items" grows, and is kept from turn to turn unless it has grown large. */
typedef struct FleetCollectedRows
{
    Size size;    /* of an item */
    bool of_job;  /* an item begins with the number of a job run, else with that of a run … */
    bool of_both; /* … which that of a job run follows, where it is 0 */
    int count;
    int capacity;
    char *items;
} FleetCollectedRows;

/* By what is to be done. */
typedef struct FleetCollected
{
    FleetCollectedRows runs, news, starts, tasks, job_runs, step_news, steps, lines;
    MemoryContext values; /* what they point to; reset with them */
} FleetCollected;

extern FleetCollected fleet_collected;

extern int fleet_collected_count(void);
extern void fleet_collected_clear(void);
/* Of all that is collected: each run and job run once.  Returns how many; in fleet_collected.values. */
extern int fleet_collected_owners(FleetRowOwner **owners);
extern bool fleet_row_owners_equal(const FleetRowOwner *a, const FleetRowOwner *b);

#endif
