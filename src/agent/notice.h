/*
 * agent/notice.h
 *     Notices: job runs of which a parent is told that they have changed, and
 *     events.  In the agent's process.
 */
#ifndef FLEET_AGENT_NOTICE_H
#define FLEET_AGENT_NOTICE_H

#include "agent/state.h"

extern void agent_notice(const char *parent_uuid, int64 job_run_id);
/* An event, for whoever listens to fleet_event: a JSON object of some hundred bytes at most. */
extern void agent_notice_event(const char *json);
extern bool agent_notices_pending(void);
extern void agent_notices_send(void); /* inside the transaction; they go out with its commit */

#endif
