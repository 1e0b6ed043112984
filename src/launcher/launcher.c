/*
 * launcher/launcher.c
 *     How agents come to life.
 *
 *   launcher  static worker, only if the library is preloaded: at server start,
 *             and after a crash, it launches an agent in every database that
 *             allows connections, one after another; an agent that finds no
 *             extension in its database exits at once.  Then the launcher
 *             sleeps forever: the postmaster forgets a worker that has exited
 *             normally, and after a crash restarts only those it remembers.
 *   starter   short-lived dynamic worker, connected to no database: launches
 *             the successor of an agent that has ended.  While it waits for the
 *             delay it shows the time and the reason in pg_stat_activity, checks
 *             every second that the database still exists, and holds the
 *             sentinel's lock in the agent's place, so that DROP EXTENSION ends
 *             the wait.  Then it waits for the lock that DROP DATABASE, CREATE
 *             DATABASE ... TEMPLATE and ALTER DATABASE hold, and until the
 *             database allows connections; launches the agent; waits until that
 *             one has its locks (agent/life.c); exits.
 *   on demand the first session that commits a request launches the agent
 *             (mailbox/session.c), so that nothing has to be preloaded.
 *
 * The postmaster remembers each of them until it exits with code 0: a process
 * that fails, is terminated, or dies with the cluster is started again.  So
 * there is no gap in the chain from one agent to the next.  Normally the
 * starter does the work, since a restart by the postmaster knows neither of
 * delays nor of dropped databases.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "clock.h"
#include "launcher/launcher.h"
#include "miscadmin.h"
#include "points.h"
#include "pg_fleet.h"
#include "pgstat.h"
#include "settings.h"
#include "postmaster/bgworker.h"
#include "storage/pmsignal.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/elog.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "tcop/tcopprot.h"
#include "utils/inval.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define AGAIN_S 5 /* until the postmaster starts an agent again that could not hand over */
#define STARTER_AGAIN_S 1
#define LOOK_AGAIN_MS 10
#define START_PATIENCE_MS 10000
#define LOOK_FOR_DATABASE_MS 1000

