-- 55_schedule.sql: schedules.
--
-- The agent works out when a schedule is due, and fires it in a runner as the owner of its package or job
-- (src/agent/schedule.c): there, params_sql is evaluated, and fleet_link.start_scheduled() starts the run.  pg_cron starts
-- nothing.  Where pg_fleet is not preloaded it can see to it that an agent is there (fleet.use_pg_cron()).

CREATE FUNCTION fleet_catalog.get_schedule(a_name text) RETURNS fleet_catalog.schedule
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_schedule fleet_catalog.schedule;
    v_owner oid;
BEGIN
    SELECT s.* INTO v_schedule FROM fleet_catalog.schedule AS s WHERE s.name = a_name;
    v_owner := fleet_catalog.schedule_owner(v_schedule);
    IF v_schedule.schedule_id IS NULL OR NOT fleet_catalog.sees(v_owner) THEN
        PERFORM fleet_catalog.check_name('schedule', a_name);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('schedule "%s" does not exist', a_name),
            HINT = fleet_catalog.known((SELECT array_agg(s.name ORDER BY s.name) FROM fleet_catalog.schedule AS s
                                         WHERE fleet_catalog.sees(fleet_catalog.schedule_owner(s))), 'fleet.schedule_package()');
    ELSIF NOT fleet_catalog.may_use(v_owner) THEN
        PERFORM fleet_catalog.deny('schedule', a_name, v_owner);
    END IF;
    RETURN v_schedule;
END
$$;
COMMENT ON FUNCTION fleet_catalog.get_schedule(text) IS 'A schedule that the caller may use and change';

CREATE FUNCTION fleet_catalog.schedule_owner(a_schedule fleet_catalog.schedule) RETURNS oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((SELECT p.owner::oid FROM fleet_catalog.package AS p WHERE p.name = a_schedule.package),
                (SELECT j.owner::oid FROM fleet_catalog.job AS j WHERE j.name = a_schedule.job))
$$;
COMMENT ON FUNCTION fleet_catalog.schedule_owner(fleet_catalog.schedule) IS 'Whose package or job it starts';

