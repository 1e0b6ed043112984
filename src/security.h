/*
 * security.h
 *     Who may connect where, and how: the allowlist of connection options,
 *     the rule about passwords, and whether a role may run things now.
 */
#ifndef FLEET_SECURITY_H
#define FLEET_SECURITY_H

#include "postgres.h"

/*
 * What a link needs, from the foreign server and the user mapping of "role"
 * (else PUBLIC's).  The foreign server is this one, and not another that has
 * its name now; "name" is told where it is gone.  Called by the agent inside its transaction.  False with
 * *sqlstate and *error (no secret in it) when it may not or cannot connect;
 * never throws for bad rows.  Everything is palloc'd in the current context.
 * *superuser: the link need not have used a password (a superuser's, or
 * password_required=false granted by a superuser).
 */
extern bool fleet_security_connection(Oid server, const char *name, Oid role,
                                      const char ***keywords, const char ***values, bool *superuser,
                                      const char **sqlstate, const char **error);

/*
 * Another number as soon as anything may have changed that fleet_security_connection() looks at:
 * servers, wrappers, user mappings, roles, memberships.  Inside a transaction.
 */
extern uint64 fleet_security_generation(void);

/* May this role act as that one?  Who is no superuser may not as one, member or not. */
extern bool fleet_security_may_act(Oid member, Oid role);

/* What belongs to a role that was dropped belongs to nobody. */
extern bool fleet_security_role_exists(Oid role);

/* May steps run as this role now?  It exists, may log in, is not expired, may connect here. */
extern bool fleet_security_role_may_run(Oid role, const char **sqlstate, const char **why);

#endif
