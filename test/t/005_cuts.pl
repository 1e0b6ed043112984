# The link is cut: before the request is sent, after, while the step runs, before COMMIT, after
# COMMIT; in both modes, through a proxy.  What really happened is counted by the witness and by the
# effects in the child's own table, not by pg_fleet.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1);
my $proxy = $f->proxy;
$f->job('work', 'SELECT etl.work()');
$f->job('hold', 'SELECT etl.work_until_released()');
$f->job('open', { command => 'CALL etl.open_work()', transactional => 'false' });
$f->job('open_retry', { command => 'CALL etl.open_work()', transactional => 'false', on_unknown => 'retry', retries => 2, retry_wait => '100ms' });
for my $server (qw(a1 d1))
{
    $f->sql_on($server, <<'SQL');
SET ROLE etl;
-- commits in between, so nobody can tell from outside what it did
CREATE PROCEDURE etl.open_work() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO etl.effect (key) VALUES (etl.key()); COMMIT;
    PERFORM etl.work_until_released();
END $$;
SQL
    for my $job (qw(work hold open open_retry))
    {
        $f->package("${job}_$server", -params => '{"key": null}', t => { job => $job, server => $server });
    }
}

my $n = 0;

sub key { $n++; return "cut$n"; }

# one case: arm the proxy, start, let "middle" happen, then all is allowed again and the run must
# end; returns run and key
sub try_cut
{
    my ($server, $job, $name, %do) = @_;
    my $key = key();
    note "---- $server: $name ($key)";
    $do{arm}->() if $do{arm};
    my $run = $f->start("${job}_$server", "{\"key\": \"$key\"}");
    $do{middle}->($run, $key) if $do{middle};
    $proxy->ctl('allow', $server);
    $f->release($key) if $job ne 'work' && !$do{released};
    $f->run_is($run, $do{state} || 'succeeded', "$server: $name: outcome");
    return ($run, $key);
}

sub once
{
    my ($server, $key, $name, %opt) = @_;
    is($f->effects($server, $key), 1, "$server: $name: one effect");
    is($f->witnessed($key, 'start'), 1, "$server: $name: one start") unless $opt{again};
    return;
}

# the links are up
for my $server (qw(a1 d1))
{
    my ($run, $key) = try_cut($server, 'work', 'no fault');
    once($server, $key, 'no fault');
}

# ---- before send -------------------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    my ($run, $key) = try_cut($server, 'work', 'cut before send',
        arm    => sub { $proxy->ctl('refuse', $server) },
        middle => sub {
            my ($run) = @_;
            $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = '$server'", 't',
                "$server: the reason is in server_status");
            is($f->sql("SELECT state IN ('queued', 'starting') FROM fleet.task_run WHERE run_id = $run"), 't', "$server: and the task is not running");
        });
    once($server, $key, 'cut before send');
    $f->wait_for('parent', "SELECT last_seen > (SELECT queued_at FROM fleet.run WHERE run_id = $run) FROM fleet.server_status WHERE server = '$server'", 't',
        "$server: seen again");
}

# ---- mode agent --------------------------------------------------------------------------------

for my $case (
    [ 'the start request is lost',              'c2s', 'before', 'agent_start' ],
    [ 'the start request arrives, the answer is lost', 'c2s', 'after', 'agent_start' ],
    [ 'the notification is lost',               's2c', 'before', '^A....\S*....fleet_report_' ],
    [ 'the connection ends after the notification', 's2c', 'after', '^A' ],
    [ 'the request for the report is lost',     'c2s', 'before', 'agent_fetch' ],
    [ 'the report is lost',                     's2c', 'before', '^D.*cut\d+' ],
    [ 'the acknowledgement is lost',            'c2s', 'before', 'agent_acknowledge' ],
    [ 'the acknowledgement arrives, its answer is lost', 'c2s', 'after', 'agent_acknowledge' ])
{
    my ($name, $dir, $when, $pattern) = @$case;
    my ($run, $key) = try_cut('a1', 'work', $name,
        arm    => sub { $proxy->ctl('on', 'a1', $dir, $when, $pattern) },
        middle => sub { ok($proxy->fired('a1'), "a1: $name: it was cut there") });
    once('a1', $key, $name);
    is($f->sql("SELECT count(*) FROM fleet.job_log WHERE run_id = $run"), 1, "a1: $name: one step run in the log");
    $f->wait_for('a1', q{SELECT count(*) FROM fleet_catalog.job_run WHERE state >= 11 AND acknowledged_at IS NULL}, '0', "a1: $name: acknowledged in the end");
}

# ---- mode direct -------------------------------------------------------------------------------

