/*
 * catalog/run_write.c
 *     Writes of the agent: rows are collected during a turn, each table's rows
 *     go out in one statement.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/run.h"
#include "catalog/spi.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

static const Oid run_columns[] = {INT8OID,        INT2OID,        INT2OID,
                                  TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
static FleetStatement run_statement = {
    "UPDATE fleet_catalog.run AS r"
    "   SET state = u.state, started_at = COALESCE(r.started_at, u.started_at),"
    "       finished_at = u.finished_at, message = COALESCE(u.message, r.message)"
    "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
    "                  pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6))"
    "       AS u(run_id, old, state, started_at, finished_at, message)"
    " WHERE r.run_id OPERATOR(pg_catalog.=) u.run_id AND r.state OPERATOR(pg_catalog.=) u.old",
    6,
    {INT8ARRAYOID, INT2ARRAYOID, INT2ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
     TEXTARRAYOID},
    NULL};

static const Oid new_columns[] = {INT8OID, INT4OID, INT4OID, TIMESTAMPTZOID, JSONBOID};
static FleetStatement new_statement = {
    "INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, params)"
    "SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
    "                         pg_catalog.unnest($3), pg_catalog.unnest($4),"
    "                         pg_catalog.unnest($5)) AS u",
    5,
    {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, TIMESTAMPTZARRAYOID, JSONBARRAYOID},
    NULL};

static const Oid start_columns[] = {INT8OID, INT4OID, INT4OID, INT2OID, INT2OID, INT4OID, INT4OID};
static FleetStatement start_statement = {
    "UPDATE fleet_catalog.task_run AS t"
    "   SET state = 2, attempt = u.attempt, server_id = u.server_id, log_seq = u.log_base,"
    "       started_at = NULL, finished_at = NULL, sqlstate = NULL, message = NULL, output = NULL,"
    "       row_count = NULL"
    "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
    "                  pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
    "                  pg_catalog.unnest($7))"
    "       AS u(run_id, task_no, item, old, attempt, server_id, log_base)"
    " WHERE t.run_id OPERATOR(pg_catalog.=) u.run_id"
    "   AND t.task_no OPERATOR(pg_catalog.=) u.task_no AND t.item OPERATOR(pg_catalog.=) u.item"
    "   AND t.state OPERATOR(pg_catalog.=) u.old"
    " RETURNING t.run_id, t.task_no, t.item, t.params",
    7,
    {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT2ARRAYOID, INT4ARRAYOID,
     INT4ARRAYOID},
    NULL};

static const Oid task_columns[] = {INT8OID, INT4OID,        INT4OID,        INT2OID, INT2OID,
                                   INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, TEXTOID,
                                   TEXTOID, TEXTOID,        INT2OID};
static FleetStatement task_statement = {
    "UPDATE fleet_catalog.task_run AS t"
    "   SET state = u.state, started_at = COALESCE(u.started_at, t.started_at),"
    "       server_id = COALESCE(u.server_id, t.server_id),"
    "       finished_at = u.finished_at, row_count = u.row_count, sqlstate = u.sqlstate,"
    "       message = u.message, output = u.output, failures = u.failures"
    "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
    "                  pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
    "                  pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),"
    "                  pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12),"
    "                  pg_catalog.unnest($13))"
    "       AS u(run_id, task_no, item, old, state, server_id, started_at, finished_at, row_count,"
    "            sqlstate, message, output, failures)"
    " WHERE t.run_id OPERATOR(pg_catalog.=) u.run_id"
    "   AND t.task_no OPERATOR(pg_catalog.=) u.task_no AND t.item OPERATOR(pg_catalog.=) u.item"
    "   AND t.state OPERATOR(pg_catalog.=) u.old",
    13,
    {INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT2ARRAYOID, INT4ARRAYOID,
     TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
     TEXTARRAYOID, INT2ARRAYOID},
    NULL};

static const Oid job_run_columns[] = {INT8OID, INT2OID, INT2OID, TIMESTAMPTZOID, TIMESTAMPTZOID,
                                      INT4OID, INT8OID, TEXTOID, TEXTOID,        TEXTOID};
static FleetStatement job_run_statement = {
    "UPDATE fleet_catalog.job_run AS j"
    "   SET state = u.state, started_at = COALESCE(j.started_at, u.started_at),"
    "       finished_at = u.finished_at, log_seq = u.log_seq, row_count = u.row_count,"
    "       sqlstate = u.sqlstate, message = u.message, output = u.output"
    "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"
    "                  pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
    "                  pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),"
    "                  pg_catalog.unnest($10))"
    "       AS u(job_run_id, old, state, started_at, finished_at, log_seq, row_count, sqlstate,"
    "            message, output)"
    " WHERE j.job_run_id OPERATOR(pg_catalog.=) u.job_run_id"
    "   AND j.state OPERATOR(pg_catalog.=) u.old",
    10,
    {INT8ARRAYOID, INT2ARRAYOID, INT2ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID,
     INT4ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID},
    NULL};

static const Oid step_new_columns[] = {
    INT8OID,        INT8OID, INT4OID, INT4OID, INT2OID, INT2OID, INT2OID, INT2OID,
    INT2OID,        INT4OID, INT4OID, INT4OID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID,
    TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
static FleetStatement step_new_statement = {
    "INSERT INTO fleet_catalog.step_run (run_id, job_run_id, task_no, item, task_attempt, step_no,"
    " attempt, state, phase, first_seq, last_seq, server_id, backend_pid, xid, row_count,"
    " started_at, finished_at, step, sqlstate, message, detail, hint, context, output)"
    "SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
    " pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
    " pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10),"
    " pg_catalog.unnest($11), pg_catalog.unnest($12), pg_catalog.unnest($13),"
    " pg_catalog.unnest($14), pg_catalog.unnest($15), pg_catalog.unnest($16),"
    " pg_catalog.unnest($17), pg_catalog.unnest($18), pg_catalog.unnest($19),"
    " pg_catalog.unnest($20), pg_catalog.unnest($21), pg_catalog.unnest($22),"
    " pg_catalog.unnest($23), pg_catalog.unnest($24)) AS u",
    24,
    {INT8ARRAYOID,        INT8ARRAYOID,        INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID,
     INT2ARRAYOID,        INT2ARRAYOID,        INT2ARRAYOID, INT2ARRAYOID, INT4ARRAYOID,
     INT4ARRAYOID,        INT4ARRAYOID,        INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID,
     TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
     TEXTARRAYOID,        TEXTARRAYOID,        TEXTARRAYOID, TEXTARRAYOID},
    NULL};

#define STEP_SET                                                                                   \
    "UPDATE fleet_catalog.step_run AS s"                                                           \
    "   SET state = u.state, phase = u.phase, last_seq = u.last_seq,"                              \
    "       backend_pid = COALESCE(u.backend_pid, s.backend_pid), xid = u.xid,"                    \
    "       row_count = u.row_count, finished_at = u.finished_at, sqlstate = u.sqlstate,"          \
    "       message = u.message, detail = u.detail, hint = u.hint, context = u.context,"           \
    "       output = u.output"                                                                     \
    "  FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3),"       \
    " pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"                        \
    " pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9),"                        \
    " pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12),"                     \
    " pg_catalog.unnest($13), pg_catalog.unnest($14), pg_catalog.unnest($15),"                     \
    " pg_catalog.unnest($16), pg_catalog.unnest($17))"                                             \
    "       AS u(unit_id, task_no, item, first_seq, state, phase, last_seq, backend_pid, xid,"     \
    "            row_count, finished_at, sqlstate, message, detail, hint, context, output)"

static const Oid step_columns[] = {INT8OID, INT4OID, INT4OID, INT4OID, INT2OID,        INT2OID,
                                   INT4OID, INT4OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID,
                                   TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
#define STEP_TYPES                                                                                 \
    {                                                                                              \
        INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT2ARRAYOID,        \
            INT4ARRAYOID, INT4ARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID,           \
            TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID     \
    }
static FleetStatement task_step_statement = {
    STEP_SET " WHERE s.run_id OPERATOR(pg_catalog.=) u.unit_id"
             "   AND s.task_no OPERATOR(pg_catalog.=) u.task_no"
             "   AND s.item OPERATOR(pg_catalog.=) u.item"
             "   AND s.first_seq OPERATOR(pg_catalog.=) u.first_seq",
    17, STEP_TYPES, NULL};
static FleetStatement job_step_statement = {STEP_SET
                                            " WHERE s.job_run_id OPERATOR(pg_catalog.=) u.unit_id"
                                            "   AND s.first_seq OPERATOR(pg_catalog.=) u.first_seq",
                                            17, STEP_TYPES, NULL};

static const Oid line_columns[] = {INT8OID, INT8OID,        INT4OID, INT4OID, INT2OID,
                                   INT4OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID,
                                   TEXTOID, TEXTOID,        TEXTOID};
static FleetStatement line_statement = {
    "INSERT INTO fleet_catalog.log_line (run_id, job_run_id, task_no, item, step_no, seq,"
    " logged_at, level, sqlstate, message, detail, hint, context)"
    "SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
    " pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
    " pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10),"
    " pg_catalog.unnest($11), pg_catalog.unnest($12), pg_catalog.unnest($13)) AS u",
    13,
    {INT8ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT4ARRAYOID, INT2ARRAYOID, INT4ARRAYOID,
     TIMESTAMPTZARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID,
     TEXTARRAYOID},
    NULL};

static FleetStatement condition_statement = {
    "INSERT INTO fleet_catalog.condition_result (run_id, from_task, to_task, holds)"
    " VALUES ($1, $2, $3, $4)",
    4,
    {INT8OID, INT4OID, INT4OID, BOOLOID},
    NULL};

static FleetStatement nested_statement = {
    "INSERT INTO fleet_catalog.run (run_uuid, package, definition, owner, priority, params,"
    " parent_run_id, parent_task_no, parent_item, parent_job_run_id)"
    "SELECT $1, p.name, fleet_catalog.snapshot_package(p.name), p.owner, $2,"
    "       p.params OPERATOR(pg_catalog.||) $3, $4, $5, $6, $7"
    "  FROM fleet_catalog.package AS p"
    " WHERE p.name OPERATOR(pg_catalog.=) $8 AND fleet_catalog.may_become($9, p.owner)"
    " RETURNING run_id",
    9,
    {UUIDOID, INT4OID, JSONBOID, INT8OID, INT4OID, INT4OID, INT8OID, TEXTOID, OIDOID},
    NULL};

static FleetBatch runs, news, starts, tasks, job_runs, step_news, task_steps, job_steps, lines;
static FleetStartedCallback on_start = NULL;

void
fleet_run_write_init(MemoryContext context)
{
    fleet_batch_init(&runs, &run_statement, lengthof(run_columns), run_columns, context);
    fleet_batch_init(&news, &new_statement, lengthof(new_columns), new_columns, context);
    fleet_batch_init(&starts, &start_statement, lengthof(start_columns), start_columns, context);
    fleet_batch_init(&tasks, &task_statement, lengthof(task_columns), task_columns, context);
    fleet_batch_init(&job_runs, &job_run_statement, lengthof(job_run_columns), job_run_columns,
                     context);
    fleet_batch_init(&step_news, &step_new_statement, lengthof(step_new_columns), step_new_columns,
                     context);
    fleet_batch_init(&task_steps, &task_step_statement, lengthof(step_columns), step_columns,
                     context);
    fleet_batch_init(&job_steps, &job_step_statement, lengthof(step_columns), step_columns,
                     context);
    fleet_batch_init(&lines, &line_statement, lengthof(line_columns), line_columns, context);
}

bool
fleet_run_write_pending(void)
{
    return runs.count + news.count + starts.count + tasks.count + job_runs.count + step_news.count +
               task_steps.count + job_steps.count + lines.count >
           0;
}

/* Collects one row of a batch, value by value, in the order of its columns. */
typedef struct Row
{
    FleetBatch *batch;
    int n;
    Datum values[FLEET_MAX_PARAMS];
    bool nulls[FLEET_MAX_PARAMS];
} Row;

