/*
 * link/agent_document.c
 *     Mode agent: which documents of jobs the server is known to have.  A start
 *     names its job's document by hash; the first one of a link that does has
 *     it sent before itself, in the same pipeline.
 *
 * In the agent's process; called by agent_mode.c, agent_send.c and
 * agent_report.c.
 *
 * A document:   unknown -> QUEUED -> THERE | REFUSED; a start that does not find
 *               it makes it unknown again; a start that names one that was
 *               REFUSED has it sent again.
 *
 * What is known stays known while the connection is lost: the server keeps it.
 * It is a guess all the same, and is forgotten rather than let grow.
 */
#include "postgres.h"

#include "link/agent_mode.h"

#define KNOWN_MAX 1000 /* of a link: 64 kB or so */

AgentDocument *
fleet_agent_document(FleetAgentLink *agent, const FleetToken *hash)
{
    return hash_search(agent->known, hash, HASH_FIND, NULL);
}

static void
document_forget(FleetAgentLink *agent, AgentDocument *document)
{
    if (document->sqlstate != NULL)
        pfree(document->sqlstate);
    hash_search(agent->known, &document->hash, HASH_REMOVE, NULL);
}

/* All but what is under way. */
static void
forget_all(FleetAgentLink *agent)
{
    HASH_SEQ_STATUS seq;
    AgentDocument *document;

    hash_seq_init(&seq, agent->known);
    while ((document = hash_seq_search(&seq)) != NULL)
    {
        if (document->state != DOCUMENT_QUEUED)
            document_forget(agent, document);
    }
}

static void
document_queue(FleetAgentLink *agent, const FleetToken *hash, const char *text)
{
    MemoryContext context = agent->conn.link->context;
    AgentDeploy *deploy = MemoryContextAllocZero(context, sizeof(AgentDeploy));

    deploy->hash = *hash;
    deploy->document = MemoryContextStrdup(context, text);
    dlist_push_tail(&agent->documents, &deploy->node);
}

void
fleet_agent_document_need(FleetAgentLink *agent, const FleetToken *hash, const char *document)
{
    bool found;
    AgentDocument *entry;

    if (hash_get_num_entries(agent->known) >= KNOWN_MAX &&
        fleet_agent_document(agent, hash) == NULL)
        forget_all(agent);
    entry = hash_search(agent->known, hash, HASH_ENTER, &found);
    if (found && entry->state != DOCUMENT_REFUSED)
        return;
    if (found && entry->sqlstate != NULL)
        pfree(entry->sqlstate);
    entry->sqlstate = entry->message = NULL;
    entry->state = DOCUMENT_QUEUED;
    document_queue(agent, hash, document);
}

void
fleet_agent_document_there(FleetAgentLink *agent, const FleetToken *hash)
{
    AgentDocument *entry = fleet_agent_document(agent, hash);

    if (entry != NULL && entry->state == DOCUMENT_QUEUED)
        entry->state = DOCUMENT_THERE;
}

void
fleet_agent_document_refused(FleetAgentLink *agent, const FleetToken *hash, const char *sqlstate,
                             const char *message)
{
    AgentDocument *entry = fleet_agent_document(agent, hash);
    Size length = strlen(message) + 1;

    if (entry == NULL || entry->state != DOCUMENT_QUEUED)
        return;
    entry->state = DOCUMENT_REFUSED;
    entry->sqlstate = MemoryContextAllocZero(agent->conn.link->context, 6 + length);
    entry->message = entry->sqlstate + 6;
    strlcpy(entry->sqlstate, sqlstate, 6);
    memcpy(entry->message, message, length);
}

void
fleet_agent_document_lacks(FleetAgentLink *agent, const FleetToken *hash)
{
    AgentDocument *entry = fleet_agent_document(agent, hash);

    if (entry != NULL && entry->state == DOCUMENT_THERE)
        document_forget(agent, entry);
}
