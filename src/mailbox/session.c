/*
 * mailbox/session.c
 *     How a session reaches its database's agent: messages that go out at
 *     COMMIT, and waiting for a run without polling.  In any session; no
 *     process of ours is needed beforehand: when no agent is there, the commit
 *     launches one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "store/session.h"
#include "clock.h"
#include "core/state.h"
#include "launcher/launcher.h"
#include "miscadmin.h"
#include "mailbox/internal.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define PAUSED_HINT                                                                                \
    "A superuser decides: SELECT fleet.confirm_identity('same'), or ('new'); see \"Dump, "         \
    "restore, clone\" in the documentation."

/* Messages of the present transaction; in TopTransactionContext, gone with it. */
typedef struct Pending
{
    int count;
    int capacity;
    FleetMessage *messages;
    int *levels; /* of the subtransactions that they belong to */
    int agent_pid;
    bool told; /* who requests has been told that nothing begins */
} Pending;

static Pending pending;
static bool callback_registered = false;

/* The mapping of the present agent's memory, kept between calls. */
static dsm_segment *attached = NULL;
static uint32 attached_handle = 0;

/* The session ends, or turns to a newer agent, while it waits: leave no waiter behind. */
static void
remove_my_waiters(dsm_segment *segment, Datum arg)
{
    FleetShared *shared = (FleetShared *) DatumGetPointer(arg);

    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < shared->waiters_used; i++)
    {
        if (shared->waiters[i].proc == MyProc)
            shared->waiters[i].proc = NULL;
    }
    for (int i = 0; i < shared->asks_used; i++)
    {
        if (shared->asks[i].proc == MyProc)
            shared->asks[i].proc = NULL;
    }
    SpinLockRelease(&shared->mutex);
}

static FleetShared *
attach(uint32 handle)
{
    FleetShared *shared;

    if (handle == 0)
        return NULL;
    if (attached == NULL || attached_handle != handle)
    {
        if (attached != NULL)
            dsm_detach(attached);
        attached = dsm_find_mapping(handle);
        if (attached == NULL)
            attached = dsm_attach(handle);
        if (attached == NULL)
            return NULL; /* that agent is gone */
        dsm_pin_mapping(attached);
        on_dsm_detach(attached, remove_my_waiters, PointerGetDatum(dsm_segment_address(attached)));
        attached_handle = handle;
    }
    shared = dsm_segment_address(attached);
    if (shared->magic != FLEET_SHARED_MAGIC || shared->database != MyDatabaseId ||
        shared->agent == NULL)
    {
        dsm_detach(attached);
        attached = NULL;
        return NULL;
    }
    return shared;
}

/* Puts the messages into the ring and wakes the agent; false: there is none. */
static bool
deliver(FleetShared *shared, const FleetMessage *messages, int count)
{
    PGPROC *agent;

    SpinLockAcquire(&shared->mutex);
    agent = shared->agent;
    for (int i = 0; i < count && agent != NULL; i++)
    {
        if (shared->tail - shared->head == FLEET_RING_SIZE)
        {
            shared->overflow = true;
            break;
        }
        shared->ring[shared->tail++ % FLEET_RING_SIZE] = messages[i];
    }
    SpinLockRelease(&shared->mutex);
    if (agent == NULL)
        return false;
    SetLatch(&agent->procLatch);
    return true;
}

static void
forget_pending(void)
{
    memset(&pending, 0, sizeof(pending));
}

static void
at_commit(void)
{
    if (attached != NULL && deliver(dsm_segment_address(attached), pending.messages, pending.count))
        return;
    if (!fleet_agent_launch(MyDatabaseId))
        ereport(WARNING,
                (errmsg("the agent of pg_fleet could not be started: no background worker slot is "
                        "free"),
                 errdetail("The request is stored and runs as soon as an agent starts."),
                 errhint("Raise max_worker_processes.")));
}

static void
xact_callback(XactEvent event, void *arg)
{
    if (pending.count == 0)
        return;
    switch (event)
    {
        case XACT_EVENT_COMMIT:
            at_commit();
            forget_pending();
            break;
        case XACT_EVENT_PRE_PREPARE:
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("cannot PREPARE a transaction that has made a request to "
                                   "pg_fleet"),
                            errhint("Make the request in a transaction of its own.")));
            break;
        case XACT_EVENT_ABORT:
        case XACT_EVENT_PREPARE: forget_pending(); break;
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PARALLEL_COMMIT:
        case XACT_EVENT_PARALLEL_ABORT:
        case XACT_EVENT_PARALLEL_PRE_COMMIT: break;
    }
}

