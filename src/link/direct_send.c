/*
 * link/direct_send.c
 *     Mode direct: what a session sends for a request, and how it is canceled.
 *
 * In the agent's process; called by direct_mode.c and direct_result.c.  All of
 * it goes into libpq's buffer, which is sent at the end of the turn.
 *
 * One statement in a transaction travels as one message:
 *     [COMMIT of the one before] [DISCARD ALL] BEGIN
 *     SELECT parameters, xid  Flush  command  Sync
 * or, for what may begin with SET TRANSACTION (DO, CALL, …)
 *     …  BEGIN  [SET LOCAL]  Flush  command  SELECT xid  Sync
 * If that COMMIT fails, the server skips the rest, and the rest is sent again.
 * Anything else (several statements, not in a transaction, COPY) is sent as
 * psql would, by the simple protocol, between a prologue and an epilogue.
 */
#include "postgres.h"

#include "link/direct_mode.h"

#define CANCEL_AGAIN FLEET_SECONDS(1)

/* Until when the other side may be silent depends on what we wait for. */
void
fleet_direct_waiting(DirectSession *session)
{
    FleetConn *conn = &session->conn;
    uint8 tag = conn->count > 0 ? conn->ring[conn->head].tag : FLEET_EXPECT_SYNC;
    bool user = tag == TAG_COMMAND || (tag == TAG_COMMIT && !session->self.pooled);

    if (user == conn->user_runs)
        return;
    conn->user_runs = user;
    conn->heard_at = fleet_link_now();
    session->probe_at = conn->heard_at + PROBE_AFTER;
    session->vouched_at = conn->heard_at;
    session->probe_strikes = 0;
    fleet_link_due_at(user ? session->probe_at : conn->heard_at + FLEET_SILENCE);
}

/* SET [LOCAL] … TO '…'; it is a utility statement, and so takes no snapshot: the command may still
 * begin with SET TRANSACTION. */
static bool
send_set(DirectSession *session, int slot, const char *name, const StringInfoData *value)
{
    bool local = session->requests[slot].transactional;
    char *literal = PQescapeLiteral(session->conn.pg, value->data, (size_t) value->len);
    char *sql;

    if (literal == NULL)
    {
        fleet_conn_fail_libpq(&session->conn); /* out of memory */
        return false;
    }
    sql = psprintf("SET %s%s TO %s", local ? "LOCAL " : "", name, literal);
    PQfreemem(literal);
    fleet_conn_send(&session->conn, TAG_SET, (uint8) slot, sql, 0, NULL, false, false);
    pfree(sql);
    return true;
}

void
fleet_direct_send_command(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    request->handed = true;
    request->handed_at = session->conn.flushes;
    if (request->pipelined)
        fleet_conn_send(&session->conn, TAG_COMMAND, (uint8) slot, request->command.data, 0, NULL,
                        false, true);
    else if (fleet_conn_pipeline(&session->conn, false))
    {
        request->phase = DIRECT_RUNNING;
        fleet_conn_send_simple(&session->conn, TAG_COMMAND, (uint8) slot, request->command.data);
    }
    fleet_direct_waiting(session);
}

void
fleet_direct_send_xid(DirectSession *session, int slot)
{
    fleet_conn_send(&session->conn, TAG_XID, (uint8) slot, "SELECT pg_catalog.pg_current_xact_id()",
                    0, NULL, false, false);
    session->conn.sync_slot = (uint8) slot;
}

#define ENTER_NAME "pg_fleet_enter"
#define ENTER_SQL                                                                                  \
    "SELECT pg_catalog.set_config('fleet.params', $1, true),"                                      \
    " pg_catalog.set_config('fleet.context', $2, true), pg_catalog.pg_current_xact_id()"

/* A session that is not reset keeps the statement.  Not behind a pooler, where the next transaction
 * may be in another session. */
static void
prepare_enter(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];

    if (request->fresh)
        session->prepared = false;
    else if (request->plain_query && !session->prepared && !session->self.pooled &&
             !session->conn.link->plain)
    {
        session->prepared = true;
        fleet_conn_prepare(&session->conn, TAG_PREPARE, (uint8) slot, ENTER_NAME, ENTER_SQL);
    }
}

