-- 30_job.sql: jobs and their steps.

CREATE FUNCTION fleet.create_job(job text, params jsonb DEFAULT '{}', description text DEFAULT '', leaves_clean boolean DEFAULT false) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.create_job(text, jsonb, text, boolean)
    IS 'Creates a job. params: its parameters with their defaults; leaves_clean: its steps leave nothing behind in their session (settings, temporary tables, prepared statements, LISTEN, advisory locks), so that DISCARD ALL before the next job is not needed';

CREATE FUNCTION fleet_catalog.create_job(a_job text, a_params jsonb, a_description text, a_leaves_clean boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name('job', a_job);
    PERFORM fleet_catalog.check_params(a_params);
    INSERT INTO fleet_catalog.job (name, owner, params, description, leaves_clean)
    VALUES (a_job, fleet_catalog.caller(), a_params, coalesce(a_description, ''), coalesce(a_leaves_clean, false))
    ON CONFLICT (name) DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('job "%s" already exists', a_job),
            HINT = 'Choose another name, or drop the existing one with fleet.drop_job().';
    END IF;
END
$$;

CREATE FUNCTION fleet.alter_job(job text, new_name text DEFAULT NULL, params jsonb DEFAULT NULL,
                                description text DEFAULT NULL, owner text DEFAULT NULL, leaves_clean boolean DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_job(text, text, jsonb, text, text, boolean) IS 'Changes a job; arguments that are null leave things as they are';

CREATE FUNCTION fleet_catalog.alter_job(a_job text, a_new_name text, a_params jsonb, a_description text, a_owner text, a_leaves_clean boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.change_job(a_job);
    v_owner regrole := v_job.owner::regrole;
BEGIN
    IF a_owner IS NOT NULL THEN
        v_owner := fleet_catalog.get_role(a_owner);
        PERFORM fleet_catalog.check_run_as(v_owner, s.run_as) FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.run_as IS NOT NULL;
    END IF;
    IF a_params IS NOT NULL THEN
        PERFORM fleet_catalog.check_params(a_params);
    END IF;
    IF a_new_name IS NOT NULL THEN
        PERFORM fleet_catalog.check_name('job', a_new_name);
        IF a_new_name <> a_job AND EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = a_new_name) THEN
            RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('job "%s" already exists', a_new_name),
                HINT = 'Choose another name.';
        END IF;
    END IF;
    UPDATE fleet_catalog.job AS j
       SET name = coalesce(a_new_name, j.name), params = coalesce(a_params, j.params),
           description = coalesce(a_description, j.description), leaves_clean = coalesce(a_leaves_clean, j.leaves_clean),
           owner = v_owner
     WHERE j.job_id = v_job.job_id;
END
$$;

CREATE FUNCTION fleet.drop_job(job text, if_exists boolean DEFAULT false) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.drop_job(text, boolean) IS 'Drops a job with its steps; its runs continue and their history is kept. Returns false if there was no such job';

CREATE FUNCTION fleet_catalog.drop_job(a_job text, a_if_exists boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job;
BEGIN
    PERFORM fleet_catalog.check_name('job', a_job);
    IF a_if_exists AND NOT EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = a_job) THEN
        RETURN false;
    END IF;
    v_job := fleet_catalog.change_job(a_job);
    DELETE FROM fleet_catalog.job AS j WHERE j.job_id = v_job.job_id;
    RETURN true;
END
$$;

-- ---- steps -------------------------------------------------------------------------------------

CREATE FUNCTION fleet.add_step(job text, step text, sql text DEFAULT NULL, package text DEFAULT NULL,
                               on_success text DEFAULT 'next', success_goto text DEFAULT NULL,
                               on_failure text DEFAULT 'quit_failure', failure_goto text DEFAULT NULL,
                               retries integer DEFAULT 0, retry_wait interval DEFAULT '5s', retry_wait_max interval DEFAULT '5min',
                               retry_sqlstates text[] DEFAULT NULL, timeout interval DEFAULT NULL,
                               on_unknown text DEFAULT 'fail', transactional boolean DEFAULT NULL,
                               run_as text DEFAULT NULL, check_syntax boolean DEFAULT true) RETURNS integer
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.add_step(text, text, text, text, text, text, text, text, integer, interval, interval, text[], interval, text, boolean, text, boolean)
    IS 'Adds a step, an SQL command or a package, at the end of a job; returns its number';

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

CREATE FUNCTION fleet_catalog.add_step(a_job text, a_step text, a_sql text, a_package text,
                                       a_on_success text, a_success_goto text, a_on_failure text, a_failure_goto text,
                                       a_retries integer, a_retry_wait interval, a_retry_wait_max interval, a_retry_sqlstates text[],
                                       a_timeout interval, a_on_unknown text, a_transactional boolean, a_run_as text,
                                       a_check_syntax boolean) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.change_job(a_job);
    v_step_no integer;
    v_single boolean;
    v_run_as regrole := CASE WHEN a_run_as IS NOT NULL THEN fleet_catalog.get_role(a_run_as) END;
BEGIN
    PERFORM fleet_catalog.check_name('step', a_step);
    IF v_run_as IS NOT NULL THEN
        PERFORM fleet_catalog.check_run_as(v_job.owner, v_run_as);
    END IF;
    IF num_nonnulls(a_sql, a_package) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a step must be either an SQL command or a package',
            DETAIL = CASE WHEN a_sql IS NULL THEN 'Neither was given.' ELSE 'Both were given.' END,
            HINT = 'Specify exactly one of the arguments "sql" and "package".';
    END IF;
    a_on_success := fleet_catalog.check_action('success', a_on_success, a_success_goto);
    a_on_failure := fleet_catalog.check_action('failure', a_on_failure, a_failure_goto);
    PERFORM fleet_catalog.check_choice('on_unknown', a_on_unknown, 'fail', 'retry');
    v_single := fleet_catalog.check_work(a_sql, a_check_syntax, a_retries, a_retry_wait, a_retry_wait_max, a_retry_sqlstates, a_timeout);
    a_transactional := fleet_catalog.check_transactional(a_transactional, a_sql, a_check_syntax);
    IF a_package IS NOT NULL THEN
        PERFORM fleet_catalog.get_package(a_package);
    END IF;
    IF EXISTS (SELECT FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.name = a_step) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('job "%s" already has a step "%s"', a_job, a_step),
            HINT = 'Choose another name, or drop the existing one with fleet.drop_step().';
    END IF;
    v_step_no := 1 + coalesce((SELECT max(s.step_no) FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id), 0);
    IF v_step_no > 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('job "%s" has too many steps', a_job),
            HINT = 'A job can have at most 1000 steps. Use several jobs, or a package.';
    END IF;
    INSERT INTO fleet_catalog.step (job_id, step_no, name, command, package, on_success, success_goto, on_failure, failure_goto,
                                    retries, retry_wait, retry_max, retry_states, timeout, on_unknown, transactional, single, run_as)
    VALUES (v_job.job_id, v_step_no, a_step, a_sql, a_package, a_on_success, a_success_goto, a_on_failure, a_failure_goto,
            a_retries, a_retry_wait, a_retry_wait_max, a_retry_sqlstates, a_timeout, a_on_unknown, a_transactional, v_single, v_run_as);
    IF a_package IS NOT NULL THEN
        PERFORM fleet_catalog.job_body(a_job, '{}'); -- ERROR if it contains itself
    END IF;
    RETURN v_step_no;
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
BEGIN
    PERFORM fleet_catalog.check_name('step', a_step);
    SELECT s.name INTO a_job FROM fleet_catalog.step AS s
     WHERE s.job_id = v_job.job_id AND a_step IN (s.success_goto, s.failure_goto) AND s.name <> a_step
     ORDER BY s.step_no LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('cannot drop step "%s" because step "%s" goes to it', a_step, a_job),
            HINT = 'Drop that step first.';
    END IF;
    DELETE FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.name = a_step RETURNING s.step_no INTO v_no;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('job "%s" has no step "%s"', v_job.name, a_step),
            HINT = fleet_catalog.known((SELECT array_agg(s.name ORDER BY s.step_no) FROM fleet_catalog.step AS s
                                         WHERE s.job_id = v_job.job_id), 'fleet.add_step()');
    END IF;
    FOR v_no IN SELECT s.step_no FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.step_no > v_no ORDER BY s.step_no LOOP
        UPDATE fleet_catalog.step AS s SET step_no = s.step_no - 1 WHERE s.job_id = v_job.job_id AND s.step_no = v_no;
    END LOOP;
END
$$;

CREATE FUNCTION fleet.start_job(job text, params jsonb DEFAULT '{}') RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.start_job(text, jsonb) IS 'Starts a job on this server, at COMMIT; returns its job_run_id. Its state is in fleet.job_run';

CREATE FUNCTION fleet_catalog.start_job(a_job text, a_params jsonb) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.get_job(a_job);
    v_id bigint;
BEGIN
    PERFORM fleet_catalog.check_params(a_params);
    -- A job that declares parameters has these and no other; one that does not takes any.
    a_params := CASE WHEN v_job.params = '{}' THEN a_params
                ELSE fleet_catalog.merge_params(format('job "%s"', a_job), v_job.params, a_params) END;
    INSERT INTO fleet_catalog.job_run (job, definition, owner, params)
    VALUES (a_job, fleet_catalog.snapshot_job(a_job), v_job.owner, a_params)
    RETURNING job_run_id INTO v_id;
    PERFORM fleet_catalog.wake('job_run', v_id);
    RETURN v_id;
END
$$;
