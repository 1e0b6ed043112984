/*
 * runner.c
 *     Process main of a runner: a background worker that is connected to the
 *     database as the role whose steps it runs, and takes them from the
 *     agent's queue one after another.  Started by runner_pool.c.
 *
 *     starting   attached to the segment, connecting; why that fails is told
 *                as FATAL
 *     idle       waits for a message; ends when told to or when the agent is
 *                gone
 *     taken      has a request; SIGINT cancels it
 *     prepared   the command is done, its transaction id is reported; commits
 *                only when told to, rolls back when the agent is gone
 *
 * The agent may send COMMIT and the next REQUEST together.  A command that is
 * running when the agent goes away is not disturbed; a transactional one is
 * then rolled back, so that the next agent may run it again.
 *
 * Canceling: the agent writes the request's number into the segment before it
 * sends SIGINT.  So a signal that comes late finds another request here and
 * does nothing; a SIGINT that the agent did not announce (pg_cancel_backend)
 * cancels what runs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "runner.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procsignal.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

#define LAST_WORD_MS 2000 /* a FATAL waits that long for room in the queue */

static RunnerShared *shared = NULL;
static shm_mq_handle *queue_in = NULL;
static shm_mq_handle *queue_out = NULL;
static PGPROC *agent = NULL; /* only to set its latch */
static bool agent_gone = false;
static bool session_used = false; /* a job ran here: clean it before the next one */
static uint32 cancels_seen = 0;
static TimeoutId begun_timeout;
static StringInfoData out; /* the message being sent */

/* ---- signals ---- */

static void
handle_sigint(SIGNAL_ARGS)
{
    int save_errno = errno;
    uint32 cancels = pg_atomic_read_u32(&shared->cancels);
    uint64 taken = pg_atomic_read_u64(&shared->taken);
    bool announced = cancels != cancels_seen;

    cancels_seen = cancels;
    if (taken != 0 && (!announced || pg_atomic_read_u64(&shared->cancel) == taken))
        StatementCancelHandler(postgres_signal_arg);
    errno = save_errno;
}

/* The command takes its time: the agent shall look at shared->begun. */
static void
handle_begun_timeout(void)
{
    SetLatch(&agent->procLatch);
}

/* ---- queues ---- */

