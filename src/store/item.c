/*
 * store/item.c
 *     Key and cost of an item, out of its parameters (item.h): the one door
 *     for both.
 */
#include "postgres.h"

#include "store/item.h"
#include "core/estimate.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

static const JsonbValue *
column_value(const Jsonb *params, const char *what, const char *column)
{
    const JsonbValue *value = getKeyJsonValueFromContainer((JsonbContainer *) &params->root, column,
                                                           (int) strlen(column), NULL);

    if (value == NULL)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                        errmsg("there is no column \"%s\", which is to be the %s", column, what)));
    return value;
}

static char *
key_text(const JsonbValue *value, const char *column)
{
    switch (value->type)
    {
        case jbvString: return pnstrdup(value->val.string.val, value->val.string.len);
        case jbvNumeric:
            return DatumGetCString(
                DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
        case jbvBool: return pstrdup(value->val.boolean ? "true" : "false");
        case jbvNull:
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("column \"%s\", which is the item_key, is null", column)));
            break;
        case jbvArray:
        case jbvObject:
        case jbvBinary:
        case jbvDatetime: break;
    }
    ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                    errmsg("column \"%s\", which is the item_key, is not a single value", column)));
    return NULL;
}

static char *
read_key(const Jsonb *params, const char *column, MemoryContext context)
{
    char *key = key_text(column_value(params, "item_key", column), column);

    if (key[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("column \"%s\", which is the item_key, is empty", column)));
    if (pg_mbstrlen(key) > FLEET_ITEM_KEY_MAX)
        ereport(ERROR, (errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
                        errmsg("column \"%s\", which is the item_key, has more than %d characters",
                               column, FLEET_ITEM_KEY_MAX)));
    return MemoryContextStrdup(context, key);
}

static double
read_cost(const Jsonb *params, const char *column)
{
    const JsonbValue *value = column_value(params, "cost", column);
    double cost;

    if (value->type == jbvNull)
        return -1;
    if (value->type != jbvNumeric)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("column \"%s\", which is the cost, is not a number", column)));
    /* too large for one: infinite, which is refused */
    cost = strtod(
        DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))),
        NULL);
    if (!fleet_cost_valid(cost))
        ereport(ERROR,
                (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                 errmsg("column \"%s\", which is the cost, is out of range: %g", column, cost)));
    return cost;
}

void
fleet_item_read(const Jsonb *params, const FleetItemColumns *columns, MemoryContext context,
                FleetItemFacts *facts)
{
    facts->key = columns->key == NULL ? NULL : read_key(params, columns->key, context);
    facts->cost = columns->cost == NULL ? -1 : read_cost(params, columns->cost);
}
