/*
 * core/plan/plan.c
 *     Plays a run of a package through the engine on virtual time (plan.h).
 *     Called by fleet.plan() and fleet.advise() in a session's process, and by
 *     tests.  The result is judged in bound.c.
 */
#include "core/plan/internal.h"

#include <stdio.h>
#include <string.h>

typedef struct Player
{
    Played played;
    FleetEngine *engine;
    uint32_t run;
    FleetTime now;
    uint32_t capacity; /* of plan->tasks and of lengths */
    uint32_t lengths_capacity;
    uint32_t *running; /* heap of indexes into plan->tasks, first to end at the top */
    uint32_t nrunning, running_capacity;
    uint32_t decisions; /* since the last pause */
    bool over;
} Player;

/* What should have ended by now goes on for this part of its length. */
#define OVERDUE 0.05

/* So many decisions are made between two calls of input->pause(). */
#define SLICE 256

/* ---- what runs, by its end ---- */

static bool
ends_before(const Player *player, uint32_t a, uint32_t b)
{
    const FleetPlanTask *tasks = player->played.plan->tasks;

    return tasks[a].end != tasks[b].end ? tasks[a].end < tasks[b].end : a < b;
}

static void
running_push(Player *player, uint32_t index)
{
    uint32_t at = player->nrunning++;

    fleet_alloc_grow(player->played.alloc, (void **) &player->running, &player->running_capacity,
                     player->nrunning, sizeof(uint32_t));
    for (; at > 0 && ends_before(player, index, player->running[(at - 1) / 2]); at = (at - 1) / 2)
        player->running[at] = player->running[(at - 1) / 2];
    player->running[at] = index;
}

static uint32_t
running_pop(Player *player)
{
    uint32_t first = player->running[0], last = player->running[--player->nrunning], at = 0;

    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= player->nrunning)
            break;
        if (child + 1 < player->nrunning &&
            ends_before(player, player->running[child + 1], player->running[child]))
            child++;
        if (!ends_before(player, player->running[child], last))
            break;
        player->running[at] = player->running[child];
        at = child;
    }
    player->running[at] = last;
    return first;
}

/* ---- the driver: what the engine decides happens ---- */

static const FleetPlanItems *
items_of(const FleetPlanInput *input, uint32_t task)
{
    for (uint32_t i = 0; i < input->nitems; i++)
        if (input->items[i].task == task)
            return &input->items[i];
    return NULL;
}

static FleetTime
length_of(const FleetPlanInput *input, uint32_t task, uint32_t item)
{
    FleetTime length = 0;

    if (fleet_graph_task(input->graph, task)->started_is_done)
        return 0; /* nobody waits for it */
    if (input->actual != NULL)
        length = input->actual(input->arg, task, item);
    else
    {
        const FleetPlanItems *items = item > 0 ? items_of(input, task) : NULL;

        if (items != NULL && items->estimates != NULL && item <= items->count)
            length = items->estimates[item - 1];
        if (length <= 0)
            length = fleet_graph_task(input->graph, task)->estimate;
        if (length <= 0)
            length = input->default_duration;
    }
    return length < 0 ? 0 : length;
}

static FleetTime
add_time(FleetTime a, double b)
{
    return (double) a + b < 4e18 ? a + (FleetTime) b : INT64_C(4000000000000000000);
}

