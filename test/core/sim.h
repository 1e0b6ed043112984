/*
 * sim.h
 *     The random-fault simulator of the core: what all of its files share.
 *
 * One case is a SimCase (packages, servers, faults: drawn from a seed by
 * sim_generator.c, made smaller by sim_shrink.c) played by sim_run() on
 * virtual time.  The core decides; everything else is here:
 *
 *   sim_world.c      the clock, the queue of events, names, a case from begin to end
 *   sim_adversary.c  servers and faults
 *   sim_net.c        connections: delay, cut, late delivery on a dead connection
 *   sim_session.c    executors: what runs commands and owns transactions
 *   sim_job.c        drives job.h and exec.h (for child agents and the parent)
 *   sim_child.c      a server with an agent of its own
 *   sim_parent.c     the parent agent: links, inbox, what sessions ask of it
 *   sim_turn.c       … its turn: events to the engine, decisions from it
 *   sim_commit.c     … what the turn leaves: rows, then messages
 *   sim_recover.c    … how it begins again: after a crash, as a promoted copy
 *   sim_restart.c    … a run that restarts another one
 *   sim_steer.c      … what is asked of a run that goes on
 *   sim_limits.c     … when a run may begin, and must have ended
 *   sim_named.c      … limits that tasks name
 *   sim_catalog.c    the parent's durable rows
 *   sim_oracle.c     what must hold of tokens, effects, steps; written a second
 *                    time, slow and obvious, as are
 *   sim_decisions.c  what must hold of decisions
 *   sim_outcome.c    how a run must end
 *   sim_parts.c      when final tasks begin, for what handlers are executed
 *   sim_fairness.c   nobody starves
 *   sim_end.c        nobody is in limbo; a rebuilt engine equals the living one
 *   sim_main.c       workers, progress, replay
 *
 * Nothing here reads a clock or a random number that the seed did not give.
 */
#ifndef FLEET_SIM_H
#define FLEET_SIM_H

#include "core/core.h"
#include "core/engine/engine.h"
#include "core/exec.h"
#include "core/graph.h"
#include "core/job.h"
#include "core/placement/placement.h"
#include "core/state.h"

#include "sim_bugs.h"

#define SIM_NONE UINT32_MAX
#define SIM_SERVERS 6 /* as the engine numbers them; 0 is the parent's own */
#define SIM_PARENTS 3 /* the first one and what is promoted after it */
#define SIM_NODES (SIM_SERVERS + SIM_PARENTS)
#define SIM_STEPS 4
#define SIM_PACKAGES 4
#define SIM_TARGETS 10
#define SIM_ROOTS 3
#define SIM_NAMED 3

/* ---- a case ---- */

typedef struct SimStep
{
    bool not_transactional; /* what it is */
    bool marked;            /* … and that its owner said so */
    uint8_t fail_pct;
    FleetTime duration;
} SimStep;

typedef struct SimTask
{
    FleetTaskSpec spec;
    uint16_t nsteps;
    FleetStepSpec steps[SIM_STEPS];
    SimStep nature[SIM_STEPS];
    uint32_t items;
    bool items_fail;
    bool items_estimated;
    uint8_t package; /* kind PACKAGE */
} SimTask;

typedef struct SimPackage
{
    SimTask *tasks;
    uint32_t ntasks;
    FleetEdgeSpec *edges;
    uint32_t nedges;
    uint32_t limit;    /* so many of its runs at a time; 0: any number */
    bool replaces;     /* a new one takes the place of the others */
    FleetTime timeout; /* of its runs; 0: none */
} SimPackage;

typedef enum SimMode
{
    SIM_LOCAL,
    SIM_AGENT,
    SIM_DIRECT,
} SimMode;

typedef struct SimServerSpec
{
    SimMode mode;
    uint32_t slots;
    double speed;
    double weight;
} SimServerSpec;

