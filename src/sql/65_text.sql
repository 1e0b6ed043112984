-- 65_text.sql: a run in psql: fleet.gantt() and fleet.tree().
--
-- They run as their caller (61_page.sql).  Signs beyond ASCII are used where both the database and the client have them.

CREATE FUNCTION fleet_catalog.text_signs(a_ascii boolean) RETURNS boolean
    LANGUAGE sql STABLE
    RETURN NOT coalesce(a_ascii, false) AND pg_catalog.current_setting('server_encoding') = 'UTF8' AND pg_catalog.current_setting('client_encoding') = 'UTF8';
COMMENT ON FUNCTION fleet_catalog.text_signs(boolean) IS 'May signs beyond ASCII be used?';

-- One line: no control characters, none that turn the direction of the text around, and not longer than that.
CREATE FUNCTION fleet_catalog.text_clip(a_text text, a_length integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT CASE WHEN pg_catalog.length(t.line) <= a_length THEN t.line ELSE pg_catalog.left(t.line, a_length - 2) || '..' END
              FROM (SELECT pg_catalog.regexp_replace(pg_catalog.left(a_text, 500), CASE WHEN pg_catalog.getdatabaseencoding() = 'UTF8'
                                                      THEN '[[:cntrl:]\u0080-\u009f\u202a-\u202e\u2066-\u2069]+' ELSE '[[:cntrl:]]+' END, ' ', 'g') AS line) AS t);
COMMENT ON FUNCTION fleet_catalog.text_clip(text, integer) IS 'The beginning of a text, in one line';

CREATE FUNCTION fleet_link.check_gantt(run_id bigint, width integer) RETURNS boolean
    LANGUAGE C STABLE AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet_link.check_gantt(bigint, integer) IS 'For fleet.gantt(): an error if the caller sees no such run, or it cannot be so wide';

CREATE FUNCTION fleet_catalog.check_gantt(a_run_id bigint, a_width integer) RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM fleet_catalog.check_range('width', a_width, 60, 120);
    RETURN fleet_catalog.check_run(a_run_id);
END
$$;

