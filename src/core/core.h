/*
 * core/core.h
 *     What every file of the core shares: time, outcomes, allocation, random
 *     numbers, and the growable array.
 *
 * The core is pure C: no PostgreSQL header, no libpq, no clock, no global
 * variable.  Time, random numbers and settings come in as parameters.  It is
 * compiled three times: into the extension, into the unit tests and into the
 * simulator.  It is single-threaded and not reentrant per object.
 *
 * Allocation goes through FleetAlloc and never returns NULL: inside
 * PostgreSQL it throws (and the whole object is then thrown away with its
 * memory context, which is why no core function needs to be exception safe),
 * in a plain program it aborts.
 */
#ifndef FLEET_CORE_H
#define FLEET_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A point in time or a span, in microseconds.  The driver chooses the zero. */
typedef int64_t FleetTime;

#define FLEET_NEVER INT64_MAX
#define FLEET_MS(n) ((FleetTime) (n) *1000)
#define FLEET_SECONDS(n) ((FleetTime) (n) *1000000)

/* The earlier of two; unlike the server's Min(), it evaluates each once. */
static inline FleetTime
fleet_earlier(FleetTime a, FleetTime b)
{
    return a < b ? a : b;
}

/*
 * How long a process may sleep until then, in milliseconds; -1: without an end.
 * Waits take an int (24.8 days): so it is 10 minutes at most, and who
 * sleeps must look at the time again.
 */
extern long fleet_wait_ms(FleetTime now, FleetTime until);

/* ---- memory ---- */

typedef struct FleetAlloc
{
    /* realloc contract: ptr NULL allocates, new_size 0 frees; never returns NULL otherwise */
    void *(*resize)(void *context, void *ptr, size_t old_size, size_t new_size);
    void *context;
} FleetAlloc;

/* malloc/abort allocator for plain programs */
extern const FleetAlloc fleet_malloc_alloc;

extern void *fleet_alloc_zero(const FleetAlloc *alloc, size_t size);
extern void fleet_alloc_free(const FleetAlloc *alloc, void *ptr, size_t size);

/*
 * Grows *array (element size, *capacity elements) so that index "needed - 1"
 * is valid; doubles, so appending is amortised O(1).
 */
extern void fleet_alloc_grow(const FleetAlloc *alloc, void **array, uint32_t *capacity,
                             uint32_t needed, size_t element);

/* ---- random numbers: xoshiro256**, by Blackman and Vigna, seeded by splitmix64 ---- */

typedef struct FleetRandom
{
    uint64_t s[4];
} FleetRandom;

extern void fleet_random_seed(FleetRandom *r, uint64_t seed);
extern uint64_t fleet_random_next(FleetRandom *r);
extern uint32_t fleet_random_below(FleetRandom *r, uint32_t n); /* 0 … n-1, unbiased; n > 0 */
extern double fleet_random_unit(FleetRandom *r);                /* [0, 1) */
extern double fleet_random_normal(FleetRandom *r);              /* Box-Muller */

/* ---- errors of the core: a code and a text, written into the caller's buffer ---- */

typedef struct FleetError
{
    char message[512]; /* one sentence, UTF-8, always terminated */
    char hint[256];    /* what to write instead; may be empty */
} FleetError;

/* Planted bugs (test/core only): compiled in with -DFLEET_BUG_<NAME>=1, otherwise 0. */
#include "core/bugs.h"

#endif
