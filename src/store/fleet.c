/*
 * store/fleet.c
 *     The agent's own row and identity, servers, learned durations,
 *     deployments.
 */
#include "postgres.h"

#include "store/fleet.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* ---- identity ---- */

static FleetStatement identity_make_statement = {
    "INSERT INTO fleet_catalog.identity (system_identifier, database) VALUES ($1, $2)"
    " ON CONFLICT DO NOTHING",
    2,
    {INT8OID, OIDOID},
    NULL};

/* A copy says so itself: another cluster or another database than where the uuid was made. */
static FleetStatement identity_check_statement = {
    "UPDATE fleet_catalog.identity AS i"
    "   SET paused_reason = 'This database is a copy: its parent identity was made in '"
    "       OPERATOR(pg_catalog.||) 'another cluster or database. Nothing is started until '"
    "       OPERATOR(pg_catalog.||) 'SELECT fleet.confirm_identity(''same'') (the original is gone) '"
    "       OPERATOR(pg_catalog.||) 'or (''new'') (both live on) says which of the two it is.'"
    " WHERE i.paused_reason IS NULL"
    "   AND (i.system_identifier OPERATOR(pg_catalog.<>) $1"
    "        OR i.database OPERATOR(pg_catalog.<>) $2)",
    2,
    {INT8OID, OIDOID},
    NULL};

static FleetStatement identity_read_statement = {
    "SELECT i.parent_uuid, i.paused_reason FROM fleet_catalog.identity AS i", 0, {0}, NULL};

/* starts: low half of the epoch.  A restored dump has no row of the agent. */
static FleetStatement agent_statement = {
    "INSERT INTO fleet_catalog.agent AS a (pid, shared, starts, epoch, started_at)"
    " VALUES ($1, $2, 1, $3 OPERATOR(pg_catalog.+) 1 OPERATOR(pg_catalog.+)"
    "         (SELECT i.epoch_base FROM fleet_catalog.identity AS i), pg_catalog.now())"
    " ON CONFLICT (only_row) DO UPDATE"
    "   SET pid = $1, shared = $2, starts = a.starts OPERATOR(pg_catalog.+) 1,"
    "       epoch = $3 OPERATOR(pg_catalog.+) a.starts OPERATOR(pg_catalog.+) 1"
    "         OPERATOR(pg_catalog.+) (SELECT i.epoch_base FROM fleet_catalog.identity AS i),"
    "       started_at = pg_catalog.now()"
    " RETURNING epoch",
    3,
    {INT4OID, INT8OID, INT8OID},
    NULL};

/* Not while paused: a copy must still find the original's last one when it is told that it is it. */
static FleetStatement identity_epoch_statement = {
    "UPDATE fleet_catalog.identity AS i SET last_epoch = $1"
    " WHERE i.paused_reason IS NULL AND i.last_epoch OPERATOR(pg_catalog.<) $1",
    1,
    {INT8OID},
    NULL};

void
fleet_identity_open(int pid, uint32 shared, uint32 timeline, uint64 system_identifier, Oid database,
                    FleetIdentityRow *row)
{
    MemoryContext context = CurrentMemoryContext;
    Datum who[] = {Int64GetDatum((int64) system_identifier), ObjectIdGetDatum(database)};
    Datum agent[] = {Int32GetDatum(pid), Int64GetDatum((int64) shared),
                     Int64GetDatum((int64) timeline << 32)};
    char *uuid;

    (void) fleet_statement_run(&identity_make_statement, who, NULL);
    (void) fleet_statement_run(&identity_check_statement, who, NULL);
    (void) fleet_statement_run(&agent_statement, agent, NULL);
    row->epoch = (uint64) fleet_column_int(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, 0);
    who[0] = Int64GetDatum((int64) row->epoch);
    (void) fleet_statement_run(&identity_epoch_statement, who, NULL);
    if (fleet_statement_run(&identity_read_statement, NULL, NULL) != 1)
        elog(ERROR, "the identity of this parent is missing");
    uuid = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, context);
    strlcpy(row->uuid, uuid, sizeof(row->uuid));
    row->paused = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, context);
}

