# Requests and what becomes of them: overlap policies, run keys, what was rolled back, parameters on
# their way down and results on their way up through nested packages, definitions that change while
# a run is under way, what every column of the views says, and plans against what really happens.
use strict;
use warnings;
use FleetTest 'quote_literal';
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 2);
my $parent = $f->parent;
for my $server (qw(parent a1 d1))
{
    $f->sql_on($server, <<'SQL');
SET ROLE etl;
CREATE TABLE etl.trace (id bigserial, key text, what text, params jsonb DEFAULT current_setting('fleet.params', true)::jsonb);
CREATE FUNCTION etl.mark(what text) RETURNS text LANGUAGE sql AS
    'INSERT INTO etl.trace (key, what) VALUES (etl.key(), mark.what) RETURNING trace.what';
GRANT USAGE ON SCHEMA etl TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA etl TO PUBLIC;
GRANT ALL ON ALL SEQUENCES IN SCHEMA etl TO PUBLIC;
SQL
}
sub trace { my ($server, $key) = @_; return $f->sql_on($server, "SELECT coalesce(string_agg(what, ' ' ORDER BY id), '') FROM etl.trace WHERE key = '$key'"); }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || CASE WHEN item > 0 THEN item::text ELSE '' END || '=' || state, ' ' ORDER BY task_no, item) FROM fleet.task_run WHERE run_id = $run"); }
sub told { my ($run, $task) = @_; return $f->sql("SELECT concat_ws(' ', state, sqlstate, message) FROM fleet.task_run WHERE run_id = $run AND item = 0 AND task = '$task'"); }
sub run_of { my ($package, $more) = @_; return "fleet.run_parent_package('$package'" . ($more ? ", $more" : '') . ')'; }

# A session that stays open: do() runs statements and gives their output.
my $said = 0;
sub session { return $parent->background_psql($FleetTest::DB); }
sub begin_in { my ($s, $sql) = @_; $said++; $s->{stdin} .= "$sql;\n\\echo said-$said-\n"; $s->{run}->pump_nb; return qr/said-$said-/; }
sub end_in
{
    my ($s, $until) = @_;
    my $out = $s->query_until($until, '');
    $out =~ s/said-\d+-\s*//g;
    $out =~ s/\s+\z//;
    return $out;
}
sub in_session { my ($s, $sql) = @_; return end_in($s, begin_in($s, $sql)); }
sub wait_blocked { my ($name) = @_; return $f->wait_for('parent', q{SELECT count(*) FROM pg_locks WHERE NOT granted}, '1', $name); }

# ---- overlap -----------------------------------------------------------------------------------

my $hold = { sql => 'SELECT etl.work_until_released()' };
$f->package('parallel', -params => '{"key": "parallel"}', t => $hold);
$f->package('skip', -params => '{"key": "skip"}', t => $hold);
$f->package('around', -params => '{"key": "around"}', t => { nested => 'skip', params => '{"key": "nested"}' });
$f->sql(q{SELECT fleet.alter_package('skip', overlap => 'skip')});

my ($first, $second) = split /\n/, $f->sql('SELECT ' . run_of('parallel') . '; SELECT ' . run_of('parallel'));
isnt($first, $second, 'parallel: two requests are two runs');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'parallel' AND what = 'start'}, '2', 'that run at the same time');

