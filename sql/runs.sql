-- Requests for runs, cancels, waiting.  Every request is rolled back, so that no agent is needed.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_runner;
CREATE ROLE regress_fleet_stranger;
CREATE ROLE regress_fleet_watcher;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO regress_fleet_runner;
GRANT fleet_reader TO regress_fleet_watcher;
SET ROLE regress_fleet_runner;
SELECT fleet.create_package('day', params => '{"day": null, "n": 1}');
SELECT fleet.run_parent_package('day', params => '{"day": "x"}');
SELECT fleet.add_task('day', 'one', sql => 'SELECT 1');
SELECT fleet.add_task('day', 'many', sql => 'SELECT 1', for_each => 'SELECT 1', after => '{one}');

-- bad input
SELECT fleet.run_parent_package(NULL);
SELECT fleet.run_parent_package('nothing');
SELECT fleet.run_parent_package('day');
SELECT fleet.run_parent_package('day', params => NULL);
SELECT fleet.run_parent_package('day', params => '[]');
SELECT fleet.run_parent_package('day', params => '{"day": 1, "night": 2}');
SELECT fleet.run_parent_package('day', params => '{"day": 1}', run_key => '');
SELECT fleet.run_parent_package('day', params => '{"day": 1}', run_key => repeat('k', 1000));
SELECT fleet.run_parent_package('day', params => '{"day": 1}', priority => 100000);

-- a parameter may be given as null, and the order of merging shows
BEGIN;
SELECT fleet.run_parent_package('day', params => '{"day": null}') > 0;
SELECT package, state, params, run_key, requested_by = session_user, owner, priority, started_at, message FROM fleet.run;
SELECT run_id IS NOT NULL, package, total, done, failed, canceled, running, queued, elapsed, eta FROM fleet.progress;

-- waiting for what has not been committed
\set VERBOSITY sqlstate
SELECT fleet.wait_for_run((SELECT max(run_id) FROM fleet.run));
\set VERBOSITY verbose
ROLLBACK;
SELECT fleet.wait_for_run(NULL);
SELECT fleet.wait_for_run(-1);
SELECT fleet.wait_for_run(1000000000, timeout => '1s');
SELECT fleet.wait_for_change(1000000000);
SELECT fleet_link.run_news(1000000000, '{}');
SELECT fleet_link.run_failure(1000000000);

-- run keys
BEGIN;
SELECT fleet.run_parent_package('day', params => '{"day": 1}', run_key => 'k1') AS first \gset
SELECT fleet.run_parent_package('day', params => '{"day": 2}', run_key => 'k1') = :first AS same;
SELECT fleet.run_parent_package('day', params => '{"day": 1}', run_key => 'k2') = :first AS same;
SELECT count(*), count(DISTINCT run_uuid) FROM fleet.run;
-- the same key makes the same uuid, even if the first row was lost
RESET ROLE;
SELECT run_uuid AS uuid FROM fleet_catalog.run WHERE run_id = :first \gset
SET LOCAL session_replication_role = replica; -- it is not that somebody deletes it
DELETE FROM fleet_catalog.run WHERE run_id = :first;
SET LOCAL session_replication_role = origin;
SET LOCAL ROLE regress_fleet_runner;
SELECT fleet.run_parent_package('day', params => '{"day": 1}', run_key => 'k1') AS again \gset
SELECT run_uuid = :'uuid' AS same_uuid FROM fleet.run WHERE run_id = :again;
ROLLBACK;

-- overlap
SELECT fleet.alter_package('day', overlap => 'skip');
BEGIN;
SELECT fleet.run_parent_package('day', params => '{"day": 1}') AS first \gset
\set VERBOSITY terse
SELECT fleet.run_parent_package('day', params => '{"day": 1}') = :first AS same;
\set VERBOSITY verbose
SELECT count(*) FROM fleet.run;
ROLLBACK;
SELECT fleet.alter_package('day', overlap => 'parallel');

