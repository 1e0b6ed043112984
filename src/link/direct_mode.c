/*
 * link/direct_mode.c
 *     Mode direct: sessions on a server where nothing of ours is installed,
 *     each a FleetExecutor (executor.h).  This file: the pool of sessions, and
 *     their requests; direct_send.c: what is sent; direct_result.c: what comes
 *     back.
 *
 * In the agent's process.  Called by the agent (link.h, executor.h) and by
 * conn.c (results, timers).
 *
 * A request:  NONE → (QUEUED) → PROLOGUE → … → PREPARED → COMMITTING → NONE
 */
#include "postgres.h"

#include <ctype.h>

#include "link/direct_mode.h"
#include "utils/memutils.h"

#define PROBE_EVERY FLEET_SECONDS(20)

/* ---- requests (FleetExecutorMethods) ---- */

/* Past white space, semicolons and comments of one line.  A block comment is not worth parsing: the
 * slower ways are right for all. */
static const char *
first_word(const char *s)
{
    for (;;)
    {
        while (*s == ' ' || *s == '\t' || *s == '\n' || *s == '\r' || *s == '\f' || *s == ';')
            s++;
        if (s[0] != '-' || s[1] != '-')
            return s;
        s += strcspn(s, "\n");
    }
}

/* A single COPY may speak the copy protocol, which does not go with a pipeline. */
static bool
may_be_copy(const char *word)
{
    return strncmp(word, "/*", 2) == 0 || pg_strncasecmp(word, "copy", 4) == 0;
}

static bool
is_plain_query(const char *word)
{
    static const char *const words[] = {"select", "insert", "update", "delete",
                                        "merge",  "with",   "values"};

    for (int i = 0; i < (int) lengthof(words); i++)
    {
        size_t n = strlen(words[i]);

        if (pg_strncasecmp(word, words[i], n) == 0 && !isalnum((unsigned char) word[n]) &&
            word[n] != '_')
            return true;
    }
    return false;
}

static void
set_text(FleetServerLink *link, StringInfo text, const char *s)
{
    if (text->data == NULL)
    {
        MemoryContext before = MemoryContextSwitchTo(link->context);

        initStringInfo(text);
        MemoryContextSwitchTo(before);
    }
    resetStringInfo(text);
    appendStringInfoString(text, s);
}

/* Buffers are kept for the next request, unless they have grown large. */
static void
clear_text(StringInfo text)
{
    if (text->data != NULL && text->maxlen > 16384)
    {
        pfree(text->data);
        text->data = NULL;
    }
    else if (text->data != NULL)
        resetStringInfo(text);
}

static void
request_clear(FleetServerLink *link, DirectRequest *request)
{
    StringInfo all[] = {&request->command, &request->params, &request->of,      &request->message,
                        &request->detail,  &request->hint,   &request->context, &request->output};
    DirectRequest keep;

    fleet_direct_look_forget(request);
    for (int i = 0; i < (int) lengthof(all); i++)
    {
        clear_text(all[i]);
        if (all[i]->data == NULL)
            set_text(link, all[i], "");
    }
    keep = *request;
    memset(request, 0, offsetof(DirectRequest, command));
    request->command = keep.command;
    request->row_count = -1;
}

/* What cannot be said in the server's encoding fails this request, and is not sent. */
static void
set_texts(DirectSession *session, DirectRequest *request, const FleetStepRequest *step)
{
    FleetServerLink *link = session->conn.link;
    int encoding = fleet_conn_encoding(&session->conn, request->fresh);
    const char *given[] = {step->command, step->params};
    StringInfo kept[] = {&request->command, &request->params};
    FleetDiagnostics why;

    for (int i = 0; i < (int) lengthof(given); i++)
    {
        const char *text = fleet_text_for(encoding, given[i], &why);

        set_text(link, kept[i], text == NULL ? "" : text);
        if (text == NULL && !request->failed)
        {
            fleet_direct_set_error(request, why.sqlstate, why.message);
            appendStringInfo(&request->context, "%s of the step, to be sent to the server",
                             i == 0 ? "SQL" : "parameters");
        }
        if (text != NULL && text != given[i])
            pfree(unconstify(char *, text));
    }
    set_text(link, &request->of, fleet_text_or_ascii(encoding, step->context));
}

