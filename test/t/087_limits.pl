# Named limits: at most so many of the tasks that name one are active at a time, of all packages, runs and roles, here and on
# servers of both modes; after an end of the agent, a crash, a retry and the loss of a server too.  What really ran at the same
# time is what the witness saw.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, slots => 8, delays => 0);

sub event { my ($what, $key) = @_; return $f->sql_on('witness', "SELECT count(*) FROM event WHERE what = '$what' AND key LIKE '$key'"); }
# The most of these at the same time, from their last starts to their ends.
sub most
{
    my ($keys) = @_;
    return $f->sql_on('witness', "WITH r AS (SELECT key, max(id) FILTER (WHERE what = 'start') AS s, max(id) FILTER (WHERE what = 'end') AS e FROM event WHERE key LIKE '$keys' GROUP BY key) "
          . 'SELECT max(n) FROM (SELECT (SELECT count(*) FROM r AS b WHERE b.s <= a.s AND b.e > a.s) AS n FROM r AS a WHERE a.e IS NOT NULL) AS o');
}
sub began { my ($keys, $n) = @_; $f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key LIKE '$keys'", $n, "$n of $keys have begun"); return; }
sub limit { my ($name) = @_; return $f->sql("SELECT running || ' ' || queued FROM fleet.limits WHERE name = '$name'"); }
sub limit_is { my ($name, $what, $why) = @_; $f->wait_for('parent', "SELECT running || ' ' || queued FROM fleet.limits WHERE name = '$name'", $what, $why); return; }
sub end_agent
{
    my ($what) = @_;
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid", '0', $what);
    return;
}
# The agent has done all that there was to do: a run of another package begins and ends after it.
sub agent_has_seen { my ($what) = @_; $f->run_is($f->start('probe'), 'succeeded', "$what: other runs go on"); return; }
# A task of this key, in a package of its own; it begins, waits until it is released, and ends.
sub held
{
    my ($key, $server, $more) = @_;
    my $work = $server eq '' ? q{sql => 'SELECT etl.work_until_released()'} : "job => 'held', server => '$server'";
    $f->sql("SELECT fleet.create_package('p $key', params => '{\"key\": \"$key\"}'); SELECT fleet.add_task('p $key', 'work', $work, " . ($more // q{limits => '{io}'}) . ')');
    return $f->sql("SELECT fleet.run_parent_package('p $key')");
}
sub waits_for { my ($run) = @_; return $f->sql("SELECT coalesce(waiting_for, '') FROM fleet.task_run WHERE run_id = $run"); }

$f->package('probe', p => { sql => 'SELECT 1' });
$f->job('held', { sql => 'SELECT etl.work_until_released()' });
$f->sql("SELECT fleet.create_limit('io', 2, 'reads whole tables')");

# ---- two at a time, here and on servers of both modes -------------------------------------------

my @runs = map { held("x$_", ('', 'a1', 'd1')[ $_ % 3 ]) } 0 .. 5;
began('x%', 2);
agent_has_seen('two of six');
is(limit('io'), '2 4', 'two run, four wait');
is(event('start', 'x%'), '2', '... the witness has seen two');
is(waits_for($runs[5]), 'limit "io": 2 of 2 running', 'what waits says for which limit');
is(waits_for($runs[0]), '', '... and what runs does not');
for my $how ('ends', 'crashes')
{
    if ($how eq 'ends') { end_agent('the agent ends'); }
    else
    {
        $f->parent->stop('immediate');
        $f->forget('parent');
        $f->parent->start;
    }
    agent_has_seen("the agent $how");
    limit_is('io', '2 4', '... two still run');
}
$f->sql("SELECT fleet.alter_limit('io', max_running => 3)");
began('x%', 3);
agent_has_seen('one more may run');
is(limit('io'), '3 3', '... and does');
$f->sql("SELECT fleet.alter_limit('io', max_running => 1)");
$f->release('x0');
is($f->wait_run($runs[0]), 'succeeded', 'one ends');
agent_has_seen('now one may run');
is(limit('io'), '2 3', '... no other one begins while two run');
$f->sql("SELECT fleet.alter_limit('io', max_running => 2, new_name => 'disk')");
is($f->sql(q{SELECT limits FROM fleet.task WHERE package = 'p x5'}), '{disk}', 'a new name: tasks follow');
end_agent('and the agent reads it anew');
agent_has_seen('the limit has another name');
is(limit('disk'), '2 3', '... and open runs follow');
is(waits_for($runs[5]), 'limit "disk": 2 of 2 running', '... which say its new name');
$f->release("x$_") for 1 .. 5;
is(join(' ', map { $f->wait_run($_) } @runs), join(' ', ('succeeded') x 6), 'all end in the end');
cmp_ok(most('x%'), '<=', 3, 'never more than three at a time');
is(limit('disk'), '0 0', 'nothing holds it');
$f->sql("SELECT fleet.alter_limit('disk', new_name => 'io')");

# ---- items, retries, cancels --------------------------------------------------------------------

$f->package('items', each => { job => 'held', on_group => 'all', for_each => q{SELECT 'i' || n AS key FROM generate_series(1, 6) AS n}, limits => '{io}' });
my $run = $f->start('items');
began('i%', 2);
agent_has_seen('two of six items');
is(limit('io'), '2 4', 'each item counts');
is($f->sql("SELECT string_agg(DISTINCT coalesce(waiting_for, ''), ',') FROM fleet.task_run WHERE run_id = $run AND item > 0 AND state = 'queued'"), 'limit "io": 2 of 2 running', '... and says what it waits for');
$f->sql("SELECT fleet.cancel_run($run)");
is($f->wait_run($run), 'canceled', 'canceled');
is(limit('io'), '0 0', '... what held a place gives it back');

# one fails, waits for its retry, and finds the place taken
my $fails = q{SELECT etl.work_until_released(), 1 / ((current_setting('fleet.context')::jsonb ->> 'attempt')::integer - 1)};
$f->sql("SELECT fleet.alter_limit('io', max_running => 1)");
$f->job('breaks', { sql => $fails });
for my $where ('', 'a1', 'd1')
{
    my $work = $where eq '' ? 'sql => ' . FleetTest::quote_literal($fails) : "job => 'breaks', server => '$where'";
    $f->sql("SELECT fleet.create_package('again$where', params => '{\"key\": \"again$where\"}'); "
          . "SELECT fleet.add_task('again$where', 't', $work, retries => 1, retry_wait => '0.1 s', retry_sqlstates => '{22012}', limits => '{io}')");
    my $first = $f->start("again$where");
    $f->wait_started("again$where", 1);
    my $other = held("other$where", '');
    agent_has_seen("retry $where");
    is(waits_for($other), 'limit "io": 1 of 1 running', "retry $where: the other one waits");
    $f->release("again$where");
    $f->wait_started("other$where", 1);
    $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $first", 'queued', '... and has the place while the first one waits for its retry');
    agent_has_seen('the retry is due');
    is(event('start', "again$where"), '1', '... which begins only when there is room');
    is(limit('io'), '1 1', '... by the rows too');
    $f->release("other$where");
    is($f->wait_run($first) . $f->wait_run($other), 'succeededsucceeded', '... and then does');
}

# two limits: all or none
$f->sql("SELECT fleet.alter_limit('io', max_running => 2); SELECT fleet.create_limit('net', 1)");
my @two = (held('n1', 'a1', q{limits => '{net}'}), held('n2', 'd1', q{limits => '{io,net}'}), held('n3', '', q{limits => '{io}'}));
$f->wait_started('n1', 1);
$f->wait_started('n3', 1);
agent_has_seen('two limits');
is(limit('io') . ', ' . limit('net'), '1 1, 1 1', 'what waits for one limit holds no place of the other');
is(waits_for($two[1]), 'limit "net": 1 of 1 running', '... and says for which');
$f->release('n1');
$f->wait_started('n2', 1);
$f->release("n$_") for 2, 3;
is(join(' ', map { $f->wait_run($_) } @two), 'succeeded succeeded succeeded', '... all end');

# a server that does not come back: its place is free when the task is lost, and not before
$f->sql("ALTER SYSTEM SET fleet.lost_after = '3s'; SELECT pg_reload_conf()");
$f->sql("SELECT fleet.alter_limit('io', max_running => 1)");
my $gone = held('gone', 'a1');
$f->wait_started('gone', 1);
my $after = held('after', '');
agent_has_seen('before its server is gone');
is(waits_for($after), 'limit "io": 1 of 1 running', 'one waits for it');
$f->node('a1')->stop('immediate');
$f->forget('a1');
is($f->wait_run($gone), 'failed', 'lost');
is($f->sql("SELECT state FROM fleet.task_run WHERE run_id = $gone"), 'lost', '... is final');
$f->wait_started('after', 1);
is($f->sql("SELECT t.started_at >= g.finished_at FROM fleet.task_run AS t, fleet.task_run AS g WHERE t.run_id = $after AND g.run_id = $gone"), 't', '... and gives its place back then');
$f->release('after');
is($f->wait_run($after), 'succeeded', '... to the next');
$f->node('a1')->start;
$f->release('gone');
$f->sql('ALTER SYSTEM RESET fleet.lost_after; SELECT pg_reload_conf()');

# ---- none may start; dropped --------------------------------------------------------------------

$f->sql("SELECT fleet.alter_limit('io', max_running => 0)");
my $stopped = held('stopped', 'd1');
agent_has_seen('0');
is(waits_for($stopped), 'limit "io": 0 of 0 running', '0 lets none start');
$f->fails(q{SELECT fleet.drop_limit('io')}, '2BP01', 'a limit that is used is not dropped', like => qr/task "each" of package "items"/);
is($f->sql(q{SELECT fleet.drop_limit('io', cascade => true), fleet.drop_limit('io', if_exists => true)}), 't|f', '... but with cascade');
is($f->sql(q{SELECT limits FROM fleet.task WHERE package = 'items'}), '{}', '... tasks lose it');
$f->wait_started('stopped', 1);
$f->release('stopped');
is($f->wait_run($stopped), 'succeeded', '... and what waited goes on');

# ---- whose it is --------------------------------------------------------------------------------

$f->sql('CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN; SELECT 1');
$f->sql(q{SET ROLE alice; SELECT fleet.create_limit('hers', 1, shared => false), fleet.create_limit('for all', 1); SELECT fleet.create_package('of alice'); SELECT fleet.add_task('of alice', 't', sql => 'SELECT 1', limits => '{hers,for all}')});
$f->sql(q{SET ROLE bob; SELECT fleet.create_package('of bob'); SELECT fleet.add_task('of bob', 't', sql => 'SELECT 1', limits => '{for all}')});
$f->fails(q{SET ROLE bob; SELECT fleet.alter_task('of bob', 't', limits => '{hers}')}, '42501', 'a limit that is not shared is for its owner', like => qr/limit "hers".*alice/s);
$f->fails(q{SET ROLE bob; SELECT fleet.alter_limit('for all', 100)}, '42501', 'nobody else changes it', like => qr/limit "for all"/);
$f->fails(q{SET ROLE bob; SELECT fleet.alter_task('of bob', 't', limits => '{nothing}')}, '42704', 'one that does not exist', like => qr/Existing names are: for all, net/);
$f->fails(q{SET ROLE bob; SELECT fleet.add_task('of bob', 'c', container => true, limits => '{for all}')}, '22023', 'not for a container', like => qr/Give the limits to the tasks in it/);
is($f->sql(q{SET ROLE bob; SELECT string_agg(name, ' ' ORDER BY name) FROM fleet.limits}), 'for all net', 'he sees those that he may use');
is($f->sql(q{SET ROLE bob; SELECT fleet.export_package('of bob') #>> '{packages,of bob,tasks,0,limits}'}), '["for all"]', 'a document has them');
is($f->sql(q{SELECT fleet.run_parent_package('of alice') > 0}), 't', 'and it runs');

$f->done(crashes => 1);
