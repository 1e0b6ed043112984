/*
 * sim_job.c
 *     Drives job.h and exec.h, as the agent does: a decision is stored, then
 *     carried out.  Its owner is a child's agent (rows in that server's
 *     database, runners on the same machine) or the parent (rows in its
 *     catalog; sessions on direct servers, local runners for sql tasks).
 *
 * Between any two steps the owner may crash: every function returns at once
 * when sim_boundary() says so, and job_recover() begins again from the rows.
 */
#include "sim.h"

SimJob *
job_of(Sim *s, SimOwner owner, uint32_t job)
{
    if (owner.kind == OWNER_AGENT)
        return &s->nodes[owner.index].db.jobs[job];
    return &s->parents[owner.index].catalog.jobs[job];
}

SimVolatileJob *
job_volatile(Sim *s, SimOwner owner, uint32_t job)
{
    SimVolatileJob **array;
    uint32_t *cap, old;

    if (owner.kind == OWNER_AGENT)
    {
        array = &s->nodes[owner.index].vjobs;
        cap = &s->nodes[owner.index].cap_vjobs;
    }
    else
    {
        array = &s->parents[owner.index].vjobs;
        cap = &s->parents[owner.index].cap_vjobs;
    }
    old = *cap;
    SIM_GROW(*array, *cap, job + 1, sizeof(SimVolatileJob));
    for (; old < *cap; old++)
        (*array)[old].conn = SIM_NONE;
    return &(*array)[job];
}

void
job_init(SimJob *job, uint32_t aid)
{
    *job = (SimJob){.aid = aid};
    fleet_job_init(&job->run);
}

bool
job_final(const SimJob *job)
{
    return FLEET_STATE_IS_FINAL(job->run.state);
}

/* The server that executes it. */
static uint32_t
node_of(Sim *s, SimOwner owner, uint32_t job)
{
    SimParent *p;
    uint32_t run, row;

    if (owner.kind == OWNER_AGENT)
        return owner.index;
    p = &s->parents[owner.index];
    if (s->attempts[job_of(s, owner, job)->aid].mode == SIM_LOCAL)
        return p->node;
    if (!catalog_find(s, p, job_of(s, owner, job)->aid, &run, &row))
        return p->node;
    return p->catalog.runs[run].rows[row].server;
}

static bool
reachable(Sim *s, SimOwner owner, uint32_t job)
{
    uint32_t node = node_of(s, owner, job);

    if (owner.kind == OWNER_AGENT || s->nodes[node].mode == SIM_LOCAL)
        return true;
    return s->parents[owner.index].links[node].up;
}

static void
drop_conn(Sim *s, SimVolatileJob *v)
{
    if (v->conn != SIM_NONE)
        conn_client_dies(s, v->conn);
    v->conn = SIM_NONE;
}

/* ---- effects of exec.h ---- */

static void
send_command(Sim *s, SimOwner owner, uint32_t job)
{
    SimVolatileJob *v = job_volatile(s, owner, job);
    SimJob *row = job_of(s, owner, job);
    SimMsg msg = {.kind = MSG_COMMAND, .aid = row->aid, .serial = row->serial};
    uint32_t conn;

    if (!conn_client_open(s, v->conn))
    {
        conn = conn_open(s, owner, node_of(s, owner, job), false);
        v = job_volatile(s, owner, job);
        v->conn = conn;
        s->conns[conn].job = job;
    }
    msg.has = v->exec.transactional;
    conn_to_server(s, v->conn, &msg);
}

static void
send_to_executor(Sim *s, SimOwner owner, uint32_t job, SimMsgKind kind)
{
    SimVolatileJob *v = job_volatile(s, owner, job);
    SimMsg msg = {.kind = (uint8_t) kind, .aid = job_of(s, owner, job)->aid};

    if (v->conn != SIM_NONE)
        conn_to_server(s, v->conn, &msg);
}

