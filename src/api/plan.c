/*
 * api/plan.c
 *     fleet_catalog.play(): arrays that SQL has collected become the core's
 *     input, the core plays the run on virtual time; and what the core makes of
 *     learned numbers.  In any session; behind fleet.plan(), fleet.advise(),
 *     fleet.progress and fleet.server_status.
 */
#include "postgres.h"

#include "api/alloc.h"
#include "catalog/pg_type.h"
#include "core/estimate.h"
#include "core/plan/plan.h"
#include "core/speed.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(fleet_sql_play);
PG_FUNCTION_INFO_V1(fleet_sql_mean_us);
PG_FUNCTION_INFO_V1(fleet_sql_speed);

#define REST (-1) /* ARG_SERVERS: the rest of a run */
#define OVERHEAD FLEET_MS(5)
#define SEED 1

/* Arguments by number, as 51_plan.sql has them. */
enum
{
    ARG_TASKS,
    ARG_KINDS,
    ARG_JOINS,
    ARG_ITEMS,
    ARG_THROTTLES,
    ARG_POLICIES,
    ARG_ESTIMATES,
    ARG_ITEM_ESTIMATES,
    ARG_FROM,
    ARG_TO,
    ARG_OUTCOMES,
    ARG_SLOTS,
    ARG_WEIGHTS,
    ARG_SPEEDS,
    ARG_STATES,
    ARG_MEMBERS,
    ARG_MEMBER_TASKS,
    ARG_GROUPED,
    ARG_LOCAL_SLOTS,
    ARG_DEFAULT,
    ARG_SERVERS,
    ARG_BEGUN_TASKS,
    ARG_BEGUN_ITEMS,
    ARG_BEGUN_STATES,
    ARG_BEGUN_SERVERS,
    ARG_BEGUN,
};

static Datum *
elements(FunctionCallInfo fcinfo, int arg, Oid type, int *count)
{
    Datum *values;
    bool *nulls;

    if (type == TEXTOID)
        deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, -1, false, TYPALIGN_INT, &values,
                          &nulls, count);
    else if (type == INT4OID)
        deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, 4, true, TYPALIGN_INT, &values, &nulls,
                          count);
    else
        deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
                          &values, &nulls, count);
    for (int i = 0; i < *count; i++)
    {
        if (nulls[i])
            elog(ERROR, "null in argument %d of the planner", arg);
    }
    return values;
}

/* One array of exactly "count" integers. */
static int *
integers(FunctionCallInfo fcinfo, int arg, int count)
{
    int n;
    Datum *values = elements(fcinfo, arg, INT4OID, &n);
    int *result = palloc(sizeof(int) * Max(n, 1));

    if (count >= 0 && n != count)
        elog(ERROR, "argument %d of the planner has %d elements instead of %d", arg, n, count);
    for (int i = 0; i < n; i++)
        result[i] = DatumGetInt32(values[i]);
    return result;
}

static FleetTime *
times(FunctionCallInfo fcinfo, int arg, int *count)
{
    Datum *values = elements(fcinfo, arg, INT8OID, count);
    FleetTime *result = palloc(sizeof(FleetTime) * Max(*count, 1));

    for (int i = 0; i < *count; i++)
        result[i] = DatumGetInt64(values[i]);
    return result;
}

/* The core is pure, and does not know that it can be interrupted. */
static void
check_for_interrupts(void *arg)
{
    CHECK_FOR_INTERRUPTS();
}

/* Kinds of tasks: those of the core or this, 10 more of a final task, 20 of a handler. */
#define KIND_LEFT_OUT 9

