/*
 * test/core/test_placement.c
 *     The placer against a slow obvious model, and one test for each promise of
 *     placement.h.
 *
 * The model knows who waits, who runs where, whose turn it is, and how long
 * the oldest ticket of each flow has been passed over; it looks at everything
 * after every call.  UNIT_CASES=n and UNIT_SEED=s in the environment.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/placement/placement.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum
{
    MAX_SERVERS = 8,
    MAX_TARGETS = 5,
    MAX_TICKETS = 160,
    MAX_FLOWS = 4,
};

typedef enum TicketState
{
    ABSENT,
    WAITING,
    RUNNING,
} TicketState;

typedef struct ModelTicket
{
    TicketState state;
    FleetTicket spec;
    uint32_t flow, server;
    uint64_t arrival;
} ModelTicket;

typedef struct ModelTarget
{
    uint32_t servers[MAX_SERVERS];
    uint32_t nservers;
    uint64_t turn[MAX_SERVERS]; /* round robin: last turn of the server with this number */
    uint64_t turns;
    uint64_t starts;
    struct
    {
        uint32_t oldest;
        uint64_t since;
    } flows[MAX_FLOWS];
} ModelTarget;

typedef struct Model
{
    FleetPlacer *placer;
    FleetRandom random;
    uint64_t seed;
    bool crowded; /* few slots, and nobody gives up: who waits can only be served */
    bool equal;   /* all servers are of speed 1: nothing may be held back */
    FleetServerSpec servers[MAX_SERVERS];
    uint32_t busy[MAX_SERVERS];
    ModelTarget targets[MAX_TARGETS];
    ModelTicket tickets[MAX_TICKETS];
    uint32_t nservers, ntargets;
    uint64_t arrivals, placed, due;
    FleetTime now;
} Model;

