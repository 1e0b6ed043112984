/*
 * core/stat.h
 *     Counters of what has happened (fleet.stat, fleet.stat_server): outcomes,
 *     retries, and how long things waited and worked, as histograms.
 *
 * Pure arithmetic, called by store/stat.c with each row that is written, and by
 * tests.  A counter only ever grows: what is purged stays counted, and what ends
 * once more, because somebody asked for another attempt, is counted once more.
 *
 * The bounds of the buckets are the same for all histograms and are part of
 * what is stored: who changes them writes an upgrade that resets the counters.
 */
#ifndef FLEET_CORE_STAT_H
#define FLEET_CORE_STAT_H

#include "core/core.h"
#include "core/state.h"

/* The last bucket has no bound. */
#define FLEET_STAT_BUCKETS 14
extern const FleetTime fleet_stat_bounds[FLEET_STAT_BUCKETS - 1];

typedef struct FleetHistogram
{
    int64_t counts[FLEET_STAT_BUCKETS]; /* each by itself, not added up */
    int64_t sum;                        /* microseconds */
} FleetHistogram;

/* By final state, in the order of core/state.h. */
#define FLEET_STAT_OUTCOMES (FLEET_UNKNOWN - FLEET_SUCCEEDED + 1)

typedef struct FleetStat
{
    int64_t runs[FLEET_STAT_OUTCOMES];
    int64_t tasks[FLEET_STAT_OUTCOMES];
    FleetHistogram run_wait; /* from the request, or the time that was asked for, to the begin */
    FleetHistogram run_work; /* ... to the end */
    FleetHistogram wait;     /* of first attempts: from when they could begin */
    FleetHistogram work;     /* of attempts, from start to end */
    int64_t retries;         /* starts after the first one */
    int64_t log_lines;
    int64_t purged;      /* rows */
    int64_t quarantined; /* objects */
    int64_t late;        /* runs that have missed their deadline */
    /* gauges: they grow and shrink */
    int64_t waiting; /* task runs that have not started, or wait for a retry */
    int64_t running;
} FleetStat;

/* In which bucket a span is: the first one whose bound it does not exceed. */
extern int fleet_stat_bucket(FleetTime span);
/* A span below 0, of a clock that was set back, is 0. */
extern void fleet_histogram_add(FleetHistogram *histogram, FleetTime span);

#define FLEET_STAT_NOT_BEGUN (-1) /* there is no such span */

/* A run has come into a final state. */
extern void fleet_stat_run_ended(FleetStat *stat, FleetState outcome, FleetTime waited,
                                 FleetTime worked);
/* A task run's row goes from one state to another one: counts it if that is final. */
extern void fleet_stat_task_moved(FleetStat *stat, FleetState from, FleetState to);
/* An attempt begins; which one it is, of this task run, counted from 1. */
extern void fleet_stat_attempt_begun(FleetStat *stat, int attempt, FleetTime waited);
/* Of the server where it is: it is under way there no longer, or is so now. */
extern void fleet_stat_attempt_moved(FleetStat *stat, FleetState from, FleetState to);

/*
 * How often the counters may be written.  A row that stays on its page costs next
 * to nothing.  Where an old snapshot keeps its former versions it moves from page
 * to page, and the table grows: beyond some size there is a pause after each
 * write, until versions are removed again and rows stay where they are.
 */
typedef struct FleetStatPace
{
    FleetTime pause;
    FleetTime not_before; /* 0: at once */
    int stayed;           /* writes since a row has moved */
} FleetStatPace;

/* "grown": a row has moved to a page beyond that size. */
extern void fleet_stat_pace_written(FleetStatPace *pace, bool grown, FleetTime now);

#endif
