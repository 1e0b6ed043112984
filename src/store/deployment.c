/*
 * store/deployment.c
 *     Deployments: what is to be sent, and how it went.
 */
#include "postgres.h"

#include "store/deployment.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

static FleetStatement deployments_statement = {
    "SELECT d.server_id, d.job, d.owner, d.document FROM fleet_catalog.deployment AS d"
    " WHERE d.state OPERATOR(pg_catalog.=) 'queued'",
    0,
    {0},
    NULL};

int
fleet_deployment_read_queued(FleetDeploymentRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&deployments_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocZero(context, sizeof(FleetDeploymentRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetDeploymentRow *row = &(*rows)[i];

        row->server_id = (int) fleet_column_int(tuple, table->tupdesc, 1, 0);
        row->job = fleet_column_text(tuple, table->tupdesc, 2, context);
        row->owner = (Oid) fleet_column_int(tuple, table->tupdesc, 3, InvalidOid);
        row->document = fleet_column_text(tuple, table->tupdesc, 4, context);
    }
    SPI_freetuptable(table);
    return count;
}

static FleetStatement deployment_statement = {
    "UPDATE fleet_catalog.deployment AS d"
    "   SET state = CASE WHEN $3 THEN 'deployed' ELSE 'failed' END, message = $4,"
    "       deployed_at = CASE WHEN $3 THEN pg_catalog.now() ELSE d.deployed_at END"
    " WHERE d.server_id OPERATOR(pg_catalog.=) $1 AND d.job OPERATOR(pg_catalog.=) $2"
    "   AND d.state OPERATOR(pg_catalog.=) 'queued'",
    4,
    {INT4OID, TEXTOID, BOOLOID, TEXTOID},
    NULL};

void
fleet_deployment_write(int server_id, const char *job, bool ok, const char *message)
{
    Datum values[4];
    char nulls[] = "    ";

    values[0] = Int32GetDatum(server_id);
    values[1] = CStringGetTextDatum(job);
    values[2] = BoolGetDatum(ok);
    values[3] = message != NULL ? CStringGetTextDatum(message) : (Datum) 0;
    if (message == NULL)
        nulls[3] = 'n';
    (void) fleet_statement_run(&deployment_statement, values, nulls);
}