char *
fleet_identity_paused(void)
{
    MemoryContext context = CurrentMemoryContext;

    if (fleet_statement_run(&identity_read_statement, NULL, NULL) != 1)
        return NULL;
    return fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, context);
}

/* ---- servers ---- */

static FleetStatement servers_statement = {
    "SELECT s.server_id, s.name, s.mode OPERATOR(pg_catalog.=) 'agent', s.state, s.slots, s.weight,"
    "       s.groups, COALESCE(h.speed_log, 0), COALESCE(h.speed_samples, 0)"
    "  FROM fleet_catalog.server AS s"
    "  LEFT JOIN fleet_catalog.server_health AS h"
    "    ON h.server_id OPERATOR(pg_catalog.=) s.server_id"
    " ORDER BY s.server_id",
    0,
    {0},
    NULL};

static void
read_groups(HeapTuple tuple, TupleDesc desc, FleetServerRow *row, MemoryContext context)
{
    bool isnull;
    Datum value = SPI_getbinval(tuple, desc, 7, &isnull);
    Datum *elements;
    bool *nulls;
    int n;

    deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements,
                      &nulls, &n);
    row->groups = MemoryContextAllocZero(context, sizeof(char *) * Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        if (!nulls[i])
            row->groups[row->ngroups++] =
                MemoryContextStrdup(context, TextDatumGetCString(elements[i]));
    }
}

