# (runs long)
# What a row holds is never the end of the agent: long values (stored out of line) are read whole
# wherever they are, at any time; a package or job that makes no sense is the failure of what runs it,
# with SQLSTATE and message, while other roles' runs go on; work that moves to another server because
# its own does not answer has one effect and starts its numbers anew.  In all of it no agent ends,
# but where the test itself ends one.
use strict;
use warnings;
use FleetTest qw(quote_literal);
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

# How often agents started: exact, so that one that came and went is seen too.
sub starts { my ($node) = @_; return $f->sql_on($node, 'SELECT starts FROM fleet_catalog.agent'); }

# Another role, whose runs must not notice anything.
$f->sql('CREATE ROLE bystander LOGIN');
$f->sql(q{SET ROLE bystander; SELECT fleet.create_package('tick'); SELECT fleet.add_task('tick', 't', sql => 'SELECT 1')});
$f->run_is($f->start('tick'), 'succeeded', 'the agents work');
$f->job('noop', 'SELECT 1');
my @key = (-params => '{"key": null}');
my $run;
# each has said that it is there
$f->wait_for($_, 'SELECT count(*) FROM fleet_catalog.agent AS a JOIN pg_stat_activity AS s ON s.pid = a.pid WHERE a.starts > 0', '1', "$_: its agent is there") for qw(parent a1);
my %agent = map { $_ => [ $f->agent_pid($_), starts($_) ] } qw(parent a1);

sub same_agents
{
    my ($after) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $node (sort keys %agent)
    {
        is($f->sql_on($node, q{SELECT coalesce(s.pid::text, 'none') || ' ' || a.starts FROM fleet_catalog.agent AS a LEFT JOIN pg_stat_activity AS s ON s.pid = a.pid AND s.backend_type LIKE 'pg_fleet agent%'}),
            "@{ $agent{$node} }", "$node: still the same agent, after $after");
    }
    return;
}

# The agent ends, as told, and the next one is there.
sub next_agent
{
    my ($node, $why) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $expected = $agent{$node}[1] + 1;
    $f->wait_for($node, "SELECT a.starts = $expected AND EXISTS (SELECT FROM pg_stat_activity AS s WHERE s.pid = a.pid) FROM fleet_catalog.agent AS a",
        't', "$node: one new agent, $why");
    $agent{$node} = [ $f->agent_pid($node), $expected ];
    return;
}

sub end_agent
{
    my ($node) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $f->sql_on($node, "SELECT pg_terminate_backend($agent{$node}[0])");
    return next_agent($node, 'after the old one was ended');
}

sub others_go_on
{
    my ($while) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($f->sql(<<"SQL"), 'succeeded', "another role's run succeeds while $while");
SET ROLE bystander;
SELECT fleet.run_parent_package('tick') AS run_id \\gset
SELECT fleet.wait_for_run(:run_id, timeout => '${FleetTest::PATIENCE}s');
SQL
    return;
}

# ---- definitions that make no sense ------------------------------------------------------------
#
# Seen when something inside a run begins: a nested package, a step that runs one, a job here or on
# a server.

