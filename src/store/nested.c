/*
 * store/nested.c
 *     Nested runs: inserted, and found again by their uuid.
 */
#include "postgres.h"

#include "store/nested.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static FleetStatement insert_statement = {
    "INSERT INTO fleet_catalog.run (run_uuid, package, definition, owner, priority, params,"
    " parent_run_id, parent_task_no, parent_item, parent_job_run_id, timeout, deadline_after,"
    " requested_by, scheduled_for, hook_depth)"
    "SELECT $1, $8, fleet_catalog.store_definition('package', i.body), i.owner, $2,"
    "       (i.body OPERATOR(pg_catalog.->) 'params') OPERATOR(pg_catalog.||) $3, $4, $5, $6, $7,"
    "       fleet_catalog.from_microseconds("
    "         (i.body OPERATOR(pg_catalog.->>) 'timeout_us')::pg_catalog.int8),"
    "       fleet_catalog.from_microseconds("
    "         (i.body OPERATOR(pg_catalog.->>) 'deadline_us')::pg_catalog.int8),"
    "       COALESCE((SELECT r.requested_by FROM fleet_catalog.run AS r"
    "                  WHERE r.run_id OPERATOR(pg_catalog.=) $4),"
    "                (SELECT j.requested_by FROM fleet_catalog.job_run AS j"
    "                  WHERE j.job_run_id OPERATOR(pg_catalog.=) $7), SESSION_USER),"
    "       (SELECT r.scheduled_for FROM fleet_catalog.run AS r"
    "         WHERE r.run_id OPERATOR(pg_catalog.=) $4),"
    "       COALESCE((SELECT r.hook_depth FROM fleet_catalog.run AS r"
    "                  WHERE r.run_id OPERATOR(pg_catalog.=) $4),"
    "                (SELECT j.hook_depth FROM fleet_catalog.job_run AS j"
    "                  WHERE j.job_run_id OPERATOR(pg_catalog.=) $7), '0')"
    "  FROM fleet_catalog.inner_package($10, $11, $8, $9) AS i WHERE i.owner IS NOT NULL"
    " RETURNING run_id",
    11,
    {UUIDOID, INT4OID, JSONBOID, INT8OID, INT4OID, INT4OID, INT8OID, TEXTOID, OIDOID, UUIDOID,
     TEXTOID},
    NULL};

static FleetStatement state_statement = {
    "SELECT r.state, r.message, r.timed_out FROM fleet_catalog.run AS r"
    " WHERE r.run_uuid OPERATOR(pg_catalog.=) $1",
    1,
    {UUIDOID},
    NULL};

int64
fleet_run_insert_nested(const char *package, const char *definition, const char *job, Oid owner,
                        const char *params, int32 priority, const char *run_uuid,
                        int64 parent_run_id, uint32 parent_task, uint32 parent_item,
                        int64 parent_job_run_id, char **why)
{
    Datum values[] = {DirectFunctionCall1(uuid_in, CStringGetDatum(run_uuid)),
                      Int32GetDatum(priority),
                      DirectFunctionCall1(jsonb_in, CStringGetDatum(params)),
                      Int64GetDatum(parent_run_id),
                      Int32GetDatum((int32) parent_task),
                      Int32GetDatum((int32) parent_item),
                      Int64GetDatum(parent_job_run_id),
                      CStringGetTextDatum(package),
                      ObjectIdGetDatum(owner),
                      DirectFunctionCall1(uuid_in, CStringGetDatum(definition)),
                      job != NULL ? CStringGetTextDatum(job) : (Datum) 0};
    char nulls[] = "           ";
    int64 run_id = 0;

    if (parent_run_id == 0)
        nulls[3] = nulls[4] = nulls[5] = 'n';
    if (parent_job_run_id == 0)
        nulls[6] = 'n';
    if (job == NULL)
        nulls[10] = 'n';
    if (fleet_statement_run(&insert_statement, values, nulls) == 1)
        run_id = fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    else
        *why = psprintf("there is no package \"%s\" that the run's owner may run", package);
    SPI_freetuptable(SPI_tuptable);
    return run_id;
}

static FleetStatement restart_statement = {"SELECT fleet_catalog.restart_nested($1, $2, $3, $4)",
                                           4,
                                           {INT8OID, INT4OID, INT4OID, UUIDOID},
                                           NULL};

int64
fleet_run_restart_nested(int64 parent_run_id, uint32 parent_task, uint32 parent_item,
                         const char *run_uuid)
{
    Datum values[] = {Int64GetDatum(parent_run_id), Int32GetDatum((int32) parent_task),
                      Int32GetDatum((int32) parent_item),
                      DirectFunctionCall1(uuid_in, CStringGetDatum(run_uuid))};
    int64 run_id;

    (void) fleet_statement_run(&restart_statement, values, NULL);
    run_id = fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    SPI_freetuptable(SPI_tuptable);
    return run_id;
}

FleetState
fleet_run_nested_state(const char *run_uuid, char **message, bool *timed_out)
{
    MemoryContext context = CurrentMemoryContext;
    Datum value = DirectFunctionCall1(uuid_in, CStringGetDatum(run_uuid));
    int state = 0;

    *message = NULL;
    *timed_out = false;
    if (fleet_statement_run(&state_statement, &value, NULL) == 1)
    {
        state = (int) fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
        *message = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, context);
        *timed_out = fleet_column_bool(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3);
    }
    SPI_freetuptable(SPI_tuptable);
    return (FleetState) state;
}
