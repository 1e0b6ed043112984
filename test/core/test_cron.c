/*
 * test_cron.c
 *     Schedules: a table of known times, through both changes of the clock in
 *     five zones, and what is refused (core/cron.h).
 *
 * The changes of the zones are written out here, from the tz database.
 * cron_peer.py compares random schedules with another implementation.
 */
#define _DEFAULT_SOURCE /* timegm */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/cron.h"

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

/* ---- zones ---- */

typedef struct Change
{
    const char *time;
    int minutes; /* east of UTC, from then on */
} Change;

typedef struct Zone
{
    const char *name;
    int first;
    Change changes[3];
} Zone;

static const Zone zones[] = {
    {"UTC", 0, {{NULL, 0}}},
    {"Europe/Berlin", 60, {{"2026-03-29 01:00", 120}, {"2026-10-25 01:00", 60}}},
    {"America/New_York", -300, {{"2026-03-08 07:00", -240}, {"2026-11-01 06:00", -300}}},
    {"America/Sao_Paulo", -180, {{"2018-11-04 03:00", -120}, {"2019-02-17 02:00", -180}}},
    {"Australia/Lord_Howe", 660, {{"2026-04-04 15:00", 630}, {"2026-10-03 15:30", 660}}},
    {"Pacific/Apia", -600, {{"2011-12-30 10:00", 840}}},
};

static int32_t
offset_of(void *context, FleetTime time)
{
    const Zone *zone = context;
    int minutes = zone->first;

    for (const Change *c = zone->changes; c->time != NULL; c++)
    {
        if (time >= at(c->time))
            minutes = c->minutes;
    }
    return minutes * 60;
}

static FleetZone
zone_of(const char *name)
{
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++)
    {
        if (strcmp(zones[i].name, name) == 0)
            return (FleetZone){offset_of, (void *) &zones[i]};
    }
    fail_msg("no zone %s", name);
    return (FleetZone){NULL, NULL};
}

/* ---- known times ---- */

typedef struct Known
{
    const char *zone, *cron, *after;
    const char *due[4]; /* one after the other, in UTC */
} Known;

static void
assert_known(const Known *table, size_t n)
{
    for (const Known *k = table; k < table + n; k++)
    {
        FleetZone zone = zone_of(k->zone);
        FleetTime time = at(k->after);
        FleetCron cron;
        FleetError error;

        if (!fleet_cron_parse(k->cron, &cron, &error))
            fail_msg("%s: %s", k->cron, error.message);
        for (int i = 0; i < 4 && k->due[i] != NULL; i++)
        {
            time = fleet_cron_next(&cron, &zone, time);
            if (time != at(k->due[i]))
                fail_msg("%s in %s after %s, time %d: %lld seconds from %s", k->cron, k->zone,
                         k->after, i + 1, (long long) ((time - at(k->due[i])) / 1000000),
                         k->due[i]);
        }
    }
}

