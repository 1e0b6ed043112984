/*
 * link/agent_mode.h
 *     What the files of mode agent share, each calling only those below it:
 *     agent_mode.c (queues, login, loss), agent_report.c (what comes back),
 *     agent_send.c, agent_document.c, agent_child.c.
 */
#ifndef FLEET_LINK_AGENT_MODE_H
#define FLEET_LINK_AGENT_MODE_H

#include "link/internal.h"
#include "utils/hsearch.h"

typedef enum AgentTag
{
    TAG_HELLO = FLEET_TAG_OWN,
    TAG_LISTEN,
    TAG_START,
    TAG_RESUME,
    TAG_FETCH,
    TAG_CANCEL,
    TAG_ACKNOWLEDGE,
    TAG_DEPLOY,
    TAG_DOCUMENT,
    TAG_INSTALLED,    /* is the extension still there? */
    TAG_PREPARE_CALL, /* of the call that follows */
} AgentTag;

#define SYNC_OF_CALL 1 /* slot of a Sync: the oldest call is complete, and committed there */
#define SYNC_OF_PING 2

#define NO_ANSWER PG_INT64_MIN

/* A job run over there, by its token. */
typedef struct AgentChild
{
    FleetToken token; /* key */
    int64 id;         /* its number there, on this connection; 0: not known */
    int log_after;
    uint64 reported; /* in the answer to this fetch */
    bool resume_wanted, resume_sent;
    bool dirty; /* in the list of what must be fetched */
    dlist_node fetch_node;
} AgentChild;

typedef struct AgentId
{
    int64 id; /* key */
    AgentChild *child;
} AgentId;

/* What the link knows of a document of a job, by its hash. */
typedef enum AgentDocumentState
{
    DOCUMENT_QUEUED,  /* in agent->documents, or sent and not answered */
    DOCUMENT_THERE,   /* the server had it */
    DOCUMENT_REFUSED, /* it does not take it: "why", of what was waiting for it */
} AgentDocumentState;

typedef struct AgentDocument
{
    FleetToken hash; /* key */
    AgentDocumentState state;
    char *sqlstate, *message; /* REFUSED, in one allocation */
} AgentDocument;

typedef struct AgentStart
{
    dlist_node node;
    FleetToken token;
    bool by_hash;
    FleetToken hash;
    char *job, *params, *context; /* in the same allocation */
    /* the answer */
    int64 id;
    bool known; /* it was there before */
    bool defined;
    FleetToken definition; /* what it runs, if it is by name */
    char sqlstate[6];
    char *message;
} AgentStart;

/* A document, to be deployed or (DOCUMENT) only to be there. */
typedef struct AgentDeploy
{
    dlist_node node;
    uint64 ref;
    char action[16]; /* DEPLOY */
    FleetToken hash; /* DOCUMENT */
    char *document;
    /* why it is not sent */
    char sqlstate[6];
    char *message;
} AgentDeploy;

/* A call that was sent; answers come in the same order. */
typedef struct AgentCall
{
    dlist_node node;
    uint8 tag;
    int n;
    AgentStart **starts;
    FleetToken *tokens; /* RESUME, CANCEL, ACKNOWLEDGE */
    int64 *ids;         /* RESUME: answers; NO_ANSWER: none came */
    FleetToken *hashes; /* ... and what these run */
    AgentDeploy *deploy;
    bool failed;
    char sqlstate[6];
    char message[1024];
} AgentCall;

typedef struct AgentTokens
{
    FleetToken *tokens;
    int n, capacity;
} AgentTokens;

/* The report that is being put together from rows. */
typedef struct AgentReport
{
    MemoryContext context;
    bool open;
    int64 id;
    FleetRemoteReport report;
    FleetRemoteStep *steps;
    FleetRemoteLine *lines;
    int steps_capacity, lines_capacity;
} AgentReport;

typedef struct FleetAgentLink
{
    FleetConn conn; /* first */
    HTAB *children; /* AgentChild by token */
    HTAB *by_id;    /* AgentId */
    HTAB *unknown;  /* int64: told of, before the start was answered */
    dlist_head starts;
    dlist_head sent; /* AgentCall */
    dlist_head deploys;
    dlist_head documents;                       /* AgentDeploy: to be sent before the starts */
    HTAB *known;                                /* AgentDocument by hash */
    dlist_head refused_starts, refused_deploys; /* not sent: told at the end of the turn */
    dlist_head fetch;                           /* AgentChild */
    AgentTokens cancels, acknowledges, resumes;
    int starts_sent, resumes_sent, fetches_sent;
    uint64 fetches; /* sent so far */
    AgentReport report;
    FleetLinkIdentity identity;
    FleetTime cancel_again; /* a cancel was refused: when they are asked for again */
    FleetTime cancel_wait;  /* … and how long it waits the next time */
    FleetTime looked_at;    /* when all children were fetched, whether there was news or not */
    bool greeted;           /* agent_hello() was answered on this connection */
    uint32 prepared;        /* bit: the statement of this tag is known on this connection */
} FleetAgentLink;

#define AGENT_OF(c) ((FleetAgentLink *) (c))

/* agent_child.c */

/* NULL: not known, and not to be created. */
extern AgentChild *fleet_agent_child(FleetAgentLink *agent, const FleetToken *token, bool create);
extern AgentChild *fleet_agent_by_id(FleetAgentLink *agent, int64 id);
/* It must be fetched. */
extern void fleet_agent_dirty(FleetAgentLink *agent, AgentChild *child);
/* The number of a child over there is known now; it may have been told of before. */
extern void fleet_agent_known(FleetAgentLink *agent, AgentChild *child, int64 id);
extern void fleet_agent_child_forget(FleetAgentLink *agent, AgentChild *child);
/* Numbers of children are only good on the connection that gave them. */
extern void fleet_agent_forget_ids(FleetAgentLink *agent);

/* agent_document.c */

/* A start names it: it is sent first, unless the server is known to have it. */
extern void fleet_agent_document_need(FleetAgentLink *agent, const FleetToken *hash,
                                      const char *document);
/* NULL: nothing is known of it. */
extern AgentDocument *fleet_agent_document(FleetAgentLink *agent, const FleetToken *hash);
extern void fleet_agent_document_there(FleetAgentLink *agent, const FleetToken *hash);
extern void fleet_agent_document_refused(FleetAgentLink *agent, const FleetToken *hash,
                                         const char *sqlstate, const char *message);
/* The server says that it has it no longer. */
extern void fleet_agent_document_lacks(FleetAgentLink *agent, const FleetToken *hash);

/* agent_send.c */
extern void fleet_agent_gather(FleetConn *conn);
extern void fleet_agent_call_free(AgentCall *call);

/* agent_report.c */
extern void fleet_agent_result(FleetConn *conn, const FleetExpect *expect, PGresult *result);
extern void fleet_agent_call_done(FleetAgentLink *agent, AgentCall *call);
extern void fleet_agent_report_reset(FleetAgentLink *agent);

#endif
