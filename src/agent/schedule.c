/*
 * agent/schedule.c
 *     Schedules (agent/schedule.h).  In the agent's process.
 *
 * The agent works out when a schedule is due (core/due.h) and sleeps until
 * then; it starts nothing by itself.  To fire a schedule for a time is work of
 * the owner of its package or job, in a runner, in two requests:
 *
 *   evaluates  params_sql, the user's: a query, read-only, rolled back.  What it
 *              gives are parameters of
 *   starts     fleet_link.start_scheduled(), ours: the run, under a run key that
 *              follows from the scheduled time, and the row that says that this
 *              time is done, in one transaction.
 *
 * So nothing need be known of a firing that was cut off, at whatever point: it
 * is fired again, and starts the same run.  What cannot be fired (an error of
 * the query, an owner who may not log in, a package that is disabled) is told in
 * a row and tried again; until then its time is one that was missed.
 *
 * The clock is the server's wall clock, which may be set.  It is looked at every
 * minute at least, if there are schedules.  A clock that was ahead by more than
 * AHEAD_MAX counts from where it is; run keys see to it that nothing starts
 * twice.
 *
 * One firing at a time for each role: who sleeps in params_sql delays only
 * his own schedules.  A firing that does not stop when it is canceled loses its
 * runner.
 *
 * Nobody else waits for many schedules: to find out when they are due takes LOOK_LASTS of
 * a turn, and goes on in the next one; they are read again only when READ_COSTS times as long
 * has gone by as the last reading took.
 */
#include "postgres.h"

#include "agent/schedule.h"
#include "agent/pause.h"
#include "agent/quota.h"
#include "agent/raise.h"
#include "core/due.h"
#include "lib/stringinfo.h"
#include "points.h"
#include "security.h"
#include "store/event.h"
#include "store/schedule.h"
#include "store/spi.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "zone.h"

#define LOOK_AGAIN FLEET_SECONDS(60)
#define AHEAD_MAX FLEET_SECONDS(3600)
#define RUNNER_WAIT FLEET_SECONDS(1)
#define LOOK_LASTS FLEET_MS(5)
#define READ_COSTS 10
#define FIRING_MAX FLEET_SECONDS(300) /* a request that takes longer is canceled */
#define STOP_MAX FLEET_SECONDS(10)    /* one that then goes on loses its runner */
#define CUTS_MAX 5
#define RETRY_MIN FLEET_SECONDS(15)
#define RETRY_MAX FLEET_SECONDS(300)

typedef enum FiringStage
{
    FIRING_NONE,
    FIRING_WAITS, /* for a runner */
    FIRING_EVALUATES,
    FIRING_STARTS,
} FiringStage;

typedef struct AgentSchedule
{
    int32 id; /* hash key */
    MemoryContext context;
    dlist_node node, running_node;
    uint64 read_in; /* number of the last reading that had it */
    char *name, *package, *version;
    bool evaluates; /* it has params_sql */
    Oid owner;
    FleetCron cron;
    FleetZone zone;
    FleetMissed missed;
    FleetDiagnostics bad;  /* its row cannot be worked with: why */
    FleetTime since, next; /* of the calendar */
    FleetTime retry_at;    /* after a failure; 0: there was none */
    int failures;
    FleetDue due;
    int at; /* of due.times: what is being fired */
    FiringStage stage;
    FleetExecutor *executor;
    uint64 ref;
    FleetTime deadline;
    bool late;             /* it was canceled at its deadline */
    FleetTime missed_told; /* of times until then it has been told that they were missed */
    int cuts;
    char *params; /* what params_sql gave */
} AgentSchedule;

typedef struct Entry
{
    int32 id; /* hash key */
    AgentSchedule *schedule;
} Entry;

static HTAB *by_id;
static dlist_head schedules = DLIST_STATIC_INIT(schedules);
static dlist_head running = DLIST_STATIC_INIT(running); /* those that have a runner */
static uint64 readings;
static bool look_again;
static FleetTime looked_at, look_at; /* of the calendar */
static bool to_read;                 /* they have changed since the last reading */
static FleetTime read_after;         /* not before */
static int under_way;                /* that are not FIRING_NONE */

void
agent_schedules_init(void)
{
    by_id = agent_table("pg_fleet schedules", sizeof(int32), sizeof(Entry), HASH_BLOBS);
}

static FleetTime
calendar(void)
{
    return fleet_zone_time(fleet_clock_calendar());
}

