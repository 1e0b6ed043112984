/*
 * api/trampoline.c
 *     The one C function behind the public functions of schema fleet.  In any
 *     session.
 *
 * fleet.f(…) is LANGUAGE C and points to fleet_sql_api.  It finds
 * fleet_catalog.f with the same argument types (once per call site), becomes
 * that function's owner, calls it with the same arguments and result area, and
 * becomes its caller again.  Who called is on a stack, which
 * fleet_catalog.caller() reads.
 *
 * Compared with SECURITY DEFINER: rights depend on current_user at the call
 * and not on who happens to own a function in between, and there is nothing
 * to call in fleet_catalog without passing here, because no role has USAGE on it.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "api/caller.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "security.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Kept in fn_extra of the public function's call site. */
typedef struct Target
{
    FmgrInfo function;
    Oid owner;
} Target;

/* The calls in progress; frames live on the C stack of fleet_sql_api(). */
typedef struct Caller
{
    struct Caller *outer;
    Oid role;
} Caller;

static Caller *callers = NULL;

PG_FUNCTION_INFO_V1(fleet_sql_api);
PG_FUNCTION_INFO_V1(fleet_sql_caller);
PG_FUNCTION_INFO_V1(fleet_sql_is_own_xid);
PG_FUNCTION_INFO_V1(fleet_sql_is_visible);
PG_FUNCTION_INFO_V1(fleet_sql_may_become);
PG_FUNCTION_INFO_V1(fleet_sql_may_cancel);
PG_FUNCTION_INFO_V1(fleet_sql_may_use);
PG_FUNCTION_INFO_V1(fleet_sql_sees);

/* fleet_catalog.NAME (NULL: of the same name) with the argument types of this function. */
static void
find_target(Oid like, const char *name, Target *target, MemoryContext context)
{
    HeapTuple like_tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(like));
    HeapTuple tuple;
    Form_pg_proc proc;
    Oid hidden;

    if (!HeapTupleIsValid(like_tuple))
        elog(ERROR, "cache lookup failed for function %u", like);
    proc = (Form_pg_proc) GETSTRUCT(like_tuple);
    if (name == NULL)
        name = NameStr(proc->proname);
    tuple =
        SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name), PointerGetDatum(&proc->proargtypes),
                        ObjectIdGetDatum(get_namespace_oid("fleet_catalog", false)));
    if (!HeapTupleIsValid(tuple))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
                        errmsg("function %s() of pg_fleet is incomplete", name),
                        errhint("Update the extension: ALTER EXTENSION pg_fleet UPDATE.")));
    hidden = ((Form_pg_proc) GETSTRUCT(tuple))->oid;
    target->owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
    ReleaseSysCache(tuple);
    ReleaseSysCache(like_tuple);
    fmgr_info_cxt(hidden, &target->function, context);
}

/* Sets come back whole, in one call: a set that is returned row by row would be computed in pieces,
 * with our rights, between pieces of the caller's query. */
static void
ask_for_whole_set(FunctionCallInfo fcinfo)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

    if (rsinfo == NULL || !IsA(rsinfo, ReturnSetInfo))
        return;
    if ((rsinfo->allowedModes & SFRM_Materialize) == 0)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("set-valued function called in context that cannot accept a set"),
                        errhint("Call it in the FROM clause of a query.")));
    rsinfo->allowedModes |= SFRM_Materialize_Preferred;
}

/* A trigger function gets rows of its table, whose types say what compares and converts them: on a table of
 * somebody else it would do that with our rights. */
static void
refuse_foreign_table(FunctionCallInfo fcinfo)
{
    Relation table;

    if (!CALLED_AS_TRIGGER(fcinfo))
        return;
    table = ((TriggerData *) fcinfo->context)->tg_relation;
    if (RelationGetNamespace(table) != get_namespace_oid("fleet_catalog", false))
        ereport(ERROR,
                (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                 errmsg("trigger functions of pg_fleet are for its own tables"),
                 errdetail("It was called for table \"%s\".", RelationGetRelationName(table)),
                 errhint("Drop the trigger.")));
}

static void
leave(FunctionCallInfo fcinfo, FmgrInfo *flinfo, Caller *caller, Oid user, int context)
{
    fcinfo->flinfo = flinfo;
    callers = caller->outer;
    SetUserIdAndSecContext(user, context);
}

/* A user is not helped by the lines of our own functions in the CONTEXT; what was around the call
 * is added again.  Errors that should not be keep everything. */
static void
rethrow_without_our_context(void)
{
    ErrorData *error;

    if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_INTERNAL_ERROR)
        PG_RE_THROW();
    error = CopyErrorData();
    FlushErrorState();
    error->context = NULL;
    ThrowErrorData(error);
    pg_unreachable();
}

