/*
 * launcher/launcher.h
 *     Starts agents: the launcher process (when preloaded), the starter that
 *     brings an agent back after it had to leave, and the start on demand.
 */
#ifndef FLEET_LAUNCHER_LAUNCHER_H
#define FLEET_LAUNCHER_LAUNCHER_H

#include "postgres.h"

#include "compat.h"
#include "storage/lock.h"

/* From _PG_init while shared_preload_libraries is processed. */
extern void fleet_launcher_register(void);

/* Locks of a database: who holds which is said in agent/life.c. */
typedef enum FleetHomeLock
{
    FLEET_HOME_AGENT = 0,
    FLEET_HOME_STARTER = 1,
    FLEET_HOME_HEIR = 2,
} FleetHomeLock;

extern LOCKTAG fleet_home_lock(Oid database, FleetHomeLock which);

/* Is a starter about to bring this database's agent? */
extern bool fleet_starter_is_there(Oid database);

/* To be told by DROP DATABASE and by a waiting DROP EXTENSION, as autovacuum is: SIGTERM, SIGINT.
 * CREATE INDEX and REINDEX CONCURRENTLY do not wait for snapshots of a process with this flag.  That
 * is no harm to one that has a snapshot only during a statement: no plan uses an index that became
 * valid after the statement's snapshot was taken, as it is made, or made again, before that. */
extern void fleet_be_called(void);

/* Registers an agent of this database as a dynamic worker; false: no worker slot is free.  On a
 * standby there is no agent: nothing is done, and that is right. */
extern bool fleet_agent_launch(Oid database);

/* Does another session hold, or (waits) want, a lock on this that excludes everybody? */
extern bool fleet_excludes_all(const LOCKTAG *tag, bool waits);

/* How an agent ended, for its successor and for fleet.agent_status(): what has no room is cut off. */
typedef struct FleetAgentEnd
{
    int64 at;     /* TimestampTz; 0: by no error */
    int sqlstate; /* as ereport() has it */
    char message[80];
} FleetAgentEnd;

/* In the agent: how the one before it ended. */
extern const FleetAgentEnd *fleet_agent_predecessor(void);
/* … and the sentinel's OID as that one knew it, or InvalidOid. */
extern Oid fleet_agent_last_sentinel(void);

/* In the agent: the delay (ms) after which the starter launched it. */
#define FLEET_NOT_RESTARTED (-1) /* it was not a starter */
extern int fleet_agent_last_delay(void);

/* Called by an agent that ends: registers a starter and waits until that holds its lock.  The
 * starter waits for the delay, unless DROP EXTENSION waits for the sentinel; then until no DROP or
 * CREATE DATABASE holds this database, and until it allows connections, looks whether it is still
 * there, and launches its agent.  False: no worker slot is free. */
extern bool fleet_starter_launch(Oid database, int delay_ms, Oid sentinel,
                                 const FleetAgentEnd *end);

pg_noreturn extern PGDLLEXPORT void fleet_launcher_main(Datum arg);
pg_noreturn extern PGDLLEXPORT void fleet_starter_main(Datum arg);
pg_noreturn extern PGDLLEXPORT void fleet_agent_main(Datum arg);

#endif
