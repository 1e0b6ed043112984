/*
 * core/engine/queue.c
 *     The containers of the engine: the queue of decisions, the heap of
 *     timers, the pools of tickets and live records.
 *
 * The queue also holds *sweeps*: one entry that stands for any number of task
 * runs that changed state at once (canceled, mostly) and are marked
 * UNIT_CHANGED; fleet_engine_next() walks over them and tells one at a time.
 * A turn tells at most config.slice of them: then the sweep, and what comes after
 * it of the same run and frees no slot, are held until the next turn, and other
 * runs go on.
 */
#include "core/engine/internal.h"

/* Kinds that never leave the queue. */
#define SWEEP ((FleetDecisionKind) 100)  /* tasks ref.task … edge - 1, position in ref */
#define PURGED ((FleetDecisionKind) 101) /* its run is forgotten */

/* ---- decisions ---- */

static void
queue_grow(FleetEngine *engine)
{
    uint32_t old = engine->queue_capacity, head = engine->queue_head;
    uint32_t capacity = old == 0 ? 32 : old * 2;
    FleetDecision *queue;

    queue = engine->alloc.resize(engine->alloc.context, NULL, 0, capacity * sizeof(FleetDecision));
    for (uint32_t i = 0; i < engine->queue_count; i++)
        queue[i] = engine->queue[(head + i) & (old - 1)];
    fleet_alloc_free(&engine->alloc, engine->queue, old * sizeof(FleetDecision));
    engine->queue = queue;
    engine->queue_capacity = capacity;
    engine->queue_head = 0;
}

FleetDecision *
fleet_eng_push(FleetEngine *engine, FleetDecisionKind kind, FleetTaskRef ref)
{
    FleetDecision *decision;

    if (engine->queue_count == engine->queue_capacity)
        queue_grow(engine);
    decision =
        &engine->queue[(engine->queue_head + engine->queue_count) & (engine->queue_capacity - 1)];
    engine->queue_count++;
    *decision = (FleetDecision){
        .kind = kind, .ref = ref, .server = FLEET_NO_SERVER, .edge = UINT32_MAX, .at = FLEET_NEVER};
    return decision;
}

static void
describe(FleetDecision *decision, const Unit *unit)
{
    decision->state = (FleetState) unit->state;
    decision->server = unit->server;
    decision->attempt = unit->attempt;
    decision->failures = unit->failures;
}

FleetDecision *
fleet_eng_tell(FleetEngine *engine, FleetDecisionKind kind, FleetTaskRef ref, const Unit *unit)
{
    FleetDecision *decision = fleet_eng_push(engine, kind, ref);

    describe(decision, unit);
    return decision;
}

void
fleet_eng_tell_run(FleetEngine *engine, const Run *run)
{
    FleetDecision *decision = fleet_eng_push(engine, FLEET_DO_RUN, (FleetTaskRef){run->id, 0, 0});

    decision->state = run->state;
}

void
fleet_eng_sweep(FleetEngine *engine, const Run *run, uint32_t task, uint32_t end)
{
    fleet_eng_push(engine, SWEEP, (FleetTaskRef){run->id, task, 0})->edge = end;
}

void
fleet_eng_purge(FleetEngine *engine, uint32_t run)
{
    for (uint32_t i = 0; i < engine->queue_count; i++)
    {
        FleetDecision *d = &engine->queue[(engine->queue_head + i) & (engine->queue_capacity - 1)];

        if (d->ref.run == run)
            d->kind = PURGED;
    }
    for (uint32_t i = 0; i < engine->nheld; i++)
    {
        if (engine->held[i].ref.run == run)
            engine->held[i].kind = PURGED;
    }
}

/* ---- held decisions ---- */

static bool
may_sweep(const FleetEngine *engine)
{
    return engine->config.slice == 0 || engine->swept < engine->config.slice;
}

/* What frees a slot is not held, since another run may have the slot at once; nothing that is held
 * comes before it. */
static bool
must_wait(const FleetDecision *decision)
{
    bool end = decision->kind == FLEET_DO_STATE || decision->kind == FLEET_DO_CATCH;

    return !FLEET_BUG_SWEEP_OVERTAKEN && decision->kind != FLEET_DO_CANCEL &&
           decision->kind != FLEET_DO_REPLACE && /* names a run that may be gone by then */
           (!end || decision->attempt == 0);
}

