# Every boundary once: one scenario, in both modes, and at each of the points that it passes (src/points.h; test/README.md
# has the list) the process ends, or is killed, at each time that it passes there, one at a time; and at those of the
# parent, while it stands there, the sessions of the direct server are terminated, or it crashes.  After each: the run has
# ended right, each effect is there once, what was canceled has stopped, the log has no gap, nothing is open anywhere.
#
#   make torture-sweep                      all of them
#   make torture-sweep SWEEP='parent step_.*'   those whose "node point word" is like this: SWEEP=crash
#   make torture-sweep EVERY=10 [SEED=n]    about one of ten, other ones with another seed
use strict;
use warnings;
use FleetTest qw(quote_literal);
use File::Basename;
use Test::More;
use Time::HiRes qw(time);

my $ONLY = $ENV{SWEEP} || '.';
my $EVERY = $ENV{EVERY} || 1;
my $SEED = $ENV{SEED} || int rand 1_000_000;
srand $SEED;

my $f = FleetTest->new(agents => 1, direct => 1, preload => 1, delays => 0);
for my $node (qw(parent a1 d1))
{
    $f->node($node)->append_conf('postgresql.conf', 'restart_after_crash = on');
    $f->node($node)->reload;
}
$f->job('work', 'SELECT etl.work()');
$f->job('flaky', { sql => 'SELECT etl.flaky()', retries => 3, retry_wait => '10ms' });
$f->job('stay', { sql => 'SELECT etl.work_until_released()' });
$f->sql_on($_, <<'SQL') for qw(parent a1 d1);
SET ROLE etl;
-- fails until the second time that it is tried
CREATE FUNCTION etl.flaky() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    PERFORM etl.witness('try');
    SELECT count INTO n FROM public.dblink(format('host=127.0.0.1 port=%s dbname=witness user=witness password=witness', current_setting('etl.witness_port')),
        format('SELECT count(*) FROM event WHERE what = ''try'' AND key = %L', etl.key())) AS t(count bigint);
    INSERT INTO etl.effect (key) VALUES (etl.key());
    IF n < 2 THEN
        RAISE EXCEPTION 'not yet';
    END IF;
END $$;
SQL
my $witness_port = $f->node('witness')->port;
$f->sql_on($_, "ALTER DATABASE $FleetTest::DB SET etl.witness_port = $witness_port") for qw(parent a1 d1);
$f->package('inner', -params => '{"key": null}', t => { sql => q{INSERT INTO etl.effect (key) VALUES (fleet.param('key') || '/inner')} });
$f->package('sweep', -params => '{"key": null}',
    map({ ("on $_" => { job => 'work', server => $_, for_each => qq{SELECT jsonb_build_object('key', fleet.param('key') || '/$_/' || n) FROM generate_series(1, 10) AS n} }) } qw(a1 d1)),
    map({ ("flaky $_" => { job => 'flaky', server => $_, params => qq({"key": "flaky $_"}) }) } qw(a1 d1)),
    here   => { sql => q{INSERT INTO etl.effect (key) VALUES (fleet.param('key') || '/here')} },
    nested => { nested => 'inner', after => '{here}' });
$f->package('stop', -params => '{"key": null}', map { ("stop $_" => { job => 'stay', server => $_ }) } qw(a1 d1));

# ---- one time --------------------------------------------------------------------------------

my $n = 0;

# A statement that is tried again while the server comes back.
sub surely
{
    my ($node, $sql) = @_;
    my $end = time + $FleetTest::PATIENCE;
    while (1)
    {
        my ($rc, $out, $err) = $f->kept($node)->run($sql);
        return $out if $rc == 0;
        die "$node: $sql: $err" if time > $end;
        select undef, undef, undef, 0.05;    # (time passes) until it is back
    }
}

sub until_is
{
    my ($node, $sql, $expected) = @_;
    my $end = time + $FleetTest::PATIENCE;
    my $got;
    while (($got = surely($node, $sql)) ne $expected)
    {
        return "$node: $sql: $got" if time > $end;
        select undef, undef, undef, 0.02;    # (time passes) between two looks
    }
    return;
}

