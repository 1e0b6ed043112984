/*
 * agent/stat.c
 *     Counters (agent/stat.h).  In the agent's process.
 */
#include "postgres.h"

#include "agent/stat.h"
#include "storage/ipc.h"
#include "store/spi.h"
#include "store/stat.h"

/* What a transaction that is open would have counted is not so.  Nobody's lock is waited for: who drops
 * the extension has it, and waits for this process. */
static void
leave(int code, Datum arg)
{
    if (!fleet_catalog_is_open())
        fleet_stat_write_all();
}

void
agent_stat_load(void)
{
    before_shmem_exit(leave, (Datum) 0);
    fleet_stat_init(agent.context);
    fleet_stat_load();
    agent_stat_reset();
}

void
agent_stat_found(const FleetTaskRow *rows, int n)
{
    for (int i = 0; i < n; i++)
    {
        if (rows[i].attempt > 0)
            fleet_stat_found(rows[i].server_id, rows[i].state);
    }
}

void
agent_stat_reset(void)
{
    if (fleet_stat_resets_take() > 0)
        fleet_stat_reset();
}

FleetTime
agent_stat_turn(FleetTime now)
{
    FleetTime due = fleet_stat_due();

    if (due > now)
        return due;
    fleet_catalog_begin(); /* its commit writes them */
    return FLEET_NEVER;
}
