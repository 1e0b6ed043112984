/*
 * agent/remote.c
 *     Task runs that another agent executes (mode agent): start by token,
 *     re-attach after a lost link, reports, acknowledgement.  In the agent's
 *     process.
 *
 * States of a remote task run, besides those of the core: not sent → sent (it
 * may be there) → acknowledged (it is there) → final report received → stored
 * → acknowledged to the child, which may then forget it.
 */
#include "postgres.h"

#include "agent/remote.h"
#include "agent/given.h"
#include "agent/log_quota.h"
#include "agent/run.h"
#include "agent/server.h"
#include "agent/task.h"
#include "hand.h"
#include "points.h"
#include "utils/memutils.h"

#define LACKED_MAX 3 /* starts of one attempt that found no document, each after one was sent */

typedef struct TokenEntry
{
    FleetToken token; /* hash key */
    AgentTask *task;
} TokenEntry;

static HTAB *tokens; /* of task runs that are on a link */

void
agent_remote_init(void)
{
    tokens = agent_table("pg_fleet tokens", sizeof(FleetToken), sizeof(TokenEntry), HASH_BLOBS);
}

static FleetToken
token_of(const AgentTask *task)
{
    FleetToken token;

    if (!fleet_text_uuid(task->token, token.bytes))
        elog(ERROR, "\"%s\" is not a token", task->token);
    return token;
}

/* NULL: it has ended here, or is no longer on a link. */
static AgentTask *
task_of_token(const FleetToken *token)
{
    TokenEntry *entry = hash_search(tokens, token, HASH_FIND, NULL);

    return entry == NULL ? NULL : entry->task;
}

static AgentTask *
task_on_link(const AgentLink *link, const FleetToken *token)
{
    AgentTask *task = task_of_token(token);

    return task != NULL && task->link == link ? task : NULL;
}

static void
attach(AgentTask *task, AgentLink *link)
{
    FleetToken token = token_of(task);
    TokenEntry *entry = hash_search(tokens, &token, HASH_ENTER, NULL);

    entry->task = task;
    agent_task_set_link(task, link);
    task->linked = true;
    dlist_push_tail(&link->tasks, &task->link_node);
}

void
agent_remote_leave(AgentTask *task)
{
    FleetToken token;

    if (!task->linked)
        return;
    token = token_of(task);
    hash_search(tokens, &token, HASH_REMOVE, NULL);
    dlist_delete(&task->link_node);
    task->linked = false;
}

/* The step run that was under way when the server was heard of last: what becomes of it will not be
 * known here. */
static void
lose_step(AgentTask *task)
{
    const FleetDiagnostics *diag = &task->result.diag;
    FleetState state = task->state == FLEET_CANCELED ? FLEET_CANCELED : FLEET_LOST;
    FleetStepWrite w = {.run_id = task->run->run_id,
                        .task = task->ref.task,
                        .item = task->ref.item,
                        .old = task->seen_state,
                        .state = state,
                        .phase = FLEET_EXEC_ENDED,
                        .first_seq = task->seen_first,
                        .last_seq = task->log_seq + 1,
                        .row_count = -1,
                        .finished_at = fleet_clock_wall(),
                        .diag = {.sqlstate = AGENT_LOST_SQLSTATE, .message = AGENT_LOST_MESSAGE}};

    if (diag->sqlstate != NULL)
        w.diag = *diag;
    if (task->reported_turn == turn_number())
        fleet_run_flush(); /* the row may be in the batch already */
    fleet_step_write(&w);
    agent_task_log_used(task, w.last_seq);
    task->seen_state = state;
}

void
agent_remote_seen(AgentTask *task, int first_seq, FleetState state)
{
    task->seen_first = first_seq;
    task->seen_state = state;
}

void
agent_remote_give_up(AgentTask *task)
{
    if (task->seen_first != 0 && !FLEET_STATE_IS_FINAL(task->seen_state))
        lose_step(task);
    agent_remote_leave(task);
}

bool
agent_remote_is_lost(const AgentTask *task)
{
    return task->linked && !task->acknowledge && task->result.diag.sqlstate == NULL;
}

