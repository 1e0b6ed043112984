/*
 * store/steer.c
 *     What sessions ask of runs that go on (steer.h): the SQL behind it is in
 *     src/sql/44_steer.sql.
 */
#include "postgres.h"

#include "store/steer.h"
#include "catalog/pg_type.h"
#include "store/spi.h"

static FleetStatement skip_statement = {
    "SELECT s.task_no, s.item, pg_catalog.format('skipped by %s%s', s.requested_by,"
    "       ': ' OPERATOR(pg_catalog.||) s.reason)"
    "  FROM fleet_catalog.skip_request AS s WHERE s.run_id OPERATOR(pg_catalog.=) $1"
    " ORDER BY s.task_no, s.item",
    1,
    {INT8OID},
    NULL};

static FleetStatement retry_statement = {
    "SELECT q.request_id, q.run_id, q.task_no, q.item FROM fleet_catalog.retry_request AS q"
    " ORDER BY q.request_id",
    0,
    {0},
    NULL};

static FleetStatement tasks_statement = {
    "SELECT t.item, t.server_id, t.attempt, t.failures, t.state, t.log_seq, t.started_at"
    "  FROM fleet_catalog.retried_tasks($1, $2, $3) AS t",
    3,
    {INT8OID, INT4OID, INT4OID},
    NULL};

static FleetStatement requeue_statement = {
    "SELECT fleet_catalog.requeue_items($1, $2, $3)", 3, {INT8OID, INT4OID, INT4OID}, NULL};

static FleetStatement done_statement = {
    "DELETE FROM fleet_catalog.retry_request AS q WHERE q.request_id OPERATOR(pg_catalog.=) $1",
    1,
    {INT8OID},
    NULL};

static FleetStatement pause_statement = {
    "SELECT p.run_id, p.package, p.on_group, p.said"
    "  FROM fleet_catalog.pause_said AS p ORDER BY p.run_id, p.pause_id",
    0,
    {0},
    NULL};

int
fleet_skip_read(int64 run_id, FleetSkipRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    Datum value = Int64GetDatum(run_id);
    int count = (int) fleet_statement_run(&skip_statement, &value, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocHuge(context, sizeof(FleetSkipRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        (*rows)[i].task = (uint32) fleet_column_int(table->vals[i], table->tupdesc, 1, 0);
        (*rows)[i].item = (uint32) fleet_column_int(table->vals[i], table->tupdesc, 2, 0);
        (*rows)[i].why = fleet_column_text(table->vals[i], table->tupdesc, 3, context);
    }
    SPI_freetuptable(table);
    return count;
}

int
fleet_retry_read(FleetRetryRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&retry_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocHuge(context, sizeof(FleetRetryRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        (*rows)[i].request_id = fleet_column_int(table->vals[i], table->tupdesc, 1, 0);
        (*rows)[i].run_id = fleet_column_int(table->vals[i], table->tupdesc, 2, 0);
        (*rows)[i].task = (uint32) fleet_column_int(table->vals[i], table->tupdesc, 3, 0);
        (*rows)[i].item = (uint32) fleet_column_int(table->vals[i], table->tupdesc, 4, 0);
    }
    SPI_freetuptable(table);
    return count;
}

int
fleet_retry_tasks(const FleetRetryRow *request, FleetTaskRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    Datum values[] = {Int64GetDatum(request->run_id), Int32GetDatum((int32) request->task),
                      Int32GetDatum((int32) request->item)};
    int count = (int) fleet_statement_run(&tasks_statement, values, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocExtended(context, sizeof(FleetTaskRow) * Max(count, 1),
                                       MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetTaskRow *row = &(*rows)[i];

        row->task = request->task;
        row->item = (uint32) fleet_column_int(tuple, table->tupdesc, 1, 0);
        row->server_id = (int) fleet_column_int(tuple, table->tupdesc, 2, 0);
        row->attempt = (uint16) fleet_column_int(tuple, table->tupdesc, 3, 0);
        row->failures = (uint16) fleet_column_int(tuple, table->tupdesc, 4, 0);
        row->state = (FleetState) fleet_column_int(tuple, table->tupdesc, 5, 0);
        row->log_base = (int) fleet_column_int(tuple, table->tupdesc, 6, 0);
        row->started_at = fleet_column_int(tuple, table->tupdesc, 7, 0);
    }
    SPI_freetuptable(table);
    return count;
}

void
fleet_retry_requeue(const FleetRetryRow *request)
{
    Datum values[] = {Int64GetDatum(request->run_id), Int32GetDatum((int32) request->task),
                      Int32GetDatum((int32) request->item)};

    (void) fleet_statement_run(&requeue_statement, values, NULL);
    SPI_freetuptable(SPI_tuptable);
}

void
fleet_retry_done(int64 request_id)
{
    Datum value = Int64GetDatum(request_id);

    (void) fleet_statement_run(&done_statement, &value, NULL);
}

int
fleet_pause_read(FleetPauseRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&pause_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocHuge(context, sizeof(FleetPauseRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];

        (*rows)[i].run_id = fleet_column_int(tuple, table->tupdesc, 1, 0);
        (*rows)[i].package = fleet_column_text(tuple, table->tupdesc, 2, context);
        (*rows)[i].group = fleet_column_text(tuple, table->tupdesc, 3, context);
        (*rows)[i].why = fleet_column_text(tuple, table->tupdesc, 4, context);
    }
    SPI_freetuptable(table);
    return count;
}
