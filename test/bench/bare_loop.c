/*
 * bare_loop.c
 *     The limit that pg_fleet is measured against: the least that any client
 *     can do to run N children on several servers with guarantee 3 (exactly
 *     one effect) and guarantee 1 (intent before effect), written with libpq
 *     and nothing else.  Called by bench.py; a client program, one thread.
 *
 * A child is one transaction on its server.  Per child, in this order:
 *
 *   1. intent    a task_run row "starting", committed at the parent
 *   2. begin     BEGIN; the transaction id asked for; the command
 *   3. id        a step_run row with that id, committed at the parent
 *   4. commit    only now COMMIT goes out
 *   5. outcome   both rows updated to "succeeded", committed at the parent
 *
 * What makes it fast, and what any good implementation may do as well:
 * - COMMIT of one child and BEGIN of the next share a message, so that a child
 *   costs one round trip to its server (the intent of the next was committed
 *   together with the id of this one);
 * - all sessions that answered while the parent was committing share the next
 *   parent transaction: four statements with array parameters, prepared, in
 *   one pipeline, one flush of the log.
 *
 * States of a session: WAITING for its server, READY to go into the next
 * parent transaction, STORING while that one commits; then WAITING again, or
 * DONE.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

#define MAX_SESSIONS 1024
#define INT4_OID 23
#define INT8_OID 20

typedef enum SessionState
{
    SESSION_WAITING,
    SESSION_READY,
    SESSION_STORING,
    SESSION_DONE,
} SessionState;

typedef struct Session
{
    PGconn *conn;
    int server;
    SessionState state;
    int committing; /* child whose COMMIT was sent, 0: none */
    int running;    /* child that reports its id with the same answer, 0: none */
    int next;       /* child whose intent the current parent transaction holds, 0: none left */
    int64_t xid;    /* of "running" */
} Session;

/* One array parameter in libpq's binary format, reused from turn to turn. */
typedef struct Array
{
    char *data;
    int length; /* bytes */
    int count;
    int width; /* of an element: 4 or 8 */
} Array;

typedef struct Loop
{
    PGconn *parent;
    Session *sessions;
    int session_count;
    int epoll;
    int children;
    int last_started; /* number of the last child that has an intent */
    int finished;     /* children whose outcome is committed at the parent */
    int ready;
    long parent_commits;
    bool storing;
    bool service; /* -s: what a job gets besides */
    const char *command;
    Array intents, intent_servers;           /* INSERT task_run */
    Array ids, id_servers, id_pids, id_xids; /* INSERT step_run */
    Array outcomes;                          /* UPDATE both */
} Loop;

static void
die(const char *what, PGconn *conn)
{
    fprintf(stderr, "bare_loop: %s: %s\n", what, conn ? PQerrorMessage(conn) : strerror(errno));
    exit(1);
}

static double
now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* ---- array parameters ---- */

static void
array_init(Array *array, int width, int capacity)
{
    uint32_t head[5];

    array->width = width;
    array->data = malloc((size_t) 20 + (size_t) capacity * (size_t) (4 + width));
    if (!array->data)
        die("out of memory", NULL);
    head[0] = htonl(1); /* dimensions */
    head[1] = 0;        /* no nulls */
    head[2] = htonl(width == 4 ? INT4_OID : INT8_OID);
    head[3] = 0; /* length, set when sent */
    head[4] = htonl(1);
    memcpy(array->data, head, 20);
    array->length = 20;
    array->count = 0;
}

static void
array_add(Array *array, int64_t value)
{
    uint32_t width = htonl((uint32_t) array->width);
    uint32_t high = htonl((uint32_t) ((uint64_t) value >> 32));
    uint32_t low = htonl((uint32_t) value);
    uint32_t count;

    memcpy(array->data + array->length, &width, 4);
    array->length += 4;
    if (array->width == 8)
    {
        memcpy(array->data + array->length, &high, 4);
        array->length += 4;
    }
    memcpy(array->data + array->length, &low, 4);
    array->length += 4;
    count = htonl((uint32_t) ++array->count);
    memcpy(array->data + 12, &count, 4);
}

static void
array_clear(Array *array)
{
    array->length = 20;
    array->count = 0;
}

/* ---- the parent ---- */

