/*
 * link/direct_result.c
 *     Mode direct: what comes back from a session, and what is done about it.
 *     direct_mode.c says what was sent.
 *
 * In the agent's process, called by conn.c from fleet_loop_wait() only.
 *
 * The results of a request are gathered in its DirectRequest; at the Sync that
 * ends its message (or the end of its simple query) it is decided:
 *
 *   the message was skipped (the COMMIT before it failed)   send it again
 *   an error                                                ROLLBACK, ERROR or NOT_TRANSACTIONAL
 *   what the command calls is known                         NOT_TRANSACTIONAL, or the prologue
 *   the prologue is done, the command not yet sent          send the command
 *   the command ended its transaction by itself             COMMITTED without an id
 *   the command and the id are there                        PREPARED
 *
 * Everything that the other side says is data: counted, clipped and made valid.
 */
#include "postgres.h"

#include "link/direct_mode.h"
#include "utils/memutils.h"

#define COPY_REFUSED "COPY FROM STDIN and COPY TO STDOUT are not possible in a step"

/* ---- events ---- */

static void
tell(DirectSession *session, const FleetExecutorEvent *event)
{
    const FleetExecutorSink *sink = &fleet_link_callbacks.sessions;

    sink->event(sink->arg, &session->executor, event);
}

static const char *
text_or_null(const StringInfoData *text)
{
    return text->data == NULL || text->len == 0 ? NULL : text->data;
}

static void
emit_warning(DirectSession *session, int slot, const char *message)
{
    FleetExecutorEvent event = {
        .kind = FLEET_EXECUTOR_LOG,
        .ref = session->requests[slot].ref,
        .diag = {.level = "WARNING", .sqlstate = FLEET_SQLSTATE_WARNING, .message = message},
        .row_count = -1};

    tell(session, &event);
}

static void
emit_dropped(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];
    char text[128];

    if (request->dropped == 0)
        return;
    snprintf(text, sizeof(text), INT64_FORMAT " further lines of this step were not kept",
             request->dropped);
    request->dropped = 0;
    emit_warning(session, slot, text);
}

/* The request is over: the session may be given the next one from within the event. */
static void
request_end(DirectSession *session, int slot)
{
    if (session->requests[slot].phase == DIRECT_QUEUED && session->requests[slot].fresh)
        session->discard_owed = true;
    session->requests[slot].phase = DIRECT_NONE;
    if (session->current == slot)
        session->current = -1;
    if (session->committing == slot)
        session->committing = -1;
    session->cancel_again = FLEET_NEVER;
    if (session->cancel_sent && fleet_side_withdraw(session->conn.link, &session->conn))
        session->cancel_sent = false; /* it was not on its way yet */
    fleet_conn_work(&session->conn);
}

void
fleet_direct_emit(DirectSession *session, int slot, FleetExecutorEventKind kind)
{
    DirectRequest *request = &session->requests[slot];
    FleetExecutorEvent event = {.kind = kind, .ref = request->ref, .row_count = -1};

    if (kind != FLEET_EXECUTOR_BEGAN)
        emit_dropped(session, slot);
    switch (kind)
    {
        case FLEET_EXECUTOR_BEGAN:
            request->began = true;
            event.backend_pid = session->self.backend_pid;
            if (request->cancel_wanted)
                fleet_conn_work(&session->conn);
            break;
        case FLEET_EXECUTOR_PREPARED:
        case FLEET_EXECUTOR_COMMITTED:
            event.xid = request->xid;
            event.row_count = request->row_count;
            event.output = request->has_output ? request->output.data : NULL;
            break;
        case FLEET_EXECUTOR_ERROR:
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL:
            event.diag.level = "ERROR";
            event.diag.sqlstate = request->sqlstate;
            event.diag.message = request->message.data;
            event.diag.detail = text_or_null(&request->detail);
            event.diag.hint = text_or_null(&request->hint);
            event.diag.context = text_or_null(&request->context);
            break;
        case FLEET_EXECUTOR_LOG:
        case FLEET_EXECUTOR_ROW:
        case FLEET_EXECUTOR_CUT: break;
    }
    if (kind != FLEET_EXECUTOR_BEGAN && kind != FLEET_EXECUTOR_PREPARED)
        request_end(session, slot);
    tell(session, &event);
}

