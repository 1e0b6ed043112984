/*
 * runner/pool.c
 *     The agent's side of the runners: starts them, gives them work, reads
 *     what they say, keeps idle ones, and notices those that are gone.  In
 *     the agent's process; called by the agent, which hears of it through its
 *     FleetExecutorSink.  How one is made and let go is in runner/process.c,
 *     what it is given in runner/request.c.
 *
 * A runner here is in one of these states:
 *
 *     free      idle process; their list begins with the one idle longest
 *     busy      the agent has it; requests may be in flight, in order
 *     dead      its process is gone; every request in flight gets its CUT in
 *               the next poll, and then it is freed.  One without a request
 *               waits until the agent gives it another one, or gives it back
 *     orphan    of an agent before this one; adopted while the agent reads
 *               its rows, or told to end in the first poll
 *
 * Nothing here waits: what did not fit into a ring is tried again in
 * fleet_runner_poll().
 *
 * What a runner said is freed in its ring one poll after it was told to the
 * agent, which has committed it in between (runner/runner.h).
 *
 * BEGAN costs no message: the runner publishes the number of the request that
 * it began, and wakes the agent only if the command takes its time.  Every
 * later message of that request implies it.
 */
#include "postgres.h"

#include "clock.h"
#include "guc.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "runner/runner.h"
#include "runner/pool.h"
#include "runner/request.h"
#include "storage/latch.h"
#include "utils/memutils.h"

static MemoryContext pool_context = NULL;
static Oid pool_database = InvalidOid;
static FleetExecutorSink pool_sink;
static dlist_head free_runners = DLIST_STATIC_INIT(free_runners);
static dlist_head busy_runners = DLIST_STATIC_INIT(busy_runners);
static dlist_head dead_runners = DLIST_STATIC_INIT(dead_runners);
static dlist_head orphans = DLIST_STATIC_INIT(orphans);
static int runner_count = 0;      /* free and busy */
static FleetTime start_after = 0; /* no new process before, since one could not be started */

static void find_orphans(void);
static void read_runner(Runner *runner);

void
fleet_runner_pool_init(MemoryContext context, Oid database, const FleetExecutorSink *sink)
{
    MemoryContext before;

    pool_context = AllocSetContextCreate(context, "fleet runner pool", ALLOCSET_DEFAULT_SIZES);
    pool_database = database;
    pool_sink = *sink;
    dlist_init(&free_runners);
    dlist_init(&busy_runners);
    dlist_init(&dead_runners);
    dlist_init(&orphans);
    runner_count = 0;
    start_after = 0;
    before = MemoryContextSwitchTo(pool_context);
    find_orphans();
    MemoryContextSwitchTo(before);
}

/* Takes the runner out of use; its CUTs come in the next poll. */
static void
mark_dead(Runner *runner)
{
    if (runner->dead)
        return;
    runner->dead = true;
    runner_count--;
    dlist_delete(&runner->node);
    dlist_push_tail(&dead_runners, &runner->node);
    SetLatch(MyLatch); /* so that the poll comes soon, wherever we were called */
}

/* ---- start and end ---- */

static void
runner_free(Runner *runner)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &runner->unsent)
        pfree(dlist_container(RunnerUnsent, node, iter.cur));
    dlist_foreach_modify(iter, &runner->in_flight)
        pfree(dlist_container(RunnerInFlight, node, iter.cur));
    fleet_runner_process_release(&runner->process);
    fleet_diagnostics_free(&runner->last_words);
    pfree(runner);
}

/* Lets an idle process end.  The rest is done by bury_dead(), since the poll that we may be in
 * still knows this runner. */
static void
release_free_runner(Runner *runner)
{
    RunnerMessage message;

    fleet_runner_message_init(&message, RUNNER_END, 0, 0);
    fleet_runner_tell(runner, &message);
    runner->given_back = true;
    mark_dead(runner);
}

static Runner *
runner_new(Oid role)
{
    Runner *runner = MemoryContextAllocZero(pool_context, sizeof(Runner));

    runner->base.methods = &fleet_runner_methods;
    runner->context = pool_context;
    runner->role = role;
    dlist_init(&runner->in_flight);
    dlist_init(&runner->unsent);
    return runner;
}

static Runner *
runner_start(Oid role, const char **sqlstate, const char **why)
{
    MemoryContext before = MemoryContextSwitchTo(pool_context);
    Runner *runner = runner_new(role);

    if (fleet_runner_process_start(&runner->process, pool_database, role, sqlstate, why))
    {
        dlist_push_tail(&busy_runners, &runner->node);
        runner_count++;
    }
    else
    {
        pfree(runner);
        runner = NULL;
    }
    MemoryContextSwitchTo(before);
    return runner;
}