sub refused
{
    my ($run, $sqlstate, $message, $what, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $task = $opt{task} || 'n';
    others_go_on($what);
    $f->run_is($run, 'failed', "$what: the run fails");
    is($f->sql("SELECT string_agg(item || ' ' || state || ' ' || coalesce(sqlstate, '') || ' ' || coalesce(message, ''), ', ' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND (item > 0 OR NOT $opt{items}::boolean)"),
        join(', ', map { "$_ failed $sqlstate $message" } $opt{items} ? (1 .. $opt{items}) : 0), "$what: the task says why");
    like($f->sql("SELECT message FROM fleet.run WHERE run_id = $run"), qr/^task "$task"(?: item \d)? failed: \Q$message\E$/, "$what: so does the run");
    is($f->sql("SELECT count(*) FROM fleet_catalog.run WHERE parent_run_id = $run AND state < 11"), '0', "$what: nothing of it is left open");
    same_agents($what);
    return;
}

# A package whose task "gate" is held, and whose task "n" comes after it: what it needs is changed meanwhile.
sub changed_meanwhile
{
    my ($name, $change, $sqlstate, $message, $what, %opt) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $run = $f->start($name, qq({"key": "$name"}));
    $f->wait_started($name);
    ref $change ? $change->() : $f->sql($change);
    $f->release($name);
    return refused($run, $sqlstate, $message, $what, %opt) if defined $sqlstate;
    $f->run_is($run, 'succeeded', "$what: the run goes on with what it began with");
    return same_agents($what);
}
my %gate = (sql => 'SELECT etl.work_until_released()');

# What only the start of a nested run finds: a job in it has no steps.
$f->sql(q{SELECT fleet.create_job('no steps')});
$f->package('empty', t => { job => 'no steps' });
$f->package('has empty', n => { nested => 'empty' });
refused($f->start('has empty'), '55000', 'job "no steps" has no steps', 'a job in a nested package has no steps', items => 0);

$f->package('has empty thrice', n => { nested => 'empty', for_each => q{SELECT jsonb_build_object('i', i) FROM generate_series(1, 3) AS i} });
refused($f->start('has empty thrice'), '55000', 'job "no steps" has no steps', 'it is the package of each item', items => 3);

$f->package('handled', n => { nested => 'empty' }, after => { sql => 'SELECT 1', after_failure_of => '{n}' });
$run = $f->start('handled');
$f->run_is($run, 'succeeded', 'such a failure can be handled like any other');
is($f->sql("SELECT string_agg(task || ' ' || state, ', ' ORDER BY task_no) FROM fleet.task_run WHERE run_id = $run"), 'n failed, after succeeded', '… by what comes on failure');

$f->package('deep', n => { nested => 'has empty' });
refused($f->start('deep'), 'P0001', 'task "n" failed: job "no steps" has no steps', 'it is in the package in the package', items => 0);

$f->job('emptied', 'SELECT 1');
$f->package('emptied inner', t => { job => 'emptied' });
$f->package('emptied', @key, gate => {%gate}, n => { nested => 'emptied inner', after => '{gate}' });
changed_meanwhile('emptied', q{SELECT fleet.drop_step('emptied', 's1')}, undef, undef, 'a job in a nested package is emptied before it starts');

$f->package('dropped inner', t => { sql => 'SELECT 1' });
$f->package('dropped', @key, gate => {%gate}, n => { nested => 'dropped inner', after => '{gate}' });
changed_meanwhile('dropped', q{SELECT fleet.drop_package('dropped inner', cascade => true)}, undef, undef, 'a nested package is dropped before it starts');

# A circle is refused where it can be seen; two sessions at the same time do not see each other's half.
$f->package("circle $_", t => { sql => 'SELECT 1' }) for 1, 2;
$f->package('circle', @key, gate => {%gate}, n => { nested => 'circle 1', after => '{gate}' });
my $half = $f->parent->background_psql($FleetTest::DB);
$half->query_safe(q{BEGIN; SELECT fleet.add_task('circle 1', 'there', nested => 'circle 2')});
changed_meanwhile('circle', sub { $f->sql(q{SELECT fleet.add_task('circle 2', 'back', nested => 'circle 1')}); $half->query_safe('COMMIT'); $half->quit },
    undef, undef, 'a nested package is given a circle before it starts');
$f->fails(q{SELECT fleet.run_parent_package('circle', params => '{"key": "circle"}')}, '42P17', 'a run that is asked for then is refused', help => 1);

$f->package('direct no steps', t => { job => 'no steps', server => 'd1' });
$f->package('has direct no steps', n => { nested => 'direct no steps' });
refused($f->start('has direct no steps'), '55000', 'job "no steps" has no steps', 'a nested package has a direct job without steps', items => 0);

$f->sql(q{SELECT fleet.create_job('goes'); SELECT fleet.add_step('goes', 'one', 'SELECT 1', on_success => 'goto', success_goto => 'two')});
$f->package('goes inner', t => { job => 'goes', server => 'd1' });
$f->package('goes nowhere', n => { nested => 'goes inner' });
refused($f->start('goes nowhere'), '42704', 'step "one" of job "goes" goes to a step that does not exist', 'a step of a direct job in a nested package goes nowhere', items => 0);

# the step of a job, here
$f->job('runs empty', { name => 'inside', package => 'empty' }, 'SELECT 1');
my $job_run = $f->sql(q{SELECT fleet.start_job('runs empty')});
$f->wait_for('parent', "SELECT state || ' ' || coalesce(sqlstate, '') || ' ' || coalesce(message, '') FROM fleet.job_run WHERE job_run_id = $job_run", 'failed 55000 job "no steps" has no steps', 'a job whose step runs such a package fails');
is($f->sql("SELECT string_agg(step || ' ' || state || ' ' || sqlstate || ' ' || message || ' ' || hint, ', ') FROM fleet.step_run WHERE job_run_id = $job_run"), 'inside failed 55000 job "no steps" has no steps Add one with fleet.add_step().', 'the step says why');
others_go_on('a job step failed to start its package');

# … and on a server, as it was deployed, and emptied there between two steps
$f->package('on server', n => { job => 'runs empty', server => 'a1' });
refused($f->start('on server'), '55000', 'job "no steps" has no steps', 'a step of a job on a server runs it', items => 0);
is($f->sql(q{SELECT string_agg(step || ' ' || state || ' ' || sqlstate || ' ' || message || ' ' || hint, ', ') FROM fleet.step_run WHERE task = 'n' AND server = 'a1'}), 'inside failed 55000 job "no steps" has no steps Add one with fleet.add_step().', 'its step run says so at the parent');
is($f->sql(q{SELECT count(*) FROM fleet.log WHERE server = 'a1' AND task = 'n' AND level = 'ERROR' AND sqlstate = '55000'}), '1', 'and an ERROR line, once');

$f->job('inside', 'SELECT 1');
$f->package('inside', t => { job => 'inside' });
$f->job('later empty', { name => 'gate', sql => 'SELECT etl.work_until_released()' }, { name => 'inside', package => 'inside', on_failure => 'next' }, { name => 'last', sql => 'SELECT 3' });
$f->package('later on server', @key, n => { job => 'later empty', server => 'a1' });
$run = $f->start('later on server', '{"key": "later on server"}');
$f->wait_started('later on server');
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.drop_step('inside', 's1')});
$f->release('later on server');
$f->run_is($run, 'succeeded', 'a job of a package is emptied on the server between two steps: the run goes on with what was sent');
is($f->sql("SELECT string_agg(step || ' ' || state || ' ' || coalesce(sqlstate, ''), ', ' ORDER BY started_at, step_no) FROM fleet.step_run WHERE run_id = $run"), 'gate succeeded , inside succeeded , last succeeded ', 'step by step');
same_agents('a job was emptied on the server');

