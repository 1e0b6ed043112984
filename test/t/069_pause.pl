# Pauses: of a run, a package, a group of servers, everything.  What runs goes on, nothing new starts, whoever ends
# meanwhile.  What really started is what the witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

$f->sql_on($_, <<'SQL') for qw(parent a1 d1);
CREATE FUNCTION etl.task() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.witness('start');
    RETURN 'done ' || etl.key();
END $$;
SQL
sub starts { my ($like) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key LIKE '$like'"); }
sub task { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.task()', params => qq({"key": "$key"}), %more }); }
sub gate { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.work_until_released()', params => qq({"key": "$key"}), %more }); }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || state, ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run AND item = 0"); }
sub state_is { my ($run, $task, $state, $what) = @_; $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item = 0", $state, $what); return; }
sub waits_for { my ($run, $task) = @_; return $f->sql("SELECT coalesce(waiting_for, '') FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item = 0"); }
sub end_agent
{
    my ($what) = @_;
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', $what);
    return;
}
# The agent has done all that there was to do: a run of another package begins and ends after it.
sub agent_has_seen
{
    my ($what) = @_;
    $f->run_is($f->start('probe'), 'succeeded', "$what: other runs go on");
    return;
}
$f->package('probe', p => { sql => 'SELECT 1' });
$f->job('job', { sql => 'SELECT etl.task()' });
$f->job('held', { sql => 'SELECT etl.work_until_released()' });

# ---- a run, with tasks in both modes -----------------------------------------------------------

$f->package('inner', task('n1'));
$f->package('night', gate('g1'), task('here', after => '{g1}'), a => { job => 'job', server => 'a1', params => '{"key": "a"}', after => '{g1}' },
    d => { job => 'job', server => 'd1', params => '{"key": "d"}', after => '{g1}' }, in => { nested => 'inner', after => '{g1}' },
    each => { job => 'job', on_group => 'all', after => '{g1}', for_each => q{SELECT jsonb_build_object('key', 'each' || i) FROM generate_series(1, 3) AS i} });
my $run = $f->start('night');
$f->wait_started('g1', 1);
is($f->sql("SELECT fleet.pause_run($run, 'the disk is full')"), 't', 'a run is paused');
is($f->sql("SELECT fleet.pause_run($run)"), 'f', 'once');
is($f->sql("SELECT state || ' ' || paused_by || ' ' || pause_reason FROM fleet.run WHERE run_id = $run AND paused_at IS NOT NULL"), 'running postgres the disk is full', 'the run says so');
is($f->sql('SELECT what, run_id, package, paused_by, reason FROM fleet.paused'), "run|$run|night|postgres|the disk is full", 'so does the list');
$f->release('g1');
state_is($run, 'g1', 'succeeded', 'what runs goes on, and ends');
agent_has_seen('a paused run');
is(states($run), 'g1 succeeded, here queued, a queued, d queued, in queued, each queued', 'nothing new starts');
is(waits_for($run, 'a'), "run $run is paused by postgres: the disk is full", 'and each says what it waits for');
end_agent('the agent ends');
agent_has_seen('its successor');
is(join('', map { starts($_) } qw(here a d n1 each%)), '00000', 'knows of the pause');
$f->parent->stop('immediate');
$f->forget('parent');
$f->parent->start;
agent_has_seen('after a crash');
is(states($run), 'g1 succeeded, here queued, a queued, d queued, in queued, each queued', 'so does the one after a crash');
is($f->sql("SELECT fleet.resume_run($run)"), 't', 'the run is resumed');
is($f->sql("SELECT fleet.resume_run($run)"), 'f', 'once');
$f->run_is($run, 'succeeded', 'and goes on to its end');
is(join(' ', map { starts($_) } qw(here a d n1 each%)), '1 1 1 1 3', 'all ran once');
is($f->sql('SELECT count(*) FROM fleet.paused'), '0', 'nothing is paused');
$f->fails("SELECT fleet.pause_run($run)", '55000', 'a run that has ended', help => 1);
$f->fails('SELECT fleet.pause_run(4711)', '42704', 'a run that there is not', help => 1);

# a paused run is canceled; a nested one waits with it
$f->package('inner2', gate('g2'), task('n2', after => '{g2}'));
$f->package('outer', in => { nested => 'inner2' }, task('o2', after => '{in}'));
$run = $f->start('outer');
$f->wait_started('g2', 1);
$f->sql("SELECT fleet.pause_run($run)");
$f->release('g2');
my $nested = $f->sql("SELECT run_id FROM fleet.run WHERE parent_run_id = $run");
state_is($nested, 'g2', 'succeeded', 'what a nested package runs goes on');
agent_has_seen('a nested run');
is(states($nested), 'g2 succeeded, n2 queued', 'it starts nothing new');
is(waits_for($nested, 'n2'), "run $run is paused by postgres", 'and says why');
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'a paused run is canceled');
is(starts('n2') . starts('o2'), '00', 'without having started anything');

# ---- a package, everything ---------------------------------------------------------------------

$f->package('pack', task('p1'));
is($f->sql(q{SELECT fleet.pause('its tables are moved', package => 'pack')}), 't', 'a package is paused');
$run = $f->start('pack');
agent_has_seen('a paused package');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'queued', 'its run waits');
is(waits_for($run, 'p1'), 'package "pack" is paused by postgres: its tables are moved', 'and says why');
$f->sql(q{SELECT fleet.alter_package('pack', new_name => 'parcel')});
is($f->sql('SELECT package FROM fleet.paused'), 'parcel', 'the pause follows its new name');
is($f->sql(q{SELECT fleet.resume(package => 'parcel')}), 't', 'it is resumed');
$f->run_is($run, 'succeeded', 'and the run begins');

is($f->sql(q{SELECT fleet.pause('maintenance')}), 't', 'everything is paused');
$run = $f->start('probe');
end_agent('the agent ends');
$f->wait_for('parent', "SELECT waiting_for FROM fleet.task_run WHERE run_id = $run", 'everything is paused by postgres: maintenance', 'a run waits');
is($f->sql(q{SELECT fleet.resume()}), 't', 'everything is resumed');
$f->run_is($run, 'succeeded', 'the run begins');

# ---- a group -----------------------------------------------------------------------------------

$f->sql(q{SELECT fleet.pause('new disks', on_group => 'direct')});
$f->package('spread', each => { job => 'job', on_group => 'all', for_each => q{SELECT jsonb_build_object('key', 's' || i) FROM generate_series(1, 12) AS i} });
$run = $f->start('spread');
$f->run_is($run, 'succeeded', 'a group with servers that are not paused is used');
is($f->sql("SELECT string_agg(DISTINCT server, ' ') FROM fleet.task_run WHERE run_id = $run AND item > 0"), 'a1', 'but for those that are');
$f->package('there', t => { job => 'job', server => 'd1', params => '{"key": "there"}' });
$run = $f->start('there');
$f->wait_for('parent', "SELECT waiting_for FROM fleet.task_run WHERE run_id = $run", 'group "direct" is paused by postgres: new disks', 'a task on one of them waits');
end_agent('the agent ends');
agent_has_seen('a paused group');
is(starts('there'), 0, 'its successor places nothing there either');
$f->sql(q{SELECT fleet.resume(on_group => 'direct')});
$f->run_is($run, 'succeeded', 'resumed, it is used again');

# ---- who may -----------------------------------------------------------------------------------

$f->fails(q{SELECT fleet.pause('x', package => 'p', on_group => 'g')}, '22023', 'two things at once', help => 1);
$f->fails(q{SELECT fleet.pause('x', package => 'nowhere')}, '42704', 'a package that there is not', help => 1);
$f->fails(q{SELECT fleet.pause('x', on_group => 'nowhere')}, '42704', 'a group that there is not', help => 1);

$f->done(crashes => 1);
