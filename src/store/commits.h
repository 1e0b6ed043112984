/*
 * store/commits.h
 *     Commands that were found out, by their error, to commit by themselves:
 *     fleet_catalog.commits_itself.  In the agent's process.
 */
#ifndef FLEET_STORE_COMMITS_H
#define FLEET_STORE_COMMITS_H

#include "postgres.h"

#define FLEET_COMMITS_KEPT 10000 /* the newest ones */

typedef struct FleetCommitsRow
{
    int64 server_id;     /* where; 0: here */
    uint64 command_hash; /* fleet_command_hash() */
} FleetCommitsRow;

StaticAssertDecl(sizeof(FleetCommitsRow) == 16, "it has no holes: it is compared as bytes");

extern uint64 fleet_command_hash(const char *command);
/* All of them; palloc'd in the current context.  Returns how many. */
extern int fleet_commits_read_rows(FleetCommitsRow **rows);
extern void fleet_commits_write(const FleetCommitsRow *row);
/* Removes the oldest ones beyond FLEET_COMMITS_KEPT: once, after those of a turn were written. */
extern void fleet_commits_tidy(void);

#endif
