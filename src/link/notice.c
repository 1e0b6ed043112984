/*
 * link/notice.c
 *     What a server says besides its answers: notices, kept until libpq is left
 *     again, and its last words.
 *
 * In the agent's process; called by conn.c, and by libpq itself.
 */
#include "postgres.h"

#include "link/internal.h"

static char *
notice_field(char **at, const PGresult *result, int code)
{
    const char *s = PQresultErrorField(result, code);
    char *copy = *at;
    size_t length;

    if (s == NULL)
        return NULL;
    length = Min(strlen(s), (size_t) FLEET_MESSAGE_MAX);
    memcpy(copy, s, length);
    copy[length] = '\0';
    *at += length + 1;
    return copy;
}

static size_t
notice_size(const PGresult *result, int code)
{
    const char *s = PQresultErrorField(result, code);

    return s == NULL ? 0 : Min(strlen(s), (size_t) FLEET_MESSAGE_MAX) + 1;
}

/* A session that is being ended says so; the reason is worth more than "connection lost". */
bool
fleet_conn_said_farewell(FleetConn *conn, const PGresult *result)
{
    const char *level = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (level == NULL || (strcmp(level, "FATAL") != 0 && strcmp(level, "PANIC") != 0))
        return false;
    strlcpy(conn->farewell_sqlstate, sqlstate == NULL ? "08006" : sqlstate,
            sizeof(conn->farewell_sqlstate));
    fleet_text_copy(conn->farewell, sizeof(conn->farewell),
                    PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
    return true;
}

/* Inside libpq: may neither throw nor call the agent, so only keeps a copy. */
void
fleet_conn_notice_receiver(void *arg, const PGresult *result)
{
    FleetConn *conn = arg;
    FleetNotice *notice;
    const char *level = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    char *at;

    if (level == NULL || message == NULL)
        return;
    if (fleet_conn_said_farewell(conn, result))
        return;
    if (conn->wants_notice == NULL || !conn->wants_notice(conn))
        return;
    notice =
        malloc(sizeof(*notice) + notice_size(result, PG_DIAG_MESSAGE_PRIMARY) +
               notice_size(result, PG_DIAG_MESSAGE_DETAIL) +
               notice_size(result, PG_DIAG_MESSAGE_HINT) + notice_size(result, PG_DIAG_CONTEXT));
    if (notice == NULL)
        return;
    at = (char *) (notice + 1);
    notice->next = NULL;
    strlcpy(notice->level, level, sizeof(notice->level));
    strlcpy(notice->sqlstate, sqlstate == NULL ? "00000" : sqlstate, sizeof(notice->sqlstate));
    notice->message = notice_field(&at, result, PG_DIAG_MESSAGE_PRIMARY);
    notice->detail = notice_field(&at, result, PG_DIAG_MESSAGE_DETAIL);
    notice->hint = notice_field(&at, result, PG_DIAG_MESSAGE_HINT);
    notice->context = notice_field(&at, result, PG_DIAG_CONTEXT);
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
