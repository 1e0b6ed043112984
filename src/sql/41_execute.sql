-- 41_execute.sql: a package here and now, with live progress.

-- What happened since: lines to print, and what was seen by now (task/item -> state, and log line).  A line that says how a task or
-- an item ended says how many have, of how many; the last one also how long the others will take, if that can be told and is worth
-- a word.  The planner is asked for it every few seconds at most ("left": its last answer).
CREATE FUNCTION fleet_link.run_news(run_id bigint, seen jsonb, OUT seen_now jsonb, OUT lines text[]) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.run_news(bigint, jsonb) IS 'For fleet.execute_package(): what happened to a run since the last call';

CREATE FUNCTION fleet_catalog.has_items(a_run_id bigint, a_task_no integer) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT EXISTS (SELECT FROM fleet_catalog.task_run AS t WHERE t.run_id = a_run_id AND t.task_no = a_task_no AND t.item = 1)
$$;
COMMENT ON FUNCTION fleet_catalog.has_items(bigint, integer) IS 'Has this task of a run items, so that they are counted in its place?';

CREATE FUNCTION fleet_catalog.piece_name(a_task text, a_item integer, a_item_key text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN a_task || CASE WHEN a_item > 0 THEN '[' || a_item::text || coalesce(': ' || a_item_key, '') || ']' ELSE '' END;
COMMENT ON FUNCTION fleet_catalog.piece_name(text, integer, text) IS 'Name of a task, or of an item';

CREATE FUNCTION fleet_catalog.run_news(a_run_id bigint, a_seen jsonb, OUT seen_now jsonb, OUT lines text[]) RETURNS record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_run record;
    v_task record;
    v_line record;
    v_key text;
    v_old jsonb;
    v_new jsonb := jsonb_build_object();
    v_what text;
    v_total bigint;
    v_done bigint;
    v_left jsonb := a_seen -> 'left';
BEGIN
    SELECT r.owner, r.definition, r.state, r.started_at INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    IF NOT FOUND OR NOT fleet_catalog.sees(v_run.owner) THEN
        PERFORM fleet_catalog.no_such_run(a_run_id, 'run');
    END IF;
    a_seen := coalesce(a_seen, '{}');
    lines := '{}';
    -- those that have ended and are told below are counted as they are told
    SELECT p.total, p.done - (SELECT count(*) FROM fleet_catalog.task_run AS t
                               WHERE t.run_id = a_run_id AND fleet_catalog.is_done(t.state) AND (t.item > 0 OR NOT fleet_catalog.has_items(a_run_id, t.task_no))
                                 AND (a_seen -> (t.task_no || '/' || t.item) ->> 's')::integer IS DISTINCT FROM t.state::integer)
      INTO v_total, v_done FROM fleet_catalog.run_progress AS p WHERE p.run_id = a_run_id;
    FOR v_task IN
        SELECT t.task_no, t.item, t.state, t.attempt, t.row_count, t.sqlstate, t.message, d.name, d.for_each, t.item_key, s.name AS server,
               t.finished_at - t.started_at AS duration
          FROM fleet_catalog.task_run AS t
          JOIN fleet_catalog.definition_task AS d ON d.hash = v_run.definition AND d.task_no = t.task_no
          LEFT JOIN fleet_catalog.server_name AS s ON s.server_id = t.server_id
         WHERE t.run_id = a_run_id AND t.state <> fleet_catalog.state_code('queued')
         ORDER BY t.task_no, NULLIF(t.item, 0) NULLS LAST
    LOOP
        v_key := v_task.task_no || '/' || v_task.item;
        v_old := a_seen -> v_key;
        v_what := fleet_catalog.piece_name(v_task.name, v_task.item, v_task.item_key);
        IF v_task.state IN (fleet_catalog.state_code('starting'), fleet_catalog.state_code('running')) AND (v_old ->> 'a')::integer IS DISTINCT FROM v_task.attempt AND NOT (v_task.for_each AND v_task.item = 0) THEN
            lines := lines || (v_what || ': started' || coalesce(' on ' || v_task.server, '')
                               || CASE WHEN v_task.attempt > 1 THEN ', attempt ' || v_task.attempt ELSE '' END);
        END IF;
        -- Only running ones, and those that ended since, can have said something new.
        IF (v_old ->> 's')::integer IS DISTINCT FROM v_task.state::integer OR NOT fleet_catalog.is_final(v_task.state) THEN
            FOR v_line IN
                SELECT l.seq, l.level, l.message FROM fleet_catalog.log_line AS l
                 WHERE l.run_id = a_run_id AND l.task_no = v_task.task_no AND l.item = v_task.item
                   AND l.seq > coalesce((v_old ->> 'l')::integer, 0)
                 ORDER BY l.seq
            LOOP
                lines := lines || (v_what || ': ' || v_line.level || ': ' || v_line.message);
                v_old := jsonb_build_object('s', v_old -> 's', 'l', v_line.seq);
            END LOOP;
        END IF;
        IF fleet_catalog.is_final(v_task.state) AND (a_seen -> v_key ->> 's')::integer IS DISTINCT FROM v_task.state::integer THEN
            v_done := v_done + CASE WHEN fleet_catalog.is_done(v_task.state) AND (v_task.item > 0 OR NOT fleet_catalog.has_items(a_run_id, v_task.task_no)) THEN 1 ELSE 0 END;
            v_what := format(' (%s of %s done)', v_done, v_total);
            lines := lines || (fleet_catalog.piece_name(v_task.name, v_task.item, v_task.item_key) || ': ' || fleet_catalog.state_name(v_task.state)
                               || coalesce(', ' || v_task.row_count || CASE v_task.row_count WHEN 1 THEN ' row' ELSE ' rows' END, '')
                               || coalesce(': ' || CASE WHEN NOT fleet_catalog.is_done(v_task.state) THEN v_task.message END, '') || v_what);
        END IF;
        v_new := v_new || jsonb_build_object(v_key, jsonb_build_object('s', v_task.state, 'a', v_task.attempt, 'l', coalesce((v_old ->> 'l')::integer, 0)));
    END LOOP;
    IF lines[cardinality(lines)] ~ ' done\)$' AND NOT fleet_catalog.is_final(v_run.state) THEN
        IF coalesce(extract(epoch FROM clock_timestamp() - (v_left ->> 'asked')::timestamptz) > 5, true) THEN
            v_left := jsonb_build_object('asked', clock_timestamp(), 'eta', fleet_catalog.run_eta(a_run_id));
        END IF;
        IF (v_left ->> 'eta')::timestamptz - clock_timestamp() > interval '3 s' THEN
            lines[cardinality(lines)] := regexp_replace(lines[cardinality(lines)], '\)$', '')
                || format(', %s left)', fleet_catalog.span_text(round(extract(epoch FROM (v_left ->> 'eta')::timestamptz - clock_timestamp()))::double precision));
        END IF;
    END IF;
    seen_now := v_new || coalesce(jsonb_build_object('left', v_left), '{}');
END
$$;

-- Which tasks made a run fail, in one text.
CREATE FUNCTION fleet_link.run_failure(run_id bigint) RETURNS text
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.run_failure(bigint) IS 'The failed tasks of a run with their errors, in one text; null if there are none';

CREATE FUNCTION fleet_catalog.run_failure(a_run_id bigint) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run record;
BEGIN
    SELECT r.owner, r.definition, r.message INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    IF NOT FOUND OR NOT fleet_catalog.sees(v_run.owner) THEN
        PERFORM fleet_catalog.no_such_run(a_run_id, 'run');
    END IF;
    RETURN (SELECT string_agg(f.line, E'\n' ORDER BY f.n) FILTER (WHERE f.n <= 20)
                   || CASE WHEN count(*) > 20 THEN format(E'\n... and %s more', count(*) - 20) ELSE '' END
              FROM (SELECT d.name || CASE WHEN t.item > 0 THEN '[' || t.item || coalesce(': ' || t.item_key, '') || ']' ELSE '' END || ': '
                           || fleet_catalog.state_name(t.state) || coalesce(' (' || t.sqlstate || ')', '') || coalesce(': ' || t.message, '') AS line,
                           row_number() OVER (ORDER BY t.task_no, t.item) AS n
                      FROM fleet_catalog.task_run AS t
                      JOIN fleet_catalog.definition_task AS d ON d.hash = v_run.definition AND d.task_no = t.task_no
                     WHERE t.run_id = a_run_id AND fleet_catalog.is_final(t.state) AND NOT fleet_catalog.is_done(t.state) AND NOT (d.for_each AND t.item = 0 AND t.message IS NULL)) AS f);
END
$$;

CREATE PROCEDURE fleet_link.watch_run(run_id bigint, INOUT state text, INOUT canceled boolean)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_watch_run';
COMMENT ON PROCEDURE fleet_link.watch_run(bigint, text, boolean)
    IS 'For fleet.execute_package(): waits until a run has changed, a minute at most, holding no snapshot and no lock; canceling it cancels the run';

-- Waits for a run and prints what happens.  a_what: of what it is, for messages.  It begins with a COMMIT: the run starts.
--
-- It cannot be called in a transaction block, and has no SET clause.  Every name is qualified instead, those of types too: a
-- domain "text" in the caller's search_path would run its CHECK with the caller's rights.
CREATE PROCEDURE fleet_link.follow_run(run_id bigint, what text)
    LANGUAGE plpgsql AS $$
DECLARE
    v_run pg_catalog.int8 := follow_run.run_id;
    v_state pg_catalog.text;
    v_news pg_catalog.record;
    v_line pg_catalog.text;
    v_seen pg_catalog.jsonb := pg_catalog.jsonb_build_object();
    v_final pg_catalog.bool := false;
    v_canceled pg_catalog.bool := false;
    v_asked pg_catalog.bool := false;
    v_failure pg_catalog.text;
BEGIN
    COMMIT;
    -- Whatever a cancel meets, it cancels the run; only what ends a transaction must not be in a block.
    BEGIN
        RAISE INFO 'run % of %', v_run, follow_run.what;
    EXCEPTION WHEN query_canceled THEN
        v_canceled := true;
    END;
    WHILE NOT v_final AND NOT v_canceled LOOP
        CALL fleet_link.watch_run(v_run, v_state, v_canceled);
        BEGIN
            v_final := v_state OPERATOR(pg_catalog.=) ANY ('{succeeded,failed,canceled,skipped,lost,unknown}'::pg_catalog.text[]) OR v_state IS NULL;
            v_news := fleet_link.run_news(v_run, v_seen);
            v_seen := v_news.seen_now;
            FOREACH v_line IN ARRAY v_news.lines LOOP
                RAISE INFO '%', v_line;
            END LOOP;
        EXCEPTION WHEN query_canceled THEN
            v_canceled := true;
        END;
    END LOOP;
    -- One cancel may come as two signals (to the process and to its group), and people press the key twice.
    WHILE v_canceled AND NOT v_asked LOOP
        BEGIN
            PERFORM fleet.cancel_run(v_run);
            v_asked := true;
        EXCEPTION WHEN query_canceled THEN
            NULL;
        END;
    END LOOP;
    IF v_canceled THEN
        COMMIT;
        RAISE EXCEPTION USING ERRCODE = 'query_canceled', MESSAGE = pg_catalog.format('canceling run %s of %s due to user request', v_run, follow_run.what),
            HINT = pg_catalog.format('The run is being stopped; CALL fleet.wait(%s) waits until it has.', v_run);
    END IF;
    IF v_state OPERATOR(pg_catalog.=) 'succeeded' THEN
        RAISE INFO 'run % succeeded', v_run;
        RETURN;
    END IF;
    v_failure := fleet_link.run_failure(v_run);
    RAISE EXCEPTION USING ERRCODE = 'triggered_action_exception',
        MESSAGE = pg_catalog.format('%s did not succeed: run %s is %s', follow_run.what, v_run, v_state),
        DETAIL = COALESCE(v_failure, (SELECT r.message FROM fleet.run AS r WHERE r.run_id OPERATOR(pg_catalog.=) v_run), 'No task reported an error.'),
        HINT = pg_catalog.format('For more, see SELECT * FROM fleet.log WHERE run_id = %s.', v_run);
END
$$;
COMMENT ON PROCEDURE fleet_link.follow_run(bigint, text) IS 'For fleet.execute_package() and fleet.execute_job(): waits for a run, printing its progress; raises an error if it does not succeed. Canceling it cancels the run';

-- Procedures, because what they ask for starts at COMMIT.
CREATE PROCEDURE fleet.execute_package(package text, params jsonb DEFAULT '{}')
    LANGUAGE plpgsql AS $$
DECLARE
    v_run pg_catalog.int8 := fleet.run_parent_package(execute_package.package, execute_package.params);
BEGIN
    CALL fleet_link.follow_run(v_run, pg_catalog.format('package "%s"', execute_package.package));
END
$$;
COMMENT ON PROCEDURE fleet.execute_package(text, jsonb)
    IS 'Runs a package and waits for it, printing its progress; raises an error if it does not succeed. Canceling the CALL cancels the run';

CREATE PROCEDURE fleet.execute_job(job text, params jsonb DEFAULT '{}', server text DEFAULT NULL, on_group text DEFAULT NULL,
                                   start_step text DEFAULT NULL)
    LANGUAGE plpgsql AS $$
DECLARE
    v_run pg_catalog.int8 := fleet_link.begin_job(execute_job.job, execute_job.params, execute_job.server, execute_job.on_group, execute_job.start_step);
BEGIN
    CALL fleet_link.follow_run(v_run, pg_catalog.format('job "%s"', execute_job.job));
END
$$;
COMMENT ON PROCEDURE fleet.execute_job(text, jsonb, text, text, text)
    IS 'Runs a job, here, on a server or on a member of a group, and waits for it, printing its progress; raises an error if it does not succeed. Canceling the CALL cancels it';