static void
parent_exec(Loop *loop, const char *sql)
{
    PGresult *result = PQexec(loop->parent, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        die(sql, loop->parent);
    PQclear(result);
}

static void
parent_prepare(Loop *loop, const char *name, const char *sql)
{
    PGresult *result = PQprepare(loop->parent, name, sql, 0, NULL);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die(name, loop->parent);
    PQclear(result);
}

static void
parent_open(Loop *loop, const char *conninfo, long run)
{
    char sql[2048];

    loop->parent = PQconnectdb(conninfo);
    if (PQstatus(loop->parent) != CONNECTION_OK)
        die("parent", loop->parent);
    /*
     * One plan each, made once, while the tables are empty.  Rows are found by a subquery an item,
     * which leaves the planner no choice: for a join with unnest() or "= ANY" it reads all items of
     * the run through the first two columns of the index, as long as it believes that a run has one
     * row.  That costs three quarters of the throughput.
     */
    parent_exec(loop, "SET plan_cache_mode = force_generic_plan");
    parent_exec(loop, "SET enable_seqscan = off");
    snprintf(sql, sizeof sql,
             "INSERT INTO bare.task_run (run_id, task_no, item, server_id, attempt, state, "
             "queued_at, started_at) "
             "SELECT %ld, 0, u.item, u.server, 1, 2, now(), now() "
             "FROM unnest($1::int4[], $2::int4[]) AS u (item, server)",
             run);
    parent_prepare(loop, "intent", sql);
    snprintf(
        sql, sizeof sql,
        "INSERT INTO bare.step_run (run_id, task_no, item, step_no, attempt, state, phase, "
        "first_seq, "
        "server_id, backend_pid, xid, started_at, step) "
        "SELECT %ld, 0, u.item, 1, 1, 3, 3, 1, u.server, u.pid, u.xid, now(), 'run' "
        "FROM unnest($1::int4[], $2::int4[], $3::int4[], $4::int8[]) AS u (item, server, pid, xid)",
        run);
    parent_prepare(loop, "id", sql);
    snprintf(sql, sizeof sql,
             "UPDATE bare.task_run t SET state = 11, row_count = 1, finished_at = now() "
             "WHERE t.ctid = ANY (ARRAY(SELECT (SELECT i.ctid FROM bare.task_run i WHERE i.run_id "
             "= %ld AND i.task_no = 0 "
             "AND i.item = u.item) FROM unnest($1::int4[]) AS u (item)))",
             run);
    parent_prepare(loop, "task_outcome", sql);
    snprintf(sql, sizeof sql,
             "UPDATE bare.step_run s SET state = 11, phase = 5, last_seq = 2, row_count = 1, "
             "finished_at = now() "
             "WHERE s.ctid = ANY (ARRAY(SELECT (SELECT i.ctid FROM bare.step_run i WHERE i.run_id "
             "= %ld AND i.task_no = 0 "
             "AND i.item = u.item) FROM unnest($1::int4[]) AS u (item)))",
             run);
    parent_prepare(loop, "step_outcome", sql);
    if (PQsetnonblocking(loop->parent, 1) != 0 || !PQenterPipelineMode(loop->parent))
        die("pipeline", loop->parent);
}

static void
parent_send(Loop *loop, const char *statement, Array *const *arrays, int n)
{
    const char *values[4];
    int lengths[4];
    int formats[4];

    for (int i = 0; i < n; i++)
    {
        values[i] = arrays[i]->data;
        lengths[i] = arrays[i]->length;
        formats[i] = 1;
    }
    if (!PQsendQueryPrepared(loop->parent, statement, n, values, lengths, formats, 0))
        die(statement, loop->parent);
}

/* Everything that came in since the last turn, in one parent transaction. */
static void
parent_store(Loop *loop)
{
    Array *intent[] = {&loop->intents, &loop->intent_servers};
    Array *id[] = {&loop->ids, &loop->id_servers, &loop->id_pids, &loop->id_xids};
    Array *outcome[] = {&loop->outcomes};

    array_clear(&loop->intents);
    array_clear(&loop->intent_servers);
    for (int i = 0; i < 4; i++)
        array_clear(id[i]);
    array_clear(&loop->outcomes);

    for (int i = 0; i < loop->session_count; i++)
    {
        Session *s = &loop->sessions[i];

        if (s->state != SESSION_READY)
            continue;
        s->state = SESSION_STORING;
        if (s->committing)
            array_add(&loop->outcomes, s->committing);
        if (s->running)
        {
            array_add(&loop->ids, s->running);
            array_add(&loop->id_servers, s->server);
            array_add(&loop->id_pids, PQbackendPID(s->conn));
            array_add(&loop->id_xids, s->xid);
        }
        s->next = 0;
        if (loop->last_started < loop->children && (s->running || !s->committing))
        {
            s->next = ++loop->last_started;
            array_add(&loop->intents, s->next);
            array_add(&loop->intent_servers, s->server);
        }
    }
    loop->ready = 0;
    if (loop->outcomes.count)
    {
        parent_send(loop, "task_outcome", outcome, 1);
        parent_send(loop, "step_outcome", outcome, 1);
    }
    if (loop->ids.count)
        parent_send(loop, "id", id, 4);
    if (loop->intents.count)
        parent_send(loop, "intent", intent, 2);
    if (!PQpipelineSync(loop->parent) || PQflush(loop->parent) < 0)
        die("parent transaction", loop->parent);
    loop->storing = true;
    loop->parent_commits++;
}

/* True once the parent's transaction is committed. */
static bool
parent_stored(Loop *loop)
{
    if (!PQconsumeInput(loop->parent) || PQflush(loop->parent) < 0)
        die("parent", loop->parent);
    while (!PQisBusy(loop->parent))
    {
        PGresult *result = PQgetResult(loop->parent);

        if (!result)
            continue;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC)
        {
            PQclear(result);
            return true;
        }
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            die("parent transaction", loop->parent);
        PQclear(result);
    }
    return false;
}

