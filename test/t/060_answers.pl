# (runs long)
# Answers that are right: what plan() and eta say against what then happens, after five runs; what is learned and
# what is assumed; equal servers stay equal.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 2, slots => 2);
sub seconds { my ($expression) = @_; return "extract(epoch FROM $expression)"; }

$f->job('nap', q{SELECT pg_sleep((current_setting('fleet.params')::jsonb ->> 's')::float8)});
# Items of very different length, twice after each other; their geometric mean is far below the mean.
my $items = q{SELECT jsonb_build_object('s', s) FROM unnest('{0.2,0.2,0.2,0.2,0.2,0.2,0.3,0.3,0.3,0.3,0.4,0.4,0.6,1.2,1.5,1.8,0.2}'::float8[]) AS s};
$f->package('naps', first => { job => 'nap', on_group => 'all', for_each => $items }, second => { job => 'nap', on_group => 'all', after => '{first}', for_each => $items });

# ---- nothing is known yet ----------------------------------------------------------------------

my $basis = q{SELECT string_agg(DISTINCT task || ' ' || basis, ', ' ORDER BY task || ' ' || basis) FROM fleet.plan('naps')};
is($f->sql($basis), 'first assumed, second assumed', 'before the first run everything is assumed, and plan() says so');
my (undef, undef, $said) = $f->parent->psql($FleetTest::DB, q{SELECT count(*) FROM fleet.advise('naps', servers => 2)});
like($said, qr/NOTICE:  .*durations of tasks that have never succeeded are assumed: first, second/, '… and so does advise()');
$f->package('elsewhere', t => { job => 'nobody_has_it', server => 'a1' });
(undef, undef, $said) = $f->parent->psql($FleetTest::DB, q{SELECT count(*) FROM fleet.plan('elsewhere')});
like($said, qr/WARNING:  .*job "nobody_has_it" is not known/, 'a job of which nobody has heard is said');
(undef, undef, $said) = $f->parent->psql($FleetTest::DB, q{SELECT count(*) FROM fleet.advise('elsewhere', servers => 2)});
is(scalar(() = $said =~ /WARNING: /g), 1, '… by advise() once');

# ---- five runs ---------------------------------------------------------------------------------

my $run;
for (1 .. 5)
{
    $run = $f->start('naps');
    $f->run_is($run, 'succeeded', "run $_");
}
is($f->sql($basis), 'first item, second item', 'now the length of each item is known');
my $took = "SELECT " . seconds('finished_at - started_at') . " FROM fleet.run WHERE run_id = ";
my $planned = $f->sql('SELECT max(' . seconds('ends_after') . q{) FROM fleet.plan('naps')});

# ---- the sixth: plan and eta -------------------------------------------------------------------

$run = $f->start('naps');
my @etas;
for my $quarter (1 .. 3)
{
    my $from = $planned * $quarter / 4;
    $f->wait_for('parent', "SELECT clock_timestamp() > started_at + interval '$from seconds' FROM fleet.run WHERE run_id = $run", 't', "quarter $quarter");
    push @etas, $f->sql('SELECT ' . seconds("fleet_link.run_eta($run)"));
    is($f->sql("SELECT eta > clock_timestamp() FROM fleet.progress WHERE run_id = $run"), 't', '… has an eta that has not passed');
}
$f->run_is($run, 'succeeded', 'a sixth run');
my $real = $f->sql($took . $run);
my $end = $f->sql('SELECT ' . seconds('finished_at') . " FROM fleet.run WHERE run_id = $run");
ok(abs($planned / $real - 1) < 0.1, "plan() is within 10 %") or diag("planned $planned, took $real");
for my $quarter (1 .. 3)
{
    my $off = ($etas[$quarter - 1] - $end) / $real;
    ok(abs($off) < 0.15, "eta after $quarter quarters is within 15 %") or diag("off by $off of $real seconds");
}
my $advised = $f->sql(q{SELECT extract(epoch FROM makespan) FROM fleet.advise('naps', servers => 3) WHERE number_of_servers = 3});
ok(abs($advised / $real - 1) < 0.1, 'advise() of as many servers as there are is within 10 %') or diag("advised $advised, took $real");
is($f->sql(q{SELECT bool_and(speed BETWEEN 0.9 AND 1.1) FROM fleet.server_status}), 't', 'equal servers are equal after six runs')
    or diag($f->sql('TABLE fleet.server_status'));
is($f->sql(q{SELECT count(*) FROM fleet_catalog.server_health WHERE speed_evidence > 0}), '3', '… which was looked at');
is($f->sql("SELECT fleet_link.run_eta($run) IS NULL"), 't', 'what has ended has no eta');

# ---- fewer servers: advise() against really having them ----------------------------------------

$advised = $f->sql(q{SELECT extract(epoch FROM makespan) FROM fleet.advise('naps', servers => 2) WHERE number_of_servers = 2});
$f->sql(q{SELECT fleet.set_server_state('d2', 'offline')});
$run = $f->start('naps');
$f->run_is($run, 'succeeded', 'with two servers');
$real = $f->sql($took . $run);
ok(abs($advised / $real - 1) < 0.1, 'advise() of two servers is within 10 % of having two') or diag("advised $advised, took $real");
$f->sql(q{SELECT fleet.set_server_state('d2', 'online')});