# The scenario; what is not as it should be.  Where the direct server has crashed, it is not believed what it says of
# a commit (guarantee 3): then a task there may be unknown, and has its effect or not.
sub scenario
{
    my ($crashed) = @_;
    my $key = 'k' . ++$n;
    my @wrong;
    my $start = sub {
        my ($package, $k) = @_;
        # asked for again with its key, if the answer was lost
        return surely('parent', "SELECT fleet.run_parent_package('$package', params => '{\"key\": \"$k\"}', run_key => '$k')");
    };
    surely('witness', "DELETE FROM event WHERE what = 'try'");
    my $stopped = $start->('stop', "$key stop");
    my $run = $start->('sweep', $key);
    push @wrong, until_is('witness', "SELECT count(DISTINCT server) FROM event WHERE what = 'start' AND key = '$key stop'", '2');
    surely('parent', "SELECT fleet.cancel_run($stopped)");
    push @wrong, until_is('parent', "SELECT finished_at IS NOT NULL FROM fleet.run WHERE run_id = $run", 't');
    my $state = surely('parent', "SELECT state FROM fleet.run WHERE run_id = $run");
    my $unknown = $crashed ? surely('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND state = 'unknown'") : 0;
    my $failed = surely('parent', "SELECT count(*) FROM fleet.task_run WHERE run_id = $run AND state NOT IN ('succeeded', 'unknown') AND (item > 0 OR task NOT LIKE 'on %')");
    push @wrong, "the run is $state: " . $f->dump_run($run) if $failed > 0 || ($state ne 'succeeded' && !$unknown);
    push @wrong, until_is('parent', "SELECT state FROM fleet.run WHERE run_id = $stopped", 'canceled');
    for my $server (qw(a1 d1))
    {
        my $lacks = $unknown && $server eq 'd1';
        push @wrong, until_is('d1', "SELECT count(*) - count(DISTINCT key) FROM etl.effect", '0') if $lacks;
        push @wrong, until_is($server, "SELECT count(*) || ' ' || count(DISTINCT key) FROM etl.effect WHERE key LIKE '$key/$server/%'", '10 10') unless $lacks;
        push @wrong, until_is($server, "SELECT count(*) FROM etl.effect WHERE key = 'flaky $server'", '1') unless $lacks;
        push @wrong, until_is($server, "SELECT count(*) FROM etl.effect WHERE key = '$key stop'", '0');
        push @wrong, until_is($server, 'DELETE FROM etl.effect; SELECT 0', '0');
    }
    push @wrong, until_is('parent', "SELECT string_agg(key, ' ' ORDER BY key) FROM etl.effect WHERE key LIKE '$key/%'", "$key/here $key/inner");
    push @wrong, until_is('witness', "SELECT count(*) FROM event WHERE what = 'end' AND key = '$key stop'", '0');
    for my $node (qw(parent a1))
    {
        push @wrong, until_is($node, q{SELECT count(*) FROM fleet_catalog.job_run WHERE state < 11}, '0');
        push @wrong, until_is($node, q{SELECT count(*) FROM fleet_catalog.step_run WHERE state < 11}, '0');
        push @wrong, until_is($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname = 'dw'}, '1');
        push @wrong, until_is($node, q{SELECT count(*) FROM pg_prepared_xacts}, '0');
    }
    push @wrong, until_is('parent', q{SELECT count(*) FROM fleet_catalog.task_run WHERE state < 11}, '0');
    push @wrong, until_is('parent', "SELECT count(*) FROM (SELECT 1 FROM fleet.log WHERE run_id IN ($run, $stopped) GROUP BY run_id, task, item HAVING count(*) <> max(seq) - min(seq) + 1) AS x", '0');
    push @wrong, until_is('parent', "SELECT count(*) FROM fleet.job_log WHERE run_id = $run AND state NOT IN ('succeeded', 'failed')", $unknown);
    return @wrong;
}

