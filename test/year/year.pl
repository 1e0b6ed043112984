# A year of nights in some minutes: a package of 200 items that its schedule starts, every night, on real clusters whose
# clocks are a day further each time (test/year/clock.c moves the wall clock and the monotonic one, as when a machine was
# suspended).  Nobody looks after anything: history goes by the defaults, autovacuum comes at least once a night.  Every so often an
# agent ends or a server crashes while the package runs.
#
# Each night must have run once, and in the end nothing may be larger than it was when history had its full length.
#
#   make test-year [NIGHTS=365] [SEED=n]
use strict;
use warnings;
use FleetTest;
use POSIX qw(strftime);
use Test::More;
use Time::HiRes qw(time);
use Time::Local qw(timegm);

my $NIGHTS = $ENV{NIGHTS} || 365;
my $SEED = $ENV{SEED} || int rand 1_000_000;
my $KEEP = 90;          # days: fleet.keep_days, as it is by default
my $DAY = 86400;
srand $SEED;
diag("seed $SEED: make test-year NIGHTS=$NIGHTS SEED=$SEED");

# ---- the clock ---------------------------------------------------------------------------------

my $dir = PostgreSQL::Test::Utils::tempdir();
my $clock = "$dir/clock";

# All processes of all clusters see this at their next look.
sub set_offset
{
    my ($seconds) = @_;
    open my $file, (-e $clock ? '+<' : '>'), $clock or die "$clock: $!";
    syswrite $file, pack 'q', $seconds;
    close $file;
    return;
}

# Evening before the first night: two seconds to one o'clock, and later by whole days.
my $begin = time;
my $first = timegm(0, 0, 0, (gmtime($begin + $DAY))[ 3, 4, 5 ]) + 3600;
sub wall { my ($night) = @_; return $first + $night * $DAY }
sub said { my ($night) = @_; return strftime('%Y-%m-%d %H:%M:%S+00', gmtime wall($night)) }
set_offset(wall(0) - 7200 - $begin);
system($ENV{CC} || 'cc', qw(-O2 -Wall -Wextra -Werror -shared -fPIC -o), "$dir/clock.so", 'test/year/clock.c') == 0 or BAIL_OUT('test/year/clock.c');
$ENV{LD_PRELOAD} = "$dir/clock.so";
$ENV{FLEET_TEST_CLOCK} = $clock;

# ---- what runs ---------------------------------------------------------------------------------

my $f = FleetTest->new(agents => 1, direct => 1, witness => 0, preload => 1, delays => 0,
    conf => "restart_after_crash = on\nfleet.log_events = 'off'\n");
for my $node (qw(parent a1))
{
    $f->node($node)->append_conf('postgresql.conf', "autovacuum_naptime = '1s'");
    $f->node($node)->reload;
}
$f->job('load', q{DO $$ BEGIN RAISE NOTICE 'loads %', current_setting('fleet.params'); END $$}, { sql => q{INSERT INTO etl.effect (key) VALUES (etl.key())} });
my $items = sub { return "SELECT jsonb_build_object('key', '$_[0] ' || i) FROM generate_series(1, 100) AS i" };
$f->package('nightly',
    agent  => { job => 'load', server => 'a1', for_each => $items->('agent'), retries => 3, retry_wait => '10ms' },
    direct => { job => 'load', server => 'd1', for_each => $items->('direct'), retries => 3, retry_wait => '10ms' },
    rollup => { sql => 'SELECT 1', after => '{agent,direct}' });
$f->sql(q{SELECT fleet.schedule_package('nightly', '0 1 * * *', time_zone => 'UTC', missed => 'once')});

