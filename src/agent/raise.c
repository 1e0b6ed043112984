/*
 * agent/raise.c
 *     Events (agent/raise.h).  In the agent's process.
 *
 * They are collected in a turn, and become rows with what they tell of, in one
 * statement and a subtransaction: should it raise (a trigger of an
 * administrator), the events of the turn are lost, and the log says so, but the
 * rows are not.  After the commit it is known to hooks which kinds there were
 * (agent_raised_last()), and the server's log gets its lines, as many a second
 * as a person can read.
 */
#include "postgres.h"

#include "agent/raise.h"
#include "agent/notice.h"
#include "guc.h"
#include "lib/stringinfo.h"
#include "store/event.h"
#include "utils/memutils.h"

#define MESSAGE_MAX 4000   /* bytes */
#define LINES_A_SECOND 100 /* of the server's log */

static MemoryContext context; /* of "rows" and their texts; NULL: there were none yet */
static FleetEventRow *rows;
static int nrows, capacity;
static int64 last[FLEET_RAISED_COUNT]; /* number of the last one that is stored, by kind */
static uint32 watched;
static bool stored; /* they have become rows of a transaction that is open */

static FleetEventRow *
row_new(FleetRaised kind, const char *package, const char *sqlstate, const char *message)
{
    FleetEventRow *row;

    if (context == NULL)
        context = AllocSetContextCreate(agent.context, "pg_fleet events", ALLOCSET_SMALL_SIZES);
    if (rows == NULL)
        rows = MemoryContextAlloc(context, sizeof(FleetEventRow) * (Size) (capacity = 16));
    else if (nrows == capacity)
        rows = repalloc_huge(rows, sizeof(FleetEventRow) * (Size) (capacity *= 2));
    row = &rows[nrows++];
    *row = (FleetEventRow){.kind = kind,
                           .at = fleet_clock_wall(),
                           .package = agent_strdup(context, package),
                           .sqlstate = agent_strdup(context, sqlstate)};
    if (message != NULL)
    {
        MemoryContext before = MemoryContextSwitchTo(context);

        row->message = fleet_clip(message, MESSAGE_MAX);
        MemoryContextSwitchTo(before);
    }
    turn_again();
    return row;
}

void
agent_raise_run(const AgentRun *run, FleetRaised kind, const char *message)
{
    FleetEventRow *row;

    if (kind == FLEET_RAISED_NOTHING || run->nested)
        return;
    row = row_new(kind, run->def->name, NULL, message);
    row->run_id = run->run_id;
    row->owner = run->owner;
    row->hook_depth = run->hook_depth;
}

/* A run of which nothing had to be done begins and ends in one turn. */
void
agent_raise_run_state(const AgentRun *run, FleetState was, FleetState is)
{
    bool tells = is == FLEET_FAILED || is == FLEET_CANCELED;

    if (was == is)
        return;
    if (was == FLEET_QUEUED && (is == FLEET_SUCCEEDED || is == FLEET_FAILED))
        agent_raise_run(run, FLEET_RAISED_RUN_STARTED, NULL);
    agent_raise_run(run, fleet_raised_of_run(is), tells ? run->message : NULL);
}

void
agent_raise_run_unread(const FleetRunRow *row, const FleetDiagnostics *why)
{
    FleetEventRow *event =
        row_new(FLEET_RAISED_RUN_FAILED, row->package, why->sqlstate, why->message);

    event->run_id = row->run_id;
    event->owner = row->owner;
    event->hook_depth = row->hook_depth;
}

void
agent_raise_task_kind(const AgentRun *run, FleetTaskRef ref, FleetRaised kind, int server_id,
                      const FleetDiagnostics *why)
{
    FleetEventRow *row = row_new(kind, run->def->name, why->sqlstate, why->message);

    row->run_id = run->run_id;
    row->owner = run->owner;
    row->hook_depth = run->hook_depth;
    row->task = MemoryContextStrdup(context, run->def->tasks[ref.task].name);
    row->item = (int) ref.item;
    row->server_id = server_id;
}

void
agent_raise_server(int server_id, FleetRaised kind, const char *sqlstate, const char *message)
{
    row_new(kind, NULL, sqlstate, message)->server_id = server_id;
}

void
agent_raise(FleetRaised kind, Oid owner, const char *package, const char *sqlstate,
            const char *message)
{
    row_new(kind, package, sqlstate, message)->owner = owner;
}

bool
agent_raised_pending(void)
{
    return nrows > 0;
}

/* ---- rows ---- */

static void
store(void *arg)
{
    fleet_events_write(rows, nrows);
}

