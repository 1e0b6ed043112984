/*
 * sim_main.c
 *     Runs the cases SEED, SEED + 1, … on several processes; says which is
 *     the first that breaks a rule, makes it small and prints it.
 *
 *   sim [-n cases] [-s seed] [-j processes] [-t] [-k tasks] [-q]
 *     -t  trace (with -n 1: every event of the case)
 *     -k  at most so many tasks a package
 *     -q  only the number of the failing case (for bugs.sh)
 *
 * A case that crashes or hangs its process counts as failed; so each try of
 * the shrinker runs in a process of its own.
 */
#define _DEFAULT_SOURCE
#include "sim.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORKERS 16
#define HANG_SECONDS 120 /* of the processor: the machine may have other work */

typedef struct Worker
{
    volatile uint64_t current; /* case it is at */
    volatile bool broke;       /* … and that one broke a rule */
    SimStats stats;
} Worker;

typedef struct Shared
{
    volatile uint64_t first_bad; /* lowest number of a failing case so far */
    Worker workers[MAX_WORKERS];
    char why[600]; /* of the last case that a child process tried */
} Shared;

typedef struct Options
{
    uint64_t cases, seed;
    uint32_t workers, size_cap;
    bool trace, quiet;
} Options;

static Shared *shared;
static Options options;

/* A case that takes longer than that ends its process. */
static void
hangs_after(int seconds)
{
    struct itimerval time = {.it_value = {.tv_sec = seconds}};

    setitimer(ITIMER_VIRTUAL, &time, NULL);
}

static void
work(uint32_t number)
{
    Worker *worker = &shared->workers[number];
    char why[600];

    for (uint64_t i = number; i < options.cases && i < shared->first_bad; i += options.workers)
    {
        SimCase c;
        bool good;

        worker->current = i;
        hangs_after(HANG_SECONDS);
        sim_generate(&c, options.seed + i, options.size_cap);
        good = sim_run(&c, false, &worker->stats, why, sizeof why);
        sim_case_free(&c);
        if (!good)
        {
            worker->broke = true;
            exit(1);
        }
    }
    exit(0); /* not _exit(): coverage and leaks are told at exit */
}

static void
take_result(uint32_t number, int status)
{
    Worker *worker = &shared->workers[number];

    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    if (worker->current < shared->first_bad)
        shared->first_bad = worker->current;
}

static void
run_all(void)
{
    pid_t pids[MAX_WORKERS];
    uint32_t running = options.workers;

    fflush(stdout);
    for (uint32_t i = 0; i < options.workers; i++)
    {
        pids[i] = fork();
        if (pids[i] < 0)
            abort();
        if (pids[i] == 0)
            work(i);
    }
    while (running > 0)
    {
        int status;
        pid_t pid = wait(&status);

        for (uint32_t i = 0; i < options.workers; i++)
            if (pids[i] == pid)
            {
                take_result(i, status);
                running--;
            }
    }
}

/* Does it fail?  In a process of its own. */
static bool
fails(const SimCase *c)
{
    pid_t pid;
    int status;

    shared->why[0] = '\0';
    pid = fork();
    if (pid < 0)
        abort();
    if (pid == 0)
    {
        SimStats stats = {0};

        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        hangs_after(HANG_SECONDS / 6);
        _exit(sim_run(c, false, &stats, shared->why, sizeof shared->why) ? 0 : 1);
    }
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        snprintf(shared->why, sizeof shared->why, "killed by signal %d (%s)", WTERMSIG(status),
                 WTERMSIG(status) == SIGVTALRM ? "it hangs" : strsignal(WTERMSIG(status)));
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* The same rule broken, whatever the numbers in the sentence? */
static bool
same_rule(const char *a, const char *b)
{
    uint32_t same = 0;

    while (*a != '\0' && *b != '\0' && same < 24)
    {
        if (*a >= '0' && *a <= '9')
            a++;
        else if (*b >= '0' && *b <= '9')
            b++;
        else if (*a++ != *b++)
            return false;
        else
            same++;
    }
    return true;
}

static char first_why[600];

static bool
fails_alike(const SimCase *c)
{
    return fails(c) && same_rule(shared->why, first_why);
}

static uint32_t
tasks_of(const SimCase *c)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < c->npackages; i++)
        n += c->packages[i].ntasks;
    return n;
}

