/*
 * agent/learn.c
 *     Learned durations of a run's tasks: read when it begins, used for
 *     placement, written with its end.  In the agent's process.
 */
#include "postgres.h"

#include "agent/learn.h"
#include "agent/base.h"
#include "agent/server.h"
#include "store/duration.h"
#include "common/hashfn.h"
#include "utils/memutils.h"

/* Items that are over in a moment are not worth a row each: their task's estimate does. */
#define LEARN_ITEM_FROM FLEET_MS(50)
#define LEARN_KEY_MAX 200 /* bytes of parameters, where there is no item_key */
/* Of an item of mean cost, while nothing is known: as fleet.plan() assumes. */
#define ASSUMED FLEET_SECONDS(60)

typedef struct EstimateKey
{
    uint32 task;
    uint32 hash; /* of the item key; 0: by task */
    uint32 length;
} EstimateKey;

typedef struct EstimateEntry
{
    EstimateKey key;
    FleetEstimate estimate;
} EstimateEntry;

static FleetEstimate *
estimate_find(AgentRun *run, uint32 task, const char *item_key, bool enter)
{
    EstimateKey key;
    EstimateEntry *entry;
    bool found;

    if (run->estimates == NULL)
        return NULL;
    memset(&key, 0, sizeof(key));
    key.task = task;
    if (item_key != NULL && item_key[0] != '\0')
    {
        key.length = (uint32) strlen(item_key);
        key.hash = hash_bytes((const unsigned char *) item_key, (int) key.length);
    }
    entry = hash_search(run->estimates, &key, enter ? HASH_ENTER : HASH_FIND, &found);
    if (entry != NULL && !found)
        fleet_estimate_init(&entry->estimate);
    return entry == NULL ? NULL : &entry->estimate;
}

/* The tasks of a package by a name that they have, in its order: there may be 10,000, and as many
 * rows and more. */
typedef struct TaskName
{
    const char *name;
    uint32 task;
} TaskName;

static const char *
task_name(const FleetTaskDef *task)
{
    return task->name;
}

static const char *
job_name(const FleetTaskDef *task)
{
    return task->job == NULL ? "" : task->job;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(((const TaskName *) a)->name, ((const TaskName *) b)->name);
}

static TaskName *
names_sorted(const AgentRun *run, const char *(*name_of)(const FleetTaskDef *task))
{
    uint32 n = run->def->ntasks;
    TaskName *names = palloc(sizeof(TaskName) * Max(n, 1));

    for (uint32 t = 0; t < n; t++)
        names[t] = (TaskName){.name = name_of(&run->def->tasks[t]), .task = t};
    qsort(names, n, sizeof(TaskName), compare_names);
    return names;
}

