/*
 * core/job.c
 *     The steps of one job run: which comes next, retries, timeouts, cancel.
 *
 * Called by the agent (its own job runs, and those over direct links) and by
 * the simulator.  Pure: the FleetJobRun is all the state there is.
 *
 * States: the job is queued, running (canceling), final; its present step has
 * a state of its own (machine STEP of state.h).
 */
#include "core/job.h"
#include "core/sqlstate.h"

#include <stdio.h>

typedef struct Job
{
    const FleetStepSpec *steps;
    uint16_t nsteps;
    FleetJobRun *run;
    FleetTime now;
    FleetRandom *random;
} Job;

static bool
job_event(Job *job, FleetEvent event)
{
    return fleet_state_next(FLEET_MACHINE_JOB, job->run->state, event, &job->run->state);
}

static bool
step_event(Job *job, FleetEvent event)
{
    return fleet_state_next(FLEET_MACHINE_STEP, job->run->step_state, event, &job->run->step_state);
}

void
fleet_job_init(FleetJobRun *run)
{
    *run = (FleetJobRun){.state = FLEET_QUEUED, .due = FLEET_NEVER, .step_state = FLEET_QUEUED};
}

static FleetJobDo
finish(Job *job, FleetEvent event)
{
    job->run->due = FLEET_NEVER;
    job_event(job, event);
    return FLEET_JOB_FINISH;
}

/* A step run begins: a step for the first time, or its next attempt. */
static FleetJobDo
start_step(Job *job)
{
    FleetJobRun *run = job->run;

    if (run->step_runs >= FLEET_JOB_MAX_STEP_RUNS)
        return finish(job, FLEET_EVENT_FAILED);
    run->step_runs++;
    run->attempt++;
    run->timed_out = false;
    run->due = FLEET_NEVER;
    step_event(job, FLEET_EVENT_START);
    return FLEET_JOB_START_STEP;
}

static FleetJobDo
enter_step(Job *job, uint16_t step)
{
    job->run->step = step;
    job->run->attempt = 0;
    job->run->step_state = FLEET_QUEUED; /* another step's machine begins */
    return start_step(job);
}

/* What the job does after its step ended for good.  "bad" is how it quits with failure. */
static FleetJobDo
follow(Job *job, FleetStepAction action, uint16_t target, FleetEvent bad)
{
    switch (action)
    {
        case FLEET_STEP_QUIT_SUCCESS: return finish(job, FLEET_EVENT_SUCCEEDED);
        case FLEET_STEP_QUIT_FAILURE: return finish(job, bad);
        case FLEET_STEP_NEXT:
            if (job->run->step + 1 >= job->nsteps)
                return finish(job, FLEET_EVENT_SUCCEEDED);
            target = job->run->step + 1;
            break;
        case FLEET_STEP_GOTO: break;
    }
    if (job->run->cancel) /* another step would have to start */
        return finish(job, FLEET_EVENT_STOPPED);
    return enter_step(job, target);
}

static bool
may_retry(const Job *job, FleetState outcome, const char *sqlstate)
{
    const FleetStepSpec *step = &job->steps[job->run->step];

    if (job->run->cancel || job->run->attempt > step->retry.retries)
        return false;
    if (outcome == FLEET_UNKNOWN)
        return step->on_unknown == FLEET_UNKNOWN_RETRY;
    return fleet_retry_matches(&step->retry, sqlstate);
}

static FleetJobDo
step_failed(Job *job, FleetState outcome, const char *sqlstate)
{
    const FleetStepSpec *step = &job->steps[job->run->step];
    FleetEvent event = outcome == FLEET_UNKNOWN ? FLEET_EVENT_UNKNOWN : FLEET_EVENT_FAILED;

    if (may_retry(job, outcome, sqlstate))
    {
        step_event(job, FLEET_EVENT_RETRY);
        job->run->due = job->now + fleet_retry_wait(&step->retry, job->run->attempt, job->random);
        return FLEET_JOB_WAIT;
    }
    step_event(job, event);
    return follow(job, step->on_failure, step->failure_goto, event);
}

static FleetJobDo
step_ended(Job *job, FleetState outcome, const char *sqlstate)
{
    FleetJobRun *run = job->run;
    const FleetStepSpec *step = &job->steps[run->step];

    if (run->step_state != FLEET_STARTING && run->step_state != FLEET_RUNNING &&
        run->step_state != FLEET_CANCELING)
        return FLEET_JOB_ILLEGAL;
    if (outcome != FLEET_SUCCEEDED && outcome != FLEET_FAILED && outcome != FLEET_CANCELED &&
        outcome != FLEET_UNKNOWN &&
        !(outcome == FLEET_SKIPPED && run->step_state == FLEET_STARTING))
        return FLEET_JOB_ILLEGAL;
    run->due = FLEET_NEVER;
    if (outcome == FLEET_SKIPPED) /* it is disabled: what it would do next does not count */
    {
        step_event(job, FLEET_EVENT_SKIP);
        return follow(job, FLEET_STEP_NEXT, 0, FLEET_EVENT_FAILED);
    }
    if (outcome == FLEET_SUCCEEDED)
    {
        step_event(job, FLEET_EVENT_SUCCEEDED);
        return follow(job, step->on_success, step->success_goto, FLEET_EVENT_FAILED);
    }
    if (outcome == FLEET_CANCELED && run->timed_out && !run->cancel)
        return step_failed(job, FLEET_FAILED, FLEET_SQLSTATE_QUERY_CANCELED);
    if (outcome != FLEET_CANCELED)
        return step_failed(job, outcome, sqlstate);
    step_event(job, FLEET_EVENT_STOPPED);
    return finish(job, FLEET_EVENT_STOPPED);
}

