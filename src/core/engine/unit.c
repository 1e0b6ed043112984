/*
 * core/engine/unit.c
 *     One task run: how it is handed to the placer, starts, is retried, is
 *     stopped, ends; and what happens to the started ones of a server that
 *     does not answer.
 *
 * Called by the rest of the engine and, through the events of engine.h, by
 * the driver.  Every change of state goes through fleet_eng_event(), that is
 * through the table in state.c.
 */
#include "core/engine/internal.h"
#include "core/sqlstate.h"

static bool
is_started(const Unit *unit)
{
    return unit->state == FLEET_STARTING || unit->state == FLEET_RUNNING ||
           unit->state == FLEET_CANCELING;
}

/* ---- counters and the table ---- */

void
fleet_eng_count(Run *run, const Unit *unit, int32_t by)
{
    uint32_t *counter = NULL;

    if (unit->flags & UNIT_UNCOUNTED)
        return;
    switch ((FleetState) unit->state)
    {
        case FLEET_QUEUED:
        case FLEET_RETRYING: counter = &run->counts.waiting; break;
        case FLEET_STARTING:
        case FLEET_RUNNING:
        case FLEET_CANCELING: counter = &run->counts.running; break;
        case FLEET_SUCCEEDED:
        case FLEET_SKIPPED: counter = &run->counts.done; break;
        case FLEET_FAILED:
        case FLEET_CANCELED:
        case FLEET_LOST:
        case FLEET_UNKNOWN: counter = &run->counts.bad; break;
    }
    *counter += (uint32_t) by;
    run->counts.total += (uint32_t) by;
}

/* From now on its items count instead of it. */
void
fleet_eng_uncount(Run *run, Unit *unit)
{
    fleet_eng_count(run, unit, -1);
    unit->flags |= UNIT_UNCOUNTED;
}

bool
fleet_eng_event(Run *run, Unit *unit, FleetEvent event)
{
    FleetState next;

    if (!fleet_state_next(FLEET_MACHINE_TASK, (FleetState) unit->state, event, &next))
        return false;
    fleet_eng_count(run, unit, -1);
    unit->state = (uint8_t) next;
    fleet_eng_count(run, unit, 1);
    return true;
}

/* ---- servers ---- */

/* Spans may be as long as FLEET_NEVER. */
static FleetTime
later(FleetTime now, FleetTime span)
{
    return now > FLEET_NEVER - span ? FLEET_NEVER : now + span;
}

static Server *
server_at(FleetEngine *engine, uint32_t server)
{
    uint32_t old = engine->servers_capacity;

    if (server >= engine->nservers)
    {
        fleet_alloc_grow(&engine->alloc, (void **) &engine->servers, &engine->servers_capacity,
                         server + 1, sizeof(Server));
        for (uint32_t s = old; s < engine->servers_capacity; s++)
            engine->servers[s] = (Server){.suspect_since = FLEET_NEVER};
        engine->nservers = server + 1;
    }
    return &engine->servers[server];
}

/* A suspect server has a timer exactly while something is started there. */
static void
arm_server(FleetEngine *engine, uint32_t number)
{
    Server *server = &engine->servers[number];
    FleetTime due = FLEET_NEVER;

    if (server->suspect_since != FLEET_NEVER && server->first != 0)
        due = FLEET_BUG_LOST_TOO_EARLY ? server->suspect_since
                                       : later(server->suspect_since, engine->config.lost_after);
    fleet_eng_timer_set(engine, number | TIMER_SERVER, due);
}

void
fleet_engine_limits(FleetEngine *engine, FleetTime lost_after, uint32_t max_active_runs)
{
    engine->config.lost_after = lost_after;
    engine->config.max_active_runs = max_active_runs;
    for (uint32_t i = 0; i < engine->nservers; i++)
        arm_server(engine, i);
}