static void
read_tasks(FunctionCallInfo fcinfo, FleetTaskSpec **tasks, int *ntasks, FleetPlanInput *input)
{
    Datum *names = elements(fcinfo, ARG_TASKS, TEXTOID, ntasks);
    int n = *ntasks, nestimates;
    int *kinds = integers(fcinfo, ARG_KINDS, n);
    int *joins = integers(fcinfo, ARG_JOINS, n);
    int *items = integers(fcinfo, ARG_ITEMS, n);
    int *throttles = integers(fcinfo, ARG_THROTTLES, n);
    int *policies = integers(fcinfo, ARG_POLICIES, n);
    Datum *estimates = elements(fcinfo, ARG_ESTIMATES, INT8OID, &nestimates);
    int nlengths, next = 0;
    FleetTime *lengths = times(fcinfo, ARG_ITEM_ESTIMATES, &nlengths);
    FleetPlanItems *plan_items = palloc0(sizeof(FleetPlanItems) * Max(n, 1));

    if (nestimates != n)
        elog(ERROR, "wrong number of estimates");
    *tasks = palloc0(sizeof(FleetTaskSpec) * Max(n, 1));
    for (int i = 0; i < n; i++)
    {
        FleetTaskSpec *task = &(*tasks)[i];

        task->name = TextDatumGetCString(names[i]);
        task->left_out = kinds[i] % 10 == KIND_LEFT_OUT;
        task->last = kinds[i] / 10 == 1;
        task->handler = kinds[i] / 10 == 2; /* nothing fails in a plan: it is skipped */
        task->kind = task->left_out ? FLEET_TASK_PACKAGE : (FleetTaskKind) (kinds[i] % 10);
        task->join = (FleetJoin) joins[i];
        task->policy = (FleetPolicy) policies[i];
        task->throttle = (uint32_t) throttles[i];
        task->completion = FLEET_CONTINUE;
        task->target = (uint32_t) i; /* each task has a target of its own */
        task->estimate = task->left_out ? 0 : DatumGetInt64(estimates[i]);
        if (items[i] >= 0)
        {
            task->for_each = true;
            plan_items[input->nitems].task = (uint32_t) i;
            plan_items[input->nitems].estimates = &lengths[next];
            plan_items[input->nitems++].count = (uint32_t) items[i];
            next += items[i];
        }
    }
    if (next != nlengths)
        elog(ERROR, "wrong number of estimates of items");
    input->items = plan_items;
}

static FleetGraph *
read_graph(FunctionCallInfo fcinfo, const FleetTaskSpec *tasks, int ntasks)
{
    int nedges;
    Datum *from = elements(fcinfo, ARG_FROM, INT4OID, &nedges);
    int *to = integers(fcinfo, ARG_TO, nedges);
    int *outcomes = integers(fcinfo, ARG_OUTCOMES, nedges);
    FleetEdgeSpec *edges = palloc0(sizeof(FleetEdgeSpec) * Max(nedges, 1));
    FleetError error;
    FleetGraph *graph;

    for (int i = 0; i < nedges; i++)
    {
        edges[i].from = (uint32_t) DatumGetInt32(from[i]);
        edges[i].to = (uint32_t) to[i];
        edges[i].on = (FleetOutcome) outcomes[i];
    }
    graph = fleet_graph_create(&fleet_palloc, tasks, (uint32_t) ntasks, edges, (uint32_t) nedges,
                               &error);
    if (graph == NULL)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_OBJECT_DEFINITION), errmsg_internal("%s", error.message)));
    return graph;
}

