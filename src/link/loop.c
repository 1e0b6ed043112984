/*
 * link/loop.c
 *     The agent's one place to wait.  See loop.h.
 *
 * In the agent's process; single-threaded.  The wait event set of the server
 * can grow but not shrink: a removed member leaves a dead position behind,
 * which costs nothing once its descriptor is closed (the kernel forgets it).
 * The set is built anew when it is full, or when a dead position fires after
 * all, that is when its descriptor was not closed.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "link/loop.h"

#include "clock.h"
#include "compat.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#define LOOP_FIXED 2   /* latch, postmaster death */
#define LOOP_BATCH 128 /* events taken at once */

struct FleetLoopMember
{
    dlist_node node;
    FleetLoop *loop;
    pgsocket socket;
    uint32 events;
    int position; /* in the set; -1: not there yet */
    FleetLoopCallback callback;
    void *arg;
};

struct FleetLoop
{
    MemoryContext context;
    MemoryContextCallback reset;
    WaitEventSet *set;
    FleetLoopMember **at; /* members by position in the set; NULL: dead */
    pgsocket *socket_at;  /* descriptors by position, of dead ones too */
    int used, capacity;
    bool stale; /* must be built anew before the next wait */
    dlist_head members;
    int count;
    FleetTime (*prepare)(void *arg);
    void *prepare_arg;
    WaitEvent fired[LOOP_BATCH];
};

static void
loop_reset(void *arg)
{
    FleetLoop *loop = arg;

    if (loop->set != NULL)
        FreeWaitEventSet(loop->set);
    loop->set = NULL;
}

FleetLoop *
fleet_loop_create(MemoryContext context)
{
    FleetLoop *loop = MemoryContextAllocZero(context, sizeof(FleetLoop));

    loop->context = context;
    loop->stale = true;
    dlist_init(&loop->members);
    loop->reset.func = loop_reset;
    loop->reset.arg = loop;
    MemoryContextRegisterResetCallback(context, &loop->reset);
    return loop;
}

MemoryContext
fleet_loop_context(FleetLoop *loop)
{
    return loop->context;
}

void
fleet_loop_prepare(FleetLoop *loop, FleetTime (*prepare)(void *arg), void *arg)
{
    loop->prepare = prepare;
    loop->prepare_arg = arg;
}

static void
loop_append(FleetLoop *loop, FleetLoopMember *member)
{
    member->position = AddWaitEventToSet(loop->set, member->events, member->socket, NULL, member);
    loop->at[member->position] = member;
    loop->socket_at[member->position] = member->socket;
    loop->used = member->position + 1;
}

/*
 * The set's own descriptor counts among those of which the server grants a
 * third of all, and cancels may have taken more than that (conn_start.c).  It
 * must be had all the same: so the members' are not counted for that moment.
 */
static WaitEventSet *
set_create(FleetLoop *loop)
{
    WaitEventSet *volatile set = NULL;

    for (int i = 0; i < loop->count; i++)
        ReleaseExternalFD();
    PG_TRY();
    {
        set = fleet_wait_event_set_create(loop->context, loop->capacity);
    }
    PG_FINALLY();
    {
        for (int i = 0; i < loop->count; i++)
            ReserveExternalFD();
    }
    PG_END_TRY();
    return set;
}

/* A new set with room to grow, holding the living members only. */
static void
loop_rebuild(FleetLoop *loop)
{
    dlist_iter iter;
    int capacity = LOOP_FIXED + 16 + loop->count * 2;

    if (loop->set != NULL)
        FreeWaitEventSet(loop->set);
    loop->set = NULL;
    if (capacity > loop->capacity)
    {
        if (loop->at != NULL)
        {
            pfree(loop->at);
            pfree(loop->socket_at);
            loop->at = NULL;
            loop->socket_at = NULL;
        }
        loop->capacity = capacity;
        loop->at = MemoryContextAlloc(loop->context, sizeof(*loop->at) * capacity);
        loop->socket_at = MemoryContextAlloc(loop->context, sizeof(*loop->socket_at) * capacity);
    }
    memset(loop->at, 0, sizeof(*loop->at) * loop->capacity);

    loop->set = set_create(loop);
    AddWaitEventToSet(loop->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
    loop->used =
        AddWaitEventToSet(loop->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL) + 1;
    dlist_foreach(iter, &loop->members)
    {
        loop_append(loop, dlist_container(FleetLoopMember, node, iter.cur));
    }
    loop->stale = false;
}

FleetLoopMember *
fleet_loop_add(FleetLoop *loop, pgsocket socket, uint32 events, FleetLoopCallback callback,
               void *arg)
{
    FleetLoopMember *member = MemoryContextAllocZero(loop->context, sizeof(FleetLoopMember));

    member->loop = loop;
    member->socket = socket;
    member->events = events;
    member->position = -1;
    member->callback = callback;
    member->arg = arg;
    dlist_push_tail(&loop->members, &member->node);
    loop->count++;

    /*
     * The number of a closed descriptor comes back with the next one; whether
     * the old one is really gone from the kernel's set cannot be seen, so in
     * that case start over.
     */
    for (int i = LOOP_FIXED; i < loop->used && !loop->stale; i++)
        loop->stale = loop->at[i] == NULL && loop->socket_at[i] == socket;
    if (loop->used >= loop->capacity)
        loop->stale = true;
    if (!loop->stale)
        loop_append(loop, member);
    return member;
}

void
fleet_loop_modify(FleetLoopMember *member, uint32 events)
{
    if (member->events == events)
        return;
    member->events = events;
    if (!member->loop->stale && member->position >= 0)
        ModifyWaitEvent(member->loop->set, member->position, events, NULL);
}

void
fleet_loop_remove(FleetLoopMember *member)
{
    FleetLoop *loop = member->loop;

    if (member->position >= 0 && loop->at[member->position] == member)
        loop->at[member->position] = NULL;
    dlist_delete(&member->node);
    loop->count--;
    pfree(member);
}

/* Calls whoever has that position; members may come and go meanwhile. */
static void
loop_dispatch(FleetLoop *loop, int n)
{
    for (int i = 0; i < n; i++)
    {
        int position = loop->fired[i].pos;
        FleetLoopMember *member;

        if (position < LOOP_FIXED)
            continue;
        member = loop->at[position];
        if (member == NULL)
            loop->stale = true;
        else if (member->position == position)
            member->callback(member->arg, loop->fired[i].events);
    }
}

bool
fleet_loop_wait(FleetLoop *loop, FleetTime until, uint32 wait_event)
{
    bool latch = false;
    int n;

    if (loop->prepare != NULL)
    {
        FleetTime due = loop->prepare(loop->prepare_arg); /* once: Min() is a macro */

        until = Min(until, due);
    }
    if (loop->stale)
        loop_rebuild(loop);
    n = WaitEventSetWait(loop->set, fleet_wait_ms(fleet_clock_now(), until), loop->fired,
                         LOOP_BATCH, wait_event);
    for (int i = 0; i < n; i++)
        latch |= (loop->fired[i].events & WL_LATCH_SET) != 0;
    if (latch)
        ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    loop_dispatch(loop, n);
    return latch;
}
