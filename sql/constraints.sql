-- The catalog's own constraints: each is broken by a superuser's direct INSERT or UPDATE, and says so
-- with its SQLSTATE.  What no statement here has broken is listed at the end (nothing).
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE TEMP TABLE broken (relation text, constraint_name text, sqlstate text, PRIMARY KEY (relation, constraint_name));

-- Runs a statement that must fail; returns what it broke.
CREATE FUNCTION pg_temp.breaks(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_state text;
    v_message text;
    v_table text;
    v_column text;
    v_constraint text;
BEGIN
    BEGIN
        EXECUTE statement;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS v_state = RETURNED_SQLSTATE, v_message = MESSAGE_TEXT, v_table = TABLE_NAME,
            v_column = COLUMN_NAME, v_constraint = CONSTRAINT_NAME;
        IF v_constraint = '' THEN
            v_constraint := v_column;
        END IF;
        INSERT INTO broken VALUES (v_table, v_constraint, v_state) ON CONFLICT DO NOTHING;
        RETURN concat_ws(' ', v_state, NULLIF(v_table, ''), coalesce(NULLIF(v_constraint, ''), v_message));
    END;
    RETURN 'nothing: it was accepted';
END
$$;

BEGIN;
-- where an agent was, there is one already
INSERT INTO fleet_catalog.identity (system_identifier, database) VALUES (1, 1) ON CONFLICT DO NOTHING;
INSERT INTO fleet_catalog.server (server_id, name, foreign_server, owner) VALUES (1000001, 'regress_s', '-', 10);
INSERT INTO fleet_catalog.job (job_id, name, owner) VALUES (1000001, 'regress_j', 10);
INSERT INTO fleet_catalog.step (job_id, step_no, name, command) VALUES (1000001, 1, 'one', 'SELECT 1'), (1000001, 2, 'two', 'SELECT 1');
INSERT INTO fleet_catalog.package (package_id, name, owner) VALUES (1000001, 'regress_p', 10), (1000002, 'regress_q', 10);
INSERT INTO fleet_catalog.task (package_id, task_no, name, kind, sql) VALUES
    (1000001, 0, 'a', 'sql', 'SELECT 1'), (1000001, 1, 'b', 'sql', 'SELECT 1'), (1000002, 0, 'x', 'sql', 'SELECT 1');
INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task) VALUES (1000001, 'a', 'b');
INSERT INTO fleet_catalog.definition VALUES ('00000000-0000-0000-0000-00000000000d', 'package', '{}');
INSERT INTO fleet_catalog.definition_task VALUES ('00000000-0000-0000-0000-00000000000d', 0, 'a', 'sql', NULL, NULL, false);
INSERT INTO fleet_catalog.received VALUES (10, '00000000-0000-0000-0000-00000000000e', '00000000-0000-0000-0000-00000000000d', 'regress_j', '{}', '00000000-0000-0000-0000-0000000000cc');
INSERT INTO fleet_catalog.deployment (server_id, job, owner, hash, document) VALUES (1000001, 'regress_j', 10, '00000000-0000-0000-0000-00000000000d', '{}');
INSERT INTO fleet_catalog.run (run_id, run_uuid, package, definition, owner, state, run_key)
VALUES (1000001, '00000000-0000-0000-0000-0000000000aa', 'regress_p', '00000000-0000-0000-0000-00000000000d', 10, 11, 'key');
INSERT INTO fleet_catalog.run (run_id, package, definition, owner, state, run_key, restart_of)
VALUES (1000002, 'regress_p', '00000000-0000-0000-0000-00000000000d', 10, 11, 'key', 1000001); -- a restart has the same key
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state) VALUES (1000001, 0, 0, now(), 11);
INSERT INTO fleet_catalog.condition_result VALUES (1000001, 0, 1, true);
INSERT INTO fleet_catalog.job_run (job_run_id, token, job, definition, owner, state, finished_at)
VALUES (1000001, '00000000-0000-0000-0000-0000000000bb', 'regress_j', '00000000-0000-0000-0000-00000000000d', 10, 11, now());
INSERT INTO fleet_catalog.step_run (run_id, task_no, item, step_no, attempt, step, state, phase, first_seq, started_at) VALUES (1000001, 0, 0, 1, 1, 's', 11, 4, 1, now());
INSERT INTO fleet_catalog.step_run (job_run_id, step_no, attempt, step, state, phase, first_seq, started_at) VALUES (1000001, 1, 1, 's', 11, 4, 1, now());
INSERT INTO fleet_catalog.duration VALUES ('regress_p', 'a', '', '', 1, 1, 1);
INSERT INTO fleet_catalog.parent VALUES ('00000000-0000-0000-0000-0000000000cc', 10, 1, 'p', 1);
INSERT INTO fleet_catalog.schedule (schedule_id, name, package, cron, time_zone, since) VALUES (1000001, 'regress_s', 'regress_p', '* * * * *', 'UTC', now());
INSERT INTO fleet_catalog.schedule_state (schedule_id, last_time, fired_at) VALUES (1000001, now(), now());
INSERT INTO fleet_catalog.schedule_failure (schedule_id, scheduled_for, failed_at, sqlstate, message) VALUES (1000001, now(), now(), '22012', 'x');
INSERT INTO fleet_catalog.waker (owner, cron_database) VALUES (10, 'postgres');
INSERT INTO fleet_catalog.server_health (server_id) VALUES (1000001);
INSERT INTO fleet_catalog.job_snapshot VALUES (1000001, '1', '(0,1)', 'x', '00000000-0000-0000-0000-00000000000d');

