/*
 * api/alloc.h
 *     The core's allocator over palloc, for calls that end with their
 *     statement: everything is gone with the current memory context.
 */
#ifndef FLEET_API_ALLOC_H
#define FLEET_API_ALLOC_H

#include "core/core.h"

extern const FleetAlloc fleet_palloc;

#endif
