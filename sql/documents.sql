-- Packages as documents: out, in, and what an import would change.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_writer;
CREATE ROLE regress_fleet_stranger;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO regress_fleet_writer;
SET ROLE regress_fleet_writer;
SET intervalstyle = iso_8601; -- says nothing about documents

SELECT fleet.add_server('doc_s', 'host=127.0.0.1 port=1', username => 'u', password => 'secret', mode => 'direct', slots => 3, groups => '{doc_g}') > 0 AS added;
SELECT fleet.create_package('doc_inner', params => '{"region": null}', overlap => 'queue', max_parallel => 3, timeout => '90 min', deadline => '2 h', failed_if => 'any');
SELECT fleet.add_task('doc_inner', 't', sql => 'SELECT 1', retries => 2, retry_wait => '90 s', retry_sqlstates => '{40001,40P01}');
SELECT fleet.create_job('doc_load', params => '{"a": {"deep": [1, 2, null]}}', description => $$it's "quoted" \ ü$$);
SELECT fleet.add_step('doc_load', 'one', $$SELECT 'it''s'$$, on_failure => 'goto', failure_goto => 'two', timeout => '1 day 2 h');
SELECT fleet.add_step('doc_load', 'two', package => 'doc_inner', on_unknown => 'retry', retries => 1);
SELECT fleet.create_package('doc_outer', params => '{"day": null, "n": 5}', priority => 7, description => 'every night');
SELECT fleet.add_task('doc_outer', 'first', sql => 'SELECT 1', transactional => true);
SELECT fleet.add_task('doc_outer', 'load', job => 'doc_load', on_group => 'doc_g', for_each => 'SELECT 1 AS region, 2 AS size', cost => 'size', item_key => 'region', throttle => 4, minimum_share => 0.5,
                      completion => 'minimum_share', balance => 'weighted', on_lost => 'retry', wait_for => 'any', params => '{"x": {"$output": "first"}}');
SELECT fleet.add_task('doc_outer', 'elsewhere', job => 'doc_not_here', server => 'doc_s', enabled => false);
SELECT fleet.add_task('doc_outer', 'inner', nested => 'doc_inner', params => '{"region": "north"}');
SELECT fleet.add_precedence('doc_outer', 'first', 'load', condition => '1 = 1');
SELECT fleet.add_precedence('doc_outer', 'load', 'inner', on_outcome => 'completion');
SELECT fleet.set_retention('doc_outer', keep_days => 9);
SELECT jsonb_pretty(fleet.export_package('doc_outer'));
SELECT jsonb_pretty(fleet.export_server('doc_s'));

-- the same again is the same text; nothing differs from itself
CREATE TEMPORARY TABLE doc AS SELECT fleet.export_package('doc_outer') AS d;
SET intervalstyle = postgres_verbose;
SELECT d::text = fleet.export_package('doc_outer')::text AS same FROM doc;
SELECT i.* FROM doc, fleet.import_package(d) AS i;
SELECT i.* FROM doc, fleet.import_package(d, replace => true) AS i;

-- into an empty place: exactly that
SELECT fleet.drop_package('doc_outer'), fleet.drop_job('doc_load'), fleet.drop_package('doc_inner');
SELECT i.path, i.change FROM doc, fleet.import_package(d, dry_run => true) AS i ORDER BY 1;
SELECT count(*) FROM fleet.package WHERE package LIKE 'doc%';
SELECT count(*) FROM doc, fleet.import_package(d) AS i;
SELECT d = fleet.export_package('doc_outer') AS same, d::text = fleet.export_package('doc_outer')::text AS same_text FROM doc;

-- a change, by path
UPDATE doc SET d = jsonb_set(jsonb_set(jsonb_set(d, '{packages,doc_outer,tasks,1,throttle}', '8'), '{packages,doc_outer,params}', '{"day": null}'),
                             '{jobs,doc_load,steps,0,sql}', '"SELECT 2"') #- '{packages,doc_outer,tasks,2}' #- '{packages,doc_outer,retention}';
SELECT i.* FROM doc, fleet.import_package(d, dry_run => true) AS i ORDER BY path;
SELECT i.* FROM doc, fleet.import_package(d) AS i;
SELECT count(*) FROM doc, fleet.import_package(d, replace => true) AS i;
SELECT d::text = fleet.export_package('doc_outer')::text AS same_text FROM doc;
-- what a document does not say is as by default
UPDATE doc SET d = d #- '{packages,doc_outer,priority}' #- '{packages,doc_outer,description}' #- '{jobs,doc_load,description}' #- '{jobs,doc_load,params}';
SELECT i.path, i.change, i.old FROM doc, fleet.import_package(d, replace => true) AS i;
SELECT d::text = fleet.export_package('doc_outer')::text AS same_text FROM doc;
-- only what differs is touched
SELECT package, changed_at = now() AS touched FROM fleet.package WHERE package LIKE 'doc%' ORDER BY 1;
BEGIN;
SELECT i.path FROM doc, fleet.import_package(jsonb_set(d, '{packages,doc_inner,priority}', '3'), replace => true) AS i;
SELECT package, changed_at = now() AS touched FROM fleet.package WHERE package LIKE 'doc%' ORDER BY 1;
ROLLBACK;

-- bad documents: where, and nothing is left of them
CREATE FUNCTION pg_temp.bad(path text[], value jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_detail text;
    v_hint text;
BEGIN
    PERFORM fleet.import_package(jsonb_set(replace(d::text, 'doc_', 'bad_')::jsonb, path, value)) FROM doc;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL, v_hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, replace(v_detail, E'\n', ' / '), v_hint);
END
$$;
SELECT pg_temp.bad('{format}', '2');
SELECT pg_temp.bad('{other}', '2');
SELECT pg_temp.bad('{package}', '"nothing"');
SELECT pg_temp.bad('{packages}', '[]');
SELECT pg_temp.bad('{packages,bad_outer,tasks}', '{}');
SELECT pg_temp.bad('{packages,bad_outer,owner}', '"postgres"');
SELECT pg_temp.bad('{packages,bad_outer,priority}', '"high"');
SELECT pg_temp.bad('{packages,bad_outer,priority}', '1.5');
SELECT pg_temp.bad('{packages,bad_outer,priority}', '5000');
SELECT pg_temp.bad('{packages,bad_outer,retention}', '{"keep_runs": 0}');
SELECT pg_temp.bad('{packages,bad_outer,tasks,0,task}', 'null');
SELECT pg_temp.bad('{packages,bad_outer,tasks,0,sql}', '"SELEC 1"');
SELECT pg_temp.bad('{packages,bad_outer,tasks,0,timeout}', '"soon"');
SELECT pg_temp.bad('{packages,bad_outer,tasks,0,after}', '["x"]');
SELECT pg_temp.bad('{packages,bad_outer,tasks,2,params}', '"x"');
SELECT pg_temp.bad('{packages,bad_outer,precedence,0,to_task}', '"nobody"');
SELECT pg_temp.bad('{packages,bad_outer,precedence,0}', '{"from_task": "inner", "to_task": "inner"}');
SELECT pg_temp.bad('{packages,bad_inner,tasks,0,retry_sqlstates}', '["x"]');
SELECT pg_temp.bad('{packages,bad_inner,tasks,0,retry_sqlstates}', '"40001"');
SELECT pg_temp.bad('{jobs,bad_load,steps,0,run_as}', '"postgres"');
SELECT pg_temp.bad('{jobs,bad_load,steps,1,package}', '"bad_nothing"');
SELECT fleet.import_package(NULL);
SELECT fleet.import_package('[]');
SELECT fleet.import_package('{}');
SELECT package FROM fleet.package WHERE package LIKE 'bad%';

-- whose it is
SET ROLE regress_fleet_stranger;
SELECT fleet.export_package('doc_outer');
SELECT fleet.export_server('doc_s');
SELECT fleet.import_package('{"format": 1, "package": "doc_inner", "packages": {"doc_inner": {}}}', replace => true);
SELECT fleet.import_package('{"format": 1, "package": "doc_inner", "packages": {"doc_inner": {}}}', dry_run => true);
SELECT fleet.import_package('{"format": 1, "package": "doc_x", "packages": {"doc_x": {}}, "jobs": {"doc_load": {}}}', dry_run => true);
SELECT fleet.create_package('doc_mine');
SELECT fleet.add_task('doc_mine', 't', nested => 'doc_inner');
RESET ROLE;
SELECT fleet.export_package('nothing');
SELECT fleet.export_server('nothing');

-- the schema says the same as the functions
SELECT jsonb_object_keys(s #> '{properties,packages,additionalProperties,properties}') FROM fleet.document_schema() AS s;
SELECT jsonb_pretty(s #> '{properties,packages,additionalProperties,properties,tasks,items,properties,retry_sqlstates}'),
       jsonb_pretty(s #> '{properties,packages,additionalProperties,properties,tasks,items,required}'),
       s #> '{properties,jobs,additionalProperties,properties,steps,items,properties,retry_wait}' FROM fleet.document_schema() AS s;

SET ROLE regress_fleet_writer;
SELECT fleet.drop_package('doc_outer'), fleet.drop_job('doc_load'), fleet.drop_package('doc_inner'), fleet.remove_server('doc_s'), fleet.drop_group('doc_g');
RESET ROLE;
SELECT fleet.drop_package('doc_mine');
DROP TABLE doc;
DROP FUNCTION pg_temp.bad;
REVOKE USAGE ON FOREIGN DATA WRAPPER pg_fleet FROM regress_fleet_writer;
DROP ROLE regress_fleet_writer, regress_fleet_stranger;
