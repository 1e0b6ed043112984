/*
 * launcher.c
 *     How agents come to life.
 *
 *   launcher  static worker, only when the library is preloaded: at server
 *             start it launches an agent in every database that allows
 *             connections, one after another; an agent that finds no extension
 *             in its database ends at once.  Then the launcher ends too.
 *   starter   short-lived dynamic worker, connected to no database: brings
 *             an agent back that had to leave.  It waits on the lock that DROP,
 *             CREATE … TEMPLATE and ALTER DATABASE hold, looks whether the
 *             database is still there, launches the agent, ends.  An agent is
 *             never restarted by the postmaster itself, since a worker of a
 *             dropped database would be restarted, and fail, for ever.
 *   on demand the first session that commits a request launches the agent
 *             (session_wake.c), so that nothing has to be preloaded.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "launcher.h"
#include "miscadmin.h"
#include "points.h"
#include "pg_fleet.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "tcop/tcopprot.h"
#include "utils/inval.h"
#include "utils/wait_event.h"

typedef struct StarterArgs
{
    Oid database;
    int32 delay_ms;
} StarterArgs;

StaticAssertDecl(sizeof(StarterArgs) <= BGW_EXTRALEN, "StarterArgs must fit into bgw_extra");

static void
worker_init(BackgroundWorker *worker, const char *type, const char *function)
{
    memset(worker, 0, sizeof(*worker));
    worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker->bgw_restart_time = BGW_NEVER_RESTART;
    strlcpy(worker->bgw_library_name, FLEET_LIBRARY, sizeof(worker->bgw_library_name));
    strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
    strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
    strlcpy(worker->bgw_name, type, sizeof(worker->bgw_name));
}

void
fleet_launcher_register(void)
{
    BackgroundWorker worker;

    worker_init(&worker, "pg_fleet launcher", "fleet_launcher_main");
    /* Restarted after a crash of the cluster; its normal end (exit 0) is for good. */
    worker.bgw_restart_time = 1;
    RegisterBackgroundWorker(&worker);
}

static void
agent_worker(BackgroundWorker *worker, Oid database, int delay_ms)
{
    StarterArgs args = {database, delay_ms};

    worker_init(worker, "pg_fleet agent", "fleet_agent_main");
    worker->bgw_main_arg = ObjectIdGetDatum(database);
    memcpy(worker->bgw_extra, &args, sizeof(args));
}

int
fleet_agent_last_delay(void)
{
    StarterArgs args;

    memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
    return args.delay_ms;
}

static bool
launch(Oid database, int delay_ms)
{
    BackgroundWorker worker;

    agent_worker(&worker, database, delay_ms);
    return RegisterDynamicBackgroundWorker(&worker, NULL);
}

bool
fleet_agent_launch(Oid database)
{
    return launch(database, 0);
}

void
fleet_starter_launch(Oid database, int delay_ms)
{
    BackgroundWorker worker;
    StarterArgs args = {database, delay_ms};
    bool registered = false;

    worker_init(&worker, "pg_fleet starter", "fleet_starter_main");
    memcpy(worker.bgw_extra, &args, sizeof(args));
    /* Runners that ended a moment ago may still hold the slots. */
    for (int i = 0; i < 50 && !registered; i++)
    {
        if (i > 0)
            pg_usleep(20000);
        registered = RegisterDynamicBackgroundWorker(&worker, NULL);
    }
    if (!registered)
        ereport(LOG, (errmsg("pg_fleet: no background worker slot is free to bring the agent of "
                             "database %u back",
                             database),
                      errhint("Raise max_worker_processes; the next request starts the agent.")));
}

static void
wait_ms(int ms)
{
    (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
                     PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

static bool
database_usable(Oid database)
{
    HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
    bool usable;

    if (!HeapTupleIsValid(tuple))
        return false;
    usable = ((Form_pg_database) GETSTRUCT(tuple))->datallowconn;
    ReleaseSysCache(tuple);
    return usable;
}

void
fleet_starter_main(Datum arg)
{
    StarterArgs args;
    LOCKTAG tag;
    bool usable;

    memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(NULL, NULL, 0);
    fleet_transaction_timeout_off();

    /* One starter a database is enough, however many agents fail one after another. */
    SET_LOCKTAG_ADVISORY(tag, args.database, 1, 0, FLEET_LOCK_FIELD4);
    StartTransactionCommand();
    if (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
        proc_exit(0);
    CommitTransactionCommand();

    /* Not at once: whoever asked the agent to leave looks again every 100 ms. */
    wait_ms(args.delay_ms);
    FLEET_POINT("starter_after_delay");

    StartTransactionCommand();
    /* Conflicts with the locks of DROP, ALTER and CREATE … TEMPLATE: waits for their end. */
    LockSharedObject(DatabaseRelationId, args.database, 0, RowExclusiveLock);
    AcceptInvalidationMessages();
    usable = database_usable(args.database);
    CommitTransactionCommand();

    /* No slot: somebody else uses them all; try again until there is one. */
    while (usable && !launch(args.database, args.delay_ms))
    {
        wait_ms(1000);
        StartTransactionCommand();
        usable = database_usable(args.database);
        CommitTransactionCommand();
    }
    proc_exit(0);
}

/* OIDs of all databases that allow connections, in a palloc'd array of the caller's context. */
static Oid *
list_databases(int *count)
{
    MemoryContext context = CurrentMemoryContext;
    Relation relation;
    TableScanDesc scan;
    HeapTuple tuple;
    Oid *oids;
    int capacity = 16;

    *count = 0;
    oids = palloc(capacity * sizeof(Oid));
    StartTransactionCommand();
    (void) GetTransactionSnapshot();
    relation = table_open(DatabaseRelationId, AccessShareLock);
    scan = table_beginscan_catalog(relation, 0, NULL);
    while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
    {
        Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

        if (!form->datallowconn)
            continue;
        if (*count == capacity)
            oids = repalloc(oids, (capacity *= 2) * sizeof(Oid));
        oids[(*count)++] = form->oid;
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
    return oids;
}

/*
 * Waits until the new agent is either at home (it publishes itself and goes on)
 * or has ended because its database has no extension: its slot is free again
 * then, so that a cluster of many databases needs one slot for the search.
 */
static void
launch_and_look(Oid database)
{
    BackgroundWorker worker;
    BackgroundWorkerHandle *handle;
    pid_t pid;

    agent_worker(&worker, database, 0);
    worker.bgw_notify_pid = MyProcPid;
    while (!RegisterDynamicBackgroundWorker(&worker, &handle))
        wait_ms(1000);
    if (WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
        return;
    /* A moment for a look into the catalog; an agent that stays needs no waiting for. */
    for (int i = 0; i < 20 && GetBackgroundWorkerPid(handle, &pid) == BGWH_STARTED; i++)
        wait_ms(10);
}

void
fleet_launcher_main(Datum arg)
{
    Oid *databases;
    int count;

    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(NULL, NULL, 0);
    fleet_transaction_timeout_off();
    databases = list_databases(&count);
    FLEET_POINT("launcher_before_launch");
    for (int i = 0; i < count; i++)
        launch_and_look(databases[i]);
    proc_exit(0);
}
