/*
 * api/cron.c
 *     Reaches pg_cron where it lives in another database of the cluster.
 *
 * A session cannot leave its database, so fleet_link.cron_elsewhere() starts a
 * dynamic background worker that connects to that database as current_user
 * (its own rights, no more: CONNECT, and USAGE on schema cron), makes one call
 * there in a transaction of its own, and leaves the answer in a piece of
 * shared memory.  The session waits for the worker's end.
 *
 * The change there does not follow a ROLLBACK here.  Job names are fixed by
 * the package, so scheduling again replaces what was left over.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "api/cron.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pg_fleet.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#define TEXT_MAX 2000

typedef struct Bridge
{
    Oid database; /* of pg_cron */
    Oid role;
    bool unschedule;
    /* answer */
    bool done;
    int64 job;
    int sqlerrcode;
    char message[TEXT_MAX];
    /* name, schedule, command, our database: one after the other, each terminated */
    Size text_size;
    char texts[FLEXIBLE_ARRAY_MEMBER];
} Bridge;

PG_FUNCTION_INFO_V1(fleet_sql_cron_elsewhere);

/* ---- the worker ---- */

static const char *
text_number(const Bridge *bridge, int n)
{
    const char *text = bridge->texts;

    while (n-- > 0)
        text += strlen(text) + 1;
    return text;
}

static void
call_pg_cron(Bridge *bridge)
{
    static const char schedule_sql[] = "SELECT cron.schedule_in_database($1, $2, $3, $4)";
    static const char unschedule_sql[] =
        "SELECT cron.unschedule(j.jobid) FROM cron.job AS j"
        " WHERE j.jobname OPERATOR(pg_catalog.=) $1"
        "   AND (j.username OPERATOR(pg_catalog.=) CURRENT_USER"
        "        OR (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r"
        "             WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER))"
        "   AND (j.database OPERATOR(pg_catalog.=) $4 OR $2 IS NOT NULL OR $3 IS NOT NULL)";
    Oid types[4] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID};
    Datum values[4];
    bool isnull;

    for (int i = 0; i < 4; i++)
        values[i] = CStringGetTextDatum(text_number(bridge, i));
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "SPI_connect failed");
    if (SPI_execute_with_args(bridge->unschedule ? unschedule_sql : schedule_sql, 4, types, values,
                              bridge->unschedule ? " nn " : NULL, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "pg_cron gave no answer");
    if (SPI_processed > 0 && !bridge->unschedule)
        bridge->job =
            DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
    SPI_finish();
}

static void
set_bridge_config(void)
{
    /* ALTER ROLE or DATABASE … SET may have changed it for this session. */
    (void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
                             GUC_ACTION_SET, true, 0, false);
}

void
fleet_cron_bridge_main(Datum arg)
{
    dsm_segment *segment;
    Bridge *bridge;
    MemoryContext context;

    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    CurrentResourceOwner = ResourceOwnerCreate(NULL, "pg_fleet cron bridge");
    segment = dsm_attach(DatumGetUInt32(arg));
    if (segment == NULL)
        proc_exit(1); /* no session waits any longer */
    dsm_pin_mapping(segment);
    bridge = dsm_segment_address(segment);
    /* A failure to connect ends this process; its reason is in the server's log. */
    BackgroundWorkerInitializeConnectionByOid(bridge->database, bridge->role, 0);
    context = TopMemoryContext;
    PG_TRY();
    {
        StartTransactionCommand();
        PushActiveSnapshot(GetTransactionSnapshot());
        set_bridge_config();
        call_pg_cron(bridge);
        PopActiveSnapshot();
        CommitTransactionCommand();
        bridge->done = true;
    }
    PG_CATCH();
    {
        ErrorData *error;

        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        bridge->sqlerrcode = error->sqlerrcode;
        strlcpy(bridge->message, error->message, TEXT_MAX);
        AbortCurrentTransaction();
    }
    PG_END_TRY();
    proc_exit(0);
}

/* ---- the session ---- */

