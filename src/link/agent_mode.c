/*
 * link/agent_mode.c
 *     Mode agent: the one connection to another agent.  Starts, resumes,
 *     cancels, acknowledgements and deployments are queued here, gathered at
 *     the end of a turn into one call of each kind, and pipelined; what the
 *     other agent notifies of is fetched, one fetch at a time.  What comes
 *     back is in agent_report.c.
 *
 * In the agent's process.  Called by the agent (link.h) and by conn.c.
 *
 * A start:   queued → sent → STARTED | NOT_STARTED | (lost) START_UNCLEAR
 * A child:   known by token; notified → dirty → fetched → report
 *            lost connection: its number there is forgotten, the agent resumes
 */
#include "postgres.h"

#include "link/agent_internal.h"
#include "utils/memutils.h"

#define CALL_MAX 500     /* items in a call */
#define STARTS_AT_ONCE 1 /* calls under way; more starts wait and make the next call larger */
#define FETCHES_AT_ONCE 1
#define ACKNOWLEDGE_FROM 100 /* so many wait for a common call, unless nothing else goes on */
#define PING_PATIENCE FLEET_SECONDS(5)

/* ---- children ---- */

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

/* The number of a child over there is known now; it may have been told of before. */
void
fleet_agent_known(FleetAgentLink *agent, AgentChild *child, int64 id)
{
    AgentId *entry = hash_search(agent->by_id, &id, HASH_ENTER, NULL);
    bool told;

    entry->child = child;
    child->id = id;
    hash_search(agent->unknown, &id, HASH_REMOVE, &told);
    if (told)
        fleet_agent_dirty(agent, child);
}

static void
child_forget(FleetAgentLink *agent, AgentChild *child)
{
    if (child->dirty)
        dlist_delete(&child->fetch_node);
    if (child->id != 0)
        hash_search(agent->by_id, &child->id, HASH_REMOVE, NULL);
    hash_search(agent->children, &child->token, HASH_REMOVE, NULL);
}

static void
tokens_add(FleetAgentLink *agent, AgentTokens *list, const FleetToken *token)
{
    if (list->n == list->capacity)
    {
        int capacity = Max(64, list->capacity * 2);
        Size size = sizeof(*list->tokens) * capacity;

        list->tokens = list->tokens == NULL ? MemoryContextAlloc(agent->conn.link->context, size)
                                            : repalloc_huge(list->tokens, size);
        list->capacity = capacity;
    }
    list->tokens[list->n++] = *token;
}

/* ---- what the agent asks ---- */

static void
agent_wants(FleetAgentLink *agent)
{
    if (agent->conn.state == CONN_READY)
        fleet_conn_work(&agent->conn);
    else
        fleet_link_need(agent->conn.link);
}

void
fleet_link_start(FleetServerLink *link, const FleetRemoteStart *starts, int n)
{
    FleetAgentLink *agent = link->agent;

    for (int i = 0; i < n; i++)
    {
        size_t job = strlen(starts[i].job) + 1, params = strlen(starts[i].params) + 1;
        AgentStart *start =
            MemoryContextAllocZero(link->context, sizeof(AgentStart) + job + params);

        start->token = starts[i].token;
        start->job = (char *) (start + 1);
        start->params = start->job + job;
        memcpy(start->job, starts[i].job, job);
        memcpy(start->params, starts[i].params, params);
        dlist_push_tail(&agent->starts, &start->node);
    }
    agent_wants(agent);
}

bool
fleet_link_withdraw(FleetServerLink *link, const FleetToken *token)
{
    dlist_iter iter;

    dlist_foreach(iter, &link->agent->starts)
    {
        AgentStart *start = dlist_container(AgentStart, node, iter.cur);

        if (memcmp(&start->token, token, sizeof(*token)) == 0)
        {
            dlist_delete(&start->node);
            pfree(start);
            return true;
        }
    }
    return false;
}

void
fleet_link_cancel(FleetServerLink *link, const FleetToken *tokens, int n)
{
    for (int i = 0; i < n; i++)
        tokens_add(link->agent, &link->agent->cancels, &tokens[i]);
    agent_wants(link->agent);
}

void
fleet_link_resume(FleetServerLink *link, const FleetToken *tokens, const int *log_after, int n)
{
    FleetAgentLink *agent = link->agent;

    for (int i = 0; i < n; i++)
    {
        AgentChild *child = fleet_agent_child(agent, &tokens[i], true);

        child->log_after = log_after[i];
        if (!child->resume_wanted && !child->resume_sent)
            tokens_add(agent, &agent->resumes, &tokens[i]);
        child->resume_wanted = !child->resume_sent;
    }
    agent_wants(agent);
}

