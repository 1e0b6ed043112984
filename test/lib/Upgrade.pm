# Upgrade.pm
#     What test/t/034_upgrade.pl upgrades from: the install scripts of released versions, which
#     test/upgrade/ keeps, and a version that never was, which is made from today's script (older.txt there).
#
#     test/run.sh puts all of them beside the extension, in the private copy of the installation:
#
#         perl -Itest/lib -MUpgrade -e 'Upgrade::install(@ARGV)' pg_fleet--VERSION.sql pg_fleet.so DIRECTORY
package Upgrade;

use strict;
use warnings;
use File::Basename;

our $FOLDER = dirname(__FILE__) . '/../upgrade';

sub slurp
{
    my ($file) = @_;
    open my $in, '<', $file or die "$file: $!\n";
    local $/;
    return scalar <$in>;
}

sub spew
{
    my ($file, $text) = @_;
    open my $out, '>', $file or die "$file: $!\n";
    print {$out} $text;
    close $out or die "$file: $!\n";
    return;
}

# The differences of older.txt: { what, changes => [[today, older], ...], rows => [...], upgrade }.
sub differences
{
    my @differences;
    for my $part (split /^(?=== )/m, slurp("$FOLDER/older.txt"))
    {
        my ($what, $body) = $part =~ /\A== ([^\n]+)\n(.*)\z/s or next;
        my %difference = (what => $what, changes => [], rows => []);
        for my $piece (split /^(?=-- (?:today|older|rows|upgrade)$)/m, $body)
        {
            my ($kind, $text) = $piece =~ /\A-- (\w+)\n(.*?)\n*\z/s or die "older.txt: $what: not understood: $piece\n";
            push @{ $difference{changes} }, [ $text, '' ] if $kind eq 'today';
            $difference{changes}[-1][1] = $text if $kind eq 'older';
            push @{ $difference{rows} }, $text if $kind eq 'rows';
            $difference{upgrade} = $text if $kind eq 'upgrade';
        }
        push @differences, \%difference;
    }
    return @differences;
}

# The statement of a script that creates an object: kind VIEW, name fleet.run.
sub statement
{
    my ($script, $kind, $name) = @_;
    my $begin = $script =~ /^CREATE $kind \Q$name\E(?![\w.])/m ? $-[0] : die "older.txt: there is no $kind $name\n";
    my $end = index $script, ";\n", $begin;
    my $body = index $script, ' AS $$', $begin;
    $end = index $script, ";\n", index $script, "\n\$\$", $body if $body > 0 && $body < $end;
    return substr $script, $begin, $end + 1 - $begin;
}

sub expand
{
    my ($script, $text, $replace) = @_;
    $text =~ s/\{\{(\w+) ([\w.]+)\}\}/statement($script, $1, $2)/eg;
    $text =~ s/^CREATE (?=FUNCTION|VIEW)/CREATE OR REPLACE /mg if $replace;
    return $text;
}

# Where a text is there exactly once, it becomes another one.
sub change
{
    my ($script, $what, $from, $to) = @_;
    my $n = () = $$script =~ /\Q$from\E/g;
    die "older.txt: $what: is in the script $n times:\n$from\n" if $n != 1;
    $$script =~ s/\Q$from\E/$to/;
    return;
}

# From today's install script: (the older install script, the upgrade script to today's).
sub older
{
    my ($today) = @_;
    my ($script, $upgrade) = ($today, "\\echo Use \"ALTER EXTENSION pg_fleet UPDATE\" to load this file. \\quit\n"
          . "LOCK TABLE fleet_catalog.sentinel IN ACCESS EXCLUSIVE MODE;\n");
    for my $difference (differences())
    {
        change(\$script, $difference->{what}, map { expand($today, $_) } @$_) for @{ $difference->{changes} };
        $upgrade .= "\n-- $difference->{what}\n" . expand($today, $difference->{upgrade}, 1) . "\n";
    }
    return ($script, $upgrade);
}

# Rows for a version: the newest file of them that is not newer than it; the older version lacks some.
sub rows
{
    my ($version) = @_;
    my $number = sub { return join '', map { sprintf '%06d', $_ } $_[0] =~ /(\d+)/g; };
    my ($file) = sort { $number->($b) cmp $number->($a) }
      grep { $version eq 'older' || $number->(basename($_, '.sql')) le $number->($version) } glob "$FOLDER/rows--*.sql";
    my $rows = slurp($file // die "there are no rows for version $version\n");
    if ($version eq 'older')
    {
        for my $difference (differences())
        {
            change(\$rows, $difference->{what}, $_, '') for @{ $difference->{rows} };
        }
    }
    return $rows;
}

# Install scripts of earlier versions that are kept here: version => file.
sub kept
{
    my %kept = map { basename($_) =~ /\Apg_fleet--([^-]+(?:-[^-]+)*)\.sql\z/ ? ($1 => $_) : () } glob "$FOLDER/pg_fleet--*.sql";
    return %kept;
}

# An older script may name C functions that the library has no more.  Their SQL functions must be replaced or dropped by
# the upgrade; until then they are another one.
sub known_symbols
{
    my ($script, $library) = @_;
    my %symbol = map { $_ => 1 } split /\s+/, `nm -D --defined-only '$library'`;
    $script =~ s/('MODULE_PATHNAME', ')(\w+)'/$1 . ($symbol{$2} ? $2 : 'fleet_sql_api') . "'"/eg;
    return $script;
}

sub install
{
    my ($today, $library, $directory) = @_;
    my ($version) = basename($today) =~ /\Apg_fleet--(.+)\.sql\z/;
    my ($script, $upgrade) = older(slurp($today));
    spew("$directory/pg_fleet--older.sql", $script);
    spew("$directory/pg_fleet--older--$version.sql", $upgrade);
    my %kept = kept();
    for my $old (grep { $_ ne $version } keys %kept)
    {
        spew("$directory/pg_fleet--$old.sql", known_symbols(slurp($kept{$old}), $library));
    }
    return;
}

1;