typedef enum SimFaultKind
{
    FAULT_CUT,          /* the connections to a server, control link too */
    FAULT_CUT_SESSION,  /* one executor's connection, or kill -9 of a runner */
    FAULT_PARTITION,    /* black hole for a time */
    FAULT_KILL_PARENT,  /* the parent's agent */
    FAULT_CRASH_PARENT, /* the parent's whole server */
    FAULT_KILL_AGENT,   /* a child's agent */
    FAULT_CRASH_SERVER,
    FAULT_SNAPSHOT_SERVER, /* a standby has replayed up to here … */
    FAULT_FAILOVER_SERVER, /* … and is promoted */
    FAULT_SNAPSHOT_PARENT,
    FAULT_PROMOTE_PARENT, /* the old one is stopped, and wakes up later */
    FAULT_ADMIN,          /* server state, slots */
    FAULT_CANCEL_RUN,
    FAULT_CANCEL_FINAL, /* with its final tasks */
    FAULT_CHILD_CANCEL, /* a child's administrator cancels a job there */
    FAULT_SKIP,         /* what a session asks of a run: sim_steer.c */
    FAULT_RETRY,
    FAULT_PAUSE,
    FAULT_RESUME,
    FAULT_LIMIT, /* of a package: sim_limits.c */
    FAULT_KINDS
} SimFaultKind;

typedef struct SimFault
{
    FleetTime at;
    FleetTime span;
    uint8_t kind;
    uint8_t server;
    uint8_t root;
    uint8_t state; /* FAULT_ADMIN: FleetServerState */
    uint32_t slots;
} SimFault;

typedef struct SimRoot
{
    FleetTime at;
    FleetTime wait; /* from then on, before it may begin */
    int32_t priority;
    uint8_t package;
} SimRoot;

typedef struct SimCase
{
    uint64_t seed;
    SimPackage packages[SIM_PACKAGES];
    uint32_t npackages;
    SimServerSpec servers[SIM_SERVERS];
    uint32_t nservers;
    uint32_t targets[SIM_TARGETS][SIM_SERVERS];
    uint32_t target_sizes[SIM_TARGETS];
    uint32_t ntargets;
    SimRoot roots[SIM_ROOTS];
    uint32_t nroots;
    SimFault *faults;
    uint32_t nfaults;
    FleetTime heal_at; /* no fault after it: everything must end */
    FleetTime lost_after;
    FleetTime latency;
    uint32_t crash_ppm;  /* at every boundary between two effects */
    uint32_t slow_pct;   /* messages that take long */
    uint32_t refuse_pct; /* starts that surely were not sent */
    uint32_t blind_pct;  /* reconnects that send again without asking */
    uint32_t commit_fail_pct;
    uint32_t too_old_pct;  /* pg_xact_status() has forgotten */
    uint32_t volatile_pct; /* a condition or item query answers otherwise the next time */
    uint32_t restart_pct;  /* a run that ended badly is restarted */
    uint32_t
        named[SIM_NAMED]; /* so many task runs at a time that name this limit; 0: it is not used */
    uint32_t max_active_runs;
    uint32_t slice, crowd; /* as in FleetEngineConfig */
    bool strict;           /* failed_if "any", of all packages */
    bool crowded;          /* so many items that somebody could starve */
} SimCase;

/* ---- messages, connections, sessions ---- */

typedef enum SimMsgKind
{
    MSG_HELLO,    /* parent → server */
    MSG_HELLO_OK, /* server → parent */
    MSG_REFUSED,  /* lower epoch */
    MSG_START,
    MSG_STARTED,
    MSG_QUERY,
    MSG_STATUS,
    MSG_CANCEL,
    MSG_RESULT,
    MSG_ACK,
    MSG_XACT, /* pg_xact_status() */
    MSG_XACT_IS,
    MSG_COMMAND, /* owner → executor */
    MSG_COMMIT,
    MSG_STOP,
    MSG_XID, /* executor → owner */
    MSG_COMMITTED,
    MSG_ERROR,
    MSG_CANCELED,
    MSG_NOT_TRANSACTIONAL,
} SimMsgKind;

typedef struct SimMsg
{
    uint8_t kind;
    uint8_t state;
    uint8_t has;
    uint8_t sqlstate; /* index into sim_sqlstates; 0: none */
    uint32_t aid;
    uint32_t serial;
    uint32_t timeline;
    uint64_t xid;
    uint64_t epoch;
} SimMsg;

typedef enum SimOwnerKind
{
    OWNER_PARENT,
    OWNER_AGENT,
} SimOwnerKind;

