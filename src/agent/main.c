/*
 * agent/main.c
 *     The agent's life and its loop.  One a database; see agent.h for the
 *     other files.
 *
 * Single, and always back: life.c.
 *
 * It leaves when asked, and comes back by itself:
 *   - DROP DATABASE, CREATE DATABASE … TEMPLATE, ALTER DATABASE: these send
 *     SIGTERM to autovacuum workers in the database and wait up to 5 s.  The
 *     agent marks its PGPROC as one of them, since it is just as dispensable;
 *   - DROP EXTENSION runs into the ACCESS SHARE lock that the agent keeps on
 *     fleet_catalog.sentinel.  After deadlock_timeout the server sends SIGINT
 *     to a blocking autovacuum worker;
 *   - pg_terminate_backend, an ERROR of its own, a stop of the server.
 *
 * An ERROR in a turn (disk full, a conflict that cannot be) ends the agent:
 * its memory may be ahead of its rows.  Its successor begins with the rows.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "agent/agent.h"
#include "store/session.h"
#include "port.h"
#include "store/spi.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "guc.h"
#include "launcher/launcher.h"
#include "miscadmin.h"
#include "points.h"
#include "pg_fleet.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

/* ---- coming and going ---- */

static void
on_sigint(SIGNAL_ARGS)
{
    int save_errno = errno;

    agent_leave_requested = true;
    SetLatch(MyLatch);
    errno = save_errno;
}

static void
make_structures(void)
{
    FleetEngineConfig config = {.lost_after = FLEET_MS((FleetTime) fleet_guc_lost_after),
                                .local_server = AGENT_LOCAL_SERVER,
                                .local_target = AGENT_LOCAL_TARGET,
                                .max_active_runs = (uint32) fleet_guc_max_active_runs};
    FleetAlloc alloc;

    agent_base_init();
    alloc = agent_alloc(agent.context);
    agent.engine = fleet_engine_create(&alloc, &config, fleet_random_next(&agent.random));
    agent.loop = fleet_loop_create(agent.context);
    dlist_init(&agent.changed);
    dlist_init(&agent.dirty_runs);
    dlist_init(&agent.dirty_tasks);
    dlist_init(&agent.task_effects);
    dlist_init(&agent.notices);
    agent.runs =
        agent_table("pg_fleet runs", sizeof(int64), sizeof(int64) + sizeof(void *), HASH_BLOBS);
    agent.tasks = agent_table("pg_fleet task runs", sizeof(FleetTaskRef),
                              MAXALIGN(sizeof(FleetTaskRef)) + sizeof(void *), HASH_BLOBS);
    local_jobs_init();
    fleet_run_write_init(agent.context);
    agent_servers_init();
    agent_remote_init();
    agent_events_init();
}

/* Makes the identity and the epoch durable before anything is sent with them. */
static void
publish(void)
{
    FleetIdentityRow row;
    uint32 handle;

    agent.shared = fleet_shared_create(&handle);
    fleet_identity_open(MyProcPid, handle, GetWALInsertionTimeLine(), GetSystemIdentifier(),
                        agent.database, &row);
    fleet_catalog_commit();
    strlcpy(agent.identity.uuid, row.uuid, sizeof(agent.identity.uuid));
    agent.identity.epoch = row.epoch;
    strlcpy(agent.identity.name,
            cluster_name != NULL && cluster_name[0] != '\0' ? cluster_name
                                                            : MyBgworkerEntry->bgw_type,
            sizeof(agent.identity.name));
    agent.paused = row.paused != NULL;
    if (agent.paused)
        ereport(LOG, (errmsg("the agent of pg_fleet is paused"), errdetail("%s", row.paused)));
}

static void
load_everything(void)
{
    agent_servers_load();
    if (agent.paused)
        return;
    job_runs_load(NULL, 0);
    agent_runs_load(NULL, 0);
    agent_runs_recovered();
    local_jobs_recovered();
    agent_deployments_send();
    agent_decisions(); /* before any effect: what is canceled is not begun */
    turn_again();
}

/* ---- messages of sessions ---- */

typedef struct Inbox
{
    int64 *run_ids;
    int nruns, runs_capacity;
    int64 *job_ids;
    int njobs, jobs_capacity;
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
        agent_leave_requested = true;
    }
    agent.paused = paused;
}

