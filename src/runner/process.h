/*
 * runner/process.h
 *     One runner's process as the agent holds it: the worker's handle, if it
 *     was started by this agent, the segment and its two rings.  Used by
 *     runner/pool.c only.
 */
#ifndef FLEET_RUNNER_PROCESS_H
#define FLEET_RUNNER_PROCESS_H

#include "postgres.h"
#include "postmaster/bgworker.h"
#include "runner/segment.h"

typedef struct RunnerProcess
{
    BackgroundWorkerHandle *handle; /* NULL: it was another agent's */
    RunnerSegment segment;
    RunnerShared *shared; /* of the segment */
    RunnerRingReader reader;
} RunnerProcess;

/* Makes the segment and asks for the worker; at once usable.  Everything is allocated in the
 * current memory context.  False with sqlstate and why: nothing was made. */
extern bool fleet_runner_process_start(RunnerProcess *process, Oid database, Oid role,
                                       const char **sqlstate, const char **why);

/* Runners of this database whose agent is gone: attached, and not yet taken over.  One a call,
 * handles as fleet_runner_segment_list() gives them; false: it is none of those. */
extern bool fleet_runner_process_find(RunnerProcess *process, dsm_handle handle, Oid database);
/* Takes it over. */
extern void fleet_runner_process_adopt(RunnerProcess *process);

/* Lets go of it: an idle runner ends then, a busy one waits for another agent. */
extern void fleet_runner_process_release(RunnerProcess *process);

extern bool fleet_runner_process_gone(const RunnerProcess *process);

/* Send SIGINT, SIGTERM, if the process is there. */
extern void fleet_runner_process_interrupt(const RunnerProcess *process);
extern void fleet_runner_process_terminate(const RunnerProcess *process);

#endif
