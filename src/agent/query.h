/*
 * agent/query.h
 *     Queries: for_each and conditions.  In the agent's process.
 */
#ifndef FLEET_AGENT_QUERY_H
#define FLEET_AGENT_QUERY_H

#include "agent/state.h"

extern void agent_query_expand(AgentRun *run, uint32 task);    /* the for_each of a task */
extern void agent_query_condition(AgentRun *run, uint32 edge); /* the condition of an edge */
extern void agent_queries_turn(void); /* waiting ones get runners, items a slice of rows */
extern void agent_query_event(void *query, FleetExecutor *executor,
                              const FleetExecutorEvent *event);
extern void agent_queries_cancel(AgentRun *run); /* before the engine cancels the run */
extern void agent_queries_forget(AgentRun *run);
/* A for_each that is skipped: neither its query nor what is stored of its items counts. */
extern void agent_queries_leave(AgentRun *run, uint32 task);
/* Conditions whose answer the engine does not wait for any more. */
extern void agent_queries_tidy(AgentRun *run);

#endif
