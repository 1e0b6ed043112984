/*
 * runner/main.c
 *     Process main of a runner: a background worker that is connected to the
 *     database as the role whose steps it runs, and takes them from the
 *     agent's queue one after another.  Started by runner/pool.c.
 *
 *     starting   attached to the segment, connecting; why that fails is told
 *                as FATAL
 *     idle       waits for a message; ends when told to, or when the agent is
 *                gone and nothing of the last request is left to be told
 *     taken      has a request; SIGINT cancels it
 *     prepared   the command is done, its transaction id is reported; commits
 *                only when told to
 *
 * The agent may send COMMIT and the next REQUEST together.  Only an agent that
 * is there is given a request's work: what a gone one left in the ring is
 * dropped, and that agent's successor will send it itself.
 */
#include "postgres.h"

#include "libpq/pqsignal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "points.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "runner/port.h"
#include "runner/runner.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procsignal.h"
#include "storage/sinval.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

static bool session_used = false; /* a job ran here: clean it before the next one */

/* ---- start ---- */

static void
handle_sigint(SIGNAL_ARGS)
{
    int save_errno = errno;

    if (fleet_runner_cancels_request())
        StatementCancelHandler(postgres_signal_arg);
    errno = save_errno;
}

static void
start_runner(Datum arg)
{
    RunnerParams params;

    memcpy(&params, MyBgworkerEntry->bgw_extra, sizeof(params));
    MemoryContextSwitchTo(TopMemoryContext);
    fleet_runner_channel_open(DatumGetUInt32(arg), &params);
    fleet_runner_capture_messages();
    pqsignal(SIGTERM, die);
    pqsignal(SIGINT, handle_sigint);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();

    BackgroundWorkerInitializeConnectionByOid(params.database, params.role, 0);
    fleet_runner_port_make();
    process_session_preload_libraries(); /* as for any login of this role */
    MessageContext =
        AllocSetContextCreate(TopMemoryContext, "MessageContext", ALLOCSET_DEFAULT_SIZES);
    SetConfigOption("application_name", FLEET_RUNNER_TYPE, PGC_USERSET, PGC_S_DYNAMIC_DEFAULT);
    /* As a client would ask for it at its login, whatever a role, a database or the environment says: a
     * message with a character that another encoding lacks would be an error of the step. */
    SetConfigOption("client_encoding", GetDatabaseEncodingName(), PGC_USERSET, PGC_S_CLIENT);
    fleet_runner_channel_connected();
}

/* ---- loop ---- */

/* What PostgresMain does between two commands, then sleep. */
static void
wait_for_message(void)
{
    long stats_ms;

    pgstat_report_activity(STATE_IDLE, NULL);
    stats_ms = pgstat_report_stat(false);
    if (stats_ms <= 0)
        stats_ms = fleet_runner_patience_ms();
    if (WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (stats_ms > 0 ? WL_TIMEOUT : 0),
                  stats_ms, PG_WAIT_EXTENSION) &
        WL_TIMEOUT)
        pgstat_report_stat(true);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
    if (catchupInterruptPending)
        ProcessCatchupInterrupt();
    if (ConfigReloadPending)
    {
        ConfigReloadPending = false;
        ProcessConfigFile(PGC_SIGHUP);
    }
}

/* Takes the request over into our memory, runs it, and is idle again. */
static void
take_request(const RunnerMessage *message)
{
    RunnerMessage request = *message;
    bool alive;

    MemoryContextReset(MessageContext);
    MemoryContextSwitchTo(MessageContext);
    for (int i = 0; i < RUNNER_TEXTS; i++)
        if (request.text[i])
            request.text[i] = pstrdup(request.text[i]);

    if (request.fresh && session_used)
        fleet_runner_clean_session();
    session_used = true;

    QueryCancelPending = false;
    fleet_runner_channel_take(&request);
    fleet_runner_log_target(request.number, request.ref);
    alive = fleet_runner_execute(&request);
    fleet_runner_log_target(0, 0);
    fleet_runner_channel_idle();
    QueryCancelPending = false;
    if (!alive)
        proc_exit(0);
}

void
fleet_runner_main(Datum arg)
{
    RunnerMessage message;

    start_runner(arg);
    FLEET_POINT("runner_started");
    for (;;)
    {
        CHECK_FOR_INTERRUPTS();
        if (fleet_runner_receive(&message))
        {
            if (message.kind == RUNNER_END)
                proc_exit(0);
            if (message.kind == RUNNER_REQUEST && fleet_runner_is_wanted(&message))
                take_request(&message);
            /* else of an agent that is gone, or a COMMIT of a request that has ended meanwhile */
        }
        else if (fleet_runner_is_done())
            proc_exit(0);
        else
            wait_for_message();
    }
}
