/*
 * runner/pool.h
 *     The agent's side of the runners: starts them, keeps idle ones for reuse,
 *     speaks with them over shared-memory queues.  In the agent's process.
 *
 * A runner is a dynamic background worker connected as the role it runs for.
 * It is a FleetExecutor.  Runners wake the agent through its latch.
 *
 * A busy runner survives its agent, and goes on.  The next agent, which finds
 * such runners when it makes its pool, adopts each whose step is in its rows;
 * those that were not adopted by the first poll are ended.
 */
#ifndef FLEET_RUNNER_POOL_H
#define FLEET_RUNNER_POOL_H

#include "postgres.h"
#include "executor.h"

/* Before anything else here; the events of all runners go to this sink. */
extern void fleet_runner_pool_init(MemoryContext context, Oid database,
                                   const FleetExecutorSink *sink);

/*
 * A runner for this role, marked busy (executor->owner is the caller's to
 * set): an idle one, else a new one (requests may be given to it before it is
 * up).  NULL with *why (static text) and sqlstate: none can be started now
 * (fleet.max_runners reached, no background worker slot); try again when one
 * is given back or later.
 */
extern FleetExecutor *fleet_runner_get(Oid role, const char **sqlstate, const char **why);
/*
 * Gives it back; it stays for reuse.  With a request still open the runner is
 * ended.  After a CUT the executor exists no more: do not give it back then
 * (within the callback is harmless).
 *
 * A role that may not connect gives ERROR rather than CUT, with the server's
 * reason, for every request; such an executor is to be given back as usual.
 */
extern void fleet_runner_done(FleetExecutor *runner);

/*
 * The runner that works, or has worked and not told all of it, on this attempt
 * of a step for an agent that is gone: as fleet_runner_get() and a request
 * with this ref would leave it.  Its events follow, beginning with BEGAN;
 * those that the last agent has acted on durably do not come again, provided
 * that
 *     transactional, xid   are as the row says; 0: no id is stored
 *     log_seq              is the number of the last line stored of this unit.
 * *role: whom it runs for.  NULL: there is none.
 */
extern FleetExecutor *fleet_runner_adopt(const FleetStepKey *key, bool transactional, uint64 xid,
                                         int log_seq, uint64 ref, Oid *role);

/* Reads all queues without blocking, notices runners that are gone (CUT), ends idle ones.
 * Call every turn, and commit what came of one call's events before the next call; returns when
 * it must be called next (idle timeouts). */
extern FleetTime fleet_runner_poll(FleetTime now);

/* The agent leaves.  hard: terminate all, also running ones (DROP EXTENSION, DROP
 * DATABASE); otherwise busy ones go on, and are the next agent's to adopt. */
extern void fleet_runner_shutdown(bool hard);
extern int fleet_runner_count(void);
/* Those of this role that work for it now. */
extern uint32 fleet_runner_busy(Oid role);

/* pg_xact_status() here, for steps that runners ran before a crash. */
extern FleetXactStatus fleet_runner_resolve(uint64 xid);

/* Backend pid of the process, for logs; 0: not up yet. */
extern int fleet_runner_pid(const FleetExecutor *runner);

#endif
