-- 60_views.sql: what users look at.
--
-- Every view shows what belongs to a role that current_user is a member of, and everything to
-- members of fleet_operator, fleet_reader and pg_monitor: fleet_catalog.is_visible().  All are
-- security barriers: no condition of a user sees a row before this one.
--
-- What is read first comes first and fits into 100 columns of a terminal; wide texts come last.

-- A run that is queued, besides a pause: its time, or runs of its package that run; null: its turn.
CREATE VIEW fleet_catalog.run_waits AS
SELECT q.run_id, CASE WHEN q.run_at > pg_catalog.clock_timestamp() THEN pg_catalog.format('its time, %s', q.run_at)
                      WHEN o.n >= l.most AND l.most > 0
                      THEN pg_catalog.format(CASE o.n WHEN 1 THEN 'run %s of package "%s"' ELSE 'one of the runs %s of package "%s"' END,
                                             o.first || CASE WHEN o.n > 5 THEN ', ...' ELSE '' END, q.package) END AS waiting_for
  FROM fleet_catalog.run AS q,
       LATERAL (SELECT coalesce((SELECT fleet_catalog.parallel_limit(p.overlap, p.max_parallel) FROM fleet_catalog.package AS p
                                  WHERE p.package_id = q.package_id), q.max_parallel) AS most) AS l,
       LATERAL (SELECT count(*) AS n, pg_catalog.string_agg(b.run_id::text, ', ' ORDER BY b.run_id) FILTER (WHERE b.rank <= 5) AS first
                  FROM (SELECT r.run_id, pg_catalog.row_number() OVER (ORDER BY r.run_id) AS rank FROM fleet_catalog.run AS r
                         WHERE r.package_id = q.package_id AND r.state < 11 AND r.state > fleet_catalog.state_code('queued')) AS b) AS o
 WHERE q.state = fleet_catalog.state_code('queued');
COMMENT ON VIEW fleet_catalog.run_waits IS 'What runs that are queued wait for, besides the ends of pauses';

-- A task that is queued while its run is not, if neither a pause nor a server is what it waits for.  Not its items, of which there may be
-- a million that no statistics know of yet: the planner joins few rows in a loop, and here they must be few.
CREATE VIEW fleet_catalog.task_waits AS
SELECT q.run_id, q.task_no, q.item,
       CASE WHEN d.catch THEN 'a failure that it is to handle'
            WHEN d.final AND EXISTS (SELECT FROM fleet_catalog.task_run AS t JOIN fleet_catalog.definition_task AS o ON o.hash = d.hash AND o.task_no = t.task_no AND NOT o.final
                                                     WHERE t.run_id = q.run_id AND t.item = 0 AND NOT fleet_catalog.is_final(t.state)) THEN 'the other tasks'
            WHEN b.n > 0 THEN CASE b.n WHEN 1 THEN 'task ' ELSE 'tasks ' END || b.names
            END AS waiting_for
  FROM fleet_catalog.task_run AS q
  JOIN fleet_catalog.run AS r ON r.run_id = q.run_id
  JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = q.task_no,
       LATERAL (SELECT count(*) AS n, pg_catalog.string_agg(pg_catalog.format('"%s"', p.name), ', ' ORDER BY p.task_no) FILTER (WHERE p.place <= 3)
                                      || CASE WHEN count(*) > 3 THEN ', ...' ELSE '' END AS names
                  FROM (SELECT f.name, f.task_no, pg_catalog.row_number() OVER (ORDER BY f.task_no) AS place
                          FROM fleet_catalog.definition AS x, pg_catalog.jsonb_array_elements(x.body -> 'precedence') AS e
                          JOIN fleet_catalog.definition_task AS f ON f.hash = d.hash AND f.task_no = (e ->> 'from')::integer
                          JOIN fleet_catalog.task_run AS t ON t.run_id = q.run_id AND t.task_no = f.task_no AND t.item = 0
                         WHERE x.hash = d.hash AND (e ->> 'to')::integer = q.task_no AND NOT fleet_catalog.is_final(t.state)) AS p) AS b
 WHERE r.state < 11 AND q.item = 0 AND q.state = fleet_catalog.state_code('queued');
COMMENT ON VIEW fleet_catalog.task_waits IS 'For fleet.task_run: the tasks that come before a queued one and have not ended; null: none, as of all items, which wait for a free slot';

CREATE VIEW fleet.run WITH (security_barrier) AS
SELECT r.run_id, NULLIF(r.package, '') AS package, fleet_catalog.state_name(r.state) AS state, r.started_at, r.finished_at,
       r.requested_by, pg_catalog.pg_get_userbyid(r.owner) AS owner, r.queued_at, r.priority, r.run_key,
       r.parent_run_id, r.parent_job_run_id, r.restart_of, r.run_at, r.timeout, coalesce(r.deadline, r.started_at + r.deadline_after) AS deadline,
       r.expected_late_at, r.late_at,
       (SELECT p.paused_at FROM fleet_catalog.pause AS p WHERE p.run_id = r.run_id AND NOT fleet_catalog.is_final(r.state)) AS paused_at,
       (SELECT p.paused_by FROM fleet_catalog.pause AS p WHERE p.run_id = r.run_id AND NOT fleet_catalog.is_final(r.state)) AS paused_by,
       r.run_uuid, (SELECT d.version FROM fleet_catalog.definition AS d WHERE d.hash = r.definition) AS version, r.definition, r.job, r.job_run_id,
       (SELECT p.reason FROM fleet_catalog.pause AS p WHERE p.run_id = r.run_id AND NOT fleet_catalog.is_final(r.state)) AS pause_reason,
       CASE WHEN r.state = fleet_catalog.state_code('queued') THEN coalesce((SELECT w.waiting_for FROM fleet_catalog.run_waits AS w WHERE w.run_id = r.run_id),
                (SELECT p.said FROM fleet_catalog.pause_said AS p
                  WHERE p.run_id = r.run_id OR p.package = r.package AND r.parent_run_id IS NULL AND r.parent_job_run_id IS NULL
                     OR pg_catalog.num_nonnulls(p.run_id, p.package, p.on_group) = 0 LIMIT 1), 'its turn') END AS waiting_for,
       r.scheduled_for, r.params, r.message
  FROM fleet_catalog.run AS r
 WHERE fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet.run IS 'Executions of packages, and of single jobs by fleet.start_job() and fleet.execute_job(): job and job_run_id are set of these';

