/*
 * core/placement/placement.c
 *     The placer's servers, targets and calls (placement.h).  Called by the
 *     engine in the agent, by the planner and by the simulator; pure, no I/O.
 *     The structures are explained in internal.h.
 */
#include "core/placement/internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- begin and end ---- */

FleetPlacer *
fleet_placer_create(const FleetAlloc *alloc)
{
    FleetPlacer *placer = fleet_alloc_zero(alloc, sizeof(FleetPlacer));

    placer->alloc = alloc;
    placer->bytes = sizeof(FleetPlacer);
    placer->free_flow = NONE;
    placer->wakeup = FLEET_NEVER;
    return placer;
}

static void
target_free(FleetPlacer *placer, Target *target)
{
    placer_resize(placer, target->servers, target->nservers * sizeof(uint32_t), 0);
    for (int i = 0; i < POLICIES; i++)
        if (target->trees[i] != NULL)
            placer_resize(placer, target->trees[i], target->nservers * sizeof(uint32_t), 0);
    if (target->turn != NULL)
        placer_resize(placer, target->turn, target->nservers * sizeof(double), 0);
    if (target->pass != NULL)
        placer_resize(placer, target->pass, target->nservers * sizeof(double), 0);
    placer_resize(placer, target->queues, target->queue_capacity * sizeof(uint32_t), 0);
    placer_resize(placer, target->view, target->view_capacity * sizeof(SlotView), 0);
    placer_resize(placer, target, sizeof(Target), 0);
}

static void
queue_free(FleetPlacer *placer, Queue *queue)
{
    for (int i = 0; i < OCTAVES; i++)
        if (queue->octaves[i] != NULL)
            placer_resize(placer, queue->octaves[i], sizeof(Octave), 0);
    placer_resize(placer, queue, sizeof(Queue), 0);
}

void
fleet_placer_free(FleetPlacer *placer)
{
    const FleetAlloc *alloc = placer->alloc;
    Octave *octave;

    for (uint32_t i = 0; i < placer->page_capacity; i++)
        if (placer->pages[i] != NULL)
            placer_resize(placer, placer->pages[i], PAGE_SIZE * sizeof(Ticket), 0);
    placer_resize(placer, placer->pages, placer->page_capacity * sizeof(Ticket *), 0);
    for (uint32_t i = 0; i < placer->nservers; i++)
    {
        Server *server = &placer->servers[i];

        placer_resize(placer, server->heap, server->heap_capacity * sizeof(uint32_t), 0);
        placer_resize(placer, server->members, server->member_capacity * sizeof(Member), 0);
    }
    placer_resize(placer, placer->servers, placer->server_capacity * sizeof(Server), 0);
    for (uint32_t i = 0; i < placer->ntargets; i++)
        if (placer->targets[i] != NULL)
            target_free(placer, placer->targets[i]);
    placer_resize(placer, placer->targets, placer->target_capacity * sizeof(Target *), 0);
    for (uint32_t i = 0; i < placer->nqueues; i++)
        queue_free(placer, placer->queues[i]);
    while ((octave = placer->free_octaves) != NULL)
    {
        placer->free_octaves = octave->next_free;
        placer_resize(placer, octave, sizeof(Octave), 0);
    }
    placer_resize(placer, placer->queues, placer->queue_capacity * sizeof(Queue *), 0);
    placer_resize(placer, placer->free_queues, placer->free_queue_capacity * sizeof(uint32_t), 0);
    placer_resize(placer, placer->flows, placer->flow_capacity * sizeof(Flow), 0);
    placer_resize(placer, placer->buckets, placer->nbuckets * sizeof(uint32_t), 0);
    placer_resize(placer, placer->candidates, placer->candidate_capacity * sizeof(uint32_t), 0);
    placer_resize(placer, placer->sleepers, placer->sleeper_capacity * sizeof(uint32_t), 0);
    assert(placer->bytes == sizeof(FleetPlacer));
    fleet_alloc_free(alloc, placer, sizeof(FleetPlacer));
}

size_t
fleet_placer_memory(const FleetPlacer *placer)
{
    return placer->bytes;
}

/* ---- sleepers ---- */