static void
report(uint64_t number)
{
    SimCase c;
    SimStats stats = {0};
    char why[600];

    printf("sim: case %" PRIu64 " breaks a rule; replay: make test-core CASES=1 SEED=%" PRIu64 "\n",
           number, options.seed + number);
    sim_generate(&c, options.seed + number, options.size_cap);
    (void) fails(&c);
    printf("  why: %s\n", shared->why);
    memcpy(first_why, shared->why, sizeof first_why);
    if (options.quiet)
        return;
    printf("  as drawn: %u tasks, %u faults\n", tasks_of(&c), c.nfaults);
    fflush(stdout);
    sim_shrink(&c, fails_alike, 4000);
    (void) fails(&c);
    printf("  shrunk: %u tasks, %u faults: %s\n", tasks_of(&c), c.nfaults, shared->why);
    sim_case_print(&c);
    printf("  what happens in it:\n");
    fflush(stdout);
    (void) sim_run(&c, true, &stats, why, sizeof why);
}

static void
summary(double seconds)
{
    SimStats sum = {0};

    for (uint32_t i = 0; i < options.workers; i++)
    {
        const uint64_t *from = (const uint64_t *) &shared->workers[i].stats;
        uint64_t *to = (uint64_t *) &sum;

        for (size_t n = 0; n < sizeof sum / sizeof(uint64_t); n++)
            to[n] += from[n];
    }
    printf("sim: %" PRIu64 " cases in %.1f s (%.0f a minute), %" PRIu64 " events, %" PRIu64
           " task starts, %" PRIu64 " effects\n",
           sum.cases, seconds, (double) sum.cases / seconds * 60, sum.events, sum.starts,
           sum.effects);
    printf("sim: %" PRIu64 " agents crashed, %" PRIu64 " children failed over, %" PRIu64
           " parents promoted, %" PRIu64 " starts sent twice, %" PRIu64
           " messages refused, %" PRIu64 " cancels, %" PRIu64 " lost, %" PRIu64 " unknown\n",
           sum.crashes, sum.failovers, sum.promotions, sum.resends, sum.refused, sum.cancels,
           sum.lost, sum.unknown);
}

static int
trace_one(void)
{
    SimCase c;
    SimStats stats = {0};
    char why[600];
    bool good;

    sim_generate(&c, options.seed, options.size_cap);
    sim_case_print(&c);
    good = sim_run(&c, true, &stats, why, sizeof why);
    printf("%s%s\n", good ? "every rule holds" : "broken: ", why);
    sim_case_free(&c);
    return good ? 0 : 1;
}

static void
read_options(int argc, char **argv)
{
    int letter;

    options = (Options){.cases = 100000, .seed = 1, .workers = 2, .size_cap = 300};
    while ((letter = getopt(argc, argv, "n:s:j:k:tq")) != -1)
        switch (letter)
        {
            case 'n': options.cases = strtoull(optarg, NULL, 10); break;
            case 's': options.seed = strtoull(optarg, NULL, 10); break;
            case 'j': options.workers = (uint32_t) strtoul(optarg, NULL, 10); break;
            case 'k': options.size_cap = (uint32_t) strtoul(optarg, NULL, 10); break;
            case 't': options.trace = true; break;
            case 'q': options.quiet = true; break;
            default:
                fprintf(stderr,
                        "usage: sim [-n cases] [-s seed] [-j processes] [-k tasks] [-tq]\n");
                exit(2);
        }
    if (options.workers < 1 || options.workers > MAX_WORKERS)
        options.workers = 2;
    if (options.size_cap < 1)
        options.size_cap = 1;
    if (options.workers > options.cases)
        options.workers = options.cases < 1 ? 1 : (uint32_t) options.cases;
}

int
main(int argc, char **argv)
{
    struct timespec begin, end;
    double seconds;

    read_options(argc, argv);
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    if (options.trace)
        return trace_one();
    shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    shared->first_bad = UINT64_MAX;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    run_all();
    clock_gettime(CLOCK_MONOTONIC, &end);
    seconds = (double) (end.tv_sec - begin.tv_sec) + (double) (end.tv_nsec - begin.tv_nsec) / 1e9;
    if (shared->first_bad != UINT64_MAX)
        report(shared->first_bad);
    summary(seconds);
    return shared->first_bad == UINT64_MAX ? 0 : 1;
}
