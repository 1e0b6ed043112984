/*
 * test_due.c
 *     What of a schedule is due (core/due.h): missed times with clocks that
 *     stood still, jumped, and went back.
 */
#define _DEFAULT_SOURCE /* timegm */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/due.h"

static FleetTime
at(const char *text)
{
    struct tm tm = {0};

    assert_int_equal(sscanf(text, "%d-%d-%d %d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
                            &tm.tm_hour, &tm.tm_min),
                     5);
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return FLEET_SECONDS(timegm(&tm));
}

/* Berlin in 2026. */
static int32_t
offset_of(void *context, FleetTime time)
{
    (void) context;
    return time >= at("2026-03-29 01:00") && time < at("2026-10-25 01:00") ? 7200 : 3600;
}

static FleetDue
due_of(const char *text, FleetMissed missed, FleetTime since, FleetTime now)
{
    const FleetZone zone = {offset_of, NULL};
    FleetCron cron;
    FleetDue due;

    assert_true(fleet_cron_parse(text, &cron, NULL));
    fleet_due(&cron, &zone, missed, since, now, &due);
    return due;
}

typedef struct Known
{
    const char *cron;
    FleetMissed missed;
    const char *since, *now;
    const char *times[4];
    const char *next;
} Known;

static void
what_is_due(void **state)
{
    static const Known table[] = {
        /* nothing has come */
        {"0 2 * * *",
         FLEET_MISSED_ALL,
         "2026-11-20 02:00",
         "2026-11-21 00:59",
         {NULL},
         "2026-11-21 01:00"},
        /* on time, to the minute and to the end of the grace */
        {"0 2 * * *",
         FLEET_MISSED_SKIP,
         "2026-11-20 01:00",
         "2026-11-21 01:00",
         {"2026-11-21 01:00"},
         "2026-11-22 01:00"},
        {"0 2 * * *",
         FLEET_MISSED_SKIP,
         "2026-11-20 01:00",
         "2026-11-21 01:10",
         {"2026-11-21 01:00"},
         "2026-11-22 01:00"},
        {"0 2 * * *",
         FLEET_MISSED_SKIP,
         "2026-11-20 01:00",
         "2026-11-21 01:11",
         {NULL},
         "2026-11-22 01:00"},
        /* three nights were missed */
        {"0 2 * * *",
         FLEET_MISSED_SKIP,
         "2026-11-20 01:00",
         "2026-11-23 09:00",
         {NULL},
         "2026-11-24 01:00"},
        {"0 2 * * *",
         FLEET_MISSED_ONCE,
         "2026-11-20 01:00",
         "2026-11-23 09:00",
         {"2026-11-23 01:00"},
         "2026-11-24 01:00"},
        {"0 2 * * *",
         FLEET_MISSED_ALL,
         "2026-11-20 01:00",
         "2026-11-23 09:00",
         {"2026-11-21 01:00", "2026-11-22 01:00", "2026-11-23 01:00"},
         "2026-11-24 01:00"},
        /* the newest of them is on time: it is the one */
        {"0 2 * * *",
         FLEET_MISSED_ONCE,
         "2026-11-20 01:00",
         "2026-11-23 01:05",
         {"2026-11-23 01:00"},
         "2026-11-24 01:00"},
        {"0 2 * * *",
         FLEET_MISSED_SKIP,
         "2026-11-20 01:00",
         "2026-11-23 01:05",
         {"2026-11-23 01:00"},
         "2026-11-24 01:00"},
        /* over a change of the clock, each night once */
        {"30 2 * * *",
         FLEET_MISSED_ALL,
         "2026-03-28 12:00",
         "2026-03-30 12:00",
         {"2026-03-29 01:00", "2026-03-30 00:30"},
         "2026-03-31 00:30"},
        {"30 2 * * *",
         FLEET_MISSED_ALL,
         "2026-10-24 12:00",
         "2026-10-26 12:00",
         {"2026-10-25 00:30", "2026-10-26 01:30"},
         "2026-10-27 01:30"},
        /* years were missed, of what is seldom */
        {"0 0 29 2 *",
         FLEET_MISSED_ONCE,
         "2000-01-01 00:00",
         "2026-11-23 09:00",
         {"2024-02-28 23:00"},
         "2028-02-28 23:00"},
        {"0 0 29 2 *",
         FLEET_MISSED_ALL,
         "2015-01-01 00:00",
         "2026-11-23 09:00",
         {"2016-02-28 23:00", "2020-02-28 23:00", "2024-02-28 23:00"},
         "2028-02-28 23:00"},
        /* the clock went back, by a little and by years: what it has not come to is not due */
        {"*/5 * * * *",
         FLEET_MISSED_ALL,
         "2026-11-23 09:00",
         "2026-11-23 08:57",
         {NULL},
         "2026-11-23 09:00"},
        {"0 2 * * *",
         FLEET_MISSED_ALL,
         "2036-11-23 09:00",
         "2026-11-23 08:57",
         {NULL},
         "2026-11-24 01:00"},
    };

    (void) state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    {
        const Known *k = &table[i];
        FleetDue due = due_of(k->cron, k->missed, at(k->since), at(k->now));
        int n = 0;

        while (n < 4 && k->times[n] != NULL)
            n++;
        if (due.n != n)
            fail_msg("row %zu: %d times and not %d", i, due.n, n);
        for (int t = 0; t < n; t++)
        {
            if (due.times[t] != at(k->times[t]))
                fail_msg("row %zu, time %d: %lld seconds from %s", i, t,
                         (long long) ((due.times[t] - at(k->times[t])) / 1000000), k->times[t]);
        }
        if (due.next != at(k->next))
            fail_msg("row %zu: next is not %s", i, k->next);
    }
}

/* A clock that jumps by years floods nothing: the newest, and they are the newest. */
static void
bounded(void **state)
{
    FleetTime now = at("2026-11-23 09:00");
    FleetDue due = due_of("* * * * *", FLEET_MISSED_ALL, at("1970-01-02 00:00"), now);

    (void) state;
    assert_int_equal(due.n, FLEET_DUE_MAX);
    for (int i = 0; i < due.n; i++)
        assert_true(due.times[i] == now - FLEET_SECONDS(60) * (due.n - 1 - i));
    due = due_of("* * * * *", FLEET_MISSED_ALL, now - FLEET_SECONDS(60 * 99), now);
    assert_int_equal(due.n, 99);
    due = due_of("* * * * *", FLEET_MISSED_ONCE, INT64_MIN, now);
    assert_int_equal(due.n, 1);
    assert_true(due.times[0] == now);
}

/* However often it is looked at, and however long it takes: "all" starts each time once. */
static void
looked_at_again(void **state)
{
    static const int steps[] = {1, 7, 59, 60, 61, 3600, 5000};

    (void) state;
    for (size_t s = 0; s < sizeof steps / sizeof steps[0]; s++)
    {
        FleetTime since = at("2026-10-24 00:00"), last = since;
        int64_t started = 0;

        for (FleetTime now = since; now < at("2026-10-26 00:00"); now += FLEET_SECONDS(steps[s]))
        {
            FleetDue due = due_of("*/13 * * * *", FLEET_MISSED_ALL, last, now);

            for (int i = 0; i < due.n; i++)
            {
                assert_true(due.times[i] > last);
                last = due.times[i];
                started++;
            }
        }
        assert_true(started >= 49 * 5 - 10 &&
                    started <= 49 * 5); /* the hour of the change is twice */
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_due),
        cmocka_unit_test(bounded),
        cmocka_unit_test(looked_at_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
