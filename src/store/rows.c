/*
 * store/rows.c
 *     Rows by key, without a statement (rows.h).  In the agent and in sessions
 *     of links.
 *
 * What execReplication.c does with a row that came from a publisher, with one
 * difference: rows are found with the active snapshot and are only locked where
 * the caller says so.  Most have one writer at a time (10_tables.sql says who);
 * should another one have changed it after all, the update is an ERROR.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "store/rows.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "parser/parse_coerce.h"
#include "storage/bufmgr.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define MAX_KEYS 4

struct FleetRows
{
    FleetTable *table;
    Relation relation;
    EState *estate;
    EPQState epq;
    ResultRelInfo *target; /* NULL: only read */
    TupleTableSlot *found;
    TupleTableSlot *changed;
    Relation indexes[FLEET_MAX_INDEXES];
    IndexScanDesc scans[FLEET_MAX_INDEXES];
    IndexScanDesc scan; /* of the last seek */
    BlockNumber blocks; /* that the table has; 0: not asked yet */
};

static Oid
relation_oid(const char *name)
{
    Oid relid = get_relname_relid(name, get_namespace_oid("fleet_catalog", false));

    if (!OidIsValid(relid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("relation \"fleet_catalog.%s\" does not exist", name),
                        errhint("Update the extension: ALTER EXTENSION pg_fleet UPDATE.")));
    return relid;
}

/* Columns keep their numbers for as long as the table exists. */
static void
table_find(FleetTable *table)
{
    Oid relid = relation_oid(table->name);

    if (table->relid == relid)
        return;
    for (int i = 0; i < table->ncolumns; i++)
    {
        table->attnos[i] = get_attnum(relid, table->columns[i]);
        if (table->attnos[i] == InvalidAttrNumber)
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                            errmsg("column \"%s\" of fleet_catalog.%s does not exist",
                                   table->columns[i], table->name),
                            errhint("Update the extension: ALTER EXTENSION pg_fleet UPDATE.")));
    }
    table->relid = relid;
}

FleetRows *
fleet_rows_open(FleetTable *table, bool for_write)
{
    EState *estate = CreateExecutorState();
    MemoryContext before = MemoryContextSwitchTo(estate->es_query_cxt);
    FleetRows *rows = palloc0(sizeof(FleetRows));

    table_find(table);
    rows->table = table;
    rows->estate = estate;
    rows->relation = table_open(table->relid, for_write ? RowExclusiveLock : AccessShareLock);
    estate->es_snapshot = GetActiveSnapshot();
    rows->found = table_slot_create(rows->relation, &estate->es_tupleTable);
    if (for_write)
    {
        rows->target = makeNode(ResultRelInfo);
        InitResultRelInfo(rows->target, rows->relation, 0, NULL, 0);
        ExecOpenIndices(rows->target, false);
        rows->changed =
            ExecInitExtraTupleSlot(estate, RelationGetDescr(rows->relation), &TTSOpsVirtual);
        fleet_epq_init(&rows->epq, estate);
        AfterTriggerBeginQuery();
    }
    MemoryContextSwitchTo(before);
    return rows;
}

void
fleet_rows_close(FleetRows *rows)
{
    EState *estate = rows->estate;

    for (int i = 0; i < FLEET_MAX_INDEXES; i++)
    {
        if (rows->scans[i] != NULL)
            index_endscan(rows->scans[i]);
        if (rows->indexes[i] != NULL)
            index_close(rows->indexes[i], AccessShareLock);
    }
    if (rows->target != NULL)
    {
        AfterTriggerEndQuery(estate);
        ExecCloseResultRelations(estate); /* that triggers of an administrator have opened */
        EvalPlanQualEnd(&rows->epq);
        ExecCloseIndices(rows->target);
    }
    ExecResetTupleTable(estate->es_tupleTable, false);
    table_close(rows->relation, NoLock);
    FreeExecutorState(estate);
}

const char *
fleet_rows_name(const FleetRows *rows)
{
    return rows->table->name;
}

void
fleet_rows_written(void)
{
    CommandCounterIncrement();
    UpdateActiveSnapshotCommandId();
}

void
fleet_rows_settle(void)
{
    AfterTriggerFireDeferred();
}

/* ---- finding ---- */

static RegProcedure
comparison_of(Oid type, bool greater)
{
    switch (type)
    {
        case INT8OID: return greater ? F_INT8GT : F_INT8EQ;
        case INT4OID: return greater ? F_INT4GT : F_INT4EQ;
        case UUIDOID: return greater ? F_UUID_GT : F_UUID_EQ;
        case TEXTOID: return greater ? F_TEXT_GT : F_TEXTEQ;
        case OIDOID: return greater ? F_OIDGT : F_OIDEQ;
    }
    if (IsBinaryCoercible(type, OIDOID)) /* fleet_catalog.role */
        return greater ? F_OIDGT : F_OIDEQ;
    elog(ERROR, "an index of pg_fleet has a key of type %u", type);
    return InvalidOid;
}

static void
open_index(FleetRows *rows, int index)
{
    if (rows->indexes[index] == NULL)
        rows->indexes[index] =
            index_open(relation_oid(rows->table->indexes[index]), AccessShareLock);
}