bool
fleet_runner_send(const RunnerMessage *message, bool urgent)
{
    int waits = 0;

    if (agent_gone)
        return false;
    resetStringInfo(&out);
    fleet_runner_message_write(&out, message);
    for (;;)
    {
        shm_mq_result result = shm_mq_send(queue_out, (Size) out.len, out.data, true, urgent);

        if (result == SHM_MQ_SUCCESS)
            return true;
        /* Half a message can never be completed by another one, so these two are final. */
        if (result == SHM_MQ_DETACHED || ProcDiePending ||
            (message->kind == RUNNER_FATAL && ++waits > LAST_WORD_MS / 10))
        {
            agent_gone = true;
            return false;
        }
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                         message->kind == RUNNER_FATAL ? 10L : 10000L, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

/* Next message, if there is one.  False with agent_gone set, or nothing there. */
static bool
receive_nowait(RunnerMessage *message)
{
    Size size;
    void *data;

    switch (shm_mq_receive(queue_in, &size, &data, true))
    {
        case SHM_MQ_SUCCESS:
            if (!fleet_runner_message_read(data, size, message))
                ereport(FATAL, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                                errmsg("invalid message from the agent")));
            return true;
        case SHM_MQ_WOULD_BLOCK: return false;
        case SHM_MQ_DETACHED: agent_gone = true; return false;
    }
    return false;
}

RunnerOrder
fleet_runner_await_commit(uint64 number)
{
    RunnerMessage message;

    pgstat_report_activity(STATE_IDLEINTRANSACTION, NULL);
    for (;;)
    {
        CHECK_FOR_INTERRUPTS();
        if (receive_nowait(&message))
        {
            if (message.kind == RUNNER_COMMIT && message.number == number)
                return RUNNER_ORDER_COMMIT;
            if (message.kind == RUNNER_END)
                return RUNNER_ORDER_GONE;
            if (message.kind != RUNNER_COMMIT)
                ereport(FATAL, (errcode(ERRCODE_PROTOCOL_VIOLATION),
                                errmsg("message out of order from the agent")));
            continue;
        }
        if (agent_gone)
            return RUNNER_ORDER_GONE;
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

void
fleet_runner_mark_begun(uint64 number)
{
    pg_atomic_write_u64(&shared->begun, number);
    enable_timeout_after(begun_timeout, FLEET_RUNNER_BEGUN_MS);
}

void
fleet_runner_mark_ended(void)
{
    disable_timeout(begun_timeout, false);
}

/* ---- start ---- */

static void
attach_segment(dsm_handle handle, const RunnerParams *params)
{
    dsm_segment *segment = dsm_attach(handle);
    char *base;
    shm_mq *queue;

    if (segment == NULL) /* the agent did not wait for us */
        proc_exit(0);
    base = dsm_segment_address(segment);
    shared = (RunnerShared *) base;
    if (shared->magic != FLEET_RUNNER_MAGIC || shared->database != params->database ||
        shared->role != params->role)
        ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the agent of pg_fleet runs another version of the library"),
                        errhint("End the agent; it comes back by itself.")));
    queue = (shm_mq *) (base + FLEET_RUNNER_OFFSET_FROM);
    shm_mq_set_sender(queue, MyProc);
    queue_out = shm_mq_attach(queue, segment, NULL);
    agent = shm_mq_get_receiver(queue);
    queue = (shm_mq *) (base + FLEET_RUNNER_OFFSET_TO);
    shm_mq_set_receiver(queue, MyProc);
    queue_in = shm_mq_attach(queue, segment, NULL);
}

static void
start_runner(Datum arg)
{
    RunnerParams params;

    memcpy(&params, MyBgworkerEntry->bgw_extra, sizeof(params));
    MemoryContextSwitchTo(TopMemoryContext);
    initStringInfo(&out);
    attach_segment(DatumGetUInt32(arg), &params);
    fleet_runner_capture_messages();
    pqsignal(SIGTERM, die);
    pqsignal(SIGINT, handle_sigint);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();

    BackgroundWorkerInitializeConnectionByOid(params.database, params.role, 0);
    process_session_preload_libraries(); /* as for any login of this role */
    MessageContext =
        AllocSetContextCreate(TopMemoryContext, "MessageContext", ALLOCSET_DEFAULT_SIZES);
    begun_timeout = RegisterTimeout(USER_TIMEOUT, handle_begun_timeout);
    SetConfigOption("application_name", FLEET_RUNNER_TYPE, PGC_USERSET, PGC_S_DYNAMIC_DEFAULT);
    pg_atomic_write_u32(&shared->pid, (uint32) MyProcPid);
    SetLatch(&agent->procLatch);
}

/* ---- loop ---- */

/* What PostgresMain does between two commands, then sleep. */
static void
wait_for_message(void)
{
    long stats_ms;

    pgstat_report_activity(STATE_IDLE, NULL);
    stats_ms = pgstat_report_stat(false);
    if (WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (stats_ms > 0 ? WL_TIMEOUT : 0),
                  stats_ms > 0 ? stats_ms : -1L, PG_WAIT_EXTENSION) &
        WL_TIMEOUT)
        pgstat_report_stat(true);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (catchupInterruptPending)
        ProcessCatchupInterrupt();
    if (ConfigReloadPending)
    {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

/* Takes the request over into our memory, runs it, and is idle again. */
static void
take_request(const RunnerMessage *message)
{
    RunnerMessage request = *message;
    bool alive;

    MemoryContextReset(MessageContext);
    MemoryContextSwitchTo(MessageContext);
    for (int i = 0; i < RUNNER_TEXTS; i++)
        if (request.text[i])
            request.text[i] = pstrdup(request.text[i]);

    if (request.fresh && session_used)
        fleet_runner_clean_session();
    session_used = true;

    QueryCancelPending = false;
    pg_atomic_write_u64(&shared->taken, request.number);
    pg_memory_barrier();
    /* Asked for while the request was still in the queue: its signal was ignored. */
    if (pg_atomic_read_u64(&shared->cancel) == request.number)
        InterruptPending = QueryCancelPending = true;
    fleet_runner_log_target(request.number, request.ref);
    alive = fleet_runner_execute(&request);
    fleet_runner_log_target(0, 0);
    pg_atomic_write_u64(&shared->taken, 0);
    QueryCancelPending = false;
    if (!alive)
        proc_exit(0);
}

void
fleet_runner_main(Datum arg)
{
    RunnerMessage message;

    start_runner(arg);
    for (;;)
    {
        CHECK_FOR_INTERRUPTS();
        if (receive_nowait(&message))
        {
            if (message.kind == RUNNER_REQUEST)
                take_request(&message);
            else if (message.kind == RUNNER_END)
                proc_exit(0);
            /* else a COMMIT of a request that has ended meanwhile */
        }
        else if (agent_gone)
            proc_exit(0);
        else
            wait_for_message();
    }
}
