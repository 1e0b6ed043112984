# What is asked with less than it takes.  A member of a superuser's role is no superuser; a link may not fill
# its server, nor give it what is no object; whoever calls a procedure runs nobody else's code by it.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0);
my $pw = $FleetTest::PASSWORD;

# ---- run_as, and a superuser -------------------------------------------------------------------

# batch was a role like any other when the job was defined.
$f->sql(<<"SQL");
CREATE ROLE alice LOGIN; CREATE ROLE batch LOGIN; GRANT batch TO alice; GRANT USAGE ON FOREIGN SERVER a1, d1 TO alice, batch;
CREATE USER MAPPING FOR alice SERVER a1 OPTIONS (user 'etl', password '$pw'); CREATE USER MAPPING FOR alice SERVER d1 OPTIONS (user 'etl', password '$pw');
CREATE USER MAPPING FOR batch SERVER d1 OPTIONS (user 'etl', password '$pw');
SQL
$f->sql_on('a1', 'CREATE ROLE batch LOGIN; GRANT batch TO etl');
$f->sql(<<'SQL');
SET ROLE batch;
SELECT fleet.create_job('of batch'); SELECT fleet.add_step('of batch', 's', 'SELECT current_user');
SET ROLE alice;
SELECT fleet.create_job('as batch'); SELECT fleet.add_step('as batch', 's', 'SELECT current_user', run_as => 'batch');
SELECT * FROM fleet.deploy_job('as batch', server => 'a1');
SELECT fleet.create_package('as batch');
SELECT fleet.add_task('as batch', 'a1', job => 'as batch', server => 'a1');
SELECT fleet.add_task('as batch', 'd1', job => 'as batch', server => 'd1');
SELECT fleet.add_task('as batch', 'of', job => 'of batch', server => 'd1');
SQL
$f->wait_for('parent', q{SELECT state FROM fleet.deployment WHERE job = 'as batch'}, 'deployed', 'the job is deployed');
sub told
{
    my ($run) = @_;
    return $f->sql("SELECT string_agg(concat_ws('|', task, state, sqlstate, message), E'\\n' ORDER BY task) FROM fleet.task_run WHERE run_id = $run");
}
sub here
{
    my $id = $f->sql(q{SET ROLE alice; SELECT fleet.start_job('as batch')});
    $f->wait_for('parent', "SELECT finished_at IS NOT NULL FROM fleet.job_run WHERE job_run_id = $id", 't', undef);
    return $f->sql("SELECT concat_ws('|', state, sqlstate, message) FROM fleet.job_run WHERE job_run_id = $id");
}
sub everywhere { return $f->sql(q{SET ROLE alice; SELECT fleet.run_parent_package('as batch')}); }
my $run = everywhere();
$f->run_is($run, 'succeeded', 'run_as of a role that is no superuser');
is(here(), 'succeeded', '… here, too');
$f->sql_on($_, 'ALTER ROLE batch SUPERUSER') for qw(parent a1);
my $refused = 'failed|42501|role "batch" is a superuser, and the job\'s owner is not';
is(here(), $refused, 'it became one: refused here');
$run = everywhere();
$f->run_is($run, 'failed', '… and on servers');
is(told($run), "a1|$refused\nd1|$refused\nof|failed|42501|the owner of job \"of batch\" is a superuser, and the run's owner is not", '… in both modes, and for its own jobs');
is((split /\n/, $f->fails(q{SET ROLE alice; SELECT fleet.add_step('as batch', 't', 'SELECT 1', run_as => 'batch')}, '42501', 'as at the definition'))[0] =~ /batch/, 1, '… which names it');
$f->sql_on($_, 'ALTER ROLE batch NOSUPERUSER') for qw(parent a1);
is(here(), 'succeeded', 'no superuser any more: it runs');

# ---- what a link says --------------------------------------------------------------------------

my $parent = '11111111-2222-4333-8444-555555555555';
my $hello = "SELECT agent_protocol FROM fleet_link.agent_hello(fleet_link.version_of_protocol, '$parent', 7, 'somebody')";
my $protocol = $f->sql_on('a1', 'SELECT fleet_catalog.protocol()');
$hello =~ s/fleet_link\.version_of_protocol/$protocol/;
$f->sql_as('etl', $hello, on => 'a1');
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_job('theirs', params => '{"a": 1}'); SELECT fleet.add_step('theirs', 's', 'SELECT 1')});
for my $params ('[]', '[{"a": 2}]', '1', '"x"', 'null', 'true')
{
    is($f->sql_as('etl', "SELECT sqlstate, message, job_run_id FROM fleet_link.agent_start('$parent', 7, ARRAY[gen_random_uuid()], '{theirs}', ARRAY['$params'::jsonb])", on => 'a1'),
        '22023|the parameters of a job must be a JSON object of at most 1,000,000 bytes|', "parameters that are no object are refused: $params");
}
is($f->sql_as('etl', "SELECT string_agg(coalesce(sqlstate, '-'), ' ' ORDER BY ord) FROM fleet_link.agent_start('$parent', 7, ARRAY[gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), NULL], '{theirs,theirs,theirs,theirs}', ARRAY['{}', '[]', NULL, '{}']::jsonb[])", on => 'a1'),
    '- 22023 - 22004', 'one of them is refused, and the others begin');
