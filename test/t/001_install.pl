# Installing and removing: without preload in a server that was never restarted; with preload the
# agent is back by itself; DROP EXTENSION, DROP DATABASE and CREATE DATABASE … TEMPLATE work while
# agents run.
use strict;
use warnings;
use FleetTest;
use PostgreSQL::Test::Utils;
use Test::More;

# An end for what hangs, no measure: each of these commands ends long before the step of ten minutes
# that it meets.
my $limit = "${FleetTest::PATIENCE}s";

# ---- without preload ---------------------------------------------------------------------------

my $f = FleetTest->new(conf => "shared_preload_libraries = ''\n");
my $parent = $f->parent;
my $started = $f->sql('SELECT pg_postmaster_start_time()');
is($f->sql('SHOW shared_preload_libraries'), '', 'nothing is preloaded');
is(scalar($f->workers('parent', '')), 0, 'CREATE EXTENSION alone starts no process');

$f->package('hello', greet => { sql => 'SELECT 42' });
my $run = $f->start('hello');
$f->run_is($run, 'succeeded', 'a package runs in a server that was never restarted');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $run"), '42', 'its value is there');
is($f->sql('SELECT pg_postmaster_start_time()'), $started, 'the server was not restarted');
is(scalar($f->workers('parent', 'agent')), 1, 'one agent');

$f->run_is($f->start('hello'), 'succeeded', 'and again');
is(scalar($f->workers('parent', 'agent')), 1, 'still one agent');

