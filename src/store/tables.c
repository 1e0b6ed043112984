/*
 * store/tables.c
 *     Columns and indexes of the hot path's tables, in the order of the enums
 *     of tables.h.  In the agent, and in sessions of links.
 */
#include "postgres.h"

#include "store/tables.h"

FleetTable fleet_table_run = {
    .name = "run",
    .ncolumns = 13,
    .columns = {"run_id", "state", "started_at", "finished_at", "message", "run_uuid", "timed_out",
                "expected_late_at", "late_at", "package", "owner", "queued_at", "run_at"},
    .indexes = {"run_pkey"},
};

FleetTable fleet_table_task_run = {
    .name = "task_run",
    .ncolumns = 19,
    .columns = {"run_id", "task_no", "item", "queued_at", "params", "item_key", "cost", "log_seq",
                "state", "attempt", "failures", "server_id", "started_at", "finished_at",
                "row_count", "sqlstate", "message", "output", "definition"},
    .indexes = {"task_run_pkey"},
};

FleetTable fleet_table_job_run = {
    .name = "job_run",
    .ncolumns = 24,
    .columns = {"job_run_id",  "token",           "job",       "definition",
                "owner",       "requested_by",    "state",     "parent_uuid",
                "step_no",     "attempt",         "step_runs", "log_seq",
                "sqlstate",    "row_count",       "queued_at", "started_at",
                "finished_at", "acknowledged_at", "params",    "message",
                "output",      "parent_role",     "context",   "hook_depth"},
    .indexes = {"job_run_pkey", "job_run_token_key"},
};

FleetTable fleet_table_step_run = {
    .name = "step_run",
    .ncolumns = 27,
    .columns = {"run_id",       "job_run_id",  "started_at",   "task_no",       "item",
                "first_seq",    "server_id",   "task_attempt", "step_no",       "attempt",
                "step",         "backend_pid", "xid",          "server_system", "server_timeline",
                "server_crash", "state",       "phase",        "last_seq",      "finished_at",
                "row_count",    "sqlstate",    "message",      "detail",        "hint",
                "context",      "output"},
    .indexes = {"step_run_task", "step_run_job"},
};

FleetTable fleet_table_log_line = {
    .name = "log_line",
    .ncolumns = 13,
    .columns = {"run_id", "job_run_id", "task_no", "item", "step_no", "seq", "logged_at", "level",
                "sqlstate", "message", "detail", "hint", "context"},
    .indexes = {"log_line_job"},
};

FleetTable fleet_table_cancel_request = {
    .name = "cancel_request",
    .ncolumns = 2,
    .columns = {"run_id", "job_run_id"},
    .indexes = {"cancel_request_job"},
};

FleetTable fleet_table_parent = {
    .name = "parent",
    .ncolumns = 3,
    .columns = {"parent_uuid", "role", "epoch"},
    .indexes = {"parent_pkey"},
};

FleetTable fleet_table_job = {
    .name = "job",
    .ncolumns = 4,
    .columns = {"job_id", "name", "owner", "params"},
    .indexes = {"job_name_key"},
};

FleetTable fleet_table_job_snapshot = {
    .name = "job_snapshot",
    .ncolumns = 5,
    .columns = {"job_id", "writer", "place", "owner", "hash"},
    .indexes = {"job_snapshot_pkey"},
};

FleetTable fleet_table_received = {
    .name = "received",
    .ncolumns = 5,
    .columns = {"role", "hash", "definition", "job", "params"},
    .indexes = {"received_pkey"},
};

FleetTable fleet_table_stat = {
    .name = "stat",
    .ncolumns = 7,
    .columns = {"stat_id", "kind", "package", "owner", "server_id", "since", "counts"},
    .indexes = {"stat_pkey"},
};
