-- Final tasks, handlers and failed_if: definitions, and what is refused.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
BEGIN;
SELECT fleet.create_package('fin', failed_if => 'any');
SELECT fleet.add_task('fin', 'one', sql => 'SELECT 1');
SELECT fleet.add_task('fin', 'two', sql => 'SELECT 1', after => '{one}');
SELECT fleet.add_task('fin', 'caught', sql => 'SELECT 1', catch => true);
SELECT fleet.add_task('fin', 'last', sql => 'SELECT 1', final => true);
SELECT fleet.add_task('fin', 'very last', sql => 'SELECT 1', final => true, after_completion_of => '{last}');
SELECT task, final, catch, throttle FROM fleet.task WHERE package = 'fin' ORDER BY task_no;
SELECT package, failed_if FROM fleet.package WHERE package = 'fin';
SAVEPOINT s;
-- constraints between parts
SELECT fleet.add_precedence('fin', 'two', 'last');
ROLLBACK TO s;
SELECT fleet.add_precedence('fin', 'last', 'two', on_outcome => 'failure');
ROLLBACK TO s;
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', final => true, after => '{one}');
ROLLBACK TO s;
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', after_failure_of => '{caught}');
ROLLBACK TO s;
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', catch => true, after_failure_of => '{one}');
ROLLBACK TO s;
SELECT fleet.add_precedence('fin', 'caught', 'last');
ROLLBACK TO s;
-- handlers that cannot be
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', catch => true, final => true);
ROLLBACK TO s;
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', catch => true, for_each => 'SELECT 1 AS i');
ROLLBACK TO s;
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', catch => true, completion => 'fail_fast');
ROLLBACK TO s;
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', catch => NULL);
ROLLBACK TO s;
SELECT fleet.add_task('fin', 'x', sql => 'SELECT 1', final => NULL);
ROLLBACK TO s;
-- failed_if
SELECT fleet.create_package('x', failed_if => 'never');
ROLLBACK TO s;
SELECT fleet.alter_package('fin', failed_if => 'some');
ROLLBACK TO s;
SELECT fleet.alter_package('fin', failed_if => 'unhandled');
SELECT failed_if FROM fleet.package WHERE package = 'fin';
ROLLBACK TO s;
-- as a document
SELECT fleet.export_package('fin') -> 'packages' -> 'fin' AS document \gset
SELECT :'document'::jsonb -> 'failed_if' AS failed_if, jsonb_path_query_array(:'document', '$.tasks[*] ? (@.final == true || @.catch == true).task') AS parts;
SELECT fleet.export_package('fin') AS document \gset
SELECT fleet.drop_package('fin');
SELECT count(*) > 0 AS imported FROM fleet.import_package(:'document');
SELECT fleet.export_package('fin') = :'document'::jsonb AS same;
SELECT fleet.validate_package('fin');
-- a plan: handlers have nothing to do, final tasks come last
SELECT task, starts_after >= interval '0' AS planned FROM fleet.plan('fin') ORDER BY starts_after, task;
-- which tasks are left out: final tasks and handlers only if they are named
SELECT task ->> 'name' AS task, task ->> 'left_out' AS left_out
  FROM jsonb_array_elements(fleet_catalog.choose_tasks(fleet_catalog.checked_body('fin'), '{two}', NULL, '{very last}') -> 'tasks') AS task;
SELECT task ->> 'name' AS task, task ->> 'left_out' AS left_out
  FROM jsonb_array_elements(fleet_catalog.choose_tasks(fleet_catalog.checked_body('fin'), '{last}', NULL, NULL) -> 'tasks') AS task;
SELECT fleet_catalog.choose_tasks(fleet_catalog.checked_body('fin'), NULL, NULL, '{one,two}');
ROLLBACK TO s;
-- what steps know
SELECT fleet.failure(), fleet.run_outcome();
SET LOCAL fleet.context = '{"run_id": 1, "outcome": "failed", "failure": {"task": "one", "sqlstate": "22012"}}';
SELECT fleet.failure(), fleet.failure() ->> 'sqlstate' AS sqlstate, fleet.run_outcome();
SET LOCAL fleet.context = '{"run_id": 1}';
SELECT fleet.failure(), fleet.run_outcome();
ROLLBACK TO s;
SELECT fleet.run_parent_package('fin') AS run \gset
SELECT fleet.cancel_run(:run, final_tasks => NULL);
ROLLBACK TO s;
SELECT fleet.run_parent_package('fin') AS run \gset
SELECT fleet.cancel_run(:run), fleet.cancel_run(:run), fleet.cancel_run(:run, final_tasks => false), fleet.cancel_run(:run, final_tasks => false);
SELECT final_tasks FROM fleet_catalog.cancel_request WHERE run_id = :run ORDER BY requested_at;
ROLLBACK;
