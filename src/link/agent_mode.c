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

#include "core/exec.h"
#include "link/agent_mode.h"
#include "points.h"
#include "utils/memutils.h"

#define PING_PATIENCE FLEET_SECONDS(5)
/* A notification can be lost (the queue over there is full, or its agent ended before it sent it):
 * so often all children are fetched without one. */
#ifdef FLEET_TEST_POINTS /* else what no notification comes of would not be seen by tests */
#define LOOK_AGAIN FLEET_SECONDS(3600)
#else
#define LOOK_AGAIN FLEET_SECONDS(60)
#endif

/* ---- what the agent asks ---- */

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
        size_t context = strlen(starts[i].context) + 1;
        AgentStart *start =
            MemoryContextAllocZero(link->context, sizeof(AgentStart) + job + params + context);

        start->token = starts[i].token;
        start->by_hash = starts[i].by_hash;
        start->hash = starts[i].hash;
        if (start->by_hash)
            fleet_agent_document_need(agent, &start->hash, starts[i].document);
        start->job = (char *) (start + 1);
        start->params = start->job + job;
        start->context = start->params + params;
        memcpy(start->job, starts[i].job, job);
        memcpy(start->params, starts[i].params, params);
        memcpy(start->context, starts[i].context, context);
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
            fleet_agent_child_forget(agent, child);
    }
    agent_wants(agent);
}

void
fleet_link_deploy(FleetServerLink *link, uint64 ref, const char *document, const char *action)
{
    AgentDeploy *deploy = MemoryContextAllocZero(link->context, sizeof(AgentDeploy));

    deploy->ref = ref;
    strlcpy(deploy->action, action, sizeof(deploy->action));
    deploy->document = MemoryContextStrdup(link->context, document);
    dlist_push_tail(&link->agent->deploys, &deploy->node);
    agent_wants(link->agent);
}

/* ---- login ---- */

/* The channel's name is our own identity, in hexadecimal digits: nothing to quote. */
static void
listen_reports(FleetAgentLink *agent)
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

/*
 * What that database's owner, or the role itself, has set for everyone who logs in there is not for
 * these calls.  (role stays: who logs in is meant to be that one.)  Not every version has each of
 * them, and none may be in the way of the others: a message of its own each.
 */
static void
pin_session(FleetConn *conn)
{
    static const char *const statements[] = {
        "SET statement_timeout TO 0", "SET client_connection_check_interval TO '5s'",
        "SELECT pg_catalog.set_config(s.name, v.setting, false)"
        "  FROM (VALUES ('exit_on_error', 'off'), ('default_transaction_read_only', 'off'),"
        "               ('default_transaction_isolation', 'read committed'),"
        "               ('default_transaction_deferrable', 'off'), ('lock_timeout', '0'),"
        "               ('transaction_timeout', '0'), ('idle_session_timeout', '0'),"
        "               ('idle_in_transaction_session_timeout', '0'), ('array_nulls', 'on'),"
        "               ('transform_null_equals', 'off'), ('quote_all_identifiers', 'off'),"
        "               ('standard_conforming_strings', 'on'), ('bytea_output', 'hex'),"
        "               ('extra_float_digits', '1'), ('DateStyle', 'ISO, MDY'),"
        "               ('IntervalStyle', 'postgres'), ('jit', 'off')) AS v (name, setting)"
        "  JOIN pg_catalog.pg_settings AS s ON s.name OPERATOR(pg_catalog.=) v.name"};

    for (size_t i = 0; i < lengthof(statements); i++)
    {
        fleet_conn_send(conn, FLEET_TAG_PIN, FLEET_NO_SLOT, statements[i], 0, NULL, false, false);
        fleet_conn_sync(conn);
    }
}

