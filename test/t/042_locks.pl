# (runs long) No open transaction of a user holds up anything of others.  While one role keeps a transaction open in
# which it has called a function of pg_fleet, each of them in turn, at the parent and on a server of mode
# agent, or has taken any lock that it may take, another role's deployment and run in both modes are
# requested and end, and agents that are ended are replaced.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0, register => 0,
    conf => "max_worker_processes = 40\nfleet.runner_idle_timeout = '1s'\n");
my @all = qw(parent a1 d1);

# ---- alice holds transactions open; she is an operator, and a member of bob's role; bob works ---

my %session;
sub prepare_role_and_gate
{
    my ($node, $db) = @_;
    $f->kept($node, $db)->run(<<'SQL');
CREATE TABLE etl.go (key text);
GRANT USAGE ON SCHEMA etl TO PUBLIC;
GRANT SELECT ON etl.go TO PUBLIC;
CREATE FUNCTION etl.stay(k text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT EXISTS (SELECT FROM etl.go WHERE key = k) LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
END $$;
SQL
    return;
}
for my $node (@all)
{
    $f->sql_on($node, "CREATE ROLE bob LOGIN PASSWORD '$FleetTest::PASSWORD'; CREATE ROLE alice LOGIN PASSWORD '$FleetTest::PASSWORD' IN ROLE bob");
    $f->sql_on($node, 'GRANT fleet_operator TO alice') if $node ne 'd1';
    prepare_role_and_gate($node, $FleetTest::DB);
}

# What both use, in a database of the parent; a1 leads to a database of the same name there.
sub define
{
    my ($db) = @_;
    my $as = sub {
        my ($role, $sql) = @_;
        my ($rc, $out, $err) = $f->kept('parent', $db)->run("SET ROLE $role; $sql");
        die "$role: $sql: $err" if $rc;
        return;
    };
    my $there = "port=%d host=127.0.0.1 sslmode=disable dbname=%s";
    my %server = (a1 => [ a1 => 'agent', $db ], spare => [ a1 => 'agent', 'spare' ], d1 => [ d1 => 'direct', $FleetTest::DB ]);
    for my $name (sort keys %server)
    {
        my ($node, $mode, $dbname) = @{ $server{$name} };
        my $conninfo = sprintf $there, $f->node($node)->port, $dbname;
        $as->(alice => "SELECT fleet.add_server('$name', '$conninfo', username => 'alice', password => '$FleetTest::PASSWORD', mode => '$mode', groups => '{all}');
            GRANT USAGE ON FOREIGN SERVER $name TO bob; CREATE USER MAPPING FOR bob SERVER $name OPTIONS (user 'bob', password '$FleetTest::PASSWORD')");
    }
    $as->(alice => q{SELECT fleet.create_group('hers'), fleet.create_group('spare group'), fleet.create_limit('hers', 9), fleet.create_limit('spare limit', 1), fleet.add_hook('hers', sql => 'SELECT 1'), fleet.add_hook('spare hook', sql => 'SELECT 1')});
    my $extra = sprintf "CREATE SERVER extra FOREIGN DATA WRAPPER pg_fleet OPTIONS (host '127.0.0.1', port '%d', dbname 'dw')", $f->node('d1')->port;
    $as->(alice => "$extra; SELECT fleet.add_server('unused', 'host=127.0.0.1 port=1', username => 'alice', password => 'secret', mode => 'direct')");
    $as->(bob => <<'SQL');
SELECT fleet.create_package('inner'), fleet.add_task('inner', 'in', sql => 'SELECT 1');
SELECT fleet.create_job('work'), fleet.add_step('work', 'one', sql => 'SELECT 1'), fleet.add_step('work', 'two', package => 'inner');
SELECT fleet.create_job('plain'), fleet.add_step('plain', 'one', sql => 'SELECT 1'), fleet.add_step('plain', 'more', sql => 'SELECT 2');
SELECT fleet.create_job('stays', params => '{"key": "-"}'), fleet.add_step('stays', 'one', sql => $$SELECT etl.stay(current_setting('fleet.params')::jsonb ->> 'key')$$);
SELECT fleet.create_package('both'),
    fleet.add_task('both', 'here', sql => 'SELECT 1'),
    fleet.add_task('both', 'each', sql => 'SELECT 1', for_each => 'SELECT jsonb_build_object(''n'', n) FROM generate_series(1, 3) AS n'),
    fleet.add_task('both', 'agent', job => 'work', server => 'a1'),
    fleet.add_task('both', 'direct', job => 'plain', server => 'd1'),
    fleet.add_task('both', 'nested', nested => 'inner', after => '{here}');
SELECT fleet.schedule_package('both', '0 0 1 1 *');
SELECT fleet.create_package('gate', params => '{"key": "-"}'),
    fleet.add_task('gate', 'here', sql => $$SELECT etl.stay(fleet.param('key'))$$),
    fleet.add_task('gate', 'agent', job => 'stays', server => 'a1');
SELECT * FROM fleet.deploy_job('stays', server => 'a1');
SQL
    return;
}
$f->node('a1')->safe_psql('postgres', 'CREATE DATABASE spare');
$f->kept('a1', 'spare')->run('CREATE EXTENSION pg_fleet');
define('dw');
$f->wait_for('parent', q{SELECT state FROM fleet.deployment WHERE job = 'stays'}, 'deployed', 'a job is deployed');

# A request that somebody else holds up fails in the end.
sub bob
{
    my ($sql, $db) = @_;
    my ($rc, $out, $err) = $f->kept('parent', $db || 'dw')->run("SET ROLE bob; SET statement_timeout = '${FleetTest::PATIENCE}s'; $sql");
    fail("bob: $sql") or diag($err) if $rc;
    return $rc ? 0 : $out;
}
my $version = 0;

# New versions: what is stored of them is new too.
sub alter
{
    my ($db) = @_;
    $version++;
    bob("SELECT fleet.drop_task('inner', 'in'), fleet.add_task('inner', 'in', sql => 'SELECT $version')", $db);
    return;
}

sub end_agents
{
    my ($db, @nodes) = @_;
    $f->kept($_, $db)->run(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = current_database()}) for @nodes;
    return;
}

# What bob does, and what must end.
sub works
{
    my ($name, %o) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $db = $o{db} || 'dw';
    my $wait = sub {
        my ($sql, $expected, $what) = @_;
        local $Test::Builder::Level = $Test::Builder::Level + 2;
        my $ok = $f->wait_for_in('parent', $db, $sql, $expected, "$name: $what");
        diag('who waits: ', map { "\n$_: " . ($f->kept($_, 'postgres')->run(
            q{SELECT backend_type, datname, usename, l.locktype, l.relation, pg_blocking_pids(a.pid), left(query, 60) FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid) WHERE NOT l.granted}))[1] } qw(parent a1)) unless $ok;
        return $ok;
    };
    alter($db) unless $o{altered};
    my $where = $o{on} ? "server => '$o{on}'" : q{on_group => 'all'};
    bob("SELECT * FROM fleet.deploy_job('work', $where)", $db);
    my $deployed = q{SELECT string_agg(DISTINCT state, ' ') FROM fleet.deployment WHERE job = 'work'};
    my $ok = $wait->($deployed, $o{deployment} || 'deployed', 'a deployment ends');
    end_agents($db, $o{node} || qw(parent a1));
    bob(q{SELECT * FROM fleet.deploy_job('work', server => 'a1')}, $db);
    my $run = bob(q{SELECT fleet.run_parent_package('both', run_key => 'bob ' || clock_timestamp())}, $db);
    $ok &= $wait->("SELECT state FROM fleet.run WHERE run_id = $run", 'succeeded', 'a run in both modes ends, with new agents');
    $ok &= $wait->($deployed, $o{deployment} || 'deployed', '… and a deployment that they have found');
    return $ok;
}

