/*
 * runner/request.h
 *     A runner as the agent holds it, and what is sent to it.  Shared by
 *     runner/pool.c (the pool, and what comes back) and runner/request.c (the
 *     methods of FleetExecutor).  In the agent's process.
 */
#ifndef FLEET_RUNNER_REQUEST_H
#define FLEET_RUNNER_REQUEST_H

#include "postgres.h"

#include "clock.h"
#include "executor.h"
#include "lib/ilist.h"
#include "runner/message.h"
#include "runner/process.h"

/* A request given to a runner, until its last event. */
typedef struct RunnerInFlight
{
    dlist_node node;
    uint64 number;
    uint64 ref;
    uint64 stored_lines; /* lines that an agent before this one has stored */
    bool began;          /* BEGAN was told */
} RunnerInFlight;

/* A message that is not yet in the ring completely. */
typedef struct RunnerUnsent
{
    dlist_node node;
    Size size;
    Size done;
    char data[FLEXIBLE_ARRAY_MEMBER];
} RunnerUnsent;

typedef struct Runner
{
    FleetExecutor base;    /* first: a FleetExecutor * is a Runner * */
    dlist_node node;       /* in one of the four lists */
    MemoryContext context; /* of the pool */
    Oid role;
    RunnerProcess process;
    dlist_head in_flight;
    dlist_head unsent;
    uint64 last_number;
    FleetTime idle_since;
    bool dead;
    bool given_back;             /* dead, and the agent knows */
    FleetDiagnostics last_words; /* why its process ended, by its own words */
} Runner;

extern const FleetExecutorMethods fleet_runner_methods;

/* The request that the next message of the runner is about; NULL: none is in flight. */
extern RunnerInFlight *fleet_runner_first(Runner *runner);
/* Sends a message; what does not fit into the ring is kept in "unsent". */
extern void fleet_runner_tell(Runner *runner, const RunnerMessage *message);
/* Tries again to send what did not fit. */
extern void fleet_runner_unsent_flush(Runner *runner);

#endif
