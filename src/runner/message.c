/*
 * runner/message.c
 *     Writing and reading of the messages between agent and runner.  In both
 *     processes; no state.
 */
#include "postgres.h"

#include "runner/message.h"

/* The fixed part, as it lies in the queue.  Text lengths count the zero; 0: absent. */
typedef struct RunnerWire
{
    uint64 number;
    uint64 ref;
    uint64 xid;
    int64 row_count;
    uint64 line;
    FleetStepKey key;
    int32 log_seq;
    uint32 generation;
    uint32 length[RUNNER_TEXTS];
    uint8 kind;
    uint8 request_kind;
    uint8 transactional;
    uint8 single;
    uint8 fresh;
    uint8 hook_depth;
    uint8 unused[2];
} RunnerWire;

StaticAssertDecl(sizeof(RunnerWire) == 112, "RunnerWire has no holes");

void
fleet_runner_message_init(RunnerMessage *message, RunnerMessageKind kind, uint64 number, uint64 ref)
{
    memset(message, 0, sizeof(*message));
    message->kind = kind;
    message->number = number;
    message->ref = ref;
    message->row_count = -1;
}

void
fleet_runner_message_write(StringInfo buffer, const RunnerMessage *message)
{
    RunnerWire wire = {0};

    wire.kind = (uint8) message->kind;
    wire.number = message->number;
    wire.ref = message->ref;
    wire.xid = message->xid;
    wire.row_count = message->row_count;
    wire.request_kind = (uint8) message->request_kind;
    wire.transactional = message->transactional;
    wire.single = message->single;
    wire.fresh = message->fresh;
    wire.hook_depth = message->hook_depth;
    wire.key = message->key;
    wire.log_seq = message->log_seq;
    wire.generation = message->generation;
    wire.line = message->line;
    for (int i = 0; i < RUNNER_TEXTS; i++)
        if (message->text[i])
            wire.length[i] = (uint32) strlen(message->text[i]) + 1;
    appendBinaryStringInfo(buffer, (const char *) &wire, sizeof(wire));
    for (int i = 0; i < RUNNER_TEXTS; i++)
        if (wire.length[i] > 0)
            appendBinaryStringInfo(buffer, message->text[i], (int) wire.length[i]);
}

bool
fleet_runner_message_read(const void *data, Size size, RunnerMessage *message)
{
    RunnerWire wire;
    const char *at = (const char *) data + sizeof(wire);
    Size left;

    if (size < sizeof(wire))
        return false;
    memcpy(&wire, data, sizeof(wire));
    left = size - sizeof(wire);
    if (wire.kind < RUNNER_REQUEST || wire.kind > RUNNER_FATAL)
        return false;
    fleet_runner_message_init(message, (RunnerMessageKind) wire.kind, wire.number, wire.ref);
    message->xid = wire.xid;
    message->row_count = wire.row_count;
    message->request_kind = (FleetRequestKind) wire.request_kind;
    message->transactional = wire.transactional != 0;
    message->single = wire.single != 0;
    message->fresh = wire.fresh != 0;
    message->hook_depth = wire.hook_depth;
    message->key = wire.key;
    message->log_seq = wire.log_seq;
    message->generation = wire.generation;
    message->line = wire.line;
    for (int i = 0; i < RUNNER_TEXTS; i++)
    {
        Size length = wire.length[i];

        if (length == 0)
            continue;
        if (length > left || at[length - 1] != '\0')
            return false;
        message->text[i] = at;
        at += length;
        left -= length;
    }
    return left == 0;
}

void
fleet_runner_message_say(RunnerMessage *message, const FleetDiagnostics *diag)
{
    message->text[RUNNER_TEXT_LEVEL] = diag->level;
    message->text[RUNNER_TEXT_SQLSTATE] = diag->sqlstate;
    message->text[RUNNER_TEXT_MESSAGE] = diag->message;
    message->text[RUNNER_TEXT_DETAIL] = diag->detail;
    message->text[RUNNER_TEXT_HINT] = diag->hint;
    message->text[RUNNER_TEXT_CONTEXT] = diag->context;
}

FleetDiagnostics
fleet_runner_message_said(const RunnerMessage *message)
{
    FleetDiagnostics diag = {
        .level = message->text[RUNNER_TEXT_LEVEL],
        .sqlstate = message->text[RUNNER_TEXT_SQLSTATE],
        .message = message->text[RUNNER_TEXT_MESSAGE],
        .detail = message->text[RUNNER_TEXT_DETAIL],
        .hint = message->text[RUNNER_TEXT_HINT],
        .context = message->text[RUNNER_TEXT_CONTEXT],
    };

    return diag;
}

bool
fleet_runner_message_event(const RunnerMessage *message, FleetExecutorEvent *event)
{
    bool last = false;

    switch (message->kind)
    {
        case RUNNER_LOG: event->kind = FLEET_EXECUTOR_LOG; break;
        case RUNNER_ROW: event->kind = FLEET_EXECUTOR_ROW; break;
        case RUNNER_PREPARED: event->kind = FLEET_EXECUTOR_PREPARED; break;
        case RUNNER_COMMITTED:
            event->kind = FLEET_EXECUTOR_COMMITTED;
            last = true;
            break;
        case RUNNER_ERROR:
            event->kind = FLEET_EXECUTOR_ERROR;
            last = true;
            break;
        case RUNNER_NOT_TRANSACTIONAL:
            event->kind = FLEET_EXECUTOR_NOT_TRANSACTIONAL;
            last = true;
            break;
        case RUNNER_REQUEST:
        case RUNNER_COMMIT:
        case RUNNER_END:
        case RUNNER_FATAL: break;
    }
    if (event->kind == FLEET_EXECUTOR_ROW || event->kind == FLEET_EXECUTOR_PREPARED ||
        event->kind == FLEET_EXECUTOR_COMMITTED)
    {
        event->xid = message->xid;
        event->row_count = message->row_count;
        event->output = message->text[RUNNER_TEXT_OUTPUT];
    }
    else
        event->diag = fleet_runner_message_said(message);
    return last;
}