# a nested run of the same package is not in its way
my $outer = $f->start('around');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'nested' AND what = 'start'}, '1', 'a nested run of the package');
my $skip = $f->start('skip');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'skip' AND what = 'start'}, '1', 'skip: the first one runs');
my ($rc, $out, $err) = $f->try_as(undef, 'SELECT ' . run_of('skip'));
is($out, $skip, 'skip: while it runs, a request returns it');
like($err, qr/NOTICE:  00000: package "skip" is already running, skipping\nDETAIL:  Its run is $skip\.\nHINT:  Its overlap policy is "skip"\./, 'and says so');
is($f->sql(q{SELECT count(*) FROM fleet.run WHERE package = 'skip' AND parent_run_id IS NULL}), '1', 'and makes no row');
$f->release($_) for qw(nested skip parallel);
$f->run_is($_->[0], 'succeeded', "$_->[1] ends") for [ $first, 'parallel' ], [ $second, 'parallel, the second,' ], [ $skip, 'skip' ], [ $outer, 'the one around it' ];
my $again = $f->start('skip');
isnt($again, $skip, 'skip: when it has ended, the next request is a run of its own');
$f->run_is($again, 'succeeded', 'which runs');
is($f->witnessed('skip', 'start'), 2, 'so there were two executions');
# two sessions at the same time
my ($one, $two) = (session(), session());
my $id = in_session($one, 'BEGIN; SELECT ' . run_of('skip'));
my $until = begin_in($two, 'SELECT ' . run_of('skip'));
wait_blocked('skip: a second session waits for what the first one makes of it');
in_session($one, 'COMMIT');
is(end_in($two, $until), $id, 'committed: it gets the same run');
$f->run_is($id, 'succeeded', 'skip, from two sessions');
is($f->witnessed('skip', 'start'), 3, 'one execution');
$id = in_session($one, 'BEGIN; SELECT ' . run_of('skip'));
$until = begin_in($two, 'SELECT ' . run_of('skip'));
wait_blocked('skip: again');
in_session($one, 'ROLLBACK');
my $other = end_in($two, $until);
isnt($other, $id, 'rolled back: it starts one of its own');
$f->run_is($other, 'succeeded', 'which runs');
is($f->witnessed('skip', 'start'), 4, 'once');

# ---- run keys ----------------------------------------------------------------------------------

$f->package($_, -params => "{\"key\": \"$_\", \"n\": 1}", t => { sql => 'SELECT etl.work()' }) for qw(keyed keyed_too);
my $key = q{run_key => '2026-11-23'};
my @id = split /\n/, $f->sql('SELECT ' . run_of('keyed', $key) . '; SELECT ' . run_of('keyed_too', $key) . '; SELECT ' . run_of('keyed', "params => '{\"n\": 2}', $key")
      . '; SELECT ' . run_of('keyed', q{run_key => '2026-11-24'}));
isnt($id[1], $id[0], 'one run key with two packages: two runs');
is($id[2], $id[0], 'twice with one package: one run, whatever the parameters are');
isnt($id[3], $id[0], 'another key: another run');
$f->run_is($_, 'succeeded', "run $_") for @id[ 0, 1, 3 ];
is($f->sql('SELECT ' . run_of('keyed', $key)), $id[0], 'the same when it has ended');
is($f->sql("SELECT params ->> 'n' || ' ' || run_key FROM fleet.run WHERE run_id = $id[0]"), '1 2026-11-23', 'its parameters and its key are those of the first request');
is($f->witnessed('keyed', 'start') . $f->effects('parent', 'keyed') . $f->witnessed('keyed_too', 'start'), '221', 'one execution for each package and key');
$id = in_session($one, 'BEGIN; SELECT ' . run_of('keyed', q{run_key => 'both'}));
$until = begin_in($two, 'SELECT ' . run_of('keyed', q{run_key => 'both'}));
wait_blocked('run key: a second session waits for the first one');
in_session($one, 'COMMIT');
is(end_in($two, $until), $id, 'committed: it gets the same run');
$f->run_is($id, 'succeeded', 'which runs');
is($f->witnessed('keyed', 'start'), 3, 'once');
$id = in_session($one, 'BEGIN; SELECT ' . run_of('keyed', q{run_key => 'neither'}));
$until = begin_in($two, 'SELECT ' . run_of('keyed', q{run_key => 'neither'}));
wait_blocked('run key: again');
in_session($one, 'ROLLBACK');
$other = end_in($two, $until);
isnt($other, $id, 'rolled back: the second one is the first');
$f->run_is($other, 'succeeded', 'which runs');
is($f->witnessed('keyed', 'start'), 4, 'once');
my ($none, $none_too) = split /\n/, $f->sql('SELECT ' . run_of('keyed') . '; SELECT ' . run_of('keyed'));
isnt($none, $none_too, 'without a key each request is a run of its own');
$f->run_is($_, 'succeeded', "run $_ without a key") for $none, $none_too;
is($f->witnessed('keyed', 'start'), 6, 'so both are executed');

# ---- what is rolled back starts nothing --------------------------------------------------------

