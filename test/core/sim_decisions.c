/*
 * sim_decisions.c
 *     What must hold of the engine's decisions: each one against the row that
 *     it changes and what really happened, a whole batch against constraints,
 *     slots and throttle.
 */
#include "sim.h"

static uint32_t
bit(FleetState state)
{
    return 1u << state;
}

/* ---- task runs ---- */

static bool
another_member(const Sim *s, const SimParent *p, uint32_t target, uint32_t but)
{
    for (uint32_t i = 0; i < s->c->target_sizes[target]; i++)
    {
        uint32_t server = s->c->targets[target][i];

        if (server != but && p->known[server] == FLEET_SERVER_ONLINE &&
            p->catalog.slots[server] > 0)
            return true;
    }
    return false;
}

static void
check_start(Sim *s, SimParent *p, const SimRun *run, uint32_t number, uint32_t item,
            const SimRow *was, const FleetDecision *d)
{
    const SimTask *task = &s->c->packages[run->package].tasks[number];
    bool placed = task->spec.kind == FLEET_TASK_JOB ? sim_listed(s->c, task->spec.target, d->server)
                  : task->spec.kind == FLEET_TASK_SQL ? d->server == 0
                                                      : d->server == FLEET_NO_SERVER;

    if (was->state != FLEET_QUEUED)
        sim_fail(s, "started from state %s", fleet_state_name((FleetState) was->state));
    else if (d->attempt != was->attempt + 1)
        sim_fail(s, "attempt %u started after attempt %u", d->attempt, was->attempt);
    else if (task->spec.left_out)
        sim_fail(s, "started though it is left out");
    else if (was->skip && was->skip_told)
        sim_fail(s, "started though it is to be skipped");
    else if (run->pause_told)
        sim_fail(s, "started though its run is paused");
    else if (parts_cancel_reaches(s, run, number))
        sim_fail(s, "started after the cancel of its run was accepted");
    else if (FLEET_STATE_IS_FINAL(run->state))
        sim_fail(s, "started in a run that has ended");
    else if (!placed)
        sim_fail(s, "placed on server %d, which is not in its target", (int) d->server);
    else if ((task->spec.for_each || task->spec.handler) != (item > 0))
        sim_fail(s, "a for_each started as a whole, or a plain task as an item");
    else if (d->server != FLEET_NO_SERVER && p->known[d->server] != FLEET_SERVER_ONLINE)
        sim_fail(s, "started on server %u, which is not online (%d)", d->server,
                 p->known[d->server]);
    else if (was->avoid != 0 && was->avoid == d->server + 1 &&
             another_member(s, p, task->spec.target, d->server))
        sim_fail(s,
                 "started again on server %u, which could not be reached, while its target has "
                 "another one",
                 d->server);
}

static bool
bad(uint8_t state)
{
    return state == FLEET_FAILED || state == FLEET_LOST || state == FLEET_UNKNOWN;
}

static bool
bad_sibling(const SimRun *run, uint32_t task)
{
    for (uint32_t i = 0; run->count[task] != SIM_NONE && i < run->count[task]; i++)
        if (bad(run->rows[catalog_row(run, task, i + 1)].state))
            return true;
    return false;
}

static bool
condition_failed(const Sim *s, const SimRun *run, uint32_t task)
{
    const SimPackage *package = &s->c->packages[run->package];

    for (uint32_t i = 0; i < package->nedges; i++)
        if (package->edges[i].to == task && run->condition[i] == 3)
            return true;
    return false;
}

/* Does something that really happened allow this end of an attempt? */
static bool
attempt_allows(Sim *s, const SimParent *p, const SimTask *task, const SimRow *was, FleetState state)
{
    uint32_t outcomes;

    if (was->aid == SIM_NONE)
        return false;
    if (was->sub != SIM_NONE)
        return p->catalog.runs[was->sub].state == state ||
               (state == FLEET_FAILED && task->spec.timeout > 0 &&
                p->catalog.runs[was->sub].state == FLEET_CANCELED);
    outcomes = s->attempts[was->aid].outcomes;
    if (oracle_beyond(s, &s->attempts[was->aid]))
        return true;
    if (state == FLEET_FAILED && task->spec.timeout > 0 && (outcomes & bit(FLEET_CANCELED)))
        return true;
    return (outcomes & bit(state)) != 0;
}

static bool
lost_allowed(Sim *s, SimParent *p, const SimRow *was)
{
    if (was->server == FLEET_NO_SERVER || was->server == 0)
        return false;
    if ((p->known[was->server] == FLEET_SERVER_SUSPECT ||
         p->known[was->server] == FLEET_SERVER_OFFLINE) &&
        s->now - p->last_answer[was->server] >= s->c->lost_after)
        return true;
    return s->nodes[was->at].ever_failed_over;
}

