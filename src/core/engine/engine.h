/*
 * core/engine/engine.h
 *     The engine decides: what may start, where, what happens after a
 *     failure, a lost server, a cancel.  Events go in by function call,
 *     decisions come out of fleet_engine_next().
 *
 * Two drivers use it: the agent (src/agent/) and the simulator
 * (test/core/), besides the planner (core/plan/plan.h), which is the simulator as a
 * library call.
 *
 * How a driver uses it, every turn of its loop:
 *   1. feed all events that have come (accepted, finished, items, cancel, …);
 *   2. fleet_engine_turn(now): due timers, placement;
 *   3. drain fleet_engine_next(); write every decision to the catalog in ONE
 *      transaction; commit;
 *   4. only then carry out the effects (send, cancel).
 * If step 3 fails, the engine is thrown away and rebuilt from the catalog:
 * fleet_engine_run_add(), fleet_engine_load() for each durable task run,
 * fleet_engine_run_loaded().  That is also how a restarted agent begins.
 *
 * Identity of a task run: (run, task, item); item 0 where there is no
 * for_each, else 1…n.  "run" is a handle given by the engine, valid until
 * the driver forgets the run.  For a for_each task item 0 is the task as a
 * whole: it has no server, no attempt, and only FLEET_DO_EXPAND and
 * FLEET_DO_STATE speak of it.
 *
 * Attempt: number of the latest attempt, 0 before the first; each
 * FLEET_DO_START has the next one.  "failures" says how many of the attempts
 * used up a retry; it is durable too (every decision about a task run carries
 * it, FleetLoad takes it back), since an attempt that surely never started is
 * an attempt but not a failure.
 *
 * Servers: only 'online' gets new work.  Started work on a server that is
 * 'suspect' for lost_after is lost; the clock stops when the server is online
 * or draining again ('draining' says that it answers), not when it is set
 * 'offline'.  Work on a server that becomes 'offline' while it answers is the
 * driver's to report.
 *
 * Kind PACKAGE has no server (FLEET_NO_SERVER) and takes no slot.  Kind SQL
 * takes a slot of the local server.
 *
 * A timeout counts from the state 'running' (accepted, or loaded as such).
 * The attempt is then stopped (FLEET_DO_CANCEL) and, once it has stopped,
 * counts as failed with SQLSTATE 57014.
 *
 * A condition that cannot be evaluated: fleet_engine_fail() for the task that
 * its edge leads to.
 *
 * A task that is left out (FleetTaskSpec) is skipped when its constraints
 * hold, and for what follows it has succeeded.  A run that restarts another
 * one (core/restart.h) has tasks and items that are carried over: they have
 * succeeded before it begins.
 *
 * A handler is executed once for each failure: a task without for_each, or an
 * item, that ended failed, lost or unknown for good, while its run is not
 * canceled, and that no failure or completion edge handles; or a for_each as a
 * whole that failed though none of its items did.  Not for failures of handlers
 * and of final tasks.  Its executions are its items: FLEET_DO_CATCH makes one, in
 * the same turn in which FLEET_DO_STATE tells the failure, so that one commit has
 * both.  Its whole runs from the first of them on; the wholes of all handlers end
 * when no other task can fail any more and none of their items is open, or are
 * skipped if there was no failure.
 *
 * Final tasks begin when all others and all handlers are final.  A cancel of the
 * run stops those, and then final tasks begin as they would have;
 * fleet_engine_cancel_final() is for them.  A run that is canceled while it is
 * queued has not begun, and its final tasks are canceled too.
 *
 * What the engine promises the driver:
 *   - FLEET_DO_START comes at most once per (run, task, item, attempt);
 *   - never for a task whose constraints do not hold, never beyond slots or
 *     throttle, never on a server that is not online, never after a cancel
 *     (of a final task: after fleet_engine_cancel_final());
 *   - a final task starts only when every other task of its run is final, and of a
 *     run that has begun, each one whose constraints hold starts;
 *   - FLEET_DO_CATCH comes exactly once per failure and handler;
 *   - a run ends exactly when nothing can still happen, with one FLEET_DO_RUN.
 */
