/*
 * link/resolver.h
 *     Entry point of the "pg_fleet resolver" background worker (resolve.c).
 */
#ifndef FLEET_LINK_RESOLVER_H
#define FLEET_LINK_RESOLVER_H

#include "compat.h"

extern PGDLLEXPORT void fleet_resolver_main(Datum arg);

#endif
