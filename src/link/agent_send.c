/*
 * link/agent_send.c
 *     Mode agent: what was queued in a turn is sent at its end, gathered into
 *     one call of each kind.
 *
 * In the agent's process; called by conn.c (gather) and, to free a call that
 * has ended, by agent_report.c and agent_mode.c.
 */
#include "postgres.h"

#include "link/agent_mode.h"
#include "points.h"
#include "utils/memutils.h"

#define CALL_MAX 500 /* items in a call */
#define CALL_BYTES                                                                                 \
    (8 * 1024 * 1024)    /* of parameters: no more starts go into a call that has so many */
#define STARTS_AT_ONCE 1 /* calls under way; more starts wait and make the next call larger */
#define FETCHES_AT_ONCE 1
#define ACKNOWLEDGE_FROM 100 /* so many wait for a common call, unless nothing else goes on */

static AgentCall *
call_create(FleetAgentLink *agent, uint8 tag, int n)
{
    MemoryContext before = MemoryContextSwitchTo(agent->conn.link->context);
    AgentCall *call = palloc0(sizeof(AgentCall));

    call->tag = tag;
    call->n = n;
    if (tag == TAG_START)
        call->starts = palloc0(sizeof(*call->starts) * n);
    else if (tag != TAG_FETCH && tag != TAG_DEPLOY && tag != TAG_DOCUMENT)
        call->tokens = palloc(sizeof(*call->tokens) * n);
    if (tag == TAG_RESUME)
    {
        call->ids = palloc(sizeof(int64) * n);
        call->hashes = palloc0(sizeof(FleetToken) * n);
        for (int i = 0; i < n; i++)
            call->ids[i] = NO_ANSWER;
    }
    MemoryContextSwitchTo(before);
    return call;
}

void
fleet_agent_call_free(AgentCall *call)
{
    for (int i = 0; call->starts != NULL && i < call->n; i++)
    {
        if (call->starts[i] != NULL && call->starts[i]->message != NULL)
            pfree(call->starts[i]->message);
        if (call->starts[i] != NULL)
            pfree(call->starts[i]);
    }
    if (call->starts != NULL)
        pfree(call->starts);
    if (call->tokens != NULL)
        pfree(call->tokens);
    if (call->ids != NULL)
        pfree(call->ids);
    if (call->hashes != NULL)
        pfree(call->hashes);
    if (call->deploy != NULL)
    {
        pfree(call->deploy->document);
        pfree(call->deploy);
    }
    pfree(call);
}

/* Calls, prepared on a connection when the first of their kind is sent. */
static const struct
{
    const char *name;
    const char *sql;
} statements[] = {
    [TAG_START] = {"agent_start",
                   "SELECT * FROM fleet_link.agent_start($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                   " $3::pg_catalog.uuid[], $4::pg_catalog.text[], $5::pg_catalog.jsonb[],"
                   " $6::pg_catalog.jsonb[], $7::pg_catalog.uuid[])"},
    [TAG_RESUME] =
        {"agent_resume",
         "SELECT * FROM fleet_link.agent_resume($1::pg_catalog.uuid, $2::pg_catalog.int8,"
         " $3::pg_catalog.uuid[])"},
    [TAG_FETCH] = {"agent_fetch",
                   "SELECT * FROM fleet_link.agent_fetch($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                   " $3::pg_catalog.int8[], $4::pg_catalog.int4[])"},
    [TAG_CANCEL] = {"agent_cancel",
                    "SELECT fleet_link.agent_cancel($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                    " $3::pg_catalog.uuid[])"},
    [TAG_ACKNOWLEDGE] = {"agent_acknowledge",
                         "SELECT fleet_link.agent_acknowledge($1::pg_catalog.uuid,"
                         " $2::pg_catalog.uuid[])"},
    [TAG_DEPLOY] = {"agent_deploy",
                    "SELECT fleet_link.agent_deploy($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                    " $3::pg_catalog.jsonb, $4::pg_catalog.text)"},
    [TAG_DOCUMENT] = {"agent_document",
                      "SELECT fleet_link.agent_document($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                      " $3::pg_catalog.uuid, $4::pg_catalog.text)"},
};