-- one row
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.identity (only_row, system_identifier, database) VALUES (true, 1, 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.identity (only_row, system_identifier, database) VALUES (false, 1, 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.agent (only_row) VALUES (true)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.agent (only_row) VALUES (false)$$);

-- servers
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.server (name, foreign_server, owner) VALUES ('regress_s', '-', 10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.server (server_id, name, foreign_server, owner) VALUES (1000001, 'regress_t', '-', 10)$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.server SET mode = 'magic' WHERE server_id = 1000001$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.server SET state = 'asleep' WHERE server_id = 1000001$$);
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.server SET slots = %s WHERE server_id = 1000001', s)) FROM unnest(ARRAY[-1, 10001]) AS s;
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.server SET weight = %L WHERE server_id = 1000001', w)) FROM unnest('{0,-1,1000001,NaN}'::text[]) AS w;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.server_group VALUES ('regress_g', 10), ('regress_g', 10)$$);
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.server_group VALUES (%L, 10)', n)) FROM unnest(ARRAY['', repeat('x', 201)]) AS n;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.server_health (server_id) VALUES (1000001)$$);

SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.task_limit (name, owner, max_running) VALUES ('regress_l', 10, 1), ('regress_l', 10, 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.task_limit (limit_id, name, owner, max_running) VALUES (1000001, 'a', 10, 1), (1000001, 'b', 10, 1)$$);
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.task_limit (name, owner, max_running) VALUES (%L, 10, 1)', n)) FROM unnest(ARRAY['', repeat('x', 201)]) AS n;
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.task_limit (name, owner, max_running) VALUES (%L, 10, %s)', 'l', m)) FROM unnest(ARRAY[-1, 1000001]) AS m;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.quota (role) VALUES (10), (10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.quota (role) VALUES (NULL), (NULL)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.quota (quota_id, role) VALUES (1000001, NULL), (1000001, 10)$$);
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.quota (%s) VALUES (%s)', c[1], c[2])) FROM unnest('{max_open_runs -1,max_open_runs 1000001,max_active_runs 0,max_active_runs 1000001,max_priority -1001,max_priority 1001,max_runners 0,max_runners 1001,max_log_mb 0,max_log_mb 1000001}'::text[]) AS q (said), string_to_array(q.said, ' ') AS c;

-- hooks
INSERT INTO fleet_catalog.hook (hook_id, name, owner, on_event, sql, since_event) VALUES (1000001, 'regress_h', 10, '{run_failed}', 'SELECT 1', 0);
INSERT INTO fleet_catalog.hook_state (hook_id, last_event) VALUES (1000001, 0);
INSERT INTO fleet_catalog.hook_call (hook_id, event_id, state, attempts, started_at, finished_at) VALUES (1000001, 1, 11, 1, now(), now());
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.hook (name, owner, on_event, sql, since_event) VALUES ('regress_h', 10, '{run_failed}', 'SELECT 1', 0)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.hook (hook_id, name, owner, on_event, sql, since_event) VALUES (1000001, 'h', 10, '{run_failed}', 'SELECT 1', 0)$$);
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.hook SET %s WHERE hook_id = 1000001', change)) FROM unnest(ARRAY[
    $$name = ''$$, $$name = repeat('x', 201)$$, $$on_event = '{}'$$, $$package = 'no such package'$$, $$sql = NULL$$, $$job = 'no such job', sql = NULL$$, $$job = 'j'$$,
    'retries = -1', 'retries = 101', 'max_depth = -1', 'max_depth = 10']) AS change;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.hook_state (hook_id, last_event) VALUES (1000001, 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.hook_call (hook_id, event_id, state, attempts, started_at, finished_at) VALUES (1000001, 1, 11, 1, now(), now())$$);
