/*
 * sim_end.c
 *     An engine built from the rows against the living one; and what must
 *     hold when nothing can happen any more: nobody is in limbo.
 */
#include "sim.h"

/* ---- an engine built from the rows stands where the living one stands ---- */

static void
compare_attempt(Sim *s, const SimRow *row, FleetEngine *other, FleetTaskRef ref)
{
    if (row->attempt == 0)
        return;
    if (fleet_engine_task_attempt(other, ref) != row->attempt)
        sim_fail(s, "rebuilt from its rows, task %u item %u is at attempt %u, not %u", ref.task,
                 ref.item, fleet_engine_task_attempt(other, ref), row->attempt);
    else if (sim_active(row->state) && fleet_engine_task_server(other, ref) != row->server)
        sim_fail(s, "rebuilt from its rows, task %u item %u is on server %d, not %d", ref.task,
                 ref.item, (int) fleet_engine_task_server(other, ref), (int) row->server);
}

/* The counters of progress against the rows; a for_each counts by its items, if it has any. */
static void
compare_counts(Sim *s, const SimRun *run, const SimPackage *package, FleetEngine *other,
               uint32_t handle)
{
    FleetRunCounts has, wanted = {0};

    for (uint32_t row = 0; row < run->nrows; row++)
    {
        uint8_t state = run->rows[row].state;

        if (row < package->ntasks && run->count[row] != SIM_NONE && run->count[row] > 0)
            continue;
        wanted.total++;
        wanted.done += state == FLEET_SUCCEEDED || state == FLEET_SKIPPED;
        wanted.bad +=
            FLEET_STATE_IS_FINAL(state) && state != FLEET_SUCCEEDED && state != FLEET_SKIPPED;
        wanted.running += sim_active((&run->rows[row])->state);
        wanted.waiting += state == FLEET_QUEUED || state == FLEET_RETRYING;
    }
    fleet_engine_run_counts(other, handle, &has);
    if (has.total != wanted.total || has.done != wanted.done || has.bad != wanted.bad ||
        has.running != wanted.running || has.waiting != wanted.waiting)
        sim_fail(s, "progress says %u = %u + %u + %u + %u, the rows %u = %u + %u + %u + %u",
                 has.total, has.done, has.bad, has.running, has.waiting, wanted.total, wanted.done,
                 wanted.bad, wanted.running, wanted.waiting);
}

static void
compare_run(Sim *s, const SimParent *p, FleetEngine *other, uint32_t number, uint32_t handle)
{
    const SimRun *run = &p->catalog.runs[number];
    const SimPackage *package = &s->c->packages[run->package];
    uint32_t task, item;

    for (uint32_t row = 0; row < run->nrows && !s->failed; row++)
    {
        FleetState there;

        catalog_row_place(run, package, row, &task, &item);
        there = fleet_engine_task_state(other, (FleetTaskRef){handle, task, item});
        if (there != run->rows[row].state)
            sim_fail(s, "rebuilt from its rows, task %u item %u is %s, not %s", task, item,
                     there == 0 ? "nothing" : fleet_state_name(there),
                     fleet_state_name((FleetState) run->rows[row].state));
        else
            compare_attempt(s, &run->rows[row], other, (FleetTaskRef){handle, task, item});
    }
    if (!s->failed)
        compare_counts(s, run, package, other, handle);
    if (!s->failed && fleet_engine_run_state(other, handle) != run->state)
        sim_fail(s, "rebuilt from its rows, the run is %s, not %s",
                 fleet_state_name(fleet_engine_run_state(other, handle)),
                 fleet_state_name((FleetState) run->state));
}

void
oracle_reload(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];
    uint32_t *handles = sim_alloc((p->catalog.nruns + 1) * sizeof(uint32_t));
    FleetEngine *other = parent_load_engine(s, parent, handles);

    for (uint32_t run = 0; run < p->catalog.nruns && !s->failed; run++)
        if (handles[run] != SIM_NONE && p->catalog.runs[run].state != FLEET_QUEUED &&
            !fleet_engine_run_behind(p->engine, p->vruns[run].handle) &&
            p->catalog.runs[run].cancel_last == p->catalog.runs[run].last_told &&
            p->catalog.runs[run].cancel == (p->catalog.runs[run].state == FLEET_CANCELING))
        {
            compare_run(s, p, other, run, handles[run]);
            if (!s->failed)
                compare_run(s, p, p->engine, run, p->vruns[run].handle); /* and the living one */
        }
    fleet_engine_free(other);
}

/* ---- the end ---- */

static void
check_limbo(Sim *s, const SimParent *p)
{
    for (uint32_t i = 0; i < p->catalog.nruns && !s->failed; i++)
    {
        const SimRun *run = &p->catalog.runs[i];
        uint32_t task, item;

        if (FLEET_STATE_IS_FINAL(run->state))
            continue;
        for (uint32_t row = 0; row < run->nrows && !s->failed; row++)
        {
            catalog_row_place(run, &s->c->packages[run->package], row, &task, &item);
            if (!FLEET_STATE_IS_FINAL(run->rows[row].state))
                sim_fail(
                    s,
                    "limbo: nothing can happen any more, and run %u (%s%s) has task %u item %u "
                    "%s (attempt %u, server %d)",
                    i, fleet_state_name((FleetState) run->state), run->cancel ? ", canceled" : "",
                    task, item, fleet_state_name((FleetState) run->rows[row].state),
                    run->rows[row].attempt, (int) run->rows[row].server);
        }
        sim_fail(s, "limbo: run %u is %s, though each of its tasks has ended", i,
                 fleet_state_name((FleetState) run->state));
    }
}

static void
check_servers(Sim *s, const SimParent *p)
{
    for (uint32_t node = 1; node < s->c->nservers && !s->failed; node++)
    {
        const SimDb *db = &s->nodes[node].db;

        for (uint32_t i = 0; i < db->njobs; i++)
        {
            if (!db->jobs[i].gone && !job_final(&db->jobs[i]))
                sim_fail(s, "limbo: server %u has aid %u %s for ever", node, db->jobs[i].aid,
                         fleet_state_name(db->jobs[i].run.state));
            if (!db->jobs[i].gone && !db->jobs[i].acked)
                sim_fail(s, "server %u: the result of aid %u was never acknowledged", node,
                         db->jobs[i].aid);
        }
        for (uint32_t i = 0; i < db->nxacts; i++)
            if (db->xacts[i] == 0)
                sim_fail(s, "server %u: transaction %u is open for ever", node, i + 1);
        for (uint32_t a = 0; p->engine != NULL && a < 1; a++)
            if (fleet_placer_busy(fleet_engine_placer(p->engine), node) != 0)
                sim_fail(s, "server %u: %u slots are taken though nothing runs", node,
                         fleet_placer_busy(fleet_engine_placer(p->engine), node));
    }
    for (uint32_t i = 0; i < p->catalog.njobs && !s->failed; i++)
        if (!p->catalog.jobs[i].dead && !job_final(&p->catalog.jobs[i]))
            sim_fail(s, "limbo: the parent's own job run of aid %u is %s for ever",
                     p->catalog.jobs[i].aid, fleet_state_name(p->catalog.jobs[i].run.state));
}

void
oracle_end(Sim *s)
{
    const SimParent *p = &s->parents[s->primary];

    if (!p->up || p->engine == NULL)
        sim_fail(s, "limbo: the parent's agent did not come back");
    check_limbo(s, p);
    if (!s->failed)
        check_servers(s, p);
}
