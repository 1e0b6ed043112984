/*
 * store/template.c
 *     Templates in the parameters of tasks (template.h).
 */
#include "postgres.h"

#include "store/template.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/fmgrprotos.h"

static FleetStatement resolve_statement = {
    "SELECT fleet_catalog.resolve_params($1, $2, $3)", 3, {INT8OID, INT4OID, JSONBOID}, NULL};

char *
fleet_params_resolve(int64 run_id, uint32 task, const char *params)
{
    MemoryContext context = CurrentMemoryContext;
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) task),
                      DirectFunctionCall1(jsonb_in, CStringGetDatum(params))};
    char *resolved;

    (void) fleet_statement_run(&resolve_statement, values, NULL);
    resolved = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
    SPI_freetuptable(SPI_tuptable);
    return resolved;
}
