/*
 * link/text.c
 *     Text that came from the other side, made harmless: valid in our
 *     database's encoding, readable in UTF-8, and not longer than it may be.
 *     And text that goes there, in the encoding that it has there.
 *
 * What our encoding lacks is escaped: \u20AC is a character (two such for one
 * above U+FFFF), as JSON has it, so that JSON stays JSON; \xE9 is a byte that
 * is no character in the encoding of the other side, or one without a number.
 * Backslashes that were there stay as they are: the text is for people.
 *
 * Called by everything in src/link/ in the agent's process.  No state.
 */
#include "postgres.h"

#include <ctype.h>

#include "link/internal.h"
#include "mb/pg_wchar.h"

#define CONVERTED_MAX (200 * 1024 * 1024) /* four times as much still is a string */

/* What is written next, up to "left" bytes more. */
typedef struct Writer
{
    StringInfo out;
    int encoding; /* what our database's text is taken for */
    size_t left;
    char *utf8, *ours; /* buffers for conversions; NULL: not needed yet */
} Writer;

static char *
buffer(char **place)
{
    if (*place == NULL)
        *place = palloc(FLEET_CONVERT_MAX * MAX_CONVERSION_GROWTH + 1);
    return *place;
}

/* Whole characters; false: some did not fit, and nothing more is to be written. */
static bool
write_text(Writer *w, const char *s, size_t length)
{
    bool fits = length <= w->left;

    if (!fits)
        length = (size_t) pg_encoding_mbcliplen(w->encoding, s, (int) length, (int) w->left);
    appendBinaryStringInfo(w->out, s, (int) length);
    w->left = fits ? w->left - length : 0;
    return fits;
}

/* All of it, or nothing. */
static bool
write_escape(Writer *w, const char *s)
{
    size_t length = strlen(s);

    if (length <= w->left)
        return write_text(w, s, length);
    w->left = 0;
    return false;
}

/* Bytes that are no character, or one that has no number. */
static bool
write_bytes(Writer *w, const char *s, size_t n)
{
    char text[8 * 4 + 1], *at = text;

    for (size_t i = 0; i < n && i < 8; i++)
        at += sprintf(at, "\\x%02X", (unsigned char) s[i]);
    return write_escape(w, text);
}

/* A character that our encoding lacks, as JSON and PostgreSQL's own literals have it. */
static bool
write_number(Writer *w, const char *s)
{
    pg_wchar c = utf8_to_unicode((const unsigned char *) s);
    char text[16];

    if (c >= 0x10000)
        snprintf(text, sizeof(text), "\\u%04X\\u%04X", 0xD800 + ((c - 0x10000) >> 10),
                 0xDC00 + ((c - 0x10000) & 0x3FF));
    else
        snprintf(text, sizeof(text), "\\u%04X", c);
    return write_escape(w, text);
}

/* Valid UTF-8, in our encoding. */
static bool
write_utf8(Writer *w, const char *s, size_t length)
{
    while (length > 0)
    {
        size_t piece = fleet_encoding_piece(PG_UTF8, s, length);
        char *ours = buffer(&w->ours);
        size_t n = fleet_encoding_convert(PG_UTF8, w->encoding, s, piece, ours);

        if (!write_text(w, ours, strlen(ours)))
            return false;
        if (n < piece)
        {
            if (!write_number(w, s + n))
                return false;
            n += fleet_encoding_character(PG_UTF8, s + n, length - n);
        }
        s += n;
        length -= n;
    }
    return true;
}

/* One piece; returns how much of it was written, before something that is no character. */
static size_t
write_piece(Writer *w, int from, const char *s, size_t piece)
{
    char *utf8 = buffer(&w->utf8);
    size_t n = fleet_encoding_convert(from, PG_UTF8, s, piece, utf8);

    if (from == w->encoding)
        (void) write_text(w, s, n); /* as it is: converted only to see whether others can read it */
    else if (w->encoding == PG_UTF8)
        (void) write_text(w, utf8, strlen(utf8));
    else
        (void) write_utf8(w, utf8, strlen(utf8));
    return n;
}