$f->package('rolled', -params => '{"key": "rolled"}', t => { sql => 'SELECT etl.work()' });
$f->sql(q{SELECT fleet.create_job('rolled'); SELECT fleet.add_step('rolled', 's', 'SELECT etl.work()')});
my $start = q{fleet.start_job('rolled', '{"key": "rolled"}')};
$f->sql('BEGIN; SELECT ' . run_of('rolled') . "; SELECT $start; ROLLBACK");
$f->sql('BEGIN; SAVEPOINT s; SELECT ' . run_of('rolled') . "; SELECT $start; ROLLBACK TO s; COMMIT");
$f->sql('DO $$BEGIN PERFORM ' . run_of('rolled') . "; PERFORM $start; RAISE EXCEPTION 'x'; EXCEPTION WHEN raise_exception THEN NULL; END\$\$");
my ($run, $job_run) = split /\n/, $f->sql('BEGIN; SAVEPOINT s; SELECT ' . run_of('rolled') . '; RELEASE s; SAVEPOINT t; SELECT ' . run_of('rolled') . "; ROLLBACK TO t; SELECT $start; COMMIT") =~ s/\n\d+\n/\n/r;
$f->run_is($run, 'succeeded', 'what was committed runs');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job_run", 'succeeded', 'so does the job');
is($f->witnessed('rolled', 'start') . $f->effects('parent', 'rolled'), '22', 'what was rolled back has started nothing');
is($f->sql(q{SELECT (SELECT count(*) FROM fleet.run WHERE package = 'rolled') || ' ' || (SELECT count(*) FROM fleet.job_run WHERE job = 'rolled')}), '1 1', 'and left no row');
$one->quit;
$two->quit;

# ---- parameters --------------------------------------------------------------------------------

# run over package, task over run, item over task; the job's own defaults are below all of them
my $odd = q[{"text": "it's \"quoted\" \\\\ and a\nline, {curly}", "number": 12345678901234567890.125, "null": null, "deep": {"a": [1, true]}}];
$f->sql('SELECT fleet.create_job(\'params\', params => \'{"job": "job", "package": "job", "run": "job", "task": "job", "item": "job"}\'); SELECT fleet.add_step(\'params\', \'s\', $$SELECT etl.mark(\'here\')$$)');
$f->deploy('params');
my %target = (here => { sql => q{SELECT etl.mark('here')} }, a1 => { job => 'params', server => 'a1' }, d1 => { job => 'params', server => 'd1' });
my @tasks;
for my $place (qw(here a1 d1))
{
    push @tasks, "one_$place" => { %{ $target{$place} }, params => "{\"key\": \"one\", \"task\": \"task\", \"item\": \"task\", \"odd\": $odd}" },
      "each_$place" => { %{ $target{$place} }, params => '{"key": "each", "task": "task", "item": "task"}', for_each => q{SELECT jsonb_build_object('item', 'item ' || i) FROM generate_series(1, 2) AS i} },
      "plain_$place" => { %{ $target{$place} } };
}
$f->package('params', -params => '{"key": "plain", "package": "package", "run": "package", "task": "package", "item": "package"}', @tasks);
$run = $f->start('params', '{"run": "run", "task": "run", "item": "run"}');
$f->run_is($run, 'succeeded', 'parameters');
my %all = (package => 'package', run => 'run');
for my $place (qw(here a1 d1))
{
    my $server = $place eq 'here' ? 'parent' : $place;
    my $job = $place eq 'here' ? '{}' : '{"job": "job"}';
    my $is = sub {
        my ($k, $what, $expected) = @_;
        my $params = quote_literal($expected);
        is($f->sql_on($server, "SELECT string_agg((params - 'item' = ${params}::jsonb || '$job')::text || ' ' || (params ->> 'item'), ',' ORDER BY id) FROM etl.trace WHERE key = '$k'"),
            $what, "$place, $k: the parameters that the step saw")
          or diag($f->sql_on($server, "SELECT params FROM etl.trace WHERE key = '$k'"));
    };
    $is->('plain', 'true run', '{"key": "plain", "package": "package", "run": "run", "task": "run"}');
    $is->('one', 'true task', "{\"key\": \"one\", \"package\": \"package\", \"run\": \"run\", \"task\": \"task\", \"odd\": $odd}");
    is($f->sql_on($server, q{SELECT string_agg(params ->> 'item', ',' ORDER BY params ->> 'item') || (count(DISTINCT params - 'item' - 'job') = 1)::text || min((params - 'item' - 'job')::text) FROM etl.trace WHERE key = 'each'}),
        'item 1,item 2true{"key": "each", "run": "run", "task": "task", "package": "package"}', "$place, each: the item's own are over the task's");
}
my $job_id = $f->sql(q{SELECT fleet.start_job('params', '{"run": "given"}')});
$f->wait_for('parent', "SELECT state || params::text FROM fleet.job_run WHERE job_run_id = $job_id", 'succeeded{"job": "job", "run": "given", "item": "job", "task": "job", "package": "job"}', 'start_job: given ones over the defaults');