# A session of alice, and a call in a transaction that stays open: its error, or ''.
sub alice
{
    my ($node, $db, $role) = @_;
    return $session{"$node $db $role"} ||= $f->node($node)->background_psql($db, on_error_stop => 0, timeout => 60 * $FleetTest::PATIENCE, extra_params => [ '-U', $role, '-v', 'VERBOSITY=terse' ]);
}
sub hold
{
    my ($session, $call) = @_;
    $session->{stderr} = '';
    $session->query("BEGIN;\n$call;");
    my $error = $session->{stderr};
    return $error =~ /(ERROR:.*)/ ? $1 : '';
}
sub let_go { my ($session) = @_; $session->{stderr} = ''; $session->query('ROLLBACK;'); $session->{stderr} = ''; return; }

ok(works('nobody holds anything'), 'it works without all that');

# ---- each function ------------------------------------------------------------------------------

# {…} is filled in: run and job run that are open, a token of that run on a1, who the parent is there.
my $hello = q{SELECT fleet_link.agent_hello(2, '{uuid}', {epoch}, 'alice')};
my %call = (
    'fleet.add_precedence'   => q{SELECT fleet.add_precedence('both', 'here', 'direct')},
    'fleet.add_server'       => q{SELECT fleet.add_server('new', 'host=127.0.0.1 port=1', username => 'alice', password => 'secret')},
    'fleet.add_step'         => q{SELECT fleet.add_step('work', 'three', sql => 'SELECT 1')},
    'fleet.add_task'         => q{SELECT fleet.add_task('both', 'new', sql => 'SELECT 1')},
    'fleet.advise'           => [ q{SELECT * FROM fleet.advise('both', servers => 2)}, reads => 1 ],
    'fleet.agent_status'     => [ q{SELECT * FROM fleet.agent_status()}, reads => 1 ],
    'fleet.alter_group'      => q{SELECT fleet.alter_group('hers', owner => 'alice')},
    'fleet.alter_job'        => q{SELECT fleet.alter_job('work', description => 'alice')},
    'fleet.alter_package'    => q{SELECT fleet.alter_package('both', priority => 1)},
    'fleet.alter_precedence' => q{SELECT fleet.alter_precedence('both', 'here', 'nested', on_outcome => 'completion')},
    'fleet.alter_step'       => q{SELECT fleet.alter_step('work', 'one', retries => 1, new_name => 'first')},
    'fleet.diff_job'         => [ q{SELECT * FROM fleet.diff_job('work', 1)}, reads => 1 ],
    'fleet.diff_package'     => [ q{SELECT * FROM fleet.diff_package('both', 1)}, reads => 1 ],
    'fleet.restore_job'      => q{SELECT fleet.alter_job('work', description => 'x'), fleet.restore_job('work', 1)},
    'fleet.restore_package'  => q{SELECT fleet.alter_package('both', description => 'x'), fleet.restore_package('both', 1)},
    'fleet.alter_server'     => q{SELECT fleet.alter_server('a1', slots => 1), fleet.alter_server('d1', slots => 1), fleet.alter_server('spare', mode => 'direct')},
    'fleet.alter_task'       => q{SELECT fleet.alter_task('both', 'each', enabled => true, new_name => 'every')},
    'fleet.cancel_job_run'   => q{SELECT fleet.cancel_job_run({job_run})},
    'fleet.cancel_run'       => q{SELECT fleet.cancel_run({run}), fleet.cancel_run({run}, final_tasks => false)},
    'fleet.confirm_identity' => [ q{SELECT fleet.confirm_identity('new')}, role => 'postgres', error => qr/is not paused/ ],
    'fleet.add_hook'         => q{SELECT fleet.add_hook('new', sql => 'SELECT 1')},
    'fleet.alter_hook'       => q{SELECT fleet.alter_hook('hers', retries => 1, new_name => 'still hers')},
    'fleet.drop_hook'        => q{SELECT fleet.drop_hook('spare hook')},
    'fleet_link.hook_params' => [ q{SELECT fleet_link.hook_params('work')}, reads => 1 ],
    'fleet.create_limit'     => q{SELECT fleet.create_limit('new', 1)},
    'fleet.alter_limit'      => q{SELECT fleet.alter_limit('hers', max_running => 9, new_name => 'still hers')},
    'fleet.set_quota'        => [ q{SELECT fleet.set_quota('alice', max_runners => 9)}, role => 'postgres' ],
    'fleet.drop_quota'       => [ q{SELECT fleet.set_quota('bob', max_runners => 9), fleet.drop_quota('bob')}, role => 'postgres' ],
    'fleet.drop_limit'       => q{SELECT fleet.drop_limit('spare limit')},
    'fleet.create_group'     => q{SELECT fleet.create_group('new')},
    'fleet.create_job'       => q{SELECT fleet.create_job('new')},
    'fleet.create_package'   => q{SELECT fleet.create_package('new')},
    'fleet.undeploy_job'     => q{SELECT * FROM fleet.undeploy_job('work', on_group => 'all')},
    'fleet.deploy_job'       => q{SELECT * FROM fleet.deploy_job('work', on_group => 'all')},
    'fleet.drop_group'       => q{SELECT fleet.drop_group('spare group')},
    'fleet.drop_job'         => q{SELECT fleet.drop_job('plain', cascade => true)},
    'fleet.drop_package'     => q{SELECT fleet.drop_package('both', cascade => true)},
    'fleet.drop_precedence'  => q{SELECT fleet.drop_precedence('both', 'here', 'nested')},
    'fleet.drop_step'        => q{SELECT fleet.drop_step('plain', 'more')},
    'fleet.drop_task'        => q{SELECT fleet.drop_task('both', 'each')},
    'fleet.execute_package'  => [ q{CALL fleet.execute_package('gate', '{"key": "{key}"}')}, waits => 1 ],
    'fleet.execute_job'      => [ q{CALL fleet.execute_job('stays', '{"key": "{key}"}')}, waits => 1 ],
    'fleet.lift_quarantine'  => q{SELECT fleet.lift_quarantine(run_id => {run}), fleet.lift_quarantine(server => 'a1'), fleet.lift_quarantine(job_run_id => {job_run})},
    'fleet.context'          => [ q{SELECT fleet.context('task')}, reads => 1 ],
    'fleet.failure'          => [ q{SELECT fleet.failure()}, reads => 1 ],
    'fleet.run_outcome'      => [ q{SELECT fleet.run_outcome()}, reads => 1 ],
    'fleet.outcome'          => [ q{SET fleet.context = '{"run_id": {run}}'; SELECT fleet.outcome('here')}, reads => 1 ],
    'fleet.output'           => [ q{SET fleet.context = '{"run_id": {run}}'; SELECT fleet.output('here')}, reads => 1 ],
    'fleet.param'            => [ q{SELECT fleet.param('key')}, reads => 1 ],
    'fleet.run_id'           => [ q{SELECT fleet.run_id()}, reads => 1 ],
    'fleet.plan'             => [ q{SELECT * FROM fleet.plan('both')}, reads => 1 ],
    'fleet.report'           => [ q{SELECT fleet.report({run})}, reads => 1 ],
    'fleet.overview'         => [ q{SELECT fleet.overview()}, reads => 1 ],
    'fleet.gantt'            => [ q{SELECT * FROM fleet.gantt({run})}, reads => 1 ],
    'fleet.tree'             => [ q{SELECT * FROM fleet.tree({run})}, reads => 1 ],
    'fleet_link.check_run'   => [ q{SELECT fleet_link.check_run({run})}, reads => 1 ],
    'fleet_link.check_gantt' => [ q{SELECT fleet_link.check_gantt({run}, 80)}, reads => 1 ],
    'fleet_link.check_days'  => [ q{SELECT fleet_link.check_days(7)}, reads => 1 ],
    'fleet_link.run_advice'  => [ q{SELECT * FROM fleet_link.run_advice({run})}, reads => 1 ],
    'fleet.register_server'  => q{SELECT fleet.register_server('extra', mode => 'direct')},
    'fleet.remove_server'    => q{SELECT fleet.remove_server('unused')},
    'fleet.run_parent_package' => [ q{SELECT fleet.run_parent_package('both', run_key => 'alice'), fleet.run_parent_package('inner')}, altered => 1 ],
    'fleet.export_package'     => [ q{SELECT fleet.export_package('both')}, reads => 1 ],
    'fleet.import_package'     => q{SELECT fleet.import_package('{"format": 1, "package": "brought", "packages": {"brought": {"tasks": [{"task": "t", "sql": "SELECT 1"}]}}}')},
    'fleet.export_server'      => [ q{SELECT fleet.export_server('spare')}, reads => 1 ],
    'fleet.document_schema'    => [ q{SELECT fleet.document_schema()}, reads => 1 ],
    'fleet.validate_package'   => [ q{SELECT * FROM fleet.validate_package('both')}, reads => 1 ],
    'fleet.set_retention'      => q{SELECT fleet.set_retention('both', keep_days => 30)},
    'fleet.purge'              => q{SELECT fleet.purge()},
    'fleet.stat_reset'         => q{SELECT fleet.stat_reset()},
    'fleet.stat_bounds'        => [ q{SELECT fleet.stat_bounds()}, reads => 1 ],
    'fleet.restart_run'        => q{SELECT fleet.restart_run((SELECT max(run_id) FROM fleet.run WHERE package = 'both' AND state = 'succeeded'), from_task => 'here')},
    'fleet.retry_task'         => [ q{SELECT fleet.retry_task({run}, 'here')}, error => qr/has not failed/ ],
    'fleet.skip_task'          => [ q{SELECT fleet.skip_task({run}, 'here')}, error => qr/has begun/ ],
    'fleet.pause'              => q{SELECT fleet.pause('alice', package => 'both'), fleet.pause('alice', on_group => 'spare group')},
    'fleet.pause_run'          => q{SELECT fleet.pause_run({run}, 'alice')},
    'fleet.resume'             => q{SELECT fleet.resume(package => 'both'), fleet.resume(on_group => 'hers')},
    'fleet.resume_run'         => q{SELECT fleet.resume_run({run})},
    'fleet.schedule_package'   => q{SELECT fleet.schedule_package('both', '0 0 1 1 *', name => 'another')},
    'fleet.schedule_job'       => q{SELECT fleet.schedule_job('work', '0 0 1 1 *')},
    'fleet.alter_schedule'     => q{SELECT fleet.alter_schedule('both', missed => 'all', new_name => 'other')},
    'fleet.unschedule'         => q{SELECT fleet.unschedule('both')},
    'fleet.scheduled_for'      => [ q{SELECT fleet.scheduled_for()}, reads => 1 ],
    'fleet.backfill'           => [ q{SELECT * FROM fleet.backfill('both', now(), now() + interval '1 hour', '1 hour')}, altered => 1 ],
    'fleet.use_pg_cron'        => [ q{SELECT fleet.use_pg_cron()}, error => qr/pg_cron/ ],
    'fleet.schedule_times'     => [ q{SELECT * FROM fleet.schedule_times('* * * * *')}, reads => 1 ],
    'fleet.set_server_state'   => q{SELECT fleet.set_server_state('a1', 'offline'), fleet.set_server_state('d1', 'draining')},
    'fleet.check_server'       => [ q{CALL fleet.check_server('a1')}, reads => 1 ],
    'fleet.start_job'          => [ q{SELECT fleet.start_job('work')}, altered => 1 ],
    'fleet.state_graph'        => [ q{SELECT fleet.state_graph('run')}, reads => 1 ],
    'fleet.state_transitions'  => [ q{SELECT * FROM fleet.state_transitions()}, reads => 1 ],
    'fleet.unregister_server'  => q{SELECT fleet.unregister_server('spare')},
    'fleet.unschedule_package' => q{SELECT fleet.unschedule_package('both')},
    'fleet.wait'               => [ q{CALL fleet.wait({run})}, waits => 1 ],
    'fleet.wait_for_change'    => [ q{SELECT fleet.wait_for_change({run})}, waits => 1 ],
    'fleet.wait_for_run'       => [ q{SELECT fleet.wait_for_run({run})}, waits => 1 ],
    'fleet_link.agent_acknowledge' => "$hello; SELECT fleet_link.agent_acknowledge('{uuid}', ARRAY['{token}', '{ended}']::uuid[])",
    'fleet_link.agent_cancel'      => "$hello; SELECT fleet_link.agent_cancel('{uuid}', {epoch}, ARRAY['{token}', gen_random_uuid()]::uuid[])",
    'fleet_link.agent_deploy'      => [ "$hello; SELECT fleet_link.agent_deploy('{uuid}', {epoch}, '{document}')", error => qr/already exists on this server/ ],
    'fleet_link.agent_document'    => "$hello; SELECT fleet_link.agent_document('{uuid}', {epoch}, encode(substr(sha256(convert_to('{document}', 'UTF8')), 1, 16), 'hex')::uuid, '{document}')",
    'fleet_link.agent_fetch'       => "$hello; SELECT * FROM fleet_link.agent_fetch('{uuid}', {epoch}, ARRAY[{there}], '{0}')",
    'fleet_link.agent_hello'       => $hello,
    'fleet_link.agent_resume'      => "$hello; SELECT * FROM fleet_link.agent_resume('{uuid}', {epoch}, ARRAY['{token}']::uuid[])",
    'fleet_link.agent_start'       => "$hello; SELECT * FROM fleet_link.agent_start('{uuid}', {epoch}, ARRAY['{token}', gen_random_uuid()]::uuid[], '{stays,work}', ARRAY['{}', '{}']::jsonb[]);"
        . " SELECT * FROM fleet_link.agent_start('{uuid}', {epoch}, ARRAY[gen_random_uuid()], '{work}', ARRAY['{}']::jsonb[])",
    'fleet_link.ask_server'            => [ q{SELECT fleet_link.ask_server('a1')}, reads => 1 ],
    'fleet_link.create_foreign_server' => q{SELECT fleet_link.create_foreign_server('new', 'host=127.0.0.1 port=1', 'alice', 'secret')},
    'fleet_link.cron_elsewhere'        => [ q{SELECT fleet_link.cron_elsewhere('postgres', 'job', '* * * * *', 'SELECT 1')}, error => qr/./ ],
    'fleet_link.run_eta'               => [ q{SELECT fleet_link.run_eta(max(run_id)) FROM fleet.run}, reads => 1 ],
    'fleet_link.deployment_list'       => [ q{SELECT * FROM fleet_link.deployment_list()}, reads => 1 ],
    'fleet_link.backfill'              => [ q{SELECT * FROM fleet_link.backfill('both', now(), now(), '1 hour', '{}', NULL, 'none', 0, true, 'public')}, reads => 1 ],
    'fleet_link.backfill_plan'         => [ q{SELECT * FROM fleet_link.backfill_plan('both', now(), now(), '1 hour', 'none', 0)}, reads => 1 ],
    'fleet_link.backfill_run'          => [ q{SELECT fleet_link.backfill_run('both', '2026-01-01 00:00+00', '{}', NULL, 'start', 0)}, altered => 1 ],
    'fleet_link.check_params_sql'      => [ q{SELECT fleet_link.check_params_sql('{}', '1')}, reads => 1 ],
    'fleet_link.cron_database'         => [ q{SELECT fleet_link.cron_database()}, error => qr/pg_cron/ ],
    'fleet_link.keep_agent'            => q{SELECT fleet_link.keep_agent()},
    'fleet_link.record_waker'          => [ q{SELECT fleet_link.record_waker('postgres')}, error => qr/pg_cron/ ],
    'fleet_link.start_scheduled'       => [ q{SELECT fleet_link.start_scheduled({schedule}, '2026-01-01 00:00+00')}, altered => 1 ],
    'fleet_link.may_wait'              => [ q{SELECT fleet_link.may_wait({run}, '1 s')}, reads => 1 ],
    'fleet_link.register_created'      => q{SELECT fleet_link.register_created('extra', 'direct', 1, '{all}', 1)},
    'fleet_link.run_failure'           => [ q{SELECT fleet_link.run_failure({run})}, reads => 1 ],
    'fleet_link.run_news'              => [ q{SELECT fleet_link.run_news({run}, '{}')}, reads => 1 ],
    'fleet_link.validator'             => [ q{SELECT fleet_link.validator('{}', 'pg_foreign_server'::regclass)}, reads => 1 ],
    'fleet_link.begin_job'             => [ q{SELECT fleet_link.begin_job('work', '{}', NULL, NULL, NULL)}, altered => 1 ],
    'fleet_link.follow_run'            => [ q{CALL fleet_link.follow_run({run}, 'x')}, waits => 1 ],
    'fleet_link.watch_run'             => [ q{CALL fleet_link.watch_run({run}, NULL, NULL)}, waits => 1 ],
);
is(join("\n", sort keys %call), $f->sql(q{SELECT p.pronamespace::regnamespace || '.' || p.proname FROM pg_proc p WHERE p.pronamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace) AND p.prorettype NOT IN ('event_trigger'::regtype, 'trigger'::regtype) ORDER BY (p.pronamespace::regnamespace || '.' || p.proname)::text COLLATE "C"}),
    'each function that a role can call is in the list');

