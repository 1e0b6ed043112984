/*
 * store/run_close.h
 *     The open rows of a run or job run that cannot be loaded end, with the
 *     reason; rows that are taken back.  In the agent's process.
 */
#ifndef FLEET_STORE_RUN_CLOSE_H
#define FLEET_STORE_RUN_CLOSE_H

#include "postgres.h"

/* A run's line in the log: before its rows are closed. */
extern void fleet_run_close_line(int64 run_id, const char *sqlstate, const char *message);
/* Its task runs and their step runs: what was not under way is skipped, the outcome of what was is not
 * known.  The row of the run itself is the caller's. */
extern void fleet_run_close(int64 run_id, const char *sqlstate, const char *message);
/* The step runs of a job run. */
extern void fleet_job_run_close(int64 job_run_id, const char *sqlstate, const char *message);
/* Removes the rows of a task's items: its for_each was not stored to its end, and none has begun. */
extern void fleet_task_forget_items(int64 run_id, uint32 task);

#endif
