-- 42_restart.sql: a run that restarts another one.
--
-- The session writes the new run with a row for each of its tasks: what is carried over has succeeded in it before it begins
-- (task_run.carried_from says in which run it did).  Which tasks those are is decided by src/core/restart.c.  Items of a
-- for_each, and the tasks of a nested run, are taken over by the agent when their task begins: carried_from of the task,
-- which is queued until then, says from which run.  So a restart costs the session its tasks, not its items.

CREATE FUNCTION fleet_catalog.restart_parts(a_from integer[], a_to integer[], a_old smallint[], a_chosen boolean[],
                                            OUT parts smallint[], OUT keeps boolean[]) RETURNS record
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_restart_parts';
COMMENT ON FUNCTION fleet_catalog.restart_parts(integer[], integer[], smallint[], boolean[])
    IS 'By task: 1 carried over, 2 runs again, keeping what succeeded of it, 3 runs again, 4 was skipped; by edge: does its condition keep its answer?';

CREATE FUNCTION fleet_catalog.nested_uuid(a_run_uuid uuid, a_task text, a_item integer, a_attempt integer) RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN fleet_catalog.content_hash(fleet_catalog.token((SELECT i.secret FROM fleet_catalog.identity AS i), a_run_uuid, a_task, a_item, a_attempt)::text || '/nested');
COMMENT ON FUNCTION fleet_catalog.nested_uuid(uuid, text, integer, integer) IS 'The uuid of the nested run that an attempt of a package task starts';

