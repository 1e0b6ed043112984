/*
 * test_exec.c
 *     One attempt of one step, cut off at every point of its protocol; tokens
 *     and epochs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "core/exec.h"

static FleetState outcome;

static FleetExecDo
on(FleetExec *exec, FleetExecEvent event)
{
    outcome = FLEET_QUEUED;
    if (event == FLEET_EXEC_GOT_XID)
        exec->xid = 700;
    return fleet_exec_event(exec, event, &outcome);
}

/* A way to a point of the protocol, as a list of events and the answers that must come. */
typedef struct Move
{
    FleetExecEvent event;
    FleetExecDo answer;
} Move;

static void
walk(FleetExec *exec, const Move *moves, int n)
{
    for (int i = 0; i < n; i++)
        assert_int_equal(on(exec, moves[i].event), moves[i].answer);
}

static const Move transaction[] = {
    {FLEET_EXEC_BEGIN, FLEET_EXEC_SEND},
    {FLEET_EXEC_GOT_XID, FLEET_EXEC_STORE}, /* the id is durable before COMMIT is sent */
    {FLEET_EXEC_STORED, FLEET_EXEC_SEND_COMMIT},
    {FLEET_EXEC_GOT_COMMITTED, FLEET_EXEC_END},
};

static const Move open_step[] = {
    {FLEET_EXEC_BEGIN, FLEET_EXEC_STORE},
    {FLEET_EXEC_STORED, FLEET_EXEC_SEND},
    {FLEET_EXEC_GOT_COMMITTED, FLEET_EXEC_END},
};

static void
good_ends(void **state)
{
    FleetExec exec;

    (void) state;
    fleet_exec_init(&exec, true);
    walk(&exec, transaction, 4);
    assert_int_equal(outcome, FLEET_SUCCEEDED);
    assert_int_equal(exec.phase, FLEET_EXEC_ENDED);
    fleet_exec_init(&exec, false);
    walk(&exec, open_step, 3);
    assert_int_equal(outcome, FLEET_SUCCEEDED);
}

/* Cut off after each message of a transaction, with the agent or without it. */
static void
transaction_cut_off(void **state)
{
    static const FleetExecDo answers[] = {FLEET_EXEC_REDO, FLEET_EXEC_REDO, FLEET_EXEC_RESOLVE,
                                          FLEET_EXEC_RESOLVE, FLEET_EXEC_NOTHING};

    (void) state;
    for (int moves = 0; moves <= 4; moves++)
    {
        for (int restart = 0; restart < 2; restart++)
        {
            FleetExec exec;

            fleet_exec_init(&exec, true);
            walk(&exec, transaction, moves);
            if (restart)
                exec.in_flight = exec.stopping = false;
            assert_int_equal(on(&exec, FLEET_EXEC_CUT), answers[moves]);
            if (answers[moves] == FLEET_EXEC_REDO)
            {
                walk(&exec, transaction, 4); /* again, and to its end */
                assert_int_equal(outcome, FLEET_SUCCEEDED);
            }
        }
    }
}

