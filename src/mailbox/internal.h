/*
 * mailbox/internal.h
 *     Layout of the memory that the agent shares with sessions.  Used by
 *     mailbox/agent.c (the agent), mailbox/session.c (sessions) and
 *     mailbox/ask.c (both) only.
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
#define FLEET_MAX_ASKS 4
#else
#define FLEET_RING_SIZE 8192
#define FLEET_MAX_WAITERS 1024
#define FLEET_MAX_ASKS 64
#endif

typedef struct FleetWaiter
{
    PGPROC *proc; /* NULL: free */
    int64 run_id;
    bool wants_changes; /* poke at every change, not only at the end */
    bool holds;         /* its query's snapshot, meanwhile */
    bool poked;
} FleetWaiter;

typedef struct FleetAsk
{
    PGPROC *proc; /* NULL: free */
    int server_id;
    Oid role;
    bool taken; /* the agent is about it */
    bool answered;
    FleetAnswer answer;
} FleetAsk;

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
    int asks_used;
    FleetMessage ring[FLEET_RING_SIZE];
    FleetWaiter waiters[FLEET_MAX_WAITERS];
    FleetAsk asks[FLEET_MAX_ASKS];
};

/* The present agent's memory; NULL: there is none (session.c). */
extern FleetShared *fleet_shared_find(void);
/* Sleeps until the latch is set, or until then; the session can be ended and canceled meanwhile. */
extern void fleet_session_sleep(FleetTime until);

#endif
