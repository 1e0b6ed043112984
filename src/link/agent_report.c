/*
 * link/agent_report.c
 *     Mode agent: what comes back.  Rows become answers to calls, and reports
 *     about job runs.
 *
 * In the agent's process; called by conn.c through agent_mode.c.  Everything
 * is asked for in binary, so numbers and times need no parsing; text of the
 * other side is cleaned before it goes on.
 */
#include "postgres.h"

#include "core/exec.h"
#include "core/state.h"
#include "link/agent_mode.h"

#include "port/pg_bswap.h"
#include "utils/memutils.h"

#define REPORT_BYTES_MAX (64 * 1024 * 1024) /* lines and steps of one report */

/* ---- fields ---- */

static int64
field_int(const PGresult *result, int row, int column, int64 missing)
{
    const char *value = PQgetvalue(result, row, column);
    uint64 wide;
    uint32 narrow;
    uint16 small;

    if (PQgetisnull(result, row, column))
        return missing;
    switch (PQgetlength(result, row, column))
    {
        case 8: memcpy(&wide, value, 8); return (int64) pg_ntoh64(wide);
        case 4: memcpy(&narrow, value, 4); return (int32) pg_ntoh32(narrow);
        case 2: memcpy(&small, value, 2); return (int16) pg_ntoh16(small);
        case 1: return value[0];
    }
    return missing;
}

static const char *
field_text(FleetAgentLink *agent, const PGresult *result, int row, int column, size_t cap)
{
    StringInfoData text;
    MemoryContext before;

    if (PQgetisnull(result, row, column))
        return NULL;
    before = MemoryContextSwitchTo(agent->report.context);
    initStringInfo(&text);
    fleet_text_append(&text, PQgetvalue(result, row, column),
                      (size_t) PQgetlength(result, row, column), cap);
    agent->report.bytes += (size_t) text.len;
    MemoryContextSwitchTo(before);
    return text.data;
}

/* ---- reports ---- */

void
fleet_agent_report_reset(FleetAgentLink *agent)
{
    MemoryContext context = agent->report.context;

    memset(&agent->report, 0, sizeof(agent->report));
    agent->report.context = context;
    MemoryContextReset(context);
}

/* All rows of one job run have come. */
static void
report_close(FleetAgentLink *agent)
{
    AgentReport *r = &agent->report;
    AgentChild *child = r->open ? fleet_agent_by_id(agent, r->id) : NULL;

    if (child != NULL)
    {
        r->report.token = child->token;
        child->log_after = Max(child->log_after, r->report.log_seq);
        r->report.steps = r->steps;
        r->report.lines = r->lines;
        fleet_link_callbacks.reported(agent->conn.link, &r->report);
    }
    fleet_agent_report_reset(agent);
}

static void *
report_grow(AgentReport *r, void *array, int n, int *capacity, size_t size)
{
    int wanted = Max(8, *capacity * 2);

    if (n < *capacity)
        return array;
    array = *capacity == 0 ? MemoryContextAlloc(r->context, size * wanted)
                           : repalloc_huge(array, size * wanted);
    *capacity = wanted;
    return array;
}

/* Columns of fleet_link.agent_fetch() */
enum
{
    COL_KIND,
    COL_ID,
    COL_STEP_NO,
    COL_ATTEMPT,
    COL_STATE,
    COL_FIRST,
    COL_LAST,
    COL_ROWS,
    COL_STEP,
    COL_LEVEL,
    COL_SQLSTATE,
    COL_MESSAGE,
    COL_DETAIL,
    COL_HINT,
    COL_CONTEXT,
    COL_OUTPUT,
    COL_STARTED,
    COL_FINISHED,
    COL_LOGGED,
    COL_SEQ,
    COLUMNS
};

