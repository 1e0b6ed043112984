/*
 * link/state.c
 *     Up and down: whether a link's server is there, the backoff between
 *     attempts, and what the agent is told of it.
 *
 * In the agent's process; called by the connections and their owners.
 *
 * A link is "up" while one of its connections is ready.  Once wanted, it is
 * tried for as long as it is down, at growing intervals; attempts of several
 * connections to a server that is down are one attempt.
 */
#include "postgres.h"

#include "link/internal.h"

#include "hand.h"
#include "miscadmin.h"

FleetLinkCallbacks fleet_link_callbacks;

void
fleet_link_init(const FleetLinkCallbacks *callbacks)
{
    fleet_link_callbacks = *callbacks;
}

/* What goes wrong from here on is this server's (hand.h), unless it is found to be another's. */
void
fleet_link_in_hand(const FleetServerLink *link)
{
    if (link->held == NULL)
        fleet_hand_take(FLEET_HAND_SERVER, link->server_id, "work_socket");
}

static int
ready_count(FleetServerLink *link)
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

/* Somebody wants a connection: it is opened at the end of the turn, or when the backoff is over. */
void
fleet_link_need(FleetServerLink *link)
{
    link->wanted = true;
    if (link->retry_at > fleet_turn.now)
        fleet_link_due_at(link->retry_at);
    fleet_link_open_soon(link);
}

void
fleet_link_knock(FleetServerLink *link)
{
    if (!link->up)
        fleet_link_need(link);
}

/* While it is not known whether the server is there, one attempt at a time is enough. */
bool
fleet_link_may_open(FleetServerLink *link)
{
    dlist_iter iter;

    if (link->closing || link->retry_at > fleet_turn.now)
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

void
fleet_link_came_up(FleetServerLink *link, FleetConn *conn)
{
    link->backoff = FLEET_BACKOFF_MIN;
    link->retry_at = 0;
    fleet_link_open_soon(link);
    if ((void *) conn == (void *) link->side || link->up)
        return;
    link->up = true;
    fleet_link_callbacks.up(link, &link->identity);
}

/* Of a login that was refused, too: what is wrong there may be put right at any moment.  Half fixed,
 * half random, so that a fleet does not knock at the same moment. */
static void
link_back_off(FleetServerLink *link)
{
    static FleetRandom random;
    static bool seeded = false;

    if (!seeded)
        fleet_random_seed(&random, (uint64) fleet_clock_now() ^ (uint64) MyProcPid << 32);
    seeded = true;
    link->retry_at = fleet_turn.now + link->backoff / 2 +
                     (FleetTime) (fleet_random_unit(&random) * (double) link->backoff / 2);
    link->backoff = Min(link->backoff * 2, FLEET_BACKOFF_MAX);
    fleet_link_due_at(link->retry_at);
}

static void
not_there(FleetServerLink *link)
{
    if (link->retry_at <= fleet_link_now() && !link->fd_waiting)
        link_back_off(link);
    fleet_link_open_soon(link);
}

static void
tell_down(FleetServerLink *link, const char *sqlstate, const char *reason, bool permanent)
{
    if (ready_count(link) > 0)
        return; /* others are up: the server is there */
    link->up = false;
    if (!link->closing)
        fleet_link_callbacks.down(link, sqlstate, reason, permanent);
}

void
fleet_link_went_down(FleetServerLink *link, FleetConn *conn, const char *sqlstate,
                     const char *reason, bool permanent)
{
    not_there(link);
    if ((void *) conn != (void *) link->side)
        tell_down(link, sqlstate, reason, permanent);
}

void
fleet_link_refused(FleetServerLink *link, const char *sqlstate, const char *reason)
{
    not_there(link);
    fleet_link_agent_told();
    tell_down(link, sqlstate, reason, false);
}

/* Who wants a connection hears, at growing intervals, that there is none. */
void
fleet_link_held_down(FleetServerLink *link)
{
    if (link->closing || link->retry_at > fleet_link_now())
        return;
    link_back_off(link);
    fleet_link_agent_told();
    if (link->held != NULL)
        fleet_link_callbacks.down(link, FLEET_SQLSTATE_CANNOT_CONNECT, link->held, false);
    else
        fleet_link_callbacks.down(link, link->forbidden_sqlstate, link->forbidden, true);
}