DELETE FROM fleet_catalog.hook_call;
DELETE FROM fleet_catalog.hook_state;
DELETE FROM fleet_catalog.hook;

-- jobs and steps
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.job (name, owner) VALUES ('regress_j', 10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.job (job_id, name, owner) VALUES (1000001, 'regress_k', 10)$$);
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.job (name, owner) VALUES (%L, 10)', n)) FROM unnest(ARRAY['', repeat('x', 201)]) AS n;
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.job SET params = %L WHERE job_id = 1000001', p)) FROM unnest('{"[]","3","null"}'::text[]) AS p;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.step (job_id, step_no, name, command) VALUES (1000009, 1, 's', 'SELECT 1')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.step (job_id, step_no, name, command) VALUES (1000001, 1, 's', 'SELECT 1')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.step (job_id, step_no, name, command) VALUES (1000001, 3, 'one', 'SELECT 1')$$);
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.step SET step_no = %s WHERE job_id = 1000001 AND step_no = 1', n)) FROM unnest(ARRAY[0, 1001]) AS n;
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.step SET %s WHERE job_id = 1000001 AND step_no = 1', change)) FROM unnest(ARRAY[
    $$name = ''$$, $$name = repeat('x', 201)$$, $$on_success = 'stop'$$, $$on_failure = 'stop'$$, 'retries = -1', 'retries = 1001', $$on_unknown = 'guess'$$,
    $$command = NULL$$, $$package = 'p'$$, $$on_success = 'goto'$$, $$success_goto = 'two'$$, $$on_failure = 'goto'$$, $$failure_goto = 'two'$$]) AS change;

-- packages, tasks, precedence constraints
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.package (name, owner) VALUES ('regress_p', 10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.package (package_id, name, owner) VALUES (1000001, 'regress_r', 10)$$);
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.package SET %s WHERE package_id = 1000001', change)) FROM unnest(ARRAY[
    $$name = ''$$, $$name = repeat('x', 201)$$, $$params = '[]'$$, $$overlap = 'perhaps'$$, $$failed_if = 'some'$$, 'priority = -1001', 'priority = 1001',
    'max_parallel = 0', 'max_parallel = 10001', $$timeout = '0'$$, $$deadline = '0'$$]) AS change;
