-- 10_tables.sql: the catalog.
--
-- Three schemas.  "fleet" is what users see: functions and views.  "fleet_link" has the functions that
-- only links of a parent and our own functions call.  "fleet_catalog" is where everything is stored;
-- only the agent and the functions of the extension read or write it.
--
-- Who writes what (so that the agent never waits for a user's open transaction):
--   sessions (through functions)  definitions and their versions; INSERT of renaming; INSERT of run, job_run, cancel_request, retry_request, purge_request, stat_reset,
--                                 definition, deployment; skip_request, pause; task_limit, quota, hook;
--                                 schedule, schedule_state; identity while it is paused
--   the agent, alone              INSERT of cancel_request for what another run replaces; every later change of run, task_run, job_run, step_run, log_line, deployment,
--                                 server_health, commits_itself, duration, schedule_failure, event, hook_state, hook_call, stat, agent; identity; DELETE of retry_request,
--                                 purge_request, stat_reset, renaming, and of runs and job runs, with all that belongs to them (rows that no
--                                 session holds), and of documents, that are kept no longer
--   fleet.confirm_identity('new')  what is open in a copy, while its agent is paused
--   links of a parent             job_run.acknowledged_at of final rows, parent; INSERT and DELETE of received
-- So a table in which the agent changes rows has no foreign key, which would lock them for a session, and no
-- unique key that a session and the agent could both be about to insert (test/t/042_locks.pl).
--
-- State codes are those of src/core/state.h: 1 queued, 2 starting, 3 running, 4 retrying,
-- 5 canceling; final: 11 succeeded, 12 failed, 13 canceled, 14 skipped, 15 lost, 16 unknown.

CREATE SCHEMA fleet;
CREATE SCHEMA fleet_link;
CREATE SCHEMA fleet_catalog;
REVOKE ALL ON SCHEMA fleet_catalog FROM PUBLIC;
GRANT USAGE ON SCHEMA fleet, fleet_link TO PUBLIC;

-- ---- started by a hook? ------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.hook_depth() RETURNS smallint
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_hook_depth';
COMMENT ON FUNCTION fleet_catalog.hook_depth() IS 'How many hooks, one after the other, have led to what this session does; 0: none. No setting, which a hook could change';

-- ---- roles in rows -----------------------------------------------------------------------------

-- regrole, but for roles that were dropped: they are no role, also in a dump that is restored where another role has the
-- number.  Values are oids; src/api/names.c.
CREATE TYPE fleet_catalog.role;
CREATE FUNCTION fleet_catalog.role_in(cstring) RETURNS fleet_catalog.role LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_role_in';
CREATE FUNCTION fleet_catalog.role_out(fleet_catalog.role) RETURNS cstring LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_role_out';
CREATE FUNCTION fleet_catalog.role_recv(internal) RETURNS fleet_catalog.role LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_role_recv';
CREATE FUNCTION fleet_catalog.role_send(fleet_catalog.role) RETURNS bytea LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_role_send';
CREATE TYPE fleet_catalog.role (INPUT = fleet_catalog.role_in, OUTPUT = fleet_catalog.role_out, RECEIVE = fleet_catalog.role_recv,
    SEND = fleet_catalog.role_send, INTERNALLENGTH = 4, PASSEDBYVALUE, ALIGNMENT = int4, CATEGORY = 'N');
COMMENT ON TYPE fleet_catalog.role IS 'A role; one that was dropped is read and written as -, no role';
COMMENT ON FUNCTION fleet_catalog.role_in(cstring) IS 'I/O of fleet_catalog.role';
COMMENT ON FUNCTION fleet_catalog.role_out(fleet_catalog.role) IS 'I/O of fleet_catalog.role';
COMMENT ON FUNCTION fleet_catalog.role_recv(internal) IS 'I/O of fleet_catalog.role';
COMMENT ON FUNCTION fleet_catalog.role_send(fleet_catalog.role) IS 'I/O of fleet_catalog.role';
CREATE CAST (fleet_catalog.role AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (fleet_catalog.role AS regrole) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (oid AS fleet_catalog.role) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (integer AS fleet_catalog.role) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (regrole AS fleet_catalog.role) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (fleet_catalog.role AS oid) IS 'The same value';
COMMENT ON CAST (fleet_catalog.role AS regrole) IS 'The same value';
COMMENT ON CAST (oid AS fleet_catalog.role) IS 'The same value';
COMMENT ON CAST (integer AS fleet_catalog.role) IS 'The same value';
COMMENT ON CAST (regrole AS fleet_catalog.role) IS 'The same value';

-- A server of the fleet is this very foreign server, not another one that takes its name.
CREATE TYPE fleet_catalog.foreign_server;
CREATE FUNCTION fleet_catalog.foreign_server_in(cstring) RETURNS fleet_catalog.foreign_server LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_foreign_server_in';
CREATE FUNCTION fleet_catalog.foreign_server_out(fleet_catalog.foreign_server) RETURNS cstring LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_foreign_server_out';
CREATE FUNCTION fleet_catalog.foreign_server_recv(internal) RETURNS fleet_catalog.foreign_server LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_foreign_server_recv';
CREATE FUNCTION fleet_catalog.foreign_server_send(fleet_catalog.foreign_server) RETURNS bytea LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_foreign_server_send';
CREATE TYPE fleet_catalog.foreign_server (INPUT = fleet_catalog.foreign_server_in, OUTPUT = fleet_catalog.foreign_server_out,
    RECEIVE = fleet_catalog.foreign_server_recv, SEND = fleet_catalog.foreign_server_send,
    INTERNALLENGTH = 4, PASSEDBYVALUE, ALIGNMENT = int4, CATEGORY = 'N');
COMMENT ON TYPE fleet_catalog.foreign_server IS 'A foreign server; one that was dropped is read and written as -, none';
COMMENT ON FUNCTION fleet_catalog.foreign_server_in(cstring) IS 'I/O of fleet_catalog.foreign_server';
COMMENT ON FUNCTION fleet_catalog.foreign_server_out(fleet_catalog.foreign_server) IS 'I/O of fleet_catalog.foreign_server';
COMMENT ON FUNCTION fleet_catalog.foreign_server_recv(internal) IS 'I/O of fleet_catalog.foreign_server';
COMMENT ON FUNCTION fleet_catalog.foreign_server_send(fleet_catalog.foreign_server) IS 'I/O of fleet_catalog.foreign_server';
CREATE CAST (fleet_catalog.foreign_server AS oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (oid AS fleet_catalog.foreign_server) WITHOUT FUNCTION AS ASSIGNMENT;
COMMENT ON CAST (fleet_catalog.foreign_server AS oid) IS 'The same value';
COMMENT ON CAST (oid AS fleet_catalog.foreign_server) IS 'The same value';

-- ---- who we are --------------------------------------------------------------------------------

CREATE TABLE fleet_catalog.identity (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    parent_uuid       uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
    system_identifier bigint NOT NULL,      -- of the cluster where the uuid was made ...
    database          oid NOT NULL,         -- ... and the database
    epoch_base        bigint NOT NULL DEFAULT 0, -- what a restored copy counts on from
    last_epoch        bigint NOT NULL DEFAULT 0, -- of the agent that ran last
    paused_reason     text,                 -- not null: the agent starts nothing
    pg_major          integer NOT NULL DEFAULT pg_catalog.current_setting('server_version_num')::integer / 10000, -- pg_upgrade gives foreign servers other numbers
    secret            uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() -- goes into tokens: who knows a run does not know them
);
COMMENT ON TABLE fleet_catalog.identity IS 'Identity of this parent: made once, by the first agent; a copy of it starts paused';

CREATE TABLE fleet_catalog.agent (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    pid        integer NOT NULL DEFAULT 0,
    shared     bigint NOT NULL DEFAULT 0,   -- dsm_handle of the agent's shared memory
    starts     bigint NOT NULL DEFAULT 0,   -- counter: low half of the epoch
    epoch      bigint NOT NULL DEFAULT 0,   -- timeline << 32 | starts
    started_at timestamptz,
    last_sqlstate text,                     -- what the last one that failed ended by
    last_error    text,
    last_error_at timestamptz
) WITH (fillfactor = 10);
COMMENT ON TABLE fleet_catalog.agent IS 'The agent of this database: its process, shared memory and epoch';
INSERT INTO fleet_catalog.agent DEFAULT VALUES;

-- An empty table that the agent keeps locked (ACCESS SHARE) while it lives: DROP EXTENSION runs
-- into it, and the agent leaves (see src/agent/main.c).
CREATE TABLE fleet_catalog.sentinel ();
COMMENT ON TABLE fleet_catalog.sentinel IS 'Locked by the agent while it lives, so that DROP EXTENSION can ask it to leave';

-- ---- servers -----------------------------------------------------------------------------------

CREATE TABLE fleet_catalog.server (
    server_id integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name      name NOT NULL UNIQUE,         -- of the foreign server; follows it
    foreign_server fleet_catalog.foreign_server NOT NULL, -- -: it was dropped, and nothing can take its place but by register_server
    former_names name[] NOT NULL DEFAULT '{}', -- for runs that were begun before it was renamed
    named_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(), -- since when it has this name
    mode      text NOT NULL DEFAULT 'agent' CHECK (mode IN ('agent', 'direct')),
    state     text NOT NULL DEFAULT 'online' CHECK (state IN ('online', 'draining', 'offline')),
    slots     integer NOT NULL DEFAULT 4 CHECK (slots BETWEEN 0 AND 10000),
    weight    double precision NOT NULL DEFAULT 1 CHECK (weight > 0 AND weight <= 1e6),
    groups    text[] NOT NULL DEFAULT '{}',
    made_here boolean NOT NULL DEFAULT false, -- add_server made the foreign server
    owner     fleet_catalog.role NOT NULL
);
COMMENT ON TABLE fleet_catalog.server IS 'What makes a foreign server a server of the fleet';

-- A group is what servers have it among their groups; it has a row from the first use of its name on.
CREATE TABLE fleet_catalog.server_group (
    name  text PRIMARY KEY CHECK (name <> '' AND pg_catalog.length(name) <= 200),
    owner fleet_catalog.role NOT NULL,                 -- only its members put servers into the group
    named_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE fleet_catalog.server_group IS 'Groups of servers, and whose they are';

-- Rows of runs that are over name servers that may have been removed since.
CREATE TABLE fleet_catalog.former_server (
    server_id integer NOT NULL,
    name      name NOT NULL,
    owner     fleet_catalog.role NOT NULL,  -- nobody else takes the name while tasks or open runs use it
    removed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    is_last   boolean NOT NULL DEFAULT true -- it had this name in the end
);
COMMENT ON TABLE fleet_catalog.former_server IS 'Names of servers that were removed, for the history';

CREATE VIEW fleet_catalog.server_name AS
SELECT s.server_id, s.name FROM fleet_catalog.server AS s
UNION ALL
SELECT f.server_id, f.name FROM fleet_catalog.former_server AS f WHERE f.is_last;
COMMENT ON VIEW fleet_catalog.server_name IS 'The name of each server, also of those that were removed';

CREATE TABLE fleet_catalog.server_health (
    server_id         integer PRIMARY KEY,
    status            text NOT NULL DEFAULT 'unknown', -- unknown | up | suspect | auth_failed (the login) | refused (something else)
    last_seen         timestamptz,
    last_error        text,
    last_error_at     timestamptz,
    version           text,                 -- server_version of the other side
    system_identifier bigint,               -- null: not readable there
    timeline          integer,
    crash_mark        text,                 -- changes when the server recovers from a crash (link/self.c)
    speed_log         double precision NOT NULL DEFAULT 0,  -- FleetSpeed
    speed_evidence    double precision NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE fleet_catalog.server_health IS 'What the agent knows of each server; written by the agent only';

CREATE TABLE fleet_catalog.commits_itself (
    server_id    integer NOT NULL,          -- 0: this one
    command_hash bigint NOT NULL,           -- fleet_command_hash() of the step's text
    found_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (server_id, command_hash)
);
COMMENT ON TABLE fleet_catalog.commits_itself IS 'Commands that were found to commit by themselves: they are not begun in a transaction again; written by the agent only';

-- ---- definitions -------------------------------------------------------------------------------

CREATE TABLE fleet_catalog.job (
    job_id        integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (name <> '' AND pg_catalog.length(name) <= 200),
    owner         fleet_catalog.role NOT NULL,
    description   text NOT NULL DEFAULT '',
    params        jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(params) = 'object'),
    leaves_clean  boolean NOT NULL DEFAULT false, -- its steps leave nothing in their session
    deployed_from uuid,                     -- parent that deployed it; null: defined here
    enabled       boolean NOT NULL DEFAULT true, -- false: tasks that run it are skipped
    changed_at    timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE fleet_catalog.job IS 'Agent jobs: ordered steps';

CREATE TABLE fleet_catalog.step (
    job_id        integer NOT NULL REFERENCES fleet_catalog.job ON DELETE CASCADE,
    step_no       integer NOT NULL CHECK (step_no BETWEEN 1 AND 1000),
    name          text NOT NULL CHECK (name <> '' AND pg_catalog.length(name) <= 200),
    command       text,                     -- SQL, or ...
    package       text,                     -- ... a package
    on_success    text NOT NULL DEFAULT 'next' CHECK (on_success IN ('next', 'quit_success', 'quit_failure', 'goto')),
    success_goto  text,                     -- name of a step
    on_failure    text NOT NULL DEFAULT 'quit_failure' CHECK (on_failure IN ('next', 'quit_success', 'quit_failure', 'goto')),
    failure_goto  text,
    retries       integer NOT NULL DEFAULT 0 CHECK (retries BETWEEN 0 AND 1000),
    retry_wait    interval NOT NULL DEFAULT '5s',
    retry_max     interval NOT NULL DEFAULT '5min',
    retry_states  text[],                   -- SQLSTATEs or classes, '!' excludes; null: the default rule
    timeout       interval,
    on_unknown    text NOT NULL DEFAULT 'fail' CHECK (on_unknown IN ('fail', 'retry')),
    transactional boolean,                  -- null: found out
    single        boolean NOT NULL DEFAULT false, -- the command is one statement (found at definition)
    run_as        fleet_catalog.role,
    enabled       boolean NOT NULL DEFAULT true, -- false: passed over
    PRIMARY KEY (job_id, step_no),
    UNIQUE (job_id, name),
    CHECK ((command IS NULL) <> (package IS NULL)),
    CHECK ((on_success = 'goto') = (success_goto IS NOT NULL)),
    CHECK ((on_failure = 'goto') = (failure_goto IS NOT NULL))
);
COMMENT ON TABLE fleet_catalog.step IS 'Steps of the agent jobs';

CREATE TABLE fleet_catalog.package (
    package_id    integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (name <> '' AND pg_catalog.length(name) <= 200),
    owner         fleet_catalog.role NOT NULL,
    description   text NOT NULL DEFAULT '',
    params        jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(params) = 'object'),
    overlap       text NOT NULL DEFAULT 'parallel' CHECK (overlap IN ('parallel', 'skip', 'queue', 'replace')),
    priority      integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN -1000 AND 1000),
    failed_if     text NOT NULL DEFAULT 'unhandled' CHECK (failed_if IN ('unhandled', 'any')), -- which failed tasks fail a run
    max_parallel  integer CHECK (max_parallel BETWEEN 1 AND 10000), -- overlap parallel and queue: so many runs at a time
    timeout       interval CHECK (timeout > '0'), -- of its runs
    deadline      interval CHECK (deadline > '0'), -- ... after their start, when they are late
    deployed_from uuid,
    -- The tasks in a container are a package too (29_container.sql): of this task, which is in that package, ...
    container_of   integer REFERENCES fleet_catalog.package ON DELETE CASCADE,
    container_task text,
    root_id        integer REFERENCES fleet_catalog.package ON DELETE CASCADE, -- ... and a part of this one, which is no container
    CONSTRAINT package_container UNIQUE (container_of, container_task),
    CHECK (pg_catalog.num_nulls(container_of, container_task, root_id) IN (0, 3)),
    enabled       boolean NOT NULL DEFAULT true, -- false: not run; tasks and steps that run it are skipped
    changed_at    timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE fleet_catalog.package IS 'Packages: graphs of tasks; also the tasks of each container';
CREATE INDEX package_root ON fleet_catalog.package (root_id) WHERE root_id IS NOT NULL;

-- Without a row, or for what is null: the setting fleet.keep_days.
CREATE TABLE fleet_catalog.retention (
    package_id       integer PRIMARY KEY REFERENCES fleet_catalog.package ON DELETE CASCADE,
    keep_days        integer CHECK (keep_days BETWEEN -1 AND 36500),
    keep_runs        integer CHECK (keep_runs BETWEEN 1 AND 1000000),
    keep_failed_days integer CHECK (keep_failed_days BETWEEN -1 AND 36500)
);
COMMENT ON TABLE fleet_catalog.retention IS 'How long the runs of a package are kept';

CREATE TABLE fleet_catalog.task (
    package_id   integer NOT NULL REFERENCES fleet_catalog.package ON DELETE CASCADE,
    task_no      integer NOT NULL CHECK (task_no >= 0), -- order of definition, from 0
    name         text NOT NULL CHECK (name <> '' AND pg_catalog.length(name) <= 200),
    kind         text NOT NULL CHECK (kind IN ('job', 'sql', 'package')),
    job          text,
    server       name,                      -- kind job: pinned to this server, or ...
    on_group     text,                      -- ... placed on a member of this group; both null: it runs here
    sql          text,
    package      text,
    params       jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(params) = 'object'),
    for_each     text,                      -- query; each row (or its jsonb) is an item's params
    cost         text,                      -- ... that of these which says how big the item is
    item_key     text,                      -- ... and that by which it is known, in logs and from run to run
    throttle     integer NOT NULL DEFAULT 0 CHECK (throttle >= 0),
    completion   text NOT NULL DEFAULT 'continue' CHECK (completion IN ('fail_fast', 'continue', 'minimum_share', 'started')),
    min_share    double precision NOT NULL DEFAULT 1 CHECK (min_share BETWEEN 0 AND 1),
    balance      text NOT NULL DEFAULT 'shortest_finish' CHECK (balance IN ('shortest_finish', 'round_robin', 'least_loaded', 'weighted')),
    join_type    text NOT NULL DEFAULT 'all' CHECK (join_type IN ('all', 'any')),
    on_lost      text NOT NULL DEFAULT 'fail' CHECK (on_lost IN ('fail', 'retry')),
    retries      integer NOT NULL DEFAULT 0 CHECK (retries BETWEEN 0 AND 1000),
    retry_wait   interval NOT NULL DEFAULT '5s',
    retry_max    interval NOT NULL DEFAULT '5min',
    retry_states text[],
    timeout      interval,
    transactional boolean,                  -- of kind sql; null: found out
    enabled      boolean NOT NULL DEFAULT true, -- false: skipped in its turn, and what follows continues
    final        boolean NOT NULL DEFAULT false, -- begins when all others have ended, whatever happened
    catch        boolean NOT NULL DEFAULT false, -- a handler: executed once for each failure that no edge handles
    limits       text[] NOT NULL DEFAULT '{}', -- named limits (37_limit.sql)
    PRIMARY KEY (package_id, task_no),
    UNIQUE (package_id, name),
    CHECK (NOT catch OR NOT final AND for_each IS NULL AND completion <> 'fail_fast'),
    CHECK (pg_catalog.num_nonnulls(job, sql, package) = 1),
    CHECK (kind <> 'job' OR pg_catalog.num_nonnulls(server, on_group) <= 1),
    CHECK (kind = 'job' OR pg_catalog.num_nonnulls(server, on_group) = 0),
    CHECK (for_each IS NOT NULL OR pg_catalog.num_nonnulls(cost, item_key) = 0),
    CONSTRAINT task_kind_work CHECK (CASE kind WHEN 'job' THEN job IS NOT NULL WHEN 'sql' THEN sql IS NOT NULL WHEN 'package' THEN package IS NOT NULL ELSE true END)
);
COMMENT ON TABLE fleet_catalog.task IS 'Tasks of the packages';

CREATE TABLE fleet_catalog.precedence (
    package_id integer NOT NULL REFERENCES fleet_catalog.package ON DELETE CASCADE,
    from_task  text NOT NULL,
    to_task    text NOT NULL,
    on_outcome text NOT NULL DEFAULT 'success' CHECK (on_outcome IN ('success', 'failure', 'completion')),
    condition  text,                        -- SQL expression, evaluated as the run's owner
    PRIMARY KEY (package_id, from_task, to_task),
    FOREIGN KEY (package_id, from_task) REFERENCES fleet_catalog.task (package_id, name) ON UPDATE CASCADE ON DELETE CASCADE,
    FOREIGN KEY (package_id, to_task) REFERENCES fleet_catalog.task (package_id, name) ON UPDATE CASCADE ON DELETE CASCADE,
    CHECK (from_task <> to_task)
);
COMMENT ON TABLE fleet_catalog.precedence IS 'Precedence constraints between the tasks of a package';

-- A run keeps what it was started with: documents addressed by their content.
CREATE TABLE fleet_catalog.definition (
    hash uuid PRIMARY KEY,                  -- first 16 bytes of sha256 of the body's text (or random)
    kind text NOT NULL CHECK (kind IN ('package', 'job', 'received')),
    body jsonb NOT NULL,
    version integer                         -- of the package
);
COMMENT ON TABLE fleet_catalog.definition IS 'Snapshots of packages and jobs as runs used them; received: of a job, as a parent sent it';

-- As a child: documents of jobs that parents sent along with starts.  A start names one by its hash, and only what came over
-- links of its own role counts.  Each may go at any time: a start that does not find its document is told so, and it comes again.
CREATE TABLE fleet_catalog.received (
    role        fleet_catalog.role NOT NULL, -- as which the link logged in; it owns the job runs
    hash        uuid NOT NULL,              -- as the parent names it
    definition  uuid NOT NULL,              -- fleet_catalog.definition.hash; the same, as a rule
    job         text NOT NULL,
    params      jsonb NOT NULL,             -- the job's own
    parent_uuid uuid NOT NULL,              -- who sent it first
    received_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (role, hash)
);
CREATE INDEX received_definition ON fleet_catalog.received (definition); -- is a document still used?
COMMENT ON TABLE fleet_catalog.received IS 'Documents of jobs that parents sent along with starts, by the role of the link';

-- Tasks of the package documents, so that views need not open a document for every row.
CREATE TABLE fleet_catalog.definition_task (
    hash     uuid NOT NULL,
    task_no  integer NOT NULL,
    name     text NOT NULL,
    kind     text NOT NULL,
    job      text,
    package  text,
    for_each boolean NOT NULL,              -- it has items, or is a handler, whose items are its executions
    final    boolean NOT NULL DEFAULT false,
    catch    boolean NOT NULL DEFAULT false,
    job_hash uuid,                          -- of the document of its job; null: not defined here, or used by name
    limits   text[],                        -- named limits; null: none
    PRIMARY KEY (hash, task_no)
);
COMMENT ON TABLE fleet_catalog.definition_task IS 'Tasks of the package snapshots, written with them';

-- A row for each request; when the agent takes up one, it deletes the earlier ones of its server and job,
-- and those of servers that are gone.
CREATE TABLE fleet_catalog.deployment (
    deployment_id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    server_id   integer NOT NULL,
    job         text NOT NULL,
    owner       fleet_catalog.role NOT NULL,
    hash        uuid NOT NULL,              -- of the document that was asked to be there
    document    jsonb NOT NULL,             -- undeploy: only its name
    action      text NOT NULL DEFAULT 'deploy' CHECK (action IN ('deploy', 'replace', 'undeploy')), -- replace: also what another parent has deployed
    state       text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'deployed', 'failed', 'removed')),
    message     text,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    deployed_at timestamptz                 -- undeploy: of what is to be removed; null: it was not deployed from here
);
CREATE INDEX deployment_server ON fleet_catalog.deployment (server_id, job);
CREATE INDEX deployment_queued ON fleet_catalog.deployment (deployment_id) WHERE state = 'queued';
COMMENT ON TABLE fleet_catalog.deployment IS 'Jobs deployed to servers, with the version that each has';

-- ---- runs --------------------------------------------------------------------------------------

CREATE TABLE fleet_catalog.run (
    run_id            bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    run_uuid          uuid UNIQUE DEFAULT pg_catalog.gen_random_uuid(), -- null: follows from run_key and an identity that is not there yet
    package           text NOT NULL,
    definition        uuid NOT NULL,
    owner             fleet_catalog.role NOT NULL,     -- whose rights the run has
    requested_by      name NOT NULL DEFAULT SESSION_USER,
    state             smallint NOT NULL DEFAULT 1 CHECK (state IN (1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16)),
    priority          integer NOT NULL DEFAULT 0,
    params            jsonb NOT NULL DEFAULT '{}',
    run_key           text,
    parent_run_id     bigint,               -- nested: started by this task ...
    parent_task_no    integer,
    parent_item       integer,
    parent_job_run_id bigint,               -- ... or by the step of this job run
    queued_at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at        timestamptz,
    finished_at       timestamptz,
    message           text,
    restart_of        bigint,               -- the run that it restarts ...
    restart_unknown   text,                 -- ... with what was lost or unknown there: 'run' again, or 'succeeded'
    restart_definition text,                -- ... with the definition of that run ('same'), or the 'current' one
    restart_from      text,                 -- ... from this task on, or path of one; null: what did not succeed
    job_run_id        bigint,               -- it is one job, which start_job() or execute_job() began, under this number; package is ''
    job               text,                 -- ... and this one
    scheduled_for     timestamptz,          -- a schedule, or a backfill, started it for this time
    CHECK ((package = '') = (job IS NOT NULL) AND (job IS NULL) = (job_run_id IS NULL)),
    package_id        integer,              -- runs with the same one share a limit, below 0: that of a backfill; null: nested, does not count
    max_parallel      integer NOT NULL DEFAULT 0, -- that limit as it was asked for, if the package is gone; 0: none
    replaces          boolean NOT NULL DEFAULT false, -- takes the place of those that are open
    run_at            timestamptz,          -- not to begin before this
    timeout           interval,             -- from started_at
    deadline          timestamptz,          -- late if it is not over by then ...
    deadline_after    interval,             -- ... or, without that, so long after started_at
    timed_out         boolean NOT NULL DEFAULT false, -- stopped because of its timeout
    expected_late_at  timestamptz,          -- since when it was expected to miss its deadline
    late_at           timestamptz,          -- when it was found to have missed it
    hook_depth        smallint NOT NULL DEFAULT fleet_catalog.hook_depth(), -- so many hooks, one after the other, have led to it
    CHECK (run_uuid IS NOT NULL OR run_key IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX run_open ON fleet_catalog.run (package_id, run_id) WHERE state < 11;
CREATE INDEX run_open_owner ON fleet_catalog.run (owner) WHERE state < 11 AND parent_run_id IS NULL AND parent_job_run_id IS NULL; -- what quotas count
-- A restart has the key of the run that it restarts.
CREATE UNIQUE INDEX run_run_key ON fleet_catalog.run (package, run_key) WHERE run_key IS NOT NULL AND restart_of IS NULL;
CREATE INDEX run_package ON fleet_catalog.run ((NULLIF(package, '')), run_id); -- as views show it
CREATE INDEX run_nested ON fleet_catalog.run (parent_run_id) WHERE parent_run_id IS NOT NULL; -- what belongs to a run
CREATE INDEX run_job_run ON fleet_catalog.run (job_run_id) WHERE job_run_id IS NOT NULL;
CREATE INDEX run_definition ON fleet_catalog.run (definition); -- is a document still used?
-- One restart a run, except of nested ones: each attempt of their task is one.  The agent inserts only those.
CREATE UNIQUE INDEX run_restart ON fleet_catalog.run (restart_of) WHERE restart_of IS NOT NULL AND parent_run_id IS NULL;
COMMENT ON TABLE fleet_catalog.run IS 'One row an execution of a package';

-- task_run, job_run, step_run and log_line have no CHECK constraints: the server compiles them again
-- in every transaction that writes, and only the agent (and links, into job_run) write here.
--
-- Columns that never change come first: an update then logs only what follows them.  The fillfactor
-- leaves room for the versions of a start and of an end in the same page (HOT).
CREATE TABLE fleet_catalog.task_run (
    run_id      bigint NOT NULL,
    task_no     integer NOT NULL,
    item        integer NOT NULL,           -- 0: the task as a whole; for_each: 1...n
    queued_at   timestamptz NOT NULL,
    params      jsonb,                      -- an item's own parameters, or the failure that it handles; item 0: the task's own, if they had templates
    item_key    text,                       -- what the item is known by, out of its parameters; null: by these
    cost        double precision,           -- how big it is, out of its parameters; null: not known
    log_seq     integer NOT NULL DEFAULT 0, -- log lines of earlier attempts (seq of this attempt counts from there)
    state       smallint NOT NULL DEFAULT 1,
    attempt     smallint NOT NULL DEFAULT 0,
    failures    smallint NOT NULL DEFAULT 0, -- how many of the attempts used up a retry
    server_id   integer,
    started_at  timestamptz,
    finished_at timestamptz,                -- retrying: when the retry is due
    row_count   bigint,
    sqlstate    text,
    message     text,
    output      text,
    carried_from bigint,                    -- succeeded without a start: the run in which it did; queued: whose items or nested
                                            -- run it takes over when it begins
    definition  uuid,                       -- of a job that is not defined here: the version that the server ran
    ended_as    smallint GENERATED ALWAYS AS (CASE WHEN state > 11 THEN state END) STORED, -- how it ended, unless it succeeded (59_found.sql)
    PRIMARY KEY (run_id, task_no, item)
) WITH (fillfactor = 30);
COMMENT ON TABLE fleet_catalog.task_run IS 'One row a task of a run, or an item of its for_each';

CREATE TABLE fleet_catalog.condition_result (
    run_id    bigint NOT NULL,
    from_task integer NOT NULL,
    to_task   integer NOT NULL,
    holds     boolean NOT NULL,
    PRIMARY KEY (run_id, from_task, to_task)
);
COMMENT ON TABLE fleet_catalog.condition_result IS 'Conditions of precedence constraints, as evaluated';

CREATE TABLE fleet_catalog.job_run (
    job_run_id      bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    token           uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE,
    job             text NOT NULL,
    definition      uuid NOT NULL,
    owner           fleet_catalog.role NOT NULL,
    requested_by    name NOT NULL DEFAULT SESSION_USER,
    state           smallint NOT NULL DEFAULT 1,
    parent_uuid     uuid,                   -- started by this parent; null: start_job here
    step_no         smallint NOT NULL DEFAULT 0,  -- durable FleetJobRun: current step (1...), its attempt,
    attempt         smallint NOT NULL DEFAULT 0,
    step_runs       integer NOT NULL DEFAULT 0,   -- and how many steps so far
    log_seq         integer NOT NULL DEFAULT 0,   -- log lines written so far
    sqlstate        text,
    row_count       bigint,
    queued_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_at      timestamptz,
    finished_at     timestamptz,
    acknowledged_at timestamptz,            -- the parent has it all
    params          jsonb NOT NULL DEFAULT '{}',
    message         text,
    output          text,
    parent_role     fleet_catalog.role,                -- as which the parent's link logged in here
    context         jsonb,                  -- fleet.context of its steps, as the parent gave it; null: started here
    hook_depth      smallint NOT NULL DEFAULT fleet_catalog.hook_depth(), -- as of a run
    ended_as        smallint GENERATED ALWAYS AS (CASE WHEN state > 11 THEN state END) STORED
) WITH (fillfactor = 70);
-- finished_at and not state: an index that looks at state would be written at each change of it.
CREATE INDEX job_run_open ON fleet_catalog.job_run (job_run_id) WHERE finished_at IS NULL;
CREATE INDEX job_run_open_owner ON fleet_catalog.job_run (owner) WHERE finished_at IS NULL AND parent_uuid IS NULL;
CREATE INDEX job_run_definition ON fleet_catalog.job_run (definition);
CREATE INDEX job_run_unborn ON fleet_catalog.job_run (owner) WHERE job = ''; -- canceled before they arrived
COMMENT ON TABLE fleet_catalog.job_run IS 'One row an execution of a job by this agent (start_job, or a parent in mode agent)';

-- Steps of task runs (run_id ...) and of job runs (job_run_id): exactly one of both.
CREATE TABLE fleet_catalog.step_run (
    run_id      bigint,
    job_run_id  bigint,
    started_at  timestamptz NOT NULL,
    task_no     integer,
    item        integer,
    first_seq   integer NOT NULL,           -- place of its "started" line in the log
    server_id   integer,                    -- where it ran; null: here
    task_attempt smallint NOT NULL DEFAULT 1, -- attempt of the task run
    step_no     smallint NOT NULL,          -- 1...; sql task: 1
    attempt     smallint NOT NULL,          -- of the step
    step        text NOT NULL,              -- its name
    backend_pid integer,                    -- mode direct: the session there
    xid         bigint,                     -- its transaction, durable before COMMIT was sent ...
    server_system   bigint,                 -- ... and, mode direct, the history in which the id has a meaning:
    server_timeline integer,                --     that of the server as its session knew it (server_health
    server_crash    text,                   --     may know a newer one already)
    state       smallint NOT NULL,
    phase       smallint NOT NULL,          -- FleetExecPhase
    last_seq    integer,                    -- of its "ended" line
    finished_at timestamptz,
    row_count   bigint,
    sqlstate    text,
    message     text,
    detail      text,
    hint        text,
    context     text,
    output      text,
    ended_as    smallint GENERATED ALWAYS AS (CASE WHEN state > 11 THEN state END) STORED
) WITH (fillfactor = 50);
-- It has no key that fits all of its rows; without this, a publication FOR ALL TABLES would make its
-- updates fail.  Costs nothing unless one publishes it.
ALTER TABLE fleet_catalog.step_run REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX step_run_task ON fleet_catalog.step_run (run_id, task_no, item, first_seq) WHERE run_id IS NOT NULL;
CREATE UNIQUE INDEX step_run_job ON fleet_catalog.step_run (job_run_id, first_seq) WHERE job_run_id IS NOT NULL;
COMMENT ON TABLE fleet_catalog.step_run IS 'One row an attempt of a step';

CREATE TABLE fleet_catalog.log_line (
    run_id     bigint,
    job_run_id bigint,
    task_no    integer,
    item       integer,
    step_no    smallint,
    seq        integer NOT NULL,            -- gapless together with first_seq and last_seq of the steps
    logged_at  timestamptz NOT NULL,
    level      text NOT NULL,               -- DEBUG, LOG, INFO, NOTICE, WARNING, ERROR
    sqlstate   text,
    message    text NOT NULL,
    detail     text,
    hint       text,
    context    text
);
CREATE INDEX log_line_task ON fleet_catalog.log_line (run_id, task_no, item) WHERE run_id IS NOT NULL;
CREATE INDEX log_line_job ON fleet_catalog.log_line (job_run_id, seq) WHERE job_run_id IS NOT NULL;
-- For publications of all tables, when rows go: neither has a key that all its rows have.
ALTER TABLE fleet_catalog.log_line REPLICA IDENTITY FULL;
COMMENT ON TABLE fleet_catalog.log_line IS 'What the steps said; their start and end lines are in step_run';

CREATE TABLE fleet_catalog.cancel_request (
    run_id       bigint,
    job_run_id   bigint,
    requested_by name NOT NULL DEFAULT SESSION_USER,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    final_tasks  boolean NOT NULL DEFAULT true, -- false: the final tasks of the run are not run, or stopped too
    CHECK ((run_id IS NULL) <> (job_run_id IS NULL))
);
CREATE INDEX cancel_request_run ON fleet_catalog.cancel_request (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX cancel_request_job ON fleet_catalog.cancel_request (job_run_id) WHERE job_run_id IS NOT NULL;
ALTER TABLE fleet_catalog.cancel_request REPLICA IDENTITY FULL;
COMMENT ON TABLE fleet_catalog.cancel_request IS 'Durable intents to cancel; inserted by sessions, so that no open transaction blocks the agent';

-- What is asked of a run that goes on (44_steer.sql).
CREATE TABLE fleet_catalog.skip_request (
    run_id       bigint NOT NULL,
    task_no      integer NOT NULL,
    item         integer NOT NULL,          -- 0: the task
    reason       text,
    requested_by name NOT NULL DEFAULT SESSION_USER,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (run_id, task_no, item)
);
COMMENT ON TABLE fleet_catalog.skip_request IS 'Task runs that are to be left out; written by sessions, and deleted by the agent with a run that is purged';

CREATE TABLE fleet_catalog.retry_request (
    request_id   bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    run_id       bigint NOT NULL,
    task_no      integer NOT NULL,
    item         integer NOT NULL,          -- 0: the task, with all its items
    requested_by name NOT NULL DEFAULT SESSION_USER,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE fleet_catalog.retry_request IS 'Task runs that are to be started once more; inserted by sessions, deleted by the agent when it has done so';

-- Of jobs that were started with a run key.  A number may be that of a job run that was purged since.
CREATE TABLE fleet_catalog.job_key (
    job        text NOT NULL,
    run_key    text NOT NULL,
    owner      fleet_catalog.role NOT NULL, -- whose job runs they are: nobody takes the key of another one's job, or of a job that only a server has
    job_run_id bigint NOT NULL,
    uses       integer NOT NULL DEFAULT 1,  -- how many job runs have had the key, one after the other
    PRIMARY KEY (job, run_key, owner)
);
COMMENT ON TABLE fleet_catalog.job_key IS 'Run keys of job runs; written by sessions';

-- History that goes (57_history.sql).
CREATE TABLE fleet_catalog.purged (
    run_id     bigint,
    job_run_id bigint,
    CHECK ((run_id IS NULL) <> (job_run_id IS NULL))
);
ALTER TABLE fleet_catalog.purged REPLICA IDENTITY FULL;
COMMENT ON TABLE fleet_catalog.purged IS 'Runs and job runs that were deleted, as long as there are rows that belonged to them';

-- Run keys whose runs are gone: how many of them there were.
CREATE TABLE fleet_catalog.used_key (
    package text NOT NULL,
    run_key text NOT NULL,
    uses    integer NOT NULL DEFAULT 1,
    PRIMARY KEY (package, run_key)
);
COMMENT ON TABLE fleet_catalog.used_key IS 'Run keys of runs that were deleted: another run with the key has other tokens';

CREATE TABLE fleet_catalog.purge_request (
    purge_id     bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    before       timestamptz,               -- all that ended before this; null: by the rules
    requested_by name NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE fleet_catalog.purge_request IS 'Purges that were asked for; inserted by sessions, so that no open transaction blocks the agent';

CREATE TABLE fleet_catalog.pause (
    pause_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    run_id    bigint,                       -- this run, ...
    package   text REFERENCES fleet_catalog.package (name) ON UPDATE CASCADE ON DELETE CASCADE, -- ... the queued runs of this package, ...
    on_group  text REFERENCES fleet_catalog.server_group (name) ON UPDATE CASCADE ON DELETE CASCADE, -- ... or the servers of this group
    reason    text,
    paused_by name NOT NULL DEFAULT SESSION_USER,
    paused_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CHECK (pg_catalog.num_nonnulls(run_id, package, on_group) <= 1) -- none: everything
);
CREATE UNIQUE INDEX pause_what ON fleet_catalog.pause (coalesce(run_id, 0), coalesce(package, ''), coalesce(on_group, ''));
CREATE INDEX pause_run ON fleet_catalog.pause (run_id) WHERE run_id IS NOT NULL;
COMMENT ON TABLE fleet_catalog.pause IS 'What is paused, by whom and why; written by sessions, and deleted by the agent with a run that is purged';

CREATE VIEW fleet_catalog.pause_said AS
SELECT p.*, CASE WHEN p.run_id IS NOT NULL THEN 'run ' || p.run_id::text WHEN p.package IS NOT NULL THEN pg_catalog.format('package "%s"', p.package)
                 WHEN p.on_group IS NOT NULL THEN pg_catalog.format('group "%s"', p.on_group) ELSE 'everything' END
            || pg_catalog.format(' is paused by %s', p.paused_by) || coalesce(': ' || p.reason, '') AS said
  FROM fleet_catalog.pause AS p;
COMMENT ON VIEW fleet_catalog.pause_said IS 'Pauses, with what is said of work that waits for their ends';

-- Objects over which an agent has ended by an ERROR (src/agent/quarantine.c).
CREATE TABLE fleet_catalog.quarantine (
    kind     text NOT NULL CHECK (kind IN ('run', 'job run', 'server', 'deployment')),
    id       bigint NOT NULL,
    ends     integer NOT NULL DEFAULT 1,    -- agents that ended, one after the other
    work     text NOT NULL,                 -- what the last one was doing with it
    sqlstate text NOT NULL,
    message  text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    last_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (kind, id)
);
COMMENT ON TABLE fleet_catalog.quarantine IS 'Objects over which an agent has ended by an ERROR; the third time they fail';

CREATE TABLE fleet_catalog.quarantine_lift (
    kind      text NOT NULL,
    id        bigint NOT NULL,
    lifted_by name NOT NULL DEFAULT SESSION_USER,
    lifted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE fleet_catalog.quarantine_lift IS 'Quarantine that is to be lifted; inserted by sessions, so that no open transaction blocks the agent';

-- ---- what the agent learned --------------------------------------------------------------------

CREATE TABLE fleet_catalog.duration (
    package    text NOT NULL,               -- '' with task '': by job
    task       text NOT NULL,
    item_key   text NOT NULL,               -- '' : by (package, task)
    job        text NOT NULL DEFAULT '',
    log_mean   double precision NOT NULL,
    log_spread double precision NOT NULL,
    samples    integer NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT pg_catalog.now(), -- when work of it ended last
    PRIMARY KEY (package, task, item_key, job)
) WITH (fillfactor = 70);
COMMENT ON TABLE fleet_catalog.duration IS 'Learned durations (FleetEstimate) by item, by task and by job';

-- ---- as a child: parents that were here --------------------------------------------------------

-- By role too: only a role's own links can raise the epoch that fences its links.
CREATE TABLE fleet_catalog.parent (
    parent_uuid uuid NOT NULL,
    role        fleet_catalog.role NOT NULL,           -- as which its link logged in here
    epoch       bigint NOT NULL,            -- highest ever seen; a lower one is refused
    name        text NOT NULL,
    protocol    integer NOT NULL,
    last_seen   timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (parent_uuid, role)
);
COMMENT ON TABLE fleet_catalog.parent IS 'Parents that have used this server, with the epoch that fences old ones';

-- ---- events --------------------------------------------------------------------------------------

-- Names as they were: an event is about then.
CREATE TABLE fleet_catalog.event (
    event_id  bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    raised_at timestamptz NOT NULL,
    run_id    bigint,
    item      integer,                      -- of a task: 0 unless it has items
    server_id integer,
    owner     fleet_catalog.role,           -- of the run, the schedule or the server; null: everybody sees it
    kind      text NOT NULL,                -- src/core/raised.h
    package   text,
    task      text,
    server    name,
    sqlstate  text,
    message   text,
    hook_depth smallint NOT NULL DEFAULT 0  -- of its run
);
CREATE INDEX event_run ON fleet_catalog.event (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX event_missed ON fleet_catalog.event (message text_pattern_ops) WHERE kind = 'schedule_missed'; -- has it been told?
COMMENT ON TABLE fleet_catalog.event IS 'What happened; written by the agent only, with what it tells of';

-- ---- counters ----------------------------------------------------------------------------------

-- No row goes with the history, or with the package: that it was is counted.  The fillfactor leaves room for the versions of a row in
-- its page (HOT): there is one for each commit of the agent.
CREATE TABLE fleet_catalog.stat (
    stat_id   integer PRIMARY KEY,          -- the agent counts them
    kind      smallint NOT NULL,            -- 0: the agent, 1: runs of a package, 2: single jobs, 3: a server
    package   text,                         -- of kind 1: this, ...
    owner     fleet_catalog.role,           -- ... of this role; and of kind 2
    server_id integer,                      -- of kind 3; 0: this server
    since     timestamptz NOT NULL,
    counts    bigint[] NOT NULL             -- FleetStat (core/stat.h); fleet.stat knows what is where
) WITH (fillfactor = 10);
COMMENT ON TABLE fleet_catalog.stat IS 'Counters; written by the agent only, with what they count';

CREATE TABLE fleet_catalog.stat_reset (
    requested_by name NOT NULL DEFAULT SESSION_USER,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
ALTER TABLE fleet_catalog.stat_reset REPLICA IDENTITY FULL;
COMMENT ON TABLE fleet_catalog.stat_reset IS 'Counters are to begin at 0 again; inserted by sessions, so that no open transaction blocks the agent';

-- ---- schedules ---------------------------------------------------------------------------------

-- Whose it is, is whose the package or the job is.
CREATE TABLE fleet_catalog.schedule (
    schedule_id   integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name          text NOT NULL UNIQUE CHECK (name <> '' AND pg_catalog.length(name) <= 200),
    package       text REFERENCES fleet_catalog.package (name) ON UPDATE CASCADE ON DELETE CASCADE, -- what it starts: this, ...
    job           text REFERENCES fleet_catalog.job (name) ON UPDATE CASCADE ON DELETE CASCADE, -- ... or this
    cron          text NOT NULL,
    time_zone     text NOT NULL,
    params        jsonb NOT NULL DEFAULT '{}' CHECK (pg_catalog.jsonb_typeof(params) = 'object'),
    params_sql    text,                     -- gives more of them, for each time
    missed        text NOT NULL DEFAULT 'once' CHECK (missed IN ('skip', 'once', 'all')),
    enabled       boolean NOT NULL DEFAULT true,
    since         timestamptz NOT NULL,     -- nothing is due that is not after it
    CHECK ((package IS NULL) <> (job IS NULL))
);
CREATE INDEX schedule_package ON fleet_catalog.schedule (package);
CREATE INDEX schedule_job ON fleet_catalog.schedule (job);
COMMENT ON TABLE fleet_catalog.schedule IS 'When packages and jobs start by themselves; written by sessions';

CREATE TABLE fleet_catalog.schedule_state (
    schedule_id integer PRIMARY KEY REFERENCES fleet_catalog.schedule ON DELETE CASCADE,
    last_time   timestamptz NOT NULL,       -- for which it was fired last
    fired_at    timestamptz NOT NULL,
    run_id      bigint,                     -- what it started then
    job_run_id  bigint
) WITH (fillfactor = 50);
COMMENT ON TABLE fleet_catalog.schedule_state IS 'What schedules have started last; written by the sessions that start it (fleet_link.start_scheduled)';

CREATE TABLE fleet_catalog.schedule_failure (
    schedule_id   integer PRIMARY KEY,
    scheduled_for timestamptz NOT NULL,
    failed_at     timestamptz NOT NULL,
    failures      integer NOT NULL DEFAULT 1, -- one after the other
    sqlstate      text NOT NULL,
    message       text NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE fleet_catalog.schedule_failure IS 'Schedules that cannot be started at present; written by the agent only';

CREATE TABLE fleet_catalog.waker (
    only_row      boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    owner         fleet_catalog.role NOT NULL, -- whose entry of pg_cron it is
    cron_database name NOT NULL             -- database where pg_cron is
);
COMMENT ON TABLE fleet_catalog.waker IS 'The entry of pg_cron that sees to it that there is an agent (fleet.use_pg_cron)';

-- What a dump takes along: definitions and history, and the sequences, so that a restored database
-- does not hand out numbers again.  One statement each: they all change the extension's row.
DO $$
DECLARE
    v_relation text;
    v_sequence text;
BEGIN
    FOREACH v_relation IN ARRAY ARRAY['identity', 'server', 'server_group', 'former_server', 'job', 'step', 'package', 'retention', 'task', 'precedence', 'definition',
            'definition_task', 'deployment', 'run', 'task_run', 'condition_result', 'job_run', 'step_run', 'log_line',
            'cancel_request', 'skip_request', 'retry_request', 'pause', 'duration', 'parent', 'schedule', 'schedule_state', 'event', 'stat', 'commits_itself', 'purged', 'used_key', 'job_key'] LOOP
        -- of parents by roles that are gone there may be several
        PERFORM pg_catalog.pg_extension_config_dump('fleet_catalog.' || v_relation, CASE v_relation
            WHEN 'parent' THEN 'WHERE EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.oid = role)' ELSE '' END);
        SELECT pg_catalog.pg_get_serial_sequence('fleet_catalog.' || v_relation, a.attname) INTO v_sequence
          FROM pg_catalog.pg_attribute AS a
         WHERE a.attrelid = ('fleet_catalog.' || v_relation)::pg_catalog.regclass AND a.attidentity <> '';
        IF v_sequence IS NOT NULL THEN
            PERFORM pg_catalog.pg_extension_config_dump(v_sequence::pg_catalog.regclass, '');
        END IF;
    END LOOP;
END
$$;