/* Each call is a transaction of its own over there: its Sync says that it is committed. */
static void
call_send(FleetAgentLink *agent, AgentCall *call, int nparams, const char *const *values)
{
    FleetConn *conn = &agent->conn;

    dlist_push_tail(&agent->sent, &call->node);
    if ((agent->prepared & (1U << call->tag)) == 0)
        fleet_conn_prepare(conn, TAG_PREPARE_CALL, FLEET_NO_SLOT, statements[call->tag].name,
                           statements[call->tag].sql);
    agent->prepared |= 1U << call->tag;
    fleet_conn_send_prepared(conn, call->tag, FLEET_NO_SLOT, statements[call->tag].name, nparams,
                             values, true, true);
    conn->sync_slot = SYNC_OF_CALL;
    fleet_conn_sync(conn);
}

static void
append_token(StringInfo array, const FleetToken *token)
{
    char text[37];

    fleet_text_from_uuid(token->bytes, text);
    appendStringInfoString(array, array->len > 1 ? "," : "");
    appendBinaryStringInfo(array, text, 36);
}

static void
append_element(StringInfo array, const char *s)
{
    appendStringInfoString(array, array->len > 1 ? ",\"" : "\"");
    for (; *s != '\0'; s++)
    {
        if (*s == '"' || *s == '\\')
            appendStringInfoChar(array, '\\');
        appendStringInfoChar(array, *s);
    }
    appendStringInfoChar(array, '"');
}

static void
array_begin(StringInfo array)
{
    initStringInfo(array);
    appendStringInfoChar(array, '{');
}

/* ---- what cannot be said in the server's encoding ---- */

static char *
reason(FleetAgentLink *agent, const FleetDiagnostics *why, const char *what)
{
    char *text = psprintf("%s: %s", what, why->message);
    char *kept = MemoryContextStrdup(agent->conn.link->context, text);

    pfree(text);
    return kept;
}

/* The texts of a start, as they are sent.  False: it cannot be, and would be an error of all in its
 * call, or its document was refused; it is told of at the end. */
static bool
start_texts(FleetAgentLink *agent, AgentStart *start, const char **job, const char **params)
{
    const AgentDocument *document =
        start->by_hash ? fleet_agent_document(agent, &start->hash) : NULL;
    FleetDiagnostics why;

    if (document != NULL && document->state == DOCUMENT_REFUSED)
    {
        strlcpy(start->sqlstate, document->sqlstate, sizeof(start->sqlstate));
        start->message = MemoryContextStrdup(agent->conn.link->context, document->message);
        dlist_push_tail(&agent->refused_starts, &start->node);
        return false;
    }
    *job = fleet_text_for(agent->conn.encoding, start->job, &why);
    *params = *job == NULL ? NULL : fleet_text_for(agent->conn.encoding, start->params, &why);
    if (*params != NULL)
        return true;
    strlcpy(start->sqlstate, why.sqlstate, sizeof(start->sqlstate));
    start->message = reason(agent, &why, *job == NULL ? "name of the job" : "parameters");
    dlist_push_tail(&agent->refused_starts, &start->node);
    return false;
}

static void
tell_refused(FleetAgentLink *agent)
{
    FleetServerLink *link = agent->conn.link;

    while (!dlist_is_empty(&agent->refused_starts))
    {
        AgentStart *start =
            dlist_container(AgentStart, node, dlist_pop_head_node(&agent->refused_starts));

        fleet_link_agent_told();
        fleet_link_callbacks.started(link, &start->token, FLEET_NOT_STARTED, NULL, start->sqlstate,
                                     start->message);
        pfree(start->message);
        pfree(start);
    }
    while (!dlist_is_empty(&agent->refused_deploys))
    {
        AgentDeploy *deploy =
            dlist_container(AgentDeploy, node, dlist_pop_head_node(&agent->refused_deploys));

        fleet_link_agent_told();
        fleet_link_callbacks.deployed(link, deploy->ref, false, deploy->sqlstate, deploy->message);
        pfree(deploy->message);
        pfree(deploy->document);
        pfree(deploy);
    }
}

/* ---- calls ---- */

