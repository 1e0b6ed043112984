-- 29_container.sql: containers, which are tasks that have tasks of their own.
--
-- The tasks in a container are the tasks of a package that belongs to the container's task: package.container_of and
-- container_task say to which, root_id to which package of a user in the end.  Its name is a path ('nightly/stage'), and the
-- container's task names it as a nested package is named.  So documents, runs, restarts, recovery and learned durations are
-- those of nested packages.  It has the owner of the package that it is in, is never named by a user, and is renamed and
-- dropped with its task; triggers see to that, whoever changes the task.
--
-- A user names a task in a container by its path from the package: 'stage/load'.

CREATE FUNCTION fleet_catalog.refuse_container(a_package fleet_catalog.package) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_root text := (SELECT r.name FROM fleet_catalog.package AS r WHERE r.package_id = a_package.root_id);
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('"%s" is not a package but a container', a_package.name),
        DETAIL = format('It is task "%s" of package "%s".', substr(a_package.name, length(v_root) + 2), v_root),
        HINT = format('Name package "%s", and its tasks by their paths.', v_root);
END
$$;
COMMENT ON FUNCTION fleet_catalog.refuse_container(fleet_catalog.package) IS 'Raises the error for a container that is named as a package';

-- ---- names and places --------------------------------------------------------------------------

-- What its tasks' paths begin with.
CREATE FUNCTION fleet_catalog.prefix_of(a_package fleet_catalog.package) RETURNS text
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT CASE WHEN a_package.root_id IS NULL THEN ''
            ELSE substr(a_package.name, length((SELECT r.name FROM fleet_catalog.package AS r WHERE r.package_id = a_package.root_id)) + 2) || '/' END
$$;
COMMENT ON FUNCTION fleet_catalog.prefix_of(fleet_catalog.package) IS 'Path of a container with a / behind it; of a package that is none: nothing';

