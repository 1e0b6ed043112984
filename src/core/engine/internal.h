/*
 * core/engine/internal.h
 *     What the files of the engine share; no other file includes it.
 *
 *   engine.c        runs: begin, edges, end, cancel; turn
 *   runs.c   which run begins next
 *   limits.c  when a run may begin: its time, the runs of its key; its timeout
 *   named.c  named limits of tasks: so many that are active at a time
 *   numbered.c  what is found by its number
 *   unit.c   one task run: start, stop, retry, end; servers and timers
 *   items.c  for_each: items, throttle, completion policy
 *   load.c   recovery from durable state
 *   steer.c  what an operator asks of a run: skip, retry, pause
 *   parts.c  what is not the main part of a run: handlers and final tasks
 *   queue.c  decisions on their way out, timers, tickets: the containers
 *
 * A *unit* is one task run: a task without for_each, a task with for_each as
 * a whole (item 0), or one of its items.  A unit is small, since there may be
 * a million; what only some have lives elsewhere: a *ticket* while the placer
 * knows it, a *live* record while it is started or waits for a retry.
 */
#ifndef FLEET_CORE_ENGINE_INTERNAL_H
#define FLEET_CORE_ENGINE_INTERNAL_H

#include "core/engine/engine.h"

/* Flags of a unit */
#define UNIT_READY 0x01     /* its constraints held (tasks, not items) */
#define UNIT_TIMED_OUT 0x02 /* being stopped because of its timeout */
#define UNIT_UNSENT 0x04    /* its FLEET_DO_START is still in the queue */
#define UNIT_CHANGED 0x08   /* a sweep in the queue will tell its state */
#define UNIT_BACKLOG 0x10   /* waits in its for_each for the throttle */
#define UNIT_AVOID 0x20     /* not to "server" again while another one is usable */
#define UNIT_UNCOUNTED 0x40 /* its items count instead of it */
#define UNIT_PASSED 0x80    /* final without having run: carried over, or left out in its turn */
#define UNIT_LEFT_OUT 0x100 /* to be skipped in its turn, by request */
#define UNIT_REOPENED 0x200 /* while a retry looks at what follows: its edges in count anew */
#define UNIT_HOLDS 0x400    /* a place of each of its named limits */

typedef struct Unit
{
    FleetTime estimate; /* of an item; 0: the task's */
    uint32_t ref;       /* queued: ticket; started or retrying: live record; 0: none */
    uint32_t server;    /* where it was placed last */
    uint16_t attempt;
    uint16_t failures;
    uint8_t state; /* FleetState */
    uint16_t flags;
} Unit;

typedef struct Task
{
    Unit unit;
    uint32_t pending; /* edges in that are not resolved */
    uint32_t each;    /* for_each: index + 1 of its Each */
    FleetTime ready;  /* when it became so last; 0: never */
} Task;

typedef struct Each
{
    uint32_t task;
    bool asked;    /* FLEET_DO_EXPAND went out */
    bool known;    /* the items are here */
    bool stopping; /* fail fast, failed or canceled: nothing more starts */
    bool failed;   /* the driver failed it as a whole */
    uint32_t count, capacity;
    Unit *items;
    uint32_t open, good;         /* not final; succeeded */
    uint32_t canceled;           /* rest of the final ones: bad */
    uint32_t admitted, throttle; /* with the placer or started; 0: no limit */
    uint32_t *backlog;           /* heap of item indexes, longest first */
    uint32_t nbacklog, backlog_capacity;
} Each;

typedef enum EdgeState
{
    EDGE_OPEN,
    EDGE_ASKED, /* FLEET_DO_CONDITION went out */
    EDGE_HOLDS,
    EDGE_CANNOT,
} EdgeState;

typedef enum Part
{
    PART_MAIN,
    PART_HANDLERS,
    PART_LAST, /* final tasks */
    PARTS
} Part;

/* What runs share limits by. */
enum
{
    KEY_PACKAGE,
    KEY_ROLE,
    KEYS
};