/* The connection is gone.  The agent does not give such a session back: it is free. */
void
fleet_direct_emit_cut(DirectSession *session, int slot, const char *sqlstate, const char *reason)
{
    DirectRequest *request = &session->requests[slot];
    FleetExecutorEvent event = {
        .kind = FLEET_EXECUTOR_CUT,
        .ref = request->ref,
        .row_count = -1,
        .diag = {.level = "FATAL", .sqlstate = sqlstate, .message = reason}};

    event.never_sent = !request->handed || request->handed_at == session->conn.flushes;
    emit_dropped(session, slot);
    request->phase = DIRECT_NONE;
    if (session->current == slot)
        session->current = -1;
    if (session->committing == slot)
        session->committing = -1;
    if (!request->given_back)
    {
        session->executor.busy = false;
        session->executor.owner = NULL;
    }
    tell(session, &event);
}

/* ---- errors ---- */

void
fleet_direct_set_error(DirectRequest *request, const char *sqlstate, const char *message)
{
    request->failed = true;
    strlcpy(request->sqlstate, sqlstate, sizeof(request->sqlstate));
    resetStringInfo(&request->message);
    resetStringInfo(&request->detail);
    resetStringInfo(&request->hint);
    resetStringInfo(&request->context);
    appendStringInfoString(&request->message, message);
}

static void
take_field(StringInfo text, int encoding, const char *s)
{
    resetStringInfo(text);
    if (s != NULL)
        fleet_text_append(text, encoding, s, strlen(s), FLEET_MESSAGE_MAX);
}

static void
take_error(DirectSession *session, DirectRequest *request, const PGresult *result, bool by_command)
{
    int encoding = fleet_conn_encoding(&session->conn, false);
    FleetDiagnostics diag = fleet_text_diagnostics(result);

    if (request->failed)
        return; /* the first one is the reason of the others */
    fleet_direct_set_error(request, FLEET_SQLSTATE_INTERNAL_ERROR, "");
    strlcpy(request->sqlstate, fleet_text_sqlstate(diag.sqlstate), sizeof(request->sqlstate));
    take_field(&request->message, encoding, diag.message);
    take_field(&request->detail, encoding, diag.detail);
    take_field(&request->hint, encoding, diag.hint);
    take_field(&request->context, encoding, diag.context);
    request->by_command = by_command;
}

static void
set_copy_error(DirectRequest *request)
{
    fleet_direct_set_error(request, FLEET_SQLSTATE_FEATURE_NOT_SUPPORTED, COPY_REFUSED);
    appendStringInfoString(&request->hint, "Copy from or to a file on the server.");
}

/* ---- results ---- */

/* Only what follows the first row's first column is thrown away at once. */
static void
take_row(DirectSession *session, DirectRequest *request, const PGresult *result)
{
    if (request->in_rows)
        return;
    request->in_rows = true;
    request->has_output =
        PQntuples(result) > 0 && PQnfields(result) > 0 && !PQgetisnull(result, 0, 0);
    resetStringInfo(&request->output);
    if (request->has_output)
        fleet_text_append(&request->output, fleet_conn_encoding(&session->conn, false),
                          PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0),
                          FLEET_OUTPUT_MAX);
}

static void
take_tag(DirectRequest *request, PGresult *result)
{
    const char *rows = PQcmdTuples(result);
    const char *tag = PQcmdStatus(result);

    request->row_count = rows[0] == '\0' ? -1 : (int64) strtoll(rows, NULL, 10);
    if (strcmp(tag, "COMMIT") == 0 || strcmp(tag, "PREPARE TRANSACTION") == 0)
        request->ended_itself = true;
}

/* In any case of letters, anywhere: what a step calls cannot begin a copy with the client. */
static bool
names_copy(const char *command)
{
    for (; *command != '\0'; command++)
    {
        if (pg_strncasecmp(command, "copy", 4) == 0)
            return true;
    }
    return false;
}

/*
 * There is no client to copy from or to.  What the server sends is read and
 * thrown away (conn.c), and it is told to stop.  False: the command has not
 * asked for that, or was told already.
 */
bool
fleet_direct_copy(FleetConn *conn, const FleetExpect *expect, ExecStatusType status)
{
    DirectSession *session = SESSION_OF(conn);
    DirectRequest *request;
    bool first;

    if (expect->slot == FLEET_NO_SLOT || expect->tag != TAG_COMMAND)
        return false;
    request = &session->requests[expect->slot];
    if (request->phase == DIRECT_NONE)
        return false;
    if (request->pipelined || status == PGRES_COPY_BOTH || request->copy_in ||
        !names_copy(request->command.data))
    {
        fleet_direct_set_error(request, FLEET_SQLSTATE_PROTOCOL_VIOLATION,
                               "unexpected COPY response from server");
        fleet_direct_emit(session, expect->slot, FLEET_EXECUTOR_ERROR);
        return false;
    }
    first = !request->copy;
    request->copy = true;
    set_copy_error(request);
    if (status == PGRES_COPY_IN)
    {
        request->copy_in = true;
        if (PQputCopyEnd(conn->pg, COPY_REFUSED) < 0)
            fleet_conn_fail(conn, FLEET_SQLSTATE_CONNECTION_FAILURE, false,
                            "the connection was lost during a copy");
        conn->needs_flush = true;
        fleet_conn_work(conn);
        return true;
    }
    conn->copy_out = true;
    if (first)
    {
        request->cancel_wanted = true;
        fleet_direct_try_cancel(session);
    }
    return true;
}

