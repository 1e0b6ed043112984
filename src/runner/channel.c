/*
 * runner/channel.c
 *     The runner's end of the segment between it and the agent: messages to
 *     the agent and from it, who the agent is, and how long a runner waits for
 *     one.  In the runner's process; called by runner/main.c, runner/exec.c and
 *     runner/output.c.
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

#include "clock.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "runner/segment.h"
#include "storage/ipc.h"
#include "storage/latch.h"
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
static uint32 cancels_seen = 0;
static TimeoutId begun_timeout;
static volatile sig_atomic_t exiting = false;
static StringInfoData out; /* the message being sent */

/* ---- in signal handlers ---- */

bool
fleet_runner_cancels_request(void)
{
    uint32 cancels;
    uint64 taken;
    bool announced;

    if (exiting)
        return false;
    cancels = pg_atomic_read_u32(&shared->cancels);
    taken = pg_atomic_read_u64(&shared->taken);
    announced = cancels != cancels_seen;
    cancels_seen = cancels;
    return taken != 0 && (!announced || pg_atomic_read_u64(&shared->cancel) == taken);
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

/* ---- start ---- */

void
fleet_runner_channel_open(dsm_handle handle, const RunnerParams *params)
{
    initStringInfo(&out);
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
    before_shmem_exit(before_exit, (Datum) 0);
}

void
fleet_runner_channel_connected(void)
{
    begun_timeout = RegisterTimeout(USER_TIMEOUT, handle_begun_timeout);
    fleet_runner_segment_publish(&segment, MyDatabaseId);
    pg_atomic_write_u32(&shared->pid, (uint32) MyProcPid);
    fleet_runner_wake(&shared->agent);
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

bool
fleet_runner_is_done(void)
{
    return !agent_is_there() && (fleet_ring_used(segment.from) == 0 || is_forsaken());
}

long
fleet_runner_patience_ms(void)
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

bool
fleet_runner_receive(RunnerMessage *message)
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
        if (fleet_runner_receive(&message))
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
        (void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                         fleet_runner_patience_ms(), PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

/* ---- requests ---- */

bool
fleet_runner_is_wanted(const RunnerMessage *request)
{
    return agent_is_there() && request->generation == pg_atomic_read_u32(&shared->generation);
}

/* What a future agent needs to know of the request, before it is taken. */
static void
describe_request(const RunnerMessage *request)
{
    static const FleetStepKey nobody = {0};

    keyed = memcmp(&request->key, &nobody, sizeof(nobody)) != 0;
    /* after DISCARD ALL; one that is not looked for is to be found too, and ended */
    fleet_runner_segment_publish(&segment, MyDatabaseId);
    shared->number = request->number;
    shared->key = request->key;
    shared->log_seq = request->log_seq;
    shared->transactional = request->transactional;
    pg_atomic_write_u64(&shared->xid, 0);
}

void
fleet_runner_channel_take(const RunnerMessage *request)
{
    describe_request(request);
    pg_atomic_write_u64(&shared->taken, request->number);
    pg_memory_barrier();
    /* Asked for while the request was still in the queue: its signal was ignored. */
    if (pg_atomic_read_u64(&shared->cancel) == request->number)
        InterruptPending = QueryCancelPending = true;
}

void
fleet_runner_channel_idle(void)
{
    pg_atomic_write_u64(&shared->taken, 0);
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
