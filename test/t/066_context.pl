# What a step knows: which run it is part of, and what came before it there.  Two runs at once each find their own, on this
# server and on servers of both modes, in steps, conditions, for_each queries and parameters. (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, delays => 0);
my $C = q{current_setting('fleet.context')::jsonb};

sub task { my ($run, $what, $task) = @_; return $f->sql("SELECT $what FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item = 0"); }
sub output { my ($run, $task) = @_; return task($run, 'output', $task); }
sub run_of { my ($package, $params, $state) = @_; my $run = $f->start($package, $params); $f->run_is($run, $state || 'succeeded', "a run of $package"); return $run; }

# ---- who runs ----------------------------------------------------------------------------------

$f->job('who', "SELECT $C");
$f->job('who twice', { sql => 'SELECT 1', retries => 2 }, { sql => "DO \$\$BEGIN IF $C ->> 'job' IS DISTINCT FROM 'who twice' THEN RAISE 'no'; END IF; END\$\$" },
    { sql => "CALL etl.note()", transactional => 'false' }, { sql => 'SELECT string_agg(c, \' \') FROM etl.noted' });
$f->sql_on($_, <<"SQL") for qw(parent a1 d1);
CREATE TABLE etl.noted (c text);
GRANT ALL ON etl.noted TO PUBLIC;
CREATE PROCEDURE etl.note() LANGUAGE plpgsql AS \$\$BEGIN INSERT INTO etl.noted VALUES ($C ->> 'task'); COMMIT; INSERT INTO etl.noted VALUES ($C ->> 'task'); END\$\$;
SQL
$f->package('shows', -params => '{"given": ""}', shows => { sql => q{SELECT fleet.param('given')} });
$f->package('inner', who => { sql => q{SELECT concat_ws(' ', fleet.run_id(), fleet.context('package'))} });
my %place = (here => {}, agent => { server => 'a1' }, direct => { server => 'd1' });
$f->package('who',
    sql => { sql => "SELECT $C" },
    (map { my $at = $_; ("who $at" => { job => 'who', %{ $place{$at} } }, "twice $at" => { job => 'who twice', %{ $place{$at} } }) } sort keys %place),
    items => { sql => q{SELECT concat_ws(' ', fleet.run_id(), fleet.context('item'), fleet.param('of'), fleet.param('asked'))}, for_each => q{SELECT fleet.run_id() AS "of", fleet.context('task') AS asked FROM generate_series(1, 2)} },
    'the "next"' => { sql => q{SELECT fleet.context('task')}, after => '{sql}' },
    nested => { nested => 'inner' });

my $run = run_of('who');
my $uuid = $f->sql("SELECT run_uuid FROM fleet.run WHERE run_id = $run");
my $has = sub { my ($task, %more) = @_; return $f->sql("SELECT output::jsonb = jsonb_build_object('run_id', $run, 'run_uuid', '$uuid', 'package', 'who', 'task', task, 'item', 0, 'attempt', 1"
      . join('', map { ", '$_', '$more{$_}'" } sort keys %more) . ") FROM fleet.task_run WHERE run_id = $run AND task = '$task'") };
is($has->('sql'), 't', 'a step knows its run, package, task, item and attempt');
is($has->('who here', job => 'who'), 't', 'a job here too, and which job it is');
is($has->('who agent', job => 'who', server => 'a1'), 't', 'on a server of mode agent it is the run of the parent');
is($has->('who direct', job => 'who', server => 'd1'), 't', 'on a server of mode direct too');
is(output($run, "twice $_"), "twice $_ twice $_", "every step of a job knows it, and one that commits, after the commit too: $_") for sort keys %place;
is($f->sql("SELECT string_agg(output, ', ' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND task = 'items' AND item > 0"), "$run 1 $run items, $run 2 $run items", 'a for_each query knows, and each item');
is(output($run, 'the "next"'), 'the "next"', 'a name with quotes is itself');
my $nested = $f->sql("SELECT run_id FROM fleet.run WHERE parent_run_id = $run");
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $nested"), "$nested inner", 'a nested run is a run of its own');
my $started = $f->sql(q{SELECT fleet.start_job('who')});
$f->wait_for('parent', "SELECT output FROM fleet.job_run WHERE job_run_id = $started", '{"job": "who"}', 'a job that was started by itself is part of no run');
is($f->sql(q{SELECT concat_ws(',', fleet.run_id() IS NULL, fleet.context('task') IS NULL)}), 't,t', 'nor is any other session');