SELECT pg_temp.breaks($$UPDATE fleet_catalog.package SET container_task = 'a' WHERE package_id = 1000001$$);
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.package (name, owner, container_of, container_task, root_id) VALUES (%s)', v)) FROM unnest(ARRAY[
    $$'c', 10, 1000009, 'a', 1000001$$, $$'c', 10, 1000001, 'a', 1000009$$, $$'c', 10, 1000001, 'a', 1000001), ('d', 10, 1000001, 'a', 1000001$$]) AS v;
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.retention (package_id, keep_days) VALUES (1000001, %s)', d)) FROM unnest(ARRAY[-2, 36501]) AS d;
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.retention (package_id, keep_failed_days) VALUES (1000001, %s)', d)) FROM unnest(ARRAY[-2, 36501]) AS d;
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.retention (package_id, keep_runs) VALUES (1000001, %s)', d)) FROM unnest(ARRAY[0, 1000001]) AS d;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.retention (package_id) VALUES (1000009)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.retention (package_id) VALUES (1000001), (1000001)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.used_key (package, run_key) VALUES ('a', 'b'), ('a', 'b')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.purge_request (purge_id) VALUES (1000001), (1000001)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.stat (stat_id, kind, since, counts) VALUES (1000001, 0, now(), '{}'), (1000001, 0, now(), '{}')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.task (package_id, task_no, name, kind, sql) VALUES (1000009, 0, 'a', 'sql', 'SELECT 1')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.task (package_id, task_no, name, kind, sql) VALUES (1000001, 0, 'z', 'sql', 'SELECT 1')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.task (package_id, task_no, name, kind, sql) VALUES (1000001, 9, 'a', 'sql', 'SELECT 1')$$);
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.task SET %s WHERE package_id = 1000002', change)) FROM unnest(ARRAY[
    'task_no = -1', $$name = ''$$, $$name = repeat('x', 201)$$, $$kind = 'magic'$$, $$params = '"text"'$$, 'throttle = -1', $$completion = 'most'$$,
    'min_share = -0.1', 'min_share = 1.1', $$min_share = 'NaN'$$, $$balance = 'fair'$$, $$join_type = 'some'$$, $$on_lost = 'cry'$$, 'retries = -1', 'retries = 1001',
    'sql = NULL', $$job = 'j'$$, $$package = 'p'$$, $$kind = 'job'$$, $$kind = 'package'$$,
    $$kind = 'job', sql = NULL, job = 'j', server = 's', on_group = 'g'$$,
    $$cost = 'c'$$, $$item_key = 'k'$$,
    $$server = 's'$$, $$on_group = 'g'$$, $$kind = 'package', sql = NULL, package = 'p', on_group = 'g'$$,
    'catch = true, final = true', $$catch = true, for_each = 'SELECT 1'$$, $$catch = true, completion = 'fail_fast'$$]) AS change;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task) VALUES (1000001, 'a', 'b')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task) VALUES (1000001, 'b', 'b')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task) VALUES (1000001, 'x', 'b')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task) VALUES (1000001, 'b', 'x')$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.precedence SET on_outcome = 'luck' WHERE package_id = 1000001$$);
-- the reference to the package cannot be broken alone: both tasks would be missing too
SAVEPOINT s;
ALTER TABLE fleet_catalog.precedence DROP CONSTRAINT precedence_package_id_from_task_fkey, DROP CONSTRAINT precedence_package_id_to_task_fkey;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task) VALUES (1000009, 'a', 'b')$$);
ROLLBACK TO s;
INSERT INTO broken VALUES ('precedence', 'precedence_package_id_fkey', '23503');

-- documents, deployments
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.definition VALUES ('00000000-0000-0000-0000-00000000000d', 'job', '{}')$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.definition SET kind = 'step' WHERE hash = '00000000-0000-0000-0000-00000000000d'$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.definition_task VALUES ('00000000-0000-0000-0000-00000000000d', 0, 'b', 'sql', NULL, NULL, false)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.received VALUES (10, '00000000-0000-0000-0000-00000000000e', '00000000-0000-0000-0000-00000000000d', 'other', '{}', '00000000-0000-0000-0000-0000000000cc')$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.received SET params = NULL WHERE hash = '00000000-0000-0000-0000-00000000000e'$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.deployment SELECT d.* FROM fleet_catalog.deployment AS d WHERE d.server_id = 1000001$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.deployment SET state = 'lost' WHERE server_id = 1000001$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.deployment SET action = 'forget' WHERE server_id = 1000001$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.job_snapshot VALUES (1000001, '1', '(0,1)', 'x', '00000000-0000-0000-0000-00000000000d')$$);

