/*
 * agent/hook.c
 *     Hooks (agent/hook.h).  In the agent's process.
 *
 * A hook has a place among the events: up to there all are done with.  That is
 * its queue, and all of it that is durable.  When an event of one of its kinds
 * is stored, it looks and calls, in a runner, as its owner:
 *
 *   looks   our query over the view fleet.event: the next few events that it is
 *           for.  So the view alone decides what its owner may see.
 *   calls   the user's sql, or a job (fleet.execute_job(), whose end is the
 *           call's), with one event as its parameters.
 *
 * Then its place goes on, in the transaction in which the call becomes a row of
 * hook_call.  What was cut off before, at whatever point, is called again: at
 * least once, in the order of the events.  Nothing waits for a hook but the
 * events that follow it.
 *
 * Why a hook is not a package, nor its call a run: a run would raise events of
 * its own, would be in everybody's history and counts, and ten thousand events
 * would be as many runs.  This is one place and one row a call.
 *
 * The first call of a hook by an agent is noted before it is made, until one has
 * ended: should the server end with it each time (out of memory), the event is
 * given up, and does not end it again and again.
 *
 * Bounds: one call at a time for each role, and half of the runners for all of
 * them, by turns of the roles; its runner is one of those that its role may have
 * (agent/quota.h); each call has a timeout; one that does not stop then loses its
 * runner.  An event that is older than max_age calls nobody.  A hook that fails
 * raises an event the first time in a row, which calls no hook.  Runs that a
 * hook has started are known as such (hook_depth, which the runner's process
 * knows, and no setting), and so are their events: they call hooks that ask for
 * them.
 */
#include "postgres.h"

#include "agent/hook.h"
#include "agent/quota.h"
#include "agent/raise.h"
#include "guc.h"
#include "lib/stringinfo.h"
#include "points.h"
#include "security.h"
#include "store/hook.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define MESSAGE_MAX 4000 /* bytes, as of an event */
#define BATCH 16         /* events that it has in memory */
#define RUNNER_WAIT FLEET_SECONDS(1)
#define LOOK_MAX FLEET_SECONDS(300)
#define STOP_MAX FLEET_SECONDS(10) /* a call that then goes on loses its runner */
#define BLOCKED_MIN FLEET_SECONDS(15)
#define BLOCKED_MAX FLEET_SECONDS(300)
#define CUTS_MAX 3      /* calls for an event with which the agent ended */
#define PLACE_STEP 1000 /* events that it was not for are noted so many at a time */

typedef enum HookStage
{
    HOOK_RESTS,
    HOOK_LOOKS,
    HOOK_CALLS,
} HookStage;

typedef struct HookEvent
{
    int64 id;
    int depth;
    char *json;
} HookEvent;

typedef struct AgentHook
{
    int32 id;
    MemoryContext context, events_context;
    dlist_node node, running_node;
    uint64 read_in; /* number of the last reading that had it */
    FleetHookRow row;
    char *kind_array; /* its kinds, as a literal of SQL */
    uint32 kinds;
    int64 place, noted; /* as it is, and as the row has it */
    bool look;          /* there may be events, whatever has happened since */
    int64 seen;         /* the last event that there was when it looked */
    HookEvent events[BATCH];
    int nevents, at;
    int attempts; /* of the present one */
    TimestampTz started_at;
    bool proved;  /* a call has ended, and the agent has not */
    int64 called; /* it is noted that it is called for this event */
    int cuts;
    bool plain; /* its sql cannot run in a transaction */
    int failures;
    int blocked; /* times in a row that it could not look or begin */
    FleetTime wait_until;
    HookStage stage;
    FleetExecutor *executor;
    uint64 ref;
    FleetTime deadline;
    bool late; /* it was canceled at its deadline */
} AgentHook;

/* By turns of their roles: whose call has ended goes to the end, with all that his role has. */
static dlist_head hooks = DLIST_STATIC_INIT(hooks);
static dlist_head running = DLIST_STATIC_INIT(running); /* those that have a runner */
static int nrunning;
static uint64 readings;
static bool to_read;

/* ---- reading ---- */

/* Whatever is under way is canceled, and its runner ended. */
static void
give_up_runner(AgentHook *hook)
{
    if (hook->executor != NULL)
    {
        if (hook->ref != 0)
            hook->executor->methods->cancel(hook->executor);
        hook->executor->owner = NULL;
        fleet_runner_done(hook->executor);
    }
    if (hook->ref != 0)
        agent_request_forget(hook->ref);
    hook->ref = 0;
    hook->executor = NULL;
    if (hook->stage != HOOK_RESTS)
    {
        dlist_delete(&hook->running_node);
        nrunning--;
    }
    hook->stage = HOOK_RESTS;
    turn_again();
}

