/*
 * link/internal.h
 *     What the files of src/link/ share.  In the agent's process.
 *
 *   turn.c         what is put off to the end of a turn
 *   encoding.c     conversion of encodings, as far as they can be converted
 *   text.c         text of the other side made harmless, and ours for the other side
 *   resolve.c      host names, looked up by another process
 *   notice.c       what a server says besides its answers
 *   conn.c         FleetConn: one libpq connection and its state machine
 *   conn_start.c   how a FleetConn gets connected (hosts, defaults, libpq's errors)
 *   login.c        what a server asks for in the login
 *   fd.c           file descriptors: who gives one up, who waits for one
 *   gate.c         so many logins at a time at one address
 *   self.c         who the other side is
 *   state.c        up, down, backoff, and what the agent is told of it
 *   side.c         the second connection of a link: cancel, terminate, resolve
 *   server_link.c  FleetServerLink: made, closed, its timers, and the end of a turn
 *   direct_mode.c  sessions that execute steps (FleetExecutor); direct_send.c what
 *                  they send, direct_result.c what comes back
 *   agent_mode.c   the connection to another agent; agent_send.c what it sends,
 *                  agent_report.c what comes back, agent_child.c what runs there
 *
 * Rules that hold everywhere here:
 *   - the agent's callbacks are called from fleet_loop_wait() only, never from
 *     inside a function that the agent called; so a lost connection is only
 *     marked (fleet_conn_fail) and worked on at the end of the turn;
 *   - what is sent in a turn travels in one packet a connection: senders only
 *     put into libpq's buffer, the end of the turn adds Sync and flushes;
 *   - a FleetConn is never freed inside a callback.
 */
#ifndef FLEET_LINK_INTERNAL_H
#define FLEET_LINK_INTERNAL_H

#include "postgres.h"

#include <libpq-fe.h>

#include "clock.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "link/link.h"

#define FLEET_CONNECT_TIMEOUT 10          /* seconds, unless the server says otherwise */
#define FLEET_SILENCE FLEET_SECONDS(10)   /* no answer for so long: not trusted any more */
#define FLEET_HEARTBEAT FLEET_SECONDS(5)  /* silence after which the other side is asked */
#define FLEET_SIDE_IDLE FLEET_SECONDS(30) /* the side connection is closed after that */
#define FLEET_BACKOFF_MIN FLEET_MS(100)
#define FLEET_BACKOFF_MAX FLEET_SECONDS(30)
#define FLEET_LOGINS_MAX 32 /* under way at one address; the next ones wait for their turn */
#define FLEET_SCRAM_ITERATIONS_MAX                                                                 \
    100000 /* of a login: 0.1 to 0.2 s, computed by libpq in one piece */
#define FLEET_RESOLVE_TIMEOUT FLEET_SECONDS(20)
#define FLEET_MESSAGE_BYTES_MAX                                                                    \
    (256 * 1024 * 1024)                         /* bytes without a complete message, of a step's */
#define FLEET_OWN_BYTES_MAX (16 * 1024 * 1024)  /* … of an answer to a statement of ours */
#define FLEET_SETUP_BYTES_MAX (8 * 1024 * 1024) /* … while nothing but our own was asked */
#define FLEET_SWOLLEN                                                                              \
    (1024 * 1024) /* bytes: from then on a connection is closed once it can be spared */

typedef struct FleetConn FleetConn;

/* ---- text.c ---- */

/* Appends "s", which is in "encoding", as valid text of our database: at most "cap" bytes, cut at a
 * character or an escape. */
extern void fleet_text_append(StringInfo out, int encoding, const char *s, size_t length,
                              size_t cap);
/* The same into a buffer of "size" bytes; NULL is empty. */
extern void fleet_text_copy(char *out, size_t size, int encoding, const char *s);
/* The same of a text that may be anybody's, in any encoding, in the current context. */
extern char *fleet_text_of_unknown(const char *s);
/* Texts that are harmless stay; the others become copies in the current context. */
extern void fleet_text_clean_diagnostics(FleetDiagnostics *diag, int encoding);
/* A text of our database for a server in that encoding: itself, or a copy in the current context.
 * NULL: it cannot be said there, and "why" says why (22P05, 22021). */
