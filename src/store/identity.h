/*
 * store/identity.h
 *     The identity of this parent and the row of its agent.  In the agent's
 *     process.
 */
#ifndef FLEET_STORE_IDENTITY_H
#define FLEET_STORE_IDENTITY_H

#include "postgres.h"

#include "datatype/timestamp.h"

typedef struct FleetIdentityRow
{
    char uuid[37];
    char secret[37]; /* goes into tokens, and nowhere else */
    uint64 epoch;
    char *paused; /* reason, or NULL; palloc'd */
} FleetIdentityRow;

/*
 * An agent begins its life: it makes the identity if there is none, finds out
 * whether this database is a copy (then "paused" is set, here and in the
 * table), counts its start, and publishes its pid and the handle of its shared
 * memory.  The epoch (fleet_epoch()) is of the write-ahead log's timeline and of
 * the count of starts.
 */
extern void fleet_identity_open(int pid, uint32 shared, uint32 timeline, uint64 system_identifier,
                                Oid database, FleetIdentityRow *row);
/* What the agent before this one ended by, for fleet.agent_status(). */
extern void fleet_agent_error_store(const char *sqlstate, const char *message, TimestampTz at);
/* Why the agent is paused, read again; palloc'd, or NULL. */
extern char *fleet_identity_paused(void);
/* The version of the extension in this database; palloc'd. */
extern char *fleet_extension_version(void);
/* The uuid of a run that was asked for by a key when there was no identity: made and stored now; palloc'd. */
extern char *fleet_identity_run_uuid(int64 run_id);

#endif
