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
/* What refers to it must have been told (retire.c). */
extern void agent_task_free(AgentTask *task);

/* A new attempt begins: everything of the one before is cleared; start and row are asked for. */
extern void agent_task_attempt(AgentTask *task, uint16 attempt, uint16 failures,
                               AgentServer *server);
/* Instead of being started it fails so, after the commit.  message is copied, sqlstate is not. */
extern void agent_task_cannot_start(AgentTask *task, const char *sqlstate, const char *message);
extern void agent_task_cancel(AgentTask *task);
extern void agent_task_token(AgentTask *task); /* of its present attempt */
/* uuid (37 bytes) of the run that this attempt of a task of kind package starts: by it
 * the run is found again after a restart. */
extern void agent_task_nested_uuid(const AgentTask *task, char *uuid);

/* Its row is to be written, within "lazy" (0: in this turn). */
extern void agent_task_dirty(AgentTask *task, FleetTime lazy);
extern dlist_head *agent_tasks_dirty(void); /* AgentTask.dirty_node, for the flush */
extern void agent_task_clean(AgentTask *task);
extern void agent_task_stored(AgentTask *task, FleetState state); /* its row has this state */
/* Something is to be done after the commit: effect_start, effect_cancel say what. */
extern void agent_task_effect(AgentTask *task);
extern bool agent_task_effects_wanted(void);
/* Moves those to the end of the list (effect_node); in_effects stays set. */
extern void agent_task_effects_take(dlist_head *list);

/* It ended like this, with task->result: told to the engine, which decides what follows. */
extern void agent_task_finished(AgentTask *task, FleetState outcome);
/* It can never run: reason. */
extern void agent_task_fail(AgentTask *task, const char *sqlstate, const char *message);
/* The same, where the log has a line of it already; false: it had ended. */
extern bool agent_task_fail_told(AgentTask *task, const char *sqlstate, const char *message);
/* The engine decided its end, or its retry, and the result says why. */
extern void agent_task_timed_out(AgentTask *task);
extern void agent_task_lost(AgentTask *task);
/* A failure that no step tells: its line in the log, with that number. */
extern void agent_failure_line(const AgentRun *run, FleetTaskRef ref, int seq, const char *sqlstate,
                               const char *message);

#endif
