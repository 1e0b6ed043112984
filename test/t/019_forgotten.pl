# Nothing forgotten: requests and cancels that are committed reach an agent, over its end and over a
# ring that overflows; who waits gets its answer; servers that change; learned durations; a package
# run here and now.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, register => 0, conf => "restart_after_crash = on\n", delays => 0);

sub events { my ($key) = @_; return $f->sql_on('witness', "SELECT coalesce(string_agg(what || '\@' || server, ',' ORDER BY id), '') FROM event WHERE key = '$key'"); }

sub stuck { my ($case) = @_; return "DO \$\$ BEGIN PERFORM etl.witness('start'); PERFORM pg_sleep(600) /* $case */; PERFORM etl.witness('end'); END \$\$"; }

# A session that waits, in the background: a dblink connection of this one.
my $s = $f->parent->background_psql($FleetTest::DB);
my $self = 'host=' . $f->parent->host . ' port=' . $f->parent->port . " dbname=$FleetTest::DB user=" . $f->sql('SELECT current_user');

sub ask
{
    my ($name, $query) = @_;
    $s->query_safe("SELECT 1 FROM dblink_connect('$name', '$self'); SELECT 1 FROM dblink_send_query('$name', " . FleetTest::quote_literal($query) . ')');
    return;
}

# Its answer; the second call takes the end of the results.
sub answer
{
    my ($name) = @_;
    my $got = $s->query_safe("SELECT a FROM dblink_get_result('$name') AS t(a text)");
    $s->query_safe("SELECT 1 FROM dblink_disconnect('$name')");
    return $got;
}

sub waits { my ($n, $what, $test) = @_; return $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT fleet.wait\\_for%$what%' AND wait_event = 'Extension' AND pid <> pg_backend_pid()", $n, $test); }

# ---- requests are a part of their transaction --------------------------------------------------

is(scalar($f->workers('parent', 'agent')), 0, 'no agent yet');
$f->package('once', t => { sql => q{SELECT etl.work()}, params => '{"key": "once"}' });
$f->sql(q{BEGIN; SELECT fleet.run_parent_package('once'); ROLLBACK});
$f->sql(q{BEGIN; SAVEPOINT a; SELECT fleet.run_parent_package('once'); ROLLBACK TO a; COMMIT});
is($f->sql(q{SELECT count(*) FROM fleet.run}), '0', 'a request that is rolled back leaves no run');
$s->query_safe('BEGIN');
my $run = $s->query_safe(q{SELECT fleet.run_parent_package('once')});
my @sessions = map { $f->parent->background_psql($FleetTest::DB) } 1 .. 2;
$_->query_safe('BEGIN; SELECT fleet.run_parent_package(\'once\')') for @sessions;
is(events('once'), '', 'not committed: nothing has started');
$f->fails("BEGIN; SELECT fleet.run_parent_package('once') AS r \\gset\nSELECT fleet.wait_for_run(:r)", '55000', 'who would wait for a run of the same transaction is told', like => 'has not been committed yet', help => 1);
$f->fails("BEGIN; SELECT fleet.run_parent_package('once'); PREPARE TRANSACTION 'x'", '0A000', 'a request in a prepared transaction is refused', help => 1);
$s->query_safe('COMMIT');
$f->run_is($run, 'succeeded', 'committed: it starts, and so does the agent');
$_->query_safe('COMMIT') for @sessions;
$_->quit for @sessions;
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE state = 'succeeded'}, '3', 'those that were committed later too');
is($f->effects('parent', 'once'), '3', 'each once, none of the others');
is(scalar($f->workers('parent', 'agent')), 1, 'one agent');

$f->{opt}{register} = 1;
$f->register($_) for $f->children;

# ---- the ring overflows ------------------------------------------------------------------------

