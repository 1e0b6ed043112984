-- 40_run.sql: asking for runs, canceling them, waiting for them.

-- What a run of this package would need and does not find: NULL if it can start.
CREATE FUNCTION fleet_catalog.check_runnable(a_package fleet_catalog.package) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_task record;
BEGIN
    SELECT r.path AS name, t.job, t.server, t.on_group, t.package,
           t.kind = 'job' AND num_nonnulls(t.server, t.on_group) > 0
           AND NOT EXISTS (SELECT FROM fleet_catalog.server AS s WHERE s.name = t.server OR t.on_group = ANY (s.groups)) AS no_server,
           t.kind = 'package' AS nested
      INTO v_task
      FROM fleet_catalog.tree(a_package.package_id) AS r
      JOIN fleet_catalog.task AS t ON t.package_id = r.package_id AND t.task_no = r.task_no
     WHERE t.enabled AND r.path NOT IN (SELECT o.path FROM fleet_catalog.in_disabled(a_package.package_id) AS o)
       AND NOT EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = t.job AND NOT j.enabled)
       AND CASE t.kind
           WHEN 'job' THEN
               (num_nonnulls(t.server, t.on_group) > 0
                AND NOT EXISTS (SELECT FROM fleet_catalog.server AS s WHERE s.name = t.server OR t.on_group = ANY (s.groups)))
               OR (NOT EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = t.job)
                   AND (num_nonnulls(t.server, t.on_group) = 0
                        OR EXISTS (SELECT FROM fleet_catalog.server AS s
                                    WHERE s.mode = 'direct' AND (s.name = t.server OR t.on_group = ANY (s.groups)))))
           WHEN 'package' THEN NOT EXISTS (SELECT FROM fleet_catalog.package AS p WHERE p.name = t.package)
           ELSE false END
     ORDER BY r.ord LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'undefined_object',
        MESSAGE = CASE WHEN v_task.nested THEN format('package "%s" does not exist', v_task.package)
                       WHEN v_task.no_server AND v_task.server IS NOT NULL THEN format('server "%s" does not exist', v_task.server)
                       WHEN v_task.no_server THEN format('group "%s" has no servers', v_task.on_group)
                       ELSE format('job "%s" does not exist', v_task.job) END,
        DETAIL = format('Task "%s" of package "%s" needs it.', v_task.name, a_package.name),
        HINT = CASE WHEN v_task.nested THEN 'Create it with fleet.create_package().'
                    WHEN v_task.no_server THEN 'Use fleet.add_server() to add servers, and fleet.alter_server() to put them into groups.'
                    WHEN num_nonnulls(v_task.server, v_task.on_group) = 0 THEN 'Create it with fleet.create_job().'
                    ELSE 'Direct servers run jobs that are defined here. Create it with fleet.create_job().' END;
END
$$;

CREATE FUNCTION fleet.run_parent_package(package text, params jsonb DEFAULT '{}', run_key text DEFAULT NULL,
                                         priority integer DEFAULT NULL, only_tasks text[] DEFAULT NULL, from_task text DEFAULT NULL,
                                         skip_tasks text[] DEFAULT NULL, require_deployed boolean DEFAULT false,
                                         run_at timestamptz DEFAULT NULL, timeout interval DEFAULT NULL, deadline timestamptz DEFAULT NULL) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.run_parent_package(text, jsonb, text, integer, text[], text, text[], boolean, timestamptz, interval, timestamptz)
    IS 'Starts a package at COMMIT, or later at run_at; returns its run_id at once. A run_key that was used before returns the run that it started, or the last one that restarts it. require_deployed: an error if a job''s version is not deployed where it may run';

-- One after the other decides what becomes of the open runs of a package.  An update, not only a lock: a transaction whose snapshot
-- is older gets a serialization failure, and does not decide by what it cannot see.
CREATE FUNCTION fleet_catalog.decide_overlap(a_package_id integer) RETURNS text
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
UPDATE fleet_catalog.package AS p SET overlap = p.overlap WHERE p.package_id = a_package_id AND p.overlap IN ('skip', 'replace') RETURNING p.overlap
$$;
COMMENT ON FUNCTION fleet_catalog.decide_overlap(integer) IS 'The overlap policy of a package for a new run; if it depends on the runs that are open, no other session decides about it until the end of the transaction';

