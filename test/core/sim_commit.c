/*
 * sim_commit.c
 *     What a turn leaves: decisions become rows, all of them in one commit;
 *     then they become messages, of which any number may get lost with the
 *     agent.
 */
#include "sim.h"

/* ---- step 3: the commit ---- */

/* The nested run of a restarted package task restarts the one that it had. */
static void
restart_nested(Sim *s, SimParent *p, uint32_t owner, uint32_t row)
{
    const SimRun *run = &p->catalog.runs[owner];
    uint32_t old = run->rows[row].continues;

    if (old == SIM_NONE || !FLEET_STATE_IS_FINAL(p->catalog.runs[old].state))
        return;
    catalog_restart(s, &p->catalog, run->rows[row].sub, old,
                    restart_chosen(s, p->catalog.runs[old].package), run->count_unknown);
}

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
    row->avoid = row->shy = 0;
    row->leaving = false;
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
        restart_nested(s, p, owner, owner_row);
    }
    else if (mode != SIM_AGENT)
        row->job = catalog_new_job(&p->catalog, row->aid);
    else if (row->aid < p->cap_found && p->found[row->aid] != 0)
        row->at = p->found[row->aid] - 1;
}

static void
commit_state(Sim *s, uint32_t parent, SimRun *run, SimRow *row, const FleetDecision *d)
{
    SimParent *p = &s->parents[parent];
    const SimTask *task = &s->c->packages[run->package].tasks[d->ref.task];
    bool left = sim_active(row->state) && !sim_active((uint8_t) d->state);

    if (row->state == FLEET_STARTING && d->state == FLEET_QUEUED)
        s->attempts[row->aid].not_started = true;
    if (row->state == FLEET_STARTING && d->state == FLEET_QUEUED)
        row->avoid = row->server + 1;
    /* where it was lost it goes only if no other server is online */
    if (row->state == FLEET_LOST && d->state == FLEET_QUEUED)
        row->shy = row->server + 1;
    if (d->state == FLEET_RETRYING && task->spec.on_lost == FLEET_LOST_RETRY)
        row->shy = row->server + 1;
    if (FLEET_STATE_IS_FINAL(row->state) && d->ref.item == 0)
        steer_reopened(s, run, d->ref.task);
    row->state = (uint8_t) d->state;
    row->since = s->now;
    if (d->state == FLEET_QUEUED || d->state == FLEET_RETRYING)
        row->skip_told |= row->skip_late;
    parts_failed(s, run, (uint32_t) (row - run->rows), d);
    if (d->state == FLEET_RETRYING)
        row->retry_at = d->at;
    if (d->state == FLEET_LOST)
        s->stats->lost++;
    if (d->state == FLEET_UNKNOWN)
        s->stats->unknown++;
    if (left && row->job != SIM_NONE && !job_final(&p->catalog.jobs[row->job]) &&
        !(task->spec.started_is_done && d->state == FLEET_SUCCEEDED))
        job_abandon(s, parent_owner(parent), row->job);
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
        case FLEET_DO_CATCH: parts_caught(s, run, d); break;
        case FLEET_DO_REPLACE: limits_decision(s, p, number, d); break;
        case FLEET_DO_RUN:
            run->began |= !FLEET_STATE_IS_FINAL(d->state);
            limits_decision(s, p, number, d);
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
        {
            catalog_expand(&p->catalog.runs[in->run], in->row, in->value);
            restart_expanded(&p->catalog, &p->catalog.runs[in->run], in->row);
        }
        else if (in->kind == IN_CONDITION && in->state)
            p->catalog.runs[in->run].condition[in->row] = (int8_t) in->value;
    }
}

static void
cancel_nested(Sim *s, SimParent *p, const FleetDecision *d)
{
    SimRun *run = &p->catalog.runs[fleet_engine_run_tag(p->engine, d->ref.run)];
    SimRow *row = &run->rows[catalog_row(run, d->ref.task, d->ref.item)];

    if (row->sub != SIM_NONE && row->state == FLEET_CANCELING)
        catalog_cancel(s, &p->catalog, row->sub, run->cancel_last);
}

