/*
 * sim_parent.c
 *     The parent agent as a driver of the engine: its inbox, its links, the
 *     requests of sessions.  (Its turn: sim_turn.c and sim_commit.c; how it
 *     begins: sim_recover.c.)
 *
 * It is also the parent of the surviving world or, after a promotion, the
 * zombie of a lost one: the same code, with an epoch that children refuse.
 */
#include "sim.h"

/* ---- inbox ---- */

void
parent_turn_soon(Sim *s, uint32_t parent, FleetTime at)
{
    SimParent *p = &s->parents[parent];

    if (!p->up || p->engine == NULL || (p->turn_due && p->turn_at <= at))
        return;
    p->turn_due = true;
    p->turn_at = at;
    sim_at(s, at, EV_TURN, parent, 0, p->gen);
}

void
parent_put(Sim *s, uint32_t parent, const SimInbox *in)
{
    SimParent *p = &s->parents[parent];

    if (!p->up)
        return;
    SIM_GROW(p->inbox, p->cap_inbox, p->ninbox + 1, sizeof(SimInbox));
    p->inbox[p->ninbox++] = *in;
    /* a late turn collects several events, an early one splits them */
    parent_turn_soon(s, parent, s->now + (sim_pct(s, 70) ? 0 : sim_span(s, 1, FLEET_MS(3))));
}

void
parent_put_attempt(Sim *s, uint32_t parent, SimInboxKind kind, uint32_t aid, FleetState state)
{
    SimInbox in = {
        .kind = (uint8_t) kind, .aid = aid, .state = (uint8_t) state, .server = SIM_NONE};

    parent_put(s, parent, &in);
}

void
parent_job_accepted(Sim *s, uint32_t parent, uint32_t job)
{
    parent_put_attempt(s, parent, IN_ACCEPTED, s->parents[parent].catalog.jobs[job].aid, 0);
}

void
parent_job_finished(Sim *s, uint32_t parent, uint32_t job)
{
    const SimJob *row = &s->parents[parent].catalog.jobs[job];
    SimInbox in = {.kind = IN_FINISHED,
                   .aid = row->aid,
                   .state = (uint8_t) row->run.state,
                   .sqlstate = row->sqlstate,
                   .server = SIM_NONE};

    parent_put(s, parent, &in);
}

/* ---- what sessions of the parent's server do: rows first, then wake the agent ---- */

void
parent_root(Sim *s, uint32_t root)
{
    SimParent *p = &s->parents[s->primary];
    const SimRoot *r = &s->c->roots[root];
    SimInbox in = {.kind = IN_NEW_RUN};

    s->roots_pending--;
    in.run = catalog_new_run(s, &p->catalog, r->package,
                             sim_rid(s, sim_mix(s->c->seed, root + 1), r->package), r->priority);
    limits_new_run(s, &p->catalog.runs[in.run], r->wait);
    parent_put(s, s->primary, &in);
}

void
parent_cancel_root(Sim *s, uint32_t root, bool last)
{
    SimParent *p = &s->parents[s->primary];
    SimInbox in = {.kind = IN_CANCEL};

    for (uint32_t i = 0, n = 0; i < p->catalog.nruns; i++)
    {
        SimRun *run = &p->catalog.runs[i];

        if (run->owner_run != SIM_NONE || n++ != root || FLEET_STATE_IS_FINAL(run->state))
            continue;
        s->stats->cancels++;
        TRACE(s, "run %u: cancel accepted", i);
        catalog_cancel(s, &p->catalog, i, last);
        in.run = i;
        parent_put(s, s->primary, &in);
        return;
    }
}

void
parent_admin(Sim *s, uint32_t server, FleetServerState state, uint32_t slots)
{
    SimParent *p = &s->parents[s->primary];
    SimInbox in = {.kind = IN_SERVER, .server = server};

    p->catalog.admin[server] = (uint8_t) state;
    p->catalog.slots[server] = slots;
    parent_put(s, s->primary, &in);
}

/* ---- answers of for_each queries and conditions ---- */

void
parent_items(Sim *s, uint32_t parent, uint32_t run, uint32_t task)
{
    SimParent *p = &s->parents[parent];
    const SimTask *t = &s->c->packages[p->catalog.runs[run].package].tasks[task];
    const SimRun *old = restart_items(&p->catalog, &p->catalog.runs[run], task);
    SimInbox in = {.kind = IN_ITEMS, .run = run, .row = task, .value = t->items};

    in.has = t->items_fail && old == NULL;
    if (old != NULL)
        in.value = old->count[task];
    else if (in.value > 0 && sim_pct(s, s->c->volatile_pct))
        in.value = fleet_random_below(&s->random, in.value + 1);
    parent_put(s, parent, &in);
}

void
parent_condition(Sim *s, uint32_t parent, uint32_t run, uint32_t edge, uint32_t question)
{
    SimParent *p = &s->parents[parent];
    uint64_t hash = sim_mix(s->c->seed, sim_mix(s->rids[p->catalog.runs[run].rid].key, edge));
    SimInbox in = {.kind = IN_CONDITION, .run = run, .row = edge, .aid = question};

    if (sim_pct(s, s->c->volatile_pct))
        hash = fleet_random_next(&s->random);
    in.value = hash % 100 < 5 ? 3 : hash % 100 < 40 ? 1 : 2;
    parent_put(s, parent, &in);
}

/* ---- links ---- */

