/*
 * runner/exec.c
 *     Runs the SQL text of one request with the semantics that psql gives to
 *     the same text, and reports how it ended.  Called by runner/main.c, in the
 *     runner's process.
 *
 * transactional        one transaction block around the whole text: begin,
 *                      run, assign and report the transaction id, wait for
 *                      the agent's word, commit.  A text that cannot run so,
 *                      seen in its parse tree, in what it calls (look.c) or
 *                      by the errors 25001 and 2D000, is reported as
 *                      NOT_TRANSACTIONAL, with nothing done.
 * not transactional    the simple query protocol's rules: several statements
 *                      are one implicit transaction, unless the text itself
 *                      begins and ends transactions.
 * query                a read-only transaction, always rolled back; rows go
 *                      to the agent.
 *
 * An error ends any of them: the transaction is rolled back first, and only
 * then reported.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/discard.h"
#include "compat.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "jit/jit.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "points.h"
#include "replication/slot.h"
#include "runner/look.h"
#include "runner/runner.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"

#define QUERY_ROWS_MAX 1000000
#define QUERY_BYTES_MAX                                                                            \
    ((uint64) 256 * 1024 * 1024) /* of all rows: the agent keeps them until they are stored */

typedef struct RunnerStep
{
    const RunnerMessage *request;
    const char *command;
    bool in_transaction; /* StartTransactionCommand() was called and not yet its end */
    bool prepared;       /* the id is reported: no way back to "not transactional" */
    int64 row_count;     /* of the last statement; -1: it has none */
    char *output;        /* first column of the first row of the last result */
} RunnerStep;

/* ---- transactions, as postgres.c has them ---- */

static void
start_transaction(RunnerStep *step)
{
    if (!step->in_transaction)
    {
        StartTransactionCommand();
        step->in_transaction = true;
        MemoryContextSwitchTo(MessageContext);
    }
    if (StatementTimeout > 0 && !get_timeout_active(STATEMENT_TIMEOUT))
        enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
}

static void
stop_statement_timeout(void)
{
    if (get_timeout_active(STATEMENT_TIMEOUT))
        disable_timeout(STATEMENT_TIMEOUT, false);
}

static void
finish_transaction(RunnerStep *step)
{
    stop_statement_timeout();
    if (step->in_transaction)
    {
        CommitTransactionCommand();
        step->in_transaction = false;
        MemoryContextSwitchTo(MessageContext);
    }
}

static void
roll_back(RunnerStep *step)
{
    stop_statement_timeout();
    AbortOutOfAnyTransaction();
    step->in_transaction = false;
    MemoryContextSwitchTo(MessageContext);
}

/* Begins a transaction block: what runs in it sees the same as after BEGIN in psql. */
static void
begin_block(RunnerStep *step)
{
    StartTransactionCommand();
    BeginTransactionBlock();
    CommitTransactionCommand();
    start_transaction(step);
}

/* What a step is told in settings; values are those of a request, or NULL: back to the default. */
static const struct
{
    const char *name;
    RunnerText text;
} told[] = {{"fleet.params", RUNNER_TEXT_PARAMS}, {"fleet.context", RUNNER_TEXT_OF}};

static void
tell_step(const RunnerMessage *request, GucAction action)
{
    for (size_t i = 0; i < lengthof(told); i++)
        (void) set_config_option(told[i].name, request ? request->text[told[i].text] : NULL,
                                 PGC_USERSET, PGC_S_SESSION, action, true, 0, false);
}

/* ---- where results go ---- */

/* A step keeps one value of all its rows; a query sends each of them. */
typedef struct RunnerReceiver
{
    DestReceiver pub;
    RunnerStep *step;
    FmgrInfo output; /* of the first column */
    TupleDesc row;   /* query whose rows are made objects: its blessed row type */
    MemoryContext row_context;
    bool started;
    uint64 rows, bytes;
} RunnerReceiver;

/* Rows become JSON objects, whose keys are the columns: each needs a name of its own. */
static void
check_names(TupleDesc type)
{
    for (int i = 0; i < type->natts; i++)
    {
        const char *name = NameStr(TupleDescAttr(type, i)->attname);

        if (strcmp(name, "?column?") == 0)
            ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                            errmsg("column %d of the query has no name", i + 1),
                            errhint("Name it: SELECT ... AS name.")));
        for (int k = 0; k < i; k++)
        {
            if (strcmp(name, NameStr(TupleDescAttr(type, k)->attname)) == 0)
                ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                                errmsg("two columns of the query are named \"%s\"", name),
                                errhint("Name one of them otherwise: SELECT ... AS name.")));
        }
    }
}

