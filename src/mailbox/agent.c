/*
 * mailbox/agent.c
 *     The agent's side of the memory that it shares with sessions.
 */
#include "postgres.h"

#include "dsm.h"
#include "miscadmin.h"
#include "mailbox/internal.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"

void
fleet_shared_leave(FleetShared *shared)
{
    PGPROC *wake[FLEET_MAX_WAITERS + FLEET_MAX_ASKS];
    int n = 0;

    SpinLockAcquire(&shared->mutex);
    shared->agent = NULL;
    for (int i = 0; i < shared->asks_used; i++)
    {
        if (shared->asks[i].proc != NULL)
            wake[n++] = shared->asks[i].proc;
    }
    for (int i = 0; i < shared->waiters_used; i++)
    {
        if (shared->waiters[i].proc != NULL)
            wake[n++] = shared->waiters[i].proc;
    }
    SpinLockRelease(&shared->mutex);
    for (int i = 0; i < n; i++)
        SetLatch(&wake[i]->procLatch);
}

/* However it leaves. */
static void
shared_gone(dsm_segment *segment, Datum arg)
{
    fleet_shared_leave((FleetShared *) DatumGetPointer(arg));
}

FleetShared *
fleet_shared_create(uint32 *handle)
{
    dsm_segment *segment = fleet_dsm_create(sizeof(FleetShared));
    FleetShared *shared;

    if (segment == NULL)
        return NULL;
    shared = dsm_segment_address(segment);
    memset(shared, 0, sizeof(*shared));
    SpinLockInit(&shared->mutex);
    shared->agent = MyProc;
    shared->database = MyDatabaseId;
    shared->magic = FLEET_SHARED_MAGIC;
    on_dsm_detach(segment, shared_gone, PointerGetDatum(shared));
    *handle = dsm_segment_handle(segment);
    return shared;
}

void
fleet_shared_set_paused(FleetShared *shared)
{
    shared->paused = true;
}

bool
fleet_shared_take(FleetShared *shared, FleetMessage *message, bool *overflow)
{
    bool found;

    SpinLockAcquire(&shared->mutex);
    *overflow = shared->overflow;
    shared->overflow = false;
    found = shared->head != shared->tail;
    if (found)
        *message = shared->ring[shared->head++ % FLEET_RING_SIZE];
    SpinLockRelease(&shared->mutex);
    return found;
}

void
fleet_shared_run_changed(FleetShared *shared, int64 run_id, bool final)
{
    PGPROC *wake[FLEET_MAX_WAITERS];
    int n = 0;

    if (shared->waiters_used == 0)
        return; /* unlocked look: a waiter that comes now reads the committed state itself */
    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < shared->waiters_used; i++)
    {
        FleetWaiter *w = &shared->waiters[i];

        if (w->proc != NULL && w->run_id == run_id && !w->poked && (final || w->wants_changes))
        {
            w->poked = true;
            wake[n++] = w->proc;
        }
    }
    SpinLockRelease(&shared->mutex);
    for (int i = 0; i < n; i++)
        SetLatch(&wake[i]->procLatch);
}

/* ---- who waits for whom ---- */

/* An unlocked look: a session that comes now sets the agent's latch. */
bool
fleet_shared_has_holders(const FleetShared *shared)
{
    for (int i = 0; shared != NULL && i < shared->waiters_used; i++)
    {
        if (shared->waiters[i].proc != NULL && shared->waiters[i].holds)
            return true;
    }
    return false;
}

static bool
is_holder(FleetShared *shared, int pid, int64 *run_id)
{
    bool found = false;

    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < shared->waiters_used && !found; i++)
    {
        FleetWaiter *w = &shared->waiters[i];

        found = w->proc != NULL && w->holds && w->proc->pid == pid;
        if (found)
            *run_id = w->run_id;
    }
    SpinLockRelease(&shared->mutex);
    return found;
}

int
fleet_shared_blocker(FleetShared *shared, int pid, FleetTime at_least, int64 *run_id)
{
    PGPROC *proc = BackendPidGetProc(pid);
    uint64 since = proc == NULL ? 0 : pg_atomic_read_u64(&proc->waitStart);
    ArrayType *pids;
    int *values;

    if (since == 0 || fleet_clock_wall() - (TimestampTz) since < at_least)
        return 0;
    pids = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid)));
    values = (int *) ARR_DATA_PTR(pids);
    for (int i = 0; i < ArrayGetNItems(ARR_NDIM(pids), ARR_DIMS(pids)); i++)
    {
        if (values[i] != 0 && is_holder(shared, values[i], run_id))
            return values[i];
    }
    return 0;
}
