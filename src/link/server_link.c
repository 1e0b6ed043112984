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

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "storage/fd.h"
#include "utils/memutils.h"

FleetLinkCallbacks fleet_link_callbacks;

static dlist_head all_links = DLIST_STATIC_INIT(all_links);
static dlist_head closing_links = DLIST_STATIC_INIT(closing_links);
static dlist_head pump = DLIST_STATIC_INIT(pump);
static dlist_head work = DLIST_STATIC_INIT(work);
static dlist_head starved = DLIST_STATIC_INIT(starved);
static FleetTime turn_now;
static FleetTime next_due = FLEET_NEVER;
static int awaiting = 0; /* connections that wait for answers */
static bool due_is_stale = false;
static bool told = false; /* the agent, since the wait was asked for */

/* Read anew each time: between the end of two turns lies a wait of any length. */
FleetTime
fleet_link_now(void)
{
    turn_now = fleet_clock_now();
    return turn_now;
}

void
fleet_link_told(void)
{
    told = true;
}

void
fleet_link_due_at(FleetTime due)
{
    next_due = Min(next_due, due);
}

/*
 * With the last answer the time limits of answers are void.  Only the earliest
 * one was noted, so that is made out anew: at rest nothing wakes us.
 */
void
fleet_link_awaits(int change)
{
    awaiting += change;
    if (awaiting == 0)
        due_is_stale = true;
}

void
fleet_conn_work(FleetConn *conn)
{
    if (conn->has_work)
        return;
    conn->has_work = true;
    dlist_push_tail(&work, &conn->work);
}

/* ---- making and closing ---- */

void
fleet_link_init(const FleetLinkCallbacks *callbacks)
{
    fleet_link_callbacks = *callbacks;
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
    if (link->has_pump)
        dlist_delete(&link->pump);
}

static void
link_copy_params(FleetServerLink *link, const FleetLinkSpec *spec)
{
    int n = 0;

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
        if (strcmp(spec->keywords[i], "connect_timeout") == 0 && atoi(value) > 0)
            link->connect_timeout = Max(2, Min(atoi(value), 600));
    }
    link->nparams = n;
}

bool
fleet_link_fits(const FleetServerLink *link, const FleetLinkSpec *spec)
{
    int n = 0;

    if (link->superuser != spec->superuser || link->agent_mode != spec->agent_mode ||
        link->slots != spec->slots)
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
    link->agent_mode = spec->agent_mode;
    link->slots = spec->slots;
    link->connect_timeout = FLEET_CONNECT_TIMEOUT;
    link->backoff = FLEET_BACKOFF_MIN;
    dlist_init(&link->conns);
    link_copy_params(link, spec);
    fleet_link_parse_hosts(link);
    dlist_push_tail(&all_links, &link->node);
    link->reset.func = link_reset;
    link->reset.arg = link;
    MemoryContextRegisterResetCallback(context, &link->reset);
    if (link->agent_mode)
        fleet_agent_create(link);
    fleet_loop_prepare(loop, turn_end, loop);
    turn_now = fleet_clock_now();
    MemoryContextSwitchTo(before);
    return link;
}

void
fleet_link_close(FleetServerLink *link)
{
    if (link->closing)
        return;
    link->closing = true;
    if (link->starved)
        dlist_delete(&link->starved_node);
    link->starved = false;
    dlist_delete(&link->node);
    dlist_push_tail(&closing_links, &link->node);
}

void *
fleet_link_owner(FleetServerLink *link)
{
    return link->owner;
}

int
fleet_link_server_id(const FleetServerLink *link)
{
    return link->server_id;
}

const FleetLinkIdentity *
fleet_link_identity(const FleetServerLink *link)
{
    return link->identity_known ? &link->identity : NULL;
}

/* ---- up and down ---- */

int
fleet_link_ready_count(FleetServerLink *link)
{
    dlist_iter iter;
    int n = 0;

    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        n += conn->state == CONN_READY && !conn->lost && (void *) conn != (void *) link->side;
    }
    return n;
}

/* Looks at the end of the turn whether connections must be opened. */
void
fleet_link_pump_soon(FleetServerLink *link)
{
    if (link->has_pump || link->closing)
        return;
    link->has_pump = true;
    dlist_push_tail(&pump, &link->pump);
}

