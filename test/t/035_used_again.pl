# Memory that is used again.  A late answer, about an attempt that was given up, meets the next attempt
# of the same task run at the same place in memory: it must find nothing.  And hundreds of
# definitions, one after the other: what no run uses any more is given back, and nothing else is.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1);
my $proxy = $f->proxy;

# ---- late answers, mode agent ------------------------------------------------------------------

# the n-th start on the server stays until its number is in etl.go, and returns the number
$f->sql_on('a1', <<'SQL');
SET ROLE etl;
CREATE SEQUENCE etl.starts;
CREATE TABLE etl.go (n bigint);
CREATE FUNCTION etl.nth() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c_n CONSTANT bigint := nextval('etl.starts');
BEGIN
    PERFORM etl.witness('start ' || c_n);
    RAISE NOTICE 'this is %', c_n;
    WHILE NOT EXISTS (SELECT FROM etl.go WHERE n = c_n) LOOP
        PERFORM pg_sleep(0.05);
    END LOOP;
    RETURN c_n;
END $$;
SQL
# a changed setting counts at once
sub lost_after { my ($time) = @_; $f->sql("LOAD 'pg_fleet'; ALTER SYSTEM SET fleet.lost_after = '$time'; SELECT pg_reload_conf()"); return; }
sub task_run { my ($run, $columns) = @_; return $f->sql("SELECT concat_ws(' ', $columns) FROM fleet.task_run WHERE run_id = $run AND task = 't'"); }
sub waits_for { my ($run, $columns, $value, $name) = @_; return $f->wait_for('parent', "SELECT concat_ws(' ', $columns) FROM fleet.task_run WHERE run_id = $run AND task = 't'", $value, $name); }
sub starts { my ($n) = @_; return $f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'start $n'", '1', "start $n is at work"); }
my $given_up = q{attempt, (SELECT string_agg(sqlstate, ' ') FROM fleet.log AS l WHERE l.run_id = task_run.run_id AND l.level = 'ERROR')};
sub job_run { my ($n) = @_; return "(SELECT min(job_run_id) + $n - 1 FROM fleet.job_run WHERE job = 'nth')"; }

$f->job('nth', 'SELECT etl.nth()');
my %again = (on_lost => 'retry', retries => 1, retry_wait => '0s');
$f->package('nth', -params => '{"key": "nth"}', t => { job => 'nth', server => 'a1', %again });
my $run = $f->start('nth');
starts(1);
waits_for($run, 'attempt, state', '1 running', 'the parent knows that the first one runs');
my $first = task_run($run, 'token');
# The parent comes back and asks after it, which stays unanswered; then the server is away for so
# long that the first attempt is given up.
$proxy->ctl('on', 'a1', 'c2s', 'before', 'agent_resume', 'refuse');
$proxy->ctl('kill', 'a1');
ok($proxy->fired('a1'), 'the parent has asked after the first one');
lost_after('1s');
waits_for($run, $given_up, '1 08006', 'it is given up');
lost_after('1h');
$proxy->ctl('allow', 'a1');
starts(2);
waits_for($run, 'attempt, state', '2 running', 'the second attempt runs');
my $second = task_run($run, 'token');
isnt($second, $first, 'it has a token of its own');
is($f->sql_on('a1', q{SELECT string_agg(token::text, ' ' ORDER BY job_run_id) FROM fleet.job_run WHERE job = 'nth'}), "$first $second", 'both run on the server');
# the late answers: the first one is there, and now it ends
$f->sql_on('a1', 'INSERT INTO etl.go VALUES (1)');
$f->wait_for('a1', 'SELECT acknowledged_at IS NOT NULL FROM fleet.job_run WHERE job_run_id = ' . job_run(1), 't', "the parent has heard of the first one's end");
is(task_run($run, 'attempt, state, token, output'), "2 running $second", 'the second one runs on, and nothing of the first is its');
is($f->sql_on('a1', 'SELECT state FROM fleet.job_run WHERE job_run_id = ' . job_run(2)), 'running', 'there too');
$f->sql_on('a1', 'INSERT INTO etl.go VALUES (2)');
$f->run_is($run, 'succeeded', 'the second one ends');
is(task_run($run, 'attempt, state, token, output'), "2 succeeded $second 2", 'with what it returned');
is($f->sql("SELECT string_agg(concat_ws(' ', task_attempt, state, output), ', ' ORDER BY task_attempt) FROM fleet.step_run WHERE run_id = $run"), '1 lost, 2 succeeded 2',
    'each attempt has a step run of its own');
is($f->sql("SELECT string_agg(message, ', ' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND level = 'NOTICE'"), 'this is 1, this is 2', 'and its own line');

# the same without a word of the server: whether the first start has arrived is not known
$proxy->ctl('on', 'a1', 'c2s', 'before', 'agent_start', 'refuse');
$run = $f->start('nth');
ok($proxy->fired('a1'), 'cut with the start');
lost_after('1s');
waits_for($run, $given_up, '1 08006', 'no answer: it is given up, and the log says so');
lost_after('1h');
$proxy->ctl('allow', 'a1');
starts(3);
$f->sql_on('a1', 'INSERT INTO etl.go VALUES (3)');
$f->run_is($run, 'succeeded', 'no answer: the second attempt succeeds');
is(task_run($run, 'attempt, state, output'), '2 succeeded 3', 'no answer: with what it returned');

# ---- late answers, mode direct -----------------------------------------------------------------

# Cut before COMMIT: what became of the transaction is asked over another connection, which is not
# there; the attempt is given up, and the next one runs when the question is answered.
$f->job('work', 'SELECT etl.work()');
$f->package('work', -params => '{"key": "work"}', t => { job => 'work', server => 'd1', %again });
$f->run_is($f->start('work', '{"key": "before"}'), 'succeeded', 'a first one: the session is there');
$proxy->ctl('on', 'd1', 'c2s', 'before', 'COMMIT', 'refuse');
$run = $f->start('work');
ok($proxy->fired('d1'), 'cut before COMMIT');
lost_after('1s');
waits_for($run, $given_up, '1 08006', 'mode direct: it is given up');
lost_after('1h');
$proxy->ctl('allow', 'd1');
$f->run_is($run, 'succeeded', 'mode direct: the second attempt succeeds');
is(task_run($run, 'attempt, state, output'), '2 succeeded work', 'mode direct: with what it returned');
is($f->effects('d1', 'work'), 1, 'mode direct: with one effect');
is($f->sql("SELECT string_agg(concat_ws(' ', task_attempt, state, output), ', ' ORDER BY task_attempt) FROM fleet.step_run WHERE run_id = $run"), '1 lost, 2 succeeded work',
    'mode direct: each attempt has a step run of its own');

# ---- definitions -------------------------------------------------------------------------------

# Each run has a definition that no other run has.  What is not used any more is kept up to a
# limit (1 MB), for the next run; that limit is reached by the first round.
my $batch = 150;
$f->package('changed', here => { sql => 'SELECT 1' });
$f->sql_on('a1', "SET ROLE etl; SELECT fleet.create_job('changed'); SELECT fleet.add_step('changed', 's', 'SELECT 1')");
sub rounds
{
    my ($rounds) = @_;
    for my $round (1 .. $rounds)
    {
        $f->sql(<<"SQL");
DO \$\$ BEGIN
    FOR i IN 1 .. $batch LOOP
        PERFORM fleet.drop_task('changed', 'here');
        PERFORM fleet.add_task('changed', 'here', sql => format('SELECT %s -- %s %s', i, clock_timestamp(), repeat('x', 8000)));
        PERFORM fleet.run_parent_package('changed');
    END LOOP;
END \$\$
SQL
        $f->sql_on('a1', <<"SQL");
SET ROLE etl;
DO \$\$ BEGIN
    FOR i IN 1 .. $batch LOOP
        PERFORM fleet.drop_step('changed', 's');
        PERFORM fleet.add_step('changed', 's', format('SELECT %s -- %s %s', i, clock_timestamp(), repeat('x', 8000)));
        PERFORM fleet.start_job('changed');
    END LOOP;
END \$\$
SQL
        $f->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.run WHERE package = 'changed' AND state < 11}, '0', "$batch runs are over") or last;
        $f->wait_for('a1', q{SELECT count(*) FROM fleet_catalog.job_run WHERE state < 11}, '0', "$batch job runs are over") or last;
    }
    return;
}
my @agents = map { $f->agent_pid($_) } qw(parent a1);
# one that uses its definition all the time, and needs it when the others have been given back
$f->package('stays', -params => '{"key": "stays"}', t => { sql => 'SELECT etl.work_until_released()' }, after => { sql => 'SELECT 42', after => '{t}' });
my $stays = $f->start('stays');
$f->wait_started('stays');
rounds(1);
my @before = map { ($f->agent_memory($_))[0] } qw(parent a1);
rounds(4);
my @after = map { ($f->agent_memory($_))[0] } qw(parent a1);
is(join(' ', map { $f->agent_pid($_) } qw(parent a1)), "@agents", 'the same agents all the time');
for my $i (0, 1)
{
    my $who = (qw(parent child))[$i] . "'s agent";
    note "$who: $before[$i] bytes, then ", $after[$i] - $before[$i], ' more';
    # a definition takes more than 8 kB
    cmp_ok($after[$i] - $before[$i], '<', 64 * 1024, "$who: " . 4 * $batch . ' definitions more, and no more memory');
}
is($f->sql(q{SELECT count(DISTINCT definition) || ' ' || string_agg(DISTINCT fleet_catalog.state_name(state), ' ') FROM fleet_catalog.run WHERE package = 'changed'}),
    5 * $batch . ' succeeded', 'each run had a definition of its own');
is($f->sql_on('a1', q{SELECT count(DISTINCT definition) || ' ' || string_agg(DISTINCT fleet_catalog.state_name(state), ' ') FROM fleet_catalog.job_run WHERE job = 'changed'}),
    5 * $batch . ' succeeded', 'and each job run');
$f->release('stays');
$f->run_is($stays, 'succeeded', 'what is in use stays');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $stays AND task = 'after'"), '42', 'as it was');

$f->done;
