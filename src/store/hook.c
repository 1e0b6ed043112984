/*
 * store/hook.c
 *     Rows of hooks (store/hook.h).
 *
 * What a hook does may be long, and any role has a hundred hooks: the agent
 * reads all of them when one has changed, and so without that, and without
 * anything that is made of it.  A row that has changed has another xmin.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "clock.h"
#include "lib/stringinfo.h"
#include "store/hook.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static FleetStatement tidy_statement = {
    "DELETE FROM fleet_catalog.hook_state AS s WHERE NOT EXISTS"
    " (SELECT FROM fleet_catalog.hook AS h WHERE h.hook_id OPERATOR(pg_catalog.=) s.hook_id)",
    0,
    {0},
    NULL};

static FleetStatement read_statement = {
    "SELECT h.hook_id, h.name, h.owner, h.on_event, h.package, h.job, h.retries,"
    "       fleet_catalog.microseconds(h.retry_wait), fleet_catalog.microseconds(h.timeout),"
    "       fleet_catalog.microseconds(h.max_age), h.max_depth,"
    "       GREATEST(h.since_event, s.last_event), COALESCE(s.failures, 0), "
    "h.xmin::pg_catalog.text,"
    "       COALESCE(s.called, 0), COALESCE(s.cuts, 0)"
    "  FROM fleet_catalog.hook AS h LEFT JOIN fleet_catalog.hook_state AS s"
    "    ON s.hook_id OPERATOR(pg_catalog.=) h.hook_id"
    " WHERE h.enabled ORDER BY h.hook_id",
    0,
    {0},
    NULL};

static FleetStatement sql_statement = {
    "SELECT h.sql FROM fleet_catalog.hook AS h WHERE h.hook_id OPERATOR(pg_catalog.=) $1",
    1,
    {INT4OID},
    NULL};

static FleetStatement called_statement = {
    "INSERT INTO fleet_catalog.hook_call"
    " (hook_id, event_id, state, attempts, started_at, finished_at, sqlstate, message)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (hook_id, event_id) DO NOTHING",
    8,
    {INT4OID, INT8OID, INT2OID, INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID},
    NULL};

static FleetStatement at_statement = {
    "INSERT INTO fleet_catalog.hook_state"
    " (hook_id, last_event, failures, sqlstate, message, failed_at)"
    " VALUES ($1, $2, $3, $4, $5, $6)"
    " ON CONFLICT (hook_id) DO UPDATE SET last_event = excluded.last_event,"
    "   failures = excluded.failures, sqlstate = excluded.sqlstate, message = excluded.message,"
    "   failed_at = excluded.failed_at",
    6,
    {INT4OID, INT8OID, INT4OID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
    NULL};

static FleetStatement calls_statement = {
    "INSERT INTO fleet_catalog.hook_state (hook_id, last_event, called, cuts)"
    " VALUES ($1, $2, NULLIF($3, 0), $4)"
    " ON CONFLICT (hook_id) DO UPDATE SET called = excluded.called, cuts = excluded.cuts",
    4,
    {INT4OID, INT8OID, INT8OID, INT4OID},
    NULL};

static FleetStatement place_statement = {
    "INSERT INTO fleet_catalog.hook_state (hook_id, last_event) VALUES ($1, $2)"
    " ON CONFLICT (hook_id) DO UPDATE SET last_event = excluded.last_event",
    2,
    {INT4OID, INT8OID},
    NULL};

static void
row_read(HeapTuple tuple, TupleDesc desc, MemoryContext context, FleetHookRow *row)
{
    row->hook_id = (int32) fleet_column_int(tuple, desc, 1, 0);
    row->name = fleet_column_text(tuple, desc, 2, context);
    row->owner = (Oid) fleet_column_int(tuple, desc, 3, InvalidOid);
    fleet_column_names(tuple, desc, 4, context, &row->on_event);
    row->package = fleet_column_text(tuple, desc, 5, context);
    row->job = fleet_column_text(tuple, desc, 6, context);
    row->retries = (int) fleet_column_int(tuple, desc, 7, 0);
    row->retry_wait = fleet_column_int(tuple, desc, 8, 0);
    row->timeout = fleet_column_int(tuple, desc, 9, 0);
    row->max_age = fleet_column_int(tuple, desc, 10, 0);
    row->max_depth = (int) fleet_column_int(tuple, desc, 11, 0);
    row->place = fleet_column_int(tuple, desc, 12, 0);
    row->failures = (int) fleet_column_int(tuple, desc, 13, 0);
    row->version = fleet_column_text(tuple, desc, 14, context);
    row->called = fleet_column_int(tuple, desc, 15, 0);
    row->cuts = (int) fleet_column_int(tuple, desc, 16, 0);
}

uint32
fleet_hook_kinds(const FleetNames *names)
{
    uint32 kinds = 0;

    for (int kind = FLEET_RAISED_NOTHING + 1; kind < FLEET_RAISED_COUNT; kind++)
    {
        if (kind != FLEET_RAISED_HOOK_FAILED &&
            fleet_names_have(names, fleet_raised_name((FleetRaised) kind)))
            kinds |= FLEET_RAISED_BIT(kind);
    }
    return kinds;
}

/* Names of kinds have nothing in them that would have to be quoted. */
char *
fleet_hook_kind_array(uint32 kinds)
{
    StringInfoData out;

    initStringInfo(&out);
    for (int kind = 0; kind < FLEET_RAISED_COUNT; kind++)
    {
        if ((kinds & FLEET_RAISED_BIT(kind)) != 0)
            appendStringInfo(&out, "%s%s", out.len > 0 ? "," : "",
                             fleet_raised_name((FleetRaised) kind));
    }
    return psprintf("'{%s}'::pg_catalog.text[]", out.data);
}

