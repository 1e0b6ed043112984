/*
 * agent/named.h
 *     Named limits: their rows go to the engine (core/engine/named.c), and the
 *     names in tasks become numbers.  In the agent's process.
 */
#ifndef FLEET_AGENT_NAMED_H
#define FLEET_AGENT_NAMED_H

#include "agent/state.h"

/* At the start, before any run is loaded, and when a session has changed some. */
extern void agent_named_read(void);
/* The limits of a task of a run of this owner. */
extern void agent_named_resolve(const FleetNames *names, Oid owner, FleetTaskSpec *spec);

#endif