# Sessions on servers keep nothing of it.
$f->job('plain', { sql => "CALL etl.note()", transactional => 'false' }, 'SELECT count(*) FROM etl.noted');
$f->package('after', map { ("on $_" => { job => 'plain', %{ $place{$_} } }) } sort keys %place);
$f->sql_on($_, 'TRUNCATE etl.noted') for qw(parent a1 d1);
$run = run_of('after');
is($f->sql_on($_, "SELECT string_agg(DISTINCT c, ' ') FROM etl.noted"), { parent => 'on here', a1 => 'on agent', d1 => 'on direct' }->{$_}, "the next job has its own context: $_") for qw(parent a1 d1);

# ---- what came before: two runs at once --------------------------------------------------------

$f->job('gives', q{SELECT current_setting('fleet.params')::jsonb ->> 'gives'});
$f->job('takes', q{SELECT concat_ws('/', p ->> 'rows', p ->> 'all', p ->> 'how', p ->> 'run', p ->> 'key', p ->> 'lit', p -> 'deep' -> 0 ->> 'x') FROM CAST(current_setting('fleet.params') AS jsonb) AS p});
my $template = q[{"rows": {"$output": "stage"}, "all": {"$output": "each"}, "how": {"$outcome": "bad"}, "run": {"$context": "run_id"}, "key": {"$param": "key"}, "lit": {"$literal": {"$output": "x"}}, "deep": [{"x": {"$output": "stage"}}]}];
$f->package('pass', -params => '{"key": null}',
    stage => { job => 'gives', server => 'd1', params => '{"gives": {"$param": "key"}}' },
    each => { job => 'gives', on_group => 'agents', after => '{stage}', for_each => q{SELECT fleet.output('stage') || i AS gives FROM generate_series(1, 3) AS i} },
    bad => { sql => 'SELECT 1/0' },
    hold => { sql => 'SELECT etl.work_until_released()', after => '{each}', after_failure_of => '{bad}' },
    (map { ("take $_" => { job => 'takes', params => $template, after => '{hold}', %{ $place{$_} } }) } sort keys %place),
    sql => { sql => q{SELECT concat_ws('/', fleet.output('stage'), fleet.output('each')::jsonb ->> 1, fleet.outcome('bad'), coalesce(fleet.output('bad'), 'null'), fleet.outcome('late'), coalesce(fleet.output('late'), 'null'), fleet.outcome('never'))}, after => '{hold}' },
    never => { sql => 'SELECT 1', after => '{bad}' },
    late => { sql => 'SELECT 1', after => '{sql}' },
    for => { sql => q{SELECT fleet.param('v') || fleet.param('rows')}, after => '{hold}', params => '{"rows": {"$output": "stage"}}', for_each => q{SELECT jsonb_array_elements_text(fleet.output('each')::jsonb) || fleet.param('rows') AS v} },
    nest => { nested => 'shows', after => '{hold}', params => '{"given": {"$output": "stage"}}' },
    yes => { sql => 'SELECT 1' }, no => { sql => 'SELECT 1' });
$f->sql(qq{SELECT fleet.add_precedence('pass', 'hold', '$_->[0]', condition => \$\$fleet.output('stage') = '$_->[1]' AND fleet.run_id() > 0\$\$)}) for [ yes => 'one' ], [ no => 'two' ];
my @runs = map { $f->start('pass', qq({"key": "$_"})) } qw(one two);
$f->wait_started($_, 1) for qw(one two);
$f->release($_) for qw(one two);
my %key = ($runs[0] => 'one', $runs[1] => 'two');
for my $r (@runs)
{
    my $k = $key{$r};
    $f->run_is($r, 'succeeded', "run $k");
    is(output($r, "take $_"), qq($k/["${k}1", "${k}2", "${k}3"]/failed/$r/$k/{"\$output": "x"}/$k), "its parameters have its own values: $_") for sort keys %place;
    is(output($r, 'sql'), "$k/${k}2/failed/null/queued/null/skipped", 'fleet.output() and fleet.outcome() too');
    is($f->sql("SELECT string_agg(output, ' ' ORDER BY item) FROM fleet.task_run WHERE run_id = $r AND task = 'for' AND item > 0"), "${k}1$k$k ${k}2$k$k ${k}3$k$k", 'for_each, its parameters, and those of the items');
    is($f->sql("SELECT t.output FROM fleet.task_run AS t JOIN fleet.run AS r USING (run_id) WHERE r.parent_run_id = $r"), $k, 'a nested run gets it as a parameter');
    is(join(' ', map { task($r, 'state', $_) } qw(yes no)), $k eq 'one' ? 'succeeded skipped' : 'skipped succeeded', 'conditions');
    is($f->sql("SELECT params ->> 'rows' FROM fleet.task_run WHERE run_id = $r AND task = 'take direct'"), $k, 'what the parameters were is on record');
}

# ---- what is refused ---------------------------------------------------------------------------