static void
put(Row *row, Datum value, bool isnull)
{
    row->values[row->n] = value;
    row->nulls[row->n++] = isnull;
}

static void
put_int8(Row *row, int64 value, int64 null)
{
    put(row, Int64GetDatum(value), value == null);
}

static void
put_int4(Row *row, int32 value, int32 null)
{
    put(row, Int32GetDatum(value), value == null);
}

static void
put_int2(Row *row, int value)
{
    put(row, Int16GetDatum((int16) value), false);
}

static void
put_text(Row *row, const char *text)
{
    bool isnull;
    Datum value = fleet_batch_text(row->batch, text, &isnull);

    put(row, value, isnull);
}

static void
put_row(Row *row)
{
    fleet_batch_add(row->batch, row->values, row->nulls);
}

void
fleet_run_write(int64 run_id, FleetState old, FleetState state, TimestampTz started,
                TimestampTz finished, const char *message)
{
    Row row = {.batch = &runs};

    put_int8(&row, run_id, -1);
    put_int2(&row, old);
    put_int2(&row, state);
    put_int8(&row, started, 0);
    put_int8(&row, finished, 0);
    put_text(&row, message);
    put_row(&row);
}

void
fleet_task_write_new(int64 run_id, uint32 task, uint32 item, TimestampTz queued, const char *params)
{
    Row row = {.batch = &news};

    put_int8(&row, run_id, -1);
    put_int4(&row, (int32) task, -1);
    put_int4(&row, (int32) item, -1);
    put_int8(&row, queued, 0);
    if (params == NULL)
        put(&row, (Datum) 0, true);
    else
    {
        MemoryContext old = MemoryContextSwitchTo(news.context);

        put(&row, DirectFunctionCall1(jsonb_in, CStringGetDatum(params)), false);
        MemoryContextSwitchTo(old);
    }
    put_row(&row);
}