static void
fields_of_cron(void **state)
{
    static const Known table[] = {
        {"UTC", "* * * * *", "2026-01-01 00:00", {"2026-01-01 00:01", "2026-01-01 00:02"}},
        {"UTC", "*/20 * * * *", "2026-01-01 00:01", {"2026-01-01 00:20", "2026-01-01 00:40"}},
        {"UTC",
         "5-20/5,59 3 * * *",
         "2026-01-01 03:14",
         {"2026-01-01 03:15", "2026-01-01 03:20", "2026-01-01 03:59", "2026-01-02 03:05"}},
        {"UTC", "0 0 29 2 *", "2026-01-01 00:00", {"2028-02-29 00:00", "2032-02-29 00:00"}},
        {"UTC", "0 0 29 2 *", "2096-03-01 00:00", {"2104-02-29 00:00"}}, /* 2100 has none */
        {"UTC",
         "0 0 31 * *",
         "2026-01-01 00:00",
         {"2026-01-31 00:00", "2026-03-31 00:00", "2026-05-31 00:00"}},
        {"UTC",
         "0 0 $ * *",
         "2028-01-15 00:00",
         {"2028-01-31 00:00", "2028-02-29 00:00", "2028-03-31 00:00", "2028-04-30 00:00"}},
        {"UTC",
         "0 0 1,$ 2 *",
         "2026-01-15 00:00",
         {"2026-02-01 00:00", "2026-02-28 00:00", "2027-02-01 00:00"}},
        /* one of both days, if both are restricted */
        {"UTC",
         "0 0 13 * fri",
         "2026-11-01 00:00",
         {"2026-11-06 00:00", "2026-11-13 00:00", "2026-11-20 00:00"}},
        {"UTC", "0 0 15 11 sun", "2026-11-09 00:00", {"2026-11-15 00:00", "2026-11-22 00:00"}},
        /* both, if one begins with a star */
        {"UTC", "0 0 */2 * mon", "2026-11-01 00:00", {"2026-11-09 00:00", "2026-11-23 00:00"}},
        {"UTC", "0 0 13 * */5", "2026-11-01 00:00", {"2026-11-13 00:00", "2026-12-13 00:00"}},
        {"UTC",
         "0 0 */10 * *",
         "2020-02-22 00:00",
         {"2020-03-01 00:00", "2020-03-11 00:00", "2020-03-21 00:00", "2020-03-31 00:00"}},
        {"UTC", "0 0 31 6 thu", "2026-05-01 00:00", {"2026-06-04 00:00"}},
        {"UTC", "0 0 13 6 0-6", "2026-05-01 00:00", {"2026-06-01 00:00", "2026-06-02 00:00"}},
        {"UTC",
         "55 13 26 8,7 5-6",
         "2026-08-28 20:00",
         {"2026-08-29 13:55", "2027-07-02 13:55", "2027-07-03 13:55"}},
        {"UTC",
         "0 0 */14 8 *",
         "2026-05-01 00:00",
         {"2026-08-01 00:00", "2026-08-15 00:00", "2026-08-29 00:00"}},
        {"UTC", "0 0 * * 0", "2026-11-28 00:00", {"2026-11-29 00:00"}},
        {"UTC", "0 0 * * 7", "2026-11-28 00:00", {"2026-11-29 00:00"}},
        {"UTC",
         "0 0 * * 6-7",
         "2026-11-26 00:00",
         {"2026-11-28 00:00", "2026-11-29 00:00", "2026-12-05 00:00"}},
        {"UTC", "0 0 * JAN-mar/2 Mon-Fri", "2026-02-27 12:00", {"2026-03-02 00:00"}},
        {"UTC", " \t0\t0  1 1 * ", "2026-02-27 12:00", {"2027-01-01 00:00"}},
        {"UTC", "@hourly", "2026-02-27 12:00", {"2026-02-27 13:00"}},
        {"UTC", "@daily", "2026-02-27 12:00", {"2026-02-28 00:00", "2026-03-01 00:00"}},
        {"UTC", "@Midnight ", "2026-02-27 12:00", {"2026-02-28 00:00"}},
        {"UTC", "@weekly", "2026-02-27 12:00", {"2026-03-01 00:00"}},
        {"UTC", "@monthly", "2026-02-27 12:00", {"2026-03-01 00:00"}},
        {"UTC", "@yearly", "2026-02-27 12:00", {"2027-01-01 00:00"}},
        {"UTC", "@annually", "2026-02-27 12:00", {"2027-01-01 00:00"}},
        {"UTC", "30 23 31 12 *", "1969-12-31 23:29", {"1969-12-31 23:30", "1970-12-31 23:30"}},
        {"UTC", "0 0 1 1 *", "1931-06-01 00:00", {"1932-01-01 00:00"}},
    };

    (void) state;
    assert_known(table, sizeof table / sizeof table[0]);
}

static void
clocks_go_forward(void **state)
{
    static const Known table[] = {
        {"Europe/Berlin",
         "30 2 * * *",
         "2026-03-28 12:00",
         {"2026-03-29 01:00", "2026-03-30 00:30"}},
        {"Europe/Berlin",
         "0,30 2 * * *",
         "2026-03-28 12:00",
         {"2026-03-29 01:00", "2026-03-30 00:00"}},
        {"Europe/Berlin",
         "30 2,3 * * *",
         "2026-03-28 12:00",
         {"2026-03-29 01:00", "2026-03-29 01:30", "2026-03-30 00:30"}},
        {"Europe/Berlin",
         "0 3 * * *",
         "2026-03-28 12:00",
         {"2026-03-29 01:00", "2026-03-30 01:00"}},
        {"Europe/Berlin",
         "30 2 29 3 *",
         "2026-03-28 12:00",
         {"2026-03-29 01:00", "2027-03-29 01:30"}},
        {"Europe/Berlin",
         "30 * * * *",
         "2026-03-29 00:00",
         {"2026-03-29 00:30", "2026-03-29 01:30"}},
        {"Europe/Berlin",
         "*/15 2 * * *",
         "2026-03-28 12:00",
         {"2026-03-30 00:00", "2026-03-30 00:15"}},
        {"America/New_York",
         "30 2 * * *",
         "2026-03-08 00:00",
         {"2026-03-08 07:00", "2026-03-09 06:30"}},
        {"America/New_York",
         "0 2-4 * * sun",
         "2026-03-08 00:00",
         {"2026-03-08 07:00", "2026-03-08 08:00", "2026-03-15 06:00"}},
        {"America/Sao_Paulo",
         "0 0 * * *",
         "2018-11-03 12:00",
         {"2018-11-04 03:00", "2018-11-05 02:00"}},
        {"America/Sao_Paulo", "0 0 4 11 *", "2018-11-03 12:00", {"2018-11-04 03:00"}},
        {"Australia/Lord_Howe",
         "15 2 * * *",
         "2026-10-03 12:00",
         {"2026-10-03 15:30", "2026-10-04 15:15"}},
        {"Pacific/Apia",
         "0 12 * * *",
         "2011-12-29 00:00",
         {"2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"}},
        {"Pacific/Apia", "30 9 30 12 *", "2011-12-01 00:00", {"2011-12-30 10:00"}},
    };

    (void) state;
    assert_known(table, sizeof table / sizeof table[0]);
}