/* The document goes along as far as the link does not know that the server has it. */
static void
start_on_link(AgentTask *task, AgentLink *link)
{
    const FleetJobDef *job = agent_task_job_sent(task);
    FleetRemoteStart start = {.token = token_of(task),
                              .job = task->run->def->tasks[task->ref.task].job,
                              .params = task->params,
                              .context = agent_given_context(task)};

    if (job != NULL)
    {
        start.by_hash = fleet_text_uuid(job->hash, start.hash.bytes);
        start.document = job->document;
    }
    fleet_link_start(link->link, &start, 1);
}

void
agent_remote_start(AgentTask *task)
{
    if (task->token[0] == '\0') /* its server was of mode direct when it was placed */
        agent_task_token(task);
    attach(task, task->link);
    FLEET_POINT("remote_before_start");
    start_on_link(task, task->link);
}

static void
resume(AgentTask *task)
{
    FleetToken token = token_of(task);
    int after = task->log_seq - task->log_base;

    fleet_link_resume(task->link->link, &token, &after, 1);
}

/* After a restart of this agent: is it there? */
void
agent_remote_recover(AgentTask *task)
{
    attach(task, agent_link_again(task->server, agent_task_role(task)));
    /* when it was canceled the answer to its start may have been under way */
    task->acknowledged = task->state == FLEET_RUNNING || task->started_at != 0;
    resume(task);
    if (task->state == FLEET_CANCELING)
        agent_remote_cancel(task);
}

void
agent_remote_cancel(AgentTask *task)
{
    FleetToken token = token_of(task);

    if (!task->acknowledged && fleet_link_withdraw(task->link->link, &token))
    {
        agent_task_finished(task, FLEET_CANCELED);
        return;
    }
    FLEET_POINT("remote_before_cancel");
    fleet_link_cancel(task->link->link, &token, 1);
}

static void
cancel_again(AgentTask *task)
{
    FleetToken token = token_of(task);

    if (task->state == FLEET_CANCELING)
        fleet_link_cancel(task->link->link, &token, 1);
}

void
agent_remote_cancel_again(AgentLink *link)
{
    dlist_iter iter;

    dlist_foreach(iter, &link->tasks)
    {
        cancel_again(dlist_container(AgentTask, link_node, iter.cur));
    }
}

/* Connected again: every token of this link is asked for; cancels are sent again. */
void
agent_remote_up(AgentLink *link)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &link->tasks)
    {
        AgentTask *task = dlist_container(AgentTask, link_node, iter.cur);

        /* the others are still in the link's queue, and are sent now */
        if (task->unclear || task->acknowledged)
            resume(task);
        cancel_again(task);
    }
}

/* It is not there any more, and nothing of it runs: what was being stopped has stopped. */
static void
is_gone(AgentTask *task, const char *sqlstate, const char *reason)
{
    FleetDiagnostics diag = {.sqlstate = sqlstate, .message = reason};

    agent_task_set_result(task, -1, &diag, NULL);
    agent_task_finished(task, task->state == FLEET_CANCELING ? FLEET_CANCELED : FLEET_LOST);
}

/* The server has no extension, so it executes no jobs. */
static bool
executes_nothing(const char *sqlstate)
{
    return fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_INVALID_SCHEMA_NAME);
}

/* What was surely never sent goes back to the engine; the rest waits for the server. */
void
agent_remote_down(AgentLink *link, const char *sqlstate, const char *reason, bool permanent)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &link->tasks)
    {
        AgentTask *task = dlist_container(AgentTask, link_node, iter.cur);
        FleetToken token = token_of(task);

        if (task->over)
            continue;
        if (task->acknowledged || !fleet_link_withdraw(link->link, &token))
        {
            if (permanent && executes_nothing(sqlstate))
                is_gone(task, sqlstate, reason);
            continue;
        }
        if (permanent)
            agent_task_fail(task, sqlstate, reason);
        else
        {
            agent_remote_leave(task);
            agent_task_not_started(task);
        }
        turn_again();
    }
}

void
agent_remote_refused(AgentLink *link)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &link->tasks)
    {
        AgentTask *task = dlist_container(AgentTask, link_node, iter.cur);

        if (task->over)
            continue;
        fleet_hand_take(FLEET_HAND_RUN, task->run->run_id, "work_timer");
        agent_task_finished(task, FLEET_LOST);
    }
}

