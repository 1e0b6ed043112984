/*
 * link/conn.c
 *     FleetConn: one libpq connection and its state machine.
 *
 * In the agent's process.  Called by server_link.c (timers, end of turn), by
 * conn_start.c (which makes the connection, and hears of its socket), and by
 * the three owners of connections: direct_mode.c, agent_mode.c, side.c.
 *
 *   CLOSED → RESOLVING → CONNECTING → SETUP → READY → (lost) → CLOSED
 *
 * A connection rests in pipeline mode.  "ring" remembers what was sent and in
 * which order answers come; answers are handed to the owner one result at a
 * time.  Nothing here waits, and nothing is thrown while libpq is on the stack.
 */
#include "postgres.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "link/internal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "points.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define RING_FIRST 16
/* From so many buffered bytes on, libpq may send by itself; then a request counts as sent. */
#define FLUSHED_BY_ITSELF 4000
#define MESSAGE_OVERHEAD 160

void
fleet_conn_init(FleetConn *conn, FleetServerLink *link, const FleetConnMethods *methods, void *arg)
{
    memset(conn, 0, sizeof(*conn));
    conn->link = link;
    conn->methods = methods;
    conn->arg = arg;
    conn->capacity = RING_FIRST;
    conn->ring = MemoryContextAllocZero(link->context, sizeof(FleetExpect) * RING_FIRST);
    conn->notices_tail = &conn->notices;
    conn->sync_slot = FLEET_NO_SLOT;
    dlist_push_tail(&link->conns, &conn->node);
}

/* ---- ring of expectations ---- */

static void
expect_push(FleetConn *conn, uint8 tag, uint8 slot, bool single_row)
{
    FleetExpect *expect;

    if (conn->count == conn->capacity)
    {
        FleetExpect *bigger =
            MemoryContextAllocZero(conn->link->context, sizeof(FleetExpect) * conn->capacity * 2);

        for (uint32 i = 0; i < conn->count; i++)
            bigger[i] = conn->ring[(conn->head + i) & (conn->capacity - 1)];
        pfree(conn->ring);
        conn->ring = bigger;
        conn->head = 0;
        conn->capacity *= 2;
    }
    if (conn->count == 0)
    {
        conn->heard_at = fleet_link_now();
        conn->patience = FLEET_SILENCE;
        fleet_link_awaits(1);
    }
    expect = &conn->ring[(conn->head + conn->count) & (conn->capacity - 1)];
    expect->tag = tag;
    expect->slot = slot;
    expect->single_row = single_row;
    conn->count++;
    fleet_link_due_at(conn->heard_at + FLEET_SILENCE);
}

static void
conn_pop(FleetConn *conn)
{
    conn->head = (conn->head + 1) & (conn->capacity - 1);
    conn->count--;
    if (conn->count == 0)
        fleet_link_awaits(-1);
    conn->got_result = false;
    conn->armed = false;
    conn->incomplete = 0;
}

/* Single-row mode belongs to the statement at the head, and must be asked for before its rows. */
static void
conn_arm(FleetConn *conn)
{
    if (conn->armed || conn->count == 0)
        return;
    conn->armed = true;
    if (conn->ring[conn->head].single_row)
        PQsetSingleRowMode(conn->pg);
}

/* ---- failure ---- */

const char *
fleet_link_param(const FleetServerLink *link, const char *keyword)
{
    for (int i = 0; i < link->nparams; i++)
    {
        if (strcmp(link->keywords[i], keyword) == 0 && link->values[i][0] != '\0')
            return link->values[i];
    }
    return NULL;
}

void
fleet_link_scrub(const FleetServerLink *link, char *text)
{
    fleet_text_scrub(text, fleet_link_param(link, "password"));
    fleet_text_scrub(text, fleet_link_param(link, "sslpassword"));
    fleet_text_scrub(text, link->former);
}

void
fleet_conn_fail(FleetConn *conn, const char *sqlstate, bool permanent, const char *format, ...)
{
    StringInfoData text;
    int missing;

    if (conn->lost)
        return;
    initStringInfo(&text);
    do
    {
        va_list args;

        va_start(args, format);
        missing = appendStringInfoVA(&text, format, args);
        va_end(args);
        if (missing > 0)
            enlargeStringInfo(&text, missing);
    } while (missing > 0);
    fleet_link_scrub(conn->link, text.data); /* before it is cut */
    conn->lost = true;
    conn->lost_permanent = permanent;
    if (conn->farewell_sqlstate[0] != '\0' &&
        fleet_sqlstate_in(sqlstate, FLEET_SQLCLASS_CONNECTION))
    {
        char *farewell = fleet_conn_text(conn, conn->farewell);

        strlcpy(conn->lost_sqlstate, conn->farewell_sqlstate, sizeof(conn->lost_sqlstate));
        fleet_text_copy(conn->lost_reason, sizeof(conn->lost_reason), GetDatabaseEncoding(),
                        farewell);
        pfree(farewell);
    }
    else
    {
        strlcpy(conn->lost_sqlstate, fleet_text_sqlstate(sqlstate), sizeof(conn->lost_sqlstate));
        fleet_text_copy(conn->lost_reason, sizeof(conn->lost_reason), GetDatabaseEncoding(),
                        text.data);
    }
    pfree(text.data);
    fleet_conn_work(conn);
}

