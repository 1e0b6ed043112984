# Schedules, restarts and pages under attack, by a role that has no rights: whatever it defines, the agent has time for others, gives
# everybody's runners back, and pages show nothing but what is there.  (test build)
use strict;
use warnings;
use FleetTest;
use Test::More;

my $f = FleetTest->new(agents => 0, delays => 0, witness => 0, conf => 'fleet.max_runners = 2');
$f->sql(q{CREATE ROLE eve LOGIN; CREATE ROLE ann LOGIN; CREATE SCHEMA eve AUTHORIZATION eve});
$f->package('probe', t => { sql => 'SELECT 1' });
sub others_run { my ($when) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; $f->run_is($f->start('probe'), 'succeeded', "what others run is run $when"); return; }
others_run('at first');
my $pid = $f->agent_pid('parent');

# ---- thousands of schedules that are due once in years ---------------------------------------------

$f->sql_as('eve', q{SELECT fleet.create_package('evil'); SELECT fleet.add_task('evil', 't', sql => 'SELECT 1');
    SELECT fleet.create_package('small'); SELECT fleet.add_task('small', 't', sql => 'SELECT 1'); SELECT fleet.schedule_package('small', '0 0 1 1 *', time_zone => 'UTC')});
$f->sql(q{INSERT INTO fleet_catalog.schedule (name, package, cron, time_zone, since) SELECT 'evil ' || i, 'evil', '0 0 29 2 */7', 'Europe/Berlin', now() FROM generate_series(1, 2000) AS i});
$f->point('parent', 'schedule_rests', 'signal');
$f->sql_as('eve', q{SELECT fleet.alter_schedule('small', missed => 'skip')});
$f->point_fired('parent', 'schedule_rests', 'the agent does not look at all of them in one turn');
others_run('meanwhile');
$f->point('parent', 'schedule_reads_later', 'signal');
$f->sql_as('eve', q{DO $$BEGIN FOR i IN 1..50 LOOP PERFORM fleet.alter_schedule('small', missed => 'all'); COMMIT; END LOOP; END$$});
$f->point_fired('parent', 'schedule_reads_later', 'nor read them for each change');
$f->set_clock('parent', '2032-02-29 12:00:00');
$f->wait_for('parent', q{SELECT count(*) > 0 FROM fleet.run WHERE package = 'evil'}, 't', 'and comes to them all the same');
$f->sql(q{DELETE FROM fleet_catalog.schedule WHERE package = 'evil'});
$f->sql(q{INSERT INTO fleet_catalog.schedule (name, package, cron, time_zone, since, enabled) SELECT 'evil ' || i, 'evil', '0 0 1 1 *', 'UTC', now(), false FROM generate_series(1, 10000) AS i});
$f->fails(q{SELECT fleet.schedule_package('small', '0 0 1 1 *', name => 'one more', time_zone => 'UTC')}, '54000', 'a role may have so many schedules', as => 'eve', like => qr/role "eve" has too many schedules/, help => 1);
$f->sql(q{SELECT fleet.schedule_package('probe', '0 0 1 1 *', time_zone => 'UTC'); DELETE FROM fleet_catalog.schedule});

# ---- time zones without a name -----------------------------------------------------------------------

for my $zone ('AAA1', '<+03>-3', 'X5Y,M3.2.0,M11.1.0')
{
    $f->fails("SELECT fleet.schedule_package('small', '0 0 1 1 *', time_zone => '$zone')", '22023', "no schedule in time zone $zone", as => 'eve', like => qr/is not a name/, help => 1);
}
is($f->sql_as('eve', "SELECT fleet.schedule_package('small', '0 0 1 1 *', time_zone => '$_') IS NOT NULL"), 't', "one in $_") for qw(Europe/Berlin EST5EDT etc/gmt-3 UTC);
$f->sql_as('eve', q{SELECT fleet.unschedule('small')});

# ---- pg_cron that is not there ---------------------------------------------------------------------------

$f->fails(q{SET cron.database_name = 'anywhere'; SELECT fleet_link.record_waker('anywhere')}, '55000', 'nobody says that pg_cron, which is not there, sees to it', as => 'eve', like => qr/pg_cron is not installed/, help => 1);
$f->sql(q{INSERT INTO fleet_catalog.waker (owner, cron_database) VALUES ('eve', 'anywhere')});
my (undef, undef, $said) = $f->try_as(undef, q{SELECT fleet.schedule_package('probe', '0 0 1 1 *', name => 'told', time_zone => 'UTC'); SELECT fleet.unschedule('told')});
like($said, qr/HINT: .*After a restart of the server nothing is started/, 'and if somebody did, it is not believed');
$f->fails('SELECT fleet.use_pg_cron()', '42501', 'another role is told whose it is', as => 'ann', like => qr/that of another role/, help => 1);
$f->fails('SELECT fleet.use_pg_cron(false)', '55000', 'but a superuser is not held up by it', like => qr/pg_cron is not installed/, help => 1);

