/*
 * api/child.c
 *     What links of a parent call for every child: start, fetch, acknowledge.
 *     In the session of a link, below fleet_sql_api().
 *
 * Written on rows.h and not in SQL: a busy parent calls these hundreds of
 * times a second, each time for a few children.  The unusual start (a job that
 * is new or has changed, a token that is known, a job that is not there) is
 * left to fleet_catalog.agent_start_any(), which says what is wrong.
 *
 * Errors: FE001 the epoch is lower than one already seen from that parent.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/xact.h"
#include "api/caller.h"
#include "api/known_job.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "store/state_change.h"
#include "store/tables.h"
#include "clock.h"
#include "commands/sequence.h"
#include "common/hashfn.h"
#include "core/exec.h"
#include "core/state.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "pg_fleet.h"
#include "mailbox/mailbox.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#define PARAMS_MAX 1000000 /* bytes, as fleet_catalog.check_params() has it */
#define CONTEXT_MAX 10000  /* bytes of what a parent says of the run: some names */

PG_FUNCTION_INFO_V1(fleet_sql_agent_acknowledge);
PG_FUNCTION_INFO_V1(fleet_sql_agent_fetch);
PG_FUNCTION_INFO_V1(fleet_sql_agent_start);
PG_FUNCTION_INFO_V1(fleet_sql_check_epoch);
PG_FUNCTION_INFO_V1(fleet_sql_lock_parent);
PG_FUNCTION_INFO_V1(fleet_sql_protocol);

/* An array argument, flat; a null array is an empty one. */
typedef struct Elements
{
    Datum *values;
    bool *nulls;
    int n;
} Elements;

static Elements
elements(FunctionCallInfo fcinfo, int argument, Oid type)
{
    Elements e = {NULL, NULL, 0};
    int16 length;
    bool by_value;
    char align;

    if (PG_ARGISNULL(argument))
        return e;
    get_typlenbyvalalign(type, &length, &by_value, &align);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(argument), type, length, by_value, align, &e.values,
                      &e.nulls, &e.n);
    return e;
}

static bool
has_nulls(const Elements *e)
{
    for (int i = 0; i < e->n; i++)
    {
        if (e->nulls[i])
            return true;
    }
    return false;
}

static void
check_given(FunctionCallInfo fcinfo, int arguments)
{
    for (int i = 0; i < arguments; i++)
    {
        if (PG_ARGISNULL(i))
            ereport(ERROR,
                    (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                     errmsg("argument \"%s\" must not be null", i == 0 ? "parent_uuid" : "epoch")));
    }
}

/* ---- fencing ---- */

/*
 * Until COMMIT.  Requests do not wait for each other, but no request runs while
 * a hello raises the epoch, nor the other way round.  It is an advisory lock and
 * not a row lock, which would write to the row and to the write-ahead log at
 * every request.  The hashes of two parents may collide, but only within one
 * role.
 */
static LOCKTAG
parent_tag(const pg_uuid_t *parent, Oid role)
{
    LOCKTAG tag;

    SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, role, hash_bytes(parent->data, UUID_LEN),
                         FLEET_LOCK_PARENT_FIELD4);
    return tag;
}

static void
lock_parent(const pg_uuid_t *parent, Oid role, LOCKMODE mode)
{
    LOCKTAG tag = parent_tag(parent, role);

    (void) LockAcquire(&tag, mode, false, false);
}

/* Once, as it was locked. */
static void
unlock_parent(const pg_uuid_t *parent, Oid role, LOCKMODE mode)
{
    LOCKTAG tag = parent_tag(parent, role);

    (void) LockRelease(&tag, mode, false);
}

/* With the active snapshot.  Returns the highest epoch seen from this parent, over links of the
 * caller's role; ERROR FE001 if it is higher than this one, or if there is none and this is no hello. */
