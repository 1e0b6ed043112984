# Every kind of fault that one run, user or server can bring, one after the other, while another role
# starts a one-line package every 100 ms.  Its runs all succeed, and the agent that was there at the
# beginning is there at the end.  How long they took at most, by fault, is printed, not asserted: the
# machine decides that (guarantees: the longest should be below a second).
use strict;
use warnings;
use FakeServer;
use FleetTest qw(quote_literal);
use IPC::Run ();
use PostgreSQL::Test::Utils;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1);
my $fake = FakeServer->new;

$f->sql(<<'SQL');
CREATE ROLE other LOGIN;
CREATE ROLE dropped LOGIN;
GRANT USAGE ON SCHEMA etl TO other;
CREATE TABLE etl.note (n int);
GRANT INSERT ON etl.note TO other;
CREATE TABLE etl.period (no int, name text, began timestamptz DEFAULT clock_timestamp());
SQL
$f->sql_as('other', q{SELECT fleet.create_package('line'); SELECT fleet.add_task('line', 't', sql => 'INSERT INTO etl.note VALUES (1)')});
$f->run_is($f->sql_as('other', q{SELECT fleet.run_parent_package('line')}), 'succeeded', 'the other role has a package of one line');

# ---- the other role ----------------------------------------------------------------------------

my ($beat_out, $beat_err) = ('', '');
my $script = PostgreSQL::Test::Utils::tempdir() . '/beat.sql';
append_to_file($script, "SELECT fleet.run_parent_package('line')\n\\watch 0.1\n");
my $beat = IPC::Run::start(
    [ 'psql', '-X', '-At', '-q', '-v', 'ON_ERROR_STOP=1', '-U', 'other', '-h', $f->parent->host, '-p', $f->parent->port, '-d', $FleetTest::DB, '-f', $script ],
    '>', \$beat_out, '2>', \$beat_err);
$f->job('noop', 'SELECT 1');
$f->job('held', 'SELECT etl.work_until_released()');
$f->package('work', -params => '{"key": null}', t => { job => 'held', server => 'd1' });
$f->package('here', -params => '{"key": null}', t => { sql => 'SELECT etl.work_until_released()' });
for my $server (qw(a1 d1))
{
    $f->job("work_$server", 'SELECT etl.work_until_released()');
    $f->package("work_$server", -params => '{"key": null}', t => { job => "work_$server", server => $server });
    $f->package("noop_$server", t => { job => "noop", server => $server });
}
my $pid = $f->agent_pid;
my $epoch = $f->sql('SELECT epoch FROM fleet.agent_status()');
my $faults = 0;

# Some more of its runs have been started, and have ended, since now.
sub beats
{
    my ($name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $last = $f->sql(q{SELECT coalesce(max(run_id), 0) FROM fleet.run WHERE package = 'line'});
    $f->wait_for('parent', "SELECT count(*) >= 3 FROM fleet.run WHERE package = 'line' AND run_id > $last AND state = 'succeeded'", 't', "$name: the other role's runs continue");
    return;
}

sub fault
{
    my ($name, $plant) = @_;
    $f->sql(sprintf 'INSERT INTO etl.period VALUES (%d, %s)', ++$faults, quote_literal($name));
    my $after = $plant->();
    beats($name);
    $after->() if ref $after;
    is($f->agent_pid, $pid, "$name: no agent has died");
    $pid = $f->agent_pid;
    return;
}

sub is_down
{
    my ($server, $like, $name) = @_;
    return $f->wait_for('parent', "SELECT last_error ~ " . quote_literal($like) . " FROM fleet.server_status WHERE server = '$server'", 't', "$name: the server's status says why");
}

sub give_up
{
    my ($server, $run, $name) = @_;
    $f->sql("SELECT fleet.cancel_run($run); SELECT fleet.set_server_state('$server', 'offline')");
    $f->run_is($run, 'canceled', "$name: it can be canceled");
    return;
}

beats('no fault');
$f->sql(q{INSERT INTO etl.period VALUES (0, 'no fault')});

# ---- definitions -------------------------------------------------------------------------------

fault('a nested package without tasks' => sub {
    $f->package('empty');
    $f->package('outer', n => { nested => 'empty' });
    $f->run_is($f->start('outer'), 'succeeded', 'a nested package without tasks: that run succeeds');
});
fault('long items' => sub {
    $f->package('long', t => { sql => 'SELECT 1',
        for_each => q{SELECT jsonb_build_object('i', i, 'v', (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 1000) AS j)) FROM generate_series(1, 40) AS i} });
    $f->run_is($f->start('long'), 'succeeded', 'long items: that run succeeds');
});
# FLEET_ITEMS=1000000 for the numbers of doc/performance.md
my $items = $ENV{FLEET_ITEMS} || 100_000;
$f->package('many', t => { sql => 'SELECT pg_sleep(60)', throttle => 1, for_each => "SELECT jsonb_build_object('i', i) FROM generate_series(1, $items) AS i" });
my $many;
fault("$items items" => sub {
    $many = $f->start('many');
    $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $many AND item > 0 AND state = 'running'", '1', "$items items: the first one runs");
    is($f->sql("SELECT count(*) FROM fleet.task_run WHERE run_id = $many AND item > 0"), $items, 'all of them are there then');
});
fault("$items items, canceled" => sub {
    $f->sql("SELECT fleet.cancel_run($many)");
    $f->run_is($many, 'canceled', "$items items: canceled");
    is($f->sql("SELECT string_agg(DISTINCT state, ' ') FROM fleet.task_run WHERE run_id = $many"), 'canceled', 'each of them');
});
fault("$items items, canceled before they are all there" => sub {
    my $run = $f->start('many');
    $f->wait_for('parent', "SELECT count(*) > 0 FROM fleet.task_run WHERE run_id = $run AND item > 0", 't', 'items, canceled early: some are there');
    $f->sql("SELECT fleet.cancel_run($run)");
    $f->run_is($run, 'canceled', 'items, canceled early: canceled');
    is($f->sql("SELECT string_agg(DISTINCT state, ' ') FROM fleet.task_run WHERE run_id = $run"), 'canceled', 'items, canceled early: whatever was there');
});
fault('a step that cannot begin, ten thousand times' => sub {
    $f->sql(q{SELECT fleet.create_job('around'); SELECT fleet.add_step('around', 's', 'SELECT 1', run_as => 'dropped', failure_goto => 's')});
    $f->package('around', t => { job => 'around', server => 'd1' });
    $f->sql('DROP ROLE dropped');
    my $run = $f->start('around');
    $f->wait_for('parent', "SELECT state, sqlstate FROM fleet.task_run WHERE run_id = $run AND finished_at IS NOT NULL", 'failed|54001', 'a step that cannot begin: that run fails');
});

