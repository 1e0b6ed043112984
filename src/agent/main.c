/*
 * agent/main.c
 *     The agent's loop.  One agent a database: life.c.  What it is made of, and
 *     what a turn does, is in state.h.
 *
 * It leaves when asked, and comes back by itself:
 *   - DROP DATABASE, CREATE DATABASE … TEMPLATE, ALTER DATABASE: these send
 *     SIGTERM to autovacuum workers in the database and wait up to 5 s.  The
 *     agent marks its PGPROC as one of them, since it can be ended just like them;
 *   - DROP EXTENSION runs into the ACCESS SHARE lock that the agent keeps on
 *     fleet_catalog.sentinel.  After deadlock_timeout the server sends SIGINT
 *     to a blocking autovacuum worker.  So it does for whoever waits for a
 *     table that we write, which is no reason to leave (life.c);
 *   - pg_terminate_backend, an ERROR of its own, a stop of the server.
 *
 * An ERROR in a turn (disk full, a conflict that cannot happen) ends the agent:
 * its memory may be ahead of its rows.  Its successor begins with the rows, and
 * knows what this one was working on (quarantine.h).
 */
#include "postgres.h"

#include "access/xact.h"
#include "agent/decide.h"
#include "agent/deploy.h"
#include "agent/events.h"
#include "agent/flush.h"
#include "agent/found.h"
#include "agent/history.h"
#include "agent/inbox.h"
#include "agent/late.h"
#include "agent/learn.h"
#include "agent/life.h"
#include "agent/load.h"
#include "agent/local_job.h"
#include "agent/named.h"
#include "agent/probe.h"
#include "agent/quarantine.h"
#include "agent/quota.h"
#include "agent/query.h"
#include "agent/recover.h"
#include "agent/remote.h"
#include "agent/run.h"
#include "agent/hook.h"
#include "agent/schedule.h"
#include "agent/server.h"
#include "agent/stat.h"
#include "agent/steer.h"
#include "agent/task.h"
#include "agent/waiting.h"
#include "store/deployment.h"
#include "store/spi.h"
#include "guc.h"
#include "launcher/launcher.h"
#include "miscadmin.h"
#include "points.h"
#include "pg_fleet.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "settings.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

static const LocalJobHooks local_job_hooks = {.start_nested = agent_run_nested};
static const AgentRunHooks run_hooks = {.cancel = agent_queries_cancel,
                                        .again = agent_tasks_cancel_again};
static const AgentServerHooks server_hooks = {
    .in_use = local_jobs_use_link, .retired = local_jobs_link_lost, .unasked = agent_probe_again};

/* So many task runs change their rows in one turn because of one cancel: a few hundredths of a second. */
#define CANCEL_SLICE 2048

/* Items of one for_each that the placer knows at a time, and so the most that can run at a time. */
#define CROWD 16384

static void
make_structures(void)
{
    FleetEngineConfig config = {.lost_after = FLEET_MS((FleetTime) fleet_guc_lost_after),
                                .local_server = AGENT_LOCAL_SERVER,
                                .local_target = AGENT_LOCAL_TARGET,
                                .max_active_runs = (uint32) fleet_guc_max_active_runs,
                                .slice = CANCEL_SLICE,
                                .crowd = CROWD};
    FleetAlloc alloc;

    agent_base_init();
    alloc = agent_alloc(agent.context);
    agent.engine = fleet_engine_create(&alloc, &config, fleet_random_next(&agent.random));
    agent.loop = fleet_loop_create(agent.context);
    local_jobs_init(&local_job_hooks);
    fleet_run_write_init(agent.context);
    agent_runs_init(&run_hooks);
    agent_tasks_init();
    agent_remote_init();
    agent_servers_init(&server_hooks);
    agent_schedules_init();
    agent_events_init();
}

static void
load_everything(void)
{
    agent_stat_load();
    agent_quarantine_load();
    agent_found_load();
    agent_servers_load();
    fleet_deployment_forget(0);
    if (agent.paused)
        return;
    agent_learn_names();
    agent_named_read();
    agent_quota_read();
    agent_steer_pause();
    job_runs_load(NULL, 0);
    agent_runs_load(NULL, 0);
    agent_runs_recovered();
    local_jobs_recovered();
    agent_steer_retry();
    agent_deployments_send();
    agent_history_load();
    agent_schedules_load();
    agent_hooks_load();
    agent_decide(); /* before any effect: what is canceled is not begun */
    turn_again();
}

/* ---- the loop ---- */

static FleetTime
turn(void)
{
    FleetTime now = fleet_clock_now();
    FleetTime next;

    turn_begin();
    fleet_hand_empty();
    FLEET_POINT("agent_before_messages");
    agent_inbox_take();
    agent_servers_tidy();
    agent_probe_asked();
    next = agent_links_check(now);
    next = fleet_earlier(next, fleet_runner_poll(now));
    next = fleet_earlier(next, fleet_link_timers(now));
    next = fleet_earlier(next, agent_events_timers(now));
    next = fleet_earlier(next, local_jobs_timers(now));
    next = fleet_earlier(next, local_jobs_blocked(now));
    if (!agent.paused)
    {
        local_jobs_runners();
        agent_queries_turn();
        fleet_engine_turn(agent.engine, now);
        agent_decide();
        agent_waiting_tell();
        next = fleet_earlier(next, agent_history_turn(now));
        next = fleet_earlier(next, agent_late_turn(now));
        next = fleet_earlier(next, agent_probe_turn(now));
        next = fleet_earlier(next, agent_schedules_turn(now));
        next = fleet_earlier(next, agent_hooks_turn(now));
    }
    next = fleet_earlier(next, agent_stat_turn(now));
    if (agent_flush_needed())
        agent_flush();
    agent_probe_answer();
    return turn_next(fleet_earlier(next, fleet_engine_wakeup(agent.engine)));
}

static void
loop(void)
{
    while (!agent_must_leave())
    {
        FleetTime next;

        MemoryContextSwitchTo(agent.turn_context);
        next = turn();
        MemoryContextSwitchTo(agent.turn_context);
        MemoryContextReset(agent.turn_context);
        if (next != 0 && fleet_catalog_is_open())
            next = 0;
        if (agent_must_leave())
            break;
        if (next != 0)
            pgstat_report_activity(STATE_IDLE, NULL);
        (void) fleet_loop_wait(agent.loop, next, PG_WAIT_EXTENSION);
        if (ConfigReloadPending)
        {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            fleet_settings_reloaded();
            agent_settings_changed();
        }
    }
}

static void
live(void)
{
    load_everything();
    if (fleet_catalog_is_open())
        agent_flush();
    loop();
}

void
fleet_agent_main(Datum arg)
{
    agent.database = DatumGetObjectId(arg);
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    agent_home_prepare();
    BackgroundWorkerUnblockSignals();
    fleet_worker_connect(agent.database);
    agent_home_connected();
    pgstat_report_appname("pg_fleet agent");

    if (!agent_claim_database())
        proc_exit(0);
    FLEET_POINT("agent_moved_in");
    make_structures();
    MemoryContextSwitchTo(agent.turn_context);
    agent_publish();
    FLEET_POINT("agent_published");
    agent_quarantine_guard(live, agent_home_aborted);
    proc_exit(0);
}
