/*
 * zone.h
 *     The server's time zones as core/cron.h wants them, and its timestamps as
 *     the core's times.  In sessions and in the agent's process.
 */
#ifndef FLEET_ZONE_H
#define FLEET_ZONE_H

#include "postgres.h"

#include "core/cron.h"
#include "datatype/timestamp.h"

/* False: the server does not know it. */
extern bool fleet_zone_find(const char *name, FleetZone *zone);

/* The core counts from 1970, the server's timestamps from 2000. */
#define FLEET_ZONE_EPOCHS                                                                          \
    ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * (int64) SECS_PER_DAY * USECS_PER_SEC)

static inline FleetTime
fleet_zone_time(TimestampTz time)
{
    return time + FLEET_ZONE_EPOCHS;
}

static inline TimestampTz
fleet_zone_timestamp(FleetTime time)
{
    return time - FLEET_ZONE_EPOCHS;
}

#endif
