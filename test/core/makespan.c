/*
 * test/core/makespan.c
 *     The makespan table: how far is each way of placing work from the lower
 *     bound?  60 independent tasks with lognormal(0, 1) durations on 4 servers
 *     of 2 slots.  Prints Markdown; fails if a bound that we promise is broken.
 *
 *     DRAWS=n (default 1000) and SEED=s in the environment.
 *
 * The policies go through fleet_plan_create(), that is through the engine and
 * the placer that the agent uses.  The two rules to compare with (a fixed list
 * a server, and a queue that fills any free slot) are written out here.
 */
#include "core/estimate.h"
#include "core/plan/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum
{
    TASKS = 60,
    SERVERS = 4,
    SLOTS = 2
};

typedef enum Knowledge
{
    KNOWN,   /* estimates are the truth */
    OFF_30,  /* each is off by a random ±30 % */
    NOTHING, /* no history */
    COSTS, /* no history, but how big each is, in some unit: what is assumed of the mean is 300 times too much … */
    COSTS_OFF_30, /* … and off by a random ±30 %, 300 times too little */
} Knowledge;

typedef enum Rule
{
    BY_PLAN,
    FIXED_LIST,
    FIRST_FREE,
    LONGEST_FREE,
} Rule;

typedef struct Row
{
    const char *name;
    Rule rule;
    FleetPolicy policy;
    Knowledge knowledge;
    bool unequal;
    double median, p95;  /* promised; 0: nothing is */
    const char *same_as; /* promised: no worse than this row */
} Row;

