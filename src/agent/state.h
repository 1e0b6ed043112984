/*
 * agent/state.h
 *     The agent's own types, for the files of this folder and no others.
 *     Read this first: what the agent is made of, and who owns what.
 *
 * The agent is one process a database.  It executes the runs of that database:
 * it asks the core what is to happen, makes that durable, and carries it out.
 *
 * Concepts
 *
 *   Run (AgentRun): one execution of a package.  It belongs to a session that
 *   asked for it, or to the task or step that runs the package (a nested run).
 *
 *   Task run (AgentTask): one execution of a task, or of an item of a for_each,
 *   from its first start to its end, all attempts included.  What was never
 *   started has only its row and a few bytes in the engine.  An attempt has a
 *   token, a uuid that follows from run, task, item and attempt, and from a secret
 *   of this parent: by it another agent recognizes a start that comes twice, and
 *   nobody else has it before.
 *
 *   Engine (core/engine): which task starts when and where.  It is told what
 *   happened, and answers with decisions.  It knows servers by numbers: 0 is
 *   this server, 1 is "nowhere", for work whose server does not exist.
 *
 *   Server (AgentServer): a row of the catalog, with its slots, groups, speed.
 *   A target is what a task names, a server or a group, as a number: of a group,
 *   the servers that the run may use.
 *
 *   Link (AgentLink): a server as one role sees it.  Over it go starts and
 *   reports (mode agent), or sessions that execute steps (mode direct).  A
 *   retired link, of a server whose mode has changed, finishes what it has, and
 *   gets nothing new.  Its ground is what allows it: USAGE on the server, the
 *   user mapping, a password in it.  Without ground it is forbidden: closed,
 *   until it has ground again or what hangs on it is lost.
 *
 *   Local job (LocalJob): a job whose steps this agent executes, through a
 *   runner or a direct session: an sql task, a job task on a direct server, or
 *   a job run.  A job run is what start_job or another agent, the parent, asked
 *   for.
 *
 *   Remote task run: an AgentTask of kind job on a server of mode agent.  What
 *   executes it there is a job run of that server's agent.
 *
 *   Query: a for_each or a condition, executed in a runner.
 *
 *   Schedule: when packages and jobs start by themselves.  Firing it is work of
 *   its owner, in a runner.
 *
 *   Request: a number given out with each thing that is asked of an executor or
 *   a link; its answer carries it back, and finds its owner or none.
 *
 *   Notice: job runs of which a parent is told that they have changed.
 *
 * A turn of the loop (main.c)
 *
 *   1. inbox: what sessions committed is loaded.
 *   2. events of links and runners, and timers, go into the machines of the
 *      core, and change structs.
 *   3. decide: the engine's decisions change structs, and put rows into the
 *      batch of store/run_write.c.
 *   4. flush: what is dirty becomes rows; one transaction; its commit.
 *   5. effect: what needed the commit is carried out: starts, cancels, COMMITs
 *      go out.  Nothing is sent that is not durable (intent before effect).
 *   6. retire: what has ended is freed.
 *
 * Dirty: its row is to be written in this turn.  Lazy: it may wait for a moment
 * (AGENT_LAZY), since the next change is likely to follow at once.  Over,
 * ended, finished: final, and freed after the commit of its last row.
 *
 * Who owns what: no other file writes a struct's fields, but asks the owner to
 * (agent_run_…, agent_task_…).  test/lint/23_owners.sh holds that for AgentServer,
 * AgentRun and AgentTask; not for list nodes, which belong to the list that they
 * are in, for what their arrays hold, and for AgentLink, whose fields are of
 * several files.
 *
 *   base.c       the turn, requests; memory, results, work that may raise
 *   quarantine.c objects over which agents ended
 *   health.c     what is known of servers and is not written yet; whether it is an event;
 *                AgentServer.heard_written, .heard_due, .heard_node
 *   ground.c     what of AgentLink says whether it may be used
 *   pause.c      nothing: what is paused, as it was read
 *   named.c      nothing: named limits as they were read go to the engine
 *   target.c     targets: which servers of a group a run may use
 *   server.c     AgentServer, AgentLink, health, speeds
 *   probe.c      when servers that are not used are looked at: AgentServer.probe_due
 *   learn.c      estimates: AgentRun.estimates and .learned
 *   run.c        AgentRun
 *   task.c       AgentTask
 *   given.c      nothing: what work is given, its parameters and its context
 *   notice.c     notices
 *   raise.c      events
 *   deploy.c     deployments
 *   query.c      queries
 *   schedule.c   schedules
 *   remote.c     tokens; AgentTask's fields that are marked "remote"
 *   local_job*.c LocalJob; job_run.c: job runs among them
 *   steer.c      nothing: what sessions ask of runs goes to the engine
 *   limits.c     nothing: when runs may begin and must have ended goes to the engine
 *   late.c       deadlines
 *   stat.c       nothing: counters are read, and begin anew
 *   load.c       makes runs from rows; recover.c takes up what was under way
 *   events.c     the callbacks given to links and runners
 *   waiting.c    nothing: rows of tasks say why nothing of them is placed
 *   decide.c     applies decisions to AgentRun and AgentTask
 *   effect.c, retire.c, flush.c, inbox.c    nothing: they pass on
 *   life.c       that there is one agent a database, and always one again
 *
 * No circle: a file needs only files above it in this list, or gets a hook from
 * above (AgentServerHooks, LocalJobHooks).  test/lint/17_circles.sh holds that.
 */
