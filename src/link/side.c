/*
 * link/side.c
 *     The second connection of a link, opened on demand: what must be asked
 *     or done about another session of that server.  Cancel, probe ("is it
 *     still at work?"), resolve ("what became of that transaction?"), end (a
 *     session that was cut: its server may not have noticed yet).
 *
 * In the agent's process.  Called by direct_mode.c and the agent; answers by
 * callback.  libpq's own PQcancel blocks for minutes in a black hole,
 * so a cancel is a query here.
 *
 * A request:  waiting → sent → answered
 *             (RESOLVE and END go back to waiting until it is decided; a cancel
 *             that could not be sent waits for the next connection)
 */
#include "postgres.h"

#include "link/internal.h"

#define TAG_SIDE FLEET_TAG_OWN
#define RESOLVE_AGAIN FLEET_MS(200)
#define RESOLVE_REFUSED_AGAIN FLEET_SECONDS(1)
#define END_AGAIN FLEET_MS(100)

typedef enum SideKind
{
    SIDE_CANCEL,
    SIDE_PROBE,
    SIDE_RESOLVE,
    SIDE_END,
} SideKind;

typedef struct SideRequest
{
    dlist_node node;
    SideKind kind;
    FleetConn *target;
    int pid;
    void (*canceled)(FleetConn *conn);
    void (*probed)(FleetConn *conn, bool known, bool active);
    uint64 ref, xid;
    int64 backend_start; /* END */
    FleetLinkIdentity then;
    /* RESOLVE */
    bool looking;         /* the statement sent looks for the step's session, and ends it */
    bool gone;            /* there was no such session any more, before the status was asked */
    FleetTime give_up_at; /* refused until then: the server cannot tell */
    FleetTime not_before;
    /* the answer */
    bool ok, is_null;
    char sqlstate[6];
    char text[32];
} SideRequest;

static FleetSide *
side_of(FleetConn *conn)
{
    return (FleetSide *) conn;
}

/* ---- answers ---- */

/*
 * An id means something only in the history that it was given in.  After a
 * crash the last ids may be given again: "committed" may then be another's.
 */
static bool
same_history(const FleetLinkIdentity *then, const FleetLinkIdentity *now)
{
    if (then->timeline == 0 || now->timeline != then->timeline)
        return false;
    return !then->identifier_known ||
           (now->identifier_known && now->system_identifier == then->system_identifier);
}

static bool
crashed_since(const FleetLinkIdentity *then, const FleetLinkIdentity *now)
{
    const char *a = then->crash_mark, *b = now->crash_mark;

    if (a[0] == '\0')
        return false;
    /* one of the times is the same */
    while (*a != '\0' && *b != '\0')
    {
        size_t n = strcspn(a, " "), m = strcspn(b, " ");

        if (n == m && strncmp(a, b, n) == 0)
            return false;
        a += n + strspn(a + n, " ");
        b += m + strspn(b + m, " ");
    }
    return true;
}

/* The answer is no answer: asked again, but not for ever.  False: not decided yet. */
static bool
side_resolve_refused(SideRequest *request, FleetXactStatus *status)
{
    FleetTime now = fleet_link_now();

    /* An id of the future: it was lost in a crash, so surely not committed. */
    if (!request->looking &&
        fleet_sqlstate_is(request->sqlstate, FLEET_SQLSTATE_INVALID_PARAMETER_VALUE))
    {
        *status = FLEET_XACT_ABORTED;
        return true;
    }
    request->looking = request->gone = false;
    request->not_before = now + RESOLVE_REFUSED_AGAIN;
    *status = FLEET_XACT_UNKNOWN;
    return now >= request->give_up_at;
}

/*
 * False: not decided yet.
 *
 * "In progress" is told too of an id that was lost in a crash and given out
 * again, and, for a while, of one that ended by a crash.  What decides is the
 * session: as long as it has the transaction, that may still be committed, so
 * it is ended and asked again.  If it was gone before the status was asked and
 * the status is "in progress" all the same, it is not our transaction that is.
 * A session of which we may see nothing (no backend_start) may be it: ending it
 * is refused then.
 */