/* It began so long ago. */
static void
start(Player *player, uint32_t task, uint32_t item, uint32_t server, FleetTime elapsed)
{
    const FleetPlanInput *input = player->played.input;
    FleetPlan *plan = player->played.plan;
    uint32_t index = plan->ntasks++;
    FleetTime length = length_of(input, task, item);
    double took = (double) length;

    fleet_alloc_grow(player->played.alloc, (void **) &plan->tasks, &player->capacity, plan->ntasks,
                     sizeof(FleetPlanTask));
    fleet_alloc_grow(player->played.alloc, (void **) &player->played.lengths,
                     &player->lengths_capacity, plan->ntasks, sizeof(FleetTime));
    if (server != FLEET_NO_SERVER)
        took /= input->actual_speeds != NULL ? input->actual_speeds[server]
                                             : input->servers[server].speed;
    if (elapsed > 0)
        took = took - (double) elapsed > took * OVERDUE ? took - (double) elapsed : took * OVERDUE;
    player->played.lengths[index] = length;
    plan->tasks[index] = (FleetPlanTask){
        .task = task,
        .item = item,
        .server = server,
        .start = player->now,
        .end = add_time(player->now + input->overhead, took),
    };
    running_push(player, index);
}

static void
do_expand(Player *player, uint32_t task)
{
    const FleetPlanItems *items = items_of(player->played.input, task);

    fleet_engine_items(player->engine, player->run, task, items != NULL ? items->count : 1,
                       items != NULL ? items->estimates : NULL, player->now);
}

static void
carry_out(Player *player, const FleetDecision *decision)
{
    const FleetPlanInput *input = player->played.input;

    if (input->pause != NULL && ++player->decisions % SLICE == 0)
        input->pause(input->arg);
    switch (decision->kind)
    {
        case FLEET_DO_START:
            start(player, decision->ref.task, decision->ref.item, decision->server, 0);
            break;
        case FLEET_DO_EXPAND: do_expand(player, decision->ref.task); break;
        case FLEET_DO_CONDITION:
            fleet_engine_condition(player->engine, player->run, decision->edge, true, player->now);
            break;
        case FLEET_DO_RUN: player->over = FLEET_STATE_IS_FINAL(decision->state); break;
        case FLEET_DO_REPLACE:       /* there is one run */
        case FLEET_DO_CANCEL: break; /* nothing is canceled here: no timeout runs, no task fails */
        case FLEET_DO_CATCH: break;  /* for what had failed before */
        case FLEET_DO_STATE: break;
    }
}

/* Everything that can happen now; an answer may bring further decisions. */
static void
turn(Player *player)
{
    FleetDecision decision;
    bool any = true;

    while (any)
    {
        any = false;
        fleet_engine_turn(player->engine, player->now);
        while (fleet_engine_next(player->engine, &decision))
        {
            carry_out(player, &decision);
            any = true;
        }
    }
}

/* All that ends next, at the same moment.  Not "accepted" before: so no timeout begins to run. */
static void
finish_next(Player *player)
{
    const FleetPlanTask *tasks = player->played.plan->tasks;

    player->now = tasks[player->running[0]].end;
    while (player->nrunning > 0 && tasks[player->running[0]].end == player->now)
    {
        const FleetPlanTask *task = &tasks[running_pop(player)];
        FleetTaskRef ref = {player->run, task->task, task->item};

        fleet_engine_finished(player->engine, ref, fleet_engine_task_attempt(player->engine, ref),
                              FLEET_SUCCEEDED, NULL, player->now);
    }
}

/* Nothing runs, nothing will, and the run is not over: which task waits? */
static bool
stuck(Player *player, FleetError *error)
{
    const FleetGraph *graph = player->played.input->graph;
    const char *name = "?";

    for (uint32_t t = fleet_graph_ntasks(graph); t-- > 0;)
    {
        uint32_t task = fleet_graph_order(graph)[t];
        FleetTaskRef ref = {player->run, task, 0};

        if (!FLEET_STATE_IS_FINAL(fleet_engine_task_state(player->engine, ref)))
            name = fleet_graph_task(graph, task)->name;
    }
    snprintf(error->message, sizeof(error->message),
             "task \"%s\" cannot start: none of its servers is online with a slot", name);
    snprintf(error->hint, sizeof(error->hint),
             "Set one of its servers online, or give the task another server or group.");
    return false;
}

