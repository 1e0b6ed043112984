-- 32_snapshot.sql: definitions as documents.  A run keeps the document that it was started with;
-- the agent reads nothing else.  Roles are written as regrole writes them (quoted where needed).  a_path: what contains what, to find a package that contains itself.

CREATE FUNCTION fleet_catalog.check_path(a_path text[], a_what text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_what = ANY (a_path) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = format('%s contains itself', a_what),
            DETAIL = format('Path: %s.', array_to_string(a_path[array_position(a_path, a_what):] || a_what, ' -> ')),
            HINT = 'Remove one of them from the package or job that contains it.';
    ELSIF cardinality(a_path) >= 32 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'packages and jobs are nested too deeply',
            DETAIL = format('Path: %s.', array_to_string(a_path, ' -> ')), HINT = 'At most 32 levels are allowed.';
    END IF;
    RETURN a_path || a_what;
END
$$;

-- A task that is left out of the run has a "left_out", the reason; a container, and what is in it, "container".  With RETURN, it becomes part of the query that calls it.
CREATE FUNCTION fleet_catalog.task_json(a_task fleet_catalog.task) RETURNS jsonb
    LANGUAGE sql STABLE
    RETURN to_jsonb(a_task) - '{package_id,retry_wait,retry_max,timeout,enabled,limits}'::text[]
        || CASE WHEN a_task.limits = '{}' THEN '{}'::jsonb ELSE jsonb_build_object('limits', a_task.limits) END
        || CASE WHEN NOT a_task.enabled THEN '{"left_out": "disabled"}'
                WHEN a_task.job IS NOT NULL AND EXISTS (SELECT FROM fleet_catalog.job AS j JOIN fleet_catalog.package AS p ON p.package_id = a_task.package_id
                                                          WHERE j.name = a_task.job AND NOT j.enabled AND fleet_catalog.may_become(p.owner, j.owner))
                THEN jsonb_build_object('left_out', format('job "%s" is disabled', a_task.job))
                WHEN a_task.package IS NOT NULL AND EXISTS (SELECT FROM fleet_catalog.package AS n WHERE n.name = a_task.package AND NOT n.enabled)
                THEN jsonb_build_object('left_out', format('package "%s" is disabled', a_task.package)) ELSE '{}'::jsonb END
        || CASE WHEN a_task.kind <> 'package' OR NOT EXISTS (SELECT FROM fleet_catalog.package AS c WHERE c.container_of = a_task.package_id AND c.container_task = a_task.name)
                THEN '{}'::jsonb ELSE '{"container": true}' END
        || jsonb_build_object(
            'retry_wait_us', fleet_catalog.microseconds(a_task.retry_wait), 'retry_max_us', fleet_catalog.microseconds(a_task.retry_max),
            'timeout_us', fleet_catalog.microseconds(a_task.timeout));

CREATE FUNCTION fleet_catalog.job_body(a_name text, a_path text[]) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text[] := fleet_catalog.check_path(a_path, format('job "%s"', a_name));
    v_body jsonb;
BEGIN
    SELECT jsonb_build_object(
               'name', j.name, 'owner', fleet_catalog.role_name(j.owner), 'params', j.params, 'leaves_clean', j.leaves_clean, 'enabled', j.enabled,
               'steps', coalesce((
                   SELECT jsonb_agg(to_jsonb(s) - '{job_id,retry_wait,retry_max,timeout,run_as,enabled}'::text[]
                              || CASE WHEN NOT s.enabled THEN '{"left_out": "disabled"}'
                                      WHEN EXISTS (SELECT FROM fleet_catalog.package AS n WHERE n.name = s.package AND NOT n.enabled)
                                      THEN jsonb_build_object('left_out', format('package "%s" is disabled', s.package)) ELSE '{}'::jsonb END
                              || jsonb_build_object(
                                  'retry_wait_us', fleet_catalog.microseconds(s.retry_wait),
                                  'retry_max_us', fleet_catalog.microseconds(s.retry_max),
                                  'timeout_us', fleet_catalog.microseconds(s.timeout), 'run_as', fleet_catalog.role_name(s.run_as),
                                  'success_goto_no', g.step_no, 'failure_goto_no', h.step_no) ORDER BY s.step_no)
                     FROM fleet_catalog.step AS s
                     LEFT JOIN fleet_catalog.step AS g ON g.job_id = s.job_id AND g.name = s.success_goto
                     LEFT JOIN fleet_catalog.step AS h ON h.job_id = s.job_id AND h.name = s.failure_goto
                    WHERE s.job_id = j.job_id), '[]'),
               'packages', coalesce((SELECT jsonb_object_agg(p.name, fleet_catalog.package_body(p.name, v_path))
                                       FROM fleet_catalog.package AS p
                                      WHERE p.name IN (SELECT s.package FROM fleet_catalog.step AS s WHERE s.job_id = j.job_id)), '{}'))
      INTO v_body FROM fleet_catalog.job AS j WHERE j.name = a_name;
    RETURN v_body;
END
$$;

CREATE FUNCTION fleet_catalog.package_body(a_name text, a_path text[]) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text[] := fleet_catalog.check_path(a_path, format('package "%s"', a_name));
    v_body jsonb;
BEGIN
    SELECT jsonb_build_object(
               'name', p.name, 'owner', fleet_catalog.role_name(p.owner), 'params', p.params, 'overlap', p.overlap, 'priority', p.priority,
               'enabled', p.enabled, 'failed_if', (SELECT r.failed_if FROM fleet_catalog.package AS r WHERE r.package_id = coalesce(p.root_id, p.package_id)),
               'timeout_us', fleet_catalog.microseconds(p.timeout), 'deadline_us', fleet_catalog.microseconds(p.deadline),
               'tasks', coalesce((SELECT jsonb_agg(fleet_catalog.task_json(t) ORDER BY t.task_no)
                                    FROM fleet_catalog.task AS t WHERE t.package_id = p.package_id), '[]'),
               'precedence', coalesce((SELECT jsonb_agg(jsonb_build_object('from', f.task_no, 'to', t.task_no,
                                                        'on_outcome', c.on_outcome, 'condition', c.condition)
                                                        ORDER BY f.task_no, t.task_no)
                                         FROM fleet_catalog.precedence AS c
                                         JOIN fleet_catalog.task AS f ON f.package_id = c.package_id AND f.name = c.from_task
                                         JOIN fleet_catalog.task AS t ON t.package_id = c.package_id AND t.name = c.to_task
                                        WHERE c.package_id = p.package_id), '[]'),
               'jobs', coalesce((SELECT jsonb_object_agg(j.name, fleet_catalog.job_body(j.name, v_path))
                                   FROM fleet_catalog.job AS j
                                  WHERE j.name IN (SELECT t.job FROM fleet_catalog.task AS t WHERE t.package_id = p.package_id)), '{}'),
               'packages', coalesce((SELECT jsonb_object_agg(n.name, fleet_catalog.package_body(n.name, v_path))
                                       FROM fleet_catalog.package AS n
                                      WHERE n.name IN (SELECT t.package FROM fleet_catalog.task AS t WHERE t.package_id = p.package_id)), '{}'))
           -- Anybody may define a job.  One whose owner the package's owner may not act as is not what its tasks mean by the name:
           -- on servers of mode agent they go on by name.
           || coalesce((SELECT jsonb_build_object('by_name', jsonb_agg(j.name ORDER BY j.name)) FROM fleet_catalog.job AS j
                         WHERE j.name IN (SELECT t.job FROM fleet_catalog.task AS t WHERE t.package_id = p.package_id)
                           AND NOT coalesce(fleet_catalog.may_become(p.owner, j.owner), false) HAVING count(*) > 0), '{}')
           || CASE WHEN p.root_id IS NULL THEN '{}'::jsonb ELSE '{"container": true}' END
           -- a job with packages in it is the same wherever it is
           || CASE WHEN EXISTS (SELECT FROM unnest(a_path) AS u (what) WHERE u.what LIKE 'job %') THEN '{}'
                   ELSE jsonb_build_object('version', (SELECT max(v.version) FROM fleet_catalog.version AS v WHERE v.package_id = coalesce(p.root_id, p.package_id))) END
      INTO v_body FROM fleet_catalog.package AS p WHERE p.name = a_name;
    RETURN v_body;
END
$$;

-- Only what was added is looked at: a package of a thousand tasks is made one task at a time.
CREATE FUNCTION fleet_catalog.check_content(a_path text[], a_job text, a_package text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.job_body(j.name, a_path) FROM fleet_catalog.job AS j WHERE j.name = a_job;
    PERFORM fleet_catalog.package_body(p.name, a_path) FROM fleet_catalog.package AS p WHERE p.name = a_package;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_content(text[], text, text) IS 'Raises an error if a job or package that was put into the end of this path contains something of the path, or makes it too deep';

CREATE FUNCTION fleet_catalog.path_of(a_package_id integer) RETURNS text[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE up AS (
    SELECT p.name, p.container_of, 0 AS level FROM fleet_catalog.package AS p WHERE p.package_id = a_package_id
    UNION ALL
    SELECT p.name, p.container_of, up.level + 1 FROM up JOIN fleet_catalog.package AS p ON p.package_id = up.container_of)
SELECT array_agg(format('package "%s"', up.name) ORDER BY up.level DESC) FROM up
$$;
COMMENT ON FUNCTION fleet_catalog.path_of(integer) IS 'Path of a package for check_content(): the packages that a container is in, outermost first, and itself';

-- Also for the agent.  The session that inserts a document first may keep its transaction open: others must
-- not wait for it, so they store it under another hash.  (A user who holds this advisory lock only
-- causes documents to be stored twice.)
CREATE FUNCTION fleet_catalog.store_definition(a_kind text, a_body jsonb) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    -- content_hash(), written out: this is on the path of every run
    v_hash uuid := encode(substr(sha256(convert_to(a_body::text, 'UTF8')), 1, 16), 'hex')::uuid;
    v_kind text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT pg_try_advisory_xact_lock_shared(1179407681, 0) THEN
        v_hash := gen_random_uuid(); -- it may have been purged since our snapshot, or is being purged now
    END IF;
    SELECT d.kind INTO v_kind FROM fleet_catalog.definition AS d WHERE d.hash = v_hash;
    IF v_kind IS DISTINCT FROM a_kind THEN
        IF v_kind IS NOT NULL OR NOT pg_try_advisory_xact_lock(1179407680, hashtext(v_hash::text)) THEN
            v_hash := gen_random_uuid();
        END IF;
        INSERT INTO fleet_catalog.definition (hash, kind, body, version) VALUES (v_hash, a_kind, a_body, (a_body ->> 'version')::integer) ON CONFLICT DO NOTHING;
        IF FOUND AND a_kind = 'package' THEN
            INSERT INTO fleet_catalog.definition_task (hash, task_no, name, kind, job, package, for_each, final, catch, job_hash, limits)
            SELECT v_hash, (t ->> 'task_no')::integer, t ->> 'name', t ->> 'kind', t ->> 'job', t ->> 'package', t ->> 'for_each' IS NOT NULL OR coalesce((t ->> 'catch')::boolean, false),
                   coalesce((t ->> 'final')::boolean, false), coalesce((t ->> 'catch')::boolean, false),
                   CASE WHEN NOT coalesce(a_body -> 'by_name' ? (t ->> 'job'), false) OR num_nonnulls(t ->> 'server', t ->> 'on_group') = 0
                        THEN fleet_catalog.content_hash((a_body -> 'jobs' -> (t ->> 'job'))::text) END,
                   CASE WHEN t ? 'limits' THEN ARRAY(SELECT jsonb_array_elements_text(t -> 'limits')) END
              FROM jsonb_array_elements(a_body -> 'tasks') AS t;
        END IF;
    END IF;
    RETURN v_hash;
END
$$;

-- What a job needs to be able to run, that its definition step by step could not know.
CREATE FUNCTION fleet_catalog.check_job_body(a_body jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_name text := a_body ->> 'name';
    v_step jsonb;
BEGIN
    IF a_body -> 'steps' = '[]' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('job "%s" has no steps', v_name),
            HINT = 'Add one with fleet.add_step().';
    END IF;
    SELECT s INTO v_step FROM jsonb_array_elements(a_body -> 'steps') AS s
     WHERE (s ->> 'success_goto' IS NOT NULL AND s ->> 'success_goto_no' IS NULL)
        OR (s ->> 'failure_goto' IS NOT NULL AND s ->> 'failure_goto_no' IS NULL)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('step "%s" of job "%s" goes to a step that does not exist', v_step ->> 'name', v_name),
            DETAIL = format('There is no step "%s".', CASE WHEN v_step ->> 'success_goto' IS NOT NULL AND v_step ->> 'success_goto_no' IS NULL
                                                      THEN v_step ->> 'success_goto' ELSE v_step ->> 'failure_goto' END),
            HINT = 'Add it with fleet.add_step().';
    END IF;
    SELECT s INTO v_step FROM jsonb_array_elements(a_body -> 'steps') AS s
     WHERE s ->> 'package' IS NOT NULL AND NOT a_body -> 'packages' ? (s ->> 'package')
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" does not exist', v_step ->> 'package'),
            DETAIL = format('Step "%s" of job "%s" runs it.', v_step ->> 'name', v_name), HINT = 'Create it with fleet.create_package().';
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.check_enabled(a_kind text, a_name text, a_enabled boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT a_enabled THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('%s "%s" is disabled', a_kind, a_name),
            HINT = format('Enable it with fleet.alter_%1$s(%2$L, enabled => true).', a_kind, a_name);
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.snapshot_job(a_name text, a_start_step text DEFAULT NULL) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body jsonb;
BEGIN
    PERFORM fleet_catalog.store_edits();
    v_body := fleet_catalog.job_body(a_name, '{}');
    PERFORM fleet_catalog.check_enabled('job', a_name, (v_body -> 'enabled')::boolean);
    PERFORM fleet_catalog.check_job_body(v_body);
    RETURN fleet_catalog.store_definition('job', fleet_catalog.begin_at(v_body, a_start_step));
END
$$;

-- The document of what is in a container, in that of the package or container around it; null: there is no such container.
CREATE FUNCTION fleet_catalog.container_body(a_body jsonb, a_task text) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT a_body -> 'packages' -> (t.task ->> 'package') FROM jsonb_array_elements(a_body -> 'tasks') AS t (task)
 WHERE t.task ->> 'name' = a_task AND t.task ? 'container'
$$;
COMMENT ON FUNCTION fleet_catalog.container_body(jsonb, text) IS 'What is in a container, in a document';

CREATE FUNCTION fleet_catalog.has_path(a_body jsonb, a_path text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_head text := split_part(a_path, '/', 1);
BEGIN
    RETURN coalesce(EXISTS (SELECT FROM jsonb_array_elements(a_body -> 'tasks') AS t (task) WHERE t.task ->> 'name' = a_path)
                    OR length(a_path) > length(v_head) AND fleet_catalog.container_body(a_body, v_head) IS NOT NULL
                       AND fleet_catalog.has_path(fleet_catalog.container_body(a_body, v_head), substr(a_path, length(v_head) + 2)), false);
END
$$;
COMMENT ON FUNCTION fleet_catalog.has_path(jsonb, text) IS 'Has a document a task with this path?';

-- Tasks of a document that others need that are not there.
CREATE FUNCTION fleet_catalog.check_task_names(a_body jsonb, a_names text[]) RETURNS void
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_unknown text[] := ARRAY(SELECT u.name FROM unnest(a_names) WITH ORDINALITY AS u (name, n) WHERE NOT fleet_catalog.has_path(a_body, u.name) ORDER BY u.n);
BEGIN
    IF v_unknown <> '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('package "%s" has no task %s', a_body ->> 'name',
                             (SELECT string_agg(coalesce('"' || u || '"', 'null'), ', ') FROM unnest(v_unknown) AS u)),
            HINT = fleet_catalog.known(ARRAY(SELECT t.task ->> 'name' FROM jsonb_array_elements(a_body -> 'tasks') WITH ORDINALITY AS t (task, n) ORDER BY t.n), 'fleet.add_task()');
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_task_names(jsonb, text[]) IS 'Error if a package''s document has no tasks of these names or paths';

CREATE FUNCTION fleet_catalog.is_main(a_task jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN NOT coalesce((a_task OPERATOR(pg_catalog.->>) 'final')::boolean OR (a_task OPERATOR(pg_catalog.->>) 'catch')::boolean, false);
COMMENT ON FUNCTION fleet_catalog.is_main(jsonb) IS 'Is a task of a document neither final nor a handler?';

-- Of paths: those that lead into this container, from there on.
CREATE FUNCTION fleet_catalog.paths_in(a_paths text[], a_container text) RETURNS text[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce(array_agg(substr(p.path, length(a_container) + 2) ORDER BY p.n), '{}') FROM unnest(a_paths) WITH ORDINALITY AS p (path, n)
 WHERE starts_with(p.path, a_container || '/')
$$;
COMMENT ON FUNCTION fleet_catalog.paths_in(text[], text) IS 'Those of some paths that lead into a container, seen from inside';

-- a_names: tasks, also in containers, that are left out for this reason, unless they are already.
CREATE FUNCTION fleet_catalog.leave_out(a_body jsonb, a_names text[], a_reason text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body jsonb := a_body;
    v_container text;
BEGIN
    IF a_names = '{}' THEN
        RETURN a_body;
    END IF;
    v_body := jsonb_set(v_body, '{tasks}', (
        SELECT coalesce(jsonb_agg(CASE WHEN t.task ->> 'name' = ANY (a_names) THEN jsonb_build_object('left_out', a_reason) || t.task ELSE t.task END ORDER BY t.n), '[]')
          FROM jsonb_array_elements(a_body -> 'tasks') WITH ORDINALITY AS t (task, n)));
    FOR v_container IN SELECT t.task ->> 'name' FROM jsonb_array_elements(a_body -> 'tasks') AS t (task)
                        WHERE t.task ? 'container' AND fleet_catalog.paths_in(a_names, t.task ->> 'name') <> '{}' LOOP
        v_body := jsonb_set(v_body, ARRAY['packages', fleet_catalog.container_body(v_body, v_container) ->> 'name'],
            fleet_catalog.leave_out(fleet_catalog.container_body(v_body, v_container), fleet_catalog.paths_in(a_names, v_container), a_reason));
    END LOOP;
    RETURN v_body;
END
$$;
COMMENT ON FUNCTION fleet_catalog.leave_out(jsonb, text[], text) IS 'A package''s document, with tasks left out';

-- Of a document: the tasks that were left out by choice, by the reason; not those that are disabled.
CREATE FUNCTION fleet_catalog.left_out(a_body jsonb) RETURNS TABLE (path text, reason text)
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE part (body, prefix) AS (
    SELECT a_body, ''
     UNION ALL
    SELECT p.body -> 'packages' -> (t.task ->> 'package'), p.prefix || (t.task ->> 'name') || '/'
      FROM part AS p, jsonb_array_elements(p.body -> 'tasks') AS t (task) WHERE t.task ? 'container')
SELECT p.prefix || (t.task ->> 'name'), t.task ->> 'left_out' FROM part AS p, jsonb_array_elements(p.body -> 'tasks') AS t (task) WHERE t.task ->> 'left_out' <> 'disabled'
$$;
COMMENT ON FUNCTION fleet_catalog.left_out(jsonb) IS 'Paths of the tasks that a run was asked to leave out, with the reason of each';

-- Of a document, leaves out what is not chosen: chosen are a_only, and a_from with all that follows it.  A path into a container
-- chooses the container, with that of it.
CREATE FUNCTION fleet_catalog.choose_only(a_body jsonb, a_only text[], a_from text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body jsonb := a_body;
    v_whole text[]; -- chosen with all that is in them
    v_part text[];  -- chosen for what of it is chosen
    v_container text;
BEGIN
    WITH RECURSIVE task AS (
        SELECT (t ->> 'task_no')::integer AS no, t ->> 'name' AS name FROM jsonb_array_elements(a_body -> 'tasks') AS t
    ), follows AS (
        SELECT t.no FROM task AS t WHERE t.name = a_from OR starts_with(a_from, t.name || '/')
         UNION
        SELECT (e ->> 'to')::integer FROM follows AS f, jsonb_array_elements(a_body -> 'precedence') AS e WHERE (e ->> 'from')::integer = f.no)
    SELECT coalesce(array_agg(t.name) FILTER (WHERE t.name = ANY (coalesce(a_only, '{}')) OR t.no IN (SELECT f.no FROM follows AS f)
                                                    AND NOT starts_with(coalesce(a_from, ''), t.name || '/')), '{}'),
           coalesce(array_agg(t.name) FILTER (WHERE fleet_catalog.paths_in(a_only || a_from, t.name) <> '{}'), '{}')
      INTO v_whole, v_part FROM task AS t;
    v_body := fleet_catalog.leave_out(v_body, ARRAY(SELECT t ->> 'name' FROM jsonb_array_elements(a_body -> 'tasks') AS t
                                                   WHERE fleet_catalog.is_main(t) AND t ->> 'name' <> ALL (v_whole || v_part)),
                                      'not chosen for this run');
    FOREACH v_container IN ARRAY v_part LOOP
        IF v_container <> ALL (v_whole) THEN
            v_body := jsonb_set(v_body, ARRAY['packages', fleet_catalog.container_body(v_body, v_container) ->> 'name'],
                fleet_catalog.choose_only(fleet_catalog.container_body(v_body, v_container), fleet_catalog.paths_in(a_only, v_container),
                                          (fleet_catalog.paths_in(ARRAY[a_from], v_container))[1]));
        END IF;
    END LOOP;
    RETURN v_body;
END
$$;
COMMENT ON FUNCTION fleet_catalog.choose_only(jsonb, text[], text) IS 'A package''s document, with what is not chosen left out';

-- Of a document: the tasks that are chosen (a_only, and a_from with all that follows it; all if neither is given), less a_skip.
-- Final tasks and handlers are left out only by a_skip.
CREATE FUNCTION fleet_catalog.choose_tasks(a_body jsonb, a_only text[], a_from text, a_skip text[]) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body jsonb := a_body;
BEGIN
    PERFORM fleet_catalog.check_task_names(a_body, a_only || a_skip || CASE WHEN a_from IS NOT NULL THEN ARRAY[a_from] END);
    IF a_only IS NOT NULL OR a_from IS NOT NULL THEN
        v_body := fleet_catalog.choose_only(v_body, a_only, a_from);
    END IF;
    v_body := fleet_catalog.leave_out(v_body, coalesce(a_skip, '{}'), 'skipped for this run');
    IF NOT EXISTS (SELECT FROM jsonb_array_elements(v_body -> 'tasks') AS t
                    WHERE NOT t ? 'left_out' AND (fleet_catalog.is_main(t) OR t ->> 'name' = ANY (a_only || a_from))) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('no task of package "%s" is left to run', a_body ->> 'name'),
            HINT = 'Choose at least one task that is enabled.';
    END IF;
    RETURN v_body;
END
$$;
COMMENT ON FUNCTION fleet_catalog.choose_tasks(jsonb, text[], text, text[]) IS 'A package''s document, with the tasks left out that are not chosen';

-- Also in its containers: they start no run of their own that would say so at once.
CREATE FUNCTION fleet_catalog.check_jobs_of_body(a_body jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_container text;
BEGIN
    IF a_body -> 'jobs' <> '{}' THEN
        PERFORM fleet_catalog.check_job_body(j.value) FROM jsonb_each(a_body -> 'jobs') AS j;
    END IF;
    FOR v_container IN SELECT t.task ->> 'name' FROM jsonb_array_elements(a_body -> 'tasks') AS t (task) WHERE t.task ? 'container' LOOP
        PERFORM fleet_catalog.check_jobs_of_body(fleet_catalog.container_body(a_body, v_container));
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_jobs_of_body(jsonb) IS 'Error if a job of a package''s document cannot run';

-- Asked for by itself it must have tasks; where it is nested, it succeeds at once if it has none.
CREATE FUNCTION fleet_catalog.check_package_body(a_body jsonb, a_nested boolean DEFAULT false) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_body -> 'tasks' = '[]' AND NOT a_nested THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('package "%s" has no tasks', a_body ->> 'name'),
            HINT = 'Add one with fleet.add_task().';
    END IF;
    PERFORM fleet_catalog.check_jobs_of_body(a_body);
    RETURN a_body;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_package_body(jsonb, boolean) IS 'The same document of a package; an error if it or one of its jobs cannot run';

CREATE FUNCTION fleet_catalog.checked_body(a_name text) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.store_edits(); -- so that it has a version
    RETURN fleet_catalog.check_package_body(fleet_catalog.package_body(a_name, '{}'));
END
$$;
COMMENT ON FUNCTION fleet_catalog.checked_body(text) IS 'The document of a package, with all that it needs in itself';

-- As it is where it was sent to: all that is in it belongs to who sent it.
CREATE FUNCTION fleet_catalog.owned_body(a_body jsonb, a_owner text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    a_body := a_body || jsonb_build_object('owner', a_owner);
    FOREACH v_key IN ARRAY '{jobs,packages}'::text[] LOOP
        IF a_body -> v_key <> '{}' THEN
            a_body := jsonb_set(a_body, ARRAY[v_key], (SELECT jsonb_object_agg(x.key, fleet_catalog.owned_body(x.value, a_owner)) FROM jsonb_each(a_body -> v_key) AS x));
        END IF;
    END LOOP;
    RETURN a_body;
END
$$;
COMMENT ON FUNCTION fleet_catalog.owned_body(jsonb, text) IS 'The document of a job or package, with all jobs and packages in it, as this role''s';

-- For the agent: the package that a task of a run, or a step of a job, runs, as it was when that run or job run was asked for.
-- a_job: the job of a run, whose step it is; null: a task of the run, or a step of a job run.
CREATE FUNCTION fleet_catalog.inner_package(a_definition uuid, a_job text, a_package text, a_owner oid, OUT body jsonb, OUT owner oid)
    RETURNS record LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_outer fleet_catalog.definition;
BEGIN
    SELECT d.* INTO v_outer FROM fleet_catalog.definition AS d WHERE d.hash = a_definition;
    body := CASE WHEN a_job IS NULL THEN v_outer.body ELSE v_outer.body -> 'jobs' -> a_job END -> 'packages' -> a_package;
    IF v_outer.kind = 'received' THEN
        body := fleet_catalog.owned_body(body, fleet_catalog.role_name(a_owner));
    END IF;
    SELECT r.oid INTO owner FROM pg_roles AS r WHERE r.rolname = body ->> 'owner' AND fleet_catalog.may_become(a_owner, r.oid);
    IF owner IS NOT NULL THEN
        body := fleet_catalog.check_package_body(body, true);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.inner_package(uuid, text, text, oid) IS 'A package in the document of a run or job run, and its owner, if this role may act as it';

CREATE FUNCTION fleet_catalog.snapshot_package(a_name text) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN fleet_catalog.store_definition('package', fleet_catalog.checked_body(a_name));
END
$$;
