/*
 * agent/given.c
 *     What work is given (given.h).  In the agent's process.
 */
#include "postgres.h"

#include "agent/given.h"
#include "agent/run.h"
#include "lib/stringinfo.h"
#include "store/run_write.h"
#include "store/template.h"
#include "utils/json.h"

/* ---- parameters ---- */

typedef struct Resolution
{
    AgentRun *run;
    uint32 task;
    char *resolved;
} Resolution;

static void
resolve(void *arg)
{
    Resolution *r = arg;

    r->resolved = fleet_params_resolve(r->run->run_id, r->task, r->run->def->tasks[r->task].params);
}

bool
agent_given_resolve(AgentRun *run, uint32 task, FleetDiagnostics *failure)
{
    Resolution r = {.run = run, .task = task};

    if (!agent_run_unresolved(run, task))
        return true;
    fleet_run_flush(); /* the ends of what came before may be in the batch */
    if (!agent_protected(resolve, &r, failure))
        return false;
    agent_run_resolved(run, task, r.resolved);
    return true;
}

/* ---- context ---- */

static void
append_name(StringInfo out, const char *key, const char *name)
{
    if (name == NULL)
        return;
    appendStringInfo(out, "%s\"%s\": ", out->len > 1 ? ", " : "{", key);
    escape_json(out, name);
}

static char *
context_of(const AgentRun *run, FleetTaskRef ref, uint16 attempt, const AgentServer *server)
{
    const FleetTaskDef *def = &run->def->tasks[ref.task];
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfo(&out, "{\"run_id\": %lld, \"item\": %u, \"attempt\": %u",
                     (long long) run->run_id, ref.item, attempt);
    append_name(&out, "run_uuid", run->uuid);
    append_name(&out, "package", run->def->name);
    append_name(&out, "task", def->name);
    append_name(&out, "job", def->job);
    append_name(&out, "server", server == NULL ? NULL : server->name);
    appendStringInfoChar(&out, '}');
    return out.data;
}

char *
agent_given_context(const AgentTask *task)
{
    return context_of(task->run, task->ref, task->attempt, task->server);
}

char *
agent_given_context_of_query(const AgentRun *run, uint32 task)
{
    return context_of(run, (FleetTaskRef){run->handle, task, 0}, 0, NULL);
}

char *
agent_given_context_of_job(const char *job)
{
    StringInfoData out;

    initStringInfo(&out);
    append_name(&out, "job", job);
    appendStringInfoChar(&out, '}');
    return out.data;
}
