/*
 * link/agent_child.c
 *     Mode agent: the job runs over there that this link knows, by their
 *     tokens and by the numbers that the other agent notifies of.
 *
 * In the agent's process; called by agent_mode.c, agent_send.c and
 * agent_report.c.
 */
#include "postgres.h"

#include "link/agent_mode.h"

AgentChild *
fleet_agent_child(FleetAgentLink *agent, const FleetToken *token, bool create)
{
    bool found;
    AgentChild *child =
        hash_search(agent->children, token, create ? HASH_ENTER : HASH_FIND, &found);

    if (create && !found)
        memset((char *) child + sizeof(child->token), 0, sizeof(*child) - sizeof(child->token));
    return child;
}

AgentChild *
fleet_agent_by_id(FleetAgentLink *agent, int64 id)
{
    AgentId *entry = hash_search(agent->by_id, &id, HASH_FIND, NULL);

    return entry == NULL ? NULL : entry->child;
}

void
fleet_agent_dirty(FleetAgentLink *agent, AgentChild *child)
{
    if (child->dirty)
        return;
    child->dirty = true;
    dlist_push_tail(&agent->fetch, &child->fetch_node);
    fleet_conn_work(&agent->conn);
}

void
fleet_agent_known(FleetAgentLink *agent, AgentChild *child, int64 id)
{
    bool told, found;
    AgentId *entry;

    if (child->id != 0 && child->id != id) /* it was known by another one */
        hash_search(agent->by_id, &child->id, HASH_REMOVE, NULL);
    child->id = 0;
    entry = hash_search(agent->by_id, &id, HASH_ENTER, &found);
    if (found && entry->child != child)
    {
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server gives two job runs the number %lld", (long long) id);
        return;
    }
    entry->child = child;
    child->id = id;
    hash_search(agent->unknown, &id, HASH_REMOVE, &told);
    if (told)
        fleet_agent_dirty(agent, child);
}

void
fleet_agent_child_forget(FleetAgentLink *agent, AgentChild *child)
{
    if (child->dirty)
        dlist_delete(&child->fetch_node);
    if (child->id != 0)
        hash_search(agent->by_id, &child->id, HASH_REMOVE, NULL);
    hash_search(agent->children, &child->token, HASH_REMOVE, NULL);
}

void
fleet_agent_forget_ids(FleetAgentLink *agent)
{
    HASH_SEQ_STATUS seq;
    AgentId *entry;
    int64 *unknown;

    hash_seq_init(&seq, agent->by_id);
    while ((entry = hash_seq_search(&seq)) != NULL)
    {
        entry->child->id = 0;
        if (entry->child->dirty)
            dlist_delete(&entry->child->fetch_node);
        entry->child->dirty = false;
        hash_search(agent->by_id, &entry->id, HASH_REMOVE, NULL);
    }
    hash_seq_init(&seq, agent->unknown);
    while ((unknown = hash_seq_search(&seq)) != NULL)
        hash_search(agent->unknown, unknown, HASH_REMOVE, NULL);
}
