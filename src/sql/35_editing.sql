-- 35_editing.sql: changing what is there: options, names, places.
--
-- fleet.alter_...() has the options of fleet.add_...() or create_...(), all null by default: null leaves things as they
-- are.  What is to be as it is without the option (no timeout, say) is named in "reset", as in ALTER ROLE ... RESET; the
-- default is that of the function that makes it (fleet_catalog.document_keys()).  The checks are those of checked_step()
-- and checked_task(), which also add_step() and add_task() call.
--
-- A name is a reference: a new one is written wherever the old one stood, whoever that belongs to.  Not in SQL text.

-- Defaults of the options that are to be reset: {"option": default}.
CREATE FUNCTION fleet_catalog.defaults_of(a_function text, a_reset text[]) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_known text[];
    v_name text;
BEGIN
    IF a_reset = '{}' THEN
        RETURN '{}'::jsonb;
    END IF;
    v_known := ARRAY(SELECT k.key FROM fleet_catalog.document_keys(a_function) AS k
                      WHERE k.is_key AND k.preset IS NOT NULL AND k.key <> ALL ('{sql,job,nested,container}') AND (a_function <> 'add_step' OR k.key <> 'package') ORDER BY k.ord);
    IF a_reset IS NULL THEN
        PERFORM fleet_catalog.check_given('reset', NULL);
    END IF;
    FOREACH v_name IN ARRAY a_reset LOOP
        IF v_name IS NULL OR v_name <> ALL (v_known) THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" is not an option that can be reset', left(coalesce(v_name, 'NULL'), 100)),
                HINT = format('Options are: %s.', array_to_string(v_known, ', '));
        END IF;
    END LOOP;
    RETURN (SELECT jsonb_object_agg(k.key, fleet_catalog.json_value(k.preset)) FROM fleet_catalog.document_keys(a_function) AS k WHERE k.key = ANY (a_reset));
END
$$;
COMMENT ON FUNCTION fleet_catalog.defaults_of(text, text[]) IS 'Defaults of the options that are to be reset; an error for what is no option';

-- An option as it becomes.
CREATE FUNCTION fleet_catalog.altered(a_option text, a_given anyelement, a_old anyelement, a_defaults jsonb) RETURNS anyelement
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_value a_old%TYPE;
BEGIN
    IF NOT a_defaults ? a_option THEN
        RETURN coalesce(a_given, a_old);
    ELSIF a_given IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('option "%s" is both given and reset', a_option),
            HINT = 'Do one of both.';
    END IF;
    v_value := CASE jsonb_typeof(a_defaults -> a_option) WHEN 'array' THEN ARRAY(SELECT jsonb_array_elements_text(a_defaults -> a_option))::text
                    ELSE a_defaults ->> a_option END;
    RETURN v_value;
END
$$;
COMMENT ON FUNCTION fleet_catalog.altered(text, anyelement, anyelement, jsonb) IS 'Value of an option: given, the default if it is reset, or else as it was';