static void
command_result(DirectSession *session, int slot, PGresult *result)
{
    DirectRequest *request = &session->requests[slot];

    switch (PQresultStatus(result))
    {
        case PGRES_SINGLE_TUPLE: take_row(session, request, result); break;
        case PGRES_TUPLES_OK:
            take_row(session, request, result); /* no row, or the mode was not to be had */
            request->in_rows = false;
            take_tag(request, result);
            break;
        case PGRES_COMMAND_OK: take_tag(request, result); break;
        case PGRES_EMPTY_QUERY: break;
        case PGRES_PIPELINE_ABORTED: request->skipped = !request->failed; break;
        case PGRES_FATAL_ERROR: take_error(session, request, result, true); break;
        case PGRES_COPY_IN: /* they do not come here: fleet_direct_copy() */
        case PGRES_COPY_OUT:
        case PGRES_COPY_BOTH:
        case PGRES_BAD_RESPONSE:
        case PGRES_NONFATAL_ERROR:
        case PGRES_PIPELINE_SYNC:
#ifdef LIBPQ_HAS_CHUNK_MODE
        case PGRES_TUPLES_CHUNK: /* a mode that is never asked for */
#endif
            fleet_conn_fail(&session->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                            "the server's answer is not understood");
            break;
    }
}

/* The id is the last column.  libpq may still be in the single-row mode of the simple query before. */
static void
xid_result(DirectSession *session, DirectRequest *request, const PGresult *result)
{
    switch (PQresultStatus(result))
    {
        case PGRES_SINGLE_TUPLE:
        case PGRES_TUPLES_OK:
            if (PQntuples(result) == 1 && PQnfields(result) >= 1)
                request->xid = strtoull(PQgetvalue(result, 0, PQnfields(result) - 1), NULL, 10);
            break;
        case PGRES_PIPELINE_ABORTED: request->skipped = !request->failed; break;
        default: take_error(session, request, result, false); break;
    }
}

/* Our prepared statement was deallocated by a command before. */
static bool
is_gone(const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_INVALID_SQL_STATEMENT_NAME);
}

/* DISCARD ALL, BEGIN, SET: all they can do is to fail. */
static void
plain_result(DirectSession *session, DirectRequest *request, const PGresult *result)
{
    switch (PQresultStatus(result))
    {
        case PGRES_COMMAND_OK:
        case PGRES_SINGLE_TUPLE:
        case PGRES_TUPLES_OK: break;
        case PGRES_PIPELINE_ABORTED: request->skipped = !request->failed; break;
        default: take_error(session, request, result, false); break;
    }
}

void
fleet_direct_result(FleetConn *conn, const FleetExpect *expect, PGresult *result)
{
    DirectSession *session = SESSION_OF(conn);
    DirectRequest *request;
    int slot = expect->slot;
    bool good = PQresultStatus(result) == PGRES_COMMAND_OK;

    if (fleet_self_result(conn, &session->self, expect, result) || expect->slot == FLEET_NO_SLOT)
        return;
    request = &session->requests[slot];
    if (request->phase == DIRECT_NONE)
        return; /* given up meanwhile */
    switch ((DirectTag) expect->tag)
    {
        case TAG_DISCARD:
        case TAG_SET: plain_result(session, request, result); break;
        case TAG_BEGIN:
            plain_result(session, request, result);
            if (good && request->pipelined && !session->self.pooled && !request->began)
                fleet_direct_emit(session, slot, FLEET_EXECUTOR_BEGAN);
            break;
        case TAG_PID:
            plain_result(session, request, result);
            if (PQntuples(result) != 1 || PQnfields(result) != 1)
                break;
            session->self.backend_pid = (int) strtol(PQgetvalue(result, 0, 0), NULL, 10);
            if (request->pipelined)
                fleet_direct_emit(session, slot, FLEET_EXECUTOR_BEGAN);
            break;
        case TAG_LOOK: fleet_direct_look_result(request, result); break;
        case TAG_COMMAND: command_result(session, slot, result); break;
        case TAG_PREPARE:
            session->prepared &= good;
            plain_result(session, request, result);
            break;
        case TAG_ENTER:
            if (session->prepared && is_gone(result))
                request->again = true;
            else
                xid_result(session, request, result);
            break;
        case TAG_XID: xid_result(session, request, result); break;
        case TAG_COMMIT:
            if (good && strcmp(PQcmdStatus(result), "COMMIT") != 0)
                fleet_direct_set_error(request, FLEET_SQLSTATE_TRANSACTION_ROLLBACK,
                                       "the server rolled the transaction back");
            else if (!good)
                take_error(session, request, result, false);
            break;
        case TAG_ROLLBACK:
        case TAG_SWEEP: break;
    }
}

