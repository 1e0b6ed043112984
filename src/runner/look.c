/*
 * runner/look.c
 *     Looks at what a step is about to call.  Called by runner/exec.c.
 *
 * By name only: which of several procedures of one name is meant is known
 * only when the arguments have been evaluated, and one of them that commits
 * is enough to run the step without a transaction of ours.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "core/commits.h"
#include "nodes/parsenodes.h"
#include "runner/look.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/syscache.h"

StaticAssertDecl(FLEET_NAME_MAX == NAMEDATALEN, "names are kept as the server keeps them");

static void
read_body(HeapTuple tuple, FleetCommits *found)
{
    bool isnull;
    Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &isnull);

    if (!isnull)
    {
        char *body = TextDatumGetCString(source);

        (void) fleet_commits_read(body, strlen(body), found);
        pfree(body);
    }
}

static bool
is_meant(HeapTuple tuple, Oid schema)
{
    Form_pg_proc procedure = (Form_pg_proc) GETSTRUCT(tuple);

    if (procedure->prokind != PROKIND_PROCEDURE)
        return false;
    return OidIsValid(schema) ? procedure->pronamespace == schema
                              : FunctionIsVisible(procedure->oid);
}

static void
read_procedures(const FleetCalled *called, FleetCommits *found)
{
    Oid schema = InvalidOid;
    CatCList *list;

    if (called->schema[0] != '\0')
    {
        schema = get_namespace_oid(called->schema, true);
        if (!OidIsValid(schema))
            return;
    }
    list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(called->name));
    for (int i = 0; i < list->n_members; i++)
    {
        HeapTuple tuple = &list->members[i]->tuple;

        if (is_meant(tuple, schema))
            read_body(tuple, found);
    }
    ReleaseSysCacheList(list);
}

bool
runner_commits_itself(List *statements, const char *command)
{
    FleetCommits *found;
    bool commits, calls = false;
    ListCell *cell;

    foreach (cell, statements)
    {
        const Node *statement = lfirst_node(RawStmt, cell)->stmt;

        calls |= IsA(statement, CallStmt) || IsA(statement, DoStmt);
    }
    if (!calls)
        return false;
    found = palloc0(sizeof(FleetCommits));
    (void) fleet_commits_read(command, strlen(command), found);
    for (int i = 0; i < found->ncalled && !found->commits; i++)
        read_procedures(&found->called[i], found);
    commits = found->commits;
    pfree(found);
    return commits;
}