char *
fleet_conn_text(const FleetConn *conn, const char *s)
{
    char *clean = pstrdup(s);
    StringInfoData text;

    fleet_link_scrub(conn->link, clean); /* as it was sent */
    initStringInfo(&text);
    fleet_text_append(&text, fleet_conn_encoding(conn, false), clean, strlen(clean),
                      FLEET_MESSAGE_MAX);
    pfree(clean);
    return text.data;
}

/* libpq's own words, in the language of this process, or the server's within them. */
void
fleet_conn_fail_libpq(FleetConn *conn)
{
    char *text = fleet_text_of_unknown(PQerrorMessage(conn->pg));
    size_t length = strlen(text);

    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' '))
        text[--length] = '\0';
    for (char *p = text; *p != '\0'; p++)
    {
        if (*p == '\n' || *p == '\t')
            *p = ' ';
    }
    fleet_conn_fail(conn, FLEET_SQLSTATE_CONNECTION_FAILURE, false, "%s",
                    length > 0 ? text : "the connection was lost");
    pfree(text);
}

void
fleet_conn_close(FleetConn *conn)
{
    bool login = fleet_conn_logs_in(conn);

    if (conn->member != NULL)
        fleet_loop_remove(conn->member);
    conn->member = NULL;
    if (conn->held != NULL)
        PQclear(conn->held);
    conn->held = NULL;
    if (conn->pg != NULL)
        PQfinish(conn->pg);
    conn->pg = NULL;
    if (conn->fd_reserved)
    {
        ReleaseExternalFD();
        fleet_link_fd_waiters_wake();
    }
    conn->fd_reserved = false;
    fleet_conn_drop_notices(conn);
    if (conn->has_work)
        dlist_delete(&conn->work);
    conn->has_work = false;
    conn->state = CONN_CLOSED;
    if (conn->count > 0)
        fleet_link_awaits(-1);
    conn->head = conn->count = 0;
    conn->got_result = conn->armed = conn->pipeline = false;
    conn->needs_sync = conn->needs_flush = conn->attention = conn->user_runs = false;
    conn->copy_out = false;
    conn->sync_slot = FLEET_NO_SLOT;
    conn->lost = false;
    conn->incomplete = conn->unflushed = 0;
    conn->swollen = conn->outdated = false;
    conn->farewell[0] = conn->farewell_sqlstate[0] = '\0';
    if (login)
        fleet_link_gate_next(conn->link);
}

/* End of the turn, for a connection that was marked lost. */
void
fleet_conn_finish_lost(FleetConn *conn)
{
    char sqlstate[6], reason[sizeof(conn->lost_reason)];
    bool permanent = conn->lost_permanent;
    bool nobody = conn->state == CONN_CONNECTING && !permanent &&
                  fleet_sqlstate_is(conn->lost_sqlstate, FLEET_SQLSTATE_CANNOT_CONNECT);

    strlcpy(sqlstate, conn->lost_sqlstate, sizeof(sqlstate));
    strlcpy(reason, conn->lost_reason, sizeof(reason));
    if (nobody)
        fleet_link_gate_refuse(conn->link, sqlstate, reason);
    fleet_conn_close(conn);
    conn->methods->down(conn, sqlstate, reason, permanent);
}

/* ---- receiving ---- */

static void
conn_deliver_notifies(FleetConn *conn)
{
    PGnotify *notify;

    while (!conn->lost && (notify = PQnotifies(conn->pg)) != NULL)
    {
        if (conn->methods->notify != NULL)
            conn->methods->notify(conn, notify->relname, notify->extra);
        PQfreemem(notify);
    }
}

/* libpq gives this result again and again until the copy is over: so whoever did not ask for one
 * must not go on. */
static void
conn_copy(FleetConn *conn, ExecStatusType status)
{
    if (conn->methods->copy != NULL && conn->methods->copy(conn, &conn->ring[conn->head], status))
        return;
    fleet_conn_fail(conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                    "unexpected COPY response from server");
}

/*
 * libpq reads a message to its end, within one call if it comes fast enough;
 * so a large one is known only now.  Its buffer keeps that size (fd.c).
 */
