/*
 * link/login.c
 *     What a server asks for during the login, looked at before libpq reads it.
 *
 * libpq derives a key for SCRAM within PQconnectPoll(), as often as the server
 * says: 100,000,000 iterations are minutes in which the agent would hear
 * nothing.  So each message of the login is peeked at first, and a count above
 * FLEET_SCRAM_ITERATIONS_MAX is refused.
 *
 * libpq reads all that is there, and more may come between our look and its
 * own.  What matters cannot come unseen: the message with the count repeats the
 * client's nonce, so nothing behind its first bytes can be sent before libpq has
 * sent that; from then on libpq is kept from reading until the message is there
 * whole; and if its first bytes were sent before, the rest does not look like a
 * message.
 *
 * In the agent's process; called by conn_start.c.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>

#include "link/internal.h"
#include "port/pg_bswap.h"

#define LOOK_MAX 16384    /* bytes: a TLS record */
#define AUTH_MAX 2000     /* what libpq accepts of an authentication request, … */
#define ERROR_MAX 30000   /* … and of an error, before it is logged in */
#define HEADER 5          /* type and length */
#define AUTH_OK 0         /* the login is over */
#define AUTH_SASL_CONT 11 /* the message with the count */

#define WANT_READ 2 /* SSL_ERROR_WANT_READ */

/* The server's own OpenSSL, which is libpq's; we need no more of it, and so do not link to it. */
static int (*ssl_peek)(void *ssl, void *buffer, int size) = NULL;
static int (*ssl_get_error)(const void *ssl, int result) = NULL;

static bool
find_openssl(void)
{
    void *peek = dlsym(RTLD_DEFAULT, "SSL_peek");
    void *get_error = dlsym(RTLD_DEFAULT, "SSL_get_error");

    memcpy(&ssl_peek, &peek, sizeof(peek));
    memcpy(&ssl_get_error, &get_error, sizeof(get_error));
    return peek != NULL && get_error != NULL;
}

/* See look(). */
static int
look_into_tls(FleetConn *conn, char *buffer)
{
    void *ssl = PQsslStruct(conn->pg, "OpenSSL");
    int n;

    if (ssl == NULL || (ssl_peek == NULL && !find_openssl()))
        return -1;
    n = ssl_peek(ssl, buffer, LOOK_MAX);
    if (n > 0)
        return n;
    return ssl_get_error(ssl, n) == WANT_READ ? 0 : -1;
}

/* The bytes that libpq would read now; 0: there are none yet; -1: an end or an error, which libpq
 * may tell. */
static int
look(FleetConn *conn, char *buffer)
{
    ssize_t n;

    if (PQsslInUse(conn->pg))
        return look_into_tls(conn, buffer);
    n = recv(PQsocket(conn->pg), buffer, LOOK_MAX, MSG_PEEK);
    if (n > 0)
        return (int) n;
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? 0 : -1;
}

/* The socket is readable when so many bytes are there. */
static void
wait_for_bytes(FleetConn *conn, int n)
{
    (void) setsockopt(PQsocket(conn->pg), SOL_SOCKET, SO_RCVLOWAT, &n, sizeof(n));
}

static uint32
number_at(const char *p)
{
    uint32 n;

    memcpy(&n, p, sizeof(n));
    return pg_ntoh32(n);
}

/* "r=…,s=…,i=N": the last one counts. */
static double
iterations(const char *body, const char *end)
{
    double count = 0;

    for (const char *p = body; p + 3 <= end; p++)
    {
        if (strncmp(p, ",i=", 3) != 0)
            continue;
        count = 0;
        for (p += 3; p < end && *p >= '0' && *p <= '9'; p++)
            count = count * 10 + (*p - '0');
        p--;
    }
    return count;
}

static FleetLogin
not_understood(FleetConn *conn)
{
    fleet_conn_fail(conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                    "the server's answer to the login is not understood");
    return LOGIN_REFUSED;
}

static FleetLogin
check_authentication(FleetConn *conn, const char *message, uint32 length)
{
    double count;

    if (number_at(message + HEADER) != AUTH_SASL_CONT)
        return LOGIN_GOES_ON;
    count = iterations(message + HEADER + 4, message + 1 + length);
    if (count <= FLEET_SCRAM_ITERATIONS_MAX)
        return LOGIN_GOES_ON;
    fleet_conn_fail(conn, FLEET_SQLSTATE_INVALID_AUTHORIZATION, true,
                    "refused: the server asks for %.0f iterations of SCRAM-SHA-256, and at most %d "
                    "are computed",
                    count, FLEET_SCRAM_ITERATIONS_MAX);
    return LOGIN_REFUSED;
}

/* Message by message, up to the end of the login. */
static FleetLogin
check_messages(FleetConn *conn, const char *at, int n)
{
    const char *begin = at;

    while (n > 0)
    {
        uint32 length = n >= HEADER ? number_at(at + 1) : 0;
        bool whole = n >= HEADER && (uint32) n >= length + 1;

        if (at[0] == 'E' && (n < HEADER || length <= ERROR_MAX))
            return LOGIN_GOES_ON;
        if (at[0] != 'R' && (at[0] != 'v' || conn->login_seen))
            return not_understood(conn);
        if (n >= HEADER && (length < 8 || length > AUTH_MAX))
            return not_understood(conn);
        if (!whole && PQsslInUse(conn->pg))
            return not_understood(conn); /* a server sends it in one piece */
        if (!whole)
        {
            wait_for_bytes(conn, (int) (at - begin) + (n >= HEADER ? (int) length + 1 : HEADER));
            return LOGIN_WAITS;
        }
        if (at[0] == 'R' && number_at(at + HEADER) == AUTH_OK)
            return LOGIN_GOES_ON;
        if (at[0] == 'R' && check_authentication(conn, at, length) == LOGIN_REFUSED)
            return LOGIN_REFUSED;
        conn->login_seen = true;
        at += length + 1;
        n -= (int) length + 1;
    }
    return LOGIN_GOES_ON;
}

FleetLogin
fleet_login_look(FleetConn *conn)
{
    char buffer[LOOK_MAX];
    FleetLogin login;
    int n;

    if (PQstatus(conn->pg) != CONNECTION_AWAITING_RESPONSE)
    {
        conn->login_seen = false;
        return LOGIN_GOES_ON;
    }
    n = look(conn, buffer);
    if (n < 0)
        return LOGIN_GOES_ON;
    if (n == 0)
        return LOGIN_WAITS;
    login = check_messages(conn, buffer, n);
    if (login == LOGIN_GOES_ON)
        wait_for_bytes(conn, 1);
    return login;
}
