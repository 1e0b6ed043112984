/*
 * runner/segment.h
 *     The memory between an agent and a runner: made, attached to, found
 *     again, and who is at its ends.  Used by both processes (runner/pool.c
 *     and runner/process.c there, runner/channel.c here).
 *
 * Each end is a process number: the place in the server's process array, plus
 * one; 0 is nobody.  An end is cleared when its process detaches or ends, and
 * the other one is woken.
 */
#ifndef FLEET_RUNNER_SEGMENT_H
#define FLEET_RUNNER_SEGMENT_H

#include "postgres.h"

#include "runner/runner.h"

typedef struct RunnerSegment
{
    dsm_segment *segment;
    RunnerShared *shared;
    RunnerRing *to;   /* to the runner */
    RunnerRing *from; /* from the runner */
} RunnerSegment;

/* In the agent.  False: no shared memory is to be had. */
extern bool fleet_runner_segment_create(RunnerSegment *segment, Oid database, Oid role);
/* In either.  False: there is no such segment any more. */
extern bool fleet_runner_segment_attach(RunnerSegment *segment, dsm_handle handle);
extern void fleet_runner_segment_detach(RunnerSegment *segment);

/* This process is the agent's, or the runner's, end from now on, until it detaches. */
extern void fleet_runner_segment_be_agent(const RunnerSegment *segment);
extern void fleet_runner_segment_be_runner(const RunnerSegment *segment);

/* Sets the latch of the process at that end, if there is one.  Also from signal handlers. */
extern void fleet_runner_wake(pg_atomic_uint32 *end);

/*
 * In the runner: makes itself known to a future agent, by holding a lock in a
 * tag that no SQL function can take and that contains the handle.  To be
 * repeated for each request: DISCARD ALL, and a step that calls
 * pg_advisory_unlock_all(), release it.
 */
extern void fleet_runner_segment_publish(const RunnerSegment *segment, Oid database);
/* In the agent: handles of all that are so known in this database; palloc'd. */
extern int fleet_runner_segment_list(Oid database, dsm_handle **handles);

#endif
