-- Jobs, steps, packages, tasks, precedence constraints: what works, and every bad input.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_dev;
CREATE ROLE regress_fleet_other;
SET ROLE regress_fleet_dev;

-- jobs
SELECT fleet.create_job('load', params => '{"region": "north"}', description => 'loads');
SELECT fleet.create_job('load');
SELECT fleet.create_job(NULL);
SELECT fleet.create_job('');
SELECT fleet.create_job(repeat('x', 201));
SELECT fleet.create_job('p1', params => NULL);
SELECT fleet.create_job('p1', params => '[1]');
SELECT fleet.create_job('p1', params => ('{"a": "' || repeat(md5('x'), 40000) || '"}')::jsonb);
SELECT fleet.create_job(E'odd "name" with ''quotes'', $$ back\\slash\nand a line');
SELECT fleet.drop_job(E'odd "name" with ''quotes'', $$ back\\slash\nand a line');
SELECT fleet.drop_job('nothing');
SELECT fleet.drop_job('nothing', if_exists => true);
SELECT fleet.drop_job(NULL);
SELECT fleet.alter_job('nothing', new_name => 'x');
SELECT fleet.alter_job('load', params => '3');
SELECT fleet.alter_job('load', new_name => '');
SELECT fleet.alter_job('load', owner => 'regress_fleet_other');
SELECT fleet.alter_job('load', owner => 'regress_fleet_nobody');
SELECT fleet.alter_job('load', description => 'loads a region');
SELECT fleet.alter_job('load', leaves_clean => true);
SELECT fleet.alter_job('load', description => 'loads one region');
SELECT job, description, leaves_clean FROM fleet.job WHERE job = 'load';
SELECT fleet.alter_job('load', leaves_clean => false);
SELECT fleet.create_job('tidy', leaves_clean => true);
SELECT job, leaves_clean FROM fleet.job WHERE job = 'tidy';
SELECT fleet.drop_job('tidy');

-- steps
SELECT fleet.add_step('load', 'first', 'SELECT 1');
SELECT fleet.add_step('load', 'second', 'SELECT 1; SELECT 2', on_failure => 'next', retries => 2, retry_wait => '1s', timeout => '1h',
                      retry_sqlstates => '{40001,40,!40P01}');
SELECT fleet.add_step('load', 'third', 'VACUUM', transactional => false, failure_goto => 'first', on_unknown => 'retry');
SELECT step_no, step, sql, on_success, on_failure, failure_goto, retries, retry_wait, retry_sqlstates, timeout, on_unknown, transactional
  FROM fleet.step WHERE job = 'load' ORDER BY step_no;
SELECT fleet.add_step('nothing', 'x', 'SELECT 1');
SELECT fleet.add_step('load', 'first', 'SELECT 1');
SELECT fleet.add_step('load', NULL, 'SELECT 1');
SELECT fleet.add_step('load', 'x');
SELECT fleet.add_step('load', 'x', 'SELECT 1', package => 'p');
SELECT fleet.add_step('load', 'x', package => 'nothing');
SELECT fleet.add_step('load', 'x', '');
SELECT fleet.add_step('load', 'x', ' -- nothing');
SELECT fleet.add_step('load', 'x', 'SELEC 1');
SELECT fleet.add_step('load', 'x', 'SELECT ''open');
SELECT fleet.add_step('load', 'x', 'COPY t FROM STDIN');
SELECT fleet.add_step('load', 'x', 'SELECT 1', on_success => 'stop');
SELECT fleet.add_step('load', 'x', 'SELECT 1', on_success => NULL);
SELECT fleet.add_step('load', 'x', 'SELECT 1', on_failure => 'goto');
SELECT fleet.add_step('load', 'x', 'SELECT 1', retries => -1);
SELECT fleet.add_step('load', 'x', 'SELECT 1', retries => 2000000000);
SELECT fleet.add_step('load', 'x', 'SELECT 1', retries => NULL);
SELECT fleet.add_step('load', 'x', 'SELECT 1', retry_wait => '-1s');
SELECT fleet.add_step('load', 'x', 'SELECT 1', retry_wait_max => NULL);
SELECT fleet.add_step('load', 'x', 'SELECT 1', retry_sqlstates => '{4000}');
SELECT fleet.add_step('load', 'x', 'SELECT 1', retry_sqlstates => '{NULL}');
SELECT fleet.add_step('load', 'x', 'SELECT 1', timeout => '0');
SELECT fleet.add_step('load', 'x', 'SELECT 1', timeout => '11 years');
SELECT fleet.add_step('load', 'x', 'SELECT 1', on_unknown => 'guess');
SELECT fleet.add_step('load', 'x', 'SELECT 1', run_as => 'regress_fleet_other');
SELECT fleet.add_step('load', 'x', 'SELECT 1', run_as => 'regress_fleet_nobody');
SELECT fleet.add_step('load', 'newer', 'MERGE NOTHING YET', check_syntax => false);
SELECT fleet.add_step('load', 'x', 'SELECT 1', check_syntax => NULL);
SELECT fleet.drop_step('load', 'first');
SELECT fleet.drop_step('load', 'nothing');
SELECT fleet.drop_step('load', NULL);
SELECT fleet.drop_step('load', 'second');
SELECT step_no, step FROM fleet.step WHERE job = 'load' ORDER BY step_no;

