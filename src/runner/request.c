/*
 * runner/request.c
 *     What the agent asks of one runner: run, commit, cancel (FleetExecutor).
 *     In the agent's process; called by the agent, and by runner/pool.c.
 *
 * Nothing here waits: what does not fit into the ring stays in "unsent".
 */
#include "postgres.h"

#include "miscadmin.h"
#include "runner/request.h"
#include "runner/runner.h"
#include "storage/latch.h"
#include "utils/memutils.h"

static bool
try_send(Runner *runner, const char *data, Size size, Size *done)
{
    bool sent = fleet_ring_write(runner->process.segment.to, data, size, done);

    fleet_runner_wake(&runner->process.shared->runner);
    return sent;
}

void
fleet_runner_unsent_flush(Runner *runner)
{
    while (!dlist_is_empty(&runner->unsent))
    {
        RunnerUnsent *unsent =
            dlist_container(RunnerUnsent, node, dlist_head_node(&runner->unsent));

        if (!try_send(runner, unsent->data, unsent->size, &unsent->done))
            return;
        dlist_delete(&unsent->node);
        pfree(unsent);
    }
}

void
fleet_runner_tell(Runner *runner, const RunnerMessage *message)
{
    static StringInfoData scratch; /* for as long as the process lives */
    RunnerUnsent *unsent;
    Size done = 0;

    if (runner->dead)
        return;
    if (scratch.data == NULL)
    {
        MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);

        initStringInfo(&scratch);
        MemoryContextSwitchTo(before);
    }
    resetStringInfo(&scratch);
    fleet_runner_message_write(&scratch, message);
    if (dlist_is_empty(&runner->unsent) &&
        try_send(runner, scratch.data, (Size) scratch.len, &done))
        return;
    unsent = MemoryContextAlloc(runner->context, offsetof(RunnerUnsent, data) + (Size) scratch.len);
    unsent->size = (Size) scratch.len;
    unsent->done = done;
    memcpy(unsent->data, scratch.data, (Size) scratch.len);
    dlist_push_tail(&runner->unsent, &unsent->node);
}

static void
runner_run(FleetExecutor *executor, const FleetStepRequest *request)
{
    Runner *runner = (Runner *) executor;
    RunnerInFlight *flight = MemoryContextAllocZero(runner->context, sizeof(RunnerInFlight));
    RunnerMessage message;

    flight->number = ++runner->last_number;
    flight->ref = request->ref;
    dlist_push_tail(&runner->in_flight, &flight->node);
    if (runner->dead)
        SetLatch(MyLatch); /* the next poll tells the CUT */

    fleet_runner_message_init(&message, RUNNER_REQUEST, flight->number, flight->ref);
    message.request_kind = request->kind;
    message.transactional = request->transactional;
    message.single = request->single;
    message.fresh = request->fresh;
    message.hook_depth = (uint8) request->hook_depth;
    message.key = request->key;
    message.log_seq = request->log_seq;
    message.generation = pg_atomic_read_u32(&runner->process.shared->generation);
    message.text[RUNNER_TEXT_COMMAND] = request->command;
    message.text[RUNNER_TEXT_PARAMS] = request->params ? request->params : "{}";
    message.text[RUNNER_TEXT_OF] = request->context ? request->context : "{}";
    fleet_runner_tell(runner, &message);
}

RunnerInFlight *
fleet_runner_first(Runner *runner)
{
    return dlist_is_empty(&runner->in_flight)
               ? NULL
               : dlist_container(RunnerInFlight, node, dlist_head_node(&runner->in_flight));
}

static void
runner_commit(FleetExecutor *executor)
{
    Runner *runner = (Runner *) executor;
    RunnerInFlight *flight = fleet_runner_first(runner);
    RunnerMessage message;

    if (flight == NULL)
        return;
    fleet_runner_message_init(&message, RUNNER_COMMIT, flight->number, flight->ref);
    fleet_runner_tell(runner, &message);
}

static void
runner_cancel(FleetExecutor *executor)
{
    Runner *runner = (Runner *) executor;
    RunnerInFlight *flight;

    if (runner->dead || dlist_is_empty(&runner->in_flight))
        return;
    flight = dlist_container(RunnerInFlight, node, dlist_tail_node(&runner->in_flight));
    pg_atomic_write_u64(&runner->process.shared->cancel, flight->number);
    pg_atomic_fetch_add_u32(&runner->process.shared->cancels, 1); /* full barrier */
    /* Before it is connected it has not the handler, but will look at shared->cancel. */
    if (pg_atomic_read_u32(&runner->process.shared->pid) != 0)
        fleet_runner_process_interrupt(&runner->process);
}

const FleetExecutorMethods fleet_runner_methods = {
    .run = runner_run,
    .commit = runner_commit,
    .cancel = runner_cancel,
};
