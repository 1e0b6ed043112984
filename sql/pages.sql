-- A run as text and as a page, and who sees it.  The run is put there by hand, and rolled back.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
SET client_encoding = 'UTF8';
CREATE ROLE regress_fleet_pages;
CREATE ROLE regress_fleet_pages_stranger;
CREATE ROLE regress_fleet_pages_watcher;
GRANT fleet_reader TO regress_fleet_pages_watcher;

-- text as HTML: ASCII, without markup, without a character that HTML cannot have
SELECT fleet_catalog.html(E'<b a="1">&amp;''</b>', 100) AS markup, fleet_catalog.html(E'a\tb\nc' || chr(1) || chr(27) || chr(127), 100) AS controls,
       fleet_catalog.html(chr(228) || chr(8238) || chr(133) || chr(65534) || chr(128512), 100) AS characters, fleet_catalog.html('', 10) AS nothing,
       fleet_catalog.html('abcdef', 6) AS all_of_it, fleet_catalog.html('abcdef' || chr(228), 6) AS cut, fleet_catalog.html(NULL, 10) IS NULL AS unknown;
-- parameters without secrets
SELECT fleet_catalog.without_secrets(p::jsonb) FROM (VALUES ('{}'), ('"password"'), ('3'), ('["password", {"a": [{"PassWord": {"x": [1, 2]}}]}]'),
    ('{"api_token": "x", "auth": 1, "author": "me", "pass": null, "passage": 2, "db": {"dbpassword": [1, {"a": 2}], "host": "h"}, "AWS_SECRET_KEY": {}}')) AS v (p);
-- lengths of time
SELECT string_agg(fleet_catalog.span_text(s), ' | ' ORDER BY n) FROM unnest('{-1,0,0.0004,0.32,0.9994,0.9995,4.12,59.94,59.95,134,3599.4,3599.5,3780,86399,86400,190000,1e9}'::float8[]) WITH ORDINALITY AS u (s, n);
SELECT fleet_catalog.axis_step(0), fleet_catalog.axis_step(0.5), fleet_catalog.axis_step(134), fleet_catalog.axis_step(1e9);

BEGIN;
SET LOCAL TimeZone = 'UTC';
SET ROLE regress_fleet_pages;
SELECT fleet.create_package('inner'), fleet.add_task('inner', 'deep', sql => 'SELECT 1');
SELECT fleet.create_package('night', params => '{"day": "x", "token": "canary"}');
SELECT fleet.add_task('night', 'freeze', sql => 'SELECT 1');
SELECT fleet.add_task('night', 'stores', sql => 'SELECT 1', after => '{freeze}', for_each => 'SELECT 1 AS n');
SELECT fleet.add_task('night', 'stage', nested => 'inner', after => '{freeze}');
SELECT fleet.add_task('night', 'publish', sql => 'SELECT 1', after => '{stores, stage}');
SELECT fleet.add_task('night', 'alarm', sql => 'SELECT 1', after_failure_of => '{stores}');
SELECT fleet.run_parent_package('night') AS run_id \gset
SELECT fleet.run_parent_package('inner') AS nested_id \gset
SET LOCAL ROLE NONE;
CREATE FUNCTION pg_temp.at(s float8) RETURNS timestamptz LANGUAGE sql AS $$SELECT '2026-01-01 02:00:00+00'::timestamptz + s * interval '1 s'$$;
UPDATE fleet_catalog.run SET state = 12, started_at = pg_temp.at(0), finished_at = pg_temp.at(100) WHERE run_id = :run_id;
UPDATE fleet_catalog.run SET state = 11, started_at = pg_temp.at(10), finished_at = pg_temp.at(30), parent_run_id = :run_id, parent_task_no = 2, parent_item = 0 WHERE run_id = :nested_id;
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, started_at, finished_at, state, attempt, row_count, sqlstate, message, params)
SELECT v.run_id, v.task_no, v.item, pg_temp.at(v.q), pg_temp.at(v.b), pg_temp.at(v.e), v.state, 1, v.rows, v.sqlstate, v.message, CASE WHEN v.item > 0 THEN jsonb_build_object('shop', v.item) END
  FROM (VALUES (:run_id, 0, 0, 0, 0, 10, 11, 1, NULL, NULL), (:run_id, 1, 0, 0, 10, 90, 12, NULL, NULL, NULL), (:run_id, 1, 1, 10, 10, 40, 11, 5, NULL, NULL), (:run_id, 1, 2, 10, 10, 90, 11, 7, NULL, NULL),
               (:run_id, 1, 3, 10, 40, 50, 12, NULL, '22012', E'division\nby <zero>'), (:run_id, 2, 0, 0, 10, 30, 11, NULL, NULL, NULL), (:run_id, 3, 0, 0, NULL, 90, 14, NULL, NULL, NULL),
               (:run_id, 4, 0, 0, 90, 100, 11, 1, NULL, NULL), (:nested_id, 0, 0, 10, 15, 30, 11, 1, NULL, NULL)) AS v (run_id, task_no, item, q, b, e, state, rows, sqlstate, message);
