/*
 * sim_recover.c
 *     How a parent begins again: after a crash from its rows, after a
 *     promotion from a stale copy of them.
 *
 * A promoted parent first says hello to every child with its higher epoch,
 * and learns which of its tokens are there; only then does it decide
 * anything.  What it then starts goes to where its token already is.
 */
#include "sim.h"

static bool
answers(uint8_t state)
{
    return state == FLEET_SERVER_ONLINE || state == FLEET_SERVER_DRAINING;
}

void
parent_set_server(Sim *s, uint32_t parent, FleetEngine *engine, uint32_t server)
{
    SimParent *p = &s->parents[parent];
    FleetServerSpec spec = {.slots = p->catalog.slots[server],
                            .weight = s->c->servers[server].weight,
                            .speed = s->c->servers[server].speed};

    spec.state = (FleetServerState) p->catalog.admin[server];
    if (server != 0 && spec.state != FLEET_SERVER_OFFLINE && !p->links[server].up)
        spec.state = FLEET_SERVER_SUSPECT;
    if (engine == p->engine)
    {
        if (answers(p->known[server]) || answers((uint8_t) spec.state))
            p->last_answer[server] = s->now;
        p->known[server] = (uint8_t) spec.state;
    }
    fleet_engine_server(engine, server, &spec, s->now);
}

static void
load_row(FleetEngine *engine, uint32_t handle, const SimRow *row, uint32_t task, uint32_t item)
{
    FleetLoad load = {.ref = {handle, task, item},
                      .state = (FleetState) row->state,
                      .attempt = row->attempt,
                      .failures = row->failures,
                      .server = row->server,
                      .since = row->since,
                      .retry_at = row->retry_at};

    if (row->written)
        fleet_engine_load(engine, &load);
}

static uint32_t
load_run(Sim *s, FleetEngine *engine, const SimCatalog *catalog, uint32_t number)
{
    const SimRun *run = &catalog->runs[number];
    const SimPackage *package = &s->c->packages[run->package];
    uint32_t handle =
        fleet_engine_run_add(engine, s->graphs[run->package], run->priority, number, s->now);

    if (run->owner_run != SIM_NONE)
        fleet_engine_run_nested(engine, handle);
    if (s->c->strict)
        fleet_engine_run_strict(engine, handle);
    if (run->cancel_last)
        fleet_engine_load_cancel_final(engine, handle);
    limits_tell(s, catalog, engine, handle, number);
    if (run->state != FLEET_QUEUED)
        fleet_engine_load_running(engine, handle);
    else
        restart_load(s, engine, handle, run);
    for (uint32_t task = 0; task < package->ntasks; task++)
        if (run->count[task] != SIM_NONE)
            fleet_engine_load_items(engine, handle, task, run->count[task]);
    for (uint32_t row = 0; row < run->nrows; row++)
    {
        uint32_t task, item;

        catalog_row_place(run, package, row, &task, &item);
        if (run->state != FLEET_QUEUED || !run->rows[row].carried)
            load_row(engine, handle, &run->rows[row], task, item);
    }
    for (uint32_t edge = 0; edge < package->nedges; edge++)
        if (run->condition[edge] == 1 || run->condition[edge] == 2)
            fleet_engine_load_condition(engine, handle, edge, run->condition[edge] == 2);
    steer_load(s, catalog, engine, handle, number);
    fleet_engine_run_loaded(engine, handle, run->cancel, s->now);
    return handle;
}