# On the server: what deals with definitions and job runs of it, and what links call.
my %there = (
    map({ ($_ => $call{$_}) } grep { /^fleet_link\.agent_/ } keys %call),
    'fleet_link.agent_deploy' => [ $call{'fleet_link.agent_deploy'}[0], deployment => 'deployed failed' ],
    'fleet.add_step'   => [ $call{'fleet.add_step'}, deployment => 'deployed failed' ],
    'fleet.alter_job'  => [ $call{'fleet.alter_job'}, deployment => 'deployed failed' ],
    'fleet.drop_job'   => [ q{SELECT fleet.drop_job('work', cascade => true)}, deployment => 'deployed failed' ],
    'fleet.add_task'   => [ q{SELECT fleet.add_task('inner', 'new', sql => 'SELECT 1')}, deployment => 'deployed failed' ],
    'fleet.drop_package'   => [ q{SELECT fleet.drop_job('work', cascade => true), fleet.drop_package('inner', cascade => true)}, deployment => 'deployed failed' ],
    'fleet.cancel_job_run' => q{SELECT fleet.cancel_job_run({there})},
    'fleet.start_job'      => $call{'fleet.start_job'},
    'fleet.run_parent_package' => q{SELECT fleet.run_parent_package('inner', run_key => 'alice')},
    'fleet.confirm_identity'   => $call{'fleet.confirm_identity'},
);

