# What an attempt says whose steps nobody has heard of is a line of the log too, and whoever goes on counts
# from it: the next attempt, the next agent, a task that is started once more.  That no number is missing
# and none is there twice is looked at in the end of every file (leak_check of FleetTest).
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 1, direct => 1, proxy => 1, preload => 1, delays => 0, conf => "fleet.lost_after = '1s'\n");
$f->job('work', 'SELECT 1');

sub lines
{
    my ($run, $task, $item) = @_;
    return $f->sql("SELECT string_agg(concat_ws(' ', seq, message), ', ' ORDER BY seq) FROM fleet.log WHERE run_id = $run AND task = '$task' AND item = " . ($item // 0));
}

# The agent ends; what is to come is done by another one.
sub new_agent
{
    my ($name) = @_;
    my $pid = $f->agent_pid('parent');
    $f->sql("SELECT pg_terminate_backend($pid)");
    return $f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND pid <> $pid", '1', "$name: a new agent");
}

# ---- lost, and tried again -----------------------------------------------------------------------

# The first attempt is sent, and no answer comes: lost.
my %again = (job => 'work', on_lost => 'retry', retries => 1, retry_wait => '2s');
for my $server (qw(a1 d1))
{
    $f->package("one on $server", t => { %again, server => $server });
    $f->package("item on $server", t => { %again, server => $server, for_each => q{SELECT '{}'::jsonb} });
    $f->package("up on $server", t => { job => 'work', server => $server });
    # that its step has begun is known of one that is done from here
    my ($first, $n) = $server eq 'a1' ? ('', 1) : ('1 step "s1" started, ', 2);
    for my $case ([ 'one', 0 ], [ 'one', 1 ], [ 'item', 0 ], [ 'item', 1 ])
    {
        my ($what, $next) = @$case;
        my $name = "$what on $server, " . ($next ? 'the next agent' : 'the same agent');
        $f->run_is($f->start("up on $server"), 'succeeded', "$name: there is a connection");
        $f->proxy->ctl('on', $server, 'c2s', 'before', 'agent_start|BEGIN', 'refuse');
        my $run = $f->start("$what on $server");
        $f->wait_for('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND attempt = 1 AND state IN ('retrying', 'queued')", '1', "$name: it waits for its second attempt");
        new_agent($name) if $next;
        $f->proxy->ctl('allow', $server);
        $f->run_is($run, 'succeeded', "$name: that succeeds");
        like(lines($run, 't', $what eq 'item' ? 1 : 0), qr/\A$first$n [^,]*lost_after, @{[$n + 1]} step "s1" started, @{[$n + 2]} step "s1" succeeded\z/, "$name: the log goes on");
    }
}

# ---- a package that had no time ------------------------------------------------------------------

$f->job('hold', 'SELECT etl.work_until_released()');
$f->package('inner', -params => '{"key": "inner"}', t => { sql => 'SELECT etl.work_until_released()' });
$f->package('outer', t => { nested => 'inner', timeout => '300ms', retries => 1, retry_wait => '2s' });
my $run = $f->start('outer');
$f->wait_for('parent', "SELECT count(*) > 0 FROM fleet.log WHERE run_id = $run AND task = 't'", 't', 'a package: its time was over');
new_agent('a package');
$f->run_is($run, 'failed', 'a package: the second attempt has no time either');
like(lines($run, 't'), qr/\A1 [^,]*timeout, 2 [^,]*timeout\z/, 'a package: the log goes on');

# ---- a line of a step whose row was not there yet ------------------------------------------------

# Its start alone is stored a little later, with what follows it; not so if it has said something by then.
# Here, and on a server (there its job run's log is looked at too, in the end).
my $talk = q{DO $$BEGIN RAISE NOTICE 'one'; RAISE NOTICE 'two'; PERFORM etl.work_until_released(); END$$};
$f->job('talk', $talk);
$f->package('talk', -params => '{"key": null}', t => { sql => $talk });
$f->package('talk there', -params => '{"key": null}', t => { job => 'talk', server => 'a1' });
for my $case ([ 'parent', 'talk' ], [ 'a1', 'talk there' ])
{
    my ($node, $package) = @$case;
    $f->sql_on('witness', q{INSERT INTO event (key, what) VALUES ('warm', 'release')});
    $f->run_is($f->start($package, '{"key": "warm"}'), 'succeeded', "$package: its runner is there");
    for my $n (1 .. 3)
    {
        my $key = "$node $n";
        $f->point($node, 'agent_after_commit', "exit $n");
        my $run = $f->start($package, qq({"key": "$key"}));
        $f->wait_started($key);
        $f->release($key);
        $f->point_fired($node, 'agent_after_commit', "$package: the agent ended after its commit $n");
        $f->run_is($run, 'succeeded', "$package: after commit $n: it succeeds");
        is($f->sql("SELECT count(*) = max(seq) AND count(DISTINCT seq) = max(seq) AND min(seq) = 1 FROM fleet.log WHERE run_id = $run"), 't', "$package: after commit $n: no number is missing, none is there twice")
          or diag(lines($run, 't'));
    }
}

# ---- started once more ---------------------------------------------------------------------------

# Whether it has failed before there was an attempt (its items cannot be known), with one that nobody heard of, or in one, or in one.
$f->sql('CREATE TABLE etl.given (n integer)');
$f->package('once more', -params => '{"key": "once_more"}',
    items => { sql => 'SELECT 1', for_each => q{SELECT jsonb_build_object('n', 1 / n) FROM etl.given} },
    absent => { job => 'absent', server => 'a1' },
    fails => { sql => 'SELECT 1 / 0' },
    hold => { sql => 'SELECT etl.work_until_released()' });
$f->sql('INSERT INTO etl.given VALUES (0); GRANT SELECT ON etl.given TO PUBLIC');
$run = $f->start('once more');
my @tasks = qw(items absent fails);
sub all_failed { my ($n) = @_; return $f->wait_for('parent', "SELECT count(*) FROM fleet.log WHERE run_id = $run AND level = 'ERROR'", $n * @tasks, "once more: $n times failed"); }
all_failed(1);
for my $n (2, 3)
{
    $f->sql("SELECT fleet.retry_task($run, '$_')") for @tasks;
    new_agent('once more') if $n == 3;
    all_failed($n);
}
$f->release('once_more');
$f->run_is($run, 'failed', 'once more: the run has ended');
is($f->sql("SELECT string_agg(DISTINCT seq::text, ' ' ORDER BY seq::text) FROM fleet.log WHERE run_id = $run AND task = '$_'"), $_ eq 'fails' ? '1 2 3 4 5 6' : '1 2 3', "once more: $_: the log goes on") for @tasks;

$f->done;
