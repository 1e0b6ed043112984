/*
 * store/tables.h
 *     The tables of the hot path, for rows.h: their columns and indexes as
 *     numbers.  In the agent, and in sessions of links.
 */
#ifndef FLEET_STORE_TABLES_H
#define FLEET_STORE_TABLES_H

#include "store/rows.h"

enum
{
    RUN_ID,
    RUN_STATE,
    RUN_STARTED_AT,
    RUN_FINISHED_AT,
    RUN_MESSAGE,
    RUN_UUID,
    RUN_TIMED_OUT,
    RUN_EXPECTED_LATE_AT,
    RUN_LATE_AT,
    RUN_PACKAGE,
    RUN_OWNER,
    RUN_QUEUED_AT,
    RUN_RUN_AT
};
enum
{
    RUN_BY_ID
};
extern FleetTable fleet_table_run;

enum
{
    TASK_RUN_ID,
    TASK_NO,
    TASK_ITEM,
    TASK_QUEUED_AT,
    TASK_PARAMS,
    TASK_ITEM_KEY,
    TASK_COST,
    TASK_LOG_SEQ,
    TASK_STATE,
    TASK_ATTEMPT,
    TASK_FAILURES,
    TASK_SERVER_ID,
    TASK_STARTED_AT,
    TASK_FINISHED_AT,
    TASK_ROW_COUNT,
    TASK_SQLSTATE,
    TASK_MESSAGE,
    TASK_OUTPUT,
    TASK_DEFINITION
};
enum
{
    TASK_BY_KEY /* run_id, task_no, item */
};
extern FleetTable fleet_table_task_run;

enum
{
    JOB_RUN_ID,
    JOB_TOKEN,
    JOB_JOB,
    JOB_DEFINITION,
    JOB_OWNER,
    JOB_REQUESTED_BY,
    JOB_STATE,
    JOB_PARENT_UUID,
    JOB_STEP_NO,
    JOB_ATTEMPT,
    JOB_STEP_RUNS,
    JOB_LOG_SEQ,
    JOB_SQLSTATE,
    JOB_ROW_COUNT,
    JOB_QUEUED_AT,
    JOB_STARTED_AT,
    JOB_FINISHED_AT,
    JOB_ACKNOWLEDGED_AT,
    JOB_PARAMS,
    JOB_MESSAGE,
    JOB_OUTPUT,
    JOB_PARENT_ROLE,
    JOB_CONTEXT,
    JOB_HOOK_DEPTH
};
enum
{
    JOB_RUN_BY_ID,
    JOB_RUN_BY_TOKEN
};
extern FleetTable fleet_table_job_run;

enum
{
    STEP_RUN_ID,
    STEP_JOB_RUN_ID,
    STEP_STARTED_AT,
    STEP_TASK_NO,
    STEP_ITEM,
    STEP_FIRST_SEQ,
    STEP_SERVER_ID,
    STEP_TASK_ATTEMPT,
    STEP_STEP_NO,
    STEP_ATTEMPT,
    STEP_STEP,
    STEP_BACKEND_PID,
    STEP_XID,
    STEP_SERVER_SYSTEM,
    STEP_SERVER_TIMELINE,
    STEP_SERVER_CRASH,
    STEP_STATE,
    STEP_PHASE,
    STEP_LAST_SEQ,
    STEP_FINISHED_AT,
    STEP_ROW_COUNT,
    STEP_SQLSTATE,
    STEP_MESSAGE,
    STEP_DETAIL,
    STEP_HINT,
    STEP_CONTEXT,
    STEP_OUTPUT
};
enum
{
    STEP_BY_TASK, /* run_id, task_no, item, first_seq */
    STEP_BY_JOB   /* job_run_id, first_seq */
};
extern FleetTable fleet_table_step_run;

enum
{
    LINE_RUN_ID,
    LINE_JOB_RUN_ID,
    LINE_TASK_NO,
    LINE_ITEM,
    LINE_STEP_NO,
    LINE_SEQ,
    LINE_LOGGED_AT,
    LINE_LEVEL,
    LINE_SQLSTATE,
    LINE_MESSAGE,
    LINE_DETAIL,
    LINE_HINT,
    LINE_CONTEXT
};
enum
{
    LINE_BY_JOB /* job_run_id, seq */
};
extern FleetTable fleet_table_log_line;

enum
{
    CANCEL_RUN_ID,
    CANCEL_JOB_RUN_ID
};
enum
{
    CANCEL_BY_JOB_RUN /* job_run_id */
};
extern FleetTable fleet_table_cancel_request;

enum
{
    PARENT_UUID,
    PARENT_ROLE,
    PARENT_EPOCH
};
enum
{
    PARENT_BY_KEY /* parent_uuid, role */
};
extern FleetTable fleet_table_parent;

enum
{
    DEFINED_JOB_ID,
    DEFINED_JOB_NAME,
    DEFINED_JOB_OWNER,
    DEFINED_JOB_PARAMS
};
enum
{
    DEFINED_JOB_BY_NAME
};
extern FleetTable fleet_table_job;

enum
{
    SNAPSHOT_JOB_ID,
    SNAPSHOT_WRITER,
    SNAPSHOT_PLACE,
    SNAPSHOT_OWNER,
    SNAPSHOT_HASH
};
enum
{
    SNAPSHOT_BY_JOB /* job_id, owner */
};
extern FleetTable fleet_table_job_snapshot;

enum
{
    RECEIVED_ROLE,
    RECEIVED_HASH,
    RECEIVED_DEFINITION,
    RECEIVED_JOB,
    RECEIVED_PARAMS
};
enum
{
    RECEIVED_BY_KEY /* role, hash */
};
extern FleetTable fleet_table_received;

enum
{
    STAT_ID,
    STAT_KIND,
    STAT_PACKAGE,
    STAT_OWNER,
    STAT_SERVER_ID,
    STAT_SINCE,
    STAT_COUNTS
};
enum
{
    STAT_BY_ID
};
extern FleetTable fleet_table_stat;

#endif
