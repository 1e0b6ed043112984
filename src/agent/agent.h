/*
 * agent/agent.h
 *     The agent's own structures, shared by the files of this folder, nobody else.
 *
 * One agent a database.  Its loop (main.c) turns events into calls of the
 * core, and the core's decisions into rows and effects:
 *
 *   main.c           lifecycle and the loop
 *   life.c      which process is the agent, and that there is always one again
 *   events.c    what links, runners and sessions tell, handed to whom it concerns
 *   server.c    servers, targets, links as the core's servers
 *   run.c       runs: loading requests and durable state, requests, ends
 *   recover.c  … taken up again after a restart
 *   task.c      task runs: decisions of the engine, effects, ends
 *   learn.c     learned durations
 *   local_job*.c      jobs that this agent executes itself, step by step:
 *                     local_job.h is all that others see of them
 *   remote.c    task runs that another agent executes (mode agent)
 *   job_run.c   job runs: start_job, or asked for by a parent
 *   query.c     for_each queries and conditions, in runners
 *   flush.c     what changed becomes rows, in one transaction; then the
 *                     effects that waited for it
 *   base.c      what every file stands on
 *
 * Everything that changed in a turn is marked dirty, written in one
 * transaction at the turn's end, and only then sent (intent before effect).
 */
#ifndef FLEET_AGENT_AGENT_H
#define FLEET_AGENT_AGENT_H

#include "postgres.h"

#include <signal.h>

#include "lib/ilist.h"
#include "utils/hsearch.h"
#include "utils/resowner.h"

#include "agent/base.h"
#include "agent/local_job.h"
#include "store/definition.h"
#include "store/condition.h"
#include "store/deployment.h"
#include "store/duration.h"
#include "store/identity.h"
#include "store/nested.h"
#include "store/run_close.h"
#include "store/run_read.h"
#include "store/run_write.h"
#include "store/server.h"
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
#define AGENT_LOST_SQLSTATE "08006"
#define AGENT_LOST_MESSAGE "its server did not come back within fleet.lost_after"

#define AGENT_NOWHERE_TARGET 0
#define AGENT_LOCAL_TARGET 1
#define AGENT_FIRST_TARGET 2

/* A change that is likely to be followed by the next one at once (running, then done) waits so
 * long before it gets a row of its own. */
#define AGENT_LAZY FLEET_MS(3)

typedef struct AgentRun AgentRun;
typedef struct AgentTask AgentTask;
typedef struct AgentServer AgentServer;
typedef struct AgentLink AgentLink;

struct AgentServer
{
    int server_id; /* hash key */
    uint32 number; /* in the placer */
    char *name;
    bool agent_mode;
    bool gone; /* its row is not there any more */
    FleetServerSpec spec;
    FleetServerState admin_state;
    bool suspect;
    FleetSpeed speed;
    bool speed_changed;
    char **groups;
    int ngroups;
    dlist_head links;
};

/* One server as one role sees it. */
struct AgentLink
{
    dlist_node node; /* in server->links */
    AgentServer *server;
    Oid role;
    FleetServerLink *link;
    bool up;
    bool suspect;   /* cut off; cleared when the server is heard of again, or nothing hangs on it */
    uint64 checked; /* fleet_security_generation() when its ground was looked at */
    bool retired;   /* may or can not be used like this any more: finishes what it has */
    uint32 deploying;   /* answers to come */
    dlist_head waiting; /* LocalJob.wait_node: direct, want a session */
    dlist_head unclean; /* … are being stopped, and may still run over there */
    dlist_head tasks;   /* AgentTask.link_node: remote task runs on this link */
};

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
    char **task_params; /* per task: run params || task params; made when needed */
    FleetState state;
    FleetState durable;     /* as in the row */
    uint8 *task_durable;    /* per task: state of item 0's row */
    uint64 *task_written;   /* per task: turn in which item 0's row was put into the batch */
    char **cannot_begin;    /* per task: why its for_each or its condition failed */
    dlist_head tasks;       /* AgentTask.run_node: started ones */
    AgentTask *parent_task; /* nested: whom to tell the end */
    LocalJob *parent_local;
    bool changed; /* in agent.changed: tell who waits for changes */
    dlist_node changed_node;
    bool ended; /* final and to be forgotten after the flush */
    bool dirty;
    dlist_node dirty_node;
    char *message; /* of the first task that ended badly */
    struct AgentLearned *learned;
    uint32 learned_count, learned_capacity;
    HTAB *estimates; /* by task and item key; NULL: none known */
};