$f->package('refused', a => { sql => 'SELECT 1' });
for my $bad ([ '{"x": {"$output": "nowhere"}}', '42704', 'Existing names are: a' ], [ '{"x": {"$output": 1}}', '22023', 'must be a string' ], [ '{"x": [{"$what": "a"}]}', '22023', '\$literal' ],
    [ '{"x": {"$output": "a", "y": 1}}', '22023', 'more than one key' ], [ '{"$output": "a"}', '22023', 'cannot be named' ], [ '{"x": {"$context": "server"}}', '22023', 'run_uuid' ])
{
    $f->fails("SELECT fleet.add_task('refused', 'b', sql => 'SELECT 1', params => '$bad->[0]')", $bad->[1], "at definition: $bad->[0]", help => 1, like => $bad->[2]);
}
$f->fails(q{SELECT fleet.add_task('refused', 'b', sql => 'SELECT 1', params => jsonb_build_object('x', (SELECT jsonb_agg('{"$output": "a"}'::jsonb) FROM generate_series(1, 1001))))}, '54000', 'more templates than are resolved', help => 1);
$f->fails(q{SELECT fleet.add_task('refused', 'b', sql => 'SELECT 1', params => jsonb_build_object('x', (repeat('[', 40) || '{"$output": "a"}' || repeat(']', 40))::jsonb))}, '54000', 'and deeper ones', help => 1);
$f->sql(q{SELECT fleet.add_task('refused', 'b', sql => 'SELECT 1', params => '{"x": {"$output": "a"}}', after => '{a}')});
$f->fails(q{SELECT fleet.drop_task('refused', 'a')}, '2BP01', 'a task that parameters refer to is not dropped', help => 1, like => '"b"');
$f->fails(q{SELECT fleet.output('a')}, '55000', 'outside of a run there is no output', help => 1);
$f->fails(q{SELECT fleet.outcome('a')}, '55000', 'nor an outcome', help => 1);

$f->package('failing',
    'no param' => { sql => 'SELECT 1', params => '{"x": {"$param": "nowhere"}}', retries => 3 },
    'no param each' => { sql => 'SELECT 1', params => '{"x": {"$param": "nowhere"}}', for_each => 'SELECT 1 AS i' },
    'no task' => { sql => q{SELECT fleet.output('nowhere')} },
    many => { sql => 'SELECT repeat(\'x\', 60000)', for_each => 'SELECT i FROM generate_series(1, 20) AS i' },
    large => { job => 'takes', server => 'd1', params => '{"rows": {"$output": "many"}}', after => '{many}' },
    read => { sql => q{SELECT length(fleet.output('many'))}, after => '{many}' },
    other => { job => 'takes', server => 'd1', params => '{"rows": {"$output": "read"}}', after => '{read}' });
$run = run_of('failing', undef, 'failed');
for my $bad ([ 'no param', '42704', qr/^run $run has no parameter "nowhere"$/ ], [ 'no param each', '42704', qr/^run $run has no parameter "nowhere"$/ ], [ 'no task', '42704', qr/^package "failing" has no task "nowhere"$/ ], [ 'large', '54000', qr/output of task "many" is too large/ ])
{
    is(task($run, "state || ' ' || sqlstate", $bad->[0]), "failed $bad->[1]", "a task fails for itself: $bad->[0]");
    like(task($run, 'message', $bad->[0]), $bad->[2], 'and says why');
}
is(task($run, 'attempt', 'no param'), '1', 'it is not tried again');
is(output($run, 'other'), output($run, 'read'), 'others go on');
is(output($run, 'read'), 20 * 60002 + 19 * 2 + 2, 'a task that is SQL reads what is too large for a parameter');

# ---- who may -----------------------------------------------------------------------------------

$f->sql('CREATE ROLE mine LOGIN; CREATE ROLE stranger LOGIN');
my $mine = (split /\n/, $f->sql_as('mine', q{SELECT fleet.create_package('mine'); SELECT fleet.add_task('mine', 't', sql => 'SELECT 42'); SELECT fleet.run_parent_package('mine')}))[-1];
$f->run_is($mine, 'succeeded', "a role's run");
my $as = sub { return qq{SET fleet.context = '{"run_id": $_[0]}'; SELECT fleet.output('t')} };
is($f->sql_as('mine', $as->($mine)), '42', 'a session may put itself into the context of a run that it may see');
$f->fails($as->($mine), '42704', 'and of no other', as => 'stranger', help => 1);
$f->fails($as->(4711), '42704', 'which looks the same as one that there is not', as => 'stranger', help => 1, like => 'run 4711 does not exist in this database');
my $there = $f->sql_on('a1', 'SELECT count(*) FROM fleet.run');
is($there, '0', 'on a server of mode agent the runs of the parent are not known');
$f->job('asks', q{SELECT fleet.output('stage')});
$f->package('asks', stage => { sql => 'SELECT 1' }, far => { job => 'asks', server => 'a1', after => '{stage}' });
$run = run_of('asks', undef, 'failed');
is(task($run, 'sqlstate', 'far'), '42704', 'fleet.output() there says so');
like(task($run, 'message', 'far'), qr/^run $run does not exist in this database$/, 'and not what another run of that number did');

