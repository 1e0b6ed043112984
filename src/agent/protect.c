/*
 * agent/protect.c
 *     Work for one object (a run, a nested start, a job run, a for_each) in a
 *     subtransaction of its own, so that what it raises is that object's
 *     failure and nobody else's.  In the agent's process.
 *
 * Errors that are the server's and not the object's (a full disk, a shutdown,
 * a deadlock, read-only mode) go on to the caller: they end the agent, and its
 * successor does the same work again.
 */
#include "postgres.h"

#include "access/xact.h"
#include "agent/agent.h"
#include "store/spi.h"
#include "utils/memutils.h"

static bool
is_of_the_server(int sqlerrcode)
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

void
agent_failure_set(AgentFailure *failure, const char *sqlstate, const char *message)
{
    memset(failure, 0, sizeof(*failure));
    strlcpy(failure->sqlstate, sqlstate, sizeof(failure->sqlstate));
    failure->message = pstrdup(message);
}

static void
failure_take(AgentFailure *failure, const ErrorData *error)
{
    agent_failure_set(failure, unpack_sql_state(error->sqlerrcode),
                      error->message != NULL ? error->message : "unknown error");
    failure->detail = error->detail;
    failure->hint = error->hint;
}

bool
agent_protected(void (*function)(void *arg), void *arg, AgentFailure *failure)
{
    MemoryContext context = CurrentMemoryContext;
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
        if (is_of_the_server(error->sqlerrcode))
            ReThrowError(error);
        failure_take(failure, error);
        ok = false;
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return ok;
}
