# Restarts: what succeeded is carried over, and nothing is started for it; everything else runs, once,
# whoever ends meanwhile.  What really started is what the witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use IPC::Run ();
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 16, delays => 0);

# etl.item() does what the table says, on whatever server: fail, hang (until it is cut off), or its work.
$f->sql_on($_, <<'SQL') for qw(parent a1 d1);
CREATE TABLE etl.broken (key text, how text);
GRANT SELECT ON etl.broken TO PUBLIC;
CREATE FUNCTION etl.how() RETURNS text LANGUAGE sql AS $$SELECT how FROM etl.broken WHERE key = etl.key()$$;
CREATE PROCEDURE etl.item() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.witness('start');
    INSERT INTO etl.effect (key) VALUES (etl.key());
    COMMIT;
    IF etl.how() = 'fail' THEN
        RAISE EXCEPTION 'item % is broken', etl.key();
    ELSIF etl.how() = 'hang' THEN
        PERFORM pg_sleep(600);
    END IF;
END $$;
CREATE FUNCTION etl.task() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.witness('start');
    IF etl.how() = 'fail' THEN
        RAISE EXCEPTION 'task % is broken', etl.key();
    END IF;
    INSERT INTO etl.effect (key) VALUES (etl.key());
    RETURN 'done ' || etl.key();
END $$;
CREATE FUNCTION etl.quick() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF etl.how() = 'fail' THEN
        RAISE EXCEPTION '% is broken', etl.key();
    ELSIF etl.how() IS NOT NULL THEN
        PERFORM etl.witness('start');
    END IF;
