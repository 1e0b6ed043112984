-- 30_job.sql: jobs and their steps.

CREATE FUNCTION fleet.create_job(job text, params jsonb DEFAULT '{}', description text DEFAULT '', leaves_clean boolean DEFAULT false,
                                 enabled boolean DEFAULT true) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.create_job(text, jsonb, text, boolean, boolean)
    IS 'Creates a job. params: its parameters with their defaults; enabled: false: tasks that run it are skipped; leaves_clean: its steps leave nothing behind in their session (settings, temporary tables, prepared statements, LISTEN, advisory locks), so that DISCARD ALL before the next job is not needed';

CREATE FUNCTION fleet_catalog.create_job(a_job text, a_params jsonb, a_description text, a_leaves_clean boolean, a_enabled boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name('job', a_job);
    PERFORM fleet_catalog.check_params(a_params);
    PERFORM fleet_catalog.check_given('enabled', a_enabled::text);
    INSERT INTO fleet_catalog.job (name, owner, params, description, leaves_clean, enabled)
    VALUES (a_job, fleet_catalog.caller(), a_params, coalesce(a_description, ''), coalesce(a_leaves_clean, false), a_enabled)
    ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('job "%s" already exists', a_job),
            HINT = 'Choose another name, or drop the existing one with fleet.drop_job().';
    END IF;
    PERFORM fleet_catalog.edited('job', j.job_id) FROM fleet_catalog.job AS j WHERE j.name = a_job;
END
$$;

-- ---- steps -------------------------------------------------------------------------------------

CREATE FUNCTION fleet.add_step(job text, step text, sql text DEFAULT NULL, package text DEFAULT NULL,
                               on_success text DEFAULT 'next', success_goto text DEFAULT NULL,
                               on_failure text DEFAULT 'quit_failure', failure_goto text DEFAULT NULL,
                               retries integer DEFAULT 0, retry_wait interval DEFAULT '5s', retry_wait_max interval DEFAULT '5min',
                               retry_sqlstates text[] DEFAULT NULL, timeout interval DEFAULT NULL,
                               on_unknown text DEFAULT 'fail', transactional boolean DEFAULT NULL,
                               run_as text DEFAULT NULL, check_syntax boolean DEFAULT true, enabled boolean DEFAULT true,
                               before text DEFAULT NULL, after_step text DEFAULT NULL) RETURNS integer
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.add_step(text, text, text, text, text, text, text, text, integer, interval, interval, text[], interval, text, boolean, text, boolean, boolean, text, text)
    IS 'Adds a step, an SQL command or a package, to a job: at the end, or before or after one of its steps; returns its number. enabled: false: it is passed over';

CREATE FUNCTION fleet_catalog.check_action(a_what text, a_action text, a_goto text) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_choice('on_' || a_what, a_action, 'next', 'quit_success', 'quit_failure', 'goto');
    IF a_goto IS NOT NULL THEN
        PERFORM fleet_catalog.check_name('step', a_goto);
        RETURN 'goto';
    END IF;
    IF a_action = 'goto' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('on_%s is "goto", but %s_goto is missing', a_what, a_what),
            HINT = format('Specify the step with %s_goto => ''step''.', a_what);
    END IF;
    RETURN a_action;
END
$$;

-- The checks of a step that do not depend on other rows; returns whether the command is one statement.
CREATE FUNCTION fleet_catalog.check_work(a_sql text, a_check_syntax boolean, a_retries integer, a_retry_wait interval,
                                         a_retry_wait_max interval, a_retry_sqlstates text[], a_timeout interval) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_given('retry_wait', a_retry_wait::text, 'retry_wait_max', a_retry_wait_max::text, 'check_syntax', a_check_syntax::text);
    PERFORM fleet_catalog.check_range('retries', a_retries, 0, 1000);
    PERFORM fleet_catalog.check_span('retry_wait', a_retry_wait);
    PERFORM fleet_catalog.check_span('retry_wait_max', a_retry_wait_max);
    PERFORM fleet_catalog.check_retry_sqlstates(a_retry_sqlstates);
    PERFORM fleet_catalog.check_span('timeout', a_timeout, true);
    IF a_sql IS NULL THEN
        RETURN false;
    END IF;
    IF NOT a_check_syntax THEN
        RETURN false; -- not known here: the executor takes care
    END IF;
    RETURN fleet_catalog.check_command(a_sql, 'command') = 1;
END
$$;

-- As it is given; false if the text itself begins or ends transactions.
CREATE FUNCTION fleet_catalog.check_transactional(a_transactional boolean, a_sql text, a_check_syntax boolean) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_sql IS NULL OR a_transactional IS FALSE OR NOT a_check_syntax OR fleet_catalog.check_command(a_sql, 'transactions') = 0 THEN
        RETURN a_transactional;
    ELSIF a_transactional THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'SQL that begins or ends transactions cannot be marked as transactional',
            HINT = 'Leave "transactional" null.';
    END IF;
    RETURN false;
END
$$;

-- A step runs as another role only if the job's owner is a member of it; looked at again when it runs.
CREATE FUNCTION fleet_catalog.check_run_as(a_owner oid, a_run_as oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT fleet_catalog.may_become(a_owner, a_run_as) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role "%s", which owns the job, is not a member of role "%s"', pg_get_userbyid(a_owner), pg_get_userbyid(a_run_as)),
            HINT = 'The owner of a job must be a member of every role that its steps run as; on PostgreSQL 16 and later, with the SET option.';
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.no_such_step(a_job fleet_catalog.job, a_step text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name('step', a_step);
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('job "%s" has no step "%s"', a_job.name, a_step),
        HINT = fleet_catalog.known((SELECT array_agg(s.name ORDER BY s.step_no) FROM fleet_catalog.step AS s
                                     WHERE s.job_id = a_job.job_id), 'fleet.add_step()');
END
$$;

-- Whoever makes a step or changes it (a_old; all null: it is new) passes here.  Returns it as it is stored.
CREATE FUNCTION fleet_catalog.checked_step(a_job fleet_catalog.job, a_step fleet_catalog.step, a_old fleet_catalog.step, a_check_syntax boolean)
    RETURNS fleet_catalog.step LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_text boolean := a_old.name IS NULL OR a_step.command IS DISTINCT FROM a_old.command;
    v_single boolean;
BEGIN
    PERFORM fleet_catalog.check_name('step', a_step.name);
    IF a_step.run_as IS NOT NULL AND (a_old.name IS NULL OR a_step.run_as::oid IS DISTINCT FROM a_old.run_as::oid) THEN
        PERFORM fleet_catalog.check_run_as(a_job.owner, a_step.run_as);
    END IF;
    PERFORM fleet_catalog.check_given('enabled', a_step.enabled::text);
    IF num_nonnulls(a_step.command, a_step.package) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a step must be either an SQL command or a package',
            DETAIL = CASE WHEN a_step.command IS NULL THEN 'Neither was given.' ELSE 'Both were given.' END,
            HINT = 'Specify exactly one of the arguments "sql" and "package".';
    END IF;
    a_step.on_success := fleet_catalog.check_action('success', a_step.on_success, a_step.success_goto);
    a_step.on_failure := fleet_catalog.check_action('failure', a_step.on_failure, a_step.failure_goto);
    PERFORM fleet_catalog.check_choice('on_unknown', a_step.on_unknown, 'fail', 'retry');
    v_single := fleet_catalog.check_work(CASE WHEN v_text THEN a_step.command END, a_check_syntax, a_step.retries, a_step.retry_wait, a_step.retry_max,
                                         a_step.retry_states, a_step.timeout);
    a_step.single := CASE WHEN v_text THEN v_single ELSE a_step.single END;
    IF v_text OR a_step.transactional IS DISTINCT FROM a_old.transactional THEN
        a_step.transactional := fleet_catalog.check_transactional(a_step.transactional, a_step.command, a_check_syntax);
    END IF;
    IF a_step.package IS NOT NULL AND a_step.package IS DISTINCT FROM a_old.package THEN
        PERFORM fleet_catalog.use_package(a_step.package);
    END IF;
    IF a_step.name IS DISTINCT FROM a_old.name
       AND EXISTS (SELECT FROM fleet_catalog.step AS s WHERE s.job_id = a_job.job_id AND s.name = a_step.name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('job "%s" already has a step "%s"', a_job.name, a_step.name),
            HINT = 'Choose another name, or drop the existing one with fleet.drop_step().';
    END IF;
    RETURN a_step;
END
$$;
COMMENT ON FUNCTION fleet_catalog.checked_step(fleet_catalog.job, fleet_catalog.step, fleet_catalog.step, boolean)
    IS 'Error unless a step may be so; what of it is as it was (the last but one argument) is not looked at again where others may have changed meanwhile';

-- A place before or after another one, as the names in their new order.
CREATE FUNCTION fleet_catalog.moved(a_names text[], a_name text, a_before text, a_after text) RETURNS text[]
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_names text[] := array_remove(a_names, a_name);
    v_at integer := array_position(v_names, coalesce(a_before, a_after));
BEGIN
    IF num_nonnulls(a_before, a_after) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a place is either before or after another one',
            DETAIL = 'Both were given.', HINT = 'Specify one of the two arguments.';
    ELSIF v_at IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" cannot be moved before or after itself', a_name),
            HINT = 'Name another one.';
    END IF;
    v_at := v_at - CASE WHEN a_before IS NULL THEN 0 ELSE 1 END;
    RETURN v_names[1:v_at] || a_name || v_names[v_at + 1:];
END
$$;

CREATE FUNCTION fleet_catalog.move_step(a_job fleet_catalog.job, a_step text, a_before text, a_after text) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_names text[] := ARRAY(SELECT s.name FROM fleet_catalog.step AS s WHERE s.job_id = a_job.job_id ORDER BY s.step_no);
    v_moved fleet_catalog.step[];
BEGIN
    IF coalesce(a_before, a_after) <> ALL (v_names) THEN
        PERFORM fleet_catalog.no_such_step(a_job, coalesce(a_before, a_after));
    END IF;
    v_names := fleet_catalog.moved(v_names, a_step, a_before, a_after);
    WITH gone AS (
        DELETE FROM fleet_catalog.step AS s WHERE s.job_id = a_job.job_id AND s.name IS DISTINCT FROM v_names[s.step_no] RETURNING s.*)
    SELECT array_agg(g::fleet_catalog.step) INTO v_moved FROM gone AS g;
    FOR i IN 1 .. coalesce(cardinality(v_moved), 0) LOOP
        v_moved[i].step_no := array_position(v_names, v_moved[i].name);
    END LOOP;
    INSERT INTO fleet_catalog.step SELECT m.* FROM unnest(v_moved) AS m;
    RETURN array_position(v_names, a_step);
END
$$;
COMMENT ON FUNCTION fleet_catalog.move_step(fleet_catalog.job, text, text, text) IS 'Gives a step another place; returns its new number';

CREATE FUNCTION fleet_catalog.add_step(a_job text, a_step text, a_sql text, a_package text,
                                       a_on_success text, a_success_goto text, a_on_failure text, a_failure_goto text,
                                       a_retries integer, a_retry_wait interval, a_retry_wait_max interval, a_retry_sqlstates text[],
                                       a_timeout interval, a_on_unknown text, a_transactional boolean, a_run_as text,
                                       a_check_syntax boolean, a_enabled boolean, a_before text, a_after_step text) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.change_job(a_job);
    v_step fleet_catalog.step;
BEGIN
    v_step.job_id := v_job.job_id;
    v_step.name := a_step;
    v_step.run_as := CASE WHEN a_run_as IS NOT NULL THEN fleet_catalog.get_role(a_run_as) END;
    v_step.command := a_sql;
    v_step.package := a_package;
    v_step.on_success := a_on_success;
    v_step.success_goto := a_success_goto;
    v_step.on_failure := a_on_failure;
    v_step.failure_goto := a_failure_goto;
    v_step.retries := a_retries;
    v_step.retry_wait := a_retry_wait;
    v_step.retry_max := a_retry_wait_max;
    v_step.retry_states := a_retry_sqlstates;
    v_step.timeout := a_timeout;
    v_step.on_unknown := a_on_unknown;
    v_step.transactional := a_transactional;
    v_step.enabled := a_enabled;
    v_step := fleet_catalog.checked_step(v_job, v_step, NULL, a_check_syntax);
    v_step.step_no := 1 + coalesce((SELECT max(s.step_no) FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id), 0);
    IF v_step.step_no > 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('job "%s" has too many steps', a_job),
            HINT = 'A job can have at most 1000 steps. Use several jobs, or a package.';
    END IF;
    INSERT INTO fleet_catalog.step SELECT v_step.*;
    IF num_nonnulls(a_before, a_after_step) > 0 THEN
        v_step.step_no := fleet_catalog.move_step(v_job, a_step, a_before, a_after_step);
    END IF;
    IF a_package IS NOT NULL THEN
        PERFORM fleet_catalog.check_content(ARRAY[format('job "%s"', a_job)], NULL, a_package);
    END IF;
    RETURN v_step.step_no;
END
$$;

CREATE FUNCTION fleet.drop_step(job text, step text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.drop_step(text, text) IS 'Drops a step; later steps move up';

CREATE FUNCTION fleet_catalog.drop_step(a_job text, a_step text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.change_job(a_job);
    v_no integer;
    v_uses text;
BEGIN
    PERFORM fleet_catalog.check_name('step', a_step);
    v_uses := fleet_catalog.list_uses(ARRAY(SELECT format('step "%s"', s.name) FROM fleet_catalog.step AS s
                                             WHERE s.job_id = v_job.job_id AND a_step IN (s.success_goto, s.failure_goto) AND s.name <> a_step
                                             ORDER BY s.step_no LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop step "%s" because other steps go to it', a_step), DETAIL = v_uses,
            HINT = 'Drop those first, or give them another on_success or on_failure with fleet.alter_step().';
    END IF;
    DELETE FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.name = a_step RETURNING s.step_no INTO v_no;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.no_such_step(v_job, a_step);
    END IF;
    FOR v_no IN SELECT s.step_no FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.step_no > v_no ORDER BY s.step_no LOOP
        UPDATE fleet_catalog.step AS s SET step_no = s.step_no - 1 WHERE s.job_id = v_job.job_id AND s.step_no = v_no;
    END LOOP;
END
$$;

CREATE FUNCTION fleet.start_job(job text, params jsonb DEFAULT '{}', server text DEFAULT NULL, on_group text DEFAULT NULL,
                                start_step text DEFAULT NULL, run_key text DEFAULT NULL) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.start_job(text, jsonb, text, text, text, text)
    IS 'Starts a job at COMMIT, on this server, on another one or on a member of a group; returns its job_run_id. Its state is in fleet.job_run. A run_key that was used before returns the job run that it started';

-- A job's document that begins at the step of this name.
CREATE FUNCTION fleet_catalog.begin_at(a_body jsonb, a_start_step text) RETURNS jsonb
    LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_no integer := (SELECT (s ->> 'step_no')::integer FROM jsonb_array_elements(a_body -> 'steps') AS s WHERE s ->> 'name' = a_start_step);
BEGIN
    IF a_start_step IS NULL THEN
        RETURN a_body;
    ELSIF v_no IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('job "%s" has no step "%s"', a_body ->> 'name', left(a_start_step, 200)),
            HINT = fleet_catalog.known(ARRAY(SELECT s ->> 'name' FROM jsonb_array_elements(a_body -> 'steps') WITH ORDINALITY AS e (s, n) ORDER BY e.n), 'fleet.add_step()');
    END IF;
    RETURN a_body || jsonb_build_object('start_step_no', v_no);
END
$$;
COMMENT ON FUNCTION fleet_catalog.begin_at(jsonb, text) IS 'A job''s document, to begin at a step';

-- Whose rights a start of this job has, and its parameters.  A job that is not defined here is one that the server has.
CREATE FUNCTION fleet_catalog.prepare_job(a_job text, INOUT params jsonb, a_elsewhere boolean, OUT owner oid) RETURNS record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job;
BEGIN
    PERFORM fleet_catalog.check_params(params);
    owner := fleet_catalog.caller();
    IF a_elsewhere AND a_job <> '' AND NOT EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = a_job) THEN
        RETURN;
    END IF;
    v_job := fleet_catalog.get_job(a_job);
    owner := v_job.owner;
    PERFORM fleet_catalog.check_enabled('job', a_job, v_job.enabled);
    -- A job that declares parameters has these and no other; one that does not takes any.
    IF v_job.params <> '{}' THEN
        params := fleet_catalog.merge_params(format('job "%s"', a_job), v_job.params, params);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.prepare_job(text, jsonb, boolean) IS 'Owner and parameters of a start of a job; an error if the caller may not start it';

-- The document of a package of one task, which is this job.  It is made by the functions that make packages, of one that is
-- gone again at once: what is checked there is checked here, and there is one place that knows what a task is.
CREATE FUNCTION fleet_catalog.job_as_package(a_job text, a_owner oid, a_server text, a_on_group text, a_start_step text) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_name text := 'start of a job ' || gen_random_uuid()::text;
    v_package fleet_catalog.package;
    v_body jsonb;
    v_sqlstate text;
    v_message text;
    v_detail text;
    v_hint text;
BEGIN
    BEGIN
        INSERT INTO fleet_catalog.package (name, owner) VALUES (v_name, a_owner) RETURNING package.* INTO v_package;
        PERFORM fleet_catalog.call_inner('add_task', jsonb_strip_nulls(jsonb_build_object('package', v_name, 'task', replace(a_job, '/', '_'), 'job', a_job, 'server', a_server, 'on_group', a_on_group)));
        PERFORM fleet_catalog.check_runnable(v_package);
        v_body := fleet_catalog.checked_body(v_name);
        RAISE EXCEPTION USING ERRCODE = 'FE009'; -- takes the package back
    EXCEPTION WHEN SQLSTATE 'FE009' THEN
        NULL;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS v_sqlstate = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT, v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
        IF v_detail = '' OR strpos(v_detail, v_name) > 0 THEN -- nobody knows the package
            RAISE EXCEPTION USING ERRCODE = v_sqlstate, MESSAGE = v_message, HINT = v_hint;
        END IF;
        RAISE EXCEPTION USING ERRCODE = v_sqlstate, MESSAGE = v_message, DETAIL = v_detail, HINT = v_hint;
    END;
    IF a_start_step IS NOT NULL THEN
        IF NOT v_body -> 'jobs' ? a_job OR coalesce(v_body -> 'by_name' ? a_job, false) THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('job "%s" is not defined here', a_job),
                DETAIL = 'A job that only the server has begins at its first step.', HINT = 'Leave out start_step, or create the job with fleet.create_job().';
        END IF;
        v_body := jsonb_set(v_body, ARRAY['jobs', a_job], fleet_catalog.begin_at(v_body -> 'jobs' -> a_job, a_start_step));
    END IF;
    RETURN v_body || '{"name": ""}';
END
$$;
COMMENT ON FUNCTION fleet_catalog.job_as_package(text, oid, text, text, text) IS 'The document of a run of one job';

-- A run of one job; returns its run_id.
CREATE FUNCTION fleet_catalog.run_job(a_job text, a_owner oid, a_params jsonb, a_server text, a_on_group text, a_start_step text, a_job_run_id bigint,
                                      a_uuid uuid) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run_id bigint;
BEGIN
    PERFORM fleet_catalog.check_open_runs(a_owner);
    INSERT INTO fleet_catalog.run (run_uuid, package, job, job_run_id, definition, owner, params)
    VALUES (coalesce(a_uuid, gen_random_uuid()), '', a_job, a_job_run_id,
            fleet_catalog.store_definition('package', fleet_catalog.job_as_package(a_job, a_owner, a_server, a_on_group, a_start_step)), a_owner, a_params)
    RETURNING run_id INTO v_run_id;
    PERFORM fleet_catalog.wake('run', v_run_id);
    RETURN v_run_id;
END
$$;

CREATE FUNCTION fleet_catalog.next_job_run() RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT nextval('fleet_catalog.job_run_job_run_id_seq')
$$;

-- The job run that has this key already, or null: then it is that of a_job_run_id from now on, and uses says how many had it.
CREATE FUNCTION fleet_catalog.take_job_key(a_job text, a_run_key text, a_owner oid, a_job_run_id bigint, OUT known bigint, OUT uses integer) RETURNS record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name('run_key', a_run_key);
    INSERT INTO fleet_catalog.job_key AS k (job, run_key, owner, job_run_id) VALUES (a_job, a_run_key, a_owner, a_job_run_id)
    ON CONFLICT (job, run_key, owner) DO UPDATE SET job_run_id = excluded.job_run_id, uses = k.uses + 1
       WHERE NOT EXISTS (SELECT FROM fleet_catalog.job_run AS j WHERE j.job_run_id = k.job_run_id)
         AND NOT EXISTS (SELECT FROM fleet_catalog.run AS r WHERE r.job_run_id = k.job_run_id)
    RETURNING k.uses INTO uses;
    IF NOT FOUND THEN
        SELECT k.job_run_id INTO known FROM fleet_catalog.job_key AS k WHERE k.job = a_job AND k.run_key = a_run_key AND k.owner = a_owner;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.take_job_key(text, text, oid, bigint) IS 'The job run that has this run key; null: this one has it from now on';

CREATE FUNCTION fleet_catalog.start_job(a_job text, a_params jsonb, a_server text, a_on_group text, a_start_step text, a_run_key text) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.request_job_run(a_job, a_params, a_server, a_on_group, a_start_step, a_run_key, NULL)
$$;

CREATE FUNCTION fleet_catalog.request_job_run(a_job text, a_params jsonb, a_server text, a_on_group text, a_start_step text, a_run_key text,
                                              a_scheduled_for timestamptz) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_elsewhere boolean := num_nonnulls(a_server, a_on_group) > 0;
    v_job record := fleet_catalog.prepare_job(a_job, a_params, v_elsewhere);
    v_id bigint := fleet_catalog.next_job_run();
    v_key record;
    v_uuid uuid;
BEGIN
    IF a_run_key IS NOT NULL THEN
        v_key := fleet_catalog.take_job_key(a_job, a_run_key, v_job.owner, v_id);
        IF v_key.known IS NOT NULL THEN
            RETURN v_key.known;
        END IF;
        -- the same after a loss of the last seconds, and so the children's tokens
        v_uuid := (SELECT fleet_catalog.content_hash(jsonb_build_array(i.parent_uuid, 'job', a_job, a_run_key, fleet_catalog.role_name(v_job.owner), v_key.uses)::text) FROM fleet_catalog.identity AS i);
    END IF;
    IF v_elsewhere THEN
        PERFORM fleet_catalog.run_job(a_job, v_job.owner, v_job.params, a_server, a_on_group, a_start_step, v_id, v_uuid);
        RETURN v_id;
    END IF;
    PERFORM fleet_catalog.check_open_runs(v_job.owner);
    INSERT INTO fleet_catalog.job_run (job_run_id, job, definition, owner, params, context)
    VALUES (v_id, a_job, fleet_catalog.snapshot_job(a_job, a_start_step), v_job.owner, v_job.params,
            CASE WHEN a_scheduled_for IS NOT NULL THEN jsonb_build_object('job', a_job, 'scheduled_for', a_scheduled_for) END);
    PERFORM fleet_catalog.wake('job_run', v_id);
    RETURN v_id;
END
$$;
COMMENT ON FUNCTION fleet_catalog.request_job_run(text, jsonb, text, text, text, text, timestamptz) IS 'Starts a job at COMMIT, for a time (only here) if a schedule does it; returns its job_run_id';

CREATE FUNCTION fleet_link.begin_job(job text, params jsonb, server text, on_group text, start_step text) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.begin_job(text, jsonb, text, text, text) IS 'For fleet.execute_job(): starts a job at COMMIT; returns the run_id of its run';

CREATE FUNCTION fleet_catalog.begin_job(a_job text, a_params jsonb, a_server text, a_on_group text, a_start_step text) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job record := fleet_catalog.prepare_job(a_job, a_params, num_nonnulls(a_server, a_on_group) > 0);
BEGIN
    RETURN fleet_catalog.run_job(a_job, v_job.owner, v_job.params, a_server, a_on_group, a_start_step, fleet_catalog.next_job_run(), NULL);
END
$$;
