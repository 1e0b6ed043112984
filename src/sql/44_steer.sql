-- 44_steer.sql: what is asked of a run while it goes on: to skip a task, to start one that failed once more.
--
-- Sessions insert requests and look at states only to say at once what cannot be; the agent decides (src/agent/steer.c).
-- A skip stays as a fact of the run; a retry is deleted by the agent in the transaction in which it has its effect.

-- The open run that something is asked of, for whoever may cancel it; a_again: what to do if it has ended.
CREATE FUNCTION fleet_catalog.steered_run(a_run_id bigint) RETURNS fleet_catalog.run
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run fleet_catalog.run;
BEGIN
    SELECT r.* INTO v_run FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id;
    PERFORM fleet_catalog.check_may_cancel('run', a_run_id, v_run.owner);
    IF fleet_catalog.is_final(v_run.state) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s has ended', a_run_id),
            DETAIL = format('It is %s.', fleet_catalog.state_name(v_run.state)),
            HINT = CASE WHEN v_run.parent_run_id IS NOT NULL THEN format('It is a part of run %s: ask that one, if it still runs.', v_run.parent_run_id)
                        WHEN v_run.state = fleet_catalog.state_code('succeeded') THEN format('To run a task and all that follows it again, use fleet.restart_run(%s, from_task => ...).', a_run_id)
                        ELSE format('Use fleet.restart_run(%s): what succeeded is carried over.', a_run_id) END;
    ELSIF v_run.state = fleet_catalog.state_code('canceling') OR EXISTS (SELECT FROM fleet_catalog.cancel_request AS c WHERE c.run_id = a_run_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s is being canceled', a_run_id),
            HINT = format('When it has ended, use fleet.restart_run(%s).', a_run_id);
    END IF;
    RETURN v_run;
END
$$;
COMMENT ON FUNCTION fleet_catalog.steered_run(bigint) IS 'An open run of which the caller may ask something; an error if it is none';

-- What a path leads to in a run that goes on: a task in the nested run of a container.  That of a loop is named by its item:
-- 'loop[3]/load', or 'loop/load' with the item, unless the task itself has a for_each.
CREATE FUNCTION fleet_catalog.steered_place(a_run fleet_catalog.run, a_task text, a_item integer, OUT run_id bigint, OUT task text, OUT item integer) RETURNS record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_run fleet_catalog.run := a_run;
    v_body jsonb := (SELECT d.body FROM fleet_catalog.definition AS d WHERE d.hash = a_run.definition);
    v_plain text := regexp_replace(a_task, '\[\d{1,9}\](?=/)', '', 'g');
    v_head text;
    v_given integer;
    v_no integer;
    v_each boolean;
BEGIN
    run_id := a_run.run_id;
    task := a_task;
    item := a_item;
    IF strpos(coalesce(a_task, ''), '/') = 0 OR EXISTS (SELECT FROM jsonb_array_elements(v_body -> 'tasks') AS t (task) WHERE t.task ->> 'name' = a_task) THEN
        RETURN;
    END IF;
    PERFORM fleet_catalog.check_task_names(v_body, ARRAY[v_plain]);
    WHILE strpos(task, '/') > 0 LOOP
        v_given := substring(split_part(task, '/', 1) FROM '\[(\d{1,9})\]$')::integer;
        v_head := split_part(v_plain, '/', 1);
        v_plain := substr(v_plain, length(v_head) + 2);
        task := substr(task, strpos(task, '/') + 1);
        SELECT d.task_no, d.for_each INTO v_no, v_each FROM fleet_catalog.definition_task AS d WHERE d.hash = v_run.definition AND d.name = v_head;
        v_body := fleet_catalog.container_body(v_body, v_head);
        IF v_each AND v_given IS NULL AND item IS NOT NULL
           AND NOT EXISTS (SELECT FROM jsonb_array_elements(v_body -> 'tasks') AS t (task) WHERE t.task ->> 'name' = v_plain AND t.task ->> 'for_each' IS NOT NULL) THEN
            v_given := item;
            item := NULL;
        END IF;
        IF v_each AND v_given IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('container "%s" of run %s is a loop', v_head, v_run.run_id),
                DETAIL = format('Task "%s" runs once for each of its items.', v_plain), HINT = format('Name the item, as in ''%s[1]/%s''.', v_head, v_plain);
        END IF;
        v_run := fleet_catalog.run_in(v_run, v_no, CASE WHEN v_each THEN v_given ELSE 0 END);
        IF v_run.run_id IS NULL THEN
            RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('container "%s"%s of run %s has not begun', v_head, ' item ' || CASE WHEN v_each THEN v_given END, run_id),
                HINT = 'What is in it can be skipped or retried from then on. The container itself can be skipped before.';
        END IF;
        run_id := v_run.run_id;
    END LOOP;
END
$$;
COMMENT ON FUNCTION fleet_catalog.steered_place(fleet_catalog.run, text, integer) IS 'The run, task and item of which something is asked, by a path from a run';

-- A task of it, or an item: number, state, and what its for_each is.
CREATE FUNCTION fleet_catalog.steered_task(a_run fleet_catalog.run, a_task text, a_item integer,
                                           OUT task_no integer, OUT state smallint, OUT expanded boolean, OUT whole smallint, OUT completion text) RETURNS record
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_body jsonb := (SELECT d.body FROM fleet_catalog.definition AS d WHERE d.hash = a_run.definition);
    v_task jsonb;
BEGIN
    PERFORM fleet_catalog.check_task_names(v_body, ARRAY[a_task]);
    SELECT t.task, (t.n - 1)::integer INTO v_task, task_no FROM jsonb_array_elements(v_body -> 'tasks') WITH ORDINALITY AS t (task, n) WHERE t.task ->> 'name' = a_task;
    completion := v_task ->> 'completion';
    SELECT t.state INTO whole FROM fleet_catalog.task_run AS t WHERE t.run_id = a_run.run_id AND t.task_no = steered_task.task_no AND t.item = 0;
    whole := coalesce(whole, fleet_catalog.state_code('queued'));
    expanded := (v_task ->> 'for_each' IS NOT NULL OR coalesce((v_task ->> 'catch')::boolean, false)) AND whole <> fleet_catalog.state_code('queued')
        AND EXISTS (SELECT FROM fleet_catalog.task_run AS t WHERE t.run_id = a_run.run_id AND t.task_no = steered_task.task_no AND t.item = 1);
    state := whole;
    IF a_item IS NOT NULL THEN
        SELECT t.state INTO state FROM fleet_catalog.task_run AS t
         WHERE t.run_id = a_run.run_id AND t.task_no = steered_task.task_no AND t.item = a_item AND a_item > 0 AND expanded;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('task "%s" of run %s has no item %s', a_task, a_run.run_id, a_item),
                HINT = CASE WHEN v_task ->> 'for_each' IS NULL AND NOT coalesce((v_task ->> 'catch')::boolean, false) THEN 'It has no for_each: leave out the item.'
                            WHEN NOT expanded THEN 'Its items are not known yet.'
                            ELSE 'Items are listed in fleet.task_run, and count from 1.' END;
        END IF;
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.steered_task(fleet_catalog.run, text, integer) IS 'A task of a run, or an item of it, of which something is asked; an error if there is none';

CREATE FUNCTION fleet_catalog.task_text(a_run_id bigint, a_task text, a_item integer) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT format('task "%s"%s of run %s', a_task, ' item ' || a_item, a_run_id)
$$;
COMMENT ON FUNCTION fleet_catalog.task_text(bigint, text, integer) IS 'What messages call a task run';

CREATE FUNCTION fleet.skip_task(run_id bigint, task text, item integer DEFAULT NULL, reason text DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.skip_task(bigint, text, integer, text)
    IS 'Leaves out a task of a run, or an item of its for_each, that has not begun or waits for a retry: it is skipped in its turn, and what follows continues as if it had succeeded';

CREATE FUNCTION fleet_catalog.skip_task(a_run_id bigint, a_task text, a_item integer, a_reason text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_place record := fleet_catalog.steered_place(fleet_catalog.steered_run(a_run_id), a_task, a_item);
    v_task record;
    v_name text;
BEGIN
    a_run_id := v_place.run_id;
    a_task := v_place.task;
    a_item := v_place.item;
    v_name := fleet_catalog.task_text(a_run_id, a_task, a_item);
    v_task := fleet_catalog.steered_task(fleet_catalog.steered_run(a_run_id), a_task, a_item);
    IF fleet_catalog.is_final(v_task.state) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = v_name || ' has ended',
            DETAIL = format('It is %s.', fleet_catalog.state_name(v_task.state)),
            HINT = CASE WHEN fleet_catalog.is_done(v_task.state) THEN 'What follows it is not waiting for it.'
                        ELSE format('Start it once more with fleet.retry_task(%s, ...).', a_run_id) END;
    ELSIF v_task.state NOT IN (fleet_catalog.state_code('queued'), fleet_catalog.state_code('retrying')) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = v_name || ' has begun',
            DETAIL = format('It is %s.', fleet_catalog.state_name(v_task.state)),
            HINT = CASE WHEN v_task.expanded AND a_item IS NULL THEN 'Skip the items that have not begun.'
                        ELSE format('Let it end, or cancel the run with fleet.cancel_run(%s), and restart it.', a_run_id) END;
    END IF;
    INSERT INTO fleet_catalog.skip_request (run_id, task_no, item, reason) VALUES (a_run_id, v_task.task_no, coalesce(a_item, 0), a_reason)
    ON CONFLICT (run_id, task_no, item) DO NOTHING;
    PERFORM fleet_catalog.wake('skip', a_run_id);
END
$$;

CREATE FUNCTION fleet.retry_task(run_id bigint, task text, item integer DEFAULT NULL) RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.retry_task(bigint, text, integer)
    IS 'Starts a task that failed, or an item, once more while its run goes on; what was skipped because of the failure follows the new outcome';

CREATE FUNCTION fleet_catalog.retry_task(a_run_id bigint, a_task text, a_item integer) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c_bad CONSTANT smallint[] := ARRAY[fleet_catalog.state_code('failed'), fleet_catalog.state_code('canceled'),
                                       fleet_catalog.state_code('lost'), fleet_catalog.state_code('unknown')];
    v_place record := fleet_catalog.steered_place(fleet_catalog.steered_run(a_run_id), a_task, a_item);
    v_task record;
    v_name text;
    v_failed boolean;
BEGIN
    a_run_id := v_place.run_id;
    a_task := v_place.task;
    a_item := v_place.item;
    v_name := fleet_catalog.task_text(a_run_id, a_task, a_item);
    v_task := fleet_catalog.steered_task(fleet_catalog.steered_run(a_run_id), a_task, a_item);
    v_failed := v_task.state = ANY (c_bad);
    IF NOT v_failed AND a_item IS NULL AND v_task.state = fleet_catalog.state_code('running') AND v_task.expanded THEN
        v_failed := EXISTS (SELECT FROM fleet_catalog.task_run AS t
                             WHERE t.run_id = a_run_id AND t.task_no = v_task.task_no AND t.item > 0 AND t.state = ANY (c_bad));
    END IF;
    IF NOT v_failed THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = v_name || ' has not failed',
            DETAIL = format('It is %s.', fleet_catalog.state_name(v_task.state)),
            HINT = CASE WHEN v_task.state IN (fleet_catalog.state_code('succeeded'), fleet_catalog.state_code('skipped'))
                        THEN 'To run it again, restart the run from it when the run has ended: fleet.restart_run(run_id, from_task => ...).'
                        ELSE 'Only what has ended failed, canceled, lost or unknown is started once more.' END;
    ELSIF a_item IS NOT NULL AND v_task.completion = 'fail_fast' THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('an item of task "%s" cannot be retried alone', a_task),
            DETAIL = 'Its completion policy is "fail_fast": the first failure has stopped the others.', HINT = 'Leave out the item, to retry all that failed or were stopped.';
    ELSIF a_item IS NOT NULL AND v_task.whole IN (fleet_catalog.state_code('succeeded'), fleet_catalog.state_code('canceling')) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
            MESSAGE = format('task "%s" of run %s is %s', a_task, a_run_id, fleet_catalog.state_name(v_task.whole)),
            HINT = 'Items are started once more while their task is running, or when it has failed.';
    END IF;
    IF EXISTS (SELECT FROM fleet_catalog.run AS r
                 JOIN fleet_catalog.definition_task AS o ON o.hash = r.definition AND o.task_no = v_task.task_no AND NOT o.final
                 JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.final
                 JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id AND t.task_no = d.task_no AND t.state <> fleet_catalog.state_code('queued')
                WHERE r.run_id = a_run_id) THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('the final tasks of run %s have begun', a_run_id),
            DETAIL = 'They begin when no other task can run any more.', HINT = format('When it has ended, use fleet.restart_run(%s).', a_run_id);
    END IF;
    DELETE FROM fleet_catalog.skip_request AS s WHERE s.run_id = a_run_id AND s.task_no = v_task.task_no AND a_item IS NOT DISTINCT FROM NULLIF(s.item, 0);
    INSERT INTO fleet_catalog.retry_request (run_id, task_no, item)
    SELECT a_run_id, v_task.task_no, coalesce(a_item, 0)
     WHERE NOT EXISTS (SELECT FROM fleet_catalog.retry_request AS q WHERE q.run_id = a_run_id AND q.task_no = v_task.task_no AND q.item = coalesce(a_item, 0));
    PERFORM fleet_catalog.wake('retry', a_run_id);
END
$$;

-- For the agent: the task runs that a retry starts once more, as they are; a_item 0 of a for_each: all its items that ended badly.
CREATE FUNCTION fleet_catalog.retried_tasks(a_run_id bigint, a_task_no integer, a_item integer)
    RETURNS TABLE (item integer, server_id integer, attempt smallint, failures smallint, state smallint, log_seq integer, started_at timestamptz)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
SELECT t.item, t.server_id, t.attempt, t.failures, t.state, fleet_catalog.next_seq(t.run_id, t.task_no, t.item, NULL) - 1, t.started_at
  FROM fleet_catalog.task_run AS t
 WHERE t.run_id = a_run_id AND t.task_no = a_task_no AND (t.item = a_item OR a_item = 0) AND t.attempt > 0
   AND t.state IN (fleet_catalog.state_code('failed'), fleet_catalog.state_code('canceled'), fleet_catalog.state_code('lost'), fleet_catalog.state_code('unknown'))
 ORDER BY t.item
$$;
COMMENT ON FUNCTION fleet_catalog.retried_tasks(bigint, integer, integer) IS 'Task runs that a retry starts once more, as they are before it';

-- Items that were stopped before they began have no more than their rows.
CREATE FUNCTION fleet_catalog.requeue_items(a_run_id bigint, a_task_no integer, a_item integer) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
WITH again AS (
    UPDATE fleet_catalog.task_run AS t SET state = fleet_catalog.state_change('task', t.state, fleet_catalog.state_code('queued')),
           finished_at = NULL, sqlstate = NULL, message = NULL
     WHERE t.run_id = a_run_id AND t.task_no = a_task_no AND t.item > 0 AND (t.item = a_item OR a_item = 0) AND t.attempt = 0
       AND t.state IN (fleet_catalog.state_code('failed'), fleet_catalog.state_code('canceled'))
    RETURNING 1)
SELECT count(*) FROM again
$$;
COMMENT ON FUNCTION fleet_catalog.requeue_items(bigint, integer, integer) IS 'Queues items again that had ended before they began';

-- ---- pause -------------------------------------------------------------------------------------

-- A row says that something is paused; the agent reads all of them when it is told.
CREATE FUNCTION fleet_catalog.pause_one(a_run_id bigint, a_package text, a_group text, a_reason text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_said text;
BEGIN
    -- of runs that have ended there is nothing to keep
    DELETE FROM fleet_catalog.pause AS p
     WHERE p.pause_id = ANY (ARRAY(
           SELECT o.pause_id FROM fleet_catalog.pause AS o
            WHERE o.run_id IS NOT NULL AND NOT EXISTS (SELECT FROM fleet_catalog.run AS r WHERE r.run_id = o.run_id AND NOT fleet_catalog.is_final(r.state))
              FOR UPDATE SKIP LOCKED)); -- nobody waits for who tidies up
    INSERT INTO fleet_catalog.pause (run_id, package, on_group, reason) VALUES (a_run_id, a_package, a_group, a_reason) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        SELECT p.said INTO v_said FROM fleet_catalog.pause_said AS p
         WHERE p.run_id IS NOT DISTINCT FROM a_run_id AND p.package IS NOT DISTINCT FROM a_package AND p.on_group IS NOT DISTINCT FROM a_group;
        RAISE NOTICE USING MESSAGE = v_said || ' already';
        RETURN false;
    END IF;
    PERFORM fleet_catalog.wake('pause', 0);
    RETURN true;
END
$$;
COMMENT ON FUNCTION fleet_catalog.pause_one(bigint, text, text, text) IS 'Pauses something; false if it was paused';

CREATE FUNCTION fleet_catalog.resume_one(a_run_id bigint, a_package text, a_group text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM fleet_catalog.pause AS p
     WHERE p.run_id IS NOT DISTINCT FROM a_run_id AND p.package IS NOT DISTINCT FROM a_package AND p.on_group IS NOT DISTINCT FROM a_group;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM fleet_catalog.wake('pause', 0);
    RETURN true;
END
$$;
COMMENT ON FUNCTION fleet_catalog.resume_one(bigint, text, text) IS 'Ends a pause; false if there was none';

-- Who may stop what it does may pause it.
CREATE FUNCTION fleet_catalog.check_may_pause(a_package text, a_group text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_owner oid;
BEGIN
    IF num_nonnulls(a_package, a_group) > 1 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a package and a group cannot be paused or resumed at once',
            HINT = 'Specify "package" or "on_group", or neither for everything.';
    ELSIF a_package IS NOT NULL THEN
        SELECT p.owner::oid INTO v_owner FROM fleet_catalog.package AS p WHERE p.name = a_package AND p.root_id IS NULL;
        IF NOT FOUND OR NOT fleet_catalog.may_cancel(v_owner) THEN
            PERFORM fleet_catalog.get_package(a_package);
            PERFORM fleet_catalog.deny('package', a_package, v_owner);
        END IF;
    ELSIF a_group IS NOT NULL THEN
        SELECT g.owner::oid INTO v_owner FROM fleet_catalog.server_group AS g WHERE g.name = a_group;
        IF NOT FOUND THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('group "%s" does not exist', a_group),
                HINT = 'Groups are listed in fleet.group.';
        ELSIF NOT fleet_catalog.may_cancel(v_owner) THEN
            PERFORM fleet_catalog.deny('group', a_group, v_owner);
        END IF;
    ELSIF NOT fleet_catalog.may_cancel(10) THEN -- 10: the bootstrap superuser
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to pause or resume everything',
            HINT = 'Only superusers and members of fleet_operator may do this. Name a package or a group of your own.';
    END IF;
END
$$;
COMMENT ON FUNCTION fleet_catalog.check_may_pause(text, text) IS 'Error if the caller may not pause this package, this group or (both null) everything';

CREATE FUNCTION fleet.pause_run(run_id bigint, reason text DEFAULT NULL) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.pause_run(bigint, text) IS 'Starts nothing new of a run until fleet.resume_run(); what runs goes on. Returns false if it was paused';

CREATE FUNCTION fleet_catalog.pause_run(a_run_id bigint, a_reason text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.steered_run(a_run_id);
    RETURN fleet_catalog.pause_one(a_run_id, NULL, NULL, a_reason);
END
$$;

CREATE FUNCTION fleet.resume_run(run_id bigint) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.resume_run(bigint) IS 'Ends what fleet.pause_run() began. Returns false if the run was not paused';

CREATE FUNCTION fleet_catalog.resume_run(a_run_id bigint) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_may_cancel('run', a_run_id, (SELECT r.owner FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id));
    RETURN fleet_catalog.resume_one(a_run_id, NULL, NULL);
END
$$;

CREATE FUNCTION fleet.pause(reason text DEFAULT NULL, package text DEFAULT NULL, on_group text DEFAULT NULL) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.pause(text, text, text)
    IS 'Pauses a package, whose runs stay queued, a group, on whose servers nothing is placed, or everything, until fleet.resume(); what runs goes on. Returns false if it was paused';

CREATE FUNCTION fleet_catalog.pause(a_reason text, a_package text, a_on_group text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_may_pause(a_package, a_on_group);
    RETURN fleet_catalog.pause_one(NULL, a_package, a_on_group, a_reason);
END
$$;

CREATE FUNCTION fleet.resume(package text DEFAULT NULL, on_group text DEFAULT NULL) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.resume(text, text) IS 'Ends what fleet.pause() with the same arguments began. Returns false if that was not paused';

CREATE FUNCTION fleet_catalog.resume(a_package text, a_on_group text) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_may_pause(a_package, a_on_group);
    RETURN fleet_catalog.resume_one(NULL, a_package, a_on_group);
END
$$;
