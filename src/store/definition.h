/*
 * store/definition.h
 *     Snapshots of packages and jobs, as runs use them, turned into what the
 *     core understands.  In the agent's process.
 *
 * Both are made once per content hash and kept; everything in them lives in
 * their own memory context.
 */
#ifndef FLEET_STORE_DEFINITION_H
#define FLEET_STORE_DEFINITION_H

#include "postgres.h"

#include "store/run_write.h"
#include "core/graph.h"
#include "core/job.h"

typedef struct FleetStepDef
{
    char *name;
    char *command;      /* SQL, or … */
    char *package;      /* … a package to run */
    bool transactional; /* as marked, or assumed until it is found out */
    bool single;
    char *run_as; /* role name as stored, NULL: the job's owner */
} FleetStepDef;

typedef struct FleetJobDef
{
    char *name;
    char *owner;
    Oid owner_oid;     /* InvalidOid: the role is gone */
    char *params;      /* defaults, JSON object */
    bool leaves_clean; /* its steps leave nothing in their session */
    uint16 nsteps;
    FleetStepSpec *specs;
    FleetStepDef *steps;
} FleetJobDef;

typedef struct FleetTaskDef
{
    char *name;
    char *job;
    char *server; /* pinned, or … */
    char *group;  /* … placed on a member */
    char *sql;
    char *package;
    char *params;
    char *for_each;
    FleetJobDef *job_def; /* NULL: not defined here (agent servers have their own) */
} FleetTaskDef;

typedef struct FleetPackageDef
{
    MemoryContext context;
    char *name;
    uint32 ntasks;
    FleetTaskDef *tasks;
    FleetTaskSpec *specs; /* target and estimate are for the user to fill in */
    uint32 nedges;
    FleetEdgeSpec *edges;
    char **conditions; /* per edge, NULL: none */
    int refcount;      /* runs that use it */
} FleetPackageDef;

/* ERROR if there is no such snapshot or it makes no sense. "hash" as text. */
extern FleetPackageDef *fleet_definition_package(const char *hash, MemoryContext parent);
extern FleetJobDef *fleet_definition_job(const char *hash, MemoryContext context);

/* The job of one sql task: one step with its command. */
extern FleetJobDef *fleet_definition_sql_task(const char *name, const char *sql,
                                              MemoryContext context);

/* base || item, both JSON objects as text; palloc'd. */
extern char *fleet_definition_merge(const char *base, const char *item);

/* The same with the parameters of an item as its row has them (run_write.h). */
extern char *fleet_definition_merge_item(const char *base, const FleetItemParams *item);

#endif
