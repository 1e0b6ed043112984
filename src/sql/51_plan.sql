-- 51_plan.sql: what a package would do, and when a run will end: played through the agent's own engine on
-- virtual time.  Here the inputs are read; src/api/plan.c gives them to the core.

CREATE FUNCTION fleet_catalog.play(
    a_tasks text[], a_kinds integer[], a_joins integer[], a_items integer[], a_throttles integer[], a_policies integer[],
    a_estimates bigint[], a_item_estimates bigint[], a_from integer[], a_to integer[], a_outcomes integer[],
    a_slots integer[], a_weights double precision[], a_speeds double precision[], a_states integer[],
    a_members integer[], a_member_tasks integer[], a_grouped integer[], a_local_slots integer, a_default bigint, a_servers integer,
    a_begun_tasks integer[], a_begun_items integer[], a_begun_states integer[], a_begun_servers integer[], a_begun bigint[])
    RETURNS TABLE (task_no integer, item integer, server_no integer, starts_us bigint, ends_us bigint, critical boolean,
                   makespan_us bigint, lower_bound_us bigint)
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_play';
COMMENT ON FUNCTION fleet_catalog.play(text[], integer[], integer[], integer[], integer[], integer[], bigint[], bigint[], integer[], integer[], integer[], integer[], double precision[], double precision[], integer[], integer[], integer[], integer[], integer, bigint, integer, integer[], integer[], integer[], integer[], bigint[])
    IS 'The planner of the core. a_servers 0: a row for each task run; more: only makespan and lower bound, for 1 to a_servers servers (server_no); -1: how long the rest of a run takes of which so much has begun, as makespan (no row: it cannot go on)';

CREATE FUNCTION fleet_catalog.mean_us(a_log_mean double precision, a_log_spread double precision, a_samples integer) RETURNS bigint
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_mean_us';
COMMENT ON FUNCTION fleet_catalog.mean_us(double precision, double precision, integer) IS 'Mean of a learned duration (FleetEstimate), in microseconds';

-- All servers, numbered as the planner numbers them.  usable: a run of this owner can be placed there.
CREATE FUNCTION fleet_catalog.servers_of(a_owner oid)
    RETURNS TABLE (no integer, server_id integer, name name, groups text[], slots integer, weight double precision, state text,
                   speed double precision, usable boolean)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT row_number() OVER (ORDER BY s.server_id)::integer - 1, s.server_id, s.name, s.groups, s.slots, s.weight, s.state,
       coalesce(fleet_catalog.speed(h.speed_log, h.speed_evidence), 1),
       EXISTS (SELECT FROM pg_foreign_server AS f JOIN pg_user_mapping AS m ON m.umserver = f.oid AND m.umuser IN (a_owner, 0)
                WHERE f.oid = s.foreign_server AND has_server_privilege(a_owner, f.oid, 'USAGE'))
  FROM fleet_catalog.server AS s LEFT JOIN fleet_catalog.server_health AS h ON h.server_id = s.server_id
$$;