/* One value that is an object by itself, or is to be told as it is. */
static bool
is_told_as_it_is(const RunnerReceiver *receiver, TupleDesc type)
{
    Oid base;

    if (receiver->step->request->request_kind == FLEET_REQUEST_CONDITION)
        return true;
    if (type->natts != 1)
        return false;
    base = getBaseType(TupleDescAttr(type, 0)->atttypid);
    return base == JSONBOID || base == JSONOID;
}

static void
receiver_startup(DestReceiver *self, int operation, TupleDesc type)
{
    RunnerReceiver *receiver = (RunnerReceiver *) self;
    MemoryContext before = MemoryContextSwitchTo(MessageContext);
    Oid function;
    bool varlena;

    (void) operation;
    receiver->started = true;
    receiver->rows = 0;
    receiver->step->output = NULL;
    receiver->output.fn_oid = InvalidOid;
    if (type->natts > 0)
    {
        getTypeOutputInfo(TupleDescAttr(type, 0)->atttypid, &function, &varlena);
        fmgr_info(function, &receiver->output);
    }
    receiver->row = NULL;
    if (receiver->row_context != NULL && !is_told_as_it_is(receiver, type))
    {
        check_names(type);
        receiver->row = BlessTupleDesc(CreateTupleDescCopy(type));
    }
    MemoryContextSwitchTo(before);
}

static bool
receive_step_row(TupleTableSlot *slot, DestReceiver *self)
{
    RunnerReceiver *receiver = (RunnerReceiver *) self;
    bool isnull;
    Datum value;
    MemoryContext before;

    if (receiver->rows++ > 0 || !OidIsValid(receiver->output.fn_oid))
        return true;
    value = slot_getattr(slot, 1, &isnull);
    if (isnull)
        return true;
    before = MemoryContextSwitchTo(MessageContext);
    receiver->step->output =
        fleet_clip(OutputFunctionCall(&receiver->output, value), FLEET_OUTPUT_MAX);
    MemoryContextSwitchTo(before);
    return true;
}

/* to_jsonb(row) */
static char *
row_as_jsonb(TupleTableSlot *slot, TupleDesc row)
{
    bool should_free;
    HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, &should_free);
    Datum json = DirectFunctionCall1(row_to_json, heap_copy_tuple_as_datum(tuple, row));
    Datum jsonb = DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json)));

    return DatumGetCString(DirectFunctionCall1(jsonb_out, jsonb));
}

static bool
receive_query_row(TupleTableSlot *slot, DestReceiver *self)
{
    RunnerReceiver *receiver = (RunnerReceiver *) self;
    const RunnerMessage *request = receiver->step->request;
    MemoryContext before = MemoryContextSwitchTo(receiver->row_context);
    RunnerMessage message;
    const char *text = NULL;
    bool isnull;

    if (++receiver->rows > QUERY_ROWS_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the query gives more than %d rows", QUERY_ROWS_MAX)));
    if (receiver->row)
        text = row_as_jsonb(slot, receiver->row);
    else
    {
        Datum value = slot_getattr(slot, 1, &isnull);

        if (!isnull)
            text = OutputFunctionCall(&receiver->output, value);
    }
    if (text && strlen(text) > FLEET_OUTPUT_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("row %llu of the query is larger than %d bytes",
                               (unsigned long long) receiver->rows, FLEET_OUTPUT_MAX)));
    receiver->bytes += text ? strlen(text) : 0;
    if (receiver->bytes > QUERY_BYTES_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("the rows of the query are larger than %d MB",
                               (int) (QUERY_BYTES_MAX / (1024 * 1024)))));
    fleet_runner_message_init(&message, RUNNER_ROW, request->number, request->ref);
    message.text[RUNNER_TEXT_OUTPUT] = text;
    FLEET_POINT("runner_query_row");
    if (!fleet_runner_send(&message, false))
        ereport(ERROR, (errcode(ERRCODE_ADMIN_SHUTDOWN), errmsg("the agent is gone")));
    MemoryContextSwitchTo(before);
    MemoryContextReset(receiver->row_context);
    return true;
}

