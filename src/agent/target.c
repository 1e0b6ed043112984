/*
 * agent/target.c
 *     Targets of tasks: a server, or a group as one run sees it, as one number for
 *     the core's placer.  In the agent's process.
 *
 * A task on a group is placed on those of its servers that the role may use, which
 * would connect there: the run's owner, or, in mode direct, the job's.  If it may
 * use none, the work waits, and says why (agent_target_hindrance()); if it would
 * fail wherever it came, it is placed, and fails with the reason.
 */
#include "postgres.h"

#include "agent/target.h"
#include "agent/pause.h"
#include "agent/ground.h"
#include "mb/pg_wchar.h"
#include "security.h"
#include "store/spi.h"
#include "utils/memutils.h"

#define NAME_BYTES (200 * MAX_MULTIBYTE_CHAR_LEN + 1)
#define REASONS_TOLD 3

typedef struct TargetKey
{
    Oid owner;                 /* a group's: of the run ... */
    Oid job_owner;             /* ... and of the job; invalid: it is not defined here, or by name */
    char name[2 + NAME_BYTES]; /* "s:" server or "g:" group */
} TargetKey;

typedef struct Target
{
    TargetKey key; /* hash key */
    uint32 number;
    uint32 users; /* runs */
    uint64 as_of; /* "version" when its servers were chosen */
    char *why;    /* nothing of it is placed, and why; NULL: not so */
    bool paused;  /* … because all its servers are */
} Target;

/* What is to be said of a server that is passed over. */
typedef enum Verdict
{
    USABLE,
    FORBIDDEN, /* until somebody grants what is missing */
    HOPELESS,  /* the work would fail there for a reason of its own */
} Verdict;

static HTAB *targets; /* Target */
static Target **by_number;
static uint32 ntargets;
static AgentServer **all; /* by number; as agent_targets_define() had them */
static uint32 count;
static uint64 version = 1; /* of servers and of what roles may use */
static uint32 nhindered;   /* with a reason */
static bool hindered;      /* agent_targets_hindered() */

void
agent_targets_init(void)
{
    uint32 number = AGENT_NOWHERE_SERVER;

    targets = agent_table("pg_fleet targets", sizeof(TargetKey), sizeof(Target), HASH_BLOBS);
    ntargets = AGENT_FIRST_TARGET;
    by_number = MemoryContextAllocZero(agent.context, sizeof(Target *) * 64);
    count = 0;
    fleet_placer_target(fleet_engine_placer(agent.engine), AGENT_NOWHERE_TARGET, &number, 1);
}

/* A name that it had before is another server's at most after the last run that may mean this one
 * by it (fleet_catalog.check_free_name()). */
static bool
server_matches(const AgentServer *server, const char *name)
{
    if (server->gone)
        return false;
    if (name[0] == 's')
        return strcmp(server->name, name + 2) == 0 ||
               fleet_names_have(&server->former_names, name + 2);
    return fleet_names_have(&server->groups, name + 2);
}

static Verdict
judge(const AgentServer *server, const TargetKey *key, const char **why)
{
    FleetLinkSpec spec;
    const char *sqlstate;
    bool by_name = server->agent_mode && !OidIsValid(key->job_owner);
    Oid role = by_name ? key->owner : key->job_owner;

    if (key->name[0] == 's')
        return USABLE; /* it was named: what is missing is told by its failure */
    if (!fleet_security_role_exists(role) ||
        (role != key->owner && !fleet_security_may_act(key->owner, role)))
        return HOPELESS;
    return agent_ground(server, role, server->agent_mode, &spec, &sqlstate, why) ? USABLE
                                                                                 : FORBIDDEN;
}

static void
target_hindered(Target *target, const char *why)
{
    if (why == NULL ? target->why == NULL : target->why != NULL && strcmp(target->why, why) == 0)
        return;
    if (target->why != NULL)
    {
        pfree(target->why);
        nhindered--;
    }
    target->why = agent_strdup(agent.context, why);
    nhindered += why != NULL ? 1 : 0;
    hindered = true;
}

static void
reason_add(StringInfo why, uint32 nth, const char *group, const char *reason)
{
    if (nth == 0)
        appendStringInfo(why, "no server of group \"%s\" can be used: %s", group, reason);
    else if (nth < REASONS_TOLD)
        appendStringInfo(why, "; %s", reason);
}