-- What is open, what ended otherwise than well, and what succeeded (59_found.sql); so are the following ones.
CREATE VIEW fleet.task_run WITH (security_barrier) AS
SELECT t.run_id, d.name AS task, t.item, fleet_catalog.state_name(t.state) AS state, s.name AS server, t.attempt::integer AS attempt,
       t.row_count, t.sqlstate, d.job, d.kind, t.started_at, NULL::timestamptz AS finished_at,
       CASE WHEN t.state = fleet_catalog.state_code('retrying') THEN t.finished_at END AS retry_at,
       t.queued_at, NULLIF(r.package, '') AS package, t.task_no,
       CASE WHEN t.attempt > 0 THEN coalesce(d.job_hash, t.definition) END AS job_definition,
       -- not before the server has it, where a role that knew it could take it first
       CASE WHEN t.state = fleet_catalog.state_code('running') THEN
           fleet_catalog.token((SELECT i.secret FROM fleet_catalog.identity AS i), r.run_uuid, d.name, t.item, t.attempt::integer) END AS token,
       NULL::bigint AS carried_from,
       -- of a task that has not begun, or of a for_each of which no item has, the message is what it waits for
       CASE WHEN t.state = fleet_catalog.state_code('queued')
                 AND (p.pause_id IS NOT NULL OR u.pause_id IS NOT NULL OR a.pause_id IS NOT NULL
                      OR (k.pause_id IS NOT NULL AND r.state = fleet_catalog.state_code('queued')))
            THEN coalesce(p.said, u.said, a.said, k.said)
            WHEN r.state = fleet_catalog.state_code('queued') AND t.state = r.state THEN coalesce(b.waiting_for, t.message, 'the begin of its run')
            WHEN t.state = fleet_catalog.state_code('queued')
            THEN coalesce(t.message,
                          CASE WHEN r.state = fleet_catalog.state_code('running') AND d.limits IS NOT NULL AND (t.item > 0 OR NOT d.for_each)
                               THEN fleet_catalog.limits_said((SELECT f.said FROM fleet_catalog.limits_full AS f), d.limits) END,
                          w.waiting_for, 'a free slot')
            WHEN t.state = fleet_catalog.state_code('starting')
                 OR (t.state = fleet_catalog.state_code('running') AND t.item = 0 AND d.for_each) THEN t.message END AS waiting_for,
       t.item_key, t.cost, t.params, t.message, t.output
  FROM fleet_catalog.task_run AS t
  JOIN fleet_catalog.run AS r ON r.run_id = t.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = t.task_no
  LEFT JOIN fleet_catalog.server_name AS s ON s.server_id = t.server_id
  LEFT JOIN fleet_catalog.pause_said AS p ON p.run_id = r.run_id
  LEFT JOIN fleet_catalog.pause_said AS u ON u.run_id = r.parent_run_id
  LEFT JOIN fleet_catalog.pause_said AS a ON pg_catalog.num_nonnulls(a.run_id, a.package, a.on_group) = 0
  LEFT JOIN fleet_catalog.pause_said AS k ON k.package = r.package AND r.parent_run_id IS NULL AND r.parent_job_run_id IS NULL
  -- joined, and not asked for each row: else the planner believes a look at a thousand tasks to be dear enough for the just-in-time compiler
  LEFT JOIN fleet_catalog.run_waits AS b ON b.run_id = t.run_id
  LEFT JOIN fleet_catalog.task_waits AS w ON w.run_id = t.run_id AND w.task_no = t.task_no AND w.item = t.item
 WHERE fleet_catalog.is_visible(r.owner) AND r.state < 11 AND fleet_catalog.is_open(fleet_catalog.state_name(t.state))
UNION ALL
SELECT t.run_id, d.name, t.item, fleet_catalog.state_name(t.ended_as), s.name, t.attempt::integer, t.row_count, t.sqlstate, d.job, d.kind, t.started_at, t.finished_at, NULL,
       t.queued_at, NULLIF(r.package, ''), t.task_no, CASE WHEN t.attempt > 0 THEN coalesce(d.job_hash, t.definition) END,
       fleet_catalog.token((SELECT i.secret FROM fleet_catalog.identity AS i), r.run_uuid, d.name, t.item, t.attempt::integer),
       NULL, NULL, t.item_key, t.cost, t.params, t.message, t.output
  FROM fleet_catalog.task_run AS t
  JOIN fleet_catalog.run AS r ON r.run_id = t.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = t.task_no
  LEFT JOIN fleet_catalog.server_name AS s ON s.server_id = t.server_id
 WHERE fleet_catalog.is_visible(r.owner) AND t.ended_as IS NOT NULL
