/*
 * security.c
 *     Who may connect where, and how.  Three callers: the validator of the
 *     foreign data wrapper pg_fleet (in a session that makes a server or a
 *     mapping), the agent whenever it places work on a link and something
 *     that matters here has changed, and the agent before it starts a step.
 *
 * Options are an allowlist.  It is applied twice, because what was legal when
 * a row was written need not be when it is used: postgres_fdw and dblink_fdw
 * allow more, owners change, superusers stop being superusers.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "clock.h"
#include "commands/defrem.h"
#include "compat.h"
#include "core/sqlstate.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "security.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/syscache.h"

typedef enum OptionPlace
{
    PLACE_SERVER = 1,
    PLACE_MAPPING = 2,
} OptionPlace;

typedef struct Option
{
    const char *name;
    int place;
    bool superuser; /* only for superusers: leads to files or identities of the server's own user */
    bool number;
} Option;

/*
 * Allowed to no role: service (a file that sets anything), sslkeylogfile, requiressl,
 * replication, and whatever libpq will learn.
 */
static const Option options[] = {
    {"host", PLACE_SERVER, false, false},
    {"hostaddr", PLACE_SERVER, false, false},
    {"port", PLACE_SERVER, false, false}, /* may be a list, like host */
    {"dbname", PLACE_SERVER, false, false},
    {"application_name", PLACE_SERVER, false, false},
    {"channel_binding", PLACE_SERVER | PLACE_MAPPING, false, false},
    {"client_encoding", PLACE_SERVER, false, false},
    {"connect_timeout", PLACE_SERVER, false, true},
    {"fallback_application_name", PLACE_SERVER, false, false},
    {"gssencmode", PLACE_SERVER, true, false},
    {"gsslib", PLACE_SERVER, true, false},
    {"keepalives", PLACE_SERVER, false, true},
    {"keepalives_count", PLACE_SERVER, false, true},
    {"keepalives_idle", PLACE_SERVER, false, true},
    {"keepalives_interval", PLACE_SERVER, false, true},
    {"krbsrvname", PLACE_SERVER, true, false},
    {"load_balance_hosts", PLACE_SERVER, false, false},
    {"options", PLACE_SERVER, true, false},
    {"require_auth", PLACE_SERVER | PLACE_MAPPING, false, false},
    {"requirepeer", PLACE_SERVER, true, false},
    {"ssl_max_protocol_version", PLACE_SERVER, false, false},
    {"ssl_min_protocol_version", PLACE_SERVER, false, false},
    {"sslcrl", PLACE_SERVER, true, false},
    {"sslcrldir", PLACE_SERVER, true, false},
    {"sslmode", PLACE_SERVER | PLACE_MAPPING, false, false},
    {"sslnegotiation", PLACE_SERVER, false, false},
    {"sslrootcert", PLACE_SERVER | PLACE_MAPPING, false, false},
    {"sslsni", PLACE_SERVER, false, true},
    {"target_session_attrs", PLACE_SERVER, false, false},
    {"tcp_user_timeout", PLACE_SERVER, false, true},
    {"user", PLACE_MAPPING, false, false},
    {"password", PLACE_MAPPING, false, false},
    {"passfile", PLACE_MAPPING, true, false},
    {"password_required", PLACE_MAPPING, true, false},
    {"sslcert", PLACE_MAPPING, true, false},
    {"sslkey", PLACE_MAPPING, true, false},
    {"sslpassword", PLACE_MAPPING, true, false},
};

PG_FUNCTION_INFO_V1(fleet_sql_fdw_validator);

static const Option *
find_option(const char *name)
{
    for (size_t i = 0; i < lengthof(options); i++)
    {
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    }
    return NULL;
}

/* ---- the validator ---- */

static char *
valid_names(int place)
{
    StringInfoData names;

    initStringInfo(&names);
    for (size_t i = 0; i < lengthof(options); i++)
    {
        if ((options[i].place & place) == 0 || (options[i].superuser && !superuser()))
            continue;
        appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", options[i].name);
    }
    return names.data;
}

