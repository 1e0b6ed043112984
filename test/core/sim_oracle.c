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

bool
oracle_beyond(const Sim *s, const SimAttempt *a)
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
    if (oracle_beyond(s, a))
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
bool
oracle_retryable(const FleetRetry *retry, const char *sqlstate)
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
        return oracle_retryable(&spec->retry, "57014");
    return t->sqlstate == 0 || oracle_retryable(&spec->retry, sim_sqlstates[t->sqlstate]);
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
    if (oracle_beyond(s, a))
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
    if (!oracle_beyond(s, a))
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
    if (oracle_beyond(s, a))
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
