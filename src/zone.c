/*
 * zone.c
 *     The server's time zones (zone.h).
 */
#include "postgres.h"

#include "pgtime.h"
#include "zone.h"

static int32_t
offset_in_zone(void *context, FleetTime time)
{
    pg_time_t seconds = (pg_time_t) (time / USECS_PER_SEC);
    struct pg_tm *tm = pg_localtime(&seconds, context);

    return tm == NULL ? 0 : (int32_t) tm->tm_gmtoff;
}

bool
fleet_zone_find(const char *name, FleetZone *zone)
{
    pg_tz *tz = name[0] == '\0' || strlen(name) > TZ_STRLEN_MAX ? NULL : pg_tzset(name);

    if (tz == NULL || !pg_tz_acceptable(tz))
        return false;
    *zone = (FleetZone){offset_in_zone, tz};
    return true;
}