static void
take_messages(void)
{
    FleetMessage message;
    bool overflow;
    bool everything = false;
    bool servers = false;
    bool deploy = false;
    Inbox inbox = {0};

    while (fleet_shared_take(agent.shared, &message, &overflow))
    {
        everything |= overflow;
        switch (message.kind)
        {
            case FLEET_MESSAGE_RUN:
                inbox_add(&inbox.run_ids, &inbox.nruns, &inbox.runs_capacity, message.id);
                break;
            case FLEET_MESSAGE_JOB_RUN:
                inbox_add(&inbox.job_ids, &inbox.njobs, &inbox.jobs_capacity, message.id);
                break;
            case FLEET_MESSAGE_CANCEL_RUN:
                if (!agent.paused)
                    agent_run_cancel(message.id);
                break;
            case FLEET_MESSAGE_CANCEL_JOB:
                if (!agent.paused)
                    job_run_cancel(message.id);
                break;
            case FLEET_MESSAGE_SERVERS: servers = true; break;
            case FLEET_MESSAGE_DEPLOY: deploy = true; break;
            case FLEET_MESSAGE_IDENTITY: read_identity(); break;
        }
    }
    everything |= overflow;
    if (servers || everything)
        agent_servers_load();
    if (agent.paused)
        return;
    if (everything)
    {
        /* Messages were lost.  What is open and not known here is new; cancels are read with it. */
        job_runs_load(NULL, 0);
        agent_runs_load(NULL, 0);
        agent_cancels_load();
        deploy = true;
    }
    if (inbox.njobs > 0)
        job_runs_load(inbox.job_ids, inbox.njobs);
    if (inbox.nruns > 0)
        agent_runs_load(inbox.run_ids, inbox.nruns);
    if (deploy)
        agent_deployments_send();
}

/* ---- the loop ---- */

static FleetTime
turn(void)
{
    FleetTime now = fleet_clock_now();
    FleetTime next;

    turn_begin();
    FLEET_POINT("agent_before_messages");
    take_messages();
    agent_servers_tidy();
    next = fleet_runner_poll(now);
    next = Min(next, fleet_link_timers(now));
    next = Min(next, local_jobs_timers(now));
    if (!agent.paused)
    {
        local_jobs_runners();
        agent_queries_runners();
        fleet_engine_turn(agent.engine, now);
        agent_decisions();
    }
    if (agent_flush_needed())
        agent_flush();
    return turn_next(Min(next, fleet_engine_wakeup(agent.engine)));
}

static void
loop(void)
{
    while (!agent_leave_requested)
    {
        FleetTime next;

        MemoryContextSwitchTo(agent.turn_context);
        next = turn();
        MemoryContextSwitchTo(agent.turn_context);
        MemoryContextReset(agent.turn_context);
        if (next != 0 && fleet_catalog_is_open())
            next = 0;
        if (agent_leave_requested)
            break;
        if (next != 0)
            pgstat_report_activity(STATE_IDLE, NULL);
        (void) fleet_loop_wait(agent.loop, next, PG_WAIT_EXTENSION);
        if (ConfigReloadPending)
        {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            agent_settings_changed();
        }
    }
}

void
fleet_agent_main(Datum arg)
{
    agent.database = DatumGetObjectId(arg);
    agent.born = fleet_clock_now();
    pqsignal(SIGTERM, die);
    pqsignal(SIGINT, on_sigint);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    agent_home_prepare();
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(agent.database, InvalidOid, 0);
    agent_home_connected();
    pgstat_report_appname("pg_fleet agent");
    SetConfigOption("search_path", "pg_catalog, pg_temp", PGC_SUSET, PGC_S_SESSION);
    /* A short array is joined through an index; statistics must not talk a plan out of it. */
    SetConfigOption("enable_hashjoin", "off", PGC_SUSET, PGC_S_SESSION);
    SetConfigOption("enable_mergejoin", "off", PGC_SUSET, PGC_S_SESSION);
    SetConfigOption("enable_seqscan", "off", PGC_SUSET, PGC_S_SESSION);
    /* Planned once: the custom plan of a short array looks cheaper each time, and is planned anew. */
    SetConfigOption("plan_cache_mode", "force_generic_plan", PGC_SUSET, PGC_S_SESSION);
    SetConfigOption("jit", "off", PGC_SUSET, PGC_S_SESSION);
    SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_SESSION);
    SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_SESSION);
    fleet_transaction_timeout_off();
    SetConfigOption("row_security", "off", PGC_SUSET, PGC_S_SESSION);

    if (!agent_move_in())
        proc_exit(0);
    FLEET_POINT("agent_moved_in");
    make_structures();
    MemoryContextSwitchTo(agent.turn_context);
    publish();
    FLEET_POINT("agent_published");
    load_everything();
    if (fleet_catalog_is_open())
        agent_flush();
    loop();
    proc_exit(0);
}