void
fleet_task_on_start(FleetStartedCallback callback)
{
    on_start = callback;
}

void
fleet_task_write_start(const FleetTaskWrite *w)
{
    Row row = {.batch = &starts};

    put_int8(&row, w->run_id, -1);
    put_int4(&row, (int32) w->task, -1);
    put_int4(&row, (int32) w->item, -1);
    put_int2(&row, w->old);
    put_int2(&row, w->attempt);
    put_int4(&row, w->server_id, 0);
    put_int4(&row, w->log_base, -1);
    put_row(&row);
}

void
fleet_task_write(const FleetTaskWrite *w)
{
    Row row = {.batch = &tasks};

    put_int8(&row, w->run_id, -1);
    put_int4(&row, (int32) w->task, -1);
    put_int4(&row, (int32) w->item, -1);
    put_int2(&row, w->old);
    put_int2(&row, w->state);
    put_int4(&row, w->server_id, 0);
    put_int8(&row, w->started_at, 0);
    put_int8(&row, w->finished_at, 0);
    put_int8(&row, w->row_count, -1);
    put_text(&row, w->sqlstate);
    put_text(&row, w->message);
    put_text(&row, w->output);
    put_int2(&row, w->failures);
    put_row(&row);
}

void
fleet_job_run_write(const FleetJobRunWrite *w)
{
    Row row = {.batch = &job_runs};

    put_int8(&row, w->job_run_id, -1);
    put_int2(&row, w->old);
    put_int2(&row, w->state);
    put_int8(&row, w->started_at, 0);
    put_int8(&row, w->finished_at, 0);
    put_int4(&row, w->log_seq, -1);
    put_int8(&row, w->row_count, -1);
    put_text(&row, w->sqlstate);
    put_text(&row, w->message);
    put_text(&row, w->output);
    put_row(&row);
}