typedef struct SimOwner
{
    uint8_t kind;
    uint8_t index; /* parent number, or node */
} SimOwner;

typedef struct SimConn
{
    SimOwner owner;
    uint32_t node;
    bool link; /* a parent's control link; else one executor */
    bool client_done, server_done;
    FleetTime client_until, server_until; /* what arrives later than that is lost */
    FleetTime last_client, last_server;   /* order holds within one connection */
    /* the executor behind it (link: unused) */
    uint8_t session; /* SimSessionState */
    bool transactional;
    bool stop;
    uint32_t aid, serial, job;
    uint64_t xid;
} SimConn;

typedef enum SimSessionState
{
    SESSION_IDLE,
    SESSION_BUSY,
    SESSION_PREPARED,
} SimSessionState;

/* ---- job runs, wherever they are durable ---- */

typedef struct SimJob
{
    uint32_t aid;
    uint32_t serial;       /* of the current step run */
    uint32_t xid_timeline; /* identity of the server that gave the xid */
    FleetJobRun run;
    FleetExec exec;
    bool cancel_asked;
    bool acked;
    bool dead; /* given up: lost, or surely not started */
    bool gone; /* planted bug: forgotten */
    uint8_t sqlstate;
} SimJob;

typedef struct SimVolatileJob
{
    FleetExec exec;
    uint32_t conn;
    uint32_t timeline;
    uint8_t sqlstate;
    bool want_begin; /* waits for the link */
    bool resolving;
} SimVolatileJob;

typedef struct SimEffect
{
    uint32_t aid, serial;
} SimEffect;

/* What a server's database holds.  Plain data: a standby is a copy of it. */
typedef struct SimDb
{
    SimJob *jobs;
    uint32_t njobs, cap_jobs;
    SimEffect *effects;
    uint32_t neffects, cap_effects;
    uint8_t *xacts; /* by xid: 0 in progress, 1 committed, 2 aborted */
    uint32_t nxacts, cap_xacts;
    uint64_t seen_epoch;
    uint32_t timeline;
} SimDb;

typedef struct SimNode /* one server */
{
    SimMode mode;
    uint32_t server; /* the engine's number of it */
    double speed;
    bool up;
    bool agent_up;
    bool shadow; /* a database that the surviving world does not see */
    uint32_t agent_gen, up_gen;
    bool ever_failed_over;
    FleetTime partitioned_until;
    SimDb db;
    SimDb standby;
    bool has_standby;
    SimVolatileJob *vjobs;
    uint32_t cap_vjobs;
    uint32_t link; /* the control connection of the parent that said hello last */
    uint64_t true_epoch;
} SimNode;

/* ---- the parent ---- */

typedef struct SimRow
{
    uint8_t state;
    bool written;
    bool leaving; /* volatile: its slot is free, only its COMMIT is under way */
    uint8_t sqlstate;
    uint16_t attempt;
    uint16_t failures;
    uint32_t server; /* where it was placed */
    uint32_t at;     /* where its token is (a promoted parent may find it elsewhere) */
    uint32_t aid;
    uint32_t job;       /* run by the parent itself */
    uint32_t sub;       /* run of a nested package */
    uint32_t continues; /* nested run of an earlier run that it restarts; SIM_NONE */
    bool carried;
    bool skip;        /* it is to be skipped */
    bool skip_told;   /* volatile: … and the engine knows */
    bool skip_late;   /* volatile: … since it began */
    bool retry_asked; /* … started once more */
    FleetTime since, retry_at, estimate;
    uint32_t avoid; /* server + 1 where the last attempt surely did not start */
    uint32_t shy; /* server + 1 that it may avoid: it was lost there, or an agent restarted since */
    uint32_t passed;             /* starts on its servers since it waits */
    uint64_t patience;           /* … of which so many are allowed */
    uint32_t handler, execution; /* an execution of a handler: task + 1, and its number; 0: none */
    uint32_t cause;              /* … and the row that failed */
    uint32_t caught;             /* failures of it that each handler is to be executed for … */
    uint32_t perhaps;            /* … or may be, since a cancel came at the same time */
} SimRow;