static void
hook_free(AgentHook *hook)
{
    give_up_runner(hook);
    dlist_delete(&hook->node);
    MemoryContextDelete(hook->context);
}

static AgentHook *
hook_by_id(int32 id)
{
    dlist_iter iter;

    dlist_foreach(iter, &hooks)
    {
        AgentHook *hook = dlist_container(AgentHook, node, iter.cur);

        if (hook->id == id)
            return hook;
    }
    return NULL;
}

static void
hook_take(void *arg)
{
    const FleetHookRow *row = arg;
    AgentHook *hook = hook_by_id(row->hook_id);
    MemoryContext context, before;
    bool changed;

    if (hook != NULL && strcmp(hook->row.version, row->version) == 0)
    {
        hook->read_in = readings;
        return;
    }
    changed = hook != NULL;
    if (changed)
        hook_free(hook);
    context = AllocSetContextCreate(CurrentMemoryContext, "pg_fleet hook", ALLOCSET_SMALL_SIZES);
    before = MemoryContextSwitchTo(context);
    hook = palloc0(sizeof(AgentHook));
    hook->context = context;
    hook->events_context =
        AllocSetContextCreate(context, "pg_fleet events of a hook", ALLOCSET_SMALL_SIZES);
    hook->id = row->hook_id;
    hook->read_in = readings;
    hook->row = *row;
    hook->row.name = pstrdup(row->name);
    hook->row.package = agent_strdup(context, row->package);
    hook->row.job = agent_strdup(context, row->job);
    hook->row.version = pstrdup(row->version);
    hook->kinds = fleet_hook_kinds(&row->on_event);
    hook->kind_array = fleet_hook_kind_array(hook->kinds);
    hook->place = hook->noted = row->place;
    hook->failures = row->failures;
    hook->cuts = changed ? 0 : row->cuts; /* it was not an agent's end that ended its call */
    hook->look = true;
    MemoryContextSwitchTo(before);
    MemoryContextSetParent(context, agent.context);
    dlist_push_tail(&hooks, &hook->node);
}

static void
read_all(void)
{
    FleetHookRow *rows;
    int n = fleet_hook_read(&rows);
    uint32 kinds = 0;
    dlist_mutable_iter iter;

    readings++;
    for (int i = 0; i < n; i++)
    {
        FleetDiagnostics failure;

        if (!agent_protected(hook_take, &rows[i], &failure))
            fleet_hook_at(rows[i].hook_id, rows[i].place, rows[i].failures + 1, &failure);
    }
    dlist_foreach_modify(iter, &hooks)
    {
        AgentHook *hook = dlist_container(AgentHook, node, iter.cur);

        if (hook->read_in != readings)
            hook_free(hook);
        else
            kinds |= hook->kinds;
    }
    agent_raised_watch(kinds);
}

void
agent_hooks_load(void)
{
    to_read = true;
    turn_again();
}

/* ---- ends ---- */

/* It rests, and is the last one whose turn it is, behind the others of its role: these come after those of all others. */
static void
request_over(AgentHook *hook)
{
    dlist_head of_role;
    dlist_mutable_iter iter;

    give_up_runner(hook);
    dlist_init(&of_role);
    dlist_foreach_modify(iter, &hooks)
    {
        if (dlist_container(AgentHook, node, iter.cur)->row.owner != hook->row.owner)
            continue;
        dlist_delete(iter.cur);
        dlist_push_tail(&of_role, iter.cur);
    }
    dlist_delete(&hook->node);
    dlist_push_tail(&of_role, &hook->node);
    while (!dlist_is_empty(&of_role))
        dlist_push_tail(&hooks, dlist_pop_head_node(&of_role));
}

static void
events_forget(AgentHook *hook)
{
    hook->nevents = hook->at = 0;
    MemoryContextReset(hook->events_context);
}

/* Told the first time in a row. */
static void
failed(AgentHook *hook, const FleetDiagnostics *why, const char *what)
{
    const char *said = psprintf("hook \"%s\" %s: %s", hook->row.name, what, why->message);

    if (hook->failures++ == 0)
        agent_raise(FLEET_RAISED_HOOK_FAILED, hook->row.owner, hook->row.package, why->sqlstate,
                    said);
}

