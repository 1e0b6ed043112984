/*
 * agent/quarantine.h
 *     Objects over which agents end: what happens to them.  In the agent's
 *     process.
 */
#ifndef FLEET_AGENT_QUARANTINE_H
#define FLEET_AGENT_QUARANTINE_H

#include "agent/base.h"
#include "hand.h"

/* Does the work; an ERROR that comes out of it is recorded with what the agent had in its hand
 * (hand.h), and goes on.  "aborted" is told of the abort before that, which releases locks. */
extern void agent_quarantine_guard(void (*work)(void), void (*aborted)(void));

/* At the agent's start: what its predecessors ended over. */
extern void agent_quarantine_load(void);

/* The same later: some of it has been lifted, or its time is over, which agent_quarantine_over() tells. */
extern void agent_quarantine_load_again(void);
extern bool agent_quarantine_over(FleetTime now);

/* A turn has been written. */
extern void agent_quarantine_written(FleetTime now);

/* Three agents have ended over it: it is not touched any more, and fails with *why (in the turn's
 * memory). */
extern bool agent_quarantined(FleetHandKind kind, int64 id, FleetDiagnostics *why);

/* Even to fail it ended an agent: it stays as it is. */
extern bool agent_quarantine_untouchable(FleetHandKind kind, int64 id);

#endif
