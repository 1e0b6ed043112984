-- 20_support.sql: what the functions of the following files share.
--
-- How a public function works: fleet.f(...) is LANGUAGE C and points to one symbol, fleet_sql_api
-- (src/api/trampoline.c).  It finds fleet_catalog.f with the same argument types and calls it as the
-- owner of the extension; fleet_catalog.caller() tells on whose behalf.  So no function is SECURITY
-- DEFINER: what a call may do depends on current_user at the call, also inside a SECURITY DEFINER
-- function of another role.  No role has USAGE on fleet_catalog.
--
-- Names: arguments of the hidden functions begin with a_, variables with v_.  All of them pin
-- search_path to pg_catalog, pg_temp, so that unqualified operators and functions are the system's.

-- ---- who asks ----------------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.caller() RETURNS regrole
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_caller';
COMMENT ON FUNCTION fleet_catalog.caller() IS 'The role on whose behalf a function of pg_fleet was called';

CREATE FUNCTION fleet_catalog.may_use(a_owner oid) RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_may_use';
COMMENT ON FUNCTION fleet_catalog.may_use(oid) IS 'May the caller act as this owner? A member may, and for a superuser only a superuser';

CREATE FUNCTION fleet_catalog.may_become(a_member oid, a_role oid) RETURNS boolean
    LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_may_become';
COMMENT ON FUNCTION fleet_catalog.may_become(oid, oid) IS 'May this member act as this role? From PostgreSQL 16 on, membership needs the SET option; as a superuser only a superuser may';

CREATE FUNCTION fleet_catalog.may_cancel(a_owner oid) RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_may_cancel';
COMMENT ON FUNCTION fleet_catalog.may_cancel(oid) IS 'May the caller stop what this owner runs? Members of it and of fleet_operator may';

CREATE FUNCTION fleet_catalog.sees(a_owner oid) RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_sees';
COMMENT ON FUNCTION fleet_catalog.sees(oid) IS 'May the caller see what belongs to this owner?';

CREATE FUNCTION fleet_catalog.is_visible(a_owner oid) RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_is_visible';
COMMENT ON FUNCTION fleet_catalog.is_visible(oid) IS 'For views: is what belongs to this owner visible to current_user?';

CREATE FUNCTION fleet_catalog.is_own_xid(a_xid xid) RETURNS boolean
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_is_own_xid';
COMMENT ON FUNCTION fleet_catalog.is_own_xid(xid) IS 'Does this transaction id belong to the current transaction?';

-- ---- waking the agent, waiting for it ----------------------------------------------------------

CREATE FUNCTION fleet_catalog.wake(a_what text, a_id bigint) RETURNS void
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_wake';
COMMENT ON FUNCTION fleet_catalog.wake(text, bigint) IS 'Tells the agent at COMMIT what there is to do: run, job_run, cancel_run, cancel_final, cancel_job_run, skip, retry, pause, limits, servers, deployments, identity, quarantine, purge, schedules, hooks, stat_reset or renamed';