# ---- which points are passed, and how often ----------------------------------------------------

sub dir { return $f->node($_[0])->data_dir . '/fleet_points'; }
my %other = map { $_ => 1 } qw(notify_queue_full link_looks_again starter_before_delay agent_waits_for_home);
my @names = grep { !$other{$_} } map { /^\| (`.*?) \| (?:agent|runner|starter|launcher)/ ? $1 =~ /`(\w+)`/g : () }
  grep { !/`work_/ } split /\n/, do { open my $in, '<', dirname(__FILE__) . '/../README.md' or die; local $/; <$in> };
is_deeply([ scenario() ], [], 'the scenario ends right');
my $MANY = 1_000_000;
for my $node (qw(parent a1))
{
    $f->point($node, $_, "signals $MANY") for @names;
}
is_deeply([ scenario() ], [], 'the scenario passes the points');
my @cases;
for my $node (qw(parent a1))
{
    for my $name (@names)
    {
        open my $in, '<', dir($node) . "/$name" or die "$name: $!";
        my ($left) = readline($in) =~ /(\d+)/;
        push @cases, map { my $time = $_; map { [ $node, $name, $time, $_ ] } qw(exit kill), $node eq 'parent' ? qw(terminate crash) : () } 1 .. $MANY - $left;
        $f->point_release($node, $name);
    }
}
my $points = grep { $_->[3] eq 'exit' } @cases;
@cases = grep { "$_->[0] $_->[1] $_->[3]" =~ /$ONLY/ && ($EVERY == 1 || rand() < 1 / $EVERY) } @cases;
diag(sprintf '%d points passed, %d cases%s', $points, scalar @cases, $EVERY == 1 ? '' : " (EVERY=$EVERY SEED=$SEED)");

# ---- one at a time -----------------------------------------------------------------------------

# While the parent stands at the point, somebody else does it to the direct server, and lets the parent go on.
sub meanwhile
{
    my ($name, $word) = @_;
    my $file = dir('parent') . "/$name.waiting";
    my $connstr = $f->node('d1')->connstr($FleetTest::DB);
    my $end = $word eq 'terminate' ? 'PERFORM pg_terminate_backend(pid, 5000)' : q{EXECUTE format('COPY (SELECT 1) TO PROGRAM %L', 'kill -9 ' || pid); EXIT};
    my $sql = q{DO $do$ DECLARE pid integer; BEGIN FOR pid IN SELECT a.pid FROM pg_stat_activity AS a WHERE application_name LIKE 'pg_fleet ________ %'}
      . " ORDER BY a.state = 'active' DESC, a.xact_start LOOP $end; END LOOP; END " . '$do$';
    my $pid = fork // die "fork: $!";
    return $pid if $pid;
    select undef, undef, undef, 0.01 until -e $file;    # (time passes) until it stands there
    system { 'psql' } 'psql', '-XAtq', '-d', $connstr, '-c', $sql;
    unlink $file;
    require POSIX;
    POSIX::_exit(0);
}

my ($fired, $failures, $begin) = (0, 0, time);
for my $case (@cases)
{
    my ($node, $name, $time, $word) = @$case;
    my $other = $word =~ /^(?:terminate|crash)$/ ? meanwhile($name, $word) : 0;
    $f->point($node, $name, ($other ? 'wait' : $word) . " $time");
    my @wrong = scenario($word eq 'crash');
    # the number of passes is not the same each time
    my $reached = !-e dir($node) . "/$name";
    if ($other)
    {
        kill 'KILL', $other unless $reached;
        waitpid $other, 0;
    }
    $f->point_release($node, $name);
    $fired++ if $reached;
    is_deeply(\@wrong, [], "$node: $word at $name, time $time" . ($reached ? '' : ' (not reached)')) or $failures++;
    BAIL_OUT('five cases have failed') if $failures >= 5;
}
diag(sprintf '%d of %d cases reached, in %.0f s', $fired, scalar @cases, time - $begin);
$f->done(crashes => 1);