extern const char *fleet_text_for(int encoding, const char *s, FleetDiagnostics *why);
/* The same; what cannot be said in that encoding is sent without the characters that are not ASCII. */
extern const char *fleet_text_or_ascii(int encoding, const char *s);
/* What a result says of an error or notice: its own texts, as the server says them. */
extern FleetDiagnostics fleet_text_diagnostics(const PGresult *result);
/* "s" if it has the form of an SQLSTATE, else XX000; the known level that it is, else NOTICE. */
extern const char *fleet_text_sqlstate(const char *s);
extern const char *fleet_text_level(const char *s);
/* Stars instead of a secret, wherever it stands in the text: as it is, quoted, or as in a URI. */
extern void fleet_text_scrub(char *text, const char *secret);

/* ---- encoding.c ---- */

#define FLEET_CONVERT_MAX 16384 /* bytes at a time */

/* What text in this encoding is taken for: SQL_ASCII for UTF-8. */
extern int fleet_encoding_meant(int encoding);
/* Bytes at the begin that are ASCII, and so the same in all encodings; not NUL. */
extern size_t fleet_encoding_ascii(const char *s, size_t length);
/* Converts from or to UTF-8 (or checks that it is) and ends "out" with NUL.  Returns how many bytes
 * of s were converted, before the first character for which there is nothing in "to".  "length" is
 * at most FLEET_CONVERT_MAX, and "out" has MAX_CONVERSION_GROWTH times that and one byte. */
extern size_t fleet_encoding_convert(int from, int to, const char *s, size_t length, char *out);
/* Bytes for the next call: whole characters. */
extern size_t fleet_encoding_piece(int encoding, const char *s, size_t length);
/* Bytes of the character at s, which could not be converted; 1 if it is none. */
extern size_t fleet_encoding_character(int encoding, const char *s, size_t length);
/* The encoding of what comes and goes; "fresh": after a reset of the session. */
extern int fleet_conn_encoding(const FleetConn *conn, bool fresh);

/* ---- what is expected next on a connection ---- */

typedef struct FleetExpect
{
    uint8 tag;  /* of the owner of the connection; 0: a Sync */
    uint8 slot; /* the owner's */
    bool single_row;
} FleetExpect;

#define FLEET_EXPECT_SYNC 0
#define FLEET_NO_SLOT 255

/* A notice, copied with malloc because it is made inside libpq. */
typedef struct FleetNotice
{
    struct FleetNotice *next;
    FleetDiagnostics diag; /* as the server says it, in the same allocation */
} FleetNotice;

typedef enum FleetConnState
{
    CONN_CLOSED,     /* nothing there; the pool may open it */
    CONN_RESOLVING,  /* waits for addresses */
    CONN_CONNECTING, /* PQconnectPoll */
    CONN_SETUP,      /* logged in; the owner's first statements are under way */
    CONN_READY,
} FleetConnState;

typedef struct FleetConnMethods
{
    /* logged in, pipeline mode on: send the first statements */
    void (*login)(FleetConn *conn);
    /* one result (rows, end, error) of the head expectation; not for Sync */
    void (*result)(FleetConn *conn, const FleetExpect *expect, PGresult *result);
    /* all results of that statement have come; for Sync: it has come */
    void (*done)(FleetConn *conn, FleetExpect expect);
    /* false: keep it and ask again after the next result */
    bool (*notice)(FleetConn *conn, const FleetExpect *head, const FleetNotice *notice);
    void (*notify)(FleetConn *conn, const char *channel, const char *payload);
    /* end of the turn, before flushing: send what was gathered */
    void (*gather)(FleetConn *conn);
    /* could not be made, or lost; it is CLOSED now */
    void (*down)(FleetConn *conn, const char *sqlstate, const char *reason, bool permanent);
    /* the server wants to copy: true if the request at the head may have asked for that.  NULL: no
     * request of this owner may */
    bool (*copy)(FleetConn *conn, const FleetExpect *expect, ExecStatusType status);
    /* next time timer() must be called, or FLEET_NEVER; only asked while READY */
    FleetTime (*due)(FleetConn *conn);
    void (*timer)(FleetConn *conn, FleetTime now);
    /* READY, with no answer to come: since when it is of no use, FLEET_NEVER: it is.  NULL: it
     * always is */
    FleetTime (*spare_since)(FleetConn *conn);
    /* end of the turn, while CLOSED: the owner asked for work to be done */
    void (*closed)(FleetConn *conn);
    size_t message_max; /* bytes without a complete message, or row */
} FleetConnMethods;