CREATE FUNCTION fleet_catalog.path_in(a_root text, a_container text, a_task text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce(pg_catalog.substr(a_container, pg_catalog.length(a_root) + 2) || '/', '') || a_task;
COMMENT ON FUNCTION fleet_catalog.path_in(text, text, text) IS 'Path of a task, from the names of its package (null: it is in no container) and its container';

-- All tasks of a package, those in its containers too; ord: the numbers of the containers and of the task.
CREATE FUNCTION fleet_catalog.tree(a_package_id integer)
    RETURNS TABLE (package_id integer, task_no integer, path text, ord integer[], container_id integer, container_path text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
WITH RECURSIVE part (package_id, path, ord) AS (
    SELECT a_package_id, NULL::text, '{}'::integer[]
     UNION ALL
    SELECT c.package_id, concat_ws('/', p.path, t.name), p.ord || t.task_no
      FROM part AS p
      JOIN fleet_catalog.package AS c ON c.container_of = p.package_id
      JOIN fleet_catalog.task AS t ON t.package_id = p.package_id AND t.name = c.container_task)
SELECT t.package_id, t.task_no, concat_ws('/', p.path, t.name), p.ord || t.task_no, c.package_id, p.path
  FROM part AS p
  JOIN fleet_catalog.task AS t ON t.package_id = p.package_id
  LEFT JOIN fleet_catalog.package AS c ON c.container_of = t.package_id AND c.container_task = t.name
 ORDER BY 4
$$;
COMMENT ON FUNCTION fleet_catalog.tree(integer) IS 'The tasks of a package and of its containers, in order; container_id: what is in the task, if it is a container';

CREATE FUNCTION fleet_catalog.in_disabled(a_package_id integer) RETURNS TABLE (path text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT i.path
  FROM fleet_catalog.tree(a_package_id) AS o
  JOIN fleet_catalog.task AS t ON t.package_id = o.package_id AND t.task_no = o.task_no AND NOT t.enabled
  JOIN fleet_catalog.tree(a_package_id) AS i ON starts_with(i.path, o.path || '/')
 WHERE o.container_id IS NOT NULL
$$;
COMMENT ON FUNCTION fleet_catalog.in_disabled(integer) IS 'Tasks in containers that are disabled';

CREATE FUNCTION fleet_catalog.check_task_name(a_task text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name('task', a_task);
    IF '' = ANY (string_to_array(a_task, '/')) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = format('"%s" is not a valid task name', a_task),
            DETAIL = 'A name before or behind a "/" is empty.',
            HINT = 'A "/" stands between the name of a container and the name of a task in it.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_task_name(text) IS 'Raises an error unless this can be the name or path of a task';

-- What a path leads to: the package or container that the task is in, and its name there.  Whether it is there is not asked.
CREATE FUNCTION fleet_catalog.place(a_package fleet_catalog.package, a_path text, OUT package_id integer, OUT task text) RETURNS record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_parts text[] := string_to_array(a_path, '/');
    v_next integer;
BEGIN
    PERFORM fleet_catalog.check_task_name(a_path);
    package_id := a_package.package_id;
    FOR i IN 1 .. cardinality(v_parts) - 1 LOOP
        SELECT c.package_id INTO v_next FROM fleet_catalog.package AS c WHERE c.container_of = place.package_id AND c.container_task = v_parts[i];
        IF NOT FOUND THEN
            PERFORM fleet_catalog.no_such_container(a_package, package_id, array_to_string(v_parts[:i], '/'), v_parts[i]);
        END IF;
        package_id := v_next;
    END LOOP;
    task := v_parts[cardinality(v_parts)];
END
$$;
COMMENT ON FUNCTION fleet_catalog.place(fleet_catalog.package, text) IS 'The package or container in which a task with this path is or would be, and its name there';

CREATE FUNCTION fleet_catalog.no_such_container(a_package fleet_catalog.package, a_in integer, a_path text, a_name text) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_in AND t.name = a_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('task "%s" of package "%s" is not a container', a_path, a_package.name),
            HINT = 'Only a task that was added with container => true has tasks of its own.';
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" has no container "%s"', a_package.name, a_path),
        HINT = format('Add it first: SELECT fleet.add_task(%L, %L, container => true). A "/" in the name of a task separates a container from a task in it.', a_package.name, a_path);
END
$$;
COMMENT ON FUNCTION fleet_catalog.no_such_container(fleet_catalog.package, integer, text, text) IS 'Raises the error for a path that leads through what is no container';

CREATE FUNCTION fleet_catalog.get_part(a_package_id integer) RETURNS fleet_catalog.package
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT p FROM fleet_catalog.package AS p WHERE p.package_id = a_package_id
$$;
COMMENT ON FUNCTION fleet_catalog.get_part(integer) IS 'A package or container by its number';

-- The two ends of a precedence constraint must be in the same container.  A name without a "/" is that of a task beside the
-- one that waits, or (where there is none of that name) a path from the package.
CREATE FUNCTION fleet_catalog.edge_from(a_package fleet_catalog.package, a_holder integer, a_from text, a_to text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_from record;
    v_to_path text;
    v_a text[];
    v_b text[];
    v_level integer := 1;
BEGIN
    IF a_holder = a_package.package_id AND strpos(coalesce(a_from, ''), '/') = 0
       OR EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_holder AND t.name = a_from) THEN
        RETURN a_from;
    END IF;
    v_from := fleet_catalog.place(a_package, a_from);
    IF NOT EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = v_from.package_id AND t.name = v_from.task) THEN
        PERFORM fleet_catalog.no_such_task(a_package, a_from);
    ELSIF v_from.package_id = a_holder THEN
        RETURN v_from.task;
    END IF;
    v_to_path := fleet_catalog.prefix_of(fleet_catalog.get_part(a_holder)) || a_to;
    v_a := string_to_array(a_from, '/');
    v_b := string_to_array(v_to_path, '/');
    WHILE v_a[v_level] = v_b[v_level] LOOP
        v_level := v_level + 1;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition',
        MESSAGE = format('a precedence constraint from "%s" to "%s" would cross the border of a container', a_from, v_to_path),
        DETAIL = 'Both tasks of a precedence constraint are in the same container, or in none.',
        HINT = CASE WHEN v_a[v_level] IS NULL OR v_b[v_level] IS NULL THEN 'The tasks in a container begin after it began, and it ends after them: no constraint is needed.'
                    ELSE format('Let task "%s" come after task "%s".', array_to_string(v_b[:v_level], '/'), array_to_string(v_a[:v_level], '/')) END;
END
$$;
COMMENT ON FUNCTION fleet_catalog.edge_from(fleet_catalog.package, integer, text, text) IS 'Name of the task that a constraint comes from, in the container of the task that it leads to';

-- ---- what a name means inside ----------------------------------------------------------------

-- Of fleet.output() and of templates: a task of the container itself, or else of the one around it, and so on; or a path from
-- there.  in_loop: the container on the way that is a loop, and that the reader is not in: nobody can tell which of its runs.
CREATE FUNCTION fleet_catalog.named_task(a_holder integer, a_name text, OUT package_id integer, OUT task text, OUT in_loop text) RETURNS record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_parts text[] := string_to_array(a_name, '/');
    v_around integer[] := '{}'::integer[];
    v_from integer := a_holder;
    v_next record;
BEGIN
    task := v_parts[cardinality(v_parts)];
    WHILE v_from IS NOT NULL LOOP
        v_around := v_around || v_from;
        package_id := v_from;
        in_loop := NULL;
        FOR i IN 1 .. cardinality(v_parts) - 1 LOOP
            SELECT c.package_id, t.for_each IS NOT NULL AS is_loop INTO v_next
              FROM fleet_catalog.package AS c JOIN fleet_catalog.task AS t ON t.package_id = c.container_of AND t.name = c.container_task
             WHERE c.container_of = named_task.package_id AND c.container_task = v_parts[i];
            package_id := v_next.package_id;
            EXIT WHEN package_id IS NULL;
            IF v_next.is_loop AND package_id <> ALL (v_around) THEN
                in_loop := array_to_string(v_parts[:i], '/');
            END IF;
        END LOOP;
        IF EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = named_task.package_id AND t.name = named_task.task) THEN
            RETURN;
        END IF;
        v_from := (SELECT p.container_of FROM fleet_catalog.package AS p WHERE p.package_id = v_from);
    END LOOP;
    package_id := NULL;
END
$$;
COMMENT ON FUNCTION fleet_catalog.named_task(integer, text) IS 'What a name or path means for the tasks of a package or container; package_id null: nothing';

-- ---- life --------------------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.check_container_name(a_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF length(a_name) > 200 THEN
        RAISE EXCEPTION USING ERRCODE = 'name_too_long', MESSAGE = 'path of a container is too long',
            DETAIL = format('With the name of the package, "%s..." has %s characters.', left(a_name, 60), length(a_name)), HINT = 'At most 200 are allowed.';
    ELSIF EXISTS (SELECT FROM fleet_catalog.package AS p WHERE p.name = a_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('package "%s" already exists', a_name),
            DETAIL = 'A container is known by the name of its package, a "/" and its path.', HINT = 'Choose another name for the container.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_container_name(text) IS 'Raises an error unless a container can be known by this name';

-- What is in a new container: nothing yet.  Returns the name by which its task refers to it.
CREATE FUNCTION fleet_catalog.make_container(a_package_id integer, a_task text) RETURNS text
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_in fleet_catalog.package := fleet_catalog.get_part(a_package_id);
    v_name text := v_in.name || '/' || a_task;
BEGIN
    PERFORM fleet_catalog.check_container_name(v_name);
    INSERT INTO fleet_catalog.package (name, owner, container_of, container_task, root_id)
    VALUES (v_name, v_in.owner, v_in.package_id, a_task, coalesce(v_in.root_id, v_in.package_id));
    RETURN v_name;
END
$$;
COMMENT ON FUNCTION fleet_catalog.make_container(integer, text) IS 'Makes what a container''s task refers to';

CREATE FUNCTION fleet_catalog.container_follows() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM fleet_catalog.package AS c WHERE c.container_of = OLD.package_id AND c.container_task = OLD.name;
    ELSIF NEW.name <> OLD.name THEN
        UPDATE fleet_catalog.package AS c
           SET container_task = NEW.name, name = (SELECT p.name FROM fleet_catalog.package AS p WHERE p.package_id = c.container_of) || '/' || NEW.name
         WHERE c.container_of = OLD.package_id AND c.container_task = OLD.name;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION fleet_catalog.container_follows() IS 'What is in a container is renamed and dropped with its task';
CREATE TRIGGER container_follows AFTER DELETE OR UPDATE OF name ON fleet_catalog.task
    FOR EACH ROW EXECUTE FUNCTION fleet_catalog.container_follows();

CREATE FUNCTION fleet_catalog.package_follows() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW.container_of IS NOT NULL AND NEW.name <> OLD.name THEN
        PERFORM fleet_catalog.check_container_name(NEW.name);
        INSERT INTO fleet_catalog.renaming (kind, old_name, new_name) VALUES ('package', OLD.name, NEW.name); -- what was learned of its tasks
        UPDATE fleet_catalog.task AS t SET package = NEW.name WHERE t.package_id = NEW.container_of AND t.name = NEW.container_task;
    END IF;
    IF NEW.name <> OLD.name OR NEW.owner::oid <> OLD.owner::oid THEN
        UPDATE fleet_catalog.package AS c SET name = NEW.name || '/' || c.container_task, owner = NEW.owner WHERE c.container_of = NEW.package_id;
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION fleet_catalog.package_follows() IS 'Containers have the owner, and in their names the name, of what they are in';
CREATE TRIGGER package_follows BEFORE UPDATE OF name, owner ON fleet_catalog.package
    FOR EACH ROW EXECUTE FUNCTION fleet_catalog.package_follows();

CREATE FUNCTION fleet_catalog.drop_part(a_package_id integer, a_task text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_in fleet_catalog.package := fleet_catalog.get_part(a_package_id);
BEGIN
    PERFORM fleet_catalog.drop_task((fleet_catalog.get_part(coalesce(v_in.root_id, v_in.package_id))).name, fleet_catalog.prefix_of(v_in) || a_task, false);
END
$$;
COMMENT ON FUNCTION fleet_catalog.drop_part(integer, text) IS 'Drops a task by the package or container that it is in';
