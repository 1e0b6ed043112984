-- Rows of every table of version 0.2.0 and of those after it, with a value in every column: test/t/034_upgrade.pl looks
-- for both.  Written straight into the tables, as a superuser, so that no agent is needed.
--
-- A version that adds a table or a column brings a new file of this kind, which holds from that version on.

INSERT INTO fleet_catalog.identity (system_identifier, database, paused_reason, pg_major, secret)
SELECT s.system_identifier, d.oid, 'none yet', 14, '00000000-0000-0000-0000-0000000000e0' FROM pg_control_system() AS s, pg_database AS d WHERE d.datname = current_database();
UPDATE fleet_catalog.agent SET started_at = '2026-01-01 00:00+00', last_sqlstate = '57P01', last_error = 'it ended', last_error_at = '2026-01-01 00:00+00';

INSERT INTO fleet_catalog.server (server_id, name, foreign_server, former_names, named_at, mode, state, slots, weight, groups, made_here, owner)
VALUES (1, 'kept server', '-', '{older}', '2026-01-01 00:00+00', 'direct', 'draining', 7, 2.5, '{g,"h i"}', true, current_user::regrole);
INSERT INTO fleet_catalog.server_group (name, owner, named_at) VALUES ('kept group', current_user::regrole, '2026-01-01 00:00+00');
INSERT INTO fleet_catalog.task_limit (limit_id, name, owner, max_running, shared, description, former_names) VALUES (1, 'kept limit', current_user::regrole, 3, false, 'a limit', '{older}');
INSERT INTO fleet_catalog.quota (quota_id, role, max_open_runs, max_active_runs, max_priority, max_runners, max_log_mb) VALUES (1, current_user::regrole, 900, 30, 200, 6, 2000);
INSERT INTO fleet_catalog.former_server (server_id, name, owner, removed_at, is_last) VALUES (9, 'gone', current_user::regrole, '2026-01-01 00:00+00', false);
INSERT INTO fleet_catalog.server_health (server_id, status, last_seen, last_error, last_error_at, version, system_identifier, timeline,
                                         crash_mark, speed_log, speed_evidence)
VALUES (1, 'suspect', '2026-01-01 00:00+00', 'does not answer', '2026-01-01 00:01+00', '15.1', 7, 2, '3 4 5', 0.25, 9);

INSERT INTO fleet_catalog.commits_itself (server_id, command_hash) VALUES (0, 17), (1, -17);

INSERT INTO fleet_catalog.job (job_id, name, owner, description, params, leaves_clean, deployed_from)
VALUES (1, 'kept job', current_user::regrole, 'a job', '{"p": 1}', true, NULL),
       (2, 'deployed job', current_user::regrole, '', '{}', false, '00000000-0000-0000-0000-00000000000a');
INSERT INTO fleet_catalog.step (job_id, step_no, name, command, package, on_success, success_goto, on_failure, failure_goto, retries,
                                retry_wait, retry_max, retry_states, timeout, on_unknown, transactional, single, run_as)
VALUES (1, 1, 'one', 'SELECT 1', NULL, 'goto', 'two', 'goto', 'two', 3, '1s', '1min', '{40,!40001}', '1h', 'retry', true, true, current_user::regrole),
       (1, 2, 'two', NULL, 'kept', 'next', NULL, 'next', NULL, 0, '5s', '5min', NULL, NULL, 'fail', NULL, false, NULL);

INSERT INTO fleet_catalog.package (package_id, name, owner, description, params, overlap, priority, deployed_from, max_parallel, timeout, deadline)
VALUES (1, 'kept', current_user::regrole, 'a package', '{"p": 2}', 'skip', 5, NULL, NULL, NULL, NULL),
       (2, 'deployed', current_user::regrole, '', '{}', 'parallel', 0, '00000000-0000-0000-0000-00000000000a', 3, '1h', '2h');