#ifndef FLEET_AGENT_STATE_H
#define FLEET_AGENT_STATE_H

#include "postgres.h"

#include <signal.h>

#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/resowner.h"

#include "agent/base.h"
#include "store/definition.h"
#include "store/run_read.h"
#include "store/server.h"
#include "store/steer.h"
#include "clock.h"
#include "core/engine/engine.h"
#include "core/exec.h"
#include "core/job.h"
#include "executor.h"
#include "link/link.h"
#include "link/loop.h"
#include "runner/pool.h"
#include "mailbox/mailbox.h"

/* Servers of the core's placer: here, and the place for work that has no server. */
#define AGENT_LOCAL_SERVER 0
#define AGENT_NOWHERE_SERVER 1
#define AGENT_FIRST_SERVER 2

/* What a task or a step says that is lost with its server. */
#define AGENT_LOST_SQLSTATE FLEET_SQLSTATE_CONNECTION_FAILURE
#define AGENT_LOST_MESSAGE "its server did not come back within fleet.lost_after"

#define AGENT_NOWHERE_TARGET 0
#define AGENT_LOCAL_TARGET 1
#define AGENT_FIRST_TARGET 2

/* A change that is likely to be followed by the next one at once (running, then done) waits so
 * long before it gets a row of its own. */
#define AGENT_LAZY FLEET_MS(3)

typedef struct AgentRun AgentRun;
typedef struct AgentTask AgentTask;
typedef struct LocalJob LocalJob;
typedef struct AgentServer AgentServer;
typedef struct AgentLink AgentLink;

struct AgentServer
{
    int server_id; /* hash key */
    uint32 number; /* in the placer */
    Oid foreign;   /* the foreign server; InvalidOid: it was dropped */
    char *name;
    bool agent_mode;
    bool gone;  /* its row no longer exists */
    char *held; /* in quarantine (quarantine.c): why; NULL: it is not */
    FleetServerSpec spec;
    FleetServerState admin_state;
    bool suspect;
    FleetSpeed speed;
    bool speed_changed;
    TimestampTz heard_at;      /* last message */
    TimestampTz heard_written; /* the last of them that has a row */
    bool heard_due;            /* it is to get one: heard_node is in health.c's list */
    dlist_node heard_node;
    FleetTime probe_due; /* 0: not known yet */
    FleetNames groups, former_names;
    dlist_head links;
};

/* One server as one role sees it. */
struct AgentLink
{
    dlist_node node; /* in server->links */
    AgentServer *server;
    Oid role;
    FleetServerLink *link;
    bool agent_mode;
    bool up;
    bool suspect; /* cut off; cleared when the server is heard of again, or nothing hangs on it */
    FleetTime refused_at; /* since when the server refuses us for good; 0: it does not */
    char refused[512];    /* the reason of its last refusal; "": none */
    uint64 checked;       /* fleet_security_generation() when its ground was looked at */
    char *forbidden;      /* why it has no ground; NULL: it has */
    const char *forbidden_sqlstate;
    bool probing;     /* a probe logs in (probe.c) */
    bool asked;       /* a session waits for what comes of the login (probe.c) */
    bool retired;     /* of the mode that the server had before: finishes what it has */
    uint32 deploying; /* answers to come */
    /* lists of others: local_job*.c, remote.c, deploy.c */
    dlist_head waiting; /* LocalJob.wait_node: direct, want a session */
    dlist_head unclean; /* … are being stopped, and may still run over there */
    dlist_head tasks;   /* AgentTask.link_node: remote task runs on this link */
};

/* Why a task cannot begin; NULL: no such reason. */
typedef struct AgentReason
{
    char *message;
    const char *sqlstate;
} AgentReason;