/* One place to connect to. */
typedef struct FleetHost
{
    char *host;    /* NULL: libpq's default */
    char *port;    /* NULL: libpq's default */
    char *address; /* given by the user, or the host itself if numeric; NULL: socket or name */
    bool name;     /* must be looked up */
} FleetHost;

struct FleetConn
{
    dlist_node node; /* in link->conns */
    dlist_node work; /* in the work list */
    bool has_work;
    FleetServerLink *link;
    const FleetConnMethods *methods;
    void *arg; /* the owner's */
    FleetConnState state;

    PGconn *pg;
    PGresult *held; /* being worked on: freed with the connection if something throws */
    bool fd_reserved;
    FleetLoopMember *member;
    bool login_seen; /* a message of the login has come */
    int encoding;    /* of the database over there */
    uint64 inode;    /* of the socket, to see whether libpq opened another one */
    FleetTime deadline;
    int host_shift; /* hosts of the list that timed out in this round */
    FleetExpect *ring;
    uint32 head, count, capacity; /* capacity: a power of two */
    bool got_result, armed;
    bool copy_out; /* the server sends COPY data: to be thrown away */
    bool pipeline;

    bool needs_sync, needs_flush, attention;
    uint8 sync_slot;
    bool user_runs;     /* the head may take any time: no liveness check */
    FleetTime patience; /* how long silence is borne while something is awaited */
    FleetTime heard_at; /* last time anything came, or waiting began */
    uint64 flushes;     /* counts moments at which buffered requests may have left */
    size_t unflushed;   /* estimate of bytes in libpq's buffer */
    size_t incomplete;  /* bytes read since the last complete result */
    bool swollen;       /* libpq's buffer has grown, and stays so until it is closed */
    bool outdated;      /* it would be made otherwise now: closed once it can be spared */

    FleetNotice *notices, **notices_tail;
    bool (*wants_notice)(FleetConn *conn); /* inside libpq: must not throw */

    bool lost;
    bool lost_permanent;
    char lost_sqlstate[6];
    char lost_reason[1024];
    char farewell_sqlstate[6]; /* what the server said when it closed the connection */
    char farewell[1024];       /* … as it said it */
};

struct FleetServerLink
{
    dlist_node node; /* in the list of all links */
    MemoryContext context;
    MemoryContextCallback reset;
    FleetLoop *loop;
    FleetParentIdentity parent;
    void *owner;
    int server_id;
    char *server_name;
    Oid role;
    bool superuser, has_password;
    const FleetModeMethods *mode;
    int slots;
    MemoryContext params; /* of what follows from the options: the next seven */
    int nparams;
    char **keywords, **values;
    int nhosts;
    FleetHost *hosts;
    int connect_timeout; /* seconds */
    char *place;         /* hosts, addresses and ports, as they are given */
    char *former;        /* the password before this one: sessions may be there that know it */

    dlist_node open_node; /* in the list of links to look at */
    bool opens_soon;
    dlist_node fd_node; /* in the list of links that wait for a file descriptor */
    bool fd_waiting;
    dlist_node gate_node; /* in the list of links that wait for logins at their address */
    bool gate_waiting;
    bool plain;        /* no startup options: refused over there (a pooler) */
    bool up;           /* told the agent so */
    bool wanted;       /* a connection was asked for since it was up last */
    bool swept;        /* direct: sessions of our predecessors are ended */
    int remains;       /* direct: sessions to be ended that something of ours may still run in */
    bool sweeping;     /* direct: … those of our predecessors among them */
    bool clean_wanted; /* direct: the agent is to be told when none is left */
    char *held;        /* why no connection is opened; NULL: they may be */
    char *forbidden;   /* the same, for good: it has lost its ground */
    const char *forbidden_sqlstate;
    bool closing;
    bool session_wanted; /* direct: a session was asked for and there was none */
    bool tell_when_idle; /* direct: … and who asked is to be told when one is idle */
    FleetTime retry_at;
    FleetTime backoff;
    FleetLinkIdentity identity;
    bool identity_known;

