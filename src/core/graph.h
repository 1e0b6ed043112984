/*
 * core/graph.h
 *     The definition of a package as the core sees it: tasks and precedence
 *     constraints, checked and indexed once, then shared by all runs of it.
 */
#ifndef FLEET_CORE_GRAPH_H
#define FLEET_CORE_GRAPH_H

#include "core/core.h"

typedef enum FleetTaskKind
{
    FLEET_TASK_JOB,     /* an agent job on a server or group: takes a slot there */
    FLEET_TASK_SQL,     /* here: takes a slot of the local server */
    FLEET_TASK_PACKAGE, /* a nested package, here: takes no slot (its tasks do) */
} FleetTaskKind;

typedef enum FleetOutcome /* of an edge: when does it hold? */
{
    FLEET_ON_SUCCESS,    /* source succeeded */
    FLEET_ON_FAILURE,    /* source failed, lost or unknown */
    FLEET_ON_COMPLETION, /* either of both; never skipped or canceled */
} FleetOutcome;

typedef enum FleetJoin
{
    FLEET_JOIN_ALL, /* ready when every edge in holds; skipped when one cannot */
    FLEET_JOIN_ANY, /* ready when the first edge in holds; skipped when none can */
} FleetJoin;

typedef enum FleetCompletion /* of the items of a for_each */
{
    FLEET_FAIL_FAST,     /* first bad item: cancel the others, task failed */
    FLEET_CONTINUE,      /* run all; failed if any is bad */
    FLEET_MINIMUM_SHARE, /* run all; succeeded if at least min_share of them succeeded */
} FleetCompletion;

typedef enum FleetPolicy
{
    FLEET_SHORTEST_FINISH, /* the default */
    FLEET_ROUND_ROBIN,
    FLEET_LEAST_LOADED,
    FLEET_WEIGHTED,
} FleetPolicy;

typedef enum FleetOnLost
{
    FLEET_LOST_FAIL,  /* 'lost' is final (the default) */
    FLEET_LOST_RETRY, /* the task says it may be started again elsewhere */
} FleetOnLost;

/* Retry rule of a task or a step.  All spans in microseconds. */
typedef struct FleetRetry
{
    uint16_t retries;   /* further attempts after the first */
    FleetTime base;     /* wait before the first retry */
    FleetTime maximum;  /* cap of the doubling wait; 0: no cap */
    uint8_t jitter_pct; /* the wait is drawn from wait * [1 - j, 1 + j] */
    /*
     * SQLSTATEs that are retried: entries of two characters are classes, of
     * five are codes; "!" before an entry excludes it (and wins).  NULL or
     * empty: every SQLSTATE but classes 42 (syntax or access), 22 (data),
     * 23 (integrity), 0A and 28.  Not terminated strings longer than 6.
     */
    const char (*states)[8];
    int nstates;
} FleetRetry;

/* Would this SQLSTATE (five characters, NULL = unknown reason: yes) be retried? */
extern bool fleet_retry_matches(const FleetRetry *retry, const char *sqlstate);

/* Wait before retry number "attempt" (1 = first retry): base * 2^(attempt-1), capped, jittered. */
extern FleetTime fleet_retry_wait(const FleetRetry *retry, int attempt, FleetRandom *random);

#define FLEET_TASK_LIMITS 9 /* 8 that a task may name, and that of its role */

typedef struct FleetTaskSpec
{
    const char *name; /* for error texts; the graph keeps its own copy */
    FleetTaskKind kind;
    FleetJoin join;
    bool for_each;     /* items arrive later, by fleet_engine_items() */
    uint32_t throttle; /* at most so many items at the same time; 0: no limit */
    FleetCompletion completion;
    double min_share; /* 0 … 1, FLEET_MINIMUM_SHARE only */
    FleetPolicy policy;
    FleetOnLost on_lost;
    bool started_is_done; /* completion => 'started': fire and forget */
    bool left_out;   /* disabled, or not chosen: skipped in its turn, and what follows goes on */
    bool last;       /* "final": begins when all others have ended, whatever happened */
    bool handler;    /* "catch": executed once for each failure that no edge handles */
    uint32_t target; /* a target of the placer (set of servers); kind JOB only */
    FleetRetry retry;
    FleetTime
        timeout; /* of one attempt; 0: none (the core then cancels it and calls it failed, 57014) */
    FleetTime estimate; /* predicted duration at speed 1, of one item */
    uint32_t nlimits;   /* named limits (engine.h); of kind PACKAGE none counts */
    uint64_t limits[FLEET_TASK_LIMITS];
} FleetTaskSpec;

typedef struct FleetEdgeSpec
{
    uint32_t from, to; /* indexes into the tasks */
    FleetOutcome on;
    bool conditional; /* needs fleet_engine_condition() once the source's outcome matches */
} FleetEdgeSpec;

typedef struct FleetGraph FleetGraph;

/*
 * Checks and indexes a definition; copies everything.  NULL with *error set
 * for: a cycle (the message names its path: «a → b → a»), an edge to itself,
 * a duplicate edge (same from, to), an index out of range,
 * min_share outside 0 … 1, an edge between a final and another task, an edge of a
 * handler, a handler that is final or has a for_each.
 * Of a handler, throttle 0 is 1, and it has no FLEET_FAIL_FAST.
 */
extern FleetGraph *fleet_graph_create(const FleetAlloc *alloc, const FleetTaskSpec *tasks,
                                      uint32_t ntasks, const FleetEdgeSpec *edges, uint32_t nedges,
                                      FleetError *error);
extern void fleet_graph_free(FleetGraph *graph);
extern uint32_t fleet_graph_ntasks(const FleetGraph *graph);
extern uint32_t fleet_graph_nedges(const FleetGraph *graph);
extern const FleetTaskSpec *fleet_graph_task(const FleetGraph *graph, uint32_t task);
extern const FleetEdgeSpec *fleet_graph_edge(const FleetGraph *graph, uint32_t edge);
/* An estimate as the core keeps it: not negative, and small enough to be added up. */
extern FleetTime fleet_estimate_limit(FleetTime estimate);
/* Edge numbers that leave / enter a task. */
extern const uint32_t *fleet_graph_out(const FleetGraph *graph, uint32_t task, uint32_t *count);
extern const uint32_t *fleet_graph_in(const FleetGraph *graph, uint32_t task, uint32_t *count);
/* Tasks in topological order. */
extern const uint32_t *fleet_graph_order(const FleetGraph *graph);
/* Critical path from the start of this task to the end of the package, by the estimates. */
extern FleetTime fleet_graph_tail(const FleetGraph *graph, uint32_t task);

#endif