/* Purged over there, or restored from before it came: it is sent once more.  But not for ever. */
static void
start_lacks(AgentTask *task, AgentLink *link)
{
    if (task->state == FLEET_CANCELING)
        agent_task_finished(task, FLEET_CANCELED);
    else if (agent_task_lacked(task) < LACKED_MAX)
        start_on_link(task, link);
    else
        agent_task_fail(task, FLEET_SQLSTATE_LACKS_DEFINITION,
                        "the server does not keep the definition of the job that it is sent");
}

/* A job that is not defined here: what ran. */
static void
learn_definition(AgentTask *task, const FleetToken *definition)
{
    if (definition == NULL || agent_task_job_sent(task) != NULL)
        return;
    agent_task_set_definition(task, definition);
}

void
agent_remote_started(AgentLink *link, const FleetToken *token, FleetStartResult result,
                     const FleetToken *definition, const char *sqlstate, const char *message)
{
    AgentTask *task = task_on_link(link, token);

    if (task == NULL)
        return;
    fleet_hand_take(FLEET_HAND_RUN, task->run->run_id, "work_answer");
    switch (result)
    {
        case FLEET_STARTED:
            learn_definition(task, definition);
            task->acknowledged = true;
            task->unclear = false;
            (void) fleet_engine_accepted(agent.engine, task->ref, task->attempt, fleet_clock_now());
            break;
        case FLEET_NOT_STARTED:
            /* It was refused there (no such job, no right): the reason is the task's. */
            if (task->state == FLEET_CANCELING)
                agent_task_finished(task, FLEET_CANCELED);
            else
                agent_task_fail(task, sqlstate, message);
            break;
        case FLEET_START_LACKS: start_lacks(task, link); break;
        case FLEET_START_UNCLEAR: task->unclear = true; break;
    }
    turn_again();
}

void
agent_remote_resumed(AgentLink *link, const FleetToken *token, bool known,
                     const FleetToken *definition)
{
    AgentTask *task = task_on_link(link, token);

    if (task == NULL)
        return;
    fleet_hand_take(FLEET_HAND_RUN, task->run->run_id, "work_answer");
    task->unclear = false;
    switch (fleet_token_verdict(task->acknowledged ? FLEET_RUNNING : task->state, known))
    {
        case FLEET_TOKEN_ADOPT:
            learn_definition(task, definition);
            task->acknowledged = true;
            (void) fleet_engine_accepted(agent.engine, task->ref, task->attempt, fleet_clock_now());
            break;
        case FLEET_TOKEN_RESEND: start_on_link(task, link); break;
        case FLEET_TOKEN_LOST:
            if (task->state == FLEET_CANCELING && !task->acknowledged)
            {
                /* Its start may still be under way on the old connection: the cancel leaves a
                 * canceled row there, which this question, behind it, finds. */
                fleet_link_cancel(link->link, token, 1);
                resume(task);
            }
            else
            {
                FleetDiagnostics diag = {.message = "the server came back without this job run"};

                agent_task_set_result(task, -1, &diag, NULL);
                agent_task_finished(task, FLEET_LOST);
            }
            break;
    }
    turn_again();
}

/* ---- reports ---- */

static void
report_step(AgentTask *task, const FleetRemoteStep *step)
{
    FleetStepWrite w = {0};

    w.run_id = task->run->run_id;
    w.task = task->ref.task;
    w.item = task->ref.item;
    w.task_attempt = task->attempt;
    w.step_no = step->step_no;
    w.attempt = step->attempt;
    w.state = (FleetState) step->state;
    w.phase = FLEET_STATE_IS_FINAL(w.state) ? FLEET_EXEC_ENDED : FLEET_EXEC_OPEN;
    w.first_seq = task->log_base + step->first_seq;
    w.last_seq = step->last_seq == 0 ? 0 : task->log_base + step->last_seq;
    w.server_id = task->server->server_id;
    w.row_count = step->row_count;
    w.started_at = step->started_at;
    w.finished_at = step->finished_at;
    w.step = step->step;
    w.diag = step->diag;
    w.output = step->output;
    if (w.first_seq > task->seen_first)
        fleet_step_write_new(&w);
    else if (w.first_seq < task->seen_first ||
             !fleet_state_reaches(FLEET_MACHINE_STEP, task->seen_state, w.state))
    {
        ereport(DEBUG1,
                (errmsg("a report of a step that had ended before is ignored"),
                 errdetail("Run %lld, task %u, item %u, step %d: \"%s\".", (long long) w.run_id,
                           w.task, w.item, w.step_no, fleet_state_name(w.state))));
        return;
    }
    else
    {
        w.old = task->seen_state;
        fleet_step_write(&w);
    }
    agent_remote_seen(task, w.first_seq, w.state);
    agent_task_log_used(task, Max(w.first_seq, w.last_seq));
}

