/*
 * sim_steer.c
 *     What a session asks of a run that goes on: to skip a task run, to start
 *     one that failed once more, to start nothing new for a while.  The request
 *     is durable before the agent hears of it, and what it has heard of holds.
 */
#include "sim.h"

/* The open root number "root", as the session counts them; SIM_NONE: it is not there. */
static uint32_t
open_root(const SimParent *p, uint32_t root)
{
    for (uint32_t i = 0, n = 0; i < p->catalog.nruns; i++)
        if (p->catalog.runs[i].owner_run == SIM_NONE && n++ == root)
            return FLEET_STATE_IS_FINAL(p->catalog.runs[i].state) ? SIM_NONE : i;
    return SIM_NONE;
}

static bool
bad(uint8_t state)
{
    return state == FLEET_FAILED || state == FLEET_LOST || state == FLEET_UNKNOWN ||
           state == FLEET_CANCELED;
}

/* ---- the session ---- */

void
steer_skip(Sim *s, uint32_t root, uint32_t number)
{
    SimParent *p = &s->parents[s->primary];
    SimInbox in = {.kind = IN_SKIP, .run = open_root(p, root)};
    SimRow *row;

    if (in.run == SIM_NONE)
        return;
    in.row = number % p->catalog.runs[in.run].nrows;
    row = &p->catalog.runs[in.run].rows[in.row];
    if (row->state != FLEET_QUEUED && row->state != FLEET_RETRYING)
        return;
    TRACE(s, "run %u: row %u is to be skipped", in.run, in.row);
    row->skip = true;
    parent_put(s, s->primary, &in);
}

void
steer_retry(Sim *s, uint32_t root, uint32_t number)
{
    SimParent *p = &s->parents[s->primary];
    SimInbox in = {.kind = IN_RETRY, .run = open_root(p, root)};
    SimRun *run;

    if (in.run == SIM_NONE)
        return;
    run = &p->catalog.runs[in.run];
    for (uint32_t i = 0; i < run->nrows; i++)
    {
        in.row = (number + i) % run->nrows;
        if (!bad(run->rows[in.row].state))
            continue;
        TRACE(s, "run %u: row %u is to be retried", in.run, in.row);
        run->rows[in.row].retry_asked = true;
        run->rows[in.row].skip = false;
        parent_put(s, s->primary, &in);
        return;
    }
}

void
steer_pause(Sim *s, uint32_t root, bool paused)
{
    SimParent *p = &s->parents[s->primary];
    SimInbox in = {.kind = IN_PAUSE, .run = open_root(p, root)};

    if (in.run == SIM_NONE || s->c->crowded)
        return;
    TRACE(s, "run %u: %s", in.run, paused ? "paused" : "resumed");
    p->catalog.runs[in.run].paused = paused;
    parent_put(s, s->primary, &in);
}

/* ---- the agent ---- */

/* By the run itself, or one that it is a part of and that goes on. */
bool
steer_paused(const SimCatalog *catalog, uint32_t run)
{
    for (; run != SIM_NONE; run = catalog->runs[run].owner_run)
        if (catalog->runs[run].paused && !FLEET_STATE_IS_FINAL(catalog->runs[run].state))
            return true;
    return false;
}

/* Conditions whose answer is not waited for any more. */
static void
forget_questions(Sim *s, SimParent *p, uint32_t number)
{
    SimRun *run = &p->catalog.runs[number];

    for (uint32_t e = 0; e < s->c->packages[run->package].nedges; e++)
        run->question[e] += !fleet_engine_asks(p->engine, p->vruns[number].handle, e);
}

/* A start that was decided in this turn is not undone: it is skipped instead of a retry. */
static void
feed_skip(Sim *s, SimParent *p, SimRow *row, FleetTaskRef ref)
{
    FleetState state = fleet_engine_task_state(p->engine, ref);
    bool waits = state == FLEET_QUEUED || state == FLEET_RETRYING;

    if (!fleet_engine_skip(p->engine, ref, s->now))
        return;
    row->skip_told |= waits;
    row->skip_late |= !waits;
}

