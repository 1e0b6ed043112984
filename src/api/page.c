/*
 * api/page.c
 *     What the pages of fleet.report() and fleet.overview() need beyond SQL: text
 *     as HTML, parameters without secrets, and where things stand in a drawing
 *     (core/drawing.h).  In any session; none of it reads a row.
 */
#include "postgres.h"

#include "api/alloc.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "core/drawing.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/formatting.h"
#include "utils/jsonb.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(fleet_sql_html);
PG_FUNCTION_INFO_V1(fleet_sql_without_secrets);
PG_FUNCTION_INFO_V1(fleet_sql_drawing);
PG_FUNCTION_INFO_V1(fleet_sql_drawing_rows);
PG_FUNCTION_INFO_V1(fleet_sql_drawing_spans);

/* ---- text as HTML ---- */

#define REPLACEMENT 0xFFFD

/*
 * A character as ASCII, so that a page is right in whatever encoding it is
 * written to a file.  Controls are shown as their pictures; what HTML cannot
 * have, would read as another character, or would take to turn the direction of
 * what comes after it, is the replacement character.
 */
static void
put_character(StringInfo out, uint32 c)
{
    switch (c)
    {
        case '&': appendStringInfoString(out, "&amp;"); return;
        case '<': appendStringInfoString(out, "&lt;"); return;
        case '>': appendStringInfoString(out, "&gt;"); return;
        case '"': appendStringInfoString(out, "&quot;"); return;
        case '\'': appendStringInfoString(out, "&#39;"); return;
        case '\n':
        case '\t': appendStringInfoChar(out, (char) c); return;
    }
    if (c < 0x20)
        c += 0x2400;
    else if (c == 0x7F)
        c = 0x2421;
    else if ((c > 0x7F && c < 0xA0) || (c >= 0x202A && c <= 0x202E) ||
             (c >= 0x2066 && c <= 0x2069) || (c >= 0xD800 && c < 0xE000) ||
             (c & 0xFFFE) == 0xFFFE || (c >= 0xFDD0 && c < 0xFDF0) || c > 0x10FFFF)
        c = REPLACEMENT;
    if (c < 0x7F)
        appendStringInfoChar(out, (char) c);
    else
        appendStringInfo(out, "&#%u;", c);
}

/* The bytes as UTF-8, as far as they have a meaning there; *length of them. */
static const unsigned char *
as_utf8(const char *text, int *length)
{
    int encoding = GetDatabaseEncoding();
    StringInfoData out;

    if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
        return (const unsigned char *) text;
    initStringInfo(&out);
    for (int i = 0; i < *length;)
    {
        int whole = pg_mblen(text + i);
        int size = Min(whole, *length - i);
        unsigned char buffer[MAX_CONVERSION_GROWTH * 8 + 1];
        Oid proc =
            IS_HIGHBIT_SET(text[i]) ? FindDefaultConversionProc(encoding, PG_UTF8) : InvalidOid;

        if (!IS_HIGHBIT_SET(text[i]))
            appendBinaryStringInfo(&out, text + i, size);
        else if (OidIsValid(proc) &&
                 pg_do_encoding_conversion_buf(proc, encoding, PG_UTF8,
                                               (unsigned char *) unconstify(char *, text) + i, size,
                                               buffer, sizeof(buffer), true) == size)
            appendStringInfoString(&out, (char *) buffer);
        else
            appendStringInfoString(&out, "\xEF\xBF\xBD");
        i += size;
    }
    *length = out.len;
    return (const unsigned char *) out.data;
}

/* (text, limit integer) returns text: at most so many characters, and then how many more there are */
Datum
fleet_sql_html(PG_FUNCTION_ARGS)
{
    text *input = PG_GETARG_TEXT_PP(0);
    int limit = PG_GETARG_INT32(1), length = VARSIZE_ANY_EXHDR(input), characters = 0;
    const unsigned char *s = as_utf8(VARDATA_ANY(input), &length);
    StringInfoData out;

    initStringInfo(&out);
    for (int i = 0; i < length; characters++)
    {
        int size = pg_utf_mblen(s + i);
        bool legal = size <= length - i && pg_utf8_islegal(s + i, size);

        if (characters < limit)
            put_character(&out, legal ? utf8_to_unicode(s + i) : REPLACEMENT);
        i += legal ? size : 1;
    }
    if (characters > limit)
        appendStringInfo(&out, "&#8230; (%d more characters)", characters - limit);
    PG_RETURN_TEXT_P(cstring_to_text_with_len(out.data, out.len));
}

