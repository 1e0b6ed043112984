/*
 * store/limits.c
 *     How many runs of a package run at a time, what becomes of one that another
 *     one replaces, and when one will have ended (limits.h).
 */
#include "postgres.h"

#include "store/limits.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/timestamp.h"

static FleetStatement limits_statement = {
    "SELECT p.package_id, fleet_catalog.parallel_limit(p.overlap, p.max_parallel)"
    "  FROM fleet_catalog.package AS p"
    " WHERE EXISTS (SELECT FROM fleet_catalog.run AS r"
    "                WHERE r.package_id OPERATOR(pg_catalog.=) p.package_id"
    "                  AND r.state OPERATOR(pg_catalog.<) 11)",
    0,
    {0},
    NULL};

static FleetStatement replaced_statement = {
    "INSERT INTO fleet_catalog.cancel_request (run_id, requested_by)"
    "SELECT $1, r.requested_by FROM fleet_catalog.run AS r"
    " WHERE r.run_id OPERATOR(pg_catalog.=) $2",
    2,
    {INT8OID, INT8OID},
    NULL};

static FleetStatement eta_statement = {"SELECT fleet_link.run_eta($1)", 1, {INT8OID}, NULL};

static FleetStatement named_statement = {
    "SELECT l.limit_id, l.name, l.former_names, l.owner::pg_catalog.oid, l.shared, l.max_running"
    "  FROM fleet_catalog.task_limit AS l ORDER BY l.limit_id",
    0,
    {0},
    NULL};

static FleetStatement quota_statement = {
    "SELECT q.role::pg_catalog.oid, q.role IS NULL, q.max_active_runs, q.max_runners, q.max_log_mb"
    "  FROM fleet_catalog.quota AS q",
    0,
    {0},
    NULL};

int
fleet_limits_read(FleetLimitRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&limits_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocZero(context, sizeof(FleetLimitRow) * (Size) Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        (*rows)[i].package_id = (int) fleet_column_int(table->vals[i], table->tupdesc, 1, 0);
        (*rows)[i].max_parallel = (uint32) fleet_column_int(table->vals[i], table->tupdesc, 2, 0);
    }
    SPI_freetuptable(table);
    return count;
}

int
fleet_named_read(FleetNamedRow **rows, MemoryContext context)
{
    int count = (int) fleet_statement_run(&named_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocZero(context, sizeof(FleetNamedRow) * (Size) Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetNamedRow *row = &(*rows)[i];

        row->limit_id = (int) fleet_column_int(tuple, desc, 1, 0);
        row->name = fleet_column_text(tuple, desc, 2, context);
        fleet_column_names(tuple, desc, 3, context, &row->former_names);
        row->owner = (Oid) fleet_column_int(tuple, desc, 4, InvalidOid);
        row->shared = fleet_column_bool(tuple, desc, 5);
        row->max_running = (uint32) fleet_column_int(tuple, desc, 6, 0);
    }
    SPI_freetuptable(table);
    return count;
}

int
fleet_quota_read(FleetQuotaRow **rows, MemoryContext context)
{
    int count = (int) fleet_statement_run(&quota_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocZero(context, sizeof(FleetQuotaRow) * (Size) Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetQuotaRow *row = &(*rows)[i];

        row->role = (Oid) fleet_column_int(tuple, table->tupdesc, 1, InvalidOid);
        row->everybody = fleet_column_bool(tuple, table->tupdesc, 2);
        row->max_active_runs = (uint32) fleet_column_int(tuple, table->tupdesc, 3, 0);
        row->max_runners = (uint32) fleet_column_int(tuple, table->tupdesc, 4, 0);
        row->max_log_mb = (uint32) fleet_column_int(tuple, table->tupdesc, 5, 0);
    }
    SPI_freetuptable(table);
    return count;
}

void
fleet_limits_replaced(int64 run_id, int64 by)
{
    Datum values[] = {Int64GetDatum(run_id), Int64GetDatum(by)};

    (void) fleet_statement_run(&replaced_statement, values, NULL);
}

TimestampTz
fleet_run_eta(int64 run_id)
{
    Datum value = Int64GetDatum(run_id);
    TimestampTz eta;

    (void) fleet_statement_run(&eta_statement, &value, NULL);
    eta = fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    SPI_freetuptable(SPI_tuptable);
    return eta;
}
