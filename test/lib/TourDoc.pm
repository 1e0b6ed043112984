# TourDoc.pm
#     The tour (demo/tour.sql) and the document that shows its output (doc/tour.md).
#
#     psql -a prints each statement and its result.  A line "-- [name]" of the script begins a piece; the
#     document has the same pieces, in the same order, in blocks that begin with ```psql name.
#
#     To bring the document up to date after a change:
#
#         demo/run.sh tour >tour.out
#         perl -Itest/lib -MTourDoc -e 'TourDoc::fill("doc/tour.md", "tour.out")'
package TourDoc;

use strict;
use warnings;

sub slurp
{
    my ($file) = @_;
    open my $in, '<:encoding(UTF-8)', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

# What a function returns that has nothing to tell is not shown: a column of its name, and one row.
my $SILENT = qr/^ (?:create|add|drop|alter|set|cancel)_\w+ *\n-+\n[^\n]*\n/m;

# Output of the script: ([name, text], …)
sub pieces_of_output
{
    my ($text) = @_;
    $text =~ s/^\\set ECHO \w+\n//mg;
    my @pieces;
    for my $piece (split /^(?=-- \[)/m, $text)
    {
        my ($name, $body) = $piece =~ /\A-- \[([^\]]+)\]\n(.*)\z/s or next;
        $body =~ s/$SILENT//g;
        $body =~ s/[ \t]+$//mg;
        $body =~ s/\n{2,}/\n/g;
        $body =~ s/\A\n+|\n+\z//g;
        push @pieces, [ $name, "$body\n" ];
    }
    return @pieces;
}

sub pieces_of_document
{
    my ($text) = @_;
    my @pieces;
    push @pieces, [ $1, $2 ] while $text =~ /^```psql ([^\n]+)\n(.*?)^```$/msg;
    return @pieces;
}

# What may differ from one time to the next: times, ports, uuids, where a task was placed, and in which
# order tasks that run at the same time began and ended.
sub normalise
{
    my ($text) = @_;
    $text =~ s/\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/UUID/g;
    $text =~ s/\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?(?:[+-]\d\d)?/TIME/g;
    $text =~ s/\b\d\d:\d\d:\d\d(?:\.\d+)?/DURATION/g;
    $text =~ s/ \(\d+ of \d+ done(?:, [^)]*left)?\)$/ (DONE)/mg;
    $text =~ s/port=\d+/PORT/g;
    my @lines = split /\n/, $text;
    my $statement = $text =~ /fleet\.(plan|advise)\(/ ? $1 : '';
    for my $line (@lines)
    {
        $line =~ s/^[-+]+$/---/;
        $line =~ s/\s+/ /g;
        $line =~ s/\s+$//;
        # rows of a table name the server where something ran; definitions name it in quotes
        $line =~ s/\b(?:etl1|etl2|edge)\b/SERVER/g if $line =~ /\|/ && $line !~ /\b(?:agent|direct|deployed|queued|not needed)\b/;
        $line =~ s{\| [tf] (?=\| \w+$)}{| BOOL } if $statement eq 'plan';
        $line =~ s/\| \d+\.\d+$/| NUMBER/ if $statement eq 'advise';
    }
    # a task that ends soon is not always seen running
    @lines = grep { !/^INFO: .*: started(?: on \w+)?$/ } @lines;
    # lines of tasks that run at the same time, and rows of a table that is ordered by time
    my (@out, @run);
    for my $line (@lines, undef)
    {
        if (defined $line && ($line =~ /^INFO: / || $statement eq 'plan' && $line =~ /^ \w+ \| /))
        {
            push @run, $line;
            next;
        }
        push @out, sort splice @run;
        push @out, $line if defined $line;
    }
    return join("\n", @out) . "\n";
}

# Puts the output into the blocks of the document.
sub fill
{
    my ($document, $output) = @_;
    my %new = map { @$_ } pieces_of_output(slurp($output));
    my $text = slurp($document);
    $text =~ s/^(```psql ([^\n]+)\n).*?^```$/$1 . ($new{$2} \/\/ die "there is no piece \"$2\"\n") . '```'/emsg;
    open my $out, '>:encoding(UTF-8)', $document or die "$document: $!\n";
    print {$out} $text;
    return close $out;
}

1;
