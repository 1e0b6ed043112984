/*
 * agent/named.c
 *     Named limits: their rows go to the engine (core/engine/named.c), and the
 *     names in tasks become numbers.  In the agent's process.
 *
 * A run that was begun before a limit was renamed has it by a name that it had.
 * A name that means nothing (any more), or a limit that the run's owner may not
 * use, limits nothing.
 */
#include "postgres.h"

#include "agent/named.h"
#include "security.h"
#include "store/limits.h"
#include "utils/memutils.h"

static MemoryContext named_context; /* of the rows */
static FleetNamedRow *named;        /* by limit_id */
static int nnamed;

void
agent_named_read(void)
{
    MemoryContext old = named_context;
    const FleetNamedRow *before = named;
    int nbefore = nnamed;

    named_context =
        AllocSetContextCreate(agent.context, "pg_fleet named limits", ALLOCSET_SMALL_SIZES);
    nnamed = fleet_named_read(&named, named_context);
    for (int i = 0; i < nnamed; i++)
        fleet_engine_named_limit(agent.engine, (uint64) named[i].limit_id, named[i].max_running);
    for (int i = 0, k = 0; i < nbefore; i++)
    {
        while (k < nnamed && named[k].limit_id < before[i].limit_id)
            k++;
        if (k == nnamed || named[k].limit_id != before[i].limit_id)
            /* dropped: what waits for it goes on */
            fleet_engine_named_limit(agent.engine, (uint64) before[i].limit_id, UINT32_MAX);
    }
    if (old != NULL)
        MemoryContextDelete(old);
    turn_again();
}

static const FleetNamedRow *
find(const char *name)
{
    for (int i = 0; i < nnamed; i++)
    {
        if (strcmp(named[i].name, name) == 0)
            return &named[i];
    }
    for (int i = 0; i < nnamed; i++)
    {
        if (fleet_names_have(&named[i].former_names, name))
            return &named[i];
    }
    return NULL;
}

void
agent_named_resolve(const FleetNames *names, Oid owner, FleetTaskSpec *spec)
{
    spec->nlimits = 0;
    for (int i = 0; i < names->n && spec->nlimits < FLEET_TASK_LIMITS - 1; i++)
    {
        const FleetNamedRow *row = find(names->names[i]);

        if (row == NULL || (!row->shared && !fleet_security_may_act(owner, row->owner)))
            continue;
        spec->limits[spec->nlimits++] = (uint64) row->limit_id;
    }
}
