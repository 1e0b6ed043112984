-- 60_views.sql: what users look at.
--
-- Every view shows what belongs to a role that current_user is a member of, and everything to
-- members of fleet_operator, fleet_reader and pg_monitor.  sees_all() is asked once a query.  All
-- are security barriers: no condition of a user sees a row before this one.

CREATE VIEW fleet.run WITH (security_barrier) AS
SELECT r.run_id, r.run_uuid, r.package, fleet_catalog.state_name(r.state) AS state, r.params, r.run_key, r.requested_by,
       r.queued_at, r.started_at, r.finished_at, r.message,
       pg_catalog.pg_get_userbyid(r.owner) AS owner, r.priority, r.parent_run_id, r.parent_job_run_id, r.definition
  FROM fleet_catalog.run AS r
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(r.owner, 'MEMBER');
COMMENT ON VIEW fleet.run IS 'Executions of packages';

CREATE VIEW fleet.task_run WITH (security_barrier) AS
SELECT t.run_id, d.name AS task, t.item, t.attempt::integer AS attempt, d.kind, s.name AS server, d.job,
       fleet_catalog.state_name(t.state) AS state,
       fleet_catalog.token(r.run_uuid, d.name, t.item, t.attempt::integer) AS token,
       t.params, t.sqlstate, t.message, t.row_count, t.output, t.queued_at, t.started_at,
       CASE WHEN t.state >= 11 THEN t.finished_at END AS finished_at,
       CASE WHEN t.state = 4 THEN t.finished_at END AS retry_at,
       r.package, t.task_no
  FROM fleet_catalog.task_run AS t
  JOIN fleet_catalog.run AS r ON r.run_id = t.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = t.task_no
  LEFT JOIN fleet_catalog.server AS s ON s.server_id = t.server_id
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(r.owner, 'MEMBER');
COMMENT ON VIEW fleet.task_run IS 'Tasks of the runs; one row an item where there is a for_each';

CREATE VIEW fleet.job_run WITH (security_barrier) AS
SELECT j.job_run_id, j.job, fleet_catalog.state_name(j.state) AS state, j.params, j.requested_by, j.queued_at, j.started_at, j.finished_at,
       j.sqlstate, j.message, j.row_count, j.output, j.token, j.parent_uuid,
       (SELECT p.name FROM fleet_catalog.parent AS p WHERE p.parent_uuid = j.parent_uuid ORDER BY p.last_seen DESC LIMIT 1) AS parent,
       j.acknowledged_at,
       pg_catalog.pg_get_userbyid(j.owner) AS owner, j.definition
  FROM fleet_catalog.job_run AS j
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(j.owner, 'MEMBER');
COMMENT ON VIEW fleet.job_run IS 'Executions of jobs by this server''s own agent: start_job, and what parents started here';

