-- What the views show, of rows in every state, and to whom.  The rows are written here as the agent
-- writes them, and rolled back, so that no agent is needed.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_mine;
CREATE ROLE regress_fleet_team;
CREATE ROLE regress_fleet_member;
CREATE ROLE regress_fleet_none;
CREATE ROLE regress_fleet_reads;
CREATE ROLE regress_fleet_operates;
CREATE ROLE regress_fleet_monitors;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO regress_fleet_mine;
GRANT regress_fleet_mine TO regress_fleet_member;
GRANT fleet_reader TO regress_fleet_reads;
GRANT fleet_operator TO regress_fleet_operates;
GRANT pg_monitor TO regress_fleet_monitors;

BEGIN;
SET LOCAL ROLE regress_fleet_mine;
SELECT fleet.create_package('seen', params => '{"a": 1}', priority => 3, description => 'all states');
SELECT fleet.create_job('work', params => '{"p": 1}', description => 'works', leaves_clean => true);
SELECT fleet.add_step('work', 'one', 'SELECT 1', retries => 1);
SELECT fleet.add_step('work', 'two', 'SELECT 2', run_as => 'regress_fleet_mine');
SELECT fleet.add_server('regress_v1', 'host=192.0.2.1', password => 'canary', slots => 3, groups => '{g,h}', weight => 2) > 0;
SELECT fleet.add_server('regress_v2', 'host=192.0.2.2', password => 'canary', mode => 'direct', groups => '{g}') > 0;
SELECT fleet.add_task('seen', t, sql => 'SELECT 1') FROM unnest('{queued,starting,running,retrying,canceling,succeeded,failed,canceled,skipped,lost,unknown}'::text[]) WITH ORDINALITY AS u (t, n) ORDER BY n;
SELECT fleet.add_task('seen', 'each', job => 'work', on_group => 'g', for_each => 'SELECT 1', params => '{"p": 2}');
SELECT fleet.add_precedence('seen', 'queued', 'starting', on_outcome => 'completion', condition => 'true');
SELECT fleet.run_parent_package('seen', params => '{"a": 2}', run_key => 'key') AS run \gset
SELECT fleet.start_job('work') AS job_run \gset
RESET ROLE;
INSERT INTO fleet_catalog.schedule (schedule_id, name, package, cron, time_zone, params, params_sql, missed, enabled, since) VALUES (-1, 'at one', 'seen', '0 1 * * *', 'Asia/Tokyo', '{"a": 3}', '''{}''', 'skip', false, '2026-01-01');
INSERT INTO fleet_catalog.schedule_state (schedule_id, last_time, fired_at, run_id) VALUES (-1, '2026-01-02 03:00+00', '2026-01-02 03:00:01+00', 7);
INSERT INTO fleet_catalog.schedule_failure (schedule_id, scheduled_for, failed_at, failures, sqlstate, message) VALUES (-1, '2026-01-03 03:00+00', '2026-01-03 03:00:01+00', 2, '22012', 'division by zero');
SELECT server_id AS v1 FROM fleet_catalog.server WHERE name = 'regress_v1' \gset
SELECT server_id AS v2 FROM fleet_catalog.server WHERE name = 'regress_v2' \gset
INSERT INTO fleet_catalog.deployment (server_id, job, owner, hash, document, state, message) VALUES (:v1, 'work', 'regress_fleet_mine', '00000000-0000-0000-0000-00000000000d', '{}', 'failed', 'no room');
UPDATE fleet_catalog.run SET state = 3, started_at = '2026-01-01 00:00+00', queued_at = '2026-01-01 00:00+00' WHERE run_id = :run;
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, attempt, server_id, started_at, finished_at, row_count, sqlstate, message, output)
SELECT :run, n - 1, 0, '2026-01-01 00:00+00', s, CASE WHEN s = 1 THEN 0 ELSE 2 END, CASE WHEN s IN (3, 5) THEN :v1::int WHEN s = 2 THEN :v2::int END,
       CASE WHEN s <> 1 THEN timestamptz '2026-01-01 00:01+00' END, CASE WHEN s > 10 OR s = 4 THEN timestamptz '2026-01-01 00:02+00' END,
       s, CASE WHEN s > 11 THEN '22012' END, CASE WHEN s > 11 THEN 'message ' || s END, 'output ' || s
  FROM unnest(ARRAY[1, 2, 3, 4, 5, 11, 12, 13, 14, 15, 16]) WITH ORDINALITY AS u (s, n);
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, state, attempt, server_id, params, started_at, finished_at) VALUES
    (:run, 11, 0, '2026-01-01 00:00+00', 3, 0, NULL, NULL, '2026-01-01 00:01+00', NULL),
    (:run, 11, 1, '2026-01-01 00:00+00', 11, 1, :v1, '{"i": 1}', '2026-01-01 00:01+00', '2026-01-01 00:03+00'),
    (:run, 11, 2, '2026-01-01 00:00+00', 3, 1, :v2, '{"i": 2}', '2026-01-01 00:01+00', NULL);
