#!/usr/bin/perl
# Runs TAP files, several at the same time, and closes with "N passed, N failed", and ", N skipped"
# where something was.
#
# What is skipped, a file or a test, holds nothing: it is named, and counted apart.  So is a test
# that is marked TODO and does not hold.  A file without a single test has failed.
# FLEET_NO_SKIP=1: what is skipped has failed too (for a machine on which everything is installed).
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
# Why a test was skipped, or is to do: only its line says so.
my (%reason, %todo);
$harness->callback(
    made_parser => sub {
        my ($parser, $job) = @_;
        $parser->callback(
            test => sub {
                my ($test) = @_;
                $reason{ $job->[0] }{ $test->number } = $test->explanation if $test->has_directive;
                push @{ $todo{ $job->[0] } }, $test->number if $test->has_todo && !$test->is_actual_ok;
            });
    });
my $result = $harness->runtests(@files);

my ($passed, $failed, $skipped, $todo) = (scalar $result->passed, scalar $result->failed, 0, 0);

sub skip
{
    my ($what, $why) = @_;
    print "SKIP $what: ", $why || 'it does not say why', "\n";
    $skipped++;
    return;
}

for my $parser ($result->parsers)
{
    # A file that died, or whose plan does not fit, failed too, with all tests of it that ran being ok.
    $failed++ if !$parser->failed && ($parser->parse_errors || $parser->exit);
}
for my $file (@files)
{
    my ($parser) = $result->parsers($file);
    my @todo = @{ $todo{$file} || [] };
    if (defined $parser->skip_all)
    {
        skip($file, $parser->skip_all);
    }
    elsif (!$parser->tests_run && !$parser->parse_errors && !$parser->exit)
    {
        print "FAILED $file: not a single test\n";
        $failed++;
    }
    skip("$file, test $_", $reason{$file}{$_}) for $parser->skipped;
    print "TODO $file, test $_: $reason{$file}{$_}\n" for @todo;
    $passed -= $parser->skipped + @todo;
    $todo += @todo;
}
if ($ENV{FLEET_NO_SKIP} && $skipped)
{
    print "$skipped skipped, where nothing may be\n";
    $failed += $skipped;
}
$skipped += $todo;
printf "%d passed, %d failed%s\n", $passed, $failed, $skipped ? ", $skipped skipped" : '';
exit($failed ? 1 : 0);
