/*
 * store/run_write.c
 *     Writes of the agent: rows are collected during a turn, and written
 *     through rows.h, table by table.
 */
#include "postgres.h"

#include "store/places.h"
#include "store/run_write.h"
#include "store/spi.h"
#include "store/state_change.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* ---- collecting ---- */

typedef struct RunWrite
{
    int64 run_id;
    FleetState old;
    FleetState state;
    TimestampTz started_at;
    TimestampTz finished_at;
    const char *message;
} RunWrite;

typedef struct TaskNew
{
    int64 run_id;
    uint32 task;
    uint32 item;
    TimestampTz queued_at;
    Jsonb *params; /* NULL: none */
} TaskNew;

/* Rows of one kind; "items" grows, and is kept from turn to turn unless it has grown large. */
typedef struct Collected
{
    Size size; /* of an item */
    int count;
    int capacity;
    char *items;
} Collected;

#define KEEP_CAPACITY 256

static Collected runs = {.size = sizeof(RunWrite)};
static Collected news = {.size = sizeof(TaskNew)};
static Collected starts = {.size = sizeof(FleetTaskWrite)};
static Collected tasks = {.size = sizeof(FleetTaskWrite)};
static Collected job_runs = {.size = sizeof(FleetJobRunWrite)};
static Collected step_news = {.size = sizeof(FleetStepWrite)};
static Collected steps = {.size = sizeof(FleetStepWrite)};
static Collected lines = {.size = sizeof(FleetLineWrite)};
static Collected *const all[] = {&runs,     &news,      &starts, &tasks,
                                 &job_runs, &step_news, &steps,  &lines};
static MemoryContext lists;  /* the items */
static MemoryContext values; /* what they point to; reset by flush */
static MemoryContext scratch;
static FleetStartedCallback on_start = NULL;

void
fleet_run_write_init(MemoryContext context)
{
    lists = AllocSetContextCreate(context, "pg_fleet rows", ALLOCSET_DEFAULT_SIZES);
    values = AllocSetContextCreate(context, "pg_fleet row values", ALLOCSET_DEFAULT_SIZES);
    scratch = AllocSetContextCreate(context, "pg_fleet row scratch", ALLOCSET_DEFAULT_SIZES);
    fleet_places_init(context);
}

static int
pending(void)
{
    int n = 0;

    for (int i = 0; i < (int) lengthof(all); i++)
        n += all[i]->count;
    return n;
}

bool
fleet_run_write_pending(void)
{
    return pending() > 0;
}

static void *
collect(Collected *list, const void *item)
{
    char *place;

    if (list->count == list->capacity)
    {
        int capacity = Max(64, list->capacity * 2);

        list->items = list->items == NULL
                          ? MemoryContextAllocHuge(lists, list->size * (Size) capacity)
                          : repalloc_huge(list->items, list->size * (Size) capacity);
        list->capacity = capacity;
    }
    place = list->items + list->size * (Size) list->count++;
    memcpy(place, item, list->size);
    return place;
}

static void
collected_clear(void)
{
    for (int i = 0; i < (int) lengthof(all); i++)
    {
        Collected *list = all[i];

        if (list->capacity > KEEP_CAPACITY)
        {
            pfree(list->items);
            list->items = NULL;
            list->capacity = 0;
        }
        list->count = 0;
    }
    MemoryContextReset(values);
}

static void
keep(const char **text)
{
    if (*text != NULL)
        *text = MemoryContextStrdup(values, *text);
}

void
fleet_run_write(int64 run_id, FleetState old, FleetState state, TimestampTz started,
                TimestampTz finished, const char *message)
{
    RunWrite w = {run_id, old, state, started, finished, message};

    keep(&w.message);
    collect(&runs, &w);
}

void
fleet_task_write_new(int64 run_id, uint32 task, uint32 item, TimestampTz queued, const char *params)
{
    TaskNew w = {run_id, task, item, queued, NULL};

    if (params != NULL)
    {
        MemoryContext before = MemoryContextSwitchTo(scratch);
        Jsonb *parsed = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(params)));

        w.params = MemoryContextAlloc(values, VARSIZE(parsed));
        memcpy(w.params, parsed, VARSIZE(parsed));
        MemoryContextSwitchTo(before);
        MemoryContextReset(scratch); /* parsing leaves a hundred times as much: 100,000 of them */
    }
    collect(&news, &w);
}

