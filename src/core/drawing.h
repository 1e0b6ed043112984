/*
 * core/drawing.h
 *     Where things stand in a picture: the tasks of a graph in layers, and
 *     pieces of work in as few rows as keep them apart.  Behind fleet.report().
 *
 * The layered drawing is that of Sugiyama, Tagawa and Toda (Methods for Visual
 * Understanding of Hierarchical System Structures, IEEE Transactions on
 * Systems, Man, and Cybernetics 11, 1981): a layer for each task (the longest
 * path to it), a point in each layer that an edge crosses, the points of each
 * layer ordered by the mean place of their neighbours (the barycentre), to and
 * fro; the order with the fewest crossings counts.  Places are the nearest to
 * those means that keep the order and the distance 1 (isotonic regression, by
 * pooling adjacent violators).
 */
#ifndef FLEET_CORE_DRAWING_H
#define FLEET_CORE_DRAWING_H

#include "core/core.h"

/* A task, or a point where an edge passes a layer between those of its tasks. */
typedef struct FleetDrawingPoint
{
    uint32_t edge; /* FLEET_DRAWING_TASK: a task */
    uint32_t task;
    uint32_t layer;
    double place; /* within the layer, from 0; neighbours are at least 1 apart */
} FleetDrawingPoint;

#define FLEET_DRAWING_TASK UINT32_MAX

typedef struct FleetDrawing
{
    FleetDrawingPoint
        *points; /* the tasks in their order, then the points of edges, by edge and layer */
    uint32_t npoints;
    uint32_t capacity;
    uint32_t nlayers;
    uint32_t crossings;
} FleetDrawing;

/*
 * Edges lead from[i] to to[i]; one that a cycle contains, or that names a task
 * that there is not, is drawn by nobody: it does not count.  With very many
 * edges across many layers none gets points of its own.
 */
extern void fleet_drawing_create(const FleetAlloc *alloc, uint32_t ntasks, const uint32_t *from,
                                 const uint32_t *to, uint32_t nedges, FleetDrawing *drawing);
extern void fleet_drawing_free(const FleetAlloc *alloc, FleetDrawing *drawing);

/*
 * The row of each span, from 0, so that those of one row do not overlap; spans
 * are ordered by start.  Each takes the lowest row that is free.  At most "limit"
 * rows: what finds none is in the last one.
 */
extern void fleet_drawing_rows(const FleetAlloc *alloc, const FleetTime *start,
                               const FleetTime *end, uint32_t nspans, uint32_t limit,
                               uint32_t *row);

/* What is drawn as one: of one row and class, and closer together than can be seen. */
typedef struct FleetDrawingSpan
{
    uint32_t row;
    uint32_t class;
    FleetTime start, end;
} FleetDrawingSpan;

/* Joins spans (ordered by start, with their rows) in "spans", of which there are at most as many; returns how many. */
extern uint32_t fleet_drawing_join(const FleetAlloc *alloc, const FleetTime *start,
                                   const FleetTime *end, const uint32_t *class, const uint32_t *row,
                                   uint32_t nspans, FleetTime distance, FleetDrawingSpan *spans);

#endif
