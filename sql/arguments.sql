-- Arguments at their limits, and every null that is none of the defaults.  A call that fails says why
-- and what to write instead, and leaves nothing behind.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_arg;
CREATE ROLE regress_fleet_arg2;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO regress_fleet_arg;
-- how many rows each table of the catalog has, as one text
CREATE FUNCTION pg_temp.everything() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_table regclass;
    v_n bigint;
    v_all text := '';
BEGIN
    FOR v_table IN SELECT c.oid FROM pg_class c WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind = 'r'
                    AND c.relname NOT IN ('identity', 'server_health', 'event') /* an agent may be there, which writes these */ ORDER BY c.relname COLLATE "C" LOOP
        EXECUTE format('SELECT count(*) FROM %s', v_table) INTO v_n;
        v_all := v_all || v_table || '=' || v_n || ' ';
    END LOOP;
    RETURN v_all || (SELECT count(*) FROM pg_foreign_server) || ' ' || (SELECT count(*) FROM pg_user_mappings);
END
$$;
-- the SQLSTATE and message of a statement that must fail
CREATE FUNCTION pg_temp.refused(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN 'nothing: it was accepted';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SET ROLE regress_fleet_arg;
SELECT fleet.create_job('j');
SELECT fleet.add_step('j', 's', 'SELECT 1');
SELECT fleet.create_job('j2', leaves_clean => NULL, description => NULL);
SELECT fleet.create_package('p');
SELECT fleet.add_task('p', 't', sql => 'SELECT 1');
SELECT fleet.create_package('p2', description => NULL);
SELECT fleet.add_server('regress_a', 'host=192.0.2.1', password => 'canary') > 0;
RESET ROLE;
SELECT pg_temp.everything() AS before \gset
SET ROLE regress_fleet_arg;

-- jobs and steps
SELECT fleet.drop_job('');
SELECT fleet.alter_job(NULL);
SELECT fleet.alter_job('j', new_name => 'j2');
SELECT fleet.alter_job('j', new_name => repeat('x', 201));
SELECT fleet.alter_job('j', owner => 'regress_fleet_arg2');
SELECT fleet.add_step(NULL, 'x', 'SELECT 1');
SELECT fleet.add_step('j', '', 'SELECT 1');
SELECT fleet.add_step('j', repeat('x', 201), 'SELECT 1');
SELECT fleet.add_step('j', 'x', 'SELECT 1', on_failure => NULL);
SELECT fleet.add_step('j', 'x', 'SELECT 1', on_success => 'goto');
SELECT fleet.add_step('j', 'x', 'SELECT 1', success_goto => '');
SELECT fleet.add_step('j', 'x', 'SELECT 1', retries => 1001);
SELECT fleet.add_step('j', 'x', 'SELECT 1', retry_wait => NULL);
SELECT fleet.add_step('j', 'x', 'SELECT 1', retry_wait_max => '-1s');
SELECT fleet.add_step('j', 'x', 'SELECT 1', retry_wait_max => '10 years 1 second');
SELECT fleet.add_step('j', 'x', 'SELECT 1', retry_sqlstates => ARRAY(SELECT '40001' FROM generate_series(1, 101)));
SELECT fleet.add_step('j', 'x', 'SELECT 1', retry_sqlstates => '{4000a}');
SELECT fleet.add_step('j', 'x', 'SELECT 1', timeout => '-1s');
SELECT fleet.add_step('j', 'x', 'SELECT 1', on_unknown => NULL);
SELECT fleet.add_step('j', 'x', 'SELECT 1', transactional => NULL, run_as => 'regress_fleet_arg2');
SELECT fleet.add_step('j', 'x', 'SELECT 1', run_as => '');
SELECT fleet.drop_step('j', '');
SELECT fleet.drop_step(NULL, 's');
SELECT fleet.start_job('j', '3');
SELECT fleet.start_job('j2');

-- packages and tasks
SELECT fleet.create_package('x', priority => NULL);
SELECT fleet.create_package('x', priority => -1001);
SELECT fleet.create_package('x', overlap => NULL);
SELECT fleet.create_package('x', params => NULL);
SELECT fleet.alter_package(NULL);
SELECT fleet.alter_package('p', new_name => 'p2');
SELECT fleet.alter_package('p', new_name => '');
SELECT fleet.alter_package('p', params => '[]');
SELECT fleet.alter_package('p', overlap => 'skip', max_parallel => 1);
SELECT fleet.alter_package('p', overlap => 'perhaps');
SELECT fleet.alter_package('p', priority => 1001);
SELECT fleet.alter_package('p', owner => 'regress_fleet_arg2');
SELECT fleet.alter_package('p', owner => 'regress_fleet_nobody');
SELECT fleet.drop_package(NULL);
SELECT fleet.drop_package('');
SELECT fleet.add_task(NULL, 'x', sql => 'SELECT 1');
SELECT fleet.add_task('p', '', sql => 'SELECT 1');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', nested => 'p2');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', on_group => 'g');
SELECT fleet.add_task('p', 'x', job => '', on_group => 'g');
SELECT fleet.add_task('p', 'x', job => 'j', server => '');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', params => '[]');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', throttle => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', throttle => 1000001);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', minimum_share => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', minimum_share => -0.01);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', completion => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', balance => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', wait_for => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', on_lost => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', retries => 1001);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', retry_wait => '-1s');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', retry_sqlstates => '{1}');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', timeout => '0');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', after_failure_of => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', after_failure_of => '{nothing}');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', after_completion_of => NULL);
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', after_completion_of => '{nothing}');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', check_syntax => NULL);
SELECT fleet.add_task('p', 'x', sql => '', for_each => 'SELECT 1');
SELECT fleet.add_task('p', 'x', sql => 'COPY t TO STDOUT');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', for_each => '');
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1', for_each => 'SELEC 1');
SELECT fleet.drop_task('p', NULL);
SELECT fleet.drop_task(NULL, 't');
SELECT fleet.add_precedence(NULL, 't', 't');
SELECT fleet.add_precedence('p', 't', NULL);
SELECT fleet.add_precedence('p', 't', 't', on_outcome => NULL);
SELECT condition, pg_temp.refused(format('SELECT fleet.add_precedence(''p'', ''t'', ''t'', condition => %L)', condition)) FROM unnest(ARRAY[
    '1), (2', 'true) FROM pg_class WHERE (true', 'true) UNION SELECT (false', 'true) WHERE (false', 'true) ORDER BY (1', 'true) LIMIT (0', 'true) OFFSET (1',
    'true) GROUP BY (1', 'true) HAVING (false', 'true) FOR UPDATE --', 'true) INTO x --', 'VALUES (1)', 'DELETE FROM t']) AS condition;
