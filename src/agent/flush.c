/*
 * agent/flush.c
 *     The end of a turn: what is dirty becomes rows, in one transaction; then,
 *     and only then, the effects that waited for it.  In the agent's process.
 */
#include "postgres.h"

#include "agent/agent.h"
#include "store/spi.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "points.h"
#include "utils/memutils.h"

/* Job runs whose parents are to be told, by parent. */
typedef struct Notice
{
    dlist_node node;
    char parent[37];
    int64 *ids;
    int count, capacity;
} Notice;

void
agent_notice(const char *parent_uuid, int64 job_run_id)
{
    Notice *notice = NULL;
    dlist_iter iter;

    dlist_foreach(iter, &agent.notices)
    {
        Notice *n = dlist_container(Notice, node, iter.cur);

        if (strcmp(n->parent, parent_uuid) == 0)
        {
            notice = n;
            break;
        }
    }
    if (notice == NULL)
    {
        notice = MemoryContextAllocZero(agent.context, sizeof(Notice));
        strlcpy(notice->parent, parent_uuid, sizeof(notice->parent));
        notice->capacity = 64;
        notice->ids = MemoryContextAlloc(agent.context, sizeof(int64) * notice->capacity);
        dlist_push_tail(&agent.notices, &notice->node);
    }
    if (notice->count > 0 && notice->ids[notice->count - 1] == job_run_id)
        return;
    if (notice->count == notice->capacity)
    {
        notice->capacity *= 2;
        notice->ids = repalloc_huge(notice->ids, sizeof(int64) * notice->capacity);
    }
    notice->ids[notice->count++] = job_run_id;
}

/* NOTIFY fleet_report_<uuid>, payload: job_run_ids, a few hundred in each. */
static void
notice_send(Notice *notice)
{
    char channel[64] = "fleet_report_";
    int length = (int) strlen(channel);
    StringInfoData payload;

    for (const char *p = notice->parent; *p != '\0'; p++)
    {
        if (*p != '-')
            channel[length++] = *p;
    }
    channel[length] = '\0';
    initStringInfo(&payload);
    for (int i = 0; i < notice->count; i++)
    {
        appendStringInfo(&payload, "%s%lld", payload.len > 0 ? " " : "",
                         (long long) notice->ids[i]);
        if (payload.len > 7800 || i == notice->count - 1)
        {
            Async_Notify(channel, payload.data);
            resetStringInfo(&payload);
        }
    }
    pfree(payload.data);
    notice->count = 0;
}

static bool
notices_pending(void)
{
    dlist_iter iter;

    dlist_foreach(iter, &agent.notices)
    {
        if (dlist_container(Notice, node, iter.cur)->count > 0)
            return true;
    }
    return false;
}

static void
notices_send(void)
{
    dlist_iter iter;

    if (!notices_pending())
        return;
    fleet_catalog_begin();
    dlist_foreach(iter, &agent.notices)
    {
        Notice *notice = dlist_container(Notice, node, iter.cur);

        if (notice->count > 0)
            notice_send(notice);
    }
}

/* ---- rows of task runs ---- */

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
    w->log_base = task->log_base;
    w->row_count = -1;
}

/* The start of an attempt.  A later state of the same turn waits for the next one. */
static void
task_write_start(AgentTask *task)
{
    FleetTaskWrite w;

    agent_task_prepare(task);
    task_row(task, &w);
    fleet_task_write_start(&w);
    task->start_pending = false;
    task->durable = FLEET_STARTING;
    if (task->ref.item == 0)
        task->run->task_durable[task->ref.task] = FLEET_STARTING;
}