static bool
all_paused(const uint32 *members, uint32 n)
{
    for (uint32 i = 0; i < n; i++)
    {
        if (members[i] < AGENT_FIRST_SERVER || agent_pause_of_server(all[members[i]]) == NULL)
            return false;
    }
    return true;
}

/* Work for a target without any server goes to "nowhere", where it fails with the reason. */
static void
target_define(Target *target)
{
    uint32 *members = palloc(sizeof(uint32) * Max(count, 1));
    uint32 *hopeless = palloc(sizeof(uint32) * Max(count, 1));
    uint32 n = 0, nhopeless = 0, nforbidden = 0;
    StringInfoData why;

    initStringInfo(&why);
    fleet_catalog_begin(); /* rights are read */
    for (uint32 i = AGENT_FIRST_SERVER; i < count; i++)
    {
        const char *reason;

        if (!server_matches(all[i], target->key.name))
            continue;
        switch (judge(all[i], &target->key, &reason))
        {
            case USABLE: members[n++] = i; break;
            case HOPELESS: hopeless[nhopeless++] = i; break;
            case FORBIDDEN: reason_add(&why, nforbidden++, target->key.name + 2, reason); break;
        }
    }
    if (n == 0)
    {
        memcpy(members, hopeless, sizeof(uint32) * nhopeless);
        n = nhopeless;
    }
    if (n == 0 && nforbidden == 0)
        members[n++] = AGENT_NOWHERE_SERVER;
    if (nforbidden > REASONS_TOLD)
        appendStringInfo(&why, "; and %u more", nforbidden - REASONS_TOLD);
    fleet_placer_target(fleet_engine_placer(agent.engine), target->number, members, n);
    target->as_of = version;
    target->paused = n > 0 && all_paused(members, n);
    target_hindered(target, n == 0           ? why.data
                            : target->paused ? agent_pause_of_server(all[members[0]])
                                             : NULL);
    pfree(why.data);
    pfree(hopeless);
    pfree(members);
}

static Target *
target_enter(const TargetKey *key)
{
    bool found;
    Target *target = hash_search(targets, key, HASH_ENTER, &found);

    if (found)
        return target;
    memset((char *) target + sizeof(TargetKey), 0, sizeof(Target) - sizeof(TargetKey));
    target->number = ntargets++;
    if (target->number % 64 == 0)
        by_number = repalloc(by_number, sizeof(Target *) * (target->number + 64));
    by_number[target->number] = target;
    return target;
}

/* A user's memory context is reset or deleted. */
static void
leave(void *arg)
{
    ((Target *) arg)->users--;
}

uint32
agent_target(const char *server, const char *group, Oid owner, Oid job_owner, MemoryContext user)
{
    MemoryContextCallback *callback = MemoryContextAlloc(user, sizeof(MemoryContextCallback));
    TargetKey key;
    Target *target;

    memset(&key, 0, sizeof(key));
    if (server == NULL)
    {
        key.owner = owner;
        key.job_owner = job_owner;
    }
    snprintf(key.name, sizeof(key.name), "%c:%s", server != NULL ? 's' : 'g',
             server != NULL ? server : group);
    target = target_enter(&key);
    if (target->as_of != version)
        target_define(target);
    hindered |= target->why != NULL;
    target->users++;
    callback->func = leave;
    callback->arg = target;
    MemoryContextRegisterResetCallback(user, callback);
    return target->number;
}

const char *
agent_target_hindrance(uint32 number)
{
    return number < AGENT_FIRST_TARGET || number >= ntargets ? NULL : by_number[number]->why;
}

bool
agent_targets_hindered(void)
{
    bool was = hindered;

    hindered = false;
    return was;
}

/* Those that no run uses now are looked at when one does. */
void
agent_targets_look_again(void)
{
    HASH_SEQ_STATUS seq;
    Target *target;

    version++;
    hash_seq_init(&seq, targets);
    while ((target = hash_seq_search(&seq)) != NULL)
    {
        if (target->users > 0)
            target_define(target);
    }
}

bool
agent_targets_wait(void)
{
    for (uint32 i = AGENT_FIRST_TARGET; i < ntargets && nhindered > 0; i++)
    {
        if (by_number[i]->users > 0 && by_number[i]->why != NULL && !by_number[i]->paused)
            return true;
    }
    return false;
}

void
agent_targets_define(AgentServer **servers, uint32 n)
{
    all = servers;
    count = n;
    agent_targets_look_again();
}