/* The servers, and after them the local one. */
static void
read_servers(FunctionCallInfo fcinfo, FleetPlanInput *input)
{
    int n, m;
    Datum *slots = elements(fcinfo, ARG_SLOTS, INT4OID, &n);
    Datum *weights = elements(fcinfo, ARG_WEIGHTS, FLOAT8OID, &m);
    Datum *speeds = elements(fcinfo, ARG_SPEEDS, FLOAT8OID, &m);
    int *states = integers(fcinfo, ARG_STATES, n);
    FleetServerSpec *servers = palloc0(sizeof(FleetServerSpec) * (n + 1));

    for (int i = 0; i < n; i++)
    {
        servers[i].state = (FleetServerState) states[i];
        servers[i].slots = (uint32_t) DatumGetInt32(slots[i]);
        servers[i].weight = DatumGetFloat8(weights[i]);
        servers[i].speed = DatumGetFloat8(speeds[i]);
    }
    servers[n].state = FLEET_SERVER_ONLINE;
    servers[n].slots = (uint32_t) PG_GETARG_INT32(ARG_LOCAL_SLOTS);
    servers[n].weight = servers[n].speed = 1;
    input->servers = servers;
    input->nservers = (uint32_t) n + 1;
    input->local_server = (uint32_t) n;
}

/* Members come ordered by task. */
static void
read_targets(FunctionCallInfo fcinfo, FleetPlanInput *input, int ntasks)
{
    int n;
    Datum *members = elements(fcinfo, ARG_MEMBERS, INT4OID, &n);
    int *tasks = integers(fcinfo, ARG_MEMBER_TASKS, n);
    uint32_t *servers = palloc(sizeof(uint32_t) * Max(n, 1));
    const uint32_t **targets = palloc0(sizeof(uint32_t *) * Max(ntasks, 1));
    uint32_t *sizes = palloc0(sizeof(uint32_t) * Max(ntasks, 1));
    int *grouped = integers(fcinfo, ARG_GROUPED, ntasks);
    bool *groups = palloc(sizeof(bool) * Max(ntasks, 1));

    for (int i = 0; i < ntasks; i++)
        groups[i] = grouped[i] != 0;
    for (int i = 0; i < ntasks; i++)
        targets[i] = servers;
    for (int i = 0; i < n; i++)
    {
        servers[i] = (uint32_t) DatumGetInt32(members[i]);
        if (sizes[tasks[i]]++ == 0)
            targets[tasks[i]] = &servers[i];
    }
    input->targets = targets;
    input->target_sizes = sizes;
    input->groups = groups;
    input->ntargets = (uint32_t) ntasks;
}

static void
cannot_plan(const FleetError *error)
{
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("the package cannot be planned: %s", error->message),
                    error->hint[0] != '\0' ? errhint("%s", error->hint)
                                           : errhint("See fleet.server_status.")));
}

