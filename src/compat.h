/*
 * compat.h
 *     Differences between PostgreSQL 15, 16, 17 and 18: every PG_VERSION_NUM
 *     test of the project is here.
 *
 * Macros, not functions: who uses one includes the server's header that it
 * needs, and nobody else has to.
 */
#ifndef FLEET_COMPAT_H
#define FLEET_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pg_fleet supports PostgreSQL 15 to 18"
#endif

/* Before a function's declaration.  18 has this word; the one it replaced, after it, is gone. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn _Noreturn
#endif

/* A wait event set for as long as its owner frees it: only up to 16 it is in a memory context. */
#if PG_VERSION_NUM >= 170000
#define fleet_wait_event_set_create(context, size) CreateWaitEventSet(NULL, size)
#else
#define fleet_wait_event_set_create(context, size) CreateWaitEventSet(context, size)
#endif

/* The temporary replication slots of this process, after an error; 17 can spare synced ones. */
#if PG_VERSION_NUM >= 170000
#define fleet_temporary_slots_drop() ReplicationSlotCleanup(false)
#else
#define fleet_temporary_slots_drop() ReplicationSlotCleanup()
#endif

/* A top-level portal from begin to end; 18 knows by itself that it runs once. */
#if PG_VERSION_NUM >= 180000
#define fleet_portal_run_once(portal, receiver, completion)                                        \
    ((void) PortalRun(portal, FETCH_ALL, true, receiver, receiver, completion))
#else
#define fleet_portal_run_once(portal, receiver, completion)                                        \
    ((void) PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, completion))
#endif

/*
 * May member act as role?  Since 16 a membership can be one without SET, which does not let its
 * member become the role (a CREATEROLE user gets such ones); is_member_of_role() is true for those.
 */
#if PG_VERSION_NUM >= 160000
#define fleet_may_become(member, role) member_can_set_role(member, role)
#else
#define fleet_may_become(member, role) is_member_of_role(member, role)
#endif

/* May member see what is role's?  Since 16 a membership can be one without INHERIT, which gives its member nothing. */
#if PG_VERSION_NUM >= 160000
#define fleet_may_see(member, role) has_privs_of_role(member, role)
#else
#define fleet_may_see(member, role) is_member_of_role(member, role)
#endif

/* For BEFORE UPDATE triggers of tables of ours: 16 wants to know of other tables in the query. */
#if PG_VERSION_NUM >= 160000
#define fleet_epq_init(epq, estate) EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL)
#else
#define fleet_epq_init(epq, estate) EvalPlanQualInit(epq, estate, NULL, NIL, -1)
#endif

/* A scan for EXPLAIN's sake is counted since 18. */
#if PG_VERSION_NUM >= 180000
#define fleet_index_beginscan(relation, index, snapshot, nkeys)                                    \
    index_beginscan(relation, index, snapshot, NULL, nkeys, 0)
#else
#define fleet_index_beginscan(relation, index, snapshot, nkeys)                                    \
    index_beginscan(relation, index, snapshot, nkeys, 0)
#endif

#endif
