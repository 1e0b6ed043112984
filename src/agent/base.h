/*
 * agent/base.h
 *     What every file of the agent stands on: memory, results, work that may
 *     raise, derived uuids, requests to executors, and the turn of the loop.
 *     In the agent's process only; needs no other file of this folder but
 *     state.h's types.
 *
 * The turn: no other file sets a flag of the loop.  Whoever makes something
 * happen that this turn will not look at any more asks for another one.
 */
#ifndef FLEET_AGENT_BASE_H
#define FLEET_AGENT_BASE_H

#include "postgres.h"

#include "utils/hsearch.h"

#include "clock.h"
#include "core/core.h"
#include "diagnostics.h"

/* Makes what is below, and agent.context, agent.turn_context, agent.random.  Once. */
extern void agent_base_init(void);

/* ---- memory ---- */

extern FleetAlloc agent_alloc(MemoryContext context);            /* for the core */
extern char *agent_strdup(MemoryContext context, const char *s); /* NULL stays NULL */
/* A table in agent.context.  flags: HASH_BLOBS or HASH_STRINGS; the key is the entry's first field. */
extern HTAB *agent_table(const char *name, Size key, Size entry, int flags);

/* ---- results ---- */

/* What a step, task run or job run brought back.  Texts palloc'd in the owner's context. */
typedef struct AgentResult
{
    int64 row_count; /* -1: none */
    FleetDiagnostics diag;
    char *output;
} AgentResult;

extern void agent_result_clear(AgentResult *result); /* frees the texts; no rows */
/* What it was before is freed; the new texts are copied into the owner's context. */
extern void agent_result_set(AgentResult *result, MemoryContext context, int64 row_count,
                             const FleetDiagnostics *diag, const char *output);

/* ---- uuids ---- */

/* First 16 bytes of sha256 of the text, as a uuid; uuid: 37 bytes. */
extern void agent_uuid_of(char *uuid, const char *text);

/* ---- work that may raise ---- */

/*
 * Runs it in a subtransaction; false: it raised, the reason is in *failure
 * (palloc'd in the context of the call), and what it did to the catalog is
 * undone.  What it did in memory is the caller's to undo.  Errors that are the
 * server's and not the object's (a full disk, a full lock table, a shutdown, a
 * deadlock, read-only mode) are raised again: they end the agent, and its
 * successor does the same work again.
 */
extern bool agent_protected(void (*function)(void *arg), void *arg, FleetDiagnostics *failure);
/* Is it an error of the server's?  It says nothing of the object that was worked on. */
extern bool agent_is_of_the_server(int sqlerrcode);
/* The same of an error that is at hand, which says more than its code. */
extern bool agent_error_is_of_the_server(const ErrorData *error);

/* ---- requests: a number for each, by which its owner is found when the answer comes ---- */

typedef enum AgentRequestKind
{
    REQUEST_LOCAL_JOB, /* owner: LocalJob */
    REQUEST_QUERY,     /* AgentQuery */
    REQUEST_DEPLOY,    /* Deployment */
    REQUEST_SCHEDULE,  /* AgentSchedule */
    REQUEST_HOOK,      /* AgentHook */
} AgentRequestKind;

typedef struct AgentRequest
{
    uint64 ref; /* hash key; never used twice */
    AgentRequestKind kind;
    void *owner;
} AgentRequest;

extern uint64 agent_request_new(AgentRequestKind kind, void *owner);
extern AgentRequest *agent_request_find(uint64 ref); /* NULL: no owner waits for it any longer */
extern void agent_request_forget(uint64 ref);

/* ---- the turn ---- */

/* Another turn follows this one without waiting. */
extern void turn_again(void);
/* A turn comes at that time at the latest.  Holds until the next turn begins, which asks again. */
extern void turn_wake_at(FleetTime when);
/* Number of the present turn, counted from 1. */
extern uint64 turn_number(void);
/* True after the commit, while effects are carried out: everything decided so far is durable, so
 * what follows from it may be sent at once. */
extern bool turn_in_effects(void);

/* For the loop (main.c) and the end of the turn (flush.c). */
extern void turn_begin(void);
extern FleetTime turn_next(FleetTime next); /* when the next turn is due; 0: at once */
extern void turn_effects_begin(void);
extern void turn_effects_end(void);

#endif
