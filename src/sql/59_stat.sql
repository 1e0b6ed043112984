-- 59_stat.sql: counters of what has happened, for people and for monitors.
--
-- fleet_catalog.stat.counts is FleetStat of src/core/stat.h, as an array: 1-6 runs and 7-12 task runs by final state (succeeded, failed,
-- canceled, skipped, lost, unknown); then four histograms, each with its 14 buckets and the sum in microseconds: 13-27 wait and 28-42 work of
-- runs, 43-57 wait and 58-72 work of attempts; 73 retries, 74 log lines, 75 rows purged, 76 quarantined, 77 late, 78 waiting, 79 running.
-- src/store/stat.c does not compile if it is not so.

CREATE FUNCTION fleet.stat_bounds() RETURNS double precision[]
    LANGUAGE C IMMUTABLE AS 'MODULE_PATHNAME', 'fleet_sql_stat_bounds';
COMMENT ON FUNCTION fleet.stat_bounds() IS 'Upper bounds of the buckets of all histograms of fleet.stat and fleet.stat_server, in seconds; the last bucket, which has none, is not among them';

-- How many are in each bucket or a lower one.
CREATE FUNCTION fleet_catalog.stat_histogram(a_counts bigint[], a_first integer) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT array_agg(s.n ORDER BY s.place) FROM (SELECT u.place, (sum(u.n) OVER (ORDER BY u.place))::bigint AS n
    FROM unnest(a_counts[a_first:a_first + 13]) WITH ORDINALITY AS u (n, place)) AS s
$$;

CREATE FUNCTION fleet_catalog.stat_seconds(a_counts bigint[], a_first integer) RETURNS double precision
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
SELECT a_counts[a_first + 14]::double precision / 1e6
$$;

CREATE VIEW fleet_catalog.stat_seen WITH (security_barrier) AS
SELECT CASE s.kind WHEN 1 THEN 'package' WHEN 2 THEN 'jobs' ELSE 'agent' END AS scope, s.package, s.owner::oid AS owner, s.since, s.counts
  FROM fleet_catalog.stat AS s
 WHERE s.kind IN (1, 2) AND fleet_catalog.is_visible(s.owner) OR s.kind = 0;
COMMENT ON VIEW fleet_catalog.stat_seen IS 'Counters that current_user may see, but those by server';

CREATE VIEW fleet_catalog.stat_whole AS
SELECT 'all' AS scope, NULL::text AS package, NULL::oid AS owner, (SELECT min(s.since) FROM fleet_catalog.stat_seen AS s) AS since,
       coalesce((SELECT pg_catalog.array_agg(p.n ORDER BY p.place)
                   FROM (SELECT u.place, sum(u.n)::bigint AS n FROM fleet_catalog.stat_seen AS s CROSS JOIN pg_catalog.unnest(s.counts) WITH ORDINALITY AS u (n, place)
                          GROUP BY u.place) AS p), pg_catalog.array_fill(0::bigint, '{79}')) AS counts;
COMMENT ON VIEW fleet_catalog.stat_whole IS 'Sums of the counters that current_user may see';

