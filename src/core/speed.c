/*
 * core/speed.c
 *     Speeds of servers (speed.h): pure arithmetic on what one run measured.
 *     Called by the agent at the end of a run, and by tests.
 *
 * The logarithm of expected / actual of a piece is
 *
 *     speed of its server  -  level of its cell  +  noise
 *
 * A *cell* is a set of pieces that are comparable: those of one task, if several
 * servers did some, or else those of all tasks with the same choice of servers
 * whose lengths are known.  The level takes up what all of them took longer than
 * expected.  This is the linear model with two fixed effects; its speeds are
 * defined within servers that are connected through cells, and there up to a
 * common summand (Abowd, Kramarz, Margolis: High Wage Workers and High Wage
 * Firms, Econometrica 67, 1999).  It is solved by backfitting (Buja, Hastie,
 * Tibshirani: Linear Smoothers and Additive Models, Annals of Statistics 17,
 * 1989), with Huber's weights against outliers (Huber: Robust Statistics, 1981)
 * and the noise of each cell taken from its own residuals.
 *
 * The result of one run is an observation whose variance has two parts: that of
 * the noise, which many pieces average out, and that of the night, which they do
 * not (a server was busy with something else).  Observations are combined by
 * their evidence, older ones counting for less and less (recursive least squares
 * with a forgetting factor), and much less when they are contradicted.
 *
 * The lengths of the pieces are learned by the speeds of this run, not by those
 * that are believed so far: while a change of speed is not believed yet, it must
 * not become the length of the work that is always on that server.
 *
 * What is used as the speed is shrunk towards 1 by Breiman's garrote (Better
 * Subset Regression Using the Nonnegative Garrote, Technometrics 37, 1995):
 * nothing is left of what is within DOUBT standard deviations, and almost all
 * of what is far beyond.
 */
#include "core/speed.h"

#include <math.h>
#include <stdlib.h>

#define SWEEPS 40
#define OUTLIER 2.0 /* residuals beyond so many standard deviations count for less */

#define NOISE_FIRST 0.25   /* variance of a cell before its residuals are known … */
#define NOISE_WEIGHT 2.0   /* … which counts as much as so many of them */
#define NIGHT_NOISE 0.0225 /* variance of what a whole run may be off on a server: 15 % */
#define START FLEET_MS(20) /* a difference that starting the work explains */

#define MEMORY 0.85  /* what the evidence of older runs is worth at the next one */
#define SURPRISE 3.0 /* an observation beyond so many standard deviations from what was known … */
#define MEMORY_THEN 0.4   /* … says that it is out of date */
#define CENTER 0.3        /* how far the level of servers that share work goes back to 1 in a run */
#define EVIDENCE_OF_1 1.0 /* that a server is like the others, before anything is known */
#define DOUBT 3.0
#define SPEED_LIMIT 2.772588722239781 /* log 16 */

#define NO_CELL UINT32_MAX

typedef struct Piece
{
    uint32_t cell, server;
    FleetTime expected, actual;
    double value;  /* log (expected / actual) */
    double weight; /* Huber's: 1, or less of an outlier */
} Piece;

typedef struct Cell
{
    uint32_t count;
    uint32_t first_server;
    bool several;    /* servers did its pieces */
    uint32_t fitted; /* levels and speeds that its residuals have been fitted by */
    double level, variance;
    double sum, weights; /* of a sweep */
    double log_actual;   /* mean, where the lengths are not known */
} Cell;

/* What a run says of a server. */
typedef struct Observed
{
    double speed; /* within its component up to a summand */
    double information;
    double sum, weights;
    uint32_t component; /* index of another one, or its own: a forest */
    bool surprising;
} Observed;

typedef struct Fit
{
    const FleetAlloc *alloc;
    Piece *pieces;
    uint32_t npieces;
    Cell *cells;
    uint32_t ncells;
    Observed *servers;
    uint32_t nservers;
} Fit;

void
fleet_speed_init(FleetSpeed *speed)
{
    *speed = (FleetSpeed){0, 0};
}

static double
clip(double value, double limit)
{
    return value > limit ? limit : value < -limit ? -limit : value;
}

double
fleet_speed_value(const FleetSpeed *speed)
{
    double x = speed->log_speed;
    double doubt = DOUBT * DOUBT / (speed->evidence + EVIDENCE_OF_1);

    return x * x <= doubt ? 1 : exp(clip(x - doubt / x, SPEED_LIMIT));
}

/* ---- pieces and their cells ---- */