CREATE FUNCTION fleet_catalog.check_new_name(a_kind text, a_name text, a_exists boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_name(a_kind, a_name);
    IF a_exists THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('%s "%s" already exists', a_kind, a_name), HINT = 'Choose another name.';
    END IF;
END
$$;

-- One without a name of its own has that of what it starts, unless another one has it.
CREATE FUNCTION fleet_catalog.schedule_follows(a_schedule fleet_catalog.schedule, a_new_name text) RETURNS void
    LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
UPDATE fleet_catalog.schedule AS s SET name = a_new_name
 WHERE s.schedule_id = a_schedule.schedule_id AND NOT EXISTS (SELECT FROM fleet_catalog.schedule AS o WHERE o.name = a_new_name)
$$;
COMMENT ON FUNCTION fleet_catalog.schedule_follows(fleet_catalog.schedule, text) IS 'A schedule gets the new name of the package or job whose name it has';

-- They are of one owner with what they start.
CREATE FUNCTION fleet_catalog.drop_schedules(a_kind text, a_name text, a_cascade boolean) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_names text[] := ARRAY(SELECT format('"%s"', s.name) FROM fleet_catalog.schedule AS s
                             WHERE CASE a_kind WHEN 'package' THEN s.package ELSE s.job END = a_name ORDER BY s.name);
BEGIN
    IF v_names = '{}' THEN
        RETURN;
    ELSIF NOT a_cascade THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('cannot drop %s "%s" because it is scheduled', a_kind, a_name),
            DETAIL = format('Schedules: %s.', array_to_string(v_names[1:10], ', ') || CASE WHEN cardinality(v_names) > 10 THEN ', ...' ELSE '' END),
            HINT = 'Remove them first with fleet.unschedule(), or use cascade => true.';
    END IF;
    DELETE FROM fleet_catalog.schedule AS s WHERE CASE a_kind WHEN 'package' THEN s.package ELSE s.job END = a_name;
    PERFORM fleet_catalog.wake('schedules', 0);
END
$$;
COMMENT ON FUNCTION fleet_catalog.drop_schedules(text, text, boolean) IS 'Drops the schedules of a package or job that is to be dropped; an error if there are some and it is not to cascade';

-- ---- steps -------------------------------------------------------------------------------------

CREATE FUNCTION fleet.alter_step(job text, step text, new_name text DEFAULT NULL, sql text DEFAULT NULL, package text DEFAULT NULL,
                                 on_success text DEFAULT NULL, success_goto text DEFAULT NULL,
                                 on_failure text DEFAULT NULL, failure_goto text DEFAULT NULL,
                                 retries integer DEFAULT NULL, retry_wait interval DEFAULT NULL, retry_wait_max interval DEFAULT NULL,
                                 retry_sqlstates text[] DEFAULT NULL, timeout interval DEFAULT NULL,
                                 on_unknown text DEFAULT NULL, transactional boolean DEFAULT NULL,
                                 run_as text DEFAULT NULL, check_syntax boolean DEFAULT true, enabled boolean DEFAULT NULL,
                                 before text DEFAULT NULL, after_step text DEFAULT NULL, reset text[] DEFAULT '{}') RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_step(text, text, text, text, text, text, text, text, text, integer, interval, interval, text[], interval, text, boolean, text, boolean, boolean, text, text, text[])
    IS 'Changes a step; arguments that are null leave things as they are. new_name: gotos follow it; before, after_step: its new place; reset: options that are to have their defaults';

CREATE FUNCTION fleet_catalog.alter_step(a_job text, a_step text, a_new_name text, a_sql text, a_package text,
                                         a_on_success text, a_success_goto text, a_on_failure text, a_failure_goto text,
                                         a_retries integer, a_retry_wait interval, a_retry_wait_max interval, a_retry_sqlstates text[],
                                         a_timeout interval, a_on_unknown text, a_transactional boolean, a_run_as text,
                                         a_check_syntax boolean, a_enabled boolean, a_before text, a_after_step text, a_reset text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.change_job(a_job);
    v_defaults jsonb := fleet_catalog.defaults_of('add_step', a_reset);
    v_old fleet_catalog.step;
    v_step fleet_catalog.step;
BEGIN
    SELECT s.* INTO v_old FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.name = a_step;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.no_such_step(v_job, a_step);
    END IF;
    v_step := v_old;
    v_step.name := coalesce(a_new_name, v_step.name);
    IF num_nonnulls(a_sql, a_package) > 0 THEN -- instead of what it is
        v_step.command := a_sql;
        v_step.package := a_package;
    END IF;
    IF v_step.command IS DISTINCT FROM v_old.command AND v_old.transactional IS FALSE THEN
        v_step.transactional := NULL; -- that was of the old text
    END IF;
    IF a_on_success <> 'goto' OR v_defaults ? 'on_success' THEN
        v_step.success_goto := NULL;
    END IF;
    IF a_on_failure <> 'goto' OR v_defaults ? 'on_failure' THEN
        v_step.failure_goto := NULL;
    END IF;
    v_step.on_success := fleet_catalog.altered('on_success', a_on_success, v_step.on_success, v_defaults);
    v_step.success_goto := fleet_catalog.altered('success_goto', a_success_goto, v_step.success_goto, v_defaults);
    v_step.on_failure := fleet_catalog.altered('on_failure', a_on_failure, v_step.on_failure, v_defaults);
    v_step.failure_goto := fleet_catalog.altered('failure_goto', a_failure_goto, v_step.failure_goto, v_defaults);
    v_step.retries := fleet_catalog.altered('retries', a_retries, v_step.retries, v_defaults);
    v_step.retry_wait := fleet_catalog.altered('retry_wait', a_retry_wait, v_step.retry_wait, v_defaults);
    v_step.retry_max := fleet_catalog.altered('retry_wait_max', a_retry_wait_max, v_step.retry_max, v_defaults);
    v_step.retry_states := fleet_catalog.altered('retry_sqlstates', a_retry_sqlstates, v_step.retry_states, v_defaults);
    v_step.timeout := fleet_catalog.altered('timeout', a_timeout, v_step.timeout, v_defaults);
    v_step.on_unknown := fleet_catalog.altered('on_unknown', a_on_unknown, v_step.on_unknown, v_defaults);
    v_step.transactional := fleet_catalog.altered('transactional', a_transactional, v_step.transactional, v_defaults);
    v_step.run_as := fleet_catalog.altered('run_as', CASE WHEN a_run_as IS NOT NULL THEN fleet_catalog.get_role(a_run_as)::oid END, v_step.run_as::oid, v_defaults);
    v_step.enabled := fleet_catalog.altered('enabled', a_enabled, v_step.enabled, v_defaults);
    v_step := fleet_catalog.checked_step(v_job, v_step, v_old, a_check_syntax);
    UPDATE fleet_catalog.step AS s
       SET name = v_step.name, command = v_step.command, package = v_step.package, on_success = v_step.on_success, success_goto = v_step.success_goto,
           on_failure = v_step.on_failure, failure_goto = v_step.failure_goto, retries = v_step.retries, retry_wait = v_step.retry_wait,
           retry_max = v_step.retry_max, retry_states = v_step.retry_states, timeout = v_step.timeout, on_unknown = v_step.on_unknown,
           transactional = v_step.transactional, single = v_step.single, run_as = v_step.run_as, enabled = v_step.enabled
     WHERE s.job_id = v_job.job_id AND s.step_no = v_old.step_no;
    IF v_step.name <> v_old.name THEN
        UPDATE fleet_catalog.step AS s
           SET success_goto = CASE s.success_goto WHEN v_old.name THEN v_step.name ELSE s.success_goto END,
               failure_goto = CASE s.failure_goto WHEN v_old.name THEN v_step.name ELSE s.failure_goto END
         WHERE s.job_id = v_job.job_id AND v_old.name IN (s.success_goto, s.failure_goto);
    END IF;
    IF num_nonnulls(a_before, a_after_step) > 0 THEN
        PERFORM fleet_catalog.move_step(v_job, v_step.name, a_before, a_after_step);
    END IF;
    IF a_package IS NOT NULL THEN
        PERFORM fleet_catalog.check_content(ARRAY[format('job "%s"', v_job.name)], NULL, a_package);
    END IF;
END
$$;

-- ---- tasks -------------------------------------------------------------------------------------

-- A place among the tasks of a package or container: their order in views and documents, and of tasks that could start at once.
CREATE FUNCTION fleet_catalog.move_task(a_package fleet_catalog.package, a_holder integer, a_task text, a_before text, a_after text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_names text[] := ARRAY(SELECT t.name FROM fleet_catalog.task AS t WHERE t.package_id = a_holder ORDER BY t.task_no);
    v_prefix text := fleet_catalog.prefix_of(fleet_catalog.get_part(a_holder));
BEGIN
    IF strpos(a_before, '/') > 0 AND starts_with(a_before, v_prefix) THEN
        a_before := substr(a_before, length(v_prefix) + 1);
    END IF;
    IF strpos(a_after, '/') > 0 AND starts_with(a_after, v_prefix) THEN
        a_after := substr(a_after, length(v_prefix) + 1);
    END IF;
    IF coalesce(a_before, a_after) <> ALL (v_names) THEN
        PERFORM fleet_catalog.no_such_task(a_package, v_prefix || coalesce(a_before, a_after));
    END IF;
    v_names := fleet_catalog.moved(v_names, a_task, a_before, a_after);
    UPDATE fleet_catalog.task AS t SET task_no = 20000 + t.task_no WHERE t.package_id = a_holder AND t.name IS DISTINCT FROM v_names[t.task_no + 1];
    UPDATE fleet_catalog.task AS t SET task_no = n.ord - 1
      FROM unnest(v_names) WITH ORDINALITY AS n (name, ord) WHERE t.package_id = a_holder AND t.task_no >= 20000 AND t.name = n.name;
END
$$;
COMMENT ON FUNCTION fleet_catalog.move_task(fleet_catalog.package, integer, text, text, text) IS 'Gives a task another place among those of its package or container';

-- The name or path by which a task in a_holder refers to a task, when a_old in a_in is going to be a_new: named_task() says what
-- it means.
CREATE FUNCTION fleet_catalog.renamed_path(a_holder integer, a_name text, a_in integer, a_old text, a_new text) RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_parts text[] := string_to_array(a_name, '/');
    v_renamed text[];
    v_from integer := a_holder;
    v_at integer;
BEGIN
    WHILE v_from IS NOT NULL LOOP
        v_at := v_from;
        v_renamed := v_parts;
        FOR i IN 1 .. cardinality(v_parts) LOOP
            IF v_at = a_in AND v_parts[i] = a_old THEN
                v_renamed[i] := a_new;
            END IF;
            EXIT WHEN i = cardinality(v_parts) OR v_at IS NULL;
            v_at := (SELECT c.package_id FROM fleet_catalog.package AS c WHERE c.container_of = v_at AND c.container_task = v_parts[i]);
        END LOOP;
        IF EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = v_at AND t.name = v_parts[cardinality(v_parts)]) THEN
            RETURN array_to_string(v_renamed, '/');
        END IF;
        v_from := (SELECT p.container_of FROM fleet_catalog.package AS p WHERE p.package_id = v_from);
    END LOOP;
    RETURN a_name;
END
$$;
COMMENT ON FUNCTION fleet_catalog.renamed_path(integer, text, integer, text, text) IS 'A name or path of a task with the new name in it';

CREATE FUNCTION fleet_catalog.renamed_templates(a_value jsonb, a_holder integer, a_in integer, a_old text, a_new text) RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    IF NOT fleet_catalog.may_have_templates(a_value) OR a_value ? '$literal' THEN
        RETURN a_value;
    ELSIF jsonb_typeof(a_value) = 'array' THEN
        RETURN (SELECT jsonb_agg(fleet_catalog.renamed_templates(e.value, a_holder, a_in, a_old, a_new) ORDER BY e.n)
                  FROM jsonb_array_elements(a_value) WITH ORDINALITY AS e (value, n));
    END IF;
    v_key := CASE WHEN a_value ? '$output' THEN '$output' WHEN a_value ? '$outcome' THEN '$outcome' END;
    IF v_key IS NOT NULL THEN
        RETURN jsonb_build_object(v_key, fleet_catalog.renamed_path(a_holder, a_value ->> v_key, a_in, a_old, a_new));
    END IF;
    RETURN (SELECT jsonb_object_agg(e.key, fleet_catalog.renamed_templates(e.value, a_holder, a_in, a_old, a_new)) FROM jsonb_each(a_value) AS e);
END
$$;
COMMENT ON FUNCTION fleet_catalog.renamed_templates(jsonb, integer, integer, text, text) IS 'Parameters of a task, with the new name of a task in their templates';

-- Names in the text of SQL are not followed: it says where the old name may stand.
CREATE FUNCTION fleet_catalog.tell_of_texts(a_package fleet_catalog.package, a_old text, a_new text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_places text[] := ARRAY(
        SELECT format('task "%s"', r.path) FROM fleet_catalog.tree(a_package.package_id) AS r
          JOIN fleet_catalog.task AS t ON t.package_id = r.package_id AND t.task_no = r.task_no
         WHERE strpos(concat_ws(' ', t.sql, t.for_each), quote_literal(a_old)) > 0 OR strpos(concat_ws(' ', t.sql, t.for_each), '''' || a_old || '/') > 0
            OR strpos(concat_ws(' ', t.sql, t.for_each), '/' || a_old || '''') > 0
        UNION ALL
        SELECT format('the condition from "%s" to "%s"', c.from_task, c.to_task)
          FROM fleet_catalog.precedence AS c JOIN fleet_catalog.package AS p ON p.package_id = c.package_id
         WHERE a_package.package_id IN (p.package_id, p.root_id) AND strpos(c.condition, quote_literal(a_old)) > 0 ORDER BY 1 LIMIT 11);
BEGIN
    IF v_places <> '{}' THEN
        RAISE NOTICE USING MESSAGE = format('task "%s" is renamed to "%s"; the text of SQL is not changed', a_old, a_new),
            DETAIL = format('The old name is in: %s%s.', array_to_string(v_places[1:10], ', '), CASE WHEN cardinality(v_places) > 10 THEN ', ...' ELSE '' END),
            HINT = 'If it is an argument of fleet.output() or fleet.outcome() there, change it with fleet.alter_task() or fleet.alter_precedence().';
    END IF;
END
$$;

-- Constraints with one outcome into a task become those from these tasks; null: they stay.
CREATE FUNCTION fleet_catalog.set_edges(a_package fleet_catalog.package, a_holder integer, a_from text[], a_to text, a_on_outcome text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF a_from IS NULL THEN
        RETURN;
    END IF;
    a_from := ARRAY(SELECT fleet_catalog.edge_from(a_package, a_holder, f.name, a_to) FROM unnest(a_from) WITH ORDINALITY AS f (name, n) ORDER BY f.n);
    DELETE FROM fleet_catalog.precedence AS c
     WHERE c.package_id = a_holder AND c.to_task = a_to AND c.on_outcome = a_on_outcome AND c.from_task <> ALL (a_from);
    PERFORM fleet_catalog.add_edges(a_package, a_holder,
        ARRAY(SELECT f.name FROM unnest(a_from) WITH ORDINALITY AS f (name, n)
               WHERE NOT EXISTS (SELECT FROM fleet_catalog.precedence AS c WHERE c.package_id = a_holder AND c.from_task = f.name
                                    AND c.to_task = a_to AND c.on_outcome = a_on_outcome) ORDER BY f.n), a_to, a_on_outcome);
END
$$;

CREATE FUNCTION fleet.alter_task(package text, task text, new_name text DEFAULT NULL, sql text DEFAULT NULL, job text DEFAULT NULL, nested text DEFAULT NULL,
                                 server text DEFAULT NULL, on_group text DEFAULT NULL, params jsonb DEFAULT NULL,
                                 for_each text DEFAULT NULL, cost text DEFAULT NULL, item_key text DEFAULT NULL,
                                 throttle integer DEFAULT NULL, completion text DEFAULT NULL,
                                 minimum_share double precision DEFAULT NULL, balance text DEFAULT NULL,
                                 wait_for text DEFAULT NULL, on_lost text DEFAULT NULL, retries integer DEFAULT NULL,
                                 retry_wait interval DEFAULT NULL, retry_wait_max interval DEFAULT NULL, retry_sqlstates text[] DEFAULT NULL,
                                 timeout interval DEFAULT NULL, after text[] DEFAULT NULL, after_failure_of text[] DEFAULT NULL,
                                 after_completion_of text[] DEFAULT NULL,
                                 transactional boolean DEFAULT NULL, check_syntax boolean DEFAULT true, enabled boolean DEFAULT NULL,
                                 final boolean DEFAULT NULL, catch boolean DEFAULT NULL, limits text[] DEFAULT NULL,
                                 before_task text DEFAULT NULL, after_task text DEFAULT NULL, reset text[] DEFAULT '{}') RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_task(text, text, text, text, text, text, text, text, jsonb, text, text, text, integer, text, double precision, text, text, text, integer, interval, interval, text[], interval, text[], text[], text[], boolean, boolean, boolean, boolean, boolean, text[], text, text, text[])
    IS 'Changes a task; arguments that are null leave things as they are. after, after_failure_of, after_completion_of: instead of what it comes after so; before_task, after_task: its new place in the order of tasks; reset: options that are to have their defaults';

CREATE FUNCTION fleet_catalog.alter_task(a_package text, a_task text, a_new_name text, a_sql text, a_job text, a_nested text,
                                         a_server text, a_on_group text, a_params jsonb, a_for_each text, a_cost text, a_item_key text, a_throttle integer,
                                         a_completion text, a_minimum_share double precision, a_balance text, a_wait_for text,
                                         a_on_lost text, a_retries integer, a_retry_wait interval, a_retry_wait_max interval,
                                         a_retry_sqlstates text[], a_timeout interval, a_after text[], a_after_failure_of text[],
                                         a_after_completion_of text[], a_transactional boolean, a_check_syntax boolean, a_enabled boolean,
                                         a_final boolean, a_catch boolean, a_limits text[], a_before_task text, a_after_task text, a_reset text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_place record := fleet_catalog.place(v_package, a_task);
    v_defaults jsonb := fleet_catalog.defaults_of('add_task', a_reset);
    v_old fleet_catalog.task;
    v_task fleet_catalog.task;
BEGIN
    SELECT t.* INTO v_old FROM fleet_catalog.task AS t WHERE t.package_id = v_place.package_id AND t.name = v_place.task;
    IF NOT FOUND THEN
        PERFORM fleet_catalog.no_such_task(v_package, a_task);
    END IF;
    v_task := v_old;
    IF num_nonnulls(a_sql, a_job, a_nested) > 0 THEN -- instead of what it is
        IF EXISTS (SELECT FROM fleet_catalog.package AS c WHERE c.container_of = v_old.package_id AND c.container_task = v_old.name) THEN
            RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('task "%s" of package "%s" is a container', a_task, a_package),
                HINT = 'Drop it with fleet.drop_task(), and add a task of that name.';
        END IF;
        v_task.sql := a_sql;
        v_task.job := a_job;
        v_task.package := a_nested;
    END IF;
    IF v_task.job IS NULL OR num_nonnulls(a_server, a_on_group) > 0 THEN
        v_task.server := NULL;
        v_task.on_group := NULL;
    END IF;
    IF v_task.sql IS NULL OR (v_task.sql IS DISTINCT FROM v_old.sql AND v_old.transactional IS FALSE) THEN
        v_task.transactional := NULL; -- that was of the old text
    END IF;
    v_task.server := fleet_catalog.altered('server', fleet_catalog.as_server_name(a_server), v_task.server, v_defaults);
    v_task.on_group := fleet_catalog.altered('on_group', a_on_group, v_task.on_group, v_defaults);
    v_task.params := fleet_catalog.altered('params', a_params, v_task.params, v_defaults);
    v_task.for_each := fleet_catalog.altered('for_each', a_for_each, v_task.for_each, v_defaults);
    v_task.cost := fleet_catalog.altered('cost', a_cost, v_task.cost, v_defaults);
    v_task.item_key := fleet_catalog.altered('item_key', a_item_key, v_task.item_key, v_defaults);
    v_task.throttle := fleet_catalog.altered('throttle', a_throttle, v_task.throttle, v_defaults);
    v_task.completion := fleet_catalog.altered('completion', a_completion, v_task.completion, v_defaults);
    v_task.min_share := fleet_catalog.altered('minimum_share', a_minimum_share, v_task.min_share, v_defaults);
    v_task.balance := fleet_catalog.altered('balance', a_balance, v_task.balance, v_defaults);
    v_task.join_type := fleet_catalog.altered('wait_for', a_wait_for, v_task.join_type, v_defaults);
    v_task.on_lost := fleet_catalog.altered('on_lost', a_on_lost, v_task.on_lost, v_defaults);
    v_task.retries := fleet_catalog.altered('retries', a_retries, v_task.retries, v_defaults);
    v_task.retry_wait := fleet_catalog.altered('retry_wait', a_retry_wait, v_task.retry_wait, v_defaults);
    v_task.retry_max := fleet_catalog.altered('retry_wait_max', a_retry_wait_max, v_task.retry_max, v_defaults);
    v_task.retry_states := fleet_catalog.altered('retry_sqlstates', a_retry_sqlstates, v_task.retry_states, v_defaults);
    v_task.timeout := fleet_catalog.altered('timeout', a_timeout, v_task.timeout, v_defaults);
    v_task.transactional := fleet_catalog.altered('transactional', a_transactional, v_task.transactional, v_defaults);
    v_task.enabled := fleet_catalog.altered('enabled', a_enabled, v_task.enabled, v_defaults);
    v_task.final := fleet_catalog.altered('final', a_final, v_task.final, v_defaults);
    v_task.catch := fleet_catalog.altered('catch', a_catch, v_task.catch, v_defaults);
    v_task.limits := fleet_catalog.altered('limits', a_limits, v_task.limits, v_defaults);
    v_task := fleet_catalog.checked_task(v_package, v_task, v_old, false, a_check_syntax);
    PERFORM fleet_catalog.replace_task(v_task);
    PERFORM fleet_catalog.set_edges(v_package, v_place.package_id, a_after, v_place.task, 'success'),
            fleet_catalog.set_edges(v_package, v_place.package_id, a_after_failure_of, v_place.task, 'failure'),
            fleet_catalog.set_edges(v_package, v_place.package_id, a_after_completion_of, v_place.task, 'completion');
    PERFORM fleet_catalog.check_parts(c.package_id, c.from_task, c.to_task) FROM fleet_catalog.precedence AS c
      WHERE c.package_id = v_place.package_id AND v_place.task IN (c.from_task, c.to_task) AND (v_task.final, v_task.catch) IS DISTINCT FROM (v_old.final, v_old.catch);
    IF num_nonnulls(a_before_task, a_after_task) > 0 THEN
        PERFORM fleet_catalog.move_task(v_package, v_place.package_id, v_place.task, a_before_task, a_after_task);
    END IF;
    IF num_nonnulls(a_nested, a_job) > 0 THEN
        PERFORM fleet_catalog.check_content(fleet_catalog.path_of(v_place.package_id), a_job, a_nested);
    END IF;
    IF a_new_name <> v_place.task THEN
        PERFORM fleet_catalog.rename_task(v_package, v_place.package_id, v_place.task, a_new_name);
    END IF;
END
$$;

-- All columns of the table but its key and its name, whichever there are.
CREATE FUNCTION fleet_catalog.replace_task(a_task fleet_catalog.task) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_columns text := (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute AS a
                        WHERE a.attrelid = 'fleet_catalog.task'::regclass AND a.attnum > 0 AND NOT a.attisdropped
                          AND a.attname <> ALL ('{package_id,task_no,name}'));
BEGIN
    EXECUTE format('UPDATE fleet_catalog.task AS t SET (%1$s) = (SELECT %1$s FROM (SELECT ($1).*) AS n) WHERE t.package_id = ($1).package_id AND t.name = ($1).name', v_columns)
      USING a_task;
END
$$;

-- A task keeps its container.
CREATE FUNCTION fleet_catalog.rename_task(a_package fleet_catalog.package, a_holder integer, a_task text, a_new_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_in fleet_catalog.package := fleet_catalog.get_part(a_holder);
    v_users text[] := ARRAY(SELECT u.ord::text FROM fleet_catalog.users_of(a_package.package_id, a_holder, a_task) AS u);
BEGIN
    PERFORM fleet_catalog.check_task_name(a_new_name);
    IF strpos(a_new_name, '/') > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = format('"%s" is not a valid new name of a task', a_new_name),
            DETAIL = 'A task stays in its container, which is not part of its new name.', HINT = 'Use a name without a "/".';
    ELSIF EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_holder AND t.name = a_new_name) THEN
        RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
            MESSAGE = format('package "%s" already has a task "%s"', a_package.name, fleet_catalog.prefix_of(v_in) || a_new_name), HINT = 'Choose another name.';
    END IF;
    UPDATE fleet_catalog.task AS t
       SET params = (SELECT coalesce(jsonb_object_agg(e.key, fleet_catalog.renamed_templates(e.value, t.package_id, a_holder, a_task, a_new_name)), '{}') FROM jsonb_each(t.params) AS e)
      FROM fleet_catalog.package AS p
     WHERE p.package_id = t.package_id AND a_package.package_id IN (p.package_id, p.root_id) AND fleet_catalog.may_have_templates(t.params);
    -- constraints follow by their foreign keys, a container's tasks by a trigger
    UPDATE fleet_catalog.task AS t SET name = a_new_name WHERE t.package_id = a_holder AND t.name = a_task;
    -- a task of that name around the container, or inside of one, which was meant or is meant now
    IF v_users <> ARRAY(SELECT u.ord::text FROM fleet_catalog.users_of(a_package.package_id, a_holder, a_new_name) AS u) THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_object_definition',
            MESSAGE = format('task "%s" cannot be renamed to "%s" because parameters of other tasks would refer to another task', fleet_catalog.prefix_of(v_in) || a_task, a_new_name),
            DETAIL = format('There is a task "%s" outside or inside of a container, too.', a_new_name), HINT = 'Choose another name, or give those other parameters first.';
    END IF;
    INSERT INTO fleet_catalog.renaming (kind, package, old_name, new_name) VALUES ('task', v_in.name, a_task, a_new_name);
    PERFORM fleet_catalog.wake('renamed', 0);
    PERFORM fleet_catalog.tell_of_texts(a_package, a_task, a_new_name);
END
$$;

-- ---- precedence constraints --------------------------------------------------------------------

CREATE FUNCTION fleet.alter_precedence(package text, from_task text, to_task text, on_outcome text DEFAULT NULL, condition text DEFAULT NULL,
                                       reset text[] DEFAULT '{}') RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_precedence(text, text, text, text, text, text[])
    IS 'Changes a precedence constraint; arguments that are null leave things as they are. reset: options that are to have their defaults';

CREATE FUNCTION fleet_catalog.alter_precedence(a_package text, a_from_task text, a_to_task text, a_on_outcome text, a_condition text, a_reset text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_to record := fleet_catalog.place(v_package, a_to_task);
    v_defaults jsonb := fleet_catalog.defaults_of('add_precedence', a_reset);
    v_edge fleet_catalog.precedence;
BEGIN
    SELECT c.* INTO v_edge FROM fleet_catalog.precedence AS c
     WHERE c.package_id = v_to.package_id AND c.from_task = fleet_catalog.edge_from(v_package, v_to.package_id, a_from_task, v_to.task) AND c.to_task = v_to.task;
    PERFORM fleet_catalog.drop_precedence(a_package, a_from_task, a_to_task);
    PERFORM fleet_catalog.add_precedence_row(v_package, v_to.package_id, a_from_task, v_to.task,
        fleet_catalog.altered('on_outcome', a_on_outcome, v_edge.on_outcome, v_defaults),
        fleet_catalog.altered('condition', a_condition, v_edge.condition, v_defaults));
END
$$;

-- ---- jobs --------------------------------------------------------------------------------------

-- Tasks that run a job.  What may not run it as its owner is another job of that name, on a server, or nothing: not these.
CREATE FUNCTION fleet_catalog.users_of_job(a_job fleet_catalog.job) RETURNS TABLE (package_id integer, package text, task text, path text, what text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT p.package_id, coalesce(r.name, p.name), t.name, fleet_catalog.path_in(r.name, p.name, t.name),
       CASE WHEN fleet_catalog.sees(p.owner) THEN format('task "%s" of package "%s"', fleet_catalog.path_in(r.name, p.name, t.name), coalesce(r.name, p.name))
            ELSE 'what belongs to others' END
  FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p ON p.package_id = t.package_id
  LEFT JOIN fleet_catalog.package AS r ON r.package_id = p.root_id
 WHERE t.job = a_job.name AND fleet_catalog.may_become(p.owner, a_job.owner)
$$;
COMMENT ON FUNCTION fleet_catalog.users_of_job(fleet_catalog.job) IS 'Tasks that run a job of this database';

CREATE FUNCTION fleet.alter_job(job text, new_name text DEFAULT NULL, params jsonb DEFAULT NULL, description text DEFAULT NULL, owner text DEFAULT NULL,
                                leaves_clean boolean DEFAULT NULL, enabled boolean DEFAULT NULL, reset text[] DEFAULT '{}') RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_job(text, text, jsonb, text, text, boolean, boolean, text[])
    IS 'Changes a job; arguments that are null leave things as they are. new_name: tasks that run it follow; enabled: false: they are skipped; reset: options that are to have their defaults';

CREATE FUNCTION fleet_catalog.alter_job(a_job text, a_new_name text, a_params jsonb, a_description text, a_owner text, a_leaves_clean boolean, a_enabled boolean,
                                        a_reset text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job := fleet_catalog.change_job(a_job);
    v_defaults jsonb := fleet_catalog.defaults_of('create_job', a_reset);
BEGIN
    IF a_owner IS NOT NULL THEN
        v_job.owner := fleet_catalog.get_role(a_owner);
        PERFORM fleet_catalog.check_run_as(v_job.owner, s.run_as) FROM fleet_catalog.step AS s WHERE s.job_id = v_job.job_id AND s.run_as IS NOT NULL;
    END IF;
    IF a_params IS NOT NULL THEN
        PERFORM fleet_catalog.check_params(a_params);
    END IF;
    IF a_new_name IS NOT NULL THEN
        PERFORM fleet_catalog.check_new_name('job', a_new_name, a_new_name <> a_job AND EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = a_new_name));
    END IF;
    UPDATE fleet_catalog.job AS j
       SET name = coalesce(a_new_name, j.name), owner = v_job.owner, params = fleet_catalog.altered('params', a_params, j.params, v_defaults),
           description = fleet_catalog.altered('description', a_description, j.description, v_defaults),
           leaves_clean = fleet_catalog.altered('leaves_clean', a_leaves_clean, j.leaves_clean, v_defaults),
           enabled = fleet_catalog.altered('enabled', a_enabled, j.enabled, v_defaults)
     WHERE j.job_id = v_job.job_id;
    IF a_new_name <> a_job THEN
        PERFORM fleet_catalog.job_renamed(v_job, a_new_name);
    END IF;
    PERFORM fleet_catalog.wake('schedules', 0) FROM fleet_catalog.schedule AS s WHERE s.job = coalesce(a_new_name, a_job);
END
$$;

CREATE FUNCTION fleet_catalog.job_renamed(a_job fleet_catalog.job, a_new_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.touched('package', u.package_id) FROM (SELECT DISTINCT j.package_id FROM fleet_catalog.users_of_job(a_job) AS j) AS u;
    UPDATE fleet_catalog.task AS t SET job = a_new_name FROM fleet_catalog.users_of_job(a_job) AS u WHERE t.package_id = u.package_id AND t.name = u.task;
    PERFORM fleet_catalog.schedule_follows(s, a_new_name) FROM fleet_catalog.schedule AS s WHERE s.job = a_new_name AND s.name = a_job.name;
    INSERT INTO fleet_catalog.renaming (kind, old_name, new_name) VALUES ('job', a_job.name, a_new_name);
    PERFORM fleet_catalog.wake('renamed', 0);
    IF EXISTS (SELECT FROM fleet_catalog.deployment AS d WHERE d.job = a_job.name) THEN
        RAISE NOTICE USING MESSAGE = format('job "%s" is renamed to "%s"; on servers to which it was deployed it has the old name', a_job.name, a_new_name),
            HINT = 'Deploy it with fleet.deploy_job(), and drop it there.';
    END IF;
END
$$;

CREATE FUNCTION fleet.drop_job(job text, if_exists boolean DEFAULT false, cascade boolean DEFAULT false) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.drop_job(text, boolean, boolean)
    IS 'Drops a job that no task runs, with its steps and versions; its runs continue and their history is kept. cascade: drops those tasks. Returns false if there was no such job';

CREATE FUNCTION fleet_catalog.drop_job(a_job text, a_if_exists boolean, a_cascade boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_job fleet_catalog.job;
    v_uses text;
    v_servers text;
BEGIN
    PERFORM fleet_catalog.check_name('job', a_job);
    IF a_if_exists AND NOT EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = a_job) THEN
        RETURN false;
    END IF;
    v_job := fleet_catalog.change_job(a_job);
    PERFORM FROM fleet_catalog.job AS j WHERE j.job_id = v_job.job_id FOR UPDATE; -- whoever is adding a task that runs it has done so then
    IF a_cascade THEN
        PERFORM fleet_catalog.drop_task(u.package, u.path, false) FROM fleet_catalog.users_of_job(v_job) AS u;
    END IF;
    PERFORM fleet_catalog.drop_schedules('job', a_job, a_cascade);
    PERFORM fleet_catalog.drop_hooks_of_job(a_job, a_cascade);
    v_uses := fleet_catalog.list_uses(ARRAY(SELECT u.what FROM fleet_catalog.users_of_job(v_job) AS u GROUP BY u.what ORDER BY u.what LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('cannot drop job "%s" because tasks run it', a_job),
            DETAIL = v_uses, HINT = 'Drop the tasks, or give them another job with fleet.alter_task(); cascade => true drops them.';
    END IF;
    DELETE FROM fleet_catalog.job AS j WHERE j.job_id = v_job.job_id;
    SELECT string_agg(format('"%s"', s.name), ', ' ORDER BY s.name) INTO v_servers
      FROM fleet_catalog.newest_deployments() AS d JOIN fleet_catalog.server AS s ON s.server_id = d.server_id
     WHERE d.job = a_job AND d.state = 'deployed';
    IF v_servers IS NOT NULL THEN
        RAISE NOTICE USING MESSAGE = format('job "%s" is still deployed', a_job), DETAIL = format('Servers: %s.', v_servers),
            HINT = 'Remove it there with fleet.undeploy_job().';
    END IF;
    RETURN true;
END
$$;

-- ---- packages ----------------------------------------------------------------------------------

-- Tasks and steps that run a package.
CREATE FUNCTION fleet_catalog.users_of_package(a_package fleet_catalog.package) RETURNS TABLE (kind text, id integer, owner_name text, name text, path text, what text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT 'package', p.package_id, coalesce(r.name, p.name), t.name, fleet_catalog.path_in(r.name, p.name, t.name),
       CASE WHEN fleet_catalog.sees(p.owner) THEN format('task "%s" of package "%s"', fleet_catalog.path_in(r.name, p.name, t.name), coalesce(r.name, p.name))
            ELSE 'what belongs to others' END
  FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p ON p.package_id = t.package_id
  LEFT JOIN fleet_catalog.package AS r ON r.package_id = p.root_id
 WHERE t.package = a_package.name AND fleet_catalog.may_become(p.owner, a_package.owner)
UNION ALL
SELECT 'job', j.job_id, j.name, s.name, s.name, CASE WHEN fleet_catalog.sees(j.owner) THEN format('step "%s" of job "%s"', s.name, j.name) ELSE 'what belongs to others' END
  FROM fleet_catalog.step AS s JOIN fleet_catalog.job AS j ON j.job_id = s.job_id
 WHERE s.package = a_package.name AND fleet_catalog.may_become(j.owner, a_package.owner)
$$;
COMMENT ON FUNCTION fleet_catalog.users_of_package(fleet_catalog.package) IS 'Tasks and steps that run a package; kind, id and owner_name are of the package or job that they belong to';

CREATE FUNCTION fleet.alter_package(package text, new_name text DEFAULT NULL, params jsonb DEFAULT NULL, overlap text DEFAULT NULL,
                                    priority integer DEFAULT NULL, description text DEFAULT NULL, owner text DEFAULT NULL,
                                    enabled boolean DEFAULT NULL, failed_if text DEFAULT NULL, max_parallel integer DEFAULT NULL,
                                    timeout interval DEFAULT NULL, deadline interval DEFAULT NULL, reset text[] DEFAULT '{}') RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.alter_package(text, text, jsonb, text, integer, text, text, boolean, text, integer, interval, interval, text[])
    IS 'Changes a package; arguments that are null leave things as they are. new_name: what runs it follows, and its schedules, pause and retention; enabled: false: it is not run; max_parallel, timeout, deadline: 0 takes them away; reset: options that are to have their defaults';

CREATE FUNCTION fleet_catalog.alter_package(a_package text, a_new_name text, a_params jsonb, a_overlap text, a_priority integer,
                                            a_description text, a_owner text, a_enabled boolean, a_failed_if text, a_max_parallel integer,
                                            a_timeout interval, a_deadline interval, a_reset text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.change_package(a_package);
    v_defaults jsonb := fleet_catalog.defaults_of('create_package', a_reset);
    v_overlap text := fleet_catalog.altered('overlap', a_overlap, v_package.overlap, v_defaults);
    v_max_parallel integer := nullif(fleet_catalog.altered('max_parallel', a_max_parallel, v_package.max_parallel, v_defaults), 0);
BEGIN
    IF a_params IS NOT NULL THEN
        PERFORM fleet_catalog.check_params(a_params);
    END IF;
    PERFORM fleet_catalog.check_overlap(v_overlap, coalesce(a_max_parallel, 0));
    IF v_overlap IN ('replace', 'skip') THEN
        v_max_parallel := NULL;
    END IF;
    PERFORM fleet_catalog.check_span('timeout', a_timeout);
    PERFORM fleet_catalog.check_span('deadline', a_deadline);
    IF a_priority IS NOT NULL THEN
        PERFORM fleet_catalog.check_priority(a_priority);
    END IF;
    IF a_failed_if IS NOT NULL THEN
        PERFORM fleet_catalog.check_choice('failed_if', a_failed_if, 'unhandled', 'any');
    END IF;
    IF a_new_name IS NOT NULL THEN
        PERFORM fleet_catalog.check_new_name('package', a_new_name, a_new_name <> a_package AND EXISTS (SELECT FROM fleet_catalog.package AS p WHERE p.name = a_new_name));
    END IF;
    UPDATE fleet_catalog.package AS p
       SET name = coalesce(a_new_name, p.name), params = fleet_catalog.altered('params', a_params, p.params, v_defaults),
           overlap = v_overlap, max_parallel = v_max_parallel,
           timeout = nullif(fleet_catalog.altered('timeout', a_timeout, p.timeout, v_defaults), '0'),
           deadline = nullif(fleet_catalog.altered('deadline', a_deadline, p.deadline, v_defaults), '0'),
           priority = fleet_catalog.altered('priority', a_priority, p.priority, v_defaults),
           description = fleet_catalog.altered('description', a_description, p.description, v_defaults),
           enabled = fleet_catalog.altered('enabled', a_enabled, p.enabled, v_defaults),
           failed_if = fleet_catalog.altered('failed_if', a_failed_if, p.failed_if, v_defaults),
           owner = CASE WHEN a_owner IS NULL THEN p.owner ELSE fleet_catalog.get_role(a_owner) END
     WHERE p.package_id = v_package.package_id;
    IF a_new_name <> a_package THEN
        PERFORM fleet_catalog.package_renamed(v_package, a_new_name);
    END IF;
    IF (v_overlap, v_max_parallel) IS DISTINCT FROM (v_package.overlap, v_package.max_parallel) THEN
        PERFORM fleet_catalog.wake('limits', v_package.package_id);
    END IF;
    PERFORM fleet_catalog.wake('schedules', 0) FROM fleet_catalog.schedule AS s WHERE s.package = coalesce(a_new_name, a_package);
END
$$;

CREATE FUNCTION fleet_catalog.package_renamed(a_package fleet_catalog.package, a_new_name text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_users record;
BEGIN
    FOR v_users IN SELECT u.* FROM fleet_catalog.users_of_package(a_package) AS u LOOP
        PERFORM fleet_catalog.touched(v_users.kind, v_users.id);
        UPDATE fleet_catalog.task AS t SET package = a_new_name WHERE v_users.kind = 'package' AND t.package_id = v_users.id AND t.name = v_users.name;
        UPDATE fleet_catalog.step AS s SET package = a_new_name WHERE v_users.kind = 'job' AND s.job_id = v_users.id AND s.name = v_users.name;
    END LOOP;
    PERFORM fleet_catalog.schedule_follows(s, a_new_name) FROM fleet_catalog.schedule AS s WHERE s.package = a_new_name AND s.name = a_package.name;
    INSERT INTO fleet_catalog.renaming (kind, old_name, new_name) VALUES ('package', a_package.name, a_new_name);
    PERFORM fleet_catalog.wake('renamed', 0);
END
$$;

CREATE FUNCTION fleet.drop_package(package text, if_exists boolean DEFAULT false, cascade boolean DEFAULT false) RETURNS boolean
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.drop_package(text, boolean, boolean)
    IS 'Drops a package that no task, step or schedule runs, with its tasks and versions; its runs continue and their history is kept. cascade: drops those. Returns false if there was no such package';

CREATE FUNCTION fleet_catalog.drop_package(a_package text, a_if_exists boolean, a_cascade boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_package fleet_catalog.package;
    v_uses text;
BEGIN
    PERFORM fleet_catalog.check_name('package', a_package);
    IF a_if_exists AND NOT EXISTS (SELECT FROM fleet_catalog.package AS p WHERE p.name = a_package) THEN
        RETURN false;
    END IF;
    v_package := fleet_catalog.change_package(a_package);
    PERFORM FROM fleet_catalog.package AS p WHERE p.package_id = v_package.package_id FOR UPDATE; -- as in drop_job()
    IF a_cascade THEN
        PERFORM fleet_catalog.drop_task(u.owner_name, u.path, false) FROM fleet_catalog.users_of_package(v_package) AS u WHERE u.kind = 'package';
        PERFORM fleet_catalog.drop_step(u.owner_name, u.name) FROM fleet_catalog.users_of_package(v_package) AS u WHERE u.kind = 'job';
    END IF;
    PERFORM fleet_catalog.drop_schedules('package', a_package, a_cascade);
    PERFORM fleet_catalog.wake('hooks', 0); -- those of the package go with it
    v_uses := fleet_catalog.list_uses(ARRAY(SELECT u.what FROM fleet_catalog.users_of_package(v_package) AS u GROUP BY u.what ORDER BY u.what LIMIT 11));
    IF v_uses IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('cannot drop package "%s" because tasks or steps run it', a_package),
            DETAIL = v_uses, HINT = 'Drop them, or give them other work with fleet.alter_task() or fleet.alter_step(); cascade => true drops them.';
    END IF;
    DELETE FROM fleet_catalog.package AS p WHERE p.package_id = v_package.package_id;
    RETURN true;
END
$$;
