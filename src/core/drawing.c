/*
 * core/drawing.c
 *     Layered drawings of graphs, and rows of a time chart (drawing.h).
 */
#include "core/drawing.h"

#include <string.h>

#define MAX_POINTS 20000 /* of edges; with more of them, none has points */
#define SWEEPS 12

/* A part of an edge, from a point to one of the next layer (or of a later one, where edges have no points). */
typedef struct Segment
{
    uint32_t up, down;
} Segment;

typedef struct Work
{
    const FleetAlloc *alloc;
    FleetDrawing *drawing;
    Segment *segments;
    uint32_t nsegments, segment_capacity;
    uint32_t *order;       /* points by layer */
    uint32_t *layer_begin; /* in order, of each layer, and the end */
    uint32_t *rank;        /* of each point in its layer */
    uint32_t *best;        /* the ranks with the fewest crossings */
    double *mean;          /* of a point's neighbours */
    uint32_t *count;
} Work;

/* ---- layers ---- */

/* The longest path to each task.  What a cycle contains is put into the first layer. */
static void
find_layers(const FleetAlloc *alloc, uint32_t n, const uint32_t *from, const uint32_t *to,
            uint32_t nedges, FleetDrawing *drawing)
{
    uint32_t *waits = fleet_alloc_zero(alloc, sizeof(uint32_t) * (n + 1));
    uint32_t *begin = fleet_alloc_zero(alloc, sizeof(uint32_t) * (n + 2));
    uint32_t *out = fleet_alloc_zero(alloc, sizeof(uint32_t) * (nedges + 1));
    uint32_t *queue = fleet_alloc_zero(alloc, sizeof(uint32_t) * (n + 1));
    uint32_t head = 0, tail = 0;

    for (uint32_t e = 0; e < nedges; e++)
        if (from[e] < n && to[e] < n)
            begin[from[e] + 2]++;
    for (uint32_t t = 0; t < n; t++)
        begin[t + 2] += begin[t + 1];
    for (uint32_t e = 0; e < nedges; e++)
        if (from[e] < n && to[e] < n)
        {
            out[begin[from[e] + 1]++] = to[e];
            waits[to[e]]++;
        }
    for (uint32_t t = 0; t < n; t++)
        if (waits[t] == 0)
            queue[tail++] = t;
    while (head < tail)
    {
        uint32_t t = queue[head++];

        for (uint32_t i = begin[t]; i < begin[t + 1]; i++)
        {
            FleetDrawingPoint *next = &drawing->points[out[i]];

            if (next->layer <= drawing->points[t].layer)
                next->layer = drawing->points[t].layer + 1;
            if (--waits[out[i]] == 0)
                queue[tail++] = out[i];
        }
    }
    for (uint32_t t = 0; t < n; t++)
        if (waits[t] != 0)
            drawing->points[t].layer = 0;
    fleet_alloc_free(alloc, waits, sizeof(uint32_t) * (n + 1));
    fleet_alloc_free(alloc, begin, sizeof(uint32_t) * (n + 2));
    fleet_alloc_free(alloc, out, sizeof(uint32_t) * (nedges + 1));
    fleet_alloc_free(alloc, queue, sizeof(uint32_t) * (n + 1));
}

static void
add_segment(Work *work, uint32_t up, uint32_t down)
{
    fleet_alloc_grow(work->alloc, (void **) &work->segments, &work->segment_capacity,
                     work->nsegments + 1, sizeof(Segment));
    work->segments[work->nsegments++] = (Segment){up, down};
}

/* The points of one edge, and the segments between them. */
static void
lay_edge(Work *work, uint32_t edge, uint32_t from, uint32_t to, bool points)
{
    FleetDrawing *drawing = work->drawing;
    uint32_t last = from, end = drawing->points[to].layer;

    for (uint32_t layer = drawing->points[from].layer + 1; points && layer < end; layer++)
    {
        fleet_alloc_grow(work->alloc, (void **) &drawing->points, &drawing->capacity,
                         drawing->npoints + 1, sizeof(FleetDrawingPoint));
        drawing->points[drawing->npoints] =
            (FleetDrawingPoint){.edge = edge, .task = from, .layer = layer};
        add_segment(work, last, drawing->npoints);
        last = drawing->npoints++;
    }
    add_segment(work, last, to);
}

