/*
 * store/definition.c
 *     Reads the snapshots of packages and jobs, and keeps them (definition.h).
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "store/definition.h"
#include "catalog/pg_type.h"
#include "store/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

static FleetStatement body_statement = {
    "SELECT d.body, d.body OPERATOR(pg_catalog.->>) 'name'"
    "  FROM fleet_catalog.definition AS d"
    " WHERE d.hash OPERATOR(pg_catalog.=) $1"
    "   AND CASE d.kind WHEN 'received' THEN 'job' ELSE d.kind END OPERATOR(pg_catalog.=) $2",
    2,
    {UUIDOID, TEXTOID},
    NULL};

static FleetStatement tasks_statement = {
    "SELECT x.name, x.kind, x.job, x.server, x.on_group, x.sql, x.package,"
    "       COALESCE(x.params, '{}'::jsonb), x.for_each, x.throttle, x.completion,"
    "       x.min_share, x.balance, x.join_type, x.on_lost, x.retries, x.retry_wait_us,"
    "       x.retry_max_us, x.retry_states, x.timeout_us, x.transactional, x.left_out,"
    "       x.final, x.catch, x.item_key, x.cost, x.limits"
    "  FROM pg_catalog.jsonb_array_elements($1 OPERATOR(pg_catalog.->) 'tasks')"
    "       WITH ORDINALITY AS e(task, n),"
    "       pg_catalog.jsonb_to_record(e.task) AS x(name text, kind text, job text, server text,"
    "         on_group text, sql text, package text, params jsonb, for_each text, throttle int,"
    "         completion text, min_share float8, balance text, join_type text, on_lost text,"
    "         retries int, retry_wait_us bigint, retry_max_us bigint, retry_states text[],"
    "         timeout_us bigint, transactional boolean, left_out text, final boolean,"
    "         catch boolean, item_key text, cost text, limits text[])"
    " ORDER BY e.n",
    1,
    {JSONBOID},
    NULL};

static FleetStatement strict_statement = {
    "SELECT COALESCE($1 OPERATOR(pg_catalog.->>) 'failed_if', '') OPERATOR(pg_catalog.=) 'any'",
    1,
    {JSONBOID},
    NULL};

static FleetStatement edges_statement = {
    "SELECT x.\"from\", x.\"to\", x.on_outcome, x.condition"
    "  FROM pg_catalog.jsonb_array_elements($1 OPERATOR(pg_catalog.->) 'precedence')"
    "       WITH ORDINALITY AS e(edge, n),"
    "       pg_catalog.jsonb_to_record(e.edge) AS x(\"from\" int, \"to\" int, on_outcome text,"
    "         condition text)"
    " ORDER BY e.n",
    1,
    {JSONBOID},
    NULL};

static FleetStatement jobs_statement = {
    "SELECT j.key, j.value, j.value::text, fleet_catalog.content_hash(j.value::text)::text,"
    "       COALESCE(($1 OPERATOR(pg_catalog.->) 'by_name') OPERATOR(pg_catalog.?) j.key, false)"
    "  FROM pg_catalog.jsonb_each(COALESCE($1 OPERATOR(pg_catalog.->) 'jobs', '{}')) AS j",
    1,
    {JSONBOID},
    NULL};

static FleetStatement job_statement = {
    "SELECT $1 OPERATOR(pg_catalog.->>) 'name',"
    "       (SELECT r.oid FROM pg_catalog.pg_roles AS r"
    "         WHERE r.rolname OPERATOR(pg_catalog.=) ($1 OPERATOR(pg_catalog.->>) 'owner')),"
    "       COALESCE($1 OPERATOR(pg_catalog.->>) 'params', '{}'),"
    "       COALESCE(($1 OPERATOR(pg_catalog.->>) 'leaves_clean')::bool, false),"
    "       COALESCE(($1 OPERATOR(pg_catalog.->>) 'start_step_no')::int, 1)",
    1,
    {JSONBOID},
    NULL};

static FleetStatement steps_statement = {
    "SELECT x.name, x.command, x.package, x.on_success, x.success_goto_no, x.on_failure,"
    "       x.failure_goto_no, x.retries, x.retry_wait_us, x.retry_max_us, x.retry_states,"
    "       x.timeout_us, x.on_unknown, x.transactional, x.single, x.run_as, x.left_out"
    "  FROM pg_catalog.jsonb_array_elements($1 OPERATOR(pg_catalog.->) 'steps')"
    "       WITH ORDINALITY AS e(step, n),"
    "       pg_catalog.jsonb_to_record(e.step) AS x(name text, command text, package text,"
    "         on_success text, success_goto_no int, on_failure text, failure_goto_no int,"
    "         retries int, retry_wait_us bigint, retry_max_us bigint, retry_states text[],"
    "         timeout_us bigint, on_unknown text, transactional boolean, single boolean,"
    "         run_as text, left_out text)"
    " ORDER BY e.n",
    1,
    {JSONBOID},
    NULL};

static Datum
read_body(const char *hash, const char *kind, char **name, MemoryContext context)
{
    Datum values[2];
    Datum body;
    MemoryContext old;

    values[0] = DirectFunctionCall1(uuid_in, CStringGetDatum(hash));
    values[1] = CStringGetTextDatum(kind);
    if (fleet_statement_run(&body_statement, values, NULL) != 1)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("the snapshot %s of a %s is missing", hash, kind)));
    old = MemoryContextSwitchTo(context);
    body = SPI_datumTransfer(
        SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &(bool){false}), false, -1);
    *name = fleet_column_text(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, context);
    MemoryContextSwitchTo(old);
    SPI_freetuptable(SPI_tuptable);
    return body;
}

/* Index of the value among the names (NULL-terminated); ERROR if none. */
static int
choice(const char *what, const char *value, const char *const *names)
{
    for (int i = 0; names[i] != NULL; i++)
    {
        if (value != NULL && strcmp(value, names[i]) == 0)
            return i;
    }
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("the snapshot has an unknown %s \"%s\"", what, value ? value : "null")));
    return -1;
}