typedef struct SimRun
{
    uint32_t rid;
    uint8_t package;
    uint8_t state;
    bool cancel;      /* durably accepted */
    bool cancel_last; /* … of the final tasks too */
    bool last_told;   /* volatile: … and the engine knows */
    bool began;
    bool child_cancel; /* some child was stopped over there */
    int32_t priority;
    uint32_t owner_run, owner_row, owner_aid; /* SIM_NONE: a root */
    SimRow *rows;
    uint32_t nrows, cap_rows;
    uint32_t *base, *count; /* of the items of each task; count SIM_NONE: not expanded */
    int8_t *condition;      /* 0 not asked, 1 false, 2 true, 3 failed */
    uint32_t *question;     /* volatile, by edge: answers to earlier ones are nobody's business */
    int8_t *items_failed;
    uint32_t restart_of; /* SIM_NONE */
    bool count_unknown;  /* what was lost or unknown there has succeeded */
    bool counted;        /* … or in one before it: what came after its failure has run */
    bool paused;         /* by a session */
    uint8_t pause_told;  /* volatile: what the engine was told, of the runs that it is part of
                            too; 2: in an earlier turn */
    bool reopening;      /* volatile: a retry was taken in this turn */
    bool retried;        /* what has begun may have begun for an outcome that is no longer */
    uint32_t *items_of;  /* by task: run + 1 whose items it takes over; 0: its query is asked */
    FleetTime due;       /* when it was asked for, or was to begin */
    FleetTime not_before;
    FleetTime began_at; /* 0: not yet */
    bool timed_out;
    bool replaced;
} SimRun;

typedef struct SimCatalog
{
    SimRun *runs;
    uint32_t nruns, cap_runs;
    SimJob *jobs;
    uint32_t njobs, cap_jobs;
    uint32_t starts; /* agent start counter */
    uint32_t timeline;
    uint8_t admin[SIM_SERVERS];
    uint32_t slots[SIM_SERVERS];
    uint32_t limits[SIM_PACKAGES];
    uint32_t discover; /* bit a server: not asked yet since the promotion */
} SimCatalog;

typedef enum SimInboxKind
{
    IN_NEW_RUN,
    IN_CANCEL,
    IN_ITEMS,
    IN_CONDITION,
    IN_ACCEPTED,
    IN_FINISHED,
    IN_NOT_STARTED,
    IN_STATUS,
    IN_LEAVING,
    IN_SERVER,
    IN_SUB_ENDED,
    IN_SKIP,
    IN_RETRY,
    IN_PAUSE,
    IN_LIMIT,
} SimInboxKind;

typedef struct SimInbox
{
    uint8_t kind;
    uint8_t state;
    uint8_t sqlstate;
    uint8_t has;
    uint32_t run, row, value, aid, server;
} SimInbox;

typedef struct SimLink
{
    bool up; /* hello was answered */
    uint32_t conn;
    FleetTime silent_since;
} SimLink;

typedef struct SimVolatileRun
{
    uint32_t handle;
    bool loaded;
    uint32_t *sent; /* by row: the connection that the start went out on */
    uint32_t cap_sent;
} SimVolatileRun;

typedef struct SimParent
{
    bool exists, up, fenced, turning, turn_due;
    uint32_t gen;
    FleetTime frozen_until, turn_at;
    uint64_t epoch;
    uint32_t node; /* its own server */
    SimCatalog catalog;
    SimCatalog standby;
    uint32_t standby_effects, standby_xacts;
    bool has_standby;
    FleetEngine *engine;
    SimVolatileRun *vruns;
    uint32_t cap_vruns;
    SimVolatileJob *vjobs;
    uint32_t cap_vjobs;
    SimLink links[SIM_SERVERS];
    uint8_t known[SIM_SERVERS]; /* FleetServerState as the engine was told */
    FleetTime last_answer[SIM_SERVERS];
    uint32_t limits_told[SIM_PACKAGES]; /* what the engine knows of the catalog's */
    SimInbox *inbox;
    uint32_t ninbox, cap_inbox;
    FleetDecision *batch;
    uint32_t nbatch, cap_batch;
    uint32_t *found; /* by attempt: server + 1 on which a promoted parent found its token */
    uint32_t cap_found;
} SimParent;

/* ---- ground truth ---- */

