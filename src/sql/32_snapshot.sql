-- 32_snapshot.sql: definitions as documents.  A run keeps the document that it was started with;
-- the agent reads nothing else.  Roles are written as regrole writes them (quoted where needed).  a_path: what contains what, to find a package that contains itself.

CREATE FUNCTION fleet_catalog.check_path(a_path text[], a_what text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_what = ANY (a_path) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = format('%s contains itself', a_what),
            DETAIL = format('Path: %s.', array_to_string(a_path[array_position(a_path, a_what):] || a_what, ' → ')),
            HINT = 'Break the circle: let one of them be started by a task of its own.';
    ELSIF cardinality(a_path) >= 32 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'packages and jobs are nested too deeply',
            DETAIL = format('Path: %s.', array_to_string(a_path, ' → ')), HINT = 'At most 32 levels are allowed.';
    END IF;
    RETURN a_path || a_what;
END
$$;

CREATE FUNCTION fleet_catalog.step_json(a_step fleet_catalog.step) RETURNS jsonb
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT to_jsonb(a_step) - '{job_id,retry_wait,retry_max,timeout,run_as}'::text[]
    || jsonb_build_object(
        'retry_wait_us', fleet_catalog.microseconds(a_step.retry_wait), 'retry_max_us', fleet_catalog.microseconds(a_step.retry_max),
        'timeout_us', fleet_catalog.microseconds(a_step.timeout),
        'run_as', a_step.run_as::text,
        'success_goto_no', (SELECT s.step_no FROM fleet_catalog.step AS s WHERE s.job_id = a_step.job_id AND s.name = a_step.success_goto),
        'failure_goto_no', (SELECT s.step_no FROM fleet_catalog.step AS s WHERE s.job_id = a_step.job_id AND s.name = a_step.failure_goto))
$$;

CREATE FUNCTION fleet_catalog.task_json(a_task fleet_catalog.task) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT to_jsonb(a_task) - '{package_id,retry_wait,retry_max,timeout}'::text[]
    || jsonb_build_object(
        'retry_wait_us', fleet_catalog.microseconds(a_task.retry_wait), 'retry_max_us', fleet_catalog.microseconds(a_task.retry_max),
        'timeout_us', fleet_catalog.microseconds(a_task.timeout))
$$;

CREATE FUNCTION fleet_catalog.job_body(a_name text, a_path text[]) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text[] := fleet_catalog.check_path(a_path, format('job "%s"', a_name));
    v_body jsonb;
BEGIN
    SELECT jsonb_build_object(
               'name', j.name, 'owner', j.owner::text, 'params', j.params,
               'steps', coalesce((SELECT jsonb_agg(fleet_catalog.step_json(s) ORDER BY s.step_no)
                                    FROM fleet_catalog.step AS s WHERE s.job_id = j.job_id), '[]'),
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
               'name', p.name, 'owner', p.owner::text, 'params', p.params, 'overlap', p.overlap, 'priority', p.priority,
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
      INTO v_body FROM fleet_catalog.package AS p WHERE p.name = a_name;
    RETURN v_body;
END
$$;

-- Also for the agent: a nested run gets the document found in its parent's.
CREATE FUNCTION fleet_catalog.store_definition(a_kind text, a_body jsonb) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_hash uuid := fleet_catalog.content_hash(a_body::text);
BEGIN
    IF NOT EXISTS (SELECT FROM fleet_catalog.definition AS d WHERE d.hash = v_hash) THEN
        INSERT INTO fleet_catalog.definition (hash, kind, body) VALUES (v_hash, a_kind, a_body) ON CONFLICT DO NOTHING;
        IF FOUND AND a_kind = 'package' THEN
            INSERT INTO fleet_catalog.definition_task (hash, task_no, name, kind, job, package, for_each)
            SELECT v_hash, (t ->> 'task_no')::integer, t ->> 'name', t ->> 'kind', t ->> 'job', t ->> 'package', t ->> 'for_each' IS NOT NULL
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

CREATE FUNCTION fleet_catalog.snapshot_job(a_name text) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body jsonb := fleet_catalog.job_body(a_name, '{}');
BEGIN
    PERFORM fleet_catalog.check_job_body(v_body);
    RETURN fleet_catalog.store_definition('job', v_body);
END
$$;

CREATE FUNCTION fleet_catalog.snapshot_package(a_name text) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body jsonb := fleet_catalog.package_body(a_name, '{}');
BEGIN
    IF v_body -> 'tasks' = '[]' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('package "%s" has no tasks', a_name),
            HINT = 'Add one with fleet.add_task().';
    END IF;
    IF v_body -> 'jobs' <> '{}' THEN
        PERFORM fleet_catalog.check_job_body(j.value) FROM jsonb_each(v_body -> 'jobs') AS j;
    END IF;
    RETURN fleet_catalog.store_definition('package', v_body);
END
$$;
