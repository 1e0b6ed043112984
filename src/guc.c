/*
 * guc.c
 *     All settings, alphabetical.  Called by _PG_init in every process.
 */
#include "postgres.h"

#include <limits.h>

#include "guc.h"
#include "utils/guc.h"

char *fleet_guc_context = NULL;
int fleet_guc_keep_days = 90;
int fleet_guc_log_events = FLEET_LOG_EVENTS_FAILURES;
int fleet_guc_lost_after = 300000;
int fleet_guc_max_active_runs = 1000;
int fleet_guc_max_runners = 8;
char *fleet_guc_params = NULL;
int fleet_guc_probe_interval = 300000;
int fleet_guc_runner_idle_timeout = 60000;

static const struct config_enum_entry log_events[] = {
    {"off", FLEET_LOG_EVENTS_OFF, false},
    {"failures", FLEET_LOG_EVENTS_FAILURES, false},
    {"all", FLEET_LOG_EVENTS_ALL, false},
    {NULL, 0, false}};

void
fleet_guc_init(void)
{
    DefineCustomStringVariable(
        "fleet.context", "What the running step is part of, as a JSON object.", NULL,
        &fleet_guc_context, "{}", PGC_USERSET, GUC_NOT_IN_SAMPLE, NULL, NULL, NULL);
    DefineCustomIntVariable(
        "fleet.keep_days", "Days that runs and job runs are kept after their end; -1: for ever.",
        NULL, &fleet_guc_keep_days, 90, -1, 36500, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomEnumVariable("fleet.log_events",
                             "Which events are lines of the server's log: none, failures, or all.",
                             NULL, &fleet_guc_log_events, FLEET_LOG_EVENTS_FAILURES, log_events,
                             PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable(
        "fleet.lost_after", "Silence after which work started on a server is called lost.", NULL,
        &fleet_guc_lost_after, 300000, 1000, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
    DefineCustomIntVariable("fleet.max_active_runs",
                            "Runs of packages that one agent works on at the same time; further "
                            "ones wait in the queue.",
                            NULL, &fleet_guc_max_active_runs, 1000, 1, 1000000, PGC_SIGHUP, 0, NULL,
                            NULL, NULL);
    DefineCustomIntVariable("fleet.max_runners",
                            "Background workers that one agent uses for local steps.",
                            "Limited by max_worker_processes too.", &fleet_guc_max_runners, 8, 1,
                            1000, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("fleet.params", "Parameters of the running step, as a JSON object.",
                               NULL, &fleet_guc_params, "{}", PGC_USERSET, GUC_NOT_IN_SAMPLE, NULL,
                               NULL, NULL);
    DefineCustomIntVariable("fleet.probe_interval",
                            "Time after which a server that has said nothing is looked at; 0: it "
                            "is not.",
                            NULL, &fleet_guc_probe_interval, 300000, 0, INT_MAX, PGC_SIGHUP,
                            GUC_UNIT_MS, NULL, NULL, NULL);
    DefineCustomIntVariable("fleet.runner_idle_timeout",
                            "Time after which an idle runner process ends.", NULL,
                            &fleet_guc_runner_idle_timeout, 60000, 0, INT_MAX, PGC_SIGHUP,
                            GUC_UNIT_MS, NULL, NULL, NULL);
    MarkGUCPrefixReserved("fleet");
}
