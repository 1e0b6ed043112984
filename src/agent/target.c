/*
 * agent/target.c
 *     Targets of tasks: a server, or a group, as one number for the core's
 *     placer.  In the agent's process.
 */
#include "postgres.h"

#include "agent/target.h"
#include "mb/pg_wchar.h"

#define NAME_BYTES (200 * MAX_MULTIBYTE_CHAR_LEN + 1)

typedef struct Target
{
    char key[2 + NAME_BYTES]; /* "s:" server or "g:" group */
    uint32 number;
} Target;

static HTAB *targets; /* Target */
static uint32 ntargets;
static AgentServer **all; /* by number; as agent_targets_define() had them */
static uint32 count;

void
agent_targets_init(void)
{
    uint32 number = AGENT_NOWHERE_SERVER;

    targets =
        agent_table("pg_fleet targets", sizeof(((Target *) 0)->key), sizeof(Target), HASH_STRINGS);
    ntargets = AGENT_FIRST_TARGET;
    count = 0;
    fleet_placer_target(fleet_engine_placer(agent.engine), AGENT_NOWHERE_TARGET, &number, 1);
}

static bool
server_matches(const AgentServer *server, const char *key)
{
    if (server->gone)
        return false;
    if (key[0] == 's')
        return strcmp(server->name, key + 2) == 0;
    for (int i = 0; i < server->ngroups; i++)
    {
        if (strcmp(server->groups[i], key + 2) == 0)
            return true;
    }
    return false;
}

/* Work for a target without any server goes to "nowhere", where it fails with the reason. */
static void
target_define(const Target *target)
{
    uint32 *members = palloc(sizeof(uint32) * Max(count, 1));
    uint32 n = 0;

    for (uint32 i = AGENT_FIRST_SERVER; i < count; i++)
    {
        if (server_matches(all[i], target->key))
            members[n++] = i;
    }
    if (n == 0)
        members[n++] = AGENT_NOWHERE_SERVER;
    fleet_placer_target(fleet_engine_placer(agent.engine), target->number, members, n);
    pfree(members);
}

uint32
agent_target(const char *server, const char *group)
{
    char key[sizeof(((Target *) 0)->key)];
    bool found;
    Target *target;

    snprintf(key, sizeof(key), "%c:%s", server != NULL ? 's' : 'g',
             server != NULL ? server : group);
    target = hash_search(targets, key, HASH_ENTER, &found);
    if (!found)
    {
        target->number = ntargets++;
        target_define(target);
    }
    return target->number;
}

void
agent_targets_define(AgentServer **servers, uint32 n)
{
    HASH_SEQ_STATUS seq;
    Target *target;

    all = servers;
    count = n;
    hash_seq_init(&seq, targets);
    while ((target = hash_seq_search(&seq)) != NULL)
        target_define(target);
}