static void
check_failed(Sim *s, const SimRun *run, const SimTask *task, uint32_t number, const SimRow *was,
             const FleetDecision *d)
{
    const char *sqlstate = was->sqlstate == 0 ? NULL : sim_sqlstates[was->sqlstate];
    const SimAttempt *a = was->aid == SIM_NONE ? NULL : &s->attempts[was->aid];

    if (condition_failed(s, run, number) || run->cancel || a == NULL || was->sub != SIM_NONE ||
        (a->outcomes & bit(FLEET_FAILED)) == 0 || oracle_beyond(s, a) ||
        was->state == FLEET_CANCELING)
        return;
    if (task->spec.for_each && task->spec.completion == FLEET_FAIL_FAST && bad_sibling(run, number))
        return;
    if (d->failures < task->spec.retry.retries &&
        (sqlstate == NULL || oracle_retryable(&task->spec.retry, sqlstate)))
        sim_fail(s, "failed for good after %u retries, of %u (SQLSTATE %s)", d->failures,
                 task->spec.retry.retries, sqlstate == NULL ? "none" : sqlstate);
}

static void
check_state(Sim *s, SimParent *p, const SimRun *run, uint32_t number, uint32_t item,
            const SimRow *was, const FleetDecision *d)
{
    const SimTask *task = &s->c->packages[run->package].tasks[number];
    bool whole = (task->spec.for_each || task->spec.handler) && item == 0;
    bool started = was->state == FLEET_STARTING || was->state == FLEET_RUNNING ||
                   was->state == FLEET_CANCELING;
    bool good = true;

    switch (d->state)
    {
        case FLEET_QUEUED:
            good = FLEET_STATE_IS_FINAL(was->state) || (was->state == FLEET_STARTING && !whole) ||
                   (was->state == FLEET_RETRYING && s->now >= was->retry_at);
            break;
        case FLEET_RUNNING:
            good = was->state == FLEET_STARTING ||
                   (whole && (was->state == FLEET_QUEUED || FLEET_STATE_IS_FINAL(was->state)));
            break;
        case FLEET_RETRYING:
            good = started && !whole && d->failures <= task->spec.retry.retries &&
                   !(run->state == FLEET_CANCELING && parts_cancel_reaches(s, run, number)) &&
                   d->failures == was->failures + 1;
            break;
        case FLEET_CANCELING: good = started; break;
        case FLEET_SUCCEEDED:
            good = whole || (started && (task->spec.started_is_done ||
                                         attempt_allows(s, p, task, was, FLEET_SUCCEEDED)));
            break;
        case FLEET_FAILED:
            good = whole || condition_failed(s, run, number) ||
                   (started && attempt_allows(s, p, task, was, FLEET_FAILED));
            if (good && !whole)
                check_failed(s, run, task, number, was, d);
            break;
        case FLEET_CANCELED:
            good = whole || (started ? was->state == FLEET_CANCELING ||
                                           attempt_allows(s, p, task, was, FLEET_CANCELED)
                                     : parts_cancel_reaches(s, run, number) || item > 0 ||
                                           (run->cancel && !run->began));
            break;
        case FLEET_SKIPPED:
            good = was->state == FLEET_QUEUED ? item == 0 || was->skip
                                              : was->state == FLEET_RETRYING && was->skip;
            break;
        case FLEET_LOST: good = started && lost_allowed(s, p, was); break;
        case FLEET_UNKNOWN: good = started && attempt_allows(s, p, task, was, FLEET_UNKNOWN); break;
        case FLEET_STARTING: good = false; break;
    }
    if (!good)
        sim_fail(s, "task %u item %u: %s after %s (attempt %u), which nothing allows", number, item,
                 fleet_state_name(d->state), fleet_state_name((FleetState) was->state),
                 was->attempt);
}

/* "canceled" means stopped: no job run of this attempt goes on anywhere. */
static void
check_stopped(Sim *s, const SimParent *p, const SimRow *was)
{
    const SimDb *db;

    if (was->aid == SIM_NONE || s->attempts[was->aid].mode != SIM_AGENT || was->at == SIM_NONE)
        return;
    (void) p;
    db = &s->nodes[was->at].db;
    for (uint32_t i = 0; i < db->njobs; i++)
        if (db->jobs[i].aid == was->aid && !db->jobs[i].gone && !job_final(&db->jobs[i]) &&
            !s->nodes[was->at].ever_failed_over)
            sim_fail(s, "aid %u is called canceled while it goes on", was->aid);
}

void
oracle_row_change(Sim *s, SimParent *p, const SimRun *run, uint32_t task, uint32_t item,
                  const SimRow *was, const FleetDecision *d)
{
    bool started = was->state == FLEET_STARTING || was->state == FLEET_RUNNING ||
                   was->state == FLEET_CANCELING;

    if (FLEET_STATE_IS_FINAL(was->state) &&
        !steer_allows(run, &s->c->packages[run->package].tasks[task], item, was, d))
    {
        sim_fail(s, "task %u item %u leaves its final state %s (decision %d %d)", task, item,
                 fleet_state_name((FleetState) was->state), d->kind, d->state);
        return;
    }
    if (d->kind == FLEET_DO_START)
        check_start(s, p, run, task, item, was, d);
    else if (d->kind == FLEET_DO_STATE)
        check_state(s, p, run, task, item, was, d);
    else if (!started)
        sim_fail(s, "task %u item %u: cancel in state %s", task, item,
                 fleet_state_name((FleetState) was->state));
    if (d->kind == FLEET_DO_STATE && d->state == FLEET_CANCELED && started)
        check_stopped(s, p, was);
}

