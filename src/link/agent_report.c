/*
 * link/agent_report.c
 *     Mode agent: what comes back.  Rows become answers to calls, and reports
 *     about job runs.
 *
 * In the agent's process; called by conn.c through agent_mode.c.  Fields are
 * checked by agent_field.c, and what rows say together here: a report has one
 * row of a job run, its steps and its lines each in the order of the log, and
 * an answer has one report of a job run.  What does not fit ends the
 * connection with the reason, before the agent hears of it.
 */
#include "postgres.h"

#include "core/exec.h"
#include "core/state.h"
#include "link/agent_field.h"
#include "link/agent_mode.h"

#include "utils/memutils.h"

#define CANCEL_AGAIN_MIN FLEET_MS(200)
#define CANCEL_AGAIN_MAX FLEET_SECONDS(10)
#define NOT_INSTALLED "pg_fleet is not installed in that database, or is too old: "
#define REPORT_BYTES_MAX (64 * 1024 * 1024) /* lines and steps of one report, as allocated */

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

    if (child != NULL && !agent->conn.lost)
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

static const FleetNumber numbers[COLUMNS] = {
    [COL_KIND] = {"kind", 1, 0, 255, true, 0},
    [COL_ID] = {"job_run_id", 8, 1, PG_INT64_MAX, true, 0},
    [COL_STEP_NO] = {"step_no", 4, 0, PG_INT16_MAX, false, 0},
    [COL_ATTEMPT] = {"attempt", 4, 0, PG_INT16_MAX, false, 0},
    [COL_STATE] = {"state", 4, PG_INT32_MIN, PG_INT32_MAX, false, 0}, /* report_state() */
    [COL_FIRST] = {"first_seq", 4, 1, FLEET_SEQ_MAX, true, 0},
    [COL_LAST] = {"last_seq", 4, 0, FLEET_SEQ_MAX, false, 0},
    [COL_ROWS] = {"row_count", 8, 0, PG_INT64_MAX, false, -1},
    [COL_SEQ] = {"seq", 4, 0, FLEET_SEQ_MAX, true, 0},
};

static int64
field_number(FleetAgentLink *agent, const PGresult *result, int row, int column)
{
    return fleet_agent_number(agent, result, row, column, &numbers[column]);
}

static FleetDiagnostics
field_diagnostics(FleetAgentLink *agent, const PGresult *result, int row)
{
    FleetDiagnostics diag = {
        .level = fleet_agent_text(agent, result, row, COL_LEVEL, FLEET_LEVEL_MAX),
        .sqlstate = fleet_agent_text(agent, result, row, COL_SQLSTATE, FLEET_SQLSTATE_LENGTH),
        .message = fleet_agent_text(agent, result, row, COL_MESSAGE, FLEET_MESSAGE_MAX),
        .detail = fleet_agent_text(agent, result, row, COL_DETAIL, FLEET_MESSAGE_MAX),
        .hint = fleet_agent_text(agent, result, row, COL_HINT, FLEET_MESSAGE_MAX),
        .context = fleet_agent_text(agent, result, row, COL_CONTEXT, FLEET_MESSAGE_MAX),
    };

    if (diag.sqlstate != NULL)
        diag.sqlstate = fleet_text_sqlstate(diag.sqlstate);
    return diag;
}

/* One that an execution of this kind can have, and that is reported. */
static int
report_state(FleetAgentLink *agent, const PGresult *result, int row, FleetMachine machine)
{
    int64 state = field_number(agent, result, row, COL_STATE);

    if (state <= 0 || state > FLEET_UNKNOWN ||
        !fleet_state_reaches(machine, FLEET_QUEUED, (FleetState) state))
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server reports a state that does not exist: %lld", (long long) state);
    return (int) state;
}

/* The rows of steps, and those of lines, come in the order of the log, each once. */
static void
check_order(FleetAgentLink *agent, int before, int seq)
{
    if (seq <= before)
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server reports a step or a line out of order");
}

static void
report_job(FleetAgentLink *agent, const PGresult *result, int row)
{
    FleetRemoteReport *report = &agent->report.report;

    report->state = report_state(agent, result, row, FLEET_MACHINE_JOB);
    report->log_seq = (int) field_number(agent, result, row, COL_SEQ);
    report->row_count = field_number(agent, result, row, COL_ROWS);
    report->diag = field_diagnostics(agent, result, row);
    report->output = fleet_agent_text(agent, result, row, COL_OUTPUT, FLEET_OUTPUT_MAX);
    report->started_at = fleet_agent_time(agent, result, row, COL_STARTED, "started_at", false);
    report->finished_at = fleet_agent_time(agent, result, row, COL_FINISHED, "finished_at", false);
}

