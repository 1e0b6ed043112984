/*
 * api/run.c
 *     SQL-callable pieces of runs: waking the agent at COMMIT, waiting for a
 *     run, names of states.  In any session.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "store/session.h"
#include "store/state_change.h"
#include "core/state.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mailbox/mailbox.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(fleet_sql_state_change);
PG_FUNCTION_INFO_V1(fleet_sql_state_code);
PG_FUNCTION_INFO_V1(fleet_sql_state_graph);
PG_FUNCTION_INFO_V1(fleet_sql_state_name);
PG_FUNCTION_INFO_V1(fleet_sql_state_transitions);
PG_FUNCTION_INFO_V1(fleet_sql_wait_run);
PG_FUNCTION_INFO_V1(fleet_sql_wake);

/* What fleet_catalog.wake() calls the kinds of messages. */
static const struct
{
    const char *name;
    FleetMessageKind kind;
} message_names[] = {
    {"run", FLEET_MESSAGE_RUN},
    {"job_run", FLEET_MESSAGE_JOB_RUN},
    {"cancel_run", FLEET_MESSAGE_CANCEL_RUN},
    {"cancel_job_run", FLEET_MESSAGE_CANCEL_JOB},
    {"servers", FLEET_MESSAGE_SERVERS},
    {"deployments", FLEET_MESSAGE_DEPLOY},
    {"identity", FLEET_MESSAGE_IDENTITY},
    {"quarantine", FLEET_MESSAGE_QUARANTINE},
    {"skip", FLEET_MESSAGE_SKIP},
    {"retry", FLEET_MESSAGE_RETRY},
    {"purge", FLEET_MESSAGE_PURGE},
    {"pause", FLEET_MESSAGE_PAUSE},
    {"renamed", FLEET_MESSAGE_RENAMED},
    {"cancel_final", FLEET_MESSAGE_CANCEL_FINAL},
    {"limits", FLEET_MESSAGE_LIMITS},
    {"schedules", FLEET_MESSAGE_SCHEDULES},
    {"hooks", FLEET_MESSAGE_HOOKS},
    {"stat_reset", FLEET_MESSAGE_STAT_RESET},
};

/* (name of the message, id) */
Datum
fleet_sql_wake(PG_FUNCTION_ARGS)
{
    text *name = PG_GETARG_TEXT_PP(0);

    for (size_t i = 0; i < lengthof(message_names); i++)
    {
        if (VARSIZE_ANY_EXHDR(name) == strlen(message_names[i].name) &&
            memcmp(VARDATA_ANY(name), message_names[i].name, VARSIZE_ANY_EXHDR(name)) == 0)
        {
            fleet_wake_at_commit(message_names[i].kind, PG_GETARG_INT64(1));
            PG_RETURN_VOID();
        }
    }
    elog(ERROR, "unrecognized message to the agent: %s", text_to_cstring(name));
}

/* (run_id, timeout in ms or -1, wake at changes too) → (state, timed_out) */
Datum
fleet_sql_wait_run(PG_FUNCTION_ARGS)
{
    FleetWait wait = {.run_id = PG_GETARG_INT64(0),
                      .timeout_ms = (long) PG_GETARG_INT64(1),
                      .wants_changes = PG_GETARG_BOOL(2)};
    TupleDesc desc;
    Datum values[2];
    bool nulls[2] = {false, false};
    int state;

    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    desc = BlessTupleDesc(desc);
    fleet_wait_run(&wait);
    state = fleet_catalog_run_state(wait.run_id);
    nulls[0] = state == 0; /* it was removed meanwhile */
    values[0] = Int16GetDatum((int16) state);
    values[1] = BoolGetDatum(wait.timed_out);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

Datum
fleet_sql_state_name(PG_FUNCTION_ARGS)
{
    const char *name = fleet_state_name((FleetState) PG_GETARG_INT16(0));

    if (name == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(name));
}

Datum
fleet_sql_state_code(PG_FUNCTION_ARGS)
{
    char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    FleetState state;

    if (!fleet_state_parse(name, &state))
        elog(ERROR, "unrecognized state: %s", name);
    PG_RETURN_INT16((int16) state);
}

Datum
fleet_sql_state_transitions(PG_FUNCTION_ARGS)
{
    ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; i < fleet_transition_count; i++)
    {
        const FleetTransition *t = &fleet_transitions[i];
        Datum values[5];
        bool nulls[5] = {false, false, false, false, false};

        values[0] = CStringGetTextDatum(fleet_machine_name(t->machine));
        values[1] = CStringGetTextDatum(fleet_state_name(t->from));
        values[2] = CStringGetTextDatum(fleet_event_name(t->event));
        values[3] = CStringGetTextDatum(fleet_state_name(t->to));
        values[4] = CStringGetTextDatum(t->note);
        tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
    }
    return (Datum) 0;
}

static void
append_text(void *arg, const char *text)
{
    appendStringInfoString((StringInfo) arg, text);
}

static FleetMachine
machine_named(const char *wanted)
{
    static const FleetMachine machines[] = {FLEET_MACHINE_RUN, FLEET_MACHINE_TASK,
                                            FLEET_MACHINE_JOB, FLEET_MACHINE_STEP};

    for (size_t i = 0; i < lengthof(machines); i++)
    {
        if (strcmp(wanted, fleet_machine_name(machines[i])) == 0)
            return machines[i];
    }
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("\"%s\" is not a state machine of pg_fleet", wanted),
                    errhint("Valid values are: run, task, job, step.")));
}

Datum
fleet_sql_state_graph(PG_FUNCTION_ARGS)
{
    FleetMachine machine =
        machine_named(PG_ARGISNULL(0) ? "NULL" : text_to_cstring(PG_GETARG_TEXT_PP(0)));
    StringInfoData dot;

    initStringInfo(&dot);
    fleet_state_dot(machine, append_text, &dot);
    PG_RETURN_TEXT_P(cstring_to_text(dot.data));
}

/* (machine, from, to) → to; ERROR if the machine has no way from there to it. */
Datum
fleet_sql_state_change(PG_FUNCTION_ARGS)
{
    FleetMachine machine = machine_named(text_to_cstring(PG_GETARG_TEXT_PP(0)));

    fleet_state_check(machine, (FleetState) PG_GETARG_INT16(1), (FleetState) PG_GETARG_INT16(2));
    PG_RETURN_INT16(PG_GETARG_INT16(2));
}