SELECT fleet.drop_precedence(NULL, 't', 't');
SELECT fleet.drop_precedence('p', 't', NULL);

-- servers
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', slots => 10001);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', slots => NULL);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', mode => NULL);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', weight => 0.0009);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', weight => 1000001);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', weight => 'NaN');
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', groups => '{""}');
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', groups => ARRAY[repeat('g', 201)]);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => '');
SELECT fleet_link.create_foreign_server(NULL, 'host=192.0.2.1', 'u', 'canary');
SELECT fleet_link.create_foreign_server('x', NULL, 'u', 'canary');
SELECT fleet_link.create_foreign_server('x', 'host=192.0.2.1 sslpassword=canary', 'u', 'canary');
SELECT fleet.alter_server(NULL);
SELECT fleet.alter_server('regress_a', slots => -1);
SELECT fleet.alter_server('regress_a', weight => 0);
SELECT fleet.alter_server('regress_a', groups => '{NULL}');
SELECT fleet.alter_server(NULL, slots => 1);
SELECT fleet.alter_server('regress_a', slots => -1);
SELECT fleet.set_server_state(NULL, 'online');
SELECT fleet.unregister_server(NULL);
SELECT fleet.unregister_server('nothing');
SELECT fleet.remove_server(NULL);
SELECT fleet.register_server('');
SELECT fleet.deploy_job(NULL, server => 'regress_a');
SELECT fleet.deploy_job('j2', server => 'regress_a');
SELECT fleet.deploy_job('j', on_group => '');

