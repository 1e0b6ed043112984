/*
 * store/take_over.c
 *     Items that a restart takes over (take_over.h): the SQL is in
 *     src/sql/42_restart.sql.
 */
#include "postgres.h"

#include "store/take_over.h"
#include "catalog/pg_type.h"
#include "store/spi.h"

static FleetStatement take_over_statement = {
    "SELECT t.item, t.carried, t.params, t.item_key, COALESCE(t.cost, '-1')"
    "  FROM fleet_catalog.take_over_items($1, $2, $3, $4) AS t",
    4,
    {INT8OID, INT4OID, INT4OID, INT4OID},
    NULL};

uint32
fleet_items_take_over(int64 run_id, uint32 task, uint32 after, uint32 count, FleetTakenItem **items)
{
    MemoryContext context = CurrentMemoryContext;
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) task),
                      Int32GetDatum((int32) after), Int32GetDatum((int32) count)};
    uint32 n = (uint32) fleet_statement_run(&take_over_statement, values, NULL);
    SPITupleTable *table = SPI_tuptable;

    *items = MemoryContextAllocZero(context, sizeof(FleetTakenItem) * Max(n, 1));
    for (uint32 i = 0; i < n; i++)
    {
        if (fleet_column_int(table->vals[i], table->tupdesc, 1, 0) != (int64) after + i + 1)
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                            errmsg("item %u is missing in the run that this one restarts",
                                   after + i + 1)));
        (*items)[i].carried = fleet_column_bool(table->vals[i], table->tupdesc, 2);
        (*items)[i].params = fleet_column_text(table->vals[i], table->tupdesc, 3, context);
        (*items)[i].item_key = fleet_column_text(table->vals[i], table->tupdesc, 4, context);
        (*items)[i].cost = fleet_column_double(table->vals[i], table->tupdesc, 5);
    }
    SPI_freetuptable(table);
    return n;
}