/* The free runner of this role that was used last, so that those not needed grow old. */
static Runner *
find_free(Oid role)
{
    dlist_node *node = dlist_is_empty(&free_runners) ? NULL : dlist_tail_node(&free_runners);

    while (node)
    {
        Runner *runner = dlist_container(Runner, node, node);

        node = dlist_has_prev(&free_runners, node) ? dlist_prev_node(&free_runners, node) : NULL;
        if (runner->role != role)
            continue;
        read_runner(runner); /* is it still there? */
        if (!runner->dead)
            return runner;
    }
    return NULL;
}

FleetExecutor *
fleet_runner_get(Oid role, const char **sqlstate, const char **why)
{
    Runner *runner = find_free(role);

    if (runner)
    {
        dlist_delete(&runner->node);
        dlist_push_tail(&busy_runners, &runner->node);
    }
    else
    {
        if (runner_count >= fleet_guc_max_runners && !dlist_is_empty(&free_runners))
            release_free_runner(dlist_container(Runner, node, dlist_head_node(&free_runners)));
        if (runner_count >= fleet_guc_max_runners)
        {
            *sqlstate = FLEET_SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED;
            *why = "all runners are busy (fleet.max_runners)";
            return NULL;
        }
        if (fleet_clock_now() < start_after)
        {
            *sqlstate = FLEET_SQLSTATE_INSUFFICIENT_RESOURCES;
            *why = "a runner could not be started just now";
            return NULL;
        }
        runner = runner_start(role, sqlstate, why);
        if (runner == NULL)
            return NULL;
    }
    runner->base.busy = true;
    runner->base.owner = NULL;
    return &runner->base;
}

void
fleet_runner_done(FleetExecutor *executor)
{
    Runner *runner = (Runner *) executor;

    runner->base.owner = NULL;
    runner->base.busy = false;
    if (runner->dead)
    {
        runner->given_back = true;
        return;
    }
    if (!dlist_is_empty(&runner->in_flight))
    {
        /* Given back in the middle of something: it is of no further use to anybody. */
        fleet_runner_process_terminate(&runner->process);
        runner->given_back = true;
        mark_dead(runner);
        return;
    }
    runner->idle_since = fleet_clock_now();
    dlist_delete(&runner->node);
    dlist_push_tail(&free_runners, &runner->node);
}

/* ---- receiving ---- */

static void
event_init(FleetExecutorEvent *event, FleetExecutorEventKind kind, uint64 ref)
{
    memset(event, 0, sizeof(*event));
    event->kind = kind;
    event->ref = ref;
    event->row_count = -1;
}

static void
tell(Runner *runner, const FleetExecutorEvent *event)
{
    pool_sink.event(pool_sink.arg, &runner->base, event);
}

static void
tell_began(Runner *runner, RunnerInFlight *flight)
{
    FleetExecutorEvent event;

    if (flight->began)
        return;
    flight->began = true;
    event_init(&event, FLEET_EXECUTOR_BEGAN, flight->ref);
    event.backend_pid = (int) pg_atomic_read_u32(&runner->process.shared->pid);
    tell(runner, &event);
}

static bool
has_begun(const Runner *runner, const RunnerInFlight *flight)
{
    return pg_atomic_read_u64(&runner->process.shared->begun) >= flight->number;
}

static void
handle_message(Runner *runner, const RunnerMessage *message)
{
    RunnerInFlight *flight = fleet_runner_first(runner);
    FleetExecutorEvent event;

    if (message->kind == RUNNER_FATAL)
    {
        FleetDiagnostics diag = fleet_runner_message_said(message);

        if (runner->last_words.message == NULL && diag.message != NULL)
            fleet_diagnostics_copy(&runner->last_words, &diag, pool_context);
        return;
    }
    if (flight == NULL || flight->number != message->number)
        return;
    if (has_begun(runner, flight))
        tell_began(runner, flight);
    if (message->kind == RUNNER_LOG && message->line <= flight->stored_lines)
        return;
    event_init(&event, FLEET_EXECUTOR_LOG, flight->ref);
    if (fleet_runner_message_event(message, &event))
    {
        /* Before the callback, which may give the next request. */
        dlist_delete(&flight->node);
        pfree(flight);
    }
    tell(runner, &event);
}

