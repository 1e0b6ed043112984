# plpgsql looks at an expression when it is first evaluated.  plpgsql_check does so for all of them: every plpgsql
# function of the extension passes, with each of its warnings.  What stays by intention is named here, with the reason.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
for my $extension (qw(plpgsql_check pg_cron))
{
    plan skip_all => "$extension is not installed: test/setup.sh installs it" if !-e "$sharedir/extension/$extension.control";
}

# The planner asks caller() for its value, to guess how many rows there are; outside of a public function it has none.
my $caller = '55000 functions of schema fleet_catalog are internal';
# Each must be found: what is mended leaves the list.
my %named = (
    "fleet_catalog.refuse_epoch $caller" => 1,
    "fleet_catalog.agent_cancel $caller" => 1,
    "fleet_catalog.agent_hello $caller" => 1,
    "fleet_catalog.agent_resume $caller" => 1,
    "fleet_catalog.agent_start_any $caller" => 1,
    "fleet_catalog.agent_document $caller" => 1,
    "fleet_catalog.use_received $caller" => 1,
    # its conditions and columns are those of a table of ours, from the system's catalogs
    'fleet_catalog.check_rows 00000 text type variable is not sanitized' => 1,
    # their text is the default of an argument of ours, from the catalog, or a literal that format() has made
    'fleet_catalog.json_value 00000 text type variable is not sanitized' => 1,
    'fleet_catalog.call_inner 00000 text type variable is not sanitized' => 1,
    # the text is the caller's, in his own session
    'fleet_link.backfill 00000 text type variable is not sanitized' => 1,
    # the default of an option, as text, becomes a value of the option's type, whichever that is
    'fleet_catalog.altered 42804 target type is different type than source type' => 1,
    # its arguments are those of agent_start(), which calls it after it has checked the epoch
    'fleet_catalog.agent_start_any 00000 unused parameter "a_epoch"' => 1,
);

my $f = FleetTest->new(register => 0, witness => 0);
my $node = $f->make_node('checked', libraries => 'pg_cron', conf => "cron.database_name = 'dw'\n");
$node->safe_psql('postgres', 'CREATE DATABASE dw');
# fleet.use_pg_cron() uses schema cron.
$node->safe_psql('dw', 'CREATE EXTENSION pg_cron; CREATE EXTENSION plpgsql_check; CREATE EXTENSION pg_fleet');

# What it has to say of the functions that a condition selects: "function SQLSTATE message (line)".
sub complaints
{
    my ($condition) = @_;
    return split /\n/, $node->safe_psql('dw', <<"SQL");
SELECT p.oid::regproc || ' ' || c.sqlstate || ' ' || c.message || ' (line ' || coalesce(c.lineno, 1) || ')'
  FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang,
       LATERAL plpgsql_check_function_tb(p.oid::regprocedure,
           relid => coalesce((SELECT t.tgrelid FROM pg_trigger AS t JOIN pg_proc AS o ON o.oid = t.tgfoid
                              WHERE t.tgfoid = p.oid OR o.proname = p.proname AND o.pronamespace = 'fleet_link'::regnamespace LIMIT 1), 0)::regclass, fatal_errors => false, all_warnings => true) AS c
 WHERE l.lanname = 'plpgsql' AND $condition ORDER BY 1
SQL
}

my $ours = q{EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
      AND e.extname = 'pg_fleet')};
my $count = $node->safe_psql('dw', "SELECT count(*) FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
    WHERE l.lanname = 'plpgsql' AND $ours");
cmp_ok($count, '>', 60, 'there are plpgsql functions to check');
my @found = complaints($ours);
my %seen;
is(join("\n", grep { my $what = s/ \(line \d+\)\z//r; $seen{$what}++; !$named{$what} } @found), '', 'nothing but what is named here');
is(join("\n", grep { !$seen{$_} } sort keys %named), '', 'and all that is named here');

# It would find a name that is not there, a value that needs a cast and a variable that is never read.
$node->safe_psql('dw', <<'SQL');
CREATE FUNCTION public.planted(a_used integer, a_unused integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_never integer;
BEGIN
    IF a_used < 0 THEN
        PERFORM FROM fleet_catalog.run AS r WHERE r.no_such_column;
    END IF;
    v_never := 1;
    RETURN 'none'::text;
END $$;
SQL
my $planted = join "\n", complaints("p.oid = 'public.planted'::regproc");
like($planted, qr/^planted 42703 column r\.no_such_column does not exist \(line 6\)$/m, 'a planted name that does not exist is found');
like($planted, qr/^planted 42804 .* \(line 9\)$/m, 'so is a cast');
like($planted, qr/never read variable "v_never"/, 'and a variable');
like($planted, qr/unused parameter "a_unused"/, 'and a parameter');

$f->done;
