/*
 * runner/message.h
 *     Messages between the agent and a runner, and how they look in a
 *     shared-memory queue.  Used by both processes.
 *
 * Both sides are the same program on the same machine, so numbers travel as
 * they are in memory; FLEET_RUNNER_MAGIC guards against two versions of the
 * library.  Texts are length, bytes, and a terminating zero, so that the
 * receiver uses them where they lie.
 *
 *     to the runner      REQUEST, COMMIT, END
 *     from the runner    LOG, ROW, PREPARED, then one of COMMITTED, ERROR,
 *                        NOT_TRANSACTIONAL; FATAL as its last word
 */
#ifndef FLEET_RUNNER_MESSAGE_H
#define FLEET_RUNNER_MESSAGE_H

#include "postgres.h"
#include "executor.h"
#include "lib/stringinfo.h"

typedef enum RunnerMessageKind
{
    RUNNER_REQUEST = 1,
    RUNNER_COMMIT,
    RUNNER_END,
    RUNNER_LOG,
    RUNNER_ROW,
    RUNNER_PREPARED,
    RUNNER_COMMITTED,
    RUNNER_ERROR,
    RUNNER_NOT_TRANSACTIONAL,
    RUNNER_FATAL,
} RunnerMessageKind;

typedef enum RunnerText
{
    RUNNER_TEXT_COMMAND = 0, /* REQUEST */
    RUNNER_TEXT_PARAMS = 1,
    RUNNER_TEXT_OF = 2,    /* REQUEST: fleet.context */
    RUNNER_TEXT_LEVEL = 0, /* LOG, ERROR, NOT_TRANSACTIONAL, FATAL: FleetDiagnostics */
    RUNNER_TEXT_SQLSTATE = 1,
    RUNNER_TEXT_MESSAGE = 2,
    RUNNER_TEXT_DETAIL = 3,
    RUNNER_TEXT_HINT = 4,
    RUNNER_TEXT_CONTEXT = 5,
    RUNNER_TEXT_OUTPUT = 0, /* ROW, PREPARED, COMMITTED */
} RunnerText;

#define RUNNER_TEXTS 6

typedef struct RunnerMessage
{
    RunnerMessageKind kind;
    uint64 number; /* of the request, counted by the pool */
    uint64 ref;    /* of the request, the agent's */
    uint64 xid;
    int64 row_count;
    FleetRequestKind request_kind;
    bool transactional;
    bool single;
    bool fresh;
    uint8 hook_depth;               /* REQUEST */
    FleetStepKey key;               /* REQUEST */
    int log_seq;                    /* REQUEST */
    uint32 generation;              /* REQUEST: of the agent that gives it */
    uint64 line;                    /* LOG: counted from 1 in each request */
    const char *text[RUNNER_TEXTS]; /* NULL: absent */
} RunnerMessage;

/* What a LOG, ERROR, NOT_TRANSACTIONAL or FATAL says: the texts are not copied. */
extern void fleet_runner_message_say(RunnerMessage *message, const FleetDiagnostics *diag);
extern FleetDiagnostics fleet_runner_message_said(const RunnerMessage *message);

/* A message with everything absent. */
extern void fleet_runner_message_init(RunnerMessage *message, RunnerMessageKind kind, uint64 number,
                                      uint64 ref);
/* Appends the message as it goes into a queue. */
extern void fleet_runner_message_write(StringInfo buffer, const RunnerMessage *message);
/* Texts point into "data".  False: it is not such a message. */
extern bool fleet_runner_message_read(const void *data, Size size, RunnerMessage *message);

/* Fills an event, whose kind is set to LOG before, from a message of the runner; texts point to
 * the message's.  True: it is the last one of its request. */
extern bool fleet_runner_message_event(const RunnerMessage *message, FleetExecutorEvent *event);

#endif
