/*
 * link/resolve.c
 *     Host names, looked up by another process: getaddrinfo() blocks for
 *     seconds when a name server is gone.
 *
 * Two roles.  In the agent's process: fleet_resolve() answers from a cache of
 * 60 s, or puts the name into a table in dynamic shared memory and starts a
 * "pg_fleet resolver" if none is free.  In the resolver's process:
 * fleet_resolver_main() takes names from the table, one at a time, sets the
 * agent's latch after each, and leaves when there was nothing to do for a
 * while or the agent is gone.  A resolver touches no database.
 *
 * States of an entry:  FREE → ASKED → TAKEN → ANSWERED → FREE
 */
#include "postgres.h"

#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dsm.h"
#include "link/internal.h"
#include "link/resolver.h"
#include "pg_fleet.h"

#include "miscadmin.h"
#include "points.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#ifndef FLEET_RESOLVER_LIBRARY /* the test module has another name */
#define FLEET_RESOLVER_LIBRARY FLEET_LIBRARY
#endif
#define RESOLVER_ENTRIES 64
#define RESOLVERS_MAX 4
#ifdef FLEET_TEST_POINTS /* for a test of how else they end */
#define RESOLVER_IDLE_MS 3600000
#else
#define RESOLVER_IDLE_MS 60000
#endif
#define CACHE_TIME FLEET_SECONDS(60)
#define NAME_SIZE 256

typedef enum EntryState
{
    ENTRY_FREE,
    ENTRY_ASKED,
    ENTRY_TAKEN,
    ENTRY_ANSWERED,
} EntryState;

typedef struct ResolverEntry
{
    EntryState state;
    int taken_by; /* number of the resolver */
    char name[NAME_SIZE];
    int code; /* of getaddrinfo */
    int n;
    char addresses[FLEET_ADDRESSES_MAX][FLEET_ADDRESS_SIZE];
} ResolverEntry;

typedef struct ResolverTable
{
    slock_t lock;
    PGPROC *agent;                   /* whose latch to set; the agent outlives the segment's use */
    Latch *resolvers[RESOLVERS_MAX]; /* NULL: not waiting */
    bool closed;
    ResolverEntry entries[RESOLVER_ENTRIES];
} ResolverTable;

/* ---- the agent's side ---- */

typedef struct CacheEntry
{
    char name[NAME_SIZE];
    FleetTime until;
    int code;
    int n;
    char addresses[FLEET_ADDRESSES_MAX][FLEET_ADDRESS_SIZE];
} CacheEntry;

typedef struct Resolver
{
    BackgroundWorkerHandle *handle;
} Resolver;

static HTAB *cache = NULL;
static ResolverTable *table = NULL;
static dsm_segment *segment = NULL;
static Resolver resolvers[RESOLVERS_MAX];
static int outstanding = 0;
static bool news = false;
static MemoryContextCallback resolve_reset;

/* However the agent ends: resolvers are told to go too.  One that is looking up a name, which has
 * an end of its own, goes after that. */
static void
resolvers_end(dsm_segment *detached, Datum arg)
{
    ResolverTable *left = (ResolverTable *) DatumGetPointer(arg);
    Latch *latches[RESOLVERS_MAX];

    SpinLockAcquire(&left->lock);
    left->closed = true;
    memcpy(latches, left->resolvers, sizeof(latches));
    SpinLockRelease(&left->lock);
    for (int i = 0; i < RESOLVERS_MAX; i++)
    {
        if (latches[i] != NULL)
            SetLatch(latches[i]);
    }
}

/* The agent's context goes. */
static void
resolver_forget(void *arg)
{
    if (table != NULL)
        dsm_detach(segment);
    table = NULL;
    segment = NULL;
    cache = NULL;
    outstanding = 0;
    memset(resolvers, 0, sizeof(resolvers));
}