INSERT INTO fleet_catalog.package (package_id, name, owner, container_of, container_task, root_id)
VALUES (3, 'deployed/in', current_user::regrole, 2, 'in', 2);
INSERT INTO fleet_catalog.retention (package_id, keep_days, keep_runs, keep_failed_days) VALUES (1, 7, 8, 9);
INSERT INTO fleet_catalog.task (package_id, task_no, name, kind, job, server, on_group, sql, package, params, for_each, cost, item_key, throttle, completion,
                                min_share, balance, join_type, on_lost, retries, retry_wait, retry_max, retry_states, timeout, transactional, limits)
VALUES (1, 0, 'first', 'sql', NULL, NULL, NULL, 'SELECT fleet.param(''p'')', NULL, '{"q": 3}', 'SELECT jsonb_build_object(''n'', 1)', 'n', 'n', 2, 'minimum_share',
        0.5, 'weighted', 'any', 'retry', 4, '2s', '2min', '{40}', '2h', true, '{kept limit}'),
       (1, 1, 'second', 'sql', NULL, NULL, NULL, 'SELECT 2', NULL, '{}', NULL, NULL, NULL, 0, 'continue', 1, 'shortest_finish', 'all', 'fail', 0, '5s', '5min', NULL, NULL, NULL, '{}'),
       (2, 0, 'there', 'job', 'kept job', 'kept server', NULL, NULL, NULL, '{}', NULL, NULL, NULL, 0, 'continue', 1, 'shortest_finish', 'all', 'fail', 0, '5s', '5min', NULL, NULL, NULL, '{}'),
       (2, 1, 'somewhere', 'job', 'kept job', NULL, 'g', NULL, NULL, '{}', NULL, NULL, NULL, 0, 'continue', 1, 'shortest_finish', 'all', 'fail', 0, '5s', '5min', NULL, NULL, NULL, '{}'),
       (2, 2, 'nested', 'package', NULL, NULL, NULL, NULL, 'kept', '{}', NULL, NULL, NULL, 0, 'continue', 1, 'shortest_finish', 'all', 'fail', 0, '5s', '5min', NULL, NULL, NULL, '{}'),
       (2, 3, 'in', 'package', NULL, NULL, NULL, NULL, 'deployed/in', '{}', NULL, NULL, NULL, 0, 'continue', 1, 'shortest_finish', 'all', 'fail', 0, '5s', '5min', NULL, NULL, NULL, '{}'),
       (3, 0, 'inside', 'sql', NULL, NULL, NULL, 'SELECT 3', NULL, '{}', NULL, NULL, NULL, 0, 'continue', 1, 'shortest_finish', 'all', 'fail', 0, '5s', '5min', NULL, NULL, NULL, '{}');
INSERT INTO fleet_catalog.precedence (package_id, from_task, to_task, on_outcome, condition) VALUES (1, 'first', 'second', 'completion', 'true');

INSERT INTO fleet_catalog.version (package_id, job_id, version, hash, changed_by, changed_at, document)
VALUES (1, NULL, 1, '00000000-0000-0000-0000-0000000000c1', 'somebody', '2026-01-01 00:00+00', '{"tasks": []}'),
       (NULL, 1, 3, '00000000-0000-0000-0000-0000000000c2', 'somebody', '2026-01-02 00:00+00', '{"steps": []}');
INSERT INTO fleet_catalog.renaming (kind, package, old_name, new_name) VALUES ('task', 'kept', 'before', 'first');
INSERT INTO fleet_catalog.definition (hash, kind, body, version)
VALUES ('00000000-0000-0000-0000-0000000000d1', 'package', '{"name": "kept"}', 1), ('00000000-0000-0000-0000-0000000000d2', 'job', '{"name": "kept job"}', NULL);
INSERT INTO fleet_catalog.definition_task (hash, task_no, name, kind, job, package, for_each, job_hash, limits)
VALUES ('00000000-0000-0000-0000-0000000000d1', 0, 'first', 'sql', NULL, NULL, true, NULL, '{kept limit}'),
       ('00000000-0000-0000-0000-0000000000d1', 1, 'second', 'job', 'kept job', NULL, false, '00000000-0000-0000-0000-0000000000d2', NULL),
       ('00000000-0000-0000-0000-0000000000d1', 2, 'third', 'package', NULL, 'kept', false, NULL, NULL);
