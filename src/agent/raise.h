/*
 * agent/raise.h
 *     Events: rows of fleet.event, lines of the server's log, and what goes out
 *     with NOTIFY fleet_event.  In the agent's process.
 */
#ifndef FLEET_AGENT_RAISE_H
#define FLEET_AGENT_RAISE_H

#include "agent/state.h"
#include "core/raised.h"

/* Texts are copied.  All of them become rows in the transaction of this turn, or of the next one. */

/* Of a run; nothing if it is a part of another one, whose events say enough. */
extern void agent_raise_run(const AgentRun *run, FleetRaised kind, const char *message);
/* Its row gets this state, after another one. */
extern void agent_raise_run_state(const AgentRun *run, FleetState was, FleetState is);
/* One that was never more than a row, and has failed. */
extern void agent_raise_run_unread(const FleetRunRow *row, const FleetDiagnostics *why);
/* A task run has come into this state.  For every child: see core/raised.h. */
extern void agent_raise_task_kind(const AgentRun *run, FleetTaskRef ref, FleetRaised kind,
                                  int server_id, const FleetDiagnostics *why);
static inline void
agent_raise_task(const AgentRun *run, FleetTaskRef ref, FleetState state, int server_id,
                 const FleetDiagnostics *why)
{
    FleetRaised kind = fleet_raised_of_task(state);

    if (unlikely(kind != FLEET_RAISED_NOTHING))
        agent_raise_task_kind(run, ref, kind, server_id, why);
}

extern void agent_raise_server(int server_id, FleetRaised kind, const char *sqlstate,
                               const char *message);
/* owner: who may see it; InvalidOid: everybody */
extern void agent_raise(FleetRaised kind, Oid owner, const char *package, const char *sqlstate,
                        const char *message);

/* Of these kinds (a bit each) somebody wants to know: a turn follows when one of them is stored. */
extern void agent_raised_watch(uint32 kinds);
/* The last one that is stored of these kinds; 0: this agent has stored none. */
extern int64 agent_raised_last(uint32 kinds);
#define FLEET_RAISED_ANY ((uint32) -1)

extern bool agent_raised_pending(void);
extern void agent_raised_flush(void);     /* inside the transaction, behind the rows of the turn */
extern void agent_raised_committed(void); /* after its commit */

#endif