-- Those whose time has not come are not in the way.
CREATE FUNCTION fleet_catalog.open_run(a_package_id integer) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT min(r.run_id) FROM fleet_catalog.run AS r
 WHERE r.package_id = a_package_id AND r.state < 11
   AND NOT (r.state = fleet_catalog.state_code('queued') AND r.run_at IS NOT NULL AND r.run_at > clock_timestamp())
$$;
COMMENT ON FUNCTION fleet_catalog.open_run(integer) IS 'The first open run of a package that is due; null if there is none';

-- Another role may have had a package of this name: what it has run with the key does not count as a run of this one, nor is it passed over.
CREATE FUNCTION fleet_catalog.keyed_run(a_package text, a_run_key text) RETURNS bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run_id bigint;
    v_owner oid;
BEGIN
    SELECT r.run_id, r.owner::oid INTO v_run_id, v_owner FROM fleet_catalog.run AS r WHERE r.package = a_package AND r.run_key = a_run_key AND r.restart_of IS NULL;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF NOT (fleet_catalog.sees(v_owner) OR fleet_catalog.may_use(v_owner)) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('run key "%s" of package "%s" was used by another role', a_run_key, a_package),
            DETAIL = 'It has had a package of this name.', HINT = 'Use another run key.';
    END IF;
    RETURN fleet_catalog.newest_restart(v_run_id);
END
$$;
COMMENT ON FUNCTION fleet_catalog.keyed_run(text, text) IS 'The run of a package that has this key, or the last one that restarts it; null if the key is new; an error if that is a stranger''s';

CREATE FUNCTION fleet_catalog.check_times(a_run_at timestamptz, a_timeout interval, a_deadline timestamptz) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_span('timeout', a_timeout);
    IF NOT isfinite(a_run_at) OR a_run_at > now() + interval '10 years' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('run_at is out of range: %s', a_run_at),
            HINT = 'It must be at most 10 years from now. A time that has passed is now.';
    ELSIF NOT isfinite(a_deadline) OR a_deadline > now() + interval '20 years' OR a_deadline <= greatest(a_run_at, now()) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('deadline is out of range: %s', a_deadline),
            DETAIL = CASE WHEN a_deadline <= now() THEN 'It has passed.' WHEN a_deadline <= a_run_at THEN 'It is not after run_at.'
                          ELSE 'It is too far away.' END,
            HINT = 'It must be after the start of the run, and at most 20 years from now.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_times(timestamptz, interval, timestamptz) IS 'Raises an error unless a run can begin, be stopped and be late at these times';

CREATE FUNCTION fleet_catalog.run_parent_package(a_package text, a_params jsonb, a_run_key text, a_priority integer, a_only_tasks text[],
                                                 a_from_task text, a_skip_tasks text[], a_require_deployed boolean, a_run_at timestamptz,
                                                 a_timeout interval, a_deadline timestamptz) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.request_run(a_package, a_params, a_run_key, a_priority, a_only_tasks, a_from_task, a_skip_tasks, a_require_deployed, a_run_at,
                                 a_timeout, a_deadline, NULL, NULL)
$$;

CREATE FUNCTION fleet_catalog.request_run(a_package text, a_params jsonb, a_run_key text, a_priority integer, a_only_tasks text[],
                                          a_from_task text, a_skip_tasks text[], a_require_deployed boolean, a_run_at timestamptz,
                                          a_timeout interval, a_deadline timestamptz, a_scheduled_for timestamptz, a_backfill integer) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.get_package(a_package);
    v_run_id bigint;
    v_uuid uuid;
    v_params jsonb;
    v_definition uuid;
    v_decided text;
    v_limit integer;
