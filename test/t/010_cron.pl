# pg_cron, from the same database and from another one of the cluster, where pg_fleet is not preloaded: one entry of it sees
# to it that there is an agent after a restart of the server, and the agent fires what is due.  Nobody but its owner has the
# entry.  Without pg_cron there is an error that says what else to do.  (test build)
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
plan skip_all => 'pg_cron is not installed: test/setup.sh installs it' if !-e "$sharedir/extension/pg_cron.control";

my $f = FleetTest->new(witness => 0);
$f->package('p', t => { sql => 'SELECT 1' });
my $error = $f->fails(q{SELECT fleet.use_pg_cron()}, '55000', 'without pg_cron: an error', help => 1);
like($error, qr/pg_cron is not installed/, 'which names what is missing');
my (undef, undef, $said) = $f->try_as(undef, q{SELECT fleet.schedule_package('p', '0 0 1 1 *')});
like($said, qr/NOTICE: .*schedule "p" is in time zone "UTC".*HINT: .*After a restart of the server nothing is started/s,
    'a schedule needs none of it, and says what is missing');

my $node = $f->make_node('cron', libraries => 'pg_cron',
    conf => "cron.database_name = 'postgres'\ncron.use_background_workers = on\nmax_worker_processes = 40\n");
$node->safe_psql('postgres', <<'SQL');
CREATE DATABASE dw;
CREATE EXTENSION pg_cron;
CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN; CREATE ROLE zoe LOGIN;
GRANT USAGE ON SCHEMA cron TO ann, ben;
GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO ann, ben;
SQL
my $super = $node->safe_psql('postgres', 'SELECT session_user');
my %session;
my $cron = FleetTest::Session->new($node, 'postgres', $super);
sub entries { my ($db) = @_; return $cron->sql("SELECT jobname, username, database, schedule, command FROM cron.job WHERE database = '$db' ORDER BY 1, 2"); }
sub refused
{
    my ($db, $role, $sql, $sqlstate, $message, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $before = entries($db);
    my $said = $session{$db}{$role}->say($sql);
    like($said, qr/^ERROR:  $sqlstate: $message$/m, $name);
    is(entries($db), $before, "$name: nothing is changed");
    return $said;
}

for my $db (qw(postgres dw))
{
    my $where = $db eq 'postgres' ? 'same database' : 'another database';
    my $entry = "pg_fleet $db|ann|$db|*/5 * * * *|SELECT fleet_link.keep_agent()";
    $node->safe_psql($db, <<'SQL');
CREATE EXTENSION pg_fleet;
CREATE SCHEMA ann AUTHORIZATION ann;
CREATE TABLE ann.fired (who text DEFAULT current_user, session text DEFAULT session_user, p text, at timestamptz);
ALTER TABLE ann.fired OWNER TO ann;
SQL
    $session{$db}{$_} = FleetTest::Session->new($node, $db, $_) for $super, qw(ann ben zoe);
    my %s = %{ $session{$db} };
    $s{ann}->sql(<<'SQL');
SELECT fleet.create_package('it''s "hers"', params => '{"x": null}');
SELECT fleet.add_task('it''s "hers"', 't', sql => 'INSERT INTO ann.fired (p, at) VALUES (fleet.param(''x''), fleet.scheduled_for())');
SELECT fleet.schedule_package('it''s "hers"', '* * * * *', params => '{"x": "o''clock"}');
SQL
    is(entries($db), '', "$where: a schedule makes no entry");
    my $said = refused($db, 'zoe', q{SELECT fleet.use_pg_cron()}, '42501', 'permission denied for schema cron', "$where: without USAGE on schema cron: refused");
    like($said, qr/^HINT:  Ask a superuser to run.*GRANT USAGE ON SCHEMA cron TO zoe/m, "$where: and it says what to grant");
    is($s{ann}->sql('SELECT fleet.use_pg_cron()'), 't', "$where: a plain user has pg_cron see to it");
    is(entries($db), $entry, "$where: one entry, hers, for this database");
    is($s{ann}->sql('SELECT fleet.use_pg_cron()'), 't', "$where: once more");
    is(entries($db), $entry, "$where: still one");
    unlike($s{ann}->say(q{SELECT fleet.schedule_package('it''s "hers"', '* * * * *', params => '{"x": "o''clock"}')}), qr/HINT/, "$where: nothing is missing now");
    refused($db, 'ben', 'SELECT fleet.use_pg_cron()', '42501', 'the entry of pg_cron is that of another role', "$where: another role makes no second one");
    refused($db, 'ben', 'SELECT fleet.use_pg_cron(false)', '42501', 'the entry of pg_cron is that of another role', "$where: nor takes hers away");
    # the function behind it gives nothing: it is its caller over there
    is($s{ben}->sql("SELECT fleet_link.cron_elsewhere('postgres', 'pg_fleet $db', NULL, NULL)"), '0', "$where: cron_elsewhere with another's entry: nothing");
    is(entries($db), $entry, "$where: hers is as it was");
    $s{ann}->sql(q{SELECT fleet.schedule_package('it''s "hers"', '* * * * *', params => '{"x": "o''clock"}', enabled => false)});
    $s{$super}->sql('TRUNCATE ann.fired');
}
# Each minute, so that nobody waits for five.
$cron->sql(q{UPDATE cron.job SET schedule = '* * * * *'});

# The server starts again.  There is no agent, and nobody asks for one.
for my $db (qw(postgres dw))
{
    $session{$db}{ann}->sql(q{SELECT fleet.alter_schedule('it''s "hers"', enabled => true)});
}
%session = ();
undef $cron;
$node->restart;
$cron = FleetTest::Session->new($node, 'postgres', $super);
for my $db (qw(postgres dw))
{
    my $where = $db eq 'postgres' ? 'same database' : 'another database';
    ok($node->poll_query_until($db, 'SELECT count(*) >= 1 FROM ann.fired WHERE at > pg_postmaster_start_time()'), "$where: pg_cron brings an agent, which fires");
    $session{$db}{$_} = FleetTest::Session->new($node, $db, $_) for $super, qw(ann ben);
    my %s = %{ $session{$db} };
    is($s{$super}->sql(q{SELECT DISTINCT who, session, p, extract(second FROM at)::integer FROM ann.fired}), q{ann|ann|o'clock|0}, "$where: as her, with its parameters, for whole minutes");
    is($s{$super}->sql(q{SELECT count(*) = count(DISTINCT at) FROM ann.fired}), 't', "$where: each once");
    is($s{$super}->sql(q{SELECT DISTINCT package, owner, requested_by FROM fleet.run}), q{it's "hers"|ann|ann}, "$where: the runs are hers, at her request");
    is($s{ann}->sql('SELECT fleet.use_pg_cron(false)'), 'f', "$where: she takes the entry away");
    is(entries($db), '', "$where: it is gone");
    is($s{ben}->sql('SELECT fleet.use_pg_cron()'), 't', "$where: another role may have it now");
    is(entries($db), "pg_fleet $db|ben|$db|*/5 * * * *|SELECT fleet_link.keep_agent()", "$where: his");
    $s{ben}->sql('SELECT fleet.use_pg_cron(false)');
}
like($session{dw}{$super}->say(q{SELECT fleet_link.cron_elsewhere(NULL, 'x', 'x', 'x')}), qr/^ERROR:  22004: /m, 'cron_elsewhere without a database');
like($session{dw}{$super}->say(q{SELECT fleet_link.cron_elsewhere('no such', 'x', 'x', 'x')}), qr/^ERROR:  3D000: /m, 'cron_elsewhere with a database that is not there');
# who may not connect there
$cron->sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
refused('dw', 'ann', q{SELECT fleet.use_pg_cron()}, '08006', 'could not connect to database "postgres" as role ann', 'another database, without CONNECT there: refused');
%session = ();
undef $cron;
$node->stop;
$f->done;
