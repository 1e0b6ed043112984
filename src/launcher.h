/*
 * launcher.h
 *     Starts agents: the launcher process (when preloaded), the starter that
 *     brings an agent back after it had to leave, and the start on demand.
 */
#ifndef FLEET_LAUNCHER_H
#define FLEET_LAUNCHER_H

#include "postgres.h"

#include "compat.h"

/* From _PG_init while shared_preload_libraries is processed. */
extern void fleet_launcher_register(void);

/* Registers an agent of this database as a dynamic worker; false: no worker slot is free. */
extern bool fleet_agent_launch(Oid database);

/* In the agent: the delay after which the starter launched it, 0 if none did. */
extern int fleet_agent_last_delay(void);

/* Registers a starter: waits until no DROP or CREATE DATABASE holds this database, looks whether
 * it is still there, and launches its agent.  Called by an agent that leaves. */
extern void fleet_starter_launch(Oid database, int delay_ms);

pg_noreturn extern PGDLLEXPORT void fleet_launcher_main(Datum arg);
pg_noreturn extern PGDLLEXPORT void fleet_starter_main(Datum arg);
pg_noreturn extern PGDLLEXPORT void fleet_agent_main(Datum arg);

#endif