static void
lay_edges(Work *work, uint32_t n, const uint32_t *from, const uint32_t *to, uint32_t nedges)
{
    const FleetDrawingPoint *tasks = work->drawing->points;
    uint64_t crossed = 0;

    for (uint32_t e = 0; e < nedges; e++)
        if (from[e] < n && to[e] < n && tasks[from[e]].layer < tasks[to[e]].layer)
            crossed += tasks[to[e]].layer - tasks[from[e]].layer - 1;
    for (uint32_t e = 0; e < nedges; e++)
    {
        tasks = work->drawing->points;
        if (from[e] < n && to[e] < n && tasks[from[e]].layer < tasks[to[e]].layer)
            lay_edge(work, e, from[e], to[e], crossed <= MAX_POINTS);
    }
}

/* ---- order ---- */

static void
fill_layers(Work *work)
{
    FleetDrawing *drawing = work->drawing;
    uint32_t *next;
    size_t size;

    drawing->nlayers = 0;
    for (uint32_t p = 0; p < drawing->npoints; p++)
        if (drawing->points[p].layer >= drawing->nlayers)
            drawing->nlayers = drawing->points[p].layer + 1;
    size = sizeof(uint32_t) * (drawing->nlayers + 2);
    work->layer_begin = fleet_alloc_zero(work->alloc, size);
    next = fleet_alloc_zero(work->alloc, size);
    for (uint32_t p = 0; p < drawing->npoints; p++)
        work->layer_begin[drawing->points[p].layer + 1]++;
    for (uint32_t l = 0; l < drawing->nlayers; l++)
        work->layer_begin[l + 1] += work->layer_begin[l];
    for (uint32_t p = 0; p < drawing->npoints; p++)
    {
        uint32_t l = drawing->points[p].layer;

        work->rank[p] = next[l]++;
        work->order[work->layer_begin[l] + work->rank[p]] = p;
    }
    fleet_alloc_free(work->alloc, next, size);
}

/* The mean rank of each point's neighbours above it (or below); of a point without any, its own. */
static void
find_means(Work *work, bool above)
{
    uint32_t n = work->drawing->npoints;

    memset(work->count, 0, sizeof(uint32_t) * n);
    for (uint32_t p = 0; p < n; p++)
        work->mean[p] = 0;
    for (uint32_t s = 0; s < work->nsegments; s++)
    {
        uint32_t p = above ? work->segments[s].down : work->segments[s].up;

        work->mean[p] += work->rank[above ? work->segments[s].up : work->segments[s].down];
        work->count[p]++;
    }
    for (uint32_t p = 0; p < n; p++)
        work->mean[p] = work->count[p] == 0 ? work->rank[p] : work->mean[p] / work->count[p];
}

/* By insertion: stable, and layers are nearly in order after the first sweeps. */
static void
sort_layer(Work *work, uint32_t layer)
{
    uint32_t *points = &work->order[work->layer_begin[layer]];
    uint32_t n = work->layer_begin[layer + 1] - work->layer_begin[layer];

    for (uint32_t i = 1; i < n; i++)
    {
        uint32_t p = points[i], j = i;

        for (; j > 0 && work->mean[points[j - 1]] > work->mean[p]; j--)
            points[j] = points[j - 1];
        points[j] = p;
    }
    for (uint32_t i = 0; i < n; i++)
        work->rank[points[i]] = i;
}

/* Each layer in its turn, by what is above it, or from the last one up, by what is below. */
static void
sweep(Work *work, bool down)
{
    uint32_t nlayers = work->drawing->nlayers;

    for (uint32_t i = 0; i < nlayers; i++)
    {
        find_means(work, down);
        sort_layer(work, down ? i : nlayers - 1 - i);
    }
}

static uint32_t
count_crossings(const Work *work)
{
    const FleetDrawingPoint *points = work->drawing->points;
    uint32_t crossings = 0;

    for (uint32_t i = 0; i < work->nsegments; i++)
        for (uint32_t j = i + 1; j < work->nsegments; j++)
        {
            Segment a = work->segments[i], b = work->segments[j];
            int64_t above, below;

            if (points[a.up].layer != points[b.up].layer ||
                points[a.down].layer != points[b.down].layer)
                continue;
            above = (int64_t) work->rank[a.up] - work->rank[b.up];
            below = (int64_t) work->rank[a.down] - work->rank[b.down];
            crossings += (above < 0 && below > 0) || (above > 0 && below < 0);
        }
    return crossings;
}

