/*
 * test_job.c
 *     The steps of a job run: order, goto, retries, timeouts, cancel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "core/job.h"

typedef struct Fixture
{
    FleetStepSpec steps[4];
    uint16_t nsteps;
    FleetJobRun run;
    FleetTime now;
    FleetRandom random;
} Fixture;

static Fixture
job(uint16_t nsteps)
{
    Fixture f = {.nsteps = nsteps, .now = 1000};

    for (int i = 0; i < 4; i++)
        f.steps[i].on_failure = FLEET_STEP_QUIT_FAILURE;
    fleet_random_seed(&f.random, 1);
    fleet_job_init(&f.run);
    return f;
}

static FleetJobDo
event(Fixture *f, FleetJobEvent what)
{
    return fleet_job_event(f->steps, f->nsteps, &f->run, what, FLEET_QUEUED, NULL, f->now,
                           &f->random);
}

static FleetJobDo
ended(Fixture *f, FleetState outcome, const char *sqlstate)
{
    return fleet_job_event(f->steps, f->nsteps, &f->run, FLEET_JOB_STEP_ENDED, outcome, sqlstate,
                           f->now, &f->random);
}

static void
begin_running(Fixture *f)
{
    assert_int_equal(event(f, FLEET_JOB_BEGIN), FLEET_JOB_START_STEP);
    assert_int_equal(event(f, FLEET_JOB_STEP_RUNNING), FLEET_JOB_NOTHING);
}

/* An event that is illegal changes nothing. */
static void
illegal(Fixture *f, FleetJobEvent what, FleetState outcome)
{
    FleetJobRun before = f->run;

    assert_int_equal(
        fleet_job_event(f->steps, f->nsteps, &f->run, what, outcome, NULL, f->now, &f->random),
        FLEET_JOB_ILLEGAL);
    assert_memory_equal(&before, &f->run, sizeof(before));
}

static void
steps_in_order(void **state)
{
    Fixture f = job(3);

    (void) state;
    illegal(&f, FLEET_JOB_STEP_ENDED, FLEET_SUCCEEDED);
    illegal(&f, FLEET_JOB_TIMER, 0);
    for (int i = 0; i < 3; i++)
    {
        if (i == 0)
            assert_int_equal(event(&f, FLEET_JOB_BEGIN), FLEET_JOB_START_STEP);
        assert_int_equal(f.run.step, i);
        assert_int_equal(f.run.attempt, 1);
        assert_int_equal(f.run.step_state, FLEET_STARTING);
        illegal(&f, FLEET_JOB_BEGIN, 0);
        illegal(&f, FLEET_JOB_STEP_ENDED, FLEET_LOST);
        assert_int_equal(event(&f, FLEET_JOB_STEP_RUNNING), FLEET_JOB_NOTHING);
        illegal(&f, FLEET_JOB_STEP_RUNNING, 0);
        assert_int_equal(ended(&f, FLEET_SUCCEEDED, NULL),
                         i == 2 ? FLEET_JOB_FINISH : FLEET_JOB_START_STEP);
    }
    assert_int_equal(f.run.state, FLEET_SUCCEEDED);
    assert_int_equal(f.run.step_runs, 3);
    assert_int_equal(f.run.due, FLEET_NEVER);
    illegal(&f, FLEET_JOB_CANCEL, 0);
    illegal(&f, FLEET_JOB_BEGIN, 0);
    illegal(&f, (FleetJobEvent) 99, 0);
}