/* Parameters, context and transaction id by one statement, which costs less than two. */
static void
send_enter(DirectSession *session, int slot)
{
    FleetConn *conn = &session->conn;
    const DirectRequest *request = &session->requests[slot];
    const char *values[] = {request->params.data, request->of.data};

    if (session->prepared)
        fleet_conn_send_prepared(conn, TAG_ENTER, (uint8) slot, ENTER_NAME, 2, values, false,
                                 false);
    else
        fleet_conn_send(conn, TAG_ENTER, (uint8) slot, ENTER_SQL, 2, values, false, false);
}

/* What they are by default need not be said, unless there is a pooler between. */
static bool
send_told(DirectSession *session, int slot)
{
    const DirectRequest *request = &session->requests[slot];

    if ((session->conn.link->plain || strcmp(request->params.data, "{}") != 0) &&
        !send_set(session, slot, "fleet.params", &request->params))
        return false;
    return send_set(session, slot, "fleet.context", &request->of);
}

/* The prologue, and for one statement in a transaction all of it. */
void
fleet_direct_send(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];
    FleetConn *conn = &session->conn;

    request->phase = DIRECT_PROLOGUE;
    request->skipped = false;
    if (request->fresh)
        fleet_conn_send(conn, TAG_DISCARD, (uint8) slot, "DISCARD ALL", 0, NULL, false, false);
    prepare_enter(session, slot);
    if (request->transactional)
    {
        fleet_conn_send(conn, TAG_BEGIN, (uint8) slot, "BEGIN", 0, NULL, false, false);
        if (session->self.pooled)
            fleet_conn_send(conn, TAG_PID, (uint8) slot, "SELECT pg_catalog.pg_backend_pid()", 0,
                            NULL, false, false);
        if (request->plain_query)
            send_enter(session, slot);
    }
    if (!request->plain_query && !send_told(session, slot))
        return;
    /* All answers before the command's come now, not when it has ended: while one of those is
     * awaited, the server's silence is none of the command. */
    if (request->pipelined && !conn->lost)
        PQsendFlushRequest(conn->pg);
    conn->sync_slot = (uint8) slot;
    if (request->pipelined)
    {
        fleet_direct_send_command(session, slot);
        if (!request->plain_query)
            fleet_direct_send_xid(session, slot);
    }
    fleet_direct_waiting(session);
}

void
fleet_direct_rollback(DirectSession *session)
{
    fleet_conn_send(&session->conn, TAG_ROLLBACK, FLEET_NO_SLOT, "ROLLBACK", 0, NULL, false, false);
    fleet_direct_waiting(session);
}

void
fleet_direct_reset_params(DirectSession *session)
{
    fleet_conn_send(&session->conn, TAG_ROLLBACK, FLEET_NO_SLOT, "RESET fleet.params", 0, NULL,
                    false, false);
    fleet_conn_send(&session->conn, TAG_ROLLBACK, FLEET_NO_SLOT, "RESET fleet.context", 0, NULL,
                    false, false);
    fleet_conn_sync(&session->conn); /* DISCARD ALL may not follow it in the same message */
    fleet_direct_waiting(session);
}

/* ---- cancel ---- */

static void
direct_canceled(FleetConn *conn)
{
    DirectSession *session = SESSION_OF(conn);

    session->cancel_sent = false;
    fleet_conn_work(conn); /* a request may have waited for this */
    if (session->current >= 0 && session->requests[session->current].cancel_asked)
    {
        /* It may have come between two messages, where a server forgets it: again, if need be. */
        session->cancel_again = fleet_link_now() + CANCEL_AGAIN;
        fleet_link_due_at(session->cancel_again);
    }
}

/* A cancel reaches whatever the backend does at that moment: so only when it is surely this one. */
void
fleet_direct_try_cancel(DirectSession *session)
{
    DirectRequest *request = session->current < 0 ? NULL : &session->requests[session->current];

    if (request == NULL || !request->cancel_wanted || !request->began || session->cancel_sent ||
        request->phase == DIRECT_PREPARED)
        return;
    request->cancel_wanted = false;
    session->cancel_sent = true;
    fleet_side_cancel(session->conn.link, &session->conn, session->self.backend_pid,
                      direct_canceled);
}