UNION ALL
SELECT t.run_id, d.name, t.item, 'succeeded', s.name, t.attempt::integer, t.row_count, t.sqlstate, d.job, d.kind, t.started_at, t.finished_at, NULL,
       t.queued_at, NULLIF(r.package, ''), t.task_no, CASE WHEN t.attempt > 0 THEN coalesce(d.job_hash, t.definition) END,
       fleet_catalog.token((SELECT i.secret FROM fleet_catalog.identity AS i), r.run_uuid, d.name, t.item, t.attempt::integer),
       CASE WHEN t.attempt = 0 AND t.started_at IS NULL THEN t.carried_from END, NULL, t.item_key, t.cost, t.params, t.message, t.output
  FROM fleet_catalog.task_run AS t
  JOIN fleet_catalog.run AS r ON r.run_id = t.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = t.task_no
  LEFT JOIN fleet_catalog.server_name AS s ON s.server_id = t.server_id
 WHERE fleet_catalog.is_visible(r.owner) AND t.state = fleet_catalog.state_code('succeeded');
COMMENT ON VIEW fleet.task_run IS 'Executions of tasks; a task with a for_each has a row for itself (item 0) and one for each item';

CREATE VIEW fleet.paused WITH (security_barrier) AS
SELECT CASE WHEN p.run_id IS NOT NULL THEN 'run' WHEN p.package IS NOT NULL THEN 'package' WHEN p.on_group IS NOT NULL THEN 'group' ELSE 'everything' END AS what,
       p.run_id, coalesce(p.package, r.package) AS package, p.on_group, p.paused_at, p.paused_by, p.reason
  FROM fleet_catalog.pause AS p
  LEFT JOIN fleet_catalog.run AS r ON r.run_id = p.run_id
  LEFT JOIN fleet_catalog.package AS k ON k.name = p.package
  LEFT JOIN fleet_catalog.server_group AS g ON g.name = p.on_group
 WHERE CASE WHEN p.run_id IS NOT NULL THEN NOT fleet_catalog.is_final(r.state) AND fleet_catalog.is_visible(r.owner)
            WHEN p.package IS NOT NULL THEN fleet_catalog.is_visible(k.owner)
            WHEN p.on_group IS NOT NULL THEN fleet_catalog.is_visible(g.owner) ELSE true END;
COMMENT ON VIEW fleet.paused IS 'What is paused: runs, packages, groups of servers or everything; by whom, and why';

CREATE VIEW fleet.job_run WITH (security_barrier) AS
SELECT j.job_run_id, j.job, fleet_catalog.state_name(j.state) AS state, j.row_count, j.sqlstate, j.started_at, j.finished_at,
       j.requested_by, pg_catalog.pg_get_userbyid(j.owner) AS owner,
       (SELECT p.name FROM fleet_catalog.parent AS p WHERE p.parent_uuid = j.parent_uuid ORDER BY p.last_seen DESC LIMIT 1) AS parent,
       j.queued_at, j.acknowledged_at, j.token, j.parent_uuid, j.definition, NULL::bigint AS run_id, NULL::name AS server, j.params, j.message, j.output
  FROM fleet_catalog.job_run AS j
 WHERE fleet_catalog.is_visible(j.owner) AND j.finished_at IS NULL AND fleet_catalog.is_open(fleet_catalog.state_name(j.state))
UNION ALL
SELECT j.job_run_id, j.job, fleet_catalog.state_name(j.ended_as), j.row_count, j.sqlstate, j.started_at, j.finished_at,
       j.requested_by, pg_catalog.pg_get_userbyid(j.owner),
       (SELECT p.name FROM fleet_catalog.parent AS p WHERE p.parent_uuid = j.parent_uuid ORDER BY p.last_seen DESC LIMIT 1),
       j.queued_at, j.acknowledged_at, j.token, j.parent_uuid, j.definition, NULL::bigint, NULL::name, j.params, j.message, j.output
  FROM fleet_catalog.job_run AS j
 WHERE fleet_catalog.is_visible(j.owner) AND j.ended_as IS NOT NULL
UNION ALL
SELECT j.job_run_id, j.job, 'succeeded', j.row_count, j.sqlstate, j.started_at, j.finished_at,
       j.requested_by, pg_catalog.pg_get_userbyid(j.owner),
       (SELECT p.name FROM fleet_catalog.parent AS p WHERE p.parent_uuid = j.parent_uuid ORDER BY p.last_seen DESC LIMIT 1),
       j.queued_at, j.acknowledged_at, j.token, j.parent_uuid, j.definition, NULL::bigint, NULL::name, j.params, j.message, j.output
  FROM fleet_catalog.job_run AS j
 WHERE fleet_catalog.is_visible(j.owner) AND j.state = fleet_catalog.state_code('succeeded')
UNION ALL
-- of the run, until it has ended; then what became of the job
SELECT r.job_run_id, r.job, fleet_catalog.state_name(CASE WHEN fleet_catalog.is_final(r.state) THEN coalesce(t.state, r.state) ELSE r.state END),
       t.row_count, t.sqlstate, r.started_at, r.finished_at, r.requested_by, pg_catalog.pg_get_userbyid(r.owner), NULL,
       r.queued_at, NULL, NULL, NULL, r.definition, r.run_id, s.name, r.params, coalesce(t.message, r.message), t.output
  FROM fleet_catalog.run AS r
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id AND t.task_no = 0 AND t.item = 0
  LEFT JOIN fleet_catalog.server_name AS s ON s.server_id = t.server_id
 WHERE r.job_run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet.job_run IS 'Executions of jobs: by the agent of this database, started by start_job() or by a parent; and on servers, started by start_job() or execute_job() here, each with its run';

