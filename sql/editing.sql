-- Changing what is there: options, places, names, what is used, what is disabled.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_editor LOGIN;
CREATE ROLE regress_fleet_stranger;
SET ROLE regress_fleet_editor;

-- ---- steps: each option, and back to its default
SELECT fleet.create_job('edit', params => '{"x": 1}');
SELECT fleet.add_step('edit', 'one', 'SELECT 1'), fleet.add_step('edit', 'two', 'SELECT 2', failure_goto => 'one'), fleet.add_step('edit', 'three', 'BEGIN; COMMIT');
SELECT fleet.alter_step('edit', 'one', sql => 'SELECT 11; SELECT 12', on_success => 'quit_success', failure_goto => 'two', retries => 3, retry_wait => '2s', retry_wait_max => '1min',
                        retry_sqlstates => '{40001}', timeout => '1h', on_unknown => 'retry', transactional => true, run_as => 'regress_fleet_editor', enabled => false);
SELECT step_no, enabled, on_success, success_goto, on_failure, failure_goto, retries, retry_wait, retry_wait_max, retry_sqlstates, timeout, on_unknown, transactional, run_as, sql
  FROM fleet.step WHERE job = 'edit' AND step = 'one' \gx
SELECT fleet.alter_step('edit', 'one');
SELECT fleet.alter_step('edit', 'one', retries => 4);
SELECT retries, timeout, sql FROM fleet.step WHERE job = 'edit' AND step = 'one';
SELECT fleet.alter_step('edit', 'one', reset => '{on_success,on_failure,retries,retry_wait,retry_wait_max,retry_sqlstates,timeout,on_unknown,transactional,run_as,enabled}');
SELECT step_no, enabled, on_success, success_goto, on_failure, failure_goto, retries, retry_wait, retry_wait_max, retry_sqlstates, timeout, on_unknown, transactional, run_as, sql
  FROM fleet.step WHERE job = 'edit' AND step = 'one' \gx
-- the text decides of what is not marked
SELECT transactional FROM fleet.step WHERE job = 'edit' AND step = 'three';
SELECT fleet.alter_step('edit', 'three', sql => 'SELECT 3');
SELECT transactional FROM fleet.step WHERE job = 'edit' AND step = 'three';
-- the checks are those of add_step()
SELECT fleet.alter_step('edit', 'nothing', retries => 1);
SELECT fleet.alter_step('nothing', 'one', retries => 1);
SELECT fleet.alter_step('edit', 'one', sql => 'SELEC 1');
SELECT fleet.alter_step('edit', 'one', sql => 'SELECT 1', package => 'p');
SELECT fleet.alter_step('edit', 'one', package => 'nothing');
SELECT fleet.alter_step('edit', 'one', retries => -1);
SELECT fleet.alter_step('edit', 'one', timeout => '0');
SELECT fleet.alter_step('edit', 'one', on_failure => 'goto');
SELECT fleet.alter_step('edit', 'one', run_as => 'regress_fleet_stranger');
SELECT fleet.alter_step('edit', 'one', new_name => 'two');
SELECT fleet.alter_step('edit', 'one', new_name => '');
SELECT fleet.alter_step('edit', 'three', sql => 'BEGIN; COMMIT', transactional => true);
SELECT fleet.alter_step('edit', 'one', reset => '{size}');
SELECT fleet.alter_step('edit', 'one', reset => '{NULL}');
SELECT fleet.alter_step('edit', 'one', reset => NULL);
SELECT fleet.alter_step('edit', 'one', retries => 1, reset => '{retries}');
SET ROLE regress_fleet_stranger;
SELECT fleet.alter_step('edit', 'one', retries => 1);
SET ROLE regress_fleet_editor;

-- places
SELECT fleet.add_step('edit', 'first', 'SELECT 0', before => 'one'), fleet.add_step('edit', 'between', 'SELECT 1.5', after_step => 'one'), fleet.add_step('edit', 'last', 'SELECT 9');
SELECT string_agg(step_no || ' ' || step, ', ' ORDER BY step_no) FROM fleet.step WHERE job = 'edit';
SELECT fleet.alter_step('edit', 'last', before => 'first'), fleet.alter_step('edit', 'one', after_step => 'three');
SELECT string_agg(step_no || ' ' || step, ', ' ORDER BY step_no) FROM fleet.step WHERE job = 'edit';
SELECT fleet.alter_step('edit', 'last', before => 'first', after_step => 'one');
SELECT fleet.alter_step('edit', 'last', before => 'last');
SELECT fleet.alter_step('edit', 'last', before => 'nothing');
SELECT fleet.add_step('edit', 'x', 'SELECT 1', after_step => 'nothing');