-- runs
SELECT pg_temp.breaks(format('UPDATE fleet_catalog.run SET state = %s WHERE run_id = 1000001', s)) FROM unnest(ARRAY[0, 6, 7, 8, 9, 10, 17]) AS s;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.run (run_id, package, definition, owner) VALUES (1000001, 'p', '00000000-0000-0000-0000-00000000000d', 10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.run (run_uuid, package, definition, owner) VALUES (NULL, 'p', '00000000-0000-0000-0000-00000000000d', 10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.run (run_uuid, package, definition, owner) VALUES ('00000000-0000-0000-0000-0000000000aa', 'p', '00000000-0000-0000-0000-00000000000d', 10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.run (package, definition, owner, run_key) VALUES ('regress_p', '00000000-0000-0000-0000-00000000000d', 10, 'key')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.run (package, definition, owner, restart_of) VALUES ('regress_p', '00000000-0000-0000-0000-00000000000d', 10, 1000001)$$);
SELECT pg_temp.breaks($$UPDATE fleet_catalog.run SET job = 'j' WHERE run_id = 1000001$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.job_key (job, run_key, owner, job_run_id) VALUES ('j', 'k', 10, 1), ('j', 'k', 10, 2)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at) VALUES (1000001, 0, 0, now())$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.condition_result VALUES (1000001, 0, 1, false)$$);
-- a token starts one job run, whoever sends it
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.job_run (job_run_id, job, definition, owner) VALUES (1000001, 'j', '00000000-0000-0000-0000-00000000000d', 10)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.job_run (token, job, definition, owner, parent_uuid) VALUES ('00000000-0000-0000-0000-0000000000bb', 'other', '00000000-0000-0000-0000-00000000000d', 10, '00000000-0000-0000-0000-0000000000cc')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.step_run (run_id, task_no, item, step_no, attempt, step, state, phase, first_seq, started_at) VALUES (1000001, 0, 0, 2, 1, 's', 11, 4, 1, now())$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.step_run (job_run_id, step_no, attempt, step, state, phase, first_seq, started_at) VALUES (1000001, 2, 1, 's', 11, 4, 1, now())$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.quarantine (kind, id, work, sqlstate, message) VALUES ('task', 1, 'w', 'XX000', 'm')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.quarantine (kind, id, work, sqlstate, message) VALUES ('run', 1, 'w', 'XX000', 'm'), ('run', 1, 'w', 'XX000', 'm')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.commits_itself (server_id, command_hash) VALUES (1, 1), (1, 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.cancel_request DEFAULT VALUES$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.cancel_request (run_id, job_run_id) VALUES (1, 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.skip_request (run_id, task_no, item) VALUES (1, 0, 0), (1, 0, 0)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.pause (package) VALUES ('nowhere')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.pause (on_group) VALUES ('nowhere')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.pause (run_id, on_group) VALUES (1, 'nowhere')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.pause (reason) VALUES ('one'), ('two')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.pause (pause_id, run_id) VALUES (1, 1), (1, 2)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.edit (kind, id) VALUES ('task', 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.edit (kind, id) VALUES ('job', 1), ('job', 1)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.renaming (kind, old_name, new_name) VALUES ('step', 'a', 'b')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.renaming (renaming_id, kind, old_name, new_name) VALUES (1, 'job', 'a', 'b'), (1, 'job', 'a', 'b')$$);
SELECT pg_temp.breaks(format('INSERT INTO fleet_catalog.version (version_id, package_id, job_id, version, hash, changed_by, changed_at, document) VALUES %s', v))
  FROM unnest(ARRAY[$$(1, 1000001, 1000001, 1, gen_random_uuid(), 'x', now(), '{}')$$, $$(1, NULL, NULL, 1, gen_random_uuid(), 'x', now(), '{}')$$,
                    $$(1, 1000001, NULL, 0, gen_random_uuid(), 'x', now(), '{}')$$, $$(1, 1000001, NULL, 1, gen_random_uuid(), 'x', now(), '[]')$$,
                    $$(1, 1000009, NULL, 1, gen_random_uuid(), 'x', now(), '{}')$$, $$(1, NULL, 1000009, 1, gen_random_uuid(), 'x', now(), '{}')$$,
                    $$(1, 1000001, NULL, 1, gen_random_uuid(), 'x', now(), '{}'), (1, 1000001, NULL, 2, gen_random_uuid(), 'x', now(), '{}')$$,
                    $$(1, 1000001, NULL, 1, gen_random_uuid(), 'x', now(), '{}'), (2, 1000001, NULL, 1, gen_random_uuid(), 'x', now(), '{}')$$,
                    $$(1, NULL, 1000001, 1, gen_random_uuid(), 'x', now(), '{}'), (2, NULL, 1000001, 1, gen_random_uuid(), 'x', now(), '{}')$$]) AS v;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.retry_request (request_id, run_id, task_no, item) VALUES (1, 1, 0, 0), (1, 1, 0, 0)$$);

-- learned, parents, schedules
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.duration VALUES ('regress_p', 'a', '', '', 2, 2, 2)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.parent VALUES ('00000000-0000-0000-0000-0000000000cc', 10, 2, 'q', 1)$$);
SELECT v, pg_temp.breaks('INSERT INTO fleet_catalog.schedule (schedule_id, name, package, job, cron, time_zone, since, params, missed) VALUES ' || v)
  FROM unnest(ARRAY[$$(1000001, 'a', 'regress_p', NULL, '@daily', 'UTC', now(), '{}', 'once')$$, $$(1, 'regress_s', 'regress_p', NULL, '@daily', 'UTC', now(), '{}', 'once')$$,
                    $$(1, '', 'regress_p', NULL, '@daily', 'UTC', now(), '{}', 'once')$$, $$(1, 'a', 'regress_p', 'regress_j', '@daily', 'UTC', now(), '{}', 'once')$$,
                    $$(1, 'a', 'nothing', NULL, '@daily', 'UTC', now(), '{}', 'once')$$, $$(1, 'a', NULL, 'nothing', '@daily', 'UTC', now(), '{}', 'once')$$,
                    $$(1, 'a', 'regress_p', NULL, '@daily', 'UTC', now(), '[]', 'once')$$, $$(1, 'a', 'regress_p', NULL, '@daily', 'UTC', now(), '{}', 'later')$$]) AS v;
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.schedule_state (schedule_id, last_time, fired_at) VALUES (1000001, now(), now())$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.schedule_state (schedule_id, last_time, fired_at) VALUES (-1, now(), now())$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.event (event_id, raised_at, kind) SELECT g.n, now(), 'agent_started' FROM (VALUES (1), (1)) AS g (n)$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.schedule_failure (schedule_id, scheduled_for, failed_at, sqlstate, message) VALUES (1000001, now(), now(), '22012', 'x')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.waker (owner, cron_database) VALUES (10, 'postgres')$$);
SELECT pg_temp.breaks($$INSERT INTO fleet_catalog.waker (only_row, owner, cron_database) VALUES (false, 10, 'postgres')$$);

