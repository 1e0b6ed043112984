-- Rights: on whose behalf a call is made, whatever is around it.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_alice;
CREATE ROLE regress_fleet_bob;
CREATE ROLE regress_fleet_team;
CREATE ROLE regress_fleet_su SUPERUSER;
GRANT regress_fleet_team TO regress_fleet_alice, regress_fleet_bob;
CREATE SCHEMA regress_alice AUTHORIZATION regress_fleet_alice;
CREATE SCHEMA regress_bob AUTHORIZATION regress_fleet_bob;
GRANT USAGE ON SCHEMA regress_alice TO regress_fleet_bob;

-- nothing of ours can be touched directly
SET ROLE regress_fleet_alice;
INSERT INTO fleet_catalog.job (name, owner) VALUES ('x', 'postgres');
UPDATE fleet.job SET job = 'x';
SELECT fleet_catalog.create_job('x', '{}', '', false);
SELECT fleet_catalog.caller();
CREATE TABLE fleet.mine ();

-- owners, members
SELECT fleet.create_job('alice_job');
SELECT fleet.add_step('alice_job', 's', 'SELECT 1');
SELECT fleet.create_job('team_job');
SELECT fleet.alter_job('team_job', owner => 'regress_fleet_team');
SET ROLE regress_fleet_bob;
SELECT job, owner FROM fleet.job ORDER BY job COLLATE "C";
SELECT job FROM fleet.step;
SELECT fleet.add_step('team_job', 's', 'SELECT 1');
SELECT fleet.add_step('alice_job', 's2', 'SELECT 1');
SELECT fleet.drop_job('alice_job');
SELECT fleet.start_job('alice_job');
SELECT fleet.alter_job('team_job', owner => 'regress_fleet_alice');
SELECT fleet.add_step('team_job', 's2', 'SELECT 1', run_as => 'regress_fleet_alice');
SELECT fleet.add_step('team_job', 's2', 'SELECT 1', run_as => 'regress_fleet_team');
SELECT fleet.add_step('team_job', 's3', 'SELECT 1', run_as => 'regress_fleet_bob');
SELECT fleet.create_job('bobs');
SELECT fleet.add_step('bobs', 's', 'SELECT 1', run_as => 'regress_fleet_team');
SELECT fleet.add_step('bobs', 's2', 'SELECT 1', run_as => 'regress_fleet_bob');
SELECT fleet.alter_job('bobs', owner => 'regress_fleet_team');
SELECT fleet.drop_job('bobs');
BEGIN;
SELECT fleet.start_job('team_job') > 0;
SELECT job, owner, requested_by = session_user FROM fleet.job_run;
ROLLBACK;

-- a membership in a superuser's role does not give his jobs
RESET ROLE;
GRANT regress_fleet_su TO regress_fleet_bob;
SET ROLE regress_fleet_su;
SELECT fleet.create_job('su_job');
SELECT fleet.add_step('su_job', 's', 'SELECT 1');
SET ROLE regress_fleet_bob;
SELECT fleet.start_job('su_job');
SELECT fleet.add_step('su_job', 's2', 'SELECT 1');
SELECT fleet.add_step('team_job', 's3', 'SELECT 1', run_as => 'regress_fleet_su');
RESET ROLE;
REVOKE regress_fleet_su FROM regress_fleet_bob;

-- nor does a membership without SET (PostgreSQL 16 and later; before, such a one cannot be made)
CREATE ROLE regress_fleet_unset;
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 160000 THEN
        EXECUTE 'GRANT regress_fleet_unset TO regress_fleet_bob WITH ADMIN TRUE, INHERIT FALSE, SET FALSE';
    END IF;
END $$;
SET ROLE regress_fleet_unset;
SELECT fleet.create_job('unset_job');
SELECT fleet.add_step('unset_job', 's', 'SELECT 1');
SET ROLE regress_fleet_bob;
SELECT fleet.add_step('unset_job', 's2', 'SELECT 1');
SELECT fleet.start_job('unset_job');
SELECT fleet.create_job('bobs');
SELECT fleet.add_step('bobs', 's', 'SELECT 1', run_as => 'regress_fleet_unset');
SELECT fleet.drop_job('bobs');
RESET ROLE;
SELECT fleet.drop_job('unset_job');
DROP ROLE regress_fleet_unset;

