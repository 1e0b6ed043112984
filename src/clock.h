/*
 * clock.h
 *     The one place that reads time (clock.c).
 */
#ifndef FLEET_CLOCK_H
#define FLEET_CLOCK_H

#include "postgres.h"
#include "core/core.h"
#include "datatype/timestamp.h"

/* Monotonic time in microseconds: for timers, never stored. */
extern FleetTime fleet_clock_now(void);
/* Wall time, for rows. */
extern TimestampTz fleet_clock_wall(void);
/* Wall time, for schedules: tests can set it forward and back (points.h). */
extern TimestampTz fleet_clock_calendar(void);
/* Converts between both, by the present offset (so it survives a restart of the agent). */
extern TimestampTz fleet_clock_to_wall(FleetTime t);
extern FleetTime fleet_clock_from_wall(TimestampTz t);

#endif
