/*
 * store/limits.h
 *     How many runs of a package run at a time, what becomes of one that another
 *     one replaces, and when one will have ended; how many tasks that name a
 *     limit.  In the agent's process.
 */
#ifndef FLEET_STORE_LIMITS_H
#define FLEET_STORE_LIMITS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "store/spi.h"

typedef struct FleetLimitRow
{
    int package_id;
    uint32 max_parallel; /* 0: any number */
} FleetLimitRow;

/* Of the packages of which runs are open; palloc'd in the current context. */
extern int fleet_limits_read(FleetLimitRow **rows);
/* A named limit of tasks. */
typedef struct FleetNamedRow
{
    int limit_id;
    char *name;
    FleetNames former_names; /* that runs begun before may still use */
    Oid owner;
    bool shared; /* false: only for members of its owner */
    uint32 max_running;
} FleetNamedRow;

/* What a role may have at a time. */
typedef struct FleetQuotaRow
{
    Oid role; /* of "everybody" nothing */
    bool everybody;
    uint32 max_active_runs; /* 0: as everybody; of everybody: the default */
    uint32 max_runners;     /* the same */
    uint32 max_log_mb;      /* the same */
} FleetQuotaRow;

/* All of them; palloc'd in the context.  Returns how many. */
extern int fleet_quota_read(FleetQuotaRow **rows, MemoryContext context);

/* All of them, by id; palloc'd in the context.  Returns how many. */
extern int fleet_named_read(FleetNamedRow **rows, MemoryContext context);

/* A cancel of the first run, by who asked for the second. */
extern void fleet_limits_replaced(int64 run_id, int64 by);

/* When it is expected to end; 0: that cannot be told. */
extern TimestampTz fleet_run_eta(int64 run_id);

#endif