static FleetDiagnostics
field_diagnostics(FleetAgentLink *agent, const PGresult *result, int row)
{
    FleetDiagnostics diag = {
        .level = field_text(agent, result, row, COL_LEVEL, FLEET_LEVEL_MAX),
        .sqlstate = field_text(agent, result, row, COL_SQLSTATE, FLEET_SQLSTATE_LENGTH),
        .message = field_text(agent, result, row, COL_MESSAGE, FLEET_MESSAGE_MAX),
        .detail = field_text(agent, result, row, COL_DETAIL, FLEET_MESSAGE_MAX),
        .hint = field_text(agent, result, row, COL_HINT, FLEET_MESSAGE_MAX),
        .context = field_text(agent, result, row, COL_CONTEXT, FLEET_MESSAGE_MAX),
    };

    return diag;
}

static void
report_job(FleetAgentLink *agent, const PGresult *result, int row)
{
    FleetRemoteReport *report = &agent->report.report;

    report->state = (int) field_int(result, row, COL_STATE, 0);
    report->log_seq = (int) field_int(result, row, COL_SEQ, 0);
    report->row_count = field_int(result, row, COL_ROWS, -1);
    report->diag = field_diagnostics(agent, result, row);
    report->output = field_text(agent, result, row, COL_OUTPUT, FLEET_OUTPUT_MAX);
    report->started_at = field_int(result, row, COL_STARTED, 0);
    report->finished_at = field_int(result, row, COL_FINISHED, 0);
}

static void
report_step(FleetAgentLink *agent, const PGresult *result, int row)
{
    AgentReport *r = &agent->report;
    FleetRemoteStep *step;

    r->steps = report_grow(r, r->steps, r->report.nsteps, &r->steps_capacity, sizeof(*r->steps));
    step = &r->steps[r->report.nsteps++];
    step->step_no = (int) field_int(result, row, COL_STEP_NO, 0);
    step->attempt = (int) field_int(result, row, COL_ATTEMPT, 0);
    step->state = (int) field_int(result, row, COL_STATE, 0);
    step->first_seq = (int) field_int(result, row, COL_FIRST, 0);
    step->last_seq = (int) field_int(result, row, COL_LAST, 0);
    step->row_count = field_int(result, row, COL_ROWS, -1);
    step->step = field_text(agent, result, row, COL_STEP, 1024);
    step->diag = field_diagnostics(agent, result, row);
    step->output = field_text(agent, result, row, COL_OUTPUT, FLEET_OUTPUT_MAX);
    step->started_at = field_int(result, row, COL_STARTED, 0);
    step->finished_at = field_int(result, row, COL_FINISHED, 0);
}

static void
report_line(FleetAgentLink *agent, const PGresult *result, int row)
{
    AgentReport *r = &agent->report;
    FleetRemoteLine *line;

    r->lines = report_grow(r, r->lines, r->report.nlines, &r->lines_capacity, sizeof(*r->lines));
    line = &r->lines[r->report.nlines++];
    line->step_no = (int) field_int(result, row, COL_STEP_NO, 0);
    line->seq = (int) field_int(result, row, COL_SEQ, 0);
    line->logged_at = field_int(result, row, COL_LOGGED, 0);
    line->diag = field_diagnostics(agent, result, row);
}

static void
fetch_row(FleetAgentLink *agent, const PGresult *result, int row)
{
    int64 id = field_int(result, row, COL_ID, 0);
    char kind = (char) field_int(result, row, COL_KIND, 0);
    int64 state = field_int(result, row, COL_STATE, 0);

    if (kind != 'l' &&
        (state <= 0 || state > FLEET_UNKNOWN || fleet_state_name((FleetState) state) == NULL))
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server reports a state that does not exist: %lld", (long long) state);
    else if (kind == 'j')
    {
        report_close(agent);
        agent->report.open = true;
        agent->report.id = id;
        report_job(agent, result, row);
    }
    else if (!agent->report.open || agent->report.id != id)
        return; /* rows of a job run come after its own */
    else if (kind == 's')
        report_step(agent, result, row);
    else if (kind == 'l')
        report_line(agent, result, row);
    if (agent->report.bytes > REPORT_BYTES_MAX)
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROGRAM_LIMIT_EXCEEDED, false,
                        "the log of one job run is larger than %d MB",
                        REPORT_BYTES_MAX / (1024 * 1024));
}

