/*
 * agent/ground.c
 *     The ground that a link stands on: whether its role may use the server now,
 *     and how; and links that it may not use.  In the agent's process; called by
 *     server.c, which says when to look.
 */
#include "postgres.h"

#include "agent/ground.h"
#include "guc.h"
#include "security.h"

/* What holds for the role there now; false: it may not use the server, and why.  Strings live as
 * long as the turn. */
bool
agent_ground(const AgentServer *server, Oid role, bool agent_mode, FleetLinkSpec *spec,
             const char **sqlstate, const char **why)
{
    const char **keywords;
    const char **values;

    memset(spec, 0, sizeof(*spec));
    spec->server_id = server->server_id;
    spec->server_name = server->name;
    spec->role = role;
    spec->mode = agent_mode ? &fleet_mode_agent : &fleet_mode_direct;
    spec->slots = (int) server->spec.slots;
    if (!fleet_security_connection(server->foreign, server->name, role, &keywords, &values,
                                   &spec->superuser, sqlstate, why))
        return false;
    spec->keywords = keywords;
    spec->values = values;
    return true;
}

/* What it runs ends as by the loss of the link: the server itself may be well. */
void
agent_link_forbid(AgentLink *link, const char *sqlstate, const char *why)
{
    if (link->forbidden != NULL && strcmp(link->forbidden, why) == 0)
        return;
    if (link->forbidden != NULL)
        pfree(link->forbidden);
    link->forbidden = agent_strdup(agent.context, why);
    link->forbidden_sqlstate = sqlstate;
    fleet_link_forbid(link->link, sqlstate, why);
    turn_again();
}

void
agent_link_allow(AgentLink *link)
{
    if (link->forbidden == NULL)
        return;
    pfree(link->forbidden);
    link->forbidden = NULL;
    link->refused_at = 0;
    fleet_link_forbid(link->link, NULL, NULL);
}

FleetTime
agent_link_refused(AgentLink *link, bool idle, FleetTime now, void (*give_up)(AgentLink *link))
{
    FleetTime patience = FLEET_MS((FleetTime) fleet_guc_lost_after);

    if (idle)
        link->refused_at = 0; /* the time limit is of what hangs on it */
    if (link->refused_at == 0)
        return FLEET_NEVER;
    if (now - link->refused_at < patience)
        return link->refused_at + patience;
    give_up(link);
    return FLEET_NEVER;
}
