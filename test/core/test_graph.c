/*
 * test_graph.c
 *     Checks of a definition, its indexes, the critical path; the retry rule.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/graph.h"

static FleetGraph *
make(uint32_t ntasks, const FleetEdgeSpec *edges, uint32_t nedges, FleetError *error)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    FleetTaskSpec tasks[8];

    memset(tasks, 0, sizeof(tasks));
    for (int t = 0; t < 8; t++)
    {
        tasks[t].name = names[t];
        tasks[t].estimate = 10 * (t + 1);
    }
    return fleet_graph_create(&fleet_malloc_alloc, tasks, ntasks, edges, nedges, error);
}

static void
refused(uint32_t ntasks, const FleetEdgeSpec *edges, uint32_t nedges, const char *message)
{
    FleetError error;

    assert_null(make(ntasks, edges, nedges, &error));
    assert_string_equal(error.message, message);
    assert_true(strlen(error.hint) > 0);
}

static void
bad_definitions(void **state)
{
    static const FleetEdgeSpec cycle[] = {
        {0, 1, FLEET_ON_SUCCESS, false}, {1, 2, FLEET_ON_FAILURE, false},
        {2, 3, FLEET_ON_SUCCESS, false}, {3, 1, FLEET_ON_SUCCESS, false},
        {3, 4, FLEET_ON_SUCCESS, false},
    };
    static const FleetEdgeSpec self[] = {{1, 1, FLEET_ON_SUCCESS, false}};
    static const FleetEdgeSpec outside[] = {{0, 1, FLEET_ON_SUCCESS, false},
                                            {0, 9, FLEET_ON_SUCCESS, false}};
    static const FleetEdgeSpec twice[] = {{0, 1, FLEET_ON_SUCCESS, false},
                                          {0, 2, FLEET_ON_SUCCESS, false},
                                          {0, 1, FLEET_ON_FAILURE, false}};

    (void) state;
    refused(2, self, 1, "task \"b\" has a precedence constraint on itself");
    refused(2, outside, 2, "precedence constraint 2 names a task that does not exist");
    refused(3, twice, 3, "there are two precedence constraints from \"a\" to \"b\"");
    refused(5, cycle, 5, "the precedence constraints form a cycle: \"b -> c -> d -> b\"");
}

static void
bad_share(void **state)
{
    static const double shares[] = {-0.1, 1.1};
    FleetTaskSpec task = {.name = "x", .completion = FLEET_MINIMUM_SHARE};
    FleetError error;
    FleetGraph *graph;

    (void) state;
    for (int i = 0; i < 3; i++)
    {
        task.min_share = i == 2 ? strtod("nan", NULL) : shares[i];
        assert_null(fleet_graph_create(&fleet_malloc_alloc, &task, 1, NULL, 0, &error));
        assert_non_null(strstr(error.message, "\"x\""));
    }
    task.min_share = 1.0;
    graph = fleet_graph_create(&fleet_malloc_alloc, &task, 1, NULL, 0, &error);
    assert_non_null(graph);
    fleet_graph_free(graph);
}

/* The whole path does not fit: it is shortened, between characters, and still ends well. */
static void
long_cycle(void **state)
{
    enum
    {
        N = 300
    };
    FleetTaskSpec *tasks = calloc(N, sizeof(FleetTaskSpec));
    FleetEdgeSpec *edges = calloc(N, sizeof(FleetEdgeSpec));
    char name[3][600];
    FleetError error;
    size_t n;

    (void) state;
    for (int length = 1; length <= 3; length++)
    {
        for (uint32_t t = 0; t < N; t++)
        {
            edges[t] = (FleetEdgeSpec){t, (t + 1) % N, FLEET_ON_SUCCESS, false};
            tasks[t].name = t % 2 ? NULL : name[length - 1];
        }
        name[length - 1][0] = '\0';
        for (int i = 0; i < (length == 1 ? 1 : length * 90); i++)
            strcat(name[length - 1], "é");
        assert_null(fleet_graph_create(&fleet_malloc_alloc, tasks, N, edges, N, &error));
        n = strlen(error.message);
        assert_true(n < sizeof(error.message));
        assert_string_equal(error.message + n - 1, "\"");
        assert_non_null(strstr(error.message, "..."));
        /* every é is whole: a lead byte is followed by its continuation */
        for (size_t i = 0; i < n; i++)
        {
            if ((unsigned char) error.message[i] == 0xC3)
                assert_int_equal((unsigned char) error.message[i + 1], 0xA9);
        }
    }
    free(tasks);
    free(edges);
}

