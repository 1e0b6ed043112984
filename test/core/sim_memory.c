/*
 * sim_memory.c
 *     Memory of the simulator: an arena a case for its own things, and for
 *     the core an allocator that counts and checks every size it is given
 *     (inside PostgreSQL a wrong size would go unnoticed until it hurts).
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t) 1 << 20)

typedef struct Chunk
{
    struct Chunk *next;
    size_t size, used;
    _Alignas(16) char data[];
} Chunk;

static Chunk *chunks; /* the first one is kept from case to case */
static Chunk *current;
static size_t core_bytes;
static const char *core_misuse;

static Chunk *
new_chunk(size_t size)
{
    Chunk *chunk = malloc(sizeof(Chunk) + size);

    if (chunk == NULL)
        abort();
    chunk->next = NULL;
    chunk->size = size;
    chunk->used = 0;
    return chunk;
}

/* Zeroed memory that lives until the end of the case. */
void *
sim_alloc(size_t size)
{
    void *ptr;

    size = (size + 15) & ~(size_t) 15;
    if (current == NULL)
        chunks = current = new_chunk(CHUNK);
    if (current->used + size > current->size)
    {
        Chunk *chunk = new_chunk(size > CHUNK ? size : CHUNK);

        current->next = chunk;
        current = chunk;
    }
    ptr = current->data + current->used;
    current->used += size;
    memset(ptr, 0, size);
    return ptr;
}

void
sim_arena_reset(void)
{
    Chunk *chunk, *next;

    if (chunks == NULL)
        return;
    for (chunk = chunks->next; chunk != NULL; chunk = next)
    {
        next = chunk->next;
        free(chunk);
    }
    chunks->next = NULL;
    chunks->used = 0;
    current = chunks;
}

/* Doubles; new elements are zero. */
void
sim_grow_to(void **array, uint32_t *cap, uint32_t need, size_t element)
{
    uint32_t wanted = *cap < 8 ? 8 : *cap * 2;
    void *bigger;

    if (wanted < need)
        wanted = need;
    bigger = sim_alloc(wanted * element);
    if (*cap > 0)
        memcpy(bigger, *array, *cap * element);
    *array = bigger;
    *cap = wanted;
}

/* ---- what the core gets ---- */

#define HEAD 16

static void *
core_resize(void *context, void *ptr, size_t old_size, size_t new_size)
{
    char *block = NULL;

    (void) context;
    if (ptr != NULL)
    {
        size_t size;

        block = (char *) ptr - HEAD;
        memcpy(&size, block, sizeof size);
        if (size != old_size && core_misuse == NULL)
            core_misuse = "an allocation was given back with another size than it was made with";
        core_bytes -= size;
    }
    if (new_size == 0)
    {
        free(block);
        return NULL;
    }
    block = realloc(block, new_size + HEAD);
    if (block == NULL)
        abort();
    memcpy(block, &new_size, sizeof new_size);
    core_bytes += new_size;
    return block + HEAD;
}

const FleetAlloc sim_core_alloc = {core_resize, NULL};

size_t
sim_core_bytes(void)
{
    return core_bytes;
}

void
sim_core_forget(void)
{
    core_bytes = 0;
    core_misuse = NULL;
}

const char *
sim_core_misuse(void)
{
    return core_misuse;
}