my %fault = (
    agent  => sub { $f->sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'}); },
    child  => sub { $f->sql_on('a1', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'}); },
    parent => sub { $f->parent->stop('immediate'); $f->parent->start; },
    server => sub { my $node = $f->node((qw(a1 d1))[ rand 2 ]); $node->stop('immediate'); $node->start; });

# ---- one night ---------------------------------------------------------------------------------

my (%done, @months);

sub night
{
    my ($night) = @_;
    my $fault = $night % 12 == 11 ? (sort keys %fault)[ rand keys %fault ] : undef;
    set_offset(wall($night) + 1 - time);
    # a wait that has begun ends by the clock of the kernel: something has to happen first, as every night something does
    $f->sql_on($_, 'SELECT fleet_link.keep_agent()') for qw(parent a1);
    if (defined $fault)
    {
        my $end = time + $FleetTest::PATIENCE;
        until ($f->sql("SELECT count(*) > 0 FROM fleet.task_run WHERE state = 'running' OR item > 0 AND finished_at > '" . said($night) . "'") eq 't' || time > $end) { }
        $fault{$fault}->();
        $done{$fault}++;
        $f->forget($_) for qw(parent a1 d1);
        $f->sql_on($_, 'SELECT fleet_link.keep_agent()') for qw(parent a1);
    }
    return $f->wait_for('parent', "SELECT string_agg(state, ' ') FROM fleet.run WHERE scheduled_for = '" . said($night) . "'", 'succeeded',
        'night of ' . substr(said($night), 0, 10) . (defined $fault ? ", end of $fault" : ''));
}

my @tables = qw(run task_run step_run log_line event duration job_run definition);

sub month
{
    my ($night) = @_;
    my %month = (night => $night);
    for my $node (qw(parent a1))
    {
        $f->wait_for($node, 'SELECT count(*) FROM fleet_catalog.purge_request', '0', "$node: the purge is over") if $f->sql_on($node, 'SELECT fleet.purge()') ne '';
        $month{$node}{rows} = { map { $_ => $f->sql_on($node, "SELECT count(*) FROM fleet_catalog.$_") } @tables };
        $month{$node}{size} = $f->sql_on($node, q{SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind = 'r'});
        $month{$node}{memory} = ($f->agent_memory($node))[0];
    }
    diag(sprintf '%3d nights in %4d s: %s', $night, time - $begin, join '; ', map {
            my $m = $month{$_};
            sprintf '%s %.1f MB, agent %d kB, %s', $_, $m->{size} / 1048576, $m->{memory} / 1024,
              join ', ', map { "$m->{rows}{$_} $_" } grep { $m->{rows}{$_} > 0 } @tables } qw(parent a1));
    push @months, \%month;
    return;
}

for my $night (0 .. $NIGHTS - 1)
{
    night($night) or last;
    month($night + 1) if ($night + 1) % 30 == 0;
}

# ---- what must hold ----------------------------------------------------------------------------

my $last = $NIGHTS - 1;
is($f->sql(q{SELECT count(*) || ' ' || count(DISTINCT scheduled_for) FROM fleet.run WHERE package = 'nightly'}), join(' ', ($f->sql(q{SELECT count(*) FROM fleet.run})) x 2), 'no night ran twice');
is($f->sql("SELECT count(*) FROM generate_series('" . said($NIGHTS > $KEEP ? $last - $KEEP + 2 : 0) . "'::timestamptz, '" . said($last) . "', '1 day') AS n WHERE NOT EXISTS (SELECT FROM fleet.run WHERE scheduled_for = n)"), '0', 'none is missing');
is($f->sql_on($_, 'SELECT count(*) FROM etl.effect'), 100 * $NIGHTS, "$_: each item of each night had its effect, once") for qw(a1 d1);
is($f->sql(q{SELECT count(*) FROM fleet.event WHERE kind IN ('schedule_missed', 'run_failed', 'task_failed', 'task_lost', 'task_unknown')}), '0', 'nothing was missed, nothing failed');
is($f->sql_on($_, 'SELECT count(*) FROM fleet_catalog.quarantine'), '0', "$_: nothing is in quarantine") for qw(parent a1);

# from when history had its full length, and vacuum had come by for as long again: tables hold a fifth more than what is live
my ($full) = grep { $_->{night} >= 2 * $KEEP } @months;
if (defined $full && $months[-1] != $full)
{
    my $end = $months[-1];
    for my $node (qw(parent a1))
    {
        for my $table (grep { $full->{$node}{rows}{$_} > 0 } @tables)
        {
            cmp_ok($end->{$node}{rows}{$table}, '<=', 1.05 * $full->{$node}{rows}{$table} + 50, "$node: after $end->{night} nights $table has no more rows than after $full->{night}");
        }
        cmp_ok($end->{$node}{size}, '<=', 1.2 * $full->{$node}{size}, "$node: … and the tables are no larger");
        cmp_ok($end->{$node}{memory}, '<=', 1.2 * $full->{$node}{memory} + 65536, "$node: … nor is the agent's memory");
    }
}
diag(sprintf '%d nights in %d s; ends: %s', $NIGHTS, time - $begin, join ', ', map { "$_ $done{$_}" } sort keys %done);
$f->done(crashes => 1);
