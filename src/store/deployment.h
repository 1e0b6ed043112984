/*
 * store/deployment.h
 *     Deployments of jobs to servers.  In the agent's process.
 */
#ifndef FLEET_STORE_DEPLOYMENT_H
#define FLEET_STORE_DEPLOYMENT_H

#include "postgres.h"

typedef struct FleetDeploymentRow
{
    int64 id;
    int server_id;
    Oid owner;
    char *document;
    char *action; /* deploy, replace or undeploy */
} FleetDeploymentRow;

/* Those that have no outcome yet, in the order of their requests; what they replace is deleted.  palloc'd in the
 * current context.  Returns how many. */
extern int fleet_deployment_take(FleetDeploymentRow **rows);
/* How it went; the message is stored with it (NULL: none).  One that was replaced meanwhile has no row. */
extern void fleet_deployment_write(int64 id, bool ok, const char *message);
/* All of a server that is gone; 0: of every one that is. */
extern void fleet_deployment_forget(int server_id);

#endif