void
fleet_eng_join_server(FleetEngine *engine, uint32_t live, uint32_t number)
{
    Live *l = &engine->lives[live];
    Server *server = server_at(engine, number);

    l->server = number;
    l->prev = 0;
    l->next = server->first;
    if (l->next != 0)
        engine->lives[l->next].prev = live;
    server->first = live;
    if (l->next == 0)
        arm_server(engine, number);
}

static void
leave_server(FleetEngine *engine, uint32_t live)
{
    Live *l = &engine->lives[live];

    if (l->server == FLEET_NO_SERVER)
        return;
    if (l->next != 0)
        engine->lives[l->next].prev = l->prev;
    if (l->prev != 0)
        engine->lives[l->prev].next = l->next;
    else
        engine->servers[l->server].first = l->next;
    if (engine->servers[l->server].first == 0)
        arm_server(engine, l->server);
    l->server = FLEET_NO_SERVER;
}

/* ---- into the placer and out of it ---- */

static uint32_t
target_of(FleetEngine *engine, const FleetTaskSpec *spec)
{
    if (spec->kind == FLEET_TASK_JOB)
        return spec->target;
    if (!engine->local_target_made)
    {
        engine->local_target_made = true;
        fleet_placer_target(engine->placer, engine->config.local_target,
                            &engine->config.local_server, 1);
    }
    return engine->config.local_target;
}

void
fleet_eng_ticket_spec(FleetEngine *engine, const Run *run, uint32_t task, const Unit *unit,
                      FleetTicket *ticket)
{
    const FleetTaskSpec *spec = fleet_graph_task(run->graph, task);

    ticket->target = target_of(engine, spec);
    ticket->policy = spec->policy;
    ticket->duration = unit->estimate > 0 ? unit->estimate : spec->estimate;
    ticket->tail = fleet_graph_tail(run->graph, task) - spec->estimate;
    ticket->avoid = unit->flags & UNIT_AVOID ? unit->server : FLEET_NO_SERVER;
    ticket->priority = run->priority;
}

/*
 * Fairness is between the crowds of items and the runs' single tasks.  (After
 * a recovery everything becomes ready at the same moment: a flow that is only
 * that moment would put a single task behind another run's million items.)
 */
uint32_t
fleet_eng_flow(FleetTaskRef ref)
{
    uint32_t mixed = ref.run * UINT32_C(0x9E3779B1) ^ (ref.task + 1) * UINT32_C(0x85EBCA6B);

    return ref.item == 0 ? ref.run : mixed & INT32_MAX; /* two crowds in one flow: no harm */
}

void
fleet_eng_admit(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, FleetTime now)
{
    const FleetTaskSpec *task = fleet_graph_task(run->graph, ref.task);
    FleetTicket spec;

    if (run->paused && !FLEET_BUG_PAUSED_STARTS)
        return; /* steer.c finds it when the run goes on */
    if (ref.item > 0)
        fleet_eng_each(run, ref.task)->admitted++;
    if (task->kind == FLEET_TASK_PACKAGE)
    {
        fleet_eng_start(engine, run, ref, unit, 0, FLEET_NO_SERVER);
        return;
    }
    unit->ref = fleet_eng_ticket_new(engine, ref);
    if (task->nlimits > 0)
    {
        fleet_eng_named_admit(engine, unit->ref, target_of(engine, task), now);
        return;
    }
    fleet_eng_ticket_spec(engine, run, ref.task, unit, &spec);
    fleet_placer_ready_for(engine->placer, unit->ref, &spec, fleet_eng_flow(ref), now);
}

void
fleet_eng_start(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, uint32_t ticket,
                uint32_t server)
{
    uint32_t live = fleet_eng_live_new(engine, ref);

    fleet_eng_event(run, unit, FLEET_EVENT_START);
    unit->ref = live;
    unit->server = server;
    unit->attempt++;
    unit->flags &= (uint16_t) ~(UNIT_AVOID | UNIT_TIMED_OUT);
    unit->flags |= UNIT_UNSENT;
    engine->lives[live].ticket = ticket;
    if (server != FLEET_NO_SERVER)
        fleet_eng_join_server(engine, live, server);
    fleet_eng_tell(engine, FLEET_DO_START, ref, unit);
}