BEGIN
    IF a_run_key IS NOT NULL THEN
        v_run_id := fleet_catalog.keyed_run(a_package, a_run_key);
        IF v_run_id IS NOT NULL THEN
            RETURN v_run_id;
        END IF;
        PERFORM fleet_catalog.check_name('run_key', a_run_key);
        v_uuid := fleet_catalog.uuid_of_key(a_package, a_run_key);
    ELSE
        v_uuid := gen_random_uuid();
    END IF;
    PERFORM fleet_catalog.check_given('require_deployed', a_require_deployed::text);
    v_params := fleet_catalog.merge_params(format('package "%s"', a_package), v_package.params, a_params);
    IF a_priority IS NOT NULL THEN
        PERFORM fleet_catalog.check_priority(a_priority);
    END IF;
    PERFORM fleet_catalog.check_times(a_run_at, a_timeout, a_deadline);
    v_decided := CASE WHEN a_backfill IS NULL THEN fleet_catalog.decide_overlap(v_package.package_id) END;
    IF v_decided IS NOT NULL THEN
        v_package := fleet_catalog.get_package(a_package); -- whoever changed it meanwhile
    END IF;
    IF v_decided IS NOT NULL AND a_run_key IS NOT NULL THEN -- the one that has decided meanwhile may have had the same key
        v_run_id := fleet_catalog.keyed_run(a_package, a_run_key);
        IF v_run_id IS NOT NULL THEN
            RETURN v_run_id;
        END IF;
    END IF;
    IF v_decided = 'skip' AND coalesce(a_run_at <= clock_timestamp(), true) THEN
        v_run_id := fleet_catalog.open_run(v_package.package_id);
        IF v_run_id IS NOT NULL THEN
            RAISE NOTICE USING MESSAGE = format('package "%s" is already running, skipping', a_package),
                DETAIL = format('Its run is %s.', v_run_id), HINT = 'Its overlap policy is "skip".';
            RETURN v_run_id;
        END IF;
    END IF;
    PERFORM fleet_catalog.check_enabled('package', a_package, v_package.enabled);
    PERFORM fleet_catalog.check_open_runs(v_package.owner);
    PERFORM fleet_catalog.check_runnable(v_package);
    IF num_nonnulls(a_only_tasks, a_from_task, a_skip_tasks) = 0 THEN
        v_definition := fleet_catalog.snapshot_package(a_package);
    ELSE
        v_definition := fleet_catalog.store_definition('package',
            fleet_catalog.choose_tasks(fleet_catalog.checked_body(a_package), a_only_tasks, a_from_task, a_skip_tasks));
    END IF;
    IF a_require_deployed THEN
        PERFORM fleet_catalog.check_deployed(d.body) FROM fleet_catalog.definition AS d WHERE d.hash = v_definition;
    END IF;
    v_limit := fleet_catalog.parallel_limit(coalesce(v_decided, v_package.overlap), v_package.max_parallel);
    INSERT INTO fleet_catalog.run (run_uuid, package, definition, owner, priority, params, run_key, package_id, max_parallel, replaces,
                                   run_at, timeout, deadline, deadline_after, scheduled_for)
    VALUES (v_uuid, a_package, v_definition, v_package.owner,
            coalesce(a_priority, v_package.priority), v_params, a_run_key,
            CASE WHEN v_limit = 0 AND a_backfill > 0 THEN -v_package.package_id ELSE v_package.package_id END,
            CASE WHEN v_limit = 0 AND a_backfill > 0 THEN a_backfill ELSE v_limit END, coalesce(v_decided = 'replace', false),
            a_run_at, nullif(coalesce(a_timeout, v_package.timeout), '0'), a_deadline, CASE WHEN a_deadline IS NULL THEN v_package.deadline END, a_scheduled_for)
    ON CONFLICT (package, run_key) WHERE run_key IS NOT NULL AND restart_of IS NULL DO NOTHING
    RETURNING run_id INTO v_run_id;
    IF NOT FOUND THEN -- another session was faster with this run_key
        RETURN fleet_catalog.keyed_run(a_package, a_run_key);
    END IF;
    PERFORM fleet_catalog.wake('run', v_run_id);
    RETURN v_run_id;
END
$$;
COMMENT ON FUNCTION fleet_catalog.request_run(text, jsonb, text, integer, text[], text, text[], boolean, timestamptz, interval, timestamptz, timestamptz, integer) IS 'Starts a package at COMMIT, for a time if a schedule does it; returns its run_id. a_backfill: one of many that run one after the other, so many at a time (0: as many as of the package)';