void
fleet_link_acknowledge(FleetServerLink *link, const FleetToken *tokens, int n)
{
    FleetAgentLink *agent = link->agent;

    for (int i = 0; i < n; i++)
    {
        AgentChild *child = fleet_agent_child(agent, &tokens[i], false);

        tokens_add(agent, &agent->acknowledges, &tokens[i]);
        if (child != NULL)
            child_forget(agent, child);
    }
    agent_wants(agent);
}

void
fleet_link_deploy(FleetServerLink *link, uint64 ref, const char *document)
{
    AgentDeploy *deploy = MemoryContextAllocZero(link->context, sizeof(AgentDeploy));

    deploy->ref = ref;
    deploy->document = MemoryContextStrdup(link->context, document);
    dlist_push_tail(&link->agent->deploys, &deploy->node);
    agent_wants(link->agent);
}

/* ---- sending: one call of each kind a turn ---- */

static AgentCall *
call_create(FleetAgentLink *agent, uint8 tag, int n)
{
    MemoryContext before = MemoryContextSwitchTo(agent->conn.link->context);
    AgentCall *call = palloc0(sizeof(AgentCall));

    call->tag = tag;
    call->n = n;
    if (tag == TAG_START)
        call->starts = palloc0(sizeof(*call->starts) * n);
    else if (tag != TAG_FETCH && tag != TAG_DEPLOY)
        call->tokens = palloc(sizeof(*call->tokens) * n);
    if (tag == TAG_RESUME)
        call->ids = palloc0(sizeof(int64) * n);
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
                   " $3::pg_catalog.uuid[], $4::pg_catalog.text[], $5::pg_catalog.jsonb[])"},
    [TAG_RESUME] = {"agent_resume",
                    "SELECT * FROM fleet_link.agent_resume($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                    " $3::pg_catalog.uuid[])"},
    [TAG_FETCH] = {"agent_fetch",
                   "SELECT * FROM fleet_link.agent_fetch($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                   " $3::pg_catalog.int8[], $4::pg_catalog.int4[])"},
    [TAG_CANCEL] = {"agent_cancel",
                    "SELECT fleet_link.agent_cancel($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                    " $3::pg_catalog.uuid[])"},
    [TAG_ACKNOWLEDGE] = {"agent_acknowledge", "SELECT fleet_link.agent_acknowledge($1::pg_catalog.uuid,"
                                              " $2::pg_catalog.uuid[])"},
    [TAG_DEPLOY] = {"agent_deploy",
                    "SELECT fleet_link.agent_deploy($1::pg_catalog.uuid, $2::pg_catalog.int8,"
                    " $3::pg_catalog.jsonb)"},
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

static void
send_starts(FleetAgentLink *agent, const char *epoch)
{
    FleetServerLink *link = agent->conn.link;
    StringInfoData tokens, jobs, params;
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
    for (int i = 0; i < n; i++)
    {
        AgentStart *start = dlist_container(AgentStart, node, dlist_pop_head_node(&agent->starts));

        call->starts[i] = start;
        start->id = 0;
        append_token(&tokens, &start->token);
        append_element(&jobs, start->job);
        append_element(&params, start->params);
    }
    appendStringInfoChar(&tokens, '}');
    appendStringInfoChar(&jobs, '}');
    appendStringInfoChar(&params, '}');
    agent->starts_sent++;
    call_send(agent, call, 5,
              (const char *const[]){link->parent.uuid, epoch, tokens.data, jobs.data, params.data});
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
    call_send(agent, call, 4,
              (const char *const[]){link->parent.uuid, epoch, ids.data, after.data});
}

static void
send_deploy(FleetAgentLink *agent, const char *epoch)
{
    FleetServerLink *link = agent->conn.link;
    AgentCall *call = call_create(agent, TAG_DEPLOY, 1);

    call->deploy = dlist_container(AgentDeploy, node, dlist_pop_head_node(&agent->deploys));
    call_send(agent, call, 3,
              (const char *const[]){link->parent.uuid, epoch, call->deploy->document});
}

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

static void
agent_gather(FleetConn *conn)
{
    FleetAgentLink *agent = AGENT_OF(conn);
    MemoryContext before;

    if (conn->state != CONN_READY || conn->lost)
        return;
    if (agent->resumes.n == 0 && agent->cancels.n == 0 && agent->acknowledges.n == 0 &&
        dlist_is_empty(&agent->starts) && dlist_is_empty(&agent->fetch) &&
        dlist_is_empty(&agent->deploys))
        return;
    if (conn->link->scratch == NULL)
        conn->link->scratch =
            AllocSetContextCreate(conn->link->context, "fleet calls", ALLOCSET_DEFAULT_SIZES);
    before = MemoryContextSwitchTo(conn->link->scratch);
    agent_send_all(agent);
    MemoryContextSwitchTo(before);
    MemoryContextReset(conn->link->scratch);
}