static uint64
check_epoch(const pg_uuid_t *parent, int64 epoch, bool hello)
{
    Oid role = fleet_caller_or_error();
    Datum keys[] = {UUIDPGetDatum(parent), ObjectIdGetDatum(role)};
    FleetRows *rows = fleet_rows_open(&fleet_table_parent, false);
    bool known = fleet_rows_find(rows, PARENT_BY_KEY, keys, 2);
    uint64 seen = known ? (uint64) fleet_rows_int(rows, PARENT_EPOCH, 0) : 0;
    bool good = (known || hello) && epoch >= 0 &&
                fleet_start_answer(seen, (uint64) epoch, false) != FLEET_START_REFUSED;

    fleet_rows_close(rows);
    if (!good)
    {
        static const Oid types[] = {UUIDOID, INT8OID};
        List *name = list_make2(makeString("fleet_catalog"), makeString("refuse_epoch"));

        OidFunctionCall2(LookupFuncName(name, 2, types, false), keys[0], Int64GetDatum(epoch));
    }
    return seen;
}

/* Locked, and with a snapshot that is newer than the lock; the caller pops it. */
static void
begin_request(const pg_uuid_t *parent, LOCKMODE mode)
{
    lock_parent(parent, fleet_caller_or_error(), mode);
    PushActiveSnapshot(GetLatestSnapshot());
}

static void
end_request(void)
{
    PopActiveSnapshot();
    CommandCounterIncrement();
}

static bool
epoch_is_seen(FunctionCallInfo fcinfo, LOCKMODE mode)
{
    uint64 seen;

    begin_request(PG_GETARG_UUID_P(0), mode);
    seen = check_epoch(PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), true);
    end_request();
    return seen == (uint64) PG_GETARG_INT64(1);
}

/*
 * (parent_uuid, epoch): for agent_hello(); ERROR FE001 if there was a higher epoch.  True: this one
 * was seen before, and the hello is a request like any other: hundreds of links of one parent that
 * come back at the same time do not wait for each other.  False: nobody else may say anything for
 * this parent before COMMIT.
 */
Datum
fleet_sql_lock_parent(PG_FUNCTION_ARGS)
{
    const pg_uuid_t *parent = PG_GETARG_UUID_P(0);

    if (epoch_is_seen(fcinfo, ShareLock))
        PG_RETURN_BOOL(true);
    unlock_parent(parent, fleet_caller_or_error(), ShareLock);
    (void) epoch_is_seen(fcinfo, ExclusiveLock); /* it may be by now: the lock is no harm */
    PG_RETURN_BOOL(false);
}

/* (parent_uuid, epoch): ERROR FE001 if there was a higher one, or none. */
Datum
fleet_sql_check_epoch(PG_FUNCTION_ARGS)
{
    check_given(fcinfo, 2);
    begin_request(PG_GETARG_UUID_P(0), ShareLock);
    (void) check_epoch(PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), false);
    end_request();
    PG_RETURN_VOID();
}

/* The version that this server speaks with its parents. */
Datum
fleet_sql_protocol(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT32(FLEET_PROTOCOL);
}

/* ---- start ---- */

typedef struct StartRequest
{
    pg_uuid_t *parent;
    uint64 epoch, seen_epoch;
    Elements tokens, jobs, params, contexts, hashes;
    FleetKnownJob **job; /* of each */
} StartRequest;

static int
compare_tokens(const void *a, const void *b)
{
    return memcmp(DatumGetUUIDP(*(const Datum *) a), DatumGetUUIDP(*(const Datum *) b), UUID_LEN);
}

/* Sorted, each once. */
static int
distinct_tokens(const Elements *tokens, Datum **distinct)
{
    int n = 0;

    *distinct = palloc(sizeof(Datum) * (Size) Max(tokens->n, 1));
    for (int i = 0; i < tokens->n; i++)
    {
        if (!tokens->nulls[i])
            (*distinct)[n++] = tokens->values[i];
    }
    qsort(*distinct, (size_t) n, sizeof(Datum), compare_tokens);
    for (int i = 1, kept = n > 0 ? 1 : 0;; i++)
    {
        if (i >= n)
            return kept;
        if (compare_tokens(&(*distinct)[i], &(*distinct)[kept - 1]) != 0)
            (*distinct)[kept++] = (*distinct)[i];
    }
}

