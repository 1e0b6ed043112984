-- What is wrong with a package, before a run.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_planner;
CREATE ROLE regress_fleet_loader;
SELECT fleet.add_server('val_d', 'host=127.0.0.1 port=1', mode => 'direct', groups => '{val_g}') > 0 AS d,
       fleet.add_server('val_a', 'host=127.0.0.1 port=1', mode => 'agent', groups => '{val_g}') > 0 AS a;
GRANT USAGE ON FOREIGN SERVER val_a TO regress_fleet_planner;
CREATE USER MAPPING FOR regress_fleet_planner SERVER val_a OPTIONS (user 'u', password 'p');
SET ROLE regress_fleet_loader;
SELECT fleet.create_job('val_other');
SELECT fleet.add_step('val_other', 's', 'SELECT 1');
SET ROLE regress_fleet_planner;
SELECT fleet.create_package('val_fine');
SELECT fleet.add_task('val_fine', 't', sql => 'SELECT 1');
SELECT * FROM fleet.validate_package('val_fine');

SELECT fleet.create_package('val_inner', params => '{"region": null}');
SELECT fleet.create_job('val_job', params => '{"day": null}');
SELECT fleet.add_step('val_job', 'one', 'SELECT 1', on_success => 'goto', success_goto => 'gone');
SELECT fleet.create_job('val_empty');
SELECT fleet.create_package('val', params => '{"x": 1}');
SELECT fleet.add_task('val', 'group', job => 'val_job', on_group => 'val_g');
SELECT fleet.add_task('val', 'direct', job => 'val_job', on_group => 'val_d_only', params => '{"day": 1}');
SELECT fleet.add_task('val', 'nowhere', job => 'val_job', on_group => 'val_none', params => '{"day": 1}');
SELECT fleet.add_task('val', 'empty', job => 'val_empty');
SELECT fleet.add_task('val', 'nested', nested => 'val_inner');
SELECT fleet.add_task('val', 'each', nested => 'val_inner', for_each => 'SELECT 1 AS region');
SELECT fleet.add_task('val', 'off', sql => 'SELECT 1', enabled => false);
SELECT fleet.add_task('val', 'never', sql => 'SELECT 1', after_failure_of => '{off}');
SELECT fleet.add_task('val', 'ignored', job => 'val_gone', enabled => false);
RESET ROLE;
UPDATE fleet_catalog.task SET job = 'val_other' WHERE name = 'empty' AND job = 'val_empty';
UPDATE fleet_catalog.step SET run_as = 'regress_fleet_loader' WHERE name = 'one' AND success_goto = 'gone';
SELECT fleet.set_server_state('val_a', 'draining');
SELECT fleet.alter_server('val_d', groups => '{val_g,val_d_only}');
SET ROLE regress_fleet_planner;
SELECT * FROM fleet.validate_package('val');
SET ROLE regress_fleet_loader;
SELECT * FROM fleet.validate_package('val');
SELECT * FROM fleet.validate_package(NULL);
RESET ROLE;
SELECT fleet.drop_package('val'), fleet.drop_package('val_inner'), fleet.drop_package('val_fine'), fleet.drop_job('val_job'), fleet.drop_job('val_empty'), fleet.drop_job('val_other');
DROP USER MAPPING FOR regress_fleet_planner SERVER val_a;
SELECT fleet.remove_server('val_a'), fleet.remove_server('val_d'), fleet.drop_group('val_g'), fleet.drop_group('val_none'), fleet.drop_group('val_d_only');
DROP ROLE regress_fleet_planner, regress_fleet_loader;
