/*
 * agent/pause.c
 *     What is paused: rows that sessions write, as they were read last
 *     (agent/pause.h).  In the agent's process.
 */
#include "postgres.h"

#include "agent/pause.h"
#include "store/steer.h"
#include "utils/memutils.h"

static MemoryContext context; /* of "pauses" */
static FleetPauseRow *pauses;
static int npauses;

void
agent_pauses_read(void)
{
    MemoryContext old = context, before;

    context = AllocSetContextCreate(agent.context, "pg_fleet pauses", ALLOCSET_SMALL_SIZES);
    before = MemoryContextSwitchTo(context);
    npauses = fleet_pause_read(&pauses);
    MemoryContextSwitchTo(before);
    if (old != NULL)
        MemoryContextDelete(old);
}

const char *
agent_pause_of_server(const AgentServer *server)
{
    for (int i = 0; i < npauses && !server->gone; i++)
    {
        for (int g = 0; pauses[i].group != NULL && g < server->groups.n; g++)
        {
            if (strcmp(server->groups.names[g], pauses[i].group) == 0)
                return pauses[i].why;
        }
    }
    return NULL;
}

static bool
concerns(const FleetPauseRow *pause, const AgentRun *run)
{
    if (pause->run_id != 0)
        return pause->run_id == run->run_id;
    if (pause->package != NULL)
        return run->state == FLEET_QUEUED && !run->nested &&
               strcmp(pause->package, run->def->name) == 0;
    return pause->group == NULL;
}

bool
agent_pause_of_run(const AgentRun *run)
{
    for (int i = 0; i < npauses; i++)
    {
        if (concerns(&pauses[i], run))
            return true;
    }
    return run->parent_task != NULL && agent_pause_of_run(run->parent_task->run);
}

bool
agent_pause_of_package(const char *package)
{
    for (int i = 0; i < npauses; i++)
    {
        if (pauses[i].run_id != 0 || pauses[i].group != NULL)
            continue;
        if (pauses[i].package == NULL ||
            (package != NULL && strcmp(pauses[i].package, package) == 0))
            return true;
    }
    return false;
}
