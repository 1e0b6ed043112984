/*
 * core/exec.c
 *     The protocol of one attempt of one step, and the rules about tokens and
 *     epochs.  exec.h says who uses it.
 *
 * States (phases), and why each is safe to be cut off in:
 *   intent     COMMIT was never sent: whatever was sent is rolled back by its
 *              executor's end.  Cut off: again.
 *   prepared   the transaction id is durable, COMMIT may have been sent: the
 *              server that ran it is asked for that id.
 *   open       there is no transaction to ask for: unknown.
 *   ended
 */
#include "core/exec.h"

void
fleet_exec_init(FleetExec *exec, bool transactional)
{
    *exec = (FleetExec){.phase = FLEET_EXEC_INTENT, .transactional = transactional};
}

static FleetExecDo
end(FleetExec *exec, FleetState *outcome, FleetState what)
{
    exec->phase = FLEET_EXEC_ENDED;
    exec->in_flight = exec->stopping = false;
    *outcome = what;
    return FLEET_EXEC_END;
}

static FleetExecDo
send(FleetExec *exec)
{
    exec->in_flight = true;
    exec->stopping = false;
    return FLEET_EXEC_SEND;
}

/* The id of an earlier try, aborted, is still stored: it goes before anything is sent. */
static FleetExecDo
begin(FleetExec *exec)
{
    if (exec->phase != FLEET_EXEC_INTENT || exec->in_flight)
        return FLEET_EXEC_ILLEGAL;
    if (!exec->transactional)
    {
        exec->phase = FLEET_EXEC_OPEN;
        return FLEET_EXEC_STORE;
    }
    if (exec->xid != 0)
    {
        exec->xid = 0;
        return FLEET_EXEC_STORE;
    }
    return send(exec);
}

static FleetExecDo
stored(FleetExec *exec, FleetState *outcome)
{
    switch (exec->phase)
    {
        case FLEET_EXEC_INTENT: return exec->in_flight ? FLEET_EXEC_ILLEGAL : send(exec);
        case FLEET_EXEC_PREPARED:
            /* cut off meanwhile: the answer to RESOLVE is awaited */
            return exec->in_flight ? FLEET_EXEC_SEND_COMMIT : FLEET_EXEC_NOTHING;
        case FLEET_EXEC_OPEN:
            if (exec->in_flight)
                return FLEET_EXEC_ILLEGAL;
            if (exec->stopping) /* nothing was sent yet */
                return end(exec, outcome, FLEET_CANCELED);
            return send(exec);
        case FLEET_EXEC_ENDED: break;
    }
    return FLEET_EXEC_NOTHING;
}

static FleetExecDo
got_xid(FleetExec *exec)
{
    if (exec->phase != FLEET_EXEC_INTENT || !exec->in_flight || !exec->transactional ||
        exec->xid == 0)
        return FLEET_EXEC_ILLEGAL;
    exec->phase = FLEET_EXEC_PREPARED;
    return FLEET_BUG_COMMIT_BEFORE_STORE ? FLEET_EXEC_SEND_COMMIT : FLEET_EXEC_STORE;
}

/* It ended on its own.  Before COMMIT was sent it cannot have committed. */
static FleetExecDo
got_end(FleetExec *exec, FleetState *outcome, FleetState what)
{
    if (exec->phase == FLEET_EXEC_ENDED || !exec->in_flight)
        return FLEET_EXEC_ILLEGAL;
    if (exec->phase == FLEET_EXEC_INTENT && what == FLEET_SUCCEEDED)
        return FLEET_EXEC_ILLEGAL;
    return end(exec, outcome, what);
}

static FleetExecDo
not_transactional(FleetExec *exec, FleetState *outcome)
{
    if (exec->phase != FLEET_EXEC_INTENT || !exec->in_flight)
        return FLEET_EXEC_ILLEGAL;
    if (exec->stopping)
        return end(exec, outcome, FLEET_CANCELED);
    exec->in_flight = false;
    exec->transactional = false;
    exec->phase = FLEET_EXEC_OPEN;
    return FLEET_EXEC_STORE;
}