static const char *const action_names[] = {"next", "quit_success", "quit_failure", "goto", NULL};
static const char *const unknown_names[] = {"fail", "retry", NULL};
static const char *const kind_names[] = {"job", "sql", "package", NULL};
static const char *const completion_names[] = {"fail_fast", "continue", "minimum_share", "started",
                                               NULL};
static const char *const balance_names[] = {"shortest_finish", "round_robin", "least_loaded",
                                            "weighted", NULL};
static const char *const join_names[] = {"all", "any", NULL};
static const char *const lost_names[] = {"fail", "retry", NULL};
static const char *const outcome_names[] = {"success", "failure", "completion", NULL};

/* Reads retries, wait, maximum and the array of SQLSTATEs from four columns in a row. */
static void
read_retry(HeapTuple tuple, TupleDesc desc, int column, FleetRetry *retry, MemoryContext context)
{
    bool isnull;
    Datum states;

    retry->retries = (uint16) fleet_column_int(tuple, desc, column, 0);
    retry->base = fleet_column_int(tuple, desc, column + 1, 5000000);
    retry->maximum = fleet_column_int(tuple, desc, column + 2, 300000000);
    retry->jitter_pct = 20;
    states = SPI_getbinval(tuple, desc, column + 3, &isnull);
    if (!isnull)
    {
        Datum *elements;
        bool *nulls;
        int n;
        char(*copy)[8];

        deconstruct_array(DatumGetArrayTypeP(states), TEXTOID, -1, false, TYPALIGN_INT, &elements,
                          &nulls, &n);
        copy = MemoryContextAllocZero(context, sizeof(*copy) * Max(n, 1));
        for (int i = 0; i < n; i++)
        {
            if (!nulls[i])
                strlcpy(copy[retry->nstates++], TextDatumGetCString(elements[i]), 8);
        }
        retry->states = (const char(*)[8]) copy;
    }
}

/* What has no name, or does not have just the one thing that it is to do, is none. */
static void
check_work(const char *what, const char *name, int works)
{
    if (name == NULL || works != 1)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("the snapshot has an invalid %s \"%s\"", what, name ? name : "null")));
}

