/*
 * test_drawing.c
 *     Layers, order and places of a drawn graph; rows of a time chart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/drawing.h"

static FleetDrawing
draw(uint32_t ntasks, const uint32_t (*edges)[2], uint32_t nedges)
{
    uint32_t from[600], to[600];
    FleetDrawing drawing;

    for (uint32_t e = 0; e < nedges; e++)
    {
        from[e] = edges[e][0];
        to[e] = edges[e][1];
    }
    fleet_drawing_create(&fleet_malloc_alloc, ntasks, from, to, nedges, &drawing);
    /* whatever it is: the tasks come first, in their order, and what is in one layer is apart */
    for (uint32_t p = 0; p < drawing.npoints; p++)
    {
        assert_int_equal(drawing.points[p].edge == FLEET_DRAWING_TASK, p < ntasks);
        assert_true(drawing.points[p].place >= 0);
        for (uint32_t q = 0; q < p; q++)
            if (drawing.points[p].layer == drawing.points[q].layer)
            {
                double distance = drawing.points[p].place - drawing.points[q].place;

                assert_true(distance >= 1 - 1e-9 || distance <= -1 + 1e-9);
            }
    }
    return drawing;
}

static void
layers(void **state)
{
    static const uint32_t diamond[][2] = {{0, 1}, {0, 2}, {1, 3}, {2, 3}};
    static const uint32_t across[][2] = {{0, 1}, {1, 2}, {2, 3}, {0, 3}};
    static const uint32_t odd[][2] = {{0, 1}, {1, 2}, {2, 1}, {7, 0}, {0, 9}};
    FleetDrawing d;

    (void) state;
    d = draw(0, NULL, 0);
    assert_int_equal(d.npoints, 0);
    assert_int_equal(d.nlayers, 0);

    d = draw(4, diamond, 4);
    assert_int_equal(d.nlayers, 3);
    assert_int_equal(d.npoints, 4);
    assert_int_equal(d.points[3].layer, 2);
    /* the ends of the diamond are in the middle of its sides */
    assert_true(d.points[0].place > 0.49 && d.points[0].place < 0.51);
    assert_true(d.points[3].place > 0.49 && d.points[3].place < 0.51);
    fleet_drawing_free(&fleet_malloc_alloc, &d);

    /* an edge has a point in each layer that it passes, and these are in their order */
    d = draw(4, across, 4);
    assert_int_equal(d.nlayers, 4);
    assert_int_equal(d.npoints, 6);
    assert_int_equal(d.points[4].edge, 3);
    assert_int_equal(d.points[4].layer, 1);
    assert_int_equal(d.points[5].layer, 2);
    assert_int_equal(d.crossings, 0);
    fleet_drawing_free(&fleet_malloc_alloc, &d);

    /* what is no graph of ours is drawn as far as it is one */
    d = draw(3, odd, 5);
    assert_int_equal(d.npoints, 3);
    assert_int_equal(d.points[0].layer, 0);
    fleet_drawing_free(&fleet_malloc_alloc, &d);
}

static void
crossings(void **state)
{
    /* 0-5, 1-4, 2-3 cross three times in the order of definition */
    static const uint32_t reversed[][2] = {{0, 5}, {1, 4}, {2, 3}};
    /* no plane drawing of two layers */
    static const uint32_t complete[][2] = {{0, 2}, {0, 3}, {1, 2}, {1, 3}};
    FleetDrawing d;

    (void) state;
    d = draw(6, reversed, 3);
    assert_int_equal(d.crossings, 0);
    for (int t = 0; t < 3; t++)
        assert_true(d.points[t].place == d.points[5 - t].place);
    fleet_drawing_free(&fleet_malloc_alloc, &d);
    d = draw(4, complete, 4);
    assert_int_equal(d.crossings, 1);
    fleet_drawing_free(&fleet_malloc_alloc, &d);
}

/* Random graphs, and some that are too large to be drawn well: they are drawn all the same. */
static void
any_graph(void **state)
{
    static uint32_t edges[600][2];
    FleetRandom random;
    FleetDrawing d;

    (void) state;
    fleet_random_seed(&random, 7);
    for (int i = 0; i < 200; i++)
    {
        uint32_t ntasks = 1 + fleet_random_below(&random, 40);
        uint32_t nedges = ntasks < 2 ? 0 : fleet_random_below(&random, 100);

        for (uint32_t e = 0; e < nedges; e++)
        {
            edges[e][1] = 1 + fleet_random_below(&random, ntasks - 1);
            edges[e][0] = fleet_random_below(&random, edges[e][1]);
        }
        d = draw(ntasks, edges, nedges);
        for (uint32_t e = 0; e < nedges; e++)
            assert_true(d.points[edges[e][0]].layer < d.points[edges[e][1]].layer);
        fleet_drawing_free(&fleet_malloc_alloc, &d);
    }
    /* a chain, and edges from its first task to all others: too many layers are passed */
    for (uint32_t t = 1; t < 300; t++)
    {
        edges[t - 1][0] = t - 1;
        edges[t - 1][1] = t;
        edges[299 + t - 1][0] = 0;
        edges[299 + t - 1][1] = t;
    }
    d = draw(300, edges, 598);
    assert_int_equal(d.npoints, 300);
    assert_int_equal(d.nlayers, 300);
    fleet_drawing_free(&fleet_malloc_alloc, &d);
}

static void
rows(void **state)
{
    static const FleetTime start[] = {0, 1, 2, 10, 11, 11, 12, 20};
    static const FleetTime end[] = {10, 5, 3, 20, 12, 30, 13, 21};
    static const uint32_t expected[] = {0, 1, 2, 0, 1, 2, 1, 0};
    static const uint32_t limited[] = {0, 1, 1, 0, 1, 1, 1, 0};
    uint32_t row[8];

    (void) state;
    fleet_drawing_rows(&fleet_malloc_alloc, start, end, 8, 100, row);
    for (int i = 0; i < 8; i++)
        assert_int_equal(row[i], expected[i]);
    fleet_drawing_rows(&fleet_malloc_alloc, start, end, 8, 2, row);
    for (int i = 0; i < 8; i++)
        assert_int_equal(row[i], limited[i]);
    fleet_drawing_rows(&fleet_malloc_alloc, NULL, NULL, 0, 2, NULL);
}

static void
joined(void **state)
{
    static const FleetTime start[] = {0, 1, 6, 7, 12, 13, 40};
    static const FleetTime end[] = {5, 30, 8, 8, 13, 14, 41};
    static const uint32_t class[] = {1, 1, 1, 1, 2, 2, 2}, row[] = {0, 1, 0, 0, 0, 0, 0};
    FleetDrawingSpan spans[7];

    (void) state;
    assert_int_equal(fleet_drawing_join(&fleet_malloc_alloc, start, end, class, row, 7, 2, spans),
                     4);
    /* the first, third and fourth; the second is alone in its row; another class; and one far away */
    assert_int_equal(spans[0].start, 0);
    assert_int_equal(spans[0].end, 8);
    assert_int_equal(spans[1].row, 1);
    assert_int_equal(spans[2].class, 2);
    assert_int_equal(spans[2].end, 14);
    assert_int_equal(spans[3].start, 40);
    assert_int_equal(fleet_drawing_join(&fleet_malloc_alloc, NULL, NULL, NULL, NULL, 0, 2, spans),
                     0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layers), cmocka_unit_test(crossings), cmocka_unit_test(any_graph),
        cmocka_unit_test(rows),   cmocka_unit_test(joined),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
