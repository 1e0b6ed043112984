-- 64_overview.sql: fleet.overview(), the fleet as a page (61_page.sql says how).

-- Runs that somebody or a schedule asked for, of the last days, by what they run; not those that tasks started.  usual: seconds, of those that
-- succeeded; ended: the newest one that was not skipped.  Each is counted once, and few of them are looked at one by one.
CREATE FUNCTION fleet_catalog.overview_lines(a_since timestamptz)
    RETURNS TABLE (title text, single boolean, runs bigint, bad bigint, canceled bigint, open bigint, usual double precision, first bigint, last bigint, ended bigint)
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT r.title, r.single, count(*), count(*) FILTER (WHERE r.state IN (12, 15, 16)), count(*) FILTER (WHERE r.state = 13), count(*) FILTER (WHERE r.state < 11),
           pg_catalog.avg(fleet_catalog.seconds(r.started_at, r.finished_at)) FILTER (WHERE r.state = 11), min(r.run_id), max(r.run_id),
           max(r.run_id) FILTER (WHERE r.state >= 11 AND r.state <> 14)
      FROM fleet_catalog.page_run AS r
     WHERE r.parent_run_id IS NULL AND r.parent_job_run_id IS NULL AND (r.queued_at >= a_since OR r.state < 11)
     GROUP BY r.title, r.single;
END;

-- The first task that failed, and why.
CREATE FUNCTION fleet_catalog.overview_cause(a_run_id bigint) RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT '<bdi>' || fleet_catalog.html(d.name, 100) || '</bdi>: <bdi>' || fleet_catalog.html(coalesce('(' || t.sqlstate || ') ', '') || coalesce(t.message, fleet_catalog.state_name(t.state)), 200) || '</bdi>'
              FROM fleet_catalog.page_task AS t JOIN fleet_catalog.page_definition AS d ON d.run_id = t.run_id AND d.task_no = t.task_no
             WHERE t.run_id = a_run_id AND t.state IN (12, 15, 16) ORDER BY t.ends, t.item = 0, t.task_no, t.item LIMIT 1);
COMMENT ON FUNCTION fleet_catalog.overview_cause(bigint) IS 'Of a run that failed: the first task that did, and why, as HTML';

CREATE FUNCTION fleet_catalog.overview_failing(a_since timestamptz) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH line AS MATERIALIZED (
        SELECT l.* FROM fleet_catalog.overview_lines(a_since) AS l
    ), failing AS (
        SELECT 1 AS rank, r.run_id, '<b><bdi>' || fleet_catalog.html(r.title, 150) || '</bdi></b> ' || fleet_catalog.state_html(r.state) || ' in its last run, ' || r.run_id || ', '
               || fleet_catalog.time_text(r.finished_at) || coalesce('. ' || fleet_catalog.overview_cause(r.run_id), '. <bdi>' || fleet_catalog.html(r.message, 200) || '</bdi>', '')
               || CASE WHEN r.runs > 1 THEN ' <span class="dim">' || r.bad || ' of ' || r.runs || ' runs failed.</span>' ELSE '' END AS html
          FROM (SELECT DISTINCT ON (l.title) e.*, l.runs, l.bad FROM line AS l JOIN fleet_catalog.page_run AS e ON e.run_id = l.ended ORDER BY l.title, l.ended DESC) AS r
         WHERE r.state IN (12, 15, 16)
         UNION ALL
        SELECT 2, r.run_id, '<b><bdi>' || fleet_catalog.html(r.title, 150) || '</bdi></b> <span class="st re">late</span>: run ' || r.run_id || ' has taken ' || fleet_catalog.span_text(fleet_catalog.seconds(r.begins, r.ends))
               || '; on average it takes ' || fleet_catalog.span_text(l.usual)
          FROM line AS l JOIN fleet_catalog.page_run AS r ON r.title = l.title AND r.single = l.single
         WHERE r.state < 11 AND r.parent_run_id IS NULL AND r.parent_job_run_id IS NULL AND l.usual > 0 AND fleet_catalog.seconds(r.begins, r.ends) > greatest(2 * l.usual, l.usual + 10)
         UNION ALL
        SELECT 3, coalesce(p.run_id, 0), '<b>' || CASE p.what WHEN 'everything' THEN 'Everything' WHEN 'run' THEN 'Run ' || p.run_id WHEN 'group' THEN 'Group <bdi>' || fleet_catalog.html(p.on_group, 150) || '</bdi>'
                                                  ELSE 'Package <bdi>' || fleet_catalog.html(p.package, 150) || '</bdi>' END
               || '</b> <span class="st ca">paused</span> by <bdi>' || fleet_catalog.html(p.paused_by::text, 100) || '</bdi> since ' || fleet_catalog.time_text(p.paused_at) || coalesce(': <bdi>' || fleet_catalog.html(p.reason, 200) || '</bdi>', '')
          FROM fleet.paused AS p
         UNION ALL
        SELECT 4, 0, 'Server <b><bdi>' || fleet_catalog.html(v.server::text, 100) || '</bdi></b> <span class="st ' || CASE WHEN v.state IN ('suspect', 'refused', 'auth_failed') THEN 'no' ELSE 'ca' END || '">' || fleet_catalog.html(v.state, 30) || '</span>'
               || coalesce(': <bdi>' || fleet_catalog.html(v.last_error, 200) || '</bdi>', '')
          FROM fleet.server_status AS v WHERE v.state <> 'online'
    )
    SELECT CASE WHEN count(*) = 0 THEN '<section id="failing"><h2>What needs a look</h2><p><span class="st ok"><span aria-hidden="true">&#10003;</span> Nothing</span> is failing, late or paused.</p></section>'
                ELSE '<section id="failing"><h2>What needs a look</h2>' || pg_catalog.string_agg('<p class="item">' || f.html || '</p>', '' ORDER BY f.place) FILTER (WHERE f.place <= 60)
                     || CASE WHEN count(*) > 60 THEN '<p class="dim">And ' || count(*) - 60 || ' more.</p>' ELSE '' END || '</section>' END
      FROM (SELECT f.html, row_number() OVER (ORDER BY f.rank, f.run_id DESC) AS place FROM failing AS f) AS f;