void
parent_connect(Sim *s, uint32_t parent, uint32_t server)
{
    SimParent *p = &s->parents[parent];
    SimMsg msg = {.kind = MSG_HELLO, .epoch = p->epoch};

    if (!p->up || p->links[server].conn != SIM_NONE)
        return;
    p->links[server].conn = conn_open(s, parent_owner(parent), server, true);
    conn_to_server(s, p->links[server].conn, &msg);
}

void
parent_link_down(Sim *s, uint32_t parent, uint32_t conn)
{
    SimParent *p = &s->parents[parent];
    SimInbox in = {.kind = IN_SERVER};

    for (uint32_t server = 1; server < s->c->nservers; server++)
    {
        if (p->links[server].conn != conn)
            continue;
        p->links[server].conn = SIM_NONE;
        sim_at(s, s->now + sim_span(s, FLEET_MS(5), FLEET_MS(400)), EV_CONNECT, parent, server,
               p->gen);
        if (!p->links[server].up)
            return;
        TRACE(s, "parent %u: link to %u is down", parent, server);
        p->links[server].up = false;
        in.server = server;
        parent_put(s, parent, &in);
        for (uint32_t i = 0; FLEET_BUG_CUT_IS_FAILURE && i < p->catalog.nruns; i++)
            for (uint32_t row = 0; row < p->catalog.runs[i].nrows; row++)
                if (p->catalog.runs[i].rows[row].server == server &&
                    p->catalog.runs[i].rows[row].state == FLEET_RUNNING)
                    parent_put_attempt(s, parent, IN_FINISHED, p->catalog.runs[i].rows[row].aid,
                                       FLEET_FAILED);
    }
}

/* Job runs of the parent's own that waited for the link. */
static void
wake_direct_jobs(Sim *s, uint32_t parent, uint32_t server)
{
    SimParent *p = &s->parents[parent];
    uint32_t gen = p->gen;

    for (uint32_t job = 0; job < p->catalog.njobs && p->up && p->gen == gen; job++)
    {
        SimVolatileJob *v = job_volatile(s, parent_owner(parent), job);
        uint32_t run, row;

        if (p->catalog.jobs[job].dead || job_final(&p->catalog.jobs[job]) ||
            (!v->want_begin && !v->resolving) ||
            !catalog_find(s, p, p->catalog.jobs[job].aid, &run, &row) ||
            p->catalog.runs[run].rows[row].server != server)
            continue;
        if (v->resolving)
            job_resolve(s, parent_owner(parent), job);
        else
        {
            v->want_begin = false;
            job_exec(s, parent_owner(parent), job, FLEET_EXEC_BEGIN);
        }
    }
}

static void
on_hello_ok(Sim *s, uint32_t parent, uint32_t server)
{
    SimParent *p = &s->parents[parent];
    SimInbox in = {.kind = IN_SERVER, .server = server, .has = 1};

    TRACE(s, "parent %u: link to %u is up", parent, server);
    p->links[server].up = true;
    p->catalog.discover &= ~(1u << server);
    parent_put(s, parent, &in);
    if (p->engine == NULL && p->catalog.discover == 0)
        parent_build_engine(s, parent);
    else if (p->engine != NULL)
        wake_direct_jobs(s, parent, server);
}

static void
on_xact_is(Sim *s, uint32_t parent, const SimMsg *msg)
{
    SimParent *p = &s->parents[parent];
    uint32_t run, row, job;

    if (!catalog_find(s, p, msg->aid, &run, &row))
        return;
    job = p->catalog.runs[run].rows[row].job;
    if (job == SIM_NONE || p->catalog.jobs[job].dead ||
        p->catalog.jobs[job].serial != msg->serial ||
        job_volatile(s, parent_owner(parent), job)->exec.xid != msg->xid)
        return;
    job_resolved(s, parent_owner(parent), job, (FleetExecEvent) msg->state, msg->has);
}

static void
on_refused(Sim *s, uint32_t parent)
{
    if (parent == s->primary)
    {
        sim_fail(s, "a child refused the parent with the highest epoch");
        return;
    }
    TRACE(s, "parent %u is fenced off", parent);
    s->parents[parent].fenced = true;
    parent_die(s, parent, FLEET_SECONDS(1));
}

void
parent_link_message(Sim *s, uint32_t conn, const SimMsg *msg)
{
    uint32_t parent = s->conns[conn].owner.index;
    uint32_t server = s->conns[conn].node;
    SimInbox in = {.aid = msg->aid,
                   .server = server,
                   .state = msg->state,
                   .has = msg->has,
                   .sqlstate = msg->sqlstate};

    if (s->parents[parent].links[server].conn != conn)
        return;
    switch (msg->kind)
    {
        case MSG_HELLO_OK: on_hello_ok(s, parent, server); return;
        case MSG_REFUSED: on_refused(s, parent); return;
        case MSG_XACT_IS: on_xact_is(s, parent, msg); return;
        case MSG_STARTED: in.kind = IN_ACCEPTED; break;
        case MSG_RESULT: in.kind = IN_FINISHED; break;
        case MSG_STATUS: in.kind = IN_STATUS; break;
        default: sim_fail(s, "parent got message %d", msg->kind);
    }
    parent_put(s, parent, &in);
}

bool
parent_all_final(const SimParent *p)
{
    for (uint32_t i = 0; i < p->catalog.nruns; i++)
        if (!FLEET_STATE_IS_FINAL(p->catalog.runs[i].state))
            return false;
    return true;
}
