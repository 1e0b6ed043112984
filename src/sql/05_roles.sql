-- 05_roles.sql: the two roles of pg_fleet.  Roles belong to the cluster, so a second database with
-- the extension finds them; DROP EXTENSION leaves them.

DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY['fleet_operator', 'fleet_reader'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles AS r WHERE r.rolname = v_role) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', v_role);
        END IF;
    END LOOP;
END
$$;