END;

CREATE FUNCTION fleet_catalog.overview_running() RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT '<section id="running"><h2>Running now</h2>' || CASE WHEN count(*) = 0 THEN '<p class="dim">Nothing is running.</p>' ELSE
        fleet_catalog.scroll('Runs that have not ended', '<table class="sort">' || fleet_catalog.heads('Package', '#Run', 'State', '#For', 'Done', '#Failed', '#Running', '#Queued', 'Expected to end') || '<tbody>'
        || pg_catalog.string_agg('<tr><th scope="row"><bdi>' || fleet_catalog.html(r.title, 150) || '</bdi></th>' || fleet_catalog.cell(r.run_id::text, NULL) || '<td>' || fleet_catalog.state_html(r.state) || '</td>'
            || fleet_catalog.cell(fleet_catalog.span_text(fleet_catalog.seconds(r.begins, r.ends)), fleet_catalog.seconds(r.begins, r.ends))
            || '<td class="n" style="text-align:start"><span class="meter" aria-hidden="true"><i style="width:' || coalesce(100 * p.done / greatest(p.total, 1), 0) || '%"></i></span>' || coalesce(fleet_catalog.number_text(p.done) || ' of ' || fleet_catalog.number_text(p.total), '') || '</td>'
            || fleet_catalog.cell(CASE WHEN p.failed > 0 THEN '<span class="st no">' || p.failed || '</span>' ELSE '0' END, p.failed) || fleet_catalog.cell(p.running::text, p.running) || fleet_catalog.cell(p.queued::text, p.queued)
            || '<td>' || coalesce(NULLIF(fleet_catalog.time_text(p.eta), '') || ', in ' || fleet_catalog.span_text(fleet_catalog.seconds(pg_catalog.clock_timestamp(), p.eta)), '') || '</td></tr>', '' ORDER BY r.run_id DESC)
        || '</tbody></table>') END || '</section>'
      FROM (SELECT o.* FROM fleet_catalog.page_run AS o WHERE o.state < 11 AND o.parent_run_id IS NULL AND o.parent_job_run_id IS NULL ORDER BY o.run_id DESC LIMIT 50) AS r
      -- OFFSET: asked of each run; else all of history is counted
      LEFT JOIN LATERAL (SELECT g.* FROM fleet.progress AS g WHERE g.run_id = r.run_id OFFSET 0) AS p ON true;
END;

