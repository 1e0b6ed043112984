-- 33_server.sql: servers of the fleet, and deployment of jobs to them.

CREATE FUNCTION fleet_link.validator(options text[], catalog oid) RETURNS void
    LANGUAGE C STRICT AS 'MODULE_PATHNAME', 'fleet_sql_fdw_validator';
COMMENT ON FUNCTION fleet_link.validator(text[], oid) IS 'Checks the options of servers and user mappings of the wrapper pg_fleet';

CREATE FOREIGN DATA WRAPPER pg_fleet VALIDATOR fleet_link.validator;
COMMENT ON FOREIGN DATA WRAPPER pg_fleet IS 'Wrapper for servers of pg_fleet, without foreign tables';
-- Not to PUBLIC, as for CREATE SERVER of any wrapper: a link leads out of this machine.
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO fleet_operator;

CREATE FUNCTION fleet_catalog.get_server(a_name text) RETURNS fleet_catalog.server
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server;
BEGIN
    SELECT s.* INTO v_server FROM fleet_catalog.server AS s WHERE s.name = a_name::name AND octet_length(a_name) < 64;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.check_name('server', a_name);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('server "%s" does not exist', a_name),
            HINT = CASE WHEN EXISTS (SELECT FROM pg_foreign_server AS f WHERE f.srvname = a_name::name AND octet_length(a_name) < 64) THEN 'A foreign server of that name exists; register it with fleet.register_server().'
                   ELSE fleet_catalog.known((SELECT array_agg(s.name::text ORDER BY s.name) FROM fleet_catalog.server AS s
                                              WHERE fleet_catalog.sees(s.owner)), 'fleet.add_server()') END;
    END IF;
    IF NOT (fleet_catalog.may_cancel(v_server.owner)
            OR coalesce(has_server_privilege(fleet_catalog.caller(), v_server.foreign_server::oid, 'USAGE'), false)) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for server "%s"', a_name),
            HINT = format('Ask its owner to run: GRANT USAGE ON FOREIGN SERVER %I TO %I.', a_name, pg_get_userbyid(fleet_catalog.caller()));
    END IF;
    RETURN v_server;
END
$$;

-- What is longer than names are is no other name.
CREATE FUNCTION fleet_catalog.as_server_name(a_name text) RETURNS name
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF octet_length(a_name) > 63 THEN
        PERFORM fleet_catalog.get_server(a_name); -- ERROR
    END IF;
    RETURN a_name::name;
END
$$;

