/*
 * store/history.h
 *     What is over and kept no longer (src/sql/57_history.sql).  In the agent's
 *     process.
 */
#ifndef FLEET_STORE_HISTORY_H
#define FLEET_STORE_HISTORY_H

#include "postgres.h"

#define FLEET_HISTORY_OVER 8

/* How far a purge has come; all zero: it begins. */
typedef struct FleetPurge
{
    int stage; /* FLEET_HISTORY_OVER: it is over */
    int64 after;
    int64 upto; /* the last request that it answers */
    int64 rows; /* that went so far */
} FleetPurge;

/* Has somebody asked for one? */
extern bool fleet_history_asked(void);

/* The next slice: of about so many rows.  In the agent's transaction. */
extern void fleet_history_slice(FleetPurge *purge, int count);

#endif
