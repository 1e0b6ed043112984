/*
 * agent/hook.h
 *     Hooks: what is to be done when something has happened.  In the agent's process.
 */
#ifndef FLEET_AGENT_HOOK_H
#define FLEET_AGENT_HOOK_H

#include "agent/state.h"

/* They are read, for the first time or because some have changed. */
extern void agent_hooks_load(void);
/* Calls those for which something has happened; returns when to look again. */
extern FleetTime agent_hooks_turn(FleetTime now);
extern void agent_hook_event(void *hook, const FleetExecutorEvent *event);

#endif
