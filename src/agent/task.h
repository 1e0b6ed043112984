/*
 * agent/task.h
 *     Task runs.  In the agent's process.
 */
#ifndef FLEET_AGENT_TASK_H
#define FLEET_AGENT_TASK_H

#include "agent/state.h"

extern void agent_tasks_init(void);
extern AgentTask *agent_task_find(FleetTaskRef ref); /* NULL: never started, or over and freed */
extern AgentTask *agent_task_create(AgentRun *run, FleetTaskRef ref);
/* From its row, after a restart: it is to be taken up again (recover.c), which ends with … */
extern AgentTask *agent_task_load(AgentRun *run, FleetTaskRef ref, const FleetTaskRow *row);
extern void agent_task_recovered(AgentTask *task);
/* What refers to it must have been told (retire.c). */
extern void agent_task_free(AgentTask *task);

/* A new attempt begins: everything of the one before is cleared; start and row are asked for. */
extern void agent_task_attempt(AgentTask *task, uint16 attempt, uint16 failures,
                               AgentServer *server);
/* Instead of being started it fails so, after the commit.  Both are copied. */
extern void agent_task_cannot_start(AgentTask *task, const char *sqlstate, const char *message);
/* The job that is sent along to a server of mode agent; NULL: it runs there by name. */
extern const FleetJobDef *agent_task_job_sent(const AgentTask *task);
/* The server lacks its document: how often it has said so. */
extern int agent_task_lacked(AgentTask *task);
/* Which version of a job that runs by name the server has. */
extern void agent_task_set_definition(AgentTask *task, const FleetToken *definition);
/* As whose link a job of a server of mode agent is started: the job's owner's, or, by name, the run's. */
extern Oid agent_task_role(const AgentTask *task);
/* Why the run may not have the job done that is defined here; NULL: it may, or it is another agent's
 * own. */
extern char *agent_task_refused(const AgentTask *task, const char **sqlstate);
extern void agent_task_cancel(AgentTask *task);
extern void agent_tasks_cancel_again(AgentRun *run); /* those that are being stopped */
/* Its start is durable, but was not carried out by the agent before. */
extern void agent_task_start_again(AgentTask *task);
/* Copied.  key: what the item is known by, as agent_item_key() says; NULL: it is none. */
extern void agent_task_set_params(AgentTask *task, const char *params, const char *key);
extern void agent_task_set_failure(AgentTask *task, const char *failure); /* copied */
/* Where, and as what, its present attempt is executed; NULL: not there any more. */
extern void agent_task_set_link(AgentTask *task, AgentLink *link);
extern void agent_task_set_local(AgentTask *task, LocalJob *local);
extern void agent_task_set_nested(AgentTask *task, AgentRun *run);
extern void agent_task_set_started(AgentTask *task, TimestampTz when);
extern void agent_task_set_finished(AgentTask *task, TimestampTz when);
/* What it brought back: copied. */
extern void agent_task_set_result(AgentTask *task, int64 row_count, const FleetDiagnostics *diag,
                                  const char *output);
/* The run that it started has ended like this. */
extern void agent_task_nested_ended(AgentTask *task, FleetState state, bool timed_out,
                                    const char *message);
/* Its server, or this one, has not begun it yet, and why: shown in its row.  NULL: no longer. */
extern void agent_task_waits(AgentTask *task, const char *why);
extern void agent_task_log_used(AgentTask *task, int seq); /* numbers of its log up to this one */
/* The engine's decision.  over: its last state, after which it is freed. */
extern void agent_task_decided(AgentTask *task, FleetState state, uint16 failures, bool over);
extern void agent_task_token(AgentTask *task); /* of its present attempt */
/* uuid (37 bytes) of the run that this attempt of a task of kind package starts: by it
 * the run is found again after a restart. */
extern void agent_task_nested_uuid(const AgentTask *task, char *uuid);

/* Its row is to be written, within "lazy" (0: in this turn). */
extern void agent_task_dirty(AgentTask *task, FleetTime lazy);
extern dlist_head *agent_tasks_dirty(void); /* AgentTask.dirty_node, for the flush */
extern void agent_task_clean(AgentTask *task);
extern void agent_task_stored(AgentTask *task, FleetState state); /* its row has this state */
extern void agent_task_start_stored(AgentTask *task);
/* Something is to be done after the commit: effect_start, effect_cancel say what. */
extern void agent_task_effect(AgentTask *task);
extern bool agent_task_effects_wanted(void);
/* Moves those to the end of the list (effect_node), where … */
extern void agent_task_effects_take(dlist_head *list);
/* … they are taken out, with what is to be done. */
extern AgentTask *agent_task_effects_next(dlist_head *list, bool *start, bool *cancel);

/* It ended like this, with task->result: told to the engine, which decides what follows. */
extern void agent_task_finished(AgentTask *task, FleetState outcome);
extern void agent_task_not_started(AgentTask *task);
/* It can never run: reason. */
extern void agent_task_fail(AgentTask *task, const char *sqlstate, const char *message);
/* The same, where the log has a line of it already; false: it had ended. */
extern bool agent_task_fail_told(AgentTask *task, const char *sqlstate, const char *message);
/* The engine decided its end, or its retry, and the result says why. */
extern void agent_task_timed_out(AgentTask *task);
extern void agent_task_skipped(AgentTask *task, const char *why);
extern void agent_task_lost(AgentTask *task);
/* A failure that no step tells: its line in the log, with that number. */
extern void agent_failure_line(const AgentRun *run, FleetTaskRef ref, int seq, const char *sqlstate,
                               const char *message);

#endif