/* A step that is disabled is passed over, whatever it says of success and failure; only before it runs. */
static void
disabled_step_is_passed_over(void **state)
{
    Fixture f = job(3);

    (void) state;
    f.steps[0].on_success = FLEET_STEP_QUIT_FAILURE;
    f.steps[0].retry.retries = 3;
    assert_int_equal(event(&f, FLEET_JOB_BEGIN), FLEET_JOB_START_STEP);
    assert_int_equal(ended(&f, FLEET_SKIPPED, NULL), FLEET_JOB_START_STEP);
    assert_int_equal(f.run.step, 1);
    assert_int_equal(f.run.attempt, 1);
    assert_int_equal(event(&f, FLEET_JOB_STEP_RUNNING), FLEET_JOB_NOTHING);
    illegal(&f, FLEET_JOB_STEP_ENDED, FLEET_SKIPPED);
    assert_int_equal(ended(&f, FLEET_SUCCEEDED, NULL), FLEET_JOB_START_STEP);
    assert_int_equal(ended(&f, FLEET_SKIPPED, NULL), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_SUCCEEDED);
    assert_int_equal(f.run.step_runs, 3);
    /* all of them */
    f = job(1);
    assert_int_equal(event(&f, FLEET_JOB_BEGIN), FLEET_JOB_START_STEP);
    assert_int_equal(ended(&f, FLEET_SKIPPED, NULL), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_SUCCEEDED);
    /* a cancel that comes between two steps */
    f = job(2);
    assert_int_equal(event(&f, FLEET_JOB_BEGIN), FLEET_JOB_START_STEP);
    assert_int_equal(event(&f, FLEET_JOB_CANCEL), FLEET_JOB_CANCEL_STEP);
    illegal(&f, FLEET_JOB_STEP_ENDED, FLEET_SKIPPED);
}

static void
no_step_fails(void **state)
{
    Fixture f = job(0);

    (void) state;
    assert_int_equal(event(&f, FLEET_JOB_BEGIN), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_FAILED);
}

