/*
 * store/fleet.h
 *     The agent's own row and identity, servers and what is known of them,
 *     learned durations, deployments.  In the agent's process.
 */
#ifndef FLEET_STORE_FLEET_H
#define FLEET_STORE_FLEET_H

#include "postgres.h"

#include "core/core.h"
#include "core/estimate.h"
#include "datatype/timestamp.h"

typedef struct FleetIdentityRow
{
    char uuid[37];
    uint64 epoch;
    char *paused; /* reason, or NULL */
} FleetIdentityRow;

/*
 * The agent moves in: counts the start, publishes pid and shared memory, makes
 * the identity if there is none, and finds out whether this database is a copy
 * (then paused is set, here and in the table).
 */
extern void fleet_identity_open(int pid, uint32 shared, uint32 timeline, uint64 system_identifier,
                                Oid database, FleetIdentityRow *row);
extern char *fleet_identity_paused(void); /* read again; palloc'd or NULL */

typedef struct FleetServerRow
{
    int server_id;
    char *name;
    bool agent_mode;
    char *state; /* online | draining | offline */
    int slots;
    double weight;
    char **groups;
    int ngroups;
    FleetSpeed speed;
} FleetServerRow;
extern int fleet_server_read(FleetServerRow **rows);

typedef struct FleetHealthWrite
{
    int server_id;
    const char *status;  /* up | suspect */
    const char *error;   /* NULL: leave the last one */
    const char *version; /* NULL: leave */
    bool seen;           /* last_seen = now */
    bool identifier_known;
    uint64 system_identifier;
    uint32 timeline;  /* 0: leave */
    int64 crash_mark; /* 0: leave */
} FleetHealthWrite;
extern void fleet_health_write(const FleetHealthWrite *write);
extern void fleet_speed_write(int server_id, const FleetSpeed *speed);

typedef struct FleetDurationRow
{
    char *task;
    char *item_key;
    char *job; /* by-job rows have package '' and task '' */
    FleetEstimate estimate;
} FleetDurationRow;
/* All of a package, and the by-job rows of the jobs that it names. */
extern int fleet_duration_read(const char *package, FleetDurationRow **rows);
extern void fleet_duration_write(const char *package, const char *task, const char *item_key,
                                 const char *job, const FleetEstimate *estimate);
/* Writes what fleet_duration_write() collected. */
extern void fleet_duration_flush(void);

typedef struct FleetDeploymentRow
{
    int server_id;
    char *job;
    Oid owner;
    char *document;
} FleetDeploymentRow;
extern int fleet_deployment_read_queued(FleetDeploymentRow **rows);
extern void fleet_deployment_write(int server_id, const char *job, bool ok, const char *message);

#endif
