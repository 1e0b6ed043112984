/*
 * api/schedule.c
 *     The times of a schedule, for SQL: core/cron.h, with the server's time zones.
 *
 * Called in sessions and by the agent's SQL.
 */
#include "postgres.h"

#include "clock.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "zone.h"

#define MAX_TIMES 100000

PG_FUNCTION_INFO_V1(fleet_sql_schedule_times);
PG_FUNCTION_INFO_V1(fleet_sql_check_cron);
PG_FUNCTION_INFO_V1(fleet_sql_calendar);
PG_FUNCTION_INFO_V1(fleet_sql_next_time);

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

static FleetZone
find_zone(text *name)
{
    FleetZone zone;

    if (!fleet_zone_find(text_to_cstring(name), &zone))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("time zone \"%s\" not recognized", text_to_cstring(name)),
                        errhint("See pg_timezone_names.")));
    return zone;
}

/* () returns timestamptz: what schedules go by */
Datum
fleet_sql_calendar(PG_FUNCTION_ARGS)
{
    PG_RETURN_TIMESTAMPTZ(fleet_clock_calendar());
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
    FleetZone zone;
    TimestampTz time, until = PG_ARGISNULL(3) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(3);
    int32 count = PG_ARGISNULL(4) ? MAX_TIMES : PG_GETARG_INT32(4);

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
        PG_RETURN_NULL();
    cron = parse_cron(PG_GETARG_TEXT_PP(0));
    zone = find_zone(PG_GETARG_TEXT_PP(1));
    time = PG_GETARG_TIMESTAMPTZ(2);
    if (time > PG_INT64_MAX / 2 || TIMESTAMP_NOT_FINITE(time)) /* year 148,000 */
        PG_RETURN_NULL();
    while (count-- > 0)
    {
        FleetTime next = fleet_cron_next(&cron, &zone, fleet_zone_time(time));
        bool isnull = false;
        Datum value;

        CHECK_FOR_INTERRUPTS();
        if (next == FLEET_NEVER)
            break;
        time = fleet_zone_timestamp(next);
        if (time > until)
            break;
        value = TimestampTzGetDatum(time);
        tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
    }
    PG_RETURN_NULL();
}

/* (cron text, time_zone text, after timestamptz) returns timestamptz: for views, which no row must break */
Datum
fleet_sql_next_time(PG_FUNCTION_ARGS)
{
    TimestampTz after = PG_GETARG_TIMESTAMPTZ(2);
    FleetCron cron;
    FleetZone zone;
    FleetTime next;

    if (!fleet_cron_parse(text_to_cstring(PG_GETARG_TEXT_PP(0)), &cron, NULL) ||
        !fleet_zone_find(text_to_cstring(PG_GETARG_TEXT_PP(1)), &zone) ||
        TIMESTAMP_NOT_FINITE(after) || after > PG_INT64_MAX / 2)
        PG_RETURN_NULL();
    next = fleet_cron_next(&cron, &zone, fleet_zone_time(after));
    if (next == FLEET_NEVER)
        PG_RETURN_NULL();
    PG_RETURN_TIMESTAMPTZ(fleet_zone_timestamp(next));
}
