/*
 * core/placement/placement.h
 *     The placer: servers with slots, queues of ready work, and the rule that
 *     brings them together.  The engine (core/engine/engine.h) and the planner (core/plan/plan.h)
 *     use it; it knows nothing of packages.
 *
 * A *target* is a set of servers (one pinned server, or a group) from which a
 * piece of work may choose.  A *ticket* is one piece of ready work; its
 * number is chosen by the caller (dense, small numbers: an array is indexed
 * by it).
 *
 * Policies (one a ticket, from its task):
 *   shortest_finish  longest remaining critical path first, then longest
 *                    first; on the server where it is estimated to end first,
 *                    given that server's relative speed and what is running
 *                    there.  If that server is busy but would still end it
 *                    earlier than any free one, the ticket is held back and
 *                    the free slot is offered to the next ticket that does
 *                    not lose by it.  (List scheduling after Graham 1966/69;
 *                    earliest-finish-time rule after Topcuoglu et al., HEFT,
 *                    2002.)
 *                    A ticket is not held back while it would be through on
 *                    the slower server before all the work that waits could
 *                    be: nothing is gained by it then.  Order is exact to 3 %
 *                    of the length; servers within 4 % count as equally fast,
 *                    the less busy one is taken.
 *   round_robin      next server of the target in turn, that has a free slot
 *                    (the one whose last turn is longest ago)
 *   least_loaded     most free slots in proportion to its slots
 *   weighted         smooth weighted round robin by weight
 *                    (these three: first come, first served)
 *
 * Starvation is impossible, whatever arrives and with whatever priority.
 * Tickets belong to flows: runs, if the caller says so, or else the tickets
 * that became ready between two calls of fleet_placer_next().  Let P be FLEET_PLACER_PATIENCE plus
 * FLEET_PLACER_ROUNDS times the slots of the target, and F the number of flows
 * that wait on it: when P starts were made on the servers of a target since the
 * oldest waiting ticket of a flow there became the oldest, that ticket is
 * *due*; at least every FLEET_PLACER_SHARE-th start of the target goes to the
 * due tickets, the one of the longest waiting flow first.  So a ticket with n
 * older ones of its flow before it is passed over at most
 * (n + 1) * (P + FLEET_PLACER_SHARE * F) times, a new flow's first one at most
 * P + FLEET_PLACER_SHARE * F times even if a million older ones wait, and a
 * held-back ticket is released by the same rule.  (Where servers belong to
 * several targets, F counts the flows of all of them.)
 */
#ifndef FLEET_CORE_PLACEMENT_PLACEMENT_H
#define FLEET_CORE_PLACEMENT_PLACEMENT_H

#include "core/core.h"
#include "core/graph.h"

typedef enum FleetServerState
{
    FLEET_SERVER_ONLINE,
    FLEET_SERVER_DRAINING, /* runs what it has, gets nothing new */
    FLEET_SERVER_OFFLINE,  /* the administrator took it away */
    FLEET_SERVER_SUSPECT,  /* does not answer at the moment */
} FleetServerState;

typedef struct FleetServerSpec
{
    FleetServerState state;
    uint32_t slots; /* 0 allowed: gets nothing */
    double weight;  /* > 0; FLEET_WEIGHTED only */
    double speed;   /* relative, > 0; 2 means twice as fast; 1 if not learned */
} FleetServerSpec;

typedef struct FleetPlacer FleetPlacer;

#define FLEET_NO_SERVER UINT32_MAX

extern FleetPlacer *fleet_placer_create(const FleetAlloc *alloc);
extern void fleet_placer_free(FleetPlacer *placer);

/* Servers are numbered densely from 0 by the caller; set again to change anything.  Busy slots
 * stay busy when the number of slots shrinks below them; nothing new starts until they fit. */
extern void fleet_placer_server(FleetPlacer *placer, uint32_t server, const FleetServerSpec *spec);
extern const FleetServerSpec *fleet_placer_server_spec(const FleetPlacer *placer, uint32_t server);
extern uint32_t fleet_placer_busy(const FleetPlacer *placer, uint32_t server);

/* Defines or redefines a target as this set of servers (order is the round-robin order). */
extern void fleet_placer_target(FleetPlacer *placer, uint32_t target, const uint32_t *servers,
                                uint32_t nservers);
/* Number of servers of the target that are online or suspect (0: work for it can never be placed now). */
extern uint32_t fleet_placer_target_usable(const FleetPlacer *placer, uint32_t target);

typedef struct FleetTicket
{
    uint32_t target;
    FleetPolicy policy;
    FleetTime duration; /* estimate at speed 1; 0: unknown */
    FleetTime tail;     /* critical path behind it (after its own end) */
    uint32_t avoid;     /* a server not to be used while another member is online and has slots
                           (even if busy now), or FLEET_NO_SERVER */
    int32_t priority;   /* higher first, before everything but due tickets; 0 normal */
} FleetTicket;

#define FLEET_PLACER_PATIENCE 64
#define FLEET_PLACER_ROUNDS 8
#define FLEET_PLACER_SHARE 4

extern void fleet_placer_ready(FleetPlacer *placer, uint32_t ticket, const FleetTicket *spec,
                               FleetTime now);
/* The same with the flow that it belongs to (below 2^31; a run's handle, say): fairness is between
 * flows, see above. */
extern void fleet_placer_ready_for(FleetPlacer *placer, uint32_t ticket, const FleetTicket *spec,
                                   uint32_t flow, FleetTime now);
/* Takes a waiting ticket out again (canceled).  O(log n). */
extern void fleet_placer_withdraw(FleetPlacer *placer, uint32_t ticket);

/*
 * The next ticket to start and where; its slot is taken.  False when nothing
 * more can be placed now.  Call until false after any change.  O(log n)
 * amortised in tickets; not proportional to the number of servers.
 */
extern bool fleet_placer_next(FleetPlacer *placer, FleetTime now, uint32_t *ticket,
                              uint32_t *server);

/* Takes a slot for work that was already there (recovery of durable state). */
extern void fleet_placer_occupy(FleetPlacer *placer, uint32_t ticket, const FleetTicket *spec,
                                uint32_t server, FleetTime started);

/* The ticket's slot is free again (it ended, or surely never started). */
extern void fleet_placer_release(FleetPlacer *placer, uint32_t ticket);

/* Recommended: when should fleet_placer_next() be asked again though nothing happened
 * (a held-back ticket whose better server overran its estimate)?  FLEET_NEVER if not needed. */
extern FleetTime fleet_placer_wakeup(const FleetPlacer *placer);

extern size_t fleet_placer_memory(const FleetPlacer *placer); /* bytes allocated */

#endif
