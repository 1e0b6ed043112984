# (runs long)
# Processes and servers end: the parent's agent, the parent, the child's agent, the child, a runner.
# Everything is preloaded, so that agents are back by themselves.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 2, direct => 1, preload => 1, delays => 0);
$f->job('work', 'SELECT etl.work()');
$f->job('hold', { name => 'before', sql => q{SELECT etl.witness('before')} }, { name => 'hold', sql => 'SELECT etl.work_until_released()' });
$f->job('open', { sql => q{CALL etl.open_work()}, transactional => 'false' });
for my $server (qw(parent a1 a2 d1))
{
    $f->sql_on($server, <<'SQL');
SET ROLE etl;
CREATE PROCEDURE etl.open_work() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO etl.effect (key) VALUES (etl.key()); COMMIT;
    PERFORM etl.work_until_released();
END $$;
SQL
}
$f->package('all', -params => '{"key": null}',
    a1    => { job => 'hold', server => 'a1' },
    d1    => { job => 'hold', server => 'd1' },
    here  => { sql => 'SELECT etl.work_until_released()' },
    after => { sql => q{SELECT etl.witness('after')}, after => '{a1,d1,here}' });
for my $server (qw(a1 d1))
{
    $f->package("open_$server", -params => '{"key": null}', t => { job => 'open', server => $server });
    $f->package("hold_$server", -params => '{"key": null}', t => { job => 'hold', server => $server });
}
$f->package('here', -params => '{"key": null}', t => { sql => 'SELECT etl.work_until_released()' });

sub begin_all
{
    my ($key) = @_;
    note "---- $key";
    my $run = $f->start('all', "{\"key\": \"$key\"}");
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'start'", '3', "$key: all three run");
    return $run;
}

