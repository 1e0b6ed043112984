/*
 * store/run_collect.c
 *     Rows of runs, collected during a turn (run_collect.h).
 */
#include "postgres.h"

#include "store/run_collect.h"
#include "store/item.h"
#include "store/places.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#define KEEP_CAPACITY 256

FleetCollected fleet_collected = {
    .runs = {.size = sizeof(FleetRunWrite)},
    .news = {.size = sizeof(FleetTaskNew)},
    .starts = {.size = sizeof(FleetTaskWrite)},
    .tasks = {.size = sizeof(FleetTaskWrite)},
    .job_runs = {.size = sizeof(FleetJobRunWrite), .of_job = true},
    .step_news = {.size = sizeof(FleetStepWrite), .of_both = true},
    .steps = {.size = sizeof(FleetStepWrite), .of_both = true},
    .lines = {.size = sizeof(FleetLineWrite), .of_both = true},
};

#define FIRST(type, member)                                                                        \
    StaticAssertDecl(offsetof(type, member) == 0, "owner_of() finds the number there")
#define SECOND(type)                                                                               \
    StaticAssertDecl(offsetof(type, job_run_id) == sizeof(int64), "owner_of() finds it there")
FIRST(FleetRunWrite, run_id);
FIRST(FleetTaskNew, run_id);
FIRST(FleetTaskWrite, run_id);
FIRST(FleetJobRunWrite, job_run_id);
FIRST(FleetStepWrite, run_id);
SECOND(FleetStepWrite);
FIRST(FleetLineWrite, run_id);
SECOND(FleetLineWrite);

static FleetCollectedRows *const all[] = {&fleet_collected.runs,     &fleet_collected.news,
                                          &fleet_collected.starts,   &fleet_collected.tasks,
                                          &fleet_collected.job_runs, &fleet_collected.step_news,
                                          &fleet_collected.steps,    &fleet_collected.lines};
static MemoryContext lists; /* the items */
static MemoryContext scratch;

void
fleet_run_write_init(MemoryContext context)
{
    lists = AllocSetContextCreate(context, "pg_fleet rows", ALLOCSET_DEFAULT_SIZES);
    fleet_collected.values =
        AllocSetContextCreate(context, "pg_fleet row values", ALLOCSET_DEFAULT_SIZES);
    scratch = AllocSetContextCreate(context, "pg_fleet row scratch", ALLOCSET_DEFAULT_SIZES);
    fleet_places_init(context);
}

int
fleet_collected_count(void)
{
    int n = 0;

    for (int i = 0; i < (int) lengthof(all); i++)
        n += all[i]->count;
    return n;
}

bool
fleet_run_write_pending(void)
{
    return fleet_collected_count() > 0;
}

static void *
collect(FleetCollectedRows *list, const void *item)
{
    char *place;

    if (list->count == list->capacity)
    {
        int capacity = Max(64, list->capacity * 2);

        list->items = list->items == NULL
                          ? MemoryContextAllocHuge(lists, list->size * (Size) capacity)
                          : repalloc_huge(list->items, list->size * (Size) capacity);
        list->capacity = capacity;
    }
    place = list->items + list->size * (Size) list->count++;
    memcpy(place, item, list->size);
    return place;
}

void
fleet_collected_clear(void)
{
    for (int i = 0; i < (int) lengthof(all); i++)
    {
        FleetCollectedRows *list = all[i];

        if (list->capacity > KEEP_CAPACITY)
        {
            pfree(list->items);
            list->items = NULL;
            list->capacity = 0;
        }
        list->count = 0;
    }
    MemoryContextReset(fleet_collected.values);
}

static void
keep(const char **text)
{
    if (*text != NULL)
        *text = MemoryContextStrdup(fleet_collected.values, *text);
}

void
fleet_run_write(int64 run_id, FleetState old, FleetState state, TimestampTz started,
                TimestampTz finished, const char *message, bool timed_out)
{
    FleetRunWrite w = {run_id, old, state, started, finished, message, timed_out};

    keep(&w.message);
    collect(&fleet_collected.runs, &w);
}