static void
resolver_init(FleetLoop *loop)
{
    HASHCTL control = {
        .keysize = NAME_SIZE, .entrysize = sizeof(CacheEntry), .hcxt = fleet_loop_context(loop)};

    if (cache != NULL)
        return;
    cache =
        hash_create("fleet resolver cache", 64, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
    resolve_reset.func = resolver_forget;
    MemoryContextRegisterResetCallback(fleet_loop_context(loop), &resolve_reset);
}

static bool
resolver_table(void)
{
    if (table != NULL)
        return true;
    segment = fleet_dsm_create(sizeof(ResolverTable));
    if (segment == NULL)
        return false;
    table = dsm_segment_address(segment);
    memset(table, 0, sizeof(*table));
    SpinLockInit(&table->lock);
    table->agent = MyProc;
    on_dsm_detach(segment, resolvers_end, PointerGetDatum(table));
    return true;
}

/* What is known of resolvers that are gone: their entries must be asked again. */
static void
resolver_reap(void)
{
    pid_t pid;

    for (int i = 0; i < RESOLVERS_MAX; i++)
    {
        if (resolvers[i].handle == NULL ||
            GetBackgroundWorkerPid(resolvers[i].handle, &pid) != BGWH_STOPPED)
            continue;
        pfree(resolvers[i].handle);
        resolvers[i].handle = NULL;
        SpinLockAcquire(&table->lock);
        table->resolvers[i] = NULL;
        for (int k = 0; k < RESOLVER_ENTRIES; k++)
        {
            ResolverEntry *entry = &table->entries[k];

            if (entry->state == ENTRY_TAKEN && entry->taken_by == i)
            {
                entry->state = ENTRY_ANSWERED;
                entry->code = EAI_AGAIN;
                entry->n = 0;
            }
        }
        SpinLockRelease(&table->lock);
    }
}

static bool
resolver_start(FleetLoop *loop, int number)
{
    BackgroundWorker worker;
    MemoryContext before = MemoryContextSwitchTo(fleet_loop_context(loop));
    uint32 handle = dsm_segment_handle(segment);
    bool started;

    memset(&worker, 0, sizeof(worker));
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
    worker.bgw_start_time = BgWorkerStart_PostmasterStart;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    worker.bgw_main_arg = UInt32GetDatum(handle);
    memcpy(worker.bgw_extra, &number, sizeof(number));
    strlcpy(worker.bgw_library_name, FLEET_RESOLVER_LIBRARY, sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "fleet_resolver_main", sizeof(worker.bgw_function_name));
    strlcpy(worker.bgw_name, "pg_fleet resolver", sizeof(worker.bgw_name));
    strlcpy(worker.bgw_type, "pg_fleet resolver", sizeof(worker.bgw_type));
    started = RegisterDynamicBackgroundWorker(&worker, &resolvers[number].handle);
    MemoryContextSwitchTo(before);
    return started;
}

/* Wakes a resolver that waits, or starts another one; a name that hangs delays no other. */
static bool
resolver_wake(FleetLoop *loop)
{
    int unused = -1, running = 0, busy = 0;
    Latch *latch = NULL;

    SpinLockAcquire(&table->lock);
    for (int i = 0; i < RESOLVERS_MAX && latch == NULL; i++)
        latch = table->resolvers[i];
    for (int k = 0; k < RESOLVER_ENTRIES; k++)
        busy += table->entries[k].state == ENTRY_ASKED || table->entries[k].state == ENTRY_TAKEN;
    SpinLockRelease(&table->lock);
    for (int i = 0; i < RESOLVERS_MAX; i++)
    {
        if (resolvers[i].handle != NULL)
            running++;
        else if (unused < 0)
            unused = i;
    }
    if (latch != NULL)
        SetLatch(latch);
    if (unused >= 0 && running < busy && (latch == NULL || busy > 1))
        return resolver_start(loop, unused) || running > 0;
    return running > 0;
}

static bool
resolver_ask(FleetLoop *loop, const char *name)
{
    ResolverEntry *entry = NULL;

    if (!resolver_table())
        return false;
    resolver_reap();
    SpinLockAcquire(&table->lock);
    for (int k = 0; k < RESOLVER_ENTRIES && entry == NULL; k++)
    {
        if (table->entries[k].state == ENTRY_FREE)
            entry = &table->entries[k];
    }
    if (entry != NULL)
    {
        strlcpy(entry->name, name, sizeof(entry->name));
        entry->n = 0;
        entry->state = ENTRY_ASKED;
    }
    SpinLockRelease(&table->lock);
    if (entry == NULL)
        return true; /* full: whoever waits asks again when something was answered */
    outstanding++;
    if (resolver_wake(loop))
        return true;
    SpinLockAcquire(&table->lock);
    entry->state = ENTRY_FREE;
    SpinLockRelease(&table->lock);
    outstanding--;
    return false;
}

static CacheEntry *
cache_put(const char *name)
{
    char key[NAME_SIZE] = {0};

    strlcpy(key, name, sizeof(key));
    return hash_search(cache, key, HASH_ENTER, NULL);
}

/* Moves answers into the cache. */
static void
resolver_collect(void)
{
    bool asked = false;

    resolver_reap();
    for (int k = 0; k < RESOLVER_ENTRIES; k++)
    {
        ResolverEntry answer;

        SpinLockAcquire(&table->lock);
        answer = table->entries[k];
        if (answer.state == ENTRY_ANSWERED)
            table->entries[k].state = ENTRY_FREE;
        SpinLockRelease(&table->lock);
        asked |= answer.state == ENTRY_ASKED;
        if (answer.state == ENTRY_ANSWERED)
        {
            CacheEntry *entry = cache_put(answer.name);

            entry->code = answer.code;
            entry->n = answer.n;
            memcpy(entry->addresses, answer.addresses, sizeof(entry->addresses));
            /* a failure is only told to who waits for it now */
            entry->until = fleet_clock_now() + (answer.n > 0 ? CACHE_TIME : FLEET_MS(500));
            outstanding--;
            news = true;
        }
    }
    /* Somebody may have died between taking names. */
    if (asked && resolvers[0].handle == NULL && resolvers[1].handle == NULL &&
        resolvers[2].handle == NULL && resolvers[3].handle == NULL)
        news = true;
}

bool
fleet_resolve_news(void)
{
    bool some;

    if (outstanding > 0 && table != NULL)
        resolver_collect();
    some = news;
    news = false;
    return some;
}

static bool
resolver_is_asked(const char *name)
{
    bool found = false;

    if (table == NULL)
        return false;
    SpinLockAcquire(&table->lock);
    for (int k = 0; k < RESOLVER_ENTRIES && !found; k++)
        found = table->entries[k].state != ENTRY_FREE && strcmp(table->entries[k].name, name) == 0;
    SpinLockRelease(&table->lock);
    return found;
}

FleetResolved
fleet_resolve(FleetLoop *loop, const char *name, char (*addresses)[FLEET_ADDRESS_SIZE], int *n,
              const char **why)
{
    char key[NAME_SIZE] = {0};
    CacheEntry *entry;

    resolver_init(loop);
    strlcpy(key, name, sizeof(key));
    entry = hash_search(cache, key, HASH_FIND, NULL);
    if (entry != NULL && entry->until > fleet_clock_now())
    {
        if (entry->n == 0)
        {
            *why = gai_strerror(entry->code);
            return RESOLVE_FAILED;
        }
        *n = entry->n;
        memcpy(addresses, entry->addresses, sizeof(entry->addresses));
        return RESOLVE_DONE;
    }
    if (strlen(name) >= NAME_SIZE)
    {
        *why = "the host name is too long";
        return RESOLVE_FAILED;
    }
    if (resolver_is_asked(key) || resolver_ask(loop, key))
        return RESOLVE_PENDING;
    *why = "the host name cannot be looked up now: no background worker slot or shared memory "
           "segment is free (max_worker_processes)";
    return RESOLVE_FAILED;
}

/* ---- the resolver's process ---- */

static void
resolver_lookup(ResolverEntry *entry)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char addresses[FLEET_ADDRESSES_MAX][FLEET_ADDRESS_SIZE];
    int n = 0;
    int code;

    FLEET_POINT("resolver_looks_up");
    code = getaddrinfo(entry->name, NULL, &hints, &list);
    for (struct addrinfo *a = list; code == 0 && a != NULL && n < FLEET_ADDRESSES_MAX;
         a = a->ai_next)
    {
        if (getnameinfo(a->ai_addr, a->ai_addrlen, addresses[n], FLEET_ADDRESS_SIZE, NULL, 0,
                        NI_NUMERICHOST) == 0)
            n++;
    }
    if (list != NULL)
        freeaddrinfo(list);
    SpinLockAcquire(&table->lock);
    entry->code = n == 0 && code == 0 ? EAI_NONAME : code;
    entry->n = n;
    memcpy(entry->addresses, addresses, sizeof(addresses));
    entry->state = ENTRY_ANSWERED;
    SpinLockRelease(&table->lock);
    SetLatch(&table->agent->procLatch);
}