# After the fault: released, everything ends well, each effect once; on the agent started once.
sub ends_well
{
    my ($run, $key) = @_;
    $f->release($key);
    $f->run_is($run, 'succeeded', "$key: the run ends right");
    for my $server (qw(a1 d1 parent))
    {
        is($f->effects($server, $key), 1, "$key: one effect on $server");
    }
    is($f->sql_on('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'after'"), 1, "$key: what follows ran once");
    is($f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $run AND state NOT IN ('succeeded')"), 0, "$key: no step run in limbo");
    is($f->sql("SELECT count(*) FROM (SELECT 1 FROM fleet.log WHERE run_id = $run GROUP BY task, item HAVING count(*) <> max(seq) - min(seq) + 1) AS x"), 0,
        "$key: the log has no gap");
    return;
}

sub started { my ($key, $server) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'start' AND server = '$server'"); }

# ---- the parent's agent ------------------------------------------------------------------------

my $run = begin_all('agent_terminated');
my $pid = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($pid)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid AND datname = 'dw'", '1', 'the agent is back');
ends_well($run, 'agent_terminated');
is(started('agent_terminated', 'a1'), 1, 'adopted on the agent server');

# several times in a row
$run = begin_all('agent_again');
for my $i (1 .. 3)
{
    my $old = $f->agent_pid;
    $f->sql("SELECT pg_terminate_backend($old)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $old AND datname = 'dw'", '1', "back, $i");
}
ends_well($run, 'agent_again');
is(started('agent_again', 'a1'), 1, 'adopted on the agent server');

# ---- the parent --------------------------------------------------------------------------------

$run = begin_all('parent_crash');
$f->parent->stop('immediate');
$f->parent->start;
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = 'dw'", '1', 'the agent is back after a crash');
ends_well($run, 'parent_crash');
is(started('parent_crash', 'a1'), 1, 'adopted on the agent server');

# a child that ended meanwhile
$run = begin_all('ended_meanwhile');
$f->parent->stop('immediate');
$f->release('ended_meanwhile');
$f->wait_for('witness', "SELECT count(*) FROM event WHERE key = 'ended_meanwhile' AND what = 'end' AND server = 'a1'", '1', 'the child ends while there is no parent');
$f->parent->start;
ends_well($run, 'ended_meanwhile');
is(started('ended_meanwhile', 'a1'), 1, 'and is picked up');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $run AND task = 'a1'"), 'ended_meanwhile', 'with its value');

# an orderly restart
$run = begin_all('parent_restart');
$f->parent->restart;
ends_well($run, 'parent_restart');
is(started('parent_restart', 'a1'), 1, 'adopted after an orderly restart');

# requested, and the server stops before anything can have been sent
$f->sql(q{SELECT fleet.set_server_state('a1', 'offline')});
$run = $f->start('hold_a1', '{"key": "queued"}');
$f->parent->stop('immediate');
$f->parent->start;
$f->sql(q{SELECT fleet.set_server_state('a1', 'online')});
$f->release('queued');
$f->run_is($run, 'succeeded', 'a queued run survives a crash');
is($f->witnessed('queued', 'start'), 1, 'and is started once');

# ---- the child's agent -------------------------------------------------------------------------

$run = begin_all('child_agent');
$pid = $f->agent_pid('a1');
$f->sql_on('a1', "SELECT pg_terminate_backend($pid)");
$f->wait_for('a1', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid AND datname = 'dw'", '1', 'the agent of the child is back');
ends_well($run, 'child_agent');

# ---- the child ---------------------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    my $key = "child_crash_$server";
    $run = begin_all($key);
    $f->node($server)->stop('immediate');
    $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = '$server'", 't', "$key: noticed");
    $f->node($server)->start;
    ends_well($run, $key);
}

# it stays away for a while, its work is queued meanwhile, and the others are not held up
$f->node('d1')->stop('immediate');
$run = $f->start('hold_d1', '{"key": "away"}');
my $other = $f->start('hold_a1', '{"key": "other"}');
$f->release('other');
$f->run_is($other, 'succeeded', 'another server works while one is away');
is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $run"), 'queued', 'nothing is called running on a server that is away');
$f->node('d1')->start;
$f->release('away');
$f->run_is($run, 'succeeded', 'when it is back, the work is done');

# not transactional: unknown, on the agent as on the direct server
for my $server (qw(a1 d1))
{
    my $key = "open_crash_$server";
    $run = $f->start("open_$server", "{\"key\": \"$key\"}");
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'start'", '1', "$key: it runs");
    $f->node($server)->stop('immediate');
    $f->node($server)->start;
    $f->release($key);
    $f->run_is($run, 'failed', "$key: the run fails");
    is($f->sql("SELECT concat_ws(' ', attempt, state, sqlstate) FROM fleet.job_log WHERE run_id = $run"), '1 unknown 08006', "$key: the step's outcome is unknown");
    is($f->witnessed($key, 'start'), 1, "$key: and it was not started again");
}

# ---- a package as a step -----------------------------------------------------------------------

$f->package('inner', -params => '{"key": null}',
    one => { sql => 'SELECT etl.work_until_released()' },
    two => { sql => q{SELECT etl.witness('inner two')}, after => '{one}' });
$f->job('outer', { name => 'package', package => 'inner' }, { name => 'after', sql => q{SELECT etl.witness('outer after')} });
$f->package('nested', -params => '{"key": null}', t => { job => 'outer', server => 'a1' });
for my $how ('agent', 'crash', 'parent')
{
    my $key = "nested_$how";
    $run = $f->start('nested', "{\"key\": \"$key\"}");
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'start'", '1', "$key: it runs");
    if ($how eq 'agent')
    {
        my $old = $f->agent_pid('a1');
        $f->sql_on('a1', "SELECT pg_terminate_backend($old)");
    }
    else
    {
        my $node = $how eq 'crash' ? $f->node('a1') : $f->parent;
        $node->stop('immediate');
        $node->start;
    }
    $f->release($key);
    $f->run_is($run, 'succeeded', "$key: a run whose job runs a package");
    is($f->effects('a1', $key), 1, "$key: one effect");
    is($f->witnessed($key, $_), 1, "$key: $_ once") for 'inner two', 'outer after';
    is($f->sql_on('a1', "SELECT count(*) FROM fleet_catalog.run WHERE params ->> 'key' = '$key'"), 1, "$key: one nested run");
}

# ---- a runner ----------------------------------------------------------------------------------

for my $where (qw(parent a1))
{
    my $key = "runner_$where";
    $run = $f->start($where eq 'parent' ? 'here' : 'hold_a1', "{\"key\": \"$key\"}");
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$key' AND what = 'start'", '1', "$key: it runs");
    my $runner = $f->sql_on($where, "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%' AND query LIKE '%work_until_released%'");
    like($runner, qr/^\d+$/, "$key: one runner is at work");
    $f->sql_on($where, "SELECT pg_terminate_backend($runner)");
    $f->release($key);
    $f->run_is($run, 'succeeded', "$key: it surely had no effect: done again");
    is($f->effects($where, $key), 1, "$key: with one effect");
    is($f->witnessed($key, 'start'), 2, "$key: after two starts");
    is($f->witnessed($key, 'end'), 1, "$key: of which one came to its end");
}

# ---- one bad row stops nobody ------------------------------------------------------------------

$f->sql(<<'SQL');
CREATE ROLE gone LOGIN;
SET ROLE gone;
SELECT fleet.create_package('of_gone');
SELECT fleet.add_task('of_gone', 't', sql => 'SELECT 1');
RESET ROLE;
SELECT fleet.set_server_state('a2', 'offline');
SQL
$f->package('of_nowhere', -params => '{"key": null}', t => { job => 'work', server => 'a2' });
my $mapping = $f->start('of_nowhere', '{"key": "mapping"}');
$f->sql('DROP USER MAPPING FOR CURRENT_USER SERVER a2');
$f->sql(q{SELECT fleet.set_server_state('a2', 'online')});
$f->run_is($mapping, 'failed', 'a server whose mapping is gone: failed');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $mapping"), '42704 role "postgres" has no user mapping for foreign server "a2"', 'with the reason');
$f->sql('ALTER ROLE gone NOLOGIN');
my $gone = $f->sql(q{SELECT fleet.run_parent_package('of_gone')});
$f->run_is($gone, 'failed', 'a package whose owner may not log in: failed');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $gone"), '28000 role "gone" is not permitted to log in', 'with the reason');
$f->package('fine', t => { sql => 'SELECT 1' });
$f->run_is($f->start('fine'), 'succeeded', 'and the rest goes on');

$f->done(crashes => 1);
