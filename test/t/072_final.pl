# Final tasks and handlers: on this server and on servers of both modes, after failures, after a cancel, and
# with the agent ended in between.  What really started is what the witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);
my $C = q{current_setting('fleet.context')::jsonb};
my %place = (here => {}, agent => { server => 'a1' }, direct => { server => 'd1' });
my %at = (here => 'parent', agent => 'a1', direct => 'd1');

$f->sql_on($_, <<"SQL") for qw(parent a1 d1);
CREATE TABLE etl.broken (key text);
GRANT SELECT ON etl.broken TO PUBLIC;
CREATE FUNCTION etl.task() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.witness('start');
    IF EXISTS (SELECT FROM etl.broken WHERE key = etl.key()) THEN
        RAISE EXCEPTION 'task % is broken', etl.key() USING ERRCODE = 'P0042';
    END IF;
    INSERT INTO etl.effect (key) VALUES (etl.key());
    RETURN 'done ' || etl.key();
END \$\$;
CREATE FUNCTION etl.told() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.witness('start');
    RETURN concat_ws(' ', $C ->> 'outcome', $C -> 'failure' ->> 'task', NULLIF($C -> 'failure' ->> 'item', '0'), $C -> 'failure' ->> 'state',
                     $C -> 'failure' ->> 'server', $C -> 'failure' ->> 'sqlstate', $C -> 'failure' ->> 'message');
