/*
 * agent/deploy.c
 *     Deployments: documents of jobs that are sent to servers of mode agent
 *     ahead of time.  In the agent's process.
 */
#include "postgres.h"

#include "agent/deploy.h"
#include "agent/server.h"
#include "store/deployment.h"
#include "store/spi.h"
#include "utils/memutils.h"

/* One that was sent, until its answer comes. */
typedef struct Deployment
{
    int server_id;
    char *job;
    AgentLink *link;
} Deployment;

static void
deployment_send(void *arg)
{
    const FleetDeploymentRow *row = arg;
    AgentServer *server = agent_server_by_id(row->server_id);
    const char *sqlstate;
    char *error = "the server is not known";
    AgentLink *link = server == NULL ? NULL : agent_link_get(server, row->owner, &sqlstate, &error);
    Deployment *deployment;

    if (link == NULL || !server->agent_mode)
    {
        fleet_deployment_write(row->server_id, row->job, false,
                               link == NULL ? error
                                            : "a server of mode direct runs the job's steps "
                                              "from here and needs no deployment");
        return;
    }
    deployment = MemoryContextAlloc(agent.context, sizeof(Deployment));
    deployment->server_id = row->server_id;
    deployment->job = MemoryContextStrdup(agent.context, row->job);
    deployment->link = link;
    link->deploying++;
    fleet_link_deploy(link->link, agent_request_new(REQUEST_DEPLOY, deployment), row->document);
}

void
agent_deployments_send(void)
{
    FleetDeploymentRow *rows;
    int n = fleet_deployment_read_queued(&rows);

    for (int i = 0; i < n; i++)
    {
        FleetDiagnostics failure;

        if (!agent_protected(deployment_send, &rows[i], &failure))
            fleet_deployment_write(rows[i].server_id, rows[i].job, false, failure.message);
    }
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
    fleet_deployment_write(deployment->server_id, deployment->job, ok, message);
    turn_again();
    pfree(deployment->job);
    pfree(deployment);
}
