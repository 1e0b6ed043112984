# What happens to a run while another one of its package is open (overlap queue, replace, parallel with a limit, skip),
# and a run that is to begin later; jobs in both modes, the agent ends in between, sessions at the same time.  What really
# ran at the same time is what the witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

# A run of this begins, waits until it is released, and ends: the witness has both, in order.
sub event { my ($what, $key) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE what = '$what' AND key LIKE '$key'"); }
# The most runs of these keys at the same time, from their last starts to their ends.
sub most
{
    my ($keys) = @_;
    return $f->sql_on('witness', "WITH r AS (SELECT key, max(id) FILTER (WHERE what = 'start') AS s, max(id) FILTER (WHERE what = 'end') AS e FROM event WHERE key LIKE '$keys' GROUP BY key) "
          . 'SELECT max(n) FROM (SELECT (SELECT count(*) FROM r AS b WHERE b.s <= a.s AND b.e > a.s) AS n FROM r AS a WHERE a.e IS NOT NULL) AS o');
}
sub start { my ($package, $key, $more) = @_; return $f->sql("SELECT fleet.run_parent_package('$package', params => '{\"key\": \"$key\"}'" . ($more ? ", $more" : '') . ')'); }
sub state { my ($run) = @_; return $f->sql("SELECT state FROM fleet.run WHERE run_id = $run"); }
sub states { return join ' ', map { state($_) } @_; }
sub state_is { my ($run, $state, $what) = @_; $f->wait_for('parent', "SELECT state FROM fleet.run WHERE run_id = $run", $state, $what); return; }
sub waits_for { my ($run) = @_; return $f->sql("SELECT coalesce(waiting_for, '') FROM fleet.run WHERE run_id = $run"); }
sub message { my ($run) = @_; return $f->sql("SELECT coalesce(message, '') FROM fleet.run WHERE run_id = $run"); }
sub end_agent
{
    my ($what) = @_;
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', $what);
    return;
}
sub crash
{
    $f->parent->stop('immediate');
    $f->forget('parent');
    $f->parent->start;
    return;
}
sub package_of
{
    my ($name, $how, $job) = @_;
    $f->sql("SELECT fleet.create_package('$name', params => '{\"key\": null}', $how); "
          . "SELECT fleet.add_task('$name', 'work', " . ($job ? "job => 'held', server => '$job'" : "sql => 'SELECT etl.work_until_released()'") . ')');
    return;
}
# The agent has done all that there was to do: a run of another package begins and ends after it.
sub agent_has_seen { my ($what) = @_; $f->run_is($f->start('probe'), 'succeeded', "$what: other runs go on"); return; }
$f->package('probe', p => { sql => 'SELECT 1' });
$f->job('held', { sql => 'SELECT etl.work_until_released()' });

# ---- queue: one after the other ----------------------------------------------------------------

my ($run, $next, $last, @runs);
for my $where ('', 'a1', 'd1')
{
    my $q = "q$where";
    package_of($q, "overlap => 'queue'", $where);
    @runs = map { start($q, "$q-$_") } 1 .. 3;
    push @runs, start($q, "$q-4", 'priority => 5');
    $f->wait_started("$q-1", 1);
    agent_has_seen("queue $where");
    is(states(@runs), 'running queued queued queued', "queue $where: one runs");
    is(waits_for($runs[1]), "run $runs[0] of package \"$q\"", '... the others wait for it');
    is($f->sql("SELECT waiting_for FROM fleet.task_run WHERE run_id = $runs[1]"), "run $runs[0] of package \"$q\"", '... and so do their tasks');
    end_agent("queue $where: the agent ends");
    agent_has_seen('its successor');
    is(states(@runs), 'running queued queued queued', '... lets one run');
    if ($where eq '')
    {
        crash(); # the step that was cut off has no effect, and is started again
        agent_has_seen('after a crash');
        is(states(@runs), 'running queued queued queued', '... one runs');
    }
    $f->release("$q-$_") for 1, 4;
    state_is($runs[3], 'succeeded', "queue $where: the one of higher priority is next");
    $f->wait_started("$q-2", 1);
    is(states(@runs), 'succeeded running queued succeeded', '... then in order');
    $f->sql("SELECT fleet.cancel_run($runs[1])");
    $f->release("$q-3");
    is($f->wait_run($runs[2]), 'succeeded', 'what is canceled makes room');
    is($f->wait_run($runs[1]), 'canceled', '... when it has stopped');
    is(event('start', "$q-3"), '1', 'it began once');
}
is(most('qa1-%') . most('qd1-%'), '11', 'never two at a time, on servers of both modes');

# one that waits in the queue: paused, canceled, restarted; the package is renamed, dropped and made again
@runs = map { start('q', "r$_") } 1 .. 5;
$f->wait_started('r1', 1);
$f->sql("SELECT fleet.pause_run($runs[1])");
$f->sql("SELECT fleet.cancel_run($runs[2])");
is($f->wait_run($runs[2]), 'canceled', 'a run that is queued is canceled at once');
$f->sql("SELECT fleet.alter_package('q', new_name => 'q2')");
push @runs, start('q2', 'r6');
agent_has_seen('renamed');
is(states(@runs), 'running queued canceled queued queued queued', 'under its new name the package is the same');
$f->sql("SELECT fleet.drop_package('q2')");
end_agent('the agent ends, the package is gone');
package_of('q2', "overlap => 'queue'");
push @runs, start('q2', 'r7');
agent_has_seen('dropped, and made again');
is(states(@runs), 'running queued canceled queued queued queued queued', 'made again while runs are open it is the same one too');
$f->release("r$_") for 1 .. 7;
$f->run_is($runs[$_], 'succeeded', 'in order, but for the one that is paused') for 3 .. 6;
is(state($runs[1]), 'queued', 'which waits');
$f->sql("SELECT fleet.resume_run($runs[1])");
$f->run_is($runs[1], 'succeeded', 'and goes on when it is resumed');
is(most('r_'), '1', 'never two at a time');

# a restart waits like any other
$f->sql("CREATE TABLE etl.broken AS SELECT 1 AS one; GRANT SELECT ON etl.broken TO PUBLIC");
$f->sql("SELECT fleet.create_package('qr', params => '{\"key\": null}', overlap => 'queue'); SELECT fleet.add_task('qr', 'check', sql => 'SELECT 1 / (SELECT count(*) FROM etl.broken)'); SELECT fleet.add_task('qr', 'work', sql => 'SELECT etl.work_until_released()', after => '{check}')");
$f->sql('DELETE FROM etl.broken');
$run = start('qr', 's1');
$f->run_is($run, 'failed', 'a run fails');
$f->sql('INSERT INTO etl.broken VALUES (1)');
$next = start('qr', 's2');
$f->wait_started('s2', 1);
$last = $f->sql("SELECT fleet.restart_run($run)");
agent_has_seen('a restart');
is(state($last) . ' ' . waits_for($last), "queued run $next of package \"qr\"", 'its restart waits in the queue');
$f->release('s1');
$f->release('s2');
$f->run_is($last, 'succeeded', 'and has its turn');

# a run key: the run that has it, which queues nothing
$run = start('q2', 't1', "run_key => 'k'");
is(start('q2', 't2', "run_key => 'k'"), $run, 'a key that was used returns the run');
is($f->sql("SELECT count(*) FROM fleet.run WHERE package = 'q2' AND state NOT IN ('succeeded', 'canceled')"), '1', 'and queues none');
$f->release('t1');
$f->run_is($run, 'succeeded', 'it runs once');

# nested runs do not count: a package that runs itself through another one's run would wait for ever
$f->sql("SELECT fleet.create_package('outer', overlap => 'queue'); SELECT fleet.add_task('outer', 'in', nested => 'q2', params => '{\"key\": \"u1\"}')");
$run = start('q2', 'u2');
$f->wait_started('u2', 1);
$next = $f->start('outer');
$f->wait_started('u1', 1);
is(state($run), 'running', 'a nested run does not wait for a run of its package');
$f->release("u$_") for 1, 2;
$f->run_is($_, 'succeeded', 'both end') for $run, $next;

# ---- parallel with a limit, which changes ------------------------------------------------------

package_of('par', "max_parallel => 2");
@runs = map { start('par', "p$_") } 1 .. 6;
$f->wait_started("p$_", 1) for 1, 2;
agent_has_seen('a limit of two');
is(states(@runs), 'running running queued queued queued queued', 'two run');
is(waits_for($runs[2]), "one of the runs $runs[0], $runs[1] of package \"par\"", 'the others say for which they wait');
$f->sql("SELECT fleet.alter_package('par', max_parallel => 3)");
$f->wait_started('p3', 1);
$f->sql("SELECT fleet.alter_package('par', overlap => 'queue', max_parallel => 1)");
$f->release($_) for qw(p1 p2);
$f->run_is($_, 'succeeded', 'lowered, nothing is stopped') for @runs[0, 1];
agent_has_seen('a lower limit');
is(states(@runs), 'succeeded succeeded running queued queued queued', 'and nothing new begins');
end_agent('the agent ends');
agent_has_seen('its successor');
is(states(@runs), 'succeeded succeeded running queued queued queued', 'nor under its successor');
$f->sql("SELECT fleet.alter_package('par', overlap => 'parallel', max_parallel => 0)");
$f->wait_started("p$_", 1) for 4, 5, 6;
is(states(@runs), 'succeeded succeeded running running running running', 'without a limit all run');
$f->release("p$_") for 3 .. 6;
$f->run_is($_, 'succeeded', 'to their ends') for @runs[2 .. 5];

# ---- replace -----------------------------------------------------------------------------------

for my $where ('', 'a1', 'd1')
{
    my $r = "rep$where";
    package_of($r, "overlap => 'replace'", $where);
    $run = start($r, "$r-1");
    $f->wait_started("$r-1", 1);
    $next = start($r, "$r-2");
    $f->run_is($run, 'canceled', "replace $where: the run that is open is canceled");
    is(message($run), "replaced by run $next", '... and says by which');
    is($f->sql("SELECT requested_by FROM fleet_catalog.cancel_request WHERE run_id = $run"), 'postgres', '... who asked for it is known');
    $f->wait_started("$r-2", 1);
    end_agent("replace $where: the agent ends");
    @runs = map { start($r, "$r-$_") } 3 .. 5;
    $f->wait_started("$r-5", 1);
    is(states($next, @runs), 'canceled canceled canceled running', 'of several the last one runs');
    $f->release("$r-5");
    $f->run_is($runs[2], 'succeeded', '... to its end');
    is(event('start', "$r-3") . event('start', "$r-4"), '00', 'those between never began');
}
# the agent ends while it is being done
$run = start('rep', 'v1');
$f->wait_started('v1', 1);
$next = start('rep', 'v2', "run_key => 'v'");
is(start('rep', 'v3', "run_key => 'v'"), $next, 'a key that was used replaces nothing');
end_agent('the agent ends in between');
$f->run_is($run, 'canceled', 'the successor cancels what is replaced');
$f->wait_started('v2', 1);
is(states($run, $next), 'canceled running', 'and goes on with what replaces it');
is(start('rep', 'v4', "run_key => 'v'"), $next, 'the key is its');
agent_has_seen('a key again');
is(state($next), 'running', 'and it goes on');
$f->release('v2');
$f->run_is($next, 'succeeded', 'to its end');

# ---- skip, by two sessions at the same time ----------------------------------------------------

package_of('skips', "overlap => 'skip'");
for my $level ('READ COMMITTED', 'REPEATABLE READ')
{
    my @session = map { FleetTest::Session->new($f->parent, $FleetTest::DB) } 1, 2;
    $_->say("BEGIN ISOLATION LEVEL $level; SET LOCAL client_min_messages = warning; SELECT 1") for @session;
    my $key = $level =~ /READ C/ ? 'w1' : 'w2';
    ($run) = $session[0]->say("SELECT fleet.run_parent_package('skips', params => '{\"key\": \"$key\"}')") =~ /(\d+)/;
    # the second one waits for the first: what it answers is read when that has committed
    print { $session[1]{in} } "SELECT fleet.run_parent_package('skips', params => '{\"key\": \"$key\"}');\n";
    $session[1]{in}->flush;
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%run_parent_package%' AND pid <> pg_backend_pid()", '1', "$level: the second session waits for the first");
    $session[0]->say('COMMIT');
    my $answer = $session[1]->say('COMMIT');
    like($answer, $level =~ /READ C/ ? qr/^$run\b/ : qr/40001/, '... and gets its run, or is told to ask again');
    is($f->sql("SELECT count(*) FROM fleet.run WHERE package = 'skips' AND state IN ('queued', 'running')"), '1', '... there is one');
    $f->release($key);
    $f->run_is($run, 'succeeded', '... which ends');
}

# ---- later -------------------------------------------------------------------------------------

sub later { my ($seconds) = @_; return "run_at => clock_timestamp() + interval '$seconds'"; }
sub began_late { my ($run) = @_; return $f->sql("SELECT started_at >= run_at AND state = 'running' FROM fleet.run WHERE run_id = $run"); }
package_of('at', "overlap => 'parallel'");
$run = start('at', 'x1', later('2s'));
$next = start('at', 'x2', later('1h'));
is(state($run), 'queued', 'a run for later is queued');
like(waits_for($run), qr/^its time, \d{4}/, 'it says for what it waits');
end_agent('the agent ends');
$f->wait_started('x1', 1);
is(began_late($run), 't', 'it begins at its time, not before');
crash();
agent_has_seen('after a crash');
is(state($next), 'queued', 'one that is to begin in an hour waits');
$f->sql("SELECT fleet.cancel_run($next)");
is($f->wait_run($next), 'canceled', 'and can be canceled');
$f->release('x1');
$f->run_is($run, 'succeeded', 'the other one ends');
$run = start('at', 'x3', "run_at => '2020-01-01'");
$f->wait_started('x3', 1);
is(event('start', 'x3'), '1', 'a time that has passed is now');
$f->release('x3');
$f->run_is($run, 'succeeded', 'and it runs');
$run = start('at', 'x4', later('1h') . ", run_key => 'x'");
is(start('at', 'x5', "run_key => 'x'"), $run, 'a key that was used returns the run that is to begin later');
$f->sql("SELECT fleet.cancel_run($run)");
$f->fails("SELECT fleet.run_parent_package('at', params => '{\"key\": \"x\"}', run_at => '$_')", '22023', "run_at $_", help => 1) for 'infinity', '-infinity', '3000-01-01';

# with a pause, with the runs of a queue, with one that replaces, with one that skips
$f->sql("SELECT fleet.pause(package => 'at')");
$run = start('at', 'y1', later('100ms'));
$f->wait_for('parent', "SELECT run_at < clock_timestamp() FROM fleet.run WHERE run_id = $run", 't', 'its time passes');
agent_has_seen('its time has come');
is(state($run), 'queued', 'a paused package holds it');
$f->sql("SELECT fleet.resume(package => 'at')");
$f->wait_started('y1', 1);
$f->release('y1');
$f->run_is($run, 'succeeded', 'until it is resumed');

$run = start('q2', 'y2', later('1500ms'));
$next = start('q2', 'y3');
$f->wait_started('y3', 1);
$f->wait_for('parent', "SELECT run_at < clock_timestamp() FROM fleet.run WHERE run_id = $run", 't', 'its time passes');
agent_has_seen('its time has come');
is(state($run) . ' ' . waits_for($run), "queued run $next of package \"q2\"", 'whose time comes while another one runs waits for that');
$f->release("y$_") for 2, 3;
$f->run_is($run, 'succeeded', 'and has its turn');

$run = start('rep', 'y4', later('1500ms'));
$next = start('rep', 'y5');
$f->wait_started('y5', 1);
agent_has_seen('replace');
is(states($run, $next), 'queued running', 'one that is to replace later, and one that runs until then');
$f->wait_started('y4', 1);
is(states($run, $next), 'running canceled', 'at its time it takes its place');
$f->release('y4');
$f->run_is($run, 'succeeded', 'and ends');

$run = start('skips', 'y6', later('1h'));
$next = start('skips', 'y7');
isnt($next, $run, 'one that is to begin later is not in the way');
$f->wait_started('y7', 1);
$f->release('y7');
$f->run_is($next, 'succeeded', 'of one that begins now');
$f->sql("SELECT fleet.cancel_run($run)");
is($f->wait_run($run), 'canceled', 'which is canceled');

# ---- arguments ---------------------------------------------------------------------------------

$f->fails("SELECT fleet.create_package('bad', overlap => 'sometimes')", '22023', 'an overlap that there is not', help => 1);
$f->fails("SELECT fleet.create_package('bad', overlap => '$_', max_parallel => 2)", '22023', "$_ with a limit", help => 1) for qw(skip replace);
$f->fails("SELECT fleet.create_package('bad', max_parallel => $_)", '22023', "max_parallel $_", help => 1) for -1, 10001;
$f->fails("SELECT fleet.alter_package('rep', max_parallel => 2)", '22023', 'a limit for what replaces', help => 1);

$f->done(crashes => 1);
