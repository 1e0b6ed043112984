/*
 * core/exec.h
 *     The protocol of one attempt of one step with exactly one effect, and
 *     the answer of a server in mode agent, here called the child, to a start
 *     request, as pure functions.  Local jobs (agent/) use the first for a
 *     runner behind shared-memory queues and for a session behind a direct link
 *     alike; api/child.c uses the second, and store/identity.c makes the epoch.
 *     The simulator drives all of them against its own lossy world.
 *
 *   transactional:  SEND → (executor: begin, command, report id) → PREPARED
 *                   → STORE durably → SEND_COMMIT → COMMITTED → ended
 *   otherwise:      STORE "not transactional, begun" durably → SEND → ended
 *
 * The durable part of a FleetExec is (phase, transactional, xid); everything
 * else may be lost at any time.  After a recovery the first event is CUT (or
 * CANCEL, where the phase is 'intent').  ILLEGAL changes nothing.  CANCEL may
 * be repeated, and is then sent again.
 */
#ifndef FLEET_CORE_EXEC_H
#define FLEET_CORE_EXEC_H

#include "core/core.h"
#include "core/state.h"

typedef enum FleetExecPhase
{
    FLEET_EXEC_INTENT = 1,   /* durable: it may have been sent, COMMIT surely was not */
    FLEET_EXEC_PREPARED = 2, /* durable: xid is known, COMMIT may have been sent */
    FLEET_EXEC_OPEN = 3,     /* durable: sent outside a transaction; only its own word ends it */
    FLEET_EXEC_ENDED = 4,
} FleetExecPhase;

typedef struct FleetExec
{
    FleetExecPhase phase; /* as durable, after the driver stored what was asked */
    bool transactional;
    uint64_t xid;   /* 0: none */
    bool in_flight; /* volatile: sent to an executor that is still there */
    bool stopping;  /* volatile: a cancel was sent to it */
} FleetExec;

typedef enum FleetExecEvent
{
    FLEET_EXEC_BEGIN,             /* start it (first time, or again after REDO) */
    FLEET_EXEC_STORED,            /* what was asked to be stored is durable now */
    FLEET_EXEC_GOT_XID,           /* executor: command done, here is the id, COMMIT is yours; the
                                     driver has put the id into exec->xid */
    FLEET_EXEC_GOT_COMMITTED,     /* executor: committed (or: ended well, not transactional) */
    FLEET_EXEC_GOT_ERROR,         /* executor: it raised; rolled back */
    FLEET_EXEC_GOT_CANCELED,      /* executor: it raised 57014 and a cancel had been sent */
    FLEET_EXEC_NOT_TRANSACTIONAL, /* executor: cannot run in a transaction; nothing was done */
    FLEET_EXEC_CUT,               /* executor or connection is gone (also: after recovery) */
    FLEET_EXEC_XACT_COMMITTED,    /* answers to RESOLVE */
    FLEET_EXEC_XACT_ABORTED,
    FLEET_EXEC_XACT_UNKNOWN, /* too old, other identity or timeline */
    FLEET_EXEC_CANCEL,       /* it is to be stopped */
} FleetExecEvent;

typedef enum FleetExecDo
{
    FLEET_EXEC_NOTHING,
    FLEET_EXEC_STORE, /* write phase, transactional, xid durably; then EVENT STORED */
    FLEET_EXEC_SEND,  /* give the command to an executor (exec->transactional says how) */
    FLEET_EXEC_SEND_COMMIT,
    FLEET_EXEC_SEND_CANCEL,
    FLEET_EXEC_RESOLVE, /* ask for pg_xact_status(xid) where it ran */
    FLEET_EXEC_END,     /* *outcome is set: succeeded, failed, canceled, unknown */
    FLEET_EXEC_REDO, /* surely no effect: FLEET_JOB_STEP_REDO, or canceled if a cancel is wanted */
    FLEET_EXEC_ILLEGAL,
} FleetExecDo;

extern void fleet_exec_init(FleetExec *exec, bool transactional); /* phase INTENT */
extern FleetExecDo fleet_exec_event(FleetExec *exec, FleetExecEvent event, FleetState *outcome);

/* ---- between a parent and a child ---- */

/* Version of their requests and answers: both must have the same one. */
#define FLEET_PROTOCOL 2

typedef enum FleetStartAnswer
{
    FLEET_START_NEW,     /* insert the job run and run it */
    FLEET_START_HAVE,    /* the token is known: return that job run */
    FLEET_START_REFUSED, /* the epoch is lower than one already seen from that parent */
} FleetStartAnswer;

extern FleetStartAnswer fleet_start_answer(uint64_t seen_epoch, uint64_t epoch, bool token_known);

/* Of an agent: the timeline of the write-ahead log, then the count of its starts. */
extern uint64_t fleet_epoch(uint32_t timeline, uint32_t starts);

/* ---- what a parent may conclude from a child's answer about one of its tokens ---- */

typedef enum FleetTokenVerdict
{
    FLEET_TOKEN_RESEND, /* never arrived: same token again (safe: guarantee 2) */
    FLEET_TOKEN_ADOPT,  /* it is there: continue with what it reports */
    FLEET_TOKEN_LOST,   /* it had been acknowledged and no longer exists */
} FleetTokenVerdict;

/*
 * For a started attempt.  'canceling' and not there is LOST too, and it must not
 * be sent again.  Only where it is not known to have begun, the driver asks the
 * server to stop it and to remember that, and then once more: its start may still
 * be under way.
 */
extern FleetTokenVerdict fleet_token_verdict(FleetState parent_state, bool child_has_it);

#endif