CREATE VIEW fleet.job_log WITH (security_barrier) AS
SELECT s.run_id, d.name AS task, s.item, v.name AS server, s.step, fleet_catalog.state_name(s.state) AS state,
       s.sqlstate, s.finished_at - s.started_at AS duration, s.attempt::integer AS attempt, s.row_count, d.job, NULLIF(r.package, '') AS package,
       s.started_at, s.finished_at, NULL::bigint AS job_run_id, s.task_attempt::integer AS task_attempt, s.step_no::integer AS step_no,
       -- what a server ran by name is known of the last attempt
       coalesce(d.job_hash, CASE WHEN t.attempt = s.task_attempt THEN t.definition END) AS job_definition,
       t.item_key, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = s.run_id AND t.task_no = s.task_no AND t.item = s.item
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner) AND r.state < 11 AND fleet_catalog.is_open(fleet_catalog.state_name(s.state))
UNION ALL
SELECT s.run_id, d.name, s.item, v.name, s.step, fleet_catalog.state_name(s.ended_as),
       s.sqlstate, s.finished_at - s.started_at, s.attempt::integer, s.row_count, d.job, NULLIF(r.package, ''),
       s.started_at, s.finished_at, NULL::bigint, s.task_attempt::integer, s.step_no::integer,
       coalesce(d.job_hash, CASE WHEN t.attempt = s.task_attempt THEN t.definition END),
       t.item_key, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = s.run_id AND t.task_no = s.task_no AND t.item = s.item
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner) AND s.ended_as IS NOT NULL
UNION ALL
SELECT s.run_id, d.name, s.item, v.name, s.step, 'succeeded',
       s.sqlstate, s.finished_at - s.started_at, s.attempt::integer, s.row_count, d.job, NULLIF(r.package, ''),
       s.started_at, s.finished_at, NULL::bigint, s.task_attempt::integer, s.step_no::integer,
       coalesce(d.job_hash, CASE WHEN t.attempt = s.task_attempt THEN t.definition END),
       t.item_key, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = s.run_id AND t.task_no = s.task_no AND t.item = s.item
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner) AND s.state = fleet_catalog.state_code('succeeded')
UNION ALL
SELECT NULL, NULL, NULL, NULL, s.step, fleet_catalog.state_name(s.state), s.sqlstate, s.finished_at - s.started_at,
       s.attempt::integer, s.row_count, j.job, NULL, s.started_at, s.finished_at, s.job_run_id, s.task_attempt::integer,
       s.step_no::integer, j.definition, NULL, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
 WHERE s.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner) AND j.finished_at IS NULL AND fleet_catalog.is_open(fleet_catalog.state_name(s.state))
UNION ALL
SELECT NULL, NULL, NULL, NULL, s.step, fleet_catalog.state_name(s.ended_as), s.sqlstate, s.finished_at - s.started_at,
       s.attempt::integer, s.row_count, j.job, NULL, s.started_at, s.finished_at, s.job_run_id, s.task_attempt::integer,
       s.step_no::integer, j.definition, NULL, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
 WHERE s.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner) AND s.ended_as IS NOT NULL
UNION ALL
SELECT NULL, NULL, NULL, NULL, s.step, 'succeeded', s.sqlstate, s.finished_at - s.started_at,
       s.attempt::integer, s.row_count, j.job, NULL, s.started_at, s.finished_at, s.job_run_id, s.task_attempt::integer,
       s.step_no::integer, j.definition, NULL, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
 WHERE s.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner) AND s.state = fleet_catalog.state_code('succeeded');
COMMENT ON VIEW fleet.job_log IS 'One row for each attempt of a step, wherever it ran; job_run_id is set for job runs of the agent of this database';

CREATE VIEW fleet.step_run WITH (security_barrier) AS
SELECT s.run_id, s.job_run_id, d.name AS task, s.item, s.step, fleet_catalog.state_name(s.state) AS state, s.attempt::integer AS attempt,
       v.name AS server, s.sqlstate, s.row_count, s.started_at, s.finished_at, s.task_attempt::integer AS task_attempt,
       s.step_no::integer AS step_no, s.backend_pid, s.xid, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner) AND r.state < 11 AND fleet_catalog.is_open(fleet_catalog.state_name(s.state))
UNION ALL
SELECT s.run_id, s.job_run_id, d.name, s.item, s.step, fleet_catalog.state_name(s.ended_as), s.attempt::integer,
       v.name, s.sqlstate, s.row_count, s.started_at, s.finished_at, s.task_attempt::integer,
       s.step_no::integer, s.backend_pid, s.xid, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner) AND s.ended_as IS NOT NULL
UNION ALL
SELECT s.run_id, s.job_run_id, d.name, s.item, s.step, 'succeeded', s.attempt::integer,
       v.name, s.sqlstate, s.row_count, s.started_at, s.finished_at, s.task_attempt::integer,
       s.step_no::integer, s.backend_pid, s.xid, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner) AND s.state = fleet_catalog.state_code('succeeded')
UNION ALL
SELECT s.run_id, s.job_run_id, NULL, s.item, s.step, fleet_catalog.state_name(s.state), s.attempt::integer,
       v.name, s.sqlstate, s.row_count, s.started_at, s.finished_at, s.task_attempt::integer,
       s.step_no::integer, s.backend_pid, s.xid, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner) AND j.finished_at IS NULL AND fleet_catalog.is_open(fleet_catalog.state_name(s.state))
UNION ALL
SELECT s.run_id, s.job_run_id, NULL, s.item, s.step, fleet_catalog.state_name(s.ended_as), s.attempt::integer,
       v.name, s.sqlstate, s.row_count, s.started_at, s.finished_at, s.task_attempt::integer,
       s.step_no::integer, s.backend_pid, s.xid, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner) AND s.ended_as IS NOT NULL
UNION ALL
SELECT s.run_id, s.job_run_id, NULL, s.item, s.step, 'succeeded', s.attempt::integer,
       v.name, s.sqlstate, s.row_count, s.started_at, s.finished_at, s.task_attempt::integer,
       s.step_no::integer, s.backend_pid, s.xid, s.message, s.detail, s.hint, s.context, s.output
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id
 WHERE s.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner) AND s.state = fleet_catalog.state_code('succeeded');
