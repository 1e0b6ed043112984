/*
 * store/rows.h
 *     Rows by key, without a statement: found through a named index, inserted
 *     and changed with the executor's functions for single rows (those of
 *     logical replication's apply worker), which maintain indexes and apply NOT
 *     NULL, CHECK, triggers and publications.  In the agent, and in sessions of
 *     links; inside a transaction with an active snapshot.
 *
 * Everything else in store/ is SPI.  This is for what is done for every child:
 * starting an executor for one row costs several times as much as the row, and
 * a plan that was made while a table was small reads the whole of it when it is
 * large.
 *
 *     open → find (or seek, next …) → get → edit, set …, update → … → close
 *                                     create, set …, insert
 */
#ifndef FLEET_STORE_ROWS_H
#define FLEET_STORE_ROWS_H

#include "postgres.h"

#include "access/attnum.h"
#include "storage/itemptr.h"

#define FLEET_MAX_COLUMNS 32
#define FLEET_MAX_INDEXES 2

/* A table of fleet_catalog: columns and indexes by name, in the order of the caller's enums. */
typedef struct FleetTable
{
    const char *name;
    int ncolumns;
    const char *columns[FLEET_MAX_COLUMNS];
    const char *indexes[FLEET_MAX_INDEXES];
    /* found in the catalog; good as long as the table has this oid */
    Oid relid;
    AttrNumber attnos[FLEET_MAX_COLUMNS];
} FleetTable;

typedef struct FleetRows FleetRows;

/* A table in this transaction.  Write to one table at a time. */
extern FleetRows *fleet_rows_open(FleetTable *table, bool for_write);
extern void fleet_rows_close(FleetRows *rows);
extern const char *fleet_rows_name(const FleetRows *rows); /* of the table */

/* After writes: what was written is seen by the next find of any FleetRows. */
extern void fleet_rows_written(void);
/* Deferred triggers of what has been written in this transaction fire now, not at its commit. */
extern void fleet_rows_settle(void);

/* Rows whose first columns of that index equal the keys; in the index's order. */
extern void fleet_rows_seek(FleetRows *rows, int index, const Datum *keys, int nkeys);
/* The same, but the last key is exceeded. */
extern void fleet_rows_seek_after(FleetRows *rows, int index, const Datum *keys, int nkeys);
extern bool fleet_rows_next(FleetRows *rows);
/* seek and next: the only row with these keys. */
extern bool fleet_rows_find(FleetRows *rows, int index, const Datum *keys, int nkeys);
/* The same, if that row is where it was last seen (fleet_rows_written_to()); else false, and find()
 * knows.  The keys must be integers. */
extern bool fleet_rows_find_at(FleetRows *rows, ItemPointer place, int index, const Datum *keys,
                               int nkeys);

/* Locks the row that was found, in its newest version; false: it was removed.  For rows that more
 * than one session may change. */
extern bool fleet_rows_lock(FleetRows *rows);

/* Of the row that was found; good until the next find or close. */
extern Datum fleet_rows_get(FleetRows *rows, int column, bool *isnull);
extern int64 fleet_rows_int(FleetRows *rows, int column, int64 if_null);
/* xmin and ctid of the row that was found; ctid of the one that was inserted or updated last. */
extern TransactionId fleet_rows_writer(FleetRows *rows);
extern ItemPointer fleet_rows_place(FleetRows *rows);
extern ItemPointer fleet_rows_written_to(FleetRows *rows);

/* A new row, all null; a copy of the row that was found. */
extern void fleet_rows_create(FleetRows *rows);
extern void fleet_rows_edit(FleetRows *rows);
/* Values by reference must live until insert or update. */
extern void fleet_rows_set(FleetRows *rows, int column, Datum value);
extern void fleet_rows_set_null(FleetRows *rows, int column);
extern void fleet_rows_insert(FleetRows *rows);
extern void fleet_rows_update(FleetRows *rows);

#endif