/* ---- reading ---- */

static void
give_up_runner(AgentSchedule *schedule)
{
    if (schedule->ref != 0)
        agent_request_forget(schedule->ref);
    if (schedule->executor != NULL)
    {
        if (schedule->ref != 0)
            schedule->executor->methods->cancel(schedule->executor);
        schedule->executor->owner = NULL;
        fleet_runner_done(schedule->executor);
        dlist_delete(&schedule->running_node);
    }
    schedule->ref = 0;
    schedule->executor = NULL;
}

static void
to_stage(AgentSchedule *schedule, FiringStage stage)
{
    under_way += (stage != FIRING_NONE) - (schedule->stage != FIRING_NONE);
    schedule->stage = stage;
    turn_again();
}

static void
schedule_free(AgentSchedule *schedule)
{
    give_up_runner(schedule);
    to_stage(schedule, FIRING_NONE);
    hash_search(by_id, &schedule->id, HASH_REMOVE, NULL);
    dlist_delete(&schedule->node);
    MemoryContextDelete(schedule->context);
}

static FleetMissed
missed_of(const char *name)
{
    if (strcmp(name, "skip") == 0)
        return FLEET_MISSED_SKIP;
    return strcmp(name, "all") == 0 ? FLEET_MISSED_ALL : FLEET_MISSED_ONCE;
}

/* A row that nobody checked, or zones that the server has no longer. */
static void
work_out(AgentSchedule *schedule, const FleetScheduleRow *row)
{
    FleetError error;

    if (!fleet_cron_parse(row->cron, &schedule->cron, &error))
        fleet_diagnostics_set(&schedule->bad, FLEET_SQLSTATE_INVALID_PARAMETER_VALUE,
                              psprintf("invalid schedule \"%s\": %s", row->cron, error.message));
    else if (!fleet_zone_find(row->time_zone, &schedule->zone))
        fleet_diagnostics_set(&schedule->bad, FLEET_SQLSTATE_INVALID_PARAMETER_VALUE,
                              psprintf("time zone \"%s\" not recognized", row->time_zone));
}

static void
schedule_take(void *arg)
{
    const FleetScheduleRow *row = arg;
    Entry *entry = hash_search(by_id, &row->schedule_id, HASH_FIND, NULL);
    MemoryContext context, before;
    AgentSchedule *schedule;

    if (entry != NULL && strcmp(entry->schedule->version, row->version) == 0)
    {
        entry->schedule->read_in = readings;
        return;
    }
    if (entry != NULL)
        schedule_free(entry->schedule);
    context = AllocSetContextCreate(agent.context, "pg_fleet schedule", ALLOCSET_SMALL_SIZES);
    before = MemoryContextSwitchTo(context);
    schedule = palloc0(sizeof(AgentSchedule));
    schedule->id = row->schedule_id;
    schedule->context = context;
    schedule->read_in = readings;
    schedule->name = pstrdup(row->name);
    schedule->package = agent_strdup(context, row->package);
    schedule->evaluates = row->evaluates;
    schedule->version = pstrdup(row->version);
    schedule->owner = row->owner;
    schedule->missed = missed_of(row->missed);
    schedule->since = fleet_zone_time(row->since);
    schedule->failures = row->failures;
    work_out(schedule, row);
    MemoryContextSwitchTo(before);
    entry = hash_search(by_id, &schedule->id, HASH_ENTER, NULL);
    entry->schedule = schedule;
    dlist_push_tail(&schedules, &schedule->node);
}

static void
read_all(void)
{
    FleetScheduleRow *rows;
    int n = fleet_schedule_read(&rows);
    dlist_mutable_iter iter;

    readings++;
    for (int i = 0; i < n; i++)
    {
        FleetDiagnostics failure;

        if (!agent_protected(schedule_take, &rows[i], &failure))
            fleet_schedule_failed(rows[i].schedule_id, rows[i].since, &failure);
    }
    dlist_foreach_modify(iter, &schedules)
    {
        AgentSchedule *schedule = dlist_container(AgentSchedule, node, iter.cur);

        if (schedule->read_in != readings)
            schedule_free(schedule);
    }
    look_again = true;
    turn_again();
}

void
agent_schedules_load(void)
{
    to_read = true;
    turn_again();
}

