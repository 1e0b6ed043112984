/*
 * agent/limits.c
 *     When a run may begin, and must have ended: what its row says goes to the
 *     engine (agent/limits.h).  In the agent's process.
 *
 * Runs of one package are those with its number: it may be renamed, or dropped
 * while they are open.
 */
#include "postgres.h"

#include "agent/limits.h"
#include "agent/quota.h"
#include "agent/run.h"
#include "hand.h"
#include "store/limits.h"

void
agent_limits_load(AgentRun *run, const FleetRunRow *row)
{
    FleetRunLimits limits = {.key = (uint64) row->package_id,
                             .role_key = agent_quota_key(row->owner),
                             .order = (uint64) Max(row->queued_at, row->run_at),
                             .replaces = row->replaces,
                             .timeout = row->timeout,
                             .timed_out = row->timed_out};

    if (row->run_at > fleet_clock_wall())
        limits.not_before = fleet_clock_from_wall(row->run_at);
    if (row->started_at != 0)
        limits.since = fleet_clock_from_wall(row->started_at);
    fleet_engine_run_limits(agent.engine, run->handle, &limits, fleet_clock_now());
    if (row->package_id != 0)
        fleet_engine_parallel(agent.engine, limits.key, row->max_parallel);
    agent_quota_told(row->owner);
}

void
agent_limits_read(void)
{
    FleetLimitRow *rows;
    int n = fleet_limits_read(&rows);

    for (int i = 0; i < n; i++)
        fleet_engine_parallel(agent.engine, (uint64) rows[i].package_id, rows[i].max_parallel);
    turn_again();
}

void
agent_limits_replaced(AgentRun *run, const AgentRun *by)
{
    fleet_limits_replaced(run->run_id, by->run_id);
    agent_run_stopped(run, psprintf("replaced by run " INT64_FORMAT, by->run_id));
}