$f->package('no steps on server', n => { job => 'never deployed', server => 'a1' });
$f->sql_on('a1', q{SET ROLE etl; SELECT fleet.create_job('never deployed')});
refused($f->start('no steps on server'), '55000', 'job "never deployed" has no steps', 'a job on the server has no steps', items => 0);
for my $start (q{SELECT fleet.run_parent_package('empty')}, q{SELECT fleet.start_job('no steps')})
{
    $f->fails($start, '55000', "refused at once where it can be: $start", help => 1);
}

# items that are no JSON
for my $bad (
    [ q{SELECT '{"a": 1}'::json UNION ALL SELECT '"x"'::json}, 'row 2: not a JSON object: "x"' ],
    [ q{SELECT '[1]'::json}, 'row 1: not a JSON object: [1]' ],
    [ q{SELECT '{"a": "\u0000"}'::json}, 'row 1: unsupported Unicode escape sequence' ])
{
    my $name = "bad items $bad->[1]";
    $f->package($name, n => { sql => 'SELECT 1', for_each => $bad->[0] });
    $run = $f->start($name);
    $f->run_is($run, 'failed', "items that are no JSON objects: $bad->[1]");
    is($f->sql("SELECT string_agg(item || ' ' || state || ' ' || sqlstate || ' ' || message, ', ') FROM fleet.task_run WHERE run_id = $run"), "0 failed F0001 for_each: $bad->[1]", 'the task says so, and has no item');
}
others_go_on('items are no JSON');
same_agents('items were no JSON');

