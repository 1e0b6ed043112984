-- Servers: made, registered, changed, removed; options of the wrapper; deployments.
\set SHOW_CONTEXT never
\set VERBOSITY verbose
CREATE ROLE regress_fleet_owner;
CREATE ROLE regress_fleet_guest;
SET ROLE regress_fleet_owner;
-- servers are made by those who have USAGE on the wrapper: nobody has, but members of fleet_operator
SELECT fleet.add_server('etl1', 'host=192.0.2.1', password => 'canary');
CREATE SERVER regress_own FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '192.0.2.3');
SELECT has_foreign_data_wrapper_privilege('fleet_operator', 'pg_fleet', 'USAGE') AS operator, has_foreign_data_wrapper_privilege('fleet_reader', 'pg_fleet', 'USAGE') AS reader;
SELECT (SELECT count(*) FROM fleet.server) + (SELECT count(*) FROM pg_foreign_server) + (SELECT count(*) FROM pg_user_mappings) AS left_behind;
RESET ROLE;
GRANT USAGE ON FOREIGN DATA WRAPPER pg_fleet TO regress_fleet_owner;
SET ROLE regress_fleet_owner;

SELECT fleet.add_server('etl1', 'host=192.0.2.1 port=5432 dbname=dw', username => 'etl', password => 'canary', slots => 4, groups => '{etl,all}') > 0;
SELECT fleet.add_server('etl2', 'postgresql://etl@192.0.2.2/dw?connect_timeout=3', password => 'canary', mode => 'direct', groups => '{etl}') > 0;
SELECT server, mode, state, slots, groups, weight, owner, wrapper, options FROM fleet.server ORDER BY server COLLATE "C";
SELECT umuser::regrole, srvname, umoptions FROM pg_user_mappings ORDER BY srvname COLLATE "C";

-- bad input
SELECT fleet.add_server('etl1', 'host=192.0.2.1', password => 'canary');
SELECT fleet.add_server(NULL, 'host=192.0.2.1', password => 'canary');
SELECT fleet.add_server('', 'host=192.0.2.1', password => 'canary');
SELECT fleet.add_server(repeat('x', 64), 'host=192.0.2.1', password => 'canary');
SELECT fleet.add_server('x', NULL, password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1');
SELECT fleet.add_server('x', 'host=192.0.2.1 password=canary');
SELECT fleet.add_server('x', 'postgresql://u:canary@192.0.2.1/dw');
SELECT fleet.add_server('x', 'host=192.0.2.1 canary');
SELECT fleet.add_server('x', 'host=192.0.2.1 hosst=canary', password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1 service=s', password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1 passfile=/x', password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1 options=-csearch_path=x', password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1 sslkey=/x', password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1 client_encoding=LATIN1', password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1 connect_timeout=-1', password => 'canary');
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', mode => 'magic');
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', slots => -1);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', weight => 0);
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', groups => '{NULL}');
SELECT fleet.add_server('x', 'host=192.0.2.1', password => 'canary', groups => NULL);
SELECT count(*) FROM pg_foreign_server WHERE srvname = 'x';

-- odd names
SELECT fleet.add_server(E'q"u''o\\t$$e', 'host=192.0.2.1', password => 'canary') > 0;
SELECT fleet.remove_server(E'q"u''o\\t$$e');

-- the wrapper's own DDL
CREATE SERVER regress_own FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '192.0.2.3', password 'canary');
CREATE SERVER regress_own FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '192.0.2.3', sslmode 'require');
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_own OPTIONS (user 'x', password_required 'false');
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_own OPTIONS (user 'x', host '192.0.2.4');
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_own OPTIONS (user 'x', password 'canary');
ALTER FOREIGN DATA WRAPPER pg_fleet OPTIONS (x 'y');
RESET ROLE;
ALTER FOREIGN DATA WRAPPER pg_fleet OPTIONS (x 'y');
SET ROLE regress_fleet_owner;

