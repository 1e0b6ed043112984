/*
 * core/cron.c
 *     When is a schedule due?  (cron.h)
 *
 * A schedule is a few sets of bits.  The next time is looked for by walking
 * forward from minute to minute, over whole days and hours that do not match
 * at once, with what the clock on the wall shows computed anew each time: so
 * changes of the clock need no model of their rules, only to be noticed.
 *
 * The civil calendar from a number of days: after Howard Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms" (days_from_civil).
 */
#include "core/cron.h"

#include <stdio.h>
#include <string.h>

#define MINUTE 60
#define HOUR 3600
#define DAY 86400
#define HORIZON ((int64_t) DAY * 366 * 12) /* February 29 may be 8 years away */

/* ---- parsing ---- */

typedef struct Field
{
    const char *name;
    int low, high;
    const char *names; /* of three letters each, the first one is "low" */
} Field;

enum
{
    MINUTE_FIELD,
    HOUR_FIELD,
    DAY_FIELD,
    MONTH_FIELD,
    WEEKDAY_FIELD,
    FIELDS
};

static const Field fields[FIELDS] = {
    {"minute", 0, 59, NULL},
    {"hour", 0, 23, NULL},
    {"day of month", 1, 31, NULL},
    {"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
    {"day of week", 0, 7, "sunmontuewedthufrisat"},
};

static const char *const shorthands[][2] = {
    {"@hourly", "0 * * * *"},   {"@daily", "0 0 * * *"},   {"@midnight", "0 0 * * *"},
    {"@weekly", "0 0 * * 0"},   {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
    {"@annually", "0 0 1 1 *"},
};

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* At most four digits: what is longer is out of range, whatever it says. */
static bool
parse_digits(const char **p, int *value)
{
    const char *start = *p;

    *value = 0;
    while (is_digit(**p) && *p - start < 4)
        *value = *value * 10 + (*(*p)++ - '0');
    return *p > start && !is_digit(**p);
}

static bool
parse_value(const Field *field, const char **p, int *value)
{
    if (field->names != NULL)
    {
        for (int i = 0; field->names[3 * i] != '\0'; i++)
        {
            const char *name = field->names + 3 * i;

            if (lower((*p)[0]) == name[0] && lower((*p)[1]) == name[1] && lower((*p)[2]) == name[2])
            {
                *p += 3;
                *value = field->low + i;
                return true;
            }
        }
    }
    return parse_digits(p, value) && *value >= field->low && *value <= field->high;
}

/* One element of a list: n, or * or n-m with or without /step. */
static bool
parse_range(const Field *field, const char **p, uint64_t *set)
{
    int from = field->low, to = field->high, step = 1;

    if (**p == '*')
        (*p)++;
    else
    {
        if (!parse_value(field, p, &from))
            return false;
        if (**p != '-')
        {
            *set |= UINT64_C(1) << from;
            return true;
        }
        (*p)++;
        if (!parse_value(field, p, &to) || to < from)
            return false;
    }
    if (**p == '/')
    {
        (*p)++;
        if (!parse_digits(p, &step) || step == 0)
            return false;
    }
    for (int i = from; i <= to; i += step)
        *set |= UINT64_C(1) << i;
    return true;
}

static bool
parse_field(const Field *field, const char **p, uint64_t *set, bool *last_day)
{
    for (;;)
    {
        if (**p == '$' && field == &fields[DAY_FIELD])
        {
            (*p)++;
            *last_day = true;
        }
        else if (!parse_range(field, p, set))
            return false;
        if (**p != ',')
            break;
        (*p)++;
    }
    return **p == '\0' || is_blank(**p);
}

static const char *
expand(const char *text)
{
    size_t length = 0;

    while (text[length] != '\0' && !is_blank(text[length]))
        length++;
    for (size_t i = 0; i < sizeof shorthands / sizeof shorthands[0]; i++)
    {
        size_t n = 0;

        while (n < length && shorthands[i][0][n] == lower(text[n]))
            n++;
        if (n == length && shorthands[i][0][n] == '\0')
        {
            while (is_blank(text[length]))
                length++;
            return text[length] == '\0' ? shorthands[i][1] : text;
        }
    }
    return text;
}

static bool
ever_due(const FleetCron *cron)
{
    static const int longest[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (cron->last_day || (cron->either_day && cron->weekdays != 0))
        return true;
    for (int month = 1; month <= 12; month++)
    {
        uint32_t days = (uint32_t) ((UINT64_C(1) << (longest[month] + 1)) - 1);

        if ((cron->months & UINT32_C(1) << month) && (cron->days & days))
            return true;
    }
    return false;
}

static bool
refuse(FleetError *error, const char *message, const char *field)
{
    if (error != NULL)
    {
        snprintf(error->message, sizeof error->message, message, field);
        snprintf(error->hint, sizeof error->hint,
                 "Write minute, hour, day of month, month and day of week, such as 30 2 * * 1-5.");
    }
    return false;
}

bool
fleet_cron_parse(const char *text, FleetCron *cron, FleetError *error)
{
    uint64_t sets[FIELDS] = {0};
    bool star[FIELDS];
    bool last_day = false;
    const char *p;

    while (is_blank(*text))
        text++;
    p = expand(text);
    for (int i = 0; i < FIELDS; i++)
    {
        while (is_blank(*p))
            p++;
        if (*p == '\0')
            return refuse(error, "A schedule has five fields; the one for the %s is missing.",
                          fields[i].name);
        star[i] = *p == '*';
        if (!parse_field(&fields[i], &p, &sets[i], &last_day))
            return refuse(error, "The field for the %s is not understood.", fields[i].name);
    }
    while (is_blank(*p))
        p++;
    if (*p != '\0')
        return refuse(error, "A schedule has five fields, and there is more%s.", "");
    *cron = (FleetCron){
        .minutes = sets[MINUTE_FIELD],
        .hours = (uint32_t) sets[HOUR_FIELD],
        .days = (uint32_t) sets[DAY_FIELD],
        .months = (uint32_t) sets[MONTH_FIELD],
        .weekdays = (uint8_t) ((sets[WEEKDAY_FIELD] | sets[WEEKDAY_FIELD] >> 7) & 0x7f),
        .last_day = last_day,
        .either_day = !star[DAY_FIELD] && !star[WEEKDAY_FIELD],
        .fixed = !star[MINUTE_FIELD] && !star[HOUR_FIELD],
    };
    return ever_due(cron) || refuse(error, "It is never due%s.", "");
}

/* ---- the calendar ---- */

typedef struct Civil
{
    int month, day, weekday;
    bool last_day;
} Civil;

static int64_t
divide_down(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static void
civil_of(int64_t day_number, int *year, int *month, int *day)
{
    int64_t z = day_number + 719468, era = divide_down(z, 146097);
    int64_t of_era = z - era * 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t from_march = (5 * of_year + 2) / 153;

    *day = (int) (of_year - (153 * from_march + 2) / 5 + 1);
    *month = (int) (from_march < 10 ? from_march + 3 : from_march - 9);
    *year = (int) (year_of_era + era * 400 + (*month <= 2));
}

static Civil
civil(int64_t day_number)
{
    Civil c;
    int year, next_month;

    civil_of(day_number + 1, &year, &next_month, &c.day);
    civil_of(day_number, &year, &c.month, &c.day);
    c.last_day = next_month != c.month;
    c.weekday = (int) (((day_number + 4) % 7 + 7) % 7); /* 1970-01-01 was a Thursday */
    return c;
}

/* ---- when ---- */

static bool
day_matches(const FleetCron *cron, int64_t local)
{
    Civil c = civil(divide_down(local, DAY));
    bool of_month = (cron->days & UINT32_C(1) << c.day) != 0 || (cron->last_day && c.last_day);
    bool of_week = (cron->weekdays & 1u << c.weekday) != 0;

    if ((cron->months & UINT32_C(1) << c.month) == 0)
        return false;
    return cron->either_day ? of_month || of_week : of_month && of_week;
}

static bool
hour_matches(const FleetCron *cron, int64_t local)
{
    return (cron->hours & UINT32_C(1) << ((local - divide_down(local, DAY) * DAY) / HOUR)) != 0;
}

static bool
minute_matches(const FleetCron *cron, int64_t local)
{
    int minute = (int) ((local - divide_down(local, HOUR) * HOUR) / MINUTE);

    return (cron->minutes & UINT64_C(1) << minute) != 0 && hour_matches(cron, local) &&
           day_matches(cron, local);
}

static int32_t
offset_at(const FleetZone *zone, int64_t time)
{
    return zone->offset(zone->context, time * 1000000);
}

/* The clock on the wall has shown this time already, before it was set back. */
static bool
is_repeated(const FleetZone *zone, int64_t time, int32_t offset)
{
    int32_t before = offset_at(zone, time - DAY);

    return before > offset && offset_at(zone, time - (before - offset)) == before;
}

/* Is it due at "time", a whole minute? */
static bool
is_due(const FleetCron *cron, const FleetZone *zone, int64_t time)
{
    int32_t offset = offset_at(zone, time);
    int32_t before = cron->fixed ? offset_at(zone, time - MINUTE) : offset;

    for (int64_t local = time - MINUTE + before + MINUTE; local < time + offset; local += MINUTE)
    {
        if (minute_matches(cron, local)) /* skipped by the clock that went forward just now */
            return true;
    }
    return minute_matches(cron, time + offset) && !(cron->fixed && is_repeated(zone, time, offset));
}

/*
 * The next time at which it may be due, after this one at which it is not: over the rest of a day
 * or an hour that does not match, unless the clock changes meanwhile.
 */
static int64_t
next_look(const FleetCron *cron, const FleetZone *zone, int64_t time)
{
    int32_t offset = offset_at(zone, time);
    int64_t local = time + offset, span = MINUTE;

    if (!day_matches(cron, local))
        span = (divide_down(local, DAY) + 1) * DAY - local;
    else if (!hour_matches(cron, local))
        span = (divide_down(local, HOUR) + 1) * HOUR - local;
    if (offset_at(zone, time + span) != offset)
        span = MINUTE;
    return time + (span > MINUTE ? span : MINUTE);
}

FleetTime
fleet_cron_next(const FleetCron *cron, const FleetZone *zone, FleetTime after)
{
    int64_t time = (divide_down(after, 60 * INT64_C(1000000)) + 1) * MINUTE;
    int64_t end = time + HORIZON;

    for (; time < end; time = next_look(cron, zone, time))
    {
        if (is_due(cron, zone, time))
            return time * 1000000;
    }
    return FLEET_NEVER;
}
