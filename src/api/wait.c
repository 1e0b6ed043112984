/*
 * api/wait.c
 *     Procedures that wait for a run and hold nothing meanwhile: no snapshot,
 *     so that CREATE INDEX CONCURRENTLY and VACUUM need not wait for the session
 *     that waits for them, and no lock but that of its own transaction id.  In
 *     any session.
 *
 * That takes ending the transaction before each sleep, which a procedure may do
 * unless it is called in a transaction block.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "core/state.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mailbox/mailbox.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "store/session.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(fleet_sql_wait);
PG_FUNCTION_INFO_V1(fleet_sql_watch_run);

/* The CALL may end transactions. */
static void
check_top_level(FunctionCallInfo fcinfo, const char *name)
{
    if (fcinfo->context != NULL && IsA(fcinfo->context, CallContext) &&
        !castNode(CallContext, fcinfo->context)->atomic && !IsSubTransaction())
        return;
    ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
                    errmsg("%s cannot run inside a transaction block", name),
                    errdetail("It holds no snapshot and no lock while it waits, so it ends the "
                              "transaction before."),
                    errhint("Use SELECT fleet.wait_for_run(), which holds a snapshot.")));
}

static Datum
state_text(int state)
{
    return CStringGetTextDatum(fleet_state_name((FleetState) state));
}

static HeapTuple
result_row(FunctionCallInfo fcinfo, Datum *values, bool *nulls)
{
    TupleDesc desc;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    return heap_form_tuple(BlessTupleDesc(desc), values, nulls);
}

/* (run_id, timeout, INOUT state) */
Datum
fleet_sql_wait(PG_FUNCTION_ARGS)
{
    FleetWait wait = {.rest = fleet_session_rest};
    Datum values[1];
    bool nulls[1];
    int state;

    check_top_level(fcinfo, "fleet.wait()");
    fleet_session_begin();
    wait.timeout_ms = fleet_session_may_wait(&fcinfo->args[0], &fcinfo->args[1]);
    wait.run_id = PG_GETARG_INT64(0);
    fleet_session_rest();
    fleet_wait_run(&wait);
    state = fleet_catalog_run_state(wait.run_id);
    fleet_session_end();
    nulls[0] = wait.timed_out || state == 0;
    values[0] = nulls[0] ? (Datum) 0 : state_text(state);
    PG_RETURN_DATUM(HeapTupleGetDatum(result_row(fcinfo, values, nulls)));
}

/*
 * (run_id, INOUT state, INOUT canceled): waits for a change, a minute at most.
 *
 * A cancel of the statement cancels the run.  It is looked for rather than
 * caught: a block that catches it would be a subtransaction, in which no
 * transaction can be ended.
 */
Datum
fleet_sql_watch_run(PG_FUNCTION_ARGS)
{
    FleetWait wait = {.timeout_ms = 60000,
                      .wants_changes = true,
                      .sees_cancel = true,
                      .rest = fleet_session_rest};
    NullableDatum timeout = {.isnull = true};
    Datum values[2];
    bool nulls[2] = {false, false};
    int state;

    check_top_level(fcinfo, "fleet_link.watch_run()");
    fleet_session_begin();
    (void) fleet_session_may_wait(&fcinfo->args[0], &timeout);
    wait.run_id = PG_GETARG_INT64(0);
    HOLD_CANCEL_INTERRUPTS();
    fleet_session_rest();
    fleet_wait_run(&wait);
    if (wait.canceled)
    {
        fleet_session_cancel_run(wait.run_id);
        fleet_session_rest();
        QueryCancelPending = false; /* one cancel may come as two signals */
    }
    RESUME_CANCEL_INTERRUPTS();
    state = fleet_catalog_run_state(wait.run_id);
    fleet_session_end();
    nulls[0] = state == 0;
    values[0] = nulls[0] ? (Datum) 0 : state_text(state);
    values[1] = BoolGetDatum(wait.canceled);
    PG_RETURN_DATUM(HeapTupleGetDatum(result_row(fcinfo, values, nulls)));
}