CREATE VIEW fleet.stat WITH (security_barrier) AS
SELECT s.scope, s.package, CASE WHEN s.owner IS NOT NULL THEN pg_catalog.pg_get_userbyid(s.owner) END AS owner,
       s.counts[1] AS runs_succeeded, s.counts[2] AS runs_failed, s.counts[3] AS runs_canceled, s.counts[5] AS runs_lost, s.counts[6] AS runs_unknown, s.counts[77] AS runs_late,
       s.counts[7] AS tasks_succeeded, s.counts[8] AS tasks_failed, s.counts[9] AS tasks_canceled, s.counts[10] AS tasks_skipped,
       s.counts[11] AS tasks_lost, s.counts[12] AS tasks_unknown, s.counts[73] AS retries,
       coalesce(o.queued, 0) AS runs_queued, coalesce(o.running, 0) AS runs_running, s.counts[78] AS tasks_waiting, s.counts[79] AS tasks_running,
       fleet_catalog.stat_seconds(s.counts, 13) AS run_wait_seconds, fleet_catalog.stat_seconds(s.counts, 28) AS run_seconds,
       fleet_catalog.stat_seconds(s.counts, 43) AS wait_seconds, fleet_catalog.stat_seconds(s.counts, 58) AS work_seconds,
       s.counts[74] AS log_lines, s.counts[75] AS rows_purged, s.counts[76] AS quarantined, s.since,
       fleet_catalog.stat_histogram(s.counts, 13) AS run_wait_buckets, fleet_catalog.stat_histogram(s.counts, 28) AS run_buckets,
       fleet_catalog.stat_histogram(s.counts, 43) AS wait_buckets, fleet_catalog.stat_histogram(s.counts, 58) AS work_buckets
  FROM (SELECT n.scope, n.package, n.owner, n.since, n.counts FROM fleet_catalog.stat_seen AS n WHERE n.scope <> 'agent'
        UNION ALL
        SELECT w.scope, w.package, w.owner, w.since, w.counts FROM fleet_catalog.stat_whole AS w) AS s
  -- open runs are few, and have an index of their own
  LEFT JOIN (SELECT CASE WHEN r.package IS NULL THEN 'all' WHEN r.package = '' THEN 'jobs' ELSE 'package' END AS scope, NULLIF(r.package, '') AS package, r.owner::oid AS owner,
                    count(*) FILTER (WHERE r.state = fleet_catalog.state_code('queued')) AS queued,
                    count(*) FILTER (WHERE r.state <> fleet_catalog.state_code('queued')) AS running
               FROM fleet_catalog.run AS r WHERE r.state < 11 AND fleet_catalog.is_visible(r.owner)
              GROUP BY GROUPING SETS ((r.package, r.owner), ())) AS o
    ON o.scope = s.scope AND o.package IS NOT DISTINCT FROM s.package AND o.owner IS NOT DISTINCT FROM s.owner;
COMMENT ON VIEW fleet.stat IS 'Counters by package (scope package), of single jobs (jobs), and of all (all) that current_user may see: how runs and their tasks ended, how long they waited and worked, what waits and runs; history that is purged stays counted';

CREATE VIEW fleet.stat_server WITH (security_barrier) AS
SELECT s.name AS server, t.counts[7] AS tasks_succeeded, t.counts[8] AS tasks_failed, t.counts[9] AS tasks_canceled, t.counts[10] AS tasks_skipped,
       t.counts[11] AS tasks_lost, t.counts[12] AS tasks_unknown, t.counts[73] AS retries, t.counts[79] AS tasks_running,
       fleet_catalog.stat_seconds(t.counts, 43) AS wait_seconds, fleet_catalog.stat_seconds(t.counts, 58) AS work_seconds, t.since,
       fleet_catalog.stat_histogram(t.counts, 43) AS wait_buckets, fleet_catalog.stat_histogram(t.counts, 58) AS work_buckets
  FROM fleet_catalog.stat AS t
  LEFT JOIN fleet_catalog.server AS s ON s.server_id = t.server_id
  LEFT JOIN pg_catalog.pg_foreign_server AS f ON f.oid = s.foreign_server
 WHERE t.kind = 3
   AND CASE t.server_id WHEN 0 THEN fleet_catalog.is_visible(10) -- of all that ran here
       ELSE fleet_catalog.is_visible(s.owner) OR pg_catalog.has_server_privilege(f.oid, 'USAGE') END;
COMMENT ON VIEW fleet.stat_server IS 'Counters by server: how task runs ended that ran there, how long they waited for their place and worked, and how many run now; server is null: this database';

CREATE FUNCTION fleet.stat_reset() RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 'fleet_sql_api';
COMMENT ON FUNCTION fleet.stat_reset() IS 'All counters of fleet.stat and fleet.stat_server begin at 0 again, once the agent has heard of it; for superusers and members of fleet_operator';

CREATE FUNCTION fleet_catalog.stat_reset() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT fleet_catalog.may_cancel(10) THEN -- 10: the bootstrap superuser
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege', MESSAGE = 'permission denied to reset counters',
            HINT = 'Superusers and members of fleet_operator may.';
    END IF;
    INSERT INTO fleet_catalog.stat_reset (requested_by) VALUES (DEFAULT);
    PERFORM fleet_catalog.wake('stat_reset', 0);
END
$$;
