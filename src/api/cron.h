/*
 * api/cron.h
 *     Entry point of the worker that calls pg_cron in another database.
 */
#ifndef FLEET_API_CRON_H
#define FLEET_API_CRON_H

#include "postgres.h"

#include "compat.h"

pg_noreturn extern PGDLLEXPORT void fleet_cron_bridge_main(Datum arg);

#endif
