# pg_cron really fires: a package scheduled each minute runs, from the same database and from
# another one of the cluster; without pg_cron there is an error that says how to get it.
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(witness => 0);
$f->package('p', t => { sql => 'SELECT 1' });
my $error = $f->fails(q{SELECT fleet.schedule_package('p', '* * * * *')}, '\w{5}', 'without pg_cron: an error', help => 1);
like($error, qr/pg_cron/, 'which names what is missing');
is($f->sql('SELECT count(*) FROM fleet.schedule'), '0', 'and nothing is left behind');

my $control = $f->parent->config_data('--sharedir') . '/extension/pg_cron.control';
if (!-e $control)
{
    note 'pg_cron is not installed here: only its absence was tested';
    $f->done;
    exit;
}

my %node;
for my $where (qw(same other))
{
    my $cron_db = $where eq 'same' ? 'dw' : 'postgres';
    my $node = $f->make_node("cron_$where", libraries => 'pg_cron,pg_fleet',
        conf => "cron.database_name = '$cron_db'\ncron.use_background_workers = on\n");
    $node->safe_psql('postgres', 'CREATE DATABASE dw');
    $node->safe_psql($cron_db, 'CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO PUBLIC');
    $node->safe_psql('dw', <<'SQL');
CREATE EXTENSION pg_fleet;
CREATE TABLE fired (at timestamptz DEFAULT now(), who text DEFAULT current_user, p text);
SELECT fleet.create_package('p', params => '{"x": null}');
SELECT fleet.add_task('p', 't', sql => 'INSERT INTO fired (p) VALUES (fleet.param(''x''))');
SELECT fleet.schedule_package('p', '* * * * *', params => '{"x": "o''clock"}');
SQL
    is($node->safe_psql('dw', q{SELECT package || ' ' || cron FROM fleet.schedule}), 'p * * * * *', "$where: in fleet.schedule");
    is($node->safe_psql($cron_db, 'SELECT count(*) FROM cron.job'), '1', "$where: in cron.job");
    $node{$where} = [ $node, $cron_db ];
}
for my $where (qw(same other))
{
    my ($node, $cron_db) = @{ $node{$where} };
    ok($node->poll_query_until('dw', q{SELECT count(*) >= 1 FROM fleet.run WHERE package = 'p' AND state = 'succeeded'}), "$where: it fired and the package ran");
    is($node->safe_psql('dw', q{SELECT DISTINCT p FROM fired}), q{o'clock}, "$where: with its parameters");
    # scheduling again replaces, it does not add
    $node->safe_psql('dw', q{SELECT fleet.schedule_package('p', '5 4 * * *', params => '{"x": "y"}')});
    is($node->safe_psql($cron_db, 'SELECT count(*), min(schedule) FROM cron.job'), '1|5 4 * * *', "$where: scheduled anew: one job");
    $node->safe_psql('dw', q{SELECT fleet.unschedule_package('p')});
    is($node->safe_psql($cron_db, 'SELECT count(*) FROM cron.job'), '0', "$where: unscheduled: gone from cron.job");
    is($node->safe_psql('dw', 'SELECT count(*) FROM fleet.schedule'), '0', "$where: and from fleet.schedule");
    my ($out, $err);
    isnt($node->psql('dw', q{SELECT fleet.schedule_package('p', 'not a schedule', params => '{"x": "y"}')}, stdout => \$out, stderr => \$err), 0, "$where: a bad schedule is an error");
    is($node->safe_psql('dw', 'SELECT count(*) FROM fleet.schedule'), '0', "$where: that leaves nothing behind");
    isnt($node->psql('dw', q{SELECT fleet.schedule_package('nobody', '* * * * *')}, stdout => \$out, stderr => \$err), 0, "$where: an unknown package is an error");
    $node->stop;
}
$f->done;