/* Nothing is known of an event by that, so none is done with: as long as it lasts, or they are too old. */
static void
blocked(AgentHook *hook, const FleetDiagnostics *why)
{
    failed(hook, why, "cannot be called");
    fleet_hook_at(hook->id, hook->place, hook->failures, why);
    hook->wait_until = fleet_clock_now() + Min(BLOCKED_MAX, BLOCKED_MIN << Min(hook->blocked, 10));
    hook->blocked++;
    hook->look = true;
    hook->attempts = 0;
    events_forget(hook); /* what is too old by then calls nobody */
    request_over(hook);
}

/* The present event is done with. */
static void
event_done(AgentHook *hook, const FleetDiagnostics *why)
{
    const HookEvent *event = &hook->events[hook->at++];
    FleetHookCall call = {.event_id = event->id,
                          .state = why == NULL ? FLEET_SUCCEEDED : FLEET_FAILED,
                          .attempts = hook->attempts,
                          .started_at = hook->started_at,
                          .finished_at = fleet_clock_wall()};

    if (why == NULL)
        hook->failures = 0;
    else
        failed(
            hook, why,
            psprintf("failed for event " INT64_FORMAT " (%d attempts)", event->id, hook->attempts));
    hook->place = event->id;
    if (hook->at == hook->nevents && hook->nevents < BATCH)
        hook->place = Max(hook->place, hook->seen);
    fleet_hook_called(hook->id, &call, why);
    fleet_hook_at(hook->id, hook->place, hook->failures, why);
    hook->noted = hook->place;
    hook->attempts = 0;
    if (hook->at == hook->nevents)
    {
        hook->look |= hook->nevents == BATCH;
        events_forget(hook);
    }
    FLEET_POINT("hook_done");
    request_over(hook);
}

static void
looked(AgentHook *hook)
{
    hook->blocked = 0;
    if (hook->nevents == 0)
    {
        hook->place = Max(hook->place, hook->seen);
        if (hook->place - hook->noted >= PLACE_STEP)
        {
            fleet_hook_place(hook->id, hook->place);
            hook->noted = hook->place;
        }
    }
    request_over(hook);
}

static void
call_failed(AgentHook *hook, const FleetDiagnostics *why)
{
    if (hook->attempts > hook->row.retries)
    {
        event_done(hook, why);
        return;
    }
    hook->wait_until = fleet_clock_now() + hook->row.retry_wait;
    request_over(hook);
}

static void
request_failed(AgentHook *hook, const char *sqlstate, const char *message, const char *detail)
{
    FleetDiagnostics why = {.sqlstate = sqlstate, .message = message};

    if (why.sqlstate == NULL)
        why.sqlstate = FLEET_SQLSTATE_INTERNAL_ERROR;
    if (why.message == NULL)
        why.message = "unknown error";
    if (detail != NULL)
        why.message = psprintf("%s (%s)", why.message, detail);
    if (hook->late)
        why.message = psprintf("canceled at its timeout: %s", why.message);
    why.message = fleet_clip(why.message, MESSAGE_MAX);
    if (hook->stage == HOOK_LOOKS)
        blocked(hook, &why);
    else
        call_failed(hook, &why);
}

/* ---- requests ---- */

static void
send_request(AgentHook *hook, HookStage stage, FleetStepRequest *request)
{
    request->kind = stage == HOOK_LOOKS ? FLEET_REQUEST_QUERY : FLEET_REQUEST_STEP;
    request->fresh = true;
    request->ref = hook->ref = agent_request_new(REQUEST_HOOK, hook);
    hook->deadline = fleet_clock_now() + (stage == HOOK_LOOKS ? LOOK_MAX : hook->row.timeout);
    hook->late = false;
    hook->stage = stage;
    hook->executor->methods->run(hook->executor, request);
}