static void
indexes(void **state)
{
    static const FleetEdgeSpec edges[] = {
        {2, 1, FLEET_ON_SUCCESS, false},
        {2, 0, FLEET_ON_FAILURE, true},
        {1, 0, FLEET_ON_COMPLETION, false},
        {3, 1, FLEET_ON_SUCCESS, false},
    };
    FleetError error;
    FleetGraph *graph = make(5, edges, 4, &error);
    const uint32_t *list;
    uint32_t n, position[5];

    (void) state;
    assert_non_null(graph);
    assert_int_equal(fleet_graph_ntasks(graph), 5);
    assert_int_equal(fleet_graph_nedges(graph), 4);
    assert_string_equal(fleet_graph_task(graph, 3)->name, "d");
    assert_true(fleet_graph_edge(graph, 1)->conditional);
    list = fleet_graph_out(graph, 2, &n);
    assert_int_equal(n, 2);
    assert_int_equal(list[0], 0);
    assert_int_equal(list[1], 1);
    list = fleet_graph_in(graph, 1, &n);
    assert_int_equal(n, 2);
    assert_int_equal(list[0], 0);
    assert_int_equal(list[1], 3);
    fleet_graph_out(graph, 0, &n);
    assert_int_equal(n, 0);
    fleet_graph_in(graph, 4, &n);
    assert_int_equal(n, 0);
    list = fleet_graph_order(graph);
    for (uint32_t i = 0; i < 5; i++)
        position[list[i]] = i;
    for (uint32_t e = 0; e < 4; e++)
        assert_true(position[edges[e].from] < position[edges[e].to]);
    /* estimates 10, 20, 30, 40, 50 */
    assert_int_equal(fleet_graph_tail(graph, 0), 10);
    assert_int_equal(fleet_graph_tail(graph, 1), 30);
    assert_int_equal(fleet_graph_tail(graph, 2), 60);
    assert_int_equal(fleet_graph_tail(graph, 3), 70);
    assert_int_equal(fleet_graph_tail(graph, 4), 50);
    fleet_graph_free(graph);
}

static void
absurd_estimates_do_not_overflow(void **state)
{
    FleetTaskSpec tasks[4];
    FleetEdgeSpec edges[3];
    FleetError error;
    FleetGraph *graph;

    (void) state;
    memset(tasks, 0, sizeof(tasks));
    for (uint32_t t = 0; t < 4; t++)
    {
        tasks[t].estimate = t == 3 ? -5 : INT64_MAX;
        if (t > 0)
            edges[t - 1] = (FleetEdgeSpec){t - 1, t, FLEET_ON_SUCCESS, false};
    }
    graph = fleet_graph_create(&fleet_malloc_alloc, tasks, 4, edges, 3, &error);
    assert_true(fleet_graph_tail(graph, 3) == 0);
    for (uint32_t t = 0; t < 3; t++)
        assert_true(fleet_graph_tail(graph, t) > 0);
    fleet_graph_free(graph);
    fleet_graph_free(NULL);
}

/* Everything is copied: the caller's memory may change right away. */
static void
definition_is_copied(void **state)
{
    char name[] = "task", states[1][8] = {"40"};
    FleetTaskSpec task = {.name = name};
    FleetError error;
    FleetGraph *graph;

    (void) state;
    task.retry.states = (const char(*)[8]) states;
    task.retry.nstates = 1;
    graph = fleet_graph_create(&fleet_malloc_alloc, &task, 1, NULL, 0, &error);
    memset(name, 'x', 4);
    memset(states, 'x', 7);
    assert_string_equal(fleet_graph_task(graph, 0)->name, "task");
    assert_true(fleet_retry_matches(&fleet_graph_task(graph, 0)->retry, "40001"));
    fleet_graph_free(graph);
}

/* Random graphs against a simple reference: accepted exactly when the edges have no cycle. */
static bool
reaches(const bool edge[8][8], uint32_t n, uint32_t from, uint32_t to, uint32_t depth)
{
    if (from == to && depth > 0)
        return true;
    for (uint32_t t = 0; t < n && depth < n; t++)
    {
        if (edge[from][t] && reaches(edge, n, t, to, depth + 1))
            return true;
    }
    return false;
}

