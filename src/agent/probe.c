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
 *
 * fleet.check_server() asks for one at once, of a server whatever its state is,
 * for the caller's role: the answer is what came of that login, and goes out
 * when it is stored what the server is now.
 */
#include "postgres.h"

#include "agent/probe.h"
#include "agent/server.h"
#include "guc.h"
#include "hand.h"
#include "mailbox/mailbox.h"
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
    agent_links_forget_idle(server, InvalidOid);
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

/* ---- for a session ---- */

/* What is to be answered at the end of the turn. */
typedef struct Answer
{
    dlist_node node;
    int server_id;
    Oid role;
    FleetAnswer answer;
} Answer;

static dlist_head answers = DLIST_STATIC_INIT(answers);

static FleetAnswer *
answer_add(int server_id, Oid role, const char *sqlstate, const char *message)
{
    Answer *entry = MemoryContextAllocZero(agent.context, sizeof(Answer));

    entry->server_id = server_id;
    entry->role = role;
    fleet_answer_set(&entry->answer, sqlstate, message);
    dlist_push_tail(&answers, &entry->node);
    turn_again();
    return &entry->answer;
}

/* Why nobody may log in to it; NULL: one may. */
static const char *
cannot_ask(const AgentServer *server, const char **sqlstate)
{
    *sqlstate = FLEET_SQLSTATE_NOT_IN_PREREQUISITE_STATE;
    if (server == NULL || server->gone)
        return "the agent does not know it: its definition is not committed, or was dropped";
    /* whoever logs in with the original's name would be taken for it */
    return agent.paused ? "this parent is paused: it is a copy, and may not speak to servers"
                        : server->held;
}

static void
ask(int server_id, Oid role)
{
    AgentServer *server = agent_server_by_id(server_id);
    const char *sqlstate, *why = cannot_ask(server, &sqlstate);
    char *error;
    AgentLink *link;

    if (why != NULL)
    {
        (void) answer_add(server_id, role, sqlstate, why);
        return;
    }
    fleet_hand_take(FLEET_HAND_SERVER, server_id, "work_probe");
    agent_links_forget_idle(server, role);
    link = agent_link_get(server, role, &sqlstate, &error);
    if (link == NULL)
        (void) answer_add(server_id, role, sqlstate, error);
    else if (link->up)
        answer_add(server_id, role, "", "")->in_use = true;
    else
    {
        link->asked = true;
        fleet_link_knock_now(link->link);
    }
}

void
agent_probe_asked(void)
{
    int server_id;
    Oid role;

    while (fleet_shared_ask_take(agent.shared, &server_id, &role))
        ask(server_id, role);
    fleet_hand_empty();
}

void
agent_probe_told(AgentLink *link, const char *sqlstate, const char *reason)
{
    if (!link->asked)
        return;
    link->asked = false;
    (void) answer_add(link->server->server_id, link->role, sqlstate == NULL ? "" : sqlstate,
                      reason == NULL ? "" : reason);
}

void
agent_probe_again(AgentLink *link)
{
    fleet_shared_ask_again(agent.shared, link->server->server_id, link->role);
    turn_again();
}

void
agent_probe_answer(void)
{
    while (!dlist_is_empty(&answers))
    {
        Answer *entry = dlist_container(Answer, node, dlist_pop_head_node(&answers));

        fleet_shared_answer(agent.shared, entry->server_id, entry->role, &entry->answer);
        pfree(entry);
    }
}
