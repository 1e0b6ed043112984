# A job whose step is a package, on an agent server: what happens inside is seen at the parent; a
# package that was to be started when the agent ended is started once; and a job that is silent for
# long does not lose its link.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 0, preload => 1, delays => 0);
$f->job('long', 'SELECT etl.work_until_released()');
$f->package('long', -params => '{"key": null}', t => { job => 'long', server => 'a1' });
my $long = $f->start('long', '{"key": "long"}');

$f->package('deep', talk => { sql => q{DO $x$ BEGIN RAISE NOTICE 'deep inside'; END $x$} });
$f->package('inner',
    first  => { sql => q{DO $x$ BEGIN RAISE WARNING 'from inside' USING DETAIL = 'd', HINT = 'h', ERRCODE = '01ZZ1'; END $x$} },
    second => { nested => 'deep', after => '{first}' });
$f->job('outer', { name => 'run it', package => 'inner' });
$f->package('p', t => { job => 'outer', server => 'a1' });

my $run = $f->start('p');
$f->run_is($run, 'succeeded', 'a package in a package as a step of a remote job');
is($f->sql("SELECT string_agg(concat_ws('|', level, sqlstate, message, detail, hint), E'\\n' ORDER BY seq) FROM fleet.log WHERE run_id = $run"),
    join("\n",
        'INFO|step "run it" started', 'INFO|first: step "first" started', 'WARNING|01ZZ1|from inside|d|h', 'INFO|first: step "first" succeeded',
        'INFO|talk: step "talk" started', 'NOTICE|00000|deep inside', 'INFO|talk: step "talk" succeeded', 'INFO|step "run it" succeeded'),
    'what the inner steps do and say is in the log, in order, once');
is($f->sql("SELECT count(*) = max(seq) AND min(seq) = 1 FROM fleet.log WHERE run_id = $run"), 't', 'without a gap');

# what fails inside fails outside, with its reason; a timeout does not read like a cancel
$f->package('bad', boom => { sql => 'SELECT 1/0' });
$f->job('outer_bad', { name => 'run it', package => 'bad' });
$f->package('q', t => { job => 'outer_bad', server => 'a1' });
$run = $f->start('q');
$f->run_is($run, 'failed', 'a failure inside reaches the parent');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"), 'P0001 task "boom" failed: division by zero', 'with its reason');
is($f->sql("SELECT concat_ws('|', level, sqlstate, message, detail) FROM fleet.log WHERE run_id = $run AND message LIKE 'boom: % failed'"),
    'ERROR|22012|boom: step "boom" failed|division by zero', 'and the inner step with its SQLSTATE');
$f->package('slow', t => { sql => 'SELECT pg_sleep(600)', timeout => '200ms' });
$run = $f->start('slow');
$f->run_is($run, 'failed', 'a task that takes longer than its timeout has failed');
is($f->sql("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"),
    '57014 the task run was stopped because of its timeout', 'and says why');

# ---- stored, and not started -------------------------------------------------------------------

# The agent ends when the step is stored and its package not started.  How the job's other package,
# or an attempt before, ended has nothing to do with it.
my $witness = 'host=127.0.0.1 port=' . $f->node('witness')->port . ' dbname=witness user=witness password=witness';
$f->sql_on($_, <<"SQL") for qw(parent a1);
-- Fails the first time, by what the witness saw.
CREATE FUNCTION etl.second_time() RETURNS text LANGUAGE plpgsql AS \$\$
BEGIN
    PERFORM etl.witness('start');
    IF (SELECT n FROM public.dblink('$witness', format('SELECT count(*) FROM event WHERE what = ''start'' AND key = %L', etl.key()))
            AS t(n bigint)) = 1 THEN
        RAISE EXCEPTION 'the first time';
    END IF;
    PERFORM etl.witness('end');
    RETURN etl.key();
END \$\$;
GRANT EXECUTE ON FUNCTION etl.second_time() TO etl;
SQL
$f->package('one', -params => '{"key": null}', t => { sql => q{SELECT etl.witness('one')} });
$f->package('two', -params => '{"key": null}', t => { sql => q{SELECT etl.witness('two')} });
$f->package('second_time', -params => '{"key": null}', t => { sql => 'SELECT etl.second_time()' });
$f->job('both', { name => 'one', package => 'one' }, { name => 'two', package => 'two' });
$f->job('retried', { name => 'r', package => 'second_time', retries => 1, retry_wait => '1ms', retry_sqlstates => '{P0001}' });
$f->package('both', -params => '{"key": null}', t => { job => 'both', server => 'a1' });
$f->package('retried', -params => '{"key": null}', t => { job => 'retried', server => 'a1' });
$f->package('retried_here', -params => '{"key": null}',
    t => { nested => 'second_time', retries => 1, retry_wait => '1ms', retry_sqlstates => '{P0001}' });

sub nested { my ($where, $key) = @_; return $f->sql_on($where, "SELECT string_agg(package || ' ' || state, ', ' ORDER BY run_id) FROM fleet.run WHERE params ->> 'key' = '$key' AND package IN ('one', 'two', 'second_time')"); }