-- what a run would miss
SELECT fleet.create_job('work');
SELECT fleet.add_server('regress_d', 'host=192.0.2.1', password => 'canary', mode => 'direct', groups => '{d}') > 0;
SELECT fleet.create_package('needs');
SELECT fleet.add_task('needs', 't', job => 'nowork', on_group => 'empty');
SELECT fleet.run_parent_package('needs');
SELECT fleet.alter_server('regress_d', groups => '{d,empty}');
SELECT fleet.run_parent_package('needs');
SELECT fleet.drop_task('needs', 't');
SELECT fleet.add_task('needs', 't', job => 'work', server => 'regress_d');
SELECT fleet.run_parent_package('needs');
SELECT fleet.add_step('work', 's', 'SELECT 1', success_goto => 'later');
SELECT fleet.run_parent_package('needs');
SELECT fleet.start_job('work');
SELECT fleet.add_step('work', 'later', 'SELECT 1');
SELECT fleet.add_step('work', 'last', 'SELECT 1', failure_goto => 'never');
SELECT fleet.run_parent_package('needs');
SELECT fleet.start_job('work');
SELECT fleet.drop_step('work', 'last');
BEGIN;
SELECT fleet.run_parent_package('needs') > 0;
ROLLBACK;
SELECT fleet.alter_server('regress_d', mode => 'agent');
SELECT fleet.drop_task('needs', 't');
SELECT fleet.add_task('needs', 't', job => 'only_there', server => 'regress_d');
BEGIN;
SELECT fleet.run_parent_package('needs') > 0;
ROLLBACK;
SELECT fleet.remove_server('regress_d');
BEGIN;
SELECT fleet.remove_server('regress_d', cascade => true);
SELECT fleet.run_parent_package('needs');
ROLLBACK;
-- a server that is gone by other ways
RESET ROLE;
UPDATE fleet_catalog.task SET server = 'regress_gone' WHERE server = 'regress_d';
SET ROLE regress_fleet_runner;
SELECT fleet.remove_server('regress_d');
SELECT fleet.run_parent_package('needs');

-- jobs
SELECT fleet.create_job('picky', params => '{"a": 1}');
SELECT fleet.add_step('picky', 's', 'SELECT 1');
SELECT fleet.start_job('picky', '{"b": 1}');
SELECT fleet.start_job('picky', NULL);
SELECT fleet.start_job('nothing');
SELECT fleet.start_job(NULL);
SELECT fleet.start_job('work', start_step => 'nowhere');
SELECT fleet.start_job('work', server => 'nowhere');
SELECT fleet.start_job('work', on_group => 'nowhere');
SELECT fleet.start_job('work', server => 'a', on_group => 'b');
SELECT fleet.start_job('', server => 'nowhere');
SELECT fleet.start_job('work', run_key => '');
CALL fleet.execute_job('nothing');
CALL fleet.execute_job('work', start_step => 'nowhere');
BEGIN;
-- a key gives the first one again, wherever it is asked for; nothing stays of the package that a job runs in
SELECT fleet.start_job('work', run_key => 'k') AS first \gset
SELECT fleet.start_job('work', run_key => 'k') = :first AS same, fleet.start_job('work', run_key => 'other') = :first AS other;
SELECT fleet_link.begin_job('work', '{"anything": 2}', NULL, NULL, NULL) AS run \gset
SELECT package, job, job_run_id IS NOT NULL AS has_number, params FROM fleet.run WHERE run_id = :run;
SELECT j.job, j.state, j.run_id = r.run_id AS its_run, j.server FROM fleet.job_run AS j JOIN fleet.run AS r ON r.job_run_id = j.job_run_id WHERE r.run_id = :run;
SELECT count(*) FROM fleet.package WHERE package LIKE 'start of a job%';
SELECT fleet.cancel_job_run(r.job_run_id) FROM fleet.run AS r WHERE r.run_id = :run;
ROLLBACK;
BEGIN;
SELECT fleet.start_job('picky', '{"a": 2}') > 0;
SELECT fleet.start_job('work', '{"anything": 2}') > 0;
SELECT job, state, params, owner, parent FROM fleet.job_run ORDER BY job_run_id;