static Bridge *
make_bridge(dsm_segment **segment, const char *texts[4])
{
    Size size = 0;
    Bridge *bridge;
    char *to;

    for (int i = 0; i < 4; i++)
        size += strlen(texts[i]) + 1;
    *segment = dsm_create(offsetof(Bridge, texts) + size, 0);
    bridge = dsm_segment_address(*segment);
    memset(bridge, 0, offsetof(Bridge, texts));
    bridge->text_size = size;
    to = bridge->texts;
    for (int i = 0; i < 4; i++)
    {
        strcpy(to, texts[i]);
        to += strlen(texts[i]) + 1;
    }
    return bridge;
}

static void
run_worker(dsm_segment *segment)
{
    BackgroundWorker worker;
    BackgroundWorkerHandle *handle;

    memset(&worker, 0, sizeof(worker));
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    strlcpy(worker.bgw_library_name, FLEET_LIBRARY, BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, "fleet_cron_bridge_main", BGW_MAXLEN);
    strlcpy(worker.bgw_name, "pg_fleet cron bridge", BGW_MAXLEN);
    strlcpy(worker.bgw_type, "pg_fleet cron bridge", BGW_MAXLEN);
    worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
    worker.bgw_notify_pid = MyProcPid;
    if (!RegisterDynamicBackgroundWorker(&worker, &handle))
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                        errmsg("no background worker slot is free"),
                        errhint("Raise max_worker_processes.")));
    if (WaitForBackgroundWorkerShutdown(handle) == BGWH_POSTMASTER_DIED)
        ereport(FATAL, (errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("the server is shutting down")));
}

/* code 0: the worker could not even connect. */
static void
report_failure(const char *database, int code, const char *message)
{
    const char *role = quote_identifier(GetUserNameFromId(GetUserId(), false));

    if (code == 0)
        ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
                        errmsg("could not connect to database \"%s\" as role %s", database, role),
                        errdetail("pg_cron is there (cron.database_name)."),
                        errhint("The role needs LOGIN, and CONNECT on that database.")));
    ereport(ERROR,
            (errcode(code), errmsg_internal("%s", message),
             errdetail("pg_cron reported this in database \"%s\" (cron.database_name).", database),
             code == ERRCODE_INSUFFICIENT_PRIVILEGE
                 ? errhint("Ask a superuser to run there: GRANT USAGE ON SCHEMA cron TO %s; GRANT "
                           "EXECUTE ON FUNCTION cron.schedule_in_database TO %s.",
                           role, role)
             : code == ERRCODE_INVALID_SCHEMA_NAME || code == ERRCODE_UNDEFINED_FUNCTION
                 ? errhint("Ask a superuser to run there: CREATE EXTENSION pg_cron.")
                 : errhint("A schedule has five fields: minute hour day month weekday.")));
}

Datum
fleet_sql_cron_elsewhere(PG_FUNCTION_ARGS)
{
    const char *texts[4];
    char *database;
    dsm_segment *segment;
    Bridge *bridge;
    int64 job;

    if (InSecurityRestrictedOperation())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("cannot use pg_fleet within a security-restricted operation")));
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("database and job name must not be null"),
                        errhint("Use fleet.schedule_package().")));
    database = text_to_cstring(PG_GETARG_TEXT_PP(0));
    for (int i = 0; i < 3; i++)
        texts[i] = PG_ARGISNULL(i + 1) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(i + 1));
    texts[3] = get_database_name(MyDatabaseId);

    bridge = make_bridge(&segment, texts);
    bridge->database = get_database_oid(database, false);
    bridge->role = GetUserId();
    bridge->unschedule = PG_ARGISNULL(2);
    run_worker(segment);
    if (!bridge->done)
    {
        int code = bridge->sqlerrcode;
        char *message = pstrdup(bridge->message);

        dsm_detach(segment);
        report_failure(database, code, message);
    }
    job = bridge->job;
    dsm_detach(segment);
    PG_RETURN_INT64(job);
}
