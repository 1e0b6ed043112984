/*
 * sim_limits.c
 *     Limits of runs: what the engine is told of them, and what must hold: not
 *     more runs of a package at a time than may run, none before its time, none
 *     after its timeout, none beside the one that takes its place.
 *
 * Runs of one package are those that sessions have asked for; nested ones do
 * not count, but have the package's timeout.
 */
#include "sim.h"

static bool
begun(const SimRun *run)
{
    return run->state != FLEET_QUEUED && !FLEET_STATE_IS_FINAL(run->state);
}

static bool
comes_before(const SimCatalog *catalog, uint32_t a, uint32_t b)
{
    const SimRun *x = &catalog->runs[a], *y = &catalog->runs[b];

    return x->due != y->due ? x->due < y->due : a < b;
}

/* ---- the session ---- */

/* Right after catalog_new_run() of a root or a restart. */
void
limits_new_run(Sim *s, SimRun *run, FleetTime wait)
{
    run->due = s->now + wait;
    run->not_before = wait > 0 ? run->due : 0;
}

void
limits_change(Sim *s, uint32_t number)
{
    SimParent *p = &s->parents[s->primary];
    SimInbox in = {.kind = IN_LIMIT, .run = number % s->c->npackages};

    if (p->catalog.limits[in.run] == 0)
        return;
    p->catalog.limits[in.run] = 1 + number % 3;
    TRACE(s, "package %u: %u at a time", in.run, p->catalog.limits[in.run]);
    parent_put(s, s->primary, &in);
}

/* ---- the agent ---- */

void
limits_tell(Sim *s, const SimCatalog *catalog, FleetEngine *engine, uint32_t handle,
            uint32_t number)
{
    const SimRun *run = &catalog->runs[number];
    const SimPackage *package = &s->c->packages[run->package];
    FleetRunLimits limits = {.order = (uint64_t) run->due,
                             .replaces = package->replaces,
                             .not_before = run->not_before,
                             .timeout = package->timeout,
                             .since = run->began_at,
                             .timed_out = run->timed_out};

    if (run->owner_run == SIM_NONE && catalog->limits[run->package] > 0)
        limits.key = run->package + 1u;
    fleet_engine_run_limits(engine, handle, &limits, s->now);
    if (limits.key != 0)
        fleet_engine_parallel(engine, limits.key, catalog->limits[run->package]);
}

void
limits_feed(Sim *s, uint32_t parent, uint32_t package)
{
    SimParent *p = &s->parents[parent];

    (void) s;
    p->limits_told[package] = p->catalog.limits[package];
    fleet_engine_parallel(p->engine, package + 1u, p->catalog.limits[package]);
}

/* ---- what must hold ---- */

static bool
is_due(Sim *s, const SimParent *p, uint32_t number)
{
    const SimRun *run = &p->catalog.runs[number];

    return number < p->cap_vruns && p->vruns[number].loaded && run->state == FLEET_QUEUED &&
           run->owner_run == SIM_NONE && run->pause_told == 0 && !run->cancel &&
           run->not_before <= s->now;
}

static void
check_begin(Sim *s, const SimParent *p, uint32_t number)
{
    const SimCatalog *catalog = &p->catalog;
    const SimRun *run = &catalog->runs[number];
    uint32_t limit = catalog->limits[run->package], others = 0;

    if (run->not_before > s->now)
        sim_fail(s, "run %u begins %lld us before its time", number,
                 (long long) (run->not_before - s->now));
    if (limit == 0 || run->owner_run != SIM_NONE)
        return;
    for (uint32_t i = 0; i < catalog->nruns && !s->failed; i++)
    {
        const SimRun *other = &catalog->runs[i];

        if (i == number || other->package != run->package || other->owner_run != SIM_NONE)
            continue;
        others += begun(other);
        if (!is_due(s, p, i))
            continue;
        if (other->priority > run->priority ||
            (other->priority == run->priority && comes_before(catalog, i, number)))
            sim_fail(s, "run %u begins before run %u, whose turn it is", number, i);
        else if (s->c->packages[run->package].replaces && comes_before(catalog, i, number))
            sim_fail(s, "run %u begins, and run %u still waits, whose place it takes", number, i);
    }
    if (others >= (limit > p->limits_told[run->package] ? limit : p->limits_told[run->package]))
        sim_fail(s, "run %u begins beside %u others of its package, limit %u", number, others,
                 limit);
}

static void
check_replace(Sim *s, SimCatalog *catalog, uint32_t number, uint32_t by)
{
    SimRun *run = &catalog->runs[number];

    if (by >= catalog->nruns || catalog->runs[by].package != run->package ||
        run->owner_run != SIM_NONE || !s->c->packages[run->package].replaces ||
        !comes_before(catalog, number, by) || run->not_before > s->now)
        sim_fail(s, "run %u is replaced by run %u, which nothing allows", number, by);
    run->cancel = run->replaced = true;
}

/* Before the decision changes the run's row. */
void
limits_decision(Sim *s, SimParent *p, uint32_t number, const FleetDecision *d)
{
    SimRun *run = &p->catalog.runs[number];

    if (d->kind == FLEET_DO_REPLACE)
    {
        check_replace(s, &p->catalog, number, (uint32_t) fleet_engine_run_tag(p->engine, d->edge));
        return;
    }
    if (d->state == FLEET_RUNNING && run->state == FLEET_QUEUED)
    {
        check_begin(s, p, number);
        run->began_at = s->now > 0 ? s->now : 1;
    }
    if (d->state != FLEET_CANCELING || !fleet_engine_run_timed_out(p->engine, d->ref.run) ||
        run->timed_out)
        return;
    if (s->c->packages[run->package].timeout == 0 ||
        s->now + 1 < run->began_at + s->c->packages[run->package].timeout)
        sim_fail(s, "run %u is out of its time too early", number);
    run->timed_out = run->cancel = true;
}

/* After a turn. */
void
oracle_limits(Sim *s, SimParent *p)
{
    for (uint32_t i = 0; i < p->catalog.nruns && !s->failed; i++)
    {
        const SimRun *run = &p->catalog.runs[i];
        FleetTime timeout = s->c->packages[run->package].timeout;

        if (i >= p->cap_vruns || !p->vruns[i].loaded ||
            fleet_engine_run_behind(p->engine, p->vruns[i].handle))
            continue;
        if (run->state == FLEET_RUNNING && timeout > 0 && run->began_at + timeout <= s->now)
            sim_fail(s, "run %u goes on %lld us after its timeout", i,
                     (long long) (s->now - run->began_at - timeout));
        else if (run->replaced && (run->state == FLEET_RUNNING || run->state == FLEET_QUEUED))
            sim_fail(s, "run %u goes on though another one takes its place", i);
    }
}