static void
hold(FleetEngine *engine, const FleetDecision *decision)
{
    fleet_eng_run(engine, decision->ref.run)->held = true;
    fleet_alloc_grow(&engine->alloc, (void **) &engine->held, &engine->held_capacity,
                     engine->nheld + 1, sizeof(FleetDecision));
    engine->held[engine->nheld++] = *decision;
}

/* A new turn: what was held comes before what has come since. */
void
fleet_eng_release_held(FleetEngine *engine)
{
    uint32_t n = engine->nheld;

    engine->swept = 0;
    engine->nheld = 0;
    if (n == 0)
        return;
    while (engine->queue_count + n > engine->queue_capacity)
        queue_grow(engine);
    engine->queue_head = (engine->queue_head - n) & (engine->queue_capacity - 1);
    engine->queue_count += n;
    for (uint32_t i = 0; i < n; i++)
    {
        FleetDecision *d = &engine->queue[(engine->queue_head + i) & (engine->queue_capacity - 1)];

        *d = engine->held[i];
        if (d->kind != PURGED)
            fleet_eng_run(engine, d->ref.run)->held = false;
    }
}

/* The unit at the sweep's position, which moves on by one; NULL: the sweep is over. */
static Unit *
sweep_step(const Run *run, FleetDecision *sweep, FleetTaskRef *ref)
{
    Task *task;
    const Each *each;
    uint32_t items;

    if (sweep->ref.task >= sweep->edge)
        return NULL;
    *ref = sweep->ref;
    task = &run->tasks[ref->task];
    each = fleet_eng_each(run, ref->task);
    items = each != NULL ? each->count : 0;
    if (sweep->ref.item < items)
        sweep->ref.item++;
    else
    {
        sweep->ref.task++;
        sweep->ref.item = 0;
    }
    return ref->item == 0 ? &task->unit : &each->items[ref->item - 1];
}

static bool
sweep_next(FleetEngine *engine, FleetDecision *sweep, FleetDecision *decision)
{
    const Run *run = fleet_eng_run(engine, sweep->ref.run);
    FleetTaskRef ref;
    Unit *unit;

    while ((unit = sweep_step(run, sweep, &ref)) != NULL)
    {
        if (!(unit->flags & UNIT_CHANGED))
            continue;
        unit->flags &= (uint16_t) ~UNIT_CHANGED;
        *decision = (FleetDecision){
            .kind = FLEET_DO_STATE, .ref = ref, .edge = UINT32_MAX, .at = FLEET_NEVER};
        describe(decision, unit);
        return true;
    }
    return false;
}

/* A start that was taken back before it left the queue is told to nobody. */
static bool
start_stands(FleetEngine *engine, const FleetDecision *decision)
{
    Unit *unit = fleet_eng_unit(fleet_eng_run(engine, decision->ref.run), decision->ref);

    if (!(unit->flags & UNIT_UNSENT) || unit->attempt != decision->attempt ||
        unit->server != decision->server)
        return false;
    unit->flags &= (uint16_t) ~UNIT_UNSENT;
    return true;
}

/* A question about a task that has been canceled since: nobody would listen to the answer.  Items for a
 * run that has been paused since: they are asked for when it goes on. */
static bool
question_stands(FleetEngine *engine, const FleetDecision *decision)
{
    Run *run = fleet_eng_run(engine, decision->ref.run);

    if (decision->kind != FLEET_DO_EXPAND && decision->kind != FLEET_DO_CONDITION)
        return true;
    if (decision->kind == FLEET_DO_EXPAND && run->paused)
    {
        fleet_eng_each(run, decision->ref.task)->asked = false;
        return false;
    }
    return !fleet_eng_canceled(run, decision->ref.task) ||
           !FLEET_STATE_IS_FINAL(run->tasks[decision->ref.task].unit.state);
}

bool
fleet_engine_next(FleetEngine *engine, FleetDecision *decision)
{
    while (engine->queue_count > 0)
    {
        FleetDecision *head = &engine->queue[engine->queue_head];
        bool held =
            head->kind != PURGED && must_wait(head) && fleet_eng_run(engine, head->ref.run)->held;

        if (head->kind == SWEEP && !held && may_sweep(engine))
        {
            if (sweep_next(engine, head, decision))
            {
                engine->swept++;
                return true;
            }
            head->kind = PURGED; /* it is at its end */
        }
        *decision = *head;
        engine->queue_head = (engine->queue_head + 1) & (engine->queue_capacity - 1);
        engine->queue_count--;
        if (held || decision->kind == SWEEP)
        {
            hold(engine, decision);
            continue;
        }
        if (decision->kind == PURGED || !question_stands(engine, decision))
            continue;
        if (decision->kind == FLEET_DO_START && !start_stands(engine, decision))
            continue;
        return true;
    }
    return false;
}

