/*
 * sim_fairness.c
 *     Nobody starves: placement.h says how often a ticket may be passed over.
 *     Counted in crowded cases only, for single tasks that are ready: starts
 *     of others on the servers that they wait for.  Of one that names a limit:
 *     of others that name it too and want the same servers, since its wait in
 *     the placer begins only when the limit has room.
 */
#include "sim.h"

static uint32_t
starts_on(const SimCase *c, const SimParent *p, const FleetTaskSpec *spec, uint32_t avoid)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->nbatch; i++)
    {
        const FleetDecision *d = &p->batch[i];
        const SimRun *run;
        const FleetTaskSpec *other;

        if (d->kind != FLEET_DO_START || d->server == FLEET_NO_SERVER)
            continue;
        run = &p->catalog.runs[fleet_engine_run_tag(p->engine, d->ref.run)];
        other = &c->packages[run->package].tasks[d->ref.task].spec;
        if (spec->nlimits > 0)
            n += other->kind == spec->kind && other->target == spec->target &&
                 named_shared(spec, other);
        else
            n += d->server + 1 != avoid && sim_listed(c, spec->target, d->server);
    }
    return n;
}

/* Single tasks of one run may wait for each other (its items are a flow of their own). */
static uint32_t
waiting(const SimRun *run, uint32_t ntasks)
{
    uint32_t n = 0;

    for (uint32_t row = 0; row < ntasks; row++)
        n += run->rows[row].state == FLEET_QUEUED;
    return n;
}

static uint64_t
patience(Sim *s, const SimParent *p, const SimRun *run, uint32_t target)
{
    uint64_t slots = 0;

    for (uint32_t i = 0; i < s->c->target_sizes[target]; i++)
        slots += p->catalog.slots[s->c->targets[target][i]] + 3; /* an administrator's at most */
    return (uint64_t) waiting(run, s->c->packages[run->package].ntasks) *
           (FLEET_PLACER_PATIENCE + FLEET_PLACER_ROUNDS * slots +
            2 * FLEET_PLACER_SHARE * (uint64_t) (2 * p->catalog.nruns + 1));
}

void
oracle_starvation(Sim *s, SimParent *p)
{
    for (uint32_t i = 0; i < p->catalog.nruns && !s->failed; i++)
    {
        SimRun *run = &p->catalog.runs[i];
        const SimPackage *package = &s->c->packages[run->package];

        for (uint32_t task = 0; task < package->ntasks && run->state == FLEET_RUNNING; task++)
        {
            const FleetTaskSpec *spec = &package->tasks[task].spec;
            SimRow *row = &run->rows[task];

            if (spec->kind != FLEET_TASK_JOB || spec->for_each || spec->handler ||
                row->state != FLEET_QUEUED || parts_waits(s, run, task) ||
                outcome_ready(s, run, task) != 1)
            {
                row->passed = 0;
                row->patience = 0;
                continue;
            }
            if (row->patience < patience(s, p, run, spec->target))
                row->patience = patience(s, p, run, spec->target);
            row->passed += starts_on(s->c, p, spec, row->avoid != 0 ? row->avoid : row->shy);
            if (row->passed > row->patience)
                sim_fail(s, "run %u task %u starves: passed over %u times", i, task, row->passed);
        }
    }
}