static void
send_starts(FleetAgentLink *agent, const char *epoch)
{
    FleetServerLink *link = agent->conn.link;
    StringInfoData tokens, jobs, params, contexts, hashes;
    AgentCall *call;
    dlist_mutable_iter iter;
    int n = 0;

    dlist_foreach_modify(iter, &agent->starts)
    {
        n++;
    }
    n = Min(n, CALL_MAX);
    call = call_create(agent, TAG_START, n);
    array_begin(&tokens);
    array_begin(&jobs);
    array_begin(&params);
    array_begin(&contexts);
    array_begin(&hashes);
    call->n = 0;
    for (int i = 0; i < n && params.len < CALL_BYTES; i++)
    {
        AgentStart *start = dlist_container(AgentStart, node, dlist_pop_head_node(&agent->starts));
        const char *job, *given;

        if (!start_texts(agent, start, &job, &given))
            continue;
        call->starts[call->n++] = start;
        start->id = 0;
        append_token(&tokens, &start->token);
        append_element(&jobs, job);
        append_element(&params, given);
        append_element(&contexts, fleet_text_or_ascii(agent->conn.encoding, start->context));
        if (start->by_hash)
            append_token(&hashes, &start->hash);
        else
            appendStringInfoString(&hashes, hashes.len > 1 ? ",NULL" : "NULL");
    }
    if (call->n == 0)
    {
        fleet_agent_call_free(call);
        return;
    }
    appendStringInfoChar(&tokens, '}');
    appendStringInfoChar(&jobs, '}');
    appendStringInfoChar(&params, '}');
    appendStringInfoChar(&contexts, '}');
    appendStringInfoChar(&hashes, '}');
    agent->starts_sent++;
    call_send(agent, call, 7,
              (const char *const[]){link->parent.uuid, epoch, tokens.data, jobs.data, params.data,
                                    contexts.data, hashes.data});
}

/* Takes up to CALL_MAX tokens from the list and sends them. */
static AgentCall *
send_tokens(FleetAgentLink *agent, AgentTokens *list, uint8 tag, const char *epoch)
{
    FleetServerLink *link = agent->conn.link;
    int n = Min(list->n, CALL_MAX);
    AgentCall *call = call_create(agent, tag, n);
    StringInfoData tokens;

    array_begin(&tokens);
    for (int i = 0; i < n; i++)
        append_token(&tokens, &list->tokens[i]);
    appendStringInfoChar(&tokens, '}');
    memcpy(call->tokens, list->tokens, sizeof(*list->tokens) * n);
    list->n -= n;
    memmove(list->tokens, list->tokens + n, sizeof(*list->tokens) * list->n);
    if (epoch != NULL)
        call_send(agent, call, 3, (const char *const[]){link->parent.uuid, epoch, tokens.data});
    else
        call_send(agent, call, 2, (const char *const[]){link->parent.uuid, tokens.data});
    return call;
}

static void
send_resumes(FleetAgentLink *agent, const char *epoch)
{
    AgentCall *call = send_tokens(agent, &agent->resumes, TAG_RESUME, epoch);

    agent->resumes_sent++;
    for (int i = 0; i < call->n; i++)
    {
        AgentChild *child = fleet_agent_child(agent, &call->tokens[i], false);

        if (child == NULL)
            continue;
        child->resume_wanted = false;
        child->resume_sent = true;
    }
}

static void
send_fetch(FleetAgentLink *agent, const char *epoch)
{
    FleetServerLink *link = agent->conn.link;
    AgentCall *call = call_create(agent, TAG_FETCH, 0);
    StringInfoData ids, after;

    array_begin(&ids);
    array_begin(&after);
    while (!dlist_is_empty(&agent->fetch) && call->n < CALL_MAX)
    {
        AgentChild *child =
            dlist_container(AgentChild, fetch_node, dlist_pop_head_node(&agent->fetch));

        child->dirty = false;
        appendStringInfo(&ids, "%s" INT64_FORMAT, call->n > 0 ? "," : "", child->id);
        appendStringInfo(&after, "%s%d", call->n > 0 ? "," : "", child->log_after);
        call->n++;
    }
    appendStringInfoChar(&ids, '}');
    appendStringInfoChar(&after, '}');
    agent->fetches_sent++;
    agent->fetches++;
    call_send(agent, call, 4,
              (const char *const[]){link->parent.uuid, epoch, ids.data, after.data});
}

