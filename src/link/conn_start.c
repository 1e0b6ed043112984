/*
 * link/conn_start.c
 *     How a FleetConn gets connected: hosts and their addresses, defaults,
 *     libpq's error texts, and the rule about passwords.
 *
 * In the agent's process; called by server_link.c, by the owners of
 * connections, and by the loop (socket events).
 *
 *   CLOSED → RESOLVING (only if a host is a name) → CONNECTING → SETUP
 *
 * Names are looked up by resolve.c in another process; libpq is always given
 * addresses or socket directories, so that PQconnectStart cannot block.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "link/internal.h"
#include "hand.h"
#include "mb/pg_wchar.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define MAX_PARAMS 96
#define FILE_MAX_BYTES 1000000 /* of a certificate, key or list */
#define LINE_MAX_BYTES 700     /* of an error of the login */

/* ---- hosts ---- */

static int
list_length_of(const char *list)
{
    int n = 1;

    if (list == NULL)
        return 0;
    for (; *list != '\0'; list++)
        n += *list == ',';
    return n;
}

/* Element "index" of a comma list, trimmed; NULL: empty or not there. */
static char *
list_element(const char *list, int index)
{
    const char *end;

    if (list == NULL)
        return NULL;
    for (; index > 0; index--)
    {
        list = strchr(list, ',');
        if (list == NULL)
            return NULL;
        list++;
    }
    while (*list == ' ')
        list++;
    end = strchr(list, ',');
    if (end == NULL)
        end = list + strlen(list);
    while (end > list && end[-1] == ' ')
        end--;
    return end == list ? NULL : pnstrdup(list, end - list);
}

static bool
host_is_address(const char *host)
{
    struct in6_addr address;
    char plain[64];

    strlcpy(plain, host, sizeof(plain));
    if (strchr(plain, '%') != NULL)
        *strchr(plain, '%') = '\0'; /* scope of an IPv6 address */
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, plain, &address) == 1;
}

void
fleet_link_parse_hosts(FleetServerLink *link)
{
    const char *hosts = fleet_link_param(link, "host");
    const char *addresses = fleet_link_param(link, "hostaddr");
    const char *ports = fleet_link_param(link, "port");
    MemoryContext before = MemoryContextSwitchTo(link->params);
    bool one_port = list_length_of(ports) == 1;
    int nhosts = list_length_of(hosts), naddresses = list_length_of(addresses);

    link->nhosts = Max(1, Max(nhosts, naddresses));
    link->hosts = palloc0(sizeof(FleetHost) * link->nhosts);
    for (int i = 0; i < link->nhosts; i++)
    {
        FleetHost *host = &link->hosts[i];

        host->host = list_element(hosts, i);
        host->address = list_element(addresses, i);
        host->port = list_element(ports, one_port ? 0 : i);
        if (host->address != NULL || host->host == NULL || host->host[0] == '/' ||
            host->host[0] == '@')
            continue;
        if (host_is_address(host->host))
            host->address = pstrdup(host->host);
        else
            host->name = true;
    }
    link->place = psprintf("%s|%s|%s", hosts == NULL ? "" : hosts,
                           addresses == NULL ? "" : addresses, ports == NULL ? "" : ports);
    MemoryContextSwitchTo(before);
}

/* Host, address and port lists as libpq wants them, names replaced by what they stand for. */
typedef struct HostLists
{
    StringInfoData host, address, port;
    int n;
    bool pending;
    const char *why; /* of a name that has no address */
} HostLists;

static void
lists_add(HostLists *lists, const FleetHost *host, const char *address)
{
    const char *comma = lists->n++ > 0 ? "," : "";

    appendStringInfo(&lists->host, "%s%s", comma, host->host != NULL ? host->host : "");
    appendStringInfo(&lists->address, "%s%s", comma, address != NULL ? address : "");
    appendStringInfo(&lists->port, "%s%s", comma, host->port != NULL ? host->port : "");
}