static void
check_number(const Option *option, const char *value)
{
    size_t digits = strspn(value, "0123456789");

    if (digits == 0 || digits > 9 || value[digits] != '\0')
        ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE),
                        errmsg("option \"%s\" must be a number of 0 or more", option->name)));
}

static void
check_option(DefElem *def, int place)
{
    const Option *option = find_option(def->defname);
    bool here = option != NULL && (option->place & place) != 0;

    if (here && option->superuser && !superuser())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied to set option \"%s\"", def->defname),
                        errdetail("It would let the connection use files or identities of the "
                                  "server's operating-system user."),
                        errhint("Only a superuser may set it.")));
    if (!here)
    {
        const char *hint =
            option != NULL && option->place == PLACE_MAPPING  ? "It belongs to the user mapping."
            : option != NULL && option->place == PLACE_SERVER ? "It belongs to the server."
                                                              : NULL;

        ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                        errmsg("invalid option \"%s\"", def->defname),
                        hint != NULL ? errdetail("%s", hint) : 0,
                        place == 0 ? errhint("The wrapper itself has no options.")
                                   : errhint("Valid here: %s.", valid_names(place))));
    }
    if (option->number)
        check_number(option, defGetString(def));
    if (strcmp(option->name, "password_required") == 0)
        (void) defGetBoolean(def);
    if (strcmp(option->name, "client_encoding") == 0)
        ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
                        errmsg("option \"client_encoding\" cannot be set"),
                        errhint("Links use the encoding of this database.")));
}

Datum
fleet_sql_fdw_validator(PG_FUNCTION_ARGS)
{
    Oid catalog = PG_GETARG_OID(1);
    int place = catalog == ForeignServerRelationId ? PLACE_SERVER
                : catalog == UserMappingRelationId ? PLACE_MAPPING
                                                   : 0;
    ListCell *cell;

    foreach (cell, untransformRelOptions(PG_GETARG_DATUM(0)))
        check_option((DefElem *) lfirst(cell), place);
    PG_RETURN_VOID();
}

/* ---- connecting ---- */

typedef struct Connection
{
    ForeignServer *server;
    List *server_options;
    List *mapping_options;
    bool public_mapping;
    const char *sqlstate;
    const char *error;
} Connection;

static bool
refuse(Connection *connection, const char *sqlstate, const char *error)
{
    connection->sqlstate = sqlstate;
    connection->error = error;
    return false;
}

static bool
read_server(Connection *connection, Oid server, const char *name, Oid role)
{
    ForeignDataWrapper *wrapper;

    connection->server =
        OidIsValid(server) ? GetForeignServerExtended(server, FSV_MISSING_OK) : NULL;
    if (connection->server == NULL)
        return refuse(connection, FLEET_SQLSTATE_UNDEFINED_OBJECT,
                      psprintf("foreign server \"%s\" no longer exists", name));
    name = connection->server->servername;
    wrapper = GetForeignDataWrapper(connection->server->fdwid);
    if (strcmp(wrapper->fdwname, "pg_fleet") != 0 &&
        strcmp(wrapper->fdwname, "postgres_fdw") != 0 &&
        strcmp(wrapper->fdwname, "dblink_fdw") != 0)
        return refuse(
            connection, FLEET_SQLSTATE_WRONG_OBJECT_TYPE,
            psprintf("foreign server \"%s\" belongs to the wrapper \"%s\", which pg_fleet "
                     "does not use",
                     name, wrapper->fdwname));
    if (!DatumGetBool(DirectFunctionCall3(has_server_privilege_id_id, ObjectIdGetDatum(role),
                                          ObjectIdGetDatum(connection->server->serverid),
                                          CStringGetTextDatum("USAGE"))))
        return refuse(connection, FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE,
                      psprintf("role \"%s\" has no USAGE on foreign server \"%s\"",
                               GetUserNameFromId(role, true), name));
    connection->server_options = connection->server->options;
    return true;
}