/* Takes the unit out of everything that its state put it into; the state changes right after. */
void
fleet_eng_detach(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit)
{
    bool admitted = unit->ref != 0 && unit->state != FLEET_RETRYING;
    const FleetTaskSpec *spec = fleet_graph_task(run->graph, ref.task);

    if (spec->nlimits > 0 && spec->kind != FLEET_TASK_PACKAGE)
        fleet_eng_named_leave(engine, spec, unit);
    if (unit->ref != 0 && unit->state == FLEET_QUEUED)
    {
        fleet_placer_withdraw(engine->placer, unit->ref);
        fleet_eng_ticket_free(engine, unit->ref);
    }
    else if (unit->ref != 0)
    {
        uint32_t ticket = engine->lives[unit->ref].ticket;

        if (ticket != 0)
        {
            fleet_placer_release(engine->placer, ticket);
            fleet_eng_ticket_free(engine, ticket);
        }
        leave_server(engine, unit->ref);
        fleet_eng_live_free(engine, unit->ref);
    }
    if (admitted && ref.item > 0)
        fleet_eng_each(run, ref.task)->admitted--;
    unit->ref = 0;
    unit->flags &= (uint16_t) ~(UNIT_BACKLOG | UNIT_UNSENT);
}

/* Its constraints hold, and nothing of it is under way. */
static bool
waits_ready(const Unit *unit, FleetTaskRef ref)
{
    return unit->state == FLEET_RETRYING ||
           (unit->state == FLEET_QUEUED && (ref.item > 0 || (unit->flags & UNIT_READY)));
}

/* True: it was to be skipped, and is; the caller propagates. */
bool
fleet_eng_skip_waiting(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, FleetTime now)
{
    if (!(unit->flags & UNIT_LEFT_OUT) || !waits_ready(unit, ref))
        return false;
    unit->flags |= FLEET_BUG_SKIPPED_NOT_PASSED ? 0 : UNIT_PASSED;
    fleet_eng_settle(engine, run, ref, unit, FLEET_EVENT_SKIP, now);
    return true;
}

/* Queued again: to the placer, or behind the throttle. */
static void
requeue(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, FleetTime now)
{
    if (fleet_eng_skip_waiting(engine, run, ref, unit, now))
        return;
    if (ref.item > 0)
        fleet_eng_item_queued(engine, run, ref, unit, now);
    else
        fleet_eng_admit(engine, run, ref, unit, now);
}

/* ---- ends ---- */

void
fleet_eng_settle(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, FleetEvent event,
                 FleetTime now)
{
    fleet_eng_detach(engine, run, ref, unit);
    fleet_eng_event(run, unit, event);
    fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
    fleet_eng_caught(engine, run, ref, unit, now);
    if (ref.item > 0)
        fleet_eng_item_settled(engine, run, ref, now);
    else
        fleet_eng_task_settled(engine, run, ref.task);
}

static bool
may_retry(const Run *run, FleetTaskRef ref, const Unit *unit, FleetState outcome,
          const char *sqlstate)
{
    const FleetTaskSpec *spec = fleet_graph_task(run->graph, ref.task);

    if (fleet_eng_canceled(run, ref.task) || fleet_eng_stopping(run, ref))
        return false;
    if (unit->attempt == UINT16_MAX)
        return false;
    if (unit->failures >= spec->retry.retries &&
        !(FLEET_BUG_RETRY_FORGETS_LIMIT && spec->retry.retries > 0))
        return false;
    if (outcome == FLEET_LOST)
        return spec->on_lost == FLEET_LOST_RETRY;
    return (outcome == FLEET_FAILED || outcome == FLEET_UNKNOWN) &&
           fleet_retry_matches(&spec->retry, sqlstate);
}