/* ---- rows of the other calls ---- */

static void
start_row(FleetAgentLink *agent, AgentCall *call, const PGresult *result, int row)
{
    int64 ord = field_int(result, row, 0, 0);
    AgentStart *start;
    StringInfoData text;
    MemoryContext before;

    if (ord < 1 || ord > call->n)
        return;
    start = call->starts[ord - 1];
    start->id = field_int(result, row, 1, 0);
    if (start->id != 0)
        return;
    before = MemoryContextSwitchTo(agent->conn.link->context);
    initStringInfo(&text);
    fleet_text_append(&text, PQgetvalue(result, row, 4), (size_t) PQgetlength(result, row, 4),
                      4096);
    MemoryContextSwitchTo(before);
    if (start->message != NULL)
        pfree(start->message);
    start->message = text.data;
    fleet_text_copy(start->sqlstate, sizeof(start->sqlstate),
                    PQgetisnull(result, row, 3) ? FLEET_SQLSTATE_INTERNAL_ERROR
                                                : PQgetvalue(result, row, 3));
}

static void
resume_row(AgentCall *call, const PGresult *result, int row)
{
    int64 ord = field_int(result, row, 0, 0);

    if (ord >= 1 && ord <= call->n)
        call->ids[ord - 1] = field_int(result, row, 1, 0);
}

static void
hello_row(FleetAgentLink *agent, const PGresult *result)
{
    FleetLinkIdentity *identity = &agent->identity;

    if (field_int(result, 0, 0, 0) != FLEET_PROTOCOL)
    {
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_OTHER_PROTOCOL, true,
                        "the server speaks another protocol: %d", (int) field_int(result, 0, 0, 0));
        return;
    }
    if (PQgetlength(result, 0, 2) == 16)
        fleet_text_from_uuid((const uint8 *) PQgetvalue(result, 0, 2), identity->instance);
    identity->system_identifier = (uint64) field_int(result, 0, 3, 0);
    identity->identifier_known = identity->system_identifier != 0;
    identity->timeline = (uint32) field_int(result, 0, 4, 0);
}

/* ---- errors ---- */

static bool
hello_error_is_permanent(const char *sqlstate)
{
    static const char *const list[] = {FLEET_SQLSTATE_EPOCH_ENDED,
                                       FLEET_SQLSTATE_OTHER_PROTOCOL,
                                       FLEET_SQLSTATE_INVALID_SCHEMA_NAME,
                                       FLEET_SQLSTATE_UNDEFINED_FUNCTION,
                                       FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE,
                                       FLEET_SQLSTATE_UNDEFINED_TABLE,
                                       FLEET_SQLSTATE_FEATURE_NOT_SUPPORTED};

    for (int i = 0; i < (int) lengthof(list); i++)
    {
        if (fleet_sqlstate_is(sqlstate, list[i]))
            return true;
    }
    return false;
}

static void
setup_error(FleetAgentLink *agent, const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    bool missing = fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_INVALID_SCHEMA_NAME) ||
                   fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_UNDEFINED_FUNCTION);

    fleet_conn_fail(&agent->conn, sqlstate, hello_error_is_permanent(sqlstate), "%s%s",
                    missing ? "pg_fleet is not installed in that database, or is too old: " : "",
                    message == NULL ? "?" : message);
}

static void
call_error(AgentCall *call, const PGresult *result)
{
    call->failed = true;
    fleet_text_copy(call->sqlstate, sizeof(call->sqlstate),
                    PQresultErrorField(result, PG_DIAG_SQLSTATE));
    fleet_text_copy(call->message, sizeof(call->message),
                    PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

/* The prepared statement is not what it was: gone, or its function returns other columns now. */
static bool
is_stale(const AgentCall *call, const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return sqlstate != NULL && PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) != NULL &&
           (fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_INVALID_SQL_STATEMENT_NAME) ||
            (fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_FEATURE_NOT_SUPPORTED) &&
             call->tag <= TAG_FETCH));
}

