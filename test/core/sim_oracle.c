/*
 * sim_oracle.c
 *     What must hold of executors, tokens, steps and decisions.  Written from
 *     DESIGN section 4 a second time, slow and obvious, and never by calling
 *     the code that it checks.  (How a run must end: sim_outcome.c.)
 *
 * Where a stale copy of the parent was promoted, what the lost world did on
 * direct servers and in its own database is not held against the surviving
 * one: no protocol without anything installed over there can know of it.
 */
#include "sim.h"

#include <string.h>

static bool
beyond_knowledge(const Sim *s, const SimAttempt *a)
{
    return s->promoted && a->mode != SIM_AGENT;
}

static uint32_t
bit(FleetState state)
{
    return 1u << state;
}

/* ---- starts and effects: ground truth ---- */

/* A server inserts a job run for a token. */
void
oracle_insert(Sim *s, uint32_t node, uint32_t aid, uint64_t epoch)
{
    SimAttempt *a = &s->attempts[aid];

    if (a->inserts[node]++ > 0)
        sim_fail(s, "server %u started the same token twice (aid %u)", node, aid);
    else if (a->job_on & ~(1u << node))
        sim_fail(s, "one token was started on two servers (aid %u)", aid);
    else if (epoch < s->nodes[node].true_epoch)
        sim_fail(s, "server %u let a parent with a lower epoch start something (aid %u)", node,
                 aid);
    else if (a->not_started && !s->promoted)
        sim_fail(s, "aid %u, which surely never started, was started", aid);
    a->job_on |= 1u << node;
}

void
oracle_effect(Sim *s, uint32_t node, uint32_t aid, uint32_t serial)
{
    SimAttempt *a = &s->attempts[aid];
    SimStepTruth *t = &a->steps[serial];

    if (s->nodes[node].shadow)
        return;
    s->stats->effects++;
    t->ever++;
    t->now++;
    if (beyond_knowledge(s, a))
        return;
    if (t->now > 1 || (t->ever > 1 && !s->nodes[node].ever_failed_over))
        sim_fail(s, "step run %u of aid %u had its effect twice", serial, aid);
    else if (t->reported == FLEET_FAILED || t->reported == FLEET_CANCELED)
        sim_fail(s, "step run %u of aid %u was reported %s, then had its effect", serial, aid,
                 fleet_state_name((FleetState) t->reported));
    else if (a->not_started && !s->promoted)
        sim_fail(s, "aid %u surely never started, yet had an effect", aid);
}

static bool
any_failover(const Sim *s)
{
    for (uint32_t node = 0; node < SIM_NODES; node++)
        if (s->nodes[node].ever_failed_over)
            return true;
    return false;
}

/* ---- the steps of a job ---- */

/* The documented default, once more. */
static bool
retryable(const FleetRetry *retry, const char *sqlstate)
{
    static const char *const never[] = {"42", "22", "23", "0A", "28"};
    bool listed = false;

    if (retry->nstates == 0)
    {
        for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
            if (strncmp(sqlstate, never[i], 2) == 0)
                return false;
        return true;
    }
    for (int i = 0; i < retry->nstates; i++)
    {
        const char *entry = retry->states[i];
        bool excludes = entry[0] == '!';

        entry += excludes;
        if (strncmp(sqlstate, entry, strlen(entry)) != 0)
            continue;
        if (excludes)
            return false;
        listed = true;
    }
    return listed;
}

static bool
step_retry_due(const FleetStepSpec *spec, const SimStepTruth *t)
{
    if (t->attempt > spec->retry.retries)
        return false;
    if (t->reported == FLEET_UNKNOWN)
        return spec->on_unknown == FLEET_UNKNOWN_RETRY;
    if (t->timed_out && t->reported == FLEET_CANCELED)
        return retryable(&spec->retry, "57014");
    return t->sqlstate == 0 || retryable(&spec->retry, sim_sqlstates[t->sqlstate]);
}

/* What follows a step run: 0 … n-1 a step, -1 quit well, -2 quit badly, -3 the same step again. */
static int
what_follows(const SimTask *task, const SimStepTruth *t)
{
    const FleetStepSpec *spec = &task->steps[t->step];
    FleetStepAction action = spec->on_success;
    int target = spec->success_goto;

    if (t->reported != FLEET_SUCCEEDED)
    {
        if (step_retry_due(spec, t))
            return -3;
        action = spec->on_failure;
        target = spec->failure_goto;
    }
    switch (action)
    {
        case FLEET_STEP_QUIT_SUCCESS: return -1;
        case FLEET_STEP_QUIT_FAILURE: return -2;
        case FLEET_STEP_GOTO: return target;
        case FLEET_STEP_NEXT: break;
    }
    return t->step + 1 < task->nsteps ? t->step + 1 : -1;
}