# 1,024 messages in a test build.  The agent stands before it looks; among more requests than that
# are cancels of what runs and of what is just asked for, a server that changes, a job run, and a deployment.
$f->package('stuck', t => { sql => stuck('ring'), params => '{"key": "stuck"}' });
$f->job('stuck', stuck('ring'));
$f->job('late', q{SELECT etl.work()});
my $stuck = $f->start('stuck');
my $stuck_job = $f->sql(q{SELECT fleet.start_job('stuck', params => '{"key": "stuck"}')});
$f->wait_started('stuck', 2);
$f->package('tick', t => { sql => q{INSERT INTO etl.effect (key) VALUES (etl.key())}, params => '{"key": "tick"}' });
$f->package('later', t => { sql => stuck('later'), params => '{"key": "later"}' });
$f->point('parent', 'agent_before_messages', 'wait');
my $first = $f->start('tick');
$f->point_waits('parent', 'agent_before_messages', 'the agent stands before its messages');
$f->sql(q{SELECT count(fleet.run_parent_package('tick')) FROM generate_series(1, 1100)});
is($f->sql("SELECT fleet.cancel_run($stuck), fleet.cancel_job_run($stuck_job)"), 't|t', 'canceled when the ring is full: a run and a job run');
my $later = $f->start('later');
is($f->sql("SELECT fleet.cancel_run($later)"), 't', '… and a run that nobody has seen');
my $late_job = $f->sql(q{SELECT fleet.start_job('late', params => '{"key": "late"}')});
$f->sql(q{SELECT fleet.alter_server('d1', slots => 3)});
$f->sql(q{SELECT * FROM fleet.deploy_job('late', server => 'a1')});
$f->point_release('parent', 'agent_before_messages');
$f->run_is($stuck, 'canceled', 'a cancel in an overflow of the ring is not lost');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $stuck_job", 'canceled', 'nor that of a job run');
$f->run_is($later, 'canceled', 'nor that of a run that begins with it');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE package = 'tick' AND state = 'succeeded'}, '1101', 'all runs start');
is($f->effects('parent', 'tick'), '1101', 'each once');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $late_job", 'succeeded', 'a job run too');
is(events('late'), 'start@parent,end@parent', 'once');
is(events('stuck'), 'start@parent,start@parent', 'what was canceled did not come to its end');
is(events('later'), '', 'what was canceled before its start did not start');
$f->wait_for('parent', q{SELECT state FROM fleet.deployment WHERE job = 'late' AND server = 'a1'}, 'deployed', 'a deployment is made');

# ---- over the agent's end ----------------------------------------------------------------------

# While no agent is there: a request, and its cancel.
my $pid = $f->agent_pid;
$f->point('parent', 'starter_after_delay', 'wait');
$f->sql("SELECT pg_terminate_backend($pid)");
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'}, '0', 'no agent is there');
is($f->sql('SELECT running FROM fleet.agent_status()'), 'f', 'agent_status() says so');
$run = $f->start('once');
$stuck = $f->start('stuck');
is($f->sql("SELECT fleet.cancel_run($stuck)"), 't', 'a request, and one with its cancel, meet no agent');
$f->point_release('parent', 'starter_after_delay');
$f->run_is($run, 'succeeded', 'the next agent finds the request');
$f->run_is($stuck, 'canceled', '… and the cancel');
is(scalar($f->workers('parent', 'agent')), 1, 'one agent');
is(events('stuck'), 'start@parent,start@parent', 'what was canceled did not start');

# Items over the agent's end: those that run and those that wait have the parameters of their row, over
# the task's, over the run's.
my %place = (parent => 1, a1 => 2, d1 => 2);    # and how many of three run on each: one more than there are slots waits
my $saw = q{DO $$ BEGIN PERFORM etl.witness(current_setting('fleet.params')::jsonb::text); PERFORM etl.work_until_released(); END $$};
$f->job('saw', $saw);
for my $place (sort keys %place)
{
    $f->package("items_$place", -params => '{"key": "run", "run": "run", "task": "run", "item": "run"}',
        t => {
            $place eq 'parent' ? (sql => $saw) : (job => 'saw', server => $place),
            params => '{"key": "task", "task": "task", "item": "task"}', throttle => $place{$place},
            for_each => "SELECT jsonb_build_object('key', 'items $place ' || i, 'item', i) FROM generate_series(1, 3) AS i" });
}
my %items = map { $_ => $f->start("items_$_") } sort keys %place;
my $begun = q{SELECT count(DISTINCT key) FROM event WHERE what = 'start' AND key LIKE 'items %'};
$f->wait_for('witness', $begun, '5', 'five items run');
$f->wait_for('parent', 'SELECT count(*) FILTER (WHERE state = \'running\') || \' \' || count(*) FILTER (WHERE state = \'queued\') FROM fleet.task_run WHERE item > 0 AND run_id IN (' . join(',', values %items) . ')',
    '5 4', 'four wait');
