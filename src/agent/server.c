/*
 * agent/server.c
 *     Servers as the agent knows them: rows of the catalog, members of the
 *     core's placer, links with a role each.  In the agent's process.
 */
#include "postgres.h"

#include "agent/server.h"
#include "agent/pause.h"
#include "agent/target.h"
#include "agent/ground.h"
#include "agent/history.h"
#include "agent/health.h"
#include "agent/quarantine.h"
#include "agent/quota.h"
#include "store/deployment.h"
#include "store/spi.h"
#include "guc.h"
#include "security.h"
#include "utils/memutils.h"

static HTAB *servers; /* AgentServer by server_id */
static AgentServer **by_number;
static uint32 nservers; /* numbers given out, AGENT_FIRST_SERVER included */
static const AgentServerHooks *hooks;

static bool speeds_changed = false;
static bool links_retired = false; /* some server may have one, or one that is forbidden */
static bool links_refused = false; /* the same */
static uint64 checked = 0;         /* fleet_security_generation() of the last look at all links */
static FleetTime look_at = FLEET_NEVER; /* when to look whether anything has changed */

/*
 * The server tells nobody who sleeps that a catalog has changed.  So while
 * something runs over a link, there is a turn so often: it costs a look at a
 * flag in shared memory.
 */
#define LOOK_EVERY FLEET_SECONDS(1)

/* This server as one of the placer's: its slots are for local tasks. */
static void
local_server(void)
{
    FleetServerSpec local = {.state = FLEET_SERVER_ONLINE,
                             .slots = (uint32) fleet_guc_max_runners,
                             .weight = 1,
                             .speed = 1};

    fleet_engine_server(agent.engine, AGENT_LOCAL_SERVER, &local, fleet_clock_now());
}

/* The configuration was loaded again. */
void
agent_settings_changed(void)
{
    fleet_engine_limits(agent.engine, FLEET_MS((FleetTime) fleet_guc_lost_after),
                        (uint32) fleet_guc_max_active_runs);
    local_server();
    agent_history_now();
    agent_quota_settings(); /* and the turn comes again */
}

void
agent_servers_init(const AgentServerHooks *server_hooks)
{
    FleetServerSpec nowhere = {
        .state = FLEET_SERVER_ONLINE, .slots = 1000000, .weight = 1, .speed = 1};

    hooks = server_hooks;
    servers = agent_table("pg_fleet servers", sizeof(int), sizeof(AgentServer), HASH_BLOBS);
    nservers = AGENT_FIRST_SERVER;
    local_server();
    fleet_engine_server(agent.engine, AGENT_NOWHERE_SERVER, &nowhere, fleet_clock_now());
    agent_targets_init();
}

AgentServer *
agent_server_by_id(int server_id)
{
    return hash_search(servers, &server_id, HASH_FIND, NULL);
}

AgentServer *
agent_server_by_number(uint32 number)
{
    return number >= AGENT_FIRST_SERVER && number < nservers ? by_number[number] : NULL;
}

/* ---- rows of servers ---- */

static void
server_apply(AgentServer *server)
{
    server->spec.state = server->admin_state;
    if (server->admin_state == FLEET_SERVER_ONLINE && server->suspect)
        server->spec.state = FLEET_SERVER_SUSPECT;
    else if (server->admin_state == FLEET_SERVER_ONLINE && agent_pause_of_server(server) != NULL)
        server->spec.state = FLEET_SERVER_DRAINING;
    server->spec.speed = fleet_speed_value(&server->speed);
    fleet_engine_server(agent.engine, server->number, &server->spec, fleet_clock_now());
    turn_again();
}

static FleetServerState
admin_state(const char *state)
{
    if (strcmp(state, "online") == 0)
        return FLEET_SERVER_ONLINE;
    return strcmp(state, "draining") == 0 ? FLEET_SERVER_DRAINING : FLEET_SERVER_OFFLINE;
}