typedef struct Run
{
    uint32_t id;
    int32_t priority;
    uint64_t tag;
    uint64_t seq; /* order of arrival, never used again */
    const FleetGraph *graph;
    FleetState state;
    bool loading;
    bool load_running; /* durable state: the run has begun */
    bool cancel;
    bool cancel_last; /* … and its final tasks too */
    bool last_begun;  /* its final tasks */
    bool strict;      /* a failure that an edge handles counts too */
    bool loaded;      /* from its rows */
    bool nested;
    bool active; /* counts among the active ones */
    bool paused; /* nothing new of it starts */
    bool held;   /* a sweep of it goes on in the next turn: its decisions are held */
    bool early;  /* queued: its time has not come */
    bool replaces;
    bool timed_out;
    bool in_keys;           /* it is one of those of its keys that run */
    struct Key *keys[KEYS]; /* NULL: none */
    struct Key *parked;     /* queued, and this one of its keys has no room; NULL: not so */
    uint64_t order;
    FleetTime timeout; /* 0: none */
    FleetTime since;   /* loaded: when it began */
    uint32_t heap;     /* position + 1 among the timers: of its begin, then of its timeout */
    uint32_t ntasks, nedges, neaches;
    Task *tasks;
    uint8_t *edges; /* EdgeState */
    Each *eaches;   /* those of handlers first */
    uint32_t nhandlers;
    uint32_t open[PARTS]; /* tasks that are not final */
    uint32_t canceled;    /* tasks that ended so */
    FleetRunCounts counts;
} Run;

typedef struct Live
{
    FleetTime due; /* of its timeout or retry; FLEET_NEVER */
    FleetTaskRef ref;
    uint32_t ticket;     /* 0: takes no slot */
    uint32_t server;     /* in whose list it is, or FLEET_NO_SERVER */
    uint32_t next, prev; /* on the same server; next also links the free ones */
    uint32_t heap;       /* position + 1 among the timers */
} Live;

typedef struct Server
{
    uint32_t first; /* live records of what is started there */
    uint32_t heap;
    FleetTime suspect_since; /* FLEET_NEVER: it answers */
} Server;

typedef struct Timer
{
    FleetTime due;
    uint32_t who; /* live record, or server with TIMER_SERVER, or run with TIMER_RUN */
} Timer;

#define TIMER_SERVER UINT32_C(0x80000000)
#define TIMER_RUN UINT32_C(0x40000000)

typedef struct WaitingRun
{
    uint32_t run;
    int32_t priority;
    uint64_t seq;
    uint64_t order;
} WaitingRun;

typedef struct WaitingRuns
{
    WaitingRun *heap; /* by priority, then order */
    uint32_t n, capacity;
} WaitingRuns;

/* What is found by its number: structs that begin with this (numbered.c). */
typedef struct Numbered
{
    uint64_t number;
} Numbered;

typedef struct NumberedArray
{
    Numbered **items; /* by number */
    uint32_t n, capacity;
} NumberedArray;

/* What runs share a limit: those of one package, or of one role. */
typedef struct Key
{
    Numbered numbered;
    uint32_t limit;     /* 0: none */
    uint32_t users;     /* runs */
    uint32_t active;    /* … that run; each until the driver has written its end */
    WaitingRuns parked; /* … that found no room */
} Key;

typedef struct NamedFlow
{
    uint32_t flow;
    int32_t priority;
    uint64_t stamp;     /* when it had its turn last */
    WaitingRuns parked; /* tickets */
} NamedFlow;

/* What waits of one limit for one target of the placer. */
typedef struct NamedTarget
{
    uint32_t target;
    uint32_t candidates; /* the placer knows them */
    uint32_t came;       /* by priority, since one came by age */
    NamedFlow *flows;    /* what is parked */
    uint32_t nflows, flow_capacity;
} NamedTarget;

/* A named limit (named.c). */
typedef struct Named
{
    Numbered numbered;
    uint32_t most; /* UINT32_MAX: no limit */
    uint32_t held;
    bool changed; /* there may be room for others */
    NamedTarget *targets;
    uint32_t ntargets, target_capacity;
} Named;

/* A ticket that has limits, and waits. */
typedef struct Wait
{
    uint64_t order; /* 0: not any more */
    uint64_t limit; /* with which it is parked */
    uint32_t target;
    uint16_t refused;
    bool candidate; /* the placer knows it */
} Wait;

struct FleetEngine
{
    FleetAlloc base;  /* as given */
    FleetAlloc alloc; /* counts the bytes */
    size_t bytes;
    FleetEngineConfig config;
    FleetRandom random;
    FleetPlacer *placer;
    bool local_target_made;

    Run **runs;
    uint32_t nruns, runs_capacity;
    uint32_t *free_runs; /* handles */
    uint32_t nfree_runs, free_runs_capacity;
    uint64_t seq;
    uint32_t active;