-- What each piece of work is expected to take at speed 1, and by what: 'item' (this very item, by earlier runs), 'cost' (the
-- task as a whole, times the item's cost over the mean), 'task' (the task as a whole), 'assumed' (nothing is known; 0).  Items are those of the run itself if it has them, or else of
-- the last run that succeeded; of another number than there were, they come again in turn.
CREATE FUNCTION fleet_catalog.expected(a_package text, a_tasks fleet_catalog.task[], a_items jsonb, a_run_id bigint)
    RETURNS TABLE (task_no integer, item integer, estimate_us bigint, basis text)
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    WITH task AS MATERIALIZED (
        SELECT t.task_no, t.name, t.for_each IS NOT NULL AS for_each, t.cost IS NOT NULL AS costs,
               coalesce((SELECT fleet_catalog.mean_us(d.log_mean, d.log_spread, d.samples) FROM fleet_catalog.duration AS d
                          WHERE d.package = a_package AND d.task = t.name AND d.item_key = '' AND d.job = ''),
                        -- of a mean cost, if they have costs: those that have ended may be the largest
                        (SELECT (avg(extract(epoch FROM i.finished_at - i.started_at)) * 1e6
                                 / coalesce(CASE WHEN t.cost IS NOT NULL THEN nullif(avg(i.cost), 0) END
                                            / (SELECT nullif(avg(m.cost), 0) FROM fleet_catalog.task_run AS m
                                                WHERE m.run_id = a_run_id AND m.task_no = t.task_no AND m.item > 0), 1))::bigint FROM fleet_catalog.task_run AS i
                          WHERE i.run_id = a_run_id AND i.task_no = t.task_no AND i.item > 0
                            AND i.state = fleet_catalog.state_code('succeeded'))) AS estimate
          FROM unnest(a_tasks) AS t
    ), source AS MATERIALIZED (
        SELECT t.task_no, t.name, s.run_id, s.no
          FROM task AS t,
               LATERAL (SELECT a_run_id AS run_id, t.task_no AS no
                         WHERE EXISTS (SELECT FROM fleet_catalog.task_run AS i
                                        WHERE i.run_id = a_run_id AND i.task_no = t.task_no AND i.item > 0)
                        UNION ALL
                        -- of a restart that took it over as a whole: the run that has its items
                        (SELECT coalesce(c.run_id, r.run_id), coalesce(p.task_no, d.task_no)
                           FROM (SELECT r.run_id, r.definition FROM fleet_catalog.run AS r
                                  WHERE NULLIF(r.package, '') = a_package AND r.state = fleet_catalog.state_code('succeeded') ORDER BY r.run_id DESC LIMIT 1) AS r
                           JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.name = t.name
                           LEFT JOIN fleet_catalog.task_run AS w ON w.run_id = r.run_id AND w.task_no = d.task_no AND w.item = 0 AND w.started_at IS NULL
                           LEFT JOIN fleet_catalog.run AS c ON c.run_id = w.carried_from
                           LEFT JOIN fleet_catalog.definition_task AS p ON p.hash = c.definition AND p.name = t.name)
                        LIMIT 1) AS s
         WHERE t.for_each
    ), past AS MATERIALIZED (
        SELECT s.task_no, i.item, max(i.item) OVER (PARTITION BY s.task_no) AS items,
               i.cost / nullif(avg(i.cost) OVER (PARTITION BY s.task_no), 0) AS share,
               coalesce((SELECT fleet_catalog.mean_us(d.log_mean, d.log_spread, d.samples) FROM fleet_catalog.duration AS d
                          WHERE d.package = a_package AND d.task = s.name AND d.item_key = coalesce(i.item_key, i.params::text) AND d.job = ''),
                        CASE WHEN i.state = fleet_catalog.state_code('succeeded')
                             THEN greatest((extract(epoch FROM i.finished_at - i.started_at) * 1e6
                                            * coalesce(fleet_catalog.speed(h.speed_log, h.speed_evidence), 1))::bigint, 1) END) AS estimate
          FROM source AS s JOIN fleet_catalog.task_run AS i ON i.run_id = s.run_id AND i.task_no = s.no AND i.item > 0
          LEFT JOIN fleet_catalog.server_health AS h ON h.server_id = i.server_id
    )
    SELECT t.task_no, n.item, coalesce(p.estimate, CASE WHEN t.costs AND p.share IS NOT NULL THEN greatest((t.estimate * p.share)::bigint, 1) END, t.estimate, 0),
           CASE WHEN p.estimate IS NOT NULL THEN 'item' WHEN t.estimate IS NULL THEN 'assumed' WHEN t.costs AND p.share IS NOT NULL THEN 'cost' ELSE 'task' END
      FROM task AS t
      LEFT JOIN (SELECT p.task_no, max(p.items) AS items FROM past AS p GROUP BY p.task_no) AS c ON c.task_no = t.task_no
     CROSS JOIN LATERAL generate_series(CASE WHEN t.for_each THEN 1 ELSE 0 END,
                                   CASE WHEN NOT t.for_each THEN 0
                                        WHEN a_items ? t.name THEN (a_items ->> t.name)::numeric::integer
                                        ELSE coalesce(c.items, 1) END) AS n (item)
      LEFT JOIN past AS p ON p.task_no = t.task_no AND p.item = (n.item - 1) % c.items + 1
     ORDER BY 1, 2
$$;

-- a_on: on_outcome of each edge.  a_run_id: of the run whose rest is played, with a_servers = -1.
CREATE FUNCTION fleet_catalog.play_tasks(a_package text, a_owner oid, a_tasks fleet_catalog.task[], a_from integer[], a_to integer[], a_on text[],
                                         a_items jsonb, a_servers integer, a_default bigint, a_run_id bigint)
    RETURNS TABLE (task_no integer, item integer, server_no integer, starts_us bigint, ends_us bigint, critical boolean,
                   makespan_us bigint, lower_bound_us bigint)
    LANGUAGE sql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
    WITH server AS MATERIALIZED (
        SELECT s.no, s.server_id, s.name, s.groups, s.slots, s.weight, s.state, s.speed, s.usable
          FROM fleet_catalog.servers_of(a_owner) AS s
    ), task AS MATERIALIZED (
        SELECT t.* FROM unnest(a_tasks) AS t
    ), expected AS MATERIALIZED (
        SELECT e.* FROM fleet_catalog.expected(a_package, a_tasks, a_items, a_run_id) AS e
    ), member AS MATERIALIZED (
        SELECT s.no, t.task_no FROM task AS t JOIN server AS s ON s.usable AND (s.name = t.server OR t.on_group = ANY (s.groups)) WHERE t.kind = 'job'
    )
    SELECT p.*
      FROM (SELECT array_agg(t.name ORDER BY t.task_no),
                   array_agg(CASE WHEN t.enabled THEN array_position('{job,sql,package}'::text[], CASE WHEN num_nonnulls(t.job, t.server, t.on_group) = 1 THEN 'sql' ELSE t.kind END) - 1
                                  ELSE 9 END + CASE WHEN t.final THEN 10 WHEN t.catch THEN 20 ELSE 0 END ORDER BY t.task_no),
                   array_agg(array_position('{all,any}'::text[], t.join_type) - 1 ORDER BY t.task_no),
                   array_agg(CASE WHEN t.for_each IS NULL THEN -1
                                  ELSE (SELECT count(*)::integer FROM expected AS e WHERE e.task_no = t.task_no) END ORDER BY t.task_no),
                   array_agg(t.throttle ORDER BY t.task_no),
                   array_agg(array_position('{shortest_finish,round_robin,least_loaded,weighted}'::text[], t.balance) - 1 ORDER BY t.task_no),
                   array_agg(coalesce((SELECT e.estimate_us FROM expected AS e WHERE e.task_no = t.task_no AND e.item = 0), 0) ORDER BY t.task_no),
                   array_agg((t.on_group IS NOT NULL)::integer ORDER BY t.task_no)
              FROM task AS t) AS t (names, kinds, joins, items, throttles, policies, estimates, grouped),
           (SELECT coalesce(array_agg(e.estimate_us ORDER BY e.task_no, e.item) FILTER (WHERE e.item > 0), '{}') FROM expected AS e) AS i (estimates),
           (SELECT coalesce(array_agg(s.slots ORDER BY s.no), '{}'), coalesce(array_agg(s.weight ORDER BY s.no), '{}'),
                   coalesce(array_agg(s.speed ORDER BY s.no), '{}'),
                   coalesce(array_agg(array_position('{online,draining,offline}'::text[], s.state) - 1 ORDER BY s.no), '{}')
              FROM server AS s) AS s (slots, weights, speeds, states),
           (SELECT coalesce(array_agg(m.no ORDER BY m.task_no, m.no), '{}'), coalesce(array_agg(m.task_no ORDER BY m.task_no, m.no), '{}')
              FROM member AS m) AS m (servers, tasks),
           (SELECT coalesce(array_agg(b.task_no), '{}'), coalesce(array_agg(b.item), '{}'), coalesce(array_agg(b.state::integer), '{}'),
                   coalesce(array_agg(coalesce(s.no, -1)), '{}'),
                   coalesce(array_agg(greatest(coalesce(fleet_catalog.microseconds(clock_timestamp() - b.started_at), 0), 0)), '{}')
              FROM fleet_catalog.task_run AS b LEFT JOIN server AS s ON s.server_id = b.server_id
             WHERE b.run_id = a_run_id AND (fleet_catalog.is_running(b.state) OR fleet_catalog.is_final(b.state))) AS b (tasks, items, states, servers, since),
           fleet_catalog.play(t.names, t.kinds, t.joins, t.items, t.throttles, t.policies, t.estimates, i.estimates, a_from, a_to,
                              ARRAY(SELECT array_position('{success,failure,completion}'::text[], o) - 1 FROM unnest(a_on) WITH ORDINALITY AS o (o, n) ORDER BY n),
                              s.slots, s.weights, s.speeds, s.states, m.servers, m.tasks, t.grouped,
                              coalesce(current_setting('fleet.max_runners', true)::integer, 8), a_default, a_servers,
                              b.tasks, b.items, b.states, b.servers, b.since) AS p
$$;

CREATE FUNCTION fleet_catalog.check_items(a_package fleet_catalog.package, a_items jsonb) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_key text;
BEGIN
    PERFORM fleet_catalog.check_given('items', a_items::text);
    IF jsonb_typeof(a_items) <> 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'items must be a JSON object',
            HINT = 'It gives the number of items of each for_each task, as in ''{"regions": 20}''.';
    END IF;
    FOR v_key IN SELECT k FROM jsonb_object_keys(a_items) AS k ORDER BY k LOOP
        IF NOT EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_package.package_id AND t.name = v_key AND t.for_each IS NOT NULL) THEN
            RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('package "%s" has no for_each task "%s"', a_package.name, v_key),
                HINT = 'Name tasks that have a for_each.';
        ELSIF jsonb_typeof(a_items -> v_key) <> 'number' THEN
            RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('number of items of "%s" must be a number', v_key),
                HINT = 'An example is ''{"regions": 20}''.';
        END IF;
        PERFORM fleet_catalog.check_range(format('number of items of "%s"', v_key), (a_items ->> v_key)::numeric::double precision, 0, 100000);
    END LOOP;
