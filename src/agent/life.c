/*
 * agent/life.c
 *     Which process is the agent of a database, and how each agent that ends is
 *     followed by another one.
 *
 * Three heavyweight locks a database, in tags that no SQL function can take
 * (launcher/launcher.h):
 *   agent    held by the agent: one a database
 *   starter  held by the starter that brings the next one, until that one is
 *            at home: whoever else comes meanwhile leaves, and so nobody
 *            comes before the delay is over
 *   heir     held by the one process that waits for the agent's lock
 *
 * A process that finds the agent's lock taken was launched because a session has
 * work for an agent.  It tells the existing agent to read everything again.  If
 * that one cannot be told (it is about to end, or has not yet begun), the
 * process waits for the lock instead.  It exits only if a starter or an heir
 * will do the same: both read the rows later than the request's commit.
 *
 * An agent that ends without having decided that this database needs none
 * hands over to a starter, during its exit.  If that is impossible (no worker
 * slot is free, an error in the exit, a crash), it keeps its own slot: it ends
 * with exit code 1, and the postmaster starts it again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "agent/life.h"
#include "agent/raise.h"
#include "clock.h"
#include "store/identity.h"
#include "catalog/namespace.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "store/session.h"
#include "store/spi.h"
#include "commands/extension.h"
#include "launcher/launcher.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pg_fleet.h"
#include "points.h"
#include "mailbox/internal.h"
#include "postmaster/bgworker.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#define RESTART_DELAY_MS 1000
#define RESTART_DELAY_MAX_MS 30000
#define LIVED_LONG FLEET_SECONDS(10)
#define LOOK_AGAIN_MS 20
#define NO_MEMORY_WAIT_MS 1000

static volatile sig_atomic_t called = false; /* SIGINT: perhaps what we stand on is to be dropped */
static bool leaving = false;
static FleetTime born;
static bool nothing_to_do = false; /* decided: no successor is needed */
static bool at_home = false;
static bool handed_over = false;
static FleetAgentEnd last_error;
static emit_log_hook_type next_log_hook;
static Oid sentinel = InvalidOid; /* as far as it is known */
static LockRelId sentinel_lock;   /* held for the session, if relId is set */
static Oid extension = InvalidOid;

/* ---- leaving ---- */

static void
on_sigint(SIGNAL_ARGS)
{
    int save_errno = errno;

    called = true;
    SetLatch(MyLatch);
    errno = save_errno;
}

/* Is the database to be dropped, renamed or moved, or the extension to be dropped? */
static bool
ground_is_taken(void)
{
    LOCKTAG database, ours;

    SET_LOCKTAG_OBJECT(database, InvalidOid, DatabaseRelationId, agent.database, 0);
    SET_LOCKTAG_OBJECT(ours, agent.database, ExtensionRelationId, extension, 0);
    return fleet_excludes_all(&database, false) ||
           (OidIsValid(extension) && fleet_excludes_all(&ours, false));
}

/* Keeps the last ERROR or FATAL that went to the server's log: the reason, if the agent ends by it. */
static void
remember_error(ErrorData *error)
{
    if (error->elevel >= ERROR)
    {
        const char *message = error->message != NULL ? error->message : "";
        int length =
            pg_mbcliplen(message, (int) strlen(message), (int) sizeof(last_error.message) - 1);

        last_error.at = fleet_clock_wall();
        last_error.sqlstate = error->sqlerrcode;
        memcpy(last_error.message, message, (size_t) length);
        last_error.message[length] = '\0';
        /* The login finds no database: it has been dropped, and needs no agent. */
        if (error->elevel == FATAL && error->sqlerrcode == ERRCODE_UNDEFINED_DATABASE)
            nothing_to_do = true;
    }
    if (next_log_hook != NULL)
        next_log_hook(error);
}

/* The first restart is immediate; an agent that ended soon after its start waits longer before the
 * next try. */
static int
restart_delay(void)
{
    int last = fleet_agent_last_delay();

    if (last == FLEET_NOT_RESTARTED || fleet_clock_now() - born > LIVED_LONG)
        return 0;
    return Min(Max(last * 2, RESTART_DELAY_MS), RESTART_DELAY_MAX_MS);
}

static void
release_sentinel(void)
{
    if (OidIsValid(sentinel_lock.relId))
        UnlockRelationIdForSession(&sentinel_lock, AccessShareLock);
    sentinel_lock.relId = InvalidOid;
}

/*
 * At exit.  The exit code tells the postmaster whether it has to start us
 * again, so it is made to fit: 0 if somebody else cares for a successor.
 */
static void
hand_over(int code, Datum arg)
{
    bool ok;

    if (handed_over)
        return;
    handed_over = true;
    if (nothing_to_do)
    {
        if (code != 0)
            proc_exit(0);
        return;
    }
    /* Before there can be a successor, who would leave if we could still be told something. */
    if (agent.shared != NULL)
        fleet_shared_leave(agent.shared);
    if (at_home)
        fleet_runner_shutdown(ground_is_taken());
    /* The server releases a session's relation locks only with a transaction's end. */
    release_sentinel();
    FLEET_POINT("agent_before_hand_over");
    if (code == 0)
        last_error.at = 0; /* it left by itself */
    ok = fleet_starter_launch(agent.database, restart_delay(), sentinel, &last_error);
    FLEET_POINT("agent_after_hand_over");
    if (ok != (code == 0))
        proc_exit(ok ? 0 : 1); /* goes on with the callbacks that are left */
}

