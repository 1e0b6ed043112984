/*
 * api/stat.c
 *     What SQL needs of the counters (src/sql/59_stat.sql).  In sessions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "core/stat.h"
#include "fmgr.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(fleet_sql_stat_bounds);

/* → seconds */
Datum
fleet_sql_stat_bounds(PG_FUNCTION_ARGS)
{
    Datum bounds[FLEET_STAT_BUCKETS - 1];

    for (int i = 0; i < FLEET_STAT_BUCKETS - 1; i++)
        bounds[i] = Float8GetDatum((double) fleet_stat_bounds[i] / FLEET_SECONDS(1));
    PG_RETURN_ARRAYTYPE_P(construct_array(bounds, FLEET_STAT_BUCKETS - 1, FLOAT8OID, sizeof(float8),
                                          FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}
