/*
 * agent/flush.c
 *     The end of a turn: what is dirty becomes rows, in one transaction; after
 *     its commit come the effects, then what has ended is freed.  In the
 *     agent's process.
 */
#include "postgres.h"

#include "agent/flush.h"
#include "agent/decide.h"
#include "agent/effect.h"
#include "agent/found.h"
#include "agent/given.h"
#include "agent/learn.h"
#include "agent/local_job.h"
#include "agent/notice.h"
#include "agent/quarantine.h"
#include "agent/raise.h"
#include "agent/retire.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/task.h"
#include "points.h"
#include "store/spi.h"

/* ---- rows ---- */

/* Where the lines of its attempt are counted from; between two, those of the next: that may be another
 * agent's, which knows only what is stored. */
static int
line_base(const AgentTask *task)
{
    bool between = task->state == FLEET_RETRYING || task->state == FLEET_QUEUED;

    return between ? task->log_seq : task->log_base;
}

static void
task_row(const AgentTask *task, FleetTaskWrite *w)
{
    memset(w, 0, sizeof(*w));
    w->run_id = task->run->run_id;
    w->task = task->ref.task;
    w->item = task->ref.item;
    w->old = task->durable;
    w->state = task->state;
    w->attempt = task->attempt;
    w->failures = task->failures;
    w->server_id = task->server != NULL ? task->server->server_id : 0;
    w->log_base = line_base(task);
    w->definition_known = task->definition_known;
    w->nested = task->run->def->specs[task->ref.task].kind == FLEET_TASK_PACKAGE;
    memcpy(w->definition, task->definition.bytes, sizeof(w->definition));
    w->row_count = -1;
}

/* Those of a handler belong to its whole, which runs when the first of its executions starts. */
static void
handler_params_store(AgentRun *run, uint32 task)
{
    FleetTaskWrite w = {.run_id = run->run_id,
                        .task = task,
                        .old = FLEET_RUNNING,
                        .state = FLEET_RUNNING,
                        .row_count = -1,
                        .params = run->resolved[task]};

    fleet_run_flush(); /* its state may be in the batch */
    fleet_task_write(&w);
}

/* The start of an attempt.  A later state of the same turn waits for the next one. */
static void
task_write_start(AgentTask *task)
{
    AgentRun *run = task->run;
    bool unresolved = agent_run_unresolved(run, task->ref.task);
    FleetDiagnostics failure;
    FleetTaskWrite w;

    if (task->error == NULL && !agent_given_resolve(run, task->ref.task, &failure))
        agent_task_cannot_start(task, failure.sqlstate, failure.message);
    agent_decide_link(task);
    task_row(task, &w);
    if (unresolved && run->def->specs[task->ref.task].handler && task->error == NULL)
        handler_params_store(run, task->ref.task);
    if (task->ref.item == 0)
    {
        w.ready_at = fleet_clock_to_wall(fleet_engine_task_ready(agent.engine, task->ref));
        w.params =
            run->resolved[task->ref.task]; /* an agent that finds it started gives the same */
    }
    fleet_task_write_start(&w);
    agent_task_start_stored(task);
}

static void
task_write_state(AgentTask *task)
{
    FleetTaskWrite w;

    if (task->durable == task->state && (!task->waits_changed || FLEET_STATE_IS_FINAL(task->state)))
        return;
    task_row(task, &w);
    w.diag.message = task->waits;
    if (task->state != FLEET_QUEUED)
        w.started_at = task->started_at;
    if (FLEET_STATE_IS_FINAL(task->state) || task->state == FLEET_RETRYING)
    {
        w.finished_at = task->finished_at;
        w.row_count = task->result.row_count;
        w.diag = task->result.diag;
        w.output = task->result.output;
    }
    fleet_task_write(&w);
    if (task->durable != task->state)
        agent_raise_task(task->run, task->ref, task->state, w.server_id, &w.diag);
    agent_task_stored(task, task->state);
}

/* Returns true if the task run is done with for now. */
static bool
task_write(AgentTask *task, FleetTime now)
{
    if (task->start_pending)
    {
        task_write_start(task);
        return task->state == FLEET_STARTING;
    }
    if (task->lazy_until > now)
    {
        turn_wake_at(task->lazy_until);
        return false;
    }
    task_write_state(task);
    return true;
}

static void
tasks_write(FleetTime now, dlist_head *over)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, agent_tasks_dirty())
    {
        AgentTask *task = dlist_container(AgentTask, dirty_node, iter.cur);

        fleet_hand_take(FLEET_HAND_RUN, task->run->run_id, "work_task_row");
        if (!task_write(task, now))
        {
            if (!task->start_pending && task->lazy_until == 0)
                turn_again(); /* its next state goes out in the next turn */
            continue;
        }
        agent_task_clean(task);
        if (task->over)
            dlist_push_tail(over, &task->dirty_node);
    }
}

static void
runs_write(dlist_head *over)
{
    AgentRun *run;

    while ((run = agent_run_next_dirty()) != NULL)
    {
        bool final = FLEET_STATE_IS_FINAL(run->state), stopped = run->state == FLEET_CANCELING;
        TimestampTz now = fleet_clock_wall();

        fleet_hand_take(FLEET_HAND_RUN, run->run_id, "work_run_row");
        if (run->durable != run->state)
            fleet_run_write(run->run_id, run->durable, run->state, now, final ? now : 0,
                            stopped || (final && run->state != FLEET_SUCCEEDED) ? run->message
                                                                                : NULL,
                            run->timed_out);
        agent_raise_run_state(run, run->durable, run->state);
        agent_run_stored(run);
        if (run->ended)
        {
            agent_run_learn(run);
            dlist_push_tail(over, &run->dirty_node);
        }
    }
}

/* ---- the turn ---- */

bool
agent_flush_needed(void)
{
    return fleet_run_write_pending() || agent_runs_dirty() ||
           !dlist_is_empty(agent_tasks_dirty()) || local_jobs_flush_needed() ||
           agent_task_effects_wanted() || agent_notices_pending() || agent_servers_dirty() ||
           agent_found_pending() || agent_raised_pending() || fleet_catalog_is_open();
}

void
agent_flush(void)
{
    FleetTime now = fleet_clock_now();
    dlist_head tasks = DLIST_STATIC_INIT(tasks);
    dlist_head locals = DLIST_STATIC_INIT(locals);
    dlist_head runs = DLIST_STATIC_INIT(runs);

    local_jobs_write(now, &locals);
    tasks_write(now, &tasks);
    runs_write(&runs);
    fleet_hand_empty();
    agent_runs_count(); /* before the ends of runs are written: their counters are forgotten with that */
    fleet_run_flush_turn();
    agent_servers_flush();
    agent_raised_flush();
    agent_found_flush();
    agent_notices_send();
    if (fleet_catalog_is_open())
        FLEET_POINT("agent_before_commit");
    fleet_catalog_commit();
    agent_quarantine_written(now);
    agent_raised_committed();
    FLEET_POINT("agent_after_commit");
    agent_effects();
    agent_retire(&tasks, &locals, &runs);
}
