# (runs long)
# 200 servers used by one package; an idle agent that is not woken; memory and file descriptors flat
# over 20,000 runs.
use strict;
use warnings;
use FleetTest;
use Test::More;
use Time::HiRes qw(time);

my $servers = 200;
my $runs = $ENV{FLEET_ASAN} ? 2000 : 20000;

# Fewer descriptors than servers: sessions that are idle make room for others.
my $f = FleetTest->new(agents => 1, direct => 2, witness => 0, conf => "fleet.runner_idle_timeout = '500ms'\nmax_files_per_process = 250\n");
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
is($f->sql("SELECT count(*) FROM fleet.task_run t WHERE run_id = $run AND item > 0 AND server NOT LIKE '%\\_' || output"), '0', 'where the parent says');

# A cancel gets through while every descriptor is in use.
$f->job('long', 'SELECT pg_sleep(600)');
$f->package('full', t => { job => 'long', on_group => 'many', balance => 'round_robin',
        for_each => "SELECT jsonb_build_object('n', i) FROM generate_series(1, $servers) AS i" });
$run = $f->start('full');
sub active { my $n = 0; $n += $f->node($_)->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)%' AND state = 'active'}) for @clusters; return $n }
$f->wait_for('parent', "SELECT count(*) > 30 FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'running'", 't', 'as many run as there are descriptors');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'and are canceled');
is(active(), 0, 'on their servers too');

# ---- an idle agent -----------------------------------------------------------------------------

# Links to many of the servers are open.  First let everything come to rest: the runners end.
$f->package('noop', t => { sql => 'SELECT 1' });
$f->run_is($f->start('noop'), 'succeeded', 'something local');
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%'}, '0', 'runners have gone');
my $agent = $f->agent_pid;
sub switches { return FleetTest::proc_status($agent, 'voluntary_ctxt_switches') }
# at rest: no wake-up between two looks, and again
my $rest = sub {
    my ($seconds) = @_;
    my $before = switches();
    $f->parent->safe_psql('postgres', "SELECT pg_sleep($seconds)");
    return switches() - $before;
};
my $quiet = 0;
for (1 .. 60)
{
    last if $quiet = $rest->(1) == 0;
}
ok($quiet, 'the agent comes to rest');
is($rest->(10), 0, 'an idle agent with 200 servers is not woken');

# ---- flat over many runs -----------------------------------------------------------------------

$f->job('nothing', 'SELECT 1');
$f->package('three', here => { sql => 'SELECT 1' }, agent => { job => 'nothing', server => 'a1' }, direct => { job => 'nothing', server => 'd1' });
sub fds { my ($pid) = @_; return scalar(() = glob "/proc/$pid/fd/*"); }
sub rounds
{
    my ($n) = @_;
    while ($n > 0)
    {
        my $now = $n < 1000 ? $n : 1000;
        $f->sql("SELECT count(fleet.run_parent_package('three')) FROM generate_series(1, $now)");
        $f->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.run WHERE state < 11}, '0') or last;
        $n -= $now;
    }
    return;
}
rounds($runs / 4);
my @before = (FleetTest::proc_status($agent, 'RssAnon'), fds($agent));
my $child = $f->agent_pid('a1');
my @child_before = (FleetTest::proc_status($child, 'RssAnon'), fds($child));
$begin = time;
rounds($runs * 3 / 4);
note sprintf '%d runs of three tasks in %.1f s', $runs * 3 / 4, time - $begin;
is($f->agent_pid, $agent, 'the same agent all the time');
my @after = (FleetTest::proc_status($agent, 'RssAnon'), fds($agent));
my @child_after = (FleetTest::proc_status($child, 'RssAnon'), fds($child));
note "parent's agent: $before[0] kB, $before[1] fds -> $after[0] kB, $after[1] fds";
note "child's agent: $child_before[0] kB, $child_before[1] fds -> $child_after[0] kB, $child_after[1] fds";
# Anonymous memory: pages of shared buffers that a process has touched are no leak.  15,000 further
# runs: 200 bytes a run would show as 3 MB; allocators may move by less.
cmp_ok($after[0] - $before[0], '<', 3000, "the parent's agent: memory is flat");
cmp_ok($after[1], '<=', $before[1] + 2, "the parent's agent: file descriptors are flat");
cmp_ok($child_after[0] - $child_before[0], '<', 3000, "the child's agent: memory is flat");
cmp_ok($child_after[1], '<=', $child_before[1] + 2, "the child's agent: file descriptors are flat");
is($f->sql(q{SELECT count(*) FROM fleet_catalog.run WHERE package <> 'full' AND state <> 11}), '0', 'all runs succeeded');

$f->done;
