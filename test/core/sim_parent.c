/*
 * sim_parent.c
 *     The parent agent as a driver of the engine: events, turn, decisions,
 *     one commit, effects.  It may crash before the commit, after it, and
 *     between any two effects; sim_recover.c builds it again from its rows.
 *
 * It is also the parent of the surviving world or, after a promotion, the
 * zombie of a lost one: the same code, with an epoch that children refuse.
 */
#include "sim.h"

static SimOwner
me(uint32_t parent)
{
    return (SimOwner){OWNER_PARENT, (uint8_t) parent};
}

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

static void
put_attempt(Sim *s, uint32_t parent, SimInboxKind kind, uint32_t aid, FleetState state)
{
    SimInbox in = {
        .kind = (uint8_t) kind, .aid = aid, .state = (uint8_t) state, .server = SIM_NONE};

    parent_put(s, parent, &in);
}

void
parent_job_accepted(Sim *s, uint32_t parent, uint32_t job)
{
    put_attempt(s, parent, IN_ACCEPTED, s->parents[parent].catalog.jobs[job].aid, 0);
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
    parent_put(s, s->primary, &in);
}

static void
mark_canceled(SimCatalog *catalog, uint32_t run)
{
    if (FLEET_STATE_IS_FINAL(catalog->runs[run].state))
        return;
    catalog->runs[run].cancel = true;
    for (uint32_t i = run + 1; i < catalog->nruns; i++)
        if (catalog->runs[i].owner_run == run)
            mark_canceled(catalog, i);
}

void
parent_cancel_root(Sim *s, uint32_t root)
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
        mark_canceled(&p->catalog, i);
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
    SimInbox in = {.kind = IN_ITEMS, .run = run, .row = task, .value = t->items};

    in.has = t->items_fail;
    if (in.value > 0 && sim_pct(s, s->c->volatile_pct))
        in.value = fleet_random_below(&s->random, in.value + 1);
    parent_put(s, parent, &in);
}