CREATE FUNCTION fleet_catalog.change_server(a_name text) RETURNS fleet_catalog.server
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server := fleet_catalog.get_server(a_name);
BEGIN
    LOOP
        IF NOT fleet_catalog.may_cancel(v_server.owner) THEN
            PERFORM fleet_catalog.deny('server', a_name, v_server.owner);
        END IF;
        PERFORM FROM fleet_catalog.server AS s WHERE s.server_id = v_server.server_id AND s.name = v_server.name AND s.owner = v_server.owner FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        v_server := fleet_catalog.get_server(a_name); -- it is another one, or somebody else's, since this waited
    END LOOP;
    RETURN fleet_catalog.get_server(a_name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.change_server(text) IS 'A server that is about to be changed, locked';

CREATE FUNCTION fleet_catalog.use_server(a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM fleet_catalog.server AS s WHERE s.name = a_name::name FOR KEY SHARE;
    PERFORM fleet_catalog.get_server(a_name);
END
$$;
COMMENT ON FUNCTION fleet_catalog.use_server(text) IS 'A task names this server, which keeps its name and is there until COMMIT; an error if the caller may not use it';

CREATE FUNCTION fleet_catalog.check_server(a_mode text, a_slots integer, a_groups text[], a_weight double precision) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_group text;
BEGIN
    PERFORM fleet_catalog.check_choice('mode', a_mode, 'agent', 'direct');
    PERFORM fleet_catalog.check_range('slots', a_slots, 0, 10000);
    PERFORM fleet_catalog.check_range('weight', a_weight, 0.001, 1000000);
    PERFORM fleet_catalog.check_given('groups', a_groups::text);
    IF cardinality(a_groups) > 1000 THEN
        RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded', MESSAGE = 'too many groups',
            HINT = 'A server can be in at most 1,000 groups.';
    END IF;
    FOREACH v_group IN ARRAY a_groups LOOP
        PERFORM fleet_catalog.check_name('group', v_group);
    END LOOP;
END
$$;

CREATE FUNCTION fleet_catalog.check_idle(a_server fleet_catalog.server) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM fleet_catalog.run AS r JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id
                WHERE NOT fleet_catalog.is_final(r.state) AND t.server_id = a_server.server_id AND fleet_catalog.is_running(t.state)) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('server "%s" is running jobs', a_server.name),
            HINT = format('Run fleet.set_server_state(%L, ''draining''), and try again when it is no longer busy.', a_server.name);
    END IF;
END
$$;

-- Does a package or job, as a document, have a task that names this server or group?  (Not: a parameter of that name.)
CREATE FUNCTION fleet_catalog.document_uses(a_body jsonb, a_key text, a_name text) RETURNS boolean
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE a_key
    WHEN 'server' THEN jsonb_path_exists(a_body, '$.** ? (@.kind == "job" && @.server == $name)', jsonb_build_object('name', a_name))
    ELSE jsonb_path_exists(a_body, '$.** ? (@.kind == "job" && @.on_group == $name)', jsonb_build_object('name', a_name)) END
$$;

-- What names a server or a group (a_key: server or on_group), for the error of who takes the name away.  A run that is
-- open keeps the name in its document.
CREATE FUNCTION fleet_catalog.uses_of(a_key text, a_name text) RETURNS TABLE (place integer, what text, owner oid)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT 2, format('task "%s" of package "%s"', t.name, p.name), p.owner::oid
  FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p ON p.package_id = t.package_id
 WHERE a_name = CASE a_key WHEN 'server' THEN t.server ELSE t.on_group END
UNION ALL
SELECT 3, format('run %s', r.run_id), r.owner::oid
  FROM fleet_catalog.run AS r JOIN fleet_catalog.definition AS d ON d.hash = r.definition
 WHERE NOT fleet_catalog.is_final(r.state) AND fleet_catalog.document_uses(d.body, a_key, a_name)
UNION ALL
SELECT 4, format('job run %s', j.job_run_id), j.owner::oid
  FROM fleet_catalog.job_run AS j JOIN fleet_catalog.definition AS d ON d.hash = j.definition
 WHERE j.finished_at IS NULL AND fleet_catalog.document_uses(d.body, a_key, a_name)
$$;

-- The first ten of them as one text, or null.
CREATE FUNCTION fleet_catalog.list_uses(a_uses text[]) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT 'By ' || array_to_string(a_uses[1:10], ', ') || CASE WHEN cardinality(a_uses) > 10 THEN ', ...' ELSE '' END || '.' WHERE a_uses <> '{}'
$$;

-- A name that tasks use is of who had it last for a server: else tasks that mean that server would bring their SQL to
-- another.
CREATE FUNCTION fleet_catalog.check_free_name(a_name text, a_role oid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_owner oid;
    v_uses text;
BEGIN
    SELECT o.owner::oid INTO v_owner
      FROM (SELECT 1 AS place, s.owner, NULL::timestamptz AS removed_at FROM fleet_catalog.server AS s WHERE s.name = a_name
            UNION ALL SELECT 2, s.owner, NULL FROM fleet_catalog.server AS s WHERE a_name = ANY (s.former_names)
            UNION ALL SELECT 3, f.owner, f.removed_at FROM fleet_catalog.former_server AS f WHERE f.name = a_name) AS o
     ORDER BY o.place, o.removed_at DESC LIMIT 1;
    IF NOT FOUND OR fleet_catalog.may_become(a_role, v_owner) THEN
        RETURN;
    END IF;
    v_uses := fleet_catalog.list_uses(ARRAY(SELECT CASE WHEN fleet_catalog.sees(u.owner) THEN u.what ELSE 'what belongs to others' END FROM fleet_catalog.uses_of('server', a_name) AS u
                                            GROUP BY 1 ORDER BY min(u.place), 1 LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for the server name "%s"', a_name),
            DETAIL = format('It is the name of a server of role "%s", and used. %s', pg_get_userbyid(v_owner), v_uses),
            HINT = 'Choose another name, or ask a member of that role or a superuser to register the server.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_free_name(text, oid) IS 'May this role give the name to a server of the fleet?';

CREATE FUNCTION fleet.register_server(server text, mode text DEFAULT 'agent', slots integer DEFAULT 4, groups text[] DEFAULT '{}',
                                      weight double precision DEFAULT 1) RETURNS integer
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.register_server(text, text, integer, text[], double precision)
    IS 'Registers an existing foreign server (of wrapper pg_fleet, postgres_fdw or dblink_fdw) as a server of the fleet; returns its server_id';

CREATE FUNCTION fleet_link.register_created(server text, mode text, slots integer, groups text[], weight double precision) RETURNS integer
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.register_created(text, text, integer, text[], double precision)
    IS 'For fleet.add_server(): registers the foreign server that it has created, which fleet.remove_server() is to drop';

-- The foreign server of this one was dropped, and its owner has made another: runs and tasks stay with it.  Null: it was not.
CREATE FUNCTION fleet_catalog.replace_server(a_server text, a_foreign oid, a_mode text, a_slots integer, a_groups text[],
                                             a_weight double precision, a_made_here boolean) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server;
BEGIN
    SELECT s.* INTO v_server FROM fleet_catalog.server AS s
     WHERE s.name = a_server AND NOT EXISTS (SELECT FROM pg_foreign_server AS f WHERE f.oid = s.foreign_server) FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    v_server := fleet_catalog.change_server(a_server);
    IF a_mode <> v_server.mode THEN
        PERFORM fleet_catalog.check_idle(v_server);
    END IF;
    UPDATE fleet_catalog.server AS s
       SET foreign_server = a_foreign, mode = a_mode, slots = a_slots, groups = a_groups, weight = a_weight, made_here = a_made_here,
           owner = fleet_catalog.caller(), named_at = clock_timestamp()
     WHERE s.server_id = v_server.server_id;
    RETURN v_server.server_id;
END
$$;

CREATE FUNCTION fleet_catalog.insert_server(a_server text, a_mode text, a_slots integer, a_groups text[], a_weight double precision,
                                            a_made_here boolean) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_foreign record;
    v_made_here boolean;
    v_id integer;
BEGIN
    PERFORM fleet_catalog.check_name('server', a_server);
    PERFORM fleet_catalog.check_server(a_mode, a_slots, a_groups, a_weight);
    SELECT f.oid, f.srvowner, w.fdwname INTO v_foreign
      FROM pg_foreign_server AS f JOIN pg_foreign_data_wrapper AS w ON w.oid = f.srvfdw
     WHERE f.srvname = a_server::name AND octet_length(a_server) < 64;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('foreign server "%s" does not exist', a_server),
            HINT = 'Create it with fleet.add_server() or CREATE SERVER.';
    END IF;
    IF NOT has_server_privilege(fleet_catalog.caller(), v_foreign.oid, 'USAGE') THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for foreign server "%s"', a_server),
            HINT = format('Ask its owner to run: GRANT USAGE ON FOREIGN SERVER %I TO %I.', a_server, pg_get_userbyid(fleet_catalog.caller()));
    END IF;
    IF v_foreign.fdwname NOT IN ('pg_fleet', 'postgres_fdw', 'dblink_fdw') THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type',
            MESSAGE = format('foreign-data wrapper "%s" of server "%s" is not supported', v_foreign.fdwname, a_server),
            HINT = 'Use a server of the wrapper pg_fleet, postgres_fdw or dblink_fdw.';
    END IF;
    PERFORM fleet_catalog.check_free_name(a_server, fleet_catalog.caller());
    PERFORM fleet_catalog.enter_groups(a_groups);
    v_made_here := a_made_here AND v_foreign.fdwname = 'pg_fleet';
    INSERT INTO fleet_catalog.server AS s (name, foreign_server, mode, slots, groups, weight, made_here, owner)
    VALUES (a_server, v_foreign.oid, a_mode, a_slots, a_groups, a_weight, v_made_here, fleet_catalog.caller())
    ON CONFLICT (name) DO NOTHING
    RETURNING s.server_id INTO v_id;
    IF NOT FOUND THEN
        v_id := fleet_catalog.replace_server(a_server, v_foreign.oid, a_mode, a_slots, a_groups, a_weight, v_made_here);
    END IF;
    IF v_id IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('server "%s" is already registered', a_server),
            HINT = 'Change it with fleet.alter_server().';
    END IF;
    UPDATE fleet_catalog.server AS s SET former_names = array_remove(s.former_names, a_server::name) WHERE a_server = ANY (s.former_names);
    PERFORM fleet_catalog.lift('server', v_id);
    PERFORM fleet_catalog.wake('servers', v_id);
    RETURN v_id;
END
$$;

CREATE FUNCTION fleet_catalog.register_server(a_server text, a_mode text, a_slots integer, a_groups text[], a_weight double precision) RETURNS integer
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.insert_server(a_server, a_mode, a_slots, a_groups, a_weight, false)
$$;

CREATE FUNCTION fleet_catalog.register_created(a_server text, a_mode text, a_slots integer, a_groups text[], a_weight double precision)
    RETURNS integer LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
SELECT fleet_catalog.insert_server(a_server, a_mode, a_slots, a_groups, a_weight, true)
$$;

CREATE FUNCTION fleet_link.create_foreign_server(server text, conninfo text, username text, password text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_create_foreign_server';
COMMENT ON FUNCTION fleet_link.create_foreign_server(text, text, text, text)
    IS 'CREATE SERVER (wrapper pg_fleet) and CREATE USER MAPPING for current_user, from a connection string';

-- Runs as its caller, who makes the foreign server and owns it.
CREATE FUNCTION fleet.add_server(server text, conninfo text, username text DEFAULT NULL, password text DEFAULT NULL,
                                 mode text DEFAULT 'agent', slots integer DEFAULT 4, groups text[] DEFAULT '{}',
                                 weight double precision DEFAULT 1) RETURNS integer
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_link.create_foreign_server(add_server.server, add_server.conninfo, add_server.username, add_server.password);
    RETURN fleet_link.register_created(add_server.server, add_server.mode, add_server.slots, add_server.groups, add_server.weight);
END
$$;
COMMENT ON FUNCTION fleet.add_server(text, text, text, text, text, integer, text[], double precision)
    IS 'Creates a foreign server and a user mapping for current_user, and registers it as a server of the fleet; returns its server_id';

CREATE FUNCTION fleet.alter_server(server text, mode text DEFAULT NULL, slots integer DEFAULT NULL, groups text[] DEFAULT NULL,
                                   weight double precision DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_server(text, text, integer, text[], double precision) IS 'Changes a server; arguments that are null leave things as they are';

CREATE FUNCTION fleet_catalog.alter_server(a_server text, a_mode text, a_slots integer, a_groups text[], a_weight double precision) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server := fleet_catalog.change_server(a_server);
BEGIN
    a_mode := coalesce(a_mode, v_server.mode);
    a_slots := coalesce(a_slots, v_server.slots);
    a_groups := coalesce(a_groups, v_server.groups);
    a_weight := coalesce(a_weight, v_server.weight);
    PERFORM fleet_catalog.check_server(a_mode, a_slots, a_groups, a_weight);
    IF a_mode <> v_server.mode THEN
        -- An agent that comes would look for them in the other mode, and not find them.
        PERFORM fleet_catalog.check_idle(v_server);
    END IF;
    PERFORM fleet_catalog.enter_groups(ARRAY(SELECT g FROM unnest(a_groups) AS g WHERE g <> ALL (v_server.groups)));
    UPDATE fleet_catalog.server AS s SET mode = a_mode, slots = a_slots, groups = a_groups, weight = a_weight
     WHERE s.server_id = v_server.server_id;
    PERFORM fleet_catalog.lift('server', v_server.server_id);
    PERFORM fleet_catalog.wake('servers', v_server.server_id);
END
$$;

CREATE FUNCTION fleet.set_server_state(server text, state text) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.set_server_state(text, text) IS 'Sets the state of a server. online: it gets work; draining: it finishes what it has; offline: it is not used';

CREATE FUNCTION fleet_catalog.set_server_state(a_server text, a_state text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server := fleet_catalog.change_server(a_server);
BEGIN
    PERFORM fleet_catalog.check_choice('state', a_state, 'online', 'draining', 'offline');
    UPDATE fleet_catalog.server AS s SET state = a_state WHERE s.server_id = v_server.server_id;
    PERFORM fleet_catalog.lift('server', v_server.server_id);
    PERFORM fleet_catalog.wake('servers', v_server.server_id);
END
$$;

-- What the agent finds when it logs in to a server for the caller: the error, or the lines that say what is there.
CREATE FUNCTION fleet_link.ask_server(server text, OUT lines text[], OUT code text, OUT message text, OUT hint text) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.ask_server(text) IS 'For fleet.check_server(): logs in to a server now, as the caller''s user mapping says; lines about it, or the error';

CREATE FUNCTION fleet_catalog.ask_server(a_server text, OUT lines text[], OUT code text, OUT message text, OUT hint text) RETURNS record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server := fleet_catalog.get_server(a_server);
    v_role name := pg_get_userbyid(fleet_catalog.caller());
    v_begun timestamptz := clock_timestamp();
    v_answer record;
    v_took text;
BEGIN
    SELECT * INTO v_answer FROM fleet_catalog.ask_agent(v_server.server_id, fleet_catalog.caller());
    v_took := round(1000 * extract(epoch FROM clock_timestamp() - v_begun)::numeric, 1) || ' ms';
    IF v_answer.sqlstate IS NOT NULL THEN
        -- what the other side says is a code, and no success
        code := CASE WHEN v_answer.sqlstate ~ '^[0-9A-Z]{5}$' AND v_answer.sqlstate !~ '^0[0-2]' THEN v_answer.sqlstate ELSE '08000' END;
        message := format('server "%s" does not take role "%s": %s', v_server.name, v_role, v_answer.message);
        hint := CASE WHEN code ~ '^28' THEN format('Compare the user mapping of %I with the roles and pg_hba.conf of the server.', v_role)
                     WHEN code ~ '^(08|57P03)' THEN 'It is tried again by itself as soon as something needs it, and by this call.'
                     WHEN code = '42704' THEN format('A user mapping is made with CREATE USER MAPPING FOR %I SERVER %I.', v_role, v_server.name)
                     WHEN v_server.mode = 'agent' THEN 'A server of mode agent has this extension, in the database that is connected to; one that has not can be used in mode direct.'
                     ELSE 'fleet.server_status shows how it is for all roles.' END;
        RETURN;
    END IF;
    lines := ARRAY[format('server "%s" takes role "%s": PostgreSQL %s, mode %s; %s', v_server.name, v_role,
                          (SELECT h.version FROM fleet_catalog.server_health AS h WHERE h.server_id = v_server.server_id), v_server.mode,
                          CASE WHEN v_answer.in_use THEN 'it is in use just now' ELSE 'logged in after ' || v_took END)];
    IF v_server.state <> 'online' THEN
        lines := lines || format('it is %s: nothing new is placed there', v_server.state);
    END IF;
END
$$;

CREATE PROCEDURE fleet.check_server(server text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_found record;
    v_line text;
BEGIN
    SELECT a.lines, a.code, a.message, a.hint INTO v_found FROM fleet_link.ask_server(check_server.server) AS a;
    IF v_found.code IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = v_found.code, MESSAGE = v_found.message, HINT = v_found.hint;
    END IF;
    FOREACH v_line IN ARRAY v_found.lines LOOP
        RAISE INFO '%', v_line;
    END LOOP;
END
$$;
COMMENT ON PROCEDURE fleet.check_server(text)
    IS 'Logs in to a server now, as jobs of the caller would, whatever its state is; says what is there, or raises the error. What waits for that server goes on if it is back';

CREATE FUNCTION fleet.unregister_server(server text, cascade boolean DEFAULT false) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.unregister_server(text, boolean)
    IS 'Removes a server that no task names from the fleet and keeps the foreign server. cascade: drops those tasks. Returns true if fleet.add_server() had created the foreign server';

CREATE FUNCTION fleet_catalog.unregister_server(a_server text, a_cascade boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server fleet_catalog.server := fleet_catalog.change_server(a_server);
    v_uses text;
BEGIN
    PERFORM FROM fleet_catalog.server AS s WHERE s.server_id = v_server.server_id FOR UPDATE; -- who is adding a task that names it comes first
    PERFORM fleet_catalog.check_idle(v_server);
    IF a_cascade THEN
        PERFORM fleet_catalog.drop_part(t.package_id, t.name) FROM fleet_catalog.task AS t WHERE t.server = v_server.name;
    END IF;
    v_uses := fleet_catalog.list_uses(ARRAY(SELECT CASE WHEN fleet_catalog.sees(u.owner) THEN u.what ELSE 'what belongs to others' END
                                              FROM fleet_catalog.uses_of('server', v_server.name) AS u WHERE u.place = 2 GROUP BY 1 ORDER BY 1 LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('cannot remove server "%s" because tasks name it', a_server),
            DETAIL = v_uses, HINT = 'Drop the tasks, or give them another place with fleet.alter_task(); cascade => true drops them.';
    END IF;
    DELETE FROM fleet_catalog.server AS s WHERE s.server_id = v_server.server_id;
    INSERT INTO fleet_catalog.former_server (server_id, name, owner, is_last)
    SELECT v_server.server_id, n.name, v_server.owner, n.i > cardinality(v_server.former_names)
      FROM unnest(v_server.former_names || v_server.name) WITH ORDINALITY AS n (name, i);
    PERFORM fleet_catalog.wake('servers', v_server.server_id);
    RETURN v_server.made_here AND EXISTS (SELECT FROM pg_foreign_server AS f WHERE f.oid = v_server.foreign_server AND f.srvname = v_server.name);
END
$$;

CREATE FUNCTION fleet.remove_server(server text, cascade boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF fleet.unregister_server(remove_server.server, remove_server.cascade) THEN
        EXECUTE format('DROP USER MAPPING IF EXISTS FOR CURRENT_USER SERVER %I', remove_server.server);
        EXECUTE format('DROP SERVER %I', remove_server.server);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet.remove_server(text, boolean)
    IS 'Removes a server that no task names from the fleet, and drops the foreign server if fleet.add_server() had created it. cascade: drops those tasks';

-- ---- foreign servers that change ---------------------------------------------------------------

-- Whoever renames a foreign server renames the server of the fleet, in the same transaction, and what names it.
CREATE FUNCTION fleet_catalog.foreign_server_altered() RETURNS event_trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server record;
BEGIN
    FOR v_server IN SELECT s.server_id, s.name AS old, s.owner, f.srvname AS new FROM fleet_catalog.server AS s
                      JOIN pg_foreign_server AS f ON f.oid = s.foreign_server WHERE f.srvname <> s.name LOOP
        PERFORM fleet_catalog.check_free_name(v_server.new, v_server.owner), fleet_catalog.check_free_name(v_server.new, fleet_catalog.caller());
        IF EXISTS (SELECT FROM fleet_catalog.server AS s WHERE s.name = v_server.new) THEN
            RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('server "%s" is already registered', v_server.new),
                DETAIL = 'Its foreign server was dropped.', HINT = format('Remove it first, with fleet.remove_server(%L).', v_server.new);
        END IF;
        UPDATE fleet_catalog.server AS s SET former_names = array_remove(s.former_names, v_server.new) WHERE v_server.new = ANY (s.former_names);
        UPDATE fleet_catalog.server AS s SET name = v_server.new, named_at = clock_timestamp(), former_names = array_append(array_remove(s.former_names, v_server.old), v_server.old)
         WHERE s.server_id = v_server.server_id;
        PERFORM fleet_catalog.touched('package', u.package_id) FROM (SELECT DISTINCT t.package_id FROM fleet_catalog.task AS t WHERE t.server = v_server.old) AS u;
        UPDATE fleet_catalog.task AS t SET server = v_server.new WHERE t.server = v_server.old;
        PERFORM fleet_catalog.wake('servers', v_server.server_id);
    END LOOP;
END
$$;
CREATE FUNCTION fleet_link.foreign_server_altered() RETURNS event_trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.foreign_server_altered() IS 'Servers of the fleet, and tasks that name them, follow the names of their foreign servers';
CREATE EVENT TRIGGER fleet_foreign_server_altered ON ddl_command_end WHEN TAG IN ('ALTER SERVER')
    EXECUTE FUNCTION fleet_link.foreign_server_altered();
COMMENT ON EVENT TRIGGER fleet_foreign_server_altered IS 'Servers of the fleet follow the names of their foreign servers';

-- The numbers of what was dropped are used again one day, and mean nothing after pg_upgrade.
CREATE FUNCTION fleet_catalog.foreign_server_dropped() RETURNS event_trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE fleet_catalog.server AS s SET foreign_server = 0::oid
     WHERE s.foreign_server IN (SELECT d.objid FROM pg_event_trigger_dropped_objects() AS d WHERE d.classid = 'pg_foreign_server'::regclass);
END
$$;
CREATE FUNCTION fleet_link.foreign_server_dropped() RETURNS event_trigger
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.foreign_server_dropped() IS 'Servers of the fleet whose foreign server is dropped have none';
CREATE EVENT TRIGGER fleet_foreign_server_dropped ON sql_drop WHEN TAG IN ('DROP SERVER', 'DROP FOREIGN DATA WRAPPER', 'DROP EXTENSION', 'DROP OWNED', 'DROP SCHEMA', 'DROP FUNCTION')
    EXECUTE FUNCTION fleet_link.foreign_server_dropped();
COMMENT ON EVENT TRIGGER fleet_foreign_server_dropped IS 'Servers of the fleet whose foreign server is dropped have none';

-- pg_upgrade keeps tables as they are and makes foreign servers anew: those of these names, and not of those that had been dropped.
CREATE FUNCTION fleet_catalog.find_foreign_servers() RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
UPDATE fleet_catalog.server AS s SET foreign_server = f.oid FROM pg_foreign_server AS f
 WHERE f.srvname = s.name AND s.foreign_server <> 0::oid AND s.foreign_server <> f.oid
$$;
COMMENT ON FUNCTION fleet_catalog.find_foreign_servers() IS 'After pg_upgrade: finds the foreign servers of the fleet''s servers again, by their names';

-- ---- deployment --------------------------------------------------------------------------------

-- By the rules of links (src/security.c), which the agent applies again.
CREATE FUNCTION fleet_catalog.cannot_use(a_foreign oid, a_name name, a_role oid) RETURNS text
    LANGUAGE C STABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_cannot_use';
COMMENT ON FUNCTION fleet_catalog.cannot_use(oid, name, oid) IS 'Why links of this role may not be made to a foreign server; null: they may';

-- Of the servers of a group, those that the caller may use; a NOTICE for each other one.
CREATE FUNCTION fleet_catalog.usable_servers(a_ids integer[], a_group text) RETURNS integer[]
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_server record;
    v_usable integer[] := '{}'::integer[];
    v_reasons text[] := '{}'::text[];
BEGIN
    FOR v_server IN SELECT s.server_id, s.name, fleet_catalog.cannot_use(s.foreign_server::oid, s.name, fleet_catalog.caller()) AS why
                      FROM fleet_catalog.server AS s WHERE s.server_id = ANY (a_ids) ORDER BY s.name LOOP
        IF v_server.why IS NULL THEN
            v_usable := v_usable || v_server.server_id;
        ELSE
            v_reasons := v_reasons || v_server.why;
        END IF;
    END LOOP;
    IF v_usable = '{}' THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('no server of group "%s" can be used', a_group),
            DETAIL = array_to_string(v_reasons[1:10], E'\n'),
            HINT = format('Ask the owners of the servers for GRANT USAGE ON FOREIGN SERVER and a user mapping for %I.', pg_get_userbyid(fleet_catalog.caller()));
    END IF;
    FOR i IN 1 .. cardinality(v_reasons) LOOP
        RAISE NOTICE USING MESSAGE = format('skipping a server of group "%s"', a_group), DETAIL = v_reasons[i];
    END LOOP;
    RETURN v_usable;
END
$$;

-- The servers that a deployment is for, and those of them that the caller may use.
CREATE FUNCTION fleet_catalog.deploy_to(a_server text, a_on_group text, OUT ids integer[], OUT usable integer[]) RETURNS record
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF num_nonnulls(a_on_group, a_server) <> 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a job must be deployed either to a server or to a group',
            DETAIL = CASE WHEN a_server IS NULL THEN 'Neither was given.' ELSE 'Both were given.' END,
            HINT = 'Specify exactly one of the arguments "server" and "on_group".';
    END IF;
    IF a_server IS NOT NULL THEN
        ids := ARRAY[(fleet_catalog.get_server(a_server)).server_id];
        usable := ids;
    ELSE
        ids := (SELECT array_agg(s.server_id ORDER BY s.name) FROM fleet_catalog.server AS s WHERE a_on_group = ANY (s.groups));
        IF ids IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('group "%s" has no servers', a_on_group),
                HINT = 'Add servers to it with fleet.alter_server(server, groups => ...).';
        END IF;
        usable := fleet_catalog.usable_servers(ids, a_on_group);
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.deploy_to(text, text) IS 'Servers by name or group, for a deployment';

CREATE FUNCTION fleet.deploy_job(job text, server text DEFAULT NULL, on_group text DEFAULT NULL, replace boolean DEFAULT false)
    RETURNS TABLE (server name, state text)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.deploy_job(text, text, text, boolean)
    IS 'Deploys a job, with the packages that it runs, to a server or to the servers of a group; the outcome is in fleet.deployment. replace: also where another parent has deployed it';

CREATE FUNCTION fleet_catalog.deploy_job(a_job text, a_server text, a_on_group text, a_replace boolean) RETURNS TABLE (server name, state text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_body jsonb;
    v_hash uuid;
    v_to record;
BEGIN
    PERFORM fleet_catalog.get_job(a_job);
    PERFORM fleet_catalog.check_given('replace', a_replace::text);
    v_to := fleet_catalog.deploy_to(a_server, a_on_group);
    v_body := fleet_catalog.job_body(a_job, '{}');
    PERFORM fleet_catalog.check_job_body(v_body);
    v_hash := fleet_catalog.content_hash(v_body::text);
    -- A direct server has nothing to deploy to: its links bring the steps along.
    INSERT INTO fleet_catalog.deployment (server_id, job, owner, hash, document, action)
    SELECT s.server_id, a_job, fleet_catalog.caller(), v_hash, v_body, CASE WHEN a_replace THEN 'replace' ELSE 'deploy' END
      FROM fleet_catalog.server AS s WHERE s.server_id = ANY (v_to.usable) AND s.mode = 'agent';
    IF FOUND THEN
        PERFORM fleet_catalog.wake('deployments', 0);
    END IF;
    RETURN QUERY SELECT s.name, CASE WHEN s.server_id <> ALL (v_to.usable) THEN 'skipped' WHEN s.mode = 'agent' THEN 'queued' ELSE 'not needed' END
                   FROM fleet_catalog.server AS s WHERE s.server_id = ANY (v_to.ids) ORDER BY s.name;
END
$$;

-- The newest request for each server and job: what the agent has not taken up yet comes after all that it has.
CREATE FUNCTION fleet_catalog.newest_deployments() RETURNS SETOF fleet_catalog.deployment
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT DISTINCT ON (d.server_id, d.job) d.* FROM fleet_catalog.deployment AS d
 ORDER BY d.server_id, d.job, d.state = 'queued' DESC, d.deployment_id DESC
$$;
COMMENT ON FUNCTION fleet_catalog.newest_deployments() IS 'The newest request for each server and job';

CREATE FUNCTION fleet.undeploy_job(job text, server text DEFAULT NULL, on_group text DEFAULT NULL) RETURNS TABLE (server name, state text)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.undeploy_job(text, text, text)
    IS 'Removes a deployed job, with its packages, from a server or from the servers of a group; the outcome is in fleet.deployment';

-- The job may have been dropped here: then whoever deployed it may remove it.
CREATE FUNCTION fleet_catalog.undeploy_job(a_job text, a_server text, a_on_group text) RETURNS TABLE (server name, state text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
    v_to record;
BEGIN
    IF EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = a_job)
       OR NOT EXISTS (SELECT FROM fleet_catalog.deployment AS d WHERE d.job = a_job AND fleet_catalog.may_use(d.owner)) THEN
        PERFORM fleet_catalog.get_job(a_job);
    END IF;
    v_to := fleet_catalog.deploy_to(a_server, a_on_group);
    INSERT INTO fleet_catalog.deployment (server_id, job, owner, hash, document, action, deployed_at)
    SELECT s.server_id, a_job, fleet_catalog.caller(), coalesce(d.hash, '00000000-0000-0000-0000-000000000000'),
           jsonb_build_object('name', a_job), 'undeploy', d.deployed_at
      FROM fleet_catalog.server AS s
      LEFT JOIN fleet_catalog.newest_deployments() AS d ON d.server_id = s.server_id AND d.job = a_job AND d.state <> 'removed'
     WHERE s.server_id = ANY (v_to.usable) AND s.mode = 'agent';
    IF FOUND THEN
        PERFORM fleet_catalog.wake('deployments', 0);
    END IF;
    RETURN QUERY SELECT s.name, CASE WHEN s.server_id <> ALL (v_to.usable) THEN 'skipped' WHEN s.mode = 'agent' THEN 'queued' ELSE 'not needed' END
                   FROM fleet_catalog.server AS s WHERE s.server_id = ANY (v_to.ids) ORDER BY s.name;
END
$$;

-- Where the version of a job that a document has is not deployed, on servers of mode agent that its tasks may come to.
CREATE FUNCTION fleet_catalog.not_deployed(a_body jsonb) RETURNS TABLE (server text, job text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
WITH RECURSIVE package (body) AS (
    SELECT a_body
     UNION ALL
    SELECT n.value FROM package AS p, jsonb_each(p.body -> 'packages') AS n
), task AS (
    SELECT DISTINCT t ->> 'job' AS job, t ->> 'server' AS server, t ->> 'on_group' AS on_group,
           fleet_catalog.content_hash((p.body -> 'jobs' -> (t ->> 'job'))::text) AS hash
      FROM package AS p, jsonb_array_elements(p.body -> 'tasks') AS t
     WHERE p.body -> 'jobs' ? (t ->> 'job') AND NOT coalesce(p.body -> 'by_name' ? (t ->> 'job'), false) AND NOT t ? 'left_out'
)
SELECT DISTINCT s.name::text, t.job
  FROM task AS t JOIN fleet_catalog.server AS s ON s.mode = 'agent' AND (s.name = t.server OR t.on_group = ANY (s.groups))
 WHERE NOT EXISTS (SELECT FROM fleet_catalog.newest_deployments() AS d
                    WHERE d.server_id = s.server_id AND d.job = t.job AND d.hash = t.hash AND d.state = 'deployed')
 ORDER BY 1, 2
$$;
COMMENT ON FUNCTION fleet_catalog.not_deployed(jsonb) IS 'Servers and jobs of a package''s document of which this version is not deployed there';

CREATE FUNCTION fleet_catalog.check_deployed(a_body jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_count bigint;
    v_first text;
BEGIN
    SELECT count(*), string_agg(format('Server "%s": job "%s".', x.server, x.job), ' ' ORDER BY x.n) FILTER (WHERE x.n <= 10) INTO v_count, v_first
      FROM (SELECT d.*, row_number() OVER (ORDER BY d.server, d.job) AS n FROM fleet_catalog.not_deployed(a_body) AS d) AS x;
    IF v_count > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('package "%s" needs versions of jobs that are not deployed', a_body ->> 'name'),
            DETAIL = v_first || CASE WHEN v_count > 10 THEN format(' And %s more.', v_count - 10) ELSE '' END,
            HINT = 'Deploy them with fleet.deploy_job(), or run the package without require_deployed: it sends what is missing.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_deployed(jsonb) IS 'Error unless all jobs of a package''s document are deployed where its tasks may come to';

-- Null: it has none.  Two sessions that each make a package run another one at the same time can make a circle, which no run begins.
CREATE FUNCTION fleet_catalog.present_hash(a_job text) RETURNS uuid
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN fleet_catalog.content_hash(fleet_catalog.job_body(a_job, '{}')::text);
EXCEPTION WHEN invalid_object_definition OR program_limit_exceeded THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION fleet_catalog.present_hash(text) IS 'Hash of the present version of a job';

CREATE FUNCTION fleet_link.deployment_list() RETURNS TABLE (server name, job text, state text, drift boolean, hash uuid, owner name,
                                                       requested_at timestamptz, deployed_at timestamptz, message text)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.deployment_list() IS 'What fleet.deployment shows';

CREATE FUNCTION fleet_catalog.deployment_list() RETURNS TABLE (server name, job text, state text, drift boolean, hash uuid, owner name,
                                                               requested_at timestamptz, deployed_at timestamptz, message text)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
WITH visible AS MATERIALIZED (
    SELECT n.* FROM fleet_catalog.newest_deployments() AS n WHERE fleet_catalog.sees(n.owner)
), present AS MATERIALIZED (
    SELECT j.name, fleet_catalog.present_hash(j.name) AS hash
      FROM fleet_catalog.job AS j WHERE j.name IN (SELECT v.job FROM visible AS v)
)
SELECT s.name, v.job, v.state, v.state <> 'removed' AND p.hash IS DISTINCT FROM v.hash, v.hash, pg_get_userbyid(v.owner), v.requested_at, v.deployed_at, v.message
  FROM visible AS v JOIN fleet_catalog.server AS s ON s.server_id = v.server_id LEFT JOIN present AS p ON p.name = v.job
 ORDER BY v.job, s.name
$$;
