/*
 * test/core/scale.c
 *     How large may it get?  10^3 … 10^6 task runs on 10 and on 1,000 servers,
 *     through the engine and the placer together: operations and time a
 *     decision (from the items' arrival to the end of the run, all calls of
 *     the engine, divided by the starts) and bytes a task run while all of
 *     them wait.  Prints Markdown; fails beyond OPERATIONS_AT_MOST or 100
 *     bytes, or if the operations grow faster than n log n.  LARGEST=n leaves
 *     out what is larger.
 *
 * Operations are counted, not timed, so that no machine, load or sanitizer
 * decides: src/core/ is compiled with -fsanitize-coverage=trace-pc, which calls
 * __sanitizer_cov_trace_pc() in every basic block.  This driver is not, so that
 * what it does itself (its heap of running work) does not count.  The time
 * is only printed, and with the counting in it: `make scale-time` has none.
 *
 * The servers are of speeds 1, 1, 2, 4 in turn, with 2 slots each.
 */
#include "core/engine/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Basic blocks a decision.  Without counting, zero. */
#define OPERATIONS_AT_MOST 3000.0

static uint64_t operations;

extern void __sanitizer_cov_trace_pc(void);
extern void *scale_memcpy(void *to, const void *from, size_t n);
extern void *scale_memmove(void *to, const void *from, size_t n);
extern void *scale_memset(void *to, int byte, size_t n);

void
__sanitizer_cov_trace_pc(void)
{
    operations++;
}

/* What moves or clears much is one call but not one operation: one for each cache line. */
static void
count_bytes(size_t n)
{
    operations += n / 64;
}

void *
scale_memcpy(void *to, const void *from, size_t n)
{
    count_bytes(n);
    return memcpy(to, from, n);
}

void *
scale_memmove(void *to, const void *from, size_t n)
{
    count_bytes(n);
    return memmove(to, from, n);
}

void *
scale_memset(void *to, int byte, size_t n)
{
    count_bytes(n);
    return memset(to, byte, n);
}

static void *
counted_resize(void *context, void *ptr, size_t old_size, size_t new_size)
{
    (void) context;
    if (new_size > 0)
        count_bytes(old_size);
    return fleet_malloc_alloc.resize(fleet_malloc_alloc.context, ptr, old_size, new_size);
}

static const FleetAlloc counted_alloc = {counted_resize, NULL};

typedef struct Event
{
    FleetTime end;
    FleetTaskRef ref;
    uint16_t attempt;
} Event;

typedef struct Driver
{
    FleetEngine *engine;
    FleetRandom random;
    Event *events; /* heap, first to end at the top */
    uint32_t nevents;
    const FleetTime *estimates;
    const FleetServerSpec *servers;
    uint32_t starts;
    bool over;
} Driver;

typedef struct Result
{
    uint32_t tasks, servers;
    double operations, micros, bytes;
    double fixed; /* bytes before the items came */
} Result;

static double
seconds(void)
{
    return (double) clock() / CLOCKS_PER_SEC; /* of the processor, not of the wall */
}

static void *
allocate(size_t size)
{
    void *ptr = calloc(1, size);

    if (ptr == NULL)
    {
        fprintf(stderr, "out of memory\n");
        exit(2);
    }
    return ptr;
}

static void
event_push(Driver *driver, Event event)
{
    uint32_t at = driver->nevents++;

    for (; at > 0 && driver->events[(at - 1) / 2].end > event.end; at = (at - 1) / 2)
        driver->events[at] = driver->events[(at - 1) / 2];
    driver->events[at] = event;
}

static Event
event_pop(Driver *driver)
{
    Event first = driver->events[0], last = driver->events[--driver->nevents];
    uint32_t at = 0;

    for (;;)
    {
        uint32_t child = 2 * at + 1;

        if (child >= driver->nevents)
            break;
        if (child + 1 < driver->nevents &&
            driver->events[child + 1].end < driver->events[child].end)
            child++;
        if (driver->events[child].end >= last.end)
            break;
        driver->events[at] = driver->events[child];
        at = child;
    }
    driver->events[at] = last;
    return first;
}

static void
drain(Driver *driver, FleetTime now)
{
    FleetDecision decision;

    while (fleet_engine_next(driver->engine, &decision))
    {
        if (decision.kind == FLEET_DO_RUN)
            driver->over = FLEET_STATE_IS_FINAL(decision.state);
        if (decision.kind != FLEET_DO_START)
            continue;
        driver->starts++;
        event_push(driver,
                   (Event){now + 1 +
                               (FleetTime) ((double) driver->estimates[decision.ref.item - 1] /
                                            driver->servers[decision.server].speed),
                           decision.ref, decision.attempt});
    }
}

/* Time goes on to the next end, or to the time at which the engine wants to be asked again. */
static FleetTime
step(Driver *driver, FleetTime now)
{
    FleetTime wakeup = fleet_engine_wakeup(driver->engine);
    FleetTime end = driver->nevents > 0 ? driver->events[0].end : FLEET_NEVER;

    if (end == FLEET_NEVER && wakeup == FLEET_NEVER)
    {
        fprintf(stderr, "stuck after %u starts\n", driver->starts);
        exit(2);
    }
    if (wakeup < end)
        return wakeup > now ? wakeup : now + 1;
    while (driver->nevents > 0 && driver->events[0].end <= end)
    {
        Event event = event_pop(driver);

        if (!fleet_engine_accepted(driver->engine, event.ref, event.attempt, end) ||
            !fleet_engine_finished(driver->engine, event.ref, event.attempt, FLEET_SUCCEEDED, NULL,
                                   end))
        {
            fprintf(stderr, "the engine refused an end\n");
            exit(2);
        }
    }
    return end;
}

