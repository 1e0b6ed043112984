# What a server sends is bounded in the agent's memory, and given back: a million lines, a million rows, a
# value of 200 MB.  Measured as the kernel counts it: memory of the agent's own (RssAnon), and
# the highest that it was (VmHWM, which has shared memory in it).  libpq reads a message whole, and copies it.  The server is test/fakeserver.
use strict;
use warnings;
use FakeServer;
use FleetTest qw(quote_literal);
use Test::More;

plan skip_all => 'no /proc/self/clear_refs here' unless -w '/proc/self/clear_refs';
my $f = FleetTest->new(witness => 0, delays => 0);
my $fake = FakeServer->new;
my $MB = 1024; # in kB
my $agent;

sub memory { my ($what) = @_; open my $in, '<', "/proc/$agent/status" or die "$!"; my ($kb) = join('', <$in>) =~ /^$what:\s+(\d+) kB/m; return $kb; }
sub forget_peak { open my $out, '>', "/proc/$agent/clear_refs" or die "$!"; print $out '5'; close $out or die "$!"; return; }

# The run ends, and never was the agent larger than before by more than $peak MB; and by 16 MB afterwards.
sub is_bounded
{
    my ($mode, $peak, $expected, $name, @rules) = @_;
    $fake->rules(@rules);
    forget_peak();
    my ($before, $own) = map { memory($_) } qw(VmRSS RssAnon);
    my ($server, $run) = $fake->begin($f, $mode, 'secret', sql => 'SELECT 7');
    $f->wait_for('parent', "SELECT CASE WHEN s.last_error ~ 'MB' THEN 'refused' ELSE r.state END FROM fleet.run AS r, fleet.server_status AS s WHERE run_id = $run AND s.server = '$server'",
        $expected, "$name: $expected");
    my $grown = memory('VmHWM') - $before;
    cmp_ok($grown, '<', $peak * $MB, "$name: at most $peak MB at any time");
    diag("$name: $grown kB at its highest");
    my $end = time + $FleetTest::PATIENCE;
    select undef, undef, undef, 0.05 until memory('RssAnon') - $own < 16 * $MB || time > $end; # (time passes) between two looks
    cmp_ok(memory('RssAnon') - $own, '<', 16 * $MB, "$name: it is given back");
    diag("$name: ", memory('RssAnon') - $own, ' kB afterwards');
    is($f->agent_pid, $agent, "$name: it is the same agent");
    if ($expected eq 'refused') # it is asked for again until it is canceled, and the server has forgotten it
    {
        $fake->rules([ on => q{^execute SELECT \* FROM fleet_link.agent_resume\(}, send => [ [ row => [ { i4 => 1 }, undef, undef, undef ] ], [ 'complete', 'SELECT 1' ] ] ]);
        $f->sql("SELECT fleet.cancel_run($run)");
        isnt($f->wait_run($run), '', "$name: its run has an end");
    }
    $f->sql("SELECT fleet.set_server_state('$server', 'offline')");
    return;
}

$fake->ctl(auth => 'cleartext');
$fake->rules([ on => '^execute SELECT 7', send => [ [ 'complete', 'SELECT 1' ] ] ]);
my ($warm, $first) = $fake->begin($f, 'direct', 'secret', sql => 'SELECT 7');
$f->run_is($first, 'succeeded', 'an agent that has done something');
$agent = $f->agent_pid;

my $done = [ 'complete', 'SELECT 1' ];
is_bounded('direct', 64, 'succeeded', '1,000,000 notices', [ on => '^execute SELECT 7', send => [ [ times => 1_000_000, [ notice => '00000', 'x' ] ], $done ] ]);
is($f->sql(q{SELECT message FROM fleet.log WHERE level = 'WARNING' ORDER BY logged_at DESC LIMIT 1}), '990000 further lines of this step were not kept', '… and no line is lost in silence');
is_bounded('direct', 64, 'succeeded', '1,000,000 rows', [ on => '^execute SELECT 7', send => [ [ columns => ['c'] ], [ times => 1_000_000, [ row => ['x'] ] ], $done ] ]);
is_bounded('direct', 700, 'succeeded', 'a value of 200 MB',
    [ on => '^execute SELECT 7', send => [ [ columns => ['c'] ], [ row => [ { bytes => 200 << 20 } ] ], $done ] ]);

# ---- mode agent ----------------------------------------------------------------------------------

my %i4 = map { $_ => { i4 => "$_" } } 0 .. 20;
my @null = (undef) x 20;
sub fields { my (%at) = @_; my @row = @null; $row[$_] = $at{$_} for keys %at; return \@row; }
my $start = [ on => q{^execute SELECT \* FROM fleet_link.agent_start\(}, send => [ [ row => [ { i4 => 1 }, { i8 => 1 }, { i1 => 0 }, undef, undef, undef ] ], $done, [ notify => '1' ] ] ];
my $resume = [ on => q{^execute SELECT \* FROM fleet_link.agent_resume\(}, send => ['hang'] ];
my $job = [ row => fields(0 => { i1 => ord 'j' }, 1 => { i8 => 1 }, 2 => { i4 => 0 }, 4 => { i4 => 3 }, 16 => { i8 => '800000000000000' }, 19 => { i4 => 0 }) ];
my $line = fields(0 => { i1 => ord 'l' }, 1 => { i8 => 1 }, 2 => { i4 => 0 }, 9 => 'NOTICE', 10 => '00000', 11 => 'x', 18 => { i8 => '800000000000000' });
is_bounded('agent', 200, 'refused', '1,000,000 lines of a log', $start, $resume,
    [ on => q{^execute SELECT \* FROM fleet_link.agent_fetch\(}, send => [ $job, [ times => 1_000_000, [ count => $line ] ], $done ] ]);
my $long = [@$line];
$long->[11] = { bytes => 40 << 20 };
$long->[19] = { i4 => 1 };
is_bounded('agent', 200, 'refused', 'a line of 40 MB', $start, $resume, [ on => q{^execute SELECT \* FROM fleet_link.agent_fetch\(}, send => [ $job, [ row => $long ], $done ] ]);

$f->done(made => 1);