# What is stored is not trusted either: a snapshot that cannot be read fails what runs it, at its
# request, and when an agent that is new loads it; who waits is told.
sub spoil { my ($where) = @_; return $f->sql("UPDATE fleet_catalog.definition AS d SET body = jsonb_set(body, '{tasks,0,kind}', '\"odd\"') WHERE kind = 'package' AND hash = (SELECT definition FROM fleet_catalog.run WHERE $where)"); }
$f->package('spoiled', @key, gate => {%gate}, n => { sql => 'SELECT 1', after => '{gate}' });
$f->package('around spoiled', @key, n => { nested => 'spoiled' });
my $first = $f->start('spoiled', '{"key": "spoiled"}');
my $outer = $f->start('around spoiled', '{"key": "spoiled"}');
$f->wait_started('spoiled', 2);
spoil("run_id = $first");
end_agent('parent');
$f->run_is($first, 'failed', 'a run whose snapshot cannot be read by the next agent fails');
is($f->sql("SELECT message FROM fleet.run WHERE run_id = $first"), 'the snapshot has an unknown kind "odd"', '… and says why');
$f->run_is($outer, 'failed', 'so does what it is nested in');
is($f->sql("SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $outer"), 'failed P0001 the snapshot has an unknown kind "odd"', '… with its reason');
$f->release('spoiled');
# the same document again, by its hash: the session that waits is told
my $waiter = $f->start('spoiled', '{"key": "spoiled too"}');
is($f->wait_run($waiter), 'failed', 'who waits for a run that cannot be loaded is told');
others_go_on('runs cannot be loaded');
same_agents('spoiled snapshots');

$f->job('spoiled job', 'SELECT 1');
$f->sql(q{SELECT fleet.start_job('spoiled job')});
$f->wait_for('parent', q{SELECT state FROM fleet.job_run WHERE job = 'spoiled job'}, 'succeeded', 'a job runs');
$f->sql(q{UPDATE fleet_catalog.definition SET body = jsonb_set(body, '{steps}', '[]') WHERE kind = 'job' AND body ->> 'name' = 'spoiled job'});
end_agent('parent');
$job_run = $f->sql(q{SELECT fleet.start_job('spoiled job')});
$f->wait_for('parent', "SELECT state || ' ' || sqlstate || ' ' || message FROM fleet.job_run WHERE job_run_id = $job_run", 'failed 22023 job "spoiled job" is invalid: the job has no step', 'a job run whose snapshot makes no sense fails, and says why');
others_go_on('a job run cannot be loaded');
same_agents('a spoiled job');

# ---- work that moves ---------------------------------------------------------------------------
#
# A direct server lets in fewer sessions than it has slots, so that items wait for one, and stops;
# what waits goes to the other member of the group, of the other mode.

for my $node (qw(a1 d1))
{
    $f->sql_on($node, <<'SQL');
SET ROLE etl;
CREATE TABLE etl.moved (name text, item text);
CREATE FUNCTION etl.item() RETURNS text LANGUAGE sql AS $$SELECT coalesce(current_setting('fleet.params')::jsonb ->> 'item', 'item 1')$$;
CREATE FUNCTION etl.move() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.work_until_released();
    RAISE NOTICE 'moving';
    INSERT INTO etl.moved VALUES (etl.key(), etl.item());
    RETURN etl.item();
END $$;
CREATE PROCEDURE etl.move_in_two() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM etl.work_until_released();
    COMMIT;
    PERFORM etl.move();
END $$;
SQL
}
# Which of them gets new work.
sub only
{
    my ($server) = @_;
    $f->sql('SELECT ' . join ', ', map { "fleet.set_server_state('$_', '" . ($server eq $_ || $server eq 'all' ? 'online' : 'draining') . "')" } qw(a1 d1));
    return;
}

# $n items of a job on the group of both; returns the run
sub start_items
{
    my ($name, $n, $step, %task) = @_;
    $f->job($name, { name => 's', %$step }) unless $step->{name};
    $f->package($name, @key, n => { job => $name, on_group => 'all',
        for_each => "SELECT jsonb_build_object('item', 'item ' || i) FROM generate_series(1, $n) AS i", %task });
    return $f->start($name, qq({"key": "$name"}));
}

