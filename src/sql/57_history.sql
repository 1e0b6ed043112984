-- 57_history.sql: what is over does not stay for ever.
--
-- The agent purges in slices, each of a few milliseconds and at most a few hundred rows, between its other work
-- (src/agent/history.c).  A run or job run goes first, and leaves its number in fleet_catalog.purged: no view shows
-- anything of it from then on.  The rows that belong to it follow.  So they do for one that somebody deletes by hand.
--
-- Stages: 0 begin, 1 rows of what is purged already, 2 job runs, 3 runs, 4 their rows, 5 definitions, 6 durations, 7 events, 8 over.

-- A run or job run was deleted, by the agent or by hand: the rows that belong to it are to follow.  Who asks for a run
-- with its key again gets one with other tokens: servers still know the old ones, and would answer that it is done.
CREATE FUNCTION fleet_catalog.run_deleted() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO fleet_catalog.purged (run_id) VALUES (OLD.run_id);
    IF OLD.run_key IS NOT NULL AND OLD.restart_of IS NULL THEN
        INSERT INTO fleet_catalog.used_key AS k (package, run_key) VALUES (OLD.package, OLD.run_key)
        ON CONFLICT (package, run_key) DO UPDATE SET uses = k.uses + 1;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER run_deleted AFTER DELETE ON fleet_catalog.run FOR EACH ROW EXECUTE FUNCTION fleet_catalog.run_deleted();

