-- 51_plan.sql: what a package would do, played through the agent's own engine on virtual time.
-- Here the inputs are read; src/api/plan.c gives them to the core.

CREATE FUNCTION fleet_catalog.play(
    a_tasks text[], a_kinds integer[], a_joins integer[], a_items integer[], a_throttles integer[], a_policies integer[],
    a_estimates bigint[], a_from integer[], a_to integer[], a_outcomes integer[],
    a_slots integer[], a_weights double precision[], a_speeds double precision[], a_states integer[],
    a_members integer[], a_member_tasks integer[], a_local_slots integer, a_local_target integer, a_servers integer)
    RETURNS TABLE (task_no integer, item integer, server_no integer, starts_us bigint, ends_us bigint, critical boolean,
                   makespan_us bigint, lower_bound_us bigint)
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_play';
COMMENT ON FUNCTION fleet_catalog.play(text[], integer[], integer[], integer[], integer[], integer[], bigint[], integer[], integer[], integer[], integer[], double precision[], double precision[], integer[], integer[], integer[], integer, integer, integer)
    IS 'The planner of the core. a_servers 0: a row for each task run; otherwise only makespan and lower bound, for 1 to a_servers servers (server_no)';

CREATE FUNCTION fleet_catalog.play_package(a_package text, a_items jsonb, a_servers integer)
    RETURNS TABLE (task_no integer, item integer, server_no integer, starts_us bigint, ends_us bigint, critical boolean,
                   makespan_us bigint, lower_bound_us bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_package fleet_catalog.package := fleet_catalog.get_package(a_package);
    v_key text;
BEGIN
    PERFORM fleet_catalog.check_given('items', a_items::text);
    IF jsonb_typeof(a_items) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'items must be a JSON object',
            HINT = 'It gives the number of items of each for_each task, as in ''{"regions": 20}''.';
    END IF;
    FOR v_key IN SELECT k FROM jsonb_object_keys(a_items) AS k ORDER BY k LOOP
        IF NOT EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = v_package.package_id AND t.name = v_key AND t.for_each IS NOT NULL) THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" has no for_each task "%s"', a_package, v_key),
                HINT = 'Name tasks that have a for_each.';
        ELSIF jsonb_typeof(a_items -> v_key) <> 'number' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('number of items of "%s" must be a number', v_key),
                HINT = 'An example is ''{"regions": 20}''.';
        END IF;
        PERFORM fleet_catalog.check_range(format('number of items of "%s"', v_key), (a_items ->> v_key)::numeric::double precision, 0, 100000);
    END LOOP;
    PERFORM fleet_catalog.check_runnable(v_package);
    IF NOT EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = v_package.package_id) THEN
        PERFORM fleet_catalog.snapshot_package(a_package); -- raises
    END IF;
    RETURN QUERY
    WITH server AS MATERIALIZED (
        SELECT row_number() OVER (ORDER BY s.server_id)::integer - 1 AS no, s.*, exp(coalesce(h.speed_log, 0)) AS speed
          FROM fleet_catalog.server AS s LEFT JOIN fleet_catalog.server_health AS h ON h.server_id = s.server_id
    ), last_run AS MATERIALIZED (
        SELECT r.run_id, r.definition FROM fleet_catalog.run AS r
         WHERE r.package = a_package AND r.state = fleet_catalog.state_code('succeeded') ORDER BY r.run_id DESC LIMIT 1
    ), task AS MATERIALIZED (
        SELECT t.*,
               CASE WHEN t.for_each IS NULL THEN -1
                    WHEN a_items ? t.name THEN (a_items ->> t.name)::numeric::integer
                    ELSE coalesce((SELECT NULLIF(max(i.item), 0) FROM last_run AS l
                                     JOIN fleet_catalog.definition_task AS d ON d.hash = l.definition AND d.name = t.name
                                     JOIN fleet_catalog.task_run AS i ON i.run_id = l.run_id AND i.task_no = d.task_no), 1) END AS items,
               coalesce((SELECT exp(d.log_mean)::bigint FROM fleet_catalog.duration AS d
                          WHERE d.package = a_package AND d.task = t.name AND d.item_key = '' ORDER BY d.samples DESC LIMIT 1),
                        (SELECT exp(d.log_mean)::bigint FROM fleet_catalog.duration AS d
                          WHERE d.package = '' AND d.task = '' AND d.job = t.job ORDER BY d.samples DESC LIMIT 1), 0) AS estimate
          FROM fleet_catalog.task AS t WHERE t.package_id = v_package.package_id
    ), member AS MATERIALIZED (
        SELECT s.no, t.task_no FROM task AS t JOIN server AS s ON s.name = t.server OR t.on_group = ANY (s.groups) WHERE t.kind = 'job'
    )
    SELECT p.*
      FROM (SELECT array_agg(t.name ORDER BY t.task_no),
                   array_agg(array_position('{job,sql,package}'::text[], t.kind) - 1 ORDER BY t.task_no),
                   array_agg(array_position('{all,any}'::text[], t.join_type) - 1 ORDER BY t.task_no),
                   array_agg(t.items ORDER BY t.task_no), array_agg(t.throttle ORDER BY t.task_no),
                   array_agg(array_position('{shortest_finish,round_robin,least_loaded,weighted}'::text[], t.balance) - 1 ORDER BY t.task_no),
                   array_agg(t.estimate ORDER BY t.task_no) FROM task AS t) AS t (names, kinds, joins, items, throttles, policies, estimates),
           (SELECT coalesce(array_agg(f.task_no), '{}'), coalesce(array_agg(t.task_no), '{}'),
                   coalesce(array_agg(array_position('{success,failure,completion}'::text[], c.on_outcome) - 1), '{}')
              FROM fleet_catalog.precedence AS c JOIN task AS f ON f.name = c.from_task JOIN task AS t ON t.name = c.to_task
             WHERE c.package_id = v_package.package_id) AS e (from_tasks, to_tasks, outcomes),
           (SELECT coalesce(array_agg(s.slots ORDER BY s.no), '{}'), coalesce(array_agg(s.weight ORDER BY s.no), '{}'),
                   coalesce(array_agg(s.speed ORDER BY s.no), '{}'),
                   coalesce(array_agg(array_position('{online,draining,offline}'::text[], s.state) - 1 ORDER BY s.no), '{}')
              FROM server AS s) AS s (slots, weights, speeds, states),
           (SELECT coalesce(array_agg(m.no ORDER BY m.task_no, m.no), '{}'), coalesce(array_agg(m.task_no ORDER BY m.task_no, m.no), '{}')
              FROM member AS m) AS m (servers, tasks),
           fleet_catalog.play(t.names, t.kinds, t.joins, t.items, t.throttles, t.policies, t.estimates,
                              e.from_tasks, e.to_tasks, e.outcomes, s.slots, s.weights, s.speeds, s.states,
                              m.servers, m.tasks, coalesce(current_setting('fleet.max_runners', true)::integer, 8), 0, a_servers) AS p;
