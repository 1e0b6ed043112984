/*
 * link/agent_internal.h
 *     What agent_mode.c (what is asked of another agent) and agent_report.c
 *     (what it reports) share.
 */
#ifndef FLEET_LINK_AGENT_INTERNAL_H
#define FLEET_LINK_AGENT_INTERNAL_H

#include "link/link_internal.h"
#include "utils/hsearch.h"

typedef struct AgentReport AgentReport;

typedef enum TokenResume
{
    RESUME_NONE,
    RESUME_QUEUED,
    RESUME_SENT,
} TokenResume;

/* A job run over there that we follow, from the answer to its start (or the wish to resume it) to
 * its acknowledgement. */
typedef struct AgentToken
{
    char token[40]; /* hash key */
    uint64 ref;
    int64 job_run_id; /* 0: not known on this connection */
    int log_after;    /* what we have of its log */
    bool final;       /* its last report was given */
    bool stale;       /* in the list of those to fetch */
    dlist_node stale_node;
    TokenResume resume;
    dlist_node resume_node; /* while RESUME_QUEUED */
} AgentToken;

typedef struct FleetAgentLink
{
    FleetConn conn; /* first */
    FleetServerLink *link;
    char channel[64];
    char epoch[32];
    dlist_head starts;  /* AgentStart: not sent */
    dlist_head deploys; /* AgentDeploy: not sent */
    dlist_head sent;    /* AgentBatch, in the order of their answers */
    HTAB *tokens;
    HTAB *by_id;        /* AgentToken by job_run_id */
    HTAB *early;        /* job_run_ids that were notified and are not known (yet) */
    dlist_head resumes; /* AgentToken */
    dlist_head stale;   /* AgentToken */
    int open;           /* tokens that are not final */
    bool fetching;
    StringInfoData cancels, acks; /* array literals without the closing brace */
    int ncancels, nacks;
    FleetTime ack_at;
    FleetTime look_at; /* when all open ones are fetched, notified or not */
    FleetLinkIdentity hello;
    bool greeted;
    AgentReport *report;
} FleetAgentLink;

/* agent_mode.c */
extern AgentToken *fleet_agent_token_by_id(FleetAgentLink *agent, int64 job_run_id);

/* agent_report.c */
extern AgentReport *fleet_agent_report_create(MemoryContext context);
extern void fleet_agent_report_reset(AgentReport *report);
/* One row of agent_fetch(). */
extern void fleet_agent_report_row(FleetAgentLink *agent, const PGresult *result);
/* All rows have come. */
extern void fleet_agent_report_end(FleetAgentLink *agent);
extern void fleet_agent_report_forget(AgentReport *report, const AgentToken *token);

/* Binary columns; what is not of that form counts as null. */
extern bool fleet_agent_int(const PGresult *result, int row, int column, int64 *value);

#endif