for my $when (1, 2)
{
    my $key = "both_$when";
    $f->point('a1', 'step_before_nested', "exit $when");
    $run = $f->start('both', qq({"key": "$key"}));
    $f->point_fired('a1', 'step_before_nested', "step $when: the agent ended before it started the package");
    $f->run_is($run, 'succeeded', "step $when: succeeded");
    is($f->witnessed($key, $_), 1, "step $when: package \"$_\" ran once") for qw(one two);
    is(nested('a1', $key), 'one succeeded, two succeeded', "step $when: one run of each");
    is($f->sql("SELECT string_agg(step || ' ' || attempt || ' ' || state, ', ' ORDER BY step) FROM fleet.job_log WHERE run_id = $run"), 'one 1 succeeded, two 1 succeeded',
        "step $when: one attempt of each step");
}
for my $case ([ 'a1', 'retried', 'step_before_nested' ], [ 'parent', 'retried_here', 'task_before_nested' ])
{
    my ($where, $package, $point) = @$case;
    $f->point($where, $point, 'exit 2');
    $run = $f->start($package, qq({"key": "$package"}));
    $f->point_fired($where, $point, "$package: the agent ended before it started the package again");
    $f->run_is($run, 'succeeded', "$package: the second attempt succeeds");
    is($f->witnessed($package, 'start'), 2, "$package: two starts");
    is($f->witnessed($package, 'end'), 1, "$package: one end");
    is(nested($where, $package), 'second_time failed, second_time succeeded', "$package: a run for each attempt");
}

# Canceled before the next agent is there: it is not started at all.
my $known = q{SELECT count(*) FROM fleet_catalog.cancel_request AS c JOIN fleet_catalog.job_run AS r USING (job_run_id) WHERE r.state < 11};
for my $case ([ 'a1', 'both', 'step_before_nested' ], [ 'parent', 'retried_here', 'task_before_nested' ])
{
    my ($where, $package, $point) = @$case;
    my $key = "${package}_canceled";
    $f->point($where, $point, 'exit');
    $f->point($where, 'starter_after_delay', 'wait');
    $run = $f->start($package, qq({"key": "$key"}));
    $f->point_fired($where, $point, "$key: the agent ended before it started the package");
    $f->point_waits($where, 'starter_after_delay', "$key: no agent is there");
    is($f->sql("SELECT fleet.cancel_run($run)"), 't', "$key: then it is canceled");
    $f->wait_for('a1', $known, '1', "$key: which the server knows") if $where eq 'a1';
    $f->point_release($where, 'starter_after_delay');
    $f->run_is($run, 'canceled', "$key: canceled");
    is(nested($where, $key), '', "$key: its package was never started");
    is($f->witnessed($key, $_), 0, "$key: nothing ran ($_)") for qw(one two start);
}

# Canceled while its package runs and no agent is there: the package's run is canceled.
$f->package('holds', -params => '{"key": null}', t => { sql => 'SELECT etl.work_until_released()' });
$f->job('holds', { name => 'h', package => 'holds' });
$f->package('holds_there', -params => '{"key": null}', t => { job => 'holds', server => 'a1' });
$f->package('holds_here', -params => '{"key": null}', t => { nested => 'holds' });
for my $case ([ 'a1', 'holds_there' ], [ 'parent', 'holds_here' ])
{
    my ($where, $package) = @$case;
    $run = $f->start($package, qq({"key": "$package"}));
    $f->wait_started($package);
    $f->point($where, 'starter_after_delay', 'wait');
    my $pid = $f->agent_pid($where);
    $f->sql_on($where, "SELECT pg_terminate_backend($pid)");
    $f->point_waits($where, 'starter_after_delay', "$package: no agent is there");
    is($f->sql("SELECT fleet.cancel_run($run)"), 't', "$package: then it is canceled");
    $f->wait_for('a1', $known, '1', "$package: which the server knows") if $where eq 'a1';
    $f->point_release($where, 'starter_after_delay');
    $f->run_is($run, 'canceled', "$package: canceled");
    is($f->sql_on($where, "SELECT string_agg(state, ' ') FROM fleet.run WHERE package = 'holds'"), 'canceled', "$package: and so is the run of its package");
    is($f->witnessed($package, 'end'), 0, "$package: which was stopped");
}

