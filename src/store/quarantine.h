/*
 * store/quarantine.h
 *     Objects over which agents have ended by an ERROR.  In the agent's
 *     process.
 */
#ifndef FLEET_STORE_QUARANTINE_H
#define FLEET_STORE_QUARANTINE_H

#include "postgres.h"

#include "diagnostics.h"
#include "hand.h"
#include "utils/timestamp.h"

typedef struct FleetQuarantineRow
{
    FleetHandKind kind;
    int64 id;
    int ends; /* agents, one after the other; 0: it has started one of the others */
    TimestampTz last_at;
    FleetDiagnostics diag;
} FleetQuarantineRow;

/* Another one, over this object; counted anew if the last one was long ago.  Returns how many there were. */
extern int fleet_quarantine_add(const FleetHand *hand, const FleetDiagnostics *diag);
/* The objects that count; rows that do no longer, and those that were lifted, are removed. */
extern int fleet_quarantine_read(FleetQuarantineRow **rows);

#endif