END
$$;

-- What would keep a run of it from starting is an error; that no server is known to have a job is said.
CREATE FUNCTION fleet_catalog.check_plannable(a_package fleet_catalog.package) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    v_task record;
BEGIN
    PERFORM fleet_catalog.check_runnable(a_package);
    IF NOT EXISTS (SELECT FROM fleet_catalog.task AS t WHERE t.package_id = a_package.package_id) THEN
        PERFORM fleet_catalog.snapshot_package(a_package.name); -- raises
    END IF;
    FOR v_task IN
        SELECT t.name, t.job,
               EXISTS (SELECT FROM fleet_catalog.servers_of(a_package.owner) AS s WHERE s.usable AND (s.name = t.server OR t.on_group = ANY (s.groups))) AS usable,
               EXISTS (SELECT FROM fleet_catalog.job AS j WHERE j.name = t.job)
               OR EXISTS (SELECT FROM fleet_catalog.deployment AS d WHERE d.job = t.job AND d.state = 'deployed')
               OR EXISTS (SELECT FROM fleet_catalog.duration AS d WHERE d.package = a_package.name AND d.task = t.name) AS known
          FROM fleet_catalog.task AS t WHERE t.package_id = a_package.package_id AND num_nonnulls(t.server, t.on_group) = 1 AND t.enabled ORDER BY t.task_no
    LOOP
        IF NOT v_task.usable THEN
            RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = format('task "%s" has no server that its owner may use', v_task.name),
                DETAIL = format('Package "%s" belongs to role %s.', a_package.name, fleet_catalog.role_name(a_package.owner)),
                HINT = 'The owner needs USAGE on the foreign server, and a user mapping.';
        ELSIF NOT v_task.known THEN
            RAISE WARNING USING ERRCODE = 'undefined_object', MESSAGE = format('job "%s" is not known', v_task.job),
                DETAIL = format('Task "%s" needs it. It is not defined here, has not been deployed, and has never succeeded.', v_task.name),
                HINT = 'A run of it works only if the server has a job of this name.';
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION fleet_catalog.tasks_of(a_package fleet_catalog.package) RETURNS fleet_catalog.task[]
    LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT array_agg(t ORDER BY t.task_no) FROM fleet_catalog.task AS t WHERE t.package_id = a_package.package_id