/* ---- login ---- */

static void
agent_login(FleetConn *conn)
{
    FleetServerLink *link = conn->link;
    FleetAgentLink *agent = AGENT_OF(conn);
    char epoch[32], protocol[16];
    const char *values[4] = {protocol, link->parent.uuid, epoch, link->parent.name};

    snprintf(epoch, sizeof(epoch), UINT64_FORMAT, link->parent.epoch);
    snprintf(protocol, sizeof(protocol), "%d", FLEET_PROTOCOL);
    agent->prepared = 0;
    memset(&agent->identity, 0, sizeof(agent->identity));
    agent->identity.version_num = PQserverVersion(conn->pg);
    fleet_text_copy(agent->identity.version, sizeof(agent->identity.version),
                    PQparameterStatus(conn->pg, "server_version"));
    fleet_conn_send(conn, FLEET_TAG_PIN, FLEET_NO_SLOT,
                    "SET client_connection_check_interval TO '5s'", 0, NULL, false, false);
    fleet_conn_sync(conn);
    /* One message: if the search path cannot be pinned, the rest is skipped. */
    fleet_conn_send(conn, TAG_LISTEN, FLEET_NO_SLOT,
                    "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)", 0,
                    NULL, false, false);
    fleet_conn_send(conn, TAG_HELLO, FLEET_NO_SLOT,
                    "SELECT * FROM fleet_link.agent_hello($1::pg_catalog.int4, $2::pg_catalog.uuid,"
                    " $3::pg_catalog.int8, $4::pg_catalog.text)",
                    4, values, true, true);
    fleet_conn_sync(conn);
    fleet_agent_listen(agent);
}

/* The channel's name is our own identity, in hexadecimal digits: nothing to quote. */
void
fleet_agent_listen(FleetAgentLink *agent)
{
    char sql[128];
    char *out = sql + snprintf(sql, sizeof(sql), "LISTEN fleet_report_");

    for (const char *s = agent->conn.link->parent.uuid; *s != '\0'; s++)
    {
        if (*s != '-')
            *out++ = *s;
    }
    *out = '\0';
    fleet_conn_send(&agent->conn, TAG_LISTEN, FLEET_NO_SLOT, sql, 0, NULL, false, false);
    fleet_conn_sync(&agent->conn);
}

static void
agent_done(FleetConn *conn, FleetExpect expect)
{
    FleetAgentLink *agent = AGENT_OF(conn);
    AgentCall *call;

    if (expect.tag != FLEET_EXPECT_SYNC)
        return;
    if (conn->state == CONN_SETUP && conn->count == 0 && !conn->lost)
    {
        conn->link->identity = agent->identity;
        conn->link->identity_known = true;
        fleet_conn_ready(conn);
        fleet_conn_work(conn);
    }
    else if (expect.slot == SYNC_OF_CALL && !dlist_is_empty(&agent->sent))
    {
        call = dlist_container(AgentCall, node, dlist_pop_head_node(&agent->sent));
        fleet_agent_call_done(agent, call);
    }
}

/* ---- notifications ---- */

/* The payload is a hint, and anybody may send it: numbers that mean nothing are dropped. */
static void
agent_notify(FleetConn *conn, const char *channel, const char *payload)
{
    FleetAgentLink *agent = AGENT_OF(conn);

    while (*payload != '\0')
    {
        char *end;
        int64 id = (int64) strtoll(payload, &end, 10);
        AgentChild *child;

        if (end == payload)
        {
            payload++;
            continue;
        }
        payload = end;
        child = fleet_agent_by_id(agent, id);
        if (child != NULL)
            fleet_agent_dirty(agent, child);
        else if (agent->starts_sent + agent->resumes_sent > 0 &&
                 hash_get_num_entries(agent->unknown) < 100000)
            hash_search(agent->unknown, &id, HASH_ENTER, NULL);
    }
}

/* ---- loss ---- */

static void
requeue_tokens(FleetAgentLink *agent, AgentTokens *list, const AgentCall *call)
{
    for (int i = 0; i < call->n; i++)
        tokens_add(agent, list, &call->tokens[i]);
}