/* action on success, on failure → end of a job of two steps after its first */
static void
actions(void **state)
{
    static const struct
    {
        FleetState outcome;
        FleetStepAction success, failure;
        FleetJobDo answer;
        FleetState job;
        uint16_t step;
    } rows[] = {
        {FLEET_SUCCEEDED, FLEET_STEP_NEXT, FLEET_STEP_NEXT, FLEET_JOB_START_STEP, FLEET_RUNNING, 1},
        {FLEET_SUCCEEDED, FLEET_STEP_QUIT_SUCCESS, 0, FLEET_JOB_FINISH, FLEET_SUCCEEDED, 0},
        {FLEET_SUCCEEDED, FLEET_STEP_QUIT_FAILURE, 0, FLEET_JOB_FINISH, FLEET_FAILED, 0},
        {FLEET_SUCCEEDED, FLEET_STEP_GOTO, 0, FLEET_JOB_START_STEP, FLEET_RUNNING, 2},
        {FLEET_FAILED, 0, FLEET_STEP_NEXT, FLEET_JOB_START_STEP, FLEET_RUNNING, 1},
        {FLEET_FAILED, 0, FLEET_STEP_QUIT_SUCCESS, FLEET_JOB_FINISH, FLEET_SUCCEEDED, 0},
        {FLEET_FAILED, 0, FLEET_STEP_QUIT_FAILURE, FLEET_JOB_FINISH, FLEET_FAILED, 0},
        {FLEET_FAILED, 0, FLEET_STEP_GOTO, FLEET_JOB_START_STEP, FLEET_RUNNING, 0},
        {FLEET_UNKNOWN, 0, FLEET_STEP_QUIT_FAILURE, FLEET_JOB_FINISH, FLEET_UNKNOWN, 0},
        {FLEET_UNKNOWN, 0, FLEET_STEP_NEXT, FLEET_JOB_START_STEP, FLEET_RUNNING, 1},
        {FLEET_CANCELED, 0, FLEET_STEP_NEXT, FLEET_JOB_FINISH, FLEET_CANCELED, 0},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    {
        Fixture f = job(3);

        f.steps[0].on_success = rows[i].success;
        f.steps[0].success_goto = 2;
        f.steps[0].on_failure = rows[i].failure;
        f.steps[0].failure_goto = 0;
        begin_running(&f);
        assert_int_equal(ended(&f, rows[i].outcome, "XX000"), rows[i].answer);
        assert_int_equal(f.run.state, rows[i].job);
        assert_int_equal(f.run.step, rows[i].step);
    }
}

static void
endless_goto_ends(void **state)
{
    Fixture f = job(1);
    int rounds = 0;

    (void) state;
    f.steps[0].on_success = FLEET_STEP_GOTO;
    begin_running(&f);
    while (ended(&f, FLEET_SUCCEEDED, NULL) == FLEET_JOB_START_STEP)
        rounds++;
    assert_int_equal(rounds, FLEET_JOB_MAX_STEP_RUNS - 1);
    assert_int_equal(f.run.state, FLEET_FAILED);
    assert_int_equal(f.run.step_runs, FLEET_JOB_MAX_STEP_RUNS);
}

static void
retries(void **state)
{
    Fixture f = job(1);

    (void) state;
    f.steps[0].retry = (FleetRetry){.retries = 2, .base = 100};
    begin_running(&f);
    for (uint16_t attempt = 1; attempt <= 2; attempt++)
    {
        assert_int_equal(ended(&f, FLEET_FAILED, "40001"), FLEET_JOB_WAIT);
        assert_int_equal(f.run.step_state, FLEET_RETRYING);
        assert_int_equal(f.run.due, f.now + 100 * attempt);
        illegal(&f, FLEET_JOB_STEP_ENDED, FLEET_SUCCEEDED);
        illegal(&f, FLEET_JOB_TIMER, 0); /* too early */
        f.now = f.run.due;
        assert_int_equal(event(&f, FLEET_JOB_TIMER), FLEET_JOB_START_STEP);
        assert_int_equal(f.run.attempt, attempt + 1);
    }
    assert_int_equal(ended(&f, FLEET_FAILED, "40001"), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_FAILED);
    assert_int_equal(f.run.step_runs, 3);
}

static void
retries_by_sqlstate_and_on_unknown(void **state)
{
    static const struct
    {
        FleetState outcome;
        const char *sqlstate;
        FleetOnUnknown on_unknown;
        FleetJobDo answer;
    } rows[] = {
        {FLEET_FAILED, "42601", FLEET_UNKNOWN_FAIL, FLEET_JOB_FINISH},
        {FLEET_FAILED, "53300", FLEET_UNKNOWN_FAIL, FLEET_JOB_WAIT},
        {FLEET_UNKNOWN, NULL, FLEET_UNKNOWN_FAIL, FLEET_JOB_FINISH},
        {FLEET_UNKNOWN, NULL, FLEET_UNKNOWN_RETRY, FLEET_JOB_WAIT},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    {
        Fixture f = job(1);

        f.steps[0].retry = (FleetRetry){.retries = 1, .base = 100};
        f.steps[0].on_unknown = rows[i].on_unknown;
        begin_running(&f);
        assert_int_equal(ended(&f, rows[i].outcome, rows[i].sqlstate), rows[i].answer);
    }
}

static void
timeout(void **state)
{
    Fixture f = job(2);

    (void) state;
    f.steps[0].timeout = 500;
    f.steps[0].retry = (FleetRetry){.retries = 1, .base = 100};
    f.steps[0].on_failure = FLEET_STEP_NEXT;
    for (int attempt = 1; attempt <= 2; attempt++)
    {
        if (attempt == 1)
            assert_int_equal(event(&f, FLEET_JOB_BEGIN), FLEET_JOB_START_STEP);
        assert_int_equal(f.run.due, FLEET_NEVER); /* counts from the begin of the command */
        assert_int_equal(event(&f, FLEET_JOB_STEP_RUNNING), FLEET_JOB_NOTHING);
        assert_int_equal(f.run.due, f.now + 500);
        f.now += 500;
        assert_int_equal(event(&f, FLEET_JOB_TIMER), FLEET_JOB_CANCEL_STEP);
        assert_true(f.run.timed_out);
        assert_int_equal(f.run.step_state, FLEET_CANCELING);
        illegal(&f, FLEET_JOB_TIMER, 0);
        assert_int_equal(ended(&f, FLEET_CANCELED, "57014"),
                         attempt == 1 ? FLEET_JOB_WAIT : FLEET_JOB_START_STEP);
        if (attempt == 1)
        {
            f.now = f.run.due;
            assert_int_equal(event(&f, FLEET_JOB_TIMER), FLEET_JOB_START_STEP);
            assert_false(f.run.timed_out);
        }
    }
    assert_int_equal(f.run.step, 1); /* failed, and then its on_failure */
    f.steps[1].timeout = FLEET_NEVER;
    assert_int_equal(event(&f, FLEET_JOB_STEP_RUNNING), FLEET_JOB_NOTHING);
    assert_int_equal(f.run.due, FLEET_NEVER);
}

/* It ended well while it was being stopped for its time: then it ended well. */
static void
timeout_too_late(void **state)
{
    Fixture f = job(1);

    (void) state;
    f.steps[0].timeout = 500;
    begin_running(&f);
    f.now += 500;
    event(&f, FLEET_JOB_TIMER);
    assert_int_equal(ended(&f, FLEET_SUCCEEDED, NULL), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_SUCCEEDED);
}

static void
redo(void **state)
{
    Fixture f = job(1);

    (void) state;
    f.steps[0].timeout = 500;
    begin_running(&f);
    assert_int_equal(event(&f, FLEET_JOB_STEP_REDO), FLEET_JOB_START_STEP);
    assert_int_equal(f.run.attempt, 1); /* the same attempt */
    assert_int_equal(f.run.due, FLEET_NEVER);
    assert_int_equal(f.run.step_state, FLEET_STARTING);
    assert_int_equal(event(&f, FLEET_JOB_STEP_REDO), FLEET_JOB_START_STEP);
    event(&f, FLEET_JOB_CANCEL);
    assert_int_equal(event(&f, FLEET_JOB_STEP_REDO), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_CANCELED);

    f = job(1);
    f.steps[0].retry = (FleetRetry){.retries = 1, .base = 100};
    begin_running(&f);
    ended(&f, FLEET_FAILED, NULL);
    illegal(&f, FLEET_JOB_STEP_REDO, 0); /* nothing runs */
}

/* ---- cancel ---- */

static void
cancel_before_it_began(void **state)
{
    Fixture f = job(1);

    (void) state;
    assert_int_equal(event(&f, FLEET_JOB_CANCEL), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_CANCELED);
}

static void
cancel_while_it_waits(void **state)
{
    Fixture f = job(1);

    (void) state;
    f.steps[0].retry = (FleetRetry){.retries = 1, .base = 100};
    begin_running(&f);
    ended(&f, FLEET_FAILED, NULL);
    assert_int_equal(event(&f, FLEET_JOB_CANCEL), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_CANCELED);
    assert_int_equal(f.run.step_state, FLEET_CANCELED);
    assert_int_equal(f.run.due, FLEET_NEVER);
}

/* how the step ends under a cancel → how the job ends; the first of two steps, then the last */
static void
cancel_while_it_runs(void **state)
{
    static const struct
    {
        FleetState outcome, first, last;
    } rows[] = {
        {FLEET_CANCELED, FLEET_CANCELED, FLEET_CANCELED},
        {FLEET_SUCCEEDED, FLEET_CANCELED, FLEET_SUCCEEDED}, /* the second is kept from starting */
        {FLEET_FAILED, FLEET_FAILED, FLEET_FAILED},
        {FLEET_UNKNOWN, FLEET_UNKNOWN, FLEET_UNKNOWN},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    {
        for (uint16_t nsteps = 1; nsteps <= 2; nsteps++)
        {
            Fixture f = job(nsteps);

            f.steps[0].retry = (FleetRetry){.retries = 5, .base = 100};
            f.steps[0].on_unknown = FLEET_UNKNOWN_RETRY;
            f.steps[0].timeout = 500;
            begin_running(&f);
            assert_int_equal(event(&f, FLEET_JOB_CANCEL), FLEET_JOB_CANCEL_STEP);
            assert_int_equal(f.run.state, FLEET_CANCELING);
            assert_int_equal(f.run.due, FLEET_NEVER);
            assert_int_equal(event(&f, FLEET_JOB_CANCEL), FLEET_JOB_CANCEL_STEP); /* again */
            assert_int_equal(ended(&f, rows[i].outcome, "40001"), FLEET_JOB_FINISH);
            assert_int_equal(f.run.state, nsteps == 2 ? rows[i].first : rows[i].last);
        }
    }
}

static void
cancel_after_a_timeout(void **state)
{
    Fixture f = job(2);

    (void) state;
    f.steps[0].timeout = 500;
    f.steps[0].on_failure = FLEET_STEP_NEXT;
    begin_running(&f);
    f.now += 500;
    event(&f, FLEET_JOB_TIMER);
    assert_int_equal(event(&f, FLEET_JOB_CANCEL), FLEET_JOB_CANCEL_STEP);
    assert_int_equal(ended(&f, FLEET_CANCELED, NULL), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_CANCELED);
}

static void
begin_is_heard_of_late(void **state)
{
    Fixture f = job(1);

    (void) state;
    event(&f, FLEET_JOB_BEGIN);
    event(&f, FLEET_JOB_CANCEL);
    assert_int_equal(event(&f, FLEET_JOB_STEP_RUNNING), FLEET_JOB_NOTHING);
    assert_int_equal(f.run.step_state, FLEET_CANCELING);
}

/* ---- check ---- */

static void
definitions(void **state)
{
    Fixture f = job(2);
    FleetError error;

    (void) state;
    assert_true(fleet_job_check(f.steps, 2, &error));
    assert_false(fleet_job_check(f.steps, 0, &error));
    assert_string_equal(error.message, "the job has no step");
    f.steps[1].on_success = FLEET_STEP_GOTO;
    f.steps[1].success_goto = 2;
    assert_false(fleet_job_check(f.steps, 2, &error));
    assert_string_equal(error.message, "step 2 goes to step 3 on success, but the job has 2 steps");
    f.steps[1].success_goto = 0;
    assert_true(fleet_job_check(f.steps, 2, &error));
    f.steps[0].on_failure = FLEET_STEP_GOTO;
    f.steps[0].failure_goto = 9;
    assert_false(fleet_job_check(f.steps, 2, &error));
    assert_true(strlen(error.hint) > 0);
}

static void
begins_at_a_step(void **state)
{
    Fixture f = job(3);

    (void) state;
    f.run.step = 1;
    begin_running(&f);
    assert_int_equal(f.run.step, 1);
    assert_int_equal(f.run.attempt, 1);
    assert_int_equal(ended(&f, FLEET_SUCCEEDED, NULL), FLEET_JOB_START_STEP);
    assert_int_equal(f.run.step, 2);
    assert_int_equal(event(&f, FLEET_JOB_STEP_RUNNING), FLEET_JOB_NOTHING);
    assert_int_equal(ended(&f, FLEET_SUCCEEDED, NULL), FLEET_JOB_FINISH);
    assert_int_equal(f.run.state, FLEET_SUCCEEDED);
    assert_int_equal(f.run.step_runs, 2);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_in_order),
        cmocka_unit_test(disabled_step_is_passed_over),
        cmocka_unit_test(begins_at_a_step),
        cmocka_unit_test(no_step_fails),
        cmocka_unit_test(actions),
        cmocka_unit_test(endless_goto_ends),
        cmocka_unit_test(retries),
        cmocka_unit_test(retries_by_sqlstate_and_on_unknown),
        cmocka_unit_test(timeout),
        cmocka_unit_test(timeout_too_late),
        cmocka_unit_test(redo),
        cmocka_unit_test(cancel_before_it_began),
        cmocka_unit_test(cancel_while_it_waits),
        cmocka_unit_test(cancel_while_it_runs),
        cmocka_unit_test(cancel_after_a_timeout),
        cmocka_unit_test(begin_is_heard_of_late),
        cmocka_unit_test(definitions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
