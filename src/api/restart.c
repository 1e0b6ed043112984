/*
 * api/restart.c
 *     Which tasks of a restart run again (core/restart.h), for the SQL that
 *     writes its rows.  In sessions, and in the agent for nested runs.
 */
#include "postgres.h"

#include "api/alloc.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "core/restart.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"

PG_FUNCTION_INFO_V1(fleet_sql_restart_parts);

static FleetGraph *
plain_graph(ArrayType *from_array, ArrayType *to_array, int ntasks)
{
    Datum *from, *to;
    int nfrom, nto;
    FleetTaskSpec *tasks = palloc0(sizeof(FleetTaskSpec) * Max(ntasks, 1));
    FleetEdgeSpec *edges;
    FleetError error;
    FleetGraph *graph = NULL;

    deconstruct_array(from_array, INT4OID, 4, true, TYPALIGN_INT, &from, NULL, &nfrom);
    deconstruct_array(to_array, INT4OID, 4, true, TYPALIGN_INT, &to, NULL, &nto);
    edges = palloc0(sizeof(FleetEdgeSpec) * Max(nfrom, 1));
    for (int i = 0; i < ntasks; i++)
        tasks[i].name = psprintf("%d", i); /* the package was checked when it was made */
    for (int i = 0; i < nfrom && nfrom == nto; i++)
        edges[i] = (FleetEdgeSpec){.from = (uint32_t) DatumGetInt32(from[i]),
                                   .to = (uint32_t) DatumGetInt32(to[i])};
    if (nfrom == nto)
        graph = fleet_graph_create(&fleet_palloc, tasks, (uint32_t) ntasks, edges, (uint32_t) nfrom,
                                   &error);
    if (graph == NULL)
        ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                        errmsg("the definition of the run is invalid")));
    return graph;
}

/* (from, to of the edges; old states and choice of the tasks): what core/restart.h says. */
Datum
fleet_sql_restart_parts(PG_FUNCTION_ARGS)
{
    Datum *states, *choices, *parts, *keeps, values[2];
    bool nulls[2] = {false, false};
    int ntasks, nchoices, nedges;
    TupleDesc desc;
    FleetGraph *graph;
    FleetState *old;
    FleetRestartPart *plan;
    bool *chosen;

    deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), INT2OID, 2, true, TYPALIGN_SHORT, &states, NULL,
                      &ntasks);
    deconstruct_array(PG_GETARG_ARRAYTYPE_P(3), BOOLOID, 1, true, TYPALIGN_CHAR, &choices, NULL,
                      &nchoices);
    graph = plain_graph(PG_GETARG_ARRAYTYPE_P(0), PG_GETARG_ARRAYTYPE_P(1), ntasks);
    nedges = (int) fleet_graph_nedges(graph);
    old = palloc(sizeof(FleetState) * (Size) ntasks);
    plan = palloc(sizeof(FleetRestartPart) * (Size) ntasks);
    chosen = palloc0(sizeof(bool) * (Size) ntasks);
    parts = palloc(sizeof(Datum) * (Size) ntasks);
    keeps = palloc(sizeof(Datum) * (Size) Max(nedges, 1));
    for (int i = 0; i < ntasks; i++)
    {
        old[i] = (FleetState) DatumGetInt16(states[i]);
        chosen[i] = i < nchoices && DatumGetBool(choices[i]);
    }
    fleet_restart_plan(graph, old, chosen, plan);
    for (int i = 0; i < ntasks; i++)
        parts[i] = Int16GetDatum((int16) plan[i]);
    for (int i = 0; i < nedges; i++)
        keeps[i] = BoolGetDatum(fleet_restart_keeps(graph, (uint32_t) i, chosen, plan));
    fleet_graph_free(graph);
    values[0] = PointerGetDatum(construct_array(parts, ntasks, INT2OID, 2, true, TYPALIGN_SHORT));
    values[1] = PointerGetDatum(construct_array(keeps, nedges, BOOLOID, 1, true, TYPALIGN_CHAR));
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
