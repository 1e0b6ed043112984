/*
 * agent/probe.c
 *     Probes (agent/probe.h).  In the agent's process.
 *
 * A server that is used says by that how it is.  One that has said nothing for
 * fleet.probe_interval is logged in to, anew, since a connection that stays
 * open tells neither that its password still holds nor that another session
 * would get in.  What comes of it is the links' callbacks' to tell (events.c),
 * as of any other login.  One that is away already is knocked at anyway.
 *
 * Probes are spread: no more than one a turn, so that hundreds of servers are
 * not all looked at at the same moment.
 */
#include "postgres.h"

#include "agent/probe.h"
#include "agent/server.h"
#include "guc.h"
#include "hand.h"
#include "store/server.h"
#include "store/spi.h"

#define BETWEEN_TWO FLEET_MS(20)

static int interval = -1; /* as it was when it was found out when probes are due */
static uint32 nservers;   /* ... and how many there were at the last look */
static FleetTime next_due;

/* A login may take longer than the interval, at a server that is slow or does not answer: it goes on,
 * else none would ever end. */
static bool
under_way(AgentServer *server)
{
    dlist_iter iter;

    dlist_foreach(iter, &server->links)
    {
        if (dlist_container(AgentLink, node, iter.cur)->probing)
            return true;
    }
    return false;
}

/* As the first role that may. */
static void
probe(AgentServer *server)
{
    Oid *roles;
    int n;

    if (under_way(server))
        return;
    fleet_hand_take(FLEET_HAND_SERVER, server->server_id, "work_probe");
    agent_links_forget_idle(server);
    n = fleet_server_roles(server->server_id, &roles);
    for (int i = 0; i < n; i++)
    {
        const char *sqlstate;
        char *error;
        AgentLink *link = agent_link_get(server, roles[i], &sqlstate, &error);

        if (link == NULL)
            continue;
        link->probing = !link->up;
        fleet_link_knock(link->link);
        break;
    }
    fleet_hand_empty();
}

/* When it is to be looked at: it may have said something since that was set. */
static FleetTime
due(AgentServer *server)
{
    FleetTime heard = server->heard_at == 0
                          ? 0
                          : fleet_clock_now() - (fleet_clock_wall() - server->heard_at) +
                                FLEET_MS((FleetTime) interval);

    return server->probe_due = Max(server->probe_due, heard);
}

static void
begin_anew(void)
{
    for (uint32 i = AGENT_FIRST_SERVER; i < agent_servers_count(); i++)
        agent_server_by_number(i)->probe_due = 0;
    interval = fleet_guc_probe_interval;
    next_due = 0;
}

/* When to come again. */
static FleetTime
look_at_all(FleetTime now)
{
    FleetTime next = FLEET_NEVER;
    bool done = false;

    for (uint32 i = AGENT_FIRST_SERVER; i < agent_servers_count(); i++)
    {
        AgentServer *server = agent_server_by_number(i);

        if (server->gone || server->held != NULL || server->admin_state == FLEET_SERVER_OFFLINE)
            continue;
        if (server->probe_due == 0)
            server->probe_due = now + FLEET_MS((FleetTime) interval);
        if (server->probe_due <= now && due(server) <= now)
        {
            if (!done)
            {
                server->probe_due = now + FLEET_MS((FleetTime) interval);
                probe(server);
            }
            next = fleet_earlier(next, done ? now + BETWEEN_TWO : server->probe_due);
            done = true;
        }
        else
            next = fleet_earlier(next, server->probe_due);
    }
    return next;
}

FleetTime
agent_probe_turn(FleetTime now)
{
    if (fleet_guc_probe_interval != interval)
        begin_anew();
    if (interval == 0)
        return FLEET_NEVER;
    if (now >= next_due || nservers != agent_servers_count())
    {
        nservers = agent_servers_count();
        next_due = look_at_all(now);
    }
    return next_due;
}
