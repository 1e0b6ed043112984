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

/* Registers an agent of this database as a dynamic worker; false: no worker slot is free.  On a
 * standby there is no agent: nothing is done, and that is right. */
extern bool fleet_agent_launch(Oid database);

/* In the agent: the delay (ms) after which the starter launched it. */
#define FLEET_NOT_RESTARTED (-1) /* it was not a starter */
extern int fleet_agent_last_delay(void);

/* Called by an agent that ends: registers a starter and waits until that holds its lock.  The
 * starter waits for the delay, then until no DROP or CREATE DATABASE holds this database, looks
 * whether it is still there, and launches its agent.  False: no worker slot is free. */
extern bool fleet_starter_launch(Oid database, int delay_ms);

pg_noreturn extern PGDLLEXPORT void fleet_launcher_main(Datum arg);
pg_noreturn extern PGDLLEXPORT void fleet_starter_main(Datum arg);
pg_noreturn extern PGDLLEXPORT void fleet_agent_main(Datum arg);

#endif