/* Everything that a live runner has to say. */
static void
read_runner(Runner *runner)
{
    RunnerProcess *process = &runner->process;
    RunnerMessage message;
    RunnerInFlight *flight;
    const char *data;
    Size size;
    bool gone;

    if (runner->dead)
        return;
    gone = fleet_runner_process_gone(process); /* before its last words are read */
    pg_read_barrier();
    while (!runner->dead && fleet_ring_read(process->segment.from, &process->reader, &data, &size))
    {
        if (fleet_runner_message_read(data, size, &message))
            handle_message(runner, &message);
    }
    /* Only for the first in line: what is behind it has to wait for its end. */
    flight = fleet_runner_first(runner);
    if (!runner->dead && flight && has_begun(runner, flight))
        tell_began(runner, flight);
    if (gone)
        mark_dead(runner);
}

/* What was read before this turn is committed, and the runner need not keep it any longer. */
static void
free_read(Runner *runner)
{
    if (fleet_ring_free(runner->process.segment.from, runner->process.reader.complete))
        fleet_runner_wake(&runner->process.shared->runner);
}

/* The process said why it cannot work for this role, and will say so again: no CONNECT right, no
 * such role.  Lack of resources, shutdown and system errors are not of this kind. */
static bool
is_refused(const Runner *runner)
{
    const char *class = runner->last_words.sqlstate;

    return pg_atomic_read_u32(&runner->process.shared->pid) == 0 && class != NULL &&
           !fleet_sqlstate_in(class, FLEET_SQLCLASS_INSUFFICIENT_RESOURCES) &&
           !fleet_sqlstate_in(class, FLEET_SQLCLASS_OPERATOR_INTERVENTION) &&
           !fleet_sqlstate_in(class, FLEET_SQLCLASS_SYSTEM_ERROR);
}

/* Tells what became of the requests of a runner that is gone.  True: the agent had a CUT, and so
 * does not know this runner any more. */
static bool
cut_requests(Runner *runner)
{
    RunnerInFlight *flight;
    const FleetDiagnostics *last = &runner->last_words;
    bool refused = is_refused(runner);
    bool connected = pg_atomic_read_u32(&runner->process.shared->pid) != 0;
    bool told = false;

    while (!runner->given_back && (flight = fleet_runner_first(runner)) != NULL)
    {
        FleetExecutorEvent event;

        if (has_begun(runner, flight))
            tell_began(runner, flight);
        if (runner->given_back)
            break; /* the agent did not want to know more */
        event_init(&event, refused ? FLEET_EXECUTOR_ERROR : FLEET_EXECUTOR_CUT, flight->ref);
        event.never_sent = !refused && !has_begun(runner, flight);
        event.diag.level = "FATAL";
        event.diag.sqlstate = last->sqlstate ? last->sqlstate : FLEET_SQLSTATE_ADMIN_SHUTDOWN;
        event.diag.message = last->message ? last->message
                             : connected   ? "the runner's process ended"
                                           : "the runner's process could not be started";
        dlist_delete(&flight->node);
        pfree(flight);
        told = told || !refused;
        if (!refused && !connected)
            start_after = fleet_clock_now() + FLEET_SECONDS(1);
        tell(runner, &event);
    }
    return told;
}

static void
bury_dead(void)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &dead_runners)
    {
        Runner *runner = dlist_container(Runner, node, iter.cur);

        if (cut_requests(runner) || runner->given_back || runner->base.owner == NULL)
        {
            dlist_delete(&runner->node);
            runner_free(runner);
        }
    }
}

/* Ends those that were idle for too long or are too many; returns when the next one will be. */
static FleetTime
end_idle(FleetTime now)
{
    FleetTime limit = FLEET_MS(fleet_guc_runner_idle_timeout);

    while (!dlist_is_empty(&free_runners))
    {
        Runner *oldest = dlist_container(Runner, node, dlist_head_node(&free_runners));

        if (oldest->idle_since + limit > now && runner_count <= fleet_guc_max_runners)
            return oldest->idle_since + limit;
        release_free_runner(oldest);
    }
    return FLEET_NEVER;
}

/* ---- runners of an agent before this one ---- */

static void
find_orphans(void)
{
    dsm_handle *handles;
    int n = fleet_runner_segment_list(pool_database, &handles);

    for (int i = 0; i < n; i++)
    {
        RunnerProcess process;
        Runner *runner;

        if (!fleet_runner_process_find(&process, handles[i], pool_database))
            continue;
        runner = runner_new(process.shared->role);
        runner->process = process;
        dlist_push_tail(&orphans, &runner->node);
    }
    pfree(handles);
}