void
fleet_text_append(StringInfo out, int encoding, const char *s, size_t length, size_t cap)
{
    int from = fleet_encoding_meant(encoding);
    Writer w = {.out = out, .encoding = fleet_encoding_meant(GetDatabaseEncoding()), .left = cap};

    if (fleet_encoding_ascii(s, Min(length, cap)) == Min(length, cap))
    {
        appendBinaryStringInfo(out, s, (int) Min(length, cap));
        return;
    }
    while (length > 0 && w.left > 0)
    {
        size_t piece = fleet_encoding_piece(from, s, length);
        size_t n = write_piece(&w, from, s, piece);

        if (n < piece && w.left > 0)
        {
            size_t bad = fleet_encoding_character(from, s + n, length - n);

            (void) write_bytes(&w, s + n, bad);
            n += bad;
        }
        s += n;
        length -= n;
    }
    if (w.utf8 != NULL)
        pfree(w.utf8);
    if (w.ours != NULL)
        pfree(w.ours);
}

void
fleet_text_copy(char *out, size_t size, int encoding, const char *s)
{
    StringInfoData text;

    out[0] = '\0';
    if (s == NULL)
        return;
    initStringInfo(&text);
    fleet_text_append(&text, encoding, s, strlen(s), size - 1);
    strlcpy(out, text.data, size);
    pfree(text.data);
}

char *
fleet_text_of_unknown(const char *s)
{
    size_t length = strlen(s);
    bool utf8 = (size_t) pg_encoding_verifymbstr(PG_UTF8, s, (int) length) == length;
    StringInfoData text;

    initStringInfo(&text);
    fleet_text_append(&text, utf8 ? PG_UTF8 : GetDatabaseEncoding(), s, length, length * 12);
    return text.data;
}

/* ---- what goes out ---- */

static void
cannot_be_sent(FleetDiagnostics *why, int from, int to, const char *s, size_t length)
{
    size_t n = fleet_encoding_character(from, s, length);
    bool valid = pg_encoding_verifymbchar(from, s, (int) Min(length, 16)) > 0;
    char bytes[64] = "", *at = bytes;

    for (size_t i = 0; i < n && i < 8; i++)
        at += sprintf(at, i == 0 ? "0x%02x" : " 0x%02x", (unsigned char) s[i]);
    memset(why, 0, sizeof(*why));
    why->level = "ERROR";
    why->sqlstate = valid ? FLEET_SQLSTATE_UNTRANSLATABLE_CHARACTER
                          : FLEET_SQLSTATE_CHARACTER_NOT_IN_REPERTOIRE;
    why->message = valid ? psprintf("character with byte sequence %s in encoding \"%s\" has no "
                                    "equivalent in encoding \"%s\"",
                                    bytes, pg_encoding_to_char(from), pg_encoding_to_char(to))
                         : psprintf("invalid byte sequence for encoding \"%s\": %s",
                                    pg_encoding_to_char(from), bytes);
}

/* One of the two is UTF-8.  NULL: "why" says why not. */
static char *
convert_all(int from, int to, const char *s, FleetDiagnostics *why)
{
    char *piece = palloc(FLEET_CONVERT_MAX * MAX_CONVERSION_GROWTH + 1);
    size_t length = strlen(s);
    StringInfoData out;

    initStringInfo(&out);
    while (length > 0)
    {
        size_t size = fleet_encoding_piece(from, s, length);
        size_t n = fleet_encoding_convert(from, to, s, size, piece);

        if (n < size)
        {
            cannot_be_sent(why, from, to, s + n, length - n);
            pfree(out.data);
            out.data = NULL;
            break;
        }
        appendStringInfoString(&out, piece);
        s += n;
        length -= n;
    }
    pfree(piece);
    return out.data;
}

