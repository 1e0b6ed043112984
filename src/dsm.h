/*
 * dsm.h
 *     Dynamic shared memory that may not be to be had.  In all processes, inside
 *     or outside of a transaction.
 */
#ifndef FLEET_DSM_H
#define FLEET_DSM_H

#include "postgres.h"
#include "storage/dsm.h"

/* A segment whose mapping is pinned: it lives as long as the process, or until dsm_detach().  NULL:
 * there is none to be had now, as the server's log says once a minute. */
extern dsm_segment *fleet_dsm_create(Size size);

#endif
