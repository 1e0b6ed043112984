/*
 * link/agent_field.h
 *     The one door for what another agent answers: a field of its rows becomes
 *     a number, a time or a text that the rest of pg_fleet can rely on, or the
 *     connection is lost with the reason.  In the agent's process; for
 *     agent_report.c.
 */
#ifndef FLEET_LINK_AGENT_FIELD_H
#define FLEET_LINK_AGENT_FIELD_H

#include "link/agent_mode.h"

#define FLEET_SEQ_MAX 1000000000 /* of a log; what its attempts add up to is checked by the agent */

/* A column of numbers: its name, its bytes, and what may be in it. */
typedef struct FleetNumber
{
    const char *name;
    int width; /* 1, 4, 8 */
    int64 min, max;
    bool required; /* else null is allowed, and "missing" stands for it */
    int64 missing;
} FleetNumber;

/* A time that has a place in a calendar, and can be subtracted from another one. */
extern const int64 fleet_time_min, fleet_time_max;

/* What cannot be: 08P01, and "missing" is returned.  Look at conn.lost before the row is used. */
extern int64 fleet_agent_number(FleetAgentLink *agent, const PGresult *result, int row, int column,
                                const FleetNumber *number);
/* The same for a time; 0 for null. */
extern int64 fleet_agent_time(FleetAgentLink *agent, const PGresult *result, int row, int column,
                              const char *name, bool required);
/* Valid in our encoding, at most "cap" bytes, in the report's memory; NULL for null. */
extern const char *fleet_agent_text(FleetAgentLink *agent, const PGresult *result, int row,
                                    int column, size_t cap);
/* A text without which the row makes no sense. */
extern const char *fleet_agent_text_required(FleetAgentLink *agent, const PGresult *result, int row,
                                             int column, size_t cap, const char *name);

#endif