static void
read_step(HeapTuple tuple, TupleDesc desc, FleetStepSpec *spec, FleetStepDef *step,
          MemoryContext context)
{
    step->name = fleet_column_text(tuple, desc, 1, context);
    step->command = fleet_column_text(tuple, desc, 2, context);
    step->package = fleet_column_text(tuple, desc, 3, context);
    check_work("step", step->name, (step->command != NULL) + (step->package != NULL));
    spec->on_success = choice("on_success", SPI_getvalue(tuple, desc, 4), action_names);
    spec->success_goto = (uint16) (fleet_column_int(tuple, desc, 5, 1) - 1);
    spec->on_failure = choice("on_failure", SPI_getvalue(tuple, desc, 6), action_names);
    spec->failure_goto = (uint16) (fleet_column_int(tuple, desc, 7, 1) - 1);
    read_retry(tuple, desc, 8, &spec->retry, context);
    spec->timeout = fleet_column_int(tuple, desc, 12, 0);
    spec->on_unknown = choice("on_unknown", SPI_getvalue(tuple, desc, 13), unknown_names);
    step->transactional = fleet_column_int(tuple, desc, 14, 1) != 0;
    step->strict = fleet_column_int(tuple, desc, 14, 0) != 0;
    step->single = fleet_column_bool(tuple, desc, 15);
    step->run_as = fleet_column_text(tuple, desc, 16, context);
    step->left_out = fleet_column_text(tuple, desc, 17, context);
}

static FleetJobDef *
read_job(Datum body, MemoryContext context)
{
    FleetJobDef *job = MemoryContextAllocZero(context, sizeof(FleetJobDef));
    FleetError error;
    uint64 n;
    int64 first;
    SPITupleTable *table;

    (void) fleet_statement_run(&job_statement, &body, NULL);
    table = SPI_tuptable;
    job->name = fleet_column_text(table->vals[0], table->tupdesc, 1, context);
    job->owner_oid = (Oid) fleet_column_int(table->vals[0], table->tupdesc, 2, InvalidOid);
    job->params = fleet_column_text(table->vals[0], table->tupdesc, 3, context);
    job->leaves_clean = fleet_column_bool(table->vals[0], table->tupdesc, 4);
    first = fleet_column_int(table->vals[0], table->tupdesc, 5, 1);
    SPI_freetuptable(table);

    n = fleet_statement_run(&steps_statement, &body, NULL);
    table = SPI_tuptable;
    job->nsteps = (uint16) n;
    job->specs = MemoryContextAllocZero(context, sizeof(FleetStepSpec) * Max(n, 1));
    job->steps = MemoryContextAllocZero(context, sizeof(FleetStepDef) * Max(n, 1));
    for (uint64 i = 0; i < n; i++)
        read_step(table->vals[i], table->tupdesc, &job->specs[i], &job->steps[i], context);
    SPI_freetuptable(table);
    if (first < 1 || first > Max(job->nsteps, 1))
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("job \"%s\" is to begin at a step that it does not have", job->name)));
    job->first = (uint16) (first - 1);
    if (!fleet_job_check(job->specs, job->nsteps, &error))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("job \"%s\" is invalid: %s", job->name, error.message)));
    return job;
}

/* The job of one sql task: one step with its command. */
static FleetJobDef *
sql_task(const FleetTaskDef *task, MemoryContext context)
{
    FleetJobDef *job = MemoryContextAllocZero(context, sizeof(FleetJobDef));

    job->name = MemoryContextStrdup(context, task->name);
    job->params = "{}";
    job->nsteps = 1;
    job->specs = MemoryContextAllocZero(context, sizeof(FleetStepSpec));
    job->specs[0].on_failure = FLEET_STEP_QUIT_FAILURE;
    job->steps = MemoryContextAllocZero(context, sizeof(FleetStepDef));
    job->steps[0].name = job->name;
    job->steps[0].command = MemoryContextStrdup(context, task->sql);
    job->steps[0].transactional = task->transactional != FLEET_TRANSACTIONAL_NO;
    job->steps[0].strict = task->transactional == FLEET_TRANSACTIONAL_YES;
    return job;
}

/* Each kind of task has what it executes; what a task of another kind has would not be looked for. */
static void
check_kind(const FleetTaskDef *task, FleetTaskKind kind)
{
    const char *work = kind == FLEET_TASK_JOB   ? task->job
                       : kind == FLEET_TASK_SQL ? task->sql
                                                : task->package;

    check_work("task", task->name,
               work == NULL ? 0
                            : (task->job != NULL) + (task->sql != NULL) + (task->package != NULL));
}