/* ---- parameters ---- */

/* Does this name say that its value is a secret? */
static bool
names_secret(const char *name, int length)
{
    static const char *const within[] = {"password",    "passwd",     "passphrase", "secret",
                                         "token",       "credential", "api_key",    "apikey",
                                         "private_key", "access_key"};
    static const char *const whole[] = {"pass", "pwd", "auth", "authorization"};
    char *lower = asc_tolower(name, length);

    for (size_t i = 0; i < lengthof(within); i++)
        if (strstr(lower, within[i]) != NULL)
            return true;
    for (size_t i = 0; i < lengthof(whole); i++)
        if (strcmp(lower, whole[i]) == 0)
            return true;
    return false;
}

/* (jsonb) returns jsonb: with "(hidden)" for each value whose name says that it is a secret, at any depth */
Datum
fleet_sql_without_secrets(PG_FUNCTION_ARGS)
{
    JsonbIterator *iterator = JsonbIteratorInit(&PG_GETARG_JSONB_P(0)->root);
    JsonbParseState *state = NULL;
    JsonbValue value, *result = NULL;
    JsonbIteratorToken token = JsonbIteratorNext(&iterator, &value, false);
    bool scalar = token == WJB_BEGIN_ARRAY && value.val.array.rawScalar;

    if (scalar) /* it has no names */
        PG_RETURN_DATUM(PG_GETARG_DATUM(0));
    while (token != WJB_DONE)
    {
        bool has_value = token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM;

        result = pushJsonbValue(&state, token, has_value ? &value : NULL);
        if (token == WJB_KEY && names_secret(value.val.string.val, value.val.string.len))
        {
            (void) JsonbIteratorNext(&iterator, &value, true); /* with all that is in it */
            value.type = jbvString;
            value.val.string.val = pstrdup("(hidden)");
            value.val.string.len = strlen("(hidden)");
            result = pushJsonbValue(&state, WJB_VALUE, &value);
        }
        token = JsonbIteratorNext(&iterator, &value, false);
    }
    PG_RETURN_JSONB_P(JsonbValueToJsonb(result));
}

/* ---- drawings ---- */

static Datum *
elements(FunctionCallInfo fcinfo, int arg, Oid type, int *count)
{
    Datum *values;
    bool *nulls;

    deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, type == INT4OID ? 4 : 8, true,
                      type == INT4OID ? TYPALIGN_INT : TYPALIGN_DOUBLE, &values, &nulls, count);
    for (int i = 0; i < *count; i++)
        if (nulls[i])
            elog(ERROR, "null in argument %d of a drawing", arg);
    return values;
}

static uint32 *
numbers(FunctionCallInfo fcinfo, int arg, int *count)
{
    Datum *values = elements(fcinfo, arg, INT4OID, count);
    uint32 *result = palloc(sizeof(uint32) * Max(*count, 1));

    for (int i = 0; i < *count; i++)
        result[i] = (uint32) DatumGetInt32(values[i]);
    return result;
}

/*
 * (tasks integer, from integer[], to integer[]) returns table (edge integer, task integer, layer integer, place float8):
 * tasks and edges are numbered from 0; edge is null in the row of a task
 */
/* A number that is at least so much. */
static uint32
number_from(int32 value, int32 least)
{
    return (uint32) Max(value, least);
}

