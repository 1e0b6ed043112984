/*
 * store/duration.c
 *     Learned durations: read by package, written in batches.
 */
#include "postgres.h"

#include "store/duration.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

static FleetStatement durations_statement = {
    "SELECT d.task, d.item_key, d.job, d.log_mean, d.log_spread, d.samples"
    "  FROM fleet_catalog.duration AS d WHERE d.package OPERATOR(pg_catalog.=) $1"
    " UNION ALL "
    "SELECT d.task, d.item_key, d.job, d.log_mean, d.log_spread, d.samples"
    "  FROM fleet_catalog.duration AS d WHERE d.package OPERATOR(pg_catalog.=) ''",
    1,
    {TEXTOID},
    NULL};

int
fleet_duration_read(const char *package, FleetDurationRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    Datum value = CStringGetTextDatum(package);
    int count = (int) fleet_statement_run(&durations_statement, &value, NULL);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocHuge(context, sizeof(FleetDurationRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetDurationRow *row = &(*rows)[i];

        row->task = fleet_column_text(tuple, desc, 1, context);
        row->item_key = fleet_column_text(tuple, desc, 2, context);
        row->job = fleet_column_text(tuple, desc, 3, context);
        row->estimate.log_mean = fleet_column_double(tuple, desc, 4);
        row->estimate.log_spread = fleet_column_double(tuple, desc, 5);
        row->estimate.samples = (uint32) fleet_column_int(tuple, desc, 6, 0);
    }
    SPI_freetuptable(table);
    return count;
}

static FleetStatement rename_statement = {
    "SELECT fleet_catalog.apply_renamings($1) WHERE EXISTS (SELECT FROM fleet_catalog.renaming)",
    1,
    {INT4OID},
    NULL};

bool
fleet_duration_rename(int most)
{
    Datum value = Int32GetDatum(most);
    bool more;

    if (fleet_statement_run(&rename_statement, &value, NULL) == 0)
        return false;
    more = fleet_column_bool(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    SPI_freetuptable(SPI_tuptable);
    return more;
}

static const Oid duration_columns[] = {TEXTOID,   TEXTOID,   TEXTOID, TEXTOID,
                                       FLOAT8OID, FLOAT8OID, INT4OID};
static FleetStatement duration_statement = {
    "INSERT INTO fleet_catalog.duration AS d (package, task, item_key, job, log_mean, log_spread,"
    "   samples)"
    "SELECT * FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2),"
    "   pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5),"
    "   pg_catalog.unnest($6), pg_catalog.unnest($7)) AS u"
    " ON CONFLICT (package, task, item_key, job) DO UPDATE"
    "   SET log_mean = excluded.log_mean, log_spread = excluded.log_spread,"
    "       samples = excluded.samples, seen_at = pg_catalog.now()",
    7,
    {TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, FLOAT8ARRAYOID, FLOAT8ARRAYOID,
     INT4ARRAYOID},
    NULL};
static FleetBatch durations;

void
fleet_duration_write(const char *package, const char *task, const char *item_key, const char *job,
                     const FleetEstimate *estimate)
{
    Datum values[7];
    bool nulls[7] = {false};

    if (durations.statement == NULL)
        fleet_batch_init(&durations, &duration_statement, lengthof(duration_columns),
                         duration_columns, TopMemoryContext);
    values[0] = fleet_batch_text(&durations, package, &nulls[0]);
    values[1] = fleet_batch_text(&durations, task, &nulls[1]);
    values[2] = fleet_batch_text(&durations, item_key, &nulls[2]);
    values[3] = fleet_batch_text(&durations, job, &nulls[3]);
    values[4] = Float8GetDatum(estimate->log_mean);
    values[5] = Float8GetDatum(estimate->log_spread);
    values[6] = Int32GetDatum((int32) estimate->samples);
    fleet_batch_add(&durations, values, nulls);
}

void
fleet_duration_flush(void)
{
    if (durations.statement != NULL)
        (void) fleet_batch_run(&durations);
}