END \$\$;
SQL
$f->sql_on($_, q{INSERT INTO etl.broken VALUES ('broken')}) for qw(parent a1 d1);
sub starts { my ($key) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key = '$key'"); }
sub task { my ($name, $key, %more) = @_; return ($name, { sql => 'SELECT etl.task()', params => qq({"key": "$key"}), %more }); }
sub told { my ($name, $key, %more) = @_; return ($name, { sql => 'SELECT etl.told()', params => qq({"key": "$key"}), %more }); }
sub gate { my ($name, $key, %more) = @_; return ($name, { sql => 'SELECT etl.work_until_released()', params => qq({"key": "$key"}), %more }); }
sub of { my ($run, $what, $task, $item) = @_; $item //= 0; return $f->sql("SELECT $what FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item = $item"); }
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
sub executions { my ($run, $task) = @_; return $f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item > 0"); }

$f->job('tell', 'SELECT etl.told()');
$f->job('work', 'SELECT etl.task()');
$f->job('hold', 'SELECT etl.work_until_released()');

# ---- final tasks: after everything else, whatever happened --------------------------------------

$f->package('tidy', told('tidy in', 'f nested'));
$f->package('night', -params => '{"first": "ok", "second": "ok"}',
    one => { sql => q{SELECT set_config('fleet.params', jsonb_build_object('key', fleet.param('first'))::text, true); SELECT etl.task()}, params => '{"key": "one"}' },
    two => { sql => q{SELECT set_config('fleet.params', jsonb_build_object('key', fleet.param('second'))::text, true); SELECT etl.task()}, after => '{one}' },
    seen => { sql => q{SELECT concat_ws(' ', fleet.run_outcome(), fleet.outcome('one'), fleet.output('one'), fleet.outcome('two'))}, final => 'true' },
    (map { ("tell $_" => { job => 'tell', params => qq({"key": "f $_"}), final => 'true', %{ $place{$_} } }) } sort keys %place),
    nested => { nested => 'tidy', final => 'true' },
    last => { sql => q{SELECT fleet.outcome('seen')}, final => 'true', after => '{seen}' });
my $run = $f->start('night');
$f->run_is($run, 'succeeded', 'a run with final tasks');
is(of($run, 'output', 'seen'), 'succeeded succeeded done ok succeeded', 'a final task sees what came before, and how the run would end');
is(of($run, 'output', "tell $_"), 'succeeded', "… on every server: $_") for sort keys %place;
is(of($run, 'output', 'last'), 'succeeded', 'final tasks follow each other');
is(starts('f nested'), 1, 'a nested package can be one');
is($f->sql("SELECT min(t.started_at) FILTER (WHERE d.final) >= max(t.finished_at) FILTER (WHERE NOT d.final) FROM fleet.task_run t JOIN fleet.task d ON d.package = 'night' AND d.task = t.task WHERE t.run_id = $run"), 't', 'all of them begin when the others have ended');
$run = $f->start('night', '{"first": "broken"}');
$f->run_is($run, 'failed', 'a run that fails');
is(of($run, 'output', 'seen'), 'failed failed skipped', 'its final tasks run too');
is(of($run, 'output', "tell $_"), 'failed', "… and are told, on every server: $_") for sort keys %place;
my $again = $f->sql("SELECT fleet.restart_run($run)");
$f->run_is($again, 'failed', 'a restart');
is(starts('f agent'), 3, 'runs them again');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $again AND carried_from IS NOT NULL AND (task LIKE 'tell%' OR task IN ('seen', 'nested', 'last'))"), 0, 'they are never carried over');

# part of a package, with its final tasks unless they are skipped
$run = $f->sql(q{SELECT fleet.run_parent_package('night', only_tasks => '{two}', skip_tasks => '{tell direct}')});
$f->run_is($run, 'succeeded', 'a part of a package');
is($f->sql("SELECT string_agg(task, ',' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run AND state = 'skipped'"), 'one,tell direct', 'has its final tasks, but for those that are skipped');

# one that fails fails the run
$f->package('bad end', task('fine', 'fine'), task('bad', 'broken', final => 'true'));
$run = $f->start('bad end');
$f->run_is($run, 'failed', 'a final task that fails fails the run');
$again = $f->sql("SELECT fleet.restart_run($run)");
$f->run_is($again, 'failed', 'whose restart');
is(starts('fine'), 1, 'runs nothing but it');

# ---- a cancel: first what runs is stopped, then final tasks run ---------------------------------

$f->package('stop', gate('g', 'stopped'), task('never', 'never', after => '{g}'), (map { ("held $_" => { job => 'hold', params => qq({"key": "held $_"}), final => 'true', %{ $place{$_} } }) } sort keys %place),
    told('after', 'after', final => 'true', after => '{held here,held agent,held direct}'),
    each => { sql => q{SELECT fleet.param('i')}, for_each => 'SELECT i FROM generate_series(1, 3) AS i', final => 'true' });
$run = $f->start('stop');
$f->wait_started('stopped', 1);
is($f->sql("SELECT fleet.cancel_run($run)"), 't', 'a run is canceled');
$f->wait_started("held $_", 1) for sort keys %place;
state_is($run, 'each', 'succeeded', 'a for_each among them too');
is(of($run, 'state', 'g'), 'canceled', 'final tasks run when the others have been stopped');
$f->sql("SELECT fleet.cancel_run($run)") for 1 .. 2;
end_agent('the agent ends while final tasks of a canceled run are running');
$f->release("held $_") for sort keys %place;
$f->run_is($run, 'canceled', 'the run is canceled when they have ended');
is(states($run), 'g canceled, never canceled, held agent succeeded, held direct succeeded, held here succeeded, after succeeded, each succeeded', 'a cancel that is asked for again, and another agent, leave them alone');
is(of($run, 'output', 'after'), 'canceled', 'and they know');
is($f->effects($at{$_}, "held $_"), 1, "nothing was done twice: $_") for sort keys %place;

# … or not
$f->sql_on('witness', q{DELETE FROM event WHERE what = 'release' OR key LIKE 'held %'});
$run = $f->start('stop');
$f->wait_started('stopped', 2);
$f->sql("SELECT fleet.cancel_run($run)");
$f->wait_started("held $_", 1) for sort keys %place;
end_agent('the agent ends before final tasks are canceled');
$f->sql("SELECT fleet.cancel_run($run, final_tasks => false)");
$f->run_is($run, 'canceled', 'final tasks can be canceled too');
like(states($run), qr/held agent canceled, held direct canceled, held here canceled, after canceled/, 'those that run are stopped, and others do not run');
$run = $f->start('stop');
$f->wait_started('stopped', 3);
$f->sql("SELECT fleet.cancel_run($run, final_tasks => false)");
$f->run_is($run, 'canceled', 'at once, too');
is(starts('held agent'), 1, 'then none begins');

# a nested run that is stopped has final tasks as well
$f->package('inner', gate('in g', 'in g'), told('in f', 'in f', final => 'true'));
$f->package('outer', in => { nested => 'inner' }, told('out f', 'out f', final => 'true'));
$run = $f->start('outer');
$f->wait_started('in g', 1);
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'a run with a nested one is canceled');
is(starts('in f') . starts('out f'), '11', 'final tasks of both run');

# ---- handlers -----------------------------------------------------------------------------------

$f->package('notes', note => { sql => q{SELECT etl.witness('start')}, params => '{"key": "h nested"}' });
$f->package('caught',
    task('bad', 'broken'), task('fine', 'caught fine'),
    (map { ("bad $_" => { job => 'work', params => '{"key": "broken"}', after_failure_of => '{}', %{ $place{$_} } }) } qw(agent direct)),
    task('handled', 'broken'), task('handles', 'handles', after_failure_of => '{handled}'),
    each => { sql => 'SELECT etl.task()', for_each => q{VALUES ('{"key": "broken"}'::jsonb), ('{"key": "e2"}')} },
    told('catch', 'h here', catch => 'true'),
    (map { ("catch $_" => { job => 'tell', params => qq({"key": "h $_"}), catch => 'true', throttle => 2, %{ $place{$_} } }) } qw(agent direct)),
    'catch nested' => { nested => 'notes', catch => 'true' },
    end => { sql => q{SELECT concat_ws(' ', fleet.run_outcome(), fleet.outcome('catch'))}, final => 'true' });
$run = $f->start('caught');
$f->run_is($run, 'failed', 'a run with handlers');
my $message = 'task broken is broken';
my $expected = join('|', "bad agent failed a1 P0042 $message", "bad direct failed d1 P0042 $message", "bad failed P0042 $message", "each 1 failed P0042 $message");
for my $handler ('catch', 'catch agent', 'catch direct')
{
    is($f->sql("SELECT string_agg(output, '|' ORDER BY output COLLATE \"C\") FROM fleet.task_run WHERE run_id = $run AND task = '$handler' AND item > 0"),
        $expected, "is executed once for each failure that no constraint handles, and knows it: $handler");
}
is(executions($run, 'catch nested') . starts('h nested'), '44', 'a nested package, too');
is($f->sql("SELECT string_agg(DISTINCT params ->> 'message', ',') || ' ' || count(DISTINCT params ->> 'task') FROM fleet.task_run WHERE run_id = $run AND task = 'catch' AND item > 0"), "$message 4", 'the failure is in its row');
is(of($run, 'output', 'end'), 'failed succeeded', 'final tasks come after them');
is($f->sql(q{SELECT fleet.failure() IS NULL AND fleet.run_outcome() IS NULL}), 't', 'elsewhere there is no failure');

# none
$f->package('no failure', task('fine', 'fine2'), told('catch', 'h none', catch => 'true'));
$run = $f->start('no failure');
$f->run_is($run, 'succeeded', 'a run without a failure');
is(states($run) . ': ' . of($run, 'message', 'catch'), 'fine succeeded, catch skipped: no failure was left to it', 'skips its handler, and says why');

# the inner one's handlers see failures inside, the outer one's the task that failed
$f->package('in caught', task('deep', 'broken'), told('in catch', 'in catch', catch => 'true'));
$f->package('out caught', in => { nested => 'in caught' }, told('out catch', 'out catch', catch => 'true'));
$run = $f->start('out caught');
$f->run_is($run, 'failed', 'a nested run fails');
like(of($run, 'output', 'out catch', 1), qr/^in failed /, 'the outer handler sees the task');
is($f->sql("SELECT t.output FROM fleet.task_run t JOIN fleet.run r USING (run_id) WHERE r.parent_run_id = $run AND t.task = 'in catch' AND t.item = 1"), "deep failed P0042 $message", 'the inner one what failed in it');

# ---- the agent ends while handlers and final tasks are queued and running ------------------------

$f->package('crash', task('b1', 'broken'), task('b2', 'broken'), gate('slow', 'slow'), task('b3', 'broken', after => '{slow}'),
    (map { ("h $_" => { job => 'hold', params => qq({"key": "crash $_"}), catch => 'true', %{ $place{$_} } }) } sort keys %place),
    told('end', 'crash end', final => 'true'));
$run = $f->start('crash');
$f->wait_started("crash $_", 1) for sort keys %place;
$f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND task LIKE 'h %' AND item > 0", '6', 'two failures, three handlers');
is(starts("crash $_"), 1, "one at a time: $_") for sort keys %place;
end_agent('the agent ends while handlers run and wait');
$f->release('slow');
state_is($run, 'b3', 'failed', 'another agent goes on, and a task fails under it');
end_agent('and that one ends too');
$f->release("crash $_") for sort keys %place;
$f->run_is($run, 'failed', 'the run comes to its end');
is(executions($run, "h $_") . $f->effects($at{$_}, "crash $_"), '33', "each failure was handled once: $_") for sort keys %place;
is($f->sql("SELECT count(DISTINCT params ->> 'task') FROM fleet.task_run WHERE run_id = $run AND task = 'h agent' AND item > 0"), 3, 'each of them its own');
is(starts('crash end'), 1, 'and the final task ran once');

# ---- what is asked of such a run ----------------------------------------------------------------

$f->package('again', task('flaky', 'flaky'), gate('wait', 'again wait'), told('catch', 'again catch', catch => 'true'), gate('end', 'again end', final => 'true'));
$f->sql(q{INSERT INTO etl.broken VALUES ('flaky')});
$run = $f->start('again');
state_is($run, 'catch', 'succeeded', 'a failure is handled', 1);
$f->sql("SELECT fleet.retry_task($run, 'flaky')");
state_is($run, 'catch', 'succeeded', 'a retry that fails is another failure', 2);
is($f->sql("SELECT string_agg(params ->> 'attempt', ',' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND task = 'catch' AND item > 0"), '1,2', 'with its attempt');
$f->release('again wait');
$f->wait_started('again end', 1);
$f->fails("SELECT fleet.retry_task($run, 'flaky')", '55000', 'a retry after the final tasks have begun', help => 1, like => 'final tasks of run \d+ have begun');
$f->release('again end');
$f->run_is($run, 'failed', 'the run');

$f->package('strict', task('bad', 'broken'), task('handles', 'strict', after_failure_of => '{bad}'));
$run = $f->start('strict');
$f->run_is($run, 'succeeded', 'a failure that is handled does not fail a run');
$f->sql(q{SELECT fleet.alter_package('strict', failed_if => 'any')});
$run = $f->start('strict');
$f->run_is($run, 'failed', 'with failed_if any it does');

# a paused run keeps its final tasks back
$f->package('paused', gate('g', 'paused g'), told('end', 'paused end', final => 'true'));
$run = $f->start('paused');
$f->wait_started('paused g', 1);
$f->sql("SELECT fleet.pause_run($run)");
$f->release('paused g');
state_is($run, 'g', 'succeeded', 'a paused run comes to its final tasks');
is(starts('paused end'), 0, 'they wait');
$f->sql("SELECT fleet.resume_run($run)");
$f->run_is($run, 'succeeded', 'until it is resumed');

$f->done;