static bool
side_resolve_result(FleetSide *side, SideRequest *request)
{
    bool crashed = crashed_since(&request->then, &side->self.identity);
    FleetXactStatus status = FLEET_XACT_UNKNOWN;

    if (!request->ok)
    {
        if (!side_resolve_refused(request, &status))
            return false;
    }
    else if (request->looking)
    {
        request->looking = false;
        request->gone = request->pid != 0 && strcmp(request->text, "0") == 0;
        if (!request->gone)
            request->not_before = fleet_link_now() + RESOLVE_AGAIN;
        return false;
    }
    else if (request->is_null)
        status = FLEET_XACT_UNKNOWN;
    else if (strcmp(request->text, "committed") == 0)
        status = crashed ? FLEET_XACT_UNKNOWN : FLEET_XACT_COMMITTED;
    else if (strcmp(request->text, "aborted") == 0 || request->gone)
        status = FLEET_XACT_ABORTED;
    else
    {
        request->looking = true;
        return false;
    }
    fleet_link_callbacks.resolved(side->conn.link, request->ref, status);
    return true;
}

/* False: such a session is there still.  It was told to end, and is looked for again. */
static bool
side_end_result(FleetSide *side, SideRequest *request)
{
    FleetServerLink *link = side->conn.link;

    if (!request->ok || strcmp(request->text, "0") != 0)
    {
        request->not_before = fleet_link_now() + END_AGAIN;
        return false;
    }
    link->remains--;
    if (request->pid == 0)
    {
        link->swept = true;
        link->sweeping = false;
    }
    if (link->remains == 0 && link->swept && link->clean_wanted)
    {
        link->clean_wanted = false;
        fleet_link_agent_told();
        fleet_link_callbacks.clean(link);
    }
    return true;
}

/* Not decided yet: it is asked again. */
static void
side_again(FleetSide *side, SideRequest *request)
{
    dlist_push_tail(&side->waiting, &request->node);
    if (request->not_before > fleet_link_now())
        fleet_link_due_at(request->not_before);
    fleet_conn_work(&side->conn);
    fleet_link_open_soon(side->conn.link);
}

/* Is the session at work, as far as one can know?  The server may not tell: an error is the word of a
 * server that is there, and so is a session whose state it does not keep (track_activities). */
static bool
seems_active(const SideRequest *request)
{
    if (!request->ok)
        return request->sqlstate[0] != '\0';
    return request->is_null || strcmp(request->text, "active") == 0 ||
           strcmp(request->text, "fastpath function call") == 0 ||
           strcmp(request->text, "disabled") == 0;
}

static void
side_finish(FleetSide *side, SideRequest *request)
{
    switch (request->kind)
    {
        case SIDE_CANCEL:
            if (request->sqlstate[0] != '\0')
                fleet_link_callbacks.trouble(side->conn.link, "a cancel was refused",
                                             request->sqlstate);
            if (request->target != NULL)
                request->canceled(request->target);
            break;
        case SIDE_PROBE:
            if (request->target != NULL)
                request->probed(request->target, request->ok || request->sqlstate[0] != '\0',
                                seems_active(request));
            break;
        case SIDE_RESOLVE:
            if (!side_resolve_result(side, request))
            {
                side_again(side, request);
                return;
            }
            break;
        case SIDE_END:
            if (!side_end_result(side, request))
            {
                side_again(side, request);
                return;
            }
            break;
    }
    pfree(request);
}

/* ---- the connection ---- */

static void
side_login(FleetConn *conn)
{
    fleet_conn_send(conn, FLEET_TAG_PIN, FLEET_NO_SLOT,
                    "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)", 0,
                    NULL, false, false);
    fleet_conn_sync(conn);
    fleet_self_ask(conn, &side_of(conn)->self);
}

static void
side_result(FleetConn *conn, const FleetExpect *expect, PGresult *result)
{
    FleetSide *side = side_of(conn);
    SideRequest *request;
    const char *sqlstate;

    if (fleet_self_result(conn, &side->self, expect, result) || dlist_is_empty(&side->sent))
        return;
    request = dlist_head_element(SideRequest, node, &side->sent);
    switch (PQresultStatus(result))
    {
        case PGRES_TUPLES_OK:
            request->ok = PQntuples(result) == 1 && PQnfields(result) == 1;
            request->is_null = !request->ok || PQgetisnull(result, 0, 0);
            if (request->ok)
                strlcpy(request->text, PQgetvalue(result, 0, 0), sizeof(request->text));
            break;
        default:
            sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
            strlcpy(request->sqlstate, sqlstate == NULL ? FLEET_SQLSTATE_INTERNAL_ERROR : sqlstate,
                    sizeof(request->sqlstate));
            break;
    }
}

