-- 55_schedule.sql: packages on a schedule, through pg_cron.
--
-- pg_cron lives in one database of a cluster (cron.database_name).  If that is this one, its
-- functions are called here, as the caller.  If it is another one, a background worker connected to
-- that database as the caller calls cron.schedule_in_database() there (src/api/cron.c).

CREATE FUNCTION fleet_link.prepare_schedule(package text, cron text, params jsonb, OUT job_name text, OUT command text, OUT cron_database text) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.prepare_schedule(text, text, jsonb) IS 'For fleet.schedule_package(): checks, and what pg_cron is to run';

CREATE FUNCTION fleet_catalog.prepare_schedule(a_package text, a_cron text, a_params jsonb, OUT job_name text, OUT command text, OUT cron_database text)
    RETURNS record LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.get_package(a_package);
BEGIN
    PERFORM fleet_catalog.check_given('cron', a_cron);
    PERFORM fleet_catalog.merge_params(format('package "%s"', a_package), v_package.params, a_params);
    cron_database := CASE WHEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN current_database()
               ELSE NULLIF(current_setting('cron.database_name', true), '') END;
    IF cron_database IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'cannot schedule a package because pg_cron is not installed',
            DETAIL = 'It is neither installed in this database nor preloaded for another one (cron.database_name).',
            HINT = 'Install the package postgresql-NN-cron, add pg_cron to shared_preload_libraries, restart, and run CREATE EXTENSION pg_cron.';
    END IF;
    job_name := 'pg_fleet ' || current_database() || ' ' || a_package;
    command := format('SELECT fleet.run_parent_package(%L, params => %L)', a_package, a_params);
END
$$;

CREATE FUNCTION fleet_link.record_schedule(package text, cron text, params jsonb, cron_database text, cron_job bigint) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.record_schedule(text, text, jsonb, text, bigint) IS 'For fleet.schedule_package(): records what pg_cron was told';

CREATE FUNCTION fleet_catalog.record_schedule(a_package text, a_cron text, a_params jsonb, a_cron_database text, a_cron_job bigint) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.get_package(a_package);
    INSERT INTO fleet_catalog.schedule AS s (package, owner, cron, params, cron_database, cron_job)
    VALUES (a_package, fleet_catalog.caller(), a_cron, a_params, a_cron_database, a_cron_job)
    ON CONFLICT (package) DO UPDATE
       SET cron = excluded.cron, params = excluded.params, cron_database = excluded.cron_database, cron_job = excluded.cron_job
     WHERE s.owner = excluded.owner;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('package "%s" was scheduled by another role', a_package),
            DETAIL = format('Its schedule belongs to role "%s".',
                            (SELECT pg_get_userbyid(s.owner) FROM fleet_catalog.schedule AS s WHERE s.package = a_package)),
            HINT = 'Ask that role to remove it with fleet.unschedule_package().';
    END IF;
END
$$;

CREATE FUNCTION fleet_link.forget_schedule(package text, OUT cron_database text, OUT cron_job bigint) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.forget_schedule(text) IS 'For fleet.unschedule_package(): removes the record of it; null if there was none';

CREATE FUNCTION fleet_catalog.forget_schedule(a_package text, OUT cron_database text, OUT cron_job bigint) RETURNS record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_owner regrole;
BEGIN
    PERFORM fleet_catalog.check_name('package', a_package);
    SELECT s.owner::regrole, s.cron_database::text, s.cron_job INTO v_owner, cron_database, cron_job FROM fleet_catalog.schedule AS s WHERE s.package = a_package FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.get_package(a_package);
        RETURN;
    END IF;
    -- pg_cron shows a job to its owner and to superusers only: another role would remove the record, and the job would continue.
    IF v_owner <> fleet_catalog.caller() AND NOT (SELECT r.rolsuper FROM pg_authid AS r WHERE r.oid = fleet_catalog.caller()) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('package "%s" was scheduled by another role', a_package),
            DETAIL = format('Its schedule belongs to role "%s".', pg_get_userbyid(v_owner)),
            HINT = 'Ask that role or a superuser to remove it with fleet.unschedule_package().';
    END IF;
    DELETE FROM fleet_catalog.schedule AS s WHERE s.package = a_package;
END
$$;

CREATE FUNCTION fleet_link.cron_elsewhere(cron_database text, job_name text, schedule text, command text) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_cron_elsewhere';
COMMENT ON FUNCTION fleet_link.cron_elsewhere(text, text, text, text)
    IS 'Schedules a command for this database in the database where pg_cron is, as current_user; schedule null: unschedules';

-- These two run as their caller, who must have USAGE on schema cron.
CREATE FUNCTION fleet.schedule_package(package text, cron text, params jsonb DEFAULT '{}') RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_plan record := fleet_link.prepare_schedule(schedule_package.package, schedule_package.cron, schedule_package.params);
    v_job bigint;
BEGIN
    -- Our row first: what can fail here has then failed before pg_cron knows.
    PERFORM fleet_link.record_schedule(schedule_package.package, schedule_package.cron, schedule_package.params, v_plan.cron_database, NULL);
    IF v_plan.cron_database = current_database() THEN
        EXECUTE 'SELECT cron.schedule($1, $2, $3)' INTO v_job USING v_plan.job_name, schedule_package.cron, v_plan.command;
    ELSE
        v_job := fleet_link.cron_elsewhere(v_plan.cron_database, v_plan.job_name, schedule_package.cron, v_plan.command);
    END IF;
    PERFORM fleet_link.record_schedule(schedule_package.package, schedule_package.cron, schedule_package.params, v_plan.cron_database, v_job);
    RETURN v_job;
EXCEPTION WHEN insufficient_privilege THEN
    IF SQLERRM LIKE '%schema cron%' THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = SQLERRM,
            HINT = format('Ask a superuser to run in database %I: GRANT USAGE ON SCHEMA cron TO %I.', v_plan.cron_database, current_user);
    END IF;
    RAISE;
END
$$;
COMMENT ON FUNCTION fleet.schedule_package(text, text, jsonb)
    IS 'Runs a package on a schedule, through pg_cron, as current_user. cron: minute hour day month weekday. Returns the job number of pg_cron';

CREATE FUNCTION fleet.unschedule_package(package text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_old record := fleet_link.forget_schedule(unschedule_package.package);
BEGIN
    IF v_old.cron_database IS NULL THEN
        RETURN false;
    END IF;
    IF v_old.cron_database <> current_database() THEN
        PERFORM fleet_link.cron_elsewhere(v_old.cron_database, 'pg_fleet ' || current_database() || ' ' || unschedule_package.package, NULL, NULL);
    ELSIF EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN
        EXECUTE 'SELECT cron.unschedule(j.jobid) FROM cron.job AS j WHERE j.jobid = $1' USING v_old.cron_job;
    END IF;
    RETURN true;
END
$$;
COMMENT ON FUNCTION fleet.unschedule_package(text) IS 'Removes the schedule of a package. Returns false if it had none';