    WaitingRuns waiting;
    WaitingRun *fifo; /* the same in order, for fairness; from fifo_head */
    uint32_t fifo_head, nfifo, fifo_capacity;
    uint32_t passed;    /* runs that overtook the head of the fifo */
    WaitingRun *nested; /* these begin at once */
    uint32_t nnested, nested_capacity;
    WaitingRun *replacing; /* they have come, and cancel others of their key */
    uint32_t nreplacing, replacing_capacity;
    NumberedArray keys;
    bool room; /* a run may begin now that was parked: in the next turn */

    NumberedArray named;
    bool named_changed;
    Wait *waits; /* by ticket */
    uint32_t waits_capacity;
    uint64_t wait_order;
    uint32_t reserved; /* ticket for which places are kept; 0: none */

    FleetTaskRef *tickets; /* [0] unused; free ones are linked by .run */
    uint32_t ntickets, tickets_capacity, free_ticket;
    Live *lives;
    uint32_t nlives, lives_capacity, free_live;
    Server *servers;
    uint32_t nservers, servers_capacity;
    Timer *timers;
    uint32_t ntimers, timers_capacity;

    FleetDecision *queue; /* ring */
    uint32_t queue_head, queue_count, queue_capacity;
    FleetDecision *held; /* of runs that are "held", in order */
    uint32_t nheld, held_capacity;
    uint32_t swept; /* told of sweeps in this turn */

    uint32_t *settled; /* stack of tasks whose edges are to be resolved */
    uint32_t nsettled, settled_capacity;
};

/* ---- queue.c ---- */
extern FleetDecision *fleet_eng_push(FleetEngine *engine, FleetDecisionKind kind, FleetTaskRef ref);
extern FleetDecision *fleet_eng_tell(FleetEngine *engine, FleetDecisionKind kind, FleetTaskRef ref,
                                     const Unit *unit);
extern void fleet_eng_tell_run(FleetEngine *engine, const Run *run);
extern void fleet_eng_sweep(FleetEngine *engine, const Run *run, uint32_t task, uint32_t end);
extern void fleet_eng_purge(FleetEngine *engine, uint32_t run);
extern void fleet_eng_release_held(FleetEngine *engine);
extern void fleet_eng_timer_set(FleetEngine *engine, uint32_t who, FleetTime due);
extern uint32_t fleet_eng_ticket_new(FleetEngine *engine, FleetTaskRef ref);
extern void fleet_eng_ticket_free(FleetEngine *engine, uint32_t ticket);
extern uint32_t fleet_eng_live_new(FleetEngine *engine, FleetTaskRef ref);
extern void fleet_eng_live_free(FleetEngine *engine, uint32_t live);

/* ---- engine.c ---- */
extern Run *fleet_eng_run(const FleetEngine *engine, uint32_t run);
extern Unit *fleet_eng_unit(const Run *run, FleetTaskRef ref);
extern void fleet_eng_begin(FleetEngine *engine, Run *run, FleetTime now);
extern bool fleet_eng_run_event(Run *run, FleetEvent event);
extern void fleet_eng_motion(FleetEngine *engine, Run *run, FleetTime now);
extern void fleet_eng_cancel_queued(FleetEngine *engine, Run *run);
extern void fleet_eng_task_settled(FleetEngine *engine, Run *run, uint32_t task);
extern void fleet_eng_note_end(Run *run, uint32_t task);
extern bool fleet_eng_is_undecided(const Task *task);
extern void fleet_eng_make_ready(FleetEngine *engine, Run *run, uint32_t task, FleetTime now);
extern void fleet_eng_resolve_edge(FleetEngine *engine, Run *run, uint32_t edge, FleetTime now);
extern void fleet_eng_propagate(FleetEngine *engine, Run *run, FleetTime now);
extern void fleet_eng_cancel_tasks(FleetEngine *engine, Run *run, FleetTime now);
extern bool fleet_eng_is_bad(FleetState state);
extern bool fleet_eng_edge_matches(const Run *run, uint32_t edge);

/* ---- parts.c ---- */
extern Part fleet_eng_part(const Run *run, uint32_t task);
extern bool fleet_eng_canceled(const Run *run, uint32_t task);
extern void fleet_eng_caught(FleetEngine *engine, Run *run, FleetTaskRef ref, const Unit *unit,
                             FleetTime now);
extern void fleet_eng_begin_part(FleetEngine *engine, Run *run, bool last, FleetTime now);
extern bool fleet_eng_next_part(FleetEngine *engine, Run *run, FleetTime now);
extern bool fleet_eng_end_is_handled(const Run *run, uint32_t task);

