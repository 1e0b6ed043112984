/*
 * store/server.h
 *     Servers, and what is known of their health and speed.  In the agent's
 *     process.
 */
#ifndef FLEET_STORE_SERVER_H
#define FLEET_STORE_SERVER_H

#include "postgres.h"

#include "core/speed.h"
#include "datatype/timestamp.h"
#include "store/spi.h"

typedef struct FleetServerRow
{
    int server_id;
    Oid foreign; /* InvalidOid: the foreign server was dropped */
    char *name;
    FleetNames former_names; /* that runs begun before may still use */
    bool agent_mode;
    char *state; /* online | draining | offline */
    int slots;
    double weight;
    FleetNames groups;
    FleetSpeed speed;
} FleetServerRow;

/* All servers, by id; palloc'd in the current context.  Returns how many. */
extern int fleet_server_read(FleetServerRow **rows);

typedef struct FleetHealthWrite
{
    int server_id;
    const char *status;   /* up | suspect | refused | auth_failed | unknown */
    const char *error;    /* NULL: leave the last one */
    const char *sqlstate; /* of the error, for its event; is no column */
    const char *version;  /* NULL: leave */
    TimestampTz seen_at;  /* when it was last heard; 0: leave */
    bool identifier_known;
    uint64 system_identifier;
    uint32 timeline;        /* 0: leave */
    const char *crash_mark; /* NULL or "": leave */
} FleetHealthWrite;

/* What became known of a server; nothing happens if it was removed meanwhile. */
extern void fleet_health_write(const FleetHealthWrite *write);
/* Roles as which a probe may log in: the server's owner, then those that have a user mapping of their
 * own; palloc'd in the current context.  Returns how many. */
extern int fleet_server_roles(int server_id, Oid **roles);
extern void fleet_speed_write(int server_id, const FleetSpeed *speed);

#endif