-- what must be given: every column that is NOT NULL and has no default
SELECT format('INSERT INTO %s DEFAULT VALUES', c.oid::regclass) AS statement, pg_temp.breaks(format('INSERT INTO %s DEFAULT VALUES', c.oid::regclass)) AS first_missing
  FROM pg_class c WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind = 'r' AND c.relname NOT IN ('sentinel', 'agent', 'cancel_request', 'pause')
 ORDER BY c.relname COLLATE "C";

-- constraints, and unique indexes, that nothing above has broken
SELECT r.conrelid::regclass, r.conname, pg_get_constraintdef(r.oid) FROM pg_constraint r
 WHERE r.connamespace = 'fleet_catalog'::regnamespace AND r.contype NOT IN ('n', 't')
   AND NOT EXISTS (SELECT FROM broken b WHERE b.relation = (SELECT relname FROM pg_class WHERE oid = r.conrelid) AND b.constraint_name = r.conname)
 ORDER BY r.conrelid::regclass::text COLLATE "C", r.conname COLLATE "C";
SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND i.indisunique AND NOT EXISTS (SELECT FROM broken b WHERE b.constraint_name = c.relname)
 ORDER BY c.relname COLLATE "C";

-- what goes along: a job's steps, a package's tasks, their constraints; a renamed task keeps them
UPDATE fleet_catalog.task SET name = 'renamed' WHERE package_id = 1000001 AND name = 'a';
SELECT from_task, to_task FROM fleet_catalog.precedence WHERE package_id = 1000001;
UPDATE fleet_catalog.task SET name = 'too' WHERE package_id = 1000001 AND name = 'b';
SELECT from_task, to_task FROM fleet_catalog.precedence WHERE package_id = 1000001;
DELETE FROM fleet_catalog.task WHERE package_id = 1000001 AND name = 'too';
SELECT count(*) AS precedence FROM fleet_catalog.precedence WHERE package_id = 1000001;
DELETE FROM fleet_catalog.job WHERE job_id = 1000001;
DELETE FROM fleet_catalog.package WHERE package_id = 1000001;
SELECT (SELECT count(*) FROM fleet_catalog.step WHERE job_id = 1000001) AS steps, (SELECT count(*) FROM fleet_catalog.task WHERE package_id = 1000001) AS tasks;
ROLLBACK;
