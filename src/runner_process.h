/*
 * runner_process.h
 *     One runner's process as the agent holds it: the worker's handle, the
 *     segment and its two queues.  Used by runner_pool.c only.
 */
#ifndef FLEET_RUNNER_PROCESS_H
#define FLEET_RUNNER_PROCESS_H

#include "postgres.h"
#include "postmaster/bgworker.h"
#include "runner.h"

typedef struct RunnerProcess
{
    BackgroundWorkerHandle *handle;
    dsm_segment *segment;
    RunnerShared *shared;
    shm_mq_handle *out; /* to the runner */
    shm_mq_handle *in;  /* from the runner */
} RunnerProcess;

/* Makes segment and queues and asks for the worker; at once usable.  Everything is allocated in
 * the current memory context.  False with sqlstate and why: nothing was made. */
extern bool fleet_runner_process_start(RunnerProcess *process, Oid database, Oid role,
                                       const char **sqlstate, const char **why);

/* Lets go of it: an idle runner ends then, a busy one when its command is done. */
extern void fleet_runner_process_release(RunnerProcess *process);

/* Sends SIGINT, if the process is there. */
extern void fleet_runner_process_interrupt(const RunnerProcess *process);

#endif
