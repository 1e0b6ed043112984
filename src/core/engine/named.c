/*
 * core/engine/named.c
 *     Named limits: of all task runs that name one, of whatever run, at most so
 *     many are active at a time.
 *
 * A task run takes one place of each of its limits at the moment of its start,
 * all or none, so that none is held by what waits for another one or for a slot.
 * It gives them back with its slot's end: when its attempt is over, whatever
 * became of it.  A retry takes them anew.
 *
 * What is ready waits in the placer only as long as its limits have room:
 * of one limit and target, the placer knows no more than there is room for (the
 * *candidates*).  All others are *parked* with the first limit that has none; they
 * come up as room appears, so that a million of them cost no more than one.
 *
 * Those of the highest priority come up first, of these the one that came first.
 * Nothing starves: every SHARE-th that comes up is of the flow (as in the placer)
 * that has waited longest for a turn; and what was refused PATIENCE times at its
 * turn, since others had been faster, has what it needs *reserved*: nobody else
 * takes it, until it starts or turns out to have no slot.  There is one
 * reservation at a time.
 */
#include "core/engine/internal.h"

#define SHARE 4
#define PATIENCE 8

/* ---- limits ---- */

/* One that was never told of is none. */
static Named *
limit_get(FleetEngine *engine, uint64_t number)
{
    Named *limit = fleet_eng_numbered_find(&engine->named, number);

    if (limit == NULL)
    {
        limit = fleet_eng_numbered_add(engine, &engine->named, number, sizeof(Named));
        limit->most = UINT32_MAX;
    }
    return limit;
}

static void
flow_free(FleetEngine *engine, NamedFlow *flow)
{
    fleet_alloc_free(&engine->alloc, flow->parked.heap, flow->parked.capacity * sizeof(WaitingRun));
}

void
fleet_eng_named_free(FleetEngine *engine)
{
    for (uint32_t i = 0; i < engine->named.n; i++)
    {
        Named *limit = (Named *) engine->named.items[i];

        for (uint32_t t = 0; t < limit->ntargets; t++)
        {
            NamedTarget *target = &limit->targets[t];

            for (uint32_t f = 0; f < target->nflows; f++)
                flow_free(engine, &target->flows[f]);
            fleet_alloc_free(&engine->alloc, target->flows,
                             target->flow_capacity * sizeof(NamedFlow));
        }
        fleet_alloc_free(&engine->alloc, limit->targets,
                         limit->target_capacity * sizeof(NamedTarget));
        fleet_alloc_free(&engine->alloc, limit, sizeof(Named));
    }
    fleet_eng_numbered_free(engine, &engine->named);
    fleet_alloc_free(&engine->alloc, engine->waits, engine->waits_capacity * sizeof(Wait));
}

static NamedTarget *
target_get(FleetEngine *engine, Named *limit, uint32_t number)
{
    for (uint32_t i = 0; i < limit->ntargets; i++)
    {
        if (limit->targets[i].target == number)
            return &limit->targets[i];
    }
    fleet_alloc_grow(&engine->alloc, (void **) &limit->targets, &limit->target_capacity,
                     limit->ntargets + 1, sizeof(NamedTarget));
    limit->targets[limit->ntargets] = (NamedTarget){.target = number};
    return &limit->targets[limit->ntargets++];
}

static void
limit_changed(FleetEngine *engine, Named *limit)
{
    limit->changed = engine->named_changed = true;
}

/* ---- what waits ---- */

/* Of a ticket that is in use. */
static const FleetTaskSpec *
spec_of(const FleetEngine *engine, uint32_t ticket)
{
    FleetTaskRef ref = engine->tickets[ticket];

    return fleet_graph_task(fleet_eng_run(engine, ref.run)->graph, ref.task);
}

static bool
names(const FleetTaskSpec *spec, uint64_t number)
{
    for (uint32_t i = 0; i < spec->nlimits; i++)
    {
        if (spec->limits[i] == number)
            return true;
    }
    return false;
}

