-- The tour of doc/tour.md.  Run it as superuser in a new database of the parent (named "dw" here), with the
-- ports of three servers on 127.0.0.1, each with a database "dw" that demo/tour_server.sql has prepared;
-- etl1 and etl2 have the extension too.  "demo/run.sh tour" does all of that:
--
--   psql -X -a -q -v etl1=PORT -v etl2=PORT -v edge=PORT dw <demo/tour.sql
--
-- "-- [name]" begins the piece that doc/tour.md shows under that name.  What stands between ECHO none and
-- ECHO all only waits, so that the output is the same each time.
\set SHOW_CONTEXT never
\pset footer off
\pset null ''
SET timezone = 'UTC';

-- [setup]
CREATE EXTENSION pg_fleet;
CREATE ROLE planner LOGIN;
CREATE SCHEMA planner AUTHORIZATION planner;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO planner;
SET SESSION AUTHORIZATION planner;

-- [hello]
SELECT fleet.create_package('hello');
SELECT fleet.add_task('hello', 'answer', sql => 'SELECT 42');
SELECT fleet.add_task('hello', 'oops', sql => 'SELECT 1 / 0', after => '{answer}');
SELECT fleet.add_task('hello', 'alarm', after_failure_of => '{oops}',
                      sql => $$DO 'BEGIN RAISE WARNING ''please look''; END'$$);
CALL fleet.execute_package('hello');

-- [hello rows]
SELECT task, state, row_count, output, sqlstate, message
  FROM fleet.task_run WHERE package = 'hello' ORDER BY task_no;

-- [unhandled]
SELECT fleet.create_package('unhandled');
SELECT fleet.add_task('unhandled', 'oops', sql => 'SELECT 1 / 0');
CALL fleet.execute_package('unhandled');

-- [servers]
SELECT fleet.add_server('etl1', 'host=127.0.0.1 dbname=dw port=' || :'etl1', username => 'etl', password => 'secret',
                        slots => 2, groups => '{etl}');
SELECT fleet.add_server('etl2', 'host=127.0.0.1 dbname=dw port=' || :'etl2', username => 'etl', password => 'secret',
                        slots => 2, groups => '{etl}');
SELECT fleet.add_server('edge', 'host=127.0.0.1 dbname=dw port=' || :'edge', username => 'etl', password => 'secret',
                        mode => 'direct', slots => 2, groups => '{etl}');

-- [job]
SELECT fleet.create_job('load_region', params => '{"region": null, "day": null}');
SELECT fleet.add_step('load_region', 'vacuum', sql => 'VACUUM ANALYZE sale');
SELECT fleet.add_step('load_region', 'load', retries => 2, retry_wait => '100ms', timeout => '10min', sql => $$
    SELECT load(p ->> 'region', (p ->> 'day')::date)
      FROM (SELECT current_setting('fleet.params')::jsonb) AS x (p)$$);
SELECT * FROM fleet.deploy_job('load_region', on_group => 'etl');
\set ECHO none
DO $$ BEGIN LOOP EXIT WHEN NOT EXISTS (SELECT FROM fleet.deployment WHERE state = 'queued') OR clock_timestamp() > now() + interval '1min'; PERFORM pg_sleep(0.05); END LOOP; END $$;
\set ECHO all

-- [deployment]
SELECT server, job, state, drift, message FROM fleet.deployment ORDER BY server;

-- [nightly]
CREATE TABLE planner.region (name text PRIMARY KEY);
INSERT INTO planner.region VALUES ('north'), ('south'), ('east'), ('west'),
    ('north-east'), ('north-west'), ('south-east'), ('south-west');
CREATE TABLE planner.report (day date, rows bigint);
SELECT fleet.create_package('nightly', params => '{"day": null}', overlap => 'skip');
SELECT fleet.add_task('nightly', 'regions', job => 'load_region', on_group => 'etl',
                      for_each => $$SELECT jsonb_build_object('region', name) FROM planner.region ORDER BY name$$);
SELECT fleet.add_task('nightly', 'publish', after => '{regions}', sql => $$
    INSERT INTO planner.report
    SELECT fleet.param('day')::date, sum(rows::bigint)
      FROM jsonb_array_elements_text(fleet.output('regions')::jsonb) AS rows$$);
SELECT fleet.add_task('nightly', 'alarm', after_failure_of => '{regions}',
                      sql => $$DO 'BEGIN RAISE WARNING ''regions are missing''; END'$$);
CALL fleet.execute_package('nightly', params => '{"day": "2026-11-23"}');

-- [report]
SELECT * FROM planner.report;

-- [task runs]
SELECT run_id AS run FROM fleet.recent WHERE package = 'nightly' LIMIT 1 \gset
SELECT task, item, params ->> 'region' AS region, server, state, output, finished_at - started_at AS took
  FROM fleet.task_run WHERE run_id = :run ORDER BY task_no, item;

-- [job log]
SELECT item, server, step, attempt, state, row_count, duration
  FROM fleet.job_log WHERE run_id = :run AND item IN (1, 2) ORDER BY item, started_at;