/* Somebody wants a connection: it is opened at the end of the turn, or when the backoff is over. */
void
fleet_link_need(FleetServerLink *link)
{
    link->wanted = true;
    if (link->retry_at > turn_now)
        fleet_link_due_at(link->retry_at);
    fleet_link_pump_soon(link);
}

/* While it is not known whether the server is there, one attempt at a time is enough. */
bool
fleet_link_may_open(FleetServerLink *link)
{
    dlist_iter iter;

    if (link->closing || link->retry_at > turn_now)
        return false;
    if (link->up)
        return true;
    dlist_foreach(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        if (conn->state != CONN_CLOSED && conn->state != CONN_READY)
            return false;
    }
    return true;
}

bool
fleet_link_evict(void)
{
    FleetConn *oldest = NULL;
    dlist_iter iter;

    dlist_foreach(iter, &all_links)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, iter.cur);
        FleetConn *conn = fleet_side_idle(link);

        if (conn != NULL)
        {
            fleet_conn_close(conn); /* cheaper to have again than a session */
            return true;
        }
        conn = link->agent_mode || link->waited ? NULL : fleet_direct_idlest(link);
        if (conn != NULL && (oldest == NULL || conn->heard_at < oldest->heard_at))
            oldest = conn;
    }
    if (oldest == NULL)
        return false;
    fleet_conn_close(oldest); /* its server stays up: the next job there opens one again */
    return true;
}

/* Will any session be idle or gone some time? */
static bool
has_sessions(void)
{
    dlist_iter links, conns;

    dlist_foreach(links, &all_links)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, links.cur);

        dlist_foreach(conns, &link->conns)
        {
            if (!link->agent_mode && dlist_container(FleetConn, node, conns.cur)->fd_reserved)
                return true;
        }
    }
    return false;
}

bool
fleet_link_starve(FleetConn *conn)
{
    static FleetTime logged_at = 0;
    FleetServerLink *link = conn->link;

    if (link->closing || link->starved || !has_sessions())
        return false;
    fleet_conn_close(conn);
    link->hungry = !link->agent_mode;
    link->starved = true;
    dlist_push_tail(&starved, &link->starved_node);
    if (logged_at == 0 || fleet_link_now() - logged_at > FLEET_SECONDS(60))
    {
        logged_at = turn_now;
        ereport(LOG,
                (errmsg("pg_fleet: no file descriptor is left for server \"%s\": it waits until a "
                        "session of another server is idle",
                        link->server_name),
                 errhint("Raise max_files_per_process: a third of it is for links.")));
    }
    return true;
}

void
fleet_link_feed(void)
{
    while (!dlist_is_empty(&starved))
    {
        FleetServerLink *link =
            dlist_container(FleetServerLink, starved_node, dlist_pop_head_node(&starved));

        link->starved = false;
        fleet_link_told(); /* the pump comes before anybody waits */
        fleet_link_pump_soon(link);
        if (link->retry_at <= turn_now)
            return;
        fleet_link_due_at(link->retry_at); /* it backs off: the next one */
    }
}

void
fleet_link_came_up(FleetServerLink *link, FleetConn *conn)
{
    link->backoff = FLEET_BACKOFF_MIN;
    link->retry_at = 0;
    fleet_link_pump_soon(link);
    if ((void *) conn == (void *) link->side || link->up)
        return;
    link->up = true;
    fleet_link_callbacks.up(link, &link->identity);
}

/* Half fixed, half random, so that a fleet does not knock at the same moment. */
static void
link_back_off(FleetServerLink *link, bool permanent)
{
    static FleetRandom random;
    static bool seeded = false;

    if (!seeded)
        fleet_random_seed(&random, (uint64) fleet_clock_now() ^ (uint64) MyProcPid << 32);
    seeded = true;
    if (permanent)
        link->backoff = FLEET_BACKOFF_MAX;
    link->retry_at = turn_now + link->backoff / 2 +
                     (FleetTime) (fleet_random_unit(&random) * (double) link->backoff / 2);
    link->backoff = Min(link->backoff * 2, FLEET_BACKOFF_MAX);
    fleet_link_due_at(link->retry_at);
}