    MemoryContext scratch;  /* NULL: not needed yet */
    dlist_head conns;       /* every FleetConn, side connection included */
    struct FleetSide *side; /* NULL: never needed */
    struct FleetAgentLink *agent;
};

/* ---- conn.c ---- */

extern void fleet_conn_init(FleetConn *conn, FleetServerLink *link, const FleetConnMethods *methods,
                            void *arg);
extern void fleet_conn_fail(FleetConn *conn, const char *sqlstate, bool permanent,
                            const char *format, ...) pg_attribute_printf(4, 5);
/* With what libpq says, without its line ends. */
extern void fleet_conn_fail_libpq(FleetConn *conn);
extern void fleet_conn_close(FleetConn *conn); /* quietly, at once */
extern void fleet_conn_ready(FleetConn *conn); /* setup is over */
extern void fleet_conn_process(FleetConn *conn);
extern void fleet_conn_readable(FleetConn *conn); /* SETUP or later: the socket is */
/* All of these only put into the buffer.  On failure the connection is marked lost. */
extern bool fleet_conn_send(FleetConn *conn, uint8 tag, uint8 slot, const char *sql, int nparams,
                            const char *const *values, bool binary, bool single_row);
/* A named statement: made once on a connection, then executed as fleet_conn_send() does. */
extern bool fleet_conn_prepare(FleetConn *conn, uint8 tag, uint8 slot, const char *name,
                               const char *sql);
extern bool fleet_conn_send_prepared(FleetConn *conn, uint8 tag, uint8 slot, const char *name,
                                     int nparams, const char *const *values, bool binary,
                                     bool single_row);
extern bool fleet_conn_send_simple(FleetConn *conn, uint8 tag, uint8 slot, const char *sql);
extern void fleet_conn_sync(FleetConn *conn); /* an immediate Sync: setup only */
extern bool fleet_conn_pipeline(FleetConn *conn, bool on);
extern void fleet_conn_flush(FleetConn *conn); /* end of the turn */
extern void fleet_conn_finish_lost(FleetConn *conn);

/* What the server says, without our secrets, as text of our database in the current context. */
extern char *fleet_conn_text(const FleetConn *conn, const char *s);

/* A parameter of the link's connections; NULL: not set, or empty. */
extern const char *fleet_link_param(const FleetServerLink *link, const char *keyword);
/* A password of the link must not get out, whatever made the text. */
extern void fleet_link_scrub(const FleetServerLink *link, char *text);

/* ---- notice.c ---- */

extern void fleet_conn_notice_receiver(void *arg, const PGresult *result);
/* True: it was the last one before the server ends the session. */
extern bool fleet_conn_said_farewell(FleetConn *conn, const PGresult *result);
extern void fleet_conn_deliver_notices(FleetConn *conn);
extern void fleet_conn_drop_notices(FleetConn *conn);

/* ---- conn_start.c ---- */

extern void fleet_conn_open(FleetConn *conn);
extern void fleet_conn_resolved(FleetConn *conn); /* RESOLVING: look whether addresses are there */
extern void fleet_conn_connect_timeout(FleetConn *conn);
extern void fleet_link_parse_hosts(FleetServerLink *link);

/* ---- login.c ---- */

typedef enum FleetLogin
{
    LOGIN_GOES_ON, /* libpq may read */
    LOGIN_WAITS,   /* not before more has come */
    LOGIN_REFUSED, /* the connection is marked lost */
} FleetLogin;

/* Before PQconnectPoll(): looks at what the server says in the login. */
extern FleetLogin fleet_login_look(FleetConn *conn);

/* ---- turn.c ---- */

