/*
 * store/schedule.c
 *     Rows of schedules (store/schedule.h).
 *
 * The agent reads all of them when one has changed, and so without params_sql,
 * which may be long.  A row that has changed has another xmin.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "clock.h"
#include "store/schedule.h"
#include "store/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static FleetStatement tidy_statement = {
    "DELETE FROM fleet_catalog.schedule_failure AS f WHERE NOT EXISTS"
    " (SELECT FROM fleet_catalog.schedule AS s"
    "   WHERE s.schedule_id OPERATOR(pg_catalog.=) f.schedule_id)",
    0,
    {0},
    NULL};

static FleetStatement read_statement = {
    "SELECT s.schedule_id, s.name, s.package, COALESCE(p.owner, j.owner), s.cron, s.time_zone,"
    "       s.missed, s.params_sql IS NOT NULL, GREATEST(s.since, t.last_time),"
    "       pg_catalog.concat_ws('/', s.name, s.package, s.job, COALESCE(p.owner, j.owner), s.cron,"
    "         s.time_zone, s.missed, s.since, s.xmin), COALESCE(f.failures, 0)"
    "  FROM fleet_catalog.schedule AS s"
    "  LEFT JOIN fleet_catalog.package AS p ON p.name OPERATOR(pg_catalog.=) s.package"
    "  LEFT JOIN fleet_catalog.job AS j ON j.name OPERATOR(pg_catalog.=) s.job"
    "  LEFT JOIN fleet_catalog.schedule_state AS t"
    "    ON t.schedule_id OPERATOR(pg_catalog.=) s.schedule_id"
    "  LEFT JOIN fleet_catalog.schedule_failure AS f"
    "    ON f.schedule_id OPERATOR(pg_catalog.=) s.schedule_id"
    " WHERE s.enabled ORDER BY s.schedule_id",
    0,
    {0},
    NULL};

static FleetStatement params_statement = {"SELECT s.params_sql FROM fleet_catalog.schedule AS s"
                                          " WHERE s.schedule_id OPERATOR(pg_catalog.=) $1",
                                          1,
                                          {INT4OID},
                                          NULL};

static FleetStatement failed_statement = {
    "INSERT INTO fleet_catalog.schedule_failure AS f"
    " (schedule_id, scheduled_for, sqlstate, message, failed_at) VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (schedule_id) DO UPDATE SET scheduled_for = excluded.scheduled_for,"
    "   sqlstate = excluded.sqlstate, message = excluded.message, failed_at = excluded.failed_at,"
    "   failures = f.failures OPERATOR(pg_catalog.+) 1",
    5,
    {INT4OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TIMESTAMPTZOID},
    NULL};

static FleetStatement fired_statement = {"DELETE FROM fleet_catalog.schedule_failure AS f"
                                         " WHERE f.schedule_id OPERATOR(pg_catalog.=) $1",
                                         1,
                                         {INT4OID},
                                         NULL};

int
fleet_schedule_read(FleetScheduleRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    SPITupleTable *table;
    int count;

    (void) fleet_statement_run(&tidy_statement, NULL, NULL);
    count = (int) fleet_statement_run(&read_statement, NULL, NULL);
    table = SPI_tuptable;
    *rows = MemoryContextAllocHuge(context, sizeof(FleetScheduleRow) * (Size) Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        TupleDesc desc = table->tupdesc;
        FleetScheduleRow *row = &(*rows)[i];

        row->schedule_id = (int32) fleet_column_int(tuple, desc, 1, 0);
        row->name = fleet_column_text(tuple, desc, 2, context);
        row->package = fleet_column_text(tuple, desc, 3, context);
        row->owner = (Oid) fleet_column_int(tuple, desc, 4, InvalidOid);
        row->cron = fleet_column_text(tuple, desc, 5, context);
        row->time_zone = fleet_column_text(tuple, desc, 6, context);
        row->missed = fleet_column_text(tuple, desc, 7, context);
        row->evaluates = fleet_column_bool(tuple, desc, 8);
        row->since = fleet_column_int(tuple, desc, 9, 0);
        row->version = fleet_column_text(tuple, desc, 10, context);
        row->failures = (int) fleet_column_int(tuple, desc, 11, 0);
    }
    SPI_freetuptable(table);
    return count;
}

char *
fleet_schedule_params_sql(int32 schedule_id)
{
    Datum value = Int32GetDatum(schedule_id);

    return fleet_statement_text(&params_statement, &value);
}

void
fleet_schedule_failed(int32 schedule_id, TimestampTz scheduled_for, const FleetDiagnostics *why)
{
    Datum values[] = {Int32GetDatum(schedule_id), TimestampTzGetDatum(scheduled_for),
                      CStringGetTextDatum(why->sqlstate), CStringGetTextDatum(why->message),
                      TimestampTzGetDatum(fleet_clock_calendar())};

    (void) fleet_statement_run(&failed_statement, values, NULL);
}

void
fleet_schedule_fired(int32 schedule_id)
{
    Datum value = Int32GetDatum(schedule_id);

    (void) fleet_statement_run(&fired_statement, &value, NULL);
}
