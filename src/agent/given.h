/*
 * agent/given.h
 *     What work is given: its parameters, once what they refer to is known,
 *     and its context.  In the agent's process.
 */
#ifndef FLEET_AGENT_GIVEN_H
#define FLEET_AGENT_GIVEN_H

#include "agent/state.h"

/* Resolves the templates in a task's parameters, unless that is done: what came before it must be
 * written, or in the batch.  False: it cannot be. */
extern bool agent_given_resolve(AgentRun *run, uint32 task, FleetDiagnostics *failure);

/* fleet.context, palloc'd: of a task run, … */
extern char *agent_given_context(const AgentTask *task);
/* … of a query that is asked for a task, … */
extern char *agent_given_context_of_query(const AgentRun *run, uint32 task);
/* … and of a job that is part of no run. */
extern char *agent_given_context_of_job(const char *job);

/* What a handler is told of a task run that has failed: a JSON object.  server: NULL: here. */
extern char *agent_given_failure(const AgentRun *run, const FleetDecision *caught,
                                 const char *sqlstate, const char *message);

#endif