/* One execution of a package. */
struct AgentRun
{
    int64 run_id; /* hash key */
    MemoryContext context;
    char uuid[37];
    uint32 handle; /* in the engine */
    FleetPackageDef *def;
    FleetGraph *graph;
    Oid owner;
    int32 priority;
    char *params;
    char *scheduled_for; /* NULL: no schedule started it */
    int hook_depth;      /* so many hooks have led to it */
    char **task_params;  /* per task: run params || task params; made when needed */
    char **resolved; /* per task: its own, once their templates are resolved; NULL: not, or none */
    FleetState state;
    FleetState durable;        /* as in the row */
    uint8 *task_durable;       /* per task: state of item 0's row */
    uint64 *task_written;      /* per task: turn in which item 0's row was put into the batch */
    AgentReason *cannot_begin; /* per task: why its for_each or its condition failed */
    bool restart;              /* it restarts another run */
    int64 *take_over;          /* per task, of a restart: run whose items it takes over; 0: none */
    bool nested;               /* it belongs to a task or a step */
    bool cancel_final;         /* its final tasks are canceled with it */
    FleetSkipRow *skips;       /* what is to be left out by request, sorted */
    int nskips;
    MemoryContext skip_context; /* of them; NULL: there were none yet */
    char **hindered;  /* per task: what its item 0's row says of why nothing of it is placed */
    dlist_head tasks; /* AgentTask.run_node: started ones */
    AgentTask *parent_task; /* nested: whom to tell the end */
    LocalJob *parent_local;
    uint32 waiting, running; /* of its task runs, as they were counted last */
    bool changed;            /* who waits for changes is to be told, after the commit */
    dlist_node changed_node;
    bool ended; /* final and to be forgotten after the flush */
    bool dirty;
    dlist_node dirty_node;
    char *message; /* of the first task that ended badly, or why it is being stopped */
    int64 timeout; /* microseconds; 0: none */
    bool timed_out;
    struct AgentLearned *learned;
    uint32 learned_count, learned_capacity;
    HTAB *estimates; /* by task and item key; NULL: none known */
};

/* What finished work took: written to the learned durations at the end of the run. */
typedef struct AgentLearned
{
    uint32 task;
    char *item_key; /* NULL: no for_each */
    FleetTime duration;
    AgentServer *server;
} AgentLearned;

/* A task run from its first start to its end. */
struct AgentTask
{
    FleetTaskRef ref; /* hash key */
    AgentRun *run;
    MemoryContext context;
    dlist_node run_node;
    uint16 attempt;
    uint16 failures;     /* attempts that used up a retry */
    AgentServer *server; /* NULL: here */
    FleetState state;
    FleetState durable;
    char token[37];
    char *params;           /* complete, JSON object */
    char *item_key;         /* what the item is known by in later runs; NULL: it is none */
    char *failure;          /* what it handles, as it is in its row; NULL: it is no handler */
    TimestampTz started_at; /* 0: not yet */
    TimestampTz finished_at;
    AgentResult result;
    LocalJob *local;   /* executed by us (sql here, job on a direct server) */
    AgentRun *nested;  /* kind package */
    AgentLink *link;   /* kind job */
    bool linked;       /* link_node is in link->tasks */
    bool acknowledged; /* remote: it is there */
    bool unclear;      /* remote: sent, and the connection broke before the answer */
    bool acknowledge;  /* remote: tell the child, once its end is durable here */
    uint8 lacked;      /* remote: how often the server has said that it lacks the job's document */
    bool definition_known; /* remote, by name: which version of the job the server runs ... */
    FleetToken definition; /* ... namely this one */
    uint64 reported_turn;
    int log_line_seq; /* remote: last log line stored */
    char *waits;      /* it has not begun where it is, and why; NULL: not so */
    bool waits_changed;
    char *error; /* why it cannot start at all */
    const char *error_state;
    dlist_node link_node;
    int log_base;          /* seq of this attempt's log lines count from here */
    int log_seq;           /* last seq known (base included) */
    int seen_first;        /* remote: steps up to this first_seq have a row … */
    FleetState seen_state; /* … and the last of them this state */
    bool start_pending;    /* FLEET_DO_START is to be written */
    bool effect_start;     /* … and to be carried out after the commit */
    bool effect_cancel;
    bool stopped;    /* what its attempt ended by was a cancel, whatever its last step says */
    bool over;       /* final: freed after the flush */
    bool recovering; /* loaded, to be re-attached */
    bool dirty;
    FleetTime lazy_until; /* 0: write at once */
    dlist_node dirty_node;
    bool in_effects;
    dlist_node effect_node;
};

/* What all files share.  Everything else is in the file that owns it. */
typedef struct Agent
{
    Oid database;
    MemoryContext context;        /* lives as long as the agent */
    MemoryContext turn_context;   /* reset each turn */
    FleetRandom random;           /* seeded once */
    FleetParentIdentity identity; /* sent on every link */
    char secret[37];              /* goes into tokens, and nowhere else */
    bool paused;                  /* a copy that was not told yet which of the two it is */
    FleetLoop *loop;              /* sockets and latch */
    FleetShared *shared;          /* the mailbox; NULL: not published yet */
    FleetEngine *engine;
} Agent;

extern Agent agent; /* base.c */

#endif