static bool
play(Player *player, FleetError *error)
{
    turn(player);
    while (!player->over)
    {
        FleetTime wakeup = fleet_engine_wakeup(player->engine);
        FleetTime end =
            player->nrunning > 0 ? player->played.plan->tasks[player->running[0]].end : FLEET_NEVER;

        if (end == FLEET_NEVER && wakeup == FLEET_NEVER)
            return stuck(player, error);
        if (end <= wakeup)
            finish_next(player);
        else
            player->now = wakeup > player->now ? wakeup : player->now + 1;
        turn(player);
    }
    return true;
}

/* ---- the begin ---- */

bool
plan_check_input(const FleetPlanInput *input, FleetError *error)
{
    memset(error, 0, sizeof(*error));
    for (uint32_t t = 0; t < fleet_graph_ntasks(input->graph); t++)
    {
        const FleetTaskSpec *task = fleet_graph_task(input->graph, t);

        if (task->kind != FLEET_TASK_JOB || task->target < input->ntargets)
            continue;
        snprintf(error->message, sizeof(error->message),
                 "task \"%s\" names target %u, but there are only %u", task->name, task->target,
                 input->ntargets);
        snprintf(error->hint, sizeof(error->hint), "Targets are numbered from 0.");
        return false;
    }
    for (uint32_t t = 0; t < input->ntargets; t++)
        for (uint32_t i = 0; i < input->target_sizes[t]; i++)
        {
            if (input->targets[t][i] < input->nservers)
                continue;
            snprintf(error->message, sizeof(error->message),
                     "target %u names server %u, but there are only %u", t, input->targets[t][i],
                     input->nservers);
            snprintf(error->hint, sizeof(error->hint), "Servers are numbered from 0.");
            return false;
        }
    return true;
}

static void
player_begin(Player *player, const FleetAlloc *alloc, const FleetPlanInput *input, FleetPlan *plan)
{
    FleetEngineConfig config = {.lost_after = FLEET_NEVER,
                                .local_server = input->local_server,
                                .local_target = input->ntargets + 1};

    memset(player, 0, sizeof(*player));
    memset(plan, 0, sizeof(*plan));
    plan->nservers = input->nservers;
    plan->utilisation = fleet_alloc_zero(alloc, input->nservers * sizeof(double));
    player->played.alloc = alloc;
    player->played.input = input;
    player->played.plan = plan;
    player->played.ran = fleet_alloc_zero(alloc, fleet_graph_ntasks(input->graph));
    player->engine = fleet_engine_create(alloc, &config, input->seed);
    for (uint32_t s = 0; s < input->nservers; s++)
        fleet_engine_server(player->engine, s, &input->servers[s], 0);
    for (uint32_t t = 0; t < input->ntargets; t++)
        fleet_placer_target(fleet_engine_placer(player->engine), t, input->targets[t],
                            input->target_sizes[t]);
    player->run = fleet_engine_run_add(player->engine, input->graph, 0, 0, 0);
}

/* ---- a run that is under way ---- */

/* An item that has not begun is loaded for its length. */
static void
load_items(Player *player, const FleetPlanItems *items)
{
    fleet_engine_load_items(player->engine, player->run, items->task, items->count);
    for (uint32_t i = 1; i <= items->count; i++)
    {
        FleetLoad load = {.ref = {player->run, items->task, i},
                          .state = FLEET_QUEUED,
                          .server = FLEET_NO_SERVER,
                          .estimate = items->estimates != NULL ? items->estimates[i - 1] : 0};

        fleet_engine_load(player->engine, &load);
    }
}

static bool
is_whole(const Player *player, const FleetPlanBegun *begun)
{
    return begun->item == 0 && fleet_graph_task(player->played.input->graph, begun->task)->for_each;
}

