/*
 * runner/process.c
 *     Makes a runner's shared memory and asks the postmaster for its process,
 *     or takes over one whose agent is gone.  In the agent's process; called
 *     by runner/pool.c.
 */
#include "postgres.h"

#include <signal.h>

#include "core/sqlstate.h"
#include "miscadmin.h"
#include "runner/process.h"
#include "storage/proc.h"
#include "storage/procarray.h"

static bool
register_worker(RunnerProcess *process, Oid database, Oid role)
{
    BackgroundWorker worker = {0};
    RunnerParams params = {.database = database, .role = role, .agent_pid = MyProcPid};

    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_notify_pid = MyProcPid;
    worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(process->segment.segment));
    strlcpy(worker.bgw_name, FLEET_RUNNER_TYPE, sizeof(worker.bgw_name));
    strlcpy(worker.bgw_type, FLEET_RUNNER_TYPE, sizeof(worker.bgw_type));
    strlcpy(worker.bgw_library_name, FLEET_RUNNER_LIBRARY, sizeof(worker.bgw_library_name));
    strlcpy(worker.bgw_function_name, "fleet_runner_main", sizeof(worker.bgw_function_name));
    memcpy(worker.bgw_extra, &params, sizeof(params));
    return RegisterDynamicBackgroundWorker(&worker, &process->handle);
}

bool
fleet_runner_process_start(RunnerProcess *process, Oid database, Oid role, const char **sqlstate,
                           const char **why)
{
    memset(process, 0, sizeof(*process));
    if (!fleet_runner_segment_create(&process->segment, database, role))
    {
        *sqlstate = FLEET_SQLSTATE_OUT_OF_MEMORY;
        *why = "no shared memory segment is available for a runner";
        return false;
    }
    process->shared = process->segment.shared;
    fleet_ring_reader_init(process->segment.from, &process->reader);
    fleet_runner_segment_be_agent(&process->segment);
    if (!register_worker(process, database, role))
    {
        fleet_runner_process_release(process);
        *sqlstate = FLEET_SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED;
        *why = "no background worker is free for a runner (max_worker_processes)";
        return false;
    }
    return true;
}

bool
fleet_runner_process_find(RunnerProcess *process, dsm_handle handle, Oid database)
{
    memset(process, 0, sizeof(*process));
    if (!fleet_runner_segment_attach(&process->segment, handle))
        return false;
    process->shared = process->segment.shared;
    if (process->shared->magic != FLEET_RUNNER_MAGIC || process->shared->database != database ||
        pg_atomic_read_u32(&process->shared->agent) != 0)
    {
        fleet_runner_segment_detach(&process->segment);
        return false;
    }
    pg_memory_barrier(); /* the rest is read after "agent" */
    return true;
}

void
fleet_runner_process_adopt(RunnerProcess *process)
{
    fleet_ring_reader_init(process->segment.from, &process->reader);
    fleet_runner_segment_be_agent(&process->segment);
}

void
fleet_runner_process_release(RunnerProcess *process)
{
    fleet_runner_segment_detach(&process->segment);
    if (process->handle)
        pfree(process->handle);
    if (process->reader.buffer.data)
        pfree(process->reader.buffer.data);
    memset(process, 0, sizeof(*process));
}

bool
fleet_runner_process_gone(const RunnerProcess *process)
{
    pid_t pid;

    if (pg_atomic_read_u32(&process->shared->gone) != 0)
        return true;
    /* Before it has attached it cannot tell. */
    return process->handle != NULL && pg_atomic_read_u32(&process->shared->runner) == 0 &&
           GetBackgroundWorkerPid(process->handle, &pid) == BGWH_STOPPED;
}

static void
send_signal(const RunnerProcess *process, int signal)
{
    pid_t pid = (pid_t) pg_atomic_read_u32(&process->shared->pid);
    uint32 runner = pg_atomic_read_u32(&process->shared->runner);

    if (process->handle != NULL)
    {
        if (GetBackgroundWorkerPid(process->handle, &pid) == BGWH_STARTED)
            kill(pid, signal);
        return;
    }
    /* Surely it: the process that has the place of the one that was started. */
    if (pid != 0 && pg_atomic_read_u32(&process->shared->gone) == 0 &&
        BackendPidGetProc(pid) == &ProcGlobal->allProcs[runner - 1])
        kill(pid, signal);
}

void
fleet_runner_process_interrupt(const RunnerProcess *process)
{
    send_signal(process, SIGINT);
}

void
fleet_runner_process_terminate(const RunnerProcess *process)
{
    if (process->handle != NULL)
        TerminateBackgroundWorker(process->handle); /* also one that is not up yet */
    else
        send_signal(process, SIGTERM);
}
