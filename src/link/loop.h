/*
 * link/loop.h
 *     The agent's one place to wait: its latch, every link's socket, the next
 *     timer.  In the agent's process.
 *
 * A wait event set cannot lose members, so a change of membership marks it
 * for rebuilding before the next wait; a change of what a socket waits for
 * only modifies it.
 */
#ifndef FLEET_LINK_LOOP_H
#define FLEET_LINK_LOOP_H

#include "postgres.h"
#include "core/core.h"

typedef struct FleetLoop FleetLoop;
typedef struct FleetLoopMember FleetLoopMember;

/* "events" are WL_SOCKET_READABLE / WL_SOCKET_WRITEABLE bits that have come */
typedef void (*FleetLoopCallback)(void *arg, uint32 events);

extern FleetLoop *fleet_loop_create(MemoryContext context);
/*
 * "prepare" is called once at the start of every fleet_loop_wait(): what was
 * put off to the end of the turn (sending, timers) is done there.  Returns
 * when it wants to be called next; a time in the past makes the wait only look.
 */
extern void fleet_loop_prepare(FleetLoop *loop, FleetTime (*prepare)(void *arg), void *arg);
extern MemoryContext fleet_loop_context(FleetLoop *loop);
extern FleetLoopMember *fleet_loop_add(FleetLoop *loop, pgsocket socket, uint32 events,
                                       FleetLoopCallback callback, void *arg);
extern void fleet_loop_modify(FleetLoopMember *member, uint32 events);
extern void fleet_loop_remove(FleetLoopMember *member); /* safe inside a callback */

/*
 * Waits until the latch is set, a socket is ready or "until" (fleet_clock_now()
 * time, FLEET_NEVER: no timeout; in the past: only look) and calls the
 * callbacks.  Resets the latch; true if it was set.  Does CHECK_FOR_INTERRUPTS.
 */
extern bool fleet_loop_wait(FleetLoop *loop, FleetTime until, uint32 wait_event);

#endif