/* Whoever listens sees it, whatever he may see otherwise: numbers and kinds, no name and no text. */
static void
announce(const FleetEventRow *row)
{
    StringInfoData json;

    initStringInfo(&json);
    appendStringInfo(&json, "{\"event_id\": " INT64_FORMAT ", \"kind\": \"%s\"", row->event_id,
                     fleet_raised_name(row->kind));
    if (row->run_id != 0)
        appendStringInfo(&json, ", \"run_id\": " INT64_FORMAT, row->run_id);
    if (row->item != 0)
        appendStringInfo(&json, ", \"item\": %d", row->item);
    if (row->server_id != 0)
        appendStringInfo(&json, ", \"server_id\": %d", row->server_id);
    appendStringInfoChar(&json, '}');
    agent_notice_event(json.data);
    pfree(json.data);
}

static void
forget(void)
{
    rows = NULL;
    nrows = 0;
    stored = false;
    MemoryContextReset(context);
}

void
agent_raised_flush(void)
{
    FleetDiagnostics failure;

    if (nrows == 0)
        return;
    if (!agent_protected(store, NULL, &failure))
    {
        ereport(LOG, (errmsg_plural("%d event could not be stored: %s",
                                    "%d events could not be stored: %s", (unsigned long) nrows,
                                    nrows, failure.message)));
        forget();
        return;
    }
    stored = true;
    for (int i = 0; i < nrows; i++)
        announce(&rows[i]);
}

void
agent_raised_watch(uint32 kinds)
{
    watched = kinds;
}

int64
agent_raised_last(uint32 kinds)
{
    int64 newest = 0;

    for (int kind = 0; kind < FLEET_RAISED_COUNT; kind++)
    {
        if ((kinds & FLEET_RAISED_BIT(kind)) != 0)
            newest = Max(newest, last[kind]);
    }
    return newest;
}

/* ---- the server's log ---- */

static bool
is_wanted(FleetRaised kind)
{
    FleetRaisedLog log = fleet_raised_log(kind);

    return (fleet_guc_log_events == FLEET_LOG_EVENTS_ALL && log != FLEET_RAISED_LOG_OWN) ||
           (fleet_guc_log_events == FLEET_LOG_EVENTS_FAILURES && log == FLEET_RAISED_LOG_FAILURES);
}

/* True: there is room for one more line in this second.  How many were left out is said in the next. */
static bool
may_say(void)
{
    static FleetTime second = 0;
    static int lines = 0, left_out = 0;
    FleetTime now = fleet_clock_now() / FLEET_SECONDS(1);

    if (now != second)
    {
        if (left_out > 0)
            ereport(LOG, (errmsg_plural("%d more event is in fleet.event only",
                                        "%d more events are in fleet.event only",
                                        (unsigned long) left_out, left_out)));
        second = now;
        lines = left_out = 0;
    }
    if (lines < LINES_A_SECOND)
        return ++lines > 0;
    left_out++;
    return false;
}

static const char *
place_of(const FleetEventRow *row)
{
    StringInfoData out;

    initStringInfo(&out);
    if (row->package != NULL && row->package[0] != '\0')
        appendStringInfo(&out, "package \"%s\"", row->package);
    if (row->run_id != 0)
        appendStringInfo(&out, "%srun " INT64_FORMAT, out.len > 0 ? ", " : "", row->run_id);
    if (row->task != NULL)
        appendStringInfo(&out, ", task \"%s\"", row->task);
    if (row->item != 0)
        appendStringInfo(&out, ", item %d", row->item);
    if (row->server != NULL)
        appendStringInfo(&out, "%sserver \"%s\"", out.len > 0 ? ", " : "", row->server);
    return out.data;
}

/* "run_failed" is said as "run failed". */
static const char *
said(FleetRaised kind)
{
    char *name = pstrdup(fleet_raised_name(kind));

    for (char *c = name; *c != '\0'; c++)
    {
        if (*c == '_')
            *c = ' ';
    }
    return name;
}

static void
say(const FleetEventRow *row)
{
    const char *where = place_of(row);

    ereport(LOG, (errmsg("%s%s%s", said(row->kind), row->message != NULL ? ": " : "",
                         row->message != NULL ? row->message : ""),
                  row->sqlstate != NULL ? errdetail("SQLSTATE: %s", row->sqlstate) : 0,
                  where[0] != '\0' ? errcontext("%s", where) : 0));
}

void
agent_raised_committed(void)
{
    if (!stored)
        return;
    for (int i = 0; i < nrows; i++)
    {
        last[rows[i].kind] = rows[i].event_id;
        if ((watched & FLEET_RAISED_BIT(rows[i].kind)) != 0)
            turn_again();
        if (is_wanted(rows[i].kind) && may_say())
            say(&rows[i]);
    }
    forget();
}