-- cancel, and who may
SELECT max(job_run_id) AS job_run FROM fleet.job_run \gset
SELECT fleet.run_parent_package('day', params => '{"day": 1}') AS run \gset
SAVEPOINT s;
SET LOCAL ROLE regress_fleet_stranger;
SELECT count(*) FROM fleet.run;
SELECT count(*) FROM fleet.job_run;
SELECT count(*) FROM fleet.progress;
\set VERBOSITY sqlstate
SELECT fleet.cancel_run(:run);
ROLLBACK TO s;
SET LOCAL ROLE regress_fleet_stranger;
SELECT fleet.cancel_job_run(:job_run);
ROLLBACK TO s;
SET LOCAL ROLE regress_fleet_watcher;
SELECT count(*) FROM fleet.run;
SELECT count(*) FROM fleet.job_run;
SELECT fleet.cancel_run(:run);
ROLLBACK TO s;
\set VERBOSITY verbose
SELECT fleet.cancel_run(:run), fleet.cancel_job_run(:job_run);
RESET ROLE;
SELECT count(*) FROM fleet_catalog.cancel_request;
UPDATE fleet_catalog.run SET state = 11 WHERE run_id = :run;
SET LOCAL ROLE regress_fleet_runner;
SELECT fleet.cancel_run(:run);
ROLLBACK;
SELECT fleet.cancel_run(NULL);
SELECT fleet.cancel_run(1000000000);
SELECT fleet.cancel_job_run(NULL);
SELECT fleet.cancel_job_run(1000000000);

-- parameters of a step
SELECT fleet.param('a') IS NULL AS none;
SET fleet.params = '{"a": 1, "b": "text"}';
SELECT fleet.param('a'), fleet.param('b'), fleet.param('c'), fleet.param(NULL);
RESET fleet.params;

-- execute_package needs to COMMIT
BEGIN;
CALL fleet.execute_package('day', '{"day": 1}');
ROLLBACK;
CALL fleet.execute_package('nothing');
CALL fleet.execute_package('day');
SELECT count(*) FROM fleet.run;

-- plans
SELECT * FROM fleet.plan('nothing');
SELECT * FROM fleet.plan('day', items => NULL);
SELECT * FROM fleet.plan('day', items => '{"one": 3}');
SELECT * FROM fleet.plan('day', items => '{"many": "x"}');
SELECT * FROM fleet.plan('day', items => '{"many": -3}');
SELECT * FROM fleet.plan('day', items => '[]');
SELECT task, item, server, starts_after < ends_after AS takes_time FROM fleet.plan('day', items => '{"many": 3}') ORDER BY task COLLATE "C", item;
SELECT * FROM fleet.advise('day', servers => 0);
SELECT * FROM fleet.advise('day', servers => NULL);
SELECT number_of_servers, makespan >= lower_bound AS sound FROM fleet.advise('day', servers => 3);

-- the agent and the identity
SELECT fleet.confirm_identity('same');
RESET ROLE;
SELECT fleet.confirm_identity('other');
SELECT fleet.confirm_identity(NULL);
SELECT count(*) FROM fleet.agent_status();


SELECT fleet.drop_package('day'), fleet.drop_package('needs'), fleet.drop_job('work'), fleet.drop_job('picky');
SELECT count(fleet.drop_group(name)) FROM fleet.group;
REVOKE USAGE ON FOREIGN DATA WRAPPER pg_fleet FROM regress_fleet_runner;
DROP ROLE regress_fleet_runner, regress_fleet_stranger, regress_fleet_watcher;