static void
read_task(HeapTuple tuple, TupleDesc desc, FleetTaskSpec *spec, FleetTaskDef *task,
          MemoryContext context)
{
    int completion;

    task->name = fleet_column_text(tuple, desc, 1, context);
    spec->name = task->name;
    spec->kind = choice("kind", SPI_getvalue(tuple, desc, 2), kind_names);
    task->job = fleet_column_text(tuple, desc, 3, context);
    task->server = fleet_column_text(tuple, desc, 4, context);
    task->group = fleet_column_text(tuple, desc, 5, context);
    task->sql = fleet_column_text(tuple, desc, 6, context);
    task->package = fleet_column_text(tuple, desc, 7, context);
    check_kind(task, (FleetTaskKind) spec->kind);
    task->params = fleet_column_text(tuple, desc, 8, context);
    task->templates = strstr(task->params, "\"$") != NULL;
    task->for_each = fleet_column_text(tuple, desc, 9, context);
    spec->for_each = task->for_each != NULL;
    spec->throttle = (uint32) fleet_column_int(tuple, desc, 10, 0);
    completion = choice("completion", SPI_getvalue(tuple, desc, 11), completion_names);
    spec->started_is_done = completion == 3;
    spec->completion = completion == 3 ? FLEET_CONTINUE : (FleetCompletion) completion;
    spec->min_share = fleet_column_double(tuple, desc, 12);
    spec->policy = choice("balance", SPI_getvalue(tuple, desc, 13), balance_names);
    spec->join = choice("join_type", SPI_getvalue(tuple, desc, 14), join_names);
    spec->on_lost = choice("on_lost", SPI_getvalue(tuple, desc, 15), lost_names);
    read_retry(tuple, desc, 16, &spec->retry, context);
    spec->timeout = fleet_column_int(tuple, desc, 20, 0);
    task->transactional =
        (FleetTransactional) fleet_column_int(tuple, desc, 21, FLEET_TRANSACTIONAL_FOUND_OUT);
    if (spec->kind == FLEET_TASK_JOB && task->server == NULL && task->group == NULL)
        spec->kind = FLEET_TASK_SQL; /* a job that runs here */
    task->left_out = fleet_column_text(tuple, desc, 22, context);
    spec->left_out = task->left_out != NULL;
    spec->last = fleet_column_bool(tuple, desc, 23);
    spec->handler = fleet_column_bool(tuple, desc, 24);
    task->columns.key = fleet_column_text(tuple, desc, 25, context);
    task->columns.cost = fleet_column_text(tuple, desc, 26, context);
    fleet_column_names(tuple, desc, 27, context, &task->limits);
}

static void
read_tasks(FleetPackageDef *package, Datum body)
{
    MemoryContext context = package->context;
    uint64 n = fleet_statement_run(&tasks_statement, &body, NULL);
    SPITupleTable *table = SPI_tuptable;

    package->ntasks = (uint32) n;
    package->tasks = MemoryContextAllocZero(context, sizeof(FleetTaskDef) * Max(n, 1));
    package->specs = MemoryContextAllocZero(context, sizeof(FleetTaskSpec) * Max(n, 1));
    for (uint64 i = 0; i < n; i++)
        read_task(table->vals[i], table->tupdesc, &package->specs[i], &package->tasks[i], context);
    SPI_freetuptable(table);
}

static void
read_edges(FleetPackageDef *package, Datum body)
{
    MemoryContext context = package->context;
    uint64 n = fleet_statement_run(&edges_statement, &body, NULL);
    SPITupleTable *table = SPI_tuptable;

    package->nedges = (uint32) n;
    package->edges = MemoryContextAllocZero(context, sizeof(FleetEdgeSpec) * Max(n, 1));
    package->conditions = MemoryContextAllocZero(context, sizeof(char *) * Max(n, 1));
    for (uint64 i = 0; i < n; i++)
    {
        FleetEdgeSpec *edge = &package->edges[i];
        HeapTuple tuple = table->vals[i];

        edge->from = (uint32) fleet_column_int(tuple, table->tupdesc, 1, -1);
        edge->to = (uint32) fleet_column_int(tuple, table->tupdesc, 2, -1);
        edge->on = choice("outcome", SPI_getvalue(tuple, table->tupdesc, 3), outcome_names);
        package->conditions[i] = fleet_column_text(tuple, table->tupdesc, 4, context);
        edge->conditional = package->conditions[i] != NULL;
    }
    SPI_freetuptable(table);
}