INSERT INTO fleet_catalog.received (role, hash, definition, job, params, parent_uuid)
VALUES (current_user::regrole, '00000000-0000-0000-0000-0000000000d2', '00000000-0000-0000-0000-0000000000d2', 'kept job', '{"p": 7}', '00000000-0000-0000-0000-00000000000a');
INSERT INTO fleet_catalog.deployment (server_id, job, owner, hash, document, state, message, deployed_at)
VALUES (1, 'kept job', current_user::regrole, '00000000-0000-0000-0000-0000000000d2', '{}', 'failed', 'no room', '2026-01-01 00:00+00');

-- runs that have ended
INSERT INTO fleet_catalog.run (run_id, package, job, job_run_id, definition, owner, state, scheduled_for, hook_depth) VALUES (9, '', 'kept job', 99, '00000000-0000-0000-0000-0000000000d1', current_user::regrole, 11, '2026-01-01 00:00+00', 1);
INSERT INTO fleet_catalog.job_key (job, run_key, owner, job_run_id, uses) VALUES ('kept job', 'key', current_user::regrole, 99, 2);
INSERT INTO fleet_catalog.run (run_id, package, definition, owner, state, priority, params, run_key, parent_run_id, parent_task_no, parent_item,
                               parent_job_run_id, started_at, finished_at, message, restart_of, restart_unknown, restart_definition, restart_from)