/* Asks for the fate of the stored xid; the answer comes as job_resolved(). */
void
job_resolve(Sim *s, SimOwner owner, uint32_t job)
{
    SimVolatileJob *v = job_volatile(s, owner, job);
    SimJob *row = job_of(s, owner, job);
    SimMsg msg = {.kind = MSG_XACT, .aid = row->aid, .serial = row->serial};

    v->resolving = true;
    if (!reachable(s, owner, job))
        return; /* when the link is up again */
    if (owner.kind == OWNER_AGENT || s->nodes[node_of(s, owner, job)].mode == SIM_LOCAL)
    {
        uint32_t gen = owner.kind == OWNER_AGENT ? s->nodes[owner.index].agent_gen
                                                 : s->parents[owner.index].gen;
        SimEvent *event =
            sim_at(s, s->now + sim_span(s, 10, 200), EV_RESOLVE, owner.kind, owner.index, gen);

        event->c = job;
        return;
    }
    msg.xid = v->exec.xid;
    msg.timeline = v->timeline;
    msg.state = 0;
    conn_to_server(s, s->parents[owner.index].links[node_of(s, owner, job)].conn, &msg);
}

void
job_resolved(Sim *s, SimOwner owner, uint32_t job, FleetExecEvent event, bool in_progress)
{
    SimVolatileJob *v = job_volatile(s, owner, job);
    uint32_t gen;
    SimEvent *again;

    if (!v->resolving)
        return;
    if (in_progress) /* its session has not noticed yet: ask again */
    {
        gen = owner.kind == OWNER_AGENT ? s->nodes[owner.index].agent_gen
                                        : s->parents[owner.index].gen;
        again = sim_at(s, s->now + sim_span(s, FLEET_MS(5), FLEET_MS(100)), EV_RESOLVE, owner.kind,
                       owner.index, gen);
        again->c = job;
        again->b = owner.index;
        return;
    }
    v->resolving = false;
    job_exec(s, owner, job, event);
}

/* Writes what exec.h asked to be written. */
static void
store_exec(Sim *s, SimOwner owner, uint32_t job)
{
    SimVolatileJob *v = job_volatile(s, owner, job);
    SimJob *row = job_of(s, owner, job);

    if (FLEET_BUG_XID_NOT_STORED && v->exec.xid != 0)
        return;
    row->exec.phase = v->exec.phase;
    row->exec.transactional = v->exec.transactional;
    row->exec.xid = v->exec.xid;
    row->xid_timeline = v->timeline;
}

static void
step_began(Sim *s, SimOwner owner, uint32_t job)
{
    SimJob *row = job_of(s, owner, job);

    if (row->run.step_state == FLEET_STARTING)
        job_drive(s, owner, job, FLEET_JOB_STEP_RUNNING, 0, 0);
}

static void
redo(Sim *s, SimOwner owner, uint32_t job)
{
    SimJob *row = job_of(s, owner, job);

    drop_conn(s, job_volatile(s, owner, job));
    if (row->run.cancel || row->run.timed_out)
        job_drive(s, owner, job, FLEET_JOB_STEP_ENDED, FLEET_CANCELED, 0);
    else
        job_drive(s, owner, job, FLEET_JOB_STEP_REDO, 0, 0);
}

/* A direct session takes the next job's first message right behind the last COMMIT. */
static void
leave_slot(Sim *s, SimOwner owner, uint32_t job)
{
    const SimJob *row = job_of(s, owner, job);
    const SimTask *task = sim_task_of(s, row->aid);
    const FleetStepSpec *step = &task->steps[row->run.step];

    if (owner.kind != OWNER_PARENT || s->attempts[row->aid].mode != SIM_DIRECT ||
        step->on_success == FLEET_STEP_GOTO ||
        (step->on_success == FLEET_STEP_NEXT && row->run.step + 1 < task->nsteps))
        return;
    parent_put_attempt(s, owner.index, IN_LEAVING, row->aid, 0);
}

