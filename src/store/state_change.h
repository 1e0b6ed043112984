/*
 * store/state_change.h
 *     The state columns of run, task_run, job_run and step_run: the only place
 *     that writes them through rows.h.  In the agent, and in sessions.
 *
 * A change is compare-and-set: the row must be in the state that the caller
 * believes it to be in, and core/state.h must allow the way from there to the
 * new one.  Otherwise it is an ERROR, which ends the agent; its successor reads
 * what the rows say.
 */
#ifndef FLEET_STORE_STATE_CHANGE_H
#define FLEET_STORE_STATE_CHANGE_H

#include "store/rows.h"
#include "core/state.h"

/* Of a row that fleet_rows_create() began.  Its machine starts in 'queued'; ERROR if "state" cannot
 * be reached from there. */
extern void fleet_state_insert(FleetRows *rows, int column, FleetMachine machine, FleetState state);

/* Of the row that was found, between fleet_rows_edit() and fleet_rows_update().  ERROR if it is not
 * in state "old", or if "old" does not lead to "state". */
extern void fleet_state_change(FleetRows *rows, int column, FleetMachine machine, FleetState old,
                               FleetState state);

/* ERROR if "from" does not lead to "to".  SQL that changes a state asks it, by
 * fleet_catalog.state_change(): that is disown_open(), while no agent writes. */
extern void fleet_state_check(FleetMachine machine, FleetState from, FleetState to);

#endif