-- names: gotos follow
SELECT fleet.alter_step('edit', 'one', new_name => 'uno');
SELECT step, failure_goto FROM fleet.step WHERE job = 'edit' AND failure_goto IS NOT NULL;
SELECT fleet.drop_step('edit', 'uno');
SELECT fleet.alter_step('edit', 'two', reset => '{on_failure}'), fleet.drop_step('edit', 'uno');
SELECT string_agg(step_no || ' ' || step, ', ' ORDER BY step_no) FROM fleet.step WHERE job = 'edit';

-- ---- tasks
SELECT fleet.create_package('edits', params => '{"day": null}'), fleet.create_package('inner');
SELECT fleet.add_task('inner', 'i', sql => 'SELECT 1');
SELECT fleet.add_task('edits', 'a', sql => 'SELECT 1'), fleet.add_task('edits', 'b', sql => 'SELECT fleet.output(''a'')', after => '{a}'),
       fleet.add_task('edits', 'c', job => 'edit', after => '{b}', params => '{"x": [{"$output": "a"}, {"$literal": {"$output": "a"}}], "y": {"z": {"$outcome": "a"}}}'),
       fleet.add_task('edits', 'd', nested => 'inner', after_completion_of => '{c}');
SELECT fleet.alter_task('edits', 'a', sql => 'SELECT 2', params => '{"p": 1}', for_each => 'SELECT 1 AS n', throttle => 2, completion => 'minimum_share', minimum_share => 0.5,
                        balance => 'weighted', wait_for => 'any', on_lost => 'retry', retries => 3, retry_wait => '2s', retry_wait_max => '1min', retry_sqlstates => '{40}',
                        timeout => '1h', transactional => true, enabled => false);
SELECT kind, job, server, on_group, nested, wait_for, enabled, throttle, completion, minimum_share, balance, on_lost, retries, retry_wait, retry_wait_max, retry_sqlstates, timeout,
       transactional, params, for_each, sql FROM fleet.task WHERE package = 'edits' AND task = 'a' \gx
SELECT fleet.alter_task('edits', 'a');
SELECT fleet.alter_task('edits', 'a', reset => '{params,for_each,throttle,completion,minimum_share,balance,wait_for,on_lost,retries,retry_wait,retry_wait_max,retry_sqlstates,timeout,transactional,enabled}');
SELECT kind, job, server, on_group, nested, wait_for, enabled, throttle, completion, minimum_share, balance, on_lost, retries, retry_wait, retry_wait_max, retry_sqlstates, timeout,
       transactional, params, for_each, sql FROM fleet.task WHERE package = 'edits' AND task = 'a' \gx
-- every option of add_task() is one of alter_task(), and so for the others; what is a container stays one
SELECT f.add, array_agg(a.name ORDER BY a.n) AS missing
  FROM (VALUES ('add_task', 'alter_task'), ('add_step', 'alter_step'), ('create_job', 'alter_job'), ('create_package', 'alter_package'), ('add_precedence', 'alter_precedence')) AS f (add, alter)
  JOIN pg_proc AS p ON p.proname = f.add AND p.pronamespace = 'fleet'::regnamespace
  JOIN pg_proc AS o ON o.proname = f.alter AND o.pronamespace = 'fleet'::regnamespace,
       unnest(p.proargnames) WITH ORDINALITY AS a (name, n)
 WHERE a.name <> ALL (o.proargnames) AND a.name <> 'container' GROUP BY f.add;
