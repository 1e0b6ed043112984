/*
 * link/turn.c
 *     What is put off to the end of a turn of the agent's loop: connections to
 *     be opened, to be worked on, timers, links that wait for a descriptor.
 *
 * In the agent's process.  Everything in src/link/ notes here what it wants;
 * server_link.c does it, at the start of the next wait.
 */
#include "postgres.h"

#include "link/internal.h"

FleetTurn fleet_turn = {
    .links = DLIST_STATIC_INIT(fleet_turn.links),
    .closing = DLIST_STATIC_INIT(fleet_turn.closing),
    .to_open = DLIST_STATIC_INIT(fleet_turn.to_open),
    .work = DLIST_STATIC_INIT(fleet_turn.work),
    .fd_waiting = DLIST_STATIC_INIT(fleet_turn.fd_waiting),
    .gate = DLIST_STATIC_INIT(fleet_turn.gate),
    .next_due = FLEET_NEVER,
};

/* Read anew each time: between the end of two turns lies a wait of any length. */
FleetTime
fleet_link_now(void)
{
    fleet_turn.now = fleet_clock_now();
    return fleet_turn.now;
}

void
fleet_link_agent_told(void)
{
    fleet_turn.agent_told = true;
}

void
fleet_link_due_at(FleetTime due)
{
    fleet_turn.next_due = Min(fleet_turn.next_due, due);
}

/*
 * With the last answer the time limits of answers are void.  Only the earliest
 * one was noted, so that is made out anew: at rest nothing wakes us.
 */
void
fleet_link_awaits(int change)
{
    fleet_turn.awaiting += change;
    if (fleet_turn.awaiting == 0)
        fleet_turn.due_is_stale = true;
}

void
fleet_conn_work(FleetConn *conn)
{
    if (conn->has_work)
        return;
    conn->has_work = true;
    dlist_push_tail(&fleet_turn.work, &conn->work);
}

/* Looks at the end of the turn whether connections must be opened. */
void
fleet_link_open_soon(FleetServerLink *link)
{
    if (link->opens_soon || link->closing)
        return;
    link->opens_soon = true;
    dlist_push_tail(&fleet_turn.to_open, &link->open_node);
}

void
fleet_link_fd_waiters_wake(void)
{
    while (!dlist_is_empty(&fleet_turn.fd_waiting))
    {
        FleetServerLink *link =
            dlist_container(FleetServerLink, fd_node, dlist_pop_head_node(&fleet_turn.fd_waiting));

        link->fd_waiting = false;
        fleet_link_agent_told(); /* it is opened before the loop waits */
        fleet_link_open_soon(link);
        if (link->retry_at <= fleet_turn.now)
            return;
        fleet_link_due_at(link->retry_at); /* it backs off: the next one */
    }
}
