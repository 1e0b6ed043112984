# What people bring along from where they come: the patterns of SSIS packages, and the sample chains of pg_timetable (those
# that need neither mail nor a download), each written anew as a package.  On servers of both modes.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 4, delays => 0);
my @nodes = qw(parent a1 d1);

sub task { my ($key, %more) = @_; return ($key, { sql => 'SELECT etl.work()', params => qq({"key": "$key"}), %more }); }
sub on { my ($key, $server, %more) = @_; return ($key, { job => 'work', server => $server, params => qq({"key": "$key"}), %more }); }
sub states { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || state, ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run AND item = 0"); }
sub outputs { my ($run) = @_; return $f->sql("SELECT string_agg(task || ' ' || coalesce(output, '-'), ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run AND item = 0"); }
sub lines { my ($run) = @_; return $f->sql("SELECT string_agg(message, '; ' ORDER BY task, item, seq) FROM fleet.log WHERE run_id = $run AND level = 'NOTICE'"); }
sub of { my ($run, $what, $task) = @_; return $f->sql("SELECT $what FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item = 0"); }
sub run_of { my ($package, $state, $params) = @_; my $run = $f->start($package, $params); $f->run_is($run, $state, "$package: $state"); return $run; }
# Did all of the first begin, and end, before any of the second began?  By the witness.
sub all_before
{
    my ($first, $second) = @_;
    return $f->sql_on('witness', "SELECT max(id) FILTER (WHERE key LIKE '$first') < min(id) FILTER (WHERE key LIKE '$second')"
          . " AND count(*) FILTER (WHERE key LIKE '$first') > 0 FROM event WHERE what IN ('start', 'end')");
}
$f->job('work', { sql => 'SELECT etl.work()' });

# ---- SSIS: groups one after the other, each parallel in itself ----------------------------------

# Three groups of parallel loads; each begins when the one before has ended, as a whole.
$f->package('three groups',
    map { my $g = $_; ("g$g" => { container => 'true', $g > 1 ? (after => '{g' . ($g - 1) . '}') : () },
        map { my ($key, $args) = on("g${g}_$_", $_ % 2 ? 'a1' : 'd1'); ("g$g/t$_" => $args) } 1 .. 4) } 1 .. 3);
my $run = run_of('three groups', 'succeeded');
is(all_before("g$_\\_%", 'g' . ($_ + 1) . '\\_%'), 't', "group $_ has ended when the next one begins") for 1, 2;
is($f->sql_on('witness', "SELECT count(DISTINCT key) FROM event WHERE what = 'end' AND key LIKE 'g_\\_%'"), '12', 'all of them ran');

# The same without containers: every task of a group is after every one of the group before.
$f->package('by edges', map { my $g = $_; map { on("e${g}_$_", $_ % 2 ? 'a1' : 'd1', $g > 1 ? (after => '{' . join(',', map { 'e' . ($g - 1) . "_$_" } 1 .. 3) . '}') : ()) } 1 .. 3 } 1 .. 3);
run_of('by edges', 'succeeded');
is(all_before("e$_\\_%", 'e' . ($_ + 1) . '\\_%'), 't', "with constraints too: group $_") for 1, 2;

# ---- SSIS: AND and OR, with expressions over what earlier tasks returned --------------------------

$f->job('count', { sql => q{SELECT current_setting('fleet.params')::jsonb ->> 'rows'} });
$f->package('decide', '-params' => '{"here": 0, "there": 0}',
    here => { job => 'count', server => 'a1', params => '{"rows": {"$param": "here"}}' },
    there => { job => 'count', server => 'd1', params => '{"rows": {"$param": "there"}}' },
    map { my ($join, $name) = @$_; ($name => { sql => "SELECT 'ran'", wait_for => $join }) } [ all => 'both' ], [ any => 'either' ]);
$f->sql("SELECT fleet.add_precedence('decide', '$_->[0]', '$_->[1]', condition => 'fleet.output(''$_->[0]'')::integer > 10')")
  for map { my $to = $_; map { [ $_, $to ] } qw(here there) } qw(both either);
for ([ 5, 5, 'skipped', 'skipped' ], [ 50, 5, 'skipped', 'succeeded' ], [ 5, 50, 'skipped', 'succeeded' ], [ 50, 50, 'succeeded', 'succeeded' ])
{
    my ($here, $there, $both, $either) = @$_;
    $run = run_of('decide', 'succeeded', qq({"here": $here, "there": $there}));
    is(states($run), "here succeeded, there succeeded, both $both, either $either", "AND and OR of what was returned: $here, $there");
}

# A constraint with an expression and a value: success and more than nothing; else another branch.
$f->package('branches', '-params' => '{"rows": 0}', read => { job => 'count', server => 'a1', params => '{"rows": {"$param": "rows"}}' },
    publish => { sql => q{SELECT 'published ' || fleet.output('read')} }, nothing => { sql => q{SELECT 'nothing to do'} });
$f->sql(q{SELECT fleet.add_precedence('branches', 'read', 'publish', condition => $$fleet.output('read') <> '0'$$), fleet.add_precedence('branches', 'read', 'nothing', condition => $$fleet.output('read') = '0'$$)});
is(outputs(run_of('branches', 'succeeded', '{"rows": 0}')), 'read 0, publish -, nothing nothing to do', 'nothing was read');
is(outputs(run_of('branches', 'succeeded', '{"rows": 7}')), 'read 7, publish published 7, nothing -', 'something was');

# ---- SSIS: sequences, Foreach loops, disabled tasks ----------------------------------------------

# A Foreach loop over what a task returned, with a sequence in it; a sequence that is disabled with all that it contains.
$f->package('loops', list => { sql => q{SELECT '["north", "south"]'} },
    each => { container => 'true', after => '{list}', for_each => q{SELECT value AS region FROM jsonb_array_elements_text(fleet.output('list')::jsonb)} },
    'each/extract' => { job => 'count', on_group => 'all', params => '{"rows": {"$param": "region"}}' },
    'each/load' => { sql => q{SELECT 'loaded ' || fleet.output('extract')}, after => '{extract}' },
    off => { container => 'true', after => '{each}', enabled => 'false' },
    'off/never' => { sql => 'SELECT 1/0' },
    'one off' => { sql => 'SELECT 1/0', enabled => 'false', after => '{each}' },
    done => { sql => q{SELECT 'done'}, after => '{off,"one off"}' });
$run = run_of('loops', 'succeeded');
is(states($run), 'list succeeded, each succeeded, off skipped, one off skipped, done succeeded', 'a loop, and what is disabled counts as passed');
is($f->sql("SELECT string_agg(t.output, ', ' ORDER BY r.parent_item) FROM fleet_catalog.run AS r JOIN fleet.task_run AS t ON t.run_id = r.run_id AND t.task = 'load' WHERE r.parent_run_id = $run"),
    'loaded north, loaded south', 'the sequence ran for each');
is($f->sql("SELECT count(*) FROM fleet.run WHERE parent_run_id = $run AND package = 'loops/off'"), '0', 'nothing of what is disabled began');

# ---- SSIS: a handler of errors; a failure that is handled and fails the package all the same -----

$f->sql('CREATE TABLE etl.told (what text); GRANT ALL ON etl.told TO PUBLIC');
my @handled = (task('first'), broken => { job => 'breaks', server => 'd1', after => '{first}' }, task('never', after => '{broken}'),
    'on error' => { sql => q{INSERT INTO etl.told SELECT concat_ws(' ', f ->> 'task', f ->> 'server', f ->> 'sqlstate', f ->> 'message') FROM fleet.failure() AS f}, catch => 'true' });
$f->job('breaks', { sql => 'SELECT 42/0' });
$f->package('handler', @handled);
$run = run_of('handler', 'failed');
is($f->sql('SELECT string_agg(what, \'; \') FROM etl.told'), 'broken d1 22012 division by zero', 'an error handler sees which task failed, where and why');
$f->package('compensates', broken => { job => 'breaks', server => 'a1' }, task('repair', after_failure_of => '{broken}'));
is(states(run_of('compensates', 'succeeded')), 'broken failed, repair succeeded', 'a failure that a constraint handles');
$f->sql("SELECT fleet.alter_package('compensates', failed_if => 'any')");
is(states(run_of('compensates', 'failed')), 'broken failed, repair succeeded', 'fails the package all the same, where that is wanted');

# ---- pg_timetable --------------------------------------------------------------------------------

$f->sql_on($_, <<'SQL') for @nodes;
CREATE TABLE etl.chain_log (n serial, event text);
GRANT ALL ON etl.chain_log TO PUBLIC;
GRANT ALL ON SEQUENCE etl.chain_log_n_seq TO PUBLIC;
CREATE PROCEDURE etl.two_halves() LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE 'hey 1';
    INSERT INTO etl.chain_log (event) VALUES ('half');
    COMMIT;
    RAISE NOTICE 'hey 2';
    INSERT INTO etl.chain_log (event) VALUES ('half');
    COMMIT;
END $$;
SQL

# Chain, Parameters: tasks with parameters one after the other, whatever becomes of them; the last one looks at its chain.
my $log = q{INSERT INTO etl.chain_log (event) VALUES (fleet.param('event')) RETURNING event};
$f->package('chain', one => { sql => $log, params => '{"event": "Added"}' }, wrong => { sql => 'SELECT 1/0', after_completion_of => '{one}' },
    two => { sql => $log, params => '{"event": "Updated"}', after_completion_of => '{wrong}' },
    tell => { sql => q{DO $$BEGIN RAISE NOTICE 'tasks of % so far: %', fleet.context('package'), (SELECT string_agg(t.task, ', ' ORDER BY t.task_no) FROM fleet.task_run AS t WHERE t.run_id = fleet.run_id() AND t.finished_at IS NOT NULL); END$$},
        after_completion_of => '{two}' });
$run = run_of('chain', 'succeeded');
is($f->sql('SELECT string_agg(event, \' \' ORDER BY n) FROM etl.chain_log'), 'Added Updated', 'Chain: one after the other, errors ignored');
is(lines($run), 'tasks of chain so far: one, wrong, two', 'the last one knows its chain');

# ErrorHandling: who listens is told.
$f->package('notifies', bad => { sql => 'SELECT 42/0' },
    'on error' => { sql => q{SELECT pg_notify('monitoring', jsonb_build_object('package', fleet.context('package'), 'sqlstate', fleet.failure() ->> 'sqlstate')::text)}, catch => 'true' });
my ($rc, $out, $err) = $f->parent->psql($FleetTest::DB, "LISTEN monitoring;\nSELECT fleet.wait_for_run(fleet.run_parent_package('notifies'));\nSELECT 1;");
like($err, qr/transaction/, 'a function that waits for a run of its own transaction, which nobody sees, says so'); # it would wait for ever
($rc, $out, $err) = $f->parent->psql($FleetTest::DB, "LISTEN monitoring;\nSELECT fleet.run_parent_package('notifies') AS run \\gset\nCALL fleet.wait(:run);\nSELECT 1;");
like($out . $err, qr/"monitoring" with payload "\{"package": "notifies", "sqlstate": "22012"\}"/, 'ErrorHandling: who listens is told');

# DelayedRetry: so many retries, each after a longer wait.
$f->package('retries', bad => { job => 'breaks', server => 'a1', retries => 3, retry_wait => '10 ms', retry_wait_max => '1 s', retry_sqlstates => '{22012}' });
$run = run_of('retries', 'failed');
is(of($run, 'attempt', 'bad'), '4', 'DelayedRetry: one attempt and three retries');
is($f->sql("SELECT bool_and(waited >= wait) FROM (SELECT started_at - lag(finished_at) OVER (ORDER BY task_attempt) AS waited, interval '10 ms' * 2 ^ (task_attempt - 2) * 0.5 AS wait, task_attempt FROM fleet.job_log WHERE run_id = $run) AS a WHERE task_attempt > 1"),
    't', 'each after a longer wait');

# Exclusive: two that never run at the same time share a server of one slot.
$f->sql("SELECT fleet.alter_server('d1', slots => 1)");
$f->package('exclusive', on('xa', 'd1'), on('xb', 'd1'), on('xc', 'd1'));
run_of('exclusive', 'succeeded');
is($f->sql_on('witness', "SELECT string_agg(what, ' ' ORDER BY id) FROM event WHERE key IN ('xa', 'xb', 'xc')"), 'start end start end start end', 'Exclusive: one at a time');
$f->sql("SELECT fleet.alter_server('d1', slots => 4)");

# ManyTasks: 500, of which some fail, and a last one that counts.
$f->package('many tasks', many => { sql => q{SELECT 1 / (fleet.param('n')::integer % 5)}, for_each => 'SELECT n FROM generate_series(1, 500) AS n' },
    report => { sql => q{SELECT format('executed: %s; failed: %s', count(*) FILTER (WHERE t.finished_at IS NOT NULL), count(*) FILTER (WHERE t.state = 'failed')) FROM fleet.task_run AS t WHERE t.run_id = fleet.run_id() AND t.item > 0},
        after_completion_of => '{many}' });
is(of(run_of('many tasks', 'succeeded'), 'output', 'report'), 'executed: 500; failed: 100', 'ManyTasks: all run, and the last one counts them');

# ManyChains: fifty at once.
$f->package("chain $_", on("c$_", $_ % 2 ? 'a1' : 'd1')) for 1 .. 50;
my @runs = split ' ', $f->sql(q{SELECT string_agg(fleet.run_parent_package('chain ' || n)::text, ' ') FROM generate_series(1, 50) AS n});
is($f->sql('SELECT count(*) FROM unnest(ARRAY[' . join(',', @runs) . "]) AS r WHERE fleet.wait_for_run(r) = 'succeeded'"), '50', 'ManyChains: fifty at once');

# Autonomous: a procedure that commits, once each half.
$f->job('halves', { sql => 'CALL etl.two_halves()' });
$f->sql_on($_, 'TRUNCATE etl.chain_log') for @nodes;
$f->package('autonomous', here => { sql => 'CALL etl.two_halves()' }, map { ("on $_" => { job => 'halves', server => $_ }) } qw(a1 d1));
is(lines(run_of('autonomous', 'succeeded')), join('; ', ('hey 1; hey 2') x 3), 'Autonomous: what a procedure says between its commits');
is($f->sql_on($_, 'SELECT count(*) FROM etl.chain_log'), '2', "... which it does once: $_") for @nodes;

# SelfDestruct: it is there for one run.
$f->package('once', ahoy => { sql => q{DO $$BEGIN RAISE NOTICE 'ahoy'; END$$} }, gone => { sql => q{SELECT fleet.drop_package(fleet.context('package'))}, final => 'true' });
$run = run_of('once', 'succeeded');
is(lines($run) . ' ' . $f->sql("SELECT count(*) FROM fleet.package WHERE package = 'once'"), 'ahoy 0', 'SelfDestruct: its last task drops it');
is($f->sql("SELECT state FROM fleet.run WHERE run_id = $run"), 'succeeded', 'its run is still told');

# RemoteDB, ClientMessages: rows on another server; who says it, and in which run.
$f->job('remote row', { sql => q{DO $$BEGIN INSERT INTO etl.chain_log (event) VALUES (current_setting('fleet.params')::jsonb ->> 'event'); RAISE NOTICE 'message of % from %: %', current_setting('fleet.context')::jsonb ->> 'run_id', current_setting('fleet.context')::jsonb ->> 'server', current_setting('fleet.params')::jsonb ->> 'event'; END$$} });
$f->sql_on($_, 'TRUNCATE etl.chain_log') for @nodes;
$f->package('remote', map { ("to $_" => { job => 'remote row', server => $_, for_each => q{SELECT 'Row ' || n || ' added' AS event FROM generate_series(1, 2) AS n}, throttle => 1 }) } qw(a1 d1));
$run = run_of('remote', 'succeeded');
is($f->sql_on($_, q{SELECT string_agg(event, ', ' ORDER BY n) FROM etl.chain_log}), 'Row 1 added, Row 2 added', "RemoteDB: rows on another server: $_") for qw(a1 d1);
is(lines($run), join('; ', map { my $s = $_; map { "message of $run from $s: Row $_ added" } 1, 2 } qw(a1 d1)), 'ClientMessages: who says it, and of which run');

# CopyToFromProgram, Shell: programs of the server's machine, for who may run them.
$f->sql('CREATE TABLE etl.read (key text, value integer)');
$f->package('programs', to => { sql => q{COPY (SELECT 'k' || n, n FROM generate_series(1, 3) AS n) TO PROGRAM 'cat >/dev/null'} },
    from => { sql => q{COPY etl.read FROM PROGRAM $$printf 'one\t1\ntwo\t2\n'$$}, after => '{to}' }, shell => { sql => q{COPY etl.read FROM PROGRAM 'exit 3'}, after => '{from}' },
    'wrong' => { sql => q{SELECT 'handled'}, after_failure_of => '{shell}' });
$run = run_of('programs', 'succeeded');
is($f->sql('SELECT string_agg(key || value, \' \' ORDER BY value) FROM etl.read') . ' ' . of($run, 'row_count', 'to'), 'one1 two2 3', 'CopyToFromProgram: rows to a program, and from one');
is(of($run, 'sqlstate', 'shell'), '38000', 'Shell: a program that fails fails the task');

# ETLPipeline: steps of one job in one session, with temporary tables; it stops when there is nothing to load.
$f->sql_on($_, <<'SQL') for qw(a1 d1);
CREATE TABLE etl.raw (id integer, customer text, amount numeric);
CREATE TABLE etl.warehouse (id integer PRIMARY KEY, customer text, amount numeric);
CREATE TABLE etl.processed (rows integer, status text);
GRANT ALL ON etl.raw, etl.warehouse, etl.processed TO PUBLIC;
SQL
$f->job('pipeline', { name => 'extract', sql => 'CREATE TEMP TABLE extract AS SELECT * FROM etl.raw' },
    { name => 'validate', sql => q{DO $$BEGIN IF NOT EXISTS (SELECT FROM extract) THEN RAISE 'no data'; END IF; RAISE NOTICE 'extracted %', (SELECT count(*) FROM extract); END$$} },
    { name => 'transform', sql => 'CREATE TEMP TABLE transformed AS SELECT id, upper(trim(customer)) AS customer, round(amount, 2) AS amount FROM extract WHERE amount > 0' },
    { name => 'load', sql => 'INSERT INTO etl.warehouse SELECT * FROM transformed ON CONFLICT (id) DO UPDATE SET customer = excluded.customer, amount = excluded.amount', timeout => '1h' },
    { name => 'note', sql => q{INSERT INTO etl.processed SELECT count(*), 'SUCCESS' FROM transformed} });
$f->package('pipelines', map { ("on $_" => { job => 'pipeline', server => $_ }) } qw(a1 d1));
$run = run_of('pipelines', 'failed');
is($f->sql("SELECT string_agg(step || ' ' || message, ', ') FROM fleet.job_log WHERE run_id = $run AND state = 'failed'"), 'validate no data, validate no data', 'ETLPipeline: without data it stops');
$f->sql_on($_, q{INSERT INTO etl.raw VALUES (1, ' ann ', 1.239), (2, 'bob', -1), (3, 'eve', 7)}) for qw(a1 d1);
run_of('pipelines', 'succeeded') for 1, 2;
is($f->sql_on($_, q{SELECT string_agg(concat_ws(' ', id, customer, amount), ', ' ORDER BY id) || ' ' || (SELECT string_agg(rows || ' ' || status, ', ') FROM etl.processed) FROM etl.warehouse}),
    '1 ANN 1.24, 3 EVE 7.00 2 SUCCESS, 2 SUCCESS', "... with data it loads, again too: $_") for qw(a1 d1);

$f->done;