static void
direct_run(FleetExecutor *executor, const FleetStepRequest *step)
{
    DirectSession *session = SESSION_OF_EXECUTOR(executor);
    int slot = session->last_slot ^ 1; /* the other one may still be read by an event's callback */
    DirectRequest *request = &session->requests[slot];
    const char *word = first_word(step->command);

    Assert(session->current < 0);
    request_clear(session->conn.link, request);
    request->fresh = step->fresh || session->discard_owed;
    session->discard_owed = false;
    set_texts(session, request, step);
    request->ref = step->ref;
    request->transactional = step->transactional;
    request->pipelined = step->transactional && step->single && !may_be_copy(word);
    request->plain_query = request->pipelined && is_plain_query(word);
    request->phase = DIRECT_QUEUED;
    session->current = session->last_slot = slot;
    if (request->transactional && !request->plain_query && !request->failed)
        fleet_direct_look_begin(session, request);
    if (step->kind != FLEET_REQUEST_STEP)
        fleet_direct_set_error(request, FLEET_SQLSTATE_FEATURE_NOT_SUPPORTED,
                               "queries of packages do not run on direct servers");
    else if (!request->failed && !request->commits && session->conn.state == CONN_READY &&
             !session->conn.lost && !session->cancel_sent)
    {
        fleet_direct_begin(session, slot);
        return;
    }
    fleet_conn_work(&session->conn);
}

static void
direct_commit(FleetExecutor *executor)
{
    DirectSession *session = SESSION_OF_EXECUTOR(executor);
    int slot = session->current;

    if (slot < 0 || session->requests[slot].phase != DIRECT_PREPARED)
        return; /* cut or canceled meanwhile: the event is on its way */
    session->requests[slot].phase = DIRECT_COMMITTING;
    session->current = -1;
    session->committing = slot;
    fleet_conn_send(&session->conn, TAG_COMMIT, (uint8) slot, "COMMIT", 0, NULL, false, false);
    fleet_direct_waiting(session);
    fleet_conn_work(&session->conn);
}

static void
direct_cancel(FleetExecutor *executor)
{
    DirectSession *session = SESSION_OF_EXECUTOR(executor);

    if (session->current < 0)
        return; /* COMMIT was sent: too late, its outcome comes */
    session->requests[session->current].cancel_wanted = true;
    session->requests[session->current].cancel_asked = true;
    fleet_conn_work(&session->conn);
}

static const FleetExecutorMethods direct_methods = {
    .run = direct_run,
    .commit = direct_commit,
    .cancel = direct_cancel,
};

/* ---- end of the turn ---- */

static void
request_canceled_before(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];
    bool prepared = request->phase == DIRECT_PREPARED;

    fleet_direct_set_error(request, FLEET_SQLSTATE_QUERY_CANCELED,
                           "canceled before it was committed");
    if (prepared)
        fleet_direct_rollback(session);
    fleet_direct_emit(session, slot, FLEET_EXECUTOR_ERROR);
}

