/*
 * api/known_job.h
 *     Jobs that parents start often: found by key, without a statement.  In the
 *     session of a link, below fleet_sql_api().
 */
#ifndef FLEET_API_KNOWN_JOB_H
#define FLEET_API_KNOWN_JOB_H

#include "postgres.h"

#include "utils/uuid.h"

typedef struct FleetKnownJob
{
    Datum name; /* text */
    Oid owner;
    Datum params;     /* jsonb */
    Datum hash;       /* uuid */
    pg_uuid_t *named; /* the document that the start names; NULL: it is the job of that name here */
} FleetKnownJob;

/* The job of this name here, or (hash not NULL) as the parent has sent it; NULL: ask
 * fleet_catalog.agent_start_any(), which says what is wrong. */
extern FleetKnownJob *fleet_known_job(Datum name, pg_uuid_t *hash);
/* Is it that one? */
extern bool fleet_known_job_is(const FleetKnownJob *job, Datum name, const pg_uuid_t *hash);

#endif