static void
receiver_nothing(DestReceiver *self)
{
    (void) self;
}

static RunnerReceiver *
receiver_create(RunnerStep *step, bool query)
{
    RunnerReceiver *receiver = palloc0(sizeof(RunnerReceiver));

    receiver->pub.receiveSlot = query ? receive_query_row : receive_step_row;
    receiver->pub.rStartup = receiver_startup;
    receiver->pub.rShutdown = receiver_nothing;
    receiver->pub.rDestroy = receiver_nothing;
    receiver->pub.mydest = DestNone;
    receiver->step = step;
    if (query)
        receiver->row_context =
            AllocSetContextCreate(MessageContext, "fleet query row", ALLOCSET_DEFAULT_SIZES);
    return receiver;
}

/* ---- statements ---- */

static bool
has_concurrently(List *params)
{
    ListCell *cell;

    foreach (cell, params)
    {
        DefElem *option = lfirst_node(DefElem, cell);

        if (strcmp(option->defname, "concurrently") == 0)
            return defGetBoolean(option);
    }
    return false;
}

/* Statements that are known beforehand to refuse a transaction block, or to end it.  What a procedure
 * or a DO block does is looked at in look.c; what cannot be seen there is found by its error. */
static bool
fits_transaction(const Node *statement)
{
    if (IsA(statement, TransactionStmt) || IsA(statement, CreatedbStmt) ||
        IsA(statement, DropdbStmt) || IsA(statement, CreateTableSpaceStmt) ||
        IsA(statement, DropTableSpaceStmt) || IsA(statement, AlterSystemStmt))
        return false;
    if (IsA(statement, VacuumStmt))
        return !((const VacuumStmt *) statement)->is_vacuumcmd;
    if (IsA(statement, IndexStmt))
        return !((const IndexStmt *) statement)->concurrent;
    if (IsA(statement, DropStmt))
        return !((const DropStmt *) statement)->concurrent;
    if (IsA(statement, DiscardStmt))
        return ((const DiscardStmt *) statement)->target != DISCARD_ALL;
    if (IsA(statement, ClusterStmt))
        return ((const ClusterStmt *) statement)->relation != NULL;
    if (IsA(statement, ReindexStmt))
    {
        const ReindexStmt *reindex = (const ReindexStmt *) statement;

        return (reindex->kind == REINDEX_OBJECT_INDEX || reindex->kind == REINDEX_OBJECT_TABLE) &&
               !has_concurrently(reindex->params);
    }
    return true;
}

/* Parses the text.  *transactional: could all of it run in one transaction? */
static List *
parse_command(const char *command, bool *transactional)
{
    List *statements = pg_parse_query(command);
    ListCell *cell;

    *transactional = true;
    foreach (cell, statements)
    {
        const Node *statement = lfirst_node(RawStmt, cell)->stmt;

        if (IsA(statement, CopyStmt) && ((const CopyStmt *) statement)->filename == NULL)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                            errmsg("COPY FROM STDIN and COPY TO STDOUT are not possible in a step"),
                            errhint("Copy from or to a file on the server.")));
        if (!fits_transaction(statement))
            *transactional = false;
    }
    return statements;
}

/* One statement through a portal of its own. */
static void
run_statement(RunnerStep *step, RawStmt *raw, RunnerReceiver *receiver)
{
    CommandTag tag = CreateCommandTag(raw->stmt);
    bool snapshot = analyze_requires_snapshot(raw);
    List *queries;
    List *plans;
    Portal portal;
    QueryCompletion completion;

    CHECK_FOR_INTERRUPTS();
    if (snapshot)
        PushActiveSnapshot(GetTransactionSnapshot());
    queries = pg_analyze_and_rewrite_fixedparams(raw, step->command, NULL, 0, NULL);
    plans = pg_plan_queries(queries, step->command, CURSOR_OPT_PARALLEL_OK, NULL);
    if (snapshot)
        PopActiveSnapshot();
    CHECK_FOR_INTERRUPTS();

    portal = CreatePortal("", true, true);
    portal->visible = false;
    PortalDefineQuery(portal, NULL, step->command, tag, plans, NULL);
    PortalStart(portal, NULL, 0, InvalidSnapshot);
    InitializeQueryCompletion(&completion);
    fleet_portal_run_once(portal, &receiver->pub, &completion);
    PortalDrop(portal, false);
    step->row_count =
        command_tag_display_rowcount(completion.commandTag) ? (int64) completion.nprocessed : -1;
}