-- cached plans and role switches: what is seen follows current_user
SET ROLE regress_fleet_alice;
PREPARE mine AS SELECT job FROM fleet.job ORDER BY job COLLATE "C";
EXECUTE mine;
SET ROLE regress_fleet_bob;
EXECUTE mine;
RESET ROLE;
EXECUTE mine;
DEALLOCATE mine;
-- a condition of a user does not see rows that the view hides
SET ROLE regress_fleet_bob;
CREATE FUNCTION regress_bob.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$;
SELECT count(*) FROM fleet.job WHERE regress_bob.peek(job);
SELECT count(*) FROM fleet.step WHERE regress_bob.peek(job);

-- in somebody's SECURITY DEFINER function the rights are that function's owner's
SET ROLE regress_fleet_alice;
CREATE FUNCTION regress_alice.definer(name text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $$ BEGIN PERFORM fleet.create_job(definer.name); END $$;
SET ROLE regress_fleet_bob;
SELECT regress_alice.definer('by_definer');
SELECT job FROM fleet.job WHERE job = 'by_definer';
RESET ROLE;
SELECT job, owner FROM fleet.job WHERE job = 'by_definer';

-- an error inside gives back the caller's identity
SET ROLE regress_fleet_bob;
DO $$
BEGIN
    BEGIN
        PERFORM fleet.drop_job('no such job');
    EXCEPTION WHEN undefined_object THEN
        RAISE NOTICE 'caught as %', current_user;
    END;
    PERFORM fleet.create_job('bob_job');
END
$$;
SELECT current_user, owner FROM fleet.job WHERE job = 'bob_job';
SELECT fleet.drop_job('no such job');
SELECT current_user;

-- a malicious index: a superuser who maintains it does nothing of ours
CREATE TABLE regress_bob.bait (a int);
CREATE FUNCTION regress_bob.evil(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN 0; END $$;
CREATE INDEX bait_index ON regress_bob.bait (regress_bob.evil(a));
INSERT INTO regress_bob.bait VALUES (1);
CREATE OR REPLACE FUNCTION regress_bob.evil(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN PERFORM fleet.create_job('evil as ' || current_user); RETURN 1; END $$;
RESET ROLE;
REINDEX INDEX regress_bob.bait_index;
ANALYZE regress_bob.bait;
SELECT count(*) FROM fleet.job WHERE job LIKE 'evil%';

-- shadowing: nothing in the caller's search_path or temporary schema is ever found
SET ROLE regress_fleet_bob;
CREATE FUNCTION regress_bob.shadow(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'shadowed as %', current_user; END $$;
CREATE OPERATOR regress_bob.= (FUNCTION = regress_bob.shadow, LEFTARG = text, RIGHTARG = text);
CREATE OPERATOR regress_bob.<> (FUNCTION = regress_bob.shadow, LEFTARG = text, RIGHTARG = text);
CREATE FUNCTION regress_bob.length(text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'shadowed as %', current_user; END $$;
CREATE FUNCTION regress_bob.format(text, text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'shadowed as %', current_user; END $$;
CREATE TEMPORARY TABLE job (name text);
CREATE TEMPORARY TABLE pg_authid (oid oid, rolname text, rolsuper boolean);
SET search_path = regress_bob, pg_catalog;
SELECT fleet.create_job('unshadowed');
SELECT fleet.add_step('unshadowed', 's', 'SELECT 1');
SELECT fleet.create_package('unshadowed');
SELECT fleet.add_task('unshadowed', 't', sql => 'SELECT 1');
BEGIN;
SELECT fleet.run_parent_package('unshadowed') OPERATOR(pg_catalog.>) 0;
SELECT pg_catalog.count(*) FROM fleet.run;
SELECT pg_catalog.count(*) FROM fleet.log;
SELECT pg_catalog.count(*) FROM fleet.server_status;
ROLLBACK;
SELECT fleet.drop_package('unshadowed'), fleet.drop_job('unshadowed'), fleet.drop_job('bob_job');
RESET search_path;
DROP TABLE job, pg_authid;
RESET ROLE;

-- the connection rules need roles that are still there; a dropped owner leaves his rows to superusers
SELECT fleet.drop_job('alice_job'), fleet.drop_job('team_job'), fleet.drop_job('su_job'), fleet.drop_job('by_definer');
DROP SCHEMA regress_alice, regress_bob CASCADE;
DROP ROLE regress_fleet_alice, regress_fleet_bob, regress_fleet_team, regress_fleet_su;