static const Row rows[] = {
    {"fixed list a server, by hand", FIXED_LIST, 0, KNOWN, false, 0, 0, NULL},
    {"first free slot", FIRST_FREE, 0, NOTHING, false, 0, 0, NULL},
    {"`round_robin`", BY_PLAN, FLEET_ROUND_ROBIN, KNOWN, false, 0, 0, NULL},
    {"`least_loaded`", BY_PLAN, FLEET_LEAST_LOADED, KNOWN, false, 0, 0, NULL},
    {"`weighted`", BY_PLAN, FLEET_WEIGHTED, KNOWN, false, 0, 0, NULL},
    {"`shortest_finish`, no history", BY_PLAN, FLEET_SHORTEST_FINISH, NOTHING, false, 0, 0,
     "first free slot"},
    {"`shortest_finish`, no history, costs given", BY_PLAN, FLEET_SHORTEST_FINISH, COSTS, false,
     1.03, 1.06, NULL},
    {"`shortest_finish`, no history, costs off by ±30 %", BY_PLAN, FLEET_SHORTEST_FINISH,
     COSTS_OFF_30, false, 1.03, 1.06, NULL},
    {"`shortest_finish`, estimates off by ±30 %", BY_PLAN, FLEET_SHORTEST_FINISH, OFF_30, false,
     1.02, 1.05, NULL},
    {"`shortest_finish`, durations known", BY_PLAN, FLEET_SHORTEST_FINISH, KNOWN, false, 1.01, 1.03,
     NULL},
    {"fixed list a server, by hand", FIXED_LIST, 0, KNOWN, true, 0, 0, NULL},
    {"first free slot", FIRST_FREE, 0, NOTHING, true, 0, 0, NULL},
    {"longest first, any free slot", LONGEST_FREE, 0, KNOWN, true, 0, 0, NULL},
    {"`weighted` by speed", BY_PLAN, FLEET_WEIGHTED, KNOWN, true, 0, 0, NULL},
    {"`shortest_finish`, no history", BY_PLAN, FLEET_SHORTEST_FINISH, NOTHING, true, 0, 0, NULL},
    {"`shortest_finish`, no history, costs given", BY_PLAN, FLEET_SHORTEST_FINISH, COSTS, true,
     1.03, 1.06, NULL},
    {"`shortest_finish`, estimates off by ±30 %", BY_PLAN, FLEET_SHORTEST_FINISH, OFF_30, true, 0,
     0, NULL},
    {"`shortest_finish`, durations known", BY_PLAN, FLEET_SHORTEST_FINISH, KNOWN, true, 1.03, 1.06,
     NULL},
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

typedef struct Draw
{
    FleetTime real[TASKS];
    FleetTime off[TASKS];
} Draw;

static void
die(const char *message)
{
    fprintf(stderr, "%s\n", message);
    exit(2);
}

static void
draw_next(Draw *draw, FleetRandom *random)
{
    for (int i = 0; i < TASKS; i++)
    {
        double real = 60e6 * exp(fleet_random_normal(random));

        draw->real[i] = (FleetTime) real;
        draw->off[i] = (FleetTime) (real * (0.7 + 0.6 * fleet_random_unit(random)));
    }
}

static void
make_servers(FleetServerSpec *servers, bool unequal)
{
    static const double speeds[SERVERS] = {1, 1, 2, 4};

    for (int i = 0; i < SERVERS; i++)
    {
        double speed = unequal ? speeds[i] : 1;

        servers[i] = (FleetServerSpec){FLEET_SERVER_ONLINE, SLOTS, speed, speed};
    }
}

/* ---- the rules to compare with ---- */

static int
longer_first(const void *a, const void *b)
{
    FleetTime x = *(const FleetTime *) a, y = *(const FleetTime *) b;

    return x > y ? -1 : x < y;
}

/*
 * What people do without a balancer: task i is on server i modulo 4, whose two
 * slots each work off a list of their own (two cron lines, say).  Or, in order
 * of arrival (or longest first), on whatever slot is free first.
 */
static double
by_hand(const Draw *draw, const FleetServerSpec *servers, Rule rule)
{
    double free_at[SERVERS * SLOTS] = {0}, makespan = 0;
    FleetTime real[TASKS];

    memcpy(real, draw->real, sizeof(real));
    if (rule == LONGEST_FREE)
        qsort(real, TASKS, sizeof(FleetTime), longer_first);
    for (int i = 0; i < TASKS; i++)
    {
        int slot = i % (SERVERS * SLOTS);

        for (int s = 0; rule != FIXED_LIST && s < SERVERS * SLOTS; s++)
            if (free_at[s] < free_at[slot])
                slot = s;
        free_at[slot] += (double) real[i] / servers[slot % SERVERS].speed;
        if (free_at[slot] > makespan)
            makespan = free_at[slot];
    }
    return makespan;
}

/* ---- the policies ---- */

static FleetTime
real_duration(void *arg, uint32_t task, uint32_t item)
{
    const Draw *draw = arg;

    (void) item;
    return draw->real[task];
}

static FleetTime
estimated(const Draw *draw, int task, Knowledge knowledge)
{
    const FleetTime *sizes = knowledge == COSTS_OFF_30 ? draw->off : draw->real;
    FleetCosts costs = {0};

    switch (knowledge)
    {
        case KNOWN: return draw->real[task];
        case OFF_30: return draw->off[task];
        case NOTHING: return 0;
        case COSTS:
        case COSTS_OFF_30: break;
    }
    for (int i = 0; i < TASKS; i++)
        fleet_costs_add(&costs, (double) sizes[i] / 1000);
    return fleet_estimate_by_cost(NULL, NULL, &costs, (double) sizes[task] / 1000,
                                  knowledge == COSTS ? FLEET_SECONDS(60 * 300) : FLEET_MS(200));
}

static double
by_plan(const Draw *draw, const FleetServerSpec *servers, const Row *row)
{
    static const uint32_t members[SERVERS] = {0, 1, 2, 3}, size = SERVERS;
    static const uint32_t *const targets[] = {members};
    FleetTaskSpec tasks[TASKS] = {{0}};
    FleetPlanInput input = {
        .servers = servers,
        .nservers = SERVERS,
        .targets = targets,
        .target_sizes = &size,
        .ntargets = 1,
        .default_duration = FLEET_SECONDS(60),
        .actual = real_duration,
        .arg = (void *) draw,
        .seed = 1,
    };
    FleetGraph *graph;
    FleetError error;
    FleetPlan plan;
    double makespan;

    for (int i = 0; i < TASKS; i++)
    {
        tasks[i].name = "t";
        tasks[i].kind = FLEET_TASK_JOB;
        tasks[i].policy = row->policy;
        tasks[i].estimate = estimated(draw, i, row->knowledge);
    }
    graph = fleet_graph_create(&fleet_malloc_alloc, tasks, TASKS, NULL, 0, &error);
    if (graph == NULL)
        die(error.message);
    input.graph = graph;
    if (!fleet_plan_create(&fleet_malloc_alloc, &input, &plan, &error))
        die(error.message);
    makespan = (double) plan.makespan;
    fleet_plan_free(&fleet_malloc_alloc, &plan);
    fleet_graph_free(graph);
    return makespan;
}

/* ---- the table ---- */

static int
compare(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return x < y ? -1 : x > y;
}

static double
quantile(double *ratios, size_t n, double q)
{
    qsort(ratios, n, sizeof(double), compare);
    return ratios[(size_t) (q * (double) (n - 1) + 0.5)];
}

static bool
print_row(const Row *row, double median, double p95, double other_median, double other_p95)
{
    bool good = true;

    printf("| %s | %s | %.3f | %.3f |", row->unequal ? "1, 1, 2, 4" : "equal", row->name, median,
           p95);
    if (row->median > 0)
    {
        good = median <= row->median && p95 <= row->p95;
        printf(" %.2f / %.2f |", row->median, row->p95);
    }
    else if (row->same_as != NULL)
    {
        good = median <= other_median * 1.005 && p95 <= other_p95 * 1.005;
        printf(" as %s |", row->same_as);
    }
    else
        printf(" |");
    printf("%s\n", good ? "" : " **broken**");
    return good;
}

static uint64_t
setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

int
main(void)
{
    size_t draws = (size_t) setting("DRAWS", 1000);
    uint64_t seed = setting("SEED", 20261123);
    double *ratios[ROWS], medians[ROWS], p95s[ROWS];
    FleetRandom random;
    bool good = true;

    if (draws == 0)
        die("DRAWS must be at least 1");
    fleet_random_seed(&random, seed);
    for (size_t r = 0; r < ROWS; r++)
        if ((ratios[r] = malloc(draws * sizeof(double))) == NULL)
            die("out of memory");
    for (size_t i = 0; i < draws; i++)
    {
        Draw draw;

        draw_next(&draw, &random);
        for (size_t r = 0; r < ROWS; r++)
        {
            FleetServerSpec servers[SERVERS];
            double bound;

            make_servers(servers, rows[r].unequal);
            bound = (double) fleet_plan_lower_bound(draw.real, TASKS, servers, SERVERS);
            ratios[r][i] = (rows[r].rule == BY_PLAN ? by_plan(&draw, servers, &rows[r])
                                                    : by_hand(&draw, servers, rows[r].rule)) /
                           bound;
        }
    }
    printf("Makespan over its lower bound: %d tasks, lognormal(0, 1), %d servers of %d slots, "
           "%zu draws, seed %llu\n\n",
           TASKS, SERVERS, SLOTS, draws, (unsigned long long) seed);
    printf("| speeds | placement | median | 95 %% | promised |\n|---|---|---|---|---|\n");
    for (size_t r = 0; r < ROWS; r++)
    {
        size_t other = r;

        medians[r] = quantile(ratios[r], draws, 0.5);
        p95s[r] = quantile(ratios[r], draws, 0.95);
        for (size_t o = 0; o < r && rows[r].same_as != NULL; o++)
            if (strcmp(rows[o].name, rows[r].same_as) == 0 && rows[o].unequal == rows[r].unequal)
                other = o;
        good &= print_row(&rows[r], medians[r], p95s[r], medians[other], p95s[other]);
        free(ratios[r]);
    }
    return good ? 0 : 1;
}
