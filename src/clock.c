/*
 * clock.c
 *     The one place that reads time.  Any process.
 */
#include "postgres.h"

#include "clock.h"
#include "points.h"
#include "portability/instr_time.h"
#include "utils/timestamp.h"

FleetTime
fleet_clock_now(void)
{
    instr_time t;

    INSTR_TIME_SET_CURRENT(t);
    return (FleetTime) INSTR_TIME_GET_MICROSEC(t);
}

TimestampTz
fleet_clock_wall(void)
{
    return GetCurrentTimestamp();
}

TimestampTz
fleet_clock_calendar(void)
{
    return GetCurrentTimestamp() + FLEET_POINT_SECONDS("calendar") * USECS_PER_SEC;
}

TimestampTz
fleet_clock_to_wall(FleetTime t)
{
    return t == FLEET_NEVER ? DT_NOEND : GetCurrentTimestamp() + (t - fleet_clock_now());
}

FleetTime
fleet_clock_from_wall(TimestampTz t)
{
    return fleet_clock_now() + (t - GetCurrentTimestamp());
}
