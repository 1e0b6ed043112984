# (runs long)
# 200 servers used by one package; an idle agent that is not woken; memory, to the byte, and file
# descriptors flat over many runs.
use strict;
use warnings;
use FleetTest;
use Test::More;
use Time::HiRes qw(time);

my $servers = 200;
my $batch = $ENV{FLEET_ASAN} ? 300 : 600;

# Fewer descriptors than servers: sessions that are idle make room for others.  No probes: on a slow
# machine they would begin in the middle, and open sessions whose memory is counted below
# (test/t/092_health.pl has the memory of probes).
my $f = FleetTest->new(agents => 1, direct => 2, witness => 0, conf => "fleet.runner_idle_timeout = '500ms'\nfleet.probe_interval = 0\nmax_files_per_process = 250\n");
my @clusters = qw(d1 d2);

# ---- 200 servers, databases of two clusters ----------------------------------------------------

for my $cluster (@clusters)
{
    my $node = $f->node($cluster);
    $node->append_conf('postgresql.conf', 'max_connections = 250');
    $node->restart;
    $node->safe_psql('postgres', join ";\n", map { "CREATE DATABASE db$_ STRATEGY file_copy" } 1 .. $servers / 2);
}
my $sql = '';
for my $cluster (@clusters)
{
    my $port = $f->port_of($cluster);
    $sql .= "SELECT fleet.add_server('${cluster}_db$_', 'host=127.0.0.1 port=$port dbname=db$_ sslmode=disable', username => 'etl', password => '$FleetTest::PASSWORD', mode => 'direct', slots => 1, groups => '{many}');\n"
      for 1 .. $servers / 2;
}
$f->sql($sql);
$f->job('touch', q{SELECT current_database()});
$f->package('everywhere', t => { job => 'touch', on_group => 'many', balance => 'round_robin',
        for_each => "SELECT jsonb_build_object('n', i) FROM generate_series(1, 1000) AS i" });
my $begin = time;
my $run = $f->start('everywhere');
$f->run_is($run, 'succeeded', "$servers servers, 1,000 items, one package");
note sprintf '%.2f s', time - $begin;
is($f->sql("SELECT count(DISTINCT server) FROM fleet.task_run WHERE run_id = $run AND item > 0"), $servers, 'each server was used');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'succeeded'"), '1000', 'each item ended');
my $open = 0;
$open += $f->node($_)->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'etl' AND datname LIKE 'db%'}) for @clusters;
cmp_ok($open, '<', $servers, "with $open sessions open at the end");
is($f->sql("SELECT count(*) FROM fleet.task_run t WHERE run_id = $run AND item > 0 AND server LIKE '%\\_' || output"), '1000', 'where the parent says');
is($f->sql("SELECT string_agg(DISTINCT attempt::text, ',') FROM fleet.task_run WHERE run_id = $run AND item > 0"), '1', 'at the first attempt, though sessions had to make room');

# A cancel gets through while every descriptor is in use.
$f->job('long', 'SELECT pg_sleep(600)');
$f->package('full', t => { job => 'long', on_group => 'many', balance => 'round_robin',
        for_each => "SELECT jsonb_build_object('n', i) FROM generate_series(1, $servers) AS i" });
$run = $f->start('full');
sub active { my $n = 0; $n += $f->node($_)->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND state = 'active'}) for @clusters; return $n }
$f->wait_for('parent', "SELECT count(*) > 30 FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'running'", 't', 'as many run as there are descriptors');
cmp_ok(active(), '>', 30, 'on their servers too');
is($f->sql("SELECT fleet.cancel_run($run)"), 't', 'they are asked to stop');
$f->run_is($run, 'canceled', 'and are canceled');
is(active(), 0, 'on their servers too: nothing runs any more when the parent says so');
is($f->sql("SELECT string_agg(DISTINCT state, ',') FROM fleet.task_run WHERE run_id = $run"), 'canceled', 'and each item is');

# ---- an idle agent -----------------------------------------------------------------------------