-- runs
SELECT fleet.run_parent_package('p', run_key => repeat('k', 201));
SELECT fleet.run_parent_package('p', priority => -1001);
SELECT fleet.run_parent_package('p2');
SELECT fleet.wait_for_run(1000000000, timeout => '-1s');
SELECT fleet.wait_for_run(1000000000, timeout => '11 years');
SELECT fleet.wait_for_change(NULL);
SELECT fleet.wait_for_change(1, timeout => '-1s');
SELECT fleet_link.run_news(NULL, '{}');
SELECT fleet_link.run_failure(NULL);
SELECT fleet.cancel_run(0);
SELECT fleet.cancel_job_run(-1);
SELECT * FROM fleet.plan(NULL);
SELECT * FROM fleet.plan('p2');
SELECT * FROM fleet.plan('p', items => '3');
SELECT * FROM fleet.advise(NULL);
SELECT * FROM fleet.advise('p', servers => 1001);
SELECT fleet.confirm_identity('new');
SELECT fleet.confirm_identity('');

-- schedules
SELECT fleet.schedule_package(NULL, '* * * * *');
SELECT fleet.schedule_package('p', '* * * * *', NULL);
SELECT fleet.schedule_package('p', '* * * * *', '{"x": 1}');
SELECT fleet.unschedule_package(NULL);
SELECT fleet.schedule_job(NULL, '* * * * *');
SELECT fleet.alter_schedule(NULL);
SELECT fleet.alter_schedule('nothing');
SELECT fleet.unschedule(NULL);
SELECT fleet_link.start_scheduled(NULL, now());
SELECT fleet_link.start_scheduled(-1, now());

-- what links of a parent call
SELECT fleet_link.agent_hello(NULL, '00000000-0000-0000-0000-00000000000a', 1, 'x');
SELECT fleet_link.agent_hello(2, '00000000-0000-0000-0000-00000000000a', NULL, 'x');
SELECT fleet_link.agent_start(NULL, 1, '{}', '{}', '{}');
SELECT fleet_link.agent_start('00000000-0000-0000-0000-00000000000a', NULL, '{}', '{}', '{}');
SELECT fleet_link.agent_start('00000000-0000-0000-0000-00000000000a', 1, '{}', '{}', '{}');
SELECT fleet_link.agent_resume(NULL, 1, '{}');
SELECT fleet_link.agent_resume('00000000-0000-0000-0000-00000000000a', NULL, '{}');
SELECT fleet_link.agent_fetch(NULL, 1, '{}', '{}');
SELECT fleet_link.agent_fetch('00000000-0000-0000-0000-00000000000a', NULL, '{}', '{}');
SELECT fleet_link.agent_fetch('00000000-0000-0000-0000-00000000000a', 1, '{}', '{}');
SELECT fleet_link.agent_cancel(NULL, 1, '{}');
SELECT fleet_link.agent_cancel('00000000-0000-0000-0000-00000000000a', NULL, '{}');
SELECT fleet_link.agent_acknowledge(NULL, '{}');
SELECT fleet_link.agent_deploy(NULL, 1, '{}');
SELECT fleet_link.agent_deploy('00000000-0000-0000-0000-00000000000a', NULL, '{}');

-- nothing of all this is left behind
RESET ROLE;
SELECT pg_temp.everything() = :'before' AS nothing_left;

-- at the limits it is accepted, and stored as given
SELECT fleet.set_quota('regress_fleet_arg', max_priority => 1000);
SET ROLE regress_fleet_arg;
BEGIN;
SELECT fleet.create_job(repeat('j', 200), leaves_clean => true);
SELECT fleet.add_step('j', repeat('x', 200), 'SELECT 1', retries => 1000, retry_wait => '0', retry_wait_max => '10 years', timeout => '10 years',
                      retry_sqlstates => ARRAY(SELECT '40001' FROM generate_series(1, 100)), success_goto => 's', failure_goto => 's', transactional => true, on_unknown => 'retry');
