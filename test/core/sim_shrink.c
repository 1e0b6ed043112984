/*
 * sim_shrink.c
 *     Makes a failing case smaller while it still fails: fewer faults, tasks,
 *     edges, runs, items, steps, then plainer settings.  A candidate is tried
 *     with a few seeds, since what is taken away shifts every later draw.
 */
#include "sim.h"

#include <string.h>

typedef struct Shrink
{
    SimCase *best;
    bool (*fails)(const SimCase *c);
    unsigned left; /* candidates that may still be tried */
} Shrink;

/* Takes the candidate if it fails too; it is used up either way. */
static bool
try_it(Shrink *k, SimCase *candidate)
{
    uint64_t seed = candidate->seed;

    for (uint64_t i = 0; i < 4 && k->left > 0; i++)
    {
        candidate->seed = i == 0 ? seed : sim_mix(seed, i);
        k->left--;
        if (k->fails(candidate))
        {
            sim_case_free(k->best);
            *k->best = *candidate;
            return true;
        }
    }
    sim_case_free(candidate);
    return false;
}

static void
drop_faults(SimCase *c, uint32_t from, uint32_t n)
{
    if (from + n > c->nfaults)
        n = c->nfaults - from;
    memmove(&c->faults[from], &c->faults[from + n], (c->nfaults - from - n) * sizeof(SimFault));
    c->nfaults -= n;
}

static void
drop_tasks(SimPackage *p, uint32_t from, uint32_t n)
{
    uint32_t kept = 0;

    if (from + n > p->ntasks)
        n = p->ntasks - from;
    if (n == p->ntasks)
        n--;
    memmove(&p->tasks[from], &p->tasks[from + n], (p->ntasks - from - n) * sizeof(SimTask));
    p->ntasks -= n;
    for (uint32_t i = 0; i < p->nedges; i++)
    {
        FleetEdgeSpec edge = p->edges[i];

        if ((edge.from >= from && edge.from < from + n) || (edge.to >= from && edge.to < from + n))
            continue;
        edge.from -= edge.from >= from + n ? n : 0;
        edge.to -= edge.to >= from + n ? n : 0;
        p->edges[kept++] = edge;
    }
    p->nedges = kept;
}

static void
drop_edges(SimPackage *p, uint32_t from, uint32_t n)
{
    if (from + n > p->nedges)
        n = p->nedges - from;
    memmove(&p->edges[from], &p->edges[from + n], (p->nedges - from - n) * sizeof(FleetEdgeSpec));
    p->nedges -= n;
}

static bool
fewer_faults(Shrink *k)
{
    bool better = false;

    for (uint32_t n = k->best->nfaults; n > 0; n /= 2)
        for (uint32_t at = 0; at < k->best->nfaults && k->left > 0;)
        {
            SimCase c;

            sim_case_copy(&c, k->best);
            drop_faults(&c, at, n);
            if (try_it(k, &c))
                better = true;
            else
                at += n;
        }
    return better;
}

static bool
fewer_of(Shrink *k, uint32_t package, bool of_tasks)
{
    bool better = false;
    uint32_t all = of_tasks ? k->best->packages[package].ntasks : k->best->packages[package].nedges;

    for (uint32_t n = all; n > 0; n /= 2)
        for (uint32_t at = 0; k->left > 0;)
        {
            SimCase c;
            SimPackage *p = &k->best->packages[package];

            if (at >= (of_tasks ? p->ntasks : p->nedges) || (of_tasks && p->ntasks == 1))
                break;
            sim_case_copy(&c, k->best);
            if (of_tasks)
                drop_tasks(&c.packages[package], at, n);
            else
                drop_edges(&c.packages[package], at, n);
            if (try_it(k, &c))
                better = true;
            else
                at += n;
        }
    return better;
}