/* The first one that is not before this name; n: there is none. */
static uint32
names_find(const TaskName *names, uint32 n, const char *name)
{
    uint32 low = 0, high = n;

    while (low < high)
    {
        uint32 middle = low + (high - low) / 2;

        if (strcmp(names[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* What is known of a job goes to all tasks of which nothing is. */
static void
estimate_by_job(AgentRun *run, const TaskName *jobs, const FleetDurationRow *row)
{
    uint32 n = run->def->ntasks;

    for (uint32 i = names_find(jobs, n, row->job); i < n && strcmp(jobs[i].name, row->job) == 0;
         i++)
    {
        if (estimate_find(run, jobs[i].task, NULL, false) == NULL)
            *estimate_find(run, jobs[i].task, NULL, true) = row->estimate;
    }
}

#define RENAMED_PER_TURN 500 /* rows: some milliseconds */

static bool names_left = false;

static void
apply_renamings(void *arg)
{
    names_left = fleet_duration_rename(RENAMED_PER_TURN);
}

/* What cannot be done now is done by the next one: nothing but estimates depends on it. */
void
agent_learn_names(void)
{
    FleetDiagnostics failure;

    names_left = false;
    if (!agent_protected(apply_renamings, NULL, &failure))
        ereport(LOG, (errmsg("learned durations could not be renamed: %s", failure.message)));
    if (names_left)
        turn_again();
}

bool
agent_learn_names_left(void)
{
    return names_left;
}

/* One that start_job() placed on a server: of no package, and nothing is learned of it. */
static bool
is_single_job(const AgentRun *run)
{
    return run->def->name[0] == '\0';
}

void
agent_estimates_load(AgentRun *run)
{
    HASHCTL ctl = {
        .keysize = sizeof(EstimateKey), .entrysize = sizeof(EstimateEntry), .hcxt = run->context};
    FleetDurationRow *rows;
    TaskName *tasks, *jobs;
    int n;

    if (is_single_job(run))
        return;
    n = fleet_duration_read(run->def->name, &rows);
    run->estimates =
        hash_create("pg_fleet estimates", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    tasks = names_sorted(run, task_name);
    jobs = names_sorted(run, job_name);
    for (int i = 0; i < n; i++)
    {
        if (rows[i].task[0] == '\0')
            estimate_by_job(run, jobs, &rows[i]);
        else
        {
            uint32 at = names_find(tasks, run->def->ntasks, rows[i].task);

            if (at < run->def->ntasks && strcmp(tasks[at].name, rows[i].task) == 0)
                *estimate_find(run, tasks[at].task, rows[i].item_key, true) = rows[i].estimate;
        }
    }
    pfree(tasks);
    pfree(jobs);
    for (uint32 t = 0; t < run->def->ntasks; t++)
        run->def->specs[t].estimate =
            fleet_estimate_predict(NULL, estimate_find(run, t, NULL, false), NULL);
}

const char *
agent_item_key(const char *item_key, const char *params)
{
    if (item_key != NULL)
        return item_key;
    return params != NULL && strlen(params) <= LEARN_KEY_MAX ? params : NULL;
}

const FleetEstimate *
agent_item_learned(AgentRun *run, uint32 task, const char *key)
{
    return key == NULL ? NULL : estimate_find(run, task, key, false);
}

FleetTime
agent_item_estimate(AgentRun *run, uint32 task, const FleetEstimate *learned,
                    const FleetCosts *costs, double cost)
{
    const FleetEstimate *by_task = estimate_find(run, task, NULL, false);

    if (costs == NULL || costs->count == 0)
        return fleet_estimate_predict(learned, by_task, NULL);
    return fleet_estimate_by_cost(learned, by_task, costs, cost, ASSUMED);
}

/* A row of its own: it takes long enough, or took so once, so that the short ones count as well. */
static bool
has_key(const AgentTask *task, FleetTime duration)
{
    return task->item_key != NULL &&
           (duration >= LEARN_ITEM_FROM ||
            agent_item_learned(task->run, task->ref.task, task->item_key) != NULL);
}

/* Remembers what a succeeded task run took; the end of the run writes it. */
void
agent_task_learn(AgentTask *task)
{
    AgentRun *run = task->run;
    AgentLearned *learned;

    if (task->started_at == 0)
        return;
    if (run->learned_count == run->learned_capacity)
    {
        uint32 capacity = run->learned_capacity == 0 ? 64 : run->learned_capacity * 2;

        if (run->learned == NULL)
            run->learned = MemoryContextAllocHuge(run->context, sizeof(AgentLearned) * capacity);
        else
            run->learned = repalloc_huge(run->learned, sizeof(AgentLearned) * capacity);
        run->learned_capacity = capacity;
    }
    learned = &run->learned[run->learned_count++];
    learned->task = task->ref.task;
    learned->duration = Max(task->finished_at - task->started_at, 1);
    learned->item_key =
        has_key(task, learned->duration) ? MemoryContextStrdup(run->context, task->item_key) : NULL;
    learned->server = task->server;
}

/*
 * What speeds are learned from.  An item counts by its own estimate: that of its task says
 * nothing of this item, and the same of it night after night.
 */
static void
speeds_learn(AgentRun *run, double *tonight)
{
    uint32 stride = (run->learned_count + FLEET_SPEED_PIECES - 1) / FLEET_SPEED_PIECES;
    FleetSpeedSample *samples =
        palloc(sizeof(FleetSpeedSample) * Max(Min(run->learned_count, FLEET_SPEED_PIECES), 1));
    uint32 n = 0;

    for (uint32 i = 0; i < run->learned_count; i += stride)
    {
        const AgentLearned *l = &run->learned[i];
        bool item = run->def->tasks[l->task].for_each != NULL;
        const FleetEstimate *learned = agent_item_learned(run, l->task, l->item_key);
        bool known = !item || learned != NULL;

        if (l->server != NULL)
            samples[n++] = (FleetSpeedSample){
                .server = l->server->number,
                .task = l->task,
                .pool = fleet_graph_task(run->graph, l->task)->target,
                .expected = known ? agent_item_estimate(run, l->task, learned, NULL, -1) : 0,
                .actual = l->duration};
    }
    agent_servers_learn(samples, n, tonight);
    pfree(samples);
}

void
agent_run_learn(AgentRun *run)
{
    bool *touched;
    double *tonight;

    if (is_single_job(run))
        return;
    touched = palloc0(sizeof(bool) * Max(run->def->ntasks, 1));
    tonight = palloc(sizeof(double) * agent_servers_count());
    speeds_learn(run, tonight);
    for (uint32 i = 0; i < run->learned_count; i++)
    {
        AgentLearned *l = &run->learned[i];
        const FleetTaskDef *task = &run->def->tasks[l->task];
        double speed = l->server == NULL ? 1 : tonight[l->server->number];

        fleet_estimate_add(estimate_find(run, l->task, NULL, true), l->duration, speed);
        touched[l->task] = true;
        if (l->item_key != NULL)
        {
            FleetEstimate *item = estimate_find(run, l->task, l->item_key, true);

            fleet_estimate_add(item, l->duration, speed);
            fleet_duration_write(run->def->name, task->name, l->item_key, "", item);
            fleet_duration_flush(); /* the same key may come twice in one run */
        }
    }
    for (uint32 t = 0; t < run->def->ntasks; t++)
    {
        if (touched[t])
            fleet_duration_write(run->def->name, run->def->tasks[t].name, "", "",
                                 estimate_find(run, t, NULL, false));
    }
    fleet_duration_flush();
}
