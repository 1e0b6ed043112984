/*
 * api/server.c
 *     fleet_link.create_foreign_server(): a connection string becomes a foreign
 *     server and a user mapping of the caller, with the caller's rights.  In
 *     any session.  And whether a role may use a server, and how that takes it.
 *
 * The commands are built as parse trees and go through ProcessUtility with a
 * text that has no option in it, so that the password is in no error context,
 * no log line and no statistics view, and event triggers and hooks still see
 * the commands.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "link/conninfo.h"
#include "mailbox/mailbox.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "security.h"
#include "tcop/dest.h"
#include "tcop/utility.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(fleet_sql_ask_agent);
PG_FUNCTION_INFO_V1(fleet_sql_cannot_use);
PG_FUNCTION_INFO_V1(fleet_sql_create_foreign_server);

static void
execute(Node *statement, const char *text)
{
    PlannedStmt *planned = makeNode(PlannedStmt);

    planned->commandType = CMD_UTILITY;
    planned->canSetTag = false;
    planned->utilityStmt = statement;
    planned->stmt_location = -1;
    planned->stmt_len = 0;
    ProcessUtility(planned, text, false, PROCESS_UTILITY_QUERY, NULL, NULL, None_Receiver, NULL);
    CommandCounterIncrement();
}

static DefElem *
option(const char *name, const char *value)
{
    return makeDefElem(pstrdup(name), (Node *) makeString(pstrdup(value)), -1);
}

/* Options of the server; the user's name is given back beside. */
static List *
server_options(const char *conninfo, const char **user)
{
    char **keywords, **values;
    List *result = NIL;

    if (!fleet_conninfo_parse(conninfo, &keywords, &values))
        ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("invalid connection string"),
                        errhint("Write keyword=value pairs as for libpq, values with blanks in "
                                "single quotes: 'host=db1 port=5432 dbname=dw'.")));
    for (int i = 0; keywords[i] != NULL; i++)
    {
        if (strcmp(keywords[i], "password") == 0 || strcmp(keywords[i], "sslpassword") == 0)
            ereport(ERROR,
                    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                     errmsg("the connection string contains a password"),
                     errdetail("Options of a server can be read by everybody."),
                     errhint("Specify it with the argument \"password\": it is stored in the user "
                             "mapping.")));
        if (strcmp(keywords[i], "user") == 0)
            *user = values[i];
        else
            result = lappend(result, option(keywords[i], values[i]));
    }
    return result;
}

static char *
argument(FunctionCallInfo fcinfo, int n)
{
    return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

static void
check_arguments(const char *name, const char *conninfo)
{
    if (name == NULL || name[0] == '\0')
        ereport(ERROR,
                (errcode(name == NULL ? ERRCODE_NULL_VALUE_NOT_ALLOWED : ERRCODE_INVALID_NAME),
                 errmsg("server name must not be %s", name == NULL ? "null" : "empty"),
                 errhint("Specify the name of the server.")));
    if (strlen(name) >= NAMEDATALEN)
        ereport(ERROR,
                (errcode(ERRCODE_NAME_TOO_LONG), errmsg("server name is too long"),
                 errdetail("It has %zu bytes.", strlen(name)),
                 errhint("Names of foreign servers have at most %d bytes.", NAMEDATALEN - 1)));
    if (conninfo == NULL)
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                        errmsg("argument \"conninfo\" must not be null"),
                        errhint("For example: 'host=db1 port=5432 dbname=dw'.")));
}

Datum
fleet_sql_create_foreign_server(PG_FUNCTION_ARGS)
{
    char *name = argument(fcinfo, 0);
    char *conninfo = argument(fcinfo, 1);
    char *username = argument(fcinfo, 2);
    char *password = argument(fcinfo, 3);
    const char *user = NULL;
    CreateForeignServerStmt *server = makeNode(CreateForeignServerStmt);
    CreateUserMappingStmt *mapping = makeNode(CreateUserMappingStmt);

    if (InSecurityRestrictedOperation())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("cannot use pg_fleet within a security-restricted operation")));
    check_arguments(name, conninfo);
    server->servername = name;
    server->fdwname = "pg_fleet";
    server->options = server_options(conninfo, &user);
    if (!superuser() && (password == NULL || password[0] == '\0'))
        ereport(ERROR, (errcode(ERRCODE_S_R_E_PROHIBITED_SQL_STATEMENT_ATTEMPTED),
                        errmsg("a password is required"),
                        errdetail("Only superusers may connect to a server without one."),
                        errhint("Specify it with the argument \"password\".")));
    if (username != NULL)
        user = username;
    mapping->user = makeNode(RoleSpec);
    mapping->user->roletype = ROLESPEC_CURRENT_USER;
    mapping->user->location = -1;
    mapping->servername = name;
    mapping->options =
        list_make1(option("user", user != NULL ? user : GetUserNameFromId(GetUserId(), false)));
    if (password != NULL)
        mapping->options = lappend(mapping->options, option("password", password));

    execute((Node *) server,
            psprintf("CREATE SERVER %s FOREIGN DATA WRAPPER pg_fleet", quote_identifier(name)));
    execute((Node *) mapping,
            psprintf("CREATE USER MAPPING FOR CURRENT_USER SERVER %s", quote_identifier(name)));
    PG_RETURN_VOID();
}

/* (foreign server, its name, role) → why links of this role may not be made to it, or null. */
Datum
fleet_sql_cannot_use(PG_FUNCTION_ARGS)
{
    const char **keywords, **values;
    const char *sqlstate, *why;
    bool superuser;

    if (fleet_security_connection(PG_GETARG_OID(0), NameStr(*PG_GETARG_NAME(1)), PG_GETARG_OID(2),
                                  &keywords, &values, &superuser, &sqlstate, &why))
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(why));
}

/* (server_id, role) → (sqlstate, message, in_use): what came of a login of the agent, just now. */
Datum
fleet_sql_ask_agent(PG_FUNCTION_ARGS)
{
    FleetAnswer answer;
    TupleDesc desc;
    Datum values[3];
    bool nulls[3] = {false, false, false};

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    desc = BlessTupleDesc(desc);
    fleet_ask_server(PG_GETARG_INT32(0), PG_GETARG_OID(1), &answer);
    nulls[0] = nulls[1] = answer.sqlstate[0] == '\0';
    values[0] = CStringGetTextDatum(answer.sqlstate);
    values[1] = CStringGetTextDatum(answer.message);
    values[2] = BoolGetDatum(answer.in_use);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
