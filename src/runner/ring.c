/*
 * runner/ring.c
 *     Queue of messages in shared memory: see runner/ring.h.
 *
 * A message is one frame or several: a head of eight bytes and the bytes
 * themselves.  A frame never wraps around, so that the reader can use it where
 * it lies; what is left at the ring's end is a frame of padding.
 */
#include "postgres.h"

#include "runner/ring.h"

#include "points.h"

#define FRAME_FIRST 1u
#define FRAME_LAST 2u
#define FRAME_PADDING 4u

typedef struct RingFrame
{
    uint32 size; /* of the bytes that follow, without those that only align */
    uint32 flags;
} RingFrame;

StaticAssertDecl(sizeof(RingFrame) == sizeof(uint64), "a frame's head fits wherever one can begin");

#define FRAME_BYTES(size) (sizeof(RingFrame) + TYPEALIGN(sizeof(RingFrame), size))

void
fleet_ring_init(RunnerRing *ring, uint32 capacity)
{
    pg_atomic_init_u64(&ring->written, 0);
    pg_atomic_init_u64(&ring->freed, 0);
    pg_atomic_init_u32(&ring->waits, 0);
    ring->capacity = capacity;
}

static RingFrame *
frame_at(RunnerRing *ring, uint64 position)
{
    return (RingFrame *) ((char *) ring->data + (position & (ring->capacity - 1)));
}

/* Place for a frame of that many bytes, after padding if need be; NULL: none now. */
static RingFrame *
reserve(RunnerRing *ring, uint64 *written, Size bytes)
{
    uint64 space = ring->capacity - (*written - pg_atomic_read_u64(&ring->freed));
    uint64 tail = ring->capacity - (*written & (ring->capacity - 1));

    pg_memory_barrier(); /* nothing is overwritten before it is known to be free */
    if (tail >= bytes)
        return space >= bytes ? frame_at(ring, *written) : NULL;
    if (space < tail + bytes)
        return NULL;
    *frame_at(ring, *written) =
        (RingFrame){.size = (uint32) (tail - sizeof(RingFrame)), .flags = FRAME_PADDING};
    *written += tail;
    return frame_at(ring, *written);
}

static bool
write_piece(RunnerRing *ring, const char *data, Size size, Size *done)
{
    uint64 written = pg_atomic_read_u64(&ring->written);
    Size piece = Min(size - *done, ring->capacity / 4 - sizeof(RingFrame));
    RingFrame *frame = reserve(ring, &written, FRAME_BYTES(piece));

    if (frame == NULL)
        return false;
    frame->size = (uint32) piece;
    frame->flags = (*done == 0 ? FRAME_FIRST : 0) | (*done + piece == size ? FRAME_LAST : 0);
    memcpy(frame + 1, data + *done, piece);
    *done += piece;
    pg_write_barrier();
    FLEET_POINT("ring_before_write");
    pg_atomic_write_u64(&ring->written, written + FRAME_BYTES(piece));
    return true;
}

bool
fleet_ring_write(RunnerRing *ring, const char *data, Size size, Size *done)
{
    do
    {
        if (write_piece(ring, data, size, done))
            continue;
        /* Either the reader sees this, or we see what it freed. */
        pg_atomic_write_u32(&ring->waits, 1);
        pg_memory_barrier();
        if (!write_piece(ring, data, size, done))
            return false;
    } while (*done < size);
    return true;
}

void
fleet_ring_reader_init(RunnerRing *ring, RunnerRingReader *reader)
{
    reader->position = reader->complete = pg_atomic_read_u64(&ring->freed);
    initStringInfo(&reader->buffer);
}

bool
fleet_ring_read(RunnerRing *ring, RunnerRingReader *reader, const char **data, Size *size)
{
    uint64 written = pg_atomic_read_u64(&ring->written);

    pg_read_barrier();
    while (reader->position != written)
    {
        const RingFrame *frame = frame_at(ring, reader->position);
        const char *bytes = (const char *) (frame + 1);

        reader->position += FRAME_BYTES(frame->size);
        if (frame->flags & FRAME_PADDING)
            continue;
        if (frame->flags & FRAME_FIRST)
            resetStringInfo(&reader->buffer);
        *data = bytes;
        *size = frame->size;
        if ((frame->flags & (FRAME_FIRST | FRAME_LAST)) != (FRAME_FIRST | FRAME_LAST))
        {
            appendBinaryStringInfo(&reader->buffer, bytes, (int) frame->size);
            if (!(frame->flags & FRAME_LAST))
                continue;
            *data = reader->buffer.data;
            *size = (Size) reader->buffer.len;
        }
        reader->complete = reader->position;
        FLEET_POINT("ring_read");
        return true;
    }
    return false;
}

bool
fleet_ring_free(RunnerRing *ring, uint64 upto)
{
    if (pg_atomic_read_u64(&ring->freed) == upto)
        return false;
    pg_memory_barrier(); /* all of it was read */
    pg_atomic_write_u64(&ring->freed, upto);
    pg_memory_barrier();
    return pg_atomic_read_u32(&ring->waits) != 0 && pg_atomic_exchange_u32(&ring->waits, 0) != 0;
}

uint64
fleet_ring_used(RunnerRing *ring)
{
    uint64 freed = pg_atomic_read_u64(&ring->freed);

    return pg_atomic_read_u64(&ring->written) - freed;
}