typedef struct StarterArgs
{
    Oid database;
    int32 delay_ms;
    Oid sentinel;
    FleetAgentEnd end;
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
fleet_be_called(void)
{
    LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
    MyProc->statusFlags |= PROC_IS_AUTOVACUUM;
    ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
    LWLockRelease(ProcArrayLock);
}

void
fleet_launcher_register(void)
{
    BackgroundWorker worker;

    worker_init(&worker, "pg_fleet launcher", "fleet_launcher_main");
    worker.bgw_restart_time = 1;
    RegisterBackgroundWorker(&worker);
}

/* ---- locks ---- */

LOCKTAG
fleet_home_lock(Oid database, FleetHomeLock which)
{
    LOCKTAG tag;

    SET_LOCKTAG_ADVISORY(tag, database, which, 0, FLEET_LOCK_FIELD4);
    return tag;
}

/* Is it held, or waited for?  Found out with a share lock that is released at once. */
static bool
is_taken(Oid database, FleetHomeLock which)
{
    LOCKTAG tag = fleet_home_lock(database, which);

    if (LockAcquire(&tag, ShareLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
        return true;
    LockRelease(&tag, ShareLock, true);
    return false;
}

bool
fleet_excludes_all(const LOCKTAG *tag, bool waits)
{
    LockData *locks = GetLockStatusData();

    for (int i = 0; i < locks->nelements; i++)
    {
        const LockInstanceData *lock = &locks->locks[i];

        if (memcmp(&lock->locktag, tag, sizeof(*tag)) != 0)
            continue;
        if (waits ? lock->waitLockMode == AccessExclusiveLock
                  : (lock->holdMask & LOCKBIT_ON(AccessExclusiveLock)) != 0)
            return true;
    }
    return false;
}

bool
fleet_starter_is_there(Oid database)
{
    return is_taken(database, FLEET_HOME_STARTER);
}

/* ---- registering ---- */

static void
agent_worker(BackgroundWorker *worker, const StarterArgs *args)
{
    worker_init(worker, "pg_fleet agent", "fleet_agent_main");
    worker->bgw_restart_time = AGAIN_S;
    worker->bgw_main_arg = ObjectIdGetDatum(args->database);
    memcpy(worker->bgw_extra, args, sizeof(*args));
}

static StarterArgs
first_of(Oid database)
{
    return (StarterArgs){.database = database, .delay_ms = FLEET_NOT_RESTARTED};
}

/* What this process, an agent or a starter, was registered with. */
static const StarterArgs *
own_args(void)
{
    static StarterArgs args;

    memcpy(&args, MyBgworkerEntry->bgw_extra, sizeof(args));
    return &args;
}

int
fleet_agent_last_delay(void)
{
    return own_args()->delay_ms;
}

const FleetAgentEnd *
fleet_agent_predecessor(void)
{
    return &own_args()->end;
}

Oid
fleet_agent_last_sentinel(void)
{
    return own_args()->sentinel;
}

bool
fleet_agent_launch(Oid database)
{
    BackgroundWorker worker;
    StarterArgs args = first_of(database);

    if (RecoveryInProgress())
        return true;
    agent_worker(&worker, &args);
    return RegisterDynamicBackgroundWorker(&worker, NULL);
}

/* Until the starter holds its lock: from then on nobody can come before it.  At a shutdown the
 * postmaster throws it away, and says so. */
static void
wait_for_starter(Oid database, BackgroundWorkerHandle *handle)
{
    pid_t pid;

    for (int ms = 0; ms < START_PATIENCE_MS; ms += LOOK_AGAIN_MS)
    {
        if (fleet_starter_is_there(database) ||
            GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED || !PostmasterIsAlive())
            return;
        pg_usleep(LOOK_AGAIN_MS * 1000L);
    }
}

bool
fleet_starter_launch(Oid database, int delay_ms, Oid sentinel, const FleetAgentEnd *end)
{
    BackgroundWorker worker;
    BackgroundWorkerHandle *handle;
    StarterArgs args = {
        .database = database, .delay_ms = delay_ms, .sentinel = sentinel, .end = *end};
    bool registered = false;

    worker_init(&worker, "pg_fleet starter", "fleet_starter_main");
    worker.bgw_restart_time = STARTER_AGAIN_S;
    memcpy(worker.bgw_extra, &args, sizeof(args));
    /* Runners that ended a moment ago may still hold the slots. */
    for (int i = 0; i < 50 && !registered && PostmasterIsAlive(); i++)
    {
        if (i > 0)
            pg_usleep(20000);
        registered = RegisterDynamicBackgroundWorker(&worker, &handle);
    }
    if (registered)
        wait_for_starter(database, handle);
    else
        ereport(LOG, (errmsg("pg_fleet: no background worker slot is free to bring the agent of "
                             "database %u back",
                             database),
                      errdetail("The agent keeps its own slot, and is started again in %d seconds.",
                                AGAIN_S),
                      errhint("Raise max_worker_processes.")));
    return registered;
}

/* All of the time, however often the latch is set, unless this is. */
static void
wait_ms(int ms, volatile sig_atomic_t *unless)
{
    FleetTime end = fleet_clock_now() + FLEET_MS(ms);
    FleetTime now;

    while ((now = fleet_clock_now()) < end && (unless == NULL || !*unless))
    {
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                         fleet_wait_ms(now, end), PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

/* ---- starter ---- */

static volatile sig_atomic_t called = false; /* SIGINT: perhaps the extension is to be dropped */

static void
on_sigint(SIGNAL_ARGS)
{
    int save_errno = errno;

    called = true;
    SetLatch(MyLatch);
    errno = save_errno;
}

/*
 * The sentinel's lock, as the agent has it (agent/life.c): so DROP EXTENSION
 * runs into us, and the deadlock check calls us as it calls autovacuum.  A lock
 * needs no connection to the database of its table.  False: it is being dropped.
 */
static bool
watch_sentinel(const StarterArgs *args)
{
    LOCKTAG tag;
    bool got;

    if (!OidIsValid(args->sentinel))
        return true;
    SET_LOCKTAG_RELATION(tag, args->database, args->sentinel);
    StartTransactionCommand();
    got = LockAcquire(&tag, AccessShareLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
    CommitTransactionCommand();
    fleet_be_called();
    return got;
}

static void
release_sentinel(const StarterArgs *args)
{
    LOCKTAG tag;

    SET_LOCKTAG_RELATION(tag, args->database, args->sentinel);
    if (OidIsValid(args->sentinel))
        LockRelease(&tag, AccessShareLock, true);
}

/* An agent that is there waits for the end of the drop, and sees what became of it. */
static bool
extension_is_dropped(const StarterArgs *args)
{
    LOCKTAG tag;

    if (!called)
        return false;
    called = false;
    SET_LOCKTAG_RELATION(tag, args->database, args->sentinel);
    return OidIsValid(args->sentinel) && fleet_excludes_all(&tag, true);
}

typedef enum DatabaseState
{
    DATABASE_GONE,
    DATABASE_CLOSED, /* ALLOW_CONNECTIONS false */
    DATABASE_OPEN,
} DatabaseState;

/* "lock" waits for the end of DROP, ALTER and CREATE … TEMPLATE, with whose locks this one conflicts. */
static DatabaseState
look_for_database(Oid database, bool lock)
{
    DatabaseState state = DATABASE_GONE;
    HeapTuple tuple;

    StartTransactionCommand();
    if (lock)
        LockSharedObject(DatabaseRelationId, database, 0, RowExclusiveLock);
    AcceptInvalidationMessages();
    tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
    if (HeapTupleIsValid(tuple))
    {
        state =
            ((Form_pg_database) GETSTRUCT(tuple))->datallowconn ? DATABASE_OPEN : DATABASE_CLOSED;
        ReleaseSysCache(tuple);
    }
    CommitTransactionCommand();
    return state;
}

/* What fleet.agent_status() reads, and everybody may in pg_stat_activity (fleet_catalog.starter). */
static void
tell_why(const StarterArgs *args, FleetTime start, const char *obstacle)
{
    StringInfoData text;

    initStringInfo(&text);
    appendStringInfo(&text, "starts the agent of database %u at %s", args->database,
                     timestamptz_to_str(fleet_clock_to_wall(start)));
    if (obstacle != NULL)
        appendStringInfo(&text, ", when %s", obstacle);
    if (args->end.at != 0)
    {
        appendStringInfo(&text, "; the last one ended at %s", timestamptz_to_str(args->end.at));
        appendStringInfo(&text, " by %s: %s", unpack_sql_state(args->end.sqlstate),
                         args->end.message);
    }
    pgstat_report_activity(STATE_RUNNING, text.data);
    pfree(text.data);
}

/* Until nobody needs to wait: for a DROP EXTENSION that waits for us, or if the database is gone. */
static void
wait_for_delay(const StarterArgs *args)
{
    FleetTime end = fleet_clock_now() + FLEET_MS(Max(args->delay_ms, 0));
    FleetTime left;

    tell_why(args, end, NULL);
    if (args->delay_ms > 0)
        ereport(LOG, (errmsg("pg_fleet: the agent of database %u ended soon after its start; the "
                             "next one starts in %d seconds",
                             args->database, args->delay_ms / 1000),
                      args->end.at == 0
                          ? 0
                          : errdetail("It ended with SQLSTATE %s: %s",
                                      unpack_sql_state(args->end.sqlstate), args->end.message)));
    if (!FLEET_POINT_HIT("starter_before_delay") && args->delay_ms > 0 && watch_sentinel(args))
    {
        while ((left = end - fleet_clock_now()) > 0 && !extension_is_dropped(args) &&
               look_for_database(args->database, false) != DATABASE_GONE)
            wait_ms((int) Min((left + 999) / 1000, LOOK_FOR_DATABASE_MS), &called);
        release_sentinel(args);
    }
    FLEET_POINT("starter_after_delay");
}

/* Registers the agent; NULL: no slot.  From then on the postmaster cares for it. */
static BackgroundWorkerHandle *
launch(const StarterArgs *args)
{
    BackgroundWorker worker;
    BackgroundWorkerHandle *handle;

    agent_worker(&worker, args);
    worker.bgw_notify_pid = MyProcPid;
    return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* Why there is no agent yet, once each. */
static void
tell_obstacle(const StarterArgs *args, DatabaseState state)
{
    static bool told[2] = {false, false};

    if (told[state == DATABASE_OPEN])
        return;
    told[state == DATABASE_OPEN] = true;
    tell_why(args, fleet_clock_now(),
             state == DATABASE_OPEN ? "a background worker slot is free"
                                    : "the database allows connections");
    if (state == DATABASE_OPEN)
        ereport(LOG, (errmsg("pg_fleet: the agent of database %u waits for a free background "
                             "worker slot",
                             args->database),
                      errhint("Raise max_worker_processes.")));
    else
        ereport(LOG, (errmsg("pg_fleet: the agent of database %u waits until the database allows "
                             "connections",
                             args->database)));
}

void
fleet_starter_main(Datum arg)
{
    const StarterArgs *args = own_args();
    LOCKTAG tag;
    BackgroundWorkerHandle *handle = NULL;
    DatabaseState state;
    pid_t pid;

    pqsignal(SIGTERM, die);
    pqsignal(SIGINT, on_sigint);
    BackgroundWorkerUnblockSignals();
    fleet_worker_connect(InvalidOid);

    /* Another one may be there still; it has nothing to do for long, or will find our agent. */
    tag = fleet_home_lock(args->database, FLEET_HOME_STARTER);
    StartTransactionCommand();
    (void) LockAcquire(&tag, ExclusiveLock, true, false);
    CommitTransactionCommand();

    wait_for_delay(args);
    while ((state = look_for_database(args->database, true)) != DATABASE_GONE &&
           (state == DATABASE_CLOSED || (handle = launch(args)) == NULL))
    {
        tell_obstacle(args, state);
        wait_ms(LOOK_FOR_DATABASE_MS, NULL);
    }
    /* Nobody else may come before it. */
    while (handle != NULL && GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED &&
           !is_taken(args->database, FLEET_HOME_AGENT))
        wait_ms(LOOK_AGAIN_MS, NULL);
    proc_exit(0);
}

/* ---- launcher ---- */

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
    StarterArgs args = first_of(database);
    pid_t pid;

    agent_worker(&worker, &args);
    worker.bgw_notify_pid = MyProcPid;
    while (!RegisterDynamicBackgroundWorker(&worker, &handle))
        wait_ms(1000, NULL);
    if (WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
        return;
    /* A moment for a look into the catalog; an agent that stays needs no waiting for. */
    for (int i = 0; i < 20 && GetBackgroundWorkerPid(handle, &pid) == BGWH_STARTED; i++)
        wait_ms(10, NULL);
}

void
fleet_launcher_main(Datum arg)
{
    Oid *databases;
    int count;

    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    fleet_worker_connect(InvalidOid);
    databases = list_databases(&count);
    FLEET_POINT("launcher_before_launch");
    for (int i = 0; i < count; i++)
        launch_and_look(databases[i]);
    for (;;)
    {
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}
