/*
 * runner/ring.h
 *     A queue of messages in shared memory, with one writer and one reader.
 *     Between the agent and a runner, in both processes.
 *
 * It does what the server's shm_mq does, and one thing besides, for which it
 * exists: the reader may be replaced.  What was read stays in the ring until
 * the reader frees it; a reader that ends before that leaves it to the next
 * one, who begins where freeing had come to.
 *
 * Nothing here waits or wakes anybody: who is to be woken, the callers know.
 */
#ifndef FLEET_RUNNER_RING_H
#define FLEET_RUNNER_RING_H

#include "postgres.h"

#include "lib/stringinfo.h"
#include "port/atomics.h"

typedef struct RunnerRing
{
    pg_atomic_uint64 written; /* bytes ever written, the writer's */
    pg_atomic_uint64 freed;   /* bytes ever freed, the reader's */
    pg_atomic_uint32 waits;   /* the writer wants to know when something is freed */
    uint32 capacity;
    uint64 data[FLEXIBLE_ARRAY_MEMBER];
} RunnerRing;

#define FLEET_RING_SIZE(capacity) (offsetof(RunnerRing, data) + (capacity))

/* A reader's own place; zeroed, except for the buffer, it begins with an empty ring. */
typedef struct RunnerRingReader
{
    uint64 position;       /* next to be read */
    uint64 complete;       /* end of the last whole message */
    StringInfoData buffer; /* of a message that comes in pieces */
} RunnerRingReader;

/* capacity: a power of two. */
extern void fleet_ring_init(RunnerRing *ring, uint32 capacity);

/*
 * Writes what is still missing of a message; *done, 0 at first, is how much of
 * it was written.  False: the ring is full, try again later.  A message larger
 * than a quarter of the ring goes in pieces; one that is left unfinished is
 * dropped by the reader when the next one begins.
 */
extern bool fleet_ring_write(RunnerRing *ring, const char *data, Size size, Size *done);

extern void fleet_ring_reader_init(RunnerRing *ring, RunnerRingReader *reader);
/* The next message; it stays valid until it is freed and, in case it came in pieces, until the next
 * call.  False: there is none. */
extern bool fleet_ring_read(RunnerRing *ring, RunnerRingReader *reader, const char **data,
                            Size *size);
/* Gives up what was read, to "complete", or to "position", where pieces are in the buffer already.
 * True: the writer waits for that and is to be woken. */
extern bool fleet_ring_free(RunnerRing *ring, uint64 upto);

/* Bytes written and not yet freed. */
extern uint64 fleet_ring_used(RunnerRing *ring);

#endif