static bool
read_mapping(Connection *connection, Oid role)
{
    Oid server = connection->server->serverid;
    HeapTuple tuple =
        SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
    Datum value;
    bool isnull;

    if (!HeapTupleIsValid(tuple))
    {
        connection->public_mapping = true;
        tuple = SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid),
                                ObjectIdGetDatum(server));
    }
    if (!HeapTupleIsValid(tuple))
        return refuse(connection, FLEET_SQLSTATE_UNDEFINED_OBJECT,
                      psprintf("role \"%s\" has no user mapping for foreign server \"%s\"",
                               GetUserNameFromId(role, true), connection->server->servername));
    value = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
    if (!isnull)
        connection->mapping_options = untransformRelOptions(value);
    ReleaseSysCache(tuple);
    return true;
}

/* Text of an option; never throws, whatever is stored. */
static const char *
text_of(DefElem *def)
{
    return def->arg != NULL && IsA(def->arg, String) ? strVal(def->arg) : "";
}

static const char *
mapping_text(const Connection *connection, const char *name)
{
    ListCell *cell;

    foreach (cell, connection->mapping_options)
    {
        if (strcmp(((DefElem *) lfirst(cell))->defname, name) == 0)
            return text_of((DefElem *) lfirst(cell));
    }
    return NULL;
}

/*
 * password_required=false was set by a superuser (both our validator and postgres_fdw's see to
 * that); it counts only where no other role can redirect the connection: not in PUBLIC's mapping,
 * and not on a server whose owner is no superuser.
 */
static bool
password_is_waived(const Connection *connection)
{
    const char *required = mapping_text(connection, "password_required");
    bool value;

    return required != NULL && parse_bool(required, &value) && !value &&
           !connection->public_mapping && superuser_arg(connection->server->owner);
}

/* Options of postgres_fdw and dblink_fdw that say nothing about the connection. */
static bool
is_other_wrappers_own(const char *name)
{
    static const char *const ignored[] = {"use_remote_estimate", "fdw_startup_cost",
                                          "fdw_tuple_cost",      "extensions",
                                          "fetch_size",          "batch_size",
                                          "async_capable",       "parallel_commit",
                                          "parallel_abort",      "updatable",
                                          "truncatable",         "keep_connections",
                                          "analyze_sampling",    "use_scram_passthrough",
                                          "import_default"};

    for (size_t i = 0; i < lengthof(ignored); i++)
    {
        if (strcmp(ignored[i], name) == 0)
            return true;
    }
    return false;
}

static bool
add_options(Connection *connection, List *list, int place, bool trusted, const char **keywords,
            const char **values, int *used)
{
    ListCell *cell;

    foreach (cell, list)
    {
        DefElem *def = lfirst(cell);
        const Option *option = find_option(def->defname);
        bool twice = false;

        if (is_other_wrappers_own(def->defname) || strcmp(def->defname, "password_required") == 0 ||
            strcmp(def->defname, "client_encoding") == 0)
            continue;
        if (option == NULL || (option->place & place) == 0 || (option->superuser && !trusted))
            return refuse(connection, FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE,
                          psprintf("option \"%s\" of foreign server \"%s\" or its user mapping is "
                                   "not allowed",
                                   def->defname, connection->server->servername));
        for (int i = 0; i < *used; i++)
        {
            if (strcmp(keywords[i], option->name) != 0)
                continue;
            values[i] = pstrdup(text_of(def)); /* the mapping's wins over the server's */
            twice = true;
        }
        if (twice)
            continue;
        keywords[*used] = option->name;
        values[(*used)++] = pstrdup(text_of(def));
    }
    return true;
}

