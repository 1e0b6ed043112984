/*
 * link/server_link.c
 *     FleetServerLink: the connections of one server as one role sees it, when
 *     they are opened, the backoff between attempts, and the end of a turn.
 *
 * In the agent's process.  The agent calls the functions of link.h; the loop
 * calls turn_end() at the start of every wait.
 *
 * A link is "up" while one of its connections is ready.  Once wanted, it is
 * tried for as long as it is down, at growing intervals; attempts of several
 * connections to a server that is down are one attempt.
 */
#include "postgres.h"

#include "link/internal.h"

#include "hand.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* ---- making and closing ---- */

static void
waits_no_more(FleetServerLink *link)
{
    if (link->fd_waiting)
        dlist_delete(&link->fd_node);
    link->fd_waiting = false;
    fleet_link_gate_leave(link);
}

/* The context goes: whatever libpq has for this link goes with it. */
static void
link_reset(void *arg)
{
    FleetServerLink *link = arg;
    dlist_iter iter;

    dlist_delete(&link->node);
    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        fleet_conn_close(conn); /* the loop is still there: children go first */
    }
    if (link->opens_soon)
        dlist_delete(&link->open_node);
    waits_no_more(link);
}

static void
link_copy_params(FleetServerLink *link, const FleetLinkSpec *spec)
{
    MemoryContext before = MemoryContextSwitchTo(link->params);
    int n = 0;

    link->has_password = false;
    link->connect_timeout = FLEET_CONNECT_TIMEOUT;
    while (spec->keywords != NULL && spec->keywords[n] != NULL)
        n++;
    link->keywords = palloc0(sizeof(char *) * Max(n, 1));
    link->values = palloc0(sizeof(char *) * Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        const char *value = spec->values[i] == NULL ? "" : spec->values[i];

        link->keywords[i] = pstrdup(spec->keywords[i]);
        link->values[i] = pstrdup(value);
        if (strcmp(spec->keywords[i], "password") == 0 && value[0] != '\0')
            link->has_password = true;
        if (strcmp(spec->keywords[i], "connect_timeout") == 0)
        {
            int seconds = atoi(value);

            if (seconds > 0)
                link->connect_timeout = Max(2, Min(seconds, 600));
        }
    }
    link->nparams = n;
    MemoryContextSwitchTo(before);
    fleet_link_parse_hosts(link);
}

/* Would this spec make the same connections? */
static bool
link_fits(const FleetServerLink *link, const FleetLinkSpec *spec)
{
    int n = 0;

    if (link->superuser != spec->superuser)
        return false;
    for (; spec->keywords[n] != NULL; n++)
    {
        const char *value = spec->values[n] == NULL ? "" : spec->values[n];

        if (n >= link->nparams || strcmp(link->keywords[n], spec->keywords[n]) != 0 ||
            strcmp(link->values[n], value) != 0)
            return false;
    }
    return n == link->nparams;
}

static FleetTime turn_end(void *arg);

FleetServerLink *
fleet_link_create(FleetLoop *loop, const FleetParentIdentity *parent, const FleetLinkSpec *spec,
                  void *owner)
{
    MemoryContext context =
        AllocSetContextCreate(fleet_loop_context(loop), "fleet link", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    FleetServerLink *link = palloc0(sizeof(FleetServerLink));

    link->context = context;
    link->loop = loop;
    link->parent = *parent;
    link->owner = owner;
    link->server_id = spec->server_id;
    link->server_name = pstrdup(spec->server_name);
    link->role = spec->role;
    link->superuser = spec->superuser;
    link->mode = spec->mode;
    link->slots = spec->slots;
    link->backoff = FLEET_BACKOFF_MIN;
    dlist_init(&link->conns);
    link->params = AllocSetContextCreate(context, "fleet link options", ALLOCSET_SMALL_SIZES);
    link_copy_params(link, spec);
    dlist_push_tail(&fleet_turn.links, &link->node);
    link->reset.func = link_reset;
    link->reset.arg = link;
    MemoryContextRegisterResetCallback(context, &link->reset);
    if (link->mode->create != NULL)
        link->mode->create(link);
    fleet_loop_prepare(loop, turn_end, loop);
    fleet_turn.now = fleet_clock_now();
    MemoryContextSwitchTo(before);
    return link;
}

void
fleet_link_close(FleetServerLink *link)
{
    if (link->closing)
        return;
    link->closing = true;
    waits_no_more(link);
    dlist_delete(&link->node);
    dlist_push_tail(&fleet_turn.closing, &link->node);
}

/* ---- what holds for it changes ---- */

/* The next attempt is made, or refused, at once. */
static void
link_try_anew(FleetServerLink *link)
{
    link->retry_at = 0;
    link->backoff = FLEET_BACKOFF_MIN;
    fleet_link_open_soon(link);
}

void
fleet_link_knock_now(FleetServerLink *link)
{
    if (link->up)
        return;
    link_try_anew(link);
    fleet_link_need(link);
}

void
fleet_link_hold(FleetServerLink *link, const char *why)
{
    if (link->held != NULL)
        pfree(link->held);
    link->held = why == NULL ? NULL : MemoryContextStrdup(link->context, why);
    link_try_anew(link);
}

static void
link_cut_all(FleetServerLink *link, const char *sqlstate, bool permanent, const char *why)
{
    dlist_iter iter;

    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        if (conn->state != CONN_CLOSED)
            fleet_conn_fail(conn, sqlstate, permanent, "%s", why);
    }
}

