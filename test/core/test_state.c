/*
 * test_state.c
 *     The table of transitions: complete, closed, and the same in all its forms.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/state.h"

#define NEVENTS (FLEET_EVENT_AGAIN + 1)
#define NSTATES (FLEET_UNKNOWN + 1)

/* The index answers exactly what the flat list says, and nothing else. */
static void
index_equals_list(void **state)
{
    int legal = 0;

    (void) state;
    for (int i = 0; i < fleet_transition_count; i++)
    {
        const FleetTransition *t = &fleet_transitions[i];
        FleetState next = 0;

        assert_true(fleet_state_next(t->machine, t->from, t->event, &next));
        assert_int_equal(next, t->to);
        assert_true(strlen(t->note) > 5);
    }
    for (int m = 0; m <= FLEET_MACHINE_STEP; m++)
    {
        for (int s = 0; s < NSTATES; s++)
        {
            for (int e = 0; e < NEVENTS; e++)
            {
                FleetState next = (FleetState) 99;

                if (fleet_state_next((FleetMachine) m, (FleetState) s, (FleetEvent) e, &next))
                    legal++;
                else
                    assert_int_equal(next, 99); /* untouched */
            }
        }
    }
    assert_int_equal(legal, fleet_transition_count);
}

static void
final_states_are_final(void **state)
{
    (void) state;
    for (int i = 0; i < fleet_transition_count; i++)
    {
        const FleetTransition *t = &fleet_transitions[i];

        if (!FLEET_STATE_IS_FINAL(t->from))
            continue;
        /* but for a task run that somebody wants once more: what succeeded is never among them */
        assert_int_equal(t->machine, FLEET_MACHINE_TASK);
        assert_int_equal(t->event, FLEET_EVENT_AGAIN);
        assert_int_equal(t->to, FLEET_QUEUED);
        assert_int_not_equal(t->from, FLEET_SUCCEEDED);
    }
}

/* From every state that a machine can be in, a final one can be reached; a cancel is legal in every
 * state but 'canceling' (and for a run or a job it is never refused before its end). */
static void
no_limbo(void **state)
{
    (void) state;
    for (int m = 0; m <= FLEET_MACHINE_STEP; m++)
    {
        bool ends[NSTATES] = {false}, changed = true;

        for (int s = FLEET_SUCCEEDED; s < NSTATES; s++)
            ends[s] = true;
        while (changed)
        {
            changed = false;
            for (int i = 0; i < fleet_transition_count; i++)
            {
                const FleetTransition *t = &fleet_transitions[i];

                if ((int) t->machine == m && ends[t->to] && !ends[t->from])
                    changed = ends[t->from] = true;
            }
        }
        for (int i = 0; i < fleet_transition_count; i++)
        {
            const FleetTransition *t = &fleet_transitions[i];
            FleetState next;

            if ((int) t->machine != m)
                continue;
            assert_true(ends[t->from]);
            if (t->from != FLEET_CANCELING && !FLEET_STATE_IS_FINAL(t->from))
                assert_true(fleet_state_next(t->machine, t->from, FLEET_EVENT_CANCEL, &next));
        }
    }
}

/* "path[from][to]": events of the list lead there, by an algorithm of the test's own. */
static void
paths(FleetMachine machine, bool path[NSTATES][NSTATES])
{
    memset(path, 0, sizeof(bool) * NSTATES * NSTATES);
    for (int i = 0; i < fleet_transition_count; i++)
    {
        const FleetTransition *t = &fleet_transitions[i];

        if (t->machine == machine)
            path[t->from][t->to] = path[t->from][t->from] = true;
    }
    for (int via = 0; via < NSTATES; via++)
    {
        for (int from = 0; from < NSTATES; from++)
        {
            for (int to = 0; to < NSTATES; to++)
                path[from][to] = path[from][to] || (path[from][via] && path[via][to]);
        }
    }
}

/* What a row may become after several events: exactly what the list leads to, however it is asked. */
static void
rows_follow_the_list(void **state)
{
    bool path[NSTATES][NSTATES];

    (void) state;
    for (int again = 0; again < 2; again++)
    {
        for (int m = 0; m <= FLEET_MACHINE_STEP; m++)
        {
            paths((FleetMachine) m, path);
            for (int from = NSTATES - 1; from >= 0; from--)
            {
                for (int to = 0; to < NSTATES; to++)
                    assert_int_equal(
                        fleet_state_reaches((FleetMachine) m, (FleetState) from, (FleetState) to),
                        path[from][to]);
            }
        }
    }
}