static void
cell_count(Cell *cell, const Piece *piece)
{
    if (cell->count++ == 0)
        cell->first_server = piece->server;
    else if (cell->first_server != piece->server)
        cell->several = true;
    cell->log_actual += log((double) piece->actual);
}

/* First each piece into the cell of its task, by whether its length was known. */
static void
take_pieces(Fit *fit, const FleetSpeedSample *samples, uint32_t n, uint32_t *ntasks)
{
    uint32_t npools = 0;

    for (uint32_t i = 0; i < n; i++)
    {
        if (samples[i].task >= *ntasks)
            *ntasks = samples[i].task + 1;
        if (samples[i].pool >= npools)
            npools = samples[i].pool + 1;
    }
    fit->ncells = 2 * *ntasks + npools;
    fit->cells = fleet_alloc_zero(fit->alloc, fit->ncells * sizeof(Cell));
    fit->pieces = fleet_alloc_zero(fit->alloc, n * sizeof(Piece));
    for (uint32_t i = 0; i < n; i++)
    {
        const FleetSpeedSample *sample = &samples[i];
        Piece *piece = &fit->pieces[fit->npieces++];

        *piece = (Piece){.cell = 2 * sample->task + (sample->expected > 0 ? 0 : 1),
                         .server = sample->server,
                         .expected = sample->expected,
                         .actual = sample->actual > 0 ? sample->actual : 1,
                         .weight = 1};
        cell_count(&fit->cells[piece->cell], piece);
    }
}

/* A time that starting the work explains is none. */
static FleetTime
without_start(FleetTime expected, FleetTime actual)
{
    if (actual > expected)
        return actual - expected > START ? actual - START : expected;
    return expected - actual > START ? actual + START : expected;
}

/*
 * Pieces of unknown length are compared where a task has no others.  Otherwise
 * they are those that are always short, and always at the same place in the
 * order: a difference that stays every night, and is no noise.
 */
static bool
comparable_unknown(const Fit *fit, uint32_t cell)
{
    return fit->cells[cell].several && fit->cells[cell - 1].count == 0;
}

/* Does this piece count, and in which cell?  By what was expected, never by what it took. */
static uint32_t
choose_cell(const Fit *fit, Piece *piece, uint32_t pool_cell)
{
    const Cell *cell = &fit->cells[piece->cell];
    bool known = piece->expected > 0;

    if (!known)
        piece->expected = (FleetTime) exp(cell->log_actual / cell->count);
    if (piece->expected < FLEET_SPEED_FROM || !(known || comparable_unknown(fit, piece->cell)))
        return NO_CELL;
    piece->value =
        log((double) piece->expected) - log((double) without_start(piece->expected, piece->actual));
    return cell->several ? piece->cell : pool_cell;
}

static int
piece_compare(const void *a, const void *b)
{
    const Piece *x = a, *y = b;

    if (x->cell != y->cell)
        return x->cell < y->cell ? -1 : 1;
    return x->server < y->server ? -1 : x->server > y->server;
}

static void
sort_into_cells(Fit *fit, const FleetSpeedSample *samples, uint32_t ntasks)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < fit->npieces; i++)
    {
        Piece piece = fit->pieces[i];

        piece.cell = choose_cell(fit, &piece, 2 * ntasks + samples[i].pool);
        if (piece.cell != NO_CELL)
            fit->pieces[kept++] = piece;
    }
    fit->npieces = kept;
    for (uint32_t c = 0; c < fit->ncells; c++)
        fit->cells[c] = (Cell){.variance = NOISE_FIRST};
    for (uint32_t i = 0; i < kept; i++)
        cell_count(&fit->cells[fit->pieces[i].cell], &fit->pieces[i]);
    qsort(fit->pieces, kept, sizeof(Piece), piece_compare);
    for (uint32_t i = 0; i < kept; i++)
        if (i == 0 || piece_compare(&fit->pieces[i - 1], &fit->pieces[i]) != 0)
            fit->cells[fit->pieces[i].cell].fitted++;
}

/* ---- the run alone: speeds and levels ---- */

static void
sweep_levels(Fit *fit)
{
    for (uint32_t i = 0; i < fit->npieces; i++)
    {
        const Piece *piece = &fit->pieces[i];
        Cell *cell = &fit->cells[piece->cell];

        cell->sum += piece->weight * (piece->value - fit->servers[piece->server].speed);
        cell->weights += piece->weight;
    }
    for (uint32_t c = 0; c < fit->ncells; c++)
    {
        Cell *cell = &fit->cells[c];

        if (cell->weights > 0)
            cell->level = cell->sum / cell->weights;
        cell->sum = cell->weights = 0;
    }
}

