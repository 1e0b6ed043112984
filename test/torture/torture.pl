# Random packages, and faults of many kinds, one or several at a time, on real clusters, for as long as one has:
# what a round does is drawn from the seed before it begins, and what must hold is asked after it (test/lib/Torture*.pm).
#
#   make torture [SEED=n] [MINUTES=10]
#   make torture SEED=n ROUND=k TIMES=m     one round again, m times: real processes are not equally fast twice
#   make torture SEED=n ROUND=k ROUNDS=m    m rounds from there on
#   … BRIEF=1                               as test/t/063_torture.pl draws them
#   make torture FAULTS='kill match'        only these kinds; TORTURE_DEBUG=1 tells what is done when
use strict;
use warnings;
use Test::More;
use Torture;

my $SEED = $ENV{SEED} || int rand 1_000_000;
my $MINUTES = $ENV{MINUTES} || 10;
diag("seed $SEED: make torture SEED=$SEED MINUTES=$MINUTES");
my $f = Torture::fleet();
my $bad = Torture::rounds($f, seed => $SEED, seconds => 60 * $MINUTES, first => $ENV{ROUND}, rounds => $ENV{ROUNDS}, times => $ENV{TIMES},
    brief => $ENV{BRIEF}, only => $ENV{FAULTS} ? [ split ' ', $ENV{FAULTS} ] : undef);
if ($bad)
{
    done_testing();
    exit 1;
}
Torture::done($f);
