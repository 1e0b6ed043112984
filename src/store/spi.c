/*
 * store/spi.c
 *     The agent's transaction, saved plans and batches.
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "parser/parse_coerce.h"
#include "pgstat.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

static bool transaction_open = false;
static void (*at_commit)(void) = NULL;
static void (*at_abort)(void) = NULL;

void
fleet_catalog_at_end(void (*before_commit)(void), void (*aborted)(void))
{
    at_commit = before_commit;
    at_abort = aborted;
}

void
fleet_catalog_begin(void)
{
    MemoryContext context = CurrentMemoryContext;

    if (transaction_open)
        return;
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    if (SPI_connect() != SPI_OK_CONNECT)
        elog(ERROR, "SPI_connect failed");
    transaction_open = true;
    /* What the caller allocates belongs to its turn, not to the transaction. */
    MemoryContextSwitchTo(context);
}

bool
fleet_catalog_is_open(void)
{
    return transaction_open;
}

void
fleet_catalog_commit(void)
{
    MemoryContext context = CurrentMemoryContext;

    if (!transaction_open)
        return;
    if (at_commit != NULL)
        at_commit();
    SPI_finish();
    CommitTransactionCommand();
    transaction_open = false;
    MemoryContextSwitchTo(context);
    pgstat_report_stat(false);
}

void
fleet_catalog_abort(void)
{
    MemoryContext context = CurrentMemoryContext;

    AbortOutOfAnyTransaction();
    transaction_open = false;
    if (at_abort != NULL)
        at_abort();
    MemoryContextSwitchTo(context);
}

/*
 * Values that are stored out of line come into the rows now, while the
 * statement's snapshot protects them: readers have none.
 */
static void
fetch_out_of_line(SPITupleTable *table)
{
    MemoryContext before;

    if (table == NULL)
        return;
    before = MemoryContextSwitchTo(table->tuptabcxt);
    for (uint64 i = 0; i < table->numvals; i++)
    {
        HeapTuple tuple = table->vals[i];

        if (!HeapTupleHasExternal(tuple))
            continue;
        table->vals[i] = toast_flatten_tuple(tuple, table->tupdesc);
        heap_freetuple(tuple);
    }
    MemoryContextSwitchTo(before);
}

uint64
fleet_statement_run(FleetStatement *statement, Datum *values, const char *nulls)
{
    MemoryContext context = CurrentMemoryContext;
    int result;

    fleet_catalog_begin();
    PushActiveSnapshot(GetTransactionSnapshot());
    if (statement->plan == NULL)
    {
        SPIPlanPtr plan = SPI_prepare(statement->sql, statement->nargs, statement->types);

        if (plan == NULL || SPI_keepplan(plan) != 0)
            elog(ERROR, "could not prepare: %s", statement->sql);
        statement->plan = plan;
    }
    result = SPI_execute_plan(statement->plan, values, nulls, false, 0);
    fetch_out_of_line(SPI_tuptable);
    PopActiveSnapshot();
    MemoryContextSwitchTo(context); /* SPI leaves its own, which goes with the transaction */
    if (result < 0)
        elog(ERROR, "%s: %s", SPI_result_code_string(result), statement->sql);
    return SPI_processed;
}

char *
fleet_statement_text(FleetStatement *statement, Datum *values)
{
    MemoryContext context = CurrentMemoryContext;
    char *text = NULL;

    if (fleet_statement_run(statement, values, NULL) > 0)
        text = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
    SPI_freetuptable(SPI_tuptable);
    return text;
}

/* ---- batches ---- */

void
fleet_batch_init(FleetBatch *batch, FleetStatement *statement, int ncolumns, const Oid *columns,
                 MemoryContext parent)
{
    memset(batch, 0, sizeof(*batch));
    Assert(ncolumns == statement->nargs);
    batch->statement = statement;
    batch->ncolumns = ncolumns;
    batch->columns = columns;
    batch->context = AllocSetContextCreate(parent, "pg_fleet batch", ALLOCSET_DEFAULT_SIZES);
}

void
fleet_batch_add(FleetBatch *batch, const Datum *values, const bool *nulls)
{
    int n = batch->ncolumns;

    if (batch->count == batch->capacity)
    {
        MemoryContext old = MemoryContextSwitchTo(batch->context);
        int capacity = batch->capacity == 0 ? 64 : batch->capacity * 2;
        Size size = sizeof(Datum) * n * capacity;

        if (batch->values == NULL)
        {
            batch->values = MemoryContextAllocHuge(batch->context, size);
            batch->nulls = MemoryContextAllocHuge(batch->context, sizeof(bool) * n * capacity);
        }
        else
        {
            batch->values = repalloc_huge(batch->values, size);
            batch->nulls = repalloc_huge(batch->nulls, sizeof(bool) * n * capacity);
        }
        batch->capacity = capacity;
        MemoryContextSwitchTo(old);
    }
    memcpy(batch->values + (Size) batch->count * n, values, sizeof(Datum) * n);
    memcpy(batch->nulls + (Size) batch->count * n, nulls, sizeof(bool) * n);
    batch->count++;
}