typedef struct SimStepTruth
{
    uint16_t step, attempt;
    uint8_t ever, now; /* effects that were committed, and those that a failover left */
    uint8_t reported;  /* final state of the step run, as stored; 0: none */
    uint8_t sqlstate;
    bool timed_out;
} SimStepTruth;

typedef struct SimAttempt
{
    uint64_t key;
    uint32_t rid, task, item;
    uint16_t attempt;
    uint8_t package;
    uint8_t mode;
    uint32_t job_on; /* bit a server: inserted there */
    uint8_t inserts[SIM_SERVERS];
    uint32_t outcomes; /* bit a final state that some catalog held */
    bool not_started;  /* declared so */
    bool child_canceled;
    SimStepTruth *steps; /* 1 … */
    uint32_t nsteps, cap_steps;
} SimAttempt;

typedef struct SimRunId
{
    uint64_t key;
    uint8_t package;
} SimRunId;

/* ---- events ---- */

typedef enum SimEventKind
{
    EV_TURN,
    EV_PARENT_START,
    EV_CONNECT,
    EV_CONNECTED,
    EV_TO_SERVER,
    EV_TO_CLIENT,
    EV_CLIENT_CLOSED,
    EV_SERVER_CLOSED,
    EV_SESSION,
    EV_SERVER_START,
    EV_AGENT_START,
    EV_AGENT_POKE,
    EV_JOB_TIMER,
    EV_RESOLVE,
    EV_ITEMS,
    EV_CONDITION,
    EV_ROOT,
    EV_RESTART,
    EV_FAULT,
    EV_HEAL,
} SimEventKind;

typedef struct SimEvent
{
    uint8_t kind;
    uint32_t a, b, c, gen;
    SimMsg msg;
} SimEvent;

typedef struct SimHeapEntry
{
    FleetTime at;
    uint64_t order;
    uint32_t slot;
} SimHeapEntry;

typedef struct SimStats
{
    uint64_t cases, events, starts, effects, crashes, promotions, failovers, lost, unknown, resends,
        refused, cancels, task_runs;
} SimStats;

typedef struct Sim
{
    const SimCase *c;
    FleetGraph *graphs[SIM_PACKAGES];
    FleetTime now;
    FleetRandom random;
    bool healed;
    bool trace;
    bool promoted; /* a stale copy of the parent took over */
    bool failed;
    char why[600];
    SimStats *stats;

    SimHeapEntry *heap;
    uint32_t nheap, cap_heap;
    SimEvent *pool;
    uint32_t npool, cap_pool;
    uint32_t *unused;
    uint32_t nunused, cap_unused;
    uint64_t order, handled;

    SimConn *conns;
    uint32_t nconns, cap_conns;
    SimNode nodes[SIM_NODES];
    SimParent parents[SIM_PARENTS];
    uint32_t nparents, primary;
    uint32_t roots_pending;

    SimAttempt *attempts;
    uint32_t nattempts, cap_attempts;
    uint32_t *attempt_index;
    uint32_t attempt_index_size;
    SimRunId *rids;
    uint32_t nrids, cap_rids;
} Sim;

extern const char *const sim_sqlstates[];
extern const uint32_t sim_nsqlstates;

static inline SimOwner
parent_owner(uint32_t parent)
{
    return (SimOwner){OWNER_PARENT, (uint8_t) parent};
}

/* Does a task run in this state hold its slot? */
static inline bool
sim_active(uint8_t state)
{
    return state == FLEET_STARTING || state == FLEET_RUNNING || state == FLEET_CANCELING;
}

/* sim_memory.c */
extern void *sim_alloc(size_t size);
extern void sim_arena_reset(void);
extern void sim_grow_to(void **array, uint32_t *cap, uint32_t need, size_t element);
#define SIM_GROW(array, cap, need, element)                                                        \
    do                                                                                             \
    {                                                                                              \
        if ((need) > (cap))                                                                        \
            sim_grow_to((void **) &(array), &(cap), (need), (element));                            \
    } while (0)
extern const FleetAlloc sim_core_alloc;
extern size_t sim_core_bytes(void);
extern void sim_core_forget(void);
extern const char *sim_core_misuse(void);

