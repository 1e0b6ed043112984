/*
 * store/nested.h
 *     Runs of packages that a package task or a package step starts.  In the
 *     agent's process.
 */
#ifndef FLEET_STORE_NESTED_H
#define FLEET_STORE_NESTED_H

#include "postgres.h"

#include "core/state.h"

/*
 * Inserts a nested run (state queued), for a package task or a package step,
 * if "owner" may run that package; returns its id, 0 with *why if not.  The
 * package is the one in the document "definition", or in that of its job.
 */
extern int64 fleet_run_insert_nested(const char *package, const char *definition, const char *job,
                                     Oid owner, const char *params, int32 priority,
                                     const char *run_uuid, int64 parent_run_id, uint32 parent_task,
                                     uint32 parent_item, int64 parent_job_run_id, char **why);

/* The same where the task's run is a restart, and the run that it restarts had a nested one here: 0 if
 * it had none that can be continued. */
extern int64 fleet_run_restart_nested(int64 parent_run_id, uint32 parent_task, uint32 parent_item,
                                      const char *run_uuid);

/* State of the run with this uuid, 0 if there is none; its message (palloc'd, or NULL), and whether it was
 * stopped because of its timeout. */
extern FleetState fleet_run_nested_state(const char *run_uuid, char **message, bool *timed_out);

#endif