$pid = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($pid)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid", '1', 'items: the agent ends, another one comes');
for my $place (sort keys %place)
{
    $f->release("items $place $_") for 1 .. 3;
    $f->run_is($items{$place}, 'succeeded', "items on $place: all succeed");
    is($f->sql_on('witness', "SELECT string_agg(what, '; ' ORDER BY what) FROM (SELECT DISTINCT what FROM event WHERE key LIKE 'items $place %' AND what LIKE '{%') AS x"),
        join('; ', map { qq({"key": "items $place $_", "run": "run", "item": $_, "task": "task"}) } 1 .. 3), "items on $place: each has its own parameters, before and after");
}

# The agent has the message and is killed before it has done anything: the cluster restarts.
$run = $f->start('stuck');
$f->wait_started('stuck', 3);
$f->point('parent', 'agent_before_commit', 'wait');
$f->sql("SELECT fleet.cancel_run($run)");
$f->point_waits('parent', 'agent_before_commit', 'the agent is about to store a cancel');
$pid = $f->agent_pid;
kill 'KILL', $pid;
$f->point_release('parent', 'agent_before_commit');
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', 'the agent was killed, and the cluster has restarted');
$f->sql(q{SELECT fleet.run_parent_package('tick')});
$f->run_is($run, 'canceled', 'the cancel is not forgotten');
is(events('stuck'), 'start@parent,start@parent,start@parent', 'what it stopped was not begun again');
$s = $f->parent->background_psql($FleetTest::DB);

# ---- who waits ---------------------------------------------------------------------------------

$f->package('gate', t => { sql => 'SELECT etl.work_until_released()', params => '{"key": "gate"}' });
$run = $f->start('gate');
$f->wait_started('gate');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', 'a run is at work');
is($f->sql("SELECT coalesce(fleet.wait_for_run($run, timeout => '50ms'), 'null')"), 'null', 'wait_for_run: null at the timeout');
is($f->sql("SELECT fleet.wait_for_change($run, timeout => '50ms')"), 'running', 'wait_for_change: the state at the timeout');
is($f->sql("SELECT coalesce(fleet.wait_for_run($run, timeout => '0'), 'null')"), 'null', 'a timeout of nothing looks only');
$f->fails('SELECT fleet.wait_for_run(-1)', '42704', 'a run that there is not', like => 'run -1 does not exist', help => 1);
# the timeout is over before a step of 30 s
$f->package('nap', t => { sql => 'SELECT pg_sleep(30)' });
my $nap = $f->start('nap');
is($f->sql("SELECT coalesce(fleet.wait_for_run($nap, timeout => '100ms'), 'null')"), 'null', 'wait_for_run: the timeout is over before the step is');
is($f->sql("SELECT fleet.wait_for_change($nap, timeout => '100ms') IN ('queued', 'running')"), 't', 'wait_for_change too');
$f->sql("SELECT fleet.cancel_run($nap)");
$f->run_is($nap, 'canceled', 'and then it is canceled');
ask('w1', "SELECT fleet.wait_for_run($run)");
ask('w2', "SELECT fleet.wait_for_change($run)");
waits(2, $run, 'two sessions wait: for the end and for a change');
$pid = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($pid)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid", '1', 'the agent ends, another one comes');
$f->release('gate');
is(answer('w1'), 'succeeded', 'who waited for the end over an end of the agent gets it');
like(answer('w2'), qr/^(?:running|succeeded)$/, 'who waited for a change too');
is(events('gate'), 'start@parent,end@parent', 'the step was not disturbed');
is($f->sql("SELECT fleet.wait_for_run($run)"), 'succeeded', 'waiting for one that has ended returns at once');

