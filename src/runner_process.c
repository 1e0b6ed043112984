/*
 * runner_process.c
 *     Makes a runner's shared memory and asks the postmaster for its process.
 *     In the agent's process; called by runner_pool.c.
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "runner_process.h"
#include "storage/proc.h"

static bool
register_worker(RunnerProcess *process, Oid database, Oid role)
{
    BackgroundWorker worker = {0};
    RunnerParams params = {.database = database, .role = role, .agent_pid = MyProcPid};

    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(process->segment));
    strlcpy(worker.bgw_name, FLEET_RUNNER_TYPE, sizeof(worker.bgw_name));
    strlcpy(worker.bgw_type, FLEET_RUNNER_TYPE, sizeof(worker.bgw_type));
    strlcpy(worker.bgw_library_name, FLEET_RUNNER_LIBRARY, sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "fleet_runner_main", sizeof(worker.bgw_function_name));
    memcpy(worker.bgw_extra, &params, sizeof(params));
    return RegisterDynamicBackgroundWorker(&worker, &process->handle);
}

static void
init_shared(RunnerShared *shared, Oid database, Oid role)
{
    memset(shared, 0, sizeof(RunnerShared));
    shared->magic = FLEET_RUNNER_MAGIC;
    shared->database = database;
    shared->role = role;
    pg_atomic_init_u32(&shared->pid, 0);
    pg_atomic_init_u64(&shared->taken, 0);
    pg_atomic_init_u64(&shared->begun, 0);
    pg_atomic_init_u64(&shared->cancel, 0);
    pg_atomic_init_u32(&shared->cancels, 0);
}

/* False: no shared memory is to be had. */
static bool
make_segment(RunnerProcess *process, Oid database, Oid role)
{
    char *base;
    shm_mq *queue;

    process->segment = dsm_create(FLEET_RUNNER_SEGMENT_SIZE, DSM_CREATE_NULL_IF_MAXSEGMENTS);
    if (process->segment == NULL)
        return false;
    dsm_pin_mapping(process->segment); /* it lives as long as we want, not as a transaction */
    base = dsm_segment_address(process->segment);
    process->shared = (RunnerShared *) base;
    init_shared(process->shared, database, role);
    queue = shm_mq_create(base + FLEET_RUNNER_OFFSET_TO, FLEET_RUNNER_QUEUE_TO);
    shm_mq_set_sender(queue, MyProc);
    process->out = shm_mq_attach(queue, process->segment, NULL);
    queue = shm_mq_create(base + FLEET_RUNNER_OFFSET_FROM, FLEET_RUNNER_QUEUE_FROM);
    shm_mq_set_receiver(queue, MyProc);
    process->in = shm_mq_attach(queue, process->segment, NULL);
    return true;
}

bool
fleet_runner_process_start(RunnerProcess *process, Oid database, Oid role, const char **sqlstate,
                           const char **why)
{
    memset(process, 0, sizeof(*process));
    if (!make_segment(process, database, role))
    {
        *sqlstate = "53200";
        *why = "no shared memory segment for a runner is to be had";
        return false;
    }
    if (!register_worker(process, database, role))
    {
        fleet_runner_process_release(process);
        *sqlstate = "53400";
        *why = "no background worker is free for a runner (max_worker_processes)";
        return false;
    }
    /* So that the queues notice a worker that ends before it comes to them. */
    shm_mq_set_handle(process->in, process->handle);
    shm_mq_set_handle(process->out, process->handle);
    return true;
}

void
fleet_runner_process_release(RunnerProcess *process)
{
    shm_mq_detach(process->in);
    shm_mq_detach(process->out);
    dsm_detach(process->segment);
    if (process->handle)
        pfree(process->handle);
    memset(process, 0, sizeof(*process));
}

void
fleet_runner_process_interrupt(const RunnerProcess *process)
{
    pid_t pid;

    if (GetBackgroundWorkerPid(process->handle, &pid) == BGWH_STARTED)
        kill(pid, SIGINT);
}