void
parent_condition(Sim *s, uint32_t parent, uint32_t run, uint32_t edge)
{
    SimParent *p = &s->parents[parent];
    uint64_t hash = sim_mix(s->c->seed, sim_mix(s->rids[p->catalog.runs[run].rid].key, edge));
    SimInbox in = {.kind = IN_CONDITION, .run = run, .row = edge};

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
    p->links[server].conn = conn_open(s, me(parent), server, true);
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
                    put_attempt(s, parent, IN_FINISHED, p->catalog.runs[i].rows[row].aid,
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
        SimVolatileJob *v = job_volatile(s, me(parent), job);
        uint32_t run, row;

        if (p->catalog.jobs[job].dead || job_final(&p->catalog.jobs[job]) ||
            (!v->want_begin && !v->resolving) ||
            !catalog_find(s, p, p->catalog.jobs[job].aid, &run, &row) ||
            p->catalog.runs[run].rows[row].server != server)
            continue;
        if (v->resolving)
            job_resolve(s, me(parent), job);
        else
        {
            v->want_begin = false;
            job_exec(s, me(parent), job, FLEET_EXEC_BEGIN);
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
        job_volatile(s, me(parent), job)->exec.xid != msg->xid)
        return;
    job_resolved(s, me(parent), job, (FleetExecEvent) msg->state, msg->has);
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

/* ---- step 1 of a turn: events ---- */

static FleetTaskRef
ref_of(Sim *s, SimParent *p, uint32_t run, uint32_t aid)
{
    return (FleetTaskRef){p->vruns[run].handle, s->attempts[aid].task, s->attempts[aid].item};
}

static void
feed_new_run(Sim *s, SimParent *p, uint32_t run)
{
    SimRun *r = &p->catalog.runs[run];
    SimVolatileRun *v;

    SIM_GROW(p->vruns, p->cap_vruns, run + 1, sizeof(SimVolatileRun));
    v = &p->vruns[run];
    if (v->loaded || FLEET_STATE_IS_FINAL(r->state))
        return;
    v->handle = fleet_engine_run_add(p->engine, s->graphs[r->package], r->priority, run, s->now);
    if (r->owner_run != SIM_NONE)
        fleet_engine_run_nested(p->engine, v->handle);
    v->loaded = true;
}

static void
feed_cancel(Sim *s, SimParent *p, uint32_t run)
{
    if (FLEET_STATE_IS_FINAL(p->catalog.runs[run].state))
        return;
    if (run < p->cap_vruns && p->vruns[run].loaded)
        (void) fleet_engine_cancel_run(p->engine, p->vruns[run].handle, s->now);
    for (uint32_t i = run + 1; i < p->catalog.nruns; i++)
        if (p->catalog.runs[i].owner_run == run)
            feed_cancel(s, p, i);
}

static void
feed_items(Sim *s, SimParent *p, SimInbox *in)
{
    const SimTask *task = &s->c->packages[p->catalog.runs[in->run].package].tasks[in->row];
    FleetTime *estimates = NULL;
    uint32_t handle = p->vruns[in->run].handle;

    if (in->has)
    {
        in->state = fleet_engine_items_failed(p->engine, handle, in->row, s->now);
        return;
    }
    if (task->items_estimated)
    {
        estimates = sim_alloc((in->value + 1) * sizeof(FleetTime));
        for (uint32_t i = 0; i < in->value; i++)
            estimates[i] = sim_span(s, 1, FLEET_SECONDS(2));
    }
    in->state = fleet_engine_items(p->engine, handle, in->row, in->value, estimates, s->now);
}

static void
feed_condition(Sim *s, SimParent *p, SimInbox *in)
{
    const SimRun *run = &p->catalog.runs[in->run];
    FleetTaskRef ref = {p->vruns[in->run].handle, 0, 0};

    if (in->value == 3)
    {
        ref.task = s->c->packages[run->package].edges[in->row].to;
        /* an answer that comes after the task has begun (join any) is nobody's business */
        in->state = run->rows[ref.task].state == FLEET_QUEUED && run->condition[in->row] == 0 &&
                    fleet_engine_fail(p->engine, ref, "P0001", s->now);
        return;
    }
    in->state = fleet_engine_condition(p->engine, ref.run, in->row, in->value == 2, s->now);
}

static void
feed_finished(Sim *s, SimParent *p, uint32_t run, uint32_t row, uint32_t aid, FleetState state,
              uint8_t sqlstate)
{
    FleetTaskRef ref = ref_of(s, p, run, aid);
    uint16_t attempt = s->attempts[aid].attempt;

    (void) fleet_engine_accepted(p->engine, ref, attempt, s->now);
    if (fleet_engine_finished(p->engine, ref, attempt, state,
                              sqlstate == 0 ? NULL : sim_sqlstates[sqlstate], s->now))
        p->catalog.runs[run].rows[row].sqlstate = sqlstate;
}

/* The answer to a query about a token, or an absent one. */
static void
feed_status(Sim *s, SimParent *p, SimInbox *in, uint32_t run, uint32_t row)
{
    SimRow *r = &p->catalog.runs[run].rows[row];
    FleetTaskRef ref = ref_of(s, p, run, r->aid);
    bool has = in->has;

    in->value = 0;
    if (FLEET_STATE_IS_FINAL(r->state) || r->at != in->server)
        return;
    if (!has && r->state == FLEET_CANCELING)
        return; /* asked before the cancel was sent; the answer to that one counts */
    switch (fleet_token_verdict((FleetState) r->state, has))
    {
        case FLEET_TOKEN_RESEND: in->value = 1; break;
        case FLEET_TOKEN_ADOPT:
            (void) fleet_engine_accepted(p->engine, ref, r->attempt, s->now);
            if (FLEET_STATE_IS_FINAL(in->state))
                feed_finished(s, p, run, row, in->aid, (FleetState) in->state, in->sqlstate);
            break;
        case FLEET_TOKEN_LOST:
            if (!s->nodes[in->server].ever_failed_over)
                sim_fail(s, "aid %u: server %u never lost anything, yet its job run is gone",
                         r->aid, in->server);
            feed_finished(s, p, run, row, in->aid, FLEET_LOST, 0);
            break;
    }
}

static void
feed_one(Sim *s, uint32_t parent, SimInbox *in)
{
    SimParent *p = &s->parents[parent];
    uint32_t run, row;
    bool present;

    switch ((SimInboxKind) in->kind)
    {
        case IN_NEW_RUN: feed_new_run(s, p, in->run); return;
        case IN_CANCEL: feed_cancel(s, p, in->run); return;
        case IN_SERVER: parent_set_server(s, parent, p->engine, in->server); return;
        case IN_ITEMS:
            in->state = 0;
            if (p->vruns[in->run].loaded)
                feed_items(s, p, in);
            return;
        case IN_CONDITION:
            in->state = 0;
            if (p->vruns[in->run].loaded)
                feed_condition(s, p, in);
            return;
        case IN_SUB_ENDED:
        case IN_ACCEPTED:
        case IN_FINISHED:
        case IN_NOT_STARTED:
        case IN_STATUS: break;
    }
    /* an answer of an older attempt goes to the engine too, which must refuse it; a query's does
     * not: its verdict depends on the row's present state */
    present = catalog_find(s, p, in->aid, &run, &row);
    if (run == SIM_NONE || (!present && in->kind == IN_STATUS) || run >= p->cap_vruns ||
        !p->vruns[run].loaded)
    {
        in->value = 0;
        return;
    }
    if (in->kind == IN_ACCEPTED)
        (void) fleet_engine_accepted(p->engine, ref_of(s, p, run, in->aid),
                                     s->attempts[in->aid].attempt, s->now);
    else if (in->kind == IN_NOT_STARTED)
        (void) fleet_engine_not_started(p->engine, ref_of(s, p, run, in->aid),
                                        s->attempts[in->aid].attempt, s->now);
    else if (in->kind == IN_STATUS)
        feed_status(s, p, in, run, row);
    else
        feed_finished(s, p, run, row, in->aid, (FleetState) in->state, in->sqlstate);
}

/* ---- step 3: the commit ---- */

static void
commit_start(Sim *s, SimParent *p, SimRun *run, SimRow *row, const FleetDecision *d)
{
    const SimTask *task = &s->c->packages[run->package].tasks[d->ref.task];
    uint8_t mode = SIM_LOCAL;

    if (task->spec.kind == FLEET_TASK_JOB && d->server < s->c->nservers)
        mode = (uint8_t) s->c->servers[d->server].mode;
    row->aid = sim_attempt(s, run->rid, d->ref.task, d->ref.item, d->attempt, run->package, mode);
    row->attempt = d->attempt;
    row->server = row->at = d->server;
    row->job = row->sub = SIM_NONE;
    row->since = s->now;
    row->avoid = 0;
    s->stats->starts++;
    if (task->spec.kind == FLEET_TASK_PACKAGE)
    {
        uint32_t owner = (uint32_t) (run - p->catalog.runs);
        uint32_t owner_row = (uint32_t) (row - run->rows), aid = row->aid;
        int32_t priority = run->priority;
        uint32_t sub = catalog_new_run(s, &p->catalog, task->package,
                                       sim_rid(s, s->attempts[aid].key, task->package), priority);

        /* the array of runs may have moved */
        p->catalog.runs[sub].owner_run = owner;
        p->catalog.runs[sub].owner_row = owner_row;
        p->catalog.runs[sub].owner_aid = aid;
        p->catalog.runs[owner].rows[owner_row].sub = sub;
    }
    else if (mode != SIM_AGENT)
        row->job = catalog_new_job(&p->catalog, row->aid);
    else if (row->aid < p->cap_found && p->found[row->aid] != 0)
        row->at = p->found[row->aid] - 1;
}

static bool
active(uint8_t state)
{
    return state == FLEET_STARTING || state == FLEET_RUNNING || state == FLEET_CANCELING;
}

static void
commit_state(Sim *s, uint32_t parent, SimRun *run, SimRow *row, const FleetDecision *d)
{
    SimParent *p = &s->parents[parent];
    const SimTask *task = &s->c->packages[run->package].tasks[d->ref.task];
    bool left = active(row->state) && !active((uint8_t) d->state);

    if (row->state == FLEET_STARTING && d->state == FLEET_QUEUED)
        s->attempts[row->aid].not_started = true;
    if (row->state == FLEET_STARTING && d->state == FLEET_QUEUED)
        row->avoid = row->server + 1;
    row->state = (uint8_t) d->state;
    row->since = s->now;
    if (d->state == FLEET_RETRYING)
        row->retry_at = d->at;
    if (d->state == FLEET_LOST)
        s->stats->lost++;
    if (d->state == FLEET_UNKNOWN)
        s->stats->unknown++;
    if (left && row->job != SIM_NONE && !job_final(&p->catalog.jobs[row->job]) &&
        !(task->spec.started_is_done && d->state == FLEET_SUCCEEDED))
        job_abandon(s, me(parent), row->job);
}

static void
commit_one(Sim *s, uint32_t parent, const FleetDecision *d)
{
    SimParent *p = &s->parents[parent];
    uint32_t number = (uint32_t) fleet_engine_run_tag(p->engine, d->ref.run);
    SimRun *run = &p->catalog.runs[number];
    SimRow *row = NULL, was;

    TRACE(s, "parent %u: decision %d run %u task %u item %u state %s server %d attempt %u edge %u",
          parent, d->kind, number, d->ref.task, d->ref.item,
          d->state != 0 ? fleet_state_name(d->state) : "-", (int) d->server, d->attempt, d->edge);
    if (d->kind == FLEET_DO_START || d->kind == FLEET_DO_CANCEL || d->kind == FLEET_DO_STATE)
    {
        if (d->ref.item > 0 &&
            (run->count[d->ref.task] == SIM_NONE || d->ref.item > run->count[d->ref.task]))
        {
            sim_fail(s, "decision about item %u, which does not exist", d->ref.item);
            return;
        }
        row = &run->rows[catalog_row(run, d->ref.task, d->ref.item)];
        was = *row;
        oracle_row_change(s, p, run, d->ref.task, d->ref.item, &was, d);
        if (s->failed)
            return;
        row->written = true;
        row->failures = d->failures;
    }
    switch (d->kind)
    {
        case FLEET_DO_START:
            row->state = FLEET_STARTING;
            commit_start(s, p, run, row, d);
            break;
        case FLEET_DO_CANCEL:
            row->state = FLEET_CANCELING;
            if (row->job != SIM_NONE)
                p->catalog.jobs[row->job].cancel_asked = true;
            break;
        case FLEET_DO_STATE: commit_state(s, parent, run, row, d); break;
        case FLEET_DO_RUN:
            oracle_run_change(s, run, d->state);
            run->state = (uint8_t) d->state;
            break;
        case FLEET_DO_EXPAND:
        case FLEET_DO_CONDITION: oracle_question(s, run, d); break;
    }
}

/* Answers that were fed in this turn become durable with what followed from them. */
static void
commit_answers(SimParent *p, uint32_t fed)
{
    for (uint32_t i = 0; i < fed; i++)
    {
        SimInbox *in = &p->inbox[i];

        if (in->kind == IN_ITEMS && in->state && in->has)
            p->catalog.runs[in->run].items_failed[in->row] = 1;
        else if (in->kind == IN_ITEMS && in->state)
            catalog_expand(&p->catalog.runs[in->run], in->row, in->value);
        else if (in->kind == IN_CONDITION && in->state)
            p->catalog.runs[in->run].condition[in->row] = (int8_t) in->value;
    }
}

/* ---- step 4: effects ---- */

static void
mark_sent(SimParent *p, uint32_t run, uint32_t row)
{
    SimVolatileRun *v = &p->vruns[run];

    SIM_GROW(v->sent, v->cap_sent, row + 1, sizeof(uint32_t));
    v->sent[row] = p->links[p->catalog.runs[run].rows[row].at].conn + 1;
}

static void
send_about(Sim *s, uint32_t parent, uint32_t run, uint32_t row, SimMsgKind kind)
{
    SimParent *p = &s->parents[parent];
    SimRow *r = &p->catalog.runs[run].rows[row];
    SimLink *link = &p->links[r->at];
    SimMsg msg = {.kind = (uint8_t) kind, .aid = r->aid, .epoch = p->epoch};

    if (!link->up)
        return; /* when it is up again */
    if (kind == MSG_START)
        oracle_sent(s, p, r->aid);
    mark_sent(p, run, row);
    conn_to_server(s, link->conn, &msg);
}

static void
effect_start(Sim *s, uint32_t parent, uint32_t run, uint32_t row)
{
    SimParent *p = &s->parents[parent];
    SimRow *r = &p->catalog.runs[run].rows[row];
    const SimTask *task =
        &s->c->packages[p->catalog.runs[run].package].tasks[s->attempts[r->aid].task];
    SimInbox in = {.kind = IN_NEW_RUN, .run = r->sub};
    bool refused = !s->healed && sim_pct(s, s->c->refuse_pct) && r->at == r->server;

    if (r->state != FLEET_STARTING)
        return;
    if (task->spec.kind == FLEET_TASK_PACKAGE)
    {
        parent_put(s, parent, &in);
        put_attempt(s, parent, IN_ACCEPTED, r->aid, 0);
        return;
    }
    if (r->at == r->server && r->server != 0 && (refused || !p->links[r->server].up))
    {
        mark_sent(p, run, row); /* nobody sends it after this */
        put_attempt(s, parent, IN_NOT_STARTED, r->aid, 0);
        return;
    }
    if (r->job == SIM_NONE)
    {
        send_about(s, parent, run, row, MSG_START);
        return;
    }
    put_attempt(s, parent, IN_ACCEPTED, r->aid, 0);
    job_volatile(s, me(parent), r->job)->conn = SIM_NONE;
    job_drive(s, me(parent), r->job, FLEET_JOB_BEGIN, 0, 0);
}

static void
effect_cancel(Sim *s, uint32_t parent, uint32_t run, uint32_t row)
{
    SimParent *p = &s->parents[parent];
    SimRow *r = &p->catalog.runs[run].rows[row];
    SimInbox in = {.kind = IN_CANCEL, .run = r->sub};

    if (r->state != FLEET_CANCELING)
        return;
    if (r->sub != SIM_NONE)
        parent_put(s, parent, &in);
    else if (r->job == SIM_NONE)
        send_about(s, parent, run, row, MSG_CANCEL);
    else if (!job_final(&p->catalog.jobs[r->job]) && !p->catalog.jobs[r->job].run.cancel)
        job_drive(s, me(parent), r->job, FLEET_JOB_CANCEL, 0, 0);
}

static void
effect_run(Sim *s, uint32_t parent, uint32_t number, uint32_t handle)
{
    SimParent *p = &s->parents[parent];
    SimRun *run = &p->catalog.runs[number];
    SimInbox in = {
        .kind = IN_SUB_ENDED, .aid = run->owner_aid, .state = run->state, .server = SIM_NONE};

    if (!FLEET_STATE_IS_FINAL(run->state) || !p->vruns[number].loaded)
        return;
    p->vruns[number].loaded = false;
    fleet_engine_run_forget(p->engine, handle);
    if (run->owner_run != SIM_NONE)
        parent_put(s, parent, &in);
}

static void
effect_one(Sim *s, uint32_t parent, const FleetDecision *d)
{
    SimParent *p = &s->parents[parent];
    uint32_t run = (uint32_t) fleet_engine_run_tag(p->engine, d->ref.run);
    uint32_t row;
    SimEvent *event;

    if (!p->vruns[run].loaded)
        return;
    switch (d->kind)
    {
        case FLEET_DO_START:
        case FLEET_DO_CANCEL:
            row = catalog_row(&p->catalog.runs[run], d->ref.task, d->ref.item);
            if (d->kind == FLEET_DO_START)
                effect_start(s, parent, run, row);
            else
                effect_cancel(s, parent, run, row);
            break;
        case FLEET_DO_EXPAND:
        case FLEET_DO_CONDITION:
            event =
                sim_at(s, s->now + sim_span(s, 1, FLEET_MS(50)),
                       d->kind == FLEET_DO_EXPAND ? EV_ITEMS : EV_CONDITION, parent, run, p->gen);
            event->c = d->kind == FLEET_DO_EXPAND ? d->ref.task : d->edge;
            break;
        case FLEET_DO_RUN: break; /* last: the handle is needed until then */
        case FLEET_DO_STATE: break;
    }
}

/* After a link has come up: go on with every token on that server. */
static void
reattach(Sim *s, uint32_t parent, uint32_t server)
{
    SimParent *p = &s->parents[parent];

    for (uint32_t run = 0; run < p->catalog.nruns; run++)
    {
        if (run >= p->cap_vruns || !p->vruns[run].loaded)
            continue;
        for (uint32_t row = 0; row < p->catalog.runs[run].nrows; row++)
        {
            SimRow *r = &p->catalog.runs[run].rows[row];
            SimVolatileRun *v = &p->vruns[run];

            if (r->at != server || r->job != SIM_NONE || !active(r->state) || server == 0 ||
                (row < v->cap_sent && v->sent[row] == p->links[server].conn + 1))
                continue;
            if (r->state == FLEET_CANCELING)
            {
                if (!FLEET_BUG_CANCEL_ONCE)
                    send_about(s, parent, run, row, MSG_CANCEL);
            }
            else if (r->state == FLEET_STARTING && sim_pct(s, s->c->blind_pct))
                send_about(s, parent, run, row, MSG_START);
            else
                send_about(s, parent, run, row, MSG_QUERY);
        }
    }
}

/* What the events themselves ask for, now that what followed from them is durable. */
static void
effect_event(Sim *s, uint32_t parent, const SimInbox *in)
{
    SimParent *p = &s->parents[parent];
    SimMsg ack = {.kind = MSG_ACK, .aid = in->aid, .epoch = p->epoch};
    uint32_t run, row;

    if (in->kind == IN_SERVER && in->has && p->links[in->server].up)
        reattach(s, parent, in->server);
    else if (in->kind == IN_FINISHED && in->server != SIM_NONE && p->links[in->server].up)
        conn_to_server(s, p->links[in->server].conn, &ack);
    else if (in->kind == IN_STATUS && in->value == 1 && catalog_find(s, p, in->aid, &run, &row) &&
             p->catalog.runs[run].rows[row].state == FLEET_STARTING)
        send_about(s, parent, run, row, MSG_START);
    else if (in->kind == IN_STATUS && in->has && FLEET_STATE_IS_FINAL(in->state) &&
             p->links[in->server].up)
        conn_to_server(s, p->links[in->server].conn, &ack);
}

/* False: it crashed on the way. */
static bool
effects(Sim *s, uint32_t parent, uint32_t fed)
{
    SimParent *p = &s->parents[parent];

    for (uint32_t i = 0; i < p->nbatch; i++)
    {
        effect_one(s, parent, &p->batch[i]);
        if (sim_boundary(s, me(parent)))
            return false;
    }
    for (uint32_t i = 0; i < fed; i++)
    {
        SimInbox in = p->inbox[i];

        effect_event(s, parent, &in);
        if (sim_boundary(s, me(parent)))
            return false;
    }
    for (uint32_t i = 0; i < p->nbatch; i++)
        if (p->batch[i].kind == FLEET_DO_RUN && FLEET_STATE_IS_FINAL(p->batch[i].state))
            effect_run(s, parent, (uint32_t) fleet_engine_run_tag(p->engine, p->batch[i].ref.run),
                       p->batch[i].ref.run);
    return true;
}

/* ---- the turn ---- */

static void
drain(Sim *s, SimParent *p)
{
    FleetDecision d;

    p->nbatch = 0;
    while (fleet_engine_next(p->engine, &d))
    {
        SIM_GROW(p->batch, p->cap_batch, p->nbatch + 1, sizeof(FleetDecision));
        p->batch[p->nbatch++] = d;
        if (p->nbatch > 200000)
        {
            sim_fail(s, "the engine never stops deciding");
            return;
        }
    }
}

static void
cancel_nested(SimParent *p, const FleetDecision *d)
{
    SimRun *run = &p->catalog.runs[fleet_engine_run_tag(p->engine, d->ref.run)];
    SimRow *row = &run->rows[catalog_row(run, d->ref.task, d->ref.item)];

    if (row->sub != SIM_NONE && row->state == FLEET_CANCELING)
        mark_canceled(&p->catalog, row->sub);
}

static void
commit(Sim *s, uint32_t parent, uint32_t fed)
{
    SimParent *p = &s->parents[parent];

    commit_answers(p, fed);
    for (uint32_t i = 0; i < p->nbatch && !s->failed; i++)
        commit_one(s, parent, &p->batch[i]);
    /* same commit, but of the nested runs' point of view after it */
    for (uint32_t i = 0; i < p->nbatch && !s->failed; i++)
        if (p->batch[i].kind == FLEET_DO_CANCEL)
            cancel_nested(p, &p->batch[i]);
    if (!s->failed)
        oracle_batch(s, p);
    if (!s->failed && fleet_random_below(&s->random, 64) == 0)
        oracle_reload(s, parent);
}

/* The planted bug: messages leave before their rows are committed. */
static bool
early_effects(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];

    if (!FLEET_BUG_INTENT_AFTER_EFFECT)
        return true;
    for (uint32_t i = 0; i < p->nbatch; i++)
    {
        const FleetDecision *d = &p->batch[i];
        uint32_t run = (uint32_t) fleet_engine_run_tag(p->engine, d->ref.run);
        SimMsg msg = {.kind = MSG_START, .epoch = p->epoch};

        if (d->kind != FLEET_DO_START || d->server == 0 || d->server >= s->c->nservers ||
            s->c->servers[d->server].mode != SIM_AGENT || !p->links[d->server].up)
            continue;
        msg.aid = sim_attempt(s, p->catalog.runs[run].rid, d->ref.task, d->ref.item, d->attempt,
                              p->catalog.runs[run].package, SIM_AGENT);
        conn_to_server(s, p->links[d->server].conn, &msg);
    }
    return !sim_boundary(s, me(parent));
}

void
parent_turn(Sim *s, uint32_t parent)
{
    SimParent *p = &s->parents[parent];
    uint32_t fed = p->ninbox, gen = p->gen;
    FleetTime next;

    p->turn_due = false;
    for (uint32_t i = 0; i < fed && !s->failed; i++)
    {
        SimInbox in = p->inbox[i];

        feed_one(s, parent, &in);
        p->inbox[i] = in;
    }
    fleet_engine_turn(p->engine, s->now);
    drain(s, p);
    if (s->failed || sim_boundary(s, me(parent)) || !early_effects(s, parent))
        return;
    commit(s, parent, fed);
    if (s->failed || sim_boundary(s, me(parent)) || !effects(s, parent, fed) || p->gen != gen)
        return;
    for (uint32_t i = fed; i < p->ninbox; i++)
        p->inbox[i - fed] = p->inbox[i];
    p->ninbox -= fed;
    if (p->ninbox > 0)
        parent_turn_soon(s, parent, s->now);
    next = fleet_engine_wakeup(p->engine);
    if (next != FLEET_NEVER)
        parent_turn_soon(s, parent, next > s->now ? next : s->now + 1);
}

bool
parent_all_final(const SimParent *p)
{
    for (uint32_t i = 0; i < p->catalog.nruns; i++)
        if (!FLEET_STATE_IS_FINAL(p->catalog.runs[i].state))
            return false;
    return true;
}
