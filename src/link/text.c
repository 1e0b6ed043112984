/*
 * link/text.c
 *     Text that came from the other side, made harmless: valid in our
 *     database's encoding and not longer than it may be.
 *
 * Called by everything in src/link/ in the agent's process.  No state.
 */
#include "postgres.h"

#include <ctype.h>

#include "link/internal.h"
#include "mb/pg_wchar.h"

/* Bytes of s that are whole, valid characters, up to the first bad one. */
static size_t
text_valid(const char *s, size_t length)
{
    return (size_t) pg_encoding_verifymbstr(GetDatabaseEncoding(), s, (int) length);
}

void
fleet_text_append(StringInfo out, const char *s, size_t length, size_t cap)
{
    size_t left = cap;

    if (length > cap)
        length = (size_t) pg_mbcliplen(s, (int) length, (int) cap);
    while (length > 0 && left > 0)
    {
        size_t good = text_valid(s, length);

        appendBinaryStringInfo(out, s, (int) good);
        if (good == length)
            break;
        appendStringInfoChar(out, '?');
        s += good + 1;
        length -= good + 1;
        left -= good + 1;
    }
}

void
fleet_text_copy(char *out, size_t size, const char *s)
{
    size_t length = s == NULL ? 0 : strlen(s);
    size_t at = 0;

    if (length >= size)
        length = (size_t) pg_mbcliplen(s, (int) length, (int) size - 1);
    while (length > 0)
    {
        size_t good = text_valid(s, length);

        memcpy(out + at, s, good);
        at += good;
        if (good == length)
            break;
        out[at++] = '?';
        s += good + 1;
        length -= good + 1;
    }
    out[at] = '\0';
}

/* "s" itself when it is harmless, else a copy; NULL stays NULL. */
static const char *
text_clean(const char *s, size_t cap)
{
    StringInfoData out;
    size_t length;

    if (s == NULL)
        return NULL;
    length = strlen(s);
    if (length <= cap && text_valid(s, length) == length)
        return s;
    initStringInfo(&out);
    fleet_text_append(&out, s, length, cap);
    return out.data;
}

void
fleet_text_clean_diagnostics(FleetDiagnostics *diag)
{
    diag->level = text_clean(diag->level, FLEET_LEVEL_MAX);
    diag->sqlstate = text_clean(diag->sqlstate, FLEET_SQLSTATE_LENGTH);
    diag->message = text_clean(diag->message, FLEET_MESSAGE_MAX);
    diag->detail = text_clean(diag->detail, FLEET_MESSAGE_MAX);
    diag->hint = text_clean(diag->hint, FLEET_MESSAGE_MAX);
    diag->context = text_clean(diag->context, FLEET_MESSAGE_MAX);
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