static void
wake_due(FleetPlacer *placer, FleetTime now)
{
    if (now < placer->wakeup)
        return;
    for (uint32_t i = placer->nsleepers; i-- > 0;)
        if (placer->targets[placer->sleepers[i]]->wake <= now)
            target_wake(placer, placer->sleepers[i]);
    placer->wakeup = FLEET_NEVER;
    for (uint32_t i = 0; i < placer->nsleepers; i++)
        if (placer->targets[placer->sleepers[i]]->wake < placer->wakeup)
            placer->wakeup = placer->targets[placer->sleepers[i]]->wake;
}

FleetTime
fleet_placer_wakeup(const FleetPlacer *placer)
{
    return placer->wakeup;
}

/* ---- servers ---- */

static Server *
server_make(FleetPlacer *placer, uint32_t number)
{
    if (number >= placer->nservers)
    {
        placer_grow(placer, &placer->servers, &placer->server_capacity, number + 1, sizeof(Server));
        for (; placer->nservers <= number; placer->nservers++)
        {
            Server *server = &placer->servers[placer->nservers];

            server->spec =
                (FleetServerSpec){.state = FLEET_SERVER_OFFLINE, .weight = 1, .speed = 1};
            server_load(server);
        }
    }
    return &placer->servers[number];
}

static bool
server_takes(const FleetServerSpec *spec)
{
    return spec->slots > 0 &&
           (spec->state == FLEET_SERVER_ONLINE ||
            (FLEET_BUG_DRAINING_GETS_WORK && spec->state == FLEET_SERVER_DRAINING));
}

static bool
server_usable(const FleetServerSpec *spec)
{
    return spec->state == FLEET_SERVER_ONLINE || spec->state == FLEET_SERVER_SUSPECT;
}

/* Adds (sign 1) or takes away (sign -1) what one server is to a target. */
static void
target_count(Target *target, const Server *server, int sign)
{
    target->nusable += server_usable(&server->spec) ? sign : 0;
    target->ntaking += server->takes ? sign : 0;
    target->slots += server->takes ? (uint32_t) sign * server->spec.slots : 0;
    target->nfree += server_has_free(server) ? sign : 0;
}

static double
sane(double value)
{
    if (!(value > 0))
        return 1;
    return value < 1.0 / 4096 ? 1.0 / 4096 : value > 4096 ? 4096 : value;
}

static void
server_set(Server *server, const FleetServerSpec *spec)
{
    uint32_t slots = server->spec.slots;

    server->spec = *spec;
    server->spec.weight = sane(spec->weight);
    server->spec.speed = sane(spec->speed);
    if (FLEET_BUG_SHRUNK_SLOTS_IGNORED && spec->slots < slots)
        server->spec.slots = slots;
    server->takes = server_takes(&server->spec);
    server->rank = (int16_t) lround(log2(server->spec.speed) * 16);
    server_load(server);
}

/* Is what was seen of the members still good enough?  Learned speeds change often. */
static void
target_speed_changed(Target *target, const Server *old, const Server *server)
{
    if (target->changes == NONE)
        return;
    if (old->takes != server->takes || old->spec.slots != server->spec.slots ||
        (old->rank == target->top_rank && server->rank < old->rank))
    {
        target->changes = NONE;
        return;
    }
    target->changes++;
    if (server->takes && server->rank > target->top_rank)
        target->top_rank = server->rank;
}

void
fleet_placer_server(FleetPlacer *placer, uint32_t number, const FleetServerSpec *spec)
{
    Server *server = server_make(placer, number);
    Server old = *server;

    server_set(server, spec);
    /* speeds are learned, so they change by a little all the time: that is cheap */
    if (old.takes == server->takes && old.spec.state == server->spec.state &&
        old.spec.slots == server->spec.slots && old.rank == server->rank)
        return;
    for (uint32_t i = 0; i < server->nmembers; i++)
    {
        Target *target = placer->targets[server->members[i].target];

        target_count(target, &old, -1);
        target_count(target, server, 1);
        target_speed_changed(target, &old, server);
        target_tree_update(placer, target, server->members[i].position);
        target_wake(placer, server->members[i].target);
    }
}

const FleetServerSpec *
fleet_placer_server_spec(const FleetPlacer *placer, uint32_t server)
{
    return server < placer->nservers ? &placer->servers[server].spec : NULL;
}

