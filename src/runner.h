/*
 * runner.h
 *     What the agent's pool (runner_pool.c) and the runner process (runner.c,
 *     runner_exec.c, runner_output.c) share: the layout of the memory between
 *     them, and the functions that the runner's files call of each other.
 *
 * One segment a runner:
 *
 *     RunnerShared | queue to the runner | queue from the runner
 *
 * Everything that must arrive in order goes through the queues
 * (runner_message.h).  What would only cost a wake-up is a number in
 * RunnerShared: which request has begun, which one is to be canceled.
 *
 * Requests of one runner are numbered by the pool from 1 ("number"); the
 * agent's own "ref" is carried along and never looked at.
 */
#ifndef FLEET_RUNNER_H
#define FLEET_RUNNER_H

#include "postgres.h"

#include "pg_fleet.h"
#include "port/atomics.h"
#include "runner_message.h"
#include "storage/dsm.h"
#include "storage/shm_mq.h"

#define FLEET_RUNNER_MAGIC                                                                         \
    0x466c5232 /* change it with every change of the layout or the messages */
#define FLEET_RUNNER_QUEUE_TO 65536
#define FLEET_RUNNER_QUEUE_FROM 262144
#define FLEET_RUNNER_TYPE "pg_fleet runner"

/* A command that runs for longer than this is reported as begun; shorter ones just end. */
#define FLEET_RUNNER_BEGUN_MS 2

#ifndef FLEET_RUNNER_LIBRARY /* the runner's own test is another library */
#define FLEET_RUNNER_LIBRARY FLEET_LIBRARY
#endif

typedef struct RunnerShared
{
    uint32 magic;
    Oid database;
    Oid role;
    /* written by the runner */
    pg_atomic_uint32 pid;   /* 0: not connected yet */
    pg_atomic_uint64 taken; /* request that it works on; 0: idle */
    pg_atomic_uint64 begun; /* last request whose command it began to run */
    /* written by the agent */
    pg_atomic_uint64 cancel;  /* last request that is to be canceled */
    pg_atomic_uint32 cancels; /* how many times the agent sent a SIGINT */
} RunnerShared;

#define FLEET_RUNNER_OFFSET_TO MAXALIGN(sizeof(RunnerShared))
#define FLEET_RUNNER_OFFSET_FROM (FLEET_RUNNER_OFFSET_TO + FLEET_RUNNER_QUEUE_TO)
#define FLEET_RUNNER_SEGMENT_SIZE (FLEET_RUNNER_OFFSET_FROM + FLEET_RUNNER_QUEUE_FROM)

/* Worker parameters besides the segment's handle: checked against RunnerShared. */
typedef struct RunnerParams
{
    Oid database;
    Oid role;
    int agent_pid;
} RunnerParams;

StaticAssertDecl(sizeof(RunnerParams) == 12, "RunnerParams travels in bgw_extra");

/* -- runner.c -- */

extern PGDLLEXPORT void fleet_runner_main(Datum arg);

/*
 * Sends a message to the agent, waiting while the queue is full.  Never
 * throws and never handles interrupts, because a half-sent message would
 * spoil the queue.  False: the agent is gone.  urgent: wake it now.
 */
extern bool fleet_runner_send(const RunnerMessage *message, bool urgent);

typedef enum RunnerOrder
{
    RUNNER_ORDER_COMMIT,
    RUNNER_ORDER_GONE, /* the agent went away, or wants this runner to end */
} RunnerOrder;

/* Waits for the agent's word on this prepared request.  Throws when canceled or terminated. */
extern RunnerOrder fleet_runner_await_commit(uint64 number);

/* The command of this request runs from here on / no more. */
extern void fleet_runner_mark_begun(uint64 number);
extern void fleet_runner_mark_ended(void);

/* -- runner_exec.c -- */

/* Runs one request and reports its end.  Throws only FATAL.  False: the agent is gone. */
extern bool fleet_runner_execute(const RunnerMessage *request);
/* DISCARD ALL; a session that cannot be cleaned ends here (FATAL). */
extern void fleet_runner_clean_session(void);

/* -- runner_output.c -- */

/* Makes NOTICE, WARNING … and FATAL go to the agent rather than to a client. */
extern void fleet_runner_capture_messages(void);
/* Lines from here on belong to this request; 0: to nobody. */
extern void fleet_runner_log_target(uint64 number, uint64 ref);
/* A line of our own, sent whatever client_min_messages says. */
extern void fleet_runner_log(const char *level, const char *sqlstate, const char *text);
/* Says how many lines were not sent, if any. */
extern void fleet_runner_log_finish(void);
/* Cut at a character, so that at most "limit" bytes remain; NULL stays NULL. */
extern char *fleet_runner_clip(const char *text, int limit);
/* Puts sqlstate, message, detail, hint, context of an error into a message. */
extern void fleet_runner_error_texts(const ErrorData *error, RunnerMessage *message);

#endif