COMMENT ON VIEW fleet.step_run IS 'Attempts of steps as stored, with the server process and transaction in which each ran';

-- The start and end of a step are lines of the log too; they are derived from its row.
CREATE VIEW fleet.log WITH (security_barrier) AS
SELECT l.run_id, d.name AS task, l.item,
       (SELECT s.step FROM fleet_catalog.step_run AS s
         WHERE s.run_id = l.run_id AND s.task_no = l.task_no AND s.item = l.item AND s.first_seq < l.seq
         ORDER BY s.first_seq DESC LIMIT 1) AS step,
       l.seq, l.level, l.message, l.sqlstate, v.name AS server, l.logged_at, NULL::bigint AS job_run_id, t.item_key, l.detail, l.hint, l.context
  FROM fleet_catalog.log_line AS l
  JOIN fleet_catalog.run AS r ON r.run_id = l.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = l.task_no
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = l.run_id AND t.task_no = l.task_no AND t.item = l.item
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = t.server_id
 WHERE l.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner)
UNION ALL
SELECT s.run_id, d.name, s.item, s.step, e.seq, e.level, e.message, e.sqlstate, v.name, e.logged_at, NULL, t.item_key, e.detail, e.hint, e.context
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.run AS r ON r.run_id = s.run_id
  LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = s.task_no
  LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = s.run_id AND t.task_no = s.task_no AND t.item = s.item
  LEFT JOIN fleet_catalog.server_name AS v ON v.server_id = s.server_id,
       LATERAL (SELECT s.first_seq, s.started_at, 'INFO', NULL, 'step "' || s.step || '" started', NULL, NULL, NULL
                 UNION ALL
                SELECT s.last_seq, s.finished_at, CASE WHEN s.state = fleet_catalog.state_code('succeeded') OR (s.state = fleet_catalog.state_code('skipped') AND s.sqlstate IS NULL) THEN 'INFO' ELSE 'ERROR' END, s.sqlstate,
                       CASE WHEN s.state = fleet_catalog.state_code('skipped') AND s.sqlstate IS NULL THEN 'step "' || s.step || '" skipped' || coalesce(': ' || s.message, '')
                            WHEN s.state <> fleet_catalog.state_code('succeeded') AND s.message IS NOT NULL THEN s.message
                            ELSE 'step "' || s.step || '" ' || fleet_catalog.state_name(s.state) END,
                       s.detail, s.hint, s.context
                 WHERE s.last_seq IS NOT NULL) AS e (seq, logged_at, level, sqlstate, message, detail, hint, context)
 WHERE s.run_id IS NOT NULL AND fleet_catalog.is_visible(r.owner)
UNION ALL
SELECT NULL, NULL, NULL,
       (SELECT s.step FROM fleet_catalog.step_run AS s
         WHERE s.job_run_id = l.job_run_id AND s.first_seq < l.seq ORDER BY s.first_seq DESC LIMIT 1),
       l.seq, l.level, l.message, l.sqlstate, NULL, l.logged_at, l.job_run_id, NULL, l.detail, l.hint, l.context
  FROM fleet_catalog.log_line AS l
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = l.job_run_id
 WHERE l.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner)
UNION ALL
SELECT NULL, NULL, NULL, s.step, e.seq, e.level, e.message, e.sqlstate, NULL, e.logged_at, s.job_run_id, NULL, e.detail, e.hint, e.context
  FROM fleet_catalog.step_run AS s
  JOIN fleet_catalog.job_run AS j ON j.job_run_id = s.job_run_id,
       LATERAL (SELECT s.first_seq, s.started_at, 'INFO', NULL, 'step "' || s.step || '" started', NULL, NULL, NULL
                 UNION ALL
                SELECT s.last_seq, s.finished_at, CASE WHEN s.state = fleet_catalog.state_code('succeeded') OR (s.state = fleet_catalog.state_code('skipped') AND s.sqlstate IS NULL) THEN 'INFO' ELSE 'ERROR' END, s.sqlstate,
                       CASE WHEN s.state = fleet_catalog.state_code('skipped') AND s.sqlstate IS NULL THEN 'step "' || s.step || '" skipped' || coalesce(': ' || s.message, '')
                            WHEN s.state <> fleet_catalog.state_code('succeeded') AND s.message IS NOT NULL THEN s.message
                            ELSE 'step "' || s.step || '" ' || fleet_catalog.state_name(s.state) END,
                       s.detail, s.hint, s.context
                 WHERE s.last_seq IS NOT NULL) AS e (seq, logged_at, level, sqlstate, message, detail, hint, context)
 WHERE s.job_run_id IS NOT NULL AND fleet_catalog.is_visible(j.owner);
COMMENT ON VIEW fleet.log IS 'Messages of steps, with the start and end of each; seq counts from 1, without gaps, within a task of a run or a job run';