/* Takes the next name; or says that this one waits, so that it is woken. */
static ResolverEntry *
resolver_take(int number, bool *closed)
{
    ResolverEntry *entry = NULL;

    SpinLockAcquire(&table->lock);
    *closed = table->closed;
    for (int k = 0; k < RESOLVER_ENTRIES && entry == NULL && !*closed; k++)
    {
        if (table->entries[k].state == ENTRY_ASKED)
            entry = &table->entries[k];
    }
    if (entry != NULL)
    {
        entry->state = ENTRY_TAKEN;
        entry->taken_by = number;
    }
    table->resolvers[number] = entry == NULL && !*closed ? MyLatch : NULL;
    SpinLockRelease(&table->lock);
    return entry;
}

/* Not waiting any more; true if nothing was asked meanwhile, so that leaving loses nothing. */
static bool
resolver_may_leave(int number)
{
    bool asked = false;

    SpinLockAcquire(&table->lock);
    for (int k = 0; k < RESOLVER_ENTRIES; k++)
        asked |= table->entries[k].state == ENTRY_ASKED;
    table->resolvers[number] = NULL;
    SpinLockRelease(&table->lock);
    return !asked;
}

void
fleet_resolver_main(Datum arg)
{
    int number, rc;
    bool closed = false;

    /* Each lookup ends within a few seconds, whatever resolv.conf says. */
    setenv("RES_OPTIONS", "timeout:2 attempts:2", 1);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    BackgroundWorkerUnblockSignals();
    memcpy(&number, MyBgworkerEntry->bgw_extra, sizeof(number));
    segment = dsm_attach(DatumGetUInt32(arg));
    if (segment == NULL)
        proc_exit(0); /* the agent has gone */
    dsm_pin_mapping(segment);
    table = dsm_segment_address(segment);

    while (!ShutdownRequestPending && !closed)
    {
        ResolverEntry *entry = resolver_take(number, &closed);

        if (entry != NULL)
        {
            resolver_lookup(entry);
            continue;
        }
        if (closed)
            break;
        rc = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, RESOLVER_IDLE_MS,
                       PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        if ((rc & WL_TIMEOUT) && resolver_may_leave(number))
            break;
    }
    resolver_may_leave(number);
    proc_exit(0);
}