/* So many more of it may start, were they this ticket (0: any). */
static uint32_t
room_for(const FleetEngine *engine, const Named *limit, uint32_t ticket)
{
    uint32_t used = limit->held;

    if (engine->reserved != 0 && engine->reserved != ticket &&
        names(spec_of(engine, engine->reserved), limit->numbered.number))
        used++;
    return used < limit->most ? limit->most - used : 0;
}

static bool
room_in_all(FleetEngine *engine, uint32_t ticket)
{
    const FleetTaskSpec *spec = spec_of(engine, ticket);

    for (uint32_t i = 0; i < spec->nlimits; i++)
    {
        if (room_for(engine, limit_get(engine, spec->limits[i]), ticket) == 0)
            return false;
    }
    return true;
}

/* The first of its limits that lets no further candidate of this target in; NULL: none. */
static Named *
first_full(FleetEngine *engine, uint32_t ticket)
{
    const FleetTaskSpec *spec = spec_of(engine, ticket);

    for (uint32_t i = 0; i < spec->nlimits; i++)
    {
        Named *limit = limit_get(engine, spec->limits[i]);
        uint32_t others = target_get(engine, limit, engine->waits[ticket].target)->candidates;

        if (ticket == engine->reserved)
            others = 0;
        if (room_for(engine, limit, ticket) <= others)
            return limit;
    }
    return NULL;
}

static void
count_candidate(FleetEngine *engine, uint32_t ticket, bool in)
{
    const FleetTaskSpec *spec = spec_of(engine, ticket);

    for (uint32_t i = 0; i < spec->nlimits; i++)
    {
        Named *limit = limit_get(engine, spec->limits[i]);
        NamedTarget *target = target_get(engine, limit, engine->waits[ticket].target);

        target->candidates += in ? 1 : -1;
        if (!in)
            limit_changed(engine, limit);
    }
    engine->waits[ticket].candidate = in;
}

static NamedFlow *
flow_get(FleetEngine *engine, NamedTarget *target, uint32_t number, int32_t priority)
{
    for (uint32_t i = 0; i < target->nflows; i++)
    {
        if (target->flows[i].flow == number && target->flows[i].priority == priority)
            return &target->flows[i];
    }
    fleet_alloc_grow(&engine->alloc, (void **) &target->flows, &target->flow_capacity,
                     target->nflows + 1, sizeof(NamedFlow));
    target->flows[target->nflows] =
        (NamedFlow){.flow = number, .priority = priority, .stamp = ++engine->wait_order};
    return &target->flows[target->nflows++];
}

static void
park(FleetEngine *engine, Named *limit, uint32_t ticket)
{
    Wait *wait = &engine->waits[ticket];
    FleetTaskRef ref = engine->tickets[ticket];
    NamedTarget *target = target_get(engine, limit, wait->target);
    NamedFlow *flow =
        flow_get(engine, target, fleet_eng_flow(ref), fleet_eng_run(engine, ref.run)->priority);

    wait->limit = limit->numbered.number;
    fleet_eng_runs_push(engine, &flow->parked, (WaitingRun){ticket, 0, wait->order, 0});
}

/* To the placer, or to where it must wait. */
static void
offer(FleetEngine *engine, uint32_t ticket, FleetTime now)
{
    FleetTaskRef ref = engine->tickets[ticket];
    Run *run = fleet_eng_run(engine, ref.run);
    FleetTicket spec;
    Named *full = first_full(engine, ticket);

    if (full != NULL)
    {
        park(engine, full, ticket);
        return;
    }
    count_candidate(engine, ticket, true);
    fleet_eng_ticket_spec(engine, run, ref.task, fleet_eng_unit(run, ref), &spec);
    fleet_placer_ready_for(engine->placer, ticket, &spec, fleet_eng_flow(ref), now);
}

/* The first of its limits for which others wait already: it comes behind them.  NULL: none. */
static Named *
first_crowded(FleetEngine *engine, uint32_t ticket)
{
    const FleetTaskSpec *spec = spec_of(engine, ticket);

    for (uint32_t i = 0; i < spec->nlimits; i++)
    {
        Named *limit = limit_get(engine, spec->limits[i]);

        if (target_get(engine, limit, engine->waits[ticket].target)->nflows > 0)
            return limit;
    }
    return NULL;
}