/* The numbers come first: event_read() reads them. */
static void
look(AgentHook *hook)
{
    FleetStepRequest request = {
        .params = "{}", .context = "{}", .transactional = true, .single = true};
    TimestampTz since = fleet_clock_wall() - hook->row.max_age;
    StringInfoData sql;

    hook->look = false;
    hook->seen = agent_raised_last(FLEET_RAISED_ANY);
    initStringInfo(&sql);
    appendStringInfo(
        &sql,
        "SELECT pg_catalog.row_to_json(n) FROM (SELECT e.event_id, e.hook_depth, e.kind,"
        " e.raised_at, e.run_id, e.package, e.task, e.item, e.server, e.sqlstate, e.message"
        " FROM fleet.event AS e WHERE e.event_id OPERATOR(pg_catalog.>) " INT64_FORMAT
        " AND e.kind OPERATOR(pg_catalog.=) ANY (%s) AND e.hook_depth OPERATOR(pg_catalog.<=) %d"
        " AND e.raised_at OPERATOR(pg_catalog.>=) '%s'::pg_catalog.timestamptz",
        hook->place, hook->kind_array, hook->row.max_depth, timestamptz_to_str(since));
    if (hook->row.package != NULL)
        appendStringInfo(&sql, " AND e.package OPERATOR(pg_catalog.=) %s",
                         quote_literal_cstr(hook->row.package));
    appendStringInfo(&sql, " ORDER BY e.event_id LIMIT %d) AS n", BATCH);
    request.command = sql.data;
    send_request(hook, HOOK_LOOKS, &request);
}

static char *
context_of(const AgentHook *hook)
{
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfoString(&out, "{\"hook\": ");
    escape_json(&out, hook->row.name);
    appendStringInfo(&out, ", \"event_id\": " INT64_FORMAT ", \"attempt\": %d}",
                     hook->events[hook->at].id, hook->attempts);
    return out.data;
}

/* NULL: it has changed since it was read. */
static const char *
command_of(const AgentHook *hook)
{
    const char *job;

    if (hook->row.job == NULL)
        return fleet_hook_sql(hook->id);
    job = quote_literal_cstr(hook->row.job);
    return psprintf("CALL fleet.execute_job(%s, fleet_link.hook_params(%s))", job, job);
}

static void
call_send(AgentHook *hook)
{
    const HookEvent *event = &hook->events[hook->at];
    FleetStepRequest request = {.command = command_of(hook),
                                .params = event->json,
                                .context = context_of(hook),
                                .transactional = hook->row.job == NULL && !hook->plain,
                                .hook_depth = event->depth + 1};

    if (request.command == NULL)
    {
        agent_hooks_load();
        hook->wait_until = fleet_clock_now() + RUNNER_WAIT;
        request_over(hook);
        return;
    }
    FLEET_POINT("hook_calls");
    send_request(hook, HOOK_CALLS, &request);
}

static void
call(AgentHook *hook)
{
    if (hook->attempts++ == 0)
        hook->started_at = fleet_clock_wall();
    call_send(hook);
}

/* ---- events of the runner ---- */

/* {"event_id":1,"hook_depth":0,... */
static void
event_read(AgentHook *hook, const char *json)
{
    HookEvent *event = &hook->events[hook->nevents];
    char *end;

    if (hook->nevents == BATCH || json == NULL)
        return;
    event->id = strtoll(json + strlen("{\"event_id\":"), &end, 10);
    event->depth = (int) strtol(end + strlen(",\"hook_depth\":"), &end, 10);
    event->json = agent_strdup(hook->events_context, json);
    hook->nevents++;
}

/* It is called, and nobody else has ended by that. */
static void
proved(AgentHook *hook)
{
    if (hook->stage != HOOK_CALLS || hook->proved)
        return;
    hook->proved = true;
    hook->cuts = 0;
    fleet_hook_calls(hook->id, hook->place, 0, 0);
}

static void
done(AgentHook *hook)
{
    if (hook->stage == HOOK_LOOKS)
        looked(hook);
    else
        event_done(hook, NULL);
}

/* Nothing was done: once more, without a transaction around it. */
static void
not_transactional(AgentHook *hook)
{
    hook->plain = true;
    call_send(hook);
}

void
agent_hook_event(void *owner, const FleetExecutorEvent *event)
{
    AgentHook *hook = owner;

    if (event->kind == FLEET_EXECUTOR_COMMITTED || event->kind == FLEET_EXECUTOR_ERROR ||
        event->kind == FLEET_EXECUTOR_NOT_TRANSACTIONAL || event->kind == FLEET_EXECUTOR_CUT)
    {
        agent_request_forget(hook->ref);
        hook->ref = 0;
    }
    if (event->kind == FLEET_EXECUTOR_COMMITTED || event->kind == FLEET_EXECUTOR_ERROR)
        proved(hook);
    switch (event->kind)
    {
        case FLEET_EXECUTOR_BEGAN:
        case FLEET_EXECUTOR_LOG: break;
        case FLEET_EXECUTOR_ROW: event_read(hook, event->output); break;
        case FLEET_EXECUTOR_PREPARED: hook->executor->methods->commit(hook->executor); break;
        case FLEET_EXECUTOR_COMMITTED: done(hook); break;
        case FLEET_EXECUTOR_NOT_TRANSACTIONAL: not_transactional(hook); break;
        case FLEET_EXECUTOR_CUT:
            hook->executor = NULL; /* it is gone with all it had */
            request_failed(hook, event->diag.sqlstate, event->diag.message, event->diag.detail);
            break;
        case FLEET_EXECUTOR_ERROR:
            request_failed(hook, event->diag.sqlstate, event->diag.message, event->diag.detail);
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
        if (dlist_container(AgentHook, running_node, iter.cur)->row.owner == role)
            return true;
    }
    return false;
}