static RunnerMessage
result_message(const RunnerStep *step, RunnerMessageKind kind, uint64 xid)
{
    RunnerMessage message;

    fleet_runner_message_init(&message, kind, step->request->number, step->request->ref);
    message.xid = xid;
    message.row_count = step->row_count;
    message.text[RUNNER_TEXT_OUTPUT] = step->output;
    return message;
}

/* ---- the three kinds of request ---- */

/* All of these return false when the agent is gone (everything open is rolled back). */

static bool
run_transactional(RunnerStep *step)
{
    RunnerReceiver *receiver = receiver_create(step, false);
    List *statements;
    ListCell *cell;
    bool fits;
    RunnerMessage message;
    uint64 xid;

    begin_block(step);
    statements = parse_command(step->command, &fits);
    if (!fits || runner_commits_itself(statements, step->command))
    {
        roll_back(step);
        message = result_message(step, RUNNER_NOT_TRANSACTIONAL, 0);
        return fleet_runner_send(&message, true);
    }
    tell_step(step->request, GUC_ACTION_LOCAL);
    foreach (cell, statements)
    {
        start_transaction(step); /* for the timeout, which each statement has for itself */
        run_statement(step, lfirst_node(RawStmt, cell), receiver);
        CommandCounterIncrement();
        stop_statement_timeout();
    }
    stop_statement_timeout();
    xid = U64FromFullTransactionId(GetTopFullTransactionId());
    fleet_runner_log_finish();

    FLEET_POINT("runner_before_prepared");
    step->prepared = true;
    fleet_runner_mark_prepared(xid);
    message = result_message(step, RUNNER_PREPARED, xid);
    if (!fleet_runner_send(&message, true) ||
        fleet_runner_await_commit(step->request->number) == RUNNER_ORDER_GONE)
    {
        roll_back(step);
        return false;
    }
    FLEET_POINT("runner_before_commit");
    EndTransactionBlock(false);
    finish_transaction(step);
    FLEET_POINT("runner_after_commit");
    fleet_runner_log_finish();
    message = result_message(step, RUNNER_COMMITTED, xid);
    return fleet_runner_send(&message, true);
}

/* For a step outside of a transaction of ours. */
static void
tell_session(RunnerStep *step, const RunnerMessage *request)
{
    start_transaction(step);
    tell_step(request, GUC_ACTION_SET);
    finish_transaction(step);
}

static bool
run_plain(RunnerStep *step)
{
    RunnerReceiver *receiver = receiver_create(step, false);
    List *statements;
    ListCell *cell;
    bool fits;
    bool alive;
    RunnerMessage message;

    tell_session(step, step->request);
    start_transaction(step);
    statements = parse_command(step->command, &fits);
    foreach (cell, statements)
    {
        RawStmt *raw = lfirst_node(RawStmt, cell);
        bool last = lnext(statements, cell) == NULL;

        start_transaction(step);
        if (list_length(statements) > 1)
            BeginImplicitTransactionBlock();
        run_statement(step, raw, receiver);
        if (last && list_length(statements) > 1)
            EndImplicitTransactionBlock();
        if (last || IsA(raw->stmt, TransactionStmt))
            finish_transaction(step);
        else
        {
            CommandCounterIncrement();
            stop_statement_timeout();
        }
    }
    finish_transaction(step);

    /* It is done: a cancel that comes now must not make an error of it. */
    HOLD_INTERRUPTS();
    if (IsTransactionOrTransactionBlock())
    {
        roll_back(step);
        fleet_runner_log("WARNING", FLEET_SQLSTATE_WARNING,
                         "the step left a transaction open, which was rolled back");
    }
    tell_session(step, NULL);
    fleet_runner_log_finish();
    message = result_message(step, RUNNER_COMMITTED, 0);
    alive = fleet_runner_send(&message, true);
    QueryCancelPending = false;
    RESUME_INTERRUPTS();
    return alive;
}

