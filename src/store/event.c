/*
 * store/event.c
 *     Rows of events (store/event.h): one statement for all of a turn.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/event.h"
#include "store/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static FleetStatement insert_statement = {
    "INSERT INTO fleet_catalog.event AS e (raised_at, kind, run_id, item, server_id, owner,"
    "   package, task, sqlstate, message, hook_depth, server)"
    "SELECT u.at, u.kind, u.run_id, u.item, u.server_id,"
    "       COALESCE(u.owner, (SELECT s.owner FROM fleet_catalog.server AS s"
    "          WHERE s.server_id OPERATOR(pg_catalog.=) u.server_id)),"
    "       u.package, u.task, u.sqlstate, u.message, u.hook_depth,"
    "       (SELECT s.name FROM fleet_catalog.server_name AS s"
    "         WHERE s.server_id OPERATOR(pg_catalog.=) u.server_id LIMIT 1)"
    "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
    "                  pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
    "                  pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),"
    "                  pg_catalog.unnest($10), pg_catalog.unnest($11)) WITH ORDINALITY"
    "         AS u (at, kind, run_id, item, server_id, owner, package, task, sqlstate, message,"
    "               hook_depth, n)"
    " ORDER BY u.n RETURNING e.event_id, e.server",
    11,
    {TIMESTAMPTZARRAYOID, TEXTARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, OIDARRAYOID,
     TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT2ARRAYOID},
    NULL};

static const Oid columns[] = {TIMESTAMPTZOID, TEXTOID, INT8OID, INT4OID, INT4OID, OIDOID,
                              TEXTOID,        TEXTOID, TEXTOID, TEXTOID, INT2OID};

static void
add(FleetBatch *batch, const FleetEventRow *row)
{
    bool nulls[11] = {false};
    Datum values[11] = {TimestampTzGetDatum(row->at),
                        fleet_batch_text(batch, fleet_raised_name(row->kind), &nulls[1]),
                        Int64GetDatum(row->run_id),
                        Int32GetDatum(row->item),
                        Int32GetDatum(row->server_id),
                        ObjectIdGetDatum(row->owner),
                        fleet_batch_text(batch, row->package, &nulls[6]),
                        fleet_batch_text(batch, row->task, &nulls[7]),
                        fleet_batch_text(batch, row->sqlstate, &nulls[8]),
                        fleet_batch_text(batch, row->message, &nulls[9]),
                        Int16GetDatum((int16) row->hook_depth)};

    nulls[2] = row->run_id == 0;
    nulls[3] = row->task == NULL;
    nulls[4] = row->server_id == 0;
    nulls[5] = !OidIsValid(row->owner);
    fleet_batch_add(batch, values, nulls);
}

void
fleet_events_write(FleetEventRow *rows, int n)
{
    MemoryContext context = CurrentMemoryContext;
    FleetBatch batch;

    fleet_batch_init(&batch, &insert_statement, lengthof(columns), columns, context);
    for (int i = 0; i < n; i++)
        add(&batch, &rows[i]);
    (void) fleet_batch_run(&batch);
    for (int i = 0; i < n && i < (int) SPI_tuptable->numvals; i++)
    {
        rows[i].event_id = fleet_column_int(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, 0);
        rows[i].server =
            fleet_column_text(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2, context);
    }
    SPI_freetuptable(SPI_tuptable);
    MemoryContextDelete(batch.context);
}

static FleetStatement status_statement = {"SELECT h.status FROM fleet_catalog.server_health AS h"
                                          " WHERE h.server_id OPERATOR(pg_catalog.=) $1",
                                          1,
                                          {INT4OID},
                                          NULL};

char *
fleet_health_status(int server_id, MemoryContext context)
{
    Datum value = Int32GetDatum(server_id);
    char *status;

    if (fleet_statement_run(&status_statement, &value, NULL) == 0)
        return MemoryContextStrdup(context, "unknown");
    status = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
    SPI_freetuptable(SPI_tuptable);
    return status;
}

/* By event_missed, however many events there are. */
static FleetStatement missed_statement = {
    "SELECT pg_catalog.max(e.raised_at) FROM fleet_catalog.event AS e"
    " WHERE e.kind OPERATOR(pg_catalog.=) 'schedule_missed'"
    "   AND e.message OPERATOR(pg_catalog.~>=~) $1 AND e.message OPERATOR(pg_catalog.~<~) $2",
    2,
    {TEXTOID, TEXTOID},
    NULL};

TimestampTz
fleet_event_missed(const char *begin)
{
    size_t last = strlen(begin) - 1;
    char *end = pstrdup(begin);
    Datum values[] = {CStringGetTextDatum(begin), 0};
    TimestampTz at;

    end[last]++; /* ASCII, and not the last one: follows all that begins so, byte by byte */
    values[1] = CStringGetTextDatum(end);
    (void) fleet_statement_run(&missed_statement, values, NULL);
    at = fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    SPI_freetuptable(SPI_tuptable);
    return at;
}
