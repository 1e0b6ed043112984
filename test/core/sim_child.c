/*
 * sim_child.c
 *     A server in mode agent: what its sessions do with a parent's messages,
 *     and its agent.  Sessions only write rows (the agent need not be up);
 *     the agent finds new rows when it is poked, or when it starts.
 *
 * A cancel for a token that never arrived leaves a canceled row, so that a
 * start that is still under way on a dead connection finds its end there.
 */
#include "sim.h"

static SimOwner
agent_of(uint32_t node)
{
    return (SimOwner){OWNER_AGENT, (uint8_t) node};
}

static uint32_t
find_token(const SimDb *db, uint32_t aid)
{
    for (uint32_t i = db->njobs; i-- > 0;)
        if (db->jobs[i].aid == aid && !db->jobs[i].gone)
            return i;
    return SIM_NONE;
}

static void
poke(Sim *s, uint32_t node)
{
    if (s->nodes[node].agent_up)
        sim_at(s, s->now + sim_span(s, 1, 500), EV_AGENT_POKE, node, 0, s->nodes[node].agent_gen);
}

static uint32_t
insert_job(Sim *s, uint32_t node, uint32_t aid)
{
    SimDb *db = &s->nodes[node].db;
    uint32_t job = db->njobs;

    SIM_GROW(db->jobs, db->cap_jobs, job + 1, sizeof(SimJob));
    db->njobs++;
    job_init(&db->jobs[job], aid);
    job_volatile(s, agent_of(node), job)->conn = SIM_NONE;
    return job;
}

static void
send_result(Sim *s, uint32_t node, uint32_t job, uint32_t conn)
{
    SimJob *row = &s->nodes[node].db.jobs[job];
    SimMsg msg = {.kind = MSG_RESULT,
                  .aid = row->aid,
                  .state = (uint8_t) row->run.state,
                  .sqlstate = row->sqlstate};

    conn_to_client(s, conn, &msg, 0);
    if (FLEET_BUG_RESULT_BEFORE_ACK_DROPPED)
        row->gone = true;
}

static void
on_hello(Sim *s, uint32_t conn, uint32_t node)
{
    SimDb *db = &s->nodes[node].db;
    SimMsg msg = {.kind = MSG_HELLO_OK};
    SimParent *p = &s->parents[s->conns[conn].owner.index];

    s->nodes[node].link = conn;
    msg.timeline = db->timeline;
    conn_to_client(s, conn, &msg, 0);
    for (uint32_t job = 0; job < db->njobs; job++)
    {
        SimJob *row = &db->jobs[job];

        if (p->catalog.discover & (1u << node))
        {
            /* a promoted parent asks which of its tokens are here (the answer to its hello) */
            SIM_GROW(p->found, p->cap_found, row->aid + 1, sizeof(uint32_t));
            p->found[row->aid] = node + 1;
        }
        if (!row->gone && job_final(row) && !row->acked)
            send_result(s, node, job, conn);
    }
}

static void
on_start(Sim *s, uint32_t conn, uint32_t node, const SimMsg *msg)
{
    uint32_t job = find_token(&s->nodes[node].db, msg->aid);
    SimMsg answer = {.kind = MSG_STARTED, .aid = msg->aid};

    switch (fleet_start_answer(s->nodes[node].db.seen_epoch, msg->epoch, job != SIM_NONE))
    {
        case FLEET_START_NEW:
            oracle_insert(s, node, msg->aid, msg->epoch);
            insert_job(s, node, msg->aid);
            poke(s, node);
            break;
        case FLEET_START_HAVE: s->stats->resends++; break;
        case FLEET_START_REFUSED: answer.kind = MSG_REFUSED; break;
    }
    if (answer.kind == MSG_REFUSED)
        s->stats->refused++;
    conn_to_client(s, conn, &answer, 0);
    job = find_token(&s->nodes[node].db, msg->aid);
    if (job != SIM_NONE && job_final(&s->nodes[node].db.jobs[job]))
        send_result(s, node, job, conn);
}

static void
on_query(Sim *s, uint32_t conn, uint32_t node, const SimMsg *msg)
{
    uint32_t job = find_token(&s->nodes[node].db, msg->aid);
    SimMsg answer = {.kind = MSG_STATUS, .aid = msg->aid, .has = job != SIM_NONE};

    if (job != SIM_NONE)
    {
        answer.state = (uint8_t) s->nodes[node].db.jobs[job].run.state;
        answer.sqlstate = s->nodes[node].db.jobs[job].sqlstate;
    }
    conn_to_client(s, conn, &answer, 0);
}

static void
on_cancel(Sim *s, uint32_t conn, uint32_t node, uint32_t aid)
{
    uint32_t job = find_token(&s->nodes[node].db, aid);
    SimJob *row;

    if (job == SIM_NONE)
    {
        job = insert_job(s, node, aid);
        row = &s->nodes[node].db.jobs[job];
        row->run.state = FLEET_CANCELED;
        row->cancel_asked = true;
        oracle_job_ended(s, aid, row);
    }
    row = &s->nodes[node].db.jobs[job];
    row->cancel_asked = true;
    if (job_final(row))
        send_result(s, node, job, conn);
    else
        poke(s, node);
}

