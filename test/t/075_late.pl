# The timeout of a run, by its package or its request, nested ones too; and its deadline: what is late, and what is
# expected to be, is told once.  Jobs in both modes, and the agent ends in between.  (test build)
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

sub task { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.work()', params => qq({"key": "$key"}), %more }); }
sub gate { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.work_until_released()', params => qq({"key": "$key"}), %more }); }
sub held { my ($key, $server, %more) = @_; return ($key, { job => 'held', server => $server, params => qq({"key": "$key"}), %more }); }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || state, ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run AND item = 0"); }
sub message { my ($run) = @_; return $f->sql("SELECT coalesce(message, '') FROM fleet.run WHERE run_id = $run"); }
sub lasted { my ($run, $low, $high) = @_; return $f->sql("SELECT finished_at - started_at BETWEEN '$low' AND '$high' FROM fleet.run WHERE run_id = $run"); }
sub start { my ($package, $more) = @_; return $f->sql("SELECT fleet.run_parent_package('$package'" . ($more ? ", $more" : '') . ')'); }
sub said { my ($like) = @_; my @n = slurp_file($f->parent->logfile) =~ /LOG:  $like/g; return scalar @n; }
sub end_agent
{
    my ($what) = @_;
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', $what);
    return;
}
$f->package('probe', p => { sql => 'SELECT 1' });
$f->job('held', { sql => 'SELECT etl.work_until_released()' });

# ---- timeout -----------------------------------------------------------------------------------

# of the package: what runs is stopped, on servers of both modes, what waits does not begin, the run has failed
$f->package('night', gate('g1'), held('a1', 'a1'), held('d1', 'd1'), task('next', after => '{g1}'));
$f->sql("SELECT fleet.alter_package('night', timeout => '3s')");
my $run = start('night');
$f->wait_started($_, 1) for qw(g1 a1 d1);
is($f->sql("SELECT timeout FROM fleet.run WHERE run_id = $run"), '00:00:03', 'a run has the timeout of its package');
end_agent('the agent ends with a run that has a timeout');
$f->run_is($run, 'failed', 'out of its time the run has failed');
is(message($run), 'timed out after 00:00:03', 'it says so');
is(states($run), 'g1 canceled, a1 canceled, d1 canceled, next canceled', 'what ran was stopped, what waited was not begun');
is(lasted($run, '3s', '2min'), 't', 'it was not stopped before its time');
is($f->sql_on('witness', "SELECT count(*) FROM event WHERE what = 'end'"), '0', 'nothing of it came to its end');

# no agent was there when its time was over
$run = start('night', "timeout => '2s'");
$f->wait_started('g1', 2);
$f->parent->stop('immediate');
$f->forget('parent');
select undef, undef, undef, 2.1; # (time passes) while nothing can happen: that is what is tested
$f->parent->start;
$f->run_is($f->start('probe'), 'succeeded', 'the server is there again');
$f->run_is($run, 'failed', 'the next agent counts from the start of the run');
is(message($run), 'timed out after 00:00:02', 'it says so');
is(lasted($run, '2s', '2min'), 't', 'and has it stopped');

# one that ends in time; none, by the request; canceled by a session before its time
$run = start('night', "timeout => '1h'");
$f->wait_started('g1', 3);
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'a session cancels a run that has a timeout');
is(message($run), '', 'it has not timed out');
$f->package('short', task('s1'));
$f->sql("SELECT fleet.alter_package('short', timeout => '1h')");
$run = start('short');
$f->run_is($run, 'succeeded', 'a run that ends in time');
$run = start('night', "timeout => '0'");
is($f->sql("SELECT timeout IS NULL FROM fleet.run WHERE run_id = $run"), 't', 'a request without the timeout of its package');
$f->wait_started('g1', 4);
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'which is canceled');

# a run that waits for its turn has all of its time before it; its restart has as much again
$f->package('queue', gate('q1'));
$f->sql("SELECT fleet.alter_package('queue', overlap => 'queue', timeout => '2s')");
$run = start('queue', "timeout => '4s'");
my $next = start('queue');
$f->run_is($run, 'failed', 'the first one is out of its time');
$f->run_is($next, 'failed', 'so is the second one');
is(lasted($next, '2s', '2min'), 't', 'after its own time');
$next = $f->sql("SELECT fleet.restart_run($next)");
$f->run_is($next, 'failed', 'a restart');
is(lasted($next, '2s', '2min') . ' ' . message($next), 't timed out after 00:00:02', 'has the same timeout, from its start');

# nested: the package's task fails, and may be handled; the step of a job too
$f->package('inner', gate('n1'));
$f->sql("SELECT fleet.alter_package('inner', timeout => '2s')");
$f->package('outer', in => { nested => 'inner' }, task('handled', after_failure_of => '{in}'));
$run = start('outer');
my $nested = $f->wait_for('parent', "SELECT count(*) FROM fleet.run WHERE parent_run_id = $run", '1', 'a nested run');
end_agent('the agent ends with a nested run that has a timeout');
$f->run_is($run, 'succeeded', 'the run handles it');
is(states($run), 'in failed, handled succeeded', 'its package task has failed');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run AND task = 'in'"), '57014 timed out after 00:00:02', 'it says why');
is($f->sql("SELECT state FROM fleet.run WHERE parent_run_id = $run"), 'failed', 'so does the nested run');
$f->job('step', { package => 'inner' });
$f->package('steps', a2 => { job => 'step', server => 'a1' });
$run = start('steps');
$f->run_is($run, 'failed', 'a package that a step runs on a server');
is($f->sql("SELECT string_agg(sqlstate || ' ' || message, ', ') FROM fleet.task_run WHERE run_id = $run"), '57014 timed out after 00:00:02', 'has its timeout there');

