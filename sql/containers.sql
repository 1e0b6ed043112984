-- Containers: tasks of a package that have tasks of their own, named by paths.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
BEGIN;
SELECT fleet.create_package('nightly', params => '{"day": null}');
SELECT fleet.add_task('nightly', 'check', sql => 'SELECT 1');
SELECT fleet.add_task('nightly', 'stage', container => true, params => '{"x": 1}', after => '{check}');
SELECT fleet.add_task('nightly', 'stage/clear', sql => 'SELECT 2');
SELECT fleet.add_task('nightly', 'stage/load', sql => 'SELECT 3', after => '{clear}');
SELECT fleet.add_task('nightly', 'stage/index', sql => 'SELECT 4', after => '{stage/load}', after_completion_of => '{clear}', enabled => false);
SELECT fleet.add_task('nightly', 'regions', container => true, for_each => 'SELECT i AS region FROM generate_series(1, 3) AS i', throttle => 2,
                      completion => 'fail_fast', retries => 1, timeout => '1h', after => '{stage}');
SELECT fleet.add_task('nightly', 'regions/in', container => true);
SELECT fleet.add_task('nightly', 'regions/in/deep', sql => 'SELECT 5', params => '{"a": {"$output": "check"}, "b": {"$output": "stage/load"}, "c": {"$outcome": "regions/first"}}');
ROLLBACK;
BEGIN;
SELECT fleet.create_package('nightly', params => '{"day": 1}');
SELECT fleet.add_task('nightly', 'check', sql => 'SELECT 1');
SELECT fleet.add_task('nightly', 'stage', container => true, params => '{"x": 1}', after => '{check}');
SELECT fleet.add_task('nightly', 'stage/clear', sql => 'SELECT 2');
SELECT fleet.add_task('nightly', 'stage/load', sql => 'SELECT 3', after => '{clear}');
SELECT fleet.add_task('nightly', 'stage/index', sql => 'SELECT 4', after => '{stage/load}', after_completion_of => '{clear}', enabled => false);
SELECT fleet.add_task('nightly', 'regions', container => true, for_each => 'SELECT i AS region FROM generate_series(1, 3) AS i', throttle => 2,
                      completion => 'fail_fast', retries => 1, timeout => '1h', after => '{stage}');
