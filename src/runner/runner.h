/*
 * runner/runner.h
 *     What the agent's pool (runner/pool.c) and the runner process (runner/main.c,
 *     runner/exec.c, runner/output.c, runner/channel.c) share: the layout of the
 *     memory between them, and the functions that the runner's files call of
 *     each other, each of those below it.
 *
 * One segment a runner:
 *
 *     RunnerShared | ring to the runner | ring from the runner
 *
 * Everything that must arrive in order goes through the rings
 * (runner/message.h, runner/ring.h).  What would only cost a wake-up is a
 * number in RunnerShared: which request has begun, which one is to be
 * canceled.
 *
 * Requests of one runner are numbered by the pool from 1 ("number"); the
 * agent's own "ref" is carried along and never looked at.
 *
 * A runner that has something to do, or to tell, outlives its agent.  The
 * segment lives as long as one of both is attached.  What the runner said
 * stays in its ring until the agent has stored it durably: the pool frees it
 * at the beginning of the turn after, when it is committed.  The next agent
 * finds the segment through a lock (runner/segment.h), learns from RunnerShared
 * which attempt of which step it is, and reads on where the last one had
 * freed; log lines that were stored, but not freed, are recognised by their
 * numbers.  The runner itself takes no part in that: its command may sleep.
 */
#ifndef FLEET_RUNNER_RUNNER_H
#define FLEET_RUNNER_RUNNER_H

#include "postgres.h"

#include "pg_fleet.h"
#include "port/atomics.h"
#include "runner/message.h"
#include "runner/ring.h"
#include "storage/dsm.h"

#define FLEET_RUNNER_MAGIC                                                                         \
    0x466c5233 /* change it with every change of the layout or the messages */
#define FLEET_RUNNER_RING_TO 65536
/* Larger than any message of a runner (see FLEET_MESSAGE_MAX), since it keeps whole ones. */
#define FLEET_RUNNER_RING_FROM 524288
#define FLEET_RUNNER_TYPE "pg_fleet runner"

/* A command that runs for longer than this is reported as begun; shorter ones just end. */
#define FLEET_RUNNER_BEGUN_MS 2

/* A runner that has nothing to do but to wait for a new agent ends after that. */
#define FLEET_RUNNER_PATIENCE FLEET_SECONDS(30)

#ifndef FLEET_RUNNER_LIBRARY /* the runner's own test is another library */
#define FLEET_RUNNER_LIBRARY FLEET_LIBRARY
#endif

typedef struct RunnerShared
{
    uint32 magic;
    Oid database;
    Oid role;
    pg_atomic_uint32 agent;      /* process that listens (runner/segment.h); 0: none */
    pg_atomic_uint32 generation; /* of agents: one more at each adoption */
    /* written by the runner */
    pg_atomic_uint32 runner; /* its process; 0: not attached yet */
    pg_atomic_uint32 gone;   /* it has ended */
    pg_atomic_uint32 pid;    /* 0: not connected yet */
    pg_atomic_uint64 taken;  /* request that it works on; 0: idle */
    pg_atomic_uint64 begun;  /* last request whose command it began to run */
    pg_atomic_uint64 xid;    /* of that request, once it is prepared; 0: not */
    /* the last request taken, for the next agent: does not change while there is no agent */
    uint64 number;
    FleetStepKey key;
    int log_seq;
    bool transactional;
    /* written by the agent */
    pg_atomic_uint64 cancel;  /* last request that is to be canceled */
    pg_atomic_uint32 cancels; /* how many times the agent sent a SIGINT */
} RunnerShared;

/* Worker parameters besides the segment's handle: checked against RunnerShared. */
typedef struct RunnerParams
{
    Oid database;
    Oid role;
    int agent_pid;
} RunnerParams;

StaticAssertDecl(sizeof(RunnerParams) == 12, "RunnerParams travels in bgw_extra");

/* -- runner/main.c -- */

extern PGDLLEXPORT void fleet_runner_main(Datum arg);

/* -- runner/exec.c -- */

/* Runs one request and reports its end.  Throws only FATAL.  False: the agent is gone. */
extern bool fleet_runner_execute(const RunnerMessage *request);
/* How many hooks, one after the other, have led to what this process executes; 0: none, or it is no runner. */
extern int fleet_runner_hook_depth(void);
/* DISCARD ALL; a session that cannot be cleaned ends here (FATAL). */
extern void fleet_runner_clean_session(void);

/* -- runner/output.c -- */

/* Makes NOTICE, WARNING … and FATAL go to the agent rather than to a client. */
extern void fleet_runner_capture_messages(void);
/* Lines from here on belong to this request; 0: to none. */
extern void fleet_runner_log_target(uint64 number, uint64 ref);
/* A line of our own, sent whatever client_min_messages says. */
extern void fleet_runner_log(const char *level, const char *sqlstate, const char *text);
/* Says how many lines were not sent, if any. */
extern void fleet_runner_log_finish(void);
/* The error that was caught, to the server's log. */
extern void fleet_runner_emit_error(void);
/* Puts what is said of an error into a message, as copies in the current context. */
extern void fleet_runner_say_error(RunnerMessage *message, const ErrorData *error);

/* -- runner/channel.c -- */

/* Attaches to the segment as its runner.  Ends the process if the agent did not wait. */
extern void fleet_runner_channel_open(dsm_handle handle, const RunnerParams *params);
/* This process is connected to the database: this and the next agent may know of it. */
extern void fleet_runner_channel_connected(void);

/* In the handler of SIGINT: does it mean the request that is worked on? */
extern bool fleet_runner_cancels_request(void);

/* No agent is there, and none that may come has anything left to read. */
extern bool fleet_runner_is_done(void);
/* How long to sleep until fleet_runner_is_done() is to be asked again; -1: until woken. */
extern long fleet_runner_patience_ms(void);

/* The next message, if there is one.  It is valid until the next call. */
extern bool fleet_runner_receive(RunnerMessage *message);
/*
 * Leaves a message to the agent, waiting while the ring is full.  Never
 * throws and never handles interrupts, because a half-sent message would
 * spoil the ring.  False: no agent will ever read it.  urgent: wake it now.
 */
extern bool fleet_runner_send(const RunnerMessage *message, bool urgent);

/* Is the agent that sent this request still there? */
extern bool fleet_runner_is_wanted(const RunnerMessage *request);
/* It is worked on from here on (a cancel may have come before: then it is pending), and no more. */
extern void fleet_runner_channel_take(const RunnerMessage *request);
extern void fleet_runner_channel_idle(void);

typedef enum RunnerOrder
{
    RUNNER_ORDER_COMMIT,
    RUNNER_ORDER_GONE, /* the agent went away, or wants this runner to end */
} RunnerOrder;

/* The request's transaction is ready to be committed, and this is its id. */
extern void fleet_runner_mark_prepared(uint64 xid);
/* Waits for the agent's word on this prepared request.  Throws when canceled or terminated. */
extern RunnerOrder fleet_runner_await_commit(uint64 number);

/* The command of this request runs from here on / no more. */
extern void fleet_runner_mark_begun(uint64 number);
extern void fleet_runner_mark_ended(void);

#endif
