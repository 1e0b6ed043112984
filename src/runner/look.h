/*
 * runner/look.h
 *     Looks at what a step is about to call.  In the runner's process.
 */
#ifndef FLEET_RUNNER_LOOK_H
#define FLEET_RUNNER_LOOK_H

#include "postgres.h"
#include "nodes/pg_list.h"

/*
 * Do these statements (RawStmt) commit by themselves: a DO block, or a
 * procedure, with COMMIT or ROLLBACK in it or in a procedure that it calls?
 * Needs a transaction; takes no snapshot that SET TRANSACTION would mind.
 */
extern bool runner_commits_itself(List *statements, const char *command);

#endif