static void
resolved(void **state)
{
    static const struct
    {
        FleetExecEvent answer;
        FleetExecDo what;
        FleetState outcome;
    } rows[] = {
        {FLEET_EXEC_XACT_COMMITTED, FLEET_EXEC_END, FLEET_SUCCEEDED},
        {FLEET_EXEC_XACT_UNKNOWN, FLEET_EXEC_END, FLEET_UNKNOWN},
        {FLEET_EXEC_XACT_ABORTED, FLEET_EXEC_REDO, FLEET_QUEUED},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    {
        FleetExec exec;

        fleet_exec_init(&exec, true);
        walk(&exec, transaction, 3);
        assert_int_equal(on(&exec, rows[i].answer), FLEET_EXEC_ILLEGAL); /* nobody asked */
        on(&exec, FLEET_EXEC_CUT);
        assert_int_equal(on(&exec, rows[i].answer), rows[i].what);
        assert_int_equal(outcome, rows[i].outcome);
        if (rows[i].what != FLEET_EXEC_REDO)
            continue;
        /* the aborted id is taken out of the durable row before anything is sent */
        assert_int_equal(on(&exec, FLEET_EXEC_BEGIN), FLEET_EXEC_STORE);
        assert_int_equal(exec.xid, 0);
        assert_int_equal(exec.phase, FLEET_EXEC_INTENT);
        assert_int_equal(on(&exec, FLEET_EXEC_STORED), FLEET_EXEC_SEND);
        walk(&exec, transaction + 1, 3);
    }
}

/* Cut off while the id is being stored: COMMIT is not sent any more. */
static void
cut_while_storing(void **state)
{
    FleetExec exec;

    (void) state;
    fleet_exec_init(&exec, true);
    walk(&exec, transaction, 2);
    assert_int_equal(on(&exec, FLEET_EXEC_CUT), FLEET_EXEC_RESOLVE);
    assert_int_equal(on(&exec, FLEET_EXEC_STORED), FLEET_EXEC_NOTHING);
    assert_int_equal(on(&exec, FLEET_EXEC_XACT_ABORTED), FLEET_EXEC_REDO);
}

static void
open_cut_off(void **state)
{
    static const FleetExecDo answers[] = {FLEET_EXEC_REDO, FLEET_EXEC_END, FLEET_EXEC_END,
                                          FLEET_EXEC_NOTHING};

    (void) state;
    for (int moves = 0; moves <= 3; moves++)
    {
        FleetExec exec;

        fleet_exec_init(&exec, false);
        walk(&exec, open_step, moves);
        assert_int_equal(on(&exec, FLEET_EXEC_CUT), answers[moves]);
        if (answers[moves] == FLEET_EXEC_END)
            assert_int_equal(outcome, FLEET_UNKNOWN);
    }
}

static void
found_not_transactional(void **state)
{
    FleetExec exec;

    (void) state;
    fleet_exec_init(&exec, true);
    walk(&exec, transaction, 1);
    assert_int_equal(on(&exec, FLEET_EXEC_NOT_TRANSACTIONAL), FLEET_EXEC_STORE);
    assert_false(exec.transactional);
    assert_int_equal(exec.phase, FLEET_EXEC_OPEN);
    walk(&exec, open_step + 1, 2);
    assert_int_equal(outcome, FLEET_SUCCEEDED);

    fleet_exec_init(&exec, true); /* a cancel was on its way */
    walk(&exec, transaction, 1);
    on(&exec, FLEET_EXEC_CANCEL);
    assert_int_equal(on(&exec, FLEET_EXEC_NOT_TRANSACTIONAL), FLEET_EXEC_END);
    assert_int_equal(outcome, FLEET_CANCELED);
}

static void
errors(void **state)
{
    (void) state;
    for (int moves = 1; moves <= 3; moves++) /* also at COMMIT: a deferred constraint */
    {
        FleetExec exec;

        fleet_exec_init(&exec, true);
        walk(&exec, transaction, moves);
        assert_int_equal(on(&exec, FLEET_EXEC_GOT_ERROR), FLEET_EXEC_END);
        assert_int_equal(outcome, FLEET_FAILED);
    }
}

static void
cancel(void **state)
{
    FleetExec exec;

    (void) state;
    fleet_exec_init(&exec, true); /* nothing was sent */
    assert_int_equal(on(&exec, FLEET_EXEC_CANCEL), FLEET_EXEC_END);
    assert_int_equal(outcome, FLEET_CANCELED);

    fleet_exec_init(&exec, true); /* the command runs */
    walk(&exec, transaction, 1);
    assert_int_equal(on(&exec, FLEET_EXEC_CANCEL), FLEET_EXEC_SEND_CANCEL);
    assert_true(exec.stopping);
    assert_int_equal(on(&exec, FLEET_EXEC_CANCEL), FLEET_EXEC_SEND_CANCEL); /* again */
    assert_int_equal(on(&exec, FLEET_EXEC_GOT_CANCELED), FLEET_EXEC_END);
    assert_int_equal(outcome, FLEET_CANCELED);
    assert_int_equal(on(&exec, FLEET_EXEC_CANCEL), FLEET_EXEC_NOTHING); /* over */

    fleet_exec_init(&exec, true); /* too late: the command has succeeded */
    walk(&exec, transaction, 2);
    assert_int_equal(on(&exec, FLEET_EXEC_CANCEL), FLEET_EXEC_NOTHING);
    walk(&exec, transaction + 2, 2);
    assert_int_equal(outcome, FLEET_SUCCEEDED);

    fleet_exec_init(&exec, false); /* stored, not sent yet */
    walk(&exec, open_step, 1);
    assert_int_equal(on(&exec, FLEET_EXEC_CANCEL), FLEET_EXEC_NOTHING);
    assert_int_equal(on(&exec, FLEET_EXEC_STORED), FLEET_EXEC_END);
    assert_int_equal(outcome, FLEET_CANCELED);
    assert_int_equal(on(&exec, FLEET_EXEC_STORED), FLEET_EXEC_NOTHING);

    fleet_exec_init(&exec, false);
    walk(&exec, open_step, 2);
    assert_int_equal(on(&exec, FLEET_EXEC_CANCEL), FLEET_EXEC_SEND_CANCEL);
}

static void
canceled_then_cut(void **state)
{
    FleetExec exec;

    (void) state;
    fleet_exec_init(&exec, true);
    walk(&exec, transaction, 1);
    on(&exec, FLEET_EXEC_CANCEL);
    assert_int_equal(on(&exec, FLEET_EXEC_CUT), FLEET_EXEC_REDO);
    assert_false(exec.stopping); /* the driver knows what it wanted */
}

/* Everything that cannot come at a point is refused there and changes nothing. */
static void
illegal_events(void **state)
{
    static const struct
    {
        bool transactional;
        int moves;
        FleetExecEvent events[6];
        int nevents;
    } rows[] = {
        {true,
         0,
         {FLEET_EXEC_GOT_XID, FLEET_EXEC_GOT_COMMITTED, FLEET_EXEC_GOT_ERROR,
          FLEET_EXEC_NOT_TRANSACTIONAL, FLEET_EXEC_XACT_COMMITTED},
         5},
        {true,
         1,
         {FLEET_EXEC_BEGIN, FLEET_EXEC_STORED, FLEET_EXEC_GOT_COMMITTED, FLEET_EXEC_XACT_ABORTED},
         4},
        {true, 2, {FLEET_EXEC_BEGIN, FLEET_EXEC_GOT_XID, FLEET_EXEC_NOT_TRANSACTIONAL}, 3},
        {true,
         4,
         {FLEET_EXEC_BEGIN, FLEET_EXEC_GOT_XID, FLEET_EXEC_GOT_COMMITTED, FLEET_EXEC_GOT_ERROR,
          FLEET_EXEC_XACT_UNKNOWN},
         5},
        {false,
         2,
         {FLEET_EXEC_BEGIN, FLEET_EXEC_STORED, FLEET_EXEC_GOT_XID, FLEET_EXEC_NOT_TRANSACTIONAL,
          FLEET_EXEC_XACT_COMMITTED},
         5},
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
    {
        for (int k = 0; k < rows[i].nevents; k++)
        {
            FleetExec exec, before;

            fleet_exec_init(&exec, rows[i].transactional);
            walk(&exec, rows[i].transactional ? transaction : open_step, rows[i].moves);
            before = exec;
            outcome = FLEET_QUEUED;
            assert_int_equal(fleet_exec_event(&exec, rows[i].events[k], &outcome),
                             FLEET_EXEC_ILLEGAL);
            assert_memory_equal(&exec, &before, sizeof(exec));
            assert_int_equal(outcome, FLEET_QUEUED);
        }
    }
    {
        FleetExec exec;

        fleet_exec_init(&exec, true);
        assert_int_equal(on(&exec, (FleetExecEvent) 99), FLEET_EXEC_ILLEGAL);
        walk(&exec, transaction, 1);
        exec.xid = 0; /* an id that is none */
        assert_int_equal(fleet_exec_event(&exec, FLEET_EXEC_GOT_XID, &outcome), FLEET_EXEC_ILLEGAL);
    }
}

/* ---- tokens and epochs ---- */

static void
start_requests(void **state)
{
    (void) state;
    assert_int_equal(fleet_start_answer(5, 5, false), FLEET_START_NEW);
    assert_int_equal(fleet_start_answer(5, 6, false), FLEET_START_NEW);
    assert_int_equal(fleet_start_answer(5, 5, true), FLEET_START_HAVE);
    assert_int_equal(fleet_start_answer(5, 4, false), FLEET_START_REFUSED);
    assert_int_equal(fleet_start_answer(5, 4, true), FLEET_START_REFUSED);
}

static void
epochs(void **state)
{
    (void) state;
    assert_true(fleet_epoch(1, 2) < fleet_epoch(1, 3));
    assert_true(fleet_epoch(1, UINT32_MAX) < fleet_epoch(2, 0)); /* the timeline comes first */
}

static void
verdicts(void **state)
{
    (void) state;
    assert_int_equal(fleet_token_verdict(FLEET_STARTING, true), FLEET_TOKEN_ADOPT);
    assert_int_equal(fleet_token_verdict(FLEET_RUNNING, true), FLEET_TOKEN_ADOPT);
    assert_int_equal(fleet_token_verdict(FLEET_STARTING, false), FLEET_TOKEN_RESEND);
    assert_int_equal(fleet_token_verdict(FLEET_RUNNING, false), FLEET_TOKEN_LOST);
    assert_int_equal(fleet_token_verdict(FLEET_CANCELING, false), FLEET_TOKEN_LOST);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ends),
        cmocka_unit_test(transaction_cut_off),
        cmocka_unit_test(resolved),
        cmocka_unit_test(cut_while_storing),
        cmocka_unit_test(open_cut_off),
        cmocka_unit_test(found_not_transactional),
        cmocka_unit_test(errors),
        cmocka_unit_test(cancel),
        cmocka_unit_test(canceled_then_cut),
        cmocka_unit_test(illegal_events),
        cmocka_unit_test(start_requests),
        cmocka_unit_test(epochs),
        cmocka_unit_test(verdicts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
