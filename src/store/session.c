/*
 * store/session.c
 *     What sessions read of the catalog.  In any session.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "store/session.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef void (*RowReader)(HeapTuple tuple, TupleDesc desc, void *arg);

/* Runs a one-row query with the extension's rights and the latest snapshot. */
static bool
read_row(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types, Datum *values, RowReader reader,
         void *arg)
{
    Oid user;
    int context;
    bool found;

    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "SPI_connect failed");
    if (*plan == NULL)
    {
        SPIPlanPtr fresh = SPI_prepare(sql, nargs, types);

        if (fresh == NULL || SPI_keepplan(fresh) != 0)
            elog(ERROR, "could not prepare: %s", sql);
        *plan = fresh;
    }
    PushActiveSnapshot(GetLatestSnapshot());
    if (SPI_execute_plan(*plan, values, NULL, true, 1) != SPI_OK_SELECT)
        elog(ERROR, "could not read the catalog of pg_fleet");
    found = SPI_processed == 1;
    if (found)
        reader(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, arg);
    PopActiveSnapshot();
    SPI_finish();
    SetUserIdAndSecContext(user, context);
    return found;
}

typedef struct AgentRow
{
    int pid;
    uint32 shared;
} AgentRow;

static void
read_agent(HeapTuple tuple, TupleDesc desc, void *arg)
{
    AgentRow *row = arg;
    bool isnull;

    row->pid = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
    row->shared = (uint32) DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
}

void
fleet_catalog_agent(int *pid, uint32 *shared)
{
    static SPIPlanPtr plan = NULL;
    AgentRow row = {0, 0};

    (void) read_row(&plan, "SELECT a.pid, a.shared FROM fleet_catalog.agent AS a", 0, NULL, NULL,
                    read_agent, &row);
    *pid = row.pid;
    *shared = row.shared;
}

static void
read_state(HeapTuple tuple, TupleDesc desc, void *arg)
{
    bool isnull;

    *(int *) arg = DatumGetInt16(SPI_getbinval(tuple, desc, 1, &isnull));
}

int
fleet_catalog_run_state(int64 run_id)
{
    static SPIPlanPtr plan = NULL;
    static Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(run_id)};
    int state = 0;

    (void) read_row(&plan,
                    "SELECT r.state FROM fleet_catalog.run AS r"
                    " WHERE r.run_id OPERATOR(pg_catalog.=) $1",
                    1, types, values, read_state, &state);
    return state;
}

static void
read_reason(HeapTuple tuple, TupleDesc desc, void *arg)
{
    char *value = SPI_getvalue(tuple, desc, 1);

    *(char **) arg = value == NULL ? NULL : MemoryContextStrdup(TopTransactionContext, value);
}

char *
fleet_catalog_paused(void)
{
    static SPIPlanPtr plan = NULL;
    char *reason = NULL;

    (void) read_row(&plan, "SELECT i.paused_reason FROM fleet_catalog.identity AS i", 0, NULL, NULL,
                    read_reason, &reason);
    return reason;
}

char *
fleet_catalog_no_agent(void)
{
    static SPIPlanPtr plan = NULL;
    char *reason = NULL;

    (void) read_row(&plan, "SELECT fleet_catalog.no_agent()", 0, NULL, NULL, read_reason, &reason);
    return reason;
}

/* ---- procedures that end transactions ---- */

void
fleet_session_begin(void)
{
    if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
        elog(ERROR, "SPI_connect failed");
}

void
fleet_session_end(void)
{
    SPI_finish();
}

void
fleet_session_rest(void)
{
    SPI_commit();
    InvalidateCatalogSnapshotConditionally(); /* of what the begin of the next one looked at */
}

/* Calls one of our own public functions, as whoever calls the procedure. */
static Datum
call_public(const char *sql, int nargs, Oid *types, const NullableDatum *args, bool *isnull)
{
    Datum values[2];
    char nulls[2];

    for (int i = 0; i < nargs; i++)
    {
        values[i] = args[i].value;
        nulls[i] = args[i].isnull ? 'n' : ' ';
    }
    if (SPI_execute_with_args(sql, nargs, types, values, nulls, false, 1) != SPI_OK_SELECT ||
        SPI_processed != 1)
        elog(ERROR, "could not execute: %s", sql);
    return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
}

long
fleet_session_may_wait(const NullableDatum *run_id, const NullableDatum *timeout)
{
    Oid types[] = {INT8OID, INTERVALOID};
    NullableDatum args[] = {*run_id, *timeout};
    bool isnull;
    Datum ms = call_public("SELECT fleet_link.may_wait($1, $2)", 2, types, args, &isnull);

    return isnull ? -1 : (long) DatumGetInt64(ms);
}

void
fleet_session_cancel_run(int64 run_id)
{
    Oid types[] = {INT8OID};
    NullableDatum args[] = {{Int64GetDatum(run_id), false}};
    bool isnull;

    (void) call_public("SELECT fleet.cancel_run($1)", 1, types, args, &isnull);
}