-- In the way of fleet.cancel_run(): the agent alone writes fleet_catalog.quarantine.
CREATE FUNCTION fleet_catalog.lift(a_kind text, a_id bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO fleet_catalog.quarantine_lift (kind, id)
    SELECT q.kind, q.id FROM fleet_catalog.quarantine AS q WHERE q.kind = a_kind AND q.id = a_id;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM fleet_catalog.wake('quarantine', a_id);
    RETURN true;
END
$$;
COMMENT ON FUNCTION fleet_catalog.lift(text, bigint) IS 'Lifts the quarantine of an object, if an agent has ended over it';

CREATE FUNCTION fleet_catalog.wait_run(a_run_id bigint, a_timeout_ms bigint, a_changes boolean,
                                       OUT state smallint, OUT timed_out boolean) RETURNS record
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_wait_run';
COMMENT ON FUNCTION fleet_catalog.wait_run(bigint, bigint, boolean) IS 'Waits until the run has ended (or changed); returns its state';

CREATE FUNCTION fleet_catalog.ask_agent(a_server_id integer, a_role oid, OUT sqlstate text, OUT message text, OUT in_use boolean) RETURNS record
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_ask_agent';
COMMENT ON FUNCTION fleet_catalog.ask_agent(integer, oid)
    IS 'Lets the agent log in to a server as a role: the error, or null, and whether there was a connection that was in use, so that none was made';

-- ---- the core ----------------------------------------------------------------------------------

-- LEAKPROOF, as it raises no error and says nothing of its argument: a condition on the state that a view shows is applied before
-- the view's own one, so that an index finds the rows.
CREATE FUNCTION fleet_catalog.state_name(a_state smallint) RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF AS 'MODULE_PATHNAME', 'fleet_sql_state_name';
COMMENT ON FUNCTION fleet_catalog.state_name(smallint) IS 'Name of a state code';

CREATE FUNCTION fleet_catalog.state_code(a_name text) RETURNS smallint
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'fleet_sql_state_code';
COMMENT ON FUNCTION fleet_catalog.state_code(text) IS 'Code of a state by its name';

-- Bodies with RETURN become part of the query that calls them, so that indexes on state are used.
CREATE FUNCTION fleet_catalog.is_final(a_state smallint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN a_state OPERATOR(pg_catalog.>=) fleet_catalog.state_code('succeeded');
COMMENT ON FUNCTION fleet_catalog.is_final(smallint) IS 'Has it ended?';

CREATE FUNCTION fleet_catalog.is_running(a_state smallint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN a_state OPERATOR(pg_catalog.=) ANY (ARRAY[fleet_catalog.state_code('starting'), fleet_catalog.state_code('running'),
                                                     fleet_catalog.state_code('canceling')]);
COMMENT ON FUNCTION fleet_catalog.is_running(smallint) IS 'Is it under way, so that it takes up a slot?';

CREATE FUNCTION fleet_catalog.is_done(a_state smallint) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN a_state OPERATOR(pg_catalog.=) ANY (ARRAY[fleet_catalog.state_code('succeeded'), fleet_catalog.state_code('skipped')]);
COMMENT ON FUNCTION fleet_catalog.is_done(smallint) IS 'Has it ended well, succeeded or skipped?';

-- For views: part of the condition of those rows, so that the planner knows that what has ended is not among them.
CREATE FUNCTION fleet_catalog.is_open(a_state text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN a_state OPERATOR(pg_catalog.=) ANY (ARRAY['queued', 'starting', 'running', 'retrying', 'canceling']);
COMMENT ON FUNCTION fleet_catalog.is_open(text) IS 'Has it not ended?';

-- The agent's rule, in src/agent/quarantine.c.
CREATE FUNCTION fleet_catalog.in_quarantine(a_ends integer, a_last_at timestamptz) RETURNS boolean
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN a_ends OPERATOR(pg_catalog.>=) 3
       AND a_last_at OPERATOR(pg_catalog.>=) (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) interval '1 hour');
COMMENT ON FUNCTION fleet_catalog.in_quarantine(integer, timestamptz) IS 'Have three agents ended over it, the last one within the last hour?';

CREATE FUNCTION fleet_catalog.check_command(a_command text, a_what text) RETURNS integer
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_check_command';
COMMENT ON FUNCTION fleet_catalog.check_command(text, text) IS 'Parses a step''s command, a query or a condition (a_what: command, hook, query, condition, params); number of statements';

CREATE FUNCTION fleet_catalog.check_item_column(a_query text, a_argument text, a_name text) RETURNS void
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_check_item_column';
COMMENT ON FUNCTION fleet_catalog.check_item_column(text, text, text) IS 'Raises an error if the text of a query shows that it has no such column';

CREATE FUNCTION fleet_catalog.check_graph(a_tasks text[], a_from integer[], a_to integer[]) RETURNS void
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_check_graph';
COMMENT ON FUNCTION fleet_catalog.check_graph(text[], integer[], integer[]) IS 'Raises an error that shows the path if the graph has a cycle';

-- Bodies with RETURN are parsed now, under the install script's safe search_path.
CREATE FUNCTION fleet_catalog.content_hash(a_text text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to(a_text, 'UTF8')), 1, 16), 'hex')::uuid;
COMMENT ON FUNCTION fleet_catalog.content_hash(text) IS 'First 16 bytes of sha256 of a text, as uuid';

CREATE FUNCTION fleet_catalog.token(a_secret uuid, a_run_uuid uuid, a_task text, a_item integer, a_attempt integer) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN a_attempt > 0 THEN
        fleet_catalog.content_hash(a_secret::text || '/' || a_run_uuid::text || '/' || a_task || '/' || a_item::text || '/' || a_attempt::text) END;
COMMENT ON FUNCTION fleet_catalog.token(uuid, uuid, text, integer, integer) IS 'Token of an attempt of a task run: first 16 bytes of sha256(secret of this parent/run_uuid/task/item/attempt)';

CREATE FUNCTION fleet_catalog.microseconds(a_interval interval) RETURNS bigint
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (EXTRACT(epoch FROM a_interval) OPERATOR(pg_catalog.*) 1000000)::bigint;
COMMENT ON FUNCTION fleet_catalog.microseconds(interval) IS 'An interval as microseconds (a month has 30 days)';

CREATE FUNCTION fleet_catalog.from_microseconds(a_us bigint) RETURNS interval
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN pg_catalog.make_interval(secs => a_us::double precision OPERATOR(pg_catalog./) 1e6);
COMMENT ON FUNCTION fleet_catalog.from_microseconds(bigint) IS 'Microseconds as an interval';

CREATE FUNCTION fleet_catalog.speed(a_log double precision, a_evidence double precision) RETURNS double precision
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'fleet_sql_speed';
COMMENT ON FUNCTION fleet_catalog.speed(double precision, double precision) IS 'A learned speed (FleetSpeed); 1 as long as noise explains the difference';

-- ---- checks of arguments: each raises, or does nothing -----------------------------------------

CREATE FUNCTION fleet_catalog.check_name(a_what text, a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_name IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = format('%s name must not be null', a_what),
            HINT = format('Specify the name of the %s.', a_what);
    ELSIF a_name = '' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = format('%s name must not be empty', a_what),
            HINT = 'Names have 1 to 200 characters.';
    ELSIF length(a_name) > 200 THEN
        RAISE EXCEPTION USING ERRCODE = 'name_too_long', MESSAGE = format('%s name is too long', a_what),
            DETAIL = format('It has %s characters.', length(a_name)), HINT = 'Names have 1 to 200 characters.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_name(text, text) IS 'Raises an error unless this can be a name';

-- A null where none belongs, by the arguments' names.
CREATE FUNCTION fleet_catalog.check_given(VARIADIC a_names_and_values text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    FOR i IN 1 .. cardinality(a_names_and_values) BY 2 LOOP
        IF a_names_and_values[i + 1] IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
                MESSAGE = format('argument "%s" must not be null', a_names_and_values[i]),
                HINT = 'Omit the argument to use its default.';
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_given(text[]) IS 'Raises an error if one of the values (name, value, name, value, ...) is null';

CREATE FUNCTION fleet_catalog.check_choice(a_what text, a_value text, VARIADIC a_choices text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_value IS NULL THEN
        PERFORM fleet_catalog.check_given(a_what, NULL);
    ELSIF a_value <> ALL (a_choices) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('"%s" is not a valid %s', left(a_value, 100), a_what),
            HINT = format('Valid values are: %s.', array_to_string(a_choices, ', '));
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_choice(text, text, text[]) IS 'Raises an error unless the value is one of the choices';

CREATE FUNCTION fleet_catalog.check_range(a_what text, a_value double precision, a_low double precision, a_high double precision) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_value IS NULL THEN
        PERFORM fleet_catalog.check_given(a_what, NULL);
    ELSIF NOT a_value BETWEEN a_low AND a_high THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('%s is out of range: %s', a_what, a_value),
            HINT = format('It must be between %s and %s.', a_low, a_high);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_range(text, double precision, double precision, double precision) IS 'Raises an error unless the number is between the two';

CREATE FUNCTION fleet_catalog.check_span(a_what text, a_value interval, a_positive boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_value < interval '0' OR (a_positive AND a_value = interval '0') OR a_value > interval '10 years' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s is out of range: %s', a_what, a_value),
            HINT = format('It must be %s and at most 10 years, for example ''5min''.',
                          CASE WHEN a_positive THEN 'more than 0' ELSE '0 or more' END);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_span(text, interval, boolean) IS 'Raises an error if the interval is negative (or 0) or longer than 10 years; null passes';

CREATE FUNCTION fleet_catalog.check_params(a_params jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_params IS NULL THEN
        PERFORM fleet_catalog.check_given('params', NULL);
    ELSIF jsonb_typeof(a_params) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'params must be a JSON object',
            DETAIL = format('It is of type %s.', jsonb_typeof(a_params)), HINT = 'An example is ''{"region": "north"}''.';
    -- as text, which the agent works with, it may be six times as long
    ELSIF pg_column_size(a_params) > 1000000 OR (pg_column_size(a_params) > 150000 AND octet_length(a_params::text) > 1000000) THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'params are too large',
            -- the text of what is much too large may be more than a text can hold
            DETAIL = format('Their size is %s bytes.', CASE WHEN pg_column_size(a_params) > 1000000 THEN pg_column_size(a_params)
                                                            ELSE octet_length(a_params::text) END),
            HINT = 'The limit is 1,000,000 bytes. Put the data into a table and pass its key.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_params(jsonb) IS 'Raises an error unless this is a JSON object of at most 1,000,000 bytes';

CREATE FUNCTION fleet_catalog.check_retry_sqlstates(a_states text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_state text;
BEGIN
    FOREACH v_state IN ARRAY coalesce(a_states, '{}') LOOP
        IF v_state IS NULL OR v_state !~ '^!?([0-9A-Z]{2}|[0-9A-Z]{5})$' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
                MESSAGE = format('"%s" is not an SQLSTATE or an SQLSTATE class', coalesce(v_state, 'NULL')),
                HINT = 'Write five characters (40001), a class of two (40), or either after "!" to exclude it.';
        END IF;
    END LOOP;
    IF cardinality(a_states) > 100 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'too many entries in retry_sqlstates',
            HINT = 'At most 100 entries are allowed. Use classes of two characters.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_retry_sqlstates(text[]) IS 'Raises an error unless all are SQLSTATEs or classes, possibly after "!"';

-- Parameters of a call over the defaults of a definition that declares which there are.
CREATE FUNCTION fleet_catalog.merge_params(a_what text, a_declared jsonb, a_given jsonb) RETURNS jsonb
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_merged jsonb;
    v_key text;
BEGIN
    IF a_given = '{}' AND NOT jsonb_path_exists(a_declared, '$.* ? (@ == null)') THEN
        RETURN a_declared;
    END IF;
    PERFORM fleet_catalog.check_params(a_given);
    SELECT k INTO v_key FROM jsonb_object_keys(a_given) AS k WHERE NOT a_declared ? k ORDER BY k LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('%s has no parameter "%s"', a_what, left(v_key, 200)),
            HINT = CASE WHEN a_declared = '{}' THEN 'It has no parameters.'
                   ELSE format('Its parameters are: %s.', (SELECT string_agg(k, ', ' ORDER BY k) FROM jsonb_object_keys(a_declared) AS k)) END;
    END IF;
    v_merged := a_declared || a_given;
    SELECT e.key INTO v_key FROM jsonb_each(v_merged) AS e WHERE e.value = 'null' AND NOT a_given ? e.key ORDER BY e.key LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = format('parameter "%s" of %s is required', v_key, a_what),
            DETAIL = 'Its default is null.',
            HINT = format('Specify it with params => %L.', jsonb_build_object(v_key, '...'));
    END IF;
    RETURN v_merged;
END
$$;
COMMENT ON FUNCTION fleet_catalog.merge_params(text, jsonb, jsonb) IS 'Given parameters over declared ones: raises an error for unknown ones, and for missing ones whose default is null';

-- ---- finding what a name means, with the right to use it ---------------------------------------

CREATE FUNCTION fleet_catalog.deny(a_what text, a_name text, a_owner oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
        MESSAGE = format('permission denied for %s "%s"', a_what, a_name),
        DETAIL = CASE WHEN (SELECT r.rolsuper FROM pg_authid AS r WHERE r.oid = a_owner)
                 THEN 'It belongs to a superuser.'
                 ELSE format('It belongs to role "%s".', pg_get_userbyid(a_owner)) END,
        HINT = CASE WHEN (SELECT r.rolsuper FROM pg_authid AS r WHERE r.oid = a_owner)
               THEN 'Only a superuser may do this.'
               ELSE 'Ask a member of that role to do it, or to grant you membership.' END;
END
$$;
COMMENT ON FUNCTION fleet_catalog.deny(text, text, oid) IS 'Raises the error for a missing privilege';

-- Suggestions of a name of the same kind that the caller may see: '' if there is none.
CREATE FUNCTION fleet_catalog.known(a_names text[], a_make text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN coalesce(cardinality(a_names), 0) = 0 THEN 'None exists yet; create one with ' || a_make || '.'
       ELSE 'Existing names are: ' || array_to_string(a_names[1:10], ', ')
            || CASE WHEN cardinality(a_names) > 10 THEN ', ...' ELSE '.' END END
$$;
COMMENT ON FUNCTION fleet_catalog.known(text[], text) IS 'Hint that lists the existing names';

CREATE FUNCTION fleet_catalog.get_job(a_name text) RETURNS fleet_catalog.job
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job;
BEGIN
    SELECT j.* INTO v_job FROM fleet_catalog.job AS j WHERE j.name = a_name;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.check_name('job', a_name);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('job "%s" does not exist', a_name),
            HINT = fleet_catalog.known((SELECT array_agg(j.name ORDER BY j.name) FROM fleet_catalog.job AS j
                                         WHERE fleet_catalog.sees(j.owner)), 'fleet.create_job()');
    END IF;
    IF NOT fleet_catalog.may_use(v_job.owner) THEN
        PERFORM fleet_catalog.deny('job', a_name, v_job.owner);
    END IF;
    RETURN v_job;
END
$$;
COMMENT ON FUNCTION fleet_catalog.get_job(text) IS 'A job that the caller may use and change';

CREATE FUNCTION fleet_catalog.get_package(a_name text) RETURNS fleet_catalog.package
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package;
BEGIN
    SELECT p.* INTO v_package FROM fleet_catalog.package AS p WHERE p.name = a_name;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.check_name('package', a_name);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" does not exist', a_name),
            HINT = fleet_catalog.known((SELECT array_agg(p.name ORDER BY p.name) FROM fleet_catalog.package AS p
                                         WHERE p.root_id IS NULL AND fleet_catalog.sees(p.owner)), 'fleet.create_package()');
    END IF;
    IF NOT fleet_catalog.may_use(v_package.owner) THEN
        PERFORM fleet_catalog.deny('package', a_name, v_package.owner);
    END IF;
    IF v_package.root_id IS NOT NULL THEN
        PERFORM fleet_catalog.refuse_container(v_package);
    END IF;
    RETURN v_package;
END
$$;
COMMENT ON FUNCTION fleet_catalog.get_package(text) IS 'A package that the caller may use and change';

-- For changes: serialises those of one package or job, so that numbers and checks hold.  Who waits for another change finds
-- what that has made of it: the name may be gone, and the object may belong to somebody else.
CREATE FUNCTION fleet_catalog.change_job(a_name text) RETURNS fleet_catalog.job
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job;
BEGIN
    LOOP
        v_job := fleet_catalog.get_job(a_name);
        UPDATE fleet_catalog.job AS j SET changed_at = now() WHERE j.job_id = v_job.job_id AND j.name = a_name;
        EXIT WHEN FOUND;
    END LOOP;
    PERFORM fleet_catalog.edited('job', v_job.job_id);
    RETURN fleet_catalog.get_job(a_name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.change_job(text) IS 'A job that is about to be changed, locked';

CREATE FUNCTION fleet_catalog.change_package(a_name text) RETURNS fleet_catalog.package
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package;
BEGIN
    LOOP
        v_package := fleet_catalog.get_package(a_name);
        UPDATE fleet_catalog.package AS p SET changed_at = now() WHERE p.package_id = v_package.package_id AND p.name = a_name;
        EXIT WHEN FOUND;
    END LOOP;
    PERFORM fleet_catalog.edited('package', v_package.package_id);
    RETURN fleet_catalog.get_package(a_name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.change_package(text) IS 'A package that is about to be changed, locked';

-- What a definition names keeps its name, and is there, until COMMIT: who renames or drops it meanwhile waits, and then finds who names it.
CREATE FUNCTION fleet_catalog.use_job(a_name text) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT FROM fleet_catalog.job AS j WHERE j.name = a_name FOR KEY SHARE
$$;
COMMENT ON FUNCTION fleet_catalog.use_job(text) IS 'A task names this job, if it is here';

CREATE FUNCTION fleet_catalog.use_package(a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM fleet_catalog.package AS p WHERE p.name = a_name FOR KEY SHARE;
    PERFORM fleet_catalog.get_package(a_name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.use_package(text) IS 'A task or a step names this package; an error if the caller may not use it';

-- regrole's own text has quotes, of which quote_all_identifiers decides too, and the number of a role
-- that was dropped; from version 16 on to_regrole() takes that number for the role that has it now.
CREATE FUNCTION fleet_catalog.role_name(a_role regrole) RETURNS text
    LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp
    RETURN coalesce((SELECT r.rolname FROM pg_catalog.pg_roles AS r WHERE r.oid OPERATOR(pg_catalog.=) a_role), '');
COMMENT ON FUNCTION fleet_catalog.role_name(regrole) IS 'Name of a role as in pg_roles; empty, which is nobody''s name, if it was dropped';

CREATE FUNCTION fleet_catalog.get_role(a_name text) RETURNS regrole
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_role regrole := (SELECT r.oid::regrole FROM pg_authid AS r WHERE r.rolname = a_name);
BEGIN
    IF v_role IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('role "%s" does not exist', a_name),
            HINT = 'Write the name as in pg_roles, without quotes.';
    END IF;
    IF NOT fleet_catalog.may_use(v_role) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('must be a member of role "%s"', a_name),
            HINT = format('Ask an administrator to run: GRANT %I TO %I.', a_name, pg_get_userbyid(fleet_catalog.caller()));
    END IF;
    RETURN v_role;
END
$$;
COMMENT ON FUNCTION fleet_catalog.get_role(text) IS 'A role that the caller may act as';

-- ---- identity ----------------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.own_database() RETURNS oid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()
$$;
COMMENT ON FUNCTION fleet_catalog.own_database() IS 'This database';

-- The uuid of a run that has a key: the same after a loss of the last seconds.  Null until the first agent has made
-- the identity; the agent then makes the run's uuid too.
CREATE FUNCTION fleet_catalog.uuid_of_key(a_package text, a_run_key text) RETURNS uuid
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.content_hash(i.parent_uuid::text || '/' || a_package || '/' || a_run_key
           || coalesce((SELECT '/' || k.uses FROM fleet_catalog.used_key AS k WHERE k.package = a_package AND k.run_key = a_run_key), ''))
  FROM fleet_catalog.identity AS i
$$;
COMMENT ON FUNCTION fleet_catalog.uuid_of_key(text, text) IS 'The uuid of the run of a package that has this key; null if this parent has no identity yet';