static void
clocks_go_back(void **state)
{
    static const Known table[] = {
        {"Europe/Berlin",
         "30 2 * * *",
         "2026-10-24 12:00",
         {"2026-10-25 00:30", "2026-10-26 01:30"}},
        {"Europe/Berlin",
         "30 2 * * *",
         "2026-10-25 00:45",
         {"2026-10-26 01:30"}}, /* between the two */
        {"Europe/Berlin",
         "0 2 * * *",
         "2026-10-24 12:00",
         {"2026-10-25 00:00", "2026-10-26 01:00"}},
        {"Europe/Berlin",
         "0 3 * * *",
         "2026-10-24 12:00",
         {"2026-10-25 02:00", "2026-10-26 02:00"}},
        {"Europe/Berlin",
         "30 * * * *",
         "2026-10-24 23:50",
         {"2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"}},
        {"America/New_York",
         "30 1 * * *",
         "2026-11-01 00:00",
         {"2026-11-01 05:30", "2026-11-02 06:30"}},
        {"America/New_York",
         "15 1-2 * * *",
         "2026-11-01 00:00",
         {"2026-11-01 05:15", "2026-11-01 07:15"}},
        {"America/New_York",
         "*/30 1 * * *",
         "2026-11-01 00:00",
         {"2026-11-01 05:00", "2026-11-01 05:30", "2026-11-01 06:00", "2026-11-01 06:30"}},
        {"America/Sao_Paulo",
         "30 23 * * *",
         "2019-02-16 12:00",
         {"2019-02-17 01:30", "2019-02-18 02:30"}},
        {"America/Sao_Paulo", "0 0 * * sun", "2019-02-16 12:00", {"2019-02-17 03:00"}},
        {"Australia/Lord_Howe",
         "45 1 * * *",
         "2026-04-04 00:00",
         {"2026-04-04 14:45", "2026-04-05 15:15"}},
    };

    (void) state;
    assert_known(table, sizeof table / sizeof table[0]);
}

static void
what_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "1/5 * * * *",
        "1- * * * *",
        "-1 * * * *",
        "1,,2 * * * *",
        "1, * * * *",
        "a * * * *",
        "* * * foo *",
        "* * * * monday",
        "1 $ * * *",
        "* * $$ * *",
        "99999999999999999999 * * * *",
        "*/99999 * * * *",
        "@reboot",
        "@dailyx",
        "@daily 1",
        "0 0 30 2 *",
        "0 0 31 2,4,6,9,11 *",
        "** * * * *",
        "* * * * *x",
        "\xff * * * *",
    };
    FleetCron cron;
    FleetError error;

    (void) state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    {
        if (fleet_cron_parse(bad[i], &cron, &error))
            fail_msg("\"%s\" is accepted", bad[i]);
        assert_true(error.message[0] != '\0' && error.hint[0] != '\0');
        assert_false(fleet_cron_parse(bad[i], &cron, NULL));
    }
}

/* As many times as minutes that match when each is looked at by itself. */
static void
nothing_is_left_out(void **state)
{
    static const char *const crons[] = {"*/7 */5 * * *", "13 4 * * 2", "0 0 1 * *", "30 2 * * *"};
    FleetTime begin = at("2026-03-01 00:00"), end = at("2026-12-01 00:00");

    (void) state;
    for (size_t i = 0; i < sizeof crons / sizeof crons[0]; i++)
    {
        for (size_t z = 0; z < 3; z++)
        {
            FleetZone zone = {offset_of, (void *) &zones[z]};
            FleetCron cron;
            FleetTime last = begin;
            uint32_t here = 0, there = 0;

            assert_true(fleet_cron_parse(crons[i], &cron, NULL));
            for (FleetTime t = fleet_cron_next(&cron, &zone, begin); t < end;
                 t = fleet_cron_next(&cron, &zone, t))
                here++;
            for (FleetTime t = begin; t < end - FLEET_SECONDS(60); t += FLEET_SECONDS(60))
            {
                if (last <= t)
                    last = fleet_cron_next(&cron, &zone, t);
                there += last == t + FLEET_SECONDS(60);
            }
            assert_int_equal(here, there);
            assert_true(here > 0);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_of_cron),      cmocka_unit_test(clocks_go_forward),
        cmocka_unit_test(clocks_go_back),      cmocka_unit_test(what_is_refused),
        cmocka_unit_test(nothing_is_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