static void
direct_gather(FleetConn *conn)
{
    DirectSession *session = SESSION_OF(conn);
    int slot = session->current;
    DirectRequest *request = slot < 0 ? NULL : &session->requests[slot];

    if (conn->lost || conn->state != CONN_READY)
        return;
    if (!session->executor.busy && !conn->outdated && conn->link->tell_when_idle)
    {
        conn->link->tell_when_idle = false;
        fleet_link_agent_told();
        fleet_link_callbacks.session(conn->link);
        fleet_link_fd_spare(conn);
        slot = session->current;
        request = slot < 0 ? NULL : &session->requests[slot];
    }
    if (request == NULL)
        return;
    if (request->phase == DIRECT_QUEUED && session->committing >= 0 &&
        (request->failed || request->commits || request->cancel_wanted))
        return; /* it ends after the one before it, or the next one would have no place */
    if (request->cancel_wanted &&
        (request->phase == DIRECT_QUEUED || request->phase == DIRECT_PREPARED))
    {
        fleet_link_agent_told();
        request_canceled_before(session, slot);
        return;
    }
    if (request->phase == DIRECT_QUEUED && (request->failed || request->commits))
    {
        fleet_link_agent_told();
        fleet_direct_emit(session, slot,
                          request->failed ? FLEET_EXECUTOR_ERROR
                                          : FLEET_EXECUTOR_NOT_TRANSACTIONAL);
    }
    else if (request->phase == DIRECT_QUEUED && !session->cancel_sent)
        fleet_direct_begin(session, slot);
    else
        fleet_direct_try_cancel(session);
    /* Nothing had to be sent before the command. */
    if (session->current == slot && request->phase == DIRECT_PROLOGUE && !conn->needs_sync &&
        conn->count == 0)
    {
        FleetExpect expect = {.tag = FLEET_EXPECT_SYNC, .slot = (uint8) slot};

        fleet_link_agent_told();
        fleet_direct_done(conn, expect);
    }
}

/* ---- timers: is it still at work? ---- */

static void
direct_probed(FleetConn *conn, bool known, bool active)
{
    DirectSession *session = SESSION_OF(conn);
    FleetTime now = fleet_link_now();
    bool commit = conn->count > 0 && conn->ring[conn->head].tag == TAG_COMMIT;

    session->probing = false;
    if (!conn->user_runs || conn->lost || conn->heard_at + PROBE_AFTER > now)
        return;
    if (known && active)
    {
        session->vouched_at = now;
        session->probe_strikes = 0;
        session->probe_at = now + (commit ? PROBE_AFTER : PROBE_EVERY);
    }
    else if (++session->probe_strikes >= 2)
        fleet_conn_fail(conn, FLEET_SQLSTATE_CONNECTION_FAILURE, false,
                        known ? "the server has finished, but its answer did not arrive"
                              : "the server does not answer, and can no longer be reached");
    else
        session->probe_at = now + FLEET_SECONDS(1);
    fleet_link_due_at(session->probe_at);
}

static FleetTime
direct_due(FleetConn *conn)
{
    DirectSession *session = SESSION_OF(conn);
    FleetTime due;

    if (session->cancel_again != FLEET_NEVER)
        return session->cancel_again;
    if (!conn->user_runs)
        return FLEET_NEVER;
    due = session->probing || session->self.pooled
              ? FLEET_NEVER
              : Max(session->probe_at, conn->heard_at + PROBE_AFTER);
    if (conn->count > 0 && conn->ring[conn->head].tag == TAG_COMMIT)
        due = Min(due, Max(conn->heard_at, session->vouched_at) + FLEET_SILENCE);
    return due;
}

static void
direct_timer(FleetConn *conn, FleetTime now)
{
    DirectSession *session = SESSION_OF(conn);
    bool commit = conn->count > 0 && conn->ring[conn->head].tag == TAG_COMMIT;
    DirectRequest *request = session->current < 0 ? NULL : &session->requests[session->current];

    if (session->cancel_again != FLEET_NEVER)
    {
        session->cancel_again = FLEET_NEVER;
        if (request != NULL && request->cancel_asked && request->phase != DIRECT_PREPARED)
            request->cancel_wanted = true;
        fleet_conn_work(conn);
    }
    else if (commit && Max(conn->heard_at, session->vouched_at) + FLEET_SILENCE <= now)
        fleet_conn_fail(conn, FLEET_SQLSTATE_CONNECTION_FAILURE, false,
                        "the server has not answered to COMMIT for %d seconds",
                        (int) (FLEET_SILENCE / FLEET_SECONDS(1)));
    else if (!session->probing && !session->self.pooled)
    {
        session->probing = true;
        fleet_side_probe(conn->link, conn, session->self.backend_pid, direct_probed);
    }
}

