-- 61_page.sql: what the pages and texts of the following files are made of.
--
-- fleet.report(), overview(), gantt() and tree() run as their caller: they read the views below, which show what
-- fleet.run shows, by the same predicate.  Their bodies are parsed at installation, so that they need no right on
-- fleet_catalog's schema; 90_finish.sql lets everybody execute what they call, which reads nothing but these views.
--
-- Every text that comes from a row goes through fleet_catalog.html(), which leaves ASCII without a character of markup.

CREATE FUNCTION fleet_catalog.html(a_text text, a_limit integer) RETURNS text
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'fleet_sql_html';
COMMENT ON FUNCTION fleet_catalog.html(text, integer) IS 'A text as HTML, in ASCII: at most so many characters of it, and how many more there are';

CREATE FUNCTION fleet_catalog.without_secrets(a_params jsonb) RETURNS jsonb
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'fleet_sql_without_secrets';
COMMENT ON FUNCTION fleet_catalog.without_secrets(jsonb) IS 'Parameters, with (hidden) in place of each value whose name says that it is a secret (password, token ...)';

CREATE FUNCTION fleet_catalog.drawing(a_tasks integer, a_from integer[], a_to integer[])
    RETURNS TABLE (edge integer, task integer, layer integer, place double precision)
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_drawing';
COMMENT ON FUNCTION fleet_catalog.drawing(integer, integer[], integer[])
    IS 'A layered drawing of a graph (Sugiyama, Tagawa, Toda 1981; src/core/drawing.h): a row for each task, and one for each layer that an edge passes';

CREATE FUNCTION fleet_catalog.drawing_rows(a_starts bigint[], a_ends bigint[], a_limit integer) RETURNS integer[]
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_drawing_rows';
COMMENT ON FUNCTION fleet_catalog.drawing_rows(bigint[], bigint[], integer) IS 'Rows, from 0, in which spans that are ordered by start do not overlap';

CREATE FUNCTION fleet_catalog.drawing_spans(a_starts bigint[], a_ends bigint[], a_classes integer[], a_limit integer, a_distance bigint)
    RETURNS TABLE (lane integer, class integer, starts bigint, ends bigint)
    LANGUAGE C IMMUTABLE STRICT AS 'MODULE_PATHNAME', 'fleet_sql_drawing_spans';
COMMENT ON FUNCTION fleet_catalog.drawing_spans(bigint[], bigint[], integer[], integer, bigint) IS 'Rows of spans in any order, and in each row those of one class and closer together than the distance as one';

-- ---- what is read ------------------------------------------------------------------------------

-- No security barriers, and nothing volatile in them: they become part of the queries that read them, so that rows are found by the
-- numbers of the runs.  No condition of a user gets there: the functions that users call have settings of their own, and are not inlined.

CREATE VIEW fleet_catalog.page_run AS
SELECT r.run_id, coalesce(r.job, r.package) AS title, r.job IS NOT NULL AS single, r.state, r.params, r.requested_by,
       pg_catalog.pg_get_userbyid(r.owner) AS owner, r.run_key, r.priority, r.queued_at, r.started_at, r.finished_at, r.message, r.restart_of,
       r.parent_run_id, r.parent_task_no, r.parent_item, r.parent_job_run_id, r.package,
       (SELECT d.version FROM fleet_catalog.definition AS d WHERE d.hash = r.definition) AS version,
       -- what has not ended goes on until now; what never began has no length
       coalesce(r.started_at, r.queued_at) AS begins,
       coalesce(r.finished_at, CASE WHEN NOT fleet_catalog.is_final(r.state) THEN greatest(pg_catalog.statement_timestamp(), r.started_at) END, r.started_at, r.queued_at) AS ends
  FROM fleet_catalog.run AS r
 WHERE fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet_catalog.page_run IS 'Runs, for pages';

CREATE VIEW fleet_catalog.page_definition AS
SELECT r.run_id, d.task_no, d.name, d.kind, d.job, d.package AS nested, d.for_each, d.final, d.catch
  FROM fleet_catalog.run AS r
  JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition
 WHERE fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet_catalog.page_definition IS 'Tasks of the packages as runs have them, for pages';