/* What was sent and not answered: asked again where that is harmless. */
void
fleet_agent_requeue(FleetAgentLink *agent, AgentCall *call)
{
    switch ((AgentTag) call->tag)
    {
        case TAG_START:
            for (int i = 0; i < call->n; i++)
                fleet_link_callbacks.started(agent->conn.link, &call->starts[i]->token,
                                             FLEET_START_UNCLEAR, NULL, NULL);
            break;
        case TAG_RESUME:
            for (int i = 0; i < call->n; i++)
            {
                AgentChild *child = fleet_agent_child(agent, &call->tokens[i], false);

                if (child == NULL || !child->resume_sent)
                    continue;
                child->resume_sent = false;
                child->resume_wanted = true;
                tokens_add(agent, &agent->resumes, &child->token);
            }
            break;
        case TAG_CANCEL: requeue_tokens(agent, &agent->cancels, call); break;
        case TAG_ACKNOWLEDGE: requeue_tokens(agent, &agent->acknowledges, call); break;
        case TAG_DEPLOY:
            dlist_push_head(&agent->deploys, &call->deploy->node);
            call->deploy = NULL;
            break;
        case TAG_HELLO:
        case TAG_LISTEN:
        case TAG_PREPARE_CALL:
        case TAG_FETCH: break;
    }
    fleet_agent_call_free(call);
}

/* Numbers of children are only good on the connection that gave them. */
static void
forget_ids(FleetAgentLink *agent)
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

static void
fail_deploys(FleetAgentLink *agent, const char *sqlstate, const char *reason)
{
    while (!dlist_is_empty(&agent->deploys))
    {
        AgentDeploy *deploy =
            dlist_container(AgentDeploy, node, dlist_pop_head_node(&agent->deploys));

        fleet_link_callbacks.deployed(agent->conn.link, deploy->ref, false, sqlstate, reason);
        pfree(deploy->document);
        pfree(deploy);
    }
}

static void
agent_down(FleetConn *conn, const char *sqlstate, const char *reason, bool permanent)
{
    FleetAgentLink *agent = AGENT_OF(conn);
    dlist_head sent;

    fleet_agent_report_reset(agent);
    forget_ids(agent);
    agent->starts_sent = agent->resumes_sent = agent->fetches_sent = 0;
    dlist_init(&sent);
    while (!dlist_is_empty(&agent->sent))
        dlist_push_tail(&sent, dlist_pop_head_node(&agent->sent));
    while (!dlist_is_empty(&sent))
        fleet_agent_requeue(agent, dlist_container(AgentCall, node, dlist_pop_head_node(&sent)));
    if (permanent)
        fail_deploys(agent, sqlstate, reason);
    conn->link->wanted = true;
    fleet_link_went_down(conn->link, conn, sqlstate, reason, permanent);
}

/* ---- heartbeat: while something of ours runs there, silence is looked into ---- */

static FleetTime
agent_due(FleetConn *conn)
{
    FleetAgentLink *agent = AGENT_OF(conn);

    if (conn->count > 0 || hash_get_num_entries(agent->children) == 0)
        return FLEET_NEVER;
    return conn->heard_at + FLEET_HEARTBEAT;
}

static void
agent_timer(FleetConn *conn, FleetTime now)
{
    conn->sync_slot = SYNC_OF_PING;
    fleet_conn_sync(conn);
    conn->patience = PING_PATIENCE;
    fleet_link_due_at(now + PING_PATIENCE);
}

static const FleetConnMethods agent_methods = {
    .login = agent_login,
    .result = fleet_agent_result,
    .done = agent_done,
    .notify = agent_notify,
    .gather = agent_gather,
    .down = agent_down,
    .due = agent_due,
    .timer = agent_timer,
};

static HTAB *
table_create(FleetServerLink *link, const char *name, Size key, Size entry)
{
    HASHCTL control = {.keysize = key, .entrysize = entry, .hcxt = link->context};

    return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

void
fleet_agent_create(FleetServerLink *link)
{
    FleetAgentLink *agent = MemoryContextAllocZero(link->context, sizeof(FleetAgentLink));

    link->agent = agent;
    fleet_conn_init(&agent->conn, link, &agent_methods, agent);
    dlist_init(&agent->starts);
    dlist_init(&agent->sent);
    dlist_init(&agent->deploys);
    dlist_init(&agent->fetch);
    agent->children = table_create(link, "fleet children", sizeof(FleetToken), sizeof(AgentChild));
    agent->by_id = table_create(link, "fleet child ids", sizeof(int64), sizeof(AgentId));
    agent->unknown = table_create(link, "fleet unknown ids", sizeof(int64), sizeof(int64));
    agent->report.context =
        AllocSetContextCreate(link->context, "fleet report", ALLOCSET_DEFAULT_SIZES);
}

void
fleet_agent_pump(FleetServerLink *link)
{
    if (link->wanted && link->agent->conn.state == CONN_CLOSED && fleet_link_may_open(link))
        fleet_conn_open(&link->agent->conn);
}
