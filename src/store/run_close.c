/*
 * store/run_close.c
 *     The open rows of a run or job run that cannot be loaded: nobody will
 *     ever say how they ended, so it is said here.  In the agent's process.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/run.h"
#include "store/spi.h"
#include "utils/builtins.h"

/* What never began is skipped (14); what began, nobody can tell the outcome of (16). */
static FleetStatement tasks_statement = {
    "UPDATE fleet_catalog.task_run AS t"
    "   SET state = CASE WHEN t.state OPERATOR(pg_catalog.=) ANY ('{1,4}'::pg_catalog.int2[])"
    "               THEN 14 ELSE 16 END,"
    "       sqlstate = $2, message = $3, finished_at = pg_catalog.clock_timestamp()"
    " WHERE t.run_id OPERATOR(pg_catalog.=) $1 AND t.state OPERATOR(pg_catalog.<) 11",
    3,
    {INT8OID, TEXTOID, TEXTOID},
    NULL};

#define STEPS_OF(column)                                                                           \
    "UPDATE fleet_catalog.step_run AS s"                                                           \
    "   SET state = 16, sqlstate = $2, message = $3,"                                              \
    "       finished_at = pg_catalog.clock_timestamp()"                                            \
    " WHERE s." column " OPERATOR(pg_catalog.=) $1 AND s.state OPERATOR(pg_catalog.<) 11"

static FleetStatement task_steps_statement = {
    STEPS_OF("run_id"), 3, {INT8OID, TEXTOID, TEXTOID}, NULL};
static FleetStatement job_steps_statement = {
    STEPS_OF("job_run_id"), 3, {INT8OID, TEXTOID, TEXTOID}, NULL};

void
fleet_run_close(int64 run_id, const char *sqlstate, const char *message)
{
    Datum values[] = {Int64GetDatum(run_id), CStringGetTextDatum(sqlstate),
                      CStringGetTextDatum(message)};

    (void) fleet_statement_run(&tasks_statement, values, NULL);
    (void) fleet_statement_run(&task_steps_statement, values, NULL);
}

void
fleet_job_run_close(int64 job_run_id, const char *sqlstate, const char *message)
{
    Datum values[] = {Int64GetDatum(job_run_id), CStringGetTextDatum(sqlstate),
                      CStringGetTextDatum(message)};

    (void) fleet_statement_run(&job_steps_statement, values, NULL);
}
