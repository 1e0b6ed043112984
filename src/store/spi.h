/*
 * store/spi.h
 *     What every file of catalog/ uses to speak with the tables: saved plans,
 *     and batches (one statement for many rows, its parameters are arrays).
 *     In the agent's process, inside its transaction.
 */
#ifndef FLEET_STORE_SPI_H
#define FLEET_STORE_SPI_H

#include "postgres.h"

#include "executor/spi.h"

#define FLEET_MAX_PARAMS 24

/* A statement of ours; the plan is made at first use and kept. */
typedef struct FleetStatement
{
    const char *sql;
    int nargs;
    Oid types[FLEET_MAX_PARAMS];
    SPIPlanPtr plan;
} FleetStatement;

/* Opens the agent's transaction if it is not open, with SPI connected and a fresh snapshot.
 * fleet_catalog_commit() is the only way to end it well. */
extern void fleet_catalog_begin(void);
extern bool fleet_catalog_is_open(void);
extern void fleet_catalog_commit(void);
/* What is to be written with each commit, whatever the transaction was begun for; what is to be forgotten
 * when one is undone. */
extern void fleet_catalog_at_end(void (*before_commit)(void), void (*aborted)(void));
/* After an ERROR: whatever is open is undone, and a new one can begin. */
extern void fleet_catalog_abort(void);

/* Executes with a snapshot that sees this transaction's own writes; returns SPI_processed;
 * rows are in SPI_tuptable, whole: nothing in them needs a snapshot any more.  nulls as SPI wants
 * it, or NULL. */
extern uint64 fleet_statement_run(FleetStatement *statement, Datum *values, const char *nulls);

/* The first column of its first row, palloc'd in the current context; NULL: it is null, or there is none. */
extern char *fleet_statement_text(FleetStatement *statement, Datum *values);

/* ---- batches ---- */

typedef struct FleetBatch
{
    FleetStatement *statement; /* parameter n is an array of column n */
    int ncolumns;
    const Oid *columns; /* element types */
    int count;
    int capacity;
    Datum *values; /* row by row */
    bool *nulls;
    MemoryContext context; /* of the values; reset by run */
} FleetBatch;

extern void fleet_batch_init(FleetBatch *batch, FleetStatement *statement, int ncolumns,
                             const Oid *columns, MemoryContext parent);
/* By-reference values must live until run: make them in batch->context. */
extern void fleet_batch_add(FleetBatch *batch, const Datum *values, const bool *nulls);
/* Executes (nothing if empty) and empties.  Returns SPI_processed. */
extern uint64 fleet_batch_run(FleetBatch *batch);
/* Forgets all rows. */
extern void fleet_batch_clear(FleetBatch *batch);

/* Text Datum in this batch's context; *isnull for NULL. */
extern Datum fleet_batch_text(FleetBatch *batch, const char *text, bool *isnull);

/* ---- reading rows ---- */

typedef struct FleetNames
{
    char **names;
    int n;
} FleetNames;

extern int64 fleet_column_int(HeapTuple tuple, TupleDesc desc, int column, int64 if_null);
extern double fleet_column_double(HeapTuple tuple, TupleDesc desc, int column);
extern bool fleet_column_bool(HeapTuple tuple, TupleDesc desc, int column);
/* palloc'd in the given context; NULL for null.  Any type, by its output function. */
extern char *fleet_column_text(HeapTuple tuple, TupleDesc desc, int column, MemoryContext context);
/* Of type text[], without its nulls; none for null. */
extern void fleet_column_names(HeapTuple tuple, TupleDesc desc, int column, MemoryContext context,
                               FleetNames *names);
extern bool fleet_names_have(const FleetNames *names, const char *name);

#endif
