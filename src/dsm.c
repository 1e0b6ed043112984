/*
 * dsm.c
 *     Dynamic shared memory that may not be to be had: see dsm.h.  In the
 *     agent's process.
 *
 * The server raises an ERROR if the memory does not fit into /dev/shm (64 MB in
 * a container, unless told otherwise), or no descriptor is left.  For us it
 * means "not now".  What the failed attempt has begun belongs to a resource
 * owner of its own, so that nothing of it stays, whether a transaction is open
 * or not.
 */
#include "postgres.h"

#include "clock.h"
#include "dsm.h"
#include "points.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#define LOG_AGAIN FLEET_SECONDS(60)

static void
tell_the_log(const char *reason)
{
    static FleetTime told = FLEET_NEVER;
    FleetTime now = fleet_clock_now();

    if (told != FLEET_NEVER && now - told < LOG_AGAIN)
        return;
    told = now;
    ereport(LOG, (errmsg("pg_fleet: no shared memory segment can be created"),
                  reason != NULL ? errdetail("%s", reason) : 0,
                  errhint("What needs one waits. Look at the free space of the file system that "
                          "dynamic shared memory is in: /dev/shm, on Linux.")));
}

/* The error's message, in the caller's memory; interrupts are not for us to swallow. */
static char *
take_error(MemoryContext context)
{
    ErrorData *error;
    char *message;

    MemoryContextSwitchTo(context);
    error = CopyErrorData();
    if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
        PG_RE_THROW();
    FlushErrorState();
    message = pstrdup(error->message != NULL ? error->message : "unknown error");
    FreeErrorData(error);
    return message;
}

dsm_segment *
fleet_dsm_create(Size size)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner before = CurrentResourceOwner;
    ResourceOwner owner = ResourceOwnerCreate(NULL, "pg_fleet dsm");
    dsm_segment *volatile segment = NULL;
    char *volatile reason = NULL;

    CurrentResourceOwner = owner;
    PG_TRY();
    {
        FLEET_POINT("dsm_create");
        segment = dsm_create(size, DSM_CREATE_NULL_IF_MAXSEGMENTS);
        if (segment != NULL)
            dsm_pin_mapping(segment);
    }
    PG_CATCH();
    {
        segment = NULL;
        reason = take_error(context);
    }
    PG_END_TRY();
    ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, true);
    ResourceOwnerRelease(owner, RESOURCE_RELEASE_LOCKS, false, true);
    ResourceOwnerRelease(owner, RESOURCE_RELEASE_AFTER_LOCKS, false, true);
    CurrentResourceOwner = before;
    ResourceOwnerDelete(owner);
    if (segment == NULL)
        tell_the_log(reason);
    if (reason != NULL)
        pfree(reason);
    return segment;
}
