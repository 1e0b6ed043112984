/*
 * link/direct_mode.h
 *     What the files of mode direct share, each calling only those below it:
 *     direct_mode.c (sessions, requests), direct_result.c (what comes back),
 *     direct_look.c (what a command calls), direct_send.c.
 */
#ifndef FLEET_LINK_DIRECT_MODE_H
#define FLEET_LINK_DIRECT_MODE_H

#include "core/commits.h"
#include "link/internal.h"

typedef enum DirectTag
{
    TAG_DISCARD = FLEET_TAG_OWN,
    TAG_LOOK,
    TAG_BEGIN,
    TAG_PID,
    TAG_SET,
    TAG_PREPARE, /* of what follows */
    TAG_ENTER,   /* parameters and transaction id, before the command */
    TAG_COMMAND,
    TAG_XID,
    TAG_COMMIT,
    TAG_ROLLBACK, /* also RESET: nobody waits for its result */
    TAG_SWEEP,
} DirectTag;

typedef enum DirectPhase
{
    DIRECT_NONE,
    DIRECT_QUEUED, /* not sent: a cancel of the previous request is still under way, or no connection */
    DIRECT_LOOK,     /* [DISCARD ALL], what the command calls */
    DIRECT_PROLOGUE, /* DISCARD ALL, BEGIN, parameters */
    DIRECT_RUNNING,  /* the command was sent alone (simple protocol) */
    DIRECT_EPILOGUE, /* asks for the transaction id (simple protocol) */
    DIRECT_PREPARED, /* the agent has the id */
    DIRECT_COMMITTING,
} DirectPhase;

typedef struct DirectLook
{
    FleetCommits found;
    int asked; /* so many of its names */
    int rounds;
} DirectLook;

typedef struct DirectRequest
{
    DirectPhase phase;
    uint64 ref;
    bool transactional, pipelined, fresh;
    bool plain_query;  /* it takes a snapshot before anything of it runs */
    bool commits;      /* what it calls does: it is not begun in a transaction */
    bool again;        /* the command before it has deallocated our statement */
    bool began;        /* the agent was told */
    bool skipped;      /* an error before it in the same message: nothing of it was done */
    bool failed;       /* the fields below are set */
    bool by_command;   /* … and it was the command that failed */
    bool ended_itself; /* the command committed on its own */
    bool in_rows;      /* within the rows of one statement */
    bool has_output;
    bool copy_in;       /* … from it, which was refused */
    bool copy;          /* the command wanted to copy from or to the client */
    bool cancel_wanted; /* to be sent */
    bool cancel_asked;  /* by the agent: sent again until the request is over */
    bool given_back;    /* its COMMIT is on its way, and the session is another unit's */
    bool handed;        /* the command was given to libpq … */
    uint64 handed_at;   /* … when so many flushes had been */
    uint64 xid;
    int64 row_count;
    int lines;
    int64 dropped;
    DirectLook *look; /* while that is not known */
    char sqlstate[6];
    StringInfoData command, params;
    StringInfoData of; /* fleet.context */
    StringInfoData message, detail, hint, context, output;
} DirectRequest;

typedef struct DirectSession
{
    FleetConn conn; /* first */
    FleetExecutor executor;
    FleetSelf self;
    DirectRequest requests[2];
    int current; /* the one that runs; -1: none */
    int last_slot;
    int committing;         /* the one before it, whose COMMIT is on its way; -1: none */
    bool cancel_sent;       /* an answer is to come; nothing new is sent before it */
    FleetTime cancel_again; /* when to send it again; FLEET_NEVER: not */
    bool prepared;          /* ENTER is, which lasts until DISCARD ALL */
    bool discard_owed;      /* a request that was to begin with it ended before it was sent */
    bool sweep_asked;
    int probe_strikes;
    FleetTime vouched_at, probe_at;
    bool probing;
} DirectSession;

#define SESSION_OF(c) ((DirectSession *) (c))
#define SESSION_OF_EXECUTOR(e) ((DirectSession *) ((char *) (e) -offsetof(DirectSession, executor)))

#define PROBE_AFTER FLEET_SECONDS(5) /* a command that runs for so long is asked after */

/* direct_look.c */
/* Does the request's command, or what it calls, commit?  Sets request->commits, or ->look. */
extern void fleet_direct_look_begin(DirectSession *session, DirectRequest *request);
extern void fleet_direct_send_look(DirectSession *session, int slot);
/* What is to be sent first: that, or the prologue. */
extern void fleet_direct_begin(DirectSession *session, int slot);
extern void fleet_direct_look_result(DirectRequest *request, const PGresult *result);
/* After the answer: false when it is known, and ->commits set; true: send the next one. */
extern bool fleet_direct_look_goes_on(DirectSession *session, DirectRequest *request);
extern void fleet_direct_look_forget(DirectRequest *request);

/* direct_send.c */
extern void fleet_direct_send(DirectSession *session, int slot);
extern void fleet_direct_rollback(DirectSession *session);
extern void fleet_direct_reset_params(DirectSession *session);
extern void fleet_direct_send_command(DirectSession *session, int slot);
extern void fleet_direct_send_xid(DirectSession *session, int slot);
extern void fleet_direct_waiting(DirectSession *session);
/* Sends the cancel that is wanted, if the command has begun and none is on its way. */
extern void fleet_direct_try_cancel(DirectSession *session);

/* direct_result.c */
extern void fleet_direct_result(FleetConn *conn, const FleetExpect *expect, PGresult *result);
extern bool fleet_direct_copy(FleetConn *conn, const FleetExpect *expect, ExecStatusType status);
extern void fleet_direct_done(FleetConn *conn, FleetExpect expect);
extern bool fleet_direct_notice(FleetConn *conn, const FleetExpect *head,
                                const FleetNotice *notice);
extern bool fleet_direct_wants_notice(FleetConn *conn);
extern void fleet_direct_emit(DirectSession *session, int slot, FleetExecutorEventKind kind);
extern void fleet_direct_emit_cut(DirectSession *session, int slot, const char *sqlstate,
                                  const char *reason);
extern void fleet_direct_set_error(DirectRequest *request, const char *sqlstate,
                                   const char *message);

#endif
