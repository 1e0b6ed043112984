/*
 * store/hook.h
 *     Hooks, as the agent calls them, and how far it is with each: the SQL
 *     behind it is in src/sql/56_hook.sql.  In the agent's process.
 */
#ifndef FLEET_STORE_HOOK_H
#define FLEET_STORE_HOOK_H

#include "postgres.h"

#include "core/core.h"
#include "core/raised.h"
#include "core/state.h"
#include "datatype/timestamp.h"
#include "diagnostics.h"
#include "store/spi.h"

typedef struct FleetHookRow
{
    int32 hook_id;
    char *name;
    Oid owner;
    FleetNames on_event;
    char *package; /* NULL: whatever the package */
    char *job;     /* NULL: it is SQL that is to be executed */
    int retries;
    FleetTime retry_wait, timeout, max_age;
    int max_depth;
    int64 place;   /* up to this event all are done with */
    int failures;  /* one after the other, until now */
    int64 called;  /* for this event, and no agent has seen the end of it; 0: none */
    int cuts;      /* so many calls, one after the other, until that */
    char *version; /* changes with what is above "place" */
} FleetHookRow;

/* All that are enabled; of those that are gone nothing is kept. */
extern int fleet_hook_read(FleetHookRow **rows);

/* Bits of the kinds that are named, and they as an array of SQL. */
extern uint32 fleet_hook_kinds(const FleetNames *names);
extern char *fleet_hook_kind_array(uint32 kinds);
/* What it executes, as it is now; NULL: it is gone, or has a job. */
extern char *fleet_hook_sql(int32 hook_id);

/* One call, after all its attempts. */
typedef struct FleetHookCall
{
    int64 event_id;
    FleetState state;
    int attempts;
    TimestampTz started_at, finished_at;
} FleetHookCall;

extern void fleet_hook_called(int32 hook_id, const FleetHookCall *call,
                              const FleetDiagnostics *why);
/* It is going to be called for this event, the first time by this agent; 0: a call has ended. */
extern void fleet_hook_calls(int32 hook_id, int64 place, int64 event_id, int cuts);
/* How far it is; and why: it fails at present; NULL: it does not. */
extern void fleet_hook_place(int32 hook_id, int64 place);
extern void fleet_hook_at(int32 hook_id, int64 place, int failures, const FleetDiagnostics *why);

#endif