/* ---- timers: a binary heap that knows where each of its members is ---- */

static uint32_t *
timer_position(FleetEngine *engine, uint32_t who)
{
    if (who & TIMER_SERVER)
        return &engine->servers[who & ~TIMER_SERVER].heap;
    if (who & TIMER_RUN)
        return &fleet_eng_run(engine, who & ~TIMER_RUN)->heap;
    return &engine->lives[who].heap;
}

static void
timer_put(FleetEngine *engine, uint32_t at, Timer timer)
{
    engine->timers[at] = timer;
    *timer_position(engine, timer.who) = at + 1;
}

static void
timer_up(FleetEngine *engine, uint32_t at, Timer timer)
{
    while (at > 0 && engine->timers[(at - 1) / 2].due > timer.due)
    {
        timer_put(engine, at, engine->timers[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    timer_put(engine, at, timer);
}

static void
timer_down(FleetEngine *engine, uint32_t at, Timer timer)
{
    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= engine->ntimers)
            break;
        if (child + 1 < engine->ntimers &&
            engine->timers[child + 1].due < engine->timers[child].due)
            child++;
        if (engine->timers[child].due >= timer.due)
            break;
        timer_put(engine, at, engine->timers[child]);
        at = child;
    }
    timer_put(engine, at, timer);
}

static void
timer_remove(FleetEngine *engine, uint32_t at)
{
    Timer last = engine->timers[engine->ntimers - 1];

    *timer_position(engine, engine->timers[at].who) = 0;
    engine->ntimers--;
    if (at == engine->ntimers)
        return;
    if (at > 0 && engine->timers[(at - 1) / 2].due > last.due)
        timer_up(engine, at, last);
    else
        timer_down(engine, at, last);
}

/* FLEET_NEVER takes the timer away. */
void
fleet_eng_timer_set(FleetEngine *engine, uint32_t who, FleetTime due)
{
    uint32_t position = *timer_position(engine, who);

    if (position != 0)
        timer_remove(engine, position - 1);
    if (due == FLEET_NEVER)
        return;
    fleet_alloc_grow(&engine->alloc, (void **) &engine->timers, &engine->timers_capacity,
                     engine->ntimers + 1, sizeof(Timer));
    engine->ntimers++;
    timer_up(engine, engine->ntimers - 1, (Timer){due, who});
}

FleetTime
fleet_engine_wakeup(const FleetEngine *engine)
{
    FleetTime placer = fleet_placer_wakeup(engine->placer);
    FleetTime timer = engine->ntimers > 0 ? engine->timers[0].due : FLEET_NEVER;

    if (engine->nheld > 0 || engine->room)
        return 0;
    return timer < placer ? timer : placer;
}

/* ---- tickets and live records: arrays with a list of the free ones; 0 is none ---- */

uint32_t
fleet_eng_ticket_new(FleetEngine *engine, FleetTaskRef ref)
{
    uint32_t ticket = engine->free_ticket;

    if (ticket != 0)
        engine->free_ticket = engine->tickets[ticket].run;
    else
    {
        ticket = ++engine->ntickets;
        fleet_alloc_grow(&engine->alloc, (void **) &engine->tickets, &engine->tickets_capacity,
                         ticket + 1, sizeof(FleetTaskRef));
    }
    engine->tickets[ticket] = ref;
    return ticket;
}

void
fleet_eng_ticket_free(FleetEngine *engine, uint32_t ticket)
{
    engine->tickets[ticket].run = engine->free_ticket;
    engine->free_ticket = ticket;
}

uint32_t
fleet_eng_live_new(FleetEngine *engine, FleetTaskRef ref)
{
    uint32_t live = engine->free_live;

    if (live != 0)
        engine->free_live = engine->lives[live].next;
    else
    {
        live = ++engine->nlives;
        fleet_alloc_grow(&engine->alloc, (void **) &engine->lives, &engine->lives_capacity,
                         live + 1, sizeof(Live));
    }
    engine->lives[live] = (Live){.due = FLEET_NEVER, .ref = ref, .server = FLEET_NO_SERVER};
    return live;
}

void
fleet_eng_live_free(FleetEngine *engine, uint32_t live)
{
    fleet_eng_timer_set(engine, live, FLEET_NEVER);
    engine->lives[live].next = engine->free_live;
    engine->free_live = live;
}