/* Of agent.runs. */
typedef struct AgentRunEntry
{
    int64 run_id; /* hash key */
    AgentRun *run;
} AgentRunEntry;

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
    char *item_params;      /* the item's own; NULL: none */
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
    uint64 reported_turn;
    int log_line_seq; /* remote: last log line stored */
    char *error;      /* why it cannot start at all */
    const char *error_state;
    dlist_node link_node;
    int log_base;          /* seq of this attempt's log lines count from here */
    int log_seq;           /* last seq known (base included) */
    int seen_first;        /* remote: steps up to this first_seq have a row … */
    FleetState seen_state; /* … and the last of them this state */
    bool start_pending;    /* FLEET_DO_START is to be written */
    bool effect_start;     /* … and to be carried out after the commit */
    bool effect_cancel;
    bool over;       /* final: freed after the flush */
    bool recovering; /* loaded, to be re-attached */
    bool dirty;
    FleetTime lazy_until; /* 0: write at once */
    dlist_node dirty_node;
    bool in_effects;
    dlist_node effect_node;
};

typedef struct Agent
{
    MemoryContext context;      /* lives as long as the agent */
    MemoryContext turn_context; /* reset each turn */
    Oid database;
    FleetTime born;
    FleetParentIdentity identity;
    bool paused;
    FleetLoop *loop;
    FleetShared *shared;
    FleetEngine *engine;
    FleetRandom random;
    HTAB *servers; /* AgentServer by server_id */
    AgentServer **by_number;
    uint32 nservers;
    HTAB *targets;
    uint32 ntargets;
    HTAB *runs;     /* AgentRun* by run_id */
    HTAB *tasks;    /* AgentTask* by ref */
    HTAB *tokens;   /* AgentTask* by FleetToken (remote) */
    dlist_head dirty_runs, dirty_tasks;
    dlist_head changed; /* runs that something happened to in this turn */
    dlist_head task_effects;
    dlist_head notices; /* children's reports to be announced */
} Agent;

extern Agent agent;

/* ---- life.c ---- */

/* Asked for by SIGINT: the agent ends, and its successor begins. */
extern volatile sig_atomic_t agent_leave_requested;

/* From here on, however this process ends, a successor comes. */
extern void agent_home_prepare(void);
extern void agent_home_connected(void);
/* True: this database has the extension, and we are its only agent.  Otherwise there is nothing to
 * do here. */
extern bool agent_move_in(void);

/* ---- server.c ---- */
extern void agent_servers_init(void);
extern void agent_settings_changed(void);
extern void agent_servers_load(void); /* inside a transaction; again whenever they changed */
/* Once a turn: links that were retired and have nothing left to do are closed. */
extern void agent_servers_tidy(void);
extern uint32 agent_target(const char *server, const char *group);
extern AgentServer *agent_server_by_id(int server_id);
extern AgentServer *agent_server_by_number(uint32 number);
/* The link of this role to the server, made if needed; NULL with *sqlstate, *error (palloc'd).
 * Inside a transaction. */
extern AgentLink *agent_link_get(AgentServer *server, Oid role, const char **sqlstate,
                                 char **error);
extern void agent_server_speed(AgentServer *server, FleetTime predicted, FleetTime actual);
extern void agent_server_flush(void); /* health rows that are due; inside the transaction */
extern bool agent_server_dirty(void);
extern void agent_deployments_send(void); /* reads queued deployments; inside a transaction */
/* Events of links; link.h says what they mean. */
extern void agent_link_up(AgentLink *link, const FleetLinkIdentity *identity);
extern void agent_link_down(AgentLink *link, const char *sqlstate, const char *reason,
                            bool permanent);
extern void agent_deployed(uint64 ref, bool ok, const char *message);