# ---- users -------------------------------------------------------------------------------------

fault('transactions that stay open' => sub {
    my @open;
    for my $sql (q{SELECT fleet.run_parent_package('line', run_key => 'open')}, q{SELECT count(*) FROM fleet.deploy_job('held', server => 'a1')},
        q{SELECT fleet.alter_server('a1', slots => 5)}, q{SELECT fleet.create_job('open')}, q{SELECT fleet.drop_package('outer')})
    {
        my $s = $f->parent->background_psql($FleetTest::DB);
        $s->query_safe("BEGIN; $sql");
        push @open, $s;
    }
    return sub { $_->query_safe('ROLLBACK'), $_->quit for @open; };
});
fault('signals to the agent' => sub {
    my $run = $f->start('work', '{"key": "signaled"}');
    $f->wait_started('signaled');
    $f->sql("SELECT pg_cancel_backend($pid)") for 1 .. 3;
    $f->sql('SELECT pg_reload_conf()');
    return sub { $f->release('signaled'); $f->run_is($run, 'succeeded', 'signals to the agent: what ran has succeeded'); };
});
fault('runners end' => sub {
    my $run = $f->start('here', '{"key": "runner"}');
    $f->wait_started('runner');
    $f->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet runner%' AND usename = 'postgres'});
    return sub { $f->release('runner'); isnt($f->wait_run($run), '', 'runners end: that run ends'); };
});

# ---- servers -----------------------------------------------------------------------------------

