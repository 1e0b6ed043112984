/*
 * api/check.c
 *     Checks of definitions that SQL cannot do: the grammar of commands, and
 *     the graph of a package (by the core).  In any session.
 */
#include "postgres.h"

#include "api/alloc.h"
#include "catalog/pg_type.h"
#include "core/graph.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "parser/parse_target.h"
#include "parser/parser.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(fleet_sql_check_command);
PG_FUNCTION_INFO_V1(fleet_sql_check_graph);
PG_FUNCTION_INFO_V1(fleet_sql_check_item_column);

#define OWN_MAX 1000000 /* bytes */

static const char override_hint[] =
    "If it is right for the server where it will run: check_syntax => false.";
static const char condition_hint[] =
    "For example: fleet.param('day') <> '' or (SELECT count(*) FROM stage) > 0.";
static const char params_hint[] =
    "It is an expression or a query that gives a JSON object, for example: "
    "jsonb_build_object('day', fleet.scheduled_for()::date - 1).";

/* Parses; a syntax error points into the text that the user gave, not into the statement that
 * called us.  "skip": characters that we put in front of the user's. */
static List *
parse(const char *text, const char *given, int skip, const char *hint)
{
    MemoryContext context = CurrentMemoryContext;
    List *statements = NIL;

    PG_TRY();
    {
        statements = raw_parser(text, RAW_PARSE_DEFAULT);
    }
    PG_CATCH();
    {
        ErrorData *error;

        MemoryContextSwitchTo(context);
        error = CopyErrorData();
        if (error->sqlerrcode != ERRCODE_SYNTAX_ERROR && error->cursorpos <= 0)
            ReThrowError(error);
        FlushErrorState();
        ereport(ERROR, (errcode(error->sqlerrcode), errmsg_internal("%s", error->message),
                        internalerrposition(Max(error->cursorpos - skip, 0)),
                        internalerrquery(given), errhint("%s", hint)));
    }
    PG_END_TRY();
    return statements;
}

/* What is no part of a run is the agent's to keep, or to read, and of a role there are many: so it is not of any size. */
static void
check_size(const text *command)
{
    if (VARSIZE_ANY_EXHDR(command) > OWN_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("the command is too large"),
                        errdetail("Its size is %zu bytes.", (Size) VARSIZE_ANY_EXHDR(command)),
                        errhint("The limit is 1,000,000 bytes. Make a function, and call that.")));
}

static void
check_not_client_copy(List *statements)
{
    ListCell *cell;

    foreach (cell, statements)
    {
        Node *statement = castNode(RawStmt, lfirst(cell))->stmt;

        if (IsA(statement, CopyStmt) && ((CopyStmt *) statement)->filename == NULL)
            ereport(ERROR,
                    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                     errmsg("a step cannot COPY from or to a client"),
                     errhint("There is no client when it runs: use a file or a program of the "
                             "server, or INSERT.")));
    }
}

static int
check_command(const char *command, const char *hint)
{
    List *statements = parse(command, command, 0, hint);

    if (statements == NIL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the command is empty"),
                        errhint("Write at least one SQL statement.")));
    check_not_client_copy(statements);
    return list_length(statements);
}

/* The columns that a query names in its own text, with "*" as it stands: what is behind it is known only when it
 * runs, and the type of a single column too, which needs no name if it is of JSON. */
static List *
column_names(const SelectStmt *select)
{
    List *names = NIL;
    ListCell *cell;

    while (select->op != SETOP_NONE)
        select = select->larg;
    if (select->valuesLists != NIL)
        for (int i = 0; i < list_length(linitial(select->valuesLists)); i++)
            names = lappend(names, psprintf("column%d", i + 1));
    foreach (cell, select->targetList)
    {
        const ResTarget *target = lfirst_node(ResTarget, cell);

        if (IsA(target->val, ColumnRef) && IsA(llast(((ColumnRef *) target->val)->fields), A_Star))
            names = lappend(names, "*");
        else
            names =
                lappend(names, target->name != NULL ? target->name : FigureColname(target->val));
    }
    return names;
}

static void
check_columns(const SelectStmt *select)
{
    List *names = column_names(select);

    for (int i = 0; i < list_length(names) && list_length(names) > 1; i++)
    {
        const char *name = list_nth(names, i);

        if (strcmp(name, "?column?") == 0)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("column %d of the query has no name", i + 1),
                     errdetail("Each row becomes an item's parameters, named by its columns."),
                     errhint("Name it: SELECT ... AS name.")));
        for (int k = 0; k < i; k++)
        {
            if (strcmp(name, "*") != 0 && strcmp(name, list_nth(names, k)) == 0)
                ereport(ERROR,
                        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                         errmsg("two columns of the query are named \"%s\"", name),
                         errdetail("Each row becomes an item's parameters, named by its columns."),
                         errhint("Name one of them otherwise: SELECT ... AS name.")));
        }
    }
}

/* The query, which must be one, of a for_each. */
static const SelectStmt *
parse_query(const char *query)
{
    List *statements = parse(query, query, 0, override_hint);

    if (list_length(statements) != 1 ||
        !IsA(castNode(RawStmt, linitial(statements))->stmt, SelectStmt))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("for_each must be one query"),
                 errhint("Write a SELECT, VALUES or WITH ... SELECT; each of its rows becomes "
                         "an item.")));
    return (const SelectStmt *) castNode(RawStmt, linitial(statements))->stmt;
}

static int
check_query(const char *query)
{
    check_columns(parse_query(query));
    return 1;
}

