/*
 * link/link.h
 *     Links: the agent's libpq connections to servers.  Everything that
 *     includes libpq-fe.h is behind this header.  In the agent's process;
 *     nothing here blocks, nothing throws for what the other side did.
 *
 * A *server link* (FleetServerLink) is one server as one local role sees it
 * (foreign server + that role's user mapping).  For mode agent it keeps one
 * connection; for mode direct it hands out sessions, one a slot, which are
 * FleetExecutors (executor.h).  Connections are opened when first needed,
 * kept, and re-opened with exponential backoff (0.1 s … 30 s, jitter) while
 * they are needed.
 */
#ifndef FLEET_LINK_LINK_H
#define FLEET_LINK_LINK_H

#include "postgres.h"
#include "executor.h"
#include "link/loop.h"

typedef struct FleetServerLink FleetServerLink;

/* How a link is used: what is in mode agent, or mode direct, below. */
typedef struct FleetModeMethods FleetModeMethods;
extern const FleetModeMethods fleet_mode_agent;
extern const FleetModeMethods fleet_mode_direct;

typedef struct FleetLinkIdentity
{
    int version_num; /* server_version_num */
    char version[64];
    bool identifier_known; /* false: not readable there */
    uint64 system_identifier;
    uint32 timeline;     /* 0: not readable */
    char crash_mark[64]; /* changes when the server recovers from a crash; "": not readable */
    char instance[40];   /* mode agent: uuid of the fleet extension's own database identity */
} FleetLinkIdentity;

/* What the link needs to know of the parent (sent on every link). */
typedef struct FleetParentIdentity
{
    char uuid[37];
    uint64 epoch;
    char name[64]; /* for people: cluster_name or database name */
} FleetParentIdentity;

/*
 * Describes the connection.  Strings are copied.  keywords/values: from the
 * foreign server and the user mapping, already checked by security.c
 * (allowlist); conn.c adds the defaults that are not set: connect_timeout 10,
 * keepalives_idle 5, keepalives_interval 2, keepalives_count 2,
 * tcp_user_timeout 10000, gssencmode disable, application_name, client_encoding,
 * fallback_application_name.
 */
typedef struct FleetLinkSpec
{
    int server_id;
    const char *server_name;
    Oid role;       /* local role on whose behalf */
    bool superuser; /* false: PQconnectionUsedPassword and a password in the mapping are required */
    const FleetModeMethods *mode; /* one of the two */
    int slots;                    /* direct: at most so many sessions */
    const char *const *keywords;
    const char *const *values; /* both NULL-terminated */
} FleetLinkSpec;

/* A job run on another agent, as its parent names it, or the hash of a document: a uuid. */
typedef struct FleetToken
{
    uint8 bytes[16];
} FleetToken;

typedef enum FleetStartResult
{
    FLEET_STARTED, /* it is there, durably (new or had it already: no difference) */
    FLEET_NOT_STARTED, /* could not be sent or was refused before anything was written; sqlstate/message say why */
    FLEET_START_LACKS,   /* it lacks the document after all, and did nothing: to be started again */
    FLEET_START_UNCLEAR, /* sent, connection lost: ask with fleet_link_resume() */
} FleetStartResult;

typedef struct FleetRemoteReport FleetRemoteReport;

/*
 * What the agent hears of its links; all from fleet_loop_wait(), never from
 * inside a function of this header.  Strings are valid during the call only.
 */
typedef struct FleetLinkCallbacks
{
    /* First successful login, or after it was down.  identity has what was learned. */
    void (*up)(FleetServerLink *link, const FleetLinkIdentity *identity);
    /* A connection could not be made or was lost; it will be tried again while it is needed.
     * "reason" contains no password.  permanent: bad password, no such extension, protocol does
     * not fit, refused epoch: trying again is pointless until something changes (still retried,
     * slowly). */
    void (*down)(FleetServerLink *link, const char *sqlstate, const char *reason, bool permanent);

    /* The server is there, but what it was asked for had no effect yet; it is asked again.  "reason"
     * contains no password. */
    void (*trouble)(FleetServerLink *link, const char *what, const char *reason);

    /* mode agent */

    /* A cancel was refused, a while ago: all that still apply are to be asked for again. */
    void (*cancel_again)(FleetServerLink *link);
    /* Answers fleet_link_start().  definition: STARTED by name, the hash of what the server runs (NULL:
     * it is not said); sqlstate and message: NOT_STARTED only. */
    void (*started)(FleetServerLink *link, const FleetToken *token, FleetStartResult result,
                    const FleetToken *definition, const char *sqlstate, const char *message);
    /* Answers fleet_link_resume().  definition: of what is known, or NULL. */
    void (*resumed)(FleetServerLink *link, const FleetToken *token, bool known,
                    const FleetToken *definition);
    /* The child notified, and the link fetched. */
    void (*reported)(FleetServerLink *link, const FleetRemoteReport *report);
    /* Answers fleet_link_deploy().  sqlstate and message: NULL if ok. */
    void (*deployed)(FleetServerLink *link, uint64 ref, bool ok, const char *sqlstate,
                     const char *message);

    /* mode direct */

    /* A session is idle, after fleet_link_session() had none. */
    void (*session)(FleetServerLink *link);
    /* Nothing of ours is left, after fleet_link_clean() was false. */
    void (*clean)(FleetServerLink *link);
    /* Answers fleet_link_resolve(). */
    void (*resolved)(FleetServerLink *link, uint64 ref, FleetXactStatus status);
    FleetExecutorSink sessions; /* events of the sessions */
} FleetLinkCallbacks;

/* Before the first link.  The table is copied. */
extern void fleet_link_init(const FleetLinkCallbacks *callbacks);

