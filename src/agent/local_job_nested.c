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
agent_unit_start_nested(AgentUnit *unit)
{
    AgentFailure failure;

    FLEET_POINT("step_before_nested");
    unit->nested = agent_run_nested(agent_unit_step(unit)->package, unit->role, unit->params, 0,
                                    NULL, unit, &failure);
    unit->any_sent = true; /* whatever becomes of it, it is not another one's any more */
    if (unit->nested == NULL)
    {
        agent_unit_failure(unit, &failure);
        agent_unit_end_step(unit, FLEET_FAILED);
        return;
    }
    unit->step.state = FLEET_RUNNING;
    agent_unit_step_dirty(unit, AGENT_LAZY);
    agent_unit_job(unit, fleet_job_event(unit->def->specs, unit->def->nsteps, &unit->job,
                                         FLEET_JOB_STEP_RUNNING, FLEET_QUEUED, NULL,
                                         fleet_clock_now(), &agent.random));
}

void
agent_unit_nested_ended(AgentUnit *unit, FleetState state, const char *message)
{
    unit->nested = NULL;
    if (state != FLEET_SUCCEEDED)
        agent_unit_error(unit, state == FLEET_CANCELED ? "57014" : "P0001",
                         message != NULL ? message : "the package did not succeed");
    agent_unit_end_step(unit,
                        state == FLEET_SUCCEEDED || state == FLEET_CANCELED ? state : FLEET_FAILED);
}
