-- What links of a parent call.  Rolled back, so that no agent is needed.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_etl;
CREATE ROLE regress_fleet_foreign;
\set p '''00000000-0000-0000-0000-00000000000a'''
\set q '''00000000-0000-0000-0000-00000000000b'''
SET ROLE regress_fleet_etl;
SELECT fleet.create_job('etl');
SELECT fleet.add_step('etl', 's', 'SELECT 1');
SELECT fleet.create_job('empty');
RESET ROLE;
SELECT fleet.create_job('private');
SELECT fleet.add_step('private', 's', 'SELECT 1');
SET ROLE regress_fleet_etl;
SELECT fleet_link.agent_hello(1, NULL, 1, 'x');
SELECT fleet_link.agent_hello(3, :p, 1, 'x');
SELECT fleet_link.agent_hello(1, :p, 1, 'x');
BEGIN;
SELECT agent_protocol, extension_version, instance IS NOT NULL AS instance, system_identifier <> 0 AS system, timeline FROM fleet_link.agent_hello(2, :p, 7, 'parent');
SELECT agent_protocol FROM fleet_link.agent_hello(2, :p, 7, 'parent');
SELECT agent_protocol FROM fleet_link.agent_hello(2, :p, 8, 'parent');
SELECT agent_protocol FROM fleet_link.agent_hello(2, :q, 1, 'other');
-- starting: each token once; one bad element does not fail the others
SELECT ord, job_run_id IS NOT NULL AS started, known, sqlstate, message FROM fleet_link.agent_start(:p, 8,
    ARRAY['00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000002', '00000000-0000-0000-0000-000000000003',
          '00000000-0000-0000-0000-000000000004', NULL, '00000000-0000-0000-0000-000000000001']::uuid[],
    ARRAY['etl', 'nothing', 'private', 'empty', 'etl', 'etl'], ARRAY['{"a": 1}', '{}', '{}', '{}', '{}', '{}']::jsonb[]);
SELECT ord, known FROM fleet_link.agent_start(:p, 8, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[], ARRAY['etl'], NULL);
SELECT ord, job_run_id, sqlstate, message FROM fleet_link.agent_start(:q, 1, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[], ARRAY['etl'], ARRAY['{}']::jsonb[]);
SELECT job, state, params, owner, parent FROM fleet.job_run;
-- a job that came along: by its hash, and as whatever role has sent it
SAVEPOINT sent;
\set document '{"name": "sent", "params": {"p": 1}, "packages": {}, "steps": [{"name": "s", "step_no": 1, "command": "SELECT 1", "on_success": "next", "on_failure": "quit_failure", "retries": 0, "retry_wait_us": 1, "retry_max_us": 1, "on_unknown": "fail", "single": true}]}'
SELECT :'document'::jsonb::text AS document \gset
SELECT encode(substr(sha256(convert_to(:'document', 'UTF8')), 1, 16), 'hex')::uuid AS hash \gset
SELECT ord, job_run_id, sqlstate, message FROM fleet_link.agent_start(:p, 8, ARRAY['00000000-0000-0000-0000-000000000021']::uuid[], ARRAY['sent'], NULL, NULL, ARRAY[:'hash']::uuid[]);
SELECT fleet_link.agent_document(:p, 8, :'hash', :'document');
SELECT ord, job_run_id IS NOT NULL AS started, known, sqlstate, message, definition FROM fleet_link.agent_start(:p, 8,
    ARRAY['00000000-0000-0000-0000-000000000021', '00000000-0000-0000-0000-000000000022']::uuid[], ARRAY['sent', 'sent'], ARRAY['{"p": 2}', NULL]::jsonb[], NULL, ARRAY[:'hash', :'hash']::uuid[]);
-- by the slower way: one by hash, one by name, one that is not there, one of another name
SELECT ord, job_run_id IS NOT NULL AS started, known, sqlstate, message, definition IS NOT NULL AS defined FROM fleet_link.agent_start(:p, 8,
    ARRAY['00000000-0000-0000-0000-000000000021', '00000000-0000-0000-0000-000000000023', '00000000-0000-0000-0000-000000000024', '00000000-0000-0000-0000-000000000025']::uuid[],
    ARRAY['sent', 'etl', 'sent', 'etl'], NULL, NULL, ARRAY[:'hash', NULL, '00000000-0000-0000-0000-000000000001', :'hash']::uuid[]);
