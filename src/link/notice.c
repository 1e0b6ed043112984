/*
 * link/notice.c
 *     What a server says besides its answers: notices, kept until libpq is left
 *     again, and its last words.
 *
 * In the agent's process; called by conn.c, and by libpq itself.
 */
#include "postgres.h"

#include "link/internal.h"
#include "mb/pg_wchar.h"

/* A session that is being ended says so; the reason is worth more than "connection lost".  It may
 * be inside libpq: nothing is converted here. */
bool
fleet_conn_said_farewell(FleetConn *conn, const PGresult *result)
{
    FleetDiagnostics diag = fleet_text_diagnostics(result);
    size_t length;

    if (diag.level == NULL ||
        (strcmp(diag.level, "FATAL") != 0 && strcmp(diag.level, "PANIC") != 0))
        return false;
    strlcpy(conn->farewell_sqlstate,
            diag.sqlstate == NULL ? FLEET_SQLSTATE_CONNECTION_FAILURE
                                  : fleet_text_sqlstate(diag.sqlstate),
            sizeof(conn->farewell_sqlstate));
    length = diag.message == NULL ? 0 : strlen(diag.message);
    if (length >= sizeof(conn->farewell))
        length = (size_t) pg_encoding_mbcliplen(fleet_conn_encoding(conn, false), diag.message,
                                                (int) length, sizeof(conn->farewell) - 1);
    memcpy(conn->farewell, length == 0 ? "" : diag.message, length);
    conn->farewell[length] = '\0';
    return true;
}

/* Inside libpq: may neither throw nor call the agent, so only keeps a copy. */
void
fleet_conn_notice_receiver(void *arg, const PGresult *result)
{
    FleetConn *conn = arg;
    FleetNotice *notice;
    FleetDiagnostics diag = fleet_text_diagnostics(result);

    conn->swollen |= PQresultMemorySize(result) > FLEET_SWOLLEN;
    if (diag.level == NULL || diag.message == NULL)
        return;
    if (fleet_conn_said_farewell(conn, result))
        return;
    if (conn->wants_notice == NULL || !conn->wants_notice(conn))
        return;
    notice = malloc(sizeof(*notice) + fleet_diagnostics_size(&diag));
    if (notice == NULL)
        return;
    notice->next = NULL;
    fleet_diagnostics_place(&notice->diag, &diag, (char *) (notice + 1));
    *conn->notices_tail = notice;
    conn->notices_tail = &notice->next;
}

void
fleet_conn_deliver_notices(FleetConn *conn)
{
    while (conn->notices != NULL)
    {
        FleetNotice *notice = conn->notices;
        const FleetExpect *head = conn->count > 0 ? &conn->ring[conn->head] : NULL;

        if (conn->methods->notice != NULL && !conn->methods->notice(conn, head, notice))
            return;
        conn->notices = notice->next;
        if (conn->notices == NULL)
            conn->notices_tail = &conn->notices;
        free(notice);
    }
}

void
fleet_conn_drop_notices(FleetConn *conn)
{
    while (conn->notices != NULL)
    {
        FleetNotice *next = conn->notices->next;

        free(conn->notices);
        conn->notices = next;
    }
    conn->notices_tail = &conn->notices;
}