static FleetExecDo
cut(FleetExec *exec, FleetState *outcome)
{
    exec->in_flight = false;
    switch (exec->phase)
    {
        case FLEET_EXEC_INTENT: exec->stopping = false; return FLEET_EXEC_REDO;
        case FLEET_EXEC_PREPARED: return FLEET_EXEC_RESOLVE;
        case FLEET_EXEC_OPEN: return end(exec, outcome, FLEET_UNKNOWN);
        case FLEET_EXEC_ENDED: break;
    }
    return FLEET_EXEC_NOTHING;
}

static FleetExecDo
resolved(FleetExec *exec, FleetExecEvent event, FleetState *outcome)
{
    if (exec->phase != FLEET_EXEC_PREPARED || exec->in_flight)
        return FLEET_EXEC_ILLEGAL;
    if (event == FLEET_EXEC_XACT_UNKNOWN)
        return end(exec, outcome, FLEET_UNKNOWN);
    if (event == FLEET_EXEC_XACT_COMMITTED && !FLEET_BUG_REDO_AFTER_COMMIT)
        return end(exec, outcome, FLEET_SUCCEEDED);
    exec->phase = FLEET_EXEC_INTENT;
    exec->stopping = false;
    return FLEET_EXEC_REDO;
}

static FleetExecDo
cancel(FleetExec *exec, FleetState *outcome)
{
    switch (exec->phase)
    {
        case FLEET_EXEC_INTENT:
            if (!exec->in_flight) /* nothing there that could commit */
                return end(exec, outcome, FLEET_CANCELED);
            break;
        case FLEET_EXEC_OPEN: break;
        case FLEET_EXEC_PREPARED: /* its command has succeeded: COMMIT decides, or decided */
        case FLEET_EXEC_ENDED: return FLEET_EXEC_NOTHING;
    }
    exec->stopping = true;
    return exec->in_flight ? FLEET_EXEC_SEND_CANCEL : FLEET_EXEC_NOTHING;
}

FleetExecDo
fleet_exec_event(FleetExec *exec, FleetExecEvent event, FleetState *outcome)
{
    switch (event)
    {
        case FLEET_EXEC_BEGIN: return begin(exec);
        case FLEET_EXEC_STORED: return stored(exec, outcome);
        case FLEET_EXEC_GOT_XID: return got_xid(exec);
        case FLEET_EXEC_GOT_COMMITTED: return got_end(exec, outcome, FLEET_SUCCEEDED);
        case FLEET_EXEC_GOT_ERROR: return got_end(exec, outcome, FLEET_FAILED);
        case FLEET_EXEC_GOT_CANCELED: return got_end(exec, outcome, FLEET_CANCELED);
        case FLEET_EXEC_NOT_TRANSACTIONAL: return not_transactional(exec, outcome);
        case FLEET_EXEC_CUT: return cut(exec, outcome);
        case FLEET_EXEC_XACT_COMMITTED:
        case FLEET_EXEC_XACT_ABORTED:
        case FLEET_EXEC_XACT_UNKNOWN: return resolved(exec, event, outcome);
        case FLEET_EXEC_CANCEL: return cancel(exec, outcome);
    }
    return FLEET_EXEC_ILLEGAL;
}

/* ---- tokens and epochs ---- */

FleetStartAnswer
fleet_start_answer(uint64_t seen_epoch, uint64_t epoch, bool token_known)
{
    if (epoch < seen_epoch && !FLEET_BUG_EPOCH_NOT_CHECKED)
        return FLEET_START_REFUSED;
    return token_known && !FLEET_BUG_NO_TOKEN_DEDUP ? FLEET_START_HAVE : FLEET_START_NEW;
}

uint64_t
fleet_epoch(uint32_t timeline, uint32_t starts)
{
    return (uint64_t) timeline << 32 | starts;
}

FleetTokenVerdict
fleet_token_verdict(FleetState parent_state, bool child_has_it)
{
    if (child_has_it)
        return FLEET_TOKEN_ADOPT;
    return parent_state == FLEET_STARTING ? FLEET_TOKEN_RESEND : FLEET_TOKEN_LOST;
}
