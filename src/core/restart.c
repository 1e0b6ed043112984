/*
 * core/restart.c
 *     Which tasks of a restart run again (restart.h).
 *
 * One pass in topological order: what comes before a task is known when its
 * turn comes.
 */
#include "core/restart.h"

static bool
runs_again(FleetRestartPart part)
{
    return part == FLEET_RESTART_RESUME || part == FLEET_RESTART_AFRESH;
}

static bool
follows_change(const FleetGraph *graph, uint32_t task, const FleetRestartPart *parts)
{
    uint32_t n;
    const uint32_t *in = fleet_graph_in(graph, task, &n);

    for (uint32_t i = 0; i < n && !FLEET_BUG_RESTART_KEEPS_WHAT_FOLLOWS; i++)
    {
        if (runs_again(parts[fleet_graph_edge(graph, in[i])->from]))
            return true;
    }
    return false;
}

void
fleet_restart_plan(const FleetGraph *graph, const FleetState *old, const bool *chosen,
                   FleetRestartPart *parts)
{
    const uint32_t *order = fleet_graph_order(graph);

    for (uint32_t i = 0; i < fleet_graph_ntasks(graph); i++)
    {
        uint32_t t = order[i];

        if ((chosen != NULL && chosen[t]) || follows_change(graph, t, parts))
            parts[t] = FLEET_RESTART_AFRESH;
        else if (old[t] == FLEET_SUCCEEDED)
            parts[t] = FLEET_RESTART_CARRY;
        else if (old[t] == FLEET_SKIPPED)
            parts[t] = FLEET_RESTART_DECIDE;
        else
            parts[t] = FLEET_RESTART_RESUME;
    }
}

bool
fleet_restart_keeps(const FleetGraph *graph, uint32_t number, const bool *chosen,
                    const FleetRestartPart *parts)
{
    const FleetEdgeSpec *edge = fleet_graph_edge(graph, number);

    return !runs_again(parts[edge->from]) && !(chosen != NULL && chosen[edge->to]);
}
