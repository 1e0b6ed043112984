/*
 * agent/effect.h
 *     What follows from decisions: after the commit.  In the agent's process.
 */
#ifndef FLEET_AGENT_EFFECT_H
#define FLEET_AGENT_EFFECT_H

#include "agent/state.h"

extern void agent_effects(void);

#endif
