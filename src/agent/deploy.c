/*
 * agent/deploy.c
 *     Deployments: documents of jobs that are sent to servers of mode agent
 *     ahead of time.  In the agent's process.
 */
#include "postgres.h"

#include "agent/deploy.h"
#include "agent/quarantine.h"
#include "agent/server.h"
#include "store/deployment.h"
#include "lib/ilist.h"
#include "store/spi.h"
#include "utils/memutils.h"

/* One that was sent, until its answer comes. */
typedef struct Deployment
{
    dlist_node node; /* in under_way */
    int64 id;
    AgentLink *link;
} Deployment;

static dlist_head under_way = DLIST_STATIC_INIT(under_way);

static bool
is_under_way(int64 id)
{
    dlist_iter iter;

    dlist_foreach(iter, &under_way)
    {
        if (dlist_container(Deployment, node, iter.cur)->id == id)
            return true;
    }
    return false;
}

static void
deployment_send(void *arg)
{
    const FleetDeploymentRow *row = arg;
    AgentServer *server = agent_server_by_id(row->server_id);
    const char *sqlstate;
    char *error;
    AgentLink *link;
    Deployment *deployment;

    fleet_hand_take(FLEET_HAND_DEPLOYMENT, row->id, "work_deploy");
    if (server == NULL)
    {
        fleet_deployment_forget(row->server_id);
        return;
    }
    if (server->held != NULL)
    {
        fleet_deployment_write(row->id, false, server->held);
        return;
    }
    link = agent_link_get(server, row->owner, &sqlstate, &error);
    if (link == NULL || !server->agent_mode)
    {
        fleet_deployment_write(row->id, false,
                               link == NULL ? error
                                            : "a server of mode direct runs the job's steps "
                                              "from here and needs no deployment");
        return;
    }
    deployment = MemoryContextAlloc(agent.context, sizeof(Deployment));
    deployment->id = row->id;
    deployment->link = link;
    dlist_push_tail(&under_way, &deployment->node);
    link->deploying++;
    fleet_link_deploy(link->link, agent_request_new(REQUEST_DEPLOY, deployment), row->document,
                      row->action);
}

static void
deployment_refuse(const FleetDeploymentRow *row, const FleetDiagnostics *failure)
{
    fleet_hand_take(FLEET_HAND_DEPLOYMENT, row->id, "work_refuse");
    fleet_deployment_write(row->id, false, failure->message);
}

void
agent_deployments_send(void)
{
    FleetDeploymentRow *rows;
    int n = fleet_deployment_take(&rows);

    for (int i = 0; i < n; i++)
    {
        FleetDiagnostics failure;

        if (is_under_way(rows[i].id) ||
            agent_quarantine_untouchable(FLEET_HAND_DEPLOYMENT, rows[i].id))
            continue;
        if (agent_quarantined(FLEET_HAND_DEPLOYMENT, rows[i].id, &failure) ||
            !agent_protected(deployment_send, &rows[i], &failure))
            deployment_refuse(&rows[i], &failure);
    }
    fleet_hand_empty();
}

void
agent_deployed(uint64 ref, bool ok, const char *message)
{
    AgentRequest *request = agent_request_find(ref);
    Deployment *deployment;

    if (request == NULL || request->kind != REQUEST_DEPLOY)
        return;
    deployment = request->owner;
    agent_request_forget(ref);
    deployment->link->deploying--;
    fleet_hand_take(FLEET_HAND_DEPLOYMENT, deployment->id, "work_deployed");
    fleet_deployment_write(deployment->id, ok, message);
    fleet_hand_empty();
    turn_again();
    dlist_delete(&deployment->node);
    pfree(deployment);
}
