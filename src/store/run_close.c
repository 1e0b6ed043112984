/*
 * store/run_close.c
 *     The open rows of a run or job run that cannot be loaded: nothing will
 *     ever report how they ended, so it is recorded here.  And rows that are
 *     taken back.  In the agent's process.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "clock.h"
#include "store/run_close.h"
#include "store/spi.h"
#include "store/stat.h"
#include "store/state_change.h"
#include "store/tables.h"
#include "catalog/pg_type_d.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* What rows of task_run and step_run have in common here. */
typedef struct Closing
{
    FleetTable *table;
    FleetMachine machine;
    int index; /* by run or job run */
    int state, finished_at, sqlstate, message;
} Closing;

static const Closing tasks = {&fleet_table_task_run, FLEET_MACHINE_TASK, TASK_BY_KEY, TASK_STATE,
                              TASK_FINISHED_AT,      TASK_SQLSTATE,      TASK_MESSAGE};
static const Closing task_steps = {
    &fleet_table_step_run, FLEET_MACHINE_STEP, STEP_BY_TASK, STEP_STATE,
    STEP_FINISHED_AT,      STEP_SQLSTATE,      STEP_MESSAGE};
static const Closing job_steps = {
    &fleet_table_step_run, FLEET_MACHINE_STEP, STEP_BY_JOB, STEP_STATE,
    STEP_FINISHED_AT,      STEP_SQLSTATE,      STEP_MESSAGE};

/* A task run that is not under way is skipped; the outcome of what has begun is not known. */
static FleetState
closed_state(FleetMachine machine, FleetState state)
{
    FleetState next = FLEET_UNKNOWN;

    if (machine == FLEET_MACHINE_TASK && fleet_state_next(machine, state, FLEET_EVENT_SKIP, &next))
        return next;
    (void) fleet_state_next(machine, state, FLEET_EVENT_UNKNOWN, &next);
    return next;
}

static void
close_rows(const Closing *closing, int64 id, const char *sqlstate, const char *message)
{
    Datum key = Int64GetDatum(id);
    Datum texts[] = {CStringGetTextDatum(sqlstate), CStringGetTextDatum(message)};
    FleetRows *rows = fleet_rows_open(closing->table, true);

    fleet_rows_seek(rows, closing->index, &key, 1);
    while (fleet_rows_next(rows))
    {
        FleetState state = (FleetState) fleet_rows_int(rows, closing->state, 0);

        if (FLEET_STATE_IS_FINAL(state))
            continue;
        fleet_rows_edit(rows);
        if (closing == &tasks)
            fleet_stat_task_closed(rows, closed_state(closing->machine, state));
        fleet_state_change(rows, closing->state, closing->machine, state,
                           closed_state(closing->machine, state));
        fleet_rows_set(rows, closing->finished_at, TimestampTzGetDatum(fleet_clock_wall()));
        fleet_rows_set(rows, closing->sqlstate, texts[0]);
        fleet_rows_set(rows, closing->message, texts[1]);
        fleet_rows_update(rows);
    }
    fleet_rows_close(rows);
    fleet_rows_written();
}

/* Where people look: at the task run that was under way, or is the first that would have been, or, if
 * there is none, at the run itself. */
static FleetStatement line_statement = {
    "WITH t AS (SELECT o.run_id, o.task_no, o.item, o.log_seq FROM fleet_catalog.task_run AS o"
    "         WHERE o.run_id OPERATOR(pg_catalog.=) $1 AND o.state OPERATOR(pg_catalog.<) "
    "11::smallint"
    "         ORDER BY o.state OPERATOR(pg_catalog.=) 1::smallint, o.task_no, o.item LIMIT 1)"
    "INSERT INTO fleet_catalog.log_line"
    "   (run_id, task_no, item, seq, logged_at, level, sqlstate, message)"
    "SELECT $1, t.task_no, t.item,"
    "       1 OPERATOR(pg_catalog.+) GREATEST(t.log_seq, 0,"
    "         (SELECT pg_catalog.max(GREATEST(s.first_seq, s.last_seq))"
    "            FROM fleet_catalog.step_run AS s"
    "           WHERE s.run_id OPERATOR(pg_catalog.=) t.run_id"
    "             AND s.task_no OPERATOR(pg_catalog.=) t.task_no"
    "             AND s.item OPERATOR(pg_catalog.=) t.item),"
    "         (SELECT pg_catalog.max(l.seq) FROM fleet_catalog.log_line AS l"
    "           WHERE l.run_id OPERATOR(pg_catalog.=) t.run_id"
    "             AND l.task_no OPERATOR(pg_catalog.=) t.task_no"
    "             AND l.item OPERATOR(pg_catalog.=) t.item)),"
    "       pg_catalog.clock_timestamp(), 'ERROR', $2, $3"
    "  FROM (SELECT) AS run LEFT JOIN t ON true",
    3,
    {INT8OID, TEXTOID, TEXTOID},
    NULL};

void
fleet_run_close_line(int64 run_id, const char *sqlstate, const char *message)
{
    Datum values[] = {Int64GetDatum(run_id), CStringGetTextDatum(sqlstate),
                      CStringGetTextDatum(message)};

    (void) fleet_statement_run(&line_statement, values, NULL);
    fleet_stat_line(run_id, 0);
}

void
fleet_run_close(int64 run_id, const char *sqlstate, const char *message)
{
    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    close_rows(&tasks, run_id, sqlstate, message);
    close_rows(&task_steps, run_id, sqlstate, message);
    PopActiveSnapshot();
}

void
fleet_job_run_close(int64 job_run_id, const char *sqlstate, const char *message)
{
    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    close_rows(&job_steps, job_run_id, sqlstate, message);
    PopActiveSnapshot();
}

static FleetStatement forget_items_statement = {
    "DELETE FROM fleet_catalog.task_run AS t"
    " WHERE t.run_id OPERATOR(pg_catalog.=) $1 AND t.task_no OPERATOR(pg_catalog.=) $2"
    "   AND t.item OPERATOR(pg_catalog.>) 0",
    2,
    {INT8OID, INT4OID},
    NULL};

void
fleet_task_forget_items(int64 run_id, uint32 task)
{
    Datum values[] = {Int64GetDatum(run_id), Int32GetDatum((int32) task)};

    (void) fleet_statement_run(&forget_items_statement, values, NULL);
}
