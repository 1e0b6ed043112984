/*
 * core/engine/limits.c
 *     When a run may begin, besides max_active_runs: not before its time, and
 *     not while as many runs of one of its keys run as may run at a time.  And
 *     when it must have ended: its timeout.
 *
 * A run has up to two keys: its package's, and its role's.  If one has no room
 * it is parked there; when there is room, as many of the parked ones as it
 * suffices for, the first ones first, wait among all others again (runs.c).
 * One too many does no harm: it is parked once more.  One that came up since
 * one of its keys had room and is parked with the other one leaves that room
 * to the next.
 *
 * The place of a run is free once the driver has written its end, and frees
 * the run: whatever happens then, the rows never show one too many.
 *
 * A timeout cancels the run, as a session does; what makes a difference is how
 * it ends then.  A run has one timer: until it begins that of its begin, from
 * then on that of its timeout.
 */
#include "core/engine/internal.h"

/* ---- keys ---- */

static Key *
key_get(FleetEngine *engine, uint64_t number)
{
    Key *key = fleet_eng_numbered_find(&engine->keys, number);

    return key != NULL ? key : fleet_eng_numbered_add(engine, &engine->keys, number, sizeof(Key));
}

static void
key_free(FleetEngine *engine, Key *key)
{
    fleet_alloc_free(&engine->alloc, key->parked.heap, key->parked.capacity * sizeof(WaitingRun));
    fleet_alloc_free(&engine->alloc, key, sizeof(Key));
}

void
fleet_eng_keys_free(FleetEngine *engine)
{
    for (uint32_t i = 0; i < engine->keys.n; i++)
        key_free(engine, (Key *) engine->keys.items[i]);
    fleet_eng_numbered_free(engine, &engine->keys);
}

static bool
key_full(const Key *key)
{
    return key->limit > 0 && key->active >= key->limit && !FLEET_BUG_QUEUE_RUNS_TWO;
}

static Run *
parked_run(const FleetEngine *engine, const Key *key, const WaitingRun *entry)
{
    Run *run = fleet_eng_run(engine, entry->run);

    return run != NULL && run->seq == entry->seq && run->parked == key ? run : NULL;
}

static void
unpark(FleetEngine *engine, Key *key)
{
    uint32_t room = key->limit == 0 ? UINT32_MAX : key_full(key) ? 0 : key->limit - key->active;

    while (room > 0 && key->parked.n > 0)
    {
        WaitingRun entry = fleet_eng_runs_pop(&key->parked);
        Run *run = parked_run(engine, key, &entry);

        if (run == NULL)
            continue;
        run->parked = NULL;
        if (run->state != FLEET_QUEUED || run->paused)
            continue; /* it comes when it is resumed */
        fleet_eng_wait(engine, run);
        engine->room = true;
        room--;
    }
}

/* There may be room for others of its keys. */
void
fleet_eng_key_room(FleetEngine *engine, const Run *run)
{
    for (int k = 0; k < KEYS; k++)
    {
        if (run->keys[k] != NULL)
            unpark(engine, run->keys[k]);
    }
}

static Key *
full_key(const Run *run)
{
    for (int k = 0; k < KEYS; k++)
    {
        if (run->keys[k] != NULL && key_full(run->keys[k]))
            return run->keys[k];
    }
    return NULL;
}

/* Has one of its keys no room?  Then it is with that key from now on. */
bool
fleet_eng_parks(FleetEngine *engine, Run *run)
{
    Key *key = full_key(run);

    if (key == NULL)
        return false;
    run->parked = key;
    fleet_eng_runs_push(engine, &key->parked,
                        (WaitingRun){run->id, run->priority, run->seq, run->order});
    fleet_eng_key_room(engine, run); /* of the other one: it is not the one that takes it */
    return true;
}

static void
key_leave(FleetEngine *engine, Key *key, bool active)
{
    if (active)
        key->active--;
    if (!FLEET_BUG_QUEUE_STALLS)
        unpark(engine, key);
    if (--key->users > 0)
        return;
    fleet_eng_numbered_remove(&engine->keys, key->numbered.number);
    key_free(engine, key);
}

/* Its end is written, and it is being freed. */
void
fleet_eng_key_leave(FleetEngine *engine, Run *run)
{
    fleet_eng_timer_set(engine, run->id | TIMER_RUN, FLEET_NEVER);
    for (int k = 0; k < KEYS; k++)
    {
        Key *key = run->keys[k];

        run->keys[k] = NULL;
        if (key != NULL)
            key_leave(engine, key, run->in_keys);
    }
}