-- Task runs of which nobody can tell what they did, in a run and in the nested runs that a restart of it would continue.
CREATE FUNCTION fleet_catalog.unclear_tasks(a_run_id bigint) RETURNS TABLE (state smallint, what text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
WITH RECURSIVE part (run_id, run_uuid, definition, path) AS (
    SELECT r.run_id, r.run_uuid, r.definition, '' FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id
     UNION ALL
    SELECT n.run_id, n.run_uuid, n.definition, format('%s%s%s/', p.path, d.name, CASE WHEN t.item > 0 THEN format('[%s]', t.item) END)
      FROM part AS p
      JOIN fleet_catalog.definition_task AS d ON d.hash = p.definition AND d.kind = 'package'
      JOIN fleet_catalog.task_run AS t ON t.run_id = p.run_id AND t.task_no = d.task_no AND t.attempt > 0 AND NOT fleet_catalog.is_done(t.state)
      JOIN fleet_catalog.run AS n ON n.run_uuid = fleet_catalog.nested_uuid(p.run_uuid, d.name, t.item, t.attempt))
SELECT t.state, format('Task "%s%s"%s is %s.', p.path, d.name, CASE WHEN t.item > 0 THEN format(' item %s', t.item) END,
                       fleet_catalog.state_name(t.state))
  FROM part AS p
  JOIN fleet_catalog.task_run AS t ON t.run_id = p.run_id AND t.state IN (fleet_catalog.state_code('lost'), fleet_catalog.state_code('unknown'))
  JOIN fleet_catalog.definition_task AS d ON d.hash = p.definition AND d.task_no = t.task_no
 ORDER BY p.run_id, t.task_no, t.item
$$;
COMMENT ON FUNCTION fleet_catalog.unclear_tasks(bigint) IS 'Lost and unknown task runs of a run and of its nested runs';

-- What a restart begins with, task by task.  carries: its end is carried over; source: the run that it has it from, or (not
-- carried) whose items or whose nested run it takes over.
-- The task that is chosen to run again may be in a container: then the container is continued, and what it contains begins there.
CREATE FUNCTION fleet_catalog.leads_into(a_path text, a_task text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(pg_catalog.starts_with(a_path, a_task OPERATOR(pg_catalog.||) '/'), false);
COMMENT ON FUNCTION fleet_catalog.leads_into(text, text) IS 'Does this path name something in this container?';

CREATE FUNCTION fleet_catalog.restart_tasks(a_run fleet_catalog.run)
    RETURNS TABLE (task_no integer, old_state smallint, chosen boolean, carried_source bigint, resumed_source bigint)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT d.task_no,
       CASE WHEN t.state IN (fleet_catalog.state_code('lost'), fleet_catalog.state_code('unknown')) AND a_run.restart_unknown = 'succeeded'
            THEN fleet_catalog.state_code('succeeded')
            WHEN t.state = fleet_catalog.state_code('succeeded') AND fleet_catalog.leads_into(a_run.restart_from, d.name) THEN fleet_catalog.state_code('canceled')
            ELSE coalesce(t.state, fleet_catalog.state_code('queued')) END,
       d.name IS NOT DISTINCT FROM a_run.restart_from OR d.final OR d.catch, -- these run again whatever they did
       -- carried into that run too, if it neither ran nor waited for its items there
       CASE WHEN t.attempt = 0 AND t.started_at IS NULL THEN coalesce(t.carried_from, t.run_id) ELSE t.run_id END,
       CASE WHEN NOT (d.for_each OR d.kind = 'package') OR d.for_each <> o.for_each OR d.kind <> o.kind OR d.package <> o.package THEN NULL
            -- items of which none began are none: perhaps not all of them had been stored
            WHEN d.for_each AND EXISTS (SELECT FROM fleet_catalog.task_run AS i
                                         WHERE i.run_id = t.run_id AND i.task_no = t.task_no AND i.item > 0 AND i.attempt > 0) THEN t.run_id
            WHEN NOT d.for_each AND t.attempt > 0 THEN t.run_id
            ELSE t.carried_from END
  FROM fleet_catalog.definition_task AS d
  LEFT JOIN fleet_catalog.run AS r ON r.run_id = a_run.restart_of
  LEFT JOIN fleet_catalog.definition_task AS o ON o.hash = r.definition AND o.name = d.name
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id AND t.task_no = o.task_no AND t.item = 0
 WHERE d.hash = a_run.definition
 ORDER BY d.task_no
$$;
COMMENT ON FUNCTION fleet_catalog.restart_tasks(fleet_catalog.run) IS 'The tasks of a run that restarts another one, with what they were there';

CREATE FUNCTION fleet_catalog.restart_rows(a_run_id bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run fleet_catalog.run;
    v_old smallint[];
    v_chosen boolean[];
    v_from integer[];
    v_to integer[];
    v_plan record;
BEGIN
    SELECT r.* INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    SELECT array_agg(t.old_state ORDER BY t.task_no), array_agg(t.chosen ORDER BY t.task_no) INTO v_old, v_chosen
      FROM fleet_catalog.restart_tasks(v_run) AS t;
    SELECT coalesce(array_agg((e.edge ->> 'from')::integer ORDER BY e.n), '{}'), coalesce(array_agg((e.edge ->> 'to')::integer ORDER BY e.n), '{}')
      INTO v_from, v_to
      FROM fleet_catalog.definition AS d, jsonb_array_elements(d.body -> 'precedence') WITH ORDINALITY AS e (edge, n) WHERE d.hash = v_run.definition;
    v_plan := fleet_catalog.restart_parts(v_from, v_to, v_old, v_chosen);
    INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, server_id, finished_at, row_count, message, output, carried_from)
    SELECT a_run_id, n.task_no, 0, clock_timestamp(),
           fleet_catalog.state_change('task', fleet_catalog.state_code('queued'),
                                      CASE WHEN c.carried THEN fleet_catalog.state_code('succeeded') ELSE fleet_catalog.state_code('queued') END),
           t.server_id, CASE WHEN c.carried THEN clock_timestamp() END, t.row_count,
           fleet_catalog.carried_message(t.state, t.run_id, t.message), t.output,
           CASE WHEN c.carried THEN n.carried_source WHEN v_plan.parts[n.task_no + 1] = 2 THEN n.resumed_source END
      FROM fleet_catalog.restart_tasks(v_run) AS n
      CROSS JOIN LATERAL (SELECT v_plan.parts[n.task_no + 1] = 1 AS carried) AS c
      LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = v_run.definition AND d.task_no = n.task_no
      LEFT JOIN fleet_catalog.run AS r ON r.run_id = v_run.restart_of
      LEFT JOIN fleet_catalog.definition_task AS o ON o.hash = r.definition AND o.name = d.name
      LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id AND t.task_no = o.task_no AND t.item = 0 AND c.carried;
    -- what was skipped by request is so again, if nothing before it runs again
    INSERT INTO fleet_catalog.skip_request (run_id, task_no, item, reason, requested_by, requested_at)
    SELECT a_run_id, d.task_no, 0, s.reason, s.requested_by, s.requested_at
      FROM fleet_catalog.run AS r
      JOIN fleet_catalog.skip_request AS s ON s.run_id = r.run_id AND s.item = 0
      JOIN fleet_catalog.task_run AS t ON t.run_id = s.run_id AND t.task_no = s.task_no AND t.item = 0 AND t.state = fleet_catalog.state_code('skipped')
      JOIN fleet_catalog.definition_task AS o ON o.hash = r.definition AND o.task_no = s.task_no
      JOIN fleet_catalog.definition_task AS d ON d.hash = v_run.definition AND d.name = o.name
     WHERE r.run_id = v_run.restart_of AND v_plan.parts[d.task_no + 1] = 4;
    IF v_run.restart_definition = 'same' THEN
        INSERT INTO fleet_catalog.condition_result (run_id, from_task, to_task, holds)
        SELECT a_run_id, c.from_task, c.to_task, c.holds
          FROM unnest(v_from, v_to, v_plan.keeps) AS e (from_task, to_task, keeps)
          JOIN fleet_catalog.condition_result AS c ON c.run_id = v_run.restart_of AND c.from_task = e.from_task AND c.to_task = e.to_task
         WHERE e.keeps;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.restart_rows(bigint) IS 'The rows of the tasks of a run that restarts another one';

CREATE FUNCTION fleet_catalog.carried_message(a_state smallint, a_run_id bigint, a_message text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN a_state IN (fleet_catalog.state_code('lost'), fleet_catalog.state_code('unknown'))
            THEN format('counts as succeeded, though it was %s in run %s', fleet_catalog.state_name(a_state), a_run_id)
            ELSE a_message END
$$;
COMMENT ON FUNCTION fleet_catalog.carried_message(smallint, bigint, text) IS 'The message of a task run that is carried over';

-- For the agent: the next items that a for_each takes over.
CREATE FUNCTION fleet_catalog.take_over_items(a_run_id bigint, a_task_no integer, a_after integer, a_count integer)
    RETURNS TABLE (item integer, carried boolean, params jsonb, item_key text, cost double precision)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
WITH source AS (
    SELECT o.run_id, p.task_no, n.restart_unknown = 'succeeded' AS counts_unknown,
           fleet_catalog.leads_into(n.restart_from, d.name) AS again -- each begins at the chosen task
      FROM fleet_catalog.task_run AS w
      JOIN fleet_catalog.run AS n ON n.run_id = w.run_id
      JOIN fleet_catalog.definition_task AS d ON d.hash = n.definition AND d.task_no = w.task_no
      JOIN fleet_catalog.run AS o ON o.run_id = w.carried_from
      JOIN fleet_catalog.definition_task AS p ON p.hash = o.definition AND p.name = d.name
     WHERE w.run_id = a_run_id AND w.task_no = a_task_no AND w.item = 0
), old AS (
    SELECT i.*, NOT s.again AND (i.state = fleet_catalog.state_code('succeeded')
                                 OR (s.counts_unknown AND i.state IN (fleet_catalog.state_code('lost'), fleet_catalog.state_code('unknown')))) AS carried
      FROM source AS s
      JOIN fleet_catalog.task_run AS i ON i.run_id = s.run_id AND i.task_no = s.task_no AND i.item > greatest(a_after, 0)
     ORDER BY i.item LIMIT a_count
), made AS (
    INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, params, item_key, cost, state, server_id, finished_at, row_count, message, output, carried_from)
    SELECT a_run_id, a_task_no, o.item, clock_timestamp(), o.params, o.item_key, o.cost,
           fleet_catalog.state_change('task', fleet_catalog.state_code('queued'),
                                      CASE WHEN o.carried THEN fleet_catalog.state_code('succeeded') ELSE fleet_catalog.state_code('queued') END),
           CASE WHEN o.carried THEN o.server_id END, CASE WHEN o.carried THEN clock_timestamp() END,
           CASE WHEN o.carried THEN o.row_count END,
           CASE WHEN o.carried THEN fleet_catalog.carried_message(o.state, o.run_id, o.message) END, CASE WHEN o.carried THEN o.output END,
           -- carried already, or never begun in that run: from where that run had it
           CASE WHEN o.attempt = 0 THEN o.carried_from ELSE o.run_id END
      FROM old AS o ORDER BY o.item
    RETURNING task_run.item, task_run.state, task_run.params, task_run.item_key, task_run.cost)
SELECT m.item, m.state = fleet_catalog.state_code('succeeded'), m.params, m.item_key, m.cost FROM made AS m ORDER BY m.item
$$;
COMMENT ON FUNCTION fleet_catalog.take_over_items(bigint, integer, integer, integer)
    IS 'Rows of the items of a for_each after the given one, as they are in the run that its own run restarts';

-- For the agent: the nested run of a package task that continues the one of an earlier run.  Null: there is none, it begins afresh.
CREATE FUNCTION fleet_catalog.restart_nested(a_run_id bigint, a_task_no integer, a_item integer, a_run_uuid uuid) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_parent fleet_catalog.run;
    v_old fleet_catalog.run;
    v_inner record;
    v_definition uuid;
    v_run_id bigint;
BEGIN
    SELECT r.* INTO v_parent FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    SELECT n.* INTO v_old
      FROM fleet_catalog.task_run AS t
      JOIN fleet_catalog.definition_task AS d ON d.hash = v_parent.definition AND d.task_no = t.task_no
      JOIN fleet_catalog.run AS o ON o.run_id = t.carried_from
      JOIN fleet_catalog.definition_task AS p ON p.hash = o.definition AND p.name = d.name AND p.package = d.package
      JOIN fleet_catalog.task_run AS w ON w.run_id = o.run_id AND w.task_no = p.task_no AND w.item = t.item
      JOIN fleet_catalog.run AS n ON n.run_uuid = fleet_catalog.nested_uuid(o.run_uuid, d.name, w.item, w.attempt)
     WHERE t.run_id = a_run_id AND t.task_no = a_task_no AND t.item = a_item AND fleet_catalog.is_final(n.state);
    IF NOT FOUND OR NOT fleet_catalog.may_become(v_parent.owner, v_old.owner) THEN
        RETURN NULL;
    END IF;
    v_definition := v_old.definition;
    IF v_parent.restart_definition = 'current' THEN
        SELECT i.* INTO v_inner FROM fleet_catalog.inner_package(v_parent.definition, NULL, v_old.package, v_parent.owner) AS i;
        IF v_inner.owner IS DISTINCT FROM v_old.owner::oid THEN
            RETURN NULL;
        END IF;
        v_definition := fleet_catalog.store_definition('package', v_inner.body);
    END IF;
    INSERT INTO fleet_catalog.run (run_uuid, package, definition, owner, priority, params, parent_run_id, parent_task_no, parent_item,
                                   requested_by, restart_of, restart_unknown, restart_definition, restart_from, timeout, deadline_after, scheduled_for,
                                   hook_depth)
    SELECT a_run_uuid, v_old.package, v_definition, v_old.owner, v_parent.priority, v_old.params, a_run_id, a_task_no, a_item,
           v_parent.requested_by, v_old.run_id, v_parent.restart_unknown, v_parent.restart_definition,
           (SELECT substr(v_parent.restart_from, length(p.name) + 2) FROM fleet_catalog.definition_task AS p
             WHERE p.hash = v_parent.definition AND p.task_no = a_task_no AND fleet_catalog.leads_into(v_parent.restart_from, p.name)),
           fleet_catalog.from_microseconds((d.body ->> 'timeout_us')::bigint), fleet_catalog.from_microseconds((d.body ->> 'deadline_us')::bigint),
           v_old.scheduled_for, v_parent.hook_depth
      FROM fleet_catalog.definition AS d WHERE d.hash = v_definition
    RETURNING run_id INTO v_run_id;
    PERFORM fleet_catalog.restart_rows(v_run_id);
    RETURN v_run_id;
END
$$;
COMMENT ON FUNCTION fleet_catalog.restart_nested(bigint, integer, integer, uuid) IS 'Restarts the nested run that a package task had in the run that its own run restarts';

-- The newest run of a chain of restarts.
CREATE FUNCTION fleet_catalog.newest_restart(a_run_id bigint) RETURNS bigint
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE chain (run_id) AS (
    SELECT a_run_id
     UNION ALL
    SELECT r.run_id FROM chain AS c JOIN fleet_catalog.run AS r ON r.restart_of = c.run_id AND r.parent_run_id IS NULL)
SELECT max(c.run_id) FROM chain AS c
$$;
COMMENT ON FUNCTION fleet_catalog.newest_restart(bigint) IS 'The run that restarts this one, or the one that restarts that one, and so on; itself if none does';

-- ---- the session -------------------------------------------------------------------------------

CREATE FUNCTION fleet.restart_run(run_id bigint, from_task text DEFAULT NULL, unknown text DEFAULT 'refuse', definition text DEFAULT 'same') RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.restart_run(bigint, text, text, text)
    IS 'Restarts a run of which a task did not succeed: a new run in which what succeeded is carried over, and everything else runs. Returns its run_id';

-- Who restarts what: nothing but a run that has ended, that no other run restarts, and that is not a part of another run.
CREATE FUNCTION fleet_catalog.check_restartable(a_run fleet_catalog.run, a_from_task text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_top bigint := a_run.run_id;
    v_up bigint := a_run.parent_run_id;
    v_by bigint := fleet_catalog.newest_restart(a_run.run_id);
BEGIN
    WHILE v_up IS NOT NULL LOOP
        v_top := v_up;
        SELECT r.parent_run_id INTO v_up FROM fleet_catalog.run AS r WHERE r.run_id = v_top;
    END LOOP;
    IF v_top <> a_run.run_id THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s is a part of run %s', a_run.run_id, v_top),
            HINT = format('Restart run %s: what succeeded in its nested runs is carried over too.', v_top);
    ELSIF a_run.parent_job_run_id IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s was started by a step of a job', a_run.run_id),
            HINT = 'Start the job again, or restart the run of the parent that started it.';
    ELSIF NOT fleet_catalog.is_final(a_run.state) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s has not ended', a_run.run_id),
            DETAIL = format('It is %s.', fleet_catalog.state_name(a_run.state)), HINT = 'Wait for it with fleet.wait(), or stop it with fleet.cancel_run().';
    ELSIF v_by <> a_run.run_id THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s has already been restarted', a_run.run_id),
            DETAIL = format('The last run that restarts it is %s.', v_by), HINT = format('Restart run %s.', v_by);
    ELSIF (SELECT count(*) FROM fleet_catalog.chain(a_run.run_id)) > 100 THEN -- they are purged at once
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('run %s is the 100th restart of a run', a_run.run_id),
            DETAIL = 'Runs that restart each other are at most 100.', HINT = 'Start a new run with fleet.run_parent_package().';
    ELSIF a_run.state = fleet_catalog.state_code('succeeded') AND a_from_task IS NULL
          AND NOT EXISTS (SELECT FROM fleet_catalog.task_run AS t
                           WHERE t.run_id = a_run.run_id AND t.item = 0 AND NOT fleet_catalog.is_done(t.state)) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s succeeded', a_run.run_id),
            DETAIL = 'No task of it failed.', HINT = 'To run a task and all that follows it again, name the task with from_task.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_restartable(fleet_catalog.run, text) IS 'Error if a run cannot be restarted now';

CREATE FUNCTION fleet_catalog.check_unclear(a_run_id bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_count bigint;
    v_first text;
BEGIN
    SELECT count(*), string_agg(u.what, ' ' ORDER BY u.n) FILTER (WHERE u.n <= 10) INTO v_count, v_first
      FROM (SELECT t.what, row_number() OVER () AS n FROM fleet_catalog.unclear_tasks(a_run_id) AS t) AS u;
    IF v_count > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('run %s has tasks of which it is not known what they did', a_run_id),
            DETAIL = v_first || CASE WHEN v_count > 10 THEN format(' And %s more.', v_count - 10) ELSE '' END,
            HINT = 'Find out what they did. Then run them again with unknown => ''run'', or count them as succeeded with unknown => ''succeeded''.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_unclear(bigint) IS 'Error if a run has lost or unknown task runs';

-- The document names servers and groups as they were.  One that somebody else has named so since then is another one.
CREATE FUNCTION fleet_catalog.check_same_places(a_run fleet_catalog.run) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_taken record;
BEGIN
    SELECT x.* INTO v_taken
      FROM fleet_catalog.definition AS d
     CROSS JOIN jsonb_path_query(d.body, '$.** ? (@.kind == "job")') AS t (task)
     CROSS JOIN LATERAL (
           SELECT 'server' AS what, s.name::text AS name, s.owner, s.named_at FROM fleet_catalog.server AS s
            WHERE s.name = t.task ->> 'server' OR t.task ->> 'server' = ANY (s.former_names)
           UNION ALL
           SELECT 'group', g.name, g.owner, g.named_at FROM fleet_catalog.server_group AS g WHERE g.name = t.task ->> 'on_group') AS x
     WHERE d.hash = a_run.definition AND x.named_at > a_run.queued_at AND x.owner::oid <> a_run.owner::oid
       -- a superuser may become anybody, and means nobody else by that
       AND ((SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = a_run.owner) AND NOT coalesce((SELECT r.rolsuper FROM pg_roles AS r WHERE r.oid = x.owner), false)
            OR NOT fleet_catalog.may_become(a_run.owner, x.owner))
     ORDER BY x.what, x.name LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('%s "%s" is not the one that run %s knew', v_taken.what, v_taken.name, a_run.run_id),
            DETAIL = format('Role "%s" has given this name to another one since then.', v_taken.owner::text),
            HINT = 'If the package still means it, use definition => ''current'', or start a new run.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_same_places(fleet_catalog.run) IS 'Error if a server or group of another role has a name now that the document of a run knows for something else';

-- The definition of the restart: that of the old run, or the present one, which must still be its owner's.
CREATE FUNCTION fleet_catalog.restart_definition(a_run fleet_catalog.run, a_definition text) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package;
    v_body jsonb;
    v_left record;
BEGIN
    IF a_definition = 'same' THEN
        PERFORM fleet_catalog.check_same_places(a_run);
        RETURN a_run.definition;
    END IF;
    SELECT p.* INTO v_package FROM fleet_catalog.package AS p WHERE p.name = a_run.package;
    IF a_run.job IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s is that of a job', a_run.run_id),
            HINT = 'Use definition => ''same'' for the version that the run had, or start the job again with fleet.start_job().';
    ELSIF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" does not exist', a_run.package),
            HINT = 'Use definition => ''same'' for the version that the run had.';
    ELSIF v_package.owner <> a_run.owner THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('package "%s" belongs to another role now', a_run.package),
            DETAIL = format('The run is of role "%s".', a_run.owner::text), HINT = 'Use definition => ''same'' for the version that the run had, or start a new run.';
    END IF;
    PERFORM fleet_catalog.check_runnable(v_package);
    -- what was left out of that run is left out of this one
    v_body := fleet_catalog.checked_body(v_package.name);
    FOR v_left IN SELECT t.reason, array_agg(t.path) AS names
                    FROM fleet_catalog.definition AS d, fleet_catalog.left_out(d.body) AS t WHERE d.hash = a_run.definition GROUP BY 1
    LOOP
        v_body := fleet_catalog.leave_out(v_body, v_left.names, v_left.reason);
    END LOOP;
    RETURN fleet_catalog.store_definition('package', v_body);
END
$$;
COMMENT ON FUNCTION fleet_catalog.restart_definition(fleet_catalog.run, text) IS 'The document that a restart of a run executes';

CREATE FUNCTION fleet_catalog.check_not_running(a_run fleet_catalog.run) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_running bigint;
BEGIN
    IF fleet_catalog.decide_overlap(a_run.package_id) IS DISTINCT FROM 'skip' THEN
        RETURN;
    END IF;
    v_running := fleet_catalog.open_run(a_run.package_id);
    IF v_running IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('package "%s" is already running', a_run.package),
            DETAIL = format('Its run is %s. Its overlap policy is "skip".', v_running), HINT = 'Restart it when that run has ended.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_not_running(fleet_catalog.run) IS 'Error if the overlap policy of the package forbids another run now';

CREATE FUNCTION fleet_catalog.restart_run(a_run_id bigint, a_from_task text, a_unknown text, a_definition text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_old fleet_catalog.run;
    v_definition uuid;
    v_run_id bigint;
BEGIN
    SELECT r.* INTO v_old FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id FOR KEY SHARE; -- it is not purged before COMMIT
    PERFORM fleet_catalog.check_may_cancel('run', a_run_id, v_old.owner);
    PERFORM fleet_catalog.check_choice('unknown', a_unknown, 'refuse', 'run', 'succeeded');
    PERFORM fleet_catalog.check_choice('definition', a_definition, 'same', 'current');
    PERFORM fleet_catalog.check_restartable(v_old, a_from_task);
    v_definition := fleet_catalog.restart_definition(v_old, a_definition);
    IF a_from_task IS NOT NULL THEN
        PERFORM fleet_catalog.check_task_names(d.body, ARRAY[a_from_task]) FROM fleet_catalog.definition AS d WHERE d.hash = v_definition;
    END IF;
    IF a_unknown = 'refuse' THEN
        PERFORM fleet_catalog.check_unclear(a_run_id);
    END IF;
    PERFORM fleet_catalog.check_not_running(v_old);
    PERFORM fleet_catalog.check_open_runs(v_old.owner);
    -- The uuid follows from the old run's: a restart that is asked for again after its commit was lost with a primary
    -- starts nothing twice.  What an earlier restart was told about unknown tasks holds for those that it did not come to.
    INSERT INTO fleet_catalog.run (run_uuid, package, job, job_run_id, definition, owner, priority, params, run_key, restart_of, restart_unknown,
                                   restart_definition, restart_from, package_id, max_parallel, replaces, timeout, deadline, deadline_after, scheduled_for)
    SELECT fleet_catalog.content_hash(v_old.run_uuid::text || '/restart'), v_old.package, v_old.job,
           CASE WHEN v_old.job IS NOT NULL THEN fleet_catalog.next_job_run() END, v_definition, v_old.owner, v_old.priority, v_old.params,
           v_old.run_key, a_run_id, CASE a_unknown WHEN 'refuse' THEN coalesce(v_old.restart_unknown, 'run') ELSE a_unknown END, a_definition, a_from_task,
           v_old.package_id, CASE WHEN p.package_id IS NULL THEN v_old.max_parallel ELSE fleet_catalog.parallel_limit(p.overlap, p.max_parallel) END, coalesce(p.overlap = 'replace', false),
           v_old.timeout, CASE WHEN v_old.deadline > clock_timestamp() THEN v_old.deadline END, v_old.deadline_after, v_old.scheduled_for
      FROM (SELECT) AS one LEFT JOIN fleet_catalog.package AS p ON p.package_id = v_old.package_id
    ON CONFLICT (restart_of) WHERE restart_of IS NOT NULL AND parent_run_id IS NULL DO NOTHING
    RETURNING run_id INTO v_run_id;
    IF NOT FOUND THEN -- another session was faster
        PERFORM fleet_catalog.check_restartable(v_old, a_from_task);
    END IF;
    PERFORM fleet_catalog.restart_rows(v_run_id);
    PERFORM fleet_catalog.wake('run', v_run_id);
    RETURN v_run_id;
END
$$;