Datum
fleet_sql_api(PG_FUNCTION_ARGS)
{
    MemoryContext memory = CurrentMemoryContext;
    FmgrInfo *flinfo = fcinfo->flinfo;
    Target *target = flinfo->fn_extra;
    Caller caller;
    Oid user;
    int context;
    volatile Datum result = (Datum) 0;

    GetUserIdAndSecContext(&user, &context);
    if (InSecurityRestrictedOperation())
        ereport(
            ERROR,
            (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
             errmsg("cannot use pg_fleet within a security-restricted operation"),
             errdetail("It was called while an index, a materialized view or the like was being "
                       "maintained.")));
    refuse_foreign_table(fcinfo);
    if (target == NULL)
    {
        Target *fresh = MemoryContextAllocZero(flinfo->fn_mcxt, sizeof(Target));

        find_target(flinfo->fn_oid, NULL, fresh, flinfo->fn_mcxt);
        fmgr_info_set_expr(flinfo->fn_expr, &fresh->function);
        flinfo->fn_extra = target = fresh;
    }

    fleet_check_arguments(fcinfo);
    caller.outer = callers;
    caller.role = user;
    callers = &caller;
    SetUserIdAndSecContext(target->owner, context | SECURITY_LOCAL_USERID_CHANGE);
    fcinfo->flinfo = &target->function;
    ask_for_whole_set(fcinfo);
    PG_TRY();
    {
        result = FunctionCallInvoke(fcinfo);
    }
    PG_CATCH();
    {
        leave(fcinfo, flinfo, &caller, user, context);
        MemoryContextSwitchTo(memory);
        rethrow_without_our_context();
    }
    PG_END_TRY();
    leave(fcinfo, flinfo, &caller, user, context);
    return result;
}

Datum
fleet_call_instead(FunctionCallInfo fcinfo, const char *name)
{
    FmgrInfo *flinfo = fcinfo->flinfo;
    Target target;
    Datum result;

    find_target(flinfo->fn_oid, name, &target, CurrentMemoryContext);
    fmgr_info_set_expr(flinfo->fn_expr, &target.function);
    fcinfo->flinfo = &target.function;
    result = FunctionCallInvoke(fcinfo);
    fcinfo->flinfo = flinfo;
    return result;
}

/* ---- who called ---- */

Oid
fleet_caller_or_error(void)
{
    if (callers == NULL)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("functions of schema fleet_catalog are internal"),
                        errhint("Call the function of the same name in schema fleet.")));
    return callers->role;
}

static bool
is_member_of_named(Oid member, const char *role)
{
    Oid oid = get_role_oid(role, true);

    return OidIsValid(oid) && fleet_may_see(member, oid);
}

static bool
sees_all(Oid role)
{
    return superuser_arg(role) || is_member_of_named(role, "fleet_operator") ||
           is_member_of_named(role, "fleet_reader") || fleet_may_see(role, ROLE_PG_MONITOR);
}

/* What belongs to nobody, since its owner was dropped, operators may give to a role: it does not run before. */
bool
fleet_caller_may_use(Oid owner)
{
    Oid role = fleet_caller_or_error();

    if (OidIsValid(owner) && fleet_security_may_act(role, owner))
        return true;
    return !fleet_security_role_exists(owner) &&
           (superuser_arg(role) || is_member_of_named(role, "fleet_operator"));
}

bool
fleet_caller_may_cancel(Oid owner)
{
    Oid role = fleet_caller_or_error();

    return fleet_security_may_act(role, owner) || is_member_of_named(role, "fleet_operator");
}

bool
fleet_caller_sees(Oid owner)
{
    Oid role = fleet_caller_or_error();

    return fleet_may_see(role, owner) || sees_all(role);
}

Datum
fleet_sql_caller(PG_FUNCTION_ARGS)
{
    PG_RETURN_OID(fleet_caller_or_error());
}

Datum
fleet_sql_may_use(PG_FUNCTION_ARGS)
{
    if (PG_ARGISNULL(0))
        PG_RETURN_BOOL(false);
    PG_RETURN_BOOL(fleet_caller_may_use(PG_GETARG_OID(0)));
}

Datum
fleet_sql_may_become(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(fleet_security_may_act(PG_GETARG_OID(0), PG_GETARG_OID(1)));
}

Datum
fleet_sql_may_cancel(PG_FUNCTION_ARGS)
{
    if (PG_ARGISNULL(0))
        PG_RETURN_BOOL(false);
    PG_RETURN_BOOL(fleet_caller_may_cancel(PG_GETARG_OID(0)));
}

Datum
fleet_sql_sees(PG_FUNCTION_ARGS)
{
    if (PG_ARGISNULL(0))
        PG_RETURN_BOOL(false);
    PG_RETURN_BOOL(fleet_caller_sees(PG_GETARG_OID(0)));
}

/* In fn_extra of a call site in a query: what current_user sees is found out once a query. */
typedef struct Viewer
{
    Oid role;
    bool sees_all;
} Viewer;

/* For views: there, current_user is who looks.  What has no owner is visible to those who see all. */
Datum
fleet_sql_is_visible(PG_FUNCTION_ARGS)
{
    Viewer *viewer = fcinfo->flinfo->fn_extra;
    Oid role = GetUserId();

    if (viewer == NULL || viewer->role != role)
    {
        if (viewer == NULL)
            viewer = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(Viewer));
        viewer->role = role;
        viewer->sees_all = sees_all(role);
        fcinfo->flinfo->fn_extra = viewer;
    }
    PG_RETURN_BOOL(viewer->sees_all || (!PG_ARGISNULL(0) && fleet_may_see(role, PG_GETARG_OID(0))));
}

Datum
fleet_sql_is_own_xid(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(TransactionIdIsCurrentTransactionId(DatumGetTransactionId(PG_GETARG_DATUM(0))));
}
