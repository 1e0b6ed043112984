/*
 * store/state_change.c
 *     The state columns (state_change.h).
 */
#include "postgres.h"

#include "store/state_change.h"

static const char *
name_of(FleetState state)
{
    const char *name = fleet_state_name(state);

    return name != NULL ? name : psprintf("%d", (int) state);
}

static void
refuse(FleetMachine machine, FleetState from, FleetState to)
{
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                    errmsg("invalid change of the state of a %s run from \"%s\" to \"%s\"",
                           fleet_machine_name(machine), name_of(from), name_of(to)),
                    errhint("fleet.state_transitions() lists the changes that are valid.")));
}

void
fleet_state_check(FleetMachine machine, FleetState from, FleetState to)
{
    if (!fleet_state_reaches(machine, from, to))
        refuse(machine, from, to);
}

void
fleet_state_insert(FleetRows *rows, int column, FleetMachine machine, FleetState state)
{
    fleet_state_check(machine, FLEET_QUEUED, state);
    fleet_rows_set(rows, column, Int16GetDatum((int16) state));
}

void
fleet_state_change(FleetRows *rows, int column, FleetMachine machine, FleetState old,
                   FleetState state)
{
    FleetState is = (FleetState) fleet_rows_int(rows, column, 0);

    if (is != old)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("a row of fleet_catalog.%s has the state \"%s\" instead of \"%s\"",
                               fleet_rows_name(rows), name_of(is), name_of(old)),
                        errhint("Another process may have written to fleet_catalog.")));
    fleet_state_check(machine, old, state);
    fleet_rows_set(rows, column, Int16GetDatum((int16) state));
}