/* ---- login and loss ---- */

/* Over there the session lives on until its server notices. */
static bool
runs_something(const DirectSession *session)
{
    const DirectRequest *request =
        session->current < 0 ? NULL : &session->requests[session->current];

    return request != NULL && request->handed && request->handed_at != session->conn.flushes;
}

/*
 * Sessions that our own crashed predecessor left there must be gone before
 * anything of its steps is done again; waits up to 5 s for each, over there.
 */
static void
send_sweep(DirectSession *session)
{
    FleetServerLink *link = session->conn.link;
    char prefix[32], epoch[32];
    const char *values[2] = {prefix, epoch};

    snprintf(prefix, sizeof(prefix), "pg_fleet %.8s ", link->parent.uuid);
    snprintf(epoch, sizeof(epoch), UINT64_FORMAT, link->parent.epoch);
    session->sweep_asked = true;
    fleet_conn_send(&session->conn, TAG_SWEEP, FLEET_NO_SLOT,
                    "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM "
                    "pg_catalog.pg_stat_get_activity(NULL)"
                    " WHERE " FLEET_PREDECESSORS,
                    2, values, false, false);
    fleet_conn_sync(&session->conn);
}

static void
direct_login(FleetConn *conn)
{
    DirectSession *session = SESSION_OF(conn);

    if (conn->link->plain)
    {
        fleet_conn_send(conn, FLEET_TAG_PIN, FLEET_NO_SLOT,
                        "SET client_connection_check_interval TO '5s'", 0, NULL, false, false);
        fleet_conn_sync(conn);
    }
    fleet_self_ask(conn, &session->self);
    session->sweep_asked = session->prepared = false;
    if (!conn->link->swept)
        send_sweep(session);
}

static void
direct_down(FleetConn *conn, const char *sqlstate, const char *reason, bool permanent)
{
    DirectSession *session = SESSION_OF(conn);

    fleet_side_forget(conn->link, conn, true);
    session->cancel_sent = session->probing = false;
    session->cancel_again = FLEET_NEVER;
    if (runs_something(session) && !session->self.pooled && session->self.backend_start != 0)
        fleet_side_end(conn->link, session->self.backend_pid, session->self.backend_start);
    if (session->committing >= 0)
        fleet_direct_emit_cut(session, session->committing, sqlstate, reason);
    if (session->current >= 0)
        fleet_direct_emit_cut(session, session->current, sqlstate, reason);
    fleet_link_went_down(conn->link, conn, sqlstate, reason, permanent);
}

/* A step was given to a session that had been lost between two steps. */
static void
direct_closed(FleetConn *conn)
{
    DirectSession *session = SESSION_OF(conn);

    if (session->current >= 0)
        fleet_direct_emit_cut(session, session->current, FLEET_SQLSTATE_CONNECTION_FAILURE,
                              "the session was lost before the step was sent");
}

/* Not while a job waits for one: it is given to that in this turn. */
static FleetTime
direct_spare_since(FleetConn *conn)
{
    if (SESSION_OF(conn)->executor.busy || (conn->link->tell_when_idle && !conn->outdated))
        return FLEET_NEVER;
    return conn->heard_at;
}

static const FleetConnMethods conn_methods = {
    .login = direct_login,
    .result = fleet_direct_result,
    .copy = fleet_direct_copy,
    .done = fleet_direct_done,
    .notice = fleet_direct_notice,
    .gather = direct_gather,
    .down = direct_down,
    .due = direct_due,
    .timer = direct_timer,
    .closed = direct_closed,
    .spare_since = direct_spare_since,
    .message_max = FLEET_MESSAGE_BYTES_MAX,
};

/* ---- the pool of sessions ---- */

