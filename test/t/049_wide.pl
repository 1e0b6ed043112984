# (runs long) 320 servers and then 400 in one group, at the default limits of a server: as many as an agent may
# have connections, and more.  It works through all of them, whether they are new, held, or partly dead, and
# does not end.
use strict;
use warnings;
use FleetTest;
use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use Test::More;

# it has to do with hundreds, and may share the machine with other tests
$FleetTest::PATIENCE = 300 if $FleetTest::PATIENCE < 300;
my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, delays => 0);
for my $name (qw(a1 d1))
{
    $f->node($name)->append_conf('postgresql.conf', "max_connections = 400\n");
    # hundreds of logins at a time are not to be a test of how fast this machine computes SCRAM
    unlink $f->node($name)->data_dir . '/pg_hba.conf';
    $f->node($name)->append_conf('pg_hba.conf', "local all all trust\nhost all all 127.0.0.1/32 trust\n");
    $f->forget($name);
    $f->node($name)->restart;
    $f->sql_on($name, 'CREATE FUNCTION public.hold() RETURNS void LANGUAGE sql AS $$SELECT pg_advisory_xact_lock_shared(4901)$$');
}
is($f->sql('SHOW max_files_per_process'), '1000', 'the default');
$f->job('noop', 'SELECT 1');
$f->job('hold', 'SELECT public.hold()');

my @many = map { ("a1_$_", "d1_$_") } 1 .. 160;
sub add
{
    $f->sql(join ";\n", map {
        my ($where) = /^(..)/;
        sprintf q{SELECT fleet.add_server('%s', '%s', username => 'etl', password => '%s', mode => '%s', slots => 1, groups => '{many}')},
            $_, $f->conninfo($where) . ' connect_timeout=100', $FleetTest::PASSWORD, $where eq 'a1' ? 'agent' : 'direct' } @_);
    return;
}
add(@many);
$f->package('everywhere', map { ($_ => { job => 'noop', server => $_ }) } @many);
$f->package('items', t => { job => 'noop', on_group => 'many', for_each => q{SELECT jsonb_build_object('n', n) FROM generate_series(1, 2000) AS n}, balance => 'round_robin' });
$f->package('here', t => { sql => 'SELECT 1' });
my $done = "SELECT count(*) FROM fleet.task_run WHERE run_id = %d AND state = 'succeeded'";

$f->run_is($f->start('here'), 'succeeded', 'there is an agent');
my $agent = $f->agent_pid;
my $run;
for my $time ('first', 'again')
{
    $run = $f->start('everywhere');
    $f->run_is($run, 'succeeded', "$time: each of 320 servers gets a task");
    is($f->sql(sprintf $done, $run), '320', "$time: … and each succeeds");
    $run = $f->start('items');
    $f->run_is($run, 'succeeded', "$time: 2000 items go to the group");
    is($f->sql(sprintf $done, $run), '2001', "$time: … and each succeeds");
    cmp_ok($f->sql("SELECT count(DISTINCT server) FROM fleet.task_run WHERE run_id = $run"), '>', 200, "$time: … on most of its servers");
}

# All at the same time, and more than that: as many as there are descriptors for, then the others.
my @more = map { ("a1_$_", "d1_$_") } 161 .. 200;
add(@more);
$f->package('held', map { ($_ => { job => 'hold', server => $_ }) } @many, @more);
my %holder = map { $_ => $f->node($_)->background_psql($FleetTest::DB) } qw(a1 d1);
$_->query_safe('SELECT pg_advisory_lock(4901)') for values %holder;
$run = $f->start('held');
$f->wait_for('parent', q{SELECT count(*) > 0 FROM fleet.server_status WHERE state = 'suspect' AND last_error LIKE 'no file descriptor is left%'}, 't', 'held: for some there is no file descriptor left');
$f->wait_for('parent', "SELECT count(*) > 100 FROM fleet.task_run WHERE run_id = $run AND state = 'running'", 't', 'held: more than a hundred work');
$f->run_is($f->start('here'), 'succeeded', 'held: what runs here works');
# A successor finds all of that, and has as few.
$f->sql("SELECT pg_terminate_backend($agent)");
$f->wait_for('parent', "SELECT running AND pid <> $agent FROM fleet.agent_status()", 't', 'held: another agent takes it up');
$f->run_is($f->start('here'), 'succeeded', 'held: … and works');
$agent = $f->agent_pid;
$_->query_safe('SELECT pg_advisory_unlock(4901)') for values %holder;
$_->quit for values %holder;
$f->run_is($run, 'succeeded', 'held: when they are let go, all have their turn');
is($f->sql(sprintf $done, $run), '400', 'held: … all 400, nothing is lost');

# Twenty that say nothing, twenty where nobody listens: the others do the work.
my $silent = IO::Socket::INET->new(Listen => 200, LocalAddr => '127.0.0.1') or die "$!";
my @dead = map { [ "silent $_", $silent->sockport ], [ "refused $_", 1 ] } 1 .. 20;
$f->sql(join ";\n", map { sprintf q{SELECT fleet.add_server('%s', 'host=127.0.0.1 port=%d dbname=x sslmode=disable', username => 'etl', password => 'x', mode => 'direct', slots => 1, groups => '{many}')}, @$_ } @dead);
$run = $f->start('items');
$f->run_is($run, 'succeeded', 'dead ones: 2000 items go to a group of 440, of which 40 are dead');
is($f->sql(sprintf $done, $run), '2001', 'dead ones: … and each succeeds');
is($f->agent_pid, $agent, 'the same agent all the time');
is($f->sql(q{SELECT coalesce(last_sqlstate, 'none') FROM fleet.agent_status()}), '57P01', 'no agent has ended but the one that was told to');

$f->done;
