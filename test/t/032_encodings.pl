# Databases of other encodings than UTF8: CREATE EXTENSION works there, and a package with text that
# is not ASCII runs, and keeps it in names, parameters, output, log and errors.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(witness => 0);
my $node = $f->parent;

# what the database can hold, as UTF-8, which psql sends and reads
my %text = (
    EUC_JP    => "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e",
    LATIN1    => "caf\xc3\xa9 \xc3\xbcber",
    SQL_ASCII => "caf\xc3\xa9 \xe6\x97\xa5",
);
$ENV{PGCLIENTENCODING} = 'UTF8';

for my $encoding (sort keys %text)
{
    my $database = lc $encoding;
    my $word = $text{$encoding};
    my $sql = sub {
        my ($rc, $out, $err) = $node->psql($database, $_[0]);
        diag($err) if $rc;
        return $rc ? "failed: $err" : $out;
    };
    my $wait = sub { return $sql->("SELECT fleet.wait_for_run($_[0], timeout => '${FleetTest::PATIENCE}s')"); };
    $node->safe_psql('postgres', "CREATE DATABASE $database ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
    is($sql->('CREATE EXTENSION pg_fleet'), '', "$encoding: CREATE EXTENSION");
    is($sql->("SELECT fleet.create_package('$word', params => '{\"p\": \"$word\"}')"), '', "$encoding: a package of that name");
    is($sql->("SELECT fleet.add_task('$word', 'task $word', sql => \$\$DO 'BEGIN RAISE NOTICE ''line $word''; END';
        SELECT '$word:' || fleet.param('p')\$\$)"), '0', "$encoding: its task");
    my $run = $sql->("SELECT fleet.run_parent_package('$word')");
    is($wait->($run), 'succeeded', "$encoding: it runs");
    is($sql->("SELECT package || ', ' || task || ', ' || output FROM fleet.task_run WHERE run_id = $run"),
        "$word, task $word, $word:$word", "$encoding: every text is as it was given");
    is($sql->("SELECT string_agg(message, '; ') FROM fleet.log WHERE run_id = $run AND level = 'NOTICE'"),
        "line $word", "$encoding: so is the line of the log");
    $sql->("SELECT fleet.create_package('bad $word')");
    $sql->("SELECT fleet.add_task('bad $word', 'raise', sql => \$\$DO 'BEGIN RAISE EXCEPTION ''no $word''; END'\$\$)");
    $run = $sql->("SELECT fleet.run_parent_package('bad $word')");
    is($wait->($run), 'failed', "$encoding: a task that fails");
    is($sql->("SELECT sqlstate || ' ' || message FROM fleet.task_run WHERE run_id = $run"), "P0001 no $word", "$encoding: with its message");
    $node->safe_psql('postgres', "DROP DATABASE $database");
}

$f->done;