#ifndef FLEET_CORE_ENGINE_ENGINE_H
#define FLEET_CORE_ENGINE_ENGINE_H

#include "core/core.h"
#include "core/graph.h"
#include "core/placement/placement.h"
#include "core/state.h"

typedef struct FleetEngine FleetEngine;

#define FLEET_LOCAL_TARGET 4095

typedef struct FleetEngineConfig
{
    FleetTime lost_after;     /* silence after which a server's started work is lost */
    uint32_t local_server;    /* server number whose slots the sql tasks take */
    uint32_t max_active_runs; /* further runs wait in FLEET_QUEUED, in order; 0: no limit */
    uint32_t local_target;    /* a target number that the driver itself does not use: the engine
                                  makes it the local server, for sql tasks; 0: FLEET_LOCAL_TARGET */
    uint32_t slice; /* states told of a sweep (many task runs that changed at once) in one turn; the
                       rest, and what comes after it of that run, in the next turns; 0: no limit */
    uint32_t crowd; /* items of a for_each that the placer knows at a time, the longest first: a
                       throttle for all, to be more than all slots together; 0: no limit */
} FleetEngineConfig;

extern FleetEngine *fleet_engine_create(const FleetAlloc *alloc, const FleetEngineConfig *config,
                                        uint64_t seed);
extern void fleet_engine_free(FleetEngine *engine);
/* Other limits from now on; what is suspect or waits is judged by them at once. */
extern void fleet_engine_limits(FleetEngine *engine, FleetTime lost_after,
                                uint32_t max_active_runs);

/* Servers and targets live in the engine's placer; set them there.  After a change of a server's
 * state go through this call, so that the engine sees it too. */
extern FleetPlacer *fleet_engine_placer(FleetEngine *engine);
extern void fleet_engine_server(FleetEngine *engine, uint32_t server, const FleetServerSpec *spec,
                                FleetTime now);

/* ---- runs ---- */

typedef struct FleetTaskRef
{
    uint32_t run;
    uint32_t task;
    uint32_t item;
} FleetTaskRef;

/* The graph must outlive the run; "tag" is the driver's own (a pointer or a run id). */
extern uint32_t fleet_engine_run_add(FleetEngine *engine, const FleetGraph *graph, int32_t priority,
                                     uint64_t tag, FleetTime now);
/* Right after run_add: the run belongs to a package task of another run.  It starts at once,
 * whatever max_active_runs says, and does not count there: its parent holds the place. */
extern void fleet_engine_run_nested(FleetEngine *engine, uint32_t run);
/* Right after run_add: the run fails also if a failure was handled by an edge. */
extern void fleet_engine_run_strict(FleetEngine *engine, uint32_t run);

/* When a run may begin, and must have ended (limits.c). */
typedef struct FleetRunLimits
{
    uint64_t key; /* runs with the same key share a limit of fleet_engine_parallel(); 0: none */
    uint64_t
        role_key;   /* the same, with another limit of its own; no number is a key of both kinds */
    uint64_t order; /* of two runs of one priority the lower one begins first; 0: as they come */
    bool replaces;  /* once it could begin, the runs of its key that come before it by "order", and
                             could begin or have begun, are canceled (FLEET_DO_REPLACE says so) */
    FleetTime not_before; /* it does not begin before this; 0: at once */
    FleetTime
        timeout;     /* it is stopped when it has run for so long, and has failed then; 0: never */
    FleetTime since; /* of one that has begun already: when */
    bool timed_out;  /* … and that is being stopped because of its timeout */
} FleetRunLimits;

/* Right after run_add, and before run_loaded: a nested run has no key. */
extern void fleet_engine_run_limits(FleetEngine *engine, uint32_t run, const FleetRunLimits *limits,
                                    FleetTime now);