for my $case (
    [ 'the command is lost',                     'c2s', 'before', 'SELECT\setl\.work', 1 ],
    [ 'the command arrives, the connection ends', 'c2s', 'after', 'SELECT\setl\.work', 1 ],
    [ 'the transaction id is lost',              's2c', 'before', '^D.*cut\d+', 1 ],
    [ 'cut before COMMIT',                       'c2s', 'before', '^[QP].*COMMIT', 1 ],
    [ 'cut after COMMIT was sent',               'c2s', 'after', '^[QP].*COMMIT', 1 ],
    [ 'COMMIT is done, its answer is lost',      's2c', 'before', '^C....COMMIT', 0 ])
{
    my ($name, $dir, $when, $pattern, $again) = @$case;
    my ($run, $key) = try_cut('d1', 'work', $name,
        arm    => sub { $proxy->ctl('on', 'd1', $dir, $when, $pattern) },
        middle => sub { ok($proxy->fired('d1'), "d1: $name: it was cut there") });
    once('d1', $key, $name, again => $again);
    is($f->sql("SELECT state FROM fleet.job_log WHERE run_id = $run ORDER BY started_at DESC LIMIT 1"), 'succeeded', "d1: $name: the log says succeeded");
}

# ---- while it runs -----------------------------------------------------------------------------

{
    my ($run, $key) = try_cut('a1', 'hold', 'cut while running',
        middle => sub { my ($r, $k) = @_; $f->wait_started($k); $proxy->ctl('kill', 'a1'); });
    once('a1', $key, 'cut while running: adopted');
    is($f->sql("SELECT attempt FROM fleet.task_run WHERE run_id = $run"), 1, 'a1: the same attempt');
}
{
    my ($run, $key) = try_cut('d1', 'hold', 'cut while running',
        middle => sub { my ($r, $k) = @_; $f->wait_started($k); $proxy->ctl('kill', 'd1'); });
    once('d1', $key, 'cut while running: surely not committed, so done again', again => 1);
    is($f->witnessed($key, 'end') >= 1, 1, 'd1: it came to its end');
}
# half-closed
{
    my ($run, $key) = try_cut('a1', 'hold', 'half-closed while running',
        middle => sub { my ($r, $k) = @_; $f->wait_started($k); $proxy->ctl('half-close', 'a1', 's2c'); });
    once('a1', $key, 'half-closed');
}
{
    my ($run, $key) = try_cut('d1', 'hold', 'half-closed while running',
        middle => sub { my ($r, $k) = @_; $f->wait_started($k); $proxy->ctl('half-close', 'd1', 's2c'); });
    once('d1', $key, 'half-closed', again => 1);
}

# ---- not transactional -------------------------------------------------------------------------

{
    my ($run, $key) = try_cut('d1', 'open', 'not transactional, cut while running', state => 'failed',
        middle => sub { my ($r, $k) = @_; $f->wait_started($k); $proxy->ctl('kill', 'd1'); });
    is($f->sql("SELECT state FROM fleet.job_log WHERE run_id = $run"), 'unknown', 'd1: its outcome is unknown, not guessed');
    is($f->witnessed($key, 'start'), 1, 'd1: and it is not started again');
    ($run, $key) = try_cut('d1', 'open_retry', 'not transactional, on_unknown retry',
        middle => sub { my ($r, $k) = @_; $f->wait_started($k); $proxy->ctl('kill', 'd1'); });
    is($f->witnessed($key, 'start'), 2, 'd1: the policy says retry: started again');
    ($run, $key) = try_cut('a1', 'open', 'not transactional, mode agent, cut while running',
        middle => sub { my ($r, $k) = @_; $f->wait_started($k); $proxy->ctl('kill', 'a1'); });
    is($f->witnessed($key, 'start'), 1, 'a1: the child goes on by itself');
}

# ---- cancel in flight --------------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    my ($run, $key) = try_cut($server, 'hold', 'cancel while the link is down', state => 'canceled', released => 1,
        middle => sub {
            my ($r, $k) = @_;
            $f->wait_started($k);
            $proxy->ctl('refuse', $server);
            $f->sql("SELECT fleet.cancel_run($r)");
            $f->wait_for('parent', "SELECT state FROM fleet.run WHERE run_id = $r", 'canceling', "$server: canceling while the server cannot be reached")
              if $server eq 'a1';
        });
    $f->wait_for($server, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%work_until_released%' AND state = 'active' AND pid <> pg_backend_pid()", '0',
        "$server: canceled means stopped");
    is($f->effects($server, $key), 0, "$server: canceled: no effect");
    $f->release($key);
}

# ---- a slow link, a stream cut at arbitrary bytes ----------------------------------------------

for my $server (qw(a1 d1))
{
    my ($run, $key) = try_cut($server, 'work', 'a slow link', arm => sub { $proxy->ctl('delay', $server, 40) },
        middle => sub { my ($r, $k) = @_; $f->wait_run($r) });
    once($server, $key, 'a slow link');
    for my $bytes (1, 7, 60, 150, 400, 900)
    {
        for my $dir (qw(c2s s2c))
        {
            ($run, $key) = try_cut($server, 'work', "cut after $bytes bytes $dir",
                arm    => sub { $proxy->ctl('drop-after', $server, $dir, $bytes) },
                middle => sub { $proxy->fired($server, 5) });
            is($f->effects($server, $key), 1, "$server: cut after $bytes bytes $dir: one effect");
            is($f->witnessed($key, 'start'), 1, "$server: cut after $bytes bytes $dir: one start") if $server eq 'a1';
        }
    }
}

$f->done;