static bool
all_tokens_are_new(const StartRequest *request)
{
    const Elements *tokens = &request->tokens;
    Datum *distinct;
    bool new = distinct_tokens(tokens, &distinct) == tokens->n;
    FleetRows *rows = fleet_rows_open(&fleet_table_job_run, false);

    for (int i = 0; i < tokens->n && new; i++)
    {
        bool known = fleet_rows_find(rows, JOB_RUN_BY_TOKEN, &tokens->values[i], 1);

        new = fleet_start_answer(request->seen_epoch, request->epoch, known) == FLEET_START_NEW;
    }
    fleet_rows_close(rows);
    return new;
}

/* Parameters and contexts of jobs are objects; agent_start_any() says which are not. */
static bool
all_are_objects(const Elements *list, Size maximum)
{
    for (int i = 0; i < list->n; i++)
    {
        if (!list->nulls[i] && (toast_raw_datum_size(list->values[i]) > maximum ||
                                !JB_ROOT_IS_OBJECT(DatumGetJsonbP(list->values[i]))))
            return false;
    }
    return true;
}

/* Few different jobs are started at once: the last one found is asked first. */
static bool
all_jobs_are_known(StartRequest *request)
{
    const Elements *hashes = &request->hashes;

    request->job = palloc(sizeof(FleetKnownJob *) * (Size) Max(request->jobs.n, 1));
    for (int i = 0; i < request->jobs.n; i++)
    {
        Datum name = request->jobs.values[i];
        pg_uuid_t *hash =
            i < hashes->n && !hashes->nulls[i] ? DatumGetUUIDP(hashes->values[i]) : NULL;
        FleetKnownJob *job = i > 0 ? request->job[i - 1] : NULL;

        if (job == NULL || !fleet_known_job_is(job, name, hash))
            job = fleet_known_job(name, hash);
        if (job == NULL)
            return false;
        request->job[i] = job;
    }
    return true;
}

static void
insert_job_runs(FunctionCallInfo fcinfo, StartRequest *request)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    Oid sequence =
        get_relname_relid("job_run_job_run_id_seq", get_namespace_oid("fleet_catalog", false));
    NameData requested_by;
    FleetRows *rows = fleet_rows_open(&fleet_table_job_run, true);

    namestrcpy(&requested_by, GetUserNameFromId(GetSessionUserId(), false));
    for (int i = 0; i < request->tokens.n; i++)
    {
        FleetKnownJob *job = request->job[i];
        bool given = i < request->params.n && !request->params.nulls[i];
        int64 id = nextval_internal(sequence, false);
        Datum values[6] = {Int32GetDatum(i + 1), Int64GetDatum(id), BoolGetDatum(false)};
        bool nulls[6] = {false, false, false, true, true, job->named != NULL};

        values[5] = job->hash;
        fleet_rows_create(rows);
        fleet_rows_set(rows, JOB_RUN_ID, Int64GetDatum(id));
        fleet_rows_set(rows, JOB_TOKEN, request->tokens.values[i]);
        fleet_rows_set(rows, JOB_JOB, job->name);
        fleet_rows_set(rows, JOB_DEFINITION, job->hash);
        fleet_rows_set(rows, JOB_OWNER, ObjectIdGetDatum(job->owner));
        fleet_rows_set(rows, JOB_REQUESTED_BY, NameGetDatum(&requested_by));
        fleet_state_insert(rows, JOB_STATE, FLEET_MACHINE_JOB, FLEET_QUEUED);
        fleet_rows_set(rows, JOB_PARENT_UUID, UUIDPGetDatum(request->parent));
        fleet_rows_set(rows, JOB_PARENT_ROLE, ObjectIdGetDatum(fleet_caller_or_error()));
        fleet_rows_set(rows, JOB_STEP_NO, Int16GetDatum(0));
        fleet_rows_set(rows, JOB_ATTEMPT, Int16GetDatum(0));
        fleet_rows_set(rows, JOB_STEP_RUNS, Int32GetDatum(0));
        fleet_rows_set(rows, JOB_LOG_SEQ, Int32GetDatum(0));
        fleet_rows_set(rows, JOB_QUEUED_AT, TimestampTzGetDatum(fleet_clock_wall()));
        fleet_rows_set(
            rows, JOB_PARAMS,
            given ? DirectFunctionCall2(jsonb_concat, job->params, request->params.values[i])
                  : job->params);
        if (i < request->contexts.n && !request->contexts.nulls[i])
            fleet_rows_set(rows, JOB_CONTEXT, request->contexts.values[i]);
        fleet_rows_set(rows, JOB_HOOK_DEPTH, Int16GetDatum(0));
        fleet_rows_insert(rows);
        fleet_wake_at_commit(FLEET_MESSAGE_JOB_RUN, id);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    fleet_rows_close(rows);
}

