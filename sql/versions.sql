-- Versions of packages and jobs: who changed what, and back again.
\set SHOW_CONTEXT never
CREATE ROLE regress_fleet_author LOGIN;
CREATE ROLE regress_fleet_reader_of_none;
SET ROLE regress_fleet_author;

-- many changes of a transaction are one version
BEGIN;
SELECT fleet.create_package('ver', params => '{"day": null}'), fleet.create_job('ver_job');
SELECT fleet.add_step('ver_job', 's', 'SELECT 1'), fleet.add_step('ver_job', 't', 'SELECT 2');
SELECT fleet.add_task('ver', 'a', sql => 'SELECT 1'), fleet.add_task('ver', 'b', job => 'ver_job', after => '{a}');
SELECT count(*) FROM fleet.version;
COMMIT;
SELECT kind, name, version, changed_by = session_user AS by_me, changed_at <= clock_timestamp() AS then FROM fleet.version ORDER BY kind, version;
SELECT document FROM fleet.version WHERE kind = 'package' AND name = 'ver';
SELECT document FROM fleet.version WHERE kind = 'job' AND name = 'ver_job';
-- what changes nothing is no version, nor what is rolled back
SELECT fleet.alter_task('ver', 'a', retries => 0), fleet.alter_job('ver_job');
BEGIN;
SELECT fleet.alter_task('ver', 'a', retries => 7);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT fleet.alter_task('ver', 'a', retries => 7);
ROLLBACK TO s;
COMMIT;
SELECT kind, max(version) FROM fleet.version GROUP BY kind ORDER BY kind;
SELECT fleet.alter_task('ver', 'a', retries => 2, timeout => '1h');
SELECT fleet.alter_step('ver_job', 't', before => 's', sql => 'SELECT 22');
SELECT fleet.add_precedence('ver', 'b', 'a');
SELECT fleet.set_retention('ver', keep_days => 3);
SELECT kind, max(version) FROM fleet.version GROUP BY kind ORDER BY kind;
SELECT * FROM fleet.diff_package('ver', 1, 2);
SELECT * FROM fleet.diff_package('ver', 1);
SELECT * FROM fleet.diff_package('ver', 3, 2);
SELECT * FROM fleet.diff_job('ver_job', 1, 2);
SELECT * FROM fleet.diff_package('ver', 9);
SELECT * FROM fleet.diff_package('ver', NULL);
SELECT * FROM fleet.diff_job('ver_job', 1, 9);
SELECT * FROM fleet.diff_job('nothing', 1);