# The answer of a condition is the run's: it is not asked again by the next agent.
$f->sql('CREATE TABLE answer AS SELECT true AS holds');
$f->package('asked',
    first  => { sql => 'SELECT 1' },
    slow   => { sql => 'SELECT etl.work_until_released()', params => '{"key": "slow"}' },
    behind => { sql => 'SELECT etl.work()', params => '{"key": "behind"}', after => '{slow}' });
$f->sql(q{SELECT fleet.add_precedence('asked', 'first', 'behind', condition => '(SELECT a.holds FROM public.answer AS a)')});
$run = $f->start('asked');
$f->wait_started('slow');
$f->wait_for('parent', "SELECT count(*) FILTER (WHERE holds) || ' of ' || count(*) FROM fleet_catalog.condition_result WHERE run_id = $run", '1 of 1', 'a condition holds, and what it leads to waits for another task');
$pid = $f->agent_pid;
$f->sql("UPDATE answer SET holds = false; SELECT pg_terminate_backend($pid)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid", '1', 'the next agent is there, and the condition would not hold any more');
$f->release('slow');
$f->run_is($run, 'succeeded', 'the run goes on with the answer that it had');
is($f->sql("SELECT string_agg(task || ' ' || state, ', ' ORDER BY task) FROM fleet.task_run WHERE run_id = $run"),
    'behind succeeded, first succeeded, slow succeeded', '… so what the condition let through ran');
is(events('behind'), 'start@parent,end@parent', '… once');

# Slots of waiters (64 in a test build) come back, however their sessions end.
$run = $f->start('stuck');
$f->wait_started('stuck', 4);
ask("w$_", "SELECT fleet.wait_for_run($run)") for 1 .. 64;
waits(64, $run, 'as many wait as there are slots');
$f->fails("SELECT fleet.wait_for_run($run)", '53400', 'one more is told that they are too many', like => 'too many sessions wait', help => 1);
$f->sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT fleet.wait\\_for\\_run%' AND pid <> pg_backend_pid()");
waits(0, $run, 'all are terminated');
$s->query_safe("SELECT dblink_disconnect('w' || i) FROM generate_series(1, 64) AS i");
ask("v$_", "SELECT fleet.wait_for_run($run)") for 1 .. 64;
waits(64, $run, 'their slots are free: as many wait again');
$f->sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT fleet.wait\\_for\\_run%' AND pid <> pg_backend_pid()");
waits(0, $run, 'all are canceled');
$s->query_safe("SELECT dblink_disconnect('v' || i) FROM generate_series(1, 64) AS i");
ask("u$_", "SELECT fleet.wait_for_run($run)") for 1 .. 64;
waits(64, $run, 'and again');
$f->sql("SELECT fleet.cancel_run($run)");
is(answer("u$_"), 'canceled', "waiter $_ is woken by the end") for 1, 64;
$s->query_safe("SELECT dblink_disconnect('u' || i) FROM generate_series(2, 63) AS i");

# ---- another one writes ------------------------------------------------------------------------

# A state is only changed from the state that it is known to be in.
$f->package('disputed', t => { sql => 'SELECT etl.work_until_released()', params => '{"key": "disputed"}' });
$run = $f->start('disputed');
$f->wait_started('disputed');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'running', 'disputed: a task runs');
$f->sql("UPDATE fleet_catalog.task_run SET state = 12, sqlstate = 'ZZ001', message = 'by hand', finished_at = now() WHERE run_id = $run");
$f->release('disputed');
$f->run_is($run, 'failed', 'disputed: the run ends as what is stored says');
is($f->sql("SELECT concat_ws(' ', state, sqlstate, message) FROM fleet.task_run WHERE run_id = $run"), 'failed ZZ001 by hand', 'disputed: what another one wrote is not written over');
like(PostgreSQL::Test::Utils::slurp_file($f->parent->logfile), qr/ERROR:  a row of fleet_catalog\.task_run has the state "failed" instead of "running"/, 'disputed: and the log of the server says so');

$s->quit;
$f->done(crashes => 1);
