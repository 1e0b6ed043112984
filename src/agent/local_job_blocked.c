/*
 * agent/local_job_blocked.c
 *     Steps that wait for a session which waits for a run: CREATE INDEX
 *     CONCURRENTLY waits for every snapshot, and SELECT fleet.wait_for_run()
 *     holds one.  If that is the run that the step belongs to, neither ever
 *     ends; so the log says what is the matter.  In the agent's process.
 *
 * Looked at once a second, while there is such a session and a step is running
 * here.
 */
#include "postgres.h"

#include "agent/local_job_internal.h"
#include "mailbox/mailbox.h"

#define LOOK_EVERY FLEET_SECONDS(1)

static FleetTime next_look = 0;

static void
tell(LocalJob *local, int pid, int64 run_id)
{
    FleetExecutorEvent event = {.kind = FLEET_EXECUTOR_LOG,
                                .row_count = -1,
                                .diag = {.level = "WARNING", .sqlstate = FLEET_SQLSTATE_WARNING}};

    event.diag.message =
        psprintf("the step waits for session %d, which waits for run %lld and holds a snapshot",
                 pid, (long long) run_id);
    event.diag.hint = "Wait with CALL fleet.wait() instead of SELECT fleet.wait_for_run().";
    local->step.blocked_told = true;
    local_job_in_hand(local, "work_event");
    local_job_log(local, &event);
}

FleetTime
local_jobs_blocked(FleetTime now)
{
    bool look = now >= next_look, any = false;
    dlist_iter iter;

    if (!fleet_shared_has_holders(agent.shared))
        return FLEET_NEVER;
    dlist_foreach(iter, &local_jobs.all)
    {
        LocalJob *local = dlist_container(LocalJob, node, iter.cur);
        int64 run_id;
        int pid;

        if (local->finished || local->link != NULL || local->step.state != FLEET_RUNNING ||
            local->step.backend_pid == 0 || local->step.blocked_told)
            continue;
        any = true;
        if (!look)
            break;
        pid = fleet_shared_blocker(agent.shared, local->step.backend_pid, LOOK_EVERY, &run_id);
        if (pid != 0)
            tell(local, pid, run_id);
    }
    if (look)
        next_look = now + LOOK_EVERY;
    return any ? next_look : FLEET_NEVER;
}