CREATE VIEW fleet.job_log WITH (security_barrier) AS
SELECT s.run_id, r.package, d.name AS task, s.item, v.name AS server, d.job, s.step, s.attempt::integer AS attempt,
       fleet_catalog.state_name(s.state) AS state, s.started_at, s.finished_at, s.finished_at - s.started_at AS duration,
       s.row_count, s.sqlstate, s.message, NULL::bigint AS job_run_id, s.detail, s.hint, s.context, s.output,
       s.task_attempt::integer AS task_attempt, s.step_no::integer AS step_no
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND ((SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(r.owner, 'MEMBER'))
UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, j.job, s.step, s.attempt::integer,
       fleet_catalog.state_name(s.state), s.started_at, s.finished_at, s.finished_at - s.started_at,
       s.row_count, s.sqlstate, s.message, s.job_run_id, s.detail, s.hint, s.context, s.output,
       s.task_attempt::integer, s.step_no::integer
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
 WHERE s.job_run_id IS NOT NULL AND ((SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(j.owner, 'MEMBER'));
COMMENT ON VIEW fleet.job_log IS 'One row an attempt of a step, wherever it ran; job_run_id: of a job run of this server''s own agent';

CREATE VIEW fleet.step_run WITH (security_barrier) AS
SELECT s.run_id, s.job_run_id, d.name AS task, s.item, s.task_attempt::integer AS task_attempt, s.step_no::integer AS step_no, s.step,
       s.attempt::integer AS attempt, fleet_catalog.state_name(s.state) AS state, v.name AS server, s.backend_pid, s.xid,
       s.row_count, s.started_at, s.finished_at, s.sqlstate, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  LEFT JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server AS v ON v.server_id = s.server_id
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(coalesce(r.owner, j.owner), 'MEMBER');
COMMENT ON VIEW fleet.step_run IS 'Attempts of steps as they are stored: also where they ran, in which session and transaction';

-- The start and end of a step are lines of the log too; they are derived from its row.
CREATE VIEW fleet.log WITH (security_barrier) AS
SELECT l.run_id, d.name AS task, l.item, v.name AS server,
       (SELECT s.step FROM fleet_catalog.step_run AS s
         WHERE s.run_id = l.run_id AND s.task_no = l.task_no AND s.item = l.item AND s.first_seq < l.seq
         ORDER BY s.first_seq DESC LIMIT 1) AS step,
       l.seq, l.logged_at, l.level, l.sqlstate, l.message, NULL::bigint AS job_run_id, l.detail, l.hint, l.context
  FROM fleet_catalog.log_line AS l
  JOIN fleet_catalog.run AS r ON r.run_id = l.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = l.task_no
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = l.run_id AND t.task_no = l.task_no AND t.item = l.item
  LEFT JOIN fleet_catalog.server AS v ON v.server_id = t.server_id
 WHERE l.run_id IS NOT NULL AND ((SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(r.owner, 'MEMBER'))
UNION ALL
SELECT s.run_id, d.name, s.item, v.name, s.step, e.seq, e.logged_at, e.level, e.sqlstate, e.message, NULL, e.detail, e.hint, e.context
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server AS v ON v.server_id = s.server_id,
       LATERAL (SELECT s.first_seq, s.started_at, 'INFO', NULL, 'step "' || s.step || '" started', NULL, NULL, NULL
                 UNION ALL
                SELECT s.last_seq, s.finished_at, CASE s.state WHEN 11 THEN 'INFO' ELSE 'ERROR' END, s.sqlstate,
                       CASE WHEN s.state <> 11 AND s.message IS NOT NULL THEN s.message
                            ELSE 'step "' || s.step || '" ' || fleet_catalog.state_name(s.state) END,
                       s.detail, s.hint, s.context
                 WHERE s.last_seq IS NOT NULL) AS e (seq, logged_at, level, sqlstate, message, detail, hint, context)
 WHERE s.run_id IS NOT NULL AND ((SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(r.owner, 'MEMBER'))
UNION ALL
SELECT NULL, NULL, NULL, NULL,
       (SELECT s.step FROM fleet_catalog.step_run AS s
         WHERE s.job_run_id = l.job_run_id AND s.first_seq < l.seq ORDER BY s.first_seq DESC LIMIT 1),
       l.seq, l.logged_at, l.level, l.sqlstate, l.message, l.job_run_id, l.detail, l.hint, l.context
  FROM fleet_catalog.log_line AS l
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = l.job_run_id
 WHERE l.job_run_id IS NOT NULL AND ((SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(j.owner, 'MEMBER'))
UNION ALL
SELECT NULL, NULL, NULL, NULL, s.step, e.seq, e.logged_at, e.level, e.sqlstate, e.message, s.job_run_id, e.detail, e.hint, e.context
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id,
       LATERAL (SELECT s.first_seq, s.started_at, 'INFO', NULL, 'step "' || s.step || '" started', NULL, NULL, NULL
                 UNION ALL
                SELECT s.last_seq, s.finished_at, CASE s.state WHEN 11 THEN 'INFO' ELSE 'ERROR' END, s.sqlstate,
                       CASE WHEN s.state <> 11 AND s.message IS NOT NULL THEN s.message
                            ELSE 'step "' || s.step || '" ' || fleet_catalog.state_name(s.state) END,
                       s.detail, s.hint, s.context
                 WHERE s.last_seq IS NOT NULL) AS e (seq, logged_at, level, sqlstate, message, detail, hint, context)
 WHERE s.job_run_id IS NOT NULL AND ((SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(j.owner, 'MEMBER'));
COMMENT ON VIEW fleet.log IS 'What steps said, with their starts and ends; seq counts from 1 within a task of a run (or a job run), without gaps';

-- Pieces of work: a task, or each item of a for_each in its place once there are any.
CREATE VIEW fleet.progress WITH (security_barrier) AS
SELECT r.run_id, r.package, c.total, c.done, c.failed, c.running, c.total - c.done - c.failed - c.running AS queued,
       CASE WHEN r.started_at IS NOT NULL THEN coalesce(r.finished_at, pg_catalog.clock_timestamp()) - r.started_at END AS elapsed,
       CASE WHEN r.state < 11 AND c.work_done > 0 THEN
           pg_catalog.clock_timestamp()
           + (pg_catalog.clock_timestamp() - r.started_at) * ((c.work - c.work_done) / c.work_done) END AS eta,
       fleet_catalog.state_name(r.state) AS state
  FROM fleet_catalog.run AS r,
       LATERAL (SELECT count(*) AS total,
                       count(*) FILTER (WHERE p.state IN (11, 14)) AS done,
                       count(*) FILTER (WHERE p.state IN (12, 13, 15, 16)) AS failed,
                       count(*) FILTER (WHERE p.state IN (2, 3, 5)) AS running,
                       sum(p.weight) AS work,
                       sum(p.weight) FILTER (WHERE p.state >= 11) AS work_done
                  FROM (SELECT coalesce(t.state, 1) AS state, coalesce(pg_catalog.exp(l.log_mean) / 1e6, 1) AS weight
                          FROM fleet_catalog.definition_task AS d
                          LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id AND t.task_no = d.task_no
                          LEFT JOIN fleet_catalog.duration AS l ON l.package = r.package AND l.task = d.name AND l.item_key = '' AND l.job = ''
                         WHERE d.hash = r.definition
                           AND (t.item IS NULL OR t.item > 0 OR NOT d.for_each
                                OR NOT EXISTS (SELECT FROM fleet_catalog.task_run AS i
                                                WHERE i.run_id = r.run_id AND i.task_no = d.task_no AND i.item = 1))) AS p) AS c
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(r.owner, 'MEMBER');
COMMENT ON VIEW fleet.progress IS 'How far each run is, and when it should end (by learned durations where there are any)';

-- ---- servers -----------------------------------------------------------------------------------

CREATE VIEW fleet.server_status WITH (security_barrier) AS
SELECT s.name AS server, s.mode,
       CASE WHEN s.state = 'online' AND h.status = 'suspect' THEN 'suspect' ELSE s.state END AS state,
       s.slots, coalesce(b.busy, 0) AS busy, s.groups, h.last_seen,
       CASE WHEN (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(s.owner, 'MEMBER') THEN h.last_error END AS last_error,
       h.version, h.last_error_at, pg_catalog.exp(coalesce(h.speed_log, 0)) AS speed
  FROM fleet_catalog.server AS s
  LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.srvname = s.name
  LEFT JOIN fleet_catalog.server_health AS h ON h.server_id = s.server_id
  LEFT JOIN (SELECT t.server_id, count(*) AS busy
               FROM fleet_catalog.run AS r JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id
              WHERE r.state < 11 AND t.state IN (2, 3, 5) AND t.server_id IS NOT NULL
              GROUP BY t.server_id) AS b ON b.server_id = s.server_id
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(s.owner, 'MEMBER')
    OR pg_catalog.has_server_privilege(f.oid, 'USAGE');
COMMENT ON VIEW fleet.server_status IS 'Servers of the fleet: online, draining, offline, or suspect (does not answer), and what they do now';

CREATE VIEW fleet.server WITH (security_barrier) AS
SELECT s.server_id, s.name AS server, s.mode, s.state, s.slots, s.groups, s.weight, pg_catalog.pg_get_userbyid(s.owner) AS owner,
       w.fdwname AS wrapper, f.srvoptions AS options
  FROM fleet_catalog.server AS s
  LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.srvname = s.name
  LEFT JOIN pg_catalog.pg_foreign_data_wrapper AS w ON w.oid = f.srvfdw
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(s.owner, 'MEMBER')
    OR pg_catalog.has_server_privilege(f.oid, 'USAGE');
COMMENT ON VIEW fleet.server IS 'Servers of the fleet, as defined; passwords are in the user mappings';

CREATE VIEW fleet.deployment AS
SELECT d.server, d.job, d.state, d.drift, d.hash, d.owner, d.requested_at, d.deployed_at, d.message
  FROM fleet_link.deployment_list() AS d;
COMMENT ON VIEW fleet.deployment IS 'Which version of a job each server has; drift: the definition here is another one by now';

-- ---- definitions -------------------------------------------------------------------------------

CREATE VIEW fleet.job WITH (security_barrier) AS
SELECT j.name AS job, pg_catalog.pg_get_userbyid(j.owner) AS owner, j.description, j.params, j.leaves_clean,
       (SELECT count(*) FROM fleet_catalog.step AS s WHERE s.job_id = j.job_id) AS steps, j.deployed_from, j.changed_at
  FROM fleet_catalog.job AS j
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(j.owner, 'MEMBER');
COMMENT ON VIEW fleet.job IS 'Agent jobs defined here';

CREATE VIEW fleet.step WITH (security_barrier) AS
SELECT j.name AS job, s.step_no, s.name AS step, s.command AS sql, s.package, s.on_success, s.success_goto, s.on_failure, s.failure_goto,
       s.retries, s.retry_wait, s.retry_max AS retry_wait_max, s.retry_states AS retry_sqlstates, s.timeout, s.on_unknown, s.transactional,
       CASE WHEN s.run_as IS NOT NULL THEN pg_catalog.pg_get_userbyid(s.run_as) END AS run_as
  FROM fleet_catalog.step AS s JOIN fleet_catalog.job AS j ON j.job_id = s.job_id
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(j.owner, 'MEMBER');
COMMENT ON VIEW fleet.step IS 'Steps of the jobs';

CREATE VIEW fleet.package WITH (security_barrier) AS
SELECT p.name AS package, pg_catalog.pg_get_userbyid(p.owner) AS owner, p.description, p.params, p.overlap, p.priority,
       (SELECT count(*) FROM fleet_catalog.task AS t WHERE t.package_id = p.package_id) AS tasks, p.deployed_from, p.changed_at
  FROM fleet_catalog.package AS p
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(p.owner, 'MEMBER');
COMMENT ON VIEW fleet.package IS 'Packages defined here';

CREATE VIEW fleet.task WITH (security_barrier) AS
SELECT p.name AS package, t.task_no, t.name AS task, t.kind, t.job, t.server, t.on_group, t.sql, t.package AS nested, t.params, t.for_each,
       t.throttle, t.completion, t.min_share AS minimum_share, t.balance, t.join_type AS wait_for, t.on_lost, t.retries, t.retry_wait, t.retry_max AS retry_wait_max, t.retry_states AS retry_sqlstates, t.timeout
  FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p ON p.package_id = t.package_id
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(p.owner, 'MEMBER');
COMMENT ON VIEW fleet.task IS 'Tasks of the packages';

CREATE VIEW fleet.precedence WITH (security_barrier) AS
SELECT p.name AS package, c.from_task, c.to_task, c.on_outcome, c.condition
  FROM fleet_catalog.precedence AS c JOIN fleet_catalog.package AS p ON p.package_id = c.package_id
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(p.owner, 'MEMBER');
COMMENT ON VIEW fleet.precedence IS 'Precedence constraints between the tasks of the packages';

CREATE VIEW fleet.schedule WITH (security_barrier) AS
SELECT s.package, pg_catalog.pg_get_userbyid(s.owner) AS owner, s.cron, s.params, s.cron_db, s.cron_job
  FROM fleet_catalog.schedule AS s
 WHERE (SELECT fleet_catalog.sees_all()) OR pg_catalog.pg_has_role(s.owner, 'MEMBER');
COMMENT ON VIEW fleet.schedule IS 'Packages scheduled through pg_cron: their job number there, and in which database';