-- Pieces of work: a task, or each item of a for_each in its place once there are any.
CREATE VIEW fleet_catalog.run_progress AS
SELECT r.run_id, coalesce(r.job, r.package) AS package, r.definition, r.owner, r.state, r.started_at, r.finished_at, r.message, c.total, c.done, c.failed, c.canceled,
       c.running, c.work, c.work_done
  FROM fleet_catalog.run AS r,
       LATERAL (SELECT count(*) AS total,
                       count(*) FILTER (WHERE fleet_catalog.is_done(p.state)) AS done,
                       count(*) FILTER (WHERE p.state IN (fleet_catalog.state_code('failed'), fleet_catalog.state_code('lost'),
                                                          fleet_catalog.state_code('unknown'))) AS failed,
                       count(*) FILTER (WHERE p.state = fleet_catalog.state_code('canceled')) AS canceled,
                       count(*) FILTER (WHERE fleet_catalog.is_running(p.state)) AS running,
                       sum(p.weight) AS work,
                       sum(p.weight) FILTER (WHERE fleet_catalog.is_final(p.state)) AS work_done
                  FROM (SELECT coalesce(t.state, fleet_catalog.state_code('queued')) AS state,
                               coalesce(pg_catalog.exp(l.log_mean) / 1e6, 1) AS weight
                          FROM fleet_catalog.definition_task AS d
                          LEFT JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id AND t.task_no = d.task_no
                          LEFT JOIN fleet_catalog.duration AS l ON l.package = r.package AND l.task = d.name AND l.item_key = '' AND l.job = ''
                         WHERE d.hash = r.definition
                           AND (t.item IS NULL OR t.item > 0 OR NOT d.for_each
                                OR NOT EXISTS (SELECT FROM fleet_catalog.task_run AS i
                                                WHERE i.run_id = r.run_id AND i.task_no = d.task_no AND i.item = 1))) AS p) AS c;
COMMENT ON VIEW fleet_catalog.run_progress IS 'What fleet.progress and fleet.recent count of each run';

CREATE VIEW fleet.progress WITH (security_barrier) AS
SELECT r.run_id, r.package, fleet_catalog.state_name(r.state) AS state, r.total, r.done, r.failed,
       CASE WHEN r.started_at IS NOT NULL THEN
           pg_catalog.date_trunc('milliseconds', coalesce(r.finished_at, pg_catalog.clock_timestamp()) - r.started_at) END AS elapsed,
       -- the next full second: never one that has passed
       CASE WHEN NOT fleet_catalog.is_final(r.state) AND r.started_at IS NOT NULL THEN
           pg_catalog.date_trunc('second', interval '1 second' + coalesce(
               fleet_link.run_eta(r.run_id),
               CASE WHEN r.work_done > 0 THEN pg_catalog.clock_timestamp()
                                              + (pg_catalog.clock_timestamp() - r.started_at) * ((r.work - r.work_done) / r.work_done) END)) END AS eta,
       r.running, r.total - r.done - r.failed - r.canceled - r.running AS queued, r.canceled
  FROM fleet_catalog.run_progress AS r
 WHERE fleet_catalog.is_visible(r.owner);
COMMENT ON VIEW fleet.progress IS 'How far each run has got, and when it is expected to end, by learned durations where there are any';

-- The primary key of run gives the order, and all else is looked up for each row: LIMIT reads no more rows than it shows.
CREATE VIEW fleet.recent WITH (security_barrier) AS
SELECT r.run_id, r.package, fleet_catalog.state_name(r.state) AS state, pg_catalog.date_trunc('second', r.started_at) AS started,
       pg_catalog.date_trunc('milliseconds', coalesce(r.finished_at, pg_catalog.clock_timestamp()) - r.started_at) AS duration,
       r.done::text || ' of ' || r.total::text AS done, f.task AS failed_task,
       pg_catalog.left(pg_catalog.translate(coalesce(f.message, CASE WHEN NOT fleet_catalog.is_done(r.state) THEN r.message END),
                                            E'\n\r\t', '   '), 60) AS message
  FROM fleet_catalog.run_progress AS r
  LEFT JOIN LATERAL (SELECT d.name || CASE WHEN t.item > 0 THEN '[' || t.item::text || ']' ELSE '' END AS task, t.message
                       FROM fleet_catalog.task_run AS t
                       LEFT JOIN fleet_catalog.definition_task AS d ON d.hash = r.definition AND d.task_no = t.task_no
                      WHERE t.run_id = r.run_id AND NOT fleet_catalog.is_done(r.state)
                        AND t.state IN (fleet_catalog.state_code('failed'), fleet_catalog.state_code('lost'), fleet_catalog.state_code('unknown'))
                      ORDER BY t.finished_at, t.item = 0, t.task_no, t.item LIMIT 1) AS f ON true
 WHERE fleet_catalog.is_visible(r.owner)
 ORDER BY r.run_id DESC;
COMMENT ON VIEW fleet.recent IS 'Runs, newest first, in a form that fits a terminal; of one that has not succeeded, the first task that failed and why';

-- ---- servers -----------------------------------------------------------------------------------

CREATE VIEW fleet.server_status WITH (security_barrier) AS
SELECT s.name AS server, s.mode,
       CASE WHEN s.state <> 'online' THEN s.state WHEN h.status IN ('refused', 'auth_failed') THEN h.status
            WHEN h.status = 'suspect' OR q.ends IS NOT NULL THEN 'suspect' ELSE s.state END AS state,
       s.slots, coalesce(b.busy, 0) AS busy, s.groups, h.last_seen, h.version, coalesce(fleet_catalog.speed(h.speed_log, h.speed_evidence), 1) AS speed,
       coalesce(q.last_at, h.last_error_at) AS last_error_at,
       CASE WHEN fleet_catalog.is_visible(s.owner)
            THEN coalesce('the agent ended ' || q.ends::text || ' times over this server: ' || q.message, h.last_error) END AS last_error
  FROM fleet_catalog.server AS s
  LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.oid = s.foreign_server
  LEFT JOIN fleet_catalog.server_health AS h ON h.server_id = s.server_id
  LEFT JOIN fleet_catalog.quarantine AS q ON q.kind = 'server' AND q.id = s.server_id AND fleet_catalog.in_quarantine(q.ends, q.last_at)
  LEFT JOIN (SELECT t.server_id, count(*) AS busy
               FROM fleet_catalog.run AS r JOIN fleet_catalog.task_run AS t ON t.run_id = r.run_id
              WHERE NOT fleet_catalog.is_final(r.state) AND fleet_catalog.is_running(t.state) AND t.server_id IS NOT NULL
              GROUP BY t.server_id) AS b ON b.server_id = s.server_id
 WHERE fleet_catalog.is_visible(s.owner) OR pg_catalog.has_server_privilege(f.oid, 'USAGE');