extern FleetServerLink *fleet_link_create(FleetLoop *loop, const FleetParentIdentity *parent,
                                          const FleetLinkSpec *spec, void *owner);
extern void
fleet_link_close(FleetServerLink *link); /* everything in flight gets CUT / not called */
/* The connections are to be made like this from now on (of the same mode).  What would be made
 * otherwise is made anew; a session that runs something is closed once that has ended. */
extern void fleet_link_change(FleetServerLink *link, const FleetLinkSpec *spec);
/* As long as there is a reason ("why"), nothing connects there: who wants to is told so, as if the
 * server did not answer.  For a link that has not connected yet.  NULL: no longer. */
extern void fleet_link_hold(FleetServerLink *link, const char *why);
/* It may not be used (any more): its connections are closed, and as long as there is a reason no
 * other is made; who wants one is told so, as if the server refused it.  NULL: no longer. */
extern void fleet_link_forbid(FleetServerLink *link, const char *sqlstate, const char *why);
extern void *fleet_link_owner(FleetServerLink *link);
extern const FleetLinkIdentity *
fleet_link_identity(const FleetServerLink *link); /* NULL: never up */

/* Timers of all links: call every turn; returns the next time it must be called. */
extern FleetTime fleet_link_timers(FleetTime now);

/* Connects, if it is not up: the callbacks up or down tell how that went, and it is tried on. */
extern void fleet_link_knock(FleetServerLink *link);
/* … at once, however long it would have waited after its last attempt. */
extern void fleet_link_knock_now(FleetServerLink *link);

/* ---- mode agent ---- */

typedef struct FleetRemoteStart
{
    FleetToken token;
    const char *job;
    const char *params;  /* JSON object */
    const char *context; /* JSON object */
    bool by_hash;        /* this version of the job: */
    FleetToken hash;
    const char
        *document; /* of that hash; sent before the start if the server is not known to have it */
} FleetRemoteStart;

/*
 * Starts jobs there, pipelined, many in one message.  Queued while the link is
 * not up (the agent decides how long to wait: fleet_link_withdraw()).
 */
extern void fleet_link_start(FleetServerLink *link, const FleetRemoteStart *starts, int n);
/* Takes back starts that have surely not been sent yet; returns false if it may have been sent. */
extern bool fleet_link_withdraw(FleetServerLink *link, const FleetToken *token);
extern void fleet_link_cancel(FleetServerLink *link, const FleetToken *tokens, int n);
/* After a reconnect: what does it know of these tokens?  Subscribes to them too. */
extern void fleet_link_resume(FleetServerLink *link, const FleetToken *tokens, const int *log_after,
                              int n);
/* The parent has everything of these, durably. */
extern void fleet_link_acknowledge(FleetServerLink *link, const FleetToken *tokens, int n);
/* Deploys a job document, or removes what it names (fleet_link.agent_deploy()). */
extern void fleet_link_deploy(FleetServerLink *link, uint64 ref, const char *document,
                              const char *action);

/* A report about one token: its job run as it is now, its new step runs and log lines. */
typedef struct FleetRemoteStep
{
    int step_no, attempt, state, first_seq, last_seq; /* last_seq 0: still running */
    int64 row_count;                                  /* -1: none */
    const char *step, *output;
    FleetDiagnostics diag;
    int64 started_at, finished_at; /* TimestampTz; 0: null */
} FleetRemoteStep;

typedef struct FleetRemoteLine
{
    int step_no, seq;
    int64 logged_at;
    FleetDiagnostics diag;
} FleetRemoteLine;

struct FleetRemoteReport
{
    FleetToken token;
    int state;   /* FleetState */
    int log_seq; /* highest seq known there */
    int64 row_count;
    FleetDiagnostics diag;
    const char *output;
    int64 started_at, finished_at;
    const FleetRemoteStep *steps;
    int nsteps;
    const FleetRemoteLine *lines;
    int nlines;
};

/* ---- mode direct ---- */

/*
 * An idle, connected session, marked busy for the caller (executor->owner is
 * the caller's to set), or NULL: none is idle; if there are fewer than "slots"
 * another one is being opened, and the callback "session" tells when one is there.
 */
extern FleetExecutor *fleet_link_session(FleetServerLink *link);
/* Who the server was when that session was opened: another one may be known by now. */
extern const FleetLinkIdentity *fleet_link_session_identity(FleetExecutor *session);
extern void fleet_link_session_done(FleetExecutor *session); /* give it back */

/*
 * False: on that server may still run what this agent had sent over a session
 * that was cut, or what its predecessors had sent.  Those sessions are being
 * ended then, and the callback "clean" tells when none is left.
 */
extern bool fleet_link_clean(FleetServerLink *link);

/*
 * Asks what became of a transaction of a session that was cut.  Refused as
 * UNKNOWN when the identity differs from "then".  If it is still in progress
 * the session with that backend pid is terminated there, and the question is
 * repeated by the link until it is decided; a server that refuses to answer is
 * asked until the time give_up_at, and then it is UNKNOWN.  Answer: the
 * callback "resolved".
 */
extern void fleet_link_resolve(FleetServerLink *link, uint64 ref, uint64 xid, int backend_pid,
                               const FleetLinkIdentity *then, FleetTime give_up_at);

/* ---- text.c ---- */

/* A text of our database in UTF-8, in the current context; itself where it cannot be converted. */
extern const char *fleet_text_utf8(const char *s);

/* The text of 16 bytes, in 37. */
extern void fleet_text_from_uuid(const uint8 *uuid, char *s);
/* The reverse; false: it is not the text of a uuid. */
extern bool fleet_text_uuid(const char *s, uint8 *uuid);

#endif