/* False, and nothing done: another session has inserted one of the tokens since we looked. */
static bool
insert_all_or_none(FunctionCallInfo fcinfo, StartRequest *request)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile bool inserted = false;

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        insert_job_runs(fcinfo, request);
        ReleaseCurrentSubTransaction();
        inserted = true;
    }
    PG_CATCH();
    {
        ErrorData *error;

        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = owner;
        if (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION)
            ReThrowError(error);
        FreeErrorData(error);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return inserted;
}

/* (parent_uuid, epoch, tokens, jobs, params, contexts, hashes)
 * → (ord, job_run_id, known, sqlstate, message, definition) */
Datum
fleet_sql_agent_start(PG_FUNCTION_ARGS)
{
    StartRequest request = {0};
    bool usual;

    PreventCommandIfReadOnly("agent_start()");
    check_given(fcinfo, 2);
    request.parent = PG_GETARG_UUID_P(0);
    request.tokens = elements(fcinfo, 2, UUIDOID);
    request.jobs = elements(fcinfo, 3, TEXTOID);
    request.params = elements(fcinfo, 4, JSONBOID);
    request.contexts = elements(fcinfo, 5, JSONBOID);
    request.hashes = elements(fcinfo, 6, UUIDOID);
    begin_request(request.parent, ShareLock);
    request.epoch = (uint64) PG_GETARG_INT64(1);
    request.seen_epoch = check_epoch(request.parent, PG_GETARG_INT64(1), false);
    usual = request.tokens.n == request.jobs.n && request.params.n <= request.tokens.n &&
            request.contexts.n <= request.tokens.n && request.hashes.n <= request.tokens.n &&
            !has_nulls(&request.tokens) && !has_nulls(&request.jobs) &&
            all_are_objects(&request.params, PARAMS_MAX) &&
            all_are_objects(&request.contexts, CONTEXT_MAX) && all_tokens_are_new(&request) &&
            all_jobs_are_known(&request) && insert_all_or_none(fcinfo, &request);
    end_request();
    return usual ? (Datum) 0 : fleet_call_instead(fcinfo, "agent_start_any");
}

/* ---- fetch ---- */

enum
{
    FETCH_KIND,
    FETCH_JOB_RUN_ID,
    FETCH_STEP_NO,
    FETCH_ATTEMPT,
    FETCH_STATE,
    FETCH_FIRST_SEQ,
    FETCH_LAST_SEQ,
    FETCH_ROW_COUNT,
    FETCH_STEP,
    FETCH_LEVEL,
    FETCH_SQLSTATE,
    FETCH_MESSAGE,
    FETCH_DETAIL,
    FETCH_HINT,
    FETCH_CONTEXT,
    FETCH_OUTPUT,
    FETCH_STARTED_AT,
    FETCH_FINISHED_AT,
    FETCH_LOGGED_AT,
    FETCH_SEQ,
    FETCH_COLUMNS
};

/* Which column of a table goes where; smallint columns are widened. */
typedef struct FetchColumn
{
    int to;
    int from;
    bool small;
} FetchColumn;