int
fleet_task_mark_new(void)
{
    return news.count;
}

void
fleet_task_forget_new(int mark)
{
    Assert(mark <= news.count);
    news.count = mark;
}

void
fleet_task_on_start(FleetStartedCallback callback)
{
    on_start = callback;
}

void
fleet_task_write_start(const FleetTaskWrite *write)
{
    collect(&starts, write); /* its texts are not looked at */
}

void
fleet_task_write(const FleetTaskWrite *write)
{
    FleetTaskWrite *w = collect(&tasks, write);

    fleet_diagnostics_copy(&w->diag, &write->diag, values);
    keep(&w->output);
}

void
fleet_job_run_write(const FleetJobRunWrite *write)
{
    FleetJobRunWrite *w = collect(&job_runs, write);

    fleet_diagnostics_copy(&w->diag, &write->diag, values);
    keep(&w->output);
}

static void
step_collect(Collected *list, const FleetStepWrite *write)
{
    FleetStepWrite *w = collect(list, write);

    fleet_diagnostics_copy(&w->diag, &write->diag, values);
    keep(&w->step);
    keep(&w->output);
}

void
fleet_step_write_new(const FleetStepWrite *write)
{
    step_collect(&step_news, write);
}

void
fleet_step_write(const FleetStepWrite *write)
{
    step_collect(&steps, write);
}