SELECT step_no, length(step), retries, retry_wait, retry_wait_max, timeout, cardinality(retry_sqlstates), on_success, success_goto, on_failure, failure_goto, transactional, on_unknown FROM fleet.step WHERE job = 'j' AND step_no = 2;
SELECT fleet.create_package(repeat('p', 200), priority => 1000), fleet.create_package('least', priority => -1000);
SELECT fleet.add_task('p', repeat('x', 200), sql => 'SELECT 1', throttle => 1000000, minimum_share => 0, retries => 1000, retry_wait => '0', timeout => '10 years', wait_for => 'any',
                      on_lost => 'retry', balance => 'weighted', completion => 'started', for_each => 'VALUES (1)', params => '{"a": 1}', after => '{t}');
SELECT task_no, length(task), throttle, minimum_share, retries, retry_wait, timeout, wait_for, on_lost, balance, completion, for_each, params FROM fleet.task WHERE package = 'p' AND task_no = 1;
SELECT from_task, length(to_task), on_outcome FROM fleet.precedence WHERE package = 'p';
SELECT fleet.add_server(repeat('s', 63), 'host=192.0.2.1', password => 'canary', slots => 10000, weight => 1000000, groups => ARRAY[repeat('g', 200)]) > 0;
SELECT fleet.alter_server('regress_a', slots => 0, weight => 0.001, mode => 'direct');
SELECT length(server), mode, slots, weight FROM fleet.server ORDER BY slots;
SELECT fleet.run_parent_package('p', run_key => repeat('k', 200), priority => 1000) > 0, fleet.run_parent_package('p', priority => -1000) > 0;
SELECT package, priority, length(run_key) AS key FROM fleet.run ORDER BY run_id;
ROLLBACK;
-- what is not given stays as it was
BEGIN;
SELECT fleet.alter_job('j', params => '{"a": 1}', description => 'd', leaves_clean => true), fleet.alter_package('p', params => '{"b": 1}', priority => 1, overlap => 'skip', description => 'e');
SELECT fleet.alter_job('j', new_name => 'renamed'), fleet.alter_package('p', new_name => 'renamed');
SELECT job, params, description, leaves_clean, owner, steps FROM fleet.job WHERE job IN ('j', 'renamed');
SELECT package, params, description, priority, overlap, owner, tasks FROM fleet.package WHERE package IN ('p', 'renamed');
SELECT fleet.alter_server('regress_a', slots => 7, groups => '{a,b}', weight => 3), fleet.alter_server('regress_a');
SELECT server, mode, state, slots, groups, weight, owner FROM fleet.server;
SELECT fleet.set_server_state('regress_a', 'offline'), fleet.alter_server('regress_a', slots => 2);
SELECT server, mode, state, slots, groups, weight, owner FROM fleet.server;
ROLLBACK;

-- the documents of a run: all that was given, in the units of the core
RESET ROLE;
BEGIN;
SELECT fleet.create_package('doc', params => '{"a": 1}', overlap => 'skip', priority => 4);
SELECT fleet.add_task('doc', 'one', job => 'j', server => 'regress_a', params => '{"p": 1}', retries => 2, retry_wait => '90s', retry_wait_max => '1h', retry_sqlstates => '{40,!40P01}', timeout => '2h');
SELECT fleet.add_task('doc', 'two', sql => 'SELECT 2', for_each => 'SELECT 1', throttle => 3, completion => 'minimum_share', minimum_share => 0.5, balance => 'weighted', wait_for => 'any', on_lost => 'retry');
SELECT fleet.add_task('doc', 'three', nested => 'p2');
SELECT fleet.add_precedence('doc', 'one', 'two', on_outcome => 'failure', condition => $$fleet.param('a') = '1'$$);
SELECT fleet.add_precedence('doc', 'two', 'three', on_outcome => 'completion');
SELECT fleet.alter_job('j', owner => 'regress_fleet_arg2', leaves_clean => true, params => '{"q": 2}');
SELECT fleet.add_step('j', 'two', 'VACUUM', on_success => 'quit_failure', failure_goto => 's', retries => 1, retry_wait => '3s', retry_wait_max => '4min', retry_sqlstates => '{57P01}',
                      timeout => '1 day', on_unknown => 'retry', transactional => false, run_as => 'regress_fleet_arg2');
SELECT jsonb_pretty(fleet_catalog.package_body('doc', '{}') - 'owner');
ROLLBACK;

