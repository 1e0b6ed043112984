# (runs long)
# The bridge to pg_cron, from the same database and from another one of the cluster: a plain user
# schedules, changes and takes away what is his, it fires as him, and nobody else's is touched.
# Without pg_cron there is an error that says how to get it.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

my ($sharedir) = run_command([ 'pg_config', '--sharedir' ]);
plan skip_all => 'pg_cron is not installed: test/setup.sh installs it' if !-e "$sharedir/extension/pg_cron.control";

my $f = FleetTest->new(witness => 0);
$f->package('p', t => { sql => 'SELECT 1' });
my $error = $f->fails(q{SELECT fleet.schedule_package('p', '* * * * *')}, '55000', 'without pg_cron: an error', help => 1);
like($error, qr/cannot schedule a package because pg_cron is not installed/, 'which names what is missing');
is($f->sql('SELECT count(*) FROM fleet.schedule'), '0', 'and nothing is left behind');

my $node = $f->make_node('cron', libraries => 'pg_cron,pg_fleet',
    conf => "cron.database_name = 'postgres'\ncron.use_background_workers = on\nmax_worker_processes = 40\n");
$node->safe_psql('postgres', <<'SQL');
CREATE DATABASE dw;
CREATE EXTENSION pg_cron;
CREATE ROLE ann LOGIN; CREATE ROLE ben LOGIN; CREATE ROLE mel LOGIN IN ROLE ann; CREATE ROLE zoe LOGIN;
GRANT USAGE ON SCHEMA cron TO ann, ben, mel;
GRANT EXECUTE ON FUNCTION cron.schedule_in_database TO ann, ben, mel;
SQL
my $super = $node->safe_psql('postgres', 'SELECT session_user');

# The extension, and what is scheduled by whom: in the database of pg_cron, and in another one.
my %session;
for my $db (qw(postgres dw))
{
    $node->safe_psql($db, <<'SQL');
CREATE EXTENSION pg_fleet;
CREATE SCHEMA ann AUTHORIZATION ann;
CREATE TABLE ann.fired (who text DEFAULT current_user, session text DEFAULT session_user, p text);
ALTER TABLE ann.fired OWNER TO ann;
SQL
    $session{$db}{$_} = FleetTest::Session->new($node, $db, $_) for $super, qw(ann ben mel zoe);
    $session{$db}{ann}->sql(<<'SQL');
SELECT fleet.create_package('it''s "hers"', params => '{"x": null}');
SELECT fleet.add_task('it''s "hers"', 't', sql => 'INSERT INTO ann.fired (p) VALUES (fleet.param(''x''))');
SELECT fleet.create_package('second'); SELECT fleet.add_task('second', 't', sql => 'SELECT 1');
SQL
    $session{$db}{ben}->sql(q{SELECT fleet.create_package('bens'); SELECT fleet.add_task('bens', 't', sql => 'SELECT 1')});
}
my $cron = FleetTest::Session->new($node, 'postgres', $super);
my $hers = q{'it''s "hers"'};

