# Containers: sequences and loops of tasks of a package, on servers of both modes.  What really started is what the
# witness saw.  077_containers_ended.pl ends agents meanwhile.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

$f->sql_on($_, <<'SQL') for qw(parent a1 d1);
CREATE TABLE etl.broken (key text);
GRANT SELECT ON etl.broken TO PUBLIC;
CREATE FUNCTION etl.task(more text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.witness('start');
    IF EXISTS (SELECT FROM etl.broken WHERE key = etl.key()) THEN
        RAISE EXCEPTION 'task % is broken', etl.key();
    END IF;
    INSERT INTO etl.effect (key) VALUES (etl.key());
    RETURN 'done ' || etl.key() || more;
END $$;
SQL
sub break_it { my (@keys) = @_; $f->sql_on($_, "INSERT INTO etl.broken SELECT unnest('{" . join(',', @keys) . "}'::text[])") for qw(parent a1 d1); return; }
sub repair { $f->sql_on($_, 'TRUNCATE etl.broken') for qw(parent a1 d1); return; }
sub starts { my ($like) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key LIKE '$like'"); }
sub new_starts { $f->sql_on('witness', "UPDATE event SET what = 'earlier' WHERE what = 'start'"); return; }
sub task { my ($key, %more) = @_; return { sql => 'SELECT etl.task()', params => qq({"key": "$key"}), %more }; }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || CASE WHEN item > 0 THEN '[' || item || ']' ELSE '' END || ' ' || state, ', ' ORDER BY task_no, item) FROM fleet.task_run WHERE run_id = $run"); }
# The nested run of a container: its newest attempt.
sub inside { my ($run, $container, $item) = @_; $item //= 0; return $f->sql("SELECT max(r.run_id) FROM fleet_catalog.run AS r JOIN fleet.task_run AS t ON t.run_id = r.parent_run_id AND t.task_no = r.parent_task_no AND t.item = r.parent_item WHERE r.parent_run_id = $run AND t.task = '$container' AND t.item = $item"); }
sub within { my ($run, $sql) = @_; return qq(BEGIN; SET LOCAL fleet.context = '{"run_id": $run}'; $sql; COMMIT); }
sub outputs { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || coalesce(output, '-'), ', ' ORDER BY task_no, item) FROM fleet.task_run WHERE run_id = $run AND item = 0"); }

# ---- a sequence, then a loop over several tasks; what came before is seen in them ---------------

$f->job('load', { sql => q{SELECT etl.task(' ' || (current_setting('fleet.params')::jsonb ->> 'of') || ' ' || (current_setting('fleet.params')::jsonb ->> 'day'))} });
$f->package('night', '-params' => '{"day": null}',
    check => task('check'),
    stage => { container => 'true', params => '{"of": "stage"}', after => '{check}' },
    'stage/clear' => task('clear'),
    'stage/load' => { job => 'load', server => 'a1', params => '{"key": "load", "of": {"$output": "clear"}}', after => '{clear}' },
    'stage/both' => { job => 'load', server => 'd1', params => '{"key": "both", "of": {"$output": "stage/load"}}', after => '{stage/load}' },
    'stage/sql' => { sql => q{SELECT concat_ws('|', fleet.output('check'), fleet.output('both'), fleet.output('stage/both'), fleet.outcome('stage'), fleet.param('of'), fleet.param('day'), fleet.context('package'), fleet.context('task'))}, after => '{both}' },
    regions => { container => 'true', after => '{stage}', throttle => 2,
        for_each => q{SELECT 'r' || i AS key, fleet.output('stage/clear') AS of FROM generate_series(1, 4) AS i} },
    'regions/extract' => { job => 'load', on_group => 'all' },
    'regions/in' => { container => 'true', after => '{extract}' },
    'regions/in/deep' => { sql => q{SELECT concat_ws('|', fleet.output('extract'), fleet.output('regions/extract'), fleet.output('check'), fleet.output('stage/sql') IS NOT NULL, fleet.param('key'))} },
    tell => { sql => q{SELECT concat_ws('|', fleet.output('stage/load'), fleet.outcome('stage/load'), fleet.outcome('regions'))}, after => '{regions}' });
my $run = $f->start('night', '{"day": "monday"}');
$f->run_is($run, 'succeeded', 'a sequence and a loop over tasks');
is(states($run), 'check succeeded, stage succeeded, regions succeeded, regions[1] succeeded, regions[2] succeeded, regions[3] succeeded, regions[4] succeeded, tell succeeded', 'the tasks of the run are the containers');
my $stage = inside($run, 'stage');
is(states($stage), 'clear succeeded, load succeeded, both succeeded, sql succeeded', 'what is in a container is a nested run');
is(outputs($stage), 'clear done clear, load done load done clear monday, both done both done load done clear monday monday,'
      . ' sql done check|done both done load done clear monday monday|done both done load done clear monday monday|running|stage|monday|night/stage|sql',
    'its tasks see the parameters of the run, under those of the container, and what came before, in both modes');
is($f->sql("SELECT package || ' ' || state || ' ' || done || ' of ' || total FROM fleet.progress WHERE run_id = $stage"), 'night/stage succeeded 4 of 4', 'with a progress of its own');
is($f->sql("SELECT string_agg(output, ', ' ORDER BY i.parent_item) FROM fleet_catalog.run AS i JOIN fleet_catalog.run AS d ON d.parent_run_id = i.run_id JOIN fleet.task_run AS t ON t.run_id = d.run_id WHERE i.parent_run_id = $run AND i.package = 'night/regions'"),
    join(', ', map { "done r$_ done clear monday|done r$_ done clear monday|done check|t|r$_" } 1 .. 4), 'in a loop each sees its own item, at any depth');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $run AND task = 'tell'"), 'done load done clear monday|succeeded|succeeded', 'a task in a sequence is seen from outside by its path');
$f->fails(within($run, q{SELECT fleet.output('regions/extract')}), '55000', 'one in a loop is not', help => 1, like => 'Its tasks can read it');
$f->fails(within($run, q{SELECT fleet.output('stage/none')}), '42704', 'and none that is not there', help => 1);
is(starts('r_'), '4', 'each item once');
is($f->sql(q{SELECT string_agg(DISTINCT package || ' ' || task, ', ') FROM fleet_catalog.duration WHERE package LIKE 'night/%' AND item_key = '' AND task IN ('deep', 'sql')}), 'night/regions/in deep, night/stage sql', 'durations are learned by the container');

# the definition of a run is one: what a container has is as it was when the run began
$f->package('fixed', gate => { sql => 'SELECT etl.work_until_released()', params => '{"key": "gate"}' }, c => { container => 'true', after => '{gate}' }, 'c/old' => task('old'));
$run = $f->start('fixed');
$f->wait_started('gate', 1);
$f->sql(q{SELECT fleet.drop_task('fixed', 'c', cascade => true); SELECT fleet.add_task('fixed', 'c', container => true); SELECT fleet.add_task('fixed', 'c/new', sql => 'SELECT 1')});
$f->release('gate');
$f->run_is($run, 'succeeded', 'a container is changed while its package runs');
is(states(inside($run, 'c')), 'old succeeded', 'the run goes on with what it began with');

# ---- nothing in it -----------------------------------------------------------------------------

$f->package('nothing');
$f->package('empty', c => { container => 'true' }, d => { container => 'true', for_each => 'SELECT 1 AS i UNION ALL SELECT 2', after => '{c}' }, none => { container => 'true', for_each => 'SELECT 1 AS i WHERE false', after => '{d}' }, 'none/t' => task('never'),
    n => { nested => 'nothing', after => '{none}' }, j => { sql => 'SELECT 1', after => '{n}' });
$run = $f->start('empty');
$f->run_is($run, 'succeeded', 'containers and packages without tasks succeed at once');
is(states($run), 'c succeeded, d succeeded, d[1] succeeded, d[2] succeeded, none succeeded, n succeeded, j succeeded', 'each of them');
is($f->sql("SELECT string_agg(state || ' ' || total, ', ') FROM fleet.progress WHERE package IN ('empty/c', 'nothing')"), 'succeeded 0, succeeded 0', 'with no tasks in their runs');
is(starts('never'), '0', 'a loop over nothing starts nothing');
$f->fails(q{SELECT fleet.run_parent_package('nothing')}, '55000', 'a package without tasks is not run when it is asked for', help => 1);

# ---- AND, OR, expressions over what came before, what is disabled, failures -----------------------

$f->package('graph',
    a => task('a'), b => task('b'),
    c => { container => 'true', after => '{a,b}', wait_for => 'any' },
    'c/x' => { sql => 'SELECT 7' }, 'c/y' => task('y'), 'c/z' => task('z'), 'c/or' => task('or', after => '{y,z}', wait_for => 'any'), 'c/and' => task('and', after => '{y,z}'),
    'c/off' => task('off', after => '{or}', enabled => 'false'), 'c/last' => task('last', after => '{off}'),
    'off' => { container => 'true', enabled => 'false' }, 'off/t' => task('never'),
    e => task('e', after => '{off}'), f => task('f', after_failure_of => '{c}'), g => task('g'), h => task('h'));
$f->sql(q{SELECT fleet.add_precedence('graph', 'c', 'g', condition => 'fleet.output(''c/x'')::int > 5');
          SELECT fleet.add_precedence('graph', 'c', 'h', condition => 'fleet.output(''c/x'')::int > 9');
          SELECT fleet.add_task('graph', 'c/more', sql => 'SELECT 1'); SELECT fleet.add_task('graph', 'c/less', sql => 'SELECT 1');
          SELECT fleet.add_precedence('graph', 'x', 'c/more', condition => 'fleet.output(''x'')::int = 7 AND ''succeeded'' IN (fleet.outcome(''a''), fleet.outcome(''b''))');
          SELECT fleet.add_precedence('graph', 'c/x', 'c/less', condition => 'fleet.output(''x'')::int < 7')});
$run = $f->start('graph');
$f->run_is($run, 'succeeded', 'constraints around and in a container');
is(states($run), 'a succeeded, b succeeded, c succeeded, off skipped, e succeeded, f skipped, g succeeded, h skipped', 'around it');
is(states(inside($run, 'c')), 'x succeeded, y succeeded, z succeeded, or succeeded, and succeeded, off skipped, last succeeded, more succeeded, less skipped', 'in it');
break_it('b', 'z');
$run = $f->start('graph');
$f->run_is($run, 'failed', 'what fails in a container fails it');
is(states(inside($run, 'c')), 'x succeeded, y succeeded, z failed, or succeeded, and skipped, off skipped, last succeeded, more succeeded, less skipped', 'OR goes on without what failed, AND does not');
is(states($run), 'a succeeded, b failed, c failed, off skipped, e succeeded, f succeeded, g skipped, h skipped', 'and what follows it by its outcome');
like($f->sql("SELECT message FROM fleet.task_run WHERE run_id = $run AND task = 'c'"), qr/^task "z" failed: task z is broken/, 'it says which and why');

# a failure that is handled in the container is none of it
repair();
$f->package('handled', c => { container => 'true' }, 'c/bad' => task('bad'), 'c/care' => task('care', after_failure_of => '{bad}'), d => task('d', after => '{c}'));
break_it('bad');
$run = $f->start('handled');
$f->run_is($run, 'succeeded', 'a failure that is handled in a container');

# ---- restart, retry, skip, cancel ---------------------------------------------------------------

repair();
new_starts();
my @loop = (for_each => q{SELECT 'l' || i AS key FROM generate_series(1, 3) AS i});
$f->job('item', { sql => 'SELECT etl.task()' });
$f->package('again',
    seq => { container => 'true' }, 'seq/one' => task('one'), 'seq/two' => task('two', after => '{one}'),
    loop => { container => 'true', after => '{seq}', @loop }, 'loop/first' => { job => 'item', on_group => 'all' },
    'loop/second' => { sql => q{SELECT etl.task() FROM set_config('fleet.params', jsonb_set(current_setting('fleet.params')::jsonb, '{key}', to_jsonb('s' || fleet.param('key')))::text, true)}, after => '{first}' });
break_it('two');
$run = $f->start('again');
$f->run_is($run, 'failed', 'a task in a sequence fails');
repair();
break_it('sl2');
my $second = $f->sql("SELECT fleet.restart_run($run)");
$f->run_is($second, 'failed', 'restarted, the sequence continues, and a task in the loop fails');
is(starts('one') . starts('two'), '12', 'what succeeded in the sequence was carried over');
repair();
my $third = $f->sql("SELECT fleet.restart_run($second)");
$f->run_is($third, 'succeeded', 'restarted, the loop continues');
is(starts('one') . starts('two') . starts('l_') . starts('sl1') . starts('sl2') . starts('sl3'), '123121', 'and only what had failed in it starts');
is($f->sql(within($third, q{SELECT fleet.output('seq/two')})), 'done two', 'what was carried over is seen by its path');

# from a task in a container on: the container is continued there, in each item of a loop, and what follows runs again
new_starts();
$run = $f->sql("SELECT fleet.restart_run($third, from_task => 'loop/second')");
$f->run_is($run, 'succeeded', 'restarted at a task in a loop');
is(starts('one') . starts('two') . starts('l_') . starts('sl1') . starts('sl2') . starts('sl3'), '000111', 'every item begins there');
is($f->sql("SELECT string_agg(t.task || ' ' || coalesce(t.carried_from::text, 'ran'), ', ' ORDER BY r.parent_item, t.task_no) = "
      . "string_agg(t.task || CASE t.task WHEN 'first' THEN ' ' || coalesce(o.carried_from, o.run_id) ELSE ' ran' END, ', ' ORDER BY r.parent_item, t.task_no) "
      . "FROM fleet_catalog.run AS r JOIN fleet.task_run AS t ON t.run_id = r.run_id JOIN fleet.task_run AS o ON o.run_id = r.restart_of AND o.task = t.task WHERE r.parent_run_id = $run"),
    't', 'what comes before it is carried over in each');
new_starts();
$run = $f->sql("SELECT fleet.restart_run($run, from_task => 'seq/two')");
$f->run_is($run, 'succeeded', 'restarted at a task in a sequence');
is(starts('one') . starts('two') . starts('l_') . starts('sl_'), '0133', 'it runs again, and what follows its container, afresh');

# only a part of it
new_starts();
$run = $f->sql(q{SELECT fleet.run_parent_package('again', only_tasks => '{seq/two}')});
$f->run_is($run, 'succeeded', 'only a task in a container');
is(starts('%'), '1', 'and nothing else');
is(states(inside($run, 'seq')), 'one skipped, two succeeded', 'of the container');
$run = $f->sql(q{SELECT fleet.run_parent_package('again', from_task => 'seq/two', skip_tasks => '{loop/first}')});
$f->run_is($run, 'succeeded', 'from a task in a container, without one in another');
is(starts('one') . starts('two') . starts('l_') . starts('sl_'), '0203', 'what follows it, in the container and outside');

# a live run: by path
new_starts();
$f->package('live',
    seq => { container => 'true' }, 'seq/gate' => { sql => 'SELECT etl.work_until_released()', params => '{"key": "g1"}' }, 'seq/next' => task('next', after => '{gate}'), 'seq/bad' => task('bad2'),
    loop => { container => 'true', for_each => q{SELECT 'm' || i AS key FROM generate_series(1, 2) AS i} },
    'loop/gate' => { sql => 'SELECT etl.work_until_released()' }, 'loop/after' => task('after', after => '{gate}'), 'loop/each' => { sql => 'SELECT etl.work_until_released()', for_each => q{SELECT fleet.param('key') || 'e' || i AS key FROM generate_series(1, 2) AS i} },
    later => { container => 'true', after => '{seq}' }, 'later/t' => task('later'));
break_it('bad2');
$run = $f->start('live');
$f->wait_started($_, 1) for qw(g1 m1 m2 m1e1 m1e2);
my $seq = inside($run, 'seq');
$f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $seq AND task = 'bad'", 'failed', 'a task in a container has failed');
repair();
$f->sql("SELECT fleet.skip_task($run, 'seq/next', reason => 'as asked')");
$f->sql("SELECT fleet.retry_task($run, 'seq/bad')");
$f->sql("SELECT fleet.skip_task($run, 'loop/after', item => 2)");
$f->sql("SELECT fleet.skip_task($run, 'loop[1]/after')");
$f->fails("SELECT fleet.skip_task($run, 'loop/after')", '55000', 'a task of a loop without its item', help => 1, like => q{loop\[1\]/after});
$f->fails("SELECT fleet.skip_task($run, 'loop/each', item => 2)", '55000', 'an item of a for_each in a loop', help => 1, like => q{loop\[1\]/each});
$f->fails("SELECT fleet.skip_task($run, 'loop[1]/each', item => 2)", '55000', 'one that has begun', help => 1);
$f->fails("SELECT fleet.skip_task($run, 'loop[9]/after')", '55000', 'an item that there is not', help => 1, like => 'has not begun');
$f->fails("SELECT fleet.skip_task($run, 'later/t')", '55000', 'a container that has not begun', help => 1, like => 'has not begun');
$f->fails("SELECT fleet.skip_task($run, 'seq/none')", '42704', 'a task that there is not', help => 1);
$f->fails("SELECT fleet.retry_task($run, 'seq/gate')", '55000', 'one that has not failed', help => 1);
$f->release($_) for qw(g1 m1 m2 m1e1 m1e2 m2e1 m2e2);
$f->run_is($run, 'succeeded', 'tasks in containers are skipped and retried by their paths');
is(states($seq), 'gate succeeded, next skipped, bad succeeded', 'in the sequence');
is(states(inside($run, 'loop', $_)), 'gate succeeded, after skipped, each succeeded, each[1] succeeded, each[2] succeeded', "in item $_ of the loop") for 1, 2;
is(starts('bad2') . starts('after') . starts('next'), '200', 'what was retried started twice, what was skipped not at all');

# a container is retried, by its retries and on request
new_starts();
$f->package('retried', c => { container => 'true', retries => 1, retry_wait => '1ms', retry_sqlstates => '{P0001}' }, 'c/t' => task('t'), 'c/u' => task('u', after => '{t}'),
    hold => { sql => 'SELECT etl.work_until_released()', params => '{"key": "hold"}' });
break_it('u');
$run = $f->start('retried');
$f->wait_for('parent', "SELECT state || attempt FROM fleet.task_run WHERE run_id = $run AND task = 'c'", 'failed2', 'a container is tried again, and fails again');
is(starts('t') . starts('u'), '22', 'each attempt is a run of all of it');
repair();
$f->sql("SELECT fleet.retry_task($run, 'c')");
$f->release('hold');
$f->run_is($run, 'succeeded', 'retried on request it succeeds');
is(starts('t') . starts('u'), '33', 'with a further run');

# timeout and cancel
$f->package('stopped', c => { container => 'true', timeout => '100ms' }, 'c/slow' => { sql => 'SELECT pg_sleep(600)' });
$run = $f->start('stopped');
$f->run_is($run, 'failed', 'the timeout of a container stops what is in it');
is(states(inside($run, 'c')), 'slow canceled', 'all of it');
$f->package('canceled', loop => { container => 'true', for_each => q{SELECT 'c' || i AS key FROM generate_series(1, 3) AS i} }, 'loop/d' => { job => 'hangs', server => 'd1' }, 'loop/a' => { job => 'hangs', server => 'a1' })
  if $f->job('hangs', { sql => 'SELECT etl.work_until_released()' }) || 1;
$run = $f->start('canceled');
$f->wait_started($_, 2) for qw(c1 c2 c3);
$f->sql("SELECT fleet.cancel_run($run)");
$f->run_is($run, 'canceled', 'a cancel reaches all that a loop has started');
is($f->sql("SELECT string_agg(DISTINCT state, ' ') FROM fleet.task_run WHERE run_id IN (SELECT run_id FROM fleet_catalog.run WHERE parent_run_id = $run)"), 'canceled', 'all of it');

# ---- a package of containers in a step of a job, deployed to a server ----------------------------

$f->package('there', s => { container => 'true' }, 's/t' => task('there'), 's/in' => { container => 'true', after => '{t}' }, 's/in/u' => task('deeper'));
$f->job('there', { name => 'p', package => 'there' });
$f->package('sends', t => { job => 'there', server => 'a1' });
for my $round (1, 2)
{
    $run = $f->start('sends');
    $f->run_is($run, 'succeeded', "a job on a server runs a package with containers ($round)");
    is($f->effects('a1', 'deeper'), $round, 'there');
    $f->deploy('there'); # once more over what is there
}
is($f->sql_on('a1', q{SELECT string_agg(task || ' ' || container, ', ' ORDER BY task) FROM fleet.task WHERE package = 'there'}), 's true, s/in true, s/in/u false, s/t false', 'it has them as they are here');

$f->done;