CREATE VIEW fleet_catalog.page_edge AS
SELECT r.run_id, e.n::integer AS edge, (e.edge ->> 'from')::integer AS from_task, (e.edge ->> 'to')::integer AS to_task,
       e.edge ->> 'on_outcome' AS on_outcome, e.edge ->> 'condition' AS condition,
       (SELECT c.holds FROM fleet_catalog.condition_result AS c
         WHERE c.run_id = r.run_id AND c.from_task = (e.edge ->> 'from')::integer AND c.to_task = (e.edge ->> 'to')::integer) AS holds
  FROM fleet_catalog.run AS r
  JOIN fleet_catalog.definition AS d ON d.hash = r.definition,
       LATERAL pg_catalog.jsonb_array_elements(CASE pg_catalog.jsonb_typeof(d.body -> 'precedence') WHEN 'array' THEN d.body -> 'precedence' ELSE '[]'::jsonb END)
               WITH ORDINALITY AS e (edge, n)
 WHERE fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet_catalog.page_edge IS 'Precedence constraints of the packages as runs have them, for pages; holds: of a condition';

CREATE VIEW fleet_catalog.page_task AS
SELECT t.run_id, t.task_no, t.item, t.state, t.attempt::integer AS attempt, coalesce(s.name::text, 'here') AS server, t.server_id IS NULL AS here,
       t.queued_at, t.started_at, CASE WHEN fleet_catalog.is_final(t.state) THEN t.finished_at END AS finished_at,
       t.row_count, t.sqlstate, t.message, coalesce(t.item_key, fleet_catalog.without_secrets(t.params)::text) AS item_key, t.carried_from,
       t.started_at AS begins,
       CASE WHEN fleet_catalog.is_final(t.state) THEN coalesce(t.finished_at, t.started_at) ELSE greatest(pg_catalog.statement_timestamp(), t.started_at) END AS ends
  FROM fleet_catalog.task_run AS t
  JOIN fleet_catalog.run AS r ON r.run_id = t.run_id
  LEFT JOIN fleet_catalog.server_name AS s ON s.server_id = t.server_id
 WHERE fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet_catalog.page_task IS 'Task runs, for pages';

CREATE VIEW fleet_catalog.page_step AS
SELECT s.run_id, s.task_no, s.item, s.task_attempt::integer AS task_attempt, s.step_no::integer AS step_no, s.attempt::integer AS attempt, s.step,
       s.state, coalesce(v.name::text, 'here') AS server, s.started_at, s.finished_at, s.row_count, s.sqlstate, s.message, s.detail, s.hint, s.context,
       s.first_seq
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet_catalog.page_step IS 'Step runs of runs, for pages';

CREATE VIEW fleet_catalog.page_line AS
SELECT l.run_id, l.task_no, l.item, l.seq, l.logged_at, l.level, l.message, l.detail
  FROM fleet_catalog.log_line AS l
  JOIN fleet_catalog.run AS r ON r.run_id = l.run_id
 WHERE l.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet_catalog.page_line IS 'What the steps of runs said, for pages';

-- What a task was expected to take on a server of speed 1: as learned by now.
CREATE VIEW fleet_catalog.page_expected AS
SELECT r.run_id, d.task_no, l.item_key, fleet_catalog.mean_us(l.log_mean, l.log_spread, l.samples) / 1e6::double precision AS seconds
  FROM fleet_catalog.run AS r
  JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition
  JOIN fleet_catalog.duration AS l ON l.package = r.package AND l.task = d.name AND l.job = ''
 WHERE fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet_catalog.page_expected IS 'Learned durations of tasks (item_key empty) and of items, in seconds, for pages';

GRANT SELECT ON fleet_catalog.page_run, fleet_catalog.page_definition, fleet_catalog.page_edge, fleet_catalog.page_task, fleet_catalog.page_step,
    fleet_catalog.page_line, fleet_catalog.page_expected TO PUBLIC;

-- Who does not see a run is told that there is none.
CREATE FUNCTION fleet_link.check_run(run_id bigint) RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.check_run(bigint) IS 'For fleet.report(), gantt() and tree(): an error if the caller sees no such run';

