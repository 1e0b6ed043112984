-- 58_document.sql: definitions as documents of JSON, for version control and for other databases.
--
-- A document has packages and jobs by name, and in them tasks, constraints and steps with the arguments of the functions
-- that make them: fleet.create_package(), add_task(), add_precedence(), set_retention(), create_job(), add_step(),
-- schedule_package(), schedule_job().  What has
-- its default is left out.  So the functions are the only place that knows what there is, here too: the columns of
-- the views have the names of the arguments, and what an import gets goes through the functions' own checks.

-- What an object of a document may have: the arguments of a function.
CREATE FUNCTION fleet_catalog.document_keys(a_function text) RETURNS TABLE (ord integer, key text, type text, preset text, is_key boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT a.ord::integer, a.name, format_type(p.proargtypes[a.ord - 1], NULL), pg_get_function_arg_default(p.oid, a.ord::integer),
       a.name <> ALL (CASE a_function WHEN 'create_package' THEN '{package}' WHEN 'set_retention' THEN '{package}' WHEN 'add_precedence' THEN '{package}'
                           WHEN 'schedule_package' THEN '{package}' WHEN 'schedule_job' THEN '{job}'
                           WHEN 'add_task' THEN '{package,after,after_failure_of,after_completion_of,check_syntax}'
                           WHEN 'create_job' THEN '{job}' WHEN 'add_hook' THEN '{hook,sql,job}' ELSE '{job,check_syntax,before,after_step}' END::text[])
  FROM pg_proc AS p, unnest(p.proargnames) WITH ORDINALITY AS a (name, ord)
 WHERE p.pronamespace = 'fleet'::regnamespace AND p.proname = a_function
$$;
COMMENT ON FUNCTION fleet_catalog.document_keys(text) IS 'Arguments of a function of schema fleet, and which of them an object of a document has';

CREATE FUNCTION fleet_catalog.json_value(a_expression text) RETURNS jsonb
    LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp SET intervalstyle = postgres AS $$
DECLARE
    v_value jsonb;
BEGIN
    EXECUTE format('SELECT to_jsonb(%s)', a_expression) INTO v_value;
    RETURN v_value;
END
$$;
COMMENT ON FUNCTION fleet_catalog.json_value(text) IS 'The default of an argument of ours (pg_get_function_arg_default), as JSON';

-- The defaults of what an object of a document may have.
CREATE FUNCTION fleet_catalog.presets_of(a_function text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT jsonb_object_agg(k.key, coalesce(fleet_catalog.json_value(k.preset), 'null')) FROM fleet_catalog.document_keys(a_function) AS k WHERE k.is_key
$$;

-- A row of a view: what differs from the default.
CREATE FUNCTION fleet_catalog.document_of(a_presets jsonb, a_row jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce(jsonb_object_agg(e.key, e.value), '{}')
  FROM jsonb_each(a_row) AS e WHERE a_presets ? e.key AND e.value <> 'null' AND e.value <> a_presets -> e.key
$$;

-- The schedules of a package, or of a job.
CREATE FUNCTION fleet_catalog.schedules_document(a_package text, a_job text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((SELECT jsonb_build_object('schedules', jsonb_agg(fleet_catalog.document_of(d.presets, to_jsonb(s)) ORDER BY s.name COLLATE "C"))
                   FROM fleet.schedule AS s, (SELECT fleet_catalog.presets_of('schedule_package') AS presets OFFSET 0) AS d
                  WHERE s.package = a_package OR s.job = a_job HAVING count(*) > 0), '{}')
$$;

CREATE FUNCTION fleet_catalog.package_document(a_package text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET intervalstyle = postgres AS $$
WITH presets AS MATERIALIZED (SELECT fleet_catalog.presets_of('add_task') AS task, fleet_catalog.presets_of('add_precedence') AS precedence)
SELECT fleet_catalog.document_of(fleet_catalog.presets_of('create_package'), to_jsonb(p))
       || jsonb_build_object('tasks', coalesce((SELECT jsonb_agg(fleet_catalog.document_of(d.task, to_jsonb(t)) ORDER BY r.ord) FROM fleet_catalog.package AS k, fleet_catalog.tree(k.package_id) AS r, fleet.task AS t
                                                  WHERE k.name = p.package AND t.package = p.package AND t.task = r.path), '[]'))
       || coalesce((SELECT jsonb_build_object('precedence', jsonb_agg(fleet_catalog.document_of(d.precedence, to_jsonb(c)) ORDER BY c.to_task COLLATE "C", c.from_task COLLATE "C"))
                      FROM fleet.precedence AS c WHERE c.package = p.package HAVING count(*) > 0), '{}')
       || CASE WHEN num_nonnulls(p.keep_days, p.keep_runs, p.keep_failed_days) > 0
               THEN jsonb_build_object('retention', fleet_catalog.document_of(fleet_catalog.presets_of('set_retention'), to_jsonb(p))) ELSE '{}' END
       || fleet_catalog.schedules_document(p.package, NULL)
  FROM fleet.package AS p, presets AS d WHERE p.package = a_package
$$;

CREATE FUNCTION fleet_catalog.job_document(a_job text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET intervalstyle = postgres AS $$
WITH presets AS MATERIALIZED (SELECT fleet_catalog.presets_of('add_step') AS step)
SELECT fleet_catalog.document_of(fleet_catalog.presets_of('create_job'), to_jsonb(j))
       || jsonb_build_object('steps', coalesce((SELECT jsonb_agg(fleet_catalog.document_of(d.step, to_jsonb(s)) ORDER BY s.step_no) FROM fleet.step AS s WHERE s.job = j.job), '[]'))
       || fleet_catalog.schedules_document(NULL, j.job)
  FROM fleet.job AS j, presets AS d WHERE j.job = a_job
$$;

-- The packages that a package runs, itself and those in steps of its jobs included, and the jobs.
CREATE FUNCTION fleet_catalog.used_by(a_package text) RETURNS TABLE (kind text, name text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE used (kind, name) AS (
    SELECT 'package', a_package
    UNION
    SELECT n.kind, n.name
      FROM used AS u
     CROSS JOIN LATERAL (
           SELECT CASE WHEN t.kind <> 'package' THEN 'job' WHEN EXISTS (SELECT FROM fleet_catalog.package AS c WHERE c.name = t.package AND c.root_id IS NOT NULL)
                       THEN 'container' ELSE 'package' END AS kind, coalesce(t.package, t.job) AS name
             FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p ON p.package_id = t.package_id
            WHERE u.kind IN ('package', 'container') AND p.name = u.name AND t.kind <> 'sql'
           UNION ALL
           SELECT 'package', s.package FROM fleet_catalog.step AS s JOIN fleet_catalog.job AS j ON j.job_id = s.job_id
            WHERE u.kind = 'job' AND j.name = u.name AND s.package IS NOT NULL) AS n)
SELECT u.kind, u.name FROM used AS u
$$;

CREATE FUNCTION fleet.export_package(package text) RETURNS jsonb
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.export_package(text)
    IS 'A package as a document, with the packages and jobs that it uses and are here; without owners, servers and passwords. For fleet.import_package()';

CREATE FUNCTION fleet_catalog.export_package(a_package text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_packages text[];
    v_jobs text[];
BEGIN
    PERFORM fleet_catalog.get_package(a_package);
    SELECT array_agg(u.name ORDER BY u.name) FILTER (WHERE u.kind = 'package'), array_agg(u.name ORDER BY u.name) FILTER (WHERE u.kind = 'job') INTO v_packages, v_jobs
      FROM fleet_catalog.used_by(a_package) AS u;
    -- what others own, he may not read by this
    PERFORM fleet_catalog.get_package(p.name) FROM fleet_catalog.package AS p WHERE p.name = ANY (v_packages);
    PERFORM fleet_catalog.get_job(j.name) FROM fleet_catalog.job AS j WHERE j.name = ANY (v_jobs);
    RETURN jsonb_build_object('format', 1, 'package', a_package,
        'packages', (SELECT jsonb_object_agg(p.name, fleet_catalog.package_document(p.name)) FROM fleet_catalog.package AS p WHERE p.name = ANY (v_packages)),
        'jobs', coalesce((SELECT jsonb_object_agg(j.name, fleet_catalog.job_document(j.name)) FROM fleet_catalog.job AS j WHERE j.name = ANY (v_jobs)), '{}'));
END
$$;

CREATE FUNCTION fleet.export_server(server text) RETURNS jsonb
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.export_server(text) IS 'A server as a document: the arguments of fleet.register_server(), its wrapper and the options of its foreign server; without user mappings, so without passwords';

CREATE FUNCTION fleet_catalog.export_server(a_server text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server := fleet_catalog.get_server(a_server);
BEGIN
    RETURN (SELECT jsonb_build_object('format', 1, 'server', v.server, 'mode', v.mode, 'slots', v.slots, 'weight', v.weight, 'groups', v.groups, 'wrapper', v.wrapper,
                       'options', coalesce((SELECT jsonb_object_agg(o.option_name, o.option_value) FROM pg_options_to_table(v.options) AS o), '{}'))
              FROM fleet.server AS v WHERE v.server_id = v_server.server_id);
END
$$;

-- ---- what a document must be -------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.refuse_document(a_path text, a_message text, a_hint text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = a_message, DETAIL = format('At %s of the document.', a_path), HINT = a_hint;
END
$$;

CREATE FUNCTION fleet_catalog.check_json_type(a_path text, a_value jsonb, a_type text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF coalesce(jsonb_typeof(a_value), 'nothing') <> a_type THEN
        PERFORM fleet_catalog.refuse_document(a_path, format('%s is expected, not %s', CASE WHEN a_type IN ('object', 'array') THEN 'an ' ELSE 'a ' END || a_type,
                                                             coalesce(jsonb_typeof(a_value), 'nothing')), 'See fleet.document_schema().');
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.check_keys(a_path text, a_object jsonb, a_keys text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    PERFORM fleet_catalog.check_json_type(a_path, a_object, 'object');
    SELECT k.key INTO v_key FROM jsonb_object_keys(a_object) AS k (key) WHERE k.key <> ALL (a_keys) ORDER BY k.key LIMIT 1;
    IF FOUND THEN
        PERFORM fleet_catalog.refuse_document(a_path, format('there is no "%s" here', v_key), format('There may be: %s.', array_to_string(a_keys, ', ')));
    END IF;
END
$$;

-- What JSON a type is written as.
CREATE FUNCTION fleet_catalog.json_type(a_type text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN a_type LIKE '%[]' THEN 'array' WHEN a_type = 'jsonb' THEN 'object' WHEN a_type = 'boolean' THEN 'boolean'
            WHEN a_type IN ('integer', 'bigint', 'double precision') THEN 'number' ELSE 'string' END
$$;

-- An object that the arguments of a function describe, and other keys (a_more).
CREATE FUNCTION fleet_catalog.check_object(a_path text, a_function text, a_object jsonb, a_more text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key record;
BEGIN
    PERFORM fleet_catalog.check_keys(a_path, a_object, (SELECT array_agg(k.key ORDER BY k.ord) FROM fleet_catalog.document_keys(a_function) AS k WHERE k.is_key) || a_more);
    FOR v_key IN SELECT k.* FROM fleet_catalog.document_keys(a_function) AS k WHERE k.is_key ORDER BY k.ord LOOP
        IF coalesce(a_object -> v_key.key, 'null') = 'null' THEN
            IF v_key.preset IS NULL THEN
                PERFORM fleet_catalog.refuse_document(a_path, format('"%s" is missing', v_key.key), 'See fleet.document_schema().');
            END IF;
            CONTINUE;
        END IF;
        PERFORM fleet_catalog.check_json_type(format('%s.%s', a_path, v_key.key), a_object -> v_key.key, fleet_catalog.json_type(v_key.type));
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_object(text, text, jsonb, text[]) IS 'Error unless an object of a document has what a function of schema fleet takes';

CREATE FUNCTION fleet_catalog.check_schedules(a_path text, a_object jsonb, a_function text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_part record;
BEGIN
    PERFORM fleet_catalog.check_json_type(a_path || '.schedules', coalesce(a_object -> 'schedules', '[]'), 'array');
    FOR v_part IN SELECT * FROM jsonb_array_elements(a_object -> 'schedules') WITH ORDINALITY AS t (value, n) LOOP
        PERFORM fleet_catalog.check_object(format('%s.schedules[%s]', a_path, v_part.n - 1), a_function, v_part.value, '{}');
    END LOOP;
END
$$;

CREATE FUNCTION fleet_catalog.check_document(a_document jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_object record;
    v_part record;
BEGIN
    PERFORM fleet_catalog.check_given('document', a_document::text);
    PERFORM fleet_catalog.check_keys('$', a_document, '{format,package,packages,jobs}');
    IF a_document -> 'format' IS DISTINCT FROM '1' THEN
        PERFORM fleet_catalog.refuse_document('$.format', format('format %s is not known', coalesce(a_document ->> 'format', 'null')), 'This version of pg_fleet reads and writes format 1.');
    END IF;
    PERFORM fleet_catalog.check_json_type('$.package', a_document -> 'package', 'string');
    PERFORM fleet_catalog.check_json_type('$.packages', a_document -> 'packages', 'object');
    PERFORM fleet_catalog.check_json_type('$.jobs', coalesce(a_document -> 'jobs', '{}'), 'object');
    IF NOT a_document -> 'packages' ? (a_document ->> 'package') THEN
        PERFORM fleet_catalog.refuse_document('$.packages', format('package "%s" is missing', a_document ->> 'package'), 'The document is of that package.');
    END IF;
    FOR v_object IN SELECT format('$.packages.%I', p.key) AS path, p.value FROM jsonb_each(a_document -> 'packages') AS p LOOP
        PERFORM fleet_catalog.check_object(v_object.path, 'create_package', v_object.value, '{tasks,precedence,retention,schedules}');
        PERFORM fleet_catalog.check_json_type(v_object.path || '.tasks', coalesce(v_object.value -> 'tasks', '[]'), 'array');
        PERFORM fleet_catalog.check_json_type(v_object.path || '.precedence', coalesce(v_object.value -> 'precedence', '[]'), 'array');
        PERFORM fleet_catalog.check_object(v_object.path || '.retention', 'set_retention', coalesce(v_object.value -> 'retention', '{}'), '{}');
        FOR v_part IN SELECT * FROM jsonb_array_elements(v_object.value -> 'tasks') WITH ORDINALITY AS t (value, n) LOOP
            PERFORM fleet_catalog.check_object(format('%s.tasks[%s]', v_object.path, v_part.n - 1), 'add_task', v_part.value, '{}');
        END LOOP;
        FOR v_part IN SELECT * FROM jsonb_array_elements(v_object.value -> 'precedence') WITH ORDINALITY AS t (value, n) LOOP
            PERFORM fleet_catalog.check_object(format('%s.precedence[%s]', v_object.path, v_part.n - 1), 'add_precedence', v_part.value, '{}');
        END LOOP;
        PERFORM fleet_catalog.check_schedules(v_object.path, v_object.value, 'schedule_package');
    END LOOP;
    FOR v_object IN SELECT format('$.jobs.%I', j.key) AS path, j.value FROM jsonb_each(a_document -> 'jobs') AS j LOOP
        PERFORM fleet_catalog.check_object(v_object.path, 'create_job', v_object.value, '{steps,schedules}');
        PERFORM fleet_catalog.check_json_type(v_object.path || '.steps', coalesce(v_object.value -> 'steps', '[]'), 'array');
        FOR v_part IN SELECT * FROM jsonb_array_elements(v_object.value -> 'steps') WITH ORDINALITY AS t (value, n) LOOP
            PERFORM fleet_catalog.check_object(format('%s.steps[%s]', v_object.path, v_part.n - 1), 'add_step', v_part.value, '{}');
        END LOOP;
        PERFORM fleet_catalog.check_schedules(v_object.path, v_object.value, 'schedule_job');
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_document(jsonb) IS 'Error, with the path, unless this is a document of a package; what is in it is checked by the functions that get it';

CREATE FUNCTION fleet.document_schema() RETURNS jsonb
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.document_schema() IS 'JSON Schema of the documents of fleet.export_package() and fleet.import_package()';

CREATE FUNCTION fleet_catalog.schema_object(a_function text, a_more jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT jsonb_strip_nulls(jsonb_build_object(
    'type', 'object', 'additionalProperties', false, 'description', format('Arguments of fleet.%s()', a_function),
    'required', (SELECT jsonb_agg(k.key ORDER BY k.ord) FROM fleet_catalog.document_keys(a_function) AS k WHERE k.is_key AND k.preset IS NULL),
    'properties', (SELECT jsonb_object_agg(k.key, jsonb_strip_nulls(jsonb_build_object(
                              'type', CASE fleet_catalog.json_type(k.type) WHEN 'number' THEN CASE k.type WHEN 'double precision' THEN 'number' ELSE 'integer' END
                                      ELSE fleet_catalog.json_type(k.type) END,
                              'items', CASE WHEN k.type LIKE '%[]' THEN '{"type": "string"}'::jsonb END,
                              'description', CASE k.type WHEN 'interval' THEN 'interval' END, 'default', fleet_catalog.json_value(k.preset))))
                     FROM fleet_catalog.document_keys(a_function) AS k WHERE k.is_key) || a_more))
$$;

CREATE FUNCTION fleet_catalog.document_schema() RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT jsonb_build_object(
    '$schema', 'https://json-schema.org/draft/2020-12/schema', 'title', 'A package of pg_fleet', 'type', 'object',
    'required', '["format", "package", "packages"]'::jsonb, 'additionalProperties', false,
    'properties', jsonb_build_object(
        'format', '{"const": 1}'::jsonb, 'package', '{"type": "string", "description": "The package that the document is of"}'::jsonb,
        'packages', jsonb_build_object('type', 'object', 'additionalProperties', fleet_catalog.schema_object('create_package', jsonb_build_object(
            'tasks', jsonb_build_object('type', 'array', 'items', fleet_catalog.schema_object('add_task', '{}')),
            'precedence', jsonb_build_object('type', 'array', 'items', fleet_catalog.schema_object('add_precedence', '{}')),
            'retention', fleet_catalog.schema_object('set_retention', '{}'),
            'schedules', jsonb_build_object('type', 'array', 'items', fleet_catalog.schema_object('schedule_package', '{}'))))),
        'jobs', jsonb_build_object('type', 'object', 'additionalProperties', fleet_catalog.schema_object('create_job', jsonb_build_object(
            'steps', jsonb_build_object('type', 'array', 'items', fleet_catalog.schema_object('add_step', '{}')),
            'schedules', jsonb_build_object('type', 'array', 'items', fleet_catalog.schema_object('schedule_job', '{}')))))))
$$;

-- ---- differences -------------------------------------------------------------------------------

-- Arrays of named objects as objects, with their places: a task that is inserted does not change all that follow.
CREATE FUNCTION fleet_catalog.by_name(a_array jsonb, a_function text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce(jsonb_object_agg(coalesce(e.value ->> 'task', e.value ->> 'step', e.value ->> 'name', format('%s -> %s', e.value ->> 'from_task', e.value ->> 'to_task')),
                                 fleet_catalog.document_of(p.presets, e.value)), '{}')
  FROM jsonb_array_elements(a_array) AS e, (SELECT fleet_catalog.presets_of(a_function) AS presets OFFSET 0) AS p
$$;

-- Without a name of its own one has that of what it starts.
CREATE FUNCTION fleet_catalog.comparable_schedules(a_object jsonb, a_function text) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN coalesce(a_object -> 'schedules', '[]') = '[]' THEN '{}' ELSE jsonb_build_object('schedules', fleet_catalog.by_name(a_object -> 'schedules', a_function)) END
$$;

CREATE FUNCTION fleet_catalog.comparable_package(a_object jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.document_of(fleet_catalog.presets_of('create_package'), a_object)
       || jsonb_build_object('tasks', fleet_catalog.by_name(a_object -> 'tasks', 'add_task'), 'precedence', fleet_catalog.by_name(a_object -> 'precedence', 'add_precedence'),
                             'order of tasks', coalesce((SELECT jsonb_agg(t.value -> 'task' ORDER BY t.n) FROM jsonb_array_elements(a_object -> 'tasks') WITH ORDINALITY AS t (value, n)), '[]'))
       || CASE WHEN fleet_catalog.document_of(fleet_catalog.presets_of('set_retention'), a_object -> 'retention') = '{}' THEN '{}' ELSE jsonb_build_object('retention', fleet_catalog.document_of(fleet_catalog.presets_of('set_retention'), a_object -> 'retention')) END
       || fleet_catalog.comparable_schedules(a_object, 'schedule_package')
 WHERE a_object IS NOT NULL
$$;

CREATE FUNCTION fleet_catalog.comparable_job(a_object jsonb) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.document_of(fleet_catalog.presets_of('create_job'), a_object)
       || jsonb_build_object('steps', fleet_catalog.by_name(a_object -> 'steps', 'add_step'),
                             'order of steps', coalesce((SELECT jsonb_agg(t.value -> 'step' ORDER BY t.n) FROM jsonb_array_elements(a_object -> 'steps') WITH ORDINALITY AS t (value, n)), '[]'))
       || fleet_catalog.comparable_schedules(a_object, 'schedule_job')
 WHERE a_object IS NOT NULL
$$;

-- Objects are looked into, down to what is none (params is one value).
CREATE FUNCTION fleet_catalog.differences(a_path text, a_old jsonb, a_new jsonb) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    IF a_old IS NOT DISTINCT FROM a_new THEN
        RETURN;
    ELSIF jsonb_typeof(a_old) = 'object' AND jsonb_typeof(a_new) = 'object' AND a_path NOT LIKE '%.params' THEN
        FOR v_key IN SELECT k.key FROM (SELECT jsonb_object_keys(a_old) UNION SELECT jsonb_object_keys(a_new)) AS k (key) ORDER BY k.key COLLATE "C" LOOP
            RETURN QUERY SELECT d.* FROM fleet_catalog.differences(format('%s.%s', a_path, quote_ident(v_key)), a_old -> v_key, a_new -> v_key) AS d;
        END LOOP;
    ELSE
        path := a_path;
        change := CASE WHEN a_old IS NULL THEN 'add' WHEN a_new IS NULL THEN 'remove' ELSE 'change' END;
        old := a_old;
        new := a_new;
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.differences(text, jsonb, jsonb) IS 'What changes from one value to the other, by path';

-- What an import would change, by path.
CREATE FUNCTION fleet_catalog.document_changes(a_document jsonb) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT d.* FROM jsonb_each(a_document -> 'jobs') AS j
 CROSS JOIN LATERAL fleet_catalog.differences(format('$.jobs.%I', j.key), fleet_catalog.comparable_job(fleet_catalog.job_document(j.key)), fleet_catalog.comparable_job(j.value)) AS d
UNION ALL
SELECT d.* FROM jsonb_each(a_document -> 'packages') AS p
 CROSS JOIN LATERAL fleet_catalog.differences(format('$.packages.%I', p.key), fleet_catalog.comparable_package(fleet_catalog.package_document(p.key)), fleet_catalog.comparable_package(p.value)) AS d
$$;

-- ---- import ------------------------------------------------------------------------------------

-- Calls fleet_catalog.FUNCTION as fleet.FUNCTION would, with the arguments that an object has, and the defaults of the others.
CREATE FUNCTION fleet_catalog.call_inner(a_function text, a_object jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_arguments text;
BEGIN
    SELECT string_agg(CASE
               WHEN coalesce(a_object -> k.key, 'null') = 'null' THEN coalesce(k.preset, 'NULL::' || k.type)
               WHEN k.type LIKE '%[]' THEN format('%L::%s', ARRAY(SELECT e.value FROM jsonb_array_elements_text(a_object -> k.key) AS e (value)), k.type)
               ELSE format('%L::%s', a_object ->> k.key, k.type) END, ', ' ORDER BY k.ord)
      INTO v_arguments FROM fleet_catalog.document_keys(a_function) AS k;
    EXECUTE format('SELECT fleet_catalog.%I(%s)', a_function, v_arguments);
END
$$;
COMMENT ON FUNCTION fleet_catalog.call_inner(text, jsonb) IS 'Calls a function of ours with the arguments that an object has';

-- The same of an object of a document; its errors say where.  a_accepted: its SQL was accepted before, perhaps unread
-- (check_syntax => false).
CREATE FUNCTION fleet_catalog.call_for(a_path text, a_function text, a_object jsonb, a_accepted boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_message text;
    v_detail text;
    v_hint text;
    v_sqlstate text;
BEGIN
    IF NOT a_accepted THEN
        PERFORM fleet_catalog.call_inner(a_function, a_object);
        RETURN;
    END IF;
    BEGIN
        PERFORM fleet_catalog.call_inner(a_function, a_object);
    EXCEPTION WHEN syntax_error THEN
        PERFORM fleet_catalog.call_inner(a_function, a_object || '{"check_syntax": false}');
    END;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT, v_sqlstate = RETURNED_SQLSTATE;
    RAISE EXCEPTION USING ERRCODE = v_sqlstate, MESSAGE = v_message, DETAIL = concat_ws(E'\n', nullif(v_detail, ''), format('At %s of the document.', a_path)), HINT = v_hint;
END
$$;
COMMENT ON FUNCTION fleet_catalog.call_for(text, text, jsonb, boolean) IS 'Calls a function with the arguments that an object of a document has';

-- Those of the same name go on where they are.
CREATE FUNCTION fleet_catalog.import_schedules(a_kind text, a_name text, a_path text, a_object jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_part record;
BEGIN
    DELETE FROM fleet_catalog.schedule AS s
     WHERE CASE a_kind WHEN 'job' THEN s.job ELSE s.package END = a_name
       AND NOT EXISTS (SELECT FROM jsonb_array_elements(a_object -> 'schedules') AS e WHERE coalesce(e.value ->> 'name', a_name) = s.name);
    PERFORM fleet_catalog.wake('schedules', 0);
    FOR v_part IN SELECT * FROM jsonb_array_elements(a_object -> 'schedules') WITH ORDINALITY AS s (value, n) ORDER BY s.n LOOP
        PERFORM fleet_catalog.call_for(format('%s.schedules[%s]', a_path, v_part.n - 1), 'schedule_' || a_kind, v_part.value || jsonb_build_object(a_kind, a_name));
    END LOOP;
END
$$;

CREATE FUNCTION fleet_catalog.import_job(a_name text, a_object jsonb, a_accepted boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text := format('$.jobs.%I', a_name);
    v_step record;
BEGIN
    FOR v_step IN SELECT * FROM jsonb_array_elements(a_object -> 'steps') WITH ORDINALITY AS s (value, n) ORDER BY s.n LOOP
        PERFORM fleet_catalog.call_for(format('%s.steps[%s]', v_path, v_step.n - 1), 'add_step', v_step.value || jsonb_build_object('job', a_name), a_accepted);
    END LOOP;
    PERFORM fleet_catalog.import_schedules('job', a_name, v_path, a_object);
END
$$;

-- A task may refer to one that comes after it in the order of tasks: templates come when all tasks are there.
CREATE FUNCTION fleet_catalog.import_tasks(a_name text, a_object jsonb, a_accepted boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text := format('$.packages.%I', a_name);
    v_of jsonb := jsonb_build_object('package', a_name);
    v_part record;
BEGIN
    FOR v_part IN SELECT * FROM jsonb_array_elements(a_object -> 'tasks') WITH ORDINALITY AS s (value, n) ORDER BY s.n LOOP
        PERFORM fleet_catalog.call_for(format('%s.tasks[%s]', v_path, v_part.n - 1), 'add_task',
            v_part.value || v_of || CASE WHEN fleet_catalog.may_have_templates(v_part.value -> 'params') THEN '{"params": {}}' ELSE '{}'::jsonb END, a_accepted);
    END LOOP;
    FOR v_part IN SELECT * FROM jsonb_array_elements(a_object -> 'tasks') WITH ORDINALITY AS s (value, n)
                   WHERE fleet_catalog.may_have_templates(s.value -> 'params') ORDER BY s.n LOOP
        PERFORM fleet_catalog.call_for(format('%s.tasks[%s]', v_path, v_part.n - 1), 'alter_task',
            jsonb_build_object('task', v_part.value -> 'task', 'params', v_part.value -> 'params') || v_of);
    END LOOP;
    FOR v_part IN SELECT * FROM jsonb_array_elements(a_object -> 'precedence') WITH ORDINALITY AS s (value, n) ORDER BY s.n LOOP
        PERFORM fleet_catalog.call_for(format('%s.precedence[%s]', v_path, v_part.n - 1), 'add_precedence', v_part.value || v_of);
    END LOOP;
    PERFORM fleet_catalog.call_for(v_path || '.retention', 'set_retention', coalesce(a_object -> 'retention', '{}') || v_of);
    PERFORM fleet_catalog.import_schedules('package', a_name, v_path, a_object);
END
$$;

-- What is there is emptied and keeps its number and owner; what is not is made.
CREATE FUNCTION fleet_catalog.import_frame(a_kind text, a_name text, a_object jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_path text := format('$.%ss.%I', a_kind, a_name);
    v_all jsonb := (SELECT jsonb_object_agg(k.key, coalesce(nullif(a_object -> k.key, 'null'), fleet_catalog.json_value(k.preset)))
                      FROM fleet_catalog.document_keys('create_' || a_kind) AS k WHERE k.is_key);
    v_of jsonb := jsonb_build_object(a_kind, a_name);
    v_id integer;
BEGIN
    IF a_kind = 'job' AND EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = a_name) THEN
        v_id := (fleet_catalog.change_job(a_name)).job_id;
        DELETE FROM fleet_catalog.step AS s WHERE s.job_id = v_id;
        PERFORM fleet_catalog.call_for(v_path, 'alter_job', v_all || v_of);
    ELSIF a_kind = 'package' AND EXISTS (SELECT FROM fleet_catalog.package AS p WHERE p.name = a_name) THEN
        v_id := (fleet_catalog.change_package(a_name)).package_id;
        DELETE FROM fleet_catalog.task AS t WHERE t.package_id = v_id;
        PERFORM fleet_catalog.call_for(v_path, 'alter_package', v_all || v_of);
    ELSE
        PERFORM fleet_catalog.call_for(v_path, 'create_' || a_kind, v_all || v_of);
    END IF;
END
$$;

CREATE FUNCTION fleet.import_package(document jsonb, dry_run boolean DEFAULT false, replace boolean DEFAULT false)
    RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.import_package(jsonb, boolean, boolean)
    IS 'Creates the packages and jobs of a document; with replace, those that are there become what it says. Returns what changes, by path; with dry_run nothing else happens';

CREATE FUNCTION fleet_catalog.import_package(a_document jsonb, a_dry_run boolean, a_replace boolean) RETURNS TABLE (path text, change text, old jsonb, new jsonb)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_changes jsonb;
    v_packages text[];
    v_jobs text[];
    v_other text;
BEGIN
    PERFORM fleet_catalog.check_document(a_document);
    PERFORM fleet_catalog.check_given('dry_run', a_dry_run::text);
    PERFORM fleet_catalog.check_given('replace', a_replace::text);
    PERFORM fleet_catalog.get_package(p.name) FROM fleet_catalog.package AS p WHERE a_document -> 'packages' ? p.name;
    PERFORM fleet_catalog.get_job(j.name) FROM fleet_catalog.job AS j WHERE a_document -> 'jobs' ? j.name;
    v_changes := (SELECT jsonb_agg(to_jsonb(c)) FROM fleet_catalog.document_changes(a_document) AS c);
    IF NOT a_dry_run THEN
        v_packages := ARRAY(SELECT p.key FROM jsonb_each(a_document -> 'packages') AS p
                             WHERE fleet_catalog.comparable_package(p.value) IS DISTINCT FROM fleet_catalog.comparable_package(fleet_catalog.package_document(p.key)));
        v_jobs := ARRAY(SELECT j.key FROM jsonb_each(a_document -> 'jobs') AS j
                         WHERE fleet_catalog.comparable_job(j.value) IS DISTINCT FROM fleet_catalog.comparable_job(fleet_catalog.job_document(j.key)));
        v_other := coalesce((SELECT format('package "%s"', p.name) FROM fleet_catalog.package AS p WHERE p.name = ANY (v_packages) ORDER BY p.name LIMIT 1),
                            (SELECT format('job "%s"', j.name) FROM fleet_catalog.job AS j WHERE j.name = ANY (v_jobs) ORDER BY j.name LIMIT 1));
        IF v_other IS NOT NULL AND NOT a_replace THEN
            RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('%s already exists, and is not what the document says', v_other),
                HINT = 'See what differs with dry_run => true. With replace => true it becomes what the document says.';
        END IF;
        PERFORM fleet_catalog.import_frame('package', n.name, a_document -> 'packages' -> n.name) FROM unnest(v_packages) AS n (name);
        PERFORM fleet_catalog.import_frame('job', n.name, a_document -> 'jobs' -> n.name) FROM unnest(v_jobs) AS n (name);
        PERFORM fleet_catalog.import_job(n.name, a_document -> 'jobs' -> n.name) FROM unnest(v_jobs) AS n (name);
        PERFORM fleet_catalog.import_tasks(n.name, a_document -> 'packages' -> n.name) FROM unnest(v_packages) AS n (name);
    END IF;
    RETURN QUERY SELECT c.path, c.change, c.old, c.new FROM jsonb_to_recordset(v_changes) AS c (path text, change text, old jsonb, new jsonb);
END
$$;

-- ---- what a run would find ---------------------------------------------------------------------

-- Where the enabled job tasks of a package may run: one row a server; server_id null: here, or nowhere.
CREATE FUNCTION fleet_catalog.places_of(a_package fleet_catalog.package) RETURNS TABLE (task fleet_catalog.task, server fleet_catalog.server, job fleet_catalog.job, why text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT t, s, j, CASE WHEN s.server_id IS NOT NULL
                THEN fleet_catalog.cannot_use(s.foreign_server::oid, s.name, CASE WHEN s.mode = 'direct' THEN coalesce(j.owner, a_package.owner) ELSE a_package.owner END) END
  FROM fleet_catalog.task AS t
  LEFT JOIN fleet_catalog.server AS s ON s.name = t.server OR t.on_group = ANY (s.groups)
  LEFT JOIN fleet_catalog.job AS j ON j.name = t.job
 WHERE t.package_id = a_package.package_id AND t.kind = 'job' AND t.enabled
$$;

-- In a container: by what is around it, too; items of a loop have what its query gives, which is not known before.
CREATE FUNCTION fleet_catalog.gives(a_package fleet_catalog.package, a_key text) RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE around (package_id, params, open) AS (
    SELECT a_package.package_id, a_package.params, false
     UNION ALL
    SELECT p.package_id, p.params || t.params, t.for_each IS NOT NULL
      FROM around AS a
      JOIN fleet_catalog.package AS c ON c.package_id = a.package_id
      JOIN fleet_catalog.package AS p ON p.package_id = c.container_of
      JOIN fleet_catalog.task AS t ON t.package_id = c.container_of AND t.name = c.container_task)
SELECT bool_or(a.open OR a.params ? a_key) FROM around AS a
$$;
COMMENT ON FUNCTION fleet_catalog.gives(fleet_catalog.package, text) IS 'Have the tasks of a package or container a parameter of this name from what they are in, as far as can be known?';

CREATE FUNCTION fleet_catalog.problems_of(a_package fleet_catalog.package) RETURNS TABLE (severity text, task text, message text, hint text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_detail text;
    v_hint text;
BEGIN
    IF NOT EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_package.package_id) THEN
        RETURN QUERY SELECT 'warning', NULL::text, 'it has no tasks', 'Add one with fleet.add_task().';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = a_package.owner) THEN
        RETURN QUERY SELECT 'error', NULL::text, 'its owner no longer exists', 'Give it to a role with fleet.alter_package().';
        RETURN;
    END IF;
    -- places
    RETURN QUERY SELECT 'error', (p.task).name, format(CASE WHEN (p.task).server IS NOT NULL THEN 'server "%s" does not exist' ELSE 'group "%s" has no servers' END,
                                                       coalesce((p.task).server, (p.task).on_group)), 'Use fleet.add_server() or fleet.alter_server().'
                   FROM fleet_catalog.places_of(a_package) AS p WHERE num_nonnulls((p.task).server, (p.task).on_group) > 0 AND (p.server).server_id IS NULL;
    RETURN QUERY SELECT CASE WHEN x.other THEN 'warning' ELSE 'error' END, x.name, format('server "%s" cannot be used: %s', x.server, x.why),
                        CASE WHEN x.other THEN 'A run passes over it.' ELSE 'There is no other for the task.' END
                   FROM (SELECT (p.task).name, (p.server).name AS server, p.why, bool_or(p.why IS NULL) OVER (PARTITION BY (p.task).task_no) AS other
                           FROM fleet_catalog.places_of(a_package) AS p) AS x WHERE x.why IS NOT NULL;
    RETURN QUERY SELECT 'warning', (p.task).name, format('server "%s" is %s', (p.server).name, (p.server).state), 'See fleet.set_server_state().'
                   FROM fleet_catalog.places_of(a_package) AS p WHERE (p.server).state <> 'online';
    -- jobs
    RETURN QUERY SELECT DISTINCT 'error', (p.task).name, format('job "%s" does not exist', (p.task).job),
                        'It runs here, or on a server of mode direct. Create it with fleet.create_job().'
                   FROM fleet_catalog.places_of(a_package) AS p
                  WHERE (p.job).job_id IS NULL AND (num_nonnulls((p.task).server, (p.task).on_group) = 0 OR (p.server).mode = 'direct');
    RETURN QUERY SELECT DISTINCT 'error', (p.task).name, format('the owner of job "%s" is %s, which the owner of the package may not act as', (p.task).job, (p.job).owner::text),
                        'Grant membership, or give the job to another role.'
                   FROM fleet_catalog.places_of(a_package) AS p
                  WHERE (p.job).job_id IS NOT NULL AND (num_nonnulls((p.task).server, (p.task).on_group) = 0 OR (p.server).mode = 'direct')
                    AND NOT fleet_catalog.may_become(a_package.owner, (p.job).owner);
    RETURN QUERY SELECT 'warning', (p.task).name, format('job "%s" is not sent to server "%s"', (p.task).job, (p.server).name),
                        'It runs by name, if it is defined there.'
                   FROM fleet_catalog.places_of(a_package) AS p
                  WHERE (p.server).mode = 'agent' AND ((p.job).job_id IS NULL OR NOT fleet_catalog.may_become(a_package.owner, (p.job).owner)) AND NOT EXISTS (SELECT FROM fleet_catalog.deployment AS d WHERE d.server_id = (p.server).server_id AND d.job = (p.task).job AND d.state = 'deployed');
    -- what the jobs have in them
    RETURN QUERY SELECT DISTINCT 'error', (p.task).name, format('job "%s" has no steps', (p.task).job), 'Add one with fleet.add_step().'
                   FROM fleet_catalog.places_of(a_package) AS p
                  WHERE (p.job).job_id IS NOT NULL AND NOT EXISTS (SELECT FROM fleet_catalog.step AS s WHERE s.job_id = (p.job).job_id);
    RETURN QUERY SELECT DISTINCT 'error', (p.task).name,
                        CASE WHEN NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = s.run_as) THEN format('step "%s" of job "%s" runs as a role that no longer exists', s.name, (p.task).job)
                             ELSE format('step "%s" of job "%s" runs as "%s", which the job''s owner may not act as', s.name, (p.task).job, pg_get_userbyid(s.run_as)) END,
                        'Define the step anew with another run_as.'
                   FROM fleet_catalog.places_of(a_package) AS p JOIN fleet_catalog.step AS s ON s.job_id = (p.job).job_id
                  WHERE s.run_as IS NOT NULL AND NOT fleet_catalog.may_become((p.job).owner, s.run_as);
    RETURN QUERY SELECT DISTINCT 'error', (p.task).name, format('step "%s" of job "%s" goes to step "%s", which does not exist', s.name, (p.task).job, g.target), 'Add it with fleet.add_step().'
                   FROM fleet_catalog.places_of(a_package) AS p JOIN fleet_catalog.step AS s ON s.job_id = (p.job).job_id
                  CROSS JOIN LATERAL unnest(ARRAY[s.success_goto, s.failure_goto]) AS g (target)
                  WHERE g.target IS NOT NULL AND NOT EXISTS (SELECT FROM fleet_catalog.step AS o WHERE o.job_id = s.job_id AND o.name = g.target);
    -- parameters that have no default, and that nothing gives
    RETURN QUERY SELECT 'error', t.name, format('parameter "%s" of %s is required', r.key, CASE WHEN t.kind = 'package' THEN format('package "%s"', t.package) ELSE format('job "%s"', t.job) END),
                        'Give it with the params of the task, or of the package.'
                   FROM fleet_catalog.task AS t
                   LEFT JOIN fleet_catalog.package AS n ON t.kind = 'package' AND n.name = t.package
                   LEFT JOIN fleet_catalog.job AS j ON t.kind = 'job' AND j.name = t.job
                  CROSS JOIN LATERAL jsonb_each(coalesce(n.params, j.params, '{}')) AS r (key, value)
                  WHERE t.package_id = a_package.package_id AND t.enabled AND t.for_each IS NULL AND r.value = 'null' AND NOT t.params ? r.key AND NOT fleet_catalog.gives(a_package, r.key);
    -- nested packages; a container is always there
    RETURN QUERY SELECT 'error', t.name, format('package "%s" does not exist', t.package), 'Create it with fleet.create_package().'
                   FROM fleet_catalog.task AS t
                  WHERE t.package_id = a_package.package_id AND t.kind = 'package' AND t.enabled AND NOT EXISTS (SELECT FROM fleet_catalog.package AS n WHERE n.name = t.package);
    RETURN QUERY SELECT 'error', t.name, format('the owner of package "%s" is %s, which the owner of the package may not act as', t.package, n.owner::text), 'Grant membership, or give it to another role.'
                   FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS n ON n.name = t.package
                  WHERE t.package_id = a_package.package_id AND t.kind = 'package' AND t.enabled AND NOT fleet_catalog.may_become(a_package.owner, n.owner);
    -- what can never begin: it waits for the failure of a task that is disabled, and so never fails
    RETURN QUERY SELECT 'warning', t.name, format('it waits for a failure of task "%s", which is disabled', f.name), 'It is skipped in every run.'
                   FROM fleet_catalog.precedence AS c
                   JOIN fleet_catalog.task AS f ON f.package_id = c.package_id AND f.name = c.from_task
                   JOIN fleet_catalog.task AS t ON t.package_id = c.package_id AND t.name = c.to_task
                  WHERE c.package_id = a_package.package_id AND c.on_outcome = 'failure' AND NOT f.enabled AND t.enabled AND t.join_type = 'all';
    -- and whatever the start of a run would say
    BEGIN
        PERFORM fleet_catalog.package_body(a_package.name, '{}');
    EXCEPTION WHEN invalid_object_definition OR program_limit_exceeded THEN
        GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        RETURN QUERY SELECT 'error', NULL::text, concat_ws('. ', SQLERRM, v_detail), v_hint;
    END;
END
$$;
COMMENT ON FUNCTION fleet_catalog.problems_of(fleet_catalog.package) IS 'What a run of one package would find to be wrong; severity: error, the task or run would fail or wait; warning, it might';

CREATE FUNCTION fleet.validate_package(package text) RETURNS TABLE (severity text, package text, task text, message text, hint text)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.validate_package(text)
    IS 'What is wrong with a package, and with those that it runs, as far as it can be known before a run: servers, rights, jobs, parameters. No rows: nothing';

CREATE FUNCTION fleet_catalog.validate_package(a_package text) RETURNS TABLE (severity text, package text, task text, message text, hint text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM fleet_catalog.get_package(a_package);
    RETURN QUERY SELECT x.severity, coalesce(r.name, p.name), coalesce(fleet_catalog.prefix_of(p) || x.task, rtrim(nullif(fleet_catalog.prefix_of(p), ''), '/')), x.message, x.hint
                   FROM fleet_catalog.used_by(a_package) AS u JOIN fleet_catalog.package AS p ON u.kind IN ('package', 'container') AND p.name = u.name
                   LEFT JOIN fleet_catalog.package AS r ON r.package_id = p.root_id
                  CROSS JOIN LATERAL fleet_catalog.problems_of(p) AS x
                  WHERE fleet_catalog.sees(p.owner)
                    AND NOT EXISTS (SELECT FROM fleet_catalog.tree(p.root_id) AS o JOIN fleet_catalog.task AS t ON t.package_id = o.package_id AND t.task_no = o.task_no
                                     WHERE starts_with(fleet_catalog.prefix_of(p), o.path || '/') AND NOT t.enabled)
                  ORDER BY x.severity, coalesce(r.name, p.name) <> a_package, 2, 3, x.message;
END
$$;
