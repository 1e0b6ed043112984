/*
 * agent/decide.c
 *     The engine's decisions become state in structs and rows in the batch:
 *     all of it BEFORE the turn's commit; effect.c follows AFTER it.  In the
 *     agent's process.
 */
#include "postgres.h"

#include "agent/decide.h"
#include "agent/given.h"
#include "agent/late.h"
#include "agent/learn.h"
#include "agent/limits.h"
#include "agent/local_job.h"
#include "agent/query.h"
#include "agent/raise.h"
#include "agent/remote.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/task.h"
#include "security.h"
#include "store/condition.h"
#include "store/run_read.h"
#include "store/spi.h"
#include "hand.h"
#include "utils/memutils.h"

/* ---- task runs ---- */

static void
note_failure(AgentTask *task)
{
    AgentRun *run = task->run;
    const char *name = run->def->tasks[task->ref.task].name;
    const char *why =
        task->result.diag.message != NULL ? task->result.diag.message : "no reason is known";

    if (run->message != NULL)
        return; /* a long for_each may fail a million times */
    agent_run_reason(run,
                     task->ref.item == 0
                         ? psprintf("task \"%s\" %s: %s", name, fleet_state_name(task->state), why)
                         : psprintf("task \"%s\" item %u %s: %s", name, task->ref.item,
                                    fleet_state_name(task->state), why));
}

static void
decide_start(AgentRun *run, const FleetDecision *d)
{
    AgentTask *task = agent_task_find(d->ref);
    const FleetTaskDef *def = &run->def->tasks[d->ref.task];

    if (task == NULL)
        task = agent_task_create(run, d->ref);
    agent_task_attempt(task, d->attempt, d->failures, agent_server_by_number(d->server));
    if (d->server == AGENT_NOWHERE_SERVER)
        agent_task_cannot_start(task, FLEET_SQLSTATE_UNDEFINED_OBJECT,
                                def->server != NULL
                                    ? psprintf("there is no server \"%s\"", def->server)
                                    : psprintf("group \"%s\" has no server", def->group));
}

/* NULL: by its constraints. */
static const char *
skipped_why(const AgentRun *run, FleetTaskRef ref)
{
    const char *left_out = ref.item == 0 ? run->def->tasks[ref.task].left_out : NULL;
    const char *why = left_out != NULL ? left_out : agent_run_skipped_why(run, ref);

    return why == NULL && run->def->specs[ref.task].handler ? "no failure was left to it" : why;
}

/* A state of a task run that was never started: only its row is there. */
static void
decide_row_state(AgentRun *run, const FleetDecision *d)
{
    const AgentReason *reason = &run->cannot_begin[d->ref.task];
    FleetTaskWrite w = {0};

    w.run_id = run->run_id;
    w.task = d->ref.task;
    w.item = d->ref.item;
    w.old = d->ref.item == 0 ? (FleetState) run->task_durable[d->ref.task] : FLEET_QUEUED;
    w.state = d->state;
    w.row_count = -1;
    if (w.old == w.state)
        return;
    if (FLEET_STATE_IS_FINAL(w.old)) /* started once more, or something before it */
        fleet_condition_forget(run->run_id, d->ref.task);
    if (d->ref.item == 0 && !FLEET_STATE_IS_FINAL(d->state))
        w.diag.message = run->hindered[d->ref.task]; /* waiting.c: it still is */
    if (FLEET_STATE_IS_FINAL(d->state))
        w.finished_at = fleet_clock_wall();
    else if (!FLEET_STATE_IS_FINAL(w.old) &&
             (d->state == FLEET_STARTING || d->state == FLEET_RUNNING))
        w.started_at = fleet_clock_wall();
    if (d->ref.item == 0 && d->state == FLEET_RUNNING)
        w.params =
            run->resolved[d->ref.task]; /* for those of its items that an agent starts later */
    if (d->ref.item == 0 && agent_run_row_written(run, d->ref.task, d->state))
        /* two changes of one row in one turn: the batch takes one; write this one after it */
        fleet_run_flush();
    if (d->state == FLEET_SKIPPED)
        w.diag.message = skipped_why(run, d->ref);
    if (d->ref.item == 0 && d->state == FLEET_FAILED && reason->message != NULL)
    {
        w.diag.sqlstate = reason->sqlstate;
        w.diag.message = reason->message;
        agent_failure_line(run, d->ref, fleet_task_next_line(run->run_id, d->ref.task, d->ref.item),
                           w.diag.sqlstate, w.diag.message);
        agent_run_reason(run, psprintf("task \"%s\" failed: %s", run->def->tasks[d->ref.task].name,
                                       w.diag.message));
    }
    fleet_task_write(&w);
    agent_raise_task(run, d->ref, d->state, 0, &w.diag);
    agent_run_changed(run);
}

/*
 * A failure of what was to be stopped, for no role's cancel: its timeout.  Not
 * so if it failed by itself before that, which a SQLSTATE of its own tells.
 */
static bool
was_timed_out(const AgentTask *task, const FleetDecision *d)
{
    if (task->state != FLEET_CANCELING || (d->state != FLEET_FAILED && d->state != FLEET_RETRYING))
        return false;
    return task->stopped ||
           fleet_sqlstate_is(task->result.diag.sqlstate, FLEET_SQLSTATE_QUERY_CANCELED);
}

