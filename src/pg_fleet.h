/*
 * pg_fleet.h
 *     Identifiers shared by the processes.
 */
#ifndef PG_FLEET_H
#define PG_FLEET_H

#include "postgres.h"

#define FLEET_LIBRARY "pg_fleet"
#define FLEET_VERSION "0.2.0"

/* Heavyweight lock that makes the agent single: LOCKTAG_ADVISORY with a fourth field that
 * pg_advisory_lock() cannot produce (it uses 1 and 2). */
#define FLEET_LOCK_FIELD4 0x4650
/* … and that keeps a parent's requests and its hello apart (api/child.c). */
#define FLEET_LOCK_PARENT_FIELD4 0x4651

#endif
