/*
 * fleet_runner_test.c
 *     Drives the runner pool from an ordinary backend, which plays the agent:
 *     it gives requests to runners, answers their events as the test says,
 *     and returns every event as a row.  A library of its own, built from the
 *     runner's and the pool's real sources.
 */
#include "postgres.h"

#include "clock.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guc.h"
#include "miscadmin.h"
#include "runner/pool.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

PG_MODULE_MAGIC;

int fleet_guc_max_runners = 8;
int fleet_guc_runner_idle_timeout = 60000;
static char *test_params = NULL;

extern void _PG_init(void);

void
_PG_init(void)
{
    DefineCustomStringVariable("fleet.params", "Parameters of the step.", NULL, &test_params, "{}",
                               PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("fleet.max_runners", "Runners.", NULL, &fleet_guc_max_runners, 8, 1,
                            1000, PGC_USERSET, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("fleet.runner_idle_timeout", "Idle.", NULL,
                            &fleet_guc_runner_idle_timeout, 60000, 0, INT_MAX, PGC_USERSET,
                            GUC_UNIT_MS, NULL, NULL, NULL);
}

/* What the test wants to happen at an event: one word each. */
typedef struct Script
{
    const char *on_began;
    const char *on_log;
    const char *on_prepared;
    ReturnSetInfo *result; /* not NULL: rows of events go here */
    StringInfo events;     /* not NULL: kinds and errors go here */
    bool ended;
    int64 left;                      /* benchmark: steps still to be given */
    int64 open;                      /* benchmark: steps given and not ended */
    const FleetStepRequest *request; /* not NULL: a benchmark */
} Script;

static bool pool_ready = false;
static int64 given_xid = 0; /* the last one heard of */

static void executor_event(void *arg, FleetExecutor *executor, const FleetExecutorEvent *event);

static void
init_pool(void)
{
    FleetExecutorSink sink = {.event = executor_event};

    if (pool_ready)
        return;
    fleet_runner_pool_init(TopMemoryContext, MyDatabaseId, &sink);
    pool_ready = true;
}

static void
act(FleetExecutor *executor, const char *action)
{
    if (strcmp(action, "commit") == 0)
        executor->methods->commit(executor);
    else if (strcmp(action, "cancel") == 0)
        executor->methods->cancel(executor);
    else if (strcmp(action, "cancel twice") == 0)
    {
        executor->methods->cancel(executor);
        executor->methods->cancel(executor);
    }
    else if (strcmp(action, "commit and cancel") == 0)
    {
        executor->methods->commit(executor);
        executor->methods->cancel(executor);
    }
    else if (strcmp(action, "unlock") == 0)
        DirectFunctionCall1(pg_advisory_unlock_int8, Int64GetDatum(1));
    else if (strcmp(action, "terminate") == 0)
        DirectFunctionCall2(pg_terminate_backend, Int32GetDatum(fleet_runner_pid(executor)),
                            Int64GetDatum(0));
    else if (strcmp(action, "leave") == 0)
        ((Script *) executor->owner)->ended = true;
    else if (strcmp(action, "none") != 0)
        elog(ERROR, "unknown action \"%s\"", action);
}

static const char *const kind_names[] = {
    [FLEET_EXECUTOR_BEGAN] = "BEGAN",
    [FLEET_EXECUTOR_LOG] = "LOG",
    [FLEET_EXECUTOR_ROW] = "ROW",
    [FLEET_EXECUTOR_PREPARED] = "PREPARED",
    [FLEET_EXECUTOR_COMMITTED] = "COMMITTED",
    [FLEET_EXECUTOR_ERROR] = "ERROR",
    [FLEET_EXECUTOR_NOT_TRANSACTIONAL] = "NOT_TRANSACTIONAL",
    [FLEET_EXECUTOR_CUT] = "CUT",
};

static void
put_row(ReturnSetInfo *result, const FleetExecutorEvent *event)
{
    const FleetDiagnostics *diag = &event->diag;
    const char *texts[] = {diag->level, diag->sqlstate, diag->message, diag->detail,
                           diag->hint,  diag->context,  event->output};
    Datum values[13];
    bool nulls[13] = {false};

    values[0] = CStringGetTextDatum(kind_names[event->kind]);
    values[1] = Int64GetDatum((int64) event->ref);
    for (int i = 0; i < 7; i++)
    {
        nulls[2 + i] = texts[i] == NULL;
        if (texts[i])
            values[2 + i] = CStringGetTextDatum(texts[i]);
    }
    values[9] = Int64GetDatum((int64) event->xid);
    values[10] = Int64GetDatum(event->row_count);
    values[11] = BoolGetDatum(event->never_sent);
    values[12] = Int32GetDatum(event->backend_pid);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
bench_next(FleetExecutor *executor, Script *script)
{
    if (script->left == 0)
        return;
    script->left--;
    script->open++;
    executor->methods->run(executor, script->request);
}

static void
executor_event(void *arg, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    Script *script = executor->owner;

    if (script->result)
        put_row(script->result, event);
    if (script->events && event->kind == FLEET_EXECUTOR_LOG)
        appendStringInfo(script->events, "%s ", event->diag.message);
    else if (script->events)
        appendStringInfo(script->events, "%s%s ", kind_names[event->kind],
                         event->diag.sqlstate ? event->diag.sqlstate : "");
    if (event->xid != 0)
        given_xid = (int64) event->xid;
    switch (event->kind)
    {
        case FLEET_EXECUTOR_BEGAN: act(executor, script->on_began); break;
        case FLEET_EXECUTOR_LOG: act(executor, script->on_log); break;
        case FLEET_EXECUTOR_PREPARED:
            act(executor, script->on_prepared);
            if (script->request)
                bench_next(executor, script); /* together with the commit */
            break;
        case FLEET_EXECUTOR_ROW: break;
        case FLEET_EXECUTOR_COMMITTED:
            script->open--;
            script->ended = script->left == 0 && script->open <= 0;
            if (script->request && script->open == 0)
                bench_next(executor, script);
            break;
        case FLEET_EXECUTOR_ERROR:
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL:
        case FLEET_EXECUTOR_CUT: script->ended = true; break;
    }
}

static void
wait_for_end(const Script *script)
{
    for (;;)
    {
        fleet_runner_poll(fleet_clock_now());
        if (script->ended)
            return;
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

static FleetExecutor *
get_runner(Oid role)
{
    const char *sqlstate = NULL;
    const char *why = NULL;
    FleetExecutor *executor;

    init_pool();
    fleet_runner_poll(fleet_clock_now());
    executor = fleet_runner_get(role, &sqlstate, &why);
    if (executor == NULL)
        ereport(ERROR, (errcode(MAKE_SQLSTATE(sqlstate[0], sqlstate[1], sqlstate[2], sqlstate[3],
                                              sqlstate[4])),
                        errmsg("%s", why)));
    return executor;
}

static void
run_script(FleetExecutor *executor, Script *script)
{
    executor->owner = script;
    PG_TRY();
    {
        wait_for_end(script);
    }
    PG_CATCH();
    {
        executor->owner = NULL;
        fleet_runner_done(executor);
        PG_RE_THROW();
    }
    PG_END_TRY();
    executor->owner = NULL;
    fleet_runner_done(executor);
}

/* runner_test(role oid, command, kind, transactional, fresh, params, began, log, prepared) */
PG_FUNCTION_INFO_V1(fleet_sql_runner_test);
Datum
fleet_sql_runner_test(PG_FUNCTION_ARGS)
{
    static uint64 ref = 0;
    FleetExecutor *executor = get_runner(PG_GETARG_OID(0));
    FleetStepRequest request = {
        .kind = strcmp(text_to_cstring(PG_GETARG_TEXT_PP(2)), "query") == 0 ? FLEET_REQUEST_QUERY
                                                                            : FLEET_REQUEST_STEP,
        .ref = ++ref,
        .command = text_to_cstring(PG_GETARG_TEXT_PP(1)),
        .transactional = PG_GETARG_BOOL(3),
        .fresh = PG_GETARG_BOOL(4),
        .params = text_to_cstring(PG_GETARG_TEXT_PP(5)),
    };
    Script script = {
        .on_began = text_to_cstring(PG_GETARG_TEXT_PP(6)),
        .on_log = text_to_cstring(PG_GETARG_TEXT_PP(7)),
        .on_prepared = text_to_cstring(PG_GETARG_TEXT_PP(8)),
        .result = (ReturnSetInfo *) fcinfo->resultinfo,
        .open = 1,
    };

    InitMaterializedSRF(fcinfo, 0);
    executor->methods->run(executor, &request);
    run_script(executor, &script);
    return (Datum) 0;
}

/*
 * runner_give(role, command, transactional, run_id, on_prepared) and
 * runner_taken(): a request whose end is looked for again and again, with no
 * snapshot of ours open in between, for commands that wait for all snapshots,
 * and for agents that end in between.
 */
static FleetExecutor *given = NULL;
static StringInfoData given_events;
static Script given_script;

static void
given_init(const char *on_prepared)
{
    MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);

    initStringInfo(&given_events);
    given_script =
        (Script){.on_began = "none", .on_log = "none", .on_prepared = pstrdup(on_prepared)};
    given_script.events = &given_events;
    given_script.open = 1;
    MemoryContextSwitchTo(before);
}

PG_FUNCTION_INFO_V1(fleet_sql_runner_give);
Datum
fleet_sql_runner_give(PG_FUNCTION_ARGS)
{
    FleetStepRequest request = {
        .kind = FLEET_REQUEST_STEP,
        .ref = 1,
        .command = text_to_cstring(PG_GETARG_TEXT_PP(1)),
        .params = "{}",
        .transactional = PG_GETARG_BOOL(2),
        .fresh = true,
        .key = {.run_id = PG_GETARG_INT64(3)},
        .log_seq = 1000,
    };

    given_init(text_to_cstring(PG_GETARG_TEXT_PP(4)));
    given = get_runner(PG_GETARG_OID(0));
    given->owner = &given_script;
    given->methods->run(given, &request);
    PG_RETURN_VOID();
}

/* runner_give_next(command, run_id): one more, behind the one that runner_give() gave. */
PG_FUNCTION_INFO_V1(fleet_sql_runner_give_next);
Datum
fleet_sql_runner_give_next(PG_FUNCTION_ARGS)
{
    FleetStepRequest request = {
        .kind = FLEET_REQUEST_STEP,
        .ref = 3,
        .command = text_to_cstring(PG_GETARG_TEXT_PP(0)),
        .params = "{}",
        .transactional = false,
        .fresh = true,
        .key = {.run_id = PG_GETARG_INT64(1)},
        .log_seq = 1000,
    };

    given->methods->run(given, &request);
    PG_RETURN_VOID();
}

/* runner_act(action): on the runner that was given a request */
PG_FUNCTION_INFO_V1(fleet_sql_runner_act);
Datum
fleet_sql_runner_act(PG_FUNCTION_ARGS)
{
    act(given, text_to_cstring(PG_GETARG_TEXT_PP(0)));
    PG_RETURN_VOID();
}

/* runner_adopt(run_id, transactional, xid, log_seq, on_prepared): is there one? */
PG_FUNCTION_INFO_V1(fleet_sql_runner_adopt);
Datum
fleet_sql_runner_adopt(PG_FUNCTION_ARGS)
{
    FleetStepKey key = {.run_id = PG_GETARG_INT64(0)};
    Oid role;

    init_pool();
    given_init(text_to_cstring(PG_GETARG_TEXT_PP(4)));
    given = fleet_runner_adopt(&key, PG_GETARG_BOOL(1), (uint64) PG_GETARG_INT64(2),
                               PG_GETARG_INT32(3), 2, &role);
    if (given == NULL)
        PG_RETURN_BOOL(false);
    given->owner = &given_script;
    if (PG_GETARG_INT64(2) != 0)
        given->methods->commit(given);
    PG_RETURN_BOOL(role == GetUserId());
}

/* One poll; the events so far. */
PG_FUNCTION_INFO_V1(fleet_sql_runner_heard);
Datum
fleet_sql_runner_heard(PG_FUNCTION_ARGS)
{
    fleet_runner_poll(fleet_clock_now());
    PG_RETURN_TEXT_P(cstring_to_text(given_events.data));
}

PG_FUNCTION_INFO_V1(fleet_sql_runner_xid);
Datum
fleet_sql_runner_xid(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT64(given_xid);
}

/* Its events so far, or NULL while it has not ended. */
PG_FUNCTION_INFO_V1(fleet_sql_runner_taken);
Datum
fleet_sql_runner_taken(PG_FUNCTION_ARGS)
{
    fleet_runner_poll(fleet_clock_now());
    if (given == NULL || !given_script.ended)
        PG_RETURN_NULL();
    given->owner = NULL;
    fleet_runner_done(given);
    given = NULL;
    PG_RETURN_TEXT_P(cstring_to_text(given_events.data));
}

/* runner_bench(role oid, command, steps, params): microseconds for all */
PG_FUNCTION_INFO_V1(fleet_sql_runner_bench);
Datum
fleet_sql_runner_bench(PG_FUNCTION_ARGS)
{
    FleetExecutor *executor = get_runner(PG_GETARG_OID(0));
    FleetStepRequest request = {
        .kind = FLEET_REQUEST_STEP,
        .ref = 1,
        .command = text_to_cstring(PG_GETARG_TEXT_PP(1)),
        .transactional = true,
        .single = true,
        .fresh = PG_GETARG_BOOL(3),
        .params = "{}",
    };
    Script script = {.on_began = "none",
                     .on_log = "none",
                     .on_prepared = "commit",
                     .left = PG_GETARG_INT64(2),
                     .request = &request};
    FleetTime start = fleet_clock_now();

    bench_next(executor, &script);
    run_script(executor, &script);
    PG_RETURN_INT64(fleet_clock_now() - start);
}

PG_FUNCTION_INFO_V1(fleet_sql_runner_count);
Datum
fleet_sql_runner_count(PG_FUNCTION_ARGS)
{
    init_pool();
    fleet_runner_poll(fleet_clock_now());
    PG_RETURN_INT32(fleet_runner_count());
}

PG_FUNCTION_INFO_V1(fleet_sql_runner_shutdown);
Datum
fleet_sql_runner_shutdown(PG_FUNCTION_ARGS)
{
    init_pool();
    fleet_runner_shutdown(PG_GETARG_BOOL(0));
    PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(fleet_sql_runner_resolve);
Datum
fleet_sql_runner_resolve(PG_FUNCTION_ARGS)
{
    static const char *const names[] = {"committed", "aborted", "in progress", "unknown"};

    PG_RETURN_TEXT_P(cstring_to_text(names[fleet_runner_resolve((uint64) PG_GETARG_INT64(0))]));
}