# One effect of each item, whatever server; no step run open; no number of the log twice.
sub once_each
{
    my ($name, $run, $n, $steps) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(join(', ', sort map { split /\n/, $f->sql_on($_, "SELECT item FROM etl.moved WHERE name = '$name'") } qw(a1 d1)),
        join(', ', map { "item $_" } 1 .. $n), "$name: every item has exactly one effect");
    is($f->sql("SELECT string_agg(x, ', ' ORDER BY x) FROM (SELECT s.server || ' ' || s.task_attempt || ' ' || s.state || coalesce(' ' || s.sqlstate, '') || ': ' || count(*) AS x FROM fleet.step_run AS s WHERE run_id = $run GROUP BY s.server, s.task_attempt, s.state, s.sqlstate) AS y"),
        $steps, "$name: step runs, by server and attempt of the task run");
    is($f->sql("SELECT count(*) FROM (SELECT item FROM fleet.log WHERE run_id = $run AND item > 0 GROUP BY item HAVING min(seq) <> 1 OR max(seq) <> count(*) OR count(DISTINCT seq) <> count(*)) AS x"),
        '0', "$name: the log of each item is without gap or duplicate");
    is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run AND message = 'moving'"), $n, "$name: and has its line once");
    same_agents($name);
    return;
}

$f->job('touch', 'SELECT 1');
$f->package('touch', t => { job => 'touch', server => 'd1' });

# Items that wait for a session on d1, which lets in two, when it stops.  What ran there goes on
# there, what waited goes to a1.
sub direct_stops
{
    my ($name, $step, $steps) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    only('d1');
    $f->sql_on('d1', q{ALTER ROLE etl CONNECTION LIMIT 2; SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE usename = 'etl'});
    # after this one the agent knows that the sessions are gone
    $f->run_is($f->start('touch'), 'succeeded', "$name: d1 works");
    my $run = start_items($name, 6, $step);
    $f->wait_for('parent', "SELECT string_agg(state || ' ' || server, ', ' ORDER BY state, server) FROM fleet.task_run WHERE run_id = $run AND item > 0",
        'running d1, running d1, starting d1, starting d1, starting d1, starting d1', "$name: two run, four wait for a session");
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$name' AND what = 'start'", '2', "$name: so says the witness");
    only('all');
    $f->node('d1')->stop('immediate');
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND server = 'a1' AND state = 'running' AND attempt = 2", '4', "$name: the four run on the agent server");
    others_go_on("$name: items have moved");
    $f->node('d1')->start;
    $f->sql_on('d1', 'ALTER ROLE etl CONNECTION LIMIT -1');
    $f->release($name);
    $f->run_is($run, 'succeeded', "$name: all succeed");
    once_each($name, $run, 6, $steps);
    return;
}
direct_stops('direct to agent', { sql => 'SELECT etl.move()' }, 'a1 2 succeeded: 4, d1 1 succeeded: 2');
direct_stops('no transaction', { sql => 'CALL etl.move_in_two()', transactional => 'false', on_unknown => 'retry', retries => 5, retry_wait => '50ms' },
    'a1 2 succeeded: 4, d1 1 skipped 08006: 4, d1 1 succeeded: 2, d1 1 unknown 08006: 2');

# Neither is there, and the agent does not know it yet: from a1 to d1 and back to a1.
{
    my $name = 'agent to direct and back';
    my $step = { name => 's', sql => 'CALL etl.move_in_two()', transactional => 'false' };
    $f->job($name, $step);
    only('a1');
    $f->node($_)->stop('immediate') for qw(a1 d1);
    end_agent('parent');
    $run = start_items($name, 4, $step);
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'queued' AND attempt = 1", '4', "$name: a1 does not answer");
    only('d1');
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'queued' AND attempt = 2", '4', "$name: nor does d1");
    $f->node('a1')->start;
    only('a1');
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND server = 'a1' AND state = 'running' AND attempt = 3", '4', "$name: they run at last");
    $f->node('d1')->start;
    next_agent('a1', 'with its server');
    $f->release($name);
    $f->run_is($run, 'succeeded', "$name: all succeed");
    once_each($name, $run, 4, 'a1 3 succeeded: 4, d1 2 skipped 08006: 4');
}