void
fleet_eng_named_admit(FleetEngine *engine, uint32_t ticket, uint32_t target, FleetTime now)
{
    Named *crowded;

    fleet_alloc_grow(&engine->alloc, (void **) &engine->waits, &engine->waits_capacity, ticket + 1,
                     sizeof(Wait));
    engine->waits[ticket] = (Wait){.order = ++engine->wait_order, .target = target};
    if ((crowded = first_crowded(engine, ticket)) == NULL)
        offer(engine, ticket, now);
    else
    {
        park(engine, crowded, ticket);
        limit_changed(engine, crowded); /* it may be its turn */
    }
}

static bool
still_parked(const FleetEngine *engine, const Named *limit, const WaitingRun *entry)
{
    const Wait *wait = &engine->waits[entry->run];

    return wait->order == entry->seq && !wait->candidate && wait->limit == limit->numbered.number;
}

/* Those that wait no more go; false: there is nothing left of it, and it goes. */
static bool
flow_waits(FleetEngine *engine, const Named *limit, NamedTarget *target, uint32_t at)
{
    NamedFlow *flow = &target->flows[at];

    while (flow->parked.n > 0 && !still_parked(engine, limit, &flow->parked.heap[0]))
        (void) fleet_eng_runs_pop(&flow->parked);
    if (flow->parked.n > 0)
        return true;
    flow_free(engine, flow);
    *flow = target->flows[--target->nflows];
    return false;
}

static bool
flow_before(const NamedFlow *a, const NamedFlow *b, bool by_age)
{
    if (by_age)
        return a->stamp < b->stamp;
    if (a->priority != b->priority)
        return a->priority > b->priority;
    return a->parked.heap[0].seq < b->parked.heap[0].seq;
}

/* The next one to come up; 0: none. */
static uint32_t
next_parked(FleetEngine *engine, const Named *limit, NamedTarget *target)
{
    bool by_age = target->came + 1 >= SHARE && !FLEET_BUG_LIMIT_STARVES;
    NamedFlow *best = NULL;

    for (uint32_t i = 0; i < target->nflows;)
    {
        if (!flow_waits(engine, limit, target, i))
            continue;
        if (best == NULL || flow_before(&target->flows[i], best, by_age))
            best = &target->flows[i];
        i++;
    }
    if (best == NULL)
        return 0;
    target->came = by_age ? 0 : target->came + 1;
    best->stamp = ++engine->wait_order;
    return fleet_eng_runs_pop(&best->parked).run;
}

static void
refill(FleetEngine *engine, Named *limit, FleetTime now)
{
    for (uint32_t t = 0; t < limit->ntargets; t++)
    {
        uint32_t ticket;

        while (room_for(engine, limit, 0) > limit->targets[t].candidates &&
               (ticket = next_parked(engine, limit, &limit->targets[t])) != 0)
        {
            engine->waits[ticket].limit = UINT64_MAX; /* it is not there any more */
            offer(engine, ticket, now);
            if (!engine->waits[ticket].candidate &&
                engine->waits[ticket].limit == limit->numbered.number)
                break;
        }
    }
}

/* Before the placer is asked. */
void
fleet_eng_named_refill(FleetEngine *engine, FleetTime now)
{
    uint32_t reserved = engine->reserved;

    if (!engine->named_changed)
        return;
    engine->named_changed = false;
    if (reserved != 0 && !engine->waits[reserved].candidate && room_in_all(engine, reserved))
    {
        engine->waits[reserved].limit = UINT64_MAX;
        offer(engine, reserved, now);
    }
    for (uint32_t i = 0; i < engine->named.n; i++)
    {
        Named *limit = (Named *) engine->named.items[i];

        if (!limit->changed)
            continue;
        limit->changed = false;
        refill(engine, limit, now);
    }
}