CREATE FUNCTION fleet_catalog.check_run(a_run_id bigint) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM fleet_catalog.run AS r WHERE r.run_id = a_run_id AND fleet_catalog.sees(r.owner)) THEN
        PERFORM fleet_catalog.no_such_run(a_run_id, 'run');
    END IF;
    RETURN true;
END
$$;

-- What the planner makes of a run: how long it would take now, and with other numbers of servers.  Nothing of a run with so many items that it
-- would take long, of one job, and where it cannot be planned any more.
CREATE FUNCTION fleet_link.run_advice(run_id bigint) RETURNS TABLE (number_of_servers integer, makespan double precision, lower_bound double precision)
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.run_advice(bigint) IS 'For fleet.report(): seconds that the planner expects of a run, with its own items: 0 servers: as the servers are; 1 to 8: so many in each group';

CREATE FUNCTION fleet_catalog.run_advice(a_run_id bigint) RETURNS TABLE (number_of_servers integer, makespan double precision, lower_bound double precision)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $$
#variable_conflict use_column
DECLARE
    v_run record;
    v_tasks fleet_catalog.task[];
    v_edges record;
BEGIN
    SELECT r.package, r.owner, d.body INTO v_run
      FROM fleet_catalog.run AS r JOIN fleet_catalog.definition AS d ON d.hash = r.definition AND d.kind = 'package'
     WHERE r.run_id = a_run_id AND r.job IS NULL AND fleet_catalog.sees(r.owner);
    IF NOT FOUND OR (SELECT count(*) FROM (SELECT FROM fleet_catalog.task_run AS t WHERE t.run_id = a_run_id LIMIT 3001) AS t) > 3000 THEN
        RETURN;
    END IF;
    v_tasks := ARRAY(SELECT jsonb_populate_record(NULL::fleet_catalog.task, t.task || jsonb_build_object('enabled', NOT t.task ? 'left_out'))
                       FROM jsonb_array_elements(v_run.body -> 'tasks') WITH ORDINALITY AS t (task, n) ORDER BY t.n);
    SELECT coalesce(array_agg((e.edge ->> 'from')::integer ORDER BY e.n), '{}') AS from_tasks, coalesce(array_agg((e.edge ->> 'to')::integer ORDER BY e.n), '{}') AS to_tasks,
           coalesce(array_agg(e.edge ->> 'on_outcome' ORDER BY e.n), '{}') AS outcomes INTO v_edges
      FROM jsonb_array_elements(v_run.body -> 'precedence') WITH ORDINALITY AS e (edge, n);
    RETURN QUERY
    SELECT 0, max(p.makespan_us) / 1e6::double precision, max(p.lower_bound_us) / 1e6::double precision
      FROM fleet_catalog.play_tasks(v_run.package, v_run.owner, v_tasks, v_edges.from_tasks, v_edges.to_tasks, v_edges.outcomes, '{}', 0, 60000000, a_run_id) AS p
    HAVING count(*) > 0;
    RETURN QUERY
    SELECT p.server_no, p.makespan_us / 1e6::double precision, p.lower_bound_us / 1e6::double precision
      FROM fleet_catalog.play_tasks(v_run.package, v_run.owner, v_tasks, v_edges.from_tasks, v_edges.to_tasks, v_edges.outcomes, '{}', 8, 60000000, a_run_id) AS p
     WHERE EXISTS (SELECT FROM unnest(v_tasks) AS t WHERE t.on_group IS NOT NULL);
EXCEPTION WHEN object_not_in_prerequisite_state OR invalid_object_definition OR data_exception THEN
    RETURN; -- no server that it could use is left, or it is a run that somebody put there by hand
END
$$;