static void
lists_build(FleetConn *conn, HostLists *lists)
{
    FleetServerLink *link = conn->link;

    memset(lists, 0, sizeof(*lists));
    initStringInfo(&lists->host);
    initStringInfo(&lists->address);
    initStringInfo(&lists->port);
    for (int i = 0; i < link->nhosts; i++)
    {
        const FleetHost *host = &link->hosts[(i + conn->host_shift) % link->nhosts];
        char found[FLEET_ADDRESSES_MAX][FLEET_ADDRESS_SIZE];
        const char *why = "";
        int n = 0;

        if (!host->name)
        {
            lists_add(lists, host, host->address);
            continue;
        }
        switch (fleet_resolve(link->loop, host->host, found, &n, &why))
        {
            case RESOLVE_PENDING: lists->pending = true; break;
            case RESOLVE_FAILED:
                lists->why = psprintf("host name \"%s\" has no address: %s", host->host, why);
                break;
            case RESOLVE_DONE:
                for (int k = 0; k < n; k++)
                    lists_add(lists, host, found[k]);
                break;
        }
    }
}

/* ---- parameters ---- */

typedef struct Params
{
    const char *keywords[MAX_PARAMS + 1];
    const char *values[MAX_PARAMS + 1];
    int n;
} Params;

static void
params_set(Params *params, const char *keyword, const char *value)
{
    for (int i = 0; i < params->n; i++)
    {
        if (strcmp(params->keywords[i], keyword) == 0)
        {
            params->values[i] = value;
            return;
        }
    }
    if (params->n < MAX_PARAMS)
    {
        params->keywords[params->n] = keyword;
        params->values[params->n++] = value;
    }
}

static void
params_default(Params *params, const char *keyword, const char *value)
{
    for (int i = 0; i < params->n; i++)
    {
        if (strcmp(params->keywords[i], keyword) == 0)
            return;
    }
    params_set(params, keyword, value);
}

/* Newer versions of libpq know options that the one we were built with does not. */
static bool
libpq_knows(const char *keyword)
{
    static PQconninfoOption *options = NULL; /* kept: it is the same for ever */

    if (options == NULL)
        options = PQconndefaults();
    for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
    {
        if (strcmp(o->keyword, keyword) == 0)
            return true;
    }
    return false;
}

/*
 * Settings of a direct session go into the startup packet, because DISCARD ALL
 * goes back to those.  Search path and the like are not touched: commands run
 * there as they would in psql.
 */
static const char *
startup_options(const FleetServerLink *link)
{
    const char *given = fleet_link_param(link, "options");
    const char *ours = "-c client_connection_check_interval=5s -c fleet.params={}";

    return given == NULL ? ours : psprintf("%s %s", given, ours);
}

static void
params_build(FleetConn *conn, Params *params, const HostLists *lists)
{
    FleetServerLink *link = conn->link;

    params->n = 0;
    for (int i = 0; i < link->nparams && i < MAX_PARAMS - 20; i++)
    {
        if (link->values[i][0] != '\0')
            params_set(params, link->keywords[i], link->values[i]);
    }
    /* Always given as lists of one length; empty elements mean libpq's own default. */
    params_set(params, "host", lists->host.data);
    params_set(params, "hostaddr", lists->address.data);
    params_set(params, "port", lists->port.data);
    params_set(params, "client_encoding", "SQL_ASCII"); /* the server's own: encoding.c */
    params_default(params, "application_name",
                   psprintf("pg_fleet %.8s " UINT64_FORMAT, link->parent.uuid, link->parent.epoch));
    params_default(params, "fallback_application_name", "pg_fleet");
    params_default(params, "connect_timeout", "10");
    params_default(params, "keepalives", "1");
    params_default(params, "keepalives_idle", "5");
    params_default(params, "keepalives_interval", "2");
    params_default(params, "keepalives_count", "2");
    params_default(params, "tcp_user_timeout", "10000");
    params_default(params, "gssencmode", "disable");
    if (!link->superuser)
    {
        if (libpq_knows("require_auth"))
            params_default(params, "require_auth", "password,md5,scram-sha-256");
        if (libpq_knows("sslcertmode"))
            params_default(params, "sslcertmode", "disable");
    }
    if (link->mode->sessions && !link->plain && conn != (FleetConn *) link->side)
        params_set(params, "options", startup_options(link));
    params->keywords[params->n] = NULL;
    params->values[params->n] = NULL;
}