sub jobs { my ($db) = @_; return $cron->sql("SELECT jobname, username, database, schedule, active FROM cron.job WHERE database = '$db' ORDER BY jobname, username"); }
sub notes { my ($db) = @_; return $session{$db}{$super}->sql('SELECT package, owner, cron, params, cron_database FROM fleet.schedule ORDER BY package'); }
sub refused
{
    my ($db, $role, $sql, $sqlstate, $message, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @before = (jobs($db), notes($db));
    my $said = $session{$db}{$role}->say($sql);
    like($said, qr/^ERROR:  $sqlstate: $message$/m, $name);
    is_deeply([ jobs($db), notes($db) ], \@before, "$name: nothing is changed");
    return $said;
}

for my $db (qw(postgres dw))
{
    my $where = $db eq 'postgres' ? 'same database' : 'another database';
    my $name = qq{pg_fleet $db it's "hers"};
    my %s = %{ $session{$db} };
    my $id = $s{ann}->sql("SELECT fleet.schedule_package($hers, '* * * * *', params => '{\"x\": \"o''clock\"}')");
    is(jobs($db), "$name|ann|$db|* * * * *|t", "$where: a plain user schedules: pg_cron has it, as hers, for this database");
    is($cron->sql("SELECT jobid FROM cron.job WHERE database = '$db'"), $id, "$where: the number is pg_cron's");
    is(notes($db), qq{it's "hers"|ann|* * * * *|{"x": "o'clock"}|postgres}, "$where: in fleet.schedule");
    is($s{$super}->sql('SELECT cron_job FROM fleet.schedule'), $id, "$where: with that number");

    is($s{ann}->sql(q{SELECT fleet.schedule_package('second', '6 6 * * *') > 0}), 't', "$where: a second package");

    # others
    refused($db, 'ben', "SELECT fleet.schedule_package($hers, '* * * * *', params => '{\"x\": \"z\"}')", '42501', 'permission denied for package "it\'s "hers""', "$where: another's package: refused");
    refused($db, 'ben', "SELECT fleet.unschedule_package($hers)", '42501', 'package "it\'s "hers"" was scheduled by another role', "$where: another's schedule is not taken away");
    refused($db, 'mel', "SELECT fleet.schedule_package($hers, '* * * * *', params => '{\"x\": \"z\"}')", '42501', 'package "it\'s "hers"" was scheduled by another role', "$where: a member does not replace her schedule");
    refused($db, 'mel', "SELECT fleet.unschedule_package($hers)", '42501', 'package "it\'s "hers"" was scheduled by another role', "$where: nor takes it away, which pg_cron would not do");
    is($s{ben}->sql('SELECT count(*) FROM fleet.schedule'), '0', "$where: nor does he see it");
    is($s{ann}->sql('SELECT count(*) FROM fleet.schedule'), '2', "$where: she does");
    my $said = refused($db, 'zoe', q{SELECT fleet.create_package('zoes'); SELECT fleet.add_task('zoes', 't', sql => 'SELECT 1'); SELECT fleet.schedule_package('zoes', '* * * * *')},
        '42501', 'permission denied for schema cron', "$where: without USAGE on schema cron: refused");
    like($said, qr/^HINT:  Ask a superuser to run.*GRANT USAGE ON SCHEMA cron TO zoe/m, "$where: and it says what to grant");

    # what is wrong
    refused($db, 'ann', q{SELECT fleet.schedule_package('second', 'not a schedule')}, '22023', 'invalid schedule: not a schedule', "$where: a bad schedule");
    refused($db, 'ann', q{SELECT fleet.schedule_package('nobody', '* * * * *')}, '42704', 'package "nobody" does not exist', "$where: an unknown package");
    refused($db, 'ann', q{SELECT fleet.schedule_package('second', NULL)}, '22004', 'argument "cron" must not be null', "$where: no schedule");
    refused($db, 'ann', "SELECT fleet.schedule_package($hers, '* * * * *')", '22023', 'parameter "x" of package "it\'s "hers"" is required', "$where: a parameter that is missing");
    refused($db, 'ann', q{SELECT fleet.unschedule_package('nobody')}, '42704', 'package "nobody" does not exist', "$where: unscheduling an unknown package");
    is($s{ben}->sql(q{SELECT fleet.unschedule_package('bens')}), 'f', "$where: one that has no schedule: false");

    # the function behind it gives nothing: it is its caller over there
    is($s{ben}->sql("SELECT fleet_link.cron_elsewhere('postgres', 'pg_fleet $db second', NULL, NULL)"), '0', "$where: cron_elsewhere with another's job: nothing");
    is($s{ben}->sql("SELECT fleet_link.cron_elsewhere('postgres', 'pg_fleet $db second', '7 7 * * *', 'SELECT 1') > 0"), 't', "$where: a job of his of the same name is his own");
    is(jobs($db), "$name|ann|$db|* * * * *|t\npg_fleet $db second|ann|$db|6 6 * * *|t\npg_fleet $db second|ben|$db|7 7 * * *|t", "$where: hers is as it was");
    $s{ben}->sql("SELECT fleet_link.cron_elsewhere('postgres', 'pg_fleet $db second', NULL, NULL)");

}

# By now a minute has begun, or will.
my %id = map { $_ => $cron->sql("SELECT jobid FROM cron.job WHERE database = '$_' AND jobname LIKE '%hers%'") } keys %session;
for my $db (qw(postgres dw))
{
    my $where = $db eq 'postgres' ? 'same database' : 'another database';
    my $name = qq{pg_fleet $db it's "hers"};
    my %s = %{ $session{$db} };
    my $id = $id{$db};
    ok($node->poll_query_until($db, 'SELECT count(*) >= 1 FROM ann.fired'), "$where: it fires");
    is($s{$super}->sql('SELECT DISTINCT who, session, p FROM ann.fired'), q{ann|ann|o'clock}, "$where: as her, with its parameters");
    is($s{$super}->sql(q{SELECT DISTINCT package, owner, requested_by FROM fleet.run}), q{it's "hers"|ann|ann}, "$where: the runs are hers, at her request");

    # changing it: the same job, not another one
    is($s{ann}->sql("SELECT fleet.schedule_package($hers, '5 4 * * *', params => '{\"x\": \"y\"}')"), $id, "$where: scheduled anew: the same job");
    is(jobs($db), "$name|ann|$db|5 4 * * *|t\npg_fleet $db second|ann|$db|6 6 * * *|t", "$where: at the new time, and one");
    like($cron->sql("SELECT command FROM cron.job WHERE jobid = $id"), qr/params => '\{"x": "y"\}'\)$/, "$where: with the new parameters");
    is(notes($db), qq{it's "hers"|ann|5 4 * * *|{"x": "y"}|postgres\nsecond|ann|6 6 * * *|{}|postgres}, "$where: in fleet.schedule, too");
    # away with it
    is($s{ann}->sql("SELECT fleet.unschedule_package($hers)"), 't', "$where: unscheduled by her");
    is(jobs($db), "pg_fleet $db second|ann|$db|6 6 * * *|t", "$where: gone from pg_cron, and only that");
    is(notes($db), 'second|ann|6 6 * * *|{}|postgres', "$where: and from fleet.schedule");
    is($s{ann}->sql("SELECT fleet.unschedule_package($hers)"), 'f', "$where: a second time: false");
    is($s{$super}->sql(q{SELECT fleet.unschedule_package('second')}), 't', "$where: unscheduled by a superuser");
    is(jobs($db), '', "$where: gone from pg_cron, although it was hers");
}
like($session{dw}{$super}->say(q{SELECT fleet_link.cron_elsewhere(NULL, 'x', 'x', 'x')}), qr/^ERROR:  22004: /m, 'cron_elsewhere without a database');
like($session{dw}{$super}->say(q{SELECT fleet_link.cron_elsewhere('no such', 'x', 'x', 'x')}), qr/^ERROR:  3D000: /m, 'cron_elsewhere with a database that is not there');
# who may not connect there
$cron->sql('REVOKE CONNECT ON DATABASE postgres FROM PUBLIC');
refused('dw', 'ann', q{SELECT fleet.schedule_package('second', '* * * * *')}, '08006', 'could not connect to database "postgres" as role ann', 'another database, without CONNECT there: refused');
%session = ();
undef $cron;
$node->stop;
$f->done;