SELECT job, definition = :'hash' AS by_hash, owner, params FROM fleet.job_run WHERE job = 'sent' ORDER BY job_run_id;
SELECT ord, definition = :'hash' AS by_hash FROM fleet_link.agent_resume(:p, 8, ARRAY['00000000-0000-0000-0000-000000000021']::uuid[]);
SAVEPOINT wrong;
SELECT fleet_link.agent_document(:p, 7, :'hash', :'document');
ROLLBACK TO wrong;
SELECT fleet_link.agent_document(:p, 8, '00000000-0000-0000-0000-000000000001', '{}');
ROLLBACK TO wrong;
SELECT fleet_link.agent_document(:p, 8, NULL, '{}');
ROLLBACK TO sent;
SELECT ord, job_run_id IS NOT NULL AS there, state FROM fleet_link.agent_resume(:p, 8, ARRAY['00000000-0000-0000-0000-000000000009', '00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT ord, job_run_id IS NOT NULL AS there, state FROM fleet_link.agent_resume(:q, 1, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
-- what the agent would write
RESET ROLE;
SELECT max(job_run_id) AS id FROM fleet_catalog.job_run \gset
UPDATE fleet_catalog.job_run SET state = 12, log_seq = 4, sqlstate = '22012', message = 'division by zero', started_at = '2026-01-01 00:00+00', finished_at = '2026-01-01 00:01+00' WHERE job_run_id = :id;
INSERT INTO fleet_catalog.step_run (job_run_id, step_no, attempt, state, phase, first_seq, last_seq, started_at, finished_at, step, sqlstate, message, detail)
VALUES (:id, 1, 1, 11, 4, 1, 2, '2026-01-01 00:00+00', '2026-01-01 00:00:10+00', 's', NULL, NULL, NULL),
       (:id, 2, 1, 12, 4, 3, 5, '2026-01-01 00:00:10+00', '2026-01-01 00:01+00', 't', '22012', 'division by zero', 'a detail');
INSERT INTO fleet_catalog.log_line (job_run_id, step_no, seq, logged_at, level, sqlstate, message) VALUES (:id, 2, 4, '2026-01-01 00:00:30+00', 'NOTICE', '00000', 'half');
SET LOCAL ROLE regress_fleet_etl;
SELECT kind, step_no, attempt, state, first_seq, last_seq, step, level, sqlstate, message, detail, seq FROM fleet_link.agent_fetch(:p, 8, ARRAY[:id]::bigint[], ARRAY[0]);
SELECT kind, step_no, first_seq, last_seq, seq FROM fleet_link.agent_fetch(:p, 8, ARRAY[:id]::bigint[], ARRAY[4]);
SELECT count(*) FROM fleet_link.agent_fetch(:q, 1, ARRAY[:id]::bigint[], ARRAY[0]);
SELECT seq, step, level, sqlstate, message FROM fleet.log WHERE job_run_id = :id ORDER BY seq;
SELECT job, step, attempt, state, duration, sqlstate, message FROM fleet.job_log WHERE job_run_id = :id ORDER BY step_no;
-- a step that goes on is told each time: its end is to come; what ended is told once
RESET ROLE;
SAVEPOINT going;
UPDATE fleet_catalog.job_run SET state = 3, finished_at = NULL, log_seq = 6 WHERE job_run_id = :id;
INSERT INTO fleet_catalog.step_run (job_run_id, step_no, attempt, state, phase, first_seq, last_seq, started_at, step) VALUES (:id, 3, 1, 3, 2, 6, NULL, '2026-01-01 00:01+00', 'u');
SET LOCAL ROLE regress_fleet_etl;
SELECT kind, step_no, state, first_seq, last_seq, seq FROM fleet_link.agent_fetch(:p, 8, ARRAY[:id]::bigint[], ARRAY[6]);
SELECT kind, step_no, state, first_seq, last_seq, seq FROM fleet_link.agent_fetch(:p, 8, ARRAY[:id]::bigint[], ARRAY[5]);
SELECT kind, step_no, state, first_seq, last_seq, seq FROM fleet_link.agent_fetch(:p, 8, ARRAY[:id]::bigint[], NULL);
-- and is not acknowledged before it ended
SELECT fleet_link.agent_acknowledge(:p, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT state, acknowledged_at IS NOT NULL AS acknowledged FROM fleet.job_run WHERE job_run_id = :id;
ROLLBACK TO going;
SET LOCAL ROLE regress_fleet_etl;
SELECT fleet_link.agent_cancel(:p, 8, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT fleet_link.agent_acknowledge(:q, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT acknowledged_at IS NOT NULL AS acknowledged FROM fleet.job_run WHERE job_run_id = :id;
SELECT fleet_link.agent_acknowledge(:p, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT acknowledged_at IS NOT NULL AS acknowledged FROM fleet.job_run WHERE job_run_id = :id;
-- somebody else sees and stops nothing of it, and cannot fence it
SET LOCAL ROLE regress_fleet_foreign;
SELECT agent_protocol FROM fleet_link.agent_hello(2, :p, 1000000, 'thief');
SET LOCAL ROLE regress_fleet_etl;
SELECT count(*) FROM fleet_link.agent_fetch(:p, 8, ARRAY[:id]::bigint[], ARRAY[0]);
SET LOCAL ROLE regress_fleet_foreign;
SELECT ord, job_run_id FROM fleet_link.agent_resume(:p, 1000000, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT count(*) FROM fleet_link.agent_fetch(:p, 1000000, ARRAY[:id]::bigint[], ARRAY[0]);
SELECT ord, job_run_id FROM fleet_link.agent_resume(:p, 1000000, ARRAY['00000000-0000-0000-0000-000000000001']::uuid[]);
SELECT ord, job_run_id, sqlstate FROM fleet_link.agent_start(:p, 1000000, ARRAY['00000000-0000-0000-0000-000000000011']::uuid[], ARRAY['etl'], ARRAY['{}']::jsonb[]);
-- an old epoch
SET LOCAL ROLE regress_fleet_etl;
SAVEPOINT s;
SELECT fleet_link.agent_hello(2, :p, 7, 'old');
ROLLBACK TO s;
SELECT fleet_link.agent_hello(2, '00000000-0000-0000-0000-00000000000d', -1, 'never');
ROLLBACK TO s;
SELECT fleet_link.agent_start(:p, 7, '{}', '{}', '{}');
ROLLBACK TO s;
SELECT fleet_link.agent_cancel(:p, 7, '{}');
ROLLBACK TO s;
SELECT fleet_link.agent_fetch(:p, 7, '{}', '{}');
ROLLBACK TO s;
SELECT fleet_link.agent_resume('00000000-0000-0000-0000-00000000000c', 7, '{}');
ROLLBACK;

-- deployment: a job travels with its package, and comes out the same
SET ROLE regress_fleet_etl;
SELECT fleet.create_package('ship', params => '{"region": null}');
SELECT fleet.add_task('ship', 'a', sql => 'SELECT 1', retries => 2, retry_wait => '90s', retry_sqlstates => '{40,!40P01}');
SELECT fleet.add_task('ship', 'b', sql => 'SELECT 2', after => '{a}', for_each => 'SELECT 1', timeout => '1h 30min', transactional => true);
SELECT fleet.create_job('ship');
SELECT fleet.add_step('ship', 'one', package => 'ship', timeout => '2h', success_goto => 'three');
SELECT fleet.add_step('ship', 'two', 'VACUUM', transactional => false);
SELECT fleet.add_step('ship', 'three', 'SELECT 1', failure_goto => 'two', retries => 3, run_as => 'regress_fleet_etl');
RESET ROLE;
SELECT fleet_catalog.job_body('ship', '{}') AS document \gset
SET ROLE regress_fleet_etl;
BEGIN;
SELECT agent_protocol FROM fleet_link.agent_hello(2, :p, 7, 'parent');
SAVEPOINT s;
SELECT fleet_link.agent_deploy(:p, 7, :'document');
ROLLBACK TO s;
SELECT fleet.drop_job('ship'), fleet.drop_package('ship');
SELECT fleet_link.agent_deploy(:p, 7, :'document');
SELECT fleet_link.agent_deploy(:p, 7, :'document');
SELECT job, owner, deployed_from = :p AS deployed FROM fleet.job WHERE job = 'ship';
RESET ROLE;
SELECT fleet_catalog.job_body('ship', '{}') = :'document' AS same;
SET LOCAL ROLE regress_fleet_foreign;
SELECT agent_protocol FROM fleet_link.agent_hello(2, :p, 7, 'parent');
SAVEPOINT s;
SELECT fleet_link.agent_deploy(:p, 7, :'document');
ROLLBACK TO s;
SELECT fleet_link.agent_deploy(:p, 7, '{"name": "x"}');
ROLLBACK TO s;
SELECT fleet_link.agent_deploy(:p, 7, '3');
ROLLBACK TO s;
SELECT fleet_link.agent_deploy(:p, 6, :'document');
ROLLBACK TO s;
-- a role that is not there, or not the caller's
SELECT fleet_link.agent_deploy(:p, 7, jsonb_set(:'document'::jsonb - 'packages', '{name}', '"other"') || '{"packages": {}}');
ROLLBACK TO s;
SELECT fleet_link.agent_deploy(:p, 7, jsonb_set(jsonb_set(:'document'::jsonb, '{name}', '"other"'), '{steps,2,run_as}', '"nobody_here"') || '{"packages": {}}');
ROLLBACK;
RESET ROLE;
SELECT fleet.drop_job(j) FROM unnest('{ship,etl,empty,private}'::text[]) AS j;
SELECT fleet.drop_package('ship');
-- the token, computed by hand
SELECT fleet_catalog.token('00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-00000000000a', 'task ü', 3, 2)
     = encode(substr(sha256(convert_to('00000000-0000-0000-0000-00000000000b/00000000-0000-0000-0000-00000000000a/task ü/3/2', 'UTF8')), 1, 16), 'hex')::uuid AS same,
       fleet_catalog.token('00000000-0000-0000-0000-00000000000b', '00000000-0000-0000-0000-00000000000a', 'task', 0, 0) IS NULL AS none_before_the_first;
DROP ROLE regress_fleet_etl, regress_fleet_foreign;
