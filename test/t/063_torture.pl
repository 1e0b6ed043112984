# (runs long) (test build) A minute of the torture (test/torture/torture.pl), always of one seed, so that it is the change
# that makes it fail: other seeds are for make torture.  And short rounds with seeds that have found something.
#   FLEET_TORTURE_SECONDS=n   how long (default: 60)
#   FLEET_TORTURE_SEED=n      the seed
use strict;
use warnings;
use FleetTest;
use Test::More;
use Torture;

my $SECONDS = $ENV{FLEET_TORTURE_SECONDS} || 60;
my $SEED = $ENV{FLEET_TORTURE_SEED} || 630147;
diag("seed $SEED: FLEET_TORTURE_SEED=$SEED make tap TESTS=test/t/063_torture.pl");
my $f = Torture::fleet();
# [seed, round, what it has found]: as the plan is drawn now; what was found before that has tests of its own
my @found = ();
my $bad = 0;
for my $found (@found)
{
    note "seed $found->[0], round $found->[1]: $found->[2]";
    $bad ||= Torture::rounds($f, seed => $found->[0], first => $found->[1], rounds => 1);
}
$bad ||= Torture::rounds($f, seed => $SEED, seconds => $SECONDS, brief => 1);
Torture::done($f);
