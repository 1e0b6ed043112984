/*
 * store/server.c
 *     Servers and their health.
 */
#include "postgres.h"

#include "store/server.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/memutils.h"

static FleetStatement servers_statement = {
    "SELECT s.server_id, s.name, s.mode OPERATOR(pg_catalog.=) 'agent', s.state, s.slots, s.weight,"
    "       s.groups, COALESCE(h.speed_log, 0), COALESCE(h.speed_evidence, 0),"
    "       s.foreign_server, s.former_names::pg_catalog.text[]"
    "  FROM fleet_catalog.server AS s"
    "  LEFT JOIN fleet_catalog.server_health AS h"
    "    ON h.server_id OPERATOR(pg_catalog.=) s.server_id"
    " ORDER BY s.server_id",
    0,
    {0},
    NULL};

int
fleet_server_read(FleetServerRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&servers_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocZero(context, sizeof(FleetServerRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetServerRow *row = &(*rows)[i];

        row->server_id = (int) fleet_column_int(tuple, desc, 1, 0);
        row->name = fleet_column_text(tuple, desc, 2, context);
        row->agent_mode = fleet_column_bool(tuple, desc, 3);
        row->state = fleet_column_text(tuple, desc, 4, context);
        row->slots = (int) fleet_column_int(tuple, desc, 5, 0);
        row->weight = fleet_column_double(tuple, desc, 6);
        fleet_column_names(tuple, desc, 7, context, &row->groups);
        row->speed.log_speed = fleet_column_double(tuple, desc, 8);
        row->speed.evidence = fleet_column_double(tuple, desc, 9);
        row->foreign = (Oid) fleet_column_int(tuple, desc, 10, InvalidOid);
        fleet_column_names(tuple, desc, 11, context, &row->former_names);
    }
    SPI_freetuptable(table);
    return count;
}

static FleetStatement health_statement = {
    "INSERT INTO fleet_catalog.server_health AS h (server_id, status, last_error, last_error_at,"
    "   version, last_seen, system_identifier, timeline, crash_mark)"
    "SELECT s.server_id, $2, $3, CASE WHEN $3 IS NOT NULL THEN pg_catalog.now() END, $4,"
    "       $5, $6, $7, $8"
    "  FROM fleet_catalog.server AS s WHERE s.server_id OPERATOR(pg_catalog.=) $1"
    " ON CONFLICT (server_id) DO UPDATE"
    "   SET status = excluded.status, last_error = COALESCE(excluded.last_error, h.last_error),"
    "       last_error_at = COALESCE(excluded.last_error_at, h.last_error_at),"
    "       version = COALESCE(excluded.version, h.version),"
    "       last_seen = COALESCE(excluded.last_seen, h.last_seen),"
    "       system_identifier = COALESCE(excluded.system_identifier, h.system_identifier),"
    "       timeline = COALESCE(excluded.timeline, h.timeline),"
    "       crash_mark = COALESCE(excluded.crash_mark, h.crash_mark)",
    8,
    {INT4OID, TEXTOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, INT8OID, INT4OID, TEXTOID},
    NULL};

void
fleet_health_write(const FleetHealthWrite *w)
{
    Datum values[8];
    char nulls[] = "        ";

    values[0] = Int32GetDatum(w->server_id);
    values[1] = CStringGetTextDatum(w->status);
    values[2] = w->error != NULL ? CStringGetTextDatum(w->error) : (Datum) 0;
    values[3] = w->version != NULL ? CStringGetTextDatum(w->version) : (Datum) 0;
    values[4] = TimestampTzGetDatum(w->seen_at);
    values[5] = Int64GetDatum((int64) w->system_identifier);
    values[6] = Int32GetDatum((int32) w->timeline);
    if (w->error == NULL)
        nulls[2] = 'n';
    if (w->version == NULL)
        nulls[3] = 'n';
    if (w->seen_at == 0)
        nulls[4] = 'n';
    if (!w->identifier_known)
        nulls[5] = 'n';
    if (w->timeline == 0)
        nulls[6] = 'n';
    if (w->crash_mark == NULL || w->crash_mark[0] == '\0')
        nulls[7] = 'n';
    else
        values[7] = CStringGetTextDatum(w->crash_mark);
    (void) fleet_statement_run(&health_statement, values, nulls);
}

static FleetStatement roles_statement = {
    "SELECT r.role FROM (SELECT s.owner::pg_catalog.oid AS role, 0 AS rank FROM "
    "fleet_catalog.server AS s"
    "   WHERE s.server_id OPERATOR(pg_catalog.=) $1"
    "  UNION ALL"
    "  SELECT m.umuser, 1 FROM fleet_catalog.server AS s JOIN pg_catalog.pg_user_mapping AS m"
    "    ON m.umserver OPERATOR(pg_catalog.=) s.foreign_server::pg_catalog.oid"
    "   WHERE s.server_id OPERATOR(pg_catalog.=) $1 AND m.umuser OPERATOR(pg_catalog.<>) 0) AS r"
    " ORDER BY r.rank, r.role",
    1,
    {INT4OID},
    NULL};

int
fleet_server_roles(int server_id, Oid **roles)
{
    MemoryContext context = CurrentMemoryContext;
    Datum value = Int32GetDatum(server_id);
    int count = (int) fleet_statement_run(&roles_statement, &value, NULL);

    *roles = MemoryContextAlloc(context, sizeof(Oid) * (Size) Max(count, 1));
    for (int i = 0; i < count; i++)
        (*roles)[i] =
            (Oid) fleet_column_int(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, InvalidOid);
    SPI_freetuptable(SPI_tuptable);
    return count;
}

static FleetStatement speed_statement = {
    "INSERT INTO fleet_catalog.server_health AS h (server_id, speed_log, speed_evidence)"
    "SELECT s.server_id, $2, $3 FROM fleet_catalog.server AS s"
    " WHERE s.server_id OPERATOR(pg_catalog.=) $1"
    " ON CONFLICT (server_id) DO UPDATE"
    "   SET speed_log = excluded.speed_log, speed_evidence = excluded.speed_evidence",
    3,
    {INT4OID, FLOAT8OID, FLOAT8OID},
    NULL};

void
fleet_speed_write(int server_id, const FleetSpeed *speed)
{
    Datum values[] = {Int32GetDatum(server_id), Float8GetDatum(speed->log_speed),
                      Float8GetDatum(speed->evidence)};

    (void) fleet_statement_run(&speed_statement, values, NULL);
}