static AgentServer *
server_enter(int server_id)
{
    bool found;
    AgentServer *server = hash_search(servers, &server_id, HASH_ENTER, &found);

    if (found)
        return server;
    memset((char *) server + sizeof(int), 0, sizeof(AgentServer) - sizeof(int));
    server->number = nservers++;
    dlist_init(&server->links);
    if (by_number == NULL)
        by_number = MemoryContextAllocZero(agent.context, sizeof(AgentServer *) * 64);
    else if (nservers % 64 == 0)
        by_number = repalloc(by_number, sizeof(AgentServer *) * (nservers + 64));
    by_number[server->number] = server;
    return server;
}

/* Mode or slots may have changed. */
static void
links_recheck(AgentServer *server)
{
    dlist_iter iter;

    checked = 0;
    dlist_foreach(iter, &server->links)
    {
        dlist_container(AgentLink, node, iter.cur)->checked = 0;
    }
}

static void
names_take(FleetNames *names, const FleetNames *row)
{
    names->n = row->n;
    names->names = MemoryContextAlloc(agent.context, sizeof(char *) * Max(row->n, 1));
    for (int i = 0; i < row->n; i++)
        names->names[i] = MemoryContextStrdup(agent.context, row->names[i]);
}

static void
names_drop(FleetNames *names)
{
    for (int i = 0; i < names->n; i++)
        pfree(names->names[i]);
    pfree(names->names);
}

/* All who need a name for longer have a copy. */
static void
names_free(AgentServer *server)
{
    if (server->name == NULL)
        return;
    pfree(server->name);
    names_drop(&server->groups);
    names_drop(&server->former_names);
}

/* A server is suspect as long as a link is that knocks there: without one, its return would
 * remain unnoticed. */
static void
server_suspects(AgentServer *server)
{
    bool suspect = server->held != NULL;
    dlist_iter iter;

    dlist_foreach(iter, &server->links)
    {
        suspect |= dlist_container(AgentLink, node, iter.cur)->suspect;
    }
    if (server->suspect == suspect)
        return;
    server->suspect = suspect;
    server_apply(server);
}

/* In quarantine nothing connects to it, as if it did not answer. */
static void
server_hold(AgentServer *server)
{
    FleetDiagnostics why;
    bool held = agent_quarantined(FLEET_HAND_SERVER, server->server_id, &why);
    dlist_iter iter;

    if (!held && server->held == NULL)
        return;
    if (server->held != NULL)
        pfree(server->held);
    server->held = held ? agent_strdup(agent.context, why.message) : NULL;
    dlist_foreach(iter, &server->links)
    {
        fleet_link_hold(dlist_container(AgentLink, node, iter.cur)->link, server->held);
    }
}

static void
server_take(const FleetServerRow *row)
{
    AgentServer *server = server_enter(row->server_id);

    server_hold(server);
    if (server->held == NULL)
        fleet_hand_take(FLEET_HAND_SERVER, row->server_id, "work_server");
    server->gone = false;
    names_free(server);
    server->foreign = row->foreign;
    server->name = MemoryContextStrdup(agent.context, row->name);
    server->agent_mode = row->agent_mode;
    server->admin_state = admin_state(row->state);
    links_recheck(server);
    server->spec.slots = (uint32) row->slots;
    server->spec.weight = row->weight;
    names_take(&server->groups, &row->groups);
    names_take(&server->former_names, &row->former_names);
    if (server->speed.evidence <= 0)
        server->speed = row->speed;
    server_suspects(server);
    server_apply(server);
    fleet_hand_empty();
}

static void
server_gone(AgentServer *server)
{
    server->gone = true;
    fleet_deployment_forget(server->server_id);
    server->admin_state = FLEET_SERVER_OFFLINE;
    server_apply(server);
}

/* Nothing uses it, or will come back to it for the fate of what it did. */
static bool
link_is_idle(AgentLink *link)
{
    return dlist_is_empty(&link->tasks) && dlist_is_empty(&link->waiting) && link->deploying == 0 &&
           !hooks->in_use(link);
}

static void
link_free(AgentLink *link)
{
    if (link->forbidden != NULL)
        pfree(link->forbidden);
    if (link->asked)
        hooks->unasked(link);
    fleet_link_close(link->link);
    dlist_delete(&link->node);
    pfree(link);
}

