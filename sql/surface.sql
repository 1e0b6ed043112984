-- The surface as other people's scripts see it, by the system's own catalogs: signatures with their
-- defaults, columns with their types, who may do what with each object, what a table holds.
\set SHOW_CONTEXT never
\set VERBOSITY verbose

-- what users call: the names, and nothing but these; the reference describes each
SELECT p.proname AS name FROM pg_proc p WHERE p.pronamespace = 'fleet'::regnamespace GROUP BY p.proname ORDER BY p.proname COLLATE "C";

-- every function of schemas fleet and fleet_link: arguments with defaults, result, kind (volatile, parallel, strict)
SELECT p.oid::regproc AS name, pg_get_function_arguments(p.oid) AS arguments, coalesce(pg_get_function_result(p.oid), 'procedure') AS result,
       concat(p.provolatile, p.proparallel, CASE WHEN p.proisstrict THEN ' strict' END) AS kind
  FROM pg_proc p WHERE p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace) ORDER BY p.pronamespace::regnamespace::text COLLATE "C", p.proname COLLATE "C", p.oid;

-- every view of schema fleet, column by column
SELECT c.relname AS view, a.attname AS column_name, format_type(a.atttypid, a.atttypmod) AS type FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
 WHERE c.relnamespace = 'fleet'::regnamespace ORDER BY c.relname COLLATE "C", a.attnum;

-- every table: columns that may be null, and defaults
SELECT c.relname AS table_name, string_agg(a.attname, ' ' ORDER BY a.attnum) FILTER (WHERE NOT a.attnotnull) AS may_be_null
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind = 'r' GROUP BY c.relname ORDER BY c.relname COLLATE "C";
SELECT c.relname AS table_name, a.attname AS column_name, pg_get_expr(d.adbin, d.adrelid) AS by_default
  FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.adnum
 WHERE c.relnamespace = 'fleet_catalog'::regnamespace ORDER BY c.relname COLLATE "C", a.attnum;
SELECT i.indexrelid::regclass, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND NOT i.indisprimary ORDER BY c.relname COLLATE "C";
SELECT c.relname, c.relreplident FROM pg_class c
 WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind = 'r' AND c.relreplident <> 'd' ORDER BY 1;

-- rights of anybody but the owner: on schemas, relations and their columns, functions, the wrapper
-- (a function without a list of its own may be executed by everybody)
SELECT 'schema' AS kind, n.nspname AS name, x.grantee::regrole AS to_role, string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', ' ORDER BY x.privilege_type) AS rights
  FROM pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname LIKE 'fleet%' AND x.grantee <> n.nspowner GROUP BY 1, 2, 3
UNION ALL
SELECT 'relation', c.oid::regclass::text, x.grantee::regrole, string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', ' ORDER BY x.privilege_type)
  FROM pg_class c, aclexplode(c.relacl) x WHERE c.relnamespace::regnamespace::text LIKE 'fleet%' AND x.grantee <> c.relowner GROUP BY 1, 2, 3
UNION ALL
SELECT 'column', a.attrelid::regclass || '.' || a.attname, x.grantee::regrole, string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type)
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) x WHERE c.relnamespace::regnamespace::text LIKE 'fleet%' GROUP BY 1, 2, 3
UNION ALL
SELECT 'function', p.oid::regprocedure::text, x.grantee::regrole, string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', ' ORDER BY x.privilege_type)
  FROM pg_proc p, aclexplode(p.proacl) x WHERE p.pronamespace::regnamespace::text LIKE 'fleet%' AND x.grantee <> p.proowner GROUP BY 1, 2, 3
UNION ALL
SELECT 'wrapper', w.fdwname, x.grantee::regrole, string_agg(x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END, ', ' ORDER BY x.privilege_type)
  FROM pg_foreign_data_wrapper w, aclexplode(w.fdwacl) x WHERE w.fdwname = 'pg_fleet' AND x.grantee <> w.fdwowner GROUP BY 1, 2, 3
 ORDER BY 1, 2, 3;
-- functions of schema fleet_catalog without a list of their own; functions of schemas fleet and fleet_link with one
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE (p.pronamespace = 'fleet_catalog'::regnamespace AND p.proacl IS NULL) OR (p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace) AND p.proacl IS NOT NULL)
 ORDER BY p.proname COLLATE "C";

-- relations of the two schemas that are no member of the extension (they would not be dropped with it)
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace::regnamespace::text LIKE 'fleet%' AND c.relkind IN ('r', 'v')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e');
SELECT e.extrelocatable, n.nspname, e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_fleet';

-- the two roles are nobody's login, and have nothing but what they are for
SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolpassword IS NOT NULL AS password
  FROM pg_authid r WHERE r.rolname LIKE 'fleet\_%' ORDER BY r.rolname COLLATE "C";
SELECT m.roleid::regrole, m.member::regrole FROM pg_auth_members m
 WHERE 'fleet_operator' IN (m.roleid::regrole::text, m.member::regrole::text) OR 'fleet_reader' IN (m.roleid::regrole::text, m.member::regrole::text);

-- every change of state
SELECT * FROM fleet.state_transitions();
SELECT fleet.state_graph('job');
SELECT m, left(fleet.state_graph(m), 15), (length(fleet.state_graph(m)) - length(replace(fleet.state_graph(m), ' -> ', ''))) / 4 AS edges,
       (SELECT count(*) FROM fleet.state_transitions() t WHERE t.machine = m) AS transitions
  FROM unnest('{run,task,job,step}'::text[]) m;
SELECT s, fleet_catalog.state_name(s::smallint) AS name, fleet_catalog.state_code(fleet_catalog.state_name(s::smallint)) = s AS same_code,
       fleet_catalog.is_final(s::smallint) AS is_final, fleet_catalog.is_running(s::smallint) AS is_running, fleet_catalog.is_done(s::smallint) AS is_done
  FROM generate_series(-1, 18) s;
SELECT fleet_catalog.state_code('finished');

-- comments of what users call and read
SELECT pg_describe_object(d.classid, d.objid, 0) AS object, obj_description(d.objid, d.classid::regclass::name) AS comment FROM pg_depend d
 WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_fleet') AND d.deptype = 'e'
   AND length(obj_description(d.objid, d.classid::regclass::name)) < 10;
