/*
 * core/cron.h
 *     When is a schedule due?  The five fields of cron, in a time zone.
 *
 * Called by src/api/ and the agent, and by tests with zones of their own.  No
 * clock: the time comes in.
 *
 * Times are microseconds since 1970-01-01 00:00 UTC.  Leap seconds do not
 * exist, as in the server.
 *
 * The language is that of Vixie cron, crontab(5), as pg_cron has it:
 *   minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-7
 *   (0 and 7 are Sunday); months and days of the week by three letters, too;
 *   lists 1,2; ranges 1-5; steps 1-30/5, also of "*"; "$" for the last day of the month;
 *   or one of @hourly, @daily, @midnight, @weekly, @monthly, @yearly,
 *   @annually.
 * If day of month and day of week are both restricted (neither begins with
 * "*"), a day matches that matches one of both; else it must match both.
 *
 * Where clocks change, as Vixie cron does it.  A schedule is *fixed* if neither
 * its minute nor its hour begins with "*":
 *   forward   what a fixed schedule has in the hour that does not exist is due once,
 *             when the clock has gone forward; others have nothing there
 *   back      a fixed schedule is due in the first of the two hours; others
 *             in both
 */
#ifndef FLEET_CORE_CRON_H
#define FLEET_CORE_CRON_H

#include "core/core.h"

typedef struct FleetCron
{
    uint64_t minutes;
    uint32_t hours, days, months; /* bit n: n */
    uint8_t weekdays;             /* bit 0: Sunday */
    bool last_day;                /* of the month */
    bool either_day;              /* day of month or day of week, not both */
    bool fixed;                   /* neither minute nor hour begins with "*" */
} FleetCron;

/* What a clock on the wall shows: UTC offset, east is positive, in seconds, at this time. */
typedef struct FleetZone
{
    int32_t (*offset)(void *context, FleetTime time);
    void *context;
} FleetZone;

/* False, with *error set: not of the language, or never due (February 30). */
extern bool fleet_cron_parse(const char *text, FleetCron *cron, FleetError *error);

/* The first time after "after" at which it is due; FLEET_NEVER: none within the next 12 years. */
extern FleetTime fleet_cron_next(const FleetCron *cron, const FleetZone *zone, FleetTime after);

#endif
