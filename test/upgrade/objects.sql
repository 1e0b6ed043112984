-- objects.sql: all that an extension has put into a database, one property a line, without OIDs: what is the same in
-- two databases has the same lines.  :'extension' names it.
--
-- A kind of object that nothing here describes has a line "not compared", which test/t/034_upgrade.pl does not allow:
-- who adds the first of its kind adds it here.

SET search_path = pg_catalog, pg_temp;

WITH extension AS (
    SELECT e.* FROM pg_extension AS e WHERE e.extname = :'extension'
), member AS (
    SELECT d.classid, d.objid FROM pg_depend AS d, extension AS e
     WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
), relation AS (
    SELECT c.* FROM pg_class AS c JOIN member AS m ON m.classid = 'pg_class'::regclass AND m.objid = c.oid
    UNION
    SELECT c.* FROM pg_class AS c JOIN pg_type AS t ON t.typrelid = c.oid AND c.relkind = 'c'
      JOIN member AS m ON m.classid = 'pg_type'::regclass AND m.objid = t.oid
), live_column AS (
    SELECT a.* FROM pg_attribute AS a JOIN relation AS r ON r.oid = a.attrelid AND r.relkind <> 'S'
     WHERE a.attnum > 0 AND NOT a.attisdropped
), object (classid, objid) AS ( -- what has a line of its own: members, and parts of relations and domains
    SELECT * FROM member
    UNION SELECT 'pg_extension'::regclass, e.oid FROM extension AS e
    UNION SELECT 'pg_class'::regclass, i.indexrelid FROM pg_index AS i JOIN relation AS r ON r.oid = i.indrelid
    UNION SELECT 'pg_constraint'::regclass, c.oid FROM pg_constraint AS c
           WHERE c.conrelid IN (SELECT r.oid FROM relation AS r)
              OR c.contypid IN (SELECT m.objid FROM member AS m WHERE m.classid = 'pg_type'::regclass)
    UNION SELECT 'pg_trigger'::regclass, t.oid FROM pg_trigger AS t JOIN relation AS r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
    UNION SELECT 'pg_rewrite'::regclass, w.oid FROM pg_rewrite AS w JOIN relation AS r ON r.oid = w.ev_class WHERE w.rulename <> '_RETURN'
    UNION SELECT 'pg_policy'::regclass, p.oid FROM pg_policy AS p JOIN relation AS r ON r.oid = p.polrelid
), named AS (
    SELECT o.classid, o.objid, i.type || ' ' || i.identity AS name
      FROM object AS o, LATERAL pg_identify_object(o.classid, o.objid, 0) AS i
), owner_and_acl (classid, objid, owner, acl) AS (
    SELECT 'pg_proc'::regclass, p.oid, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc AS p
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, c.relowner, coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))
      FROM pg_class AS c WHERE c.relkind NOT IN ('i', 'c')
    UNION ALL
    SELECT 'pg_namespace'::regclass, n.oid, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)) FROM pg_namespace AS n
    UNION ALL
    SELECT 'pg_foreign_data_wrapper'::regclass, w.oid, w.fdwowner, coalesce(w.fdwacl, acldefault('F', w.fdwowner)) FROM pg_foreign_data_wrapper AS w
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner)) FROM pg_type AS t
    UNION ALL
    SELECT 'pg_event_trigger'::regclass, t.oid, t.evtowner, NULL FROM pg_event_trigger AS t
    UNION ALL
    SELECT 'pg_extension'::regclass, e.oid, e.extowner, NULL FROM pg_extension AS e
), property (name, what) AS (
    SELECT n.name, 'is there' FROM named AS n
    UNION ALL
    SELECT n.name, 'not compared' FROM named AS n
     WHERE n.classid NOT IN ('pg_extension'::regclass, 'pg_proc'::regclass, 'pg_class'::regclass, 'pg_namespace'::regclass,
                             'pg_foreign_data_wrapper'::regclass, 'pg_type'::regclass, 'pg_cast'::regclass, 'pg_event_trigger'::regclass,
                             'pg_constraint'::regclass, 'pg_trigger'::regclass, 'pg_rewrite'::regclass, 'pg_policy'::regclass)
    -- what all have: owner, rights (those of now, and those that a dump takes for granted), comments
    UNION ALL
    SELECT n.name, 'owner ' || pg_get_userbyid(o.owner) FROM named AS n JOIN owner_and_acl AS o USING (classid, objid)
    UNION ALL
    SELECT n.name, format('right %s of %s%s', a.privilege_type, coalesce(NULLIF(a.grantee, 0)::regrole::text, 'PUBLIC'),
                          CASE WHEN a.is_grantable THEN ', grantable' END)
      FROM named AS n JOIN owner_and_acl AS o USING (classid, objid), LATERAL aclexplode(o.acl) AS a
    UNION ALL
    SELECT n.name, format('initial right %s of %s on column %s%s', a.privilege_type, coalesce(NULLIF(a.grantee, 0)::regrole::text, 'PUBLIC'),
                          p.objsubid, CASE WHEN a.is_grantable THEN ', grantable' END)
      FROM named AS n JOIN pg_init_privs AS p ON p.classoid = n.classid AND p.objoid = n.objid, LATERAL aclexplode(p.initprivs) AS a
    UNION ALL
    SELECT n.name, format('comment on %s: %s', CASE WHEN d.objsubid > 0 THEN (SELECT a.attname FROM pg_attribute AS a
                                               WHERE a.attrelid = d.objoid AND a.attnum = d.objsubid) ELSE 'it' END, d.description)
      FROM named AS n JOIN pg_description AS d ON d.classoid = n.classid AND d.objoid = n.objid
    -- the extension: its version, and what a dump takes along
    UNION ALL
    SELECT n.name, format('version %s, schema %s, relocatable %s', e.extversion, e.extnamespace::regnamespace, e.extrelocatable)
      FROM named AS n JOIN extension AS e ON n.classid = 'pg_extension'::regclass AND n.objid = e.oid
    UNION ALL
    SELECT n.name, format('in dumps: %s where "%s"', c.relid::regclass, c.condition)
      FROM named AS n JOIN extension AS e ON n.classid = 'pg_extension'::regclass AND n.objid = e.oid,
           LATERAL unnest(e.extconfig, e.extcondition) AS c (relid, condition)
    -- functions, whole
    UNION ALL
    SELECT n.name, CASE p.prokind WHEN 'a' THEN 'not compared' ELSE pg_get_functiondef(p.oid) END
      FROM named AS n JOIN pg_proc AS p ON n.classid = 'pg_proc'::regclass AND n.objid = p.oid
    -- relations
    UNION ALL
    SELECT n.name, format('kind %s, access method %s, persistence %s, options %s, replica identity %s, row security %s and forced %s',
                          c.relkind, (SELECT a.amname FROM pg_am AS a WHERE a.oid = c.relam), c.relpersistence,
                          (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) AS o), c.relreplident, c.relrowsecurity, c.relforcerowsecurity)
      FROM named AS n JOIN pg_class AS c ON n.classid = 'pg_class'::regclass AND n.objid = c.oid
    UNION ALL
    SELECT n.name, pg_get_viewdef(c.oid)
      FROM named AS n JOIN pg_class AS c ON n.classid = 'pg_class'::regclass AND n.objid = c.oid AND c.relkind IN ('v', 'm')
    UNION ALL
    SELECT n.name, format('%s; clustered %s, replica identity %s, valid %s', pg_get_indexdef(i.indexrelid), i.indisclustered, i.indisreplident, i.indisvalid)
      FROM named AS n JOIN pg_index AS i ON n.classid = 'pg_class'::regclass AND n.objid = i.indexrelid
    UNION ALL
    SELECT n.name, format('sequence of %s: start %s, from %s to %s by %s, cache %s, cycle %s', format_type(s.seqtypid, NULL),
                          s.seqstart, s.seqmin, s.seqmax, s.seqincrement, s.seqcache, s.seqcycle)
      FROM named AS n JOIN pg_sequence AS s ON n.classid = 'pg_class'::regclass AND n.objid = s.seqrelid
    UNION ALL
    SELECT 'table ' || c.name, 'columns ' || c.columns
      FROM (SELECT r.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
              FROM relation AS r JOIN live_column AS a ON a.attrelid = r.oid
             GROUP BY r.oid) AS c (name, columns)
    UNION ALL
    SELECT format('column %s.%I', r.oid::regclass, a.attname),
           format('%s, not null %s, collation %s, identity "%s", generated "%s", storage %s, compression "%s", statistics %s, options %s, default %s',
                  format_type(a.atttypid, a.atttypmod), a.attnotnull, NULLIF(a.attcollation, 0)::regcollation, a.attidentity, a.attgenerated,
                  a.attstorage, a.attcompression, a.attstattarget,
                  (SELECT array_agg(o ORDER BY o) FROM unnest(a.attoptions) AS o WHERE o LIKE 'n\_distinct%'), -- what ALTER TABLE can set
                  (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef AS d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum))
      FROM relation AS r JOIN live_column AS a ON a.attrelid = r.oid
    UNION ALL
    SELECT format('column %s.%I', r.oid::regclass, a.attname),
           format('right %s of %s%s', x.privilege_type, coalesce(NULLIF(x.grantee, 0)::regrole::text, 'PUBLIC'), CASE WHEN x.is_grantable THEN ', grantable' END)
      FROM relation AS r JOIN live_column AS a ON a.attrelid = r.oid, LATERAL aclexplode(a.attacl) AS x
    UNION ALL
    SELECT n.name, format('%s; validated %s', pg_get_constraintdef(c.oid), c.convalidated)
      FROM named AS n JOIN pg_constraint AS c ON n.classid = 'pg_constraint'::regclass AND n.objid = c.oid
    UNION ALL
    SELECT n.name, format('%s; enabled %s', pg_get_triggerdef(t.oid), t.tgenabled)
      FROM named AS n JOIN pg_trigger AS t ON n.classid = 'pg_trigger'::regclass AND n.objid = t.oid
    UNION ALL
    SELECT n.name, format('%s; enabled %s', pg_get_ruledef(w.oid), w.ev_enabled)
      FROM named AS n JOIN pg_rewrite AS w ON n.classid = 'pg_rewrite'::regclass AND n.objid = w.oid
    UNION ALL
    SELECT n.name, format('for %s, permissive %s, roles %s, using %s, check %s', p.polcmd, p.polpermissive,
                          (SELECT string_agg(CASE WHEN o = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(o) END, ', ' ORDER BY 1) FROM unnest(p.polroles) AS o),
                          pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
      FROM named AS n JOIN pg_policy AS p ON n.classid = 'pg_policy'::regclass AND n.objid = p.oid
    -- the others
    UNION ALL
    SELECT n.name, format('kind %s, category %s, base %s, not null %s, default %s, values %s', t.typtype, t.typcategory,
                          format_type(NULLIF(t.typbasetype, 0), t.typtypmod), t.typnotnull, t.typdefault,
                          (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid))
      FROM named AS n JOIN pg_type AS t ON n.classid = 'pg_type'::regclass AND n.objid = t.oid
    UNION ALL
    SELECT n.name, format('not compared: type of kind %s', t.typtype)
      FROM named AS n JOIN pg_type AS t ON n.classid = 'pg_type'::regclass AND n.objid = t.oid WHERE t.typtype IN ('r', 'm') AND t.typelem = 0
    UNION ALL
    SELECT n.name, format('length %s, by value %s, align %s, storage %s, preferred %s, delimiter %s, in %s, out %s, receive %s, send %s, modifier %s %s, analyze %s, subscript %s',
                          t.typlen, t.typbyval, t.typalign, t.typstorage, t.typispreferred, t.typdelim, t.typinput, t.typoutput, t.typreceive, t.typsend,
                          t.typmodin, t.typmodout, t.typanalyze, t.typsubscript)
      FROM named AS n JOIN pg_type AS t ON n.classid = 'pg_type'::regclass AND n.objid = t.oid WHERE t.typtype = 'b'
    UNION ALL
    SELECT n.name, format('context %s, method %s, function %s', c.castcontext, c.castmethod, NULLIF(c.castfunc, 0)::regprocedure)
      FROM named AS n JOIN pg_cast AS c ON n.classid = 'pg_cast'::regclass AND n.objid = c.oid
    UNION ALL
    SELECT n.name, format('handler %s, validator %s, options %s', NULLIF(w.fdwhandler, 0)::regproc, NULLIF(w.fdwvalidator, 0)::regproc, w.fdwoptions)
      FROM named AS n JOIN pg_foreign_data_wrapper AS w ON n.classid = 'pg_foreign_data_wrapper'::regclass AND n.objid = w.oid
    UNION ALL
    SELECT n.name, format('on %s, tags %s, calls %s, enabled %s', t.evtevent, t.evttags, t.evtfoid::regprocedure, t.evtenabled)
      FROM named AS n JOIN pg_event_trigger AS t ON n.classid = 'pg_event_trigger'::regclass AND n.objid = t.oid
)
SELECT replace(p.name || ': ' || p.what, E'\n', '\n') AS line FROM property AS p ORDER BY line;
