/*
 * store/schedule.h
 *     Schedules, as the agent fires them, and what it could not fire: the SQL
 *     behind it is in src/sql/55_schedule.sql.
 */
#ifndef FLEET_STORE_SCHEDULE_H
#define FLEET_STORE_SCHEDULE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "diagnostics.h"

typedef struct FleetScheduleRow
{
    int32 schedule_id;
    char *name;
    char *package; /* NULL: of a job */
    Oid owner;     /* of the package or the job; InvalidOid: it was dropped */
    char *cron;
    char *time_zone;
    char *missed;
    bool evaluates;    /* it has params_sql */
    TimestampTz since; /* what is not after it is not due: the last time that was fired */
    char *version;     /* changes with what is above it */
    int failures;      /* one after the other, until now */
} FleetScheduleRow;

/* All that are enabled; failures of those that are gone are forgotten. */
extern int fleet_schedule_read(FleetScheduleRow **rows);
/* As it is now; NULL: there is none any more. */
extern char *fleet_schedule_params_sql(int32 schedule_id);
/* It could not be fired for this time. */
extern void fleet_schedule_failed(int32 schedule_id, TimestampTz scheduled_for,
                                  const FleetDiagnostics *why);
/* It was fired: its failures count no longer. */
extern void fleet_schedule_fired(int32 schedule_id);

#endif