/* ---- the servers ---- */

static bool
send_text(Session *s, const char *sql, int nparams, const char *const *values)
{
    return PQsendQueryParams(s->conn, sql, nparams, NULL, values, NULL, NULL, 0) == 1;
}

/*
 * What a job of anybody is owed beyond the guarantees: a session in which
 * nothing is left of the job before, its parameters, and its own command, which
 * nobody prepared.
 */
static bool
send_service(Loop *loop, Session *s, bool commit, bool begin)
{
    char params[64];
    const char *values[] = {params};

    if (commit && !send_text(s, "COMMIT", 0, NULL))
        return false;
    if (!begin)
        return true;
    snprintf(params, sizeof params, "{\"i\": %d}", s->next);
    return send_text(s, "DISCARD ALL", 0, NULL) && send_text(s, "BEGIN", 0, NULL) &&
           send_text(s,
                     "SELECT pg_catalog.set_config('bare.params', $1, true),"
                     " pg_catalog.pg_current_xact_id()",
                     1, values) &&
           send_text(s, loop->command, 0, NULL);
}

static bool
send_prepared(Session *s, bool commit, bool begin)
{
    bool ok = true;

    if (commit)
        ok = ok && PQsendQueryPrepared(s->conn, "c", 0, NULL, NULL, NULL, 0);
    if (begin)
        ok = ok && PQsendQueryPrepared(s->conn, "b", 0, NULL, NULL, NULL, 0) &&
             PQsendQueryPrepared(s->conn, "x", 0, NULL, NULL, NULL, 0) &&
             PQsendQueryPrepared(s->conn, "w", 0, NULL, NULL, NULL, 0);
    return ok;
}

static void
session_send(Loop *loop, Session *s)
{
    bool commit = s->running != 0;
    bool begin = s->next != 0;

    if (!commit && !begin)
    {
        s->state = SESSION_DONE;
        return;
    }
    if (!(loop->service ? send_service(loop, s, commit, begin) : send_prepared(s, commit, begin)) ||
        !PQpipelineSync(s->conn))
        die("send", s->conn);
    s->xid = 0;
    if (PQflush(s->conn) != 0)
        die("flush", s->conn);
    s->committing = s->running;
    s->running = s->next;
    s->next = 0;
    s->state = SESSION_WAITING;
}

/* Reads what the server said; READY when the answer is complete. */
static void
session_read(Loop *loop, Session *s)
{
    if (!PQconsumeInput(s->conn))
        die("server", s->conn);
    while (s->state == SESSION_WAITING && !PQisBusy(s->conn))
    {
        PGresult *result = PQgetResult(s->conn);
        ExecStatusType status = result ? PQresultStatus(result) : PGRES_EMPTY_QUERY;

        if (status == PGRES_PIPELINE_SYNC)
        {
            s->state = SESSION_READY;
            loop->ready++;
        }
        else if (status == PGRES_TUPLES_OK && s->xid == 0) /* the first one has the id, last */
            s->xid = atoll(PQgetvalue(result, 0, PQnfields(result) - 1));
        else if (status == PGRES_TUPLES_OK)
            ; /* the command's */
        else if (result && status != PGRES_COMMAND_OK)
            die("child", s->conn);
        PQclear(result);
    }
}

