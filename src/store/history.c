/*
 * store/history.c
 *     Slices of a purge (store/history.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/history.h"
#include "store/spi.h"

static FleetStatement asked_statement = {
    "SELECT FROM fleet_catalog.purge_request LIMIT 1", 0, {0}, NULL};

static FleetStatement slice_statement = {
    "SELECT p.stage, p.after, p.upto, p.n FROM fleet_catalog.purge_slice($1, $2, $3, $4) AS p",
    4,
    {INT4OID, INT8OID, INT8OID, INT4OID},
    NULL};

bool
fleet_history_asked(void)
{
    return fleet_statement_run(&asked_statement, NULL, NULL) > 0;
}

void
fleet_history_slice(FleetPurge *purge, int count)
{
    Datum values[] = {Int32GetDatum(purge->stage), Int64GetDatum(purge->after),
                      Int64GetDatum(purge->upto), Int32GetDatum(count)};
    HeapTuple tuple;
    TupleDesc desc;

    (void) fleet_statement_run(&slice_statement, values, NULL);
    tuple = SPI_tuptable->vals[0];
    desc = SPI_tuptable->tupdesc;
    purge->stage = (int) fleet_column_int(tuple, desc, 1, FLEET_HISTORY_OVER);
    purge->after = fleet_column_int(tuple, desc, 2, 0);
    purge->upto = fleet_column_int(tuple, desc, 3, 0);
    purge->rows += fleet_column_int(tuple, desc, 4, 0);
    SPI_freetuptable(SPI_tuptable);
}
