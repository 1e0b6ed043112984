/*
 * link/encoding.c
 *     From one encoding to the other, as far as a text can be converted: the
 *     rest is for text.c to escape (what came in) or to refuse (what goes out).
 *
 * No server is asked to convert: a character that it cannot convert would be
 * an error there, of the whole answer.  client_encoding is SQL_ASCII on every
 * connection, which means that servers send text as they have it, and take it
 * as it comes.  (A step of mode direct may set another one.)
 *
 * Everything goes by way of UTF-8.  The text of a SQL_ASCII database is taken
 * for UTF-8: its bytes have no other meaning that both sides could know.
 *
 * In the agent's process; called by text.c, and by who reads what a connection
 * sends.  State: the conversion functions
 * that were needed so far, which are kept.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "fmgr.h"
#include "link/internal.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

typedef struct Conversion
{
    bool known;
    FmgrInfo function; /* fn_oid InvalidOid: there is none */
} Conversion;

static Conversion to_utf8[_PG_LAST_ENCODING_], from_utf8[_PG_LAST_ENCODING_];

int
fleet_encoding_meant(int encoding)
{
    return encoding == PG_SQL_ASCII ? PG_UTF8 : encoding;
}

/* In a transaction. */
static void
find_function(int from, int to, Conversion *conversion)
{
    Oid function = FindDefaultConversionProc(from, to);

    if (OidIsValid(function))
        fmgr_info_cxt(function, &conversion->function, TopMemoryContext);
}

/* Looks into the catalog, once for each pair of encodings: in a transaction of its own if there is
 * none.  What raises has no such conversion. */
static void
look_up(int from, int to, Conversion *conversion)
{
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    bool alone = !IsTransactionState();

    conversion->known = true;
    if (alone)
        StartTransactionCommand();
    BeginInternalSubTransaction(NULL);
    PG_TRY();
    {
        find_function(from, to, conversion);
        ReleaseCurrentSubTransaction();
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        memset(&conversion->function, 0, sizeof(conversion->function));
    }
    PG_END_TRY();
    if (alone)
        CommitTransactionCommand();
    else
        CurrentResourceOwner = owner;
    MemoryContextSwitchTo(context);
}

static FmgrInfo *
function_of(int from, int to)
{
    Conversion *conversion = to == PG_UTF8 ? &to_utf8[from] : &from_utf8[to];

    if (!conversion->known)
        look_up(from, to, conversion);
    return OidIsValid(conversion->function.fn_oid) ? &conversion->function : NULL;
}

size_t
fleet_encoding_ascii(const char *s, size_t length)
{
    size_t n = 0;

    while (n < length && !IS_HIGHBIT_SET(s[n]) && s[n] != '\0')
        n++;
    return n;
}

static size_t
copy(const char *s, size_t n, char *out)
{
    memcpy(out, s, n);
    out[n] = '\0';
    return n;
}

size_t
fleet_encoding_convert(int from, int to, const char *s, size_t length, char *out)
{
    size_t n = fleet_encoding_ascii(s, length);
    FmgrInfo *function;

    Assert(length <= FLEET_CONVERT_MAX && (from == PG_UTF8 || to == PG_UTF8));
    if (n == length)
        return copy(s, n, out);
    if (from == to)
        return copy(s, (size_t) pg_encoding_verifymbstr(PG_UTF8, s, (int) length), out);
    function = function_of(from, to);
    if (function == NULL)
        return copy(s, n, out);
    return (size_t) DatumGetInt32(FunctionCall6(function, Int32GetDatum(from), Int32GetDatum(to),
                                                CStringGetDatum(s), CStringGetDatum(out),
                                                Int32GetDatum((int) length), BoolGetDatum(true)));
}

size_t
fleet_encoding_piece(int encoding, const char *s, size_t length)
{
    int piece;

    if (length <= FLEET_CONVERT_MAX)
        return length;
    piece = pg_encoding_mbcliplen(encoding, s, (int) Min(length, 1 << 29), FLEET_CONVERT_MAX);
    return (size_t) Max(1, piece);
}

/* Bytes of the character at s, which cannot be converted; 1 if it is none. */
size_t
fleet_encoding_character(int encoding, const char *s, size_t length)
{
    int n = pg_encoding_verifymbchar(encoding, s, (int) Min(length, 16));

    return n > 0 ? (size_t) n : 1;
}

/*
 * With client_encoding SQL_ASCII, which it has after the login, a server sends
 * its own encoding.  libpq hears of it when a step sets another one.
 */
int
fleet_conn_encoding(const FleetConn *conn, bool fresh)
{
    int client = conn->pg == NULL || fresh ? PG_SQL_ASCII : PQclientEncoding(conn->pg);

    return PG_VALID_ENCODING(client) && client != PG_SQL_ASCII ? client : conn->encoding;
}