typedef struct FleetTurn
{
    dlist_head links;      /* FleetServerLink.node, those that are not closing */
    dlist_head closing;    /* FleetServerLink.node */
    dlist_head to_open;    /* FleetServerLink.open_node: may have connections to open */
    dlist_head work;       /* FleetConn.work */
    dlist_head fd_waiting; /* FleetServerLink.fd_node, in the order of asking */
    dlist_head gate;       /* FleetServerLink.gate_node, in the order of asking */
    FleetTime now;
    FleetTime next_due; /* of all timers */
    int awaiting;       /* connections that wait for answers */
    bool due_is_stale;
    bool agent_told; /* the agent heard something since the wait was asked for */
} FleetTurn;

extern FleetTurn fleet_turn;

extern FleetTime fleet_link_now(void);        /* the turn's time, for deadlines */
extern void fleet_link_due_at(FleetTime due); /* timers must be looked at no later than that */
extern void fleet_link_awaits(int change);    /* one connection more (less) waits for answers */
/* The agent was told something at the end of a turn: it must have a turn before the loop waits. */
extern void fleet_link_agent_told(void);
extern void fleet_conn_work(FleetConn *conn); /* look at it at the end of the turn */
extern void fleet_link_open_soon(FleetServerLink *link);
extern void fleet_link_fd_waiters_wake(void); /* a session is idle, or a connection was closed */

/* ---- state.c ---- */

extern FleetLinkCallbacks fleet_link_callbacks; /* the agent's: fleet_link_init() */

extern void fleet_link_need(FleetServerLink *link);
/* It goes into the agent's hand (hand.h), which whoever calls this empties. */
extern void fleet_link_in_hand(const FleetServerLink *link);
/* Nothing connects there (fleet_link_hold()): the agent hears so. */
extern void fleet_link_held_down(FleetServerLink *link);
extern void fleet_link_came_up(FleetServerLink *link, FleetConn *conn);
extern void fleet_link_went_down(FleetServerLink *link, FleetConn *conn, const char *sqlstate,
                                 const char *reason, bool permanent);
/* The link's address does not answer, another link has found: as if it had asked itself. */
extern void fleet_link_refused(FleetServerLink *link, const char *sqlstate, const char *reason);
extern bool fleet_link_may_open(FleetServerLink *link);

/* ---- fd.c ---- */

/* For a descriptor: closes the connection that can be spared best, of any link.  False: none can. */
extern bool fleet_link_evict(void);
/* If the connection is of no use now, a link that waits for a descriptor may have this one's. */
extern void fleet_link_fd_spare(FleetConn *conn);
/* Closes a connection that has grown, or is outdated, and can be spared. */
extern void fleet_link_give_back(FleetConn *conn);
/* None is left, and no connection is idle: the link waits for one that will be.  True: soon, so the
 * connection does not fail, as its server did nothing wrong. */
extern bool fleet_link_wait_for_fd(FleetConn *conn);

/* ---- gate.c ---- */

/* On the way from CLOSED to READY; what cancels does not count. */
extern bool fleet_conn_logs_in(const FleetConn *conn);
/* Whether a login may begin at the link's address; if not, it is opened when one there is over. */
extern bool fleet_link_gate(FleetServerLink *link);
extern void fleet_link_gate_leave(FleetServerLink *link);
/* A login at the link's address has come to its end. */
extern void fleet_link_gate_next(const FleetServerLink *link);
/* Nobody answers there: who waits for that address need not ask. */
extern void fleet_link_gate_refuse(const FleetServerLink *link, const char *sqlstate,
                                   const char *reason);

/* ---- self.c ---- */

/* Learning who the other side is; shared by direct sessions and the side connection. */
#define FLEET_TAG_SELF 1
#define FLEET_TAG_SYSTEM 2
#define FLEET_TAG_TIMELINE 3
#define FLEET_TAG_PIN 4
#define FLEET_TAG_MARKS 5
#define FLEET_TAG_OWN 10 /* owners' tags start here */

typedef struct FleetSelf
{
    FleetLinkIdentity identity;
    int backend_pid;
    int64
        backend_start; /* microseconds; with the pid it names the session for good.  0: not known */
    bool pooled;       /* a pooler is between: the pid is not the one libpq was told */
    bool in_recovery;
} FleetSelf;

