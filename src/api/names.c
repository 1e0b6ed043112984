/*
 * api/names.c
 *     The types fleet_catalog.role and fleet_catalog.foreign_server: an object
 *     of PostgreSQL's catalogs by its OID in a row, and by its name outside of
 *     it.  In any session.
 *
 * A row means the very object that it was written for, not one that takes its
 * name later; a dump has the name, because numbers say nothing elsewhere.
 * regrole does that but for roles that are gone: it writes their number, and
 * takes the number for the role that has it where it is read, which after a
 * restore somewhere else is any role.  These write and read them as "-", none;
 * so do they what is only a number, and a name that nobody has there.
 */
#include "postgres.h"

#include "fmgr.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#define NOTHING "-"

PG_FUNCTION_INFO_V1(fleet_sql_role_in);
PG_FUNCTION_INFO_V1(fleet_sql_role_out);
PG_FUNCTION_INFO_V1(fleet_sql_role_recv);
PG_FUNCTION_INFO_V1(fleet_sql_role_send);
PG_FUNCTION_INFO_V1(fleet_sql_foreign_server_in);
PG_FUNCTION_INFO_V1(fleet_sql_foreign_server_out);
PG_FUNCTION_INFO_V1(fleet_sql_foreign_server_recv);
PG_FUNCTION_INFO_V1(fleet_sql_foreign_server_send);

typedef struct Kind
{
    const char *what;
    const char *loss;                /* what it means that there is none of this name */
    Oid (*find)(const char *name);   /* InvalidOid: there is none */
    const char *(*name)(Oid object); /* NULL: there is none */
} Kind;

static Oid
role_find(const char *name)
{
    return get_role_oid(name, true);
}

static const char *
role_name(Oid role)
{
    return GetUserNameFromId(role, true);
}

static const Kind role = {"role", "What belonged to it belongs to no role now, and does not run.",
                          role_find, role_name};

static Oid
server_find(const char *name)
{
    return get_foreign_server_oid(name, true);
}

static const char *
server_name(Oid object)
{
    ForeignServer *server = GetForeignServerExtended(object, FSV_MISSING_OK);

    return server == NULL ? NULL : server->servername;
}

static const Kind foreign_server = {
    "foreign server", "The server of the fleet has to be registered again to be of use.",
    server_find, server_name};

/* What quote_identifier() has made of a name. */
static char *
unquoted(const char *text)
{
    Size length = strlen(text), n = 0;
    char *name = palloc(length + 1);

    if (length < 2 || text[0] != '"' || text[length - 1] != '"')
        return pstrdup(text);
    for (Size i = 1; i < length - 1; i++)
    {
        if (text[i] == '"' && i + 1 < length - 1 && text[i + 1] == '"')
            i++;
        name[n++] = text[i];
    }
    name[n] = '\0';
    return name;
}

static Oid
object_of(const Kind *kind, const char *text)
{
    Oid object;

    if (strcmp(text, NOTHING) == 0)
        return InvalidOid;
    object = strspn(text, "0123456789") == strlen(text) ? InvalidOid : kind->find(unquoted(text));
    if (!OidIsValid(object))
        ereport(WARNING,
                (errcode(ERRCODE_UNDEFINED_OBJECT),
                 errmsg("%s %s does not exist", kind->what, text), errdetail("%s", kind->loss)));
    return object;
}

static const char *
text_of(const Kind *kind, Oid object)
{
    const char *name = OidIsValid(object) ? kind->name(object) : NULL;

    return name == NULL ? NOTHING : quote_identifier(name);
}

static Oid
received(const Kind *kind, StringInfo message)
{
    int length;

    return object_of(kind, pq_getmsgtext(message, message->len - message->cursor, &length));
}

static bytea *
sent(const Kind *kind, Oid object)
{
    const char *text = text_of(kind, object);
    StringInfoData message;

    pq_begintypsend(&message);
    pq_sendtext(&message, text, (int) strlen(text));
    return pq_endtypsend(&message);
}

Datum
fleet_sql_role_in(PG_FUNCTION_ARGS)
{
    PG_RETURN_OID(object_of(&role, PG_GETARG_CSTRING(0)));
}

Datum
fleet_sql_role_out(PG_FUNCTION_ARGS)
{
    PG_RETURN_CSTRING(pstrdup(text_of(&role, PG_GETARG_OID(0))));
}

Datum
fleet_sql_role_recv(PG_FUNCTION_ARGS)
{
    PG_RETURN_OID(received(&role, (StringInfo) PG_GETARG_POINTER(0)));
}

Datum
fleet_sql_role_send(PG_FUNCTION_ARGS)
{
    PG_RETURN_BYTEA_P(sent(&role, PG_GETARG_OID(0)));
}

Datum
fleet_sql_foreign_server_in(PG_FUNCTION_ARGS)
{
    PG_RETURN_OID(object_of(&foreign_server, PG_GETARG_CSTRING(0)));
}

Datum
fleet_sql_foreign_server_out(PG_FUNCTION_ARGS)
{
    PG_RETURN_CSTRING(pstrdup(text_of(&foreign_server, PG_GETARG_OID(0))));
}

Datum
fleet_sql_foreign_server_recv(PG_FUNCTION_ARGS)
{
    PG_RETURN_OID(received(&foreign_server, (StringInfo) PG_GETARG_POINTER(0)));
}

Datum
fleet_sql_foreign_server_send(PG_FUNCTION_ARGS)
{
    PG_RETURN_BYTEA_P(sent(&foreign_server, PG_GETARG_OID(0)));
}