void
parent_commit(Sim *s, uint32_t parent, uint32_t fed)
{
    SimParent *p = &s->parents[parent];

    commit_answers(p, fed);
    for (uint32_t i = 0; i < fed; i++)
        if (p->inbox[i].kind == IN_RETRY)
        {
            SimInbox in = p->inbox[i]; /* the array may move */

            steer_commit(s, parent, &in);
        }
    for (uint32_t i = 0; i < p->nbatch && !s->failed; i++)
        commit_one(s, parent, &p->batch[i]);
    /* same commit, but of the nested runs' point of view after it */
    for (uint32_t i = 0; i < p->nbatch && !s->failed; i++)
        if (p->batch[i].kind == FLEET_DO_CANCEL)
            cancel_nested(s, p, &p->batch[i]);
    if (!s->failed)
        oracle_batch(s, p);
    if (!s->failed)
        oracle_limits(s, p);
    for (uint32_t i = 0; i < p->catalog.nruns; i++)
    {
        p->catalog.runs[i].reopening = false;
        p->catalog.runs[i].pause_told *= p->catalog.runs[i].pause_told == 1 ? 2 : 1;
    }
    if (!s->failed && fleet_random_below(&s->random, 64) == 0)
        oracle_reload(s, parent);
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
        parent_put_attempt(s, parent, IN_ACCEPTED, r->aid, 0);
        return;
    }
    if (r->at == r->server && r->server != 0 && (refused || !p->links[r->server].up))
    {
        mark_sent(p, run, row); /* nobody sends it after this */
        parent_put_attempt(s, parent, IN_NOT_STARTED, r->aid, 0);
        return;
    }
    if (r->job == SIM_NONE)
    {
        send_about(s, parent, run, row, MSG_START);
        return;
    }
    parent_put_attempt(s, parent, IN_ACCEPTED, r->aid, 0);
    job_volatile(s, parent_owner(parent), r->job)->conn = SIM_NONE;
    job_drive(s, parent_owner(parent), r->job, FLEET_JOB_BEGIN, 0, 0);
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
        job_drive(s, parent_owner(parent), r->job, FLEET_JOB_CANCEL, 0, 0);
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
    if (run->paused) /* what it leaves behind goes on */
    {
        SimInbox resume = {.kind = IN_PAUSE, .run = number};

        parent_put(s, parent, &resume);
    }
    if (run->owner_run != SIM_NONE)
        parent_put(s, parent, &in);
    else if (parent == s->primary)
        restart_later(s, number);
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
            if (d->kind == FLEET_DO_CONDITION)
                event->msg.serial = p->catalog.runs[run].question[d->edge];
            break;
        case FLEET_DO_REPLACE:
        case FLEET_DO_RUN: break; /* last: the handle is needed until then */
        case FLEET_DO_CATCH: break;
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

            if (r->at != server || r->job != SIM_NONE || !sim_active(r->state) || server == 0 ||
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
bool
parent_effects(Sim *s, uint32_t parent, uint32_t fed)
{
    SimParent *p = &s->parents[parent];

    for (uint32_t i = 0; i < p->nbatch; i++)
    {
        effect_one(s, parent, &p->batch[i]);
        if (sim_boundary(s, parent_owner(parent)))
            return false;
    }
    for (uint32_t i = 0; i < fed; i++)
    {
        SimInbox in = p->inbox[i];

        effect_event(s, parent, &in);
        if (sim_boundary(s, parent_owner(parent)))
            return false;
    }
    for (uint32_t i = 0; i < p->nbatch; i++)
        if (p->batch[i].kind == FLEET_DO_RUN && FLEET_STATE_IS_FINAL(p->batch[i].state))
            effect_run(s, parent, (uint32_t) fleet_engine_run_tag(p->engine, p->batch[i].ref.run),
                       p->batch[i].ref.run);
    return true;
}
