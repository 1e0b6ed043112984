/*
 * settings.h
 *     The settings that processes of our own have, whatever a configuration,
 *     a database or a role says (settings.c).
 */
#ifndef FLEET_SETTINGS_H
#define FLEET_SETTINGS_H

#include "postgres.h"

/* A background worker's way into its database (InvalidOid: into none) as bootstrap superuser. */
extern void fleet_worker_connect(Oid database);
/* After ProcessConfigFile(). */
extern void fleet_settings_reloaded(void);

#endif