static void
seek(FleetRows *rows, int index, const Datum *keys, int nkeys, bool after)
{
    ScanKeyData scan_keys[MAX_KEYS];
    TupleDesc desc;

    Assert(nkeys <= MAX_KEYS);
    open_index(rows, index);
    desc = RelationGetDescr(rows->indexes[index]);
    for (int i = 0; i < nkeys; i++)
    {
        bool greater = after && i == nkeys - 1;

        ScanKeyEntryInitialize(&scan_keys[i], 0, (AttrNumber) (i + 1),
                               greater ? BTGreaterStrategyNumber : BTEqualStrategyNumber,
                               InvalidOid, rows->indexes[index]->rd_indcollation[i],
                               comparison_of(TupleDescAttr(desc, i)->atttypid, greater), keys[i]);
    }
    if (rows->scans[index] == NULL)
    {
        MemoryContext before = MemoryContextSwitchTo(rows->estate->es_query_cxt);

        rows->scans[index] = fleet_index_beginscan(rows->relation, rows->indexes[index],
                                                   rows->estate->es_snapshot, nkeys);
        MemoryContextSwitchTo(before);
    }
    rows->scan = rows->scans[index];
    Assert(rows->scan->numberOfKeys == nkeys);
    index_rescan(rows->scan, scan_keys, nkeys, NULL, 0);
}

void
fleet_rows_seek(FleetRows *rows, int index, const Datum *keys, int nkeys)
{
    seek(rows, index, keys, nkeys, false);
}

void
fleet_rows_seek_after(FleetRows *rows, int index, const Datum *keys, int nkeys)
{
    seek(rows, index, keys, nkeys, true);
}

bool
fleet_rows_next(FleetRows *rows)
{
    return index_getnext_slot(rows->scan, ForwardScanDirection, rows->found);
}

bool
fleet_rows_find(FleetRows *rows, int index, const Datum *keys, int nkeys)
{
    seek(rows, index, keys, nkeys, false);
    return fleet_rows_next(rows);
}

/* VACUUM may have given the place to another row, VACUUM FULL have cut it off: only the keys tell. */
bool
fleet_rows_find_at(FleetRows *rows, ItemPointer place, int index, const Datum *keys, int nkeys)
{
    if (rows->blocks == 0)
        rows->blocks = RelationGetNumberOfBlocks(rows->relation);
    if (ItemPointerGetBlockNumber(place) >= rows->blocks ||
        !table_tuple_fetch_row_version(rows->relation, place, rows->estate->es_snapshot,
                                       rows->found))
        return false;
    open_index(rows, index);
    for (int i = 0; i < nkeys; i++)
    {
        bool isnull;
        Datum value =
            slot_getattr(rows->found, rows->indexes[index]->rd_index->indkey.values[i], &isnull);

        if (isnull || value != keys[i])
            return false;
    }
    return true;
}

bool
fleet_rows_lock(FleetRows *rows)
{
    TM_FailureData failure;
    ItemPointerData place = rows->found->tts_tid;

    return table_tuple_lock(rows->relation, &place, rows->estate->es_snapshot, rows->found,
                            GetCurrentCommandId(false), LockTupleNoKeyExclusive, LockWaitBlock,
                            TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure) == TM_Ok;
}

Datum
fleet_rows_get(FleetRows *rows, int column, bool *isnull)
{
    return slot_getattr(rows->found, rows->table->attnos[column], isnull);
}

int64
fleet_rows_int(FleetRows *rows, int column, int64 if_null)
{
    bool isnull;
    Datum value = fleet_rows_get(rows, column, &isnull);
    Form_pg_attribute attribute =
        TupleDescAttr(RelationGetDescr(rows->relation), rows->table->attnos[column] - 1);

    if (isnull)
        return if_null;
    Assert(attribute->attbyval);
    switch (attribute->attlen)
    {
        case sizeof(int16): return DatumGetInt16(value);
        case sizeof(int32): return DatumGetInt32(value);
    }
    return DatumGetInt64(value);
}

TransactionId
fleet_rows_writer(FleetRows *rows)
{
    bool isnull;

    return DatumGetTransactionId(
        slot_getsysattr(rows->found, MinTransactionIdAttributeNumber, &isnull));
}

ItemPointer
fleet_rows_place(FleetRows *rows)
{
    return &rows->found->tts_tid;
}

ItemPointer
fleet_rows_written_to(FleetRows *rows)
{
    return &rows->changed->tts_tid;
}

/* ---- writing ---- */

void
fleet_rows_create(FleetRows *rows)
{
    TupleTableSlot *slot = rows->changed;

    ExecClearTuple(slot);
    memset(slot->tts_isnull, true, (size_t) slot->tts_tupleDescriptor->natts);
}

void
fleet_rows_edit(FleetRows *rows)
{
    TupleTableSlot *slot = rows->changed;
    int natts = slot->tts_tupleDescriptor->natts;

    ExecClearTuple(slot);
    slot_getallattrs(rows->found);
    memcpy(slot->tts_values, rows->found->tts_values, sizeof(Datum) * (size_t) natts);
    memcpy(slot->tts_isnull, rows->found->tts_isnull, sizeof(bool) * (size_t) natts);
}

void
fleet_rows_set(FleetRows *rows, int column, Datum value)
{
    int i = rows->table->attnos[column] - 1;

    rows->changed->tts_values[i] = value;
    rows->changed->tts_isnull[i] = false;
}

void
fleet_rows_set_null(FleetRows *rows, int column)
{
    rows->changed->tts_isnull[rows->table->attnos[column] - 1] = true;
}

void
fleet_rows_insert(FleetRows *rows)
{
    ExecStoreVirtualTuple(rows->changed);
    ExecSimpleRelationInsert(rows->target, rows->estate, rows->changed);
    ResetPerTupleExprContext(rows->estate);
}

void
fleet_rows_update(FleetRows *rows)
{
    /* for a trigger before the update, which locks the row: it may be of this transaction */
    rows->estate->es_output_cid = GetCurrentCommandId(true);
    ExecStoreVirtualTuple(rows->changed);
    EvalPlanQualSetSlot(&rows->epq, rows->changed);
    ExecSimpleRelationUpdate(rows->target, rows->estate, &rows->epq, rows->found, rows->changed);
    ResetPerTupleExprContext(rows->estate);
}