/* As many sweeps as are worth their time with so much to look at. */
static void
order_layers(Work *work)
{
    FleetDrawing *drawing = work->drawing;
    bool large = work->nsegments > 2000 || (uint64_t) drawing->npoints * drawing->nlayers > 1000000;

    drawing->crossings = large ? UINT32_MAX : count_crossings(work);
    memcpy(work->best, work->rank, sizeof(uint32_t) * drawing->npoints);
    for (int i = 0; i < (large ? 0 : SWEEPS) && drawing->crossings > 0; i++)
    {
        uint32_t crossings;

        sweep(work, i % 2 == 0);
        crossings = count_crossings(work);
        if (crossings < drawing->crossings)
        {
            drawing->crossings = crossings;
            memcpy(work->best, work->rank, sizeof(uint32_t) * drawing->npoints);
        }
    }
    for (uint32_t p = 0; p < drawing->npoints; p++)
    {
        work->rank[p] = work->best[p];
        work->order[work->layer_begin[drawing->points[p].layer] + work->rank[p]] = p;
    }
}

/* ---- places ---- */

/* The places nearest to the wanted ones (work->mean) that keep the order of the layer and the distance 1. */
static void
place_layer(Work *work, uint32_t layer, double *value, uint32_t *weight)
{
    FleetDrawingPoint *points = work->drawing->points;
    const uint32_t *order = &work->order[work->layer_begin[layer]];
    uint32_t n = work->layer_begin[layer + 1] - work->layer_begin[layer];
    uint32_t nblocks = 0, next = 0;

    for (uint32_t i = 0; i < n; i++)
    {
        value[nblocks] = work->mean[order[i]] - i;
        weight[nblocks++] = 1;
        while (nblocks > 1 && value[nblocks - 2] > value[nblocks - 1])
        {
            uint32_t a = weight[nblocks - 2], b = weight[nblocks - 1];

            value[nblocks - 2] = (value[nblocks - 2] * a + value[nblocks - 1] * b) / (a + b);
            weight[nblocks - 2] = a + b;
            nblocks--;
        }
    }
    for (uint32_t b = 0; b < nblocks; b++)
        for (uint32_t i = 0; i < weight[b]; i++, next++)
            points[order[next]].place = value[b] + next;
}

/* The mean place of each point's neighbours on both sides. */
static void
want_places(Work *work)
{
    FleetDrawingPoint *points = work->drawing->points;
    uint32_t n = work->drawing->npoints;

    memset(work->count, 0, sizeof(uint32_t) * n);
    for (uint32_t p = 0; p < n; p++)
        work->mean[p] = 0;
    for (uint32_t s = 0; s < work->nsegments; s++)
    {
        Segment segment = work->segments[s];

        work->mean[segment.up] += points[segment.down].place;
        work->mean[segment.down] += points[segment.up].place;
        work->count[segment.up]++;
        work->count[segment.down]++;
    }
    for (uint32_t p = 0; p < n; p++)
        work->mean[p] = work->count[p] == 0 ? points[p].place : work->mean[p] / work->count[p];
}

static void
find_places(Work *work)
{
    FleetDrawing *drawing = work->drawing;
    size_t n = drawing->npoints;
    double *value = fleet_alloc_zero(work->alloc, sizeof(double) * (n + 1)), least = 0;
    uint32_t *weight = fleet_alloc_zero(work->alloc, sizeof(uint32_t) * (n + 1));

    for (uint32_t p = 0; p < n; p++)
        drawing->points[p].place = work->rank[p];
    for (int i = 0; i < 2 * SWEEPS && n <= MAX_POINTS; i++)
        for (uint32_t l = 0; l < drawing->nlayers; l++)
        {
            if (l == 0 || n <= 1000)
                want_places(work);
            place_layer(work, l, value, weight);
        }
    for (uint32_t p = 0; p < n; p++)
        if (p == 0 || drawing->points[p].place < least)
            least = drawing->points[p].place;
    for (uint32_t p = 0; p < n; p++)
        drawing->points[p].place -= least;
    fleet_alloc_free(work->alloc, value, sizeof(double) * (n + 1));
    fleet_alloc_free(work->alloc, weight, sizeof(uint32_t) * (n + 1));
}

/* ---- the whole ---- */