static void
on_xact(Sim *s, uint32_t conn, uint32_t node, const SimMsg *msg)
{
    bool in_progress;
    SimMsg answer = *msg;

    answer.kind = MSG_XACT_IS;
    answer.state = (uint8_t) session_xact_status(s, node, msg->xid, msg->timeline, &in_progress);
    answer.has = in_progress;
    conn_to_client(s, conn, &answer, 0);
}

/* A parent's message arrives on its control link. */
void
child_message(Sim *s, uint32_t conn, const SimMsg *msg)
{
    uint32_t node = s->conns[conn].node;
    SimNode *n = &s->nodes[node];
    uint32_t job;

    TRACE(s, "server %u: message %d aid %u epoch %llx", node, msg->kind, msg->aid,
          (unsigned long long) msg->epoch);
    if (n->mode == SIM_AGENT)
    {
        if (msg->epoch < n->db.seen_epoch && msg->kind != MSG_START)
        {
            SimMsg refused = {.kind = MSG_REFUSED, .aid = msg->aid};

            s->stats->refused++;
            conn_to_client(s, conn, &refused, 0);
            return;
        }
        if (msg->epoch > n->db.seen_epoch)
            n->db.seen_epoch = msg->epoch;
        if (msg->epoch > n->true_epoch)
            n->true_epoch = msg->epoch;
    }
    switch (msg->kind)
    {
        case MSG_HELLO: on_hello(s, conn, node); break;
        case MSG_START: on_start(s, conn, node, msg); break;
        case MSG_QUERY: on_query(s, conn, node, msg); break;
        case MSG_CANCEL: on_cancel(s, conn, node, msg->aid); break;
        case MSG_ACK:
            job = find_token(&n->db, msg->aid);
            if (job != SIM_NONE)
                n->db.jobs[job].acked = true;
            break;
        case MSG_XACT: on_xact(s, conn, node, msg); break;
        default: sim_fail(s, "server got message %d", msg->kind);
    }
}

/* ---- the agent ---- */

void
child_agent_poke(Sim *s, uint32_t node)
{
    SimOwner owner = agent_of(node);

    for (uint32_t job = 0; job < s->nodes[node].db.njobs && s->nodes[node].agent_up; job++)
    {
        SimJob *row = &s->nodes[node].db.jobs[job];

        if (row->gone || job_final(row))
            continue;
        if (row->cancel_asked && !row->run.cancel)
            job_drive(s, owner, job, FLEET_JOB_CANCEL, 0, 0);
        else if (row->run.state == FLEET_QUEUED)
            job_drive(s, owner, job, FLEET_JOB_BEGIN, 0, 0);
    }
}

void
child_job_finished(Sim *s, uint32_t node, uint32_t job)
{
    uint32_t link = s->nodes[node].link;

    if (link != SIM_NONE && !s->conns[link].server_done)
        send_result(s, node, job, link);
}

void
child_agent_start(Sim *s, uint32_t node)
{
    SimNode *n = &s->nodes[node];

    if (!n->up || n->agent_up)
        return;
    TRACE(s, "server %u: agent starts", node);
    n->agent_up = true;
    n->agent_gen++;
    for (uint32_t job = 0; job < n->db.njobs; job++) /* ended, and perhaps not reported */
        if (job_final(&n->db.jobs[job]) && !n->db.jobs[job].acked && !n->db.jobs[job].gone)
            child_job_finished(s, node, job);
    job_recover(s, agent_of(node), n->db.njobs);
}

void
child_agent_die(Sim *s, uint32_t node, FleetTime down)
{
    SimNode *n = &s->nodes[node];

    if (!n->agent_up)
        return;
    TRACE(s, "server %u: agent dies", node);
    s->stats->crashes++;
    n->agent_up = false;
    n->agent_gen++;
    for (uint32_t job = 0; job < n->db.njobs; job++)
    {
        SimVolatileJob *v = job_volatile(s, agent_of(node), job);

        if (v->conn != SIM_NONE)
            conn_client_dies(s, v->conn);
        v->conn = SIM_NONE;
    }
    if (n->up)
        sim_at(s, s->now + down, EV_AGENT_START, node, 0, n->agent_gen);
}

/* Somebody over there cancels what runs. */
void
child_admin_cancel(Sim *s, uint32_t node)
{
    SimDb *db = &s->nodes[node].db;

    for (uint32_t job = 0; job < db->njobs; job++)
    {
        if (job_final(&db->jobs[job]) || db->jobs[job].gone)
            continue;
        db->jobs[job].cancel_asked = true;
        s->attempts[db->jobs[job].aid].child_canceled = true;
        poke(s, node);
        return;
    }
}
