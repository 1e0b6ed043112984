-- 43_context.sql: what a step knows of the run that it is part of, and of what came before it there.
--
-- Who runs is in the setting fleet.context, a JSON object, beside fleet.params.  A session can write into it what it wants:
-- what is told of a run is told to those who may see it.
--
-- A template is a value in the parameters of a task that is known only when the task begins: an object with one key,
-- {"$output": "task"}, {"$outcome": "task"}, {"$param": "name"}, {"$context": "run_id"}; {"$literal": ...} is what is in it.
-- The agent resolves those of a task once, before its first start, and stores the result (src/agent/given.c).

CREATE FUNCTION fleet.context(key text) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(pg_catalog.current_setting('fleet.context', true), '')::jsonb OPERATOR(pg_catalog.->>) key;
COMMENT ON FUNCTION fleet.context(text)
    IS 'What the running step is part of: run_id, run_uuid, package, task, item, attempt, job, server or scheduled_for, as text; null if there is no such thing';

CREATE FUNCTION fleet.run_id() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (NULLIF(pg_catalog.current_setting('fleet.context', true), '')::jsonb OPERATOR(pg_catalog.->>) 'run_id')::bigint;
COMMENT ON FUNCTION fleet.run_id() IS 'The run that the running step is part of; null outside of runs. On a server of mode agent it is the run of the parent';

CREATE FUNCTION fleet.failure() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(pg_catalog.current_setting('fleet.context', true), '')::jsonb OPERATOR(pg_catalog.->) 'failure';
COMMENT ON FUNCTION fleet.failure()
    IS 'The failure for which a handler is executed: run_id, package, task, item, attempt, state, server, sqlstate and message; null elsewhere. It is part of the setting fleet.context, on every server';

CREATE FUNCTION fleet.run_outcome() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(pg_catalog.current_setting('fleet.context', true), '')::jsonb OPERATOR(pg_catalog.->>) 'outcome';
COMMENT ON FUNCTION fleet.run_outcome()
    IS 'In a final task, how the run would have ended without the final tasks that have not ended yet: succeeded, failed or canceled; null elsewhere. It is part of the setting fleet.context, on every server';

-- ---- what came before --------------------------------------------------------------------------

-- The run in whose context the session is.  The uuid tells it from a run of the same number in another database.
CREATE FUNCTION fleet_catalog.context_run() RETURNS fleet_catalog.run
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_context jsonb := NULLIF(current_setting('fleet.context', true), '')::jsonb;
    v_run fleet_catalog.run;
