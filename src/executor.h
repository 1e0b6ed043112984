/*
 * executor.h
 *     What the agent may ask of whatever executes steps, and what it hears
 *     back.  Two implementations, with the same events in the same order for
 *     the same step: runners behind shared-memory queues (runner/pool.c) and
 *     sessions on direct servers (link/direct_mode.c).
 *
 * In the agent's process.  All functions return at once; events come later,
 * from fleet_loop_wait(), through one callback.  Nothing here throws for what
 * the other side did; running out of memory may throw.
 *
 * One attempt of a step:
 *
 *   transactional           run → BEGAN → LOG* → PREPARED → (agent stores the
 *                           id durably) commit → COMMITTED | ERROR (deferred
 *                           constraint, serialization: surely rolled back)
 *   not transactional       run → BEGAN → LOG* → COMMITTED
 *   it raised               … → ERROR
 *   cannot run in a
 *   transaction (25001,
 *   2D000)                  … → NOT_TRANSACTIONAL (rolled back, nothing done)
 *   executor is gone        … → CUT
 *
 * After COMMITTED, ERROR, NOT_TRANSACTIONAL the executor is free again and
 * clean: the next step of the same job sees the session as it was left (a job
 * is one session, as in psql), the first step of another job (request->fresh)
 * sees nothing of it (DISCARD ALL).  A job may say that it leaves nothing in its
 * session: then the next one does without (executor->clean).
 */
#ifndef FLEET_EXECUTOR_H
#define FLEET_EXECUTOR_H

#include "postgres.h"
#include "core/core.h"
#include "diagnostics.h"

typedef struct FleetExecutor FleetExecutor; /* a runner, or a direct session */

#define FLEET_OUTPUT_MAX 65536    /* returned value, in bytes, cut at a character */
#define FLEET_LOG_LINES_MAX 10000 /* lines of one step; then one line says how many were dropped */

typedef enum FleetRequestKind
{
    FLEET_REQUEST_STEP,  /* command, protocol above */
    FLEET_REQUEST_QUERY, /* for_each: read-only transaction, always rolled back; each row comes as
                            ROW, a JSON object: of one column of type json or jsonb its value, else
                            the columns by their names; ends with COMMITTED or ERROR; no PREPARED */
    FLEET_REQUEST_CONDITION, /* the same, of one column, a boolean, which comes as text */
} FleetRequestKind;

/* Which attempt of which step a request is: what the rows say of it, so that the next agent finds
 * it again.  All zero: it is not looked for, and its runner is ended. */
typedef struct FleetStepKey
{
    int64 run_id;
    int64 job_run_id;
    uint32 task;
    uint32 item;
    uint32 task_attempt;
    uint32 first_seq;
} FleetStepKey;

StaticAssertDecl(sizeof(FleetStepKey) == 32, "FleetStepKey has no holes: it is compared as bytes");

typedef struct FleetStepRequest
{
    FleetRequestKind kind;
    uint64 ref;          /* the agent's own number, comes back in every event */
    const char *command; /* SQL text, as psql would get it */
    const char *params;  /* JSON object text: becomes the setting fleet.params; never NULL */
    const char *context; /* the same for fleet.context */
    bool transactional;  /* false: run it outside of a transaction block, as psql would */
    bool single;         /* the command is known to be one statement */
    bool fresh;          /* nothing of earlier jobs may be visible: DISCARD ALL */
    FleetStepKey key;    /* for fleet_runner_adopt() */
    int hook_depth;      /* so many hooks have led to it: what it starts is theirs */
    int log_seq;         /* the request's log lines get the numbers after this one */
} FleetStepRequest;

typedef enum FleetExecutorEventKind
{
    FLEET_EXECUTOR_BEGAN,
    FLEET_EXECUTOR_LOG,
    FLEET_EXECUTOR_ROW,
    FLEET_EXECUTOR_PREPARED,
    FLEET_EXECUTOR_COMMITTED,
    FLEET_EXECUTOR_ERROR,
    FLEET_EXECUTOR_NOT_TRANSACTIONAL,
    FLEET_EXECUTOR_CUT, /* diag says why; never_sent tells whether it can have run at all */
} FleetExecutorEventKind;

typedef enum FleetXactStatus
{
    FLEET_XACT_COMMITTED,
    FLEET_XACT_ABORTED,
    FLEET_XACT_IN_PROGRESS, /* its session was told to end; ask again */
    FLEET_XACT_UNKNOWN,     /* too old, or another server identity or timeline */
} FleetXactStatus;

typedef struct FleetExecutorEvent
{
    FleetExecutorEventKind kind;
    uint64 ref;
    /* LOG, ERROR, NOT_TRANSACTIONAL, CUT; this and output are valid during the callback only */
    FleetDiagnostics diag;
    /* PREPARED, COMMITTED */
    uint64 xid;
    int64 row_count;    /* -1: none */
    const char *output; /* NULL: none.  Also the text of ROW */
    /* BEGAN */
    int backend_pid;
    /* CUT */
    bool never_sent;
} FleetExecutorEvent;

/* Where the events of executors go; handed in by the agent, once for the runners
 * (fleet_runner_pool_init()) and once for direct sessions (fleet_link_init()). */
typedef struct FleetExecutorSink
{
    void (*event)(void *arg, FleetExecutor *executor, const FleetExecutorEvent *event);
    void *arg;
} FleetExecutorSink;

/* Common head of both kinds; the rest belongs to the implementation. */
typedef struct FleetExecutorMethods
{
    void (*run)(FleetExecutor *executor, const FleetStepRequest *request);
    void (*commit)(FleetExecutor *executor);
    void (*cancel)(FleetExecutor *executor); /* the running request; safe to call again */
} FleetExecutorMethods;

struct FleetExecutor
{
    const FleetExecutorMethods *methods;
    void *owner; /* the agent's: what it is working on, NULL when idle */
    bool busy;
    bool clean; /* the agent's: the job before said that it leaves nothing in the session */
};

#endif