/* ---- run.c ---- */
extern void agent_runs_load(const int64 *ids, int n); /* NULL: all open ones */
extern AgentRun *agent_run_find(int64 run_id);
extern AgentRun *agent_run_by_handle(uint32 handle);
extern AgentTask *agent_task_create(AgentRun *run, FleetTaskRef ref);
extern void agent_task_token(AgentTask *task); /* of its present attempt */
extern AgentTask *agent_task_find(FleetTaskRef ref);
extern void agent_task_dirty(AgentTask *task, FleetTime lazy);
extern void agent_task_effect(AgentTask *task);
extern void agent_task_free(AgentTask *task);
/* The task run ended like this; result is in task->result. */
extern void agent_task_finished(AgentTask *task, FleetState outcome);
/* It can never run: reason. */
extern void agent_task_fail(AgentTask *task, const char *sqlstate, const char *message);
/* The same, where the log has a line of it already; false: it had ended. */
extern bool agent_task_fail_told(AgentTask *task, const char *sqlstate, const char *message);
extern void agent_task_prepare(AgentTask *task); /* before the commit of its start */
extern void agent_task_effects(AgentTask *task); /* after the commit */
extern void agent_estimates_load(AgentRun *run);
extern FleetTime agent_item_estimate(AgentRun *run, uint32 task, const char *params);
extern const char *agent_task_params(AgentRun *run, uint32 task);
extern void agent_task_learn(AgentTask *task);
extern void agent_run_dirty(AgentRun *run);
extern void agent_run_changed(AgentRun *run);
extern void agent_run_cancel(int64 run_id);
extern void agent_cancels_load(void); /* all durable cancels of open runs and job runs */
extern void agent_run_forget(AgentRun *run);
extern void agent_decisions(void); /* drains the engine */
/* Starts a nested run in the present transaction; NULL with the reason, and nothing done. */
extern AgentRun *agent_run_nested(const char *package, Oid owner, const char *params,
                                  int32 priority, AgentTask *task, LocalJob *local,
                                  AgentFailure *failure);
/* After the commit: runs that could not be loaded have ended. */
extern void agent_runs_refused_tell(void);
/* The uuid of that run: by it the run is found again after a restart. */
extern void agent_nested_uuid(const AgentTask *task, const LocalJob *local, char *uuid);
extern void agent_run_learn(AgentRun *run); /* writes durations; inside the transaction */

/* ---- recover.c ---- */
extern void agent_runs_recovered(void); /* after all were loaded at start */

/* ---- events.c ---- */
/* Hands the agent's callbacks to the links and the runners: before anything is asked of them. */
extern void agent_events_init(void);

/* ---- remote.c ---- */
extern void agent_remote_init(void);
/* Events of links; link.h says what they mean.  A token that is on no link here is ignored: it
 * answers what was asked for a task run that has ended meanwhile. */
extern void agent_remote_started(AgentLink *link, const FleetToken *token, FleetStartResult result,
                                 const char *sqlstate, const char *message);
extern void agent_remote_resumed(AgentLink *link, const FleetToken *token, bool known);
extern void agent_remote_reported(AgentLink *link, const FleetRemoteReport *report);
extern void agent_remote_start(AgentTask *task);
extern void agent_remote_recover(AgentTask *task);
extern void agent_remote_cancel(AgentTask *task);
extern void agent_remote_acknowledge(AgentTask *task);
extern void agent_remote_up(AgentLink *link);
extern void agent_remote_down(AgentLink *link, const char *sqlstate, const char *reason,
                              bool permanent);
extern void agent_remote_leave(AgentTask *task); /* not on that link any more */

/* ---- query.c ---- */
extern void agent_expand(AgentRun *run, uint32 task);
extern void agent_condition(AgentRun *run, uint32 edge);
extern void agent_queries_runners(void);
extern void agent_query_event(void *query, FleetExecutor *executor,
                              const FleetExecutorEvent *event);
extern void agent_queries_forget(AgentRun *run);

/* ---- flush.c ---- */
extern void agent_flush(void); /* writes all that is dirty, commits, carries the effects out */
extern bool agent_flush_needed(void);
extern void agent_notice(const char *parent_uuid, int64 job_run_id);

#endif