-- registering one that is there
SELECT fleet.register_server('regress_own', slots => 2, groups => '{own}') > 0;
SELECT fleet.register_server('regress_own');
SELECT fleet.register_server('nothing');
SELECT fleet.register_server(NULL);
SELECT fleet.register_server('regress_own', made_here => true);
SET ROLE regress_fleet_guest;
SELECT fleet.register_server('regress_own');
SELECT count(*) FROM fleet.server;
SELECT fleet.set_server_state('regress_own', 'offline');
SELECT fleet.create_package('guest');
SELECT fleet.create_job('guest_job');
SELECT fleet.add_step('guest_job', 's', 'SELECT 1');
SELECT fleet.add_task('guest', 't', job => 'guest_job', server => 'regress_own');
SELECT * FROM fleet.deploy_job('guest_job', server => 'regress_own');
SET ROLE regress_fleet_owner;
GRANT USAGE ON FOREIGN SERVER regress_own TO regress_fleet_guest;
SET ROLE regress_fleet_guest;
SELECT server FROM fleet.server;
SELECT server, last_error FROM fleet.server_status;
SELECT fleet.add_task('guest', 't', job => 'guest_job', server => 'regress_own');
SELECT fleet.set_server_state('regress_own', 'offline');
RESET ROLE;
CREATE FOREIGN DATA WRAPPER regress_other;
CREATE SERVER regress_wrong FOREIGN DATA WRAPPER regress_other;
SELECT fleet.register_server('regress_wrong');
DROP FOREIGN DATA WRAPPER regress_other CASCADE;

-- changes
SET ROLE regress_fleet_owner;
SELECT fleet.set_server_state('etl1', 'draining');
SELECT fleet.set_server_state('etl1', 'asleep');
SELECT fleet.set_server_state('etl1', NULL);
SELECT fleet.set_server_state('nothing', 'online');
SELECT fleet.alter_server('etl1', slots => 8);
SELECT fleet.alter_server('etl1', slots => 100000);
SELECT fleet.alter_server('etl1', slots => NULL);
SELECT fleet.alter_server('etl1', weight => 2.5, groups => '{etl}');
SELECT fleet.alter_server('etl1', mode => 'x');
SELECT fleet.alter_server('nothing');
SELECT server, mode, state, slots, busy, groups, last_error FROM fleet.server_status ORDER BY server COLLATE "C";

-- groups: of who used the name first, in a server or in a task, or as create_group() says
SELECT name, owner, servers FROM fleet.group ORDER BY 1;
SELECT fleet.create_group('etl');
SELECT fleet.create_group(NULL);
SELECT fleet.create_group('');
SELECT fleet.create_group(repeat('g', 201));
SELECT fleet.create_group('x', owner => 'regress_fleet_guest');
SELECT fleet.create_group('x', owner => 'regress_fleet_nobody');
SELECT fleet.alter_group('nothing', 'regress_fleet_owner');
SELECT fleet.alter_group('etl', remove_servers => '{nothing}');
SELECT fleet.alter_group('etl', NULL, NULL);
SELECT fleet.alter_group('etl', 'regress_fleet_guest');
SELECT fleet.alter_group(NULL, 'regress_fleet_owner');
SELECT fleet.drop_group('etl');
SELECT fleet.drop_group('nothing');
SELECT fleet.drop_group('nothing', if_exists => true);
SELECT fleet.drop_group(NULL);
SET ROLE regress_fleet_guest;
SELECT fleet.create_group('etl');
SELECT fleet.create_group('guests');
SELECT fleet.alter_group('etl', 'regress_fleet_guest');
SELECT fleet.drop_group('etl');
-- any role names it in a task; only whose it is puts servers in
SELECT fleet.add_task('guest', 'u', job => 'guest_job', on_group => 'etl');
SELECT fleet.add_task('guest', 'v', job => 'guest_job', on_group => 'named by a task');
SELECT name, owner, servers FROM fleet.group ORDER BY 1;
SET ROLE regress_fleet_owner;
SELECT fleet.alter_server('etl2', groups => '{etl,guests}');
SELECT fleet.alter_server('etl2', groups => '{etl,named by a task}');
SELECT fleet.add_server('etl3', 'host=192.0.2.1', password => 'canary', groups => '{guests}');
SELECT srvname FROM pg_foreign_server WHERE srvname = 'etl3';
SELECT fleet.alter_server('etl2', groups => '{etl,new}'), fleet.alter_server('etl2', groups => '{etl}'), fleet.drop_group('new');
RESET ROLE;
SELECT fleet.alter_server('etl2', groups => '{etl,guests}'), fleet.alter_server('etl2', groups => '{etl}');
SELECT fleet.drop_group('guests');
SET ROLE regress_fleet_guest;
SELECT fleet.drop_group('named by a task');
SELECT fleet.drop_task('guest', 'u'), fleet.drop_task('guest', 'v'), fleet.drop_group('named by a task');
SET ROLE regress_fleet_owner;

