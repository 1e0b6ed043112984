/*
 * sim_restart.c
 *     A session restarts a run that ended badly: what core/restart.h says
 *     becomes rows of a new run, checked against the same question asked the
 *     slow way; and what the restart needs of the old run's rows later on.
 */
#include "sim.h"

#include "core/restart.h"

/* ---- what must run again, without an order: is there a way to it from what does? ---- */

static bool
begins_again(const SimRun *old, uint32_t task, const bool *chosen, bool count_unknown)
{
    uint8_t state = old->rows[task].state;

    if (count_unknown && (state == FLEET_LOST || state == FLEET_UNKNOWN))
        state = FLEET_SUCCEEDED;
    return chosen[task] || (state != FLEET_SUCCEEDED && state != FLEET_SKIPPED);
}

static void
check_plan(Sim *s, const SimRun *old, const bool *chosen, bool count_unknown,
           const FleetRestartPart *parts)
{
    const SimPackage *package = &s->c->packages[old->package];
    bool *again = sim_alloc(package->ntasks + 1), more = true;

    for (uint32_t t = 0; t < package->ntasks; t++)
        again[t] = begins_again(old, t, chosen, count_unknown);
    while (more)
    {
        more = false;
        for (uint32_t e = 0; e < package->nedges; e++)
            if (again[package->edges[e].from] && !again[package->edges[e].to])
                more = again[package->edges[e].to] = true;
    }
    for (uint32_t t = 0; t < package->ntasks && !s->failed; t++)
        if (again[t] != (parts[t] == FLEET_RESTART_RESUME || parts[t] == FLEET_RESTART_AFRESH))
            sim_fail(s, "restart: task %u %s", t,
                     again[t] ? "does not run again, though something before it does"
                              : "runs again, though nothing before it does");
}

/* Handlers and final tasks run again whatever they did. */
bool *
restart_chosen(const Sim *s, uint8_t number)
{
    const SimPackage *package = &s->c->packages[number];
    bool *chosen = sim_alloc(package->ntasks + 1);

    for (uint32_t t = 0; t < package->ntasks; t++)
        chosen[t] = package->tasks[t].spec.last || package->tasks[t].spec.handler;
    return chosen;
}

/* ---- rows ---- */

static bool
counts(const SimRun *run, uint8_t state)
{
    return state == FLEET_SUCCEEDED ||
           (run->count_unknown && (state == FLEET_LOST || state == FLEET_UNKNOWN));
}

static void
carry(SimRow *row)
{
    row->state = FLEET_SUCCEEDED;
    row->carried = row->written = true;
}

static uint32_t
nested_of(const SimRow *old)
{
    return old->attempt > 0 && old->sub != SIM_NONE ? old->sub : old->continues;
}

static bool
an_item_began(const SimRun *run, uint32_t task)
{
    for (uint32_t i = 0; run->count[task] != SIM_NONE && i < run->count[task]; i++)
        if (run->rows[run->base[task] + i].attempt > 0)
            return true;
    return false;
}

static void
restart_task(SimCatalog *catalog, SimRun *run, uint32_t number, uint32_t task,
             FleetRestartPart part, bool again)
{
    const SimRun *old = &catalog->runs[number];

    if (part == FLEET_RESTART_CARRY)
        carry(&run->rows[task]);
    run->rows[task].skip = old->rows[task].skip && old->rows[task].state == FLEET_SKIPPED && !again;
    if (part != FLEET_RESTART_RESUME)
        return;
    run->rows[task].continues = nested_of(&old->rows[task]);
    /* items that never began are none: not all of them may have been stored */
    run->items_of[task] = an_item_began(old, task) ? number + 1 : old->items_of[task];
}

