/*
 * store/stat.c
 *     Rows of fleet_catalog.stat (store/stat.h).
 *
 * A row is what FleetStat is, as an array of numbers; 60_views.sql knows their
 * places.  The agent is the only writer, so that it writes sums and not
 * differences, and finds each row where it has put it.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "clock.h"
#include "common/hashfn.h"
#include "lib/ilist.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "store/spi.h"
#include "store/stat.h"
#include "store/tables.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* The numbers are stored; 60_views.sql has them too. */
typedef enum StatKind
{
    STAT_AGENT = 0,
    STAT_PACKAGE_RUNS = 1,
    STAT_JOBS = 2,
    STAT_SERVER = 3,
} StatKind;

#define COUNTS ((int) (sizeof(FleetStat) / sizeof(int64)))
#define AT(member, place)                                                                          \
    StaticAssertDecl(offsetof(FleetStat, member) == ((place) - (1)) * sizeof(int64),               \
                     "60_views.sql finds it there")
AT(runs, 1);
AT(tasks, 7);
AT(run_wait, 13);
AT(run_work, 28);
AT(wait, 43);
AT(work, 58);
AT(retries, 73);
AT(log_lines, 74);
AT(purged, 75);
AT(quarantined, 76);
AT(late, 77);
AT(waiting, 78);
AT(running, 79);
StaticAssertDecl(sizeof(FleetStat) == 79 * sizeof(int64), "60_views.sql knows all of it");

typedef struct StatEntry
{
    int32 stat_id;
    StatKind kind;
    char *package; /* NULL: none */
    Oid owner;
    int32 server_id;
    TimestampTz since;
    bool stored;
    ItemPointerData place; /* where it has been written last; invalid: not known */
    bool dirty;
    dlist_node node; /* in "dirty" */
    dlist_node of_all;
    FleetStat stat;
} StatEntry;

/* What an entry is found by. */
typedef struct StatKey
{
    StatKind kind;
    Oid owner;
    int32 server_id;
    const char *package; /* NULL: none */
} StatKey;

typedef struct StatKnown
{
    StatKey key; /* hash key */
    StatEntry *entry;
} StatKnown;

/* Whose counters those of a run, or job run, are. */
typedef struct StatOwner
{
    FleetRowOwner of; /* hash key */
    StatEntry *entry;
} StatOwner;

#define OWNERS_MAX 10000
#define LARGE 128 /* blocks: 1 MB, of versions that are still kept */

static MemoryContext above, context; /* of all that follows; NULL: nothing is loaded */
static dlist_head entries = DLIST_STATIC_INIT(entries);
static int32 last_id;
static HTAB *known;
static HTAB *owners;
static dlist_head dirty;
static FleetStatPace pace;

/* ---- entries ---- */

static uint32
key_hash(const void *key, Size size)
{
    const StatKey *k = key;
    uint32 numbers[] = {k->kind, k->owner, (uint32) k->server_id};
    const char *package = k->package == NULL ? "" : k->package;

    return hash_combine(hash_bytes((const unsigned char *) numbers, sizeof(numbers)),
                        hash_bytes((const unsigned char *) package, (int) strlen(package)));
}

static int
key_compare(const void *a, const void *b, Size size)
{
    const StatKey *x = a, *y = b;

    if (x->kind != y->kind || x->owner != y->owner || x->server_id != y->server_id ||
        (x->package == NULL) != (y->package == NULL))
        return 1;
    return x->package == NULL ? 0 : strcmp(x->package, y->package);
}