void
oracle_step_begins(Sim *s, uint32_t aid, uint32_t serial, const SimJob *job)
{
    SimAttempt *a = &s->attempts[aid];
    const SimTask *task = sim_task_of(s, aid);
    SimStepTruth *t;
    int follows;

    SIM_GROW(a->steps, a->cap_steps, serial + 1, sizeof(SimStepTruth));
    t = &a->steps[serial];
    *t = (SimStepTruth){.step = job->run.step, .attempt = job->run.attempt};
    if (serial >= a->nsteps)
        a->nsteps = serial + 1;
    if (beyond_knowledge(s, a))
        return;
    if (job->run.cancel)
        sim_fail(s, "aid %u begins a step after its cancel", aid);
    if (job->dead)
        sim_fail(s, "aid %u begins a step though it was given up", aid);
    if (serial == 1)
    {
        if (t->step != 0 || t->attempt != 1)
            sim_fail(s, "aid %u begins with step %u attempt %u", aid, t->step, t->attempt);
        return;
    }
    follows = what_follows(task, t - 1);
    if (follows == -3 ? t->step != t[-1].step || t->attempt != t[-1].attempt + 1
                      : t->step != follows || t->attempt != 1)
        sim_fail(s, "aid %u: step %u attempt %u (%s) is followed by step %u attempt %u", aid,
                 t[-1].step, t[-1].attempt, fleet_state_name((FleetState) t[-1].reported), t->step,
                 t->attempt);
}

void
oracle_step_ended(Sim *s, uint32_t aid, uint32_t serial, FleetState outcome, uint8_t sqlstate,
                  bool timed_out, const SimJob *job)
{
    SimAttempt *a = &s->attempts[aid];
    SimStepTruth *t = &a->steps[serial];
    bool may_be_older = any_failover(s);

    (void) job;
    if (!beyond_knowledge(s, a))
    {
        if (t->reported != 0 && !may_be_older)
            sim_fail(s, "step run %u of aid %u ended twice", serial, aid);
        if (outcome == FLEET_SUCCEEDED && t->ever == 0)
            sim_fail(s, "step run %u of aid %u is reported succeeded without an effect", serial,
                     aid);
        if ((outcome == FLEET_FAILED || outcome == FLEET_CANCELED) &&
            (t->now > 0 || (t->ever > 0 && !may_be_older)))
            sim_fail(s, "step run %u of aid %u is reported %s, but had its effect", serial, aid,
                     fleet_state_name(outcome));
    }
    t->reported = (uint8_t) outcome;
    t->sqlstate = sqlstate;
    t->timed_out = timed_out;
}

/* A catalog holds a final state of a job run. */
void
oracle_job_ended(Sim *s, uint32_t aid, const SimJob *job)
{
    SimAttempt *a = &s->attempts[aid];
    const SimStepTruth *t = job->serial > 0 ? &a->steps[job->serial] : NULL;
    FleetState state = job->run.state;
    int follows;

    a->outcomes |= bit(state);
    if (beyond_knowledge(s, a))
        return;
    if (state == FLEET_CANCELED)
    {
        if (!job->run.cancel && !job->cancel_asked)
            sim_fail(s, "aid %u is canceled though nobody asked for it", aid);
        return;
    }
    if (t == NULL)
    {
        sim_fail(s, "aid %u ended %s without a step", aid, fleet_state_name(state));
        return;
    }
    if (job->run.step_runs >= FLEET_JOB_MAX_STEP_RUNS && state == FLEET_FAILED)
        return;
    follows = what_follows(sim_task_of(s, aid), t);
    if (follows == -3 && job->run.cancel)
        follows =
            sim_task_of(s, aid)->steps[t->step].on_failure == FLEET_STEP_QUIT_FAILURE ? -2 : -1;
    if (state == FLEET_SUCCEEDED
            ? follows != -1
            : follows != -2 || (t->reported == FLEET_UNKNOWN) != (state == FLEET_UNKNOWN))
        sim_fail(s, "aid %u ended %s after a step that ended %s", aid, fleet_state_name(state),
                 fleet_state_name((FleetState) t->reported));
}

/* ---- task runs ---- */

