/*
 * store/run_read.c
 *     Reads open runs, their task runs and steps: new requests, and recovery.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/run_read.h"
#include "store/spi.h"
#include "store/tables.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#define RUN_COLUMNS                                                                                \
    "r.run_id, r.run_uuid, r.package, r.definition, r.owner, r.state, r.priority, r.params,"       \
    " r.parent_run_id, r.parent_task_no, r.parent_item, r.parent_job_run_id, r.restart_of,"        \
    " EXISTS (SELECT FROM fleet_catalog.cancel_request AS c"                                       \
    "          WHERE c.run_id OPERATOR(pg_catalog.=) r.run_id),"                                   \
    " EXISTS (SELECT FROM fleet_catalog.cancel_request AS c"                                       \
    "          WHERE c.run_id OPERATOR(pg_catalog.=) r.run_id AND NOT c.final_tasks), "            \
    "r.package_id,"                                                                                \
    " COALESCE((SELECT fleet_catalog.parallel_limit(p.overlap, p.max_parallel)"                    \
    "             FROM fleet_catalog.package AS p"                                                 \
    "            WHERE p.package_id OPERATOR(pg_catalog.=) r.package_id), r.max_parallel),"        \
    " r.replaces, r.queued_at, r.run_at, r.started_at, fleet_catalog.microseconds(r.timeout),"     \
    " r.timed_out, r.deadline, fleet_catalog.microseconds(r.deadline_after),"                      \
    " r.expected_late_at IS NOT NULL, r.late_at IS NOT NULL, r.message, r.scheduled_for,"          \
    " r.hook_depth"

static FleetStatement all_runs_statement = {
    "SELECT " RUN_COLUMNS "  FROM fleet_catalog.run AS r"
    " WHERE r.state OPERATOR(pg_catalog.<) 11 ORDER BY r.run_id",
    0,
    {0},
    NULL};

static FleetStatement some_runs_statement = {
    "SELECT " RUN_COLUMNS "  FROM fleet_catalog.run AS r"
    " WHERE r.run_id OPERATOR(pg_catalog.=) ANY ($1) AND r.state OPERATOR(pg_catalog.<) 11"
    " ORDER BY r.run_id",
    1,
    {INT8ARRAYOID},
    NULL};

#define JOB_RUN_COLUMNS                                                                            \
    "j.job_run_id, j.token, j.job, j.definition, j.owner, j.state, j.parent_uuid, j.params,"       \
    " j.context, j.hook_depth,"                                                                    \
    " EXISTS (SELECT FROM fleet_catalog.cancel_request AS c"                                       \
    "          WHERE c.job_run_id OPERATOR(pg_catalog.=) j.job_run_id)"

static FleetStatement all_job_runs_statement = {
    "SELECT " JOB_RUN_COLUMNS "  FROM fleet_catalog.job_run AS j"
    " WHERE j.finished_at IS NULL ORDER BY j.job_run_id",
    0,
    {0},
    NULL};

static FleetStatement tasks_statement = {
    "SELECT t.task_no, t.item, t.server_id, t.attempt, t.state, t.log_seq, t.started_at,"
    "       t.finished_at, t.failures, t.carried_from, t.item_key, COALESCE(t.cost, '-1')"
    "  FROM fleet_catalog.task_run AS t WHERE t.run_id OPERATOR(pg_catalog.=) $1"
    " ORDER BY t.task_no, t.item",
    1,
    {INT8OID},
    NULL};

/* The newest step run of each unit that is still open, with the unit's counters. */
static FleetStatement task_steps_statement = {
    "SELECT DISTINCT ON (s.task_no, s.item)"
    "       s.task_no, s.item, s.task_attempt, s.step_no, s.attempt, s.state, s.phase, s.first_seq,"
    "       GREATEST(pg_catalog.max(GREATEST(s.first_seq, s.last_seq)) OVER unit,"
    "         (SELECT pg_catalog.max(l.seq) FROM fleet_catalog.log_line AS l"
    "           WHERE l.run_id OPERATOR(pg_catalog.=) s.run_id"
    "             AND l.task_no OPERATOR(pg_catalog.=) s.task_no"
    "             AND l.item OPERATOR(pg_catalog.=) s.item)),"
    "       pg_catalog.count(*) OVER unit, s.server_id, s.backend_pid, s.xid, s.row_count,"
    "       s.started_at, s.sqlstate, s.output, s.server_system, s.server_timeline,"
    "       s.server_crash"
    "  FROM fleet_catalog.task_run AS t"
    "  JOIN fleet_catalog.step_run AS s"
    "    ON s.run_id OPERATOR(pg_catalog.=) t.run_id AND s.task_no OPERATOR(pg_catalog.=) t.task_no"
    "   AND s.item OPERATOR(pg_catalog.=) t.item"
    " WHERE t.run_id OPERATOR(pg_catalog.=) $1 AND t.state OPERATOR(pg_catalog.<) 11"
    " WINDOW unit AS (PARTITION BY s.task_no, s.item)"
    " ORDER BY s.task_no, s.item, s.first_seq DESC",
    1,
    {INT8OID},
    NULL};