/* 0: there is nothing to be read, or it was read just now; else when. */
static FleetTime
read_turn(FleetTime now)
{
    FleetTime took;

    if (!to_read)
        return 0;
    if (now < read_after)
    {
        FLEET_POINT("schedule_reads_later");
        return read_after;
    }
    to_read = false;
    read_all();
    took = fleet_clock_now() - now;
    read_after = now + took * (1 + READ_COSTS);
    return 0;
}

/* ---- what is due ---- */

/* What was found out when it is due does not hold: the clock was set back. */
static void
forget_times(void)
{
    dlist_iter iter;

    dlist_foreach(iter, &schedules)
    {
        dlist_container(AgentSchedule, node, iter.cur)->next = 0;
    }
}

/* The first time that was missed and that nobody was told of; FLEET_NEVER: none. */
static FleetTime
first_missed(AgentSchedule *schedule, FleetTime today)
{
    FleetTime since = Max(schedule->since, schedule->missed_told);
    FleetTime first =
        since < today ? fleet_cron_next(&schedule->cron, &schedule->zone, since) : FLEET_NEVER;

    return first <= today - FLEET_DUE_GRACE ? first : FLEET_NEVER;
}

/* By an agent before this one: what is missed is not fired, so that its row does not say so. */
static FleetTime
missed_told(const char *what)
{
    TimestampTz at;

    fleet_catalog_begin();
    at = fleet_event_missed(what);
    return at == 0 ? 1 : fleet_zone_time(at + (fleet_clock_calendar() - fleet_clock_wall()));
}

/* Nobody was there to start it, or it was paused, for longer than a restart takes. */
static void
tell_missed(AgentSchedule *schedule, FleetTime today)
{
    FleetTime first = first_missed(schedule, today);
    char *what;

    if (schedule->failures > 0 || first == FLEET_NEVER)
        return;
    what = psprintf("schedule \"%s\" missed ", schedule->name);
    if (schedule->missed_told == 0)
    {
        schedule->missed_told = missed_told(what);
        first = first_missed(schedule, today);
    }
    schedule->missed_told = today;
    if (first != FLEET_NEVER)
        agent_raise(FLEET_RAISED_SCHEDULE_MISSED, schedule->owner, schedule->package, NULL,
                    psprintf("%s%s", what, timestamptz_to_str(fleet_zone_timestamp(first))));
}

static void
look_at_one(AgentSchedule *schedule, FleetTime now, FleetTime today)
{
    if (schedule->stage != FIRING_NONE)
        return;
    if (schedule->retry_at > now)
    {
        turn_wake_at(schedule->retry_at);
        look_again = true;
        return;
    }
    if (schedule->since > today + AHEAD_MAX)
        schedule->since = today;
    if (schedule->bad.message != NULL)
    {
        if (schedule->retry_at == 0) /* told once, until its row changes */
            fleet_schedule_failed(schedule->id, fleet_zone_timestamp(today), &schedule->bad);
        schedule->retry_at = FLEET_NEVER;
        return;
    }
    if (agent_pause_of_package(schedule->package))
        return; /* looked at when that changes */
    if (schedule->next == 0 || schedule->next <= today || schedule->retry_at != 0)
    {
        tell_missed(schedule, today);
        fleet_due(&schedule->cron, &schedule->zone, schedule->missed, schedule->since, today,
                  &schedule->due);
    }
    else
        schedule->due.n = 0;
    schedule->retry_at = 0;
    schedule->next = schedule->due.next;
    schedule->at = 0;
    schedule->cuts = 0;
    if (schedule->due.n > 0)
        to_stage(schedule, FIRING_WAITS);
    else
        look_at = Min(look_at, schedule->next);
}

static void
look(FleetTime now, FleetTime today)
{
    dlist_iter iter;

    look_again = false;
    look_at = FLEET_NEVER;
    dlist_foreach(iter, &schedules)
    {
        look_at_one(dlist_container(AgentSchedule, node, iter.cur), now, today);
        if (fleet_clock_now() - now >= LOOK_LASTS && dlist_has_next(&schedules, iter.cur))
        {
            FLEET_POINT("schedule_rests");
            look_again = true; /* those that were looked at cost nothing then */
            turn_again();
            return;
        }
    }
}

/* ---- ends of a firing ---- */

static TimestampTz
scheduled_for(const AgentSchedule *schedule)
{
    return fleet_zone_timestamp(schedule->due.times[schedule->at]);
}

static void
firing_over(AgentSchedule *schedule)
{
    give_up_runner(schedule);
    to_stage(schedule, FIRING_NONE);
    look_again = true;
}