BEGIN
    IF v_context ->> 'run_id' IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'this session is not part of a run',
            HINT = 'Tasks, conditions and for_each queries of a package are. Elsewhere, read fleet.task_run.';
    END IF;
    SELECT r.* INTO v_run FROM fleet_catalog.run AS r
     WHERE r.run_id = (v_context ->> 'run_id')::bigint
       AND (v_context ->> 'run_uuid' IS NULL OR r.run_uuid = (v_context ->> 'run_uuid')::uuid);
    IF NOT FOUND OR NOT fleet_catalog.sees(v_run.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('run %s does not exist in this database', v_context ->> 'run_id'),
            HINT = 'A job on a server, or of another role, gets what came before as a parameter: params => ''{"name": {"$output": "task"}}''.';
    END IF;
    RETURN v_run;
END
$$;
COMMENT ON FUNCTION fleet_catalog.context_run() IS 'The run that fleet.context names; an error if there is none, or none that the caller may see';

-- The nested run that a container had or has in a run: of its newest attempt, or of that in the run that this one has it from.
-- run_id null: it has not begun.
CREATE FUNCTION fleet_catalog.run_in(a_run fleet_catalog.run, a_task_no integer, a_item integer) RETURNS fleet_catalog.run
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT n
  FROM fleet_catalog.task_run AS t
  JOIN fleet_catalog.definition_task AS d ON d.hash = a_run.definition AND d.task_no = t.task_no
  LEFT JOIN fleet_catalog.run AS o ON o.run_id = t.carried_from AND t.attempt = 0 AND fleet_catalog.is_final(t.state)
  LEFT JOIN fleet_catalog.definition_task AS p ON p.hash = o.definition AND p.name = d.name
  LEFT JOIN fleet_catalog.task_run AS w ON w.run_id = o.run_id AND w.task_no = p.task_no AND w.item = t.item
  JOIN fleet_catalog.run AS n ON n.run_uuid = fleet_catalog.nested_uuid(coalesce(o.run_uuid, a_run.run_uuid), d.name, t.item, coalesce(w.attempt, t.attempt))
 WHERE t.run_id = a_run.run_id AND t.task_no = a_task_no AND t.item = a_item
$$;
COMMENT ON FUNCTION fleet_catalog.run_in(fleet_catalog.run, integer, integer) IS 'The newest nested run of a container, or of an item of it, in a run';

CREATE FUNCTION fleet_catalog.is_container(a_definition uuid, a_task_no integer DEFAULT NULL) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((SELECT CASE WHEN a_task_no IS NULL THEN d.body ? 'container' ELSE d.body -> 'tasks' -> a_task_no ? 'container' END
                   FROM fleet_catalog.definition AS d WHERE d.hash = a_definition), false)
$$;
COMMENT ON FUNCTION fleet_catalog.is_container(uuid, integer) IS 'Is a document what is in a container, or a task of it a container?';

-- A task by its name or path from a run.  found_run null: its container has not begun; state: that of the container.
CREATE FUNCTION fleet_catalog.find_task(a_run fleet_catalog.run, a_path text, OUT found_run bigint, OUT task_no integer, OUT state text) RETURNS record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run fleet_catalog.run := a_run;
    v_rest text := a_path;
    v_head text;
    v_each boolean;
    v_next fleet_catalog.run;
BEGIN
    LOOP
        SELECT d.task_no INTO task_no FROM fleet_catalog.definition_task AS d WHERE d.hash = v_run.definition AND d.name = v_rest;
        IF FOUND THEN
            found_run := v_run.run_id;
            RETURN;
        END IF;
        v_head := split_part(v_rest, '/', 1);
        v_rest := substr(v_rest, length(v_head) + 2);
        SELECT d.task_no, d.for_each INTO task_no, v_each FROM fleet_catalog.definition_task AS d WHERE d.hash = v_run.definition AND d.name = v_head;
        IF NOT FOUND OR v_rest = '' OR NOT fleet_catalog.is_container(v_run.definition, task_no) THEN
            task_no := NULL;
            RETURN;
        ELSIF v_each THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('task "%s" runs once for each item of "%s"', left(a_path, 200), v_head),
                DETAIL = format('Container "%s" is a loop.', v_head), HINT = 'Its tasks can read it; outside of the loop, store what they find in a table.';
        END IF;
        v_next := fleet_catalog.run_in(v_run, task_no, 0);
        IF v_next.run_id IS NULL THEN
            state := fleet_catalog.task_outcome(v_run, task_no);
            task_no := CASE WHEN fleet_catalog.has_path((SELECT d.body -> 'packages' -> (d.body -> 'tasks' -> find_task.task_no ->> 'package')
                                                           FROM fleet_catalog.definition AS d WHERE d.hash = v_run.definition), v_rest) THEN -1 END;
            RETURN;
        END IF;
        v_run := v_next;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.find_task(fleet_catalog.run, text) IS 'A task of a run, or of a container in it, by its path; task_no null: there is none';

-- The same, seen from a task of a run: of its container, or else of the one around it, and so on.
CREATE FUNCTION fleet_catalog.seen_task(a_run fleet_catalog.run, a_task text, OUT found_run bigint, OUT task_no integer, OUT state text) RETURNS record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run fleet_catalog.run := a_run;
    v_name text;
    v_found record;
BEGIN
    LOOP
        v_found := fleet_catalog.find_task(v_run, a_task);
        EXIT WHEN v_found.task_no IS NOT NULL OR v_run.parent_run_id IS NULL OR NOT fleet_catalog.is_container(v_run.definition);
        -- its own container's path: this very run of it, if it is a loop
        SELECT d.name INTO v_name FROM fleet_catalog.run AS p JOIN fleet_catalog.definition_task AS d ON d.hash = p.definition AND d.task_no = v_run.parent_task_no
         WHERE p.run_id = v_run.parent_run_id;
        IF starts_with(a_task, v_name || '/') THEN
            v_found := fleet_catalog.find_task(v_run, substr(a_task, length(v_name) + 2));
            EXIT WHEN v_found.task_no IS NOT NULL;
        END IF;
        SELECT p.* INTO v_run FROM fleet_catalog.run AS p WHERE p.run_id = v_run.parent_run_id;
    END LOOP;
    IF v_found.task_no IS NULL THEN
        PERFORM fleet_catalog.check_given('task', a_task);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" has no task "%s"', a_run.package, left(a_task, 200)),
            HINT = fleet_catalog.known((SELECT array_agg(d.name ORDER BY d.task_no) FROM fleet_catalog.definition_task AS d
                                         WHERE d.hash = a_run.definition), 'fleet.add_task()');
    END IF;
    found_run := v_found.found_run;
    task_no := v_found.task_no;
    state := v_found.state;
END
$$;
COMMENT ON FUNCTION fleet_catalog.seen_task(fleet_catalog.run, text) IS 'A task that the tasks of a run know by this name or path; an error if there is none';

CREATE FUNCTION fleet_catalog.seen_outcome(a_run fleet_catalog.run, a_task text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_seen record := fleet_catalog.seen_task(a_run, a_task);
BEGIN
    IF v_seen.found_run IS NULL THEN
        RETURN v_seen.state;
    END IF;
    RETURN (SELECT fleet_catalog.task_outcome(r, v_seen.task_no) FROM fleet_catalog.run AS r WHERE r.run_id = v_seen.found_run);
END
$$;
COMMENT ON FUNCTION fleet_catalog.seen_outcome(fleet_catalog.run, text) IS 'State of a task that the tasks of a run know by this name';

-- A row is there from the begin of the run on.
CREATE FUNCTION fleet_catalog.task_outcome(a_run fleet_catalog.run, a_task_no integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((SELECT fleet_catalog.state_name(t.state) FROM fleet_catalog.task_run AS t
                  WHERE t.run_id = a_run.run_id AND t.task_no = a_task_no AND t.item = 0), 'queued')
$$;
COMMENT ON FUNCTION fleet_catalog.task_outcome(fleet_catalog.run, integer) IS 'State of a task of a run';

-- Of what did not succeed there is none.  Of a for_each: of each item, whatever became of the others.
CREATE FUNCTION fleet_catalog.task_output(a_run fleet_catalog.run, a_task_no integer) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN NOT fleet_catalog.is_final(t.state) THEN NULL
            WHEN d.for_each THEN (SELECT coalesce(jsonb_agg(CASE WHEN i.state = fleet_catalog.state_code('succeeded') THEN i.output END ORDER BY i.item),
                                                  CASE WHEN t.state = fleet_catalog.state_code('succeeded') THEN '[]'::jsonb END)::text
                                    FROM fleet_catalog.task_run AS i WHERE i.run_id = t.run_id AND i.task_no = t.task_no AND i.item > 0)
            WHEN t.state = fleet_catalog.state_code('succeeded') THEN t.output END
  FROM fleet_catalog.task_run AS t
  JOIN fleet_catalog.definition_task AS d ON d.hash = a_run.definition AND d.task_no = t.task_no
 WHERE t.run_id = a_run.run_id AND t.task_no = a_task_no AND t.item = 0
$$;
COMMENT ON FUNCTION fleet_catalog.task_output(fleet_catalog.run, integer) IS 'Output of a task of a run; of a for_each, those of its items as a JSON array';

CREATE FUNCTION fleet.output(task text) RETURNS text
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.output(text)
    IS 'What a task of the present run returned: the first column of the first row of its last statement, as text; of a for_each, a JSON array with one for each item. Null unless it succeeded';

CREATE FUNCTION fleet_catalog.output(a_task text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run fleet_catalog.run := fleet_catalog.context_run();
BEGIN
    RETURN (SELECT fleet_catalog.task_output(r, s.task_no) FROM fleet_catalog.seen_task(v_run, a_task) AS s JOIN fleet_catalog.run AS r ON r.run_id = s.found_run);
END
$$;

CREATE FUNCTION fleet.outcome(task text) RETURNS text
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.outcome(text) IS 'State of a task of the present run: succeeded, failed, skipped ...; queued or running if it has not ended';

CREATE FUNCTION fleet_catalog.outcome(a_task text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run fleet_catalog.run := fleet_catalog.context_run();
BEGIN
    RETURN fleet_catalog.seen_outcome(v_run, a_task);
END
$$;

-- ---- templates ---------------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.may_have_templates(a_value jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.jsonb_typeof(a_value) OPERATOR(pg_catalog.=) ANY ('{object,array}'::text[])
       AND pg_catalog.strpos(a_value::text, '"$') OPERATOR(pg_catalog.>) 0;
COMMENT ON FUNCTION fleet_catalog.may_have_templates(jsonb) IS 'False: it surely has none';

CREATE FUNCTION fleet_catalog.refuse_template(a_value jsonb, a_why text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
        MESSAGE = format('%s is not a template of a parameter', left(a_value::text, 200)), DETAIL = a_why,
        HINT = 'Templates are {"$output": "task"}, {"$outcome": "task"}, {"$param": "name"} and {"$context": "run_id"}. An object that is not meant as one is written {"$literal": {...}}.';
END
$$;
COMMENT ON FUNCTION fleet_catalog.refuse_template(jsonb, text) IS 'Raises the error for an object that is neither a template nor a plain object';

CREATE FUNCTION fleet_catalog.template_key(a_object jsonb) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    SELECT k INTO v_key FROM jsonb_object_keys(a_object) AS k WHERE starts_with(k, '$') ORDER BY k LIMIT 1;
    IF NOT FOUND OR v_key = '$literal' AND a_object - v_key = '{}' THEN
        RETURN v_key;
    ELSIF a_object - v_key <> '{}' THEN
        PERFORM fleet_catalog.refuse_template(a_object, 'It has more than one key, of which one begins with "$".');
    ELSIF v_key NOT IN ('$output', '$outcome', '$param', '$context') THEN
        PERFORM fleet_catalog.refuse_template(a_object, format('There is no "%s".', left(v_key, 200)));
    ELSIF jsonb_typeof(a_object -> v_key) <> 'string' THEN
        PERFORM fleet_catalog.refuse_template(a_object, format('The value of "%s" must be a string.', v_key));
    ELSIF v_key = '$context' AND a_object ->> v_key NOT IN ('run_id', 'run_uuid', 'package', 'task', 'job', 'scheduled_for') THEN
        PERFORM fleet_catalog.refuse_template(a_object,
            'Before a task begins, its context has run_id, run_uuid, package, task, job and scheduled_for. Steps find all of it in the setting fleet.context.');
    END IF;
    RETURN v_key;
END
$$;
COMMENT ON FUNCTION fleet_catalog.template_key(jsonb) IS 'Of an object that is a template, its key; null: it is none; an error if it is neither';

-- Bounded, because the agent does the same: how deep, and how many.
CREATE FUNCTION fleet_catalog.templates(a_value jsonb, a_depth integer DEFAULT 1) RETURNS TABLE (key text, name text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    v_key text;
BEGIN
    IF NOT fleet_catalog.may_have_templates(a_value) THEN
        RETURN;
    ELSIF a_depth > 32 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'templates of parameters are nested too deeply',
            HINT = 'At most 32 levels are allowed.';
    ELSIF jsonb_typeof(a_value) = 'array' THEN
        RETURN QUERY SELECT t.* FROM jsonb_array_elements(a_value) AS e, fleet_catalog.templates(e, a_depth + 1) AS t;
        RETURN;
    ELSIF a_depth > 1 THEN -- the keys of the whole are names of parameters
        v_key := fleet_catalog.template_key(a_value);
    END IF;
    IF v_key IS NULL THEN
        RETURN QUERY SELECT t.* FROM jsonb_each(a_value) AS e (k, v), fleet_catalog.templates(e.v, a_depth + 1) AS t;
    ELSIF v_key <> '$literal' THEN
        key := v_key;
        name := a_value ->> v_key;
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.templates(jsonb, integer) IS 'The templates in the parameters of a task';

-- Tasks of a package whose parameters refer to a task of it.
CREATE FUNCTION fleet_catalog.users_of(a_package_id integer, a_holder integer, a_task text) RETURNS TABLE (path text, ord integer[])
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT r.path, r.ord
  FROM fleet_catalog.tree(a_package_id) AS r
  JOIN fleet_catalog.task AS t ON t.package_id = r.package_id AND t.task_no = r.task_no AND fleet_catalog.may_have_templates(t.params)
 CROSS JOIN LATERAL fleet_catalog.templates(t.params) AS u
 CROSS JOIN LATERAL fleet_catalog.named_task(t.package_id, u.name) AS n
 WHERE u.key IN ('$output', '$outcome') AND n.package_id = a_holder AND n.task = a_task
 ORDER BY r.ord
$$;
COMMENT ON FUNCTION fleet_catalog.users_of(integer, integer, text) IS 'The templates of a package that refer to a task: path and place of the task in whose parameters each is';

CREATE FUNCTION fleet_catalog.check_template_count(a_params jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT count(*) FROM jsonb_path_query(a_params, '$.**')) > 10000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'parameters with templates have too many values',
            HINT = 'At most 10,000 are allowed. Put the data into a table and pass its key.';
    ELSIF (SELECT count(*) FROM fleet_catalog.templates(a_params)) > 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'parameters have too many templates',
            HINT = 'At most 1000 are allowed.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_template_count(jsonb) IS 'Error if there are more templates than the agent resolves';

CREATE FUNCTION fleet_catalog.check_templates(a_package fleet_catalog.package, a_holder integer, a_params jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_name text;
    v_loop text;
BEGIN
    SELECT k INTO v_name FROM jsonb_object_keys(a_params) AS k WHERE k IN ('$output', '$outcome', '$param', '$context', '$literal') ORDER BY k LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a parameter cannot be named "%s"', v_name),
            DETAIL = 'A template is the value of a parameter.', HINT = format('Name it: params => ''{"name": {"%s": ...}}''.', v_name);
    ELSIF NOT fleet_catalog.may_have_templates(a_params) THEN
        RETURN;
    END IF;
    PERFORM fleet_catalog.check_template_count(a_params);
    SELECT t.name, n.in_loop INTO v_name, v_loop FROM fleet_catalog.templates(a_params) AS t, fleet_catalog.named_task(a_holder, t.name) AS n
     WHERE t.key IN ('$output', '$outcome') AND (n.package_id IS NULL OR n.in_loop IS NOT NULL) LIMIT 1;
    IF v_loop IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = format('task "%s" runs once for each item of "%s"', v_name, v_loop),
            DETAIL = format('Container "%s" is a loop.', v_loop), HINT = 'Its tasks can read it; outside of the loop, store what they find in a table.';
    ELSIF FOUND THEN
        PERFORM fleet_catalog.no_such_task(a_package, v_name);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_templates(fleet_catalog.package, integer, jsonb) IS 'Error if a task''s parameters have templates that cannot be';

-- The output of a task as a parameter: what is much too large for one is not put together first.
CREATE FUNCTION fleet_catalog.output_as_parameter(a_run fleet_catalog.run, a_task text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_seen record := fleet_catalog.seen_task(a_run, a_task);
    v_run fleet_catalog.run;
    v_items integer := (SELECT max(t.item) FROM fleet_catalog.task_run AS t WHERE t.run_id = v_seen.found_run AND t.task_no = v_seen.task_no);
BEGIN
    IF v_items > 10000 OR v_items > 0 AND (SELECT sum(octet_length(t.output)) FROM fleet_catalog.task_run AS t
                                            WHERE t.run_id = v_seen.found_run AND t.task_no = v_seen.task_no) > 1000000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('the output of task "%s" is too large for a parameter', a_task),
            DETAIL = format('It is that of %s items.', v_items),
            HINT = 'The limit is 10,000 items and 1,000,000 bytes. A task that is SQL can read it with fleet.output().';
    END IF;
    SELECT r.* INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = v_seen.found_run;
    RETURN fleet_catalog.task_output(v_run, v_seen.task_no);
END
$$;
COMMENT ON FUNCTION fleet_catalog.output_as_parameter(fleet_catalog.run, text) IS 'Output of a task, of a size that a parameter may have';

CREATE FUNCTION fleet_catalog.template_value(a_run fleet_catalog.run, a_task_no integer, a_key text, a_name text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_key = '$param' AND NOT a_run.params ? a_name THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('run %s has no parameter "%s"', a_run.run_id, left(a_name, 200)),
            HINT = 'Declare it with fleet.alter_package(package, params => ...).';
    END IF;
    RETURN CASE a_key
        WHEN '$output' THEN to_jsonb(fleet_catalog.output_as_parameter(a_run, a_name))
        WHEN '$outcome' THEN to_jsonb(fleet_catalog.seen_outcome(a_run, a_name))
        WHEN '$param' THEN a_run.params -> a_name
        ELSE CASE a_name WHEN 'run_id' THEN to_jsonb(a_run.run_id) WHEN 'run_uuid' THEN to_jsonb(a_run.run_uuid) WHEN 'package' THEN to_jsonb(a_run.package)
             WHEN 'scheduled_for' THEN to_jsonb(a_run.scheduled_for)
             ELSE (SELECT to_jsonb(CASE a_name WHEN 'task' THEN d.name ELSE d.job END) FROM fleet_catalog.definition_task AS d
                    WHERE d.hash = a_run.definition AND d.task_no = a_task_no) END END;
END
$$;
COMMENT ON FUNCTION fleet_catalog.template_value(fleet_catalog.run, integer, text, text) IS 'What a template stands for';

CREATE FUNCTION fleet_catalog.resolve_value(a_run fleet_catalog.run, a_task_no integer, a_value jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    IF NOT fleet_catalog.may_have_templates(a_value) THEN
        RETURN a_value;
    ELSIF jsonb_typeof(a_value) = 'array' THEN
        RETURN (SELECT jsonb_agg(fleet_catalog.resolve_value(a_run, a_task_no, e.v) ORDER BY e.n) FROM jsonb_array_elements(a_value) WITH ORDINALITY AS e (v, n));
    END IF;
    v_key := fleet_catalog.template_key(a_value);
    IF v_key IS NULL THEN
        RETURN (SELECT jsonb_object_agg(e.k, fleet_catalog.resolve_value(a_run, a_task_no, e.v)) FROM jsonb_each(a_value) AS e (k, v));
    ELSIF v_key = '$literal' THEN
        RETURN a_value -> v_key;
    END IF;
    RETURN coalesce(fleet_catalog.template_value(a_run, a_task_no, v_key, a_value ->> v_key), 'null');
END
$$;
COMMENT ON FUNCTION fleet_catalog.resolve_value(fleet_catalog.run, integer, jsonb) IS 'A value of a parameter, with what its templates stand for';

CREATE FUNCTION fleet_catalog.resolve_params(a_run_id bigint, a_task_no integer, a_params jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_run fleet_catalog.run;
    v_params jsonb;
    v_template record;
    v_bytes bigint := pg_column_size(a_params)::bigint;
BEGIN
    PERFORM fleet_catalog.check_template_count(a_params);
    SELECT r.* INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    -- what would be much too large is not put together first
    FOR v_template IN SELECT t.key, t.name, count(*) AS n FROM fleet_catalog.templates(a_params) AS t WHERE t.key <> '$literal' GROUP BY t.key, t.name LOOP
        v_bytes := v_bytes + v_template.n * coalesce(pg_column_size(fleet_catalog.template_value(v_run, a_task_no, v_template.key, v_template.name)), 4);
        IF v_bytes > 1000000 THEN
            RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'params are too large',
                DETAIL = format('With what their templates stand for, they have more than %s bytes.', v_bytes),
                HINT = 'The limit is 1,000,000 bytes. Put the data into a table and pass its key.';
        END IF;
    END LOOP;
    SELECT coalesce(jsonb_object_agg(e.k, fleet_catalog.resolve_value(v_run, a_task_no, e.v)), '{}') INTO v_params FROM jsonb_each(a_params) AS e (k, v);
    PERFORM fleet_catalog.check_params(v_params);
    RETURN v_params;
END
$$;
COMMENT ON FUNCTION fleet_catalog.resolve_params(bigint, integer, jsonb) IS 'For the agent: the parameters of a task, with what their templates stand for';