static void
retry(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, bool avoid, FleetTime now)
{
    const FleetRetry *rule = &fleet_graph_task(run->graph, ref.task)->retry;
    Each *each = fleet_eng_each(run, ref.task);
    uint32_t live;
    FleetTime due;

    fleet_eng_detach(engine, run, ref, unit);
    fleet_eng_event(run, unit, FLEET_EVENT_RETRY);
    unit->failures++;
    if (avoid)
        unit->flags |= UNIT_AVOID;
    due = later(now, fleet_retry_wait(rule, unit->failures, &engine->random));
    live = fleet_eng_live_new(engine, ref);
    unit->ref = live;
    engine->lives[live].due = due;
    fleet_eng_timer_set(engine, live, due);
    fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit)->at = due;
    if (each != NULL)
        fleet_eng_items_admit(engine, run, each, now);
}

static FleetEvent
event_of(FleetState outcome)
{
    switch (outcome)
    {
        case FLEET_SUCCEEDED: return FLEET_EVENT_SUCCEEDED;
        case FLEET_FAILED: return FLEET_EVENT_FAILED;
        case FLEET_CANCELED: return FLEET_EVENT_STOPPED;
        case FLEET_LOST: return FLEET_EVENT_LOST;
        case FLEET_UNKNOWN: return FLEET_EVENT_UNKNOWN;
        case FLEET_QUEUED:
        case FLEET_STARTING:
        case FLEET_RUNNING:
        case FLEET_RETRYING:
        case FLEET_CANCELING:
        case FLEET_SKIPPED: break;
    }
    return FLEET_EVENT_SKIP; /* legal for nothing that is started */
}

/* An attempt is over: another one, or the end. */
static void
attempt_ended(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit, FleetState outcome,
              const char *sqlstate, FleetTime now)
{
    if (outcome == FLEET_CANCELED && (unit->flags & UNIT_TIMED_OUT) &&
        !fleet_eng_canceled(run, ref.task) && !fleet_eng_stopping(run, ref))
    {
        outcome = FLEET_FAILED;
        sqlstate = FLEET_SQLSTATE_QUERY_CANCELED;
    }
    if (may_retry(run, ref, unit, outcome, sqlstate))
        retry(engine, run, ref, unit, outcome == FLEET_LOST, now);
    else
        fleet_eng_settle(engine, run, ref, unit, event_of(outcome), now);
}

/* ---- cancel ---- */

/*
 * What waits is canceled at once (true: the caller keeps the books and sweeps),
 * what is started gets its FLEET_DO_CANCEL, what is being stopped already has it.
 */
bool
fleet_eng_cancel_unit(FleetEngine *engine, Run *run, FleetTaskRef ref, Unit *unit)
{
    if (FLEET_STATE_IS_FINAL(unit->state) || unit->state == FLEET_CANCELING)
        return false;
    if (FLEET_BUG_START_AFTER_CANCEL && unit->state == FLEET_QUEUED && unit->ref != 0)
        return false;
    if (is_started(unit) && !(unit->flags & UNIT_UNSENT))
    {
        fleet_eng_event(run, unit, FLEET_EVENT_CANCEL);
        fleet_eng_timer_set(engine, unit->ref, FLEET_NEVER);
        fleet_eng_tell(engine, FLEET_DO_CANCEL, ref, unit);
        return false;
    }
    if (unit->state == FLEET_STARTING) /* never sent: the start is taken back */
        unit->attempt--;
    fleet_eng_detach(engine, run, ref, unit);
    fleet_eng_event(run, unit, FLEET_EVENT_CANCEL);
    if (unit->state == FLEET_CANCELING)
        fleet_eng_event(run, unit, FLEET_EVENT_NOT_STARTED);
    unit->flags |= UNIT_CHANGED;
    return true;
}

/* ---- events of the driver about one task run ---- */

/* The unit if an answer about this attempt can be meant; the whole of a for_each has no attempt. */
static Unit *
answering(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt, Run **run)
{
    Unit *unit;

    *run = fleet_eng_run(engine, ref.run);
    if (*run == NULL || (*run)->loading)
        return NULL;
    unit = fleet_eng_unit(*run, ref);
    if (unit == NULL || (ref.item == 0 && fleet_eng_each(*run, ref.task) != NULL))
        return NULL;
    if (!is_started(unit) || (unit->attempt != attempt && !FLEET_BUG_LATE_ANSWER_ACCEPTED))
        return NULL;
    return unit;
}