void
fleet_step_write_new(const FleetStepWrite *w)
{
    Row row = {.batch = &step_news};

    put_int8(&row, w->run_id, 0);
    put_int8(&row, w->job_run_id, 0);
    put(&row, Int32GetDatum((int32) w->task), w->run_id == 0);
    put(&row, Int32GetDatum((int32) w->item), w->run_id == 0);
    put_int2(&row, w->task_attempt);
    put_int2(&row, w->step_no);
    put_int2(&row, w->attempt);
    put_int2(&row, w->state);
    put_int2(&row, w->phase);
    put_int4(&row, w->first_seq, -1);
    put_int4(&row, w->last_seq, 0);
    put_int4(&row, w->server_id, 0);
    put_int4(&row, w->backend_pid, 0);
    put_int8(&row, (int64) w->xid, 0);
    put_int8(&row, w->row_count, -1);
    put_int8(&row, w->started_at, 0);
    put_int8(&row, w->finished_at, 0);
    put_text(&row, w->step);
    put_text(&row, w->sqlstate);
    put_text(&row, w->message);
    put_text(&row, w->detail);
    put_text(&row, w->hint);
    put_text(&row, w->context);
    put_text(&row, w->output);
    put_row(&row);
}

void
fleet_step_write(const FleetStepWrite *w)
{
    Row row = {.batch = w->run_id != 0 ? &task_steps : &job_steps};

    put_int8(&row, w->run_id != 0 ? w->run_id : w->job_run_id, 0);
    put_int4(&row, (int32) w->task, -1);
    put_int4(&row, (int32) w->item, -1);
    put_int4(&row, w->first_seq, -1);
    put_int2(&row, w->state);
    put_int2(&row, w->phase);
    put_int4(&row, w->last_seq, 0);
    put_int4(&row, w->backend_pid, 0);
    put_int8(&row, (int64) w->xid, 0);
    put_int8(&row, w->row_count, -1);
    put_int8(&row, w->finished_at, 0);
    put_text(&row, w->sqlstate);
    put_text(&row, w->message);
    put_text(&row, w->detail);
    put_text(&row, w->hint);
    put_text(&row, w->context);
    put_text(&row, w->output);
    put_row(&row);
}