-- a run names its version; one of this transaction too
SELECT fleet.alter_package('ver', reset => '{params}');
SELECT fleet.run_parent_package('ver') AS run_id \gset
BEGIN;
SELECT fleet.alter_task('ver', 'a', sql => 'SELECT 5');
SELECT fleet.run_parent_package('ver') AS then_id \gset
SELECT fleet.alter_task('ver', 'a', sql => 'SELECT 6');
SELECT fleet.alter_task('ver', 'a', sql => 'SELECT 7');
SELECT fleet.run_parent_package('ver') AS last_id \gset
COMMIT;
SELECT version, (SELECT v.document #>> '{tasks,0,sql}' FROM fleet.version AS v WHERE v.kind = 'package' AND v.name = r.package AND v.version = r.version) AS sql
  FROM fleet.run AS r WHERE run_id IN (:run_id, :then_id, :last_id) ORDER BY run_id;
SELECT max(version) FROM fleet.version WHERE kind = 'package';
SELECT fleet.wait_for_run(:run_id), fleet.wait_for_run(:then_id), fleet.wait_for_run(:last_id);

-- a name and an owner are part of it, and the history stays with the object
SELECT fleet.alter_package('ver', new_name => 'ver2'), fleet.alter_job('ver_job', new_name => 'ver_job2');
SELECT name, count(*) FROM fleet.version GROUP BY name ORDER BY name;
SELECT d.* FROM fleet.diff_package('ver2', (SELECT max(version) - 1 FROM fleet.version WHERE name = 'ver2')) AS d;

-- back
SELECT fleet.alter_package('ver2', new_name => 'ver'), fleet.alter_job('ver_job2', new_name => 'ver_job');
SELECT fleet.restore_package('ver', 2), fleet.restore_job('ver_job', 1);
SELECT d.* FROM fleet.diff_package('ver', 2) AS d;
SELECT d.* FROM fleet.diff_job('ver_job', 1) AS d;
SELECT task, retries, timeout, sql FROM fleet.task WHERE package = 'ver' ORDER BY task_no;
SELECT fleet.restore_package('ver', 99);
SELECT fleet.restore_job('ver_job', 0);
SELECT fleet.restore_package('nothing', 1);

-- the changed one, not what it is changed by: rename of a group or a server
SELECT fleet.alter_task('ver', 'b', on_group => 'regress_ver_g'), fleet.alter_group('regress_ver_g', new_name => 'regress_ver_h');
SELECT d.* FROM fleet.diff_package('ver', (SELECT max(version) - 1 FROM fleet.version WHERE name = 'ver')) AS d;

-- an import is a version; whatever the session says of constraints
SELECT count(*) FROM fleet.import_package(jsonb_set(fleet.export_package('ver'), '{packages,ver,tasks,0,sql}', '"SELECT 8"'), replace => true);
BEGIN;
SET CONSTRAINTS ALL IMMEDIATE;
SELECT max(version) AS before FROM fleet.version WHERE name = 'ver' \gset
SELECT fleet.alter_task('ver', 'a', retries => 5);
SELECT fleet.alter_task('ver', 'a', retries => 6);
COMMIT;
SELECT max(version) - :before AS more FROM fleet.version WHERE name = 'ver';
SELECT path, old, new FROM fleet.diff_package('ver', :before);

-- bounded: the newest 100 of an object
DO $$
BEGIN
    FOR i IN 1 .. 120 LOOP
        PERFORM fleet.alter_job('ver_job', description => i::text);
        SET CONSTRAINTS ALL IMMEDIATE;
        SET CONSTRAINTS ALL DEFERRED;
    END LOOP;
END
$$;
SELECT count(*), max(version) - min(version) FROM fleet.version WHERE name = 'ver_job';

-- who sees it
SET ROLE regress_fleet_reader_of_none;
SELECT count(*) FROM fleet.version;
SELECT * FROM fleet.diff_package('ver', 1);
SELECT fleet.restore_package('ver', 1);
SET ROLE regress_fleet_author;

-- a thousand changes are one version, and not a thousand times as long as one
BEGIN;
SELECT fleet.create_package('ver_large');
SELECT count(fleet.add_task('ver_large', 't' || i, sql => 'SELECT ' || i)) FROM generate_series(1, 1000) AS i;
COMMIT;
SELECT version, jsonb_array_length(document -> 'tasks') FROM fleet.version WHERE name = 'ver_large';

-- they go with their object
SELECT fleet.drop_package('ver'), fleet.drop_job('ver_job'), fleet.drop_package('ver_large'), fleet.drop_group('regress_ver_h');
RESET ROLE;
SELECT count(*) FROM fleet_catalog.version AS v WHERE v.package_id IS NULL AND v.job_id IS NULL;
SELECT count(*) FROM fleet.version;
SELECT count(*) FROM fleet_catalog.edit;
DELETE FROM fleet_catalog.task_run WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package = 'ver');
DELETE FROM fleet_catalog.step_run WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE package = 'ver');
DELETE FROM fleet_catalog.run WHERE package = 'ver';
DROP OWNED BY regress_fleet_author, regress_fleet_reader_of_none;
DROP ROLE regress_fleet_author, regress_fleet_reader_of_none;