static DirectSession *
session_create(FleetServerLink *link)
{
    DirectSession *session = MemoryContextAllocZero(link->context, sizeof(DirectSession));

    fleet_conn_init(&session->conn, link, &conn_methods, session);
    session->conn.wants_notice = fleet_direct_wants_notice;
    session->executor.methods = &direct_methods;
    session->current = session->committing = -1;
    session->cancel_again = FLEET_NEVER;
    return session;
}

static bool
is_session(const FleetServerLink *link, const FleetConn *conn)
{
    return (const void *) conn != (const void *) link->side;
}

FleetExecutor *
fleet_link_session(FleetServerLink *link)
{
    dlist_iter iter;

    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);
        DirectSession *session = SESSION_OF(conn);

        if (!is_session(link, conn) || conn->state != CONN_READY || conn->lost || conn->outdated ||
            session->executor.busy)
            continue;
        session->executor.busy = true;
        session->executor.owner = NULL;
        return &session->executor;
    }
    link->session_wanted = link->tell_when_idle = true;
    fleet_link_need(link);
    return NULL;
}

const FleetLinkIdentity *
fleet_link_session_identity(FleetExecutor *executor)
{
    return &SESSION_OF_EXECUTOR(executor)->self.identity;
}

void
fleet_link_session_done(FleetExecutor *executor)
{
    DirectSession *session = SESSION_OF_EXECUTOR(executor);
    FleetConn *conn = &session->conn;

    executor->owner = NULL;
    if (session->current >= 0 && conn->state == CONN_READY && !conn->lost)
    {
        if (session->requests[session->current].phase == DIRECT_PREPARED)
            fleet_direct_rollback(session);
        else /* given back in the middle of something */
        {
            if (runs_something(session) && session->self.backend_start != 0)
                fleet_side_end(conn->link, session->self.backend_pid, session->self.backend_start);
            fleet_conn_fail(conn, FLEET_SQLSTATE_QUERY_CANCELED, false, "the session was given up");
        }
        session->requests[session->current].phase = DIRECT_NONE;
    }
    if (session->committing >= 0)
        session->requests[session->committing].given_back = true;
    session->current = -1;
    executor->busy = false;
    fleet_conn_work(conn); /* others may wait for one */
    fleet_link_fd_spare(&session->conn);
}

/* One more session, if one is wanted and none is on its way. */
static void
direct_open_wanted(FleetServerLink *link)
{
    DirectSession *closed = NULL;
    dlist_iter iter;
    int n = 0;

    if (!link->session_wanted && (link->up || !link->wanted))
        return;
    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        if (!is_session(link, conn))
            continue;
        n++;
        if (conn->state == CONN_CLOSED && !SESSION_OF(conn)->executor.busy)
            closed = SESSION_OF(conn);
        else if (conn->state != CONN_CLOSED && conn->state != CONN_READY)
            return;
    }
    if (!fleet_link_may_open(link) || (closed == NULL && n >= Max(link->slots, 1)) ||
        !fleet_link_gate(link))
        return;
    link->session_wanted = false;
    fleet_conn_open(closed != NULL ? &closed->conn : &session_create(link)->conn);
}

static bool
direct_close(FleetServerLink *link)
{
    dlist_iter iter;
    bool all_free = true;

    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);
        DirectSession *session = SESSION_OF(conn);

        if (conn->state != CONN_CLOSED)
            fleet_conn_close(conn);
        if (!is_session(link, conn))
            continue;
        if (session->committing >= 0 || session->current >= 0)
            fleet_link_agent_told(); /* not for one that is only waited for: that would never sleep */
        if (session->committing >= 0)
            fleet_direct_emit_cut(session, session->committing, FLEET_SQLSTATE_QUERY_CANCELED,
                                  "the link was closed");
        if (session->current >= 0)
            fleet_direct_emit_cut(session, session->current, FLEET_SQLSTATE_QUERY_CANCELED,
                                  "the link was closed");
        all_free &= !session->executor.busy;
    }
    return all_free;
}

const FleetModeMethods fleet_mode_direct = {
    .sessions = true,
    .open_wanted = direct_open_wanted,
    .close = direct_close,
};