INSERT INTO fleet_catalog.step_run (run_id, task_no, item, started_at, first_seq, server_id, task_attempt, step_no, attempt, step, backend_pid, xid, state, phase, last_seq, finished_at, row_count, sqlstate, message, detail, hint, context, output) VALUES
    (:run, 11, 1, '2026-01-01 00:01+00', 1, :v1, 1, 1, 1, 'one', 4711, 815, 12, 4, 3, '2026-01-01 00:01:30+00', 7, '22012', 'division by zero', 'a detail', 'a hint', 'a context', 'out'),
    (:run, 11, 1, '2026-01-01 00:01:31+00', 4, :v1, 1, 1, 2, 'one', 4711, 816, 11, 4, 6, '2026-01-01 00:02+00', 8, NULL, NULL, NULL, NULL, NULL, 'out 2'),
    (:run, 11, 2, '2026-01-01 00:01+00', 1, :v2, 1, 1, 1, 'one', 4712, NULL, 16, 4, 2, '2026-01-01 00:01:30+00', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (:run, 11, 2, '2026-01-01 00:01:31+00', 3, :v2, 1, 2, 1, 'two', 4712, NULL, 3, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO fleet_catalog.log_line (run_id, task_no, item, step_no, seq, logged_at, level, sqlstate, message, detail, hint, context) VALUES
    (:run, 11, 1, 1, 2, '2026-01-01 00:01:10+00', 'NOTICE', '00000', 'in the first', 'd', 'h', 'c'),
    (:run, 11, 1, 1, 5, '2026-01-01 00:01:40+00', 'WARNING', '01F01', 'in the second', NULL, NULL, NULL),
    (:run, 11, 2, 2, 4, '2026-01-01 00:01:40+00', 'INFO', '00000', 'still runs', NULL, NULL, NULL);
UPDATE fleet_catalog.job_run SET state = 12, step_no = 1, log_seq = 3, sqlstate = '22012', row_count = 9, started_at = '2026-01-01 00:00+00', finished_at = '2026-01-01 00:01+00',
       queued_at = '2026-01-01 00:00+00', message = 'division by zero', output = 'o', token = '00000000-0000-0000-0000-00000000000e', parent_uuid = '00000000-0000-0000-0000-00000000000f'
 WHERE job_run_id = :job_run;
INSERT INTO fleet_catalog.parent (parent_uuid, role, epoch, name, protocol, last_seen) VALUES
    ('00000000-0000-0000-0000-00000000000f', 'regress_fleet_mine', 1, 'newer', 1, '2026-01-02'), ('00000000-0000-0000-0000-00000000000f', 10, 1, 'older', 1, '2026-01-01');
INSERT INTO fleet_catalog.step_run (job_run_id, started_at, first_seq, step_no, attempt, step, state, phase, last_seq, finished_at, row_count, sqlstate, message, detail, hint, context) VALUES
    (:job_run, '2026-01-01 00:00+00', 1, 1, 1, 'one', 12, 4, 3, '2026-01-01 00:00:20+00', 9, '22012', 'division by zero', 'jd', 'jh', 'jc');
INSERT INTO fleet_catalog.log_line (job_run_id, step_no, seq, logged_at, level, sqlstate, message) VALUES (:job_run, 1, 2, '2026-01-01 00:00:10+00', 'NOTICE', '00000', 'of the job');
INSERT INTO fleet_catalog.quarantine (kind, id, ends, work, sqlstate, message) VALUES
    ('run', :run, 2, 'work_event', '22012', 'division by zero'), ('job run', :job_run, 4, 'work_write', '22012', 'division by zero'),
    ('deployment', (SELECT deployment_id FROM fleet_catalog.deployment WHERE job = 'work' AND server_id = :v1), 3, 'work_deployed', 'XX000', 'no');
INSERT INTO fleet_catalog.server_health (server_id, status, last_seen, last_error, last_error_at, version, speed_log) VALUES
    (:v1, 'suspect', '2026-01-01 00:00+00', 'does not answer', '2026-01-01 00:01+00', '15.1', 0), (:v2, 'up', '2026-01-01 00:00+00', NULL, NULL, '16.2', ln(2));

INSERT INTO fleet_catalog.stat (stat_id, kind, package, owner, server_id, since, counts)
SELECT 1000000 + u.kind, u.kind, u.package, u.owner::regrole, u.server, '2026-01-01 00:00+00', ARRAY(SELECT n FROM generate_series(1, 79) AS n)
  FROM (VALUES (1, 'seen', 'regress_fleet_mine', NULL), (3, NULL, NULL, :v1)) AS u (kind, package, owner, server);

-- a token is computed; there is none before the first attempt
INSERT INTO fleet_catalog.identity (system_identifier, database) VALUES (1, 1) ON CONFLICT DO NOTHING;
SELECT task, item, t.token = fleet_catalog.token((SELECT secret FROM fleet_catalog.identity), r.run_uuid, task, item, attempt) AS same_token, t.token IS NULL AS none FROM fleet.task_run t JOIN fleet.run r USING (run_id) WHERE item > 0 OR task IN ('queued', 'starting') ORDER BY task_no, item;

-- what the owner sees
SET LOCAL ROLE regress_fleet_mine;
SELECT package, state, params, run_key, queued_at, started_at, finished_at, message, owner, priority, parent_run_id, parent_job_run_id FROM fleet.run;
SELECT task, item, attempt, kind, server, job, state, params FROM fleet.task_run ORDER BY task_no, item;
SELECT task, item, sqlstate, message, row_count, output, queued_at, started_at, finished_at, retry_at FROM fleet.task_run ORDER BY task_no, item;
SELECT package, task, item, server, job, step, attempt, state, started_at, finished_at, duration, row_count, sqlstate, message FROM fleet.job_log WHERE run_id = :run ORDER BY item, started_at;
SELECT detail, hint, context, output, task_attempt, step_no, job_run_id FROM fleet.job_log WHERE run_id = :run ORDER BY item, started_at;
SELECT run_id, package, task, item, server, job, step, attempt, state, duration, row_count, sqlstate, message, detail, hint, context FROM fleet.job_log WHERE job_run_id = :job_run;
SELECT task, item, task_attempt, step_no, step, attempt, state, server, backend_pid, xid, row_count, started_at, finished_at, sqlstate, message FROM fleet.step_run WHERE run_id = :run ORDER BY item, started_at;
SELECT run_id IS NULL AS no_run, task, step, state, message, detail, hint, context FROM fleet.step_run WHERE job_run_id = :job_run;
SELECT task, item, server, step, seq, logged_at, level, sqlstate, message, detail, hint, context FROM fleet.log WHERE run_id = :run ORDER BY item, seq;
SELECT task, item, server, step, seq, logged_at, level, sqlstate, message, detail, hint, context FROM fleet.log WHERE job_run_id = :job_run ORDER BY seq;
SELECT job, state, params, queued_at, started_at, finished_at, sqlstate, message, row_count, output, token, parent_uuid, parent, acknowledged_at, owner FROM fleet.job_run;
SELECT package, total, done, failed, canceled, running, queued, elapsed > '1 day' AS long, eta > now() AS later, state FROM fleet.progress;
SELECT server, mode, state, slots, busy, groups, last_seen, last_error, version, last_error_at, speed FROM fleet.server_status WHERE server LIKE 'regress%' ORDER BY 1;
SELECT server, mode, state, slots, groups, weight, owner, wrapper, options FROM fleet.server WHERE server LIKE 'regress%' ORDER BY 1;
SELECT server, job, state, drift, owner, message FROM fleet.deployment;
SELECT job, owner, description, params, leaves_clean, steps, deployed_from FROM fleet.job;
SELECT job, step_no, step, sql, retries, run_as FROM fleet.step ORDER BY job, step_no;
SELECT package, owner, description, params, overlap, priority, tasks FROM fleet.package;
SELECT package, task_no, task, kind, job, server, on_group, nested, params, for_each FROM fleet.task WHERE task_no > 9 ORDER BY task_no;
SELECT package, from_task, to_task, on_outcome, condition FROM fleet.precedence;
SELECT name, package, job, owner, cron, time_zone, enabled, next_time, last_time, last_run_id, last_job_run_id, missed, failures, failed_for, sqlstate, message, params, params_sql FROM fleet.schedule;
\x on
SELECT s.*, s.wait_buckets[14] = (SELECT sum(n) FROM generate_series(43, 56) AS n) AS added_up FROM fleet.stat AS s ORDER BY s.scope;
SELECT * FROM fleet.stat_server WHERE server LIKE 'regress%';
\x off
SELECT kind, run_id = :run AS run, job_run_id = :job_run AS job_run, server, job, quarantined, ends, work, sqlstate, message FROM fleet.quarantine ORDER BY ends;
RESET ROLE;
-- what counts no longer; a server in quarantine
UPDATE fleet_catalog.quarantine SET last_at = last_at - interval '61 minutes' WHERE kind = 'job run';
SELECT kind, quarantined FROM fleet.quarantine ORDER BY ends;
SELECT server, state, last_error FROM fleet.server_status WHERE server LIKE 'regress%' ORDER BY 1;
INSERT INTO fleet_catalog.quarantine (kind, id, ends, work, sqlstate, message) VALUES ('server', :v2, 3, 'work_link', 'XX000', 'no');
SELECT server, state, last_error FROM fleet.server_status WHERE server LIKE 'regress%' ORDER BY 1;
DELETE FROM fleet_catalog.quarantine WHERE kind = 'server';

-- a run that ended is 100 % over: nothing is left to wait for, and its time stands still
UPDATE fleet_catalog.run SET state = 12, finished_at = '2026-01-01 01:00+00' WHERE run_id = :run;
SELECT elapsed, eta, state FROM fleet.progress WHERE run_id = :run;
-- recent: the first task that failed, by when it failed; what has succeeded tells of none
SELECT package, state, started, duration, done, failed_task, message FROM fleet.recent WHERE run_id = :run;
UPDATE fleet_catalog.task_run SET finished_at = '2026-01-01 00:01:30+00', state = 15, message = E'lost\n' || repeat('m', 100) WHERE run_id = :run AND item = 2;
SELECT package, state, started, duration, done, failed_task, message FROM fleet.recent WHERE run_id = :run;
UPDATE fleet_catalog.task_run SET state = 1 WHERE run_id = :run;
UPDATE fleet_catalog.run SET message = 'it could not be started' WHERE run_id = :run;
SELECT failed_task, message FROM fleet.recent WHERE run_id = :run;
UPDATE fleet_catalog.run SET state = 11 WHERE run_id = :run;
SELECT failed_task, message FROM fleet.recent WHERE run_id = :run;
SELECT server, busy FROM fleet.server_status WHERE server LIKE 'regress%' ORDER BY 1;
UPDATE fleet_catalog.server SET state = 'draining' WHERE name = 'regress_v1';
SELECT server, state FROM fleet.server_status WHERE server LIKE 'regress%' ORDER BY 1;

-- none is believed to be so dear, before anything is known of the tables, that the just-in-time compiler would take seconds for it
CREATE FUNCTION pg_temp.cost_of(query text) RETURNS double precision LANGUAGE plpgsql AS $$
DECLARE
    v_plan json;
BEGIN
    EXECUTE 'EXPLAIN (FORMAT JSON) ' || query INTO v_plan;
    RETURN v_plan -> 0 -> 'Plan' ->> 'Total Cost';
END
$$;
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'fleet'::regnamespace AND c.relkind = 'v' AND pg_temp.cost_of(format('SELECT * FROM fleet.%I', c.relname)) > current_setting('jit_above_cost')::float8
 ORDER BY 1;

-- nothing of a run that has ended is open
UPDATE fleet_catalog.run SET state = 3, finished_at = NULL WHERE run_id = :run;
-- who sees how many rows of each view
CREATE FUNCTION pg_temp.rows() RETURNS TABLE (view name, n bigint) LANGUAGE plpgsql AS $$
DECLARE
    v_view name;
BEGIN
    FOR v_view IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'fleet'::regnamespace AND c.relkind = 'v' AND c.relname NOT IN ('event', 'stat', 'stat_server') /* the agent writes some at any time */ ORDER BY c.relname COLLATE "C" LOOP
        EXECUTE format('SELECT %L::name, count(*) FROM fleet.%I', v_view, v_view) INTO view, n;
        RETURN NEXT;
    END LOOP;
END
$$;
CREATE TEMP TABLE counted (who text, view name, n bigint);
GRANT INSERT ON counted TO PUBLIC;
SELECT 'SET LOCAL ROLE ' || r || '; INSERT INTO counted SELECT current_user, * FROM pg_temp.rows()'
  FROM unnest('{regress_fleet_mine,regress_fleet_member,regress_fleet_none,regress_fleet_reads,regress_fleet_operates,regress_fleet_monitors}'::text[]) r \gexec
RESET ROLE;
SELECT view, max(n) FILTER (WHERE who LIKE '%mine') AS mine, max(n) FILTER (WHERE who LIKE '%member') AS member, max(n) FILTER (WHERE who LIKE '%none') AS none,
       max(n) FILTER (WHERE who LIKE '%reads') AS reads, max(n) FILTER (WHERE who LIKE '%operates') AS operates, max(n) FILTER (WHERE who LIKE '%monitors') AS monitors
  FROM counted GROUP BY view ORDER BY view COLLATE "C";

-- the newest of many runs: no more rows are read than are shown, and nothing is sorted
INSERT INTO fleet_catalog.run (package, definition, owner, state)
SELECT 'many', '00000000-0000-0000-0000-00000000000c', 'regress_fleet_mine', 11 FROM generate_series(1, 20000);
ANALYZE fleet_catalog.run;
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    v_line text;
BEGIN
    FOR v_line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
        IF v_line ~ '\y(run_pkey|run_open|on run|Sort Key: r)\y' THEN
            RETURN NEXT substring(v_line, '[A-Z].*');
        END IF;
    END LOOP;
END
$$;
SET LOCAL ROLE regress_fleet_mine;
SELECT pg_temp.plan_of('SELECT * FROM fleet.recent LIMIT 20');
SELECT pg_temp.plan_of('SELECT * FROM fleet.recent WHERE run_id = 1');
SELECT count(*) AS shown, min(done) AS done, max(failed_task) AS failed_task FROM (SELECT * FROM fleet.recent LIMIT 20) r;
RESET ROLE;
-- runs that have not ended are found by their index, through the names of the states
SELECT pg_temp.plan_of('SELECT FROM fleet_catalog.run AS r WHERE NOT fleet_catalog.is_final(r.state)');

-- USAGE on the server lets one see it, but not what its owner was told by it
GRANT USAGE ON FOREIGN SERVER regress_v1 TO regress_fleet_none;
SET LOCAL ROLE regress_fleet_none;
SELECT server, state, last_error, last_error_at IS NOT NULL AS when FROM fleet.server_status;
SELECT server, owner FROM fleet.server;
-- reading changes nothing: nobody writes through a view
SAVEPOINT s;
DELETE FROM fleet.schedule;
ROLLBACK TO s;
ROLLBACK;
REVOKE USAGE ON FOREIGN DATA WRAPPER pg_fleet FROM regress_fleet_mine;
DROP ROLE regress_fleet_mine, regress_fleet_team, regress_fleet_member, regress_fleet_none, regress_fleet_reads, regress_fleet_operates, regress_fleet_monitors;