void
fleet_link_forbid(FleetServerLink *link, const char *sqlstate, const char *why)
{
    if (link->forbidden != NULL)
        pfree(link->forbidden);
    link->forbidden = why == NULL ? NULL : MemoryContextStrdup(link->context, why);
    link->forbidden_sqlstate = sqlstate;
    if (why != NULL)
    {
        waits_no_more(link);
        link_cut_all(link, sqlstate, true, why);
    }
    link_try_anew(link);
}

/* A session may end what it runs, and the other agent goes on by itself: that connection, and what
 * is on its way, begins anew. */
static void
link_outdate(FleetServerLink *link)
{
    dlist_iter iter;

    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        if (conn->state == CONN_CLOSED || conn->lost)
            continue;
        if (link->mode->sessions && conn->state == CONN_READY)
        {
            conn->outdated = true;
            fleet_conn_work(conn);
        }
        else
            fleet_conn_fail(conn, FLEET_SQLSTATE_CONNECTION_FAILURE, false,
                            "the options of the server or of its user mapping have changed");
    }
}

void
fleet_link_change(FleetServerLink *link, const FleetLinkSpec *spec)
{
    const char *password = fleet_link_param(link, "password");
    bool strict = link->superuser && !spec->superuser;
    char *former;

    if (link->mode->sessions && spec->slots < link->slots)
        link_outdate(link);
    link->slots = spec->slots;
    if (strcmp(link->server_name, spec->server_name) != 0)
    {
        pfree(link->server_name);
        link->server_name = MemoryContextStrdup(link->context, spec->server_name);
    }
    if (link_fits(link, spec))
        return;
    former = password == NULL ? NULL : pstrdup(password);
    waits_no_more(link);
    MemoryContextReset(link->params);
    link->former = former == NULL ? NULL : MemoryContextStrdup(link->params, former);
    link->superuser = spec->superuser;
    link->plain = false;
    link_copy_params(link, spec);
    if (strict)
        link_cut_all(link, FLEET_SQLSTATE_INVALID_AUTHORIZATION, false,
                     "the role is not a superuser any more");
    else
        link_outdate(link);
    link_try_anew(link);
}

void *
fleet_link_owner(FleetServerLink *link)
{
    return link->owner;
}

const FleetLinkIdentity *
fleet_link_identity(const FleetServerLink *link)
{
    return link->identity_known ? &link->identity : NULL;
}

/* ---- the end of a turn ---- */

static void
work_all(void)
{
    while (!dlist_is_empty(&fleet_turn.work))
    {
        FleetConn *conn = dlist_container(FleetConn, work, dlist_pop_head_node(&fleet_turn.work));

        CHECK_FOR_INTERRUPTS();
        fleet_link_in_hand(conn->link);
        conn->has_work = false;
        if (!conn->lost && !conn->attention && conn->state >= CONN_SETUP)
        {
            fleet_conn_flush(conn);
            if ((conn->swollen || conn->outdated) && !conn->has_work)
                fleet_link_give_back(conn);
            continue;
        }
        fleet_link_agent_told();
        if (conn->lost)
            fleet_conn_finish_lost(conn);
        else if (conn->attention)
            fleet_conn_process(conn);
        else if (conn->state == CONN_CLOSED && conn->methods->closed != NULL)
            conn->methods->closed(conn);
    }
    fleet_hand_empty();
}

static void
link_open_wanted(FleetServerLink *link)
{
    /* Whether the server is there is told by a session, not by the side connection: so, while that
     * is not known, and only one attempt is made at a time, it is a session's. */
    bool session_first = link->mode->sessions && link->wanted && !link->up && !link->fd_waiting;
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        if (conn->state == CONN_RESOLVING && !conn->lost)
            fleet_conn_resolved(conn);
    }
    if (!session_first)
        fleet_side_open_wanted(link);
    if (link->fd_waiting)
        return; /* until fleet_link_fd_waiters_wake() */
    link->mode->open_wanted(link);
    if (session_first)
        fleet_side_open_wanted(link);
}

/* Is a connection to be opened once the backoff is over? */
static bool
link_wants(const FleetServerLink *link)
{
    return !link->fd_waiting && (link->session_wanted || (link->wanted && !link->up));
}

/* When conn_timer() must be called. */
static FleetTime
conn_due(FleetConn *conn)
{
    FleetTime due = FLEET_NEVER;

    switch (conn->state)
    {
        case CONN_CLOSED: break;
        case CONN_RESOLVING:
        case CONN_CONNECTING: due = conn->deadline; break;
        case CONN_SETUP:
        case CONN_READY:
            if (conn->count > 0 && !conn->user_runs)
                due = conn->heard_at + conn->patience;
            if (conn->state == CONN_READY && conn->methods->due != NULL)
                due = fleet_earlier(due, conn->methods->due(conn));
            break;
    }
    return due;
}

