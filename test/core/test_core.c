/*
 * test_core.c
 *     Allocation, growing arrays, random numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "core/core.h"

static void
zeroed_and_freed(void **state)
{
    unsigned char *p = fleet_alloc_zero(&fleet_malloc_alloc, 100);
    void *nothing = fleet_alloc_zero(&fleet_malloc_alloc, 0);

    (void) state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], 0);
    assert_non_null(nothing);
    fleet_alloc_free(&fleet_malloc_alloc, p, 100);
    fleet_alloc_free(&fleet_malloc_alloc, nothing, 0);
    fleet_alloc_free(&fleet_malloc_alloc, NULL, 5);
}

/* An allocator that checks that sizes are told truly. */
typedef struct Meter
{
    size_t bytes, calls;
} Meter;

static void *
metered(void *context, void *ptr, size_t old_size, size_t new_size)
{
    Meter *meter = context;

    assert_true(ptr != NULL || old_size == 0);
    assert_true(meter->bytes >= old_size);
    meter->bytes += new_size - old_size;
    meter->calls++;
    return fleet_malloc_alloc.resize(NULL, ptr, old_size, new_size);
}

static void
arrays_double(void **state)
{
    Meter meter = {0, 0};
    FleetAlloc alloc = {metered, &meter};
    uint32_t *array = NULL, capacity = 0;

    (void) state;
    for (uint32_t i = 0; i < 100000; i++)
    {
        fleet_alloc_grow(&alloc, (void **) &array, &capacity, i + 1, sizeof(uint32_t));
        array[i] = i;
    }
    for (uint32_t i = 0; i < 100000; i++)
        assert_int_equal(array[i], i);
    assert_in_range(meter.calls, 5, 20); /* amortised */
    assert_int_equal(meter.bytes, capacity * sizeof(uint32_t));
    fleet_alloc_free(&alloc, array, capacity * sizeof(uint32_t));
    assert_int_equal(meter.bytes, 0);
}

/* Near the end of the numbers the capacity stops doubling instead of overflowing. */
static void *
pretend(void *context, void *ptr, size_t old_size, size_t new_size)
{
    (void) ptr;
    (void) old_size;
    *(size_t *) context = new_size;
    return context;
}

static void
capacity_does_not_overflow(void **state)
{
    size_t asked = 0;
    FleetAlloc alloc = {pretend, &asked};
    void *array = NULL;
    uint32_t capacity = UINT32_MAX / 2 + 10;

    (void) state;
    fleet_alloc_grow(&alloc, &array, &capacity, capacity + 1, 1);
    assert_int_equal(capacity, UINT32_MAX);
    assert_int_equal(asked, UINT32_MAX);
}

static void
random_replays(void **state)
{
    FleetRandom a, b, c;
    int differ = 0;

    (void) state;
    fleet_random_seed(&a, 7);
    fleet_random_seed(&b, 7);
    fleet_random_seed(&c, 8);
    for (int i = 0; i < 1000; i++)
    {
        uint64_t x = fleet_random_next(&a);

        assert_true(x == fleet_random_next(&b));
        differ += x != fleet_random_next(&c);
    }
    assert_int_equal(differ, 1000);
}

/* The published first outputs of xoshiro256** from the state 1, 2, 3, 4. */
static void
random_is_xoshiro(void **state)
{
    static const uint64_t expected[] = {11520, 0, 1509978240, UINT64_C(1215971899390074240)};
    FleetRandom r = {{1, 2, 3, 4}};

    (void) state;
    for (int i = 0; i < 4; i++)
        assert_true(fleet_random_next(&r) == expected[i]);
}

static void
random_is_even(void **state)
{
    FleetRandom r;
    uint32_t counts[7] = {0};
    double sum = 0, squares = 0;

    (void) state;
    fleet_random_seed(&r, 1);
    for (int i = 0; i < 70000; i++)
        counts[fleet_random_below(&r, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 9500, 10500);
    /* a divisor that rejects nearly half of all draws */
    for (int i = 0; i < 1000; i++)
        assert_true(fleet_random_below(&r, UINT32_C(2147483649)) <= UINT32_C(2147483648));
    for (int i = 0; i < 100000; i++)
    {
        double u = fleet_random_unit(&r), n = fleet_random_normal(&r);

        assert_true(u >= 0 && u < 1);
        sum += n;
        squares += n * n;
    }
    assert_true(fabs(sum / 100000) < 0.02);
    assert_true(fabs(squares / 100000 - 1) < 0.03);
}

static void
waits_fit(void **state)
{
    FleetTime now = FLEET_SECONDS(1000000000), day = FLEET_SECONDS(86400);

    (void) state;
    assert_int_equal(fleet_wait_ms(now, FLEET_NEVER), -1);
    assert_int_equal(fleet_wait_ms(now, now), 0);
    assert_int_equal(fleet_wait_ms(now, now - day), 0);
    assert_int_equal(fleet_wait_ms(now, INT64_MIN), 0);
    assert_int_equal(fleet_wait_ms(now, now + 1), 1);
    assert_int_equal(fleet_wait_ms(now, now + 1001), 2);
    assert_int_equal(fleet_wait_ms(now, now + FLEET_SECONDS(600)), 600000);
    /* beyond int milliseconds, and where their low half is zero, small, or negative */
    assert_int_equal(fleet_wait_ms(now, now + 25 * day), 600000);
    assert_int_equal(fleet_wait_ms(now, now + FLEET_MS(INT64_C(1) << 32)), 600000);
    assert_int_equal(fleet_wait_ms(now, now + 3653 * day), 600000);
    assert_int_equal(fleet_wait_ms(now, FLEET_NEVER - 1), 600000);
    assert_int_equal(fleet_wait_ms(-now, FLEET_NEVER - 1), 600000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_and_freed),
        cmocka_unit_test(arrays_double),
        cmocka_unit_test(capacity_does_not_overflow),
        cmocka_unit_test(random_replays),
        cmocka_unit_test(random_is_xoshiro),
        cmocka_unit_test(random_is_even),
        cmocka_unit_test(waits_fit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