static void
side_done(FleetConn *conn, FleetExpect expect)
{
    FleetSide *side = side_of(conn);
    SideRequest *request;

    if (expect.tag == FLEET_EXPECT_SYNC && conn->state == CONN_SETUP && conn->count == 0)
    {
        if (side->self.in_recovery)
        {
            fleet_conn_fail(conn, FLEET_SQLSTATE_CANNOT_CONNECT_NOW, false,
                            "the server is in recovery");
            return;
        }
        side->idle_since = fleet_link_now();
        fleet_link_due_at(side->idle_since + FLEET_SIDE_IDLE);
        fleet_conn_ready(conn);
        fleet_conn_work(conn);
    }
    if (expect.tag != TAG_SIDE || dlist_is_empty(&side->sent))
        return;
    request = dlist_container(SideRequest, node, dlist_pop_head_node(&side->sent));
    side->idle_since = fleet_link_now();
    fleet_link_due_at(side->idle_since + FLEET_SIDE_IDLE);
    side_finish(side, request);
}

/* The count of sessions that are there and were told to end. */
static void
send_end(FleetSide *side, const SideRequest *request)
{
    FleetServerLink *link = side->conn.link;
    char pid[16], start[32], prefix[32], epoch[32];
    const char *values[2] = {pid, start};

    snprintf(pid, sizeof(pid), "%d", request->pid);
    snprintf(start, sizeof(start), INT64_FORMAT, request->backend_start);
    if (request->pid != 0)
    {
        fleet_conn_send(&side->conn, TAG_SIDE, FLEET_NO_SLOT,
                        "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid))"
                        " FROM pg_catalog.pg_stat_get_activity($1::pg_catalog.int4)"
                        " WHERE " FLEET_BACKEND_START " OPERATOR(pg_catalog.=) $2::pg_catalog.int8",
                        2, values, false, false);
        return;
    }
    snprintf(prefix, sizeof(prefix), "pg_fleet %.8s ", link->parent.uuid);
    snprintf(epoch, sizeof(epoch), UINT64_FORMAT, link->parent.epoch);
    values[0] = prefix;
    values[1] = epoch;
    fleet_conn_send(&side->conn, TAG_SIDE, FLEET_NO_SLOT,
                    "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid))"
                    " FROM pg_catalog.pg_stat_get_activity(NULL) WHERE " FLEET_PREDECESSORS,
                    2, values, false, false);
}

static void
side_send(FleetSide *side, SideRequest *request)
{
    char pid[16], xid[32];
    const char *values[2] = {pid, xid};

    request->ok = request->is_null = false;
    request->text[0] = request->sqlstate[0] = '\0';
    snprintf(pid, sizeof(pid), "%d", request->pid);
    dlist_push_tail(&side->sent, &request->node);
    switch (request->kind)
    {
        case SIDE_CANCEL:
            fleet_conn_send(&side->conn, TAG_SIDE, FLEET_NO_SLOT,
                            "SELECT pg_catalog.pg_cancel_backend($1::pg_catalog.int4)", 1, values,
                            false, false);
            break;
        case SIDE_PROBE:
            fleet_conn_send(&side->conn, TAG_SIDE, FLEET_NO_SLOT,
                            "SELECT state"
                            " FROM pg_catalog.pg_stat_get_activity($1::pg_catalog.int4)",
                            1, values, false, false);
            break;
        case SIDE_RESOLVE:
            snprintf(xid, sizeof(xid), UINT64_FORMAT,
                     request->looking ? request->xid & UINT64CONST(0xFFFFFFFF) : request->xid);
            if (request->looking)
                fleet_conn_send(&side->conn, TAG_SIDE, FLEET_NO_SLOT,
                                "SELECT pg_catalog.count(pg_catalog.pg_terminate_backend(pid))"
                                " FROM pg_catalog.pg_stat_get_activity($1::pg_catalog.int4)"
                                " WHERE backend_xid OPERATOR(pg_catalog.=) $2::pg_catalog.xid"
                                " OR backend_start IS NULL",
                                2, values, false, false);
            else
                fleet_conn_send(&side->conn, TAG_SIDE, FLEET_NO_SLOT,
                                "SELECT pg_catalog.pg_xact_status($1::pg_catalog.xid8)", 1,
                                values + 1, false, false);
            break;
        case SIDE_END: send_end(side, request); break;
    }
    fleet_conn_sync(&side->conn);
}