/* ---- errors ---- */

/* Where the SQLSTATE begins in a line "FATAL:  28P01: …"; NULL: there is none. */
static const char *
find_code(const char *line, size_t length)
{
    for (const char *p = line; p + 9 <= line + length; p++)
    {
        if (strncmp(p, ":  ", 3) == 0 &&
            strspn(p + 3, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && p[8] == ':')
            return p + 3;
    }
    return NULL;
}

/*
 * libpq gives no SQLSTATE for a refused login, but with verbose errors the
 * text has it: "FATAL:  28P01: password …\nLOCATION:  …".  Stars do not move
 * anything, so what is looked for is looked for in what came.
 */
static void
split_error(const FleetServerLink *link, const char *error, char *sqlstate, StringInfo text)
{
    const char *line = error;
    char *clean = pstrdup(error);

    fleet_link_scrub(link, clean); /* before it is converted, as it was sent */
    strcpy(sqlstate, FLEET_SQLSTATE_CANNOT_CONNECT);
    while (*line != '\0')
    {
        const char *end;
        size_t length;

        line += strspn(line, " \t");
        end = strchr(line, '\n');
        length = end != NULL ? (size_t) (end - line) : strlen(line);

        if (strncmp(line, "LOCATION:", 9) != 0 && length > 0)
        {
            const char *code = find_code(line, length);

            if (text->len > 0)
                appendStringInfoString(text, "; ");
            if (code != NULL)
            {
                strlcpy(sqlstate, code, 6);
                appendBinaryStringInfo(text, clean + (line - error), (int) (code - line));
                length -= (size_t) (code + 7 - line);
                line = code + 7;
            }
            if (length > LINE_MAX_BYTES)
                length =
                    (size_t) pg_encoding_mbcliplen(PG_UTF8, line, (int) length, LINE_MAX_BYTES);
            appendBinaryStringInfo(text, clean + (line - error), (int) length);
        }
        if (end == NULL)
            break;
        line = end + 1;
    }
    pfree(clean);
}

static bool
login_error_is_permanent(const char *sqlstate)
{
    return fleet_sqlstate_in(sqlstate, FLEET_SQLCLASS_AUTHORIZATION) ||
           fleet_sqlstate_in(sqlstate, FLEET_SQLCLASS_INVALID_CATALOG_NAME) ||
           fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE) ||
           fleet_sqlstate_is(sqlstate, FLEET_SQLSTATE_UNDEFINED_OBJECT);
}

static void
start_failed(FleetConn *conn)
{
    FleetServerLink *link = conn->link;
    StringInfoData text;
    char sqlstate[6];

    initStringInfo(&text);
    split_error(link, PQerrorMessage(conn->pg), sqlstate, &text);
    if (link->mode->sessions && !link->plain &&
        (strstr(text.data, "client_connection_check_interval") != NULL ||
         strstr(text.data, "fleet.params") != NULL || strstr(text.data, "options") != NULL))
    {
        /* A pooler, or a server without that setting: once more, with SET after the login. */
        link->plain = true;
        fleet_conn_close(conn);
        fleet_conn_open(conn);
    }
    else if (PQconnectionNeedsPassword(conn->pg))
        fleet_conn_fail(conn, FLEET_SQLSTATE_INVALID_PASSWORD, true,
                        "the server asks for a password, and the user mapping has none");
    else
    {
        char *reason = fleet_text_of_unknown(text.data);

        fleet_conn_fail(conn, sqlstate, login_error_is_permanent(sqlstate), "%s", reason);
        pfree(reason);
    }
    pfree(text.data);
}

/* ---- connecting ---- */

static void conn_poll(FleetConn *conn);

