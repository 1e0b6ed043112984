/*
 * guc.h
 *     All settings, alphabetical.  Prefix "fleet." is reserved.
 */
#ifndef FLEET_GUC_H
#define FLEET_GUC_H

#include "postgres.h"

typedef enum FleetLogEvents
{
    FLEET_LOG_EVENTS_OFF,
    FLEET_LOG_EVENTS_FAILURES,
    FLEET_LOG_EVENTS_ALL,
} FleetLogEvents;

extern int fleet_guc_keep_days;  /* -1: for ever */
extern int fleet_guc_lost_after; /* ms */
extern int fleet_guc_log_events; /* FleetLogEvents */
extern int fleet_guc_max_active_runs;
extern int fleet_guc_max_runners;
extern char *fleet_guc_context;           /* JSON object: what the running step is part of */
extern char *fleet_guc_params;            /* JSON object of the running step */
extern int fleet_guc_probe_interval;      /* ms; 0: never */
extern int fleet_guc_runner_idle_timeout; /* ms */

extern void fleet_guc_init(void);

#endif
