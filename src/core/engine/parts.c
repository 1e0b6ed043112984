/*
 * core/engine/parts.c
 *     What is not the main part of a run: handlers, which are executed once for
 *     each failure, and final tasks, which begin when everything else is final.
 *
 * Called by the rest of the engine.  An execution of a handler is an item that
 * comes into being with the failure: what is durable of it is its row, so that
 * nothing has to be found out after a recovery.  Which part a run has come to
 * follows from the states of its tasks.
 */
#include "core/engine/internal.h"

Part
fleet_eng_part(const Run *run, uint32_t task)
{
    const FleetTaskSpec *spec = fleet_graph_task(run->graph, task);

    return spec->handler ? PART_HANDLERS : spec->last ? PART_LAST : PART_MAIN;
}

/* Does the cancel of its run reach it? */
bool
fleet_eng_canceled(const Run *run, uint32_t task)
{
    return run->cancel &&
           (run->cancel_last || fleet_eng_part(run, task) != PART_LAST || FLEET_BUG_FINAL_CANCELED);
}

/* ---- handlers ---- */

static bool
has_bad_item(const Run *run, FleetTaskRef ref)
{
    const Each *each = ref.item == 0 ? fleet_eng_each(run, ref.task) : NULL;

    for (uint32_t i = 0; each != NULL && i < each->count; i++)
    {
        if (fleet_eng_is_bad((FleetState) each->items[i].state))
            return true;
    }
    return false;
}

/* From its first execution on it runs. */
static void
begin_handler(FleetEngine *engine, Run *run, Each *each)
{
    Unit *whole = &run->tasks[each->task].unit;

    if (each->known)
        return;
    each->known = true;
    whole->flags |= UNIT_READY;
    fleet_eng_event(run, whole, FLEET_EVENT_START);
    fleet_eng_event(run, whole, FLEET_EVENT_ACCEPTED);
    fleet_eng_tell(engine, FLEET_DO_STATE, (FleetTaskRef){run->id, each->task, 0}, whole);
    fleet_eng_uncount(run, whole);
}

static void
execute_handler(FleetEngine *engine, Run *run, Each *each, FleetTaskRef cause, const Unit *unit,
                FleetTime now)
{
    FleetTaskRef ref = {run->id, each->task, 0};

    if (FLEET_STATE_IS_FINAL(run->tasks[each->task].unit.state))
        return; /* it was left out */
    begin_handler(engine, run, each);
    ref.item = fleet_eng_item_add(engine, run, each);
    fleet_eng_tell(engine, FLEET_DO_CATCH, ref, unit)->cause = cause;
    fleet_eng_item_queued(engine, run, ref, &each->items[ref.item - 1], now);
}

/* A task run is final, which was just told. */
void
fleet_eng_caught(FleetEngine *engine, Run *run, FleetTaskRef ref, const Unit *unit, FleetTime now)
{
    if (run->nhandlers == 0 || run->cancel || !fleet_eng_is_bad((FleetState) unit->state) ||
        fleet_eng_part(run, ref.task) != PART_MAIN || fleet_eng_end_is_handled(run, ref.task) ||
        has_bad_item(run, ref) || (FLEET_BUG_HANDLER_NOT_AFTER_RECOVERY && run->loaded))
        return;
    for (uint32_t i = 0; i < run->nhandlers; i++)
    {
        execute_handler(engine, run, &run->eaches[i], ref, unit, now);
        if (FLEET_BUG_HANDLER_TWICE && ref.item > 0)
            execute_handler(engine, run, &run->eaches[i], ref, unit, now);
    }
}

/* No other task can fail any more: they end together, since one that is still executed leaves the time
 * for a retry of what failed. */
static bool
end_handlers(FleetEngine *engine, Run *run, FleetTime now)
{
    for (uint32_t i = 0; i < run->nhandlers; i++)
    {
        if (run->eaches[i].open > 0)
            return false;
    }
    for (uint32_t i = 0; i < run->nhandlers; i++)
    {
        Each *each = &run->eaches[i];
        Unit *whole = &run->tasks[each->task].unit;

        if (FLEET_STATE_IS_FINAL(whole->state))
            continue;
        if (each->known)
            fleet_eng_items_finish(engine, run, each, now);
        else
            fleet_eng_settle(engine, run, (FleetTaskRef){run->id, each->task, 0}, whole,
                             FLEET_EVENT_SKIP, now);
    }
    return true;
}

/* ---- the parts, one after the other ---- */

/* Tasks that nothing comes before. */
void
fleet_eng_begin_part(FleetEngine *engine, Run *run, bool last, FleetTime now)
{
    for (uint32_t t = 0; t < run->ntasks; t++)
    {
        uint32_t n;

        fleet_graph_in(run->graph, t, &n);
        if (n == 0 && (fleet_eng_part(run, t) == PART_LAST) == last &&
            fleet_eng_is_undecided(&run->tasks[t]))
            fleet_eng_make_ready(engine, run, t, now);
    }
}

/* Nothing is left to resolve: does the run come to its next part?  True: there is something to resolve
 * again. */
bool
fleet_eng_next_part(FleetEngine *engine, Run *run, FleetTime now)
{
    if (run->open[PART_MAIN] > 0)
        return false;
    if (run->open[PART_HANDLERS] > 0)
        return end_handlers(engine, run, now);
    if (run->last_begun)
        return false;
    run->last_begun = true;
    fleet_eng_begin_part(engine, run, true, now);
    return true;
}
