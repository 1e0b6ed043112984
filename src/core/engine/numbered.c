/*
 * core/engine/numbered.c
 *     What is found by its number: an array in its order.  Keys of runs
 *     (limits.c) and named limits (named.c) are.
 */
#include "core/engine/internal.h"

#include <string.h>

/* Where it is, or would be. */
static uint32_t
place(const NumberedArray *array, uint64_t number)
{
    uint32_t low = 0, high = array->n;

    while (low < high)
    {
        uint32_t middle = low + (high - low) / 2;

        if (array->items[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void *
fleet_eng_numbered_find(const NumberedArray *array, uint64_t number)
{
    uint32_t at = place(array, number);

    return at < array->n && array->items[at]->number == number ? array->items[at] : NULL;
}

void *
fleet_eng_numbered_add(FleetEngine *engine, NumberedArray *array, uint64_t number, size_t size)
{
    uint32_t at = place(array, number);
    Numbered *item = fleet_alloc_zero(&engine->alloc, size);

    item->number = number;
    fleet_alloc_grow(&engine->alloc, (void **) &array->items, &array->capacity, array->n + 1,
                     sizeof(Numbered *));
    memmove(array->items + at + 1, array->items + at, (array->n - at) * sizeof(Numbered *));
    array->items[at] = item;
    array->n++;
    return item;
}

void
fleet_eng_numbered_remove(NumberedArray *array, uint64_t number)
{
    uint32_t at = place(array, number);

    memmove(array->items + at, array->items + at + 1, (array->n - at - 1) * sizeof(Numbered *));
    array->n--;
}

void
fleet_eng_numbered_free(FleetEngine *engine, NumberedArray *array)
{
    fleet_alloc_free(&engine->alloc, array->items, array->capacity * sizeof(Numbered *));
}