static const FetchColumn fetch_job[] = {{FETCH_STEP_NO, JOB_STEP_NO, true},
                                        {FETCH_ATTEMPT, JOB_ATTEMPT, true},
                                        {FETCH_STATE, JOB_STATE, true},
                                        {FETCH_ROW_COUNT, JOB_ROW_COUNT, false},
                                        {FETCH_SQLSTATE, JOB_SQLSTATE, false},
                                        {FETCH_MESSAGE, JOB_MESSAGE, false},
                                        {FETCH_OUTPUT, JOB_OUTPUT, false},
                                        {FETCH_STARTED_AT, JOB_STARTED_AT, false},
                                        {FETCH_FINISHED_AT, JOB_FINISHED_AT, false},
                                        {FETCH_SEQ, JOB_LOG_SEQ, false}};

static const FetchColumn fetch_step[] = {{FETCH_STEP_NO, STEP_STEP_NO, true},
                                         {FETCH_ATTEMPT, STEP_ATTEMPT, true},
                                         {FETCH_STATE, STEP_STATE, true},
                                         {FETCH_FIRST_SEQ, STEP_FIRST_SEQ, false},
                                         {FETCH_LAST_SEQ, STEP_LAST_SEQ, false},
                                         {FETCH_ROW_COUNT, STEP_ROW_COUNT, false},
                                         {FETCH_STEP, STEP_STEP, false},
                                         {FETCH_SQLSTATE, STEP_SQLSTATE, false},
                                         {FETCH_MESSAGE, STEP_MESSAGE, false},
                                         {FETCH_DETAIL, STEP_DETAIL, false},
                                         {FETCH_HINT, STEP_HINT, false},
                                         {FETCH_CONTEXT, STEP_CONTEXT, false},
                                         {FETCH_OUTPUT, STEP_OUTPUT, false},
                                         {FETCH_STARTED_AT, STEP_STARTED_AT, false},
                                         {FETCH_FINISHED_AT, STEP_FINISHED_AT, false},
                                         {FETCH_SEQ, STEP_FIRST_SEQ, false}};

static const FetchColumn fetch_line[] = {{FETCH_STEP_NO, LINE_STEP_NO, true},
                                         {FETCH_LEVEL, LINE_LEVEL, false},
                                         {FETCH_SQLSTATE, LINE_SQLSTATE, false},
                                         {FETCH_MESSAGE, LINE_MESSAGE, false},
                                         {FETCH_DETAIL, LINE_DETAIL, false},
                                         {FETCH_HINT, LINE_HINT, false},
                                         {FETCH_CONTEXT, LINE_CONTEXT, false},
                                         {FETCH_LOGGED_AT, LINE_LOGGED_AT, false},
                                         {FETCH_SEQ, LINE_SEQ, false}};