/* What a subtransaction asked for is rolled back with it, or becomes its parent's. */
static void
subxact_callback(SubXactEvent event, SubTransactionId sub, SubTransactionId parent, void *arg)
{
    int level = GetCurrentTransactionNestLevel();

    if (event == SUBXACT_EVENT_ABORT_SUB)
    {
        while (pending.count > 0 && pending.levels[pending.count - 1] >= level)
            pending.count--;
    }
    else if (event == SUBXACT_EVENT_COMMIT_SUB)
    {
        for (int i = pending.count - 1; i >= 0 && pending.levels[i] >= level; i--)
            pending.levels[i] = level - 1;
    }
}

static void
warn_paused(const char *reason)
{
    ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                      errmsg("this parent is paused: what is requested is stored, and does not "
                             "begin"),
                      errdetail("%s", reason), errhint(PAUSED_HINT)));
}

static void
warn_no_agent(const char *reason, const char *what_then)
{
    ereport(WARNING, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                      errmsg("there is no agent of pg_fleet now"), errdetail("%s", reason),
                      errhint("%s", what_then)));
}

/* Once a transaction, however much it requests.  While the agent is there and works this reads
 * nothing. */
static void
tell_if_nothing_begins(void)
{
    FleetShared *shared = attached == NULL ? NULL : dsm_segment_address(attached);
    const char *reason;

    pending.told = true;
    if (shared != NULL && !shared->paused)
        return;
    if ((reason = fleet_catalog_paused()) != NULL)
        warn_paused(reason);
    else if (shared == NULL && fleet_starter_is_there(MyDatabaseId) &&
             (reason = fleet_catalog_no_agent()) != NULL)
        warn_no_agent(reason, "The request is stored and runs as soon as an agent starts.");
}

void
fleet_wake_at_commit(FleetMessageKind kind, int64 id)
{
    if (!callback_registered)
    {
        RegisterXactCallback(xact_callback, NULL);
        RegisterSubXactCallback(subxact_callback, NULL);
        callback_registered = true;
    }
    if (pending.count == 0)
    {
        uint32 handle;

        /* Reading the catalog is not possible any more inside the commit itself. */
        fleet_catalog_agent(&pending.agent_pid, &handle);
        (void) attach(handle);
        pending.told = false;
        pending.capacity = 8;
        pending.messages =
            MemoryContextAlloc(TopTransactionContext, sizeof(FleetMessage) * pending.capacity);
        pending.levels = MemoryContextAlloc(TopTransactionContext, sizeof(int) * pending.capacity);
    }
    else if (pending.count == pending.capacity)
    {
        pending.capacity *= 2;
        pending.messages = repalloc(pending.messages, sizeof(FleetMessage) * pending.capacity);
        pending.levels = repalloc(pending.levels, sizeof(int) * pending.capacity);
    }
    pending.levels[pending.count] = GetCurrentTransactionNestLevel();
    pending.messages[pending.count++] = (FleetMessage){kind, id};
    if (!pending.told && (kind == FLEET_MESSAGE_RUN || kind == FLEET_MESSAGE_JOB_RUN))
        tell_if_nothing_begins();
}

/* ---- waiting ---- */

static FleetWaiter *
waiter_add(FleetShared *shared, const FleetWait *wait)
{
    FleetWaiter *volatile found = NULL; /* inlined into a PG_TRY */
    PGPROC *agent;

    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < FLEET_MAX_WAITERS && found == NULL; i++)
    {
        if (shared->waiters[i].proc == NULL)
        {
            found = &shared->waiters[i];
            *found = (FleetWaiter){.proc = MyProc,
                                   .run_id = wait->run_id,
                                   .wants_changes = wait->wants_changes,
                                   .holds = wait->rest == NULL};
            if (i >= shared->waiters_used)
                shared->waiters_used = i + 1;
        }
    }
    agent = shared->agent;
    SpinLockRelease(&shared->mutex);
    /* what this session holds, a step may come to wait for */
    if (found != NULL && found->holds && agent != NULL)
        SetLatch(&agent->procLatch);
    if (found == NULL)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("too many sessions wait for runs of pg_fleet"),
                        errdetail("At most %d can wait at the same time.", FLEET_MAX_WAITERS),
                        errhint("Look into fleet.run instead.")));
    return found;
}

