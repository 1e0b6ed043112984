/*
 * store/template.h
 *     Templates in the parameters of tasks: what they stand for is found by
 *     src/sql/43_context.sql.  In the agent's process.
 */
#ifndef FLEET_STORE_TEMPLATE_H
#define FLEET_STORE_TEMPLATE_H

#include "postgres.h"

/* A JSON object as text, palloc'd; raises if one of them stands for nothing.  Reads rows: those of what
 * came before must be written. */
extern char *fleet_params_resolve(int64 run_id, uint32 task, const char *params);

#endif