-- ---- cancel ------------------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.no_such_run(a_run_id bigint, a_relation text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_given(CASE a_relation WHEN 'run' THEN 'run_id' ELSE 'job_run_id' END, a_run_id::text);
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('%s %s does not exist', replace(a_relation, '_', ' '), a_run_id),
        HINT = format('Runs are listed in fleet.%s.', a_relation);
END
$$;

CREATE FUNCTION fleet_catalog.check_may_cancel(a_kind text, a_id bigint, a_owner oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_owner IS NULL OR NOT (fleet_catalog.sees(a_owner) OR fleet_catalog.may_cancel(a_owner)) THEN
        PERFORM fleet_catalog.no_such_run(a_id, a_kind);
    ELSIF NOT fleet_catalog.may_cancel(a_owner) THEN
        PERFORM fleet_catalog.deny(replace(a_kind, '_', ' '), a_id::text, a_owner);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_may_cancel(text, bigint, oid)
    IS 'Error if the caller may not cancel a run or job_run of this owner, or (owner null) there is none; who does not see it is told that there is none';

CREATE FUNCTION fleet.cancel_run(run_id bigint, final_tasks boolean DEFAULT true) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.cancel_run(bigint, boolean)
    IS 'Requests that a run be stopped, with everything that it started. Its final tasks run then; with final_tasks => false they do not, and those that run are stopped too. Returns false if it had ended. fleet.wait_for_run() waits for it';

CREATE FUNCTION fleet_catalog.cancel_run(a_run_id bigint, a_final_tasks boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run record;
BEGIN
    SELECT r.owner, r.state INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    PERFORM fleet_catalog.check_may_cancel('run', a_run_id, v_run.owner);
    PERFORM fleet_catalog.check_given('final_tasks', a_final_tasks::text);
    IF fleet_catalog.is_final(v_run.state) THEN
        RETURN false;
    END IF;
    INSERT INTO fleet_catalog.cancel_request (run_id, final_tasks)
    SELECT a_run_id, a_final_tasks
     WHERE NOT EXISTS (SELECT FROM fleet_catalog.cancel_request AS c WHERE c.run_id = a_run_id AND (a_final_tasks OR NOT c.final_tasks));
    PERFORM fleet_catalog.wake(CASE WHEN a_final_tasks THEN 'cancel_run' ELSE 'cancel_final' END, a_run_id);
    RETURN true;
END
$$;

CREATE FUNCTION fleet.cancel_job_run(job_run_id bigint) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.cancel_job_run(bigint) IS 'Requests that a job run be stopped. Returns false if it had ended';

CREATE FUNCTION fleet_catalog.cancel_job_run(a_job_run_id bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run record;
BEGIN
    SELECT r.owner, r.state, NULL::bigint AS run_id INTO v_run FROM fleet_catalog.job_run AS r WHERE r.job_run_id = a_job_run_id;
    IF NOT FOUND THEN -- on a server: it is a run, perhaps one that was restarted
        SELECT r.owner, r.state, r.run_id INTO v_run FROM fleet_catalog.run AS r WHERE r.job_run_id = a_job_run_id ORDER BY r.run_id DESC LIMIT 1;
    END IF;
    PERFORM fleet_catalog.check_may_cancel('job_run', a_job_run_id, v_run.owner);
    IF v_run.run_id IS NOT NULL THEN
        RETURN fleet_catalog.cancel_run(v_run.run_id, true);
    END IF;
    IF fleet_catalog.is_final(v_run.state) THEN
        RETURN false;
    END IF;
    INSERT INTO fleet_catalog.cancel_request (job_run_id)
    SELECT a_job_run_id WHERE NOT EXISTS (SELECT FROM fleet_catalog.cancel_request AS c WHERE c.job_run_id = a_job_run_id);
    PERFORM fleet_catalog.wake('cancel_job_run', a_job_run_id);
    RETURN true;
END
$$;

-- ---- waiting -----------------------------------------------------------------------------------

CREATE FUNCTION fleet_link.may_wait(run_id bigint, timeout interval) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.may_wait(bigint, interval) IS 'For fleet.wait(): raises an error if this run cannot be waited for; returns the timeout in milliseconds';

CREATE FUNCTION fleet_catalog.may_wait(a_run_id bigint, a_timeout interval) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run record;
BEGIN
    PERFORM fleet_catalog.check_span('timeout', a_timeout);
    SELECT r.owner, fleet_catalog.is_own_xid(r.xmin) AS own INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    IF NOT FOUND OR NOT fleet_catalog.sees(v_run.owner) THEN
        PERFORM fleet_catalog.no_such_run(a_run_id, 'run');
    ELSIF v_run.own THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s has not been committed yet', a_run_id),
            DETAIL = 'It starts at COMMIT, so waiting for it in the same transaction would never end.',
            HINT = 'Commit first, or use CALL fleet.execute_package().';
    END IF;
    RETURN fleet_catalog.microseconds(a_timeout) / 1000;
END
$$;

CREATE FUNCTION fleet_catalog.wait(a_run_id bigint, a_timeout interval, a_changes boolean, OUT state text, OUT timed_out boolean)
    RETURNS record LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_timeout bigint := fleet_catalog.may_wait(a_run_id, a_timeout);
    v_wait record;
BEGIN
    v_wait := fleet_catalog.wait_run(a_run_id, coalesce(v_timeout, -1), a_changes);
    state := fleet_catalog.state_name(v_wait.state);
    timed_out := v_wait.timed_out;
END
$$;

CREATE PROCEDURE fleet.wait(run_id bigint, timeout interval DEFAULT NULL, INOUT state text DEFAULT NULL)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_wait';
COMMENT ON PROCEDURE fleet.wait(bigint, interval, text)
    IS 'Waits until a run has ended, holding no snapshot and no lock; state is its final state, or null after the timeout';

CREATE FUNCTION fleet.wait_for_run(run_id bigint, timeout interval DEFAULT NULL) RETURNS text
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.wait_for_run(bigint, interval) IS 'Waits until a run has ended; returns its final state, or null after the timeout. Holds the snapshot of its query meanwhile, for which CREATE INDEX CONCURRENTLY waits; CALL fleet.wait() holds nothing';

CREATE FUNCTION fleet_catalog.wait_for_run(a_run_id bigint, a_timeout interval) RETURNS text
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN NOT w.timed_out THEN w.state END FROM fleet_catalog.wait(a_run_id, a_timeout, false) AS w
$$;

CREATE FUNCTION fleet.wait_for_change(run_id bigint, timeout interval DEFAULT NULL) RETURNS text
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.wait_for_change(bigint, interval) IS 'Waits until a run has changed in some way, or for the timeout; returns its state';

CREATE FUNCTION fleet_catalog.wait_for_change(a_run_id bigint, a_timeout interval) RETURNS text
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT w.state FROM fleet_catalog.wait(a_run_id, a_timeout, true) AS w
$$;

CREATE FUNCTION fleet.param(name text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(pg_catalog.current_setting('fleet.params', true), '')::jsonb OPERATOR(pg_catalog.->>) name;
COMMENT ON FUNCTION fleet.param(text) IS 'A parameter of the running step, as text; null if there is none of that name';

-- ---- the agent ---------------------------------------------------------------------------------

CREATE FUNCTION fleet.agent_status() RETURNS TABLE (running boolean, pid integer, epoch bigint, started_at timestamptz, parent_uuid uuid, paused_reason text,
    starts bigint, last_sqlstate text, last_error text, last_error_at timestamptz, next_start_at timestamptz, no_agent_reason text)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.agent_status() IS 'The agent of this database: whether it runs, if not why, how the last one failed, when the next one starts; and its identity as a parent';

-- While there is no agent, the process that will start it says when, and why (src/launcher/launcher.c).
CREATE FUNCTION fleet_catalog.starter(OUT start_at timestamptz, OUT obstacle text, OUT failed_at timestamptz, OUT sqlstate text, OUT message text)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off SET DateStyle = ISO AS $$
SELECT m.part[1]::timestamptz, m.part[2], m.part[3]::timestamptz, m.part[4], m.part[5]
  FROM pg_locks AS l, pg_stat_get_activity(l.pid) AS s,
       regexp_match(s.query, '^starts the agent of database \d+ at ([^ ,;]+ [^ ,;]+)(?:, when ([^;]+))?(?:; the last one ended at (\S+ \S+) by (\w{5}): (.*))?$') AS m (part)
 WHERE l.locktype = 'advisory' AND l.database = fleet_catalog.own_database() AND l.objsubid = 18000 AND l.classid = 1
   AND l.mode = 'ExclusiveLock' AND l.granted AND s.backend_type = 'pg_fleet starter' AND m.part IS NOT NULL
$$;
COMMENT ON FUNCTION fleet_catalog.starter() IS 'What the starter of this database''s agent says in pg_stat_activity';

CREATE FUNCTION fleet_catalog.agent_is_there() RETURNS boolean
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT EXISTS (SELECT FROM fleet_catalog.agent AS a, pg_stat_get_activity(a.pid) AS s
                WHERE s.datid = fleet_catalog.own_database() AND s.backend_type LIKE 'pg_fleet agent%')
$$;
COMMENT ON FUNCTION fleet_catalog.agent_is_there() IS 'Does the agent of this database run?';

-- All that takes a slot of max_worker_processes: what is none of the server's own kinds of processes.
CREATE FUNCTION fleet_catalog.has_worker_slot() RETURNS boolean
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT count(*) < current_setting('max_worker_processes')::bigint FROM pg_stat_get_activity(NULL) AS s
 WHERE s.backend_type NOT IN ('client backend', 'autovacuum launcher', 'autovacuum worker', 'background writer', 'checkpointer', 'walwriter', 'walsender',
           'walreceiver', 'walsummarizer', 'startup', 'archiver', 'slotsync worker', 'io worker', 'standalone backend')
$$;
COMMENT ON FUNCTION fleet_catalog.has_worker_slot() IS 'Is a slot for a background worker free, as far as can be seen?';

CREATE FUNCTION fleet_catalog.no_agent() RETURNS text
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off SET DateStyle = ISO AS $$
SELECT CASE
    WHEN fleet_catalog.agent_is_there() THEN NULL
    WHEN pg_is_in_recovery() THEN 'This server is a standby, where nothing can be written: the agent is on the primary.'
    WHEN n.obstacle IS NOT NULL THEN format('It starts when %s.', n.obstacle)
    WHEN n.start_at > clock_timestamp() + interval '1 s' THEN format('The last one ended by %s: %s. The next one starts at %s.',
        coalesce(n.sqlstate, 'itself'), coalesce(n.message, 'it left'), n.start_at)
    WHEN n.start_at IS NOT NULL THEN NULL
    WHEN NOT fleet_catalog.has_worker_slot() THEN format('No background worker slot is free: max_worker_processes is %s.', current_setting('max_worker_processes'))
    ELSE 'Nothing has asked for it since the server started: the next request starts it.'
    END
  FROM (VALUES (1)) AS one LEFT JOIN fleet_catalog.starter() AS n ON true
$$;
COMMENT ON FUNCTION fleet_catalog.no_agent() IS 'Why this database has no agent; null if it has one, or one is about to come';

CREATE FUNCTION fleet_catalog.agent_status() RETURNS TABLE (running boolean, pid integer, epoch bigint, started_at timestamptz, parent_uuid uuid, paused_reason text,
    starts bigint, last_sqlstate text, last_error text, last_error_at timestamptz, next_start_at timestamptz, no_agent_reason text)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT fleet_catalog.agent_is_there(),
       NULLIF(a.pid, 0), a.epoch, a.started_at, i.parent_uuid, i.paused_reason, a.starts,
       CASE WHEN n.failed_at IS NULL THEN a.last_sqlstate ELSE n.sqlstate END,
       CASE WHEN n.failed_at IS NULL THEN a.last_error ELSE n.message END,
       coalesce(n.failed_at, a.last_error_at), n.start_at, fleet_catalog.no_agent()
  FROM fleet_catalog.agent AS a LEFT JOIN fleet_catalog.identity AS i ON true LEFT JOIN fleet_catalog.starter() AS n ON true
$$;

CREATE FUNCTION fleet.lift_quarantine(server text DEFAULT NULL, run_id bigint DEFAULT NULL, job_run_id bigint DEFAULT NULL) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.lift_quarantine(text, bigint, bigint)
    IS 'Gives a server, a run or a job run over which agents have ended a new chance. Returns false if there was nothing to lift';

CREATE FUNCTION fleet_catalog.lift_quarantine(a_server text, a_run_id bigint, a_job_run_id bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nonnulls(a_server, a_run_id, a_job_run_id) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the quarantine of one object must be lifted at a time',
            DETAIL = format('%s of the arguments are given.', num_nonnulls(a_server, a_run_id, a_job_run_id)),
            HINT = 'Specify exactly one of the arguments "server", "run_id" and "job_run_id".';
    ELSIF a_server IS NOT NULL THEN
        RETURN fleet_catalog.lift('server', (fleet_catalog.change_server(a_server)).server_id);
    ELSIF a_run_id IS NOT NULL THEN
        PERFORM fleet_catalog.check_may_cancel('run', a_run_id, (SELECT r.owner FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id));
        RETURN fleet_catalog.lift('run', a_run_id);
    END IF;
    PERFORM fleet_catalog.check_may_cancel('job_run', a_job_run_id, (SELECT j.owner FROM fleet_catalog.job_run AS j WHERE j.job_run_id = a_job_run_id));
    RETURN fleet_catalog.lift('job run', a_job_run_id);
END
$$;

CREATE FUNCTION fleet.confirm_identity(decision text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.confirm_identity(text)
    IS 'Resumes a copy of a parent, which starts paused. same: it takes the place of the original, and continues its runs; new: it is another parent, and what was open ends here';

CREATE FUNCTION fleet_catalog.next_seq(a_run_id bigint, a_task_no integer, a_item integer, a_job_run_id bigint) RETURNS integer
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT 1 + greatest(0,
    (SELECT max(t.log_seq) FROM fleet_catalog.task_run AS t WHERE t.run_id = a_run_id AND t.task_no = a_task_no AND t.item = a_item),
    (SELECT max(greatest(s.first_seq, s.last_seq)) FROM fleet_catalog.step_run AS s
      WHERE s.run_id = a_run_id AND s.task_no = a_task_no AND s.item = a_item),
    (SELECT max(l.seq) FROM fleet_catalog.log_line AS l WHERE l.run_id = a_run_id AND l.task_no = a_task_no AND l.item = a_item),
    (SELECT max(greatest(s.first_seq, s.last_seq)) FROM fleet_catalog.step_run AS s WHERE s.job_run_id = a_job_run_id),
    (SELECT max(l.seq) FROM fleet_catalog.log_line AS l WHERE l.job_run_id = a_job_run_id))
$$;
COMMENT ON FUNCTION fleet_catalog.next_seq(bigint, integer, integer, bigint) IS 'The next number of the log of a task run, or of a job run';

CREATE FUNCTION fleet_catalog.state_change(a_machine text, a_from smallint, a_to smallint) RETURNS smallint
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_state_change';
COMMENT ON FUNCTION fleet_catalog.state_change(text, smallint, smallint) IS 'The second state; an error if the machine (run, task, job, step) has no way to it from the first one';

-- What was open in the original is the original's, and goes on there, on servers and in its own database: none of it may
-- be done here too.  Nobody else writes these rows: the agent is paused, and has loaded none of them.
CREATE FUNCTION fleet_catalog.disown_open() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_sqlstate CONSTANT text := '55000';
    c_message  CONSTANT text := 'this database was copied before it had ended; it continues in the original, if anywhere';
    c_failed   CONSTANT smallint := fleet_catalog.state_code('failed');
    c_lost     CONSTANT smallint := fleet_catalog.state_code('lost');
BEGIN
    -- A task run says so in its log, with the end of the step that was open, or, if there was none, in a line.
    INSERT INTO fleet_catalog.log_line (run_id, task_no, item, seq, logged_at, level, sqlstate, message)
    SELECT t.run_id, t.task_no, t.item, fleet_catalog.next_seq(t.run_id, t.task_no, t.item, NULL), clock_timestamp(), 'ERROR', c_sqlstate, c_message
      FROM fleet_catalog.task_run AS t JOIN fleet_catalog.run AS r ON r.run_id = t.run_id AND NOT fleet_catalog.is_final(r.state)
     WHERE fleet_catalog.is_running(t.state)
       AND NOT EXISTS (SELECT FROM fleet_catalog.step_run AS s
                        WHERE s.run_id = t.run_id AND s.task_no = t.task_no AND s.item = t.item AND NOT fleet_catalog.is_final(s.state));
    UPDATE fleet_catalog.step_run AS s SET state = fleet_catalog.state_change('step', s.state, c_lost),
           finished_at = clock_timestamp(), sqlstate = c_sqlstate, message = c_message,
           last_seq = fleet_catalog.next_seq(s.run_id, s.task_no, s.item, s.job_run_id)
     WHERE NOT fleet_catalog.is_final(s.state);
    UPDATE fleet_catalog.task_run AS t SET state = fleet_catalog.state_change('task', t.state,
               CASE WHEN fleet_catalog.is_running(t.state) THEN c_lost ELSE fleet_catalog.state_code('skipped') END),
           finished_at = clock_timestamp(), sqlstate = c_sqlstate, message = c_message
      FROM fleet_catalog.run AS r
     WHERE r.run_id = t.run_id AND NOT fleet_catalog.is_final(r.state) AND NOT fleet_catalog.is_final(t.state);
    UPDATE fleet_catalog.run AS r SET state = fleet_catalog.state_change('run', r.state, c_failed), finished_at = clock_timestamp(), message = c_message
     WHERE NOT fleet_catalog.is_final(r.state);
    UPDATE fleet_catalog.job_run AS j SET state = fleet_catalog.state_change('job', j.state,
               CASE WHEN j.state = fleet_catalog.state_code('queued') THEN c_failed ELSE c_lost END),
           finished_at = clock_timestamp(), sqlstate = c_sqlstate, message = c_message
     WHERE NOT fleet_catalog.is_final(j.state);
    UPDATE fleet_catalog.deployment AS d SET state = 'failed', message = c_message WHERE d.state = 'queued';
    UPDATE fleet_catalog.hook AS h SET since_event = fleet_catalog.last_event(); -- of what has happened before, the original tells
END
$$;
COMMENT ON FUNCTION fleet_catalog.disown_open() IS 'In a copy that becomes a parent of its own: ends what was open when it was copied';

CREATE FUNCTION fleet_catalog.confirm_identity(a_decision text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_choice('decision', a_decision, 'same', 'new');
    IF NOT fleet_catalog.may_use(10) THEN -- 10: the bootstrap superuser
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to confirm the identity of this parent',
            HINT = 'Only a superuser may do this.';
    END IF;
    PERFORM fleet_catalog.find_foreign_servers() FROM fleet_catalog.identity AS i
      WHERE i.paused_reason IS NOT NULL AND i.pg_major <> current_setting('server_version_num')::integer / 10000;
    UPDATE fleet_catalog.identity AS i
       SET parent_uuid = CASE a_decision WHEN 'new' THEN gen_random_uuid() ELSE i.parent_uuid END,
           secret = CASE a_decision WHEN 'new' THEN gen_random_uuid() ELSE i.secret END,
           system_identifier = (SELECT s.system_identifier FROM pg_control_system() AS s),
           database = fleet_catalog.own_database(), paused_reason = NULL,
           pg_major = current_setting('server_version_num')::integer / 10000,
           -- the write-ahead-log timelines of another cluster start over: epochs continue after the last one
           epoch_base = (i.last_epoch >> 32) << 32
     WHERE i.paused_reason IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'this parent is not paused',
            HINT = 'See fleet.agent_status().';
    END IF;
    IF a_decision = 'new' THEN
        PERFORM fleet_catalog.disown_open();
    END IF;
    PERFORM fleet_catalog.wake('identity', 0);
END
$$;
