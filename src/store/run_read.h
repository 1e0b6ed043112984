/*
 * store/run_read.h
 *     Rows of run, task_run, job_run and step_run: what the agent reads when it
 *     starts, or is asked for something new.  In the agent's process.
 */
#ifndef FLEET_STORE_RUN_READ_H
#define FLEET_STORE_RUN_READ_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/core.h"
#include "core/state.h"

typedef struct FleetRunRow
{
    int64 run_id;
    char *run_uuid; /* NULL: to be made (fleet_identity_run_uuid()) */
    char *package;
    char *definition; /* hash */
    Oid owner;
    FleetState state;
    int32 priority;
    char *params;
    int64 parent_run_id; /* 0: none */
    uint32 parent_task;
    uint32 parent_item;
    int64 parent_job_run_id; /* 0: none */
    int64 restart_of;        /* 0: none */
    bool cancel;
    bool cancel_final;     /* … of its final tasks too */
    int package_id;        /* runs with the same one share a limit; 0: none */
    uint32 max_parallel;   /* that limit as it is now; 0: none */
    bool replaces;         /* takes the place of the others */
    TimestampTz queued_at; /* when it was asked for */
    TimestampTz run_at;    /* not before this; 0: at once */
    TimestampTz started_at;
    int64 timeout; /* microseconds; 0: none */
    bool timed_out;
    TimestampTz deadline; /* 0: none, or ... */
    int64 deadline_after; /* ... microseconds from started_at; 0: none */
    bool expected_late, late;
    char *message;       /* NULL: none */
    char *scheduled_for; /* a time; NULL: none */
    int hook_depth;      /* so many hooks have led to it */
} FleetRunRow;

/* Open runs with these ids (ids NULL: all open ones), by id; palloc'd in the current context. */
extern int fleet_run_read(const int64 *ids, int n, FleetRunRow **rows);

typedef struct FleetTaskRow
{
    uint32 task;
    uint32 item;
    int server_id; /* 0: none */
    uint16 attempt;
    uint16 failures;
    FleetState state;
    int log_base;
    TimestampTz started_at; /* 0: null */
    TimestampTz finished_at;
    int64 carried_from; /* 0: none */
    char *item_key;     /* NULL: none */
    double cost;        /* -1: not known */
} FleetTaskRow;

/* All task runs of one run. */
extern int fleet_task_read(int64 run_id, FleetTaskRow **rows);

/* An item's own parameters, and its key; NULL: none.  palloc'd. */
extern char *fleet_task_item_params(int64 run_id, uint32 task, uint32 item, char **key);

typedef struct FleetStepRow
{
    uint32 task; /* of task runs */
    uint32 item;
    uint16 task_attempt;
    int step_no;
    int attempt;
    FleetState state;
    int phase;
    int first_seq;
    int max_seq;   /* highest seq of anything of this unit */
    int step_runs; /* of this unit */
    int server_id;
    int backend_pid;
    uint64 xid;
    uint64 server_system; /* with an id, mode direct: its history; 0: not readable there */
    uint32 server_timeline;
    const char *server_crash; /* NULL: not known */
    int64 row_count;
    TimestampTz started_at;
    char *sqlstate;
    char *output;
} FleetStepRow;

/* The newest step run of every task run of this run that is not final, or of this job run. */
extern int fleet_step_read_newest(int64 run_id, int64 job_run_id, FleetStepRow **rows);

/* The number after the last stored line of the log of a task run. */
extern int fleet_task_next_line(int64 run_id, uint32 task, uint32 item);

typedef struct FleetJobRunRow
{
    int64 job_run_id;
    char *token;
    char *job;
    char *definition;
    Oid owner;
    FleetState state;
    char *parent_uuid; /* NULL: start_job here */
    char *params;
    char *context; /* fleet.context of its steps; NULL: of none but itself */
    int hook_depth;
    bool cancel;
} FleetJobRunRow;

extern int fleet_job_run_read(const int64 *ids, int n, FleetJobRunRow **rows);

#endif