static void
known_begin(void)
{
    HASHCTL control = {.keysize = sizeof(StatKey),
                       .entrysize = sizeof(StatKnown),
                       .hash = key_hash,
                       .match = key_compare,
                       .hcxt = context};

    known = hash_create("pg_fleet counters by name", 64, &control,
                        HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/* Of two rows of the same, which only somebody's hand can make, the first one counts. */
static void
entry_know(StatEntry *entry)
{
    StatKey key = {entry->kind, entry->owner, entry->server_id, entry->package};
    bool found;
    StatKnown *of = hash_search(known, &key, HASH_ENTER, &found);

    if (!found)
        of->entry = entry;
}

static StatEntry *
entry_new(StatKind kind, const char *package, Oid owner, int server_id)
{
    MemoryContext before = MemoryContextSwitchTo(context);
    StatEntry *entry = palloc0(sizeof(StatEntry));

    *entry = (StatEntry){.stat_id = ++last_id,
                         .kind = kind,
                         .package = package == NULL ? NULL : pstrdup(package),
                         .owner = owner,
                         .server_id = server_id,
                         .since = fleet_clock_wall()};
    dlist_push_tail(&entries, &entry->of_all);
    entry_know(entry);
    MemoryContextSwitchTo(before);
    return entry;
}

static StatEntry *
entry_get(StatKind kind, const char *package, Oid owner, int server_id)
{
    StatKey key = {kind, owner, server_id, package};
    StatKnown *of;

    if (context == NULL)
        fleet_stat_load();
    of = hash_search(known, &key, HASH_FIND, NULL);
    return of != NULL ? of->entry : entry_new(kind, package, owner, server_id);
}

static FleetStat *
changed(StatEntry *entry)
{
    if (!entry->dirty)
        dlist_push_tail(&dirty, &entry->node);
    entry->dirty = true;
    return &entry->stat;
}

static FleetStat *
of_server(int server_id)
{
    return changed(entry_get(STAT_SERVER, NULL, InvalidOid, server_id));
}

static FleetStat *
of_agent(void)
{
    return changed(entry_get(STAT_AGENT, NULL, InvalidOid, 0));
}

static StatEntry *
entry_of_run(FleetRows *run)
{
    bool isnull;
    char *package = TextDatumGetCString(fleet_rows_get(run, RUN_PACKAGE, &isnull));
    Oid owner = DatumGetObjectId(fleet_rows_get(run, RUN_OWNER, &isnull));

    return package[0] == '\0' ? entry_get(STAT_JOBS, NULL, owner, 0)
                              : entry_get(STAT_PACKAGE_RUNS, package, owner, 0);
}

static StatEntry *
entry_of_job_run(FleetRows *job_run)
{
    bool isnull;

    return entry_get(STAT_JOBS, NULL, DatumGetObjectId(fleet_rows_get(job_run, JOB_OWNER, &isnull)),
                     0);
}

static StatEntry *
entry_look_up(const FleetRowOwner *of)
{
    bool is_run = of->run_id != 0;
    Datum key = Int64GetDatum(is_run ? of->run_id : of->job_run_id);
    StatEntry *entry = NULL;
    FleetRows *rows;

    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    rows = fleet_rows_open(is_run ? &fleet_table_run : &fleet_table_job_run, false);
    if (fleet_rows_find(rows, is_run ? RUN_BY_ID : JOB_RUN_BY_ID, &key, 1))
        entry = is_run ? entry_of_run(rows) : entry_of_job_run(rows);
    fleet_rows_close(rows);
    PopActiveSnapshot();
    return entry;
}

static void
owners_begin(void)
{
    HASHCTL control = {
        .keysize = sizeof(FleetRowOwner), .entrysize = sizeof(StatOwner), .hcxt = context};

    owners =
        hash_create("pg_fleet counted runs", 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* NULL: its row is gone, by somebody's hand. */
static FleetStat *
of_run(int64 run_id, int64 job_run_id)
{
    FleetRowOwner of = {run_id, run_id != 0 ? 0 : job_run_id};
    StatOwner *owner;
    StatEntry *entry;

    if (context == NULL)
        fleet_stat_load();
    owner = hash_search(owners, &of, HASH_FIND, NULL);
    if (owner != NULL)
        return changed(owner->entry);
    entry = entry_look_up(&of);
    if (entry == NULL)
        return NULL;
    if (hash_get_num_entries(owners) >= OWNERS_MAX)
    {
        hash_destroy(owners);
        owners_begin();
    }
    owner = hash_search(owners, &of, HASH_ENTER, NULL);
    owner->entry = entry;
    return changed(entry);
}

static void
forget_run(int64 run_id, int64 job_run_id)
{
    FleetRowOwner of = {run_id, job_run_id};

    (void) hash_search(owners, &of, HASH_REMOVE, NULL);
}

/* ---- counting ---- */

static FleetState
row_state(FleetRows *rows)
{
    return (FleetState) fleet_rows_int(rows, TASK_STATE, FLEET_QUEUED);
}

static bool
is_under_way(FleetState state)
{
    return state == FLEET_STARTING || state == FLEET_RUNNING || state == FLEET_CANCELING;
}

/* The attempt of a row goes from one state to another, at its server; the row is as it was before. */
static void
attempt_moves(FleetRows *rows, FleetStat *package, FleetState to, TimestampTz started,
              TimestampTz ended, bool nested)
{
    FleetStat *server = of_server((int) fleet_rows_int(rows, TASK_SERVER_ID, 0));
    FleetState from = row_state(rows);

    if (started == 0)
        started = fleet_rows_int(rows, TASK_STARTED_AT, 0);
    fleet_stat_attempt_moved(server, from, to);
    fleet_stat_task_moved(server, from, to);
    if (!is_under_way(from) || is_under_way(to) || started == 0)
        return;
    if (package != NULL)
        fleet_histogram_add(&package->work, ended - started);
    if (!nested)
        fleet_histogram_add(&server->work, ended - started);
}

void
fleet_stat_task(FleetRows *rows, const FleetTaskWrite *w)
{
    FleetStat *package = of_run(w->run_id, 0);
    bool final = FLEET_STATE_IS_FINAL(w->state);

    if (package != NULL)
        fleet_stat_task_moved(package, row_state(rows), w->state);
    /* else it was never started, or is the whole of a for_each */
    if (fleet_rows_int(rows, TASK_ATTEMPT, 0) > 0)
        attempt_moves(rows, package, w->state, w->started_at,
                      final ? w->finished_at : fleet_clock_wall(), w->nested);
}

void
fleet_stat_task_closed(FleetRows *rows, FleetState state)
{
    FleetTaskWrite w = {.run_id = fleet_rows_int(rows, TASK_RUN_ID, 0),
                        .state = state,
                        .finished_at = fleet_clock_wall()};
    FleetStat *package = of_run(w.run_id, 0);

    if (package != NULL)
        fleet_stat_task_moved(package, row_state(rows), state);
    if (fleet_rows_int(rows, TASK_ATTEMPT, 0) > 0)
        fleet_stat_task_moved(of_server((int) fleet_rows_int(rows, TASK_SERVER_ID, 0)),
                              row_state(rows), state);
}

void
fleet_stat_task_start(FleetRows *rows, const FleetTaskWrite *w)
{
    TimestampTz now = fleet_clock_wall();
    TimestampTz ready = w->ready_at != 0 ? w->ready_at : fleet_rows_int(rows, TASK_QUEUED_AT, now);
    FleetStat *package = of_run(w->run_id, 0);
    FleetStat *server;

    /* an attempt may end and the next one begin in one turn: its row has not said so */
    if (fleet_rows_int(rows, TASK_ATTEMPT, 0) > 0)
        attempt_moves(rows, package, FLEET_QUEUED, 0, now, w->nested);
    server = of_server(w->server_id);
    if (package != NULL)
        fleet_stat_attempt_begun(package, w->attempt, now - ready);
    fleet_stat_attempt_begun(server, w->attempt, now - ready);
    fleet_stat_attempt_moved(server, FLEET_QUEUED, FLEET_STARTING);
}

/* Without an end before its begin: clocks are set back. */
static FleetTime
span(TimestampTz from, TimestampTz to)
{
    return from == 0 || to == 0 ? FLEET_STAT_NOT_BEGUN : Max(to - from, 0);
}

void
fleet_stat_run(FleetRows *rows, const FleetRunWrite *w)
{
    StatEntry *entry;
    TimestampTz asked, not_before, started;

    if (!FLEET_STATE_IS_FINAL(w->state))
        return;
    entry = entry_of_run(rows);
    asked = fleet_rows_int(rows, RUN_QUEUED_AT, 0);
    not_before = fleet_rows_int(rows, RUN_RUN_AT, asked);
    asked = Max(asked, not_before);
    started = fleet_rows_int(rows, RUN_STARTED_AT, w->started_at);
    fleet_stat_run_ended(changed(entry), w->state, span(asked, started),
                         span(started, w->finished_at));
    forget_run(w->run_id, 0);
}

void
fleet_stat_job_run(FleetRows *rows, const FleetJobRunWrite *w)
{
    StatEntry *entry;
    TimestampTz started;

    if (!FLEET_STATE_IS_FINAL(w->state))
        return;
    entry = entry_of_job_run(rows);
    started = fleet_rows_int(rows, JOB_STARTED_AT, w->started_at);
    fleet_stat_run_ended(changed(entry), w->state,
                         span(fleet_rows_int(rows, JOB_QUEUED_AT, 0), started),
                         span(started, w->finished_at));
    forget_run(0, w->job_run_id);
}

void
fleet_stat_line(int64 run_id, int64 job_run_id)
{
    FleetStat *stat = of_run(run_id, job_run_id);

    if (stat != NULL)
        stat->log_lines++;
}

void
fleet_stat_late(int64 run_id)
{
    FleetStat *stat = of_run(run_id, 0);

    if (stat != NULL)
        stat->late++;
}

void
fleet_stat_purged(int64 rows)
{
    if (rows > 0)
        of_agent()->purged += rows;
}

void
fleet_stat_quarantined(void)
{
    of_agent()->quarantined++;
}

void
fleet_stat_waits(int64 run_id, int64 waiting, int64 running)
{
    FleetStat *stat = of_run(run_id, 0);

    if (stat == NULL)
        return;
    stat->waiting += waiting;
    stat->running += running;
}

void
fleet_stat_forget(int64 run_id)
{
    if (context != NULL)
        forget_run(run_id, 0);
}

void
fleet_stat_found(int server_id, FleetState state)
{
    if (is_under_way(state))
        fleet_stat_attempt_moved(of_server(server_id), FLEET_QUEUED, state);
}

/* ---- rows ---- */

static FleetStatement read_statement = {
    "SELECT s.stat_id, s.kind, s.package, s.owner::pg_catalog.oid, s.server_id, s.since, s.counts"
    "  FROM fleet_catalog.stat AS s ORDER BY s.stat_id",
    0,
    {0},
    NULL};

/* A row of another version, or that somebody has changed, counts for nothing. */
static void
counts_read(FleetStat *stat, Datum value)
{
    ArrayType *array = DatumGetArrayTypeP(value);

    if (ARR_NDIM(array) == 1 && ARR_DIMS(array)[0] == COUNTS && !ARR_HASNULL(array) &&
        ARR_ELEMTYPE(array) == INT8OID)
        memcpy(stat, ARR_DATA_PTR(array), sizeof(FleetStat));
    stat->waiting = stat->running = 0; /* gauges are of what is loaded */
}

static void
row_read(HeapTuple tuple, TupleDesc desc)
{
    bool isnull;
    StatEntry *entry = entry_new((StatKind) fleet_column_int(tuple, desc, 2, 0),
                                 fleet_column_text(tuple, desc, 3, CurrentMemoryContext),
                                 (Oid) fleet_column_int(tuple, desc, 4, InvalidOid),
                                 (int) fleet_column_int(tuple, desc, 5, 0));

    entry->stat_id = last_id = (int32) fleet_column_int(tuple, desc, 1, 0);
    entry->since = fleet_column_int(tuple, desc, 6, 0);
    entry->stored = true;
    counts_read(&entry->stat, heap_getattr(tuple, 7, desc, &isnull));
}

void
fleet_stat_load(void)
{
    SPITupleTable *table;
    int n;

    context = AllocSetContextCreate(above, "pg_fleet counters", ALLOCSET_DEFAULT_SIZES);
    dlist_init(&entries);
    last_id = 0;
    dlist_init(&dirty);
    known_begin();
    owners_begin();
    n = (int) fleet_statement_run(&read_statement, NULL, NULL);
    table = SPI_tuptable;
    for (int i = 0; i < n; i++)
        row_read(table->vals[i], table->tupdesc);
    SPI_freetuptable(table);
}

static void
forget_all(void)
{
    if (context != NULL)
        MemoryContextDelete(context);
    context = NULL;
    dlist_init(&entries);
}

static Datum
counts_datum(const FleetStat *stat)
{
    Datum numbers[COUNTS];

    for (int i = 0; i < COUNTS; i++)
        numbers[i] = Int64GetDatum(((const int64 *) stat)[i]);
    return PointerGetDatum(
        construct_array(numbers, COUNTS, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
row_insert(FleetRows *rows, StatEntry *entry)
{
    fleet_rows_create(rows);
    fleet_rows_set(rows, STAT_ID, Int32GetDatum(entry->stat_id));
    fleet_rows_set(rows, STAT_KIND, Int16GetDatum((int16) entry->kind));
    if (entry->package != NULL)
        fleet_rows_set(rows, STAT_PACKAGE, CStringGetTextDatum(entry->package));
    if (OidIsValid(entry->owner))
        fleet_rows_set(rows, STAT_OWNER, ObjectIdGetDatum(entry->owner));
    if (entry->kind == STAT_SERVER)
        fleet_rows_set(rows, STAT_SERVER_ID, Int32GetDatum(entry->server_id));
    fleet_rows_set(rows, STAT_SINCE, TimestampTzGetDatum(entry->since));
    fleet_rows_set(rows, STAT_COUNTS, counts_datum(&entry->stat));
    fleet_rows_insert(rows);
    entry->stored = true;
    entry->place = *fleet_rows_written_to(rows);
}

/* Not once the row is found: who holds it there keeps the page as it is. */
static void
page_prune(BlockNumber block)
{
    Relation table = table_open(fleet_table_stat.relid, NoLock);

    if (block < RelationGetNumberOfBlocks(table)) /* VACUUM may have cut it off */
    {
        Buffer buffer = ReadBuffer(table, block);

        heap_page_prune_opt(table, buffer);
        ReleaseBuffer(buffer);
    }
    table_close(table, NoLock);
}

/*
 * Through the index it would be found behind all of its former versions that an
 * old snapshot keeps.  An index scan would have removed those that nobody keeps
 * on the way: so that is done here.
 */
static bool
row_find(FleetRows *rows, StatEntry *entry)
{
    Datum key = Int32GetDatum(entry->stat_id);

    if (!ItemPointerIsValid(&entry->place))
        return fleet_rows_find(rows, STAT_BY_ID, &key, 1);
    page_prune(ItemPointerGetBlockNumber(&entry->place));
    return fleet_rows_find_at(rows, &entry->place, STAT_BY_ID, &key, 1) ||
           fleet_rows_find(rows, STAT_BY_ID, &key, 1);
}

/* Returns whether the table has grown by it, and is large.  Who deleted the row wanted it to begin anew. */
static bool
row_update(FleetRows *rows, StatEntry *entry)
{
    BlockNumber was, is;

    if (!row_find(rows, entry))
    {
        row_insert(rows, entry);
        return false;
    }
    was = ItemPointerGetBlockNumber(fleet_rows_place(rows));
    fleet_rows_edit(rows);
    fleet_rows_set(rows, STAT_SINCE, TimestampTzGetDatum(entry->since));
    fleet_rows_set(rows, STAT_COUNTS, counts_datum(&entry->stat));
    fleet_rows_update(rows);
    entry->place = *fleet_rows_written_to(rows);
    is = ItemPointerGetBlockNumber(&entry->place);
    return is != was && is >= LARGE;
}

static void
rows_write(void)
{
    FleetRows *rows;
    bool grown = false;

    PushActiveSnapshot(GetTransactionSnapshot());
    rows = fleet_rows_open(&fleet_table_stat, true);
    while (!dlist_is_empty(&dirty))
    {
        StatEntry *entry = dlist_container(StatEntry, node, dlist_pop_head_node(&dirty));

        entry->dirty = false;
        if (entry->stored)
            grown |= row_update(rows, entry);
        else
            row_insert(rows, entry);
    }
    fleet_rows_close(rows);
    PopActiveSnapshot();
    fleet_stat_pace_written(&pace, grown, fleet_clock_now());
}

static void
before_commit(void)
{
    if (fleet_stat_due() <= fleet_clock_now())
        rows_write();
}

FleetTime
fleet_stat_due(void)
{
    return context == NULL || dlist_is_empty(&dirty) ? FLEET_NEVER : pace.not_before;
}

void
fleet_stat_write_all(void)
{
    if (context == NULL || dlist_is_empty(&dirty))
        return;
    fleet_catalog_begin();
    if (ConditionalLockRelationOid(fleet_table_stat.relid, RowExclusiveLock))
        rows_write();
    fleet_catalog_commit();
}

void
fleet_stat_init(MemoryContext parent)
{
    above = parent;
    fleet_catalog_at_end(before_commit, forget_all);
}

/* ---- resetting ---- */

static FleetStatement resets_statement = {
    "DELETE FROM fleet_catalog.stat_reset AS r", 0, {0}, NULL};

int
fleet_stat_resets_take(void)
{
    return (int) fleet_statement_run(&resets_statement, NULL, NULL);
}

void
fleet_stat_reset(void)
{
    TimestampTz now = fleet_clock_wall();
    dlist_iter iter;

    dlist_foreach(iter, &entries)
    {
        StatEntry *entry = dlist_container(StatEntry, of_all, iter.cur);
        FleetStat *stat = changed(entry);
        int64 waiting = stat->waiting, running = stat->running;

        memset(stat, 0, sizeof(*stat));
        stat->waiting = waiting;
        stat->running = running;
        entry->since = now;
    }
}