END
$$;

CREATE FUNCTION fleet.plan(package text, items jsonb DEFAULT '{}')
    RETURNS TABLE (task text, item integer, server text, starts_after interval, ends_after interval, duration interval, critical boolean)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.plan(text, jsonb)
    IS 'What a run would do now, by learned durations, in order of start. items: numbers of items of for_each tasks, by default those of the last run';

CREATE FUNCTION fleet_catalog.plan(a_package text, a_items jsonb)
    RETURNS TABLE (task text, item integer, server text, starts_after interval, ends_after interval, duration interval, critical boolean)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM fleet_catalog.get_package(a_package); -- a null name would find no row to join, and so no error
    RETURN QUERY
    SELECT t.name, p.item, s.name::text, fleet_catalog.from_microseconds(p.starts_us), fleet_catalog.from_microseconds(p.ends_us),
           fleet_catalog.from_microseconds(p.ends_us - p.starts_us), p.critical
      FROM fleet_catalog.play_package(a_package, a_items, 0) WITH ORDINALITY AS p
      JOIN fleet_catalog.package AS k ON k.name = a_package
      JOIN fleet_catalog.task AS t ON t.package_id = k.package_id AND t.task_no = p.task_no
      LEFT JOIN (SELECT row_number() OVER (ORDER BY s.server_id) - 1 AS no, s.name FROM fleet_catalog.server AS s) AS s ON s.no = p.server_no
     ORDER BY p.ordinality;
END
$$;

CREATE FUNCTION fleet.advise(package text, servers integer DEFAULT 8, items jsonb DEFAULT '{}')
    RETURNS TABLE (number_of_servers integer, makespan interval, lower_bound interval, speed_up double precision)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.advise(text, integer, jsonb)
    IS 'How long a run would take with 1, 2, ... servers in its largest group. lower_bound: no schedule can be faster';

CREATE FUNCTION fleet_catalog.advise(a_package text, a_servers integer, a_items jsonb)
    RETURNS TABLE (number_of_servers integer, makespan interval, lower_bound interval, speed_up double precision)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM fleet_catalog.check_range('servers', a_servers, 1, 1000);
    RETURN QUERY
    SELECT p.server_no, fleet_catalog.from_microseconds(p.makespan_us), fleet_catalog.from_microseconds(p.lower_bound_us),
           round((first_value(p.makespan_us) OVER (ORDER BY p.server_no) / greatest(p.makespan_us, 1)::numeric), 2)::double precision
      FROM fleet_catalog.play_package(a_package, a_items, a_servers) AS p ORDER BY p.server_no;
END
$$;
