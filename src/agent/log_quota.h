/*
 * agent/log_quota.h
 *     How much log a role may leave here in an hour.  In the agent's process.
 */
#ifndef FLEET_AGENT_LOG_QUOTA_H
#define FLEET_AGENT_LOG_QUOTA_H

#include "agent/state.h"

/* Counts a line of this role; false: its role has logged all that it may in this hour, and the line is
 * not to be kept. */
extern bool agent_log_quota_keeps(Oid role, const FleetDiagnostics *line);

#endif
