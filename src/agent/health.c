/*
 * agent/health.c
 *     What is known of servers and is not written yet.  In the agent's process.
 */
#include "postgres.h"

#include "agent/health.h"
#include "agent/raise.h"
#include "store/event.h"
#include "store/spi.h"
#include "hand.h"

/* Health that is to be written at the next flush. */
typedef struct Health
{
    dlist_node node;
    FleetHealthWrite row;
} Health;

static dlist_head health = DLIST_STATIC_INIT(health);

/* The last status of a server that has a row, and of which an event has told. */
typedef struct Told
{
    int server_id; /* hash key */
    char status[16];
} Told;

static HTAB *told; /* NULL: nothing yet */

/*
 * server_status.last_seen moves with what a server says: with the next commit
 * that there is anyway, but no more often than once a second, so that children
 * cost nothing for it; by a commit of its own only where that is late by a minute.
 */
#define SEEN_EVERY INT64CONST(1000000)
#define SEEN_AT_LEAST_EVERY INT64CONST(60000000)

static dlist_head unwritten = DLIST_STATIC_INIT(unwritten); /* AgentServer.heard_node */
static bool unwritten_is_late;

const char *
agent_health_refused(const char *sqlstate)
{
    return fleet_sqlstate_in(sqlstate, FLEET_SQLCLASS_AUTHORIZATION) ? "auth_failed" : "refused";
}

bool
agent_health_another(const AgentLink *link)
{
    dlist_iter iter;

    dlist_foreach(iter, &link->server->links)
    {
        AgentLink *other = dlist_container(AgentLink, node, iter.cur);

        if (other != link && other->up)
            return true;
    }
    return false;
}

/* A change of its health is an event. */
static void
tell(const FleetHealthWrite *row)
{
    FleetRaised kind;
    bool known;
    Told *last;

    if (told == NULL)
        told = agent_table("pg_fleet health", sizeof(int), sizeof(Told), HASH_BLOBS);
    last = hash_search(told, &row->server_id, HASH_ENTER, &known);
    if (!known)
        strlcpy(last->status, fleet_health_status(row->server_id, CurrentMemoryContext),
                sizeof(last->status));
    kind = fleet_raised_of_server(last->status, row->status);
    strlcpy(last->status, row->status, sizeof(last->status));
    if (kind != FLEET_RAISED_NOTHING)
        agent_raise_server(row->server_id, kind, row->sqlstate, row->error);
}

void
agent_health_add(const FleetHealthWrite *row)
{
    Health *entry = MemoryContextAllocZero(agent.context, sizeof(Health));

    entry->row = *row;
    entry->row.error = agent_strdup(agent.context, row->error);
    entry->row.sqlstate = agent_strdup(agent.context, row->sqlstate);
    entry->row.version = agent_strdup(agent.context, row->version);
    entry->row.crash_mark = agent_strdup(agent.context, row->crash_mark);
    dlist_push_tail(&health, &entry->node);
    turn_again();
}

void
agent_link_trouble(AgentLink *link, const char *what, const char *reason)
{
    FleetHealthWrite row = {.server_id = link->server->server_id,
                            .status = link->server->suspect ? "suspect" : "up",
                            .error = psprintf("%s: %s", what, reason)};

    agent_health_add(&row);
}

void
agent_health_heard(AgentServer *server)
{
    TimestampTz late = server->heard_at - server->heard_written;

    if (late < SEEN_EVERY)
        return;
    unwritten_is_late |= late >= SEEN_AT_LEAST_EVERY;
    if (!server->heard_due)
        dlist_push_tail(&unwritten, &server->heard_node);
    server->heard_due = true;
}

bool
agent_health_pending(void)
{
    return !dlist_is_empty(&health) || unwritten_is_late;
}

/* Before what became of a server since. */
static void
heard_flush(void)
{
    if (!unwritten_is_late && !fleet_catalog_is_open())
        return;
    unwritten_is_late = false;
    while (!dlist_is_empty(&unwritten))
    {
        AgentServer *server =
            dlist_container(AgentServer, heard_node, dlist_pop_head_node(&unwritten));
        FleetHealthWrite row = {
            .server_id = server->server_id, .status = "up", .seen_at = server->heard_at};

        server->heard_due = false;
        server->heard_written = server->heard_at;
        fleet_hand_take(FLEET_HAND_SERVER, row.server_id, "work_health");
        tell(&row);
        fleet_health_write(&row);
    }
}

void
agent_health_flush(void)
{
    heard_flush();
    while (!dlist_is_empty(&health))
    {
        Health *entry = dlist_container(Health, node, dlist_pop_head_node(&health));

        fleet_hand_take(FLEET_HAND_SERVER, entry->row.server_id, "work_health");
        tell(&entry->row);
        fleet_health_write(&entry->row);
        if (entry->row.sqlstate != NULL)
            pfree((char *) entry->row.sqlstate);
        if (entry->row.error != NULL)
            pfree((char *) entry->row.error);
        if (entry->row.version != NULL)
            pfree((char *) entry->row.version);
        if (entry->row.crash_mark != NULL)
            pfree((char *) entry->row.crash_mark);
        pfree(entry);
    }
}