/* An engine as it follows from the rows alone.  handles[run]: SIM_NONE for those that ended. */
FleetEngine *
parent_load_engine(Sim *s, uint32_t parent, uint32_t *handles)
{
    SimParent *p = &s->parents[parent];
    FleetEngineConfig config = {.lost_after = s->c->lost_after,
                                .local_server = 0,
                                .max_active_runs = s->c->max_active_runs,
                                .slice = s->c->slice,
                                .crowd = s->c->crowd};
    FleetEngine *engine =
        fleet_engine_create(&sim_core_alloc, &config, fleet_random_next(&s->random));
    bool first = p->engine == NULL;

    if (first)
        p->engine = engine;
    named_tell(s->c, engine);
    for (uint32_t server = 0; server < s->c->nservers; server++)
        parent_set_server(s, parent, engine, server);
    for (uint32_t target = 0; target < s->c->ntargets; target++)
        fleet_placer_target(fleet_engine_placer(engine), target, s->c->targets[target],
                            s->c->target_sizes[target]);
    for (uint32_t run = 0; run < p->catalog.nruns; run++)
        handles[run] = FLEET_STATE_IS_FINAL(p->catalog.runs[run].state)
                           ? SIM_NONE
                           : load_run(s, engine, &p->catalog, run);
    return engine;
}

/* What had ended, or begun, without the engine's having been told. */
static void
feed_pending(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];

    for (uint32_t run = 0; run < p->catalog.nruns; run++)
        for (uint32_t row = 0; row < p->catalog.runs[run].nrows; row++)
        {
            const SimRow *r = &p->catalog.runs[run].rows[row];
            SimInbox in = {.aid = r->aid, .server = SIM_NONE};

            if (r->state != FLEET_STARTING && r->state != FLEET_RUNNING &&
                r->state != FLEET_CANCELING)
                continue;
            if (r->job != SIM_NONE && job_final(&p->catalog.jobs[r->job]))
            {
                in.kind = IN_FINISHED;
                in.state = (uint8_t) p->catalog.jobs[r->job].run.state;
                in.sqlstate = p->catalog.jobs[r->job].sqlstate;
                parent_put(s, parent, &in);
            }
            else if (r->job != SIM_NONE && p->catalog.jobs[r->job].run.state != FLEET_QUEUED)
            {
                in.kind = IN_ACCEPTED;
                parent_put(s, parent, &in);
            }
            if (r->sub != SIM_NONE)
            {
                in.kind = FLEET_STATE_IS_FINAL(p->catalog.runs[r->sub].state) ? IN_SUB_ENDED
                                                                              : IN_ACCEPTED;
                in.state = p->catalog.runs[r->sub].state;
                parent_put(s, parent, &in);
            }
        }
}

void
parent_build_engine(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];
    uint32_t *handles = sim_alloc((p->catalog.nruns + 1) * sizeof(uint32_t));

    parent_load_engine(s, parent, handles);
    for (uint32_t i = 0; i < s->c->npackages; i++)
        p->limits_told[i] = p->catalog.limits[i];
    SIM_GROW(p->vruns, p->cap_vruns, p->catalog.nruns, sizeof(SimVolatileRun));
    for (uint32_t run = 0; run < p->cap_vruns; run++)
        p->vruns[run] = (SimVolatileRun){.handle = SIM_NONE};
    for (uint32_t run = 0; run < p->catalog.nruns; run++)
    {
        for (uint32_t row = 0; row < p->catalog.runs[run].nrows; row++)
        {
            SimRow *r = &p->catalog.runs[run].rows[row];

            r->passed = 0; /* the placer's count is gone with the agent */
            r->avoid = 0;
            /* the engine takes every queued one that was somewhere for one that was not started */
            r->shy = r->state == FLEET_QUEUED && r->attempt > 0 ? r->server + 1 : 0;
            r->leaving = false;
        }
        p->vruns[run].handle = handles[run];
        p->vruns[run].loaded = handles[run] != SIM_NONE;
    }
    feed_pending(s, parent);
    steer_recover(s, parent);
    job_recover(s, (SimOwner){OWNER_PARENT, (uint8_t) parent}, p->catalog.njobs);
    parent_turn_soon(s, parent, s->now);
}