/* The socket's, from the first attempt until the connection is closed. */
static void
conn_event(void *arg, uint32 events)
{
    FleetConn *conn = arg;

    if (conn->lost || conn->link->closing)
        return;
    fleet_link_in_hand(conn->link);
    if (conn->state == CONN_CONNECTING)
        conn_poll(conn);
    else
    {
        if (events & WL_SOCKET_READABLE)
            fleet_conn_readable(conn);
        if ((events & WL_SOCKET_WRITEABLE) && !conn->lost && conn->pg != NULL)
        {
            conn->needs_flush = true;
            fleet_conn_work(conn);
        }
    }
    fleet_hand_empty();
}

/*
 * Watches the socket of the connection.  libpq may have opened another one
 * under the same number (next host of the list), so the inode is compared.
 */
static void
conn_watch(FleetConn *conn, uint32 events)
{
    struct stat st;
    pgsocket socket = PQsocket(conn->pg);

    if (socket == PGINVALID_SOCKET || fstat(socket, &st) != 0)
        return;
    if (conn->member != NULL && conn->inode == (uint64) st.st_ino)
    {
        fleet_loop_modify(conn->member, events);
        return;
    }
    if (conn->member != NULL)
        fleet_loop_remove(conn->member);
    conn->member = NULL;
    conn->inode = (uint64) st.st_ino;
    conn->member = fleet_loop_add(conn->link->loop, socket, events, conn_event, conn);
}

static bool
reserve_descriptor(const FleetConn *conn)
{
    if ((const void *) conn == (const void *) conn->link->side)
    {
        ReserveExternalFD(); /* a cancel must not wait for what it is to stop */
        return true;
    }
    while (!AcquireExternalFD())
    {
        if (!fleet_link_evict())
            return false;
    }
    return true;
}

/*
 * libpq reads these within the login, as a whole, and waits for what it reads: a pipe, or a file of /proc
 * (which has no size), would be waited for by the agent.  False: the connection is marked lost.
 */
static bool
files_are_plain(FleetConn *conn)
{
    static const char *const files[] = {"sslrootcert", "sslcrl", "sslcert", "sslkey"};

    for (size_t i = 0; i < lengthof(files); i++)
    {
        const char *path = fleet_link_param(conn->link, files[i]);
        struct stat st;

        if (path == NULL || stat(path, &st) != 0) /* libpq says which one is not there */
            continue;
        if (S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size <= FILE_MAX_BYTES)
            continue;
        fleet_conn_fail(conn, FLEET_SQLSTATE_INVALID_AUTHORIZATION, true,
                        "refused: \"%s\" must be the name of a file of at most %d bytes", files[i],
                        FILE_MAX_BYTES);
        return false;
    }
    return true;
}

static void
conn_start(FleetConn *conn, const HostLists *lists)
{
    Params params;

    if (!files_are_plain(conn))
        return;
    if (!reserve_descriptor(conn))
    {
        if (!fleet_link_wait_for_fd(conn))
            fleet_conn_fail(conn, FLEET_SQLSTATE_INSUFFICIENT_RESOURCES, false,
                            "no file descriptor is left in this process (max_files_per_process)");
        return;
    }
    conn->fd_reserved = true;
    params_build(conn, &params, lists);
    conn->pg = PQconnectStartParams(params.keywords, params.values, 0);
    if (conn->pg == NULL)
    {
        fleet_conn_fail(conn, FLEET_SQLSTATE_OUT_OF_MEMORY, false, "libpq is out of memory");
        return;
    }
    PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE);
    PQsetNoticeReceiver(conn->pg, fleet_conn_notice_receiver, conn);
    if (PQstatus(conn->pg) == CONNECTION_BAD)
    {
        start_failed(conn);
        return;
    }
    conn->state = CONN_CONNECTING;
    conn->deadline = fleet_link_now() + FLEET_SECONDS(conn->link->connect_timeout);
    fleet_link_due_at(conn->deadline);
    conn_watch(conn, WL_SOCKET_WRITEABLE);
}

