/*
 * store/identity.c
 *     The identity of this parent, and the row of its agent.
 */
#include "postgres.h"

#include "access/xact.h"
#include "store/identity.h"
#include "catalog/pg_type.h"
#include "core/exec.h"
#include "store/spi.h"
#include "store/run_write.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Nobody else inserts it.  Sessions change it only while it is paused, and what follows leaves it alone then: so this
 * waits for no session. */
static FleetStatement identity_make_statement = {
    "INSERT INTO fleet_catalog.identity (system_identifier, database) SELECT $1, $2"
    " WHERE NOT EXISTS (SELECT FROM fleet_catalog.identity)",
    2,
    {INT8OID, OIDOID},
    NULL};

/* A copy says so itself: another cluster or another database than where the uuid was made. */
static FleetStatement identity_check_statement = {
    "UPDATE fleet_catalog.identity AS i"
    "   SET paused_reason = 'This database is a copy: its parent identity was made in '"
    "       OPERATOR(pg_catalog.||) 'another cluster or database. Nothing is started until '"
    "       OPERATOR(pg_catalog.||) 'SELECT fleet.confirm_identity(''same'') (the original is "
    "gone) '"
    "       OPERATOR(pg_catalog.||) 'or (''new'') (both live on) says which of the two it is.'"
    " WHERE i.paused_reason IS NULL"
    "   AND (i.system_identifier OPERATOR(pg_catalog.<>) $1"
    "        OR i.database OPERATOR(pg_catalog.<>) $2)",
    2,
    {INT8OID, OIDOID},
    NULL};

static FleetStatement identity_read_statement = {
    "SELECT i.parent_uuid, i.paused_reason, i.epoch_base, i.secret FROM fleet_catalog.identity AS "
    "i",
    0,
    {0},
    NULL};

/* A restored dump has no row of the agent. */
static FleetStatement agent_start_statement = {
    "INSERT INTO fleet_catalog.agent AS a (pid, shared, starts, started_at)"
    " VALUES ($1, $2, 1, pg_catalog.now())"
    " ON CONFLICT (only_row) DO UPDATE"
    "   SET pid = $1, shared = $2, starts = a.starts OPERATOR(pg_catalog.+) 1,"
    "       started_at = pg_catalog.now()"
    " RETURNING starts",
    2,
    {INT4OID, INT8OID},
    NULL};

static FleetStatement agent_epoch_statement = {
    "UPDATE fleet_catalog.agent SET epoch = $1", 1, {INT8OID}, NULL};

/* Not while paused: a copy that takes the original's place must still find the original's last one. */
static FleetStatement identity_epoch_statement = {
    "UPDATE fleet_catalog.identity AS i SET last_epoch = $1"
    " WHERE i.paused_reason IS NULL AND i.last_epoch OPERATOR(pg_catalog.<) $1",
    1,
    {INT8OID},
    NULL};

static FleetStatement agent_error_statement = {
    "UPDATE fleet_catalog.agent SET last_sqlstate = $1, last_error = $2, last_error_at = $3",
    3,
    {TEXTOID, TEXTOID, TIMESTAMPTZOID},
    NULL};

static uint64
start_agent(int pid, uint32 shared, uint32 timeline)
{
    Datum agent[] = {Int32GetDatum(pid), Int64GetDatum((int64) shared)};
    Datum epoch;
    uint32 starts, base;

    (void) fleet_statement_run(&agent_start_statement, agent, NULL);
    starts = (uint32) fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    if (fleet_statement_run(&identity_read_statement, NULL, NULL) != 1)
        elog(ERROR, "the identity of this parent is missing");
    /* timelines of the cluster where the identity was before count as earlier ones */
    base = (uint32) (fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3, 0) >> 32);
    epoch = Int64GetDatum((int64) fleet_epoch(base + timeline, starts));
    (void) fleet_statement_run(&agent_epoch_statement, &epoch, NULL);
    (void) fleet_statement_run(&identity_epoch_statement, &epoch, NULL);
    return (uint64) DatumGetInt64(epoch);
}

void
fleet_identity_open(int pid, uint32 shared, uint32 timeline, uint64 system_identifier, Oid database,
                    FleetIdentityRow *row)
{
    MemoryContext context = CurrentMemoryContext;
    Datum where[] = {Int64GetDatum((int64) system_identifier), ObjectIdGetDatum(database)};
    char *uuid, *secret;

    (void) fleet_statement_run(&identity_make_statement, where, NULL);
    (void) fleet_statement_run(&identity_check_statement, where, NULL);
    row->epoch = start_agent(pid, shared, timeline);
    if (fleet_statement_run(&identity_read_statement, NULL, NULL) != 1)
        elog(ERROR, "the identity of this parent is missing");
    uuid = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
    strlcpy(row->uuid, uuid, sizeof(row->uuid));
    secret = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4, context);
    strlcpy(row->secret, secret, sizeof(row->secret));
    row->paused = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, context);
}

void
fleet_agent_error_store(const char *sqlstate, const char *message, TimestampTz at)
{
    Datum values[] = {CStringGetTextDatum(sqlstate), CStringGetTextDatum(message),
                      TimestampTzGetDatum(at)};

    (void) fleet_statement_run(&agent_error_statement, values, NULL);
}

char *
fleet_identity_paused(void)
{
    MemoryContext context = CurrentMemoryContext;

    if (fleet_statement_run(&identity_read_statement, NULL, NULL) != 1)
        return NULL;
    return fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, context);
}

static FleetStatement version_statement = {"SELECT e.extversion FROM pg_catalog.pg_extension AS e"
                                           " WHERE e.extname OPERATOR(pg_catalog.=) 'pg_fleet'",
                                           0,
                                           {0},
                                           NULL};

char *
fleet_extension_version(void)
{
    MemoryContext context = CurrentMemoryContext;

    if (fleet_statement_run(&version_statement, NULL, NULL) != 1)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no extension pg_fleet")));
    return fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
}

static FleetStatement run_uuid_statement = {
    "SELECT fleet_catalog.uuid_of_key(r.package, r.run_key) FROM fleet_catalog.run AS r"
    " WHERE r.run_id OPERATOR(pg_catalog.=) $1",
    1,
    {INT8OID},
    NULL};

char *
fleet_identity_run_uuid(int64 run_id)
{
    MemoryContext context = CurrentMemoryContext;
    Datum key = Int64GetDatum(run_id);
    char *uuid = NULL;

    if (fleet_statement_run(&run_uuid_statement, &key, NULL) == 1)
        uuid = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
    SPI_freetuptable(SPI_tuptable);
    if (uuid == NULL)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("run " INT64_FORMAT " has neither a uuid nor a key", run_id)));
    fleet_run_write_uuid(run_id, uuid);
    return uuid;
}
