/*
 * agent/quarantine.c
 *     Quarantine: no object ends one agent after the other.  In the agent's
 *     process.
 *
 * An ERROR that is the fault of what a row or a message holds should have been
 * found where that is read, and be the failure of its object.  Should one come
 * out of the loop all the same, the dying agent records what it had in its hand
 * (hand.h), in a transaction of its own.  Its successor
 *
 *   - for a minute writes the rows of each run apart from those of the others,
 *     so that an ERROR for which no object could be named names it now; and for
 *     as long as the object counts, its rows after those of all others, so that
 *     only they are lost next time.  With them come the rows of the runs that
 *     it is nested in, which may follow from them;
 *   - the third time, fails the object when it comes to load it: a run, a job
 *     run or a deployment fails with the SQLSTATE and the message; to a server
 *     nothing connects;
 *   - leaves a run or a job run as it is if even that ends an agent.
 *
 * An object counts for an hour after the last agent that it ended, or until
 * an operator lifts that (fleet.lift_quarantine()).  Errors that are the
 * server's (a full disk, a deadlock) are blamed on no object.
 */
#include "postgres.h"

#include "access/xact.h"
#include "agent/quarantine.h"
#include "agent/state.h"
#include "launcher/launcher.h"
#include "store/quarantine.h"
#include "store/spi.h"
#include "store/stat.h"
#include "utils/memutils.h"

#define ENDS_MAX 3
#define COUNTS_FOR FLEET_SECONDS(3600)
#define APART_FOR FLEET_SECONDS(60)

static MemoryContext context; /* of the rows */
static FleetQuarantineRow *rows;
static int nrows;
static FleetTime over_at = FLEET_NEVER; /* one of them that is in quarantine does not count then */
static bool apart;                      /* the agent before ended by an ERROR */
static FleetTime apart_until;           /* … 0: nothing has been written yet */

/* ---- an agent ends ---- */

static void
record(const FleetHand *hand, const ErrorData *error)
{
    FleetDiagnostics diag;

    fleet_diagnostics_of_error(&diag, error);
    if (fleet_quarantine_add(hand, &diag) == ENDS_MAX)
        fleet_stat_quarantined();
    fleet_catalog_commit();
}

/* The agent ends in any case: what goes wrong here is only not recorded. */
static void
try_to_record(const FleetHand *hand, const ErrorData *error)
{
    PG_TRY();
    {
        record(hand, error);
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(agent.context);
        EmitErrorReport();
        FlushErrorState();
        fleet_catalog_abort();
    }
    PG_END_TRY();
}

void
agent_quarantine_guard(void (*work)(void), void (*aborted)(void))
{
    PG_TRY();
    {
        work();
    }
    PG_CATCH();
    {
        FleetHand hand = fleet_hand;
        ErrorData *error;

        MemoryContextSwitchTo(agent.context);
        error = CopyErrorData();
        FlushErrorState();
        if (hand.kind != FLEET_HAND_NOTHING && !agent_error_is_of_the_server(error))
        {
            fleet_hand_empty();
            fleet_catalog_abort();
            aborted();
            try_to_record(&hand, error);
        }
        ReThrowError(error);
    }
    PG_END_TRY();
}

/* ---- what its successor knows ---- */

static const FleetQuarantineRow *
find(FleetHandKind kind, int64 id)
{
    for (int i = 0; i < nrows; i++)
    {
        if (rows[i].kind == kind && rows[i].id == id)
            return &rows[i];
    }
    return NULL;
}

static FleetWriteOrder
write_order(const FleetRowOwner *owner)
{
    if (owner->run_id != 0 ? find(FLEET_HAND_RUN, owner->run_id) != NULL
                           : find(FLEET_HAND_JOB_RUN, owner->job_run_id) != NULL)
        return FLEET_WRITE_LAST;
    return apart ? FLEET_WRITE_APART : FLEET_WRITE_TOGETHER;
}

static void
order_writes(void)
{
    fleet_run_write_order(apart || nrows > 0 ? write_order : NULL);
}

static void
read_rows(void)
{
    MemoryContext before;

    if (context == NULL)
        context = AllocSetContextCreate(agent.context, "pg_fleet quarantine", ALLOCSET_SMALL_SIZES);
    MemoryContextReset(context);
    before = MemoryContextSwitchTo(context);
    nrows = fleet_quarantine_read(&rows);
    MemoryContextSwitchTo(before);
    over_at = FLEET_NEVER;
    for (int i = 0; i < nrows; i++)
    {
        if (rows[i].ends >= ENDS_MAX)
            over_at = fleet_earlier(over_at, fleet_clock_from_wall(rows[i].last_at) + COUNTS_FOR);
    }
}

void
agent_quarantine_load(void)
{
    const FleetAgentEnd *end = fleet_agent_predecessor();

    apart = end->at != 0 && !agent_is_of_the_server(end->sqlstate);
    read_rows();
    order_writes();
}

void
agent_quarantine_load_again(void)
{
    read_rows();
    order_writes();
}

bool
agent_quarantine_over(FleetTime now)
{
    turn_wake_at(over_at);
    return over_at <= now;
}

/* The first turn may come late: there is much to load. */
void
agent_quarantine_written(FleetTime now)
{
    if (!apart)
        return;
    if (apart_until == 0)
        apart_until = now + APART_FOR;
    if (now < apart_until)
        return;
    apart = false;
    order_writes();
}

bool
agent_quarantined(FleetHandKind kind, int64 id, FleetDiagnostics *why)
{
    const FleetQuarantineRow *row = find(kind, id);

    if (row == NULL || row->ends < ENDS_MAX)
        return false;
    fleet_diagnostics_set(why, row->diag.sqlstate,
                          psprintf("the agent ended %d times over this %s: %s", row->ends,
                                   fleet_hand_kind_name(kind), row->diag.message));
    return true;
}

bool
agent_quarantine_untouchable(FleetHandKind kind, int64 id)
{
    const FleetQuarantineRow *row = find(kind, id);

    return row != NULL && row->ends > ENDS_MAX;
}
