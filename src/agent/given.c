/*
 * agent/given.c
 *     What work is given (given.h).  In the agent's process.
 */
#include "postgres.h"

#include "agent/given.h"
#include "agent/run.h"
#include "agent/server.h"
#include "core/state.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "store/run_write.h"
#include "store/template.h"
#include "utils/json.h"

/* Of a failure, its handlers get so many bytes of its message: the rest is in the rows. */
#define FAILURE_MESSAGE_MAX 8192

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
    if (name == NULL || name[0] == '\0')
        return;
    appendStringInfo(out, "%s\"%s\": ", out->len > 1 ? ", " : "{", key);
    escape_json(out, name);
}

/* failure: what an execution of a handler is for; NULL: it is none. */
static char *
context_of(const AgentRun *run, FleetTaskRef ref, uint16 attempt, const AgentServer *server,
           const char *failure)
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
    append_name(&out, "scheduled_for", run->scheduled_for);
    if (run->def->specs[ref.task].last)
        append_name(&out, "outcome",
                    fleet_state_name(fleet_engine_run_outcome(agent.engine, run->handle)));
    if (failure != NULL)
        appendStringInfo(&out, ", \"failure\": %s", failure);
    appendStringInfoChar(&out, '}');
    return out.data;
}

char *
agent_given_failure(const AgentRun *run, const FleetDecision *caught, const char *sqlstate,
                    const char *message)
{
    const AgentServer *server =
        caught->server == FLEET_NO_SERVER ? NULL : agent_server_by_number(caught->server);
    StringInfoData out;

    initStringInfo(&out);
    appendStringInfo(&out, "{\"run_id\": %lld, \"item\": %u, \"attempt\": %u",
                     (long long) run->run_id, caught->cause.item, caught->attempt);
    append_name(&out, "package", run->def->name);
    append_name(&out, "task", run->def->tasks[caught->cause.task].name);
    append_name(&out, "state", fleet_state_name(caught->state));
    append_name(&out, "server", server == NULL ? NULL : server->name);
    append_name(&out, "sqlstate", sqlstate);
    if (message != NULL)
        append_name(&out, "message",
                    pnstrdup(message, (Size) pg_mbcliplen(message, (int) strlen(message),
                                                          FAILURE_MESSAGE_MAX)));
    appendStringInfoChar(&out, '}');
    return out.data;
}

char *
agent_given_context(const AgentTask *task)
{
    return context_of(task->run, task->ref, task->attempt, task->server, task->failure);
}

char *
agent_given_context_of_query(const AgentRun *run, uint32 task)
{
    return context_of(run, (FleetTaskRef){run->handle, task, 0}, 0, NULL, NULL);
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