# A run that is open meanwhile, and one that has ended.
my $rounds = 0;
sub open_run
{
    my $key = 'gate ' . ++$rounds;
    my %of = (key => $key);
    $of{run} = bob(qq{SELECT fleet.run_parent_package('gate', params => '{"key": "$key"}')});
    $of{schedule} = $f->sql(q{SELECT schedule_id FROM fleet_catalog.schedule WHERE name = 'both'});
    $of{job_run} = bob(qq{SELECT fleet.start_job('stays', params => '{"key": "$key"}')});
    $f->wait_for('parent', qq{SELECT string_agg(state, ' ') FROM fleet.task_run WHERE run_id = $of{run}}, 'running running', 'a run is open');
    @of{qw(token uuid epoch)} = split /\|/, $f->sql(qq{SELECT t.token, s.parent_uuid, s.epoch FROM fleet.task_run AS t, fleet.agent_status() AS s WHERE t.run_id = $of{run} AND t.task = 'agent'});
    $of{there} = $f->sql_on('a1', "SELECT job_run_id FROM fleet_catalog.job_run WHERE token = '$of{token}'");
    $of{ended} = $f->sql_on('a1', q{SELECT token FROM fleet_catalog.job_run WHERE state = 11 ORDER BY job_run_id DESC LIMIT 1});
    $of{document} = $f->sql(q{SELECT document FROM fleet_catalog.deployment WHERE job = 'work' ORDER BY requested_at DESC LIMIT 1}) =~ s/'/''/gr;
    return \%of;
}
sub round_of
{
    my ($node, $name, $entry) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my ($text, %o) = ref $entry ? @$entry : ($entry);
    my $of = open_run();
    my $session = alice($node, 'dw', $o{role} || 'alice');
    my $what = "$node: $name";
    alter('dw') if $o{altered};
    $text =~ s/\{(\w+)\}/$of->{$1} \/\/ "{$1}"/ge;
    if ($o{waits}) { $session->query_until(qr/^sent$/m, "\\echo sent\n$text;\n"); }
    else
    {
        my $error = hold($session, $text);
        ok($o{error} ? $error =~ $o{error} : $error eq '', "$what: is called") or diag($error);
    }
    works($what, %o, node => $node);
    $f->sql_on($_, "INSERT INTO etl.go VALUES ('$of->{key}')") for qw(parent a1);
    $f->run_is($of->{run}, 'succeeded', "$what: the run that was open ends");
    let_go($session);
    return;
}
note '---- at the parent';
my @reads = grep { ref $call{$_} && grep { $_ eq 'reads' } @{ $call{$_} } } sort keys %call;
round_of('parent', 'functions that only read', join '; ', map { $call{$_}[0] } @reads);
my %only_reads = map { $_ => 1 } @reads;
round_of('parent', $_, $call{$_}) for grep { !$only_reads{$_} } sort keys %call;
note '---- on a server of mode agent';
round_of('a1', $_, $there{$_}) for sort keys %there;

