/*
 * link/agent_field.c
 *     Fields of another agent's answers, checked where they come in
 *     (agent_field.h).  In the agent's process; no state.
 *
 * Everything is asked for in binary, so numbers and times need no parsing, but
 * a look at their length: the other side may send anything.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "link/agent_field.h"

#include "port/pg_bswap.h"

/* Years 1900 to 9999: differences of two of them fit an interval, and all of them a calendar. */
const int64 fleet_time_min = -100 * INT64CONST(365) * USECS_PER_DAY;
const int64 fleet_time_max = 8000 * INT64CONST(365) * USECS_PER_DAY;

static int64
binary_number(const char *value, int width)
{
    uint64 wide;
    uint32 narrow;

    switch (width)
    {
        case 8: memcpy(&wide, value, 8); return (int64) pg_ntoh64(wide);
        case 4: memcpy(&narrow, value, 4); return (int32) pg_ntoh32(narrow);
    }
    return (unsigned char) value[0];
}

static int64
wrong(FleetAgentLink *agent, const FleetNumber *number, const char *what)
{
    fleet_conn_fail(&agent->conn, FLEET_SQLSTATE_PROTOCOL_VIOLATION, false,
                    "the server's answer has %s as \"%s\"", what, number->name);
    return number->missing;
}

int64
fleet_agent_number(FleetAgentLink *agent, const PGresult *result, int row, int column,
                   const FleetNumber *number)
{
    char what[64];
    int64 value;

    if (PQgetisnull(result, row, column))
        return number->required ? wrong(agent, number, "null") : number->missing;
    if (PQgetlength(result, row, column) != number->width)
    {
        snprintf(what, sizeof(what), "%d bytes instead of %d", PQgetlength(result, row, column),
                 number->width);
        return wrong(agent, number, what);
    }
    value = binary_number(PQgetvalue(result, row, column), number->width);
    if (value < number->min || value > number->max)
    {
        snprintf(what, sizeof(what), INT64_FORMAT, value);
        return wrong(agent, number, what);
    }
    return value;
}

int64
fleet_agent_time(FleetAgentLink *agent, const PGresult *result, int row, int column,
                 const char *name, bool required)
{
    FleetNumber number = {.name = name,
                          .width = 8,
                          .min = fleet_time_min,
                          .max = fleet_time_max,
                          .required = required};

    int64 time = fleet_agent_number(agent, result, row, column, &number);

    /* 0 is "null" in what becomes of it: that very microsecond is told as the next one. */
    return time == 0 && !PQgetisnull(result, row, column) ? 1 : time;
}

const char *
fleet_agent_text(FleetAgentLink *agent, const PGresult *result, int row, int column, size_t cap)
{
    size_t length = (size_t) PQgetlength(result, row, column);
    StringInfoData text = {.maxlen = (int) Min(length, cap) + 1}; /* it grows if it is converted */

    if (PQgetisnull(result, row, column))
        return NULL;
    text.data = MemoryContextAlloc(agent->report.context, (Size) text.maxlen);
    text.data[0] = '\0';
    fleet_text_append(&text, agent->conn.encoding, PQgetvalue(result, row, column), length, cap);
    return text.data;
}

const char *
fleet_agent_text_required(FleetAgentLink *agent, const PGresult *result, int row, int column,
                          size_t cap, const char *name)
{
    const char *text = fleet_agent_text(agent, result, row, column, cap);
    FleetNumber number = {.name = name};

    if (text == NULL)
        (void) wrong(agent, &number, "null");
    return text == NULL ? "" : text;
}
