/*
 * compat.h
 *     Differences between PostgreSQL 15, 16, 17 and 18: every PG_VERSION_NUM
 *     test of the project is here.
 */
#ifndef FLEET_COMPAT_H
#define FLEET_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "pg_fleet supports PostgreSQL 15 to 18"
#endif

/* 16 hides symbols by default and marks exported ones; 15 exports everything. */
#ifndef PGDLLEXPORT
#define PGDLLEXPORT
#endif

/* 17 replaced BackendIdGetProc and friends; our code uses BackendPidGetProc, which all have. */

#endif
