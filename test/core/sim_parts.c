/*
 * sim_parts.c
 *     When final tasks begin, and for which failures handlers are executed:
 *     counted over the rows, each time from the first one.
 */
#include "sim.h"

static const FleetTaskSpec *
spec_of(const Sim *s, const SimRun *run, uint32_t task)
{
    return &s->c->packages[run->package].tasks[task].spec;
}

/* Does the cancel of its run stop this task? */
bool
parts_cancel_reaches(const Sim *s, const SimRun *run, uint32_t task)
{
    return run->cancel && (run->cancel_last || !spec_of(s, run, task)->last);
}

/* … and with it the nested run that it has started? */
bool
parts_reach_nested(const Sim *s, const SimCatalog *catalog, uint32_t nested)
{
    const SimRun *owner = &catalog->runs[catalog->runs[nested].owner_run];
    uint32_t task, item;

    catalog_row_place(owner, &s->c->packages[owner->package], catalog->runs[nested].owner_row,
                      &task, &item);
    return parts_cancel_reaches(s, owner, task);
}

/* ---- handlers ---- */

static bool
bad(uint8_t state)
{
    return state == FLEET_FAILED || state == FLEET_LOST || state == FLEET_UNKNOWN;
}

/* A row has just got the state of this decision. */
void
parts_failed(Sim *s, SimRun *run, uint32_t row, const FleetDecision *d)
{
    const FleetTaskSpec *spec = spec_of(s, run, d->ref.task);

    if (!bad((uint8_t) d->state) || spec->last || spec->handler ||
        outcome_handled(&s->c->packages[run->package], d->ref.task))
        return;
    for (uint32_t i = 1; d->ref.item == 0 && spec->for_each &&
                         run->count[d->ref.task] != SIM_NONE && i <= run->count[d->ref.task];
         i++)
        if (bad(run->rows[catalog_row(run, d->ref.task, i)].state))
            return; /* its items failed, not it */
    if (run->cancel)
        run->rows[row].perhaps++;
    else
        run->rows[row].caught++;
}

void
parts_caught(Sim *s, SimRun *run, const FleetDecision *d)
{
    uint32_t cause = catalog_row(run, d->cause.task, d->cause.item);

    if (!spec_of(s, run, d->ref.task)->handler)
        sim_fail(s, "task %u handles a failure, but is no handler", d->ref.task);
    else if (run->rows[cause].state != (uint8_t) d->state || !bad((uint8_t) d->state) ||
             run->rows[cause].attempt != d->attempt)
        sim_fail(s, "task %u item %u has not failed as handler %u is told", d->cause.task,
                 d->cause.item, d->ref.task);
    else if (catalog_add_execution(run, d->ref.task, cause) != d->ref.item)
        sim_fail(s, "handler %u: execution %u is not the next one", d->ref.task, d->ref.item);
    run->rows[run->nrows - 1].written = true;
}

static void
check_handler(Sim *s, const SimRun *run, uint32_t handler)
{
    if (run->count[handler] == SIM_NONE &&
        (spec_of(s, run, handler)->left_out || run->rows[handler].skip))
        return;
    for (uint32_t row = 0; row < run->nrows && !s->failed; row++)
    {
        uint32_t n = 0, task, item;

        for (uint32_t i = 0; i < run->nrows; i++)
            n += run->rows[i].handler == handler + 1 && run->rows[i].cause == row;
        catalog_row_place(run, &s->c->packages[run->package], row, &task, &item);
        if (n < run->rows[row].caught || n > run->rows[row].caught + run->rows[row].perhaps)
            sim_fail(s, "handler %u was executed %u times for %u failures of task %u item %u",
                     handler, n, run->rows[row].caught, task, item);
    }
}

/* ---- final tasks ---- */

/* A final task that waits for other parts of its run. */
bool
parts_waits(const Sim *s, const SimRun *run, uint32_t task)
{
    uint32_t other, item;

    for (uint32_t row = 0; spec_of(s, run, task)->last && row < run->nrows; row++)
    {
        catalog_row_place(run, &s->c->packages[run->package], row, &other, &item);
        if (!spec_of(s, run, other)->last && !FLEET_STATE_IS_FINAL(run->rows[row].state))
            return true;
    }
    return false;
}

/* It starts, or asks for its items. */
void
parts_begins(Sim *s, const SimRun *run, uint32_t task)
{
    if (parts_waits(s, run, task))
        sim_fail(s, "final task %u begins while other tasks have not ended", task);
}

/* The run has ended.  (That none of its final tasks is missing: check_task() in sim_outcome.c.) */
void
parts_end(Sim *s, const SimRun *run)
{
    for (uint32_t t = 0; t < s->c->packages[run->package].ntasks && !s->failed; t++)
        if (spec_of(s, run, t)->handler)
            check_handler(s, run, t);
}