is($f->sql_on('a1', q{SELECT count(*) FROM fleet.job_run WHERE job = 'theirs' AND jsonb_typeof(params) <> 'object'}), '0', 'no job run has such parameters');

$f->sql_as('etl', "SELECT fleet_link.agent_cancel('$parent', 7, ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 200000)))", on => 'a1') for 1 .. 2;
is($f->sql_on('a1', q{SELECT count(*) FROM fleet_catalog.job_run WHERE job = ''}), '10000', 'a role that cancels 400,000 tokens that nobody knows gets 10,000 rows');
my $token = $f->sql_as('etl', "SELECT gen_random_uuid()", on => 'a1');
$f->sql_on('a1', q{DELETE FROM fleet_catalog.job_run WHERE job_run_id = (SELECT max(job_run_id) FROM fleet_catalog.job_run WHERE job = '')});
$f->sql_as('etl', "SELECT fleet_link.agent_cancel('$parent', 7, '{$token,$token}')", on => 'a1');
is($f->sql_as('etl', "SELECT r.state FROM fleet_link.agent_start('$parent', 7, '{$token}', '{theirs}', NULL) AS s JOIN fleet.job_run AS r USING (job_run_id)", on => 'a1'), 'canceled', 'one that comes after its cancel is canceled');

# ---- whose types -------------------------------------------------------------------------------

# A schema in front of pg_catalog with a domain for each type that a body could name, each of which tells who looked at it.
$f->sql(<<'SQL');
CREATE TABLE public.fooled (who name, what text);
GRANT INSERT ON public.fooled TO PUBLIC;
CREATE ROLE mallory;
CREATE SCHEMA hostile AUTHORIZATION mallory;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
SET ROLE mallory;
CREATE FUNCTION hostile.fooled(what text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.fooled VALUES (current_user, what); RETURN true; END$$;
DO $$
DECLARE
    v_type name;
BEGIN
    FOREACH v_type IN ARRAY '{text,jsonb,json,name,bool,int2,int4,int8,float8,numeric,uuid,interval,timestamptz,date,record,regclass,oid}'::name[] LOOP
        EXECUTE format('CREATE DOMAIN hostile.%1$I AS %2$s CHECK (hostile.fooled(%1$L))', v_type,
                       CASE v_type WHEN 'record' THEN 'pg_catalog.text' ELSE 'pg_catalog.' || quote_ident(v_type) END);
    END LOOP;
END $$;
SQL
$f->package('plain', -params => '{"key": null}', t => { sql => q{DO $b$BEGIN RAISE NOTICE 'a line'; END$b$} });
$f->package('bad', t => { sql => 'SELECT 1 / 0' });
my ($rc, $out, $err) = $f->try_as(undef, q{SET search_path = hostile, pg_catalog; CALL fleet.execute_package('plain', '{"key": "x"}')});
is($rc, 0, 'a hostile search_path: execute_package() does its work') or diag($err);
($rc, $out, $err) = $f->try_as(undef, q{SET search_path = hostile, pg_catalog; CALL fleet.execute_package('bad')});
like($err, qr/ERROR:  09000: package "bad" did not succeed/, '… and says what failed');
is($f->sql(q{SELECT string_agg(DISTINCT what, ' ') FROM public.fooled}), '', '… and runs nothing of that schema');
# The others cannot be led astray: their search_path is their own, or their names were looked up at the installation.
$f->job('plain job', q{DO $b$BEGIN RAISE NOTICE 'a line'; END$b$});
($rc, $out, $err) = $f->try_as(undef, q{SET search_path = hostile, pg_catalog; CALL fleet.execute_job('plain job', '{"key": "x"}')});
is($rc, 0, 'a hostile search_path: execute_job() does its work') or diag($err);
is($f->sql(q{SELECT string_agg(DISTINCT what, ' ') FROM public.fooled}), '', '… and runs nothing of that schema');
is($f->sql(<<'SQL'), 'fleet.execute_job(text,jsonb,text,text,text) fleet.execute_package(text,jsonb) fleet_link.follow_run(bigint,text)', 'they are the only ones whose names are looked up when they are called');
SELECT string_agg(p.oid::regprocedure::text, ' ' ORDER BY p.oid::regprocedure::text COLLATE "C")
  FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
  JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'pg_fleet'
 WHERE l.lanname <> 'c' AND p.prosqlbody IS NULL AND NOT coalesce(p.proconfig && ARRAY['search_path=pg_catalog, pg_temp'], false)
SQL

$f->done;
