/*
 * core/placement/alloc.c
 *     The placer's memory, counted.  Called by all files of the placer.
 */
#include "core/placement/internal.h"

#include <string.h>

void *
placer_resize(FleetPlacer *placer, void *ptr, size_t old_size, size_t new_size)
{
    if (old_size == 0 && new_size == 0)
        return ptr;
    placer->bytes += new_size;
    placer->bytes -= old_size;
    return placer->alloc->resize(placer->alloc->context, ptr, old_size, new_size);
}

/* Like fleet_alloc_grow(), counted, by halves rather than doubling; new elements are zero. */
void
placer_grow(FleetPlacer *placer, void *array, uint32_t *capacity, uint32_t needed, size_t element)
{
    uint32_t more;
    void *ptr;

    if (needed <= *capacity)
        return;
    more = *capacity + *capacity / 2 + 4;
    if (more < needed)
        more = needed;
    memcpy(&ptr, array, sizeof(ptr)); /* "array" points to a pointer of any type */
    ptr = placer_resize(placer, ptr, *capacity * element, more * element);
    memset((char *) ptr + *capacity * element, 0, (more - *capacity) * element);
    memcpy(array, &ptr, sizeof(ptr));
    *capacity = more;
}