static bool
run_query(RunnerStep *step)
{
    RunnerReceiver *receiver = receiver_create(step, true);
    List *statements;
    bool fits;
    RunnerMessage message;

    begin_block(step);
    XactReadOnly = true;
    tell_step(step->request, GUC_ACTION_LOCAL);
    statements = parse_command(step->command, &fits);
    if (list_length(statements) != 1 || !fits)
        ereport(ERROR,
                (errcode(ERRCODE_SYNTAX_ERROR),
                 errmsg("one query is expected here, not %d statements", list_length(statements)),
                 errhint("Write one SELECT.")));
    run_statement(step, linitial_node(RawStmt, statements), receiver);
    if (!receiver->started)
        ereport(ERROR,
                (errcode(ERRCODE_SYNTAX_ERROR), errmsg("the command is no query: it has no result"),
                 errhint("Write one SELECT.")));
    roll_back(step);
    fleet_runner_log_finish();
    step->row_count = (int64) receiver->rows;
    message = result_message(step, RUNNER_COMMITTED, 0);
    return fleet_runner_send(&message, true);
}

/* ---- errors ---- */

/* Cleans up as PostgresMain does after an error, then reports it. */
static bool
report_error(RunnerStep *step)
{
    const RunnerMessage *request = step->request;
    ErrorData *error;
    RunnerMessage message;
    bool not_transactional;

    MemoryContextSwitchTo(MessageContext);
    HOLD_INTERRUPTS();
    disable_all_timeouts(false);
    error = CopyErrorData();
    not_transactional = request->request_kind == FLEET_REQUEST_STEP && request->transactional &&
                        !step->prepared &&
                        (error->sqlerrcode == ERRCODE_ACTIVE_SQL_TRANSACTION ||
                         error->sqlerrcode == ERRCODE_INVALID_TRANSACTION_TERMINATION);
    if (!not_transactional)
        fleet_runner_emit_error();
    debug_query_string = NULL;
    AbortOutOfAnyTransaction();
    PortalErrorCleanup();
    if (MyReplicationSlot != NULL)
        ReplicationSlotRelease();
    fleet_temporary_slots_drop();
    jit_reset_after_error();
    MemoryContextSwitchTo(MessageContext);
    FlushErrorState();
    step->in_transaction = false;
    QueryCancelPending = false;
    RESUME_INTERRUPTS();

    fleet_runner_log_finish();
    fleet_runner_message_init(&message, not_transactional ? RUNNER_NOT_TRANSACTIONAL : RUNNER_ERROR,
                              request->number, request->ref);
    fleet_runner_say_error(&message, error);
    return fleet_runner_send(&message, true);
}

static int hook_depth = 0;

int
fleet_runner_hook_depth(void)
{
    return hook_depth;
}

bool
fleet_runner_execute(const RunnerMessage *request)
{
    RunnerStep step = {
        .request = request, .command = request->text[RUNNER_TEXT_COMMAND], .row_count = -1};
    bool alive;

    hook_depth = request->hook_depth;
    debug_query_string = step.command;
    SetCurrentStatementStartTimestamp();
    pgstat_report_activity(STATE_RUNNING, step.command);
    PG_TRY();
    {
        CHECK_FOR_INTERRUPTS(); /* it may be canceled already */
        fleet_runner_mark_begun(request->number);
        FLEET_POINT("runner_begun");
        if (request->request_kind != FLEET_REQUEST_STEP)
            alive = run_query(&step);
        else if (request->transactional)
            alive = run_transactional(&step);
        else
            alive = run_plain(&step);
    }
    PG_CATCH();
    {
        alive = report_error(&step);
    }
    PG_END_TRY();
    fleet_runner_mark_ended();
    debug_query_string = NULL;
    return alive;
}

/* ---- between jobs ---- */

void
fleet_runner_clean_session(void)
{
    DiscardStmt discard = {.type = T_DiscardStmt, .target = DISCARD_ALL};

    PG_TRY();
    {
        StartTransactionCommand();
        DiscardCommand(&discard, true);
        CommitTransactionCommand();
    }
    PG_CATCH();
    {
        ErrorData *error;

        MemoryContextSwitchTo(MessageContext);
        error = CopyErrorData();
        FlushErrorState();
        ereport(FATAL,
                (errcode(error->sqlerrcode),
                 errmsg("a session could not be cleaned for the next job: %s", error->message)));
    }
    PG_END_TRY();
    MemoryContextSwitchTo(MessageContext);
}
