/*
 * agent/inbox.c
 *     Messages of sessions: what they committed is read from the rows that
 *     the messages name.  In the agent's process.
 */
#include "postgres.h"

#include "agent/inbox.h"
#include "agent/deploy.h"
#include "agent/history.h"
#include "agent/learn.h"
#include "agent/life.h"
#include "agent/limits.h"
#include "agent/load.h"
#include "agent/local_job.h"
#include "agent/named.h"
#include "agent/quarantine.h"
#include "agent/quota.h"
#include "agent/recover.h"
#include "agent/run.h"
#include "agent/hook.h"
#include "agent/schedule.h"
#include "agent/server.h"
#include "agent/stat.h"
#include "agent/steer.h"
#include "hand.h"
#include "store/run_read.h"
#include "store/identity.h"
#include "mailbox/mailbox.h"
#include "store/session.h"

typedef struct Inbox
{
    int64 *run_ids;
    int nruns, runs_capacity;
    int64 *job_ids;
    int njobs, jobs_capacity;
    int64 *skip_ids;
    int nskips, skips_capacity;
    bool everything; /* messages were lost */
    /* what is to be read again */
    bool servers, deploy, identity, pause, renamed, limits, schedules, hooks, lifted, retry;
} Inbox;

static void
inbox_add(int64 **ids, int *n, int *capacity, int64 id)
{
    if (*n == *capacity)
    {
        *capacity = *capacity == 0 ? 64 : *capacity * 2;
        *ids = *ids == NULL ? palloc(sizeof(int64) * *capacity)
                            : repalloc(*ids, sizeof(int64) * *capacity);
    }
    (*ids)[(*n)++] = id;
}

static void
read_identity(void)
{
    bool paused = fleet_identity_paused() != NULL;

    if (agent.paused && !paused)
    {
        /* Which of the two it is may have changed the identity: begin anew with it. */
        agent_leave();
    }
    agent.paused = paused;
}

/* All durable cancels of open runs and job runs. */
static void
cancels_load(void)
{
    FleetRunRow *runs;
    FleetJobRunRow *jobs;
    int n = fleet_run_read(NULL, 0, &runs);

    for (int i = 0; i < n; i++)
    {
        if (runs[i].cancel_final)
            agent_run_cancel_all(runs[i].run_id);
        else if (runs[i].cancel)
            agent_run_cancel(runs[i].run_id);
    }
    n = fleet_job_run_read(NULL, 0, &jobs);
    for (int i = 0; i < n; i++)
    {
        if (jobs[i].cancel)
            job_run_cancel(jobs[i].job_run_id);
    }
    fleet_hand_empty();
}

static void
skips_again(AgentRun *run)
{
    agent_steer_skip(run->run_id);
}

/* Messages were lost, or something was left alone until now.  What is open and not known here is new,
 * or has begun under another agent; cancels are read with it. */
static void
read_open(void)
{
    job_runs_load(NULL, 0);
    agent_runs_load(NULL, 0);
    agent_runs_recovered();
    local_jobs_recovered();
    cancels_load();
    agent_runs_each(skips_again);
}

/* What the messages name. */
static void
inbox_load(const Inbox *inbox)
{
    if (inbox->njobs > 0)
        job_runs_load(inbox->job_ids, inbox->njobs);
    if (inbox->nruns > 0)
        agent_runs_load(inbox->run_ids, inbox->nruns);
    for (int i = 0; i < inbox->nskips; i++)
    {
        if (i == 0 || inbox->skip_ids[i] != inbox->skip_ids[i - 1]) /* many of one run: once */
            agent_steer_skip(inbox->skip_ids[i]);
    }
}

static void
cancel_take(const FleetMessage *message)
{
    if (agent.paused)
        return;
    if (message->kind == FLEET_MESSAGE_CANCEL_RUN)
        agent_run_cancel(message->id);
    else if (message->kind == FLEET_MESSAGE_CANCEL_FINAL)
        agent_run_cancel_all(message->id);
    else
        job_run_cancel(message->id);
}

static void
definitions_load(bool renamed, bool pause, bool schedules)
{
    if (renamed)
        agent_learn_names();
    if (pause)
        agent_steer_pause();
    if (schedules || pause)
        agent_schedules_load();
}

/* Takes the messages that have come: what they name, and what is to be read again. */
static void
inbox_read(Inbox *inbox)
{
    FleetMessage message;
    bool overflow;

    while (fleet_shared_take(agent.shared, &message, &overflow))
    {
        inbox->everything |= overflow;
        switch (message.kind)
        {
            case FLEET_MESSAGE_RUN:
                inbox_add(&inbox->run_ids, &inbox->nruns, &inbox->runs_capacity, message.id);
                break;
            case FLEET_MESSAGE_JOB_RUN:
                inbox_add(&inbox->job_ids, &inbox->njobs, &inbox->jobs_capacity, message.id);
                break;
            case FLEET_MESSAGE_CANCEL_RUN:
            case FLEET_MESSAGE_CANCEL_FINAL:
            case FLEET_MESSAGE_CANCEL_JOB: cancel_take(&message); break;
            case FLEET_MESSAGE_SERVERS: inbox->servers = true; break;
            case FLEET_MESSAGE_DEPLOY: inbox->deploy = true; break;
            case FLEET_MESSAGE_IDENTITY: inbox->identity = true; break;
            case FLEET_MESSAGE_QUARANTINE: inbox->lifted = true; break;
            case FLEET_MESSAGE_SKIP:
                inbox_add(&inbox->skip_ids, &inbox->nskips, &inbox->skips_capacity, message.id);
                break;
            case FLEET_MESSAGE_RETRY: inbox->retry = true; break;
            case FLEET_MESSAGE_PURGE: agent_history_now(); break;
            case FLEET_MESSAGE_PAUSE: inbox->pause = true; break;
            case FLEET_MESSAGE_RENAMED: inbox->renamed = true; break;
            case FLEET_MESSAGE_LIMITS: inbox->limits = true; break;
            case FLEET_MESSAGE_SCHEDULES: inbox->schedules = true; break;
            case FLEET_MESSAGE_HOOKS: inbox->hooks = true; break;
            case FLEET_MESSAGE_STAT_RESET: agent_stat_reset(); break;
        }
    }
    fleet_hand_empty();
    inbox->everything |= overflow;
}

void
agent_inbox_take(void)
{
    Inbox inbox = {0};

    inbox.retry = agent_steer_retry_waits();
    inbox.renamed = agent_learn_names_left();
    inbox.lifted = agent_quarantine_over(fleet_clock_now());
    inbox_read(&inbox);
    if (inbox.everything)
        agent_stat_reset();
    if (inbox.identity || inbox.everything)
        read_identity();
    if (inbox.lifted || inbox.everything)
        agent_quarantine_load_again();
    if (inbox.servers || inbox.lifted || inbox.everything)
        agent_servers_load();
    if (agent.paused)
        return;
    if (inbox.limits || inbox.everything)
    {
        agent_named_read();
        agent_quota_read();
    }
    definitions_load(inbox.renamed || inbox.everything,
                     /* a server may have come into a group */
                     inbox.pause || inbox.servers || inbox.everything,
                     inbox.schedules || inbox.everything);
    if (inbox.hooks || inbox.renamed || inbox.everything)
        agent_hooks_load();
    if (inbox.lifted || inbox.everything)
    {
        read_open();
        inbox.deploy = true;
    }
    inbox_load(&inbox);
    if (inbox.limits || inbox.everything)
        agent_limits_read();
    if (inbox.retry || inbox.everything)
        agent_steer_retry();
    if (inbox.deploy)
        agent_deployments_send();
}