# ---- other locks --------------------------------------------------------------------------------

# What she may lock of our views and tables, in any mode: nothing but what a SELECT locks too.
for my $node (qw(parent a1))
{
    my @relations = split /\n/, $f->sql_on($node, q{SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace IN ('fleet'::regnamespace, 'fleet_link'::regnamespace, 'fleet_catalog'::regnamespace) AND c.relkind IN ('r', 'v') ORDER BY 1});
    my $session = alice($node, 'dw', 'alice');
    my @statements = map {
        my $relation = $_;
        (map({ "LOCK TABLE $relation IN $_ MODE" } 'ACCESS SHARE', 'ROW SHARE', 'ROW EXCLUSIVE', 'SHARE UPDATE EXCLUSIVE', 'SHARE', 'SHARE ROW EXCLUSIVE', 'EXCLUSIVE', 'ACCESS EXCLUSIVE'),
            map({ "SELECT FROM $relation FOR $_" } 'UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE'), "TABLE $relation", "DELETE FROM $relation", "TRUNCATE $relation",
            "CREATE TRIGGER t BEFORE UPDATE ON $relation FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()")
    } @relations;
    $session->{stderr} = '';
    $session->query(sprintf 'BEGIN; DO $$DECLARE s text; BEGIN FOREACH s IN ARRAY ARRAY[%s] LOOP BEGIN EXECUTE s; RAISE NOTICE \'taken: %%\', s; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END$$;', join ', ', map { quote_literal($_) } @statements);
    my %taken;
    for my $statement ($session->{stderr} =~ /NOTICE:  taken: (.*)/g)
    {
        my ($relation) = grep { $statement =~ /\b\Q$_\E(?!\w)/ } sort { length $b <=> length $a } @relations;
        push @{ $taken{ $statement =~ s/ ?\Q$relation\E ?/ /r } }, $relation;
    }
    $session->{stderr} = '';
    my @views = grep { /^fleet\./ } @relations;
    cmp_ok(scalar @views, '>', 10, "$node: there are views") if $node eq 'parent';
    is(join("\n", map { "$_: @{$taken{$_}}" } sort keys %taken), "LOCK TABLE IN ACCESS SHARE MODE: @views\nTABLE : @views", "$node: she can lock views for a SELECT, and nothing else");
    works("$node: all locks of relations that she may take");
    let_go($session);
}