COMMENT ON VIEW fleet.server_status IS 'State of each server of the fleet (online, draining, offline; suspect: it does not answer, or is in quarantine; auth_failed: it refuses the login; refused: something else) and how busy it is';

CREATE VIEW fleet.event WITH (security_barrier) AS
SELECT e.event_id, e.raised_at, e.kind, e.run_id, e.package, e.task, NULLIF(e.item, 0) AS item, e.server, e.hook_depth::integer AS hook_depth, e.sqlstate,
       CASE WHEN e.owner IS NULL OR fleet_catalog.is_visible(e.owner) THEN e.message END AS message
  FROM fleet_catalog.event AS e
 WHERE e.owner IS NULL OR fleet_catalog.is_visible(e.owner)
       -- of a server: whoever may use it sees how it is, and not what it says
    OR e.run_id IS NULL AND e.server_id IS NOT NULL
       AND EXISTS (SELECT FROM fleet_catalog.server AS s JOIN pg_catalog.pg_foreign_server AS f ON f.oid = s.foreign_server
                    WHERE s.server_id = e.server_id AND pg_catalog.has_server_privilege(f.oid, 'USAGE'));
COMMENT ON VIEW fleet.event IS 'What happened: runs that began, ended or are late, tasks that failed, servers that do not answer and are back, the agent, schedules, hooks that failed, purges';

CREATE VIEW fleet.quarantine WITH (security_barrier) AS
SELECT q.kind, r.run_id, j.job_run_id, s.name AS server, d.job, fleet_catalog.in_quarantine(q.ends, q.last_at) AS quarantined,
       q.ends, q.last_at, q.work, q.sqlstate, q.first_at, q.message
  FROM fleet_catalog.quarantine AS q
  LEFT JOIN fleet_catalog.run AS r ON q.kind = 'run' AND r.run_id = q.id
  LEFT JOIN fleet_catalog.job_run AS j ON q.kind = 'job run' AND j.job_run_id = q.id
  LEFT JOIN fleet_catalog.deployment AS d ON q.kind = 'deployment' AND d.deployment_id = q.id
  LEFT JOIN fleet_catalog.server AS s ON s.server_id = CASE q.kind WHEN 'server' THEN q.id ELSE d.server_id END
 WHERE fleet_catalog.is_visible(coalesce(r.owner, j.owner, s.owner));
COMMENT ON VIEW fleet.quarantine IS 'What the agent was working on when it ended by an error, of the last day; the third time in an hour it is in quarantine';

CREATE VIEW fleet.server WITH (security_barrier) AS
SELECT s.name AS server, s.mode, s.state, s.slots, s.weight, s.groups, pg_catalog.pg_get_userbyid(s.owner) AS owner,
       w.fdwname AS wrapper, s.server_id, f.srvoptions AS options
  FROM fleet_catalog.server AS s
  LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.oid = s.foreign_server
  LEFT JOIN pg_catalog.pg_foreign_data_wrapper AS w ON w.oid = f.srvfdw
 WHERE fleet_catalog.is_visible(s.owner) OR pg_catalog.has_server_privilege(f.oid, 'USAGE');
COMMENT ON VIEW fleet.server IS 'Servers of the fleet as defined; passwords are in the user mappings';

CREATE VIEW fleet.group WITH (security_barrier) AS
SELECT g.name, pg_catalog.pg_get_userbyid(g.owner) AS owner,
       ARRAY(SELECT s.name FROM fleet_catalog.server AS s LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.oid = s.foreign_server
              WHERE g.name = ANY (s.groups) AND (fleet_catalog.is_visible(s.owner) OR pg_catalog.has_server_privilege(f.oid, 'USAGE'))
              ORDER BY s.name) AS servers
  FROM fleet_catalog.server_group AS g
 WHERE fleet_catalog.is_visible(g.owner)
    OR EXISTS (SELECT FROM fleet_catalog.server AS s JOIN pg_catalog.pg_foreign_server AS f ON f.oid = s.foreign_server
                WHERE g.name = ANY (s.groups) AND pg_catalog.has_server_privilege(f.oid, 'USAGE'));
COMMENT ON VIEW fleet.group IS 'Groups of servers: whose each is, and the servers in it that current_user may see';

CREATE VIEW fleet.deployment AS
SELECT d.server, d.job, d.state, d.drift, d.owner, d.deployed_at, d.requested_at, d.hash, d.message
  FROM fleet_link.deployment_list() AS d;
COMMENT ON VIEW fleet.deployment IS 'Version of each deployed job on each server; drift: the definition here has changed since';

-- ---- definitions -------------------------------------------------------------------------------

CREATE VIEW fleet.job WITH (security_barrier) AS
SELECT j.name AS job, pg_catalog.pg_get_userbyid(j.owner) AS owner,
       (SELECT count(*) FROM fleet_catalog.step AS s WHERE s.job_id = j.job_id) AS steps, j.leaves_clean, j.changed_at, j.deployed_from, j.enabled,
       j.params, j.description
  FROM fleet_catalog.job AS j
 WHERE fleet_catalog.is_visible(j.owner);
COMMENT ON VIEW fleet.job IS 'Jobs defined in this database';