uint32_t
fleet_placer_busy(const FleetPlacer *placer, uint32_t server)
{
    return server < placer->nservers ? placer->servers[server].busy : 0;
}

/* ---- targets ---- */

static void
target_make(FleetPlacer *placer, uint32_t number)
{
    Target *target;

    if (number >= placer->ntargets)
    {
        placer_grow(placer, &placer->targets, &placer->target_capacity, number + 1,
                    sizeof(Target *));
        placer->ntargets = number + 1;
    }
    if (placer->targets[number] != NULL)
        return;
    target = placer_resize(placer, NULL, 0, sizeof(Target));
    memset(target, 0, sizeof(Target));
    target->ring_first = target->ring_last = target->flow_cached = NONE;
    target->heap_position = NONE;
    target->changes = NONE;
    target->wake = FLEET_NEVER;
    placer->targets[number] = target;
}

static void
target_leave(FleetPlacer *placer, uint32_t number)
{
    Target *target = placer->targets[number];

    for (uint32_t i = 0; i < target->nservers; i++)
    {
        Server *server = &placer->servers[target->servers[i]];
        uint32_t j = 0;

        while (server->members[j].target != number)
            j++;
        server->members[j] = server->members[--server->nmembers];
    }
}

static void
target_join(FleetPlacer *placer, uint32_t number, const uint32_t *servers, uint32_t nservers)
{
    Target *target = placer->targets[number];
    uint32_t n = 0;

    for (uint32_t i = 0; i < nservers; i++)
    {
        Server *server = server_make(placer, servers[i]);

        if (server->nmembers > 0 && server->members[server->nmembers - 1].target == number)
            continue; /* named twice: new members are always the last ones */
        placer_grow(placer, &server->members, &server->member_capacity, server->nmembers + 1,
                    sizeof(Member));
        server->members[server->nmembers++] = (Member){number, n};
        target->servers[n++] = servers[i];
    }
    target->servers =
        placer_resize(placer, target->servers, nservers * sizeof(uint32_t), n * sizeof(uint32_t));
    target->nservers = n;
}

void
fleet_placer_target(FleetPlacer *placer, uint32_t number, const uint32_t *servers,
                    uint32_t nservers)
{
    Target *target;
    uint32_t old;

    target_make(placer, number);
    target = placer->targets[number];
    old = target->nservers;
    target_leave(placer, number);
    target->servers =
        placer_resize(placer, target->servers, old * sizeof(uint32_t), nservers * sizeof(uint32_t));
    target_join(placer, number, servers, nservers);
    target->nfree = target->ntaking = target->nusable = target->slots = 0;
    for (uint32_t i = 0; i < target->nservers; i++)
        target_count(target, &placer->servers[target->servers[i]], 1);
    for (uint32_t i = 0; i < target->nqueues; i++)
    {
        Queue *queue = placer->queues[target->queues[i]];

        queue->avoid_position = member_position(placer, queue->avoid, number);
    }
    target->changes = NONE;
    target_trees_rebuild(placer, target, old);
    target_wake(placer, number);
}

uint32_t
fleet_placer_target_usable(const FleetPlacer *placer, uint32_t target)
{
    if (target >= placer->ntargets || placer->targets[target] == NULL)
        return 0;
    return placer->targets[target]->nusable;
}

/* ---- slots ---- */

/* The server's slots changed from "had_free" to what they are now: tell its targets. */
static void
server_changed(FleetPlacer *placer, Server *server, bool had_free)
{
    bool has_free = server_has_free(server);

    server_load(server);
    for (uint32_t i = 0; i < server->nmembers; i++)
    {
        Target *target = placer->targets[server->members[i].target];

        if (had_free != has_free)
            target->nfree += has_free ? 1 : -1;
        if (target->changes != NONE)
            target->changes++;
        if (has_free && !had_free && target->pass != NULL &&
            target->pass[server->members[i].position] < target->virtual_time)
            target->pass[server->members[i].position] = target->virtual_time;
        target_tree_update(placer, target, server->members[i].position);
    }
}

