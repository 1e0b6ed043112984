/*
 * link/direct_look.c
 *     Mode direct: before a step that calls procedures is begun in a
 *     transaction of ours, the server is asked for their bodies: one that
 *     commits could not run there, and would be found out only by its error,
 *     when what it did before has been done once for nothing.
 *
 * In the agent's process; called by direct_mode.c and direct_result.c.  What
 * the server answers is a text to be read (core/commits.h), and whatever it
 * says, the worst that comes of it is that the step runs without our
 * transaction.  A text that was looked at and does not commit is not looked at
 * again for a minute: the next ones cost no round trip.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "link/direct_mode.h"

#define LOOKED_FOR FLEET_SECONDS(60)
#define ROUNDS_MAX 8 /* procedures that call procedures that … */

/* By visibility, as the call itself will find it; a body of a megabyte is not sent whole. */
#define LOOK_SQL                                                                                   \
    "SELECT pg_catalog.\"left\"(pg_catalog.string_agg(pg_catalog.\"left\"(p.prosrc, 100000), "     \
    "E'\\n;\\n'), 1000000) FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), "             \
    "pg_catalog.unnest($2::pg_catalog.text[])) AS c(schema, name), pg_catalog.pg_proc AS p, "      \
    "pg_catalog.pg_namespace AS n WHERE p.proname OPERATOR(pg_catalog.=) c.name::pg_catalog.name " \
    "AND p.prokind OPERATOR(pg_catalog.=) 'p' AND n.oid OPERATOR(pg_catalog.=) p.pronamespace "    \
    "AND CASE WHEN c.schema OPERATOR(pg_catalog.=) '' THEN "                                       \
    "pg_catalog.pg_function_is_visible(p.oid) "                                                    \
    "ELSE n.nspname OPERATOR(pg_catalog.=) c.schema::pg_catalog.name END"

/* What a server was asked for, by server and text.  A place is taken by whoever comes next. */
static struct
{
    uint64 key;
    FleetTime until;
} looked[256];

static uint64
looked_key(const FleetServerLink *link, const DirectRequest *request)
{
    return hash_bytes_extended((const unsigned char *) request->command.data, request->command.len,
                               (uint64) (uintptr_t) link);
}

void
fleet_direct_look_forget(DirectRequest *request)
{
    if (request->look != NULL)
        pfree(request->look);
    request->look = NULL;
}

void
fleet_direct_look_begin(DirectSession *session, DirectRequest *request)
{
    uint64 key = looked_key(session->conn.link, request);
    FleetCommits found = {0};

    if (looked[key % lengthof(looked)].key == key &&
        looked[key % lengthof(looked)].until > fleet_link_now())
        return;
    (void) fleet_commits_read(request->command.data, (size_t) request->command.len, &found);
    request->commits = found.commits;
    if (found.commits || found.ncalled == 0)
        return;
    request->look = MemoryContextAlloc(session->conn.link->context, sizeof(DirectLook));
    request->look->found = found;
    request->look->asked = request->look->rounds = 0;
}

/* As an element of an array's text. */
static void
append_element(StringInfo array, const char *name)
{
    appendStringInfoString(array, array->len == 0 ? "{\"" : ",\"");
    for (; *name != '\0'; name++)
    {
        if (*name == '"' || *name == '\\')
            appendStringInfoChar(array, '\\');
        appendStringInfoChar(array, *name);
    }
    appendStringInfoChar(array, '"');
}

/* Asks for those that were not asked for yet, after DISCARD ALL where that is due. */
void
fleet_direct_send_look(DirectSession *session, int slot)
{
    DirectRequest *request = &session->requests[slot];
    DirectLook *look = request->look;
    StringInfoData schemas, names;
    const char *values[2];

    initStringInfo(&schemas);
    initStringInfo(&names);
    for (int i = look->asked; i < look->found.ncalled; i++)
    {
        append_element(&schemas, look->found.called[i].schema);
        append_element(&names, look->found.called[i].name);
    }
    appendStringInfoChar(&schemas, '}');
    appendStringInfoChar(&names, '}');
    values[0] = schemas.data;
    values[1] = names.data;
    request->phase = DIRECT_LOOK;
    request->skipped = false;
    if (request->fresh)
    {
        session->prepared = false;
        fleet_conn_send(&session->conn, TAG_DISCARD, (uint8) slot, "DISCARD ALL", 0, NULL, false,
                        false);
    }
    fleet_conn_send(&session->conn, TAG_LOOK, (uint8) slot, LOOK_SQL, 2, values, false, false);
    session->conn.sync_slot = (uint8) slot;
    fleet_direct_waiting(session);
    pfree(schemas.data);
    pfree(names.data);
}

void
fleet_direct_begin(DirectSession *session, int slot)
{
    if (session->requests[slot].look != NULL)
        fleet_direct_send_look(session, slot);
    else
        fleet_direct_send(session, slot);
}

/* An error says nothing of the step: it is begun as if nobody had asked. */
void
fleet_direct_look_result(DirectRequest *request, const PGresult *result)
{
    DirectLook *look = request->look;

    if (PQresultStatus(result) == PGRES_PIPELINE_ABORTED)
        request->skipped = !request->failed;
    else if (look != NULL)
    {
        look->asked = look->found.ncalled;
        if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
            PQnfields(result) == 1 && !PQgetisnull(result, 0, 0))
            (void) fleet_commits_read(PQgetvalue(result, 0, 0), (size_t) PQgetlength(result, 0, 0),
                                      &look->found);
    }
}

bool
fleet_direct_look_goes_on(DirectSession *session, DirectRequest *request)
{
    DirectLook *look = request->look;
    uint64 key = looked_key(session->conn.link, request);

    request->fresh = false; /* it was sent, and answered */
    if (!look->found.commits && look->asked < look->found.ncalled && ++look->rounds < ROUNDS_MAX)
        return true;
    request->commits = look->found.commits;
    if (!request->commits)
    {
        looked[key % lengthof(looked)].key = key;
        looked[key % lengthof(looked)].until = fleet_link_now() + LOOKED_FOR;
    }
    fleet_direct_look_forget(request);
    return false;
}
