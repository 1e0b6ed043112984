/*
 * core/speed.h
 *     Relative speeds of servers, learned from the work that they did.
 *
 * What a piece of work took is its own length, times what its kind took longer
 * today, divided by the speed of its server, times noise.  Only servers that
 * did comparable work say something about each other, and only as far as the
 * noise of that work lets them.  What is known of a server is an estimate and
 * its *evidence* (1 / variance); the catalog holds both.
 */
#ifndef FLEET_CORE_SPEED_H
#define FLEET_CORE_SPEED_H

#include "core/core.h"

/* Work that is expected to be over sooner teaches no speed: starting it takes as long. */
#define FLEET_SPEED_FROM FLEET_MS(50)

typedef struct FleetSpeed
{
    double log_speed; /* relative; 0 = 1 */
    double evidence;  /* 1 / variance of log_speed; 0: nothing is known */
} FleetSpeed;

/* Of a long run so many pieces, taken in regular distances, say all that there is to say. */
#define FLEET_SPEED_PIECES 4096

/* A piece of work that succeeded on a server. */
typedef struct FleetSpeedSample
{
    uint32_t server;    /* index into "speeds" below */
    uint32_t task;      /* small number; pieces of one task are comparable */
    uint32_t pool;      /* small number; tasks of one pool may choose from the same servers */
    FleetTime expected; /* at speed 1, by earlier runs of this very piece; 0: not known */
    FleetTime actual;
} FleetSpeedSample;

extern void fleet_speed_init(FleetSpeed *speed);

/*
 * One run: what its pieces say is combined with what was known.  Which pieces
 * count does not depend on how long they took.  Servers that did no comparable
 * work keep their speeds; among those that did, the evidence of a run moves
 * some up as much as others down (weighed), so their common level stays.
 * tonight[server]: by which speed the lengths of these pieces are to be learned.
 */
extern void fleet_speed_learn(const FleetAlloc *alloc, FleetSpeed *const *speeds, uint32_t nservers,
                              const FleetSpeedSample *samples, uint32_t n, double *tonight);

/* > 0, 1/16 … 16; exactly 1 as long as noise explains the difference. */
extern double fleet_speed_value(const FleetSpeed *speed);

#endif
