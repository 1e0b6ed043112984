/*
 * api/known_job.c
 *     Jobs that parents start often (known_job.h).  In the session of a link;
 *     called by child.c.
 */
#include "postgres.h"

#include "api/known_job.h"

#include "access/detoast.h"
#include "access/transam.h"
#include "api/caller.h"
#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/tables.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"

/* The lock of fleet_catalog.store_definition(): until COMMIT, no document is purged.  A user may have
 * it: then it is done otherwise. */
static bool
keep_documents(void)
{
    return DatumGetBool(DirectFunctionCall2(pg_try_advisory_xact_lock_shared_int4,
                                            Int32GetDatum(1179407681), Int32GetDatum(0)));
}

/* The snapshot that was made of this very version of the job, if there is one. */
static bool
find_hash(FleetRows *jobs, Oid owner, FleetKnownJob *job)
{
    const char *owner_name = GetUserNameFromId(owner, true); /* as fleet_catalog.role_name() */
    bool isnull;
    Datum keys[] = {fleet_rows_get(jobs, DEFINED_JOB_ID, &isnull),
                    CStringGetTextDatum(owner_name == NULL ? "" : owner_name)};
    FleetRows *rows = fleet_rows_open(&fleet_table_job_snapshot, false);
    bool found = keep_documents() && fleet_rows_find(rows, SNAPSHOT_BY_JOB, keys, 2);

    if (found)
    {
        found = ItemPointerEquals(
                    fleet_rows_place(jobs),
                    (ItemPointer) DatumGetPointer(fleet_rows_get(rows, SNAPSHOT_PLACE, &isnull))) &&
                TransactionIdEquals(fleet_rows_writer(jobs), DatumGetTransactionId(fleet_rows_get(
                                                                 rows, SNAPSHOT_WRITER, &isnull)));
        job->hash = datumCopy(fleet_rows_get(rows, SNAPSHOT_HASH, &isnull), false, UUID_LEN);
    }
    fleet_rows_close(rows);
    return found;
}

static FleetKnownJob *
find_job(Datum name)
{
    FleetRows *rows = fleet_rows_open(&fleet_table_job, false);
    FleetKnownJob *job = NULL;

    if (fleet_rows_find(rows, DEFINED_JOB_BY_NAME, &name, 1))
    {
        Oid owner = (Oid) fleet_rows_int(rows, DEFINED_JOB_OWNER, 0);
        bool isnull;

        job = palloc0(sizeof(FleetKnownJob));
        job->name = name;
        job->owner = owner;
        job->params = PointerGetDatum(
            PG_DETOAST_DATUM_COPY(fleet_rows_get(rows, DEFINED_JOB_PARAMS, &isnull)));
        if (!fleet_caller_may_use(owner) || !find_hash(rows, owner, job))
            job = NULL;
    }
    fleet_rows_close(rows);
    return job;
}

/* A job as the parent has sent it, over a link of this role, whose it is here. */
static FleetKnownJob *
find_received(Datum name, pg_uuid_t *hash)
{
    Oid role = fleet_caller_or_error();
    Datum keys[] = {ObjectIdGetDatum(role), UUIDPGetDatum(hash)};
    FleetRows *rows = fleet_rows_open(&fleet_table_received, false);
    FleetKnownJob *job = NULL;
    bool isnull;

    if (keep_documents() && fleet_rows_find(rows, RECEIVED_BY_KEY, keys, 2) &&
        DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, name,
                                             fleet_rows_get(rows, RECEIVED_JOB, &isnull))))
    {
        job = palloc0(sizeof(FleetKnownJob));
        job->name = name;
        job->owner = role;
        job->named = hash;
        job->params =
            PointerGetDatum(PG_DETOAST_DATUM_COPY(fleet_rows_get(rows, RECEIVED_PARAMS, &isnull)));
        job->hash = datumCopy(fleet_rows_get(rows, RECEIVED_DEFINITION, &isnull), false, UUID_LEN);
    }
    fleet_rows_close(rows);
    return job;
}

FleetKnownJob *
fleet_known_job(Datum name, pg_uuid_t *hash)
{
    return hash != NULL ? find_received(name, hash) : find_job(name);
}

bool
fleet_known_job_is(const FleetKnownJob *job, Datum name, const pg_uuid_t *hash)
{
    return (job->named == NULL) == (hash == NULL) &&
           (hash == NULL || memcmp(job->named->data, hash->data, UUID_LEN) == 0) &&
           DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID, job->name, name));
}