/* One change of a task; false: it is plain already. */
static bool
plainer_task(SimTask *task, uint32_t which)
{
    SimTask was = *task;

    switch (which)
    {
        case 0:
            task->spec.for_each = false;
            task->items = 0;
            break;
        case 1: task->items = task->items > 1 ? task->items / 2 : task->items; break;
        case 2: task->nsteps = 1; break;
        case 3: memset(&task->spec.retry, 0, sizeof task->spec.retry); break;
        case 4: task->spec.timeout = 0; break;
        case 5: task->spec.throttle = 0; break;
        case 6:
            for (uint16_t i = 0; i < task->nsteps; i++)
            {
                task->steps[i] = (FleetStepSpec){.on_failure = FLEET_STEP_QUIT_FAILURE};
                task->nature[i].not_transactional = task->nature[i].marked = false;
            }
            break;
        case 7:
            for (uint16_t i = 0; i < task->nsteps; i++)
                task->nature[i].fail_pct = 0;
            break;
        case 8:
            if (task->spec.kind == FLEET_TASK_PACKAGE)
                task->spec.kind = FLEET_TASK_SQL;
            break;
        case 9: task->spec.policy = FLEET_SHORTEST_FINISH; break;
        case 10: task->spec.join = FLEET_JOIN_ALL; break;
        case 11: task->spec.nlimits = 0; break;
    }
    if (task->nsteps == 1)
    {
        task->steps[0].success_goto = task->steps[0].failure_goto = 0;
        if (task->steps[0].on_success == FLEET_STEP_GOTO)
            task->steps[0].on_success = FLEET_STEP_NEXT;
    }
    return memcmp(&was, task, sizeof was) != 0;
}

static bool
plainer_tasks(Shrink *k)
{
    bool better = false;

    for (uint32_t p = 0; p < k->best->npackages; p++)
        for (uint32_t t = 0; t < k->best->packages[p].ntasks; t++)
            for (uint32_t which = 0; which <= 11 && k->left > 0; which++)
            {
                SimCase c;

                sim_case_copy(&c, k->best);
                if (plainer_task(&c.packages[p].tasks[t], which))
                    better |= try_it(k, &c);
                else
                    sim_case_free(&c);
            }
    return better;
}

static void
plainer_setting(SimCase *c, uint32_t which)
{
    switch (which)
    {
        case 0: c->nroots = c->nroots > 1 ? c->nroots - 1 : 1; break;
        case 1: c->crash_ppm = 0; break;
        case 2: c->slow_pct = 0; break;
        case 3: c->refuse_pct = 0; break;
        case 4: c->commit_fail_pct = c->too_old_pct = c->volatile_pct = 0; break;
        case 5: c->max_active_runs = c->slice = c->crowd = 0; break;
        case 6: c->blind_pct = 0; break;
        case 7:
            for (uint32_t i = 0; i < c->nservers; i++)
                c->servers[i].speed = c->servers[i].weight = 1;
            break;
        case 8:
            for (uint32_t i = 0; i < SIM_ROOTS; i++)
                c->roots[i].wait = 0;
            break;
        case 9:
            for (uint32_t i = 0; i < c->npackages; i++)
                c->packages[i].timeout = 0;
            break;
    }
}

static bool
plainer_settings(Shrink *k)
{
    bool better = false;

    for (uint32_t which = 0; which <= 9 && k->left > 0; which++)
    {
        SimCase c;

        sim_case_copy(&c, k->best);
        plainer_setting(&c, which);
        for (uint32_t i = 0; i < c.nfaults; i++)
            c.faults[i].root %= (uint8_t) c.nroots;
        if (memcmp(&c.roots, &k->best->roots, sizeof c.roots) != 0 || which > 0 ||
            c.nroots != k->best->nroots)
            better |= try_it(k, &c) && which == 0;
        else
            sim_case_free(&c);
    }
    return better;
}

void
sim_shrink(SimCase *c, bool (*fails)(const SimCase *c), unsigned tries)
{
    Shrink k = {.best = c, .fails = fails, .left = tries};
    bool better = true;

    while (better && k.left > 0)
    {
        better = fewer_faults(&k);
        for (uint32_t p = 0; p < c->npackages; p++)
        {
            better |= fewer_of(&k, p, true);
            better |= fewer_of(&k, p, false);
        }
        better |= plainer_tasks(&k);
        better |= plainer_settings(&k);
    }
}
