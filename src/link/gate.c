/*
 * link/gate.c
 *     How many logins are under way at one address.
 *
 * In the agent's process; called by the two modes before a connection is
 * opened, and by conn.c when its login is over.
 *
 * Hundreds of servers may be databases of one machine.  If all links to it are
 * opened at the same moment, none of the logins is over in time, all are given
 * up, and all come back: a machine that is slow for a moment would stay
 * unreachable for good.  So at most FLEET_LOGINS_MAX are made at a time, and
 * the others wait for their turn, in which no time limit runs.  Where nobody
 * answers, they hear so with the first one.  What cancels does not wait here.
 */
#include "postgres.h"

#include "link/internal.h"

bool
fleet_conn_logs_in(const FleetConn *conn)
{
    return conn->state != CONN_CLOSED && conn->state != CONN_READY &&
           (const void *) conn != (const void *) conn->link->side;
}

static bool
same_place(const FleetServerLink *a, const FleetServerLink *b)
{
    return strcmp(a->place, b->place) == 0;
}

static int
logins_at(const FleetServerLink *place)
{
    dlist_iter links, conns;
    int n = 0;

    dlist_foreach(links, &fleet_turn.links)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, node, links.cur);

        if (!same_place(link, place))
            continue;
        dlist_foreach(conns, &link->conns)
        {
            n += fleet_conn_logs_in(dlist_container(FleetConn, node, conns.cur));
        }
    }
    return n;
}

bool
fleet_link_gate(FleetServerLink *link)
{
    bool open = logins_at(link) < FLEET_LOGINS_MAX;

    if (open)
        fleet_link_gate_leave(link);
    else if (!link->gate_waiting)
    {
        link->gate_waiting = true;
        dlist_push_tail(&fleet_turn.gate, &link->gate_node);
    }
    return open;
}

void
fleet_link_gate_leave(FleetServerLink *link)
{
    if (link->gate_waiting)
        dlist_delete(&link->gate_node);
    link->gate_waiting = false;
}

/* The first one that waits for that address, and does so no longer; NULL: there is none. */
static FleetServerLink *
next_at(const FleetServerLink *place)
{
    dlist_iter iter;

    dlist_foreach(iter, &fleet_turn.gate)
    {
        FleetServerLink *link = dlist_container(FleetServerLink, gate_node, iter.cur);

        if (!same_place(link, place))
            continue;
        fleet_link_gate_leave(link);
        return link;
    }
    return NULL;
}

void
fleet_link_gate_next(const FleetServerLink *link)
{
    FleetServerLink *next = next_at(link);

    if (next == NULL)
        return;
    fleet_link_agent_told(); /* it is opened before the loop waits */
    fleet_link_open_soon(next);
}

void
fleet_link_gate_refuse(const FleetServerLink *link, const char *sqlstate, const char *reason)
{
    FleetServerLink *next;

    while ((next = next_at(link)) != NULL)
        fleet_link_refused(next, sqlstate, reason);
}