# Advisory locks: those of our workers cannot be taken by SQL, which knows the numbers 1 and 2.
for my $node (qw(parent a1))
{
    is($f->sql_on($node, q{SELECT string_agg(DISTINCT objsubid::text, ' ') FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.locktype IN ('advisory', 'userlock') AND a.backend_type LIKE 'pg_fleet%'}), '18000', "$node: locks of our workers are not advisory locks of SQL");
    my $session = alice($node, 'dw', 'alice');
    alter('dw');
    $session->{stderr} = '';
    # those of the agent with another number; and those that say who stores a definition
    $session->query(<<'SQL');
BEGIN;
SELECT pg_advisory_lock(l.classid::oid::int, l.objid::oid::int), pg_advisory_lock((l.classid::bigint << 32) | l.objid::bigint)
  FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.locktype = 'advisory' AND l.objsubid = 18000;
SELECT pg_advisory_lock(1179407681, hashtext(name)) FROM unnest('{work,plain,stays}'::text[]) AS name;
SELECT pg_advisory_lock(1179407680, hashtext(definition::text)) FROM (SELECT definition FROM fleet.run UNION SELECT definition FROM fleet.job_run) AS d;
SQL
    is($session->{stderr}, '', "$node: advisory locks are taken");
    works("$node: advisory locks", altered => 1);
    $session->query('SELECT pg_advisory_unlock_all();');
    let_go($session);
}