static void
put_plan(ReturnSetInfo *rsinfo, const FleetPlan *plan)
{
    for (uint32_t i = 0; i < plan->ntasks; i++)
    {
        const FleetPlanTask *task = &plan->tasks[i];
        Datum values[8];
        bool nulls[8] = {false};

        values[0] = Int32GetDatum((int32) task->task);
        values[1] = Int32GetDatum((int32) task->item);
        values[2] = Int32GetDatum((int32) task->server);
        nulls[2] = task->server == FLEET_NO_SERVER;
        values[3] = Int64GetDatum(task->start);
        values[4] = Int64GetDatum(task->end);
        values[5] = BoolGetDatum(task->critical);
        values[6] = Int64GetDatum(plan->makespan);
        values[7] = Int64GetDatum(plan->lower_bound);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
}

static void
put_what_if(ReturnSetInfo *rsinfo, const FleetPlanInput *input, int servers)
{
    for (int n = 1; n <= servers; n++)
    {
        FleetTime makespan, lower_bound;
        FleetError error;
        Datum values[8];
        bool nulls[8] = {true, true, false, true, true, true, false, false};

        CHECK_FOR_INTERRUPTS();
        memset(&error, 0, sizeof(error));
        if (!fleet_plan_what_if(&fleet_palloc, input, (uint32_t) n, &makespan, &lower_bound,
                                &error))
            cannot_plan(&error);
        values[2] = Int32GetDatum(n);
        values[6] = Int64GetDatum(makespan);
        values[7] = Int64GetDatum(lower_bound);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
}

/* A row that does not fit the definition (of a run that somebody put there by hand) is passed over. */
static bool
fits(const FleetPlanInput *input, const FleetPlanBegun *begun)
{
    if (begun->task >= fleet_graph_ntasks(input->graph))
        return false;
    if (begun->item == 0)
        return true;
    for (uint32_t i = 0; i < input->nitems; i++)
        if (input->items[i].task == begun->task)
            return begun->item <= input->items[i].count;
    return false;
}

/* Nothing where the run cannot go on: no server of some task is online. */
static void
put_rest(FunctionCallInfo fcinfo, ReturnSetInfo *rsinfo, const FleetPlanInput *input)
{
    int n, nsince;
    Datum *tasks = elements(fcinfo, ARG_BEGUN_TASKS, INT4OID, &n);
    int *items = integers(fcinfo, ARG_BEGUN_ITEMS, n);
    int *states = integers(fcinfo, ARG_BEGUN_STATES, n);
    int *servers = integers(fcinfo, ARG_BEGUN_SERVERS, n);
    FleetTime *since = times(fcinfo, ARG_BEGUN, &nsince), rest;
    FleetPlanBegun *begun = palloc(sizeof(FleetPlanBegun) * Max(n, 1));
    uint32_t nbegun = 0;
    Datum values[8];
    bool nulls[8] = {true, true, true, true, true, true, false, true};
    FleetError error;

    if (nsince != n)
        elog(ERROR, "wrong number of what has begun");
    for (int i = 0; i < n; i++)
    {
        begun[nbegun] =
            (FleetPlanBegun){.task = (uint32_t) DatumGetInt32(tasks[i]),
                             .item = (uint32_t) items[i],
                             .state = (FleetState) states[i],
                             .server = servers[i] < 0 ? input->local_server : (uint32_t) servers[i],
                             .elapsed = since[i]};
        if (fits(input, &begun[nbegun]))
            nbegun++;
    }
    if (!fleet_plan_rest(&fleet_palloc, input, begun, nbegun, &rest, &error))
        return;
    values[6] = Int64GetDatum(rest);
    tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

Datum
fleet_sql_play(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
    int servers = PG_GETARG_INT32(ARG_SERVERS);
    FleetPlanInput input;
    FleetTaskSpec *tasks;
    int ntasks;

    InitMaterializedSRF(fcinfo, 0);
    memset(&input, 0, sizeof(input));
    input.default_duration = PG_GETARG_INT64(ARG_DEFAULT);
    input.pause = check_for_interrupts;
    input.overhead = OVERHEAD;
    input.seed = SEED;
    read_tasks(fcinfo, &tasks, &ntasks, &input);
    input.graph = read_graph(fcinfo, tasks, ntasks);
    read_servers(fcinfo, &input);
    read_targets(fcinfo, &input, ntasks);
    if (servers > 0)
        put_what_if(rsinfo, &input, servers);
    else if (servers == REST)
        put_rest(fcinfo, rsinfo, &input);
    else
    {
        FleetPlan plan;
        FleetError error;

        memset(&error, 0, sizeof(error));
        if (!fleet_plan_create(&fleet_palloc, &input, &plan, &error))
            cannot_plan(&error);
        put_plan(rsinfo, &plan);
        fleet_plan_free(&fleet_palloc, &plan);
    }
    return (Datum) 0;
}

/* ---- what was learned ---- */

Datum
fleet_sql_mean_us(PG_FUNCTION_ARGS)
{
    int32 samples = PG_GETARG_INT32(2);
    FleetEstimate estimate = {PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1), (uint32_t) Max(samples, 0)};

    PG_RETURN_INT64(fleet_estimate_mean(&estimate));
}

Datum
fleet_sql_speed(PG_FUNCTION_ARGS)
{
    FleetSpeed speed = {PG_GETARG_FLOAT8(0), PG_GETARG_FLOAT8(1)};

    PG_RETURN_FLOAT8(fleet_speed_value(&speed));
}