static bool
conn_size_fits(FleetConn *conn, const PGresult *result)
{
    size_t size = PQresultMemorySize(result);

    conn->swollen |= size > FLEET_SWOLLEN;
    if (size <= conn->methods->message_max)
        return true;
    fleet_conn_fail(conn, FLEET_SQLSTATE_PROGRAM_LIMIT_EXCEEDED, false,
                    "the server sent more than %d MB in one result",
                    (int) (conn->methods->message_max / (1024 * 1024)));
    return false;
}

static void
conn_result(FleetConn *conn, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    conn->incomplete = 0;
    if (!conn_size_fits(conn, result))
        return;
    if (status == PGRES_PIPELINE_SYNC)
    {
        FleetExpect expect = conn->ring[conn->head];

        conn_pop(conn);
        if (expect.tag == FLEET_EXPECT_SYNC)
            conn->methods->done(conn, expect);
        else
            fleet_conn_fail(conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                            "the server answered out of order");
        return;
    }
    if (conn->ring[conn->head].tag == FLEET_EXPECT_SYNC)
    {
        fleet_conn_fail(conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server answered out of order");
        return;
    }
    conn->got_result = true;
    if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH)
    {
        conn_copy(conn, status);
        return;
    }
    if (status == PGRES_FATAL_ERROR && PQresultErrorField(result, PG_DIAG_SQLSTATE) == NULL)
    {
        fleet_conn_fail_libpq(conn); /* made by libpq, not by the server */
        return;
    }
    if (status == PGRES_FATAL_ERROR && fleet_conn_said_farewell(conn, result))
    {
        fleet_conn_fail(conn, FLEET_SQLSTATE_CONNECTION_FAILURE, false,
                        "the server closed the connection");
        return;
    }
    conn->methods->result(conn, &conn->ring[conn->head], result);
}

/* Throws COPY data away; true when its end has come. */
static bool
conn_drain_copy(FleetConn *conn)
{
    char *row;
    int n;

    while ((n = PQgetCopyData(conn->pg, &row, 1)) > 0)
    {
        conn->incomplete = 0;
        PQfreemem(row);
        CHECK_FOR_INTERRUPTS();
    }
    if (n == 0)
        return false;
    conn->copy_out = false;
    return true;
}

/*
 * Hands everything that libpq has to the owner.  "attention" stays set if a
 * callback throws, so that the rest is not forgotten.
 */
void
fleet_conn_process(FleetConn *conn)
{
    conn->attention = true;
    fleet_conn_work(conn);
    if (conn->held != NULL)
        PQclear(conn->held); /* a callback threw */
    conn->held = NULL;
    while (!conn->lost && conn->state >= CONN_SETUP)
    {
        PGresult *result;

        CHECK_FOR_INTERRUPTS();
        if (conn->copy_out && !conn_drain_copy(conn))
            break;
        conn_arm(conn);
        if (PQisBusy(conn->pg))
        {
            fleet_conn_deliver_notices(conn);
            break;
        }
        if (conn->count == 0)
        {
            fleet_conn_deliver_notices(conn);
            break;
        }
        result = PQgetResult(conn->pg);
        fleet_conn_deliver_notices(conn);
        if (result == NULL)
        {
            FleetExpect expect = conn->ring[conn->head];

            if (!conn->got_result)
                break;
            conn_pop(conn);
            conn->methods->done(conn, expect);
            continue;
        }
        conn->held = result;
        conn_result(conn, result);
        conn->held = NULL;
        PQclear(result);
    }
    if (!conn->lost && conn->pg != NULL)
        conn_deliver_notifies(conn);
    conn->attention = false;
}

void
fleet_conn_readable(FleetConn *conn)
{
    size_t limit = conn->state == CONN_SETUP ? FLEET_SETUP_BYTES_MAX : conn->methods->message_max;
    int waiting = 0;
    bool read;

    if (ioctl(PQsocket(conn->pg), FIONREAD, &waiting) == 0)
        conn->incomplete += (size_t) waiting;
    conn->swollen |= conn->incomplete > FLEET_SWOLLEN;
    conn->heard_at = fleet_link_now();
    read = PQconsumeInput(conn->pg) == 1;
    FLEET_POINT("link_has_read");
    fleet_conn_process(conn);
    if (conn->lost || conn->pg == NULL)
        return;
    if (!read || PQstatus(conn->pg) == CONNECTION_BAD)
        fleet_conn_fail_libpq(conn);
    else if (conn->incomplete > limit)
        fleet_conn_fail(conn, FLEET_SQLSTATE_PROGRAM_LIMIT_EXCEEDED, false,
                        "the server sent more than %d MB without an end of a result",
                        (int) (limit / (1024 * 1024)));
}

/* ---- sending ---- */