-- an operator may too
RESET ROLE;
GRANT fleet_operator TO regress_fleet_guest;
SET ROLE regress_fleet_guest;
SELECT fleet.set_server_state('etl1', 'online');
SELECT count(*) FROM fleet.server;
RESET ROLE;
REVOKE fleet_operator FROM regress_fleet_guest;

-- deployment (nothing is sent: the transaction does not commit)
SET ROLE regress_fleet_owner;
SELECT fleet.create_job('ship');
SELECT * FROM fleet.deploy_job('ship', on_group => 'etl');
SELECT fleet.add_step('ship', 's', 'SELECT 1');
BEGIN;
SELECT * FROM fleet.deploy_job('ship', on_group => 'etl');
SELECT server, job, state, drift, owner, message FROM fleet.deployment;
SELECT fleet.add_step('ship', 's2', 'SELECT 2');
SELECT server, job, state, drift FROM fleet.deployment;
SET LOCAL ROLE regress_fleet_guest;
SELECT count(*) FROM fleet.deployment;
ROLLBACK;
SELECT * FROM fleet.deploy_job('ship');
SELECT * FROM fleet.deploy_job('ship', on_group => 'etl', server => 'etl1');
SELECT * FROM fleet.deploy_job('ship', on_group => 'nothing');
SELECT * FROM fleet.deploy_job('ship', server => 'nothing');
SELECT * FROM fleet.deploy_job('nothing', server => 'etl1');

-- removal
SELECT fleet.remove_server('nothing');
SELECT fleet.remove_server('etl1');
SELECT fleet.remove_server('etl2');
SELECT fleet.remove_server('regress_own');
RESET ROLE;
SELECT fleet.remove_server('regress_own', cascade => true);
SET ROLE regress_fleet_owner;
SELECT srvname FROM pg_foreign_server;
DROP SERVER regress_own CASCADE;
SELECT fleet.drop_job('ship');
SELECT fleet.drop_group(name) FROM fleet.group;
RESET ROLE;
SELECT fleet.drop_package('guest'), fleet.drop_job('guest_job');
REVOKE USAGE ON FOREIGN DATA WRAPPER pg_fleet FROM regress_fleet_owner;
DROP ROLE regress_fleet_owner, regress_fleet_guest;

-- a foreign server in a row is itself, and by its name outside of it
CREATE SERVER "regress R'x" FOREIGN DATA WRAPPER pg_fleet;
CREATE TEMPORARY TABLE refers (s fleet_catalog.foreign_server);
INSERT INTO refers VALUES ('"regress R''x"'), ('-');
SELECT s, s::oid = coalesce((SELECT f.oid FROM pg_foreign_server AS f WHERE f.srvname = $$regress R'x$$ AND s::text <> '-'), 0) AS is_it FROM refers;
ALTER SERVER "regress R'x" RENAME TO regress_r;
SELECT s FROM refers;
DROP SERVER regress_r;
CREATE SERVER regress_r FOREIGN DATA WRAPPER pg_fleet;
SELECT s FROM refers;
SELECT '16384'::fleet_catalog.foreign_server, 'regress_nobody'::fleet_catalog.foreign_server;
DROP SERVER regress_r;
-- which is followed by event triggers, and by nobody's call
SELECT fleet_link.foreign_server_altered();
SELECT fleet_link.foreign_server_dropped();