# the outer one's timeout stops the nested one
$f->sql("SELECT fleet.alter_package('inner', timeout => '0')");
$run = start('outer', "timeout => '2s'");
$f->run_is($run, 'failed', 'a run with a nested one is out of its time');
is(message($run) . ' ' . $f->sql("SELECT state FROM fleet.run WHERE parent_run_id = $run"), 'timed out after 00:00:02 canceled', 'the nested one is canceled with it');

# final tasks run after it, and have all the time that they need
$f->package('tidy', gate('t1'), gate('t2', final => 'true'));
$run = start('tidy', "timeout => '2s'");
$f->wait_started('t2', 1);
end_agent('the agent ends while a final task runs of a run that is out of its time');
$f->release('t2');
$f->run_is($run, 'failed', 'a run with a final task is out of its time');
is(states($run) . '; ' . message($run), 't1 canceled, t2 succeeded; timed out after 00:00:02', 'the final task has run to its end');

# ---- deadline ----------------------------------------------------------------------------------

$f->package('due', gate('l1'));
$run = start('due', "deadline => clock_timestamp() + interval '3s'");
$f->wait_started('l1', 1);
is($f->sql("SELECT late_at IS NULL AND deadline > started_at FROM fleet.run WHERE run_id = $run"), 't', 'a run with a deadline');
end_agent('the agent ends');
$f->wait_for('parent', "SELECT late_at >= deadline FROM fleet.run WHERE run_id = $run", 't', 'it is late');
is(said(qr/run $run of package "due" is late/), 1, 'the log says so');
end_agent('the agent ends again');
$f->run_is($f->start('probe'), 'succeeded', 'its successor');
is(said(qr/run $run of package "due" is late/), 1, 'says it no more');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'running', 'it goes on');
$f->release('l1');
$f->run_is($run, 'succeeded', 'to its end');
$run = start('due', "deadline => clock_timestamp() + interval '1h'");
$f->run_is($run, 'succeeded', 'one that is in time');
is($f->sql("SELECT late_at IS NULL AND expected_late_at IS NULL FROM fleet.run WHERE run_id = $run"), 't', 'is not late');

# so long after the start; and of a run that cannot begin
$f->sql("SELECT fleet.alter_package('night', timeout => '0', deadline => '1s')");
$run = start('night');
$f->wait_for('parent', "SELECT late_at >= started_at + interval '1s' AND deadline = started_at + interval '1s' FROM fleet.run WHERE run_id = $run", 't', 'a deadline of the package, from the start of the run');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'which is canceled');
$f->sql("SELECT fleet.pause(package => 'due')");
$run = start('due', "deadline => clock_timestamp() + interval '1s'");
$f->wait_for('parent', "SELECT late_at IS NOT NULL AND state = 'queued' FROM fleet.run WHERE run_id = $run", 't', 'a run that is paused can be late');
$f->sql("SELECT fleet.resume(package => 'due')");
$f->run_is($run, 'succeeded', 'which ends');

# expected to be late: its tasks are known to take longer than it has
$f->package('long', gate('e1'));
$run = start('long');
$f->wait_started('e1', 1);
select undef, undef, undef, 1.5; # (time passes): what is learned is a duration
$f->release('e1');
$f->run_is($run, 'succeeded', 'a run of which the duration is learned');
is($f->sql("WITH learned AS (UPDATE fleet_catalog.duration SET log_mean = ln(3600e6) WHERE package = 'long' RETURNING 1) SELECT count(*) FROM learned"), '1', 'which is an hour now');
$f->sql_on('witness', "DELETE FROM event WHERE what = 'release'");
$run = start('long', "deadline => clock_timestamp() + interval '20min'");
$f->wait_started('e1', 2);
$f->wait_for('parent', "SELECT expected_late_at IS NOT NULL AND late_at IS NULL FROM fleet.run WHERE run_id = $run", 't', 'a run is expected to be late, long before it is');
is(said(qr/run $run of package "long" is expected to be late/), 1, 'the log says so');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'which is canceled');

# ---- arguments ---------------------------------------------------------------------------------

$f->fails("SELECT fleet.run_parent_package('due', $_)", '22023', $_, help => 1)
  for q{timeout => '-1s'}, q{timeout => '11 years'}, q{deadline => 'infinity'}, q{deadline => '2020-01-01'}, q{deadline => '3000-01-01'},
  q{run_at => now() + interval '2h', deadline => now() + interval '1h'};
$f->fails("SELECT fleet.alter_package('due', $_ => '-1s')", '22023', $_, help => 1) for qw(timeout deadline);
$f->fails("SELECT fleet.create_package('bad', $_ => NULL)", '22004', $_, help => 1) for qw(timeout deadline);

$f->done(crashes => 1);