void
fleet_agent_result(FleetConn *conn, const FleetExpect *expect, PGresult *result)
{
    static const int columns[] = {[TAG_START] = 5, [TAG_RESUME] = 3, [TAG_FETCH] = COLUMNS};
    FleetAgentLink *agent = AGENT_OF(conn);
    ExecStatusType status = PQresultStatus(result);
    AgentCall *call = NULL;

    if (status == PGRES_FATAL_ERROR && (expect->tag == TAG_HELLO || expect->tag == TAG_LISTEN))
        setup_error(agent, result);
    if (expect->tag == TAG_HELLO && PQntuples(result) == 1 && PQnfields(result) == 5)
        hello_row(agent, result);
    if (expect->tag >= TAG_START && !dlist_is_empty(&agent->sent))
        call = dlist_head_element(AgentCall, node, &agent->sent);
    if (call != NULL && expect->tag == TAG_PREPARE_CALL && status == PGRES_FATAL_ERROR)
    {
        call_error(call, result); /* the call itself is skipped */
        agent->prepared &= ~(1U << call->tag);
    }
    if (call == NULL || call->tag != expect->tag)
        return;
    if (status == PGRES_FATAL_ERROR && is_stale(call, result))
        fleet_conn_fail(conn, PQresultErrorField(result, PG_DIAG_SQLSTATE), false, "%s",
                        PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    else if (status == PGRES_FATAL_ERROR)
        call_error(call, result);
    else if (PQntuples(result) > 0 && expect->tag <= TAG_FETCH &&
             PQnfields(result) != columns[expect->tag])
        fleet_conn_fail(conn, FLEET_SQLSTATE_OTHER_PROTOCOL, true,
                        "the server's answer has %d columns instead of %d", PQnfields(result),
                        columns[expect->tag]);
    else
    {
        for (int row = 0; row < PQntuples(result) && !conn->lost; row++)
        {
            if (expect->tag == TAG_START)
                start_row(agent, call, result, row);
            else if (expect->tag == TAG_RESUME)
                resume_row(call, result, row);
            else if (expect->tag == TAG_FETCH)
                fetch_row(agent, result, row);
        }
    }
}

/* ---- a call is complete ---- */

/* Another attempt may well succeed: the items are kept, the reason is shown, and it backs off. */
static bool
is_transient(const char *sqlstate)
{
    static const char *const classes[] = {FLEET_SQLCLASS_TRANSACTION_ROLLBACK,
                                          FLEET_SQLCLASS_INSUFFICIENT_RESOURCES,
                                          FLEET_SQLCLASS_OBJECT_NOT_IN_PREREQUISITE_STATE,
                                          FLEET_SQLCLASS_OPERATOR_INTERVENTION,
                                          FLEET_SQLCLASS_SYSTEM_ERROR,
                                          FLEET_SQLCLASS_INTERNAL_ERROR};

    for (int i = 0; i < (int) lengthof(classes); i++)
    {
        if (fleet_sqlstate_in(sqlstate, classes[i]))
            return true;
    }
    return false;
}

static void
start_done(FleetAgentLink *agent, AgentCall *call)
{
    FleetServerLink *link = agent->conn.link;

    agent->starts_sent--;
    if (call->failed && is_transient(call->sqlstate))
    {
        for (int i = call->n - 1; i >= 0; i--)
        {
            dlist_push_head(&agent->starts, &call->starts[i]->node);
            call->starts[i] = NULL;
        }
        fleet_conn_fail(&agent->conn, call->sqlstate, false, "%s", call->message);
        return;
    }
    for (int i = 0; i < call->n; i++)
    {
        AgentStart *start = call->starts[i];

        if (!call->failed && start->id != 0)
        {
            AgentChild *child = fleet_agent_child(agent, &start->token, true);

            fleet_agent_known(agent, child, start->id);
            fleet_link_callbacks.started(link, &start->token, FLEET_STARTED, NULL, NULL);
        }
        else if (call->failed)
            fleet_link_callbacks.started(link, &start->token, FLEET_NOT_STARTED, call->sqlstate,
                                         call->message);
        else
            fleet_link_callbacks.started(
                link, &start->token, FLEET_NOT_STARTED,
                start->sqlstate[0] != '\0' ? start->sqlstate : FLEET_SQLSTATE_INTERNAL_ERROR,
                start->message != NULL ? start->message : "the server gave no answer");
    }
}

static void
resume_done(FleetAgentLink *agent, AgentCall *call)
{
    agent->resumes_sent--;
    if (call->failed)
    {
        dlist_push_head(&agent->sent, &call->node); /* asked again after the reconnect */
        fleet_conn_fail(&agent->conn, call->sqlstate, false, "%s", call->message);
        return;
    }
    for (int i = 0; i < call->n; i++)
    {
        AgentChild *child = fleet_agent_child(agent, &call->tokens[i], false);
        bool known = call->ids[i] != 0;

        if (child == NULL)
            continue;
        child->resume_sent = false;
        if (known)
        {
            fleet_agent_known(agent, child, call->ids[i]);
            fleet_agent_dirty(agent, child);
        }
        else if (child->id == 0)
        {
            hash_search(agent->children, &child->token, HASH_REMOVE, NULL);
        }
        fleet_link_callbacks.resumed(agent->conn.link, &call->tokens[i], known);
    }
}

static void
fetch_done(FleetAgentLink *agent, AgentCall *call)
{
    agent->fetches_sent--;
    report_close(agent);
    if (call->failed)
        fleet_conn_fail(&agent->conn, call->sqlstate, false, "%s", call->message);
    else if (!dlist_is_empty(&agent->fetch))
        fleet_conn_work(&agent->conn);
}

/* The Sync of the oldest call has come: what it did is committed there. */
void
fleet_agent_call_done(FleetAgentLink *agent, AgentCall *call)
{
    int64 *unknown;
    HASH_SEQ_STATUS seq;
    FleetServerLink *link = agent->conn.link;
    bool refused = call->failed && fleet_sqlstate_is(call->sqlstate, FLEET_SQLSTATE_EPOCH_ENDED);

    switch ((AgentTag) call->tag)
    {
        case TAG_START: start_done(agent, call); break;
        case TAG_RESUME: resume_done(agent, call); break;
        case TAG_FETCH: fetch_done(agent, call); break;
        case TAG_DEPLOY:
            fleet_link_callbacks.deployed(link, call->deploy->ref, !call->failed,
                                          call->failed ? call->sqlstate : NULL,
                                          call->failed ? call->message : NULL);
            break;
        case TAG_CANCEL:
        case TAG_ACKNOWLEDGE:
            if (call->failed)
                ereport(LOG, (errmsg("pg_fleet: server \"%s\" refused %s: %s", link->server_name,
                                     call->tag == TAG_CANCEL ? "a cancel" : "an acknowledgement",
                                     call->message)));
            break;
        case TAG_HELLO:
        case TAG_PREPARE_CALL:
        case TAG_LISTEN: break;
    }
    if (refused)
        fleet_conn_fail(&agent->conn, call->sqlstate, true, "%s", call->message);
    if (agent->starts_sent + agent->resumes_sent == 0 && hash_get_num_entries(agent->unknown) > 0)
    {
        hash_seq_init(&seq, agent->unknown);
        while ((unknown = hash_seq_search(&seq)) != NULL)
            hash_search(agent->unknown, unknown, HASH_REMOVE, NULL);
    }
    if (call->tag != TAG_RESUME || !call->failed)
        fleet_agent_call_free(call);
    fleet_conn_work(&agent->conn);
}