# A failed attempt on one, the next one on the other.
for my $way ([ 'a1', 'd1' ], [ 'd1', 'a1' ])
{
    my ($from, $to) = @$way;
    my $name = "retried from $from to $to";
    $f->sql_on($from, "SET ROLE etl; CREATE OR REPLACE FUNCTION etl.move_or_fail() RETURNS void LANGUAGE plpgsql AS \$\$BEGIN PERFORM etl.work_until_released(); RAISE EXCEPTION 'not here' USING ERRCODE = '40001'; END\$\$");
    $f->sql_on($to, "SET ROLE etl; CREATE OR REPLACE FUNCTION etl.move_or_fail() RETURNS void LANGUAGE plpgsql AS \$\$BEGIN PERFORM etl.move(); END\$\$");
    only($from);
    $run = start_items($name, 2, { sql => 'SELECT etl.move_or_fail()' }, retries => 3, retry_wait => '50ms', retry_sqlstates => '{40001}');
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE key = '$name' AND what = 'start'", '2', "$name: both have begun on $from");
    only($to);
    $f->release($name);
    $f->run_is($run, 'succeeded', "$name: both succeed");
    once_each($name, $run, 2, "$from 1 failed 40001: 2, $to 2 succeeded: 2") if $from lt $to;
    once_each($name, $run, 2, "$to 2 succeeded: 2, $from 1 failed 40001: 2") if $from gt $to;
}

# A server that is there and refuses: what waits for a session fails, task run and step run, with the reason.
only('all');
$f->sql_on('d1', q{ALTER ROLE etl PASSWORD 'another'});
end_agent('parent'); # the new one has no session there
$f->job('refused', { name => 's', sql => 'SELECT 1' });
$f->job('refused too', { name => 's', sql => 'VACUUM' , transactional => 'false'});
$f->package('refused', map { ($_ => { job => $_, server => 'd1' }) } 'refused', 'refused too');
$run = $f->start('refused');
$f->run_is($run, 'failed', 'a server that refuses the password: the run fails');
for my $table (qw(task_run step_run))
{
    is($f->sql("SELECT string_agg(task || ' ' || state || ' ' || sqlstate, ', ' ORDER BY task) FROM fleet.$table WHERE run_id = $run"), 'refused failed 28P01, refused too failed 28P01', "$table says so, of steps with a transaction and without");
}
is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run AND level = 'ERROR' AND sqlstate = '28P01'"), '2', 'and the log, each once');
$f->sql_on('d1', "ALTER ROLE etl PASSWORD '$FleetTest::PASSWORD'");
same_agents('a refusal');

# ---- long values ------------------------------------------------------------------------------
#
# 6 kB and 60 kB (an item, a value and a line have at most 64) that no compression makes smaller,
# 60 kB of the same; parameters of 100 kB.  Once as they are stored by default, once with every column
# of the catalog out of line and not compressed.