static bool
is_wanted(const Runner *runner, const FleetStepKey *key, bool transactional, uint64 xid)
{
    const RunnerShared *shared = runner->process.shared;

    return pg_atomic_read_u32((pg_atomic_uint32 *) &shared->gone) == 0 &&
           memcmp(&shared->key, key, sizeof(*key)) == 0 && shared->transactional == transactional &&
           (xid == 0 || xid == pg_atomic_read_u64((pg_atomic_uint64 *) &shared->xid));
}

static void
adopt(Runner *runner, uint64 ref, int log_seq)
{
    const RunnerShared *shared = runner->process.shared;
    RunnerInFlight *flight = MemoryContextAllocZero(pool_context, sizeof(RunnerInFlight));
    MemoryContext before = MemoryContextSwitchTo(pool_context);

    flight->number = runner->last_number = shared->number;
    flight->ref = ref;
    flight->stored_lines = (uint64) Max(log_seq - shared->log_seq, 0);
    dlist_push_tail(&runner->in_flight, &flight->node);
    fleet_runner_process_adopt(&runner->process);
    dlist_delete(&runner->node);
    dlist_push_tail(&busy_runners, &runner->node);
    runner_count++;
    runner->base.busy = true;
    MemoryContextSwitchTo(before);
    SetLatch(MyLatch); /* it may have said something already */
}

FleetExecutor *
fleet_runner_adopt(const FleetStepKey *key, bool transactional, uint64 xid, int log_seq, uint64 ref,
                   Oid *role)
{
    dlist_iter iter;

    dlist_foreach(iter, &orphans)
    {
        Runner *runner = dlist_container(Runner, node, iter.cur);

        if (!is_wanted(runner, key, transactional, xid))
            continue;
        adopt(runner, ref, log_seq);
        *role = runner->role;
        return &runner->base;
    }
    return NULL;
}

/* The agent has read all its rows, and these are in none of them. */
static void
end_orphans(void)
{
    while (!dlist_is_empty(&orphans))
    {
        Runner *runner = dlist_container(Runner, node, dlist_pop_head_node(&orphans));

        fleet_runner_process_terminate(&runner->process);
        runner_free(runner);
    }
}

/* ---- turns ---- */

FleetTime
fleet_runner_poll(FleetTime now)
{
    dlist_mutable_iter iter;

    /*
     * Callbacks move runners between the lists, so neither list can be walked
     * while they run: take the busy ones over into an array first.  A runner
     * is freed in bury_dead() only, never by a callback.
     */
    Runner *busy[1024];
    int n = 0;
    FleetTime next;

    dlist_foreach_modify(iter, &busy_runners)
    {
        if (n < (int) lengthof(busy))
            busy[n++] = dlist_container(Runner, node, iter.cur);
    }
    for (int i = 0; i < n; i++)
    {
        free_read(busy[i]);
        fleet_runner_unsent_flush(busy[i]);
        read_runner(busy[i]);
    }
    dlist_foreach_modify(iter, &free_runners)
    {
        Runner *runner = dlist_container(Runner, node, iter.cur);

        free_read(runner);
        read_runner(runner);
    }
    end_orphans();
    next = end_idle(now);
    bury_dead();
    return next;
}

/* ---- the rest ---- */

static void
leave_all(dlist_head *runners, bool hard)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, runners)
    {
        Runner *runner = dlist_container(Runner, node, iter.cur);

        if (hard && !runner->dead)
            fleet_runner_process_terminate(&runner->process);
        dlist_delete(&runner->node);
        runner_free(runner);
    }
}

void
fleet_runner_shutdown(bool hard)
{
    end_orphans();
    leave_all(&free_runners, hard);
    leave_all(&busy_runners, hard);
    leave_all(&dead_runners, false);
    runner_count = 0;
}

int
fleet_runner_count(void)
{
    return runner_count;
}

uint32
fleet_runner_busy(Oid role)
{
    dlist_iter iter;
    uint32 n = 0;

    dlist_foreach(iter, &busy_runners)
    {
        if (dlist_container(Runner, node, iter.cur)->role == role)
            n++;
    }
    return n;
}

int
fleet_runner_pid(const FleetExecutor *executor)
{
    return (int) pg_atomic_read_u32(&((const Runner *) executor)->process.shared->pid);
}