/* Twice, since callbacks run in the reverse order: the first one is for an end before there is a
 * database; the second one, run first, still holds our locks. */
void
agent_home_prepare(void)
{
    born = fleet_clock_now();
    sentinel = fleet_agent_last_sentinel();
    next_log_hook = emit_log_hook;
    emit_log_hook = remember_error;
    pqsignal(SIGINT, on_sigint);
    before_shmem_exit(hand_over, (Datum) 0);
}

void
agent_home_connected(void)
{
    before_shmem_exit(hand_over, (Datum) 0);
    fleet_be_called();
}

/* ---- coming ---- */

static void
wait_a_moment(int ms)
{
    (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
                     PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

/* The memory of an agent that has published itself and has not ended; NULL: there is none. */
static dsm_segment *
other_agent(void)
{
    int pid;
    uint32 handle;
    dsm_segment *segment;
    FleetShared *shared;
    bool live = false;

    StartTransactionCommand();
    fleet_catalog_agent(&pid, &handle);
    CommitTransactionCommand();
    segment = handle == 0 ? NULL : dsm_attach(handle);
    if (segment == NULL)
        return NULL;
    shared = dsm_segment_address(segment);
    /* else the row is still the one of the database that ours is a copy of */
    if (shared->magic == FLEET_SHARED_MAGIC && shared->database == agent.database)
    {
        SpinLockAcquire(&shared->mutex);
        live = shared->agent != NULL;
        SpinLockRelease(&shared->mutex);
    }
    if (live)
        return segment;
    dsm_detach(segment);
    return NULL;
}

/* Tells it to read everything again.  False: it has ended meanwhile. */
static bool
poke(dsm_segment *segment)
{
    FleetShared *shared = dsm_segment_address(segment);
    PGPROC *other;

    SpinLockAcquire(&shared->mutex);
    shared->overflow = true;
    other = shared->agent;
    SpinLockRelease(&shared->mutex);
    if (other != NULL)
        SetLatch(&other->procLatch);
    dsm_detach(segment);
    return other != NULL;
}

/*
 * True: we are the only agent.  False: another one is, or will be (or we were
 * asked to leave).  What a starter launched is what all the others rely on: it
 * leaves for nobody but an agent that has been told.
 */
static bool
claim(void)
{
    LOCKTAG home = fleet_home_lock(agent.database, FLEET_HOME_AGENT);
    LOCKTAG heir = fleet_home_lock(agent.database, FLEET_HOME_HEIR);
    bool expected = fleet_agent_last_delay() != FLEET_NOT_RESTARTED;
    bool is_heir = false, mine = false;

    while (!mine && !agent_must_leave())
    {
        dsm_segment *other;

        mine = LockAcquire(&home, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
        if (!expected && fleet_starter_is_there(agent.database))
        {
            if (mine)
                LockRelease(&home, ExclusiveLock, true);
            mine = false;
            break;
        }
        if (mine)
            break;
        if (!expected && !is_heir &&
            LockAcquire(&heir, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
            break;
        is_heir = !expected;
        other = other_agent();
        if (other == NULL)
        {
            FLEET_POINT("agent_waits_for_home");
            wait_a_moment(LOOK_AGAIN_MS);
            continue;
        }
        /* First: who comes after we have poked must not rely on us. */
        if (is_heir)
            LockRelease(&heir, ExclusiveLock, true);
        is_heir = false;
        if (poke(other))
            break;
    }
    if (is_heir)
        LockRelease(&heir, ExclusiveLock, true);
    return mine;
}

/* Our starter ends when it sees us at home.  Until then, nobody could tell it from the next one. */
static void
starter_ends(void)
{
    for (int i = 0; i < 50 && fleet_starter_is_there(agent.database); i++)
        wait_a_moment(LOOK_AGAIN_MS);
}

static Oid
find_sentinel(void)
{
    Oid schema;

    sentinel = InvalidOid;
    extension = get_extension_oid("pg_fleet", true);
    if (!OidIsValid(extension) || !OidIsValid(schema = get_namespace_oid("fleet_catalog", true)))
        return InvalidOid;
    return sentinel = get_relname_relid("sentinel", schema);
}

/* Waits for a DROP EXTENSION that is under way; then keeps the next one waiting, which tells us. */
static bool
keep_sentinel(void)
{
    bool found;

    StartTransactionCommand();
    (void) GetTransactionSnapshot();
    (void) find_sentinel();
    if (OidIsValid(sentinel))
    {
        LockRelationOid(sentinel, AccessShareLock);
        AcceptInvalidationMessages();
    }
    found = OidIsValid(sentinel) && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(sentinel));
    if (found)
    {
        sentinel_lock = (LockRelId){sentinel, agent.database};
        LockRelationIdForSession(&sentinel_lock, AccessShareLock);
    }
    CommitTransactionCommand();
    return found;
}

static char *
extension_version(void)
{
    char *version = fleet_extension_version();

    fleet_catalog_commit();
    return version;
}

/* What SIGINT was for.  The deadlock check of any session that waits for a lock of ours sends it,
 * as it does to autovacuum; so does pg_cancel_backend(). */
static void
answer_call(void)
{
    LOCKTAG tag;

    if (ground_is_taken())
    {
        leaving = true;
        return;
    }
    /* VACUUM FULL, for example: it is let in, and then we go on. */
    SET_LOCKTAG_RELATION(tag, agent.database, sentinel_lock.relId);
    if (!OidIsValid(sentinel_lock.relId) || !fleet_excludes_all(&tag, true))
        return;
    release_sentinel();
    if (keep_sentinel())
    {
        /* ALTER EXTENSION UPDATE: the next agent loads the library anew. */
        if (strcmp(extension_version(), FLEET_VERSION) != 0)
            leaving = true;
        return;
    }
    nothing_to_do = true;
    leaving = true;
}

void
agent_leave(void)
{
    leaving = true;
}

bool
agent_must_leave(void)
{
    /* Within a transaction we may hold what the other one waits for besides. */
    if (called && !fleet_catalog_is_open())
    {
        called = false;
        answer_call();
    }
    return leaving;
}

bool
agent_claim_database(void)
{
    bool installed;

    StartTransactionCommand();
    (void) GetTransactionSnapshot();
    installed = OidIsValid(find_sentinel());
    CommitTransactionCommand();
    /* The sentinel is not locked by who only waits: DROP EXTENSION tells one process to leave. */
    if (!installed || !claim())
    {
        nothing_to_do = !leaving;
        return false;
    }
    if (!keep_sentinel())
    {
        nothing_to_do = true;
        return false;
    }
    starter_ends();
    at_home = true;
    return true;
}

/*
 * The library is newer than the catalog after an installation, until the
 * extension is updated; and older, if the server has preloaded it before.  An
 * agent that does not know its tables would take what it finds for damage.
 */
static void
check_version(void)
{
    char *version = extension_version();

    if (strcmp(version, FLEET_VERSION) != 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("extension pg_fleet has version %s, but its library %s", version,
                        FLEET_VERSION),
                 errdetail("No agent runs until both are the same."),
                 errhint("Run ALTER EXTENSION pg_fleet UPDATE. If that has been done, restart the "
                         "server, which has loaded the library before it was replaced.")));
}

/* Its message may be older than the connection to the database, and so of another encoding. */
static void
store_predecessor(void)
{
    const FleetAgentEnd *end = fleet_agent_predecessor();
    char message[sizeof(end->message)];

    if (end->at == 0)
        return;
    strlcpy(message, end->message, sizeof(message));
    if (!pg_verifymbstr(message, (int) strlen(message), true))
    {
        for (char *c = message; *c != '\0'; c++)
        {
            if (IS_HIGHBIT_SET(*c))
                *c = '?';
        }
    }
    fleet_agent_error_store(unpack_sql_state(end->sqlstate), message, end->at);
}

/*
 * An abort releases a session's relation locks, but there was none if the ERROR
 * came between two transactions; nobody else would release them then.  Our own
 * lock stays: the server keeps those of its class until the end.
 */
void
agent_home_aborted(void)
{
    MemoryContext context = CurrentMemoryContext;

    StartTransactionCommand();
    AbortCurrentTransaction();
    MemoryContextSwitchTo(context);
    sentinel_lock.relId = InvalidOid;
}

void
agent_publish(void)
{
    FleetIdentityRow row;
    uint32 handle;

    check_version();
    /* Without it no session could tell us anything; what they request meanwhile is in the rows. */
    while ((agent.shared = fleet_shared_create(&handle)) == NULL)
    {
        wait_a_moment(NO_MEMORY_WAIT_MS);
        if (agent_must_leave())
            proc_exit(0);
    }
    fleet_identity_open(MyProcPid, handle, GetWALInsertionTimeLine(), GetSystemIdentifier(),
                        agent.database, &row);
    store_predecessor();
    if (row.paused != NULL)
        fleet_shared_set_paused(agent.shared);
    fleet_catalog_commit();
    strlcpy(agent.identity.uuid, row.uuid, sizeof(agent.identity.uuid));
    strlcpy(agent.secret, row.secret, sizeof(agent.secret));
    agent.identity.epoch = row.epoch;
    strlcpy(agent.identity.name,
            cluster_name != NULL && cluster_name[0] != '\0' ? cluster_name
                                                            : MyBgworkerEntry->bgw_type,
            sizeof(agent.identity.name));
    agent.paused = row.paused != NULL;
    agent_raise(agent.paused ? FLEET_RAISED_AGENT_PAUSED : FLEET_RAISED_AGENT_STARTED, InvalidOid,
                NULL, NULL, row.paused);
    if (agent.paused)
        ereport(LOG, (errmsg("the agent of pg_fleet is paused"), errdetail("%s", row.paused)));
}
