/*
 * store/quarantine.c
 *     Rows of fleet_catalog.quarantine (store/quarantine.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "store/quarantine.h"
#include "store/spi.h"
#include "utils/builtins.h"

static FleetStatement add_statement = {
    "INSERT INTO fleet_catalog.quarantine AS q (kind, id, work, sqlstate, message)"
    " VALUES ($1, $2, $3, $4, $5)"
    " ON CONFLICT (kind, id) DO UPDATE SET"
    "   ends = CASE WHEN q.last_at OPERATOR(pg_catalog.<)"
    "     (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval)"
    "     THEN 1 ELSE q.ends OPERATOR(pg_catalog.+) 1 END,"
    "   first_at = CASE WHEN q.last_at OPERATOR(pg_catalog.<)"
    "     (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval)"
    "     THEN excluded.first_at ELSE q.first_at END,"
    "   work = excluded.work, sqlstate = excluded.sqlstate, message = excluded.message,"
    "   last_at = excluded.last_at RETURNING q.ends",
    5,
    {TEXTOID, INT8OID, TEXTOID, TEXTOID, TEXTOID},
    NULL};

static FleetStatement tidy_statement = {
    "DELETE FROM fleet_catalog.quarantine AS q WHERE q.last_at OPERATOR(pg_catalog.<)"
    " (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 day'::pg_catalog.interval)",
    0,
    {0},
    NULL};

static FleetStatement lift_statement = {
    "WITH l AS (DELETE FROM fleet_catalog.quarantine_lift AS d RETURNING d.kind, d.id)"
    "DELETE FROM fleet_catalog.quarantine AS q USING l"
    " WHERE q.kind OPERATOR(pg_catalog.=) l.kind AND q.id OPERATOR(pg_catalog.=) l.id",
    0,
    {0},
    NULL};

/* Those that count, then the runs and job runs that have started them. */
static FleetStatement read_statement = {
    "WITH RECURSIVE counted AS ("
    "  SELECT q.kind, q.id, q.ends, q.sqlstate, q.message, q.last_at"
    "    FROM fleet_catalog.quarantine AS q"
    "   WHERE q.last_at OPERATOR(pg_catalog.>=)"
    "     (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 hour'::pg_catalog.interval)),"
    " above AS ("
    "  SELECT r.parent_run_id, r.parent_job_run_id FROM counted AS c, fleet_catalog.run AS r"
    "   WHERE c.kind OPERATOR(pg_catalog.=) 'run' AND r.run_id OPERATOR(pg_catalog.=) c.id"
    "  UNION"
    "  SELECT r.parent_run_id, r.parent_job_run_id FROM above AS a, fleet_catalog.run AS r"
    "   WHERE r.run_id OPERATOR(pg_catalog.=) a.parent_run_id)"
    " SELECT c.kind, c.id, c.ends, c.sqlstate, c.message, c.last_at FROM counted AS c"
    " UNION ALL SELECT 'run', a.parent_run_id, 0, '', '', NULL FROM above AS a"
    "   WHERE a.parent_run_id IS NOT NULL"
    " UNION ALL SELECT 'job run', a.parent_job_run_id, 0, '', '', NULL FROM above AS a"
    "   WHERE a.parent_job_run_id IS NOT NULL"
    " ORDER BY 3 DESC",
    0,
    {0},
    NULL};

int
fleet_quarantine_add(const FleetHand *hand, const FleetDiagnostics *diag)
{
    Datum values[] = {CStringGetTextDatum(fleet_hand_kind_name(hand->kind)),
                      Int64GetDatum(hand->id), CStringGetTextDatum(hand->work),
                      CStringGetTextDatum(diag->sqlstate), CStringGetTextDatum(diag->message)};

    int ends;

    (void) fleet_statement_run(&add_statement, values, NULL);
    ends = (int) fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    SPI_freetuptable(SPI_tuptable);
    return ends;
}

static FleetHandKind
kind_of(const char *name)
{
    for (FleetHandKind kind = FLEET_HAND_RUN; kind <= FLEET_HAND_DEPLOYMENT; kind++)
    {
        if (strcmp(fleet_hand_kind_name(kind), name) == 0)
            return kind;
    }
    return FLEET_HAND_NOTHING;
}

int
fleet_quarantine_read(FleetQuarantineRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    SPITupleTable *table;
    int count;

    (void) fleet_statement_run(&tidy_statement, NULL, NULL);
    (void) fleet_statement_run(&lift_statement, NULL, NULL);
    count = (int) fleet_statement_run(&read_statement, NULL, NULL);
    table = SPI_tuptable;
    *rows = MemoryContextAllocZero(context, sizeof(FleetQuarantineRow) * (Size) Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetQuarantineRow *row = &(*rows)[i];

        row->kind = kind_of(fleet_column_text(tuple, table->tupdesc, 1, context));
        row->id = fleet_column_int(tuple, table->tupdesc, 2, 0);
        row->ends = (int) fleet_column_int(tuple, table->tupdesc, 3, 0);
        row->last_at = fleet_column_int(tuple, table->tupdesc, 6, 0);
        row->diag.level = "ERROR";
        row->diag.sqlstate = fleet_column_text(tuple, table->tupdesc, 4, context);
        row->diag.message = fleet_column_text(tuple, table->tupdesc, 5, context);
    }
    SPI_freetuptable(table);
    return count;
}
