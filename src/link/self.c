/*
 * link/self.c
 *     Who the other side is: asked at login by direct sessions and by the side
 *     connection.
 *
 * In the agent's process.  No state.
 *
 * The crash mark: a server that recovers from a crash resets all its statistics,
 * and tells when.  The mark is the times of three kinds, in microseconds; if one
 * of them is the same, there was no crash, whoever resets the others
 * (link/side.c compares).
 */
#include "postgres.h"

#include "link/internal.h"

#include "port/pg_bswap.h"

void
fleet_self_ask(FleetConn *conn, FleetSelf *self)
{
    memset(self, 0, sizeof(*self));
    self->identity.version_num = PQserverVersion(conn->pg);
    fleet_text_copy(self->identity.version, sizeof(self->identity.version), conn->encoding,
                    PQparameterStatus(conn->pg, "server_version"));
    fleet_conn_send(conn, FLEET_TAG_SELF, FLEET_NO_SLOT,
                    "SELECT pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery()", 0, NULL,
                    true, false);
    fleet_conn_sync(conn);
    fleet_conn_send(
        conn, FLEET_TAG_MARKS, FLEET_NO_SLOT,
        "SELECT (SELECT pg_catalog.string_agg(" FLEET_MICROSECONDS(
            "t") "::pg_catalog.text, ' ')"
                 " FROM pg_catalog.unnest(ARRAY[archiver.stats_reset, wal.stats_reset,"
                 " pg_catalog.pg_stat_get_bgwriter_stat_reset_time()]) AS t), " FLEET_BACKEND_START
                 " FROM pg_catalog.pg_stat_get_archiver() AS archiver,"
                 " pg_catalog.pg_stat_get_wal() AS wal,"
                 " pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())",
        0, NULL, true, false);
    fleet_conn_sync(conn);
    fleet_conn_send(conn, FLEET_TAG_SYSTEM, FLEET_NO_SLOT,
                    "SELECT system_identifier FROM pg_catalog.pg_control_system()", 0, NULL, true,
                    false);
    fleet_conn_sync(conn);
    fleet_conn_send(conn, FLEET_TAG_TIMELINE, FLEET_NO_SLOT,
                    "SELECT pg_catalog.substr(pg_catalog.pg_walfile_name("
                    "pg_catalog.pg_current_wal_lsn()), 1, 8)",
                    0, NULL, true, false);
    fleet_conn_sync(conn);
}

static uint64
binary_int(const PGresult *result, int column)
{
    uint64 wide;
    uint32 narrow;

    if (PQgetisnull(result, 0, column))
        return 0;
    if (PQgetlength(result, 0, column) == 8)
    {
        memcpy(&wide, PQgetvalue(result, 0, column), 8);
        return pg_ntoh64(wide);
    }
    if (PQgetlength(result, 0, column) == 4)
    {
        memcpy(&narrow, PQgetvalue(result, 0, column), 4);
        return pg_ntoh32(narrow);
    }
    return 0;
}

/* True if the result was one of ours.  What may not be read there stays unknown. */
bool
fleet_self_result(FleetConn *conn, FleetSelf *self, const FleetExpect *expect,
                  const PGresult *result)
{
    bool rows = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;

    switch (expect->tag)
    {
        case FLEET_TAG_SELF:
            if (rows && PQnfields(result) == 2)
            {
                self->backend_pid = (int) binary_int(result, 0);
                self->in_recovery =
                    PQgetlength(result, 0, 1) == 1 && PQgetvalue(result, 0, 1)[0] != 0;
            }
            else
                self->backend_pid = PQbackendPID(conn->pg);
            self->pooled = self->backend_pid != PQbackendPID(conn->pg);
            return true;
        case FLEET_TAG_MARKS:
            if (rows && PQnfields(result) == 2)
            {
                const char *mark = PQgetvalue(result, 0, 0);

                if (mark[strspn(mark, "0123456789 -")] == '\0')
                    strlcpy(self->identity.crash_mark, mark, sizeof(self->identity.crash_mark));
                self->backend_start = (int64) binary_int(result, 1);
            }
            return true;
        case FLEET_TAG_SYSTEM:
            if (rows && PQnfields(result) == 1)
            {
                self->identity.system_identifier = binary_int(result, 0);
                self->identity.identifier_known = self->identity.system_identifier != 0;
            }
            return true;
        case FLEET_TAG_TIMELINE:
            if (rows && PQnfields(result) == 1)
                self->identity.timeline = (uint32) strtoul(PQgetvalue(result, 0, 0), NULL, 16);
            return true;
        case FLEET_TAG_PIN: return true;
    }
    return false;
}
