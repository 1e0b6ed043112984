/*
 * link/fd.c
 *     File descriptors, of which the server grants an agent a third of all:
 *     who must give one up, and who waits for one.  And memory: libpq's buffer
 *     grows to its largest message, and never shrinks.
 *
 * In the agent's process; called by conn_start.c and by the sessions of mode
 * direct, and at the end of a turn.
 */
#include "postgres.h"

#include "link/internal.h"

/* Since when a connection is of no use, FLEET_NEVER: it is. */
static FleetTime
spare_since(FleetConn *conn)
{
    if (conn->methods->spare_since == NULL || conn->state != CONN_READY || conn->lost ||
        conn->count > 0)
        return FLEET_NEVER;
    return conn->methods->spare_since(conn);
}

/* Its server stays up: who needs a connection there opens one again. */
static void
close_spare(FleetConn *conn)
{
    if (!conn->link->mode->sessions)
        conn->link->wanted = false; /* until it has something to say again */
    fleet_conn_close(conn);
}

void
fleet_link_give_back(FleetConn *conn)
{
    if (!(conn->swollen || conn->outdated) || spare_since(conn) == FLEET_NEVER)
        return;
    close_spare(conn);
    if (!conn->link->session_wanted)
        return;
    fleet_link_agent_told(); /* the next one is opened before the loop waits */
    fleet_link_open_soon(conn->link);
}

bool
fleet_link_evict(void)
{
    FleetConn *oldest = NULL;
    FleetTime oldest_since = FLEET_NEVER;
    dlist_iter links, conns;

    dlist_foreach(links, &fleet_turn.links)
    {
        dlist_foreach(conns, &dlist_container(FleetServerLink, node, links.cur)->conns)
        {
            FleetConn *conn = dlist_container(FleetConn, node, conns.cur);
            FleetTime since = spare_since(conn);

            if (since >= oldest_since)
                continue;
            oldest = conn;
            oldest_since = since;
        }
    }
    if (oldest == NULL)
        return false;
    close_spare(oldest);
    return true;
}

void
fleet_link_fd_spare(FleetConn *conn)
{
    if (!dlist_is_empty(&fleet_turn.fd_waiting) && spare_since(conn) != FLEET_NEVER)
        fleet_link_fd_waiters_wake();
}

/* Is there a connection that will be idle or gone some time?  One of a session, if it is asked for. */
static bool
others_have(bool session)
{
    dlist_iter links, conns;

    dlist_foreach(links, &fleet_turn.links)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, links.cur);

        dlist_foreach(conns, &link->conns)
        {
            if ((link->mode->sessions || !session) &&
                dlist_container(FleetConn, node, conns.cur)->fd_reserved)
                return true;
        }
    }
    return false;
}

/*
 * Sessions come and go, and one that waits for another is served soon.  What
 * runs on another agent may hold its connection for hours: so whoever waits
 * for that is down for as long, and its work goes elsewhere if it can.
 */
bool
fleet_link_wait_for_fd(FleetConn *conn)
{
    static FleetTime logged_at = 0;
    FleetServerLink *link = conn->link;
    bool soon = link->mode->sessions && others_have(true);

    if (link->closing || link->fd_waiting || !others_have(false))
        return false;
    if (soon)
    {
        fleet_conn_close(conn);
        link->session_wanted = true;
    }
    link->fd_waiting = true;
    dlist_push_tail(&fleet_turn.fd_waiting, &link->fd_node);
    if (logged_at == 0 || fleet_link_now() - logged_at > FLEET_SECONDS(60))
    {
        logged_at = fleet_turn.now;
        ereport(LOG,
                (errmsg("pg_fleet: no file descriptor is left for server \"%s\": it waits until a "
                        "connection to another server is idle",
                        link->server_name),
                 errhint("Raise max_files_per_process: a third of it is for links.")));
    }
    return soon;
}