const char *
fleet_text_for(int encoding, const char *s, FleetDiagnostics *why)
{
    int from = fleet_encoding_meant(GetDatabaseEncoding()), to = fleet_encoding_meant(encoding);
    size_t length = strlen(s);
    char *utf8, *theirs;

    if (fleet_encoding_ascii(s, length) == length ||
        (GetDatabaseEncoding() == PG_UTF8 && to == PG_UTF8))
        return s;
    if (length > CONVERTED_MAX)
    {
        fleet_diagnostics_set(why, FLEET_SQLSTATE_PROGRAM_LIMIT_EXCEEDED,
                              "the text is too long to be converted to another encoding");
        return NULL;
    }
    /* From UTF-8 too, if it is only taken for that; and back to where it came from, so that the
     * other side can read it in any encoding. */
    utf8 = convert_all(from, PG_UTF8, s, why);
    if (utf8 == NULL || from == to)
        return utf8 == NULL ? NULL : s;
    if (to == PG_UTF8)
        return utf8;
    theirs = convert_all(PG_UTF8, to, utf8, why);
    pfree(utf8);
    return theirs;
}

const char *
fleet_text_utf8(const char *s)
{
    FleetDiagnostics why;
    const char *utf8 = fleet_text_for(PG_UTF8, s, &why);

    return utf8 == NULL ? s : utf8;
}

const char *
fleet_text_or_ascii(int encoding, const char *s)
{
    FleetDiagnostics why;
    const char *text = fleet_text_for(encoding, s, &why);
    char *ascii;

    if (text != NULL)
        return text;
    ascii = pstrdup(s);
    for (char *c = ascii; *c != '\0'; c++)
    {
        if (IS_HIGHBIT_SET(*c))
            *c = '?';
    }
    return ascii;
}

/* ---- diagnostics ---- */

/* "s" itself when it is harmless, else a copy; NULL stays NULL. */
static const char *
text_clean(int encoding, const char *s, size_t cap)
{
    StringInfoData out;
    size_t length;

    if (s == NULL)
        return NULL;
    length = strlen(s);
    if (length <= cap && fleet_encoding_ascii(s, length) == length)
        return s;
    if (length >= FLEET_MESSAGE_MAX) /* it was cut somewhere (fleet_diagnostics_place()) */
        length = (size_t) pg_encoding_mbcliplen(fleet_encoding_meant(encoding), s, (int) length,
                                                (int) length);
    initStringInfo(&out);
    fleet_text_append(&out, encoding, s, length, cap);
    return out.data;
}

void
fleet_text_clean_diagnostics(FleetDiagnostics *diag, int encoding)
{
    diag->level = text_clean(encoding, diag->level, FLEET_LEVEL_MAX);
    diag->sqlstate = text_clean(encoding, diag->sqlstate, FLEET_SQLSTATE_LENGTH);
    diag->message = text_clean(encoding, diag->message, FLEET_MESSAGE_MAX);
    diag->detail = text_clean(encoding, diag->detail, FLEET_MESSAGE_MAX);
    diag->hint = text_clean(encoding, diag->hint, FLEET_MESSAGE_MAX);
    diag->context = text_clean(encoding, diag->context, FLEET_MESSAGE_MAX);
}

const char *
fleet_text_sqlstate(const char *s)
{
    if (s == NULL || strlen(s) != FLEET_SQLSTATE_LENGTH ||
        strspn(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != FLEET_SQLSTATE_LENGTH)
        return FLEET_SQLSTATE_INTERNAL_ERROR;
    return s;
}

const char *
fleet_text_level(const char *s)
{
    static const char *const levels[] = {"DEBUG",   "LOG",   "INFO",  "NOTICE",
                                         "WARNING", "ERROR", "FATAL", "PANIC"};

    for (int i = 0; i < (int) lengthof(levels); i++)
    {
        if (strcmp(s, levels[i]) == 0)
            return levels[i];
    }
    return "NOTICE";
}

FleetDiagnostics
fleet_text_diagnostics(const PGresult *result)
{
    FleetDiagnostics diag = {
        .level = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED),
        .sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE),
        .message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY),
        .detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL),
        .hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT),
        .context = PQresultErrorField(result, PG_DIAG_CONTEXT),
    };

    return diag;
}