void
fleet_conn_resolved(FleetConn *conn)
{
    MemoryContext context =
        AllocSetContextCreate(conn->link->context, "fleet connect", ALLOCSET_SMALL_SIZES);
    MemoryContext before = MemoryContextSwitchTo(context);
    HostLists lists;

    lists_build(conn, &lists);
    if (!lists.pending)
    {
        if (lists.n == 0)
            fleet_conn_fail(conn, FLEET_SQLSTATE_CANNOT_CONNECT, false, "%s", lists.why);
        else
            conn_start(conn, &lists);
    }
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
}

void
fleet_conn_open(FleetConn *conn)
{
    conn->state = CONN_RESOLVING;
    conn->deadline = fleet_link_now() + FLEET_RESOLVE_TIMEOUT;
    fleet_link_due_at(conn->deadline);
    fleet_conn_resolved(conn);
}

/*
 * Nobody may borrow what the operating system's user may do: a link of a role
 * that is not a superuser must have been let in by the password of its mapping.
 */
static bool
password_rule(FleetConn *conn)
{
    const FleetServerLink *link = conn->link;

    if (link->superuser || (link->has_password && PQconnectionUsedPassword(conn->pg)))
        return true;
    if (!link->has_password)
        fleet_conn_fail(
            conn, FLEET_SQLSTATE_INVALID_AUTHORIZATION, true,
            "refused: the user mapping of a role that is not a superuser must have a password");
    else
        fleet_conn_fail(
            conn, FLEET_SQLSTATE_INVALID_AUTHORIZATION, true,
            "refused: the server let the session in without asking for the password of the user "
            "mapping; "
            "it must ask (scram-sha-256 in its pg_hba.conf) where the role is not a superuser");
    return false;
}

/* The connection is there: statements may be sent. */
static void
logged_in(FleetConn *conn)
{
    const char *encoding = PQparameterStatus(conn->pg, "server_encoding");

    conn->encoding = encoding == NULL ? -1 : pg_char_to_encoding(encoding);
    if (!PG_VALID_BE_ENCODING(conn->encoding))
        conn->encoding = PG_SQL_ASCII;
    conn->state = CONN_SETUP;
    conn->heard_at = fleet_link_now();
    PQsetErrorVerbosity(conn->pg, PQERRORS_DEFAULT);
    if (PQsetnonblocking(conn->pg, 1) != 0)
    {
        fleet_conn_fail_libpq(conn);
        return;
    }
    if (fleet_conn_pipeline(conn, true))
        conn->methods->login(conn);
}

static void
conn_poll(FleetConn *conn)
{
    pgsocket socket_before = PQsocket(conn->pg);
    uint64 inode_before = conn->inode;

    if (fleet_login_look(conn) != LOGIN_GOES_ON)
        return;
    switch (PQconnectPoll(conn->pg))
    {
        case PGRES_POLLING_READING: conn_watch(conn, WL_SOCKET_READABLE); break;
        case PGRES_POLLING_WRITING: conn_watch(conn, WL_SOCKET_WRITEABLE); break;
        case PGRES_POLLING_OK:
            conn_watch(conn, WL_SOCKET_READABLE);
            if (password_rule(conn))
                logged_in(conn);
            return;
        case PGRES_POLLING_FAILED:
        case PGRES_POLLING_ACTIVE: /* not used by libpq */ start_failed(conn); return;
    }
    /* The next host of the list has its own time. */
    if (PQsocket(conn->pg) != socket_before || conn->inode != inode_before)
    {
        conn->deadline = fleet_link_now() + FLEET_SECONDS(conn->link->connect_timeout);
        fleet_link_due_at(conn->deadline);
    }
}

/*
 * libpq goes on to the next host when one refuses, but knows no time limit
 * when it is polled; so begin again with the list turned by one.
 */
void
fleet_conn_connect_timeout(FleetConn *conn)
{
    FleetServerLink *link = conn->link;
    int shift = conn->host_shift + 1;

    if (shift < link->nhosts)
    {
        fleet_conn_close(conn);
        conn->host_shift = shift;
        fleet_conn_open(conn);
        return;
    }
    conn->host_shift = 0;
    fleet_conn_fail(conn, FLEET_SQLSTATE_CANNOT_CONNECT, false,
                    "no answer to the attempt to connect within %d seconds", link->connect_timeout);
}
