/*
 * runner/main.c
 *     Process main of a runner: a background worker that is connected to the
 *     database as the role whose steps it runs, and takes them from the
 *     agent's queue one after another.  Started by runner/pool.c.
 *
 *     starting   attached to the segment, connecting; why that fails is told
 *                as FATAL
 *     idle       waits for a message; ends when told to, or when the agent is
 *                gone and nothing of the last request is left to be told
 *     taken      has a request; SIGINT cancels it
 *     prepared   the command is done, its transaction id is reported; commits
 *                only when told to
 *
 * The agent may send COMMIT and the next REQUEST together.  Only an agent that
 * is there is given a request's work: what a gone one left in the ring is
 * dropped, and that agent's successor will send it itself.
 *
 * A command that is running when the agent goes away is not disturbed.  The
 * next agent reads on where the last one was (runner/runner.h).  Only when this
 * process can do nothing but wait for it (the ring is full, a transaction is
 * prepared, the outcome is not yet read), it waits for no longer than
 * FLEET_RUNNER_PATIENCE, rolls back and ends.
 *
 * Canceling: the agent writes the request's number into the segment before it
 * sends SIGINT.  So a signal that comes late finds another request here and
 * does nothing; a SIGINT that the agent did not announce (pg_cancel_backend)
 * cancels what runs.
 */
#include "postgres.h"

#include "access/xact.h"
#include "clock.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "points.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "runner/segment.h"
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

#define LAST_WORD_MS 2000 /* a FATAL waits that long for room in the ring */

static RunnerSegment segment;
static RunnerShared *shared = NULL; /* of the segment */
static RunnerRingReader reader;
static bool keyed = false;        /* another agent may look for the present, or last, request */
static bool given_up = false;     /* nobody will hear us any more */
static Size quiet = 0;            /* bytes sent since the agent was last woken for them */
static FleetTime alone_since = 0; /* waits for an agent; 0: does not */
static bool session_used = false; /* a job ran here: clean it before the next one */
static uint32 cancels_seen = 0;
static TimeoutId begun_timeout;
static volatile sig_atomic_t exiting = false;
static StringInfoData out; /* the message being sent */

/* ---- signals ---- */

static void
handle_sigint(SIGNAL_ARGS)
{
    int save_errno = errno;
    uint32 cancels;
    uint64 taken;
    bool announced;

    if (exiting)
        return;
    cancels = pg_atomic_read_u32(&shared->cancels);
    taken = pg_atomic_read_u64(&shared->taken);
    announced = cancels != cancels_seen;
    cancels_seen = cancels;
    if (taken != 0 && (!announced || pg_atomic_read_u64(&shared->cancel) == taken))
        StatementCancelHandler(postgres_signal_arg);
    errno = save_errno;
}

/* The command takes its time: the agent shall look at shared->begun. */
static void
handle_begun_timeout(void)
{
    if (!exiting)
        fleet_runner_wake(&shared->agent);
}

/* From here on the segment may be unmapped: no signal handler looks at it any more. */
static void
before_exit(int code, Datum arg)
{
    exiting = true;
}

/* ---- with and without an agent ---- */

static bool
agent_is_there(void)
{
    if (pg_atomic_read_u32(&shared->agent) == 0)
        return false;
    alone_since = 0;
    return true;
}

/* Is it of no use to wait for an agent, any longer? */
static bool
is_forsaken(void)
{
    if (given_up)
        return true;
    if (agent_is_there())
        return false;
    if (alone_since == 0)
        alone_since = fleet_clock_now();
    given_up = !keyed || fleet_clock_now() - alone_since > FLEET_RUNNER_PATIENCE;
    return given_up;
}

/* How long to sleep until is_forsaken() is to be asked again. */
static long
patience_ms(void)
{
    return alone_since == 0 ? -1L : 1000L;
}

/* ---- messages ---- */

/* Messages that are not urgent wait until there are many.  (What the ring holds does not tell how
 * many: the agent has read some of it.) */
static bool
worth_a_wake(bool urgent, Size size)
{
    quiet += size;
    if (!urgent && quiet < FLEET_RUNNER_RING_FROM / 8)
        return false;
    quiet = 0;
    return true;
}