/* ---- decisions ---- */

static bool
cannot_be_transactional(const DirectRequest *request)
{
    return request->transactional && request->by_command && !request->ended_itself &&
           !request->copy &&
           (fleet_sqlstate_is(request->sqlstate, FLEET_SQLSTATE_ACTIVE_SQL_TRANSACTION) ||
            fleet_sqlstate_is(request->sqlstate, FLEET_SQLSTATE_INVALID_TRANSACTION_TERMINATION));
}

static void
finish_failed(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    if (PQtransactionStatus(session->conn.pg) != PQTRANS_IDLE)
        fleet_direct_rollback(session);
    if (!request->transactional)
        fleet_direct_reset_params(session);
    fleet_direct_emit(session, slot,
                      cannot_be_transactional(request) ? FLEET_EXECUTOR_NOT_TRANSACTIONAL
                                                       : FLEET_EXECUTOR_ERROR);
}

/* The command ended well, and there is no transaction of ours that it could be told by. */
static void
finish_plain(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    request->xid = 0;
    if (request->transactional)
        emit_warning(session, slot,
                     "the step ended its transaction by itself, so that it is not transactional");
    if (PQtransactionStatus(session->conn.pg) != PQTRANS_IDLE)
    {
        fleet_direct_rollback(session);
        emit_warning(session, slot, "the step left a transaction open, which was rolled back");
    }
    if (!request->transactional)
        fleet_direct_reset_params(session);
    fleet_direct_emit(session, slot, FLEET_EXECUTOR_COMMITTED);
}

/* The command has ended well, within our transaction if that is still there. */
static bool
still_ours(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    return request->transactional && !request->ended_itself &&
           PQtransactionStatus(session->conn.pg) == PQTRANS_INTRANS;
}

static void
finish_prepared(DirectSession *session, int slot)
{
    session->requests[slot].phase = DIRECT_PREPARED;
    fleet_direct_emit(session, slot, FLEET_EXECUTOR_PREPARED);
}

/* The prologue is over; the command goes alone. */
static void
prologue_done(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    if (request->cancel_wanted)
    {
        fleet_direct_set_error(request, FLEET_SQLSTATE_QUERY_CANCELED,
                               "canceled before it was begun");
        finish_failed(session, slot);
        return;
    }
    if (session->cancel_sent)
        return; /* direct_gather() comes here again when its answer is there */
    fleet_direct_send_command(session, slot);
    if (!session->conn.lost)
        fleet_direct_emit(session, slot, FLEET_EXECUTOR_BEGAN);
}

/* The server has told what the command calls. */
static void
look_done(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    if (request->failed)
        finish_failed(session, slot);
    else if (request->skipped || fleet_direct_look_goes_on(session, request))
        fleet_direct_send_look(session, slot);
    else if (request->cancel_wanted)
    {
        fleet_direct_set_error(request, FLEET_SQLSTATE_QUERY_CANCELED,
                               "canceled before it was begun");
        finish_failed(session, slot);
    }
    else if (request->commits)
        fleet_direct_emit(session, slot, FLEET_EXECUTOR_NOT_TRANSACTIONAL);
    else
        fleet_direct_send(session, slot);
}