void
fleet_engine_parallel(FleetEngine *engine, uint64_t number, uint32_t limit)
{
    Key *key = fleet_eng_numbered_find(&engine->keys, number);

    if (key == NULL || key->limit == limit)
        return;
    key->limit = limit;
    unpark(engine, key);
}

bool
fleet_engine_parallel_waits(const FleetEngine *engine, uint64_t number)
{
    const Key *key = fleet_eng_numbered_find(&engine->keys, number);

    return key != NULL && key->limit > 0 && key->users > key->limit;
}

/* ---- a run ---- */

static void
key_enter(FleetEngine *engine, Run *run, int place, uint64_t number)
{
    if (number == 0)
        return;
    run->keys[place] = key_get(engine, number);
    run->keys[place]->users++;
}

void
fleet_engine_run_limits(FleetEngine *engine, uint32_t run_id, const FleetRunLimits *limits,
                        FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);

    run->timeout = limits->timeout;
    run->since = limits->since;
    run->timed_out = limits->timed_out;
    if (run->nested)
        return;
    run->order = limits->order;
    run->replaces = limits->replaces && limits->key != 0;
    key_enter(engine, run, KEY_PACKAGE, limits->key);
    key_enter(engine, run, KEY_ROLE, limits->role_key);
    run->early = limits->not_before > now;
    if (run->early)
        fleet_eng_timer_set(engine, run->id | TIMER_RUN, limits->not_before);
    fleet_eng_wait(engine, run); /* with its order */
}

bool
fleet_engine_run_timed_out(const FleetEngine *engine, uint32_t run)
{
    return fleet_eng_run(engine, run)->timed_out;
}

/* It begins, or had begun when it was loaded. */
void
fleet_eng_begun(FleetEngine *engine, Run *run, FleetTime now)
{
    FleetTime since = run->since != 0 && !FLEET_BUG_TIMEOUT_FROM_RECOVERY ? run->since : now;

    run->in_keys = true;
    for (int k = 0; k < KEYS; k++)
    {
        if (run->keys[k] != NULL)
            run->keys[k]->active++;
    }
    run->early = false;
    run->parked = NULL;
    fleet_eng_timer_set(engine, run->id | TIMER_RUN,
                        run->timeout > 0 && since <= FLEET_NEVER - run->timeout &&
                                !(FLEET_BUG_TIMEOUT_FORGOTTEN && run->since != 0)
                            ? since + run->timeout
                            : FLEET_NEVER);
}

/* It has ended, or is thrown away. */
void
fleet_eng_over(FleetEngine *engine, Run *run)
{
    fleet_eng_timer_set(engine, run->id | TIMER_RUN, FLEET_NEVER);
    if (run->active)
        engine->active--;
    run->active = run->early = false;
    run->parked = NULL;
    if (!run->in_keys)
        fleet_eng_key_room(engine, run);
}

/* Its time has come: to begin, or to be stopped. */
void
fleet_eng_run_due(FleetEngine *engine, uint32_t run_id, FleetTime now)
{
    Run *run = fleet_eng_run(engine, run_id);

    fleet_eng_timer_set(engine, run_id | TIMER_RUN, FLEET_NEVER);
    if (run->early)
    {
        run->early = false;
        if (run->state == FLEET_QUEUED && !run->loading)
            fleet_eng_wait(engine, run);
        return;
    }
    if (run->state != FLEET_RUNNING)
        return; /* being stopped already, for another reason */
    run->timed_out = true;
    (void) fleet_engine_cancel_run(engine, run_id, now);
}

/* ---- replace ---- */

static bool
is_replaced(const Run *other, const Run *run)
{
    return other != NULL && other->keys[KEY_PACKAGE] == run->keys[KEY_PACKAGE] && other != run &&
           (other->order != run->order ? other->order < run->order : other->seq < run->seq) &&
           !other->cancel && !other->loading && !FLEET_STATE_IS_FINAL(other->state) &&
           !(other->state == FLEET_QUEUED && other->early);
}

/* What has come since the last turn and takes the place of others of its key. */
void
fleet_eng_replace(FleetEngine *engine, FleetTime now)
{
    for (uint32_t i = 0; i < engine->nreplacing; i++)
    {
        const Run *run = fleet_eng_still_waiting(engine, &engine->replacing[i]);

        for (uint32_t r = 0; run != NULL && r < engine->nruns; r++)
        {
            Run *other = engine->runs[r];

            if (!is_replaced(other, run))
                continue;
            fleet_eng_push(engine, FLEET_DO_REPLACE, (FleetTaskRef){other->id, 0, 0})->edge =
                run->id;
            if (!FLEET_BUG_REPLACED_GOES_ON)
                (void) fleet_engine_cancel_run(engine, other->id, now);
        }
    }
    engine->nreplacing = 0;
}
