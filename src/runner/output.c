/*
 * runner/output.c
 *     What a runner's command says besides its result: messages.  In the
 *     runner's process; called by elog through PqCommMethods, and by runner/main.c
 *     and runner/exec.c.
 *
 * The server believes that it has a client ("DestRemote"), so that
 * client_min_messages decides which messages go out, just as in psql; but the
 * protocol's messages end here.  A notice is taken from the error stack in
 * the database's own encoding, whatever client_encoding the command has set,
 * and goes to the agent at once.  Errors are not sent from here: the executor
 * reports them when the transaction is surely rolled back.  What ends the
 * process, a FATAL or an error outside of a request, is the last that it can
 * say, and goes out.
 */
#include "postgres.h"

/*
 * Of libpq.h only the table of callbacks is used, never a Port; without these two it needs no
 * headers of Kerberos and OpenSSL, which a machine that builds extensions may lack.
 */
#undef ENABLE_GSS
#undef USE_OPENSSL
#include "libpq/libpq.h"
#include "mb/pg_wchar.h"
#include "runner/runner.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"

static uint64 target_number = 0; /* the request that lines belong to */
static uint64 target_ref = 0;
static uint64 line = 0;   /* number of the last one sent of this request */
static int64 lines = 0;   /* of this request, that the command said */
static int64 dropped = 0; /* of this request, not sent and not yet said so */
static bool sending = false;
static MemoryContext line_context = NULL;

void
fleet_runner_say_error(RunnerMessage *message, const ErrorData *error)
{
    FleetDiagnostics diag;

    fleet_diagnostics_of_error(&diag, error);
    fleet_runner_message_say(message, &diag);
}

void
fleet_runner_log_target(uint64 number, uint64 ref)
{
    target_number = number;
    target_ref = ref;
    line = 0;
    lines = dropped = 0;
}

void
fleet_runner_log(const char *level, const char *sqlstate, const char *text)
{
    FleetDiagnostics diag = {.level = level, .sqlstate = sqlstate, .message = text};
    RunnerMessage message;

    fleet_runner_message_init(&message, RUNNER_LOG, target_number, target_ref);
    fleet_runner_message_say(&message, &diag);
    message.line = ++line;
    fleet_runner_send(&message, true);
}

void
fleet_runner_log_finish(void)
{
    char text[128];

    if (dropped > 0)
    {
        snprintf(text, sizeof(text), INT64_FORMAT " further lines of this step were not kept",
                 dropped);
        fleet_runner_log("WARNING", FLEET_SQLSTATE_WARNING, text);
    }
    dropped = 0;
}

/*
 * To the server's log, like any session's error.  On its way to a client it would be converted,
 * and what client_encoding lacks would be an error within the error.
 */
void
fleet_runner_emit_error(void)
{
    int client = pg_get_client_encoding();

    (void) SetClientEncoding(PG_SQL_ASCII);
    EmitErrorReport();
    (void) SetClientEncoding(client);
}

/* The message that elog is just now reporting. */
static void
forward_message(bool is_error)
{
    MemoryContext before;
    ErrorData *error;
    RunnerMessage message;

    if (sending || line_context == NULL)
        return;
    if (!is_error && target_number == 0)
        return;
    if (!is_error && lines >= FLEET_LOG_LINES_MAX)
    {
        dropped++;
        return;
    }
    if (!is_error)
        lines++;
    sending = true;
    before = MemoryContextSwitchTo(line_context);
    error = CopyErrorData();
    if (!is_error || error->elevel >= FATAL || target_number == 0)
    {
        fleet_runner_message_init(&message, is_error ? RUNNER_FATAL : RUNNER_LOG, target_number,
                                  target_ref);
        fleet_runner_say_error(&message, error);
        if (!is_error)
            message.line = ++line;
        fleet_runner_send(&message, true);
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(line_context);
    sending = false;
}

static int
capture_putmessage(char type, const char *data, size_t length)
{
    switch (type)
    {
        case 'N':
        case 'E': forward_message(type == 'E'); break;
        case 'G': /* COPY FROM STDIN, TO STDOUT, or both: there is no client to copy from or to */
        case 'H':
        case 'W':
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("COPY FROM STDIN and COPY TO STDOUT are not possible in a step"),
                            errhint("Copy from or to a file on the server.")));
            break;
        default: /* an open set of letters, none of which concerns us */ break;
    }
    return 0;
}

static void
capture_putmessage_noblock(char type, const char *data, size_t length)
{
    capture_putmessage(type, data, length);
}

static void
capture_nothing(void)
{
}

static int
capture_flush(void)
{
    return 0;
}

static bool
capture_is_send_pending(void)
{
    return false;
}

static const PQcommMethods capture_methods = {
    .comm_reset = capture_nothing,
    .flush = capture_flush,
    .flush_if_writable = capture_flush,
    .is_send_pending = capture_is_send_pending,
    .putmessage = capture_putmessage,
    .putmessage_noblock = capture_putmessage_noblock,
};

void
fleet_runner_capture_messages(void)
{
    line_context =
        AllocSetContextCreate(TopMemoryContext, "fleet runner line", ALLOCSET_DEFAULT_SIZES);
    PqCommMethods = &capture_methods;
    whereToSendOutput = DestRemote;
    FrontendProtocol = PG_PROTOCOL_LATEST;
}