static void
message_done(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    if (request->phase == DIRECT_LOOK)
        look_done(session, slot);
    else if (request->again)
    {
        request->again = request->skipped = request->handed = false;
        session->prepared = false; /* no reset: it may be a step of the same job that did it */
        fleet_direct_rollback(session);
        fleet_direct_send(session, slot);
    }
    else if (request->skipped && !request->failed)
    {
        request->handed = false;
        fleet_direct_send(session, slot);
    }
    else if (request->failed)
        finish_failed(session, slot);
    else if (request->phase == DIRECT_PROLOGUE && !request->pipelined)
        prologue_done(session, slot);
    else if (!still_ours(session, slot))
        finish_plain(session, slot);
    else if (request->xid == 0)
        fleet_conn_fail(&session->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server gave no transaction id");
    else
        finish_prepared(session, slot);
}

/* The simple query is over, and nothing else is under way. */
static void
simple_done(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    if (!fleet_conn_pipeline(&session->conn, true))
        return;
    if (request->copy)
        set_copy_error(request); /* whatever the end of the copy said */
    if (request->failed)
        finish_failed(session, slot);
    else if (still_ours(session, slot))
    {
        request->phase = DIRECT_EPILOGUE;
        fleet_direct_send_xid(session, slot);
    }
    else
        finish_plain(session, slot);
}

static void
setup_done(DirectSession *session)
{
    FleetConn *conn = &session->conn;
    FleetServerLink *link = conn->link;

    if (session->sweep_asked)
        link->swept = true;
    link->identity = session->self.identity;
    link->identity_known = true;
    fleet_conn_ready(conn);
    fleet_conn_work(conn); /* it is idle: somebody may wait for it */
}

static void
commit_done(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    if (request->phase != DIRECT_COMMITTING)
        return;
    fleet_direct_emit(session, slot,
                      request->failed ? FLEET_EXECUTOR_ERROR : FLEET_EXECUTOR_COMMITTED);
}

void
fleet_direct_done(FleetConn *conn, FleetExpect expect)
{
    DirectSession *session = SESSION_OF(conn);
    int slot = expect.slot;

    if (conn->state == CONN_SETUP)
    {
        if (expect.tag == FLEET_EXPECT_SYNC && conn->count == 0 && !conn->lost)
            setup_done(session);
    }
    else if (slot != FLEET_NO_SLOT && !conn->lost)
    {
        DirectRequest *request = &session->requests[slot];

        if (expect.tag == TAG_COMMIT)
            commit_done(session, slot);
        else if (expect.tag == TAG_COMMAND && request->phase == DIRECT_RUNNING)
            simple_done(session, slot);
        else if (expect.tag == FLEET_EXPECT_SYNC && session->current == slot &&
                 (request->phase == DIRECT_LOOK || request->phase == DIRECT_PROLOGUE ||
                  request->phase == DIRECT_EPILOGUE))
            message_done(session, slot);
    }
    if (conn->pg != NULL)
        fleet_direct_waiting(session);
    fleet_link_fd_spare(conn);
}

/* ---- notices ---- */

/*
 * Whose notice it is.  libpq reads a notice that follows an answer before that
 * answer has been taken from it: so one that comes with the answer to what is
 * sent before the command is the command's already.
 */
static DirectRequest *
request_of_head(const FleetConn *conn)
{
    const FleetExpect *head = conn->count > 0 ? &conn->ring[conn->head] : NULL;

    if (head == NULL || head->slot == FLEET_NO_SLOT || head->tag == FLEET_EXPECT_SYNC ||
        head->tag == TAG_DISCARD || head->tag == TAG_LOOK || head->tag == TAG_XID)
        return NULL;
    return &((DirectSession *) conn)->requests[head->slot];
}

/* Inside libpq: only counts. */
bool
fleet_direct_wants_notice(FleetConn *conn)
{
    DirectRequest *request = request_of_head(conn);

    if (request == NULL || request->phase == DIRECT_NONE)
        return false;
    if (request->lines < FLEET_LOG_LINES_MAX)
    {
        request->lines++;
        return true;
    }
    request->dropped++;
    return false;
}

bool
fleet_direct_notice(FleetConn *conn, const FleetExpect *head, const FleetNotice *notice)
{
    DirectRequest *request = request_of_head(conn);
    FleetExecutorEvent event = {.kind = FLEET_EXECUTOR_LOG, .row_count = -1};

    if (request == NULL || request->phase == DIRECT_NONE)
        return true;
    if (head->tag != TAG_COMMAND && head->tag != TAG_COMMIT)
        return false; /* BEGAN comes first */
    event.ref = request->ref;
    event.diag = notice->diag;
    fleet_text_clean_diagnostics(&event.diag, fleet_conn_encoding(conn, false));
    event.diag.level = fleet_text_level(event.diag.level);
    event.diag.sqlstate = event.diag.sqlstate == NULL ? FLEET_SQLSTATE_SUCCESSFUL_COMPLETION
                                                      : fleet_text_sqlstate(event.diag.sqlstate);
    tell(SESSION_OF(conn), &event);
    return true;
}
