/*
 * core/core.c
 *     Spans of time, allocation, random numbers: what every file of the core shares.
 *
 * Called by all of the core and its drivers, in any process.  No state.
 */
#include "core/core.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_WAIT FLEET_SECONDS(600)

long
fleet_wait_ms(FleetTime now, FleetTime until)
{
    if (until == FLEET_NEVER)
        return -1;
    if (until <= now)
        return 0;
    if (now < until - LONGEST_WAIT)
        return (long) (LONGEST_WAIT / 1000);
    return (long) ((until - now + 999) / 1000);
}

/* ---- memory ---- */

static void *
malloc_resize(void *context, void *ptr, size_t old_size, size_t new_size)
{
    void *result;

    (void) context;
    (void) old_size;
    if (new_size == 0)
    {
        free(ptr);
        return NULL;
    }
    result = realloc(ptr, new_size);
    if (result == NULL)
        abort(); /* LCOV_EXCL_LINE: the contract of a plain program */
    return result;
}

const FleetAlloc fleet_malloc_alloc = {malloc_resize, NULL};

void *
fleet_alloc_zero(const FleetAlloc *alloc, size_t size)
{
    void *result = alloc->resize(alloc->context, NULL, 0, size == 0 ? 1 : size);

    memset(result, 0, size);
    return result;
}

void
fleet_alloc_free(const FleetAlloc *alloc, void *ptr, size_t size)
{
    if (ptr != NULL)
        alloc->resize(alloc->context, ptr, size == 0 ? 1 : size, 0);
}

void
fleet_alloc_grow(const FleetAlloc *alloc, void **array, uint32_t *capacity, uint32_t needed,
                 size_t element)
{
    uint64_t wanted = *capacity;

    if (needed <= *capacity)
        return;
    if (wanted < 8)
        wanted = 8;
    while (wanted < needed)
        wanted *= 2;
    if (wanted > UINT32_MAX)
        wanted = UINT32_MAX;
    *array = alloc->resize(alloc->context, *array, (size_t) *capacity * element,
                           (size_t) wanted * element);
    *capacity = (uint32_t) wanted;
}

/* ---- random numbers ---- */

static uint64_t
splitmix(uint64_t *x)
{
    uint64_t z = (*x += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void
fleet_random_seed(FleetRandom *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

static uint64_t
rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t
fleet_random_next(FleetRandom *r)
{
    uint64_t result = rotate_left(r->s[1] * 5, 7) * 9;
    uint64_t t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = rotate_left(r->s[3], 45);
    return result;
}

uint32_t
fleet_random_below(FleetRandom *r, uint32_t n)
{
    /* Numbers below 2^32 mod n are thrown away, so that the rest divides evenly. */
    uint32_t reject = (uint32_t) -n % n;
    uint32_t x;

    do
        x = (uint32_t) (fleet_random_next(r) >> 32);
    while (x < reject);
    return x % n;
}

double
fleet_random_unit(FleetRandom *r)
{
    return (double) (fleet_random_next(r) >> 11) * 0x1.0p-53;
}

double
fleet_random_normal(FleetRandom *r)
{
    double u = 1.0 - fleet_random_unit(r); /* (0, 1]: its logarithm exists */
    double v = fleet_random_unit(r);

    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