static FleetStatement job_steps_statement = {
    "SELECT 0, 0, 1::smallint, s.step_no, s.attempt, s.state, s.phase, s.first_seq,"
    "       GREATEST(pg_catalog.max(GREATEST(s.first_seq, s.last_seq)) OVER (),"
    "         (SELECT pg_catalog.max(l.seq) FROM fleet_catalog.log_line AS l"
    "           WHERE l.job_run_id OPERATOR(pg_catalog.=) $1)),"
    "       pg_catalog.count(*) OVER (), s.server_id, s.backend_pid, s.xid, s.row_count,"
    "       s.started_at, s.sqlstate, s.output, s.server_system, s.server_timeline,"
    "       s.server_crash"
    "  FROM fleet_catalog.step_run AS s WHERE s.job_run_id OPERATOR(pg_catalog.=) $1"
    " ORDER BY s.first_seq DESC LIMIT 1",
    1,
    {INT8OID},
    NULL};

static FleetStatement next_line_statement = {
    "SELECT fleet_catalog.next_seq($1, $2, $3, NULL)", 3, {INT8OID, INT4OID, INT4OID}, NULL};

static Datum
int8_array(const int64 *ids, int n)
{
    Datum *values = palloc(sizeof(Datum) * n);

    for (int i = 0; i < n; i++)
        values[i] = Int64GetDatum(ids[i]);
    return PointerGetDatum(
        construct_array(values, n, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static uint64
read_ids(FleetStatement *all, FleetStatement *some, const int64 *ids, int n)
{
    Datum value;

    if (ids == NULL)
        return fleet_statement_run(all, NULL, NULL);
    value = int8_array(ids, n);
    return fleet_statement_run(some, &value, NULL);
}

static TimestampTz
column_time(HeapTuple tuple, TupleDesc desc, int column)
{
    return fleet_column_int(tuple, desc, column, 0);
}

/* When it may begin, and must have ended. */
static void
run_limits(HeapTuple tuple, TupleDesc desc, FleetRunRow *row)
{
    row->package_id = (int) fleet_column_int(tuple, desc, 16, 0);
    row->max_parallel = (uint32) fleet_column_int(tuple, desc, 17, 0);
    row->replaces = fleet_column_bool(tuple, desc, 18);
    row->queued_at = column_time(tuple, desc, 19);
    row->run_at = column_time(tuple, desc, 20);
    row->started_at = column_time(tuple, desc, 21);
    row->timeout = fleet_column_int(tuple, desc, 22, 0);
    row->timed_out = fleet_column_bool(tuple, desc, 23);
    row->deadline = column_time(tuple, desc, 24);
    row->deadline_after = fleet_column_int(tuple, desc, 25, 0);
    row->expected_late = fleet_column_bool(tuple, desc, 26);
    row->late = fleet_column_bool(tuple, desc, 27);
}

int
fleet_run_read(const int64 *ids, int n, FleetRunRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) read_ids(&all_runs_statement, &some_runs_statement, ids, n);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocZero(context, sizeof(FleetRunRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetRunRow *row = &(*rows)[i];

        row->run_id = fleet_column_int(tuple, desc, 1, 0);
        row->run_uuid = fleet_column_text(tuple, desc, 2, context);
        row->package = fleet_column_text(tuple, desc, 3, context);
        row->definition = fleet_column_text(tuple, desc, 4, context);
        row->owner = (Oid) fleet_column_int(tuple, desc, 5, InvalidOid);
        row->state = (FleetState) fleet_column_int(tuple, desc, 6, 0);
        row->priority = (int32) fleet_column_int(tuple, desc, 7, 0);
        row->params = fleet_column_text(tuple, desc, 8, context);
        row->parent_run_id = fleet_column_int(tuple, desc, 9, 0);
        row->parent_task = (uint32) fleet_column_int(tuple, desc, 10, 0);
        row->parent_item = (uint32) fleet_column_int(tuple, desc, 11, 0);
        row->parent_job_run_id = fleet_column_int(tuple, desc, 12, 0);
        row->restart_of = fleet_column_int(tuple, desc, 13, 0);
        row->cancel = fleet_column_bool(tuple, desc, 14);
        row->cancel_final = fleet_column_bool(tuple, desc, 15);
        run_limits(tuple, desc, row);
        row->message = fleet_column_text(tuple, desc, 28, context);
        row->scheduled_for = fleet_column_text(tuple, desc, 29, context);
        row->hook_depth = (int) fleet_column_int(tuple, desc, 30, 0);
    }
    SPI_freetuptable(table);
    return count;
}

static int
all_job_runs(FleetJobRunRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&all_job_runs_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocZero(context, sizeof(FleetJobRunRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetJobRunRow *row = &(*rows)[i];

        row->job_run_id = fleet_column_int(tuple, desc, 1, 0);
        row->token = fleet_column_text(tuple, desc, 2, context);
        row->job = fleet_column_text(tuple, desc, 3, context);
        row->definition = fleet_column_text(tuple, desc, 4, context);
        row->owner = (Oid) fleet_column_int(tuple, desc, 5, InvalidOid);
        row->state = (FleetState) fleet_column_int(tuple, desc, 6, 0);
        row->parent_uuid = fleet_column_text(tuple, desc, 7, context);
        row->params = fleet_column_text(tuple, desc, 8, context);
        row->context = fleet_column_text(tuple, desc, 9, context);
        row->hook_depth = (int) fleet_column_int(tuple, desc, 10, 0);
        row->cancel = fleet_column_bool(tuple, desc, 11);
    }
    SPI_freetuptable(table);
    return count;
}

/* A column by its type's output function; NULL for null. */
static char *
column_out(FleetRows *rows, int column, PGFunction out)
{
    bool isnull;
    Datum value = fleet_rows_get(rows, column, &isnull);

    return isnull ? NULL : DatumGetCString(DirectFunctionCall1(out, value));
}

static int
compare_ids(const void *a, const void *b)
{
    int64 x = *(const int64 *) a, y = *(const int64 *) b;

    return x < y ? -1 : x > y;
}

/* New ones, a few at a time, hundreds of times a second: by rows.h. */
static int
some_job_runs(const int64 *ids, int n, FleetJobRunRow **result)
{
    int64 *sorted = palloc(sizeof(int64) * (Size) Max(n, 1));
    FleetRows *rows, *cancels;
    int count = 0;

    memcpy(sorted, ids, sizeof(int64) * (Size) n);
    qsort(sorted, (size_t) n, sizeof(int64), compare_ids);
    *result = palloc0(sizeof(FleetJobRunRow) * (Size) Max(n, 1));
    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    rows = fleet_rows_open(&fleet_table_job_run, false);
    cancels = fleet_rows_open(&fleet_table_cancel_request, false);
    for (int i = 0; i < n; i++)
    {
        Datum key = Int64GetDatum(sorted[i]);
        FleetJobRunRow *row = &(*result)[count];

        if ((i > 0 && sorted[i] == sorted[i - 1]) ||
            !fleet_rows_find(rows, JOB_RUN_BY_ID, &key, 1) ||
            fleet_rows_int(rows, JOB_FINISHED_AT, 0) != 0)
            continue;
        row->job_run_id = sorted[i];
        row->token = column_out(rows, JOB_TOKEN, uuid_out);
        row->job = column_out(rows, JOB_JOB, textout);
        row->definition = column_out(rows, JOB_DEFINITION, uuid_out);
        row->owner = (Oid) fleet_rows_int(rows, JOB_OWNER, InvalidOid);
        row->state = (FleetState) fleet_rows_int(rows, JOB_STATE, 0);
        row->parent_uuid = column_out(rows, JOB_PARENT_UUID, uuid_out);
        row->params = column_out(rows, JOB_PARAMS, jsonb_out);
        row->context = column_out(rows, JOB_CONTEXT, jsonb_out);
        row->hook_depth = (int) fleet_rows_int(rows, JOB_HOOK_DEPTH, 0);
        row->cancel = fleet_rows_find(cancels, CANCEL_BY_JOB_RUN, &key, 1);
        count++;
    }
    fleet_rows_close(cancels);
    fleet_rows_close(rows);
    PopActiveSnapshot();
    return count;
}

int
fleet_job_run_read(const int64 *ids, int n, FleetJobRunRow **rows)
{
    return ids == NULL ? all_job_runs(rows) : some_job_runs(ids, n, rows);
}

int
fleet_task_read(int64 run_id, FleetTaskRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    Datum value = Int64GetDatum(run_id);
    int count = (int) fleet_statement_run(&tasks_statement, &value, NULL);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocHuge(context, sizeof(FleetTaskRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetTaskRow *row = &(*rows)[i];

        row->task = (uint32) fleet_column_int(tuple, desc, 1, 0);
        row->item = (uint32) fleet_column_int(tuple, desc, 2, 0);
        row->server_id = (int) fleet_column_int(tuple, desc, 3, 0);
        row->attempt = (uint16) fleet_column_int(tuple, desc, 4, 0);
        row->state = (FleetState) fleet_column_int(tuple, desc, 5, 0);
        row->log_base = (int) fleet_column_int(tuple, desc, 6, 0);
        row->started_at = column_time(tuple, desc, 7);
        row->finished_at = column_time(tuple, desc, 8);
        row->failures = (uint16) fleet_column_int(tuple, desc, 9, 0);
        row->carried_from = fleet_column_int(tuple, desc, 10, 0);
        row->item_key = fleet_column_text(tuple, desc, 11, context);
        row->cost = fleet_column_double(tuple, desc, 12);
    }
    SPI_freetuptable(table);
    return count;
}

static FleetStatement item_params_statement = {
    "SELECT t.params, t.item_key FROM fleet_catalog.task_run AS t"
    " WHERE t.run_id OPERATOR(pg_catalog.=) $1 AND t.task_no OPERATOR(pg_catalog.=) $2"
    "   AND t.item OPERATOR(pg_catalog.=) $3",
    3,
    {INT8OID, INT4OID, INT4OID},
    NULL};

char *
fleet_task_item_params(int64 run_id, uint32 task, uint32 item, char **key)
{
    MemoryContext context = CurrentMemoryContext;
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) task),
                      Int32GetDatum((int32) item)};
    char *params = NULL;

    *key = NULL;
    if (fleet_statement_run(&item_params_statement, values, NULL) == 1)
    {
        params = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
        *key = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, context);
    }
    SPI_freetuptable(SPI_tuptable);
    return params;
}

int
fleet_step_read_newest(int64 run_id, int64 job_run_id, FleetStepRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    Datum value = Int64GetDatum(run_id != 0 ? run_id : job_run_id);
    int count = (int) fleet_statement_run(
        run_id != 0 ? &task_steps_statement : &job_steps_statement, &value, NULL);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocZero(context, sizeof(FleetStepRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetStepRow *row = &(*rows)[i];

        row->task = (uint32) fleet_column_int(tuple, desc, 1, 0);
        row->item = (uint32) fleet_column_int(tuple, desc, 2, 0);
        row->task_attempt = (uint16) fleet_column_int(tuple, desc, 3, 1);
        row->step_no = (int) fleet_column_int(tuple, desc, 4, 1);
        row->attempt = (int) fleet_column_int(tuple, desc, 5, 1);
        row->state = (FleetState) fleet_column_int(tuple, desc, 6, 0);
        row->phase = (int) fleet_column_int(tuple, desc, 7, 0);
        row->first_seq = (int) fleet_column_int(tuple, desc, 8, 0);
        row->max_seq = (int) fleet_column_int(tuple, desc, 9, 0);
        row->step_runs = (int) fleet_column_int(tuple, desc, 10, 0);
        row->server_id = (int) fleet_column_int(tuple, desc, 11, 0);
        row->backend_pid = (int) fleet_column_int(tuple, desc, 12, 0);
        row->xid = (uint64) fleet_column_int(tuple, desc, 13, 0);
        row->row_count = fleet_column_int(tuple, desc, 14, -1);
        row->started_at = column_time(tuple, desc, 15);
        row->sqlstate = fleet_column_text(tuple, desc, 16, context);
        row->output = fleet_column_text(tuple, desc, 17, context);
        row->server_system = (uint64) fleet_column_int(tuple, desc, 18, 0);
        row->server_timeline = (uint32) fleet_column_int(tuple, desc, 19, 0);
        row->server_crash = fleet_column_text(tuple, desc, 20, context);
    }
    SPI_freetuptable(table);
    return count;
}

int
fleet_task_next_line(int64 run_id, uint32 task, uint32 item)
{
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) task),
                      Int32GetDatum((int32) item)};
    int seq;

    (void) fleet_statement_run(&next_line_statement, values, NULL);
    seq = (int) fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 1);
    SPI_freetuptable(SPI_tuptable);
    return seq;
}
