-- 63_report.sql: fleet.report(), a run as a page (61_page.sql says how).
--
-- One function a section, in the order of the page.  Each reads the rows that it needs once, and shows a bounded number of them:
-- what the rows of a large run have in common is counted, and those that failed or took longest are listed.

-- Pieces of work of the runs of a page: a task, or each item of a for_each in its place once there are any.
CREATE FUNCTION fleet_catalog.page_pieces(a_run_id bigint)
    RETURNS TABLE (run_id bigint, task_no integer, item integer, name text, kind text, job text, path bigint[], prefix text, level integer, state smallint, attempt integer,
                   server text, here boolean, queued_at timestamptz, begins timestamptz, ends timestamptz, row_count bigint, sqlstate text, message text, item_key text, carried_from bigint)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT t.run_id, t.task_no, t.item, coalesce(d.name, '?'), coalesce(d.kind, '?'), d.job, r.path, r.prefix, r.level, t.state, t.attempt, t.server, t.here, t.queued_at,
           CASE WHEN t.attempt > 0 OR t.state <> 1 THEN t.begins END, CASE WHEN t.begins IS NOT NULL THEN t.ends END, t.row_count, t.sqlstate, t.message, t.item_key, t.carried_from
      FROM fleet_catalog.page_tree(a_run_id) AS r
      JOIN fleet_catalog.page_task AS t ON t.run_id = r.run_id
      LEFT JOIN fleet_catalog.page_definition AS d ON d.run_id = t.run_id AND d.task_no = t.task_no
     WHERE t.item > 0 OR NOT coalesce(d.for_each, false)
        -- asked by key, of each such task
        OR (SELECT i.item FROM fleet_catalog.page_task AS i WHERE i.run_id = t.run_id AND i.task_no = t.task_no AND i.item = 1) IS NULL;
END;