/* sim_world.c */
extern bool sim_run(const SimCase *c, bool trace, SimStats *stats, char *why, size_t size);
extern void sim_fail(Sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void sim_say(Sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define TRACE(s, ...)                                                                              \
    do                                                                                             \
    {                                                                                              \
        if ((s)->trace)                                                                            \
            sim_say((s), __VA_ARGS__);                                                             \
    } while (0)
extern SimEvent *sim_at(Sim *s, FleetTime at, SimEventKind kind, uint32_t a, uint32_t b,
                        uint32_t gen);
extern FleetTime sim_span(Sim *s, FleetTime low, FleetTime high);
extern bool sim_pct(Sim *s, uint32_t pct);
extern bool sim_boundary(Sim *s, SimOwner owner);
extern bool sim_owner_up(Sim *s, SimOwner owner);
extern uint64_t sim_mix(uint64_t a, uint64_t b);
extern uint32_t sim_attempt(Sim *s, uint32_t rid, uint32_t task, uint32_t item, uint16_t attempt,
                            uint8_t package, uint8_t mode);
extern uint32_t sim_rid(Sim *s, uint64_t key, uint8_t package);
extern const SimTask *sim_task_of(Sim *s, uint32_t aid);
extern void sim_copy_db(SimDb *to, const SimDb *from);
extern void sim_crash_node(Sim *s, uint32_t node, FleetTime down);

extern bool sim_listed(const SimCase *c, uint32_t target, uint32_t server);

/* sim_adversary.c */
extern void sim_start_node(Sim *s, uint32_t node);
extern void sim_fault(Sim *s, const SimFault *f);
extern void sim_heal(Sim *s);

/* sim_net.c */
extern uint32_t conn_open(Sim *s, SimOwner owner, uint32_t node, bool link);
extern void conn_to_server(Sim *s, uint32_t conn, const SimMsg *msg);
extern void conn_to_client(Sim *s, uint32_t conn, const SimMsg *msg, FleetTime after);
extern void conn_cut(Sim *s, uint32_t conn, FleetTime worst);
extern void conn_client_dies(Sim *s, uint32_t conn);
extern void conn_server_dies(Sim *s, uint32_t conn);
extern bool conn_client_open(Sim *s, uint32_t conn);
extern void conn_deliver_server(Sim *s, uint32_t conn, const SimMsg *msg);
extern void conn_deliver_client(Sim *s, uint32_t conn, const SimMsg *msg);
extern void conn_client_closed(Sim *s, uint32_t conn);
extern void conn_server_closed(Sim *s, uint32_t conn);

/* sim_session.c */
extern void session_message(Sim *s, uint32_t conn, const SimMsg *msg);
extern void session_done(Sim *s, uint32_t conn);
extern void session_end(Sim *s, uint32_t conn, bool crash);
extern FleetExecEvent session_xact_status(Sim *s, uint32_t node, uint64_t xid, uint32_t timeline,
                                          bool *in_progress);

/* sim_job.c */
extern SimJob *job_of(Sim *s, SimOwner owner, uint32_t job);
extern SimVolatileJob *job_volatile(Sim *s, SimOwner owner, uint32_t job);
extern void job_drive(Sim *s, SimOwner owner, uint32_t job, FleetJobEvent event, FleetState outcome,
                      uint8_t sqlstate);
extern void job_exec(Sim *s, SimOwner owner, uint32_t job, FleetExecEvent event);
extern void job_message(Sim *s, SimOwner owner, uint32_t conn, const SimMsg *msg);
extern void job_cut(Sim *s, SimOwner owner, uint32_t conn);
extern void job_resolve(Sim *s, SimOwner owner, uint32_t job);
extern void job_resolved(Sim *s, SimOwner owner, uint32_t job, FleetExecEvent event,
                         bool in_progress);
extern void job_timer(Sim *s, SimOwner owner, uint32_t job);
extern void job_recover(Sim *s, SimOwner owner, uint32_t njobs);
extern void job_init(SimJob *job, uint32_t aid);
extern void job_abandon(Sim *s, SimOwner owner, uint32_t job);
extern bool job_final(const SimJob *job);

/* sim_child.c */
extern void child_message(Sim *s, uint32_t conn, const SimMsg *msg);
extern void child_agent_start(Sim *s, uint32_t node);
extern void child_agent_poke(Sim *s, uint32_t node);
extern void child_agent_die(Sim *s, uint32_t node, FleetTime down);
extern void child_job_finished(Sim *s, uint32_t node, uint32_t job);
extern void child_admin_cancel(Sim *s, uint32_t node);

/* sim_catalog.c */
extern void catalog_copy(SimCatalog *to, const SimCatalog *from, const SimCase *c);
extern uint32_t catalog_new_run(Sim *s, SimCatalog *catalog, uint8_t package, uint32_t rid,
                                int32_t priority);
extern uint32_t catalog_row(const SimRun *run, uint32_t task, uint32_t item);
extern void catalog_row_place(const SimRun *run, const SimPackage *package, uint32_t row,
                              uint32_t *task, uint32_t *item);
extern void catalog_expand(SimRun *run, uint32_t task, uint32_t count);
extern bool catalog_find(Sim *s, SimParent *p, uint32_t aid, uint32_t *run, uint32_t *row);
extern void catalog_cancel(Sim *s, SimCatalog *catalog, uint32_t run, bool last);
extern uint32_t catalog_add_execution(SimRun *run, uint32_t task, uint32_t cause);
extern uint32_t catalog_new_job(SimCatalog *catalog, uint32_t aid);

/* sim_restart.c */
extern void catalog_restart(Sim *s, SimCatalog *catalog, uint32_t index, uint32_t number,
                            const bool *chosen, bool count_unknown);
extern bool *restart_chosen(const Sim *s, uint8_t package);
extern const SimRun *restart_items(const SimCatalog *catalog, const SimRun *run, uint32_t task);
extern bool *restart_carried(const SimCatalog *catalog, const SimRun *run, uint32_t task);
extern void restart_expanded(const SimCatalog *catalog, SimRun *run, uint32_t task);
extern void restart_load(Sim *s, FleetEngine *engine, uint32_t handle, const SimRun *run);
extern void parent_restart(Sim *s, uint32_t number);
extern void restart_later(Sim *s, uint32_t number);

/* sim_limits.c */
extern void limits_new_run(Sim *s, SimRun *run, FleetTime wait);
extern void limits_change(Sim *s, uint32_t number);
extern void limits_tell(Sim *s, const SimCatalog *catalog, FleetEngine *engine, uint32_t handle,
                        uint32_t number);
extern void limits_feed(Sim *s, uint32_t parent, uint32_t package);
extern void limits_decision(Sim *s, SimParent *p, uint32_t number, const FleetDecision *d);
extern void oracle_limits(Sim *s, SimParent *p);

/* sim_named.c */
extern void named_tell(const SimCase *c, FleetEngine *engine);
extern bool named_shared(const FleetTaskSpec *a, const FleetTaskSpec *b);
extern void oracle_named(Sim *s, SimParent *p);

/* sim_steer.c */
extern void steer_skip(Sim *s, uint32_t root, uint32_t number);
extern void steer_retry(Sim *s, uint32_t root, uint32_t number);
extern void steer_pause(Sim *s, uint32_t root, bool paused);
extern bool steer_paused(const SimCatalog *catalog, uint32_t run);
extern void steer_feed(Sim *s, uint32_t parent, SimInbox *in);
extern void steer_feed_pause(Sim *s, uint32_t parent);
extern void steer_commit(Sim *s, uint32_t parent, const SimInbox *in);
extern bool steer_allows(const SimRun *run, const SimTask *task, uint32_t item, const SimRow *was,
                         const FleetDecision *d);
extern void steer_reopened(Sim *s, SimRun *run, uint32_t task);
extern void steer_recover(Sim *s, uint32_t parent);
extern void steer_load(Sim *s, const SimCatalog *catalog, FleetEngine *engine, uint32_t handle,
                       uint32_t number);

/* sim_parent.c */
extern void parent_start(Sim *s, uint32_t parent);
extern void parent_die(Sim *s, uint32_t parent, FleetTime down);
extern void parent_turn(Sim *s, uint32_t parent);
extern void parent_turn_soon(Sim *s, uint32_t parent, FleetTime at);
extern void parent_put(Sim *s, uint32_t parent, const SimInbox *in);
extern void parent_put_attempt(Sim *s, uint32_t parent, SimInboxKind kind, uint32_t aid,
                               FleetState state);
extern void parent_commit(Sim *s, uint32_t parent, uint32_t fed);
extern bool parent_effects(Sim *s, uint32_t parent, uint32_t fed);
extern void parent_connect(Sim *s, uint32_t parent, uint32_t server);
extern void parent_connected(Sim *s, uint32_t parent, uint32_t server, uint32_t conn);
extern void parent_link_message(Sim *s, uint32_t conn, const SimMsg *msg);
extern void parent_link_down(Sim *s, uint32_t parent, uint32_t conn);
extern void parent_job_finished(Sim *s, uint32_t parent, uint32_t job);
extern void parent_job_accepted(Sim *s, uint32_t parent, uint32_t job);
extern void parent_root(Sim *s, uint32_t root);
extern void parent_cancel_root(Sim *s, uint32_t root, bool last);
extern void parent_admin(Sim *s, uint32_t server, FleetServerState state, uint32_t slots);
extern void parent_items(Sim *s, uint32_t parent, uint32_t run, uint32_t task);
extern void parent_condition(Sim *s, uint32_t parent, uint32_t run, uint32_t edge,
                             uint32_t question);
extern bool parent_all_final(const SimParent *p);
extern void parent_promote(Sim *s, FleetTime frozen);
extern void parent_snapshot(Sim *s);

/* sim_recover.c */
extern void parent_build_engine(Sim *s, uint32_t parent);
extern FleetEngine *parent_load_engine(Sim *s, uint32_t parent, uint32_t *handles);
extern void parent_set_server(Sim *s, uint32_t parent, FleetEngine *engine, uint32_t server);

/* sim_oracle.c, sim_decisions.c, sim_end.c */
extern bool oracle_beyond(const Sim *s, const SimAttempt *a);
extern bool oracle_retryable(const FleetRetry *retry, const char *sqlstate);
extern void oracle_insert(Sim *s, uint32_t node, uint32_t aid, uint64_t epoch);
extern void oracle_effect(Sim *s, uint32_t node, uint32_t aid, uint32_t serial);
extern void oracle_step_begins(Sim *s, uint32_t aid, uint32_t serial, const SimJob *job);
extern void oracle_step_ended(Sim *s, uint32_t aid, uint32_t serial, FleetState outcome,
                              uint8_t sqlstate, bool timed_out, const SimJob *job);
extern void oracle_job_ended(Sim *s, uint32_t aid, const SimJob *job);
extern void oracle_row_change(Sim *s, SimParent *p, const SimRun *run, uint32_t task, uint32_t item,
                              const SimRow *was, const FleetDecision *d);
extern void oracle_run_change(Sim *s, const SimRun *run, FleetState to);
extern void oracle_question(Sim *s, const SimRun *run, const FleetDecision *d);
extern void oracle_batch(Sim *s, SimParent *p);
extern void oracle_sent(Sim *s, SimParent *p, uint32_t aid);
extern void oracle_reload(Sim *s, uint32_t parent);
extern void oracle_end(Sim *s);

/* sim_parts.c */
extern bool parts_cancel_reaches(const Sim *s, const SimRun *run, uint32_t task);
extern bool parts_reach_nested(const Sim *s, const SimCatalog *catalog, uint32_t nested);
extern void parts_failed(Sim *s, SimRun *run, uint32_t row, const FleetDecision *d);
extern void parts_caught(Sim *s, SimRun *run, const FleetDecision *d);
extern bool parts_waits(const Sim *s, const SimRun *run, uint32_t task);
extern void parts_begins(Sim *s, const SimRun *run, uint32_t task);
extern void parts_end(Sim *s, const SimRun *run);

/* sim_outcome.c, sim_fairness.c */
extern bool outcome_handled(const SimPackage *package, uint32_t task);
extern int outcome_ready(const Sim *s, const SimRun *run, uint32_t task);
extern void oracle_starvation(Sim *s, SimParent *p);

/* sim_generator.c, sim_shrink.c */
extern void sim_generate(SimCase *c, uint64_t seed, uint32_t size_cap);
extern void sim_case_copy(SimCase *to, const SimCase *from);
extern void sim_case_free(SimCase *c);
extern void sim_case_print(const SimCase *c);
extern void sim_shrink(SimCase *c, bool (*fails)(const SimCase *c), unsigned tries);

#endif