static void
conn_timer(FleetConn *conn, FleetTime now)
{
    if (conn->lost || conn_due(conn) > now)
        return;
    switch (conn->state)
    {
        case CONN_CLOSED: break;
        case CONN_RESOLVING:
            fleet_conn_fail(conn, FLEET_SQLSTATE_CANNOT_CONNECT, false,
                            "looking up the host name took too long");
            break;
        case CONN_CONNECTING: fleet_conn_connect_timeout(conn); break;
        case CONN_SETUP:
        case CONN_READY:
            if (conn->count > 0 && !conn->user_runs && conn->heard_at + conn->patience <= now)
                fleet_conn_fail(conn, FLEET_SQLSTATE_CONNECTION_FAILURE, false,
                                "the server has not answered for %d seconds",
                                (int) (FLEET_SILENCE / FLEET_SECONDS(1)));
            else if (conn->state == CONN_READY && conn->methods->timer != NULL)
                conn->methods->timer(conn, now);
            break;
    }
}

static FleetTime
link_due(FleetServerLink *link)
{
    FleetTime due = FLEET_NEVER;
    dlist_iter iter;

    if (link_wants(link) && link->retry_at > fleet_turn.now)
        due = link->retry_at;
    if (fleet_side_wants(link) && link->retry_at > fleet_turn.now)
        due = Min(due, link->retry_at);
    dlist_foreach(iter, &link->conns)
    {
        due = fleet_earlier(due, conn_due(dlist_container(FleetConn, node, iter.cur)));
    }
    return due;
}

/* All timers; only when one may be due, since it looks at every link. */
static void
timers_all(void)
{
    dlist_iter iter;
    FleetTime due = FLEET_NEVER;

    fleet_turn.next_due = FLEET_NEVER;
    dlist_foreach(iter, &fleet_turn.links)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, iter.cur);
        dlist_iter conns;

        fleet_link_in_hand(link);
        dlist_foreach(conns, &link->conns)
        {
            conn_timer(dlist_container(FleetConn, node, conns.cur), fleet_turn.now);
        }
        if (link->retry_at <= fleet_turn.now && (fleet_side_wants(link) || link_wants(link)))
            fleet_link_open_soon(link);
        due = fleet_earlier(due, link_due(link));
    }
    fleet_hand_empty();
    fleet_turn.next_due = Min(fleet_turn.next_due, due);
}

static void
due_anew(void)
{
    dlist_iter iter;

    fleet_turn.due_is_stale = false;
    if (fleet_turn.next_due <= fleet_turn.now)
        return; /* timers_all() is about to do it */
    fleet_turn.next_due = FLEET_NEVER;
    dlist_foreach(iter, &fleet_turn.links)
    {
        fleet_link_due_at(link_due(dlist_container(FleetServerLink, node, iter.cur)));
    }
}

/* Links that want something; all that wait for addresses, when some may have come. */
static void
open_wanted_all(void)
{
    dlist_iter iter;

    if (fleet_resolve_news())
    {
        dlist_foreach(iter, &fleet_turn.links)
        {
            fleet_link_open_soon(dlist_container(FleetServerLink, node, iter.cur));
        }
    }
    while (!dlist_is_empty(&fleet_turn.to_open))
    {
        FleetServerLink *link =
            dlist_container(FleetServerLink, open_node, dlist_pop_head_node(&fleet_turn.to_open));

        link->opens_soon = false;
        if (link->held != NULL || link->forbidden != NULL)
        {
            if (link_wants(link) || fleet_side_wants(link))
                fleet_link_held_down(link);
            continue;
        }
        fleet_link_in_hand(link);
        link_open_wanted(link);
    }
    fleet_hand_empty();
}

static void
close_all(void)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &fleet_turn.closing)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, iter.cur);

        fleet_link_in_hand(link);
        if (link->mode->close(link))
            MemoryContextDelete(link->context);
    }
    fleet_hand_empty();
}

/* Called at the start of every fleet_loop_wait(). */
static FleetTime
turn_end(void *arg)
{
    fleet_turn.now = fleet_clock_now();
    fleet_turn.agent_told = false;
    close_all();
    open_wanted_all();
    if (fleet_turn.next_due <= fleet_turn.now)
    {
        timers_all();
        open_wanted_all();
    }
    work_all();
    if (fleet_turn.due_is_stale && fleet_turn.awaiting == 0)
        due_anew();
    if (fleet_turn.agent_told || fleet_turn.next_due <= fleet_turn.now)
        return fleet_turn.now; /* the agent, or a timer, has something to do before anybody waits */
    return fleet_turn.next_due;
}

FleetTime
fleet_link_timers(FleetTime now)
{
    return fleet_turn.next_due;
}