-- A row for each package, a column for each of its last runs, the newest one last.
CREATE FUNCTION fleet_catalog.overview_grid(a_since timestamptz) RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    WITH line AS (
        SELECT l.title, max(l.last) AS last, max(l.runs) AS runs, max(l.bad) AS bad, max(l.usual) AS usual,
               pg_catalog.string_agg('<td title="run ' || r.run_id || ', ' || fleet_catalog.time_text(r.begins) || ', ' || fleet_catalog.span_text(fleet_catalog.seconds(r.begins, r.ends)) || '"><span class="st ' || fleet_catalog.state_class(r.state)
                   || '"><span aria-hidden="true">' || fleet_catalog.state_sign(r.state) || '</span><span class="vh">run ' || r.run_id || ' ' || fleet_catalog.state_name(r.state) || '</span></span></td>', '' ORDER BY r.run_id) AS cells, count(*) AS n
          FROM fleet_catalog.overview_lines(a_since) AS l,
               -- the newest ones, by the index; none that is older than the first one of these days
               LATERAL (SELECT o.* FROM fleet_catalog.page_run AS o
                         WHERE o.title = l.title AND o.single = l.single AND o.run_id BETWEEN l.first AND l.last AND o.parent_run_id IS NULL AND o.parent_job_run_id IS NULL
                           AND (o.queued_at >= a_since OR o.state < 11)
                         ORDER BY o.run_id DESC LIMIT 30) AS r GROUP BY l.title
    ), shown AS (
        SELECT l.*, row_number() OVER (ORDER BY l.last DESC) AS place, max(l.n) OVER () AS most FROM line AS l
    )
    SELECT '<section id="grid"><h2>Packages and their runs</h2>' || CASE WHEN count(*) = 0 THEN '<p class="dim">There was no run.</p>' ELSE
        fleet_catalog.scroll('Packages and their runs', '<table class="grid" style="width:auto"><caption>The newest run is on the right; at most 30 of each.</caption><thead><tr><th scope="col">Package</th><th scope="col" class="n">Runs</th><th scope="col" class="n">Failed</th><th scope="col" class="n">Mean</th><th scope="colgroup" colspan="'
        || max(s.most) || '">Last runs</th></tr></thead><tbody>'
        || pg_catalog.string_agg('<tr><th scope="row"><bdi>' || fleet_catalog.html(s.title, 150) || '</bdi></th><td class="n">' || fleet_catalog.number_text(s.runs) || '</td><td class="n">' || CASE WHEN s.bad > 0 THEN '<span class="st no">' || s.bad || '</span>' ELSE '0' END
            || '</td><td class="n">' || fleet_catalog.span_text(s.usual) || '</td>' || CASE WHEN s.most > s.n THEN '<td colspan="' || s.most - s.n || '"></td>' ELSE '' END || s.cells || '</tr>', '' ORDER BY s.place) FILTER (WHERE s.place <= 100)
        || '</tbody></table>') || CASE WHEN count(*) > 100 THEN '<p class="dim">And ' || count(*) - 100 || ' more packages.</p>' ELSE '' END
        || '<ul class="legend"><li><span class="ok">&#10003;</span> succeeded</li><li><span class="no">&#10007;</span> failed</li><li><span class="ca">&#9632;</span> canceled</li><li><span class="sk">&#8211;</span> skipped</li><li><span class="un">?</span> lost or unknown</li><li><span class="ru">&#9654;&#65038;</span> running</li><li><span class="qu">&#9675;</span> queued</li></ul>' END || '</section>'
      FROM shown AS s;
END;

CREATE FUNCTION fleet_catalog.overview_servers() RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT '<section id="servers"><h2>Servers</h2>' || fleet_catalog.scroll('Servers', '<table class="sort">' || fleet_catalog.heads('Server', 'State', 'Busy', 'Mode', 'Groups', '#Speed', 'Version', 'Last seen', 'Last error') || '<tbody>'
        || pg_catalog.string_agg('<tr><th scope="row"><bdi>' || fleet_catalog.html(v.server::text, 100) || '</bdi></th><td><span class="st ' || CASE WHEN v.state = 'online' THEN 'ok' WHEN v.state IN ('suspect', 'refused', 'auth_failed') THEN 'no' ELSE 'ca' END || '">' || fleet_catalog.html(v.state, 30) || '</span></td>'
            || '<td class="n" style="text-align:start"><span class="meter" aria-hidden="true"><i style="width:' || least(100 * v.busy / greatest(v.slots, 1), 100) || '%"></i></span>' || v.busy || ' of ' || v.slots || '</td><td>' || v.mode || '</td><td><bdi>'
            || fleet_catalog.html(pg_catalog.array_to_string(v.groups, ', '), 200) || '</bdi></td>' || fleet_catalog.cell(pg_catalog.round(v.speed::numeric, 2)::text, v.speed) || '<td>' || coalesce(fleet_catalog.html(v.version, 30), '') || '</td><td class="n">'
            || fleet_catalog.time_text(v.last_seen) || '</td><td class="m">' || coalesce('<bdi>' || fleet_catalog.html(v.last_error, 200) || '</bdi>', '') || '</td></tr>', '' ORDER BY v.place) FILTER (WHERE v.place <= 200)
        || '</tbody></table>') || CASE WHEN count(*) > 200 THEN '<p class="dim">And ' || count(*) - 200 || ' more servers.</p>' ELSE '' END || '</section>'
      FROM (SELECT s.*, row_number() OVER (ORDER BY s.state IN ('online', 'draining', 'offline'), s.server) AS place FROM fleet.server_status AS s) AS v
    HAVING count(*) > 0;
