/*
 * api/alloc.c
 *     The core's allocator over palloc.  In any session.
 */
#include "postgres.h"

#include "api/alloc.h"

static void *
resize(void *context, void *ptr, size_t old_size, size_t new_size)
{
    if (new_size == 0)
    {
        if (ptr != NULL)
            pfree(ptr);
        return NULL;
    }
    if (ptr == NULL)
        return MemoryContextAllocHuge(CurrentMemoryContext, new_size);
    return repalloc_huge(ptr, new_size);
}

const FleetAlloc fleet_palloc = {resize, NULL};
