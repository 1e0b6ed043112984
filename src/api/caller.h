/*
 * api/caller.h
 *     On whose behalf a function of schema fleet was called, for functions of
 *     fleet_catalog that are written in C.  In any session, below
 *     fleet_sql_api() (trampoline.c).
 */
#ifndef FLEET_API_CALLER_H
#define FLEET_API_CALLER_H

#include "postgres.h"

#include "fmgr.h"

/* The role; ERROR if the call did not come through schema fleet. */
extern Oid fleet_caller_or_error(void);

/* What fleet_catalog.may_use(), may_cancel() and sees() say of this owner. */
extern bool fleet_caller_may_use(Oid owner);
extern bool fleet_caller_may_cancel(Oid owner);
extern bool fleet_caller_sees(Oid owner);

/* Calls fleet_catalog.NAME, which has the argument types of the function that is being called, with
 * the same arguments and result area. */
extern Datum fleet_call_instead(FunctionCallInfo fcinfo, const char *name);

/* encoding.c: ERROR 22021 or 22P05 for text that UTF-8 cannot express. */
extern void fleet_check_arguments(FunctionCallInfo fcinfo);

#endif