static void
decide_state(AgentRun *run, const FleetDecision *d)
{
    AgentTask *task = agent_task_find(d->ref);
    bool timed_out;

    if (task == NULL)
    {
        decide_row_state(run, d);
        return;
    }
    timed_out = was_timed_out(task, d);
    agent_task_decided(task, d->state, d->failures, FLEET_STATE_IS_FINAL(d->state));
    if (timed_out)
        agent_task_timed_out(task);
    if (d->state == FLEET_RETRYING)
    {
        agent_task_set_finished(task, fleet_clock_to_wall(d->at));
        if (agent_remote_is_lost(task))
            agent_task_lost(task);
    }
    if (d->state == FLEET_RUNNING)
    {
        if (task->started_at == 0)
            agent_task_set_started(task, fleet_clock_wall());
        agent_task_dirty(task, AGENT_LAZY);
        return;
    }
    if (FLEET_STATE_IS_FINAL(d->state))
    {
        if (task->finished_at == 0)
            agent_task_set_finished(task, fleet_clock_wall());
        if (d->state == FLEET_LOST)
            agent_task_lost(task);
        if (d->state == FLEET_SKIPPED)
            agent_task_skipped(task, skipped_why(run, d->ref));
        if (d->state == FLEET_SUCCEEDED)
            agent_task_learn(task);
        if (d->state == FLEET_FAILED || d->state == FLEET_LOST || d->state == FLEET_UNKNOWN)
            note_failure(task);
    }
    /* Not under way there any more, whatever happens next. */
    if (d->state != FLEET_CANCELING && d->state != FLEET_STARTING)
    {
        if (task->local != NULL && (d->state == FLEET_LOST || !task->over))
            local_job_abandon(task->local);
        if (task->linked || task->seen_first != 0)
            agent_remote_give_up(task);
    }
    agent_task_dirty(task, 0);
}

/* A failure that a handler is for: in the same commit as its end. */
static void
decide_catch(AgentRun *run, const FleetDecision *d)
{
    const AgentTask *task = agent_task_find(d->cause);
    const AgentReason *reason = &run->cannot_begin[d->cause.task];
    const char *sqlstate = task != NULL ? task->result.diag.sqlstate : reason->sqlstate;
    const char *message = task != NULL ? task->result.diag.message : reason->message;

    (void) fleet_item_write_new(run->run_id, d->ref.task, d->ref.item, fleet_clock_wall(),
                                agent_given_failure(run, d, sqlstate, message),
                                &run->def->tasks[d->ref.task].columns);
    agent_run_changed(run);
}

static void
decide_cancel(AgentRun *run, const FleetDecision *d)
{
    AgentTask *task = agent_task_find(d->ref);

    if (task == NULL)
        return;
    agent_task_cancel(task);
}

/* ---- runs ---- */

static void
run_ended(AgentRun *run)
{
    AgentTask *task = run->parent_task;
    LocalJob *local = run->parent_local;

    if (run->state == FLEET_FAILED)
        agent_run_reason(run, "a task or a condition failed");
    if (task != NULL)
    {
        agent_run_set_parent_task(run, NULL);
        agent_task_nested_ended(task, run->state, run->timed_out, run->message);
    }
    if (local != NULL)
    {
        agent_run_set_parent_local(run, NULL);
        local_job_nested_ended(local, run->state, run->timed_out, run->message);
    }
}

static void
decide_run(AgentRun *run, const FleetDecision *d)
{
    if (d->state == FLEET_CANCELING && fleet_engine_run_timed_out(agent.engine, d->ref.run))
        agent_run_out_of_time(run);
    agent_run_decided(run, d->state);
    if (d->state == FLEET_RUNNING)
        agent_late_begun(run);
    if (FLEET_STATE_IS_FINAL(d->state))
        run_ended(run);
}

void
agent_decide(void)
{
    FleetDecision d;

    while (fleet_engine_next(agent.engine, &d))
    {
        AgentRun *run = agent_run_by_handle(d.ref.run);

        fleet_hand_take(FLEET_HAND_RUN, run->run_id, "work_decide");
        switch (d.kind)
        {
            case FLEET_DO_START: decide_start(run, &d); break;
            case FLEET_DO_CANCEL: decide_cancel(run, &d); break;
            case FLEET_DO_EXPAND: agent_query_expand(run, d.ref.task); break;
            case FLEET_DO_CONDITION: agent_query_condition(run, d.edge); break;
            case FLEET_DO_STATE: decide_state(run, &d); break;
            case FLEET_DO_CATCH: decide_catch(run, &d); break;
            case FLEET_DO_RUN: decide_run(run, &d); break;
            case FLEET_DO_REPLACE: agent_limits_replaced(run, agent_run_by_handle(d.edge)); break;
        }
    }
    fleet_hand_empty();
}

/* ---- what an effect needs of the catalog ---- */

void
agent_decide_link(AgentTask *task)
{
    AgentRun *run = task->run;
    const FleetTaskDef *def = &run->def->tasks[task->ref.task];
    bool here = run->def->specs[task->ref.task].kind != FLEET_TASK_JOB;
    Oid role = run->owner;
    const char *sqlstate = FLEET_SQLSTATE_UNDEFINED_OBJECT;
    char *error = NULL;

    if (task->error != NULL || def->job == NULL)
        return;
    fleet_catalog_begin(); /* memberships are read */
    error = agent_task_refused(task, &sqlstate);
    if (error == NULL && (here || !task->server->agent_mode))
        role = def->job_def->owner_oid;
    else if (error == NULL)
        role = agent_task_role(task);
    if (error == NULL && !here)
        agent_task_set_link(task, agent_link_get(task->server, role, &sqlstate, &error));
    if (error != NULL)
        agent_task_cannot_start(task, sqlstate, error);
}