static void
server_start(FleetPlacer *placer, uint32_t server_number, uint32_t number, FleetTime started)
{
    Server *server = &placer->servers[server_number];
    Ticket *ticket = placer_ticket_make(placer, number);
    bool had_free = server_has_free(server);

    ticket->queue = QUEUE_RUNNING;
    ticket->run.server = server_number;
    ticket->run.end = started + (FleetTime) (ticket_length(ticket) / server->spec.speed);
    placer_grow(placer, &server->heap, &server->heap_capacity, server->nheap + 1, sizeof(uint32_t));
    server->busy++;
    running_sift(placer, server, server->nheap++, number);
    server_changed(placer, server, had_free);
    for (uint32_t i = 0; i < server->nmembers; i++)
    {
        Target *target = placer->targets[server->members[i].target];

        target->starts++;
        if (target->asleep && target_is_urgent(placer, target))
            target_wake(placer, server->members[i].target);
        else
            target_touch(placer, server->members[i].target);
    }
}

/* ---- the calls ---- */

void
fleet_placer_ready_for(FleetPlacer *placer, uint32_t number, const FleetTicket *spec, uint32_t flow,
                       FleetTime now)
{
    Ticket *ticket = placer_ticket(placer, number);

    (void) now;
    if (ticket != NULL && ticket->queue == QUEUE_RUNNING)
        return;
    if (ticket != NULL)
        fleet_placer_withdraw(placer, number);
    target_make(placer, spec->target);
    placer_enqueue(placer, number, spec, flow);
    target_wake(placer, spec->target);
}

void
fleet_placer_ready(FleetPlacer *placer, uint32_t number, const FleetTicket *spec, FleetTime now)
{
    placer->batch_used = true;
    fleet_placer_ready_for(placer, number, spec, placer->batch | BATCH_FLOW, now);
}

void
fleet_placer_withdraw(FleetPlacer *placer, uint32_t number)
{
    Ticket *ticket = placer_ticket(placer, number);
    uint32_t target;

    if (ticket == NULL || ticket->queue == QUEUE_RUNNING)
        return;
    target = placer->queues[ticket->queue]->target;
    placer_dequeue(placer, number);
    target_wake(placer, target);
}

bool
fleet_placer_next(FleetPlacer *placer, FleetTime now, uint32_t *ticket, uint32_t *server)
{
    wake_due(placer, now);
    if (placer->batch_used)
        placer->batch = (placer->batch + 1) & ~BATCH_FLOW;
    placer->batch_used = false;
    while (placer->ncandidates > 0)
    {
        uint32_t number = placer->candidates[0];
        Target *target = placer->targets[number];
        uint32_t position;
        bool forced;

        if (!target_choose(placer, target, now, ticket, &position, &forced))
        {
            target_fall(placer, target);
            target_touch(placer, number);
            continue;
        }
        *server = target->servers[position];
        placer_dequeue(placer, *ticket);
        if (forced)
            target->forced_at = target->starts + 1;
        server_start(placer, *server, *ticket, now);
        return true;
    }
    return false;
}

void
fleet_placer_occupy(FleetPlacer *placer, uint32_t number, const FleetTicket *spec, uint32_t server,
                    FleetTime started)
{
    Ticket *ticket = placer_ticket(placer, number);

    if (ticket != NULL && ticket->queue == QUEUE_RUNNING)
        fleet_placer_release(placer, number);
    else if (ticket != NULL)
        fleet_placer_withdraw(placer, number);
    server_make(placer, server);
    ticket = placer_ticket_make(placer, number);
    ticket->duration = spec->duration > 0 ? ticket_span(spec->duration) : -0.0f;
    ticket->tail = 0;
    server_start(placer, server, number, started);
}

void
fleet_placer_release(FleetPlacer *placer, uint32_t number)
{
    Ticket *ticket = placer_ticket(placer, number);
    Server *server;
    bool had_free;
    uint32_t last, place;

    if (ticket == NULL || ticket->queue != QUEUE_RUNNING)
        return;
    server = &placer->servers[ticket->run.server];
    had_free = server_has_free(server);
    place = ticket->run.position;
    last = server->heap[--server->nheap];
    ticket->queue = QUEUE_ABSENT;
    server->busy -= FLEET_BUG_SLOT_COUNTED_TWICE && server->busy > 1 ? 2 : 1;
    if (place < server->nheap)
        running_sift(placer, server, place, last);
    server_changed(placer, server, had_free);
    for (uint32_t i = 0; i < server->nmembers; i++)
        target_wake(placer, server->members[i].target);
}
