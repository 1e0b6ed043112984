/*
 * sim_named.c
 *     Limits that tasks name: what the engine is told of them, and what must
 *     hold: never more of them active than the limit says, counted in the rows.
 */
#include "sim.h"

void
named_tell(const SimCase *c, FleetEngine *engine)
{
    for (uint32_t i = 0; i < SIM_NAMED; i++)
        if (c->named[i] > 0)
            fleet_engine_named_limit(engine, i, c->named[i]);
}

static bool
has_limit(const FleetTaskSpec *spec, uint64_t number)
{
    for (uint32_t i = 0; i < spec->nlimits; i++)
        if (spec->limits[i] == number)
            return spec->kind != FLEET_TASK_PACKAGE;
    return false;
}

bool
named_shared(const FleetTaskSpec *a, const FleetTaskSpec *b)
{
    for (uint32_t i = 0; i < a->nlimits; i++)
        if (has_limit(b, a->limits[i]))
            return true;
    return false;
}

static uint32_t
active_of(const Sim *s, const SimRun *run, uint64_t number)
{
    uint32_t n = 0;

    for (uint32_t row = 0; row < run->nrows; row++)
    {
        const SimPackage *package = &s->c->packages[run->package];
        uint32_t task, item;

        if (!sim_active(run->rows[row].state))
            continue;
        catalog_row_place(run, package, row, &task, &item);
        n += has_limit(&package->tasks[task].spec, number) &&
             (item > 0 ||
              !(package->tasks[task].spec.for_each || package->tasks[task].spec.handler));
    }
    return n;
}

/* After a turn: the engine's books are those of the rows, and no start has gone too far. */
void
oracle_named(Sim *s, SimParent *p)
{
    for (uint32_t i = 0; i < SIM_NAMED && !s->failed; i++)
    {
        uint32_t active = 0;
        bool behind = false;

        for (uint32_t r = 0; r < p->catalog.nruns && s->c->named[i] > 0; r++)
        {
            const SimRun *run = &p->catalog.runs[r];

            if (FLEET_STATE_IS_FINAL(run->state))
                continue;
            active += active_of(s, run, i);
            behind |= r < p->cap_vruns && p->vruns[r].loaded &&
                      fleet_engine_run_behind(p->engine, p->vruns[r].handle);
        }
        if (active > s->c->named[i] && !s->promoted)
            sim_fail(s, "limit %u: %u active at the same time, of %u", i, active, s->c->named[i]);
        else if (!behind && fleet_engine_named_held(p->engine, i) != active)
            sim_fail(s, "limit %u: %u active, but %u places are taken", i, active,
                     fleet_engine_named_held(p->engine, i));
    }
}