/* What has happened is looked at once, if it is none of its kinds. */
static bool
has_work(AgentHook *hook, int64 newest)
{
    if (hook->at < hook->nevents || hook->look)
        return true;
    if (newest <= hook->seen)
        return false;
    if (agent_raised_last(hook->kinds) > hook->seen)
        return true;
    hook->seen = newest;
    return false;
}

/* True: it is not called yet: that it will be has to be stored before, or the agent has ended with it too often. */
static bool
noted_first(AgentHook *hook)
{
    int64 id = hook->events[hook->at].id;
    FleetDiagnostics why = {.sqlstate = FLEET_SQLSTATE_CRASH_SHUTDOWN,
                            .message = "the agent, or the server, has ended with its call"};

    if (hook->proved || hook->called == id)
        return false;
    if (hook->cuts >= CUTS_MAX && hook->row.called == id)
    {
        hook->attempts = hook->cuts;
        hook->started_at = fleet_clock_wall();
        event_done(hook, &why);
        return true;
    }
    hook->called = id;
    fleet_hook_calls(hook->id, hook->place, id, ++hook->cuts);
    turn_again();
    return true;
}

/* False: there is no runner for it now. */
static bool
begin(AgentHook *hook)
{
    const char *sqlstate, *message;

    fleet_catalog_begin();
    if (!fleet_security_role_may_run(hook->row.owner, &sqlstate, &message))
    {
        FleetDiagnostics why = {.sqlstate = sqlstate, .message = message};

        blocked(hook, &why);
        return true;
    }
    if (hook->at < hook->nevents && noted_first(hook))
        return true;
    hook->executor = agent_quota_runner(hook->row.owner, &sqlstate, &message);
    if (hook->executor == NULL)
        return false;
    hook->executor->owner = hook;
    hook->executor->clean = false;
    dlist_push_tail(&running, &hook->running_node);
    nrunning++;
    hook->stage = hook->at < hook->nevents ? HOOK_CALLS : HOOK_LOOKS;
    if (hook->at < hook->nevents)
        call(hook);
    else
        look(hook);
    return true;
}

static void
runners_turn(FleetTime now)
{
    int most = fleet_guc_max_runners / 2;
    int64 newest = agent_raised_last(FLEET_RAISED_ANY);
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &hooks)
    {
        AgentHook *hook = dlist_container(AgentHook, node, iter.cur);

        if (hook->stage != HOOK_RESTS || !has_work(hook, newest))
            continue;
        if (hook->wait_until > now)
            turn_wake_at(hook->wait_until);
        else if (nrunning > 0 && nrunning >= most)
            return; /* looked at when one of them ends */
        else if (!role_is_busy(hook->row.owner) && !begin(hook))
        {
            turn_wake_at(now + RUNNER_WAIT);
            if (!agent_quota_full(hook->row.owner))
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
        AgentHook *hook = dlist_container(AgentHook, running_node, iter.cur);

        if (hook->deadline > now)
            turn_wake_at(hook->deadline);
        else if (hook->late)
            request_failed(hook, FLEET_SQLSTATE_QUERY_CANCELED, "it did not stop", NULL);
        else
        {
            hook->late = true;
            hook->executor->methods->cancel(hook->executor);
            hook->deadline = now + (FLEET_POINT_HIT("hook_stuck") ? 0 : STOP_MAX);
            turn_wake_at(hook->deadline);
        }
    }
}

FleetTime
agent_hooks_turn(FleetTime now)
{
    if (to_read)
    {
        to_read = false;
        read_all();
    }
    if (dlist_is_empty(&hooks))
        return FLEET_NEVER;
    runners_turn(now);
    deadlines(now);
    return FLEET_NEVER;
}