/* ---- runs.c ---- */
extern void fleet_eng_wait(FleetEngine *engine, const Run *run);
extern Run *fleet_eng_next_run(FleetEngine *engine);
extern Run *fleet_eng_still_waiting(const FleetEngine *engine, const WaitingRun *entry);
extern void fleet_eng_runs_push(FleetEngine *engine, WaitingRuns *runs, WaitingRun entry);
extern WaitingRun fleet_eng_runs_pop(WaitingRuns *runs);

/* ---- limits.c ---- */
extern bool fleet_eng_parks(FleetEngine *engine, Run *run);
extern void fleet_eng_key_room(FleetEngine *engine, const Run *run);
extern void fleet_eng_key_leave(FleetEngine *engine, Run *run);
extern void fleet_eng_keys_free(FleetEngine *engine);
extern void fleet_eng_begun(FleetEngine *engine, Run *run, FleetTime now);
extern void fleet_eng_over(FleetEngine *engine, Run *run);
extern void fleet_eng_replace(FleetEngine *engine, FleetTime now);
extern void fleet_eng_run_due(FleetEngine *engine, uint32_t run, FleetTime now);

/* ---- numbered.c ---- */

extern void *fleet_eng_numbered_find(const NumberedArray *array, uint64_t number); /* or NULL */
/* One that is not there yet, of this size, all else zero.  Whoever removes it frees it. */
extern void *fleet_eng_numbered_add(FleetEngine *engine, NumberedArray *array, uint64_t number,
                                    size_t size);
extern void fleet_eng_numbered_remove(NumberedArray *array, uint64_t number);   /* it is there */
extern void fleet_eng_numbered_free(FleetEngine *engine, NumberedArray *array); /* not the items */

/* ---- named.c ---- */
extern void fleet_eng_named_admit(FleetEngine *engine, uint32_t ticket, uint32_t target,
                                  FleetTime now);
extern void fleet_eng_named_refill(FleetEngine *engine, FleetTime now);
extern bool fleet_eng_named_take(FleetEngine *engine, uint32_t ticket);
extern bool fleet_eng_named_again(FleetEngine *engine);
extern void fleet_eng_named_hold(FleetEngine *engine, const FleetTaskSpec *spec, Unit *unit);
extern void fleet_eng_named_leave(FleetEngine *engine, const FleetTaskSpec *spec, Unit *unit);
extern void fleet_eng_named_free(FleetEngine *engine);

/* ---- unit.c ---- */
extern uint32_t fleet_eng_flow(FleetTaskRef ref);
extern bool fleet_eng_event(Run *run, Unit *unit, FleetEvent event);
extern void fleet_eng_count(Run *run, const Unit *unit, int32_t by);
extern void fleet_eng_uncount(Run *run, Unit *unit);
extern void fleet_eng_ticket_spec(FleetEngine *engine, const Run *run, uint32_t task,
                                  const Unit *unit, FleetTicket *spec);
extern void fleet_eng_admit(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit,
                            FleetTime now);
extern void fleet_eng_start(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit,
                            uint32_t ticket, uint32_t server);
extern void fleet_eng_detach(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit);
extern void fleet_eng_join_server(FleetEngine *engine, uint32_t live, uint32_t server);
extern void fleet_eng_settle(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit,
                             FleetEvent event, FleetTime now);
extern bool fleet_eng_cancel_unit(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit);
extern void fleet_eng_fire_timers(FleetEngine *engine, FleetTime now);

/* ---- items.c ---- */
extern Each *fleet_eng_each(const Run *run, uint32_t task);
extern bool fleet_eng_stopping(const Run *run, FleetTaskRef ref);
extern void fleet_eng_items_grow(FleetEngine *engine, Run *run, Each *each, uint32_t count,
                                 bool exact);
extern void fleet_eng_items_begin(FleetEngine *engine, Run *run, Each *each, FleetTime now);
extern void fleet_eng_item_queued(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit,
                                  FleetTime now);
extern uint32_t fleet_eng_item_add(FleetEngine *engine, Run *run, Each *each);
extern void fleet_eng_item_settled(FleetEngine *engine, Run *run, FleetTaskRef ref, FleetTime now);
extern void fleet_eng_items_admit(FleetEngine *engine, Run *run, Each *each, FleetTime now);
extern void fleet_eng_items_finish(FleetEngine *engine, Run *run, Each *each, FleetTime now);
extern void fleet_eng_items_stop(FleetEngine *engine, Run *run, Each *each, FleetTime now);
extern void fleet_eng_items_free(FleetEngine *engine, Each *each);
extern void fleet_eng_items_again(FleetEngine *engine, Run *run, Each *each, FleetTime now);

extern bool fleet_eng_skip_waiting(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit,
                                   FleetTime now);

#endif