SELECT fleet.add_task('nightly', 'regions/first', sql => 'SELECT 5');
SELECT fleet.add_task('nightly', 'regions/in', container => true, after => '{first}');
SELECT fleet.add_task('nightly', 'regions/in/deep', sql => 'SELECT 6', params => '{"a": {"$output": "check"}, "b": {"$output": "stage/load"}, "c": {"$outcome": "first"}, "d": {"$outcome": "regions/first"}}');
SELECT package, task_no, task, kind, nested, container, enabled, throttle FROM fleet.task ORDER BY task COLLATE "C";
SELECT * FROM fleet.precedence ORDER BY to_task COLLATE "C", from_task COLLATE "C";
SELECT package, tasks FROM fleet.package;
SELECT * FROM fleet.validate_package('nightly');
SAVEPOINT s;
-- what cannot be
SELECT fleet.add_task('nightly', 'more/x', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'check/x', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'stage/', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', '/x', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'stage//x', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'both', sql => 'SELECT 1', container => true);
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'none', container => NULL);
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'where', container => true, on_group => 'etl');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'stage/load', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'long', container => true), fleet.add_task('nightly', 'long/' || repeat('x', 193), container => true);
ROLLBACK TO s;
SELECT fleet.create_package('nightly/other'), fleet.add_task('nightly', 'other', container => true);
ROLLBACK TO s;
-- constraints that would cross the border of a container
SELECT fleet.add_task('nightly', 'tell', sql => 'SELECT 1', after => '{stage/load}');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'stage/last', sql => 'SELECT 1', after => '{regions/first}');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'stage/last', sql => 'SELECT 1', after => '{check}');
ROLLBACK TO s;
SELECT fleet.add_precedence('nightly', 'stage', 'stage/load');
ROLLBACK TO s;
SELECT fleet.add_precedence('nightly', 'stage/clear', 'regions/in/deep');
ROLLBACK TO s;
SELECT fleet.add_precedence('nightly', 'stage/none', 'stage/load');
ROLLBACK TO s;
SELECT fleet.add_precedence('nightly', 'clear', 'stage/none');
ROLLBACK TO s;
SELECT fleet.add_precedence('nightly', 'stage/index', 'stage/clear');
ROLLBACK TO s;
SELECT fleet.add_precedence('nightly', 'load', 'stage/clear');
ROLLBACK TO s;
SELECT fleet.drop_precedence('nightly', 'clear', 'stage/load');
SELECT fleet.add_precedence('nightly', 'clear', 'stage/load', on_outcome => 'completion', condition => '1 = 1');
SELECT fleet.drop_precedence('nightly', 'stage/clear', 'stage/load');
ROLLBACK TO s;
-- what parameters refer to
SELECT fleet.add_task('nightly', 'stage/p', sql => 'SELECT 1', params => '{"a": {"$output": "none"}}');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'p', sql => 'SELECT 1', params => '{"a": {"$output": "regions/first"}}');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'p', sql => 'SELECT 1', params => '{"a": {"$output": "load"}}');
ROLLBACK TO s;
-- drop
SELECT fleet.drop_task('nightly', 'stage');
ROLLBACK TO s;
SELECT fleet.drop_task('nightly', 'stage', cascade => true);
ROLLBACK TO s;
SELECT fleet.drop_task('nightly', 'stage/load');
ROLLBACK TO s;
SELECT fleet.drop_task('nightly', 'stage/none');
ROLLBACK TO s;
SELECT fleet.drop_task('nightly', 'regions', cascade => true), fleet.drop_task('nightly', 'stage/clear'), fleet.drop_task('nightly', 'check');
SELECT task, task_no FROM fleet.task ORDER BY task COLLATE "C";
SELECT name, container_task FROM fleet_catalog.package ORDER BY name COLLATE "C";
SELECT fleet.drop_package('nightly');
SELECT count(*) FROM fleet_catalog.package;
ROLLBACK TO s;
-- a container is no package
SELECT fleet.run_parent_package('nightly/stage');
ROLLBACK TO s;
SELECT fleet.alter_package('nightly/stage', description => 'x');
ROLLBACK TO s;
SELECT fleet.drop_package('nightly/stage');
ROLLBACK TO s;
SELECT fleet.create_package('nightly/stage');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'again', nested => 'nightly/stage');
ROLLBACK TO s;
SELECT fleet.pause(package => 'nightly/stage');
ROLLBACK TO s;
SELECT fleet.set_retention('nightly/stage', 1);
ROLLBACK TO s;
SELECT fleet.export_package('nightly/stage');
ROLLBACK TO s;
SELECT fleet.create_job('j'), fleet.add_step('j', 's', package => 'nightly/stage');
ROLLBACK TO s;
SELECT fleet.run_parent_package('none');
ROLLBACK TO s;
-- names and owners follow
CREATE ROLE container_owner;
SELECT fleet.alter_package('nightly', new_name => 'daily', owner => 'container_owner');
SELECT name, owner, container_task FROM fleet_catalog.package ORDER BY name COLLATE "C";
SELECT p.name, t.name AS task, t.package FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p USING (package_id) WHERE t.kind = 'package' ORDER BY 1, 2;
UPDATE fleet_catalog.task SET name = 'areas' WHERE name = 'regions';
SELECT name, container_task FROM fleet_catalog.package ORDER BY name COLLATE "C";
SELECT p.name, t.name AS task, t.package FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p USING (package_id) WHERE t.kind = 'package' ORDER BY 1, 2;
SELECT fleet.create_package('other/stage'), fleet.alter_package('daily', new_name => 'other');
ROLLBACK TO s;
SELECT fleet.alter_package('nightly', new_name => repeat('n', 190));
ROLLBACK TO s;
-- itself, in a container
SELECT fleet.add_task('nightly', 'stage/me', nested => 'nightly');
ROLLBACK TO s;
DO $$
BEGIN
    FOR i IN 1 .. 40 LOOP
        PERFORM fleet.add_task('nightly', 'c' || repeat('/c', i - 1), container => true);
    END LOOP;
