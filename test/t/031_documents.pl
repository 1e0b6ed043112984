# The documents tell the truth: demo/tour.sql prints what doc/tour.md shows, the quick start of README.md
# can be pasted into psql as it stands, and doc/reference.md has a section for each function, view and
# setting, with the arguments and columns that there are.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;
use TourDoc;

my $f = FleetTest->new(witness => 0);
my $parent = $f->parent;

# A psql that is fed a script as if somebody pasted it: everything that it prints, in its order.
sub paste
{
    my ($node, $db, $script, @options) = @_;
    my $out = '';
    my $error = IPC::Run::run([ $node->installed_command('psql'), '-X', @options, '-d', $node->connstr($db) ],
        '<', \$script, '>', \$out, '2>&1') ? '' : 'psql failed';
    utf8::decode($out);
    return $out . $error;
}

# ---- the reference -----------------------------------------------------------------------------

my $reference = TourDoc::slurp('doc/reference.md');
my %section;    # name => text, of each heading of the third level
my %duplicate;
for my $part (split /^(?=#{1,3} )/m, $reference)
{
    next unless $part =~ /\A### `?([\w.]+)`?\n(.*)\z/s;
    $duplicate{$1}++ if exists $section{$1};
    $section{$1} = $2;
}
is(join(' ', sort keys %duplicate), '', 'reference: no heading twice');

my $functions = $f->sql(q{SELECT string_agg(DISTINCT 'fleet.' || proname, ' ') FROM pg_proc WHERE pronamespace = 'fleet'::regnamespace});
my $relations = $f->sql(q{SELECT string_agg('fleet.' || relname, ' ') FROM pg_class WHERE relnamespace = 'fleet'::regnamespace AND relkind IN ('v', 'r', 'm')});
my $settings = $f->sql(q{LOAD 'pg_fleet'; SELECT string_agg(name, ' ') FROM pg_settings WHERE name LIKE 'fleet.%'});
my %exists = map { $_ => 1 } split ' ', "$functions $relations $settings";
for my $what ([ functions => $functions ], [ views => $relations ], [ settings => $settings ])
{
    my ($kind, $names) = @$what;
    is(join(' ', grep { !exists $section{$_} } sort split ' ', $names), '', "reference: all $kind have a section");
}
is(join(' ', grep { !$exists{$_} } sort keys %section), '', 'reference: no section of something that does not exist');

# The first block of a function's section is its signature, as the catalog has it.
my @signatures = split /\n/, $f->sql(<<'SQL');
SELECT p.proname || chr(9)
       || regexp_replace(format('fleet.%s(%s)', p.proname, pg_get_function_arguments(p.oid)), '''::[a-z]+(\[\])?', '''', 'g')
       || CASE WHEN p.prokind = 'f' THEN ' RETURNS ' || pg_get_function_result(p.oid) ELSE '' END
  FROM pg_proc AS p WHERE p.pronamespace = 'fleet'::regnamespace ORDER BY p.proname
SQL
@signatures or fail('reference: there are functions');
for my $line (@signatures)
{
    my ($name, $signature) = split /\t/, $line;
    my ($shown) = ($section{"fleet.$name"} // '') =~ /^```sql\n(.*?)^```/ms;
    $shown //= '';
    for ($shown, $signature)
    {
        s/\s+/ /g;
        s/\( /(/g;
        s/ \z//;
        s/NULL::[a-z]+( precision)?(\[\])?/NULL/g;
        s/\bIN (?=\w)//g;
    }
    is($shown, $signature, "reference: signature of $name");
}

# The first column of the table of a view's section has its columns, in their order.
for my $line (split /\n/, $f->sql(q{SELECT attrelid::regclass || ' ' || string_agg(attname, ' ' ORDER BY attnum)
    FROM pg_attribute WHERE attnum > 0 AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'fleet'::regnamespace AND relkind IN ('v', 'r', 'm'))
    GROUP BY attrelid ORDER BY 1}))
{
    my ($name, @columns) = split ' ', $line;
    $name =~ s/"//g;
    my @shown = ($section{$name} // '') =~ /^\| `(\w+)` \|/mg;
    is("@shown", "@columns", "reference: columns of $name");
}

# ---- links between documents -------------------------------------------------------------------

my %anchors;
my @documents = ('README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SECURITY.md', glob('doc/*.md'), glob('test/*.md test/*/*.md'));

sub anchors
{
    my ($file) = @_;
    return $anchors{$file} ||= do {
        my $text = TourDoc::slurp($file) =~ s/^```.*?^```$//msgr;
        my %a = map { my $t = lc; $t =~ s/[^\w\s-]//g; $t =~ s/ /-/g; $t => 1 } $text =~ /^#+ (.+)$/mg;
        \%a;
    };
}
my @dead;
for my $document (@documents)
{
    my $text = TourDoc::slurp($document) =~ s/^```.*?^```$//msgr;
    my ($folder) = $document =~ m{\A(.*/)}s;
    for my $link ($text =~ /\]\(([^)\s]+)\)/g)
    {
        next if $link =~ /^https?:/;
        my ($file, $anchor) = split /#/, $link;
        my $path = $file ? ($folder // '') . $file : $document;
        $path =~ s{[^/]+/\.\./}{} while $path =~ m{[^/]+/\.\./};
        push @dead, "$document: $link" if !-e $path || $anchor && $path =~ /\.md\z/ && !anchors($path)->{$anchor};
    }
}
is(join("\n", @dead), '', 'documents: no dead link');

# ---- the quick start of README.md --------------------------------------------------------------

my ($quick) = TourDoc::slurp('README.md') =~ /^## Quick start\n.*?^```sql\n(.*?)^```/ms;
ok($quick, 'README.md has a quick start');
cmp_ok(scalar(() = ($quick // '') =~ /\n/g), '<=', 45, 'of some 40 lines');
my ($promised) = TourDoc::slurp('README.md') =~ /^## Quick start\n.*?^```text\n(.*?)^```/ms;
my $printed = paste($parent, 'postgres', $quick // '', '-q', '-P', 'footer=off', '-v', 'SHOW_CONTEXT=never');
unlike($printed, qr/ERROR|psql failed|FATAL/, 'quick start: it runs as it stands') or diag($printed);
like(TourDoc::normalise($printed =~ s/[ \t]+$//mgr), qr/\Q${\ TourDoc::normalise($promised \/\/ 'nothing is promised')}\E/, 'quick start: and ends as README.md shows')
  or diag($printed);
$parent->safe_psql('postgres', 'DROP DATABASE IF EXISTS hq WITH (FORCE)');
$parent->safe_psql('postgres', "DROP DATABASE IF EXISTS $_ WITH (FORCE)") for qw(north south);
$parent->safe_psql('postgres', 'DROP ROLE planner, worker');    # the tour makes one of that name too

# ---- the tour ----------------------------------------------------------------------------------

$parent->safe_psql('postgres', 'CREATE DATABASE tour');
my @ports;
for my $name (qw(etl1 etl2 edge))
{
    my $node = $f->{nodes}{$name} = $f->make_node($name);
    $f->{mode}{$name} = $name eq 'edge' ? 'direct' : 'agent';
    push @{ $f->{children} }, $name;
    $node->safe_psql('postgres', "CREATE DATABASE $FleetTest::DB");
    $node->psql($FleetTest::DB, TourDoc::slurp('demo/tour_server.sql'), on_error_die => 1);
    $node->safe_psql($FleetTest::DB, 'CREATE EXTENSION pg_fleet') if $name ne 'edge';
    push @ports, '-v', "$name=" . $node->port;
}
my $output = paste($parent, 'tour', TourDoc::slurp('demo/tour.sql'), '-a', '-q', @ports);
my @shown = TourDoc::pieces_of_document(TourDoc::slurp('doc/tour.md'));
my @printed = TourDoc::pieces_of_output($output);
is(join(', ', map { $_->[0] } @shown), join(', ', map { $_->[0] } @printed), 'tour: the document has each piece, in order');
my %printed = map { @$_ } @printed;
for my $piece (@shown)
{
    my ($name, $text) = @$piece;
    is(TourDoc::normalise($printed{$name} // ''), TourDoc::normalise($text), "tour: $name") or diag($printed{$name});
}
$parent->safe_psql('postgres', 'DROP DATABASE tour WITH (FORCE)');

$f->done;