/* Idle links that are of no use are closed; they are made anew when they are needed. */
static void
links_refresh(AgentServer *server)
{
    FleetHealthWrite row = {.server_id = server->server_id, .status = "unknown"};
    bool was_suspect = server->suspect, changed = false;
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &server->links)
    {
        AgentLink *link = dlist_container(AgentLink, node, iter.cur);

        /* One that knocks at a server that is away goes on: else its return would remain unnoticed. */
        if (((!link->up && !link->suspect) || link->retired || link->forbidden != NULL ||
             server->gone) &&
            link_is_idle(link))
        {
            changed |= link->retired || link->forbidden != NULL;
            link_free(link);
        }
        else if (link->retired || link->forbidden != NULL)
            links_retired = true;
    }
    server_suspects(server);
    /* Nobody knocks there any more: whether it is back is seen when it gets work.  Until then it
     * is what it was, or, if it is reached otherwise now, nothing is known. */
    if (was_suspect && !server->suspect && !server->gone && changed)
        agent_health_add(&row);
}

void
agent_servers_tidy(void)
{
    HASH_SEQ_STATUS seq;
    AgentServer *server;

    if (!links_retired)
        return;
    links_retired = false;
    hash_seq_init(&seq, servers);
    while ((server = hash_seq_search(&seq)) != NULL)
        links_refresh(server);
}

void
agent_servers_load(void)
{
    FleetServerRow *rows;
    int n = fleet_server_read(&rows);
    HASH_SEQ_STATUS seq;
    AgentServer *server;

    hash_seq_init(&seq, servers);
    while ((server = hash_seq_search(&seq)) != NULL)
    {
        bool there = false;

        for (int i = 0; i < n && !there; i++)
            there = rows[i].server_id == server->server_id;
        if (!there && !server->gone)
            server_gone(server);
    }
    for (int i = 0; i < n; i++)
        server_take(&rows[i]);
    hash_seq_init(&seq, servers);
    while ((server = hash_seq_search(&seq)) != NULL)
        links_refresh(server);
    agent_targets_define(by_number, nservers);
}

void
agent_servers_pause(void)
{
    for (uint32 i = AGENT_FIRST_SERVER; i < nservers; i++)
        server_apply(by_number[i]);
    agent_targets_look_again();
}

uint32
agent_servers_count(void)
{
    return nservers;
}

void
agent_servers_learn(const FleetSpeedSample *samples, uint32 n, double *tonight)
{
    FleetAlloc alloc = agent_alloc(CurrentMemoryContext);
    FleetSpeed elsewhere, **speeds = palloc(sizeof(FleetSpeed *) * nservers);

    fleet_speed_init(&elsewhere);
    for (uint32 i = 0; i < nservers; i++)
        speeds[i] = i < AGENT_FIRST_SERVER ? &elsewhere : &by_number[i]->speed;
    fleet_speed_learn(&alloc, speeds, nservers, samples, n, tonight);
    for (uint32 i = 0; i < n; i++)
        by_number[samples[i].server]->speed_changed = true;
    speeds_changed |= n > 0;
    pfree(speeds);
}

/* ---- links ---- */

static AgentLink *
link_find(AgentServer *server, Oid role)
{
    dlist_iter iter;

    dlist_foreach(iter, &server->links)
    {
        AgentLink *link = dlist_container(AgentLink, node, iter.cur);

        if (link->role == role && !link->retired)
            return link;
    }
    return NULL;
}

/*
 * It would be made in the other mode now: it gets nothing new.  What waits for a
 * session and never started is placed again; what runs ends where it is.
 */
static void
link_retire(AgentLink *link)
{
    if (link->retired)
        return;
    link->retired = links_retired = true;
    hooks->retired(link);
    turn_again();
}

static AgentLink *
link_new(AgentServer *server, const FleetLinkSpec *spec)
{
    AgentLink *link = MemoryContextAllocZero(agent.context, sizeof(AgentLink));

    link->server = server;
    link->role = spec->role;
    link->agent_mode = spec->mode == &fleet_mode_agent;
    dlist_init(&link->waiting);
    dlist_init(&link->unclean);
    dlist_init(&link->tasks);
    link->link = fleet_link_create(agent.loop, &agent.identity, spec, link);
    if (server->held != NULL)
        fleet_link_hold(link->link, server->held);
    dlist_push_tail(&server->links, &link->node);
    return link;
}

