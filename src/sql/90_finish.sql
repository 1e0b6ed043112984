-- 90_finish.sql: rights and comments of all that the files before have made.

-- Only pg_fleet itself calls what is in fleet_catalog.  Functions that views use are the exception, because
-- a view calls them as the role that queries it.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA fleet_catalog FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fleet_catalog.is_visible(oid), fleet_catalog.parallel_limit(text, integer), fleet_catalog.limits_said(jsonb, text[]), fleet_catalog.state_name(smallint), fleet_catalog.is_open(text), fleet_catalog.state_code(text),
    fleet_catalog.is_final(smallint), fleet_catalog.is_running(smallint), fleet_catalog.is_done(smallint), fleet_catalog.in_quarantine(integer, timestamptz),
    fleet_catalog.token(uuid, uuid, text, integer, integer), fleet_catalog.content_hash(text), fleet_catalog.path_in(text, text, text),
    fleet_catalog.speed(double precision, double precision), fleet_catalog.next_time(text, text, timestamptz), fleet_catalog.calendar(),
    fleet_catalog.mean_us(double precision, double precision, integer), fleet_catalog.stat_histogram(bigint[], integer), fleet_catalog.stat_seconds(bigint[], integer) TO PUBLIC;
-- Pages are made as the role that asks for them, too (61_page.sql).
DO $$
DECLARE
    v_function pg_catalog.regprocedure;
BEGIN
    FOR v_function IN
        SELECT p.oid FROM pg_catalog.pg_proc AS p
         WHERE p.pronamespace = 'fleet_catalog'::pg_catalog.regnamespace
           AND (p.proname ~ '^(page|report|overview|text|drawing|gantt)_' OR p.proname = ANY ('{html,without_secrets,drawing,span_text,seconds,number_text,time_text,state_class,state_sign,state_html,cell,heads,
                permille,axis_step,axis_html,scroll,piece_html,fact,clip,graph_html}'))
    LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', v_function);
    END LOOP;
END
$$;
GRANT SELECT ON ALL TABLES IN SCHEMA fleet TO PUBLIC;

COMMENT ON SCHEMA fleet IS 'pg_fleet: functions and views for users';
COMMENT ON SCHEMA fleet_link IS 'pg_fleet: what links of a parent, and functions and views of schema fleet, call';
COMMENT ON SCHEMA fleet_catalog IS 'pg_fleet: tables and internal functions, not for use';

-- The hidden twins of the public functions.
DO $$
DECLARE
    v_function record;
BEGIN
    FOR v_function IN
        SELECT p.oid::pg_catalog.regprocedure AS signature, o.oid::pg_catalog.regprocedure AS public
          FROM pg_catalog.pg_proc AS p
          LEFT JOIN pg_catalog.pg_proc AS o ON o.proname = p.proname AND o.proargtypes = p.proargtypes
                                           AND o.pronamespace IN ('fleet'::pg_catalog.regnamespace, 'fleet_link'::pg_catalog.regnamespace)
         WHERE p.pronamespace = 'fleet_catalog'::pg_catalog.regnamespace
           AND pg_catalog.obj_description(p.oid, 'pg_proc') IS NULL
    LOOP
        EXECUTE pg_catalog.format('COMMENT ON FUNCTION %s IS %L', v_function.signature,
                                  CASE WHEN v_function.public IS NULL THEN 'Internal function of pg_fleet; see the install script'
                                       ELSE 'Implements ' || v_function.public::text END);
    END LOOP;
END
$$;