/* Another history: no need to ask. */
static bool
side_decided(FleetSide *side, SideRequest *request)
{
    if (request->kind != SIDE_RESOLVE || same_history(&request->then, &side->self.identity))
        return false;
    fleet_link_callbacks.resolved(side->conn.link, request->ref, FLEET_XACT_UNKNOWN);
    fleet_link_agent_told();
    pfree(request);
    return true;
}

static void
side_gather(FleetConn *conn)
{
    FleetSide *side = side_of(conn);
    FleetTime now = fleet_link_now();
    dlist_mutable_iter iter;

    if (conn->state != CONN_READY || conn->lost)
        return;
    dlist_foreach_modify(iter, &side->waiting)
    {
        SideRequest *request = dlist_container(SideRequest, node, iter.cur);

        if (request->not_before > now)
            continue;
        dlist_delete(&request->node);
        if (!side_decided(side, request))
            side_send(side, request);
    }
}

/* Lost: all is asked again, but probes have no answer. */
static void
side_down(FleetConn *conn, const char *sqlstate, const char *reason, bool permanent)
{
    FleetSide *side = side_of(conn);
    bool cancels = false;
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &side->sent)
    {
        SideRequest *request = dlist_container(SideRequest, node, iter.cur);

        dlist_delete(&request->node);
        request->looking = request->gone = false;
        dlist_push_tail(&side->waiting, &request->node);
    }
    dlist_foreach_modify(iter, &side->waiting)
    {
        SideRequest *request = dlist_container(SideRequest, node, iter.cur);

        if (request->kind != SIDE_PROBE)
        {
            cancels |= request->kind == SIDE_CANCEL && request->target != NULL;
            if (request->target != NULL || request->kind != SIDE_CANCEL)
                continue;
            dlist_delete(&request->node);
            pfree(request); /* the session is gone */
            continue;
        }
        dlist_delete(&request->node);
        /* A refusal comes from a server that is there: no reason to distrust its sessions. */
        request->ok = !fleet_sqlstate_in(sqlstate, FLEET_SQLCLASS_CONNECTION);
        strlcpy(request->text, request->ok ? "active" : "", sizeof(request->text));
        side_finish(side, request);
    }
    if (cancels && conn->link->up)
        fleet_link_callbacks.trouble(conn->link, "a cancel cannot be sent", reason);
    fleet_link_went_down(conn->link, conn, sqlstate, reason, permanent);
}

static FleetTime
side_due(FleetConn *conn)
{
    FleetSide *side = side_of(conn);
    FleetTime due = FLEET_NEVER;
    dlist_iter iter;

    if (dlist_is_empty(&side->waiting) && dlist_is_empty(&side->sent))
        return side->idle_since + FLEET_SIDE_IDLE;
    dlist_foreach(iter, &side->waiting)
    {
        due = Min(due, dlist_container(SideRequest, node, iter.cur)->not_before);
    }
    return due;
}

static void
side_timer(FleetConn *conn, FleetTime now)
{
    FleetSide *side = side_of(conn);

    if (dlist_is_empty(&side->waiting) && dlist_is_empty(&side->sent))
        fleet_conn_close(conn);
    else
        fleet_conn_work(conn);
}

/* Before any session: it costs less to have it again. */
static FleetTime
side_spare_since(FleetConn *conn)
{
    FleetSide *side = side_of(conn);

    return dlist_is_empty(&side->waiting) && dlist_is_empty(&side->sent) ? 0 : FLEET_NEVER;
}