Datum
fleet_sql_drawing(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    int nfrom, nto;
    uint32 *from = numbers(fcinfo, 1, &nfrom), *to = numbers(fcinfo, 2, &nto);
    FleetDrawing drawing;

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    fleet_drawing_create(&fleet_palloc, number_from(PG_GETARG_INT32(0), 0), from, to,
                         (uint32) Min(nfrom, nto), &drawing);
    for (uint32 i = 0; i < drawing.npoints; i++)
    {
        const FleetDrawingPoint *point = &drawing.points[i];
        Datum values[4];
        bool nulls[4] = {point->edge == FLEET_DRAWING_TASK, false, false, false};

        values[0] = Int32GetDatum((int32) point->edge);
        values[1] = Int32GetDatum((int32) point->task);
        values[2] = Int32GetDatum((int32) point->layer);
        values[3] = Float8GetDatum(point->place);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    return (Datum) 0;
}

/* (starts bigint[], ends bigint[], limit integer) returns integer[]: the row of each span, which are ordered by start */
Datum
fleet_sql_drawing_rows(PG_FUNCTION_ARGS)
{
    int nstart, nend, n;
    Datum *start = elements(fcinfo, 0, INT8OID, &nstart),
          *end = elements(fcinfo, 1, INT8OID, &nend);
    FleetTime *starts, *ends;
    uint32 *rows;
    Datum *result;

    n = Min(nstart, nend);
    starts = palloc(sizeof(FleetTime) * Max(n, 1));
    ends = palloc(sizeof(FleetTime) * Max(n, 1));
    rows = palloc(sizeof(uint32) * Max(n, 1));
    result = palloc(sizeof(Datum) * Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        starts[i] = DatumGetInt64(start[i]);
        ends[i] = DatumGetInt64(end[i]);
    }
    fleet_drawing_rows(&fleet_palloc, starts, ends, (uint32) n, number_from(PG_GETARG_INT32(2), 1),
                       rows);
    for (int i = 0; i < n; i++)
        result[i] = Int32GetDatum((int32) rows[i]);
    PG_RETURN_ARRAYTYPE_P(construct_array(result, n, INT4OID, 4, true, TYPALIGN_INT));
}

typedef struct Span
{
    FleetTime start, end;
    uint32 class;
} Span;

static int
compare_spans(const void *a, const void *b)
{
    const Span *x = a, *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/*
 * (starts bigint[], ends bigint[], classes integer[], limit integer, distance bigint) returns
 * table (lane integer, class integer, starts bigint, ends bigint): the rows of spans in any order, and in each
 * row those of one class and closer together than the distance as one
 */
Datum
fleet_sql_drawing_spans(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    int nstart, nend, nclass, n;
    Datum *start = elements(fcinfo, 0, INT8OID, &nstart),
          *end = elements(fcinfo, 1, INT8OID, &nend);
    uint32 *classes = numbers(fcinfo, 2, &nclass), *rows, count;
    FleetTime *starts, *ends;
    Span *spans;
    FleetDrawingSpan *joined;

    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    n = Min(Min(nstart, nend), nclass);
    spans = palloc(sizeof(Span) * Max(n, 1));
    for (int i = 0; i < n; i++)
        spans[i] = (Span){DatumGetInt64(start[i]), DatumGetInt64(end[i]), classes[i]};
    qsort(spans, n, sizeof(Span), compare_spans);
    starts = palloc(sizeof(FleetTime) * Max(n, 1));
    ends = palloc(sizeof(FleetTime) * Max(n, 1));
    rows = palloc(sizeof(uint32) * Max(n, 1));
    joined = palloc(sizeof(FleetDrawingSpan) * Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        starts[i] = spans[i].start;
        ends[i] = spans[i].end;
        classes[i] = spans[i].class;
    }
    fleet_drawing_rows(&fleet_palloc, starts, ends, (uint32) n, number_from(PG_GETARG_INT32(3), 1),
                       rows);
    count = fleet_drawing_join(&fleet_palloc, starts, ends, classes, rows, (uint32) n,
                               PG_GETARG_INT64(4), joined);
    for (uint32 i = 0; i < count; i++)
    {
        Datum values[4];
        bool nulls[4] = {false};

        values[0] = Int32GetDatum((int32) joined[i].row);
        values[1] = Int32GetDatum((int32) joined[i].class);
        values[2] = Int64GetDatum(joined[i].start);
        values[3] = Int64GetDatum(joined[i].end);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    return (Datum) 0;
}
