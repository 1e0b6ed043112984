/*
 * agent/job_run.c
 *     Job runs: start_job here, or asked for by a parent.  Each is a unit.
 *     In the agent's process.
 */
#include "postgres.h"

#include "agent/local_job.h"
#include "store/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

static FleetJobDef *
job_def(const char *hash)
{
    struct JobEntry
    {
        char hash[37];
        FleetJobDef *def;
    } * entry;
    bool found;

    entry = hash_search(agent.jobs, hash, HASH_FIND, &found);
    if (!found)
    {
        FleetJobDef *def = fleet_definition_job(hash, agent.context);

        entry = hash_search(agent.jobs, hash, HASH_ENTER, &found);
        entry->def = def;
    }
    return entry->def;
}

static void
job_run_take(const FleetJobRunRow *row)
{
    AgentUnit *unit;
    FleetStepRow *steps;
    int nsteps = 0;
    bool found;
    AgentUnit **entry;

    (void) hash_search(agent.job_units, &row->job_run_id, HASH_FIND, &found);
    if (found)
        return;
    /* Everything is read before anything is in memory. */
    if (row->state != FLEET_QUEUED)
        nsteps = fleet_step_read_newest(0, row->job_run_id, &steps);
    unit = agent_unit_create(job_def(row->definition), row->owner);
    unit->job_run_id = row->job_run_id;
    unit->durable = row->state;
    unit->parent_uuid = agent_strdup(unit->context, row->parent_uuid);
    unit->params = MemoryContextStrdup(unit->context, row->params);
    entry = (AgentUnit **) ((char *) hash_search(agent.job_units, &row->job_run_id, HASH_ENTER,
                                                 &found) +
                            sizeof(int64));
    *entry = unit;
    if (row->state == FLEET_QUEUED && !row->cancel)
        agent_unit_begin(unit);
    else if (row->state == FLEET_QUEUED)
        agent_unit_cancel(unit);
    else
    {
        agent_unit_recover(unit, nsteps > 0 ? &steps[0] : NULL);
        if (row->cancel && !unit->finished)
            agent_unit_cancel(unit);
    }
}

/* One bad row never stops the agent: it fails with the reason. */
static void
job_run_fail(const FleetJobRunRow *row, const AgentFailure *failure)
{
    FleetJobRunWrite w = {.job_run_id = row->job_run_id,
                          .old = row->state,
                          .state = FLEET_FAILED,
                          .finished_at = fleet_clock_wall(),
                          .row_count = -1,
                          .sqlstate = failure->sqlstate,
                          .message = failure->message};
    char *entry = hash_search(agent.job_units, &row->job_run_id, HASH_FIND, NULL);

    if (entry != NULL)
        agent_unit_free(*(AgentUnit **) (entry + sizeof(int64)));
    fleet_job_run_close(row->job_run_id, failure->sqlstate, failure->message);
    fleet_job_run_write(&w);
    if (row->parent_uuid != NULL)
        agent_notice(row->parent_uuid, row->job_run_id);
}

static void
job_run_take_arg(void *arg)
{
    job_run_take(arg);
}

void
agent_job_runs_load(const int64 *ids, int n)
{
    FleetJobRunRow *rows;
    int count = fleet_job_run_read(ids, n, &rows);

    for (int i = 0; i < count; i++)
    {
        AgentFailure failure;

        if (!agent_protected(job_run_take_arg, &rows[i], &failure))
            job_run_fail(&rows[i], &failure);
    }
}

void
agent_job_run_cancel(int64 job_run_id)
{
    bool found;
    char *entry = hash_search(agent.job_units, &job_run_id, HASH_FIND, &found);
    AgentUnit *unit;

    if (!found)
        return;
    unit = *(AgentUnit **) (entry + sizeof(int64));
    if (!unit->finished)
        agent_unit_cancel(unit);
}
