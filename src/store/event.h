/*
 * store/event.h
 *     Rows of fleet_catalog.event.  In the agent's process.
 */
#ifndef FLEET_STORE_EVENT_H
#define FLEET_STORE_EVENT_H

#include "postgres.h"

#include "core/raised.h"
#include "datatype/timestamp.h"

/* Texts are the caller's. */
typedef struct FleetEventRow
{
    FleetRaised kind;
    TimestampTz at;
    int64 run_id; /* 0: of no run */
    int item;
    int server_id;  /* 0: of no server */
    int hook_depth; /* so many hooks have led to it */
    Oid owner;      /* who sees it; InvalidOid: the server's owner, or everybody */
    const char *package, *task, *sqlstate, *message; /* each may be NULL */
    int64 event_id;                                  /* out */
    char *server;                                    /* out: its name, or NULL */
} FleetEventRow;

/* Inserts them, in their order, and gives each its number.  Memory: the current context. */
extern void fleet_events_write(FleetEventRow *rows, int n);
/* When it was told last that a schedule missed a time, by a message that begins so (the last of it: a blank); 0: none is kept. */
extern TimestampTz fleet_event_missed(const char *begin);
/* What is known of a server's health: a name of server_health.status. */
extern char *fleet_health_status(int server_id, MemoryContext context);

#endif
