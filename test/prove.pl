#!/usr/bin/perl
# Runs TAP files, several at the same time, and closes with "N passed, N failed".
#
# usage: prove.pl [--jobs n] [-I dir]… file…
use strict;
use warnings;
use Getopt::Long;
use TAP::Harness;

my $jobs = 1;
my @include;
GetOptions('jobs=i' => \$jobs, 'I=s' => \@include) or exit 2;
# What takes long first: the last one to end then ends early.  A file that takes longer than its
# size tells says "(runs long)" in its first line.
sub weight
{
    my ($file) = @_;
    open my $in, '<', $file or die "$file: $!\n";
    return (-s $file) + (<$in> =~ /\(runs long\)/ ? 1_000_000 : 0);
}
my %weight = map { $_ => weight($_) } @ARGV;
my @files = sort { $weight{$b} <=> $weight{$a} } @ARGV;
die "no test file\n" unless @files;

my $harness = TAP::Harness->new(
    {   jobs      => $jobs,
        lib       => \@include,
        timer     => 1,
        verbosity => 0,
        failures  => 1,
        merge     => 0,
    });
my $result = $harness->runtests(@files);

# A file that died, or whose plan does not fit, failed too, with all tests of it that ran being ok.
my $failed = $result->failed;
for my $parser ($result->parsers)
{
    $failed++ if !$parser->failed && ($parser->parse_errors || $parser->exit);
}
printf "%d passed, %d failed\n", scalar $result->passed, $failed;
exit($failed ? 1 : 0);
