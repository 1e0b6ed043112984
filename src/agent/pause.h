/*
 * agent/pause.h
 *     What is paused, as it was read last.  In the agent's process.
 */
#ifndef FLEET_AGENT_PAUSE_H
#define FLEET_AGENT_PAUSE_H

#include "agent/state.h"

extern void agent_pauses_read(void);
/* By the first of its groups that is paused: what is said of that; NULL: it is not. */
extern const char *agent_pause_of_server(const AgentServer *server);
/* By itself, by what it is a part of, by its package if it has not begun, or with everything. */
extern bool agent_pause_of_run(const AgentRun *run);
/* Of this package, or NULL: of everything. */
extern bool agent_pause_of_package(const char *package);

#endif