for my $node (qw(parent a1 d1))
{
    $f->sql_on($node, <<'SQL');
CREATE FUNCTION etl.noise(n int, seed text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT left(string_agg(md5(seed || i), '' ORDER BY i), n) FROM generate_series(1, n / 32 + 1) AS i$$;
CREATE FUNCTION etl.long(which text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$SELECT CASE which WHEN 'small noise' THEN etl.noise(6000, 's') WHEN 'noise' THEN etl.noise(60000, 'n') WHEN 'more' THEN etl.noise(100000, 'm') ELSE repeat('repeated ', 6600) END$$;
CREATE FUNCTION etl.param(name text) RETURNS text LANGUAGE sql AS $$SELECT current_setting('fleet.params')::jsonb ->> name$$;
CREATE FUNCTION etl.sum() RETURNS text LANGUAGE sql AS $$SELECT md5(etl.param('item')) || ' ' || md5(etl.param('task')) || ' ' || md5(etl.param('run'))$$;
CREATE FUNCTION etl.held_sum() RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM etl.work_until_released(); RETURN etl.sum(); END$$;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA etl TO PUBLIC;
SQL
}
my @long = ('small noise', 'noise', 'repeated');
my %md5 = map { $_ => $f->sql('SELECT md5(etl.long(' . quote_literal($_) . '))') } @long, 'more';
my $items = join ' UNION ALL ', map { "SELECT jsonb_build_object('which', " . quote_literal($_) . ", 'item', etl.long(" . quote_literal($_) . '))' } @long;
my $run_params = $f->sql(q{SELECT jsonb_build_object('key', NULL, 'run', etl.long('more'))});
my $task_params = $f->sql(q{SELECT jsonb_build_object('task', etl.long('more'))});

$f->job('sum', 'SELECT etl.sum()');
$f->job('held sum', 'SELECT etl.held_sum()');
for my $held (0, 1)
{
    my $what = $held ? 'held sum' : 'sum';
    my $sql = $held ? 'SELECT etl.held_sum()' : 'SELECT etl.sum()';
    my %each = (for_each => $items, params => $task_params);
    $each{throttle} = 2 if $held; # the third is started by the next agent
    $f->package($what, -params => q{{"key": null, "run": null}},
        here => { sql => $sql, %each }, a1 => { job => $what, server => 'a1', %each }, d1 => { job => $what, server => 'd1', %each });
}

sub params_of { my ($key) = @_; return $run_params =~ s/"key": null/"key": "$key"/r; }

sub sums_are_right
{
    my ($run, $when) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $task (qw(here a1 d1))
    {
        is($f->sql("SELECT string_agg(output, ',' ORDER BY item) FROM fleet.task_run WHERE run_id = $run AND task = '$task' AND item > 0"),
            join(',', map { "$md5{$_} $md5{more} $md5{more}" } @long), "$task: every item had its own, the task's and the run's parameters whole, $when");
    }
    return;
}

for my $storage ('default', 'external')
{
    if ($storage eq 'external')
    {
        $f->sql_on($_, <<'SQL') for qw(parent a1);
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT a.attrelid::regclass AS rel, a.attname FROM pg_attribute AS a JOIN pg_class AS t ON t.oid = a.attrelid
              WHERE t.relnamespace = 'fleet_catalog'::regnamespace AND t.relkind = 'r' AND a.attnum > 0 AND a.attstorage IN ('x', 'm') LOOP
        EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = 128), ALTER COLUMN %I SET STORAGE EXTERNAL', c.rel, c.attname);
    END LOOP;
END $$;
SQL
        # what is stored already is stored anew
        $f->sql(q{UPDATE fleet_catalog.server SET groups = groups || '{}'::text[]});
    }
    $run = $f->start('sum', params_of("sum $storage"));
    $f->run_is($run, 'succeeded', "$storage storage: long parameters of run, task and items, in all modes");
    sums_are_right($run, "$storage storage");
    same_agents("long parameters, $storage storage");

    # … and while agents come and go
    $run = $f->start('held sum', params_of("held $storage"));
    $f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key = 'held $storage'", '6', "$storage storage: two items run in each mode");
    end_agent('parent');
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'running'", '6', 'they are taken up again');
    end_agent('a1');
    others_go_on("items with long parameters are open, $storage storage");
    $f->release("held $storage");
    $f->run_is($run, 'succeeded', "$storage storage: long parameters over new agents, here and on the server");
    sums_are_right($run, "after restarts, $storage storage");
    # a direct session ends with its agent, so d1's two items began again, with nothing of the first time
    is($f->sql("SELECT count(*) FROM etl.effect WHERE key = 'held $storage'") . $f->effects('a1', "held $storage") . $f->effects('d1', "held $storage"),
        '333', 'each item has one effect');
    same_agents("the new ones took over, $storage storage");

    # what comes back: a message, a detail, lines and a value, all long
    my $name = "talk $storage";
    $f->job($name, q{DO $$BEGIN RAISE NOTICE 'line %', etl.long('noise'); END$$; SELECT etl.long('noise')},
        { sql => q{DO $$BEGIN RAISE EXCEPTION '%', etl.long('noise') USING ERRCODE = 'ZX001', DETAIL = etl.long('repeated'), HINT = etl.long('small noise'); END$$} });
    my @on = (here => { sql => q{DO $$BEGIN RAISE EXCEPTION '%', etl.long('noise') USING ERRCODE = 'ZX001'; END$$} },
        a1 => { job => $name, server => 'a1' }, d1 => { job => $name, server => 'd1' });
    $f->package($name, @on);
    $f->package("around $name", t => { nested => $name });
    my $outer = $f->start("around $name");
    $f->run_is($outer, 'failed', "$storage storage: a nested package whose tasks fail with long messages");
    $run = $f->sql("SELECT run_id FROM fleet.run WHERE package = '$name'");
    is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND state = 'failed' AND sqlstate = 'ZX001' AND left(message, 6000) = left(etl.long('noise'), 6000)"),
        '3', 'each task has the message');
    for my $task (qw(a1 d1))
    {
        is($f->sql("SELECT count(*) FROM fleet.log WHERE run_id = $run AND task = '$task' AND level = 'NOTICE' AND left(message, 6005) = 'line ' || left(etl.long('noise'), 6000)"),
            '1', "$task: its line is in the log, once");
        is($f->sql("SELECT md5(output) FROM fleet.step_run WHERE run_id = $run AND task = '$task' AND step = 's1'"), $md5{noise}, "$task: the value of the first step is whole");
    }
    same_agents("long messages, $storage storage");

    # a step that is ready to commit, with its long value stored, when the agent ends
    $f->job("value $storage", q{SELECT etl.witness('start'), etl.long('noise')}, q{INSERT INTO etl.effect (key) VALUES (etl.key()); SELECT etl.long('noise')});
    for my $place (qw(here d1))
    {
        my $package = "value $storage $place";
        $f->package($package, -params => '{"key": null}',
            t => $place eq 'here' ? { sql => q{INSERT INTO etl.effect (key) VALUES (etl.key()); SELECT etl.long('noise')} } : { job => "value $storage", server => 'd1' });
        $f->point('parent', 'step_before_send_commit', $place eq 'here' ? 'exit' : 'exit 2');
        $run = $f->start($package, qq({"key": "$package"}));
        $f->point_fired('parent', 'step_before_send_commit', "$place: the agent ends when the id and the value are stored");
        next_agent('parent', 'after the point');
        $f->run_is($run, 'succeeded', "$place: the step is resolved, $storage storage");
        is($f->sql("SELECT md5(output) FROM fleet.task_run WHERE run_id = $run AND task = 't'"), $md5{noise}, "$place: its value is whole");
        is($f->effects($place eq 'here' ? 'parent' : 'd1', $package), 1, "$place: one effect");
    }

    # jobs, with the package that a step runs, deployed more than once in an agent's life
    my $jobs = $storage eq 'default' ? 3 : 1;
    for my $n (1 .. $jobs)
    {
        my $name = "big $storage $n";
        $f->sql("SELECT fleet.create_package('inner $name'); SELECT fleet.add_task('inner $name', 't', sql => 'SELECT ' || quote_literal(etl.long('noise')), params => jsonb_build_object('x', etl.long('repeated')))");
        $f->sql("SELECT fleet.create_job('$name', params => jsonb_build_object('p', etl.long('more'))); "
              . "SELECT fleet.add_step('$name', 's', 'SELECT length(etl.param(''p'')) || '' '' || ' || quote_literal(md5(etl.long('small noise'))) || '/* ' || etl.long('small noise') || ' */'); "
              . "SELECT fleet.add_step('$name', 'inside', package => 'inner $name')");
        $f->deploy($name);
        $f->deploy($name);
    }
    $f->package("big $storage", map { ("t$_" => { job => "big $storage $_", server => 'a1' }) } 1 .. $jobs);
    $run = $f->start("big $storage");
    $f->run_is($run, 'succeeded', "$storage storage: large jobs and packages, deployed one after the other, run on the server");
    is($f->sql("SELECT count(*) FROM fleet.step_run WHERE run_id = $run AND step = 's' AND output = '100000 $md5{'small noise'}'"), $jobs, 'with their parameters');
    same_agents("deployments of large jobs, $storage storage");

    # servers with many groups are read at each change of any server
    my $groups = $f->sql("SELECT array_agg('g' || md5(i::text) || '$storage') || '{all,direct}' FROM generate_series(1, 400) AS i");
    $f->sql("SELECT fleet.alter_server('d1', groups => '$groups')");
    $f->sql("SELECT fleet.alter_server('a1', slots => $_)") for (7, 9, 8);
    my $group = $f->sql("SELECT 'g' || md5('399') || '$storage'");
    $f->package("grouped $storage", t => { job => 'noop', on_group => $group });
    $run = $f->start("grouped $storage");
    $f->run_is($run, 'succeeded', "$storage storage: a server in 400 groups");
    is($f->sql("SELECT server FROM fleet.task_run WHERE run_id = $run"), 'd1', 'is found by one of the last of them');
    same_agents("many groups, $storage storage");
}

# a session that shows long lines
my ($rc, $out, $err) = $f->try_as(undef, q{CALL fleet.execute_package('talk external')});
is($rc, 3, 'execute_package of a package with long lines ends with its failure');
like($err, qr/INFO:  00000: a1: NOTICE: line [0-9a-f]{1000}.*ERROR:  09000: package "talk external" did not succeed/s, '… shows the line and says so');

$f->done(crashes => 1);