static void
set_timeout(FleetEngine *engine, const Run *run, FleetTaskRef ref, const Unit *unit, FleetTime now)
{
    FleetTime timeout = fleet_graph_task(run->graph, ref.task)->timeout;

    if (timeout > 0)
        fleet_eng_timer_set(engine, unit->ref, later(now, timeout));
}

bool
fleet_engine_accepted(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt, FleetTime now)
{
    Run *run;
    Unit *unit = answering(engine, ref, attempt, &run);
    bool was_starting;

    if (unit == NULL)
        return false;
    was_starting = unit->state == FLEET_STARTING;
    if (!fleet_eng_event(run, unit, FLEET_EVENT_ACCEPTED))
        return false;
    if (!was_starting)
        return true;
    if (fleet_graph_task(run->graph, ref.task)->started_is_done)
    {
        fleet_eng_settle(engine, run, ref, unit, FLEET_EVENT_SUCCEEDED, now);
        fleet_eng_propagate(engine, run, now);
        return true;
    }
    fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
    set_timeout(engine, run, ref, unit, now);
    return true;
}

bool
fleet_engine_leaving(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt)
{
    Run *run;
    Unit *unit = answering(engine, ref, attempt, &run);
    uint32_t ticket = unit == NULL ? 0 : engine->lives[unit->ref].ticket;

    if (ticket == 0)
        return false;
    fleet_placer_release(engine->placer, ticket);
    fleet_eng_ticket_free(engine, ticket);
    engine->lives[unit->ref].ticket = 0;
    return true;
}

bool
fleet_engine_finished(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt, FleetState outcome,
                      const char *sqlstate, FleetTime now)
{
    Run *run;
    Unit *unit = answering(engine, ref, attempt, &run);

    if (unit == NULL || event_of(outcome) == FLEET_EVENT_SKIP)
        return false;
    attempt_ended(engine, run, ref, unit, outcome, sqlstate, now);
    fleet_eng_propagate(engine, run, now);
    return true;
}

bool
fleet_engine_not_started(FleetEngine *engine, FleetTaskRef ref, uint16_t attempt, FleetTime now)
{
    Run *run;
    Unit *unit = answering(engine, ref, attempt, &run);

    if (unit == NULL || unit->state == FLEET_RUNNING)
        return false;
    if (unit->state == FLEET_CANCELING)
        attempt_ended(engine, run, ref, unit, FLEET_CANCELED, NULL, now);
    else if (unit->attempt == UINT16_MAX) /* no number left for another attempt */
        attempt_ended(engine, run, ref, unit, FLEET_FAILED, NULL, now);
    else
    {
        fleet_eng_detach(engine, run, ref, unit);
        fleet_eng_event(run, unit, FLEET_EVENT_NOT_STARTED);
        unit->flags |= UNIT_AVOID;
        fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
        requeue(engine, run, ref, unit, now);
    }
    fleet_eng_propagate(engine, run, now);
    return true;
}

bool
fleet_engine_fail(FleetEngine *engine, FleetTaskRef ref, const char *sqlstate, FleetTime now)
{
    Run *run = fleet_eng_run(engine, ref.run);
    Unit *unit = run != NULL && !run->loading ? fleet_eng_unit(run, ref) : NULL;
    Each *each;

    (void) sqlstate; /* no retry, whatever it says */
    if (unit == NULL || FLEET_STATE_IS_FINAL(unit->state))
        return false;
    each = ref.item == 0 ? fleet_eng_each(run, ref.task) : NULL;
    if (each != NULL && each->known)
    {
        bool changed = fleet_eng_event(run, unit, FLEET_EVENT_CANCEL);

        each->failed = true;
        fleet_eng_items_stop(engine, run, each, now);
        if (changed && unit->state == FLEET_CANCELING)
            fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
    }
    else
        fleet_eng_settle(engine, run, ref, unit, FLEET_EVENT_FAILED, now);
    fleet_eng_propagate(engine, run, now);
    return true;
}

