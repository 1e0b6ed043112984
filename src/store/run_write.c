/*
 * store/run_write.c
 *     Writes of the agent: rows are collected during a turn (run_collect.c),
 *     and written through rows.h, table by table.
 *
 * All that is collected shares one pass and one transaction.  After an agent
 * has ended by an ERROR its successor asks for an order: rows of one run (or
 * job run) alone, so that what they raise is surely theirs; and those of runs
 * over which an agent has ended after the others' commit.
 */
#include "postgres.h"

#include "store/places.h"
#include "store/run_collect.h"
#include "store/spi.h"
#include "store/stat.h"
#include "store/state_change.h"
#include "store/tables.h"
#include "hand.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static FleetStartedCallback on_start = NULL;

static FleetWriteOrder (*order)(const FleetRowOwner *owner) = NULL;
static FleetWriteOrder turn;  /* whose rows are written now … */
static FleetRowOwner turn_of; /* … unless together: this one's */

void
fleet_task_on_start(FleetStartedCallback callback)
{
    on_start = callback;
}

static FleetPlaceKey
task_place(int64 run_id, uint32 task, uint32 item)
{
    FleetPlaceKey key = {.run_id = run_id, .task = task, .item = item};

    return key;
}

static FleetPlaceKey
step_place(const FleetStepWrite *w)
{
    FleetPlaceKey key = {w->run_id, w->job_run_id, w->task, w->item, w->first_seq, 0};

    return key;
}

/* ---- setting columns ---- */

static void
set_int8(FleetRows *rows, int column, int64 value, int64 null)
{
    if (value == null)
        fleet_rows_set_null(rows, column);
    else
        fleet_rows_set(rows, column, Int64GetDatum(value));
}

static void
set_int4(FleetRows *rows, int column, int32 value, int32 null)
{
    if (value == null)
        fleet_rows_set_null(rows, column);
    else
        fleet_rows_set(rows, column, Int32GetDatum(value));
}

static void
set_int2(FleetRows *rows, int column, int value)
{
    fleet_rows_set(rows, column, Int16GetDatum((int16) value));
}

static void
set_text(FleetRows *rows, int column, const char *text)
{
    if (text == NULL)
        fleet_rows_set_null(rows, column);
    else
    {
        MemoryContext before = MemoryContextSwitchTo(fleet_collected.values);

        fleet_rows_set(rows, column, CStringGetTextDatum(text));
        MemoryContextSwitchTo(before);
    }
}

/* The row to be changed; ERROR if it is missing. */
static void
edit(FleetRows *rows, const FleetPlaceKey *place, int index, const Datum *keys, int nkeys)
{
    if (!(place != NULL && fleet_place_find(place, rows, index, keys, nkeys)) &&
        !fleet_rows_find(rows, index, keys, nkeys))
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("a row of fleet_catalog.%s no longer exists", fleet_rows_name(rows)),
                        errhint("Another process may have written to fleet_catalog.")));
    fleet_rows_edit(rows);
}

static void
task_edit(FleetRows *rows, const FleetTaskWrite *w, const FleetPlaceKey *place)
{
    Datum keys[] = {Int64GetDatum(w->run_id), Int32GetDatum((int32) w->task),
                    Int32GetDatum((int32) w->item)};

    edit(rows, place, TASK_BY_KEY, keys, 3);
}

/* ---- writing ---- */

void
fleet_run_write_order(FleetWriteOrder (*order_of)(const FleetRowOwner *owner))
{
    order = order_of;
}

/* Is this row one of those that are written now?  Then it is in the agent's hand. */
static bool
in_turn(int64 run_id, int64 job_run_id, const char *work)
{
    FleetRowOwner owner = {run_id, run_id != 0 ? 0 : job_run_id};

    if (order != NULL && (order(&owner) != turn || (turn != FLEET_WRITE_TOGETHER &&
                                                    !fleet_row_owners_equal(&owner, &turn_of))))
        return false;
    fleet_hand_take_unit(run_id, job_run_id, work);
    return true;
}

/* A trigger after the rows may raise for any of them, if they are of several runs. */
static void
rows_done(FleetRows *rows)
{
    if (order == NULL || turn == FLEET_WRITE_TOGETHER)
        fleet_hand_empty();
    fleet_rows_close(rows);
}

