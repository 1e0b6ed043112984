/*
 * sim_catalog.c
 *     The parent's durable rows: runs, task runs, job runs of its own.  Only
 *     what is here survives a crash.
 *
 * Rows of a run: one a task (item 0), then the items of each expanded
 * for_each, from base[task] on; executions of handlers as they come.
 */
#include "sim.h"

#include <string.h>

static void *
copied(const void *from, size_t size)
{
    void *to = sim_alloc(size == 0 ? 1 : size);

    if (size > 0)
        memcpy(to, from, size);
    return to;
}

void
catalog_copy(SimCatalog *to, const SimCatalog *from, const SimCase *c)
{
    *to = *from;
    to->cap_runs = from->nruns;
    to->cap_jobs = from->njobs;
    to->runs = copied(from->runs, from->nruns * sizeof(SimRun));
    to->jobs = copied(from->jobs, from->njobs * sizeof(SimJob));
    for (uint32_t i = 0; i < to->nruns; i++)
    {
        SimRun *run = &to->runs[i];
        const SimPackage *package = &c->packages[run->package];

        run->cap_rows = run->nrows;
        run->rows = copied(run->rows, run->nrows * sizeof(SimRow));
        run->base = copied(run->base, package->ntasks * sizeof(uint32_t));
        run->count = copied(run->count, package->ntasks * sizeof(uint32_t));
        run->items_failed = copied(run->items_failed, package->ntasks);
        run->items_of = copied(run->items_of, package->ntasks * sizeof(uint32_t));
        run->condition = copied(run->condition, package->nedges);
        run->question = copied(run->question, package->nedges * sizeof(uint32_t));
    }
}

static void
new_row(SimRow *row)
{
    *row = (SimRow){.state = FLEET_QUEUED,
                    .server = FLEET_NO_SERVER,
                    .at = FLEET_NO_SERVER,
                    .aid = SIM_NONE,
                    .job = SIM_NONE,
                    .sub = SIM_NONE,
                    .continues = SIM_NONE};
}

uint32_t
catalog_new_run(Sim *s, SimCatalog *catalog, uint8_t number, uint32_t rid, int32_t priority)
{
    const SimPackage *package = &s->c->packages[number];
    uint32_t index = catalog->nruns;
    SimRun *run;

    SIM_GROW(catalog->runs, catalog->cap_runs, index + 1, sizeof(SimRun));
    catalog->nruns++;
    run = &catalog->runs[index];
    *run = (SimRun){.rid = rid,
                    .package = number,
                    .state = FLEET_QUEUED,
                    .priority = priority,
                    .owner_run = SIM_NONE,
                    .owner_row = SIM_NONE,
                    .owner_aid = SIM_NONE,
                    .restart_of = SIM_NONE};
    run->nrows = package->ntasks;
    SIM_GROW(run->rows, run->cap_rows, run->nrows, sizeof(SimRow));
    for (uint32_t i = 0; i < run->nrows; i++)
        new_row(&run->rows[i]);
    run->base = sim_alloc((package->ntasks + 1) * sizeof(uint32_t));
    run->count = sim_alloc((package->ntasks + 1) * sizeof(uint32_t));
    for (uint32_t i = 0; i < package->ntasks; i++)
        run->count[i] = SIM_NONE;
    run->items_failed = sim_alloc(package->ntasks + 1);
    run->items_of = sim_alloc((package->ntasks + 1) * sizeof(uint32_t));
    run->condition = sim_alloc(package->nedges + 1);
    run->question = sim_alloc((package->nedges + 1) * sizeof(uint32_t));
    return index;
}

uint32_t
catalog_row(const SimRun *run, uint32_t task, uint32_t item)
{
    if (item == 0)
        return task;
    for (uint32_t row = 0; row < run->nrows; row++)
        if (run->rows[row].handler == task + 1 && run->rows[row].execution == item)
            return row;
    return run->base[task] + item - 1;
}

void
catalog_row_place(const SimRun *run, const SimPackage *package, uint32_t row, uint32_t *task,
                  uint32_t *item)
{
    *task = row;
    *item = 0;
    if (row < package->ntasks)
        return;
    if (run->rows[row].handler != 0)
    {
        *task = run->rows[row].handler - 1;
        *item = run->rows[row].execution;
        return;
    }
    for (uint32_t t = 0; t < package->ntasks; t++)
        if (run->count[t] != SIM_NONE && !package->tasks[t].spec.handler && row >= run->base[t] &&
            row < run->base[t] + run->count[t])
        {
            *task = t;
            *item = row - run->base[t] + 1;
            return;
        }
}

void
catalog_expand(SimRun *run, uint32_t task, uint32_t count)
{
    run->base[task] = run->nrows;
    run->count[task] = count;
    SIM_GROW(run->rows, run->cap_rows, run->nrows + count, sizeof(SimRow));
    for (uint32_t i = 0; i < count; i++)
        new_row(&run->rows[run->nrows++]);
}

uint32_t
catalog_add_execution(SimRun *run, uint32_t task, uint32_t cause)
{
    uint32_t number = run->count[task] == SIM_NONE ? 1 : run->count[task] + 1;

    run->count[task] = number;
    SIM_GROW(run->rows, run->cap_rows, run->nrows + 1, sizeof(SimRow));
    new_row(&run->rows[run->nrows]);
    run->rows[run->nrows].handler = task + 1;
    run->rows[run->nrows].execution = number;
    run->rows[run->nrows].cause = cause;
    run->nrows++;
    return number;
}

/* Where is this attempt, and is it the present one of its row?  *run SIM_NONE: nowhere. */
bool
catalog_find(Sim *s, SimParent *p, uint32_t aid, uint32_t *run, uint32_t *row)
{
    const SimAttempt *attempt = &s->attempts[aid];

    *run = *row = SIM_NONE;
    for (uint32_t i = 0; i < p->catalog.nruns; i++)
    {
        SimRun *r = &p->catalog.runs[i];

        if (r->rid != attempt->rid)
            continue;
        if (attempt->item > 0 &&
            (r->count[attempt->task] == SIM_NONE || attempt->item > r->count[attempt->task]))
            return false;
        *run = i;
        *row = catalog_row(r, attempt->task, attempt->item);
        return r->rows[*row].aid == aid;
    }
    return false;
}

uint32_t
catalog_new_job(SimCatalog *catalog, uint32_t aid)
{
    uint32_t job = catalog->njobs;

    SIM_GROW(catalog->jobs, catalog->cap_jobs, job + 1, sizeof(SimJob));
    catalog->njobs++;
    job_init(&catalog->jobs[job], aid);
    return job;
}

/* A cancel is accepted: of this run and of the nested ones below it. */
void
catalog_cancel(Sim *s, SimCatalog *catalog, uint32_t run, bool last)
{
    if (FLEET_STATE_IS_FINAL(catalog->runs[run].state))
        return;
    catalog->runs[run].cancel = true;
    catalog->runs[run].cancel_last |= last;
    for (uint32_t i = run + 1; i < catalog->nruns; i++)
        if (catalog->runs[i].owner_run == run && parts_reach_nested(s, catalog, i))
            catalog_cancel(s, catalog, i, last);
}