/* Something may have changed since its ground was looked at. */
static void
link_check(AgentLink *link, uint64 generation)
{
    FleetLinkSpec spec;
    const char *sqlstate;
    const char *why;

    if (link->checked == generation)
        return;
    link->checked = generation;
    if (link->agent_mode != link->server->agent_mode)
        link_retire(link);
    if (!agent_ground(link->server, link->role, link->agent_mode, &spec, &sqlstate, &why))
    {
        agent_link_forbid(link, sqlstate, why);
        links_retired = true;
        return;
    }
    fleet_link_change(link->link, &spec);
    agent_link_allow(link);
}

/* NULL, and why, unless "whatever": then it is forbidden. */
static AgentLink *
link_make(AgentServer *server, Oid role, bool whatever, const char **sqlstate, char **error)
{
    FleetLinkSpec spec;
    const char *why;
    bool allowed = agent_ground(server, role, server->agent_mode, &spec, sqlstate, &why);
    AgentLink *link;

    if (!allowed && !whatever)
    {
        *error = pstrdup(why);
        return NULL;
    }
    link = link_new(server, &spec);
    if (!allowed)
    {
        agent_link_forbid(link, *sqlstate, why);
        links_retired = true;
    }
    return link;
}

static AgentLink *
link_of(AgentServer *server, Oid role, bool whatever, const char **sqlstate, char **error)
{
    AgentLink *link = link_find(server, role);
    uint64 generation;

    if (look_at == FLEET_NEVER)
        look_at = fleet_clock_now() + LOOK_EVERY;
    fleet_catalog_begin(); /* the catalog is read */
    generation = fleet_security_generation();
    if (link != NULL)
        link_check(link, generation);
    if (link == NULL || link->retired)
        link = link_make(server, role, whatever, sqlstate, error);
    if (link == NULL)
        return NULL;
    link->checked = generation;
    if (link->forbidden == NULL || whatever)
        return link;
    *sqlstate = link->forbidden_sqlstate;
    *error = pstrdup(link->forbidden);
    return NULL;
}

/* Whether the role may use it is looked at each time, if anything has changed since the last. */
AgentLink *
agent_link_get(AgentServer *server, Oid role, const char **sqlstate, char **error)
{
    return link_of(server, role, false, sqlstate, error);
}

AgentLink *
agent_link_again(AgentServer *server, Oid role)
{
    const char *sqlstate;
    char *error;

    return link_of(server, role, true, &sqlstate, &error);
}

/* ---- links, as time goes by ---- */

static void
links_check_all(uint64 generation)
{
    HASH_SEQ_STATUS seq;
    AgentServer *server;

    fleet_catalog_begin();
    hash_seq_init(&seq, servers);
    while ((server = hash_seq_search(&seq)) != NULL)
    {
        dlist_iter iter;

        dlist_foreach(iter, &server->links)
        {
            link_check(dlist_container(AgentLink, node, iter.cur), generation);
        }
    }
}

static bool
any_link_in_use(void)
{
    for (uint32 i = AGENT_FIRST_SERVER; i < nservers; i++)
    {
        dlist_iter iter;

        dlist_foreach(iter, &by_number[i]->links)
        {
            if (!link_is_idle(dlist_container(AgentLink, node, iter.cur)))
                return true;
        }
    }
    return false;
}

FleetTime
agent_links_check(FleetTime now)
{
    uint64 generation = fleet_security_generation();

    if (generation != checked)
    {
        links_check_all(generation);
        agent_targets_look_again();
    }
    checked = generation;
    if (look_at <= now || (look_at == FLEET_NEVER && agent_targets_wait()))
        look_at = any_link_in_use() || agent_targets_wait() ? now + LOOK_EVERY : FLEET_NEVER;
    return look_at;
}

bool
agent_servers_dirty(void)
{
    return agent_health_pending() || speeds_changed;
}