static void
add_servers(Driver *driver, FleetServerSpec *servers, uint32_t n)
{
    static const double speeds[] = {1, 1, 2, 4};
    uint32_t *members = allocate(n * sizeof(uint32_t));

    for (uint32_t i = 0; i < n; i++)
    {
        servers[i] = (FleetServerSpec){FLEET_SERVER_ONLINE, 2, 1, speeds[i % 4]};
        fleet_engine_server(driver->engine, i, &servers[i], 0);
        members[i] = i;
    }
    fleet_placer_target(fleet_engine_placer(driver->engine), 0, members, n);
    free(members);
}

static Result
measure(uint32_t ntasks, uint32_t nservers)
{
    FleetEngineConfig config = {.lost_after = FLEET_NEVER};
    FleetTaskSpec task = {.name = "items", .kind = FLEET_TASK_JOB, .for_each = true};
    FleetServerSpec *servers = allocate(nservers * sizeof(FleetServerSpec));
    FleetTime *estimates = allocate(ntasks * sizeof(FleetTime));
    Driver driver = {.servers = servers, .estimates = estimates};
    Result result = {.tasks = ntasks, .servers = nservers};
    FleetGraph *graph;
    FleetError error;
    FleetTime now = 0;
    uint32_t run;
    uint64_t counted;
    double begin;

    graph = fleet_graph_create(&counted_alloc, &task, 1, NULL, 0, &error);
    driver.engine = fleet_engine_create(&counted_alloc, &config, 1);
    driver.events = allocate((nservers * 2 + 1) * sizeof(Event));
    fleet_random_seed(&driver.random, ntasks + nservers);
    for (uint32_t i = 0; i < ntasks; i++)
        estimates[i] = (FleetTime) (60e6 * exp(fleet_random_normal(&driver.random)));
    add_servers(&driver, servers, nservers);
    run = fleet_engine_run_add(driver.engine, graph, 0, 0, 0);
    fleet_engine_turn(driver.engine, now);
    drain(&driver, now);
    result.fixed = (double) fleet_engine_memory(driver.engine);

    begin = seconds();
    counted = operations;
    fleet_engine_items(driver.engine, run, 0, ntasks, estimates, now);
    result.bytes = ((double) fleet_engine_memory(driver.engine) - result.fixed) / ntasks;
    while (!driver.over)
    {
        fleet_engine_turn(driver.engine, now);
        drain(&driver, now);
        if (!driver.over)
            now = step(&driver, now);
    }
    result.operations = (double) (operations - counted) / ntasks;
    result.micros = (seconds() - begin) * 1e6 / ntasks;
    if (driver.starts != ntasks || driver.nevents != 0)
    {
        fprintf(stderr, "%u starts for %u tasks\n", driver.starts, ntasks);
        exit(2);
    }
    fleet_engine_free(driver.engine);
    fleet_graph_free(graph);
    free(driver.events);
    free(estimates);
    free(servers);
    return result;
}

static bool
print_result(const Result *result, const Result *first)
{
    /* n log n for all of them is log n for each; half as much again, because the first one is small:
     * with 1,000 servers all of it starts at once, and nothing waits */
    double growth = 1.5 * log((double) result->tasks) / log((double) first->tasks);
    bool few = result->operations <= OPERATIONS_AT_MOST;
    bool bytes_good = result->bytes <= 100;
    bool growth_good = result->operations <= growth * first->operations;

    printf("| %u | %u | %.0f | %.2f | %.0f | %.0f |%s%s%s\n", result->tasks, result->servers,
           result->operations, result->micros, result->bytes, result->fixed / result->servers,
           few ? "" : " **too much work**", bytes_good ? "" : " **too large**",
           growth_good ? "" : " **grows faster than n log n**");
    return few && bytes_good && growth_good;
}

static double
setting(const char *name, double otherwise)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtod(text, NULL) : otherwise;
}

int
main(void)
{
    static const uint32_t tasks[] = {1000, 10000, 100000, 1000000};
    static const uint32_t servers[] = {10, 1000};
    double largest = setting("LARGEST", 1e6);
    bool good = true;

    printf(
        "Engine and placer, servers of speeds 1, 1, 2, 4 with 2 slots; at most %.0f operations a "
        "decision and 100 bytes a task run\n\n",
        OPERATIONS_AT_MOST);
    printf(
        "| task runs | servers | operations a decision | µs a decision | bytes a task run | bytes "
        "a server |\n"
        "|---|---|---|---|---|---|\n");
    for (size_t s = 0; s < 2; s++)
    {
        Result first = {0};

        for (size_t t = 0; t < 4 && tasks[t] <= largest; t++)
        {
            Result result = measure(tasks[t], servers[s]);

            if (t == 0)
                first = result;
            good &= print_result(&result, &first);
            fflush(stdout);
        }
    }
#ifndef FLEET_SCALE_TIME
    if (operations == 0)
    {
        printf("nothing was counted: the core is not compiled with -fsanitize-coverage=trace-pc\n");
        good = false;
    }
#endif
    return good ? 0 : 1;
}