# ---- what the owner may not use ----------------------------------------------------------------

$f->sql(q{CREATE ROLE other LOGIN});
$f->sql(q{GRANT USAGE ON FOREIGN SERVER d1 TO other; CREATE USER MAPPING FOR other SERVER d1 OPTIONS (user 'etl', password 'etl-secret')});
$f->sql_as('other', q{SELECT fleet.create_package('theirs'); SELECT fleet.create_job('theirs'); SELECT fleet.add_step('theirs', 's', sql => 'SELECT 1');
    SELECT fleet.add_task('theirs', 't', job => 'theirs', on_group => 'all', for_each => 'SELECT 1')});
is($f->sql_as('other', q{SELECT string_agg(DISTINCT server, ',') FROM fleet.plan('theirs', items => '{"t": 9}')}), 'd1', 'servers that the owner may not use are not in the plan');
$f->sql(q{REVOKE USAGE ON FOREIGN SERVER d1 FROM other});
$f->fails(q{SELECT * FROM fleet.plan('theirs')}, '42501', 'without any server', like => qr/task "t" has no server that its owner may use/, help => 1);

# ---- a plan is interrupted ---------------------------------------------------------------------

$f->package('large', map { ("t$_" => { job => 'nap', on_group => 'all', for_each => 'SELECT 1' }) } 1 .. 9);
$f->fails(q{SET statement_timeout = '700ms'; SELECT count(*) FROM fleet.advise('large', servers => 1000, items => (SELECT jsonb_object_agg('t' || n, 50000) FROM generate_series(1, 9) AS n))},
    '57014', 'a long plan hears a cancel');

# ---- who asked ---------------------------------------------------------------------------------

$f->sql_as('other', q{SELECT fleet.create_package('inner'); SELECT fleet.add_task('inner', 't', sql => 'SELECT 1');
    SELECT fleet.create_package('outer'); SELECT fleet.add_task('outer', 't', nested => 'inner')});
$run = $f->sql_as('other', q{SELECT fleet.run_parent_package('outer')});
$f->run_is($run, 'succeeded', 'a nested package');
is($f->sql("SELECT string_agg(package || ' ' || requested_by, ', ' ORDER BY run_id) FROM fleet.run WHERE run_id = $run OR parent_run_id = $run"),
    'outer other, inner other', 'who asked for a run has asked for what it contains');
$f->sql_as('other', q{SELECT fleet.create_job('wrapped'); SELECT fleet.add_step('wrapped', 's', package => 'inner')});
my $job_run = $f->sql_as('other', q{SELECT fleet.start_job('wrapped')});
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job_run", 'succeeded', 'a step that runs a package');
is($f->sql("SELECT requested_by FROM fleet.run WHERE parent_job_run_id = $job_run"), 'other', '… and of a step');

# ---- the state of servers ----------------------------------------------------------------------

sub state_of { my ($server) = @_; return "SELECT state FROM fleet.server_status WHERE server = '$server'"; }
$f->package("on_$_", t => { job => 'nap', server => $_, for_each => q{SELECT '{"s": 0.01}'::jsonb} }) for qw(a1 d1 d2);
for my $server (qw(a1 d1))
{
    note "---- $server";
    $f->run_is($f->start("on_$server"), 'succeeded', 'a run there');
    $run = $f->start("on_$server");
    $f->run_is($run, 'succeeded', 'another one, over the same link');
    $f->node($server)->stop;
    $f->wait_for('parent', state_of($server), 'suspect', 'it is gone');
    is($f->sql("SELECT s.last_seen >= r.started_at FROM fleet.server_status AS s, fleet.run AS r WHERE s.server = '$server' AND r.run_id = $run"), 't',
        '… and was heard last after that run had begun');
    my $pid = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT pid <> $pid AND running FROM fleet.agent_status()", 't', 'another agent');
    $f->run_is($f->start('outer'), 'succeeded', '… that works');
    is($f->sql(state_of($server)), 'suspect', 'to it, too, the dead server is not online');
    $f->node($server)->start;
    $f->run_is($f->start("on_$server"), 'succeeded', 'it is back');
    is($f->sql(state_of($server)), 'online', '… and online');
    $f->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER $server OPTIONS (SET password 'wrong')");
    $run = $f->start("on_$server");
    $f->wait_for('parent', state_of($server), 'auth_failed', 'a server that refuses the login is not online');
    $f->wait_for('parent', "SELECT last_error LIKE '%password%' FROM fleet.server_status WHERE server = '$server'", 't', '… and it says why');
    $f->sql("ALTER USER MAPPING FOR CURRENT_USER SERVER $server OPTIONS (SET password 'etl-secret')");
    $f->run_is($f->start("on_$server"), 'succeeded', 'with the right password');
    is($f->sql(state_of($server)), 'online', '… it is online');
}

# ---- removed -----------------------------------------------------------------------------------

$run = $f->start('on_d2');
$f->run_is($run, 'succeeded', 'a run on a server that is removed then');
$f->sql(q{SELECT fleet.drop_task('on_d2', 't'), fleet.unregister_server('d2')});
is($f->sql("SELECT string_agg(DISTINCT server, ',') FROM fleet.$_ WHERE run_id = $run AND item > 0"), 'd2', "fleet.$_ still says where it ran") for qw(task_run job_log step_run log);

$f->done;
