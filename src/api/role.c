/*
 * api/role.c
 *     The type fleet_catalog.role: a role by its OID in a row, and by its name
 *     outside of it.  In any session.
 *
 * It is regrole but for roles that are gone.  regrole writes their number, and
 * takes the number for the role that has it where it is read: after a restore
 * somewhere else that is any role.  This one writes and reads them as "-", no
 * role; so does what is only a number, and a name that nobody has there.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"

#define NOBODY "-"

PG_FUNCTION_INFO_V1(fleet_sql_role_in);
PG_FUNCTION_INFO_V1(fleet_sql_role_out);
PG_FUNCTION_INFO_V1(fleet_sql_role_recv);
PG_FUNCTION_INFO_V1(fleet_sql_role_send);

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
role_of(const char *text)
{
    Oid role;

    if (strcmp(text, NOBODY) == 0)
        return InvalidOid;
    role = strspn(text, "0123456789") == strlen(text) ? InvalidOid
                                                      : get_role_oid(unquoted(text), true);
    if (!OidIsValid(role))
        ereport(WARNING,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role %s does not exist", text),
                 errdetail("What belonged to it belongs to no role now, and does not run.")));
    return role;
}

static const char *
text_of(Oid role)
{
    const char *name = OidIsValid(role) ? GetUserNameFromId(role, true) : NULL;

    return name == NULL ? NOBODY : quote_identifier(name);
}

Datum
fleet_sql_role_in(PG_FUNCTION_ARGS)
{
    PG_RETURN_OID(role_of(PG_GETARG_CSTRING(0)));
}

Datum
fleet_sql_role_out(PG_FUNCTION_ARGS)
{
    PG_RETURN_CSTRING(pstrdup(text_of(PG_GETARG_OID(0))));
}

Datum
fleet_sql_role_recv(PG_FUNCTION_ARGS)
{
    StringInfo message = (StringInfo) PG_GETARG_POINTER(0);
    int length;

    PG_RETURN_OID(role_of(pq_getmsgtext(message, message->len - message->cursor, &length)));
}

Datum
fleet_sql_role_send(PG_FUNCTION_ARGS)
{
    const char *text = text_of(PG_GETARG_OID(0));
    StringInfoData message;

    pq_begintypsend(&message);
    pq_sendtext(&message, text, (int) strlen(text));
    PG_RETURN_BYTEA_P(pq_endtypsend(&message));
}