static void
task_write_state(AgentTask *task)
{
    FleetTaskWrite w;

    if (task->durable == task->state)
        return;
    task_row(task, &w);
    if (task->state != FLEET_QUEUED)
        w.started_at = task->started_at;
    if (FLEET_STATE_IS_FINAL(task->state) || task->state == FLEET_RETRYING)
    {
        w.finished_at = task->finished_at;
        w.row_count = task->result.row_count;
        w.sqlstate = task->result.sqlstate;
        w.message = task->result.message;
        w.output = task->result.output;
    }
    fleet_task_write(&w);
    task->durable = task->state;
    if (task->ref.item == 0)
        task->run->task_durable[task->ref.task] = (uint8) task->state;
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

    dlist_foreach_modify(iter, &agent.dirty_tasks)
    {
        AgentTask *task = dlist_container(AgentTask, dirty_node, iter.cur);

        if (!task_write(task, now))
        {
            if (!task->start_pending && task->lazy_until == 0)
                turn_again(); /* its next state goes out in the next turn */
            continue;
        }
        dlist_delete(&task->dirty_node);
        task->dirty = false;
        if (task->over)
            dlist_push_tail(over, &task->dirty_node);
    }
}

static void
runs_write(dlist_head *over)
{
    while (!dlist_is_empty(&agent.dirty_runs))
    {
        AgentRun *run =
            dlist_container(AgentRun, dirty_node, dlist_pop_head_node(&agent.dirty_runs));
        bool final = FLEET_STATE_IS_FINAL(run->state);
        TimestampTz now = fleet_clock_wall();

        run->dirty = false;
        if (run->durable != run->state)
            fleet_run_write(run->run_id, run->durable, run->state, now, final ? now : 0,
                            final && run->state != FLEET_SUCCEEDED ? run->message : NULL);
        run->durable = run->state;
        if (run->ended)
        {
            agent_run_learn(run);
            dlist_push_tail(over, &run->dirty_node);
        }
    }
}

/* ---- after the commit ---- */

static void
effects(void)
{
    dlist_head tasks = DLIST_STATIC_INIT(tasks);

    /* An effect may ask for another one: that is the next turn's. */
    while (!dlist_is_empty(&agent.task_effects))
        dlist_push_tail(&tasks, dlist_pop_head_node(&agent.task_effects));
    local_jobs_effects();
    while (!dlist_is_empty(&tasks))
    {
        AgentTask *task = dlist_container(AgentTask, effect_node, dlist_pop_head_node(&tasks));

        task->in_effects = false;
        agent_task_effects(task);
    }
}

static void
tell_waiters(void)
{
    agent_runs_refused_tell();
    while (!dlist_is_empty(&agent.changed))
    {
        AgentRun *run =
            dlist_container(AgentRun, changed_node, dlist_pop_head_node(&agent.changed));

        run->changed = false;
        fleet_shared_run_changed(agent.shared, run->run_id, FLEET_STATE_IS_FINAL(run->durable));
    }
}

static void
free_over(dlist_head *tasks, dlist_head *locals, dlist_head *runs)
{
    local_jobs_free(locals);
    while (!dlist_is_empty(tasks))
    {
        AgentTask *task = dlist_container(AgentTask, dirty_node, dlist_pop_head_node(tasks));

        if (task->acknowledge && task->link != NULL)
            agent_remote_acknowledge(task);
        agent_task_free(task);
    }
    while (!dlist_is_empty(runs))
        agent_run_forget(dlist_container(AgentRun, dirty_node, dlist_pop_head_node(runs)));
}

bool
agent_flush_needed(void)
{
    return fleet_run_write_pending() || !dlist_is_empty(&agent.dirty_runs) ||
           !dlist_is_empty(&agent.dirty_tasks) || local_jobs_flush_needed() ||
           !dlist_is_empty(&agent.task_effects) || notices_pending() || agent_server_dirty() ||
           fleet_catalog_is_open();
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
    fleet_run_flush();
    agent_server_flush();
    notices_send();
    if (fleet_catalog_is_open())
        FLEET_POINT("agent_before_commit");
    fleet_catalog_commit();
    FLEET_POINT("agent_after_commit");
    tell_waiters();
    turn_effects_begin();
    effects();
    turn_effects_end();
    free_over(&tasks, &locals, &runs);
}