/* ---- places ---- */

void
fleet_eng_named_hold(FleetEngine *engine, const FleetTaskSpec *spec, Unit *unit)
{
    for (uint32_t i = 0; i < spec->nlimits; i++)
        limit_get(engine, spec->limits[i])->held++;
    unit->flags |= UNIT_HOLDS;
}

static void
release(FleetEngine *engine, const FleetTaskSpec *spec, Unit *unit)
{
    for (uint32_t i = 0; i < spec->nlimits; i++)
    {
        Named *limit = limit_get(engine, spec->limits[i]);

        limit->held--;
        if (!FLEET_BUG_LIMIT_STALLS)
            limit_changed(engine, limit);
    }
    unit->flags &= (uint16_t) ~UNIT_HOLDS;
}

/* The placer has a slot for it: false, one of its limits has no room; it waits for that now. */
bool
fleet_eng_named_take(FleetEngine *engine, uint32_t ticket)
{
    FleetTaskRef ref = engine->tickets[ticket];
    const FleetTaskSpec *spec = spec_of(engine, ticket);
    Unit *unit = fleet_eng_unit(fleet_eng_run(engine, ref.run), ref);
    Wait *wait;
    Named *full = NULL;

    if (spec->nlimits == 0)
        return true;
    wait = &engine->waits[ticket];
    count_candidate(engine, ticket, false);
    if (room_in_all(engine, ticket) || (FLEET_BUG_LIMIT_EXCEEDED_BY_RETRY && unit->attempt > 0))
    {
        if (engine->reserved == ticket)
            engine->reserved = 0;
        wait->order = 0;
        fleet_eng_named_hold(engine, spec, unit);
        return true;
    }
    fleet_placer_release(engine->placer, ticket);
    if (++wait->refused >= PATIENCE && engine->reserved == 0 && !FLEET_BUG_LIMIT_STARVES)
        engine->reserved = ticket;
    for (uint32_t i = 0; i < spec->nlimits && full == NULL; i++)
    {
        Named *limit = limit_get(engine, spec->limits[i]);

        if (room_for(engine, limit, ticket) == 0)
            full = limit;
    }
    park(engine, full, ticket);
    return false;
}

static void
unreserve(FleetEngine *engine)
{
    const FleetTaskSpec *spec = spec_of(engine, engine->reserved);

    engine->waits[engine->reserved].refused = 0;
    engine->reserved = 0;
    for (uint32_t i = 0; i < spec->nlimits; i++)
        limit_changed(engine, limit_get(engine, spec->limits[i]));
}

/* The placer has nothing more: is it to be asked again? */
bool
fleet_eng_named_again(FleetEngine *engine)
{
    if (engine->reserved != 0 && engine->waits[engine->reserved].candidate)
        unreserve(engine); /* there is no slot for it, so others may go on */
    return engine->named_changed;
}

/* It leaves what it is in: it ends, or waits for something else.  Its ticket is still in use. */
void
fleet_eng_named_leave(FleetEngine *engine, const FleetTaskSpec *spec, Unit *unit)
{
    Wait *wait;

    if (unit->flags & UNIT_HOLDS)
    {
        release(engine, spec, unit);
        return;
    }
    if (unit->state != FLEET_QUEUED || unit->ref == 0)
        return;
    wait = &engine->waits[unit->ref];
    if (engine->reserved == unit->ref)
        unreserve(engine);
    if (wait->candidate)
        count_candidate(engine, unit->ref, false);
    wait->order = 0;
}

void
fleet_engine_named_limit(FleetEngine *engine, uint64_t number, uint32_t most)
{
    Named *limit = limit_get(engine, number);

    if (limit->most == most)
        return;
    limit->most = most;
    if (engine->reserved != 0)
        unreserve(engine);
    limit_changed(engine, limit);
}

uint32_t
fleet_engine_named_held(const FleetEngine *engine, uint64_t number)
{
    const Named *limit = fleet_eng_numbered_find(&engine->named, number);

    return limit == NULL ? 0 : limit->held;
}