static void
agent_login(FleetConn *conn)
{
    FleetServerLink *link = conn->link;
    FleetAgentLink *agent = AGENT_OF(conn);
    char epoch[32], protocol[16];
    FleetDiagnostics why;
    const char *values[4] = {protocol, link->parent.uuid, epoch,
                             fleet_text_for(conn->encoding, link->parent.name, &why)};

    snprintf(epoch, sizeof(epoch), UINT64_FORMAT, link->parent.epoch);
    snprintf(protocol, sizeof(protocol), "%d", FLEET_PROTOCOL);
    agent->prepared = 0;
    agent->greeted = false;
    memset(&agent->identity, 0, sizeof(agent->identity));
    agent->identity.version_num = PQserverVersion(conn->pg);
    fleet_text_copy(agent->identity.version, sizeof(agent->identity.version), conn->encoding,
                    PQparameterStatus(conn->pg, "server_version"));
    pin_session(conn);
    /* One message: if the search path cannot be pinned, the rest is skipped. */
    fleet_conn_send(conn, TAG_LISTEN, FLEET_NO_SLOT,
                    "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)", 0,
                    NULL, false, false);
    fleet_conn_send(conn, TAG_HELLO, FLEET_NO_SLOT,
                    "SELECT * FROM fleet_link.agent_hello($1::pg_catalog.int4, $2::pg_catalog.uuid,"
                    " $3::pg_catalog.int8, $4::pg_catalog.text)",
                    4, values, true, true);
    fleet_conn_sync(conn);
    listen_reports(agent);
}