void
job_exec(Sim *s, SimOwner owner, uint32_t job, FleetExecEvent event)
{
    for (;;)
    {
        SimVolatileJob *v = job_volatile(s, owner, job);
        FleetState outcome = 0;
        FleetExecDo what;

        if (event == FLEET_EXEC_BEGIN && !reachable(s, owner, job))
        {
            v->want_begin = true;
            return;
        }
        what = fleet_exec_event(&v->exec, event, &outcome);
        TRACE(s, "  exec aid %u serial %u event %d -> %d (phase %d xid %llu)",
              job_of(s, owner, job)->aid, job_of(s, owner, job)->serial, event, what, v->exec.phase,
              (unsigned long long) v->exec.xid);
        switch (what)
        {
            case FLEET_EXEC_NOTHING: return;
            case FLEET_EXEC_STORE:
                if (sim_boundary(s, owner))
                    return;
                store_exec(s, owner, job);
                if (sim_boundary(s, owner))
                    return;
                event = FLEET_EXEC_STORED;
                continue;
            case FLEET_EXEC_SEND:
                send_command(s, owner, job);
                if (sim_boundary(s, owner))
                    return;
                step_began(s, owner, job);
                return;
            case FLEET_EXEC_SEND_COMMIT:
                send_to_executor(s, owner, job, MSG_COMMIT);
                leave_slot(s, owner, job);
                (void) sim_boundary(s, owner);
                return;
            case FLEET_EXEC_SEND_CANCEL: send_to_executor(s, owner, job, MSG_STOP); return;
            case FLEET_EXEC_RESOLVE: job_resolve(s, owner, job); return;
            case FLEET_EXEC_END:
                drop_conn(s, v);
                job_drive(s, owner, job, FLEET_JOB_STEP_ENDED, outcome, v->sqlstate);
                return;
            case FLEET_EXEC_REDO: redo(s, owner, job); return;
            case FLEET_EXEC_ILLEGAL:
                sim_fail(s, "exec.h: event %d is illegal in phase %d (in flight %d, stopping %d)",
                         event, v->exec.phase, v->exec.in_flight, v->exec.stopping);
                return;
        }
    }
}

/* ---- job.h ---- */

static void
begin_step(Sim *s, SimOwner owner, uint32_t job)
{
    SimJob *row = job_of(s, owner, job);
    SimVolatileJob *v = job_volatile(s, owner, job);
    const SimTask *task = sim_task_of(s, row->aid);
    bool marked = task->nature[row->run.step].marked;

    row->serial++;
    fleet_exec_init(&row->exec, !marked);
    row->xid_timeline = 0;
    v->exec = row->exec;
    v->timeline = 0;
    v->sqlstate = 0;
    v->resolving = v->want_begin = false;
    oracle_step_begins(s, row->aid, row->serial, row);
}

static void
set_timer(Sim *s, SimOwner owner, uint32_t job)
{
    SimJob *row = job_of(s, owner, job);
    uint32_t gen =
        owner.kind == OWNER_AGENT ? s->nodes[owner.index].agent_gen : s->parents[owner.index].gen;
    SimEvent *event;

    if (job_final(row) || row->run.due == FLEET_NEVER)
        return;
    event = sim_at(s, row->run.due > s->now ? row->run.due : s->now, EV_JOB_TIMER, owner.kind,
                   owner.index, gen);
    event->c = job;
}

static void
ended(Sim *s, SimOwner owner, uint32_t job)
{
    drop_conn(s, job_volatile(s, owner, job));
    if (owner.kind == OWNER_AGENT)
        child_job_finished(s, owner.index, job);
    else
        parent_job_finished(s, owner.index, job);
}

void
job_drive(Sim *s, SimOwner owner, uint32_t job, FleetJobEvent event, FleetState outcome,
          uint8_t sqlstate)
{
    SimJob *row = job_of(s, owner, job);
    const SimTask *task = sim_task_of(s, row->aid);
    FleetJobRun run = row->run;
    FleetJobDo what;
    FleetTime due = run.due;

    if (row->dead || s->failed)
        return;
    what = fleet_job_event(task->steps, task->nsteps, &run, event, outcome,
                           sqlstate == 0 ? NULL : sim_sqlstates[sqlstate], s->now, &s->random);
    TRACE(s, "  job aid %u event %d outcome %d -> %d (state %d step %u attempt %u)", row->aid,
          event, outcome, what, run.state, run.step, run.attempt);
    if (what == FLEET_JOB_ILLEGAL)
    {
        sim_fail(s, "job.h: event %d (outcome %d) is illegal in state %d, step state %d", event,
                 outcome, row->run.state, row->run.step_state);
        return;
    }
    if (sim_boundary(s, owner))
        return;
    if (event == FLEET_JOB_STEP_ENDED)
        oracle_step_ended(s, row->aid, row->serial, outcome, sqlstate, row->run.timed_out, row);
    row->run = run;
    if (event == FLEET_JOB_STEP_ENDED)
        row->sqlstate = sqlstate;
    if (what == FLEET_JOB_START_STEP && event != FLEET_JOB_STEP_REDO)
        begin_step(s, owner, job);
    if (what == FLEET_JOB_FINISH)
        oracle_job_ended(s, row->aid, row);
    if (sim_boundary(s, owner))
        return;
    if (run.due != due || what == FLEET_JOB_WAIT || what == FLEET_JOB_START_STEP)
        set_timer(s, owner, job);
    switch (what)
    {
        case FLEET_JOB_START_STEP: job_exec(s, owner, job, FLEET_EXEC_BEGIN); break;
        case FLEET_JOB_CANCEL_STEP: job_exec(s, owner, job, FLEET_EXEC_CANCEL); break;
        case FLEET_JOB_FINISH: ended(s, owner, job); break;
        case FLEET_JOB_NOTHING:
        case FLEET_JOB_WAIT:
        case FLEET_JOB_ILLEGAL: break;
    }
}