static void
speeds_flush(void)
{
    if (!speeds_changed)
        return;
    speeds_changed = false;
    for (uint32 i = AGENT_FIRST_SERVER; i < nservers; i++)
    {
        AgentServer *server = by_number[i];

        if (!server->speed_changed)
            continue;
        server->speed_changed = false;
        fleet_hand_take(FLEET_HAND_SERVER, server->server_id, "work_health");
        fleet_speed_write(server->server_id, &server->speed);
        server_apply(server);
    }
}

void
agent_servers_flush(void)
{
    speeds_flush();
    agent_health_flush();
    fleet_hand_empty();
}

void
agent_links_forget_idle(AgentServer *server, Oid role)
{
    dlist_mutable_iter iter;

    dlist_foreach_modify(iter, &server->links)
    {
        AgentLink *link = dlist_container(AgentLink, node, iter.cur);

        if (!link->suspect && !link->asked && (!OidIsValid(role) || link->role == role) &&
            link_is_idle(link))
            link_free(link);
    }
}

/* Called for every message. */
void
agent_server_heard(AgentServer *server)
{
    server->heard_at = fleet_clock_wall();
    if (!server->suspect)
        agent_health_heard(server);
}

void
agent_link_up(AgentLink *link, const FleetLinkIdentity *identity)
{
    AgentServer *server = link->server;
    FleetHealthWrite row = {.server_id = server->server_id,
                            .status = "up",
                            .version = identity->version,
                            .seen_at = fleet_clock_wall(),
                            .identifier_known = identity->identifier_known,
                            .system_identifier = identity->system_identifier,
                            .timeline = identity->timeline,
                            .crash_mark = identity->crash_mark};
    dlist_iter iter;

    link->up = true;
    link->probing = false;
    link->refused_at = 0;
    link->refused[0] = '\0';
    agent_health_add(&row);
    dlist_foreach(iter, &server->links)
    {
        dlist_container(AgentLink, node, iter.cur)->suspect = false;
    }
    server_suspects(server);
}

void
agent_link_down(AgentLink *link, const char *sqlstate, const char *reason, bool permanent)
{
    FleetHealthWrite row = {.server_id = link->server->server_id,
                            .status = !permanent                   ? "suspect"
                                      : agent_health_another(link) ? "up"
                                                                   : agent_health_refused(sqlstate),
                            .seen_at = link->server->heard_at,
                            .sqlstate = sqlstate,
                            .error = reason};

    link->up = false;
    link->probing = false;
    if (permanent && link->refused_at == 0)
    {
        link->refused_at = fleet_clock_now();
        links_refused = true;
        turn_again();
    }
    if (!fleet_sqlstate_in(sqlstate, FLEET_SQLCLASS_CONNECTION))
        strlcpy(link->refused, reason, sizeof(link->refused));
    if (link->server->held == NULL) /* else the quarantine says why */
        agent_health_add(&row);
}

/*
 * A server that does not answer is suspect, and after fleet.lost_after the engine gives up what is
 * there.  One that refuses one of our roles is there for the others: what that role has there is given
 * up alone.
 */
FleetTime
agent_links_refused(FleetTime now, void (*give_up)(AgentLink *link))
{
    FleetTime next = FLEET_NEVER;
    HASH_SEQ_STATUS seq;
    AgentServer *server;

    if (!links_refused)
        return FLEET_NEVER;
    hash_seq_init(&seq, servers);
    while ((server = hash_seq_search(&seq)) != NULL)
    {
        dlist_iter iter;

        dlist_foreach(iter, &server->links)
        {
            AgentLink *link = dlist_container(AgentLink, node, iter.cur);

            if (link->refused_at == 0)
                continue; /* whether it is idle is not looked at, in every turn, for nothing */
            next = fleet_earlier(next, agent_link_refused(link, link_is_idle(link), now, give_up));
        }
    }
    links_refused = next != FLEET_NEVER;
    return next;
}

void
agent_link_suspect(AgentLink *link, bool permanent)
{
    /* A refusal: it answers.  What is placed there learns why it is refused, and what runs there has
     * a time limit of its own. */
    link->suspect = !permanent;
    server_suspects(link->server);
}
