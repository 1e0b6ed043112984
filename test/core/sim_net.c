/*
 * sim_net.c
 *     Connections.  Within one, order holds; a cut one may still deliver
 *     for a while what was under way (to the server: a command whose client
 *     is gone is executed all the same), which is where duplicates and
 *     reordering across connections come from.  Each side notices the end at
 *     its own time, at worst after a black hole's long silence.
 *
 * A connection is either a parent's control link to a server or the way to
 * one executor (a session of a direct server, a runner behind queues).
 */
#include "sim.h"

static bool
partitioned(const Sim *s, uint32_t node)
{
    return s->nodes[node].partitioned_until > s->now;
}

static FleetTime
delay(Sim *s, const SimConn *conn)
{
    FleetTime base = s->c->latency;

    if (conn->owner.kind == OWNER_AGENT)
        base = 20; /* queues in shared memory */
    if (sim_pct(s, s->c->slow_pct))
        base *= 1 + fleet_random_below(&s->random, 100);
    return 1 + base / 2 + fleet_random_below(&s->random, (uint32_t) base + 1);
}

uint32_t
conn_open(Sim *s, SimOwner owner, uint32_t node, bool link)
{
    uint32_t number = s->nconns;
    SimConn *conn;

    SIM_GROW(s->conns, s->cap_conns, number + 1, sizeof(SimConn));
    s->nconns++;
    conn = &s->conns[number];
    *conn = (SimConn){.owner = owner, .node = node, .link = link};
    conn->client_until = conn->server_until = FLEET_NEVER;
    conn->job = SIM_NONE;
    if (!s->nodes[node].up || (owner.kind == OWNER_PARENT && partitioned(s, node)))
    {
        /* nobody there: the client finds out after some time */
        conn->server_until = 0;
        conn->server_done = true;
        conn->client_until = s->now;
        sim_at(s, s->now + sim_span(s, FLEET_MS(1), FLEET_MS(200)), EV_CLIENT_CLOSED, number, 0, 0);
    }
    return number;
}

void
conn_to_server(Sim *s, uint32_t number, const SimMsg *msg)
{
    SimConn *conn = &s->conns[number];
    FleetTime at = s->now + delay(s, conn);
    SimEvent *event;

    if (conn->client_done)
        return;
    if (at <= conn->last_server)
        at = conn->last_server + 1;
    conn->last_server = at;
    event = sim_at(s, at, EV_TO_SERVER, number, 0, 0);
    event->msg = *msg;
}

void
conn_to_client(Sim *s, uint32_t number, const SimMsg *msg, FleetTime after)
{
    SimConn *conn = &s->conns[number];
    FleetTime at = s->now + after + delay(s, conn);
    SimEvent *event;

    if (conn->server_done)
        return;
    if (at <= conn->last_client)
        at = conn->last_client + 1;
    conn->last_client = at;
    event = sim_at(s, at, EV_TO_CLIENT, number, 0, 0);
    event->msg = *msg;
}

static void
close_client_at(Sim *s, uint32_t number, FleetTime last, FleetTime noticed)
{
    SimConn *conn = &s->conns[number];

    if (conn->client_until > last)
        conn->client_until = last;
    if (!conn->client_done)
        sim_at(s, noticed, EV_CLIENT_CLOSED, number, 0, 0);
}

static void
close_server_at(Sim *s, uint32_t number, FleetTime last, FleetTime noticed)
{
    SimConn *conn = &s->conns[number];

    if (conn->server_until > last)
        conn->server_until = last;
    if (!conn->server_done)
        sim_at(s, noticed, EV_SERVER_CLOSED, number, 0, 0);
}

/* The network cuts it: what is under way may or may not arrive. */
void
conn_cut(Sim *s, uint32_t number, FleetTime worst)
{
    FleetTime client = s->now + sim_span(s, 0, worst);
    FleetTime server = s->now + sim_span(s, 0, worst);

    close_client_at(s, number, s->now + sim_span(s, 0, s->c->latency * 2), client);
    close_server_at(s, number, s->now + sim_span(s, 0, s->c->latency * 2 + worst / 4),
                    server + worst / 4);
}

/* The client's process is gone or closes it. */
void
conn_client_dies(Sim *s, uint32_t number)
{
    SimConn *conn = &s->conns[number];
    FleetTime last;

    if (conn->client_done)
        return;
    conn->client_done = true;
    conn->client_until = s->now - 1;
    last = s->now + sim_span(s, 0, FLEET_MS(20));
    if (sim_pct(s, 50))
        last = conn->last_server > s->now ? conn->last_server : s->now;
    close_server_at(s, number, last, last + sim_span(s, 1, FLEET_MS(50)));
}

/* The server's process is gone. */
void
conn_server_dies(Sim *s, uint32_t number)
{
    SimConn *conn = &s->conns[number];

    if (conn->server_done)
        return;
    conn_server_closed(s, number);
    close_client_at(s, number, s->now + sim_span(s, 0, s->c->latency),
                    s->now + sim_span(s, s->c->latency, FLEET_MS(100)));
}

bool
conn_client_open(Sim *s, uint32_t number)
{
    return number != SIM_NONE && !s->conns[number].client_done;
}

void
conn_deliver_server(Sim *s, uint32_t number, const SimMsg *msg)
{
    SimConn *conn = &s->conns[number];

    if (conn->server_done || s->now > conn->server_until || !s->nodes[conn->node].up)
        return;
    if (conn->owner.kind == OWNER_PARENT && partitioned(s, conn->node))
    {
        conn->server_until = s->now - 1; /* no gap: nothing later arrives either */
        conn_cut(s, number, FLEET_SECONDS(1));
        return;
    }
    if (conn->link)
        child_message(s, number, msg);
    else
        session_message(s, number, msg);
}

void
conn_deliver_client(Sim *s, uint32_t number, const SimMsg *msg)
{
    SimConn *conn = &s->conns[number];

    if (conn->client_done || s->now > conn->client_until || !sim_owner_up(s, conn->owner))
        return;
    if (conn->owner.kind == OWNER_PARENT && partitioned(s, conn->node))
    {
        conn->client_until = s->now - 1;
        conn_cut(s, number, FLEET_SECONDS(1));
        return;
    }
    if (conn->link)
        parent_link_message(s, number, msg);
    else
        job_message(s, conn->owner, number, msg);
}

void
conn_client_closed(Sim *s, uint32_t number)
{
    SimConn *conn = &s->conns[number];
    SimOwner owner = conn->owner;
    bool link = conn->link;

    if (conn->client_done)
        return;
    conn->client_done = true;
    conn->client_until = s->now - 1;
    if (!conn->server_done)
        close_server_at(s, number, s->now, s->now + sim_span(s, 1, FLEET_MS(50)));
    if (!sim_owner_up(s, owner))
        return;
    if (link)
        parent_link_down(s, owner.index, number);
    else
        job_cut(s, owner, number);
}

void
conn_server_closed(Sim *s, uint32_t number)
{
    SimConn *conn = &s->conns[number];

    if (conn->server_done)
        return;
    conn->server_done = true;
    conn->server_until = s->now - 1;
    if (!conn->link)
        session_end(s, number, false);
    if (!s->conns[number].client_done)
        close_client_at(s, number, s->now, s->now + sim_span(s, 1, FLEET_MS(50)));
}
