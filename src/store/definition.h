/*
 * store/definition.h
 *     Snapshots of packages and jobs, as runs use them, turned into what the
 *     core understands.  In the agent's process.
 *
 * Each is read once for its content hash and shared by its users, which are
 * counted.  A user is a memory context: it leaves when that context is reset
 * or deleted.  What no user is left of stays for the next one as long as all
 * of these together take at most FLEET_DEFINITION_UNUSED; the least recently
 * used goes first.  What no user is left of must not be looked at.
 */
#ifndef FLEET_STORE_DEFINITION_H
#define FLEET_STORE_DEFINITION_H

#include "postgres.h"

#include "store/run_write.h"
#include "store/spi.h"
#include "core/graph.h"
#include "core/job.h"

/* Bytes of definitions without a user that are kept. */
#define FLEET_DEFINITION_UNUSED (1024 * 1024)

/* An entry of the cache. */
typedef struct FleetDefinition FleetDefinition;

typedef struct FleetStepDef
{
    char *name;
    char *command;      /* SQL, or … */
    char *package;      /* … a package to run */
    bool transactional; /* as marked, or assumed until it is found out */
    bool strict;        /* marked so: what cannot run in a transaction fails */
    bool single;
    char *run_as;   /* role name; NULL: the job's owner; "": a role that was dropped */
    char *left_out; /* it is passed over, and why; NULL: it runs */
} FleetStepDef;

typedef struct FleetJobDef
{
    FleetDefinition *definition; /* what it is part of */
    char *name;
    Oid owner_oid;     /* InvalidOid: the role is gone */
    char *hash;        /* of its document, as text ... */
    char *document;    /* ... in a package: for servers of mode agent; NULL: no other needs it */
    char *params;      /* defaults, JSON object */
    bool leaves_clean; /* its steps leave nothing in their session */
    uint16 first;      /* step at which it begins, from 0 */
    uint16 nsteps;
    FleetStepSpec *specs;
    FleetStepDef *steps;
} FleetJobDef;

typedef enum FleetTransactional /* as a boolean, or null */
{
    FLEET_TRANSACTIONAL_NO,
    FLEET_TRANSACTIONAL_YES,
    FLEET_TRANSACTIONAL_FOUND_OUT,
} FleetTransactional;

typedef struct FleetTaskDef
{
    char *name;
    char *job;
    char *server; /* pinned, or … */
    char *group;  /* … placed on a member; both NULL: the job runs here */
    char *sql;
    FleetTransactional transactional; /* sql */
    char *package;
    char *params;
    bool templates; /* … may have some in them (43_context.sql) */
    char *for_each;
    FleetNames limits;        /* named limits */
    FleetItemColumns columns; /* what its items' parameters say of them */
    char *left_out;           /* why it is left out of this run; NULL: it is not */
    FleetJobDef *job_def;     /* NULL: not defined here (agent servers have their own) */
    bool by_name;             /* it is, but by a role that the package's owner may not act as: agent
                             servers have their own */
} FleetTaskDef;

typedef struct FleetPackageDef
{
    FleetDefinition *definition;
    MemoryContext context;
    char *name;
    bool strict; /* failed_if "any" */
    uint32 ntasks;
    FleetTaskDef *tasks;
    FleetTaskSpec *specs; /* target and estimate are for the user to fill in */
    uint32 nedges;
    FleetEdgeSpec *edges;
    char **conditions; /* per edge, NULL: none */
} FleetPackageDef;

/* "hash" as text; "user" begins to use it.  ERROR if there is no such snapshot, or if it is invalid. */
extern FleetPackageDef *fleet_definition_package(const char *hash, MemoryContext user);
extern FleetJobDef *fleet_definition_job(const char *hash, MemoryContext user);

/* Its hash as text. */
extern const char *fleet_definition_hash(const FleetDefinition *definition);

/* One more user of a definition that has one. */
extern void fleet_definition_use(FleetDefinition *definition, MemoryContext user);

/* base || item, both JSON objects as text; palloc'd. */
extern char *fleet_definition_merge(const char *base, const char *item);

/* The same with the parameters of an item as its row has them (run_write.h). */
extern char *fleet_definition_merge_item(const char *base, const FleetItemParams *item);

#endif