static void
report_line(AgentTask *task, const FleetRemoteLine *line)
{
    FleetLineWrite w = {0};

    w.run_id = task->run->run_id;
    w.task = task->ref.task;
    w.item = task->ref.item;
    w.step_no = line->step_no;
    w.seq = task->log_base + line->seq;
    w.logged_at = line->logged_at;
    w.diag = line->diag;
    if (w.seq <= task->log_line_seq)
        return;                                            /* had it already */
    if (!agent_log_quota_keeps(task->run->owner, &w.diag)) /* its number is the server's */
        w.diag = (FleetDiagnostics){.level = w.diag.level,
                                    .sqlstate = w.diag.sqlstate,
                                    .message = "not kept: its role has logged all that it may in "
                                               "an hour (fleet.quota)"};
    fleet_line_write(&w);
    task->log_line_seq = w.seq;
    agent_task_log_used(task, w.seq);
}

/* Its numbers, counted on from those of earlier attempts, are numbers still. */
static bool
report_fits(const AgentTask *task, const FleetRemoteReport *report)
{
    int highest = report->log_seq;

    for (int i = 0; i < report->nsteps; i++)
        highest = Max(highest, Max(report->steps[i].first_seq, report->steps[i].last_seq));
    for (int i = 0; i < report->nlines; i++)
        highest = Max(highest, report->lines[i].seq);
    return highest < PG_INT32_MAX - task->log_base;
}

void
agent_remote_reported(AgentLink *link, const FleetRemoteReport *report)
{
    AgentTask *task = task_of_token(&report->token);

    if (task == NULL || task->over)
    {
        /* Ended here before: the child need not keep it. */
        if (task == NULL && FLEET_STATE_IS_FINAL((FleetState) report->state))
            fleet_link_acknowledge(link->link, &report->token, 1);
        return;
    }
    fleet_hand_take(FLEET_HAND_RUN, task->run->run_id, "work_report");
    if (!report_fits(task, report))
    {
        agent_task_fail(task, FLEET_SQLSTATE_PROGRAM_LIMIT_EXCEEDED,
                        "the numbers of the log lines of this task run are used up");
        return;
    }
    if (task->reported_turn == turn_number())
        fleet_run_flush(); /* rows of the first report of this turn come first */
    task->reported_turn = turn_number();
    for (int i = 0; i < report->nsteps; i++)
        report_step(task, &report->steps[i]);
    for (int i = 0; i < report->nlines; i++)
        report_line(task, &report->lines[i]);
    agent_run_changed(task->run);
    if (report->started_at != 0)
        agent_task_set_started(task, report->started_at);
    agent_task_waits(task, report->state == FLEET_QUEUED ? report->diag.message : NULL);
    task->acknowledged = true;
    (void) fleet_engine_accepted(agent.engine, task->ref, task->attempt, fleet_clock_now());
    if (FLEET_STATE_IS_FINAL((FleetState) report->state))
    {
        agent_task_set_result(task, report->row_count, &report->diag, report->output);
        task->acknowledge = true;
        agent_task_finished(task, (FleetState) report->state);
        agent_task_set_finished(task, report->finished_at != 0 ? report->finished_at
                                                               : fleet_clock_wall());
    }
    turn_again();
}

/* The end of this task run is durable here. */
void
agent_remote_acknowledge(AgentTask *task)
{
    FleetToken token = token_of(task);

    fleet_link_acknowledge(task->link->link, &token, 1);
}