/* So many runs of this key run at a time, from now on; 0: no limit.  Forgotten with the last of them. */
extern void fleet_engine_parallel(FleetEngine *engine, uint64_t key, uint32_t limit);
/* Are there more of them than may run at a time? */
extern bool fleet_engine_parallel_waits(const FleetEngine *engine, uint64_t key);
/*
 * A named limit (FleetTaskSpec.limits): of the task runs that name it, of whatever run, at most so many
 * are started and have not ended; UINT32_MAX: any number, as for one of which the engine was never told.
 * What holds a place already keeps it.
 */
extern void fleet_engine_named_limit(FleetEngine *engine, uint64_t number, uint32_t most);
extern uint32_t fleet_engine_named_held(const FleetEngine *engine, uint64_t number);
/* It was, or is being, stopped because of its timeout: what of it was stopped makes it fail. */
extern bool fleet_engine_run_timed_out(const FleetEngine *engine, uint32_t run);

extern uint64_t fleet_engine_run_tag(const FleetEngine *engine, uint32_t run);
extern const FleetGraph *fleet_engine_run_graph(const FleetEngine *engine, uint32_t run);
extern FleetState fleet_engine_run_state(const FleetEngine *engine, uint32_t run);
/* How the run would end if nothing more happened: succeeded, failed or canceled. */
extern FleetState fleet_engine_run_outcome(const FleetEngine *engine, uint32_t run);

/*
 * Counters for progress; total is the sum of the others.  done: succeeded or
 * skipped; bad: failed, canceled, lost, unknown; waiting: queued, retrying.
 * The items of a for_each count instead of the task as a whole.
 */
typedef struct FleetRunCounts
{
    uint32_t total, done, bad, running, waiting;
} FleetRunCounts;
extern void fleet_engine_run_counts(const FleetEngine *engine, uint32_t run,
                                    FleetRunCounts *counts);

/* After FLEET_DO_RUN with a final state was written: frees the run and its handle. */
extern void fleet_engine_run_forget(FleetEngine *engine, uint32_t run);

/* ---- recovery: between run_add and run_loaded, in any order ---- */

typedef struct FleetLoad
{
    FleetTaskRef ref;
    FleetState state;
    uint16_t attempt;
    uint16_t failures;  /* as last told by a decision */
    uint32_t server;    /* where it was placed, or FLEET_NO_SERVER */
    FleetTime since;    /* when it entered this state (starting/running/retrying) */
    FleetTime retry_at; /* FLEET_RETRYING only */
    FleetTime estimate; /* items only; 0: the task's */
} FleetLoad;

/* First call for a run makes it "being loaded": no decision comes out of it until run_loaded(). */
extern void fleet_engine_load_items(FleetEngine *engine, uint32_t run, uint32_t task,
                                    uint32_t count);
extern void fleet_engine_load(FleetEngine *engine, const FleetLoad *load);
/* The run itself is durably running (or canceling): it takes its place among the active runs
 * and no second FLEET_DO_RUN(running) comes.  Without it the engine concludes so only from a
 * loaded task run that has begun. */
extern void fleet_engine_load_running(FleetEngine *engine, uint32_t run);
/* A cancel of the final tasks was durable. */
extern void fleet_engine_load_cancel_final(FleetEngine *engine, uint32_t run);
/* A condition that was already evaluated (durable). */
extern void fleet_engine_load_condition(FleetEngine *engine, uint32_t run, uint32_t edge,
                                        bool holds);
/* Of a run that has not begun (no load_running): this task, not an item, is carried over.  Nothing of
 * it starts, no decision speaks of it; a for_each is not expanded. */
extern void fleet_engine_carry(FleetEngine *engine, uint32_t run, uint32_t task);
/* Sets everything in motion; starting and running ones are the driver's to re-attach: it will feed
 * accepted / finished / not_started for them.  "canceling": a cancel was durable, if only as a
 * request; FLEET_DO_RUN(canceling) comes then, also where the run's state said so already. */
extern void fleet_engine_run_loaded(FleetEngine *engine, uint32_t run, bool canceling,
                                    FleetTime now);