END $$;
SQL
sub break_it { my ($how, @keys) = @_; $f->sql_on($_, "INSERT INTO etl.broken SELECT k, '$how' FROM unnest('{" . join(',', @keys) . "}'::text[]) AS k") for qw(parent a1 d1); return; }
sub repair { $f->sql_on($_, 'TRUNCATE etl.broken') for qw(parent a1 d1); return; }
sub starts { my ($like) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key LIKE '$like'"); }
sub new_starts { $f->sql_on('witness', "UPDATE event SET what = 'earlier'"); return; }
sub restart { my ($run, $more) = @_; return $f->sql("SELECT fleet.restart_run($run" . ($more ? ", $more" : '') . ')'); }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || state, ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run AND item = 0"); }
# by task: the run that it was carried from
sub carried { my ($run) = @_; return $f->sql("SELECT coalesce(string_agg(task || ' ' || carried_from, ', ' ORDER BY task_no), '') FROM fleet.task_run WHERE run_id = $run AND carried_from IS NOT NULL AND item = 0"); }

# ---- 300 items on servers of both modes: 7 fail, 2 are cut off ---------------------------------

$f->job('item', { sql => 'CALL etl.item()', transactional => 'false' });
$f->package('night',
    first => { sql => 'SELECT etl.task()', params => '{"key": "first"}' },
    items => { job => 'item', on_group => 'all', after => '{first}', for_each => q{SELECT jsonb_build_object('key', 'i' || i) FROM generate_series(1, 300) AS i} },
    after => { sql => 'SELECT etl.task()', params => '{"key": "after"}', after => '{items}' });
break_it('fail', map { "i$_" } 10 .. 16);
break_it('hang', 'i7', 'i8');
my $key_run = q{SELECT fleet.run_parent_package('night', run_key => 'the night')};
my $run = $f->sql($key_run);
$f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND finished_at IS NULL", '2', 'all items have ended but two');
for my $server (qw(a1 d1))
{
    $f->sql_on($server, q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'});
}
$f->run_is($run, 'failed', '7 of 300 items fail, 2 are cut off');
is($f->sql("SELECT string_agg(state || ' ' || n, ', ' ORDER BY state) FROM (SELECT state, count(*) AS n FROM fleet.task_run WHERE run_id = $run AND item > 0 GROUP BY 1) AS x"),
    'failed 7, succeeded 291, unknown 2', 'the items');
is($f->sql("SELECT count(DISTINCT server) FROM fleet.task_run WHERE run_id = $run AND item > 0"), '2', 'they ran on servers of both modes');
my $error = $f->fails("SELECT fleet.restart_run($run)", '55000', 'what nobody can tell the effect of is not run again unasked', help => 1,
    like => 'HINT:.*unknown => \'run\'');
like($error, qr/DETAIL:\s+Task "items" item 7 is unknown\. Task "items" item 8 is unknown\./, 'it is named');
$f->fails("SELECT fleet.restart_run($run, unknown => 'perhaps')", '22023', 'a policy that there is not', help => 1);

repair();
new_starts();
my $again = restart($run, "unknown => 'run'");
$f->run_is($again, 'succeeded', 'restarted, it succeeds');
is(starts('i%'), 9, 'exactly 9 items start');
is(starts('first'), 0, 'the task before them does not');
is(starts('after'), 1, 'the task after them does');
is($f->sql("SELECT count(*) FILTER (WHERE attempt = 0 AND carried_from = $run) || ' ' || count(*) FILTER (WHERE attempt = 1 AND carried_from IS NULL) FROM fleet.task_run WHERE run_id = $again AND item > 0 AND state = 'succeeded'"),
    '291 9', 'the others are carried over, and say so');
is(carried($again), "first $run", 'so is the task before them');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $again AND task = 'first'"), 'done first', 'with its output');
is($f->sql("SELECT row_count FROM fleet.task_run WHERE run_id = $again AND task = 'first'"), '1', 'and its row count');
is($f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $again"), 10, 'ten steps ran');
is($f->sql("SELECT restart_of || ' ' || run_key FROM fleet.run WHERE run_id = $again"), "$run the night", 'it has the key of the run that it restarts');
is($f->sql("SELECT run_key FROM fleet.run WHERE run_id = $run"), 'the night', 'which keeps it');
is($f->sql($key_run), $again, 'who asks with the key gets the newest');
is($f->sql("SELECT total || ' ' || done FROM fleet.progress WHERE run_id = $again"), '302 302', 'and its progress is whole');
$f->fails("SELECT fleet.restart_run($run)", '55000', 'a run is restarted once', help => 1, like => "Restart run $again");
$f->fails("SELECT fleet.restart_run($again)", '55000', 'one that succeeded is not, without a task', help => 1);
$f->fails("SELECT fleet.restart_run($again, from_task => 'nowhere')", '42704', 'a task that there is not', help => 1, like => 'first');
$f->fails('SELECT fleet.restart_run(4711)', '42704', 'a run that there is not', help => 1);

new_starts();
my $from = restart($again, q{from_task => 'after'});
$f->run_is($from, 'succeeded', 'from a task on, one that succeeded is restarted');
is(starts('%'), 1, 'that task runs');
is(carried($from), "first $run, items $again", 'the others are carried over from where they ran');

# ---- a graph: what follows runs again, what is apart does not ----------------------------------

sub task { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.task()', params => qq({"key": "$key"}), %more }); }
$f->package('graph', task('g1'), task('g2', after => '{g1}'), task('g3', after => '{g2}'), task('g4', after_failure_of => '{g2}'),
    task('g5', after_completion_of => '{g2}'), task('g6'));
break_it('fail', 'g2');
$run = $f->start('graph');
$f->run_is($run, 'succeeded', 'a failure that another task handles');
is(states($run), 'g1 succeeded, g2 failed, g3 skipped, g4 succeeded, g5 succeeded, g6 succeeded', 'its tasks');
new_starts();
$again = restart($run, q{from_task => 'g2'});
$f->run_is($again, 'succeeded', 'restarted while it is still broken');
is(starts('g2') . starts('g4') . starts('g5'), '111', 'the task and what follows run again');
is(carried($again), "g1 $run, g6 $run", 'nothing else');
repair();
my $third = restart($again);
$f->run_is($third, 'succeeded', 'a restart of a restart');
is(states($third), 'g1 succeeded, g2 succeeded, g3 succeeded, g4 skipped, g5 succeeded, g6 succeeded', 'takes the other branch now');
is(carried($third), "g1 $run, g6 $run", 'what ran in the first run is carried from there');

# ---- nested packages ---------------------------------------------------------------------------

$f->package('inner', task('n1'), task('n2', after => '{n1}'));
$f->package('middle', task('m1'), in => { nested => 'inner', after => '{m1}' });
$f->package('outer', -params => '{"x": 1}', mid => { nested => 'middle' }, each => { nested => 'inner', for_each => q{VALUES ('{"k": 1}'::jsonb), ('{"k": 2}')} }, task('o2', after => '{mid,each}'));
break_it('fail', 'n2');
$run = $f->sql(q{SELECT fleet.run_parent_package('outer', params => '{"x": 7}', priority => 3)});
$f->run_is($run, 'failed', 'a task of a nested package fails');
my $nested = $f->sql("SELECT max(run_id) FROM fleet.run WHERE package = 'inner'");
$f->fails("SELECT fleet.restart_run($nested)", '55000', 'a nested run is restarted with the whole', help => 1, like => "Restart run $run");
repair();
new_starts();
# the agent ends before it starts the nested run: the next one does the same
$f->point('parent', 'task_before_nested', 'exit');
$again = restart($run);
$f->point_fired('parent', 'task_before_nested', 'the agent ends before a nested run is restarted');
$f->run_is($again, 'succeeded', 'the whole is restarted');
is(starts('n1') . starts('m1'), '00', 'what succeeded deep inside is carried over');
is(starts('n2') . starts('o2'), '31', 'what failed there, and what follows, runs');
is($f->sql("SELECT count(*) || ' ' || count(*) FILTER (WHERE n.state = 'succeeded' AND o.state = 'failed') FROM fleet.run AS n JOIN fleet.run AS o ON o.run_id = n.restart_of WHERE n.run_id > $again"),
    '4 4', 'each nested run restarts one that failed');
is($f->sql("SELECT params ->> 'x' || ' ' || priority FROM fleet.run WHERE run_id = $again"), '7 3', 'parameters and priority are those of the run');

# ---- items that were never known; definitions --------------------------------------------------

$f->sql('CREATE TABLE etl.list (k text); GRANT SELECT ON etl.list TO PUBLIC');
$f->package('changing', task('c1'), c2 => { sql => 'SELECT etl.task()', after => '{c1}', for_each => q{SELECT jsonb_build_object('key', k) FROM etl.list WHERE 1 / (SELECT count(*) FROM etl.list) > 0} },
    c3 => { sql => 'SELECT 1 / 0', after => '{c2}' });
$run = $f->start('changing');
$f->run_is($run, 'failed', 'the query for items fails');
$f->sql(q{INSERT INTO etl.list VALUES ('l1')});
$again = restart($run);
$f->run_is($again, 'failed', 'it is asked again in a restart');
is($f->sql("SELECT string_agg(task || ' ' || item || ' ' || state, ', ' ORDER BY task_no, item) FROM fleet.task_run WHERE run_id = $again AND task <> 'c1'"),
    'c2 0 succeeded, c2 1 succeeded, c3 0 failed', 'and has an item now');
$f->sql(q{SELECT fleet.drop_task('changing', 'c3'); SELECT fleet.add_task('changing', 'c3', sql => 'SELECT 1', after => '{c2}')});
$third = restart($again);
$f->run_is($third, 'failed', 'a restart has the definition of its run');
$f->sql(q{INSERT INTO etl.list VALUES ('l2')});
new_starts();
my $fourth = restart($third, q{definition => 'current'});
$f->run_is($fourth, 'succeeded', 'or the current one');
is(starts('%'), 0, 'in which tasks are found by their names');
is(carried($fourth), "c1 $run, c2 $again", 'wherever they ran');
$f->sql(q{CREATE ROLE thief LOGIN; GRANT USAGE ON SCHEMA etl TO thief});
$run = $f->sql(q{SELECT fleet.create_package('stolen'); SELECT fleet.add_task('stolen', 't', sql => 'SELECT 1/0'); SELECT fleet.run_parent_package('stolen')});
$run = (split /\n/, $run)[-1];
$f->run_is($run, 'failed', 'a package that fails');
$f->sql(q{SELECT fleet.alter_package('stolen', owner => 'thief')});
$f->fails("SELECT fleet.restart_run($run, definition => 'current')", '55000', "another role's definition is not run with the rights of the run's owner", help => 1);

# Two at once: the second one waits for the first, and is refused.
my $first = $f->parent->background_psql('dw');
$first->query_safe("BEGIN; SELECT fleet.restart_run($run)");
my ($out, $err) = ('', '');
my $second = IPC::Run::start([ 'psql', '-X', '-At', '-h', $f->parent->host, '-p', $f->parent->port, '-d', 'dw', '-v', 'VERBOSITY=verbose', '-c', "SELECT fleet.restart_run($run)" ], '>', \$out, '2>', \$err);
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'restart_run' AND pid <> pg_backend_pid()}, '1', 'a second session restarts it too, and waits');
$first->query_safe('COMMIT');
$second->finish;
like($err, qr/ERROR:  55000: run $run has already been restarted/, 'and is refused');
is($f->sql("SELECT count(*) FROM fleet.run WHERE restart_of = $run"), '1', 'there is one restart');
$first->quit;

# ---- who may -----------------------------------------------------------------------------------

$f->sql(q{CREATE ROLE mine LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE op LOGIN; GRANT fleet_operator TO op; CREATE ROLE reader LOGIN; GRANT fleet_reader TO reader});
$run = (split /\n/, $f->sql_as('mine', q{SELECT fleet.create_package('mine'); SELECT fleet.add_task('mine', 't', sql => 'SELECT 1/0'); SELECT fleet.run_parent_package('mine')}))[-1];
$f->run_is($run, 'failed', "a role's run");
$f->fails("SELECT fleet.restart_run($run)", '42704', 'a role that does not see it is told that there is none', as => 'stranger');
$f->fails("SELECT fleet.restart_run($run)", '42501', 'a role that sees it only may not restart it', as => 'reader');
$again = $f->sql_as('op', "SELECT fleet.restart_run($run)");
$f->run_is($again, 'failed', 'an operator may');
is($f->sql("SELECT owner || ' ' || requested_by FROM fleet.run WHERE run_id = $again"), 'mine op', 'as its owner, and the run says who');
$third = $f->sql_as('mine', "SELECT fleet.restart_run($again)");
$f->run_is($third, 'failed', 'the owner may');

# ---- counted as succeeded; canceled runs -------------------------------------------------------

$f->package('cut', k1 => { job => 'item', server => 'd1', params => '{"key": "k1"}' }, task('k2', after => '{k1}'), task('k3', after_failure_of => '{k1}'));
break_it('hang', 'k1');
$run = $f->start('cut');
$f->wait_started('k1', 1);
$f->wait_for('d1', q{SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'PgSleep'}, '1', 'a step is cut off');
$f->run_is($run, 'succeeded', 'which another task handles');
is(states($run), 'k1 unknown, k2 skipped, k3 succeeded', 'its tasks');
repair();
new_starts();
$f->fails("SELECT fleet.restart_run($run, from_task => 'k2')", '55000', 'with a task too, it is asked what became of it', help => 1);
$again = restart($run, q{from_task => 'k2', unknown => 'succeeded'});
$f->run_is($again, 'succeeded', 'it counts as succeeded');
is(starts('k1') . starts('k2') . starts('k3'), '010', 'and what comes after its success runs');
is($f->sql("SELECT message FROM fleet.task_run WHERE run_id = $again AND task = 'k1'"), "counts as succeeded, though it was unknown in run $run", 'which is on record');

$f->package('stopped', s1 => { sql => 'SELECT etl.task()', params => '{"key": "s1"}' }, s2 => { sql => 'SELECT etl.work_until_released()', params => '{"key": "s2"}', after => '{s1}' });
$run = $f->start('stopped');
$f->wait_started('s2', 1);
$f->fails("SELECT fleet.restart_run($run)", '55000', 'a run that has not ended is not restarted', help => 1);
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'it is canceled');
new_starts();
$f->release('s2');
$again = restart($run);
$f->run_is($again, 'succeeded', 'a canceled run is restarted');
is(starts('s1') . starts('s2'), '01', 'where it was stopped');

# ---- parts of a package, and disabled tasks -----------------------------------------------------

my $reasons = sub { return $f->sql("SELECT string_agg(concat_ws(' ', task, state, message), ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $_[0]"); };
my $part = sub { my ($more) = @_; new_starts(); my $r = $f->sql("SELECT fleet.run_parent_package('parts', $more)"); $f->run_is($r, 'succeeded', "a part: $more"); return $r; };
$f->package('parts', task('p1'), task('p2', after => '{p1}'), p3 => { sql => 'SELECT 1/0', after => '{p2}', for_each => 'SELECT 1 AS i' }, task('p4', after => '{p3}'), task('p5', after_failure_of => '{p2}'));
my $not = 'skipped not chosen for this run';
$run = $part->(q{only_tasks => '{p2}'});
is($reasons->($run), "p1 $not, p2 succeeded, p3 $not, p4 $not, p5 $not", 'only one task: the others are skipped, and say why');
is(starts('%'), 1, 'and nothing else starts');
$run = $part->(q{from_task => 'p4', only_tasks => '{p1}'});
is($reasons->($run), "p1 succeeded, p2 $not, p3 $not, p4 succeeded, p5 $not", 'from a task on, and another one');
$run = $part->(q{skip_tasks => '{p3}'});
is($reasons->($run), 'p1 succeeded, p2 succeeded, p3 skipped skipped for this run, p4 succeeded, p5 skipped', 'all but one: it counts as passed');
$f->fails(q{SELECT fleet.run_parent_package('parts', only_tasks => '{p1,q1}', skip_tasks => '{q2}')}, '42704', 'tasks that there are not', help => 1, like => 'no task "q1", "q2"');
$f->fails(q{SELECT fleet.run_parent_package('parts', only_tasks => '{p1}', skip_tasks => '{p1}')}, '22023', 'no task is left', help => 1);
$f->sql(q{SELECT fleet.alter_task('parts', 'p3', enabled => false)});
is($f->sql(q{SELECT string_agg(task, ' ' ORDER BY task_no) FROM fleet.task WHERE package = 'parts' AND NOT enabled}), 'p3', 'a task is disabled');
$run = $part->(q{params => '{}'});
is($reasons->($run), 'p1 succeeded, p2 succeeded, p3 skipped disabled, p4 succeeded, p5 skipped', 'a disabled task counts as passed');
is($f->sql(q{SELECT count(*) FROM fleet.plan('night') WHERE task = 'items'}), '300', 'the plan finds items that were carried over as a whole');
is($f->sql(q{SELECT string_agg(DISTINCT task, ' ' ORDER BY task) FROM fleet.plan('parts')}), 'p1 p2 p4', 'the plan knows');
break_it('fail', 'p2');
$run = $f->start('parts');
$f->run_is($run, 'succeeded', 'a failure before it, which is handled');
is($reasons->($run), 'p1 succeeded, p2 failed task p2 is broken, p3 skipped disabled, p4 skipped, p5 succeeded', 'a disabled task does not hide a failure before it');
$run = $f->sql(q{SELECT fleet.run_parent_package('parts', skip_tasks => '{p1,p5}')});
$f->run_is($run, 'succeeded', 'the task that would handle it is left out');
repair();
new_starts();
$again = restart($run, q{definition => 'current', from_task => 'p2'});
$f->run_is($again, 'succeeded', 'a restart of a part');
is($reasons->($again), 'p1 skipped skipped for this run, p2 succeeded, p3 skipped disabled, p4 succeeded, p5 skipped skipped for this run', 'is one of the same part');
$f->sql(q{SELECT fleet.alter_task('parts', 'p3', enabled => true)});
$f->fails(q{SELECT fleet.alter_task('parts', 'p9', enabled => true)}, '42704', 'a task that there is not', help => 1);

# The agent ends behind a task that was left out: its successor knows that it passed.
$f->package('behind', d1 => { sql => 'SELECT 1', enabled => 'false' }, d2 => { sql => 'SELECT etl.work_until_released()', params => '{"key": "d2"}', after => '{d1}' },
    d3 => { nested => 'inner', after => '{d1,d2}' });
$run = $f->start('behind');
$f->wait_started('d2', 1);
my $old_agent = $f->agent_pid('parent');
$f->sql("SELECT pg_terminate_backend($old_agent)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $old_agent", '0', 'the agent ends behind a disabled task');
$f->release('d2');
$f->run_is($run, 'succeeded', 'what follows both runs');
is(states($run), 'd1 skipped, d2 succeeded, d3 succeeded', 'all of it');

# ---- the agent ends in the middle --------------------------------------------------------------

my $SLICE = 2048;                # STORE_SLICE of agent/query.c
my $items = 2 * $SLICE + 50;     # a cancel that comes during the second slice is heard before the third one
$f->package('many', t => { sql => 'SELECT etl.quick()',
    for_each => "SELECT jsonb_build_object('key', 'x' || i) FROM generate_series(1, $items) AS i" });
break_it('fail', 'x3', "x$items");
break_it('well', 'x9');
$run = $f->start('many');
$f->run_is($run, 'failed', 'two of many items fail');
repair();
break_it('well', 'x3', 'x9', "x$items");
new_starts();
my $rows = sub { return $f->sql("SELECT count(*) FILTER (WHERE state = 'succeeded') || ' ' || count(*) FILTER (WHERE state = 'queued') || ' ' || count(*) FILTER (WHERE attempt > 0) FROM fleet.task_run WHERE run_id = $_[0] AND item > 0"); };
$f->point('parent', 'items_next_slice', 'wait');
$again = restart($run);
$f->point_waits('parent', 'items_next_slice', 'one slice of the items is taken over');
is($rows->($again), ($SLICE - 1) . ' 1 0', 'that many are there');
my $agent = $f->agent_pid('parent');
$f->sql("SELECT pg_terminate_backend($agent)");
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $agent", '0', 'the agent ends there');
$f->point('parent', 'items_next_slice', 'wait');
$f->point_waits('parent', 'items_next_slice', 'the next one begins with the first of them again');
is($rows->($again), ($SLICE - 1) . ' 1 0', 'and has each once');
$f->point_release('parent', 'items_next_slice');
$f->run_is($again, 'succeeded', 'and comes to the end');
is(starts('x%') . ' ' . starts('x3') . ' ' . starts("x$items"), '2 1 1', 'the two items ran, once each');
is($rows->($again), "$items 0 2", 'the others did not');

# A cancel there leaves a part of the items; the restart of that one has all of them.
break_it('fail', 'x5');
new_starts();
$f->sql("SELECT fleet.restart_run($again, from_task => 't')");
my $broken = $f->sql('SELECT max(run_id) FROM fleet.run');
$f->run_is($broken, 'failed', 'once more, from that task on');
repair();
break_it('well', 'x5');
new_starts();
$f->point('parent', 'items_next_slice', 'wait');
$again = restart($broken);
$f->point_waits('parent', 'items_next_slice', 'one slice of the items is taken over');
$f->sql("SELECT fleet.cancel_run($again)");
$f->point_release('parent', 'items_next_slice');
$f->run_is($again, 'canceled', 'the restart is canceled there');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $again AND item > 0"), 2 * $SLICE, 'before all of them are');
$third = restart($again);
$f->run_is($third, 'succeeded', 'and restarted');
is($rows->($third), "$items 0 1", 'it has all items');
is(starts('x5'), 1, 'and runs the one that was broken');

$f->done(crashes => 1);