INSERT INTO fleet_catalog.step_run (run_id, task_no, item, started_at, finished_at, first_seq, last_seq, step_no, attempt, step, state, phase, sqlstate, message, detail, hint, context)
VALUES (:run_id, 1, 3, pg_temp.at(40), pg_temp.at(50), 1, 3, 1, 1, 'stores', 12, 0, '22012', 'division by <zero>', 'the detail', 'the hint', 'the context');
INSERT INTO fleet_catalog.log_line (run_id, task_no, item, step_no, seq, logged_at, level, message) VALUES (:run_id, 1, 3, 1, 2, pg_temp.at(45), 'WARNING', 'the <line>');

SET ROLE regress_fleet_pages;
SELECT regexp_replace(gantt, 'run \d+', 'run N') AS gantt FROM fleet.gantt(:run_id, width => 80, ascii => true);
SELECT regexp_replace(tree, 'run \d+', 'run N') AS tree FROM fleet.tree(:run_id, ascii => true);
SELECT max(length(gantt)) <= 120 AS narrow, bool_or(gantt LIKE '%' || chr(9608) || '%') AS blocks FROM fleet.gantt(:run_id, width => 120);
SELECT min(length(gantt)) > 0 FROM fleet.gantt(:run_id, width => 60);
-- where the client cannot show them, there are no signs
SET LOCAL client_encoding = 'SQL_ASCII';
SELECT bool_and(gantt ~ '^[ -~]*$') FROM fleet.gantt(:run_id);
SET LOCAL client_encoding = 'UTF8';
SELECT h LIKE '<!DOCTYPE html>%</html>' || chr(10) AS page, h ~ '^[ -~\n]*$' AS ascii, h LIKE '%canary%' AS secret, h LIKE '%(hidden)%' AS hidden, h LIKE '%<zero>%' OR h LIKE '%<line>%' AS markup,
       h LIKE '%stores</bdi> <span class="tag">3</span>%division%the detail%the hint%the context%<b>WARNING</b> the &lt;line&gt;%' AS failure,
       h LIKE '%stage / deep%' AS nested, h LIKE '%id="failures"%id="graph"%id="gantt"%id="tasks"%id="servers"%' AS sections
  FROM fleet.report(:run_id) AS h;
-- the constraints that were taken, and those that were not
SELECT m[1] AS edge_class, m[2] AS from_to FROM fleet.report(:run_id) AS h, regexp_matches(h, '<path class="([a-z ]*)" data-e="([0-9 ]*)"', 'g') AS m ORDER BY 2;
-- the critical path: alarm, stores, freeze
SELECT string_agg(m[1], ' ' ORDER BY m[1]) AS critical FROM fleet.report(:run_id) AS h, regexp_matches(h, '<title>([a-z]*): [a-z]*</title><rect class="box crit"', 'g') AS m;
SELECT h LIKE '%<bdi>night</bdi></b>%in its last run%division%' AS fails, h LIKE '%<bdi>inner</bdi>%' AS nested FROM fleet.overview(366) AS h;
-- of a run that has not begun
SELECT fleet.run_parent_package('night') AS open_id \gset
SELECT regexp_replace(gantt, 'run \d+', 'run N') AS gantt FROM fleet.gantt(:open_id);
SELECT regexp_replace(tree, 'run \d+', 'run N') AS tree FROM fleet.tree(:open_id, ascii => true);
SELECT fleet.report(:open_id) LIKE '%queued%' AS queued;
-- whoever sees her runs sees them so; to others there are none
SET ROLE regress_fleet_pages_watcher;
SELECT fleet.report(:run_id) LIKE '%<bdi>night</bdi>%', fleet.overview(366) LIKE '%<bdi>night</bdi>%', (SELECT count(*) FROM fleet.gantt(:run_id)), (SELECT count(*) FROM fleet.tree(:run_id));
SET ROLE regress_fleet_pages_stranger;
SELECT fleet.overview(366) LIKE '%night%' AS sees, fleet.overview(366) LIKE '%There was no run.%' AS nothing;
SELECT count(*) FROM fleet_link.run_advice(:run_id);
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT fleet.report(:run_id);
ROLLBACK TO s;
SELECT fleet.gantt(:run_id);
ROLLBACK TO s;
SELECT fleet.tree(:run_id);
ROLLBACK TO s;
-- not from below either
SELECT fleet_catalog.report_head(:run_id);
ROLLBACK TO s;
TABLE fleet_catalog.page_run;
ROLLBACK;
\set VERBOSITY verbose
-- bad arguments
SELECT fleet.report(NULL);
SELECT fleet.report(-1);
SELECT fleet.gantt(-1);
SELECT fleet.gantt(1, width => 121);
SELECT fleet.gantt(1, width => NULL);
SELECT fleet.tree(NULL);
SELECT fleet.overview(0);
SELECT fleet.overview(NULL);
DROP ROLE regress_fleet_pages, regress_fleet_pages_stranger, regress_fleet_pages_watcher;
