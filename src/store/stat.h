/*
 * store/stat.h
 *     Rows of fleet_catalog.stat: counters by package, by server, of single
 *     jobs, and of the agent itself.  In the agent's process.
 *
 * They are counted where rows change their states (run_write.c), in memory, and
 * written before the commit of that very transaction: so they are exact, whatever
 * ends the agent, as long as core/stat.h's pace lets them be written at once.
 * What an ERROR undoes is counted no longer either: they are read anew.
 */
#ifndef FLEET_STORE_STAT_H
#define FLEET_STORE_STAT_H

#include "core/stat.h"
#include "store/rows.h"
#include "store/run_collect.h"

/* From now on they are written with every commit. */
extern void fleet_stat_init(MemoryContext context);
/* Reads all rows, as an agent does when it begins. */
extern void fleet_stat_load(void);
/* When what has changed may be written; FLEET_NEVER: nothing has. */
extern FleetTime fleet_stat_due(void);
/* Writes it, though that may not have come: there is no later commit.  Not if somebody has the table. */
extern void fleet_stat_write_all(void);
/* All counters begin at 0 again; gauges stay. */
extern void fleet_stat_reset(void);
/* How many sessions have asked for that; these requests are over. */
extern int fleet_stat_resets_take(void);

/* Between fleet_rows_edit() and fleet_rows_update(): the row that was found is as it was. */
extern void fleet_stat_task(FleetRows *rows, const FleetTaskWrite *w);
extern void fleet_stat_task_start(FleetRows *rows, const FleetTaskWrite *w);
extern void fleet_stat_run(FleetRows *rows, const FleetRunWrite *w);
extern void fleet_stat_job_run(FleetRows *rows, const FleetJobRunWrite *w);

extern void fleet_stat_line(int64 run_id, int64 job_run_id);
/* The same for a task run that is ended apart from the others (run_close.c); found, not yet changed. */
extern void fleet_stat_task_closed(FleetRows *rows, FleetState state);
extern void fleet_stat_late(int64 run_id);
extern void fleet_stat_purged(int64 rows);
extern void fleet_stat_quarantined(void);

/* Gauges. */
extern void fleet_stat_waits(int64 run_id, int64 waiting, int64 running); /* differences */
/* Nothing of this run is in memory any more. */
extern void fleet_stat_forget(int64 run_id);
extern void fleet_stat_found(int server_id,
                             FleetState state); /* a task run that has begun, loaded */

#endif
