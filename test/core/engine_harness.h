/*
 * engine_harness.h
 *     A tiny driver of the engine for the unit tests: one engine, one clock,
 *     and the list of the decisions of the latest turn.
 *
 * All functions are static: each test program has its own copy.
 */
#ifndef ENGINE_HARNESS_H
#define ENGINE_HARNESS_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine/engine.h"

#define HARNESS_TASKS 16

typedef struct Harness
{
    FleetEngine *engine;
    FleetGraph *graph;
    FleetTaskSpec tasks[HARNESS_TASKS];
    uint32_t ntasks;
    FleetEdgeSpec edges[64];
    uint32_t nedges;
    FleetEngineConfig config;
    FleetTime now;
    uint32_t run;
    FleetDecision *log; /* of the latest turn */
    uint32_t nlog, log_capacity;
} Harness;

static inline void
harness_server(Harness *h, uint32_t server, FleetServerState state, uint32_t slots)
{
    FleetServerSpec spec = {state, slots, 1.0, 1.0};

    fleet_engine_server(h->engine, server, &spec, h->now);
}

/* Two servers of two slots in target 0; target 1 is server 1 alone. */
static inline void
harness_engine(Harness *h)
{
    static const uint32_t both[] = {0, 1};

    h->engine = fleet_engine_create(&fleet_malloc_alloc, &h->config, 42);
    harness_server(h, 0, FLEET_SERVER_ONLINE, 2);
    harness_server(h, 1, FLEET_SERVER_ONLINE, 2);
    fleet_placer_target(fleet_engine_placer(h->engine), 0, both, 2);
    fleet_placer_target(fleet_engine_placer(h->engine), 1, both + 1, 1);
}

static inline Harness *
harness_new(void)
{
    Harness *h = calloc(1, sizeof(Harness));

    h->config = (FleetEngineConfig){.lost_after = FLEET_SECONDS(10), .local_server = 0};
    h->now = 1000;
    harness_engine(h);
    return h;
}

static inline FleetTaskSpec *
harness_task(Harness *h, const char *name)
{
    FleetTaskSpec *task = &h->tasks[h->ntasks++];

    task->name = name;
    task->estimate = FLEET_SECONDS(1);
    return task;
}

static inline uint32_t
harness_edge(Harness *h, uint32_t from, uint32_t to, FleetOutcome on)
{
    h->edges[h->nedges] = (FleetEdgeSpec){from, to, on, false};
    return h->nedges++;
}

static inline void
harness_graph(Harness *h)
{
    FleetError error;

    h->graph =
        fleet_graph_create(&fleet_malloc_alloc, h->tasks, h->ntasks, h->edges, h->nedges, &error);
    assert_non_null(h->graph);
}

static inline void
harness_drain(Harness *h)
{
    FleetDecision decision;

    while (fleet_engine_next(h->engine, &decision))
    {
        fleet_alloc_grow(&fleet_malloc_alloc, (void **) &h->log, &h->log_capacity, h->nlog + 1,
                         sizeof(FleetDecision));
        h->log[h->nlog++] = decision;
    }
}

static inline void
harness_turn(Harness *h)
{
    h->nlog = 0;
    fleet_engine_turn(h->engine, h->now);
    harness_drain(h);
}

static inline void
harness_run(Harness *h)
{
    if (h->graph == NULL)
        harness_graph(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 77, h->now);
    harness_turn(h);
}

/* A restart: the old engine is gone, the run is to be loaded by the test. */
static inline void
harness_restart(Harness *h)
{
    fleet_engine_free(h->engine);
    h->nlog = 0;
    harness_engine(h);
    h->run = fleet_engine_run_add(h->engine, h->graph, 0, 77, h->now);
}

static inline void
harness_free(Harness *h)
{
    fleet_engine_free(h->engine);
    fleet_graph_free(h->graph);
    free(h->log);
    free(h);
}

static inline FleetTaskRef
ref_of(const Harness *h, uint32_t task, uint32_t item)
{
    return (FleetTaskRef){h->run, task, item};
}

static inline const FleetDecision *
found(const Harness *h, FleetDecisionKind kind, uint32_t task, uint32_t item)
{
    for (uint32_t i = 0; i < h->nlog; i++)
    {
        const FleetDecision *d = &h->log[i];

        if (d->kind == kind && d->ref.task == task && d->ref.item == item)
            return d;
    }
    return NULL;
}

static inline uint32_t
counted(const Harness *h, FleetDecisionKind kind)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < h->nlog; i++)
        n += h->log[i].kind == kind ? 1 : 0;
    return n;
}

static inline FleetState
state_of(const Harness *h, uint32_t task, uint32_t item)
{
    return fleet_engine_task_state(h->engine, ref_of(h, task, item));
}

static inline bool
accept(Harness *h, uint32_t task, uint32_t item)
{
    FleetTaskRef ref = ref_of(h, task, item);

    return fleet_engine_accepted(h->engine, ref, fleet_engine_task_attempt(h->engine, ref), h->now);
}

static inline bool
finish_with(Harness *h, uint32_t task, uint32_t item, FleetState outcome, const char *sqlstate)
{
    FleetTaskRef ref = ref_of(h, task, item);

    return fleet_engine_finished(h->engine, ref, fleet_engine_task_attempt(h->engine, ref), outcome,
                                 sqlstate, h->now);
}

static inline void
finish(Harness *h, uint32_t task, uint32_t item, FleetState outcome)
{
    assert_true(finish_with(h, task, item, outcome, NULL));
    harness_turn(h);
}

static inline FleetState
run_state(const Harness *h)
{
    return fleet_engine_run_state(h->engine, h->run);
}

static inline void
load(Harness *h, uint32_t task, uint32_t item, FleetState state, uint16_t attempt, uint32_t server)
{
    FleetLoad what = {.ref = ref_of(h, task, item),
                      .state = state,
                      .attempt = attempt,
                      .server = server,
                      .since = h->now,
                      .retry_at = h->now};

    fleet_engine_load(h->engine, &what);
}

static inline void
loaded(Harness *h, bool canceling)
{
    fleet_engine_run_loaded(h->engine, h->run, canceling, h->now);
    h->nlog = 0;
    harness_drain(h);
}

#endif