#define EACH(type, w, list)                                                                        \
    for (type *w = (type *) (list).items; w < (type *) (list).items + (list).count; w++)

static void
write_task_news(FleetRows *rows)
{
    EACH(FleetTaskNew, w, fleet_collected.news)
    {
        FleetPlaceKey place = task_place(w->run_id, w->task, w->item);

        if (!in_turn(w->run_id, 0, "work_write"))
            continue;
        fleet_rows_create(rows);
        set_int8(rows, TASK_RUN_ID, w->run_id, -1);
        set_int4(rows, TASK_NO, (int32) w->task, -1);
        set_int4(rows, TASK_ITEM, (int32) w->item, -1);
        set_int8(rows, TASK_QUEUED_AT, w->queued_at, 0);
        if (w->params != NULL)
            fleet_rows_set(rows, TASK_PARAMS, JsonbPGetDatum(w->params));
        if (w->facts.key != NULL)
            set_text(rows, TASK_ITEM_KEY, w->facts.key);
        if (w->facts.cost >= 0)
            fleet_rows_set(rows, TASK_COST, Float8GetDatum(w->facts.cost));
        set_int4(rows, TASK_LOG_SEQ, 0, -1);
        fleet_state_insert(rows, TASK_STATE, FLEET_MACHINE_TASK, FLEET_QUEUED);
        set_int2(rows, TASK_ATTEMPT, 0);
        set_int2(rows, TASK_FAILURES, 0);
        fleet_rows_insert(rows);
        fleet_place_remember(&place, rows, FLEET_QUEUED);
    }
}

static void
set_task_params(FleetRows *rows, const FleetTaskWrite *w)
{
    if (w->document != NULL)
        fleet_rows_set(rows, TASK_PARAMS, JsonbPGetDatum(w->document));
}

static void
write_task_states(FleetRows *rows)
{
    EACH(FleetTaskWrite, w, fleet_collected.tasks)
    {
        FleetPlaceKey place = task_place(w->run_id, w->task, w->item);

        if (!in_turn(w->run_id, 0, "work_write"))
            continue;
        task_edit(rows, w, &place);
        fleet_state_change(rows, TASK_STATE, FLEET_MACHINE_TASK, w->old, w->state);
        fleet_stat_task(rows, w);
        set_task_params(rows, w);
        set_int2(rows, TASK_FAILURES, w->failures);
        if (w->server_id != 0)
            set_int4(rows, TASK_SERVER_ID, w->server_id, 0);
        if (w->log_base != 0)
            set_int4(rows, TASK_LOG_SEQ, w->log_base, -1);
        if (w->started_at != 0)
            set_int8(rows, TASK_STARTED_AT, w->started_at, 0);
        set_int8(rows, TASK_FINISHED_AT, w->finished_at, 0);
        set_int8(rows, TASK_ROW_COUNT, w->row_count, -1);
        set_text(rows, TASK_SQLSTATE, w->diag.sqlstate);
        set_text(rows, TASK_MESSAGE, w->diag.message);
        set_text(rows, TASK_OUTPUT, w->output);
        if (w->definition_known)
            fleet_rows_set(rows, TASK_DEFINITION, PointerGetDatum(w->definition));
        fleet_rows_update(rows);
        fleet_place_remember(&place, rows, w->state);
    }
}

static void
started(const FleetTaskWrite *w, FleetRows *rows)
{
    bool isnull, no_key;
    Datum params = fleet_rows_get(rows, TASK_PARAMS, &isnull), key;
    FleetItemParams own = {0};

    if (on_start == NULL)
        return;
    if (!isnull)
    {
        Jsonb *document = DatumGetJsonbP(params);

        own.document = JsonbPGetDatum(document);
        own.text = JsonbToCString(NULL, &document->root, (int) VARSIZE(document));
        key = fleet_rows_get(rows, TASK_ITEM_KEY, &no_key);
        own.key = no_key ? NULL : TextDatumGetCString(key);
    }
    on_start(w->run_id, w->task, w->item, isnull ? NULL : &own);
}

