/*
 * agent/job_run.c
 *     Job runs: start_job here, or asked for by a parent.  Each is a local job.
 *     In the agent's process.
 */
#include "postgres.h"

#include "agent/given.h"
#include "agent/local_job_internal.h"
#include "agent/quarantine.h"
#include "store/spi.h"
#include "miscadmin.h"
#include "utils/memutils.h"

static void
job_run_take(const FleetJobRunRow *row)
{
    LocalJob *local;
    FleetStepRow *steps;
    int nsteps = 0;

    if (local_job_by_job_run(row->job_run_id) != NULL)
        return;
    fleet_hand_take(FLEET_HAND_JOB_RUN, row->job_run_id, "work_load_job");
    /* Everything is read before anything is in memory. */
    if (row->state != FLEET_QUEUED)
        nsteps = fleet_step_read_newest(0, row->job_run_id, &steps);
    local =
        local_job_create(fleet_definition_job(row->definition, CurrentMemoryContext), row->owner);
    local_job_set_job_run(local, row->job_run_id);
    local->durable = row->state;
    local->hook_depth = row->hook_depth;
    local->parent_uuid = agent_strdup(local->context, row->parent_uuid);
    local->params = MemoryContextStrdup(local->context, row->params);
    local->given = MemoryContextStrdup(
        local->context, row->context != NULL ? row->context : agent_given_context_of_job(row->job));
    if (row->state == FLEET_QUEUED && !row->cancel)
        local_job_begin(local);
    else if (row->state == FLEET_QUEUED)
        local_job_cancel(local);
    else
    {
        local_job_recover(local, nsteps > 0 ? &steps[0] : NULL);
        if (row->cancel)
            local_job_cancel(local);
    }
}

/* One bad row never stops the agent: it fails with the reason. */
static void
job_run_fail(const FleetJobRunRow *row, const FleetDiagnostics *failure)
{
    FleetJobRunWrite w = {.job_run_id = row->job_run_id,
                          .old = row->state,
                          .state = FLEET_FAILED,
                          .finished_at = fleet_clock_wall(),
                          .row_count = -1,
                          .diag = *failure};
    LocalJob *local = local_job_by_job_run(row->job_run_id);

    fleet_hand_take(FLEET_HAND_JOB_RUN, row->job_run_id, "work_refuse");
    if (local != NULL)
        local_job_free(local);
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
job_runs_load(const int64 *ids, int n)
{
    FleetJobRunRow *rows;
    int count = fleet_job_run_read(ids, n, &rows);

    for (int i = 0; i < count; i++)
    {
        FleetDiagnostics failure;

        if (agent_quarantine_untouchable(FLEET_HAND_JOB_RUN, rows[i].job_run_id))
            continue;
        if (agent_quarantined(FLEET_HAND_JOB_RUN, rows[i].job_run_id, &failure) ||
            !agent_protected(job_run_take_arg, &rows[i], &failure))
            job_run_fail(&rows[i], &failure);
    }
    fleet_hand_empty();
}

void
job_run_cancel(int64 job_run_id)
{
    LocalJob *local = local_job_by_job_run(job_run_id);

    if (local == NULL)
        return;
    fleet_hand_take(FLEET_HAND_JOB_RUN, job_run_id, "work_cancel");
    local_job_cancel(local);
}