/* Run "run", which has just been made, restarts run "number". */
void
catalog_restart(Sim *s, SimCatalog *catalog, uint32_t index, uint32_t number, const bool *chosen,
                bool count_unknown)
{
    SimRun *run = &catalog->runs[index], *old = &catalog->runs[number];
    const SimPackage *package = &s->c->packages[run->package];
    FleetState *states = sim_alloc((package->ntasks + 1) * sizeof(FleetState));
    FleetRestartPart *parts = sim_alloc((package->ntasks + 1) * sizeof(FleetRestartPart));

    run->restart_of = number;
    run->count_unknown = count_unknown;
    run->counted = count_unknown || old->counted || old->retried;
    for (uint32_t t = 0; t < package->ntasks; t++)
        states[t] =
            counts(run, old->rows[t].state) ? FLEET_SUCCEEDED : (FleetState) old->rows[t].state;
    fleet_restart_plan(s->graphs[run->package], states, chosen, parts);
    check_plan(s, old, chosen, count_unknown, parts);
    for (uint32_t t = 0; t < package->ntasks; t++)
        restart_task(catalog, run, number, t, parts[t], chosen[t]);
    for (uint32_t e = 0; e < package->nedges; e++)
        if (fleet_restart_keeps(s->graphs[run->package], e, chosen, parts) &&
            old->condition[e] != 3)
            run->condition[e] = old->condition[e];
}

/* The items of a for_each that a restart takes over; false: it has to ask. */
const SimRun *
restart_items(const SimCatalog *catalog, const SimRun *run, uint32_t task)
{
    return run->items_of[task] == 0 ? NULL : &catalog->runs[run->items_of[task] - 1];
}

bool *
restart_carried(const SimCatalog *catalog, const SimRun *run, uint32_t task)
{
    const SimRun *old = restart_items(catalog, run, task);
    bool *carried = sim_alloc(old->count[task] + 1);

    for (uint32_t i = 0; i < old->count[task]; i++)
        carried[i] = counts(run, old->rows[old->base[task] + i].state);
    return carried;
}

/* Right after the items have got their rows. */
void
restart_expanded(const SimCatalog *catalog, SimRun *run, uint32_t task)
{
    const SimRun *old = restart_items(catalog, run, task);

    for (uint32_t i = 0; old != NULL && i < run->count[task]; i++)
    {
        const SimRow *was = &old->rows[old->base[task] + i];
        SimRow *row = &run->rows[run->base[task] + i];

        if (counts(run, was->state))
            carry(row);
        else
            row->continues = nested_of(was);
    }
}

/* Between run_add and run_loaded of a run that has not begun. */
void
restart_load(Sim *s, FleetEngine *engine, uint32_t handle, const SimRun *run)
{
    const SimPackage *package = &s->c->packages[run->package];

    for (uint32_t t = 0; t < package->ntasks; t++)
        if (run->rows[t].carried)
            fleet_engine_carry(engine, handle, t);
    for (uint32_t e = 0; e < package->nedges; e++)
        if (run->condition[e] == 1 || run->condition[e] == 2)
            fleet_engine_load_condition(engine, handle, e, run->condition[e] == 2);
}

/* ---- the session ---- */

static bool
restartable(const SimParent *p, uint32_t number)
{
    const SimRun *run = &p->catalog.runs[number];

    if (number >= p->catalog.nruns || run->owner_run != SIM_NONE ||
        !FLEET_STATE_IS_FINAL(run->state) || run->state == FLEET_SUCCEEDED)
        return false;
    for (uint32_t i = number + 1; i < p->catalog.nruns; i++)
        if (p->catalog.runs[i].restart_of == number)
            return false;
    return true;
}

void
parent_restart(Sim *s, uint32_t number)
{
    SimParent *p = &s->parents[s->primary];
    SimInbox in = {.kind = IN_NEW_RUN};
    bool *chosen;
    uint32_t ntasks;
    SimRun *old;

    if (!restartable(p, number))
        return;
    old = &p->catalog.runs[number];
    ntasks = s->c->packages[old->package].ntasks;
    chosen = restart_chosen(s, old->package);
    if (sim_pct(s, 20))
        chosen[fleet_random_below(&s->random, ntasks)] = true;
    in.run = catalog_new_run(s, &p->catalog, old->package,
                             sim_rid(s, sim_mix(s->rids[old->rid].key, 4711), old->package),
                             old->priority);
    limits_new_run(s, &p->catalog.runs[in.run], 0);
    TRACE(s, "run %u restarts run %u", in.run, number);
    catalog_restart(s, &p->catalog, in.run, number, chosen, sim_pct(s, 30));
    parent_put(s, s->primary, &in);
}

/* Somebody looks at a run that has ended. */
void
restart_later(Sim *s, uint32_t number)
{
    if (sim_pct(s, s->c->restart_pct))
        sim_at(s, s->now + sim_span(s, 1, FLEET_SECONDS(1)), EV_RESTART, number, 0, 0);
}