-- too many steps, tasks, levels
RESET ROLE;
BEGIN;
INSERT INTO fleet_catalog.step (job_id, step_no, name, command) SELECT job_id, 1000, 'last', 'SELECT 1' FROM fleet_catalog.job WHERE name = 'j';
SAVEPOINT s;
SELECT fleet.add_step('j', 'x', 'SELECT 1');
ROLLBACK TO s;
INSERT INTO fleet_catalog.task (package_id, task_no, name, kind, sql) SELECT package_id, 9999, 'last', 'sql', 'SELECT 1' FROM fleet_catalog.package WHERE name = 'p';
SAVEPOINT s;
SELECT fleet.add_task('p', 'x', sql => 'SELECT 1');
ROLLBACK TO s;
SELECT count(fleet.create_package('level' || n)) FROM generate_series(1, 40) n;
SELECT count(fleet.add_task('level' || n, 't', nested => 'level' || n + 1)) FROM (SELECT n FROM generate_series(1, 31) n ORDER BY n DESC) AS u;
SAVEPOINT s;
SELECT fleet.add_task('level39', 't', nested => 'level40');
SELECT fleet.add_task('level40', 't', nested => 'level1');
ROLLBACK TO s;
ROLLBACK;

-- a server that runs something is not removed; one that does not is, whatever else runs
BEGIN;
SELECT run_parent_package AS run FROM fleet.run_parent_package('p') \gset
SELECT server_id AS server FROM fleet_catalog.server WHERE name = 'regress_a' \gset
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, server_id) VALUES (:run, 0, 0, now(), 1, :server);
SAVEPOINT s;
CREATE FUNCTION pg_temp.removed(a_state int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet_catalog.task_run SET state = a_state;
    PERFORM fleet.unregister_server('regress_a');
    RAISE EXCEPTION USING ERRCODE = '0ZZZZ', MESSAGE = 'removed';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END
$$;
SELECT fleet_catalog.state_name(s::smallint) AS task, pg_temp.removed(s) FROM unnest(ARRAY[1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16]) s;
UPDATE fleet_catalog.task_run SET state = 3;
UPDATE fleet_catalog.run SET state = 13 WHERE run_id = :run;
SELECT pg_temp.removed(3);
ROLLBACK;

SET ROLE regress_fleet_arg;
SELECT fleet.drop_job(j) FROM unnest('{j,j2}'::text[]) j;
SELECT fleet.drop_package(p) FROM unnest('{p,p2}'::text[]) p;
SELECT fleet.remove_server('regress_a');
SELECT count(fleet.drop_group(name)) FROM fleet.group;
RESET ROLE;
REVOKE USAGE ON FOREIGN DATA WRAPPER pg_fleet FROM regress_fleet_arg;
SELECT fleet.drop_quota('regress_fleet_arg');
DROP ROLE regress_fleet_arg, regress_fleet_arg2;

-- a copy of a parent, told which of the two it is: it keeps the identity or gets one of its own; its
-- epochs go on behind the last one in both cases
BEGIN;
INSERT INTO fleet_catalog.identity (system_identifier, database) VALUES (1, 1) ON CONFLICT DO NOTHING;
SELECT parent_uuid AS uuid FROM fleet_catalog.identity \gset
UPDATE fleet_catalog.identity SET paused_reason = 'a copy', system_identifier = 1, database = 1, last_epoch = (7::bigint << 32) + 9, epoch_base = 0;
SELECT paused_reason FROM fleet.agent_status();
SAVEPOINT s;
SELECT fleet.confirm_identity('same');
SELECT parent_uuid = :'uuid' AS same, paused_reason, epoch_base >> 32 AS base, epoch_base & 4294967295 AS counter,
       system_identifier = (SELECT system_identifier FROM pg_control_system()) AS this_cluster, database = (SELECT oid FROM pg_database WHERE datname = current_database()) AS this_database
  FROM fleet_catalog.identity;
ROLLBACK TO s;
SELECT fleet.confirm_identity('new');
SELECT parent_uuid = :'uuid' AS same, paused_reason, epoch_base >> 32 AS base FROM fleet_catalog.identity;
SELECT parent_uuid = :'uuid' AS same, paused_reason FROM fleet.agent_status();
ROLLBACK;