END;

-- What a schedule says of itself; a time that it does not say is worked out of its five fields.
CREATE FUNCTION fleet_catalog.overview_schedules() RETURNS text
    LANGUAGE sql STABLE
BEGIN ATOMIC
    SELECT '<section id="schedules"><h2>Next scheduled runs</h2>' || fleet_catalog.scroll('Schedules', '<table class="sort">' || fleet_catalog.heads('Package', 'Schedule', 'Time zone', 'Next run') || '<tbody>'
        || pg_catalog.string_agg('<tr><th scope="row"><bdi>' || fleet_catalog.html(s.title, 150) || '</bdi></th><td><code>' || fleet_catalog.html(s.cron, 100) || '</code>' || CASE WHEN s.enabled = 'false' THEN ' <span class="tag">disabled</span>' ELSE '' END
            || '</td><td>' || coalesce(fleet_catalog.html(s.time_zone, 60), '') || '</td><td class="n" style="text-align:start">' || CASE WHEN s.enabled = 'false' THEN '' ELSE coalesce(fleet_catalog.time_text(s.next), '') END || '</td></tr>', '' ORDER BY s.next, s.title)
        || '</tbody></table>') || '</section>'
      FROM (SELECT coalesce(j.row ->> 'package', j.row ->> 'job', '?') AS title, coalesce(j.row ->> 'cron', '') AS cron, coalesce(j.row ->> 'time_zone', 'GMT') AS time_zone, j.row ->> 'enabled' AS enabled,
                   coalesce((j.row ->> 'next_run')::timestamptz, (j.row ->> 'next_at')::timestamptz,
                            (SELECT t FROM fleet.schedule_times(j.row ->> 'cron', coalesce(j.row ->> 'time_zone', 'GMT'), pg_catalog.now(), 1) AS t
                              -- pg_cron knows more than five fields ("30 seconds", "$ 2 * * *")
                              WHERE NOT j.row ? 'next_run' AND NOT j.row ? 'next_at')) AS next
              FROM (SELECT pg_catalog.to_jsonb(c) AS row FROM fleet.schedule AS c) AS j WHERE coalesce(j.row ->> 'cron', '') ~ '^[0-9*,/-]+( +[0-9*,/-]+){4}$' LIMIT 200) AS s
    HAVING count(*) > 0;
END;

CREATE FUNCTION fleet.overview(days integer DEFAULT 7) RETURNS text
    LANGUAGE sql STABLE SET jit = off SET work_mem = '64MB'
BEGIN ATOMIC
    SELECT CASE WHEN fleet_link.check_days(overview.days) THEN fleet_catalog.page_frame('The fleet: ' || fleet_catalog.html(pg_catalog.current_database()::text, 100),
               '<main><header><p class="crumb">parent <bdi>' || fleet_catalog.html(pg_catalog.current_database()::text, 100) || '</bdi></p><h1>The fleet</h1><p class="verdict">' || s.said || '</p></header>'
               || coalesce(fleet_catalog.overview_failing(s.since), '') || coalesce(fleet_catalog.overview_running(), '') || coalesce(fleet_catalog.overview_grid(s.since), '')
               || coalesce(fleet_catalog.overview_schedules(), '') || coalesce(fleet_catalog.overview_servers(), '') || '</main>'
               || fleet_catalog.page_footer('A run: <code>SELECT fleet.report(run_id)</code>.')) END
      FROM (SELECT d.since, 'In the last ' || CASE overview.days WHEN 1 THEN 'day' ELSE overview.days || ' days' END || ': ' || fleet_catalog.number_text(n.runs) || CASE WHEN n.runs = 1 THEN ' run, ' ELSE ' runs, ' END
                   || fleet_catalog.number_text(n.bad) || ' failed, ' || fleet_catalog.number_text(n.canceled) || ' canceled; ' || fleet_catalog.number_text(n.open) || ' not ended.' AS said
              FROM (SELECT pg_catalog.now() - overview.days * '1 day'::interval AS since) AS d,
                   LATERAL (SELECT coalesce(sum(l.runs), 0)::bigint AS runs, coalesce(sum(l.bad), 0)::bigint AS bad, coalesce(sum(l.canceled), 0)::bigint AS canceled, coalesce(sum(l.open), 0)::bigint AS open
                              FROM fleet_catalog.overview_lines(d.since) AS l) AS n) AS s;
END;
COMMENT ON FUNCTION fleet.overview(integer) IS 'The fleet as one HTML page: what fails, is late or paused, what runs now, the last runs of each package, next scheduled runs, servers; it shows what the views show the caller. days: how far back, 1 to 366';