static void
sweep_speeds(Fit *fit)
{
    for (uint32_t i = 0; i < fit->npieces; i++)
    {
        const Piece *piece = &fit->pieces[i];
        const Cell *cell = &fit->cells[piece->cell];
        Observed *server = &fit->servers[piece->server];
        double weight = piece->weight / cell->variance;

        server->sum += weight * (piece->value - cell->level);
        server->weights += weight;
    }
    for (uint32_t s = 0; s < fit->nservers; s++)
    {
        Observed *server = &fit->servers[s];

        if (server->weights > 0)
            server->speed = server->sum / server->weights;
        server->sum = server->weights = 0;
    }
}

/* Noise from the residuals, cut at OUTLIER; weights from the noise. */
static void
sweep_noise(Fit *fit)
{
    for (uint32_t i = 0; i < fit->npieces; i++)
    {
        Piece *piece = &fit->pieces[i];
        Cell *cell = &fit->cells[piece->cell];
        double limit = OUTLIER * sqrt(cell->variance);
        double residual = fabs(piece->value - cell->level - fit->servers[piece->server].speed);

        piece->weight = residual > limit ? limit / residual : 1;
        residual = residual < limit ? residual : limit;
        cell->sum += residual * residual;
    }
    for (uint32_t c = 0; c < fit->ncells; c++)
    {
        Cell *cell = &fit->cells[c];

        cell->variance =
            (NOISE_WEIGHT * NOISE_FIRST + cell->sum) / (NOISE_WEIGHT + cell->count - cell->fitted);
        cell->sum = 0;
    }
}

static uint32_t
component_of(const Fit *fit, uint32_t server)
{
    while (fit->servers[server].component != server)
        server = fit->servers[server].component;
    return server;
}

/* Servers with pieces in one cell are connected; each knows of the others what the cell can tell. */
static void
connect(Fit *fit)
{
    for (uint32_t s = 0; s < fit->nservers; s++)
        fit->servers[s].component = s;
    for (uint32_t i = 0, next; i < fit->npieces; i = next)
    {
        const Piece *piece = &fit->pieces[i];
        const Cell *cell = &fit->cells[piece->cell];
        double count;

        for (next = i + 1; next < fit->npieces && piece_compare(piece, &fit->pieces[next]) == 0;
             next++)
            ;
        count = next - i;
        fit->servers[piece->server].information +=
            count * (1 - count / cell->count) / cell->variance;
        fit->servers[component_of(fit, piece->server)].component =
            component_of(fit, cell->first_server);
    }
}

static void
fit_run(Fit *fit)
{
    for (int i = 0; i < SWEEPS; i++)
    {
        sweep_levels(fit);
        sweep_speeds(fit);
        sweep_levels(fit);
        sweep_noise(fit);
    }
    connect(fit);
}

/* ---- the run, and what was known before ---- */

typedef struct Known
{
    double speed, evidence;
} Known;

static Known
known_before(const FleetSpeed *speed, const Observed *server)
{
    double evidence = (server->surprising ? MEMORY_THEN : MEMORY) * speed->evidence;

    return (Known){speed->log_speed * evidence / (evidence + EVIDENCE_OF_1),
                   evidence + EVIDENCE_OF_1};
}

static double
weight_of(const Observed *server)
{
    return server->information > 0 ? 1 / (NIGHT_NOISE + 1 / server->information) : 0;
}

/*
 * The common summand of each component is the one with which both agree best:
 * the run moves some of its servers up as much as others down.
 */
static void
level_components(Fit *fit, FleetSpeed *const *speeds)
{
    for (uint32_t s = 0; s < fit->nservers; s++)
        fit->servers[s].sum = fit->servers[s].weights = 0;
    for (uint32_t s = 0; s < fit->nservers; s++)
    {
        const Observed *server = &fit->servers[s];
        Observed *component = &fit->servers[component_of(fit, s)];
        Known old = known_before(speeds[s], server);
        double weight = weight_of(server), both = old.evidence * weight / (old.evidence + weight);

        component->sum += both * (old.speed - server->speed);
        component->weights += both;
    }
    for (uint32_t s = 0; s < fit->nservers; s++)
    {
        const Observed *component = &fit->servers[component_of(fit, s)];

        if (fit->servers[s].information > 0)
            fit->servers[s].speed += component->sum / component->weights;
    }
}