void
steer_feed(Sim *s, uint32_t parent, SimInbox *in)
{
    SimParent *p = &s->parents[parent];
    FleetTaskRef ref = {0};

    in->state = 0;
    if (in->run >= p->cap_vruns || !p->vruns[in->run].loaded)
        return;
    ref.run = p->vruns[in->run].handle;
    catalog_row_place(&p->catalog.runs[in->run], &s->c->packages[p->catalog.runs[in->run].package],
                      in->row, &ref.task, &ref.item);
    if (in->kind == IN_SKIP)
        feed_skip(s, p, &p->catalog.runs[in->run].rows[in->row], ref);
    else if (fleet_engine_run_behind(p->engine, ref.run))
        in->state = 2; /* its rows are not what the engine knows: later */
    else
    {
        forget_questions(s, p, in->run);
        in->state = fleet_engine_retry(p->engine, ref, s->now);
        forget_questions(s, p, in->run);
    }
}

void
steer_feed_pause(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];

    for (uint32_t i = 0; i < p->catalog.nruns && i < p->cap_vruns; i++)
        if (p->vruns[i].loaded)
        {
            p->catalog.runs[i].pause_told = steer_paused(&p->catalog, i);
            fleet_engine_pause(p->engine, p->vruns[i].handle, p->catalog.runs[i].pause_told,
                               s->now);
        }
}

/* In the same commit as what follows from it. */
void
steer_commit(Sim *s, uint32_t parent, const SimInbox *in)
{
    SimRun *run = &s->parents[parent].catalog.runs[in->run];

    if (in->kind != IN_RETRY)
        return;
    if (in->state == 2)
    {
        parent_put(s, parent, in);
        return;
    }
    run->rows[in->row].retry_asked = false;
    run->reopening |= in->state == 1;
    run->retried |= in->state == 1;
}

/* May a task run leave this final state, by this decision? */
bool
steer_allows(const SimRun *run, const SimTask *task, uint32_t item, const SimRow *was,
             const FleetDecision *d)
{
    bool whole = task->spec.for_each && item == 0;

    if (!run->reopening || d->kind != FLEET_DO_STATE || run->state != FLEET_RUNNING)
        return false;
    if (d->state == FLEET_RUNNING)
        return whole && bad(was->state);
    return d->state == FLEET_QUEUED &&
           (bad(was->state) || (was->state == FLEET_SKIPPED && item == 0));
}

/* What was known of what follows is known no longer. */
void
steer_reopened(Sim *s, SimRun *run, uint32_t task)
{
    const SimPackage *package = &s->c->packages[run->package];

    run->items_failed[task] = 0;
    for (uint32_t e = 0; e < package->nedges; e++)
        if (package->edges[e].from == task ||
            (package->edges[e].to == task && run->condition[e] == 3))
            run->condition[e] = 0;
}

/* After the agent's restart, besides what it finds in the rows. */
void
steer_recover(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];

    for (uint32_t i = 0; i < p->catalog.nruns; i++)
    {
        SimRun *run = &p->catalog.runs[i];

        run->pause_told = steer_paused(&p->catalog, i);
        run->last_told = run->cancel_last;
        for (uint32_t row = 0; row < run->nrows; row++)
        {
            SimInbox in = {.kind = IN_RETRY, .run = i, .row = row};

            run->rows[row].skip_told = run->rows[row].skip;
            if (run->rows[row].retry_asked)
                parent_put(s, parent, &in);
        }
    }
}

/* Between run_add and run_loaded. */
void
steer_load(Sim *s, const SimCatalog *catalog, FleetEngine *engine, uint32_t handle, uint32_t number)
{
    const SimRun *run = &catalog->runs[number];
    FleetTaskRef ref = {.run = handle};

    for (uint32_t row = 0; row < run->nrows; row++)
        if (run->rows[row].skip)
        {
            catalog_row_place(run, &s->c->packages[run->package], row, &ref.task, &ref.item);
            fleet_engine_load_skip(engine, ref);
        }
    fleet_engine_pause(engine, handle, steer_paused(catalog, number), s->now);
}