static Jsonb *
keep_params(const char *params)
{
    MemoryContext before = MemoryContextSwitchTo(scratch);
    Jsonb *parsed = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(params)));
    Jsonb *kept = MemoryContextAlloc(fleet_collected.values, VARSIZE(parsed));

    memcpy(kept, parsed, VARSIZE(parsed));
    MemoryContextSwitchTo(before);
    MemoryContextReset(scratch); /* parsing leaves a hundred times as much: 100,000 of them */
    return kept;
}

void
fleet_task_write_new(int64 run_id, uint32 task, TimestampTz queued)
{
    FleetTaskNew w = {run_id, task, 0, queued, NULL, {NULL, -1}};

    collect(&fleet_collected.news, &w);
}

FleetItemFacts
fleet_item_write_new(int64 run_id, uint32 task, uint32 item, TimestampTz queued, const char *params,
                     const FleetItemColumns *columns)
{
    FleetTaskNew w = {run_id, task, item, queued, keep_params(params), {NULL, -1}};

    fleet_item_read(w.params, columns, fleet_collected.values, &w.facts);
    collect(&fleet_collected.news, &w);
    return w.facts;
}

int
fleet_task_mark_new(void)
{
    return fleet_collected.news.count;
}

void
fleet_task_forget_new(int mark)
{
    Assert(mark <= fleet_collected.news.count);
    fleet_collected.news.count = mark;
}

void
fleet_task_write_start(const FleetTaskWrite *write)
{
    FleetTaskWrite *w =
        collect(&fleet_collected.starts, write); /* its other texts are not looked at */

    w->document = write->params == NULL ? NULL : keep_params(write->params);
}

void
fleet_task_write(const FleetTaskWrite *write)
{
    FleetTaskWrite *w = collect(&fleet_collected.tasks, write);

    w->document = write->params == NULL ? NULL : keep_params(write->params);
    fleet_diagnostics_copy(&w->diag, &write->diag, fleet_collected.values);
    keep(&w->output);
}

void
fleet_job_run_write(const FleetJobRunWrite *write)
{
    FleetJobRunWrite *w = collect(&fleet_collected.job_runs, write);

    fleet_diagnostics_copy(&w->diag, &write->diag, fleet_collected.values);
    keep(&w->output);
}

static void
step_collect(FleetCollectedRows *list, const FleetStepWrite *write)
{
    FleetStepWrite *w = collect(list, write);

    fleet_diagnostics_copy(&w->diag, &write->diag, fleet_collected.values);
    keep(&w->step);
    keep(&w->output);
}

void
fleet_step_write_new(const FleetStepWrite *write)
{
    step_collect(&fleet_collected.step_news, write);
}

void
fleet_step_write(const FleetStepWrite *write)
{
    step_collect(&fleet_collected.steps, write);
}

void
fleet_line_write(const FleetLineWrite *write)
{
    FleetLineWrite *w = collect(&fleet_collected.lines, write);

    fleet_diagnostics_copy(&w->diag, &write->diag, fleet_collected.values);
}

/* ---- whose they are ---- */

static int
compare_owners(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(FleetRowOwner));
}

static FleetRowOwner
owner_of(const FleetCollectedRows *list, const char *item)
{
    int64 ids[2];

    memcpy(ids, item, sizeof(ids));
    if (list->of_job)
        return (FleetRowOwner){0, ids[0]};
    return (FleetRowOwner){ids[0], list->of_both && ids[0] == 0 ? ids[1] : 0};
}

bool
fleet_row_owners_equal(const FleetRowOwner *a, const FleetRowOwner *b)
{
    return compare_owners(a, b) == 0;
}

int
fleet_collected_owners(FleetRowOwner **owners)
{
    FleetRowOwner *list = MemoryContextAllocHuge(
        fleet_collected.values, sizeof(FleetRowOwner) * (Size) fleet_collected_count());
    int count = 0, n = 0;

    for (int i = 0; i < (int) lengthof(all); i++)
    {
        for (int j = 0; j < all[i]->count; j++)
            list[count++] = owner_of(all[i], all[i]->items + all[i]->size * (Size) j);
    }
    qsort(list, (size_t) count, sizeof(FleetRowOwner), compare_owners);
    for (int i = 0; i < count; i++)
    {
        if (n == 0 || compare_owners(&list[n - 1], &list[i]) != 0)
            list[n++] = list[i];
    }
    *owners = list;
    return n;
}