# What is hers, or stands for something of hers, and what a session can hold besides.
for my $what (
    [ 'servers and mappings', q{ALTER SERVER a1 OPTIONS (ADD keepalives_idle '7'); GRANT USAGE ON FOREIGN SERVER d1 TO etl;
        ALTER USER MAPPING FOR alice SERVER a1 OPTIONS (SET password 'other'); DROP USER MAPPING FOR alice SERVER d1; DROP SERVER extra; ALTER SERVER spare RENAME TO "spare 2"; COMMENT ON SERVER a1 IS 'hers'} ],
    [ 'settings of a role', q{ALTER ROLE alice SET work_mem = '1MB'; ALTER ROLE alice PASSWORD 'another'} ],
    [ 'a snapshot and cursors', q{SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; SELECT pg_export_snapshot(); DECLARE c CURSOR FOR SELECT * FROM fleet.task_run; FETCH 5 FROM c;
        DECLARE d CURSOR FOR SELECT * FROM fleet.log; FETCH 1 FROM d; TABLE fleet.server_status; TABLE fleet.deployment} ],
    [ 'notifications', q{LISTEN alice; NOTIFY alice; SELECT pg_notify('fleet_report_' || parent_uuid, '1') FROM fleet.agent_status()} ],
    [ 'objects of her own', q{CREATE TEMP TABLE own (x int); CREATE TEMP VIEW own_view AS SELECT * FROM fleet.run; CREATE FUNCTION pg_temp.own() RETURNS SETOF fleet.run LANGUAGE sql AS 'SELECT * FROM fleet.run'} ],
    [ 'rights of all that bob has', q{REASSIGN OWNED BY bob TO alice} ],
  )
{
    my ($name, $text) = @$what;
    my $session = alice('parent', 'dw', 'alice');
    is(hold($session, $text), '', "$name: is done");
    works("parent: $name");
    let_go($session);
}

# ---- an administrator who waits for a reader -----------------------------------------------------

