-- Functions of the library :lib for the tests of runners.  Superuser.
CREATE FUNCTION runner_test(role oid, command text, kind text DEFAULT 'step',
    transactional boolean DEFAULT true, fresh boolean DEFAULT true, params text DEFAULT '{}',
    on_began text DEFAULT 'none', on_log text DEFAULT 'none', on_prepared text DEFAULT 'commit',
    OUT event text, OUT ref bigint, OUT level text, OUT sqlstate text, OUT message text,
    OUT detail text, OUT hint text, OUT context text, OUT output text, OUT xid bigint,
    OUT row_count bigint, OUT never_sent boolean, OUT pid integer)
    RETURNS SETOF record LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_test';
CREATE FUNCTION runner_bench(role oid, command text, steps bigint, fresh boolean) RETURNS bigint
    LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_bench';
CREATE FUNCTION runner_count() RETURNS integer LANGUAGE c AS :'lib', 'fleet_sql_runner_count';
CREATE FUNCTION runner_shutdown(hard boolean) RETURNS void
    LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_shutdown';
CREATE FUNCTION runner_resolve(xid bigint) RETURNS text
    LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_resolve';
CREATE FUNCTION runner_give(role oid, command text, transactional boolean DEFAULT false,
    run_id bigint DEFAULT 0, on_prepared text DEFAULT 'commit') RETURNS void
    LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_give';
CREATE FUNCTION runner_give_next(command text, run_id bigint) RETURNS void
    LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_give_next';
CREATE FUNCTION runner_act(action text) RETURNS void LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_act';
CREATE FUNCTION runner_taken() RETURNS text LANGUAGE c AS :'lib', 'fleet_sql_runner_taken';
CREATE FUNCTION runner_adopt(run_id bigint, transactional boolean, xid bigint, log_seq integer,
    on_prepared text DEFAULT 'commit') RETURNS boolean
    LANGUAGE c STRICT AS :'lib', 'fleet_sql_runner_adopt';
CREATE FUNCTION runner_heard() RETURNS text LANGUAGE c AS :'lib', 'fleet_sql_runner_heard';
CREATE FUNCTION runner_xid() RETURNS bigint LANGUAGE c AS :'lib', 'fleet_sql_runner_xid';