-- packages
SELECT fleet.create_package('night', params => '{"day": null}', overlap => 'skip', priority => 5);
SELECT fleet.create_package('night');
SELECT fleet.create_package(NULL);
SELECT fleet.create_package('x', overlap => 'skip', max_parallel => 2);
SELECT fleet.create_package('x', overlap => 'perhaps');
SELECT fleet.create_package('x', priority => 5000);
SELECT fleet.create_package('x', params => '"text"');
SELECT fleet.alter_package('night', overlap => 'replace', max_parallel => 2);
SELECT fleet.alter_package('night', priority => 7, description => 'every night');
SELECT fleet.alter_package('night', new_name => 'night');
SELECT package, owner, description, params, overlap, priority, tasks FROM fleet.package;
-- how long its runs are kept
SELECT fleet.create_package('kept');
SELECT fleet.set_retention('kept', keep_days => 30, keep_runs => 10, keep_failed_days => -1);
SELECT keep_days, keep_runs, keep_failed_days FROM fleet.package WHERE package = 'kept';
SELECT fleet.set_retention('kept', keep_runs => 5);
SELECT keep_days, keep_runs, keep_failed_days FROM fleet.package WHERE package = 'kept';
SELECT fleet.set_retention('kept', keep_days => -2);
SELECT fleet.set_retention('kept', keep_runs => 0);
SELECT fleet.set_retention('kept', keep_failed_days => 36501);
SELECT fleet.set_retention('nothing', keep_days => 1);
SELECT fleet.set_retention(NULL);
SELECT fleet.purge();
RESET ROLE;
SELECT fleet.purge(older_than => '-1 day');
SELECT fleet.purge(dry_run => NULL);
SET ROLE regress_fleet_other;
SELECT fleet.set_retention('kept', keep_days => 1);
SET ROLE regress_fleet_dev;
SELECT fleet.drop_package('kept');
SELECT fleet.drop_package('nothing');
SELECT fleet.drop_package('nothing', if_exists => true);