-- A line for each task, in order of start; a task with items is as dark as there were items at work.
CREATE FUNCTION fleet.gantt(run_id bigint, width integer DEFAULT 100, ascii boolean DEFAULT false) RETURNS TABLE (gantt text)
    LANGUAGE sql STABLE SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
    WITH checked AS MATERIALIZED (
        SELECT fleet_link.check_gantt(gantt.run_id, gantt.width) AS ok
    ), sign AS MATERIALIZED (
        -- waited, and a quarter to all of the most items at a time
        SELECT CASE WHEN u.yes THEN pg_catalog.convert_from('\xc2b7'::bytea, 'UTF8') ELSE '.' END AS waited,
               CASE WHEN u.yes THEN ARRAY[pg_catalog.convert_from('\xe29691'::bytea, 'UTF8'), pg_catalog.convert_from('\xe29692'::bytea, 'UTF8'), pg_catalog.convert_from('\xe29693'::bytea, 'UTF8'), pg_catalog.convert_from('\xe29688'::bytea, 'UTF8')]
                    ELSE '{-,=,+,#}' END AS dark
          FROM checked AS c, (SELECT fleet_catalog.text_signs(gantt.ascii) AS yes) AS u WHERE c.ok
    ), run AS MATERIALIZED (
        SELECT r.run_id, r.title, r.state, r.begins, fleet_catalog.seconds(r.begins, r.ends) AS span, r.started_at IS NOT NULL AS started, gantt.width - 48 AS columns
          FROM sign AS s, fleet_catalog.page_run AS r WHERE r.run_id = gantt.run_id
    ), piece AS MATERIALIZED (
        SELECT p.path, p.run_id, p.task_no, p.item, p.prefix || p.name AS name, p.state, p.server, p.queued_at, p.begins, p.ends,
               least(pg_catalog.floor(r.columns * fleet_catalog.permille(p.begins, r.begins, r.span) / 1000), r.columns - 1)::integer AS c1,
               least(pg_catalog.floor(r.columns * fleet_catalog.permille(p.ends, r.begins, r.span) / 1000), r.columns - 1)::integer AS c2
          FROM run AS r, fleet_catalog.page_pieces(gantt.run_id) AS p WHERE p.begins IS NOT NULL AND p.state <> 14 AND p.carried_from IS NULL
    ), task AS MATERIALIZED (
        SELECT p.run_id, p.task_no, max(p.name) AS name, min(p.begins) AS begins, max(p.ends) AS ends, min(p.queued_at) AS queued_at, count(*) AS n, count(*) FILTER (WHERE p.state IN (12, 15, 16)) AS bad,
               count(*) FILTER (WHERE p.state = 13) AS canceled, count(*) FILTER (WHERE p.state < 11) AS going, CASE WHEN count(DISTINCT p.server) = 1 THEN max(p.server) ELSE count(DISTINCT p.server) || ' servers' END AS server,
               row_number() OVER (ORDER BY count(*) FILTER (WHERE p.state IN (12, 15, 16)) > 0 DESC, max(p.ends) - min(p.begins) DESC, p.run_id, p.task_no) AS weight, count(*) OVER () AS tasks
          FROM piece AS p GROUP BY p.run_id, p.task_no
    ), busy AS MATERIALIZED (
        -- how many were at work in each column
        SELECT c.run_id, c.task_no, c.col, sum(c.n) OVER (PARTITION BY c.run_id, c.task_no ORDER BY c.col) AS n
          FROM (SELECT e.run_id, e.task_no, e.col, sum(e.n) AS n
                  FROM (SELECT p.run_id, p.task_no, p.c1 AS col, 1 AS n FROM piece AS p UNION ALL SELECT p.run_id, p.task_no, p.c2 + 1, -1 FROM piece AS p) AS e GROUP BY e.run_id, e.task_no, e.col) AS c
    ), bars AS (
        SELECT t.*, (SELECT pg_catalog.string_agg(CASE WHEN b.n > 0 THEN s.dark[greatest(pg_catalog.ceil(4.0 * b.n / greatest(b.most, 1)), 1)::integer]
                                               WHEN g.col < pg_catalog.floor(r.columns * fleet_catalog.permille(t.begins, r.begins, r.span) / 1000) AND g.col >= pg_catalog.floor(r.columns * fleet_catalog.permille(t.queued_at, r.begins, r.span) / 1000) AND t.queued_at < t.begins THEN s.waited
                                               ELSE ' ' END, '' ORDER BY g.col)
                       FROM pg_catalog.generate_series(0, r.columns - 1) AS g (col)
                       LEFT JOIN LATERAL (SELECT b.n, (SELECT max(m.n) FROM busy AS m WHERE m.run_id = t.run_id AND m.task_no = t.task_no) AS most FROM busy AS b
                                           WHERE b.run_id = t.run_id AND b.task_no = t.task_no AND b.col <= g.col ORDER BY b.col DESC LIMIT 1) AS b ON true) AS bar
          FROM task AS t, run AS r, sign AS s WHERE t.weight <= 60
    )
    SELECT l.line
      FROM (SELECT 0 AS part, NULL::timestamptz AS begins, 0::bigint AS run_id, 0 AS task_no,
                   fleet_catalog.text_clip('run ' || r.run_id || ' of ' || r.title || ': ' || fleet_catalog.state_name(r.state) || CASE WHEN r.started THEN ', ' || fleet_catalog.span_text(r.span) ELSE '' END, gantt.width) AS line FROM run AS r
             UNION ALL
            SELECT 1, NULL, 0, 0, pg_catalog.rpad('', 31) || '|0' || pg_catalog.lpad(fleet_catalog.span_text(r.span), r.columns - 1) || '|' FROM run AS r WHERE r.started
             UNION ALL
            SELECT 2, b.begins, b.run_id, b.task_no, pg_catalog.rpad(fleet_catalog.text_clip(b.name || CASE WHEN b.n > 1 THEN ' (' || b.n || ')' ELSE '' END, 18), 19) || pg_catalog.rpad(fleet_catalog.text_clip(b.server, 11), 12) || '|' || b.bar || '|'
                   || pg_catalog.lpad(fleet_catalog.span_text(fleet_catalog.seconds(b.begins, b.ends)), 11) || CASE WHEN b.bad > 0 THEN ' !' || CASE WHEN b.bad < 100 AND b.n > 1 THEN b.bad::text ELSE '' END WHEN b.going > 0 THEN ' >' WHEN b.canceled > 0 THEN ' x' ELSE '' END FROM bars AS b
             UNION ALL
            SELECT 3, NULL, 0, 0, 'and ' || t.tasks - 60 || ' more tasks' FROM task AS t WHERE t.weight = 1 AND t.tasks > 60) AS l
     ORDER BY l.part, l.begins, l.run_id, l.task_no;
