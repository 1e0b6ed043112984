/*
 * agent/schedule.h
 *     Schedules: when packages and jobs start by themselves.  In the agent's
 *     process.
 */
#ifndef FLEET_AGENT_SCHEDULE_H
#define FLEET_AGENT_SCHEDULE_H

#include "agent/state.h"

extern void agent_schedules_init(void);
/* Reads them again, and looks at what is due. */
extern void agent_schedules_load(void);
/* What is due is fired, as far as there are runners; returns when to look again. */
extern FleetTime agent_schedules_turn(FleetTime now);
extern void agent_schedule_event(void *schedule, const FleetExecutorEvent *event);

#endif