# Timeouts count from the start, whichever agent that was under: here it was an hour ago, for all that the
# next agent knows.
my $hold = 'SELECT etl.work_until_released()';
$f->job('unlimited', { name => 's', sql => $hold });
$f->job('limited', { name => 's', sql => $hold, timeout => '30min' });
$f->job('limited_package', { name => 's', package => 'holds', timeout => '30min' });
my ($task, $step) = map { "57014 the $_ was stopped because of its timeout" } 'task run', 'step';
for my $case (
    [ 'parent', 'task_run', 'task here', $task, { sql => $hold, timeout => '30min' } ],
    [ 'parent', 'task_run', 'package here', $task, { nested => 'holds', timeout => '30min' } ],
    [ 'parent', 'task_run', 'task there', $task, { job => 'unlimited', server => 'a1', timeout => '30min' } ],
    [ 'a1', 'step_run', 'step', $step, { job => 'limited', server => 'a1' } ],
    [ 'a1', 'step_run', 'package step', $step, { job => 'limited_package', server => 'a1' } ])
{
    my ($where, $table, $package, $error, $def) = @$case;
    $f->package($package, -params => '{"key": null}', t => $def);
    $run = $f->start($package, qq({"key": "$package"}));
    $f->wait_started($package);
    my $open = "FROM fleet_catalog.$table WHERE state = 3" . ($where eq 'parent' ? " AND run_id = $run" : ' AND backend_pid IS DISTINCT FROM 0');
    $f->wait_for($where, "SELECT count(*) > 0 $open", 't', "$package: it runs, as is stored");
    $f->point($where, 'starter_after_delay', 'wait');
    my $pid = $f->agent_pid($where);
    $f->sql_on($where, "SELECT pg_terminate_backend($pid)");
    $f->point_waits($where, 'starter_after_delay', "$package: no agent is there");
    $f->sql_on($where, $open =~ s/^FROM (\S+) WHERE/UPDATE $1 SET started_at = started_at - interval '1h' WHERE/r);
    $f->point_release($where, 'starter_after_delay');
    $f->run_is($run, 'failed', "$package: its timeout stops it");
    is($f->sql("SELECT concat_ws(' ', state, attempt, sqlstate, message) FROM fleet.task_run WHERE run_id = $run"), "failed 1 $error", "$package: and says so");
    is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run AND level = 'ERROR' AND sqlstate = '57014'"), 1, "$package: once, in the log too");
    is($f->witnessed($package, 'end'), 0, "$package: it did not come to its end");
    is($f->witnessed($package, 'start'), 1, "$package: and was not done again");
}

# Two attempts of a package task that both run out of their time, each under an agent of its own: the
# lines of the second count on behind those of the first.
$f->package('twice over time', -params => '{"key": null}',
    t => { nested => 'holds', timeout => '200ms', retries => 1, retry_wait => '1h', retry_sqlstates => '{57014}' });
$run = $f->start('twice over time', '{"key": "over"}');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'retrying', 'twice over time: the first attempt waits to be made again');
$f->point('parent', 'starter_after_delay', 'wait');
my $first = $f->agent_pid;
$f->sql("SELECT pg_terminate_backend($first)");
$f->point_waits('parent', 'starter_after_delay', 'twice over time: no agent is there');
$f->sql("UPDATE fleet_catalog.task_run SET finished_at = now() WHERE run_id = $run");    # until then it waits
$f->point_release('parent', 'starter_after_delay');
$f->run_is($run, 'failed', 'twice over time: failed in the end');
is($f->sql("SELECT concat_ws(' ', state, attempt, sqlstate, message) FROM fleet.task_run WHERE run_id = $run"), "failed 2 $task", 'twice over time: after two attempts');
is($f->sql("SELECT string_agg(seq || ' ' || sqlstate, ', ' ORDER BY seq) FROM fleet.log WHERE run_id = $run"), '1 57014, 2 57014', 'twice over time: each has its line');

# the package is changed where the job runs: what a run executes is the parent's
$f->sql_as('etl', q{SELECT fleet.add_task('one', 'extra', sql => $$SELECT etl.witness('extra')$$)}, on => 'a1');
$run = $f->start('both', '{"key": "changed"}');
$f->run_is($run, 'succeeded', 'changed: succeeded');
is(join(' ', map { $f->witnessed('changed', $_) } qw(one extra two)), '1 0 1', 'changed: the task that the package has there did not run');

# ---- a job that is silent for long -------------------------------------------------------------

# Twice after its start its link is asked whether it is there (a Sync, seen by the session's time),
# and stays.
$f->wait_started('long');
my $link = q{FROM pg_stat_activity WHERE application_name LIKE 'pg_fleet%' AND backend_type = 'client backend'};
my $session = $f->sql_on('a1', "SELECT pid || ' ' || backend_start $link");
my ($pid) = $session =~ /^(\d+) /;
for my $time (1, 2)
{
    my $at = $f->sql_on('a1', "SELECT state_change FROM pg_stat_activity WHERE pid = $pid");
    $f->wait_for('a1', "SELECT state_change > '$at' FROM pg_stat_activity WHERE pid = $pid", 't', "silence, $time: the link is asked");
}
is($f->sql_on('a1', "SELECT pid || ' ' || backend_start $link"), $session, 'silence: it is the same connection');
is($f->sql(q{SELECT state FROM fleet.server_status WHERE server = 'a1'}), 'online', 'silence: the server is not suspect');
is($f->sql("SELECT state || ' ' || attempt FROM fleet.task_run WHERE run_id = $long"), 'running 1', 'silence: the job runs');
$f->release('long');
$f->run_is($long, 'succeeded', 'silence: and succeeds');
is($f->witnessed('long', 'start'), 1, 'silence: started once');
$f->done(crashes => 1);