/*
 * (query, argument, name): the argument names a column of the query.  What "*" stands for, and the keys
 * of a single column of JSON, are known only when it runs.
 */
Datum
fleet_sql_check_item_column(PG_FUNCTION_ARGS)
{
    const char *query = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const char *argument = text_to_cstring(PG_GETARG_TEXT_PP(1));
    const char *name = text_to_cstring(PG_GETARG_TEXT_PP(2));
    List *names = column_names(parse_query(query));
    StringInfoData known;
    ListCell *cell;

    initStringInfo(&known);
    foreach (cell, names)
    {
        if (strcmp(lfirst(cell), name) == 0 || strcmp(lfirst(cell), "*") == 0)
            PG_RETURN_VOID();
        appendStringInfo(&known, "%s\"%s\"", known.len > 0 ? ", " : "", (char *) lfirst(cell));
    }
    if (list_length(names) > 1)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("the query has no column \"%s\"", name),
                 errdetail("It is to be the %s.", argument),
                 errhint("Its columns are: %s.", known.data)));
    PG_RETURN_VOID();
}

/* SELECT, one value, and nothing else of what a SELECT may have. */
static bool
is_one_expression(List *statements)
{
    SelectStmt *select;

    if (list_length(statements) != 1)
        return false;
    select = (SelectStmt *) castNode(RawStmt, linitial(statements))->stmt;
    return IsA(select, SelectStmt) && list_length(select->targetList) == 1 &&
           select->op == SETOP_NONE && select->distinctClause == NIL &&
           select->intoClause == NULL && select->fromClause == NIL && select->whereClause == NULL &&
           select->groupClause == NIL && select->havingClause == NULL &&
           select->windowClause == NIL && select->sortClause == NIL &&
           select->limitOffset == NULL && select->limitCount == NULL &&
           select->lockingClause == NIL;
}

/* "what" it is, as the subject of a message. */
static int
check_expression(const char *expression, const char *what, const char *hint)
{
    static const char prefix[] = "SELECT (";
    char *query = psprintf("%s%s\n)", prefix, expression);
    List *statements = parse(query, expression, (int) strlen(prefix), hint);

    if (!is_one_expression(statements))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be one SQL expression", what), errhint("%s", hint)));
    return 1;
}

/* BEGIN, COMMIT and the like in the text itself: it cannot run inside a transaction of ours. */
static int
count_transaction_commands(const char *command)
{
    List *statements = parse(command, command, 0, override_hint);
    ListCell *cell;
    int n = 0;

    foreach (cell, statements)
        n += IsA(castNode(RawStmt, lfirst(cell))->stmt, TransactionStmt);
    return n;
}

Datum
fleet_sql_check_command(PG_FUNCTION_ARGS)
{
    char *command;
    char *what;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
        ereport(ERROR,
                (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("command must not be null")));
    what = text_to_cstring(PG_GETARG_TEXT_PP(1));
    if (strcmp(what, "hook") == 0 || strcmp(what, "params") == 0)
        check_size(PG_GETARG_TEXT_PP(0));
    command = text_to_cstring(PG_GETARG_TEXT_PP(0));
    if (strcmp(what, "query") == 0)
        PG_RETURN_INT32(check_query(command));
    if (strcmp(what, "condition") == 0)
        PG_RETURN_INT32(check_expression(command, "a condition", condition_hint));
    if (strcmp(what, "params") == 0)
        PG_RETURN_INT32(check_expression(command, "params_sql", params_hint));
    if (strcmp(what, "transactions") == 0)
        PG_RETURN_INT32(count_transaction_commands(command));
    if (strcmp(what, "hook") == 0)
        PG_RETURN_INT32(check_command(command, "It is SQL for this server."));
    PG_RETURN_INT32(check_command(command, override_hint));
}

/* (names of the tasks, from, to): the core raises a cycle with its path. */
Datum
fleet_sql_check_graph(PG_FUNCTION_ARGS)
{
    Datum *names, *from, *to;
    int nnames, nfrom, nto;
    FleetTaskSpec *tasks;
    FleetEdgeSpec *edges;
    FleetError error;
    FleetGraph *graph;

    deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &names, NULL,
                      &nnames);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), INT4OID, 4, true, TYPALIGN_INT, &from, NULL,
                      &nfrom);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), INT4OID, 4, true, TYPALIGN_INT, &to, NULL, &nto);
    if (nnames == 0 || nfrom != nto)
        PG_RETURN_VOID();
    tasks = palloc0(sizeof(FleetTaskSpec) * nnames);
    edges = palloc0(sizeof(FleetEdgeSpec) * Max(nfrom, 1));
    for (int i = 0; i < nnames; i++)
    {
        tasks[i].name = TextDatumGetCString(names[i]);
        tasks[i].kind = FLEET_TASK_SQL;
    }
    for (int i = 0; i < nfrom; i++)
    {
        edges[i].from = (uint32_t) DatumGetInt32(from[i]);
        edges[i].to = (uint32_t) DatumGetInt32(to[i]);
    }
    graph = fleet_graph_create(&fleet_palloc, tasks, (uint32_t) nnames, edges, (uint32_t) nfrom,
                               &error);
    if (graph == NULL)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_OBJECT_DEFINITION), errmsg_internal("%s", error.message),
                 error.hint[0] != '\0' ? errhint("%s", error.hint) : 0));
    fleet_graph_free(graph);
    PG_RETURN_VOID();
}
