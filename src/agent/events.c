/*
 * agent/events.c
 *     What links, runners and sessions tell the agent: the callback tables
 *     that it hands to them, and to whom each event goes.
 *
 * In the agent's process.  Links and sessions call from fleet_loop_wait(),
 * runners from fleet_runner_poll().  Runs on another agent are found again by
 * their token, requests to executors and resolves by a number that is never
 * given twice (agent_request_new()): an answer that comes late finds what it
 * belongs to, or nothing.
 */
#include "postgres.h"

#include "agent/events.h"
#include "agent/deploy.h"
#include "agent/health.h"
#include "agent/local_job.h"
#include "agent/probe.h"
#include "agent/query.h"
#include "agent/remote.h"
#include "agent/hook.h"
#include "agent/schedule.h"
#include "agent/server.h"
#include "hand.h"

/* ---- links ---- */

/* Until it is known whose the event is, it is the server's.  A server in quarantine is not in hand:
 * nothing of what it says is worked on. */
static AgentLink *
owner_of(FleetServerLink *server_link)
{
    AgentLink *link = fleet_link_owner(server_link);

    if (link->server->held == NULL)
        fleet_hand_take(FLEET_HAND_SERVER, link->server->server_id, "work_link");
    return link;
}

static AgentLink *
heard_of(FleetServerLink *server_link)
{
    AgentLink *link = owner_of(server_link);

    agent_server_heard(link->server);
    return link;
}

static void
link_up(FleetServerLink *server_link, const FleetLinkIdentity *identity)
{
    FleetHand before = fleet_hand;
    AgentLink *link = owner_of(server_link);

    agent_link_up(link, identity);
    agent_probe_told(link, NULL, NULL);
    if (link->agent_mode)
        agent_remote_up(link);
    else
        local_jobs_sessions(link);
    fleet_hand = before;
}

static void
link_down(FleetServerLink *server_link, const char *sqlstate, const char *reason, bool permanent)
{
    FleetHand before = fleet_hand;
    AgentLink *link = owner_of(server_link);

    agent_link_down(link, sqlstate, reason, permanent);
    agent_probe_told(link, sqlstate, reason);
    if (link->agent_mode)
        agent_remote_down(link, sqlstate, reason, permanent);
    else if (permanent)
    {
        local_jobs_link_untold(link);
        local_jobs_link_refused(link, sqlstate, reason);
    }
    else
        local_jobs_link_lost(link);
    agent_link_suspect(link, permanent);
    fleet_hand = before;
}

static void
link_trouble(FleetServerLink *server_link, const char *what, const char *reason)
{
    FleetHand before = fleet_hand;

    agent_link_trouble(owner_of(server_link), what, reason);
    fleet_hand = before;
}

static void
link_cancel_again(FleetServerLink *server_link)
{
    FleetHand before = fleet_hand;

    agent_remote_cancel_again(owner_of(server_link));
    fleet_hand = before;
}

static void
link_started(FleetServerLink *link, const FleetToken *token, FleetStartResult result,
             const FleetToken *definition, const char *sqlstate, const char *message)
{
    FleetHand before = fleet_hand;

    agent_remote_started(heard_of(link), token, result, definition, sqlstate, message);
    fleet_hand = before;
}

static void
link_resumed(FleetServerLink *link, const FleetToken *token, bool known,
             const FleetToken *definition)
{
    FleetHand before = fleet_hand;

    agent_remote_resumed(heard_of(link), token, known, definition);
    fleet_hand = before;
}

static void
link_reported(FleetServerLink *link, const FleetRemoteReport *report)
{
    FleetHand before = fleet_hand;

    agent_remote_reported(heard_of(link), report);
    fleet_hand = before;
}

static void
link_deployed(FleetServerLink *link, uint64 ref, bool ok, const char *sqlstate, const char *message)
{
    FleetHand before = fleet_hand;

    agent_deployed(ref, ok, message);
    fleet_hand = before;
}

static void
link_session(FleetServerLink *link)
{
    FleetHand before = fleet_hand;

    local_jobs_sessions(heard_of(link));
    fleet_hand = before;
}

static void
link_clean(FleetServerLink *link)
{
    FleetHand before = fleet_hand;

    local_jobs_link_clean(owner_of(link));
    fleet_hand = before;
}

static void
link_resolved(FleetServerLink *link, uint64 ref, FleetXactStatus status)
{
    FleetHand before = fleet_hand;
    AgentRequest *request = agent_request_find(ref);

    turn_again();
    if (request != NULL && request->kind == REQUEST_LOCAL_JOB)
        local_job_resolved(request->owner, status);
    fleet_hand = before;
}

static void
give_up(AgentLink *link)
{
    if (link->agent_mode)
        agent_remote_refused(link);
    else
        local_jobs_link_given_up(link);
}

FleetTime
agent_events_timers(FleetTime now)
{
    FleetTime next = agent_links_refused(now, give_up);

    fleet_hand_empty();
    return next;
}

/* ---- executors ---- */

static void
executor_event(void *arg, FleetExecutor *executor, const FleetExecutorEvent *event)
{
    FleetHand before = fleet_hand;
    AgentRequest *request = agent_request_find(event->ref);

    turn_again();
    if (request == NULL)
        return; /* given up meanwhile */
    if (request->kind == REQUEST_LOCAL_JOB)
    {
        AgentLink *link = local_job_link(request->owner);

        if (link != NULL)
            agent_server_heard(link->server);
        local_job_event(request->owner, executor, event);
    }
    else if (request->kind == REQUEST_QUERY)
        agent_query_event(request->owner, executor, event);
    else if (request->kind == REQUEST_SCHEDULE)
        agent_schedule_event(request->owner, event);
    else if (request->kind == REQUEST_HOOK)
        agent_hook_event(request->owner, event);
    fleet_hand = before;
}

void
agent_events_init(void)
{
    static const FleetExecutorSink sink = {.event = executor_event};
    const FleetLinkCallbacks callbacks = {
        .up = link_up,
        .down = link_down,
        .trouble = link_trouble,
        .cancel_again = link_cancel_again,
        .started = link_started,
        .resumed = link_resumed,
        .reported = link_reported,
        .deployed = link_deployed,
        .session = link_session,
        .clean = link_clean,
        .resolved = link_resolved,
        .sessions = sink,
    };

    fleet_link_init(&callbacks);
    fleet_runner_pool_init(agent.context, agent.database, &sink);
}