static void
write_task_starts(FleetRows *rows)
{
    EACH(FleetTaskWrite, w, fleet_collected.starts)
    {
        FleetPlaceKey place = task_place(w->run_id, w->task, w->item);

        if (!in_turn(w->run_id, 0, "work_write"))
            continue;
        task_edit(rows, w, &place);
        fleet_state_change(rows, TASK_STATE, FLEET_MACHINE_TASK, w->old, FLEET_STARTING);
        fleet_stat_task_start(rows, w);
        started(w, rows); /* the params of an item stay as they are */
        set_task_params(rows, w);
        set_int2(rows, TASK_ATTEMPT, w->attempt);
        set_int4(rows, TASK_SERVER_ID, w->server_id, 0);
        set_int4(rows, TASK_LOG_SEQ, w->log_base, -1);
        for (int column = TASK_STARTED_AT; column <= TASK_DEFINITION; column++)
            fleet_rows_set_null(rows, column);
        fleet_rows_update(rows);
        fleet_place_remember(&place, rows, FLEET_STARTING);
    }
}

static void
write_tasks(void)
{
    FleetRows *rows;

    if (fleet_collected.news.count + fleet_collected.tasks.count + fleet_collected.starts.count ==
        0)
        return;
    rows = fleet_rows_open(&fleet_table_task_run, true);
    write_task_news(rows);
    if (fleet_collected.news.count > 0)
        fleet_rows_written();
    /* Ends before starts: the same row may end one attempt and begin the next in one turn. */
    write_task_states(rows);
    if (fleet_collected.tasks.count > 0 && fleet_collected.starts.count > 0)
        fleet_rows_written();
    write_task_starts(rows);
    rows_done(rows);
}

/* What an insert and an update have in common. */
static void
set_step_outcome(FleetRows *rows, const FleetStepWrite *w)
{
    set_int2(rows, STEP_PHASE, w->phase);
    set_int4(rows, STEP_LAST_SEQ, w->last_seq, 0);
    set_int8(rows, STEP_XID, (int64) w->xid, 0);
    set_int8(rows, STEP_SERVER_SYSTEM, (int64) w->server_system, 0);
    set_int4(rows, STEP_SERVER_TIMELINE, (int32) w->server_timeline, 0);
    set_text(rows, STEP_SERVER_CRASH,
             w->server_crash != NULL && w->server_crash[0] != '\0' ? w->server_crash : NULL);
    set_int8(rows, STEP_ROW_COUNT, w->row_count, -1);
    set_int8(rows, STEP_FINISHED_AT, w->finished_at, 0);
    set_text(rows, STEP_SQLSTATE, w->diag.sqlstate);
    set_text(rows, STEP_MESSAGE, w->diag.message);
    set_text(rows, STEP_DETAIL, w->diag.detail);
    set_text(rows, STEP_HINT, w->diag.hint);
    set_text(rows, STEP_CONTEXT, w->diag.context);
    set_text(rows, STEP_OUTPUT, w->output);
    if (w->backend_pid != 0)
        set_int4(rows, STEP_BACKEND_PID, w->backend_pid, 0);
}

static void
write_step_news(FleetRows *rows)
{
    EACH(FleetStepWrite, w, fleet_collected.step_news)
    {
        FleetPlaceKey place = step_place(w);

        if (!in_turn(w->run_id, w->job_run_id, "work_write"))
            continue;
        fleet_rows_create(rows);
        if (w->run_id != 0)
        {
            set_int8(rows, STEP_RUN_ID, w->run_id, 0);
            set_int4(rows, STEP_TASK_NO, (int32) w->task, -1);
            set_int4(rows, STEP_ITEM, (int32) w->item, -1);
        }
        set_int8(rows, STEP_JOB_RUN_ID, w->job_run_id, 0);
        set_int2(rows, STEP_TASK_ATTEMPT, w->task_attempt);
        set_int2(rows, STEP_STEP_NO, w->step_no);
        set_int2(rows, STEP_ATTEMPT, w->attempt);
        set_int4(rows, STEP_FIRST_SEQ, w->first_seq, -1);
        set_int4(rows, STEP_SERVER_ID, w->server_id, 0);
        set_int8(rows, STEP_STARTED_AT, w->started_at, 0);
        set_text(rows, STEP_STEP, w->step);
        fleet_state_insert(rows, STEP_STATE, FLEET_MACHINE_STEP, w->state);
        set_step_outcome(rows, w);
        fleet_rows_insert(rows);
        fleet_place_remember(&place, rows, w->state);
    }
}

