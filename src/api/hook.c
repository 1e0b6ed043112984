/*
 * api/hook.c
 *     SQL-callable pieces of hooks.  In any session.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/raised.h"
#include "fmgr.h"
#include "runner/runner.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(fleet_sql_event_kinds);
PG_FUNCTION_INFO_V1(fleet_sql_hook_depth);

/* () returns text[]: kinds of events that call hooks */
Datum
fleet_sql_event_kinds(PG_FUNCTION_ARGS)
{
    Datum names[FLEET_RAISED_COUNT];
    int n = 0;

    for (int kind = FLEET_RAISED_NOTHING + 1; kind < FLEET_RAISED_COUNT; kind++)
    {
        if (kind != FLEET_RAISED_HOOK_FAILED)
            names[n++] = CStringGetTextDatum(fleet_raised_name((FleetRaised) kind));
    }
    PG_RETURN_ARRAYTYPE_P(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* () returns smallint: how many hooks have led to what this session does */
Datum
fleet_sql_hook_depth(PG_FUNCTION_ARGS)
{
    PG_RETURN_INT16((int16) fleet_runner_hook_depth());
}