# ---- nested packages ---------------------------------------------------------------------------

$f->package('leaf', -params => '{"key": "leaf", "depth": "leaf", "kept": "leaf"}', mark => { sql => q{SELECT etl.mark('leaf ' || fleet.param('depth') || ' ' || fleet.param('kept') || ' ' || fleet.param('deep'))} });
$f->package('middle', -params => '{"depth": "middle"}', leaf => { nested => 'leaf', params => '{"depth": "task"}' }, after => { sql => q{SELECT etl.mark('after')}, after => '{leaf}' });
$f->package('outer', -params => '{"key": "outer", "deep": "down"}', middle => { nested => 'middle', for_each => q{SELECT jsonb_build_object('key', 'outer' || i) FROM generate_series(1, 2) AS i} },
    after => { sql => q{SELECT etl.mark('after')}, after => '{middle}' });
$run = $f->sql(q{SELECT fleet.run_parent_package('outer', priority => 7)});
$f->run_is($run, 'succeeded', 'a package in a package in a package');
is(join('; ', map { trace('parent', $_) } qw(outer1 outer2 outer leaf)), 'leaf task leaf down after; leaf task leaf down after; after; ', 'parameters go down: over the inner defaults, which stay where nothing is given');
is($f->sql("SELECT string_agg(package || ' ' || (parent_run_id = $run)::text || ' ' || priority || ' ' || state, ', ' ORDER BY run_id) FROM fleet.run WHERE parent_run_id = $run"),
    'middle true 7 succeeded, middle true 7 succeeded', 'each nested run has its row, its parent and its priority');
is(states($run), 'middle=succeeded middle1=succeeded middle2=succeeded after=succeeded', 'states go up');
$f->package('bad_leaf', -params => '{"key": "bad"}', fine => { sql => 'SELECT 1' }, boom => { sql => 'SELECT 1 / 0' });
$f->package('bad_middle', x => { nested => 'bad_leaf' });
$f->package('bad_outer', -params => '{"key": "bad_outer"}', x => { nested => 'bad_middle' }, after => { sql => q{SELECT etl.mark('after')}, after => '{x}' }, help => { sql => q{SELECT etl.mark('help')}, after_failure_of => '{x}' });
$f->package('bad_outer_too', x => { nested => 'bad_middle' });
$run = $f->start('bad_outer');
$f->run_is($run, 'succeeded', 'a failure inside can be handled outside');
is(told($run, 'x'), 'failed P0001 task "x" failed: task "boom" failed: division by zero', 'SQLSTATE and reason come up, level by level');
is(trace('parent', 'bad_outer'), 'help', 'and decide what follows');
$run = $f->start('bad_outer_too');
$f->run_is($run, 'failed', 'or it fails the run');
is($f->sql("SELECT message FROM fleet.run WHERE run_id = $run"), 'task "x" failed: task "x" failed: task "boom" failed: division by zero', 'which tells why');
is($f->sql("SELECT fleet_link.run_failure($run)"), 'x: failed (P0001): task "x" failed: task "boom" failed: division by zero', 'run_failure tells it too');

# ---- definitions of the moment -----------------------------------------------------------------

$f->job('versions', { name => 'hold', sql => 'SELECT etl.work_until_released()' }, { name => 'then', sql => q{SELECT etl.mark('old step')} });
$f->package('versions', -params => '{"key": "v_here"}', hold => $hold, now_a1 => { job => 'versions', server => 'a1', params => '{"key": "v_a1"}' }, now_d1 => { job => 'versions', server => 'd1', params => '{"key": "v_d1"}' },
    then => { sql => q{SELECT etl.mark('old task')}, after => '{hold}' }, then_d1 => { job => 'versions', server => 'd1', after => '{hold}', params => '{"key": "v_then"}' });