/* Adaptive fading: a server whose speed has changed is not held back by what it was. */
static void
find_surprises(Fit *fit, FleetSpeed *const *speeds)
{
    for (uint32_t s = 0; s < fit->nservers; s++)
    {
        Observed *server = &fit->servers[s];
        Known old = known_before(speeds[s], server);
        double weight = weight_of(server), limit;

        if (weight <= 0)
            continue;
        limit = SURPRISE * sqrt(1 / old.evidence + 1 / weight);
        server->surprising = fabs(server->speed - old.speed) > limit;
    }
}

static void
combine(Fit *fit, FleetSpeed *const *speeds)
{
    level_components(fit, speeds);
    find_surprises(fit, speeds);
    level_components(fit, speeds);
    for (uint32_t s = 0; s < fit->nservers; s++)
    {
        const Observed *server = &fit->servers[s];
        Known old = known_before(speeds[s], server);
        double weight = weight_of(server);

        if (weight <= 0)
            continue;
        speeds[s]->log_speed =
            clip((old.evidence * old.speed + weight * server->speed) / (old.evidence + weight),
                 SPEED_LIMIT);
        speeds[s]->evidence = old.evidence - EVIDENCE_OF_1 + weight;
    }
}

/* ---- the level: most servers are 1 ---- */

static int
double_compare(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return x < y ? -1 : x > y;
}

/*
 * Nothing holds the common level of a component in place; without this, one bad
 * first observation would leave all others too fast for a long time.
 */
static void
center_component(Fit *fit, FleetSpeed *const *speeds, uint32_t component, double *values)
{
    uint32_t n = 0;
    double shift;

    for (uint32_t s = 0; s < fit->nservers; s++)
        if (fit->servers[s].information > 0 && component_of(fit, s) == component)
            values[n++] = speeds[s]->log_speed;
    if (n == 0)
        return;
    qsort(values, n, sizeof(double), double_compare);
    shift = CENTER * (values[(n - 1) / 2] + values[n / 2]) / 2;
    for (uint32_t s = 0; s < fit->nservers; s++)
        if (fit->servers[s].information > 0 && component_of(fit, s) == component)
        {
            speeds[s]->log_speed -= shift;
            fit->servers[s].speed -= shift;
        }
}

static void
center(Fit *fit, FleetSpeed *const *speeds)
{
    double *values = fleet_alloc_zero(fit->alloc, fit->nservers * sizeof(double));

    for (uint32_t s = 0; s < fit->nservers; s++)
        if (fit->servers[s].component == s)
            center_component(fit, speeds, s, values);
    fleet_alloc_free(fit->alloc, values, fit->nservers * sizeof(double));
}

/* What a server's speed was in this run, the night included. */
static double
speed_tonight(const Fit *fit, uint32_t s, const FleetSpeed *speed)
{
    const Observed *server = &fit->servers[s];
    double known = log(fleet_speed_value(speed));
    double trust = 1 / (NIGHT_NOISE + 1 / (speed->evidence + EVIDENCE_OF_1)), seen;

    if (server->information <= 0)
        return exp(known);
    seen = (server->information * server->speed + trust * known) / (server->information + trust);
    return exp(clip(seen, SPEED_LIMIT));
}

void
fleet_speed_learn(const FleetAlloc *alloc, FleetSpeed *const *speeds, uint32_t nservers,
                  const FleetSpeedSample *samples, uint32_t n, double *tonight)
{
    Fit fit = {.alloc = alloc, .nservers = nservers};
    uint32_t ntasks = 0;

    for (uint32_t s = 0; s < nservers; s++)
        tonight[s] = fleet_speed_value(speeds[s]);
    if (n == 0)
        return;
    fit.servers = fleet_alloc_zero(alloc, nservers * sizeof(Observed));
    take_pieces(&fit, samples, n, &ntasks);
    sort_into_cells(&fit, samples, ntasks);
    fit_run(&fit);
    combine(&fit, speeds);
    center(&fit, speeds);
    for (uint32_t s = 0; s < nservers; s++)
        tonight[s] = speed_tonight(&fit, s, speeds[s]);
    fleet_alloc_free(alloc, fit.pieces, n * sizeof(Piece));
    fleet_alloc_free(alloc, fit.cells, fit.ncells * sizeof(Cell));
    fleet_alloc_free(alloc, fit.servers, nservers * sizeof(Observed));
}