-- Name of a piece of work, as HTML.
CREATE FUNCTION fleet_catalog.piece_html(a_prefix text, a_name text, a_item integer, a_item_key text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '<bdi>' || fleet_catalog.html(coalesce(a_prefix, '') || a_name, 200) || '</bdi>'
           || CASE WHEN a_item > 0 THEN ' <span class="tag">' || a_item || '</span>' || coalesce(' <bdi class="dim">' || fleet_catalog.html(a_item_key, 80) || '</bdi>', '') ELSE '' END;
COMMENT ON FUNCTION fleet_catalog.piece_html(text, text, integer, text) IS 'Name of a task or an item, as HTML';

-- ---- what it is, and how it ended --------------------------------------------------------------

CREATE FUNCTION fleet_catalog.fact(a_name text, a_html text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN a_html <> '' THEN '<div><dt>' || a_name || '</dt><dd>' || a_html || '</dd></div>' ELSE '' END;
COMMENT ON FUNCTION fleet_catalog.fact(text, text) IS 'A fact of a list, if there is one';

CREATE FUNCTION fleet_catalog.report_bar(a_ok bigint, a_no bigint, a_ca bigint, a_sk bigint, a_un bigint, a_re bigint, a_ru bigint, a_qu bigint) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN (SELECT '<div class="bar" aria-hidden="true">' || pg_catalog.string_agg('<i class="' || s.class || '" style="flex:' || s.n || '"></i>', '' ORDER BY s.ord) || '</div><ul class="legend">'
                   || pg_catalog.string_agg('<li><span class="k ' || s.class || '"></span>' || fleet_catalog.number_text(s.n) || ' ' || s.what || '</li>', '' ORDER BY s.ord) || '</ul>'
              FROM (VALUES (1, 'no', a_no, 'failed'), (2, 'un', a_un, 'lost or unknown'), (3, 'ca', a_ca, 'canceled'), (4, 'ok', a_ok, 'succeeded'), (5, 'sk', a_sk, 'skipped'),
                           (6, 're', a_re, 'waiting for a retry'), (7, 'ru', a_ru, 'running'), (8, 'qu', a_qu, 'queued')) AS s (ord, class, n, what) WHERE s.n > 0);
COMMENT ON FUNCTION fleet_catalog.report_bar(bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint) IS 'How many pieces of work are in which state, as a bar and in words';

CREATE FUNCTION fleet_catalog.report_head(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT '<header><p class="crumb">' || coalesce('part of run ' || r.parent_run_id || ' &#183; ', '') || CASE WHEN r.single THEN 'job' ELSE 'package' END || ' &#183; run ' || r.run_id || '</p>'
        || '<h1><bdi>' || fleet_catalog.html(r.title, 200) || '</bdi></h1>'
        || '<p class="verdict">' || fleet_catalog.state_html(r.state)
        || CASE WHEN r.started_at IS NULL THEN '' WHEN r.finished_at IS NULL THEN ' for ' ELSE ' after ' END
        || CASE WHEN r.started_at IS NULL THEN '' ELSE fleet_catalog.span_text(fleet_catalog.seconds(r.begins, r.ends)) END
        || ': ' || fleet_catalog.number_text(c.done) || ' of ' || fleet_catalog.number_text(c.total) || ' tasks and items done'
        || CASE WHEN c.no + c.un > 0 THEN ', ' || fleet_catalog.number_text(c.no + c.un) || ' failed' ELSE '' END
        || CASE WHEN c.ca > 0 THEN ', ' || fleet_catalog.number_text(c.ca) || ' canceled' ELSE '' END || '.'
        || coalesce(CASE WHEN NOT fleet_catalog.is_final(r.state) THEN (SELECT ' Expected to end at ' || NULLIF(fleet_catalog.time_text(p.eta), '') || '.' FROM fleet.progress AS p WHERE p.run_id = r.run_id) END, '')
        || '</p>' || coalesce('<pre class="note">' || fleet_catalog.html(r.message, 4000) || '</pre>', '')
        || coalesce(fleet_catalog.report_bar(c.ok, c.no, c.ca, c.sk, c.un, c.re, c.ru, c.qu), '')
        || '<dl class="facts">' || fleet_catalog.fact('Requested by', '<bdi>' || fleet_catalog.html(r.requested_by::text, 200) || '</bdi>')
        || fleet_catalog.fact('Runs as', '<bdi>' || fleet_catalog.html(r.owner::text, 200) || '</bdi>')
        || fleet_catalog.fact('Requested', fleet_catalog.time_text(r.queued_at)) || fleet_catalog.fact('Started', fleet_catalog.time_text(r.started_at))
        || fleet_catalog.fact('Ended', fleet_catalog.time_text(r.finished_at))
        || fleet_catalog.fact('Waited before', CASE WHEN fleet_catalog.seconds(r.queued_at, r.started_at) >= 1 THEN fleet_catalog.span_text(fleet_catalog.seconds(r.queued_at, r.started_at)) ELSE '' END)
        || fleet_catalog.fact('Version', r.version::text) || fleet_catalog.fact('Priority', NULLIF(r.priority, 0)::text)
        || fleet_catalog.fact('Run key', '<bdi>' || fleet_catalog.html(r.run_key, 200) || '</bdi>') || fleet_catalog.fact('Restart of', 'run ' || r.restart_of)
        || fleet_catalog.fact('Paused', (SELECT '<bdi>' || fleet_catalog.html(p.paused_by::text || coalesce(': ' || p.pause_reason, ''), 300) || '</bdi>' FROM fleet.run AS p WHERE p.run_id = r.run_id AND p.paused_at IS NOT NULL))
        || '</dl>'
        || CASE WHEN r.params = '{}' THEN '' ELSE '<dl class="facts">' || (
               SELECT pg_catalog.string_agg(fleet_catalog.fact('Parameter <bdi>' || fleet_catalog.html(p.key, 100) || '</bdi>', '<code><bdi>'
                                            || fleet_catalog.html(pg_catalog.regexp_replace(p.value #>> '{}', '(://[^:/@[:space:]]*:|password[[:space:]]*=[[:space:]]*)[^@[:space:]]+', '\1(hidden)', 'gi'), 500)
                                            || '</bdi></code>'), '' ORDER BY p.key) FILTER (WHERE p.n <= 100)
                   || CASE WHEN count(*) > 100 THEN fleet_catalog.fact('More parameters', (count(*) - 100)::text) ELSE '' END
                 FROM (SELECT e.key, e.value, row_number() OVER (ORDER BY e.key) AS n FROM pg_catalog.jsonb_each(fleet_catalog.without_secrets(r.params)) AS e) AS p) || '</dl>' END
        || '</header>'
      FROM fleet_catalog.page_run AS r,
           (SELECT count(*) AS total, count(*) FILTER (WHERE p.state IN (11, 14)) AS done, count(*) FILTER (WHERE p.state = 11) AS ok, count(*) FILTER (WHERE p.state = 12) AS no,
                   count(*) FILTER (WHERE p.state = 13) AS ca, count(*) FILTER (WHERE p.state = 14) AS sk, count(*) FILTER (WHERE p.state IN (15, 16)) AS un,
                   count(*) FILTER (WHERE p.state = 4) AS re, count(*) FILTER (WHERE p.state IN (2, 3, 5)) AS ru, count(*) FILTER (WHERE p.state = 1) AS qu
              FROM fleet_catalog.page_pieces(a_run_id) AS p WHERE p.level = 0) AS c
     WHERE r.run_id = a_run_id;
END;

-- ---- failures ----------------------------------------------------------------------------------

-- Failures with the same task, SQLSTATE and message, but for numbers in it, are one, and the first of them is shown: the cause is most often the first that happened.
CREATE FUNCTION fleet_catalog.report_failures(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH bad AS MATERIALIZED (
        SELECT p.* FROM fleet_catalog.page_pieces(a_run_id) AS p WHERE p.state IN (12, 15, 16)
    ), leaf AS (
        SELECT b.*, pg_catalog.regexp_replace(pg_catalog.left(b.message, 100), '[0-9]+', '0', 'g') AS said FROM bad AS b
         WHERE NOT EXISTS (SELECT FROM fleet_catalog.page_run AS n JOIN bad AS i ON i.run_id = n.run_id
                            WHERE n.parent_run_id = b.run_id AND n.parent_task_no = b.task_no AND n.parent_item = b.item)
    ), numbered AS (
        SELECT l.*, row_number() OVER same AS nth, count(*) OVER (PARTITION BY l.prefix, l.name, l.sqlstate, l.said) AS alike
          FROM leaf AS l WINDOW same AS (PARTITION BY l.prefix, l.name, l.sqlstate, l.said ORDER BY l.ends, l.item)
    ), shown AS (
        SELECT n.*, row_number() OVER (ORDER BY n.ends NULLS LAST, n.run_id, n.task_no, n.item) AS place, count(*) OVER () AS groups FROM numbered AS n WHERE n.nth = 1
    )
    SELECT '<section id="failures"><h2>What failed</h2>' || pg_catalog.string_agg(
               '<article class="fail"><h3>' || fleet_catalog.piece_html(s.prefix, s.name, s.item, s.item_key) || ' ' || fleet_catalog.state_html(s.state)
               || CASE WHEN s.alike > 1 THEN ' <span class="tag">and ' || fleet_catalog.number_text(s.alike - 1) || ' more like it</span>' ELSE '' END || '</h3>'
               || '<pre class="msg">' || fleet_catalog.html(coalesce(s.message, e.message, 'No message.'), 2000) || '</pre><dl>'
               || coalesce('<dt>SQLSTATE</dt><dd><code>' || fleet_catalog.html(coalesce(s.sqlstate, e.sqlstate), 10) || '</code></dd>', '')
               || '<dt>Where</dt><dd>' || CASE WHEN s.here THEN 'here' ELSE 'server <bdi>' || fleet_catalog.html(s.server, 100) || '</bdi>' END
               || coalesce(', step <bdi>' || fleet_catalog.html(e.step, 200) || '</bdi>', '') || CASE WHEN s.attempt > 1 THEN ', attempt ' || s.attempt ELSE '' END || '</dd>'
               || coalesce('<dt>When</dt><dd>' || NULLIF(fleet_catalog.time_text(s.ends), '') || ', after ' || fleet_catalog.span_text(fleet_catalog.seconds(s.begins, s.ends)) || '</dd>', '')
               || coalesce('<dt>Detail</dt><dd><pre>' || fleet_catalog.html(e.detail, 2000) || '</pre></dd>', '')
               || coalesce('<dt>Hint</dt><dd><pre>' || fleet_catalog.html(e.hint, 2000) || '</pre></dd>', '')
               || coalesce('<dt>Context</dt><dd><pre>' || fleet_catalog.html(e.context, 2000) || '</pre></dd>', '')
               || coalesce('<dt>Others</dt><dd>' || o.items || '</dd>', '') || '</dl>'
               || coalesce('<div class="log"><span class="dim">The last lines of its log</span><pre>' || g.lines || '</pre></div>', '') || '</article>', '' ORDER BY s.place)
           || CASE WHEN max(s.groups) > 15 THEN '<p>' || fleet_catalog.number_text(max(s.groups) - 15) || ' more kinds of failures are in <code>fleet.task_run</code>.</p>' ELSE '' END || '</section>'
      FROM shown AS s
      LEFT JOIN LATERAL (SELECT t.step, t.sqlstate, t.message, t.detail, t.hint, t.context FROM fleet_catalog.page_step AS t
                          WHERE t.run_id = s.run_id AND t.task_no = s.task_no AND t.item = s.item AND t.state IN (12, 15, 16) ORDER BY t.first_seq DESC LIMIT 1) AS e ON true
      LEFT JOIN LATERAL (SELECT pg_catalog.string_agg('<b>' || l.level || '</b> ' || fleet_catalog.html(l.message, 500), pg_catalog.chr(10) ORDER BY l.seq) AS lines
                           FROM (SELECT i.seq, fleet_catalog.html(i.level, 20) AS level, i.message FROM fleet_catalog.page_line AS i
                                  WHERE i.run_id = s.run_id AND i.task_no = s.task_no AND i.item = s.item ORDER BY i.seq DESC LIMIT 10) AS l) AS g ON true
      LEFT JOIN LATERAL (SELECT pg_catalog.string_agg(i.what, ', ' ORDER BY i.item) AS items
                           FROM (SELECT n.item, '<bdi>' || fleet_catalog.html(coalesce(n.item_key, n.item::text), 60) || '</bdi>' AS what FROM numbered AS n
                                  WHERE n.run_id = s.run_id AND n.task_no = s.task_no AND n.said IS NOT DISTINCT FROM s.said AND n.sqlstate IS NOT DISTINCT FROM s.sqlstate AND n.nth BETWEEN 2 AND 25) AS i) AS o ON s.alike > 1
     WHERE s.place <= 15
    HAVING count(*) > 0;
END;

-- ---- the graph ---------------------------------------------------------------------------------

-- The longest way through a run: from the task that ended last back along the constraint whose task ended last.
CREATE FUNCTION fleet_catalog.page_critical(a_run_id bigint) RETURNS TABLE (run_id bigint, task_no integer)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH RECURSIVE span AS MATERIALIZED (
        SELECT t.run_id, t.task_no, t.begins, t.ends, d.final FROM fleet_catalog.page_tree(a_run_id) AS r
          JOIN fleet_catalog.page_definition AS d ON d.run_id = r.run_id
          JOIN fleet_catalog.page_task AS t ON t.run_id = d.run_id AND t.task_no = d.task_no AND t.item = 0
         WHERE t.begins IS NOT NULL AND t.state <> 14
    ), path AS (
        (SELECT DISTINCT ON (s.run_id) s.run_id, s.task_no FROM span AS s ORDER BY s.run_id, s.ends DESC, s.task_no)
         UNION
        SELECT p.run_id, f.task_no
          FROM path AS p,
               LATERAL (SELECT s.task_no FROM span AS s
                         WHERE s.run_id = p.run_id
                           AND (s.task_no IN (SELECT e.from_task FROM fleet_catalog.page_edge AS e WHERE e.run_id = p.run_id AND e.to_task = p.task_no)
                                -- a final one that follows none waits for all that are not
                                OR NOT s.final AND (SELECT l.final FROM span AS l WHERE l.run_id = p.run_id AND l.task_no = p.task_no)
                                   AND NOT EXISTS (SELECT FROM fleet_catalog.page_edge AS e WHERE e.run_id = p.run_id AND e.to_task = p.task_no))
                         ORDER BY s.ends DESC, s.task_no LIMIT 1) AS f
    ), on_it AS (
        SELECT a_run_id AS run_id
         UNION
        SELECT n.run_id FROM on_it AS o JOIN path AS p ON p.run_id = o.run_id
          JOIN fleet_catalog.page_run AS n ON n.parent_run_id = p.run_id AND n.parent_task_no = p.task_no
    )
    SELECT p.run_id, p.task_no FROM path AS p JOIN on_it AS o ON o.run_id = p.run_id;
END;

-- One line of a task in its box.
CREATE FUNCTION fleet_catalog.clip(a_text text, a_length integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN fleet_catalog.html(pg_catalog.left(pg_catalog.translate(a_text, E'\n\t\r', '   '), a_length - CASE WHEN pg_catalog.length(a_text) > a_length THEN 1 ELSE 0 END), a_length)
           || CASE WHEN pg_catalog.length(a_text) > a_length THEN '&#8230;' ELSE '' END;
COMMENT ON FUNCTION fleet_catalog.clip(text, integer) IS 'The beginning of a text in one line, as HTML';

CREATE FUNCTION fleet_catalog.graph_html(a_run_id bigint, a_root bigint, a_limit integer) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH piece AS MATERIALIZED (
        SELECT t.task_no, max(t.state) FILTER (WHERE t.item = 0) AS state, min(t.begins) AS begins, max(t.ends) FILTER (WHERE t.begins IS NOT NULL) AS ends,
               count(*) FILTER (WHERE t.item > 0) AS items, count(*) FILTER (WHERE t.item > 0 AND t.state IN (12, 15, 16)) AS bad,
               max(t.server) FILTER (WHERE t.item = 0 AND NOT t.here) AS server
          FROM fleet_catalog.page_task AS t WHERE t.run_id = a_run_id GROUP BY t.task_no
    ), critical AS MATERIALIZED (
        SELECT c.task_no FROM fleet_catalog.page_critical(a_root) AS c WHERE c.run_id = a_run_id
    ), task AS MATERIALIZED (
        SELECT d.task_no, d.name, d.kind, d.for_each, coalesce(d.job, d.nested) AS what, d.final, d.catch, coalesce(p.state, 1::smallint) AS state, p.begins, p.ends, p.items, p.bad, p.server,
               c.task_no IS NOT NULL AS critical,
               row_number() OVER (ORDER BY (p.state IN (12, 15, 16)) DESC NULLS LAST, c.task_no IS NOT NULL DESC, fleet_catalog.is_running(p.state) DESC NULLS LAST, d.task_no) AS weight,
               count(*) OVER () AS tasks
          FROM fleet_catalog.page_definition AS d LEFT JOIN piece AS p ON p.task_no = d.task_no LEFT JOIN critical AS c ON c.task_no = d.task_no
         WHERE d.run_id = a_run_id
    ), node AS MATERIALIZED (
        SELECT t.*, row_number() OVER (ORDER BY t.task_no)::integer - 1 AS no FROM task AS t WHERE t.weight <= a_limit
    ), edge AS MATERIALIZED (
        SELECT e.on_outcome, e.condition, e.holds, f.name AS from_name, t.name AS to_name, f.no AS from_no, t.no AS to_no, row_number() OVER (ORDER BY e.edge)::integer - 1 AS no,
               -- it was taken if what it waits for has happened, and its condition held
               coalesce(CASE e.on_outcome WHEN 'success' THEN f.state = 11 WHEN 'failure' THEN f.state IN (12, 15, 16) ELSE f.state IN (11, 12, 15, 16) END
                        AND (e.condition IS NULL OR e.holds), false) AS taken
          FROM fleet_catalog.page_edge AS e JOIN node AS f ON f.task_no = e.from_task JOIN node AS t ON t.task_no = e.to_task
         WHERE e.run_id = a_run_id
    ), point AS MATERIALIZED (
        SELECT p.edge, p.task, p.layer, p.place FROM fleet_catalog.drawing((SELECT count(*)::integer FROM node),
            (SELECT coalesce(pg_catalog.array_agg(e.from_no ORDER BY e.no), '{}') FROM edge AS e), (SELECT coalesce(pg_catalog.array_agg(e.to_no ORDER BY e.no), '{}') FROM edge AS e)) AS p
    ), place AS MATERIALIZED (
        SELECT n.*, (p.layer * 248 + 4)::integer AS x, (p.place * 62 + 4)::integer AS y FROM node AS n JOIN point AS p ON p.edge IS NULL AND p.task = n.no
    ), way AS (
        -- the corners of each edge: out of its task, along the layers that it passes, into its other task
        SELECT e.no, pg_catalog.string_agg(CASE WHEN c.n = 0 THEN 'M' || c.x2 || ' ' || c.y
                   ELSE 'C' || c.last + 30 || ' ' || c.last_y || ' ' || c.x1 - 30 || ' ' || c.y || ' ' || c.x1 || ' ' || c.y || CASE WHEN c.x2 > c.x1 THEN 'H' || c.x2 ELSE '' END END, '' ORDER BY c.n) AS d
          FROM edge AS e,
               LATERAL (SELECT k.n, k.x1, k.x2, k.y, lag(k.x2) OVER (ORDER BY k.n) AS last, lag(k.y) OVER (ORDER BY k.n) AS last_y
                          FROM (SELECT 0 AS n, a.x AS x1, a.x + 192 AS x2, a.y + 23 AS y FROM place AS a WHERE a.no = e.from_no
                                 UNION ALL
                                SELECT p.layer + 1, p.layer * 248 + 4, p.layer * 248 + 196, (p.place * 62 + 27)::integer FROM point AS p WHERE p.edge = e.no
                                 UNION ALL
                                SELECT 100000, a.x - 7, a.x - 7, a.y + 23 FROM place AS a WHERE a.no = e.to_no) AS k) AS c
         GROUP BY e.no
    ), size AS (
        SELECT max(p.x) + 200 AS width, max(p.y) + 52 AS height, count(*) AS drawn, max(p.tasks) AS tasks FROM place AS p
    )
    SELECT CASE WHEN s.tasks > s.drawn THEN '<p class="dim">Drawn are ' || s.drawn || ' of ' || fleet_catalog.number_text(s.tasks) || ' tasks: first those that failed, and the critical path.</p>' ELSE '' END
        || fleet_catalog.scroll('Graph of the tasks', '<div class="graph"><svg role="img" aria-label="' || s.drawn || ' tasks and ' || (SELECT count(*) FROM edge) || ' precedence constraints; the table below says the same" width="' || s.width
        || '" height="' || s.height || '" viewBox="0 0 ' || s.width || ' ' || s.height || '"><defs><marker id="a' || a_run_id || '" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
        || coalesce((SELECT pg_catalog.string_agg('<path class="' || e.on_outcome || CASE WHEN e.taken THEN ' t' ELSE '' END || '" data-e="' || e.from_no || ' ' || e.to_no || '" d="' || w.d || '" marker-end="url(#a' || a_run_id || ')"/>', '' ORDER BY e.taken, e.no)
                       FROM edge AS e JOIN way AS w ON w.no = e.no), '')
        || (SELECT pg_catalog.string_agg('<g data-t="' || p.no || '"><title>' || fleet_catalog.html(p.name, 200) || ': ' || fleet_catalog.state_name(p.state) || '</title><rect class="box' || CASE WHEN p.critical THEN ' crit' WHEN p.begins IS NULL THEN ' idle' ELSE '' END
                   || '" x="' || p.x || '" y="' || p.y || '" width="192" height="46" rx="4"/><rect class="' || fleet_catalog.state_class(p.state) || '" x="' || p.x || '" y="' || p.y || '" width="5" height="46" rx="2"/>'
                   || '<text x="' || p.x + 13 || '" y="' || p.y + 19 || '">' || fleet_catalog.clip(p.name, 25) || '</text><text class="d ' || fleet_catalog.state_class(p.state) || '" x="' || p.x + 13 || '" y="' || p.y + 36 || '">'
                   || fleet_catalog.state_sign(p.state) || ' ' || fleet_catalog.state_name(p.state)
                   || CASE WHEN p.items > 0 THEN ', ' || fleet_catalog.number_text(p.items) || CASE p.items WHEN 1 THEN ' item' ELSE ' items' END ELSE '' END
                   || CASE WHEN p.begins IS NOT NULL AND p.state <> 14 THEN ', ' || fleet_catalog.span_text(fleet_catalog.seconds(p.begins, p.ends)) ELSE '' END || '</text></g>', '' ORDER BY p.no) FROM place AS p)
        || '</svg></div>')
        || CASE WHEN (SELECT count(*) FROM edge) = 0 THEN '' ELSE '<details><summary>Constraints as a table</summary>' || fleet_catalog.scroll('Precedence constraints', '<table class="sort">'
            || fleet_catalog.heads('From', 'To', 'When it', 'Condition', 'Taken') || '<tbody>'
            || (SELECT pg_catalog.string_agg('<tr><th scope="row"><bdi>' || fleet_catalog.html(e.from_name, 200) || '</bdi></th><td><bdi>' || fleet_catalog.html(e.to_name, 200) || '</bdi></td><td>'
                       || CASE e.on_outcome WHEN 'success' THEN 'succeeds' WHEN 'failure' THEN 'fails' ELSE 'ends' END || '</td><td>'
                       || coalesce('<code><bdi>' || fleet_catalog.html(e.condition, 300) || '</bdi></code>' || CASE e.holds WHEN true THEN ' (true)' WHEN false THEN ' (false)' ELSE '' END, '') || '</td><td>'
                       || CASE WHEN e.taken THEN 'yes' ELSE 'no' END || '</td></tr>', '' ORDER BY e.no) FROM edge AS e WHERE e.no < 300)
            || '</tbody></table>') || '</details>' END
      FROM size AS s WHERE s.drawn > 0;
END;

CREATE FUNCTION fleet_catalog.report_graph(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT '<section id="graph"><h2>The graph</h2>' || g.html || '<ul class="legend"><li>Lines: solid, after success; dashed, after failure; dotted, after either. Strong ones were taken.</li><li><span class="k crit"></span>critical path: what the end waited for</li></ul>'
        || coalesce(n.html, '') || '</section>'
      FROM (SELECT fleet_catalog.graph_html(a_run_id, a_run_id, 90) AS html) AS g,
           (SELECT pg_catalog.string_agg('<details><summary>' || 'Graph of <bdi>' || fleet_catalog.html(pg_catalog.rtrim(c.prefix, ' /'), 200) || '</bdi>, run ' || c.run_id || '</summary>' || c.html || '</details>', '' ORDER BY c.path) AS html
              FROM (SELECT t.path, t.prefix, t.run_id, fleet_catalog.graph_html(t.run_id, a_run_id, 60) AS html
                      FROM (SELECT * FROM fleet_catalog.page_tree(a_run_id) AS t WHERE t.level > 0 ORDER BY t.path LIMIT 8) AS t) AS c WHERE c.html IS NOT NULL) AS n
     WHERE g.html IS NOT NULL;
END;

-- ---- the time chart ----------------------------------------------------------------------------

-- What ran where and when, each in a row of its server; earlier attempts too, as far as their steps tell.
CREATE FUNCTION fleet_catalog.page_bars(a_run_id bigint)
    RETURNS TABLE (server text, lane integer, begins timestamptz, ends timestamptz, queued_at timestamptz, state smallint, old boolean, critical boolean, run_id bigint, task_no integer, item integer, attempt integer)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH piece AS MATERIALIZED (
        SELECT p.server, p.begins, greatest(p.ends, p.begins) AS ends, p.queued_at, p.state, p.run_id, p.task_no, p.item, p.attempt
          FROM fleet_catalog.page_pieces(a_run_id) AS p WHERE p.begins IS NOT NULL AND p.kind <> 'package' AND p.carried_from IS NULL AND p.state <> 14
    ), last AS MATERIALIZED (
        SELECT p.run_id, p.task_no, max(p.ends) AS ends FROM piece AS p
         WHERE (p.run_id, p.task_no) IN (SELECT c.run_id, c.task_no FROM fleet_catalog.page_critical(a_run_id) AS c) GROUP BY p.run_id, p.task_no
    ), bar AS (
        SELECT p.server, p.begins, p.ends, p.queued_at, p.state, false AS old, coalesce(l.ends = p.ends, false) AS critical, p.run_id, p.task_no, p.item, p.attempt
          FROM piece AS p LEFT JOIN last AS l ON l.run_id = p.run_id AND l.task_no = p.task_no
         UNION ALL
        SELECT o.server, o.begins, greatest(o.ends, o.begins), NULL, 12::smallint, true, false, p.run_id, p.task_no, p.item, o.task_attempt
          FROM (SELECT p.* FROM piece AS p WHERE p.attempt > 1 LIMIT 2000) AS p,
               LATERAL (SELECT s.task_attempt, max(s.server) AS server, min(s.started_at) AS begins, max(coalesce(s.finished_at, s.started_at)) AS ends FROM fleet_catalog.page_step AS s
                         WHERE s.run_id = p.run_id AND s.task_no = p.task_no AND s.item = p.item AND s.task_attempt < p.attempt GROUP BY s.task_attempt LIMIT 20) AS o
    ), laid AS MATERIALIZED (
        SELECT s.server, u.* FROM (SELECT b.server, pg_catalog.array_agg(b.begins ORDER BY b.begins, b.ends, b.item) AS begins, pg_catalog.array_agg(b.ends ORDER BY b.begins, b.ends, b.item) AS ends,
                                          pg_catalog.array_agg(b.queued_at ORDER BY b.begins, b.ends, b.item) AS queued_at, pg_catalog.array_agg(b.state ORDER BY b.begins, b.ends, b.item) AS state,
                                          pg_catalog.array_agg(b.old ORDER BY b.begins, b.ends, b.item) AS old, pg_catalog.array_agg(b.critical ORDER BY b.begins, b.ends, b.item) AS critical,
                                          pg_catalog.array_agg(b.run_id ORDER BY b.begins, b.ends, b.item) AS run_id, pg_catalog.array_agg(b.task_no ORDER BY b.begins, b.ends, b.item) AS task_no,
                                          pg_catalog.array_agg(b.item ORDER BY b.begins, b.ends, b.item) AS item, pg_catalog.array_agg(b.attempt ORDER BY b.begins, b.ends, b.item) AS attempt,
                                          fleet_catalog.drawing_rows(pg_catalog.array_agg((pg_catalog.date_part('epoch', b.begins) * 1000000)::bigint ORDER BY b.begins, b.ends, b.item),
                                                                     pg_catalog.array_agg((pg_catalog.date_part('epoch', b.ends) * 1000000)::bigint ORDER BY b.begins, b.ends, b.item), 64) AS lane
                                     FROM bar AS b GROUP BY b.server) AS s,
                                  ROWS FROM (pg_catalog.unnest(s.lane), pg_catalog.unnest(s.begins), pg_catalog.unnest(s.ends), pg_catalog.unnest(s.queued_at), pg_catalog.unnest(s.state), pg_catalog.unnest(s.old),
                                             pg_catalog.unnest(s.critical), pg_catalog.unnest(s.run_id), pg_catalog.unnest(s.task_no), pg_catalog.unnest(s.item), pg_catalog.unnest(s.attempt))
                                       AS u (lane, begins, ends, queued_at, state, old, critical, run_id, task_no, item, attempt)
    )
    SELECT l.server, l.lane, l.begins, l.ends, l.queued_at, l.state, l.old, l.critical, l.run_id, l.task_no, l.item, l.attempt FROM laid AS l;
END;

CREATE FUNCTION fleet_catalog.gantt_bars(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH run AS MATERIALIZED (
        SELECT r.begins, fleet_catalog.seconds(r.begins, r.ends) AS span FROM fleet_catalog.page_run AS r WHERE r.run_id = a_run_id
    ), all_bars AS MATERIALIZED (
        SELECT b.* FROM fleet_catalog.page_bars(a_run_id) AS b
    ), shown AS MATERIALIZED (
        -- of a large fleet, the servers that did most
        SELECT s.server, s.lanes, s.n
          FROM (SELECT b.server, max(b.lane) + 1 AS lanes, count(*) AS n, row_number() OVER (ORDER BY count(*) DESC, b.server) AS place FROM all_bars AS b GROUP BY b.server) AS s WHERE s.place <= 40
    ), bar AS MATERIALIZED (
        SELECT b.*, fleet_catalog.permille(b.begins, r.begins, r.span) AS x1, fleet_catalog.permille(b.ends, r.begins, r.span) AS x2,
               CASE WHEN b.old THEN 're old' ELSE fleet_catalog.state_class(b.state) END AS class
          FROM all_bars AS b, run AS r WHERE b.server IN (SELECT s.server FROM shown AS s)
    ), expected AS (
        -- the task's learned duration, or that of the very item, on a server as fast as this one
        SELECT b.run_id, b.task_no, b.item, (coalesce(max(e.seconds) FILTER (WHERE e.item_key <> ''), max(e.seconds)) / greatest(coalesce(max(v.speed), 1), 0.01)) AS seconds
          FROM bar AS b JOIN fleet_catalog.page_task AS k ON k.run_id = b.run_id AND k.task_no = b.task_no AND k.item = b.item
          JOIN fleet_catalog.page_expected AS e ON e.run_id = b.run_id AND e.task_no = b.task_no AND e.item_key IN ('', CASE WHEN b.item > 0 THEN k.item_key ELSE '' END)
          LEFT JOIN fleet.server_status AS v ON v.server::text = b.server
         WHERE NOT b.old GROUP BY b.run_id, b.task_no, b.item
    ), detailed AS (
        SELECT b.server, b.lane, pg_catalog.string_agg(
                   CASE WHEN b.queued_at < b.begins AND NOT b.old AND fleet_catalog.permille(b.queued_at, r.begins, r.span) < b.x1 - 1
                        THEN '<rect class="w" x="' || fleet_catalog.permille(b.queued_at, r.begins, r.span) || '" y="5.5" width="' || b.x1 - fleet_catalog.permille(b.queued_at, r.begins, r.span) || '" height="1"/>' ELSE '' END, '' ORDER BY b.x1)
               || pg_catalog.string_agg('<rect class="' || b.class || CASE WHEN b.critical THEN ' crit' ELSE '' END || '" x="' || least(b.x1, 998) || '" y="1" width="' || greatest(b.x2 - b.x1, 2) || '" height="10"><title>'
                   || fleet_catalog.html(coalesce(g.prefix || d.name, '?') || CASE WHEN b.item > 0 THEN '[' || b.item || coalesce(': ' || pg_catalog.left(k.item_key, 60), '') || ']' ELSE '' END, 150) || CASE WHEN b.old THEN ': attempt ' || b.attempt ELSE ': ' || fleet_catalog.state_name(b.state) END
                   || ', ' || fleet_catalog.span_text(fleet_catalog.seconds(b.begins, b.ends)) || coalesce(', expected ' || fleet_catalog.span_text(x.seconds), '')
                   || CASE WHEN fleet_catalog.seconds(b.queued_at, b.begins) >= 0.01 THEN ', waited ' || fleet_catalog.span_text(fleet_catalog.seconds(b.queued_at, b.begins)) ELSE '' END || CASE WHEN b.critical THEN ', on the critical path' ELSE '' END
                   || '</title></rect>' || coalesce('<rect class="x" x="' || least(b.x1, 998) || '" y="12" width="' || greatest(fleet_catalog.permille(b.begins + x.seconds * '1 second'::interval, r.begins, r.span) - b.x1, 1) || '" height="1.5"/>', ''), '' ORDER BY b.x1) AS svg
          FROM run AS r, bar AS b LEFT JOIN expected AS x ON x.run_id = b.run_id AND x.task_no = b.task_no AND x.item = b.item AND NOT b.old
          LEFT JOIN fleet_catalog.page_tree(a_run_id) AS g ON g.run_id = b.run_id
          LEFT JOIN fleet_catalog.page_definition AS d ON d.run_id = b.run_id AND d.task_no = b.task_no
          LEFT JOIN fleet_catalog.page_task AS k ON k.run_id = b.run_id AND k.task_no = b.task_no AND k.item = b.item
         GROUP BY b.server, b.lane
    )
    SELECT pg_catalog.string_agg('<div class="srv"><bdi>' || fleet_catalog.html(s.server, 100) || '</bdi> <span class="dim">' || s.n || '</span></div><div class="lanes">'
               || (SELECT pg_catalog.string_agg('<svg' || CASE WHEN s.lanes > 12 THEN ' class="lot"' ELSE '' END || ' viewBox="0 0 1000 14" preserveAspectRatio="none"><rect class="bg" width="1000" height="12"/>' || l.svg || '</svg>', '' ORDER BY l.lane)
                     FROM detailed AS l WHERE l.server = s.server) || '</div>', '' ORDER BY s.server = 'here' DESC, s.server)
      FROM shown AS s;
END;

-- Of more than can be told apart: what is of one state and closer than can be seen is drawn as one.
CREATE FUNCTION fleet_catalog.gantt_spans(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH run AS MATERIALIZED (
        SELECT r.begins, greatest(fleet_catalog.seconds(r.begins, r.ends), 1e-6) AS span, pg_catalog.date_part('epoch', r.begins) AS origin FROM fleet_catalog.page_run AS r WHERE r.run_id = a_run_id
    ), server AS MATERIALIZED (
        SELECT p.server, count(*) AS n, pg_catalog.array_agg((pg_catalog.date_part('epoch', p.begins) * 1000000)::bigint) AS starts,
               pg_catalog.array_agg((pg_catalog.date_part('epoch', greatest(p.ends, p.begins)) * 1000000)::bigint) AS ends, pg_catalog.array_agg(p.state::integer) AS states
          FROM fleet_catalog.page_pieces(a_run_id) AS p WHERE p.begins IS NOT NULL AND p.kind <> 'package' AND p.carried_from IS NULL AND p.state <> 14
         GROUP BY p.server ORDER BY 2 DESC, 1 LIMIT 40
    ), span AS MATERIALIZED (
        SELECT s.server, s.n, d.lane, fleet_catalog.state_class(d.class::smallint) AS class,
               least(greatest(pg_catalog.floor(1000 * (d.starts / 1e6::double precision - r.origin) / r.span), 0), 998) AS x, greatest(pg_catalog.ceil(least((d.ends - d.starts) / 1e3::double precision / r.span, 1000)), 2) AS width
          FROM run AS r, server AS s, LATERAL fleet_catalog.drawing_spans(s.starts, s.ends, s.states, CASE WHEN (SELECT count(*) FROM server) > 10 THEN 16 ELSE 64 END,
                                                                          (r.span * CASE WHEN (SELECT count(*) FROM server) > 10 THEN 10000 ELSE 2000 END)::bigint) AS d
    ), lane AS (
        SELECT c.server, c.lane, max(c.n) AS n, pg_catalog.string_agg('<path class="' || c.class || '" d="' || c.d || '"/>', '' ORDER BY c.class IN ('no', 'un'), c.class) AS svg
          FROM (SELECT s.server, s.lane, s.class, max(s.n) AS n, pg_catalog.string_agg('M' || s.x || ' 1h' || s.width || 'v11h-' || s.width || 'z', '' ORDER BY s.x) AS d FROM (SELECT DISTINCT * FROM span) AS s GROUP BY s.server, s.lane, s.class) AS c
         GROUP BY c.server, c.lane
    )
    SELECT pg_catalog.string_agg(s.html, '' ORDER BY s.server = 'here' DESC, s.server)
      FROM (SELECT l.server, '<div class="srv"><bdi>' || fleet_catalog.html(l.server, 100) || '</bdi> <span class="dim">' || fleet_catalog.number_text(max(l.n)) || '</span></div><div class="lanes">'
                   || pg_catalog.string_agg('<svg' || CASE WHEN l.lanes > 12 THEN ' class="lot"' ELSE '' END || ' viewBox="0 0 1000 14" preserveAspectRatio="none"><rect class="bg" width="1000" height="13"/>' || l.svg || '</svg>', '' ORDER BY l.lane) || '</div>' AS html
              FROM (SELECT l.*, count(*) OVER (PARTITION BY l.server) AS lanes FROM lane AS l) AS l GROUP BY l.server) AS s;
END;

-- How many pieces of work were queued, at each 200th part of the time.
CREATE FUNCTION fleet_catalog.gantt_waiting(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH run AS MATERIALIZED (
        SELECT r.begins, fleet_catalog.seconds(r.begins, r.ends) AS span FROM fleet_catalog.page_run AS r WHERE r.run_id = a_run_id
    ), changes AS (
        SELECT c.queued, c.begun, count(*) AS n
          FROM (SELECT pg_catalog.floor(fleet_catalog.permille(p.queued_at, r.begins, r.span) / 5) AS queued, pg_catalog.floor(fleet_catalog.permille(p.begins, r.begins, r.span) / 5) AS begun
                  FROM run AS r, fleet_catalog.page_pieces(a_run_id) AS p WHERE p.begins IS NOT NULL AND p.kind <> 'package' AND p.carried_from IS NULL AND p.state <> 14) AS c
         WHERE c.queued < c.begun GROUP BY c.queued, c.begun
    ), waiting AS (
        SELECT w.x * 5 AS x, sum(w.n) OVER (ORDER BY w.x) AS n
          FROM (SELECT e.x, sum(e.n) AS n FROM (SELECT c.queued AS x, c.n FROM changes AS c UNION ALL SELECT c.begun, -c.n FROM changes AS c) AS e GROUP BY e.x) AS w
    )
    SELECT '<div class="srv dim">waiting, at most ' || fleet_catalog.number_text(max(w.n)::bigint) || '</div><div class="lanes"><svg class="wait" viewBox="0 0 1000 20" preserveAspectRatio="none" aria-hidden="true"><path class="w" d="M0 20'
           || pg_catalog.string_agg('H' || w.x || 'V' || pg_catalog.round(20 - 18 * w.n / m.most, 1), '' ORDER BY w.x) || 'V20z"/></svg></div>'
      FROM waiting AS w, (SELECT greatest(max(w.n), 1) AS most FROM waiting AS w) AS m
    HAVING max(w.n) > 0;
END;

CREATE FUNCTION fleet_catalog.report_gantt(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT '<section id="gantt"><h2>Time by server and slot</h2><div class="gantt">' || fleet_catalog.axis_html(c.span) || coalesce(fleet_catalog.gantt_waiting(a_run_id), '')
        || CASE WHEN c.many THEN fleet_catalog.gantt_spans(a_run_id) ELSE fleet_catalog.gantt_bars(a_run_id) END
        || '</div><ul class="legend"><li><span class="k ok"></span>succeeded</li><li><span class="k no"></span>failed</li><li><span class="k ca"></span>canceled</li><li><span class="k un"></span>lost or unknown</li><li><span class="k ru"></span>running</li>'
        || CASE WHEN c.many THEN '<li>What is too short to be seen is drawn as one; the number after a server is what ran there. The busiest 40 servers are shown.</li>'
                ELSE '<li><span class="k old"></span>an earlier attempt</li><li><span class="k wait"></span>waited</li><li><span class="k crit"></span>on the critical path</li><li><span class="k exp"></span>below a bar: how long it was expected to take, by what has been learned</li>' END
        || '</ul></section>'
      FROM (SELECT fleet_catalog.seconds(r.begins, r.ends) AS span,
                   -- items are most of it; it need not be exact
                   (SELECT count(*) FROM (SELECT FROM fleet_catalog.page_tree(a_run_id) AS t JOIN fleet_catalog.page_task AS p ON p.run_id = t.run_id LIMIT 701) AS p) > 700 AS many
              FROM fleet_catalog.page_run AS r WHERE r.run_id = a_run_id) AS c;
END;

-- ---- tasks, items and steps --------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.report_tasks(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH run AS MATERIALIZED (
        SELECT r.begins FROM fleet_catalog.page_run AS r WHERE r.run_id = a_run_id
    ), tree AS MATERIALIZED (
        SELECT t.* FROM fleet_catalog.page_tree(a_run_id) AS t
    ), ranked AS MATERIALIZED (
        SELECT r.run_id, d.task_no, m.item, row_number() OVER (PARTITION BY r.run_id, d.task_no ORDER BY m.bad DESC, m.open DESC, m.took DESC NULLS LAST, m.item) AS place
          FROM tree AS r JOIN fleet_catalog.page_definition AS d ON d.run_id = r.run_id AND d.for_each,
               LATERAL (SELECT t.item, t.state IN (12, 15, 16) AS bad, t.state IN (2, 3, 4, 5, 13) AS open, t.ends - t.begins AS took FROM fleet_catalog.page_task AS t
                         WHERE t.run_id = d.run_id AND t.task_no = d.task_no AND t.item > 0 ORDER BY 2 DESC, 3 DESC, 4 DESC NULLS LAST, 1 LIMIT 12) AS m
    ), member AS MATERIALIZED (
        SELECT t.*, k.place FROM ranked AS k,
               LATERAL (SELECT p.* FROM fleet_catalog.page_task AS p WHERE p.run_id = k.run_id AND p.task_no = k.task_no AND p.item = k.item LIMIT 1) AS t
         UNION ALL
        SELECT t.*, 0 FROM tree AS r JOIN fleet_catalog.page_definition AS d ON d.run_id = r.run_id
          JOIN fleet_catalog.page_task AS t ON t.run_id = d.run_id AND t.task_no = d.task_no AND t.item = 0
    ), counted AS MATERIALIZED (
        SELECT m.run_id, m.task_no, count(*) AS items, count(*) FILTER (WHERE m.state = 11) AS ok, count(*) FILTER (WHERE m.state IN (12, 15, 16)) AS bad, sum(m.row_count) AS row_count,
               pg_catalog.avg(fleet_catalog.seconds(m.begins, m.ends)) AS mean, max(fleet_catalog.seconds(m.begins, m.ends)) AS most, sum(greatest(m.attempt - 1, 0)) AS retries
          FROM tree AS r JOIN fleet_catalog.page_task AS m ON m.run_id = r.run_id WHERE m.item > 0 GROUP BY m.run_id, m.task_no
    ), line AS MATERIALIZED (
        SELECT r.run_id, d.task_no, coalesce(m.item, 0) AS item, r.path, r.prefix, r.level, d.name, d.kind, d.job, d.nested, d.for_each, coalesce(m.state, 1::smallint) AS state, coalesce(m.attempt, 0) AS attempt,
               m.server, coalesce(m.here, true) AS here, m.queued_at, CASE WHEN m.state <> 14 THEN m.begins END AS begins, m.ends, m.row_count, m.sqlstate, m.message, m.item_key, m.carried_from, m.place, c.items, c.ok, c.bad, c.row_count AS all_rows, c.mean, c.most, c.retries,
               row_number() OVER (ORDER BY coalesce(m.state, 1) IN (12, 15, 16) DESC, coalesce(m.item, 0) = 0 DESC, r.level, m.ends - m.begins DESC NULLS LAST, r.run_id, d.task_no, m.item) AS weight, count(*) OVER () AS lines
          FROM tree AS r
          JOIN fleet_catalog.page_definition AS d ON d.run_id = r.run_id
          LEFT JOIN member AS m ON m.run_id = d.run_id AND m.task_no = d.task_no
          LEFT JOIN counted AS c ON c.run_id = d.run_id AND c.task_no = d.task_no AND coalesce(m.item, 0) = 0
    ), shown AS MATERIALIZED (
        SELECT l.* FROM line AS l WHERE l.weight <= 500
    ), expected AS MATERIALIZED (
        SELECT s.run_id, s.task_no, s.item, coalesce(max(e.seconds) FILTER (WHERE e.item_key <> ''), max(e.seconds)) / greatest(coalesce(max(v.speed), 1), 0.01) AS seconds
          FROM shown AS s JOIN fleet_catalog.page_expected AS e ON e.run_id = s.run_id AND e.task_no = s.task_no AND e.item_key IN ('', CASE WHEN s.item > 0 THEN s.item_key ELSE '' END)
          LEFT JOIN fleet.server_status AS v ON v.server::text = s.server
         WHERE s.item > 0 OR NOT s.for_each GROUP BY s.run_id, s.task_no, s.item
    ), step AS MATERIALIZED (
        SELECT s.run_id, s.task_no, s.item, pg_catalog.string_agg('<tr class="sub l' || least(s.level + 1 + (s.item > 0)::integer, 4) || '"><th scope="row">step <bdi>' || fleet_catalog.html(t.step, 200) || '</bdi>'
                   || CASE WHEN t.attempt > 1 OR t.task_attempt < s.attempt THEN ' <span class="tag">attempt ' || CASE WHEN t.task_attempt > 1 OR s.attempt > 1 THEN t.task_attempt || '.' ELSE '' END || t.attempt || '</span>' ELSE '' END || '</th><td>'
                   || fleet_catalog.state_html(t.state) || '</td><td></td>' || fleet_catalog.cell('+' || fleet_catalog.span_text(fleet_catalog.seconds(r.begins, t.started_at)), NULL)
                   || fleet_catalog.cell(fleet_catalog.span_text(fleet_catalog.seconds(t.started_at, t.finished_at)), NULL) || '<td></td><td></td>' || fleet_catalog.cell(fleet_catalog.number_text(t.row_count), NULL) || '<td></td><td class="m">'
                   || coalesce(CASE WHEN t.state <> 11 THEN '<bdi>' || fleet_catalog.html(coalesce('(' || t.sqlstate || ') ', '') || t.message, 160) || '</bdi>' END, '') || '</td></tr>', '' ORDER BY t.first_seq) AS html
          FROM run AS r, (SELECT l.* FROM shown AS l WHERE l.item = 0 OR l.state IN (12, 15, 16) OR l.attempt > 1 ORDER BY l.weight LIMIT 150) AS s,
               LATERAL (SELECT p.*, count(*) OVER () AS steps FROM fleet_catalog.page_step AS p WHERE p.run_id = s.run_id AND p.task_no = s.task_no AND p.item = s.item ORDER BY p.first_seq DESC LIMIT 12) AS t
         WHERE t.steps > 1 GROUP BY s.run_id, s.task_no, s.item
    )
    SELECT '<section id="tasks"><h2>Child packages and jobs</h2>' || fleet_catalog.scroll('Tasks, items and steps', '<table class="sort"><caption>Times after + count from the start of the run. Items: those that failed, then the slowest.'
               || CASE WHEN max(s.lines) > 500 THEN ' ' || fleet_catalog.number_text(max(s.lines) - 500) || ' more rows are in <code>fleet.task_run</code>.' ELSE '' END || '</caption>'
               || fleet_catalog.heads('Task', 'State', 'Server', '#Started', '#Took', '#Expected', '#Waited', '#Rows', '#Attempts', 'Message')
               || pg_catalog.substr(pg_catalog.string_agg(CASE WHEN s.item = 0 THEN '</tbody><tbody>' ELSE '' END
                   || '<tr class="l' || least(s.level + (s.item > 0)::integer, 4) || CASE WHEN s.item > 0 THEN ' sub' ELSE '' END || '"><th scope="row">'
                   || CASE WHEN s.item > 0 THEN fleet_catalog.piece_html('', '', s.item, s.item_key) ELSE '<bdi>' || fleet_catalog.html(s.prefix || s.name, 200) || '</bdi>'
                        || CASE WHEN s.nested IS NOT NULL THEN ' <span class="tag">package</span>' ELSE coalesce(' <span class="tag">job <bdi>' || fleet_catalog.html(s.job, 60) || '</bdi></span>', '') END END || '</th>'
                   || '<td>' || fleet_catalog.state_html(s.state) || '</td><td>'
                   || CASE WHEN s.items > 0 THEN '' || fleet_catalog.number_text(s.items) || CASE s.items WHEN 1 THEN '&#160;item' ELSE '&#160;items' END WHEN s.here THEN CASE WHEN s.begins IS NULL THEN '' ELSE 'here' END ELSE '<bdi>' || fleet_catalog.html(s.server, 60) || '</bdi>' END || '</td>'
                   || fleet_catalog.cell('+' || NULLIF(fleet_catalog.span_text(fleet_catalog.seconds(r.begins, s.begins)), ''), fleet_catalog.seconds(r.begins, s.begins))
                   || fleet_catalog.cell(CASE WHEN s.begins IS NOT NULL THEN fleet_catalog.span_text(fleet_catalog.seconds(s.begins, s.ends)) END, CASE WHEN s.begins IS NOT NULL THEN fleet_catalog.seconds(s.begins, s.ends) END)
                   || fleet_catalog.cell(fleet_catalog.span_text(e.seconds), e.seconds)
                   || fleet_catalog.cell(CASE WHEN fleet_catalog.seconds(s.queued_at, s.begins) >= 0.001 AND coalesce(s.items, 0) = 0 THEN fleet_catalog.span_text(fleet_catalog.seconds(s.queued_at, s.begins)) END, fleet_catalog.seconds(s.queued_at, s.begins))
                   || fleet_catalog.cell(fleet_catalog.number_text(coalesce(s.row_count, s.all_rows::bigint)), coalesce(s.row_count, s.all_rows)::double precision)
                   || fleet_catalog.cell(CASE WHEN s.items > 0 THEN CASE WHEN s.retries > 0 THEN '+' || s.retries ELSE '' END WHEN s.attempt > 0 THEN s.attempt::text END, s.attempt)
                   || '<td class="m">' || coalesce('<bdi>' || fleet_catalog.html(coalesce('(' || s.sqlstate || ') ', '') || s.message, 300) || '</bdi>', '')
                   || CASE WHEN s.items > 0 THEN CASE WHEN s.message IS NULL THEN '' ELSE '; ' END || fleet_catalog.number_text(s.ok) || ' succeeded' || CASE WHEN s.bad > 0 THEN ', ' || fleet_catalog.number_text(s.bad) || ' failed' ELSE '' END
                                                  || coalesce('; ' || fleet_catalog.span_text(s.mean) || ' each, at most ' || fleet_catalog.span_text(s.most), '') ELSE '' END
                   || coalesce(CASE WHEN s.carried_from IS NOT NULL AND s.state = 11 AND s.attempt = 0 THEN 'taken over from run ' || s.carried_from END, '') || '</td></tr>' || coalesce(p.html, ''), ''
                   -- each run behind the task that started it
                   ORDER BY s.path || s.task_no::bigint || CASE WHEN s.item > 0 THEN s.place ELSE 0 END), 9) || '</tbody></table>') || '</section>'
      FROM run AS r, shown AS s
      LEFT JOIN expected AS e ON e.run_id = s.run_id AND e.task_no = s.task_no AND e.item = s.item
      LEFT JOIN step AS p ON p.run_id = s.run_id AND p.task_no = s.task_no AND p.item = s.item
    HAVING count(*) > 0;
END;

-- ---- servers -----------------------------------------------------------------------------------

CREATE FUNCTION fleet_catalog.report_servers(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH run AS MATERIALIZED (
        SELECT greatest(fleet_catalog.seconds(r.begins, r.ends), 1e-6) AS span FROM fleet_catalog.page_run AS r WHERE r.run_id = a_run_id
    ), used AS (
        SELECT p.server, count(*) AS pieces, count(*) FILTER (WHERE p.state IN (12, 15, 16)) AS bad, sum(fleet_catalog.seconds(p.begins, p.ends)) AS busy,
               pg_catalog.avg(fleet_catalog.seconds(p.queued_at, p.begins)) AS waited, sum(p.row_count) AS row_count
          FROM fleet_catalog.page_pieces(a_run_id) AS p WHERE p.begins IS NOT NULL AND p.kind <> 'package' AND p.carried_from IS NULL AND p.state <> 14 GROUP BY p.server
    )
    SELECT '<section id="servers"><h2>Servers</h2>' || fleet_catalog.scroll('Servers', '<table class="sort">' || fleet_catalog.heads('Server', 'State now', '#Slots', 'Busy share of its slots', '#Work', '#Jobs', '#Failed', '#Mean wait', '#Speed', '#Rows') || '<tbody>'
        || pg_catalog.string_agg('<tr><th scope="row"><bdi>' || fleet_catalog.html(u.server, 100) || '</bdi></th><td>' || coalesce(fleet_catalog.html(v.state, 30) || coalesce(', version ' || fleet_catalog.html(v.version, 30), ''), '') || '</td>'
            || fleet_catalog.cell(v.slots::text, v.slots) || '<td class="n" data-v="' || coalesce(pg_catalog.round((u.busy / r.span / greatest(v.slots, 1))::numeric, 4), 0) || '" style="text-align:start">'
            || CASE WHEN v.slots > 0 THEN '<span class="meter" aria-hidden="true"><i style="width:' || least(pg_catalog.round((100 * u.busy / r.span / v.slots)::numeric), 100) || '%"></i></span>' || pg_catalog.round((100 * u.busy / r.span / v.slots)::numeric) || ' %'
                    ELSE pg_catalog.round((u.busy / r.span)::numeric, 2) || ' at a time' END || '</td>'
            || fleet_catalog.cell(fleet_catalog.span_text(u.busy), u.busy) || fleet_catalog.cell(fleet_catalog.number_text(u.pieces), u.pieces) || fleet_catalog.cell(CASE WHEN u.bad > 0 THEN '<span class="st no">' || u.bad || '</span>' ELSE '0' END, u.bad)
            || fleet_catalog.cell(fleet_catalog.span_text(u.waited), u.waited) || fleet_catalog.cell(pg_catalog.round(v.speed::numeric, 2)::text, v.speed)
            || fleet_catalog.cell(fleet_catalog.number_text(u.row_count::bigint), u.row_count::double precision) || '</tr>', '' ORDER BY u.server = 'here' DESC, u.busy DESC, u.server) FILTER (WHERE u.place <= 200)
        || '</tbody></table>') || CASE WHEN count(*) > 200 THEN '<p class="dim">The 200 busiest of ' || count(*) || ' servers.</p>' ELSE '' END || '</section>'
      FROM run AS r, (SELECT u.*, row_number() OVER (ORDER BY u.busy DESC, u.server) AS place FROM used AS u) AS u LEFT JOIN fleet.server_status AS v ON v.server::text = u.server
    HAVING count(*) > 0;
END;

CREATE FUNCTION fleet_catalog.report_advice(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH advice AS MATERIALIZED (
        SELECT a.* FROM fleet_link.run_advice(a_run_id) AS a
    ), took AS (
        SELECT fleet_catalog.seconds(r.begins, r.ends) AS seconds, r.finished_at IS NOT NULL AS ended FROM fleet_catalog.page_run AS r WHERE r.run_id = a_run_id
    )
    SELECT '<section id="advice"><h2>What more servers would bring</h2>'
        || coalesce('<p>By what has been learned of its tasks, this run would take ' || fleet_catalog.span_text(max(a.makespan) FILTER (WHERE a.number_of_servers = 0)) || ' with the servers as they are'
                    || CASE WHEN t.ended THEN '; it took ' || fleet_catalog.span_text(t.seconds) ELSE '' END || '. No order of the work could be faster than '
                    || fleet_catalog.span_text(max(a.lower_bound) FILTER (WHERE a.number_of_servers = 0)) || '.</p>', '')
        || CASE WHEN max(a.number_of_servers) > 0 THEN fleet_catalog.scroll('Numbers of servers', '<table style="max-width:36rem">' || fleet_catalog.heads('#Servers in each group', '#Expected', '#At best', '#Times as fast as one') || '<tbody>'
            || pg_catalog.string_agg('<tr><th scope="row" class="n">' || a.number_of_servers || '</th>' || fleet_catalog.cell(fleet_catalog.span_text(a.makespan), a.makespan) || fleet_catalog.cell(fleet_catalog.span_text(a.lower_bound), a.lower_bound)
                || fleet_catalog.cell(pg_catalog.round((o.makespan / greatest(a.makespan, 1e-6))::numeric, 2)::text, NULL) || '</tr>', '' ORDER BY a.number_of_servers) FILTER (WHERE a.number_of_servers > 0) || '</tbody></table>') ELSE '' END || '</section>'
      FROM took AS t, advice AS a LEFT JOIN advice AS o ON o.number_of_servers = 1
     GROUP BY t.ended, t.seconds HAVING count(*) > 0;
END;

-- ---- the page ----------------------------------------------------------------------------------

CREATE FUNCTION fleet.report(run_id bigint) RETURNS text
    LANGUAGE sql STABLE SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
    SELECT CASE WHEN fleet_link.check_run(report.run_id) THEN fleet_catalog.page_frame(
               'Run ' || report.run_id || ' of ' || (SELECT fleet_catalog.html(r.title, 200) || ': ' || fleet_catalog.state_name(r.state) FROM fleet_catalog.page_run AS r WHERE r.run_id = report.run_id),
               '<main>' || coalesce(fleet_catalog.report_head(report.run_id), '') || coalesce(fleet_catalog.report_failures(report.run_id), '') || coalesce(fleet_catalog.report_graph(report.run_id), '')
               || coalesce(fleet_catalog.report_gantt(report.run_id), '') || coalesce(fleet_catalog.report_tasks(report.run_id), '') || coalesce(fleet_catalog.report_servers(report.run_id), '')
               || coalesce(fleet_catalog.report_advice(report.run_id), '') || '</main>'
               || fleet_catalog.page_footer('In psql: <code>SELECT * FROM fleet.gantt(' || report.run_id || ')</code>, <code>fleet.tree(' || report.run_id || ')</code>, <code>fleet.log</code>.')) END;
END;
COMMENT ON FUNCTION fleet.report(bigint) IS 'A run as one HTML page without any reference to elsewhere: what failed and why, the graph, when what ran where, every task, the servers. It shows what the views show the caller';