$run = $f->start('versions');
$job_run = $f->sql(q{SELECT fleet.start_job('versions', '{"key": "v_job"}')});
$f->wait_started($_) or fail("$_ started") for qw(v_here v_a1 v_d1 v_job);
$f->sql(<<'SQL');
SELECT fleet.drop_step('versions', 'then'), fleet.drop_step('versions', 'hold');
SELECT fleet.add_step('versions', 'new', $$SELECT etl.mark('new step')$$);
SELECT fleet.drop_task('versions', 'then');
SELECT fleet.add_task('versions', 'new', sql => $$SELECT etl.mark('new task')$$, after => '{hold}');
SELECT fleet.alter_package('versions', params => '{"key": "v_new"}');
SQL
is($f->sql(q{SELECT state || ' ' || drift FROM fleet.deployment WHERE job = 'versions'}), 'deployed true', 'a changed job is told as drift');
$f->deploy('versions');
is($f->sql(q{SELECT state || ' ' || drift FROM fleet.deployment WHERE job = 'versions'}), 'deployed false', 'until it is deployed again');
$f->release($_) for qw(v_here v_a1 v_d1 v_job v_then v_new);
$f->run_is($run, 'succeeded', 'a run whose definitions changed meanwhile');
is(join(', ', map { "$_->[0]: " . trace(@$_) } [ parent => 'v_here' ], [ a1 => 'v_a1' ], [ d1 => 'v_d1' ], [ d1 => 'v_then' ], [ parent => 'v_job' ]),
    'parent: old task, a1: old step, d1: old step, d1: old step, parent: old step', 'executes those of the moment in which it started');
$f->wait_for('parent', "SELECT state FROM fleet.job_run WHERE job_run_id = $job_run", 'succeeded', 'so does a job run');
is($f->sql("SELECT string_agg(task, ' ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run"), 'hold now_a1 now_d1 then then_d1', 'and its rows keep their names');
$run = $f->start('versions');
$f->run_is($run, 'succeeded', 'the next run');
is(trace('parent', 'v_new') . ', ' . trace('a1', 'v_a1'), 'new task, old step new step', 'executes the new ones') or diag($f->dump_run($run));

# ---- what the views say ------------------------------------------------------------------------

my $body = q{DO $$BEGIN RAISE NOTICE 'a line'; END$$; SELECT i, 'x' FROM generate_series(7, 9) AS i};
$f->job('viewed', { name => 'first', sql => $body }, { name => 'second', sql => q{UPDATE etl.trace SET what = what WHERE false} }, { name => 'last', sql => $body });
$f->sql(q{SELECT fleet.create_package('viewed', params => '{"key": "viewed"}', priority => 3)});
$f->sql("SELECT fleet.add_task('viewed', 'here', sql => " . quote_literal($body) . "), fleet.add_task('viewed', 'on_a1', job => 'viewed', server => 'a1'), fleet.add_task('viewed', 'on_d1', job => 'viewed', server => 'd1')");
my $before = $f->sql('SELECT clock_timestamp()');
$run = $f->sql(q{SELECT fleet.run_parent_package('viewed', run_key => 'k')});
$f->run_is($run, 'succeeded', 'views');
is($f->sql("SELECT concat_ws(' ', package, state, params, run_key, requested_by, owner, priority, message, parent_run_id, parent_job_run_id) FROM fleet.run WHERE run_id = $run"),
    'viewed succeeded {"key": "viewed"} k ' . join(' ', ($f->sql('SELECT session_user')) x 2) . ' 3', 'run: who, what, with what');