END;
COMMENT ON FUNCTION fleet.gantt(bigint, integer, boolean) IS 'When the tasks of a run were at work, as lines of text of at most width columns, 60 to 120. A dot: it waited; darker: more of its items at a time; after the time, !: failed (how many items), x: canceled, >: it has not ended';

CREATE FUNCTION fleet.tree(run_id bigint, ascii boolean DEFAULT false) RETURNS TABLE (tree text)
    LANGUAGE sql STABLE SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
    WITH checked AS MATERIALIZED (
        SELECT fleet_link.check_run(tree.run_id) AS ok
    ), sign AS MATERIALIZED (
        SELECT CASE WHEN u.yes THEN pg_catalog.convert_from('\xe2949ce29480'::bytea, 'UTF8') ELSE '|-' END AS branch, CASE WHEN u.yes THEN pg_catalog.convert_from('\xe29494e29480'::bytea, 'UTF8') ELSE '`-' END AS last,
               CASE WHEN u.yes THEN pg_catalog.convert_from('\xe29482'::bytea, 'UTF8') ELSE '|' END AS trunk
          FROM checked AS c, (SELECT fleet_catalog.text_signs(tree.ascii) AS yes) AS u WHERE c.ok
    ), found AS MATERIALIZED (
        SELECT t.* FROM sign AS s, fleet_catalog.page_tree(tree.run_id) AS t
    ), part AS MATERIALIZED (
        -- of the runs of one task or item, one an attempt, the last one
        SELECT f.* FROM found AS f
         WHERE NOT EXISTS (SELECT FROM found AS o WHERE pg_catalog.cardinality(o.path) BETWEEN 3 AND pg_catalog.cardinality(f.path)
                              AND o.path[1:pg_catalog.cardinality(o.path) - 1] = f.path[1:pg_catalog.cardinality(o.path) - 1] AND o.path[pg_catalog.cardinality(o.path)] > f.path[pg_catalog.cardinality(o.path)])
    ), member AS MATERIALIZED (
        SELECT p.path, p.level, t.*, row_number() OVER (PARTITION BY t.run_id, t.task_no, t.item > 0 ORDER BY t.item) AS place, count(*) OVER (PARTITION BY t.run_id, t.task_no, t.item > 0) AS alike
          FROM part AS p JOIN fleet_catalog.page_task AS t ON t.run_id = p.run_id
         -- of items, those that failed, and those that are runs
         WHERE t.item = 0 OR t.state IN (12, 15, 16) OR EXISTS (SELECT FROM part AS n WHERE n.path[1:pg_catalog.cardinality(n.path) - 1] = p.path || t.task_no::bigint || t.item::bigint)
    ), counted AS (
        SELECT t.run_id, t.task_no, count(*) AS items, count(*) FILTER (WHERE t.state = 11) AS ok, count(*) FILTER (WHERE t.state IN (12, 15, 16)) AS bad
          FROM part AS p JOIN fleet_catalog.page_task AS t ON t.run_id = p.run_id WHERE t.item > 0 GROUP BY t.run_id, t.task_no
    ), line AS MATERIALIZED (
        SELECT p.path || d.task_no::bigint || CASE WHEN coalesce(m.item, 0) > 0 THEN ARRAY[m.item::bigint] ELSE '{}' END AS at,
               CASE WHEN m.item > 0 THEN '[' || m.item || coalesce(': ' || fleet_catalog.text_clip(m.item_key, 40), '') || ']' ELSE fleet_catalog.text_clip(d.name, 60) END
               || CASE WHEN NOT m.here AND m.begins IS NOT NULL AND coalesce(c.items, 0) = 0 THEN ' on ' || fleet_catalog.text_clip(m.server, 30) ELSE '' END
               || ': ' || fleet_catalog.state_name(coalesce(m.state, 1::smallint)) || CASE WHEN m.begins IS NOT NULL AND m.state <> 14 THEN ', ' || fleet_catalog.span_text(fleet_catalog.seconds(m.begins, m.ends)) ELSE '' END
               || CASE WHEN m.attempt > 1 THEN ', attempt ' || m.attempt ELSE '' END
               || CASE WHEN c.items > 0 THEN ', ' || c.ok || ' of ' || c.items || CASE c.items WHEN 1 THEN ' item' ELSE ' items' END || CASE WHEN c.bad > 0 THEN ', ' || c.bad || ' failed' ELSE '' END ELSE '' END
               || CASE WHEN m.state IN (12, 15, 16) AND m.message IS NOT NULL THEN ': ' || coalesce('(' || m.sqlstate || ') ', '') || fleet_catalog.text_clip(m.message, 60) ELSE '' END AS line
          FROM part AS p JOIN fleet_catalog.page_definition AS d ON d.run_id = p.run_id
          LEFT JOIN member AS m ON m.run_id = d.run_id AND m.task_no = d.task_no AND m.place <= 10
          LEFT JOIN counted AS c ON c.run_id = d.run_id AND c.task_no = d.task_no AND coalesce(m.item, 0) = 0
         UNION ALL
        SELECT m.path || m.task_no::bigint || ARRAY[2147483647::bigint], 'and ' || m.alike - 10 || ' more' FROM member AS m WHERE m.item > 0 AND m.place = 11
    ), placed AS MATERIALIZED (
        -- where a line hangs: items at their task, tasks of a nested run at the task or item that started it
        SELECT l.line, pg_catalog.array_agg(a.n ORDER BY a.ord) AS at
          FROM (SELECT l.*, row_number() OVER () AS id FROM line AS l) AS l,
               LATERAL (SELECT u.n, u.ord FROM pg_catalog.unnest(l.at) WITH ORDINALITY AS u (n, ord)
                         -- in the path of a nested run: task, item (0: the task itself), run
                         WHERE NOT (u.ord % 3 = 0 AND u.ord < pg_catalog.cardinality(l.at)) AND NOT (u.ord % 3 = 2 AND u.n = 0)) AS a
         GROUP BY l.id, l.line ORDER BY 2 LIMIT 1000
    )
    SELECT fleet_catalog.text_clip(r.title, 60) || ': run ' || r.run_id || ' ' || fleet_catalog.state_name(r.state) || CASE WHEN r.started_at IS NOT NULL THEN ', ' || fleet_catalog.span_text(fleet_catalog.seconds(r.begins, r.ends)) ELSE '' END
      FROM sign AS s, fleet_catalog.page_run AS r WHERE r.run_id = tree.run_id
     UNION ALL
    (SELECT coalesce((SELECT pg_catalog.string_agg(CASE WHEN EXISTS (SELECT FROM placed AS o WHERE pg_catalog.cardinality(o.at) = g.n AND o.at[1:g.n - 1] = p.at[1:g.n - 1] AND o.at[g.n] > p.at[g.n]) THEN s.trunk || '  ' ELSE '   ' END, '' ORDER BY g.n)
                       FROM pg_catalog.generate_series(1, pg_catalog.cardinality(p.at) - 1) AS g (n)), '')
            || CASE WHEN EXISTS (SELECT FROM placed AS o WHERE pg_catalog.cardinality(o.at) = pg_catalog.cardinality(p.at) AND o.at[1:pg_catalog.cardinality(p.at) - 1] = p.at[1:pg_catalog.cardinality(p.at) - 1]
                                    AND o.at[pg_catalog.cardinality(p.at)] > p.at[pg_catalog.cardinality(p.at)]) THEN s.branch ELSE s.last END || ' ' || p.line
       FROM sign AS s, placed AS p ORDER BY p.at);
END;
COMMENT ON FUNCTION fleet.tree(bigint, boolean) IS 'A run, its tasks and those of the packages in it, as a tree of text with the state of each; of items, those that failed and those that are packages';