extern void fleet_self_ask(FleetConn *conn, FleetSelf *self);
extern bool fleet_self_result(FleetConn *conn, FleetSelf *self, const FleetExpect *expect,
                              const PGresult *result);

/*
 * Sessions are looked for with pg_stat_get_activity(), which who reads the view
 * pg_stat_activity calls as well: hardened servers take the view from PUBLIC.
 *
 * When a session began, in microseconds.
 */
#define FLEET_BACKEND_START FLEET_MICROSECONDS("backend_start")
#define FLEET_MICROSECONDS(time)                                                                   \
    "(EXTRACT(epoch FROM " time ") OPERATOR(pg_catalog.*)"                                         \
    " 1000000::pg_catalog.numeric)::pg_catalog.int8"

/* The sessions of this link's role that an earlier agent of this parent had opened.  $1: 'pg_fleet',
 * first digits of the parent's uuid; $2: our epoch. */
#define FLEET_PREDECESSORS                                                                         \
    "usesysid OPERATOR(pg_catalog.=) (SELECT me.usesysid"                                          \
    " FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) AS me)"                    \
    " AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()"                                 \
    " AND CASE WHEN pg_catalog.starts_with(application_name, $1)"                                  \
    " AND application_name OPERATOR(pg_catalog.~) '^pg_fleet [0-9a-f]{8} [0-9]{1,20}$'"            \
    " THEN pg_catalog.split_part(application_name, ' ', 3)::pg_catalog.numeric"                    \
    " OPERATOR(pg_catalog.<) $2::pg_catalog.numeric ELSE false END"

/* ---- resolve.c ---- */

typedef enum FleetResolved
{
    RESOLVE_PENDING,
    RESOLVE_DONE,
    RESOLVE_FAILED,
} FleetResolved;

#define FLEET_ADDRESSES_MAX 8
#define FLEET_ADDRESS_SIZE 48

/* Asks, or answers from the cache.  On DONE "addresses" has *n addresses; on FAILED "why" a text. */
extern FleetResolved fleet_resolve(FleetLoop *loop, const char *name,
                                   char (*addresses)[FLEET_ADDRESS_SIZE], int *n, const char **why);

/* True once after lookups have ended: who waits for addresses should look. */
extern bool fleet_resolve_news(void);

/* ---- side.c ---- */

typedef struct FleetSide
{
    FleetConn conn; /* first */
    FleetSelf self;
    dlist_head waiting, sent;
    FleetTime idle_since;
} FleetSide;

/* Cancels what "conn"'s backend does; "answered" is called once it was sent, or will never be. */
extern void fleet_side_cancel(FleetServerLink *link, FleetConn *conn, int pid,
                              void (*answered)(FleetConn *conn));
/* Asks whether that backend is still at work. */
/* True: a cancel of this session had not been sent yet, and is not any more. */
extern bool fleet_side_withdraw(FleetServerLink *link, FleetConn *conn);
extern void fleet_side_probe(FleetServerLink *link, FleetConn *conn, int pid,
                             void (*answered)(FleetConn *conn, bool known, bool active));
/* Takes back what was not sent yet for "conn"; true if answers are still to come.  "gone": the
 * connection is closed, none may come any more. */
extern bool fleet_side_forget(FleetServerLink *link, FleetConn *conn, bool gone);
/* Ends that session, until it is surely gone; pid 0: those of our predecessors. */
extern void fleet_side_end(FleetServerLink *link, int pid, int64 backend_start);
extern void fleet_side_open_wanted(FleetServerLink *link);
extern bool fleet_side_wants(FleetServerLink *link);

/* ---- the two modes: agent_mode.c, direct_mode.c ---- */

struct FleetModeMethods
{
    bool sessions;                              /* its connections are lent, and given back */
    void (*create)(FleetServerLink *link);      /* NULL: there is nothing to make */
    void (*open_wanted)(FleetServerLink *link); /* at the end of a turn: opens what is wanted */
    bool (*close)(FleetServerLink *link);       /* cuts all; true: none is held any longer */
};

#endif