/* ---- secrets ---- */

static bool
is_word(char c)
{
    return isalnum((unsigned char) c) || c == '_' || IS_HIGHBIT_SET(c);
}

/*
 * One or two characters are part of every text: covering them everywhere would
 * not hide them, but show where they are.  They are covered as a word.
 */
static bool
stands_alone(const char *text, const char *at, size_t length)
{
    return (at == text || !is_word(at[-1])) && !is_word(at[length]);
}

/* From left to right, each place looked at once.  What overlaps is covered when its end is known. */
static void
cover(char *text, const char *secret)
{
    size_t length = strlen(secret);
    char *from = text, *to = text; /* found, not yet covered */

    if (length == 0)
        return;
    for (char *at = strstr(text, secret); at != NULL; at = strstr(at + 1, secret))
    {
        if (length < 3 && !stands_alone(text, at, length))
            continue;
        if (at > to)
        {
            memset(from, '*', (size_t) (to - from));
            from = at;
        }
        to = at + length;
    }
    memset(from, '*', (size_t) (to - from));
}

/* In a URI: everything but letters, digits and -._~ as %XX. */
static char *
in_uri(const char *secret, const char *digits)
{
    StringInfoData out;

    initStringInfo(&out);
    for (const char *s = secret; *s != '\0'; s++)
    {
        unsigned char c = (unsigned char) *s;

        if ((c < 128 && isalnum(c)) || strchr("-._~", c) != NULL)
            appendStringInfoChar(&out, *s);
        else
            appendStringInfo(&out, "%%%c%c", digits[c >> 4], digits[c & 15]);
    }
    return out.data;
}

/* In a literal: each of "what" with this character before it; '\0': doubled. */
static char *
in_quotes(const char *secret, const char *what, char before)
{
    StringInfoData out;

    initStringInfo(&out);
    for (const char *s = secret; *s != '\0'; s++)
    {
        if (strchr(what, *s) != NULL)
            appendStringInfoChar(&out, before == '\0' ? *s : before);
        appendStringInfoChar(&out, *s);
    }
    return out.data;
}

void
fleet_text_scrub(char *text, const char *secret)
{
    char *forms[5];

    if (secret == NULL || secret[0] == '\0')
        return;
    forms[0] = in_uri(secret, "0123456789ABCDEF");
    forms[1] = in_uri(secret, "0123456789abcdef");
    forms[2] = in_quotes(secret, "'\\", '\\');  /* a connection string */
    forms[3] = in_quotes(secret, "\"\\", '\\'); /* JSON, an array */
    forms[4] = in_quotes(secret, "'", '\0');    /* SQL */
    for (int i = 0; i < (int) lengthof(forms); i++)
    {
        if (strcmp(forms[i], secret) != 0)
            cover(text, forms[i]);
        pfree(forms[i]);
    }
    cover(text, secret);
}

static int
text_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
fleet_text_uuid(const char *s, uint8 *uuid)
{
    int digits = 0;

    for (; *s != '\0'; s++)
    {
        int value = text_hex(*s);

        if (*s == '-')
            continue;
        if (value < 0 || digits >= 32)
            return false;
        if (digits % 2 == 0)
            uuid[digits / 2] = (uint8) (value << 4);
        else
            uuid[digits / 2] |= (uint8) value;
        digits++;
    }
    return digits == 32;
}

void
fleet_text_from_uuid(const uint8 *uuid, char *s)
{
    static const char hex[] = "0123456789abcdef";

    for (int i = 0; i < 16; i++)
    {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *s++ = '-';
        *s++ = hex[uuid[i] >> 4];
        *s++ = hex[uuid[i] & 15];
    }
    *s = '\0';
}
