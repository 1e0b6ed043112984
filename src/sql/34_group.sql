-- 34_group.sql: groups of servers.
--
-- A task on a group gives its steps and parameters to servers that others have put into it.  So a group has an
-- owner, who used its name first, in a task or for a server, and only members of that role put servers into it.

CREATE FUNCTION fleet_catalog.claim_group(a_name text) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
INSERT INTO fleet_catalog.server_group (name, owner)
SELECT a_name, fleet_catalog.caller()
 WHERE NOT EXISTS (SELECT FROM fleet_catalog.server_group AS g WHERE g.name = a_name) ON CONFLICT DO NOTHING
$$;
COMMENT ON FUNCTION fleet_catalog.claim_group(text) IS 'The name of a group is used: it is the caller''s if it has not been used before';

-- Whose it is does not matter, but it stays until COMMIT.
CREATE FUNCTION fleet_catalog.use_group(a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    LOOP
        PERFORM fleet_catalog.claim_group(a_name);
        PERFORM FROM fleet_catalog.server_group AS g WHERE g.name = a_name FOR KEY SHARE;
        EXIT WHEN FOUND; -- else it was dropped in between
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.use_group(text) IS 'A task or a server names this group';

-- Whoever had the name first may have waited for this.
CREATE FUNCTION fleet_catalog.warn_of_group(a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_owner name;
BEGIN
    SELECT r.rolname INTO v_owner FROM fleet_catalog.server_group AS g JOIN pg_roles AS r ON r.oid = g.owner
     WHERE g.name = a_name AND NOT fleet_catalog.may_use(g.owner) AND NOT r.rolsuper AND NOT pg_has_role(r.oid, 'fleet_operator', 'MEMBER');
    IF FOUND THEN
        RAISE NOTICE USING MESSAGE = format('group "%s" belongs to role "%s"', a_name, v_owner),
            DETAIL = 'Members of that role decide which servers execute the task, with its SQL and its parameters.';
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.deny_group(a_group fleet_catalog.server_group) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.oid = a_group.owner) THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('permission denied for group "%s"', a_group.name),
            DETAIL = 'The role that it belonged to no longer exists.',
            HINT = 'A superuser or a member of fleet_operator can give it another owner with fleet.alter_group().';
    END IF;
    PERFORM fleet_catalog.deny('group', a_group.name, a_group.owner);
END
$$;

-- The servers of the caller come into these groups.
CREATE FUNCTION fleet_catalog.enter_groups(a_names text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_group fleet_catalog.server_group;
BEGIN
    PERFORM fleet_catalog.use_group(n.name) FROM (SELECT DISTINCT u.name FROM unnest(a_names) AS u (name) ORDER BY u.name) AS n;
    SELECT g.* INTO v_group FROM fleet_catalog.server_group AS g
     WHERE g.name = ANY (a_names) AND NOT fleet_catalog.may_use(g.owner) ORDER BY g.name LIMIT 1;
    IF FOUND THEN
        PERFORM fleet_catalog.deny_group(v_group);
    END IF;
END
$$;

CREATE FUNCTION fleet_catalog.change_group(a_name text) RETURNS fleet_catalog.server_group
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_group fleet_catalog.server_group;
BEGIN
    SELECT g.* INTO v_group FROM fleet_catalog.server_group AS g WHERE g.name = a_name FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.check_name('group', a_name);
        RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('group "%s" does not exist', a_name),
            HINT = fleet_catalog.known((SELECT array_agg(g.name ORDER BY g.name) FROM fleet_catalog.server_group AS g
                                         WHERE fleet_catalog.sees(g.owner)), 'fleet.create_group()');
    END IF;
    IF NOT fleet_catalog.may_use(v_group.owner) THEN
        PERFORM fleet_catalog.deny_group(v_group);
    END IF;
    RETURN v_group;
END
$$;
COMMENT ON FUNCTION fleet_catalog.change_group(text) IS 'A group that is about to be changed, locked';

CREATE FUNCTION fleet.create_group(name text, owner text DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.create_group(text, text) IS 'Creates a group of servers, of the caller''s or of another role that he is a member of; only its members put servers into it';

CREATE FUNCTION fleet_catalog.create_group(a_name text, a_owner text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_owner regrole := CASE WHEN a_owner IS NULL THEN fleet_catalog.caller() ELSE fleet_catalog.get_role(a_owner) END;
BEGIN
    PERFORM fleet_catalog.check_name('group', a_name);
    INSERT INTO fleet_catalog.server_group (name, owner) VALUES (a_name, v_owner) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('group "%s" already exists', a_name),
            DETAIL = 'A group exists as soon as its name is used, by a server or by a task.',
            HINT = 'Its owner can give it to another role with fleet.alter_group().';
    END IF;
END
$$;

CREATE FUNCTION fleet.alter_group(name text, owner text DEFAULT NULL, remove_servers text[] DEFAULT NULL, new_name text DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_group(text, text, text[], text)
    IS 'Changes a group of servers: gives it to another role, takes servers out of it, whoever they belong to, gives it another name, which its servers and tasks follow; arguments that are null leave things as they are';

CREATE FUNCTION fleet_catalog.alter_group(a_name text, a_owner text, a_remove_servers text[], a_new_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_group fleet_catalog.server_group := fleet_catalog.change_group(a_name);
    v_server text;
BEGIN
    IF a_owner IS NOT NULL THEN
        UPDATE fleet_catalog.server_group AS g SET owner = fleet_catalog.get_role(a_owner) WHERE g.name = v_group.name;
    END IF;
    FOREACH v_server IN ARRAY coalesce(a_remove_servers, '{}') LOOP
        UPDATE fleet_catalog.server AS s SET groups = array_remove(s.groups, v_group.name) WHERE s.name = v_server::name AND v_group.name = ANY (s.groups);
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('server "%s" is not in group "%s"', v_server, v_group.name),
                HINT = 'Look into fleet.group.';
        END IF;
    END LOOP;
    IF a_new_name <> v_group.name THEN
        PERFORM fleet_catalog.rename_group(v_group.name, a_new_name);
    END IF;
    IF a_remove_servers <> '{}' OR a_new_name <> v_group.name THEN
        PERFORM fleet_catalog.wake('servers', 0);
    END IF;
END
$$;

CREATE FUNCTION fleet.drop_group(name text, if_exists boolean DEFAULT false, cascade boolean DEFAULT false) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.drop_group(text, boolean, boolean)
    IS 'Drops a group that no server, task or open run uses: its name is free for whoever uses it next. cascade: takes its servers out of it, and drops the tasks that it has. Returns false if there was no such group';

-- What uses a group, for the error of drop_group.
CREATE FUNCTION fleet_catalog.uses_of_group(a_name text) RETURNS TABLE (place integer, what text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT 1, format('server "%s"', s.name) FROM fleet_catalog.server AS s WHERE a_name = ANY (s.groups)
UNION ALL
SELECT u.place, u.what FROM fleet_catalog.uses_of('on_group', a_name) AS u
$$;

CREATE FUNCTION fleet_catalog.drop_group(a_name text, a_if_exists boolean, a_cascade boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_group fleet_catalog.server_group;
    v_uses text;
BEGIN
    PERFORM fleet_catalog.check_name('group', a_name);
    IF a_if_exists AND NOT EXISTS (SELECT FROM fleet_catalog.server_group AS g WHERE g.name = a_name) THEN
        RETURN false;
    END IF;
    v_group := fleet_catalog.change_group(a_name);
    IF a_cascade THEN
        PERFORM fleet_catalog.drop_part(t.package_id, t.name) FROM fleet_catalog.task AS t WHERE t.on_group = v_group.name;
        UPDATE fleet_catalog.server AS s SET groups = array_remove(s.groups, v_group.name) WHERE v_group.name = ANY (s.groups);
        PERFORM fleet_catalog.wake('servers', 0);
    END IF;
    v_uses := fleet_catalog.list_uses(ARRAY(SELECT u.what FROM fleet_catalog.uses_of_group(v_group.name) AS u ORDER BY u.place, u.what LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('cannot drop group "%s" because it is used', a_name),
            DETAIL = v_uses,
            HINT = CASE WHEN a_cascade THEN 'Wait for the end of the runs.'
                        ELSE 'Take its servers out of it with fleet.alter_server(server, groups => ...), and drop the tasks; cascade => true does both.' END;
    END IF;
    DELETE FROM fleet_catalog.server_group AS g WHERE g.name = v_group.name;
    RETURN true;
END
$$;

-- A run that is open has the old name in its document, and would find no server.
CREATE FUNCTION fleet_catalog.rename_group(a_name text, a_new_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_uses text;
BEGIN
    PERFORM fleet_catalog.check_new_name('group', a_new_name, EXISTS (SELECT FROM fleet_catalog.server_group AS g WHERE g.name = a_new_name));
    v_uses := fleet_catalog.list_uses(ARRAY(SELECT u.what FROM fleet_catalog.uses_of('on_group', a_name) AS u WHERE u.place > 2 ORDER BY u.place, u.what LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = format('cannot rename group "%s" because open runs use it', a_name),
            DETAIL = v_uses, HINT = 'Wait for the end of the runs.';
    END IF;
    UPDATE fleet_catalog.server_group AS g SET name = a_new_name, named_at = clock_timestamp() WHERE g.name = a_name; -- its pause follows
    UPDATE fleet_catalog.server AS s SET groups = array_replace(s.groups, a_name, a_new_name) WHERE a_name = ANY (s.groups);
    PERFORM fleet_catalog.touched('package', u.package_id) FROM (SELECT DISTINCT t.package_id FROM fleet_catalog.task AS t WHERE t.on_group = a_name) AS u;
    UPDATE fleet_catalog.task AS t SET on_group = a_new_name WHERE t.on_group = a_name;
END
$$;