# What comes after a lock that waits, waits too: with a lock_timeout that ends, and all goes on.
for my $command ('ALTER TABLE fleet_catalog.task_run ADD COLUMN more text', 'DROP EXTENSION pg_fleet CASCADE', 'VACUUM FULL fleet_catalog.run')
{
    my $session = alice('parent', 'dw', 'alice');
    is(hold($session, 'SELECT count(*) FROM fleet.task_run'), '', "$command: she has read a view");
    $f->fails("SET lock_timeout = '300ms'; $command", '55P03', "$command: gives up");
    works("after $command");
    let_go($session);
}

# ---- a database that nobody has used yet --------------------------------------------------------

$f->node($_)->safe_psql('postgres', 'CREATE DATABASE fresh') for qw(parent a1);
for my $node (qw(parent a1))
{
    $f->kept($node, 'fresh')->run('CREATE EXTENSION pg_fleet; CREATE SCHEMA etl AUTHORIZATION etl');
    prepare_role_and_gate($node, 'fresh');
    is(($f->kept($node, 'fresh')->run('SELECT count(*) FROM fleet.agent_status() WHERE parent_uuid IS NOT NULL'))[1], '0', "$node: fresh: it has no identity yet");
}
my $here = alice('parent', 'fresh', 'alice');
is(hold($here, q{SELECT fleet.create_package('first'); SELECT fleet.add_task('first', 't', sql => 'SELECT 1'); SELECT fleet.run_parent_package('first', run_key => 'first')}), '', 'fresh: the first run, with a key, is requested');
my $there = alice('a1', 'fresh', 'alice');
is(hold($there, q{SELECT fleet_link.agent_hello(2, gen_random_uuid(), 1, 'alice')}), '', 'fresh: on a server, a parent is the first to come');
define('fresh');
works('fresh', db => 'fresh', on => 'a1');
my $FIRST = q{SELECT state, run_uuid = fleet_catalog.content_hash(parent_uuid || '/first/first') FROM fleet.run, fleet.agent_status() WHERE package = 'first'};
$_->query('COMMIT;') for $here, $there;
$f->wait_for_in('parent', 'fresh', $FIRST, 'succeeded|t', 'fresh: committed, the first run is done; its uuid is of the identity that the agent has made');
is(($f->kept('parent', 'fresh')->run(q{SET ROLE alice; SELECT fleet.run_parent_package('first', run_key => 'first') = run_id FROM fleet.run WHERE package = 'first'}))[1], 't', 'fresh: the same key gives the same run');

# ---- a copy of it that is paused ----------------------------------------------------------------

$_->quit for values %session;
%session = ();
$f->forget($_) for qw(parent a1);
$f->node('parent')->safe_psql('postgres', 'CREATE DATABASE paused TEMPLATE fresh');
my $waiting = bob(q{SELECT fleet.run_parent_package('inner')}, 'paused');
$f->wait_for_in('parent', 'paused', q{SELECT running AND paused_reason IS NOT NULL FROM fleet.agent_status()}, 't', 'a copy is paused');
my $pid = ($f->kept('parent', 'paused')->run('SELECT pid FROM fleet.agent_status()'))[1];
my $session = alice('parent', 'paused', 'postgres');
is(hold($session, q{SELECT fleet.confirm_identity('new')}), '', '… and somebody says what it is');
end_agents('paused', 'parent');
$f->wait_for_in('parent', 'paused', "SELECT running AND paused_reason IS NOT NULL AND pid <> $pid FROM fleet.agent_status()", 't', '… but has not committed: the next agent comes all the same');
$session->query('COMMIT;');
$f->wait_for_in('parent', 'paused', "SELECT state FROM fleet.run WHERE run_id = $waiting", 'failed', 'what was open is not of the new parent');
my $next = bob(q{SELECT fleet.run_parent_package('inner')}, 'paused');
$f->wait_for_in('parent', 'paused', "SELECT state FROM fleet.run WHERE run_id = $next", 'succeeded', '… and is told by the commit');

$_->quit for values %session;
$f->forget($_) for qw(parent a1);
$f->node('parent')->safe_psql('postgres', 'DROP DATABASE paused');

# What the agent has replaced, and what is of a server that has gone, leaves no row.
$f->sql(q{SELECT fleet.unregister_server('spare')});
$f->wait_for('parent', q{SELECT count(*) FILTER (WHERE s.server_id IS NULL) || ' ' || count(*) - count(DISTINCT (d.server_id, d.job)) FROM fleet_catalog.deployment AS d LEFT JOIN fleet_catalog.server AS s USING (server_id)}, '0 0', 'one row for each job and server that is there');
$f->node($_)->safe_psql('postgres', 'DROP DATABASE fresh WITH (FORCE)') for qw(parent a1);
$f->node('a1')->safe_psql('postgres', 'DROP DATABASE spare WITH (FORCE)');
$f->sql_on($_, 'SELECT fleet.cancel_job_run(job_run_id) FROM fleet.job_run WHERE finished_at IS NULL') for qw(parent a1);
$f->done;