static void
session_open(Loop *loop, Session *s, int server, const char *conninfo)
{
    s->server = server;
    s->state = SESSION_READY; /* asks for its first intent */
    s->conn = PQconnectdb(conninfo);
    if (PQstatus(s->conn) != CONNECTION_OK)
        die("server", s->conn);
    PQclear(PQprepare(s->conn, "b", "BEGIN", 0, NULL));
    PQclear(PQprepare(s->conn, "w", loop->command, 0, NULL));
    PQclear(PQprepare(s->conn, "x", "SELECT pg_catalog.pg_current_xact_id()", 0, NULL));
    PQclear(PQprepare(s->conn, "c", "COMMIT", 0, NULL));
    if (PQsetnonblocking(s->conn, 1) != 0 || !PQenterPipelineMode(s->conn))
        die("nonblocking", s->conn);
}

static void
watch(Loop *loop, PGconn *conn, uint32_t tag)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};

    if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, PQsocket(conn), &event) != 0)
        die("epoll_ctl", NULL);
}

static void
run(Loop *loop)
{
    struct epoll_event events[64];

    parent_store(loop);
    while (loop->finished < loop->children)
    {
        int n = epoll_wait(loop->epoll, events, 64, -1);
        bool parent = false;

        if (n < 0 && errno != EINTR)
            die("epoll_wait", NULL);
        for (int i = 0; i < n; i++)
        {
            if (events[i].data.u32 == MAX_SESSIONS)
                parent = true;
            else
                session_read(loop, &loop->sessions[events[i].data.u32]);
        }
        if (parent && parent_stored(loop))
        {
            loop->storing = false;
            loop->finished += loop->outcomes.count;
            for (int i = 0; i < loop->session_count; i++)
                if (loop->sessions[i].state == SESSION_STORING)
                    session_send(loop, &loop->sessions[i]);
        }
        if (!loop->storing && loop->ready > 0)
            parent_store(loop);
    }
}

/* bare_loop [-s] RUN CHILDREN SLOTS COMMAND PARENT SERVER … (connection strings) */
int
main(int argc, char **argv)
{
    Loop loop = {0};
    double start;
    double seconds;
    int servers;
    int slots;

    if (argc > 1 && strcmp(argv[1], "-s") == 0)
    {
        loop.service = true;
        argc--;
        argv++;
    }
    if (argc < 7)
    {
        fprintf(stderr, "usage: bare_loop [-s] RUN CHILDREN SLOTS COMMAND PARENT SERVER...\n");
        return 2;
    }
    loop.children = atoi(argv[2]);
    slots = atoi(argv[3]);
    loop.command = argv[4];
    servers = argc - 6;
    loop.session_count = servers * slots;
    if (loop.children < 1 || slots < 1 || loop.session_count > MAX_SESSIONS)
    {
        fprintf(stderr, "bare_loop: nothing to do, or more than %d sessions\n", MAX_SESSIONS);
        return 2;
    }
    array_init(&loop.intents, 4, MAX_SESSIONS);
    array_init(&loop.intent_servers, 4, MAX_SESSIONS);
    array_init(&loop.ids, 4, MAX_SESSIONS);
    array_init(&loop.id_servers, 4, MAX_SESSIONS);
    array_init(&loop.id_pids, 4, MAX_SESSIONS);
    array_init(&loop.id_xids, 8, MAX_SESSIONS);
    array_init(&loop.outcomes, 4, MAX_SESSIONS);

    parent_open(&loop, argv[5], atol(argv[1]));
    loop.epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(&loop, loop.parent, MAX_SESSIONS);
    loop.sessions = calloc((size_t) loop.session_count, sizeof(Session));
    if (!loop.sessions)
        die("out of memory", NULL);
    for (int i = 0; i < loop.session_count; i++)
    {
        session_open(&loop, &loop.sessions[i], i % servers + 1, argv[6 + i % servers]);
        watch(&loop, loop.sessions[i].conn, (uint32_t) i);
    }

    start = now_seconds();
    run(&loop);
    seconds = now_seconds() - start;
    printf("{\"children\": %d, \"seconds\": %.6f, \"rate\": %.1f, \"sessions\": %d, "
           "\"parent_commits\": %ld}\n",
           loop.finished, seconds, loop.finished / seconds, loop.session_count,
           loop.parent_commits);
    for (int i = 0; i < loop.session_count; i++)
        PQfinish(loop.sessions[i].conn);
    PQfinish(loop.parent);
    return 0;
}
