-- Hooks: definition, validation, rights, names that follow.  That they are called: test/t/093_hooks.pl.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_hook LOGIN;
CREATE ROLE regress_fleet_other;
SET ROLE regress_fleet_hook;
SELECT fleet.create_package('watched');
SELECT fleet.create_job('tell', params => '{"event": null, "run_id": 0}');
SELECT fleet.add_step('tell', 's', sql => 'SELECT 1');

-- what is refused, and leaves nothing behind
SELECT fleet.add_hook(NULL);
SELECT fleet.add_hook('');
SELECT fleet.add_hook('h');
SELECT fleet.add_hook('h', sql => 'SELECT 1', job => 'tell');
SELECT fleet.add_hook('h', sql => 'SELEC 1');
SELECT fleet.add_hook('h', sql => '');
SELECT fleet.add_hook('h', job => 'no such job');
SELECT fleet.add_hook('h', sql => 'SELECT 1', package => 'no such package');
SELECT fleet.add_hook('h', sql => 'SELECT 1', on_event => NULL);
SELECT fleet.add_hook('h', sql => 'SELECT 1', on_event => '{}');
SELECT fleet.add_hook('h', sql => 'SELECT 1', on_event => '{run_failed,run_fails}');
SELECT fleet.add_hook('h', sql => 'SELECT 1', on_event => '{run_failed,NULL}');
SELECT fleet.add_hook('h', sql => 'SELECT 1', on_event => '{hook_failed}');
SELECT fleet.add_hook('h', sql => 'SELECT 1', retries => -1);
SELECT fleet.add_hook('h', sql => 'SELECT 1', retry_wait => '-1s');
SELECT fleet.add_hook('h', sql => 'SELECT 1', timeout => '0');
SELECT fleet.add_hook('h', sql => 'SELECT 1', timeout => '2h');
SELECT fleet.add_hook('h', sql => 'SELECT 1', timeout => NULL);
SELECT fleet.add_hook('h', sql => 'SELECT 1', max_age => '0');
SELECT fleet.add_hook('h', sql => 'SELECT 1', max_depth => 10);
SELECT fleet.add_hook('h', sql => 'SELECT 1', max_depth => 100000);
SELECT fleet.add_hook('h', sql => 'SELECT 1', max_depth => NULL);
SELECT fleet.add_hook('h', sql => 'SELECT 1', enabled => NULL);
SELECT fleet.add_hook('h', sql => 'SELECT 1', owner => 'regress_fleet_other');
SELECT count(*) FROM fleet.hooks;

-- what is not
SELECT fleet.add_hook('h', sql => 'SELECT 1');
SELECT fleet.add_hook('of a package', job => 'tell', on_event => '{run_late,run_failed,run_late}', package => 'watched', retries => 0, retry_wait => '1s', timeout => '1min', max_age => '1h', max_depth => 3, enabled => false);
SELECT fleet.add_hook('h', sql => 'SELECT 2');
SELECT * FROM fleet.hooks ORDER BY hook \gx

-- changes
SELECT fleet.alter_hook('h', sql => 'SELECT 2', job => 'tell');
SELECT fleet.alter_hook('h', new_name => 'of a package');
SELECT fleet.alter_hook('h', reset => '{sql}');
SELECT fleet.alter_hook('h', retries => 1, reset => '{retries}');
SELECT fleet.alter_hook('h', max_depth => 70000);
SELECT fleet.alter_hook('no such hook', retries => 1);
SELECT fleet.alter_hook('h', new_name => 'g', job => 'tell', retries => 7);
SELECT fleet.alter_hook('of a package', reset => '{on_event,package,retries,retry_wait,timeout,max_age,max_depth,enabled}');
SELECT hook, on_event, package, sql, job, retries, retry_wait, timeout, max_age, max_depth, enabled FROM fleet.hooks ORDER BY hook;
SELECT fleet.alter_package('watched', new_name => 'seen');
SELECT fleet.alter_hook('g', package => 'seen');
SELECT fleet.alter_package('seen', new_name => 'looked at');
SELECT fleet.alter_job('tell', new_name => 'say');
SELECT hook, package, job FROM fleet.hooks ORDER BY hook;

-- of an event a job gets what it declares
SET fleet.params = '{"event_id": 1, "kind": "run_failed", "run_id": 7}';
SELECT fleet_link.hook_params('say');
SET fleet.params = '[]';
SELECT fleet_link.hook_params('say');
RESET fleet.params;
SELECT fleet_link.hook_params('say');

-- others
RESET ROLE;
SET ROLE regress_fleet_other;
SELECT count(*) FROM fleet.hooks;
SELECT fleet.alter_hook('g', retries => 1);
SELECT fleet.drop_hook('g');
SELECT fleet.add_hook('g', sql => 'SELECT 1');
SELECT fleet.add_hook('x', job => 'say');
SELECT fleet.add_hook('x', sql => 'SELECT 1', package => 'looked at');
SELECT fleet_link.hook_params('say');
RESET ROLE;
GRANT fleet_reader TO regress_fleet_other;
SET ROLE regress_fleet_other;
SELECT count(*) FROM fleet.hooks;
SELECT fleet.alter_hook('g', retries => 1);
SELECT fleet.add_hook('x', sql => 'SELECT 1', package => 'looked at');
RESET ROLE;
SELECT fleet.alter_hook('x', owner => 'regress_fleet_hook');
SELECT hook, owner FROM fleet.hooks ORDER BY hook;

-- ends
SELECT fleet.drop_job('say');
SELECT fleet.drop_package('looked at');
SELECT fleet.drop_job('say', cascade => true);
SELECT hook FROM fleet.hooks;
SELECT fleet.drop_hook('g');
SELECT fleet.drop_hook('g', if_exists => true);
SELECT fleet.drop_hook('g', if_exists => NULL);
DROP ROLE regress_fleet_hook, regress_fleet_other;
