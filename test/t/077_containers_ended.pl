# The agent ends in the middle of a loop over a container, at points and of itself: each task of each item runs once, on
# servers of both modes, and restarts, cancels and retries find what there is.  What really started is what the
# witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

$f->sql_on($_, <<'SQL') for qw(parent a1 d1);
CREATE TABLE etl.broken (key text);
GRANT SELECT ON etl.broken TO PUBLIC;
CREATE FUNCTION etl.task(part text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('fleet.params', jsonb_set(current_setting('fleet.params')::jsonb, '{key}', to_jsonb(part || ' ' || etl.key()))::text, true);
    PERFORM etl.witness('start');
    IF EXISTS (SELECT FROM etl.broken WHERE key = etl.key()) THEN
        RAISE EXCEPTION '% is broken', etl.key();
    END IF;
    INSERT INTO etl.effect (key) VALUES (etl.key());
    RETURN 'done ' || etl.key();
END $$;
SQL
sub break_it { my (@keys) = @_; $f->sql_on($_, "INSERT INTO etl.broken SELECT unnest('{" . join(',', @keys) . "}'::text[])") for qw(parent a1 d1); return; }
sub repair { $f->sql_on($_, 'TRUNCATE etl.broken') for qw(parent a1 d1); return; }
sub starts { my ($like) = @_; return $f->sql_on('witness', "SELECT count(*) || ' of ' || count(DISTINCT key) FROM event WHERE what = 'start' AND key LIKE '$like'"); }
sub new_starts { $f->sql_on('witness', "UPDATE event SET what = 'earlier' WHERE what = 'start'"); return; }
sub end_agent
{
    my ($what) = @_;
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', $what);
    return;
}
# The states of all tasks of all items, with how many there are of each.
sub insides
{
    my ($run) = @_;
    return $f->sql("SELECT coalesce(string_agg(x.task || ' ' || x.state || ' ' || x.n, ', ' ORDER BY x.task, x.state), '') FROM (SELECT t.task, t.state, count(*) AS n FROM fleet_catalog.run AS r JOIN fleet.task_run AS t ON t.run_id = r.run_id WHERE r.parent_run_id = $run GROUP BY 1, 2) AS x");
}

$f->job($_, { sql => "SELECT etl.task('$_')" }) for qw(one two);
$f->package('loops', '-params' => '{"n": null, "of": null}',
    before => { sql => 'SELECT 1' },
    loop => { container => 'true', after => '{before}', throttle => 3, for_each => q{SELECT fleet.param('of') || i AS key FROM generate_series(1, fleet.param('n')::int) AS i} },
    'loop/one' => { job => 'one', server => 'a1' }, 'loop/two' => { job => 'two', server => 'd1', after => '{one}' }, 'loop/three' => { sql => q{SELECT etl.task('three ' || fleet.output('two'))}, after => '{two}' },
    after => { sql => q{SELECT etl.task('after')}, params => '{"key": "all"}', after => '{loop}' });

for my $case ([ 'task_before_nested', 'exit 1' ], [ 'task_before_nested', 'exit 3' ], [ 'agent_after_commit', 'exit 6' ], [ 'agent_before_commit', 'exit 9' ], [ 'step_after_send_commit', 'exit 2' ], [ 'remote_before_start', 'exit 2' ], [ 'task_before_nested', 'wait 5' ])
{
    my ($point, $word) = @$case;
    my $of = "$point $word ";
    new_starts();
    $f->point('parent', $point, $word);
    my $run = $f->start('loops', qq({"n": 6, "of": "$of"}));
    if ($word =~ /wait/)
    {
        $f->point_waits('parent', $point, "$of: the cluster crashes");
        $f->parent->stop('immediate');
        $f->point_release('parent', $point);
        $f->parent->start;
    }
    else
    {
        $f->point_fired('parent', $point, "$of: the agent ended");
    }
    $f->run_is($run, 'succeeded', "$of: the run goes on under the next");
    is(insides($run), 'one succeeded 6, three succeeded 6, two succeeded 6', "$of: each item had all of its tasks");
    is($f->sql("SELECT count(*) FROM fleet_catalog.run WHERE parent_run_id = $run"), '6', "$of: one nested run each");
    is($f->effects('a1', "one $of$_") . $f->effects('d1', "two $of$_") . $f->effects('parent', "three done two $of$_ $of$_"), '111', "$of: item $_ had each effect once") for 1 .. 6;
}

# An agent that ends twice, with items that fail; then a restart, with an end in it; then nothing is left to do.
new_starts();
break_it('two r2', 'three done two r5 r5');
my $run = $f->sql(q{SELECT fleet.run_parent_package('loops', params => '{"n": 8, "of": "r"}', run_key => 'the loop')});
$f->wait_for('parent', "SELECT count(*) > 2 FROM fleet_catalog.run WHERE parent_run_id = $run", 't', 'some items have begun');
end_agent('the agent ends');
$f->wait_for('parent', "SELECT count(*) > 5 FROM fleet_catalog.run WHERE parent_run_id = $run", 't', 'more items have begun');
end_agent('the next agent ends');
$f->run_is($run, 'failed', 'two items fail');
is(insides($run), 'one succeeded 8, three failed 1, three skipped 1, three succeeded 6, two failed 1, two succeeded 7', 'by one of their tasks each');
repair();
new_starts();
$f->point('parent', 'task_before_nested', 'exit 2');
my $again = $f->sql("SELECT fleet.restart_run($run)");
$f->point_fired('parent', 'task_before_nested', 'the agent ends in the restart');
$f->run_is($again, 'succeeded', 'restarted, it succeeds');
is(starts('one r%') . ', ' . starts('two r%') . ', ' . starts('three %'), '0 of 0, 1 of 1, 2 of 2', 'and only what had failed started, in the two items');
is($f->sql("SELECT count(*) || ' ' || count(restart_of) FROM fleet_catalog.run WHERE parent_run_id = $again"), '2 2', 'each item that is continued in a run that restarts its own');
is($f->sql("SELECT string_agg(item::text, ',' ORDER BY item) FROM fleet.task_run WHERE run_id = $again AND item > 0 AND carried_from = $run"), '1,3,4,6,7,8', 'the others are carried over');

# From a task in the loop on, in every item, with an end in the middle.
new_starts();
$f->point('parent', 'task_before_nested', 'exit 4');
my $from = $f->sql("SELECT fleet.restart_run($again, from_task => 'loop/two')");
$f->point_fired('parent', 'task_before_nested', 'the agent ends in the restart from a task in the loop');
$f->run_is($from, 'succeeded', 'restarted from there, it succeeds');
is(join(', ', map { s/.* //r } starts('one r%'), starts('two r%'), starts('three %'), starts('after all')), '0, 8, 8, 1', 'every item began there, and what follows the loop ran'); # one that was cut off before its COMMIT starts twice

# A cancel while the agent is away; then the restart of it.
$f->package('held', loop => { container => 'true', for_each => q{SELECT 'h' || i AS key FROM generate_series(1, 4) AS i} },
    'loop/first' => { sql => q{SELECT etl.task('first')} }, 'loop/hold' => { sql => 'SELECT etl.work_until_released()', after => '{first}' }, 'loop/last' => { sql => q{SELECT etl.task('last')}, after => '{hold}' });
$run = $f->start('held');
$f->wait_started("h$_", 1) for 1 .. 4;
$f->release('h1');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND item = 1", 'succeeded', 'one item has ended');
$f->point('parent', 'agent_before_messages', 'exit');
$f->sql("SELECT fleet.cancel_run($run)");
$f->point_fired('parent', 'agent_before_messages', 'the agent ends before it reads of the cancel');
$f->run_is($run, 'canceled', 'the next one cancels the loop');
is(insides($run), 'first succeeded 4, hold canceled 3, hold succeeded 1, last canceled 3, last succeeded 1', 'with what was open in it');
new_starts();
$again = $f->sql("SELECT fleet.restart_run($run)");
$f->wait_started("h$_", 1) for 2 .. 4;
end_agent('the agent ends in the restart of a canceled loop');
$f->release("h$_") for 2 .. 4;
$f->run_is($again, 'succeeded', 'restarted, the loop ends');
is(starts('first h%') . ', ' . starts('last h%'), '0 of 0, 3 of 3', 'with what it had not done');

# A retry of a container, asked for under an agent that does not live to do it.
$f->package('retries', c => { container => 'true' }, 'c/t' => { sql => q{SELECT etl.task('t')}, params => '{"key": "x"}' }, 'c/u' => { sql => q{SELECT etl.task('u')}, params => '{"key": "x"}', after => '{t}' },
    hold => { sql => 'SELECT etl.work_until_released()', params => '{"key": "hold"}' }, d => { sql => q{SELECT etl.task('d')}, params => '{"key": "x"}', after => '{c}' });
break_it('u x');
$run = $f->start('retries');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 'c'", 'failed', 'a container has failed');
repair();
$f->point('parent', 'agent_before_messages', 'exit');
$f->sql("SELECT fleet.retry_task($run, 'c')");
$f->point_fired('parent', 'agent_before_messages', 'the agent ends before it reads of the retry');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run AND task = 'd'", 'succeeded', 'the next one retries it, and what follows runs');
$f->release('hold');
$f->run_is($run, 'succeeded', 'and the run succeeds');
is(starts('t x') . ', ' . starts('u x') . ', ' . starts('d x'), '2 of 1, 2 of 1, 1 of 1', 'the container began anew');

$f->done(crashes => 1);