static void
read_jobs(FleetPackageDef *package, Datum body)
{
    MemoryContext old = MemoryContextSwitchTo(package->context);
    uint64 n = fleet_statement_run(&jobs_statement, &body, NULL);
    SPITupleTable *table = SPI_tuptable;

    for (uint64 i = 0; i < n; i++)
    {
        char *name = SPI_getvalue(table->vals[i], table->tupdesc, 1);
        bool isnull;
        Datum value = SPI_getbinval(table->vals[i], table->tupdesc, 2, &isnull);
        FleetJobDef *job = read_job(value, package->context);
        bool by_name = fleet_column_bool(table->vals[i], table->tupdesc, 5);

        job->document = fleet_column_text(table->vals[i], table->tupdesc, 3, package->context);
        job->hash = fleet_column_text(table->vals[i], table->tupdesc, 4, package->context);
        for (uint32 t = 0; t < package->ntasks; t++)
        {
            FleetTaskDef *task = &package->tasks[t];

            if (task->job == NULL || strcmp(task->job, name) != 0)
                continue;
            task->job_def = job;
            task->by_name = by_name;
        }
    }
    SPI_freetuptable(table);
    MemoryContextSwitchTo(old);
}

static FleetPackageDef *
read_package(const char *hash)
{
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "pg_fleet package", ALLOCSET_DEFAULT_SIZES);
    FleetPackageDef *package = MemoryContextAllocZero(context, sizeof(FleetPackageDef));
    Datum body;

    package->context = context;
    body = read_body(hash, "package", &package->name, context);
    (void) fleet_statement_run(&strict_statement, &body, NULL);
    package->strict = fleet_column_bool(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
    SPI_freetuptable(SPI_tuptable);
    read_tasks(package, body);
    read_edges(package, body);
    read_jobs(package, body);
    for (uint32 t = 0; t < package->ntasks; t++)
    {
        FleetTaskDef *task = &package->tasks[t];

        if (task->sql != NULL)
            task->job_def = sql_task(task, context);
    }
    return package;
}

/* ---- the cache ---- */

typedef struct DefinitionKey
{
    char hash[37];
    char kind; /* 'p' or 'j' */
} DefinitionKey;

struct FleetDefinition
{
    DefinitionKey key;
    MemoryContext context; /* of all that was read */
    Size size;             /* once it is complete */
    int users;
    dlist_node unused_node; /* in "unused", if users is 0 */
    void *def;
};

/* Of a user, in its memory context. */
typedef struct DefinitionUse
{
    MemoryContextCallback callback;
    FleetDefinition *definition;
} DefinitionUse;

static HTAB *definitions = NULL;
static dlist_head unused = DLIST_STATIC_INIT(unused); /* least recently used first */
static Size unused_size = 0;

static void
forget(FleetDefinition *definition)
{
    dlist_delete(&definition->unused_node);
    unused_size -= definition->size;
    MemoryContextDelete(definition->context);
    hash_search(definitions, &definition->key, HASH_REMOVE, NULL);
}

/* A user's memory context is reset or deleted. */
static void
leave(void *arg)
{
    FleetDefinition *definition = ((DefinitionUse *) arg)->definition;

    Assert(definition->users > 0);
    if (--definition->users > 0)
        return;
    dlist_push_tail(&unused, &definition->unused_node);
    unused_size += definition->size;
    while (unused_size > FLEET_DEFINITION_UNUSED)
        forget(dlist_container(FleetDefinition, unused_node, dlist_head_node(&unused)));
}

const char *
fleet_definition_hash(const FleetDefinition *definition)
{
    return definition->key.hash;
}

