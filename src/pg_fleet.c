/*
 * pg_fleet.c
 *     _PG_init, in order, and nothing else.
 */
#include "postgres.h"

#include "fmgr.h"
#include "guc.h"
#include "launcher/launcher.h"
#include "miscadmin.h"
#include "pg_fleet.h"

PG_MODULE_MAGIC;

extern void _PG_init(void);

void
_PG_init(void)
{
    fleet_guc_init();
    if (process_shared_preload_libraries_in_progress)
        fleet_launcher_register();
}