void
fleet_line_write(const FleetLineWrite *write)
{
    FleetLineWrite *w = collect(&lines, write);

    fleet_diagnostics_copy(&w->diag, &write->diag, values);
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
        MemoryContext before = MemoryContextSwitchTo(values);

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

#define EACH(type, w, list)                                                                        \
    for (type *w = (type *) (list).items; w < (type *) (list).items + (list).count; w++)

static void
write_task_news(FleetRows *rows)
{
    EACH(TaskNew, w, news)
    {
        FleetPlaceKey place = task_place(w->run_id, w->task, w->item);

        fleet_rows_create(rows);
        set_int8(rows, TASK_RUN_ID, w->run_id, -1);
        set_int4(rows, TASK_NO, (int32) w->task, -1);
        set_int4(rows, TASK_ITEM, (int32) w->item, -1);
        set_int8(rows, TASK_QUEUED_AT, w->queued_at, 0);
        if (w->params != NULL)
            fleet_rows_set(rows, TASK_PARAMS, JsonbPGetDatum(w->params));
        set_int4(rows, TASK_LOG_SEQ, 0, -1);
        fleet_state_insert(rows, TASK_STATE, FLEET_MACHINE_TASK, FLEET_QUEUED);
        set_int2(rows, TASK_ATTEMPT, 0);
        set_int2(rows, TASK_FAILURES, 0);
        fleet_rows_insert(rows);
        fleet_place_remember(&place, rows, FLEET_QUEUED);
    }
}

static void
write_task_states(FleetRows *rows)
{
    EACH(FleetTaskWrite, w, tasks)
    {
        FleetPlaceKey place = task_place(w->run_id, w->task, w->item);

        task_edit(rows, w, &place);
        fleet_state_change(rows, TASK_STATE, FLEET_MACHINE_TASK, w->old, w->state);
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
        fleet_rows_update(rows);
        fleet_place_remember(&place, rows, w->state);
    }
}

static void
started(const FleetTaskWrite *w, FleetRows *rows)
{
    bool isnull;
    Datum params = fleet_rows_get(rows, TASK_PARAMS, &isnull);
    FleetItemParams own = {0};

    if (on_start == NULL)
        return;
    if (!isnull)
    {
        Jsonb *document = DatumGetJsonbP(params);

        own.document = JsonbPGetDatum(document);
        own.text = JsonbToCString(NULL, &document->root, (int) VARSIZE(document));
    }
    on_start(w->run_id, w->task, w->item, isnull ? NULL : &own);
}

static void
write_task_starts(FleetRows *rows)
{
    EACH(FleetTaskWrite, w, starts)
    {
        FleetPlaceKey place = task_place(w->run_id, w->task, w->item);

        task_edit(rows, w, &place);
        fleet_state_change(rows, TASK_STATE, FLEET_MACHINE_TASK, w->old, FLEET_STARTING);
        started(w, rows); /* its params stay as they are */
        set_int2(rows, TASK_ATTEMPT, w->attempt);
        set_int4(rows, TASK_SERVER_ID, w->server_id, 0);
        set_int4(rows, TASK_LOG_SEQ, w->log_base, -1);
        for (int column = TASK_STARTED_AT; column <= TASK_OUTPUT; column++)
            fleet_rows_set_null(rows, column);
        fleet_rows_update(rows);
        fleet_place_remember(&place, rows, FLEET_STARTING);
    }
}

static void
write_tasks(void)
{
    FleetRows *rows;

    if (news.count + tasks.count + starts.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_task_run, true);
    write_task_news(rows);
    if (news.count > 0)
        fleet_rows_written();
    /* Ends before starts: the same row may end one attempt and begin the next in one turn. */
    write_task_states(rows);
    if (tasks.count > 0 && starts.count > 0)
        fleet_rows_written();
    write_task_starts(rows);
    fleet_rows_close(rows);
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
    EACH(FleetStepWrite, w, step_news)
    {
        FleetPlaceKey place = step_place(w);

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
    EACH(FleetStepWrite, w, steps)
    {
        Datum task_keys[] = {Int64GetDatum(w->run_id), Int32GetDatum((int32) w->task),
                             Int32GetDatum((int32) w->item), Int32GetDatum(w->first_seq)};
        Datum job_keys[] = {Int64GetDatum(w->job_run_id), Int32GetDatum(w->first_seq)};
        FleetPlaceKey place = step_place(w);

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

    if (step_news.count + steps.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_step_run, true);
    write_step_news(rows);
    if (step_news.count > 0 && steps.count > 0)
        fleet_rows_written();
    write_step_states(rows);
    fleet_rows_close(rows);
}

static void
write_lines(void)
{
    FleetRows *rows;

    if (lines.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_log_line, true);
    EACH(FleetLineWrite, w, lines)
    {
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
    }
    fleet_rows_close(rows);
}

static void
write_job_runs(void)
{
    FleetRows *rows;

    if (job_runs.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_job_run, true);
    EACH(FleetJobRunWrite, w, job_runs)
    {
        Datum key = Int64GetDatum(w->job_run_id);

        edit(rows, NULL, JOB_RUN_BY_ID, &key, 1);
        fleet_state_change(rows, JOB_STATE, FLEET_MACHINE_JOB, w->old, w->state);
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
    fleet_rows_close(rows);
}

static void
write_runs(void)
{
    FleetRows *rows;

    if (runs.count == 0)
        return;
    rows = fleet_rows_open(&fleet_table_run, true);
    EACH(RunWrite, w, runs)
    {
        Datum key = Int64GetDatum(w->run_id);

        edit(rows, NULL, RUN_BY_ID, &key, 1);
        fleet_state_change(rows, RUN_STATE, FLEET_MACHINE_RUN, w->old, w->state);
        if (fleet_rows_int(rows, RUN_STARTED_AT, 0) == 0)
            set_int8(rows, RUN_STARTED_AT, w->started_at, 0);
        set_int8(rows, RUN_FINISHED_AT, w->finished_at, 0);
        if (w->message != NULL)
            set_text(rows, RUN_MESSAGE, w->message);
        fleet_rows_update(rows);
    }
    fleet_rows_close(rows);
}

void
fleet_run_flush(void)
{
    if (pending() == 0)
        return;
    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    write_tasks();
    write_steps();
    write_lines();
    write_job_runs();
    write_runs();
    PopActiveSnapshot();
    CommandCounterIncrement(); /* statements that follow in this transaction see the rows */
    collected_clear();
}
