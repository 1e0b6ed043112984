/*
 * agent/quota.c
 *     What a role may have at a time (agent/quota.h).  In the agent's process.
 *
 * Active runs are a key of the engine (core/engine/limits.c), tasks that take a
 * runner here a named limit of its (core/engine/named.c), both of a number that
 * no package and no limit has.  So neither takes the turn of another role.
 * Runners are counted in the pool too: steps of jobs, queries of a for_each and
 * conditions take one without the placer.
 *
 * The default leaves half of the active runs, and one runner, to others.  A
 * superuser has only what a row of his own says: he could change all of it.
 */
#include "postgres.h"

#include "agent/quota.h"
#include "agent/raise.h"
#include "guc.h"
#include "miscadmin.h"
#include "runner/pool.h"
#include "store/limits.h"
#include "store/spi.h"
#include "utils/memutils.h"

#define LOG_MB 1024 /* in an hour */
#define REACHED_EVERY FLEET_SECONDS(3600)

#define ROLE_NUMBER(role) (UINT64CONST(1) << 32 | (role))

static MemoryContext quota_context; /* of the rows */
static FleetQuotaRow *quotas;
static int nquotas;
/* A role of which the engine knows the limits. */
typedef struct Told
{
    Oid role;
    FleetTime reached_at; /* when it was said that it has all that it may; 0: never */
} Told;

static Told *told;
static int ntold;

static const FleetQuotaRow *
find(Oid role)
{
    for (int i = 0; i < nquotas; i++)
    {
        if (!quotas[i].everybody && quotas[i].role == role && OidIsValid(role))
            return &quotas[i];
    }
    return NULL;
}

static const FleetQuotaRow *
everybody(void)
{
    for (int i = 0; i < nquotas; i++)
    {
        if (quotas[i].everybody)
            return &quotas[i];
    }
    return NULL;
}

/* 0: any number */
static uint32
may_have(Oid role, uint32 own, uint32 others, int standard)
{
    if (own > 0)
        return own;
    fleet_catalog_begin();
    if (superuser_arg(role))
        return 0;
    return others > 0 ? others : (uint32) (standard > 0 ? standard : 1);
}

static uint32
max_active_runs(Oid role)
{
    const FleetQuotaRow *own = find(role), *others = everybody();

    return may_have(role, own != NULL ? own->max_active_runs : 0,
                    others != NULL ? others->max_active_runs : 0, fleet_guc_max_active_runs / 2);
}

static uint32
max_runners(Oid role)
{
    const FleetQuotaRow *own = find(role), *others = everybody();

    return may_have(role, own != NULL ? own->max_runners : 0,
                    others != NULL ? others->max_runners : 0, fleet_guc_max_runners - 1);
}

uint32
agent_quota_log_mb(Oid role)
{
    const FleetQuotaRow *own = find(role), *others = everybody();

    return may_have(role, own != NULL ? own->max_log_mb : 0,
                    others != NULL ? others->max_log_mb : 0, LOG_MB);
}

static void
tell(Oid role)
{
    uint32 runners = max_runners(role);

    fleet_engine_parallel(agent.engine, ROLE_NUMBER(role), max_active_runs(role));
    fleet_engine_named_limit(agent.engine, ROLE_NUMBER(role), runners > 0 ? runners : UINT32_MAX);
}

static Told *
tell_first(Oid role)
{
    for (int i = 0; i < ntold; i++)
    {
        if (told[i].role == role)
            return &told[i];
    }
    if (told == NULL)
        told = MemoryContextAlloc(agent.context, sizeof(Told));
    else
        told = repalloc(told, sizeof(Told) * (Size) (ntold + 1));
    told[ntold] = (Told){.role = role};
    tell(role);
    return &told[ntold++];
}

/* It has one more run, which has to wait: once an hour, however often. */
static void
say_reached(Told *of, uint32 most)
{
    FleetTime now = fleet_clock_now();
    const char *name;

    if (!fleet_engine_parallel_waits(agent.engine, ROLE_NUMBER(of->role)) ||
        (of->reached_at != 0 && now - of->reached_at < REACHED_EVERY))
        return;
    of->reached_at = now;
    name = GetUserNameFromId(of->role, true);
    agent_raise(FLEET_RAISED_QUOTA_REACHED, of->role, NULL, NULL,
                psprintf("runs of role \"%s\" wait: %u may be active at a time",
                         name != NULL ? name : "", most));
}

void
agent_quota_settings(void)
{
    for (int i = 0; i < ntold; i++)
        tell(told[i].role);
    turn_again();
}

void
agent_quota_read(void)
{
    MemoryContext old = quota_context;

    quota_context = AllocSetContextCreate(agent.context, "pg_fleet quotas", ALLOCSET_SMALL_SIZES);
    nquotas = fleet_quota_read(&quotas, quota_context);
    if (old != NULL)
        MemoryContextDelete(old);
    agent_quota_settings();
}

void
agent_quota_told(Oid owner)
{
    uint32 most = OidIsValid(owner) ? max_active_runs(owner) : 0;

    if (most == 0)
        return;
    fleet_engine_parallel(agent.engine, ROLE_NUMBER(owner), most);
    say_reached(tell_first(owner), most);
}

uint64
agent_quota_key(Oid owner)
{
    return OidIsValid(owner) && max_active_runs(owner) > 0 ? ROLE_NUMBER(owner) : 0;
}

void
agent_quota_task(Oid owner, FleetTaskSpec *spec)
{
    if (!OidIsValid(owner) || max_runners(owner) == 0)
        return;
    (void) tell_first(owner);
    spec->limits[spec->nlimits++] = ROLE_NUMBER(owner);
}

bool
agent_quota_full(Oid role)
{
    uint32 busy = fleet_runner_busy(role);
    uint32 most = busy > 0 ? max_runners(role) : 0;

    return most > 0 && busy >= most;
}

FleetExecutor *
agent_quota_runner(Oid role, const char **sqlstate, const char **why)
{
    if (!agent_quota_full(role))
        return fleet_runner_get(role, sqlstate, why);
    *sqlstate = FLEET_SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED;
    *why = "all runners that its role may have are busy (fleet.quota)";
    return NULL;
}