-- tasks
SELECT fleet.add_task('night', 'a', sql => 'SELECT 1');
SELECT fleet.add_task('night', 'b', sql => 'SELECT 1', after => '{a}');
SELECT fleet.add_task('night', 'c', sql => 'SELECT 1', after => '{a,b}', after_failure_of => '{}');
SELECT fleet.add_task('night', 'help', sql => 'SELECT 1', after_failure_of => '{b}');
BEGIN;
SELECT fleet.add_task('night', 'tell', sql => 'SELECT 1', after => '{a}', after_failure_of => '{b}', after_completion_of => '{c}');
SELECT from_task, on_outcome FROM fleet.precedence WHERE to_task = 'tell' ORDER BY from_task COLLATE "C";
ROLLBACK;
SELECT fleet.add_task('nothing', 'x', sql => 'SELECT 1');
SELECT fleet.add_task('night', 'a', sql => 'SELECT 1');
SELECT fleet.add_task('night', NULL, sql => 'SELECT 1');
SELECT fleet.add_task('night', 'x');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', job => 'load');
SELECT fleet.add_task('night', 'x', sql => 'SELEC 1');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', server => 'there');
SELECT fleet.add_task('night', 'x', job => 'load', server => 'there', transactional => false);
SELECT fleet.add_task('night', 'x', job => 'load', server => 'there', on_group => 'all');
SELECT fleet.add_task('night', 'x', job => 'load', server => 'nowhere');
SELECT fleet.add_task('night', 'x', job => 'load', on_group => '');
SELECT fleet.add_task('night', 'x', nested => 'nothing');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', after => '{nothing}');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', after => '{NULL}');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', after => NULL);
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', after => '{x}');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', after => '{a,a}');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', params => NULL);
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'DELETE FROM t');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'SELECT 1; SELECT 2');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'SELECT 1 + 1, now()');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'SELECT a.name, b.name FROM a, b');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'SELECT name AS n, * FROM a UNION SELECT 1, 2');
SELECT fleet.drop_task('night', 'x');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', cost => 'size');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', item_key => 'name');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'SELECT name, size FROM a', cost => '');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'SELECT name, size FROM a', cost => 'bytes');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'SELECT name, size FROM a', cost => 'size', item_key => 'Name');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', for_each => 'VALUES (1, 2)', cost => 'column3');
-- known only when it runs, or said to be right
SELECT fleet.add_task('night', 'x1', sql => 'SELECT 1', for_each => 'SELECT name, a.* FROM a', cost => 'size', item_key => 'name');
SELECT fleet.add_task('night', 'x2', sql => 'SELECT 1', for_each => 'SELECT doc FROM a', cost => 'size');
SELECT fleet.add_task('night', 'x3', sql => 'SELECT 1', for_each => 'SELECT name, size FROM a', cost => 'bytes', check_syntax => false);
SELECT fleet.add_task('night', 'x4', sql => 'SELECT 1', for_each => 'VALUES (1, 2)', cost => 'column2', item_key => 'column1');
SELECT task, cost, item_key, for_each FROM fleet.task WHERE task LIKE 'x_' ORDER BY task_no;
SELECT fleet.drop_task('night', 'x' || n) FROM generate_series(1, 4) AS n;
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', throttle => -1);
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', completion => 'most');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', minimum_share => 1.5);
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', minimum_share => 'NaN');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', balance => 'fair');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', wait_for => 'some');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', on_lost => 'cry');
SELECT fleet.add_task('night', 'x', sql => 'SELECT 1', timeout => '-1s');

-- precedence constraints
SELECT fleet.add_precedence('night', 'c', 'a');
SELECT fleet.add_precedence('night', 'a', 'a');
SELECT fleet.add_precedence('night', 'a', 'b');
SELECT fleet.add_precedence('night', 'a', 'nothing');
SELECT fleet.add_precedence('night', NULL, 'a');
SELECT fleet.add_precedence('night', 'a', 'help', on_outcome => 'luck');
SELECT fleet.add_precedence('night', 'a', 'help', condition => 'SELECT 1; SELECT 2');
SELECT fleet.add_precedence('night', 'a', 'help', condition => '1 +');
SELECT fleet.add_precedence('night', 'a', 'help', condition => '');
SELECT fleet.add_precedence('night', 'a', 'help', condition => '1); DROP TABLE x; SELECT (1');
SELECT fleet.add_precedence('night', 'a', 'help', on_outcome => 'completion', condition => $$fleet.param('day') <> '' -- a comment$$);
SELECT from_task, to_task, on_outcome, condition FROM fleet.precedence WHERE package = 'night' ORDER BY from_task COLLATE "C", to_task COLLATE "C";
SELECT fleet.drop_precedence('night', 'a', 'help');
SELECT fleet.drop_precedence('night', 'a', 'help');
SELECT fleet.drop_precedence('night', NULL, 'help');
SELECT fleet.drop_task('night', 'b');
SELECT fleet.drop_task('night', 'b');
SELECT task_no, task, kind FROM fleet.task WHERE package = 'night' ORDER BY task_no;
SELECT from_task, to_task FROM fleet.precedence WHERE package = 'night';

-- what contains itself
SELECT fleet.create_package('inner');
SELECT fleet.add_task('inner', 'up', nested => 'night');
SELECT fleet.add_task('night', 'down', nested => 'inner');
SELECT fleet.create_job('loop');
SELECT fleet.add_step('loop', 's', package => 'inner');
SELECT fleet.drop_job('loop');

-- nothing of all the errors is left behind
SELECT (SELECT count(*) FROM fleet.job), (SELECT count(*) FROM fleet.package), (SELECT count(*) FROM fleet.task), (SELECT count(*) FROM fleet.precedence);

-- the document that a run keeps
RESET ROLE;
SELECT jsonb_pretty(fleet_catalog.job_body('load', '{}'));
SELECT jsonb_pretty(fleet_catalog.package_body('inner', '{}') - 'packages');
SELECT jsonb_path_query_array(fleet_catalog.package_body('inner', '{}'), '$.packages.*.tasks[*].name');

SELECT fleet.drop_package('inner'), fleet.drop_package('night'), fleet.drop_job('load');
DROP ROLE regress_fleet_dev, regress_fleet_other;
