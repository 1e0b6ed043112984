# ALTER EXTENSION pg_fleet UPDATE, from every earlier version that test/upgrade/ keeps, and from one that never was (older.txt there):
# what comes out equals a new installation, object by object, and every row of every table is still there.  (test build)
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Upgrade;

my $f = FleetTest->new(register => 0, witness => 0);
my $parent = $f->parent;
my $version = $f->sql(q{SELECT default_version FROM pg_available_extensions WHERE name = 'pg_fleet'});
my %kept = Upgrade::kept();
my @from = ('older', sort grep { $_ ne $version } keys %kept);

# ---- the versions that there are ---------------------------------------------------------------

# Released is what has a heading in the change log that does not say otherwise.
my @released = grep { $_ ne $version } Upgrade::slurp('CHANGELOG.md') =~ /^## (\S++)(?! *\(unreleased\))[^\n]*$/mg;
is(join(' ', grep { !$kept{$_} } @released), '', 'test/upgrade has the install script of every released version');
is($f->sql("SELECT string_agg(source, ' ') FROM pg_extension_update_paths('pg_fleet')
    WHERE source IN (" . join(', ', map { FleetTest::quote_literal($_) } @from) . ") AND target = '$version' AND path IS NULL"),
    '', 'from each there is a way to this version');
is($f->sql("SELECT string_agg(DISTINCT source, ' ') FROM pg_extension_update_paths('pg_fleet')
    WHERE source NOT IN (" . join(', ', map { FleetTest::quote_literal($_) } @from, $version) . ')'), '', 'and each from which there is one is tested');

is($f->sql("SELECT superuser, trusted, relocatable, requires FROM pg_available_extension_versions WHERE name = 'pg_fleet' AND version = '$version'"),
    't|f|f|{plpgsql}', 'a superuser installs it, into its own schemas, with nothing else but PL/pgSQL');

# ---- what is compared --------------------------------------------------------------------------

my $objects_sql = Upgrade::slurp("$Upgrade::FOLDER/objects.sql");

# All lines of objects.sql in a database, after some statements that do not stay.
sub objects
{
    my ($db, $first) = @_;
    return { map { $_ => 1 } split /\n/, $parent->safe_psql($db, "\\set extension pg_fleet\nBEGIN;\n" . ($first // '') . ";\n$objects_sql\nROLLBACK;") };
}

# What is in one of both only: "- gone" and "+ new".
sub difference
{
    my ($expected, $found) = @_;
    return ((map { "- $_" } grep { !$found->{$_} } sort keys %$expected), map { "+ $_" } grep { !$expected->{$_} } sort keys %$found);
}

# Every table's rows, as JSON, and the sequences: name => [rows, in order].
sub rows
{
    my ($db) = @_;
    my %rows;
    my @tables = split /\n/, $parent->safe_psql($db, q{SELECT c.oid::regclass FROM pg_class AS c
        WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND (c.relkind = 'S' OR c.relkind = 'r' AND c.relnatts > 0)});
    my $all = join ' UNION ALL ', map { "SELECT '$_' || ' ' || to_jsonb(t)::text FROM (SELECT * FROM $_) AS t" } @tables;
    for my $line (split /\n/, $parent->safe_psql($db, "$all ORDER BY 1"))
    {
        my ($table, $row) = split / /, $line, 2;
        push @{ $rows{$table} }, $row;
    }
    return \%rows;
}

# Columns that no row has a value in.
sub empty_columns
{
    my ($db) = @_;
    return $parent->safe_psql($db, q{SELECT string_agg(c.oid::regclass || '.' || a.attname, ' ')
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
       WHERE c.relnamespace = 'fleet_catalog'::regnamespace AND c.relkind = 'r' AND c.relname <> 'edit' -- it has rows within a transaction only
         AND (xpath('/row/n/text()', query_to_xml(format('SELECT count(%I) AS n FROM %s', a.attname, c.oid::regclass), false, true, '')))[1]::text = '0'});
}

$parent->safe_psql('postgres', 'CREATE DATABASE fresh');
$parent->safe_psql('fresh', 'CREATE EXTENSION pg_fleet');
my $fresh = objects('fresh');
cmp_ok(scalar keys %$fresh, '>', 1000, 'a new installation has its objects');
is(join("\n", grep { /: not compared/ } sort keys %$fresh), '', 'and none of a kind that is not compared');

# ---- the upgrades ------------------------------------------------------------------------------

for my $from (@from)
{
    my $db = "from $from";
    $parent->safe_psql('postgres', "CREATE DATABASE \"$db\"");
    $parent->safe_psql($db, "CREATE EXTENSION pg_fleet VERSION '$from';\n" . Upgrade::rows($from));
    is(empty_columns($db), '', "$from: every column of every table has a value");
    my $before = rows($db);

    $parent->safe_psql($db, 'ALTER EXTENSION pg_fleet UPDATE');
    is(join("\n", difference($fresh, objects($db))), '', "$from: upgraded, it equals a new installation");

    my $after = rows($db);
    is(join(' ', grep { @{ $after->{$_} // [] } != @{ $before->{$_} } } sort keys %$before), '', "$from: no table has lost a row");
    # A column that has gone is not looked for.
    my @lost;
    for my $table (sort keys %$before)
    {
        my ($all, $rows) = map { '[' . join(', ', @$_) . ']' } $before->{$table}, $after->{$table} // [];
        next if $all eq $rows;
        push @lost, map { "$table: $_" } split /\n/, $parent->safe_psql($db, sprintf <<'SQL', FleetTest::quote_literal($all), FleetTest::quote_literal($rows));
WITH now AS (SELECT r FROM jsonb_array_elements(%2$s) AS r), before AS (SELECT r FROM jsonb_array_elements(%1$s) AS r),
     column_of AS (SELECT array_agg(DISTINCT k) AS gone FROM before, jsonb_object_keys(r) AS k WHERE NOT EXISTS (SELECT FROM now WHERE now.r ? k))
SELECT b.r FROM before AS b, column_of AS c WHERE NOT EXISTS (SELECT FROM now AS n WHERE n.r @> (b.r - coalesce(c.gone, '{}')))
SQL
    }
    is(join("\n", @lost), '', "$from: and every row has its values");

    # What was defined before runs now.
    $parent->safe_psql($db, 'UPDATE fleet_catalog.identity SET paused_reason = NULL');
    my $run = $parent->safe_psql($db, q{SELECT fleet.run_parent_package('kept', params => '{"p": 7}')});
    cmp_ok($run, '>', 14, "$from: numbers continue");
    is($parent->safe_psql($db, "SELECT fleet.wait_for_run($run, timeout => '${FleetTest::PATIENCE}s')"), 'succeeded', "$from: a package of before runs");
    is($parent->safe_psql($db, "SELECT output FROM fleet.task_run WHERE run_id = $run AND task = 'first' AND item = 1"), '7', "$from: as it is defined");
}

# ---- between the installation of a new library and the update ----------------------------------

my $from = -s $parent->logfile;
sub log_since { my ($place) = @_; return substr(slurp_file($parent->logfile), $place); }
$parent->safe_psql('postgres', 'CREATE DATABASE between');
$parent->safe_psql('between', "CREATE EXTENSION pg_fleet VERSION 'older';\n" . Upgrade::rows('older') . ";\nUPDATE fleet_catalog.identity SET paused_reason = NULL");
my $NO_AGENT = 'SELECT last_sqlstate || \' \' || last_error FROM fleet.agent_status() WHERE next_start_at IS NOT NULL';
$parent->safe_psql('between', q{SELECT fleet_catalog.wake('servers', 0)});
$f->wait_for_in('parent', 'between', $NO_AGENT, "55000 extension pg_fleet has version older, but its library $version", 'before the update, no agent runs, and says why');
like(log_since($from), qr/ERROR:  extension pg_fleet has version older, but its library \Q$version\E\n.*DETAIL:  No agent runs until both are the same\.\n.*HINT:  Run ALTER EXTENSION pg_fleet UPDATE\./, '… and what to do about it');
$parent->safe_psql('between', 'ALTER EXTENSION pg_fleet UPDATE');
$f->wait_for_in('parent', 'between', 'SELECT running FROM fleet.agent_status()', 't', 'after it, one comes, and nobody has to ask');
# one that runs is of the old library when the next version comes; what is requested then waits
sub set_version { my ($to) = @_; $parent->safe_psql('between', "BEGIN; LOCK TABLE fleet_catalog.sentinel IN ACCESS EXCLUSIVE MODE; UPDATE pg_extension SET extversion = '$to' WHERE extname = 'pg_fleet'; COMMIT"); return; }
set_version('next');
$f->wait_for_in('parent', 'between', $NO_AGENT, "55000 extension pg_fleet has version next, but its library $version", 'the agent leaves at an update, and its successor looks anew');
my $early = $parent->safe_psql('between', q{SELECT fleet.run_parent_package('kept', params => '{"p": 7}')});
set_version($version);
$f->wait_for_in('parent', 'between', "SELECT state FROM fleet.run WHERE run_id = $early", 'succeeded', 'what was requested meanwhile is done when both are the same');
$f->forget('parent');
$parent->safe_psql('postgres', 'DROP DATABASE between');

# Sessions meet functions and tables that are not there yet: these say what to do.
for my $missing (
    [ 'a function', 'ALTER FUNCTION fleet_catalog.cancel_run(bigint, boolean) RENAME TO other', 'SELECT fleet.cancel_run(1)', '42883' ],
    [ 'a function that returns a set', 'ALTER FUNCTION fleet_catalog.plan(text, jsonb) RENAME TO other', q{SELECT * FROM fleet.plan('p')}, '42883' ],
    [ 'a column', 'ALTER TABLE fleet_catalog.job_run RENAME COLUMN log_seq TO other', q{SELECT fleet_link.agent_acknowledge(gen_random_uuid(), '{}')}, '42703' ],
    [ 'a table', 'ALTER TABLE fleet_catalog.parent RENAME TO other', 'SELECT fleet_link.agent_resume(gen_random_uuid(), 1, \'{}\')', '42P01' ])
{
    my ($what, $change, $call, $sqlstate) = @$missing;
    my $error = $f->fails("BEGIN; $change; $call; ROLLBACK", $sqlstate, "without $what: an ERROR", db => 'fresh');
    like($error, qr/HINT:  Update the extension: ALTER EXTENSION pg_fleet UPDATE\./, '… with the way out');
}

# ---- the comparison finds what an upgrade script forgets ---------------------------------------

# Each of these differences, in a database that equals the new one.
my @planted = (
    [ 'an index', 'DROP INDEX fleet_catalog.run_package', qr/^- index fleet_catalog\.run_package: is there$/ ],
    [ 'the predicate of an index', 'DROP INDEX fleet_catalog.run_open; CREATE INDEX run_open ON fleet_catalog.run (run_id)', qr/^\+ index .*run_open: CREATE INDEX/ ],
    [ 'a column', 'ALTER TABLE fleet_catalog.run ADD COLUMN more text', qr/^\+ column fleet_catalog\.run\.more/ ],
    [ 'the place of a column', 'ALTER TABLE fleet_catalog.job_snapshot DROP COLUMN owner, ADD COLUMN owner text NOT NULL',
        qr/^\+ table fleet_catalog\.job_snapshot: columns .*hash, owner$/ ],
    [ 'the type of a column', 'ALTER TABLE fleet_catalog.used_key ALTER uses TYPE bigint', qr/^\+ column fleet_catalog\.used_key\.uses: bigint/ ],
    [ 'a default', 'ALTER TABLE fleet_catalog.job ALTER description DROP DEFAULT', qr/^- column fleet_catalog\.job\.description: .* default ''::text$/ ],
    [ 'NOT NULL', 'ALTER TABLE fleet_catalog.job ALTER description DROP NOT NULL', qr/^\+ column fleet_catalog\.job\.description: text, not null f/ ],
    [ 'statistics of a column', 'ALTER TABLE fleet_catalog.run ALTER state SET STATISTICS 500', qr/^\+ column fleet_catalog\.run\.state: .* statistics 500/ ],
    [ 'the right to a column', 'GRANT SELECT (state) ON fleet_catalog.run TO PUBLIC', qr/^\+ column fleet_catalog\.run\.state: right SELECT of PUBLIC$/ ],
    [ 'an identity column', 'ALTER TABLE fleet_catalog.run ALTER run_id SET GENERATED ALWAYS', qr/^\+ column fleet_catalog\.run\.run_id: .* identity "a"/ ],
    [ 'a sequence', 'ALTER SEQUENCE fleet_catalog.run_run_id_seq CACHE 10', qr/^\+ sequence fleet_catalog\.run_run_id_seq: .* cache 10/ ],
    [ 'a constraint', 'ALTER TABLE fleet_catalog.precedence DROP CONSTRAINT precedence_check', qr/^- table constraint precedence_check on fleet_catalog\.precedence: is there$/ ],
    [ 'what a foreign key does', 'ALTER TABLE fleet_catalog.step DROP CONSTRAINT step_job_id_fkey, ADD FOREIGN KEY (job_id) REFERENCES fleet_catalog.job',
        qr/^- .*step_job_id_fkey.* ON DELETE CASCADE/ ],
    [ 'a storage parameter', 'ALTER TABLE fleet_catalog.run RESET (fillfactor)', qr/^- table fleet_catalog\.run: .* options fillfactor=70/ ],
    [ 'the replica identity', 'ALTER TABLE fleet_catalog.step_run REPLICA IDENTITY DEFAULT', qr/^\+ table fleet_catalog\.step_run: .* replica identity d/ ],
    [ 'row security', 'ALTER TABLE fleet_catalog.run ENABLE ROW LEVEL SECURITY', qr/^\+ table fleet_catalog\.run: .* row security t/ ],
    [ 'a policy', 'CREATE POLICY p ON fleet_catalog.run USING (true)', qr/^\+ policy p on fleet_catalog\.run: for \*, permissive t, roles PUBLIC, using true/ ],
    [ 'a trigger', 'CREATE TRIGGER t BEFORE UPDATE ON fleet_catalog.run FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()',
        qr/^\+ trigger t on fleet_catalog\.run: CREATE TRIGGER .* enabled O$/ ],
    [ 'a rule', 'CREATE RULE r AS ON INSERT TO fleet_catalog.run DO ALSO NOTHING', qr/^\+ rule r on fleet_catalog\.run: CREATE RULE/ ],
    [ 'an event trigger', 'CREATE FUNCTION public.e() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$;
        CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION public.e(); ALTER EXTENSION pg_fleet ADD EVENT TRIGGER e', qr/^\+ event trigger e: on sql_drop/ ],
    [ 'a view', 'CREATE OR REPLACE VIEW fleet.precedence WITH (security_barrier) AS SELECT p.name AS package, c.from_task, c.to_task, c.on_outcome, c.condition
        FROM fleet_catalog.precedence AS c JOIN fleet_catalog.package AS p ON p.package_id = c.package_id', qr/^- view fleet\.precedence: .*is_visible/ ],
    [ 'the barrier of a view', 'ALTER VIEW fleet.run RESET (security_barrier)', qr/^- view fleet\.run: .* options security_barrier=true/ ],
    [ 'the body of a function', q{CREATE OR REPLACE FUNCTION fleet_catalog.own_database() RETURNS oid LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS 'SELECT 0::oid'},
        qr/^- function fleet_catalog\.own_database\(\): .*current_database/ ],
    [ 'an attribute of a function', 'ALTER FUNCTION fleet_catalog.own_database() VOLATILE', qr/^- function fleet_catalog\.own_database\(\): .* STABLE/ ],
    [ 'a setting of a function', 'ALTER FUNCTION fleet_catalog.own_database() RESET search_path', qr/^- function fleet_catalog\.own_database\(\): .* SET search_path/ ],
    [ 'the right to a function', 'GRANT EXECUTE ON FUNCTION fleet_catalog.may_use(oid) TO PUBLIC', qr/^\+ function fleet_catalog\.may_use\(.*\): right EXECUTE of PUBLIC$/ ],
    [ 'the right to a view', 'REVOKE SELECT ON fleet.run FROM PUBLIC', qr/^- view fleet\.run: right SELECT of PUBLIC$/ ],
    [ 'the right to a schema', 'GRANT USAGE ON SCHEMA fleet_catalog TO PUBLIC', qr/^\+ schema fleet_catalog: right USAGE of PUBLIC$/ ],
    [ 'an owner', 'ALTER FUNCTION fleet_catalog.may_use(oid) OWNER TO fleet_operator', qr/^\+ function fleet_catalog\.may_use\(.*\): owner fleet_operator$/ ],
    [ 'a comment', q{COMMENT ON FUNCTION fleet_catalog.may_use(oid) IS 'else'}, qr/^\+ function fleet_catalog\.may_use\(.*\): comment on it: else$/ ],
    [ 'the comment on a column', q{COMMENT ON COLUMN fleet.run.state IS 'where it is'}, qr/^\+ view fleet\.run: comment on state: where it is$/ ],
    [ 'a type', "CREATE TYPE fleet.color AS ENUM ('a', 'b'); ALTER EXTENSION pg_fleet ADD TYPE fleet.color", qr/^\+ type fleet\.color: kind e, .* values 'a', 'b'$/ ],
    [ 'a column of a type', 'CREATE TYPE fleet.pair AS (a integer, b text); ALTER EXTENSION pg_fleet ADD TYPE fleet.pair', qr/^\+ column fleet\.pair\.b: text/ ],
    [ 'an object that the extension does not own', 'ALTER EXTENSION pg_fleet DROP FUNCTION fleet_catalog.own_database()', qr/^- function fleet_catalog\.own_database\(\): is there$/ ],
    [ 'the foreign-data wrapper', 'ALTER FOREIGN DATA WRAPPER pg_fleet NO VALIDATOR', qr/^- foreign-data wrapper pg_fleet: .* validator fleet_link\.validator/ ],
    [ 'what a dump takes along', q{UPDATE pg_extension SET extcondition[1] = 'WHERE false' WHERE extname = 'pg_fleet'}, qr/^\+ extension pg_fleet: in dumps: .* where "WHERE false"$/ ],
    [ 'how a type becomes another one', 'CREATE CAST (fleet_catalog.parent AS fleet_catalog.run) WITH INOUT; ALTER EXTENSION pg_fleet ADD CAST (fleet_catalog.parent AS fleet_catalog.run)',
        qr/^\+ cast \(fleet_catalog\.parent AS fleet_catalog\.run\): context e, method i/ ],
    [ 'a kind of object that it does not know', q{CREATE COLLATION fleet.c (provider = libc, locale = 'C'); ALTER EXTENSION pg_fleet ADD COLLATION fleet.c},
        qr/^\+ collation .*: not compared$/ ],
);
for my $plant (@planted)
{
    my ($what, $statements, $line) = @$plant;
    my @found = difference($fresh, objects('fresh', $statements));
    ok(scalar(grep { /$line/ } @found), "planted, and found: $what") or diag(join "\n", @found);
}

$parent->safe_psql('postgres', "DROP DATABASE \"$_\"") for 'fresh', map { "from $_" } @from;
$f->done;
