/*
 * sim_adversary.c
 *     Servers, and what the adversary does to them: crashes, failovers with
 *     lost commits, cut connections, killed agents and runners; until it is
 *     over and everything heals.
 */
#include "sim.h"

#include <string.h>

/* ---- servers ---- */

void
sim_copy_db(SimDb *to, const SimDb *from)
{
    *to = *from;
    to->cap_jobs = from->njobs;
    to->cap_effects = from->neffects;
    to->cap_xacts = from->nxacts;
    to->jobs = sim_alloc((from->njobs + 1) * sizeof(SimJob));
    to->effects = sim_alloc((from->neffects + 1) * sizeof(SimEffect));
    to->xacts = sim_alloc(from->nxacts + 1);
    if (from->njobs > 0)
        memcpy(to->jobs, from->jobs, from->njobs * sizeof(SimJob));
    if (from->neffects > 0)
        memcpy(to->effects, from->effects, from->neffects * sizeof(SimEffect));
    if (from->nxacts > 0)
        memcpy(to->xacts, from->xacts, from->nxacts);
}

static void
abort_open_xacts(SimDb *db)
{
    for (uint32_t i = 0; i < db->nxacts; i++)
        if (db->xacts[i] == 0)
            db->xacts[i] = 2;
}

void
sim_crash_node(Sim *s, uint32_t node, FleetTime down)
{
    SimNode *n = &s->nodes[node];

    if (!n->up)
        return;
    TRACE(s, "server %u crashes", node);
    n->up = false;
    n->up_gen++;
    child_agent_die(s, node, 0);
    for (uint32_t i = 0; i < s->nconns; i++)
        if (s->conns[i].node == node)
        {
            session_end(s, i, true);
            conn_server_dies(s, i);
        }
    abort_open_xacts(&n->db);
    n->link = SIM_NONE;
    sim_at(s, s->now + down, EV_SERVER_START, node, 0, n->up_gen);
}

void
sim_start_node(Sim *s, uint32_t node)
{
    SimNode *n = &s->nodes[node];

    if (n->up)
        return;
    TRACE(s, "server %u is up", node);
    n->up = true;
    if (n->mode == SIM_AGENT)
        sim_at(s, s->now + sim_span(s, 1, FLEET_MS(100)), EV_AGENT_START, node, 0, n->agent_gen);
    for (uint32_t p = 0; p < s->nparents; p++)
        if (s->parents[p].node == node)
            sim_at(s, s->now + sim_span(s, 1, FLEET_MS(100)), EV_PARENT_START, p, 0, 0);
}

/* The standby becomes the server; what it had not replayed never happened. */
static void
failover_node(Sim *s, uint32_t node, FleetTime down)
{
    SimNode *n = &s->nodes[node];
    uint32_t timeline = n->db.timeline + 1;

    if (!n->has_standby || !n->up)
        return;
    sim_crash_node(s, node, down);
    TRACE(s, "server %u: its standby is promoted", node);
    s->stats->failovers++;
    for (uint32_t i = n->standby.neffects; i < n->db.neffects; i++)
        s->attempts[n->db.effects[i].aid].steps[n->db.effects[i].serial].now--;
    for (uint32_t i = n->standby.njobs; i < n->db.njobs; i++)
    {
        SimAttempt *attempt = &s->attempts[n->db.jobs[i].aid];

        attempt->job_on &= ~(1u << node);
        attempt->inserts[node] = 0;
    }
    sim_copy_db(&n->db, &n->standby);
    n->db.timeline = timeline;
    for (uint32_t i = 0; i < n->db.njobs; i++) /* what ended since then has not ended */
        if (!job_final(&n->db.jobs[i]) && n->db.jobs[i].serial > 0)
            s->attempts[n->db.jobs[i].aid].steps[n->db.jobs[i].serial].reported = 0;
    abort_open_xacts(&n->db);
    n->true_epoch = n->db.seen_epoch;
    n->ever_failed_over = true;
    n->has_standby = false;
}

/* ---- the adversary ---- */

static void
cut_server(Sim *s, uint32_t node, FleetTime worst)
{
    for (uint32_t i = 0; i < s->nconns; i++)
        if (s->conns[i].node == node && s->conns[i].owner.kind == OWNER_PARENT &&
            !s->conns[i].client_done)
            conn_cut(s, i, worst);
}

