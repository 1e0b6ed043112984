/*
 * agent/local_job.h
 *     What the files of the units share: local_job.c (machines and events),
 *     local_job_rows.c (rows), local_job_recover.c (taking up what is
 *     durable), local_job_nested.c (steps that run a package),
 *     local_job_move.c (units that go elsewhere), local_job_stop.c (cancel),
 *     job_run.c (job runs as a whole).  Nobody else.
 */
#ifndef FLEET_AGENT_LOCAL_JOB_H
#define FLEET_AGENT_LOCAL_JOB_H

#include "agent/agent.h"

extern AgentUnit *agent_unit_create(FleetJobDef *def, Oid owner);
extern const FleetStepDef *agent_unit_step(const AgentUnit *unit); /* the present one */
/* Sets the present step's result to an error of ours. */
extern void agent_unit_error(AgentUnit *unit, const char *sqlstate, const char *message);
extern void agent_unit_failure(AgentUnit *unit, const AgentFailure *failure);
extern void agent_unit_wants_effect(AgentUnit *unit);
/* The present step's row has changed; lazy: how long it may wait (0: this turn). */
extern void agent_unit_step_dirty(AgentUnit *unit, FleetTime lazy);
extern void agent_unit_start_nested(AgentUnit *unit);
extern void agent_unit_stop_waiting(AgentUnit *unit);
/* Puts the present step run's row into the batch, as it is now. */
extern void agent_unit_write_step(AgentUnit *unit);
extern void agent_unit_end_step(AgentUnit *unit, FleetState outcome);
/* Does what the job machine answered; feeds an event to the protocol's machine. */
extern void agent_unit_job(AgentUnit *unit, FleetJobDo what);
extern void agent_unit_exec_event(AgentUnit *unit, FleetExecEvent event);
/* The present attempt was cut off: its executor is gone, or its agent was. */
extern void agent_unit_cut(AgentUnit *unit);
/* From the job machine: the present step is to be stopped, now or once it can be. */
extern void agent_unit_stop_step(AgentUnit *unit);
/* What a runner that outlives us is found again by. */
extern FleetStepKey agent_unit_step_key(const AgentUnit *unit);
/* Gives the present step to its executor, or queues the unit for one. */
extern void agent_unit_send(AgentUnit *unit);

#endif
