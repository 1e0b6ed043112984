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
$f->job('open', { sql => 'CALL etl.open_work()', transactional => 'false' });
$f->job('open_retry', { sql => 'CALL etl.open_work()', transactional => 'false', on_unknown => 'retry', retries => 2, retry_wait => '100ms' });
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

sub started { my ($key) = @_; return $f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'start' AND key = '$key'", '1', "$key: it runs"); }

# nothing of a job that waits for its release is at work there
sub stopped
{
    my ($server, $name) = @_;
    return $f->wait_for($server, "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'work_until_released|open_work' AND state = 'active' AND pid <> pg_backend_pid()", '0',
        "$server: $name");
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
            my ($run, $key) = @_;
            $f->wait_for('parent', "SELECT last_error IS NOT NULL FROM fleet.server_status WHERE server = '$server'", 't',
                "$server: the reason is in server_status");
            # the reason can be older than the run: the idle link was cut when the proxy began to refuse
            $f->wait_for('parent', "SELECT state FROM fleet.task_run WHERE run_id = $run", 'queued', "$server: and the task waits");
            is($f->witnessed($key, 'start'), 0, "$server: nothing has started");
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
    [ 'the answer to the command is lost',       's2c', 'before', '^D.*cut\d+', 2 ],
    [ 'cut before COMMIT',                       'c2s', 'before', '^[QP].*COMMIT', 2 ],
    [ 'cut after COMMIT was parsed, before it was to be executed', 'c2s', 'after', '^[QP].*COMMIT', 2 ],
    [ 'COMMIT is done, its answer is lost',      's2c', 'before', '^C....COMMIT', 1 ])
{
    my ($name, $dir, $when, $pattern, $starts) = @$case;
    my ($run, $key) = try_cut('d1', 'work', $name,
        arm    => sub { $proxy->ctl('on', 'd1', $dir, $when, $pattern) },
        middle => sub { ok($proxy->fired('d1'), "d1: $name: it was cut there") });
    is($f->effects('d1', $key), 1, "d1: $name: one effect");
    is($f->witnessed($key, 'start'), $starts, "d1: $name: starts: $starts");
    is($f->sql("SELECT string_agg(concat_ws(' ', attempt, state, sqlstate), ', ') FROM fleet.job_log WHERE run_id = $run"), '1 succeeded', "d1: $name: one step run in the log, which succeeded");
}

# ---- while it runs -----------------------------------------------------------------------------

{
    my ($run, $key) = try_cut('a1', 'hold', 'cut while running',
        middle => sub { my ($r, $k) = @_; started($k); $proxy->ctl('kill', 'a1'); });
    once('a1', $key, 'cut while running: adopted');
    is($f->sql("SELECT attempt FROM fleet.task_run WHERE run_id = $run"), 1, 'a1: the same attempt');
}
{
    my ($run, $key) = try_cut('d1', 'hold', 'cut while running',
        middle => sub { my ($r, $k) = @_; started($k); $proxy->ctl('kill', 'd1'); });
    once('d1', $key, 'cut while running: surely not committed, so done again', again => 1);
    is($f->witnessed($key, 'start'), 2, 'd1: after two starts');
}
# half-closed
{
    my ($run, $key) = try_cut('a1', 'hold', 'half-closed while running',
        middle => sub { my ($r, $k) = @_; started($k); $proxy->ctl('half-close', 'a1', 's2c'); });
    once('a1', $key, 'half-closed');
}
{
    my ($run, $key) = try_cut('d1', 'hold', 'half-closed while running',
        middle => sub { my ($r, $k) = @_; started($k); $proxy->ctl('half-close', 'd1', 's2c'); });
    once('d1', $key, 'half-closed', again => 1);
}

# ---- not transactional -------------------------------------------------------------------------

{
    my ($run, $key) = try_cut('d1', 'open', 'not transactional, cut while running', state => 'failed',
        middle => sub { my ($r, $k) = @_; started($k); $proxy->ctl('kill', 'd1'); stopped('d1', 'not transactional: its session is ended') });
    is($f->sql("SELECT concat_ws(' ', attempt, state, sqlstate) FROM fleet.job_log WHERE run_id = $run"), '1 unknown 08006', 'd1: its outcome is unknown, not guessed');
    is($f->witnessed($key, 'start'), 1, 'd1: and it is not started again');
    is($f->effects('d1', $key), 1, 'd1: what it had committed stays');
    ($run, $key) = try_cut('d1', 'open_retry', 'not transactional, on_unknown retry',
        middle => sub { my ($r, $k) = @_; started($k); $proxy->ctl('kill', 'd1'); });
    is($f->witnessed($key, 'start'), 2, 'd1: the policy says retry: started again');
    is($f->sql("SELECT string_agg(concat_ws(' ', attempt, state, sqlstate), ', ' ORDER BY attempt) FROM fleet.job_log WHERE run_id = $run"), '1 unknown 08006, 2 succeeded', 'd1: once, as a second attempt');
    ($run, $key) = try_cut('a1', 'open', 'not transactional, mode agent, cut while running',
        middle => sub { my ($r, $k) = @_; started($k); $proxy->ctl('kill', 'a1'); });
    is($f->witnessed($key, 'start'), 1, 'a1: the child goes on by itself');
}

# ---- cancel in flight --------------------------------------------------------------------------

for my $server (qw(a1 d1))
{
    my ($run, $key) = try_cut($server, 'hold', 'cancel while the link is down', state => 'canceled', released => 1,
        middle => sub {
            my ($r, $k) = @_;
            started($k);
            $proxy->ctl('refuse', $server);
            $f->sql("SELECT fleet.cancel_run($r)");
            $f->wait_for('parent', "SELECT state FROM fleet.run WHERE run_id = $r", 'canceling', "$server: canceling while the server cannot be reached");
        });
    stopped($server, 'canceled means stopped');
    is($f->effects($server, $key), 0, "$server: canceled: no effect");
    $f->release($key);
}

# ---- a slow link, a stream cut at arbitrary bytes ----------------------------------------------

# How many bytes one job takes on a link that is up: whatever is cut before half of them is cut for sure.
sub traffic
{
    my ($server) = @_;
    my $bytes = sub {
        my ($status) = $proxy->ctl('status', $server);
        return map { $status =~ /"$_": (\d+)/ } qw(c2s s2c);
    };
    my @before = $bytes->();
    my ($run, $key) = try_cut($server, 'work', 'measured');
    my @after = $bytes->();
    return (c2s => $after[0] - $before[0], s2c => $after[1] - $before[1]);
}

for my $server (qw(a1 d1))
{
    my ($run, $key) = try_cut($server, 'work', 'a slow link', arm => sub { $proxy->ctl('delay', $server, 40) },
        middle => sub { my ($r, $k) = @_; $f->run_is($r, 'succeeded', "$server: a slow link: it ends while it is slow") });
    once($server, $key, 'a slow link');
    my %bytes = traffic($server);
    for my $dir (qw(c2s s2c))
    {
        note "$server $dir: a job takes $bytes{$dir} bytes";
        for my $bytes (1, 7, 60, map { int($bytes{$dir} * $_ / 10) } 2, 4, 5)
        {
            my $name = "cut after $bytes bytes $dir";
            ($run, $key) = try_cut($server, 'work', $name,
                arm    => sub { $proxy->ctl('drop-after', $server, $dir, $bytes) },
                middle => sub { ok($proxy->fired($server), "$server: $name: it was cut there") });
            is($f->effects($server, $key), 1, "$server: $name: one effect");
            is($f->witnessed($key, 'start'), 1, "$server: $name: one start") if $server eq 'a1';
        }
    }
}

$f->done;