void
job_timer(Sim *s, SimOwner owner, uint32_t job)
{
    SimJob *row = job_of(s, owner, job);

    if (row->dead || job_final(row) || row->run.due > s->now || row->run.state == FLEET_QUEUED)
        return;
    job_drive(s, owner, job, FLEET_JOB_TIMER, 0, 0);
}

/* ---- what an executor says ---- */

void
job_message(Sim *s, SimOwner owner, uint32_t conn, const SimMsg *msg)
{
    uint32_t job = s->conns[conn].job;
    SimVolatileJob *v = job_volatile(s, owner, job);

    if (v->conn != conn || job_of(s, owner, job)->dead)
        return;
    TRACE(s, "aid %u: executor says %d", msg->aid, msg->kind);
    v->sqlstate = msg->sqlstate;
    switch (msg->kind)
    {
        case MSG_XID:
            v->exec.xid = msg->xid;
            v->timeline = msg->timeline;
            job_exec(s, owner, job, FLEET_EXEC_GOT_XID);
            break;
        case MSG_COMMITTED: job_exec(s, owner, job, FLEET_EXEC_GOT_COMMITTED); break;
        case MSG_ERROR: job_exec(s, owner, job, FLEET_EXEC_GOT_ERROR); break;
        case MSG_CANCELED: job_exec(s, owner, job, FLEET_EXEC_GOT_CANCELED); break;
        case MSG_NOT_TRANSACTIONAL: job_exec(s, owner, job, FLEET_EXEC_NOT_TRANSACTIONAL); break;
        default: sim_fail(s, "owner got message %d from an executor", msg->kind);
    }
}

void
job_cut(Sim *s, SimOwner owner, uint32_t conn)
{
    uint32_t job = s->conns[conn].job;
    SimVolatileJob *v = job_volatile(s, owner, job);

    if (v->conn != conn)
        return;
    v->conn = SIM_NONE;
    if (job_of(s, owner, job)->dead || job_final(job_of(s, owner, job)))
        return;
    TRACE(s, "aid %u: executor is cut off", job_of(s, owner, job)->aid);
    job_exec(s, owner, job, FLEET_EXEC_CUT);
}

/* Given up: lost to its owner, or surely not started. */
void
job_abandon(Sim *s, SimOwner owner, uint32_t job)
{
    job_of(s, owner, job)->dead = true;
    drop_conn(s, job_volatile(s, owner, job));
}

/* ---- recovery ---- */

static void
recover_one(Sim *s, SimOwner owner, uint32_t job)
{
    SimJob *row = job_of(s, owner, job);
    SimVolatileJob *v = job_volatile(s, owner, job);

    *v = (SimVolatileJob){.conn = SIM_NONE, .timeline = row->xid_timeline, .exec = row->exec};
    v->exec.in_flight = v->exec.stopping = false;
    if (row->dead || row->gone || job_final(row))
        return;
    set_timer(s, owner, job);
    if (row->run.state == FLEET_QUEUED)
    {
        if (owner.kind == OWNER_PARENT)
            parent_job_accepted(s, owner.index, job);
        if (!row->cancel_asked)
            job_drive(s, owner, job, FLEET_JOB_BEGIN, 0, 0);
    }
    else if (!FLEET_STATE_IS_FINAL(row->run.step_state) && row->run.step_state != FLEET_RETRYING)
        job_exec(s, owner, job, FLEET_EXEC_CUT);
    if (!sim_owner_up(s, owner))
        return;
    row = job_of(s, owner, job);
    if (row->cancel_asked && !row->run.cancel && !job_final(row))
        job_drive(s, owner, job, FLEET_JOB_CANCEL, 0, 0);
}

void
job_recover(Sim *s, SimOwner owner, uint32_t njobs)
{
    for (uint32_t job = 0; job < njobs && sim_owner_up(s, owner); job++)
        recover_one(s, owner, job);
}
