/*
 * link/agent_report.c
 *     Mode agent: rows of fleet.agent_fetch() become reports.
 *
 * In the agent's process, called by agent_mode.c from fleet_loop_wait() only.
 *
 * Rows come one at a time, those of one job run after each other, its own row
 * first.  They are copied until the job run's last one, and then given to the
 * agent as one report.  All of it is another server's word: every number is
 * checked and every text made valid before it is passed on.
 */
#include "postgres.h"

#include "core/state.h"
#include "datatype/timestamp.h"
#include "link/agent_internal.h"
#include "port/pg_bswap.h"
#include "utils/memutils.h"

#define FETCH_COLUMNS 20
#define REPORT_BYTES_MAX ((size_t) 256 * 1024 * 1024)
#define SEQ_MAX 1000000000 /* numbers of log lines are added to a base */

struct AgentReport
{
    MemoryContext context;
    AgentToken *token; /* NULL: rows are skipped */
    int64 job_run_id;  /* of the rows that come now; 0: none */
    FleetRemoteReport head;
    FleetRemoteStep *steps;
    FleetRemoteLine *lines;
    int nsteps, steps_capacity, nlines, lines_capacity;
    int log_after;
    size_t bytes;
};

AgentReport *
fleet_agent_report_create(MemoryContext context)
{
    AgentReport *report = MemoryContextAllocZero(context, sizeof(AgentReport));

    report->context = AllocSetContextCreate(context, "fleet report", ALLOCSET_DEFAULT_SIZES);
    return report;
}

void
fleet_agent_report_reset(AgentReport *report)
{
    MemoryContext context = report->context;

    MemoryContextReset(context);
    memset(report, 0, sizeof(*report));
    report->context = context;
}

void
fleet_agent_report_forget(AgentReport *report, const AgentToken *token)
{
    if (report->token == token)
        report->token = NULL;
}

/* ---- columns ---- */

bool
fleet_agent_int(const PGresult *result, int row, int column, int64 *value)
{
    const char *at = PQgetvalue(result, row, column);
    uint64 wide;
    uint32 narrow;

    *value = 0;
    if (PQgetisnull(result, row, column))
        return false;
    switch (PQgetlength(result, row, column))
    {
        case 8:
            memcpy(&wide, at, 8);
            *value = (int64) pg_ntoh64(wide);
            return true;
        case 4:
            memcpy(&narrow, at, 4);
            *value = (int32) pg_ntoh32(narrow);
            return true;
        default: return false;
    }
}

/* False: not between the two. */
static bool
number(const PGresult *result, int column, int64 min, int64 max, int *value)
{
    int64 wide;

    if (!fleet_agent_int(result, 0, column, &wide) || wide < min || wide > max)
        return false;
    *value = (int) wide;
    return true;
}

static bool
state_of(const PGresult *result, int column, int *state)
{
    return number(result, column, FLEET_QUEUED, FLEET_UNKNOWN, state) &&
           (*state <= FLEET_CANCELING || *state >= FLEET_SUCCEEDED);
}

static int64
time_of(const PGresult *result, int column)
{
    int64 time;

    if (!fleet_agent_int(result, 0, column, &time) || PQgetlength(result, 0, column) != 8 ||
        !IS_VALID_TIMESTAMP(time))
        return 0;
    return time;
}

static int64
count_of(const PGresult *result, int column)
{
    int64 count;

    return fleet_agent_int(result, 0, column, &count) && count >= 0 ? count : -1;
}

/* A copy in the report's context (the current one); NULL stays NULL. */
static const char *
text_of(AgentReport *report, const PGresult *result, int column, size_t cap)
{
    const char *s = PQgetvalue(result, 0, column);
    const char *clean;

    if (PQgetisnull(result, 0, column))
        return NULL;
    clean = fleet_text_clean(s, cap);
    report->bytes += strlen(clean);
    return clean == s ? pstrdup(s) : clean;
}

static const char *
level_of(const PGresult *result, int column)
{
    static const char *const levels[] = {"DEBUG", "LOG", "INFO", "NOTICE", "WARNING", "ERROR"};
    const char *s = PQgetvalue(result, 0, column);

    for (int i = 0; i < (int) lengthof(levels); i++)
    {
        if (strcmp(s, levels[i]) == 0)
            return levels[i];
    }
    return "NOTICE";
}

static void *
grow(MemoryContext context, void *array, int n, int *capacity, size_t size)
{
    if (n < *capacity)
        return array;
    *capacity = *capacity == 0 ? 8 : *capacity * 2;
    return array == NULL ? MemoryContextAllocHuge(context, size * (size_t) *capacity)
                         : repalloc_huge(array, size * (size_t) *capacity);
}

/* ---- rows; columns as in fleet.agent_fetch() ---- */

static bool
take_job(FleetAgentLink *agent, AgentReport *report, const PGresult *result)
{
    FleetRemoteReport *head = &report->head;

    if (report->job_run_id == 0 || report->token == NULL)
        return true;
    strlcpy(head->token, report->token->token, sizeof(head->token));
    if (!state_of(result, 4, &head->state))
        return false;
    (void) number(result, 19, 0, SEQ_MAX, &head->log_seq);
    head->row_count = count_of(result, 7);
    head->sqlstate = text_of(report, result, 10, 5);
    head->message = text_of(report, result, 11, FLEET_MESSAGE_MAX);
    head->output = text_of(report, result, 15, FLEET_OUTPUT_MAX);
    head->started_at = time_of(result, 16);
    head->finished_at = time_of(result, 17);
    return true;
}