void
fleet_definition_use(FleetDefinition *definition, MemoryContext user)
{
    DefinitionUse *use = MemoryContextAlloc(user, sizeof(DefinitionUse));

    if (definition->users++ == 0)
    {
        dlist_delete(&definition->unused_node);
        unused_size -= definition->size;
    }
    use->definition = definition;
    use->callback.func = leave;
    use->callback.arg = use;
    MemoryContextRegisterResetCallback(user, &use->callback);
}

static DefinitionKey
key_of(const char *hash, char kind)
{
    DefinitionKey key = {{0}, kind};

    strlcpy(key.hash, hash, sizeof(key.hash));
    return key;
}

static FleetDefinition *
find(const DefinitionKey *key)
{
    if (definitions == NULL)
    {
        HASHCTL control = {.keysize = sizeof(DefinitionKey),
                           .entrysize = sizeof(FleetDefinition),
                           .hcxt = TopMemoryContext};

        definitions = hash_create("pg_fleet definitions", 64, &control,
                                  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    return hash_search(definitions, key, HASH_FIND, NULL);
}

/* It is complete: it counts as used least recently until its first user comes. */
static FleetDefinition *
enter(const DefinitionKey *key, MemoryContext context, void *def)
{
    FleetDefinition *definition = hash_search(definitions, key, HASH_ENTER, NULL);

    definition->context = context;
    definition->size = MemoryContextMemAllocated(context, true);
    definition->users = 0;
    definition->def = def;
    MemoryContextSetParent(context, TopMemoryContext);
    dlist_push_head(&unused, &definition->unused_node);
    unused_size += definition->size;
    return definition;
}

FleetPackageDef *
fleet_definition_package(const char *hash, MemoryContext user)
{
    DefinitionKey key = key_of(hash, 'p');
    FleetDefinition *definition = find(&key);

    if (definition == NULL)
    {
        FleetPackageDef *package = read_package(hash);

        definition = enter(&key, package->context, package);
        package->definition = definition;
        for (uint32 t = 0; t < package->ntasks; t++)
        {
            if (package->tasks[t].job_def != NULL)
                package->tasks[t].job_def->definition = definition;
        }
    }
    fleet_definition_use(definition, user);
    return definition->def;
}

FleetJobDef *
fleet_definition_job(const char *hash, MemoryContext user)
{
    DefinitionKey key = key_of(hash, 'j');
    FleetDefinition *definition = find(&key);

    if (definition == NULL)
    {
        /* the caller's, until it is complete: an error leaves nothing behind */
        MemoryContext context =
            AllocSetContextCreate(CurrentMemoryContext, "pg_fleet job", ALLOCSET_SMALL_SIZES);
        char *name;
        FleetJobDef *job = read_job(read_body(hash, "job", &name, CurrentMemoryContext), context);

        definition = enter(&key, context, job);
        job->definition = definition;
    }
    fleet_definition_use(definition, user);
    return definition->def;
}

/* ---- parameters ---- */

/* The children of a for_each have the same base, one after the other: its parsed form is kept. */
static Datum
parsed_base(const char *base)
{
    static MemoryContext context = NULL;
    static const char *text = NULL;
    static Datum parsed;
    MemoryContext before;

    if (text != NULL && strcmp(text, base) == 0)
        return parsed;
    if (context == NULL)
        context = AllocSetContextCreate(TopMemoryContext, "pg_fleet params", ALLOCSET_SMALL_SIZES);
    text = NULL;
    MemoryContextReset(context);
    before = MemoryContextSwitchTo(context);
    parsed = DirectFunctionCall1(jsonb_in, CStringGetDatum(base));
    text = pstrdup(base);
    MemoryContextSwitchTo(before);
    return parsed;
}

static char *
merge(const char *base, Datum item)
{
    Datum merged = DirectFunctionCall2(jsonb_concat, parsed_base(base), item);

    return DatumGetCString(DirectFunctionCall1(jsonb_out, merged));
}

char *
fleet_definition_merge(const char *base, const char *item)
{
    if (strcmp(base, "{}") == 0)
        return pstrdup(item);
    if (strcmp(item, "{}") == 0)
        return pstrdup(base);
    return merge(base, DirectFunctionCall1(jsonb_in, CStringGetDatum(item)));
}

char *
fleet_definition_merge_item(const char *base, const FleetItemParams *item)
{
    return strcmp(base, "{}") == 0 ? pstrdup(item->text) : merge(base, item->document);
}