static void
agent_done(FleetConn *conn, FleetExpect expect)
{
    FleetAgentLink *agent = AGENT_OF(conn);
    AgentCall *call;

    if (expect.tag != FLEET_EXPECT_SYNC)
        return;
    if (conn->state == CONN_SETUP && conn->count == 0 && !conn->lost && !agent->greeted)
        fleet_conn_fail(conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server does not say which agent it is");
    else if (conn->state == CONN_SETUP && conn->count == 0 && !conn->lost)
    {
        conn->link->identity = agent->identity;
        conn->link->identity_known = true;
        agent->looked_at = fleet_link_now();
        fleet_conn_ready(conn);
        fleet_conn_work(conn);
    }
    else if (expect.slot == SYNC_OF_CALL && !dlist_is_empty(&agent->sent))
    {
        call = dlist_container(AgentCall, node, dlist_pop_head_node(&agent->sent));
        fleet_agent_call_done(agent, call);
    }
    fleet_link_fd_spare(conn);
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
static void
requeue(FleetAgentLink *agent, AgentCall *call)
{
    switch ((AgentTag) call->tag)
    {
        case TAG_START:
            for (int i = 0; i < call->n; i++)
                fleet_link_callbacks.started(agent->conn.link, &call->starts[i]->token,
                                             FLEET_START_UNCLEAR, NULL, NULL, NULL);
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
        case TAG_DOCUMENT:
            dlist_push_head(&agent->documents, &call->deploy->node);
            call->deploy = NULL;
            break;
        case TAG_HELLO:
        case TAG_LISTEN:
        case TAG_INSTALLED:
        case TAG_PREPARE_CALL:
        case TAG_FETCH: break;
    }
    fleet_agent_call_free(call);
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
    fleet_agent_forget_ids(agent);
    agent->starts_sent = agent->resumes_sent = agent->fetches_sent = 0;
    agent->cancel_again = FLEET_NEVER; /* the agent asks for all of them when it is up again */
    dlist_init(&sent);
    while (!dlist_is_empty(&agent->sent))
        dlist_push_tail(&sent, dlist_pop_head_node(&agent->sent));
    while (!dlist_is_empty(&sent))
        requeue(agent, dlist_container(AgentCall, node, dlist_pop_head_node(&sent)));
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
        return agent->cancel_again;
    return Min(agent->cancel_again,
               Min(conn->heard_at + FLEET_HEARTBEAT, agent->looked_at + LOOK_AGAIN));
}

static void
look_at_all(FleetAgentLink *agent)
{
    HASH_SEQ_STATUS seq;
    AgentChild *child;

    hash_seq_init(&seq, agent->children);
    while ((child = hash_seq_search(&seq)) != NULL)
    {
        if (child->id != 0)
            fleet_agent_dirty(agent, child);
    }
}

static void
agent_timer(FleetConn *conn, FleetTime now)
{
    FleetAgentLink *agent = AGENT_OF(conn);

    if (agent->cancel_again <= now)
    {
        agent->cancel_again = FLEET_NEVER;
        fleet_link_agent_told();
        fleet_link_callbacks.cancel_again(conn->link);
        return;
    }
    if (now - agent->looked_at >= LOOK_AGAIN || FLEET_POINT_HIT("link_looks_again"))
    {
        agent->looked_at = now;
        look_at_all(agent);
    }
    /* An extension that is dropped takes our children with it, and says nothing. */
    fleet_conn_send(conn, TAG_INSTALLED, FLEET_NO_SLOT,
                    "SELECT pg_catalog.count(*) FROM pg_catalog.pg_extension AS e"
                    " WHERE e.extname OPERATOR(pg_catalog.=) 'pg_fleet'",
                    0, NULL, false, false);
    conn->sync_slot = SYNC_OF_PING;
    fleet_conn_sync(conn);
    conn->patience = PING_PATIENCE;
    fleet_link_due_at(now + PING_PATIENCE);
}

static FleetTime
agent_spare_since(FleetConn *conn)
{
    FleetAgentLink *agent = AGENT_OF(conn);

    if (hash_get_num_entries(agent->children) > 0 || !dlist_is_empty(&agent->starts) ||
        !dlist_is_empty(&agent->sent) || !dlist_is_empty(&agent->deploys) ||
        !dlist_is_empty(&agent->documents) ||
        agent->cancels.n + agent->acknowledges.n + agent->resumes.n > 0)
        return FLEET_NEVER;
    return conn->heard_at;
}

static const FleetConnMethods agent_methods = {
    .login = agent_login,
    .result = fleet_agent_result,
    .done = agent_done,
    .notify = agent_notify,
    .gather = fleet_agent_gather,
    .down = agent_down,
    .spare_since = agent_spare_since,
    .due = agent_due,
    .timer = agent_timer,
    .message_max = FLEET_OWN_BYTES_MAX,
};

static HTAB *
table_create(FleetServerLink *link, const char *name, Size key, Size entry)
{
    HASHCTL control = {.keysize = key, .entrysize = entry, .hcxt = link->context};

    return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
agent_create(FleetServerLink *link)
{
    FleetAgentLink *agent = MemoryContextAllocZero(link->context, sizeof(FleetAgentLink));

    link->agent = agent;
    fleet_conn_init(&agent->conn, link, &agent_methods, agent);
    dlist_init(&agent->starts);
    dlist_init(&agent->sent);
    dlist_init(&agent->deploys);
    dlist_init(&agent->documents);
    dlist_init(&agent->refused_starts);
    dlist_init(&agent->refused_deploys);
    dlist_init(&agent->fetch);
    agent->cancel_again = FLEET_NEVER;
    agent->children = table_create(link, "fleet children", sizeof(FleetToken), sizeof(AgentChild));
    agent->by_id = table_create(link, "fleet child ids", sizeof(int64), sizeof(AgentId));
    agent->unknown = table_create(link, "fleet unknown ids", sizeof(int64), sizeof(int64));
    agent->known = table_create(link, "fleet documents", sizeof(FleetToken), sizeof(AgentDocument));
    agent->report.context =
        AllocSetContextCreate(link->context, "fleet report", ALLOCSET_DEFAULT_SIZES);
}

static void
agent_open_wanted(FleetServerLink *link)
{
    if (link->wanted && link->agent->conn.state == CONN_CLOSED && fleet_link_may_open(link) &&
        fleet_link_gate(link))
        fleet_conn_open(&link->agent->conn);
}

static bool
agent_close(FleetServerLink *link)
{
    if (link->agent->conn.state != CONN_CLOSED)
        fleet_conn_close(&link->agent->conn);
    return true;
}

const FleetModeMethods fleet_mode_agent = {
    .create = agent_create,
    .open_wanted = agent_open_wanted,
    .close = agent_close,
};