static void
conn_buffered(FleetConn *conn, size_t bytes)
{
    conn->unflushed += bytes + MESSAGE_OVERHEAD;
    if (conn->unflushed > FLUSHED_BY_ITSELF)
        conn->flushes++;
    conn->needs_flush = true;
    fleet_conn_work(conn);
}

static size_t
values_length(const char *const *values, int n)
{
    size_t bytes = 0;

    for (int i = 0; i < n; i++)
        bytes += values[i] == NULL ? 0 : strlen(values[i]);
    return bytes;
}

/* After a request was put into libpq's buffer, or was not. */
static bool
conn_sent(FleetConn *conn, int ok, size_t bytes)
{
    if (ok != 1)
    {
        fleet_conn_fail_libpq(conn);
        return false;
    }
    conn_buffered(conn, bytes);
    conn->needs_sync = true;
    return true;
}

bool
fleet_conn_send(FleetConn *conn, uint8 tag, uint8 slot, const char *sql, int nparams,
                const char *const *values, bool binary, bool single_row)
{
    if (conn->lost || conn->pg == NULL)
        return false;
    expect_push(conn, tag, slot, single_row);
    return conn_sent(conn,
                     PQsendQueryParams(conn->pg, sql, nparams, NULL, values, NULL, NULL, binary),
                     strlen(sql) + values_length(values, nparams));
}

bool
fleet_conn_prepare(FleetConn *conn, uint8 tag, uint8 slot, const char *name, const char *sql)
{
    if (conn->lost || conn->pg == NULL)
        return false;
    expect_push(conn, tag, slot, false);
    return conn_sent(conn, PQsendPrepare(conn->pg, name, sql, 0, NULL), strlen(sql));
}

bool
fleet_conn_send_prepared(FleetConn *conn, uint8 tag, uint8 slot, const char *name, int nparams,
                         const char *const *values, bool binary, bool single_row)
{
    if (conn->lost || conn->pg == NULL)
        return false;
    expect_push(conn, tag, slot, single_row);
    return conn_sent(conn, PQsendQueryPrepared(conn->pg, name, nparams, values, NULL, NULL, binary),
                     strlen(name) + values_length(values, nparams));
}

bool
fleet_conn_send_simple(FleetConn *conn, uint8 tag, uint8 slot, const char *sql)
{
    if (conn->lost || conn->pg == NULL)
        return false;
    expect_push(conn, tag, slot, true);
    conn->flushes++; /* it tries to send at once */
    if (PQsendQuery(conn->pg, sql) != 1)
    {
        fleet_conn_fail_libpq(conn);
        return false;
    }
    conn_buffered(conn, strlen(sql));
    return true;
}

/* Only when nothing is under way. */
bool
fleet_conn_pipeline(FleetConn *conn, bool on)
{
    if (conn->lost || conn->pg == NULL)
        return false;
    if (conn->pipeline == on)
        return true;
    if ((on ? PQenterPipelineMode(conn->pg) : PQexitPipelineMode(conn->pg)) != 1)
    {
        fleet_conn_fail_libpq(conn);
        return false;
    }
    conn->pipeline = on;
    return true;
}

void
fleet_conn_sync(FleetConn *conn)
{
    uint8 slot = conn->sync_slot;

    if (conn->lost || conn->pg == NULL)
        return;
    conn->needs_sync = false;
    conn->sync_slot = FLEET_NO_SLOT;
    expect_push(conn, FLEET_EXPECT_SYNC, slot, false);
    conn->flushes++;
    if (PQpipelineSync(conn->pg) != 1)
        fleet_conn_fail_libpq(conn);
    else
    {
        conn->needs_flush = true;
        fleet_conn_work(conn);
    }
}

/* End of the turn: what was buffered leaves in one packet. */
void
fleet_conn_flush(FleetConn *conn)
{
    int rest;

    if (conn->state >= CONN_SETUP && conn->methods->gather != NULL)
        conn->methods->gather(conn);
    if (conn->lost || conn->pg == NULL || conn->state < CONN_SETUP)
        return;
    if (conn->needs_sync && conn->pipeline)
        fleet_conn_sync(conn);
    if (conn->lost || !conn->needs_flush)
        return;
    conn->flushes++;
    FLEET_POINT("link_before_send");
    rest = PQflush(conn->pg);
    if (rest < 0)
    {
        fleet_conn_fail_libpq(conn);
        return;
    }
    conn->unflushed = 0;
    conn->needs_flush = false;
    if (conn->member != NULL) /* it stays the same from the login on */
        fleet_loop_modify(conn->member, WL_SOCKET_READABLE | (rest > 0 ? WL_SOCKET_WRITEABLE : 0));
}

/* ---- setup ---- */

void
fleet_conn_ready(FleetConn *conn)
{
    conn->state = CONN_READY;
    conn->host_shift = 0;
    fleet_link_gate_next(conn->link);
    fleet_link_came_up(conn->link, conn);
}