bool
fleet_runner_send(const RunnerMessage *message, bool urgent)
{
    Size done = 0;
    int waits = 0;

    if (given_up)
        return false;
    resetStringInfo(&out);
    fleet_runner_message_write(&out, message);
    while (!fleet_ring_write(segment.from, out.data, (Size) out.len, &done))
    {
        bool last_word = message->kind == RUNNER_FATAL;

        fleet_runner_wake(&shared->agent);
        /* Half a message can never be completed by another one, so these are final. */
        if (is_forsaken() || ProcDiePending || (last_word && ++waits > LAST_WORD_MS / 10))
        {
            given_up = true;
            return false;
        }
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                         last_word ? 10L : 1000L, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
    if (worth_a_wake(urgent, (Size) out.len))
        fleet_runner_wake(&shared->agent);
    return keyed || !is_forsaken();
}

/* Next message, if there is one.  What the one before was is gone then. */
static bool
receive_nowait(RunnerMessage *message)
{
    const char *data;
    Size size;
    bool found;

    if (fleet_ring_free(segment.to, reader.position))
        fleet_runner_wake(&shared->agent);
    found = fleet_ring_read(segment.to, &reader, &data, &size);
    if (!found && reader.position != reader.complete && /* a piece of a large one */
        fleet_ring_free(segment.to, reader.position))
        fleet_runner_wake(&shared->agent);
    if (found && !fleet_runner_message_read(data, size, message))
        ereport(FATAL,
                (errcode(ERRCODE_PROTOCOL_VIOLATION), errmsg("invalid message from the agent")));
    return found;
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
        if (is_forsaken())
            return RUNNER_ORDER_GONE;
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, patience_ms(),
                         PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

void
fleet_runner_mark_prepared(uint64 xid)
{
    pg_atomic_write_u64(&shared->xid, xid);
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
    if (!fleet_runner_segment_attach(&segment, handle)) /* the agent did not wait for us */
        proc_exit(0);
    shared = segment.shared;
    if (shared->magic != FLEET_RUNNER_MAGIC || shared->database != params->database ||
        shared->role != params->role)
        ereport(FATAL, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the agent of pg_fleet runs another version of the library"),
                        errhint("End the agent; it comes back by itself.")));
    fleet_ring_reader_init(segment.to, &reader);
    fleet_runner_segment_be_runner(&segment);
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

    before_shmem_exit(before_exit, (Datum) 0);
    BackgroundWorkerInitializeConnectionByOid(params.database, params.role, 0);
    process_session_preload_libraries(); /* as for any login of this role */
    MessageContext =
        AllocSetContextCreate(TopMemoryContext, "MessageContext", ALLOCSET_DEFAULT_SIZES);
    begun_timeout = RegisterTimeout(USER_TIMEOUT, handle_begun_timeout);
    SetConfigOption("application_name", FLEET_RUNNER_TYPE, PGC_USERSET, PGC_S_DYNAMIC_DEFAULT);
    fleet_runner_segment_publish(&segment, MyDatabaseId);
    pg_atomic_write_u32(&shared->pid, (uint32) MyProcPid);
    fleet_runner_wake(&shared->agent);
}

/* ---- loop ---- */

/* What PostgresMain does between two commands, then sleep. */
static void
wait_for_message(void)
{
    long stats_ms;

    pgstat_report_activity(STATE_IDLE, NULL);
    stats_ms = pgstat_report_stat(false);
    if (stats_ms <= 0)
        stats_ms = patience_ms();
    if (WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (stats_ms > 0 ? WL_TIMEOUT : 0),
                  stats_ms, PG_WAIT_EXTENSION) &
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

/* What a future agent needs to know of the request, before it is taken. */
static void
describe_request(const RunnerMessage *request)
{
    static const FleetStepKey nobody = {0};

    keyed = memcmp(&request->key, &nobody, sizeof(nobody)) != 0;
    if (keyed)
        fleet_runner_segment_publish(&segment, MyDatabaseId);
    shared->number = request->number;
    shared->key = request->key;
    shared->log_seq = request->log_seq;
    shared->transactional = request->transactional;
    pg_atomic_write_u64(&shared->xid, 0);
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
    describe_request(&request);
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
    FLEET_POINT("runner_started");
    for (;;)
    {
        CHECK_FOR_INTERRUPTS();
        if (receive_nowait(&message))
        {
            if (message.kind == RUNNER_END)
                proc_exit(0);
            if (message.kind == RUNNER_REQUEST && agent_is_there() &&
                message.generation == pg_atomic_read_u32(&shared->generation))
                take_request(&message);
            /* else of an agent that is gone, or a COMMIT of a request that has ended meanwhile */
        }
        else if (!agent_is_there() && (fleet_ring_used(segment.from) == 0 || is_forsaken()))
            proc_exit(0);
        else
            wait_for_message();
    }
}