int
fleet_server_read(FleetServerRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&servers_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;
    TupleDesc desc = table->tupdesc;

    *rows = MemoryContextAllocZero(context, sizeof(FleetServerRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetServerRow *row = &(*rows)[i];

        row->server_id = (int) fleet_column_int(tuple, desc, 1, 0);
        row->name = fleet_column_text(tuple, desc, 2, context);
        row->agent_mode = fleet_column_bool(tuple, desc, 3);
        row->state = fleet_column_text(tuple, desc, 4, context);
        row->slots = (int) fleet_column_int(tuple, desc, 5, 0);
        row->weight = fleet_column_double(tuple, desc, 6);
        read_groups(tuple, desc, row, context);
        row->speed.log_speed = fleet_column_double(tuple, desc, 8);
        row->speed.samples = (uint32) fleet_column_int(tuple, desc, 9, 0);
    }
    SPI_freetuptable(table);
    return count;
}

static FleetStatement health_statement = {
    "INSERT INTO fleet_catalog.server_health AS h (server_id, status, last_error, last_error_at,"
    "   version, last_seen, system_identifier, timeline, crash_mark)"
    "SELECT s.server_id, $2, $3, CASE WHEN $3 IS NOT NULL THEN pg_catalog.now() END, $4,"
    "       CASE WHEN $5 THEN pg_catalog.now() END, $6, $7, $8"
    "  FROM fleet_catalog.server AS s WHERE s.server_id OPERATOR(pg_catalog.=) $1"
    " ON CONFLICT (server_id) DO UPDATE"
    "   SET status = excluded.status, last_error = COALESCE(excluded.last_error, h.last_error),"
    "       last_error_at = COALESCE(excluded.last_error_at, h.last_error_at),"
    "       version = COALESCE(excluded.version, h.version),"
    "       last_seen = COALESCE(excluded.last_seen, h.last_seen),"
    "       system_identifier = COALESCE(excluded.system_identifier, h.system_identifier),"
    "       timeline = COALESCE(excluded.timeline, h.timeline),"
    "       crash_mark = COALESCE(excluded.crash_mark, h.crash_mark)",
    8,
    {INT4OID, TEXTOID, TEXTOID, TEXTOID, BOOLOID, INT8OID, INT4OID, INT8OID},
    NULL};

void
fleet_health_write(const FleetHealthWrite *w)
{
    Datum values[8];
    char nulls[] = "        ";

    values[0] = Int32GetDatum(w->server_id);
    values[1] = CStringGetTextDatum(w->status);
    values[2] = w->error != NULL ? CStringGetTextDatum(w->error) : (Datum) 0;
    values[3] = w->version != NULL ? CStringGetTextDatum(w->version) : (Datum) 0;
    values[4] = BoolGetDatum(w->seen);
    values[5] = Int64GetDatum((int64) w->system_identifier);
    values[6] = Int32GetDatum((int32) w->timeline);
    if (w->error == NULL)
        nulls[2] = 'n';
    if (w->version == NULL)
        nulls[3] = 'n';
    if (!w->identifier_known)
        nulls[5] = 'n';
    if (w->timeline == 0)
        nulls[6] = 'n';
    values[7] = Int64GetDatum(w->crash_mark);
    if (w->crash_mark == 0)
        nulls[7] = 'n';
    (void) fleet_statement_run(&health_statement, values, nulls);
}

static FleetStatement speed_statement = {
    "INSERT INTO fleet_catalog.server_health AS h (server_id, speed_log, speed_samples)"
    "SELECT s.server_id, $2, $3 FROM fleet_catalog.server AS s"
    " WHERE s.server_id OPERATOR(pg_catalog.=) $1"
    " ON CONFLICT (server_id) DO UPDATE"
    "   SET speed_log = excluded.speed_log, speed_samples = excluded.speed_samples",
    3,
    {INT4OID, FLOAT8OID, INT4OID},
    NULL};

void
fleet_speed_write(int server_id, const FleetSpeed *speed)
{
    Datum values[] = {Int32GetDatum(server_id), Float8GetDatum(speed->log_speed),
                      Int32GetDatum((int32) speed->samples)};

    (void) fleet_statement_run(&speed_statement, values, NULL);
}

/* ---- durations ---- */

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
    "       samples = excluded.samples",
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

/* ---- deployments ---- */

static FleetStatement deployments_statement = {
    "SELECT d.server_id, d.job, d.owner, d.document FROM fleet_catalog.deployment AS d"
    " WHERE d.state OPERATOR(pg_catalog.=) 'queued'",
    0,
    {0},
    NULL};

int
fleet_deployment_read_queued(FleetDeploymentRow **rows)
{
    MemoryContext context = CurrentMemoryContext;
    int count = (int) fleet_statement_run(&deployments_statement, NULL, NULL);
    SPITupleTable *table = SPI_tuptable;

    *rows = MemoryContextAllocZero(context, sizeof(FleetDeploymentRow) * Max(count, 1));
    for (int i = 0; i < count; i++)
    {
        HeapTuple tuple = table->vals[i];
        FleetDeploymentRow *row = &(*rows)[i];

        row->server_id = (int) fleet_column_int(tuple, table->tupdesc, 1, 0);
        row->job = fleet_column_text(tuple, table->tupdesc, 2, context);
        row->owner = (Oid) fleet_column_int(tuple, table->tupdesc, 3, InvalidOid);
        row->document = fleet_column_text(tuple, table->tupdesc, 4, context);
    }
    SPI_freetuptable(table);
    return count;
}

static FleetStatement deployment_statement = {
    "UPDATE fleet_catalog.deployment AS d"
    "   SET state = CASE WHEN $3 THEN 'deployed' ELSE 'failed' END, message = $4,"
    "       deployed_at = CASE WHEN $3 THEN pg_catalog.now() ELSE d.deployed_at END"
    " WHERE d.server_id OPERATOR(pg_catalog.=) $1 AND d.job OPERATOR(pg_catalog.=) $2"
    "   AND d.state OPERATOR(pg_catalog.=) 'queued'",
    4,
    {INT4OID, TEXTOID, BOOLOID, TEXTOID},
    NULL};

void
fleet_deployment_write(int server_id, const char *job, bool ok, const char *message)
{
    Datum values[4];
    char nulls[] = "    ";

    values[0] = Int32GetDatum(server_id);
    values[1] = CStringGetTextDatum(job);
    values[2] = BoolGetDatum(ok);
    values[3] = message != NULL ? CStringGetTextDatum(message) : (Datum) 0;
    if (message == NULL)
        nulls[3] = 'n';
    (void) fleet_statement_run(&deployment_statement, values, nulls);
}