# Links to many of the servers are open.  First let everything come to rest: the runners end.
$f->package('noop', t => { sql => 'SELECT 1' });
$f->run_is($f->start('noop'), 'succeeded', 'something local');
# What an agent does a minute after its start, and then every hour, is done now: a purge of history, which makes the plans of its statements.
for my $node (qw(parent a1))
{
    $f->sql_on($node, 'SELECT fleet.purge()');
    $f->wait_for($node, 'SELECT count(*) FROM fleet_catalog.purge_request', '0', "$node: nothing is to be purged");
}
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%'}, '0', 'runners have gone');
# The cancels above went over side connections, which are closed when they have been idle for 30 seconds,
# each at its own time.
$f->wait_for($_, q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'etl' AND query LIKE '%pg_cancel_backend(%'}, '0', "side connections to $_ have gone") for @clusters;
my $agent = $f->agent_pid;
sub switches { return FleetTest::proc_status($agent, 'voluntary_ctxt_switches') }
# at rest: no wake-up between two looks, and again
my $rest = sub {
    my ($seconds) = @_;
    my $before = switches();
    $f->parent->safe_psql('postgres', "SELECT pg_sleep($seconds)"); # nothing wakes it meanwhile (time passes)
    return switches() - $before;
};
# What is done once, some time after the last work, may come in between: not again and again.
my $quiet = 0;
for (1 .. 12)
{
    last if $quiet = $rest->(10) == 0;
}
ok($quiet, 'an idle agent with 200 servers is not woken');

# ---- flat over many runs -----------------------------------------------------------------------

$f->job('nothing', 'SELECT 1');
$f->package('three', here => { sql => 'SELECT 1' }, agent => { job => 'nothing', server => 'a1' }, direct => { job => 'nothing', server => 'd1' });
sub fds { my ($pid) = @_; return scalar(() = glob "/proc/$pid/fd/*"); }
sub rounds
{
    my ($rounds) = @_;
    for my $round (1 .. $rounds)
    {
        $f->sql("SELECT count(fleet.run_parent_package('three')) FROM generate_series(1, $batch)");
        $f->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.run WHERE state < 11}, '0', "$batch runs of three tasks are over") or last;
    }
    return;
}
# What is asked for is counted to the byte, at rest: how many pages the process holds depends on how
# much was open at the same time, that is on the machine's load.
sub measure { return map { { memory => [ $f->agent_memory($_) ], fds => fds($f->agent_pid($_)) } } qw(parent a1) }
rounds(2);
my $child = $f->agent_pid('a1');
my @before = measure();
$begin = time;
rounds(3);
note sprintf '%d runs of three tasks in %.1f s', $batch * 3, time - $begin;
my @after = measure();
is($f->agent_pid, $agent, 'the same agent all the time');
is($f->agent_pid('a1'), $child, 'and the same on the child');
for my $i (0, 1)
{
    my $who = (qw(parent child))[$i] . "'s agent";
    my ($contexts, $malloc) = map { $after[$i]{memory}[$_] - $before[$i]{memory}[$_] } 0, 1;
    note "$who: $before[$i]{memory}[0] bytes in contexts and $before[$i]{memory}[1] besides, then $contexts and $malloc more";
    # measured: 0.3 bytes a run in contexts; what libpq keeps goes up and down by 60 kB
    cmp_ok($contexts, '<', 10 * 3 * $batch, "$who: its memory contexts are flat");
    cmp_ok($malloc, '<', 60000 + 30 * 3 * $batch, "$who: so is what libpq and the core ask malloc for") unless $ENV{FLEET_ASAN};
    cmp_ok($after[$i]{fds}, '<=', $before[$i]{fds} + 2, "$who: file descriptors are flat");
}
is($f->sql(q{SELECT string_agg(DISTINCT package || ' ' || state, ', ') FROM fleet.run WHERE package <> 'full'}),
    'everywhere succeeded, noop succeeded, three succeeded', 'all runs succeeded');
is($f->sql(q{SELECT count(*) || ' ' || count(DISTINCT (run_id, task)) FROM fleet.task_run WHERE package = 'three' AND state = 'succeeded' AND attempt = 1}),
    join(' ', (5 * 3 * $batch) x 2), 'each task once');

$f->done;