$$;

-- After check_items() and check_plannable(), which its callers do once.
CREATE FUNCTION fleet_catalog.play_package(a_package text, a_items jsonb, a_servers integer)
    RETURNS TABLE (task_no integer, item integer, server_no integer, starts_us bigint, ends_us bigint, critical boolean,
                   makespan_us bigint, lower_bound_us bigint)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_package fleet_catalog.package := fleet_catalog.get_package(a_package);
BEGIN
    RETURN QUERY
    SELECT p.*
      FROM (SELECT coalesce(array_agg(f.task_no ORDER BY f.task_no, t.task_no), '{}'), coalesce(array_agg(t.task_no ORDER BY f.task_no, t.task_no), '{}'),
                   coalesce(array_agg(c.on_outcome ORDER BY f.task_no, t.task_no), '{}')
              FROM fleet_catalog.precedence AS c
              JOIN fleet_catalog.task AS f ON f.package_id = c.package_id AND f.name = c.from_task
              JOIN fleet_catalog.task AS t ON t.package_id = c.package_id AND t.name = c.to_task
             WHERE c.package_id = v_package.package_id) AS e (from_tasks, to_tasks, outcomes),
           fleet_catalog.play_tasks(a_package, v_package.owner, fleet_catalog.tasks_of(v_package), e.from_tasks, e.to_tasks, e.outcomes,
                                    a_items, a_servers, 60000000, NULL) AS p;