static bool
take_step(AgentReport *report, const PGresult *result)
{
    FleetRemoteStep *step;

    report->steps = grow(report->context, report->steps, report->nsteps, &report->steps_capacity,
                         sizeof(FleetRemoteStep));
    step = &report->steps[report->nsteps];
    memset(step, 0, sizeof(*step));
    if (!number(result, 2, 1, PG_INT16_MAX, &step->step_no) ||
        !number(result, 3, 0, PG_INT16_MAX, &step->attempt) || !state_of(result, 4, &step->state) ||
        !number(result, 5, 1, SEQ_MAX, &step->first_seq))
        return false;
    if (!PQgetisnull(result, 0, 6) &&
        !number(result, 6, step->first_seq, SEQ_MAX, &step->last_seq))
        return false;
    step->row_count = count_of(result, 7);
    step->step = text_of(report, result, 8, 800);
    if (step->step == NULL)
        step->step = "";
    step->sqlstate = text_of(report, result, 10, 5);
    step->message = text_of(report, result, 11, FLEET_MESSAGE_MAX);
    step->detail = text_of(report, result, 12, FLEET_MESSAGE_MAX);
    step->hint = text_of(report, result, 13, FLEET_MESSAGE_MAX);
    step->context = text_of(report, result, 14, FLEET_MESSAGE_MAX);
    step->output = text_of(report, result, 15, FLEET_OUTPUT_MAX);
    step->started_at = time_of(result, 16);
    step->finished_at = time_of(result, 17);
    report->log_after = Max(report->log_after, Max(step->first_seq, step->last_seq));
    report->nsteps++;
    return true;
}

static bool
take_line(AgentReport *report, const PGresult *result)
{
    FleetRemoteLine *line;

    report->lines = grow(report->context, report->lines, report->nlines, &report->lines_capacity,
                         sizeof(FleetRemoteLine));
    line = &report->lines[report->nlines];
    memset(line, 0, sizeof(*line));
    if (!number(result, 2, 1, PG_INT16_MAX, &line->step_no) ||
        !number(result, 19, 1, SEQ_MAX, &line->seq))
        return false;
    line->logged_at = time_of(result, 18);
    if (line->logged_at == 0)
        line->logged_at = fleet_clock_wall();
    line->level = level_of(result, 9);
    line->sqlstate = text_of(report, result, 10, 5);
    line->message = text_of(report, result, 11, FLEET_MESSAGE_MAX);
    if (line->message == NULL)
        line->message = "";
    line->detail = text_of(report, result, 12, FLEET_MESSAGE_MAX);
    line->hint = text_of(report, result, 13, FLEET_MESSAGE_MAX);
    line->context = text_of(report, result, 14, FLEET_MESSAGE_MAX);
    report->log_after = Max(report->log_after, line->seq);
    report->nlines++;
    return true;
}

/* The rows of one job run are complete. */
void
fleet_agent_report_end(FleetAgentLink *agent)
{
    AgentReport *report = agent->report;
    AgentToken *token = report->token;
    FleetRemoteReport head;

    if (token != NULL)
    {
        token->log_after = Max(token->log_after, report->log_after);
        if (!token->final && FLEET_STATE_IS_FINAL((FleetState) report->head.state))
        {
            token->final = true;
            agent->open--;
        }
        head = report->head;
        head.steps = report->steps;
        head.nsteps = report->nsteps;
        head.lines = report->lines;
        head.nlines = report->nlines;
        report->token = NULL;
        fleet_on_report(agent->link, &head);
    }
    fleet_agent_report_reset(report);
}

void
fleet_agent_report_row(FleetAgentLink *agent, const PGresult *result)
{
    AgentReport *report = agent->report;
    MemoryContext before;
    int64 id;
    bool good = false;

    if (PQnfields(result) != FETCH_COLUMNS || PQgetlength(result, 0, 0) != 1 ||
        !fleet_agent_int(result, 0, 1, &id))
    {
        fleet_conn_fail(&agent->conn, "08P01", false, "the server's report is not understood");
        return;
    }
    if (id != report->job_run_id)
    {
        fleet_agent_report_end(agent);
        report->job_run_id = id;
        /* what was not asked for, or is acknowledged meanwhile, is skipped */
        report->token =
            PQgetvalue(result, 0, 0)[0] == 'j' ? fleet_agent_token_by_id(agent, id) : NULL;
    }
    if (report->token == NULL)
        return;
    before = MemoryContextSwitchTo(report->context);
    switch (PQgetvalue(result, 0, 0)[0])
    {
        case 'j': good = take_job(agent, report, result); break;
        case 's': good = take_step(report, result); break;
        case 'l': good = take_line(report, result); break;
        default: break; /* not one of ours */
    }
    MemoryContextSwitchTo(before);
    report->bytes += sizeof(FleetRemoteStep);
    if (!good)
        fleet_conn_fail(&agent->conn, "08P01", false, "the server's report makes no sense");
    else if (report->bytes > REPORT_BYTES_MAX)
        fleet_conn_fail(&agent->conn, "54000", true, "the report of one job run is too large");
}