-- The package or job is locked, and gets a version.
CREATE FUNCTION fleet_catalog.change_scheduled(a_package text, a_job text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_package IS NOT NULL THEN
        PERFORM fleet_catalog.change_package(a_package);
    ELSE
        PERFORM fleet_catalog.change_job(a_job);
    END IF;
    PERFORM fleet_catalog.wake('schedules', 0);
END
$$;
COMMENT ON FUNCTION fleet_catalog.change_scheduled(text, text) IS 'Locks a package or job whose schedules are about to be changed';

CREATE FUNCTION fleet_catalog.declared_params(a_schedule fleet_catalog.schedule) RETURNS jsonb
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce((SELECT p.params FROM fleet_catalog.package AS p WHERE p.name = a_schedule.package),
                (SELECT j.params FROM fleet_catalog.job AS j WHERE j.name = a_schedule.job))
$$;

-- A zone may also be a text that says its rules, such as <+03>-3.  There are any number of them, and the agent, which would keep them
-- all, is to be spared.  Each of those has a digit in it; to look names up takes a while.
CREATE FUNCTION fleet_catalog.check_zone(a_time_zone text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_time_zone ~ '[0-9]' AND NOT EXISTS (SELECT FROM fleet_catalog.schedule AS s WHERE s.time_zone = a_time_zone)
       AND NOT EXISTS (SELECT FROM pg_timezone_names AS z WHERE upper(z.name COLLATE "C") = upper(a_time_zone COLLATE "C")) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('time zone "%s" is not a name', a_time_zone),
            DETAIL = 'It says the rules of a zone.', HINT = 'Schedules need a name of pg_timezone_names, such as Europe/Berlin or Etc/GMT-3 (three hours east).';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_zone(text) IS 'Error if a time zone, which the server knows, has no name';

-- They are the agent's to look after, all at the same time.
CREATE FUNCTION fleet_catalog.check_number_of_schedules(a_owner oid) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF (SELECT count(*) FROM fleet_catalog.schedule AS s LEFT JOIN fleet_catalog.package AS p ON p.name = s.package LEFT JOIN fleet_catalog.job AS j ON j.name = s.job
         WHERE coalesce(p.owner, j.owner)::oid = a_owner) > 10000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = format('role "%s" has too many schedules', pg_get_userbyid(a_owner)),
            DETAIL = 'It may have 10,000.', HINT = 'Remove some of them with fleet.unschedule().';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_number_of_schedules(oid) IS 'Error if a role has more schedules than it may have';

CREATE FUNCTION fleet_catalog.check_schedule(a_schedule fleet_catalog.schedule) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_what text := CASE WHEN a_schedule.package IS NOT NULL THEN format('package "%s"', a_schedule.package) ELSE format('job "%s"', a_schedule.job) END;
    v_declared jsonb := fleet_catalog.declared_params(a_schedule);
BEGIN
    PERFORM fleet_catalog.check_name('schedule', a_schedule.name);
    PERFORM fleet_catalog.check_given('cron', a_schedule.cron, 'enabled', a_schedule.enabled::text, 'missed', a_schedule.missed);
    PERFORM fleet_catalog.check_cron(a_schedule.cron, a_schedule.time_zone);
    PERFORM fleet_catalog.check_zone(a_schedule.time_zone);
    PERFORM fleet_catalog.check_choice('value of missed', a_schedule.missed, 'skip', 'once', 'all');
    PERFORM fleet_catalog.check_params(a_schedule.params);
    IF a_schedule.params_sql IS NOT NULL THEN
        PERFORM fleet_catalog.check_command(a_schedule.params_sql, 'params');
        -- it may give those that are required
        v_declared := coalesce((SELECT jsonb_object_agg(d.key, '""'::jsonb) FROM jsonb_object_keys(v_declared) AS d (key)), '{}');
    END IF;
    PERFORM fleet_catalog.merge_params(v_what, v_declared, a_schedule.params);
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_schedule(fleet_catalog.schedule) IS 'Error unless this can be a schedule';

-- A setting that a session has made up does not count.
CREATE FUNCTION fleet_catalog.cron_home() RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN EXISTS (SELECT FROM pg_extension AS e WHERE e.extname = 'pg_cron') THEN current_database()
            ELSE (SELECT nullif(s.setting, '') FROM pg_settings AS s WHERE s.name = 'cron.database_name' AND s.context = 'postmaster') END
$$;
COMMENT ON FUNCTION fleet_catalog.cron_home() IS 'The database where pg_cron is; null: it is not installed';

CREATE FUNCTION fleet_catalog.agent_comes_back() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT current_setting('shared_preload_libraries') ~ '(^|[ ,"/$])pg_fleet($|[ ,".])'
       OR EXISTS (SELECT FROM fleet_catalog.waker AS w JOIN pg_roles AS r ON r.oid = w.owner WHERE w.cron_database = fleet_catalog.cron_home())
$$;
COMMENT ON FUNCTION fleet_catalog.agent_comes_back() IS 'After a restart of the server, does an agent start by itself?';

CREATE FUNCTION fleet_catalog.tell_schedule(a_schedule fleet_catalog.schedule) RETURNS timestamptz
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET datestyle = iso AS $$
DECLARE
    v_next timestamptz := CASE WHEN a_schedule.enabled THEN fleet_catalog.next_time(a_schedule.cron, a_schedule.time_zone, fleet_catalog.calendar()) END;
    v_message text := format('schedule "%s" is in time zone "%s"', a_schedule.name, a_schedule.time_zone);
    v_detail text := CASE WHEN v_next IS NULL THEN 'It is disabled.' ELSE format('It is due next at %s there.', v_next AT TIME ZONE a_schedule.time_zone) END;
BEGIN
    IF fleet_catalog.agent_comes_back() THEN
        RAISE NOTICE USING MESSAGE = v_message, DETAIL = v_detail;
    ELSE
        RAISE NOTICE USING MESSAGE = v_message, DETAIL = v_detail,
            HINT = 'After a restart of the server nothing is started until the next call of pg_fleet. Add pg_fleet to shared_preload_libraries, or let pg_cron see to it: SELECT fleet.use_pg_cron();';
    END IF;
    RETURN v_next;
END
$$;
COMMENT ON FUNCTION fleet_catalog.tell_schedule(fleet_catalog.schedule) IS 'Says by which clock a schedule goes; returns when it is due next';

-- A schedule of this name is replaced, if it is of the same package or job.
CREATE FUNCTION fleet_catalog.put_schedule(a_schedule fleet_catalog.schedule) RETURNS timestamptz
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.change_scheduled(a_schedule.package, a_schedule.job);
    a_schedule.name := coalesce(a_schedule.name, a_schedule.package, a_schedule.job);
    a_schedule.time_zone := coalesce(a_schedule.time_zone, current_setting('TimeZone'));
    PERFORM fleet_catalog.check_schedule(a_schedule);
    INSERT INTO fleet_catalog.schedule AS s (name, package, job, cron, time_zone, params, params_sql, missed, enabled, since)
    VALUES (a_schedule.name, a_schedule.package, a_schedule.job, a_schedule.cron, a_schedule.time_zone, a_schedule.params, a_schedule.params_sql,
            a_schedule.missed, a_schedule.enabled, fleet_catalog.calendar())
    ON CONFLICT (name) DO UPDATE
       SET cron = excluded.cron, time_zone = excluded.time_zone, params = excluded.params, params_sql = excluded.params_sql, missed = excluded.missed,
           enabled = excluded.enabled, since = CASE WHEN fleet_catalog.times_change(s, excluded) THEN excluded.since ELSE s.since END
     WHERE s.package = excluded.package OR s.job = excluded.job;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('schedule "%s" already exists', a_schedule.name),
            DETAIL = 'It is that of another package or job.', HINT = 'Give this one a name of its own: name => ''...''.';
    END IF;
    PERFORM fleet_catalog.check_number_of_schedules(fleet_catalog.schedule_owner(a_schedule));
    RETURN fleet_catalog.tell_schedule(a_schedule);
END
$$;
COMMENT ON FUNCTION fleet_catalog.put_schedule(fleet_catalog.schedule) IS 'Makes or replaces a schedule; returns when it is due next';

-- What came before the change was not due by it.
CREATE FUNCTION fleet_catalog.times_change(a_old fleet_catalog.schedule, a_new fleet_catalog.schedule) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT a_old.cron <> a_new.cron OR a_old.time_zone <> a_new.time_zone OR (a_new.enabled AND NOT a_old.enabled)
$$;

CREATE FUNCTION fleet.schedule_package(package text, cron text, params jsonb DEFAULT '{}', name text DEFAULT NULL, params_sql text DEFAULT NULL,
                                       time_zone text DEFAULT NULL, missed text DEFAULT 'once', enabled boolean DEFAULT true) RETURNS timestamptz
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.schedule_package(text, text, jsonb, text, text, text, text, boolean)
    IS 'Starts a package at the times of a schedule, in a time zone; null: that of the session. name: its own, else the package''s; a schedule of that name is replaced. params_sql gives parameters for each time. missed: skip, once or all. Returns when it is due next';

CREATE FUNCTION fleet_catalog.schedule_package(a_package text, a_cron text, a_params jsonb, a_name text, a_params_sql text, a_time_zone text, a_missed text, a_enabled boolean)
    RETURNS timestamptz LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_schedule fleet_catalog.schedule;
BEGIN
    v_schedule.package := (fleet_catalog.get_package(a_package)).name;
    v_schedule.cron := a_cron;
    v_schedule.params := a_params;
    v_schedule.name := a_name;
    v_schedule.params_sql := a_params_sql;
    v_schedule.time_zone := a_time_zone;
    v_schedule.missed := a_missed;
    v_schedule.enabled := a_enabled;
    RETURN fleet_catalog.put_schedule(v_schedule);
END
$$;

CREATE FUNCTION fleet.schedule_job(job text, cron text, params jsonb DEFAULT '{}', name text DEFAULT NULL, params_sql text DEFAULT NULL,
                                   time_zone text DEFAULT NULL, missed text DEFAULT 'once', enabled boolean DEFAULT true) RETURNS timestamptz
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.schedule_job(text, text, jsonb, text, text, text, text, boolean)
    IS 'Starts a job here at the times of a schedule, as fleet.schedule_package() does a package';

CREATE FUNCTION fleet_catalog.schedule_job(a_job text, a_cron text, a_params jsonb, a_name text, a_params_sql text, a_time_zone text, a_missed text, a_enabled boolean)
    RETURNS timestamptz LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_schedule fleet_catalog.schedule;
BEGIN
    v_schedule.job := (fleet_catalog.get_job(a_job)).name;
    v_schedule.cron := a_cron;
    v_schedule.params := a_params;
    v_schedule.name := a_name;
    v_schedule.params_sql := a_params_sql;
    v_schedule.time_zone := a_time_zone;
    v_schedule.missed := a_missed;
    v_schedule.enabled := a_enabled;
    RETURN fleet_catalog.put_schedule(v_schedule);
END
$$;

CREATE FUNCTION fleet.alter_schedule(schedule text, new_name text DEFAULT NULL, cron text DEFAULT NULL, params jsonb DEFAULT NULL, params_sql text DEFAULT NULL,
                                     time_zone text DEFAULT NULL, missed text DEFAULT NULL, enabled boolean DEFAULT NULL, reset text[] DEFAULT '{}') RETURNS timestamptz
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_schedule(text, text, text, jsonb, text, text, text, boolean, text[])
    IS 'Changes a schedule; arguments that are null leave things as they are. enabled: false: it is not started; what it misses meanwhile is not made up for; reset: options that are to have their defaults. Returns when it is due next';

CREATE FUNCTION fleet_catalog.alter_schedule(a_schedule text, a_new_name text, a_cron text, a_params jsonb, a_params_sql text, a_time_zone text, a_missed text,
                                             a_enabled boolean, a_reset text[]) RETURNS timestamptz
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_old fleet_catalog.schedule := fleet_catalog.get_schedule(a_schedule);
    v_new fleet_catalog.schedule;
    v_defaults jsonb := fleet_catalog.defaults_of('schedule_package', a_reset);
BEGIN
    PERFORM fleet_catalog.change_scheduled(v_old.package, v_old.job);
    IF a_new_name IS NOT NULL THEN
        PERFORM fleet_catalog.check_new_name('schedule', a_new_name, a_new_name <> a_schedule AND EXISTS (SELECT FROM fleet_catalog.schedule AS s WHERE s.name = a_new_name));
    END IF;
    v_old := fleet_catalog.get_schedule(a_schedule); -- as it is now that nobody else changes it
    v_new := v_old;
    v_new.name := coalesce(a_new_name, fleet_catalog.altered('name', NULL, v_old.name, v_defaults), v_old.package, v_old.job);
    v_new.cron := coalesce(a_cron, v_old.cron);
    v_new.params := fleet_catalog.altered('params', a_params, v_old.params, v_defaults);
    v_new.params_sql := fleet_catalog.altered('params_sql', a_params_sql, v_old.params_sql, v_defaults);
    v_new.time_zone := coalesce(fleet_catalog.altered('time_zone', a_time_zone, v_old.time_zone, v_defaults), current_setting('TimeZone'));
    v_new.missed := fleet_catalog.altered('missed', a_missed, v_old.missed, v_defaults);
    v_new.enabled := fleet_catalog.altered('enabled', a_enabled, v_old.enabled, v_defaults);
    IF fleet_catalog.times_change(v_old, v_new) THEN
        v_new.since := fleet_catalog.calendar();
    END IF;
    PERFORM fleet_catalog.check_schedule(v_new);
    UPDATE fleet_catalog.schedule AS s
       SET name = v_new.name, cron = v_new.cron, params = v_new.params, params_sql = v_new.params_sql, time_zone = v_new.time_zone, missed = v_new.missed,
           enabled = v_new.enabled, since = v_new.since
     WHERE s.schedule_id = v_old.schedule_id;
    RETURN fleet_catalog.tell_schedule(v_new);
END
$$;

CREATE FUNCTION fleet.unschedule(schedule text, if_exists boolean DEFAULT false) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.unschedule(text, boolean) IS 'Removes a schedule. Returns false if it did not exist and if_exists was given';

CREATE FUNCTION fleet_catalog.unschedule(a_schedule text, a_if_exists boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_schedule fleet_catalog.schedule;
BEGIN
    PERFORM fleet_catalog.check_name('schedule', a_schedule);
    IF a_if_exists AND NOT EXISTS (SELECT FROM fleet_catalog.schedule AS s WHERE s.name = a_schedule) THEN
        RETURN false;
    END IF;
    v_schedule := fleet_catalog.get_schedule(a_schedule);
    PERFORM fleet_catalog.change_scheduled(v_schedule.package, v_schedule.job);
    DELETE FROM fleet_catalog.schedule AS s WHERE s.schedule_id = v_schedule.schedule_id;
    RETURN true;
END
$$;

CREATE FUNCTION fleet.unschedule_package(package text) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.unschedule_package(text) IS 'Removes all schedules of a package. Returns false if it had none';

CREATE FUNCTION fleet_catalog.unschedule_package(a_package text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.get_package(a_package);
    IF NOT EXISTS (SELECT FROM fleet_catalog.schedule AS s WHERE s.package = a_package) THEN
        RETURN false;
    END IF;
    PERFORM fleet_catalog.change_scheduled(a_package, NULL);
    DELETE FROM fleet_catalog.schedule AS s WHERE s.package = a_package;
    RETURN true;
END
$$;

-- ---- firing ------------------------------------------------------------------------------------

CREATE FUNCTION fleet.scheduled_for() RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (NULLIF(pg_catalog.current_setting('fleet.context', true), '')::jsonb OPERATOR(pg_catalog.->>) 'scheduled_for')::timestamptz;
COMMENT ON FUNCTION fleet.scheduled_for()
    IS 'In params_sql of a schedule, and in the steps of what it started: the time for which it is; null elsewhere. It is part of the setting fleet.context, on every server';

-- In UTC: the hour that comes twice has two of them.
CREATE FUNCTION fleet_catalog.key_of_time(a_name text, a_time timestamptz) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT coalesce(a_name || ' ', '') || to_char(a_time AT TIME ZONE 'UTC', CASE WHEN date_trunc('second', a_time) = a_time THEN 'YYYY-MM-DD"T"HH24:MI:SS"Z"' ELSE 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"' END)
$$;
COMMENT ON FUNCTION fleet_catalog.key_of_time(text, timestamptz) IS 'The run key of what is started for a time, by a schedule that has a name of its own, or (null) has not';

CREATE FUNCTION fleet_link.start_scheduled(schedule_id integer, scheduled_for timestamptz) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.start_scheduled(integer, timestamptz)
    IS 'For the agent: starts, once, what a schedule starts at this time, with the parameters that are in fleet.params; returns its run_id or job_run_id';

CREATE FUNCTION fleet_catalog.start_scheduled(a_schedule_id integer, a_scheduled_for timestamptz) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_schedule fleet_catalog.schedule;
    v_given jsonb := nullif(current_setting('fleet.params', true), '')::jsonb;
    v_key text;
    v_id bigint;
BEGIN
    PERFORM fleet_catalog.check_given('schedule_id', a_schedule_id::text, 'scheduled_for', a_scheduled_for::text);
    SELECT s.* INTO v_schedule FROM fleet_catalog.schedule AS s WHERE s.schedule_id = a_schedule_id;
    IF NOT FOUND OR NOT fleet_catalog.sees(fleet_catalog.schedule_owner(v_schedule)) THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('schedule %s does not exist', a_schedule_id), HINT = 'See fleet.schedule.';
    END IF;
    v_schedule := fleet_catalog.get_schedule(v_schedule.name);
    PERFORM fleet_catalog.check_enabled('schedule', v_schedule.name, v_schedule.enabled);
    PERFORM fleet_catalog.check_params(coalesce(v_given, '{}'));
    v_schedule.params := v_schedule.params || coalesce(v_given, '{}');
    v_key := fleet_catalog.key_of_time(nullif(v_schedule.name, coalesce(v_schedule.package, v_schedule.job)), a_scheduled_for);
    IF v_schedule.package IS NOT NULL THEN
        v_id := fleet_catalog.request_run(v_schedule.package, v_schedule.params, v_key, NULL, NULL, NULL, NULL, false, NULL, NULL, NULL, a_scheduled_for, NULL);
    ELSE
        v_id := fleet_catalog.request_job_run(v_schedule.job, v_schedule.params, NULL, NULL, NULL, v_key, a_scheduled_for);
    END IF;
    INSERT INTO fleet_catalog.schedule_state AS t (schedule_id, last_time, fired_at, run_id, job_run_id)
    VALUES (a_schedule_id, a_scheduled_for, fleet_catalog.calendar(), CASE WHEN v_schedule.package IS NOT NULL THEN v_id END, CASE WHEN v_schedule.package IS NULL THEN v_id END)
    ON CONFLICT (schedule_id) DO UPDATE SET last_time = excluded.last_time, fired_at = excluded.fired_at, run_id = excluded.run_id, job_run_id = excluded.job_run_id;
    RETURN v_id;
END
$$;

-- ---- backfill ----------------------------------------------------------------------------------

CREATE FUNCTION fleet_link.backfill_plan(package text, from_time timestamptz, to_time timestamptz, step interval, reprocess text, max_parallel integer)
    RETURNS TABLE (scheduled_for timestamptz, run_id bigint, state text, action text)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.backfill_plan(text, timestamptz, timestamptz, interval, text, integer) IS 'For fleet.backfill(): the times, the run that each has, and what is to be done';

CREATE FUNCTION fleet_catalog.backfill_plan(a_package text, a_from_time timestamptz, a_to_time timestamptz, a_step interval, a_reprocess text, a_max_parallel integer)
    RETURNS TABLE (scheduled_for timestamptz, run_id bigint, state text, action text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_package fleet_catalog.package := fleet_catalog.get_package(a_package);
    v_limit integer := fleet_catalog.parallel_limit(v_package.overlap, v_package.max_parallel);
BEGIN
    PERFORM fleet_catalog.check_given('from_time', a_from_time::text, 'to_time', a_to_time::text, 'step', a_step::text);
    PERFORM fleet_catalog.check_choice('reprocess', a_reprocess, 'none', 'failed', 'all');
    PERFORM fleet_catalog.check_enabled('package', a_package, v_package.enabled);
    IF NOT isfinite(a_from_time) OR NOT isfinite(a_to_time) OR a_to_time < a_from_time THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'to_time is before from_time, or one of them is infinite',
            HINT = 'Give the first and the last time.';
    ELSIF a_step < interval '1 second' OR a_from_time + a_step <= a_from_time THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('step is out of range: %s', a_step), HINT = 'It must be at least a second, for example ''1 day''.';
    ELSIF a_from_time + 9999.5 * a_step < a_to_time THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'there are too many times', HINT = 'At most 10,000 are possible at a time.';
    ELSIF a_max_parallel > 0 AND a_max_parallel < v_limit THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('package "%s" has a limit of its own', a_package),
            DETAIL = format('At most %s of its runs run at a time; those of a backfill count with all others.', v_limit),
            HINT = 'Omit max_parallel, or change the limit with fleet.alter_package().';
    ELSIF v_package.overlap IN ('skip', 'replace') AND a_reprocess = 'failed' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('runs of package "%s" may not overlap', a_package),
            DETAIL = format('Its overlap policy is "%s": of restarts that are asked for at the same time, one would go on.', v_package.overlap),
            HINT = 'Restart one after the other with fleet.restart_run(), or change the policy with fleet.alter_package().';
    END IF;
    PERFORM fleet_catalog.check_range('max_parallel', a_max_parallel, 0, 10000);
    RETURN QUERY
    SELECT d.t, n.run_id, fleet_catalog.state_name(n.state),
           CASE WHEN n.run_id IS NULL THEN 'start'
                WHEN NOT fleet_catalog.is_final(n.state) OR a_reprocess = 'none' OR (a_reprocess = 'failed' AND fleet_catalog.is_done(n.state)) THEN 'keep'
                WHEN a_reprocess = 'failed' THEN 'restart' ELSE 'again' END
      FROM (SELECT a_from_time + i * a_step FROM generate_series(0, 9999) AS i WHERE a_from_time + i * a_step <= a_to_time) AS d (t)
      -- the newest one of each time, of all that have its key, read once
      LEFT JOIN (SELECT DISTINCT ON (r.scheduled_for) r.scheduled_for, r.run_id, r.state FROM fleet_catalog.run AS r
                  WHERE NULLIF(r.package, '') = a_package AND r.scheduled_for BETWEEN a_from_time AND a_to_time AND r.parent_run_id IS NULL
                    AND starts_with(r.run_key, fleet_catalog.key_of_time(NULL, r.scheduled_for))
                  ORDER BY r.scheduled_for, r.run_id DESC) AS n ON n.scheduled_for = d.t
     ORDER BY d.t;
END
$$;

CREATE FUNCTION fleet_link.backfill_run(package text, scheduled_for timestamptz, params jsonb, run_id bigint, action text, max_parallel integer) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.backfill_run(text, timestamptz, jsonb, bigint, text, integer) IS 'For fleet.backfill(): starts one of its runs';

CREATE FUNCTION fleet_catalog.backfill_run(a_package text, a_scheduled_for timestamptz, a_params jsonb, a_run_id bigint, a_action text, a_max_parallel integer) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    PERFORM fleet_catalog.get_package(a_package);
    PERFORM fleet_catalog.check_choice('action', a_action, 'start', 'restart', 'again');
    PERFORM fleet_catalog.check_range('max_parallel', a_max_parallel, 0, 10000);
    IF a_action = 'restart' THEN
        RETURN fleet_catalog.restart_run(a_run_id, NULL, 'run', 'current');
    END IF;
    PERFORM fleet_catalog.check_given('scheduled_for', a_scheduled_for::text);
    v_key := fleet_catalog.key_of_time(NULL, a_scheduled_for);
    IF a_action = 'again' THEN
        v_key := format('%s again %s', v_key, (SELECT count(*) FROM fleet_catalog.run AS r
                                                WHERE NULLIF(r.package, '') = a_package AND r.restart_of IS NULL AND starts_with(r.run_key, v_key)));
    END IF;
    RETURN fleet_catalog.request_run(a_package, coalesce(a_params, '{}'), v_key, NULL, NULL, NULL, NULL, false, NULL, NULL, NULL, a_scheduled_for, a_max_parallel);
END
$$;

-- Runs as its caller, as params_sql does, which has the search_path that the caller has.
CREATE FUNCTION fleet_link.backfill(package text, from_time timestamptz, to_time timestamptz, step interval, params jsonb, params_sql text, reprocess text,
                                    max_parallel integer, dry_run boolean, search_path text)
    RETURNS TABLE (scheduled_for timestamptz, action text, run_id bigint, state text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_context text := coalesce(current_setting('fleet.context', true), '');
    v_sql text := format(E'SELECT (%s\n)::pg_catalog.jsonb', backfill.params_sql);
    v_date record;
    v_params jsonb;
BEGIN
    IF backfill.dry_run IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "dry_run" must not be null', HINT = 'Omit the argument to use its default.';
    END IF;
    PERFORM fleet_link.check_params_sql(backfill.params, backfill.params_sql);
    FOR v_date IN SELECT p.* FROM fleet_link.backfill_plan(backfill.package, backfill.from_time, backfill.to_time, backfill.step, backfill.reprocess, backfill.max_parallel) AS p LOOP
        scheduled_for := v_date.scheduled_for;
        action := v_date.action;
        run_id := v_date.run_id;
        IF action <> 'keep' AND NOT backfill.dry_run THEN
            v_params := '{}';
            IF backfill.params_sql IS NOT NULL AND action <> 'restart' THEN
                PERFORM set_config('fleet.context', jsonb_build_object('scheduled_for', v_date.scheduled_for)::text, true), set_config('search_path', backfill.search_path, true);
                EXECUTE v_sql INTO v_params;
                PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('fleet.context', v_context, true);
            END IF;
            run_id := fleet_link.backfill_run(backfill.package, v_date.scheduled_for, backfill.params || coalesce(v_params, '{}'), v_date.run_id, v_date.action, backfill.max_parallel);
        END IF;
        state := CASE WHEN action = 'keep' OR backfill.dry_run THEN v_date.state ELSE 'queued' END;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_link.backfill(text, timestamptz, timestamptz, interval, jsonb, text, text, integer, boolean, text) IS 'For fleet.backfill(), with the search_path for params_sql';

CREATE FUNCTION fleet_link.check_params_sql(params jsonb, params_sql text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.check_params_sql(jsonb, text) IS 'For fleet.backfill(): error unless these can be parameters, and a query that gives more of them';

CREATE FUNCTION fleet_catalog.check_params_sql(a_params jsonb, a_params_sql text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_params(a_params);
    IF a_params_sql IS NOT NULL THEN
        PERFORM fleet_catalog.check_command(a_params_sql, 'params');
    END IF;
END
$$;

CREATE FUNCTION fleet.backfill(package text, from_time timestamptz, to_time timestamptz, step interval DEFAULT '1 day', params jsonb DEFAULT '{}',
                               params_sql text DEFAULT NULL, reprocess text DEFAULT 'none', max_parallel integer DEFAULT 0,
                               dry_run boolean DEFAULT false)
    RETURNS TABLE (scheduled_for timestamptz, action text, run_id bigint, state text)
    LANGUAGE sql VOLATILE
BEGIN ATOMIC
    SELECT b.scheduled_for, b.action, b.run_id, b.state
      FROM fleet_link.backfill(package, from_time, to_time, step, params, params_sql, reprocess, max_parallel, dry_run, pg_catalog.current_setting('search_path')) AS b;
END;
COMMENT ON FUNCTION fleet.backfill(text, timestamptz, timestamptz, interval, jsonb, text, text, integer, boolean)
    IS 'Starts a run of a package for each time from one to another, keyed by it, that has none yet. reprocess: failed: those that did not succeed are restarted; all: all run again. params_sql gives parameters for each time. max_parallel: so many at a time; 0: no limit but that of the package. With dry_run nothing starts';

-- ---- pg_cron -----------------------------------------------------------------------------------
--
-- pg_cron lives in one database of a cluster (cron.database_name).  If that is this one, its functions are called here, as
-- the caller.  If it is another one, a background worker connected to that database as the caller calls
-- cron.schedule_in_database() there (src/api/cron.c).

CREATE FUNCTION fleet_link.keep_agent() RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.keep_agent() IS 'For pg_cron: starts an agent if there is none and there are schedules or hooks';

CREATE FUNCTION fleet_catalog.keep_agent() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM fleet_catalog.schedule AS s WHERE s.enabled) OR EXISTS (SELECT FROM fleet_catalog.hook AS h WHERE h.enabled) THEN
        PERFORM fleet_catalog.wake('schedules', 0);
    END IF;
END
$$;

CREATE FUNCTION fleet_link.cron_database() RETURNS text
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.cron_database() IS 'For fleet.use_pg_cron(): the database where pg_cron is; an error if there is none, or if the caller may not decide about it';

CREATE FUNCTION fleet_catalog.cron_database() RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_owner regrole := (SELECT w.owner::regrole FROM fleet_catalog.waker AS w JOIN pg_roles AS r ON r.oid = w.owner);
    v_database text := fleet_catalog.cron_home();
BEGIN
    -- pg_cron shows an entry to its owner and to superusers only: another role would make a second one.  A superuser may: who says that
    -- there is an entry is believed.
    IF v_owner <> fleet_catalog.caller() AND NOT fleet_catalog.may_use(10) THEN -- 10: the bootstrap superuser
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'the entry of pg_cron is that of another role',
            DETAIL = format('It belongs to role "%s".', pg_get_userbyid(v_owner)), HINT = 'That role can remove it with fleet.use_pg_cron(false).';
    ELSIF v_database IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'pg_cron is not installed',
            DETAIL = 'It is neither installed in this database nor preloaded for another one (cron.database_name).',
            HINT = 'Schedules do not need it: add pg_fleet to shared_preload_libraries. Or install the package postgresql-NN-cron, preload pg_cron, restart, and run CREATE EXTENSION pg_cron.';
    END IF;
    RETURN v_database;
END
$$;

CREATE FUNCTION fleet_link.record_waker(cron_database text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.record_waker(text) IS 'For fleet.use_pg_cron(): pg_cron has an entry there, of the caller; null: it has none';

CREATE FUNCTION fleet_catalog.record_waker(a_cron_database text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.cron_database();
    DELETE FROM fleet_catalog.waker;
    INSERT INTO fleet_catalog.waker (owner, cron_database) SELECT fleet_catalog.caller(), a_cron_database WHERE a_cron_database IS NOT NULL;
END
$$;

CREATE FUNCTION fleet_link.cron_elsewhere(cron_database text, job_name text, schedule text, command text) RETURNS bigint
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_cron_elsewhere';
COMMENT ON FUNCTION fleet_link.cron_elsewhere(text, text, text, text)
    IS 'Schedules a command for this database in the database where pg_cron is, as current_user; schedule null: unschedules';

-- Runs as its caller, who must have USAGE on schema cron.
CREATE FUNCTION fleet.use_pg_cron(wanted boolean DEFAULT true) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_command CONSTANT text := 'SELECT fleet_link.keep_agent()';
    c_when CONSTANT text := '*/5 * * * *';
    v_database text := fleet_link.cron_database();
    v_name text := 'pg_fleet ' || current_database();
BEGIN
    IF wanted IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'argument "wanted" must not be null', HINT = 'Omit the argument to use its default.';
    END IF;
    PERFORM fleet_link.record_waker(CASE WHEN wanted THEN v_database END);
    IF v_database <> current_database() THEN
        PERFORM fleet_link.cron_elsewhere(v_database, v_name, CASE WHEN wanted THEN c_when END, CASE WHEN wanted THEN c_command END);
    ELSIF wanted THEN
        EXECUTE 'SELECT cron.schedule($1, $2, $3)' USING v_name, c_when, c_command;
    ELSE
        EXECUTE 'SELECT cron.unschedule(j.jobid) FROM cron.job AS j WHERE j.jobname = $1 AND j.username = current_user' USING v_name;
    END IF;
    RETURN wanted;
EXCEPTION WHEN insufficient_privilege THEN
    IF SQLERRM LIKE '%schema cron%' THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = SQLERRM,
            HINT = format('Ask a superuser to run in database %I: GRANT USAGE ON SCHEMA cron TO %I.', v_database, current_user);
    END IF;
    RAISE;
END
$$;
COMMENT ON FUNCTION fleet.use_pg_cron(boolean)
    IS 'Makes an entry of pg_cron, as current_user, that sees to it every five minutes that this database has an agent; false: removes it. Not needed where pg_fleet is preloaded';