-- The runs of a page: the run itself and those that its tasks started, in depth first order.  Of many nested ones those that did not go well come first.
CREATE FUNCTION fleet_catalog.page_tree(a_run_id bigint) RETURNS TABLE (run_id bigint, level integer, path bigint[], prefix text)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE tree AS (
        SELECT a_run_id AS run_id, 0 AS level, ARRAY[]::bigint[] AS path, '' AS prefix
         UNION ALL
        SELECT n.run_id, t.level + 1, t.path || ARRAY[n.parent_task_no, n.parent_item, n.run_id],
               t.prefix || coalesce(n.name, '?') || CASE WHEN n.parent_item > 0 THEN '[' || n.parent_item || ']' ELSE '' END || ' / '
          FROM tree AS t,
               LATERAL (SELECT r.run_id, coalesce(r.parent_task_no, 0)::bigint AS parent_task_no, coalesce(r.parent_item, 0)::bigint AS parent_item, d.name
                          FROM fleet_catalog.page_run AS r
                          LEFT JOIN fleet_catalog.page_definition AS d ON d.run_id = t.run_id AND d.task_no = r.parent_task_no
                         WHERE r.parent_run_id = t.run_id
                         ORDER BY fleet_catalog.is_done(r.state), r.run_id LIMIT 100) AS n
         WHERE t.level < 32)
    SELECT t.run_id, t.level, t.path, t.prefix FROM tree AS t LIMIT 300;
END;

-- ---- words and numbers -------------------------------------------------------------------------

-- A length of time as people say it.
CREATE FUNCTION fleet_catalog.span_text(a_seconds double precision) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN a_seconds IS NULL THEN ''
        WHEN a_seconds < 0 THEN '0 ms'
        WHEN a_seconds < 0.9995 THEN pg_catalog.round((a_seconds * 1000)::numeric)::text || ' ms'
        WHEN a_seconds < 59.95 THEN pg_catalog.round(a_seconds::numeric, 1)::text || ' s'
        WHEN a_seconds < 3599.5 THEN pg_catalog.div(pg_catalog.round(a_seconds::numeric), 60)::text || ' min ' || pg_catalog.mod(pg_catalog.round(a_seconds::numeric), 60)::text || ' s'
        WHEN a_seconds < 86400 THEN pg_catalog.div(pg_catalog.round(a_seconds::numeric), 3600)::text || ' h ' || pg_catalog.mod(pg_catalog.div(pg_catalog.round(a_seconds::numeric), 60), 60)::text || ' min'
        ELSE pg_catalog.div(pg_catalog.round(a_seconds::numeric), 86400)::text || ' d ' || pg_catalog.mod(pg_catalog.div(pg_catalog.round(a_seconds::numeric), 3600), 24)::text || ' h' END;
COMMENT ON FUNCTION fleet_catalog.span_text(double precision) IS 'Seconds in words: 320 ms, 4.1 s, 2 min 14 s, 1 h 3 min, 2 d 4 h';

CREATE FUNCTION fleet_catalog.seconds(a_from timestamptz, a_to timestamptz) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.date_part('epoch', a_to - a_from);
COMMENT ON FUNCTION fleet_catalog.seconds(timestamptz, timestamptz) IS 'Seconds from one time to another';

