/*
 * store/session.h
 *     What sessions read of the catalog, with the extension's rights and the
 *     newest snapshot, whatever the caller's isolation level is; and procedures
 *     that end transactions.
 */
#ifndef FLEET_STORE_SESSION_H
#define FLEET_STORE_SESSION_H

#include "postgres.h"

/* The agent's row: process id (0: never ran) and handle of its shared memory. */
extern void fleet_catalog_agent(int *pid, uint32 *shared);
/* Why this parent is paused; NULL: it is not.  Lives until the transaction ends. */
extern char *fleet_catalog_paused(void);
/* Why there is no agent, and none comes at once; NULL: not so.  Lives as long. */
extern char *fleet_catalog_no_agent(void);
/* FleetState of a run; 0: there is no such run. */
extern int fleet_catalog_run_state(int64 run_id);

/* A procedure that ends transactions: within begin and end the following can be called. */
extern void fleet_session_begin(void);
extern void fleet_session_end(void);
/* Ends the transaction, and with it what it holds: snapshots and locks. */
extern void fleet_session_rest(void);
/* As the caller: may this run be waited for?  An error, or the timeout in ms (-1: none). */
extern long fleet_session_may_wait(const NullableDatum *run_id, const NullableDatum *timeout);
/* As the caller. */
extern void fleet_session_cancel_run(int64 run_id);

#endif
