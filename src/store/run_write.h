/*
 * store/run_write.h
 *     Rows of run, task_run, job_run, step_run and log_line: what the agent
 *     writes, all rows of a turn together.  In the agent's process.
 *
 * Rows are collected, with copies of their texts, and written by fleet_run_flush().  Every change of state
 * is compare-and-set on the state that the agent believes the row to have, and
 * must be one that core/state.h allows (state_change.h); a row that is not
 * found so is an ERROR, which ends the agent: its successor reads what the rows
 * say.
 */
#ifndef FLEET_STORE_RUN_WRITE_H
#define FLEET_STORE_RUN_WRITE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "core/core.h"
#include "core/state.h"
#include "diagnostics.h"
#include "utils/jsonb.h"

extern void fleet_run_write_init(MemoryContext context);
extern bool fleet_run_write_pending(void);
/* Writes everything in the order that keeps references right. */
extern void fleet_run_flush(void);
/* The same, at a turn's end: there may be a commit before what is written last. */
extern void fleet_run_flush_turn(void);

/* A run, or a job run that is no task's: the other is 0. */
typedef struct FleetRowOwner
{
    int64 run_id;
    int64 job_run_id;
} FleetRowOwner;

typedef enum FleetWriteOrder
{
    FLEET_WRITE_TOGETHER, /* with those of others, table by table */
    FLEET_WRITE_APART,    /* its rows alone: what goes wrong is surely its own */
    FLEET_WRITE_LAST,     /* the same, after those of all others */
} FleetWriteOrder;

/* From now on each flush asks when to write what; NULL: everything together. */
extern void fleet_run_write_order(FleetWriteOrder (*order_of)(const FleetRowOwner *owner));

extern void fleet_run_write(int64 run_id, FleetState old, FleetState state, TimestampTz started,
                            TimestampTz finished, const char *message, bool timed_out);

/* A task as a whole, which has none of its own parameters yet. */
extern void fleet_task_write_new(int64 run_id, uint32 task, TimestampTz queued);

/* What the parameters of an item say of it: store/item.h. */
typedef struct FleetItemFacts
{
    char *key;   /* NULL: it has none; as long as what is collected */
    double cost; /* -1: not known */
} FleetItemFacts;

/* Which of the parameters say so; NULL: none. */
typedef struct FleetItemColumns
{
    const char *key;
    const char *cost;
} FleetItemColumns;

/* An item of a for_each.  ERROR if params are no JSON, or do not say what they are to say. */
extern FleetItemFacts fleet_item_write_new(int64 run_id, uint32 task, uint32 item,
                                           TimestampTz queued, const char *params,
                                           const FleetItemColumns *columns);
/* What was collected by write_new() since the mark is forgotten. */
extern int fleet_task_mark_new(void);
extern void fleet_task_forget_new(int mark);

typedef struct FleetTaskWrite
{
    int64 run_id;
    uint32 task;
    uint32 item;
    FleetState old;
    FleetState state;
    uint16 attempt;
    uint16 failures;
    int server_id; /* 0: null */
    int log_base;
    TimestampTz started_at;  /* 0: leave */
    TimestampTz finished_at; /* 0: null */
    int64 row_count;         /* -1: null */
    FleetDiagnostics diag;   /* sqlstate and message become columns */
    const char *output;
    const char *params; /* NULL: leave; JSON object */
    Jsonb *document;    /* … as it is stored: not the caller's */
    bool definition_known;
    uint8 definition[16]; /* of a job that is not defined here; else it is left */
    bool nested;          /* of kind package: what it does is done by the tasks in it */
    TimestampTz ready_at; /* a start: since when it could begin; 0: since there is its row */
} FleetTaskWrite;

/* An item's own parameters, as text and as jsonb, and its key. */
typedef struct FleetItemParams
{
    const char *text;
    Datum document;
    const char *key; /* NULL: none */
} FleetItemParams;

/* A start (state FLEET_STARTING): the row's own params come back through the callback during flush,
 * before the commit; NULL where the row has none. */
typedef void (*FleetStartedCallback)(int64 run_id, uint32 task, uint32 item,
                                     const FleetItemParams *params);
extern void fleet_task_write_start(const FleetTaskWrite *write);
extern void fleet_task_on_start(FleetStartedCallback callback);
extern void fleet_task_write(const FleetTaskWrite *write);

typedef struct FleetJobRunWrite
{
    int64 job_run_id;
    FleetState old;
    FleetState state;
    TimestampTz started_at;
    TimestampTz finished_at;
    int log_seq;
    int64 row_count;
    FleetDiagnostics diag; /* sqlstate and message become columns */
    const char *output;
} FleetJobRunWrite;
extern void fleet_job_run_write(const FleetJobRunWrite *write);

typedef struct FleetStepWrite
{
    int64 run_id;     /* 0: a job run's */
    int64 job_run_id; /* 0: a task run's */
    uint32 task;
    uint32 item;
    uint16 task_attempt;
    int step_no;
    int attempt;
    FleetState old; /* of the row, by fleet_step_write() */
    FleetState state;
    int phase;
    int first_seq;
    int last_seq; /* 0: null */
    int server_id;
    int backend_pid;
    uint64 xid;
    uint64 server_system; /* with an id, mode direct: its history; 0: not readable there */
    uint32 server_timeline;
    const char *server_crash; /* NULL or "": none */
    int64 row_count;
    TimestampTz started_at;
    TimestampTz finished_at;
    const char *step;
    FleetDiagnostics diag; /* all but level */
    const char *output;
} FleetStepWrite;
extern void fleet_step_write_new(const FleetStepWrite *write);
extern void fleet_step_write(const FleetStepWrite *write); /* row found by unit and first_seq */

typedef struct FleetLineWrite
{
    int64 run_id;
    int64 job_run_id;
    uint32 task;
    uint32 item;
    int step_no;
    int seq;
    TimestampTz logged_at;
    FleetDiagnostics diag;
} FleetLineWrite;
extern void fleet_line_write(const FleetLineWrite *write);

/* At once, not with the turn's rows: the uuid of a run that a session stored before there was an identity. */
extern void fleet_run_write_uuid(int64 run_id, const char *uuid);
/* The same: it has missed its deadline, or is expected to. */
extern void fleet_run_write_late(int64 run_id, bool expected, TimestampTz at);

#endif