void
fleet_drawing_create(const FleetAlloc *alloc, uint32_t ntasks, const uint32_t *from,
                     const uint32_t *to, uint32_t nedges, FleetDrawing *drawing)
{
    Work work = {.alloc = alloc, .drawing = drawing};
    size_t n;

    memset(drawing, 0, sizeof(*drawing));
    if (ntasks == 0)
        return;
    fleet_alloc_grow(alloc, (void **) &drawing->points, &drawing->capacity, ntasks,
                     sizeof(FleetDrawingPoint));
    for (uint32_t t = 0; t < ntasks; t++)
        drawing->points[t] = (FleetDrawingPoint){.edge = FLEET_DRAWING_TASK, .task = t};
    drawing->npoints = ntasks;
    find_layers(alloc, ntasks, from, to, nedges, drawing);
    lay_edges(&work, ntasks, from, to, nedges);

    n = drawing->npoints;
    work.order = fleet_alloc_zero(alloc, sizeof(uint32_t) * n);
    work.rank = fleet_alloc_zero(alloc, sizeof(uint32_t) * n);
    work.best = fleet_alloc_zero(alloc, sizeof(uint32_t) * n);
    work.count = fleet_alloc_zero(alloc, sizeof(uint32_t) * n);
    work.mean = fleet_alloc_zero(alloc, sizeof(double) * n);
    fill_layers(&work);
    order_layers(&work);
    find_places(&work);
    fleet_alloc_free(alloc, work.order, sizeof(uint32_t) * n);
    fleet_alloc_free(alloc, work.rank, sizeof(uint32_t) * n);
    fleet_alloc_free(alloc, work.best, sizeof(uint32_t) * n);
    fleet_alloc_free(alloc, work.count, sizeof(uint32_t) * n);
    fleet_alloc_free(alloc, work.mean, sizeof(double) * n);
    fleet_alloc_free(alloc, work.layer_begin, sizeof(uint32_t) * (drawing->nlayers + 2));
    fleet_alloc_free(alloc, work.segments, sizeof(Segment) * work.segment_capacity);
}

void
fleet_drawing_free(const FleetAlloc *alloc, FleetDrawing *drawing)
{
    fleet_alloc_free(alloc, drawing->points, sizeof(FleetDrawingPoint) * drawing->capacity);
    memset(drawing, 0, sizeof(*drawing));
}

void
fleet_drawing_rows(const FleetAlloc *alloc, const FleetTime *start, const FleetTime *end,
                   uint32_t nspans, uint32_t limit, uint32_t *row)
{
    FleetTime *busy_until = fleet_alloc_zero(alloc, sizeof(FleetTime) * (limit + 1));
    uint32_t used = 0;

    for (uint32_t i = 0; i < nspans; i++)
    {
        uint32_t r = 0;

        while (r < used && busy_until[r] > start[i])
            r++;
        if (r == limit)
            r = limit - 1;
        else if (r == used)
        {
            used++;
            busy_until[r] = end[i];
        }
        row[i] = r;
        if (busy_until[r] < end[i])
            busy_until[r] = end[i];
    }
    fleet_alloc_free(alloc, busy_until, sizeof(FleetTime) * (limit + 1));
}

uint32_t
fleet_drawing_join(const FleetAlloc *alloc, const FleetTime *start, const FleetTime *end,
                   const uint32_t *class, const uint32_t *row, uint32_t nspans, FleetTime distance,
                   FleetDrawingSpan *spans)
{
    uint32_t nrows = 0, count = 0;
    uint32_t *last; /* span of each row, plus 1 */

    for (uint32_t i = 0; i < nspans; i++)
        if (row[i] >= nrows)
            nrows = row[i] + 1;
    last = fleet_alloc_zero(alloc, sizeof(uint32_t) * (nrows + 1));
    for (uint32_t i = 0; i < nspans; i++)
    {
        FleetDrawingSpan *open = last[row[i]] == 0 ? NULL : &spans[last[row[i]] - 1];

        if (open != NULL && open->class == class[i] && start[i] - open->end < distance)
        {
            if (open->end < end[i])
                open->end = end[i];
            continue;
        }
        spans[count++] = (FleetDrawingSpan){row[i], class[i], start[i], end[i]};
        last[row[i]] = count;
    }
    fleet_alloc_free(alloc, last, sizeof(uint32_t) * (nrows + 1));
    return count;
}
