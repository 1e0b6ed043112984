/*
 * runner/resolve.c
 *     What became of a transaction that a runner had prepared, when nobody is
 *     left to tell.  In the agent's process, inside or outside of a
 *     transaction.
 */
#include "postgres.h"

#include "access/transam.h"
#include "fmgr.h"
#include "runner/pool.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

FleetXactStatus
fleet_runner_resolve(uint64 xid)
{
    LOCAL_FCINFO(fcinfo, 1);
    Datum result;
    char *name;
    FleetXactStatus status = FLEET_XACT_UNKNOWN;

    /* An id that this server never gave out: another timeline, another server. */
    if (!TransactionIdIsNormal((TransactionId) xid) ||
        xid >= U64FromFullTransactionId(ReadNextFullTransactionId()))
        return FLEET_XACT_UNKNOWN;
    InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
    fcinfo->args[0].value = UInt64GetDatum(xid);
    fcinfo->args[0].isnull = false;
    result = pg_xact_status(fcinfo);
    if (fcinfo->isnull)
        return FLEET_XACT_UNKNOWN; /* too old */
    name = TextDatumGetCString(result);
    if (strcmp(name, "committed") == 0)
        status = FLEET_XACT_COMMITTED;
    else if (strcmp(name, "aborted") == 0)
        status = FLEET_XACT_ABORTED;
    else if (strcmp(name, "in progress") == 0)
        status = FLEET_XACT_IN_PROGRESS;
    pfree(name);
    return status;
}