END
$$;

CREATE FUNCTION fleet.plan(package text, items jsonb DEFAULT '{}')
    RETURNS TABLE (task text, item integer, server text, starts_after interval, ends_after interval, duration interval, critical boolean, basis text)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.plan(text, jsonb)
    IS 'What a run would do now, in order of start. basis: the duration is learned of this item, or of the task, or nothing is known and a minute is assumed. items: numbers of items of for_each tasks, by default those of the last run';

CREATE FUNCTION fleet_catalog.plan(a_package text, a_items jsonb)
    RETURNS TABLE (task text, item integer, server text, starts_after interval, ends_after interval, duration interval, critical boolean, basis text)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_package fleet_catalog.package := fleet_catalog.get_package(a_package); -- a null name would find no row to join, and so no error
BEGIN
    PERFORM fleet_catalog.check_items(v_package, a_items);
    PERFORM fleet_catalog.check_plannable(v_package);
    RETURN QUERY
    SELECT t.name, p.item, s.name::text, fleet_catalog.from_microseconds(p.starts_us), fleet_catalog.from_microseconds(p.ends_us),
           fleet_catalog.from_microseconds(p.ends_us - p.starts_us), p.critical, e.basis
      FROM fleet_catalog.play_package(a_package, a_items, 0) WITH ORDINALITY AS p
      JOIN fleet_catalog.task AS t ON t.package_id = v_package.package_id AND t.task_no = p.task_no
      LEFT JOIN fleet_catalog.expected(a_package, fleet_catalog.tasks_of(v_package), a_items, NULL) AS e ON e.task_no = p.task_no AND e.item = p.item
      LEFT JOIN fleet_catalog.servers_of(v_package.owner) AS s ON s.no = p.server_no
     ORDER BY p.ordinality;
END
$$;

CREATE FUNCTION fleet.advise(package text, servers integer DEFAULT 8, items jsonb DEFAULT '{}')
    RETURNS TABLE (number_of_servers integer, makespan interval, lower_bound interval, speed_up double precision)
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.advise(text, integer, jsonb)
    IS 'How long a run would take with 1, 2, ... servers in each of its groups. lower_bound: no schedule can be faster';

CREATE FUNCTION fleet_catalog.advise(a_package text, a_servers integer, a_items jsonb)
    RETURNS TABLE (number_of_servers integer, makespan interval, lower_bound interval, speed_up double precision)
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_package fleet_catalog.package := fleet_catalog.get_package(a_package);
    v_assumed text;