static void
firing_failed(AgentSchedule *schedule, const char *sqlstate, const char *message)
{
    FleetDiagnostics why = {.sqlstate = sqlstate, .message = message};

    if (schedule->failures++ == 0)
    {
        const char *said =
            psprintf("schedule \"%s\" could not be started: %s", schedule->name, message);

        agent_raise(FLEET_RAISED_SCHEDULE_FAILED, schedule->owner, schedule->package, sqlstate,
                    said);
        ereport(LOG, (errmsg("%s", said)));
    }
    fleet_schedule_failed(schedule->id, scheduled_for(schedule), &why);
    schedule->retry_at =
        fleet_clock_now() + Min(RETRY_MAX, RETRY_MIN << Min(schedule->failures - 1, 10));
    firing_over(schedule);
}

/* The next one of several times needs an evaluation of its own. */
static void
fired(AgentSchedule *schedule)
{
    schedule->since = schedule->due.times[schedule->at++];
    schedule->cuts = 0;
    if (schedule->failures > 0)
        fleet_schedule_fired(schedule->id);
    schedule->failures = 0;
    if (schedule->at == schedule->due.n)
        firing_over(schedule);
    else
    {
        give_up_runner(schedule);
        to_stage(schedule, FIRING_WAITS);
    }
}

/* ---- requests ---- */

static char *
context_of(const AgentSchedule *schedule)
{
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfoString(&out, "{\"schedule\": ");
    escape_json(&out, schedule->name);
    appendStringInfo(&out, ", \"scheduled_for\": \"%s\"}",
                     timestamptz_to_str(scheduled_for(schedule)));
    return out.data;
}

static void
send_request(AgentSchedule *schedule, FiringStage stage, const char *command, const char *params)
{
    FleetStepRequest request = {.kind = stage == FIRING_EVALUATES ? FLEET_REQUEST_QUERY
                                                                  : FLEET_REQUEST_STEP,
                                .command = command,
                                .params = params,
                                .context = context_of(schedule),
                                .transactional = true,
                                .single = true,
                                .fresh = true};

    request.ref = schedule->ref = agent_request_new(REQUEST_SCHEDULE, schedule);
    schedule->deadline = fleet_clock_now() + (FLEET_POINT_HIT("schedule_late") ? 0 : FIRING_MAX);
    schedule->late = false;
    to_stage(schedule, stage);
    schedule->executor->methods->run(schedule->executor, &request);
}

static void
evaluate(AgentSchedule *schedule, const char *sql)
{
    if (schedule->params != NULL)
        pfree(schedule->params);
    schedule->params = NULL;
    send_request(schedule, FIRING_EVALUATES, psprintf("SELECT (%s\n)::pg_catalog.jsonb", sql),
                 "{}");
}

static void
start(AgentSchedule *schedule)
{
    FLEET_POINT("schedule_starts");
    send_request(schedule, FIRING_STARTS,
                 psprintf("SELECT fleet_link.start_scheduled(%d, '%s'::pg_catalog.timestamptz)",
                          schedule->id, timestamptz_to_str(scheduled_for(schedule))),
                 schedule->params == NULL ? "{}" : schedule->params);
}

/* Its runner is ended, and with it what it does. */
static void
does_not_stop(AgentSchedule *schedule)
{
    firing_failed(schedule, FLEET_SQLSTATE_QUERY_CANCELED,
                  psprintf("%scanceled after %d minutes, and did not stop",
                           schedule->stage == FIRING_EVALUATES ? "params_sql: " : "",
                           (int) (FIRING_MAX / FLEET_SECONDS(60))));
}

/* ---- events ---- */

static void
done(AgentSchedule *schedule)
{
    if (schedule->stage == FIRING_EVALUATES)
        start(schedule);
    else
        fired(schedule);
}

static void
raised(AgentSchedule *schedule, const FleetExecutorEvent *event)
{
    const char *message = event->diag.message != NULL ? event->diag.message : "unknown error";
    const char *sqlstate =
        event->diag.sqlstate != NULL ? event->diag.sqlstate : FLEET_SQLSTATE_INTERNAL_ERROR;

    if (schedule->late)
        message = psprintf("canceled after %d minutes", (int) (FIRING_MAX / FLEET_SECONDS(60)));
    if (schedule->stage == FIRING_EVALUATES)
        message = psprintf("params_sql: %s", message);
    firing_failed(schedule, sqlstate, message);
}