VALUES (1, 'kept', '00000000-0000-0000-0000-0000000000d1', current_user::regrole, 12, 5, '{"p": 4}', 'key', NULL, NULL, NULL, NULL,
        '2026-01-01 00:00+00', '2026-01-01 00:01+00', 'task "first" failed', NULL, NULL, NULL, NULL),
       (2, 'kept', '00000000-0000-0000-0000-0000000000d1', current_user::regrole, 11, 0, '{}', NULL, 1, 2, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
       (3, 'kept', '00000000-0000-0000-0000-0000000000d1', current_user::regrole, 11, 0, '{}', NULL, NULL, NULL, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
       (4, 'kept', '00000000-0000-0000-0000-0000000000d1', current_user::regrole, 11, 0, '{}', 'key', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 'run', 'same', 'first');
INSERT INTO fleet_catalog.run (run_id, package, definition, owner, state, package_id, max_parallel, replaces, run_at, timeout, deadline, deadline_after, timed_out,
                               expected_late_at, late_at)
VALUES (5, 'kept', '00000000-0000-0000-0000-0000000000d1', current_user::regrole, 12, 1, 1, true, '2026-01-01 00:00+00', '1min', '2026-01-01 00:01+00', '1h', true,
        '2026-01-01 00:00:30+00', '2026-01-01 00:01+00');
INSERT INTO fleet_catalog.task_run (run_id, task_no, item, queued_at, params, item_key, cost, log_seq, state, attempt, failures, server_id, started_at, finished_at,
                                    row_count, sqlstate, message, output, carried_from, definition)
VALUES (1, 0, 1, '2026-01-01 00:00+00', '{"n": 1}', '1', 1, 2, 12, 3, 2, 1, '2026-01-01 00:00:01+00', '2026-01-01 00:00:02+00', 8, '22012', 'division by zero', 'out', 7,
        '00000000-0000-0000-0000-0000000000d2');
INSERT INTO fleet_catalog.condition_result (run_id, from_task, to_task, holds) VALUES (1, 0, 1, true);
INSERT INTO fleet_catalog.job_run (job_run_id, job, definition, owner, state, parent_uuid, step_no, attempt, step_runs, log_seq, sqlstate, row_count,
                                   started_at, finished_at, acknowledged_at, params, message, output, parent_role, context, hook_depth)
VALUES (1, 'kept job', '00000000-0000-0000-0000-0000000000d2', current_user::regrole, 12, '00000000-0000-0000-0000-00000000000a', 1, 2, 3, 4, '22012', 5,
        '2026-01-01 00:00+00', '2026-01-01 00:01+00', '2026-01-01 00:02+00', '{"p": 5}', 'division by zero', 'out', current_user::regrole, '{"run_id": 6}', 1);
INSERT INTO fleet_catalog.step_run (run_id, job_run_id, started_at, task_no, item, first_seq, server_id, task_attempt, step_no, attempt, step, backend_pid,
                                    xid, server_system, server_timeline, server_crash, state, phase, last_seq, finished_at, row_count, sqlstate,
                                    message, detail, hint, context, output)
VALUES (1, NULL, '2026-01-01 00:00+00', 0, 1, 1, 1, 3, 1, 1, 'one', 4711, 815, 7, 2, '3 4 5', 12, 4, 3, '2026-01-01 00:00:30+00', 7, '22012', 'division by zero',
        'a detail', 'a hint', 'a context', 'out'),
       (NULL, 1, '2026-01-01 00:00+00', NULL, NULL, 1, NULL, 1, 1, 1, 'one', NULL, NULL, NULL, NULL, NULL, 11, 4, 2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO fleet_catalog.log_line (run_id, job_run_id, task_no, item, step_no, seq, logged_at, level, sqlstate, message, detail, hint, context)
VALUES (1, NULL, 0, 1, 1, 2, '2026-01-01 00:00:10+00', 'NOTICE', '00000', 'of the run', 'd', 'h', 'c'),
       (NULL, 1, NULL, NULL, 1, 2, '2026-01-01 00:00:10+00', 'WARNING', '01000', 'of the job run', NULL, NULL, NULL);
INSERT INTO fleet_catalog.cancel_request (run_id, job_run_id) VALUES (1, NULL), (NULL, 1);
INSERT INTO fleet_catalog.skip_request (run_id, task_no, item, reason) VALUES (1, 0, 0, 'why not');
INSERT INTO fleet_catalog.pause (run_id, package, on_group, reason) VALUES (1, NULL, NULL, 'why not'), (NULL, 'deployed', NULL, 'why not'), (NULL, NULL, 'kept group', 'why not');
INSERT INTO fleet_catalog.retry_request (run_id, task_no, item) VALUES (1, 0, 0);
INSERT INTO fleet_catalog.quarantine (kind, id, ends, work, sqlstate, message) VALUES ('deployment', 1, 2, 'work_deployed', '22012', 'division by zero');
INSERT INTO fleet_catalog.quarantine_lift (kind, id) VALUES ('server', 1);

INSERT INTO fleet_catalog.duration (package, task, item_key, job, log_mean, log_spread, samples, seen_at) VALUES ('kept', 'first', 'k', 'kept job', 14.5, 0.5, 6, '2026-01-01 00:00+00');
INSERT INTO fleet_catalog.purged (run_id, job_run_id) VALUES (77, NULL), (NULL, 78);
INSERT INTO fleet_catalog.used_key (package, run_key, uses) VALUES ('kept', 'of last year', 3);
INSERT INTO fleet_catalog.stat (stat_id, kind, package, owner, server_id, since, counts) VALUES (1, 1, 'kept', current_user::regrole, NULL, '2026-01-01 00:00+00', array_fill(3::bigint, '{79}')), (2, 3, NULL, NULL, 1, '2026-01-01 00:00+00', array_fill(4::bigint, '{79}'));
INSERT INTO fleet_catalog.stat_reset (requested_by, requested_at) VALUES ('somebody', '2026-01-01 00:00+00');
INSERT INTO fleet_catalog.purge_request (before, requested_by) VALUES ('2020-01-01 00:00+00', 'somebody');
INSERT INTO fleet_catalog.parent (parent_uuid, role, epoch, name, protocol) VALUES ('00000000-0000-0000-0000-00000000000a', current_user::regrole, 9, 'north', 1);
INSERT INTO fleet_catalog.job_snapshot (job_id, writer, place, owner, hash)
SELECT j.job_id, j.xmin, j.ctid, j.owner::text, '00000000-0000-0000-0000-0000000000d2' FROM fleet_catalog.job AS j WHERE j.job_id = 1;
INSERT INTO fleet_catalog.schedule (schedule_id, name, package, cron, time_zone, params, params_sql, missed, enabled, since)
VALUES (1, 'kept', 'kept', '0 2 * * *', 'Europe/Berlin', '{"p": 6}', '''{}''', 'all', true, '2026-01-01 00:00+00');
INSERT INTO fleet_catalog.schedule (schedule_id, name, job, cron, time_zone, since) VALUES (2, 'of a job', 'kept job', '@daily', 'UTC', '2026-01-01 00:00+00');
INSERT INTO fleet_catalog.schedule_state (schedule_id, last_time, fired_at, run_id, job_run_id) VALUES (1, '2026-01-02 01:00+00', '2026-01-02 01:00+00', 77, NULL), (2, '2026-01-02 00:00+00', '2026-01-02 00:00+00', NULL, 78);
INSERT INTO fleet_catalog.schedule_failure (schedule_id, scheduled_for, failed_at, failures, sqlstate, message) VALUES (1, '2026-01-03 01:00+00', '2026-01-03 01:00+00', 2, '22012', 'division by zero');
INSERT INTO fleet_catalog.hook (hook_id, name, owner, on_event, package, sql, retries, retry_wait, timeout, max_age, max_depth, enabled, since_event)
VALUES (1, 'kept', current_user::regrole, '{run_failed}', 'kept', 'SELECT 1', 5, '1s', '1min', '1h', 2, false, 7);
INSERT INTO fleet_catalog.hook (hook_id, name, owner, on_event, job, since_event) VALUES (2, 'of a job', current_user::regrole, '{run_late}', 'kept job', 8);
INSERT INTO fleet_catalog.hook_state (hook_id, last_event, failures, sqlstate, message, failed_at, called, cuts) VALUES (1, 9, 2, '22012', 'division by zero', '2026-01-01 00:00+00', 10, 1);
INSERT INTO fleet_catalog.hook_call (hook_id, event_id, state, attempts, started_at, finished_at, sqlstate, message)
VALUES (1, 1, 12, 2, '2026-01-01 00:00+00', '2026-01-01 00:01+00', '22012', 'division by zero');
INSERT INTO fleet_catalog.event (event_id, raised_at, run_id, item, server_id, owner, kind, package, task, server, sqlstate, message, hook_depth)
VALUES (1, '2026-01-01 00:00+00', 1, 0, 1, current_user::regrole, 'task_failed', 'kept', 'first', 'north', '22012', 'division by zero', 2),
       (2, '2026-01-01 00:01+00', NULL, NULL, NULL, NULL, 'agent_started', NULL, NULL, NULL, NULL, NULL, 0);
INSERT INTO fleet_catalog.waker (owner, cron_database) VALUES (current_user::regrole, 'postgres');

-- What the sequences have given out.
SELECT pg_catalog.setval('fleet_catalog.server_server_id_seq', 11), pg_catalog.setval('fleet_catalog.job_job_id_seq', 12),
       pg_catalog.setval('fleet_catalog.package_package_id_seq', 13), pg_catalog.setval('fleet_catalog.run_run_id_seq', 14),
       pg_catalog.setval('fleet_catalog.job_run_job_run_id_seq', 15);