static Datum
column_array(FleetBatch *batch, int column)
{
    int n = batch->count;
    Oid type = batch->columns[column];
    Datum *values = palloc(sizeof(Datum) * n);
    bool *nulls = palloc(sizeof(bool) * n);
    int dims[] = {n};
    int lower[] = {1};
    int16 length;
    bool by_value;
    char align;

    for (int i = 0; i < n; i++)
    {
        values[i] = batch->values[(Size) i * batch->ncolumns + column];
        nulls[i] = batch->nulls[(Size) i * batch->ncolumns + column];
    }
    get_typlenbyvalalign(type, &length, &by_value, &align);
    return PointerGetDatum(
        construct_md_array(values, nulls, 1, dims, lower, type, length, by_value, align));
}

uint64
fleet_batch_run(FleetBatch *batch)
{
    Datum params[FLEET_MAX_PARAMS];
    MemoryContext old;
    uint64 processed;

    if (batch->count == 0)
        return 0;
    fleet_catalog_begin(); /* array types are looked up in the catalog */
    old = MemoryContextSwitchTo(batch->context);
    for (int i = 0; i < batch->ncolumns; i++)
        params[i] = column_array(batch, i);
    MemoryContextSwitchTo(old);
    processed = fleet_statement_run(batch->statement, params, NULL);
    fleet_batch_clear(batch);
    return processed;
}

void
fleet_batch_clear(FleetBatch *batch)
{
    MemoryContextReset(batch->context);
    batch->values = NULL;
    batch->nulls = NULL;
    batch->count = batch->capacity = 0;
}

Datum
fleet_batch_text(FleetBatch *batch, const char *text, bool *isnull)
{
    MemoryContext old;
    Datum datum;

    *isnull = text == NULL;
    if (text == NULL)
        return (Datum) 0;
    old = MemoryContextSwitchTo(batch->context);
    datum = CStringGetTextDatum(text);
    MemoryContextSwitchTo(old);
    return datum;
}

/* ---- reading rows ---- */

int64
fleet_column_int(HeapTuple tuple, TupleDesc desc, int column, int64 if_null)
{
    bool isnull;
    Datum value = SPI_getbinval(tuple, desc, column, &isnull);

    if (isnull)
        return if_null;
    switch (SPI_gettypeid(desc, column))
    {
        case INT2OID: return DatumGetInt16(value);
        case INT4OID: return DatumGetInt32(value);
        case INT8OID:
        case TIMESTAMPTZOID: return DatumGetInt64(value);
        case OIDOID: return DatumGetObjectId(value);
        case BOOLOID: return DatumGetBool(value);
    }
    if (IsBinaryCoercible(SPI_gettypeid(desc, column), OIDOID)) /* fleet_catalog.role, … */
        return DatumGetObjectId(value);
    elog(ERROR, "column %d is not a number", column);
    return 0;
}

double
fleet_column_double(HeapTuple tuple, TupleDesc desc, int column)
{
    bool isnull;
    Datum value = SPI_getbinval(tuple, desc, column, &isnull);

    return isnull ? 0 : DatumGetFloat8(value);
}

bool
fleet_column_bool(HeapTuple tuple, TupleDesc desc, int column)
{
    return fleet_column_int(tuple, desc, column, 0) != 0;
}

char *
fleet_column_text(HeapTuple tuple, TupleDesc desc, int column, MemoryContext context)
{
    char *value = SPI_getvalue(tuple, desc, column);

    return value == NULL ? NULL : MemoryContextStrdup(context, value);
}

void
fleet_column_names(HeapTuple tuple, TupleDesc desc, int column, MemoryContext context,
                   FleetNames *names)
{
    bool isnull;
    Datum value = SPI_getbinval(tuple, desc, column, &isnull);
    Datum *elements;
    bool *nulls;
    int n;

    names->n = 0;
    names->names = NULL;
    if (isnull)
        return;
    deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements,
                      &nulls, &n);
    names->names = MemoryContextAllocZero(context, sizeof(char *) * Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        if (!nulls[i])
            names->names[names->n++] =
                MemoryContextStrdup(context, TextDatumGetCString(elements[i]));
    }
}

bool
fleet_names_have(const FleetNames *names, const char *name)
{
    for (int i = 0; i < names->n; i++)
    {
        if (strcmp(names->names[i], name) == 0)
            return true;
    }
    return false;
}
