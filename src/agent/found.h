/*
 * agent/found.h
 *     What was found out about commands: which commit by themselves.  In the
 *     agent's process; called by the local jobs, and by flush.c.
 */
#ifndef FLEET_AGENT_FOUND_H
#define FLEET_AGENT_FOUND_H

#include "postgres.h"

extern void agent_found_load(void);

/* Is this command remembered to commit by itself on that server (0: here)?  Then it is not begun
 * in a transaction. */
extern bool agent_found_commits(int server_id, const char *command);
/* Its error said so; stored with the turn. */
extern void agent_found_add(int server_id, const char *command);

extern bool agent_found_pending(void);
extern void agent_found_flush(void); /* inside the transaction */

#endif