CREATE FUNCTION fleet_catalog.number_text(a_number bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.ltrim(pg_catalog.to_char(a_number, '9,999,999,999,999,999'));
COMMENT ON FUNCTION fleet_catalog.number_text(bigint) IS 'A number with commas';

CREATE FUNCTION fleet_catalog.time_text(a_time timestamptz) RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce(pg_catalog.to_char(a_time, 'YYYY-MM-DD HH24:MI:SS'), '');
COMMENT ON FUNCTION fleet_catalog.time_text(timestamptz) IS 'A time, to the second, in the time zone of the session';

-- One letter, which is the class of its colour.
CREATE FUNCTION fleet_catalog.state_class(a_state smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN a_state = 11 THEN 'ok' WHEN a_state = 12 THEN 'no' WHEN a_state = 13 THEN 'ca' WHEN a_state = 14 THEN 'sk'
                WHEN a_state IN (15, 16) THEN 'un' WHEN a_state = 4 THEN 're' WHEN a_state IN (2, 3, 5) THEN 'ru' ELSE 'qu' END;
COMMENT ON FUNCTION fleet_catalog.state_class(smallint) IS 'Class of a state in the style sheet of the pages';

-- A sign beside each colour.
CREATE FUNCTION fleet_catalog.state_sign(a_state smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN a_state = 11 THEN '&#10003;' WHEN a_state = 12 THEN '&#10007;' WHEN a_state = 13 THEN '&#9632;' WHEN a_state = 14 THEN '&#8211;'
                WHEN a_state IN (15, 16) THEN '?' WHEN a_state = 4 THEN '&#8635;' WHEN a_state IN (2, 3, 5) THEN '&#9654;&#65038;' ELSE '&#9675;' END;
COMMENT ON FUNCTION fleet_catalog.state_sign(smallint) IS 'Sign of a state, as HTML';

CREATE FUNCTION fleet_catalog.state_html(a_state smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '<span class="st ' || fleet_catalog.state_class(a_state) || '"><span aria-hidden="true">' || fleet_catalog.state_sign(a_state) || '</span> '
           || fleet_catalog.state_name(a_state) || '</span>';
COMMENT ON FUNCTION fleet_catalog.state_html(smallint) IS 'A state with its sign and colour';

-- A cell of a table: what it sorts by, if that is not its text.
CREATE FUNCTION fleet_catalog.cell(a_html text, a_sort double precision) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '<td class="n"' || coalesce(' data-v="' || pg_catalog.round(a_sort::numeric, 3)::text || '"', '') || '>' || coalesce(a_html, '') || '</td>';
COMMENT ON FUNCTION fleet_catalog.cell(text, double precision) IS 'A cell with a number or a time';

CREATE FUNCTION fleet_catalog.heads(VARIADIC a_names text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT '<thead><tr>' || pg_catalog.string_agg('<th scope="col"' || CASE WHEN n.name LIKE '#%' THEN ' class="n"' ELSE '' END || '>'
                                                          || pg_catalog.ltrim(n.name, '#') || '</th>', '' ORDER BY n.ord) || '</tr></thead>'
              FROM pg_catalog.unnest(a_names) WITH ORDINALITY AS n (name, ord));
COMMENT ON FUNCTION fleet_catalog.heads(text[]) IS 'The head of a table; # before a name: numbers';

-- A percentage of a time within a span, for where something begins.
CREATE FUNCTION fleet_catalog.permille(a_time timestamptz, a_from timestamptz, a_span double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pg_catalog.round(10000 * greatest(least(fleet_catalog.seconds(a_from, a_time) / greatest(a_span, 1e-6), 1), 0)) / 10;
COMMENT ON FUNCTION fleet_catalog.permille(timestamptz, timestamptz, double precision) IS 'Where a time is within a span, from 0 to 1000';

-- Marks of a time axis: a distance that people count in, with at most 8 of them.
CREATE FUNCTION fleet_catalog.axis_step(a_span double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN coalesce((SELECT min(s.step) FROM pg_catalog.unnest(ARRAY[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900,
                                               1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800]::double precision[]) AS s (step)
                      WHERE s.step * 8 >= a_span), a_span / 8);
COMMENT ON FUNCTION fleet_catalog.axis_step(double precision) IS 'Distance of the marks of a time axis, in seconds';

CREATE FUNCTION fleet_catalog.axis_html(a_span double precision) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT '<div class="axis" aria-hidden="true">' || pg_catalog.string_agg('<span style="left:' || pg_catalog.round((100 * s.n * fleet_catalog.axis_step(a_span) / greatest(a_span, 1e-6))::numeric, 2)
                    || '%">' || CASE WHEN s.n = 0 THEN '0' ELSE pg_catalog.replace(fleet_catalog.span_text(s.n * fleet_catalog.axis_step(a_span)), '.0 s', ' s') END || '</span>', '' ORDER BY s.n) || '</div>'
              FROM pg_catalog.generate_series(0, pg_catalog.floor(a_span * 0.86 / fleet_catalog.axis_step(a_span))::integer) AS s (n));
COMMENT ON FUNCTION fleet_catalog.axis_html(double precision) IS 'A time axis over so many seconds';

CREATE FUNCTION fleet_link.check_days(days integer) RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.check_days(integer) IS 'For fleet.overview(): an error if it cannot go so many days back';

CREATE FUNCTION fleet_catalog.check_days(a_days integer) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_range('days', a_days, 1, 366);
    RETURN true;
END
$$;