# ---- a query that does not stop ------------------------------------------------------------------------

$f->sql_as('eve', q{CREATE FUNCTION eve.stays() RETURNS jsonb LANGUAGE plpgsql AS $$BEGIN LOOP BEGIN PERFORM pg_sleep(1000); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$;
    SELECT fleet.schedule_package('small', '* * * * *', name => 'stays', time_zone => 'UTC', params_sql => 'eve.stays()')});
$f->point('parent', 'schedule_late', 'signal');
$f->point('parent', 'schedule_stuck', 'signal');
$f->set_clock('parent', '2032-03-01 12:00:00');
$f->wait_for('parent', q{SELECT sqlstate, message FROM fleet.schedule WHERE name = 'stays'}, '57014|params_sql: canceled after 5 minutes, and did not stop', 'a query that goes on when it is canceled is told');
$f->sql_as('eve', q{SELECT fleet.unschedule('stays')});
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE usename = 'eve' AND backend_type = 'pg_fleet runner' AND state = 'active'}, '0', 'and is ended with its runner');
others_run('then');

# ---- a thousand restarts of a run ------------------------------------------------------------------------

$f->sql_as('eve', q{SELECT fleet.create_package('fails'); SELECT fleet.add_task('fails', 't', sql => 'SELECT 1/0')});
my $first = $f->sql_as('eve', q{SELECT fleet.run_parent_package('fails')});
$f->run_is($first, 'failed', 'a run');
sub restarts { my ($n) = @_; $f->sql("INSERT INTO fleet_catalog.run SELECT (jsonb_populate_record(r, jsonb_build_object('run_id', 100000 + i, 'run_uuid', gen_random_uuid(), 'restart_of', CASE i WHEN 1 THEN r.run_id ELSE 99999 + i END))).* FROM fleet_catalog.run AS r, generate_series(1, $n) AS i WHERE r.run_id = $first"); return; }
restarts(99);
my $last = $f->sql_as('eve', 'SELECT fleet.restart_run(100099)');
$f->run_is($last, 'failed', 'which was restarted 99 times, is restarted');
$f->fails("SELECT fleet.restart_run($last)", '54000', 'and then no more', as => 'eve', like => qr/is the 100th restart/, help => 1);
$f->sql("DELETE FROM fleet_catalog.run WHERE run_id >= $last");
restarts(3000);
$f->sql("UPDATE fleet_catalog.run SET finished_at = finished_at - interval '10 years' WHERE run_id = $first OR run_id > 100000 AND run_id <> 101500; SELECT fleet.purge(older_than => '1000 days')");
others_run('while thousands of them are to be purged');
$f->wait_for('parent', 'SELECT count(*) FROM fleet_catalog.purge_request', '0', 'that ends');
is($f->sql(q{SELECT count(*) FROM fleet_catalog.run WHERE package = 'fails'}), '3001', 'with nothing purged, as one of them is kept');
$f->sql("UPDATE fleet_catalog.run SET finished_at = finished_at - interval '10 years' WHERE run_id = 101500; SELECT fleet.purge(older_than => '1000 days')");
$f->wait_for('parent', q{SELECT count(*) FROM fleet_catalog.run WHERE package = 'fails'}, '0', 'and all of them when it is due');

# ---- what pages show -----------------------------------------------------------------------------------

$f->sql_as('ann', <<'SQL');
SELECT fleet.create_package('items');
SELECT fleet.add_task('items', U&'turned \202Eround \2066 \009B31m', sql => $$DO 'BEGIN RAISE EXCEPTION ''%'', chr(8238) || ''no'' || chr(8297) || chr(133); END'$$, for_each => $$SELECT 'xyzzy' AS password, 'eu' AS region$$);
SQL
my $run = $f->sql_as('ann', q{SELECT fleet.run_parent_package('items')});
$f->run_is($run, 'failed', 'items with a secret');
my $page = $f->sql_as('ann', "SELECT fleet.report($run)");
unlike($page, qr/xyzzy/, 'a page hides what parameters of items say is secret');
like($page, qr/\(hidden\)/, 'and says so');
unlike($page, qr/&#82(?:3[4-8]|9[4-7]);/, 'nothing on a page turns text around');
my $texts = $f->sql_as('ann', "SELECT string_agg(l, ';') FROM (SELECT tree FROM fleet.tree($run) UNION ALL SELECT gantt FROM fleet.gantt($run)) AS t (l)");
like($texts, qr/turned  round    31m: failed.*\(P0001\)  no /, 'the texts for a terminal show what it is');
is($f->sql("SELECT count(*) FROM regexp_split_to_table(@{[ FleetTest::quote_literal($texts) ]}, '') AS c WHERE ascii(c) BETWEEN 128 AND 159 OR ascii(c) BETWEEN 8234 AND 8238 OR ascii(c) BETWEEN 8294 AND 8297"), '0', 'with nothing in it that turns text around, or speaks to a terminal');
is($f->agent_pid('parent'), $pid, 'the agent was there all the time');
$f->done;