static void
load_begun(Player *player, const FleetPlanBegun *begun)
{
    FleetLoad load = {.ref = {player->run, begun->task, begun->item},
                      .state = begun->state,
                      .attempt = 1,
                      .server = begun->server};

    if (FLEET_STATE_IS_FINAL(begun->state))
        fleet_engine_load(player->engine, &load);
    else if (!is_whole(player, begun))
    {
        load.state = FLEET_RUNNING;
        fleet_engine_load(player->engine, &load);
        start(player, begun->task, begun->item, begun->server, begun->elapsed);
    }
}

static void
load_run(Player *player, const FleetPlanBegun *begun, uint32_t n)
{
    const FleetPlanInput *input = player->played.input;

    for (uint32_t i = 0; i < input->nitems; i++)
    {
        bool expanded = false;

        for (uint32_t k = 0; k < n && !expanded; k++)
            expanded = begun[k].task == input->items[i].task && begun[k].item > 0;
        if (expanded)
            load_items(player, &input->items[i]);
    }
    for (uint32_t i = 0; i < n; i++)
        load_begun(player, &begun[i]);
    fleet_engine_load_running(player->engine, player->run);
    fleet_engine_run_loaded(player->engine, player->run, false, 0);
}

/* ---- the end ---- */

/* The plan keeps its tasks, in exactly the memory that fleet_plan_free() will give back. */
static void
player_end(Player *player)
{
    const FleetAlloc *alloc = player->played.alloc;
    FleetPlan *plan = player->played.plan;

    fleet_engine_free(player->engine);
    fleet_alloc_free(alloc, player->running, player->running_capacity * sizeof(uint32_t));
    fleet_alloc_free(alloc, player->played.lengths, player->lengths_capacity * sizeof(FleetTime));
    fleet_alloc_free(alloc, player->played.ran, fleet_graph_ntasks(player->played.input->graph));
    if (player->capacity > plan->ntasks)
        plan->tasks =
            alloc->resize(alloc->context, plan->tasks, player->capacity * sizeof(FleetPlanTask),
                          plan->ntasks * sizeof(FleetPlanTask));
}

static void
judge(Player *player)
{
    FleetPlan *plan = player->played.plan;

    for (uint32_t i = 0; i < plan->ntasks; i++)
        if (plan->tasks[i].end > plan->makespan)
            plan->makespan = plan->tasks[i].end;
    for (uint32_t t = 0; t < fleet_graph_ntasks(player->played.input->graph); t++)
        player->played.ran[t] =
            fleet_engine_task_state(player->engine, (FleetTaskRef){player->run, t, 0}) ==
            FLEET_SUCCEEDED;
    plan_lower_bound(&player->played);
    plan_critical_path(&player->played);
    plan_utilisation(&player->played);
}

bool
fleet_plan_create(const FleetAlloc *alloc, const FleetPlanInput *input, FleetPlan *plan,
                  FleetError *error)
{
    Player player;
    bool done;

    if (!plan_check_input(input, error))
        return false;
    player_begin(&player, alloc, input, plan);
    done = play(&player, error);
    if (done)
        judge(&player);
    player_end(&player);
    if (!done)
        fleet_plan_free(alloc, plan);
    return done;
}

void
fleet_plan_free(const FleetAlloc *alloc, FleetPlan *plan)
{
    fleet_alloc_free(alloc, plan->tasks, plan->ntasks * sizeof(FleetPlanTask));
    fleet_alloc_free(alloc, plan->utilisation, plan->nservers * sizeof(double));
    memset(plan, 0, sizeof(*plan));
}

bool
fleet_plan_rest(const FleetAlloc *alloc, const FleetPlanInput *input, const FleetPlanBegun *begun,
                uint32_t nbegun, FleetTime *rest, FleetError *error)
{
    Player player;
    FleetPlan plan;
    bool done;

    if (!plan_check_input(input, error))
        return false;
    player_begin(&player, alloc, input, &plan);
    load_run(&player, begun, nbegun);
    done = play(&player, error);
    *rest = player.now;
    player_end(&player);
    fleet_plan_free(alloc, &plan);
    return done;
}