CREATE VIEW fleet.step WITH (security_barrier) AS
SELECT j.name AS job, s.step_no, s.name AS step, s.package, s.on_success, s.success_goto, s.on_failure, s.failure_goto, s.enabled,
       s.retries, s.retry_wait, s.retry_max AS retry_wait_max, s.retry_states AS retry_sqlstates, s.timeout, s.on_unknown, s.transactional,
       CASE WHEN s.run_as IS NOT NULL THEN pg_catalog.pg_get_userbyid(s.run_as) END AS run_as, s.command AS sql
  FROM fleet_catalog.step AS s JOIN fleet_catalog.job AS j ON j.job_id = s.job_id
 WHERE fleet_catalog.is_visible(j.owner);
COMMENT ON VIEW fleet.step IS 'Steps of the jobs';

CREATE VIEW fleet.package WITH (security_barrier) AS
SELECT p.name AS package, pg_catalog.pg_get_userbyid(p.owner) AS owner,
       (SELECT count(*) FROM fleet_catalog.package AS c JOIN fleet_catalog.task AS t ON t.package_id = c.package_id
         WHERE c.package_id = p.package_id OR c.root_id = p.package_id) AS tasks, p.overlap, p.priority, p.changed_at,
       p.deployed_from, p.enabled, p.failed_if, p.max_parallel, p.timeout, p.deadline,
       (SELECT k.keep_days FROM fleet_catalog.retention AS k WHERE k.package_id = p.package_id) AS keep_days,
       (SELECT k.keep_runs FROM fleet_catalog.retention AS k WHERE k.package_id = p.package_id) AS keep_runs,
       (SELECT k.keep_failed_days FROM fleet_catalog.retention AS k WHERE k.package_id = p.package_id) AS keep_failed_days,
       p.params, p.description
  FROM fleet_catalog.package AS p
 WHERE p.root_id IS NULL AND fleet_catalog.is_visible(p.owner);
COMMENT ON VIEW fleet.package IS 'Packages defined in this database';

CREATE VIEW fleet.task WITH (security_barrier) AS
SELECT coalesce(r.name, p.name) AS package, t.task_no, fleet_catalog.path_in(r.name, p.name, t.name) AS task, t.kind, t.job, t.server, t.on_group,
       CASE WHEN c.package_id IS NULL THEN t.package END AS nested, t.join_type AS wait_for, t.enabled, c.package_id IS NOT NULL AS container, t.final, t.catch, t.throttle, t.completion, t.min_share AS minimum_share, t.balance, t.on_lost, t.retries, t.retry_wait,
       t.retry_max AS retry_wait_max, t.retry_states AS retry_sqlstates, t.timeout, t.transactional, t.cost, t.item_key, t.limits, t.params, t.for_each, t.sql
  FROM fleet_catalog.task AS t JOIN fleet_catalog.package AS p ON p.package_id = t.package_id
  LEFT JOIN fleet_catalog.package AS r ON r.package_id = p.root_id
  LEFT JOIN fleet_catalog.package AS c ON c.container_of = t.package_id AND c.container_task = t.name
 WHERE fleet_catalog.is_visible(p.owner);
COMMENT ON VIEW fleet.task IS 'Tasks of the packages; those in containers by their paths, numbered in their container';

CREATE VIEW fleet.precedence WITH (security_barrier) AS
SELECT coalesce(r.name, p.name) AS package, fleet_catalog.path_in(r.name, p.name, c.from_task) AS from_task,
       fleet_catalog.path_in(r.name, p.name, c.to_task) AS to_task, c.on_outcome, c.condition
  FROM fleet_catalog.precedence AS c JOIN fleet_catalog.package AS p ON p.package_id = c.package_id
  LEFT JOIN fleet_catalog.package AS r ON r.package_id = p.root_id
 WHERE fleet_catalog.is_visible(p.owner);
COMMENT ON VIEW fleet.precedence IS 'Precedence constraints between the tasks of the packages';

CREATE VIEW fleet.version WITH (security_barrier) AS
SELECT CASE WHEN v.package_id IS NULL THEN 'job' ELSE 'package' END AS kind, coalesce(p.name, j.name) AS name, v.version, v.changed_by, v.changed_at, v.hash, v.document
  FROM fleet_catalog.version AS v
  LEFT JOIN fleet_catalog.package AS p ON p.package_id = v.package_id
  LEFT JOIN fleet_catalog.job AS j ON j.job_id = v.job_id
 WHERE fleet_catalog.is_visible(coalesce(p.owner, j.owner));
COMMENT ON VIEW fleet.version IS 'Versions of packages and jobs: who changed them, when, and what they were';

CREATE VIEW fleet.schedule WITH (security_barrier) AS
SELECT s.name, s.package, s.job, s.cron, s.time_zone, s.enabled,
       CASE WHEN s.enabled THEN fleet_catalog.next_time(s.cron, s.time_zone, greatest(fleet_catalog.calendar(), s.since)) END AS next_time,
       t.last_time, t.run_id AS last_run_id, t.job_run_id AS last_job_run_id, t.fired_at, s.missed, pg_catalog.pg_get_userbyid(coalesce(p.owner, j.owner)) AS owner,
       f.failures, f.scheduled_for AS failed_for, f.failed_at, f.sqlstate, f.message, s.params, s.params_sql
  FROM fleet_catalog.schedule AS s
  LEFT JOIN fleet_catalog.package AS p ON p.name = s.package
  LEFT JOIN fleet_catalog.job AS j ON j.name = s.job
  LEFT JOIN fleet_catalog.schedule_state AS t ON t.schedule_id = s.schedule_id
  LEFT JOIN fleet_catalog.schedule_failure AS f ON f.schedule_id = s.schedule_id
 WHERE fleet_catalog.is_visible(coalesce(p.owner, j.owner));
COMMENT ON VIEW fleet.schedule IS 'Schedules of packages and jobs: when each is due next, what it started last, and why it cannot be started at present';
