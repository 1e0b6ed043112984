/*
 * agent/base.c
 *     What every file of the agent stands on.  In the agent's process.
 */
#include "postgres.h"

#include "access/xact.h"
#include "agent/base.h"
#include "hand.h"
#include "agent/state.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "store/spi.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

Agent agent;

static ResourceOwner resource_owner; /* for what needs one outside of transactions */
static HTAB *requests;               /* AgentRequest */
static uint64 last_ref;

static struct
{
    uint64 number;
    bool again;
    bool in_effects;
    FleetTime wake_at;
} the_turn = {.wake_at = FLEET_NEVER};

void
agent_base_init(void)
{
    uint64 seed;

    agent.context =
        AllocSetContextCreate(TopMemoryContext, "pg_fleet agent", ALLOCSET_DEFAULT_SIZES);
    agent.turn_context =
        AllocSetContextCreate(agent.context, "pg_fleet turn", ALLOCSET_DEFAULT_SIZES);
    resource_owner = ResourceOwnerCreate(NULL, "pg_fleet agent");
    requests = agent_table("pg_fleet requests", sizeof(uint64), sizeof(AgentRequest), HASH_BLOBS);
    if (!pg_strong_random(&seed, sizeof(seed)))
        seed = (uint64) fleet_clock_now();
    fleet_random_seed(&agent.random, seed);
}

/* ---- memory ---- */

static void *
alloc_resize(void *context, void *ptr, size_t old_size, size_t new_size)
{
    if (new_size == 0)
    {
        if (ptr != NULL)
            pfree(ptr);
        return NULL;
    }
    if (ptr == NULL)
        return MemoryContextAllocHuge(context, new_size);
    return repalloc_huge(ptr, new_size);
}

FleetAlloc
agent_alloc(MemoryContext context)
{
    FleetAlloc alloc = {alloc_resize, context};

    return alloc;
}

char *
agent_strdup(MemoryContext context, const char *s)
{
    return s == NULL ? NULL : MemoryContextStrdup(context, s);
}

HTAB *
agent_table(const char *name, Size key, Size entry, int flags)
{
    HASHCTL ctl = {.keysize = key, .entrysize = entry, .hcxt = agent.context};

    return hash_create(name, 256, &ctl, HASH_ELEM | HASH_CONTEXT | flags);
}

/* ---- results ---- */

void
agent_result_clear(AgentResult *result)
{
    fleet_diagnostics_free(&result->diag);
    if (result->output != NULL)
        pfree(result->output);
    result->output = NULL;
    result->row_count = -1;
}

void
agent_result_set(AgentResult *result, MemoryContext context, int64 row_count,
                 const FleetDiagnostics *diag, const char *output)
{
    agent_result_clear(result);
    result->row_count = row_count;
    fleet_diagnostics_copy(&result->diag, diag, context);
    result->output = agent_strdup(context, output);
}

/* ---- uuids ---- */

void
agent_uuid_of(char *uuid, const char *text)
{
    uint8 digest[PG_SHA256_DIGEST_LENGTH];
    const char *utf8 = fleet_text_utf8(text); /* as content_hash() does */
    ResourceOwner owner = CurrentResourceOwner;
    pg_cryptohash_ctx *context;

    if (owner == NULL) /* outside of a transaction */
        CurrentResourceOwner = resource_owner;
    context = pg_cryptohash_create(PG_SHA256);
    if (context == NULL || pg_cryptohash_init(context) < 0 ||
        pg_cryptohash_update(context, (const uint8 *) utf8, strlen(utf8)) < 0 ||
        pg_cryptohash_final(context, digest, sizeof(digest)) < 0)
        elog(ERROR, "could not compute SHA-256 hash");
    pg_cryptohash_free(context);
    CurrentResourceOwner = owner;
    fleet_text_from_uuid(digest, uuid);
    if (utf8 != text)
        pfree(unconstify(char *, utf8));
}

/* ---- work that may raise ---- */

bool
agent_error_is_of_the_server(const ErrorData *error)
{
    /* The lock table is everybody's, and anybody may fill it. */
    if (error->message_id != NULL && strcmp(error->message_id, "out of shared memory") == 0)
        return true;
    return agent_is_of_the_server(error->sqlerrcode);
}

bool
agent_is_of_the_server(int sqlerrcode)
{
    if (sqlerrcode == ERRCODE_OUT_OF_MEMORY) /* of what was too large, more likely */
        return false;
    switch (ERRCODE_TO_CATEGORY(sqlerrcode))
    {
        case ERRCODE_INSUFFICIENT_RESOURCES:
        case ERRCODE_OPERATOR_INTERVENTION:
        case ERRCODE_SYSTEM_ERROR:
        case ERRCODE_TRANSACTION_ROLLBACK: return true;
    }
    return sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ||
           sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
}

bool
agent_protected(void (*function)(void *arg), void *arg, FleetDiagnostics *failure)
{
    MemoryContext context = CurrentMemoryContext;
    FleetHand hand = fleet_hand;
    ResourceOwner owner;
    volatile bool ok = true;

    fleet_catalog_begin();
    owner = CurrentResourceOwner;
    BeginInternalSubTransaction(NULL);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        function(arg);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        ErrorData *error;

        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        if (agent_error_is_of_the_server(error))
            ReThrowError(error);
        fleet_diagnostics_of_error(failure, error);
        ok = false;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    fleet_hand = hand;
    return ok;
}

/* ---- requests ---- */

uint64
agent_request_new(AgentRequestKind kind, void *owner)
{
    uint64 ref = ++last_ref;
    AgentRequest *request = hash_search(requests, &ref, HASH_ENTER, NULL);

    request->kind = kind;
    request->owner = owner;
    return ref;
}

AgentRequest *
agent_request_find(uint64 ref)
{
    return hash_search(requests, &ref, HASH_FIND, NULL);
}

void
agent_request_forget(uint64 ref)
{
    hash_search(requests, &ref, HASH_REMOVE, NULL);
}

/* ---- the turn ---- */

void
turn_begin(void)
{
    the_turn.number++;
    the_turn.again = false;
    the_turn.wake_at = FLEET_NEVER;
}

FleetTime
turn_next(FleetTime next)
{
    return the_turn.again ? 0 : Min(next, the_turn.wake_at);
}

void
turn_again(void)
{
    the_turn.again = true;
}

void
turn_wake_at(FleetTime when)
{
    the_turn.wake_at = Min(the_turn.wake_at, when);
}

uint64
turn_number(void)
{
    return the_turn.number;
}

bool
turn_in_effects(void)
{
    return the_turn.in_effects;
}

void
turn_effects_begin(void)
{
    the_turn.in_effects = true;
}

void
turn_effects_end(void)
{
    the_turn.in_effects = false;
}