/* ---- events; each returns false if illegal in the present state (stale or duplicate: the driver
 *      may ignore it; nothing changed) ---- */

/* Answer to FLEET_DO_EXPAND: the items of a for_each; estimates may be NULL. */
extern bool fleet_engine_items(FleetEngine *engine, uint32_t run, uint32_t task, uint32_t count,
                               const FleetTime *estimates, FleetTime now);
/* The same in a restart: items whose "carried" is true have succeeded already; no decision speaks of
 * them. */
extern bool fleet_engine_items_again(FleetEngine *engine, uint32_t run, uint32_t task,
                                     uint32_t count, const FleetTime *estimates,
                                     const bool *carried, FleetTime now);
/* The query of the for_each failed: the task fails. */
extern bool fleet_engine_items_failed(FleetEngine *engine, uint32_t run, uint32_t task,
                                      FleetTime now);
/* Answer to FLEET_DO_CONDITION. */
extern bool fleet_engine_condition(FleetEngine *engine, uint32_t run, uint32_t edge, bool holds,
                                   FleetTime now);

/* Is the answer to FLEET_DO_CONDITION of this edge waited for?  Not any more if what comes before it is
 * started once more (fleet_engine_retry). */
extern bool fleet_engine_asks(const FleetEngine *engine, uint32_t run, uint32_t edge);

/* The other side has it.  attempt: a late answer of an older attempt is refused. */
extern bool fleet_engine_accepted(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt,
                                  FleetTime now);
/*
 * It ended: FLEET_SUCCEEDED, FLEET_FAILED, FLEET_CANCELED, FLEET_UNKNOWN or
 * FLEET_LOST (the server came back without it).  sqlstate may be NULL.
 */
extern bool fleet_engine_finished(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt,
                                  FleetState outcome, const char *sqlstate, FleetTime now);
/*
 * Its work is done but for a COMMIT that goes out now, on a session that takes
 * the next piece of work only behind it: the slot is free from here on.  The
 * end is still to come.  Throttle, timeout and the server's loss are as before.
 */
extern bool fleet_engine_leaving(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt);
/*
 * It surely never started there (could not connect before sending, refused):
 * goes back to the queue with the next attempt number, and to another member
 * of its target if there is one.  Does not use up a retry.  Placed again in the
 * next turn: a driver whose only server refuses for the moment (no connection,
 * no worker left) sets it 'suspect' first, or keeps the task 'starting' and
 * sends again later.
 */
extern bool fleet_engine_not_started(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt,
                                     FleetTime now);
/*
 * Fails a task run whatever non-final state it is in (a role gone, a mapping
 * gone, a job that does not exist): no retry.
 */
extern bool fleet_engine_fail(FleetEngine *engine, FleetTaskRef ref, const char *sqlstate,
                              FleetTime now);

/* Cancel a whole run, but for its final tasks: waiting ones are canceled at once, started ones get
 * FLEET_DO_CANCEL. */
extern bool fleet_engine_cancel_run(FleetEngine *engine, uint32_t run, FleetTime now);
/* The final tasks too, of a run that is being canceled. */
extern bool fleet_engine_cancel_final(FleetEngine *engine, uint32_t run, FleetTime now);

/* ---- what is asked of a run that goes on (steer.c): durable before it is told ---- */

/*
 * The task run is to be left out: skipped as soon as its constraints hold and it waits, also for a
 * retry; for what follows it has succeeded, and an item counts as good.  False: it is final, or a
 * for_each of which the items are known.
 */
extern bool fleet_engine_skip(FleetEngine *engine, FleetTaskRef ref, FleetTime now);
/* Between run_add and run_loaded, after the items: such a request, whatever became of it. */
extern void fleet_engine_load_skip(FleetEngine *engine, FleetTaskRef ref);
/*
 * A task run that ended failed, lost, unknown or canceled is queued again, for one more attempt (and
 * the retries that it has left): item 0 of a for_each stands for all items that ended so.  Tasks that
 * were skipped because of its end are undecided again; what has begun stays as it is.  False: there is
 * nothing of that kind, or it is one item of a for_each that stops at the first failure, or all tasks
 * but the final ones have ended, and it is not one of those.
 */
