/*
 * agent/late.c
 *     Deadlines of runs (agent/late.h): a run that has not ended at its
 *     deadline is late, and, before that, one that is expected to miss it is
 *     expected to be.  Both are told once.  In the agent's process.
 *
 * What is expected is looked at now and then, while the run goes on: if it
 * stood still from now on, it would come to be late after as much time as it
 * has to spare, so that is when it is looked at next; LOOKS times at most.
 */
#include "postgres.h"

#include "agent/late.h"
#include "agent/raise.h"
#include "agent/run.h"
#include "hand.h"
#include "store/limits.h"
#include "store/run_write.h"
#include "utils/timestamp.h"

#define LOOKS 64
#define LOOK_AT_LEAST FLEET_SECONDS(1)
#define LOOK_COSTS 100 /* a look may take a hundredth of the time until the next one */

typedef struct Late
{
    int64 run_id;         /* hash key */
    TimestampTz deadline; /* 0: so long after its begin: */
    int64 after;
    bool begun;
    bool expected;    /* told already */
    FleetTime due_at; /* FLEET_NEVER: not known yet */
} Late;

static HTAB *lates; /* NULL: there was none yet */
static FleetTime next_due = FLEET_NEVER;

static void
due(Late *late, FleetTime at)
{
    late->due_at = at;
    next_due = Min(next_due, at);
}

/* After so long, or at its deadline, if that is earlier. */
static void
look_after(Late *late, int64 span)
{
    TimestampTz now = fleet_clock_wall();
    int64 left = late->deadline - now;
    bool looks = late->begun && !late->expected && span < left;

    due(late, fleet_clock_now() + Max(looks ? span : left, 0));
}

void
agent_late_load(const AgentRun *run, const FleetRunRow *row)
{
    Late *late;

    if (row->late || (row->deadline == 0 && row->deadline_after == 0))
        return;
    if (lates == NULL)
        lates = agent_table("pg_fleet deadlines", sizeof(int64), sizeof(Late), HASH_BLOBS);
    late = hash_search(lates, &run->run_id, HASH_ENTER, NULL);
    *late = (Late){.run_id = run->run_id,
                   .deadline = row->deadline,
                   .after = row->deadline_after,
                   .begun = row->started_at != 0,
                   .expected = row->expected_late,
                   .due_at = FLEET_NEVER};
    if (late->deadline == 0 && late->begun)
        late->deadline = row->started_at + late->after;
    if (late->deadline != 0)
        look_after(late, LOOK_AT_LEAST);
}

void
agent_late_begun(const AgentRun *run)
{
    Late *late = lates == NULL ? NULL : hash_search(lates, &run->run_id, HASH_FIND, NULL);

    if (late == NULL || late->begun)
        return;
    late->begun = true;
    if (late->deadline == 0)
        late->deadline = fleet_clock_wall() + late->after;
    look_after(late, LOOK_AT_LEAST);
}

void
agent_late_forget(const AgentRun *run)
{
    if (lates != NULL)
        (void) hash_search(lates, &run->run_id, HASH_REMOVE, NULL);
}

/* The one place where it is told that a run is late (expected_end 0), or is expected to be. */
static void
raise_late(const AgentRun *run, const Late *late, TimestampTz expected_end)
{
    fleet_run_write_late(run->run_id, expected_end != 0, fleet_clock_wall());
    agent_raise_run(run, expected_end == 0 ? FLEET_RAISED_RUN_LATE : FLEET_RAISED_RUN_EXPECTED_LATE,
                    psprintf("its deadline: %s", timestamptz_to_str(late->deadline)));
    if (expected_end == 0)
        ereport(LOG, (errmsg("run " INT64_FORMAT " of package \"%s\" is late", run->run_id,
                             run->def->name),
                      errdetail("Its deadline was %s.", timestamptz_to_str(late->deadline))));
    else
    {
        char *end = pstrdup(timestamptz_to_str(expected_end)); /* both are in one buffer */

        ereport(LOG, (errmsg("run " INT64_FORMAT " of package \"%s\" is expected to be late",
                             run->run_id, run->def->name),
                      errdetail("It is expected to end at %s; its deadline is %s.", end,
                                timestamptz_to_str(late->deadline))));
    }
}

static void
read_eta(void *arg)
{
    TimestampTz *eta = arg; /* the run's number goes in */

    *eta = fleet_run_eta(*eta);
}

static int64
least_span(const Late *late)
{
    int64 span = (late->deadline - fleet_clock_wall()) / LOOKS;

    return Max(span, LOOK_AT_LEAST);
}

/* Will it be late?  Then it is told; else it is looked at again. */
static void
look(const AgentRun *run, Late *late)
{
    FleetTime began = fleet_clock_now(), took;
    TimestampTz eta = run->run_id;
    FleetDiagnostics failure;
    int64 spare, least;

    if (!agent_protected(read_eta, &eta, &failure))
    {
        ereport(LOG, (errmsg("the end of run " INT64_FORMAT " could not be estimated: %s",
                             run->run_id, failure.message)));
        late->expected = true; /* not again */
        look_after(late, 0);
        return;
    }
    took = fleet_clock_now() - began;
    if (eta > late->deadline)
    {
        late->expected = true;
        raise_late(run, late, eta);
    }
    spare = eta == 0 ? 0 : late->deadline - eta;
    least = least_span(late);
    look_after(late, Max(Max(spare, least), took * LOOK_COSTS));
}

/* True: it is done with. */
static bool
turn_of(Late *late)
{
    AgentRun *run = agent_run_find(late->run_id);

    if (run == NULL || FLEET_STATE_IS_FINAL(run->state))
        return true;
    fleet_hand_take(FLEET_HAND_RUN, run->run_id, "work_late");
    if (fleet_clock_wall() >= late->deadline)
    {
        raise_late(run, late, 0);
        agent_run_changed(run);
        return true;
    }
    if (late->begun && !late->expected && run->durable == FLEET_RUNNING)
        look(run, late);
    else
        look_after(late, late->begun ? LOOK_AT_LEAST : 0);
    return false;
}

FleetTime
agent_late_turn(FleetTime now)
{
    HASH_SEQ_STATUS seq;
    Late *late;

    if (now < next_due)
        return next_due;
    next_due = FLEET_NEVER;
    hash_seq_init(&seq, lates);
    while ((late = hash_seq_search(&seq)) != NULL)
    {
        if (late->due_at <= now && turn_of(late))
            (void) hash_search(lates, &late->run_id, HASH_REMOVE, NULL);
        else
            next_due = Min(next_due, late->due_at);
    }
    fleet_hand_empty();
    return next_due;
}