/* Nobody knows what it did, and it need not be known. */
static void
cut(AgentSchedule *schedule, const FleetExecutorEvent *event)
{
    schedule->executor = NULL; /* it is gone with all it had */
    dlist_delete(&schedule->running_node);
    if (++schedule->cuts > CUTS_MAX)
        raised(schedule, event);
    else
        to_stage(schedule, FIRING_WAITS);
}

void
agent_schedule_event(void *owner, const FleetExecutorEvent *event)
{
    AgentSchedule *schedule = owner;

    switch (event->kind)
    {
        case FLEET_EXECUTOR_BEGAN:
        case FLEET_EXECUTOR_LOG: break;
        case FLEET_EXECUTOR_ROW:
            schedule->params = agent_strdup(schedule->context, event->output);
            break;
        case FLEET_EXECUTOR_PREPARED:
            FLEET_POINT("schedule_prepared");
            schedule->executor->methods->commit(schedule->executor);
            break;
        case FLEET_EXECUTOR_COMMITTED:
        case FLEET_EXECUTOR_ERROR:
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL:
        case FLEET_EXECUTOR_CUT:
            agent_request_forget(schedule->ref);
            schedule->ref = 0;
            if (event->kind == FLEET_EXECUTOR_COMMITTED)
                done(schedule);
            else if (event->kind == FLEET_EXECUTOR_CUT)
                cut(schedule, event);
            else
                raised(schedule, event);
            break;
    }
}

/* ---- the turn ---- */

static bool
role_is_busy(Oid role)
{
    dlist_iter iter;

    dlist_foreach(iter, &running)
    {
        if (dlist_container(AgentSchedule, running_node, iter.cur)->owner == role)
            return true;
    }
    return false;
}

/* False: there is no runner now. */
static bool
begin(AgentSchedule *schedule)
{
    const char *sqlstate, *why, *sql = NULL;

    fleet_catalog_begin();
    if (!fleet_security_role_may_run(schedule->owner, &sqlstate, &why))
    {
        firing_failed(schedule, sqlstate, why);
        return true;
    }
    if (schedule->evaluates && (sql = fleet_schedule_params_sql(schedule->id)) == NULL)
    {
        if (!to_read) /* it has changed since */
            agent_schedules_load();
        return true;
    }
    schedule->executor = agent_quota_runner(schedule->owner, &sqlstate, &why);
    if (schedule->executor == NULL)
        return false;
    schedule->executor->owner = schedule;
    schedule->executor->clean = false;
    dlist_push_tail(&running, &schedule->running_node);
    if (sql != NULL)
        evaluate(schedule, sql);
    else
        start(schedule);
    return true;
}

static void
runners_turn(FleetTime now)
{
    dlist_iter iter;

    dlist_foreach(iter, &schedules)
    {
        AgentSchedule *schedule = dlist_container(AgentSchedule, node, iter.cur);

        if (schedule->stage == FIRING_WAITS && !role_is_busy(schedule->owner) && !begin(schedule))
        {
            turn_wake_at(now + RUNNER_WAIT);
            if (!agent_quota_full(schedule->owner))
                return;
        }
    }
}

static void
deadlines(FleetTime now)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &running)
    {
        AgentSchedule *schedule = dlist_container(AgentSchedule, running_node, iter.cur);

        if (schedule->ref == 0)
            continue;
        if (schedule->deadline > now)
            turn_wake_at(schedule->deadline);
        else if (schedule->late)
            does_not_stop(schedule);
        else
        {
            schedule->late = true;
            schedule->executor->methods->cancel(schedule->executor);
            schedule->deadline = now + (FLEET_POINT_HIT("schedule_stuck") ? 0 : STOP_MAX);
            turn_wake_at(schedule->deadline);
        }
    }
}

FleetTime
agent_schedules_turn(FleetTime now)
{
    FleetTime today, read_at = read_turn(now);

    if (dlist_is_empty(&schedules))
        return read_at == 0 ? FLEET_NEVER : read_at;
    if (read_at != 0)
        turn_wake_at(read_at);
    today = calendar();
    if (today < looked_at)
    {
        forget_times();
        look_again = true;
    }
    if (look_again || today >= look_at)
        look(fleet_clock_now(), today);
    looked_at = today;
    if (under_way > 0)
    {
        runners_turn(now);
        deadlines(now);
    }
    if (look_at == FLEET_NEVER && !look_again)
        return FLEET_NEVER;
    return now + Max(Min(look_at - today, LOOK_AGAIN), 1);
}