static bool
listed(const SimCase *c, uint32_t target, uint32_t server)
{
    for (uint32_t i = 0; i < c->target_sizes[target]; i++)
        if (c->targets[target][i] == server)
            return true;
    return false;
}

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
check_start(Sim *s, SimParent *p, const SimRun *run, const SimTask *task, uint32_t item,
            const SimRow *was, const FleetDecision *d)
{
    bool placed = task->spec.kind == FLEET_TASK_JOB   ? listed(s->c, task->spec.target, d->server)
                  : task->spec.kind == FLEET_TASK_SQL ? d->server == 0
                                                      : d->server == FLEET_NO_SERVER;

    if (was->state != FLEET_QUEUED)
        sim_fail(s, "started from state %s", fleet_state_name((FleetState) was->state));
    else if (d->attempt != was->attempt + 1)
        sim_fail(s, "attempt %u started after attempt %u", d->attempt, was->attempt);
    else if (run->cancel)
        sim_fail(s, "started after the cancel of its run was accepted");
    else if (FLEET_STATE_IS_FINAL(run->state))
        sim_fail(s, "started in a run that has ended");
    else if (!placed)
        sim_fail(s, "placed on server %d, which is not in its target", (int) d->server);
    else if (task->spec.for_each != (item > 0))
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
        if (bad(run->rows[run->base[task] + i].state))
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
    if (beyond_knowledge(s, &s->attempts[was->aid]))
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
        (a->outcomes & bit(FLEET_FAILED)) == 0 || beyond_knowledge(s, a) ||
        was->state == FLEET_CANCELING)
        return;
    if (task->spec.for_each && task->spec.completion == FLEET_FAIL_FAST && bad_sibling(run, number))
        return;
    if (d->failures < task->spec.retry.retries &&
        (sqlstate == NULL || retryable(&task->spec.retry, sqlstate)))
        sim_fail(s, "failed for good after %u retries, of %u (SQLSTATE %s)", d->failures,
                 task->spec.retry.retries, sqlstate == NULL ? "none" : sqlstate);
}

static void
check_state(Sim *s, SimParent *p, const SimRun *run, uint32_t number, uint32_t item,
            const SimRow *was, const FleetDecision *d)
{
    const SimTask *task = &s->c->packages[run->package].tasks[number];
    bool whole = task->spec.for_each && item == 0;
    bool started = was->state == FLEET_STARTING || was->state == FLEET_RUNNING ||
                   was->state == FLEET_CANCELING;
    bool good = true;

    switch (d->state)
    {
        case FLEET_QUEUED:
            good = (was->state == FLEET_STARTING && !whole) ||
                   (was->state == FLEET_RETRYING && s->now >= was->retry_at);
            break;
        case FLEET_RUNNING:
            good = was->state == FLEET_STARTING || (whole && was->state == FLEET_QUEUED);
            break;
        case FLEET_RETRYING:
            good = started && !whole && d->failures <= task->spec.retry.retries &&
                   run->state != FLEET_CANCELING && d->failures == was->failures + 1;
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
                                     : run->cancel || item > 0);
            break;
        case FLEET_SKIPPED: good = was->state == FLEET_QUEUED && item == 0; break;
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

    if (FLEET_STATE_IS_FINAL(was->state))
    {
        sim_fail(s, "task %u item %u leaves its final state %s (decision %d %d)", task, item,
                 fleet_state_name((FleetState) was->state), d->kind, d->state);
        return;
    }
    if (d->kind == FLEET_DO_START)
        check_start(s, p, run, &s->c->packages[run->package].tasks[task], item, was, d);
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

    if (run->state == FLEET_CANCELING || FLEET_STATE_IS_FINAL(run->state))
        sim_fail(s, "a run that is %s asks for items or a condition",
                 fleet_state_name((FleetState) run->state));
    else if (d->kind == FLEET_DO_EXPAND &&
             (!package->tasks[d->ref.task].spec.for_each || run->count[d->ref.task] != SIM_NONE ||
              outcome_ready(s, run, d->ref.task) != 1))
        sim_fail(s, "task %u asks for its items, at a time that makes no sense", d->ref.task);
    else if (d->kind == FLEET_DO_CONDITION &&
             (!package->edges[d->edge].conditional || run->condition[d->edge] != 0 ||
              !FLEET_STATE_IS_FINAL(run->rows[package->edges[d->edge].from].state) ||
              run->rows[package->edges[d->edge].to].state != FLEET_QUEUED))
        sim_fail(s, "edge %u asks for its condition, at a time that makes no sense", d->edge);
}

/* ---- a whole batch: constraints, slots, throttle ---- */

static bool
holds_slot(const SimRow *row)
{
    return row->state == FLEET_STARTING || row->state == FLEET_RUNNING ||
           row->state == FLEET_CANCELING;
}

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
                 holds_slot(&p->catalog.runs[i].rows[row]);
    }
    return n;
}

static uint32_t
active_items(const SimRun *run, uint32_t task)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < run->count[task]; i++)
        n += holds_slot(&run->rows[run->base[task] + i]);
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
        if (outcome_ready(s, run, d->ref.task) != 1)
            sim_fail(s, "task %u started before its constraints held", d->ref.task);
        if (d->ref.item > 0 && spec->throttle > 0 &&
            active_items(run, d->ref.task) > spec->throttle)
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

/* ---- an engine built from the rows stands where the living one stands ---- */

static void
compare_attempt(Sim *s, const SimRow *row, FleetEngine *other, FleetTaskRef ref)
{
    if (row->attempt == 0)
        return;
    if (fleet_engine_task_attempt(other, ref) != row->attempt)
        sim_fail(s, "rebuilt from its rows, task %u item %u is at attempt %u, not %u", ref.task,
                 ref.item, fleet_engine_task_attempt(other, ref), row->attempt);
    else if (holds_slot(row) && fleet_engine_task_server(other, ref) != row->server)
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
        wanted.running += holds_slot(&run->rows[row]);
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
