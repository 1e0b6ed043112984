/*
 * store/condition.c
 *     Evaluated conditions: read and written.
 */
#include "postgres.h"

#include "store/condition.h"
#include "catalog/pg_type.h"
#include "store/spi.h"

static FleetStatement read_statement = {
    "SELECT c.from_task, c.to_task, c.holds FROM fleet_catalog.condition_result AS c"
    " WHERE c.run_id OPERATOR(pg_catalog.=) $1",
    1,
    {INT8OID},
    NULL};

static FleetStatement write_statement = {
    "INSERT INTO fleet_catalog.condition_result (run_id, from_task, to_task, holds)"
    " VALUES ($1, $2, $3, $4)",
    4,
    {INT8OID, INT4OID, INT4OID, BOOLOID},
    NULL};

static FleetStatement forget_statement = {
    "DELETE FROM fleet_catalog.condition_result AS c"
    " WHERE c.run_id OPERATOR(pg_catalog.=) $1 AND c.from_task OPERATOR(pg_catalog.=) $2",
    2,
    {INT8OID, INT4OID},
    NULL};

int
fleet_condition_read(int64 run_id, FleetConditionRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    Datum value = Int64GetDatum(run_id);
    int count = (int) fleet_statement_run(&read_statement, &value, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocZero(context, sizeof(FleetConditionRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        (*rows)[i].from = (uint32) fleet_column_int(table->vals[i], table->tupdesc, 1, 0);
        (*rows)[i].to = (uint32) fleet_column_int(table->vals[i], table->tupdesc, 2, 0);
        (*rows)[i].holds = fleet_column_bool(table->vals[i], table->tupdesc, 3);
    }
    SPI_freetuptable(table);
    return count;
}

void
fleet_condition_write(int64 run_id, uint32 from, uint32 to, bool holds)
{
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) from), Int32GetDatum((int32) to),
                      BoolGetDatum(holds)};

    (void) fleet_statement_run(&write_statement, values, NULL);
}

void
fleet_condition_forget(int64 run_id, uint32 from)
{
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) from)};

    (void) fleet_statement_run(&forget_statement, values, NULL);
}
