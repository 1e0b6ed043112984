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
