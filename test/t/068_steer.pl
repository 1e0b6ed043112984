# What is asked of a run that goes on: to skip a task, to start one that failed once more; servers of both
# modes, and the agent ends in between.  What really started is what the witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

$f->sql_on($_, <<'SQL') for qw(parent a1 d1);
CREATE TABLE etl.broken (key text);
GRANT SELECT ON etl.broken TO PUBLIC;
CREATE FUNCTION etl.task() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.witness('start');
    IF EXISTS (SELECT FROM etl.broken WHERE key = etl.key()) THEN
        RAISE EXCEPTION 'task % is broken', etl.key();
    END IF;
    INSERT INTO etl.effect (key) VALUES (etl.key());
    RETURN 'done ' || etl.key();
END $$;
SQL
sub break_it { my (@keys) = @_; $f->sql_on($_, "INSERT INTO etl.broken SELECT unnest('{" . join(',', @keys) . "}'::text[])") for qw(parent a1 d1); return; }
sub repair { $f->sql_on($_, 'TRUNCATE etl.broken') for qw(parent a1 d1); return; }
sub starts { my ($like) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key LIKE '$like'"); }
sub task { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.task()', params => qq({"key": "$key"}), %more }); }
sub gate { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.work_until_released()', params => qq({"key": "$key"}), %more }); }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || state, ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run AND item = 0"); }
sub state_is { my ($run, $task, $state, $what, $item) = @_; $item //= 0; $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item = $item", $state, $what); return; }
sub end_agent
{
    my ($what) = @_;
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', $what);
    return;
}
sub message { my ($run, $task) = @_; return $f->sql("SELECT coalesce(message, '') FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item = 0"); }

# ---- skip --------------------------------------------------------------------------------------

$f->package('night', gate('g1'), task('s2', after => '{g1}'), task('s3', after => '{s2}'));
my $run = $f->start('night');
$f->wait_started('g1', 1);
$f->sql("SELECT fleet.skip_task($run, 's2', reason => 'its source is down')");
$f->fails("SELECT fleet.skip_task($run, 'g1')", '55000', 'what runs is not skipped', help => 1, like => 'fleet.cancel_run');
$f->fails("SELECT fleet.skip_task($run, 'g9')", '42704', 'a task that there is not', help => 1);
$f->fails("SELECT fleet.skip_task($run, 's2', 1)", '42704', 'an item that there is not', help => 1);
$f->fails("SELECT fleet.skip_task(4711, 's2')", '42704', 'a run that there is not', help => 1);
end_agent('the agent ends with a skip that has not had its turn');
$f->release('g1');
$f->run_is($run, 'succeeded', 'a run of which a task is skipped');
is(states($run), 'g1 succeeded, s2 skipped, s3 succeeded', 'what follows runs');
is(message($run, 's2'), 'skipped by postgres: its source is down', 'it says by whom, and why');
is(starts('s2') . starts('s3'), '01', 'nothing of it started');
$f->fails("SELECT fleet.skip_task($run, 's3')", '55000', 'a run that has ended', help => 1, like => 'restart_run');

# a restart from the task that was skipped means it
my $again = $f->sql("SELECT fleet.restart_run($run, from_task => 's2')");
$f->run_is($again, 'succeeded', 'a restart from the task that was skipped');
is(states($again), 'g1 succeeded, s2 succeeded, s3 succeeded', 'executes it');
is(starts('g1') . starts('s2') . starts('s3'), '112', 'and what follows, and nothing else');

# what waits for a retry is skipped at once
$f->package('retries', task('r1', retries => 5, retry_wait => '1h', retry_sqlstates => '{P0001}'), task('r2', after => '{r1}'));
break_it('r1');
$run = $f->start('retries');
state_is($run, 'r1', 'retrying', 'a task waits for its retry');
$f->sql("SELECT fleet.skip_task($run, 'r1')");
$f->run_is($run, 'succeeded', 'skipped, it does not');
is(states($run) . ' ' . message($run, 'r1'), 'r1 skipped, r2 succeeded skipped by postgres', 'and what follows runs');

# items, on servers of both modes; one that is skipped counts as good
$f->job('item', { sql => 'SELECT etl.task()' });
$f->package('items', i1 => { job => 'item', on_group => 'all', throttle => 1, for_each => q{SELECT jsonb_build_object('key', 'x' || i) FROM generate_series(1, 3) AS i}, retries => 3, retry_wait => '1h', retry_sqlstates => '{P0001}' });
break_it('x2');
$run = $f->start('items');
state_is($run, 'i1', 'retrying', 'an item waits for its retry', 2);
$f->fails("SELECT fleet.skip_task($run, 'i1')", '55000', 'a for_each of which the items are known', help => 1, like => 'items that have not begun');
$f->sql("SELECT fleet.skip_task($run, 'i1', 2, 'it is empty')");
$f->run_is($run, 'succeeded', 'an item is skipped');
is($f->sql("SELECT string_agg(item || ' ' || state || coalesce(' ' || message, ''), ', ' ORDER BY item) FROM fleet.task_run WHERE run_id = $run"),
    '0 succeeded, 1 succeeded, 2 skipped skipped by postgres: it is empty, 3 succeeded', 'the others are not');

# ---- retry -------------------------------------------------------------------------------------

$f->package('again', task('t1'), task('t2', after => '{t1}'), task('t3', after_failure_of => '{t1}'), gate('g2'), task('t5', after => '{t2,g2}'));
break_it('t1');
$run = $f->start('again');
state_is($run, 't1', 'failed', 'a task fails');
state_is($run, 't3', 'succeeded', 'what handles that runs');
is(states($run), 't1 failed, t2 skipped, t3 succeeded, g2 running, t5 skipped', 'what follows its success is skipped');
$f->fails("SELECT fleet.retry_task($run, 't3')", '55000', 'what has not failed', help => 1);
$f->fails("SELECT fleet.retry_task($run, 'g2')", '55000', 'what runs', help => 1);
$f->sql("SELECT fleet.retry_task($run, 't1')");
$f->wait_for('parent', "SELECT state || ' ' || attempt FROM fleet.task_run WHERE run_id = $run AND task = 't1'", 'failed 2', 'it fails again');
is(states($run), 't1 failed, t2 skipped, t3 succeeded, g2 running, t5 skipped', 'and all is as before');
is(starts('t1') . starts('t3'), '21', 'the failure was handled once');
repair();
# the agent ends before the rows of the retry are there, and after
$f->point('parent', 'agent_before_commit', 'exit');
$f->sql("SELECT fleet.retry_task($run, 't1')");
$f->point_fired('parent', 'agent_before_commit', 'the agent ends in the retry');
state_is($run, 't2', 'succeeded', 'its successor does it, and what follows runs');
is(states($run), 't1 succeeded, t2 succeeded, t3 succeeded, g2 running, t5 queued', 'as far as it can');
is($f->sql('SELECT count(*) FROM fleet_catalog.retry_request'), '0', 'no request is left');
end_agent('the agent ends after it');
$f->release('g2');
$f->run_is($run, 'succeeded', 'the run succeeds');
is(starts('t1'), 3, 'the task has started three times');
is($f->sql("SELECT string_agg(l.seq::text, ' ' ORDER BY l.seq) FROM fleet.log AS l WHERE l.run_id = $run AND l.task = 't1'"), '1 2 3 4 5 6', 'its log has no gap');
is($f->sql("SELECT string_agg(task_attempt || ' ' || state, ', ' ORDER BY started_at) FROM fleet.job_log WHERE run_id = $run AND task = 't1'"), '1 failed, 2 failed, 3 succeeded', 'all attempts are there');
$f->fails("SELECT fleet.retry_task($run, 't1')", '55000', 'a run that has ended', help => 1, like => 'restart_run');

# jobs on servers of both modes; items one by one, and all that failed
for my $server (qw(a1 d1))
{
    $f->package("on_$server", each => { job => 'item', server => $server, for_each => qq{SELECT jsonb_build_object('key', '$server.' || i) FROM generate_series(1, 4) AS i} },
        gate("g$server"), task("after_$server", after => '{each}'));
    break_it("$server.2", "$server.3");
    $run = $f->start("on_$server");
    state_is($run, 'each', 'failed', "$server: two items fail");
    $f->sql("SELECT fleet.retry_task($run, 'each', 2)");
    $f->wait_for('parent', "SELECT state || ' ' || attempt FROM fleet.task_run WHERE run_id = $run AND item = 2", 'failed 2', "$server: one is retried, and fails");
    state_is($run, 'each', 'failed', "$server: so does the task again");
    repair();
    $f->fails("SELECT fleet.retry_task($run, 'each', 1)", '55000', "$server: an item that has not failed", help => 1);
    $f->sql("SELECT fleet.retry_task($run, 'each')");
    state_is($run, "after_$server", 'succeeded', "$server: all that failed are retried");
    end_agent("$server: the agent ends");
    $f->release("g$server");
    $f->run_is($run, 'succeeded', "$server: the run succeeds");
    is($f->sql("SELECT string_agg(attempt::text, ' ' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND item > 0"), '1 3 2 1', "$server: attempts of the items");
}

# one that stops at the first failure is retried as a whole; a condition is asked again; a query too
$f->package('fast', each => { sql => 'SELECT etl.task()', completion => 'fail_fast', throttle => 1, for_each => q{SELECT jsonb_build_object('key', 'f' || i) FROM generate_series(1, 3) AS i} },
    gate('g4'), task('c1', after => '{each}'), q1 => { sql => 'SELECT 1', for_each => 'SELECT jsonb_build_object(\'i\', 1/(SELECT count(*) FROM etl.ready))' });
$f->sql('CREATE TABLE etl.ready (x int); GRANT SELECT ON etl.ready TO PUBLIC');
$f->sql(q{SELECT fleet.drop_precedence('fast', 'each', 'c1')});
$f->sql(q{SELECT fleet.add_precedence('fast', 'each', 'c1', on_outcome => 'completion', condition => '(SELECT count(*) FROM etl.ready) > 0')});
break_it('f1');
$run = $f->start('fast');
state_is($run, 'each', 'failed', 'an item fails, and the others are stopped');
state_is($run, 'c1', 'skipped', 'the condition does not hold');
state_is($run, 'q1', 'failed', 'a query fails');
$f->fails("SELECT fleet.retry_task($run, 'each', 1)", '55000', 'one item of it', help => 1, like => 'Leave out the item');
repair();
$f->sql('INSERT INTO etl.ready VALUES (1)');
$f->sql("SELECT fleet.retry_task($run, 'each'), fleet.retry_task($run, 'q1')");
state_is($run, 'each', 'succeeded', 'the whole is retried');
state_is($run, 'c1', 'succeeded', 'the condition was asked again');
state_is($run, 'q1', 'succeeded', 'so was the query');
$f->release('g4');
$f->run_is($run, 'succeeded', 'all is well');

# a nested package that failed begins anew; who may
$f->package('inner', task('n1'), task('n2', after => '{n1}'));
$f->package('outer', in => { nested => 'inner' }, gate('g5'));
break_it('n2');
$run = $f->start('outer');
state_is($run, 'in', 'failed', 'a nested package fails');
my $nested = $f->sql("SELECT max(run_id) FROM fleet.run WHERE parent_run_id = $run");
$f->fails("SELECT fleet.retry_task($nested, 'n2')", '55000', 'a nested run that has ended', help => 1, like => "part of run $run");
repair();
$f->sql("SELECT fleet.retry_task($run, 'in')");
state_is($run, 'in', 'succeeded', 'it is retried');
$f->release('g5');
$f->run_is($run, 'succeeded', 'and the run succeeds');

$f->done(crashes => 1);