static void
waiter_remove(FleetShared *shared, FleetWaiter *waiter)
{
    SpinLockAcquire(&shared->mutex);
    waiter->proc = NULL;
    while (shared->waiters_used > 0 && shared->waiters[shared->waiters_used - 1].proc == NULL)
        shared->waiters_used--;
    SpinLockRelease(&shared->mutex);
}

FleetShared *
fleet_shared_find(void)
{
    int pid;
    uint32 handle;

    fleet_catalog_agent(&pid, &handle);
    return attach(handle);
}

void
fleet_session_sleep(FleetTime until)
{
    long ms = fleet_wait_ms(fleet_clock_now(), until);

    (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (ms >= 0 ? WL_TIMEOUT : 0), ms,
                     PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

/* At most until then; the caller looks at the time again.  What is held of the transaction is given
 * up before. */
static void
sleep_until(FleetWait *wait, FleetTime until)
{
    if (wait->rest != NULL)
        wait->rest();
    fleet_session_sleep(until);
    if (wait->sees_cancel && QueryCancelPending)
        wait->canceled = true;
}

/* An agent is on its way, or this is a standby, where none may be: says so once, if it will last. */
static void
tell_if_none_comes(bool *warned)
{
    const char *reason = *warned ? NULL : fleet_catalog_no_agent();

    if (reason == NULL)
        return;
    *warned = true;
    warn_no_agent(reason, "The wait goes on. It ends when the run does, wherever its agent is.");
}

/* No agent at the moment: launch one, unless one is on its way, and give it a moment to publish
 * itself.  The wait outlasts a lack of worker slots, and says so once. */
static void
wait_for_agent(FleetWait *wait, FleetTime deadline, bool launch, bool *warned)
{
    if (launch && (RecoveryInProgress() || fleet_starter_is_there(MyDatabaseId)))
        tell_if_none_comes(warned);
    else if (launch && !fleet_agent_launch(MyDatabaseId) && !*warned)
    {
        *warned = true;
        ereport(WARNING,
                (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
                 errmsg("the agent of pg_fleet could not be started: no background worker slot is "
                        "free"),
                 errdetail("The wait goes on, and starts the agent as soon as one is free."),
                 errhint("Raise max_worker_processes.")));
    }
    sleep_until(wait, fleet_earlier(deadline, fleet_clock_now() + FLEET_MS(20)));
}

/* One wait in the agent's memory; true: something has changed. */
static bool
wait_once(FleetShared *shared, FleetWait *wait, FleetTime deadline)
{
    FleetWaiter *waiter = waiter_add(shared, wait);
    volatile bool poked = false;

    PG_TRY();
    {
        /* Registered first, then looked: no end can slip through between both. */
        while (!waiter->poked && shared->agent != NULL && fleet_clock_now() < deadline &&
               !wait->canceled && !FLEET_STATE_IS_FINAL(fleet_catalog_run_state(wait->run_id)))
            sleep_until(wait, deadline);
        poked = waiter->poked;
    }
    PG_FINALLY();
    {
        waiter_remove(shared, waiter);
    }
    PG_END_TRY();
    return poked;
}

/* An agent that is paused begins nothing, and will not before it is told who it is.  Only at its start
 * does an agent find that it is one: who waits then comes here too, since the one before is gone. */
static void
refuse_if_paused(const FleetShared *shared, int64 run_id)
{
    const char *reason = shared->paused ? fleet_catalog_paused() : NULL;

    if (reason == NULL)
        return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("run %lld does not go on: this parent is paused", (long long) run_id),
                    errdetail("%s", reason), errhint(PAUSED_HINT)));
}

void
fleet_wait_run(FleetWait *wait)
{
    FleetTime deadline = wait->timeout_ms < 0
                             ? FLEET_NEVER
                             : fleet_clock_now() + FLEET_MS((FleetTime) wait->timeout_ms);
    int tries = 0;
    bool warned = false;

    wait->canceled = wait->sees_cancel && QueryCancelPending;
    while (!wait->canceled)
    {
        FleetShared *shared;
        int state = fleet_catalog_run_state(wait->run_id);

        if (state == 0 || FLEET_STATE_IS_FINAL(state))
            return;
        if (fleet_clock_now() >= deadline)
        {
            wait->timed_out = true;
            return;
        }
        shared = fleet_shared_find();
        if (shared == NULL)
        {
            /* Launch now and then only: an agent may be on its way up already. */
            wait_for_agent(wait, deadline, tries++ % 50 == 25, &warned);
            continue;
        }
        tries = 0;
        refuse_if_paused(shared, wait->run_id);
        if (wait_once(shared, wait, deadline) && wait->wants_changes)
            return;
    }
}
