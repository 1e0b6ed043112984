/*
 * store/commits.c
 *     Rows of fleet_catalog.commits_itself (store/commits.h).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "store/commits.h"
#include "store/spi.h"

static FleetStatement read_statement = {
    "SELECT c.server_id, c.command_hash FROM fleet_catalog.commits_itself AS c"
    " ORDER BY c.found_at DESC LIMIT $1",
    1,
    {INT8OID},
    NULL};

static FleetStatement write_statement = {
    "INSERT INTO fleet_catalog.commits_itself (server_id, command_hash) VALUES ($1, $2)"
    " ON CONFLICT (server_id, command_hash) DO UPDATE SET found_at = excluded.found_at",
    2,
    {INT4OID, INT8OID},
    NULL};

static FleetStatement tidy_statement = {
    "DELETE FROM fleet_catalog.commits_itself AS c WHERE c.found_at OPERATOR(pg_catalog.<)"
    " (SELECT k.found_at FROM fleet_catalog.commits_itself AS k"
    "   ORDER BY k.found_at DESC OFFSET $1 LIMIT 1)",
    1,
    {INT8OID},
    NULL};

uint64
fleet_command_hash(const char *command)
{
    return hash_bytes_extended((const unsigned char *) command, (int) strlen(command), 0);
}

int
fleet_commits_read_rows(FleetCommitsRow **rows)
{
    Datum limit = Int64GetDatum(FLEET_COMMITS_KEPT);
    MemoryContext context = CurrentMemoryContext;
    int n;

    fleet_catalog_begin();
    n = (int) fleet_statement_run(&read_statement, &limit, NULL);
    *rows = MemoryContextAlloc(context, sizeof(FleetCommitsRow) * Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        HeapTuple tuple = SPI_tuptable->vals[i];
        TupleDesc desc = SPI_tuptable->tupdesc;

        (*rows)[i].server_id = fleet_column_int(tuple, desc, 1, 0);
        (*rows)[i].command_hash = (uint64) fleet_column_int(tuple, desc, 2, 0);
    }
    SPI_freetuptable(SPI_tuptable);
    return n;
}

void
fleet_commits_write(const FleetCommitsRow *row)
{
    Datum values[] = {Int32GetDatum((int32) row->server_id),
                      Int64GetDatum((int64) row->command_hash)};

    (void) fleet_statement_run(&write_statement, values, NULL);
}

void
fleet_commits_tidy(void)
{
    Datum kept = Int64GetDatum(FLEET_COMMITS_KEPT - 1);

    (void) fleet_statement_run(&tidy_statement, &kept, NULL);
}
