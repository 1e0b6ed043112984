/*
 * store/deployment.h
 *     Deployments of jobs to servers.  In the agent's process.
 */
#ifndef FLEET_STORE_DEPLOYMENT_H
#define FLEET_STORE_DEPLOYMENT_H

#include "postgres.h"

typedef struct FleetDeploymentRow
{
    int server_id;
    char *job;
    Oid owner;
    char *document;
} FleetDeploymentRow;

/* Those that were asked for and not sent yet; palloc'd in the current context.  Returns how many. */
extern int fleet_deployment_read_queued(FleetDeploymentRow **rows);
/* How it went; the message is stored with it (NULL: none). */
extern void fleet_deployment_write(int server_id, const char *job, bool ok, const char *message);

#endif