extern bool fleet_engine_retry(FleetEngine *engine, FleetTaskRef ref, FleetTime now);
/* While a run is paused nothing of it is started, expanded or begun; all else goes on.  At any time,
 * between run_add and run_loaded too. */
extern void fleet_engine_pause(FleetEngine *engine, uint32_t run, bool paused, FleetTime now);

/* ---- decisions ---- */

typedef enum FleetDecisionKind
{
    FLEET_DO_START,     /* commit "starting" on "server" with "attempt"; then send */
    FLEET_DO_CANCEL,    /* commit "canceling"; then send, and again until confirmed.  Once for each
                           attempt, and once more after a recovery */
    FLEET_DO_EXPAND,    /* run the for_each query of "task", answer with items */
    FLEET_DO_CONDITION, /* evaluate the condition of "edge" (into "task"), answer with condition */
    FLEET_DO_STATE,     /* the task run is now in "state" (running, retrying until "at", queued
                           again, or final): write it.  Item 0 of a for_each task is the task
                           as a whole */
    FLEET_DO_CATCH,     /* "ref", a new item of a handler, is there, queued: for the end of "cause",
                           whose state, attempt and server these are */
    FLEET_DO_RUN,       /* the run as a whole is now in "state" (running, canceling, final) */
    FLEET_DO_REPLACE, /* the run is to be canceled, since run "edge" takes its place: write that; the
                           FLEET_DO_RUN that says so follows */
} FleetDecisionKind;

typedef struct FleetDecision
{
    FleetDecisionKind kind;
    FleetState state;
    FleetTaskRef ref;
    FleetTaskRef cause; /* FLEET_DO_CATCH only */
    uint32_t server;
    uint32_t edge;
    uint16_t attempt;
    uint16_t failures; /* store it, FleetLoad wants it back */
    FleetTime at;
} FleetDecision;

/* Decisions of a run come in order.  With a "slice" those of a run of which very many task runs changed
 * come over several turns: fleet_engine_wakeup() is 0 until all are told. */
extern void fleet_engine_turn(FleetEngine *engine, FleetTime now);
extern bool fleet_engine_next(FleetEngine *engine, FleetDecision *decision);
/* When must fleet_engine_turn() be called again though nothing happened?  FLEET_NEVER: not. */
extern FleetTime fleet_engine_wakeup(const FleetEngine *engine);

/* For drivers and tests. */
extern FleetState fleet_engine_task_state(const FleetEngine *engine, FleetTaskRef ref);
extern uint16_t fleet_engine_task_attempt(const FleetEngine *engine, FleetTaskRef ref);
/* When nothing that comes before it was left to wait for; of an item: that of its whole. */
extern FleetTime fleet_engine_task_ready(const FleetEngine *engine, FleetTaskRef ref);
extern uint32_t fleet_engine_task_server(const FleetEngine *engine, FleetTaskRef ref);
/* Decisions of it wait for the next turn (FleetEngineConfig.slice): its rows are behind. */
extern bool fleet_engine_run_behind(const FleetEngine *engine, uint32_t run);
/* Bytes allocated, the placer's with them. */
extern size_t fleet_engine_memory(const FleetEngine *engine);

/*
 * How a run ends: canceled if a cancel was accepted, or failed if it was out of its time, and something
 * was stopped or kept from starting by it; else failed if a task ended failed, lost or
 * unknown and no failure or completion edge leaves it ("nobody handles it"; in
 * a strict run every such end counts), or was stopped on its server without any cancel from here; else succeeded.
 *
 * Retries: failed, unknown and (only with on_lost = retry) lost attempts are
 * tried again while the task has retries left and the SQLSTATE is one that is
 * retried; canceled ones never.
 */

#endif