# Sessions that ask while an agent is just starting must not make a second one: it is held where it
# has moved in and nobody knows of it yet.
my $pid = $f->agent_pid;
$f->point('parent', 'agent_moved_in', 'wait');
$f->sql("SELECT pg_terminate_backend($pid)");
$f->point_waits('parent', 'agent_moved_in', 'an agent that is just starting');
my @sessions = map { $parent->background_psql($FleetTest::DB) } 1 .. 4;
$_->query_safe("SELECT fleet.run_parent_package('hello')") for @sessions;
$_->quit for @sessions;
is($f->sql("SELECT count(*) FROM fleet.run WHERE state = 'queued'"), '4', 'four sessions asked meanwhile, and were not kept waiting');
$f->point_release('parent', 'agent_moved_in');
$f->wait_for('parent', "SELECT count(*) FROM fleet.run WHERE state = 'succeeded'", '6', 'all four ran');
is($f->sql('SELECT count(*) FROM fleet.task_run WHERE attempt = 1'), '6', 'once each');
$f->wait_for('parent', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'}, '1', 'one agent, though four asked at once');
isnt($f->agent_pid, $pid, 'and not the one that was ended');
is($f->sql('SELECT running AND pid = ' . $f->agent_pid . ' AND paused_reason IS NULL FROM fleet.agent_status()'), 't', 'fleet.agent_status() tells which');

# ---- DROP and CREATE EXTENSION while the agent runs --------------------------------------------

$f->fails('DROP SCHEMA fleet CASCADE', '2BP01', 'the schema goes with the extension only');
$f->fails('DROP TABLE fleet_catalog.run', '2BP01', 'and so do its tables');
my ($rc, $out, $err) = $f->try_as(undef, "SET statement_timeout = '$limit'; DROP EXTENSION pg_fleet CASCADE; CREATE EXTENSION pg_fleet");
is($rc, 0, 'DROP EXTENSION, CREATE EXTENSION with a running agent') or diag($err);
$f->package('hello', greet => { sql => 'SELECT 43' });
is($f->sql('SELECT count(*) FROM fleet.run'), '0', 'the new one knows nothing of the old one');
$run = $f->start('hello');
$f->run_is($run, 'succeeded', 'the new extension works at once');
is($f->sql("SELECT output FROM fleet.task_run WHERE run_id = $run"), '43', 'with its own definitions');

# … and while a step runs: its runner is ended too
$f->package('long', sleep => { sql => "INSERT INTO etl.effect (key) VALUES ('long'); SELECT etl.witness('start'), pg_sleep(600)" });
$run = $f->start('long');
$f->wait_for('witness', "SELECT count(*) FROM event WHERE what = 'start'", '1', 'a long step runs');
($rc, $out, $err) = $f->try_as(undef, "SET statement_timeout = '$limit'; DROP EXTENSION pg_fleet CASCADE");
is($rc, 0, 'DROP EXTENSION with a running step') or diag($err);
$f->wait_for('parent', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet%'", '0', 'no worker is left');
is($f->effects('parent', 'long'), '0', 'and nothing of the step');
is($f->sql(q{SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'fleet%'}), '0', 'nor of the extension');
is($f->sql(q{SELECT count(*) FROM pg_roles WHERE rolname IN ('fleet_operator', 'fleet_reader')}), '2', 'but its roles, which belong to the cluster');
$f->sql('CREATE EXTENSION pg_fleet');

# a rolled-back DROP EXTENSION leaves a working extension
$f->package('hello', greet => { sql => 'SELECT 44' });
$f->run_is($f->start('hello'), 'succeeded', 'a run, so that there is an agent');
($rc, $out, $err) = $f->try_as(undef, 'BEGIN; DROP EXTENSION pg_fleet CASCADE; ROLLBACK');
is($rc, 0, 'a DROP EXTENSION that is rolled back') or diag($err);
$f->run_is($f->start('hello'), 'succeeded', 'leaves a working extension');

# ---- DROP DATABASE, CREATE DATABASE … TEMPLATE -------------------------------------------------

$f->forget('parent');
($rc, $out, $err) = $f->try_as(undef, "SET statement_timeout = '$limit'; CREATE DATABASE copy TEMPLATE $FleetTest::DB", db => 'postgres');
is($rc, 0, 'CREATE DATABASE from a template with a running agent') or diag($err);
$f->run_is($f->start('hello'), 'succeeded', 'the template goes on working');
$f->run_is($f->start('hello'), 'succeeded', 'more than once');

# The copy is a copy of a parent: it starts nothing until told what it is.
is($parent->safe_psql('copy', "SELECT fleet.run_parent_package('hello') IS NOT NULL"), 't', 'a run can be asked for in the copy');
ok($parent->poll_query_until('copy', q{SELECT paused_reason LIKE 'This database is a copy: %' FROM fleet.agent_status()}), 'the copy is paused, and says why');
# What it could start had its time: a run that the template was asked for later has ended.
$run = $f->start('hello');
$f->run_is($run, 'succeeded', 'the template runs what it is asked for');
is($parent->safe_psql('copy', 'SELECT state FROM fleet.run ORDER BY run_id DESC LIMIT 1'), 'queued', 'and the copy starts nothing');
is($parent->safe_psql('copy', 'SELECT count(*) FROM fleet_catalog.identity i, fleet_catalog.agent a WHERE a.pid <> 0 AND i.paused_reason IS NOT NULL'), '1', 'though its agent is there');
my $uuid = $f->sql('SELECT parent_uuid FROM fleet.agent_status()');
is($parent->safe_psql('copy', 'SELECT parent_uuid FROM fleet.agent_status()'), $uuid, 'it has the identity of the template');
$parent->safe_psql('copy', "SELECT fleet.confirm_identity('new')");
is($parent->safe_psql('copy', 'SELECT state FROM fleet.run ORDER BY run_id DESC LIMIT 1'), 'failed', 'told that it is a new parent, it has ended what was open');
my $own = $parent->safe_psql('copy', "SELECT fleet.run_parent_package('hello')");
is($parent->safe_psql('copy', "SELECT fleet.wait_for_run($own, timeout => '60s')"), 'succeeded', '… and runs what it is asked for now');
isnt($parent->safe_psql('copy', 'SELECT parent_uuid FROM fleet.agent_status()'), $uuid, 'and has an identity of its own');
$f->fails("SELECT fleet.confirm_identity('new')", '55000', 'a parent that is not paused cannot be resumed', db => 'copy', help => 1);

($rc, $out, $err) = $f->try_as(undef, "SET statement_timeout = '$limit'; DROP DATABASE copy", db => 'postgres');
is($rc, 0, 'DROP DATABASE with a running agent') or diag($err);
is($f->sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%' AND datname IS DISTINCT FROM current_database()}), '0', 'whose agent is gone');
$f->forget('parent');
($rc, $out, $err) = $f->try_as(undef, "SET statement_timeout = '$limit'; ALTER DATABASE $FleetTest::DB RENAME TO renamed; ALTER DATABASE renamed RENAME TO $FleetTest::DB", db => 'postgres');
is($rc, 0, 'ALTER DATABASE … RENAME with a running agent') or diag($err);
$f->run_is($f->start('hello'), 'succeeded', 'which works on under the old name');

# ---- preloaded ---------------------------------------------------------------------------------

my $node = $f->make_node('preloaded', preload => 1);
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two without);
for my $db (qw(one two))
{
    $node->safe_psql($db, "CREATE EXTENSION pg_fleet; SELECT fleet.create_package('p'); SELECT fleet.add_task('p', 't', sql => 'SELECT 1')");
}
$node->restart;
my $agents = q{SELECT coalesce(string_agg(datname, ',' ORDER BY datname), '') FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'};
ok($node->poll_query_until('postgres', $agents, 'one,two'), 'after a restart each database with the extension has its agent, and no other');
my $id = $node->safe_psql('one', "SELECT fleet.run_parent_package('p')");
is($node->safe_psql('one', "SELECT fleet.wait_for_run($id, timeout => '60s')"), 'succeeded', 'it works');
$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'pg_fleet agent%'});
ok($node->poll_query_until('postgres', $agents, 'one,two'), 'agents that were terminated are back by themselves');
for my $command ('CREATE DATABASE three TEMPLATE one', 'DROP DATABASE two')
{
    ($rc, $out, $err) = (0, '', '');
    $rc = $node->psql('postgres', "SET statement_timeout = '$limit'; $command", stdout => \$out, stderr => \$err);
    is($rc, 0, "preloaded: $command with a running agent") or diag($err);
}
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = 'without'"), 'nobody is in a database without the extension');
$node->restart;
ok($node->poll_query_until('postgres', $agents, 'one,three'), 'after the next restart the copy has an agent too, and the dropped one has none');
ok($node->poll_query_until('three', q{SELECT paused_reason LIKE 'This database is a copy: %' FROM fleet.agent_status()}), 'which is paused');
is($node->safe_psql('one', q{SELECT paused_reason IS NULL FROM fleet.agent_status()}), 't', 'while the one that it was copied from is not');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, 'no crash');

$f->done;