/* Items and conditions are asked for once, when they matter, and not after a cancel. */
void
oracle_question(Sim *s, const SimRun *run, const FleetDecision *d)
{
    const SimPackage *package = &s->c->packages[run->package];
    uint32_t task = d->kind == FLEET_DO_EXPAND ? d->ref.task : package->edges[d->edge].to;

    if (d->kind == FLEET_DO_EXPAND)
        parts_begins(s, run, task);
    if (d->kind == FLEET_DO_EXPAND && run->pause_told == 2)
        sim_fail(s, "a run that is paused asks for items");
    else if ((run->state == FLEET_CANCELING && parts_cancel_reaches(s, run, task)) ||
             FLEET_STATE_IS_FINAL(run->state))
        sim_fail(s, "a run that is %s asks for items or a condition",
                 fleet_state_name((FleetState) run->state));
    else if (d->kind == FLEET_DO_EXPAND &&
             (!package->tasks[d->ref.task].spec.for_each || run->count[d->ref.task] != SIM_NONE ||
              package->tasks[d->ref.task].spec.left_out ||
              run->rows[d->ref.task].state != FLEET_QUEUED ||
              outcome_ready(s, run, d->ref.task) != 1))
        sim_fail(s, "task %u asks for its items, at a time that makes no sense", d->ref.task);
    else if (d->kind == FLEET_DO_CONDITION &&
             (!package->edges[d->edge].conditional || run->condition[d->edge] != 0 ||
              !FLEET_STATE_IS_FINAL(run->rows[package->edges[d->edge].from].state) ||
              run->rows[package->edges[d->edge].to].state != FLEET_QUEUED))
        sim_fail(s, "edge %u asks for its condition, at a time that makes no sense", d->edge);
}

/* ---- a whole batch: constraints, slots, throttle ---- */

static uint32_t
busy(const SimParent *p, uint32_t server)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < p->catalog.nruns; i++)
    {
        if (FLEET_STATE_IS_FINAL(p->catalog.runs[i].state))
            continue;
        for (uint32_t row = 0; row < p->catalog.runs[i].nrows; row++)
            n += p->catalog.runs[i].rows[row].server == server &&
                 !p->catalog.runs[i].rows[row].leaving &&
                 sim_active(p->catalog.runs[i].rows[row].state);
    }
    return n;
}

static uint32_t
active_items(const SimRun *run, uint32_t task)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < run->count[task]; i++)
        n += sim_active(run->rows[catalog_row(run, task, i + 1)].state);
    return n;
}

void
oracle_batch(Sim *s, SimParent *p)
{
    uint32_t checked = 0;

    for (uint32_t i = 0; i < p->nbatch && !s->failed; i++)
    {
        const FleetDecision *d = &p->batch[i];
        SimRun *run;
        const FleetTaskSpec *spec;

        if (d->kind != FLEET_DO_START)
            continue;
        run = &p->catalog.runs[fleet_engine_run_tag(p->engine, d->ref.run)];
        spec = &s->c->packages[run->package].tasks[d->ref.task].spec;
        s->stats->task_runs++;
        if (outcome_ready(s, run, d->ref.task) != 1 &&
            !(run->retried && (d->attempt > 1 || d->ref.item > 0)))
            sim_fail(s, "task %u started before its constraints held", d->ref.task);
        parts_begins(s, run, d->ref.task);
        if (d->ref.item > 0 && (spec->throttle > 0 || spec->handler) &&
            active_items(run, d->ref.task) > (spec->throttle > 0 ? spec->throttle : 1))
            sim_fail(s, "task %u: %u items at the same time, throttle %u", d->ref.task,
                     active_items(run, d->ref.task), spec->throttle);
        if (d->server == FLEET_NO_SERVER || (checked & (1u << d->server)))
            continue;
        checked |= 1u << d->server;
        if (busy(p, d->server) > p->catalog.slots[d->server])
            sim_fail(s, "server %u: %u at the same time, %u slots", d->server, busy(p, d->server),
                     p->catalog.slots[d->server]);
    }
    if (s->c->crowded)
        oracle_starvation(s, p);
    oracle_named(s, p);
}

/* A start is sent: its intent must be durable, and wanted. */
void
oracle_sent(Sim *s, SimParent *p, uint32_t aid)
{
    uint32_t run, row;

    if (!catalog_find(s, p, aid, &run, &row) ||
        p->catalog.runs[run].rows[row].state != FLEET_STARTING)
        sim_fail(s, "a start was sent without a durable intent (aid %u)", aid);
}