BEGIN
    PERFORM fleet_catalog.check_range('servers', a_servers, 1, 1000);
    PERFORM fleet_catalog.check_items(v_package, a_items);
    PERFORM fleet_catalog.check_plannable(v_package);
    SELECT string_agg(DISTINCT quote_ident(t.name), ', ' ORDER BY quote_ident(t.name)) INTO v_assumed
      FROM fleet_catalog.expected(a_package, fleet_catalog.tasks_of(v_package), a_items, NULL) AS e
      JOIN fleet_catalog.task AS t ON t.package_id = v_package.package_id AND t.task_no = e.task_no
     WHERE e.basis = 'assumed' AND e.task_no IN (SELECT p.task_no FROM fleet_catalog.play_package(a_package, a_items, 0) AS p);
    RETURN QUERY
    SELECT p.server_no, fleet_catalog.from_microseconds(p.makespan_us), fleet_catalog.from_microseconds(p.lower_bound_us),
           round((first_value(p.makespan_us) OVER (ORDER BY p.server_no) / greatest(p.makespan_us, 1)::numeric), 2)::double precision
      FROM fleet_catalog.play_package(a_package, a_items, a_servers) AS p ORDER BY p.server_no;
    IF v_assumed IS NOT NULL THEN
        RAISE NOTICE USING MESSAGE = format('durations of tasks that have never succeeded are assumed: %s', v_assumed),
            HINT = 'A minute is assumed of each. After a run, they are known.';
    END IF;
END
$$;

-- ---- when a run will end -----------------------------------------------------------------------

CREATE FUNCTION fleet_link.run_eta(run_id bigint) RETURNS timestamptz
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.run_eta(bigint) IS 'For fleet.progress: when a run will end, its rest played by the planner; null where that cannot be told';

-- Of a run with very many items the proportion of what is done says as much, and costs less.
CREATE FUNCTION fleet_catalog.run_eta(a_run_id bigint) RETURNS timestamptz
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off AS $$
DECLARE
    v_run record;
    v_tasks fleet_catalog.task[];
    v_usual bigint;
    v_rest bigint;
BEGIN
    SELECT r.package, r.owner, d.body INTO v_run
      FROM fleet_catalog.run AS r JOIN fleet_catalog.definition AS d ON d.hash = r.definition
     WHERE r.run_id = a_run_id AND r.state = fleet_catalog.state_code('running') AND r.started_at IS NOT NULL;
    IF NOT FOUND OR NOT fleet_catalog.sees(v_run.owner)
       OR (SELECT count(*) FROM (SELECT FROM fleet_catalog.task_run AS t WHERE t.run_id = a_run_id LIMIT 10001) AS t) > 10000 THEN
        RETURN NULL;
    END IF;
    v_tasks := ARRAY(SELECT jsonb_populate_record(NULL::fleet_catalog.task, t.task || jsonb_build_object('enabled', NOT t.task ? 'left_out'))
                       FROM jsonb_array_elements(v_run.body -> 'tasks') WITH ORDINALITY AS t (task, n) ORDER BY t.n);
    -- of what is not known, as much as of what has ended in this run
    SELECT (avg(extract(epoch FROM t.finished_at - t.started_at)) * 1e6)::bigint INTO v_usual
      FROM fleet_catalog.task_run AS t JOIN unnest(v_tasks) AS d ON d.task_no = t.task_no
     WHERE t.run_id = a_run_id AND t.state = fleet_catalog.state_code('succeeded') AND (t.item > 0 OR d.for_each IS NULL);
    IF v_usual IS NULL AND NOT EXISTS (SELECT FROM fleet_catalog.duration AS d JOIN unnest(v_tasks) AS t ON t.name = d.task
                                        WHERE d.package = v_run.package AND d.item_key = '') THEN
        RETURN NULL;
    END IF;
    SELECT p.makespan_us INTO v_rest
      FROM (SELECT coalesce(array_agg((e.edge ->> 'from')::integer ORDER BY e.n), '{}'), coalesce(array_agg((e.edge ->> 'to')::integer ORDER BY e.n), '{}'),
                   coalesce(array_agg(e.edge ->> 'on_outcome' ORDER BY e.n), '{}')
              FROM jsonb_array_elements(v_run.body -> 'precedence') WITH ORDINALITY AS e (edge, n)) AS e (from_tasks, to_tasks, outcomes),
           fleet_catalog.play_tasks(v_run.package, v_run.owner, v_tasks, e.from_tasks, e.to_tasks, e.outcomes, '{}', -1,
                                    greatest(coalesce(v_usual, 60000000), 1), a_run_id) AS p;
    RETURN clock_timestamp() + fleet_catalog.from_microseconds(v_rest);
END
$$;