static void
cut_session(Sim *s, uint32_t node, bool runner)
{
    for (uint32_t i = s->nconns; i-- > 0;)
        if (s->conns[i].node == node && !s->conns[i].link && !s->conns[i].client_done &&
            !s->conns[i].server_done)
        {
            if (runner)
                conn_server_dies(s, i);
            else
                conn_cut(s, i, FLEET_MS(300));
            return;
        }
}

void
sim_fault(Sim *s, const SimFault *f)
{
    uint32_t node = f->server == 0 ? s->parents[s->primary].node : f->server;

    if (s->healed || (s->roots_pending == 0 && parent_all_final(&s->parents[s->primary])))
        return;
    TRACE(s, "fault %d server %u span %lld", f->kind, f->server, (long long) f->span);
    switch ((SimFaultKind) f->kind)
    {
        case FAULT_CUT: cut_server(s, node, f->span); break;
        case FAULT_CUT_SESSION:
            cut_session(s, node, f->slots & 1 || s->nodes[node].mode != SIM_DIRECT);
            break;
        case FAULT_PARTITION:
            s->nodes[node].partitioned_until = s->now + f->span;
            cut_server(s, node, f->span < FLEET_SECONDS(10) ? f->span : FLEET_SECONDS(10));
            break;
        case FAULT_KILL_PARENT: parent_die(s, f->slots % s->nparents, f->span); break;
        case FAULT_CRASH_PARENT:
            sim_crash_node(s, s->parents[s->primary].node, f->span);
            parent_die(s, s->primary, f->span);
            break;
        case FAULT_KILL_AGENT: child_agent_die(s, node, f->span); break;
        case FAULT_CRASH_SERVER:
            if (f->server != 0)
                sim_crash_node(s, node, f->span);
            break;
        case FAULT_SNAPSHOT_SERVER:
            if (f->server != 0 && s->nodes[node].up)
            {
                sim_copy_db(&s->nodes[node].standby, &s->nodes[node].db);
                s->nodes[node].has_standby = true;
            }
            break;
        case FAULT_FAILOVER_SERVER:
            if (f->server != 0)
                failover_node(s, node, f->span);
            break;
        case FAULT_SNAPSHOT_PARENT: parent_snapshot(s); break;
        case FAULT_PROMOTE_PARENT: parent_promote(s, f->span); break;
        case FAULT_ADMIN: parent_admin(s, f->server, (FleetServerState) f->state, f->slots); break;
        case FAULT_CANCEL_RUN: parent_cancel_root(s, f->root, false); break;
        case FAULT_CANCEL_FINAL: parent_cancel_root(s, f->root, true); break;
        case FAULT_LIMIT: limits_change(s, f->slots); break;
        case FAULT_CHILD_CANCEL:
            if (f->server != 0)
                child_admin_cancel(s, node);
            break;
        case FAULT_SKIP: steer_skip(s, f->root, f->slots); break;
        case FAULT_RETRY: steer_retry(s, f->root, f->slots); break;
        case FAULT_PAUSE: steer_pause(s, f->root, true); break;
        case FAULT_RESUME: steer_pause(s, f->root, false); break;
        case FAULT_KINDS: break;
    }
}

void
sim_heal(Sim *s)
{
    TRACE(s, "no faults from here on");
    s->healed = true;
    for (uint32_t root = 0; root < 2 * SIM_ROOTS; root++)
        steer_pause(s, root, false);
    for (uint32_t node = 0; node < SIM_NODES; node++)
    {
        s->nodes[node].partitioned_until = 0;
        if (node > 0 && node < s->c->nservers && !s->nodes[node].up)
            sim_start_node(s, node);
    }
    for (uint32_t p = 0; p < s->nparents; p++)
    {
        sim_start_node(s, s->parents[p].node);
        s->parents[p].frozen_until = 0;
        sim_at(s, s->now, EV_PARENT_START, p, 0, 0);
    }
    for (uint32_t server = 0; server < s->c->nservers; server++)
    {
        if (s->nodes[server].mode == SIM_AGENT)
            sim_at(s, s->now, EV_AGENT_START, server, 0, s->nodes[server].agent_gen);
        parent_admin(s, server, FLEET_SERVER_ONLINE,
                     s->c->servers[server].slots > 0 ? s->c->servers[server].slots : 1);
    }
}
