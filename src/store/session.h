/*
 * store/session.h
 *     What sessions read of the catalog, with the extension's rights and the
 *     newest snapshot, whatever the caller's isolation level is.
 */
#ifndef FLEET_STORE_SESSION_H
#define FLEET_STORE_SESSION_H

#include "postgres.h"

/* The agent's row: process id (0: never ran) and handle of its shared memory. */
extern void fleet_catalog_agent(int *pid, uint32 *shared);
/* FleetState of a run; 0: there is no such run. */
extern int fleet_catalog_run_state(int64 run_id);

#endif