static void
report_step(FleetAgentLink *agent, const PGresult *result, int row)
{
    AgentReport *r = &agent->report;
    FleetRemoteStep *step;

    r->steps = report_grow(r, r->steps, r->report.nsteps, &r->steps_capacity, sizeof(*r->steps));
    step = &r->steps[r->report.nsteps];
    step->step_no = (int) field_number(agent, result, row, COL_STEP_NO);
    step->attempt = (int) field_number(agent, result, row, COL_ATTEMPT);
    step->state = report_state(agent, result, row, FLEET_MACHINE_STEP);
    step->first_seq = (int) field_number(agent, result, row, COL_FIRST);
    step->last_seq = (int) field_number(agent, result, row, COL_LAST);
    step->row_count = field_number(agent, result, row, COL_ROWS);
    step->step = fleet_agent_text_required(agent, result, row, COL_STEP, 1024, "step");
    step->diag = field_diagnostics(agent, result, row);
    step->output = fleet_agent_text(agent, result, row, COL_OUTPUT, FLEET_OUTPUT_MAX);
    step->started_at = fleet_agent_time(agent, result, row, COL_STARTED, "started_at", true);
    step->finished_at = fleet_agent_time(agent, result, row, COL_FINISHED, "finished_at", false);
    check_order(agent, r->report.nsteps == 0 ? 0 : step[-1].first_seq, step->first_seq);
    if (!PQgetisnull(result, row, COL_LAST) && step->last_seq < step->first_seq)
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server reports a step that ended before it began");
    r->report.nsteps++;
}

static void
report_line(FleetAgentLink *agent, const PGresult *result, int row)
{
    AgentReport *r = &agent->report;
    FleetRemoteLine *line;

    r->lines = report_grow(r, r->lines, r->report.nlines, &r->lines_capacity, sizeof(*r->lines));
    line = &r->lines[r->report.nlines];
    line->step_no = (int) field_number(agent, result, row, COL_STEP_NO);
    line->seq = (int) field_number(agent, result, row, COL_SEQ);
    line->logged_at = fleet_agent_time(agent, result, row, COL_LOGGED, "logged_at", true);
    line->diag = field_diagnostics(agent, result, row);
    line->diag.level = fleet_text_level(
        fleet_agent_text_required(agent, result, row, COL_LEVEL, FLEET_LEVEL_MAX, "level"));
    line->diag.message =
        fleet_agent_text_required(agent, result, row, COL_MESSAGE, FLEET_MESSAGE_MAX, "message");
    check_order(agent, r->report.nlines == 0 ? 0 : line[-1].seq, line->seq);
    r->report.nlines++;
}

static void
report_open(FleetAgentLink *agent, int64 id)
{
    AgentChild *child = fleet_agent_by_id(agent, id);

    report_close(agent);
    agent->report.open = true;
    agent->report.id = id;
    if (child == NULL)
        return;
    if (child->reported == agent->fetches)
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server reports job run %lld twice in one answer", (long long) id);
    child->reported = agent->fetches;
}

static void
fetch_row(FleetAgentLink *agent, const PGresult *result, int row)
{
    int64 id = field_number(agent, result, row, COL_ID);
    int64 kind = field_number(agent, result, row, COL_KIND);

    if (agent->conn.lost)
        return;
    switch (kind)
    {
        case 'j':
            report_open(agent, id);
            report_job(agent, result, row);
            break;
        case 's':
        case 'l':
            if (!agent->report.open || agent->report.id != id)
                return; /* rows of a job run come after its own */
            if (kind == 's')
                report_step(agent, result, row);
            else
                report_line(agent, result, row);
            break;
        default:
            fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                            "the server reports a row of the unknown kind %d", (int) kind);
    }
    if (MemoryContextMemAllocated(agent->report.context, false) > REPORT_BYTES_MAX)
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROGRAM_LIMIT_EXCEEDED, false,
                        "the log of one job run is larger than %d MB",
                        REPORT_BYTES_MAX / (1024 * 1024));
}

/* ---- rows of the other calls ---- */

static int64
plain_number(FleetAgentLink *agent, const PGresult *result, int row, int column, const char *name,
             int width)
{
    FleetNumber number = {name,
                          width,
                          width == 8 ? PG_INT64_MIN : PG_INT32_MIN,
                          width == 8 ? PG_INT64_MAX : PG_INT32_MAX,
                          false,
                          0};

    return fleet_agent_number(agent, result, row, column, &number);
}

/* Which of the call's items it answers; 0: none. */
static int
answered_item(FleetAgentLink *agent, const AgentCall *call, const PGresult *result, int row)
{
    FleetNumber number = {"ord", 4, 1, call->n, true, 0};

    return (int) fleet_agent_number(agent, result, row, 0, &number);
}

