/*
 * api/schedule.c
 *     The times of a schedule, for SQL: core/cron.h, with the server's time zones.
 *
 * Called in sessions and by the agent's SQL.
 */
#include "postgres.h"

#include "core/cron.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The core counts from 1970, the server's timestamps from 2000. */
#define EPOCH_DIFFERENCE                                                                           \
    ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY * USECS_PER_SEC)
#define MAX_TIMES 100000

PG_FUNCTION_INFO_V1(fleet_sql_schedule_times);
PG_FUNCTION_INFO_V1(fleet_sql_check_cron);

static int32_t
offset_in_zone(void *context, FleetTime time)
{
    pg_time_t seconds = (pg_time_t) (time / USECS_PER_SEC);
    struct pg_tm *tm = pg_localtime(&seconds, context);

    return tm == NULL ? 0 : (int32_t) tm->tm_gmtoff;
}

static FleetCron
parse_cron(text *cron)
{
    FleetCron parsed;
    FleetError error;

    if (!fleet_cron_parse(text_to_cstring(cron), &parsed, &error))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("invalid schedule \"%s\"", text_to_cstring(cron)),
                        errdetail("%s", error.message), errhint("%s", error.hint)));
    return parsed;
}

static pg_tz *
find_zone(text *name)
{
    char *zone = text_to_cstring(name);
    pg_tz *tz = zone[0] == '\0' || strlen(zone) > TZ_STRLEN_MAX ? NULL : pg_tzset(zone);

    if (tz == NULL || !pg_tz_acceptable(tz))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("time zone \"%s\" not recognized", zone),
                        errhint("See pg_timezone_names.")));
    return tz;
}

/* (cron text, time_zone text) returns void: an error if they are not what schedule_times() takes */
Datum
fleet_sql_check_cron(PG_FUNCTION_ARGS)
{
    (void) parse_cron(PG_GETARG_TEXT_PP(0));
    (void) find_zone(PG_GETARG_TEXT_PP(1));
    PG_RETURN_VOID();
}

/*
 * (cron text, time_zone text, after timestamptz, until timestamptz, count integer) returns setof timestamptz:
 * its times after "after" and not after "until", at most "count"; null: without that end
 */
Datum
fleet_sql_schedule_times(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    FleetCron cron;
    FleetZone zone = {offset_in_zone, NULL};
    TimestampTz time, until = PG_ARGISNULL(3) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(3);
    int32 count = PG_ARGISNULL(4) ? MAX_TIMES : PG_GETARG_INT32(4);

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
        PG_RETURN_NULL();
    cron = parse_cron(PG_GETARG_TEXT_PP(0));
    zone.context = find_zone(PG_GETARG_TEXT_PP(1));
    time = PG_GETARG_TIMESTAMPTZ(2);
    if (time > PG_INT64_MAX / 2 || TIMESTAMP_NOT_FINITE(time)) /* year 148,000 */
        PG_RETURN_NULL();
    while (count-- > 0)
    {
        FleetTime next = fleet_cron_next(&cron, &zone, time + EPOCH_DIFFERENCE);
        bool isnull = false;
        Datum value;

        CHECK_FOR_INTERRUPTS();
        if (next == FLEET_NEVER)
            break;
        time = next - EPOCH_DIFFERENCE;
        if (time > until)
            break;
        value = TimestampTzGetDatum(time);
        tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
    }
    PG_RETURN_NULL();
}