#define check(model, condition)                                                                    \
    do                                                                                             \
    {                                                                                              \
        if (!(condition))                                                                          \
            fail_msg("case with UNIT_SEED=%llu UNIT_CASES=1: %s",                                  \
                     (unsigned long long) (model)->seed, #condition);                              \
    } while (0)

/* ---- what the model thinks ---- */

static bool
has_free(const Model *model, uint32_t server)
{
    const FleetServerSpec *spec = &model->servers[server];

    return spec->state == FLEET_SERVER_ONLINE && model->busy[server] < spec->slots;
}

static bool
is_member(const Model *model, uint32_t target, uint32_t server)
{
    for (uint32_t i = 0; i < model->targets[target].nservers; i++)
        if (model->targets[target].servers[i] == server)
            return true;
    return false;
}

/* May this ticket go to that server at all, if it has a free slot? */
static bool
allowed(const Model *model, const FleetTicket *spec, uint32_t server)
{
    const ModelTarget *target = &model->targets[spec->target];

    if (!is_member(model, spec->target, server))
        return false;
    if (spec->avoid != server)
        return true;
    for (uint32_t i = 0; i < target->nservers; i++)
        if (target->servers[i] != server &&
            model->servers[target->servers[i]].state == FLEET_SERVER_ONLINE &&
            model->servers[target->servers[i]].slots > 0)
            return false;
    return true;
}

static bool
eligible(const Model *model, const FleetTicket *spec, uint32_t server)
{
    return has_free(model, server) && allowed(model, spec, server);
}

static uint64_t
patience(const Model *model, uint32_t target)
{
    uint64_t slots = 0;

    for (uint32_t i = 0; i < model->targets[target].nservers; i++)
    {
        const FleetServerSpec *spec = &model->servers[model->targets[target].servers[i]];

        slots += spec->state == FLEET_SERVER_ONLINE ? spec->slots : 0;
    }
    return FLEET_PLACER_PATIENCE + FLEET_PLACER_ROUNDS * slots;
}

/* Who is the oldest of each flow now, and since when? */
static void
note_oldest(Model *model, uint32_t target)
{
    ModelTarget *t = &model->targets[target];

    for (uint32_t flow = 0; flow < MAX_FLOWS; flow++)
    {
        uint32_t oldest = UINT32_MAX;

        for (uint32_t i = 0; i < MAX_TICKETS; i++)
        {
            const ModelTicket *ticket = &model->tickets[i];

            if (ticket->state == WAITING && ticket->spec.target == target && ticket->flow == flow &&
                (oldest == UINT32_MAX || ticket->arrival < model->tickets[oldest].arrival))
                oldest = i;
        }
        if (oldest != t->flows[flow].oldest)
        {
            t->flows[flow].oldest = oldest;
            t->flows[flow].since = t->starts;
        }
    }
}

static void
note_all(Model *model)
{
    for (uint32_t t = 0; t < model->ntargets; t++)
        note_oldest(model, t);
}

static bool
is_due(const Model *model, uint32_t number)
{
    const ModelTicket *ticket = &model->tickets[number];
    const ModelTarget *target = &model->targets[ticket->spec.target];

    return target->flows[ticket->flow].oldest == number &&
           target->starts - target->flows[ticket->flow].since >=
               patience(model, ticket->spec.target);
}

static double
path(const FleetTicket *spec)
{
    return (double) spec->duration + (double) spec->tail;
}

/* ---- checks of one decision, before it is entered into the model ---- */

static void
check_server_choice(const Model *model, const FleetTicket *spec, uint32_t server)
{
    const ModelTarget *target = &model->targets[spec->target];
    const FleetServerSpec *chosen = &model->servers[server];
    double load = (double) model->busy[server] / chosen->slots;

    for (uint32_t i = 0; i < target->nservers; i++)
    {
        uint32_t other = target->servers[i];
        double other_load;

        if (other == server || !eligible(model, spec, other))
            continue;
        other_load = (double) model->busy[other] / model->servers[other].slots;
        switch (spec->policy)
        {
            case FLEET_SHORTEST_FINISH:
                check(model, model->servers[other].speed <= chosen->speed * 1.05);
                check(model,
                      model->servers[other].speed < chosen->speed / 1.05 || load <= other_load);
                break;
            case FLEET_ROUND_ROBIN:
                check(model, target->turn[server] <= target->turn[other]);
                break;
            case FLEET_LEAST_LOADED: check(model, load <= other_load); break;
            case FLEET_WEIGHTED: break; /* has a test of its own */
        }
    }
}

/* Did somebody wait that should have gone first?  Only where nothing may be held back. */
static void
check_order(const Model *model, uint32_t number, uint32_t server)
{
    const ModelTicket *ticket = &model->tickets[number];

    for (uint32_t i = 0; i < MAX_TICKETS; i++)
    {
        const ModelTicket *other = &model->tickets[i];

        if (other->state != WAITING || i == number || !eligible(model, &other->spec, server))
            continue;
        check(model, other->spec.priority <= ticket->spec.priority);
        /* between targets only the priority is promised; the length is a rule of thumb there */
        if (other->spec.priority < ticket->spec.priority ||
            other->spec.policy != ticket->spec.policy || other->spec.target != ticket->spec.target)
            continue;
        if (ticket->spec.policy == FLEET_SHORTEST_FINISH)
            check(model, path(&other->spec) <= path(&ticket->spec) * 1.035 + 2 ||
                             other->spec.duration == 0 || ticket->spec.duration == 0);
        else if (other->spec.avoid == ticket->spec.avoid)
            check(model, other->arrival > ticket->arrival);
    }
}

static void
enter_start(Model *model, uint32_t number, uint32_t server)
{
    ModelTicket *ticket = &model->tickets[number];
    ModelTarget *target = &model->targets[ticket->spec.target];

    ticket->state = RUNNING;
    ticket->server = server;
    model->busy[server]++;
    model->placed++;
    if (ticket->spec.policy == FLEET_ROUND_ROBIN)
        target->turn[server] = ++target->turns;
    for (uint32_t t = 0; t < model->ntargets; t++)
    {
        note_oldest(model, t); /* a flow's oldest changed before this start counts */
        if (is_member(model, t, server))
            model->targets[t].starts++;
    }
}

/* Nothing more is placed: is that right? */
static void
check_rest(const Model *model)
{
    bool held = false;

    for (uint32_t i = 0; i < MAX_TICKETS; i++)
    {
        const ModelTicket *ticket = &model->tickets[i];
        double fastest = 0, reach = 0;

        if (ticket->state != WAITING)
            continue;
        for (uint32_t s = 0; s < model->nservers; s++)
        {
            if (eligible(model, &ticket->spec, s) && model->servers[s].speed > fastest)
                fastest = model->servers[s].speed;
            if (allowed(model, &ticket->spec, s) &&
                model->servers[s].state == FLEET_SERVER_ONLINE && model->busy[s] > 0 &&
                model->servers[s].slots > 0 && model->servers[s].speed > reach)
                reach = model->servers[s].speed;
        }
        if (fastest == 0)
            continue;
        /* held back: only a known one, by the one policy, for a faster server that works */
        check(model, !model->equal);
        check(model, ticket->spec.policy == FLEET_SHORTEST_FINISH);
        check(model, ticket->spec.duration > 0);
        check(model, reach > fastest);
        held = true;
    }
    if (held)
        check(model, fleet_placer_wakeup(model->placer) > model->now &&
                         fleet_placer_wakeup(model->placer) < FLEET_NEVER);
}

static void
place_all(Model *model)
{
    uint32_t number, server;

    while (fleet_placer_next(model->placer, model->now, &number, &server))
    {
        const ModelTicket *ticket;

        check(model, number < MAX_TICKETS && server < model->nservers);
        ticket = &model->tickets[number];
        check(model, ticket->state == WAITING);
        check(model, has_free(model, server));
        check(model, eligible(model, &ticket->spec, server));
        check_server_choice(model, &ticket->spec, server);
        if (is_due(model, number))
            model->due++;
        else if (model->equal)
            check_order(model, number, server);
        enter_start(model, number, server);
        check(model, fleet_placer_busy(model->placer, server) == model->busy[server]);
    }
    check_rest(model);
}

/* ---- random operations ---- */

static uint32_t
below(Model *model, uint32_t n)
{
    return fleet_random_below(&model->random, n);
}

static void
set_server(Model *model, uint32_t server)
{
    static const double speeds[] = {0.5, 1, 1, 2, 4, 1.01};
    FleetServerSpec *spec = &model->servers[server];

    spec->state = below(model, 3) > 0 ? FLEET_SERVER_ONLINE : (FleetServerState) below(model, 4);
    spec->slots = below(model, 8) == 0 ? 0 : 1 + below(model, 4);
    spec->weight = 1 + below(model, 5);
    spec->speed = model->equal ? 1 : speeds[below(model, 6)];
    fleet_placer_server(model->placer, server, spec);
}

static void
set_target(Model *model, uint32_t target)
{
    ModelTarget *t = &model->targets[target];
    uint32_t named[MAX_SERVERS + 1], n = 0;
    uint32_t start = below(model, model->nservers);

    t->nservers = below(model, 6) == 0 ? 0 : 1 + below(model, model->nservers);
    memset(t->turn, 0, sizeof(t->turn));
    t->turns = 0;
    for (uint32_t i = 0; i < t->nservers; i++)
    {
        t->servers[i] = (start + i) % model->nservers;
        named[n++] = t->servers[i];
        if (i == 0 && below(model, 4) == 0)
            named[n++] = t->servers[0]; /* named twice: counts once */
    }
    fleet_placer_target(model->placer, target, named, n);
}

static FleetTicket
random_ticket(Model *model)
{
    FleetTicket spec = {.avoid = FLEET_NO_SERVER};

    spec.target = below(model, model->ntargets);
    spec.policy = below(model, 2) == 0 ? FLEET_SHORTEST_FINISH : (FleetPolicy) below(model, 4);
    if (below(model, 8) > 0)
        spec.duration = (FleetTime) (1e6 * exp(2 * fleet_random_normal(&model->random)));
    if (below(model, 4) == 0)
        spec.tail = below(model, 5000000);
    if (below(model, 6) == 0)
        spec.avoid = below(model, MAX_SERVERS);
    if (below(model, 4) == 0)
        spec.priority = (int32_t) below(model, 5) - 2;
    return spec;
}

static void
op_ready(Model *model, uint32_t number)
{
    ModelTicket *ticket = &model->tickets[number];
    FleetTicket spec = random_ticket(model);
    uint32_t flow = below(model, MAX_FLOWS);

    fleet_placer_ready_for(model->placer, number, &spec, flow, model->now);
    if (ticket->state == RUNNING)
        return; /* refused */
    if (ticket->state == WAITING)
    {
        ticket->state = ABSENT; /* taken out and put in again */
        note_all(model);
    }
    *ticket = (ModelTicket){WAITING, spec, flow, 0, ++model->arrivals};
}

static void
op_occupy(Model *model, uint32_t number)
{
    ModelTicket *ticket = &model->tickets[number];
    FleetTicket spec = random_ticket(model);
    uint32_t server = below(model, model->nservers);

    if (ticket->state == RUNNING)
        model->busy[ticket->server]--;
    fleet_placer_occupy(model->placer, number, &spec, server, model->now - below(model, 1000000));
    if (ticket->state == WAITING)
    {
        ticket->state = ABSENT;
        note_all(model);
    }
    *ticket = (ModelTicket){RUNNING, spec, 0, server, 0};
    model->busy[server]++;
    for (uint32_t t = 0; t < model->ntargets; t++)
        if (is_member(model, t, server))
            model->targets[t].starts++;
}

static void
op_end(Model *model, uint32_t number)
{
    ModelTicket *ticket = &model->tickets[number];

    if (ticket->state == WAITING && model->crowded && below(model, 50) > 0)
        return;
    if (ticket->state == WAITING && below(model, 2) == 0)
        fleet_placer_release(model->placer, number); /* of one that only waits: nothing */
    else if (ticket->state == WAITING)
    {
        fleet_placer_withdraw(model->placer, number);
        ticket->state = ABSENT;
    }
    else
    {
        fleet_placer_withdraw(model->placer, number); /* of one that runs: nothing */
        if (ticket->state == RUNNING)
            model->busy[ticket->server]--;
        fleet_placer_release(model->placer, number);
        ticket->state = ABSENT;
    }
}

static void
random_case(uint64_t seed, uint64_t *due, uint64_t *placed)
{
    Model *model = calloc(1, sizeof(Model));
    uint32_t steps;

    assert_non_null(model);
    fleet_random_seed(&model->random, seed);
    model->seed = seed;
    model->equal = below(model, 2) == 0;
    model->crowded = below(model, 25) == 0;
    model->nservers = 1 + below(model, model->crowded ? 2 : MAX_SERVERS);
    model->ntargets = 1 + below(model, MAX_TARGETS);
    model->placer = fleet_placer_create(&fleet_malloc_alloc);
    model->now = 1000000;
    for (uint32_t s = 0; s < model->nservers; s++)
        set_server(model, s);
    for (uint32_t t = 0; t < model->ntargets; t++)
        set_target(model, t);
    note_all(model);
    steps = model->crowded ? 3000 : 10 + below(model, 200);
    for (uint32_t i = 0; i < steps; i++)
    {
        uint32_t what = below(model, 100);
        uint32_t number = below(model, MAX_TICKETS);

        if (what < 50 && model->crowded && model->tickets[number].state != ABSENT)
            op_end(model, number);
        else if (what < 50)
            op_ready(model, number);
        else if (what < 90)
            op_end(model, number);
        else if (what < 93)
            op_occupy(model, number);
        else if (what < 96)
            set_server(model, below(model, model->nservers));
        else if (what < 97)
            set_target(model, below(model, model->ntargets));
        else
            model->now += below(model, 3000000);
        if (fleet_placer_wakeup(model->placer) < model->now + 1000 && below(model, 2) == 0)
            model->now += 1000;
        note_all(model);
        if (below(model, 3) == 0)
            place_all(model);
    }
    *due += model->due;
    *placed += model->placed;
    fleet_placer_free(model->placer);
    free(model);
}

static uint64_t
setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static void
test_random_against_model(void **state)
{
    uint64_t cases = setting("UNIT_CASES", 3000), seed = setting("UNIT_SEED", 1), due = 0,
             placed = 0;

    (void) state;
    for (uint64_t i = 0; i < cases; i++)
        random_case(seed + i, &due, &placed);
    if (cases >= 1000)
    {
        print_message("%llu placed, %llu of them because they were due\n",
                      (unsigned long long) placed, (unsigned long long) due);
        assert_true(placed > cases * 3);
        assert_true(due > 0); /* the rule against starvation was at work */
    }
}

/* ---- small worlds ---- */

static FleetPlacer *
world(uint32_t nservers, const double *speeds, uint32_t slots)
{
    FleetPlacer *placer = fleet_placer_create(&fleet_malloc_alloc);
    uint32_t *members = calloc(nservers, sizeof(uint32_t));

    for (uint32_t i = 0; i < nservers; i++)
    {
        FleetServerSpec spec = {FLEET_SERVER_ONLINE, slots, 1, speeds == NULL ? 1 : speeds[i]};

        fleet_placer_server(placer, i, &spec);
        members[i] = i;
    }
    fleet_placer_target(placer, 0, members, nservers);
    free(members);
    return placer;
}

static void
ready(FleetPlacer *placer, uint32_t number, FleetPolicy policy, FleetTime duration, uint32_t flow)
{
    FleetTicket spec = {
        .target = 0, .policy = policy, .duration = duration, .avoid = FLEET_NO_SERVER};

    fleet_placer_ready_for(placer, number, &spec, flow, 0);
}

static void
expect_next(FleetPlacer *placer, FleetTime now, uint32_t ticket, uint32_t server)
{
    uint32_t t = 77, s = 77;

    assert_true(fleet_placer_next(placer, now, &t, &s));
    assert_int_equal(t, ticket);
    assert_int_equal(s, server);
}

static void
expect_none(FleetPlacer *placer, FleetTime now)
{
    uint32_t t, s;

    assert_false(fleet_placer_next(placer, now, &t, &s));
}

static void
test_longest_first_spread(void **state)
{
    FleetPlacer *placer = world(2, NULL, 2);
    FleetTicket behind = {.duration = 10, .tail = FLEET_SECONDS(100), .avoid = FLEET_NO_SERVER};

    (void) state;
    ready(placer, 1, FLEET_SHORTEST_FINISH, FLEET_SECONDS(1), 0);
    ready(placer, 2, FLEET_SHORTEST_FINISH, FLEET_SECONDS(9), 0);
    ready(placer, 3, FLEET_SHORTEST_FINISH, FLEET_SECONDS(5), 0);
    fleet_placer_ready(placer, 4, &behind, 0); /* short, but much waits for it */
    expect_next(placer, 0, 4, 0);
    expect_next(placer, 0, 2, 1);
    expect_next(placer, 0, 3, 0);
    expect_next(placer, 0, 1, 1);
    expect_none(placer, 0);
    assert_true(fleet_placer_wakeup(placer) == FLEET_NEVER);
    fleet_placer_free(placer);
}

static void
test_round_robin(void **state)
{
    FleetPlacer *placer = world(3, NULL, 4);

    (void) state;
    for (uint32_t i = 0; i < 6; i++)
        ready(placer, i, FLEET_ROUND_ROBIN, FLEET_SECONDS(i), 0);
    for (uint32_t i = 0; i < 6; i++)
        expect_next(placer, 0, i, i % 3);
    fleet_placer_free(placer);
}

static void
test_weighted(void **state)
{
    FleetPlacer *placer = world(3, NULL, 100);
    uint32_t count[3] = {0}, in_a_row = 0, longest = 0, last = 3;

    (void) state;
    for (uint32_t s = 0; s < 3; s++)
    {
        FleetServerSpec spec = {FLEET_SERVER_ONLINE, 100, s == 0 ? 5 : 1 + s, 1};

        fleet_placer_server(placer, s, &spec);
    }
    /* the weights 5, 2, 3 are known when the target is first used with the policy */
    for (uint32_t i = 0; i < 100; i++)
        ready(placer, i, FLEET_WEIGHTED, 0, 0);
    for (uint32_t i = 0; i < 100; i++)
    {
        uint32_t ticket, server;

        assert_true(fleet_placer_next(placer, 0, &ticket, &server));
        count[server]++;
        in_a_row = server == last ? in_a_row + 1 : 1;
        last = server;
        if (in_a_row > longest)
            longest = in_a_row;
    }
    assert_int_equal(count[0], 50);
    assert_int_equal(count[1], 20);
    assert_int_equal(count[2], 30);
    assert_true(longest <= 3); /* smooth */
    fleet_placer_free(placer);
}

/* A long task waits for the fast server; a short one takes the slow one meanwhile. */
static void
test_held_back(void **state)
{
    static const double speeds[] = {1, 10};
    FleetPlacer *placer = world(2, speeds, 1);
    FleetTime wakeup;

    (void) state;
    ready(placer, 0, FLEET_SHORTEST_FINISH, FLEET_SECONDS(100), 0);
    expect_next(placer, 0, 0, 1); /* until 10 s */
    ready(placer, 1, FLEET_SHORTEST_FINISH, FLEET_SECONDS(90), 0);
    ready(placer, 2, FLEET_SHORTEST_FINISH, FLEET_SECONDS(3), 0);
    expect_next(placer, 0, 2, 0);
    fleet_placer_release(placer, 2);
    expect_none(placer, FLEET_SECONDS(3));
    /* it is given up when the fast server has overrun by the gain: 90 s - 9 s */
    wakeup = fleet_placer_wakeup(placer);
    assert_true(wakeup >= FLEET_SECONDS(90) && wakeup <= FLEET_SECONDS(92));
    expect_none(placer, FLEET_SECONDS(50));
    expect_next(placer, wakeup, 1, 0);
    fleet_placer_free(placer);

    /* and when the fast server is gone, at once */
    placer = world(2, speeds, 1);
    ready(placer, 0, FLEET_SHORTEST_FINISH, FLEET_SECONDS(100), 0);
    expect_next(placer, 0, 0, 1);
    ready(placer, 1, FLEET_SHORTEST_FINISH, FLEET_SECONDS(90), 0);
    expect_none(placer, 0);
    fleet_placer_server(placer, 1, &(FleetServerSpec){FLEET_SERVER_SUSPECT, 1, 1, 10});
    assert_int_equal(fleet_placer_target_usable(placer, 0), 2);
    expect_next(placer, 0, 1, 0);
    fleet_placer_free(placer);
}

/* Many are held back at once: those behind them that lose nothing still start. */
static void
test_look_beyond(void **state)
{
    static const double speeds[] = {1, 16};
    FleetPlacer *placer = world(2, speeds, 1);
    FleetTicket chain = {.duration = FLEET_SECONDS(60), .avoid = FLEET_NO_SERVER};
    uint32_t ticket, server;

    (void) state;
    ready(placer, 0, FLEET_SHORTEST_FINISH, FLEET_SECONDS(16000), 0);
    expect_next(placer, 0, 0, 1);
    /* a hundred with a very long way behind them, so that each must not lose a second */
    chain.tail = FLEET_SECONDS(1000000);
    for (uint32_t i = 1; i <= 100; i++)
    {
        chain.duration = FLEET_SECONDS(20000 + i);
        fleet_placer_ready(placer, i, &chain, 0);
    }
    ready(placer, 200, FLEET_SHORTEST_FINISH, FLEET_SECONDS(1), 0);
    assert_true(fleet_placer_next(placer, 0, &ticket, &server));
    assert_int_equal(server, 0);
    assert_true(ticket >= 1); /* which one is a matter of taste; that one starts is not */
    fleet_placer_free(placer);
}

static void
test_slots_shrink_and_drain(void **state)
{
    FleetPlacer *placer = world(1, NULL, 3);
    FleetServerSpec spec = {FLEET_SERVER_ONLINE, 3, 1, 1};

    (void) state;
    for (uint32_t i = 0; i < 6; i++)
        ready(placer, i, FLEET_LEAST_LOADED, 0, 0);
    for (uint32_t i = 0; i < 3; i++)
        expect_next(placer, 0, i, 0);
    spec.slots = 1;
    fleet_placer_server(placer, 0, &spec);
    fleet_placer_release(placer, 0);
    expect_none(placer, 0);
    fleet_placer_release(placer, 1);
    expect_none(placer, 0); /* one is still busy on one slot */
    assert_int_equal(fleet_placer_busy(placer, 0), 1);
    fleet_placer_release(placer, 2);
    expect_next(placer, 0, 3, 0);
    spec.state = FLEET_SERVER_DRAINING;
    fleet_placer_server(placer, 0, &spec);
    fleet_placer_release(placer, 3);
    expect_none(placer, 0);
    assert_int_equal(fleet_placer_target_usable(placer, 0), 0);
    assert_int_equal(fleet_placer_server_spec(placer, 0)->state, FLEET_SERVER_DRAINING);
    spec.state = FLEET_SERVER_ONLINE;
    fleet_placer_server(placer, 0, &spec);
    expect_next(placer, 0, 4, 0);
    fleet_placer_free(placer);
}

static void
test_avoid(void **state)
{
    FleetPlacer *placer = world(2, NULL, 1);
    FleetTicket spec = {.avoid = 0};
    FleetServerSpec offline = {FLEET_SERVER_OFFLINE, 1, 1, 1};

    (void) state;
    ready(placer, 9, FLEET_ROUND_ROBIN, 0, 0);
    expect_next(placer, 0, 9, 0);
    fleet_placer_release(placer, 9);
    fleet_placer_ready(placer, 1, &spec, 0);
    fleet_placer_ready(placer, 2, &spec, 0);
    expect_next(placer, 0, 1, 1);
    expect_none(placer, 0); /* server 0 is free, but the other one is only busy */
    fleet_placer_server(placer, 1, &offline);
    expect_next(placer, 0, 2, 0);
    fleet_placer_free(placer);
}

static void
test_unknown_numbers(void **state)
{
    FleetPlacer *placer = fleet_placer_create(&fleet_malloc_alloc);
    FleetTicket spec = {.target = 3, .avoid = 70};
    uint32_t server = 5;
    FleetServerSpec strange = {FLEET_SERVER_ONLINE, 1, -1, 0};

    (void) state;
    fleet_placer_release(placer, 12);
    fleet_placer_withdraw(placer, 100000);
    assert_null(fleet_placer_server_spec(placer, 0));
    assert_int_equal(fleet_placer_busy(placer, 0), 0);
    assert_int_equal(fleet_placer_target_usable(placer, 8), 0);
    fleet_placer_ready(placer, 700, &spec, 0); /* the target comes later */
    expect_none(placer, 0);
    assert_int_equal(fleet_placer_target_usable(placer, 2), 0);
    fleet_placer_target(placer, 3, &server, 1); /* and the server after it */
    expect_none(placer, 0);
    fleet_placer_server(placer, 5, &strange);
    assert_true(fleet_placer_server_spec(placer, 5)->speed == 1);
    assert_true(fleet_placer_server_spec(placer, 5)->weight == 1);
    expect_next(placer, 0, 700, 5);
    fleet_placer_free(placer);
}

/* Work that was there before, with no end in sight, does not upset the look ahead. */
static void
test_occupied(void **state)
{
    static const double speeds[] = {1, 4};
    FleetPlacer *placer = world(2, speeds, 1);
    FleetTicket spec = {.duration = INT64_MAX, .avoid = FLEET_NO_SERVER};

    (void) state;
    fleet_placer_occupy(placer, 3, &spec, 1, 0);
    assert_int_equal(fleet_placer_busy(placer, 1), 1);
    ready(placer, 1, FLEET_SHORTEST_FINISH, FLEET_SECONDS(10), 0);
    expect_next(placer, FLEET_SECONDS(1), 1, 0);
    ready(placer, 2, FLEET_SHORTEST_FINISH, FLEET_SECONDS(10), 0);
    expect_none(placer, FLEET_SECONDS(1));
    fleet_placer_occupy(placer, 2, &spec, 0, 0); /* it was running after all */
    assert_int_equal(fleet_placer_busy(placer, 0), 2);
    fleet_placer_occupy(placer, 2, &spec, 1, 0); /* no, there */
    assert_int_equal(fleet_placer_busy(placer, 0), 1);
    assert_int_equal(fleet_placer_busy(placer, 1), 2);
    fleet_placer_free(placer);
}

/* ---- starvation ---- */

/* So many starts until ticket 0 begins, while "arrive" puts in one more for each that starts. */
static uint64_t
starts_until(FleetPlacer *placer, void (*arrive)(FleetPlacer *placer, uint32_t number),
             uint32_t first, uint64_t most)
{
    uint32_t next = first, ticket, server;
    uint64_t starts = 0;
    FleetTime now = 0;

    for (; starts <= most; now += 1000)
        while (starts <= most && fleet_placer_next(placer, now, &ticket, &server))
        {
            if (ticket == 0)
                return starts;
            starts++;
            fleet_placer_release(placer, ticket);
            if (arrive != NULL)
                arrive(placer, next);
            next = next == first + 999 ? first : next + 1; /* at most a thousand wait */
        }
    return starts;
}

static void
arrive_longer(FleetPlacer *placer, uint32_t number)
{
    ready(placer, number, FLEET_SHORTEST_FINISH, FLEET_SECONDS(100), 1);
}

static void
arrive_more_urgent(FleetPlacer *placer, uint32_t number)
{
    FleetTicket spec = {.priority = 7, .duration = 5, .avoid = FLEET_NO_SERVER};

    fleet_placer_ready_for(placer, number, &spec, 1, 0);
}

static void
arrive_pinned(FleetPlacer *placer, uint32_t number)
{
    FleetTicket spec = {.target = 1, .duration = FLEET_SECONDS(100), .avoid = FLEET_NO_SERVER};

    fleet_placer_ready_for(placer, number, &spec, 1, 0);
}

static void
arrive_own_flow_each(FleetPlacer *placer, uint32_t number)
{
    ready(placer, number, FLEET_SHORTEST_FINISH, FLEET_SECONDS(100), number);
}

static void
test_nobody_starves(void **state)
{
    static void (*const arrivals[])(FleetPlacer *, uint32_t) = {arrive_longer, arrive_more_urgent,
                                                                arrive_pinned};
    const uint64_t patience = FLEET_PLACER_PATIENCE + FLEET_PLACER_ROUNDS * 2;

    (void) state;
    for (size_t a = 0; a < sizeof(arrivals) / sizeof(arrivals[0]); a++)
    {
        FleetPlacer *placer = world(1, NULL, 2);
        uint32_t server = 0;
        uint64_t starts;

        fleet_placer_target(placer, 1, &server, 1); /* another one, on the same server */
        ready(placer, 0, FLEET_SHORTEST_FINISH, FLEET_SECONDS(1), 0);
        for (uint32_t i = 1; i <= 20; i++)
            arrivals[a](placer, i);
        starts = starts_until(placer, arrivals[a], 21, 100000);
        assert_true(starts >= 16); /* it was passed over, so there was something to end */
        assert_true(starts <= patience + 2 * FLEET_PLACER_SHARE + 2);
        fleet_placer_free(placer);
    }
}

/* The other way round: a hundred thousand wait already, then one that is shorter than all. */
static void
test_crowd_does_not_delay_one(void **state)
{
    for (int with_flows = 0; with_flows < 2; with_flows++)
    {
        FleetPlacer *placer = world(1, NULL, 2);
        FleetTicket late = {.duration = 1, .avoid = FLEET_NO_SERVER};
        uint32_t ticket, server;

        (void) state;
        for (uint32_t i = 1; i <= 100000; i++)
        {
            FleetTicket spec = {.duration = FLEET_SECONDS(1), .avoid = FLEET_NO_SERVER};

            if (with_flows)
                fleet_placer_ready_for(placer, i, &spec, 1, 0);
            else
                fleet_placer_ready(placer, i, &spec, 0);
        }
        assert_true(fleet_placer_next(placer, 0, &ticket, &server));
        if (with_flows)
            fleet_placer_ready_for(placer, 0, &late, 2, 0);
        else
            fleet_placer_ready(placer, 0, &late, 0);
        assert_true(starts_until(placer, NULL, 0, 200000) <=
                    FLEET_PLACER_PATIENCE + FLEET_PLACER_ROUNDS * 2 + 3 * FLEET_PLACER_SHARE);
        fleet_placer_free(placer);
    }
}

/*
 * The oldest of all is due, but may not use the only slot that becomes free:
 * that blocks neither the next one that is due nor the rest.
 */
static void
test_due_but_blocked(void **state)
{
    FleetPlacer *placer = world(2, NULL, 1);
    FleetTicket spec = {.duration = 1, .avoid = FLEET_NO_SERVER};
    uint32_t ticket = 0, server, starts = 0;

    (void) state;
    fleet_placer_occupy(placer, 9999, &spec, 1, 0);
    spec.avoid = 0;
    fleet_placer_ready_for(placer, 5000, &spec, 5, 0);
    ready(placer, 0, FLEET_SHORTEST_FINISH, 1, 0);
    for (uint32_t i = 1; i <= 20; i++)
        arrive_longer(placer, i);
    assert_true(starts_until(placer, arrive_longer, 21, 100000) <=
                FLEET_PLACER_PATIENCE + FLEET_PLACER_ROUNDS * 2 + 4 * FLEET_PLACER_SHARE);
    fleet_placer_release(placer, 0);
    for (uint32_t i = 0; i < 500; i++)
    {
        assert_true(fleet_placer_next(placer, 0, &ticket, &server));
        assert_true(ticket != 5000 && server == 0);
        fleet_placer_release(placer, ticket);
        arrive_longer(placer, 2000 + i);
    }
    fleet_placer_release(placer, 9999);
    for (ticket = 0; ticket != 5000 && starts <= FLEET_PLACER_SHARE; starts++)
    {
        assert_true(fleet_placer_next(placer, 0, &ticket, &server));
        if (ticket != 5000)
            fleet_placer_release(placer, ticket);
    }
    assert_int_equal(ticket, 5000);
    assert_int_equal(server, 1);
    fleet_placer_free(placer);
}

/* With very many flows each has its turn, and still most starts follow the order. */
static void
test_many_flows(void **state)
{
    FleetPlacer *placer = world(1, NULL, 2);
    const uint64_t flows = 500;

    (void) state;
    ready(placer, 0, FLEET_SHORTEST_FINISH, 1, 0);
    for (uint32_t i = 1; i <= flows; i++)
        arrive_own_flow_each(placer, i);
    assert_true(starts_until(placer, arrive_own_flow_each, (uint32_t) flows + 1, 100000) <=
                FLEET_PLACER_PATIENCE + FLEET_PLACER_ROUNDS * 2 + FLEET_PLACER_SHARE * (flows + 2));
    fleet_placer_free(placer);
}

/* A giant that is held back for the fast server, which others keep busy, ends up somewhere. */
static void
test_held_back_not_for_ever(void **state)
{
    static const double speeds[] = {1, 100};
    FleetPlacer *placer = world(2, speeds, 1);
    uint32_t server = 1, ticket, on;
    uint32_t next = 1000;
    FleetTime now = 0;
    uint64_t starts = 0;
    bool begun = false;

    (void) state;
    fleet_placer_target(placer, 1, &server, 1);
    for (uint32_t i = 1; i <= 3; i++)
    {
        FleetTicket pinned = {.target = 1,
                              .duration = FLEET_SECONDS(100000),
                              .priority = 1,
                              .avoid = FLEET_NO_SERVER};

        fleet_placer_ready_for(placer, i, &pinned, 1, 0);
    }
    ready(placer, 0, FLEET_SHORTEST_FINISH, FLEET_SECONDS(50000), 0);
    while (!begun && starts < 100000)
    {
        uint32_t running = 0;

        while (fleet_placer_next(placer, now, &ticket, &on))
        {
            starts++;
            begun |= ticket == 0;
            running = ticket;
        }
        if (begun || running == 0)
            break;
        /* the fast server ends, and one more arrives for it */
        now += FLEET_SECONDS(1000);
        fleet_placer_release(placer, running);
        {
            FleetTicket pinned = {.target = 1,
                                  .duration = FLEET_SECONDS(100000),
                                  .priority = 1,
                                  .avoid = FLEET_NO_SERVER};

            fleet_placer_ready_for(placer, next++, &pinned, 1, now);
        }
    }
    assert_true(begun);
    assert_true(starts <= FLEET_PLACER_PATIENCE + FLEET_PLACER_ROUNDS * 2 + 20);
    fleet_placer_free(placer);
}

/* Large fleets are looked at now and then only; what comes out is still sound. */
static void
test_large_fleet(void **state)
{
    enum
    {
        SERVERS = 300,
        TASKS = 6000
    };
    static const double kinds[] = {1, 1, 2, 8};
    static double speeds[SERVERS];
    static struct
    {
        FleetTime end;
        bool running;
    } tasks[TASKS];
    FleetPlacer *placer;
    FleetRandom random;
    FleetTime now = 0, work = 0;
    uint32_t left = TASKS;
    double speed = 0;

    (void) state;
    memset(tasks, 0, sizeof(tasks));
    fleet_random_seed(&random, 8);
    for (uint32_t i = 0; i < SERVERS; i++)
        speed += 2 * (speeds[i] = kinds[i % 4]);
    placer = world(SERVERS, speeds, 2);
    for (uint32_t i = 0; i < TASKS; i++)
    {
        FleetTime duration = (FleetTime) (1e6 * exp(fleet_random_normal(&random)));

        tasks[i].end = duration;
        work += duration;
        ready(placer, i, FLEET_SHORTEST_FINISH, duration, 0);
    }
    while (left > 0)
    {
        uint32_t ticket, server, first = TASKS;

        while (fleet_placer_next(placer, now, &ticket, &server))
        {
            assert_false(tasks[ticket].running);
            tasks[ticket].running = true;
            tasks[ticket].end = now + (FleetTime) ((double) tasks[ticket].end / speeds[server]);
        }
        for (uint32_t i = 0; i < TASKS; i++)
            if (tasks[i].running && (first == TASKS || tasks[i].end < tasks[first].end))
                first = i;
        assert_true(first < TASKS);
        if (fleet_placer_wakeup(placer) < tasks[first].end)
        {
            assert_true(fleet_placer_wakeup(placer) > now);
            now = fleet_placer_wakeup(placer);
            continue;
        }
        now = tasks[first].end;
        tasks[first].running = false;
        fleet_placer_release(placer, first);
        left--;
    }
    assert_true((double) now <= 1.1 * (double) work / speed);
    fleet_placer_free(placer);
}

/* What is freed and given again is not allocated again. */
static void
test_memory_is_used_again(void **state)
{
    FleetPlacer *placer = world(2, NULL, 2);
    size_t after_first = 0;

    (void) state;
    for (int round = 0; round < 50; round++)
    {
        for (uint32_t i = 0; i < 2000; i++)
        {
            FleetTicket spec = {
                .duration = 1 + i * 1000, .priority = (int32_t) (i % 7), .avoid = FLEET_NO_SERVER};

            fleet_placer_ready_for(placer, i, &spec, i % 100 + (uint32_t) round * 100, 0);
        }
        for (uint32_t i = 0; i < 2000; i++)
            fleet_placer_withdraw(placer, i);
        if (round == 0)
            after_first = fleet_placer_memory(placer);
        assert_true(fleet_placer_memory(placer) == after_first);
    }
    fleet_placer_free(placer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_longest_first_spread),
        cmocka_unit_test(test_round_robin),
        cmocka_unit_test(test_weighted),
        cmocka_unit_test(test_held_back),
        cmocka_unit_test(test_look_beyond),
        cmocka_unit_test(test_slots_shrink_and_drain),
        cmocka_unit_test(test_avoid),
        cmocka_unit_test(test_unknown_numbers),
        cmocka_unit_test(test_occupied),
        cmocka_unit_test(test_nobody_starves),
        cmocka_unit_test(test_crowd_does_not_delay_one),
        cmocka_unit_test(test_due_but_blocked),
        cmocka_unit_test(test_many_flows),
        cmocka_unit_test(test_held_back_not_for_ever),
        cmocka_unit_test(test_large_fleet),
        cmocka_unit_test(test_memory_is_used_again),
        cmocka_unit_test(test_random_against_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
