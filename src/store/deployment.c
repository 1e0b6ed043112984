/*
 * store/deployment.c
 *     Deployments: what is to be sent, and how it went.
 *
 * Sessions insert rows; only the agent changes or deletes them, so it waits for
 * no session.
 */
#include "postgres.h"

#include "store/deployment.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* A later request replaces the earlier ones of its server and job, whatever became of them.  One that was made
 * earlier and committed later comes after those that have an outcome. */
static FleetStatement replaced_statement = {
    "DELETE FROM fleet_catalog.deployment AS d USING fleet_catalog.deployment AS n"
    " WHERE n.state OPERATOR(pg_catalog.=) 'queued'"
    "   AND d.server_id OPERATOR(pg_catalog.=) n.server_id"
    "   AND d.job OPERATOR(pg_catalog.=) n.job"
    "   AND d.deployment_id OPERATOR(pg_catalog.<>) n.deployment_id"
    "   AND (d.state OPERATOR(pg_catalog.<>) 'queued'"
    "        OR d.deployment_id OPERATOR(pg_catalog.<) n.deployment_id)",
    0,
    {0},
    NULL};

static FleetStatement deployments_statement = {
    "SELECT d.deployment_id, d.server_id, d.owner, d.document, d.action FROM "
    "fleet_catalog.deployment AS d"
    " WHERE d.state OPERATOR(pg_catalog.=) 'queued' ORDER BY d.deployment_id",
    0,
    {0},
    NULL};

int
fleet_deployment_take(FleetDeploymentRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    SPITupleTable *table;
    int count;

    (void) fleet_statement_run(&replaced_statement, NULL, NULL);
    count = (int) fleet_statement_run(&deployments_statement, NULL, NULL);
    table = SPI_tuptable;
    *rows = MemoryContextAllocZero(context, sizeof(FleetDeploymentRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetDeploymentRow *row = &(*rows)[i];

        row->id = fleet_column_int(tuple, table->tupdesc, 1, 0);
        row->server_id = (int) fleet_column_int(tuple, table->tupdesc, 2, 0);
        row->owner = (Oid) fleet_column_int(tuple, table->tupdesc, 3, InvalidOid);
        row->document = fleet_column_text(tuple, table->tupdesc, 4, context);
        row->action = fleet_column_text(tuple, table->tupdesc, 5, context);
    }
    SPI_freetuptable(table);
    return count;
}

static FleetStatement deployment_statement = {
    "UPDATE fleet_catalog.deployment AS d"
    "   SET state = CASE WHEN $2 AND d.action OPERATOR(pg_catalog.=) 'undeploy' THEN 'removed'"
    "                    WHEN $2 OR (d.action OPERATOR(pg_catalog.=) 'undeploy'"
    "                                AND d.deployed_at IS NOT NULL) THEN 'deployed'"
    "                    ELSE 'failed' END, message = $3,"
    "       deployed_at = CASE WHEN $2 AND d.action OPERATOR(pg_catalog.<>) 'undeploy'"
    "                          THEN pg_catalog.now() ELSE d.deployed_at END"
    " WHERE d.deployment_id OPERATOR(pg_catalog.=) $1 AND d.state OPERATOR(pg_catalog.=) 'queued'",
    3,
    {INT8OID, BOOLOID, TEXTOID},
    NULL};

void
fleet_deployment_write(int64 id, bool ok, const char *message)
{
    Datum values[3];
    char nulls[] = "   ";

    values[0] = Int64GetDatum(id);
    values[1] = BoolGetDatum(ok);
    values[2] = message != NULL ? CStringGetTextDatum(message) : (Datum) 0;
    if (message == NULL)
        nulls[2] = 'n';
    (void) fleet_statement_run(&deployment_statement, values, nulls);
}

static FleetStatement forget_statement = {"DELETE FROM fleet_catalog.deployment AS d"
                                          " WHERE d.server_id OPERATOR(pg_catalog.=) $1",
                                          1,
                                          {INT4OID},
                                          NULL};

static FleetStatement forget_all_statement = {
    "DELETE FROM fleet_catalog.deployment AS d"
    " WHERE NOT EXISTS (SELECT FROM fleet_catalog.server AS s"
    "                    WHERE s.server_id OPERATOR(pg_catalog.=) d.server_id)",
    0,
    {0},
    NULL};

void
fleet_deployment_forget(int server_id)
{
    Datum value = Int32GetDatum(server_id);

    (void) fleet_statement_run(server_id != 0 ? &forget_statement : &forget_all_statement, &value,
                               NULL);
}
