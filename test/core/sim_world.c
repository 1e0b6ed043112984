/*
 * sim_world.c
 *     The clock, the queue of events, the servers and what the adversary
 *     does to them.
 *
 * Events are handled in order of (time, order of insertion): one case is one
 * sequence, whatever machine plays it.  Events of a process that has died
 * meanwhile carry its old generation and are dropped; those of a frozen
 * parent wait until it wakes up.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define EVENT_LIMIT 2000000

const char *const sim_sqlstates[] = {"",      "40001", "22012", "08006", "57P01",
                                     "XX000", "42P01", "55P03", "53300"};
const uint32_t sim_nsqlstates = sizeof(sim_sqlstates) / sizeof(sim_sqlstates[0]);

void
sim_fail(Sim *s, const char *format, ...)
{
    va_list args;

    if (s->failed)
        return;
    s->failed = true;
    va_start(args, format);
    vsnprintf(s->why, sizeof s->why, format, args);
    va_end(args);
    TRACE(s, "VIOLATION: %s", s->why);
}

void
sim_say(Sim *s, const char *format, ...)
{
    va_list args;

    printf("%12.6f  ", (double) s->now / 1e6);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

uint64_t
sim_mix(uint64_t a, uint64_t b)
{
    uint64_t x = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

FleetTime
sim_span(Sim *s, FleetTime low, FleetTime high)
{
    if (high <= low)
        return low;
    return low + (FleetTime) (fleet_random_next(&s->random) % (uint64_t) (high - low + 1));
}

bool
sim_pct(Sim *s, uint32_t pct)
{
    return pct > 0 && fleet_random_below(&s->random, 100) < pct;
}

/* ---- queue: a binary heap of (time, order), payloads beside it ---- */