void
parent_start(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];

    if (!p->exists || p->up || p->fenced || !s->nodes[p->node].up)
        return;
    p->up = true;
    p->gen++;
    p->ninbox = 0;
    p->turn_due = false;
    p->catalog.starts++;
    p->epoch = fleet_epoch(p->catalog.timeline, p->catalog.starts);
    TRACE(s, "parent %u: agent starts, epoch %llx", parent, (unsigned long long) p->epoch);
    for (uint32_t server = 0; server < s->c->nservers; server++)
    {
        p->links[server] = (SimLink){.conn = SIM_NONE};
        p->last_answer[server] = s->now;
        if (server != 0)
            sim_at(s, s->now + sim_span(s, 1, FLEET_MS(2)), EV_CONNECT, parent, server, p->gen);
    }
    if (p->catalog.discover == 0)
        parent_build_engine(s, parent);
}

/* The agent is gone with all that is volatile; down: when it starts again. */
void
parent_die(Sim *s, uint32_t parent, FleetTime down)
{
    SimParent *p = &s->parents[parent];

    if (!p->up)
        return;
    TRACE(s, "parent %u: agent dies", parent);
    s->stats->crashes++;
    p->up = false;
    p->gen++;
    p->ninbox = p->nbatch = 0;
    if (p->engine != NULL)
        fleet_engine_free(p->engine);
    p->engine = NULL;
    for (uint32_t server = 1; server < s->c->nservers; server++)
    {
        if (p->links[server].conn != SIM_NONE)
            conn_client_dies(s, p->links[server].conn);
        p->links[server] = (SimLink){.conn = SIM_NONE};
    }
    for (uint32_t job = 0; job < p->catalog.njobs; job++)
    {
        SimVolatileJob *v = job_volatile(s, (SimOwner){OWNER_PARENT, (uint8_t) parent}, job);

        if (v->conn != SIM_NONE)
            conn_client_dies(s, v->conn);
        v->conn = SIM_NONE;
    }
    sim_at(s, s->now + down, EV_PARENT_START, parent, 0, p->gen);
}

/* ---- an asynchronous standby of the parent ---- */

void
parent_snapshot(Sim *s)
{
    SimParent *p = &s->parents[s->primary];

    catalog_copy(&p->standby, &p->catalog, s->c);
    p->standby_effects = s->nodes[p->node].db.neffects;
    p->standby_xacts = s->nodes[p->node].db.nxacts;
    p->has_standby = true;
}

static void
promote_local_node(Sim *s, const SimParent *old, SimParent *new)
{
    SimNode *from = &s->nodes[old->node];
    SimNode *to = &s->nodes[new->node];

    *to = (SimNode){.mode = SIM_LOCAL, .speed = from->speed, .up = true, .link = SIM_NONE};
    sim_copy_db(&to->db, &from->db);
    to->db.timeline = from->db.timeline + 1;
    to->db.neffects = old->standby_effects;
    to->db.nxacts = old->standby_xacts;
    for (uint32_t i = 0; i < to->db.nxacts; i++)
        if (to->db.xacts[i] == 0)
            to->db.xacts[i] = 2;
    /* committed after the copy: this world never sees it */
    for (uint32_t i = old->standby_effects; i < from->db.neffects; i++)
        s->attempts[from->db.effects[i].aid].steps[from->db.effects[i].serial].now--;
    from->shadow = true;
}

void
parent_promote(Sim *s, FleetTime frozen)
{
    SimParent *old = &s->parents[s->primary];
    SimParent *new = &s->parents[s->nparents];

    if (s->nparents == SIM_PARENTS || !old->has_standby)
        return;
    TRACE(s, "parent %u is promoted from a stale copy", s->nparents);
    s->stats->promotions++;
    s->promoted = true;
    new->exists = true;
    new->node = SIM_SERVERS + s->nparents;
    catalog_copy(&new->catalog, &old->standby, s->c);
    new->catalog.timeline = old->catalog.timeline + 1;
    new->catalog.discover = 0;
    for (uint32_t server = 1; server < s->c->nservers; server++)
        if (s->c->servers[server].mode == SIM_AGENT)
            new->catalog.discover |= 1u << server;
    promote_local_node(s, old, new);
    old->frozen_until = s->now + frozen;
    s->primary = s->nparents++;
    sim_at(s, s->now + FLEET_MS(1), EV_PARENT_START, s->primary, 0, 0);
}