static void
random_graphs(void **state)
{
    FleetRandom r;
    int cycles = 0;

    (void) state;
    fleet_random_seed(&r, 5);
    for (int round = 0; round < 5000; round++)
    {
        bool edge[8][8] = {{false}}, cyclic = false;
        FleetEdgeSpec edges[16];
        uint32_t n = 2 + fleet_random_below(&r, 5), m = 0, k = fleet_random_below(&r, 9);
        FleetError error;
        FleetGraph *graph;

        for (uint32_t i = 0; i < k; i++)
        {
            uint32_t from = fleet_random_below(&r, n), to = fleet_random_below(&r, n);

            if (from == to || edge[from][to])
                continue;
            edge[from][to] = true;
            edges[m++] = (FleetEdgeSpec){from, to, FLEET_ON_SUCCESS, false};
        }
        for (uint32_t t = 0; t < n; t++)
            cyclic = cyclic || reaches((const bool(*)[8]) edge, n, t, t, 0);
        graph = make(n, edges, m, &error);
        assert_true((graph == NULL) == cyclic);
        if (cyclic) /* the named path is one: each arrow is an edge, it ends where it begins */
        {
            const char *p = strstr(error.message, "\"") + 1;
            char first = *p;

            cycles++;
            while (p[1] == ' ')
            {
                char next = p[strlen("a -> ")];

                assert_true(edge[*p - 'a'][next - 'a']);
                p += strlen("a -> ");
            }
            assert_int_equal(*p, first);
            assert_string_equal(p + 1, "\"");
        }
        fleet_graph_free(graph);
    }
    assert_in_range(cycles, 500, 4500);
}

/* ---- retry ---- */

static void
retried_states(void **state)
{
    static const char some[][8] = {"40", "57014", "!40003"};
    static const char but[][8] = {"!53"};
    FleetRetry standard = {.retries = 1};
    FleetRetry listed = {.retries = 1, .states = some, .nstates = 3};
    FleetRetry excluded = {.retries = 1, .states = but, .nstates = 1};

    (void) state;
    assert_true(fleet_retry_matches(&standard, NULL));
    assert_true(fleet_retry_matches(&standard, "40001"));
    assert_true(fleet_retry_matches(&standard, "57014"));
    assert_false(fleet_retry_matches(&standard, "42P01"));
    assert_false(fleet_retry_matches(&standard, "22012"));
    assert_false(fleet_retry_matches(&standard, "23505"));
    assert_false(fleet_retry_matches(&standard, "0A000"));
    assert_false(fleet_retry_matches(&standard, "28P01"));
    assert_true(fleet_retry_matches(&listed, NULL));
    assert_true(fleet_retry_matches(&listed, "40001"));
    assert_false(fleet_retry_matches(&listed, "40003"));
    assert_true(fleet_retry_matches(&listed, "57014"));
    assert_false(fleet_retry_matches(&listed, "57P01"));
    assert_true(fleet_retry_matches(&excluded, "23505"));
    assert_false(fleet_retry_matches(&excluded, "53300"));
}

static void
backoff(void **state)
{
    FleetRetry retry = {.retries = 9, .base = 1000, .maximum = 5000};
    FleetRandom r;
    FleetTime least = INT64_MAX, most = 0;

    (void) state;
    fleet_random_seed(&r, 1);
    assert_int_equal(fleet_retry_wait(&retry, 1, &r), 1000);
    assert_int_equal(fleet_retry_wait(&retry, 2, &r), 2000);
    assert_int_equal(fleet_retry_wait(&retry, 3, &r), 4000);
    assert_int_equal(fleet_retry_wait(&retry, 4, &r), 5000);
    assert_int_equal(fleet_retry_wait(&retry, 60000, &r), 5000);
    retry.maximum = 0;
    assert_true(fleet_retry_wait(&retry, 60000, &r) > 0); /* no overflow */
    retry.maximum = INT64_MAX;
    assert_true(fleet_retry_wait(&retry, 60000, &r) > 0);
    retry.base = -1;
    assert_int_equal(fleet_retry_wait(&retry, 3, &r), 0);
    retry.base = 1000;
    retry.jitter_pct = 20;
    for (int i = 0; i < 10000; i++)
    {
        FleetTime wait = fleet_retry_wait(&retry, 1, &r);

        least = wait < least ? wait : least;
        most = wait > most ? wait : most;
    }
    assert_in_range(least, 800, 810);
    assert_in_range(most, 1190, 1200);
    retry.jitter_pct = 255;
    for (int i = 0; i < 1000; i++)
        assert_in_range(fleet_retry_wait(&retry, 1, &r), 0, 2000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_definitions),
        cmocka_unit_test(bad_share),
        cmocka_unit_test(long_cycle),
        cmocka_unit_test(indexes),
        cmocka_unit_test(absurd_estimates_do_not_overflow),
        cmocka_unit_test(definition_is_copied),
        cmocka_unit_test(random_graphs),
        cmocka_unit_test(retried_states),
        cmocka_unit_test(backoff),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
