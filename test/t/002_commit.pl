# A rolled-back request starts nothing; a committed one starts at commit, and not before.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1);
my $parent = $f->parent;
$f->job('work', 'SELECT etl.work()');
$f->package('p', -params => '{"key": null}',
    here   => { sql => 'SELECT etl.work()' },
    agent  => { job => 'work', server => 'a1' },
    direct => { job => 'work', server => 'd1' });

sub request { my ($key) = @_; return "SELECT fleet.run_parent_package('p', params => '{\"key\": \"$key\"}')"; }

# rolled back, in each way there is
$f->sql('BEGIN; ' . request('rollback') . '; ROLLBACK');
$f->sql('BEGIN; SAVEPOINT s; ' . request('savepoint') . '; ROLLBACK TO s; COMMIT');
$f->sql('DO $$ BEGIN PERFORM 1; ' . (request('exception') =~ s/^SELECT/PERFORM/r)
      . q{; RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$});
$f->fails('BEGIN; ' . request('error') . '; SELECT 1/0; COMMIT', '22012', 'a transaction that fails');
$f->sql('BEGIN; SAVEPOINT a; SAVEPOINT b; ' . request('nested') . '; RELEASE b; ROLLBACK TO a; COMMIT');
# one that would start when somebody else, perhaps never, ends it
$f->fails('BEGIN; ' . request('prepared') . q{; PREPARE TRANSACTION 'x'}, '0A000', 'a request cannot be prepared');

# not yet committed
my $session = $parent->background_psql($FleetTest::DB);
$session->query_safe('BEGIN');
$session->query_safe(request('later'));

# A run asked for after all of these ends before anybody looks: what was to start had its time.
my $run = $f->sql(request('now'));
$f->run_is($run, 'succeeded', 'a committed request runs');
is($f->sql_on('witness', q{SELECT string_agg(server || ' ' || what, ', ' ORDER BY server, what DESC) FROM event WHERE key = 'now'}),
    'a1 start, a1 end, d1 start, d1 end, parent start, parent end', 'in all three places, once');
for my $key (qw(rollback savepoint exception error nested prepared later))
{
    is($f->witnessed($key, 'start'), 0, "$key: nothing started");
}
is($f->sql('SELECT count(*) FROM fleet.run'), 1, 'and there is one run');

$session->query_safe('COMMIT');
$f->wait_for('witness', "SELECT count(*) FROM event WHERE key = 'later' AND what = 'end'", '3', 'it starts at its commit');
$session->quit;

# what a subtransaction asked for that was not rolled back
$run = $f->sql('BEGIN; SAVEPOINT a; ' . request('kept') . '; RELEASE a; SAVEPOINT b; SELECT 1; ROLLBACK TO b; COMMIT');
$f->wait_for('witness', "SELECT count(*) FROM event WHERE key = 'kept' AND what = 'end'", '3', 'a request of a subtransaction that was kept');

# several requests of one transaction
$f->sql('BEGIN; ' . join('; ', map { request("many$_") } 1 .. 10) . '; COMMIT');
$f->wait_for('witness', "SELECT count(DISTINCT key) FROM event WHERE key LIKE 'many%' AND what = 'end'", '10', 'ten requests of one transaction');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE state <> 'succeeded'}, '0', 'all succeeded');
is($f->sql_on('witness', q{SELECT count(*) FROM event WHERE key LIKE 'many%' AND what = 'start'}), '30', 'each in three places, once');

# a request of a function, of a prepared statement, under each isolation level
for my $level ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE')
{
    my $key = 'iso-' . lc(substr($level, 0, 4));
    $run = $f->sql("BEGIN ISOLATION LEVEL $level; " . request($key) . '; COMMIT');
    $f->run_is($run, 'succeeded', "requested under $level");
    is($f->witnessed($key, 'end'), 3, "$level: in all three places");
}

# a run key: the same request twice is one run
is($f->sql("SELECT fleet.run_parent_package('p', params => '{\"key\": \"k\"}', run_key => 'day 1')"),
    $f->sql("SELECT fleet.run_parent_package('p', params => '{\"key\": \"k\"}', run_key => 'day 1')"),
    'the same run key gives the same run');
$f->wait_for('witness', "SELECT count(*) FROM event WHERE key = 'k' AND what = 'end'", '3', 'which runs');
is($f->witnessed('k', 'start'), 3, 'once');

# waiting
is($f->sql("SELECT fleet.wait_for_run($run, timeout => '10min')"), 'succeeded', 'waiting for a run that ended long ago');
$f->package('slow', sleep => { sql => 'SELECT etl.work_until_released()' });
$run = $f->start('slow');
is($f->sql("SELECT fleet.wait_for_run($run, timeout => '100ms') IS NULL"), 't', 'NULL at the timeout');
my $waiter = $parent->background_psql($FleetTest::DB);
$waiter->query_until(qr/ready/, "\\echo ready\nSELECT fleet.wait_for_run($run);\n\\echo over\n");
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT fleet.wait_for_run(%' AND state = 'active'}, '1', 'a session waits');
$f->release('-');
like($waiter->query_until(qr/over/, ''), qr/succeeded/, 'and is told');
$waiter->quit;

# canceled: confirmed, not only asked for
my %place = (here => { sql => 'SELECT etl.work_until_released()' });
$f->job('hold', 'SELECT etl.work_until_released()');
for my $where (qw(here a1 d1))
{
    my $name = "cancel_$where";
    $f->package($name, -params => '{"key": null}',
        task => $where eq 'here' ? $place{here} : { job => 'hold', server => $where },
        after => { sql => 'SELECT etl.work()', after => '{task}' });
    $run = $f->start($name, "{\"key\": \"$name\"}");
    $f->wait_started($name);
    is($f->sql("SELECT fleet.cancel_run($run)"), 't', "$where: cancel");
    $f->run_is($run, 'canceled', "$where: the run is canceled");
    is($f->sql("SELECT string_agg(task || ' ' || state || ' ' || coalesce(sqlstate, '-'), ', ' ORDER BY task DESC) FROM fleet.task_run WHERE run_id = $run"),
        'task canceled 57014, after canceled -', "$where: so are its tasks, and it says by what");
    is($f->sql("SELECT string_agg(step || ' ' || state || ' ' || sqlstate, ',') FROM fleet.job_log WHERE run_id = $run"),
        ($where eq 'here' ? 'task' : 's1') . ' canceled 57014', "$where: and its step");
    $f->release($name);
    my $server = $where eq 'here' ? 'parent' : $where;
    is($f->sql_on($server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%work_until_released%' AND state = 'active' AND pid <> pg_backend_pid()"),
        '0', "$where: nothing runs on");
    is($f->witnessed($name, 'end'), 0, "$where: it never came to its end");
    is($f->effects($server, $name), 0, "$where: and left nothing");
    is($f->sql("SELECT fleet.cancel_run($run)"), 'f', "$where: a final run is not canceled");
}

$f->done;