/* Cut off and surely without effect. */
static FleetJobDo
step_redo(Job *job)
{
    if (job->run->step_state == FLEET_CANCELING)
        return step_ended(job, FLEET_CANCELED, NULL);
    if (!step_event(job, FLEET_EVENT_NOT_STARTED))
        return FLEET_JOB_ILLEGAL;
    step_event(job, FLEET_EVENT_START);
    job->run->due = FLEET_NEVER;
    return FLEET_JOB_START_STEP;
}

static FleetJobDo
step_running(Job *job)
{
    FleetTime timeout = job->steps[job->run->step].timeout;

    if (!step_event(job, FLEET_EVENT_ACCEPTED))
        return FLEET_JOB_ILLEGAL;
    if (job->run->step_state == FLEET_RUNNING && timeout > 0)
        job->run->due = job->now > FLEET_NEVER - timeout ? FLEET_NEVER : job->now + timeout;
    return FLEET_JOB_NOTHING;
}

static FleetJobDo
timer(Job *job)
{
    if (job->run->due == FLEET_NEVER || job->now < job->run->due)
        return FLEET_JOB_ILLEGAL;
    if (step_event(job, FLEET_EVENT_DUE))
        return start_step(job);
    step_event(job, FLEET_EVENT_CANCEL);
    job->run->timed_out = true;
    job->run->due = FLEET_NEVER;
    return FLEET_JOB_CANCEL_STEP;
}

static FleetJobDo
cancel(Job *job)
{
    if (job->run->state == FLEET_CANCELING) /* sent again, until it is confirmed */
        return FLEET_JOB_CANCEL_STEP;
    if (!job_event(job, FLEET_EVENT_CANCEL))
        return FLEET_JOB_ILLEGAL;
    job->run->cancel = true;
    job->run->due = FLEET_NEVER;
    if (job->run->state == FLEET_CANCELED)
        return FLEET_JOB_FINISH; /* it never began */
    step_event(job, FLEET_EVENT_CANCEL);
    if (job->run->step_state == FLEET_CANCELED)
        return finish(job, FLEET_EVENT_STOPPED); /* it waited for a retry */
    return FLEET_JOB_CANCEL_STEP;
}

static FleetJobDo
begin(Job *job)
{
    if (job->nsteps == 0)
        return finish(job, FLEET_EVENT_FAILED);
    job_event(job, FLEET_EVENT_START);
    return enter_step(job, job->run->step);
}

FleetJobDo
fleet_job_event(const FleetStepSpec *steps, uint16_t nsteps, FleetJobRun *run, FleetJobEvent event,
                FleetState outcome, const char *sqlstate, FleetTime now, FleetRandom *random)
{
    Job job = {steps, nsteps, run, now, random};

    if (FLEET_STATE_IS_FINAL(run->state))
        return FLEET_JOB_ILLEGAL;
    if ((run->state == FLEET_QUEUED) != (event == FLEET_JOB_BEGIN) && event != FLEET_JOB_CANCEL)
        return FLEET_JOB_ILLEGAL;
    switch (event)
    {
        case FLEET_JOB_BEGIN: return begin(&job);
        case FLEET_JOB_STEP_RUNNING: return step_running(&job);
        case FLEET_JOB_STEP_ENDED: return step_ended(&job, outcome, sqlstate);
        case FLEET_JOB_STEP_REDO: return step_redo(&job);
        case FLEET_JOB_TIMER: return timer(&job);
        case FLEET_JOB_CANCEL: return cancel(&job);
    }
    return FLEET_JOB_ILLEGAL;
}

/* ---- check ---- */

static bool
check_goto(FleetStepAction action, uint16_t target, uint16_t nsteps, uint16_t step,
           const char *when, FleetError *error)
{
    if (action != FLEET_STEP_GOTO || target < nsteps)
        return true;
    snprintf(error->message, sizeof(error->message),
             "step %d goes to step %d on %s, but the job has %d steps", step + 1, target + 1, when,
             nsteps);
    snprintf(error->hint, sizeof(error->hint), "Name one of the steps 1 to %d.", nsteps);
    return false;
}

bool
fleet_job_check(const FleetStepSpec *steps, uint16_t nsteps, FleetError *error)
{
    error->message[0] = error->hint[0] = '\0';
    if (nsteps == 0)
    {
        snprintf(error->message, sizeof(error->message), "the job has no step");
        snprintf(error->hint, sizeof(error->hint), "Add at least one step.");
        return false;
    }
    for (uint16_t i = 0; i < nsteps; i++)
    {
        if (!check_goto(steps[i].on_success, steps[i].success_goto, nsteps, i, "success", error) ||
            !check_goto(steps[i].on_failure, steps[i].failure_goto, nsteps, i, "failure", error))
            return false;
    }
    return true;
}