static void
rows_by_example(void **state)
{
    (void) state;
    /* several events of one turn */
    assert_true(fleet_state_reaches(FLEET_MACHINE_TASK, FLEET_QUEUED, FLEET_SUCCEEDED));
    assert_true(fleet_state_reaches(FLEET_MACHINE_RUN, FLEET_QUEUED, FLEET_CANCELED));
    /* the same attempt of a step again */
    assert_true(fleet_state_reaches(FLEET_MACHINE_STEP, FLEET_RUNNING, FLEET_STARTING));
    /* a step whose transaction id is stored is still running */
    assert_true(fleet_state_reaches(FLEET_MACHINE_STEP, FLEET_RUNNING, FLEET_RUNNING));
    /* what has ended stays as it is, and is not written again either */
    for (int m = 0; m <= FLEET_MACHINE_STEP; m++)
    {
        for (int from = FLEET_SUCCEEDED; from < NSTATES; from++)
        {
            for (int to = 0; to < NSTATES && (m != FLEET_MACHINE_TASK || from == FLEET_SUCCEEDED);
                 to++)
                assert_false(
                    fleet_state_reaches((FleetMachine) m, (FleetState) from, (FleetState) to));
        }
    }
    /* but a task run that is started once more */
    assert_true(fleet_state_reaches(FLEET_MACHINE_TASK, FLEET_FAILED, FLEET_RUNNING));
    /* a cancel is never taken back */
    assert_false(fleet_state_reaches(FLEET_MACHINE_RUN, FLEET_CANCELING, FLEET_RUNNING));
    assert_false(fleet_state_reaches(FLEET_MACHINE_JOB, FLEET_CANCELING, FLEET_RUNNING));
    /* what has begun cannot be queued again, but for a task run or a step */
    assert_false(fleet_state_reaches(FLEET_MACHINE_RUN, FLEET_RUNNING, FLEET_QUEUED));
    assert_false(fleet_state_reaches(FLEET_MACHINE_JOB, FLEET_RUNNING, FLEET_QUEUED));
    /* states that a machine does not have */
    assert_false(fleet_state_reaches(FLEET_MACHINE_RUN, FLEET_STARTING, FLEET_STARTING));
    assert_false(fleet_state_reaches(FLEET_MACHINE_RUN, FLEET_QUEUED, FLEET_LOST));
    assert_false(fleet_state_reaches(FLEET_MACHINE_JOB, FLEET_QUEUED, FLEET_SKIPPED));
    /* nonsense */
    assert_false(fleet_state_reaches((FleetMachine) 9, FLEET_QUEUED, FLEET_RUNNING));
    assert_false(fleet_state_reaches(FLEET_MACHINE_TASK, (FleetState) 0, FLEET_RUNNING));
    assert_false(fleet_state_reaches(FLEET_MACHINE_TASK, (FleetState) 77, FLEET_RUNNING));
    assert_false(fleet_state_reaches(FLEET_MACHINE_TASK, FLEET_QUEUED, (FleetState) 77));
}

static void
nonsense_is_illegal(void **state)
{
    FleetState next;

    (void) state;
    assert_false(fleet_state_next((FleetMachine) 9, FLEET_QUEUED, FLEET_EVENT_START, &next));
    assert_false(fleet_state_next(FLEET_MACHINE_TASK, (FleetState) 77, FLEET_EVENT_START, &next));
    assert_false(fleet_state_next(FLEET_MACHINE_TASK, FLEET_QUEUED, (FleetEvent) 77, &next));
}

static void
names(void **state)
{
    FleetState parsed;

    (void) state;
    for (int s = 0; s < NSTATES + 3; s++)
    {
        const char *name = fleet_state_name((FleetState) s);

        if (name == NULL)
            continue;
        assert_true(fleet_state_parse(name, &parsed));
        assert_int_equal(parsed, s);
    }
    assert_string_equal(fleet_state_name(FLEET_CANCELING), "canceling");
    assert_null(fleet_state_name((FleetState) 7));
    assert_null(fleet_state_name((FleetState) 700));
    assert_false(fleet_state_parse("limbo", &parsed));
    assert_string_equal(fleet_machine_name(FLEET_MACHINE_STEP), "step");
    assert_null(fleet_machine_name((FleetMachine) 9));
    assert_string_equal(fleet_event_name(FLEET_EVENT_NOT_STARTED), "not started");
    assert_null(fleet_event_name((FleetEvent) 99));
    for (int e = 0; e < NEVENTS; e++)
        assert_non_null(fleet_event_name((FleetEvent) e));
}

static void
collect(void *arg, const char *text)
{
    char *buffer = arg;

    assert_true(strlen(buffer) + strlen(text) < 20000);
    strcat(buffer, text);
}

static void
graphviz(void **state)
{
    char *buffer = calloc(1, 20000);

    (void) state;
    for (int m = 0; m <= FLEET_MACHINE_STEP; m++)
    {
        buffer[0] = '\0';
        fleet_state_dot((FleetMachine) m, collect, buffer);
        assert_ptr_equal(strstr(buffer, "digraph "), buffer);
        assert_string_equal(buffer + strlen(buffer) - 2, "}\n");
        assert_non_null(strstr(buffer, "  canceled [peripheries=2];\n"));
        assert_null(strstr(buffer, "(null)"));
    }
    fleet_state_dot(FLEET_MACHINE_RUN, collect, (buffer[0] = '\0', buffer));
    assert_non_null(strstr(buffer, "  queued -> running [label=\"start\"];\n"));
    assert_null(strstr(buffer, "retrying")); /* a run is never in that state */
    fleet_state_dot(FLEET_MACHINE_TASK, collect, (buffer[0] = '\0', buffer));
    assert_non_null(strstr(buffer, "  canceling -> canceled [label=\"not started\\nstopped\"];\n"));
    free(buffer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(index_equals_list),
        cmocka_unit_test(final_states_are_final),
        cmocka_unit_test(no_limbo),
        cmocka_unit_test(rows_follow_the_list),
        cmocka_unit_test(rows_by_example),
        cmocka_unit_test(nonsense_is_illegal),
        cmocka_unit_test(names),
        cmocka_unit_test(graphviz),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