/* A uuid, if it is one. */
static bool
get_hash(const PGresult *result, int row, int column, FleetToken *hash)
{
    if (PQgetisnull(result, row, column) || PQgetlength(result, row, column) != sizeof(*hash))
        return false;
    memcpy(hash, PQgetvalue(result, row, column), sizeof(*hash));
    return true;
}

static void
start_row(FleetAgentLink *agent, AgentCall *call, const PGresult *result, int row)
{
    int ord = answered_item(agent, call, result, row);
    int64 id = plain_number(agent, result, row, 1, "job_run_id", 8);
    AgentStart *start;
    StringInfoData text;
    MemoryContext before;

    if (agent->conn.lost)
        return;
    start = call->starts[ord - 1];
    start->id = id;
    start->known = PQgetlength(result, row, 2) == 1 && PQgetvalue(result, row, 2)[0] != 0;
    start->defined = get_hash(result, row, 5, &start->definition);
    if (start->id != 0)
        return;
    before = MemoryContextSwitchTo(agent->conn.link->context);
    initStringInfo(&text);
    fleet_text_append(&text, agent->conn.encoding, PQgetvalue(result, row, 4),
                      (size_t) PQgetlength(result, row, 4), 4096);
    MemoryContextSwitchTo(before);
    if (start->message != NULL)
        pfree(start->message);
    start->message = text.data;
    strlcpy(start->sqlstate, fleet_text_sqlstate(PQgetvalue(result, row, 3)),
            sizeof(start->sqlstate));
}

static void
resume_row(FleetAgentLink *agent, AgentCall *call, const PGresult *result, int row)
{
    int ord = answered_item(agent, call, result, row);
    int64 id = plain_number(agent, result, row, 1, "job_run_id", 8);

    if (agent->conn.lost)
        return;
    call->ids[ord - 1] = id;
    if (!get_hash(result, row, 3, &call->hashes[ord - 1]))
        memset(&call->hashes[ord - 1], 0, sizeof(FleetToken));
}

static void
hello_row(FleetAgentLink *agent, const PGresult *result)
{
    FleetLinkIdentity *identity = &agent->identity;
    int64 protocol = plain_number(agent, result, 0, 0, "protocol", 4);

    if (agent->conn.lost)
        return;
    if (protocol != FLEET_PROTOCOL)
    {
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_OTHER_PROTOCOL, true,
                        "the server speaks another protocol: %d", (int) protocol);
        return;
    }
    if (PQgetlength(result, 0, 2) == 16)
        fleet_text_from_uuid((const uint8 *) PQgetvalue(result, 0, 2), identity->instance);
    identity->system_identifier =
        (uint64) plain_number(agent, result, 0, 3, "system_identifier", 8);
    identity->identifier_known = identity->system_identifier != 0;
    identity->timeline = (uint32) plain_number(agent, result, 0, 4, "timeline", 4);
    agent->greeted = true;
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
                    missing ? NOT_INSTALLED : "",
                    message == NULL ? "?" : fleet_conn_text(&agent->conn, message));
}

