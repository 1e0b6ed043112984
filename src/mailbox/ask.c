/*
 * mailbox/ask.c
 *     A session asks the agent how a server takes a role, and gets the answer
 *     in the memory that both share: nothing of it is stored.  The first half
 *     is called in any session, the second one in the agent's process.
 *
 * An entry is the session's until it has its answer or gives up; whoever asks
 * for the same server and role meanwhile gets the same answer.  If the agent
 * ends, the next one is asked.
 */
#include "postgres.h"

#include "launcher/launcher.h"
#include "mailbox/internal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "store/session.h"

/* ---- sessions ---- */

static FleetAsk *
ask_add(FleetShared *shared, int server_id, Oid role)
{
    FleetAsk *found = NULL;
    PGPROC *agent;

    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < FLEET_MAX_ASKS && found == NULL; i++)
    {
        if (shared->asks[i].proc == NULL)
        {
            found = &shared->asks[i];
            memset(found, 0, sizeof(*found));
            found->proc = MyProc;
            found->server_id = server_id;
            found->role = role;
            shared->asks_used = Max(shared->asks_used, i + 1);
        }
    }
    agent = shared->agent;
    SpinLockRelease(&shared->mutex);
    if (found == NULL)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                        errmsg("too many sessions check servers of pg_fleet"),
                        errdetail("At most %d can do so at the same time.", FLEET_MAX_ASKS),
                        errhint("Look into fleet.server_status instead.")));
    if (agent != NULL)
        SetLatch(&agent->procLatch);
    return found;
}

static void
ask_remove(FleetShared *shared, FleetAsk *ask)
{
    ask->proc = NULL;
    while (shared->asks_used > 0 && shared->asks[shared->asks_used - 1].proc == NULL)
        shared->asks_used--;
}

static bool
ask_once(FleetShared *shared, int server_id, Oid role, FleetAnswer *answer)
{
    FleetAsk *ask = ask_add(shared, server_id, role);
    volatile bool answered = false;

    PG_TRY();
    {
        while (!ask->answered && shared->agent != NULL)
            fleet_session_sleep(FLEET_NEVER);
    }
    PG_FINALLY();
    {
        SpinLockAcquire(&shared->mutex);
        answered = ask->answered;
        *answer = ask->answer;
        ask_remove(shared, ask);
        SpinLockRelease(&shared->mutex);
    }
    PG_END_TRY();
    return answered;
}

/* None is there: one may be on its way, or can be made to come.  ERROR if none will. */
static void
call_agent(bool launch)
{
    const char *reason = fleet_catalog_no_agent();

    if (reason == NULL &&
        (!launch || fleet_starter_is_there(MyDatabaseId) || fleet_agent_launch(MyDatabaseId)))
        return;
    ereport(ERROR,
            (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
             errmsg("there is no agent of pg_fleet now, so that the server cannot be checked"),
             errdetail("%s", reason != NULL ? reason : "No background worker slot is free.")));
}

void
fleet_ask_server(int server_id, Oid role, FleetAnswer *answer)
{
    for (int tries = 0;; tries++)
    {
        FleetShared *shared = fleet_shared_find();

        if (shared != NULL && ask_once(shared, server_id, role, answer))
            return;
        if (shared == NULL && tries % 25 == 0)
            call_agent(tries > 0); /* one may be on its way up already */
        fleet_session_sleep(fleet_clock_now() + FLEET_MS(20));
    }
}

/* ---- the agent ---- */

/* An unlocked look: a session that comes now sets the agent's latch. */
bool
fleet_shared_ask_take(FleetShared *shared, int *server_id, Oid *role)
{
    bool found = false;

    if (shared->asks_used == 0)
        return false;
    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < shared->asks_used && !found; i++)
    {
        FleetAsk *ask = &shared->asks[i];

        found = ask->proc != NULL && !ask->taken;
        if (!found)
            continue;
        ask->taken = true;
        *server_id = ask->server_id;
        *role = ask->role;
    }
    SpinLockRelease(&shared->mutex);
    return found;
}

static bool
is_about(const FleetAsk *ask, int server_id, Oid role)
{
    return ask->proc != NULL && ask->taken && !ask->answered && ask->server_id == server_id &&
           ask->role == role;
}

void
fleet_shared_ask_again(FleetShared *shared, int server_id, Oid role)
{
    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < shared->asks_used; i++)
    {
        if (is_about(&shared->asks[i], server_id, role))
            shared->asks[i].taken = false;
    }
    SpinLockRelease(&shared->mutex);
}

void
fleet_answer_set(FleetAnswer *answer, const char *sqlstate, const char *message)
{
    int length = pg_mbcliplen(message, (int) strlen(message), sizeof(answer->message) - 1);

    strlcpy(answer->sqlstate, sqlstate, sizeof(answer->sqlstate));
    memcpy(answer->message, message, length);
    answer->message[length] = '\0';
}

void
fleet_shared_answer(FleetShared *shared, int server_id, Oid role, const FleetAnswer *answer)
{
    PGPROC *wake[FLEET_MAX_ASKS];
    int n = 0;

    SpinLockAcquire(&shared->mutex);
    for (int i = 0; i < shared->asks_used; i++)
    {
        FleetAsk *ask = &shared->asks[i];

        if (!is_about(ask, server_id, role))
            continue;
        ask->answer = *answer;
        ask->answered = true;
        wake[n++] = ask->proc;
    }
    SpinLockRelease(&shared->mutex);
    for (int i = 0; i < n; i++)
        SetLatch(&wake[i]->procLatch);
}