-- [log]
SELECT item, server, step, seq, level, message
  FROM fleet.log WHERE run_id = :run AND item = 1 ORDER BY seq;

-- [plan]
SELECT * FROM fleet.plan('nightly');

-- [advise]
SELECT number_of_servers, makespan, lower_bound, round(speed_up::numeric, 2) AS speed_up
  FROM fleet.advise('nightly', servers => 5);

-- [failure]
INSERT INTO planner.region VALUES ('atlantis');
SELECT fleet.run_parent_package('nightly', params => '{"day": "2026-11-24"}', run_key => '2026-11-24') AS run \gset
SELECT fleet.wait_for_run(:run, timeout => '10min');
SELECT task, item, attempt, state, sqlstate, message FROM fleet.task_run
 WHERE run_id = :run AND (item = 0 OR state <> 'succeeded') ORDER BY task_no, item;

-- [failed steps]
SELECT step, attempt, state, sqlstate, message, hint
  FROM fleet.job_log WHERE run_id = :run AND state <> 'succeeded' ORDER BY attempt;

-- [twice]
SELECT fleet.run_parent_package('nightly', params => '{"day": "2026-11-24"}', run_key => '2026-11-24') = :run AS same_run;

-- [restart]
CREATE TABLE planner.price (region text, price numeric NOT NULL);
INSERT INTO planner.price SELECT name, length(name) FROM planner.region WHERE name <> 'atlantis';
SELECT fleet.create_package('prices');
SELECT fleet.add_task('prices', 'check', for_each => $$SELECT jsonb_build_object('region', name) FROM planner.region$$,
                      sql => $$SELECT 1 / count(*) FROM planner.price WHERE region = fleet.param('region')$$);
SELECT fleet.add_task('prices', 'publish', sql => 'SELECT sum(price) FROM planner.price', after => '{check}');
SELECT fleet.run_parent_package('prices') AS failed \gset
SELECT fleet.wait_for_run(:failed);
INSERT INTO planner.price VALUES ('atlantis', 8);
SELECT fleet.restart_run(:failed) AS run \gset
SELECT fleet.wait_for_run(:run);
SELECT task, state, count(*), count(carried_from) AS carried_over, sum(attempt) AS starts
  FROM fleet.task_run WHERE run_id = :run AND (item > 0 OR task = 'publish') GROUP BY task, state ORDER BY min(task_no);

-- [drain]
SELECT fleet.create_job('nap');
SELECT fleet.add_step('nap', 'sleep', sql => 'SELECT pg_sleep(600)');
SELECT * FROM fleet.deploy_job('nap', on_group => 'etl');
\set ECHO none
DO $$ BEGIN LOOP EXIT WHEN NOT EXISTS (SELECT FROM fleet.deployment WHERE state = 'queued') OR clock_timestamp() > now() + interval '1min'; PERFORM pg_sleep(0.05); END LOOP; END $$;
\set ECHO all
SELECT fleet.create_package('naps');
SELECT fleet.add_task('naps', 'nap', job => 'nap', on_group => 'etl',
                      for_each => $$SELECT jsonb_build_object('n', n) FROM generate_series(1, 10) AS n$$);
SELECT fleet.set_server_state('edge', 'draining');
SELECT fleet.run_parent_package('naps') AS run \gset
\set ECHO none
DO $$ BEGIN LOOP EXIT WHEN 4 = (SELECT count(*) FROM fleet.task_run WHERE package = 'naps' AND state = 'running' AND item > 0) OR clock_timestamp() > now() + interval '1min'; PERFORM pg_sleep(0.05); END LOOP; END $$;
\set ECHO all

-- [watch]
SELECT run_id, package, total, done, failed, running, queued, state FROM fleet.progress WHERE run_id = :run;
SELECT server, mode, state, slots, busy, groups FROM fleet.server_status ORDER BY server;

-- [cancel]
SELECT fleet.cancel_run(:run);
SELECT fleet.wait_for_run(:run);
SELECT task, state, count(*) FROM fleet.task_run WHERE run_id = :run GROUP BY task, state ORDER BY state;
SELECT fleet.set_server_state('edge', 'online');

-- [drift]
SELECT fleet.add_step('load_region', 'count', sql => 'SELECT count(*) FROM sale');
SELECT server, job, state, drift FROM fleet.deployment WHERE job = 'load_region' ORDER BY server;

-- [start job]
SELECT fleet.create_job('local');
SELECT fleet.add_step('local', 'one', sql => 'SELECT current_user');
SELECT fleet.start_job('local');
\set ECHO none
DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM fleet.job_run WHERE finished_at IS NOT NULL) OR clock_timestamp() > now() + interval '1min'; PERFORM pg_sleep(0.05); END LOOP; END $$;
\set ECHO all
SELECT job_run_id, job, state, output FROM fleet.job_run WHERE queued_at >= now() - interval '1 hour';

-- [recent]
SELECT * FROM fleet.recent LIMIT 10;