static void
write_step_states(FleetRows *rows)
{
    EACH(FleetStepWrite, w, fleet_collected.steps)
    {
        Datum task_keys[] = {Int64GetDatum(w->run_id), Int32GetDatum((int32) w->task),
                             Int32GetDatum((int32) w->item), Int32GetDatum(w->first_seq)};
        Datum job_keys[] = {Int64GetDatum(w->job_run_id), Int32GetDatum(w->first_seq)};
        FleetPlaceKey place = step_place(w);

        if (!in_turn(w->run_id, w->job_run_id, "work_write"))
            continue;
        if (w->run_id != 0)
            edit(rows, &place, STEP_BY_TASK, task_keys, 4);
        else
            edit(rows, &place, STEP_BY_JOB, job_keys, 2);
        fleet_state_change(rows, STEP_STATE, FLEET_MACHINE_STEP, w->old, w->state);
        set_step_outcome(rows, w);
        fleet_rows_update(rows);
        fleet_place_remember(&place, rows, w->state);
    }
}

static void
write_steps(void)
{
    FleetRows *rows;

    if (fleet_collected.step_news.count + fleet_collected.steps.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_step_run, true);
    write_step_news(rows);
    if (fleet_collected.step_news.count > 0 && fleet_collected.steps.count > 0)
        fleet_rows_written();
    write_step_states(rows);
    rows_done(rows);
}

static void
write_lines(void)
{
    FleetRows *rows;

    if (fleet_collected.lines.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_log_line, true);
    EACH(FleetLineWrite, w, fleet_collected.lines)
    {
        if (!in_turn(w->run_id, w->job_run_id, "work_write"))
            continue;
        fleet_rows_create(rows);
        if (w->run_id != 0)
        {
            set_int8(rows, LINE_RUN_ID, w->run_id, 0);
            set_int4(rows, LINE_TASK_NO, (int32) w->task, -1);
            set_int4(rows, LINE_ITEM, (int32) w->item, -1);
        }
        set_int8(rows, LINE_JOB_RUN_ID, w->job_run_id, 0);
        set_int2(rows, LINE_STEP_NO, w->step_no);
        set_int4(rows, LINE_SEQ, w->seq, -1);
        set_int8(rows, LINE_LOGGED_AT, w->logged_at, 0);
        set_text(rows, LINE_LEVEL, w->diag.level);
        set_text(rows, LINE_SQLSTATE, w->diag.sqlstate);
        set_text(rows, LINE_MESSAGE, w->diag.message);
        set_text(rows, LINE_DETAIL, w->diag.detail);
        set_text(rows, LINE_HINT, w->diag.hint);
        set_text(rows, LINE_CONTEXT, w->diag.context);
        fleet_rows_insert(rows);
        fleet_stat_line(w->run_id, w->job_run_id);
    }
    rows_done(rows);
}

static void
write_job_runs(void)
{
    FleetRows *rows;

    if (fleet_collected.job_runs.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_job_run, true);
    EACH(FleetJobRunWrite, w, fleet_collected.job_runs)
    {
        Datum key = Int64GetDatum(w->job_run_id);

        if (!in_turn(0, w->job_run_id, "work_write_run"))
            continue;
        edit(rows, NULL, JOB_RUN_BY_ID, &key, 1);
        fleet_state_change(rows, JOB_STATE, FLEET_MACHINE_JOB, w->old, w->state);
        fleet_stat_job_run(rows, w);
        if (fleet_rows_int(rows, JOB_STARTED_AT, 0) == 0)
            set_int8(rows, JOB_STARTED_AT, w->started_at, 0);
        set_int8(rows, JOB_FINISHED_AT, w->finished_at, 0);
        set_int4(rows, JOB_LOG_SEQ, w->log_seq, -1);
        set_int8(rows, JOB_ROW_COUNT, w->row_count, -1);
        set_text(rows, JOB_SQLSTATE, w->diag.sqlstate);
        set_text(rows, JOB_MESSAGE, w->diag.message);
        set_text(rows, JOB_OUTPUT, w->output);
        fleet_rows_update(rows);
    }
    rows_done(rows);
}

