/*
 * agent/recover.h
 *     Task runs that were under way when the agent before this one ended.  In the
 *     agent's process.
 */
#ifndef FLEET_AGENT_RECOVER_H
#define FLEET_AGENT_RECOVER_H

#include "agent/state.h"

extern void agent_runs_recovered(void); /* once, after all were loaded at start */

#endif