static bool
before(const SimHeapEntry *a, const SimHeapEntry *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

SimEvent *
sim_at(Sim *s, FleetTime at, SimEventKind kind, uint32_t a, uint32_t b, uint32_t gen)
{
    uint32_t slot, i;
    SimHeapEntry entry = {.at = at, .order = s->order++};

    if (s->nunused > 0)
        slot = s->unused[--s->nunused];
    else
    {
        slot = s->npool;
        SIM_GROW(s->pool, s->cap_pool, slot + 1, sizeof(SimEvent));
        s->npool++;
    }
    s->pool[slot] = (SimEvent){.kind = (uint8_t) kind, .a = a, .b = b, .gen = gen};
    entry.slot = slot;
    i = s->nheap;
    SIM_GROW(s->heap, s->cap_heap, i + 1, sizeof(SimHeapEntry));
    s->nheap++;
    for (; i > 0 && before(&entry, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = entry;
    return &s->pool[slot];
}

static SimEvent
pop(Sim *s)
{
    SimHeapEntry top = s->heap[0], last = s->heap[--s->nheap];
    SimEvent event = s->pool[top.slot];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < s->nheap)
    {
        if (child + 1 < s->nheap && before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!before(&s->heap[child], &last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    SIM_GROW(s->unused, s->cap_unused, s->nunused + 1, sizeof(uint32_t));
    s->unused[s->nunused++] = top.slot;
    s->now = top.at;
    return event;
}

/* ---- names: runs and attempts, the same in every copy of the catalog ---- */

uint32_t
sim_rid(Sim *s, uint64_t key, uint8_t package)
{
    for (uint32_t i = 0; i < s->nrids; i++)
        if (s->rids[i].key == key)
            return i;
    SIM_GROW(s->rids, s->cap_rids, s->nrids + 1, sizeof(SimRunId));
    s->rids[s->nrids] = (SimRunId){key, package};
    return s->nrids++;
}

static void
index_attempts(Sim *s, uint32_t size)
{
    s->attempt_index = sim_alloc(size * sizeof(uint32_t));
    s->attempt_index_size = size;
    for (uint32_t i = 0; i < s->nattempts; i++)
    {
        uint32_t slot = (uint32_t) s->attempts[i].key & (size - 1);

        while (s->attempt_index[slot] != 0)
            slot = (slot + 1) & (size - 1);
        s->attempt_index[slot] = i + 1;
    }
}

/* The token of an attempt derives from its names, so a stale copy derives the same one. */
uint32_t
sim_attempt(Sim *s, uint32_t rid, uint32_t task, uint32_t item, uint16_t number, uint8_t package,
            uint8_t mode)
{
    uint64_t key =
        sim_mix(sim_mix(s->rids[rid].key, task), sim_mix(item, ((uint64_t) number << 8) | mode));
    uint32_t slot;
    SimAttempt *attempt;

    if ((s->nattempts + 1) * 2 > s->attempt_index_size)
        index_attempts(s, s->attempt_index_size == 0 ? 64 : s->attempt_index_size * 2);
    slot = (uint32_t) key & (s->attempt_index_size - 1);
    for (; s->attempt_index[slot] != 0; slot = (slot + 1) & (s->attempt_index_size - 1))
        if (s->attempts[s->attempt_index[slot] - 1].key == key)
            return s->attempt_index[slot] - 1;
    SIM_GROW(s->attempts, s->cap_attempts, s->nattempts + 1, sizeof(SimAttempt));
    attempt = &s->attempts[s->nattempts];
    *attempt = (SimAttempt){.key = key,
                            .rid = rid,
                            .task = task,
                            .item = item,
                            .attempt = number,
                            .package = package,
                            .mode = mode};
    s->attempt_index[slot] = s->nattempts + 1;
    return s->nattempts++;
}

const SimTask *
sim_task_of(Sim *s, uint32_t aid)
{
    return &s->c->packages[s->attempts[aid].package].tasks[s->attempts[aid].task];
}

bool
sim_listed(const SimCase *c, uint32_t target, uint32_t server)
{
    for (uint32_t i = 0; i < c->target_sizes[target]; i++)
        if (c->targets[target][i] == server)
            return true;
    return false;
}

/* ---- processes ---- */

bool
sim_owner_up(Sim *s, SimOwner owner)
{
    if (owner.kind == OWNER_AGENT)
        return s->nodes[owner.index].agent_up;
    return s->parents[owner.index].up;
}

/* A place where a process may crash.  True: it is gone (now, or since a call below this one). */
bool
sim_boundary(Sim *s, SimOwner owner)
{
    if (s->failed || !sim_owner_up(s, owner))
        return true;
    if (s->healed || s->c->crash_ppm == 0 ||
        fleet_random_below(&s->random, 1000000) >= s->c->crash_ppm)
        return false;
    if (owner.kind == OWNER_AGENT)
        child_agent_die(s, owner.index, sim_span(s, FLEET_MS(1), FLEET_SECONDS(2)));
    else
        parent_die(s, owner.index, sim_span(s, FLEET_MS(1), FLEET_SECONDS(2)));
    return true;
}

/* ---- dispatch ---- */

/* Which parent is this event for?  SIM_NONE: for none. */
static uint32_t
parent_of(Sim *s, const SimEvent *e)
{
    switch ((SimEventKind) e->kind)
    {
        case EV_TURN:
        case EV_PARENT_START:
        case EV_CONNECT:
        case EV_CONNECTED:
        case EV_ITEMS:
        case EV_CONDITION: return e->a;
        case EV_TO_CLIENT:
        case EV_CLIENT_CLOSED:
            return s->conns[e->a].owner.kind == OWNER_PARENT ? s->conns[e->a].owner.index
                                                             : SIM_NONE;
        case EV_JOB_TIMER:
        case EV_RESOLVE: return e->a == OWNER_PARENT ? e->b : SIM_NONE;
        case EV_TO_SERVER:
        case EV_SERVER_CLOSED:
        case EV_SESSION:
        case EV_SERVER_START:
        case EV_AGENT_START:
        case EV_AGENT_POKE:
        case EV_ROOT:
        case EV_RESTART:
        case EV_FAULT:
        case EV_HEAL: break;
    }
    return SIM_NONE;
}

static bool
owner_is_of(Sim *s, SimOwner owner, uint32_t gen)
{
    return sim_owner_up(s, owner) &&
           gen == (owner.kind == OWNER_AGENT ? s->nodes[owner.index].agent_gen
                                             : s->parents[owner.index].gen);
}

static void
resolve_event(Sim *s, const SimEvent *e)
{
    SimOwner owner = {(uint8_t) e->a, (uint8_t) e->b};
    SimVolatileJob *v;
    SimJob *job;
    uint32_t node = owner.kind == OWNER_AGENT ? owner.index : s->parents[owner.index].node;
    bool in_progress;
    FleetExecEvent answer;

    if (!owner_is_of(s, owner, e->gen))
        return;
    v = job_volatile(s, owner, e->c);
    job = job_of(s, owner, e->c);
    if (!v->resolving || job->dead || job_final(job))
        return;
    if (owner.kind == OWNER_PARENT && s->attempts[job->aid].mode == SIM_DIRECT)
    {
        job_resolve(s, owner, e->c); /* ask again, over the link */
        return;
    }
    answer = session_xact_status(s, node, v->exec.xid, v->timeline, &in_progress);
    job_resolved(s, owner, e->c, answer, in_progress);
}

static void
parent_event(Sim *s, const SimEvent *e)
{
    SimParent *p = &s->parents[e->a];

    if (e->kind == EV_PARENT_START)
    {
        parent_start(s, e->a);
        return;
    }
    if (!p->up || p->gen != e->gen)
        return;
    switch ((SimEventKind) e->kind)
    {
        case EV_TURN:
            if (p->engine != NULL && p->turn_due && p->turn_at == s->now)
                parent_turn(s, e->a);
            break;
        case EV_CONNECT: parent_connect(s, e->a, e->b); break;
        case EV_ITEMS: parent_items(s, e->a, e->b, e->c); break;
        case EV_CONDITION: parent_condition(s, e->a, e->b, e->c, e->msg.serial); break;
        default: break;
    }
}

static void
handle(Sim *s, const SimEvent *e)
{
    uint32_t parent = parent_of(s, e);
    SimOwner owner = {(uint8_t) e->a, (uint8_t) e->b};

    if (parent != SIM_NONE && s->parents[parent].frozen_until > s->now)
    {
        SimEvent *later = sim_at(s, s->parents[parent].frozen_until, EV_HEAL, 0, 0, 0);

        *later = *e;
        if (e->kind == EV_TURN)
            s->parents[parent].turn_at = s->parents[parent].frozen_until;
        return;
    }
    switch ((SimEventKind) e->kind)
    {
        case EV_TURN:
        case EV_PARENT_START:
        case EV_CONNECT:
        case EV_CONNECTED:
        case EV_ITEMS:
        case EV_CONDITION: parent_event(s, e); break;
        case EV_TO_SERVER: conn_deliver_server(s, e->a, &e->msg); break;
        case EV_TO_CLIENT: conn_deliver_client(s, e->a, &e->msg); break;
        case EV_CLIENT_CLOSED: conn_client_closed(s, e->a); break;
        case EV_SERVER_CLOSED: conn_server_closed(s, e->a); break;
        case EV_SESSION:
            if (s->conns[e->a].serial == e->b)
                session_done(s, e->a);
            break;
        case EV_SERVER_START:
            if (s->nodes[e->a].up_gen == e->gen)
                sim_start_node(s, e->a);
            break;
        case EV_AGENT_START:
            if (s->nodes[e->a].agent_gen == e->gen)
                child_agent_start(s, e->a);
            break;
        case EV_AGENT_POKE:
            if (s->nodes[e->a].agent_gen == e->gen)
                child_agent_poke(s, e->a);
            break;
        case EV_JOB_TIMER:
            if (owner_is_of(s, owner, e->gen))
                job_timer(s, owner, e->c);
            break;
        case EV_RESOLVE: resolve_event(s, e); break;
        case EV_ROOT: parent_root(s, e->a); break;
        case EV_RESTART: parent_restart(s, e->a); break;
        case EV_FAULT: sim_fault(s, &s->c->faults[e->a]); break;
        case EV_HEAL: sim_heal(s); break;
    }
}

/* ---- a case ---- */

static void
build_graphs(Sim *s)
{
    FleetError error;

    for (uint32_t i = 0; i < s->c->npackages; i++)
    {
        const SimPackage *package = &s->c->packages[i];
        FleetTaskSpec *specs = sim_alloc((package->ntasks + 1) * sizeof(FleetTaskSpec));

        for (uint32_t t = 0; t < package->ntasks; t++)
            specs[t] = package->tasks[t].spec;
        s->graphs[i] = fleet_graph_create(&sim_core_alloc, specs, package->ntasks, package->edges,
                                          package->nedges, &error);
        if (s->graphs[i] == NULL)
            sim_fail(s, "a legal graph was refused: %s", error.message);
    }
}

static void
build_world(Sim *s)
{
    const SimCase *c = s->c;
    SimParent *p = &s->parents[0];

    for (uint32_t i = 1; i < c->nservers; i++)
    {
        s->nodes[i] = (SimNode){.mode = c->servers[i].mode,
                                .server = i,
                                .speed = c->servers[i].speed,
                                .up = true,
                                .link = SIM_NONE};
        s->nodes[i].db.timeline = 1;
        s->nodes[i].agent_up = c->servers[i].mode == SIM_AGENT;
    }
    s->nparents = 1;
    p->exists = true;
    p->node = SIM_SERVERS;
    p->catalog.timeline = 1;
    for (uint32_t i = 0; i < c->nservers; i++)
    {
        p->catalog.admin[i] = FLEET_SERVER_ONLINE;
        p->catalog.slots[i] = c->servers[i].slots;
    }
    for (uint32_t i = 0; i < c->npackages; i++)
        p->catalog.limits[i] = c->packages[i].limit;
    s->nodes[SIM_SERVERS] = (SimNode){.mode = SIM_LOCAL, .speed = 1, .up = true, .link = SIM_NONE};
    s->nodes[SIM_SERVERS].db.timeline = 1;
    s->roots_pending = c->nroots;
    sim_at(s, 0, EV_PARENT_START, 0, 0, 0);
    for (uint32_t i = 0; i < c->nroots; i++)
        sim_at(s, c->roots[i].at, EV_ROOT, i, 0, 0);
    for (uint32_t i = 0; i < c->nfaults; i++)
        sim_at(s, c->faults[i].at, EV_FAULT, i, 0, 0);
    sim_at(s, c->heal_at, EV_HEAL, 0, 0, 0);
}

static void
take_down(Sim *s)
{
    for (uint32_t p = 0; p < s->nparents; p++)
        if (s->parents[p].engine != NULL)
            fleet_engine_free(s->parents[p].engine);
    for (uint32_t i = 0; i < s->c->npackages; i++)
        if (s->graphs[i] != NULL)
            fleet_graph_free(s->graphs[i]);
    if (!s->failed && sim_core_misuse() != NULL)
        sim_fail(s, "%s", sim_core_misuse());
    if (!s->failed && sim_core_bytes() != 0)
        sim_fail(s, "the core still holds %zu bytes after everything was freed", sim_core_bytes());
    sim_core_forget();
}

/* Plays a case.  False: why[] says which rule was broken. */
bool
sim_run(const SimCase *c, bool trace, SimStats *stats, char *why, size_t size)
{
    Sim *s;
    bool good;

    sim_arena_reset();
    s = sim_alloc(sizeof(Sim));
    s->c = c;
    s->trace = trace;
    s->stats = stats;
    fleet_random_seed(&s->random, sim_mix(c->seed, 77));
    build_graphs(s);
    if (!s->failed)
        build_world(s);
    while (s->nheap > 0 && !s->failed)
    {
        SimEvent e = pop(s);

        handle(s, &e);
        if (++s->handled > EVENT_LIMIT)
            sim_fail(s, "it never ends (%u events and more)", EVENT_LIMIT);
    }
    if (!s->failed)
        oracle_end(s);
    take_down(s);
    stats->cases++;
    stats->events += s->handled;
    snprintf(why, size, "%s", s->why);
    good = !s->failed;
    return good;
}