static void
send_deploy(FleetAgentLink *agent, const char *epoch)
{
    FleetServerLink *link = agent->conn.link;
    AgentDeploy *deploy = dlist_container(AgentDeploy, node, dlist_pop_head_node(&agent->deploys));
    FleetDiagnostics why;
    const char *document = fleet_text_for(agent->conn.encoding, deploy->document, &why);
    AgentCall *call;

    if (document == NULL)
    {
        strlcpy(deploy->sqlstate, why.sqlstate, sizeof(deploy->sqlstate));
        deploy->message = reason(agent, &why, "definition of the job");
        dlist_push_tail(&agent->refused_deploys, &deploy->node);
        return;
    }
    call = call_create(agent, TAG_DEPLOY, 1);
    call->deploy = deploy;
    call_send(agent, call, 4,
              (const char *const[]){link->parent.uuid, epoch, document, deploy->action});
}

/* The starts that need it come behind it. */
static void
send_document(FleetAgentLink *agent, const char *epoch)
{
    FleetServerLink *link = agent->conn.link;
    AgentDeploy *deploy =
        dlist_container(AgentDeploy, node, dlist_pop_head_node(&agent->documents));
    FleetDiagnostics why;
    const char *document = fleet_text_for(agent->conn.encoding, deploy->document, &why);
    char hash[37];
    AgentCall *call;

    if (document == NULL)
    {
        fleet_agent_document_refused(agent, &deploy->hash, why.sqlstate,
                                     psprintf("definition of the job: %s", why.message));
        pfree(deploy->document);
        pfree(deploy);
        return;
    }
    fleet_text_from_uuid(deploy->hash.bytes, hash);
    call = call_create(agent, TAG_DOCUMENT, 1);
    call->deploy = deploy;
    call_send(agent, call, 4, (const char *const[]){link->parent.uuid, epoch, hash, document});
    FLEET_POINT("document_sent");
}

/* ---- the end of a turn ---- */

static void
agent_send_all(FleetAgentLink *agent)
{
    char epoch[32];

    snprintf(epoch, sizeof(epoch), UINT64_FORMAT, agent->conn.link->parent.epoch);
    while (agent->resumes.n > 0 && !agent->conn.lost)
        send_resumes(agent, epoch);
    while (agent->cancels.n > 0 && !agent->conn.lost)
        send_tokens(agent, &agent->cancels, TAG_CANCEL, epoch);
    while (!dlist_is_empty(&agent->deploys) && !agent->conn.lost)
        send_deploy(agent, epoch);
    while (!dlist_is_empty(&agent->documents) && !agent->conn.lost)
        send_document(agent, epoch);
    while (!dlist_is_empty(&agent->starts) && agent->starts_sent < STARTS_AT_ONCE &&
           !agent->conn.lost)
        send_starts(agent, epoch);
    if (!dlist_is_empty(&agent->fetch) && agent->fetches_sent < FETCHES_AT_ONCE &&
        !agent->conn.lost)
        send_fetch(agent, epoch);
    /* No hurry: what is not acknowledged is only kept. */
    if ((agent->acknowledges.n >= ACKNOWLEDGE_FROM ||
         (agent->acknowledges.n > 0 && agent->starts_sent == 0 && agent->fetches_sent == 0)) &&
        !agent->conn.lost)
        send_tokens(agent, &agent->acknowledges, TAG_ACKNOWLEDGE, NULL);
}

void
fleet_agent_gather(FleetConn *conn)
{
    FleetAgentLink *agent = AGENT_OF(conn);
    MemoryContext before;

    if (conn->state != CONN_READY || conn->lost)
        return;
    if (agent->resumes.n == 0 && agent->cancels.n == 0 && agent->acknowledges.n == 0 &&
        dlist_is_empty(&agent->starts) && dlist_is_empty(&agent->fetch) &&
        dlist_is_empty(&agent->deploys) && dlist_is_empty(&agent->documents))
        return;
    if (conn->link->scratch == NULL)
        conn->link->scratch =
            AllocSetContextCreate(conn->link->context, "fleet calls", ALLOCSET_DEFAULT_SIZES);
    before = MemoryContextSwitchTo(conn->link->scratch);
    agent_send_all(agent);
    MemoryContextSwitchTo(before);
    MemoryContextReset(conn->link->scratch);
    tell_refused(agent);
}
