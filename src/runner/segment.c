/*
 * runner/segment.c
 *     The memory between an agent and a runner: see runner/segment.h.
 */
#include "postgres.h"

#include "dsm.h"
#include "runner/segment.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"

#define OFFSET_TO MAXALIGN(sizeof(RunnerShared))
#define OFFSET_FROM (OFFSET_TO + MAXALIGN(FLEET_RING_SIZE(FLEET_RUNNER_RING_TO)))
#define SEGMENT_SIZE (OFFSET_FROM + FLEET_RING_SIZE(FLEET_RUNNER_RING_FROM))

static uint32
my_number(void)
{
    return (uint32) (MyProc - ProcGlobal->allProcs) + 1;
}

void
fleet_runner_wake(pg_atomic_uint32 *end)
{
    uint32 number = pg_atomic_read_u32(end);

    if (number != 0)
        SetLatch(&ProcGlobal->allProcs[number - 1].procLatch);
}

/* ---- making ---- */

static void
locate(RunnerSegment *segment)
{
    char *base = dsm_segment_address(segment->segment);

    segment->shared = (RunnerShared *) base;
    segment->to = (RunnerRing *) (base + OFFSET_TO);
    segment->from = (RunnerRing *) (base + OFFSET_FROM);
}

static void
init_shared(RunnerShared *shared, Oid database, Oid role)
{
    memset(shared, 0, sizeof(RunnerShared));
    shared->magic = FLEET_RUNNER_MAGIC;
    shared->database = database;
    shared->role = role;
    pg_atomic_init_u32(&shared->agent, 0);
    pg_atomic_init_u32(&shared->generation, 0);
    pg_atomic_init_u32(&shared->runner, 0);
    pg_atomic_init_u32(&shared->gone, 0);
    pg_atomic_init_u32(&shared->pid, 0);
    pg_atomic_init_u64(&shared->taken, 0);
    pg_atomic_init_u64(&shared->begun, 0);
    pg_atomic_init_u64(&shared->xid, 0);
    pg_atomic_init_u64(&shared->cancel, 0);
    pg_atomic_init_u32(&shared->cancels, 0);
}

bool
fleet_runner_segment_create(RunnerSegment *segment, Oid database, Oid role)
{
    segment->segment = fleet_dsm_create(SEGMENT_SIZE);
    if (segment->segment == NULL)
        return false;
    locate(segment);
    init_shared(segment->shared, database, role);
    fleet_ring_init(segment->to, FLEET_RUNNER_RING_TO);
    fleet_ring_init(segment->from, FLEET_RUNNER_RING_FROM);
    return true;
}

bool
fleet_runner_segment_attach(RunnerSegment *segment, dsm_handle handle)
{
    segment->segment = dsm_attach(handle);
    if (segment->segment == NULL)
        return false;
    dsm_pin_mapping(segment->segment);
    locate(segment);
    return true;
}

void
fleet_runner_segment_detach(RunnerSegment *segment)
{
    dsm_detach(segment->segment);
    memset(segment, 0, sizeof(*segment));
}

/* ---- the ends ---- */

static void
agent_detaches(dsm_segment *segment, Datum arg)
{
    RunnerShared *shared = (RunnerShared *) DatumGetPointer(arg);

    pg_atomic_write_u32(&shared->agent, 0);
    fleet_runner_wake(&shared->runner);
}

static void
runner_detaches(dsm_segment *segment, Datum arg)
{
    RunnerShared *shared = (RunnerShared *) DatumGetPointer(arg);

    pg_atomic_write_u32(&shared->gone, 1);
    pg_memory_barrier();
    fleet_runner_wake(&shared->agent);
}

void
fleet_runner_segment_be_agent(const RunnerSegment *segment)
{
    on_dsm_detach(segment->segment, agent_detaches, PointerGetDatum(segment->shared));
    pg_atomic_fetch_add_u32(&segment->shared->generation, 1);
    pg_atomic_write_u32(&segment->shared->agent, my_number());
    pg_memory_barrier();
    fleet_runner_wake(&segment->shared->runner);
}

void
fleet_runner_segment_be_runner(const RunnerSegment *segment)
{
    on_dsm_detach(segment->segment, runner_detaches, PointerGetDatum(segment->shared));
    pg_atomic_write_u32(&segment->shared->runner, my_number());
    pg_memory_barrier();
}

/* ---- finding ---- */

static LOCKTAG
lock_tag(Oid database, dsm_handle handle)
{
    LOCKTAG tag = {.locktag_field1 = database,
                   .locktag_field2 = handle,
                   .locktag_field3 = 0,
                   .locktag_field4 = FLEET_LOCK_FIELD4,
                   .locktag_type = LOCKTAG_USERLOCK,
                   .locktag_lockmethodid = USER_LOCKMETHOD};

    return tag;
}

void
fleet_runner_segment_publish(const RunnerSegment *segment, Oid database)
{
    LOCKTAG tag = lock_tag(database, dsm_segment_handle(segment->segment));

    (void) LockAcquire(&tag, ExclusiveLock, true, true);
}

int
fleet_runner_segment_list(Oid database, dsm_handle **handles)
{
    LockData *locks = GetLockStatusData();
    int n = 0;

    *handles = palloc(sizeof(dsm_handle) * Max(locks->nelements, 1));
    for (int i = 0; i < locks->nelements; i++)
    {
        dsm_handle handle = locks->locks[i].locktag.locktag_field2;
        LOCKTAG tag = lock_tag(database, handle);

        if (memcmp(&locks->locks[i].locktag, &tag, sizeof(tag)) == 0)
            (*handles)[n++] = handle;
    }
    return n;
}
