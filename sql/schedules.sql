-- Schedules and backfills: definition, validation, documents, versions, rights.  That they are fired: test/t/084_schedules.pl.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE ROLE regress_fleet_sched LOGIN;
CREATE ROLE regress_fleet_other;
SET ROLE regress_fleet_sched;
SELECT fleet.create_package('night', params => '{"day": null, "n": 1}');
SELECT fleet.add_task('night', 't', sql => 'SELECT 1 / (length(fleet.param(''day'')) - 10)');
SELECT fleet.create_package('plain');
SELECT fleet.add_task('plain', 't', sql => 'SELECT 1');
SELECT fleet.create_job('tick', params => '{"x": 0}');
SELECT fleet.add_step('tick', 's', sql => 'SELECT 1');

-- what is refused, and leaves nothing behind
SELECT fleet.schedule_package('night', 'every night');
SELECT fleet.schedule_package('night', NULL);
SELECT fleet.schedule_package('night', '0 2 * * *');
SELECT fleet.schedule_package('night', '0 2 * * *', '{"day": 1, "m": 1}');
SELECT fleet.schedule_package('night', '0 2 * * *', '{"m": 1}', params_sql => '1');
SELECT fleet.schedule_package('night', '0 2 * * *', '[]');
SELECT fleet.schedule_package('night', '0 2 * * *', NULL);
SELECT fleet.schedule_package('night', '0 2 * * *', params_sql => 'jsonb_build_object(');
SELECT fleet.schedule_package('night', '0 2 * * *', params_sql => '1) FROM pg_class; DROP TABLE x; SELECT (1');
SELECT fleet.schedule_package('night', '0 2 * * *', params_sql => '');
SELECT fleet.schedule_package('night', '0 2 * * *', '{"day": 1}', time_zone => 'Mars/Olympus');
SELECT fleet.schedule_package('night', '0 2 * * *', '{"day": 1}', missed => 'later');
SELECT fleet.schedule_package('night', '0 2 * * *', '{"day": 1}', missed => NULL);
SELECT fleet.schedule_package('night', '0 2 * * *', '{"day": 1}', enabled => NULL);
SELECT fleet.schedule_package('night', '0 2 * * *', '{"day": 1}', name => '');
SELECT fleet.schedule_package('nothing', '0 2 * * *');
SELECT fleet.schedule_job('nothing', '0 2 * * *');
SELECT count(*) FROM fleet.schedule;

-- what says a NOTICE
SET client_min_messages = notice;
\set VERBOSITY terse
SELECT fleet.schedule_package('night', '0 2 1 1 *', '{"day": 1}', time_zone => 'Europe/Berlin') > now() AS later;
SELECT fleet.schedule_package('night', '0 2 1 1 *', '{"day": 1}', enabled => false);
\set VERBOSITY verbose
SET client_min_messages = warning;

-- several, of both kinds; a call with the same name replaces
SELECT fleet.schedule_package('night', '0 2 1 1 *', params_sql => 'SELECT jsonb_build_object(''day'', count(*)) FROM pg_class', time_zone => 'Europe/Berlin') IS NOT NULL AS due;
SELECT fleet.schedule_package('night', '@yearly', '{"day": "noon"}', name => 'noon', missed => 'skip', time_zone => 'Asia/Tokyo') IS NOT NULL AS due;
SELECT fleet.schedule_job('tick', '0 0 29 2 *', '{"x": 1}', missed => 'all') IS NOT NULL AS due;
SELECT name, package, job, cron, time_zone, enabled, missed, owner, failures, params, params_sql FROM fleet.schedule ORDER BY name;
SELECT fleet.schedule_package('plain', '@yearly', name => 'noon');
SELECT fleet.schedule_job('tick', '@yearly', name => 'noon');
SET TimeZone = 'America/New_York';
SELECT fleet.schedule_package('plain', '@yearly') IS NOT NULL AS due;
SELECT time_zone FROM fleet.schedule WHERE name = 'plain';
SELECT name, next_time AT TIME ZONE 'Asia/Tokyo' = date_trunc('year', next_time AT TIME ZONE 'Asia/Tokyo') AS at_new_year FROM fleet.schedule WHERE name = 'noon';
SET TimeZone = 'UTC';

-- changes
SELECT fleet.alter_schedule('noon', cron => '0 12 1 1 *', missed => 'all', params_sql => '''{}''') IS NOT NULL AS due;
SELECT fleet.alter_schedule('noon', new_name => 'plain');
SELECT fleet.alter_schedule('noon', new_name => 'afternoon', enabled => false);
SELECT name, cron, missed, enabled, next_time, params, params_sql FROM fleet.schedule WHERE name = 'afternoon';
SELECT fleet.alter_schedule('afternoon', reset => '{missed,params_sql,enabled}') IS NOT NULL AS due;
SELECT name, cron, missed, enabled, params, params_sql FROM fleet.schedule WHERE name = 'afternoon';
SELECT fleet.alter_schedule('afternoon', reset => '{params}');
SELECT fleet.alter_schedule('afternoon', reset => '{cron}');
SELECT fleet.alter_schedule('afternoon', cron => '60 * * * *');
SELECT fleet.alter_schedule('afternoon', time_zone => '');
SELECT fleet.alter_schedule('nothing', enabled => false);