static bool
build(Connection *connection, Oid server, const char *name, Oid role, const char ***keywords,
      const char ***values, bool *superuser)
{
    const char *password;
    bool trusted;
    int used = 0;

    if (!fleet_security_role_exists(role))
        return refuse(connection, FLEET_SQLSTATE_UNDEFINED_OBJECT,
                      "the role that it belongs to no longer exists");
    if (!read_server(connection, server, name, role) || !read_mapping(connection, role))
        return false;
    trusted = superuser_arg(role);
    *superuser = trusted || password_is_waived(connection);
    password = mapping_text(connection, "password");
    if (!*superuser && (password == NULL || password[0] == '\0'))
        return refuse(connection, FLEET_SQLSTATE_PROHIBITED_SQL_STATEMENT,
                      psprintf("the user mapping of role \"%s\" for foreign server \"%s\" has no "
                               "password, which only superusers may do without",
                               GetUserNameFromId(role, true), connection->server->servername));

    /* One more place than there can be, for the user name. */
    *keywords = palloc0(sizeof(char *) * (lengthof(options) + 2));
    *values = palloc0(sizeof(char *) * (lengthof(options) + 2));
    if (!add_options(connection, connection->server_options, PLACE_SERVER, trusted, *keywords,
                     *values, &used) ||
        !add_options(connection, connection->mapping_options, PLACE_MAPPING, *superuser, *keywords,
                     *values, &used))
        return false;
    if (mapping_text(connection, "user") == NULL)
    {
        /* Without it libpq would take the operating system's user. */
        (*keywords)[used] = "user";
        (*values)[used] = GetUserNameFromId(role, true);
    }
    return true;
}

bool
fleet_security_connection(Oid server, const char *name, Oid role, const char ***keywords,
                          const char ***values, bool *superuser, const char **sqlstate,
                          const char **error)
{
    Connection connection;

    memset(&connection, 0, sizeof(connection));
    if (build(&connection, server, name, role, keywords, values, superuser))
        return true;
    *sqlstate = connection.sqlstate;
    *error = connection.error;
    return false;
}

/* ---- changes ---- */

static uint64 generation = 0; /* 0: no link listens yet */

static void
something_changed(Datum arg, int cache, uint32 hash)
{
    generation++;
}

uint64
fleet_security_generation(void)
{
    static const int caches[] = {FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID, USERMAPPINGOID, AUTHOID,
                                 AUTHMEMROLEMEM};

    if (generation == 0)
    {
        for (size_t i = 0; i < lengthof(caches); i++)
            CacheRegisterSyscacheCallback(caches[i], something_changed, (Datum) 0);
        generation = 1;
    }
    AcceptInvalidationMessages();
    return generation;
}

/* ---- running ---- */

static bool
no(const char **sqlstate_out, const char **why_out, const char *sqlstate, const char *why)
{
    *sqlstate_out = sqlstate;
    *why_out = why;
    return false;
}

bool
fleet_security_may_act(Oid member, Oid role)
{
    return superuser_arg(member) || (fleet_may_become(member, role) && !superuser_arg(role));
}

bool
fleet_security_role_exists(Oid role)
{
    return OidIsValid(role) && SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(role));
}

bool
fleet_security_role_may_run(Oid role, const char **sqlstate, const char **why)
{
    HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
    Form_pg_authid form;
    Datum until;
    bool can_login, never;
    char *name;

    if (!HeapTupleIsValid(tuple))
        return no(sqlstate, why, FLEET_SQLSTATE_UNDEFINED_OBJECT,
                  "the role that it belongs to no longer exists");
    form = (Form_pg_authid) GETSTRUCT(tuple);
    can_login = form->rolcanlogin;
    name = pstrdup(NameStr(form->rolname));
    until = SysCacheGetAttr(AUTHOID, tuple, Anum_pg_authid_rolvaliduntil, &never);
    ReleaseSysCache(tuple);
    if (!can_login)
        return no(sqlstate, why, FLEET_SQLSTATE_INVALID_AUTHORIZATION,
                  psprintf("role \"%s\" is not permitted to log in", name));
    if (!never && DatumGetTimestampTz(until) < fleet_clock_wall())
        return no(sqlstate, why, FLEET_SQLSTATE_INVALID_AUTHORIZATION,
                  psprintf("role \"%s\" has expired (VALID UNTIL is over)", name));
    if (!DatumGetBool(DirectFunctionCall3(has_database_privilege_id_id, ObjectIdGetDatum(role),
                                          ObjectIdGetDatum(MyDatabaseId),
                                          CStringGetTextDatum("CONNECT"))))
        return no(sqlstate, why, FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE,
                  psprintf("role \"%s\" may not connect to this database", name));
    return true;
}
