/*
 * agent/local_job_nested.c
 *     Steps that run a package: its run begins, and ends.  In the agent's
 *     process.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "miscadmin.h"
#include "points.h"

/* The step's own row is durable.  What is wrong with the package is the step's failure. */
void
local_job_start_nested(LocalJob *local)
{
    AgentFailure failure;

    FLEET_POINT("step_before_nested");
    local->nested = agent_run_nested(local_job_step(local)->package, local->role, local->params, 0,
                                     NULL, local, &failure);
    local->any_sent = true; /* whatever becomes of it, it is not another one's any more */
    if (local->nested == NULL)
    {
        local_job_failure(local, &failure);
        local_job_end_step(local, FLEET_FAILED);
        return;
    }
    local->step.state = FLEET_RUNNING;
    local_job_step_dirty(local, AGENT_LAZY);
    local_job_machine(local, fleet_job_event(local->def->specs, local->def->nsteps, &local->job,
                                             FLEET_JOB_STEP_RUNNING, FLEET_QUEUED, NULL,
                                             fleet_clock_now(), &agent.random));
}

void
local_job_nested_ended(LocalJob *local, FleetState state, const char *message)
{
    local->nested = NULL;
    if (state != FLEET_SUCCEEDED)
        local_job_error(local, state == FLEET_CANCELED ? "57014" : "P0001",
                        message != NULL ? message : "the package did not succeed");
    local_job_end_step(local,
                       state == FLEET_SUCCEEDED || state == FLEET_CANCELED ? state : FLEET_FAILED);
}