static const FleetConnMethods side_methods = {
    .login = side_login,
    .result = side_result,
    .done = side_done,
    .gather = side_gather,
    .down = side_down,
    .due = side_due,
    .timer = side_timer,
    .spare_since = side_spare_since,
    .message_max = FLEET_OWN_BYTES_MAX,
};

/* ---- what the others ask ---- */

static SideRequest *
side_ask(FleetServerLink *link, SideKind kind, FleetConn *target, int pid)
{
    SideRequest *request;

    if (link->side == NULL)
    {
        link->side = MemoryContextAllocZero(link->context, sizeof(FleetSide));
        dlist_init(&link->side->waiting);
        dlist_init(&link->side->sent);
        fleet_conn_init(&link->side->conn, link, &side_methods, link->side);
    }
    request = MemoryContextAllocZero(link->context, sizeof(SideRequest));
    request->kind = kind;
    request->target = target;
    request->pid = pid;
    dlist_push_tail(&link->side->waiting, &request->node);
    if (link->side->conn.state == CONN_READY)
        fleet_conn_work(&link->side->conn);
    if (link->retry_at > fleet_link_now())
        fleet_link_due_at(link->retry_at);
    fleet_link_open_soon(link);
    return request;
}

void
fleet_side_cancel(FleetServerLink *link, FleetConn *conn, int pid,
                  void (*answered)(FleetConn *conn))
{
    side_ask(link, SIDE_CANCEL, conn, pid)->canceled = answered;
}

void
fleet_side_probe(FleetServerLink *link, FleetConn *conn, int pid,
                 void (*answered)(FleetConn *conn, bool known, bool active))
{
    side_ask(link, SIDE_PROBE, conn, pid)->probed = answered;
}

bool
fleet_side_withdraw(FleetServerLink *link, FleetConn *conn)
{
    dlist_mutable_iter iter;

    if (link->side == NULL)
        return false;
    dlist_foreach_modify(iter, &link->side->waiting)
    {
        SideRequest *request = dlist_container(SideRequest, node, iter.cur);

        if (request->target != conn || request->kind != SIDE_CANCEL)
            continue;
        dlist_delete(&request->node);
        pfree(request);
        return true;
    }
    return false;
}

bool
fleet_side_forget(FleetServerLink *link, FleetConn *conn, bool gone)
{
    dlist_mutable_iter iter;
    bool sent = false;

    if (link->side == NULL)
        return false;
    dlist_foreach_modify(iter, &link->side->waiting)
    {
        SideRequest *request = dlist_container(SideRequest, node, iter.cur);

        if (request->target == conn && request->kind != SIDE_RESOLVE)
        {
            dlist_delete(&request->node);
            pfree(request);
        }
    }
    dlist_foreach_modify(iter, &link->side->sent)
    {
        SideRequest *request = dlist_container(SideRequest, node, iter.cur);

        if (request->target != conn)
            continue;
        sent = true;
        if (gone)
            request->target = NULL;
    }
    return sent && !gone;
}

void
fleet_side_end(FleetServerLink *link, int pid, int64 backend_start)
{
    side_ask(link, SIDE_END, NULL, pid)->backend_start = backend_start;
    link->remains++;
}

bool
fleet_link_clean(FleetServerLink *link)
{
    if (!link->swept && !link->sweeping)
    {
        link->sweeping = true;
        fleet_side_end(link, 0, 0);
    }
    if (link->remains == 0)
        return true;
    link->clean_wanted = true;
    fleet_link_need(link);
    return false;
}

void
fleet_link_resolve(FleetServerLink *link, uint64 ref, uint64 xid, int backend_pid,
                   const FleetLinkIdentity *then, FleetTime give_up_at)
{
    SideRequest *request = side_ask(link, SIDE_RESOLVE, NULL, backend_pid);

    request->ref = ref;
    request->xid = xid;
    request->then = *then;
    request->give_up_at = give_up_at;
}

bool
fleet_side_wants(FleetServerLink *link)
{
    return link->side != NULL && link->side->conn.state == CONN_CLOSED &&
           !dlist_is_empty(&link->side->waiting);
}

void
fleet_side_open_wanted(FleetServerLink *link)
{
    if (fleet_side_wants(link) && fleet_link_may_open(link))
        fleet_conn_open(&link->side->conn);
}