void
fleet_link_went_down(FleetServerLink *link, FleetConn *conn, const char *sqlstate,
                     const char *reason, bool permanent)
{
    if (link->retry_at <= fleet_link_now())
        link_back_off(link, permanent);
    fleet_link_pump_soon(link);
    if ((void *) conn == (void *) link->side || fleet_link_ready_count(link) > 0)
        return; /* others are up: the server is there */
    link->up = false;
    if (!link->closing)
        fleet_link_callbacks.down(link, sqlstate, reason, permanent);
}

/* ---- who the other side is ---- */

void
fleet_self_ask(FleetConn *conn, FleetSelf *self)
{
    memset(self, 0, sizeof(*self));
    self->identity.version_num = PQserverVersion(conn->pg);
    fleet_text_copy(self->identity.version, sizeof(self->identity.version),
                    PQparameterStatus(conn->pg, "server_version"));
    fleet_conn_send(
        conn, FLEET_TAG_SELF, FLEET_NO_SLOT,
        "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), stats_reset,"
        " (SELECT " FLEET_BACKEND_START " FROM pg_catalog.pg_stat_activity"
        " WHERE pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"
        " FROM pg_catalog.pg_stat_archiver",
        0, NULL, true, false);
    fleet_conn_sync(conn);
    fleet_conn_send(conn, FLEET_TAG_SYSTEM, FLEET_NO_SLOT,
                    "SELECT system_identifier FROM pg_catalog.pg_control_system()", 0, NULL, true,
                    false);
    fleet_conn_sync(conn);
    fleet_conn_send(conn, FLEET_TAG_TIMELINE, FLEET_NO_SLOT,
                    "SELECT pg_catalog.substr(pg_catalog.pg_walfile_name("
                    "pg_catalog.pg_current_wal_lsn()), 1, 8)",
                    0, NULL, true, false);
    fleet_conn_sync(conn);
}

static uint64
binary_int(const PGresult *result, int column)
{
    uint64 wide;
    uint32 narrow;

    if (PQgetisnull(result, 0, column))
        return 0;
    if (PQgetlength(result, 0, column) == 8)
    {
        memcpy(&wide, PQgetvalue(result, 0, column), 8);
        return pg_ntoh64(wide);
    }
    if (PQgetlength(result, 0, column) == 4)
    {
        memcpy(&narrow, PQgetvalue(result, 0, column), 4);
        return pg_ntoh32(narrow);
    }
    return 0;
}

/* True if the result was one of ours.  What may not be read there stays unknown. */
bool
fleet_self_result(FleetConn *conn, FleetSelf *self, const FleetExpect *expect,
                  const PGresult *result)
{
    bool rows = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;

    switch (expect->tag)
    {
        case FLEET_TAG_SELF:
            if (rows && PQnfields(result) == 4)
            {
                self->backend_pid = (int) binary_int(result, 0);
                self->in_recovery =
                    PQgetlength(result, 0, 1) == 1 && PQgetvalue(result, 0, 1)[0] != 0;
                self->identity.crash_mark = (int64) binary_int(result, 2);
                self->backend_start = (int64) binary_int(result, 3);
            }
            else
                self->backend_pid = PQbackendPID(conn->pg);
            self->pooled = self->backend_pid != PQbackendPID(conn->pg);
            return true;
        case FLEET_TAG_SYSTEM:
            if (rows && PQnfields(result) == 1)
            {
                self->identity.system_identifier = binary_int(result, 0);
                self->identity.identifier_known = self->identity.system_identifier != 0;
            }
            return true;
        case FLEET_TAG_TIMELINE:
            if (rows && PQnfields(result) == 1)
                self->identity.timeline = (uint32) strtoul(PQgetvalue(result, 0, 0), NULL, 16);
            return true;
        case FLEET_TAG_PIN: return true;
    }
    return false;
}

/* ---- the end of a turn ---- */

static void
work_all(void)
{
    while (!dlist_is_empty(&work))
    {
        FleetConn *conn = dlist_container(FleetConn, work, dlist_pop_head_node(&work));

        CHECK_FOR_INTERRUPTS();
        conn->has_work = false;
        if (!conn->lost && !conn->attention && conn->state >= CONN_SETUP)
        {
            fleet_conn_flush(conn);
            continue;
        }
        fleet_link_told();
        if (conn->lost)
            fleet_conn_finish_lost(conn);
        else if (conn->attention)
            fleet_conn_process(conn);
        else if (conn->state == CONN_CLOSED && conn->methods->closed != NULL)
            conn->methods->closed(conn);
    }
}