static void
put_row(ReturnSetInfo *rsinfo, FleetRows *rows, char kind, int64 id, const FetchColumn *columns,
        int n)
{
    Datum values[FETCH_COLUMNS] = {0};
    bool nulls[FETCH_COLUMNS];

    memset(nulls, true, sizeof(nulls));
    values[FETCH_KIND] = CharGetDatum(kind);
    values[FETCH_JOB_RUN_ID] = Int64GetDatum(id);
    nulls[FETCH_KIND] = nulls[FETCH_JOB_RUN_ID] = false;
    for (int i = 0; i < n; i++)
    {
        int to = columns[i].to;

        values[to] = fleet_rows_get(rows, columns[i].from, &nulls[to]);
        if (columns[i].small && !nulls[to])
            values[to] = Int32GetDatum(DatumGetInt16(values[to]));
    }
    tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static void
fetch_steps(ReturnSetInfo *rsinfo, FleetRows *rows, Datum id, int64 after)
{
    fleet_rows_seek(rows, STEP_BY_JOB, &id, 1);
    while (fleet_rows_next(rows))
    {
        if (fleet_rows_int(rows, STEP_FIRST_SEQ, 0) > after ||
            fleet_rows_int(rows, STEP_LAST_SEQ, PG_INT64_MAX) > after)
            put_row(rsinfo, rows, 's', DatumGetInt64(id), fetch_step, lengthof(fetch_step));
    }
}

static void
fetch_lines(ReturnSetInfo *rsinfo, FleetRows *rows, Datum id, int64 after)
{
    Datum keys[] = {id, Int32GetDatum((int32) after)};

    fleet_rows_seek_after(rows, LINE_BY_JOB, keys, 2);
    while (fleet_rows_next(rows))
        put_row(rsinfo, rows, 'l', DatumGetInt64(id), fetch_line, lengthof(fetch_line));
}

static bool
is_for(FleetRows *jobs, const pg_uuid_t *parent)
{
    bool isnull;
    Datum of = fleet_rows_get(jobs, JOB_PARENT_UUID, &isnull);

    return !isnull && memcmp(DatumGetUUIDP(of), parent, UUID_LEN) == 0;
}

/*
 * (parent_uuid, epoch, job_run_ids, log_after) → rows: each job run (j), then
 * its lines (l) and its steps (s), both in the order of the log.  Reading does
 * no harm: the epoch is checked without a lock.
 */
Datum
fleet_sql_agent_fetch(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    Elements ids = elements(fcinfo, 2, INT8OID);
    Elements after = elements(fcinfo, 3, INT4OID);
    FleetRows *jobs, *steps, *lines;

    check_given(fcinfo, 2);
    (void) check_epoch(PG_GETARG_UUID_P(0), PG_GETARG_INT64(1), false);
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    jobs = fleet_rows_open(&fleet_table_job_run, false);
    steps = fleet_rows_open(&fleet_table_step_run, false);
    lines = fleet_rows_open(&fleet_table_log_line, false);
    for (int i = 0; i < ids.n; i++)
    {
        int64 log_after = i < after.n && !after.nulls[i] ? DatumGetInt32(after.values[i]) : 0;

        if (ids.nulls[i] || !fleet_rows_find(jobs, JOB_RUN_BY_ID, &ids.values[i], 1) ||
            !is_for(jobs, PG_GETARG_UUID_P(0)) ||
            !fleet_caller_sees((Oid) fleet_rows_int(jobs, JOB_OWNER, 0)))
            continue;
        put_row(rsinfo, jobs, 'j', DatumGetInt64(ids.values[i]), fetch_job, lengthof(fetch_job));
        fetch_lines(rsinfo, lines, ids.values[i], log_after);
        fetch_steps(rsinfo, steps, ids.values[i], log_after);
    }
    fleet_rows_close(lines);
    fleet_rows_close(steps);
    fleet_rows_close(jobs);
    return (Datum) 0;
}

/* ---- acknowledge ---- */

static bool
may_acknowledge(FleetRows *rows, const pg_uuid_t *parent)
{
    return is_for(rows, parent) && FLEET_STATE_IS_FINAL(fleet_rows_int(rows, JOB_STATE, 0)) &&
           fleet_rows_int(rows, JOB_ACKNOWLEDGED_AT, 0) == 0 &&
           fleet_caller_may_cancel((Oid) fleet_rows_int(rows, JOB_OWNER, 0));
}

/* (parent_uuid, tokens).  Two may come at the same time: a row is looked at again once it is locked. */
Datum
fleet_sql_agent_acknowledge(PG_FUNCTION_ARGS)
{
    Elements tokens = elements(fcinfo, 1, UUIDOID);
    TimestampTz now = GetCurrentTransactionStartTimestamp();
    Datum *distinct;
    FleetRows *rows;
    int n;

    PreventCommandIfReadOnly("agent_acknowledge()");
    check_given(fcinfo, 1);
    PushActiveSnapshot(GetLatestSnapshot());
    rows = fleet_rows_open(&fleet_table_job_run, true);
    n = distinct_tokens(&tokens, &distinct);
    for (int i = 0; i < n; i++)
    {
        if (!fleet_rows_find(rows, JOB_RUN_BY_TOKEN, &distinct[i], 1) ||
            !may_acknowledge(rows, PG_GETARG_UUID_P(0)) || !fleet_rows_lock(rows) ||
            !may_acknowledge(rows, PG_GETARG_UUID_P(0)))
            continue;
        fleet_rows_edit(rows);
        fleet_rows_set(rows, JOB_ACKNOWLEDGED_AT, TimestampTzGetDatum(now));
        fleet_rows_update(rows);
    }
    fleet_rows_close(rows);
    end_request();
    PG_RETURN_VOID();
}
