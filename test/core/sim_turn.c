/*
 * sim_turn.c
 *     One turn of the parent's agent: events to the engine, its decisions,
 *     one commit, effects (engine.h says so; sim_commit.c does the last two).
 */
#include "sim.h"

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
    if (s->c->strict)
        fleet_engine_run_strict(p->engine, v->handle);
    r->last_told = r->cancel_last;
    limits_tell(s, &p->catalog, p->engine, v->handle, run);
    p->limits_told[r->package] = p->catalog.limits[r->package];
    v->loaded = true;
    r->pause_told = steer_paused(&p->catalog, run);
    fleet_engine_pause(p->engine, v->handle, r->pause_told, s->now);
    if (r->restart_of != SIM_NONE)
    {
        restart_load(s, p->engine, v->handle, r);
        steer_load(s, &p->catalog, p->engine, v->handle, run);
        fleet_engine_run_loaded(p->engine, v->handle, r->cancel, s->now);
    }
    else if (r->cancel) /* the cancel overtook it */
        (void) fleet_engine_cancel_run(p->engine, v->handle, s->now);
}

static void
feed_cancel(Sim *s, SimParent *p, uint32_t run)
{
    if (FLEET_STATE_IS_FINAL(p->catalog.runs[run].state))
        return;
    if (run < p->cap_vruns && p->vruns[run].loaded)
    {
        (void) fleet_engine_cancel_run(p->engine, p->vruns[run].handle, s->now);
        if (p->catalog.runs[run].cancel_last)
            (void) fleet_engine_cancel_final(p->engine, p->vruns[run].handle, s->now);
        p->catalog.runs[run].last_told = p->catalog.runs[run].cancel_last;
    }
    for (uint32_t i = run + 1; i < p->catalog.nruns; i++)
        if (p->catalog.runs[i].owner_run == run && p->catalog.runs[i].cancel)
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
    if (restart_items(&p->catalog, &p->catalog.runs[in->run], in->row) != NULL)
        in->state = fleet_engine_items_again(
            p->engine, handle, in->row, in->value, estimates,
            restart_carried(&p->catalog, &p->catalog.runs[in->run], in->row), s->now);
    else
        in->state = fleet_engine_items(p->engine, handle, in->row, in->value, estimates, s->now);
}

static void
feed_condition(Sim *s, SimParent *p, SimInbox *in)
{
    const SimRun *run = &p->catalog.runs[in->run];
    FleetTaskRef ref = {p->vruns[in->run].handle, 0, 0};

    if (in->aid != run->question[in->row])
        return; /* the question was given up */
    if (in->value == 3)
    {
        ref.task = s->c->packages[run->package].edges[in->row].to;
        /* an answer that comes after the task has begun (join any) is nobody's business */
        in->state = fleet_engine_asks(p->engine, ref.run, in->row) &&
                    run->rows[ref.task].state == FLEET_QUEUED && run->condition[in->row] == 0 &&
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
        case IN_SKIP:
        case IN_RETRY: steer_feed(s, parent, in); return;
        case IN_PAUSE: steer_feed_pause(s, parent); return;
        case IN_LIMIT: limits_feed(s, parent, in->run); return;
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
        case IN_LEAVING:
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
    if (in->kind == IN_LEAVING)
    {
        if (fleet_engine_leaving(p->engine, ref_of(s, p, run, in->aid),
                                 s->attempts[in->aid].attempt))
            p->catalog.runs[run].rows[row].leaving = true;
    }
    else if (in->kind == IN_ACCEPTED)
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
    return !sim_boundary(s, parent_owner(parent));
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
    if (s->failed || sim_boundary(s, parent_owner(parent)) || !early_effects(s, parent))
        return;
    parent_commit(s, parent, fed);
    if (s->failed || sim_boundary(s, parent_owner(parent)) || !parent_effects(s, parent, fed) ||
        p->gen != gen)
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
