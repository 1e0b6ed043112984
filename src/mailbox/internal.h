/*
 * mailbox/internal.h
 *     Layout of the memory that the agent shares with sessions.  Used by
 *     mailbox/agent.c (the agent) and mailbox/session.c (sessions) only.
 */
#ifndef FLEET_MAILBOX_INTERNAL_H
#define FLEET_MAILBOX_INTERNAL_H

#include "postgres.h"
#include "mailbox/mailbox.h"
#include "storage/proc.h"
#include "storage/spin.h"

#define FLEET_SHARED_MAGIC 0x466c6565
#ifdef FLEET_TEST_POINTS /* small, so that tests can fill them */
#define FLEET_RING_SIZE 1024
#define FLEET_MAX_WAITERS 64
#else
#define FLEET_RING_SIZE 8192
#define FLEET_MAX_WAITERS 1024
#endif

typedef struct FleetWaiter
{
    PGPROC *proc; /* NULL: free */
    int64 run_id;
    bool wants_changes; /* poke at every change, not only at the end */
    bool holds;         /* its query's snapshot, meanwhile */
    bool poked;
} FleetWaiter;

struct FleetShared
{
    uint32 magic;
    Oid database;  /* a copied database has the original's row, and so its handle */
    slock_t mutex; /* everything below */
    PGPROC *agent; /* NULL: the agent is gone */
    bool paused;   /* it begins nothing; set before anybody can find this memory */
    bool overflow; /* messages were lost: read everything again */
    uint32 head;   /* next to take */
    uint32 tail;   /* next to write; tail - head <= FLEET_RING_SIZE */
    int waiters_used;
    FleetMessage ring[FLEET_RING_SIZE];
    FleetWaiter waiters[FLEET_MAX_WAITERS];
};

#endif