fault('a password of stars in a login error' => sub {
    $fake->ctl(auth => 'cleartext');
    $fake->rules([ on => '^password', send => [ [ 'fatal', '57P03', 'no ***' ] ] ]);
    my ($server, $run) = $fake->begin($f, 'agent', '***', sql => 'SELECT 1');
    is_down($server, 'no \*\*\*', 'stars');
    return sub { give_up($server, $run, 'stars'); $fake->ctl(auth => 'trust'); };
});
fault('a copy that nobody asked for' => sub {
    $fake->rules([ on => '^execute SELECT \* FROM fleet_link.agent_hello', send => ['copyboth'] ]);
    my ($server, $run) = $fake->begin($f, 'agent', 'fake-secret', sql => 'SELECT 1');
    is_down($server, 'unexpected COPY response', 'a copy');
    return sub { give_up($server, $run, 'a copy'); };
});
fault('a flood of notices' => sub {
    $fake->rules([ on => '^(?:execute|query) VACUUM', send => [ [ 'times', 300000, [ 'notice', '01000', 'x' ] ], 'hang' ] ]);
    my ($server, $run) = $fake->begin($f, 'direct', 'fake-secret', sql => 'VACUUM -- notices');
    $f->wait_for('parent', "SELECT count(*) > 100 FROM fleet.log WHERE run_id = $run", 't', 'a flood: its lines come');
    return sub {
        $f->sql("SELECT fleet.cancel_run($run); SELECT fleet.set_server_state('$server', 'offline')");
        $fake->ctl(cut => JSON::PP::true);
        isnt($f->wait_run($run), '', 'a flood: that run ends');
    };
});
fault('one huge value' => sub {
    $fake->rules([ on => '^(?:execute|query) SELECT 7', send => [ [ 'columns', ['v'] ], [ 'row', [ 'x' x 30_000_000 ] ], [ 'complete', 'SELECT 1' ] ] ]);
    my ($server, $run) = $fake->begin($f, 'direct', 'fake-secret', sql => 'SELECT 7');
    isnt($f->wait_run($run), '', 'one huge value: that run ends');
    $f->sql("SELECT fleet.set_server_state('$server', 'offline')");
});
fault('a name without an address' => sub {
    my ($server, $run) = $fake->begin($f, 'direct', 'fake-secret', sql => 'SELECT 1', conninfo => 'host=no-such-host.invalid port=1 dbname=dw');
    is_down($server, 'no-such-host', 'a name without an address');
    return sub { give_up($server, $run, 'a name without an address'); };
});
for my $server (qw(a1 d1))
{
    my $job = "work_$server";
    fault("$server crashes with work on it" => sub {
        my $run = $f->start($job, qq({"key": "crash $server"}));
        $f->wait_started("crash $server");
        $f->node($server)->stop('immediate');
        $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = '$server'", 't', "$server crashes: noticed");
        beats("$server is away");
        $f->node($server)->start;
        return sub { $f->release("crash $server"); $f->run_is($run, 'succeeded', "$server crashes: the work is done in the end"); };
    });
    fault("a black hole before $server" => sub {
        my $run = $f->start($job, qq({"key": "hole $server"}));
        $f->wait_started("hole $server");
        $f->proxy->ctl('hole', $server);
        $f->wait_for('parent', "SELECT state FROM fleet.server_status WHERE server = '$server'", 'suspect', "a black hole before $server: noticed");
        $f->proxy->ctl('kill', $server);
        $f->proxy->ctl('allow', $server);
        return sub { $f->release("hole $server"); $f->run_is($run, 'succeeded', "a black hole before $server: the work is done in the end"); };
    });
}
fault('definitions of servers change' => sub {
    for my $slots (1 .. 50)
    {
        $f->sql("SELECT fleet.alter_server('$_', slots => $slots, groups => '{all,g$slots}')") for qw(a1 d1);
    }
    $f->sql("SELECT fleet.alter_server('$_', slots => 4, groups => '{all}')") for qw(a1 d1);
    $f->run_is($f->start("noop_$_"), 'succeeded', "definitions of servers change: $_ works") for qw(a1 d1);
});

# ---- what came out -----------------------------------------------------------------------------

$beat->signal('INT');
$beat->finish;
is($beat_err =~ s/^Cancel request sent\n//r, '', 'the other role could always ask');
$f->wait_for('parent', q{SELECT count(*) FROM fleet.run WHERE package = 'line' AND finished_at IS NULL}, '0', 'each of its runs has ended');
is($f->sql(q{SELECT string_agg(DISTINCT state, ' ') FROM fleet.run WHERE package = 'line'}), 'succeeded', 'and succeeded');
is($f->sql(q{SELECT count(*) FROM etl.note}), $f->sql(q{SELECT count(*) FROM fleet.run WHERE package = 'line'}), 'once each');
is($f->sql('SELECT epoch FROM fleet.agent_status()'), $epoch, 'one agent was there from the beginning to the end');

my @worst = split /\n/, $f->sql(<<'SQL');
SELECT format('%s ms of %s runs: %s', lpad(round(1000 * max(extract(epoch FROM r.finished_at - r.queued_at)), 0)::text, 5), lpad(count(*)::text, 3), p.name)
  FROM fleet.run AS r, LATERAL (SELECT no, name FROM etl.period AS p WHERE p.began <= r.queued_at ORDER BY p.began DESC LIMIT 1) AS p
 WHERE r.package = 'line' GROUP BY p.no, p.name ORDER BY max(r.finished_at - r.queued_at) DESC
SQL
note 'the longest time from the request to the end of such a run, by what happened meanwhile:';
$ENV{FLEET_ITEMS} ? diag $_ : note $_ for @worst;
diag "the longest that another role's run took: $worst[0]";
diag "first of $items items after " . $f->sql("SELECT round(1000 * extract(epoch FROM min(t.started_at) - r.queued_at)) FROM fleet.run AS r JOIN fleet.task_run AS t USING (run_id) WHERE r.run_id = $many AND t.item > 0 GROUP BY r.queued_at") . ' ms';

$f->done(crashes => 1, made => 1);
