-- 31_package.sql: packages, their tasks and precedence constraints.

CREATE FUNCTION fleet.create_package(package text, params jsonb DEFAULT '{}', overlap text DEFAULT 'parallel',
                                     priority integer DEFAULT 0, description text DEFAULT '', enabled boolean DEFAULT true,
                                     failed_if text DEFAULT 'unhandled', max_parallel integer DEFAULT 0, timeout interval DEFAULT '0',
                                     deadline interval DEFAULT '0') RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.create_package(text, jsonb, text, integer, text, boolean, text, integer, interval, interval)
    IS 'Creates an empty package. params: its parameters with their defaults; null makes one required; overlap: what happens to a run while another one is open: parallel, queue, replace or skip; enabled: false: it is not run; failed_if: which failed tasks fail a run, unhandled (that no precedence constraint handles) or any';

CREATE FUNCTION fleet_catalog.check_overlap(a_overlap text, a_max_parallel integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_choice('overlap', a_overlap, 'parallel', 'queue', 'replace', 'skip');
    PERFORM fleet_catalog.check_range('max_parallel', a_max_parallel, 0, 10000);
    IF a_max_parallel > 0 AND a_overlap IN ('replace', 'skip') THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('max_parallel cannot be used with overlap "%s"', a_overlap),
            DETAIL = 'At most one run of such a package runs at a time.', HINT = 'Use overlap "queue" or "parallel", or leave out max_parallel.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_overlap(text, integer) IS 'Raises an error unless this is an overlap policy, and the limit goes with it';

CREATE FUNCTION fleet_catalog.parallel_limit(a_overlap text, a_max_parallel integer) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN a_overlap OPERATOR(pg_catalog.=) 'parallel' THEN COALESCE(a_max_parallel, 0)
                WHEN a_overlap OPERATOR(pg_catalog.=) 'queue' THEN COALESCE(a_max_parallel, 1) ELSE 1 END;
COMMENT ON FUNCTION fleet_catalog.parallel_limit(text, integer) IS 'How many runs of a package run at a time; 0: any number';

-- Its number is that of a package of this name that was dropped while runs of it were open: for their limit it is the same one.
CREATE FUNCTION fleet_catalog.new_package_id(a_package text) RETURNS integer
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((SELECT r.package_id FROM fleet_catalog.run AS r
                  WHERE r.state < 11 AND r.package_id > 0 AND r.package = a_package AND r.owner::oid = fleet_catalog.caller()::oid
                    AND NOT EXISTS (SELECT FROM fleet_catalog.package AS p WHERE p.package_id = r.package_id)
                  ORDER BY r.run_id DESC LIMIT 1),
                nextval(pg_get_serial_sequence('fleet_catalog.package', 'package_id'))::integer)
$$;
COMMENT ON FUNCTION fleet_catalog.new_package_id(text) IS 'The number of a package that is created';

CREATE FUNCTION fleet_catalog.create_package(a_package text, a_params jsonb, a_overlap text, a_priority integer, a_description text, a_enabled boolean,
                                             a_failed_if text, a_max_parallel integer, a_timeout interval, a_deadline interval) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name('package', a_package);
    PERFORM fleet_catalog.check_params(a_params);
    PERFORM fleet_catalog.check_overlap(a_overlap, a_max_parallel);
    PERFORM fleet_catalog.check_priority(a_priority);
    PERFORM fleet_catalog.check_given('enabled', a_enabled::text, 'timeout', a_timeout::text, 'deadline', a_deadline::text);
    PERFORM fleet_catalog.check_span('timeout', a_timeout);
    PERFORM fleet_catalog.check_span('deadline', a_deadline);
    PERFORM fleet_catalog.check_choice('failed_if', a_failed_if, 'unhandled', 'any');
    INSERT INTO fleet_catalog.package (package_id, name, owner, params, overlap, priority, description, enabled, failed_if, max_parallel, timeout, deadline)
    VALUES (fleet_catalog.new_package_id(a_package), a_package, fleet_catalog.caller(), a_params, a_overlap, a_priority, coalesce(a_description, ''),
            a_enabled, a_failed_if, nullif(a_max_parallel, 0), nullif(a_timeout, '0'), nullif(a_deadline, '0'))
    ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('package "%s" already exists', a_package),
            HINT = 'Choose another name, or drop the existing one with fleet.drop_package().';
    END IF;
    PERFORM fleet_catalog.edited('package', p.package_id) FROM fleet_catalog.package AS p WHERE p.name = a_package;
END
$$;

-- ---- tasks -------------------------------------------------------------------------------------

CREATE FUNCTION fleet.add_task(package text, task text, sql text DEFAULT NULL, job text DEFAULT NULL, nested text DEFAULT NULL,
                               server text DEFAULT NULL, on_group text DEFAULT NULL, params jsonb DEFAULT '{}',
                               for_each text DEFAULT NULL, cost text DEFAULT NULL, item_key text DEFAULT NULL,
                               throttle integer DEFAULT 0, completion text DEFAULT 'continue',
                               minimum_share double precision DEFAULT 1, balance text DEFAULT 'shortest_finish',
                               wait_for text DEFAULT 'all', on_lost text DEFAULT 'fail', retries integer DEFAULT 0,
                               retry_wait interval DEFAULT '5s', retry_wait_max interval DEFAULT '5min', retry_sqlstates text[] DEFAULT NULL,
                               timeout interval DEFAULT NULL, after text[] DEFAULT '{}', after_failure_of text[] DEFAULT '{}',
                               after_completion_of text[] DEFAULT '{}',
                               transactional boolean DEFAULT NULL, check_syntax boolean DEFAULT true, enabled boolean DEFAULT true,
                               container boolean DEFAULT false, final boolean DEFAULT false, catch boolean DEFAULT false,
                               limits text[] DEFAULT '{}') RETURNS integer
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.add_task(text, text, text, text, text, text, text, jsonb, text, text, text, integer, text, double precision, text, text, text, integer, interval, interval, text[], interval, text[], text[], text[], boolean, boolean, boolean, boolean, boolean, boolean, text[])
    IS 'Adds a task to a package: SQL that runs here, a job here or on a server or group, a nested package, or a container of tasks that are named by their path, as in stage/load; returns its number, from 0. final: it runs when all others have ended, whatever happened. catch: it runs once for each failure that no precedence constraint handles. limits: named limits of which it takes a place while it is active';

-- a_old: the task as it was; all null: it is new.
CREATE FUNCTION fleet_catalog.check_task_target(a_task fleet_catalog.task, a_old fleet_catalog.task) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_task.job IS NULL AND num_nonnulls(a_task.server, a_task.on_group) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'only a job can run on a server or group',
            DETAIL = 'SQL, nested packages and containers run on this server.',
            HINT = 'Create a job that runs the SQL, and name it with job => ''job''.';
    ELSIF a_task.job IS NOT NULL AND num_nonnulls(a_task.server, a_task.on_group) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a job must run either on a server or on a group',
            DETAIL = 'Both were given.',
            HINT = 'Specify at most one of the arguments "server" and "on_group". Without them, the job runs on this server.';
    END IF;
    IF a_task.job IS NOT NULL THEN
        PERFORM fleet_catalog.check_name('job', a_task.job);
        IF a_task.job IS DISTINCT FROM a_old.job THEN
            PERFORM fleet_catalog.use_job(a_task.job);
        END IF;
    END IF;
    IF a_task.on_group IS NOT NULL AND a_task.on_group IS DISTINCT FROM a_old.on_group THEN
        PERFORM fleet_catalog.check_name('group', a_task.on_group);
        PERFORM fleet_catalog.use_group(a_task.on_group);
        PERFORM fleet_catalog.warn_of_group(a_task.on_group);
    END IF;
    IF a_task.server IS NOT NULL AND a_task.server IS DISTINCT FROM a_old.server THEN
        PERFORM fleet_catalog.use_server(a_task.server::text);
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.check_handler(a_task text, a_final boolean, a_for_each text, a_completion text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_final THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('task "%s" cannot both catch failures and be final', a_task),
            HINT = 'Handlers run before the final tasks. A final task finds out with fleet.run_outcome() whether a task failed.';
    ELSIF a_for_each IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('task "%s" cannot both catch failures and have a for_each', a_task),
            DETAIL = 'Its items are the failures.', HINT = 'Let it run a nested package that has a task with the for_each.';
    ELSIF a_completion = 'fail_fast' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('task "%s" cannot both catch failures and have the completion policy "fail_fast"', a_task),
            DETAIL = 'It is executed for each failure, also when one of its executions has failed.', HINT = 'Use continue.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_handler(text, boolean, text, text) IS 'Error if a task that catches failures cannot be as it is described';

-- The query, and which of its columns say what of an item: as far as its text tells, here; all else when it runs.
CREATE FUNCTION fleet_catalog.check_for_each(a_for_each text, a_cost text, a_item_key text, a_check_syntax boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_column record;
BEGIN
    IF a_for_each IS NULL AND num_nonnulls(a_cost, a_item_key) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('"%s" needs a for_each', CASE WHEN a_cost IS NOT NULL THEN 'cost' ELSE 'item_key' END),
            DETAIL = 'It is the name of a column of the query of a for_each.', HINT = 'Specify the query with for_each => ''SELECT ...''.';
    ELSIF a_for_each IS NULL THEN
        RETURN;
    END IF;
    FOR v_column IN SELECT c.* FROM (VALUES ('cost', a_cost), ('item_key', a_item_key)) AS c (argument, name) WHERE c.name IS NOT NULL LOOP
        PERFORM fleet_catalog.check_name(v_column.argument, v_column.name);
    END LOOP;
    IF a_check_syntax THEN
        PERFORM fleet_catalog.check_command(a_for_each, 'query');
        PERFORM fleet_catalog.check_item_column(a_for_each, c.argument, c.name)
          FROM (VALUES ('cost', a_cost), ('item_key', a_item_key)) AS c (argument, name) WHERE c.name IS NOT NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_for_each(text, text, text, boolean) IS 'Raises an error unless these can be a query of a for_each, and columns of it';

CREATE FUNCTION fleet_catalog.add_edges(a_package fleet_catalog.package, a_holder integer, a_from text[], a_to text, a_on_outcome text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_from text;
BEGIN
    FOREACH v_from IN ARRAY a_from LOOP
        PERFORM fleet_catalog.add_precedence_row(a_package, a_holder, v_from, a_to, a_on_outcome, NULL);
    END LOOP;
END
$$;

-- Whoever makes a task or changes it (a_old; all null: it is new) passes here.  Returns it as it is stored.
CREATE FUNCTION fleet_catalog.checked_task(a_package fleet_catalog.package, a_task fleet_catalog.task, a_old fleet_catalog.task, a_container boolean, a_check_syntax boolean)
    RETURNS fleet_catalog.task LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_text boolean := a_old.name IS NULL OR a_task.sql IS DISTINCT FROM a_old.sql;
    v_work integer := num_nonnulls(a_task.sql, a_task.job, a_task.package) + a_container::integer;
BEGIN
    IF v_work <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a task must be exactly one of SQL, a job, a package or a container',
            DETAIL = CASE WHEN v_work = 0 THEN 'None was given.' ELSE 'More than one was given.' END,
            HINT = 'Specify exactly one of the arguments "sql", "job", "nested" and "container".';
    END IF;
    IF a_task.transactional IS NOT NULL AND a_task.sql IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'only a task that is SQL can be marked as transactional or not',
            HINT = 'Mark the steps of the job, with fleet.add_step().';
    END IF;
    a_task.kind := CASE WHEN a_task.job IS NOT NULL THEN 'job' WHEN a_task.sql IS NOT NULL THEN 'sql' ELSE 'package' END;
    PERFORM fleet_catalog.check_task_target(a_task, a_old);
    PERFORM fleet_catalog.check_params(a_task.params);
    IF a_task.params IS DISTINCT FROM a_old.params THEN
        PERFORM fleet_catalog.check_templates(a_package, a_task.package_id, a_task.params);
    END IF;
    PERFORM fleet_catalog.check_range('throttle', a_task.throttle, 0, 1000000);
    PERFORM fleet_catalog.check_range('minimum_share', a_task.min_share, 0, 1);
    PERFORM fleet_catalog.check_choice('completion', a_task.completion, 'fail_fast', 'continue', 'minimum_share', 'started');
    PERFORM fleet_catalog.check_choice('balance', a_task.balance, 'shortest_finish', 'round_robin', 'least_loaded', 'weighted');
    PERFORM fleet_catalog.check_choice('wait_for', a_task.join_type, 'all', 'any');
    PERFORM fleet_catalog.check_choice('on_lost', a_task.on_lost, 'fail', 'retry');
    PERFORM fleet_catalog.check_work(CASE WHEN v_text THEN a_task.sql END, a_check_syntax, a_task.retries, a_task.retry_wait, a_task.retry_max,
                                     a_task.retry_states, a_task.timeout);
    IF a_task.catch THEN
        PERFORM fleet_catalog.check_handler(a_task.name, a_task.final, a_task.for_each, a_task.completion);
    END IF;
    IF v_text OR a_task.transactional IS DISTINCT FROM a_old.transactional THEN
        a_task.transactional := fleet_catalog.check_transactional(a_task.transactional, a_task.sql, a_check_syntax);
    END IF;
    IF a_task.for_each IS DISTINCT FROM a_old.for_each OR a_task.cost IS DISTINCT FROM a_old.cost OR a_task.item_key IS DISTINCT FROM a_old.item_key THEN
        PERFORM fleet_catalog.check_for_each(a_task.for_each, a_task.cost, a_task.item_key, a_check_syntax);
    END IF;
    IF a_task.limits IS DISTINCT FROM a_old.limits OR (a_task.kind = 'package' AND a_task.limits <> '{}') THEN
        a_task.limits := fleet_catalog.use_limits(a_task.limits, a_task.kind);
    END IF;
    IF a_task.package IS NOT NULL AND a_task.package IS DISTINCT FROM a_old.package THEN
        PERFORM fleet_catalog.use_package(a_task.package);
    END IF;
    IF a_task.name IS DISTINCT FROM a_old.name
       AND EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_task.package_id AND t.name = a_task.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('package "%s" already has a task "%s"', a_package.name, fleet_catalog.prefix_of(fleet_catalog.get_part(a_task.package_id)) || a_task.name),
            HINT = 'Choose another name, or drop the existing one with fleet.drop_task().';
    END IF;
    RETURN a_task;
END
$$;
COMMENT ON FUNCTION fleet_catalog.checked_task(fleet_catalog.package, fleet_catalog.task, fleet_catalog.task, boolean, boolean)
    IS 'Error unless a task may be so; what of it is as it was (the third argument) is not looked at again where others may have changed meanwhile';

CREATE FUNCTION fleet_catalog.add_task(a_package text, a_task text, a_sql text, a_job text, a_nested text,
                                       a_server text, a_on_group text, a_params jsonb, a_for_each text, a_cost text, a_item_key text, a_throttle integer,
                                       a_completion text, a_minimum_share double precision, a_balance text, a_wait_for text,
                                       a_on_lost text, a_retries integer, a_retry_wait interval, a_retry_wait_max interval,
                                       a_retry_sqlstates text[], a_timeout interval, a_after text[], a_after_failure_of text[],
                                       a_after_completion_of text[],
                                       a_transactional boolean, a_check_syntax boolean, a_enabled boolean, a_container boolean,
                                       a_final boolean, a_catch boolean, a_limits text[]) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_place record := fleet_catalog.place(v_package, a_task);
    v_task fleet_catalog.task;
BEGIN
    PERFORM fleet_catalog.check_given('after', a_after::text, 'after_failure_of', a_after_failure_of::text,
                                      'after_completion_of', a_after_completion_of::text, 'enabled', a_enabled::text, 'container', a_container::text,
                                      'final', a_final::text, 'catch', a_catch::text);
    v_task.package_id := v_place.package_id;
    v_task.name := v_place.task;
    v_task.sql := a_sql;
    v_task.job := a_job;
    v_task.package := a_nested;
    v_task.server := fleet_catalog.as_server_name(a_server);
    v_task.on_group := a_on_group;
    v_task.params := a_params;
    v_task.for_each := a_for_each;
    v_task.cost := a_cost;
    v_task.item_key := a_item_key;
    v_task.throttle := a_throttle;
    v_task.completion := a_completion;
    v_task.min_share := a_minimum_share;
    v_task.balance := a_balance;
    v_task.join_type := a_wait_for;
    v_task.on_lost := a_on_lost;
    v_task.retries := a_retries;
    v_task.retry_wait := a_retry_wait;
    v_task.retry_max := a_retry_wait_max;
    v_task.retry_states := a_retry_sqlstates;
    v_task.timeout := a_timeout;
    v_task.transactional := a_transactional;
    v_task.enabled := a_enabled;
    v_task.final := a_final;
    v_task.catch := a_catch;
    v_task.limits := a_limits;
    v_task := fleet_catalog.checked_task(v_package, v_task, NULL, a_container, a_check_syntax);
    v_task.task_no := coalesce((SELECT max(t.task_no) + 1 FROM fleet_catalog.task AS t WHERE t.package_id = v_place.package_id), 0);
    IF v_task.task_no >= 10000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('package "%s" has too many tasks', a_package),
            HINT = 'A package can have at most 10000 tasks. Use for_each, containers, or nested packages.';
    END IF;
    IF a_container THEN
        v_task.package := fleet_catalog.make_container(v_place.package_id, v_place.task);
    END IF;
    INSERT INTO fleet_catalog.task SELECT v_task.*;
    PERFORM fleet_catalog.add_edges(v_package, v_place.package_id, a_after, v_place.task, 'success');
    PERFORM fleet_catalog.add_edges(v_package, v_place.package_id, a_after_failure_of, v_place.task, 'failure');
    PERFORM fleet_catalog.add_edges(v_package, v_place.package_id, a_after_completion_of, v_place.task, 'completion');
    PERFORM fleet_catalog.check_content(fleet_catalog.path_of(v_place.package_id), a_job, v_task.package);
    RETURN v_task.task_no;
END
$$;

CREATE FUNCTION fleet_catalog.no_such_task(a_package fleet_catalog.package, a_task text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name('task', a_task);
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" has no task "%s"', a_package.name, a_task),
        HINT = fleet_catalog.known((SELECT array_agg(t.path ORDER BY t.ord) FROM fleet_catalog.tree(a_package.package_id) AS t), 'fleet.add_task()');
END
$$;

CREATE FUNCTION fleet.drop_task(package text, task text, cascade boolean DEFAULT false) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.drop_task(text, text, boolean) IS 'Drops a task with its precedence constraints; cascade: also a container that has tasks, with them';

CREATE FUNCTION fleet_catalog.drop_task(a_package text, a_task text, a_cascade boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_place record := fleet_catalog.place(v_package, a_task);
    v_no integer;
    v_uses text;
    v_count bigint;
BEGIN
    PERFORM fleet_catalog.check_given('cascade', a_cascade::text);
    SELECT count(*) INTO v_count FROM fleet_catalog.tree(v_package.package_id) AS t WHERE starts_with(t.path, a_task || '/');
    IF v_count > 0 AND NOT a_cascade THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('cannot drop container "%s" because it has tasks', a_task),
            DETAIL = format('Tasks in it: %s.', v_count), HINT = 'Use cascade => true to drop them too.';
    END IF;
    v_uses := fleet_catalog.list_uses(ARRAY(
        SELECT DISTINCT format('task "%s"', u.path) FROM fleet_catalog.users_of(v_package.package_id, v_place.package_id, v_place.task) AS u
         WHERE u.path <> a_task AND NOT starts_with(u.path, a_task || '/') ORDER BY 1 LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop task "%s" because parameters of other tasks refer to it', a_task), DETAIL = v_uses,
            HINT = 'Drop those first, or give them other parameters with fleet.alter_task().';
    END IF;
    DELETE FROM fleet_catalog.task AS t WHERE t.package_id = v_place.package_id AND t.name = v_place.task RETURNING t.task_no INTO v_no;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.no_such_task(v_package, a_task);
    END IF;
    FOR v_no IN SELECT t.task_no FROM fleet_catalog.task AS t
                 WHERE t.package_id = v_place.package_id AND t.task_no > v_no ORDER BY t.task_no LOOP
        UPDATE fleet_catalog.task AS t SET task_no = t.task_no - 1 WHERE t.package_id = v_place.package_id AND t.task_no = v_no;
    END LOOP;
END
$$;

-- ---- precedence constraints --------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.check_package(a_package_id integer) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.check_graph(
    (SELECT coalesce(array_agg(t.name ORDER BY t.task_no), '{}') FROM fleet_catalog.task AS t WHERE t.package_id = a_package_id),
    coalesce(array_agg(f.task_no), '{}'), coalesce(array_agg(t.task_no), '{}'))
  FROM fleet_catalog.precedence AS c
  JOIN fleet_catalog.task AS f ON f.package_id = c.package_id AND f.name = c.from_task
  JOIN fleet_catalog.task AS t ON t.package_id = c.package_id AND t.name = c.to_task
 WHERE c.package_id = a_package_id
$$;

CREATE FUNCTION fleet_catalog.check_parts(a_holder integer, a_from text, a_to text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_from fleet_catalog.task;
    v_to fleet_catalog.task;
BEGIN
    SELECT t.* INTO v_from FROM fleet_catalog.task AS t WHERE t.package_id = a_holder AND t.name = a_from;
    SELECT t.* INTO v_to FROM fleet_catalog.task AS t WHERE t.package_id = a_holder AND t.name = a_to;
    IF v_from.catch OR v_to.catch THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition',
            MESSAGE = format('task "%s" catches failures, and has no precedence constraints', CASE WHEN v_from.catch THEN a_from ELSE a_to END),
            HINT = 'It runs when a task fails. To handle the failure of one task, use after_failure_of with a task that does not catch failures.';
    ELSIF v_from.final <> v_to.final THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition',
            MESSAGE = format('there cannot be a precedence constraint between the final task "%s" and task "%s"',
                             CASE WHEN v_from.final THEN a_from ELSE a_to END, CASE WHEN v_from.final THEN a_to ELSE a_from END),
            DETAIL = 'Final tasks begin when all other tasks have ended.',
            HINT = 'Precedence constraints order final tasks among themselves. How another task ended is known by fleet.outcome(task).';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_parts(integer, text, text) IS 'Error if there cannot be a precedence constraint between these tasks, because one is final or catches failures';

-- a_to: in the container a_holder; a_from: as the user writes it.
CREATE FUNCTION fleet_catalog.add_precedence_row(a_package fleet_catalog.package, a_holder integer, a_from text, a_to text, a_on_outcome text,
                                                 a_condition text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_from text := fleet_catalog.edge_from(a_package, a_holder, a_from, a_to);
    v_task text;
BEGIN
    FOREACH v_task IN ARRAY ARRAY[v_from, a_to] LOOP
        IF NOT EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_holder AND t.name = v_task) THEN
            PERFORM fleet_catalog.no_such_task(a_package, CASE WHEN v_task IS NULL THEN NULL ELSE fleet_catalog.prefix_of(fleet_catalog.get_part(a_holder)) || v_task END);
        END IF;
    END LOOP;
    PERFORM fleet_catalog.check_choice('on_outcome', a_on_outcome, 'success', 'failure', 'completion');
    PERFORM fleet_catalog.check_parts(a_holder, v_from, a_to);
    IF a_condition IS NOT NULL THEN
        PERFORM fleet_catalog.check_command(a_condition, 'condition');
    END IF;
    IF v_from = a_to THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition', MESSAGE = format('task "%s" cannot come after itself', a_from),
            HINT = 'To run it again after a failure, set its retries.';
    END IF;
    INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task, on_outcome, condition)
    VALUES (a_holder, v_from, a_to, a_on_outcome, a_condition)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('task "%s" already comes after task "%s"', a_to, a_from),
            DETAIL = 'There is at most one precedence constraint from one task to another.',
            HINT = 'Drop that one with fleet.drop_precedence().';
    END IF;
    PERFORM fleet_catalog.check_package(a_holder);
END
$$;

CREATE FUNCTION fleet.add_precedence(package text, from_task text, to_task text, on_outcome text DEFAULT 'success',
                                     condition text DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.add_precedence(text, text, text, text, text)
    IS 'Makes a task wait for the success, failure or completion of another one, optionally with a condition';

CREATE FUNCTION fleet_catalog.add_precedence(a_package text, a_from_task text, a_to_task text, a_on_outcome text, a_condition text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_to record := fleet_catalog.place(v_package, a_to_task);
BEGIN
    PERFORM fleet_catalog.add_precedence_row(v_package, v_to.package_id, a_from_task, v_to.task, a_on_outcome, a_condition);
END
$$;

CREATE FUNCTION fleet.drop_precedence(package text, from_task text, to_task text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.drop_precedence(text, text, text) IS 'Drops a precedence constraint';

CREATE FUNCTION fleet_catalog.drop_precedence(a_package text, a_from_task text, a_to_task text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_to record := fleet_catalog.place(v_package, a_to_task);
BEGIN
    PERFORM fleet_catalog.check_task_name(a_from_task);
    DELETE FROM fleet_catalog.precedence AS c
     WHERE c.package_id = v_to.package_id AND c.from_task = fleet_catalog.edge_from(v_package, v_to.package_id, a_from_task, v_to.task) AND c.to_task = v_to.task;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = format('package "%s" has no precedence constraint from "%s" to "%s"', a_package, a_from_task, a_to_task),
            HINT = 'Precedence constraints are listed in fleet.precedence.';
    END IF;
END
$$;