my $in_order = sub { my ($name, @times) = @_; return "SELECT bool_and(" . join(' AND ', map { "$times[$_] <= $times[ $_ + 1 ]" } 0 .. $#times - 1) . ") FROM $name" };
is($f->sql($in_order->("fleet.run WHERE run_id = $run", "'$before'", 'queued_at', 'started_at', 'finished_at', 'clock_timestamp()')), 't', 'run: its times are in order');
is($f->sql("SELECT string_agg(concat_ws(' ', task, item, attempt, kind, coalesce(server, '-'), coalesce(job, '-'), state, row_count, output, coalesce(sqlstate, '-'), package), ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run"),
    'here 0 1 sql - - succeeded 3 7 - viewed, on_a1 0 1 job a1 viewed succeeded 3 7 - viewed, on_d1 0 1 job d1 viewed succeeded 3 7 - viewed', 'task_run: where, how often, how many rows, what value');
is($f->sql($in_order->("fleet.task_run AS t JOIN fleet.run AS r USING (run_id) WHERE run_id = $run", 'r.started_at', 't.started_at', 't.finished_at', 'r.finished_at')), 't', 'task_run: its times are in order, within the run');
is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND queued_at > started_at"), '0', 'task_run: queued before it started');
my $token = $f->sql("SELECT token FROM fleet.task_run WHERE run_id = $run AND task = 'on_a1'");
is($f->sql("SELECT encode(substr(sha256(convert_to(secret || '/' || run_uuid || '/on_a1/0/1', 'UTF8')), 1, 16), 'hex')::uuid FROM fleet.run, fleet_catalog.identity WHERE run_id = $run"), $token, 'task_run: the token derives from a secret, run, task, item and attempt');
is($f->sql_on('a1', "SELECT concat_ws(' ', job, state, row_count, output, requested_by, owner, params, parent_uuid IS NOT NULL, acknowledged_at >= finished_at) FROM fleet.job_run WHERE token = '$token'"),
    'viewed succeeded 3 7 etl etl {"key": "viewed"} t t', 'job_run on the server: the same, by that token, acknowledged after its end');
is($f->sql_on('a1', $in_order->("fleet.job_run WHERE token = '$token'", 'queued_at', 'started_at', 'finished_at')), 't', 'job_run: its times are in order');
for my $place (qw(here on_a1 on_d1))
{
    my $on = $place eq 'here' ? '' : $place =~ s/on_//r . ' ';
    my @names = $place eq 'here' ? ('here') : qw(first second last);
    is($f->sql("SELECT string_agg(concat_ws(' ', package, task, item, server, job, step, attempt, state, row_count, output, sqlstate, message, task_attempt, step_no), ', ' ORDER BY started_at, step_no) FROM fleet.job_log WHERE run_id = $run AND task = '$place'"),
        join(', ', map { "viewed $place 0 $on" . ($on ? 'viewed ' : '') . "$names[$_] 1 succeeded " . ($names[$_] eq 'second' ? '0' : '3 7') . ' 1 ' . ($_ + 1) } 0 .. $#names), "$place: job_log");
    is($f->sql("SELECT bool_and(duration = finished_at - started_at AND duration >= '0') FROM fleet.job_log WHERE run_id = $run AND task = '$place'"), 't', "$place: job_log: how long it took");
    my @lines = map { ("$_ INFO step \"$_\" started", ($_ eq 'second' ? () : "$_ NOTICE a line"), "$_ INFO step \"$_\" succeeded") } @names;
    my $n = 0;
    is($f->sql("SELECT string_agg(concat_ws(' ', seq, server, step, level, message), ', ' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND task = '$place'"), join(', ', map { $n++; "$n $on$_" } @lines), "$place: log");
    is($f->sql("SELECT string_agg(concat_ws(' ', server, step, state, backend_pid IS NOT NULL, xid IS NOT NULL), ', ' ORDER BY step_no) FROM fleet.step_run WHERE run_id = $run AND task = '$place' AND step_no = 1"),
        "$on$names[0] succeeded " . ($place eq 'on_a1' ? 'f f' : 't t'), "$place: step_run: session and transaction, where the step is this agent's");
}
is($f->sql(q{SELECT string_agg(concat_ws(' ', server, mode, state, slots, busy, groups, last_seen > now() - interval '1 day', coalesce(last_error, '-'), split_part(version, '.', 1)), ', ' ORDER BY server) FROM fleet.server_status}),
    join(', ', 'a1 agent online 2 0 {all,agents} t - 15', 'd1 direct online 2 0 {all,direct} t - 15'), 'server_status: servers at rest');
is($f->sql('SELECT string_agg(concat_ws(\' \', server, mode, state, slots, groups, weight, owner, wrapper), \', \' ORDER BY server) FROM fleet.server'),
    'a1 agent online 2 {all,agents} 1 postgres pg_fleet, d1 direct online 2 {all,direct} 1 postgres pg_fleet', 'server: as defined');

# progress while it goes on: one done, one failed, two run, the rest waits
$f->job('progress', q{DO $$BEGIN IF current_setting('fleet.params')::jsonb ->> 'i' = '2' THEN RAISE division_by_zero; ELSIF current_setting('fleet.params')::jsonb ->> 'i' > '2' THEN PERFORM etl.work_until_released(); END IF; END$$});
$f->package('progress', -params => '{"key": "progress"}', t => { job => 'progress', server => 'd1', for_each => q{SELECT jsonb_build_object('i', i) FROM generate_series(1, 7) AS i} }, skipped => { sql => 'SELECT 1', after => '{t}' });
$run = $f->start('progress');
$f->wait_for('witness', q{SELECT count(*) FROM event WHERE key = 'progress' AND what = 'start'}, '2', 'progress: two items run');
$f->wait_for('parent', "SELECT concat_ws(' ', package, total, done, failed, running, queued, state, elapsed > '0', eta > now()) FROM fleet.progress WHERE run_id = $run", 'progress 8 1 1 2 4 running t t', 'progress: one done, one failed, two run, four wait');
is($f->sql(q{SELECT busy || '/' || slots FROM fleet.server_status WHERE server = 'd1'}), '2/2', 'server_status: two slots of two are busy');
$f->fails(q{SELECT fleet.remove_server('d1')}, '55006', 'a busy server is not removed', like => qr/server "d1" is running jobs/, help => 1);
$f->fails(q{SELECT fleet.alter_server('d1', mode => 'agent')}, '55006', '… nor made another mode', like => qr/server "d1" is running jobs/, help => 1);
$f->release('progress');
$f->run_is($run, 'failed', 'progress: it ends');
is($f->sql("SELECT concat_ws(' ', total, done, failed, running, queued, state, eta IS NULL) FROM fleet.progress WHERE run_id = $run"), '8 7 1 0 0 failed t', 'progress: nothing is left, and there is no forecast any more');
is($f->sql("SELECT elapsed = date_trunc('milliseconds', finished_at - started_at) FROM fleet.progress JOIN fleet.run USING (run_id) WHERE run_id = $run"), 't', 'progress: how long it took');

# ---- every failure is told ---------------------------------------------------------------------

# servers with a wrong password: nothing can begin there
$f->sql("SELECT fleet.add_server('w_$_', " . quote_literal($f->conninfo($_)) . ", username => 'etl', password => 'wrong', mode => '" . $f->mode($_) . "', slots => 2)") for qw(a1 d1);
$f->package('refused', map { ("t_$_" => { job => 'viewed', server => "w_$_" }) } qw(a1 d1));
$run = $f->start('refused');
$f->run_is($run, 'failed', 'a server that does not let us in');
for my $place (qw(a1 d1))
{
    like(told($run, "t_$place"), qr/^failed 28P01 .*password authentication failed for user "etl"/, "$place: SQLSTATE and message");
    is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run AND task = 't_$place' AND level = 'ERROR' AND sqlstate = '28P01'"), '1', "$place: one line in the log");
    like($f->sql("SELECT concat_ws(' ', server, state, last_error) FROM fleet.server_status WHERE server = 'w_$place'"), qr/^w_$place auth_failed .*password authentication failed/, "$place: the server's status says why");
}
is($f->sql("SELECT string_agg(concat_ws(' ', task, step, state, sqlstate, finished_at IS NOT NULL), ', ') FROM fleet.step_run WHERE run_id = $run"), 't_d1 first failed 28P01 t', 'the step that never began does not stay "starting"');
$f->package('nowhere', hold => { %$hold, params => '{"key": "nowhere"}' }, job => { job => 'no_such_job', server => 'a1' }, gone => { job => 'viewed', server => 'w_d1', after => '{hold}' });
$run = $f->start('nowhere');
$f->wait_started('nowhere');
$f->sql(q{SELECT fleet.remove_server('w_d1', cascade => true)});
$f->release('nowhere');
$f->run_is($run, 'failed', 'a job that is not there, a server that is gone');
is(told($run, 'job'), 'failed 42704 job "no_such_job" does not exist', 'what the server says is the task\'s reason');
is(told($run, 'gone'), 'failed 42704 there is no server "w_d1"', 'a server that was removed since the run began');
is($f->sql("SELECT string_agg(concat_ws(' ', task, seq, level, sqlstate, message), ', ' ORDER BY task) FROM fleet.log WHERE run_id = $run AND level = 'ERROR'"),
    'gone 1 ERROR 42704 there is no server "w_d1", job 1 ERROR 42704 job "no_such_job" does not exist', 'one line in the log for each');
is($f->sql(q{SELECT count(*) FROM fleet.step_run WHERE state IN ('queued', 'starting', 'running', 'retrying', 'canceling')}), '0', 'no step is left open');

# ---- plans -------------------------------------------------------------------------------------

# five items of ten seconds on two slots: three rounds; then a task of a second, here
$f->package('planned', -params => '{"key": "planned"}', t => { job => 'planned', server => 'd1', for_each => q{SELECT jsonb_build_object('i', i, 'key', 'planned' || i) FROM generate_series(1, 5) AS i} }, after => { sql => 'SELECT 1', after => '{t}' }, alone => { sql => 'SELECT 1' });
$f->job('planned', 'SELECT etl.work_until_released()');
$f->sql(q{INSERT INTO fleet_catalog.duration (package, task, item_key, job, log_mean, log_spread, samples) VALUES
    ('planned', 't', '', '', ln(10e6), 0, 9), ('planned', 'after', '', '', ln(1e6), 0, 9), ('planned', 'alone', '', '', ln(2e6), 0, 9)});
my $plan = q{SELECT string_agg(concat_ws(' ', task, item, coalesce(server, '-'), round(extract(epoch FROM starts_after)), round(extract(epoch FROM ends_after)), duration = ends_after - starts_after, critical), ', ' ORDER BY task, item) FROM fleet.plan('planned', items => '{"t": 5}')};
my $planned = $f->sql($plan);
is($planned =~ s/ [tf](?=,|$)//gr, 'after 0 - 30 31 t, alone 0 - 0 2 t, t 1 d1 0 10 t, t 2 d1 0 10 t, t 3 d1 10 20 t, t 4 d1 10 20 t, t 5 d1 20 30 t', 'plan: three rounds on two slots, then what comes after');
like($planned, qr/after 0 - 30 31 t t, alone 0 - 0 2 t f, .*t 5 d1 20 30 t t$/, 'plan: what is critical');
is($f->sql(q{SELECT count(*) FROM fleet.plan('planned') WHERE task = 't'}), '1', 'plan: one item where nothing is known');
is($f->sql(q{SELECT string_agg(number_of_servers || ' ' || round(extract(epoch FROM makespan)) || ' ' || round(speed_up::numeric, 1), ', ' ORDER BY 1) FROM fleet.advise('planned', servers => 3, items => '{"t": 5}')}), '1 31 1.0, 2 31 1.0, 3 31 1.0', 'advise: more servers are no use to tasks of one server');
$run = $f->start('planned');
$f->wait_for('witness', q{SELECT string_agg(key, ' ' ORDER BY key) FROM event WHERE key LIKE 'planned%' AND what = 'start'}, 'planned1 planned2', 'reality: the first round is the planned one');
is(states($run), 't=running t1=running t2=running t3=queued t4=queued t5=queued after=queued alone=succeeded', 'reality: as planned, with "alone" beside it');
$f->release($_) for qw(planned1 planned2);
$f->wait_for('witness', q{SELECT string_agg(key, ' ' ORDER BY key) FROM event WHERE key LIKE 'planned%' AND what = 'start'}, 'planned1 planned2 planned3 planned4', 'reality: the second round');
$f->release('*');
$f->run_is($run, 'succeeded', 'reality: all of it');
is($f->sql(q{SELECT count(*) FROM fleet.plan('planned') WHERE task = 't'}), '5', 'plan: now with as many items as the last run had');
$f->sql(q{SELECT fleet.set_server_state('d1', 'offline')});
$f->fails(q{SELECT * FROM fleet.plan('planned')}, '55000', 'plan: nowhere to go', like => qr/task "t" cannot start: none of its servers is online with a slot/, help => 1);
$f->sql(q{SELECT fleet.set_server_state('d1', 'online')});
$f->done;