int
fleet_hook_read(FleetHookRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    SPITupleTable *table;
    int count;

    (void) fleet_statement_run(&tidy_statement, NULL, NULL);
    count = (int) fleet_statement_run(&read_statement, NULL, NULL);
    table = SPI_tuptable;
    *rows = MemoryContextAllocHuge(context, sizeof(FleetHookRow) * (Size) Max(count, 1));
    for (int i = 0; i < count; i++)
        row_read(table->vals[i], table->tupdesc, context, &(*rows)[i]);
    SPI_freetuptable(table);
    return count;
}

char *
fleet_hook_sql(int32 hook_id)
{
    Datum value = Int32GetDatum(hook_id);

    return fleet_statement_text(&sql_statement, &value);
}

static Datum
text_or_null(const char *text, char *null)
{
    *null = text == NULL ? 'n' : ' ';
    return text == NULL ? (Datum) 0 : CStringGetTextDatum(text);
}

void
fleet_hook_called(int32 hook_id, const FleetHookCall *call, const FleetDiagnostics *why)
{
    char nulls[] = "        ";
    Datum values[] = {Int32GetDatum(hook_id),
                      Int64GetDatum(call->event_id),
                      Int16GetDatum((int16) call->state),
                      Int32GetDatum(call->attempts),
                      TimestampTzGetDatum(call->started_at),
                      TimestampTzGetDatum(call->finished_at),
                      text_or_null(why == NULL ? NULL : why->sqlstate, &nulls[6]),
                      text_or_null(why == NULL ? NULL : why->message, &nulls[7])};

    (void) fleet_statement_run(&called_statement, values, nulls);
}

void
fleet_hook_calls(int32 hook_id, int64 place, int64 event_id, int cuts)
{
    Datum values[] = {Int32GetDatum(hook_id), Int64GetDatum(place), Int64GetDatum(event_id),
                      Int32GetDatum(cuts)};

    (void) fleet_statement_run(&calls_statement, values, NULL);
}

void
fleet_hook_place(int32 hook_id, int64 place)
{
    Datum values[] = {Int32GetDatum(hook_id), Int64GetDatum(place)};

    (void) fleet_statement_run(&place_statement, values, NULL);
}

void
fleet_hook_at(int32 hook_id, int64 place, int failures, const FleetDiagnostics *why)
{
    char nulls[] = "      ";
    Datum values[] = {Int32GetDatum(hook_id),
                      Int64GetDatum(place),
                      Int32GetDatum(failures),
                      text_or_null(why == NULL ? NULL : why->sqlstate, &nulls[3]),
                      text_or_null(why == NULL ? NULL : why->message, &nulls[4]),
                      TimestampTzGetDatum(fleet_clock_wall())};

    if (why == NULL)
        nulls[5] = 'n';
    (void) fleet_statement_run(&at_statement, values, nulls);
}
