/*
 * core/commits.h
 *     Does a text end its transaction by itself?  As far as that can be read in
 *     it, without running it: a DO block or the body of a procedure with a
 *     COMMIT or ROLLBACK in it.
 *
 * Used before a step is begun (runner/look.c, link/direct_look.c), so that a
 * step which commits is not begun in a transaction of ours, whose error
 * would then have to be waited for, with what was done before it done twice.
 * What cannot be read here (EXECUTE 'CALL …') is found by that error, and
 * remembered: store/commits.h.
 */
#ifndef FLEET_CORE_COMMITS_H
#define FLEET_CORE_COMMITS_H

#include "core/core.h"

#define FLEET_NAME_MAX 64 /* bytes of a name with its end, as the server has them */

/* A procedure that a text calls.  schema is empty when none is written. */
typedef struct FleetCalled
{
    char schema[FLEET_NAME_MAX];
    char name[FLEET_NAME_MAX];
} FleetCalled;

#define FLEET_CALLED_MAX 32 /* names of one text; further ones are not looked at */

typedef struct FleetCommits
{
    bool commits; /* COMMIT or ROLLBACK stands in it as a command */
    int ncalled;
    FleetCalled called[FLEET_CALLED_MAX]; /* each once */
} FleetCommits;

/*
 * Reads a text of SQL commands, or the body of a procedure in PL/pgSQL: both
 * are read by the same rules, for a DO block within either is read too.  Also
 * knows spi_commit(), spi_rollback() of PL/Perl and plpy.commit(),
 * plpy.rollback() of PL/Python.  Any bytes are taken; what stands in comments,
 * quoted names and strings other than the text of a DO counts for nothing.
 *
 * Adds to *found, which the caller sets to zeros before the first text; false
 * when nothing was found that needs a further look (no COMMIT, no new name).
 */
extern bool fleet_commits_read(const char *text, size_t length, FleetCommits *found);

#endif