# ---- another agent; restarts -------------------------------------------------------------------

# Between the start and the end of what it was given, the agent ends; what it was given stays what it was.
my $end_agent = sub {
    my $old = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($old)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $old", '0', 'the agent ends');
};
$f->sql('CREATE TABLE etl.fails (t text); GRANT ALL ON etl.fails TO PUBLIC');
$f->package('later', -params => '{"key": null}',
    stage => { sql => q{SELECT 'staged ' || fleet.run_id()} },
    hold => { sql => 'SELECT etl.work_until_released()', params => '{"key": {"$output": "stage"}}', after => '{stage}' },
    each => { sql => q{SELECT etl.work_until_released()}, params => '{"p": {"$output": "stage"}}', for_each => q{SELECT 'e' || i AS key FROM generate_series(1, 3) AS i}, throttle => 1, after => '{stage}' },
    again => { job => 'takes', server => 'd1', params => '{"rows": {"$output": "stage"}, "all": {"$output": "hold"}}', after => '{hold,each}' },
    last => { sql => q{SELECT concat_ws(' ', fleet.output('stage'), fleet.outcome('stage'), fleet.run_id(), 1 / (SELECT count(*) FROM etl.fails))}, after => '{again}' });
$run = $f->start('later', '{"key": "k"}');
$f->wait_started("staged $run", 1);
$f->wait_started('e1', 1);
$end_agent->();
$f->release($_) for "staged $run", 'e1', 'e2', 'e3';
$f->run_is($run, 'failed', 'a run that another agent ends');
is(output($run, 'hold'), "staged $run", 'what was under way had its parameters');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND task = 'each' AND item > 0 AND state = 'succeeded'"), '3', 'and items that were started later');
is(output($run, 'again'), "staged $run/staged $run/k", 'and what came later');
$f->sql('INSERT INTO etl.fails VALUES (1)');
my $again = $f->sql("SELECT fleet.restart_run($run)");
$f->run_is($again, 'succeeded', 'restarted');
is(output($again, 'last'), "staged $run succeeded $again 1", 'outputs that were carried over are there, the run is the new one');

# It ends between the commit of a start and the start itself, in both modes, and where nothing but its row says what was given.
for my $case ([ sql => 'step_before_send' ], [ agent => 'remote_before_start' ], [ direct => 'step_before_send' ], [ nested => 'task_before_nested' ])
{
    my ($at, $point) = @$case;
    my %how = $at eq 'sql' ? (sql => q{SELECT fleet.param('rows')}) : $at eq 'nested' ? (nested => 'takes rows') : (job => 'takes', %{ $place{$at} });
    $f->package('takes rows', -params => '{"rows": ""}', shows => { sql => q{SELECT fleet.param('rows')} }) if $at eq 'nested';
    $f->package("cut $at", stage => { sql => q{SELECT 'staged ' || fleet.run_id()} }, hold => { sql => 'SELECT etl.work_until_released()', params => qq({"key": "cut $at"}), after => '{stage}' },
        take => { %how, params => '{"rows": {"$output": "stage"}}', after => '{hold}' });
    $run = $f->start("cut $at");
    $f->wait_started("cut $at", 1);
    $f->point('parent', $point, 'exit');
    $f->release("cut $at");
    $f->point_fired('parent', $point, "the agent ends at the start, $at");
    $f->run_is($run, 'succeeded', 'another one starts it');
    is($f->sql("SELECT output FROM fleet.task_run AS t JOIN fleet.run AS r USING (run_id) WHERE t.output IS NOT NULL AND t.task IN ('take', 'shows') AND $run IN (r.run_id, r.parent_run_id)"), "staged $run", 'with the same parameters');
}

# … and where that was that it cannot be told.
$f->package('cut off', hold => { sql => 'SELECT etl.work_until_released()', params => '{"key": "cut off"}' },
    take => { job => 'takes', server => 'd1', params => '{"rows": {"$param": "nowhere"}}', after => '{hold}' });
$run = $f->start('cut off');
$f->wait_started('cut off', 1);
$f->point('parent', 'task_cannot_start', 'exit');
$f->release('cut off');
$f->point_fired('parent', 'task_cannot_start', 'the agent ends before it fails a task');
$f->run_is($run, 'failed', 'another one fails it');
is(task($run, "state || ' ' || sqlstate || ' ' || message", 'take'), qq{failed 42704 run $run has no parameter "nowhere"}, 'and does not start it with what is not resolved');
is($f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $run AND task = 'take'"), '0', 'nothing of it ran');

$f->done(crashes => 1);