CREATE FUNCTION fleet_catalog.job_run_deleted() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO fleet_catalog.purged (job_run_id) VALUES (OLD.job_run_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER job_run_deleted AFTER DELETE ON fleet_catalog.job_run FOR EACH ROW EXECUTE FUNCTION fleet_catalog.job_run_deleted();

-- Functions that a slice calls are plpgsql, whose plans are kept from slice to slice, or become part of what calls them: else their
-- planning would take longer than the work (test/bench/history.py).

-- What ended before this is not kept; -infinity: for ever.
CREATE FUNCTION fleet_catalog.keep_from(a_days integer) RETURNS timestamptz
    LANGUAGE sql STABLE
    RETURN CASE WHEN a_days < 0 THEN '-infinity'::timestamptz ELSE pg_catalog.now() - pg_catalog.make_interval(days => a_days) END;

CREATE FUNCTION fleet_catalog.keep_days() RETURNS integer
    LANGUAGE sql STABLE
    RETURN pg_catalog.current_setting('fleet.keep_days')::integer;

-- Of packages that keep so many runs: the oldest run that is among them, by package.
CREATE FUNCTION fleet_catalog.keep_cuts(a_packages text[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN (SELECT coalesce(jsonb_object_agg(p.name, c.run_id), '{}')
  FROM fleet_catalog.retention AS k JOIN fleet_catalog.package AS p ON p.package_id = k.package_id
 CROSS JOIN LATERAL (SELECT r.run_id FROM fleet_catalog.run AS r
                      WHERE NULLIF(r.package, '') = p.name AND fleet_catalog.is_final(r.state) AND r.parent_run_id IS NULL AND r.parent_job_run_id IS NULL
                      ORDER BY r.run_id DESC OFFSET k.keep_runs - 1 LIMIT 1) AS c
 WHERE k.keep_runs IS NOT NULL AND p.name = ANY (a_packages));
END
$$;

-- Is a run that has ended, and is no part of another one, kept no longer?  By its package's rules, or because it ended before
-- a_before (null: by the rules only).
CREATE FUNCTION fleet_catalog.is_due(a_run fleet_catalog.run, a_before timestamptz, a_cuts jsonb) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_rule fleet_catalog.retention;
BEGIN
    IF NOT fleet_catalog.is_final(a_run.state) OR a_run.finished_at IS NULL THEN
        RETURN false;
    ELSIF a_run.finished_at < a_before THEN
        RETURN true;
    END IF;
    SELECT k.* INTO v_rule FROM fleet_catalog.retention AS k JOIN fleet_catalog.package AS p ON p.package_id = k.package_id WHERE p.name = a_run.package;
    IF v_rule.keep_failed_days IS NOT NULL AND a_run.state NOT IN (fleet_catalog.state_code('succeeded'), fleet_catalog.state_code('skipped')) THEN
        RETURN a_run.finished_at < fleet_catalog.keep_from(v_rule.keep_failed_days);
    END IF;
    RETURN a_run.finished_at < fleet_catalog.keep_from(coalesce(v_rule.keep_days, fleet_catalog.keep_days()))
        OR coalesce(a_run.run_id < (a_cuts ->> a_run.package)::bigint, false);
END
$$;
COMMENT ON FUNCTION fleet_catalog.is_due(fleet_catalog.run, timestamptz, jsonb) IS 'Is a run over, and kept no longer?';

-- The run, what it restarts and what restarts it, and so on.
CREATE FUNCTION fleet_catalog.chain(a_run_id bigint) RETURNS SETOF bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE chain (run_id) AS (
    SELECT a_run_id
    UNION
    SELECT n.run_id FROM chain AS c
     CROSS JOIN LATERAL (SELECT o.run_id FROM fleet_catalog.run AS r JOIN fleet_catalog.run AS o ON o.run_id = r.restart_of WHERE r.run_id = c.run_id
                         UNION ALL
                         SELECT r.run_id FROM fleet_catalog.run AS r WHERE r.restart_of = c.run_id AND r.parent_run_id IS NULL) AS n)
SELECT c.run_id FROM chain AS c
$$;

-- A part goes after the whole; runs that restart each other refer to each other, and go at once.  Each of them is looked at once, however
-- many of them there are: the agent waits for this.
CREATE FUNCTION fleet_catalog.may_go(a_runs bigint[], a_only bigint[], a_before timestamptz, a_cuts jsonb) RETURNS SETOF bigint
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY
WITH RECURSIVE reached (run_id) AS (
    SELECT u.run_id FROM unnest(a_runs) AS u (run_id)
    UNION
    SELECT n.run_id FROM reached AS c
     CROSS JOIN LATERAL (SELECT o.run_id FROM fleet_catalog.run AS r JOIN fleet_catalog.run AS o ON o.run_id = r.restart_of WHERE r.run_id = c.run_id
                         UNION ALL
                         SELECT r.run_id FROM fleet_catalog.run AS r WHERE r.restart_of = c.run_id AND r.parent_run_id IS NULL) AS n
), judged AS MATERIALIZED (
    SELECT r.run_id, r.restart_of, r.parent_run_id,
           (a_only IS NULL OR o.run_id IS NOT NULL)
           AND CASE WHEN r.parent_run_id IS NOT NULL THEN fleet_catalog.is_final(r.state)
                        AND NOT EXISTS (SELECT FROM fleet_catalog.run AS w WHERE w.run_id = r.parent_run_id)
                    WHEN r.parent_job_run_id IS NOT NULL THEN fleet_catalog.is_final(r.state)
                        AND NOT EXISTS (SELECT FROM fleet_catalog.job_run AS j WHERE j.job_run_id = r.parent_job_run_id)
                    ELSE fleet_catalog.is_due(r, a_before, a_cuts) END AS may
      FROM reached AS c JOIN fleet_catalog.run AS r ON r.run_id = c.run_id LEFT JOIN unnest(a_only) AS o (run_id) ON o.run_id = r.run_id
), refers AS MATERIALIZED (
    SELECT j.run_id, j.restart_of AS to_run FROM judged AS j WHERE j.restart_of IS NOT NULL
    UNION ALL
    SELECT j.restart_of, j.run_id FROM judged AS j WHERE j.restart_of IS NOT NULL AND j.parent_run_id IS NULL
), stays (run_id) AS (
    SELECT j.run_id FROM judged AS j WHERE NOT j.may
    UNION
    SELECT f.run_id FROM stays AS s JOIN refers AS f ON f.to_run = s.run_id
)
SELECT j.run_id FROM judged AS j EXCEPT SELECT s.run_id FROM stays AS s;
END
$$;
COMMENT ON FUNCTION fleet_catalog.may_go(bigint[], bigint[], timestamptz, jsonb)
    IS 'Which of these runs, and of those that restart each other with them, may be purged now; of a_only (null: of all)';

-- The next runs in the order of their numbers.  Who restarts one has locked its row: it stays, with its chain.
CREATE FUNCTION fleet_catalog.purge_runs(INOUT after bigint, a_before timestamptz, a_count integer, OUT n bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_last bigint;
    v_ids bigint[];
    v_cuts jsonb;
    v_due bigint[];
    v_rows bigint;
BEGIN
    -- of runs that restart each other the first one stands for all
    SELECT max(s.run_id), array_agg(s.run_id) FILTER (WHERE s.finished_at IS NOT NULL AND (s.parent_run_id IS NOT NULL OR s.restarted IS NULL)),
           fleet_catalog.keep_cuts(array_agg(DISTINCT s.package))
      INTO v_last, v_ids, v_cuts
      FROM (SELECT r.run_id, r.finished_at, r.package, r.parent_run_id, (SELECT o.run_id FROM fleet_catalog.run AS o WHERE o.run_id = r.restart_of) AS restarted
              FROM fleet_catalog.run AS r WHERE r.run_id > after ORDER BY r.run_id LIMIT a_count) AS s;
    after := v_last;
    n := 0;
    LOOP
        v_due := ARRAY(SELECT r.run_id FROM fleet_catalog.run AS r
                        WHERE r.run_id IN (SELECT g.run_id FROM fleet_catalog.may_go(v_ids, NULL, a_before, v_cuts) AS g (run_id)) FOR UPDATE SKIP LOCKED);
        EXIT WHEN v_due = '{}';
        -- with a snapshot that is newer than the locks: a restart that was committed before them is seen
        DELETE FROM fleet_catalog.run AS r USING fleet_catalog.may_go(v_due, v_due, a_before, v_cuts) AS g (run_id) WHERE r.run_id = g.run_id;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        EXIT WHEN v_rows = 0;
        n := n + v_rows;
    END LOOP; -- their nested runs
END
$$;

-- Its parent knows all of it, or nobody else asked for it.
CREATE FUNCTION fleet_catalog.job_run_is_due(a_run fleet_catalog.job_run, a_before timestamptz) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN coalesce(a_run.finished_at < greatest(a_before, fleet_catalog.keep_from(fleet_catalog.keep_days())), false)
       AND (a_run.parent_uuid IS NULL OR a_run.acknowledged_at IS NOT NULL);
COMMENT ON FUNCTION fleet_catalog.job_run_is_due(fleet_catalog.job_run, timestamptz) IS 'Is a job run over, known to its parent, and kept no longer?';

CREATE FUNCTION fleet_catalog.purge_job_runs(INOUT after bigint, a_before timestamptz, a_count integer, OUT n bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_last bigint;
BEGIN
    SELECT max(s.job_run_id) INTO v_last
      FROM (SELECT j.job_run_id FROM fleet_catalog.job_run AS j WHERE j.job_run_id > after ORDER BY j.job_run_id LIMIT a_count) AS s;
    DELETE FROM fleet_catalog.job_run AS j
     WHERE j.job_run_id = ANY (ARRAY(SELECT k.job_run_id FROM fleet_catalog.job_run AS k
                                      WHERE k.job_run_id > after AND k.job_run_id <= v_last AND fleet_catalog.job_run_is_due(k, a_before) FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS n = ROW_COUNT;
    after := v_last;
END
$$;

-- Rows of what is purged, some runs or job runs at a time; n 0: there are none left.
CREATE FUNCTION fleet_catalog.purge_rows(a_count integer, OUT n bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_ids bigint[];
    v_column text;
    v_table text;
    v_rows bigint;
    v_held bigint[];
    v_held_runs bigint[] := '{}'::bigint[];
    v_held_jobs bigint[] := '{}'::bigint[];
BEGIN
    n := 0;
    WHILE n < a_count LOOP
        v_column := 'run_id';
        v_ids := ARRAY(SELECT p.run_id FROM fleet_catalog.purged AS p WHERE p.run_id IS NOT NULL AND p.run_id <> ALL (v_held_runs) LIMIT 20 FOR UPDATE SKIP LOCKED);
        IF v_ids = '{}' THEN
            v_column := 'job_run_id';
            v_ids := ARRAY(SELECT p.job_run_id FROM fleet_catalog.purged AS p WHERE p.job_run_id IS NOT NULL AND p.job_run_id <> ALL (v_held_jobs) LIMIT 20 FOR UPDATE SKIP LOCKED);
        END IF;
        EXIT WHEN v_ids = '{}';
        FOREACH v_table IN ARRAY CASE v_column WHEN 'job_run_id' THEN '{log_line,step_run,cancel_request}'
                                 ELSE '{log_line,step_run,task_run,condition_result,cancel_request,skip_request,retry_request,pause,event}' END::text[] LOOP
            EXIT WHEN n >= a_count;
            EXECUTE format('DELETE FROM fleet_catalog.%1$I AS d WHERE d.ctid = ANY (ARRAY(SELECT k.ctid FROM fleet_catalog.%1$I AS k WHERE k.%2$I = ANY ($1) LIMIT $2 FOR UPDATE SKIP LOCKED))',
                           v_table, v_column) USING v_ids, a_count - n;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            n := n + v_rows;
        END LOOP;
        EXIT WHEN n >= a_count; -- perhaps there is more of them
        -- what a session is about to change is left for another time: nobody waits for it
        IF v_column = 'run_id' THEN
            v_held := ARRAY(SELECT q.run_id FROM fleet_catalog.cancel_request AS q WHERE q.run_id = ANY (v_ids)
                            UNION SELECT q.run_id FROM fleet_catalog.skip_request AS q WHERE q.run_id = ANY (v_ids)
                            UNION SELECT q.run_id FROM fleet_catalog.retry_request AS q WHERE q.run_id = ANY (v_ids)
                            UNION SELECT q.run_id FROM fleet_catalog.pause AS q WHERE q.run_id = ANY (v_ids));
            v_held_runs := v_held_runs || v_held;
            DELETE FROM fleet_catalog.purged AS p WHERE p.run_id = ANY (v_ids) AND p.run_id <> ALL (v_held);
        ELSE
            v_held := ARRAY(SELECT q.job_run_id FROM fleet_catalog.cancel_request AS q WHERE q.job_run_id = ANY (v_ids));
            v_held_jobs := v_held_jobs || v_held;
            DELETE FROM fleet_catalog.purged AS p WHERE p.job_run_id = ANY (v_ids) AND p.job_run_id <> ALL (v_held);
        END IF;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        n := n + v_rows;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.purge_rows(integer) IS 'Deletes about so many rows of runs and job runs that are gone';

-- Documents that no run, no job run and no job has, of so many blocks.  A session that is about to use one holds the other side of
-- this lock until its COMMIT (store_definition): then this is done another time.
CREATE FUNCTION fleet_catalog.purge_definitions(INOUT after bigint, OUT n bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_blocks bigint := pg_relation_size('fleet_catalog.definition') / current_setting('block_size')::bigint;
    v_next bigint := after + 16;
BEGIN
    n := 0;
    IF after < v_blocks AND pg_try_advisory_xact_lock(1179407681, 0) THEN
        -- further statements: what was committed before the lock is seen
        DELETE FROM fleet_catalog.received AS c -- it comes again with the next start that needs it
         WHERE c.ctid = ANY (ARRAY(SELECT o.ctid FROM fleet_catalog.received AS o
                                    WHERE o.received_at < now() - interval '1 hour'
                                      AND NOT EXISTS (SELECT FROM fleet_catalog.job_run AS j WHERE j.definition = o.definition) FOR UPDATE SKIP LOCKED));
        WITH gone AS (
            DELETE FROM fleet_catalog.definition AS d
             WHERE d.ctid >= format('(%s,0)', after)::tid AND d.ctid < format('(%s,0)', v_next)::tid
               AND NOT EXISTS (SELECT FROM fleet_catalog.run AS r WHERE r.definition = d.hash)
               AND NOT EXISTS (SELECT FROM fleet_catalog.job_run AS j WHERE j.definition = d.hash)
               AND NOT EXISTS (SELECT FROM fleet_catalog.job_snapshot AS c WHERE c.hash = d.hash)
               AND NOT EXISTS (SELECT FROM fleet_catalog.received AS c WHERE c.definition = d.hash)
            RETURNING d.hash
        ), tasks AS (
            DELETE FROM fleet_catalog.definition_task AS t USING gone AS g WHERE t.hash = g.hash)
        SELECT count(*) INTO n FROM gone;
    END IF;
    after := CASE WHEN v_next < v_blocks THEN v_next END;
END
$$;

-- What was learned of work that does not come any more.
CREATE FUNCTION fleet_catalog.purge_durations(INOUT after bigint, OUT n bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_blocks bigint := pg_relation_size('fleet_catalog.duration') / current_setting('block_size')::bigint;
    v_next bigint := after + 64;
BEGIN
    DELETE FROM fleet_catalog.duration AS d
     WHERE d.ctid >= format('(%s,0)', after)::tid AND d.ctid < format('(%s,0)', v_next)::tid
       AND d.seen_at < fleet_catalog.keep_from(fleet_catalog.keep_days());
    GET DIAGNOSTICS n = ROW_COUNT;
    after := CASE WHEN v_next < v_blocks THEN v_next END;
END
$$;

-- Events of no run.  Those of a run go with it.
CREATE FUNCTION fleet_catalog.purge_events(a_after bigint, a_before timestamptz, a_count integer) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_last bigint;
BEGIN
    SELECT max(s.event_id) INTO v_last
      FROM (SELECT e.event_id, e.raised_at FROM fleet_catalog.event AS e WHERE e.event_id > a_after ORDER BY e.event_id LIMIT a_count) AS s
     WHERE s.raised_at < a_before;
    DELETE FROM fleet_catalog.event AS e
     WHERE e.event_id = ANY (ARRAY(SELECT k.event_id FROM fleet_catalog.event AS k
                                    WHERE k.event_id > a_after AND k.event_id <= v_last AND k.run_id IS NULL AND k.raised_at < a_before FOR UPDATE SKIP LOCKED));
    DELETE FROM fleet_catalog.hook_call AS c
     WHERE c.ctid = ANY (ARRAY(SELECT k.ctid FROM fleet_catalog.hook_call AS k WHERE k.finished_at < a_before ORDER BY k.finished_at LIMIT a_count FOR UPDATE SKIP LOCKED));
    RETURN coalesce(v_last, CASE WHEN FOUND THEN a_after END);
END
$$;
COMMENT ON FUNCTION fleet_catalog.purge_events(bigint, timestamptz, integer) IS 'Deletes old events of no run, and old calls of hooks, of so many; returns the last one that was looked at, or null: nothing is old';

CREATE FUNCTION fleet_catalog.purge_slice(INOUT stage integer, INOUT after bigint, INOUT upto bigint, a_count integer, OUT n bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_before timestamptz := (SELECT max(q.before) FROM fleet_catalog.purge_request AS q WHERE q.purge_id <= upto);
BEGIN
    n := 0;
    CASE stage
        WHEN 0 THEN
            SELECT coalesce(max(q.purge_id), 0) INTO upto FROM fleet_catalog.purge_request AS q;
            after := NULL;
        WHEN 1, 4 THEN
            n := fleet_catalog.purge_rows(a_count);
            after := nullif(n, 0);
        WHEN 2 THEN SELECT p.* INTO after, n FROM fleet_catalog.purge_job_runs(after, v_before, a_count) AS p;
        WHEN 3 THEN SELECT p.* INTO after, n FROM fleet_catalog.purge_runs(after, v_before, a_count) AS p;
        WHEN 5 THEN SELECT p.* INTO after, n FROM fleet_catalog.purge_definitions(after) AS p;
        WHEN 6 THEN SELECT p.* INTO after, n FROM fleet_catalog.purge_durations(after) AS p;
        -- not counted: that there was a purge is an event too
        WHEN 7 THEN after := fleet_catalog.purge_events(after, greatest(v_before, fleet_catalog.keep_from(fleet_catalog.keep_days())), a_count);
    END CASE;
    IF after IS NULL THEN
        stage := stage + 1;
        after := 0;
    END IF;
    IF stage = 8 THEN -- done as asked
        DELETE FROM fleet_catalog.purge_request AS q WHERE q.purge_id <= upto;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.purge_slice(integer, bigint, bigint, integer)
    IS 'For the agent: the next slice of a purge; upto: the last request that it answers; n: rows that went';

-- ---- the session -------------------------------------------------------------------------------

CREATE FUNCTION fleet.set_retention(package text, keep_days integer DEFAULT NULL, keep_runs integer DEFAULT NULL, keep_failed_days integer DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.set_retention(text, integer, integer, integer)
    IS 'How long runs of a package are kept: days (-1: for ever), at most so many runs, days of those that did not succeed; null: as the setting fleet.keep_days says';

CREATE FUNCTION fleet_catalog.set_retention(a_package text, a_keep_days integer, a_keep_runs integer, a_keep_failed_days integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
BEGIN
    IF a_keep_days IS NOT NULL THEN
        PERFORM fleet_catalog.check_range('keep_days', a_keep_days, -1, 36500);
    END IF;
    IF a_keep_runs IS NOT NULL THEN
        PERFORM fleet_catalog.check_range('keep_runs', a_keep_runs, 1, 1000000);
    END IF;
    IF a_keep_failed_days IS NOT NULL THEN
        PERFORM fleet_catalog.check_range('keep_failed_days', a_keep_failed_days, -1, 36500);
    END IF;
    DELETE FROM fleet_catalog.retention AS k WHERE k.package_id = v_package.package_id;
    IF num_nonnulls(a_keep_days, a_keep_runs, a_keep_failed_days) > 0 THEN
        INSERT INTO fleet_catalog.retention (package_id, keep_days, keep_runs, keep_failed_days)
        VALUES (v_package.package_id, a_keep_days, a_keep_runs, a_keep_failed_days);
    END IF;
END
$$;

CREATE FUNCTION fleet.purge(older_than interval DEFAULT NULL, dry_run boolean DEFAULT false, OUT runs bigint, OUT task_runs bigint, OUT job_runs bigint, OUT log_lines bigint)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.purge(interval, boolean)
    IS 'Purges history now: by the rules, and what ended so long ago. Returns what is to go, and with dry_run does nothing else; task_runs and log_lines are counted with dry_run only';

CREATE FUNCTION fleet_catalog.purge(a_older_than interval, a_dry_run boolean, OUT runs bigint, OUT task_runs bigint, OUT job_runs bigint, OUT log_lines bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_before timestamptz := now() - a_older_than;
    v_cuts jsonb := fleet_catalog.keep_cuts((SELECT array_agg(p.name) FROM fleet_catalog.package AS p));
    v_runs bigint[];
    v_job_runs bigint[];
BEGIN
    IF NOT fleet_catalog.may_cancel(10) THEN -- 10: the bootstrap superuser
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to purge history',
            HINT = 'Superusers and members of fleet_operator may.';
    END IF;
    PERFORM fleet_catalog.check_given('dry_run', a_dry_run::text);
    IF a_older_than IS NOT NULL THEN
        PERFORM fleet_catalog.check_span('older_than', a_older_than);
    END IF;
    v_runs := ARRAY(WITH RECURSIVE gone AS (
                        SELECT m.run_id
                          FROM fleet_catalog.may_go(ARRAY(SELECT r.run_id FROM fleet_catalog.run AS r WHERE r.parent_run_id IS NULL AND r.parent_job_run_id IS NULL),
                                                    NULL, v_before, v_cuts) AS m (run_id)
                          JOIN fleet_catalog.run AS r ON r.run_id = m.run_id AND r.parent_run_id IS NULL AND r.parent_job_run_id IS NULL
                        UNION
                        SELECT n.run_id FROM gone AS g JOIN fleet_catalog.run AS n ON n.parent_run_id = g.run_id)
                    SELECT g.run_id FROM gone AS g);
    v_job_runs := ARRAY(SELECT j.job_run_id FROM fleet_catalog.job_run AS j WHERE fleet_catalog.job_run_is_due(j, v_before));
    runs := cardinality(v_runs)::bigint;
    job_runs := cardinality(v_job_runs)::bigint;
    IF a_dry_run THEN
        SELECT count(*) INTO task_runs FROM fleet_catalog.task_run AS t WHERE t.run_id = ANY (v_runs);
        SELECT count(*) INTO log_lines FROM fleet_catalog.log_line AS l WHERE l.run_id = ANY (v_runs) OR l.job_run_id = ANY (v_job_runs);
    ELSE
        INSERT INTO fleet_catalog.purge_request (before) VALUES (v_before);
        PERFORM fleet_catalog.wake('purge', 0);
    END IF;
END
$$;