END
$$;
ROLLBACK TO s;
-- enabled, and what a run chooses
SELECT fleet.alter_task('nightly', 'stage/index', enabled => true);
SELECT task, enabled FROM fleet.task WHERE task = 'stage/index';
CREATE FUNCTION pg_temp.left_out(run bigint) RETURNS text LANGUAGE sql AS $$
SELECT string_agg(format('%s (%s)', l.path, l.reason), ', ' ORDER BY l.path COLLATE "C")
  FROM fleet.run AS r JOIN fleet_catalog.definition AS d ON d.hash = r.definition, fleet_catalog.left_out(d.body) AS l WHERE r.run_id = run
$$;
SELECT pg_temp.left_out(fleet.run_parent_package('nightly'));
SELECT pg_temp.left_out(fleet.run_parent_package('nightly', only_tasks => '{stage/load}'));
SELECT pg_temp.left_out(fleet.run_parent_package('nightly', only_tasks => '{stage/load,stage,regions/in/deep}'));
SELECT pg_temp.left_out(fleet.run_parent_package('nightly', from_task => 'stage/load'));
SELECT pg_temp.left_out(fleet.run_parent_package('nightly', skip_tasks => '{stage/load,regions/in}'));
SELECT pg_temp.left_out(fleet.run_parent_package('nightly', from_task => 'regions/in/deep', skip_tasks => '{check}'));
SELECT fleet.run_parent_package('nightly', only_tasks => '{stage/none}');
ROLLBACK TO s;
SELECT fleet.run_parent_package('nightly', from_task => 'check/none');
ROLLBACK TO s;
SELECT fleet.run_parent_package('nightly') AS run \gset
UPDATE fleet_catalog.run SET state = 12 WHERE run_id = :run;
\set VERBOSITY default
SELECT fleet.restart_run(:run, from_task => 'stage/none');
ROLLBACK TO s;
\set VERBOSITY verbose
-- what a run would not find, in a container
SELECT fleet.add_task('nightly', 'stage/job', job => 'none');
SELECT fleet.run_parent_package('nightly');
ROLLBACK TO s;
SELECT fleet.add_task('nightly', 'stage/job', job => 'none'), fleet.alter_task('nightly', 'stage', enabled => false);
SELECT fleet.run_parent_package('nightly') > 0 AS disabled_with_all_that_is_in_it;
SELECT * FROM fleet.validate_package('nightly');
ROLLBACK TO s;
SELECT fleet.create_job('needs', params => '{"day": null, "region": null, "x": null, "z": null}'), fleet.add_step('needs', 's', sql => 'SELECT 1');
SELECT fleet.add_task('nightly', 'stage/needs', job => 'needs'), fleet.add_task('nightly', 'regions/in/needs', job => 'needs');
SELECT severity, package, task, message FROM fleet.validate_package('nightly');
ROLLBACK TO s;
-- as documents
SELECT fleet.export_package('nightly') AS document \gset
SELECT jsonb_pretty(:'document'::jsonb);
SELECT fleet.drop_package('nightly');
SELECT path, change FROM fleet.import_package(:'document');
SELECT fleet.export_package('nightly') = :'document'::jsonb AS same;
SELECT * FROM fleet.import_package(:'document');
SELECT path, change FROM fleet.import_package(replace(:'document', 'SELECT 3', 'SELECT 7')::jsonb, replace => true);
SELECT task, sql FROM fleet.task WHERE sql = 'SELECT 7';
SELECT * FROM fleet.import_package(replace(:'document', '"stage/load"', '"stag/load"')::jsonb, replace => true);
ROLLBACK TO s;
-- plan, and the documents of runs
SELECT task, item, duration FROM fleet.plan('nightly', items => '{"regions": 2}');
SELECT number_of_servers, makespan FROM fleet.advise('nightly', servers => 2);
SELECT jsonb_path_query_array(fleet_catalog.package_body('nightly', '{}'), '$.**.tasks[*] ? (@.container == true).package');
-- a package without tasks is refused when it is asked for, and nothing else
SELECT fleet.create_package('empty');
SELECT fleet.run_parent_package('empty');
ROLLBACK;
