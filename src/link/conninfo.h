/*
 * link/conninfo.h
 *     Connection strings as users write them.  In any session.
 */
#ifndef FLEET_LINK_CONNINFO_H
#define FLEET_LINK_CONNINFO_H

#include "postgres.h"

/*
 * Parses "keyword=value …" or a URI with libpq's own parser.  True: *keywords
 * and *values (palloc'd, NULL-terminated) have what the string sets, in
 * libpq's order, nothing from the environment.  False: it cannot be parsed.
 * libpq's own error text is not passed on, since it quotes parts of the
 * string, and these may be parts of a password.
 */
extern bool fleet_conninfo_parse(const char *conninfo, char ***keywords, char ***values);

#endif