static void
write_runs(void)
{
    FleetRows *rows;

    if (fleet_collected.runs.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_run, true);
    EACH(FleetRunWrite, w, fleet_collected.runs)
    {
        Datum key = Int64GetDatum(w->run_id);

        if (!in_turn(w->run_id, 0, "work_write_run"))
            continue;
        edit(rows, NULL, RUN_BY_ID, &key, 1);
        fleet_state_change(rows, RUN_STATE, FLEET_MACHINE_RUN, w->old, w->state);
        fleet_stat_run(rows, w);
        if (fleet_rows_int(rows, RUN_STARTED_AT, 0) == 0)
            set_int8(rows, RUN_STARTED_AT, w->started_at, 0);
        set_int8(rows, RUN_FINISHED_AT, w->finished_at, 0);
        if (w->message != NULL || w->state == FLEET_SUCCEEDED) /* not why it was to be stopped */
            set_text(rows, RUN_MESSAGE, w->message);
        if (w->timed_out)
            fleet_rows_set(rows, RUN_TIMED_OUT, BoolGetDatum(true));
        fleet_rows_update(rows);
    }
    rows_done(rows);
}

static void
write_all(void)
{
    FleetHand before = fleet_hand;

    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    write_tasks();
    write_steps();
    write_lines();
    write_job_runs();
    write_runs();
    PopActiveSnapshot();
    CommandCounterIncrement(); /* statements that follow in this transaction see the rows */
    fleet_hand = before;
}

/* ---- one after the other ---- */

static FleetHand
hand_of(const FleetRowOwner *owner)
{
    if (owner->run_id != 0)
        return (FleetHand){FLEET_HAND_RUN, owner->run_id, "work_write_all"};
    return (FleetHand){FLEET_HAND_JOB_RUN, owner->job_run_id, "work_write_all"};
}

/* What triggers raise comes while it is known whose rows they are, deferred ones included. */
static void
write_each(const FleetRowOwner *owners, int n, FleetWriteOrder which)
{
    FleetHand before = fleet_hand;

    turn = which;
    for (int i = 0; i < n; i++)
    {
        if (order(&owners[i]) != which)
            continue;
        turn_of = owners[i];
        fleet_hand = hand_of(&owners[i]);
        write_all();
        fleet_rows_settle();
    }
    fleet_hand = before;
}

static void
write_in_order(bool commit)
{
    FleetRowOwner *owners;
    int n = fleet_collected_owners(&owners);

    turn = FLEET_WRITE_TOGETHER;
    write_all();
    write_each(owners, n, FLEET_WRITE_APART);
    for (int i = 0; i < n && commit; i++)
    {
        if (order(&owners[i]) != FLEET_WRITE_LAST)
            continue;
        fleet_catalog_commit();
        break;
    }
    write_each(owners, n, FLEET_WRITE_LAST);
}

static void
flush(bool commit)
{
    if (fleet_collected_count() == 0)
        return;
    if (order == NULL)
        write_all();
    else
        write_in_order(commit);
    fleet_collected_clear();
}

void
fleet_run_flush(void)
{
    flush(false);
}

void
fleet_run_flush_turn(void)
{
    flush(true);
}

/* A column of its row, at once. */
static void
run_set(int64 run_id, int column, Datum value)
{
    Datum key = Int64GetDatum(run_id);
    FleetRows *rows;

    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    rows = fleet_rows_open(&fleet_table_run, true);
    if (fleet_rows_find(rows, RUN_BY_ID, &key, 1))
    {
        fleet_rows_edit(rows);
        fleet_rows_set(rows, column, value);
        fleet_rows_update(rows);
    }
    fleet_rows_close(rows);
    PopActiveSnapshot();
    CommandCounterIncrement(); /* the run's next change finds this row */
}

void
fleet_run_write_uuid(int64 run_id, const char *uuid)
{
    run_set(run_id, RUN_UUID, DirectFunctionCall1(uuid_in, CStringGetDatum(uuid)));
}

void
fleet_run_write_late(int64 run_id, bool expected, TimestampTz at)
{
    run_set(run_id, expected ? RUN_EXPECTED_LATE_AT : RUN_LATE_AT, TimestampTzGetDatum(at));
    if (!expected)
        fleet_stat_late(run_id);
}