-- work of another kind
SELECT fleet.alter_task('edits', 'd', sql => 'SELECT 4'), fleet.alter_task('edits', 'd', job => 'edit', on_group => 'regress_edit_g');
SELECT kind, job, on_group, nested, sql FROM fleet.task WHERE package = 'edits' AND task = 'd';
SELECT fleet.alter_task('edits', 'd', reset => '{on_group}');
SELECT fleet.alter_task('edits', 'd', job => 'edit', on_group => 'regress_edit_g'), fleet.alter_task('edits', 'd', nested => 'inner');
SELECT kind, job, on_group, nested, sql FROM fleet.task WHERE package = 'edits' AND task = 'd';
SELECT fleet.alter_task('inner', 'i', nested => 'edits');
SELECT fleet.alter_task('edits', 'a', sql => 'SELECT 1', job => 'edit');
SELECT fleet.alter_task('edits', 'a', server => 'nowhere');
SELECT fleet.alter_task('edits', 'c', server => 'nowhere');
SELECT fleet.alter_task('edits', 'c', params => '{"x": {"$output": "nothing"}}');
SELECT fleet.alter_task('edits', 'a', balance => 'fair');
SELECT fleet.alter_task('edits', 'nothing', retries => 1);
SELECT fleet.alter_task('edits', 'a', reset => '{sql}');
-- what it comes after
SELECT fleet.alter_task('edits', 'd', after => '{a,b}', after_completion_of => '{}');
SELECT from_task, on_outcome FROM fleet.precedence WHERE package = 'edits' AND to_task = 'd' ORDER BY 1;
SELECT fleet.alter_precedence('edits', 'a', 'd', on_outcome => 'failure', condition => 'true');
SELECT fleet.alter_task('edits', 'd', after => '{c}');
SELECT from_task, on_outcome, condition FROM fleet.precedence WHERE package = 'edits' AND to_task = 'd' ORDER BY 1;
SELECT fleet.alter_task('edits', 'd', after => '{a}');
SELECT fleet.alter_task('edits', 'a', after => '{d}');
SELECT fleet.alter_precedence('edits', 'a', 'd', reset => '{on_outcome,condition}');
SELECT from_task, on_outcome, condition FROM fleet.precedence WHERE package = 'edits' AND to_task = 'd' ORDER BY 1;
SELECT fleet.alter_precedence('edits', 'a', 'nothing', on_outcome => 'failure');
SELECT fleet.alter_precedence('edits', 'a', 'd', on_outcome => 'luck');
-- places
SELECT fleet.alter_task('edits', 'd', before_task => 'a'), fleet.alter_task('edits', 'b', after_task => 'c');
SELECT string_agg(task_no || ' ' || task, ', ' ORDER BY task_no) FROM fleet.task WHERE package = 'edits';
SELECT fleet.alter_task('edits', 'd', before_task => 'nothing');
-- names: constraints and templates follow; it says where the text of SQL may have the old one
SELECT fleet.alter_task('edits', 'a', new_name => 'A''s');
SELECT task, params FROM fleet.task WHERE package = 'edits' AND params <> '{}';
SELECT from_task, to_task FROM fleet.precedence WHERE package = 'edits' ORDER BY 1, 2;
SELECT fleet.alter_task('edits', 'b', sql => 'SELECT fleet.output(''A''''s'')');
SELECT fleet.alter_task('edits', 'b', new_name => 'c');
SELECT fleet.alter_task('edits', 'b', new_name => '');
SELECT fleet.drop_task('edits', 'A''s');
SELECT fleet.validate_package('edits');

-- ---- containers: what is in one
BEGIN;
SELECT fleet.create_package('boxes'), fleet.add_task('boxes', 'check', sql => 'SELECT 1'), fleet.add_task('boxes', 'box', container => true), fleet.add_task('boxes', 'box/in', sql => 'SELECT 1'),
       fleet.add_task('boxes', 'box/then', job => 'edit', after => '{in}', params => '{"a": {"$output": "in"}, "b": {"$output": "box/in"}, "c": {"$output": "check"}}'),
       fleet.add_task('boxes', 'box/sub', container => true), fleet.add_task('boxes', 'box/sub/deep', nested => 'inner', params => '{"a": {"$outcome": "in"}}'),
       fleet.add_task('boxes', 'last', sql => 'SELECT fleet.output(''box/in'')', params => '{"a": {"$output": "box/in"}}', after => '{box}');
SELECT fleet.alter_task('boxes', 'box/in', retries => 2, new_name => 'within'), fleet.alter_task('boxes', 'box/then', before_task => 'within'), fleet.alter_task('boxes', 'box', new_name => 'crate');
SELECT task_no, task, retries, params FROM fleet.task WHERE package = 'boxes' ORDER BY task COLLATE "C";
SELECT from_task, to_task FROM fleet.precedence WHERE package = 'boxes' ORDER BY 1, 2;
SAVEPOINT s;
SELECT fleet.alter_task('boxes', 'crate', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT fleet.alter_task('boxes', 'check', new_name => 'crate/check');
ROLLBACK TO s;
SELECT fleet.alter_task('boxes', 'crate/then', after => '{check}');
ROLLBACK TO s;
SELECT fleet.drop_job('edit');
ROLLBACK TO s;
SELECT fleet.drop_package('inner');
ROLLBACK TO s;
SELECT fleet.alter_task('boxes', 'crate', retries => 1, reset => '{params}'), fleet.alter_precedence('boxes', 'within', 'crate/then', on_outcome => 'completion');
SELECT fleet.alter_package('boxes', new_name => 'cartons'), fleet.alter_job('edit', new_name => 'edit2'), fleet.alter_package('inner', new_name => 'inner2');
SELECT task, job, nested FROM fleet.task WHERE package = 'cartons' AND num_nonnulls(job, nested) > 0 ORDER BY 1;
SELECT fleet.drop_package('inner2', cascade => true);
SELECT task FROM fleet.task WHERE package = 'cartons' ORDER BY task COLLATE "C";
ROLLBACK;

-- ---- jobs and packages
SELECT fleet.alter_job('edit', new_name => 'edited', description => 'of steps', params => '{"x": 2}', leaves_clean => true);
SELECT fleet.alter_package('inner', new_name => 'inside', description => 'of others', priority => 3, overlap => 'skip', params => '{"k": 1}');
SELECT task, job, nested FROM fleet.task WHERE package = 'edits' AND num_nonnulls(job, nested) > 0 ORDER BY 1;
SELECT fleet.alter_job('edited', reset => '{description,params,leaves_clean}'), fleet.alter_package('inside', reset => '{description,priority,overlap,params}');
SELECT job, description, params, leaves_clean FROM fleet.job WHERE job = 'edited';
SELECT package, description, priority, overlap, params FROM fleet.package WHERE package = 'inside';
SELECT fleet.alter_job('edited', reset => '{owner}');
SELECT fleet.alter_package('inside', overlap => 'queue', max_parallel => 2, timeout => '1h', deadline => '2h', failed_if => 'any');
SELECT overlap, max_parallel, timeout, deadline, failed_if FROM fleet.package WHERE package = 'inside';
SELECT fleet.alter_package('inside', timeout => '0', max_parallel => 0);
SELECT overlap, max_parallel, timeout, deadline, failed_if FROM fleet.package WHERE package = 'inside';
SELECT fleet.alter_package('inside', reset => '{overlap,max_parallel,timeout,deadline,failed_if}');
SELECT overlap, max_parallel, timeout, deadline, failed_if FROM fleet.package WHERE package = 'inside';
SELECT fleet.alter_package('inside', new_name => 'edits');
SELECT fleet.add_step('edited', 'whole', package => 'inside');
SELECT fleet.alter_package('inside', new_name => 'inner');
SELECT step, package FROM fleet.step WHERE package IS NOT NULL;
-- a stranger's task of that name is no user, and does not follow
SET ROLE regress_fleet_stranger;
SELECT fleet.create_package('strange'), fleet.add_task('strange', 's', job => 'edited');
SET ROLE regress_fleet_editor;
SELECT fleet.alter_job('edited', new_name => 'again'), fleet.alter_job('again', new_name => 'edited');
-- dropping what is used
SELECT fleet.drop_job('edited');
SELECT fleet.drop_package('inner');
RESET ROLE;
SELECT package, task, job FROM fleet.task WHERE package = 'strange';
SET ROLE regress_fleet_editor;
BEGIN;
SELECT fleet.drop_package('inner', cascade => true), fleet.drop_job('edited', cascade => true);
SELECT count(*) FROM fleet.job;
SELECT package, task FROM fleet.task ORDER BY 1, 2;
ROLLBACK;

-- ---- groups and servers
SELECT fleet.alter_task('edits', 'c', on_group => 'regress_edit_g');
SELECT fleet.alter_group('regress_edit_g', new_name => 'regress_edit_h');
SELECT task, on_group FROM fleet.task WHERE on_group IS NOT NULL;
SELECT name FROM fleet.group;
SELECT fleet.create_group('regress_edit_other'), fleet.alter_group('regress_edit_h', new_name => 'regress_edit_other');
SELECT fleet.drop_group('regress_edit_h');
SELECT fleet.drop_group('regress_edit_other');
RESET ROLE;
CREATE SERVER regress_edit_s FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '/nowhere');
SELECT fleet.register_server('regress_edit_s', mode => 'direct', groups => '{regress_edit_h}') > 0;
SELECT fleet.alter_task('edits', 'c', server => 'regress_edit_s');
SELECT task, server, on_group FROM fleet.task WHERE server IS NOT NULL;
SELECT fleet.alter_group('regress_edit_h', new_name => 'regress_edit_g');
SELECT server, groups FROM fleet.server;
SELECT fleet.remove_server('regress_edit_s');
ALTER SERVER regress_edit_s RENAME TO regress_edit_t;
SELECT task, server FROM fleet.task WHERE server IS NOT NULL;
BEGIN;
SELECT fleet.remove_server('regress_edit_t', cascade => true);
SELECT task FROM fleet.task WHERE package = 'edits' ORDER BY 1;
ROLLBACK;
SELECT fleet.alter_task('edits', 'c', reset => '{server}'), fleet.remove_server('regress_edit_t'), fleet.drop_group('regress_edit_g');
DROP SERVER regress_edit_t;

-- ---- what is disabled
SET ROLE regress_fleet_editor;
SELECT fleet.alter_task('edits', 'd', nested => 'inner'), fleet.alter_package('edits', reset => '{params}');
SELECT fleet.alter_package('inner', enabled => false), fleet.alter_job('edited', enabled => false);
SELECT enabled FROM fleet.package WHERE package = 'inner';
SELECT enabled FROM fleet.job WHERE job = 'edited';
SELECT fleet.run_parent_package('inner');
SELECT fleet.start_job('edited');
SELECT fleet.run_parent_package('edits') AS run_id \gset
SELECT fleet.wait_for_run(:run_id);
SELECT task, state, message FROM fleet.task_run WHERE run_id = :run_id ORDER BY task;
SELECT fleet.alter_package('inner', enabled => true), fleet.alter_job('edited', enabled => true);
-- a disabled step is passed over, whatever it would do next
SELECT fleet.create_job('steps');
SELECT fleet.add_step('steps', 'first', 'SELECT 1', enabled => false, on_success => 'quit_failure'), fleet.add_step('steps', 'second', 'CREATE TEMP TABLE t AS SELECT 1'),
       fleet.add_step('steps', 'third', package => 'inner'), fleet.add_step('steps', 'fourth', 'SELECT 4', enabled => false);
SELECT fleet.alter_package('inner', enabled => false);
SELECT fleet.alter_task('edits', 'c', job => 'steps', reset => '{params}');
SELECT fleet.run_parent_package('edits') AS run_id \gset
SELECT fleet.wait_for_run(:run_id);
SELECT step, state, message, sqlstate FROM fleet.job_log WHERE run_id = :run_id AND task = 'c' ORDER BY step_no;
SELECT seq, level, message FROM fleet.log WHERE run_id = :run_id AND task = 'c' ORDER BY seq;
SELECT state, row_count, message FROM fleet.task_run WHERE run_id = :run_id AND task = 'c';
-- all of them
SELECT fleet.alter_step('steps', 'second', enabled => false);
SELECT fleet.run_parent_package('edits') AS run_id \gset
SELECT fleet.wait_for_run(:run_id);
SELECT step, state FROM fleet.job_log WHERE run_id = :run_id AND task = 'c' ORDER BY step_no;
SELECT state FROM fleet.task_run WHERE run_id = :run_id AND task = 'c';

-- ---- estimates follow names
SELECT fleet.alter_task('edits', 'b', new_name => 'bb');
SELECT fleet.alter_package('edits', new_name => 'renamed');
RESET ROLE;
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM fleet_catalog.renaming);
        PERFORM pg_sleep(0.01);
    END LOOP;
END
$$;
SELECT DISTINCT package, task FROM fleet_catalog.duration WHERE package IN ('edits', 'renamed') AND task IN ('b', 'bb');
SELECT fleet.alter_package('renamed', new_name => 'edits');
-- a list gets its default back
SELECT fleet.create_limit('some', 1), fleet.add_task('edits', 'limited', sql => 'SELECT 1', limits => '{some}');
SELECT fleet.alter_task('edits', 'limited', reset => '{limits}');
SELECT limits FROM fleet.task WHERE package = 'edits' AND task = 'limited';
SELECT fleet.drop_limit('some');

SELECT fleet.drop_package('edits'), fleet.drop_package('strange'), fleet.drop_job('edited'), fleet.drop_job('steps'), fleet.drop_package('inner');
SELECT count(fleet.drop_group(name)) FROM fleet.group;
DELETE FROM fleet_catalog.task_run WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package = 'edits');
DELETE FROM fleet_catalog.step_run WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package = 'edits');
DELETE FROM fleet_catalog.run WHERE package = 'edits';
DROP OWNED BY regress_fleet_editor, regress_fleet_stranger;
DROP ROLE regress_fleet_editor, regress_fleet_stranger;