void
fleet_line_write(const FleetLineWrite *w)
{
    Row row = {.batch = &lines};

    put_int8(&row, w->run_id, 0);
    put_int8(&row, w->job_run_id, 0);
    put(&row, Int32GetDatum((int32) w->task), w->run_id == 0);
    put(&row, Int32GetDatum((int32) w->item), w->run_id == 0);
    put_int2(&row, w->step_no);
    put_int4(&row, w->seq, -1);
    put_int8(&row, w->logged_at, 0);
    put_text(&row, w->level);
    put_text(&row, w->sqlstate);
    put_text(&row, w->message);
    put_text(&row, w->detail);
    put_text(&row, w->hint);
    put_text(&row, w->context);
    put_row(&row);
}

/* A batch of updates must have found every row in the state that we believed. */
static void
run_exact(FleetBatch *batch, const char *what)
{
    int expected = batch->count;
    uint64 found = fleet_batch_run(batch);

    if (found != (uint64) expected)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("%d rows of %s were to change, %llu were found in the expected "
                               "state",
                               expected, what, (unsigned long long) found),
                        errhint("Does another process write to fleet_catalog?")));
}

/* Starts: their rows' own parameters come back. */
static void
run_starts(void)
{
    int expected = starts.count;
    SPITupleTable *table;

    if (expected == 0)
        return;
    run_exact(&starts, "task_run");
    table = SPI_tuptable;
    for (int i = 0; i < expected; i++)
    {
        HeapTuple tuple = table->vals[i];
        char *params = SPI_getvalue(tuple, table->tupdesc, 4);

        if (on_start != NULL)
            on_start(fleet_column_int(tuple, table->tupdesc, 1, 0),
                     (uint32) fleet_column_int(tuple, table->tupdesc, 2, 0),
                     (uint32) fleet_column_int(tuple, table->tupdesc, 3, 0), params);
    }
    SPI_freetuptable(table);
}

void
fleet_run_flush(void)
{
    run_exact(&news, "task_run");
    /* Ends before starts: the same row may end one attempt and begin the next in one turn. */
    run_exact(&tasks, "task_run");
    run_starts();
    run_exact(&step_news, "step_run");
    run_exact(&task_steps, "step_run");
    run_exact(&job_steps, "step_run");
    run_exact(&lines, "log_line");
    run_exact(&job_runs, "job_run");
    run_exact(&runs, "run");
}

void
fleet_condition_write(int64 run_id, uint32 from, uint32 to, bool holds)
{
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) from), Int32GetDatum((int32) to),
                      BoolGetDatum(holds)};

    (void) fleet_statement_run(&condition_statement, values, NULL);
}

int64
fleet_run_insert_nested(const char *package, Oid owner, const char *params, int32 priority,
                        const char *run_uuid, int64 parent_run_id, uint32 parent_task,
                        uint32 parent_item, int64 parent_job_run_id, char **why)
{
    Datum values[] = {DirectFunctionCall1(uuid_in, CStringGetDatum(run_uuid)),
                      Int32GetDatum(priority),
                      DirectFunctionCall1(jsonb_in, CStringGetDatum(params)),
                      Int64GetDatum(parent_run_id),
                      Int32GetDatum((int32) parent_task),
                      Int32GetDatum((int32) parent_item),
                      Int64GetDatum(parent_job_run_id),
                      CStringGetTextDatum(package),
                      ObjectIdGetDatum(owner)};
    char nulls[] = "         ";
    int64 run_id = 0;

    if (parent_run_id == 0)
        nulls[3] = nulls[4] = nulls[5] = 'n';
    if (parent_job_run_id == 0)
        nulls[6] = 'n';
    if (fleet_statement_run(&nested_statement, values, nulls) == 1)
        run_id = fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    else
        *why = psprintf("there is no package \"%s\" that the run's owner may run", package);
    SPI_freetuptable(SPI_tuptable);
    return run_id;
}
