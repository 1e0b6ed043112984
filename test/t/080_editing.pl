# What is disabled, and what is renamed, in both modes, and under agents that end in the middle.  What really started is
# what the witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

$f->sql_on($_, <<'SQL') for qw(parent a1 d1);
CREATE FUNCTION etl.task(part text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('fleet.params', jsonb_build_object('key', part)::text, true);
    PERFORM etl.witness('start');
    RETURN 'done ' || part;
END $$;
SQL
sub started { return $f->sql_on('witness', "SELECT coalesce(string_agg(key, ', ' ORDER BY key), '') FROM event WHERE what = 'start'"); }
sub new_starts { $f->sql_on('witness', "UPDATE event SET what = 'earlier' WHERE what = 'start'"); return; }
sub steps { my ($run, $task) = @_; return $f->sql("SELECT coalesce(string_agg(step || ' ' || state || coalesce(' ' || message, ''), ', ' ORDER BY step_no, attempt), '') FROM fleet.job_log WHERE run_id = $run AND task = '$task'"); }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || state || coalesce(' ' || message, ''), ', ' ORDER BY task) FROM fleet.task_run WHERE run_id = $run"); }

# ---- disabled steps, in both modes and in the parent -------------------------------------------

$f->job('steps', { sql => "SELECT etl.task('one')", on_success => 'quit_failure' }, { sql => "SELECT etl.task('two')" }, { sql => "SELECT etl.task('three')" });
my ($one, $two, $three) = split /,/, $f->sql(q{SELECT string_agg(step, ',' ORDER BY step_no) FROM fleet.step WHERE job = 'steps'});
$f->sql("SELECT fleet.alter_step('steps', '$_', enabled => false)") for $one, $three;
$f->deploy('steps');
$f->package('both', a => { job => 'steps', server => 'a1' }, d => { job => 'steps', server => 'd1' }, here => { job => 'steps' });
my $run = $f->start('both');
$f->run_is($run, 'succeeded', 'a disabled step does not fail its job, whatever it says');
is(steps($run, $_), "$one skipped disabled, $two succeeded, $three skipped disabled", "$_: it is passed over, and says so") for qw(a d here);
is(started(), 'two, two, two', 'and the others run');
is($f->sql("SELECT count(*) || ' ' || max(seq) || ' ' || count(DISTINCT seq) || ' ' || count(*) FILTER (WHERE level = 'ERROR') FROM fleet.log WHERE run_id = $run AND task = '$_'"), '6 6 6 0', "$_: the log has no gap, and no error") for qw(a d here);

# The agent ends around the step that runs: nothing is done twice, and nothing is told twice.
for my $case ([ 'step_after_send_commit', 'exit 1' ], [ 'agent_after_commit', 'exit 3' ], [ 'step_before_send', 'exit 1' ])
{
    my ($point, $word) = @$case;
    new_starts();
    $f->point('parent', $point, $word);
    $run = $f->start('both');
    $f->point_fired('parent', $point, "$point: the agent ended");
    $f->run_is($run, 'succeeded', "$point: the run goes on under the next");
    is(steps($run, $_), "$one skipped disabled, $two succeeded, $three skipped disabled", "$point: $_: each step once") for qw(a d here);
    is($f->sql("SELECT count(*) || ' ' || max(seq) || ' ' || count(DISTINCT seq) FROM fleet.log WHERE run_id = $run AND task = '$_'"), '6 6 6', "$point: $_: the log has no gap") for qw(a d here);
}

# ---- a disabled job, in both modes; fixed at the start of the run ------------------------------

new_starts();
$f->sql("BEGIN; SELECT fleet.alter_job('steps', enabled => false); SELECT fleet.alter_step('steps', '$one', enabled => true, reset => '{on_success}'); COMMIT");
$run = $f->start('both');
$f->run_is($run, 'succeeded', 'what runs a disabled job is passed over');
is(states($run), join(', ', map { qq{$_ skipped job "steps" is disabled} } qw(a d here)), 'and says why');
is(started(), '', 'nothing of it runs');
$f->sql(q{SELECT fleet.alter_job('steps', enabled => true)});
$f->run_is($f->start('both'), 'succeeded', 'enabled again, it runs');
is(started(), 'one, one, one, two, two, two', 'on all servers');

# ---- names: what was learned, and what runs, follows -------------------------------------------

$f->sql("INSERT INTO fleet_catalog.duration VALUES ('', '', '', 'steps', 1, 1, 1)");
$f->sql("SELECT fleet.alter_package('both', new_name => 'other'); SELECT fleet.alter_job('steps', new_name => 'paces')");
$f->wait_for('parent', 'SELECT count(*) FROM fleet_catalog.renaming', '0', 'the agent has seen to the names');
is($f->sql(q{SELECT string_agg(DISTINCT package, ',') FROM fleet_catalog.duration WHERE package IN ('both', 'other')}), 'other', 'durations of a package follow its name');
is($f->sql(q{SELECT string_agg(DISTINCT job, ',') FROM fleet_catalog.duration WHERE job IN ('steps', 'paces')}), 'paces', 'those of a job too');
my $pid = $f->agent_pid('parent');
$f->sql("BEGIN; SELECT fleet.alter_task('other', 'here', new_name => 'there'); SELECT pg_terminate_backend($pid); COMMIT");
$f->wait_for('parent', 'SELECT count(*) FROM fleet_catalog.renaming', '0', 'an agent that ends leaves it to the next one');
is($f->sql(q{SELECT string_agg(DISTINCT task, ',' ORDER BY task) FROM fleet_catalog.duration WHERE package = 'other'}), 'a,d,there', 'and that of a task');
$run = $f->start('other');
$f->run_is($run, 'succeeded', 'tasks run what they ran, by its new name');
is(steps($run, 'a'), "$one succeeded, $two succeeded, $three skipped disabled", 'as it is now');
is($f->sql("SELECT version || ' ' || (version = (SELECT max(version) FROM fleet.version WHERE kind = 'package' AND name = 'other')) FROM fleet.run WHERE run_id = $run"),
    $f->sql(q{SELECT max(version) || ' true' FROM fleet.version WHERE kind = 'package' AND name = 'other'}), 'the run names its version');

# ---- drop: what is used stays ------------------------------------------------------------------

$f->fails(q{SELECT fleet.drop_job('paces')}, '2BP01', 'a job that tasks run is not dropped', like => qr/task "a" of package "other".*task "d" of package "other".*task "there" of package "other"/, help => 1);
$f->fails(q{SELECT fleet.remove_server('d1')}, '2BP01', 'nor a server that one names', like => qr/task "d" of package "other"/, help => 1);
$f->sql(q{SELECT fleet.drop_job('paces', cascade => true)});
is($f->sql(q{SELECT count(*) FROM fleet.task WHERE package = 'other'}), '0', 'unless with them');

$f->done;
