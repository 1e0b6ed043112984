-- The extension as installed: rights, comments, pinned search_path.
CREATE EXTENSION pg_fleet;
SET search_path = public;
\set VERBOSITY verbose

-- no function runs with somebody else's rights by itself
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace, 'fleet_catalog'::regnamespace) AND p.prosecdef;

-- functions that are not C and pin no search_path: their bodies are parsed at installation, or
-- (execute_package) qualify every name because they must COMMIT
SELECT p.oid::regprocedure, p.prosqlbody IS NOT NULL AS parsed FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace, 'fleet_catalog'::regnamespace) AND l.lanname <> 'c'
   AND NOT coalesce(p.proconfig, '{}') @> ARRAY['search_path=pg_catalog, pg_temp'] ORDER BY p.proname COLLATE "C";

-- every public function that goes through the trampoline has its hidden twin, with the same result, and the same
-- names of arguments after a_
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace) AND p.prosrc = 'fleet_sql_api'
   AND NOT EXISTS (SELECT FROM pg_proc h WHERE h.pronamespace = 'fleet_catalog'::regnamespace AND h.proname = p.proname
                      AND h.proargtypes = p.proargtypes AND h.prorettype = p.prorettype AND h.proretset = p.proretset
                      AND h.proallargtypes IS NOT DISTINCT FROM p.proallargtypes
                      AND (SELECT array_agg(regexp_replace(a, '^a_', '') ORDER BY n) FROM unnest(h.proargnames) WITH ORDINALITY AS u (a, n)) IS NOT DISTINCT FROM p.proargnames);

-- objects without a comment
SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_fleet') AND d.deptype = 'e'
   AND d.classid NOT IN ('pg_type'::regclass)
   AND NOT (d.classid = 'pg_class'::regclass AND (SELECT relkind FROM pg_class WHERE oid = d.objid) IN ('S', 'i'))
   AND obj_description(d.objid, d.classid::regclass::name) IS NULL
 ORDER BY pg_describe_object(d.classid, d.objid, 0) COLLATE "C";

-- what everybody may do in fleet_catalog
SELECT n.nspname, has_schema_privilege('public', n.oid, 'USAGE') AS usage, has_schema_privilege('public', n.oid, 'CREATE') AS "create"
  FROM pg_namespace n WHERE n.nspname LIKE 'fleet%' ORDER BY 1;
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'fleet_catalog'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') ORDER BY p.proname COLLATE "C";
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind IN ('r', 'v', 'S')
   AND (has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'));
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'fleet'::regnamespace AND NOT has_table_privilege('public', c.oid, 'SELECT')
    OR c.relnamespace = 'fleet'::regnamespace AND has_table_privilege('public', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');
-- views that are no barrier read nothing themselves
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'fleet'::regnamespace AND c.relkind = 'v' AND NOT coalesce(c.reloptions, '{}') @> '{security_barrier=true}';

-- tables that hold something to keep are dumped, with their sequences
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind IN ('r', 'S')
   AND NOT c.oid = ANY ((SELECT extconfig FROM pg_extension WHERE extname = 'pg_fleet')::oid[]) ORDER BY c.relname COLLATE "C";

SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname LIKE 'fleet_%' ORDER BY rolname COLLATE "C";

-- the contract: columns that other people's scripts rely on
SELECT c.relname, array_agg(a.attname ORDER BY a.attnum) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'fleet'::regnamespace AND c.relname IN ('run', 'task_run', 'job_log', 'log', 'server_status', 'progress')
 GROUP BY c.relname ORDER BY c.relname COLLATE "C";

-- the inner functions are for nobody, not even with the right to call them
SELECT fleet_catalog.caller();
\set SHOW_CONTEXT never
SELECT fleet_catalog.create_job('x', '{}', '', false, true);

-- the states
SELECT machine, count(*) > 5 AS some FROM fleet.state_transitions() GROUP BY machine ORDER BY machine COLLATE "C";
SELECT count(*) FROM fleet.state_transitions() WHERE state IN ('succeeded', 'failed', 'canceled', 'skipped', 'lost', 'unknown') AND event <> 'again';
SELECT fleet.state_graph('task') LIKE 'digraph task {%';
SELECT fleet.state_graph('tusk');
SELECT fleet.state_graph(NULL);
