/*
 * agent/stat.h
 *     Counters: when they are read, begin anew, and are written though nothing
 *     else is.  What is counted, and where: store/stat.h.
 */
#ifndef FLEET_AGENT_STAT_H
#define FLEET_AGENT_STAT_H

#include "agent/run.h"

/* Before anything is counted.  What is not written yet when the agent leaves is written then. */
extern void agent_stat_load(void);
/* What has begun of a run that was under way: rows as they were read. */
extern void agent_stat_found(const FleetTaskRow *rows, int n);
/* Sessions have asked for all to begin at 0. */
extern void agent_stat_reset(void);
/* Returns when it is to be called again. */
extern FleetTime agent_stat_turn(FleetTime now);

#endif