/* ---- timers ---- */

static void
live_due(FleetEngine *engine, uint32_t live, FleetTime now)
{
    FleetTaskRef ref = engine->lives[live].ref;
    Run *run = fleet_eng_run(engine, ref.run);
    Unit *unit = fleet_eng_unit(run, ref);

    if (unit->state == FLEET_RETRYING)
    {
        fleet_eng_detach(engine, run, ref, unit);
        fleet_eng_event(run, unit, FLEET_EVENT_DUE);
        fleet_eng_tell(engine, FLEET_DO_STATE, ref, unit);
        requeue(engine, run, ref, unit, now);
        fleet_eng_propagate(engine, run, now);
        return;
    }
    fleet_eng_timer_set(engine, live, FLEET_NEVER);
    fleet_eng_event(run, unit, FLEET_EVENT_CANCEL);
    unit->flags |= UNIT_TIMED_OUT;
    fleet_eng_tell(engine, FLEET_DO_CANCEL, ref, unit);
}

/* Silent for too long: everything that was started there is lost. */
static void
server_due(FleetEngine *engine, uint32_t server, FleetTime now)
{
    uint32_t live;

    fleet_eng_timer_set(engine, server | TIMER_SERVER, FLEET_NEVER);
    while ((live = engine->servers[server].first) != 0)
    {
        FleetTaskRef ref = engine->lives[live].ref;
        Run *run = fleet_eng_run(engine, ref.run);

        attempt_ended(engine, run, ref, fleet_eng_unit(run, ref), FLEET_LOST, NULL, now);
        fleet_eng_propagate(engine, run, now);
    }
}

void
fleet_eng_fire_timers(FleetEngine *engine, FleetTime now)
{
    while (engine->ntimers > 0 && engine->timers[0].due <= now)
    {
        uint32_t who = engine->timers[0].who;

        if (who & TIMER_SERVER)
            server_due(engine, who & ~TIMER_SERVER, now);
        else if (who & TIMER_RUN)
            fleet_eng_run_due(engine, who & ~TIMER_RUN, now);
        else
            live_due(engine, who, now);
    }
}

/* ---- a server's state ---- */

/* Its starts that are still in the queue were told to nobody: they are placed again. */
static void
take_back_starts(FleetEngine *engine, uint32_t server, FleetTime now)
{
    uint32_t live = engine->servers[server].first, next;

    for (; live != 0; live = next)
    {
        FleetTaskRef ref = engine->lives[live].ref;
        Run *run = fleet_eng_run(engine, ref.run);
        Unit *unit = fleet_eng_unit(run, ref);

        next = engine->lives[live].next;
        if (!(unit->flags & UNIT_UNSENT))
            continue;
        fleet_eng_detach(engine, run, ref, unit);
        fleet_eng_event(run, unit, FLEET_EVENT_NOT_STARTED);
        unit->attempt--;
        requeue(engine, run, ref, unit, now);
        fleet_eng_propagate(engine, run, now);
    }
}

void
fleet_engine_server(FleetEngine *engine, uint32_t number, const FleetServerSpec *spec,
                    FleetTime now)
{
    Server *server = server_at(engine, number);
    FleetServerState state = spec->state;

    fleet_placer_server(engine->placer, number, spec);
    if (state == FLEET_SERVER_ONLINE || state == FLEET_SERVER_DRAINING)
        server->suspect_since = FLEET_NEVER;
    else if (state == FLEET_SERVER_SUSPECT && server->suspect_since == FLEET_NEVER)
        server->suspect_since = now;
    arm_server(engine, number);
    if (state != FLEET_SERVER_ONLINE)
        take_back_starts(engine, number, now);
}

FleetTime
fleet_engine_task_ready(const FleetEngine *engine, FleetTaskRef ref)
{
    return fleet_eng_run(engine, ref.run)->tasks[ref.task].ready;
}
