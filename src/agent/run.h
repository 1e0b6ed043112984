/*
 * agent/run.h
 *     Runs of packages.  In the agent's process.
 */
#ifndef FLEET_AGENT_RUN_H
#define FLEET_AGENT_RUN_H

#include "agent/state.h"

/* What happens further up, in query.c and task.c. */
typedef struct AgentRunHooks
{
    void (*cancel)(AgentRun *run); /* before the engine cancels it */
    void (*again)(AgentRun *run);  /* it is being canceled, and somebody asks again */
} AgentRunHooks;

extern void agent_runs_init(const AgentRunHooks *hooks);   /* to be kept */
extern AgentRun *agent_run_find(int64 run_id);             /* NULL: not open */
extern AgentRun *agent_run_by_handle(uint32 handle);       /* of the engine */
extern void agent_runs_each(void (*visit)(AgentRun *run)); /* visit frees none */

/* From its row, with definition and estimates, but without any task run; raises if it cannot be.
 * Inside a transaction.  It is in no table yet: an error on the way leaves nothing behind. */
extern AgentRun *agent_run_create(const FleetRunRow *row);
/* … into the table and the engine. */
extern void agent_run_enter(AgentRun *run, bool nested);
extern void agent_run_begin(AgentRun *run);
/* Takes it out of the table and the engine; its task runs must have been freed (retire.c). */
extern void agent_run_free(AgentRun *run);

extern void agent_run_cancel(int64 run_id); /* nothing happens if it is not open */
/* The same, and what it has of final tasks does not run, or is stopped: in nested runs too. */
extern void agent_run_cancel_all(int64 run_id);
/* Does its cancel stop this task? */
extern bool agent_run_cancel_reaches(const AgentRun *run, uint32 task);
/* The parameters of a task without its item's: a JSON object that lives as long as the run. */
extern const char *agent_run_task_params(AgentRun *run, uint32 task);
/* Its own, with what their templates stand for: copied. */
extern void agent_run_resolved(AgentRun *run, uint32 task, const char *own);
/* Do they have templates that are not resolved yet? */
extern bool agent_run_unresolved(const AgentRun *run, uint32 task);

/* A nested run: whom to tell its end.  NULL: nothing any more. */
extern void agent_run_set_parent_task(AgentRun *run, AgentTask *task);
extern void agent_run_set_parent_local(AgentRun *run, LocalJob *local);
extern void agent_run_decided(AgentRun *run, FleetState state); /* by the engine */
/* The row of item 0 of that task has this state, or gets it with this turn's commit. */
extern void agent_run_row(AgentRun *run, uint32 task, FleetState state);
/* The same, of a row that is put into the batch.  True: it was already, in this turn. */
extern bool agent_run_row_written(AgentRun *run, uint32 task, FleetState state);
/* Why a task cannot begin (its for_each, a condition before it): both are copied; the first reason
 * stays. */
extern void agent_run_cannot_begin(AgentRun *run, uint32 task, const char *sqlstate,
                                   const char *why);
/* Of a restart: the run whose items a for_each takes over when it begins; 0: its query is asked. */
extern void agent_run_takes_over(AgentRun *run, uint32 task, int64 from);
extern int64 agent_run_taken_over(const AgentRun *run, uint32 task);
/* Why nothing of this task is placed (NULL: no such reason): copied.  True: it was another one. */
extern bool agent_run_hindered(AgentRun *run, uint32 task, const char *why);

/* What is to be left out of it, by task and item: copied. */
extern void agent_run_skips(AgentRun *run, const FleetSkipRow *rows, int n);
/* … and what is said of such a task run; NULL: nobody asked for that. */
extern const char *agent_run_skipped_why(const AgentRun *run, FleetTaskRef ref);
/* A task that failed is started once more: why it did is forgotten. */
extern void agent_run_once_more(AgentRun *run, uint32 task);

extern void agent_run_dirty(AgentRun *run);   /* its row is to be written */
extern void agent_run_changed(AgentRun *run); /* something in it has: who waits for it looks */
extern bool agent_runs_dirty(void);
/* Taken out of the list of the dirty, or changed, ones; NULL: none is left. */
extern AgentRun *agent_run_next_dirty(void);
extern AgentRun *agent_run_next_changed(void);
/* Of those that have changed: fleet_stat_waits(). */
extern void agent_runs_count(void);
extern void agent_run_stored(AgentRun *run);                      /* its row has its state */
extern void agent_run_reason(AgentRun *run, const char *message); /* copied; the first one stays */
/* Why it is being stopped: says more than what has failed in it before. */
extern void agent_run_stopped(AgentRun *run, const char *message);
extern void agent_run_out_of_time(AgentRun *run); /* the same, because of its timeout */

#endif
