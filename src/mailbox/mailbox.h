/*
 * mailbox/mailbox.h
 *     The piece of memory that the agent shares with sessions of its database:
 *     a ring of short messages (committed requests), and waiters.  A DSM
 *     segment made by the agent; its handle is in fleet_catalog.agent, so that
 *     nothing has to be preloaded.
 */
#ifndef FLEET_MAILBOX_MAILBOX_H
#define FLEET_MAILBOX_MAILBOX_H

#include "postgres.h"

#include "clock.h"

typedef enum FleetMessageKind
{
    FLEET_MESSAGE_RUN = 1,      /* a run was committed: id */
    FLEET_MESSAGE_JOB_RUN,      /* a job run was committed: id */
    FLEET_MESSAGE_CANCEL_RUN,   /* a cancel of this run was committed */
    FLEET_MESSAGE_CANCEL_JOB,   /* … of this job run */
    FLEET_MESSAGE_SERVERS,      /* servers, mappings, slots changed: read them again */
    FLEET_MESSAGE_DEPLOY,       /* deployments are queued */
    FLEET_MESSAGE_IDENTITY,     /* paused or resumed */
    FLEET_MESSAGE_QUARANTINE,   /* lifted for something */
    FLEET_MESSAGE_SKIP,         /* something of this run is to be left out */
    FLEET_MESSAGE_RETRY,        /* … to be started once more */
    FLEET_MESSAGE_PURGE,        /* history is to be purged now */
    FLEET_MESSAGE_PAUSE,        /* something was paused or resumed */
    FLEET_MESSAGE_RENAMED,      /* a package, task or job has another name */
    FLEET_MESSAGE_CANCEL_FINAL, /* a cancel of this run was committed, of its final tasks too */
    FLEET_MESSAGE_LIMITS,       /* so many runs of a package run at a time: changed */
    FLEET_MESSAGE_SCHEDULES,    /* schedules changed, or are to be looked at */
    FLEET_MESSAGE_HOOKS,        /* hooks changed */
    FLEET_MESSAGE_STAT_RESET,   /* counters are to begin anew */
} FleetMessageKind;

/* -- sessions (mailbox/session.c) -- */

/* Remembers a message; at COMMIT of the present transaction it is put into the agent's ring and
 * its latch is set; if there is no agent, one is started then.  Nothing happens at ROLLBACK. */
extern void fleet_wake_at_commit(FleetMessageKind kind, int64 id);

typedef struct FleetWait
{
    int64 run_id;
    long timeout_ms;          /* -1: none */
    bool wants_changes;       /* not only for its end, but also for a change of it, or of its log */
    bool sees_cancel;         /* cancels are held (HOLD_CANCEL_INTERRUPTS): the wait is over then */
    void (*rest)(void);       /* before each sleep; NULL: nothing is to be done then */
    bool timed_out, canceled; /* why it ended, if it is not for the run */
} FleetWait;

/* Waits until the run is final, or for what "wait" names.  Never polls: the agent sets the latch. */
extern void fleet_wait_run(FleetWait *wait);

/* What became of a login to a server. */
typedef struct FleetAnswer
{
    char sqlstate[6]; /* "": it takes the role */
    char message[512];
    bool in_use; /* its connection does something, so none was made */
} FleetAnswer;

/* Lets the agent log in to a server as this role, and waits for what comes of it (mailbox/ask.c).  ERROR:
 * there is no agent, and none comes. */
extern void fleet_ask_server(int server_id, Oid role, FleetAnswer *answer);

/* -- the agent (mailbox/agent.c) -- */

typedef struct FleetShared FleetShared;

typedef struct FleetMessage
{
    FleetMessageKind kind;
    int64 id;
} FleetMessage;

/* NULL: there is no shared memory to be had now. */
extern FleetShared *fleet_shared_create(uint32 *handle);
/* The agent is paused; to be said before its handle is committed. */
extern void fleet_shared_set_paused(FleetShared *shared);
/* The agent does not listen any more: who waits, or has something for an agent, must look for a new
 * one. */
extern void fleet_shared_leave(FleetShared *shared);
/* Next message; *overflow set once when messages were lost (read everything again). */
extern bool fleet_shared_take(FleetShared *shared, FleetMessage *message, bool *overflow);
/* Is there a session that waits with its query's snapshot held? */
extern bool fleet_shared_has_holders(const FleetShared *shared);
/* Such a session that process "pid" has been waiting for, for that long: its pid, and for which run
 * it waits; 0: none. */
extern int fleet_shared_blocker(FleetShared *shared, int pid, FleetTime at_least, int64 *run_id);
/* Next server that a session asks about, for which role. */
extern bool fleet_shared_ask_take(FleetShared *shared, int *server_id, Oid *role);
/* What was taken is to be taken once more. */
extern void fleet_shared_ask_again(FleetShared *shared, int server_id, Oid role);
/* To all who ask that. */
extern void fleet_shared_answer(FleetShared *shared, int server_id, Oid role,
                                const FleetAnswer *answer);
extern void fleet_answer_set(FleetAnswer *answer, const char *sqlstate, const char *message);
/* Wakes who waits for this run: final, or only to look at its log and progress. */
extern void fleet_shared_run_changed(FleetShared *shared, int64 run_id, bool final);

#endif
