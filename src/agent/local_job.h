/*
 * agent/local_job.h
 *     What the files of the local jobs share: local_job.c (machines and events),
 *     local_job_rows.c (rows), local_job_recover.c (taking up what is
 *     durable), local_job_nested.c (steps that run a package),
 *     local_job_move.c (local jobs that go elsewhere), local_job_stop.c (cancel),
 *     job_run.c (job runs as a whole).  Nobody else.
 */
#ifndef FLEET_AGENT_LOCAL_JOB_H
#define FLEET_AGENT_LOCAL_JOB_H

#include "agent/agent.h"

extern LocalJob *local_job_create(FleetJobDef *def, Oid owner);
extern const FleetStepDef *local_job_step(const LocalJob *local); /* the present one */
/* Sets the present step's result to an error of ours. */
extern void local_job_error(LocalJob *local, const char *sqlstate, const char *message);
extern void local_job_failure(LocalJob *local, const AgentFailure *failure);
extern void local_job_wants_effect(LocalJob *local);
/* The present step's row has changed; lazy: how long it may wait (0: this turn). */
extern void local_job_step_dirty(LocalJob *local, FleetTime lazy);
extern void local_job_start_nested(LocalJob *local);
extern void local_job_stop_waiting(LocalJob *local);
/* Puts the present step run's row into the batch, as it is now. */
extern void local_job_write_step(LocalJob *local);
extern void local_job_end_step(LocalJob *local, FleetState outcome);
/* Does what the job machine answered; feeds an event to the protocol's machine. */
extern void local_job_machine(LocalJob *local, FleetJobDo what);
extern void local_job_exec_event(LocalJob *local, FleetExecEvent event);
/* The present attempt was cut off: its executor is gone, or its agent was. */
extern void local_job_cut(LocalJob *local);
/* From the job machine: the present step is to be stopped, now or once it can be. */
extern void local_job_stop_step(LocalJob *local);
/* What a runner that outlives us is found again by. */
extern FleetStepKey local_job_step_key(const LocalJob *local);
/* Gives the present step to its executor, or queues the local job for one. */
extern void local_job_send(LocalJob *local);

#endif