-- others
SET ROLE regress_fleet_other;
SELECT count(*) FROM fleet.schedule;
SELECT fleet.alter_schedule('night', enabled => false);
SELECT fleet.unschedule('night');
SELECT fleet.schedule_package('night', '@yearly');
SELECT fleet.schedule_job('tick', '@yearly');
SELECT fleet.unschedule_package('night');
SET ROLE regress_fleet_sched;

-- versions and documents
SELECT version, document -> 'schedules' FROM fleet.version WHERE name = 'plain' ORDER BY version;
SELECT fleet.unschedule('plain');
SELECT * FROM fleet.diff_package('plain', 3);
SELECT fleet.restore_package('plain', 3);
SELECT name, time_zone FROM fleet.schedule WHERE package = 'plain';
SELECT jsonb_pretty(fleet.export_package('night') -> 'packages' -> 'night' -> 'schedules');
SELECT fleet.export_package('night') AS document \gset
SELECT path, change, old, new FROM fleet.import_package(jsonb_set(:'document', '{packages,night,schedules,0,cron}', '"5 5 5 5 *"'), dry_run => true);
SELECT path, change, old, new FROM fleet.import_package(:'document'::jsonb #- '{packages,night,schedules,1}', replace => true);
SELECT name FROM fleet.schedule WHERE package = 'night' ORDER BY name;
SELECT fleet.export_package('night') - 'x' = :'document'::jsonb #- '{packages,night,schedules,1}' AS same;
SELECT count(*) FROM fleet.import_package(:'document', replace => true);
SELECT name FROM fleet.schedule WHERE package = 'night' ORDER BY name;
SELECT fleet.import_package(jsonb_set(:'document', '{packages,night,schedules,0,crom}', '"* * * * *"'), replace => true);
SELECT fleet.import_package(jsonb_set(:'document', '{packages,night,schedules,0,cron}', '"x"'), replace => true);
SELECT fleet.import_package(jsonb_set(:'document', '{packages,night,schedules}', '{}'), replace => true);
SELECT fleet.document_schema() #> '{properties,jobs,additionalProperties,properties,schedules,items,required}' AS required;

-- names follow, and go
SELECT fleet.alter_package('night', new_name => 'nightly'), fleet.alter_job('tick', new_name => 'tock');
SELECT name, package, job FROM fleet.schedule ORDER BY name;
SELECT fleet.drop_package('nightly');
SELECT fleet.drop_job('tock');
SELECT fleet.unschedule('tock'), fleet.unschedule('tock', if_exists => true);
SELECT fleet.unschedule('tock');
SELECT fleet.unschedule_package('plain'), fleet.unschedule_package('plain');
SELECT fleet.schedule_job('tock', '@yearly') IS NOT NULL AS due;
SELECT fleet.drop_job('tock', cascade => true);
SELECT name FROM fleet.schedule ORDER BY name;

-- outside of a schedule
SELECT fleet.scheduled_for();
SET fleet.context = '{"scheduled_for": "2026-11-28 02:00:00+00"}';
SELECT fleet.scheduled_for();
RESET fleet.context;

-- what the agent calls
RESET ROLE;
SELECT schedule_id AS id FROM fleet_catalog.schedule WHERE name = 'nightly' \gset
SET ROLE regress_fleet_sched;
SELECT fleet.pause(package => 'nightly');
SET fleet.params = '{"day": 7}';
SELECT fleet_link.start_scheduled(:id, '2026-11-28 02:00+00') AS run \gset
SELECT fleet_link.start_scheduled(:id, '2026-11-28 02:00+00') = :run AS same;
SELECT package, run_key, scheduled_for, params FROM fleet.run WHERE run_id = :run;
SELECT name, last_time, last_run_id = :run AS run, last_job_run_id FROM fleet.schedule WHERE name = 'nightly';
SET fleet.params = '{"x": 7}';
SELECT fleet_link.start_scheduled(:id, '2026-11-29 02:00+00');
RESET fleet.params;
SELECT fleet_link.start_scheduled(:id, '2026-11-29 02:00+00');
SELECT fleet.alter_schedule('nightly', enabled => false);
SELECT fleet_link.start_scheduled(:id, '2026-11-29 02:00+00');
SET ROLE regress_fleet_other;
\set VERBOSITY sqlstate
SELECT fleet_link.start_scheduled(:id, '2026-11-29 02:00+00');
\set VERBOSITY verbose
SET ROLE regress_fleet_sched;

-- backfill
RESET ROLE;
CREATE SCHEMA regress_fleet_sched AUTHORIZATION regress_fleet_sched;
SET ROLE regress_fleet_sched;
SET search_path = regress_fleet_sched, public;
CREATE FUNCTION before(t timestamptz) RETURNS text LANGUAGE sql AS $$SELECT to_char(t - interval '1 day', 'YYYY-MM-DD')$$;
SELECT fleet.pause(package => 'plain');
SELECT scheduled_for, action, run_id IS NOT NULL AS run, state FROM fleet.backfill('nightly', '2026-11-27 02:00', '2026-11-29 02:00', params => '{"day": 0}', dry_run => true);
SELECT scheduled_for, action, run_id IS NOT NULL AS run, state
  FROM fleet.backfill('nightly', '2026-11-27 02:00', '2026-11-29 02:00', params_sql => $$SELECT jsonb_build_object('day', CASE fleet.scheduled_for()::date WHEN '2026-11-27' THEN 'good' ELSE before(fleet.scheduled_for()) END)$$);
SELECT run_key, scheduled_for, params FROM fleet.run WHERE package = 'nightly' ORDER BY scheduled_for;
SELECT current_setting('search_path') AS search_path, fleet.scheduled_for();
SELECT action, state FROM fleet.backfill('nightly', '2026-11-27 02:00', '2026-11-29 02:00', params => '{"day": 0}');
SET TimeZone = 'Europe/Berlin';
SELECT scheduled_for FROM fleet.backfill('plain', '2026-03-28 02:30', '2026-03-30 02:30', dry_run => true);
SET TimeZone = 'UTC';
SELECT fleet.resume(package => 'nightly');
SELECT fleet.wait_for_run(run_id) FROM fleet.run WHERE package = 'nightly' ORDER BY scheduled_for, run_id;
SELECT fleet.pause(package => 'nightly');
SELECT action, state FROM fleet.backfill('nightly', '2026-11-27 02:00', '2026-11-29 02:00', params => '{"day": 0}', reprocess => 'failed', dry_run => true);
SELECT action, state FROM fleet.backfill('nightly', '2026-11-27 02:00', '2026-11-29 02:00', params => '{"day": 0}', reprocess => 'all', dry_run => true);
SELECT action, state FROM fleet.backfill('nightly', '2026-11-27 02:00', '2026-11-27 02:00', params => '{"day": 0}', reprocess => 'all');
SELECT action, state FROM fleet.backfill('nightly', '2026-11-29 02:00', '2026-11-29 02:00', params => '{"day": 0}', reprocess => 'failed');
SELECT run_key, state, restart_of IS NOT NULL AS restart, params FROM fleet.run WHERE package = 'nightly' ORDER BY run_key, run_id;
-- what is refused
SELECT * FROM fleet.backfill('nightly', '2026-11-27', '2026-11-26');
SELECT * FROM fleet.backfill('nightly', '-infinity', '2026-11-26');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', step => '0');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', step => '-1 day');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', step => '1 s');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', reprocess => 'some');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', params => NULL);
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', params_sql => 'SELECT');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', dry_run => NULL);
SELECT * FROM fleet.backfill('nightly', NULL, '2026-11-26');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', params_sql => '''[1]''');
SELECT * FROM fleet.backfill('nightly', '2026-11-25', '2026-11-26', params_sql => '1 / 0');
SELECT * FROM fleet.backfill('nothing', '2026-11-25', '2026-11-26');
SELECT * FROM fleet.backfill('plain', '2026-11-25', '2026-11-26', max_parallel => -1);
SELECT * FROM fleet.backfill('plain', '2026-11-25', '2026-11-26', max_parallel => NULL);
SELECT fleet.alter_package('plain', max_parallel => 3);
SELECT * FROM fleet.backfill('plain', '2026-11-25', '2026-11-26', max_parallel => 2);
SELECT fleet.alter_package('plain', overlap => 'skip', max_parallel => 0);
SELECT * FROM fleet.backfill('plain', '2026-11-25', '2026-11-26', reprocess => 'failed');
SELECT scheduled_for, action FROM fleet.backfill('plain', '2026-11-25', '2026-11-26', dry_run => true);
SELECT fleet.alter_package('plain', overlap => 'parallel', enabled => false);
SELECT * FROM fleet.backfill('plain', '2026-11-25', '2026-11-26');

-- pg_cron is not here
SELECT fleet.use_pg_cron();
SELECT fleet.use_pg_cron(false);

SELECT count(fleet.cancel_run(run_id)) FROM fleet.run WHERE package = 'nightly';
SELECT count(fleet.wait_for_run(run_id)) FROM fleet.run WHERE package = 'nightly';
SELECT fleet.resume(package => 'nightly'), fleet.drop_package('nightly', cascade => true), fleet.drop_package('plain');
SELECT count(*) FROM fleet.schedule;
RESET ROLE;
RESET search_path;
DROP SCHEMA regress_fleet_sched CASCADE;
DELETE FROM fleet_catalog.step_run WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package IN ('nightly', 'plain'));
DELETE FROM fleet_catalog.log_line WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package IN ('nightly', 'plain'));
DELETE FROM fleet_catalog.cancel_request WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package IN ('nightly', 'plain'));
DELETE FROM fleet_catalog.task_run WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package IN ('nightly', 'plain'));
DELETE FROM fleet_catalog.run WHERE package IN ('nightly', 'plain');
DROP OWNED BY regress_fleet_sched, regress_fleet_other;
DROP ROLE regress_fleet_sched, regress_fleet_other;