static void
call_error(FleetAgentLink *agent, AgentCall *call, const PGresult *result)
{
    call->failed = true;
    strlcpy(call->sqlstate, fleet_text_sqlstate(PQresultErrorField(result, PG_DIAG_SQLSTATE)),
            sizeof(call->sqlstate));
    fleet_text_copy(call->message, sizeof(call->message), agent->conn.encoding,
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
    static const int columns[] = {[TAG_START] = 6, [TAG_RESUME] = 4, [TAG_FETCH] = COLUMNS};
    FleetAgentLink *agent = AGENT_OF(conn);
    ExecStatusType status = PQresultStatus(result);
    AgentCall *call = NULL;

    if (status == PGRES_FATAL_ERROR && (expect->tag == TAG_HELLO || expect->tag == TAG_LISTEN))
        setup_error(agent, result);
    else if (expect->tag == TAG_HELLO && PQntuples(result) == 1 && PQnfields(result) == 5)
        hello_row(agent, result);
    else if (expect->tag == TAG_INSTALLED && PQntuples(result) == 1 && PQnfields(result) == 1 &&
             strcmp(PQgetvalue(result, 0, 0), "0") == 0)
        fleet_conn_fail(conn, FLEET_SQLSTATE_INVALID_SCHEMA_NAME, true, NOT_INSTALLED "%s",
                        "the extension was dropped");
    if (expect->tag >= TAG_START && !dlist_is_empty(&agent->sent))
        call = dlist_head_element(AgentCall, node, &agent->sent);
    if (call != NULL && expect->tag == TAG_PREPARE_CALL && status == PGRES_FATAL_ERROR)
    {
        call_error(agent, call, result); /* the call itself is skipped */
        agent->prepared &= ~(1U << call->tag);
    }
    if (call == NULL || call->tag != expect->tag)
        return;
    if (status == PGRES_FATAL_ERROR && is_stale(call, result))
        fleet_conn_fail(conn, PQresultErrorField(result, PG_DIAG_SQLSTATE), false, "%s",
                        fleet_conn_text(conn, PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)));
    else if (status == PGRES_FATAL_ERROR)
        call_error(agent, call, result);
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
                resume_row(agent, call, result, row);
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
start_known(FleetAgentLink *agent, AgentStart *start)
{
    AgentChild *child = fleet_agent_child(agent, &start->token, true);

    fleet_agent_known(agent, child, start->id);
    /* It may have ended, and have told so to a parent that has lost it since: nothing will notify of
     * it again. */
    if (start->known && child->id != 0)
        fleet_agent_dirty(agent, child);
    fleet_link_callbacks.started(agent->conn.link, &start->token, FLEET_STARTED,
                                 start->defined ? &start->definition : NULL, NULL, NULL);
}

/* If it lacks the document: because it has refused it, or has it no longer. */
static void
start_refused(FleetAgentLink *agent, AgentStart *start)
{
    FleetServerLink *link = agent->conn.link;
    bool lacks =
        start->by_hash && fleet_sqlstate_is(start->sqlstate, FLEET_SQLSTATE_LACKS_DEFINITION);
    const AgentDocument *document = lacks ? fleet_agent_document(agent, &start->hash) : NULL;

    if (document != NULL && document->state == DOCUMENT_REFUSED)
        fleet_link_callbacks.started(link, &start->token, FLEET_NOT_STARTED, NULL,
                                     document->sqlstate, document->message);
    else if (lacks)
    {
        fleet_agent_document_lacks(agent, &start->hash);
        fleet_link_callbacks.started(link, &start->token, FLEET_START_LACKS, NULL, NULL, NULL);
    }
    else
        fleet_link_callbacks.started(
            link, &start->token, FLEET_NOT_STARTED, NULL,
            start->sqlstate[0] != '\0' ? start->sqlstate : FLEET_SQLSTATE_INTERNAL_ERROR,
            start->message != NULL ? start->message : "the server gave no answer");
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
        if (!call->failed && call->starts[i]->id != 0)
            start_known(agent, call->starts[i]);
        else if (call->failed)
            fleet_link_callbacks.started(link, &call->starts[i]->token, FLEET_NOT_STARTED, NULL,
                                         call->sqlstate, call->message);
        else
            start_refused(agent, call->starts[i]);
    }
}

static bool
is_null_hash(const FleetToken *hash)
{
    static const FleetToken none;

    return memcmp(hash, &none, sizeof(none)) == 0;
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
        if (call->ids[i] != NO_ANSWER)
            continue;
        /* Silence is no outcome. */
        dlist_push_head(&agent->sent, &call->node);
        call->failed = true; /* kept: it is asked again after the reconnect */
        fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                        "the server does not say what it knows of %d job runs", call->n);
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
        fleet_link_callbacks.resumed(agent->conn.link, &call->tokens[i], known,
                                     is_null_hash(&call->hashes[i]) ? NULL : &call->hashes[i]);
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

/* What the parent wants stopped is asked for until the server takes it. */
static void
cancel_done(FleetAgentLink *agent, const AgentCall *call)
{
    FleetServerLink *link = agent->conn.link;

    if (!call->failed)
    {
        agent->cancel_wait = 0;
        return;
    }
    agent->cancel_wait = Min(Max(agent->cancel_wait * 2, CANCEL_AGAIN_MIN), CANCEL_AGAIN_MAX);
    agent->cancel_again = fleet_link_now() + agent->cancel_wait;
    fleet_link_due_at(agent->cancel_again);
    fleet_link_callbacks.trouble(link, "a cancel was refused", call->message);
}

static void
document_done(FleetAgentLink *agent, AgentCall *call)
{
    const FleetToken *hash = &call->deploy->hash;

    if (!call->failed)
        fleet_agent_document_there(agent, hash);
    else if (is_transient(call->sqlstate))
    {
        dlist_push_head(&agent->documents, &call->deploy->node);
        call->deploy = NULL;
        fleet_conn_fail(&agent->conn, call->sqlstate, false, "%s", call->message);
    }
    else
        fleet_agent_document_refused(agent, hash, call->sqlstate, call->message);
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
        case TAG_DOCUMENT: document_done(agent, call); break;
        case TAG_CANCEL: cancel_done(agent, call); break;
        case TAG_ACKNOWLEDGE:
            if (call->failed)
                ereport(LOG, (errmsg("pg_fleet: server \"%s\" refused an acknowledgement: %s",
                                     link->server_name, call->message)));
            break;
        case TAG_HELLO:
        case TAG_PREPARE_CALL:
        case TAG_INSTALLED:
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