static void
link_pump(FleetServerLink *link)
{
    /* Whether the server is there is told by a session, not by the side connection: so, while that
     * is not known, and only one attempt is made at a time, it is a session's. */
    bool session_first = !link->agent_mode && link->wanted && !link->up && !link->starved;
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &link->conns)
    {
        FleetConn *conn = dlist_container(FleetConn, node, iter.cur);

        if (conn->state == CONN_RESOLVING && !conn->lost)
            fleet_conn_resolved(conn);
    }
    if (!session_first)
        fleet_side_pump(link);
    if (link->starved)
        return; /* fleet_link_feed() comes here again */
    if (link->agent_mode)
        fleet_agent_pump(link);
    else
        fleet_direct_pump(link);
    if (session_first)
        fleet_side_pump(link);
}

/* Is a connection to be opened once the backoff is over? */
static bool
link_wants(const FleetServerLink *link)
{
    return !link->starved && (link->hungry || (link->wanted && !link->up));
}

static FleetTime
link_due(FleetServerLink *link)
{
    FleetTime due = FLEET_NEVER;
    dlist_iter iter;

    if (link_wants(link) && link->retry_at > turn_now)
        due = link->retry_at;
    if (fleet_side_wants(link) && link->retry_at > turn_now)
        due = Min(due, link->retry_at);
    dlist_foreach(iter, &link->conns)
    {
        due = Min(due, fleet_conn_due(dlist_container(FleetConn, node, iter.cur)));
    }
    return due;
}

/* All timers; only when one may be due, since it looks at every link. */
static void
timers_all(void)
{
    dlist_iter iter;
    FleetTime due = FLEET_NEVER;

    next_due = FLEET_NEVER;
    dlist_foreach(iter, &all_links)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, iter.cur);
        dlist_iter conns;

        dlist_foreach(conns, &link->conns)
        {
            fleet_conn_timer(dlist_container(FleetConn, node, conns.cur), turn_now);
        }
        if (link->retry_at <= turn_now && (fleet_side_wants(link) || link_wants(link)))
            fleet_link_pump_soon(link);
        due = Min(due, link_due(link));
    }
    next_due = Min(next_due, due);
}

static void
due_anew(void)
{
    dlist_iter iter;

    due_is_stale = false;
    if (next_due <= turn_now)
        return; /* timers_all() is about to do it */
    next_due = FLEET_NEVER;
    dlist_foreach(iter, &all_links)
    {
        fleet_link_due_at(link_due(dlist_container(FleetServerLink, node, iter.cur)));
    }
}

/* Links that want something; all that wait for addresses, when some may have come. */
static void
pump_all(void)
{
    dlist_iter iter;

    if (fleet_resolve_news())
    {
        dlist_foreach(iter, &all_links)
        {
            fleet_link_pump_soon(dlist_container(FleetServerLink, node, iter.cur));
        }
    }
    while (!dlist_is_empty(&pump))
    {
        FleetServerLink *link = dlist_container(FleetServerLink, pump, dlist_pop_head_node(&pump));

        link->has_pump = false;
        link_pump(link);
    }
}

static void
close_all(void)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &closing_links)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, iter.cur);

        if (fleet_direct_cut_all(link))
            MemoryContextDelete(link->context);
    }
}

/* Called at the start of every fleet_loop_wait(). */
static FleetTime
turn_end(void *arg)
{
    turn_now = fleet_clock_now();
    told = false;
    close_all();
    pump_all();
    if (next_due <= turn_now)
    {
        timers_all();
        pump_all();
    }
    work_all();
    if (due_is_stale && awaiting == 0)
        due_anew();
    if (told || next_due <= turn_now)
        return turn_now; /* the agent, or a timer, has something to do before anybody waits */
    return next_due;
}

void
fleet_link_flush_all(void)
{
    turn_now = fleet_clock_now();
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &work)
    {
        FleetConn *conn = dlist_container(FleetConn, work, iter.cur);

        if (!conn->lost && !conn->attention && conn->state >= CONN_SETUP)
            fleet_conn_flush(conn);
    }
}

FleetTime
fleet_link_timers(FleetTime now)
{
    return next_due;
}
