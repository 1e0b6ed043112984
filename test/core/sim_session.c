/*
 * sim_session.c
 *     Executors: a session on a direct server, or a runner.  They run one
 *     command at a time and own its transaction; what they commit is the
 *     ground truth that the oracle compares reports with.
 *
 * A transactional command: xid assigned, command runs, xid reported, COMMIT
 * awaited.  When the way to its owner ends first, it rolls back, sooner or
 * later; a command outside a transaction may run on to its end all the same.
 */
#include "sim.h"

static void
reply(Sim *s, uint32_t number, SimMsgKind kind, uint8_t sqlstate)
{
    SimConn *conn = &s->conns[number];
    SimMsg msg = {.kind = (uint8_t) kind, .sqlstate = sqlstate};

    msg.aid = conn->aid;
    msg.serial = conn->serial;
    msg.xid = conn->xid;
    msg.timeline = s->nodes[conn->node].db.timeline;
    conn_to_client(s, number, &msg, 0);
}

static void
finish_xact(Sim *s, SimConn *conn, bool commit)
{
    SimDb *db = &s->nodes[conn->node].db;

    if (conn->xid != 0 && conn->xid <= db->nxacts && db->xacts[conn->xid - 1] == 0)
        db->xacts[conn->xid - 1] = commit ? 1 : 2;
}

static void
effect(Sim *s, const SimConn *conn)
{
    SimDb *db = &s->nodes[conn->node].db;

    SIM_GROW(db->effects, db->cap_effects, db->neffects + 1, sizeof(SimEffect));
    db->effects[db->neffects++] = (SimEffect){conn->aid, conn->serial};
    oracle_effect(s, conn->node, conn->aid, conn->serial);
}

static void
start_command(Sim *s, uint32_t number, const SimMsg *msg)
{
    SimConn *conn = &s->conns[number];
    SimNode *node = &s->nodes[conn->node];
    const SimTask *task = sim_task_of(s, msg->aid);
    const SimStepTruth *truth = &s->attempts[msg->aid].steps[msg->serial];
    const SimStep *nature = &task->nature[truth->step];
    FleetTime span = nature->duration;

    conn->aid = msg->aid;
    conn->serial = msg->serial;
    conn->transactional = msg->has;
    conn->xid = 0;
    if (conn->transactional && nature->not_transactional)
    {
        reply(s, number, MSG_NOT_TRANSACTIONAL, 0);
        return;
    }
    if (conn->transactional)
    {
        SIM_GROW(node->db.xacts, node->db.cap_xacts, node->db.nxacts + 1, 1);
        node->db.xacts[node->db.nxacts++] = 0;
        conn->xid = node->db.nxacts;
    }
    conn->session = SESSION_BUSY;
    conn->stop = false;
    span = (FleetTime) ((double) sim_span(s, span / 2, span * 2) / node->speed);
    sim_at(s, s->now + 1 + span, EV_SESSION, number, conn->serial, 0);
}

/* The command's time is over. */
void
session_done(Sim *s, uint32_t number)
{
    SimConn *conn = &s->conns[number];
    const SimTask *task;
    const SimStep *nature;

    if (conn->session != SESSION_BUSY || !s->nodes[conn->node].up)
        return;
    task = sim_task_of(s, conn->aid);
    nature = &task->nature[s->attempts[conn->aid].steps[conn->serial].step];
    if (sim_pct(s, nature->fail_pct))
    {
        finish_xact(s, conn, false);
        conn->session = SESSION_IDLE;
        reply(s, number, MSG_ERROR,
              (uint8_t) (1 + fleet_random_below(&s->random, sim_nsqlstates - 1)));
    }
    else if (conn->transactional)
    {
        conn->session = SESSION_PREPARED;
        reply(s, number, MSG_XID, 0);
    }
    else
    {
        conn->session = SESSION_IDLE;
        effect(s, conn);
        reply(s, number, MSG_COMMITTED, 0);
    }
}

void
session_message(Sim *s, uint32_t number, const SimMsg *msg)
{
    SimConn *conn = &s->conns[number];

    switch (msg->kind)
    {
        case MSG_COMMAND: start_command(s, number, msg); break;
        case MSG_COMMIT:
            if (conn->session != SESSION_PREPARED)
                break;
            conn->session = SESSION_IDLE;
            if (sim_pct(s, s->c->commit_fail_pct))
            {
                finish_xact(s, conn, false); /* a deferred constraint, say */
                reply(s, number, MSG_ERROR, 2);
                break;
            }
            finish_xact(s, conn, true);
            effect(s, conn);
            reply(s, number, MSG_COMMITTED, 0);
            break;
        case MSG_STOP:
            if (conn->session != SESSION_BUSY)
                break; /* between two commands a cancel does nothing */
            finish_xact(s, conn, false);
            conn->session = SESSION_IDLE;
            reply(s, number, MSG_CANCELED, 0);
            break;
        default: sim_fail(s, "executor got message %d", msg->kind);
    }
}

/* The way to the owner, or the process, has ended. */
void
session_end(Sim *s, uint32_t number, bool crash)
{
    SimConn *conn = &s->conns[number];

    if (conn->session == SESSION_IDLE)
        return;
    if (conn->session == SESSION_BUSY && !conn->transactional && !crash && sim_pct(s, 50))
        return; /* it does not notice before its end */
    finish_xact(s, conn, false);
    conn->session = SESSION_IDLE;
}

/* pg_xact_status(), asked by whoever knows the identity of the server that gave the xid. */
FleetExecEvent
session_xact_status(Sim *s, uint32_t node, uint64_t xid, uint32_t timeline, bool *in_progress)
{
    const SimDb *db = &s->nodes[node].db;

    *in_progress = false;
    if (timeline != db->timeline)
        return FLEET_BUG_XACT_STATUS_GUESSED ? FLEET_EXEC_XACT_ABORTED : FLEET_EXEC_XACT_UNKNOWN;
    if (xid == 0 || xid > db->nxacts)
    {
        sim_fail(s, "xid %llu was never given by this server", (unsigned long long) xid);
        return FLEET_EXEC_XACT_UNKNOWN;
    }
    switch (db->xacts[xid - 1])
    {
        case 0: *in_progress = true; return FLEET_EXEC_XACT_UNKNOWN;
        case 1:
            return !s->healed && sim_pct(s, s->c->too_old_pct) ? FLEET_EXEC_XACT_UNKNOWN
                                                               : FLEET_EXEC_XACT_COMMITTED;
        default: return FLEET_EXEC_XACT_ABORTED;
    }
}
