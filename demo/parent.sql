-- The demo's package, as a user without any privilege defines it.  Run as "planner" in the parent's
-- database "dw".  The servers are known by then (run.sh).
\set QUIET on
\set ON_ERROR_STOP on
SET client_min_messages = warning;
\o /dev/null
CREATE SCHEMA IF NOT EXISTS planner;

-- ---- what every server shall do with one region ------------------------------------------------
-- A child package: a graph of its own, which runs on the server that it is deployed to …

SELECT fleet.create_package('load_region', params => '{"region": null, "file": null}');
SELECT fleet.add_task('load_region', 'load',      sql => $$SELECT etl.load_file(fleet.param('region'), fleet.param('file'))$$);
SELECT fleet.add_task('load_region', 'normalise', sql => $$SELECT etl.normalise(fleet.param('region'))$$, after => '{load}');
SELECT fleet.add_task('load_region', 'explode',   sql => $$SELECT etl.explode(fleet.param('region'))$$,   after => '{normalise}');

-- … as the first step of an agent job.  VACUUM cannot run in a transaction: what it did
-- before a connection was lost is unknown.  on_unknown says what follows: run it again, which is harmless.
SELECT fleet.create_job('load_region', params => '{"region": null, "file": null}');
SELECT fleet.add_step('load_region', 'load',    package => 'load_region', retries => 2, retry_wait => '1s');
SELECT fleet.add_step('load_region', 'vacuum',  'VACUUM ANALYZE etl.package, etl.dependency', on_unknown => 'retry', retries => 3, retry_wait => '1s');
SELECT fleet.add_step('load_region', 'roll up', $$SELECT etl.roll_up(fleet.param('region'))$$, retries => 2, retry_wait => '1s');

-- On a server where nothing is installed a job has plain steps, which the parent sends one by one.
SELECT fleet.create_job('load_region_direct', params => '{"region": null, "file": null}');
SELECT fleet.add_step('load_region_direct', 'load',      $$SELECT etl.load_file(p ->> 'region', p ->> 'file') FROM (SELECT current_setting('fleet.params')::jsonb) AS x (p)$$, retries => 2, retry_wait => '1s');
SELECT fleet.add_step('load_region_direct', 'normalise', $$SELECT etl.normalise(current_setting('fleet.params')::jsonb ->> 'region')$$, retries => 2, retry_wait => '1s');
SELECT fleet.add_step('load_region_direct', 'explode',   $$SELECT etl.explode(current_setting('fleet.params')::jsonb ->> 'region')$$,   retries => 2, retry_wait => '1s');
SELECT fleet.add_step('load_region_direct', 'vacuum',    'VACUUM ANALYZE etl.package, etl.dependency', on_unknown => 'retry', retries => 3, retry_wait => '1s');
SELECT fleet.add_step('load_region_direct', 'roll up',   $$SELECT etl.roll_up(current_setting('fleet.params')::jsonb ->> 'region')$$, retries => 2, retry_wait => '1s');

-- ---- what the parent collects ------------------------------------------------------------------

-- The same foreign servers serve postgres_fdw: the rollups of all servers are tables here.
SELECT format('IMPORT FOREIGN SCHEMA etl LIMIT TO (rollup) FROM SERVER %I INTO planner; ALTER FOREIGN TABLE planner.rollup RENAME TO rollup_%s', server, server)
  FROM fleet.server_status ORDER BY server \gexec
CREATE TABLE planner.region (region text PRIMARY KEY, bytes bigint NOT NULL, home text NOT NULL);
CREATE TABLE planner.collected (LIKE planner.rollup_etl1, server text);
CREATE MATERIALIZED VIEW planner.totals AS
    SELECT sum(packages)::bigint AS packages, sum(bytes) AS bytes, sum(installed_kb) AS installed_kb,
           sum(dependencies)::bigint AS dependencies, sum(alternatives)::bigint AS alternatives
      FROM planner.collected WITH NO DATA;

-- ---- the parent package ------------------------------------------------------------------------

-- "only": one region by name, for trying; empty: all of them.
SELECT fleet.create_package('nightly', params => jsonb_build_object('only', '', 'dir', :'dir'));
SELECT fleet.add_task('nightly', 'regions', job => 'load_region', on_group => 'etl', balance => 'shortest_finish',
    for_each => $$SELECT jsonb_build_object('region', r, 'file', fleet.param('dir') || '/' || r || '.txt')
                    FROM (SELECT region FROM planner.region WHERE home = 'etl' AND fleet.param('only') = ''
                          UNION ALL SELECT fleet.param('only') WHERE fleet.param('only') <> '') AS x (r)$$);
SELECT fleet.add_task('nightly', 'edge regions', job => 'load_region_direct', server => 'edge',
    for_each => $$SELECT jsonb_build_object('region', region, 'file', fleet.param('dir') || '/' || region || '.txt')
                    FROM planner.region WHERE home = 'edge' AND fleet.param('only') = ''$$);
SELECT fleet.add_task('nightly', 'collect', after => '{regions, "edge regions"}', sql => $$
    TRUNCATE planner.collected;
    INSERT INTO planner.collected
    SELECT DISTINCT ON (region) * FROM (
              SELECT *, 'etl1' FROM planner.rollup_etl1
        UNION ALL SELECT *, 'etl2' FROM planner.rollup_etl2
        UNION ALL SELECT *, 'etl3' FROM planner.rollup_etl3
        UNION ALL SELECT *, 'edge' FROM planner.rollup_edge) AS x
     WHERE region IN (SELECT region FROM planner.region)
     ORDER BY region, loaded_at DESC$$);
SELECT fleet.add_task('nightly', 'publish', after => '{collect}', sql => 'REFRESH MATERIALIZED VIEW planner.totals');
-- the other branch
SELECT fleet.add_task('nightly', 'raise alarm', sql => $sql$
    DO $$ BEGIN RAISE WARNING 'regions could not be loaded: the totals of yesterday stay'; END $$ $sql$);
SELECT fleet.add_precedence('nightly', 'regions', 'raise alarm', on_outcome => 'failure');

-- The same work, by hand: every region one after another on one server.
SELECT fleet.create_package('one after another', params => jsonb_build_object('dir', :'dir'));
SELECT fleet.add_task('one after another', 'regions', job => 'load_region', server => 'etl1', throttle => 1,
    for_each => $$SELECT jsonb_build_object('region', region, 'file', fleet.param('dir') || '/' || region || '.txt') FROM planner.region$$);
