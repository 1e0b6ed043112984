/*
 * agent/health.c
 *     What is known of servers and is not written yet.  In the agent's process.
 */
#include "postgres.h"

#include "agent/health.h"
#include "agent/raise.h"
#include "store/event.h"
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

bool
agent_health_pending(void)
{
    return !dlist_is_empty(&health);
}

void
agent_health_flush(void)
{
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
